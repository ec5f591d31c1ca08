/* dot_kernels.c - differences, choices, and sums over blocks. */
#include <string.h>

#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

void LORS_KERNEL(subtract)(float *out, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = a[i] - b[i];
    }
}

void LORS_KERNEL(choose)(float *out, const float *a, const float *b, const uint8_t *mask, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = mask[i] ? a[i] : b[i];
    }
}

/* sums[j] += x * y_j for slices from, from + 1 and from + 2, where there are so many. */
static inline void add_products(lors_lanes8 sums[3], const lors_lanes8 *x, const float *y,
                                int64_t stride, int32_t n, int64_t n_values)
{
    for (int32_t j = 0; j < n; j++) {
        lors_lanes8 other;
        if (n_values == 8) {
            lors_lanes8_widen(&other, y + j * stride);
        } else {
            lors_lanes8_widen_rest(&other, y + j * stride, n_values);
        }
        lors_lanes8_add(&sums[j], x, &other);
    }
}

/* Dots of one slice with n others; eight lanes a sum, folded in a fixed order. */
static inline void dots_of(double *dots, const float *a, const float *b, int64_t stride, int32_t n,
                           int64_t n_values)
{
    lors_lanes8 sums[3] = {{{0}, {0}}}, x;
    int64_t i = 0;
    for (; i + 8 <= n_values; i += 8) {
        lors_lanes8_widen(&x, a + i);
        add_products(sums, &x, b + i, stride, n, 8);
    }
    if (i < n_values) {
        lors_lanes8_widen_rest(&x, a + i, n_values - i);
        add_products(sums, &x, b + i, stride, n, n_values - i);
    }
    for (int32_t j = 0; j < n; j++) {
        dots[j] = lors_lanes8_fold(&sums[j]);
    }
}

void LORS_KERNEL(gram_block)(double *dots, const float *x, int64_t stride, int32_t n_slices,
                             int64_t n)
{
    for (int32_t i = 0; i < n_slices; i++) {
        for (int32_t j = i; j < n_slices; j += 3, dots += 3) {
            const float *a = x + i * stride, *b = x + j * stride;
            switch (n_slices - j) { /* counts that the compiler knows */
            case 1: dots_of(dots, a, b, stride, 1, n); break;
            case 2: dots_of(dots, a, b, stride, 2, n); break;
            default: dots_of(dots, a, b, stride, 3, n);
            }
        }
        int32_t left = (n_slices - i) % 3;
        dots -= left > 0 ? 3 - left : 0;
    }
}

/* What `measure` adds up of eight elements. */
typedef struct magnitudes {
    lors_lanes8 all, kept, squares, count;
} magnitudes;

typedef int32_t lors_flags4 __attribute__((vector_size(16)));
typedef uint8_t lors_bytes4 __attribute__((vector_size(4)));

static inline void add_magnitudes4(lors_lanes4 *all, lors_lanes4 *kept, lors_lanes4 *squares,
                                   lors_lanes4 *count, const float *x, const uint8_t *mask)
{
    lors_narrow4 values, sizes, of_kept;
    lors_lanes4 wide, wide_kept;
    lors_bytes4 bytes = {1, 1, 1, 1};
    memcpy(&values, x, sizeof values);
    if (mask) {
        memcpy(&bytes, mask, sizeof bytes);
    }
    sizes = (lors_narrow4)((lors_flags4)values & 0x7fffffff);
    lors_flags4 is_kept = __builtin_convertvector(bytes, lors_flags4) != 0;
    of_kept = (lors_narrow4)((lors_flags4)sizes & is_kept);
    lors_widen4(&wide, &sizes);
    lors_widen4(&wide_kept, &of_kept);
    *all += wide;
    *kept += wide_kept;
    *squares += wide_kept * wide_kept;
    *count -= __builtin_convertvector(sizes != 0, lors_lanes4);
}

static inline void add_magnitudes(magnitudes *m, const float *x, const uint8_t *mask)
{
    add_magnitudes4(&m->all.low, &m->kept.low, &m->squares.low, &m->count.low, x, mask);
    add_magnitudes4(&m->all.high, &m->kept.high, &m->squares.high, &m->count.high, x + 4,
                    mask ? mask + 4 : NULL);
}

/* Element i is in lane i % 8, as in the dots. */
void LORS_KERNEL(measure_block)(double sums[4], const float *x, const uint8_t *mask, int64_t n)
{
    magnitudes m = {{{0}, {0}}, {{0}, {0}}, {{0}, {0}}, {{0}, {0}}};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        add_magnitudes(&m, x + i, mask ? mask + i : NULL);
    }
    if (i < n) {
        float rest[8] = {0};
        uint8_t kept[8] = {0};
        memcpy(rest, x + i, (size_t)(n - i) * sizeof *x);
        if (mask) {
            memcpy(kept, mask + i, (size_t)(n - i));
        }
        add_magnitudes(&m, rest, mask ? kept : NULL);
    }
    sums[0] = lors_lanes8_fold(&m.all);
    sums[1] = lors_lanes8_fold(&m.kept);
    sums[2] = lors_lanes8_fold(&m.squares);
    sums[3] = lors_lanes8_fold(&m.count);
}

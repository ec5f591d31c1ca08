/* store_kernels.c - results rounded once to their stored type, and what that cost. */
#include <math.h>
#include <string.h>

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

enum { SPAN = 1024 }; /* elements of a block worked on at a time, in first-level cache */

static const double zeros[SPAN];

/* Exact results of a span: base + acc, but base itself where acc is 0. */
static void exact_of(double *restrict exact, const double *restrict acc, const float *restrict base,
                     int64_t n)
{
    if (!base) {
        memcpy(exact, acc, (size_t)n * sizeof *exact);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double b = base[i], sum = b + acc[i];
        exact[i] = acc[i] == 0 ? b : sum;
    }
}

/* Where all models hold the same bits, the result is what they hold. */
static void agree(double *restrict exact, const lors_cpu_store *models, int64_t first, int64_t n)
{
    uint32_t differing[SPAN];
    const float *x = models->stack + first;
    memset(differing, 0, (size_t)n * sizeof *differing);
    for (int32_t m = 1; m < models->n_models; m++) {
        const float *y = x + m * models->stride;
        for (int64_t i = 0; i < n; i++) {
            differing[i] |= lors_bits_of(x[i]) ^ lors_bits_of(y[i]);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        exact[i] = differing[i] ? exact[i] : (double)x[i];
    }
}

static void round_span(void *restrict out, double *restrict rounded, lors_dtype dtype,
                       const double *restrict exact, int64_t n)
{
    if (dtype == LORS_F32) {
        float *values = out;
        for (int64_t i = 0; i < n; i++) {
            float narrow = (float)exact[i];
            rounded[i] = narrow;
            uint32_t bits = lors_f32_bits_canonical(narrow);
            memcpy(&values[i], &bits, sizeof bits);
        }
    } else if (dtype == LORS_F16) {
        uint16_t *values = out;
        for (int64_t i = 0; i < n; i++) {
            rounded[i] = lors_round_f16(exact[i]);
            values[i] = lors_f16_bits(rounded[i]);
        }
    } else {
        uint16_t *values = out;
        for (int64_t i = 0; i < n; i++) {
            rounded[i] = lors_round_bf16(exact[i]);
            values[i] = lors_bf16_bits(rounded[i]);
        }
    }
}

/* Sums of squares of x - y in 8 lanes, folded in a fixed order: the same bits for any vector
 * width. */
static double sum_of_squares(const double *x, const double *y, int64_t n)
{
    lors_lanes8 sum = {0}, a, b;
    double rest[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        lors_lanes8_load(&a, x + i);
        lors_lanes8_load(&b, y + i);
        lors_lanes8_subtract(&a, &b);
        lors_lanes8_add(&sum, &a, &a);
    }
    for (int lane = 0; i < n; i++, lane++) {
        rest[lane] = x[i] - y[i];
    }
    lors_lanes8_load(&a, rest);
    lors_lanes8_add(&sum, &a, &a);
    return lors_lanes8_fold(&sum);
}

/* The rare span with a result that is not finite, or not after rounding: count them, and make them
 * zero, so that the sums leave them out. */
static void count_bad(lors_store_block *block, int64_t first, double *acc, double *exact,
                      double *rounded, int64_t n, double largest)
{
    for (int64_t i = 0; i < n; i++) {
        if (fabs(rounded[i]) <= largest) {
            continue;
        }
        if (block->n_nan + block->n_infinite + block->n_overflow == 0) {
            block->first_bad = (uint32_t)(first + i);
        }
        block->n_nan += isnan(exact[i]) != 0;
        block->n_infinite += isinf(exact[i]) != 0;
        block->n_overflow += isfinite(exact[i]) != 0;
        acc[i] = exact[i] = rounded[i] = 0;
    }
}

/* One span; its part is added to the block. `first` is its place in the block. */
static void store_span(void *out, lors_dtype dtype, const lors_cpu_store *from, int64_t first,
                       int64_t n, bool zero_nonfinite, lors_store_block *block)
{
    double exact[SPAN], rounded[SPAN];
    exact[0] = rounded[0] = 0; /* for compilers that cannot see that n > 0 */
    double largest = dtype == LORS_F16 ? 65504.0 : dtype == LORS_F32 ? 0x1.fffffep127 : 0x1.fep127;
    const double *acc = from->acc + first;
    const float *base = from->base ? from->base + first : NULL;
    exact_of(exact, acc, base, n);
    if (from->stack) {
        agree(exact, from, first, n);
    }
    round_span(out, rounded, dtype, exact, n);
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        bad += !(fabs(rounded[i]) <= largest);
    }
    if (bad == 0) {
        block->update += base ? sum_of_squares(acc, zeros, n) : 0;
        block->loss += sum_of_squares(rounded, exact, n);
        return;
    }
    double update[SPAN];
    memcpy(update, acc, (size_t)n * sizeof *update);
    count_bad(block, first, update, exact, rounded, n, largest);
    block->update += base ? sum_of_squares(update, zeros, n) : 0;
    block->loss += sum_of_squares(rounded, exact, n);
    if (zero_nonfinite) {
        round_span(out, rounded, dtype, exact, n); /* the bad ones are zero by now */
    }
}

void LORS_KERNEL(store_block)(void *out, lors_dtype dtype, const lors_cpu_store *from, int64_t n,
                              bool zero_nonfinite, lors_store_block *block)
{
    unsigned char *bytes = out;
    int64_t element_bytes = dtype == LORS_F32 ? 4 : 2;
    *block = (lors_store_block){0};
    for (int64_t first = 0; first < n; first += SPAN) {
        int64_t count = n - first < SPAN ? n - first : SPAN;
        store_span(bytes + first * element_bytes, dtype, from, first, count, zero_nonfinite, block);
    }
}

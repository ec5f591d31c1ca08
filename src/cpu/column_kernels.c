/* column_kernels.c - `combine`: several elements side by side, one model after another; and
 * `count_active`. */
#include <math.h>
#include <string.h>

#include "cpu/sums.h"

#define LORS_REAL lors_wide
#define LORS_TEST lors_flags
#define LORS_REAL_ZERO ((lors_wide){0})

static inline lors_wide lors_real_load(const float *x)
{
    lors_slim slim;
    lors_wide wide;
    memcpy(&slim, x, sizeof slim);
    lors_widen(&wide, &slim);
    return wide;
}

static inline lors_wide lors_real_choose(lors_flags test, lors_wide a, lors_wide b)
{
    lors_wide chosen;
    lors_wide_choose(&chosen, test, a, b);
    return chosen;
}

static inline lors_wide lors_real_magnitude(lors_wide x)
{
    lors_wide size;
    lors_wide_magnitude(&size, &x);
    return size;
}

static inline lors_wide lors_real_root(lors_wide x)
{
#ifdef __AVX__
    return (lors_wide)_mm256_sqrt_pd((__m256d)x);
#else
    for (int lane = 0; lane < LORS_WIDE; lane++) {
        x[lane] = sqrt(x[lane]);
    }
    return x;
#endif
}

#include "backend/columns.h"

/* Elements i .. i + LORS_WIDE - 1 of arrays that hold so many. */
static inline __attribute__((always_inline)) void combine_group(void *out, lors_column_kind kind,
                                                                const lors_columns *columns,
                                                                const lors_column *from,
                                                                const float *base, int64_t i)
{
    lors_column c = *from;
    c.stack += i;
    c.base = base ? lors_real_load(base + i) : (lors_wide){0};
    lors_wide value = lors_column_value(kind, &c, columns->limits);
    if (kind == LORS_COLUMN_DEVIATION) {
        lors_slim narrow = __builtin_convertvector(value, lors_slim);
        memcpy((float *)out + i, &narrow, sizeof narrow);
    } else {
        value *= columns->scale;
        memcpy((double *)out + i, &value, sizeof value);
    }
}

/* The last elements, fewer than a group, with zeros behind them. */
static void combine_rest(void *out, const lors_columns *columns, const lors_column *from,
                         const float *base, int64_t first, int64_t n)
{
    float stack[LORS_MAX_MODELS][LORS_WIDE], base_rest[LORS_WIDE] = {0};
    int64_t slices[LORS_MAX_MODELS];
    size_t element = columns->kind == LORS_COLUMN_DEVIATION ? sizeof(float) : sizeof(double);
    lors_wide results;
    lors_column c = *from;
    for (int32_t k = 0; k < c.n_models; k++) {
        memset(stack[k], 0, sizeof stack[k]);
        memcpy(stack[k], from->stack + from->slices[k] + first, (size_t)n * sizeof(float));
        slices[k] = LORS_WIDE * k;
    }
    if (base) {
        memcpy(base_rest, base + first, (size_t)n * sizeof(float));
    }
    c.stack = stack[0];
    c.slices = slices;
    combine_group(&results, columns->kind, columns, &c, base ? base_rest : NULL, 0);
    memcpy((unsigned char *)out + (size_t)first * element, &results, (size_t)n * element);
}

static inline __attribute__((always_inline)) void combine(void *out, lors_column_kind kind,
                                                          const lors_columns *columns,
                                                          const lors_column *c, const float *base,
                                                          int64_t n)
{
    for (int64_t i = 0; i < n; i += LORS_WIDE) {
        combine_group(out, kind, columns, c, base, i);
    }
}

/* A loop for each kind. */
static void combine_all(void *out, const lors_columns *columns, const lors_column *c,
                        const float *base, int64_t n)
{
    switch (columns->kind) {
    case LORS_COLUMN_DEVIATION:
        combine(out, LORS_COLUMN_DEVIATION, columns, c, base, n);
        break;
    case LORS_COLUMN_CLAMP:
        combine(out, LORS_COLUMN_CLAMP, columns, c, base, n);
        break;
    case LORS_COLUMN_ACTIVE:
        combine(out, LORS_COLUMN_ACTIVE, columns, c, base, n);
        break;
    case LORS_COLUMN_SHARED:
        combine(out, LORS_COLUMN_SHARED, columns, c, base, n);
        break;
    case LORS_COLUMN_LARGEST:
        combine(out, LORS_COLUMN_LARGEST, columns, c, base, n);
        break;
    case LORS_COLUMN_CONSENSUS:
        combine(out, LORS_COLUMN_CONSENSUS, columns, c, base, n);
        break;
    case LORS_COLUMN_ELECTED:
        combine(out, LORS_COLUMN_ELECTED, columns, c, base, n);
        break;
    }
}

void LORS_KERNEL(combine)(double *out, const lors_columns *columns, int64_t n)
{
    int64_t slices[LORS_MAX_MODELS], rest = n % LORS_WIDE;
    double weights[LORS_MAX_MODELS];
    const float *base = lors_cpu_at(columns->base);
    lors_column c = {.stack = lors_cpu_at(columns->stack), .slices = slices, .weights = weights};
    bool all = columns->kind == LORS_COLUMN_DEVIATION;
    for (int32_t k = 0; k < columns->n_models; k++) {
        if (all || columns->weights[k] != 0) {
            slices[c.n_models] = k * columns->stride;
            weights[c.n_models++] = all ? 1 : columns->weights[k];
        }
    }
    combine_all(out, columns, &c, base, n - rest);
    if (rest > 0) {
        combine_rest(out, columns, &c, base, n - rest, rest);
    }
}

static bool is_active(const float *x, const float *base, int64_t i, double limit)
{
    return !(fabs((double)x[i] - (base ? (double)base[i] : 0)) <= limit);
}

void LORS_KERNEL(count_active_block)(double *counts, const float *stack, const float *base,
                                     const lors_columns *columns, int64_t n)
{
    uint16_t n_active[LORS_BLOCK] = {0};
    double limit = columns->limits[0];
    for (int32_t k = 0; k < columns->n_models; k++) {
        const float *x = stack + k * columns->stride;
        for (int64_t i = 0; i < n; i++) {
            n_active[i] = (uint16_t)(n_active[i] + is_active(x, base, i, limit));
        }
    }
    for (int32_t k = 0; k < columns->n_models; k++) {
        const float *x = stack + k * columns->stride;
        int32_t all = 0, alone = 0;
        for (int64_t i = 0; i < n; i++) {
            bool active = is_active(x, base, i, limit);
            all += active;
            alone += active & (n_active[i] == 1);
        }
        counts[2 * k] = all;
        counts[2 * k + 1] = alone;
    }
}

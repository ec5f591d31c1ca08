/* test_combine.c - combine: what the models of one element give together, by each formula; and
 * count_active. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "synth.h"

enum { MAX_MODELS = 20, N_KINDS = 7 };

/* A lors_columns over host arrays. */
typedef struct columns {
    lors_column_kind kind;
    const float *stack, *base;
    int64_t n, stride;
    int32_t n_models;
    const double *weights;
    double limits[2], scale;
} columns;

/* The differences of one element, of the models that count, and their weighted terms. */
typedef struct column {
    long double d[MAX_MODELS], term[MAX_MODELS], sum, size;
    int n;
} column;

static column column_of(const columns *c, int64_t i)
{
    column out = {.n = 0};
    for (int32_t k = 0; k < c->n_models; k++) {
        if (c->weights[k] != 0 || c->kind == LORS_COLUMN_DEVIATION) {
            out.d[out.n] = (long double)c->stack[k * c->stride + i] - (c->base ? c->base[i] : 0.0f);
            out.term[out.n] = c->weights[k] * out.d[out.n];
            out.sum += out.term[out.n];
            out.size += fabsl(out.term[out.n]);
            out.n++;
        }
    }
    return out;
}

static long double deviation_of(const column *c)
{
    long double mean = 0, squares = 0;
    for (int k = 0; k < c->n; k++) {
        mean += c->d[k] / c->n;
    }
    for (int k = 0; k < c->n; k++) {
        squares += (c->d[k] - mean) * (c->d[k] - mean) / c->n;
    }
    return sqrtl(squares);
}

static long double clamped(const column *c, long double limit)
{
    long double sum = 0;
    for (int k = 0; k < c->n; k++) {
        long double share = c->d[k] != 0 ? c->term[k] / c->d[k] : 0;
        sum += share * fminl(fmaxl(c->d[k], -limit), limit);
    }
    return sum;
}

static long double mean_of_active(const column *c, long double limit)
{
    long double sum = 0;
    int n = 0;
    for (int k = 0; k < c->n; k++) {
        sum += fabsl(c->d[k]) > limit ? c->term[k] : 0;
        n += fabsl(c->d[k]) > limit;
    }
    return n > 0 ? sum / n : 0;
}

static long double shared_of_active(const column *c, long double limit)
{
    long double sum = 0, alone = 0;
    int n = 0;
    for (int k = 0; k < c->n; k++) {
        bool active = fabsl(c->d[k]) > limit;
        sum += active ? c->d[k] : 0;
        alone = active ? c->term[k] : alone;
        n += active;
    }
    return n > 1 ? sum / n : alone;
}

/* Of all (sign 0), or of the terms of one sign. */
static long double largest_of(const column *c, int sign)
{
    long double up = 0, down = 0;
    for (int k = 0; k < c->n; k++) {
        up = fmaxl(up, c->term[k]);
        down = fminl(down, c->term[k]);
    }
    return sign > 0 ? up : sign < 0 ? down : up >= -down ? up : down;
}

static long double agreed(const column *c, long double share, long double n_least)
{
    int n = 0;
    for (int k = 0; k < c->n; k++) {
        n += c->term[k] != 0 && fabsl(c->term[k]) >= share * fabsl(c->sum - c->term[k]);
    }
    return n >= n_least ? c->sum : 0;
}

static long double wanted_of(const columns *c, int64_t i)
{
    column at = column_of(c, i);
    switch (c->kind) {
    case LORS_COLUMN_DEVIATION: return deviation_of(&at);
    case LORS_COLUMN_CLAMP: return c->scale * clamped(&at, c->limits[0]);
    case LORS_COLUMN_ACTIVE: return c->scale * mean_of_active(&at, c->limits[0]);
    case LORS_COLUMN_SHARED: return c->scale * shared_of_active(&at, c->limits[0]);
    case LORS_COLUMN_LARGEST: return c->scale * largest_of(&at, 0);
    case LORS_COLUMN_CONSENSUS: return c->scale * agreed(&at, c->limits[0], c->limits[1]);
    case LORS_COLUMN_ELECTED:
        return c->scale * (at.sum == 0 ? 0 : largest_of(&at, at.sum > 0 ? 1 : -1));
    }
    return NAN;
}

static lors_view combined(ops_bench *bench, const columns *c)
{
    int64_t all = c->n_models > 0 ? (c->n_models - 1) * c->stride + c->n : 0;
    double weights[MAX_MODELS];
    memcpy(weights, c->weights, sizeof weights);
    lors_columns given = {.kind = c->kind,
                          .stack = ops_copy_of(bench, c->stack, all, 4),
                          .base = c->base ? ops_copy_of(bench, c->base, c->n, 4) : LORS_NO_VIEW,
                          .stride = c->stride,
                          .n_models = c->n_models,
                          .weights = weights,
                          .limits = {c->limits[0], c->limits[1]},
                          .scale = c->scale};
    lors_view out = ops_buffer_of(bench, c->n, c->kind == LORS_COLUMN_DEVIATION ? 4 : 8);
    assert_ok(bench->ops->combine(bench->queue, out, &given, c->n));
    memset(weights, 0xff, sizeof weights); /* taken over before the call returned */
    memset(&given, 0xff, sizeof given);
    return out;
}

static void check_columns(ops_bench *bench, const columns *c)
{
    bool narrow = c->kind == LORS_COLUMN_DEVIATION;
    const void *got = ops_host(bench, combined(bench, c));
    for (int64_t i = 0; i < c->n; i++) {
        double value = narrow ? ((const float *)got)[i] : ((const double *)got)[i];
        long double wanted = wanted_of(c, i), size = column_of(c, i).size * fabs(c->scale);
        long double slack = narrow ? 0x1p-23L * wanted : 0x1p-50L * size;
        expect(fabsl(value - wanted) <= slack, "kind %d element %lld: %a, not %La", (int)c->kind,
               (long long)i, value, wanted);
    }
    ops_record(bench, got, (size_t)c->n * (narrow ? 4 : 8));
    ops_clear(bench);
}

/* Small multiples of a power of two: sums of a few are exact, and comparisons that the formulas
 * make are the same in any precision; many are equal, opposite, or equal to the base. */
static void fill_coarse(float *x, int64_t n, double unit, uint64_t seed)
{
    synth_stream stream = {seed, 0};
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)((double)(synth_below(&stream, 9) - 4) * unit);
    }
}

static const double weights[MAX_MODELS] = {1,  -0.5, 2, 0.25, 1, 1, 0, 0.5, -1, 1,
                                           -2, 1,    1, 0.5,  1, 0, 1, 4,   1,  -0.25};

static void each_formula(ops_bench *bench)
{
    static const int64_t sizes[] = {0, 1, 7, 8, 33, 511, 8193};
    static const int32_t counts[] = {1, 2, 3, 5, MAX_MODELS};
    static const double units[] = {0.25, 0x1p-126, 0x1p100};
    for (int i = 0; i < N_KINDS * 7 * 5; i++) {
        int64_t n = sizes[i / N_KINDS % 7], stride = n + i % 3;
        double unit = i % N_KINDS == LORS_COLUMN_DEVIATION ? 0.25 : units[i % 5 % 3];
        float *stack = malloc((size_t)(MAX_MODELS * stride + 1) * sizeof *stack);
        float *base = malloc((size_t)n * sizeof *base + 1);
        fill_coarse(stack, MAX_MODELS * stride, unit, (uint64_t)i + 1);
        fill_coarse(base, n, unit, (uint64_t)i + 1000);
        columns c = {.kind = (lors_column_kind)(i % N_KINDS),
                     .stack = stack,
                     .base = i % 4 ? base : NULL,
                     .n = n,
                     .stride = stride,
                     .n_models = counts[i / N_KINDS % 5],
                     .weights = weights,
                     .limits = {i % N_KINDS == LORS_COLUMN_CONSENSUS ? 0.5 : 2 * unit, 2},
                     .scale = i % 5 ? 1 : -0.75};
        check_columns(bench, &c);
        free(stack);
        free(base);
    }
}

/* One column of hand-made models without a base: the result of one formula. */
static double column_result(ops_bench *bench, lors_column_kind kind, const float *x, int32_t n,
                            double limit)
{
    static const double ones[MAX_MODELS] = {1, 1, 1};
    columns c = {.kind = kind,
                 .stack = x,
                 .n = 1,
                 .stride = 1,
                 .n_models = n,
                 .weights = ones,
                 .limits = {limit, 2},
                 .scale = 1};
    const void *got = ops_host(bench, combined(bench, &c));
    double value = kind == LORS_COLUMN_DEVIATION ? *(const float *)got : *(const double *)got;
    ops_clear(bench);
    return value;
}

static void worked_by_hand(ops_bench *bench)
{
    static const float x[] = {1, -3, 5}, tie[] = {-2, 2, 1}, none[] = {-2, 2}, odd[] = {4, -2, -3};
    /* mean 1, squares 0 + 16 + 16 over 3, the root of that */
    assert_true(column_result(bench, LORS_COLUMN_DEVIATION, x, 3, 0) ==
                (double)(float)sqrt(32.0 / 3));
    assert_true(column_result(bench, LORS_COLUMN_CLAMP, x, 3, 2) == 1);  /* 1 - 2 + 2 */
    assert_true(column_result(bench, LORS_COLUMN_ACTIVE, x, 3, 1) == 1); /* (-3 + 5) / 2 */
    assert_true(column_result(bench, LORS_COLUMN_ACTIVE, x, 3, 5) == 0);
    assert_true(column_result(bench, LORS_COLUMN_SHARED, x, 3, 1) == 1);
    assert_true(column_result(bench, LORS_COLUMN_SHARED, x, 3, 3) == 5);
    assert_true(column_result(bench, LORS_COLUMN_LARGEST, x, 3, 0) == 5);
    assert_true(column_result(bench, LORS_COLUMN_LARGEST, tie, 3, 0) == 2);
    /* others: 2, 6, -2: 1 < 2, 3 < 6, 5 >= 2 at share 1; 3 >= 0.5 * 6 at share 0.5 */
    assert_true(column_result(bench, LORS_COLUMN_CONSENSUS, x, 3, 1) == 0);
    assert_true(column_result(bench, LORS_COLUMN_CONSENSUS, x, 3, 0.5) == 3);
    assert_true(column_result(bench, LORS_COLUMN_ELECTED, odd, 3, 0) == -3);
    assert_true(column_result(bench, LORS_COLUMN_ELECTED, none, 2, 0) == 0);
}

/* A NaN is never lost: it reaches the result of each formula that it takes part in. */
static void nan_is_not_lost(ops_bench *bench)
{
    static const float first[] = {NAN, 1, 2}, last[] = {1, 2, NAN};
    for (int kind = 0; kind < N_KINDS; kind++) {
        expect(isnan(column_result(bench, (lors_column_kind)kind, first, 3, 0.5)), "kind %d", kind);
        expect(isnan(column_result(bench, (lors_column_kind)kind, last, 3, 0.5)), "kind %d", kind);
    }
}

/* Of model k of block `block`: active elements, and those where no other model is. */
static void expect_counts(const double *got, const columns *c, int64_t block, int32_t k)
{
    int64_t first = block * LORS_BLOCK, all = 0, alone = 0;
    for (int64_t i = first; i < c->n && i < first + LORS_BLOCK; i++) {
        int n = 0;
        bool own = false;
        for (int32_t j = 0; j < c->n_models; j++) {
            double d = (double)c->stack[j * c->stride + i] - (c->base ? (double)c->base[i] : 0);
            bool active = isnan(d) || fabs(d) > c->limits[0];
            n += active;
            own = j == k ? active : own;
        }
        all += own;
        alone += own && n == 1;
    }
    got += 2 * (block * c->n_models + k);
    expect(got[0] == (double)all && got[1] == (double)alone, "block %lld, model %d: %g and %g",
           (long long)block, k, got[0], got[1]);
}

static void active_ones_are_counted(ops_bench *bench)
{
    static const int64_t sizes[] = {0, 1, 511, 8192, 20000};
    static const int32_t models[] = {1, 2, 5};
    for (int i = 0; i < 15; i++) {
        int64_t n = sizes[i % 5], stride = n + 3, n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
        columns c = {.n = n, .stride = stride, .n_models = models[i / 5], .limits = {2, 0}};
        float *stack = malloc((size_t)(5 * stride) * sizeof *stack);
        float *base = malloc((size_t)n * sizeof *base + 1);
        fill_coarse(stack, 5 * stride, 0.5, (uint64_t)i + 1);
        fill_coarse(base, n, 0.5, (uint64_t)i + 50);
        if (n > 0) {
            stack[n / 2] = NAN;
        }
        c.stack = stack;
        c.base = i % 2 ? base : NULL;
        lors_columns given = {
            .stack = ops_copy_of(bench, stack, (c.n_models - 1) * stride + n, 4),
            .base = c.base ? ops_copy_of(bench, base, n, 4) : LORS_NO_VIEW,
            .stride = stride,
            .n_models = c.n_models,
            .limits = {2, 0}};
        lors_view counts = ops_buffer_of(bench, n_blocks * c.n_models * 2, 8);
        assert_ok(bench->ops->count_active(bench->queue, counts, &given, n));
        const double *got = ops_host(bench, counts);
        for (int64_t at = 0; at < n_blocks * c.n_models; at++) {
            expect_counts(got, &c, at / c.n_models, (int32_t)(at % c.n_models));
        }
        free(stack);
        free(base);
        ops_clear(bench);
    }
}

int main(void)
{
    static const ops_case cases[] = {
        {"combine: each formula", each_formula},
        {"combine: worked by hand", worked_by_hand},
        {"combine: NaN is not lost", nan_is_not_lost},
        {"count_active", active_ones_are_counted},
    };
    return ops_run("combine", cases, sizeof cases / sizeof *cases);
}

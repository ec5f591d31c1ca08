/* test_contest.c - score and balance against long double. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "synth.h"

enum { MAX_MODELS = 12 };

/* A lors_contest over host arrays. */
typedef struct contest {
    const float *stack, *base; /* base: NULL where absent */
    int64_t n, stride;
    int32_t n_models;
    double weights[MAX_MODELS], scale;
    float bounds[2 * MAX_MODELS], levels[2 * MAX_MODELS]; /* [2][n_models] */
} contest;

static bool competes(const contest *c, int32_t k)
{
    return c->weights[k] != 0 && c->bounds[c->n_models + k] > 0;
}

static long double change(const contest *c, int32_t k, int64_t i)
{
    return (long double)c->stack[k * c->stride + i] - (c->base ? c->base[i] : 0.0f);
}

static long double limited(const contest *c, int32_t k, int64_t i)
{
    return fminl(fmaxl(fabsl(change(c, k, i)), c->bounds[k]), c->bounds[c->n_models + k]);
}

/* Before it is rounded. */
static long double score_of(const contest *c, int32_t k, int64_t i)
{
    long double total = 0, n = 0, low = c->bounds[k], high = c->bounds[c->n_models + k];
    for (int32_t j = 0; j < c->n_models; j++) {
        total += c->weights[j] != 0 ? change(c, j, i) : 0;
        n += competes(c, j);
    }
    long double s = high > low ? (limited(c, k, i) - low) / (high - low) : 0;
    return fmaxl(0, expl(n * (s * s - 1)) * tanhl(change(c, k, i) * total));
}

/* Of the scores as they were found. */
static long double result_of(const contest *c, const float *scores, int64_t i)
{
    long double sum = 0, shares = 0;
    for (int32_t k = 0; k < c->n_models; k++) {
        long double x = scores[k * c->stride + i], d = change(c, k, i);
        long double least = c->levels[k], most = c->levels[c->n_models + k];
        long double share = !competes(c, k) || x == 0 ? 0
                            : x >= most               ? 1
                            : x <= least              ? 0
                                                      : (x - least) / (most - least);
        sum += share * c->weights[k] * limited(c, k, i) * ((d > 0) - (d < 0));
        shares += share;
    }
    return shares > 0 ? c->scale * sum / shares : 0;
}

/* With scores, as `score` gives them. */
static lors_contest given_of(ops_bench *bench, const contest *c)
{
    int64_t all = (c->n_models - 1) * c->stride + c->n;
    lors_contest given = {
        .stack = ops_copy_of(bench, c->stack, all, 4),
        .base = c->base ? ops_copy_of(bench, c->base, c->n, 4) : LORS_NO_VIEW,
        .stride = c->stride,
        .n_models = c->n_models,
        .weights = c->weights,
        .bounds = ops_copy_of(bench, c->bounds, 2 * c->n_models, 4),
        .scale = c->scale};
    lors_view scores = ops_buffer_of(bench, all, 4);
    assert_ok(bench->ops->score(bench->queue, scores, &given, c->n));
    given.scores = scores;
    given.levels = ops_copy_of(bench, c->levels, 2 * c->n_models, 4);
    return given;
}

static void check_contest(ops_bench *bench, const contest *c)
{
    lors_contest given = given_of(bench, c);
    lors_view acc = ops_buffer_of(bench, c->n, 8);
    assert_ok(bench->ops->balance(bench->queue, acc, &given, c->n));
    const float *found = ops_host(bench, given.scores);
    for (int32_t k = 0; k < c->n_models; k++) {
        for (int64_t i = 0; i < c->n; i++) {
            float got = found[k * c->stride + i];
            long double wanted = competes(c, k) ? score_of(c, k, i) : 0;
            expect(fabsl(got - wanted) <= 0x1.01p-24L * wanted + 0x1p-149L,
                   "model %d element %lld: %a, not %La", k, (long long)i, got, wanted);
        }
        ops_record(bench, found + k * c->stride, (size_t)c->n * 4);
    }
    const double *got = ops_host(bench, acc);
    for (int64_t i = 0; i < c->n; i++) {
        long double wanted = result_of(c, found, i), size = 0;
        for (int32_t k = 0; k < c->n_models; k++) {
            size += fabsl(limited(c, k, i) * c->weights[k] * c->scale);
        }
        expect(fabsl(got[i] - wanted) <= 0x1p-48L * size, "element %lld: %a, not %La",
               (long long)i, got[i], wanted);
    }
    ops_record(bench, got, (size_t)c->n * 8);
    ops_clear(bench);
}

static void models_compete(ops_bench *bench)
{
    static const int64_t sizes[] = {1, 7, 255, 256, 257, 3001};
    static const int32_t counts[] = {1, 2, 3, MAX_MODELS};
    static const double changes[] = {1e-2, 1, 1e-6, 30};
    for (int i = 0; i < 24; i += bench->emulated ? 5 : 1) {
        int64_t n = sizes[i % 6], stride = n + i % 3;
        double change_by = changes[i / 6];
        contest c = {.n = n, .stride = stride, .n_models = counts[i % 4], .scale = 1.25};
        float *stack = malloc((size_t)(MAX_MODELS * stride) * sizeof *stack);
        float *base = malloc((size_t)n * sizeof *base);
        synth_values(base, n, change_by, (uint64_t)i + 1);
        synth_values(stack, MAX_MODELS * stride, change_by, (uint64_t)i + 100);
        c.stack = stack;
        c.base = i % 3 ? base : NULL;
        for (int32_t k = 0; k < c.n_models; k++) {
            stack[k * stride] = c.base ? base[0] : 0; /* nobody has changed */
            c.weights[k] = k == 4 ? 0 : k % 2 ? 1 : -0.5 * k + 1.5;
            c.bounds[k] = (float)(0.1 * change_by);
            c.bounds[c.n_models + k] = k == 5 ? 0 : (float)(k == 6 ? 0.1 * change_by : change_by);
            c.levels[c.n_models + k] = k == 8 ? 0 : (float)fmin(0.5, change_by * change_by);
            c.levels[k] = k == 7 ? c.levels[c.n_models + k] : c.levels[c.n_models + k] / 8;
        }
        check_contest(bench, &c);
        free(stack);
        free(base);
    }
}

/* Of 2^60, 1 and -2^60 in any order 1 is left. */
static void sums_lose_nothing(ops_bench *bench)
{
    static const float stack[] = {0x1p60f,  0x1p60f, 1,       1, 1,       -0x1p60f,
                                  -0x1p60f, -0x1p60f, 0x1p60f};
    contest c = {.stack = stack, .n = 3, .stride = 3, .n_models = 3, .weights = {1, 1, 1},
                 .scale = 1, .bounds = {0, 0, 0, 4, 4, 4}, .levels = {0, 0, 0, 1, 0.5f, 1}};
    check_contest(bench, &c);
}

/* What is no number, or infinite, is not lost, and stays where it is. */
static void what_is_no_number_shows(ops_bench *bench)
{
    static const float stack[] = {NAN, 1, INFINITY, 2, -INFINITY, 3,
                                  1,   1, 1,        1, INFINITY,  NAN};
    contest c = {.stack = stack, .n = 6, .stride = 6, .n_models = 2, .weights = {1, 1},
                 .scale = 1, .bounds = {0, 0, 4, 4}, .levels = {0, 0, 1, 1}};
    lors_contest given = given_of(bench, &c);
    lors_view acc = ops_buffer_of(bench, 6, 8);
    assert_ok(bench->ops->balance(bench->queue, acc, &given, 6));
    const double *got = ops_host(bench, acc);
    assert_true(isnan(got[0]) && got[2] == INFINITY && isnan(got[4]) && isnan(got[5]));
    assert_true(got[1] == 1 && got[3] > 1 && got[3] < 2);
    ops_clear(bench);
}

int main(void)
{
    static const ops_case cases[] = {
        {"score, balance: models compete", models_compete},
        {"score, balance: sums lose nothing", sums_lose_nothing},
        {"balance: what is no number shows", what_is_no_number_shows},
    };
    return ops_run("contest", cases, sizeof cases / sizeof *cases);
}

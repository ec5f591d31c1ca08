/* test_pcb.c - models compete for each element. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 31, COLS = 17, N = ROWS * COLS, MODELS = 4 };

static merge pcb(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    return merge_of(&lors_method_pcb, n_rows, n_cols, n_models);
}

static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[9] = {0};
    static const float first[] = {3, -3, 0, 0, 1, 0, 0, 0, 0};
    static const float second[] = {0, 0, 5, 0, -1, 0, 0, 0, 0};
    /* Density 1 / 9: the best, of which there are two in the first model, have a share of 1. Where
     * both changed, by 1 and -1, they cancel: tanh 0 is 0. */
    static const float wanted[] = {6, -6, 10, 0, 0, 0, 0, 0, 0};
    merge m = pcb(3, 3, 2);
    m.base = base;
    m.models[0] = first;
    m.models[1] = second;
    merge_set(&m, "density", 1.0 / 9 + 1e-9);
    merge_set(&m, "lambda", 2);
    merge_run(&m, LORS_F32);
    expect_values(&m, wanted);
    merge_set(&m, "density", 1); /* the level is 0, and nothing else has a score */
    merge_run(&m, LORS_F32);
    expect_values(&m, wanted);
    merge_free(&m);
    /* clip 1/4 of nine: the two largest become the third, the scores of 9, -7 and 5 alike in s, but
     * not in tanh; with one model the average is that model's c. */
    static const float one[] = {9, -7, 5, 4, 3, 2, 1, 0.5f, 0};
    static const float limited[] = {5, -5, 5, 4, 3, 2, 1, 1, 0};
    m = pcb(3, 3, 1);
    m.base = base;
    m.models[0] = one;
    merge_set(&m, "density", 1);
    merge_set(&m, "lambda", 1);
    merge_set(&m, "clip", 0.25);
    merge_run(&m, LORS_F32);
    expect_values(&m, limited);
    merge_free(&m);
}

/* Of six elements half are clipped from either end: all but the two in the middle. */
static void clipped_to_the_middle(void **state)
{
    (void)state;
    static const float base[6] = {0}, one[] = {6, -5, 4, 3, 2, 0}, wanted[] = {4, -4, 4, 3, 3, 0};
    merge m = pcb(2, 3, 1);
    m.base = base;
    m.models[0] = one;
    merge_set(&m, "density", 1);
    merge_set(&m, "lambda", 1);
    merge_set(&m, "clip", 0.5);
    merge_run(&m, LORS_F32);
    expect_values(&m, wanted);
    merge_free(&m);
}

/* So small a density that 1 - density is 1: the best element. */
static void the_least_density(void **state)
{
    (void)state;
    static const float base[6] = {0}, one[] = {6, -5, 4, 3, 2, 0}, best[] = {6, 0, 0, 0, 0, 0};
    merge m = pcb(2, 3, 1);
    m.base = base;
    m.models[0] = one;
    merge_set(&m, "density", 1e-17);
    merge_set(&m, "lambda", 1);
    merge_run(&m, LORS_F32);
    expect_values(&m, best);
    merge_free(&m);
}

/* --- the formula ------------------------------------------------------------------------------ */

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double of_index(const double *x, int64_t index)
{
    double sorted[N];
    memcpy(sorted, x, sizeof sorted);
    qsort(sorted, N, sizeof *sorted, ascending);
    return sorted[index];
}

typedef struct plainly {
    double d[MODELS][N], total[N], size[MODELS][N], share[MODELS][N];
} plainly;

static void take_shares(plainly *p, int k, double density, int64_t clipped)
{
    static double score[N], magnitude[N];
    for (int64_t i = 0; i < N; i++) {
        magnitude[i] = fabs((double)(float)p->d[k][i]);
    }
    double low = of_index(magnitude, clipped), high = of_index(magnitude, N - 1 - clipped);
    for (int64_t i = 0; i < N; i++) {
        p->size[k][i] = fmin(fmax(fabs(p->d[k][i]), low), high);
        double s = (p->size[k][i] - low) / (high - low);
        score[i] = fmax(0, exp(MODELS * (s * s - 1)) * tanh(p->d[k][i] * p->total[i]));
    }
    double least = of_index(score, (int64_t)floor(N * (1 - density)));
    double most = of_index(score, N - 1);
    for (int64_t i = 0; i < N; i++) {
        p->share[k][i] = fmax(0, (score[i] - least) / (most - least));
    }
}

static void four_follow_the_formula(void **state)
{
    (void)state;
    static plainly p;
    static const double densities[] = {0.1, 0.3, 0.05, 0.2}, weights[] = {1, 0.5, 1.5, -1};
    for (uint64_t seed = 1; seed < 5; seed++) {
        merge m = pcb(ROWS, COLS, MODELS);
        give_models(&m, LORS_F32, seed);
        merge_set(&m, "clip", seed % 2 ? 0.01 : 0);
        merge_set(&m, "lambda", 0.9);
        for (int64_t i = 0; i < N; i++) {
            p.total[i] = 0;
            for (int k = 0; k < MODELS; k++) {
                p.d[k][i] = (double)m.models[k][i] - (double)m.base[i];
                p.total[i] += p.d[k][i];
            }
        }
        for (int k = 0; k < MODELS; k++) {
            merge_set_model(&m, "density", k, densities[k]);
            merge_set_model(&m, "weight", k, weights[k]);
            take_shares(&p, k, densities[k], seed % 2 ? (int64_t)(0.01 * N) : 0);
        }
        merge_run(&m, LORS_F32);
        for (int64_t i = 0; i < N; i++) {
            double sum = 0, shares = 0, size = 0;
            for (int k = 0; k < MODELS; k++) {
                sum += weights[k] * p.share[k][i] * copysign(p.size[k][i], p.d[k][i]);
                shares += p.share[k][i];
                size += p.size[k][i];
            }
            double wanted = shares > 0 ? 0.9 * sum / shares : 0;
            bool barely = shares > 0 && shares < 1e-4; /* shares are of scores in f32 */
            assert_true(barely || fabs(m.acc[i] - wanted) <= 2e-3 * size);
            assert_true(shares > 0 || fabs(m.acc[i]) <= size);
        }
        forget_models(&m);
    }
}

/* --- edges ------------------------------------------------------------------------------------ */

static void properties(void **state)
{
    (void)state;
    property_permuted(pcb);
    property_tiles(pcb);
    static const char *const names[] = {"lambda", "weight", "density"};
    for (int i = 0; i < 3; i++) {
        merge m = pcb(5, 9, 3);
        merge_set(&m, names[i], 0);
        property_base(&m, (uint64_t)i + 3);
    }
}

/* A model that equals the base, or has the weight or the density 0, leaves no trace. */
static void frozen_models_leave_no_trace(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        merge m = pcb(ROWS, COLS, 3), fewer = pcb(ROWS, COLS, 2);
        give_models(&m, LORS_F32, (uint64_t)i + 9);
        const float *spare = m.models[2];
        if (i == 0) {
            m.models[2] = m.base;
        } else {
            merge_set_model(&m, i == 1 ? "weight" : "density", 2, 0);
        }
        fewer.base = m.base;
        fewer.models[0] = m.models[0];
        fewer.models[1] = m.models[1];
        expect_same_bytes(&m, &fewer, LORS_F32);
        m.models[2] = spare;
        merge_free(&fewer);
        forget_models(&m);
    }
}

/* No model has changed; a tensor of one element moves by lambda times the average. */
static void small_and_unchanged_tensors(void **state)
{
    (void)state;
    static const float base[] = {1}, models[] = {3, 5}, moved[] = {1 + 1.2f * 3};
    merge m = pcb(ROWS, COLS, 2);
    give_models(&m, LORS_F32, 30);
    const float *spare[] = {m.models[0], m.models[1]};
    m.models[0] = m.models[1] = m.base;
    merge_run(&m, LORS_F32);
    expect_values(&m, m.base);
    m.models[0] = spare[0];
    m.models[1] = spare[1];
    forget_models(&m);
    m = pcb(1, 1, 2);
    m.base = base;
    m.models[0] = models;
    m.models[1] = models + 1;
    merge_run(&m, LORS_F32);
    assert_true(fabsf(m.values[0] - moved[0]) < 1e-6f);
    merge_free(&m);
}

/* Twenty models, of changes whose products are far below what f32 can hold the square of. */
static void many_models_do_not_overflow(void **state)
{
    (void)state;
    merge m = pcb(3, 40, MERGE_MAX_MODELS);
    give_models(&m, LORS_F32, 50);
    merge_run(&m, LORS_F32);
    int n_moved = 0;
    for (int i = 0; i < 120; i++) {
        assert_true(isfinite(m.acc[i]));
        n_moved += m.acc[i] != 0;
    }
    assert_true(n_moved > 60);
    forget_models(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(clipped_to_the_middle),
        cmocka_unit_test(the_least_density),
        cmocka_unit_test(four_follow_the_formula),
        cmocka_unit_test(properties),
        cmocka_unit_test(frozen_models_leave_no_trace),
        cmocka_unit_test(small_and_unchanged_tensors),
        cmocka_unit_test(many_models_do_not_overflow),
    };
    return merge_tests("pcb", tests);
}

/* test_ties.c - trim, elect a sign, merge what agrees. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static merge ties(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    return merge_of(&lors_method_ties, n_rows, n_cols, n_models);
}

static merge sparse(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    merge m = ties(n_rows, n_cols, n_models);
    merge_set(&m, "density", 0.4);
    merge_set_model(&m, "density", n_models - 1, 0.7);
    merge_set(&m, "lambda", 0.8);
    return m;
}

/* Base 0. density 5/9: the five largest magnitudes stay, ties by lowest index. Weights 1 and 2.
 *   d1 =  9 -8  7    kept  9 -8  7     d2 = -1  5 -5    kept  0  5 -5
 *         6  1 -1          6  0  0          -5  5  5         -5  5  5   (the five first 5s)
 *         5  1  0          5  0  0           5  1  0          0  0  0
 * sum of weighted:   9   2 -3   sign  + + -   agree  9    5  -5     normalized: 9/1 10/2 -10/2
 *                   -4  10 10         - + +         -5    5   5     -10/2 10/2 10/2
 *                    5   0  0         + + +          5    0   0     5/1 0 0
 * not normalized: weight * term: 9 10 -10  -10 10 10  5 0 0 */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[9] = {0};
    static const float d1[] = {9, -8, 7, 6, 1, -1, 5, 1, 0};
    static const float d2[] = {-1, 5, -5, -5, 5, 5, 5, 1, 0};
    static const float averaged[] = {9, 5, -5, -5, 5, 5, 5, 0, 0};
    static const float summed[] = {9, 10, -10, -10, 10, 10, 5, 0, 0};
    merge m = ties(3, 3, 2);
    m.base = base;
    m.models[0] = d1;
    m.models[1] = d2;
    merge_set(&m, "density", 5.0 / 9);
    merge_set_model(&m, "weight", 1, 2);
    for (int d = 0; d < 3; d++) {
        merge_set(&m, "normalize", 1);
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, averaged);
        assert_int_equal(m.results[0].n_kept, 5);
        merge_set(&m, "normalize", 0);
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, summed);
    }
    merge_free(&m);
}

static void order_does_not_matter(void **state)
{
    (void)state;
    property_permuted(ties);
    property_permuted(sparse);
}

static void properties(void **state)
{
    (void)state;
    property_equal_models(ties);
    property_one_weight(ties);
    property_scaled(sparse);
    property_tiles(ties);
    property_tiles(sparse);
}

static void nothing_asked_is_the_base(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 9; seed++) {
        merge m = sparse(5, 9, 3);
        merge_set(&m, "lambda", 0);
        property_base(&m, seed);
        m = sparse(5, 9, 3);
        merge_set(&m, "weight", 0);
        property_base(&m, seed);
        m = ties(5, 9, 2); /* density 0: nothing is kept */
        merge_set(&m, "density", 0);
        give_models(&m, LORS_F32, seed);
        ((float *)(uintptr_t)m.base)[7] = -0.0f;
        merge_run(&m, LORS_F32);
        expect_values(&m, m.base);
        forget_models(&m);
    }
}

/* One model, everything kept, not normalized: task arithmetic, to the last byte. */
static void one_dense_model_is_task_arithmetic(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 10; seed++) {
        merge a = ties(20, 31, 1), b = merge_of(&lors_method_task_arithmetic, 20, 31, 1);
        give_models(&a, merge_dtypes[seed % 3], seed);
        b.base = a.base;
        b.models[0] = a.models[0];
        merge_set(&a, "normalize", 0);
        merge_set(&a, "weight", 0.3);
        merge_set(&b, "weight", 0.3);
        merge_set(&a, "lambda", 0.7);
        merge_set(&b, "lambda", 0.7);
        expect_same_bytes(&a, &b, merge_dtypes[seed % 3]);
        merge_free(&b);
        forget_models(&a);
    }
}

/* +a and -a: the sum is zero, plus is elected, and the minus is left out. */
static void a_sum_of_zero_elects_plus(void **state)
{
    (void)state;
    static const float base[] = {1, 1, 1}, up[] = {1.5f, 0.5f, 1}, down[] = {0.5f, 1.5f, 1};
    static const float wanted[] = {1.5f, 1.5f, 1};
    merge m = ties(1, 3, 2);
    m.base = base;
    m.models[0] = up;
    m.models[1] = down;
    merge_run(&m, LORS_F32);
    expect_values(&m, wanted);
    merge_free(&m);
}

/* A negative weight turns the vote of its model: weights 1 and -1, terms d1 and -d2. */
static void negative_weights_vote_the_other_way(void **state)
{
    (void)state;
    static const float base[] = {0, 0, 0}, first[] = {1, 4, -1}, second[] = {-2, 1, -4};
    /* terms: 1 2 | 4 -1 | -1 4; sums 3 3 3, plus; agree: 1 2 | 4 | 4; not normalized */
    static const float summed[] = {3, 4, 4};
    /* weights of those: 1 - 1 = 0, counts as 1 | 1 | -1 */
    static const float divided[] = {3, 4, -4};
    merge m = ties(1, 3, 2);
    m.base = base;
    m.models[0] = first;
    m.models[1] = second;
    merge_set_model(&m, "weight", 1, -1);
    merge_set(&m, "normalize", 0);
    merge_run(&m, LORS_F32);
    expect_values(&m, summed);
    merge_set(&m, "normalize", 1);
    merge_run(&m, LORS_F32);
    expect_values(&m, divided);
    merge_free(&m);
}

/* Weights 0.3, -0.1, -0.2 of models that agree sum to -2.8e-17, which stands for the 0 that counts
 * as 1; dividing by it gives 2e16. */
static void decimal_weights_that_cancel_do_not_explode(void **state)
{
    (void)state;
    static const float base[] = {1}, up[] = {2}, down[] = {0};
    static const double wanted[] = {1.6};
    merge m = ties(1, 1, 3);
    m.base = base;
    m.models[0] = up;
    m.models[1] = m.models[2] = down;
    merge_set_model(&m, "weight", 0, 0.3);
    merge_set_model(&m, "weight", 1, -0.1);
    merge_set_model(&m, "weight", 2, -0.2);
    merge_run(&m, LORS_F32);
    expect_near(&m, wanted, 1e-6);
    merge_free(&m);
}

/* Weights 0.1, 0.2, 0.3 against 0.6: a tie of votes for whoever wrote the recipe, and in f64 0 or
 * 1.1e-16 as the order has it. The result must not turn with the order of the models. */
static void a_tie_of_votes_does_not_depend_on_the_order(void **state)
{
    (void)state;
    static const double weights[] = {0.1, 0.2, 0.3, 0.6};
    static const int orders[][4] = {{0, 1, 2, 3}, {2, 1, 0, 3}, {3, 0, 1, 2}, {3, 2, 1, 0}};
    static const float base[] = {1}, down[] = {0.5f}, up[] = {1.5f};
    float first = 0;
    for (int order = 0; order < 4; order++) {
        merge m = ties(1, 1, 4);
        m.base = base;
        for (int k = 0; k < 4; k++) {
            m.models[k] = orders[order][k] == 3 ? up : down;
            merge_set_model(&m, "weight", k, weights[orders[order][k]]);
        }
        merge_run(&m, LORS_BF16);
        first = order == 0 ? m.values[0] : first;
        expect_values(&m, &first);
        merge_free(&m);
    }
}

/* All magnitudes equal: the first floor(density n) are kept, across tiles in any order. */
static void ties_at_the_threshold_go_to_the_lowest_index(void **state)
{
    (void)state;
    enum { N = 20000, KEPT = 9000 };
    float *base = calloc(N, sizeof *base), *model = malloc(N * sizeof *model);
    float *wanted = malloc(N * sizeof *wanted);
    for (int64_t i = 0; i < N; i++) {
        model[i] = i % 2 ? 0.25f : -0.25f;
        wanted[i] = i < KEPT ? model[i] : 0;
    }
    for (int backwards = 0; backwards < 2; backwards++) {
        merge m = ties(1, N, 1);
        m.base = base;
        m.models[0] = model;
        m.tile = LORS_BLOCK;
        m.backwards = backwards;
        merge_set(&m, "density", 0.45);
        merge_run(&m, LORS_F32);
        expect_values(&m, wanted);
        merge_free(&m);
    }
    free(base);
    free(model);
    free(wanted);
}

/* One element: floor(density) of it is kept. None is the base, and no crash. */
static void a_single_element_is_kept_whole_or_not(void **state)
{
    (void)state;
    static const float base[] = {1}, model[] = {3};
    static const double densities[] = {0, 0.2, 0.999, 1};
    for (int i = 0; i < 4; i++) {
        merge m = ties(1, 1, 1);
        m.base = base;
        m.models[0] = model;
        merge_set(&m, "density", densities[i]);
        merge_run(&m, LORS_F16);
        expect_values(&m, densities[i] == 1 ? model : base);
        assert_int_equal(m.results[0].n_kept, densities[i] == 1);
        merge_free(&m);
    }
}

/* A frozen model votes for nothing, and its weight divides nothing. */
static void a_frozen_model_leaves_no_trace(void **state)
{
    (void)state;
    merge m = ties(9, 11, 2), alone = ties(9, 11, 1);
    give_models(&m, LORS_F32, 3);
    const float *changed = m.models[0], *spare = m.models[1];
    m.models[1] = m.base;
    alone.base = m.base;
    alone.models[0] = changed;
    for (int i = 0; i < 2; i++) {
        merge_set(&m, "density", i ? 0.3 : 1);
        merge_set(&alone, "density", i ? 0.3 : 1);
        expect_same_bytes(&m, &alone, LORS_F32);
    }
    m.models[0] = m.base;
    merge_run(&m, LORS_F32);
    expect_values(&m, m.base);
    m.models[0] = changed;
    m.models[1] = spare;
    merge_free(&alone);
    forget_models(&m);
}

typedef struct magnitude {
    float value;
    int64_t index;
} magnitude;

static int by_magnitude(const void *left, const void *right)
{
    const magnitude *a = left, *b = right;
    if (fabsf(a->value) != fabsf(b->value)) {
        return fabsf(a->value) > fabsf(b->value) ? -1 : 1;
    }
    return a->index < b->index ? -1 : 1;
}

/* trimmed [n]: the task vector, f32, where it is among the n_kept largest, else 0. */
static void trim(const merge *m, int32_t k, int64_t n_kept, double *trimmed)
{
    int64_t n = m->n_rows * m->n_cols;
    magnitude *order = malloc((size_t)n * sizeof *order);
    for (int64_t i = 0; i < n; i++) {
        order[i] = (magnitude){m->models[k][i] - m->base[i], i};
        trimmed[i] = 0;
    }
    qsort(order, (size_t)n, sizeof *order, by_magnitude);
    for (int64_t i = 0; i < n_kept; i++) {
        int64_t at = order[i].index;
        trimmed[at] = (double)m->models[k][at] - (double)m->base[at];
    }
    free(order);
}

/* As many models as nobody would write by hand, against the formula written plainly. */
static void twenty_models_follow_the_formula(void **state)
{
    (void)state;
    enum { ROWS = 31, COLS = 17, N = ROWS * COLS, MODELS = 20 };
    static double trimmed[MODELS][N];
    merge m = ties(ROWS, COLS, MODELS);
    give_models(&m, LORS_F32, 11);
    merge_set(&m, "lambda", 0.8);
    for (int32_t k = 0; k < MODELS; k++) {
        double density = 0.05 * (k + 1), count = floor(density * N);
        merge_set_model(&m, "weight", k, k % 6 == 5 ? -0.3 : 0.1 * (k % 4 + 1));
        merge_set_model(&m, "density", k, density);
        trim(&m, k, (int64_t)count, trimmed[k]);
    }
    merge_run(&m, LORS_F32);
    int32_t weight = lors_method_param(&m.def->info, "weight");
    for (int64_t i = 0; i < N; i++) {
        double vote = 0, sum = 0, weights = 0;
        for (int32_t k = 0; k < MODELS; k++) {
            vote += m.cells[weight * MODELS + k].number * trimmed[k][i];
        }
        for (int32_t k = 0; k < MODELS; k++) {
            double w = m.cells[weight * MODELS + k].number, term = w * trimmed[k][i];
            bool agrees = vote >= 0 ? term > 0 : term < 0;
            sum += agrees ? term : 0;
            weights += agrees ? w : 0;
        }
        double wanted = 0.8 * (fabs(weights) > 1e-9 ? sum / weights : sum); /* 0 counts as 1 */
        assert_true(fabs(m.acc[i] - wanted) <= 1e-9 * fabs(wanted) + 1e-15);
    }
    forget_models(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(properties),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(nothing_asked_is_the_base),
        cmocka_unit_test(one_dense_model_is_task_arithmetic),
        cmocka_unit_test(a_sum_of_zero_elects_plus),
        cmocka_unit_test(negative_weights_vote_the_other_way),
        cmocka_unit_test(decimal_weights_that_cancel_do_not_explode),
        cmocka_unit_test(a_tie_of_votes_does_not_depend_on_the_order),
        cmocka_unit_test(ties_at_the_threshold_go_to_the_lowest_index),
        cmocka_unit_test(a_single_element_is_kept_whole_or_not),
        cmocka_unit_test(a_frozen_model_leaves_no_trace),
        cmocka_unit_test(twenty_models_follow_the_formula),
    };
    return merge_tests("ties", tests);
}

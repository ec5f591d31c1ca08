/* test_lors.c - low-rank plus sparse part of each task vector. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "synth.h"

static merge lors(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    merge m = merge_of(&lors_method_lors, n_rows, n_cols, n_models);
    merge_set(&m, "rank", 2);
    return m;
}

/* d = diag(4, 2, 1), base 10 everywhere, lambda 0.5, weight 2, so W = W0 + L + S.
 *   rank 1: L = diag(4, 0, 0), rest = diag(0, 2, 1); density 1/9: the 2 is kept: diag(4, 2, 0)
 *   rank 0: the largest entry alone: diag(4, 0, 0)
 *   density 0: L alone: diag(4, 0, 0); rank 2: diag(4, 2, 0) */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[] = {10, 10, 10, 10, 10, 10, 10, 10, 10};
    static const float model[] = {14, 10, 10, 10, 12, 10, 10, 10, 11};
    static const struct {
        double rank, density;
        float diagonal[3];
    } rows[] = {
        {1, 1.0 / 9, {14, 12, 10}}, {0, 1.0 / 9, {14, 10, 10}}, {1, 0, {14, 10, 10}},
        {2, 0, {14, 12, 10}},       {0, 0, {10, 10, 10}},       {3, 0, {14, 12, 11}},
        {0, 1, {14, 12, 11}},       {2, 1.0 / 9, {14, 12, 11}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double wanted[9] = {10, 10, 10, 10, 10, 10, 10, 10, 10};
        merge m = merge_of(&lors_method_lors, 3, 3, 1);
        m.base = base;
        m.models[0] = model;
        merge_set(&m, "lambda", 0.5);
        merge_set(&m, "weight", 2);
        merge_set(&m, "rank", rows[i].rank);
        merge_set(&m, "density", rows[i].density);
        for (int d = 0; d < 3; d++) {
            merge_run(&m, merge_dtypes[d]);
            wanted[4 * d] = (double)rows[i].diagonal[d];
        }
        expect_near(&m, wanted, 1e-6);
        merge_free(&m);
    }
}

/* The exact answer where L is known without an SVD: d = u v' + sparse noise is not; so here d has
 * exact rank 3, and rank 3 with density 0 gives the model back. */
static void an_exact_rank_comes_back(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{30, 20}, {20, 30}, {200, 7}, {7, 200}, {3, 3}};
    for (size_t s = 0; s < 5; s++) {
        int64_t rows = shapes[s][0], cols = shapes[s][1], n = rows * cols;
        float *base = calloc((size_t)n, sizeof *base), *model = malloc((size_t)n * sizeof *model);
        double *wanted = malloc((size_t)n * sizeof *wanted);
        synth_matrix(model, rows, cols, SYNTH_EXACT_RANK, s + 1);
        for (int64_t i = 0; i < n; i++) {
            wanted[i] = (double)model[i];
        }
        merge m = merge_of(&lors_method_lors, rows, cols, 1);
        m.base = base;
        m.models[0] = model;
        merge_set(&m, "rank", 3);
        merge_set(&m, "density", 0);
        merge_run(&m, LORS_F32);
        expect_near(&m, wanted, 1e-4);
        merge_free(&m);
        free(base);
        free(model);
        free(wanted);
    }
}

static merge dense(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    merge m = lors(n_rows, n_cols, n_models);
    merge_set(&m, "density", 1);
    merge_set(&m, "lambda", 1);
    return m;
}

static merge magnitudes(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    merge m = lors(n_rows, n_cols, n_models);
    merge_set(&m, "rank", 0);
    return m;
}

static void order_does_not_matter(void **state)
{
    (void)state;
    property_permuted(dense);
    property_permuted(magnitudes);
}

static void properties(void **state)
{
    (void)state;
    property_equal_models(dense);
    property_one_weight(dense);
    property_scaled(dense);
    property_scaled(magnitudes);
    property_tiles(lors);
    property_tiles(magnitudes);
}

static void nothing_asked_is_the_base(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 5; seed++) {
        merge m = lors(5, 9, 3);
        merge_set(&m, "lambda", 0);
        property_base(&m, seed);
        m = lors(5, 9, 3);
        merge_set(&m, "weight", 0);
        property_base(&m, seed);
        m = lors(5, 9, 2); /* neither rank nor density: nothing is added */
        merge_set(&m, "rank", 0);
        merge_set(&m, "density", 0);
        give_models(&m, LORS_F32, seed);
        ((float *)(uintptr_t)m.base)[7] = -0.0f;
        merge_run(&m, LORS_F32);
        expect_values(&m, m.base);
        forget_models(&m);
    }
}

/* Compare with task arithmetic on the same inputs, to the last byte. */
static void compare_with_task_arithmetic(merge *a, lors_dtype dtype)
{
    merge b = merge_of(&lors_method_task_arithmetic, a->n_rows, a->n_cols, a->n_models);
    b.base = a->base;
    int32_t weight = lors_method_param(&a->def->info, "weight");
    for (int32_t k = 0; k < a->n_models; k++) {
        b.models[k] = a->models[k];
        merge_set_model(&b, "weight", k, a->cells[weight * a->n_models + k].number);
    }
    int32_t lambda = lors_method_param(&a->def->info, "lambda");
    merge_set(&b, "lambda", a->cells[lambda * a->n_models].number);
    expect_same_bytes(a, &b, dtype);
    merge_free(&b);
}

static void everything_kept_is_task_arithmetic(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {9, 9}, {40, 11}, {11, 40}, {1, 30}, {130, 70}};
    for (uint64_t i = 0; i < 18; i++) {
        merge m = lors(shapes[i % 6][0], shapes[i % 6][1], 1 + (int32_t)(i % 3));
        give_models(&m, merge_dtypes[i % 3], i + 1);
        set_three_weights(&m);
        if (i % 2) {
            merge_set(&m, "density", 1);
        } else {
            merge_set(&m, "rank", i % 4 ? 1e9 : (double)(i % 6 == 2 ? 11 : 200));
            merge_set(&m, "density", 0);
        }
        compare_with_task_arithmetic(&m, merge_dtypes[i % 3]);
        forget_models(&m);
    }
}

/* The same for models that differ by whole steps of bf16 and decimal weights, where results meet
 * the midpoints of rounding: lambda (a + b) and lambda a + lambda b are not the same f64. */
static void it_is_task_arithmetic_at_midpoints(void **state)
{
    (void)state;
    enum { SIDE = 16, N = SIDE * SIDE };
    static const double lambdas[] = {0.1, 0.3, 0.7, 0.9, 1.0 / 3, 1.0 / 6};
    float base[N], first[N], second[N];
    for (int i = 0; i < N; i++) {
        base[i] = 1;
        first[i] = 1 + (float)(i % SIDE) * 0x1p-7f;
        second[i] = 1 + (float)(i / SIDE) * 0x1p-7f;
    }
    for (int i = 0; i < 6; i++) {
        merge m = lors(SIDE, SIDE, 2);
        m.base = base;
        m.models[0] = first;
        m.models[1] = second;
        merge_set(&m, "density", 1);
        merge_set(&m, "lambda", lambdas[i]);
        merge_set_model(&m, "weight", 0, 0.3);
        merge_set_model(&m, "weight", 1, 0.7);
        compare_with_task_arithmetic(&m, LORS_BF16);
        merge_free(&m);
    }
}

/* rank 0: of each task vector the floor(density n) largest entries, ties by lowest index. */
static void rank_zero_is_magnitude_pruning(void **state)
{
    (void)state;
    enum { N = 12 };
    static const float base[N] = {0};
    static const float model[N] = {1, -3, 3, 2, -2, 2, 0, -0.0f, 5, 1, -1, 3};
    static const float wanted[N] = {0, -3, 3, 2, 0, 0, 0, 0, 5, 0, 0, 3};
    merge m = merge_of(&lors_method_lors, 3, 4, 1);
    m.base = base;
    m.models[0] = model;
    merge_set(&m, "rank", 0);
    merge_set(&m, "density", 5.0 / 12 + 1e-9);
    merge_run(&m, LORS_F16);
    expect_values(&m, wanted);
    assert_int_equal(m.results[0].n_kept, 5);
    merge_free(&m);
}

/* Where an entry is kept the result is base + lambda weight d exactly, elsewhere it is L's; and
 * what is kept are the largest residuals: none left out is larger than one kept. */
static void the_largest_residuals_are_kept(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 7; seed++) {
        merge svp = lors(seed % 2 ? 60 : 33, seed % 2 ? 33 : 60, 1);
        int64_t n = 60 * 33, n_kept = 0;
        give_models(&svp, LORS_F32, seed);
        merge_set(&svp, "lambda", 1);
        merge both = svp;
        merge_set(&svp, "density", 0);
        merge_set(&both, "density", 0.25);
        merge_run(&svp, LORS_F32);
        merge_run(&both, LORS_F32);
        double least_kept = INFINITY, most_left = 0;
        for (int64_t i = 0; i < n; i++) {
            double d = (double)svp.models[0][i] - (double)svp.base[i];
            double rest = fabs((double)((float)d - (float)svp.acc[i]));
            bool kept = both.acc[i] != svp.acc[i];
            assert_true(both.acc[i] == (kept ? d : svp.acc[i]));
            n_kept += kept;
            least_kept = kept ? fmin(least_kept, rest) : least_kept;
            most_left = kept ? most_left : fmax(most_left, rest);
        }
        assert_true(n_kept == n / 4);
        assert_true(least_kept >= most_left);
        assert_int_equal(both.results[0].n_kept, n / 4);
        assert_int_equal(both.results[0].certificate.rank, 2);
        merge_free(&both);
        forget_models(&svp);
    }
}

/* The sum over models is the sum of what each alone adds. */
static void models_add_up(void **state)
{
    (void)state;
    merge m = lors(50, 23, 3);
    give_models(&m, LORS_F32, 9);
    merge_set_model(&m, "weight", 0, 0.5);
    merge_set_model(&m, "weight", 1, -1.5);
    merge_set_model(&m, "rank", 1, 0);
    merge_set_model(&m, "rank", 2, 5);
    merge_set_model(&m, "density", 2, 0.9);
    merge_run(&m, LORS_F32);
    double *sum = calloc(50 * 23, sizeof *sum);
    for (int32_t k = 0; k < 3; k++) {
        merge one = merge_of(&lors_method_lors, 50, 23, 1);
        one.base = m.base;
        one.models[0] = m.models[k];
        for (int32_t p = 0; p < m.def->info.n_params; p++) {
            one.cells[p] = m.cells[p * 3 + k];
        }
        merge_run(&one, LORS_F32);
        for (int64_t i = 0; i < 50 * 23; i++) {
            sum[i] += one.acc[i];
        }
        merge_free(&one);
    }
    assert_memory_equal(m.acc, sum, 50 * 23 * sizeof *sum);
    free(sum);
    forget_models(&m);
}

/* A model that is the base adds nothing, whether it is noticed or computed. */
static void a_zero_task_vector_adds_nothing(void **state)
{
    (void)state;
    for (int rank = 0; rank < 4; rank++) {
        merge m = lors(20, 14, 3);
        give_models(&m, LORS_F32, 4);
        float *second = (float *)(uintptr_t)m.models[1];
        memcpy(second, m.base, 20 * 14 * sizeof *second);
        merge_set(&m, "rank", rank);
        merge other = m;
        other.no_skip = true;
        expect_same_bytes(&m, &other, LORS_F32);
        for (int32_t k = 0; k < 3; k += 2) {
            memcpy((void *)(uintptr_t)m.models[k], m.base, 20 * 14 * sizeof *second);
        }
        expect_same_bytes(&m, &other, LORS_F32);
        expect_values(&m, m.base);
        merge_free(&other);
        forget_models(&m);
    }
}

static void ranks_by_energy_keep_it(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 5; seed++) {
        merge m = lors(30, 40, 2);
        give_models(&m, LORS_F32, seed);
        merge_set_energy(&m, 0.6);
        merge_run(&m, LORS_F32);
        for (int k = 0; k < 2; k++) {
            assert_true(m.results[k].certificate.energy >= 0.6);
            assert_in_range(m.results[k].certificate.rank, 1, 29);
        }
        forget_models(&m);
    }
}

static void expect_same_results(const merge *a, const merge *b)
{
    for (int32_t k = 0; k < a->n_models; k++) {
        const lors_model_result *left = &a->results[k], *right = &b->results[k];
        assert_int_equal(left->zero, right->zero);
        if (!left->zero) { /* else it may not have been computed at all */
            assert_int_equal(left->n_kept, right->n_kept);
            assert_int_equal(left->certificate.rank, right->certificate.rank);
            assert_string_equal(left->certificate.path, right->certificate.path);
            assert_true(left->certificate.energy == right->certificate.energy);
        }
    }
}

/* Seven models that differ in all that makes a difference: the same whether they come one by one or
 * several at a time, and whatever stands beside them. */
static void any_batch_gives_the_same(void **state)
{
    (void)state;
    static const double ranks[] = {2, 0, 5, 1e9, 0, 3, 1}, densities[] = {.2, .3, 1, .1, 0, .2, .5};
    for (uint64_t seed = 1; seed < (merge_is_slow() ? 3 : 7); seed++) {
        merge m = lors(seed % 2 ? 60 : 150, seed % 2 ? 33 : 90, 7);
        give_models(&m, LORS_F32, seed);
        set_three_weights(&m);
        for (int32_t k = 0; k < 7; k++) {
            merge_set_model(&m, "rank", k, ranks[((uint64_t)k + seed) % 7]);
            merge_set_model(&m, "density", k, densities[((uint64_t)k + 3 * seed) % 7]);
        }
        m.cells[lors_method_param(&m.def->info, "rank") * 7 + 6] = (lors_cell){0, 0.7};
        memcpy((void *)(uintptr_t)m.models[seed % 7], m.base,
               (size_t)(m.n_rows * m.n_cols) * sizeof(float)); /* a frozen one */
        m.batch = 1;
        m.exact = seed == 2;
        merge_run(&m, LORS_F32);
        for (int32_t batch = 2; batch <= 7; batch++) {
            merge other = m;
            other.acc = NULL;
            other.values = NULL;
            other.stored = NULL;
            other.batch = batch;
            other.tile = batch % 2 ? LORS_BLOCK : 0;
            merge_run(&other, LORS_F32);
            expect_values(&other, m.values);
            assert_memory_equal(m.acc, other.acc, (size_t)(m.n_rows * m.n_cols) * sizeof *m.acc);
            expect_same_results(&m, &other);
            merge_free(&other);
        }
        forget_models(&m);
    }
}

/* The same up to the bounds of both solvers; and the solver is the one asked for. */
static void exact_is_the_decomposition(void **state)
{
    (void)state;
    merge m = lors(60, 33, 2);
    give_models(&m, LORS_F32, 5);
    merge_set(&m, "density", 0);
    merge_set(&m, "lambda", 1);
    merge_set_model(&m, "weight", 1, 0);
    merge other = m;
    other.exact = true;
    merge_run(&m, LORS_F32);
    merge_run(&other, LORS_F32);
    double square = 0, rest = 0;
    for (int64_t i = 0; i < 60 * 33; i++) {
        square += m.acc[i] * m.acc[i];
        rest += (m.acc[i] - other.acc[i]) * (m.acc[i] - other.acc[i]);
    }
    assert_true(sqrt(rest) <= 1e-4 * sqrt(square));
    assert_string_not_equal(m.results[0].certificate.path, "svd");
    assert_string_equal(other.results[0].certificate.path, "svd");
    assert_string_equal(other.results[1].certificate.path, "svd");
    merge_free(&other);
    forget_models(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(an_exact_rank_comes_back),
        cmocka_unit_test(properties),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(nothing_asked_is_the_base),
        cmocka_unit_test(everything_kept_is_task_arithmetic),
        cmocka_unit_test(it_is_task_arithmetic_at_midpoints),
        cmocka_unit_test(rank_zero_is_magnitude_pruning),
        cmocka_unit_test(the_largest_residuals_are_kept),
        cmocka_unit_test(models_add_up),
        cmocka_unit_test(a_zero_task_vector_adds_nothing),
        cmocka_unit_test(ranks_by_energy_keep_it),
        cmocka_unit_test(any_batch_gives_the_same),
        cmocka_unit_test(exact_is_the_decomposition),
    };
    return merge_tests("lors", tests);
}

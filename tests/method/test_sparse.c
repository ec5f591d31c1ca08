/* test_sparse.c - what dare, della and breadcrumbs keep of a task vector, and the sum of it. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct family {
    const lors_method_def *def;
    bool elects, by_rows;
} family;

static const family families[] = {
    {&lors_method_ties, true, false},
    {&lors_method_breadcrumbs, false, false},
    {&lors_method_breadcrumbs_ties, true, false},
    {&lors_method_dare_linear, false, false},
    {&lors_method_dare_ties, true, false},
    {&lors_method_della, true, true},
    {&lors_method_della_linear, false, true},
};

enum { N_FAMILIES = sizeof families / sizeof *families, ROWS = 40, COLS = 60, N = ROWS * COLS };

static const double chosen_weights[] = {0.5, -0.75, 2};

static merge sparse(const family *f, int32_t n_models)
{
    merge m = merge_of(f->def, ROWS, COLS, n_models);
    merge_set(&m, "density", 0.4);
    merge_set(&m, "normalize", 0);
    return m;
}

/* T_k: the update of model k alone, with weight 1 among models of weight 0. */
static void part_of(const merge *m, int32_t k, double *part)
{
    merge alone = *m;
    alone.acc = NULL;
    alone.values = NULL;
    alone.stored = NULL;
    merge_set(&alone, "weight", 0);
    merge_set_model(&alone, "weight", k, 1);
    merge_set(&alone, "normalize", 0);
    merge_set(&alone, "lambda", 1);
    merge_run(&alone, LORS_F32);
    memcpy(part, alone.acc, N * sizeof *part);
    merge_free(&alone);
}

/* W - W0 = lambda * sum of the weighted parts, of the sign that wins where there is an election,
 * divided by the weights (of those that agree). */
static double sum_of_parts(const family *f, double (*parts)[N], int64_t i, bool normalize)
{
    double vote = 0, sum = 0, weights = 0;
    for (int k = 0; k < 3; k++) {
        vote += chosen_weights[k] * parts[k][i];
    }
    for (int k = 0; k < 3; k++) {
        double term = chosen_weights[k] * parts[k][i];
        bool agrees = !f->elects || (vote >= 0 ? term > 0 : term < 0);
        sum += agrees ? term : 0;
        weights += agrees ? chosen_weights[k] : 0;
    }
    return 0.8 * (normalize && weights != 0 ? sum / weights : sum);
}

static void sums_are_of_what_is_kept(void **state)
{
    (void)state;
    static double parts[3][N];
    for (int i = 0; i < N_FAMILIES * 4; i++) {
        const family *f = &families[i / 4];
        bool normalize = i % 2;
        merge m = sparse(f, 3);
        m.compat = i % 4 > 1;
        give_models(&m, LORS_F32, (uint64_t)i + 1);
        for (int k = 0; k < 3; k++) {
            part_of(&m, k, parts[k]);
            merge_set_model(&m, "weight", k, chosen_weights[k]);
        }
        merge_set(&m, "lambda", 0.8);
        merge_set(&m, "normalize", normalize);
        merge_run(&m, LORS_F32);
        for (int64_t at = 0; at < N; at++) {
            double wanted = sum_of_parts(f, parts, at, normalize), size = 0;
            for (int k = 0; k < 3; k++) {
                size += 10 * fabs(chosen_weights[k] * parts[k][at]);
            }
            assert_true(fabs(m.acc[at] - wanted) <= 1e-14 * size);
        }
        forget_models(&m);
    }
}

/* How many magnitudes are larger, or as large and of lower index. */
static int64_t rank_from_top(const float *d, int64_t n, int64_t i)
{
    int64_t rank = 0;
    for (int64_t j = 0; j < n; j++) {
        rank += fabsf(d[j]) > fabsf(d[i]) || (fabsf(d[j]) == fabsf(d[i]) && j < i);
    }
    return rank;
}

/* All but the floor(gamma n) largest (fewer where density asks for more), then floor(density n). */
static void check_window(double density, double gamma)
{
    merge m = merge_of(&lors_method_breadcrumbs, 20, 30, 1);
    enum { SIZE = 600 };
    float d[SIZE];
    merge_set(&m, "density", density);
    merge_set(&m, "gamma", gamma);
    give_models(&m, LORS_F32, 5);
    merge_run(&m, LORS_F32);
    int64_t kept = (int64_t)floor(density * SIZE), top = (int64_t)floor(gamma * SIZE);
    top = top < SIZE - kept ? top : SIZE - kept;
    for (int64_t i = 0; i < SIZE; i++) {
        d[i] = m.models[0][i] - m.base[i];
    }
    for (int64_t i = 0; i < SIZE; i++) {
        int64_t rank = rank_from_top(d, SIZE, i);
        bool inside = rank >= top && rank < top + kept;
        assert_true(m.acc[i] == (inside ? (double)m.models[0][i] - (double)m.base[i] : 0));
    }
    assert_int_equal(m.results[0].n_kept, density < 1 ? kept : 0);
    forget_models(&m);
}

static void breadcrumbs_keep_a_window(void **state)
{
    (void)state;
    check_window(0.3, 0.05);
    check_window(0.3, 0);
    check_window(0.97, 0.3);
    check_window(0, 0.5);
    check_window(0.5, 1);
    check_window(1.0 / 600, 0.5);
}

/* 4 3 2 1 with density 1/2 and gamma 1/4: the 4 is left out, 3 and 2 stay; rescaled by 10 / 5. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[4] = {0}, model[] = {1, -4, 3, 2};
    static const float plain[] = {0, 0, 3, 2}, rescaled[] = {0, 0, 6, 4};
    for (int method = 1; method < 3; method++) {
        merge m = merge_of(families[method].def, 2, 2, 1);
        m.base = base;
        m.models[0] = model;
        merge_set(&m, "density", 0.5);
        merge_set(&m, "gamma", 0.25);
        merge_run(&m, LORS_F32);
        expect_values(&m, plain);
        merge_set(&m, "rescale", 1);
        merge_run(&m, LORS_F32);
        expect_values(&m, rescaled);
        merge_free(&m);
    }
}

/* Of one element `compat` keeps one entry where density is above 0, and only ties does. */
static void compat_keeps_at_least_one(void **state)
{
    (void)state;
    static const float base[] = {1, 1}, model[] = {3, 2}, first[] = {3, 1};
    merge m = merge_of(&lors_method_ties, 1, 2, 1);
    m.base = base;
    m.models[0] = model;
    for (int i = 0; i < 4; i++) {
        m.compat = i % 2;
        merge_set(&m, "density", i < 2 ? 0.2 : 0);
        merge_run(&m, LORS_F32);
        expect_values(&m, i == 1 ? first : base);
    }
    merge_free(&m);
}

static double sum_of_magnitudes(const double *x)
{
    double sum = 0;
    for (int64_t i = 0; i < N; i++) {
        sum += fabs(x[i]);
    }
    return sum;
}

/* Kept entries are divided by their probability; with `compat` all by one factor, so that the sum
 * of magnitudes is what it was. Without rescaling they are the task vector's. */
static void what_is_drawn_is_rescaled(void **state)
{
    (void)state;
    static double part[N], delta[N];
    for (int i = 0; i < 4 * 3; i++) {
        const family *f = &families[3 + i / 3];
        merge m = sparse(f, 1);
        give_models(&m, LORS_F32, (uint64_t)i + 20);
        m.compat = i % 3 == 1;
        merge_set(&m, "rescale", i % 3 != 2);
        part_of(&m, 0, part);
        for (int64_t at = 0; at < N; at++) {
            delta[at] = (double)m.models[0][at] - (double)m.base[at];
            double ratio = part[at] / delta[at];
            assert_true(part[at] == 0 || i % 3 != 2 || ratio == 1);
            assert_true(part[at] == 0 || i % 3 != 0 || f->by_rows || fabs(ratio * 0.4 - 1) < 1e-15);
            /* 1 / (0.4 + 0.15) to 1 / (0.4 - 0.15) */
            assert_true(part[at] == 0 || i % 3 != 0 || !f->by_rows ||
                        (ratio > 1.818 && ratio < 4.001));
        }
        if (m.compat) {
            double whole = sum_of_magnitudes(delta);
            assert_true(fabs(sum_of_magnitudes(part) - whole) <= 1e-6 * whole);
        }
        forget_models(&m);
    }
}

/* A share of density within five deviations; of della the upper half of a row more than the lower.
 */
static void as_many_are_drawn_as_asked_for(void **state)
{
    (void)state;
    static double part[N];
    float d[COLS];
    for (int i = 0; i < 4; i++) {
        const family *f = &families[3 + i];
        merge m = sparse(f, 1);
        give_models(&m, LORS_F32, (uint64_t)i + 40);
        part_of(&m, 0, part);
        int64_t n_upper = 0, n_lower = 0;
        for (int64_t row = 0; row < ROWS; row++) {
            for (int64_t col = 0; col < COLS; col++) {
                d[col] = m.models[0][row * COLS + col] - m.base[row * COLS + col];
            }
            for (int64_t col = 0; col < COLS; col++) {
                bool upper = rank_from_top(d, COLS, col) < COLS / 2;
                n_upper += part[row * COLS + col] != 0 && upper;
                n_lower += part[row * COLS + col] != 0 && !upper;
            }
        }
        double n = (double)(n_upper + n_lower), lower = f->by_rows ? 0.325 : 0.4;
        assert_true(fabs(n - 0.4 * N) <= 5 * sqrt(0.24 * N));
        assert_true(fabs((double)n_lower - lower * N / 2) <= 5 * sqrt(0.24 * N / 2));
        forget_models(&m);
    }
}

static int64_t places_that_differ(const double *a, const double *b)
{
    int64_t n = 0;
    for (int64_t i = 0; i < N; i++) {
        n += (a[i] != 0) != (b[i] != 0);
    }
    return n;
}

/* The same seed and model: the same draw. Another seed or model: as much alike as chance has it,
 * 2 * 0.4 * 0.6 of the places apart. */
static void draws_are_of_seed_and_model(void **state)
{
    (void)state;
    static double first[N], again[N], other_seed[N], other_model[N];
    for (int i = 0; i < 4; i++) {
        merge m = sparse(&families[3 + i], 2);
        give_models(&m, LORS_F32, 60);
        memcpy((void *)(uintptr_t)m.models[1], m.models[0], N * sizeof(float));
        part_of(&m, 0, first);
        part_of(&m, 0, again);
        part_of(&m, 1, other_model);
        m.seed = 1;
        part_of(&m, 0, other_seed);
        assert_memory_equal(first, again, sizeof first);
        assert_true(labs(places_that_differ(first, other_seed) - (long)(0.48 * N)) < 150);
        assert_true(labs(places_that_differ(first, other_model) - (long)(0.48 * N)) < 150);
        forget_models(&m);
    }
}

/* Whole rows for della, anything else for the others. */
static void tiles_do_not_matter(void **state)
{
    (void)state;
    for (int i = 0; i < N_FAMILIES * 2; i++) {
        const family *f = &families[i / 2];
        merge m = merge_of(f->def, 3, LORS_BLOCK, 3);
        give_models(&m, LORS_F32, (uint64_t)i + 80);
        set_three_weights(&m);
        merge_set(&m, "density", 0.4);
        m.compat = i % 2;
        merge other = m;
        other.tile = LORS_BLOCK;
        other.backwards = true;
        expect_same_bytes(&m, &other, LORS_F32);
        merge_free(&other);
        forget_models(&m);
    }
}

static void all_kept_is_task_arithmetic(void **state)
{
    (void)state;
    for (int i = 0; i < N_FAMILIES; i++) {
        merge m = merge_of(families[i].def, 20, 31, 3);
        merge b = merge_of(&lors_method_task_arithmetic, 20, 31, 3);
        give_models(&m, LORS_F16, 7);
        set_three_weights(&m);
        set_three_weights(&b);
        merge_set(&m, "normalize", 0);
        b.base = m.base;
        memcpy(b.models, m.models, sizeof b.models);
        if (!families[i].elects) {
            expect_same_bytes(&m, &b, LORS_F16);
        }
        merge_set(&m, "density", 0);
        merge_run(&m, LORS_F16);
        expect_values(&m, m.base);
        merge_free(&b);
        forget_models(&m);
    }
}

static void common_elements_stay(void **state)
{
    (void)state;
    for (int i = 0; i < N_FAMILIES; i++) {
        merge m = merge_of(families[i].def, ROWS, COLS, 3);
        merge_set(&m, "normalize", 1);
        assert_true(property_common_element(&m, (uint64_t)i + 300));
        m = sparse(&families[i], 3);
        assert_false(property_common_element(&m, (uint64_t)i + 300));
    }
}

static void impossible_probabilities_are_refused(void **state)
{
    (void)state;
    merge m = merge_of(&lors_method_della, 4, 4, 1);
    merge_set(&m, "density", 0.1); /* less than epsilon */
    assert_ok(merge_check(&m));
    m.compat = true;
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
    merge_set(&m, "density", 0.5);
    assert_ok(merge_check(&m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(sums_are_of_what_is_kept),
        cmocka_unit_test(breadcrumbs_keep_a_window),
        cmocka_unit_test(compat_keeps_at_least_one),
        cmocka_unit_test(what_is_drawn_is_rescaled),
        cmocka_unit_test(as_many_are_drawn_as_asked_for),
        cmocka_unit_test(draws_are_of_seed_and_model),
        cmocka_unit_test(tiles_do_not_matter),
        cmocka_unit_test(all_kept_is_task_arithmetic),
        cmocka_unit_test(common_elements_stay),
        cmocka_unit_test(impossible_probabilities_are_refused),
    };
    return merge_tests("sparse", tests);
}

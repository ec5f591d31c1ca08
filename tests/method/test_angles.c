/* test_angles.c - methods of norms and angles: nuslerp, multislerp, karcher, model_stock, metagpt,
 * geometric_median. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 13, COLS = 11, N = ROWS * COLS };

static merge nuslerp(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    (void)n_models; /* it takes two */
    return merge_of(&lors_method_nuslerp, n_rows, n_cols, 2);
}

static merge multislerp(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    return merge_of(&lors_method_multislerp, n_rows, n_cols, n_models);
}

static merge karcher(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    return merge_of(&lors_method_karcher, n_rows, n_cols, n_models);
}

static merge model_stock(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    (void)n_models; /* it has no weights, which the properties set for three */
    return merge_of(&lors_method_model_stock, n_rows, n_cols, 2);
}

static merge metagpt(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    (void)n_models;
    return merge_of(&lors_method_metagpt, n_rows, n_cols, 2);
}

static merge geometric_median(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    return merge_of(&lors_method_geometric_median, n_rows, n_cols, n_models);
}

static void properties(void **state)
{
    (void)state;
    static const merge_maker all[] = {nuslerp,     multislerp, karcher,
                                      model_stock, metagpt,    geometric_median};
    for (int i = 0; i < 6; i++) {
        property_tiles(all[i]);
        property_scaled(all[i]);
    }
    property_equal_models(multislerp);
    property_equal_models(karcher);
    property_equal_models(geometric_median);
    property_one_weight(karcher);
    property_one_weight(geometric_median);
}

/* --- by hand ---------------------------------------------------------------------------------- */

static void run_rows(merge *m, const float *base, const float (*models)[2], const double *wanted)
{
    m->base = base;
    for (int32_t k = 0; k < m->n_models; k++) {
        m->models[k] = models[k];
    }
    merge_run(m, LORS_F32);
    expect_near(m, wanted, 1e-6);
    merge_free(m);
}

static void worked_by_hand(void **state)
{
    (void)state;
    static const float across[3][2] = {{1, 0}, {0, 2}}, zero[2] = {0}, one[2] = {1, 1};
    static const float shifted[2][2] = {{2, 1}, {1, 3}}, beside[2][2] = {{3, 0}, {3, 4}};
    /* a right angle, t = 1/3: cos 30 e_1 + sin 30 * 2 e_2 */
    merge m = nuslerp(1, 2, 2);
    merge_set_model(&m, "weight", 0, 2);
    run_rows(&m, NULL, across, (const double[]){0.86602540378, 1});
    m = nuslerp(1, 2, 2); /* the same from a base of (1, 1), t = 1/2 */
    run_rows(&m, one, shifted, (const double[]){1.70710678119, 2.41421356237});
    m = nuslerp(1, 2, 2); /* weights that cancel: t = 1/2 */
    merge_set_model(&m, "weight", 1, -1);
    run_rows(&m, NULL, across, (const double[]){0.70710678119, 1.41421356237});
    /* direction (1, 1) / sqrt 2 at the mean norm 1.5 */
    m = multislerp(1, 2, 2);
    run_rows(&m, NULL, across, (const double[]){1.06066017178, 1.06066017178});
    m = karcher(1, 2, 2);
    run_rows(&m, NULL, across, (const double[]){1.06066017178, 1.06066017178});
    m = karcher(1, 2, 2); /* on a circle one step is enough: 22.5 degrees, mean norm 1.25 */
    merge_set_model(&m, "weight", 0, 3);
    merge_set(&m, "max_iter", 1);
    run_rows(&m, NULL, across, (const double[]){1.15484941564, 0.47835429046});
    /* the cosine is 3/5: t = 2 * 0.6 / 1.6 = 0.75 of the mean (3, 2) */
    m = model_stock(1, 2, 2);
    run_rows(&m, zero, beside, (const double[]){2.25, 1.5});
    m = model_stock(1, 2, 2); /* a right angle: the base */
    run_rows(&m, zero, across, (const double[]){0, 0});
    m = metagpt(1, 2, 2); /* squares 1 and 4 */
    run_rows(&m, zero, across, (const double[]){0.2, 1.6});
}

/* --- the formulas in long double -------------------------------------------------------------- */

typedef struct vectors {
    long double x[3][N], norm[3], dot[3][3];
} vectors;

static vectors vectors_of(const merge *m)
{
    vectors v = {.norm = {0}};
    for (int32_t k = 0; k < m->n_models; k++) {
        for (int64_t i = 0; i < N; i++) {
            v.x[k][i] = (long double)m->models[k][i] - (m->base ? m->base[i] : 0.0f);
        }
    }
    for (int32_t j = 0; j < m->n_models; j++) {
        for (int32_t k = 0; k < m->n_models; k++) {
            for (int64_t i = 0; i < N; i++) {
                v.dot[j][k] += v.x[j][i] * v.x[k][i];
            }
        }
        v.norm[j] = sqrtl(v.dot[j][j]);
    }
    return v;
}

/* With a base the products are of differences rounded to f32. */
static void expect_combination(const merge *m, const vectors *v, const long double *c)
{
    for (int64_t i = 0; i < N; i++) {
        long double wanted = 0, size = 0;
        for (int32_t k = 0; k < m->n_models; k++) {
            wanted += c[k] * v->x[k][i];
            size += fabsl(c[k] * v->x[k][i]);
        }
        assert_true(fabsl(m->acc[i] - wanted) <= (m->base ? 1e-6L : 1e-12L) * size);
    }
}

static void give(merge *m, bool with_base, uint64_t seed)
{
    give_models(m, LORS_F32, seed);
    for (int32_t k = 0; k < m->n_models; k++) { /* far from parallel */
        free((void *)(uintptr_t)m->models[k]);
        m->models[k] = made_base(N, LORS_F32, 1000 * seed + (uint64_t)k);
    }
    if (with_base && !m->base) {
        m->base = made_base(N, LORS_F32, 1000 * seed + 9);
    }
}

static void two_follow_the_formula(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 12; seed++) {
        merge m = nuslerp(ROWS, COLS, 2);
        give(&m, seed % 2, seed);
        merge_set_model(&m, "weight", 1, 0.1 * (double)seed);
        merge_run(&m, LORS_F32);
        vectors v = vectors_of(&m);
        long double t = 0.1L * seed / (1 + 0.1L * seed);
        long double omega = acosl(v.dot[0][1] / (v.norm[0] * v.norm[1]));
        expect_combination(&m, &v,
                           (const long double[]){sinl((1 - t) * omega) / sinl(omega),
                                                 sinl(t * omega) / sinl(omega)});
        forget_models(&m);
    }
}

static void three_follow_the_formula(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 12; seed++) {
        static const double w[] = {0.2, 0.3, 0.5};
        merge m = multislerp(ROWS, COLS, 3);
        give(&m, seed % 2, seed + 20);
        set_three_weights(&m);
        merge_run(&m, LORS_F32);
        vectors v = vectors_of(&m);
        long double size = 0, square = 0, c[3];
        for (int j = 0; j < 3; j++) {
            size += w[j] * v.norm[j];
            for (int k = 0; k < 3; k++) {
                square += w[j] * w[k] * v.dot[j][k] / (v.norm[j] * v.norm[k]);
            }
        }
        for (int k = 0; k < 3; k++) {
            c[k] = w[k] / v.norm[k] / sqrtl(square) * size;
        }
        expect_combination(&m, &v, c);
        forget_models(&m);

        m = merge_of(&lors_method_metagpt, ROWS, COLS, 3);
        give(&m, true, seed + 40);
        merge_set(&m, "lambda", 0.7);
        merge_run(&m, LORS_F32);
        v = vectors_of(&m);
        long double all = v.dot[0][0] + v.dot[1][1] + v.dot[2][2];
        for (int k = 0; k < 3; k++) {
            c[k] = 0.7L * v.dot[k][k] / all;
        }
        expect_combination(&m, &v, c);
        forget_models(&m);

        m = merge_of(&lors_method_model_stock, ROWS, COLS, 3);
        give(&m, true, seed + 60);
        merge_run(&m, LORS_F32);
        v = vectors_of(&m);
        long double cosine =
            (v.dot[0][1] / (v.norm[0] * v.norm[1]) + v.dot[0][2] / (v.norm[0] * v.norm[2]) +
             v.dot[1][2] / (v.norm[1] * v.norm[2])) /
            3;
        long double t = 3 * cosine / (1 + 2 * cosine);
        expect_combination(&m, &v, (const long double[]){t / 3, t / 3, t / 3});
        forget_models(&m);
    }
}

/* At the mean on the sphere the weighted ways to the models, along the sphere, cancel. */
static void the_mean_on_the_sphere_is_one(void **state)
{
    (void)state;
    static const double w[] = {0.2, 0.3, 0.5};
    for (uint64_t seed = 1; seed < 12; seed++) {
        merge m = karcher(ROWS, COLS, 3);
        give(&m, false, seed + 80);
        set_three_weights(&m);
        merge_set(&m, "max_iter", 1000);
        merge_set(&m, "tol", 1e-12);
        merge_run(&m, LORS_F32);
        vectors v = vectors_of(&m);
        long double length = 0, size = 0, left = 0;
        for (int64_t i = 0; i < N; i++) {
            length += (long double)m.acc[i] * m.acc[i];
        }
        length = sqrtl(length);
        long double pull[N] = {0};
        for (int k = 0; k < 3; k++) {
            long double cosine = 0;
            for (int64_t i = 0; i < N; i++) {
                cosine += m.acc[i] * v.x[k][i] / (length * v.norm[k]);
            }
            long double angle = acosl(cosine);
            for (int64_t i = 0; i < N; i++) {
                pull[i] += w[k] * angle / sinl(angle) *
                           (v.x[k][i] / v.norm[k] - cosine * m.acc[i] / length);
            }
            size += w[k] * v.norm[k];
        }
        for (int64_t i = 0; i < N; i++) {
            left += pull[i] * pull[i];
        }
        assert_true(fabsl(length - size) <= 1e-12L * size && sqrtl(left) < 1e-9L);
        forget_models(&m);
    }
}

/* At the median the weighted directions to the models cancel. */
static void the_median_is_one(void **state)
{
    (void)state;
    static const double w[] = {0.3, 0.35, 0.35};
    for (uint64_t seed = 1; seed < 12; seed++) {
        merge m = geometric_median(ROWS, COLS, 3);
        give(&m, seed % 2, seed + 100);
        for (int k = 0; k < 3; k++) {
            merge_set_model(&m, "weight", k, w[k]);
        }
        merge_run(&m, LORS_F32);
        vectors v = vectors_of(&m);
        long double pull[N] = {0}, left = 0;
        for (int k = 0; k < 3; k++) {
            long double square = 0;
            for (int64_t i = 0; i < N; i++) {
                square += (v.x[k][i] - m.acc[i]) * (v.x[k][i] - m.acc[i]);
            }
            for (int64_t i = 0; i < N; i++) {
                pull[i] += w[k] * (v.x[k][i] - m.acc[i]) / sqrtl(square);
            }
        }
        for (int64_t i = 0; i < N; i++) {
            left += pull[i] * pull[i];
        }
        assert_true(sqrtl(left) < 1e-6L);
        forget_models(&m);
    }
}

/* The median of numbers, also where the search begins at one of them that it is not: the mean of
 * -4, 0, 1, 1, 2 is 0. */
static void medians_of_numbers(void **state)
{
    (void)state;
    static const float cases[][5] = {
        {-4, 0, 1, 1, 2}, {0, 1, 5, 9, 100}, {3, 3, 3, 3, 8}, {-1, -1, 0, 7, 1e6f}};
    static const double medians[] = {1, 5, 3, 0};
    for (int i = 0; i < 4; i++) {
        merge m = geometric_median(1, 1, 5);
        for (int k = 0; k < 5; k++) {
            m.models[k] = &cases[i][k];
        }
        merge_run(&m, LORS_F32);
        expect_near(&m, &medians[i], 1e-4);
        merge_free(&m);
    }
}

/* --- where angles are undefined, and the rules of compat -------------------------------------- */

static void degenerate_tensors(void **state)
{
    (void)state;
    static const float zero[2][2] = {{0}}, some[2][2] = {{0, 0}, {3, 4}};
    static const float against[2][2] = {{1, 2}, {-1, -2}}, single[1][2] = {{3, -4}};
    static const merge_maker all[] = {nuslerp,     multislerp, karcher,
                                      model_stock, metagpt,    geometric_median};
    for (int i = 0; i < 6 * 2; i++) {
        merge m = all[i / 2](1, 2, 2);
        m.compat = i % 2;
        run_rows(&m, zero[0], zero, (const double[]){0, 0});
    }
    merge m = nuslerp(1, 2, 2); /* one of no direction: straight, t = 1/2 */
    run_rows(&m, zero[0], some, (const double[]){1.5, 2});
    m = multislerp(1, 2, 2); /* the other's direction, at the mean norm */
    run_rows(&m, zero[0], some, (const double[]){1.5, 2});
    m = multislerp(1, 2, 2); /* no mean direction: the mean */
    run_rows(&m, NULL, against, (const double[]){0, 0});
    m = metagpt(1, 2, 2);
    run_rows(&m, zero[0], some, (const double[]){3, 4});
    m = model_stock(1, 2, 2); /* opposite ones have nothing in common */
    run_rows(&m, zero[0], against, (const double[]){0, 0});
    for (int i = 0; i < 4; i++) { /* a single model is itself */
        static const merge_maker any[] = {multislerp, karcher, geometric_median, NULL};
        m = any[i] ? any[i](1, 2, 1) : merge_of(&lors_method_metagpt, 1, 2, 1);
        run_rows(&m, any[i] ? NULL : zero[0], single, (const double[]){3, -4});
    }
}

/* compat floors the product of two norms at 1e-6, and a norm of nuslerp at 1e-7. */
static void compat_floors_norms(void **state)
{
    (void)state;
    static const float zero[2] = {0}, tiny[2][2] = {{3e-4f, 0}, {3e-4f, 4e-4f}};
    static const float dust[2][2] = {{1e-9f, 0}, {0, 1e-9f}}, line[2][2] = {{1e-9f, 0}, {2e-9f, 0}};
    merge m = model_stock(1, 2, 2);
    m.base = zero;
    m.models[0] = tiny[0];
    m.models[1] = tiny[1];
    merge_run(&m, LORS_F32);
    assert_true(fabs(m.acc[0] - 0.75 * 3e-4) < 1e-10); /* as worked by hand above */
    m.compat = true;                                   /* cosine 9e-8 / 1e-6 */
    merge_run(&m, LORS_F32);
    double t = 2 * 0.09 / 1.09;
    assert_true(fabs(m.acc[0] - t * 3e-4) < 1e-10);
    merge_free(&m);
    m = nuslerp(1, 2, 2);
    m.base = zero;
    m.models[0] = line[0];
    m.models[1] = line[1];
    merge_run(&m, LORS_F32);
    assert_true(fabs(m.acc[0] - 1.5e-9) < 1e-15);
    m.compat = true; /* its cosine is 2e-18 / 1e-14, a right angle all but for 2e-4 */
    merge_run(&m, LORS_F32);
    double half = acos(2e-4) / 2;
    assert_true(fabs(m.acc[0] - 3e-9 * sin(half) / sin(2 * half)) < 1e-15);
    merge_free(&m);
    m = nuslerp(1, 2, 2);
    m.base = zero;
    m.models[0] = dust[0];
    m.models[1] = dust[1];
    merge_run(&m, LORS_F32);
    assert_true(fabs(m.acc[0] - 1e-9 * sqrt(0.5)) < 1e-15);
    merge_free(&m);
}

/* Means on a sphere move an element that all models have in common, as the others ask for. */
static void common_elements(void **state)
{
    (void)state;
    static const merge_maker all[] = {nuslerp,     multislerp, karcher,
                                      model_stock, metagpt,    geometric_median};
    int n_kept = 0;
    for (int i = 0; i < 6 * 2; i++) {
        merge m = all[i / 2](ROWS, COLS, 3);
        m.compat = i % 2;
        n_kept += property_common_element(&m, (uint64_t)i + 200);
    }
    assert_int_equal(n_kept, 4); /* of coefficients that sum to 1: the last two methods */
}

static void checks(void **state)
{
    (void)state;
    merge m = model_stock(2, 2, 2);
    assert_ok(merge_check(&m));
    merge_set(&m, "filter_wise", 1);
    assert_ok(merge_check(&m));
    for (int i = 0; i < 2; i++) {
        m = i ? karcher(2, 2, 2) : geometric_median(2, 2, 2);
        assert_ok(merge_check(&m));
        merge_set(&m, "weight", 0);
        assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
        merge_set_model(&m, "weight", 0, -1);
        merge_set_model(&m, "weight", 1, 3);
        assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
    }
    m = multislerp(2, 2, 2);
    merge_set_model(&m, "weight", 1, -1);
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(properties),
        cmocka_unit_test(two_follow_the_formula),
        cmocka_unit_test(three_follow_the_formula),
        cmocka_unit_test(the_mean_on_the_sphere_is_one),
        cmocka_unit_test(the_median_is_one),
        cmocka_unit_test(medians_of_numbers),
        cmocka_unit_test(degenerate_tensors),
        cmocka_unit_test(compat_floors_norms),
        cmocka_unit_test(common_elements),
        cmocka_unit_test(checks),
    };
    return merge_tests("angles", tests);
}

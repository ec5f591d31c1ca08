/* test_slerp.c - interpolation on the sphere between the base and one model. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static merge slerp(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    (void)n_models; /* it takes one */
    merge m = merge_of(&lors_method_slerp, n_rows, n_cols, 1);
    merge_set(&m, "t", 0.3);
    return m;
}

/* W0 = e_1, W1 = 2 e_5, orthogonal: omega = pi / 2, so that W = cos(t pi/2) W0 + sin(t pi/2) W1;
 * t = 1/3: cos 30 = 0.8660254, sin 30 = 1/2, so 0.8660254 e_1 + 1 e_5. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[9] = {1}, model[9] = {0, 0, 0, 0, 2};
    static const double wanted[9] = {0.86602540378443865, 0, 0, 0, 1};
    merge m = slerp(3, 3, 1);
    m.base = base;
    m.models[0] = model;
    merge_set(&m, "t", 1.0 / 3);
    merge_run(&m, LORS_F32);
    expect_near(&m, wanted, 0x1p-24);
    merge_free(&m);
}

/* Against the formula in long double, and within the error of a few roundings of f64. */
static void follows_the_formula(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        merge m = slerp(31, 17, 1);
        int64_t n = 31 * 17;
        give_models(&m, LORS_F32, seed);
        float *other = made_base(n, LORS_F32, 7 * seed + 1); /* far from parallel */
        free((void *)(uintptr_t)m.models[0]);
        m.models[0] = other;
        double t = (double)(seed % 5) / 5 + 0.1;
        merge_set(&m, "t", t);
        merge_run(&m, LORS_F32);
        long double aa = 0, ab = 0, bb = 0;
        for (int64_t i = 0; i < n; i++) {
            aa += (long double)m.base[i] * m.base[i];
            ab += (long double)m.base[i] * other[i];
            bb += (long double)other[i] * other[i];
        }
        long double omega = acosl(ab / sqrtl(aa * bb));
        long double left = sinl((1 - t) * omega) / sinl(omega);
        long double right = sinl(t * omega) / sinl(omega);
        for (int64_t i = 0; i < n; i++) {
            double wanted = (double)(left * m.base[i] + right * other[i]);
            double terms = (double)(fabsl(left * m.base[i]) + fabsl(right * other[i]));
            assert_true(fabs(m.acc[i] - wanted) <= 1e-14 * terms);
        }
        forget_models(&m);
    }
}

static void properties(void **state)
{
    (void)state;
    property_tiles(slerp);
    property_scaled(slerp);
}

static void equal_models_stay(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 13; seed++) {
        lors_dtype dtype = merge_dtypes[seed % 3];
        merge m = slerp(12, 13, 1);
        give_models(&m, dtype, seed);
        memcpy((void *)(uintptr_t)m.models[0], m.base, 12 * 13 * sizeof(float));
        ((float *)(uintptr_t)m.base)[5] = ((float *)(uintptr_t)m.models[0])[5] = -0.0f;
        merge_set(&m, "t", (double)seed / 13);
        merge_run(&m, dtype);
        expect_values(&m, m.base);
        forget_models(&m);
    }
}

static void the_ends_are_the_inputs(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 13; seed++) {
        lors_dtype dtype = merge_dtypes[seed % 3];
        merge m = slerp(12, 13, 1);
        give_models(&m, dtype, seed);
        merge_set(&m, "t", 0);
        merge_run(&m, dtype);
        expect_values(&m, m.base);
        merge_set(&m, "t", 1);
        merge_run(&m, dtype);
        expect_values(&m, m.models[0]);
        forget_models(&m);
    }
}

/* The same for zeros: t = 0 gives the base's bytes, t = 1 the model's. */
static void negative_zero_survives_at_the_ends(void **state)
{
    (void)state;
    static const float base[] = {-0.0f, 0.0f, 1}, model[] = {1, -0.0f, -0.0f};
    merge m = slerp(1, 3, 1);
    m.base = base;
    m.models[0] = model;
    merge_set(&m, "t", 0);
    merge_run(&m, LORS_F32);
    expect_values(&m, base);
    merge_set(&m, "t", 1);
    merge_run(&m, LORS_F32);
    expect_values(&m, model);
    merge_free(&m);
}

static void straight_line(const float *base, const float *model, int64_t n, double t)
{
    double *wanted = malloc((size_t)n * sizeof *wanted);
    merge m = slerp(1, n, 1);
    m.base = base;
    m.models[0] = model;
    merge_set(&m, "t", t);
    merge_run(&m, LORS_F32);
    for (int64_t i = 0; i < n; i++) {
        wanted[i] = (1 - t) * base[i] + t * model[i];
    }
    expect_near(&m, wanted, 0x1p-24 * 4);
    merge_free(&m);
    free(wanted);
}

/* Where the angle is none, or cannot be told, the way is straight; nothing is NaN. */
static void degenerate_pairs_go_straight(void **state)
{
    (void)state;
    static const float x[] = {1, -2, 3}, twice[] = {2, -4, 6}, opposite[] = {-1, 2, -3};
    static const float zero[3] = {0}, tiny[] = {1e-45f, 0, 0}, one[] = {2}, minus[] = {-3};
    for (int i = 0; i <= 4; i++) {
        double t = (double)i / 4;
        straight_line(x, twice, 3, t);
        straight_line(x, opposite, 3, t);
        straight_line(x, zero, 3, t);
        straight_line(zero, x, 3, t);
        straight_line(zero, zero, 3, t);
        straight_line(tiny, tiny, 3, t);
        straight_line(one, minus, 1, t);
    }
}

/* Squares of f32 neither overflow nor vanish in f64. */
static void extreme_scales_have_an_angle(void **state)
{
    (void)state;
    static const float scales[] = {1e-44f, 1e-30f, 1e30f, 2e38f};
    for (int i = 0; i < 4; i++) {
        float base[2] = {scales[i], 0}, model[2] = {0, scales[i]};
        merge m = slerp(1, 2, 1);
        m.base = base;
        m.models[0] = model;
        merge_set(&m, "t", 0.5);
        merge_run(&m, LORS_F32);
        for (int j = 0; j < 2; j++) {
            double wanted = sqrt(0.5) * (double)scales[i];
            assert_true(fabs(m.acc[j] - wanted) <= 1e-14 * wanted);
        }
        merge_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(follows_the_formula),
        cmocka_unit_test(properties),
        cmocka_unit_test(equal_models_stay),
        cmocka_unit_test(the_ends_are_the_inputs),
        cmocka_unit_test(negative_zero_survives_at_the_ends),
        cmocka_unit_test(degenerate_pairs_go_straight),
        cmocka_unit_test(extreme_scales_have_an_angle),
    };
    return merge_tests("slerp", tests);
}

/* test_linear.c - the weighted average of models. */
#include "method_properties.h"

#include <math.h>

static merge linear(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    return merge_of(&lors_method_linear, n_rows, n_cols, n_models);
}

/* Weights 1 and 3: (1 a + 3 b) / 4.
 *   a = 0 4 8    b = 4 0  8    1 a + 3 b = 12  4 32    / 4 = 3 1 8
 *       1 1 1        1 5 -3                  4 16 -8         1 4 -2
 *      -2 6 0        2 2  4                  4 12 12         1 3  3 */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float a[] = {0, 4, 8, 1, 1, 1, -2, 6, 0}, b[] = {4, 0, 8, 1, 5, -3, 2, 2, 4};
    static const float averaged[] = {3, 1, 8, 1, 4, -2, 1, 3, 3};
    static const float summed[] = {12, 4, 32, 4, 16, -8, 4, 12, 12};
    merge m = linear(3, 3, 2);
    m.models[0] = a;
    m.models[1] = b;
    merge_set_model(&m, "weight", 1, 3);
    for (int d = 0; d < 3; d++) {
        merge_set(&m, "normalize", 1);
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, averaged);
        merge_set(&m, "normalize", 0);
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, summed);
    }
    merge_free(&m);
}

static void order_does_not_matter(void **state)
{
    (void)state;
    property_permuted(linear);
}

static void properties(void **state)
{
    (void)state;
    property_equal_models(linear);
    property_one_weight(linear);
    property_scaled(linear);
    property_tiles(linear);
}

/* Weights 2 and -1 of equal models are that model, too. */
static void negative_weights_extrapolate(void **state)
{
    (void)state;
    static const float a[] = {1, -2, 0.5f}, b[] = {3, -2, 0};
    static const float wanted[] = {-1, -2, 1};
    merge m = linear(1, 3, 2);
    m.models[0] = a;
    m.models[1] = b;
    merge_set_model(&m, "weight", 0, 2);
    merge_set_model(&m, "weight", 1, -1);
    merge_run(&m, LORS_F32);
    expect_values(&m, wanted);
    m.models[1] = a;
    merge_run(&m, LORS_F32);
    expect_values(&m, a);
    merge_free(&m);
}

static void weights_that_cancel_are_refused(void **state)
{
    (void)state;
    merge m = linear(1, 1, 2);
    merge_set_model(&m, "weight", 0, 1.5);
    merge_set_model(&m, "weight", 1, -1.5);
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
    merge_set(&m, "normalize", 0);
    assert_ok(merge_check(&m));
    merge_set_model(&m, "weight", 1, 1.5);
    merge_set(&m, "normalize", 1);
    assert_ok(merge_check(&m));
}

/* 0.1 + 0.2 - 0.3 is 5.6e-17 in f64: a sum of zero to whoever wrote it, and dividing by it
 * multiplies the models by 2e16. */
static void decimal_weights_that_cancel_are_refused(void **state)
{
    (void)state;
    merge m = linear(1, 1, 3);
    merge_set_model(&m, "weight", 0, 0.1);
    merge_set_model(&m, "weight", 1, 0.2);
    merge_set_model(&m, "weight", 2, -0.3);
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
}

static void negative_zero_survives(void **state)
{
    (void)state;
    static const float x[] = {-0.0f, 0.0f, -0.0f};
    merge m = linear(1, 3, 3);
    for (int k = 0; k < 3; k++) {
        m.models[k] = x;
    }
    set_three_weights(&m);
    for (int d = 0; d < 3; d++) {
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, x);
    }
    merge_free(&m);
}

/* All weight on one model is that model, whatever the others hold. */
static void a_weight_of_zero_leaves_no_trace(void **state)
{
    (void)state;
    static const float x[] = {-0.0f, 0.0f, -0.0f, 1}, y[] = {1, -1, 0.0f, 3e38f};
    merge m = linear(2, 2, 2);
    m.models[0] = x;
    m.models[1] = y;
    merge_set_model(&m, "weight", 1, 0);
    merge_run(&m, LORS_F32);
    expect_values(&m, x);
    merge_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(properties),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(negative_weights_extrapolate),
        cmocka_unit_test(weights_that_cancel_are_refused),
        cmocka_unit_test(decimal_weights_that_cancel_are_refused),
        cmocka_unit_test(negative_zero_survives),
        cmocka_unit_test(a_weight_of_zero_leaves_no_trace),
    };
    return merge_tests("linear", tests);
}

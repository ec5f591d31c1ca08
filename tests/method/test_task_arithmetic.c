/* test_task_arithmetic.c - base plus the weighted sum of task vectors. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static merge arithmetic(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    return merge_of(&lors_method_task_arithmetic, n_rows, n_cols, n_models);
}

/* lambda 0.5, weights 1 and -2: W = W0 + 0.5 (d1 - 2 d2).
 *   W0 = 1 2 3   d1 = 1  0 2   d2 = 0 1 1   d1 - 2 d2 = 1 -2 0   W = 1.5 1   3
 *        4 5 6        0 -4 0        2 0 0              -4 -4 0       2   3   6
 *        7 8 9        2  2 2        1 1 3               0  0 -4      7   8   7
 * normalized, by the sum of the weights, -1: W = W0 - 0.5 (d1 - 2 d2). */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const float first[] = {2, 2, 5, 4, 1, 6, 9, 10, 11};
    static const float second[] = {1, 3, 4, 6, 5, 6, 8, 9, 12};
    static const float wanted[] = {1.5f, 1, 3, 2, 3, 6, 7, 8, 7};
    static const float divided[] = {0.5f, 3, 3, 6, 7, 6, 7, 8, 11};
    merge m = arithmetic(3, 3, 2);
    m.base = base;
    m.models[0] = first;
    m.models[1] = second;
    merge_set(&m, "lambda", 0.5);
    merge_set_model(&m, "weight", 1, -2);
    for (int d = 0; d < 3; d++) {
        merge_set(&m, "normalize", 0);
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, wanted);
        merge_set(&m, "normalize", 1);
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, divided);
    }
    merge_free(&m);
}

static merge normalized(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    merge m = arithmetic(n_rows, n_cols, n_models);
    merge_set(&m, "normalize", 1);
    return m;
}

static merge third(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    merge m = arithmetic(n_rows, n_cols, n_models);
    merge_set(&m, "lambda", 1.0 / 3);
    return m;
}

static void order_does_not_matter(void **state)
{
    (void)state;
    property_permuted(arithmetic);
    property_permuted(third);
}

static void properties(void **state)
{
    (void)state;
    property_equal_models(arithmetic);
    property_equal_models(normalized);
    property_one_weight(arithmetic);
    property_scaled(third);
    property_tiles(third);
}

static void nothing_asked_is_the_base(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 9; seed++) {
        merge m = arithmetic(5, 9, 3);
        merge_set(&m, "lambda", 0);
        property_base(&m, seed);
        m = arithmetic(5, 9, 3);
        merge_set(&m, "weight", 0);
        property_base(&m, seed);
        m = arithmetic(5, 9, 2);
        assert_false(lors_method_task_arithmetic.is_base(
            &(lors_call){.n_models = 2, .cells = m.cells}));
    }
}

/* A model that is the base adds nothing, and -0.0 stays -0.0. */
static void a_frozen_model_changes_nothing(void **state)
{
    (void)state;
    static const float base[] = {-0.0f, 0.0f, 1e-40f, 3e38f, -0.02f};
    merge m = arithmetic(1, 5, 2);
    m.base = m.models[0] = m.models[1] = base;
    merge_set_model(&m, "weight", 1, -0.7);
    merge_run(&m, LORS_F32);
    expect_values(&m, base);
    merge_free(&m);
}

/* Fine-tuned bf16 models differ from their base by whole steps of bf16, and recipes hold decimal
 * weights: sums then meet the midpoints of rounding, where the order of f64 additions decides. */
static void order_does_not_matter_at_midpoints(void **state)
{
    (void)state;
    enum { N = 8 * 8 * 8 };
    static const double weights[] = {0.1, 0.3, 0.6, 0.7, 0.2, 0.9};
    float base[N], x[3][N];
    for (int i = 0; i < N; i++) {
        base[i] = 1;
        for (int k = 0, steps = i; k < 3; k++, steps /= 8) {
            x[k][i] = 1 + (float)(steps % 8) * 0x1p-7f;
        }
    }
    int64_t n_different = 0, n_all = 0;
    for (int i = 0; i < 6 * 6 * 6; i += merge_is_slow() ? 25 : 1) {
        double w[] = {weights[i % 6], weights[i / 6 % 6], weights[i / 36]};
        merge m = arithmetic(8, 64, 3), other = arithmetic(8, 64, 3);
        m.base = other.base = base;
        for (int k = 0; k < 3; k++) {
            m.models[k] = other.models[2 - k] = x[k];
            merge_set_model(&m, "weight", k, w[k]);
            merge_set_model(&other, "weight", 2 - k, w[k]);
        }
        merge_run(&m, LORS_BF16);
        merge_run(&other, LORS_BF16);
        for (int at = 0; at < N; at++, n_all++) {
            n_different += m.values[at] != other.values[at];
        }
        merge_free(&m);
        merge_free(&other);
    }
    if (n_different > 0) {
        print_error("%lld of %lld differ\n", (long long)n_different, (long long)n_all);
        fail();
    }
}

static void weights_that_cancel_are_refused(void **state)
{
    (void)state;
    merge m = normalized(1, 1, 2);
    merge_set_model(&m, "weight", 1, -1);
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
    merge_set(&m, "lambda", 0);
    assert_ok(merge_check(&m)); /* the base, whatever the weights */
    m = arithmetic(1, 1, 2);
    merge_set_model(&m, "weight", 1, -1);
    assert_ok(merge_check(&m));
}

static void decimal_weights_that_cancel_are_refused(void **state)
{
    (void)state;
    merge m = normalized(1, 1, 3);
    merge_set_model(&m, "weight", 0, 0.1);
    merge_set_model(&m, "weight", 1, 0.2);
    merge_set_model(&m, "weight", 2, -0.3);
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
}

/* The base in another type: base, no models, acc of zeros. */
static void convert_keeps_the_base(void **state)
{
    (void)state;
    for (int d = 0; d < 3; d++) {
        merge m = merge_of(&lors_method_convert, 7, 9, 0);
        float *base = made_base(63, merge_dtypes[d], 5);
        base[3] = -0.0f;
        m.base = base;
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, base);
        merge_free(&m);
        free(base);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(properties),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(nothing_asked_is_the_base),
        cmocka_unit_test(a_frozen_model_changes_nothing),
        cmocka_unit_test(order_does_not_matter_at_midpoints),
        cmocka_unit_test(weights_that_cancel_are_refused),
        cmocka_unit_test(decimal_weights_that_cancel_are_refused),
        cmocka_unit_test(convert_keeps_the_base),
    };
    return merge_tests("task_arithmetic", tests);
}

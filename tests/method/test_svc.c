/* test_svc.c - singular values calibrated by what each model says in their directions. */
#include "spectral_properties.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

/* Not of the transposed matrix: responses are those of the columns' space. */
static void properties(void **state)
{
    (void)state;
    property_spectral(&lors_method_svc, false);
}

static merge diagonal(const float *models[], int32_t n_models)
{
    static const float base[4] = {0};
    merge m = merge_of(&lors_method_svc, 2, 2, n_models);
    m.base = base;
    memcpy(m.models, models, (size_t)n_models * sizeof *models);
    return m;
}

static void gives(merge *m, double first, double second)
{
    const double wanted[4] = {first, 0, 0, second};
    merge_run(m, LORS_F32);
    expect_update(m, wanted, 1e-14);
}

/* M = diag(6, 1). In the first direction both count for 6 / 3, so gamma = 2 / 4; in the second the
 * one for 1 and the other, which says nothing, for alpha. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float one[4] = {3, 0, 0, 1}, two[4] = {3, 0, 0, 0};
    merge m = diagonal((const float *[]){one, two}, 2);
    gives(&m, 3, 2 / 1.1);
    merge_set(&m, "alpha", 0);
    gives(&m, 3, 2);
    merge_set(&m, "alpha", 5); /* all of them count for 5 */
    gives(&m, 1.2, 0.2);
    merge_set(&m, "alpha", 0.1);
    merge_set_model(&m, "weight", 0, -1); /* M = diag(0, -1): null, and against nobody */
    merge_set_model(&m, "weight", 1, 1);
    gives(&m, 0, -2 / 1.1);
    merge_free(&m);
}

/* M = diag(4, -1), which the model that speaks in the second direction is against. */
static void a_given_merge(void **state)
{
    (void)state;
    static const float one[4] = {3, 0, 0, 1}, two[4] = {3, 0, 0, 0}, merged[4] = {4, 0, 0, -1};
    merge m = diagonal((const float *[]){one, merged, two}, 3);
    merge_set_model(&m, "merged", 1, 1);
    gives(&m, 3, -10);
    merge_set(&m, "alpha", 0); /* nobody is left to count: it stays */
    gives(&m, 3, -1);
    merge_set(&m, "alpha", 0.1);
    merge_set_model(&m, "weight", 0, 0); /* one task is left */
    gives(&m, 3, -10);
    merge_set_model(&m, "weight", 2, 0); /* none is: the merge as it is */
    gives(&m, 4, -1);
    merge_set_model(&m, "weight", 1, 0);
    merge_run(&m, LORS_F32);
    assert_true(m.is_base && m.acc[0] == 0 && m.acc[3] == 0);
    merge_free(&m);
}

/* They change what counts for alpha, and not what is null. */
static void weights_and_lambda_count(void **state)
{
    (void)state;
    static const float one[4] = {3, 0, 0, 1}, two[4] = {3, 0, 0, 0};
    merge m = diagonal((const float *[]){one, two}, 2);
    merge_set(&m, "lambda", 0.5); /* 3 of 3 and 3: 1 each; 0.5 of 1 and 0: 0.5 and 0.1 */
    gives(&m, 3, 1 / 0.6);
    merge_set(&m, "lambda", 1);
    merge_set(&m, "weight", 1e8);
    gives(&m, 3e8, 2e8 / 1.1);
    merge_set(&m, "weight", 1e-8);
    gives(&m, 3e-8, 2e-8 / 1.1);
    merge_free(&m);
}

/* In a model that is no part of M, too. */
static void what_is_no_number_shows(void **state)
{
    (void)state;
    static const float one[4] = {3, 0, NAN, 1}, merged[4] = {4, 0, 0, -1};
    merge m = diagonal((const float *[]){one, merged}, 2);
    merge_set_model(&m, "merged", 1, 1);
    merge_run(&m, LORS_F32);
    for (int i = 0; i < 4; i++) {
        assert_true(isnan(m.acc[i]));
    }
    merge_free(&m);
}

/* One model, and equal ones, whatever lambda is above alpha: that model. */
static void equal_models_are_themselves(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{22, 13}, {13, 22}, {16, 16}};
    for (int i = 0; i < 3; i++) {
        for (int32_t n = 1; n <= 3; n++) {
            int64_t rows = shapes[i][0], cols = shapes[i][1];
            merge m = spectral_merge(&lors_method_svc, rows, cols, n, SYNTH_STEPS, 2);
            double wanted[22 * 22];
            for (int64_t at = 0; at < rows * cols; at++) {
                wanted[at] = (double)m.models[0][at];
                for (int32_t k = 1; k < n; k++) {
                    ((float *)(uintptr_t)m.models[k])[at] = m.models[0][at];
                }
            }
            merge_set(&m, "lambda", 0.6);
            merge_run(&m, LORS_F32);
            expect_update(&m, wanted, 1e-9);
            forget_models(&m);
        }
    }
}

/* x becomes H x, H a reflection: rounded, so that what was zero is so but for rounding. */
static void reflect(float *x, int64_t rows, int64_t cols)
{
    for (int64_t j = 0; j < cols; j++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++) {
            sum += (double)x[i * cols + j];
        }
        for (int64_t i = 0; i < rows; i++) {
            x[i * cols + j] = (float)((double)x[i * cols + j] - 2 * sum / (double)rows);
        }
    }
}

/* Where no model speaks in another's directions each counts once, and the others for alpha. */
static void strangers_only_grow(void **state)
{
    (void)state;
    merge m = spectral_merge(&lors_method_svc, 12, 9, 2, SYNTH_GAUSS, 3);
    double wanted[12 * 9];
    for (int64_t at = 0; at < 12 * 9; at++) {
        int32_t of = at / 9 < 6 && at % 9 < 5 ? 0 : at / 9 >= 6 && at % 9 >= 5 ? 1 : 2;
        for (int32_t k = 0; k < 2; k++) {
            float *x = (float *)(uintptr_t)m.models[k] + at;
            *x = k == of ? *x : 0;
        }
    }
    reflect((float *)(uintptr_t)m.models[0], 12, 9);
    reflect((float *)(uintptr_t)m.models[1], 12, 9);
    for (int64_t at = 0; at < 12 * 9; at++) {
        wanted[at] = 2 / 1.1 * ((double)m.models[0][at] + (double)m.models[1][at]);
    }
    merge_run(&m, LORS_F32);
    expect_update(&m, wanted, 1e-6);
    forget_models(&m);
}

static void what_is_marked_twice_is_refused(void **state)
{
    (void)state;
    merge m = merge_of(&lors_method_svc, 2, 2, 2);
    assert_ok(merge_check(&m));
    merge_set_model(&m, "merged", 0, 1);
    assert_ok(merge_check(&m));
    merge_set_model(&m, "merged", 1, 1);
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "mark only the one"));
    m = merge_of(&lors_method_svc, 2, 2, 1);
    merge_set_model(&m, "merged", 0, 1);
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "list the models"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties),
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(a_given_merge),
        cmocka_unit_test(weights_and_lambda_count),
        cmocka_unit_test(what_is_no_number_shows),
        cmocka_unit_test(equal_models_are_themselves),
        cmocka_unit_test(strangers_only_grow),
        cmocka_unit_test(what_is_marked_twice_is_refused),
    };
    return merge_tests("svc", tests);
}

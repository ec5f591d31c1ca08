/* test_iso_cts.c - directions of the task vectors, all with the same singular value. */
#include "spectral_properties.h"

#include <math.h>

/* Not of the transposed matrix: what is projected off is on the side of the rows. */
static void properties(void **state)
{
    (void)state;
    property_spectral(&lors_method_iso_cts, false);
}

/* diag(3, 1) and diag(1, 1) with weights 1 and 0.5 sum up to diag(3.5, 1.5): the mean is 2.5. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[4] = {0}, one[4] = {3, 0, 0, 1}, two[4] = {1, 0, 0, 1};
    static const double wanted[4] = {5, 0, 0, 5};
    merge m = merge_of(&lors_method_iso_cts, 2, 2, 2);
    m.base = base;
    m.models[0] = one;
    m.models[1] = two;
    merge_set_model(&m, "weight", 1, 0.5);
    merge_set(&m, "lambda", 2);
    merge_set(&m, "common_fraction", 1);
    merge_run(&m, LORS_F32);
    expect_update(&m, wanted, 1e-12);
    merge_free(&m);
}

static void the_spectrum_is_flat(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{25, 25}, {40, 15}, {15, 40}};
    for (int s = 0; s < 3; s++) {
        merge m =
            spectral_merge(&lors_method_iso_cts, shapes[s][0], shapes[s][1], 3, SYNTH_GAUSS, 9);
        merge_run(&m, LORS_F32);
        expect_flat(&m, 1e-9);
        forget_models(&m);
    }
}

/* Of one model the own directions are those that the common ones leave over; and with
 * common_fraction 1 there are no others. */
static void at_both_ends_it_is_iso_c(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{20, 20}, {31, 12}, {12, 31}};
    for (int s = 0; s < 3; s++) {
        for (int32_t n_models = 1; n_models <= 3; n_models += 2) {
            merge m = spectral_merge(&lors_method_iso_cts, shapes[s][0], shapes[s][1], n_models,
                                     SYNTH_STEPS, 12);
            merge iso = spectral_merge(&lors_method_iso_c, shapes[s][0], shapes[s][1], n_models,
                                       SYNTH_STEPS, 12);
            merge_set(&m, "common_fraction", n_models == 1 ? 0.6 : 1);
            merge_run(&m, LORS_F32);
            merge_run(&iso, LORS_F32);
            expect_update(&m, iso.acc, 1e-8);
            forget_models(&m);
            forget_models(&iso);
        }
    }
}

/* The second value is 1.5e-7 of the first, which is rounding: its direction is not made as long as
 * the other, which has the mean of the two values. */
static void what_is_all_but_null_stays_null(void **state)
{
    (void)state;
    static const float base[4] = {0}, model[4] = {1, 0.5f, 2, 1 + 0x1p-20f};
    static const double wanted[4] = {0.5, 0.25, 1, 0.5};
    merge m = merge_of(&lors_method_iso_cts, 2, 2, 1);
    m.base = base;
    m.models[0] = model;
    merge_run(&m, LORS_F32);
    expect_update(&m, wanted, 1e-6);
    merge_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties),
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(the_spectrum_is_flat),
        cmocka_unit_test(at_both_ends_it_is_iso_c),
        cmocka_unit_test(what_is_all_but_null_stays_null),
    };
    return merge_tests("iso_cts", tests);
}

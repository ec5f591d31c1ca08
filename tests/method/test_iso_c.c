/* test_iso_c.c - directions of the task vectors, all with the same singular value. */
#include "spectral_properties.h"

#include <math.h>

static void properties(void **state)
{
    (void)state;
    property_spectral(&lors_method_iso_c, true);
}

/* diag(3, 1) and diag(1, 1) with weights 1 and 0.5 sum up to diag(3.5, 1.5): the mean is 2.5. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[4] = {0}, one[4] = {3, 0, 0, 1}, two[4] = {1, 0, 0, 1};
    static const double wanted[4] = {5, 0, 0, 5};
    merge m = merge_of(&lors_method_iso_c, 2, 2, 2);
    m.base = base;
    m.models[0] = one;
    m.models[1] = two;
    merge_set_model(&m, "weight", 1, 0.5);
    merge_set(&m, "lambda", 2);
    merge_run(&m, LORS_F32);
    expect_update(&m, wanted, 1e-12);
    merge_free(&m);
}

static void the_spectrum_is_flat(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{25, 25}, {40, 15}, {15, 40}};
    for (int s = 0; s < 3; s++) {
        merge m = spectral_merge(&lors_method_iso_c, shapes[s][0], shapes[s][1], 3, SYNTH_GAUSS, 9);
        merge_run(&m, LORS_F32);
        expect_flat(&m, 1e-9);
        forget_models(&m);
    }
}

/* What has no direction gets none: a sum of rank 1 has the mean over all of its two values. */
static void null_directions_stay_null(void **state)
{
    (void)state;
    static const float base[4] = {0}, model[4] = {4, 0, 0, 0};
    static const double wanted[4] = {2, 0, 0, 0};
    merge m = merge_of(&lors_method_iso_c, 2, 2, 1);
    m.base = base;
    m.models[0] = model;
    merge_run(&m, LORS_F32);
    expect_update(&m, wanted, 1e-12);
    merge_free(&m);
}

/* A row and a column have one value, their norm: the mean over it is the norm. */
static void the_mean_is_over_the_short_side(void **state)
{
    (void)state;
    static const float base[2] = {0}, model[2] = {3, 4};
    static const double wanted[2] = {3, 4};
    for (int64_t rows = 1; rows <= 2; rows++) {
        merge m = merge_of(&lors_method_iso_c, rows, 3 - rows, 1);
        m.base = base;
        m.models[0] = model;
        merge_run(&m, LORS_F32);
        expect_update(&m, wanted, 1e-12);
        merge_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties),
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(the_spectrum_is_flat),
        cmocka_unit_test(null_directions_stay_null),
        cmocka_unit_test(the_mean_is_over_the_short_side),
    };
    return merge_tests("iso_c", tests);
}

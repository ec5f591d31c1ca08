/* test_knots.c - TIES on the singular vectors of all task vectors side by side. */
#include "spectral_properties.h"

#include <math.h>

/* Not of the transposed matrix: the vectors are those of the columns. */
static void properties(void **state)
{
    (void)state;
    property_spectral(&lors_method_knots, false);
}

/* Both task vectors are outer products with e1: U S = s e1 with s = |(3, 4, 0, 12)| = 13. In
 * V = (3, 4 | 0, 12) / 13 half of each block is kept, the 4 and the 12, which agree: their mean is
 * 8 / 13, so that 8 comes back; with weights 1 and -1 the 12 wins, over its weight. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[4] = {0}, one[4] = {3, 4, 0, 0}, two[4] = {0, 12, 0, 0};
    static const double mean[4] = {0, 8, 0, 0}, one_sign[4] = {0, 12, 0, 0};
    merge m = merge_of(&lors_method_knots, 2, 2, 2);
    m.base = base;
    m.models[0] = one;
    m.models[1] = two;
    merge_set(&m, "density", 0.5);
    merge_run(&m, LORS_F32);
    expect_update(&m, mean, 1e-6);
    merge_set_model(&m, "weight", 1, -1);
    merge_run(&m, LORS_F32);
    expect_update(&m, one_sign, 1e-6);
    merge_free(&m);
}

/* Of one model all that is kept comes back. */
static void all_of_one_model_is_the_model(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{20, 20}, {31, 12}, {12, 31}};
    for (int s = 0; s < 3; s++) {
        merge m = spectral_merge(&lors_method_knots, shapes[s][0], shapes[s][1], 1, SYNTH_GAUSS, 4);
        merge plain = spectral_merge(&lors_method_task_arithmetic, shapes[s][0], shapes[s][1], 1,
                                     SYNTH_GAUSS, 4);
        merge_set(&m, "density", 1);
        merge_run(&m, LORS_F32);
        merge_run(&plain, LORS_F32);
        expect_update(&m, plain.acc, 1e-6);
        forget_models(&m);
        forget_models(&plain);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties),
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(all_of_one_model_is_the_model),
    };
    return merge_tests("knots", tests);
}

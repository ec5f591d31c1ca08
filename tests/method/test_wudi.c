/* test_wudi.c - the update that least disturbs any model on its own inputs. */
#include "spectral_properties.h"

#include <math.h>

/* Not of the transposed matrix: inputs are on the side of the columns. */
static void properties(void **state)
{
    (void)state;
    property_spectral(&lors_method_wudi, false);
}

/* Rows (2, 0) and (1, 1): G = diag(1, 0) + [1 1; 1 1] / 2. Without a ridge T agrees with both:
 * T (1, 0)' = 2 and T (1, 1)' = 2 give T = (2, 0). With ridge 2, rho = 2: T (G + 2) =
 * (2, 0) + (1, 1) + 2 (3, 1), so T = (9, 3) [3.5 0.5; 0.5 2.5]^-1 = (21, 6) / 8.5. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[2] = {0}, one[2] = {2, 0}, two[2] = {1, 1};
    static const double agreed[2] = {2, 0}, held[2] = {21 / 8.5, 6 / 8.5};
    merge m = merge_of(&lors_method_wudi, 1, 2, 2);
    m.base = base;
    m.models[0] = one;
    m.models[1] = two;
    merge_set(&m, "ridge", 0);
    merge_run(&m, LORS_F32);
    expect_update(&m, agreed, 1e-9);
    merge_set(&m, "ridge", 2);
    merge_run(&m, LORS_F32);
    expect_update(&m, held, 1e-12);
    merge_free(&m);
}

/* One model is undisturbed by itself; a huge ridge is task arithmetic. */
static void at_both_ends(void **state)
{
    (void)state;
    merge m = spectral_merge(&lors_method_wudi, 22, 13, 1, SYNTH_STEPS, 2);
    merge plain = spectral_merge(&lors_method_task_arithmetic, 22, 13, 1, SYNTH_STEPS, 2);
    merge_run(&m, LORS_F32);
    merge_run(&plain, LORS_F32);
    expect_update(&m, plain.acc, 1e-10);
    forget_models(&m);
    forget_models(&plain);
    m = spectral_merge(&lors_method_wudi, 22, 13, 3, SYNTH_STEPS, 2);
    plain = spectral_merge(&lors_method_task_arithmetic, 22, 13, 3, SYNTH_STEPS, 2);
    merge_set(&m, "ridge", 1e9);
    merge_run(&m, LORS_F32);
    merge_run(&plain, LORS_F32);
    expect_update(&m, plain.acc, 1e-6);
    forget_models(&m);
    forget_models(&plain);
}

/* With a factor and with eigenvalues, where both will do. */
static void both_ways_agree(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{22, 13}, {13, 22}, {16, 16}};
    for (int i = 0; i < 3; i++) {
        merge m = spectral_merge(&lors_method_wudi, shapes[i][0], shapes[i][1], 3, SYNTH_GAUSS, 2);
        merge other =
            spectral_merge(&lors_method_wudi, shapes[i][0], shapes[i][1], 3, SYNTH_GAUSS, 2);
        other.unsolved = true;
        merge_set_model(&m, "weight", 1, -0.5);
        merge_set_model(&other, "weight", 1, -0.5);
        merge_run(&m, LORS_F32);
        merge_run(&other, LORS_F32);
        expect_update(&m, other.acc, 1e-12);
        forget_models(&m);
        forget_models(&other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties),
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(at_both_ends),
        cmocka_unit_test(both_ways_agree),
    };
    return merge_tests("wudi", tests);
}

/* test_star.c - task vectors cut to their leading singular values, and rescaled. */
#include "spectral_properties.h"

#include <math.h>

static void properties(void **state)
{
    (void)state;
    property_spectral(&lors_method_star, true);
}

/* diag(4, 3, 1): half of the sum 8 is held by one value, which is doubled; 0.7 by two, times 8/7;
 * with lambda 0.5 and weight 2. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[9] = {0}, model[9] = {4, 0, 0, 0, 3, 0, 0, 0, 1};
    static const struct {
        double eta, diagonal[3];
    } rows[] = {{0, {0, 0, 0}}, {50, {8, 0, 0}}, {70, {32. / 7, 24. / 7, 0}}, {100, {4, 3, 1}}};
    for (size_t row = 0; row < 4; row++) {
        double wanted[9] = {0};
        merge m = merge_of(&lors_method_star, 3, 3, 1);
        m.base = base;
        m.models[0] = model;
        merge_set(&m, "lambda", 0.5);
        merge_set(&m, "weight", 2);
        merge_set(&m, "eta", rows[row].eta);
        merge_run(&m, LORS_F32);
        for (int i = 0; i < 3; i++) {
            wanted[4 * i] = rows[row].diagonal[i];
        }
        expect_update(&m, wanted, 1e-12);
        merge_free(&m);
    }
}

static void all_of_it_is_task_arithmetic(void **state)
{
    (void)state;
    merge m = spectral_merge(&lors_method_star, 21, 13, 3, SYNTH_GAUSS, 2);
    merge plain = spectral_merge(&lors_method_task_arithmetic, 21, 13, 3, SYNTH_GAUSS, 2);
    merge_set(&m, "eta", 100);
    merge_set(&plain, "lambda", 1. / 3);
    merge_run(&m, LORS_F32);
    merge_run(&plain, LORS_F32);
    expect_update(&m, plain.acc, 1e-12);
    forget_models(&m);
    forget_models(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties),
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(all_of_it_is_task_arithmetic),
    };
    return merge_tests("star", tests);
}

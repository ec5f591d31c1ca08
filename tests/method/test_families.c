/* test_families.c - what must hold of the methods that are rows of a table, over many seeds: the
 * order of the models, the scale of the numbers, the tiles, what leaves the base. Their formulas
 * are checked in tests/formulas. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const lors_method_def *made_of; /* which method the makers below make */

static merge plain(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    return merge_of(made_of, n_rows, n_cols, n_models);
}

/* Parameters that leave something out. */
static merge busy(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    merge m = plain(n_rows, n_cols, n_models);
    static const struct {
        const char *name;
        double value;
    } values[] = {{"density", 0.4}, {"gamma", 0.1},       {"epsilon", 0.2}, {"lambda", 0.7},
                  {"t", 0.01},      {"select_topk", 0.5}, {"rescale", 1},   {"threshold", 0.3}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (lors_method_param(&made_of->info, values[i].name) >= 0) {
            merge_set(&m, values[i].name, values[i].value);
        }
    }
    return m;
}

static bool has_weights(void)
{
    return lors_method_param(&made_of->info, "weight") >= 0;
}

/* Tiles of whole rows, in any order: 96 columns divide LORS_BLOCK times 3. */
static void tiles_of_rows(void)
{
    for (uint64_t i = 0; i < 4; i++) {
        merge m = busy(600, 96, 3);
        give_models(&m, LORS_F32, i + 150);
        merge other = m;
        other.tile = (int64_t)LORS_BLOCK * (i % 2 ? 3 : 6);
        other.backwards = i % 2;
        expect_same_bytes(&m, &other, LORS_F32);
        merge_free(&other);
        forget_models(&m);
    }
}

static merge one_model(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    (void)n_models;
    return busy(n_rows, n_cols, 1);
}

static merge two_models(int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    (void)n_models;
    return busy(n_rows, n_cols, 2);
}

static merge_maker maker_of(const lors_method_def *def)
{
    return def->info.max_models == 1 ? one_model : def->info.max_models == 2 ? two_models : busy;
}

/* --- whatever the method ---------------------------------------------------------------------- */

static const lors_method_def *const all[] = {
    &lors_method_dare_linear,
    &lors_method_dare_ties,
    &lors_method_della,
    &lors_method_della_linear,
    &lors_method_breadcrumbs,
    &lors_method_breadcrumbs_ties,
    &lors_method_sce,
    &lors_method_nuslerp,
    &lors_method_multislerp,
    &lors_method_karcher,
    &lors_method_model_stock,
    &lors_method_metagpt,
    &lors_method_geometric_median,
    &lors_method_nearswap,
    &lors_method_ram,
    &lors_method_ramplus_tl,
    &lors_method_magmax,
    &lors_method_consensus,
    &lors_method_emr,
};
enum { N_ALL = sizeof all / sizeof *all };

static bool is_random(const lors_method_def *def)
{
    return strncmp(def->info.name, "dare", 4) == 0 || strncmp(def->info.name, "della", 5) == 0;
}

static void tiles_change_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < N_ALL; i++) {
        made_of = all[i];
        if (made_of->by_rows) {
            tiles_of_rows();
        } else {
            property_tiles(maker_of(made_of));
        }
    }
}

/* Numbers that are limits themselves, t and epsilon, are left at 0 or small here. */
static void scaled_models_give_a_scaled_result(void **state)
{
    (void)state;
    for (int i = 0; i < N_ALL; i++) {
        made_of = all[i];
        bool has_limit = made_of == &lors_method_nearswap || made_of == &lors_method_ram ||
                         made_of == &lors_method_ramplus_tl;
        if (!has_limit && made_of->info.max_models == 0) {
            property_scaled(busy);
        }
    }
}

/* Masks of random methods belong to places in the list. Coefficients of angles are found in f64 in
 * an order: the models' results may differ in a last bit, so that these are not asked. */
static void order_of_models_does_not_matter(void **state)
{
    (void)state;
    for (int i = 0; i < N_ALL; i++) {
        made_of = all[i];
        bool sums = made_of->info.max_models == 0 && !is_random(made_of);
        if (sums && has_weights()) {
            property_permuted(busy);
        }
    }
}

static void equal_models_give_that_model(void **state)
{
    (void)state;
    static const lors_method_def *const means[] = {&lors_method_multislerp, &lors_method_karcher,
                                                   &lors_method_geometric_median,
                                                   &lors_method_della, &lors_method_dare_linear};
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
        made_of = means[i];
        property_equal_models(plain); /* density 1: nothing is left out */
    }
}

static void no_weight_is_the_base(void **state)
{
    (void)state;
    for (int i = 0; i < N_ALL; i++) {
        made_of = all[i];
        if (made_of->is_base && has_weights() && lors_method_param(&made_of->info, "lambda") >= 0) {
            merge m = busy(5, 9, 3);
            merge_set(&m, "weight", 0);
            property_base(&m, 3);
            m = busy(5, 9, 3);
            merge_set(&m, "lambda", 0);
            property_base(&m, 4);
        }
    }
}

/* Models that all equal the base. */
static void unchanged_models_give_the_base(void **state)
{
    (void)state;
    for (int i = 0; i < N_ALL; i++) {
        made_of = all[i];
        if (!made_of->info.needs_base) {
            continue;
        }
        merge m = maker_of(made_of)(9, 14, 3);
        float *base = made_base(9 * 14, LORS_F32, 77);
        m.base = base;
        for (int32_t k = 0; k < m.n_models; k++) {
            m.models[k] = base;
        }
        merge_run(&m, LORS_F32);
        expect_values(&m, base);
        merge_free(&m);
        free(base);
    }
}

/* --- random ----------------------------------------------------------------------------------- */

/* The same seed gives the same masks, another one others; so do the places of the models. */
static void masks_belong_to_the_seed(void **state)
{
    (void)state;
    for (int i = 0; i < N_ALL; i++) {
        made_of = all[i];
        if (!is_random(made_of)) {
            continue;
        }
        merge m = busy(40, 50, 2);
        give_models(&m, LORS_F32, 9);
        memcpy((void *)(uintptr_t)m.models[1], m.models[0], 40 * 50 * sizeof(float));
        merge other = m, again = m, swapped = m;
        other.seed = 1;
        merge_set_model(&swapped, "weight", 0, 0);
        merge only_first = m;
        merge_set_model(&only_first, "weight", 1, 0);
        merge_run(&m, LORS_F32);
        merge_run(&again, LORS_F32);
        merge_run(&other, LORS_F32);
        merge_run(&swapped, LORS_F32);
        merge_run(&only_first, LORS_F32);
        size_t n_bytes = 40 * 50 * sizeof(float);
        assert_memory_equal(m.values, again.values, n_bytes);
        assert_memory_not_equal(m.values, other.values, n_bytes);
        assert_memory_not_equal(swapped.values, only_first.values, n_bytes);
        merge_free(&again);
        merge_free(&other);
        merge_free(&swapped);
        merge_free(&only_first);
        forget_models(&m);
    }
}

static void everything_kept_is_the_sum(void **state)
{
    (void)state;
    made_of = &lors_method_della_linear;
    merge dense = plain(20, 30, 3), sum = merge_of(&lors_method_task_arithmetic, 20, 30, 3);
    give_models(&dense, LORS_F32, 5);
    set_three_weights(&dense);
    set_three_weights(&sum);
    sum.base = dense.base;
    memcpy(sum.models, dense.models, sizeof sum.models);
    expect_same_bytes(&dense, &sum, LORS_F32);
    assert_ptr_equal(dense.def->instead(
                         &(lors_call){.n_models = 3, .cells = dense.cells, .row = dense.def->row}),
                     &lors_method_task_arithmetic);
    merge_free(&sum);
    forget_models(&dense);
}

/* --- a chain ---------------------------------------------------------------------------------- */

/* Steps of a chain without a decomposition are the methods that have their names. */
static void chains_are_the_named_methods(void **state)
{
    (void)state;
    static const struct {
        double sparsify, combine;
        const lors_method_def *def;
    } steps[] = {{1, 1, &lors_method_ties},
                 {2, 0, &lors_method_breadcrumbs},
                 {2, 1, &lors_method_breadcrumbs_ties},
                 {3, 0, &lors_method_dare_linear},
                 {3, 1, &lors_method_dare_ties},
                 {4, 0, &lors_method_della_linear},
                 {4, 1, &lors_method_della},
                 {0, 1, &lors_method_ties}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        merge m = merge_of(&lors_method_chain, 4, 5, 2);
        merge_set(&m, "sparsify", steps[i].sparsify);
        merge_set(&m, "combine", steps[i].combine);
        lors_call call = {.n_models = 2, .cells = m.cells, .is_layer_matrix = true};
        assert_ptr_equal(lors_method_chain.instead(&call), steps[i].def);
        merge_set(&m, "decompose", 1);
        assert_null(lors_method_chain.instead(&call));
        call.is_layer_matrix = false;
        assert_ptr_equal(lors_method_chain.instead(&call), steps[i].def);
    }
    merge m = merge_of(&lors_method_chain, 4, 5, 2);
    assert_int_equal(merge_check(&m), LORS_OK);
    merge_set(&m, "density", 0.5); /* for a sparsify that is not there */
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE);
}

static void probabilities_that_leave_their_range(void **state)
{
    (void)state;
    made_of = &lors_method_della;
    merge m = plain(4, 5, 2);
    merge_set(&m, "density", 0.9);
    merge_set(&m, "epsilon", 0.2);
    assert_int_equal(merge_check(&m), LORS_OK); /* they are cut */
    m.compat = true;
    assert_int_equal(merge_check(&m), LORS_ERR_RECIPE); /* mergekit ends with an error */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_change_nothing),
        cmocka_unit_test(scaled_models_give_a_scaled_result),
        cmocka_unit_test(order_of_models_does_not_matter),
        cmocka_unit_test(equal_models_give_that_model),
        cmocka_unit_test(no_weight_is_the_base),
        cmocka_unit_test(unchanged_models_give_the_base),
        cmocka_unit_test(masks_belong_to_the_seed),
        cmocka_unit_test(everything_kept_is_the_sum),
        cmocka_unit_test(chains_are_the_named_methods),
        cmocka_unit_test(probabilities_that_leave_their_range),
    };
    return merge_tests("families", tests);
}

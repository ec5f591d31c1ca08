/* test_merge.c - what must hold for every merge, whatever the numbers: no oracle is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run_models.h"

enum { SEEDS = 3 };

static const lors_dtype dtypes[] = {LORS_F32, LORS_F16, LORS_BF16};

/* folders b (base), m, n, o of one family; m, n, o are tuned from b by these scales. */
static void write_family(lors_dtype dtype, uint64_t seed, double scale)
{
    static const char *const folders[] = {"m", "n", "o"};
    rm_model *base = rm_whisper(dtype, seed);
    rm_write(base, "b", 1);
    for (uint64_t i = 0; i < 3; i++) {
        rm_model *model = rm_clone(base);
        rm_tune(model, seed * 10 + i, scale);
        rm_write(model, folders[i], 1);
        rm_free(model);
    }
    rm_free(base);
}

#define THREE_EQUAL(a, b, c)                                                               \
    "models: [{model: m, parameters: {weight: " a "}}, {model: n, parameters: {weight: " b \
    "}}, {model: o, parameters: {weight: " c "}}]\n"

/* --- equal models ----------------------------------------------------------------------------- */

#define TWO_EQUAL \
    "models:\n- {model: n, parameters: {weight: 1}}\n- {model: o, parameters: {weight: 2}}\n"

static const char *const average_recipes[] = {
    "merge_method: nuslerp\nparameters: {nuslerp_flatten: false}\n" TWO_EQUAL,
    "merge_method: nuslerp\nparameters: {nuslerp_flatten: false, nuslerp_row_wise: "
    "true}\n" TWO_EQUAL,
    "merge_method: nuslerp\nbase_model: b\nparameters: {nuslerp_flatten: false}\n" TWO_EQUAL,
    "merge_method: nuslerp\nbase_model: b\nparameters: {nuslerp_flatten: false, nuslerp_row_wise: "
    "true}\n" TWO_EQUAL,
    "merge_method: linear\n" THREE_EQUAL("0.3", "0.7", "0.1"),
    "merge_method: linear\nbase_model: b\n" THREE_EQUAL("1", "1", "1"),
    "merge_method: linear\nparameters: {normalize: false}\n" THREE_EQUAL("0.25", "0.25", "0.5"),
    "merge_method: task_arithmetic\nbase_model: b\nparameters: {normalize: true}\n" THREE_EQUAL(
        "0.3", "0.7", "0.1"),
    "merge_method: task_arithmetic\nbase_model: b\n" THREE_EQUAL("1e17", "1", "-1e17"),
    "merge_method: ties\nbase_model: b\n" THREE_EQUAL("0.3", "0.7", "0.1"),
    "merge_method: lors\nbase_model: b\nparameters: {density: 1}\n" THREE_EQUAL("1", "1", "1"),
    "merge_method: lors\nbase_model: b\nparameters: {rank: 8, density: 0}\n" THREE_EQUAL("1", "1",
                                                                                        "1"),
};

/* m, n and o become copies of m; the sinusoid and the integers are the base's anyway. */
static void make_equal(void)
{
    rm_model *base = rm_read("b"), *model = rm_read("m");
    for (int i = 0; i < model->n; i++) {
        rm_tensor *tensor = &model->tensors[i];
        if (!lors_dtype_merges(tensor->dtype)) {
            memcpy(tensor->bytes, rm_get(base, tensor->name)->bytes, (size_t)tensor->n_bytes);
        }
    }
    rm_write(model, "m", 1);
    rm_write(model, "n", 1);
    rm_write(model, "o", 1);
    rm_free(model);
    rm_free(base);
}

static void test_equal_models(void **unused)
{
    (void)unused;
    for (int i = 0; i < 3 * SEEDS; i++) {
        write_family(dtypes[i % 3], (uint64_t)i, i % 2 ? 1e-2 : 0.5);
        make_equal();
        for (size_t r = 0; r < sizeof average_recipes / sizeof *average_recipes; r++) {
            rm_merge_ok(average_recipes[r], "out", NULL);
            assert_true(rm_same_folders("out", "m"));
        }
        rm_merge_ok("merge_method: slerp\nbase_model: m\nmodels: [{model: n}]\n"
                    "parameters: {t: 0.3}\n", "out", NULL);
        assert_true(rm_same_folders("out", "m"));
    }
}

/* A weight that training carried far from the base's, as some among a billion are: to almost zero.
 * In f64, base + (model - base) has then lost the model's last digits. */
static void test_equal_models_far_from_the_base(void **unused)
{
    (void)unused;
    write_family(LORS_F32, 1, 1e-2);
    rm_model *base = rm_read("b"), *model = rm_read("m");
    rm_tensor *from = rm_get(base, "model.decoder.layers.0.fc1.weight");
    rm_tensor *to = rm_get(model, "model.decoder.layers.0.fc1.weight");
    for (uint64_t i = 0; i < to->n; i++) {
        rm_set(from, i, 0.02);
        rm_set(to, i, 1.2345678e-12 * (double)(i + 1));
    }
    rm_write(base, "b", 1);
    rm_write(model, "m", 1);
    make_equal();
    for (size_t r = 0; r < sizeof average_recipes / sizeof *average_recipes; r++) {
        rm_merge_ok(average_recipes[r], "out", NULL);
        if (!rm_same_folders("out", "m")) {
            fprintf(stderr, "%s", average_recipes[r]);
            fail();
        }
    }
    rm_free(base);
    rm_free(model);
}

/* Minus zero is a value of its own in "bit for bit". */
static void test_equal_models_with_minus_zero(void **unused)
{
    (void)unused;
    write_family(LORS_F16, 1, 1e-2);
    rm_model *model = rm_read("m");
    rm_set(rm_get(model, "model.decoder.layers.0.fc1.weight"), 3, -0.0);
    rm_write(model, "m", 1);
    make_equal();
    for (size_t r = 0; r < sizeof average_recipes / sizeof *average_recipes; r++) {
        rm_merge_ok(average_recipes[r], "out", NULL);
        if (!rm_same_folders("out", "m")) {
            fprintf(stderr, "%s", average_recipes[r]);
            fail();
        }
    }
    rm_free(model);
}

/* --- weights ---------------------------------------------------------------------------------- */

static void test_weight_one_and_zero(void **unused)
{
    static const char *const recipes[] = {
        "merge_method: linear\n" THREE_EQUAL("0", "1", "0"),
        "merge_method: linear\nbase_model: b\n" /* the base is only a donor here */
        "parameters: {normalize: false}\n" THREE_EQUAL("0", "1", "0"),
        "merge_method: task_arithmetic\nbase_model: b\n" THREE_EQUAL("0", "1", "0"),
        "merge_method: ties\nbase_model: b\n" THREE_EQUAL("0", "1", "0"),
        "merge_method: lors\nbase_model: b\nparameters: {density: 1, lambda: 1}\n" THREE_EQUAL(
            "0", "1", "0"),
        "merge_method: lors\nbase_model: b\nparameters: {rank: 100, lambda: 1}\n" THREE_EQUAL(
            "0", "1", "0"),
        "merge_method: slerp\nbase_model: b\nmodels: [{model: n}]\nparameters: {t: 1}\n",
    };
    (void)unused;
    for (int i = 0; i < 3 * SEEDS; i++) {
        write_family(dtypes[i % 3], 40 + (uint64_t)i, 0.01);
        for (size_t r = 0; r < sizeof recipes / sizeof *recipes; r++) {
            rm_merge_ok(recipes[r], "out", NULL);
            assert_true(rm_same_folders("out", "n"));
        }
    }
}

static void test_nothing_is_added(void **unused)
{
    static const char *const recipes[] = {
        "merge_method: task_arithmetic\nbase_model: b\nparameters: {lambda: 0}\n" THREE_EQUAL(
            "1", "1", "1"),
        "merge_method: task_arithmetic\nbase_model: b\n" THREE_EQUAL("0", "0", "0"),
        "merge_method: task_arithmetic\nbase_model: b\n"
        "parameters: {lambda: 0, normalize: true}\n" THREE_EQUAL("1", "-1", "0"),
        "merge_method: ties\nbase_model: b\nparameters: {lambda: 0}\n" THREE_EQUAL("1", "1", "1"),
        "merge_method: ties\nbase_model: b\nparameters: {density: 0}\n" THREE_EQUAL("1", "1", "1"),
        "merge_method: lors\nbase_model: b\nparameters: {lambda: 0}\n" THREE_EQUAL("1", "1", "1"),
        "merge_method: lors\nbase_model: b\n"
        "parameters: {rank: 0, density: 0, outside: base}\n" THREE_EQUAL("1", "1", "1"),
        "merge_method: slerp\nbase_model: b\nmodels: [{model: n}]\nparameters: {t: 0}\n",
    };
    (void)unused;
    write_family(LORS_F32, 60, 0.01);
    rm_model *base = rm_read("b");
    rm_tensor *odd = rm_get(base, "model.decoder.layers.1.fc2.weight");
    rm_set(odd, 0, -0.0);
    rm_set(odd, 1, 1e-42); /* subnormal */
    rm_set(odd, 2, 3e38);
    rm_write(base, "b", 1);
    for (size_t r = 0; r < sizeof recipes / sizeof *recipes; r++) {
        rm_merge_ok(recipes[r], "out", NULL);
        if (!rm_same_folders("out", "b")) {
            fprintf(stderr, "%s", recipes[r]);
            fail();
        }
    }
    rm_free(base);
}

/* Full rank or density 1 is task arithmetic, to the bit. */
static void test_lors_at_its_ends(void **unused)
{
    static const char *const ends[] = {"rank: 8", "rank: 4, density: 1", "rank: \"100%\"",
                                       "rank: 1000000000, density: 0"};
    (void)unused;
    write_family(LORS_F16, 70, 0.02);
    rm_merge_ok("merge_method: task_arithmetic\nbase_model: b\nparameters: {lambda: 0.4}\n"
                THREE_EQUAL("1", "-0.5", "0.3"), "plain", NULL);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char recipe[512];
        snprintf(recipe, sizeof recipe,
                 "merge_method: lors\nbase_model: b\nparameters: {lambda: 0.4, %s}\n%s", ends[i],
                 THREE_EQUAL("1", "-0.5", "0.3"));
        rm_merge_ok(recipe, "out", NULL);
        assert_true(rm_same_folders("out", "plain"));
    }
}

/* Merge in three orders of the models. Weights wN are those of m, n and o. */
static void check_permutations(const char *w1, const char *w2, const char *w3)
{
    static const char *const heads[] = {
        "merge_method: linear\n",
        "merge_method: task_arithmetic\nbase_model: b\nparameters: {lambda: 0.7}\n",
        "merge_method: ties\nbase_model: b\nparameters: {density: 0.4}\n",
        "merge_method: lors\nbase_model: b\nparameters: {density: 1, lambda: 0.5}\n"};
    static const int orders[3][3] = {{0, 1, 2}, {2, 0, 1}, {1, 0, 2}};
    static const char *const folders[] = {"m", "n", "o"};
    const char *const weights[] = {w1, w2, w3};
    for (int i = 0; i < 12; i++) {
        char recipe[512];
        write_family(dtypes[i % 3], 80 + (uint64_t)i, 0.02);
        for (int k = 0; k < 3; k++) {
            const int *at = orders[k];
            snprintf(recipe, sizeof recipe,
                     "%smodels: [{model: %s, parameters: {weight: %s}}, {model: %s, parameters: "
                     "{weight: %s}}, {model: %s, parameters: {weight: %s}}]\n",
                     heads[i / 3], folders[at[0]], weights[at[0]], folders[at[1]], weights[at[1]],
                     folders[at[2]], weights[at[2]]);
            rm_merge_ok(recipe, k ? "out" : "first", NULL);
            if (k > 0 && !rm_same_folders("out", "first")) {
                fprintf(stderr, "%s", recipe);
                fail();
            }
        }
    }
}

static void test_permuted_models(void **unused)
{
    (void)unused;
    check_permutations("0.5", "1.25", "-0.75");
}

/* Decimal weights: results half way between two stored values are common then, for example where
 * (3 m + 11 n - 7 o) / 7 is, and what f64 sums lose decides which way they go. */
static void test_permuted_models_decimal_weights(void **unused)
{
    (void)unused;
    check_permutations("0.3", "1.1", "-0.7");
}

static void scale_folder(const char *folder, double factor)
{
    rm_model *model = rm_read(folder);
    for (int i = 0; i < model->n; i++) {
        rm_tensor *tensor = &model->tensors[i];
        for (uint64_t at = 0; lors_dtype_merges(tensor->dtype) && at < tensor->n; at++) {
            rm_set(tensor, at, rm_value(tensor, at) * factor);
        }
    }
    rm_write(model, folder, 1);
    rm_free(model);
}

static void test_scaled_by_a_power_of_two(void **unused)
{
    static const char *const recipes[] = {
        "merge_method: linear\n" THREE_EQUAL("0.3", "0.7", "0.1"),
        "merge_method: task_arithmetic\nbase_model: b\n" THREE_EQUAL("0.3", "0.7", "-0.1"),
        "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" THREE_EQUAL("0.3", "0.7",
                                                                                     "0.1"),
        "merge_method: slerp\nbase_model: b\nmodels: [{model: n}]\nparameters: {t: 0.4}\n",
        "merge_method: lors\nbase_model: b\nparameters: {density: 0.3, rank: 0}\n" THREE_EQUAL(
            "0.3", "0.7", "0.1"),
    };
    static const double factors[] = {0x1p40, 0x1p-60, 0x1p80};
    (void)unused;
    for (size_t r = 0; r < sizeof recipes / sizeof *recipes; r++) {
        for (size_t f = 0; f < 3; f++) {
            write_family(f == 2 ? LORS_BF16 : LORS_F32, 100 + f, 0.02);
            rm_merge_ok(recipes[r], "plain", NULL);
            const char *const folders[] = {"b", "m", "n", "o", "plain"};
            for (int i = 0; i < 5; i++) {
                scale_folder(folders[i], factors[f]);
            }
            rm_merge_ok(recipes[r], "out", NULL);
            assert_true(rm_same_folders("out", "plain"));
        }
    }
}

/* --- how the bytes lie ------------------------------------------------------------------------ */

static const char *const some_recipes[] = {
    "merge_method: linear\n" THREE_EQUAL("0.3", "0.7", "0.1"),
    "merge_method: task_arithmetic\nbase_model: b\n" THREE_EQUAL("0.3", "0.7", "-0.1"),
    "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" THREE_EQUAL("0.3", "0.7",
                                                                                 "0.1"),
    "merge_method: slerp\nbase_model: b\nmodels: [{model: n}]\nparameters: {t: 0.4}\n",
    "merge_method: lors\nbase_model: b\nparameters: {density: 0.3, rank: 3}\n" THREE_EQUAL(
        "0.3", "0.7", "0.1"),
};

static void reverse(rm_model *model)
{
    for (int i = 0; i < model->n / 2; i++) {
        rm_tensor swap = model->tensors[i];
        model->tensors[i] = model->tensors[model->n - 1 - i];
        model->tensors[model->n - 1 - i] = swap;
    }
}

static void test_sharded_inputs(void **unused)
{
    static const char *const folders[] = {"b", "m", "n", "o"};
    (void)unused;
    for (size_t r = 0; r < sizeof some_recipes / sizeof *some_recipes; r++) {
        write_family(LORS_F16, 120 + r, 0.02);
        rm_merge_ok(some_recipes[r], "plain", NULL);
        for (int i = 0; i < 4; i++) {
            rm_model *model = rm_read(folders[i]);
            if (i % 2) {
                reverse(model);
            }
            rm_write(model, folders[i], 7 - 2 * i);
            rm_free(model);
        }
        rm_merge_ok(some_recipes[r], "out", NULL);
        assert_true(rm_same_files("out/model.safetensors", "plain/model.safetensors"));
    }
}

static void test_sharded_output(void **unused)
{
    static const uint64_t limits[] = {1, 200, 1000, 5000, 1 << 30};
    (void)unused;
    write_family(LORS_BF16, 130, 0.02);
    for (size_t r = 0; r < sizeof some_recipes / sizeof *some_recipes; r++) {
        rm_merge_ok(some_recipes[r], "plain", NULL);
        for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
            rm_options options = RM_OPTIONS_INIT;
            options.plan.max_shard_bytes = limits[i];
            options.run.verify = true;
            rm_merge_ok(some_recipes[r], "out", &options);
            assert_true(rm_same_folders("out", "plain"));
            RM_OK(lors_verify("out", NULL, NULL));
            assert_int_equal(rm_exists("out/model.safetensors.index.json"), limits[i] < 1 << 30);
            assert_int_equal(rm_exists("out/model.safetensors"), limits[i] >= 1 << 30);
        }
    }
}

/* The same values in other types of the inputs give the same output. */
static void test_types_of_inputs(void **unused)
{
    static const char *const folders[] = {"m", "n", "o"};
    (void)unused;
    for (size_t r = 0; r < sizeof some_recipes / sizeof *some_recipes; r++) {
        rm_options options = RM_OPTIONS_INIT;
        options.plan.out_dtype = "f32";
        write_family(LORS_F32, 140 + r, 0.05);
        for (int pass = 0; pass < 2; pass++) {
            for (int i = 0; i < 4; i++) {
                const char *folder = i < 3 ? folders[i] : "b";
                rm_model *model = rm_read(folder);
                if (pass == 0) {
                    rm_make_coarse(model);
                } else {
                    rm_cast(model, dtypes[(i + 1) % 3]);
                }
                rm_write(model, folder, 1);
                rm_free(model);
            }
            rm_merge_ok(some_recipes[r], pass ? "out" : "plain", &options);
        }
        assert_true(rm_same_files("out/model.safetensors", "plain/model.safetensors"));
    }
}

/* A plan may be run again; the second run gives the same bytes. */
static void test_plan_run_twice(void **unused)
{
    (void)unused;
    write_family(LORS_F32, 150, 0.02);
    for (size_t r = 0; r < sizeof some_recipes / sizeof *some_recipes; r++) {
        lors_recipe *recipe = NULL;
        lors_plan *plan = NULL;
        const char *text = some_recipes[r];
        rm_remove("one");
        rm_remove("two");
        RM_OK(lors_recipe_parse("recipe", text, strlen(text), NULL, &recipe));
        RM_OK(lors_plan_create(recipe, NULL, &plan));
        RM_OK(lors_run(plan, "one", NULL, NULL));
        RM_OK(lors_run(plan, "two", NULL, NULL));
        lors_plan_free(plan);
        lors_recipe_free(recipe);
        assert_true(rm_same_files("one/model.safetensors", "two/model.safetensors"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_models),
        cmocka_unit_test(test_equal_models_far_from_the_base),
        cmocka_unit_test(test_equal_models_with_minus_zero),
        cmocka_unit_test(test_weight_one_and_zero),
        cmocka_unit_test(test_nothing_is_added),
        cmocka_unit_test(test_lors_at_its_ends),
        cmocka_unit_test(test_permuted_models),
        cmocka_unit_test(test_permuted_models_decimal_weights),
        cmocka_unit_test(test_scaled_by_a_power_of_two),
        cmocka_unit_test(test_sharded_inputs),
        cmocka_unit_test(test_sharded_output),
        cmocka_unit_test(test_types_of_inputs),
        cmocka_unit_test(test_plan_run_twice),
    };
    rm_work_in("merge-work");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

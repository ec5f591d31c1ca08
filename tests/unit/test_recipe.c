/* test_recipe.c - good recipes, read and built: what they come to for each tensor. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <lors/recipe.h>

#include "base/memory.h"
#include "recipe/recipe_internal.h"

static lors_recipe *parse_in(const char *text, const char *folder)
{
    lors_recipe *recipe = NULL;
    if (lors_recipe_parse("r.yaml", text, strlen(text), folder, &recipe) != LORS_OK) {
        fail_msg("%s", lors_last_error());
    }
    return recipe;
}

static lors_recipe *parse(const char *text)
{
    return parse_in(text, "/f");
}

static int32_t param_of(const lors_recipe *recipe, const char *name)
{
    for (int32_t i = 0; i < recipe->method->n_params; i++) {
        if (strcmp(recipe->method->params[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("no parameter %s", name);
    return -1;
}

/* The value for a tensor, in a stack of n_layers layers. */
static lors_value value_at(const lors_recipe *recipe, const char *param, int32_t model,
                           const char *tensor, int32_t n_layers, bool *from_recipe)
{
    lors_tensor_name described;
    lors_name_describe(tensor, &described);
    lors_subject subject = {tensor, &described};
    const lors_recipe_slice *slice = recipe->modules->slices;
    bool per_model = model >= 0 && model < slice->n_sources;
    lors_value_at at = {.module = recipe->modules,
                        .slice = slice,
                        .source = per_model ? &slice->sources[model] : NULL,
                        .input = &subject,
                        .output = &subject,
                        .position = lors_layer_position(described.layer, n_layers)};
    return lors_recipe_value(recipe, param_of(recipe, param), &at, from_recipe);
}

static void check(const lors_recipe *recipe, const char *param, int32_t model, const char *tensor,
                  int32_t n_layers, double expected)
{
    bool from_recipe;
    double got = value_at(recipe, param, model, tensor, n_layers, &from_recipe).number;
    if (fabs(got - expected) > 1e-15) {
        fail_msg("%s of model %d for %s: %.17g, not %.17g", param, model, tensor, got, expected);
    }
    assert_true(from_recipe);
}

#define ENC(l, rest) "model.encoder.layers." #l "." rest
#define DEC(l, rest) "model.decoder.layers." #l "." rest
#define Q "self_attn.q_proj.weight"

/* ---- reading ---- */

static void test_all_keys(void **state)
{
    lors_recipe *r = parse("# all of them\n"
                           "name: x\n"
                           "merge_method: lors\n"
                           "base_model: m/base\n"
                           "tokenizer_source: base\n"
                           "models:\n"
                           "  - model: m/a\n"
                           "    parameters: {weight: 2, rank: \"1%\", density: 0.3}\n"
                           "  - model: /abs/b/\n"
                           "    parameters:\n"
                           "  - model: ./m//c/.\n"
                           "parameters:\n"
                           "  rank: {energy: 0.9}\n"
                           "  lambda: -1e-3\n"
                           "  scope: [attention, \"layers: 0-3\", layers: 5]\n"
                           "  outside: base\n"
                           "  merge_encoder_positions: true\n"
                           "dtype: torch.float16\n"
                           "out_dtype: BF16\n"
                           "seed: 18446744073709551615\n");
    char where[512];
    (void)state;
    assert_string_equal(lors_recipe_method(r), "lors");
    assert_string_equal(lors_recipe_base_path(r), "/f/m/base");
    assert_string_equal(r->base_written, "m/base");
    assert_int_equal(lors_recipe_model_count(r), 3);
    assert_string_equal(lors_recipe_model_path(r, 0), "/f/m/a");
    assert_string_equal(lors_recipe_model_path(r, 1), "/abs/b");
    assert_string_equal(lors_recipe_model_path(r, 2), "/f/m/c");
    assert_null(lors_recipe_model_path(r, 3));
    assert_null(lors_recipe_model_path(r, -1));
    assert_string_equal(r->models[2].written, "./m//c/.");
    assert_int_equal(r->n_scope, 3);
    assert_int_equal(r->outside, LORS_OUTSIDE_BASE);
    assert_true(r->merge_sinusoid);
    assert_true(r->has_dtype && r->has_out_dtype && r->has_seed);
    assert_int_equal(r->dtype, LORS_F16);
    assert_int_equal(r->out_dtype, LORS_BF16);
    assert_true(r->seed == UINT64_MAX);
    assert_string_equal(lors_recipe_locate(r, r->models[1].place, where), "r.yaml:9:12");
    assert_string_equal(lors_recipe_locate(r, r->base_place, where), "r.yaml:4:13");
    assert_string_equal(lors_recipe_locate(r, (lors_place){0, 0}, where), "r.yaml");
    assert_int_equal(strlen(r->text), r->text_bytes);

    bool from_recipe;
    lors_value rank = value_at(r, "rank", 0, DEC(0, Q), 4, &from_recipe);
    assert_int_equal(rank.kind, LORS_VALUE_SHARE);
    assert_true(rank.number == 0.01 && from_recipe);
    rank = value_at(r, "rank", 1, DEC(0, Q), 4, &from_recipe);
    assert_int_equal(rank.kind, LORS_VALUE_ENERGY);
    assert_true(rank.number == 0.9 && from_recipe);
    check(r, "weight", 0, DEC(0, Q), 4, 2);
    check(r, "density", 0, DEC(0, Q), 4, 0.3);
    check(r, "lambda", -1, DEC(0, Q), 4, -1e-3);
    lors_recipe_free(r);
}

static void test_defaults(void **state)
{
    lors_recipe *r = parse("{\"merge_method\": \"lors\", \"base_model\": \"b\",\n"
                           "\t\"models\": [{\"model\": \"a\"}]}");
    bool from_recipe = true;
    (void)state;
    lors_value rank = value_at(r, "rank", 0, DEC(0, Q), 4, &from_recipe);
    assert_false(from_recipe);
    assert_int_equal(rank.kind, LORS_VALUE_SHARE);
    assert_true(rank.number == 0.01);
    assert_true(value_at(r, "weight", 0, DEC(0, Q), 4, &from_recipe).number == 1);
    assert_false(from_recipe);
    assert_true(value_at(r, "density", 0, DEC(0, Q), 4, &from_recipe).number == 0.2);
    assert_int_equal(r->n_scope, 0);
    assert_int_equal(r->outside, LORS_OUTSIDE_DEFAULT);
    assert_false(r->has_dtype || r->has_out_dtype || r->has_seed || r->merge_sinusoid);
    lors_recipe_free(r);
}

static void test_encodings(void **state)
{
    static const char *const texts[] = {
        "\xef\xbb\xbfmerge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n",
        "merge_method: linear\r\nmodels:\r\n- model: a\r\n  parameters:\r\n    weight: 1\r\n",
        "---\nmerge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n...\n",
        "merge_method: 'linear'\nmodels: [{model: \"a\", parameters: {weight: 1}}]",
        "%YAML 1.2\n---\nmerge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        lors_recipe *r = parse(texts[i]);
        assert_string_equal(lors_recipe_model_path(r, 0), "/f/a");
        check(r, "weight", 0, "x", 0, 1);
        lors_recipe_free(r);
    }
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"1", 1},       {"-0.5", -0.5}, {"+2", 2},      {".5", 0.5}, {"2.", 2},
                 {"1e-3", 1e-3}, {"1E+2", 100},  {"0", 0},       {"-0", 0},   {"0.0", 0},
                 {"0e5", 0},     {"0.1", 0.1},   {"1e-320", 1e-320}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[200];
        snprintf(text, sizeof text, "merge_method: linear\nmodels: [{model: a}]\n"
                 "parameters: {weight: %s}\n", cases[i].text);
        lors_recipe *r = parse(text);
        bool from_recipe;
        assert_true(value_at(r, "weight", 0, "x", 0, &from_recipe).number == cases[i].value);
        lors_recipe_free(r);
    }
}

/* What the quotes of YAML make of a path. */
static void test_quotes(void **state)
{
    static const struct {
        const char *written, *path;
    } cases[] = {
        {"'a'", "/f/a"},
        {"'it''s'", "/f/it's"},
        {"'''a'''", "/f/'a'"},
        {"'a''''b'", "/f/a''b"},
        {"''''''''''''''''''''''", "/f/''''''''''"},
        {"'\xc3\xa9''s'", "/f/\xc3\xa9's"},
        {"'a # b''c'", "/f/a # b'c"},
        {"\"it's\"", "/f/it's"},
        {"\"a\\\"b\\u00e9\"", "/f/a\"b\xc3\xa9"},
        {"a''b", "/f/a''b"},
        {"\ta\t# b", "/f/a"},
        {"a\n\t", "/f/a"},
        {"a\n\t # b", "/f/a"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "\xef\xbb\xbf# \xc3\xa9\r\nmerge_method: linear\nmodels:\n"
                 "- model: %s\nparameters: {weight: 1}\n", cases[i].written);
        lors_recipe *r = parse(text);
        assert_string_equal(lors_recipe_model_path(r, 0), cases[i].path);
        lors_recipe_free(r);
    }
}

/* ---- values by tensor ---- */

static void test_gradients(void **state)
{
    lors_recipe *r = parse("merge_method: slerp\nbase_model: b\nmodels: [{model: a}]\n"
                           "parameters: {t: [0, 0.5, 1]}\n");
    (void)state;
    check(r, "t", -1, ENC(0, Q), 5, 0);
    check(r, "t", -1, ENC(1, Q), 5, 0.25);
    check(r, "t", -1, ENC(2, Q), 5, 0.5);
    check(r, "t", -1, ENC(3, Q), 5, 0.75);
    check(r, "t", -1, ENC(4, Q), 5, 1);
    check(r, "t", -1, ENC(1, Q), 2, 1);
    check(r, "t", -1, ENC(0, Q), 1, 1);
    check(r, "t", -1, ENC(1, Q), 4, 1.0 / 3);
    check(r, "t", -1, "model.encoder.conv1.weight", 5, 0);
    check(r, "t", -1, "model.decoder.layer_norm.weight", 5, 0);
    check(r, "t", -1, ENC(0, Q), 0, 0);
    lors_recipe_free(r);
    r = parse("merge_method: slerp\nbase_model: b\nmodels: [{model: a}]\n"
              "parameters: {t: [1, 0]}\n");
    check(r, "t", -1, DEC(0, Q), 11, 1);
    check(r, "t", -1, DEC(3, Q), 11, 0.7);
    check(r, "t", -1, DEC(10, Q), 11, 0);
    lors_recipe_free(r);
}

static void test_precedence(void **state)
{
    lors_recipe *r = parse("merge_method: ties\nbase_model: b\n"
                           "models:\n"
                           "- model: a\n"
                           "  parameters:\n"
                           "    weight:\n"
                           "    - filter: cross_attention\n"
                           "      value: 0.5\n"
                           "    - filter: encoder & attention\n"
                           "      value: [0, 1]\n"
                           "    - filter: fc1\n"
                           "      value: 7\n"
                           "- model: c\n"
                           "  parameters: {weight: 9}\n"
                           "parameters:\n"
                           "  weight:\n"
                           "  - {filter: {layers: 0-1}, value: 3}\n"
                           "  - {filter: \"*\", value: 4}\n"
                           "  density: 0.25\n");
    (void)state;
    check(r, "weight", 0, DEC(0, "encoder_attn.q_proj.weight"), 4, 0.5);
    check(r, "weight", 0, ENC(0, Q), 4, 0);
    check(r, "weight", 0, ENC(3, Q), 4, 1);
    check(r, "weight", 0, DEC(0, "fc1.weight"), 4, 7);
    check(r, "weight", 0, DEC(0, "fc2.weight"), 4, 3); /* no case fits: the global ones */
    check(r, "weight", 0, DEC(2, "fc2.weight"), 4, 4);
    check(r, "weight", 0, "proj_out.weight", 4, 4);
    check(r, "weight", 1, DEC(0, "fc1.weight"), 4, 9);
    check(r, "weight", -1, DEC(1, "fc1.weight"), 4, 3);
    check(r, "density", 0, DEC(0, "fc1.weight"), 4, 0.25);
    lors_recipe_free(r);
}

static void test_bools(void **state)
{
    lors_recipe *r = parse("merge_method: linear\nmodels: [{model: a}]\nparameters:\n"
                           "  weight: 1\n"
                           "  normalize: [{filter: mlp, value: false}, {value: true}]\n");
    (void)state;
    check(r, "normalize", -1, DEC(0, "fc1.weight"), 4, 0);
    check(r, "normalize", -1, DEC(0, Q), 4, 1);
    lors_recipe_free(r);
}

static void test_aliases(void **state)
{
    lors_recipe *r = parse("merge_method: ties\nbase_model: b\nmodels:\n"
                           "- {model: a, parameters: &p {weight: &w 0.5, density: 0.1}}\n"
                           "- {model: c, parameters: *p}\n"
                           "parameters: {lambda: *w}\n");
    (void)state;
    check(r, "density", 1, "x", 0, 0.1);
    check(r, "lambda", -1, "x", 0, 0.5);
    lors_recipe_free(r);
}

/* ---- models ---- */

static void test_base_among_models(void **state)
{
    lors_recipe *r = parse("merge_method: slerp\nbase_model: m/b\nmodels:\n"
                           "- {model: ./m/b/}\n- {model: m/a}\nparameters: {t: 0.5}\n");
    (void)state;
    assert_int_equal(lors_recipe_model_count(r), 1);
    assert_string_equal(lors_recipe_model_path(r, 0), "/f/m/a");
    lors_recipe_free(r);
    /* Its parameters are harmless, and those that are required not missed. */
    r = parse("merge_method: ties\nbase_model: b\nmodels:\n- {model: b, parameters: {density: 0}}\n"
              "- {model: a, parameters: {weight: 3}}\n- {model: b/..}\n"
              "parameters: {weight: [{filter: mlp, value: 1}, {value: 2}]}\n");
    assert_int_equal(lors_recipe_model_count(r), 2);
    check(r, "weight", 0, "x", 0, 3);
    check(r, "weight", 1, "x", 0, 2);
    lors_recipe_free(r);
    r = parse("merge_method: linear\nbase_model: b\nmodels: [{model: a}, {model: b}]\n"
              "parameters: {weight: 1}\n");
    assert_int_equal(lors_recipe_model_count(r), 2);
    lors_recipe_free(r);
}

static void test_paths(void **state)
{
    static const struct {
        const char *folder, *written, *path;
    } cases[] = {
        {NULL, "a", "a"},          {NULL, "./a//b/./c/", "a/b/c"}, {".", "a", "a"},
        {"x", "a", "x/a"},         {"x/", "../a", "x/../a"},       {"/x", "/a", "/a"},
        {"x", "~/m/a", "/home/u/m/a"}, {"x", "~a", "x/~a"},        {"x", ".", "x"},
        {NULL, ".", "."},          {"x", "./a@b+c", "x/a@b+c"},    {"x", "/a@b", "/a@b"},
        {"x", "\xc3\xa9 \xff", "x/\xc3\xa9 \xff"}, {"x", "/", "/"},
    };
    (void)state;
    setenv("HOME", "/home/u/", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lors_recipe *r = NULL;
        if (strchr(cases[i].written, '\xff')) { /* not UTF-8: only a call can give it */
            assert_int_equal(lors_recipe_create("lors", &r), LORS_OK);
            assert_int_equal(lors_recipe_set_base(r, cases[i].written), LORS_OK);
            assert_string_equal(lors_recipe_base_path(r), cases[i].path + 2);
        } else {
            char text[256];
            snprintf(text, sizeof text, "merge_method: linear\nmodels: [{model: \"%s\"}]\n"
                     "parameters: {weight: 1}\n", cases[i].written);
            r = parse_in(text, cases[i].folder);
            assert_string_equal(lors_recipe_model_path(r, 0), cases[i].path);
        }
        lors_recipe_free(r);
    }
}

static void test_configs(void **state)
{
    static const struct {
        const char *name;
        int32_t n_models;
    } cases[] = {{"lors", 5}, {"linear", 2}, {"task_arithmetic", 2}, {"ties", 3}, {"slerp", 1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[1024], expected[1024];
        lors_recipe *r;
        snprintf(path, sizeof path, "%s/configs/%s.yaml", LORS_SOURCE_DIR, cases[i].name);
        if (lors_recipe_read(path, &r) != LORS_OK) {
            fail_msg("%s", lors_last_error());
        }
        assert_string_equal(lors_recipe_method(r), cases[i].name);
        assert_int_equal(lors_recipe_model_count(r), cases[i].n_models);
        snprintf(expected, sizeof expected, "%s/configs/models/ca", LORS_SOURCE_DIR);
        assert_string_equal(lors_recipe_model_path(r, 0), expected);
        lors_recipe_free(r);
    }
}

/* ---- calls ---- */

static void test_calls(void **state)
{
    lors_recipe *r;
    (void)state;
    assert_int_equal(lors_recipe_create("lors", &r), LORS_OK);
    assert_int_equal(lors_recipe_check(r), LORS_ERR_RECIPE);
    assert_string_equal(lors_last_error(), "recipe: 'base_model' is missing: lors needs the model "
                                           "that the others were tuned from");
    assert_int_equal(lors_recipe_set_base(r, "x/b"), LORS_OK);
    assert_int_equal(lors_recipe_set_base(r, "b"), LORS_OK);
    assert_int_equal(lors_recipe_check(r), LORS_ERR_RECIPE);
    assert_string_equal(lors_last_error(),
                        "recipe: models: lors needs at least 1 model besides the base, found 0");
    assert_int_equal(lors_recipe_add_model(r, "a"), LORS_OK);
    assert_int_equal(lors_recipe_add_model(r, "c"), LORS_OK);
    assert_int_equal(lors_recipe_set(r, "density", "0.5"), LORS_OK);
    assert_int_equal(lors_recipe_set(r, "density", "[0, 1]"), LORS_OK);
    assert_int_equal(lors_recipe_set(r, "rank", "{energy: 0.9}"), LORS_OK);
    assert_int_equal(lors_recipe_set(r, "scope", "[attention, mlp]"), LORS_OK);
    assert_int_equal(lors_recipe_set(r, "scope", "attention"), LORS_OK);
    assert_int_equal(lors_recipe_set(r, "outside", "base"), LORS_OK);
    assert_int_equal(lors_recipe_set(r, "dtype", "f16"), LORS_OK);
    assert_int_equal(lors_recipe_set(r, "seed", "7"), LORS_OK);
    assert_int_equal(lors_recipe_set_for(r, 1, "weight", "2"), LORS_OK);
    assert_int_equal(lors_recipe_set_for(r, 1, "weight", "3"), LORS_OK);
    assert_int_equal(lors_recipe_check(r), LORS_OK);
    check(r, "density", 0, DEC(1, Q), 5, 0.25);
    check(r, "weight", 1, DEC(1, Q), 5, 3);
    assert_int_equal(r->n_scope, 1);
    assert_int_equal(r->settings.count, 2);
    assert_int_equal(r->modules->slices->sources[1].settings.count, 1);
    assert_true(r->has_dtype && r->dtype == LORS_F16 && r->seed == 7);
    assert_null(r->text);
    lors_recipe_free(r);
    lors_recipe_free(NULL);
}

static const struct {
    int32_t model; /* -1: the top */
    const char *key, *value, *message;
} BAD_CALLS[] = {
    {-1, "density", "1.5",
     "recipe: parameters.density: 1.5 is out of range (allowed: 0 to 1)"},
    {-1, "density", "", "recipe: density: the value is empty"},
    {-1, "density", "# 1", "recipe: density: the value is empty"},
    {-1, "density", "[0, 1", "recipe: not valid YAML: flow sequence without a closing bracket"},
    {-1, "density", "0.1\n---\n0.2\n",
     "recipe: a second document begins here: a value is one document"},
    {-1, "densty", "1",
     "recipe: parameters: unknown parameter 'densty', did you mean 'density'? (lors takes: "
     "weight, lambda, rank, density, scope, outside, merge_encoder_positions)"},
    {-1, "models", "[]", "recipe: parameters: 'models' belongs at the top level of the recipe"},
    {-1, "seed", "-1", "recipe: seed: '-1' is not a whole number from 0 to 18446744073709551615"},
    {0, "weight", "x", "recipe: models[0].parameters.weight: 'x' is not a decimal number"},
    {0, "lambda", "1",
     "recipe: models[0].parameters: 'lambda' is one value for the whole merge: it belongs under "
     "the top-level 'parameters:'"},
    {0, "seed", "1", "recipe: models[0].parameters: 'seed' belongs at the top level of the recipe"},
    {1, "weight", "1", "recipe: models: there is no model 1: 1 were added (the first is 0)"},
    {-2, "weight", "1", "recipe: models: there is no model -2: 1 were added (the first is 0)"},
};

static void test_bad_calls(void **state)
{
    lors_recipe *r = (lors_recipe *)&BAD_CALLS;
    (void)state;
    assert_int_equal(lors_recipe_create("lorz", &r), LORS_ERR_RECIPE);
    assert_null(r);
    assert_string_equal(lors_last_error(),
                        "recipe: merge_method: unknown method 'lorz', did you mean 'lors'? "
                        "(`lors methods` lists them)");
    assert_int_equal(lors_recipe_create("lors", &r), LORS_OK);
    assert_int_equal(lors_recipe_add_model(r, "a"), LORS_OK);
    assert_int_equal(lors_recipe_add_model(r, "./a"), LORS_ERR_RECIPE);
    assert_string_equal(lors_last_error(), "recipe: models: './a' is listed twice: list it once, "
                                           "with the sum of its weights");
    assert_int_equal(lors_recipe_add_model(r, ""), LORS_ERR_RECIPE);
    assert_int_equal(lors_recipe_set_base(r, ""), LORS_ERR_RECIPE);
    for (size_t i = 0; i < sizeof BAD_CALLS / sizeof BAD_CALLS[0]; i++) {
        int32_t model = BAD_CALLS[i].model;
        lors_status status
            = model == -1 ? lors_recipe_set(r, BAD_CALLS[i].key, BAD_CALLS[i].value)
                          : lors_recipe_set_for(r, model, BAD_CALLS[i].key, BAD_CALLS[i].value);
        assert_int_equal(status, LORS_ERR_RECIPE);
        assert_string_equal(lors_last_error(), BAD_CALLS[i].message);
    }
    assert_int_equal(r->settings.count + r->modules->slices->sources[0].settings.count, 0);
    assert_int_equal(lors_recipe_set_base(r, "a"), LORS_OK);
    assert_int_equal(lors_recipe_check(r), LORS_ERR_RECIPE);
    assert_string_equal(lors_last_error(), "recipe: models: 'a' is the base itself: leave it out");
    lors_recipe_free(r);
}

/* ---- short memory ---- */

static const char RICH[] = "merge_method: ties\nbase_model: b\nmodels:\n"
                           "- {model: b, parameters: {weight: 1}}\n"
                           "- {model: a, parameters: &p {weight: [{filter: fc & encoder, value: "
                           "[0, 1]}, {value: 2}]}}\n"
                           "- {model: c, parameters: *p}\n"
                           "parameters: {scope: [attention, \"regex:fc\"], density: 0.5}\n";

/* Every allocation failing in turn: an error each time, nothing leaked, then success. */
static void test_memory(void **state)
{
    char path[1024];
    (void)state;
    snprintf(path, sizeof path, "%s/configs/task_arithmetic.yaml", LORS_SOURCE_DIR);
    for (int from_file = 0; from_file <= 1; from_file++) {
        for (int sticky = 0; sticky <= 1; sticky++) {
            uint64_t n = 1;
            for (lors_status status = LORS_ERR_LIMIT; status != LORS_OK; n++) {
                lors_recipe *r = (lors_recipe *)&BAD_CALLS;
                lors_alloc_fail_at(n, sticky);
                status = from_file ? lors_recipe_read(path, &r)
                                   : lors_recipe_parse("r", RICH, strlen(RICH), "/f", &r);
                lors_alloc_fail_at(0, false);
                assert_true(status == LORS_OK || status == LORS_ERR_LIMIT);
                assert_true((status == LORS_OK) == (r != NULL));
                lors_recipe_free(r);
            }
            assert_true(n > 15);
        }
    }
}

static lors_status build(lors_recipe **out)
{
    lors_status status = lors_recipe_create("lors", out);
    lors_recipe *r = *out;
    status = status == LORS_OK ? lors_recipe_set_base(r, "b") : status;
    status = status == LORS_OK ? lors_recipe_add_model(r, "a") : status;
    status = status == LORS_OK ? lors_recipe_add_model(r, "c") : status;
    status = status == LORS_OK ? lors_recipe_set(r, "scope", "[mlp, \"regex:a\"]") : status;
    status = status == LORS_OK ? lors_recipe_set(r, "density", "[0, 1]") : status;
    status = status == LORS_OK ? lors_recipe_set(r, "density", "0.5") : status;
    return status == LORS_OK ? lors_recipe_set_for(r, 1, "weight", "2") : status;
}

static void test_memory_of_calls(void **state)
{
    lors_status status = LORS_ERR_LIMIT;
    (void)state;
    for (uint64_t n = 1; status != LORS_OK; n++) {
        lors_recipe *r = NULL;
        lors_alloc_fail_at(n, false);
        status = build(&r);
        lors_alloc_fail_at(0, false);
        assert_true(status == LORS_OK || status == LORS_ERR_LIMIT);
        lors_recipe_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_keys),   cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_encodings),  cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_quotes),     cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_precedence), cmocka_unit_test(test_bools),
        cmocka_unit_test(test_aliases),    cmocka_unit_test(test_base_among_models),
        cmocka_unit_test(test_paths),      cmocka_unit_test(test_configs),
        cmocka_unit_test(test_calls),      cmocka_unit_test(test_bad_calls),
        cmocka_unit_test(test_memory),     cmocka_unit_test(test_memory_of_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

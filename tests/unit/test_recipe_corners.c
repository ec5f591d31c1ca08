/* test_recipe_corners.c - the rarer mistakes of recipes, and the rarer right ones: slices without a
 * model, expressions at the limits of numbers, keys in the wrong place, many documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/method.h>
#include <lors/recipe.h>

#include "backend/backend_ops.h"
#include "base/memory.h"
#include "recipe/recipe_internal.h"
#include "recipe/recipe_parts.h"

static lors_status parse(const char *text, lors_recipe **out)
{
    return lors_recipe_parse("r.yaml", text, strlen(text), "/f", out);
}

/* `sentence` NULL: the recipe is good. */
typedef struct row {
    const char *text, *sentence;
} row;

static void check_rows(const row *rows, size_t n, const char *front, const char *back)
{
    int n_wrong = 0;
    for (size_t i = 0; i < n; i++) {
        lors_recipe *recipe = NULL;
        lors_text text = {0};
        lors_text_printf(&text, "%s%s%s", front, rows[i].text, back);
        lors_status status = parse(text.bytes, &recipe);
        const char *wanted = rows[i].sentence, *said = status ? lors_last_error() : "it is good";
        bool right = wanted ? status == LORS_ERR_RECIPE && strstr(said, wanted) != NULL
                            : status == LORS_OK;
        if (!right) {
            print_error("%s    %s\n", rows[i].text, said);
        }
        n_wrong += !right;
        lors_text_clear(&text);
        lors_recipe_free(recipe);
    }
    assert_int_equal(n_wrong, 0);
}
#define CHECK(rows, front, back) check_rows(rows, sizeof(rows) / sizeof *(rows), front, back)

/* ---- Expressions ----------------------------------------------------------------------------- */

static void test_expressions(void **state)
{
    (void)state;
    static const row rows[] = {
        {"1 - 1 + A - B + B", NULL},
        {"A * 2E0 + B * 1e-1 - B / 1e+1", NULL},
        {"A * 1e + B", "expression"},
        {"A * 1e20 * 1e20 + B", "a number grows beyond 1e30 here"},
        {"1e20 * 1e20 * A + B", "a number grows beyond 1e30 here"},
        {"A * 9e29 + A * 9e29 + B", "a number grows beyond 1e30 here"},
        {"1111111111111111111111111111111111111111111111111111111111111111 * A + B",
         "this is not a decimal number"},
        {"111111111111111111111111111111111111111111111111111111111111111.5.5 * A + B",
         "this is not a decimal number"},
        {"1.2.3 * A + B", "this is not a decimal number"},
        {"A * B", "two models cannot be multiplied"},
        {"A / B", "nothing can be divided by a model"},
        {"A / 0 + B", "division by 0"},
        {"A", "the expression does not use this model: remove it"},
        {"A + B + C", "no model has the name 'C'"},
        {"A + B)", "this ')' closes nothing"},
        {"A B", "an operator (+ - * /) is expected here"},
        {"A + B + 1", "a number cannot be added to models"},
    };
    static const row others[] = {
        {"models: [{name: A, model: m}, {model: n}]\n", "remove it, or give it a name"},
        {"models: [{name: A, model: m}]\nslices: []\n", "an expression is over whole models"},
        {"models: [{name: A, model: m}]\nmodules: {}\n", "an expression is over whole models"},
        {"models: [{name: A, model: m}]\nparameters: {weight: 1}\n", "remove this parameter"},
        {"models: [{name: A, model: m, parameters: {weight: 1}}]\n", "remove this parameter"},
        {"models: [{name: A, model: m}, {name: 1a, model: n}]\n", "is not a name"},
        {"models: [{name: A, model: m}, {name: '', model: n}]\n", ""},
        {"models: [{name: A, model: m}, {name: a-b, model: n}]\n", "is not a name"},
        {"models: [{name: A, model: m}, {name: $a, model: n}]\n", "is not a name"},
        {"models: [{name: A, model: m}, {name: [B], model: n}]\n", "models[1].name"},
        {"models: [{name: A, model: m}, {name: "
         "a2345678901234567890123456789012345678901234567890123456789012345, model: n}]\n",
         "is not a name"},
    };
    CHECK(rows, "models: [{name: A, model: m}, {name: B, model: n}]\nexpression: ", "\n");
    CHECK(others, "expression: A\n", "");
    lors_text text = {0};
    lors_recipe *recipe = NULL;
    lors_text_printf(&text, "models: [{name: A, model: m}]\nexpression: A");
    for (int i = 0; i < 1100; i++) {
        lors_text_printf(&text, " + 0");
    }
    assert_int_equal(parse(text.bytes, &recipe), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "at most 4096 bytes"));
    lors_text_clear(&text);
}

/* ---- Slices and modules ---------------------------------------------------------------------- */

static void test_slices(void **state)
{
    (void)state;
    static const row rows[] = {
        {"- {sources: [{model: m, layer_range: [0, 1]}]}\n", NULL},
        {"- {sources: [{model: m, layer_range: [0, 1]}], base_model: b}\n", NULL},
        {"- {sources: [{model: m, layer_range: [0, 1]}], base_model: [b]}\n", "base_model"},
        {"- {sources: [{model: b, layer_range: [0, 1]}]}\n", NULL},
        {"- {base_model: b}\n", "a slice has no 'sources'"},
        {"- {sources: [{layer_range: [0, 1]}]}\n", "a source is {model: FOLDER, layer_range"},
        {"- {sources: [{model: m}]}\n", "a source is {model: FOLDER, layer_range"},
        {"- {sources: [{model: m, layer_range: [0, 1], name: A}]}\n", "slices[0].sources[0]"},
        {"- {sources: [{model: m, layer_range: [0, 1], base_model: c}]}\n", "slices[0].sources[0]"},
        {"- {sources: [{model: m, layer_range: [1, 1]}]}\n", "holds no layer"},
        {"- {sources: [{model: m, layer_range: 1}]}\n", "a range is [FIRST, END]"},
        {"- {sources: [{model: m, layer_range: [0, 1], parameters: {lambda: 1}}]}\n",
         "is one value for all models of a slice: it belongs under the slice's 'parameters:'"},
        {"- {sources: [{model: b, layer_range: [0, 1]}, {model: b, layer_range: [1, 2]}]}\n",
         "the base is listed twice in this slice"},
        {"- {sources: [{model: b, layer_range: [0, 1], parameters: {weight: 1}}]}\n", NULL},
        {"- {sources: [{model: b, layer_range: [0, 1], parameters: {weight: [x]}}]}\n",
         "slices[0].sources[0].parameters.weight"},
        {"- {sources: []}\n", ""},
        {"- {sources: [{model: m, layer_range: [0, 1]}, {model: n, layer_range: [0, 2]}]}\n", ""},
    };
    static const row own_bases[] = {
        {"- {sources: [{model: m, layer_range: [0, 1]}], base_model: b}\n", NULL},
        {"- {sources: [{model: m, layer_range: [0, 1]}]}\n", "'base_model' is missing"},
        {"- {sources: [{model: m, layer_range: [0, 1]}], base_model: b}\n"
         "- {sources: [{model: m, layer_range: [0, 1]}]}\n",
         "this slice has no base, which task_arithmetic needs"},
    };
    static const row plain[] = {
        {"- {sources: [{model: m, layer_range: [0, 2]}, {model: n, layer_range: [2, 4]}]}\n", NULL},
        {"- {sources: []}\n", "a list is expected"},
    };
    CHECK(rows, "merge_method: task_arithmetic\nbase_model: b\nparameters: {weight: 1}\nslices:\n",
          "");
    CHECK(own_bases, "merge_method: task_arithmetic\nparameters: {weight: 1}\nslices:\n", "");
    CHECK(plain, "merge_method: linear\nparameters: {weight: 1}\nslices:\n", "");
}

static void test_modules(void **state)
{
    (void)state;
    static const row rows[] = {
        {"{encoder: {models: [{model: m}]}, decoder: {models: [{model: n}]}}", NULL},
        {"{encoder: {models: m}, decoder: {models: [{model: n}]}}", "modules.encoder.models"},
        {"{encoder: [], decoder: {models: [{model: n}]}}", "modules.encoder"},
        {"{encoder: {models: [{model: m, name: A}]}}", "an entry is {model: FOLDER, parameters"},
        {"{encoder: {models: [{model: m, base_model: b}]}}", "an entry is {model: FOLDER, param"},
        {"{encoder: {models: [{parameters: {scale: 1}}]}}", "an entry is {model: FOLDER, param"},
        {"{encoder: {models: [m]}}", "modules.encoder.models"},
    };
    static const row bases[] = {
        {"{encoder: {models: [{model: b}]}, decoder: {models: [{model: m}]}}", NULL},
        {"{encoder: {models: [{model: b}]}, decoder: {models: [{model: b}, {model: m}]}}", NULL},
        {"{encoder: {models: [{model: m}]}, decoder: {models: [{model: b}, {model: m}, "
         "{model: ./b/}]}}",
         "modules.decoder.models[2]: the base is listed twice in this module"},
        {"{encoder: {models: [{model: b, parameters: {wait: 1}}]}}",
         "modules.encoder.models[0].parameters"},
    };
    CHECK(rows, "merge_method: passthrough\nmodules: ", "\n");
    CHECK(bases, "merge_method: task_arithmetic\nbase_model: b\nparameters: {weight: 1}\nmodules: ",
          "\n");
}

/* ---- Models and keys ------------------------------------------------------------------------- */

static void test_models(void **state)
{
    (void)state;
    static const row rows[] = {
        {"{model: {path: m}}", NULL},
        {"{model: {model: {path: m}}}", NULL},
        {"{model: {model: m, path: n}}", "unknown key 'path'"},
        {"{model: {path: m, path_to: n}}", "unknown key 'path_to'"},
        {"{model: m, base_model: [b]}", "models[0].base_model"},
        {"{model: m, base_model: c}", NULL},
        {"{model: m, base_model: c}, {model: c}", NULL},
        {"{model: /}, {model: /proc}, {model: /there/is/none}", NULL},
        {"{model: b}", ""},
        {"{model: m, parameters: {seed: 1}}", "'seed' belongs at the top level of the recipe"},
        {"{model: m, parameters: {parameters: 1}}", "'parameters' belongs at the top level"},
        {"{model: m, parameters: {lambda: 1}}",
         "is one value for the whole merge: it belongs under the top-level 'parameters:'"},
        {"{model: m}, {model: m}", "'m' is listed twice"},
    };
    CHECK(rows, "merge_method: task_arithmetic\nbase_model: b\nparameters: {weight: 1}\nmodels: [",
          "]\n");
}

static void test_values(void **state)
{
    (void)state;
    static const row rows[] = {
        {"compat: none\n", NULL},
        {"compat: mergekit\n", NULL},
        {"compat: mergekid\n", "unknown word 'mergekid', did you mean 'mergekit'?"},
        {"compat: [none]\n", "compat"},
        {"dtype: int8\n", "unknown type 'int8'"},
        {"dtype: I8\n", "unknown type 'I8'"},
        {"dtype: float64\n", "unknown type 'float64'"},
        {"dtype: int64\n", "unknown type 'int64'"},
        {"dtype: bool\n", "unknown type 'bool'"},
        {"parameters: {lambda: 0X1}\n", "hexadecimal is not allowed"},
        {"parameters: {lambda: 0x1}\n", "hexadecimal is not allowed"},
        {"parameters: {lambda: 0o7}\n", "octal and leading zeros are not allowed"},
        {"parameters: {lambda: inf}\n", "it must be finite"},
        {"parameters: {lambda: Infinity}\n", "it must be finite"},
        {"parameters: {lambda: .inf}\n", "it must be finite"},
        {"parameters: {lambda: nan}\n", "it must be finite"},
        {"parameters: {density: 2}\n", "density"},
        {"parameters: {rank: -1}\n", "is not a rank"},
        {"parameters: {rank: 1e12}\n", "rank"},
        {"parameters: {rank: '%'}\n", "rank"},
        {"parameters: {rank: [1, 2]}\n", "a list of values over the layers is only for numbers"},
        {"parameters: {rank: [[1]]}\n", "rank"},
        {"parameters: {scope: [{layers: [0, 1]}]}\n", "scope"},
        {"parameters: {scope: [{colour: red}]}\n", "scope"},
        {"parameters: {scope: ['regex:']}\n", "needs a pattern"},
        {"parameters: {scope: ['regex:a\\1']}\n", ""},
        {"parameters: {scope: ['regex:a[[:digit:]]*\\.b\\\\c']}\n", NULL},
        {"parameters: {scope: ['regex:[[.']}\n", "scope"},
        {"parameters: {scope: ['regex:[^]a[=b=]-]+']}\n", NULL},
        {"parameters: {scope: ['regex:a{2,3}{2}']}\n", NULL},
        {"parameters: {scope: ['regex:a{']}\n", "scope"},
        {"parameters: {scope: ['regex:a[[']}\n", "scope"},
        {"parameters: {rank: [{value: [1, 2]}]}\n", "rank"},
        {"parameters: {rank: [{filter: mlp, value: 2}, {value: '2%'}]}\n", NULL},
        {"parameters: {scope: ['regex:a\\']}\n", "scope"},
        {"scope: mlp\nparameters: {scope: mlp}\n", "'scope' is set twice"},
        {"scope: mlp\nparameters: {density: 0.3}\n", NULL},
        {"scope: mlp\nparameters: 3\n", "parameters"},
        {"tokenizer_source: m\n", NULL},
        {"tokenizer_source: b\n", NULL},
        {"tokenizer_source: elsewhere\n", "is none of the models"},
        {"tokenizer_source: union\n", "'union' is not supported"},
        {"method: lors\n", ""},
        {"!tag x: 1\n", "tags ('!...') are not supported"},
        {"x: |\n  a\n", "a value must be on one line"},
        {"x: >\n  a\n", "a value must be on one line"},
        {"x: 'a\n  b'\n", "a value must be on one line"},
    };
    CHECK(rows, "merge_method: lors\nbase_model: b\nmodels: [{model: m}]\n", "");
}

static void test_choices(void **state)
{
    (void)state;
    static const row rows[] = {
        {"{decompose: none, sparsify: none}", NULL},
        {"{decompose: nonsense}", "unknown word 'nonsense' (allowed: none, "},
        {"{decompose: nome}", "did you mean 'none'?"},
        {"{decompose: [none, none]}", "a list of values over the layers is only for numbers"},
        {"{decompose: {none: 1}}", "decompose"},
    };
    CHECK(rows, "merge_method: chain\nbase_model: b\nmodels: [{model: m, parameters: {weight: 1}}, "
                "{model: n, parameters: {weight: 1}}]\nparameters: ", "\n");
}

/* Messages say both ends of a range: every number has both. */
static void test_ranges(void **state)
{
    (void)state;
    for (int32_t m = 0; m < lors_method_count(); m++) {
        const lors_method_info *method = lors_method_at(m);
        for (int32_t i = 0; i < method->n_params; i++) {
            const lors_param_info *param = &method->params[i];
            bool number = param->kind == LORS_PARAM_NUMBER, rank = param->kind == LORS_PARAM_RANK;
            assert_true(!number || (param->minimum >= -1e30 && param->maximum <= 1e30));
            assert_true(!rank || (param->maximum > 0 && param->maximum <= 1e9 && param->fallback));
        }
    }
}

static void test_words(void **state)
{
    (void)state;
    static const row rows[] = {
        {"merge_method: nonsense\nmodels: [{model: m}]\n", "nonsense"},
        {"merge_method: model_stock\nbase_model: b\nmodels: [{model: m}]\n",
         "model_stock needs at least 2 models besides the base, found 1"},
        {"%YAML 9.9\n---\nmerge_method: linear\n", "unknown version"},
        {"# note\n\n%YAML 9.9\n---\na: 1\n", "unknown version"},
        {"%TAG ! x\n---\n&x *x\n", "not valid YAML"},
        {"*x\n", ""},
        {"a: &x 1\n---\n*x\n", ""},
        {"&x a\n", ""},
        {"!x a\n", "tags ('!...') are not supported"},
    };
    CHECK(rows, "", "");
}

/* ---- Documents ------------------------------------------------------------------------------- */

static void test_documents(void **state)
{
    (void)state;
    static const row rows[] = {
        {"merge_method: linear\nmodels: [{model: x}, {model: n}]\nparameters: {weight: 1}\n", NULL},
        {"merge_method: linear\nmodels: [{model: x}, {model: n}]\nparameters: {weight: 1}\n"
         "tokenizer_source: x\n", "'x' is a document, which has no files"},
        {"merge_method: task_arithmetic\nbase_model: x\nmodels: [{model: n}]\n"
         "parameters: {weight: 1}\ntokenizer_source: x\n", "'x' is a document, which has no files"},
        {"merge_method: task_arithmetic\nbase_model: x\nmodels: [{model: x}, {model: n}]\n"
         "parameters: {weight: 1}\n", NULL}, /* the base among the models is not counted */
    };
    CHECK(rows, "name: x\nmerge_method: linear\nmodels: [{model: m}, {model: o}]\n"
                "parameters: {weight: 1}\n---\n", "");
}

/* ---- A base that is merged as a model is ----------------------------------------------------- */

static int32_t models_of(const char *text)
{
    lors_recipe *recipe = NULL;
    if (parse(text, &recipe) != LORS_OK) {
        fail_msg("%s", lors_last_error());
    }
    int32_t n = recipe->modules->slices->n_sources;
    lors_recipe_free(recipe);
    return n;
}

#define KARCHER "merge_method: karcher\nparameters: {weight: 1}\nmodels: [{model: m}, {model: n}"

static void test_base_joins(void **state)
{
    (void)state;
    assert_int_equal(models_of(KARCHER "]\n"), 2);
    assert_int_equal(models_of(KARCHER "]\ncompat: mergekit\n"), 2);
    assert_int_equal(models_of(KARCHER "]\ncompat: mergekit\nbase_model: b\n"), 3);
    assert_int_equal(models_of(KARCHER ", {model: b}]\ncompat: mergekit\nbase_model: b\n"), 3);
    assert_int_equal(models_of("merge_method: ties\nbase_model: b\ncompat: mergekit\nmodels: "
                               "[{model: m}]\nparameters: {weight: 1, density: 1}\n"), 1);
    assert_int_equal(models_of("merge_method: karcher\nbase_model: b\ncompat: mergekit\n"
                               "parameters: {weight: 1}\nslices:\n- sources: [{model: m, "
                               "layer_range: [0, 1]}, {model: n, layer_range: [0, 1]}]\n"), 2);
}

/* ---- By calls -------------------------------------------------------------------------------- */

static void test_long_value(void **state)
{
    (void)state;
    lors_recipe *recipe = NULL;
    char *value = malloc(LORS_RECIPE_MAX_BYTES + 2);
    assert_non_null(value);
    memset(value, '1', LORS_RECIPE_MAX_BYTES + 1);
    value[LORS_RECIPE_MAX_BYTES + 1] = '\0';
    assert_int_equal(lors_recipe_create("ties", &recipe), LORS_OK);
    assert_int_equal(lors_recipe_set(recipe, "density", value), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "bytes are too many for a value"));
    lors_recipe_free(recipe);
    free(value);
}

/* The end of a label is shown, however much its bytes grow when they are escaped. */
static void test_label(void **state)
{
    (void)state;
    lors_recipe *recipe = NULL;
    char label[160];
    memset(label, 1, sizeof label - 5);
    strcpy(label + sizeof label - 6, ".yaml");
    assert_int_equal(lors_recipe_parse(label, "a", 1, NULL, &recipe), LORS_ERR_RECIPE);
    assert_int_equal(strncmp(lors_last_error(), "...", 3), 0);
    assert_non_null(strstr(lors_last_error(), "\\x01.yaml:1:1: "));
    assert_true(strlen(lors_last_error()) < 700);
}

/* A value by a call has no line that could be named. */
static void test_bad_value(void **state)
{
    (void)state;
    lors_recipe *recipe = NULL;
    assert_int_equal(lors_recipe_create("lors", &recipe), LORS_OK);
    assert_int_equal(lors_recipe_set(recipe, "density", "["), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "not valid YAML"));
    assert_int_equal(lors_recipe_set(recipe, "density", "%YAML 9.9\n--- 1"), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "unknown version"));
    char scope[700];
    memset(scope, 'a', sizeof scope);
    memcpy(scope, "{regex: ", 8);
    memcpy(scope + sizeof scope - 2, "}", 2);
    assert_int_equal(lors_recipe_set(recipe, "scope", scope), LORS_ERR_RECIPE);
    lors_recipe_free(recipe);
}

static void test_many_models(void **state)
{
    (void)state;
    for (int n = LORS_MAX_MODELS; n <= LORS_MAX_MODELS + 1; n++) {
        lors_text text = {0};
        lors_recipe *recipe = NULL;
        lors_text_printf(&text, "expression: A1\nmodels: [");
        for (int i = 0; i < n; i++) {
            lors_text_printf(&text, "%s{name: A%d, model: m%d}", i ? ", " : "", i, i);
        }
        lors_text_append(&text, "]", 1);
        assert_int_equal(parse(text.bytes, &recipe), LORS_ERR_RECIPE);
        if (!strstr(lors_last_error(), n > LORS_MAX_MODELS ? "allowed" : "does not use")) {
            fail_msg("%s", lors_last_error());
        }
        lors_text_clear(&text);
    }
}

static void test_layer_positions(void **state)
{
    (void)state;
    static const struct {
        int32_t layer, n_layers;
        double position;
    } rows[] = {{0, 5, 0}, {1, 5, 0.25}, {4, 5, 1}, {5, 5, 1}, {0, 1, 1}, {-1, 5, 0}, {0, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(lors_layer_position(rows[i].layer, rows[i].n_layers) == rows[i].position);
    }
}

static void test_home(void **state)
{
    (void)state;
    static const char text[] = "merge_method: task_arithmetic\nbase_model: ~/b\nmodels: "
                               "[{model: ~/m}, {model: ~/}]\nparameters: {weight: 1}\n";
    lors_recipe *recipe = NULL;
    setenv("HOME", "/home/x", 1);
    assert_int_equal(parse(text, &recipe), LORS_OK);
    assert_string_equal(recipe->base_path, "/home/x/b");
    assert_string_equal(recipe->models[0].path, "/home/x/m");
    assert_string_equal(recipe->models[1].path, "/home/x");
    lors_recipe_free(recipe);
    setenv("HOME", "", 1);
    assert_int_equal(parse(text, &recipe), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "'~/' needs the variable HOME"));
    unsetenv("HOME");
    assert_int_equal(parse(text, &recipe), LORS_ERR_RECIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expressions), cmocka_unit_test(test_slices),
        cmocka_unit_test(test_modules),     cmocka_unit_test(test_models),
        cmocka_unit_test(test_values),      cmocka_unit_test(test_words),
        cmocka_unit_test(test_documents),   cmocka_unit_test(test_base_joins),
        cmocka_unit_test(test_long_value),  cmocka_unit_test(test_layer_positions),
        cmocka_unit_test(test_home),        cmocka_unit_test(test_label),
        cmocka_unit_test(test_bad_value),   cmocka_unit_test(test_many_models),
        cmocka_unit_test(test_choices),     cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

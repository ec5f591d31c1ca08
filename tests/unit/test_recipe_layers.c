/* test_recipe_layers.c - slices, modules, expressions and documents: what they come to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <lors/recipe.h>

#include "base/memory.h"
#include "recipe/recipe_internal.h"

static lors_recipe *parse(const char *text)
{
    lors_recipe *recipe = NULL;
    if (lors_recipe_parse("r.yaml", text, strlen(text), "/f", &recipe) != LORS_OK) {
        fail_msg("%s", lors_last_error());
    }
    return recipe;
}

/* A parameter for a tensor of slice s of module m; source k, -1: the value for all. */
static double value_of(const lors_recipe *recipe, int32_t param, int32_t m, int32_t s, int32_t k,
                       const char *tensor, double position)
{
    lors_tensor_name described;
    bool from_recipe;
    lors_name_describe(tensor, &described);
    lors_subject subject = {tensor, &described};
    const lors_recipe_slice *slice = &recipe->modules[m].slices[s];
    lors_value_at at = {.module = &recipe->modules[m],
                        .slice = slice,
                        .source = k < 0 ? NULL : &slice->sources[k],
                        .input = &subject,
                        .output = &subject,
                        .position = position};
    return lors_recipe_value(recipe, param, &at, &from_recipe).number;
}

enum { WEIGHT, LAMBDA }; /* of task_arithmetic */
#define FC "model.decoder.layers.0.fc1.weight"
#define NORM "model.decoder.layer_norm.weight"
#define Q "model.decoder.layers.0.self_attn.q_proj.weight"
#define CONV "model.encoder.conv1.weight"

/* A value is looked for at the source, the slice, the module, the top; a list of cases of which
 * none fits passes it on to the next. */
static void test_precedence(void **state)
{
    static const char text[] =
        "merge_method: task_arithmetic\nbase_model: base\nmodules:\n"
        "  encoder: {models: [{model: a}]}\n"
        "  decoder:\n"
        "    slices:\n"
        "    - sources:\n"
        "      - {model: a, layer_range: [0, 2], parameters: {weight: [{filter: mlp, value: 1}]}}\n"
        "      - {model: b, layer_range: [0, 2]}\n"
        "      parameters: {weight: [{filter: attention, value: [2, 4]}], lambda: 5}\n"
        "    - sources: [{model: b, layer_range: [0, 1]}, {model: base, layer_range: [3, 4]}]\n"
        "    parameters: {weight: [{filter: norm, value: 6}]}\n"
        "parameters: {weight: [{filter: decoder, value: 7}, {value: 8}], lambda: 9}\n";
    lors_recipe *r = parse(text);
    (void)state;
    assert_true(value_of(r, WEIGHT, 1, 0, 0, FC, 0) == 1);
    assert_true(value_of(r, WEIGHT, 1, 0, 1, FC, 0) == 7);
    assert_true(value_of(r, WEIGHT, 1, 0, 0, Q, 0.5) == 3);
    assert_true(value_of(r, WEIGHT, 1, 0, 0, NORM, 0) == 6);
    assert_true(value_of(r, WEIGHT, 1, 1, 0, Q, 0) == 7);
    assert_true(value_of(r, WEIGHT, 0, 0, 0, CONV, 0) == 8);
    assert_true(value_of(r, LAMBDA, 1, 0, -1, FC, 0) == 5);
    assert_true(value_of(r, LAMBDA, 1, 1, -1, FC, 0) == 9);
    const lors_recipe_slice *second = &r->modules[1].slices[1];
    assert_int_equal(second->n_sources, 1);
    assert_int_equal(second->base, LORS_THE_BASE);
    assert_int_equal(second->base_layers.first, 3);
    assert_int_equal(lors_recipe_model_count(r), 2);
    lors_recipe_free(r);
}

static void test_slice_bases(void **state)
{
    lors_recipe *r = parse("merge_method: task_arithmetic\nbase_model: base\nslices:\n"
                           "- sources: [{model: a, layer_range: [2, 4]}]\n"
                           "- {sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: "
                           "[5, 6]}], base_model: b}\n"
                           "- {sources: [{model: base, layer_range: [0, 1]}]}\n"
                           "parameters: {weight: 1}\n");
    const lors_recipe_slice *slices = r->modules[0].slices;
    (void)state;
    assert_int_equal(r->n_models, 2);
    assert_int_equal(slices[0].base, LORS_THE_BASE); /* has the range of the source */
    assert_int_equal(slices[0].base_layers.first, 2);
    assert_int_equal(slices[0].base_layers.end, 4);
    assert_string_equal(r->models[slices[1].base].path, "/f/b");
    assert_int_equal(slices[1].base_layers.first, 5);
    assert_int_equal(slices[1].n_sources, 1);
    assert_int_equal(slices[2].n_sources, 0);
    lors_recipe_free(r);
}

typedef struct sum_case {
    const char *expression;
    double a, b, c;
} sum_case;

static void test_expressions(void **state)
{
    static const sum_case cases[] = {
        {"A + B + C", 1, 1, 1},
        {"A - B - C", 1, -1, -1},
        {"A - (B - C)", 1, -1, 1},
        {"-A + -(-B) + +C", -1, 1, 1},
        {"A + 0.5 * (B - C)", 1, 0.5, -0.5},
        {"(A + B + C) / 4 * 2", 0.5, 0.5, 0.5},
        {"2*3*A + B/2/2 - C*(1 - 3)", 6, 0.25, 2},
        {"A*1e-3+B*.5e+1+C*2.", 1e-3, 5, 2},
        {"A + B - B + C - 0*C", 1, 0, 1},
        {"((((A))))+(1-1)*B--C", 1, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        const double wanted[] = {cases[i].a, cases[i].b, cases[i].c};
        snprintf(text, sizeof text,
                 "expression: '%s'\nmodels: [{model: a, name: A}, {model: b, name: B}, {model: c, "
                 "name: C}]\n",
                 cases[i].expression);
        lors_recipe *r = parse(text);
        assert_string_equal(lors_recipe_method(r), "linear");
        for (int32_t k = 0; k < 3; k++) {
            if (value_of(r, WEIGHT, 0, 0, k, FC, 0) != wanted[k]) {
                fail_msg("%s: %g", cases[i].expression, value_of(r, WEIGHT, 0, 0, k, FC, 0));
            }
        }
        assert_true(value_of(r, 1 /* normalize */, 0, 0, -1, FC, 0) == 0);
        bool is_one = fabs(wanted[0] + wanted[1] + wanted[2] - 1) < 1e-9;
        assert_int_equal(r->notes.count, is_one ? 0 : 1);
        lors_recipe_free(r);
    }
}

/* 32 parentheses inside each other, and no more: each takes some of the stack. */
static void test_deep_expressions(void **state)
{
    (void)state;
    for (int depth = 32; depth <= 33; depth++) {
        char text[256], ends[2][40] = {{0}};
        lors_recipe *recipe = NULL;
        memset(ends[0], '(', (size_t)depth);
        memset(ends[1], ')', (size_t)depth);
        snprintf(text, sizeof text, "expression: '%sA%s'\nmodels: [{model: a, name: A}]\n", ends[0],
                 ends[1]);
        lors_status status = lors_recipe_parse("r.yaml", text, strlen(text), "/f", &recipe);
        assert_int_equal(status, depth == 32 ? LORS_OK : LORS_ERR_RECIPE);
        lors_recipe_free(recipe);
    }
}

/* The form in which mergekit writes a recipe out again. */
static void test_references_and_notes(void **state)
{
    lors_recipe *r = parse("base_model: {model: {path: base, revision: null}, lora: null}\n"
                           "merge_method: ties\n"
                           "models:\n"
                           "- model: {model: {path: /m/a}}\n"
                           "  parameters: {weight: 1.0, int8_mask: true}\n"
                           "- {model: {path: b}, parameters: {weight: 1}}\n"
                           "int8_mask: 1\n"
                           "parameters: {normalize: 0.0, int8_mask: 1.0}\n"
                           "tokenizer: {source: {model: {path: b}}}\n");
    (void)state;
    assert_string_equal(lors_recipe_base_path(r), "/f/base");
    assert_string_equal(lors_recipe_model_path(r, 0), "/m/a");
    assert_int_equal(r->tokenizer, 1);
    assert_int_equal(r->notes.count, 1); /* said once */
    assert_string_equal(r->notes.items[0], "r.yaml:7:1: int8_mask: ignored: it saves memory in "
                                           "mergekit and never changes a result");
    lors_recipe_free(r);
}

static void test_documents(void **state)
{
    lors_recipe *r = parse("name: x\nmerge_method: linear\nmodels: [{model: &a a}]\n"
                           "parameters: {weight: 1}\n"
                           "---\nname: y\nexpression: X\nmodels: [{model: x, name: X}]\n"
                           "---\nmerge_method: task_arithmetic\nbase_model: x\n"
                           "models: [{model: y}, {model: ./x}, {model: x}]\n"
                           "parameters: {weight: 1}\n");
    (void)state;
    assert_int_equal(r->n_documents, 3);
    assert_int_equal(r->document, 2);
    assert_int_equal(r->base_identity.stage, 1);
    assert_int_equal(r->n_models, 2); /* x is the base */
    assert_int_equal(r->models[0].identity.stage, 2);
    assert_int_equal(r->models[1].identity.stage, 0); /* the folder x */
    assert_string_equal(r->models[1].path, "/f/x");
    assert_string_equal(r->documents[1]->name, "y");
    assert_int_equal(r->documents[1]->models[0].identity.stage, 1);
    lors_recipe_free(r);
}

/* Nothing is lost when memory is short. */
static void test_memory(void **state)
{
    static const char *const texts[] = {
        "name: x\nexpression: A + 2*(B - A)\n"
        "models: [{model: a, name: A}, {model: b, name: B}]\nint8_mask: 1\n"
        "---\nmerge_method: passthrough\nmodules: {encoder: {models: [{model: x}]}, decoder: "
        "{slices: [{sources: [{model: b, layer_range: [0, 1], parameters: {scale: [1, 2]}}]}]}}\n",
        "merge_method: task_arithmetic\nbase_model: b\nmodels: [{model: a, base_model: c, "
        "parameters: {weight: 1}}, {model: b}]\ntokenizer_source: a\n"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        lors_status status = LORS_ERR_LIMIT;
        for (uint64_t n = 1; status != LORS_OK; n++) {
            lors_recipe *recipe = NULL;
            lors_alloc_fail_at(n, false);
            status = lors_recipe_parse("r.yaml", texts[i], strlen(texts[i]), "/f", &recipe);
            lors_alloc_fail_at(0, false);
            assert_true(status == LORS_ERR_LIMIT || status == LORS_OK);
            lors_recipe_free(recipe);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_precedence),           cmocka_unit_test(test_slice_bases),
        cmocka_unit_test(test_expressions),          cmocka_unit_test(test_references_and_notes),
        cmocka_unit_test(test_documents),            cmocka_unit_test(test_memory),
        cmocka_unit_test(test_deep_expressions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

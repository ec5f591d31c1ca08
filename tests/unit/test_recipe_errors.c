/* test_recipe_errors.c - bad recipes, each with the one exact message it must get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <lors/recipe.h>

#include "base/memory.h"

/* Fronts that most rows share. LORS: five lines, two models; the next line is 6. */
#define LORS                                                                                \
    "merge_method: lors\nbase_model: b\nmodels:\n- model: a\n- model: c\n"
#define SLERP "merge_method: slerp\nbase_model: b\nmodels: [{model: a}]\n"
#define LINEAR "merge_method: linear\nmodels: [{model: a}]\n"
#define PARAM(text) LORS "parameters:\n  " text "\n"

#define TOP_ALLOWED                                                                         \
    " (allowed: merge_method, expression, base_model, models, slices, modules, parameters, " \
    "scope, dtype, out_dtype, seed, name, compat, tokenizer, tokenizer_source)"
#define LORS_TAKES                                                                          \
    " (lors takes: weight, lambda, rank, density, scope, outside, merge_encoder_positions)"
#define METHODS " (`lors methods` lists them)"
#define SELECTORS                                                                           \
    " (allowed: attention, self_attention and cross_attention, each also with .q .k .v "   \
    ".out; mlp, embedding, position, norm, conv, encoder, decoder, layers: A-B, "          \
    "regex:PATTERN, *)"
#define RANK_FORMS "a count such as 7, a share such as \"1%\", or {energy: 0.9}"
#define NOT_BOTH "a list holds either numbers or {filter, value} entries, not both"
#define NO_LAST "tensors that match no filter have no value: add a last entry {value: NUMBER}"

typedef struct bad_recipe {
    const char *text, *message; /* without "r.yaml" in front */
} bad_recipe;

static const bad_recipe SYNTAX[] = {
    {"", ":1:1: the recipe is empty"},
    {"# nothing\n", ":1:1: the recipe is empty"},
    {"---\n", ":1:1: the recipe is empty"},
    {"null\n", ":1:1: the recipe is empty"},
    {"lors\n", ":1:1: a recipe is a map of keys, such as 'merge_method: lors'"},
    {"- a\n", ":1:1: a recipe is a map of keys, such as 'merge_method: lors'"},
    {"merge_method: lors\nmodels: [a, b\n",
     ":3:1: not valid YAML: flow sequence without a closing bracket"},
    {"a: \"lors\n", ":1:5: not valid YAML: double-quoted scalar without closing quote"},
    {"a: b: c\n", ":1:5: not valid YAML: invalid nested block mapping on the same line"},
    {"filter: *\n", ":1:10: not valid YAML: invalid alias detected"},
    {LINEAR "parameters:\n\tweight: 1\n", ":4:1: a tab indents this line: use spaces"},
    {LINEAR "parameters:\n  \t weight: 1\n", ":4:3: a tab indents this line: use spaces"},
    {"? nul:\t\t\t :", ":1:3: a key must be text, not a list or a map"},
    {LORS "dtype: f16\ndtype: f32\n",
     ":7:1: duplicate key 'dtype' (first in line 6): remove one"},
    {PARAM("density: 0.1\n  \"density\": 0.2"),
     ":8:3: duplicate key 'density' (first in line 7): remove one"},
    {LINEAR "parameters: {weight: 1}\n---\n" LINEAR "parameters: {weight: 1}\n",
     ":1:1: this document has no 'name' by which a later one could use it"},
    {LINEAR "parameters: {weight: 1}\n...\n\n  merge_method: liner\n",
     ":6:17: merge_method: unknown method 'liner', did you mean 'linear'?" METHODS},
    {LINEAR "parameters: {weight: 1}\n---\n",
     ":4:1: a document of the recipe is empty"},
    {"# x\n%YAML 3.0\n---\nmerge_method: lors\n",
     ":2:1: not valid YAML: unknown version (known: 1.1 to 1.3): remove the line"},
    {"name: x\n" LINEAR "parameters: {weight: 1}\n---\n" LINEAR "parameters: {weight: 1}\n",
     ":1:1: no later document uses 'x': remove it, or name it among the models of another"},
    {"name: x\n" LINEAR "---\nname: x\n" LINEAR, ":5:7: name: two documents have the name 'x'"},
    {"name: a\n" LINEAR "---\nname: x\n" LINEAR,
     ":3:18: models[0].model: 'a' is this document itself: only earlier documents can be used (a "
     "folder of that name: write ./ in front)"},
    {LINEAR "---\nname: a\n" LINEAR,
     ":2:18: models[0].model: 'a' is a later document: only earlier documents can be used (a "
     "folder of that name: write ./ in front)"},
    {"name: x\nseed: 1\n" LINEAR "---\n" LINEAR,
     ":2:1: 'seed' belongs in the last document"},
    {"<<: {a: b}\n", ":1:1: merge keys ('<<') are not supported: write the keys out"},
    {"x: &a {m: 1}\ny:\n  <<: *a\n",
     ":3:3: merge keys ('<<') are not supported: write the keys out"},
    {"merge_method: !!str lors\n",
     ":1:15: tags ('!...') are not supported: remove it, or put text that begins with '!' in "
     "quotes"},
    {"models: !!python/object:os.system [a]\n",
     ":1:9: tags ('!...') are not supported: remove it, or put text that begins with '!' in "
     "quotes"},
    {PARAM("scope: !encoder"),
     ":7:10: tags ('!...') are not supported: remove it, or put text that begins with '!' in "
     "quotes"},
    {"? [a, b]\n: c\n", ":1:3: a key must be text, not a list or a map"},
    {"a: *b\n", ":1:4: the alias '*b' has no anchor '&b' before it (put a '*' that means "
                "everything in quotes)"},
    {"a: &b [*b]\n", ":1:8: the alias '*b' lies inside what it stands for"},
    {"a: &b {c: {d: *b}}\n", ":1:15: the alias '*b' lies inside what it stands for"},
    {"a: 'x\n  y'\n", ":1:4: a value must be on one line"},
    {"a: x\n  y\n", ":1:4: a value must be on one line"},
    {"a: \"x\\\n  y\"\n", ":1:4: a value must be on one line"},
    {"a: >\n  y\n", NULL},
    {"a: |-\n  y\n", NULL},
    {"a: \"x\\0y\"\n", ":1:4: text may not hold a NUL"},
    {"a: \001\n", ":1:4: the control character 0x01 is not allowed"},
    {"a: x\x1b[31m\n", ":1:5: the control character 0x1b is not allowed"},
    {"a: 1\nb: \xff\n", ":2:4: the byte 0xff is not UTF-8: save the text as UTF-8"},
    {"a: \xc3\xa9\xc0\xaf\n", ":1:5: the byte 0xc0 is not UTF-8: save the text as UTF-8"},
    {"a: \xed\xa0\x80\n", ":1:4: the byte 0xed is not UTF-8: save the text as UTF-8"},
    {"a: \xe2\x82", ":1:4: the byte 0xe2 is not UTF-8: save the text as UTF-8"},
};

static const bad_recipe KEYS[] = {
    {"models: [{model: a}]\n", ":1:1: 'merge_method' is missing (such as merge_method: lors)"},
    {"merge_metod: lors\n",
     ":1:1: unknown key 'merge_metod', did you mean 'merge_method'?" TOP_ALLOWED},
    {LORS "outpt: x\n", ":6:1: unknown key 'outpt'" TOP_ALLOWED},
    {LORS "\"bad\\x1bkey\": x\n", ":6:1: unknown key 'bad\\x1bkey'" TOP_ALLOWED},
    {"merge_method: lrs\nmodels: []\n",
     ":1:15: merge_method: unknown method 'lrs', did you mean 'lors'?" METHODS},
    {"merge_method: dare_tees\n", ":1:15: merge_method: unknown method 'dare_tees', did you mean "
                                    "'dare_ties'?" METHODS},
    {"merge_method:\n", ":1:1: merge_method: the value is empty"},
    {"merge_method: [lors]\n", ":1:15: merge_method: a list stands where text is expected"},
    {LORS "normalize: true\n", ":6:1: 'normalize' belongs under 'parameters:'"},
    {LORS "density: 0.1\n", ":6:1: 'density' belongs under 'parameters:'"},
    {LORS "outside: base\n", ":6:1: 'outside' belongs under 'parameters:'"},
    {LORS "merge_encoder_positions: true\n",
     ":6:1: 'merge_encoder_positions' belongs under 'parameters:'"},
    {LORS "slices:\n", ":6:1: 'models' and 'slices' say the same thing: keep one"},
    {LORS "modules:\n", ":6:1: 'models' and 'modules' say the same thing: keep one"},
    {LORS "tokenizer: {source: union}\n", ":6:21: tokenizer.source: 'union' is not supported: rows "
                                          "of the embeddings would have to be matched by token; "
                                          "where all models have the base's vocabulary write base"},
    {LORS "tokenizer: {source: base, pad_to_multiple_of: 8}\n",
     ":6:27: tokenizer: 'pad_to_multiple_of' is not supported (allowed: source): the tokenizer is "
     "copied as it is"},
    {LORS "tokenizer: base\n",
     ":6:12: tokenizer: write {source: base} or {source: FOLDER OF A MODEL}"},
    {LORS "tokenizer: {source: base}\ntokenizer_source: base\n",
     ":7:1: 'tokenizer_source' and 'tokenizer' say the same thing: keep one"},
    {LORS "tokenizer_source: d\n", ":6:19: tokenizer_source: 'd' is none of the models (allowed: "
                                   "base, or the folder of a model)"},
    {LORS "chat_template: auto\n", ":6:1: 'chat_template' is not supported: the template is "
                                   "copied with the tokenizer, remove the key (and edit the "
                                   "output's tokenizer_config.json)"},
    {PARAM("dtype: f16"), ":7:3: parameters: 'dtype' belongs at the top level of the recipe"},
    {PARAM("densty: 0.1"),
     ":7:3: parameters: unknown parameter 'densty', did you mean 'density'?" LORS_TAKES},
    {PARAM("resize: true"), ":7:3: parameters: unknown parameter 'resize'" LORS_TAKES},
    {PARAM("t: 0.5"), ":7:3: parameters: this method has no parameter 't'" LORS_TAKES},
    {LORS "parameters: [weight]\n",
     ":6:13: parameters: a map of parameters is expected, such as {weight: 0.5}"},
    {LORS "scope: mlp\nparameters: {scope: mlp}\n",
     ":6:1: 'scope' is set twice, here and under 'parameters:': remove one"},
    {LORS "dtype: float64\n",
     ":6:8: dtype: unknown type 'float64' (allowed: float32, float16, bfloat16)"},
    {LORS "out_dtype: 16\n",
     ":6:12: out_dtype: unknown type '16' (allowed: float32, float16, bfloat16)"},
    {LORS "seed: 1.5\n",
     ":6:7: seed: '1.5' is not a whole number from 0 to 18446744073709551615"},
    {LORS "seed: 18446744073709551616\n",
     ":6:7: seed: '18446744073709551616' is not a whole number from 0 to 18446744073709551615"},
    {LORS "seed: '1'\n", ":6:7: seed: '1' is text, not a whole number: remove the quotes"},
    {PARAM("outside: bse"),
     ":7:12: parameters.outside: unknown word 'bse', did you mean 'base'? (allowed: weighted, "
     "base)"},
    {PARAM("scope: []"), ":7:10: parameters.scope: the list is empty: nothing would be in scope "
                         "(\"*\" means every tensor)"},
    {PARAM("scope: [mlp, atention]"),
     ":7:16: parameters.scope: unknown selector 'atention', did you mean 'attention'?" SELECTORS},
    {PARAM("scope: attention, mlp"),
     ":7:10: parameters.scope: unknown selector 'attention, mlp': write several as a list, "
     "[attention, mlp]"},
    {PARAM("scope: [layers: 7-3]"),
     ":7:11: parameters.scope: 'layers: 7-3' is reversed (write layers: 3-7)"},
    {LORS "scope: {mlp: 1}\n", ":6:8: scope: a map stands where text is expected"},
};

static const bad_recipe MODELS[] = {
    {"merge_method: lors\nbase_model: b\n",
     ":1:1: 'models' is missing: list the models to merge, '- model: FOLDER' each"},
    {"merge_method: lors\nmodels: {model: a}\n",
     ":2:9: models: a list is expected, of entries '- model: FOLDER'"},
    {"merge_method: lors\nmodels: []\n",
     ":2:9: models: a list is expected, of entries '- model: FOLDER'"},
    {"merge_method: lors\nmodels: [a]\n",
     ":2:10: models[0]: an entry of the list is '- model: FOLDER'"},
    {"merge_method: lors\nmodels:\n- parameters: {weight: 1}\n",
     ":3:3: models[0]: an entry of the list has no 'model'"},
    {"merge_method: lors\nmodels:\n- model: a\n- modle: b\n",
     ":4:3: models[1]: unknown key 'modle', did you mean 'model'? (allowed: model, parameters, "
     "name, base_model)"},
    {"merge_method: lors\nmodels:\n- model: a\n  weight: 1\n",
     ":4:3: models[0]: 'weight' belongs under 'parameters:' here"},
    {"merge_method: lors\nmodels:\n- model:\n", ":3:3: models[0].model: the value is empty"},
    {"merge_method: lors\nmodels:\n- model: ''\n", ":3:10: models[0].model: the value is empty"},
    {"merge_method: lors\nmodels:\n- model: {folder: a}\n",
     ":3:11: models[0].model: unknown key 'folder' (a model is a folder, or {model: {path: "
     "FOLDER}})"},
    {"merge_method: lors\nbase_model: [b]\n",
     ":2:13: base_model: a list stands where text is expected"},
    {"merge_method: lors\nmodels:\n- model: org/m@main\n",
     ":3:10: models[0].model: 'org/m@main': revisions ('@') are not supported: download that "
     "revision and give its folder (a folder with '@' in its name: write ./ in front)"},
    {"merge_method: lors\nbase_model: org/m+org/l\n",
     ":2:13: base_model: 'org/m+org/l': adapters ('+') are not supported: merge the adapter into "
     "its model first and give that folder (a folder with '+' in its name: write ./ in front)"},
    {"merge_method: lors\nbase_model: b\nmodels: [{model: a}, {model: x/../a}, {model: ./a/}]\n",
     ":3:47: models[2].model: './a/' is listed twice: list it once, with the sum of its weights"},
    {"merge_method: lors\nmodels: [{model: a}]\n",
     ":1:15: 'base_model' is missing: lors needs the model that the others were tuned from"},
    {"merge_method: lors\nbase_model: b\nmodels: [{model: b}]\n",
     ":1:15: models: lors needs at least 1 model besides the base, found 0"},
    {"merge_method: slerp\nbase_model: b\nmodels: [{model: a}, {model: b}, {model: c}]\n"
     "parameters: {t: 1}\n",
     ":3:42: models: slerp takes at most 1 model besides the base, found 2"},
    {"merge_method: ties\nbase_model: b\nmodels:\n- {model: b}\n- {model: a, parameters: {weight: "
     "1}}\n- model: c\n",
     ":6:10: models: 'c' has no 'weight', which ties needs: set it in its parameters, or for all "
     "models in the top-level parameters"},
    {"merge_method: linear\nmodels:\n"
     "- {model: a, parameters: {weight: [{filter: mlp, value: 1}]}}\n",
     ":3:35: weight: " NO_LAST},
    {LINEAR "parameters:\n  weight: [{filter: mlp, value: 1}]\n", ":4:11: weight: " NO_LAST},
    {SLERP, ":1:15: parameters: 't' is missing, which slerp needs"},
    {SLERP "parameters: {t: [{filter: mlp, value: 1}]}\n", ":4:17: t: " NO_LAST},
    {"merge_method: lors\nbase_model: b\nmodels:\n- model: a\n  parameters:\n    lambda: 1\n",
     ":6:5: models[0].parameters: 'lambda' is one value for the whole merge: it belongs under the "
     "top-level 'parameters:'"},
    {"merge_method: lors\nbase_model: b\nmodels:\n- model: a\n  parameters:\n    scope: mlp\n",
     ":6:5: models[0].parameters: 'scope' is one value for the whole merge: it belongs under the "
     "top-level 'parameters:'"},
    {"merge_method: lors\nbase_model: b\nmodels:\n- model: a\n- model: c\n  parameters: {weight: "
     "x}\n",
     ":6:24: models[1].parameters.weight: 'x' is not a decimal number"},
};

static const bad_recipe VALUES[] = {
    {PARAM("density: 1.5"), ":7:12: parameters.density: 1.5 is out of range (allowed: 0 to 1)"},
    {PARAM("density: -0.1"), ":7:12: parameters.density: -0.1 is out of range (allowed: 0 to 1)"},
    {PARAM("density: [0, 1, 2]"), ":7:19: parameters.density: 2 is out of range (allowed: 0 to 1)"},
    {PARAM("density: [{value: 7}]"),
     ":7:21: parameters.density: 7 is out of range (allowed: 0 to 1)"},
    {PARAM("density: [{filter: mlp, value: [0, -1]}, {value: 1}]"),
     ":7:38: parameters.density: -1 is out of range (allowed: 0 to 1)"},
    {SLERP "parameters: {t: 1.01}\n",
     ":4:17: parameters.t: 1.01 is out of range (allowed: 0 to 1)"},
    {PARAM("weight: 1e31"),
     ":7:11: parameters.weight: 1e31 is out of range (allowed: -1e+30 to 1e+30)"},
    {PARAM("density: \"0.5\""),
     ":7:12: parameters.density: '0.5' is text, not a number: remove the quotes"},
    {PARAM("density: .nan"),
     ":7:12: parameters.density: '.nan' is not a decimal number (it must be finite)"},
    {PARAM("density: -.INF"),
     ":7:12: parameters.density: '-.INF' is not a decimal number (it must be finite)"},
    {PARAM("density: inf"),
     ":7:12: parameters.density: 'inf' is not a decimal number (it must be finite)"},
    {PARAM("density: 1e400"), ":7:12: parameters.density: 1e400 is too large for a number"},
    {PARAM("density: 1e-400"),
     ":7:12: parameters.density: 1e-400 is too small for a number (write 0)"},
    {PARAM("density: 0x1p-3"), ":7:12: parameters.density: '0x1p-3' is not a decimal number "
                               "(hexadecimal is not allowed)"},
    {PARAM("density: 01"), ":7:12: parameters.density: '01' is not a decimal number (octal and "
                           "leading zeros are not allowed)"},
    {PARAM("density: 0o1"), ":7:12: parameters.density: '0o1' is not a decimal number (octal and "
                            "leading zeros are not allowed)"},
    {PARAM("weight: 1_000"),
     ":7:11: parameters.weight: '1_000' is not a decimal number (remove the underscores)"},
    {PARAM("weight: 0,5"), ":7:11: parameters.weight: '0,5' is not a decimal number (write a "
                           "decimal point, not a comma)"},
    {PARAM("density: 20%"), ":7:12: parameters.density: '20%' is not a decimal number (write a "
                            "share as a number: 0.2, not 20%)"},
    {PARAM("weight: 1 2"), ":7:11: parameters.weight: '1 2' is not a decimal number"},
    {PARAM("weight: true"), ":7:11: parameters.weight: 'true' is not a decimal number"},
    {PARAM("weight: ."), ":7:11: parameters.weight: '.' is not a decimal number"},
    {PARAM("weight: 1e"), ":7:11: parameters.weight: '1e' is not a decimal number"},
    {PARAM("weight: --1"), ":7:11: parameters.weight: '--1' is not a decimal number"},
    {PARAM("weight:"), ":7:3: parameters.weight: the value is empty: write a number"},
    {PARAM("weight: ~"), ":7:11: parameters.weight: the value is empty: write a number"},
    {PARAM("weight: []"), ":7:11: parameters.weight: the list is empty"},
    {PARAM("weight: [1]"), ":7:11: parameters.weight: a list of values over the layers needs at "
                           "least two (write a single one without brackets)"},
    {PARAM("weight: [1, [2]]"),
     ":7:15: parameters.weight: a list stands where a number is expected"},
    {PARAM("weight: [1, {value: 2}]"), ":7:15: parameters.weight: " NOT_BOTH},
    {PARAM("weight: [{value: 2}, 1]"),
     ":7:24: parameters.weight: this entry is never used: the one before it has no filter and "
     "takes every tensor"},
    {PARAM("weight: [{filter: mlp, value: 2}, 1]"), ":7:37: parameters.weight: " NOT_BOTH},
    {PARAM("weight: {filter: mlp, value: 2}"),
     ":7:11: parameters.weight: a map stands where a number is expected (filters are a list: "
     "[{filter: attention, value: 0.5}, {value: 1}])"},
    {PARAM("weight: [{filter: mlp, vale: 2}]"),
     ":7:26: parameters.weight: unknown key 'vale', did you mean 'value'? (allowed: filter, "
     "value)"},
    {PARAM("weight: [{filter: mlp}]"),
     ":7:12: parameters.weight: an entry of the list has no 'value'"},
    {PARAM("weight: [{filter: '', value: 1}]"),
     ":7:21: parameters.weight: the value is empty"},
    {PARAM("weight: [{filter: \"layers: 5-1\", value: 1}]"),
     ":7:21: parameters.weight: 'layers: 5-1' is reversed (write layers: 1-5)"},
    {PARAM("weight: [{filter: 'regex:(', value: 1}]"),
     ":7:21: parameters.weight: '(' is not a POSIX extended regular expression: Unmatched ( or "
     "\\("},
    {PARAM("weight: [{filter: '*', value: 1}, {value: 2}]"),
     ":7:37: parameters.weight: this entry is never used: the one before it has no filter and "
     "takes every tensor"},
    {PARAM("merge_encoder_positions: yes"),
     ":7:28: parameters.merge_encoder_positions: 'yes' is not true or false: write true"},
    {PARAM("merge_encoder_positions: Off"),
     ":7:28: parameters.merge_encoder_positions: 'Off' is not true or false: write false"},
    {PARAM("merge_encoder_positions: 2"),
     ":7:28: parameters.merge_encoder_positions: '2' is not true or false"},
    {PARAM("merge_encoder_positions: maybe"),
     ":7:28: parameters.merge_encoder_positions: 'maybe' is not true or false"},
    {PARAM("merge_encoder_positions: 'true'"),
     ":7:28: parameters.merge_encoder_positions: 'true' is text, not true or false: remove the "
     "quotes"},
    {LINEAR "parameters: {weight: 1, normalize: [true, false]}\n",
     ":3:36: parameters.normalize: a list of values over the layers is only for numbers: use "
     "filters (- filter: \"layers: 0-3\")"},
    {PARAM("rank: -1"), ":7:9: parameters.rank: -1 is not a rank: write " RANK_FORMS},
    {PARAM("rank: 1.5"), ":7:9: parameters.rank: 1.5 is not a rank: write " RANK_FORMS},
    {PARAM("rank: full"), ":7:9: parameters.rank: 'full' is not a decimal number"},
    {PARAM("rank: '7'"),
     ":7:9: parameters.rank: '7' is text, not " RANK_FORMS ": remove the quotes"},
    {PARAM("rank: 2000000000"),
     ":7:9: parameters.rank: 2000000000 is out of range (allowed: 0 to 1e+09)"},
    {PARAM("rank: 101%"), ":7:9: parameters.rank: 101% is out of range (allowed: 0% to 100%)"},
    {PARAM("rank: x%"), ":7:9: parameters.rank: 'x' is not a decimal number"},
    {PARAM("rank: {energy: 0}"),
     ":7:18: parameters.rank.energy: 0 is out of range (allowed: above 0, up to 1)"},
    {PARAM("rank: {energy: 1.1}"),
     ":7:18: parameters.rank.energy: 1.1 is out of range (allowed: above 0, up to 1)"},
    {PARAM("rank: {enrgy: 1}"), ":7:9: parameters.rank: a rank is " RANK_FORMS},
    {PARAM("rank: [1, 2]"), ":7:9: parameters.rank: a list of values over the layers is only for "
                            "numbers: use filters (- filter: \"layers: 0-3\")"},
};

static void check_table(const bad_recipe *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lors_recipe *recipe = (lors_recipe *)&SYNTAX;
        char expected[2048];
        lors_status status = lors_recipe_parse("r.yaml", rows[i].text, strlen(rows[i].text), NULL,
                                               &recipe);
        if (status != LORS_ERR_RECIPE || recipe) {
            fail_msg("not refused: %s", rows[i].text);
        }
        if (!rows[i].message) {
            continue;
        }
        snprintf(expected, sizeof expected, "r.yaml%s", rows[i].message);
        if (strcmp(lors_last_error(), expected) != 0) {
            fail_msg("%s\n  got      %s\n  expected %s", rows[i].text, lors_last_error(), expected);
        }
    }
}

#define TABLE_TEST(name, rows)                              \
    static void name(void **state)                          \
    {                                                       \
        (void)state;                                        \
        check_table(rows, sizeof rows / sizeof rows[0]);    \
    }
TABLE_TEST(test_syntax, SYNTAX)
TABLE_TEST(test_keys, KEYS)
TABLE_TEST(test_models, MODELS)
TABLE_TEST(test_values, VALUES)

/* ---- what does not fit in a table ---- */

static void refuse(const char *text, size_t n_bytes, lors_status expected, const char *message)
{
    lors_recipe *recipe = NULL;
    clock_t start = clock();
    assert_int_equal(lors_recipe_parse("r.yaml", text, n_bytes, NULL, &recipe), expected);
    assert_null(recipe);
    assert_true(clock() - start < 10 * CLOCKS_PER_SEC);
    if (message && strcmp(lors_last_error(), message) != 0) {
        fail_msg("got %s", lors_last_error());
    }
}

static void test_bytes(void **state)
{
    (void)state;
    refuse("a: 1\0", 5, LORS_ERR_RECIPE, "r.yaml:1:5: the control character 0x00 is not allowed "
                                         "(is the text UTF-16? save it as UTF-8)");
    const char *utf16 = "r.yaml:1:1: the text is UTF-16: save it as UTF-8";
    refuse("\xff\xfe" "a\0", 4, LORS_ERR_RECIPE, utf16);
    refuse("\xfe\xff\0a", 4, LORS_ERR_RECIPE, utf16);
    refuse("", 0, LORS_ERR_RECIPE, "r.yaml:1:1: the recipe is empty");
}

/* `unit` as often as fits into n_bytes. */
static char *filled(const char *front, const char *unit, size_t n_bytes, size_t *length)
{
    char *text = malloc(n_bytes + 1);
    size_t n_unit = strlen(unit), at = strlen(front);
    assert_non_null(text);
    memcpy(text, front, at);
    for (; at + n_unit <= n_bytes; at += n_unit) {
        memcpy(text + at, unit, n_unit);
    }
    text[at] = '\0';
    *length = at;
    return text;
}

static void test_size(void **state)
{
    static const struct {
        const char *front, *unit, *message;
    } cases[] = {
        {"a: ", "[", "r.yaml:1:67: lists and maps are nested too deeply (allowed: 64 levels)"},
        {"", "{a: ", "r.yaml:1:257: lists and maps are nested too deeply (allowed: 64 levels)"},
        {"", "- ", "r.yaml:1:129: lists and maps are nested too deeply (allowed: 64 levels)"},
        {"", "? ", "r.yaml:1:129: lists and maps are nested too deeply (allowed: 64 levels)"},
        {"", "- a\n",
         "r.yaml:20000:3: a recipe may have at most 20000 values, aliases written out"},
        {"a: ", "x", "r.yaml:1:1: unknown key 'a'" TOP_ALLOWED},
        {"a: \"", "\\x41", NULL},
        {"", "\n", "r.yaml:1:1: the recipe is empty"},
        {"#", "x", "r.yaml:1:1: the recipe is empty"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t length;
        char *text = filled(cases[i].front, cases[i].unit, 1000000, &length);
        refuse(text, length, LORS_ERR_RECIPE, cases[i].message);
        free(text);
    }
    size_t length;
    char *text = filled("", "#", 1000001, &length);
    refuse(text, length, LORS_ERR_RECIPE,
           "r.yaml: 1000001 bytes are too many for a recipe (allowed: 1000000)");
    free(text);
}

/* Many keys: the check for duplicates must not take minutes. */
static void test_many_keys(void **state)
{
    size_t length = 0;
    char *text = malloc(1000000);
    (void)state;
    assert_non_null(text);
    for (int i = 0; i < 9000; i++) {
        length += (size_t)sprintf(text + length, "k%d: 1\n", i);
    }
    refuse(text, length, LORS_ERR_RECIPE, "r.yaml:1:1: unknown key 'k0'" TOP_ALLOWED);
    free(text);
}

/* Aliases count with those inside what they stand for: nine lines would be a thousand million. */
static void test_alias_bomb(void **state)
{
    char text[4096] = "a0: &a0 [x, x]\n";
    size_t length = strlen(text);
    (void)state;
    for (int i = 1; i < 10; i++) {
        length += (size_t)sprintf(text + length, "a%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1);
    }
    refuse(text, length, LORS_ERR_RECIPE,
           "r.yaml:6:10: too many aliases (allowed: 64, those within aliases counted)");
    length = (size_t)sprintf(text, "a: &a x\nb:\n");
    for (int i = 0; i < 65; i++) {
        length += (size_t)sprintf(text + length, "- *a\n");
    }
    refuse(text, length, LORS_ERR_RECIPE,
           "r.yaml:67:3: too many aliases (allowed: 64, those within aliases counted)");
}

static void test_files(void **state)
{
    lors_recipe *recipe = (lors_recipe *)&SYNTAX;
    (void)state;
    assert_int_equal(lors_recipe_read("no/such/recipe.yaml", &recipe), LORS_ERR_IO);
    assert_null(recipe);
    assert_int_equal(lors_recipe_read(".", &recipe), LORS_ERR_IO);
    assert_null(recipe);
    /* A file is named by its path, from the folder that a user would call it. */
    FILE *file = fopen("bad_recipe.yaml", "w");
    assert_non_null(file);
    fputs(PARAM("density: 1.5"), file);
    fclose(file);
    assert_int_equal(lors_recipe_read("./bad_recipe.yaml", &recipe), LORS_ERR_RECIPE);
    assert_string_equal(lors_last_error(), "./bad_recipe.yaml:7:12: parameters.density: 1.5 is out "
                                           "of range (allowed: 0 to 1)");
    remove("bad_recipe.yaml");
}

static void test_long_label(void **state)
{
    static char label[3000];
    lors_recipe *recipe;
    (void)state;
    memset(label, '\033', sizeof label - 1);
    memcpy(label + sizeof label - 6, ".yaml", 6);
    assert_int_equal(lors_recipe_parse(label, "", 0, NULL, &recipe), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "\\x1b.yaml:1:1: the recipe is empty"));
    assert_null(strchr(lors_last_error(), '\033'));
    assert_true(strlen(lors_last_error()) < 600);
}

/* Every mistake also while memory is short: its own message or a limit, and nothing leaked. */
static void test_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof VALUES / sizeof VALUES[0]; i++) {
        lors_status status = LORS_ERR_LIMIT;
        for (uint64_t n = 1; status != LORS_ERR_RECIPE; n++) {
            lors_recipe *recipe = NULL;
            lors_alloc_fail_at(n, false);
            status = lors_recipe_parse("r.yaml", VALUES[i].text, strlen(VALUES[i].text), "/f",
                                       &recipe);
            lors_alloc_fail_at(0, false);
            assert_true(status == LORS_ERR_LIMIT || status == LORS_ERR_RECIPE);
            assert_null(recipe);
        }
    }
}

/* Every recipe of the tables cut after every byte, and with every byte changed: no crash. */
static void test_damaged(void **state)
{
    static const bad_recipe *const tables[] = {SYNTAX, VALUES};
    static const size_t counts[] = {sizeof SYNTAX / sizeof SYNTAX[0],
                                    sizeof VALUES / sizeof VALUES[0]};
    static const char bytes[] = "[]{}:,&*!|>'\"%@`-#\n\t 0\\";
    (void)state;
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < counts[t]; i += 5) {
            char text[512];
            size_t n = strlen(tables[t][i].text);
            for (size_t k = 0; k < n; k++) {
                lors_recipe *recipe;
                memcpy(text, tables[t][i].text, n);
                lors_recipe_parse("r", text, k, NULL, &recipe);
                lors_recipe_free(recipe);
                text[k] = bytes[(k + i) % (sizeof bytes - 1)];
                lors_recipe_parse("r", text, n, NULL, &recipe);
                lors_recipe_free(recipe);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syntax),     cmocka_unit_test(test_keys),
        cmocka_unit_test(test_models),     cmocka_unit_test(test_values),
        cmocka_unit_test(test_bytes),      cmocka_unit_test(test_size),
        cmocka_unit_test(test_many_keys),  cmocka_unit_test(test_alias_bomb),
        cmocka_unit_test(test_files),      cmocka_unit_test(test_long_label),
        cmocka_unit_test(test_memory),     cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

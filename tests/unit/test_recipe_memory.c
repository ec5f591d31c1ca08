/* test_recipe_memory.c - good recipes of every kind while memory is short: a limit or the recipe,
 * whichever allocation fails, those for the texts of libfyaml included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <libfyaml.h>
#include <locale.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

#include <lors/recipe.h>

#include "base/memory.h"

/* ---- What libfyaml does where it has no memory for a text ------------------------------------ */

#define EXPORT __attribute__((visibility("default")))

static int n_texts, text_fails_at, n_events, event_fails_at = 1;
static bool no_locale;
static enum { NO_CALL, DIAG_CREATE, PARSER_CREATE, SET_STRING, PARSE, COMPILE } failing;

EXPORT const char *fy_token_get_text(struct fy_token *token, size_t *n_bytes);
EXPORT struct fy_diag *fy_diag_create(const struct fy_diag_cfg *config);
EXPORT struct fy_parser *fy_parser_create(const struct fy_parse_cfg *config);
EXPORT int fy_parser_set_string(struct fy_parser *parser, const char *text, size_t n_bytes);
EXPORT struct fy_event *fy_parser_parse(struct fy_parser *parser);
EXPORT locale_t newlocale(int mask, const char *name, locale_t base);
EXPORT int regcomp(regex_t *out, const char *pattern, int flags);

static void *real_of(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    assert_non_null(found);
    return found;
}

struct fy_diag *fy_diag_create(const struct fy_diag_cfg *config)
{
    struct fy_diag *(*real)(const struct fy_diag_cfg *);
    *(void **)&real = real_of("fy_diag_create");
    return failing == DIAG_CREATE ? NULL : real(config);
}

struct fy_parser *fy_parser_create(const struct fy_parse_cfg *config)
{
    struct fy_parser *(*real)(const struct fy_parse_cfg *);
    *(void **)&real = real_of("fy_parser_create");
    return failing == PARSER_CREATE ? NULL : real(config);
}

int fy_parser_set_string(struct fy_parser *parser, const char *text, size_t n_bytes)
{
    int (*real)(struct fy_parser *, const char *, size_t);
    *(void **)&real = real_of("fy_parser_set_string");
    return failing == SET_STRING ? -1 : real(parser, text, n_bytes);
}

struct fy_event *fy_parser_parse(struct fy_parser *parser)
{
    struct fy_event *(*real)(struct fy_parser *);
    *(void **)&real = real_of("fy_parser_parse");
    return failing == PARSE && ++n_events >= event_fails_at ? NULL : real(parser);
}

/* Then numbers are read in the locale at hand. */
locale_t newlocale(int mask, const char *name, locale_t base)
{
    locale_t (*real)(int, const char *, locale_t);
    *(void **)&real = real_of("newlocale");
    return no_locale ? (locale_t)0 : real(mask, name, base);
}

int regcomp(regex_t *out, const char *pattern, int flags)
{
    int (*real)(regex_t *, const char *, int);
    *(void **)&real = real_of("regcomp");
    return failing == COMPILE ? REG_ESPACE : real(out, pattern, flags);
}

const char *fy_token_get_text(struct fy_token *token, size_t *n_bytes)
{
    static const char *(*real)(struct fy_token *, size_t *);
    if (!real) {
        *(void **)&real = real_of("fy_token_get_text");
    }
    const char *text = real(token, n_bytes);
    *n_bytes = ++n_texts == text_fails_at ? 0 : *n_bytes;
    return text;
}

/* ---- Recipes --------------------------------------------------------------------------------- */

#define TWO                                                       \
    "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"

static const char *const recipes[] = {
    "merge_method: lors\nbase_model: b\n" TWO
    "parameters: {rank: 7, density: 0.2, lambda: 0.2, scope: [attention, mlp]}\ndtype: float16\n",
    "merge_method: ties\nbase_model: b\n" TWO "parameters:\n  density:\n"
    "    - filter: self_attn\n      value: [0.1, 0.5, 0.9]\n    - value: 0.3\n  normalize: true\n",
    "merge_method: linear\nmodels:\n  - model: &x 'it''s'\n    parameters: {weight: [1, 2]}\n"
    "  - {model: \"\\x41b\", parameters: {weight: 1}}\nparameters: {normalize: true}\n",
    "merge_method: linear\nslices:\n  - sources:\n      - {model: m, layer_range: [0, 4]}\n"
    "      - {model: n, layer_range: [4, 8]}\n    parameters: {weight: 0.5}\n"
    "  - sources: [{model: m, layer_range: [4, 5]}, {model: n, layer_range: [1, 2]}]\n"
    "parameters: {weight: 1}\n",
    "merge_method: task_arithmetic\nbase_model: b\nslices:\n"
    "  - {sources: [{model: m, layer_range: [0, 1]}, {model: c, layer_range: [4, 5]}], "
    "base_model: c}\n"
    "parameters: {weight: 1}\n",
    "merge_method: passthrough\nmodules:\n  encoder: {models: [{model: m}]}\n"
    "  decoder: {slices: [{sources: [{model: n, layer_range: [0, 2], parameters: {scale: 2}}]}]}\n",
    "expression: (A - B) / 2 + A\nmodels: [{name: A, model: m}, {name: B, model: n}]\n",
    "name: x\nmerge_method: slerp\nbase_model: b\nmodels: [{model: m}]\nparameters: {t: 0.4}\n"
    "---\nmerge_method: linear\nmodels: [{model: x}, {model: n}]\nout_dtype: float16\n"
    "parameters: {weight: 1}\n",
    "merge_method: linear\nmodels: [{model: m, residual_weight: 1}]\nint8_mask: true\n"
    "parameters: {weight: 1}\n",
    "merge_method: karcher\nbase_model: b\ncompat: mergekit\nmodels: [{model: m}]\n",
    "merge_method: sce\nbase_model: b\ncompat: mergekit\nmodels: [{model: m}, {model: n}]\n"
    "tokenizer_source: base\nparameters: {select_topk: 0.5}\n",
    "merge_method: dare_ties\nbase_model: b\n" TWO
    "parameters: {scope: [mlp, 'layers: 0-3', {regex: '^model'}], density: 0.5}\n",
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes };

static lors_status parse(int i)
{
    lors_recipe *recipe = NULL;
    lors_status status =
        lors_recipe_parse("r.yaml", recipes[i], strlen(recipes[i]), "/f", &recipe);
    assert_int_equal(status == LORS_OK, recipe != NULL);
    lors_recipe_free(recipe);
    return status;
}

static void test_good(void **state)
{
    (void)state;
    for (int i = 0; i < N_RECIPES; i++) {
        if (parse(i) != LORS_OK) {
            fail_msg("recipe %d: %s", i, lors_last_error());
        }
    }
}

static void fail_each(int i, bool on)
{
    lors_status status = LORS_ERR_LIMIT;
    for (uint64_t n = 1; status != LORS_OK; n++) {
        lors_alloc_fail_at(n, on);
        status = parse(i);
        lors_alloc_fail_at(0, false);
        if (status != LORS_OK && status != LORS_ERR_LIMIT) {
            fail_msg("recipe %d, allocation %d: %s", i, (int)n, lors_last_error());
        }
        assert_true(n < 100000);
    }
}

static void test_allocations(void **state)
{
    (void)state;
    for (int i = 0; i < N_RECIPES; i++) {
        fail_each(i, false);
        fail_each(i, true);
    }
}

static void test_texts(void **state)
{
    (void)state;
    int n_refused = 0;
    for (int i = 0; i < N_RECIPES; i++) {
        n_texts = text_fails_at = 0;
        assert_int_equal(parse(i), LORS_OK);
        for (int n = 1, n_all = n_texts; n <= n_all; n++) {
            n_texts = 0;
            text_fails_at = n;
            if (parse(i) != LORS_ERR_LIMIT) {
                fail_msg("recipe %d, text %d: %s", i, n, lors_last_error());
            }
            n_refused++;
        }
    }
    text_fails_at = 0;
    assert_true(n_refused > 100);
}

/* Each of these says that memory is short, and nothing else. */
static void test_calls(void **state)
{
    (void)state;
    for (int call = DIAG_CREATE; call <= COMPILE; call++) {
        for (int i = 0; i < N_RECIPES; i++) {
            failing = call;
            n_events = 0;
            lors_status status = parse(i);
            failing = NO_CALL;
            bool compiles = strstr(recipes[i], "regex") != NULL;
            assert_int_equal(status, call != COMPILE || compiles ? LORS_ERR_LIMIT : LORS_OK);
            assert_true(status == LORS_OK || strstr(lors_last_error(), "cannot allocate memory"));
        }
    }
}

static void test_events(void **state)
{
    (void)state;
    for (event_fails_at = 1; event_fails_at < 20; event_fails_at++) {
        n_events = 0;
        failing = PARSE;
        lors_status status = parse(0);
        failing = NO_CALL;
        assert_int_equal(status, LORS_ERR_LIMIT);
    }
}

static void test_no_locale(void **state)
{
    (void)state;
    no_locale = true;
    for (int i = 0; i < N_RECIPES; i++) {
        assert_int_equal(parse(i), LORS_OK);
    }
    no_locale = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_no_locale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

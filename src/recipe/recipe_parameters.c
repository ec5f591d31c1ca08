/* recipe_parameters.c - the keys under `parameters:` and the scalar keys at the top, each by name:
 * known, known but elsewhere, known to mergekit only, or unknown with the nearest name. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

/* Parameters of every method; all are global. */
static const char *const COMMON[] = {"scope", "outside", "merge_encoder_positions"};
static const char *const TOP_KEYS[] = {"merge_method", "base_model", "models", "slices", "modules",
                                       "expression", "dtype", "out_dtype", "seed", "name",
                                       "compat", "tokenizer_source", "tokenizer"};

/* What mergekit takes and does not use, as we do. */
static const struct {
    const char *method; /* NULL: all */
    const char *key, *sentence;
} NO_EFFECT[] = {
    {NULL, "int8_mask", "ignored: it saves memory in mergekit and never changes a result"},
    {"task_arithmetic", "density", "ignored, as by mergekit: task_arithmetic keeps all of a task "
                                   "vector (ties keeps a share)"},
};
enum { N_NO_EFFECT = sizeof NO_EFFECT / sizeof NO_EFFECT[0] };
enum { N_COMMON = sizeof COMMON / sizeof COMMON[0], N_TOP = sizeof TOP_KEYS / sizeof TOP_KEYS[0] };

static bool is_one_of(const char *word, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(word, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int32_t find_param(const lors_method_info *method, const char *name)
{
    for (int32_t i = 0; i < method->n_params; i++) {
        if (strcmp(method->params[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool is_any_param(const char *key)
{
    for (int32_t m = 0; m < lors_method_count(); m++) {
        if (find_param(lors_method_at(m), key) >= 0) {
            return true;
        }
    }
    return false;
}

bool lors_recipe_is_parameter(const char *key)
{
    return is_any_param(key) || is_one_of(key, COMMON + 1, N_COMMON - 1);
}

/* ---- the top ---- */

bool lors_recipe_is_plain_key(const char *key)
{
    return strcmp(key, "dtype") == 0 || strcmp(key, "out_dtype") == 0 || strcmp(key, "seed") == 0
           || strcmp(key, "compat") == 0;
}

lors_status lors_recipe_put_plain(lors_recipe *recipe, const char *key, const lors_yaml *value)
{
    lors_value_context at = {recipe->label, key};
    if (strcmp(key, "seed") == 0) {
        LORS_TRY(lors_read_seed(&at, value, &recipe->seed));
        recipe->has_seed = true;
    } else if (strcmp(key, "compat") == 0) {
        LORS_TRY(lors_read_compat(&at, value, &recipe->compat));
    } else if (strcmp(key, "dtype") == 0) {
        LORS_TRY(lors_read_dtype(&at, value, &recipe->dtype));
        recipe->has_dtype = true;
    } else {
        LORS_TRY(lors_read_dtype(&at, value, &recipe->out_dtype));
        recipe->has_out_dtype = true;
    }
    return LORS_OK;
}

static const char *method_name_at(size_t i, const void *context)
{
    (void)context;
    const lors_method_info *method = lors_method_at((int32_t)i);
    return method ? method->name : NULL;
}

lors_status lors_recipe_put_method(lors_recipe *recipe, const char *name, lors_place place)
{
    const lors_method_info *method = lors_method_find(name);
    if (!method) {
        char shown[LORS_ESCAPED_MAX], near[128];
        return lors_recipe_fail(recipe->label, place, "merge_method",
                                "unknown method '%s'%s (`lors methods` lists them)",
                                lors_escape_text(name, shown),
                                lors_recipe_suggest_of(name, method_name_at, NULL, near));
    }
    recipe->method = method;
    recipe->method_place = place;
    return LORS_OK;
}

/* ---- scope ---- */

static void free_scope(lors_scope_entry *scope, int32_t n_scope)
{
    for (int32_t i = 0; i < n_scope; i++) {
        lors_selector_free(scope[i].selector);
    }
    lors_free(scope);
}

static lors_status read_scope(const lors_value_context *at, const lors_yaml *value,
                              lors_scope_entry *scope, int32_t *n_scope)
{
    if (value->kind != LORS_YAML_LIST) {
        scope[0].place = value->place;
        LORS_TRY(lors_read_selector(at, value, false, &scope[0].selector));
        *n_scope = 1;
        return LORS_OK;
    }
    for (const lors_yaml_item *item = value->first; item; item = item->next) {
        scope[*n_scope].place = item->value->place;
        LORS_TRY(lors_read_selector(at, item->value, false, &scope[*n_scope].selector));
        ++*n_scope;
    }
    return LORS_OK;
}

lors_status lors_recipe_put_scope(lors_recipe *recipe, const char *key, const lors_yaml *value)
{
    lors_value_context at = {recipe->label, key};
    size_t n = value->kind == LORS_YAML_LIST ? (size_t)value->n_items : 1;
    if (n == 0) {
        return lors_recipe_fail(recipe->label, value->place, key,
                                "the list is empty: nothing would be in scope (\"*\" means every "
                                "tensor)");
    }
    int32_t n_scope = 0;
    lors_scope_entry *scope = lors_new(n, sizeof *scope);
    if (!scope) {
        return lors_fail_memory(n * sizeof *scope);
    }
    lors_status status = read_scope(&at, value, scope, &n_scope);
    if (status != LORS_OK) {
        free_scope(scope, n_scope);
        return status;
    }
    free_scope(recipe->scope, recipe->n_scope);
    recipe->scope = scope;
    recipe->n_scope = n_scope;
    return LORS_OK;
}

/* ---- under parameters ---- */

/* Of the method that is the context, and of all. */
static const char *parameter_at(size_t i, const void *context)
{
    const lors_method_info *method = context;
    size_t n = (size_t)method->n_params;
    return i < n ? method->params[i].name : i < n + N_COMMON ? COMMON[i - n] : NULL;
}

static lors_status fail_unknown(const lors_recipe *recipe, const char *prefix, const char *key,
                                lors_place place)
{
    const lors_method_info *method = recipe->method;
    char shown[LORS_ESCAPED_MAX], near[128], all[512];
    lors_escape_text(key, shown);
    if (is_one_of(key, TOP_KEYS, N_TOP) || strcmp(key, "parameters") == 0) {
        return lors_recipe_fail(recipe->label, place, prefix,
                                "'%s' belongs at the top level of the recipe", shown);
    }
    lors_recipe_suggest_of(key, parameter_at, method, near);
    lors_recipe_join_of(parameter_at, method, all, sizeof all);
    return lors_recipe_fail(recipe->label, place, prefix, "%s '%s'%s (%s takes: %s)",
                            is_any_param(key) ? "this method has no parameter"
                                              : "unknown parameter",
                            shown, near, method->name, all);
}

lors_status lors_recipe_put_setting(lors_settings *settings, lors_setting *setting)
{
    for (int32_t i = 0; i < settings->count; i++) {
        if (settings->items[i].param == setting->param) {
            lors_setting_clear(&settings->items[i]);
            settings->items[i] = *setting;
            return LORS_OK;
        }
    }
    size_t n_bytes = ((size_t)settings->count + 1) * sizeof *settings->items;
    lors_setting *items = lors_resize(settings->items, n_bytes);
    if (!items) {
        lors_setting_clear(setting);
        return lors_fail_memory(n_bytes);
    }
    settings->items = items;
    settings->items[settings->count++] = *setting;
    return LORS_OK;
}

static lors_status put_common(lors_recipe *recipe, const char *key, const char *full_key,
                              const lors_yaml *value)
{
    lors_value_context at = {recipe->label, full_key};
    if (strcmp(key, "scope") == 0) {
        return lors_recipe_put_scope(recipe, full_key, value);
    }
    if (strcmp(key, "outside") == 0) {
        return lors_read_outside(&at, value, &recipe->outside);
    }
    return lors_read_bool(&at, value, &recipe->merge_sinusoid);
}

/* The sentence about a parameter that has no effect; NULL: it is none. */
static const char *no_effect(const lors_recipe *recipe, const char *key)
{
    for (size_t i = 0; i < N_NO_EFFECT; i++) {
        bool fits = !NO_EFFECT[i].method || strcmp(NO_EFFECT[i].method, recipe->method->name) == 0;
        if (fits && strcmp(NO_EFFECT[i].key, key) == 0) {
            return NO_EFFECT[i].sentence;
        }
    }
    return NULL;
}

lors_status lors_recipe_put_parameter(lors_recipe *recipe, lors_settings *settings, bool of_source,
                                      const char *prefix, const char *key, lors_place key_place,
                                      const lors_yaml *value)
{
    int32_t index = find_param(recipe->method, key);
    bool common = is_one_of(key, COMMON, N_COMMON);
    char full_key[LORS_KEY_MAX];
    snprintf(full_key, sizeof full_key, "%s.%s", prefix, key);
    if (index < 0 && !common) {
        const char *ignored = no_effect(recipe, key);
        return ignored ? lors_recipe_note(recipe, key_place, full_key, ignored)
                       : fail_unknown(recipe, prefix, key, key_place);
    }
    if (common && settings != &recipe->settings) {
        return lors_recipe_fail(recipe->label, key_place, prefix,
                                "'%s' is one value for the whole merge: it belongs under the "
                                "top-level 'parameters:'", key);
    }
    if (of_source && !recipe->method->params[index].per_model) {
        return lors_recipe_fail(recipe->label, key_place, prefix,
                                "'%s' is one value for %s: it belongs under %s", key,
                                recipe->sliced ? "all models of a slice" : "the whole merge",
                                recipe->sliced ? "the slice's 'parameters:'"
                                               : "the top-level 'parameters:'");
    }
    if (common) {
        return put_common(recipe, key, full_key, value);
    }
    lors_value_context at = {recipe->label, full_key};
    lors_setting setting;
    LORS_TRY(lors_read_setting(&at, &recipe->method->params[index], value, &setting));
    setting.param = index;
    return lors_recipe_put_setting(settings, &setting);
}

/* recipe.c - the recipe as a thing: its lifetime, the value of a parameter for one tensor, and
 * messages with file, line and column. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

enum { PLACE_MAX = 512, SENTENCE_MAX = 2048, LABEL_SHOWN = 180 };

/* ---- messages ---- */

/* The end of a long label is the part that tells: the file's name. */
static const char *place_text(const char *label, lors_place place, char out[PLACE_MAX])
{
    enum { ROOM = PLACE_MAX - 40 }; /* for the label: dots, line and column need the rest */
    char shown[LORS_ESCAPED_MAX], numbers[32] = "";
    size_t n_bytes = strlen(label);
    bool cut = n_bytes > LABEL_SHOWN;
    lors_escape_text(cut ? label + n_bytes - LABEL_SHOWN : label, shown);
    size_t length = strlen(shown), skipped = length > ROOM ? length - ROOM : 0;
    if (place.line > 0) {
        snprintf(numbers, sizeof numbers, ":%d:%d", place.line, place.column);
    }
    snprintf(out, PLACE_MAX, "%s%.*s%s", cut || skipped ? "..." : "", (int)ROOM, shown + skipped,
             numbers);
    return out;
}

const char *lors_recipe_locate(const lors_recipe *recipe, lors_place place, char out[PLACE_MAX])
{
    return place_text(recipe->label, place, out);
}

lors_status lors_recipe_fail(const char *label, lors_place place, const char *key,
                             const char *format, ...)
{
    char where[PLACE_MAX], sentence[SENTENCE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    place_text(label, place, where);
    return lors_fail(LORS_ERR_RECIPE, "%s: %s%s%s", where, key ? key : "", key ? ": " : "",
                     sentence);
}

lors_status lors_recipe_fail_within(lors_status status, const char *label, lors_place place,
                                    const char *key)
{
    char where[PLACE_MAX], prefix[PLACE_MAX + LORS_KEY_MAX + 8];
    if (status != LORS_ERR_RECIPE) {
        return status;
    }
    snprintf(prefix, sizeof prefix, "%s: %s", place_text(label, place, where), key);
    return lors_fail_within(status, prefix);
}

static const char *name_at(size_t i, const void *context)
{
    return ((const char *const *)context)[i];
}

const char *lors_recipe_suggest(const char *word, const char *const *names, char out[128])
{
    const char *near = lors_nearest(word, name_at, names);
    out[0] = '\0';
    if (near) {
        snprintf(out, 128, ", did you mean '%s'?", near);
    }
    return out;
}

/* ---- lifetime ---- */

void lors_setting_clear(lors_setting *setting)
{
    for (int32_t i = 0; i < setting->n_cases; i++) {
        lors_selector_free(setting->cases[i].filter);
        lors_free(setting->cases[i].values);
    }
    lors_free(setting->cases);
    *setting = (lors_setting){0};
}

void lors_settings_clear(lors_settings *settings)
{
    for (int32_t i = 0; i < settings->count; i++) {
        lors_setting_clear(&settings->items[i]);
    }
    lors_free(settings->items);
    *settings = (lors_settings){0};
}

void lors_recipe_free(lors_recipe *recipe)
{
    if (!recipe) {
        return;
    }
    for (int32_t i = 0; i < recipe->n_models; i++) {
        lors_free(recipe->models[i].path);
        lors_free(recipe->models[i].written);
        lors_settings_clear(&recipe->models[i].settings);
    }
    lors_free(recipe->models);
    for (int32_t i = 0; i < recipe->n_scope; i++) {
        lors_selector_free(recipe->scope[i].selector);
    }
    lors_free(recipe->scope);
    lors_settings_clear(&recipe->settings);
    lors_free(recipe->base_path);
    lors_free(recipe->base_written);
    lors_free(recipe->folder);
    lors_free(recipe->text);
    lors_free(recipe->label);
    lors_free(recipe);
}

/* ---- what is in it ---- */

int32_t lors_recipe_model_count(const lors_recipe *recipe)
{
    return recipe->n_models;
}

const char *lors_recipe_model_path(const lors_recipe *recipe, int32_t model)
{
    return model >= 0 && model < recipe->n_models ? recipe->models[model].path : NULL;
}

const char *lors_recipe_base_path(const lors_recipe *recipe)
{
    return recipe->base_path;
}

const char *lors_recipe_method(const lors_recipe *recipe)
{
    return recipe->method->name;
}

/* ---- the value of a parameter ---- */

/* Tensors before, after and outside the layers take the first value; the only layer of a stack of
 * one takes the last, as in mergekit. */
static double gradient_position(const lors_subject *subject, int32_t n_layers)
{
    int32_t layer = subject->described->layer;
    if (layer < 0 || n_layers < 1) {
        return 0;
    }
    if (n_layers == 1 || layer >= n_layers) {
        return 1;
    }
    return (double)layer / (double)(n_layers - 1);
}

static lors_value value_of_case(const lors_setting_case *item, const lors_subject *subject,
                                int32_t n_layers)
{
    if (item->n_values == 1) {
        return item->values[0];
    }
    double s = gradient_position(subject, n_layers) * (double)(item->n_values - 1);
    int32_t i = (int32_t)s;
    if (i >= item->n_values - 1) {
        return item->values[item->n_values - 1];
    }
    double part = s - (double)i, a = item->values[i].number, b = item->values[i + 1].number;
    return (lors_value){LORS_VALUE_NUMBER, part == 0 ? a : (1 - part) * a + part * b};
}

static bool find_value(const lors_settings *settings, int32_t param, const lors_subject *subject,
                       int32_t n_layers, lors_value *out)
{
    for (int32_t i = 0; i < settings->count; i++) {
        const lors_setting *setting = &settings->items[i];
        for (int32_t k = 0; setting->param == param && k < setting->n_cases; k++) {
            const lors_setting_case *item = &setting->cases[k];
            if (!item->filter || lors_selector_matches(item->filter, subject)) {
                *out = value_of_case(item, subject, n_layers);
                return true;
            }
        }
    }
    return false;
}

lors_value lors_recipe_value(const lors_recipe *recipe, int32_t param, int32_t model,
                             const lors_subject *subject, int32_t n_layers, bool *from_recipe)
{
    lors_value value;
    *from_recipe = true;
    if (model >= 0 && model < recipe->n_models
        && find_value(&recipe->models[model].settings, param, subject, n_layers, &value)) {
        return value;
    }
    if (find_value(&recipe->settings, param, subject, n_layers, &value)) {
        return value;
    }
    *from_recipe = false;
    const lors_param_info *info = &recipe->method->params[param];
    bool share = info->kind == LORS_PARAM_RANK && info->fallback && strchr(info->fallback, '%');
    return (lors_value){share ? LORS_VALUE_SHARE : LORS_VALUE_NUMBER, info->fallback_value};
}

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
    return lors_recipe_suggest_of(word, name_at, names, out);
}

const char *lors_recipe_suggest_of(const char *word, lors_name_at *at, const void *context,
                                   char out[128])
{
    const char *near = lors_nearest(word, at, context);
    out[0] = '\0';
    if (near) {
        snprintf(out, 128, ", did you mean '%s'?", near);
    }
    return out;
}

const char *lors_recipe_join(const char *const *names, char *out, size_t n_bytes)
{
    return lors_recipe_join_of(name_at, names, out, n_bytes);
}

const char *lors_recipe_join_of(lors_name_at *at, const void *context, char *out, size_t n_bytes)
{
    const char *name;
    out[0] = '\0';
    for (size_t i = 0; (name = at(i, context)) != NULL; i++) {
        size_t length = strlen(out);
        snprintf(out + length, n_bytes - length, "%s%s", i ? ", " : "", name);
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

static void clear_slice(lors_recipe_slice *slice)
{
    for (int32_t i = 0; i < slice->n_sources; i++) {
        lors_settings_clear(&slice->sources[i].settings);
    }
    lors_free(slice->sources);
    lors_settings_clear(&slice->settings);
}

static void free_modules(lors_recipe *recipe)
{
    for (int32_t m = 0; m < recipe->n_modules; m++) {
        lors_recipe_module *module = &recipe->modules[m];
        for (int32_t i = 0; i < module->n_slices; i++) {
            clear_slice(&module->slices[i]);
        }
        lors_free(module->slices);
        lors_settings_clear(&module->settings);
    }
    lors_free(recipe->modules);
}

void lors_recipe_model_clear(lors_recipe_model *model)
{
    lors_free(model->path);
    lors_free(model->written);
    lors_free(model->name);
    *model = (lors_recipe_model){0};
}

void lors_recipe_free(lors_recipe *recipe)
{
    if (!recipe) {
        return;
    }
    for (int32_t i = 0; recipe->owns_documents && i < recipe->n_documents; i++) {
        if (recipe->documents[i] != recipe) {
            lors_recipe_free(recipe->documents[i]);
        }
    }
    if (recipe->owns_documents) {
        lors_free(recipe->documents);
    }
    for (int32_t i = 0; i < recipe->n_models; i++) {
        lors_recipe_model_clear(&recipe->models[i]);
    }
    lors_free(recipe->models);
    free_modules(recipe);
    for (int32_t i = 0; i < recipe->n_scope; i++) {
        lors_selector_free(recipe->scope[i].selector);
    }
    lors_free(recipe->scope);
    for (size_t i = 0; i < recipe->notes.count; i++) {
        lors_free(recipe->notes.items[i]);
    }
    lors_free(recipe->notes.items);
    lors_settings_clear(&recipe->settings);
    lors_free(recipe->base_path);
    lors_free(recipe->base_written);
    lors_free(recipe->folder);
    lors_free(recipe->name);
    lors_free(recipe->text);
    lors_free(recipe->label);
    lors_free(recipe);
}

/* A zeroed element more at the end of an array; NULL: no memory. */
static void *grown(void *items, int32_t count, size_t n_bytes_each)
{
    char *more = lors_resize(items, ((size_t)count + 1) * n_bytes_each);
    if (more) {
        memset(more + (size_t)count * n_bytes_each, 0, n_bytes_each);
    }
    return more;
}

lors_status lors_recipe_add_module(lors_recipe *recipe, lors_recipe_module **out)
{
    lors_recipe_module *more = grown(recipe->modules, recipe->n_modules, sizeof *more);
    if (!more) {
        return lors_fail_memory(sizeof *more);
    }
    recipe->modules = more;
    *out = &more[recipe->n_modules++];
    return LORS_OK;
}

lors_status lors_recipe_add_slice(lors_recipe_module *module, lors_recipe_slice **out)
{
    lors_recipe_slice *more = grown(module->slices, module->n_slices, sizeof *more);
    if (!more) {
        return lors_fail_memory(sizeof *more);
    }
    module->slices = more;
    *out = &more[module->n_slices++];
    (*out)->base = LORS_THE_BASE;
    (*out)->base_layers.end = -1;
    return LORS_OK;
}

lors_status lors_recipe_add_source(lors_recipe_slice *slice, int32_t model, lors_place place,
                                   lors_recipe_source **out)
{
    lors_recipe_source *more = grown(slice->sources, slice->n_sources, sizeof *more);
    if (!more) {
        return lors_fail_memory(sizeof *more);
    }
    slice->sources = more;
    *out = &more[slice->n_sources++];
    (*out)->model = model;
    (*out)->layers.end = -1;
    (*out)->place = place;
    return LORS_OK;
}

/* Room for a plain recipe. */
lors_status lors_recipe_begin(lors_recipe *recipe)
{
    lors_recipe_module *module;
    lors_recipe_slice *slice;
    recipe->tokenizer = LORS_THE_BASE;
    LORS_TRY(lors_recipe_add_module(recipe, &module));
    return lors_recipe_add_slice(module, &slice);
}

lors_status lors_recipe_note(lors_recipe *recipe, lors_place place, const char *key,
                             const char *sentence)
{
    char where[PLACE_MAX];
    for (size_t i = 0; i < recipe->notes.count; i++) {
        if (strstr(recipe->notes.items[i], sentence)) {
            return LORS_OK; /* once is enough */
        }
    }
    lors_text text = {0};
    lors_text_printf(&text, "%s: %s: %s", place_text(recipe->label, place, where), key, sentence);
    if (text.failed || !lors_list_push(&recipe->notes, text.bytes)) {
        lors_text_clear(&text);
        return lors_fail_memory(PLACE_MAX);
    }
    return LORS_OK;
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

double lors_layer_position(int32_t layer, int32_t n_layers)
{
    if (layer < 0 || n_layers < 1) {
        return 0;
    }
    if (n_layers == 1 || layer >= n_layers) {
        return 1;
    }
    return (double)layer / (double)(n_layers - 1);
}

static lors_value value_of_case(const lors_setting_case *item, double position)
{
    if (item->n_values == 1) {
        return item->values[0];
    }
    double s = position * (double)(item->n_values - 1);
    int32_t i = (int32_t)s;
    if (i >= item->n_values - 1) {
        return item->values[item->n_values - 1];
    }
    double part = s - (double)i, a = item->values[i].number, b = item->values[i + 1].number;
    return (lors_value){LORS_VALUE_NUMBER, part == 0 ? a : (1 - part) * a + part * b};
}

static bool find_value(const lors_settings *settings, int32_t param, const lors_subject *subject,
                       double position, lors_value *out)
{
    for (int32_t i = 0; i < settings->count; i++) {
        const lors_setting *setting = &settings->items[i];
        for (int32_t k = 0; setting->param == param && k < setting->n_cases; k++) {
            const lors_setting_case *item = &setting->cases[k];
            if (!item->filter || lors_selector_matches(item->filter, subject)) {
                *out = value_of_case(item, position);
                return true;
            }
        }
    }
    return false;
}

const lors_settings *lors_source_settings(const lors_recipe_source *source)
{
    return source->subtracted ? &source[-1].settings : &source->settings;
}

lors_value lors_recipe_value(const lors_recipe *recipe, int32_t param, const lors_value_at *at,
                             bool *from_recipe)
{
    lors_value value;
    *from_recipe = true;
    if (at->source
        && find_value(lors_source_settings(at->source), param, at->input, at->position, &value)) {
        return value;
    }
    const lors_settings *levels[] = {&at->slice->settings, &at->module->settings,
                                     &recipe->settings};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (find_value(levels[i], param, at->output, at->position, &value)) {
            return value;
        }
    }
    *from_recipe = false;
    const lors_param_info *info = &recipe->method->params[param];
    bool share = info->kind == LORS_PARAM_RANK && strchr(info->fallback, '%');
    return (lors_value){share ? LORS_VALUE_SHARE : LORS_VALUE_NUMBER, info->fallback_value};
}

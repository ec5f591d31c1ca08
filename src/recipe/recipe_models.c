/* recipe_models.c - what is merged: `models`, `slices` of layers, `modules`. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

enum { MOST_LAYERS = 999999 }; /* what the number of a layer in a name may be */

static const char *const MODEL_KEYS[] = {"model", "parameters", "name", "base_model", NULL};
static const char *const SOURCE_KEYS[] = {"model", "layer_range", "parameters", NULL};
static const char *const SLICE_KEYS[] = {"sources", "base_model", "parameters", NULL};
static const char *const MODULE_KEYS[] = {"models", "slices", "parameters", NULL};
static const char *const REFERENCE_KEYS[] = {
    "model", "path", "revision", "lora", "override_architecture", NULL};

#define FAIL(recipe, place, key, ...) lors_recipe_fail((recipe)->label, (place), (key), __VA_ARGS__)

bool lors_recipe_is_among(const char *word, const char *const *names)
{
    while (*names && strcmp(*names, word) != 0) {
        names++;
    }
    return *names != NULL;
}

/* ---- keys ---- */

/* mergekit's own key for a thing that it never built. */
static bool is_unused_key(const char *key)
{
    return strcmp(key, "residual_weight") == 0;
}

static lors_status check_keys(lors_recipe *recipe, const lors_yaml *map, const char *prefix,
                              const char *const *allowed)
{
    char shown[LORS_ESCAPED_MAX], near[128], all[128] = "";
    for (size_t i = 0; allowed[i]; i++) {
        size_t length = strlen(all);
        snprintf(all + length, sizeof all - length, "%s%s", i ? ", " : "", allowed[i]);
    }
    for (const lors_yaml_item *item = map->first; item; item = item->next) {
        if (lors_recipe_is_among(item->key, allowed)) {
            continue;
        }
        if (is_unused_key(item->key)) {
            LORS_TRY(lors_recipe_note(recipe, item->place, prefix,
                                      "'residual_weight' is ignored, as by mergekit"));
            continue;
        }
        lors_escape_text(item->key, shown);
        if (lors_recipe_is_parameter(item->key)) {
            return FAIL(recipe, item->place, prefix, "'%s' belongs under 'parameters:' here",
                        shown);
        }
        return FAIL(recipe, item->place, prefix, "unknown key '%s'%s (allowed: %s)", shown,
                    lors_recipe_suggest(item->key, allowed, near), all);
    }
    return LORS_OK;
}

static lors_status expect_map(const lors_recipe *recipe, const lors_yaml *node, const char *prefix,
                              const char *what)
{
    return node->kind == LORS_YAML_MAP ? LORS_OK
                                       : FAIL(recipe, node->place, prefix, "%s is expected", what);
}

static lors_status expect_list(const lors_recipe *recipe, const lors_yaml *node, const char *prefix,
                               const char *what)
{
    return node->kind == LORS_YAML_LIST && node->first
               ? LORS_OK
               : FAIL(recipe, node->place, prefix, "a list is expected, of entries '%s'", what);
}

/* ---- references and parameters ---- */

/* One level of {model: {path: FOLDER, revision: null}, lora: null}: the value of model or path. */
static lors_status open_reference(const lors_value_context *at, const lors_yaml *map,
                                  const lors_yaml **inner)
{
    char shown[LORS_ESCAPED_MAX];
    *inner = NULL;
    for (const lors_yaml_item *item = map->first; item; item = item->next) {
        bool leads_on = strcmp(item->key, "model") == 0 || strcmp(item->key, "path") == 0;
        if (leads_on && !*inner) {
            *inner = item->value;
        } else if (!lors_recipe_is_among(item->key, REFERENCE_KEYS) || leads_on) {
            return lors_recipe_fail(at->label, item->place, at->key,
                                    "unknown key '%s' (a model is a folder, or {model: {path: "
                                    "FOLDER}})", lors_escape_text(item->key, shown));
        } else if (!lors_yaml_is_null(item->value)) {
            return lors_recipe_fail(at->label, item->place, at->key,
                                    "'%s' is not supported: give the folder of that model",
                                    item->key);
        }
    }
    return *inner ? LORS_OK
                  : lors_recipe_fail(at->label, map->place, at->key,
                                     "a model is a folder, or {model: {path: FOLDER}}");
}

lors_status lors_read_reference(const lors_value_context *at, const lors_yaml *node,
                                const char **out, lors_place *place)
{
    while (node->kind == LORS_YAML_MAP) {
        LORS_TRY(open_reference(at, node, &node));
    }
    *place = node->place;
    return lors_read_text(at, node, out);
}

lors_status lors_recipe_read_parameters(lors_recipe *recipe, lors_settings *settings,
                                        bool of_source, const char *prefix, const lors_yaml *node)
{
    if (!node || lors_yaml_is_null(node)) {
        return LORS_OK;
    }
    if (node->kind != LORS_YAML_MAP) {
        return FAIL(recipe, node->place, prefix, "a map of parameters is expected, such as "
                    "{weight: 0.5}");
    }
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        LORS_TRY(lors_recipe_put_parameter(recipe, settings, of_source, prefix, item->key,
                                           item->place, item->value));
    }
    return LORS_OK;
}

/* ---- models ---- */

static bool is_name(const char *text)
{
    size_t n = strspn(text, LORS_NAME_LETTERS);
    return n > 0 && n <= 64 && !text[n] && text[0] > '9';
}

/* The name by which an expression calls the last model. */
static lors_status read_name(lors_recipe *recipe, const char *prefix, const lors_yaml *node)
{
    const char *text = "";
    char key[LORS_KEY_MAX], shown[LORS_ESCAPED_MAX];
    snprintf(key, sizeof key, "%s.name", prefix);
    lors_value_context at = {recipe->label, key};
    LORS_TRY(lors_read_text(&at, node, &text));
    if (!is_name(text)) {
        return FAIL(recipe, node->place, key, "'%s' is not a name: letters, digits and _, the "
                    "first no digit, at most 64", lors_escape_text(text, shown));
    }
    for (int32_t i = 0; i < recipe->n_models; i++) {
        if (recipe->models[i].name && strcmp(recipe->models[i].name, text) == 0) {
            return FAIL(recipe, node->place, key, "two models have the name '%s'", text);
        }
    }
    lors_recipe_model *model = &recipe->models[recipe->n_models - 1];
    model->name = lors_copy_text(text);
    return model->name ? LORS_OK : lors_fail_memory(strlen(text) + 1);
}

/* The model that the last one was tuned from, in place of the recipe's base. */
static lors_status read_own_base(lors_recipe *recipe, const char *prefix, const lors_yaml *node)
{
    const char *written = "";
    char key[LORS_KEY_MAX];
    int32_t index = 0;
    lors_place place;
    lors_recipe_slice *slice = recipe->modules->slices;
    lors_recipe_source *source;
    snprintf(key, sizeof key, "%s.base_model", prefix);
    lors_value_context at = {recipe->label, key};
    LORS_TRY(lors_read_reference(&at, node, &written, &place));
    if (strcmp(recipe->method->name, "task_arithmetic") != 0) {
        return FAIL(recipe, place, key, "a base of one model's own is for task_arithmetic only: "
                    "for other methods put a document with 'expression: BASE + MODEL - OWN' before "
                    "this one, and its name here");
    }
    int32_t model = slice->sources[slice->n_sources - 1].model;
    LORS_TRY(lors_recipe_use_model(recipe, key, written, place, &index));
    if (index == model || lors_recipe_is_base(recipe, model)) {
        return FAIL(recipe, place, key, index == model
                                            ? "this is the model itself: their difference is 0"
                                            : "the recipe's base cannot have a base of its own");
    }
    LORS_TRY(lors_recipe_add_source(slice, index, place, &source));
    source->subtracted = true;
    return LORS_OK;
}

static lors_status read_model(lors_recipe *recipe, const char *prefix, const lors_yaml *node)
{
    const char *written = "";
    char key[LORS_KEY_MAX];
    lors_place place;
    if (node->kind != LORS_YAML_MAP) {
        return FAIL(recipe, node->place, prefix, "an entry of the list is '- model: FOLDER'");
    }
    LORS_TRY(check_keys(recipe, node, prefix, MODEL_KEYS));
    const lors_yaml *model = lors_yaml_get(node, "model");
    const lors_yaml *name = lors_yaml_get(node, "name");
    const lors_yaml *own_base = lors_yaml_get(node, "base_model");
    if (!model) {
        return FAIL(recipe, node->place, prefix, "an entry of the list has no 'model'");
    }
    snprintf(key, sizeof key, "%s.model", prefix);
    lors_value_context at = {recipe->label, key};
    LORS_TRY(lors_read_reference(&at, model, &written, &place));
    LORS_TRY(lors_recipe_add_model_at(recipe, key, written, place));
    if (name) {
        LORS_TRY(read_name(recipe, prefix, name));
    }
    snprintf(key, sizeof key, "%s.parameters", prefix);
    lors_recipe_slice *slice = recipe->modules->slices;
    LORS_TRY(lors_recipe_read_parameters(recipe, &slice->sources[slice->n_sources - 1].settings,
                                         true, key, lors_yaml_get(node, "parameters")));
    return own_base ? read_own_base(recipe, prefix, own_base) : LORS_OK;
}

static lors_status read_models(lors_recipe *recipe, const lors_yaml *node)
{
    char prefix[LORS_KEY_MAX];
    int32_t index = 0;
    LORS_TRY(expect_list(recipe, node, "models", "- model: FOLDER"));
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        snprintf(prefix, sizeof prefix, "models[%d]", index++);
        LORS_TRY(read_model(recipe, prefix, item->value));
    }
    return LORS_OK;
}

/* ---- slices ---- */

static lors_status read_range(const lors_recipe *recipe, const char *prefix, const lors_yaml *node,
                              lors_layers *out)
{
    char key[LORS_KEY_MAX];
    snprintf(key, sizeof key, "%s.layer_range", prefix);
    lors_value_context at = {recipe->label, key};
    out->place = node->place;
    if (node->kind != LORS_YAML_LIST || node->n_items != 2) {
        return FAIL(recipe, node->place, key, "a range is [FIRST, END]: the layers from FIRST to "
                    "END - 1, the first layer is 0");
    }
    LORS_TRY(lors_read_count(&at, node->first->value, MOST_LAYERS, &out->first));
    LORS_TRY(lors_read_count(&at, node->last->value, MOST_LAYERS, &out->end));
    if (out->end <= out->first) {
        return FAIL(recipe, node->place, key, "[%d, %d] holds no layer: END is behind the last one",
                    out->first, out->end);
    }
    return LORS_OK;
}

static bool same_range(lors_layers a, lors_layers b)
{
    return a.first == b.first && a.end == b.end;
}

/* The entry of the base in a slice says which of its layers are meant. Its parameters are checked,
 * but change nothing: its task vector is zero. */
static lors_status take_base(lors_recipe *recipe, lors_recipe_slice *slice, const char *prefix,
                             const lors_layers *layers, const lors_yaml *node)
{
    char key[LORS_KEY_MAX];
    lors_settings unused = {0};
    if (slice->lists_base) {
        return FAIL(recipe, node->place, prefix, "the base is listed twice in this %s",
                    layers ? "slice" : "module");
    }
    slice->lists_base = true;
    if (layers) {
        slice->base_layers = *layers;
    }
    snprintf(key, sizeof key, "%s.parameters", prefix);
    lors_status status = lors_recipe_read_parameters(recipe, &unused, true, key,
                                                     lors_yaml_get(node, "parameters"));
    lors_settings_clear(&unused);
    return status;
}

static bool is_slice_base(const lors_recipe *recipe, const lors_recipe_slice *slice, int32_t model)
{
    if (recipe->method->base_is_model) {
        return false;
    }
    return slice->base >= 0 ? slice->base == model : lors_recipe_is_base(recipe, model);
}

/* `whole`: an entry of a module's `models`, without a range. */
static lors_status read_source(lors_recipe *recipe, lors_recipe_slice *slice, const char *prefix,
                               const lors_yaml *node, bool whole)
{
    const char *written = "";
    char key[LORS_KEY_MAX];
    int32_t model = 0;
    lors_place place;
    lors_layers layers = {0, -1, node->place};
    lors_recipe_source *source;
    LORS_TRY(expect_map(recipe, node, prefix,
                        whole ? "{model: FOLDER}" : "{model: FOLDER, layer_range: [FIRST, END]}"));
    LORS_TRY(check_keys(recipe, node, prefix, whole ? MODEL_KEYS : SOURCE_KEYS));
    const lors_yaml *reference = lors_yaml_get(node, "model");
    const lors_yaml *range = lors_yaml_get(node, "layer_range");
    if (!reference || (!whole && !range) || lors_yaml_get(node, "name")
        || lors_yaml_get(node, "base_model")) {
        return FAIL(recipe, node->place, prefix,
                    whole ? "an entry is {model: FOLDER, parameters: {...}}"
                          : "a source is {model: FOLDER, layer_range: [FIRST, END]}");
    }
    if (range) {
        LORS_TRY(read_range(recipe, prefix, range, &layers));
    }
    snprintf(key, sizeof key, "%s.model", prefix);
    lors_value_context at = {recipe->label, key};
    LORS_TRY(lors_read_reference(&at, reference, &written, &place));
    LORS_TRY(lors_recipe_use_model(recipe, key, written, place, &model));
    if (is_slice_base(recipe, slice, model)) {
        return take_base(recipe, slice, prefix, whole ? NULL : &layers, node);
    }
    for (int32_t i = 0; i < slice->n_sources; i++) {
        if (slice->sources[i].model == model && same_range(slice->sources[i].layers, layers)) {
            return FAIL(recipe, place, key, "the same layers of this model are listed twice: list "
                        "them once, with the sum of the weights");
        }
    }
    LORS_TRY(lors_recipe_add_source(slice, model, place, &source));
    source->layers = layers;
    snprintf(key, sizeof key, "%s.parameters", prefix);
    return lors_recipe_read_parameters(recipe, &source->settings, true, key,
                                       lors_yaml_get(node, "parameters"));
}

/* The base's own layers, where no source named them: those that all sources have. */
static lors_status complete_base(lors_recipe *recipe, lors_recipe_slice *slice, const char *prefix,
                                 bool whole)
{
    bool has_base = slice->base >= 0 || recipe->base_path;
    bool wants_base = has_base && !recipe->method->base_is_model;
    if (!wants_base) {
        slice->base = LORS_NO_MODEL;
        return LORS_OK;
    }
    for (int32_t i = 0; i < slice->n_sources && slice->base_layers.end < 0 && !whole; i++) {
        if (!same_range(slice->sources[i].layers, slice->sources[0].layers)) {
            return FAIL(recipe, slice->place, prefix, "the base is none of this slice's sources, "
                        "whose layers are not the same: list it with its layer_range");
        }
    }
    if (slice->base_layers.end < 0 && slice->n_sources > 0) {
        slice->base_layers = slice->sources[0].layers;
    }
    return LORS_OK;
}

/* One layer of each makes one layer. */
static lors_status check_lengths(const lors_recipe *recipe, const lors_recipe_slice *slice,
                                 const char *prefix)
{
    const lors_layers *first = slice->base != LORS_NO_MODEL ? &slice->base_layers
                                                            : &slice->sources[0].layers;
    for (int32_t i = 0; i < slice->n_sources; i++) {
        const lors_layers *layers = &slice->sources[i].layers;
        if (layers->end - layers->first != first->end - first->first) {
            return FAIL(recipe, layers->place, prefix, "[%d, %d] are %d layers, but another source "
                        "of this slice has %d: one of each is merged into one", layers->first,
                        layers->end, layers->end - layers->first, first->end - first->first);
        }
    }
    return LORS_OK;
}

static lors_status read_slice_base(lors_recipe *recipe, lors_recipe_slice *slice,
                                   const char *prefix, const lors_yaml *node)
{
    const char *written = "";
    char key[LORS_KEY_MAX];
    lors_place place;
    snprintf(key, sizeof key, "%s.base_model", prefix);
    lors_value_context at = {recipe->label, key};
    LORS_TRY(lors_read_reference(&at, node, &written, &place));
    LORS_TRY(lors_recipe_find_model(recipe, key, written, place, &slice->base));
    if (slice->base == LORS_THE_BASE) {
        return LORS_OK;
    }
    return lors_recipe_use_model(recipe, key, written, place, &slice->base);
}

static lors_status read_sources(lors_recipe *recipe, lors_recipe_slice *slice, const char *prefix,
                                const lors_yaml *list, bool whole)
{
    char key[LORS_KEY_MAX];
    int32_t index = 0;
    for (const lors_yaml_item *item = list->first; item; item = item->next) {
        snprintf(key, sizeof key, "%s%s[%d]", prefix, whole ? ".models" : ".sources", index++);
        LORS_TRY(read_source(recipe, slice, key, item->value, whole));
    }
    LORS_TRY(complete_base(recipe, slice, prefix, whole));
    return check_lengths(recipe, slice, prefix);
}

static lors_status read_slice(lors_recipe *recipe, lors_recipe_module *module, const char *prefix,
                              const lors_yaml *node)
{
    char key[LORS_KEY_MAX];
    lors_recipe_slice *slice;
    LORS_TRY(expect_map(recipe, node, prefix, "{sources: [...]}"));
    LORS_TRY(check_keys(recipe, node, prefix, SLICE_KEYS));
    const lors_yaml *sources = lors_yaml_get(node, "sources");
    const lors_yaml *base = lors_yaml_get(node, "base_model");
    if (!sources) {
        return FAIL(recipe, node->place, prefix, "a slice has no 'sources'");
    }
    snprintf(key, sizeof key, "%s.sources", prefix);
    LORS_TRY(expect_list(recipe, sources, key, "- {model: FOLDER, layer_range: [FIRST, END]}"));
    LORS_TRY(lors_recipe_add_slice(module, &slice));
    slice->place = node->place;
    if (base) {
        LORS_TRY(read_slice_base(recipe, slice, prefix, base));
    }
    LORS_TRY(read_sources(recipe, slice, prefix, sources, false));
    snprintf(key, sizeof key, "%s.parameters", prefix);
    return lors_recipe_read_parameters(recipe, &slice->settings, false, key,
                                       lors_yaml_get(node, "parameters"));
}

static lors_status read_slices(lors_recipe *recipe, lors_recipe_module *module, const char *prefix,
                               const lors_yaml *node)
{
    char key[LORS_KEY_MAX];
    int32_t index = 0;
    module->n_slices = 0; /* the one of a plain recipe holds nothing */
    LORS_TRY(expect_list(recipe, node, prefix, "- sources: [...]"));
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        snprintf(key, sizeof key, "%s[%d]", prefix, index++);
        LORS_TRY(read_slice(recipe, module, key, item->value));
    }
    return LORS_OK;
}

/* ---- modules ---- */

static lors_status read_module_models(lors_recipe *recipe, lors_recipe_module *module,
                                      const char *prefix, const lors_yaml *node)
{
    char key[LORS_KEY_MAX];
    lors_recipe_slice *slice;
    snprintf(key, sizeof key, "%s.models", prefix);
    LORS_TRY(expect_list(recipe, node, key, "- model: FOLDER"));
    LORS_TRY(lors_recipe_add_slice(module, &slice));
    slice->place = node->place;
    return read_sources(recipe, slice, prefix, node, true);
}

static lors_status read_module(lors_recipe *recipe, const lors_yaml_item *item)
{
    static const char *const names[] = {"default", "encoder", "decoder", NULL};
    char prefix[LORS_KEY_MAX], key[LORS_KEY_MAX + 16], shown[LORS_ESCAPED_MAX], near[128];
    lors_recipe_module *module;
    if (!lors_recipe_is_among(item->key, names)) {
        return FAIL(recipe, item->place, "modules", "unknown module '%s'%s (allowed: encoder, "
                    "decoder; default for a model of one stack)",
                    lors_escape_text(item->key, shown),
                    lors_recipe_suggest(item->key, names, near));
    }
    snprintf(prefix, sizeof prefix, "modules.%s", item->key);
    LORS_TRY(expect_map(recipe, item->value, prefix, "{slices: [...]} or {models: [...]}"));
    LORS_TRY(check_keys(recipe, item->value, prefix, MODULE_KEYS));
    const lors_yaml *models = lors_yaml_get(item->value, "models");
    const lors_yaml *slices = lors_yaml_get(item->value, "slices");
    if (!models == !slices) {
        return FAIL(recipe, item->place, prefix, "a module has either 'models' or 'slices'");
    }
    LORS_TRY(lors_recipe_add_module(recipe, &module));
    module->stack = *item->key == 'e'                     ? LORS_STACK_ENCODER
                    : strcmp(item->key, "decoder") == 0 ? LORS_STACK_DECODER
                                                          : LORS_STACK_NONE;
    module->place = item->place;
    snprintf(key, sizeof key, "%s.parameters", prefix);
    LORS_TRY(lors_recipe_read_parameters(recipe, &module->settings, false, key,
                                         lors_yaml_get(item->value, "parameters")));
    snprintf(key, sizeof key, "%s.slices", prefix);
    return models ? read_module_models(recipe, module, prefix, models)
                  : read_slices(recipe, module, key, slices);
}

static lors_status read_modules(lors_recipe *recipe, const lors_yaml *node)
{
    if (node->kind != LORS_YAML_MAP || !node->first) {
        return FAIL(recipe, node->place, "modules", "a map is expected, of encoder and decoder");
    }
    lors_free(recipe->modules->slices); /* those of a plain recipe hold nothing */
    recipe->n_modules = 0;
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        LORS_TRY(read_module(recipe, item));
    }
    if (recipe->n_modules > 1 && lors_yaml_get(node, "default")) {
        return FAIL(recipe, node->place, "modules", "'default' is everything: it stands alone");
    }
    return LORS_OK;
}

/* ---- either of them ---- */

lors_status lors_recipe_read_models(lors_recipe *recipe, const lors_yaml *root)
{
    static const char *const keys[] = {"models", "slices", "modules"};
    const lors_yaml *found = NULL;
    const char *which = "";
    for (size_t i = 0; i < 3; i++) {
        const lors_yaml *node = lors_yaml_get(root, keys[i]);
        if (node && found) {
            return FAIL(recipe, node->place, NULL, "'%s' and '%s' say the same thing: keep one",
                        which, keys[i]);
        }
        found = node ? node : found;
        which = node ? keys[i] : which;
    }
    if (!found) {
        return FAIL(recipe, root->place, NULL, "'models' is missing: list the models to merge, "
                    "'- model: FOLDER' each");
    }
    recipe->sliced = *which != 'm' || strcmp(which, "modules") == 0;
    if (strcmp(which, "slices") == 0) {
        return read_slices(recipe, recipe->modules, "slices", found);
    }
    return recipe->sliced ? read_modules(recipe, found) : read_models(recipe, found);
}

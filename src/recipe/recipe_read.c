/* recipe_read.c - a YAML document to a recipe: which keys there are, what the whole must hold. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "backend/backend_ops.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

static const char *const TOP_KEYS[] = {
    "merge_method", "base_model", "models", "parameters", "scope", "dtype",
    "out_dtype",    "seed",       "name",   "compat", "tokenizer_source", NULL};
static const char *const MODEL_KEYS[] = {"model", "parameters", NULL};

/* Keys of mergekit that would change the result: never ignored. */
static const struct {
    const char *key, *sentence;
} REFUSED[] = {
    {"slices", "'slices' is not supported: list whole models under 'models:', and give values per "
               "layer as a list of numbers or with a filter \"layers: 0-3\""},
    {"modules", "'modules' is not supported: list whole models under 'models:', and give values "
                "per part with the filters encoder and decoder"},
    {"tokenizer", "'tokenizer' is not supported: the tokenizer is copied from the base, remove "
                  "the key"},
    {"chat_template", "'chat_template' is not supported: the template is copied from the base, "
                      "remove the key"},
    {"int8_mask", "'int8_mask' is not supported: remove it (it only saves memory in mergekit and "
                  "does not change the result)"},
    {NULL, NULL},
};

static bool is_in(const char *word, const char *const *names)
{
    while (*names && strcmp(*names, word) != 0) {
        names++;
    }
    return *names != NULL;
}

#define FAIL(recipe, place, key, ...) lors_recipe_fail((recipe)->label, (place), (key), __VA_ARGS__)

/* ---- keys ---- */

static lors_status check_top_key(const lors_recipe *recipe, const lors_yaml_item *item)
{
    char shown[LORS_ESCAPED_MAX], near[128];
    if (is_in(item->key, TOP_KEYS)) {
        return LORS_OK;
    }
    for (size_t i = 0; REFUSED[i].key; i++) {
        if (strcmp(REFUSED[i].key, item->key) == 0) {
            return FAIL(recipe, item->place, NULL, "%s", REFUSED[i].sentence);
        }
    }
    lors_escape_text(item->key, shown);
    if (lors_recipe_is_parameter(item->key)) {
        return FAIL(recipe, item->place, NULL, "'%s' belongs under 'parameters:'", shown);
    }
    return FAIL(recipe, item->place, NULL,
                "unknown key '%s'%s (allowed: merge_method, base_model, models, parameters, scope, "
                "dtype, out_dtype, seed, name, compat, tokenizer_source)",
                shown, lors_recipe_suggest(item->key, TOP_KEYS, near));
}

static lors_status check_model_key(const lors_recipe *recipe, const char *key,
                                   const lors_yaml_item *item)
{
    char shown[LORS_ESCAPED_MAX], near[128];
    if (is_in(item->key, MODEL_KEYS)) {
        return LORS_OK;
    }
    lors_escape_text(item->key, shown);
    if (lors_recipe_is_parameter(item->key)) {
        return FAIL(recipe, item->place, key, "'%s' belongs under this model's 'parameters:'",
                    shown);
    }
    return FAIL(recipe, item->place, key, "unknown key '%s'%s (allowed: model, parameters)", shown,
                lors_recipe_suggest(item->key, MODEL_KEYS, near));
}

/* ---- values ---- */

/* `parameters:` of the top (model -1) or of a model; empty is allowed. */
static lors_status read_parameters(lors_recipe *recipe, int32_t model, const char *prefix,
                                   const lors_yaml *node)
{
    if (lors_yaml_is_null(node)) {
        return LORS_OK;
    }
    if (node->kind != LORS_YAML_MAP) {
        return FAIL(recipe, node->place, prefix, "a map of parameters is expected, such as "
                    "{weight: 0.5}");
    }
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        LORS_TRY(lors_recipe_put_parameter(recipe, model, prefix, item->key, item->place,
                                           item->value));
    }
    return LORS_OK;
}

static lors_status read_model(lors_recipe *recipe, int32_t index, const lors_yaml *node)
{
    const char *written = "";
    char key[LORS_KEY_MAX], full_key[LORS_KEY_MAX + 16];
    snprintf(key, sizeof key, "models[%d]", index);
    if (node->kind != LORS_YAML_MAP) {
        return FAIL(recipe, node->place, key, "an entry of the list is '- model: FOLDER'");
    }
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        LORS_TRY(check_model_key(recipe, key, item));
    }
    const lors_yaml *model = lors_yaml_get(node, "model");
    const lors_yaml *parameters = lors_yaml_get(node, "parameters");
    if (!model) {
        return FAIL(recipe, node->place, key, "an entry of the list has no 'model'");
    }
    snprintf(full_key, sizeof full_key, "%s.model", key);
    lors_value_context at = {recipe->label, full_key};
    LORS_TRY(lors_read_text(&at, model, &written));
    LORS_TRY(lors_recipe_add_model_at(recipe, full_key, written, model->place));
    snprintf(full_key, sizeof full_key, "%s.parameters", key);
    return parameters ? read_parameters(recipe, index, full_key, parameters) : LORS_OK;
}

static lors_status read_models(lors_recipe *recipe, const lors_yaml *node)
{
    if (node->kind != LORS_YAML_LIST || !node->first) {
        return FAIL(recipe, node->place, "models", "a list is expected, of entries '- model: "
                    "FOLDER'");
    }
    int32_t index = 0;
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        LORS_TRY(read_model(recipe, index++, item->value));
    }
    return LORS_OK;
}

static lors_status read_base(lors_recipe *recipe, const lors_yaml *node)
{
    const char *written = "";
    lors_value_context at = {recipe->label, "base_model"};
    LORS_TRY(lors_read_text(&at, node, &written));
    return lors_recipe_set_base_at(recipe, written, node->place);
}

/* Keys without an effect here: accepted only where ignoring them is right. */
static lors_status read_ignored(const lors_recipe *recipe, const lors_yaml_item *item)
{
    const char *text = "";
    char shown[LORS_ESCAPED_MAX];
    lors_value_context at = {recipe->label, item->key};
    LORS_TRY(lors_read_text(&at, item->value, &text));
    if (strcmp(item->key, "tokenizer_source") == 0 && strcmp(text, "base") != 0) {
        return FAIL(recipe, item->value->place, item->key,
                    "'%s' is not supported (allowed: base): the tokenizer is copied from the base",
                    lors_escape_text(text, shown));
    }
    return LORS_OK;
}

static lors_status read_top_item(lors_recipe *recipe, const lors_yaml *root,
                                 const lors_yaml_item *item)
{
    const lors_yaml *value = item->value;
    if (strcmp(item->key, "merge_method") == 0) {
        return LORS_OK; /* read first */
    }
    if (strcmp(item->key, "base_model") == 0) {
        return read_base(recipe, value);
    }
    if (strcmp(item->key, "models") == 0) {
        return read_models(recipe, value);
    }
    if (strcmp(item->key, "parameters") == 0) {
        return read_parameters(recipe, -1, "parameters", value);
    }
    if (strcmp(item->key, "scope") == 0) {
        const lors_yaml *parameters = lors_yaml_get(root, "parameters");
        if (parameters && parameters->kind == LORS_YAML_MAP
            && lors_yaml_get(parameters, "scope")) {
            return FAIL(recipe, item->place, NULL, "'scope' is set twice, here and under "
                        "'parameters:': remove one");
        }
        return lors_recipe_put_scope(recipe, "scope", value);
    }
    if (lors_recipe_is_plain_key(item->key)) {
        return lors_recipe_put_plain(recipe, item->key, value);
    }
    return read_ignored(recipe, item);
}

static lors_status read_method(lors_recipe *recipe, const lors_yaml *root)
{
    const char *name = "";
    lors_value_context at = {recipe->label, "merge_method"};
    const lors_yaml *node = lors_yaml_get(root, "merge_method");
    if (!node) {
        return FAIL(recipe, root->place, NULL, "'merge_method' is missing (such as merge_method: "
                    "lors)");
    }
    LORS_TRY(lors_read_text(&at, node, &name));
    return lors_recipe_put_method(recipe, name, node->place);
}

/* ---- the whole ---- */

/* An entry equal to the base has a task vector of zero. */
static bool is_base_entry(const lors_recipe *recipe, int32_t model)
{
    return recipe->base_path && !recipe->method->base_is_model
           && lors_recipe_same_place(recipe->base_path, &recipe->base_identity,
                                     recipe->models[model].path, &recipe->models[model].identity);
}

static void drop_base_entries(lors_recipe *recipe)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < recipe->n_models; i++) {
        if (is_base_entry(recipe, i)) {
            lors_free(recipe->models[i].path);
            lors_free(recipe->models[i].written);
            lors_settings_clear(&recipe->models[i].settings);
        } else {
            recipe->models[kept++] = recipe->models[i];
        }
    }
    recipe->n_models = kept;
}

/* A base that mergekit merges as one more model. */
static lors_status join_base(lors_recipe *recipe)
{
    if (!recipe->compat || !recipe->method->compat_base_joins || !recipe->base_path) {
        return LORS_OK;
    }
    for (int32_t i = 0; i < recipe->n_models; i++) {
        if (lors_recipe_same_place(recipe->base_path, &recipe->base_identity,
                                   recipe->models[i].path, &recipe->models[i].identity)) {
            return LORS_OK;
        }
    }
    return lors_recipe_add_model_at(recipe, "base_model", recipe->base_written,
                                    recipe->base_place);
}

static lors_status check_counts(const lors_recipe *recipe)
{
    const lors_method_info *method = recipe->method;
    char shown[LORS_ESCAPED_MAX];
    if (method->needs_base && !recipe->base_path) {
        return FAIL(recipe, recipe->method_place, NULL, "'base_model' is missing: %s needs the "
                    "model that the others were tuned from", method->name);
    }
    for (int32_t i = 0; i < recipe->n_models; i++) {
        if (is_base_entry(recipe, i)) {
            return FAIL(recipe, recipe->models[i].place, "models", "'%s' is the base itself: leave "
                        "it out", lors_escape_text(recipe->models[i].written, shown));
        }
    }
    const char *besides = method->base_is_model ? "" : " besides the base";
    if (recipe->n_models < method->min_models) {
        return FAIL(recipe, recipe->method_place, "models", "%s needs at least %d model%s%s, found "
                    "%d", method->name, method->min_models, method->min_models == 1 ? "" : "s",
                    besides, recipe->n_models);
    }
    int32_t most = method->max_models > 0 ? method->max_models : LORS_MAX_MODELS;
    if (recipe->n_models > most) {
        return FAIL(recipe, recipe->models[most].place, "models",
                    "%s takes at most %d model%s%s, found %d", method->name, most,
                    most == 1 ? "" : "s", besides, recipe->n_models);
    }
    return LORS_OK;
}

typedef enum reach { REACH_NONE, REACH_SOME, REACH_ALL } reach;

/* Does a setting give the parameter a value for every tensor, for some, for none? */
static reach setting_reach(const lors_settings *settings, int32_t param, lors_place *place)
{
    for (int32_t i = 0; i < settings->count; i++) {
        const lors_setting *setting = &settings->items[i];
        if (setting->param == param) {
            *place = setting->place;
            return setting->cases[setting->n_cases - 1].filter ? REACH_SOME : REACH_ALL;
        }
    }
    return REACH_NONE;
}

static lors_status check_required(const lors_recipe *recipe, int32_t param)
{
    const lors_param_info *info = &recipe->method->params[param];
    lors_place place = {0, 0};
    char shown[LORS_ESCAPED_MAX];
    reach all = setting_reach(&recipe->settings, param, &place);
    if (!info->required || all == REACH_ALL) {
        return LORS_OK;
    }
    for (int32_t i = 0; info->per_model && i < recipe->n_models; i++) {
        const lors_recipe_model *model = &recipe->models[i];
        reach own = setting_reach(&model->settings, param, &place);
        if (own == REACH_NONE && all == REACH_NONE) {
            return FAIL(recipe, model->place, "models", "'%s' has no '%s', which %s needs: set it "
                        "in its parameters, or for all models in the top-level parameters",
                        lors_escape_text(model->written, shown), info->name, recipe->method->name);
        }
        if (own != REACH_ALL) {
            return FAIL(recipe, place, info->name, "tensors that match no filter have no value: "
                        "add a last entry {value: NUMBER}");
        }
    }
    if (info->per_model) {
        return LORS_OK;
    }
    if (all == REACH_SOME) {
        return FAIL(recipe, place, info->name, "tensors that match no filter have no value: add a "
                    "last entry {value: NUMBER}");
    }
    return FAIL(recipe, recipe->method_place, "parameters", "'%s' is missing, which %s needs",
                info->name, recipe->method->name);
}

lors_status lors_recipe_check(const lors_recipe *recipe)
{
    LORS_TRY(check_counts(recipe));
    for (int32_t i = 0; i < recipe->method->n_params; i++) {
        LORS_TRY(check_required(recipe, i));
    }
    return LORS_OK;
}

/* ---- reading ---- */

static lors_status read_root(lors_recipe *recipe, const lors_yaml *root)
{
    if (!root || lors_yaml_is_null(root)) {
        return FAIL(recipe, ((lors_place){1, 1}), NULL, "the recipe is empty");
    }
    if (root->kind != LORS_YAML_MAP) {
        return FAIL(recipe, root->place, NULL, "a recipe is a map of keys, such as 'merge_method: "
                    "lors'");
    }
    for (const lors_yaml_item *item = root->first; item; item = item->next) {
        LORS_TRY(check_top_key(recipe, item));
    }
    LORS_TRY(read_method(recipe, root));
    for (const lors_yaml_item *item = root->first; item; item = item->next) {
        LORS_TRY(read_top_item(recipe, root, item));
    }
    if (!lors_yaml_get(root, "models")) {
        return FAIL(recipe, root->place, NULL, "'models' is missing: list the models to merge, "
                    "'- model: FOLDER' each");
    }
    drop_base_entries(recipe);
    LORS_TRY(join_base(recipe));
    return lors_recipe_check(recipe);
}

static lors_status copy_inputs(lors_recipe *recipe, const char *label, const char *text,
                               size_t n_bytes, const char *folder)
{
    recipe->label = lors_copy_text(label);
    recipe->text = lors_alloc(n_bytes + 1);
    recipe->folder = folder ? lors_copy_text(folder) : NULL;
    if (!recipe->label || !recipe->text || (folder && !recipe->folder)) {
        return lors_fail_memory(n_bytes + 1);
    }
    memcpy(recipe->text, text, n_bytes);
    recipe->text[n_bytes] = '\0';
    recipe->text_bytes = n_bytes;
    return LORS_OK;
}

static lors_status check_size(const char *label, uint64_t n_bytes)
{
    if (n_bytes <= LORS_RECIPE_MAX_BYTES) {
        return LORS_OK;
    }
    return lors_recipe_fail(label, ((lors_place){0, 0}), NULL,
                            "%llu bytes are too many for a recipe (allowed: %d)",
                            (unsigned long long)n_bytes, LORS_RECIPE_MAX_BYTES);
}

lors_status lors_recipe_parse(const char *label, const char *text, size_t n_bytes,
                              const char *folder, lors_recipe **out)
{
    *out = NULL;
    LORS_TRY(check_size(label, n_bytes));
    lors_yaml *root = NULL;
    lors_status status = LORS_OK;
    lors_arena *arena = lors_arena_create();
    lors_recipe *recipe = lors_new(1, sizeof *recipe);
    if (!arena || !recipe) {
        LORS_TRY_CLEAN(lors_fail_memory(sizeof *recipe));
    }
    LORS_TRY_CLEAN(copy_inputs(recipe, label, text, n_bytes, folder));
    LORS_TRY_CLEAN(lors_yaml_parse(recipe->label, true, recipe->text, n_bytes, arena, &root));
    LORS_TRY_CLEAN(read_root(recipe, root));
    *out = recipe;
    recipe = NULL;
cleanup:
    lors_recipe_free(recipe);
    lors_arena_free(arena);
    return status;
}

lors_status lors_recipe_read(const char *path, lors_recipe **out)
{
    char *text = NULL;
    size_t n_bytes = 0;
    struct stat info;
    *out = NULL;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
        LORS_TRY(check_size(path, (uint64_t)info.st_size));
    }
    LORS_TRY(lors_file_read_all(path, LORS_RECIPE_MAX_BYTES, &text, &n_bytes));
    char *folder = lors_path_parent(path);
    lors_status status = folder ? lors_recipe_parse(path, text, n_bytes, folder, out)
                                : lors_fail_memory(strlen(path) + 1);
    lors_free(folder);
    lors_free(text);
    return status;
}

/* recipe_read.c - a YAML document to a recipe: which keys there are at its top. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

static const char *const TOP_KEYS[] = {
    "merge_method", "expression", "base_model", "models", "slices",           "modules",
    "parameters",   "scope",      "dtype",      "out_dtype", "seed",          "name",
    "compat",       "tokenizer",  "tokenizer_source", NULL};

#define FAIL(recipe, place, key, ...) lors_recipe_fail((recipe)->label, (place), (key), __VA_ARGS__)

/* ---- keys ---- */

static lors_status check_top_key(lors_recipe *recipe, const lors_yaml_item *item)
{
    char shown[LORS_ESCAPED_MAX], near[128];
    if (lors_recipe_is_among(item->key, TOP_KEYS)) {
        return LORS_OK;
    }
    if (strcmp(item->key, "int8_mask") == 0) {
        return lors_recipe_note(recipe, item->place, "int8_mask",
                                "ignored: it saves memory in mergekit and never changes a result");
    }
    if (strcmp(item->key, "chat_template") == 0) {
        return FAIL(recipe, item->place, NULL,
                    "'chat_template' is not supported: the template is copied with the tokenizer, "
                    "remove the key (and edit the output's tokenizer_config.json)");
    }
    lors_escape_text(item->key, shown);
    if (lors_recipe_is_parameter(item->key)) {
        return FAIL(recipe, item->place, NULL, "'%s' belongs under 'parameters:'", shown);
    }
    return FAIL(recipe, item->place, NULL,
                "unknown key '%s'%s (allowed: merge_method, expression, base_model, models, "
                "slices, modules, parameters, scope, dtype, out_dtype, seed, name, compat, "
                "tokenizer, tokenizer_source)",
                shown, lors_recipe_suggest(item->key, TOP_KEYS, near));
}

/* ---- values ---- */

static lors_status read_base(lors_recipe *recipe, const lors_yaml *node)
{
    const char *written = "";
    lors_place place;
    lors_value_context at = {recipe->label, "base_model"};
    LORS_TRY(lors_read_reference(&at, node, &written, &place));
    return lors_recipe_set_base_at(recipe, written, place);
}

/* Whose tokenizer: "base", or one of the models. */
static lors_status read_tokenizer_source(lors_recipe *recipe, const char *key,
                                         const lors_yaml *node)
{
    const char *text = "";
    char shown[LORS_ESCAPED_MAX];
    lors_place place;
    lors_value_context at = {recipe->label, key};
    LORS_TRY(lors_read_reference(&at, node, &text, &place));
    if (strcmp(text, "base") == 0) {
        return LORS_OK;
    }
    if (strcmp(text, "union") == 0) {
        return FAIL(recipe, place, key,
                    "'union' is not supported: rows of the embeddings would have to be matched by "
                    "token; where all models have the base's vocabulary write base");
    }
    LORS_TRY(lors_recipe_find_model(recipe, key, text, place, &recipe->tokenizer));
    int32_t found = recipe->tokenizer;
    bool is_stage = (found >= 0 && recipe->models[found].identity.stage > 0)
                    || (found == LORS_THE_BASE && recipe->base_identity.stage > 0);
    if (is_stage) {
        return FAIL(recipe, place, key, "'%s' is a document, which has no files: give a folder",
                    text);
    }
    if (found == LORS_NO_MODEL) {
        return FAIL(recipe, place, key, "'%s' is none of the models (allowed: base, or the folder "
                    "of a model)", lors_escape_text(text, shown));
    }
    return LORS_OK;
}

static lors_status read_tokenizer(lors_recipe *recipe, const lors_yaml *node)
{
    char shown[LORS_ESCAPED_MAX];
    const lors_yaml *source = node->kind == LORS_YAML_MAP ? lors_yaml_get(node, "source") : NULL;
    if (!source) {
        return FAIL(recipe, node->place, "tokenizer", "write {source: base} or {source: FOLDER OF "
                    "A MODEL}");
    }
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        if (strcmp(item->key, "source") != 0) {
            return FAIL(recipe, item->place, "tokenizer",
                        "'%s' is not supported (allowed: source): the tokenizer is copied as it is",
                        lors_escape_text(item->key, shown));
        }
    }
    return read_tokenizer_source(recipe, "tokenizer.source", source);
}

static lors_status read_top_item(lors_recipe *recipe, const lors_yaml *root,
                                 const lors_yaml_item *item)
{
    const lors_yaml *value = item->value;
    const char *name = "";
    lors_value_context at = {recipe->label, item->key};
    bool is_stage = recipe->document + 1 < recipe->n_documents;
    if (is_stage && strncmp(item->key, "tokenizer", 9) == 0) {
        return lors_recipe_note(recipe, item->place, item->key, "ignored: the tokenizer is that of "
                                "the last document");
    }
    if (is_stage && strcmp(item->key, "seed") == 0) {
        return FAIL(recipe, item->place, NULL, "'seed' belongs in the last document");
    }
    if (strcmp(item->key, "parameters") == 0) {
        return lors_recipe_read_parameters(recipe, &recipe->settings, false, "parameters", value);
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
    if (strcmp(item->key, "tokenizer_source") == 0 && lors_yaml_get(root, "tokenizer")) {
        return FAIL(recipe, item->place, NULL, "'tokenizer_source' and 'tokenizer' say the same "
                    "thing: keep one");
    }
    if (strcmp(item->key, "tokenizer_source") == 0) {
        return read_tokenizer_source(recipe, item->key, value);
    }
    if (strcmp(item->key, "tokenizer") == 0) {
        return read_tokenizer(recipe, value);
    }
    if (strcmp(item->key, "name") == 0) {
        return lors_read_text(&at, value, &name);
    }
    return lors_recipe_is_plain_key(item->key) ? lors_recipe_put_plain(recipe, item->key, value)
                                               : LORS_OK; /* read before */
}

/* merge_method, or an expression, which is a linear merge. */
static lors_status read_method(lors_recipe *recipe, const lors_yaml *root)
{
    const char *name = "";
    lors_value_context at = {recipe->label, "merge_method"};
    const lors_yaml *node = lors_yaml_get(root, "merge_method");
    const lors_yaml *expression = lors_yaml_get(root, "expression");
    if (!node && !expression) {
        return FAIL(recipe, root->place, NULL, "'merge_method' is missing (such as merge_method: "
                    "lors)");
    }
    if (node && expression) {
        return FAIL(recipe, expression->place, "expression",
                    "an expression stands in place of 'merge_method': keep one");
    }
    if (node) {
        LORS_TRY(lors_read_text(&at, node, &name));
        return lors_recipe_put_method(recipe, name, node->place);
    }
    for (const lors_yaml_item *item = root->first; item; item = item->next) {
        if (strcmp(item->key, "slices") == 0 || strcmp(item->key, "modules") == 0) {
            return FAIL(recipe, item->place, item->key, "an expression is over whole models: list "
                        "them under 'models:', - {name: A, model: FOLDER}");
        }
    }
    return lors_recipe_put_method(recipe, "linear", expression->place);
}

/* Weights come from the expression alone. */
static lors_status read_expression(lors_recipe *recipe, const lors_yaml *root)
{
    const lors_yaml *node = lors_yaml_get(root, "expression");
    if (!node) {
        return LORS_OK;
    }
    const lors_recipe_slice *slice = recipe->modules->slices;
    lors_place place = {0, 0};
    if (recipe->settings.count > 0) {
        place = recipe->settings.items[0].place;
    }
    for (int32_t i = 0; i < slice->n_sources && !place.line; i++) {
        if (slice->sources[i].settings.count > 0) {
            place = slice->sources[i].settings.items[0].place;
        }
    }
    if (place.line) {
        return FAIL(recipe, place, "parameters", "an expression says all weights: remove this "
                    "parameter");
    }
    return lors_recipe_read_expression(recipe, node);
}

/* ---- the whole ---- */

static lors_status read_root(lors_recipe *recipe, const lors_yaml *root)
{
    if (!root || lors_yaml_is_null(root)) {
        bool only = recipe->n_documents < 2;
        return FAIL(recipe, only ? ((lors_place){1, 1}) : root->place, NULL,
                    only ? "the recipe is empty" : "a document of the recipe is empty");
    }
    recipe->place = root->place;
    if (root->kind != LORS_YAML_MAP) {
        return FAIL(recipe, root->place, NULL, "a recipe is a map of keys, such as 'merge_method: "
                    "lors'");
    }
    LORS_TRY(lors_recipe_begin(recipe));
    for (const lors_yaml_item *item = root->first; item; item = item->next) {
        LORS_TRY(check_top_key(recipe, item));
    }
    LORS_TRY(read_method(recipe, root));
    const lors_yaml *base = lors_yaml_get(root, "base_model");
    if (base) {
        LORS_TRY(read_base(recipe, base));
    }
    LORS_TRY(lors_recipe_read_models(recipe, root));
    for (const lors_yaml_item *item = root->first; item; item = item->next) {
        LORS_TRY(read_top_item(recipe, root, item));
    }
    LORS_TRY(read_expression(recipe, root));
    LORS_TRY(lors_recipe_drop_base(recipe));
    LORS_TRY(lors_recipe_join_base(recipe));
    return lors_recipe_check(recipe);
}

/* ---- documents ---- */

/* The name under which later documents know this one. */
static lors_status read_document_name(lors_recipe *recipe, const lors_yaml *root)
{
    char shown[LORS_ESCAPED_MAX];
    bool is_map = root && root->kind == LORS_YAML_MAP;
    const lors_yaml *node = is_map ? lors_yaml_get(root, "name") : NULL;
    if (!node || recipe->n_documents < 2) {
        return LORS_OK; /* of the only one it is a word for the user */
    }
    const char *name = "";
    lors_value_context at = {recipe->label, "name"};
    LORS_TRY(lors_read_text(&at, node, &name));
    for (int32_t i = 0; i < recipe->document; i++) {
        const char *other = recipe->documents[i]->name;
        if (other && strcmp(other, name) == 0) {
            return FAIL(recipe, node->place, "name", "two documents have the name '%s'",
                        lors_escape_text(name, shown));
        }
    }
    recipe->name = lors_copy_text(name);
    return recipe->name ? LORS_OK : lors_fail_memory(strlen(name) + 1);
}

static lors_status copy_inputs(lors_recipe *recipe, const char *label, const char *folder)
{
    recipe->label = lors_copy_text(label);
    recipe->folder = folder ? lors_copy_text(folder) : NULL;
    return recipe->label && (!folder || recipe->folder) ? LORS_OK
                                                        : lors_fail_memory(strlen(label) + 1);
}

/* A recipe for each document; the last, *out, owns the others. */
static lors_status new_documents(const char *label, const char *folder, int32_t n,
                                 lors_recipe **out)
{
    lors_status status = LORS_OK;
    lors_recipe **all = lors_new((size_t)n, sizeof *all);
    lors_recipe *last = lors_new(1, sizeof *last);
    if (!all || !last) {
        lors_free(all);
        lors_free(last);
        return lors_fail_memory((size_t)n * sizeof *all);
    }
    *last = (lors_recipe){.documents = all, .n_documents = n, .owns_documents = true};
    *out = all[n - 1] = last;
    for (int32_t i = 0; i < n && status == LORS_OK; i++) {
        all[i] = all[i] ? all[i] : lors_new(1, sizeof **all);
        if (!all[i]) {
            return lors_fail_memory(sizeof **all);
        }
        all[i]->documents = all;
        all[i]->n_documents = n;
        all[i]->document = i;
        status = copy_inputs(all[i], label, folder);
    }
    return status;
}

static lors_status check_used(const lors_recipe *last)
{
    char shown[LORS_ESCAPED_MAX];
    for (int32_t i = 0; i + 1 < last->n_documents; i++) {
        const lors_recipe *stage = last->documents[i];
        if (!stage->name) {
            return FAIL(stage, stage->place, NULL, "this document has no 'name' by which a later "
                        "one could use it");
        }
        if (!stage->is_used) {
            return FAIL(stage, stage->place, NULL, "no later document uses '%s': remove it, or "
                        "name it among the models of another",
                        lors_escape_text(stage->name, shown));
        }
    }
    return LORS_OK;
}

static lors_status read_documents(lors_recipe *last, const lors_yaml *roots)
{
    const lors_yaml *root = roots;
    for (int32_t i = 0; i < last->n_documents; i++, root = root ? root->next_document : NULL) {
        LORS_TRY(read_document_name(last->documents[i], root));
    }
    root = roots;
    for (int32_t i = 0; i < last->n_documents; i++, root = root->next_document) {
        LORS_TRY(read_root(last->documents[i], root));
    }
    return check_used(last);
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

static lors_status keep_text(lors_recipe *recipe, const char *text, size_t n_bytes)
{
    recipe->text = lors_alloc(n_bytes + 1);
    if (!recipe->text) {
        return lors_fail_memory(n_bytes + 1);
    }
    memcpy(recipe->text, text, n_bytes);
    recipe->text[n_bytes] = '\0';
    recipe->text_bytes = n_bytes;
    return LORS_OK;
}

lors_status lors_recipe_parse(const char *label, const char *text, size_t n_bytes,
                              const char *folder, lors_recipe **out)
{
    *out = NULL;
    LORS_TRY(check_size(label, n_bytes));
    lors_yaml *roots = NULL;
    int32_t n_documents = 0;
    lors_status status = LORS_OK;
    lors_recipe *recipe = NULL;
    lors_arena *arena = lors_arena_create();
    if (!arena) {
        return lors_fail_memory(sizeof *recipe);
    }
    LORS_TRY_CLEAN(lors_yaml_parse(label, true, text, n_bytes, arena, &roots));
    for (const lors_yaml *root = roots; root; root = root->next_document) {
        n_documents++;
    }
    LORS_TRY_CLEAN(new_documents(label, folder, n_documents > 0 ? n_documents : 1, &recipe));
    LORS_TRY_CLEAN(keep_text(recipe, text, n_bytes));
    LORS_TRY_CLEAN(read_documents(recipe, roots));
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

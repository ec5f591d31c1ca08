/* recipe_build.c - recipes built call by call; values are YAML text, read by the same code. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

static const lors_place NO_PLACE = {0, 0};

lors_status lors_recipe_create(const char *method, lors_recipe **out)
{
    *out = NULL;
    lors_recipe *recipe = lors_new(1, sizeof *recipe);
    if (!recipe) {
        return lors_fail_memory(sizeof *recipe);
    }
    recipe->label = lors_copy_text("recipe");
    lors_status status = recipe->label ? lors_recipe_put_method(recipe, method, NO_PLACE)
                                       : lors_fail_memory(sizeof "recipe");
    if (status == LORS_OK) {
        status = lors_recipe_begin(recipe);
    }
    if (status != LORS_OK) {
        lors_recipe_free(recipe);
        return status;
    }
    *out = recipe;
    return LORS_OK;
}

lors_status lors_recipe_set_base(lors_recipe *recipe, const char *path)
{
    if (!*path) {
        return lors_recipe_fail(recipe->label, NO_PLACE, "base_model", "the path is empty");
    }
    return lors_recipe_set_base_at(recipe, path, NO_PLACE);
}

lors_status lors_recipe_add_model(lors_recipe *recipe, const char *path)
{
    if (!*path) {
        return lors_recipe_fail(recipe->label, NO_PLACE, "models", "the path is empty");
    }
    return lors_recipe_add_model_at(recipe, "models", path, NO_PLACE);
}

/* Put one node under `key`; model -1: the top. */
static lors_status put_value(lors_recipe *recipe, int32_t model, const char *key,
                             const lors_yaml *node)
{
    char prefix[LORS_KEY_MAX];
    if (!node) {
        char shown[LORS_ESCAPED_MAX];
        return lors_recipe_fail(recipe->label, NO_PLACE, lors_escape_text(key, shown),
                                "the value is empty");
    }
    if (model < 0 && lors_recipe_is_plain_key(key)) {
        return lors_recipe_put_plain(recipe, key, node);
    }
    if (model < 0) {
        return lors_recipe_put_parameter(recipe, &recipe->settings, false, "parameters", key,
                                         NO_PLACE, node);
    }
    snprintf(prefix, sizeof prefix, "models[%d].parameters", model);
    return lors_recipe_put_parameter(recipe, &recipe->modules->slices->sources[model].settings,
                                     true, prefix, key, NO_PLACE, node);
}

static lors_status set_text(lors_recipe *recipe, int32_t model, const char *key, const char *value)
{
    size_t n_bytes = strlen(value);
    char shown[LORS_ESCAPED_MAX];
    if (n_bytes > LORS_RECIPE_MAX_BYTES) {
        return lors_recipe_fail(recipe->label, NO_PLACE, lors_escape_text(key, shown),
                                "%zu bytes are too many for a value (allowed: %d)", n_bytes,
                                LORS_RECIPE_MAX_BYTES);
    }
    lors_arena *arena = lors_arena_create();
    if (!arena) {
        return lors_fail_memory(sizeof(void *));
    }
    lors_yaml *root = NULL;
    lors_status status = lors_yaml_parse(recipe->label, false, value, n_bytes, arena, &root);
    if (status == LORS_OK) {
        status = put_value(recipe, model, key, root);
    }
    lors_arena_free(arena);
    return status;
}

lors_status lors_recipe_set(lors_recipe *recipe, const char *key, const char *value)
{
    return set_text(recipe, -1, key, value);
}

lors_status lors_recipe_set_for(lors_recipe *recipe, int32_t model, const char *key,
                                const char *value)
{
    if (model < 0 || model >= recipe->modules->slices->n_sources) {
        return lors_recipe_fail(recipe->label, NO_PLACE, "models",
                                "there is no model %d: %d were added (the first is 0)", model,
                                recipe->n_models);
    }
    return set_text(recipe, model, key, value);
}

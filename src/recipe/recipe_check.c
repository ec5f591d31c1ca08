/* recipe_check.c - what a recipe as a whole must hold: models, a base, every required parameter. */
#include <string.h>

#include "backend/backend_ops.h"
#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

#define FAIL(recipe, place, key, ...) lors_recipe_fail((recipe)->label, (place), (key), __VA_ARGS__)

/* ---- the base among the models ---- */

static bool is_dropped(const lors_recipe *recipe, int32_t model)
{
    return !recipe->method->base_is_model && lors_recipe_is_base(recipe, model);
}

/* Sources of models that go, go, too: the task vector of the base is zero. */
static void drop_sources(lors_recipe_slice *slice, const int32_t *moved)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < slice->n_sources; i++) {
        int32_t model = moved[slice->sources[i].model];
        if (model < 0) {
            lors_settings_clear(&slice->sources[i].settings);
            continue;
        }
        slice->sources[kept] = slice->sources[i];
        slice->sources[kept++].model = model;
    }
    slice->n_sources = kept;
    slice->base = slice->base >= 0 ? moved[slice->base] : slice->base;
}

lors_status lors_recipe_drop_base(lors_recipe *recipe)
{
    int32_t kept = 0;
    int32_t *moved = lors_new((size_t)recipe->n_models + 1, sizeof *moved);
    if (!moved) {
        return lors_fail_memory(sizeof *moved);
    }
    for (int32_t i = 0; i < recipe->n_models; i++) {
        if (is_dropped(recipe, i)) {
            moved[i] = LORS_THE_BASE;
            lors_recipe_model_clear(&recipe->models[i]);
        } else {
            moved[i] = kept;
            recipe->models[kept++] = recipe->models[i];
        }
    }
    recipe->n_models = kept;
    for (int32_t m = 0; m < recipe->n_modules; m++) {
        for (int32_t i = 0; i < recipe->modules[m].n_slices; i++) {
            drop_sources(&recipe->modules[m].slices[i], moved);
        }
    }
    recipe->tokenizer = recipe->tokenizer >= 0 ? moved[recipe->tokenizer] : recipe->tokenizer;
    lors_free(moved);
    return LORS_OK;
}

/* A base that mergekit merges as one more model. */
lors_status lors_recipe_join_base(lors_recipe *recipe)
{
    const lors_recipe_slice *slice = recipe->modules->slices;
    bool joins = recipe->compat && recipe->method->compat_base_joins && recipe->base_path;
    for (int32_t i = 0; i < slice->n_sources && joins && !recipe->sliced; i++) {
        joins = !lors_recipe_is_base(recipe, slice->sources[i].model);
    }
    if (!joins || recipe->sliced) {
        return LORS_OK;
    }
    return lors_recipe_add_model_at(recipe, "base_model", recipe->base_written,
                                    recipe->base_place);
}

/* ---- counts ---- */

static lors_status check_count(const lors_recipe *recipe, const lors_recipe_slice *slice)
{
    const lors_method_info *method = recipe->method;
    const char *besides = method->base_is_model ? "" : " besides the base";
    const char *where = recipe->sliced ? "slices" : "models";
    lors_place place = recipe->sliced ? slice->place : recipe->method_place;
    int32_t n = 0;
    for (int32_t i = 0; i < slice->n_sources; i++) {
        n += !slice->sources[i].subtracted;
    }
    bool only_base = recipe->sliced && n == 0; /* no slice is empty */
    if (n < method->min_models && !only_base) {
        return FAIL(recipe, place, where, "%s needs at least %d model%s%s, found %d", method->name,
                    method->min_models, method->min_models == 1 ? "" : "s", besides, n);
    }
    int32_t most = method->max_models > 0 ? method->max_models : LORS_MAX_MODELS;
    n = method->max_models > 0 ? n : slice->n_sources;
    if (n > most) {
        return FAIL(recipe, slice->sources[most].place, where,
                    "%s takes at most %d model%s%s, found %d", method->name, most,
                    most == 1 ? "" : "s", besides, n);
    }
    return LORS_OK;
}

static lors_status check_counts(const lors_recipe *recipe)
{
    const lors_method_info *method = recipe->method;
    char shown[LORS_ESCAPED_MAX];
    bool sliced_base = recipe->sliced && recipe->modules->slices->base >= 0;
    if (method->needs_base && !recipe->base_path && !sliced_base) {
        return FAIL(recipe, recipe->method_place, NULL, "'base_model' is missing: %s needs the "
                    "model that the others were tuned from", method->name);
    }
    for (int32_t i = 0; i < recipe->n_models; i++) {
        if (is_dropped(recipe, i)) {
            return FAIL(recipe, recipe->models[i].place, "models", "'%s' is the base itself: leave "
                        "it out", lors_escape_text(recipe->models[i].written, shown));
        }
    }
    for (int32_t m = 0; m < recipe->n_modules; m++) {
        for (int32_t i = 0; i < recipe->modules[m].n_slices; i++) {
            const lors_recipe_slice *slice = &recipe->modules[m].slices[i];
            if (method->needs_base && slice->base == LORS_NO_MODEL) {
                return FAIL(recipe, slice->place, "slices", "this slice has no base, which %s "
                            "needs: add 'base_model'", method->name);
            }
            LORS_TRY(check_count(recipe, slice));
        }
    }
    return LORS_OK;
}

/* ---- required parameters ---- */

typedef enum reach { REACH_NONE, REACH_SOME, REACH_ALL } reach;

/* Does a setting give the parameter a value for every tensor, for some, for none? Keeps the most
 * that was found so far, and the place of the first setting. */
static void setting_reach(const lors_settings *settings, int32_t param, reach *found,
                          lors_place *place)
{
    for (int32_t i = 0; i < settings->count; i++) {
        const lors_setting *setting = &settings->items[i];
        if (setting->param == param) {
            reach here = setting->cases[setting->n_cases - 1].filter ? REACH_SOME : REACH_ALL;
            *place = *found == REACH_NONE ? setting->place : *place;
            *found = here > *found ? here : *found;
        }
    }
}

static lors_status fail_some(const lors_recipe *recipe, lors_place place, const char *name)
{
    return FAIL(recipe, place, name, "tensors that match no filter have no value: add a last entry "
                "{value: NUMBER}");
}

/* Of one source of a slice (NULL: of the slice itself), with the levels behind it. */
static lors_status check_reach(const lors_recipe *recipe, const lors_recipe_module *module,
                               const lors_recipe_slice *slice, const lors_recipe_source *source,
                               int32_t param)
{
    const lors_param_info *info = &recipe->method->params[param];
    lors_place place = {0, 0};
    char shown[LORS_ESCAPED_MAX];
    reach found = REACH_NONE;
    if (source) {
        setting_reach(lors_source_settings(source), param, &found, &place);
    }
    setting_reach(&slice->settings, param, &found, &place);
    setting_reach(&module->settings, param, &found, &place);
    setting_reach(&recipe->settings, param, &found, &place);
    if (found == REACH_ALL) {
        return LORS_OK;
    }
    if (found == REACH_SOME) {
        return fail_some(recipe, place, info->name);
    }
    if (source) {
        return FAIL(recipe, source->place, recipe->sliced ? "slices" : "models",
                    "'%s' has no '%s', which %s needs: set it in its parameters, or for all models "
                    "in the top-level parameters",
                    lors_escape_text(recipe->models[source->model].written, shown), info->name,
                    recipe->method->name);
    }
    return FAIL(recipe, recipe->method_place, "parameters", "'%s' is missing, which %s needs",
                info->name, recipe->method->name);
}

static lors_status check_slice(const lors_recipe *recipe, const lors_recipe_module *module,
                               const lors_recipe_slice *slice, int32_t param)
{
    if (!recipe->method->params[param].per_model) {
        return check_reach(recipe, module, slice, NULL, param);
    }
    for (int32_t i = 0; i < slice->n_sources; i++) {
        LORS_TRY(check_reach(recipe, module, slice, &slice->sources[i], param));
    }
    return LORS_OK;
}

lors_status lors_recipe_check(const lors_recipe *recipe)
{
    LORS_TRY(check_counts(recipe));
    for (int32_t p = 0; p < recipe->method->n_params; p++) {
        for (int32_t m = 0; recipe->method->params[p].required && m < recipe->n_modules; m++) {
            const lors_recipe_module *module = &recipe->modules[m];
            for (int32_t i = 0; i < module->n_slices; i++) {
                LORS_TRY(check_slice(recipe, module, &module->slices[i], p));
            }
        }
    }
    return LORS_OK;
}

/* layers.c - slices of layers: do they fit the models, what do they make of the configuration. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "plan/plan_internal.h"

lors_checkpoint *lors_plan_model(const lors_plan *plan, int32_t model)
{
    return model == LORS_THE_BASE ? plan->base : plan->models[model];
}

bool lors_plan_in_module(const lors_recipe_module *module, const lors_tensor_name *described)
{
    lors_stack stack = described->stack;
    if (stack == LORS_STACK_NONE) {
        stack = lors_name_is_behind(described) ? LORS_STACK_DECODER : LORS_STACK_ENCODER;
    }
    return module->stack == LORS_STACK_NONE || module->stack == stack;
}

int32_t lors_plan_layer_count(const lors_checkpoint *model, const lors_recipe_module *module)
{
    int32_t count = 0;
    for (int64_t i = 0; i < model->n_tensors; i++) {
        lors_tensor_name described;
        lors_name_describe(model->tensors[i].name, &described);
        if (described.layer >= count && lors_plan_in_module(module, &described)) {
            count = described.layer + 1;
        }
    }
    return count;
}

void lors_plan_count_stacks(const lors_checkpoint *model, int32_t counts[3])
{
    memset(counts, 0, 3 * sizeof *counts);
    for (int64_t i = 0; i < model->n_tensors; i++) {
        lors_tensor_name described;
        lors_name_describe(model->tensors[i].name, &described);
        if (described.layer >= counts[described.stack]) {
            counts[described.stack] = described.layer + 1;
        }
    }
}

/* ---- checks ---- */

static const char *stack_text(lors_stack stack)
{
    return stack == LORS_STACK_ENCODER ? "encoder " : stack == LORS_STACK_DECODER ? "decoder " : "";
}

static lors_status check_range(const lors_plan *plan, const lors_recipe_module *module,
                               int32_t model, const lors_layers *layers)
{
    const lors_checkpoint *checkpoint = lors_plan_model(plan, model);
    char where[512], path[LORS_ESCAPED_MAX];
    if (!checkpoint || layers->end < 0) {
        return LORS_OK;
    }
    int32_t count = lors_plan_layer_count(checkpoint, module);
    if (layers->end <= count) {
        return LORS_OK;
    }
    return lors_fail(LORS_ERR_RECIPE,
                     "%s: layer_range: [%d, %d] ends behind the last layer: %s has "
                     "%d %slayers",
                     lors_recipe_locate(plan->recipe, layers->place, where), layers->first,
                     layers->end, lors_escape_text(checkpoint->path, path), count,
                     stack_text(module->stack));
}

static lors_status check_module(const lors_plan *plan, const lors_recipe_module *module)
{
    for (int32_t s = 0; s < module->n_slices; s++) {
        const lors_recipe_slice *slice = &module->slices[s];
        for (int32_t k = 0; k < slice->n_sources; k++) {
            LORS_TRY(check_range(plan, module, slice->sources[k].model, &slice->sources[k].layers));
        }
        if (slice->base != LORS_NO_MODEL) {
            LORS_TRY(check_range(plan, module, slice->base, &slice->base_layers));
        }
    }
    return LORS_OK;
}

/* Every tensor of the reference belongs to a module: none is left out of the output unsaid. */
static lors_status check_all_covered(const lors_plan *plan)
{
    const lors_recipe *recipe = plan->recipe;
    char where[512], name[LORS_ESCAPED_MAX];
    for (int64_t i = 0; i < plan->source->n_tensors; i++) {
        lors_tensor_name described;
        int32_t m = 0;
        lors_name_describe(plan->source->tensors[i].name, &described);
        while (m < recipe->n_modules && !lors_plan_in_module(&recipe->modules[m], &described)) {
            m++;
        }
        if (m == recipe->n_modules) {
            return lors_fail(LORS_ERR_RECIPE,
                             "%s: modules: no module holds '%s' of %s: add the "
                             "other one of encoder and decoder",
                             lors_recipe_locate(recipe, recipe->modules[0].place, where),
                             lors_escape_text(plan->source->tensors[i].name, name),
                             plan->source->path);
        }
    }
    return LORS_OK;
}

lors_status lors_plan_check_layers(const lors_plan *plan)
{
    const lors_recipe *recipe = plan->recipe;
    char where[512];
    int32_t counts[3];
    if (!recipe->sliced) {
        return LORS_OK;
    }
    lors_plan_count_stacks(plan->source, counts);
    bool two = counts[LORS_STACK_ENCODER] > 0 && counts[LORS_STACK_DECODER] > 0;
    if (two && recipe->modules[0].stack == LORS_STACK_NONE) {
        return lors_fail(LORS_ERR_RECIPE,
                         "%s: %s has an encoder and a decoder: write 'modules:' "
                         "with slices or models for each",
                         lors_recipe_locate(recipe, recipe->modules[0].slices[0].place, where),
                         plan->source->path);
    }
    LORS_TRY(check_all_covered(plan));
    for (int32_t m = 0; m < recipe->n_modules; m++) {
        LORS_TRY(check_module(plan, &recipe->modules[m]));
    }
    return LORS_OK;
}

/* ---- origins ---- */

static void put_origin(lors_text *out, const char *before, const lors_checkpoint *model,
                       int32_t layer)
{
    char shown[LORS_ESCAPED_MAX];
    lors_text_printf(out, "%s%s", before, lors_escape_text(lors_path_base(model->path), shown));
    if (layer >= 0) {
        lors_text_printf(out, "[%d]", layer);
    }
}

lors_status lors_plan_set_origin(lors_plan *plan, lors_job *job)
{
    job->origin = "";
    if (!plan->recipe->sliced) {
        return LORS_OK;
    }
    lors_text text = {0};
    lors_tensor_name described;
    lors_name_describe(job->source->name, &described);
    for (int32_t k = 0; k < job->n_models; k++) {
        bool subtracted = job->slice->sources[k].subtracted;
        put_origin(&text,
                   subtracted ? " - "
                   : k > 0    ? " + "
                              : "",
                   job->input_models[k], job->layers[k]);
    }
    if (job->n_models == 0 || (job->reads_source && job->has_base)) {
        put_origin(&text, job->n_models > 0 ? " on " : "", job->source_model, described.layer);
    }
    job->origin = text.failed ? NULL : lors_arena_copy(plan->arena, text.bytes, text.length);
    lors_text_clear(&text);
    return job->origin ? LORS_OK : lors_fail_memory(64);
}

/* ---- config.json ---- */

static int32_t output_layers(const lors_plan *plan, lors_stack stack)
{
    int32_t count = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        lors_tensor_name described;
        lors_name_describe(plan->jobs[j].name, &described);
        bool fits = stack == LORS_STACK_NONE || described.stack == stack;
        count = fits && described.layer >= count ? described.layer + 1 : count;
    }
    return count;
}

lors_status lors_plan_config_layers(lors_plan *plan)
{
    int32_t counts[3];
    lors_plan_count_stacks(plan->donor, counts);
    bool two = counts[LORS_STACK_ENCODER] > 0 && counts[LORS_STACK_DECODER] > 0;
    static const char *const of_one[] = {
        "num_hidden_layers", "n_layer",        "n_layers", "num_layers",
        "encoder_layers",    "decoder_layers", NULL};
    static const char *const of_encoder[] = {"encoder_layers", "num_hidden_layers", "num_layers",
                                             NULL};
    static const char *const of_decoder[] = {"decoder_layers", "num_decoder_layers", NULL};
    const lors_config_layers edits[2] = {
        {two ? of_encoder : of_one,
         two ? counts[LORS_STACK_ENCODER]
             : lors_plan_layer_count(plan->donor, &(lors_recipe_module){0}),
         output_layers(plan, two ? LORS_STACK_ENCODER : LORS_STACK_NONE)},
        {of_decoder, counts[LORS_STACK_DECODER], output_layers(plan, LORS_STACK_DECODER)}};
    lors_list odd = {0};
    lors_status status = lors_model_config_with_layers(
        plan->donor->path, edits, two ? 2 : 1, &plan->config_text, &plan->config_bytes, &odd);
    for (size_t i = 0; i < odd.count; i++) {
        if (status == LORS_OK) {
            status = lors_plan_warn(plan, "%s/config.json: %s", plan->donor->path,
                                    (const char *)odd.items[i]);
        }
        lors_free(odd.items[i]);
    }
    lors_free(odd.items);
    return status;
}

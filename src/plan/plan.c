/* plan.c - from a recipe to a plan: open the models, match, resolve, lay out; and look into it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/plan.h>

#include "backend/backend_registry.h"
#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"
#include "plan/plan_internal.h"

enum { DEFAULT_MAX_MEMORY = 1500000000 };

lors_status lors_plan_warn(lors_plan *plan, const char *format, ...)
{
    char text[2 * LORS_ESCAPED_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    plan = plan->whole ? plan->whole : plan;
    char *copy = lors_arena_copy(plan->arena, text, strlen(text));
    if (!copy || !lors_list_push(&plan->warnings, copy)) {
        return lors_fail_memory(sizeof text);
    }
    return LORS_OK;
}

static lors_status open_model(lors_plan *plan, const char *path, bool follow, lors_place place,
                              lors_checkpoint **out)
{
    lors_status status = lors_checkpoint_open(path, follow, out);
    if (status == LORS_ERR_IO) {
        char where[512];
        return lors_fail_within(status, lors_recipe_locate(plan->recipe, place, where));
    }
    LORS_TRY(status);
    for (size_t i = 0; i < (*out)->warnings.count; i++) {
        LORS_TRY(lors_plan_warn(plan, "%s", (const char *)(*out)->warnings.items[i]));
    }
    return LORS_OK;
}

/* A folder, or the output of an earlier stage, which is only lent. */
static lors_status open_input(lors_plan *plan, const char *path, const lors_identity *identity,
                              lors_place place, lors_checkpoint **out)
{
    if (identity->stage > 0) {
        const lors_plan *whole = plan->whole ? plan->whole : plan;
        *out = whole->stages[identity->stage - 1]->output;
        return LORS_OK;
    }
    return open_model(plan, path, plan->follow_symlinks, place, out);
}

lors_status lors_plan_open_models(lors_plan *plan)
{
    const lors_recipe *recipe = plan->recipe;
    for (size_t i = 0; i < recipe->notes.count; i++) {
        LORS_TRY(lors_plan_warn(plan, "%s", (const char *)recipe->notes.items[i]));
    }
    if (recipe->base_path) {
        LORS_TRY(open_input(plan, recipe->base_path, &recipe->base_identity, recipe->base_place,
                            &plan->base));
    }
    plan->models = lors_new((size_t)recipe->n_models + 1, sizeof(lors_checkpoint *));
    if (!plan->models) {
        return lors_fail_memory(sizeof(lors_checkpoint *));
    }
    for (; plan->n_models < recipe->n_models; plan->n_models++) {
        const lors_recipe_model *model = &recipe->models[plan->n_models];
        LORS_TRY(open_input(plan, model->path, &model->identity, model->place,
                            &plan->models[plan->n_models]));
    }
    plan->source = plan->base ? plan->base : plan->models[0];
    int32_t stage = plan->base ? recipe->base_identity.stage : recipe->models[0].identity.stage;
    const lors_plan *whole = plan->whole ? plan->whole : plan;
    plan->donor = stage > 0 ? whole->stages[stage - 1]->donor : plan->source;
    return LORS_OK;
}

/* The devices stay open as long as the plan lives: it counts on the memory that they have free. */
static lors_status open_devices(lors_plan *plan, const char *wish)
{
    lors_backend_choice choice;
    LORS_TRY(lors_backend_find(wish, &choice));
    plan->ops = choice.ops;
    snprintf(plan->device, sizeof plan->device, "%s", choice.label);
    for (; plan->n_devices < choice.n_devices; plan->n_devices++) {
        lors_plan_device *device = &plan->devices[plan->n_devices];
        uint64_t n_total = 0;
        device->index = choice.index[plan->n_devices];
        snprintf(device->name, sizeof device->name, "%s", choice.name[plan->n_devices]);
        LORS_TRY(plan->ops->open(device->index, &device->backend));
        lors_status status = plan->ops->memory_info(device->backend, &device->free_bytes, &n_total);
        if (status != LORS_OK) {
            plan->ops->close(device->backend);
            return status;
        }
    }
    return LORS_OK;
}

/* All that follows from recipe, options and devices. */
static lors_status make_plan(lors_plan *plan)
{
    LORS_TRY(lors_plan_stages(plan));
    LORS_TRY(lors_plan_open_models(plan));
    LORS_TRY(lors_plan_match(plan));
    LORS_TRY(lors_plan_resolve(plan, plan->has_out_dtype, plan->out_dtype));
    LORS_TRY(lors_plan_join_stages(plan));
    LORS_TRY(lors_plan_side_files(plan)); /* looked at before one of them is read */
    LORS_TRY(lors_plan_config(plan));
    return lors_plan_lay_out(plan, plan->max_shard_bytes, plan->threads_given);
}

static lors_status take_options(lors_plan *plan, const lors_plan_options *options)
{
    plan->has_out_dtype = options->out_dtype != NULL;
    if (options->out_dtype && (!lors_dtype_parse_word(options->out_dtype, &plan->out_dtype) ||
                               !lors_dtype_merges(plan->out_dtype))) {
        char escaped[LORS_ESCAPED_MAX];
        return lors_fail(LORS_ERR_USAGE, "unknown dtype '%s' (known: f32, f16, bf16)",
                         lors_escape_text(options->out_dtype, escaped));
    }
    plan->exact = options->exact;
    plan->max_memory = options->max_memory_bytes ? options->max_memory_bytes : DEFAULT_MAX_MEMORY;
    plan->max_shard_bytes = options->max_shard_bytes;
    plan->seed = options->seed ? *options->seed : plan->recipe->has_seed ? plan->recipe->seed : 0;
    plan->follow_symlinks = options->follow_symlinks;
    plan->threads_given = options->n_threads > 0 ? options->n_threads : lors_processor_count();
    return open_devices(plan, options->device);
}

lors_status lors_plan_new(const lors_recipe *recipe, lors_plan **out)
{
    lors_plan *plan = lors_new(1, sizeof *plan);
    if (!plan) {
        return lors_fail_memory(sizeof *plan);
    }
    plan->recipe = recipe;
    plan->arena = lors_arena_create();
    if (!plan->arena) {
        lors_free(plan);
        return lors_fail_memory(4096);
    }
    *out = plan;
    return LORS_OK;
}

lors_status lors_plan_create(const lors_recipe *recipe, const lors_plan_options *options,
                             lors_plan **out)
{
    lors_plan_options given = LORS_PLAN_OPTIONS_INIT;
    if (options) {
        size_t size = options->struct_size < sizeof given ? options->struct_size : sizeof given;
        memcpy(&given, options, size);
    }
    *out = NULL;
    if (!recipe) {
        return lors_fail(LORS_ERR_USAGE, "no recipe was given");
    }
    lors_plan *plan = NULL;
    LORS_TRY(lors_recipe_check(recipe));
    LORS_TRY(lors_plan_new(recipe, &plan));
    lors_status status = take_options(plan, &given);
    if (status == LORS_OK) {
        status = make_plan(plan);
    }
    if (status != LORS_OK) {
        lors_plan_free(plan);
        return status;
    }
    *out = plan;
    return LORS_OK;
}

void lors_plan_choose_io(const lors_plan *plan, lors_io io)
{
    for (int32_t k = 0; k < plan->n_models; k++) {
        lors_ckpt_choose_io(plan->models[k], io);
    }
    if (plan->base) {
        lors_ckpt_choose_io(plan->base, io);
    }
    for (int32_t i = 0; i < plan->n_stages; i++) {
        lors_plan_choose_io(plan->stages[i], io);
    }
}

lors_status lors_plan_again(const lors_plan *plan, const lors_backend_ops *ops,
                            lors_backend *backend, lors_plan **out)
{
    lors_plan *again = NULL;
    lors_status status = lors_plan_new(plan->recipe, &again);
    if (status != LORS_OK) {
        ops->close(backend);
        return status;
    }
    again->ops = ops;
    again->n_devices = 1;
    again->devices[0] = (lors_plan_device){.backend = backend};
    snprintf(again->device, sizeof again->device, "%s", ops->name);
    snprintf(again->devices[0].name, sizeof again->devices[0].name, "%s", ops->name);
    again->exact = plan->exact;
    again->max_memory = plan->max_memory;
    again->beside = lors_plan_kept_bytes(plan);
    again->max_shard_bytes = plan->max_shard_bytes;
    again->seed = plan->seed;
    again->follow_symlinks = plan->follow_symlinks;
    /* Each of its workers has a queue of the device, too. */
    int32_t most = plan->ops->unified ? plan->threads_given : 2;
    again->threads_given = plan->threads_given < most ? plan->threads_given : most;
    again->has_out_dtype = plan->has_out_dtype;
    again->out_dtype = plan->out_dtype;
    status = make_plan(again);
    if (status != LORS_OK) {
        lors_plan_free(again);
        return status;
    }
    *out = again;
    return LORS_OK;
}

void lors_plan_free(lors_plan *plan)
{
    if (!plan) {
        return;
    }
    for (int32_t i = 0; i < plan->n_shards && plan->shards; i++) {
        lors_text_clear(&plan->shards[i].header);
    }
    for (int32_t k = 0; plan->models && k < plan->recipe->n_models; k++) {
        if (plan->recipe->models[k].identity.stage == 0) {
            lors_checkpoint_close(plan->models[k]);
        }
    }
    if (plan->recipe->base_identity.stage == 0) {
        lors_checkpoint_close(plan->base);
    }
    for (int32_t s = 0; s < plan->n_stages; s++) {
        lors_plan_free(plan->stages[s]);
    }
    lors_free(plan->stages);
    for (int32_t d = 0; d < plan->n_devices; d++) {
        plan->ops->close(plan->devices[d].backend);
    }
    lors_side_files_free(plan->side_files, plan->n_side_files);
    lors_free(plan->models);
    lors_free(plan->jobs);
    lors_free(plan->units);
    lors_free(plan->shards);
    lors_free(plan->ties);
    lors_free(plan->config_text);
    lors_free(plan->warnings.items);
    lors_arena_free(plan->arena);
    lors_free(plan);
}

void lors_plan_summarize(const lors_plan *plan, lors_plan_summary *out)
{
    *out = (lors_plan_summary){.method = plan->recipe->method->name,
                               .device = plan->device,
                               .n_models = plan->n_models,
                               .n_tensors = plan->n_jobs,
                               .n_elements = plan->n_elements,
                               .read_bytes = plan->read_bytes,
                               .write_bytes = plan->write_bytes,
                               .peak_bytes = plan->memory.peak,
                               .max_memory_bytes = plan->max_memory,
                               .device_peak_bytes = plan->memory.device_peak,
                               .n_workers = plan->memory.n_workers,
                               .n_shards = plan->n_shards,
                               .n_side_files = plan->n_side_files};
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        lors_treatment treatment = plan->jobs[j].treatment;
        out->n_method += treatment == LORS_TREAT_METHOD;
        out->n_weighted += treatment == LORS_TREAT_WEIGHTED;
        out->n_copied += treatment == LORS_TREAT_COPY;
    }
}

int64_t lors_plan_job_count(const lors_plan *plan)
{
    return plan->n_jobs;
}

static int64_t job_rank(const lors_job *job)
{
    int32_t param = job->def && job->by_matrix ? lors_method_param(&job->def->info, "rank") : -1;
    if (param < 0 || job->cells[param * job->n_models].energy > 0) {
        return -1;
    }
    return (int64_t)job->cells[param * job->n_models].number;
}

void lors_plan_job(const lors_plan *plan, int64_t index, lors_job_info *out)
{
    const lors_job *job = &plan->jobs[index];
    uint64_t bytes = job->reads_source ? job->source->n_bytes : 0;
    bytes = lors_job_producer(job, -1) < 0 ? bytes : 0;
    for (int32_t k = 0; k < job->n_models; k++) {
        bytes += lors_job_producer(job, k) < 0 ? job->inputs[k]->n_bytes : 0;
    }
    *out = (lors_job_info){.name = job->name,
                           .role = job->role,
                           .treatment = job->treatment,
                           .reason = job->reason,
                           .dtype = lors_dtype_name(job->out_dtype),
                           .shape = job->source->shape,
                           .n_dims = job->source->n_dims,
                           .n_elements = job->source->n_elements,
                           .read_bytes = bytes * (uint64_t)job->n_phases,
                           .write_bytes = job->out_bytes,
                           .rank = job_rank(job),
                           .tiled = job->n_ranges > 1,
                           .origin = job->origin,
                           .device = plan->devices[job->device].name};
}

int32_t lors_plan_stage_count(const lors_plan *plan)
{
    return plan->n_stages;
}

void lors_plan_stage(const lors_plan *plan, int32_t index, lors_stage_info *out)
{
    const lors_plan *stage = plan->stages[index];
    *out = (lors_stage_info){.name = stage->recipe->name,
                             .method = stage->recipe->method->name,
                             .n_models = stage->n_models,
                             .n_tensors = stage->n_jobs};
    for (int64_t j = 0; j < stage->n_jobs; j++) {
        out->n_bytes += stage->jobs[j].out_bytes;
    }
}

int32_t lors_plan_warning_count(const lors_plan *plan)
{
    return (int32_t)plan->warnings.count;
}

const char *lors_plan_warning(const lors_plan *plan, int32_t index)
{
    return plan->warnings.items[index];
}

/* identity.c - what decides the bytes of a merge, as the first record of its journal: a hash for
 * each part, so that the parts that differ can be named. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <lors/lors.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "run/run_internal.h"

/* It is to change with the format of the journal. */
static const char magic[16] = "lors journal 2\n";

/* Append the hash of a part to the identity, and begin the next one. */
static void end_part(lors_text *part, lors_text *out)
{
    lors_xxh hash = lors_xxh_of(part->bytes, part->length);
    lors_text_append(out, &hash, sizeof hash);
    out->failed = out->failed || part->failed;
    lors_text_clear(part);
}

/* With its length, so that no two lists of texts look alike. */
static void put_text(lors_text *part, const char *text)
{
    lors_text_printf(part, "%zu:%s\n", text ? strlen(text) : 0, text ? text : "");
}

static void put_recipe(const lors_recipe *recipe, lors_text *part)
{
    put_text(part, recipe->method->name);
    put_text(part, recipe->base_written);
    for (int32_t k = 0; k < recipe->n_models; k++) {
        put_text(part, recipe->models[k].written);
    }
    lors_text_printf(part, "compat %d\n", recipe->compat);
    if (recipe->text) {
        lors_text_append(part, recipe->text, recipe->text_bytes);
    }
}

static void put_options(const lors_run_state *run, lors_text *part)
{
    const lors_plan *plan = run->plan;
    lors_text_printf(part, "dtype %d shard %" PRIu64 " seed %" PRIu64 " exact %d nonfinite %d",
                     plan->has_out_dtype ? (int)plan->out_dtype : -1, plan->max_shard_bytes,
                     plan->seed, plan->exact, (int)run->options->nonfinite);
}

static void put_devices(const lors_plan *plan, lors_text *part)
{
    for (int32_t i = 0; i < plan->n_devices; i++) {
        put_text(part, plan->devices[i].name);
        put_text(part, lors_run_device_detail(plan, i));
    }
}

/* Sizes and both times of all files, and their headers: to hash the weights would be to read them
 * all. Archives give every file one time of change, which that of the inode tells apart; the number
 * of the inode is left out, since network file systems renumber. */
static void put_model(const lors_checkpoint *model, lors_text *part)
{
    put_text(part, model->path);
    for (int32_t i = 0; i < model->n_files; i++) {
        const lors_ckpt_file *file = &model->files[i];
        put_text(part, file->name);
        lors_text_printf(part, "%" PRIu64 " %" PRId64 " %" PRId64 "\n", file->n_bytes,
                         file->mtime_ns, file->ctime_ns);
    }
    for (int64_t i = 0; i < model->n_tensors; i++) {
        const lors_ckpt_tensor *tensor = &model->tensors[i];
        put_text(part, tensor->name);
        lors_text_printf(part, "%d in %" PRId32 " at %" PRIu64, (int)tensor->dtype, tensor->file,
                         tensor->offset);
        for (int32_t d = 0; d < tensor->n_dims; d++) {
            lors_text_printf(part, " %" PRId64, tensor->shape[d]);
        }
    }
}

static void put_job(const lors_plan *plan, const lors_job *job, lors_text *part)
{
    put_text(part, job->name);
    put_text(part, job->def ? job->def->info.name : NULL);
    put_text(part, plan->devices[job->device].name);
    lors_text_printf(part, "%d %d %" PRId32 " %" PRIu64 " %" PRId32, (int)job->treatment,
                     (int)job->out_dtype, job->shard, job->out_offset, job->n_models);
    put_text(part, job->source->name);
    put_text(part, job->source_model ? job->source_model->path : NULL);
    for (int32_t k = 0; k < job->n_models; k++) {
        put_text(part, job->inputs[k]->name);
        put_text(part, job->input_models[k] ? job->input_models[k]->path : NULL);
    }
    int64_t n_cells = job->def ? (int64_t)job->def->info.n_params * job->n_models : 0;
    for (int64_t i = 0; i < n_cells; i++) {
        lors_text_printf(part, " %a %a", job->cells[i].number, job->cells[i].energy);
    }
}

static void put_layout(const lors_plan *plan, lors_text *part)
{
    for (int32_t i = 0; i < plan->n_shards; i++) {
        put_text(part, plan->shards[i].name);
        lors_text_append(part, plan->shards[i].header.bytes, plan->shards[i].header.length);
    }
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        put_job(plan, &plan->jobs[j], part);
    }
}

/* The base and the models of a plan, not what a stage makes: the one of index `*left`, which is
 * counted down by those before it. */
static const lors_checkpoint *find_model(const lors_plan *plan, int64_t *left)
{
    for (int32_t k = LORS_SOURCE; k < plan->n_models; k++) {
        const lors_checkpoint *model = k == LORS_SOURCE ? plan->base : plan->models[k];
        if (model && model->n_files > 0 && (*left)-- == 0) {
            return model;
        }
    }
    return NULL;
}

/* The same of the plan and then of its stages; NULL: there are not so many. */
static const lors_checkpoint *model_at(const lors_plan *plan, int64_t index)
{
    const lors_checkpoint *model = find_model(plan, &index);
    for (int32_t s = 0; s < plan->n_stages && !model; s++) {
        model = find_model(plan->stages[s], &index);
    }
    return model;
}

/* The magic, then a hash each of: version, recipe, options, devices, each model, layout. */
lors_status lors_run_identity(const lors_run_state *run, lors_text *out)
{
    const lors_plan *plan = run->plan;
    lors_text part = {0};
    lors_text_append(out, magic, sizeof magic);
    put_text(&part, LORS_VERSION);
    end_part(&part, out);
    put_recipe(plan->recipe, &part);
    for (int32_t s = 0; s < plan->n_stages; s++) {
        put_recipe(plan->stages[s]->recipe, &part);
    }
    end_part(&part, out);
    put_options(run, &part);
    end_part(&part, out);
    put_devices(plan, &part);
    end_part(&part, out);
    for (int64_t i = 0; model_at(plan, i); i++) {
        put_model(model_at(plan, i), &part);
        end_part(&part, out);
    }
    put_layout(plan, &part);
    end_part(&part, out);
    return out->failed ? lors_fail_memory(out->length) : LORS_OK;
}

/* The name of a part, in the order of lors_run_identity; NULL: of the last, the layout. */
static const char *part_name(const lors_plan *plan, size_t part, char model[LORS_ESCAPED_MAX])
{
    static const char *const names[] = {"the version of lors", "the recipe",
                                        "an option (dtype, seed, shards, exact, nonfinite)",
                                        "the device"};
    enum { N_NAMES = sizeof names / sizeof *names };
    if (part < N_NAMES) {
        return names[part];
    }
    const lors_checkpoint *changed = model_at(plan, (int64_t)(part - N_NAMES));
    return changed ? lors_escape_text(changed->path, model) : NULL;
}

/* Stages may read the same models: a part that is equal to an earlier one is not told again. */
static bool is_first(const char *parts, size_t part)
{
    bool first = true;
    for (size_t i = 0; i < part && first; i++) {
        first = memcmp(parts + i * sizeof(lors_xxh), parts + part * sizeof(lors_xxh),
                       sizeof(lors_xxh)) != 0;
    }
    return first;
}

bool lors_run_identity_differs(const lors_run_state *run, const lors_text *meant, const void *found,
                               size_t n_bytes, char why[LORS_RESUME_WHY])
{
    size_t n_parts = (meant->length - sizeof magic) / sizeof(lors_xxh), n_told = 0;
    char model[LORS_ESCAPED_MAX];
    why[0] = '\0';
    if (n_bytes == meant->length && memcmp(meant->bytes, found, n_bytes) == 0) {
        return false;
    }
    bool comparable = n_bytes == meant->length && memcmp(meant->bytes, found, sizeof magic) == 0;
    for (size_t i = 0; comparable && i < n_parts; i++) {
        size_t at = sizeof magic + i * sizeof(lors_xxh), length = strlen(why);
        if (memcmp(meant->bytes + at, (const char *)found + at, sizeof(lors_xxh)) != 0) {
            const char *name = part_name(run->plan, i, model);
            /* A layout follows from what was named already, or is all there is. */
            if (name && is_first(meant->bytes + sizeof magic, i)) {
                snprintf(why + length, LORS_RESUME_WHY - length, "%s%s", n_told++ ? ", " : "",
                         name);
            }
        }
    }
    size_t length = strlen(why);
    snprintf(why + length, LORS_RESUME_WHY - length,
             n_told ? " changed since the interrupted run"
                    : "the interrupted run was another merge");
    return true;
}

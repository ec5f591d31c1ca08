/* stages.c - a recipe of several documents: what an earlier one makes is an input of later ones.
 *
 * Each stage is a plan of its own, matched and resolved; its output is a checkpoint without files.
 * Its jobs are then jobs of the whole plan, whose results go to memory instead of a shard and are
 * let go when the last job that needs them is done.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "plan/plan_internal.h"

/* ---- the stages ---- */

/* What the stage makes, as a checkpoint: its tensors in the order of its jobs. */
static lors_status make_output(lors_plan *stage)
{
    lors_checkpoint *output = lors_arena_alloc(stage->arena, sizeof *output);
    size_t n_bytes = ((size_t)stage->n_jobs + 1) * sizeof(lors_ckpt_tensor);
    lors_ckpt_tensor *tensors = lors_arena_alloc(stage->arena, n_bytes);
    if (!output || !tensors) {
        return lors_fail_memory(n_bytes);
    }
    for (int64_t j = 0; j < stage->n_jobs; j++) {
        const lors_job *job = &stage->jobs[j];
        tensors[j] = *job->source;
        tensors[j].name = job->name;
        tensors[j].name_bytes = strlen(job->name);
        tensors[j].dtype = job->out_dtype;
        tensors[j].n_bytes = job->out_bytes;
        tensors[j].file = -1;
    }
    output->path = stage->recipe->name;
    output->tensors = tensors;
    output->n_tensors = stage->n_jobs;
    stage->output = output;
    return LORS_OK;
}

lors_status lors_plan_stages(lors_plan *plan)
{
    const lors_recipe *recipe = plan->recipe;
    int32_t n = recipe->n_documents > 0 ? recipe->n_documents - 1 : 0;
    if (n == 0) {
        return LORS_OK;
    }
    plan->stages = lors_new((size_t)n, sizeof *plan->stages);
    if (!plan->stages) {
        return lors_fail_memory((size_t)n * sizeof *plan->stages);
    }
    for (int32_t i = 0; i < n; i++) {
        LORS_TRY(lors_plan_new(recipe->documents[i], &plan->stages[i]));
        lors_plan *stage = plan->stages[plan->n_stages++];
        bool typed = stage->recipe->has_dtype || stage->recipe->has_out_dtype;
        stage->whole = plan;
        stage->ops = plan->ops;
        stage->exact = plan->exact;
        stage->seed = plan->seed;
        stage->follow_symlinks = plan->follow_symlinks;
        LORS_TRY(lors_plan_open_models(stage));
        LORS_TRY(lors_plan_match(stage));
        LORS_TRY(lors_plan_resolve(stage, !typed, LORS_F32));
        LORS_TRY(make_output(stage));
    }
    return LORS_OK;
}

/* ---- their jobs ---- */

/* The job that makes a tensor; first[s]: where the jobs of stage s begin. */
static int64_t producer_of(const lors_plan *plan, const int64_t *first,
                           const lors_checkpoint *model, const lors_ckpt_tensor *tensor)
{
    for (int32_t s = 0; s < plan->n_stages; s++) {
        if (plan->stages[s]->output == model && tensor) {
            return first[s] + (tensor - model->tensors);
        }
    }
    return -1;
}

static lors_status find_producers(lors_plan *plan, const int64_t *first, lors_job *job)
{
    size_t n_bytes = ((size_t)job->n_inputs + 1) * sizeof(int64_t);
    int64_t *producers = lors_arena_alloc(plan->arena, n_bytes);
    if (!producers) {
        return lors_fail_memory(n_bytes);
    }
    producers[0] = producer_of(plan, first, job->source_model, job->source);
    for (int32_t k = 0; k < job->n_inputs; k++) {
        producers[k + 1] = producer_of(plan, first, job->input_models[k], job->inputs[k]);
    }
    job->producers = producers;
    return LORS_OK;
}

lors_status lors_plan_join_stages(lors_plan *plan)
{
    int64_t first[128] = {0}, n = plan->n_jobs; /* YAML allows 100 documents */
    plan->n_all_jobs = plan->n_jobs;
    for (int32_t s = 0; s < plan->n_stages; s++) {
        first[s] = n;
        n += plan->stages[s]->n_jobs;
    }
    if (plan->n_stages == 0) {
        return LORS_OK;
    }
    size_t n_bytes = ((size_t)n + 1) * sizeof *plan->jobs;
    lors_job *jobs = lors_resize(plan->jobs, n_bytes);
    if (!jobs) {
        return lors_fail_memory(n_bytes);
    }
    plan->jobs = jobs;
    for (int32_t s = 0; s < plan->n_stages; s++) {
        const lors_plan *stage = plan->stages[s];
        memcpy(&jobs[first[s]], stage->jobs, (size_t)stage->n_jobs * sizeof *jobs);
        plan->most_inputs =
            stage->most_inputs > plan->most_inputs ? stage->most_inputs : plan->most_inputs;
        for (int64_t j = 0; j < stage->n_jobs; j++) {
            jobs[first[s] + j].stage = s + 1;
        }
    }
    plan->n_all_jobs = n;
    for (int64_t j = 0; j < n; j++) {
        LORS_TRY(find_producers(plan, first, &jobs[j]));
    }
    return LORS_OK;
}

void lors_plan_walk(const lors_plan *plan, int64_t index, bool *done,
                    void (*each)(void *user, int64_t job), void *user)
{
    const lors_job *job = &plan->jobs[index];
    if (done[index]) {
        return;
    }
    done[index] = true;
    for (int32_t k = job->reads_source ? -1 : 0; k < job->n_models; k++) {
        int64_t producer = lors_job_producer(job, k);
        if (producer >= 0) {
            lors_plan_walk(plan, producer, done, each, user);
        }
    }
    each(user, index);
}

/* ---- their memory ---- */

typedef struct holding {
    lors_plan *plan;
    int64_t output;  /* whose stages are walked through */
    int64_t *owners; /* [n_all_jobs]: the output for which a stage's job is done; -1: none so far */
} holding;

static void hold(void *user, int64_t index)
{
    holding *h = user;
    if (h->plan->jobs[index].stage > 0) {
        h->owners[index] = h->output;
        h->plan->held[h->output] += h->plan->jobs[index].out_bytes;
    }
}

/* What a job of another output needs, too, may be held from the first to the last of them. */
static void hold_longer(holding *h, bool *seen)
{
    const lors_plan *plan = h->plan;
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        int64_t owner = job->stage > 0 ? h->owners[j] : j;
        for (int32_t k = job->reads_source ? -1 : 0; k < job->n_models && owner >= 0; k++) {
            int64_t producer = lors_job_producer(job, k);
            if (producer >= 0 && h->owners[producer] != owner && !seen[producer]) {
                seen[producer] = true;
                h->plan->held_longer += plan->jobs[producer].out_bytes;
            }
        }
    }
}

static int largest_first(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left < right) - (left > right);
}

lors_status lors_plan_measure_stages(lors_plan *plan)
{
    size_t n = (size_t)plan->n_all_jobs + 1;
    if (plan->n_stages == 0) {
        return LORS_OK;
    }
    holding h = {.plan = plan, .owners = lors_new(n, sizeof *h.owners)};
    bool *done = lors_new(n, sizeof *done);
    plan->held = lors_arena_alloc(plan->arena, n * sizeof *plan->held);
    if (!h.owners || !done || !plan->held) {
        lors_free(h.owners);
        lors_free(done);
        return lors_fail_memory(n * sizeof *h.owners);
    }
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        h.owners[j] = -1;
    }
    for (h.output = 0; h.output < plan->n_jobs; h.output++) {
        lors_plan_walk(plan, h.output, done, hold, &h);
    }
    memset(done, 0, n * sizeof *done);
    hold_longer(&h, done);
    qsort(plan->held, (size_t)plan->n_jobs, sizeof *plan->held, largest_first);
    lors_free(h.owners);
    lors_free(done);
    return LORS_OK;
}

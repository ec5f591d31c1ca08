/* run_job.c - the life of a job: started by its first unit, settled between phases, ended by its
 * last unit. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "run/worker.h"

static uint64_t block_count(uint64_t n)
{
    return (n + LORS_BLOCK - 1) / LORS_BLOCK;
}

/* Of the source (0) or an input (from 1 on). */
static uint64_t operand_bytes(const lors_job *job, int32_t which)
{
    return which == 0 ? job->source->n_bytes : job->inputs[which - 1]->n_bytes;
}

static lors_status allocate_digests(const lors_job *job, lors_run_job *state)
{
    int32_t n = job->n_models;
    state->digests = lors_new((size_t)n + 2, sizeof *state->digests);
    if (!state->digests) {
        return lors_fail_memory((size_t)n * sizeof *state->digests);
    }
    for (int32_t i = 0; i < n + 2; i++) {
        uint64_t bytes = i == n + 1 ? job->out_bytes : operand_bytes(job, i);
        size_t chunks = (size_t)lors_run_chunks(bytes) + 1;
        state->digests[i] = lors_new(chunks, sizeof **state->digests);
        if (!state->digests[i]) {
            return lors_fail_memory(chunks * sizeof **state->digests);
        }
    }
    return LORS_OK;
}

static lors_status allocate_job(lors_run_state *run, const lors_job *job, lors_run_job *state)
{
    size_t n = (size_t)job->n_models + 1, n_blocks = (size_t)block_count(job->source->n_elements);
    state->results = lors_new(n, sizeof *state->results);
    state->changed = lors_new(n, sizeof *state->changed);
    lors_call call = lors_plan_call(run->plan, job);
    state->constants =
        lors_new((size_t)lors_method_constants(job->def, &call), sizeof *state->constants);
    state->blocks = lors_new(n_blocks + 1, sizeof *state->blocks);
    state->hashes = lors_new(n + 1, sizeof *state->hashes);
    if (!state->results || !state->changed || !state->constants || !state->blocks ||
        !state->hashes) {
        return lors_fail_memory(n_blocks * sizeof *state->blocks);
    }
    LORS_TRY(allocate_digests(job, state));
    if (job->stage > 0) {
        state->kept = lors_alloc_aligned((size_t)job->out_bytes + 1);
        if (!state->kept) {
            return lors_fail_memory((size_t)job->out_bytes);
        }
    }
    /* What one worker does alone has its state in the worker's memory. */
    uint64_t bytes = job->n_ranges > 1 ? lors_plan_state_bytes(run->plan, job) : 0;
    if (bytes > 0) {
        LORS_TRY(run->plan->ops->allocate(run->plan->devices[job->device].backend, LORS_ON_DEVICE,
                                          bytes, &state->state));
    }
    return LORS_OK;
}

lors_call lors_run_job_call(lors_run_state *run, int64_t index, lors_queue *queue)
{
    lors_call call = lors_plan_call(run->plan, &run->plan->jobs[index]);
    lors_run_job *state = &run->jobs[index];
    call.queue = queue;
    call.state = (lors_view){state->state, 0};
    call.shared = run->plan->jobs[index].n_ranges > 1;
    call.constants = state->constants;
    call.results = state->results;
    return call;
}

/* The method's beginning, where its state is shared by the workers: done before any goes on. */
static lors_status begin_job(lors_run_state *run, int64_t index, lors_queue *queue)
{
    lors_call call = lors_run_job_call(run, index, queue);
    LORS_TRY(run->plan->jobs[index].def->begin(&call));
    return run->plan->ops->wait(queue);
}

lors_status lors_run_job_start(lors_run_state *run, int64_t index, lors_queue *queue)
{
    const lors_job *job = &run->plan->jobs[index];
    lors_run_job *state = &run->jobs[index];
    lors_status status = LORS_OK;
    pthread_mutex_lock(&run->lock);
    if (run->status != LORS_OK) { /* perhaps it was this job that could not be started */
        status = lors_fail(LORS_ERR_CANCELLED, "stopped");
    } else if (!state->started) {
        state->started = true;
        state->n_left = job->n_ranges;
        state->n_unwritten = job->out_bytes;
        status = allocate_job(run, job, state);
        if (status == LORS_OK && job->n_ranges > 1 && job->def && job->def->begin) {
            status = begin_job(run, index, queue);
        }
        if (status != LORS_OK) {
            run->status = status;
            run->sentence = lors_copy_text(lors_last_error());
        }
    }
    pthread_mutex_unlock(&run->lock);
    return status;
}

lors_status lors_run_job_await(lors_run_state *run, int64_t index, int32_t phase)
{
    pthread_mutex_lock(&run->lock);
    while (run->jobs[index].phase < phase && run->status == LORS_OK) {
        pthread_cond_wait(&run->changed, &run->lock);
    }
    bool stopped = run->status != LORS_OK;
    pthread_mutex_unlock(&run->lock);
    return stopped ? lors_fail(LORS_ERR_CANCELLED, "stopped") : LORS_OK;
}

lors_xxh lors_run_fold_digests(const lors_xxh *digests, uint64_t n_bytes)
{
    uint64_t chunks = lors_run_chunks(n_bytes);
    if (chunks == 0) {
        return lors_xxh_of("", 0);
    }
    return chunks == 1 ? digests[0] : lors_xxh_of(digests, (size_t)chunks * sizeof *digests);
}

/* Pairwise sums over the blocks: a fixed tree, whatever the units were. */
static lors_store_block tree_sum(const lors_store_block *blocks, uint64_t n)
{
    lors_store_block sum = {0};
    if (n <= 4) {
        for (uint64_t i = 0; i < n; i++) {
            sum.update += blocks[i].update;
            sum.loss += blocks[i].loss;
        }
        return sum;
    }
    lors_store_block a = tree_sum(blocks, n / 2), b = tree_sum(blocks + n / 2, n - n / 2);
    sum.update = a.update + b.update;
    sum.loss = a.loss + b.loss;
    return sum;
}

static void release_state(lors_run_state *run, int64_t index)
{
    const lors_plan *plan = run->plan;
    lors_run_job *state = &run->jobs[index];
    plan->ops->release(plan->devices[plan->jobs[index].device].backend, state->state);
    state->state = NULL;
}

/* One hash each of what was read and of what was made. Of the latter --verify compares chunks. */
static void fold_all(const lors_job *job, lors_run_job *state)
{
    for (int32_t i = 0; i < job->n_models + 2; i++) {
        bool is_output = i == job->n_models + 1;
        uint64_t bytes = is_output ? job->out_bytes : operand_bytes(job, i);
        state->hashes[i] = lors_run_fold_digests(state->digests[i], bytes);
        if (!is_output) {
            lors_free(state->digests[i]);
            state->digests[i] = NULL;
        }
    }
}

static void change_needs(lors_run_state *run, const lors_job *job, int32_t by)
{
    for (int32_t k = job->reads_source ? LORS_SOURCE : 0; k < job->n_models; k++) {
        int64_t producer = lors_job_producer(job, k);
        if (producer < 0) {
            continue;
        }
        lors_run_job *state = &run->jobs[producer];
        state->n_needed += by;
        if (state->n_needed == 0) {
            lors_free(state->kept);
            state->kept = NULL;
        }
    }
}

static void count_needs(void *user, int64_t index)
{
    lors_run_state *run = user;
    change_needs(run, &run->plan->jobs[index], 1);
}

lors_status lors_run_count_needs(lors_run_state *run)
{
    const lors_plan *plan = run->plan;
    bool *done = lors_new((size_t)plan->n_all_jobs + 1, sizeof *done);
    if (!done) {
        return lors_fail_memory((size_t)plan->n_all_jobs);
    }
    for (int64_t j = 0; j < plan->n_jobs && plan->n_stages > 0; j++) {
        if (!plan->jobs[j].skip && !run->jobs[j].resumed) {
            lors_plan_walk(plan, j, done, count_needs, run);
        }
    }
    lors_free(done);
    return LORS_OK;
}

/* Keep of a finished job what the report says, and let the rest go. Called under the lock. */
static void end_job(lors_run_state *run, int64_t index)
{
    const lors_job *job = &run->plan->jobs[index];
    lors_run_job *state = &run->jobs[index];
    uint64_t n_blocks = job->def ? block_count(job->source->n_elements) : 0;
    for (uint64_t i = 0; i < n_blocks; i++) {
        state->n_overflow += state->blocks[i].n_overflow;
        state->n_nan += (uint64_t)state->blocks[i].n_nan + state->blocks[i].n_infinite;
    }
    lors_store_block sum = tree_sum(state->blocks, n_blocks);
    state->update = sqrt(sum.update);
    state->loss = sqrt(sum.loss);
    for (int32_t k = 0; k < job->n_models; k++) {
        state->results[k].zero = job->reads_source && !state->changed[k];
    }
    release_state(run, index);
    lors_free(state->blocks);
    state->blocks = NULL;
    lors_free(state->constants);
    state->constants = NULL;
    fold_all(job, state);
    run->n_done_jobs += job->stage == 0;
    change_needs(run, job, -1);
    if (job->stage > 0 && !state->noted) { /* before what is made of it; the output when written */
        lors_run_journal_add(run, index);
    }
}

lors_status lors_run_job_settle(lors_call *call, lors_worker *w, const lors_job *job, int32_t phase)
{
    const lors_backend_ops *ops = w->run->plan->ops;
    uint64_t n_bytes = lors_plan_settle_bytes(w->run->plan, job);
    if (n_bytes > 0) {
        LORS_TRY(ops->download(w->queue, w->survey, call->state, n_bytes));
        LORS_TRY(ops->wait(w->queue));
        call->state_on_host = ops->host_bytes(w->survey);
    }
    return job->def->settle(call, phase);
}

/* The last unit of a phase settles it, before any other can go on to the next. */
static lors_status settle_phase(lors_run_state *run, const lors_unit *unit, lors_worker *w)
{
    lors_call call = lors_run_job_call(run, unit->job, w->queue);
    LORS_TRY(lors_run_job_settle(&call, w, &run->plan->jobs[unit->job], unit->phase));
    return run->plan->ops->wait(w->queue);
}

void lors_run_job_add_seconds(lors_run_state *run, int64_t index, double seconds)
{
    pthread_mutex_lock(&run->lock);
    run->jobs[index].seconds += seconds;
    run->compute_seconds += seconds;
    pthread_mutex_unlock(&run->lock);
}

lors_status lors_run_job_unit_done(lors_run_state *run, const lors_unit *unit, lors_worker *w)
{
    const lors_job *job = &run->plan->jobs[unit->job];
    lors_run_job *state = &run->jobs[unit->job];
    pthread_mutex_lock(&run->lock);
    bool last = --state->n_left == 0;
    pthread_mutex_unlock(&run->lock);
    if (!last) {
        return LORS_OK;
    }
    if (unit->phase < job->n_phases - 1) {
        LORS_TRY(settle_phase(run, unit, w));
    }
    pthread_mutex_lock(&run->lock);
    state->n_left = job->n_ranges;
    state->phase++;
    if (state->phase == job->n_phases) {
        end_job(run, unit->job);
    }
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return LORS_OK;
}

void lors_run_job_clear(lors_run_state *run, int64_t index)
{
    lors_run_job *state = &run->jobs[index];
    release_state(run, index);
    for (int32_t i = 0; state->digests && i < run->plan->jobs[index].n_models + 2; i++) {
        lors_free(state->digests[i]);
    }
    lors_free(state->digests);
    lors_free(state->kept);
    lors_free(state->blocks);
    lors_free(state->constants);
    lors_free(state->results);
    lors_free(state->changed);
    lors_free(state->hashes);
    lors_free(state->paths);
    *state = (lors_run_job){0};
}

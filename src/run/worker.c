/* worker.c - one thread and one queue of a device: it takes units in order, and while it computes
 * one step the next is being read into its other slot and the last result is being written.
 *
 * Units are claimed in the plan's order by all workers of a device, so that a unit that waits for
 * an earlier phase of its job waits only for units claimed before it: the earliest one can always
 * go on. A worker waits for its device at the end of a step; what the device does meanwhile for
 * other workers fills the gap, so that copies in, computing and copies out overlap.
 */
#include <fenv.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "run/worker.h"

/* --- steps ------------------------------------------------------------------------------------ */

static bool is_ours(const lors_run_state *run, int64_t index, int32_t device)
{
    const lors_job *job = &run->plan->jobs[index];
    return job->device == device && !job->skip && !run->jobs[index].resumed;
}

static int64_t claim_unit(lors_run_state *run, int32_t device)
{
    const lors_plan *plan = run->plan;
    pthread_mutex_lock(&run->lock);
    int64_t unit = run->next_unit[device];
    while (unit < plan->n_units && !is_ours(run, plan->units[unit].job, device)) {
        unit++;
    }
    run->next_unit[device] = unit + 1;
    bool none = run->status != LORS_OK || unit >= plan->n_units;
    pthread_mutex_unlock(&run->lock);
    return none ? -1 : unit;
}

static void next_step(lors_worker *w, lors_step *s)
{
    const lors_plan *plan = w->run->plan;
    if (w->cursor_unit < 0) {
        w->cursor_unit = claim_unit(w->run, w->device);
        w->cursor_model = 0;
    }
    s->unit = w->cursor_unit;
    s->n_requests = 0;
    s->n_bytes = 0;
    if (s->unit < 0) {
        return;
    }
    const lors_job *job = &plan->jobs[plan->units[s->unit].job];
    int32_t left = job->n_models - w->cursor_model;
    s->from = w->cursor_model;
    s->n_models = job->by_matrix && job->n_batch < left ? job->n_batch : left;
    w->cursor_model += s->n_models;
    if (lors_step_ends(job, s)) {
        w->cursor_unit = -1;
    }
}

/* An operand begins in its page of memory where it begins in its page of the file, so that it can
 * be read straight into its place past the page cache; unless its elements do not lie in the file
 * as they must in memory. */
static uint64_t shift_of(uint64_t offset, uint64_t scale)
{
    return offset % scale == 0 ? offset % LORS_DIRECT_ALIGN : 0;
}

/* Ask for one operand's bytes of the unit, into pages of the slot behind the earlier ones. */
static lors_status request_operand(lors_worker *w, lors_step *s, const lors_job *job, int32_t k)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_ckpt_tensor *tensor = k == LORS_SOURCE ? job->source : job->inputs[k];
    uint64_t scale = job->def ? (uint64_t)lors_dtype_bits(tensor->dtype) / 8 : 1;
    uint64_t offset = unit->first * scale, n_bytes = unit->count * scale;
    if (lors_job_producer(job, k) >= 0) { /* perhaps it is not there yet: taken before computing */
        s->at[k + 1] = s->n_bytes;
        s->n_bytes += lors_view_padded(n_bytes);
        return LORS_OK;
    }
    lors_transfer_req *request = &s->requests[s->n_requests++];
    lors_run_job *state = &w->run->jobs[unit->job];
    request->digest_chunk_bytes = LORS_CHUNK_BYTES;
    request->digests = state->digests[k + 1] + offset / LORS_CHUNK_BYTES;
    if (unit->phase < job->n_phases - 1) {
        request->digests = NULL; /* read again later: hashed then */
    }
    /* What is read several times rather comes from the cache from the second time on. */
    request->whole_pages = job->n_phases == 1 || w->run->options->io == LORS_IO_DIRECT;
    s->at[k + 1] = s->n_bytes + shift_of(tensor->offset + offset, scale);
    void *out = plan->ops->host_bytes(lors_view_at(s->slot, s->at[k + 1]));
    s->n_bytes = lors_plan_paged(s->at[k + 1] + n_bytes);
    return lors_transfer_read(w->run->transfer, request,
                              k == LORS_SOURCE ? job->source_model : job->input_models[k], tensor,
                              offset, out, (size_t)n_bytes);
}

static lors_status begin_step(lors_worker *w, lors_step *s)
{
    next_step(w, s);
    if (s->unit < 0) {
        return LORS_OK;
    }
    const lors_job *job = &w->run->plan->jobs[w->run->plan->units[s->unit].job];
    LORS_TRY(lors_run_job_start(w->run, w->run->plan->units[s->unit].job, w->queue));
    if (job->reads_source && lors_step_begins(s)) {
        LORS_TRY(request_operand(w, s, job, LORS_SOURCE));
    }
    for (int32_t k = s->from; k < s->from + s->n_models; k++) {
        LORS_TRY(request_operand(w, s, job, k));
    }
    return LORS_OK;
}

static lors_status await_step(lors_worker *w, lors_step *s)
{
    lors_status status = LORS_OK;
    uint64_t n_bytes = 0;
    for (int32_t i = 0; i < s->n_requests; i++) {
        lors_status one = lors_transfer_wait(w->run->transfer, &s->requests[i]);
        status = status == LORS_OK ? one : status;
        n_bytes += s->requests[i].n_bytes;
    }
    s->n_requests = 0;
    pthread_mutex_lock(&w->run->lock);
    w->run->done_bytes += n_bytes;
    pthread_mutex_unlock(&w->run->lock);
    return status;
}

/* What an earlier stage made, from memory into the slot. */
static lors_status take_stages(lors_worker *w, const lors_step *s)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_job *job = &plan->jobs[unit->job];
    for (int32_t k = LORS_SOURCE; k < s->from + s->n_models; k++) {
        bool here = k == LORS_SOURCE ? job->reads_source && lors_step_begins(s) : k >= s->from;
        int64_t producer = here ? lors_job_producer(job, k) : -1;
        if (producer < 0) {
            continue;
        }
        const lors_ckpt_tensor *tensor = k == LORS_SOURCE ? job->source : job->inputs[k];
        uint64_t scale = job->def ? (uint64_t)lors_dtype_bits(tensor->dtype) / 8 : 1;
        LORS_TRY(lors_run_job_await(w->run, producer, plan->jobs[producer].n_phases));
        memcpy(plan->ops->host_bytes(lors_view_at(s->slot, s->at[k + 1])),
               w->run->jobs[producer].kept + unit->first * scale, unit->count * scale);
    }
    return LORS_OK;
}

/* --- output ----------------------------------------------------------------------------------- */

static lors_status await_write(lors_worker *w)
{
    if (!w->writing) {
        return LORS_OK;
    }
    w->writing = false;
    lors_status status = lors_transfer_wait(w->run->transfer, &w->write);
    pthread_mutex_lock(&w->run->lock);
    w->run->done_bytes += w->write.n_bytes;
    pthread_mutex_unlock(&w->run->lock);
    LORS_TRY(status);
    return lors_run_written(w->run, w->write_job, w->write.n_bytes);
}

/* Hash the finished unit and hand it to the writer; the buffer is free again after await_write. */
static lors_status begin_write(lors_worker *w, const lors_unit *unit)
{
    const lors_plan *plan = w->run->plan;
    const lors_job *job = &plan->jobs[unit->job];
    uint64_t scale = job->def ? (uint64_t)lors_dtype_bits(job->out_dtype) / 8 : 1;
    uint64_t offset = unit->first * scale, n_bytes = unit->count * scale;
    const unsigned char *bytes = plan->ops->host_bytes(w->out);
    if (job->stage > 0) {
        memcpy(w->run->jobs[unit->job].kept + offset, bytes, n_bytes);
    } else if (w->run->written) {
        return lors_run_compare_output(w->run, unit->job, offset, bytes, n_bytes, w->check);
    }
    lors_xxh *digest =
        w->run->jobs[unit->job].digests[job->n_models + 1] + offset / LORS_CHUNK_BYTES;
    for (uint64_t at = 0; at < n_bytes; at += LORS_CHUNK_BYTES) {
        uint64_t left = n_bytes - at;
        *digest++ = lors_xxh_of(bytes + at, left < LORS_CHUNK_BYTES ? left : LORS_CHUNK_BYTES);
    }
    if (job->stage > 0) {
        return LORS_OK;
    }
    int fd = -1;
    LORS_TRY(lors_run_shard_open(w->run, job->shard, &fd));
    w->writing = true;
    w->write_job = unit->job;
    return lors_transfer_write(w->run->transfer, &w->write, fd, w->run->shards[job->shard].path,
                               job->out_offset + offset, bytes, (size_t)n_bytes);
}

static lors_status compute_step(lors_worker *w, const lors_step *s)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_job *job = &plan->jobs[unit->job];
    bool ends = lors_step_ends(job, s), writes = ends && unit->phase == job->n_phases - 1;
    LORS_TRY(lors_run_job_await(w->run, unit->job, unit->phase));
    LORS_TRY(take_stages(w, s));
    if (writes) {
        LORS_TRY(await_write(w));
    }
    double start = lors_seconds();
    LORS_TRY(job->def ? lors_worker_compute(w, s) : lors_worker_copy(w, s));
    if (writes) {
        LORS_TRY(begin_write(w, unit));
    }
    lors_run_job_add_seconds(w->run, unit->job, lors_seconds() - start);
    return ends ? lors_run_job_unit_done(w->run, unit, w) : LORS_OK;
}

/* --- the thread ------------------------------------------------------------------------------- */

static uint64_t take(uint64_t *filled, uint64_t n_bytes)
{
    uint64_t at = *filled;
    *filled += lors_view_padded(n_bytes);
    return at;
}

/* Cut the worker's blocks into pieces; where memory is unified the staged ones serve both sides.
 * Without blocks only measure. */
static void lay_out_memory(lors_worker *w, uint64_t *staged, uint64_t *there)
{
    const lors_memory_plan *m = &w->run->plan->memory;
    bool unified = w->run->plan->ops->unified;
    for (int i = 0; i < 2; i++) {
        w->steps[i].slot = (lors_view){w->staging, take(staged, m->slot)};
    }
    w->out = (lors_view){w->staging, take(staged, m->out)};
    w->results = (lors_view){w->staging, take(staged, m->results)};
    w->survey = (lors_view){w->staging, take(staged, m->survey)};
    if (unified) {
        w->out_there = w->out;
        w->results_there = w->results;
        w->compute = (lors_view){w->staging, take(staged, m->compute)};
        return;
    }
    w->raw = (lors_view){w->memory, take(there, m->slot)};
    w->out_there = (lors_view){w->memory, take(there, m->out)};
    w->results_there = (lors_view){w->memory, take(there, m->results)};
    w->compute = (lors_view){w->memory, take(there, m->compute)};
}

static lors_status allocate_arrays(lors_worker *w)
{
    size_t n = (size_t)w->run->plan->most_inputs + 2;
    w->weights = lors_new(n, sizeof *w->weights);
    w->numbers = lors_new((size_t)w->run->plan->memory.numbers + 1, sizeof *w->numbers);
    w->check = lors_alloc(LORS_CHUNK_BYTES);
    bool failed = !w->weights || !w->numbers || !w->check;
    for (int i = 0; i < 2; i++) {
        w->steps[i].requests = lors_new(n, sizeof *w->steps[i].requests);
        w->steps[i].at = lors_new(n, sizeof *w->steps[i].at);
        failed = failed || !w->steps[i].requests || !w->steps[i].at;
    }
    return failed ? lors_fail_memory(n * sizeof *w->steps[0].requests) : LORS_OK;
}

lors_status lors_worker_open(lors_run_state *run, int32_t index, lors_worker **out)
{
    const lors_plan *plan = run->plan;
    lors_worker *w = lors_new(1, sizeof *w);
    uint64_t staged = 0, there = 0;
    if (!w) {
        return lors_fail_memory(sizeof *w);
    }
    *out = w;
    w->run = run;
    w->device = index % plan->n_devices;
    w->backend = plan->devices[w->device].backend;
    w->cursor_unit = -1;
    lay_out_memory(w, &staged, &there);
    LORS_TRY(plan->ops->open_queue(w->backend, &w->queue));
    LORS_TRY(plan->ops->allocate(w->backend, LORS_STAGING, staged, &w->staging));
    if (!plan->ops->unified) {
        LORS_TRY(plan->ops->allocate(w->backend, LORS_ON_DEVICE, there, &w->memory));
    }
    staged = there = 0;
    lay_out_memory(w, &staged, &there);
    return allocate_arrays(w);
}

void lors_worker_close(lors_worker *w)
{
    if (!w) {
        return;
    }
    const lors_backend_ops *ops = w->run->plan->ops;
    for (int i = 0; i < 2; i++) {
        lors_free(w->steps[i].requests);
        lors_free(w->steps[i].at);
    }
    ops->close_queue(w->queue);
    ops->release(w->backend, w->memory);
    ops->release(w->backend, w->staging);
    lors_free(w->weights);
    lors_free(w->numbers);
    lors_free(w->check);
    lors_free(w);
}

/* Nothing may be on its way into the worker's memory, or out of it, when it ends. */
static void drain(lors_worker *w)
{
    for (int i = 0; i < 2; i++) {
        for (int32_t r = 0; r < w->steps[i].n_requests; r++) {
            lors_transfer_wait(w->run->transfer, &w->steps[i].requests[r]);
        }
    }
    if (w->writing) {
        lors_transfer_wait(w->run->transfer, &w->write);
    }
    w->run->plan->ops->wait(w->queue);
}

static lors_status work(lors_worker *w)
{
    int now = 0;
    LORS_TRY(begin_step(w, &w->steps[now]));
    while (w->steps[now].unit >= 0 && !lors_run_stopped(w->run)) {
        LORS_TRY(begin_step(w, &w->steps[!now]));
        LORS_TRY(await_step(w, &w->steps[now]));
        LORS_TRY(compute_step(w, &w->steps[now]));
        now = !now;
    }
    return await_write(w);
}

void *lors_worker_run(void *worker)
{
    lors_worker *w = worker;
    lors_run_state *run = w->run;
    fesetenv(FE_DFL_ENV); /* not as the host rounds, whose thread has started this one */
    lors_status status = work(w);
    if (status != LORS_OK) {
        lors_run_fail(run, status);
    }
    drain(w);
    pthread_mutex_lock(&run->lock);
    run->n_running--;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

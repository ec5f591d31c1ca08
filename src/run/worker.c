/* worker.c - one computing thread: it takes units in order, and while it computes one step the next
 * is being read into its other slot and the last result is being written.
 *
 * A step is what is resident at once: all models of a unit, or of a matrix the base and one model.
 * Units are claimed in the plan's order by all workers, so that a unit that waits for an earlier
 * phase of its job waits only for units claimed before it: the earliest one can always go on.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "run/run_internal.h"

enum { SOURCE = -1 }; /* the operand that is no model */

typedef struct step {
    int64_t unit;  /* -1: none */
    int32_t model; /* the one model of a matrix; -1: all models at once */
    int32_t n_requests;
    lors_transfer_req *requests; /* [n_models + 1] */
    uint64_t *at;                /* [n_models + 1]: place in the slot of source, then models */
    lors_view slot;
} step;

typedef struct worker {
    lors_run_state *run;
    lors_memory *memory; /* two slots, the output, the work space */
    step steps[2];
    lors_view out, compute;
    lors_transfer_req write;
    bool writing;
    int32_t write_shard; /* where to */
    double *weights;
    int64_t cursor_unit; /* what comes after the last step handed out */
    int32_t cursor_model;
} worker;

static uint64_t padded(uint64_t n_bytes)
{
    return (n_bytes + 63) & ~(uint64_t)63;
}

/* --- steps ------------------------------------------------------------------------------------ */

static int64_t claim_unit(lors_run_state *run)
{
    pthread_mutex_lock(&run->lock);
    int64_t unit = -1;
    if (run->status == LORS_OK && run->next_unit < run->plan->n_units) {
        unit = run->next_unit++;
    }
    pthread_mutex_unlock(&run->lock);
    return unit;
}

static bool first_of_unit(const step *s)
{
    return s->model <= 0;
}

static bool last_of_unit(const lors_job *job, const step *s)
{
    return s->model < 0 || s->model == job->n_models - 1;
}

static void next_step(worker *w, step *s)
{
    const lors_plan *plan = w->run->plan;
    if (w->cursor_unit < 0) {
        w->cursor_unit = claim_unit(w->run);
        w->cursor_model = 0;
    }
    s->unit = w->cursor_unit;
    s->n_requests = 0;
    if (s->unit < 0) {
        return;
    }
    const lors_job *job = &plan->jobs[plan->units[s->unit].job];
    s->model = job->by_matrix ? w->cursor_model++ : -1;
    if (last_of_unit(job, s)) {
        w->cursor_unit = -1;
    }
}

/* Ask for one operand's bytes of the unit, into the slot behind the earlier ones. */
static lors_status request_operand(worker *w, step *s, const lors_job *job, int32_t k,
                                   uint64_t *filled)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_ckpt_tensor *tensor = k == SOURCE ? job->source : job->inputs[k];
    uint64_t scale = job->def ? (uint64_t)lors_dtype_bits(tensor->dtype) / 8 : 1;
    uint64_t offset = unit->first * scale, n_bytes = unit->count * scale;
    lors_transfer_req *request = &s->requests[s->n_requests++];
    lors_run_job *state = &w->run->jobs[unit->job];
    request->digest_chunk_bytes = LORS_CHUNK_BYTES;
    request->digests = state->digests[k + 1] + offset / LORS_CHUNK_BYTES;
    if (unit->phase < job->n_phases - 1) {
        request->digests = NULL; /* read again later: hashed then */
    }
    s->at[k + 1] = *filled;
    void *out = plan->ops->host_bytes(lors_view_at(s->slot, *filled));
    *filled += padded(n_bytes);
    return lors_transfer_read(w->run->transfer, request,
                              k == SOURCE ? plan->source : plan->models[k], tensor, offset, out,
                              (size_t)n_bytes);
}

static lors_status begin_step(worker *w, step *s)
{
    next_step(w, s);
    if (s->unit < 0) {
        return LORS_OK;
    }
    const lors_job *job = &w->run->plan->jobs[w->run->plan->units[s->unit].job];
    LORS_TRY(lors_run_job_start(w->run, w->run->plan->units[s->unit].job));
    uint64_t filled = 0;
    if (job->reads_source && first_of_unit(s)) {
        LORS_TRY(request_operand(w, s, job, SOURCE, &filled));
    }
    int32_t from = s->model < 0 ? 0 : s->model, to = s->model < 0 ? job->n_models : s->model + 1;
    for (int32_t k = from; k < to; k++) {
        LORS_TRY(request_operand(w, s, job, k, &filled));
    }
    return LORS_OK;
}

static lors_status await_step(worker *w, step *s)
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

/* --- numbers ---------------------------------------------------------------------------------- */

static lors_status refuse_input(worker *w, const lors_unit *unit, int32_t k,
                                const lors_findings *found, uint64_t first)
{
    const lors_plan *plan = w->run->plan;
    const lors_job *job = &plan->jobs[unit->job];
    const lors_checkpoint *model = k == SOURCE ? plan->source : plan->models[k];
    char name[LORS_ESCAPED_MAX];
    return lors_fail(LORS_ERR_NUMERICS,
                     "%s: tensor '%s': %llu values are NaN or infinite, the first at index %llu: "
                     "the model is damaged or diverged; to merge it all the same give "
                     "--nonfinite propagate or zero",
                     model->path, lors_escape_text(job->name, name),
                     (unsigned long long)found->n_nonfinite,
                     (unsigned long long)(first + found->first_nonfinite));
}

/* Widen n elements of an operand at raw into out, and look for what is not finite. */
static lors_status load(worker *w, const lors_unit *unit, int32_t k, lors_view out, lors_view raw,
                        uint64_t first, int64_t n, bool count)
{
    lors_run_state *run = w->run;
    const lors_job *job = &run->plan->jobs[unit->job];
    lors_dtype dtype = k == SOURCE ? job->source->dtype : job->inputs[k]->dtype;
    lors_findings found = {0, 0};
    LORS_TRY(run->plan->ops->load(run->backend, out, raw, dtype, n,
                                  run->options->nonfinite == LORS_NONFINITE_ZERO, &found));
    if (found.n_nonfinite == 0 || !count) {
        return LORS_OK;
    }
    if (run->options->nonfinite == LORS_NONFINITE_REFUSE) {
        return refuse_input(w, unit, k, &found, first);
    }
    pthread_mutex_lock(&run->lock);
    run->jobs[unit->job].n_input_nonfinite += found.n_nonfinite;
    pthread_mutex_unlock(&run->lock);
    return LORS_OK;
}

static lors_status check_stored(worker *w, const lors_unit *unit, const lors_store_block *blocks,
                                uint64_t first, int64_t n)
{
    const lors_job *job = &w->run->plan->jobs[unit->job];
    if (w->run->options->nonfinite != LORS_NONFINITE_REFUSE) {
        return LORS_OK;
    }
    for (int64_t i = 0; i * LORS_BLOCK < n; i++) {
        uint64_t bad = (uint64_t)blocks[i].n_overflow + blocks[i].n_nan + blocks[i].n_infinite;
        if (bad == 0) {
            continue;
        }
        char name[LORS_ESCAPED_MAX];
        return lors_fail(
            LORS_ERR_NUMERICS,
            "tensor '%s': %s at index %llu: %s; to write it all the same give "
            "--nonfinite propagate or zero",
            lors_escape_text(job->name, name),
            blocks[i].n_overflow ? "the merged value overflows the output's type"
                                 : "the merged value is NaN or infinite",
            (unsigned long long)(first + (uint64_t)i * LORS_BLOCK + blocks[i].first_bad),
            blocks[i].n_overflow ? "choose a wider --dtype or a smaller lambda"
                                 : "choose smaller weights");
    }
    return LORS_OK;
}

/* Round `n` elements from `first` of the job into the output buffer at `place` elements. */
static lors_status store(worker *w, const lors_unit *unit, lors_view acc, lors_view base,
                         uint64_t first, int64_t n)
{
    lors_run_state *run = w->run;
    const lors_job *job = &run->plan->jobs[unit->job];
    uint64_t element = (uint64_t)lors_dtype_bits(job->out_dtype) / 8;
    lors_store_block *blocks = run->jobs[unit->job].blocks + first / LORS_BLOCK;
    lors_view out = lors_view_at(w->out, (first - unit->first) * element);
    LORS_TRY(run->plan->ops->store(run->backend, out, job->out_dtype, acc,
                                   job->def->adds_to_base ? base : LORS_NO_VIEW, n,
                                   run->options->nonfinite == LORS_NONFINITE_ZERO, blocks));
    return check_stored(w, unit, blocks, first, n);
}

/* --- by tiles --------------------------------------------------------------------------------- */

/* Carve the work space of a tile: base, stack right behind it, then the rest. */
static void carve_tile(worker *w, lors_call *call, const lors_job *job, int64_t tile)
{
    uint64_t t = (uint64_t)tile, n = (uint64_t)job->n_models;
    call->stride = tile;
    call->weights = w->weights;
    call->base = w->compute;
    call->stack = lors_view_at(w->compute, t * 4);
    call->acc = lors_view_at(w->compute, padded((1 + n) * t * 4));
    call->values = lors_view_at(call->acc, padded(t * 8));
    call->masks = lors_view_at(call->values, padded(t * 4));
    call->signs = lors_view_at(call->masks, padded(n * t));
    if (!job->reads_source) {
        call->base = LORS_NO_VIEW;
    }
}

/* All operands of the tile that begins `begin` elements into the unit. */
static lors_status load_tile(worker *w, const step *s, lors_call *call, uint64_t begin, bool final)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_job *job = &plan->jobs[unit->job];
    for (int32_t k = job->reads_source ? SOURCE : 0; k < job->n_models; k++) {
        lors_dtype dtype = k == SOURCE ? job->source->dtype : job->inputs[k]->dtype;
        uint64_t element = (uint64_t)lors_dtype_bits(dtype) / 8;
        lors_view raw = lors_view_at(s->slot, s->at[k + 1] + begin * element);
        lors_view out = lors_view_at(call->stack, (uint64_t)(k * call->stride) * 4);
        out = k == SOURCE ? call->base : out;
        LORS_TRY(load(w, unit, k, out, raw, call->first, call->count, final));
        bool *changed = k == SOURCE ? NULL : &w->run->jobs[unit->job].changed[k];
        if (changed && job->reads_source && final && !__atomic_load_n(changed, __ATOMIC_RELAXED)) {
            bool same = false;
            LORS_TRY(plan->ops->compare(w->run->backend, call->base, out, call->count, &same));
            if (!same) {
                __atomic_store_n(changed, true, __ATOMIC_RELAXED);
            }
        }
    }
    return LORS_OK;
}

/* Are all models of the tile the same bits? */
static lors_status compare_models(worker *w, const lors_call *call, bool *same)
{
    *same = call->n_models > 0;
    for (int32_t k = 1; k < call->n_models && *same; k++) {
        lors_view other = lors_view_at(call->stack, (uint64_t)(k * call->stride) * 4);
        LORS_TRY(call->ops->compare(w->run->backend, call->stack, other, call->count, same));
    }
    return LORS_OK;
}

/* The result of a tile: what the method made of it, or, where equal models are to stay what they
 * are, the first of them (stored again over the other, which tells the size of the update). */
static lors_status finish_tile(worker *w, const lors_unit *unit, lors_call *call)
{
    const lors_job *job = &w->run->plan->jobs[unit->job];
    LORS_TRY(store(w, unit, call->acc, call->base, call->first, call->count));
    bool same = false;
    if (job->def->keeps_equal && job->def->keeps_equal(call)) {
        LORS_TRY(compare_models(w, call, &same));
    }
    if (!same) {
        return LORS_OK;
    }
    lors_store_block *blocks = w->run->jobs[unit->job].blocks + call->first / LORS_BLOCK;
    double update = 0;
    for (int64_t i = 0; i * LORS_BLOCK < call->count; i++) {
        update += blocks[i].update;
    }
    lors_sum nothing = {.stack = call->stack, .stride = call->stride, .scale = 1};
    LORS_TRY(call->ops->accumulate(w->run->backend, call->acc, &nothing, call->count));
    LORS_TRY(store(w, unit, call->acc, call->stack, call->first, call->count));
    blocks->update = update; /* the second storing knows of none */
    return LORS_OK;
}

/* One phase over the unit: a survey, or (phase == n_surveys) the result itself. */
static lors_status tile_phase(worker *w, const step *s, lors_call *call, int32_t phase)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_job *job = &plan->jobs[unit->job];
    bool final = phase == job->def->n_surveys;
    for (uint64_t begin = 0; begin < unit->count; begin += (uint64_t)call->stride) {
        uint64_t left = unit->count - begin;
        call->first = unit->first + begin;
        call->count = (int64_t)(left < (uint64_t)call->stride ? left : (uint64_t)call->stride);
        LORS_TRY(load_tile(w, s, call, begin, final));
        if (!final) {
            LORS_TRY(job->def->survey(call, phase));
            continue;
        }
        LORS_TRY(job->def->apply(call));
        LORS_TRY(finish_tile(w, unit, call));
    }
    return LORS_OK;
}

static lors_status compute_tiles(worker *w, const step *s)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_job *job = &plan->jobs[unit->job];
    lors_call call = lors_run_job_call(w->run, unit->job);
    carve_tile(w, &call, job, lors_plan_tile(plan, unit->count));
    if (job->n_phases > 1) {
        return tile_phase(w, s, &call, unit->phase);
    }
    for (int32_t phase = 0; phase < job->def->n_surveys; phase++) {
        LORS_TRY(tile_phase(w, s, &call, phase));
        LORS_TRY(job->def->settle(&call, phase));
    }
    return tile_phase(w, s, &call, job->def->n_surveys);
}

/* --- by matrix -------------------------------------------------------------------------------- */

static void carve_matrix(worker *w, lors_call *call, const lors_job *job, int64_t tile)
{
    uint64_t e = job->source->n_elements, n = (uint64_t)job->n_models;
    call->stride = tile;
    call->weights = w->weights;
    call->base = w->compute;
    call->x = lors_view_at(call->base, padded(e * 4));
    call->delta = lors_view_at(call->x, padded(e * 4));
    call->low = lors_view_at(call->delta, padded(e * 4));
    call->acc = lors_view_at(call->low, padded(e * 4));
    call->masks = lors_view_at(call->acc, padded(e * 8));
    call->signs = lors_view_at(call->masks, padded(n * (uint64_t)tile));
    call->scratch = lors_view_at(call->signs, padded((uint64_t)tile));
}

/* Nothing changed in any model: the update is zero everywhere. */
static lors_status clear_update(worker *w, lors_call *call)
{
    lors_sum nothing = {.stack = call->x, .stride = call->stride, .scale = 1};
    return call->ops->accumulate(w->run->backend, call->acc, &nothing, (int64_t)call->n_elements);
}

static lors_status compute_matrix(worker *w, const step *s)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_job *job = &plan->jobs[unit->job];
    lors_run_job *state = &w->run->jobs[unit->job];
    int64_t n = (int64_t)job->source->n_elements;
    lors_call call = lors_run_job_call(w->run, unit->job);
    carve_matrix(w, &call, job, lors_plan_tile(plan, job->source->n_elements));
    call.model = s->model;
    call.fresh = true;
    for (int32_t k = 0; k < s->model; k++) {
        call.fresh = call.fresh && !state->changed[k];
    }
    if (first_of_unit(s)) {
        LORS_TRY(load(w, unit, SOURCE, call.base, lors_view_at(s->slot, s->at[0]), 0, n, true));
    }
    lors_view raw = lors_view_at(s->slot, s->at[s->model + 1]);
    LORS_TRY(load(w, unit, s->model, call.x, raw, 0, n, true));
    bool same = false;
    LORS_TRY(plan->ops->compare(w->run->backend, call.base, call.x, n, &same));
    state->changed[s->model] = !same;
    if (!same) {
        LORS_TRY(job->def->apply_matrix(&call));
    }
    if (!last_of_unit(job, s)) {
        return LORS_OK;
    }
    if (call.fresh) {
        LORS_TRY(clear_update(w, &call));
    }
    return store(w, unit, call.acc, call.base, 0, n);
}

/* --- one step --------------------------------------------------------------------------------- */

static lors_status await_write(worker *w)
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
    return lors_run_shard_written(w->run, w->write_shard, w->write.n_bytes);
}

/* Hash the finished unit and hand it to the writer; the buffer is free again after await_write. */
static lors_status begin_write(worker *w, const lors_unit *unit)
{
    const lors_plan *plan = w->run->plan;
    const lors_job *job = &plan->jobs[unit->job];
    uint64_t scale = job->def ? (uint64_t)lors_dtype_bits(job->out_dtype) / 8 : 1;
    uint64_t offset = unit->first * scale, n_bytes = unit->count * scale;
    const unsigned char *bytes = plan->ops->host_bytes(w->out);
    lors_xxh *digest =
        w->run->jobs[unit->job].digests[job->n_models + 1] + offset / LORS_CHUNK_BYTES;
    for (uint64_t at = 0; at < n_bytes; at += LORS_CHUNK_BYTES) {
        uint64_t left = n_bytes - at;
        *digest++ = lors_xxh_of(bytes + at, left < LORS_CHUNK_BYTES ? left : LORS_CHUNK_BYTES);
    }
    int fd = -1;
    LORS_TRY(lors_run_shard_open(w->run, job->shard, &fd));
    w->writing = true;
    w->write_shard = job->shard;
    return lors_transfer_write(w->run->transfer, &w->write, fd, w->run->shards[job->shard].path,
                               job->out_offset + offset, bytes, (size_t)n_bytes);
}

static lors_status compute_step(worker *w, const step *s)
{
    const lors_plan *plan = w->run->plan;
    const lors_unit *unit = &plan->units[s->unit];
    const lors_job *job = &plan->jobs[unit->job];
    bool writes = last_of_unit(job, s) && unit->phase == job->n_phases - 1;
    LORS_TRY(lors_run_job_await(w->run, unit->job, unit->phase));
    if (writes) {
        LORS_TRY(await_write(w));
    }
    double start = lors_seconds();
    if (!job->def) {
        memcpy(plan->ops->host_bytes(w->out), plan->ops->host_bytes(s->slot), unit->count);
    } else if (job->by_matrix) {
        LORS_TRY(compute_matrix(w, s));
    } else {
        LORS_TRY(compute_tiles(w, s));
    }
    if (writes) {
        LORS_TRY(begin_write(w, unit));
    }
    double seconds = lors_seconds() - start;
    if (last_of_unit(job, s)) {
        return lors_run_job_unit_done(w->run, unit, seconds);
    }
    return LORS_OK;
}

/* --- the thread ------------------------------------------------------------------------------- */

static lors_status open_worker(worker *w)
{
    const lors_plan *plan = w->run->plan;
    const lors_memory_plan *m = &plan->memory;
    uint64_t slot = padded(m->slot) + 64, out = padded(m->out) + 64;
    size_t n = (size_t)plan->n_models + 2;
    w->cursor_unit = -1;
    LORS_TRY(plan->ops->allocate(w->run->backend, 2 * slot + out + m->compute, &w->memory));
    w->weights = lors_new(n, sizeof *w->weights);
    for (int i = 0; i < 2; i++) {
        w->steps[i].slot = (lors_view){w->memory, (uint64_t)i * slot};
        w->steps[i].requests = lors_new(n, sizeof *w->steps[i].requests);
        w->steps[i].at = lors_new(n, sizeof *w->steps[i].at);
        if (!w->weights || !w->steps[i].requests || !w->steps[i].at) {
            return lors_fail_memory(n * sizeof *w->steps[i].requests);
        }
    }
    w->out = (lors_view){w->memory, 2 * slot};
    w->compute = (lors_view){w->memory, 2 * slot + out};
    return LORS_OK;
}

static void close_worker(worker *w)
{
    for (int i = 0; i < 2; i++) {
        for (int32_t r = 0; r < w->steps[i].n_requests; r++) {
            lors_transfer_wait(w->run->transfer, &w->steps[i].requests[r]);
        }
        lors_free(w->steps[i].requests);
        lors_free(w->steps[i].at);
    }
    if (w->writing) {
        lors_transfer_wait(w->run->transfer, &w->write);
    }
    lors_free(w->weights);
    if (w->memory) {
        w->run->plan->ops->release(w->run->backend, w->memory);
    }
}

static lors_status work(worker *w)
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

void *lors_run_worker(void *run_state)
{
    worker w = {.run = run_state};
    lors_run_state *run = run_state;
    lors_status status = open_worker(&w);
    if (status == LORS_OK) {
        status = work(&w);
    }
    if (status != LORS_OK) {
        lors_run_fail(run, status);
    }
    close_worker(&w);
    pthread_mutex_lock(&run->lock);
    run->n_running--;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

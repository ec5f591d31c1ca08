/* worker_compute.c - the numbers of one step: up to the device, through the method, and back.
 *
 * Everything is queued; the worker waits where it has to know: whether a matrix has changed at all
 * before its method is applied, and at the end of the step.
 */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "run/worker.h"

/* The unit and job of a step. */
typedef struct task {
    lors_worker *w;
    const lors_step *s;
    const lors_unit *unit;
    const lors_job *job;
    lors_run_job *state;
    lors_call call;
    lors_view raw;    /* the slot, on the device */
    lors_view values; /* of the unit's first tile */
} task;

static const lors_backend_ops *ops_of(const task *t)
{
    return t->w->run->plan->ops;
}

/* --- what was found --------------------------------------------------------------------------- */

void *lors_worker_result(const lors_worker *w, lors_view there)
{
    uint64_t at = there.offset - w->results_there.offset;
    return w->run->plan->ops->host_bytes(lors_view_at(w->results, at));
}

static lors_status refuse_input(const lors_job *job, int32_t k, uint64_t n_bad, uint64_t first)
{
    const lors_checkpoint *model = k == LORS_SOURCE ? job->source_model : job->input_models[k];
    char name[LORS_ESCAPED_MAX];
    return lors_fail(LORS_ERR_NUMERICS,
                     "%s: tensor '%s': %llu values are NaN or infinite, the first at index %llu: "
                     "the model is damaged or diverged; to merge it all the same give "
                     "--nonfinite propagate or zero",
                     model->path, lors_escape_text(job->name, name), (unsigned long long)n_bad,
                     (unsigned long long)first);
}

/* What `load` found in the operands of this step; the source counts with the first. */
static lors_status check_inputs(const task *t)
{
    lors_run_state *run = t->w->run;
    const lors_findings *findings = lors_worker_result(t->w, t->w->found.findings);
    uint64_t total = 0;
    for (int32_t k = lors_step_begins(t->s) ? LORS_SOURCE : t->s->from;
         k < t->s->from + t->s->n_models; k++) {
        const lors_findings *found = &findings[k + 1];
        if (found->n_nonfinite > 0 && run->options->nonfinite == LORS_NONFINITE_REFUSE) {
            return refuse_input(t->job, k, found->n_nonfinite, UINT64_MAX - found->first_mirrored);
        }
        total += found->n_nonfinite;
    }
    pthread_mutex_lock(&run->lock);
    t->state->n_input_nonfinite += total;
    pthread_mutex_unlock(&run->lock);
    return LORS_OK;
}

static lors_status refuse_output(const task *t, const lors_store_block *block, uint64_t first)
{
    char name[LORS_ESCAPED_MAX];
    bool overflow = block->n_overflow > 0;
    return lors_fail(LORS_ERR_NUMERICS,
                     "tensor '%s': %s at index %llu: %s; to write it all the same give "
                     "--nonfinite propagate or zero",
                     lors_escape_text(t->job->name, name),
                     overflow ? "the merged value overflows the output's type"
                              : "the merged value is NaN or infinite",
                     (unsigned long long)(first + block->first_bad),
                     overflow ? "choose a wider --dtype or a smaller lambda"
                              : "choose smaller weights");
}

/* The blocks of the unit go to those of the job. */
static lors_status check_stored(const task *t)
{
    const lors_store_block *blocks = lors_worker_result(t->w, t->w->found.blocks);
    lors_store_block *all = t->state->blocks + t->unit->first / LORS_BLOCK;
    for (uint64_t i = 0; i * LORS_BLOCK < t->unit->count; i++) {
        all[i] = blocks[i];
        uint64_t bad = (uint64_t)blocks[i].n_overflow + blocks[i].n_nan + blocks[i].n_infinite;
        if (bad > 0 && t->w->run->options->nonfinite == LORS_NONFINITE_REFUSE) {
            return refuse_output(t, &blocks[i], t->unit->first + i * LORS_BLOCK);
        }
    }
    return LORS_OK;
}

static void note_changed(const task *t)
{
    const uint32_t *differs = lors_worker_result(t->w, t->w->found.differs);
    for (int32_t k = t->s->from; k < t->s->from + t->s->n_models; k++) {
        if (differs[k]) {
            __atomic_store_n(&t->state->changed[k], true, __ATOMIC_RELAXED);
        }
    }
}

static void note_kept(const task *t)
{
    const uint64_t *kept = lors_worker_result(t->w, t->w->found.kept);
    for (int32_t i = 0; i < t->s->n_models; i++) {
        lors_model_result *result = &t->state->results[t->s->from + i];
        result->n_kept = result->counts_kept ? kept[i] : result->n_kept;
        result->counts_kept = false;
    }
}

/* --- to and fro ------------------------------------------------------------------------------- */

static lors_status bring_results(const task *t)
{
    lors_worker *w = t->w;
    LORS_TRY(ops_of(t)->download(w->queue, w->results, w->results_there, w->found.n_bytes));
    return ops_of(t)->wait(w->queue);
}

static lors_status load(const task *t, int32_t k, lors_view out, uint64_t begin, uint64_t first,
                        int64_t n, bool count)
{
    lors_worker *w = t->w;
    lors_dtype dtype = k == LORS_SOURCE ? t->job->source->dtype : t->job->inputs[k]->dtype;
    uint64_t element = (uint64_t)lors_dtype_bits(dtype) / 8;
    lors_view findings = lors_view_at(w->found.findings, (uint64_t)(k + 1) * sizeof(lors_findings));
    return ops_of(t)->load(w->queue, out, lors_view_at(t->raw, t->s->at[k + 1] + begin * element),
                           dtype, n, w->run->options->nonfinite == LORS_NONFINITE_ZERO, first,
                           count ? findings : LORS_NO_VIEW);
}

static lors_status compare(const task *t, int32_t k, lors_view a, lors_view b, int64_t n)
{
    lors_view differs = lors_view_at(t->w->found.differs, (uint64_t)k * sizeof(uint32_t));
    return ops_of(t)->compare(t->w->queue, differs, a, b, n);
}

/* Round the elements of the tile that the call stands at into the output; where the method gives
 * back what all models agree on, the stack goes with it. */
static lors_store store_of(const task *t, lors_view stack, lors_view *out)
{
    const lors_call *call = &t->call;
    uint64_t begin = call->first - t->unit->first;
    uint64_t element = (uint64_t)lors_dtype_bits(t->job->out_dtype) / 8;
    *out = lors_view_at(t->w->out_there, begin * element);
    return (lors_store){
        .dtype = t->job->out_dtype,
        .acc = call->acc,
        .base = t->job->def->adds_to_base ? call->base : LORS_NO_VIEW,
        .stack = stack,
        .stride = call->stride,
        .n_models = call->n_models,
        .zero_nonfinite = t->w->run->options->nonfinite == LORS_NONFINITE_ZERO,
        .blocks = lors_view_at(t->w->found.blocks, begin / LORS_BLOCK * sizeof(lors_store_block))};
}

static lors_status store(const task *t, int64_t n, lors_view stack)
{
    lors_view out;
    lors_store store = store_of(t, stack, &out);
    return ops_of(t)->store(t->w->queue, out, &store, n);
}

/* --- by tiles --------------------------------------------------------------------------------- */

/* All operands of the tile that begins `begin` elements into the unit. */
static lors_status load_tile(const task *t, uint64_t begin, bool final)
{
    const lors_call *call = &t->call;
    for (int32_t k = t->job->reads_source ? LORS_SOURCE : 0; k < t->job->n_models; k++) {
        lors_view out = lors_view_at(call->stack, (uint64_t)(k * call->stride) * sizeof(float));
        out = k == LORS_SOURCE ? call->base : out;
        LORS_TRY(load(t, k, out, begin, call->first, call->count, final));
        if (k != LORS_SOURCE && t->job->reads_source && final &&
            !__atomic_load_n(&t->state->changed[k], __ATOMIC_RELAXED)) {
            LORS_TRY(compare(t, k, call->base, out, call->count));
        }
    }
    return LORS_OK;
}

static lors_operand operand_of(const task *t, int32_t k, uint64_t begin)
{
    const lors_worker *w = t->w;
    lors_dtype dtype = k == LORS_SOURCE ? t->job->source->dtype : t->job->inputs[k]->dtype;
    uint64_t element = (uint64_t)lors_dtype_bits(dtype) / 8;
    bool compares = k != LORS_SOURCE && t->job->reads_source &&
                    !__atomic_load_n(&t->state->changed[k], __ATOMIC_RELAXED);
    return (lors_operand){
        .in = lors_view_at(t->raw, t->s->at[k + 1] + begin * element),
        .dtype = dtype,
        .findings = lors_view_at(w->found.findings, (uint64_t)(k + 1) * sizeof(lors_findings)),
        .differs = compares ? lors_view_at(w->found.differs, (uint64_t)k * sizeof(uint32_t))
                            : LORS_NO_VIEW};
}

/* A tile of a method that is one plain sum. */
static lors_status merge_tile(const task *t, uint64_t begin, lors_view agreeing)
{
    const lors_call *call = &t->call;
    lors_operand base = operand_of(t, LORS_SOURCE, begin), models[LORS_MAX_MODELS];
    for (int32_t k = 0; k < t->job->n_models; k++) {
        models[k] = operand_of(t, k, begin);
    }
    lors_view out;
    lors_merge merge = {.base = t->job->reads_source ? &base : NULL,
                        .models = models,
                        .base_values = call->base,
                        .sum = t->job->def->sum(call),
                        .store = store_of(t, agreeing, &out),
                        .first = call->first};
    return ops_of(t)->merge(t->w->queue, out, &merge, call->count);
}

/* The tile that begins `begin` elements into the unit. Where one worker does all phases each tile
 * has values of its own. */
static void move_to_tile(task *t, uint64_t begin)
{
    lors_call *call = &t->call;
    uint64_t left = t->unit->count - begin, tile = (uint64_t)call->tile;
    call->first = t->unit->first + begin;
    call->count = (int64_t)(left < tile ? left : tile);
    call->values = t->values;
    if (lors_plan_keeps_values(t->w->run->plan, t->job)) {
        uint64_t of_tile = (uint64_t)(call->n_models * call->stride) * sizeof(float);
        call->values = lors_view_at(t->values, begin / tile * of_tile);
    }
}

/* One phase over the unit: a survey, or (phase == n_surveys) the result itself. */
static lors_status tile_phase(task *t, int32_t phase)
{
    lors_call *call = &t->call;
    const lors_method_def *def = t->job->def;
    bool final = phase == lors_method_surveys(def, call);
    bool keeps_equal = def->keeps_equal && t->job->n_models > 0 && def->keeps_equal(call);
    lors_view agreeing = keeps_equal ? call->stack : LORS_NO_VIEW;
    lors_kept kept = lors_plan_keeps_values(t->w->run->plan, t->job) ? def->keeps(call, phase)
                                                                     : LORS_KEPT_NONE;
    call->has_values = kept != LORS_KEPT_NONE;
    for (uint64_t begin = 0; begin < t->unit->count; begin += (uint64_t)call->tile) {
        move_to_tile(t, begin);
        if (def->sum && final) {
            LORS_TRY(merge_tile(t, begin, agreeing));
            continue;
        }
        if (kept != LORS_KEPT_ALL) {
            LORS_TRY(load_tile(t, begin, final));
        }
        if (!final) {
            LORS_TRY(def->survey(call, phase));
            continue;
        }
        LORS_TRY(def->apply(call));
        LORS_TRY(store(t, call->count, agreeing));
    }
    return LORS_OK;
}

static lors_status compute_tiles(task *t)
{
    const lors_method_def *def = t->job->def;
    if (t->job->n_phases > 1) {
        LORS_TRY(tile_phase(t, t->unit->phase));
    } else {
        int32_t n_surveys = lors_method_surveys(def, &t->call);
        if (def->begin && t->job->n_ranges <= 1) {
            LORS_TRY(def->begin(&t->call));
        }
        for (int32_t phase = 0; phase < n_surveys; phase++) {
            LORS_TRY(tile_phase(t, phase));
            LORS_TRY(lors_run_job_settle(&t->call, t->w, t->job, phase));
        }
        LORS_TRY(tile_phase(t, n_surveys));
    }
    if (t->unit->phase < t->job->n_phases - 1) {
        return ops_of(t)->wait(t->w->queue);
    }
    LORS_TRY(bring_results(t));
    LORS_TRY(check_inputs(t));
    note_changed(t);
    return check_stored(t);
}

/* --- by matrix -------------------------------------------------------------------------------- */

/* Base (with the first batch) and models, and which of these changed. */
static lors_status load_batch(task *t)
{
    lors_call *call = &t->call;
    int64_t n = (int64_t)call->n_elements;
    if (lors_step_begins(t->s)) {
        LORS_TRY(load(t, LORS_SOURCE, call->base, 0, 0, n, true));
    }
    for (int32_t i = 0; i < t->s->n_models; i++) {
        lors_view x = lors_view_at(call->x, (uint64_t)(i * call->stride) * sizeof(float));
        LORS_TRY(load(t, t->s->from + i, x, 0, 0, n, true));
        LORS_TRY(compare(t, t->s->from + i, call->base, x, n));
    }
    LORS_TRY(bring_results(t));
    LORS_TRY(check_inputs(t));
    note_changed(t);
    return LORS_OK;
}

/* The method sees runs of changed models only: an unchanged one leaves no trace, whatever the batch
 * it came in. */
static lors_status apply_batch(task *t)
{
    lors_call *call = &t->call;
    const lors_call whole = *call;
    const bool *changed = t->state->changed + t->s->from;
    for (int32_t i = 0, next; i < t->s->n_models; i = next) {
        for (next = i + 1; next < t->s->n_models && changed[next] == changed[i];) {
            next++;
        }
        uint64_t at = (uint64_t)(i * whole.stride) * sizeof(float);
        call->from_model = t->s->from + i;
        call->n_batch = next - i;
        call->x = lors_view_at(whole.x, at);
        call->delta = lors_view_at(whole.delta, at);
        call->low = lors_view_at(whole.low, at);
        call->kept = lors_view_at(whole.kept, (uint64_t)i * sizeof(uint64_t));
        if (changed[i]) {
            LORS_TRY(t->job->def->apply_matrix(call));
        }
    }
    return LORS_OK;
}

/* Nothing changed in any model: the update is zero everywhere. */
static lors_status clear_update(task *t)
{
    return ops_of(t)->clear(t->w->queue, t->call.acc, t->call.n_elements * sizeof(double));
}

/* All models become their task vectors, zeros where they have not changed. */
static lors_status apply_whole(task *t)
{
    lors_call *call = &t->call;
    bool any = false;
    for (int32_t k = 0; k < call->n_models; k++) {
        call->results[k].zero = !t->state->changed[k];
        any = any || t->state->changed[k];
    }
    if (!any) {
        return clear_update(t);
    }
    LORS_TRY(ops_of(t)->subtract(call->queue, call->delta, call->x, call->stride, call->base, 0,
                                 call->n_models, (int64_t)call->n_elements));
    return t->job->def->apply_whole(call);
}

static lors_status compute_whole(task *t)
{
    LORS_TRY(load_batch(t));
    LORS_TRY(apply_whole(t));
    LORS_TRY(store(t, (int64_t)t->call.n_elements, LORS_NO_VIEW));
    LORS_TRY(bring_results(t));
    return check_stored(t);
}

static lors_status compute_matrix(task *t)
{
    lors_call *call = &t->call;
    call->fresh = true;
    for (int32_t k = 0; k < t->s->from; k++) {
        call->fresh = call->fresh && !t->state->changed[k];
    }
    LORS_TRY(load_batch(t));
    LORS_TRY(apply_batch(t));
    if (!lors_step_ends(t->job, t->s)) {
        LORS_TRY(bring_results(t));
        note_kept(t);
        return LORS_OK;
    }
    if (call->fresh) {
        LORS_TRY(clear_update(t));
    }
    LORS_TRY(store(t, (int64_t)call->n_elements, LORS_NO_VIEW));
    LORS_TRY(bring_results(t));
    note_kept(t);
    return check_stored(t);
}

/* --- a copy ----------------------------------------------------------------------------------- */

lors_status lors_worker_copy(lors_worker *w, const lors_step *s)
{
    lors_run_state *run = w->run;
    const lors_unit *unit = &run->plan->units[s->unit];
    const lors_job *job = &run->plan->jobs[unit->job];
    lors_dtype dtype = job->source->dtype;
    uint64_t element = (uint64_t)lors_dtype_bits(dtype) / 8, first = 0; /* 0: smaller than a byte */
    unsigned char *out = run->plan->ops->host_bytes(w->out);
    memcpy(out, run->plan->ops->host_bytes(lors_view_at(s->slot, s->at[LORS_SOURCE + 1])),
           unit->count);
    uint64_t n_bad = lors_dtype_nonfinite(dtype, out, element > 0 ? unit->count / element : 0,
                                          run->options->nonfinite == LORS_NONFINITE_ZERO, &first);
    if (n_bad > 0 && run->options->nonfinite == LORS_NONFINITE_REFUSE) {
        return refuse_input(job, LORS_SOURCE, n_bad, unit->first / element + first);
    }
    pthread_mutex_lock(&run->lock);
    run->jobs[unit->job].n_input_nonfinite += n_bad;
    run->jobs[unit->job].n_nan += run->options->nonfinite == LORS_NONFINITE_PROPAGATE ? n_bad : 0;
    pthread_mutex_unlock(&run->lock);
    return LORS_OK;
}

/* --- a step ----------------------------------------------------------------------------------- */

static lors_status bring_output(const task *t)
{
    uint64_t element = (uint64_t)lors_dtype_bits(t->job->out_dtype) / 8;
    return ops_of(t)->download(t->w->queue, t->w->out, t->w->out_there, t->unit->count * element);
}

lors_status lors_worker_compute(lors_worker *w, const lors_step *s)
{
    const lors_plan *plan = w->run->plan;
    task t = {.w = w, .s = s, .unit = &plan->units[s->unit]};
    t.job = &plan->jobs[t.unit->job];
    t.state = &w->run->jobs[t.unit->job];
    t.call = lors_run_job_call(w->run, t.unit->job, w->queue);
    t.call.weights = w->weights;
    t.call.numbers = w->numbers;
    t.call.first = t.unit->first;
    lors_plan_carve(plan, t.job, w->compute, &t.call);
    t.values = t.call.values;
    lors_plan_carve_results(t.job, w->results_there, &w->found);
    t.call.kept = w->found.kept;
    t.call.staged = w->survey;
    t.raw = plan->ops->unified ? s->slot : w->raw;
    LORS_TRY(plan->ops->upload(w->queue, t.raw, s->slot, s->n_bytes));
    LORS_TRY(plan->ops->clear(w->queue, w->found.findings, w->found.cleared_bytes));
    LORS_TRY(t.job->def->apply_whole ? compute_whole(&t)
             : t.job->by_matrix      ? compute_matrix(&t)
                                     : compute_tiles(&t));
    if (lors_step_ends(t.job, s) && t.unit->phase == t.job->n_phases - 1) {
        LORS_TRY(bring_output(&t));
        return plan->ops->wait(w->queue);
    }
    return LORS_OK;
}

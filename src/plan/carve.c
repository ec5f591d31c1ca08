/* carve.c - the memory of one worker, piece by piece: measured and laid out by the same lines. */
#include "base/file.h"
#include "plan/plan_internal.h"

/* The next piece: every one begins at a multiple of LORS_VIEW_ALIGN. */
static lors_view take(lors_view at, uint64_t *filled, uint64_t n_bytes)
{
    lors_view piece = at.memory ? lors_view_at(at, *filled) : LORS_NO_VIEW;
    *filled += lors_view_padded(n_bytes);
    return piece;
}

uint64_t lors_plan_paged(uint64_t n_bytes)
{
    return (n_bytes + LORS_DIRECT_ALIGN - 1) & ~(uint64_t)(LORS_DIRECT_ALIGN - 1);
}

/* Slices that begin at a multiple of LORS_VIEW_ALIGN. */
static int64_t aligned_stride(uint64_t n)
{
    const uint64_t step = LORS_VIEW_ALIGN / sizeof(float);
    return (int64_t)((n + step - 1) / step * step);
}

uint64_t lors_plan_step(const lors_job *job, uint64_t step)
{
    uint64_t n_rows = !job->def             ? 0
                      : job->def->by_rows    ? 1
                      : job->def->by_columns ? LORS_ROW_GROUP
                                             : 0;
    uint64_t a = step, b = n_rows * (uint64_t)job->n_cols, rows = b;
    if (b == 0) {
        return step;
    }
    while (b > 0) { /* their greatest common divisor */
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return step / a * rows;
}

int64_t lors_plan_tile(const lors_plan *plan, const lors_job *job, uint64_t n)
{
    uint64_t tile = (uint64_t)plan->ops->tile_elements;
    tile = tile == 0 ? n : lors_plan_step(job, tile);
    return (int64_t)(n < tile ? n : tile);
}

static int64_t last_dimension(const lors_ckpt_tensor *tensor)
{
    return tensor->n_dims > 0 ? (int64_t)tensor->shape[tensor->n_dims - 1] : 1;
}

lors_call lors_plan_call(const lors_plan *plan, const lors_job *job)
{
    return (lors_call){.ops = plan->ops,
                       .n_models = job->n_models,
                       .n_rows = job->n_rows,
                       .n_cols = job->n_cols,
                       .n_last = last_dimension(job->source),
                       .n_elements = job->source->n_elements,
                       .has_base = job->has_base && job->def &&
                                   (job->def->info.needs_base || job->def->info.takes_base),
                       .is_layer_matrix = job->is_layer_matrix,
                       .compat = job->compat,
                       .key = job->key,
                       .row = job->def ? job->def->row : NULL,
                       .cells = job->cells,
                       .n_batch = job->n_batch,
                       .exact = plan->exact};
}

uint64_t lors_plan_state_bytes(const lors_plan *plan, const lors_job *job)
{
    lors_call call = lors_plan_call(plan, job);
    return job->def && job->def->state_bytes ? job->def->state_bytes(&call) : 0;
}

uint64_t lors_plan_settle_bytes(const lors_plan *plan, const lors_job *job)
{
    lors_call call = lors_plan_call(plan, job);
    return job->def && job->def->settle_bytes ? job->def->settle_bytes(&call) : 0;
}

/* The largest rank that some model asks of this matrix. */
static lors_rank largest_rank(const lors_plan *plan, const lors_job *job)
{
    lors_rank rank = {0, 0, plan->exact};
    int32_t param = lors_method_param(&job->def->info, "rank");
    for (int32_t k = 0; param >= 0 && k < job->n_models; k++) {
        const lors_cell *cell = &job->cells[param * job->n_models + k];
        rank.energy = cell->energy > rank.energy ? cell->energy : rank.energy;
        rank.count = (int64_t)cell->number > rank.count ? (int64_t)cell->number : rank.count;
    }
    return rank;
}

bool lors_plan_keeps_values(const lors_plan *plan, const lors_job *job)
{
    return plan->keeps_values && job->def->keeps && job->n_ranges <= 1;
}

/* Of how many tiles are values there? Of all, where one worker does all surveys and keeps them. */
static uint64_t tiles_of_values(const lors_plan *plan, const lors_job *job, uint64_t tile)
{
    if (!(job->def->uses & LORS_USES_VALUES)) {
        return 0;
    }
    return lors_plan_keeps_values(plan, job) && tile > 0 ? (job->unit_elements + tile - 1) / tile
                                                         : 1;
}

/* base and stack right behind it; what selections need; the method's state of a job that one worker
 * does alone. */
static uint64_t carve_tile(const lors_plan *plan, const lors_job *job, lors_view at,
                           lors_call *call)
{
    uint64_t filled = 0, n = (uint64_t)job->n_models;
    uint64_t tile = (uint64_t)lors_plan_tile(plan, job, job->unit_elements);
    call->stride = aligned_stride(tile);
    call->tile = (int64_t)tile;
    uint64_t slice = (uint64_t)call->stride;
    call->base = take(at, &filled, slice * sizeof(float));
    call->stack = take(at, &filled, n * slice * sizeof(float));
    call->acc = take(at, &filled, slice * sizeof(double));
    int32_t uses = job->def->uses;
    call->values = take(at, &filled, tiles_of_values(plan, job, tile) * n * slice * sizeof(float));
    call->masks = take(at, &filled, uses & LORS_USES_MASKS ? n * slice : 0);
    call->signs = take(at, &filled, uses & LORS_USES_SIGNS ? slice : 0);
    call->scratch = take(at, &filled, job->def->scratch_bytes ? job->def->scratch_bytes(call) : 0);
    if (job->n_ranges <= 1) {
        call->state = take(at, &filled, lors_plan_state_bytes(plan, job));
    }
    if (!job->reads_source) {
        call->base = LORS_NO_VIEW;
    }
    return filled;
}

/* The base, a batch of models, their task vectors and low-rank parts, the sum. */
static uint64_t carve_matrix(const lors_plan *plan, const lors_job *job, lors_view at,
                             lors_call *call)
{
    uint64_t filled = 0, elements = job->source->n_elements, batch = (uint64_t)job->n_batch;
    call->stride = aligned_stride(elements);
    call->tile = lors_plan_tile(plan, job, elements);
    uint64_t slice = (uint64_t)call->stride, stack = batch * slice * sizeof(float);
    call->base = take(at, &filled, slice * sizeof(float));
    call->x = take(at, &filled, stack);
    call->delta = take(at, &filled, stack);
    call->low = take(at, &filled, stack);
    call->acc = take(at, &filled, slice * sizeof(double));
    call->masks = take(at, &filled, (batch - 1) * slice + (uint64_t)call->tile);
    call->state = take(at, &filled, lors_plan_state_bytes(plan, job));
    call->scratch = take(
        at, &filled,
        plan->ops->truncate_bytes(job->n_batch, job->n_rows, job->n_cols, largest_rank(plan, job)));
    return filled;
}

/* The base, all models, which become their task vectors, the sum, what the method asks for. */
static uint64_t carve_whole(const lors_plan *plan, const lors_job *job, lors_view at,
                            lors_call *call)
{
    uint64_t filled = 0, elements = job->source->n_elements;
    call->stride = aligned_stride(elements);
    call->tile = lors_plan_tile(plan, job, elements);
    uint64_t slice = (uint64_t)call->stride;
    call->base = take(at, &filled, slice * sizeof(float));
    call->delta = take(at, &filled, (uint64_t)job->n_models * slice * sizeof(float));
    call->x = call->delta;
    call->acc = take(at, &filled, slice * sizeof(double));
    call->scratch = take(at, &filled, job->def->scratch_bytes(call));
    return filled;
}

uint64_t lors_plan_carve(const lors_plan *plan, const lors_job *job, lors_view at, lors_call *call)
{
    if (!job->def) {
        return 0;
    }
    if (job->def->apply_whole) {
        return carve_whole(plan, job, at, call);
    }
    return job->by_matrix ? carve_matrix(plan, job, at, call) : carve_tile(plan, job, at, call);
}

uint64_t lors_plan_carve_results(const lors_job *job, lors_view at, lors_results *results)
{
    uint64_t filled = 0, n = (uint64_t)job->n_models;
    uint64_t blocks = (job->unit_elements + LORS_BLOCK - 1) / LORS_BLOCK;
    results->findings = take(at, &filled, (n + 1) * sizeof(lors_findings));
    results->differs = take(at, &filled, n * sizeof(uint32_t));
    results->kept = take(at, &filled, n * sizeof(uint64_t));
    results->cleared_bytes = filled;
    results->blocks = take(at, &filled, job->def ? blocks * sizeof(lors_store_block) : 0);
    results->n_bytes = filled;
    return filled;
}

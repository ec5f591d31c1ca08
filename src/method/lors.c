/* lors.c - LoRS-Merging: of each task vector the best rank-r part and the largest of the rest.
 *
 *   d_k = W_k - W0,  L_k = best rank-r approximation of d_k (singular value pruning)
 *   S_k = the floor(density * size) entries of d_k - L_k of largest magnitude (magnitude pruning)
 *   W = W0 + lambda * sum_k weight_k (L_k + S_k)
 *
 * Where S keeps an entry L + S is d_k itself, and d_k is what is added, in f64. Rank 0 is magnitude
 * pruning alone, density 0 is singular value pruning alone, full rank or density 1 is exactly task
 * arithmetic. Source: Zhao, Zhang, Sun, LoRS-Merging, arXiv 2502.17380.
 */
#include <math.h>

#include "base/error.h"
#include "method/method_table.h"

enum { WEIGHT, LAMBDA, RANK, DENSITY };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    {"lambda", LORS_PARAM_NUMBER, false, false, -1e30, 1e30, false, "1 / number of models", NAN,
     "scale of the whole update"},
    {"rank", LORS_PARAM_RANK, true, false, 0, 1e9, false, "1% of min(rows, cols), at least 1", 0.01,
     "of the low-rank part: a count, a share such as \"1%\", or {energy: 0.9}"},
    {"density", LORS_PARAM_NUMBER, true, false, 0, 1, false, "0.2", 0.2,
     "share of the residual that is kept, largest magnitudes first"},
};

/* Full rank or density 1 in every model: all of the task vectors is kept. */
static const lors_method_def *instead(const lors_call *call)
{
    int64_t shortest = call->n_rows < call->n_cols ? call->n_rows : call->n_cols;
    for (int32_t k = 0; k < call->n_models; k++) {
        const lors_cell *rank = &call->cells[RANK * call->n_models + k];
        bool full = rank->energy <= 0 && rank->number >= (double)shortest;
        if (!full && lors_call_number(call, DENSITY, k) < 1) {
            return NULL;
        }
    }
    return &lors_method_task_arithmetic;
}

static uint64_t state_bytes(const lors_call *call)
{
    return (uint64_t)call->n_batch * call->ops->select_bytes(call->n_elements);
}

/* The parts L of the batch, and what is to be kept of each residual: kept[n_batch]. */
static lors_status take_low_rank(lors_call *call, uint64_t *kept)
{
    const lors_backend_ops *ops = call->ops;
    lors_rank ranks[LORS_MAX_BATCH];
    lors_certificate certificates[LORS_MAX_BATCH];
    for (int32_t i = 0; i < call->n_batch; i++) {
        int32_t k = call->from_model + i;
        const lors_cell *cell = &call->cells[RANK * call->n_models + k];
        ranks[i] = (lors_rank){(int64_t)cell->number, cell->energy, call->exact};
        kept[i] = lors_method_keep_count(lors_call_number(call, DENSITY, k), call->n_elements);
    }
    LORS_TRY(ops->subtract(call->queue, call->delta, call->x, call->stride, call->base, 0,
                           call->n_batch, (int64_t)call->n_elements));
    LORS_TRY(ops->truncate_rank(call->queue, call->low, call->delta, call->stride, call->n_batch,
                                call->n_rows, call->n_cols, ranks, call->scratch, certificates));
    for (int32_t i = 0; i < call->n_batch; i++) {
        lors_model_result *result = &call->results[call->from_model + i];
        result->certificate = certificates[i];
        result->has_rank = result->has_kept = true;
        result->n_kept = kept[i];
    }
    return LORS_OK;
}

/* Is everything kept of model i of the batch, so that there is nothing to select? */
static bool keeps_all(const lors_call *call, int32_t i, uint64_t kept)
{
    int64_t rank = call->results[call->from_model + i].certificate.rank;
    return rank >= call->n_rows || rank >= call->n_cols || kept == call->n_elements;
}

static lors_view matrix_at(const lors_call *call, lors_view stack, int32_t i)
{
    return lors_view_at(stack, (uint64_t)(i * call->stride) * sizeof(float));
}

/* delta -= low, and the selection of the largest entries, for models i .. of the batch. */
static lors_status select_residuals(lors_call *call, int32_t i, const uint64_t *kept,
                                    const lors_selection *selection)
{
    const lors_backend_ops *ops = call->ops;
    int64_t n = (int64_t)call->n_elements;
    lors_view delta = matrix_at(call, call->delta, i), low = matrix_at(call, call->low, i);
    LORS_TRY(ops->subtract(call->queue, delta, delta, call->stride, low, call->stride,
                           selection->n_slices, n));
    LORS_TRY(ops->select_begin(call->queue, selection, kept));
    for (int32_t pass = 0; pass < LORS_SELECT_PASSES; pass++) {
        LORS_TRY(ops->select_count(call->queue, selection, pass, delta, call->stride, 0, n));
        LORS_TRY(ops->select_settle(call->queue, selection, pass));
    }
    for (int32_t k = 0; k < selection->n_slices; k++) {
        call->results[call->from_model + i + k].counts_kept = true;
    }
    return ops->select_kept(call->queue, selection,
                            lors_view_at(call->kept, (uint64_t)i * sizeof(uint64_t)));
}

/* acc (+)= lambda * weight * (kept ? x - base : low), by tiles for the sake of the masks. Without a
 * selection everything is kept. */
static lors_status add_models(lors_call *call, int32_t i, int32_t n_models,
                              const lors_selection *selection)
{
    int64_t n = (int64_t)call->n_elements;
    lors_sum sum = {.stride = call->stride,
                    .n_models = n_models,
                    .weights = call->weights,
                    .scale = lors_call_number(call, LAMBDA, 0),
                    .add = !call->fresh,
                    .in_order = true};
    for (int32_t k = 0; k < n_models; k++) {
        call->weights[k] = lors_call_number(call, WEIGHT, call->from_model + i + k);
    }
    for (int64_t first = 0; first < n; first += call->tile) {
        int64_t count = n - first < call->tile ? n - first : call->tile;
        uint64_t at = (uint64_t)first * sizeof(float);
        sum.stack = lors_view_at(matrix_at(call, call->x, i), at);
        sum.base = lors_view_at(call->base, at);
        if (selection) {
            sum.masks = call->masks;
            sum.low = lors_view_at(matrix_at(call, call->low, i), at);
            LORS_TRY(call->ops->keep_top(call->queue, selection, call->masks,
                                         lors_view_at(matrix_at(call, call->delta, i), at),
                                         call->stride, (uint64_t)first, count));
        }
        LORS_TRY(call->ops->accumulate(
            call->queue, lors_view_at(call->acc, (uint64_t)first * sizeof(double)), &sum, count));
    }
    call->fresh = false;
    return LORS_OK;
}

/* Models of which everything is kept, and others, in runs of one kind. */
static lors_status apply_matrix(lors_call *call)
{
    uint64_t kept[LORS_MAX_BATCH];
    LORS_TRY(take_low_rank(call, kept));
    for (int32_t i = 0, next; i < call->n_batch; i = next) {
        bool all = keeps_all(call, i, kept[i]);
        for (next = i + 1; next < call->n_batch && keeps_all(call, next, kept[next]) == all;) {
            next++;
        }
        lors_selection selection = {call->state, call->n_elements, next - i};
        if (!all) {
            LORS_TRY(select_residuals(call, i, kept + i, &selection));
        }
        LORS_TRY(add_models(call, i, next - i, all ? NULL : &selection));
    }
    return LORS_OK;
}

const lors_method_def lors_method_lors = {
    .info = {.name = "lors",
             .summary = "low-rank plus sparse part of each task vector (LoRS-Merging)",
             .formula = "L_k = best rank-r approximation of W_k - W0\n"
                        "S_k = the floor(density * size) largest entries of W_k - W0 - L_k\n"
                        "W = W0 + lambda * sum_k weight_k (L_k + S_k)\n"
                        "outside the scope: W = W0 + lambda * sum_k weight_k (W_k - W0)",
             .paper = "LoRS-Merging, arXiv 2502.17380",
             .needs_base = true,
             .min_models = 1,
             .uses_matrices = true,
             .scope = "attention, mlp (2-D weights)",
             .cost = LORS_COST_LOW_RANK,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .is_base = lors_method_adds_nothing,
    .instead = instead,
    .state_bytes = state_bytes,
    .apply_matrix = apply_matrix,
};

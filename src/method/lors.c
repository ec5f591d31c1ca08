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

static bool is_base(const lors_call *call)
{
    return lors_call_number(call, LAMBDA, 0) == 0 || !lors_method_any_weight(call, WEIGHT);
}

/* Full rank or density 1 in every model: all of the task vectors is kept. */
static bool is_task_arithmetic(const lors_call *call)
{
    int64_t shortest = call->n_rows < call->n_cols ? call->n_rows : call->n_cols;
    for (int32_t k = 0; k < call->n_models; k++) {
        const lors_cell *rank = &call->cells[RANK * call->n_models + k];
        bool full = rank->energy <= 0 && rank->number >= (double)shortest;
        if (!full && lors_call_number(call, DENSITY, k) < 1) {
            return false;
        }
    }
    return true;
}

static uint64_t state_bytes(const lors_call *call)
{
    return call->ops->select_bytes(call->n_elements); /* one model at a time */
}

static lors_rank rank_of(const lors_call *call)
{
    const lors_cell *cell = &call->cells[RANK * call->n_models + call->model];
    return (lors_rank){(int64_t)cell->number, cell->energy};
}

/* delta -= low, and then the selection of its `kept` largest entries. */
static lors_status select_residual(lors_call *call, uint64_t kept)
{
    const lors_backend_ops *ops = call->ops;
    int64_t n = (int64_t)call->n_elements;
    LORS_TRY(ops->subtract(call->backend, call->delta, call->delta, call->low, n));
    LORS_TRY(ops->select_begin(call->backend, call->state, call->n_elements, kept));
    for (int32_t pass = 0; pass < LORS_SELECT_PASSES; pass++) {
        LORS_TRY(ops->select_count(call->backend, call->state, pass, call->delta, 0, n));
        LORS_TRY(ops->select_settle(call->backend, call->state, pass));
    }
    return ops->select_kept(call->backend, call->state, &call->results[call->model].n_kept);
}

/* acc (+)= lambda * weight * (kept ? x - base : low), by tiles for the sake of the mask. */
static lors_status add_model(lors_call *call, bool everything)
{
    double weight = lors_call_number(call, WEIGHT, call->model);
    lors_sum sum = {.n_models = 1,
                    .weights = &weight,
                    .scale = lors_call_number(call, LAMBDA, 0),
                    .add = !call->fresh};
    int64_t n = (int64_t)call->n_elements, tile = call->stride;
    for (int64_t first = 0; first < n; first += tile) {
        int64_t count = n - first < tile ? n - first : tile;
        uint64_t at = (uint64_t)first * sizeof(float);
        sum.stack = lors_view_at(call->x, at);
        sum.base = lors_view_at(call->base, at);
        if (!everything) {
            sum.masks = call->masks;
            sum.low = lors_view_at(call->low, at);
            LORS_TRY(call->ops->keep_top(call->backend, call->state, call->masks,
                                         lors_view_at(call->delta, at), (uint64_t)first, count));
        }
        LORS_TRY(call->ops->accumulate(
            call->backend, lors_view_at(call->acc, (uint64_t)first * sizeof(double)), &sum, count));
    }
    call->fresh = false;
    return LORS_OK;
}

static lors_status apply_matrix(lors_call *call)
{
    const lors_backend_ops *ops = call->ops;
    lors_model_result *result = &call->results[call->model];
    uint64_t kept =
        lors_method_keep_count(lors_call_number(call, DENSITY, call->model), call->n_elements);
    result->has_rank = result->has_kept = true;
    result->n_kept = kept;
    LORS_TRY(
        ops->subtract(call->backend, call->delta, call->x, call->base, (int64_t)call->n_elements));
    LORS_TRY(ops->truncate_rank(call->backend, call->low, call->delta, call->n_rows, call->n_cols,
                                rank_of(call), call->scratch, &result->certificate));
    bool full =
        result->certificate.rank >= call->n_rows || result->certificate.rank >= call->n_cols;
    bool everything = full || kept == call->n_elements;
    if (!everything) {
        LORS_TRY(select_residual(call, kept));
    }
    return add_model(call, everything);
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
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .is_base = is_base,
    .is_task_arithmetic = is_task_arithmetic,
    .state_bytes = state_bytes,
    .apply_matrix = apply_matrix,
};

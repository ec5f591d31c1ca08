/* sce.c - select the elements that differ most between models, calculate weights, erase minorities.
 *
 * Source: Wan et al. 2024 (FuseChat), arXiv 2408.07990; per tensor, as mergekit.
 */
#include <math.h>

#include "base/error.h"
#include "method/method_table.h"

enum { TOP };

enum {
    COUNT_PASS, /* how many elements differ at all; where all are taken, the weights */
    SELECT_PASS,
    WEIGH_PASS = SELECT_PASS + LORS_SELECT_PASSES,
    N_SUMS = 4 /* of `measure` */
};

static const lors_param_info params[] = {
    {"select_topk", LORS_PARAM_NUMBER, false, false, 0, 1, false, "1", 1,
     "share of the elements that differ between models that is taken, largest variance first"},
};

static bool takes_all(const lors_call *call)
{
    return lors_call_number(call, TOP, 0) >= 1;
}

static bool is_base(const lors_call *call)
{
    return lors_call_number(call, TOP, 0) == 0;
}

static bool keeps_equal(const lors_call *call)
{
    return takes_all(call);
}

static int32_t surveys(const lors_call *call)
{
    return takes_all(call) ? 1 : WEIGH_PASS + 1;
}

static uint64_t sums_bytes(const lors_call *call)
{
    return lors_method_blocks(call) * (uint64_t)call->n_models * N_SUMS * sizeof(double);
}

static uint64_t selection_at(const lors_call *call)
{
    return lors_view_padded(sums_bytes(call));
}

static uint64_t state_bytes(const lors_call *call)
{
    return selection_at(call) + (takes_all(call) ? 0 : call->ops->select_bytes(call->n_elements));
}

static lors_selection selection_of(const lors_call *call)
{
    return (lors_selection){lors_view_at(call->state, selection_at(call)), call->n_elements, 1,
                            call->shared};
}

/* The deviations of this tile (whose order is that of variances), in the first slice of values. */
static lors_status take_deviations(lors_call *call)
{
    lors_columns columns = {.kind = LORS_COLUMN_DEVIATION,
                            .stack = call->stack,
                            .base = call->base,
                            .stride = call->stride,
                            .n_models = call->n_models,
                            .weights = call->weights};
    return call->ops->combine(call->queue, call->values, &columns, call->count);
}

/* Masks of all models: the same. */
static lors_status select_elements(lors_call *call)
{
    lors_selection selection = selection_of(call);
    if (!call->has_values) {
        LORS_TRY(take_deviations(call));
    }
    for (int32_t k = 0; k < call->n_models; k++) {
        LORS_TRY(call->ops->keep_top(call->queue, &selection,
                                     lors_view_at(call->masks, (uint64_t)(k * call->stride)),
                                     call->values, call->stride, call->first, call->count));
    }
    return LORS_OK;
}

static lors_status measure(lors_call *call, lors_view masks, int32_t n_slices)
{
    uint64_t per_block = (uint64_t)n_slices * N_SUMS * sizeof(double);
    lors_view sums = lors_view_at(call->state, call->first / LORS_BLOCK * per_block);
    return call->ops->measure(call->queue, sums, call->values, masks, call->stride, n_slices,
                              call->count);
}

static lors_kept keeps(const lors_call *call, int32_t pass)
{
    if (takes_all(call) || pass == COUNT_PASS || pass > WEIGH_PASS) {
        return LORS_KEPT_NONE;
    }
    return pass < WEIGH_PASS ? LORS_KEPT_ALL : LORS_KEPT_VALUES;
}

static lors_status survey(lors_call *call, int32_t pass)
{
    if (takes_all(call) || pass == WEIGH_PASS) {
        lors_view masks = takes_all(call) ? LORS_NO_VIEW : call->masks;
        if (!takes_all(call)) {
            LORS_TRY(select_elements(call));
        }
        LORS_TRY(lors_method_take_values(call));
        return measure(call, masks, call->n_models);
    }
    if (!call->has_values) {
        LORS_TRY(take_deviations(call));
    }
    if (pass == COUNT_PASS) {
        return measure(call, LORS_NO_VIEW, 1);
    }
    lors_selection selection = selection_of(call);
    return call->ops->select_count(call->queue, &selection, pass - SELECT_PASS, call->values,
                                   call->stride, call->first, call->count);
}

/* The share of its squares that each model has. */
static void settle_weights(lors_call *call)
{
    const double *sums = call->state_on_host;
    int64_t step = (int64_t)call->n_models * N_SUMS;
    double total = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        double squares =
            lors_method_tree_sum(sums + k * N_SUMS + 2, lors_method_blocks(call), step);
        call->constants[k] = squares / (double)call->n_elements;
        total += call->constants[k];
    }
    bool uniform = !(total > 0) || (call->compat && total < 1e-6);
    for (int32_t k = 0; k < call->n_models; k++) {
        call->constants[k] = uniform ? 1.0 / call->n_models : call->constants[k] / total;
    }
}

static lors_status settle(lors_call *call, int32_t pass)
{
    if (takes_all(call) || pass == WEIGH_PASS) {
        settle_weights(call);
        return LORS_OK;
    }
    lors_selection selection = selection_of(call);
    if (pass > COUNT_PASS) {
        return call->ops->select_settle(call->queue, &selection, pass - SELECT_PASS);
    }
    const double *sums = call->state_on_host;
    double differing = lors_method_tree_sum(sums + 3, lors_method_blocks(call), N_SUMS);
    uint64_t taken = (uint64_t)floor(lors_call_number(call, TOP, 0) * differing);
    return call->ops->select_begin(call->queue, &selection, &taken);
}

static lors_status apply(lors_call *call)
{
    lors_sum sum = {.stack = call->stack,
                    .base = call->base,
                    .stride = call->stride,
                    .n_models = call->n_models,
                    .weights = call->weights,
                    .scale = 1};
    if (!takes_all(call)) {
        LORS_TRY(select_elements(call));
        sum.masks = call->masks;
    }
    for (int32_t k = 0; k < call->n_models; k++) {
        call->weights[k] = 1;
    }
    LORS_TRY(call->ops->elect_sign(call->queue, call->signs, &sum, call->count));
    sum.signs = call->signs;
    sum.weights = call->constants;
    sum.divisor = LORS_DIVIDE_KEPT;
    return call->ops->accumulate(call->queue, call->acc, &sum, call->count);
}

const lors_method_def lors_method_sce = {
    .info = {.name = "sce",
             .summary = "select what differs, weigh models by their changes, erase minorities",
             .formula =
                 "d_k = W_k - W0 where its variance over k is among the floor(select_topk *\n"
                 "the number of variances that are not 0) largest, else 0\n"
                 "eta_k = mean(d_k^2) / sum_j mean(d_j^2); s = sign(sum_k d_k), + where 0\n"
                 "A = the k with sign(d_k) = s, per element\n"
                 "W = W0 + sum_A eta_k d_k / sum_A eta_k",
             .paper = "FuseChat (SCE), arXiv 2408.07990",
             .needs_base = true,
             .min_models = 1,
             .scope = "every tensor",
             .cost = LORS_COST_SELECTION,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .uses = LORS_USES_VALUES | LORS_USES_MASKS | LORS_USES_SIGNS,
    .surveys = surveys,
    .is_base = is_base,
    .keeps_equal = keeps_equal,
    .state_bytes = state_bytes,
    .settle_bytes = sums_bytes,
    .survey = survey,
    .keeps = keeps,
    .settle = settle,
    .apply = apply,
};

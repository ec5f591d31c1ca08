/* arcee_fusion.c - take from the model what differs most, weighted by how far its row lies from the
 * base's; leave the rest.
 *
 *   D_r = KL(softmax(W_1[r]) + floor || softmax(W0[r]) + floor), r a row of the last dimension
 *   I   = |W_1 - W0| * D_r, rounded to f32
 *   W   = W_1 where I >= Q2 + 1.5 (Q3 - Q1), else W0
 *
 * Q1, Q2, Q3: of the n sorted importances of the tensor those of index floor(n' / 4),
 * floor(n' / 2), floor(3 n' / 4), n' = n - 1: of all, where mergekit draws a million at random. The
 * divergence of ordinary fine-tunes is below what f32 resolves: it is summed so that it is exact to
 * some digits (backend/rows.h). An element is taken as it is, not as W0 + (W_1 - W0).
 *
 * Where more than three quarters of the importances are 0, so is the threshold, and all is taken;
 * so it is where rows have one element, whose softmax is 1 in both. An importance that is no number
 * counts as infinite: what is damaged in the model is taken, and seen.
 * Source: mergekit.
 */
#include "base/error.h"
#include "method/method_table.h"

enum { QUARTILES = 3, DIVERGENCES_AT = LORS_VIEW_ALIGN };

/* --- state: quartiles, the divergence of each row, the selections ----------------------------- */

static uint64_t selections_at(const lors_call *call)
{
    uint64_t n_rows = call->n_elements / (uint64_t)(call->n_last > 0 ? call->n_last : 1);
    return DIVERGENCES_AT + lors_view_padded(n_rows * sizeof(double));
}

static uint64_t state_bytes(const lors_call *call)
{
    return selections_at(call) + QUARTILES * call->ops->select_bytes(call->n_elements);
}

/* Of the rows of this tile. */
static lors_view divergences(const lors_call *call)
{
    uint64_t row = call->first / (uint64_t)call->n_last;
    return lors_view_at(call->state, DIVERGENCES_AT + row * sizeof(double));
}

static lors_selection selection_of(const lors_call *call)
{
    return (lors_selection){lors_view_at(call->state, selections_at(call)), call->n_elements,
                            QUARTILES, call->shared};
}

/* --- passes ----------------------------------------------------------------------------------- */

static int32_t surveys(const lors_call *call)
{
    (void)call;
    return LORS_VALUE_PASSES;
}

/* The one of index i from the smallest is the (n - i)-th largest. */
static lors_status begin(lors_call *call)
{
    lors_selection selection = selection_of(call);
    uint64_t n = call->n_elements, last = n - 1;
    uint64_t k[QUARTILES] = {n - last / 4, n - last / 2, n - (last / 4 * 3 + last % 4 * 3 / 4)};
    return call->ops->select_begin(call->queue, &selection, k);
}

static lors_status take_importances(lors_call *call)
{
    return call->ops->weigh_rows(call->queue, call->values, call->stack, call->base,
                                 divergences(call), call->count / call->n_last, call->n_last);
}

static lors_kept keeps(const lors_call *call, int32_t pass)
{
    if (pass == surveys(call)) {
        return LORS_KEPT_VALUES;
    }
    return pass > 0 ? LORS_KEPT_ALL : LORS_KEPT_NONE;
}

static lors_status survey(lors_call *call, int32_t pass)
{
    lors_selection selection = selection_of(call);
    if (pass == 0) {
        LORS_TRY(call->ops->diverge(call->queue, divergences(call), call->stack, call->base,
                                    call->count / call->n_last, call->n_last));
    }
    if (!call->has_values) {
        LORS_TRY(take_importances(call));
    }
    return call->ops->select_count(call->queue, &selection, pass, call->values, 0, call->first,
                                   call->count);
}

static lors_status settle(lors_call *call, int32_t pass)
{
    lors_selection selection = selection_of(call);
    LORS_TRY(call->ops->select_settle(call->queue, &selection, pass));
    return pass == LORS_VALUE_PASSES - 1
               ? call->ops->select_value(call->queue, &selection, call->state)
               : LORS_OK;
}

static lors_status apply(lors_call *call)
{
    static const double threshold[QUARTILES] = {-1.5, 1, 1.5};
    lors_sum sum = {.stack = call->stack,
                    .masks = call->masks,
                    .low = call->base,
                    .stride = call->stride,
                    .n_models = 1,
                    .weights = call->weights,
                    .scale = 1,
                    .in_order = true};
    call->weights[0] = 1;
    if (!call->has_values) {
        LORS_TRY(take_importances(call));
    }
    LORS_TRY(call->ops->keep_from(call->queue, call->masks, call->values, call->state, threshold,
                                  QUARTILES, call->count));
    return call->ops->accumulate(call->queue, call->acc, &sum, call->count);
}

const lors_method_def lors_method_arcee_fusion = {
    .info = {.name = "arcee_fusion",
             .summary = "of the model the elements that matter most, of the base the others",
             .formula = "D = KL(softmax(W_1) + 1e-8 || softmax(W0) + 1e-8) of each row of the last "
                        "dimension\n"
                        "I = |W_1 - W0| * D\n"
                        "W = W_1 where I >= median(I) + 1.5 (Q3(I) - Q1(I)), else W0",
             .paper = "mergekit",
             .needs_base = true,
             .min_models = 1,
             .max_models = 1,
             .scope = "every tensor",
             .cost = LORS_COST_DIVERGENCE},
    .by_rows = true,
    .uses = LORS_USES_VALUES | LORS_USES_MASKS,
    .surveys = surveys,
    .state_bytes = state_bytes,
    .begin = begin,
    .survey = survey,
    .keeps = keeps,
    .settle = settle,
    .apply = apply,
};

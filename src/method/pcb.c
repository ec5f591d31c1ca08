/* pcb.c - parameter competition balancing: models compete for each element, and the best share of
 * each is averaged by how well it does.
 *
 *   d_k = W_k - W0;  c_k = |d_k| limited to its quantiles clip and 1 - clip, low_k and high_k
 *   intra_k = exp(N ((c_k - low_k) / (high_k - low_k))^2);  inter_k = tanh(d_k sum_j d_j)
 *   beta_k  = max(0, intra_k inter_k)
 *   share_k = (beta_k - least_k) / (most_k - least_k) where beta_k is above least_k, else 0
 *   W = W0 + lambda * sum_k weight_k share_k sign(d_k) c_k / sum_k share_k
 *
 * most_k is the largest of the n beta_k of the tensor, least_k the one of index
 * floor(n (1 - density_k)) from the smallest, low_k and high_k those of index floor(clip n) from
 * either end. N: models of weight other than 0 that have changed.
 *
 * This is what the authors' program does, not the paper's formulas, where softmaxes stand for exp
 * and tanh: its figures are the program's. Differences: quantiles, minima and maxima are of a
 * tensor, where theirs are of the whole model at once, since a merge goes tensor by tensor. The
 * largest of a tensor of less than 1 / clip elements is not limited to the second largest. A
 * negative beta (an element that goes against the sum) counts as 0; theirs can only be kept where
 * less than the share `density` is positive. Where all that is kept of a model is equal its share
 * is 1, theirs 0 / 0: so a tensor of one element moves by lambda d. Where there are no shares the
 * element stays. beta_k is computed times exp(-N), which cancels, so that many models do not
 * overflow.
 * Sources: Du et al. 2024, arXiv 2410.02396; github.com/duguodong7/pcb-merging.
 */
#include <math.h>

#include "base/error.h"
#include "method/method_table.h"

enum { WEIGHT, LAMBDA, DENSITY, CLIP };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1.2", 1.2),
    {"density", LORS_PARAM_NUMBER, true, false, 0, 1, false, "0.1", 0.1,
     "share of each task vector that is kept, best scores first"},
    {"clip", LORS_PARAM_NUMBER, false, false, 0, 0.5, false, "1e-4", 1e-4,
     "share of the smallest and of the largest magnitudes that is limited to the next"},
};

/* A model of which nothing is kept is left out, as one of weight 0 is. */
static void take_weights(lors_call *call)
{
    for (int32_t k = 0; k < call->n_models; k++) {
        bool counts = lors_call_number(call, DENSITY, k) > 0;
        call->weights[k] = counts ? lors_call_number(call, WEIGHT, k) : 0;
    }
}

static bool is_base(const lors_call *call)
{
    bool any = false;
    for (int32_t k = 0; k < call->n_models; k++) {
        any = any || (lors_call_number(call, DENSITY, k) > 0 &&
                      lors_call_number(call, WEIGHT, k) != 0);
    }
    return !any || lors_call_number(call, LAMBDA, 0) == 0;
}

/* --- state: bounds and levels of each model, two selections ----------------------------------- */

static uint64_t pair_bytes(const lors_call *call)
{
    return lors_view_padded(2 * (uint64_t)call->n_models * sizeof(float));
}

static uint64_t state_bytes(const lors_call *call)
{
    return 2 * (pair_bytes(call) + lors_method_selection_bytes(call));
}

static lors_view bounds_of(const lors_call *call)
{
    return call->state;
}

static lors_view levels_of(const lors_call *call)
{
    return lors_view_at(call->state, pair_bytes(call));
}

/* Of the lower bound or level, or (1) of the upper. */
static lors_selection selection_of(const lors_call *call, uint64_t which)
{
    lors_selection selection = lors_method_selection(call);
    selection.state = lors_view_at(
        call->state, 2 * pair_bytes(call) + which * lors_method_selection_bytes(call));
    return selection;
}

static lors_status find_values(lors_call *call, const uint64_t *lower, const uint64_t *upper)
{
    lors_selection low = selection_of(call, 0), high = selection_of(call, 1);
    LORS_TRY(call->ops->select_begin(call->queue, &low, lower));
    return call->ops->select_begin(call->queue, &high, upper);
}

/* --- passes: bounds, then levels -------------------------------------------------------------- */

static int32_t surveys(const lors_call *call)
{
    (void)call;
    return 2 * LORS_VALUE_PASSES;
}

static lors_status begin(lors_call *call)
{
    uint64_t lower[LORS_MAX_MODELS], upper[LORS_MAX_MODELS], n = call->n_elements;
    uint64_t clipped = lors_method_keep_count(lors_call_number(call, CLIP, 0), n);
    clipped = n > 0 && clipped > (n - 1) / 2 ? (n - 1) / 2 : clipped;
    for (int32_t k = 0; k < call->n_models; k++) {
        lower[k] = n - clipped;
        upper[k] = clipped + 1;
    }
    return find_values(call, lower, upper);
}

static lors_status find_levels(lors_call *call)
{
    uint64_t lower[LORS_MAX_MODELS], upper[LORS_MAX_MODELS], n = call->n_elements;
    for (int32_t k = 0; k < call->n_models; k++) {
        uint64_t index = lors_method_keep_count(1 - lors_call_number(call, DENSITY, k), n);
        lower[k] = index < n ? n - index : 1;
        upper[k] = 1;
    }
    return find_values(call, lower, upper);
}

static lors_contest contest_of(lors_call *call)
{
    take_weights(call);
    return (lors_contest){.stack = call->stack,
                          .base = call->base,
                          .stride = call->stride,
                          .n_models = call->n_models,
                          .weights = call->weights,
                          .bounds = bounds_of(call),
                          .scale = lors_call_number(call, LAMBDA, 0)};
}

/* The result is made of the scores that the last surveys were of. */
static lors_kept keeps(const lors_call *call, int32_t pass)
{
    if (pass == surveys(call)) {
        return LORS_KEPT_VALUES;
    }
    return call->has_base && pass % LORS_VALUE_PASSES != 0 ? LORS_KEPT_ALL : LORS_KEPT_NONE;
}

static lors_status take_scores(lors_call *call)
{
    lors_contest contest = contest_of(call);
    return call->ops->score(call->queue, call->values, &contest, call->count);
}

static lors_status survey(lors_call *call, int32_t pass)
{
    bool of_scores = pass >= LORS_VALUE_PASSES;
    int32_t own = pass - (of_scores ? LORS_VALUE_PASSES : 0);
    if (!call->has_values) {
        LORS_TRY(of_scores ? take_scores(call) : lors_method_take_values(call));
    }
    for (uint64_t which = 0; which < 2; which++) {
        lors_selection selection = selection_of(call, which);
        LORS_TRY(call->ops->select_count(call->queue, &selection, own, call->values, call->stride,
                                         call->first, call->count));
    }
    return LORS_OK;
}

static lors_status settle(lors_call *call, int32_t pass)
{
    bool of_scores = pass >= LORS_VALUE_PASSES;
    int32_t own = pass - (of_scores ? LORS_VALUE_PASSES : 0);
    lors_view found = of_scores ? levels_of(call) : bounds_of(call);
    for (uint64_t which = 0; which < 2; which++) {
        lors_selection selection = selection_of(call, which);
        LORS_TRY(call->ops->select_settle(call->queue, &selection, own));
        if (own == LORS_VALUE_PASSES - 1) {
            uint64_t at = which * (uint64_t)call->n_models * sizeof(float);
            LORS_TRY(call->ops->select_value(call->queue, &selection, lors_view_at(found, at)));
        }
    }
    return pass == LORS_VALUE_PASSES - 1 ? find_levels(call) : LORS_OK;
}

static lors_status apply(lors_call *call)
{
    if (!call->has_values) {
        LORS_TRY(take_scores(call));
    }
    lors_contest contest = contest_of(call);
    contest.levels = levels_of(call);
    contest.scores = call->values;
    return call->ops->balance(call->queue, call->acc, &contest, call->count);
}

const lors_method_def lors_method_pcb = {
    .info = {.name = "pcb",
             .summary = "models compete for each element; the best of each are averaged by score",
             .formula =
                 "d_k = W_k - W0; c_k = |d_k| within its quantiles clip and 1 - clip\n"
                 "beta_k = max(0, exp(N minmax(c_k)^2) tanh(d_k sum_j d_j))\n"
                 "share_k = beta_k from its quantile 1 - density (0) to its maximum (1)\n"
                 "W = W0 + lambda * sum_k weight_k share_k sign(d_k) c_k / sum_k share_k",
             .paper = "PCB-Merging, arXiv 2410.02396",
             .needs_base = true,
             .min_models = 1,
             .scope = "every tensor",
             .cost = LORS_COST_CONTEST,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .uses = LORS_USES_VALUES,
    .surveys = surveys,
    .is_base = is_base,
    .state_bytes = state_bytes,
    .begin = begin,
    .survey = survey,
    .keeps = keeps,
    .settle = settle,
    .apply = apply,
};

/* task_arithmetic.c - weighted sums of task vectors, a family of which each method is a row.
 *
 *   W = W0 + lambda * sum_k weight_k sparsify(W_k - W0) [only where signs agree] [/ weights]
 *
 * task_arithmetic: nothing in brackets (Ilharco et al. 2022, arXiv 2212.04089).
 * ties: keep the top `density` of each task vector by magnitude, elect a sign per element from the
 * weighted sum (a sum of 0 elects +), keep the terms that agree, divide by the sum of their weights
 * (Yadav et al. 2023, arXiv 2306.01708; per tensor and with weights in the election, as mergekit).
 */
#include <math.h>

#include "base/error.h"
#include "method/method_table.h"

enum { WEIGHT, LAMBDA, NORMALIZE, DENSITY };

#define PARAM_LAMBDA(in_words, number) \
    { \
        "lambda", LORS_PARAM_NUMBER, false, false, -1e30, 1e30, false, in_words, number, \
            "scale of the whole update" \
    }

static const lors_param_info plain_params[] = {
    LORS_PARAM_WEIGHT(true, NULL, 0),
    PARAM_LAMBDA("1", 1),
    {"normalize", LORS_PARAM_BOOL, false, false, 0, 1, false, "false", 0,
     "divide by the sum of the weights"},
};

static const lors_param_info ties_params[] = {
    LORS_PARAM_WEIGHT(true, NULL, 0),
    PARAM_LAMBDA("1", 1),
    {"normalize", LORS_PARAM_BOOL, false, false, 0, 1, false, "true", 1,
     "divide, per element, by the weights of the models that agree"},
    {"density", LORS_PARAM_NUMBER, true, false, 0, 1, false, "1", 1,
     "share of each task vector that is kept, largest magnitudes first"},
};

static bool is_base(const lors_call *call)
{
    return lors_call_number(call, LAMBDA, 0) == 0 || !lors_method_any_weight(call, WEIGHT);
}

/* Is the coefficient of a common task vector 1? */
static bool keeps_equal(const lors_call *call)
{
    double sum = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        sum += lors_call_number(call, WEIGHT, k);
    }
    double coefficient =
        lors_call_number(call, LAMBDA, 0) * (lors_call_number(call, NORMALIZE, 0) != 0 ? 1 : sum);
    return fabs(coefficient - 1) <= 1e-12;
}

static lors_status check_plain(const lors_call *call)
{
    return is_base(call) ? LORS_OK : lors_method_check_normalize(call, WEIGHT, NORMALIZE);
}

static lors_sum sum_of(const lors_call *call)
{
    return (lors_sum){.stack = call->stack,
                      .base = call->base,
                      .stride = call->stride,
                      .n_models = call->n_models,
                      .weights = call->weights,
                      .scale = lors_call_number(call, LAMBDA, 0)};
}

static lors_sum plain_sum(const lors_call *call)
{
    double total = lors_method_weights(call, WEIGHT);
    lors_sum sum = sum_of(call);
    if (lors_call_number(call, NORMALIZE, 0) != 0) {
        sum.divisor = LORS_DIVIDE_CONSTANT;
        sum.divisor_value = total;
    }
    return sum;
}

static bool is_dense(const lors_call *call)
{
    for (int32_t k = 0; k < call->n_models; k++) {
        if (lors_call_number(call, DENSITY, k) < 1) {
            return false;
        }
    }
    return true;
}

/* With everything kept and all weights of one sign, equal task vectors always win the election. */
static bool keeps_equal_dense(const lors_call *call)
{
    for (int32_t k = 0; k < call->n_models; k++) {
        if (lors_call_number(call, WEIGHT, k) < 0) {
            return false;
        }
    }
    return is_dense(call) && keeps_equal(call);
}

static lors_status begin_ties(lors_call *call)
{
    uint64_t kept[LORS_MAX_MODELS];
    lors_selection selection = lors_method_selection(call);
    for (int32_t k = 0; k < call->n_models; k++) {
        kept[k] = lors_method_keep_count(lors_call_number(call, DENSITY, k), call->n_elements);
        call->results[k].has_kept = true;
        call->results[k].n_kept = kept[k];
    }
    return call->ops->select_begin(call->queue, &selection, kept);
}

/* values = the task vectors in this tile, rounded to f32: what magnitudes are compared of. */
static lors_status task_vectors(lors_call *call)
{
    return call->ops->subtract(call->queue, call->values, call->stack, call->stride, call->base, 0,
                               call->n_models, call->count);
}

static lors_status survey_ties(lors_call *call, int32_t pass)
{
    if (is_dense(call)) {
        return LORS_OK;
    }
    lors_selection selection = lors_method_selection(call);
    LORS_TRY(task_vectors(call));
    return call->ops->select_count(call->queue, &selection, pass, call->values, call->stride,
                                   call->first, call->count);
}

static lors_status settle_ties(lors_call *call, int32_t pass)
{
    lors_selection selection = lors_method_selection(call);
    return is_dense(call) ? LORS_OK : call->ops->select_settle(call->queue, &selection, pass);
}

static lors_status apply_ties(lors_call *call)
{
    lors_method_weights(call, WEIGHT);
    lors_sum sum = sum_of(call);
    if (!is_dense(call)) {
        lors_selection selection = lors_method_selection(call);
        sum.masks = call->masks;
        LORS_TRY(task_vectors(call));
        LORS_TRY(call->ops->keep_top(call->queue, &selection, call->masks, call->values,
                                     call->stride, call->first, call->count));
    }
    LORS_TRY(call->ops->elect_sign(call->queue, call->signs, &sum, call->count));
    sum.signs = call->signs;
    if (lors_call_number(call, NORMALIZE, 0) != 0) {
        sum.divisor = LORS_DIVIDE_KEPT;
    }
    return call->ops->accumulate(call->queue, call->acc, &sum, call->count);
}

const lors_method_def lors_method_task_arithmetic = {
    .info = {.name = "task_arithmetic",
             .summary = "base plus the weighted sum of task vectors",
             .formula = "W = W0 + lambda * sum_k weight_k (W_k - W0) [/ sum_k weight_k]",
             .paper = "Editing models with task arithmetic, arXiv 2212.04089",
             .needs_base = true,
             .min_models = 1,
             .scope = "every tensor",
             .n_params = LORS_COUNT_OF(plain_params),
             .params = plain_params},
    .adds_to_base = true,
    .check = check_plain,
    .is_base = is_base,
    .keeps_equal = keeps_equal,
    .sum = plain_sum,
};

const lors_method_def lors_method_ties = {
    .info = {.name = "ties",
             .summary = "trim task vectors, elect a sign per element, average those that agree",
             .formula = "T_k = the floor(density_k * size) largest entries of W_k - W0\n"
                        "s = sign(sum_k weight_k T_k), + where the sum is 0\n"
                        "A = the k with T_k != 0 and sign(weight_k T_k) = s, per element\n"
                        "W = W0 + lambda * sum_A weight_k T_k [/ sum_A weight_k]",
             .paper = "TIES-Merging, arXiv 2306.01708",
             .needs_base = true,
             .min_models = 1,
             .scope = "every tensor",
             .n_params = LORS_COUNT_OF(ties_params),
             .params = ties_params},
    .adds_to_base = true,
    .selects = true,
    .n_surveys = LORS_SELECT_PASSES,
    .is_base = is_base,
    .keeps_equal = keeps_equal_dense,
    .state_bytes = lors_method_selection_bytes,
    .begin = begin_ties,
    .survey = survey_ties,
    .settle = settle_ties,
    .apply = apply_ties,
};

/* task_arithmetic.c - the weighted sum of task vectors.
 *
 *   W = W0 + lambda * sum_k weight_k (W_k - W0) [/ sum_k weight_k]
 *
 * Source: Ilharco et al. 2022, arXiv 2212.04089.
 */
#include <math.h>

#include "base/error.h"
#include "method/method_table.h"

enum { WEIGHT, LAMBDA, NORMALIZE };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(true, NULL, 0),
    LORS_PARAM_LAMBDA("1", 1),
    {"normalize", LORS_PARAM_BOOL, false, false, 0, 1, false, "false", 0,
     "divide by the sum of the weights"},
};

/* Is the coefficient of a common task vector 1? */
static bool keeps_equal(const lors_call *call)
{
    bool normalize = lors_call_number(call, NORMALIZE, 0) != 0;
    double sum = normalize ? 1 : lors_method_weights(call, WEIGHT);
    double coefficient = lors_call_number(call, LAMBDA, 0) * sum;
    return fabs(coefficient - 1) <= 1e-12;
}

static lors_status check_plain(const lors_call *call)
{
    return lors_method_adds_nothing(call) ? LORS_OK
                                          : lors_method_check_normalize(call, WEIGHT, NORMALIZE);
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

const lors_method_def lors_method_task_arithmetic = {
    .info = {.name = "task_arithmetic",
             .summary = "base plus the weighted sum of task vectors",
             .formula = "W = W0 + lambda * sum_k weight_k (W_k - W0) [/ sum_k weight_k]",
             .paper = "Editing models with task arithmetic, arXiv 2212.04089",
             .needs_base = true,
             .min_models = 1,
             .scope = "every tensor",
             .cost = LORS_COST_ONE_PASS,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .check = check_plain,
    .is_base = lors_method_adds_nothing,
    .keeps_equal = keeps_equal,
    .sum = plain_sum,
};

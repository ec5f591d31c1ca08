/* linear.c - weighted average of the models themselves: sum w_k W_k / sum w_k.
 *
 * Source: model soups (Wortsman et al. 2022, arXiv 2203.05482). Sums in f64, one rounding.
 */
#include "method/method_table.h"

enum { WEIGHT, NORMALIZE };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(true, NULL, 0),
    {"normalize", LORS_PARAM_BOOL, false, false, 0, 1, false, "true", 1,
     "divide by the sum of the weights"},
};

static lors_status check(const lors_call *call)
{
    return lors_method_check_normalize(call, WEIGHT, NORMALIZE);
}

static lors_sum sum_of(const lors_call *call)
{
    double total = lors_method_weights(call, WEIGHT);
    bool normalize = lors_call_number(call, NORMALIZE, 0) != 0;
    return (lors_sum){.stack = call->stack,
                      .stride = call->stride,
                      .n_models = call->n_models,
                      .weights = call->weights,
                      .divisor = normalize ? LORS_DIVIDE_CONSTANT : LORS_DIVIDE_NOT,
                      .divisor_value = total,
                      .scale = 1};
}

const lors_method_def lors_method_linear = {
    .info = {.name = "linear",
             .summary = "weighted average of the models",
             .formula = "W = sum_k weight_k W_k / sum_k weight_k",
             .paper = "Model soups, arXiv 2203.05482",
             .min_models = 1,
             .base_is_model = true,
             .scope = "every tensor",
             .cost = LORS_COST_ONE_PASS,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .check = check,
    .sum = sum_of,
};

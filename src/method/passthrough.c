/* passthrough.c - the layers of one model as they are, or times a number.
 *
 * What puts slices of layers together: each slice has one source.
 */
#include "method/method_table.h"

enum { SCALE };

static const lors_param_info params[] = {
    {"scale", LORS_PARAM_NUMBER, true, false, -1e30, 1e30, false, "1", 1,
     "what the tensors are multiplied by"},
};

/* Is the tensor the model's own, to the byte? */
static bool is_unscaled(const lors_call *call)
{
    return lors_call_number(call, SCALE, 0) == 1;
}

static lors_sum sum_of(const lors_call *call)
{
    lors_method_weights(call, SCALE);
    return (lors_sum){.stack = call->stack,
                      .stride = call->stride,
                      .n_models = call->n_models,
                      .weights = call->weights,
                      .scale = 1};
}

const lors_method_def lors_method_passthrough = {
    .info = {.name = "passthrough",
             .summary = "layers of one model as they are, for recipes with slices",
             .formula = "W = scale W_1",
             .paper = "layer stacking, as in SOLAR 10.7B, arXiv 2312.15166",
             .min_models = 1,
             .max_models = 1,
             .base_is_model = true,
             .scope = "every tensor",
             .cost = LORS_COST_ONE_PASS,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .is_base = is_unscaled,
    .sum = sum_of,
};

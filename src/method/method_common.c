/* method_common.c - small pieces that several methods share. */
#include <math.h>

#include "base/error.h"
#include "method/method_table.h"

/* Two-sum, as in the backends: the order of the models does not matter. */
double lors_method_weights(const lors_call *call, int32_t param)
{
    double sum = 0, lost = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        double weight = lors_call_number(call, param, k), total = sum + weight, part = total - sum;
        call->weights[k] = weight;
        lost += (sum - (total - part)) + (weight - part);
        sum = total;
    }
    return sum + lost;
}

lors_status lors_method_check_normalize(const lors_call *call, int32_t weight, int32_t normalize)
{
    double sum = 0, magnitudes = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        sum += lors_call_number(call, weight, k);
        magnitudes += fabs(lors_call_number(call, weight, k));
    }
    if (lors_call_number(call, normalize, 0) == 0 || fabs(sum) > LORS_CANCELLED * magnitudes) {
        return LORS_OK;
    }
    return lors_fail(LORS_ERR_RECIPE,
                     "the weights sum to 0, so they cannot be normalized: change a "
                     "weight, or set normalize: false");
}

bool lors_method_any_weight(const lors_call *call, int32_t param)
{
    for (int32_t k = 0; k < call->n_models; k++) {
        if (lors_call_number(call, param, k) != 0) {
            return true;
        }
    }
    return false;
}

uint64_t lors_method_selection_bytes(const lors_call *call)
{
    return (uint64_t)call->n_models * call->ops->select_bytes(call->n_elements);
}

lors_selection lors_method_selection(const lors_call *call)
{
    return (lors_selection){call->state, call->n_elements, call->n_models};
}

uint64_t lors_method_keep_count(double density, uint64_t size)
{
    double count = floor(density * (double)size);
    return count >= (double)size ? size : (uint64_t)count;
}

static lors_sum sum_of_none(const lors_call *call)
{
    return (lors_sum){
        .stack = call->stack, .base = call->base, .stride = call->stride, .scale = 1};
}

const lors_method_def lors_method_convert = {
    .info = {.name = "convert", .summary = "the base in another storage type", .needs_base = true},
    .adds_to_base = true,
    .sum = sum_of_none,
};

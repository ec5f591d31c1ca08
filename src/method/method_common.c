/* method_common.c - small pieces that several methods share. */
#include <math.h>

#include "method/method_table.h"

double lors_method_weights(lors_call *call, int32_t param)
{
    double sum = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        call->weights[k] = lors_call_number(call, param, k);
        sum += call->weights[k];
    }
    return sum;
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

lors_view lors_method_selection(const lors_call *call, int32_t model)
{
    return lors_view_at(call->state, (uint64_t)model * call->ops->select_bytes(call->n_elements));
}

uint64_t lors_method_keep_count(double density, uint64_t size)
{
    double count = floor(density * (double)size);
    return count >= (double)size ? size : (uint64_t)count;
}

static lors_status apply_convert(lors_call *call)
{
    lors_sum sum = {.stack = call->stack, .stride = call->stride, .scale = 1};
    return call->ops->accumulate(call->backend, call->acc, &sum, call->count);
}

const lors_method_def lors_method_convert = {
    .info = {.name = "convert", .summary = "the base in another storage type", .needs_base = true},
    .adds_to_base = true,
    .apply = apply_convert,
};

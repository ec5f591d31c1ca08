/* method_common.c - small pieces that several methods share. */
#include <math.h>

#include "base/error.h"
#include "base/rng.h"
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

bool lors_method_adds_nothing(const lors_call *call)
{
    enum { WEIGHT, LAMBDA };
    bool any_weight = false;
    for (int32_t k = 0; k < call->n_models; k++) {
        any_weight = any_weight || lors_call_number(call, WEIGHT, k) != 0;
    }
    return lors_call_number(call, LAMBDA, 0) == 0 || !any_weight;
}

uint64_t lors_method_selection_bytes(const lors_call *call)
{
    return (uint64_t)call->n_models * call->ops->select_bytes(call->n_elements);
}

lors_selection lors_method_selection(const lors_call *call)
{
    return (lors_selection){call->state, call->n_elements, call->n_models, call->shared};
}

uint64_t lors_method_keep_count(double density, uint64_t size)
{
    double count = floor(density * (double)size);
    return count >= (double)size ? size : (uint64_t)count;
}

lors_status lors_method_take_values(lors_call *call)
{
    if (!call->base.memory) { /* they are task vectors already */
        call->values = call->stack;
        return LORS_OK;
    }
    return call->ops->subtract(call->queue, call->values, call->stack, call->stride, call->base, 0,
                               call->n_models, call->count);
}

double lors_method_tree_sum(const double *values, uint64_t n, int64_t step)
{
    if (n <= 4) {
        double sum = 0;
        for (uint64_t i = 0; i < n; i++) {
            sum += values[(int64_t)i * step];
        }
        return sum;
    }
    uint64_t half = n / 2;
    return lors_method_tree_sum(values, half, step) +
           lors_method_tree_sum(values + (int64_t)half * step, n - half, step);
}

uint64_t lors_method_blocks(const lors_call *call)
{
    return (call->n_elements + LORS_BLOCK - 1) / LORS_BLOCK;
}

uint64_t lors_method_model_key(const lors_call *call, int32_t model)
{
    lors_philox words = lors_philox_at(call->key, (uint64_t)model, 0x6d6f64656cu);
    return (uint64_t)words.word[1] << 32 | words.word[0];
}

static lors_sum sum_of_none(const lors_call *call)
{
    return (lors_sum){.stack = call->stack, .base = call->base, .stride = call->stride, .scale = 1};
}

const lors_method_def lors_method_convert = {
    .info = {.name = "convert", .summary = "the base in another storage type", .needs_base = true},
    .adds_to_base = true,
    .sum = sum_of_none,
};

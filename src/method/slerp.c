/* slerp.c - spherical interpolation between the base and one model, each tensor as one vector.
 *
 *   omega = angle(W0, W1);  W = sin((1-t) omega)/sin(omega) W0 + sin(t omega)/sin(omega) W1
 *
 * Where the two are nearly parallel or opposite (|cos| > 0.9995), or one is zero, the formula is
 * undefined or unstable and plain (1-t) W0 + t W1 is taken, as mergekit does.
 * Source: Shoemake 1985. Norms in f64 by a fixed tree; the angle once per tensor on the host.
 */
#include <math.h>

#include "method/method_table.h"

enum { T };

static const lors_param_info params[] = {
    {"t", LORS_PARAM_NUMBER, false, true, 0, 1, false, NULL, 0, "0 gives the base, 1 the model"},
};

static uint64_t block_count(uint64_t n)
{
    return (n + LORS_BLOCK - 1) / LORS_BLOCK;
}

static uint64_t state_bytes(const lors_call *call)
{
    return 3 * sizeof(double) * block_count(call->n_elements);
}

static lors_status survey(lors_call *call, int32_t pass)
{
    (void)pass;
    lors_view dots = lors_view_at(call->state, 3 * sizeof(double) * (call->first / LORS_BLOCK));
    return call->ops->reduce_dots(call->queue, dots, call->base, call->stack, call->count);
}

/* Pairwise sum of every third number: a fixed tree over the blocks. */
static double tree_sum(const double *dots, uint64_t n)
{
    if (n <= 4) {
        double sum = 0;
        for (uint64_t i = 0; i < n; i++) {
            sum += dots[3 * i];
        }
        return sum;
    }
    uint64_t half = n / 2;
    return tree_sum(dots, half) + tree_sum(dots + 3 * half, n - half);
}

static lors_status settle(lors_call *call, int32_t pass)
{
    (void)pass;
    const double *dots = call->state_on_host;
    uint64_t n = block_count(call->n_elements);
    double t = lors_call_number(call, T, 0);
    double aa = tree_sum(dots, n), ab = tree_sum(dots + 1, n), bb = tree_sum(dots + 2, n);
    double cosine = aa > 0 && bb > 0 ? ab / (sqrt(aa) * sqrt(bb)) : 1;
    call->constants[0] = 1 - t;
    call->constants[1] = t;
    if (fabs(cosine) <= 0.9995) {
        double omega = acos(cosine), sine = sin(omega);
        call->constants[0] = sin((1 - t) * omega) / sine;
        call->constants[1] = sin(t * omega) / sine;
    }
    return LORS_OK;
}

/* The base lies right before the model's slice, so that the two form a stack. */
static lors_status apply(lors_call *call)
{
    lors_sum sum = {.stack = call->base,
                    .stride = call->stride,
                    .n_models = 2,
                    .weights = call->constants,
                    .scale = 1};
    return call->ops->accumulate(call->queue, call->acc, &sum, call->count);
}

const lors_method_def lors_method_slerp = {
    .info = {.name = "slerp",
             .summary = "spherical interpolation between the base and one model",
             .formula = "omega = angle(W0, W1)\n"
                        "W = sin((1-t) omega)/sin(omega) W0 + sin(t omega)/sin(omega) W1\n"
                        "W = (1-t) W0 + t W1 where |cos(omega)| > 0.9995 or a norm is 0",
             .paper = "Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985",
             .needs_base = true,
             .min_models = 1,
             .max_models = 1,
             .scope = "every tensor",
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .settles_on_host = true,
    .n_surveys = 1,
    .state_bytes = state_bytes,
    .survey = survey,
    .settle = settle,
    .apply = apply,
};

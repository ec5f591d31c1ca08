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

static uint64_t state_bytes(const lors_call *call)
{
    return 3 * sizeof(double) * lors_method_blocks(call);
}

static int32_t surveys(const lors_call *call)
{
    (void)call;
    return 1;
}

/* The base lies right before the model's slice, so that the two form a stack. */
static lors_status survey(lors_call *call, int32_t pass)
{
    (void)pass;
    lors_view dots = lors_view_at(call->state, 3 * sizeof(double) * (call->first / LORS_BLOCK));
    return call->ops->gram(call->queue, dots, call->base, call->stride, 2, call->count);
}

/* mergekit's for norms that are all but zero: such a tensor is taken as it is. */
static double floored(double norm)
{
    return norm > 1e-8 ? norm : 1;
}

static lors_status settle(lors_call *call, int32_t pass)
{
    (void)pass;
    const double *dots = call->state_on_host;
    uint64_t n = lors_method_blocks(call);
    double t = lors_call_number(call, T, 0), cosine = 1;
    double a = sqrt(lors_method_tree_sum(dots, n, 3));
    double ab = lors_method_tree_sum(dots + 1, n, 3);
    double b = sqrt(lors_method_tree_sum(dots + 2, n, 3));
    if (call->compat) {
        cosine = ab / (floored(a) * floored(b));
    } else if (a > 0 && b > 0) {
        cosine = ab / (a * b);
    }
    call->constants[0] = 1 - t;
    call->constants[1] = t;
    if (fabs(cosine) <= 0.9995) {
        double omega = acos(cosine), sine = sin(omega);
        call->constants[0] = sin((1 - t) * omega) / sine;
        call->constants[1] = sin(t * omega) / sine;
    }
    return LORS_OK;
}

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
             .cost = LORS_COST_NORMS,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .surveys = surveys,
    .state_bytes = state_bytes,
    .settle_bytes = state_bytes,
    .survey = survey,
    .settle = settle,
    .apply = apply,
};

/* columns.c - methods that look at one element at a time, at what all models have there.
 *
 *   W = W0 + lambda * f(d_1 .. d_N),   d_k = weight_k (W_k - W0)
 *
 * ramplus_tl looks twice: how many elements of a tensor a model changes alone, and how many with
 * others, says by how much its own are scaled up.
 *
 * Sources: nearswap: mergekit; ram: arXiv 2601.13572, ramplus_tl: mergekit's RAM+ of it; magmax:
 * Marczak et al. 2024, arXiv 2407.06322; consensus: Wang et al. 2024 (TALL masks), arXiv
 * 2405.07813; emr: the unified task vector of Huang et al. 2024, arXiv 2405.17461.
 */
#include "method/method_table.h"

enum { WEIGHT, LAMBDA, FIRST }; /* where a method has weights; else its limit is first */

typedef struct row {
    lors_column_kind kind;
    bool has_weights;
    int32_t n_limits;
} row;

static bool is_base(const lors_call *call)
{
    const row *r = call->row;
    return r->has_weights && lors_method_adds_nothing(call);
}

static lors_status apply(lors_call *call)
{
    const row *r = call->row;
    int32_t first = r->has_weights ? FIRST : 0;
    lors_columns columns = {
        .kind = r->kind,
        .stack = call->stack,
        .base = call->base,
        .stride = call->stride,
        .n_models = call->n_models,
        .weights = call->weights,
        .scale = r->has_weights ? lors_call_number(call, LAMBDA, 0) : 1,
    };
    for (int32_t k = 0; k < call->n_models; k++) {
        call->weights[k] = r->has_weights ? lors_call_number(call, WEIGHT, k) : 1;
    }
    for (int32_t i = 0; i < r->n_limits; i++) {
        columns.limits[i] = lors_call_number(call, first + i, 0);
    }
    return call->ops->combine(call->queue, call->acc, &columns, call->count);
}

/* --- ramplus_tl ------------------------------------------------------------------------------- */

enum { R, ALPHA, EPSILON, N_COUNTS = 2 };

static lors_columns columns_of(const lors_call *call, const double *weights)
{
    return (lors_columns){.kind = LORS_COLUMN_SHARED,
                          .stack = call->stack,
                          .base = call->base,
                          .stride = call->stride,
                          .n_models = call->n_models,
                          .weights = weights,
                          .limits = {lors_call_number(call, EPSILON, 0)},
                          .scale = 1};
}

/* Of one model all elements are its own, and shared by none: the scale is 1. */
static int32_t plus_surveys(const lors_call *call)
{
    return call->n_models > 1 && lors_call_number(call, R, 0) != 0;
}

static uint64_t plus_state_bytes(const lors_call *call)
{
    uint64_t per_block = (uint64_t)call->n_models * N_COUNTS * sizeof(double);
    return plus_surveys(call) ? lors_method_blocks(call) * per_block : 0;
}

static lors_status plus_begin(lors_call *call)
{
    for (int32_t k = 0; k < call->n_models; k++) {
        call->constants[k] = 1;
    }
    return LORS_OK;
}

static lors_status plus_survey(lors_call *call, int32_t pass)
{
    (void)pass;
    uint64_t per_block = (uint64_t)call->n_models * N_COUNTS * sizeof(double);
    lors_columns columns = columns_of(call, NULL);
    return call->ops->count_active(call->queue,
                                   lors_view_at(call->state, call->first / LORS_BLOCK * per_block),
                                   &columns, call->count);
}

/* Without elements of its own no element is scaled. mergekit's least number of them is epsilon. */
static lors_status plus_settle(lors_call *call, int32_t pass)
{
    (void)pass;
    const double *counts = call->state_on_host;
    double r = lors_call_number(call, R, 0), alpha = lors_call_number(call, ALPHA, 0);
    double least = call->compat ? lors_call_number(call, EPSILON, 0) : 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        const double *own = counts + (int64_t)k * N_COUNTS;
        uint64_t n = lors_method_blocks(call);
        int64_t step = (int64_t)call->n_models * N_COUNTS;
        double all = lors_method_tree_sum(own, n, step);
        double alone = lors_method_tree_sum(own + 1, n, step);
        double share = alone > 0 ? (all - alone) / (alone > least ? alone : least) : 0;
        call->constants[k] = 1 + r * (share < alpha ? share : alpha);
    }
    return LORS_OK;
}

static lors_status plus_apply(lors_call *call)
{
    lors_columns columns = columns_of(call, call->constants);
    return call->ops->combine(call->queue, call->acc, &columns, call->count);
}

/* --- the table -------------------------------------------------------------------------------- */

#define PARAM_LIMIT(name, most, required, in_words, number, summary) \
    { \
        name, LORS_PARAM_NUMBER, false, required, 0, most, false, in_words, number, summary \
    }

static const lors_param_info nearswap_params[] = {
    PARAM_LIMIT("t", 1e30, true, NULL, 0, "how far an element may move from the base"),
};
static const lors_param_info ram_params[] = {
    PARAM_LIMIT("epsilon", 1e30, false, "1e-5", 1e-5, "a smaller change of an element is none"),
};
static const lors_param_info ramplus_params[] = {
    PARAM_LIMIT("r", 1e30, false, "0.1", 0.1,
                "how much a model's own elements grow by what it shares beside them"),
    PARAM_LIMIT("alpha", 1e30, false, "0.2", 0.2, "the most of shared to own elements that counts"),
    PARAM_LIMIT("epsilon", 1e30, false, "1e-5", 1e-5, "a smaller change of an element is none"),
};
static const lors_param_info plain_params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1", 1),
};
static const lors_param_info consensus_params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1", 1),
    PARAM_LIMIT("threshold", 1e30, false, "0.4", 0.4,
                "share of the other models' sum that a model's change must reach to count"),
    PARAM_LIMIT("agreeing", 256, false, "2", 2, "models that an element must count for"),
};

static const row nearswap = {LORS_COLUMN_CLAMP, false, 1}, ram = {LORS_COLUMN_ACTIVE, false, 1},
                 magmax = {LORS_COLUMN_LARGEST, true, 0}, emr = {LORS_COLUMN_ELECTED, true, 0},
                 consensus = {LORS_COLUMN_CONSENSUS, true, 2};

#define METHOD(called, in_short, how, published, its_row, its_params, most) \
    { \
        .info = {.name = called, \
                 .summary = in_short, \
                 .formula = how, \
                 .paper = published, \
                 .needs_base = true, \
                 .min_models = 1, \
                 .max_models = most, \
                 .scope = "every tensor", \
                 .cost = LORS_COST_ONE_PASS, \
                 .n_params = LORS_COUNT_OF(its_params), \
                 .params = its_params}, \
        .row = &its_row, .adds_to_base = true, .is_base = is_base, .apply = apply \
    }

const lors_method_def lors_method_nearswap =
    METHOD("nearswap", "every element goes towards the model, but no further than t",
           "W = W0 + d, d = W_1 - W0 limited to -t .. t", "mergekit", nearswap, nearswap_params, 1);

const lors_method_def lors_method_ram =
    METHOD("ram", "average each element over the models that changed it",
           "A = the k with |W_k - W0| > epsilon, per element\n"
           "W = W0 + mean over A of (W_k - W0), W0 where A is empty",
           "Reinforced Agent Merging, arXiv 2601.13572", ram, ram_params, 0);

const lors_method_def lors_method_ramplus_tl = {
    .info = {.name = "ramplus_tl",
             .summary = "as ram, but what one model alone changed grows by what it shares",
             .formula = "A = the k with |W_k - W0| > epsilon, per element\n"
                        "rho_k = shared_k / own_k: elements of the tensor with k and others in A,\n"
                        "with k alone\n"
                        "W = W0 + (1 + r * min(rho_k, alpha)) (W_k - W0) where A = {k}\n"
                        "W = W0 + mean over A of (W_k - W0) elsewhere, W0 where A is empty",
             .paper = "Reinforced Agent Merging, arXiv 2601.13572, tensor by tensor",
             .needs_base = true,
             .min_models = 1,
             .scope = "every tensor",
             .cost = "counts, then the elements: two passes",
             .n_params = LORS_COUNT_OF(ramplus_params),
             .params = ramplus_params},
    .adds_to_base = true,
    .surveys = plus_surveys,
    .state_bytes = plus_state_bytes,
    .settle_bytes = plus_state_bytes,
    .begin = plus_begin,
    .survey = plus_survey,
    .settle = plus_settle,
    .apply = plus_apply,
};

const lors_method_def lors_method_magmax = METHOD(
    "magmax", "of each element the largest change",
    "d_k = weight_k (W_k - W0); W = W0 + lambda * the d_k of largest magnitude, per element\n"
    "of two of the same magnitude the positive one",
    "MagMax, arXiv 2407.06322", magmax, plain_params, 0);

const lors_method_def lors_method_consensus =
    METHOD("consensus", "task arithmetic where at least some models need an element",
           "d_k = weight_k (W_k - W0); model k needs an element where d_k != 0 and\n"
           "|d_k| >= threshold * |sum_j d_j - d_k|\n"
           "W = W0 + lambda * sum_k d_k where at least `agreeing` models need it, else W0",
           "TALL masks, arXiv 2405.07813", consensus, consensus_params, 0);

const lors_method_def lors_method_emr =
    METHOD("emr", "of each element the largest change of the sign that wins (one output, no masks)",
           "d_k = weight_k (W_k - W0); s = sign(sum_k d_k)\n"
           "W = W0 + lambda * s * max |d_k| over the d_k of sign s, W0 where the sum is 0",
           "EMR-Merging, arXiv 2405.17461", emr, plain_params, 0);

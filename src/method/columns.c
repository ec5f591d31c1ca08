/* columns.c - methods that look at one element at a time, at what all models have there.
 *
 *   W = W0 + lambda * f(d_1 .. d_N),   d_k = weight_k (W_k - W0)
 *
 * Sources: nearswap: mergekit; ram: arXiv 2601.13572; magmax: Marczak et al. 2024, arXiv
 * 2407.06322; consensus: Wang et al. 2024 (TALL masks), arXiv 2405.07813; emr: the unified task
 * vector of Huang et al. 2024, arXiv 2405.17461.
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

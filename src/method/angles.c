/* angles.c - methods whose result is one linear combination of the models, its coefficients found
 * from their dot products alone: means on a sphere, and weights by norms and angles.
 *
 *   W = [W0 +] sum_k c_k x_k,   x_k = W_k, or W_k - W0 where there is a base
 *
 * One pass over the tensor gives the dot products (f64, fixed blocks), the host finds the c_k, a
 * second pass adds. However many iterations a method takes, they are on numbers, not on tensors:
 * all points that it visits are combinations of the x_k.
 * Sources: nuslerp, multislerp: mergekit; karcher: Karcher 1977 and arXiv 2603.04972; model_stock:
 * Jang et al. 2024, arXiv 2403.19522; metagpt: Zhou et al. 2024, arXiv 2406.11385;
 * geometric_median: Weiszfeld 1937, Vardi and Zhang 2000.
 */
#include <math.h>

#include "base/error.h"
#include "method/angles.h"

typedef struct row {
    lors_angles_fn *coefficients;
} row;

/* --- products --------------------------------------------------------------------------------- */

static int64_t pair_count(const lors_call *call)
{
    return (int64_t)call->n_models * (call->n_models + 1) / 2;
}

static uint64_t state_bytes(const lors_call *call)
{
    return lors_method_blocks(call) * (uint64_t)pair_count(call) * sizeof(double);
}

static int32_t surveys(const lors_call *call)
{
    return call->n_models > 1;
}

static lors_status survey(lors_call *call, int32_t pass)
{
    (void)pass;
    uint64_t per_block = (uint64_t)pair_count(call) * sizeof(double);
    lors_view dots = lors_view_at(call->state, call->first / LORS_BLOCK * per_block);
    if (call->has_base) {
        LORS_TRY(lors_method_take_values(call));
    }
    return call->ops->gram(call->queue, dots, call->has_base ? call->values : call->stack,
                           call->stride, call->n_models, call->count);
}

/* Where the partial products of a vector lie in the state: those of one pair, and of one block
 * after another, are so far apart. */
typedef struct partials {
    int64_t first, pair_step, block_step;
    uint64_t n_blocks;
} partials;

static void take_products(const lors_call *call, partials of, lors_products *p)
{
    const double *dots = (const double *)call->state_on_host + of.first;
    p->n = call->n_models;
    for (int32_t i = 0; i < p->n; i++) {
        for (int32_t j = i; j < p->n; j++, dots += of.pair_step) {
            p->of[i][j] = p->of[j][i] = lors_method_tree_sum(dots, of.n_blocks, of.block_step);
        }
        p->norm[i] = sqrt(p->of[i][i]);
    }
}

/* Of a vector that is not all numbers none is known: NaN is not lost. */
static void find_coefficients(const lors_call *call, partials of, double *c)
{
    lors_products p;
    bool finite = true;
    take_products(call, of, &p);
    for (int32_t k = 0; k < p.n; k++) {
        finite = finite && isfinite(p.norm[k]);
    }
    ((const row *)call->row)->coefficients(call, &p, c);
    for (int32_t k = 0; k < p.n && !finite; k++) {
        c[k] = NAN;
    }
}

static lors_status settle(lors_call *call, int32_t pass)
{
    (void)pass;
    find_coefficients(call, (partials){0, 1, pair_count(call), lors_method_blocks(call)},
                      call->constants);
    return LORS_OK;
}

/* A single model is itself: its coefficient is 1. */
static lors_status begin(lors_call *call)
{
    call->constants[0] = 1;
    return LORS_OK;
}

static lors_sum sum_of(const lors_call *call)
{
    return (lors_sum){.stack = call->stack,
                      .base = call->base,
                      .stride = call->stride,
                      .n_models = call->n_models,
                      .weights = call->constants,
                      .scale = 1};
}

/* Asked for when the coefficients are known. What all models agree on is theirs where they sum
 * to 1. */
static bool all_sum_to_one(const lors_call *call, int64_t n, int64_t step, int64_t model_step)
{
    bool all = true;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int32_t k = 0; k < call->n_models; k++) {
            sum += call->constants[i * step + k * model_step];
        }
        all = all && fabs(sum - 1) <= 1e-12;
    }
    return all;
}

static bool keeps_equal(const lors_call *call)
{
    return all_sum_to_one(call, 1, 0, 1);
}

/* --- the same with an angle for every row ----------------------------------------------------- */

static uint64_t row_blocks(const lors_call *call)
{
    return ((uint64_t)call->n_cols + LORS_BLOCK - 1) / LORS_BLOCK;
}

static uint64_t rows_state_bytes(const lors_call *call)
{
    return (uint64_t)call->n_rows * row_blocks(call) * (uint64_t)pair_count(call) * sizeof(double);
}

static lors_status survey_rows(lors_call *call, int32_t pass)
{
    (void)pass;
    uint64_t per_row = row_blocks(call) * (uint64_t)pair_count(call) * sizeof(double);
    uint64_t first = call->n_cols > 0 ? call->first / (uint64_t)call->n_cols : 0;
    if (call->has_base) {
        LORS_TRY(lors_method_take_values(call));
    }
    lors_view x = call->has_base ? call->values : call->stack;
    for (int64_t at = 0; at < call->count; at += call->n_cols) {
        LORS_TRY(call->ops->gram(call->queue, lors_view_at(call->state, first++ * per_row),
                                 lors_view_at(x, (uint64_t)at * sizeof(float)), call->stride,
                                 call->n_models, call->n_cols));
    }
    return LORS_OK;
}

static lors_status settle_rows(lors_call *call, int32_t pass)
{
    (void)pass;
    int64_t n_pairs = pair_count(call), per_row = (int64_t)row_blocks(call) * n_pairs;
    for (int64_t i = 0; i < call->n_rows; i++) {
        find_coefficients(call, (partials){i * per_row, 1, n_pairs, row_blocks(call)},
                          call->constants + i * call->n_models);
    }
    return LORS_OK;
}

static lors_status apply_rows(lors_call *call)
{
    int64_t first = call->n_cols > 0 ? (int64_t)call->first / call->n_cols : 0;
    for (int64_t at = 0; at < call->count; at += call->n_cols) {
        uint64_t offset = (uint64_t)at * sizeof(float);
        lors_sum sum = sum_of(call);
        sum.stack = lors_view_at(call->stack, offset);
        sum.base = call->base.memory ? lors_view_at(call->base, offset) : LORS_NO_VIEW;
        sum.weights = call->constants + first++ * call->n_models;
        LORS_TRY(call->ops->accumulate(call->queue,
                                       lors_view_at(call->acc, (uint64_t)at * sizeof(double)), &sum,
                                       call->n_cols));
    }
    return LORS_OK;
}

static bool rows_keep_equal(const lors_call *call)
{
    return all_sum_to_one(call, call->n_rows, call->n_models, 1);
}

/* --- the same with an angle for every column -------------------------------------------------- */

static uint64_t row_groups(const lors_call *call)
{
    return ((uint64_t)call->n_rows + LORS_ROW_GROUP - 1) / LORS_ROW_GROUP;
}

static uint64_t columns_state_bytes(const lors_call *call)
{
    uint64_t n_cols = (uint64_t)call->n_cols;
    return row_groups(call) * (uint64_t)pair_count(call) * n_cols * sizeof(double);
}

/* Tiles hold whole groups of rows, so that no sum depends on them. */
static lors_status survey_columns(lors_call *call, int32_t pass)
{
    (void)pass;
    uint64_t group = call->first / (uint64_t)(LORS_ROW_GROUP * call->n_cols);
    uint64_t per_group = (uint64_t)(pair_count(call) * call->n_cols) * sizeof(double);
    if (call->has_base) {
        LORS_TRY(lors_method_take_values(call));
    }
    return call->ops->gram_columns(call->queue, lors_view_at(call->state, group * per_group),
                                   call->has_base ? call->values : call->stack, call->stride,
                                   call->n_models, call->count / call->n_cols, call->n_cols);
}

static lors_status settle_columns(lors_call *call, int32_t pass)
{
    (void)pass;
    double c[LORS_ANGLES_MOST];
    int64_t n_cols = call->n_cols;
    for (int64_t i = 0; i < n_cols; i++) {
        find_coefficients(call, (partials){i, n_cols, pair_count(call) * n_cols, row_groups(call)},
                          c);
        for (int32_t k = 0; k < call->n_models; k++) {
            call->constants[k * n_cols + i] = c[k];
        }
    }
    return LORS_OK;
}

static bool columns_keep_equal(const lors_call *call)
{
    return all_sum_to_one(call, call->n_cols, 1, call->n_cols);
}

static lors_status apply_columns(lors_call *call)
{
    lors_column_sum sum = {.stack = call->stack,
                           .base = call->base,
                           .stride = call->stride,
                           .n_models = call->n_models,
                           .weights = call->constants,
                           .n_rows = call->count / call->n_cols,
                           .n_cols = call->n_cols};
    return call->ops->accumulate_columns(call->queue, call->acc, &sum);
}

static const lors_method_def nuslerp_by_rows, nuslerp_by_columns, model_stock_by_rows;

/* What is one row, as vectors are, is one vector either way. */
static const lors_method_def *nuslerp_instead(const lors_call *call)
{
    bool by_columns = lors_call_number(call, 2, 0) != 0 && call->n_rows > 1;
    return lors_call_number(call, 1, 0) != 0 ? NULL
           : by_columns                      ? &nuslerp_by_columns
                                             : &nuslerp_by_rows;
}

static lors_status check_multislerp(const lors_call *call)
{
    return lors_method_check_normalize(call, 0, 1);
}

static lors_status check_karcher(const lors_call *call)
{
    double sum = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        double weight = lors_call_number(call, 0, k);
        sum += weight;
        if (weight < 0) {
            return lors_fail(LORS_ERR_RECIPE, "a weight of a mean on a sphere may not be negative");
        }
    }
    return sum > 0 ? LORS_OK
                   : lors_fail(LORS_ERR_RECIPE, "all weights are 0: give one of the models some");
}

static const lors_method_def *model_stock_instead(const lors_call *call)
{
    return lors_call_number(call, 0, 0) == 0 ? NULL : &model_stock_by_rows;
}

/* A single model: its share is all. */
static lors_status begin_metagpt(lors_call *call)
{
    call->constants[0] = lors_call_number(call, 0, 0);
    return LORS_OK;
}

static bool metagpt_is_base(const lors_call *call)
{
    return lors_call_number(call, 0, 0) == 0;
}

/* --- the table -------------------------------------------------------------------------------- */

#define PARAM_STEPS(name, number, in_words) \
    { \
        name, LORS_PARAM_NUMBER, false, false, 0, 1e6, false, in_words, number, \
            "the most iterations" \
    }
#define PARAM_TOLERANCE(name, number, in_words, summary) \
    { \
        name, LORS_PARAM_NUMBER, false, false, 0, 1, true, in_words, number, summary \
    }
#define PARAM_FLAG(name, number, in_words, summary) \
    { \
        name, LORS_PARAM_BOOL, false, false, 0, 1, false, in_words, number, summary \
    }

static const lors_param_info nuslerp_params[] = {
    LORS_PARAM_WEIGHT(true, NULL, 0),
    PARAM_FLAG("nuslerp_flatten", 1, "true", "each tensor is one vector; false: each of its rows"),
    PARAM_FLAG("nuslerp_row_wise", 0, "false",
               "with nuslerp_flatten: false: each of its columns"),
};
static const lors_param_info multislerp_params[] = {
    LORS_PARAM_WEIGHT(true, NULL, 0),
    PARAM_FLAG("normalize_weights", 1, "true", "divide the weights by their sum"),
    PARAM_TOLERANCE("eps", 1e-8, "1e-8", "norm of the mean direction below which it is undefined"),
};
static const lors_param_info karcher_params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    PARAM_STEPS("max_iter", 10, "10"),
    PARAM_TOLERANCE("tol", 1e-5, "1e-5", "radians: a shorter step is the last"),
};
static const lors_param_info model_stock_params[] = {
    PARAM_FLAG("filter_wise", 0, "false", "each row of a tensor is one vector, not all of it"),
};
static const lors_param_info metagpt_params[] = {LORS_PARAM_LAMBDA("1", 1)};
static const lors_param_info geometric_median_params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    PARAM_STEPS("max_iter", 1000, "1000"),
    PARAM_TOLERANCE("tol", 1e-9, "1e-9", "change of the coefficients: a smaller one is the last"),
};

static const row nuslerp_row = {lors_angles_nuslerp}, multislerp_row = {lors_angles_multislerp},
                 karcher_row = {lors_angles_karcher}, model_stock_row = {lors_angles_model_stock},
                 metagpt_row = {lors_angles_metagpt},
                 geometric_median_row = {lors_angles_geometric_median};

#define COMMON(its_row) \
    .row = &its_row, .adds_to_base = true, .uses = LORS_USES_VALUES, .surveys = surveys, \
    .state_bytes = state_bytes, .settle_bytes = state_bytes, .survey = survey, .settle = settle, \
    .sum = sum_of

#define NUSLERP_INFO \
    { \
        .name = "nuslerp", \
        .summary = "spherical interpolation between two models, or two task vectors", \
        .formula = "x_k = W_k, or W_k - W0 with a base; t = weight_2 / (weight_1 + weight_2)\n" \
                   "omega = angle(x_1, x_2)\n" \
                   "W = [W0 +] sin((1-t) omega)/sin(omega) x_1 + sin(t omega)/sin(omega) x_2\n" \
                   "W = [W0 +] (1-t) x_1 + t x_2 where sin(omega) < 1e-8 or an x_k is 0", \
        .paper = "mergekit; Shoemake 1985", .takes_base = true, .min_models = 2, .max_models = 2, \
        .scope = "every tensor", .cost = LORS_COST_NORMS, \
        .n_params = LORS_COUNT_OF(nuslerp_params), .params = nuslerp_params \
    }

const lors_method_def lors_method_nuslerp = {
    .info = NUSLERP_INFO,
    COMMON(nuslerp_row),
    .instead = nuslerp_instead,
    .keeps_equal = keeps_equal,
};

const lors_method_def lors_method_multislerp = {
    .info = {.name = "multislerp",
             .summary = "the mean direction of models or task vectors, at their mean norm",
             .formula = "x_k = W_k, or W_k - W0 with a base; u_k = x_k / |x_k|\n"
                        "m = sum_k weight_k u_k / |sum_k weight_k u_k|\n"
                        "W = [W0 +] m sum_k weight_k |x_k|",
             .paper = "mergekit (whose step in the tangent space is 0)",
             .takes_base = true,
             .min_models = 1,
             .max_models = LORS_ANGLES_MOST,
             .scope = "every tensor",
             .cost = LORS_COST_NORMS,
             .n_params = LORS_COUNT_OF(multislerp_params),
             .params = multislerp_params},
    COMMON(multislerp_row),
    .check = check_multislerp,
    .begin = begin,
    .keeps_equal = keeps_equal,
};

const lors_method_def lors_method_karcher = {
    .info = {.name = "karcher",
             .summary = "the mean of models on the sphere, at their mean norm",
             .formula =
                 "u_k = W_k / |W_k|; u = the point with the least sum_k weight_k angle(u, u_k)^2\n"
                 "W = u sum_k weight_k |W_k| / sum_k weight_k",
             .paper = "Karcher 1977; Karcher mean merging, arXiv 2603.04972",
             .min_models = 1,
             .max_models = LORS_ANGLES_MOST,
             .base_is_model = true,
             .compat_base_joins = true,
             .scope = "every tensor",
             .cost = LORS_COST_NORMS,
             .n_params = LORS_COUNT_OF(karcher_params),
             .params = karcher_params},
    COMMON(karcher_row),
    .check = check_karcher,
    .begin = begin,
    .keeps_equal = keeps_equal,
};

#define MODEL_STOCK_INFO \
    { \
        .name = "model_stock", \
        .summary = "from the base towards the mean of the models, as far as their angles say", \
        .formula = "c = mean over i < j of cos(W_i - W0, W_j - W0); t = N c / (1 + (N - 1) c)\n" \
                   "W = W0 + t (mean_k W_k - W0), t limited to 0 .. 1", \
        .paper = "Model Stock, arXiv 2403.19522", .needs_base = true, .min_models = 2, \
        .max_models = LORS_ANGLES_MOST, .scope = "every tensor", .cost = LORS_COST_NORMS, \
        .n_params = LORS_COUNT_OF(model_stock_params), .params = model_stock_params \
    }

const lors_method_def lors_method_model_stock = {
    .info = MODEL_STOCK_INFO,
    COMMON(model_stock_row),
    .instead = model_stock_instead,
    .keeps_equal = keeps_equal,
};

const lors_method_def lors_method_metagpt = {
    .info = {.name = "metagpt",
             .summary = "task vectors weighted by their squared norms, tensor by tensor",
             .formula = "weight_k = |W_k - W0|^2 / sum_j |W_j - W0|^2\n"
                        "W = W0 + lambda * sum_k weight_k (W_k - W0)",
             .paper = "MetaGPT, arXiv 2406.11385 (which takes the norms of whole models)",
             .needs_base = true,
             .min_models = 1,
             .max_models = LORS_ANGLES_MOST,
             .scope = "every tensor",
             .cost = LORS_COST_NORMS,
             .n_params = LORS_COUNT_OF(metagpt_params),
             .params = metagpt_params},
    COMMON(metagpt_row),
    .begin = begin_metagpt,
    .is_base = metagpt_is_base,
    .keeps_equal = keeps_equal,
};

const lors_method_def lors_method_geometric_median = {
    .info = {.name = "geometric_median",
             .summary = "the point with the least sum of distances from the models",
             .formula = "W = the W with the least sum_k weight_k |W - W_k|, each tensor one vector",
             .paper = "Weiszfeld 1937",
             .takes_base = true,
             .min_models = 1,
             .max_models = LORS_ANGLES_MOST,
             .scope = "every tensor",
             .cost = LORS_COST_NORMS,
             .n_params = LORS_COUNT_OF(geometric_median_params),
             .params = geometric_median_params},
    COMMON(geometric_median_row),
    .check = check_karcher,
    .begin = begin,
    .keeps_equal = keeps_equal,
};

#define BY_ROWS(its_row, its_info) \
    { \
        .info = its_info, .row = &its_row, .adds_to_base = true, .by_rows = true, \
        .uses = LORS_USES_VALUES, .surveys = surveys, .state_bytes = rows_state_bytes, \
        .settle_bytes = rows_state_bytes, .survey = survey_rows, .settle = settle_rows, \
        .apply = apply_rows, .keeps_equal = rows_keep_equal \
    }

static const lors_method_def nuslerp_by_rows = BY_ROWS(nuslerp_row, NUSLERP_INFO);
static const lors_method_def nuslerp_by_columns = {
    .info = NUSLERP_INFO,
    .row = &nuslerp_row,
    .adds_to_base = true,
    .by_columns = true,
    .uses = LORS_USES_VALUES,
    .surveys = surveys,
    .state_bytes = columns_state_bytes,
    .settle_bytes = columns_state_bytes,
    .survey = survey_columns,
    .settle = settle_columns,
    .apply = apply_columns,
    .keeps_equal = columns_keep_equal,
};
static const lors_method_def model_stock_by_rows = BY_ROWS(model_stock_row, MODEL_STOCK_INFO);

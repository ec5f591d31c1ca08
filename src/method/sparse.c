/* sparse.c - sums of sparse task vectors, a family of which each method is a row.
 *
 *   T_k = what is kept of W_k - W0, rescaled;  W = W0 + lambda * sum_k weight_k T_k [/ weights]
 *
 * What is kept: the largest magnitudes (ties: Yadav et al. 2023, arXiv 2306.01708), all but the
 * very largest and the small ones (breadcrumbs: Davari and Belilovsky 2023, arXiv 2312.06795), each
 * with the same probability (dare: Yu et al. 2023, arXiv 2311.03099), each with a probability that
 * grows with its rank in its row (della: Deep et al. 2024, arXiv 2406.11617). Rows that elect keep,
 * per element, only the terms of the sign that their sum has.
 */
#include <math.h>

#include "base/error.h"
#include "method/sparse.h"

enum { WEIGHT, LAMBDA, NORMALIZE, DENSITY, RESCALE, SPREAD };

typedef lors_sparse_row row;

static const row *row_of(const lors_call *call)
{
    return call->row;
}

static bool selects(const lors_call *call)
{
    return row_of(call)->keeping <= LORS_KEEP_WINDOW;
}

#define PARAM_NORMALIZE(in_words, number, summary) \
    { \
        "normalize", LORS_PARAM_BOOL, false, false, 0, 1, false, in_words, number, summary \
    }
#define PARAM_RESCALE(in_words, number, summary) \
    { \
        "rescale", LORS_PARAM_BOOL, false, false, 0, 1, false, in_words, number, summary \
    }
#define BY_AGREEING "divide, per element, by the weights of the models that agree"
#define BY_ALL "divide by the sum of the weights"
#define TO_OLD_NORM "scale what is kept to the sum of magnitudes before"
#define BY_PROBABILITY \
    "divide what is kept by its probability (compat: scale to the sum of " \
    "magnitudes before)"

static const lors_param_info ties_params[] = {
    LORS_PARAM_WEIGHT(true, NULL, 0),
    LORS_PARAM_LAMBDA("1", 1),
    PARAM_NORMALIZE("true", 1, BY_AGREEING),
    LORS_PARAM_DENSITY("share of each task vector that is kept, largest magnitudes first"),
    PARAM_RESCALE("false", 0, TO_OLD_NORM),
};

#define PARAM_GAMMA \
    { \
        "gamma", LORS_PARAM_NUMBER, true, false, 0, 1, false, "0.01", 0.01, \
            "share of the largest magnitudes that is left out, less if density asks for it" \
    }
#define BREADCRUMBS_PARAMS(by) \
    { \
        LORS_PARAM_WEIGHT(true, NULL, 0), LORS_PARAM_LAMBDA("1", 1), \
            PARAM_NORMALIZE("false", 0, by), \
            LORS_PARAM_DENSITY("share of each task vector that is kept, after the largest"), \
            PARAM_RESCALE("false", 0, TO_OLD_NORM), PARAM_GAMMA, \
    }
static const lors_param_info breadcrumbs_params[] = BREADCRUMBS_PARAMS(BY_ALL);
static const lors_param_info breadcrumbs_ties_params[] = BREADCRUMBS_PARAMS(BY_AGREEING);

#define DARE_PARAMS(by) \
    { \
        LORS_PARAM_WEIGHT(true, NULL, 0), LORS_PARAM_LAMBDA("1", 1), \
            PARAM_NORMALIZE("false", 0, by), \
            LORS_PARAM_DENSITY("probability that an entry of a task vector is kept"), \
            PARAM_RESCALE("true", 1, BY_PROBABILITY), \
    }
static const lors_param_info dare_linear_params[] = DARE_PARAMS(BY_ALL);
static const lors_param_info dare_ties_params[] = DARE_PARAMS(BY_AGREEING);

#define PARAM_EPSILON \
    { \
        "epsilon", LORS_PARAM_NUMBER, true, false, 0, 1, false, "0.15", 0.15, \
            "from density - epsilon for the smallest of a row to density + epsilon" \
    }
#define DELLA_PARAMS(in_words, number, by) \
    { \
        LORS_PARAM_WEIGHT(true, NULL, 0), LORS_PARAM_LAMBDA("1", 1), \
            PARAM_NORMALIZE(in_words, number, by), \
            LORS_PARAM_DENSITY("mean probability that an entry of a task vector is kept"), \
            PARAM_RESCALE("true", 1, BY_PROBABILITY), PARAM_EPSILON, \
    }
static const lors_param_info della_params[] = DELLA_PARAMS("true", 1, BY_AGREEING);
static const lors_param_info della_linear_params[] = DELLA_PARAMS("false", 0, BY_ALL);

/* --- what the parameters say ------------------------------------------------------------------ */

static double density_of(const lors_call *call, int32_t k)
{
    return lors_call_number(call, DENSITY, k);
}

static bool is_dense(const lors_call *call)
{
    for (int32_t k = 0; k < call->n_models; k++) {
        if (density_of(call, k) < 1) {
            return false;
        }
    }
    return true;
}

static bool rescales(const lors_call *call)
{
    return lors_call_number(call, RESCALE, 0) != 0 && !is_dense(call);
}

/* To the sum of magnitudes before, which has to be measured first. */
static bool rescales_to_norm(const lors_call *call)
{
    return rescales(call) && (call->compat || selects(call));
}

/* The values themselves, by probabilities that differ. */
static bool divides(const lors_call *call)
{
    return rescales(call) && !call->compat && row_of(call)->keeping == LORS_KEEP_RANKED;
}

static const lors_method_def *instead(const lors_call *call)
{
    return is_dense(call) && !row_of(call)->elects ? &lors_method_task_arithmetic : NULL;
}

/* With everything kept and all weights of one sign, equal task vectors always win the election. */
static bool keeps_equal(const lors_call *call)
{
    double sum = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        double weight = lors_call_number(call, WEIGHT, k);
        if (weight < 0) {
            return false;
        }
        sum += weight;
    }
    double coefficient =
        lors_call_number(call, LAMBDA, 0) * (lors_call_number(call, NORMALIZE, 0) != 0 ? 1 : sum);
    return is_dense(call) && fabs(coefficient - 1) <= 1e-12;
}

lors_status lors_sparse_check(const lors_call *call)
{
    for (int32_t k = 0; k < call->n_models && row_of(call)->keeping == LORS_KEEP_RANKED; k++) {
        double density = density_of(call, k),
               epsilon = lors_call_number(call, row_of(call)->spread, k);
        bool inside = density - epsilon > 0 && density + epsilon < 1;
        if (call->compat && density > 0 && density < 1 && !inside) {
            return lors_fail(LORS_ERR_RECIPE,
                             "density %g with epsilon %g leaves the range 0 to 1: choose a smaller "
                             "epsilon, or leave out `compat`, which would cut the probabilities",
                             density, epsilon);
        }
    }
    return lors_method_adds_nothing(call) || row_of(call)->elects
               ? LORS_OK
               : lors_method_check_normalize(call, WEIGHT, NORMALIZE);
}

/* Entries kept of model k, where they are counted. */
static uint64_t kept_count(const lors_call *call, int32_t k)
{
    uint64_t count = lors_method_keep_count(density_of(call, k), call->n_elements);
    bool at_least_one =
        call->compat && row_of(call)->keeping == LORS_KEEP_LARGEST && density_of(call, k) > 0;
    return count == 0 && at_least_one ? 1 : count;
}

/* The very largest of them, which are left out: fewer, where density asks for more. */
static uint64_t dropped_count(const lors_call *call, int32_t k)
{
    uint64_t kept = kept_count(call, k), left = call->n_elements - kept;
    uint64_t dropped =
        lors_method_keep_count(lors_call_number(call, row_of(call)->spread, k), call->n_elements);
    return kept == 0 ? 0 : dropped < left ? dropped : left;
}

/* --- state: sums of magnitudes, then the selections ------------------------------------------- */

enum { N_SUMS = 4 }; /* of `measure` */

uint64_t lors_sparse_settle_bytes(const lors_call *call)
{
    return rescales_to_norm(call)
               ? lors_method_blocks(call) * (uint64_t)call->n_models * N_SUMS * sizeof(double)
               : 0;
}

static uint64_t selections_at(const lors_call *call)
{
    return lors_view_padded(lors_sparse_settle_bytes(call));
}

uint64_t lors_sparse_state_bytes(const lors_call *call)
{
    uint64_t n_selections = !selects(call) || is_dense(call)            ? 0
                            : row_of(call)->keeping == LORS_KEEP_WINDOW ? 2
                                                                        : 1;
    return selections_at(call) + n_selections * lors_method_selection_bytes(call);
}

/* The largest, or (1) those of them that are left out. */
static lors_selection selection_of(const lors_call *call, uint64_t which)
{
    lors_selection selection = lors_method_selection(call);
    selection.state = lors_view_at(selection.state,
                                   selections_at(call) + which * lors_method_selection_bytes(call));
    return selection;
}

static int32_t surveys(const lors_call *call)
{
    if (is_dense(call)) {
        return 0;
    }
    return (selects(call) ? LORS_SELECT_PASSES : 0) + rescales_to_norm(call);
}

static lors_status begin(lors_call *call)
{
    uint64_t kept[LORS_MAX_MODELS], dropped[LORS_MAX_MODELS];
    bool window = row_of(call)->keeping == LORS_KEEP_WINDOW;
    lors_selection largest = selection_of(call, 0), very_largest = selection_of(call, 1);
    for (int32_t k = 0; k < call->n_models; k++) {
        call->constants[k] = 1;
        if (selects(call)) {
            call->results[k].has_kept = true;
            call->results[k].n_kept = kept_count(call, k);
            dropped[k] = window ? dropped_count(call, k) : 0;
            kept[k] = kept_count(call, k) + dropped[k];
        } else if (rescales(call) && !call->compat && row_of(call)->keeping == LORS_KEEP_RANDOM &&
                   density_of(call, k) > 0) {
            call->constants[k] = 1 / density_of(call, k);
        }
    }
    if (!selects(call) || is_dense(call)) {
        return LORS_OK;
    }
    LORS_TRY(call->ops->select_begin(call->queue, &largest, kept));
    return window ? call->ops->select_begin(call->queue, &very_largest, dropped) : LORS_OK;
}

/* --- what is kept ----------------------------------------------------------------------------- */

static lors_view slice_of(const lors_call *call, lors_view stack, int32_t k, size_t element)
{
    return lors_view_at(stack, (uint64_t)(k * call->stride) * element);
}

static lors_status keep_counted(lors_call *call)
{
    lors_selection largest = selection_of(call, 0), very_largest = selection_of(call, 1);
    LORS_TRY(call->ops->keep_top(call->queue, &largest, call->masks, call->values, call->stride,
                                 call->first, call->count));
    if (row_of(call)->keeping != LORS_KEEP_WINDOW) {
        return LORS_OK;
    }
    return call->ops->drop_top(call->queue, &very_largest, call->masks, call->values, call->stride,
                               call->first, call->count);
}

static lors_status keep_drawn(lors_call *call, int32_t k)
{
    const lors_backend_ops *ops = call->ops;
    double density = density_of(call, k);
    uint64_t key = lors_method_model_key(call, k);
    lors_view mask = slice_of(call, call->masks, k, 1);
    if (row_of(call)->keeping == LORS_KEEP_RANDOM || density >= 1 || density <= 0) {
        return ops->keep_random(call->queue, mask, key, density, call->first, call->count);
    }
    lors_ranking ranking = {key, density, lors_call_number(call, row_of(call)->spread, k),
                            divides(call)};
    return ops->keep_ranked(call->queue, mask, slice_of(call, call->values, k, sizeof(float)),
                            &ranking, call->first, call->count / call->n_cols, call->n_cols,
                            call->scratch);
}

/* Task vectors into call->values, what is kept of them into call->masks. */
static lors_status sparsify(lors_call *call)
{
    LORS_TRY(lors_method_take_values(call));
    if (selects(call)) {
        return keep_counted(call);
    }
    for (int32_t k = 0; k < call->n_models; k++) {
        LORS_TRY(keep_drawn(call, k));
    }
    return LORS_OK;
}

static lors_status survey(lors_call *call, int32_t pass)
{
    if (!selects(call) || pass == LORS_SELECT_PASSES) {
        uint64_t per_block = (uint64_t)call->n_models * N_SUMS * sizeof(double);
        lors_view sums = lors_view_at(call->state, call->first / LORS_BLOCK * per_block);
        LORS_TRY(sparsify(call));
        return call->ops->measure(call->queue, sums, call->values, call->masks, call->stride,
                                  call->n_models, call->count);
    }
    lors_selection largest = selection_of(call, 0), very_largest = selection_of(call, 1);
    LORS_TRY(lors_method_take_values(call));
    LORS_TRY(call->ops->select_count(call->queue, &largest, pass, call->values, call->stride,
                                     call->first, call->count));
    if (row_of(call)->keeping != LORS_KEEP_WINDOW) {
        return LORS_OK;
    }
    return call->ops->select_count(call->queue, &very_largest, pass, call->values, call->stride,
                                   call->first, call->count);
}

static void settle_factors(lors_call *call)
{
    const double *sums = call->state_on_host;
    int64_t step = (int64_t)call->n_models * N_SUMS;
    uint64_t n_blocks = lors_method_blocks(call);
    double least = call->compat ? 1e-7 : 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        double all = lors_method_tree_sum(sums + k * N_SUMS, n_blocks, step);
        double kept = lors_method_tree_sum(sums + k * N_SUMS + 1, n_blocks, step);
        bool counts = all > least && kept > least && isfinite(all);
        call->constants[k] = counts ? all / kept : 1;
    }
}

static lors_status settle(lors_call *call, int32_t pass)
{
    if (!selects(call) || pass == LORS_SELECT_PASSES) {
        settle_factors(call);
        return LORS_OK;
    }
    lors_selection largest = selection_of(call, 0), very_largest = selection_of(call, 1);
    LORS_TRY(call->ops->select_settle(call->queue, &largest, pass));
    return row_of(call)->keeping == LORS_KEEP_WINDOW
               ? call->ops->select_settle(call->queue, &very_largest, pass)
               : LORS_OK;
}

/* --- the sum ---------------------------------------------------------------------------------- */

static lors_status apply(lors_call *call)
{
    double shares[LORS_MAX_MODELS], total = lors_method_weights(call, WEIGHT);
    bool normalizes = lors_call_number(call, NORMALIZE, 0) != 0, dense = is_dense(call);
    lors_sum sum = {.stack = call->stack,
                    .base = call->base,
                    .stride = call->stride,
                    .n_models = call->n_models,
                    .weights = call->weights,
                    .shares = shares,
                    .scale = lors_call_number(call, LAMBDA, 0)};
    for (int32_t k = 0; k < call->n_models; k++) {
        shares[k] = call->weights[k];
        call->weights[k] *= call->constants[k];
    }
    if (!dense) {
        LORS_TRY(sparsify(call));
        sum.masks = call->masks;
        if (divides(call)) {
            sum.stack = call->values;
            sum.base = LORS_NO_VIEW;
        }
    }
    if (row_of(call)->elects) {
        LORS_TRY(call->ops->elect_sign(call->queue, call->signs, &sum, call->count));
        sum.signs = call->signs;
    }
    if (normalizes) {
        sum.divisor = row_of(call)->elects ? LORS_DIVIDE_KEPT : LORS_DIVIDE_CONSTANT;
        sum.divisor_value = total;
    }
    return call->ops->accumulate(call->queue, call->acc, &sum, call->count);
}

uint64_t lors_sparse_scratch_bytes(const lors_call *call)
{
    return call->ops->rank_bytes(call->n_cols > 0 ? call->tile / call->n_cols : 0, call->n_cols);
}

/* --- over task vectors in memory -------------------------------------------------------------- */

static lors_status settle_whole(lors_call *call, int32_t pass)
{
    uint64_t n_bytes = lors_sparse_settle_bytes(call);
    if (n_bytes > 0) {
        LORS_TRY(call->ops->download(call->queue, call->staged, call->state, n_bytes));
        LORS_TRY(call->ops->wait(call->queue));
        call->state_on_host = call->ops->host_bytes(call->staged);
    }
    return settle(call, pass);
}

lors_status lors_sparse_apply(lors_call *call)
{
    lors_call tile = *call;
    int32_t n_surveys = surveys(call);
    LORS_TRY(begin(&tile));
    for (int32_t pass = 0; pass <= n_surveys; pass++) {
        for (uint64_t first = 0; first < call->n_elements; first += (uint64_t)call->tile) {
            uint64_t left = call->n_elements - first, most = (uint64_t)call->tile;
            tile.first = first;
            tile.count = (int64_t)(left < most ? left : most);
            tile.stack = lors_view_at(call->stack, first * sizeof(float));
            tile.acc = lors_view_at(call->acc, first * sizeof(double));
            LORS_TRY(pass < n_surveys ? survey(&tile, pass) : apply(&tile));
        }
        if (pass < n_surveys) {
            LORS_TRY(settle_whole(&tile, pass));
        }
    }
    return LORS_OK;
}

/* --- the table -------------------------------------------------------------------------------- */

static const row largest = {LORS_KEEP_LARGEST, true, 0},
                 random_linear = {LORS_KEEP_RANDOM, false, 0},
                 random_ties = {LORS_KEEP_RANDOM, true, 0},
                 ranked_linear = {LORS_KEEP_RANKED, false, SPREAD},
                 ranked_ties = {LORS_KEEP_RANKED, true, SPREAD},
                 window_linear = {LORS_KEEP_WINDOW, false, SPREAD},
                 window_ties = {LORS_KEEP_WINDOW, true, SPREAD};

#define SUM "W = W0 + lambda * sum_k weight_k T_k [/ sum_k weight_k]"
#define ELECTED \
    "s = sign(sum_k weight_k T_k), + where the sum is 0\n" \
    "A = the k with T_k != 0 and sign(weight_k T_k) = s, per element\n" \
    "W = W0 + lambda * sum_A weight_k T_k [/ sum_A weight_k]"
#define LARGEST "T_k = the floor(density_k * size) largest entries of W_k - W0\n"
#define WINDOW \
    "T_k = W_k - W0 without its floor(gamma_k * size) largest entries, and of the rest " \
    "the floor(density_k * size) largest\n"
#define RANDOM "T_k = entries of W_k - W0, each kept with probability density_k and divided by it\n"
#define RANKED \
    "p = density_k - epsilon_k + 2 epsilon_k * rank / (n - 1), rank 0 .. n - 1 by magnitude " \
    "in a row of n\n" \
    "T_k = entries of W_k - W0, each kept with probability p and divided by it\n"

#define METHOD(called, in_short, how, published, its_row, its_params, in_rows, its_cost) \
    { \
        .info = {.name = called, \
                 .summary = in_short, \
                 .formula = how, \
                 .paper = published, \
                 .needs_base = true, \
                 .min_models = 1, \
                 .scope = "every tensor", \
                 .cost = its_cost, \
                 .n_params = LORS_COUNT_OF(its_params), \
                 .params = its_params}, \
        .row = &its_row, .adds_to_base = true, .by_rows = in_rows, \
        .uses = LORS_USES_VALUES | LORS_USES_MASKS | LORS_USES_SIGNS, .surveys = surveys, \
        .check = lors_sparse_check, .is_base = lors_method_adds_nothing, .instead = instead, \
        .keeps_equal = keeps_equal, .state_bytes = lors_sparse_state_bytes, \
        .settle_bytes = lors_sparse_settle_bytes, \
        .scratch_bytes = in_rows ? lors_sparse_scratch_bytes : NULL, .begin = begin, \
        .survey = survey, .settle = settle, .apply = apply \
    }

const lors_method_def lors_method_ties =
    METHOD("ties", "trim task vectors, elect a sign per element, average those that agree",
           LARGEST ELECTED, "TIES-Merging, arXiv 2306.01708", largest, ties_params, false,
           LORS_COST_SELECTION);

const lors_method_def lors_method_dare_linear = METHOD(
    "dare_linear", "drop entries of the task vectors at random, rescale, and add", RANDOM SUM,
    "DARE, arXiv 2311.03099", random_linear, dare_linear_params, false, LORS_COST_ONE_PASS);

const lors_method_def lors_method_dare_ties = METHOD(
    "dare_ties", "drop entries of the task vectors at random, rescale, elect a sign, and add",
    RANDOM ELECTED, "DARE, arXiv 2311.03099", random_ties, dare_ties_params, false,
    LORS_COST_ONE_PASS);

const lors_method_def lors_method_della =
    METHOD("della", "drop entries at random, small ones more often, elect a sign, and average",
           RANKED ELECTED, "DELLA-Merging, arXiv 2406.11617", ranked_ties, della_params, true,
           LORS_COST_RANKS);

const lors_method_def lors_method_della_linear = METHOD(
    "della_linear", "drop entries at random, small ones more often, and add", RANKED SUM,
    "DELLA-Merging, arXiv 2406.11617", ranked_linear, della_linear_params, true, LORS_COST_RANKS);

const lors_method_def lors_method_breadcrumbs =
    METHOD("breadcrumbs", "drop the largest and the small entries of the task vectors, and add",
           WINDOW SUM, "Model Breadcrumbs, arXiv 2312.06795", window_linear, breadcrumbs_params,
           false, LORS_COST_SELECTION);

const lors_method_def lors_method_breadcrumbs_ties =
    METHOD("breadcrumbs_ties", "drop the largest and the small entries, elect a sign, and add",
           WINDOW ELECTED, "Model Breadcrumbs, arXiv 2312.06795", window_ties,
           breadcrumbs_ties_params, false, LORS_COST_SELECTION);

/* What no method of the table does: the largest, without an election. */
static const row largest_linear = {LORS_KEEP_LARGEST, false, 0};
static const lors_method_def sparse_largest_linear =
    METHOD("sparse", "trim task vectors, and add", LARGEST SUM, "", largest_linear, ties_params,
           false, LORS_COST_SELECTION);

const lors_method_def *lors_sparse_method(const row *wanted)
{
    static const lors_method_def *const methods[] = {&lors_method_ties,
                                                     &lors_method_dare_linear,
                                                     &lors_method_dare_ties,
                                                     &lors_method_della,
                                                     &lors_method_della_linear,
                                                     &lors_method_breadcrumbs,
                                                     &lors_method_breadcrumbs_ties};
    for (int32_t i = 0; i < LORS_COUNT_OF(methods); i++) {
        const row *own = methods[i]->row;
        if (own->keeping == wanted->keeping && own->elects == wanted->elects) {
            return methods[i];
        }
    }
    return &sparse_largest_linear;
}

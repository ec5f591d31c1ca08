/* chain.c - a merge in steps, each of them chosen:
 *
 *   delta -> decompose -> sparsify -> rescale -> combine
 *
 * The named methods are such chains: ties is {sparsify: largest, combine: elect}, lors is
 * {decompose: lors} alone. Without a decomposition, and for tensors that have none (biases, norms,
 * embeddings), the plan takes the row of the sparse family that does the same; with one, the
 * matrix's task vectors are all in memory, each becomes L + S (as in lors.c), and the family goes
 * over them.
 */
#include "base/error.h"
#include "method/sparse.h"

enum {
    WEIGHT,
    LAMBDA,
    NORMALIZE,
    DENSITY,
    RESCALE,
    GAMMA,
    EPSILON,
    DECOMPOSE,
    RANK,
    RESIDUAL,
    SPARSIFY,
    COMBINE
};

static const char *const decompositions[] = {"none", "lors", NULL};
static const char *const sparsifiers[] = {"none", "largest", "window", "random", "ranked", NULL};
static const char *const combinations[] = {"sum", "elect", NULL};

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(true, NULL, 0),
    LORS_PARAM_LAMBDA("1", 1),
    {"normalize", LORS_PARAM_BOOL, false, false, 0, 1, false, "false", 0,
     "divide by the weights: of all models, or of those that agree"},
    LORS_PARAM_DENSITY("sparsify: share, or probability, that is kept"),
    {"rescale", LORS_PARAM_BOOL, false, false, 0, 1, false, "false", 0,
     "scale what is kept: by probabilities, or to the sum of magnitudes before"},
    {"gamma", LORS_PARAM_NUMBER, true, false, 0, 1, false, "0.01", 0.01,
     "sparsify window: share of the largest that is left out"},
    {"epsilon", LORS_PARAM_NUMBER, true, false, 0, 1, false, "0.15", 0.15,
     "sparsify ranked: half the range of the probabilities"},
    {"decompose", LORS_PARAM_CHOICE, false, false, 0, 0, false, "none", 0,
     "matrices of attention and MLP: lors takes their low rank plus sparse part", decompositions},
    {"rank", LORS_PARAM_RANK, true, false, 0, 1e9, false, "1% of min(rows, cols), at least 1", 0.01,
     "decompose lors: of the low-rank part"},
    {"residual", LORS_PARAM_NUMBER, true, false, 0, 1, false, "0.2", 0.2,
     "decompose lors: share of the residual that is kept, largest magnitudes first"},
    {"sparsify", LORS_PARAM_CHOICE, false, false, 0, 0, false, "none", 0,
     "ties, breadcrumbs, dare and della have largest, window, random and ranked", sparsifiers},
    {"combine", LORS_PARAM_CHOICE, false, false, 0, 0, false, "sum", 0,
     "elect: only the terms of the sign that their sum has, per element", combinations},
};

/* What the sparse family does with these parameters, [sparsify - 1][elects]. Where nothing is left
 * out it is the largest, all of them. */
static const lors_sparse_row rows[][2] = {
    {{LORS_KEEP_LARGEST, false, 0}, {LORS_KEEP_LARGEST, true, 0}},
    {{LORS_KEEP_WINDOW, false, GAMMA}, {LORS_KEEP_WINDOW, true, GAMMA}},
    {{LORS_KEEP_RANDOM, false, 0}, {LORS_KEEP_RANDOM, true, 0}},
    {{LORS_KEEP_RANKED, false, EPSILON}, {LORS_KEEP_RANKED, true, EPSILON}},
};

static const lors_sparse_row *row_of(const lors_call *call)
{
    int32_t sparsify = (int32_t)lors_call_number(call, SPARSIFY, 0);
    return &rows[sparsify > 0 ? sparsify - 1 : 0][lors_call_number(call, COMBINE, 0) != 0];
}

/* As the sparse family sees the call: its parameters come first, in its order. */
static lors_call family_call(const lors_call *call)
{
    lors_call sub = *call;
    sub.row = row_of(call);
    return sub;
}

static lors_status check(const lors_call *call)
{
    for (int32_t k = 0; k < call->n_models && lors_call_number(call, SPARSIFY, 0) == 0; k++) {
        if (lors_call_number(call, DENSITY, k) < 1) {
            return lors_fail(LORS_ERR_RECIPE, "density is given without a `sparsify` that it is "
                                              "for: choose largest, window, random or ranked");
        }
    }
    lors_call sub = family_call(call);
    return lors_sparse_check(&sub);
}

static const lors_method_def *instead(const lors_call *call)
{
    bool decomposes = lors_call_number(call, DECOMPOSE, 0) != 0 && call->is_layer_matrix;
    return decomposes ? NULL : lors_sparse_method(row_of(call));
}

/* --- memory ----------------------------------------------------------------------------------- */

/* Pieces of the scratch. */
typedef struct pieces {
    lors_view state;   /* of the residual's selection, and after that of the family */
    lors_view low;     /* f32 [n_elements] */
    lors_view masks;   /* u8 [n_models][stride], of one tile: the last is as long as that */
    lors_view signs;   /* i8 [tile] */
    lors_view scratch; /* of a truncation, and after that of the family */
    uint64_t n_bytes;
} pieces;

static lors_view take(lors_view at, uint64_t *filled, uint64_t n_bytes)
{
    lors_view piece = lors_view_at(at, *filled);
    *filled += lors_view_padded(n_bytes);
    return piece;
}

static lors_rank rank_of(const lors_call *call, int32_t k)
{
    const lors_cell *cell = &call->cells[RANK * call->n_models + k];
    return (lors_rank){(int64_t)cell->number, cell->energy, call->exact};
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static pieces pieces_of(const lors_call *call)
{
    lors_call sub = family_call(call);
    uint64_t n_models = (uint64_t)call->n_models, scratch = lors_sparse_scratch_bytes(&sub);
    for (int32_t k = 0; k < call->n_models; k++) {
        scratch = larger(
            scratch, call->ops->truncate_bytes(1, call->n_rows, call->n_cols, rank_of(call, k)));
    }
    pieces p = {.n_bytes = 0};
    p.state =
        take(call->scratch, &p.n_bytes,
             larger(call->ops->select_bytes(call->n_elements), lors_sparse_state_bytes(&sub)));
    p.low = take(call->scratch, &p.n_bytes, call->n_elements * sizeof(float));
    p.masks = take(call->scratch, &p.n_bytes,
                   (n_models - 1) * (uint64_t)call->stride + (uint64_t)call->tile);
    p.signs = take(call->scratch, &p.n_bytes, (uint64_t)call->tile);
    p.scratch = take(call->scratch, &p.n_bytes, scratch);
    return p;
}

static uint64_t scratch_bytes(const lors_call *call)
{
    return pieces_of(call).n_bytes;
}

static uint64_t settle_bytes(const lors_call *call)
{
    lors_call sub = family_call(call);
    return lors_sparse_settle_bytes(&sub);
}

/* --- the steps -------------------------------------------------------------------------------- */

static lors_view at_element(lors_view array, int64_t first)
{
    return lors_view_at(array, (uint64_t)first * sizeof(float));
}

/* d = where the residual is among the largest d itself, else its low-rank part. */
static lors_status keep_residual(lors_call *call, const pieces *p, lors_view d, uint64_t kept)
{
    const lors_backend_ops *ops = call->ops;
    int64_t n = (int64_t)call->n_elements;
    lors_view residual = call->acc; /* free until the end, and twice as large */
    lors_selection selection = {p->state, call->n_elements, 1};
    LORS_TRY(ops->subtract(call->queue, residual, d, 0, p->low, 0, 1, n));
    LORS_TRY(ops->select_begin(call->queue, &selection, &kept));
    for (int32_t pass = 0; pass < LORS_SELECT_PASSES; pass++) {
        LORS_TRY(ops->select_count(call->queue, &selection, pass, residual, 0, 0, n));
        LORS_TRY(ops->select_settle(call->queue, &selection, pass));
    }
    for (int64_t first = 0; first < n; first += call->tile) {
        int64_t count = n - first < call->tile ? n - first : call->tile;
        LORS_TRY(ops->keep_top(call->queue, &selection, p->masks, at_element(residual, first), 0,
                               (uint64_t)first, count));
        LORS_TRY(ops->choose(call->queue, at_element(d, first), at_element(d, first),
                             at_element(p->low, first), p->masks, count));
    }
    return LORS_OK;
}

/* A task vector becomes its low rank plus sparse part. */
static lors_status decompose(lors_call *call, const pieces *p, int32_t k)
{
    lors_view d = at_element(call->delta, k * call->stride);
    lors_rank rank = rank_of(call, k);
    lors_model_result *result = &call->results[k];
    uint64_t kept = lors_method_keep_count(lors_call_number(call, RESIDUAL, k), call->n_elements);
    LORS_TRY(call->ops->truncate_rank(call->queue, p->low, d, 0, 1, call->n_rows, call->n_cols,
                                      &rank, p->scratch, &result->certificate));
    result->has_rank = result->has_kept = true;
    result->n_kept = kept;
    int64_t shortest = call->n_rows < call->n_cols ? call->n_rows : call->n_cols;
    bool all = result->certificate.rank >= shortest || kept == call->n_elements;
    return all ? LORS_OK : keep_residual(call, p, d, kept);
}

static lors_status apply_whole(lors_call *call)
{
    pieces p = pieces_of(call);
    for (int32_t k = 0; k < call->n_models; k++) {
        if (!call->results[k].zero) {
            LORS_TRY(decompose(call, &p, k));
        }
    }
    lors_call sub = family_call(call);
    sub.stack = call->delta;
    sub.base = LORS_NO_VIEW;
    sub.has_base = false;
    sub.state = p.state;
    sub.masks = p.masks;
    sub.signs = p.signs;
    sub.scratch = p.scratch;
    return lors_sparse_apply(&sub);
}

const lors_method_def lors_method_chain = {
    .info = {.name = "chain",
             .summary = "a merge in steps: decompose, sparsify, combine (LoRS x TIES, LoRS x DARE)",
             .formula =
                 "D_k = W_k - W0; of matrices of attention and MLP, with decompose: lors,\n"
                 "      L_k + S_k of it (see lors), `residual` being its density\n"
                 "T_k = what `sparsify` keeps of D_k, with `rescale` scaled (see ties,\n"
                 "      breadcrumbs, dare_linear, della)\n"
                 "W = W0 + lambda * sum_k weight_k T_k [/ weights], with combine: elect only\n"
                 "      the terms of the sign of their sum (see ties)",
             .paper = "LoRS-Merging, arXiv 2502.17380, with those of the other steps",
             .needs_base = true,
             .min_models = 1,
             .scope = "every tensor",
             .cost = LORS_COST_LOW_RANK,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .by_rows = true, /* which is what `ranked` needs */
    .check = check,
    .is_base = lors_method_adds_nothing,
    .instead = instead,
    .settle_bytes = settle_bytes,
    .scratch_bytes = scratch_bytes,
    .apply_whole = apply_whole,
};

/* knots.c - KnOTS: TIES on the right singular vectors of all task vectors side by side.
 *
 *   [d_1 ... d_N] = U S [V_1' ... V_N'], d_k = W_k - W0
 *   T_k = the floor(density_k * size) entries of V_k' of largest magnitude
 *   V'  = of each element the terms weight_k T_k of the sign that their sum has, over their weights
 *   W   = W0 + lambda * U S V'
 *
 * Source: Stoica et al. 2025, Model merging with SVD to tie the Knots, arXiv 2410.19735. Without
 * TIES U S sum_k V_k' would be the sum of the task vectors. The V_k' are rounded to f32, as task
 * vectors are where TIES compares them. What is below LORS_NULL of S_1 is left out (the paper's
 * program leaves out what is below a fixed number), and is no part of `size`.
 */
#include <math.h>

#include "base/error.h"
#include "method/spectral.h"

enum { WEIGHT, LAMBDA, NORMALIZE, DENSITY };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1", 1),
    {"normalize", LORS_PARAM_BOOL, false, false, 0, 1, false, "true", 1,
     "divide, per element, by the weights of the models that agree"},
    {"density", LORS_PARAM_NUMBER, true, false, 0, 1, false, "0.2", 0.2,
     "share of each model's singular vectors that is kept, largest magnitudes first"},
};

typedef struct layout {
    lors_spectral s;
    lors_view wide;   /* f64 [n_rows][n_cols] */
    lors_view masks;  /* u8 [n_models][stride] */
    lors_view signs;  /* i8 [n] */
    lors_view blocks; /* of what is rounded to f32 */
    lors_view state;  /* of the selection */
    double *sigma;    /* [n_rows], ascending; 0: no direction */
} layout;

static layout lay_out(const lors_call *call)
{
    layout l = {.s = lors_spectral_of(call, call->n_rows, call->n_rows)};
    uint64_t n = call->n_elements, models = (uint64_t)call->n_models;
    l.wide = lors_spectral_take(&l.s, (int64_t)n);
    l.masks = lors_spectral_take_bytes(&l.s, models * (n + LORS_VIEW_ALIGN));
    l.signs = lors_spectral_take_bytes(&l.s, n);
    l.blocks = lors_spectral_take_bytes(&l.s, (n / LORS_BLOCK + 1) * sizeof(lors_store_block));
    l.state = lors_spectral_take_bytes(&l.s, models * call->ops->select_bytes(n));
    l.sigma = lors_spectral_take_numbers(&l.s, call->n_rows);
    return l;
}

static uint64_t scratch_bytes(const lors_call *call)
{
    return lay_out(call).s.filled;
}

static int64_t n_numbers(const lors_call *call)
{
    return lay_out(call).s.numbers;
}

/* The rows of s->vectors are U', l->sigma S. Returns how many directions there are. */
static lors_status decompose(layout *l, int64_t *n_directions)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    int64_t n = call->n_rows;
    lors_product p = {.rows = n, .cols = n, .depth = call->n_cols, .alpha = 1, .symmetric = true};
    for (int32_t k = 0; k < call->n_models; k++) {
        if (lors_spectral_counts(call, WEIGHT, k)) {
            p.left = p.right = lors_spectral_delta(s, k);
            p.right.transposed = true;
            LORS_TRY(lors_spectral_multiply(s, s->gram, p));
            p.beta = 1;
        }
    }
    if (p.beta == 0) { /* no model counts */
        return LORS_OK;
    }
    LORS_TRY(call->ops->eigen(call->queue, s->gram, n, n, s->vectors, l->sigma, s->solver));
    s->not_finite = isnan(l->sigma[0]);
    double nothing = LORS_NULL * LORS_NULL * l->sigma[n - 1];
    for (int64_t i = 0; i < n; i++) {
        bool counts = l->sigma[i] > nothing && l->sigma[i] > 0;
        l->sigma[i] = counts ? sqrt(l->sigma[i]) : 0;
        s->values[i] = counts ? 1 / l->sigma[i] : 0;
        *n_directions += counts;
    }
    return LORS_OK;
}

/* Model k's task vector becomes its V_k' [n_rows][n_cols]; zeros of one that does not count. */
static lors_status take_vectors(layout *l, int32_t k)
{
    const lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    int64_t rows = call->n_rows, cols = call->n_cols;
    lors_factor d = lors_spectral_delta(s, k);
    lors_product p = {.left = {.x = s->vectors, .wide = true, .ld = rows},
                      .right = d,
                      .rows = rows,
                      .cols = cols,
                      .depth = rows,
                      .alpha = 1};
    lors_store store = {.dtype = LORS_F32, .acc = l->wide, .blocks = l->blocks};
    if (!lors_spectral_counts(call, WEIGHT, k)) {
        return call->ops->clear(call->queue, d.x, call->n_elements * sizeof(float));
    }
    LORS_TRY(lors_spectral_multiply(s, l->wide, p));
    LORS_TRY(call->ops->scale_rows(call->queue, l->wide, rows, cols, cols, s->values));
    return call->ops->store(call->queue, d.x, &store, (int64_t)call->n_elements);
}

/* The masks of the largest entries, of r directions. */
static lors_status trim(layout *l, int64_t n_directions)
{
    const lors_call *call = l->s.call;
    const lors_backend_ops *ops = call->ops;
    lors_selection selection = {l->state, call->n_elements, call->n_models};
    uint64_t kept[LORS_MAX_MODELS], size = (uint64_t)(n_directions * call->n_cols);
    int64_t n = (int64_t)call->n_elements;
    for (int32_t k = 0; k < call->n_models; k++) {
        kept[k] = lors_method_keep_count(lors_call_number(call, DENSITY, k), size);
        call->results[k].has_kept = true;
        call->results[k].n_kept = kept[k];
    }
    LORS_TRY(ops->select_begin(call->queue, &selection, kept));
    for (int32_t pass = 0; pass < LORS_SELECT_PASSES; pass++) {
        LORS_TRY(ops->select_count(call->queue, &selection, pass, call->delta, call->stride, 0, n));
        LORS_TRY(ops->select_settle(call->queue, &selection, pass));
    }
    return ops->keep_top(call->queue, &selection, l->masks, call->delta, call->stride, 0, n);
}

/* l->wide = V' */
static lors_status merge_vectors(layout *l)
{
    const lors_call *call = l->s.call;
    lors_method_weights(call, WEIGHT);
    bool normalize = lors_call_number(call, NORMALIZE, 0) != 0;
    lors_sum sum = {.stack = call->delta,
                    .masks = l->masks,
                    .stride = call->stride,
                    .n_models = call->n_models,
                    .weights = call->weights,
                    .divisor = normalize ? LORS_DIVIDE_KEPT : LORS_DIVIDE_NOT,
                    .scale = 1};
    int64_t n = (int64_t)call->n_elements;
    LORS_TRY(call->ops->elect_sign(call->queue, l->signs, &sum, n));
    sum.signs = l->signs;
    return call->ops->accumulate(call->queue, l->wide, &sum, n);
}

static lors_status apply_whole(lors_call *call)
{
    layout l = lay_out(call);
    lors_spectral *s = &l.s;
    int64_t n_directions = 0, rows = call->n_rows, cols = call->n_cols;
    LORS_TRY(decompose(&l, &n_directions));
    if (s->not_finite || n_directions == 0) {
        return lors_spectral_fill(s, s->not_finite ? NAN : 0);
    }
    for (int32_t k = 0; k < call->n_models; k++) {
        LORS_TRY(take_vectors(&l, k));
    }
    LORS_TRY(trim(&l, n_directions));
    LORS_TRY(merge_vectors(&l));
    LORS_TRY(call->ops->scale_rows(call->queue, l.wide, rows, cols, cols, l.sigma));
    lors_product p = {.left = {.x = s->vectors, .wide = true, .transposed = true, .ld = rows},
                      .right = lors_spectral_wide(s, l.wide),
                      .rows = rows,
                      .cols = cols,
                      .depth = rows,
                      .alpha = lors_call_number(call, LAMBDA, 0)};
    return lors_spectral_multiply(s, call->acc, p);
}

const lors_method_def lors_method_knots = {
    .info = {.name = "knots",
             .summary = "TIES on the singular vectors of all task vectors side by side (KnOTS)",
             .formula = "[d_1 ... d_N] = U S [V_1' ... V_N'], d_k = W_k - W0\n"
                        "T_k = the floor(density_k * size) largest entries of V_k'\n"
                        "s = sign(sum_k weight_k T_k), + where the sum is 0\n"
                        "A = the k with T_k != 0 and sign(weight_k T_k) = s, per element\n"
                        "W = W0 + lambda * U S (sum_A weight_k T_k [/ sum_A weight_k])\n"
                        "outside: W = W0 + lambda * sum_k weight_k d_k [/ sum_k weight_k]",
             .paper = "Model merging with SVD to tie the Knots, arXiv 2410.19735",
             .needs_base = true,
             .min_models = 1,
             .uses_matrices = true,
             .scope = "attention, mlp (2-D weights)",
             .cost = LORS_COST_SPECTRUM,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .is_base = lors_method_adds_nothing,
    .apply_whole = apply_whole,
    .scratch_bytes = scratch_bytes,
    .n_numbers = n_numbers,
};

/* svc.c - Singular Value Calibration: what several task vectors have in common counts once in their
 * merge, and not once for each.
 *
 *   d_k = weight_k (W_k - W0)
 *   M = lambda * sum_k d_k, or lambda * d_m of the model m that is marked merged
 *   M = U S V', a_r = u_r' M, a_rk = u_r' d_k;  s_rk = <a_r, a_rk> / |a_rk|^2
 *   gamma_r = T / sum_k max(alpha, s_rk), over the T models that are not m
 *   W = W0 + U diag(gamma_r S_r) V'
 *
 * Source: Li et al. 2026, When Shared Knowledge Hurts, arXiv 2602.05536, on the space of the
 * columns, as the authors' program does by default. It bounds |a_rk|^2 from below by 1e-12; here
 * s_rk is 0 where |a_rk| is null beside S_1 (LORS_NULL), whatever the scale of the weights. Where
 * the sum is 0, and where S_r is null, the value stays. Models without change are none of the T.
 */
#include <math.h>

#include "base/error.h"
#include "method/spectral.h"

enum { WEIGHT, LAMBDA, ALPHA, MERGED };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1", 1),
    {"alpha", LORS_PARAM_NUMBER, false, false, 0, 1e30, false, "0.1", 0.1,
     "the least that a model counts for in a direction"},
    {"merged", LORS_PARAM_BOOL, true, false, 0, 1, false, "false", 0,
     "this model is the merge that is calibrated, by the others"},
};

typedef struct layout {
    lors_spectral s;
    lors_view left;   /* f64 [n_short][n_rows]: the u_r */
    lors_view merged; /* f64 [n_short][n_cols]: the a_r */
    lors_view one;    /* f64 [n_short][n_cols]: the a_rk of a model */
    lors_view solver; /* of dot products */
    double *counts;   /* [n_short]: sum_k max(alpha, s_rk) */
    double *products, *squares;
} layout;

static layout lay_out(const lors_call *call)
{
    layout l = {.s = lors_spectral_of(call, 0, 0)};
    int64_t n = l.s.n_short;
    l.left = lors_spectral_take(&l.s, n * call->n_rows);
    l.merged = lors_spectral_take(&l.s, n * call->n_cols);
    l.one = lors_spectral_take(&l.s, n * call->n_cols);
    l.solver = lors_spectral_take_bytes(&l.s, call->ops->dot_rows_bytes(n));
    l.counts = lors_spectral_take_numbers(&l.s, n);
    l.products = lors_spectral_take_numbers(&l.s, n);
    l.squares = lors_spectral_take_numbers(&l.s, n);
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

static int32_t count_merged(const lors_call *call)
{
    int32_t n = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        n += lors_call_number(call, MERGED, k) != 0;
    }
    return n;
}

/* Does model k give M a part? */
static bool is_calibrated(const lors_call *call, int32_t k)
{
    return lors_call_number(call, MERGED, k) != 0 || count_merged(call) == 0;
}

static lors_status check(const lors_call *call)
{
    int32_t n = count_merged(call);
    if (n > 1) {
        return lors_fail(LORS_ERR_RECIPE,
                         "%d models are marked `merged: true`: mark only the one that is to be "
                         "calibrated",
                         n);
    }
    return n == 1 && call->n_models == 1
               ? lors_fail(LORS_ERR_RECIPE,
                           "the only model is marked `merged: true`: list the models that went "
                           "into it, too, which it is calibrated by")
               : LORS_OK;
}

static bool is_base(const lors_call *call)
{
    bool any = false;
    for (int32_t k = 0; k < call->n_models; k++) {
        any = any || (is_calibrated(call, k) && lors_call_number(call, WEIGHT, k) != 0);
    }
    return lors_call_number(call, LAMBDA, 0) == 0 || !any;
}

/* acc = M */
static lors_status sum_up(const layout *l)
{
    const lors_call *call = l->s.call;
    for (int32_t k = 0; k < call->n_models; k++) {
        bool counts = is_calibrated(call, k) && lors_spectral_counts(call, WEIGHT, k);
        call->weights[k] = counts ? lors_call_number(call, WEIGHT, k) : 0;
    }
    lors_sum sum = {.stack = call->delta,
                    .stride = call->stride,
                    .n_models = call->n_models,
                    .weights = call->weights,
                    .scale = lors_call_number(call, LAMBDA, 0)};
    return call->ops->accumulate(call->queue, call->acc, &sum, (int64_t)call->n_elements);
}

/* out [n_short][n_cols] = u_r' a */
static lors_status respond(const layout *l, lors_factor a, lors_view out)
{
    const lors_call *call = l->s.call;
    lors_product p = {.left = {.x = l->left, .wide = true, .ld = call->n_rows},
                      .right = a,
                      .rows = l->s.n_short,
                      .cols = call->n_cols,
                      .depth = call->n_rows,
                      .alpha = 1};
    return lors_spectral_multiply(&l->s, out, p);
}

/* left and merged, of which those of null values are zeros; *first = S_1. */
static lors_status decompose(layout *l, double *first)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    int64_t n = s->n_short;
    lors_factor merged = lors_spectral_wide(s, call->acc);
    LORS_TRY(lors_spectral_decompose(s, merged));
    double largest = s->values[n - 1];
    *first = largest > 0 ? sqrt(largest) : 0;
    for (int64_t i = 0; i < n && !s->not_finite; i++) {
        bool counts = s->values[i] > LORS_NULL * LORS_NULL * largest && s->values[i] > 0;
        s->values[i] = !counts ? 0 : s->tall ? 1 / sqrt(s->values[i]) : 1;
    }
    if (s->not_finite) {
        return LORS_OK;
    }
    if (s->tall) {
        LORS_TRY(lors_spectral_long_rows(s, merged, s->vectors, n, l->left));
    } else {
        l->left = s->vectors;
    }
    LORS_TRY(call->ops->scale_rows(call->queue, l->left, n, call->n_rows, call->n_rows, s->values));
    return respond(l, merged, l->merged);
}

/* counts += max(alpha, s_rk) */
static lors_status add_model(layout *l, int32_t k, double first)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    const lors_factor merged = lors_spectral_wide(s, l->merged);
    const lors_factor one = lors_spectral_wide(s, l->one);
    double weight = lors_call_number(call, WEIGHT, k), alpha = lors_call_number(call, ALPHA, 0);
    LORS_TRY(respond(l, lors_spectral_delta(s, k), l->one));
    LORS_TRY(call->ops->dot_rows(call->queue, &merged, &one, s->n_short, call->n_cols, l->products,
                                 l->solver));
    LORS_TRY(call->ops->dot_rows(call->queue, &one, &one, s->n_short, call->n_cols, l->squares,
                                 l->solver));
    for (int64_t r = 0; r < s->n_short; r++) {
        bool responds = fabs(weight) * sqrt(l->squares[r]) > LORS_NULL * first;
        double share = responds ? l->products[r] / (weight * l->squares[r]) : 0;
        l->counts[r] += share > alpha ? share : alpha;
        s->not_finite =
            s->not_finite || !isfinite(l->squares[r]) || !isfinite(l->products[r]);
    }
    return LORS_OK;
}

/* acc += sum of u_r (gamma_r - 1) a_r, so that what is not calibrated stays to the bit. */
static lors_status calibrate(layout *l, int32_t n_models)
{
    const lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    for (int64_t r = 0; r < s->n_short; r++) {
        bool counts = l->counts[r] > 0 && s->values[r] != 0;
        l->counts[r] = counts ? n_models / l->counts[r] - 1 : 0;
    }
    LORS_TRY(call->ops->scale_rows(call->queue, l->merged, s->n_short, call->n_cols, call->n_cols,
                                   l->counts));
    lors_product p = {.left = {.x = l->left, .wide = true, .transposed = true, .ld = call->n_rows},
                      .right = lors_spectral_wide(s, l->merged),
                      .rows = call->n_rows,
                      .cols = call->n_cols,
                      .depth = s->n_short,
                      .alpha = 1,
                      .beta = 1};
    return lors_spectral_multiply(s, call->acc, p);
}

static lors_status apply_whole(lors_call *call)
{
    layout l = lay_out(call);
    int32_t n_models = 0, n_merged = count_merged(call);
    double first = 0;
    LORS_TRY(sum_up(&l));
    LORS_TRY(decompose(&l, &first));
    for (int64_t r = 0; r < l.s.n_short; r++) {
        l.counts[r] = 0;
    }
    for (int32_t k = 0; k < call->n_models && !l.s.not_finite; k++) {
        bool is_part = n_merged == 0 || lors_call_number(call, MERGED, k) == 0;
        if (is_part && lors_spectral_counts(call, WEIGHT, k)) {
            LORS_TRY(add_model(&l, k, first));
            n_models++;
        }
    }
    return l.s.not_finite ? lors_spectral_fill(&l.s, NAN) : calibrate(&l, n_models);
}

const lors_method_def lors_method_svc = {
    .info = {.name = "svc",
             .summary = "a merge in which what models share is not counted once for each (SVC)",
             .formula = "d_k = weight_k (W_k - W0)\n"
                        "U S V' = lambda * sum_k d_k, or lambda * d_m of a model m marked merged\n"
                        "a_r = S_r V_r', a_rk = U_r' d_k; s_rk = <a_r, a_rk> / |a_rk|^2\n"
                        "gamma_r = T / sum_k max(alpha, s_rk), over the T models that are not m\n"
                        "W = W0 + U diag(gamma_r S_r) V'\n"
                        "outside: W = W0 + lambda * sum_k weight_k (W_k - W0) / sum_k weight_k,\n"
                        "or W0 + lambda * (W_m - W0)",
             .paper = "When Shared Knowledge Hurts, arXiv 2602.05536",
             .needs_base = true,
             .min_models = 1,
             .uses_matrices = true,
             .scope = "attention, mlp (2-D weights)",
             .cost = LORS_COST_SPECTRUM,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .outside_is_mean = true,
    .check = check,
    .is_base = is_base,
    .apply_whole = apply_whole,
    .scratch_bytes = scratch_bytes,
    .n_numbers = n_numbers,
};

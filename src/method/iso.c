/* iso.c - isotropic merging: directions of the task vectors, all with the same singular value.
 *
 *   d_k = weight_k (W_k - W0), r = min(rows, cols)
 *   iso_c:   U S V' = sum_k d_k;  W = W0 + lambda * mean(S) * U V'
 *   iso_cts: of sum_k d_k the c leading directions U_0 S_0 V_0', of each d_k - U_0 U_0' d_k the t
 *            leading ones U_k S_k V_k', with c + N t = r;  U = [U_0 ... U_N] and V alike, each
 *            replaced by its polar factor;  W = W0 + lambda * mean(S_0 ... S_N) * U V'
 *
 * t = (r - floor(common_fraction r)) / N, rounded to nearest even: where N does not divide what is
 * left, the common space takes up the difference. The means are over r values. Directions of
 * singular value 0 (LORS_NULL) are left out of U V', where the paper's are arbitrary.
 * Source: Marczak et al. 2025, No Task Left Behind, arXiv 2502.04959.
 */
#include <math.h>

#include "base/error.h"
#include "method/spectral.h"

enum { WEIGHT, LAMBDA, COMMON };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1", 1),
    {"common_fraction", LORS_PARAM_NUMBER, false, false, 0, 1, false, "0.8", 0.8,
     "share of the directions that are of the sum of all task vectors"},
};

/* --- iso_c ------------------------------------------------------------------------------------ */

typedef struct layout {
    lors_spectral s;
    lors_view sum; /* f64 [n_rows][n_cols] */
    lors_stack stack;
    lors_view spare;
    int64_t n_common, n_own; /* directions: of the sum, of each model */
} layout;

static layout lay_out_c(const lors_call *call)
{
    layout l = {.s = lors_spectral_of(call, 0, 0)};
    l.sum = lors_spectral_take(&l.s, (int64_t)call->n_elements);
    return l;
}

static uint64_t scratch_bytes_c(const lors_call *call)
{
    return lay_out_c(call).s.filled;
}

static int64_t n_numbers_c(const lors_call *call)
{
    return lay_out_c(call).s.numbers;
}

static lors_status apply_c(lors_call *call)
{
    layout l = lay_out_c(call);
    lors_spectral *s = &l.s;
    double mean = 0;
    LORS_TRY(lors_spectral_sum(s, WEIGHT, 0, call->n_models, l.sum));
    LORS_TRY(lors_spectral_inverse_root(s, l.sum, call->n_rows, call->n_cols));
    if (s->not_finite) {
        return lors_spectral_fill(s, NAN);
    }
    for (int64_t i = 0; i < s->n_short; i++) {
        mean += (s->values[i] > 0 ? sqrt(s->values[i]) : 0) / (double)s->n_short;
    }
    return lors_spectral_whiten(s, l.sum, call->n_rows, call->n_cols,
                                lors_call_number(call, LAMBDA, 0) * mean, call->acc);
}

/* --- iso_cts ---------------------------------------------------------------------------------- */

static void count_directions(layout *l)
{
    const lors_call *call = l->s.call;
    int64_t r = l->s.n_short, n = call->n_models;
    double common = floor(lors_call_number(call, COMMON, 0) * (double)r);
    int64_t own = (int64_t)nearbyint(((double)r - common) / (double)n);
    l->n_own = own * n > r ? r / n : own;
    l->n_common = r - l->n_own * n;
}

static layout lay_out_cts(const lors_call *call)
{
    layout l = {.s = lors_spectral_of(call, 0, 0)};
    count_directions(&l);
    l.sum = lors_spectral_take(&l.s, (int64_t)call->n_elements);
    l.stack = lors_spectral_stack(&l.s, l.s.n_short);
    l.spare = lors_spectral_take(&l.s, l.s.n_short * l.s.n_long);
    return l;
}

static uint64_t scratch_bytes_cts(const lors_call *call)
{
    return lay_out_cts(call).s.filled;
}

static int64_t n_numbers_cts(const lors_call *call)
{
    return lay_out_cts(call).s.numbers;
}

/* sum = d_k - U_0 U_0' d_k, with U_0' [n][n_rows] the rows of the stack that stand by the rows. */
static lors_status project_off(layout *l, int32_t k, int64_t n)
{
    const lors_call *call = l->s.call;
    lors_factor common = {.x = l->s.tall ? l->stack.long_rows : l->stack.short_rows,
                          .wide = true,
                          .ld = call->n_rows};
    lors_product part = {.left = common,
                         .right = lors_spectral_wide(&l->s, l->sum),
                         .rows = n,
                         .cols = call->n_cols,
                         .depth = call->n_rows,
                         .alpha = 1};
    LORS_TRY(lors_spectral_sum(&l->s, WEIGHT, k, 1, l->sum));
    if (n == 0) {
        return LORS_OK;
    }
    LORS_TRY(lors_spectral_multiply(&l->s, l->spare, part));
    part.right = lors_spectral_wide(&l->s, l->spare);
    part.left.transposed = true;
    part.rows = call->n_rows;
    part.depth = n;
    part.alpha = -1;
    part.beta = 1;
    return lors_spectral_multiply(&l->s, l->sum, part);
}

/* All that is left gets the mean of the values. */
static void flatten(lors_stack *stack, int64_t r)
{
    double sum = 0;
    for (int64_t i = 0; i < stack->n; i++) {
        sum += stack->sigma[i];
    }
    for (int64_t i = 0; i < stack->n; i++) {
        stack->sigma[i] = stack->sigma[i] > 0 ? sum / (double)r : 0;
    }
}

static lors_status apply_cts(lors_call *call)
{
    layout l = lay_out_cts(call);
    lors_spectral *s = &l.s;
    LORS_TRY(lors_spectral_sum(s, WEIGHT, 0, call->n_models, l.sum));
    LORS_TRY(lors_spectral_push(s, &l.stack, lors_spectral_wide(s, l.sum), l.n_common, 0));
    int64_t n = l.stack.n;
    double least = n > 0 ? l.stack.sigma[n - 1] : 0;
    for (int32_t k = 0; k < call->n_models && !s->not_finite; k++) {
        if (lors_spectral_counts(call, WEIGHT, k)) {
            LORS_TRY(project_off(&l, k, n));
            LORS_TRY(lors_spectral_push(s, &l.stack, lors_spectral_wide(s, l.sum), l.n_own, least));
        }
    }
    flatten(&l.stack, s->n_short);
    return lors_spectral_merge(s, &l.stack, lors_call_number(call, LAMBDA, 0), l.spare);
}

/* --- the methods ------------------------------------------------------------------------------ */

const lors_method_def lors_method_iso_c = {
    .info = {.name = "iso_c",
             .summary = "the sum of the task vectors with all singular values equal (Iso-C)",
             .formula = "U S V' = sum_k weight_k (W_k - W0)\n"
                        "W = W0 + lambda * mean(S) * U V'\n"
                        "outside: W = W0 + lambda * sum_k weight_k (W_k - W0) / sum_k weight_k",
             .paper = "No Task Left Behind: Isotropic Model Merging, arXiv 2502.04959",
             .needs_base = true,
             .min_models = 1,
             .uses_matrices = true,
             .scope = "attention, mlp (2-D weights)",
             .cost = LORS_COST_SPECTRUM,
             .n_params = LORS_COUNT_OF(params) - 1,
             .params = params},
    .adds_to_base = true,
    .outside_is_mean = true,
    .is_base = lors_method_adds_nothing,
    .apply_whole = apply_c,
    .scratch_bytes = scratch_bytes_c,
    .n_numbers = n_numbers_c,
};

const lors_method_def lors_method_iso_cts = {
    .info = {.name = "iso_cts",
             .summary = "Iso-C with directions of each task vector beside the common ones",
             .formula = "d_k = weight_k (W_k - W0), r = min(rows, cols), c + N t = r\n"
                        "U_0 S_0 V_0' = the c leading directions of sum_k d_k\n"
                        "U_k S_k V_k' = the t leading directions of d_k - U_0 U_0' d_k\n"
                        "U = [U_0 ... U_N], V = [V_0 ... V_N], each to its nearest orthogonal\n"
                        "W = W0 + lambda * mean(S_0 ... S_N) * U V'\n"
                        "outside: W = W0 + lambda * sum_k weight_k (W_k - W0) / sum_k weight_k",
             .paper = "No Task Left Behind: Isotropic Model Merging, arXiv 2502.04959",
             .needs_base = true,
             .min_models = 1,
             .uses_matrices = true,
             .scope = "attention, mlp (2-D weights)",
             .cost = LORS_COST_SPECTRUM,
             .n_params = LORS_COUNT_OF(params),
             .params = params},
    .adds_to_base = true,
    .outside_is_mean = true,
    .is_base = lors_method_adds_nothing,
    .apply_whole = apply_cts,
    .scratch_bytes = scratch_bytes_cts,
    .n_numbers = n_numbers_cts,
};

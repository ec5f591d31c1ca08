/* star.c - STAR: each task vector cut to its leading singular values, which are scaled up to hold
 * what all of them held.
 *
 *   W_k - W0 = U S V';  r = the fewest leading values with sum >= eta % of sum(S)
 *   L_k = sum(S) / sum(S_1 ... S_r) * U_r S_r V_r'
 *   W = W0 + lambda * sum_k weight_k L_k
 *
 * Source: Lee et al. 2025, STAR: Spectral Truncation and Rescale, arXiv 2502.10339, whose mean over
 * the models is lambda = 1 / N here.
 */
#include <math.h>

#include "base/error.h"
#include "method/spectral.h"

enum { WEIGHT, LAMBDA, ETA };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1 / number of models", NAN),
    {"eta", LORS_PARAM_NUMBER, true, false, 0, 100, false, "40", 40,
     "percent of the sum of the singular values that the kept ones hold"},
};

typedef struct layout {
    lors_spectral s;
    lors_view long_rows; /* f64 [n_short][n_long] */
} layout;

static layout lay_out(const lors_call *call)
{
    layout l = {.s = lors_spectral_of(call, 0, 0)};
    l.long_rows = lors_spectral_take(&l.s, l.s.n_short * l.s.n_long);
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

/* How many of the values (squared, ascending) are kept, and what they are scaled by. */
static int64_t count_kept(const double *squared, int64_t n, double share, double *scale)
{
    double total = 0, kept = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        total += squared[i] > 0 ? sqrt(squared[i]) : 0;
    }
    while (count < n && kept < share * total) {
        double next = squared[n - 1 - count++];
        kept += next > 0 ? sqrt(next) : 0;
    }
    *scale = kept > 0 ? total / kept : 0;
    return count;
}

/* acc += lambda * weight_k * L_k */
static lors_status add_model(layout *l, int32_t k)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    lors_factor delta = lors_spectral_delta(s, k);
    double scale = 0;
    LORS_TRY(lors_spectral_decompose(s, delta));
    if (s->not_finite) {
        return LORS_OK;
    }
    int64_t n = count_kept(s->values, s->n_short, lors_call_number(call, ETA, k) / 100, &scale);
    uint64_t first = (uint64_t)((s->n_short - n) * s->n_short) * sizeof(double);
    lors_view rows = lors_view_at(s->vectors, first);
    LORS_TRY(lors_spectral_long_rows(s, delta, rows, n, l->long_rows));
    scale *= lors_call_number(call, LAMBDA, 0) * lors_call_number(call, WEIGHT, k);
    return lors_spectral_outer(s, l->long_rows, rows, n, scale, 1, call->acc);
}

static lors_status apply_whole(lors_call *call)
{
    layout l = lay_out(call);
    LORS_TRY(lors_spectral_fill(&l.s, 0));
    for (int32_t k = 0; k < call->n_models; k++) {
        if (lors_spectral_counts(call, WEIGHT, k)) {
            LORS_TRY(add_model(&l, k));
        }
    }
    return l.s.not_finite ? lors_spectral_fill(&l.s, NAN) : LORS_OK;
}

const lors_method_def lors_method_star = {
    .info = {.name = "star",
             .summary = "each task vector cut to its leading singular values and rescaled (STAR)",
             .formula = "U S V' = W_k - W0\n"
                        "r = the fewest leading values with sum >= eta % of sum(S)\n"
                        "L_k = sum(S) / sum(S_1 ... S_r) * U_r S_r V_r'\n"
                        "W = W0 + lambda * sum_k weight_k L_k\n"
                        "outside the scope: W = W0 + lambda * sum_k weight_k (W_k - W0)",
             .paper = "STAR, arXiv 2502.10339",
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

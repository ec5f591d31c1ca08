/* wudi.c - WUDI-Merging: the update that disturbs no model on the inputs that it was tuned on, as
 * far as the rows of its task vector span them.
 *
 *   d_k = weight_k (W_k - W0), G_k = d_k' d_k / norm(d_k)^2, D = sum_k d_k
 *   T minimises sum_k norm((T - d_k) d_k')^2 / norm(d_k)^2 + rho norm(T - D)^2
 *   so that T = (sum_k d_k G_k + rho D) (sum_k G_k + rho)^-1;  W = W0 + lambda * T
 *
 * rho is `ridge` times the mean eigenvalue of sum_k G_k, which is N / cols. Source: Cheng et al.
 * 2025, Whoever Started the Interference Should End It, arXiv 2503.08099, where some hundred steps
 * of Adam start at D; the sum is convex, and rho in place of the early stop keeps T by D where no
 * d_k says much. ridge 0 is the minimum itself, of the least norm.
 */
#include <math.h>

#include "base/error.h"
#include "method/spectral.h"

enum { WEIGHT, LAMBDA, RIDGE };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1", 1),
    {"ridge", LORS_PARAM_NUMBER, false, false, 0, 1e9, false, "0.01", 0.01,
     "how strongly the update is held to the sum of the task vectors"},
};

typedef struct layout {
    lors_spectral s;
    lors_view of_rows; /* f64 [n_rows][n_rows] */
    lors_view right;   /* f64 [n_rows][n_cols]: sum of d_k G_k */
    lors_view one;     /* f64 [2][1] */
    double *value;
} layout;

static layout lay_out(const lors_call *call)
{
    int64_t longest = call->n_rows > call->n_cols ? call->n_rows : call->n_cols;
    layout l = {.s = lors_spectral_of(call, call->n_cols, longest)};
    l.of_rows = lors_spectral_take(&l.s, call->n_rows * call->n_rows);
    l.right = lors_spectral_take(&l.s, (int64_t)call->n_elements);
    l.one = lors_spectral_take(&l.s, 2);
    l.value = lors_spectral_take_numbers(&l.s, 1);
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

static lors_factor transposed(lors_factor a)
{
    a.transposed = !a.transposed;
    return a;
}

/* *square = norm(a)^2: the eigenvalue of the 1 x 1 Gram matrix of all its elements. */
static lors_status square_of(layout *l, lors_factor a, double *square)
{
    const lors_call *call = l->s.call;
    lors_factor flat = {.x = a.x, .wide = a.wide, .ld = (int64_t)call->n_elements};
    lors_product p = {.left = flat,
                      .right = transposed(flat),
                      .rows = 1,
                      .cols = 1,
                      .depth = (int64_t)call->n_elements,
                      .alpha = 1,
                      .symmetric = true};
    LORS_TRY(lors_spectral_multiply(&l->s, l->one, p));
    LORS_TRY(call->ops->eigen(call->queue, l->one, 1, 1, lors_view_at(l->one, sizeof(double)),
                              l->value, l->s.solver));
    *square = *l->value;
    return LORS_OK;
}

/* gram += d' d / norm(d)^2 and right += d d' d / norm(d)^2, of which the weight counts once. */
static lors_status add_model(layout *l, int32_t k, double beta)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    lors_factor d = lors_spectral_delta(s, k);
    double square = 0;
    LORS_TRY(square_of(l, d, &square));
    s->not_finite = s->not_finite || isnan(square);
    double share = square > 0 ? 1 / square : 0;
    lors_product gram = {.left = transposed(d),
                         .right = d,
                         .rows = call->n_cols,
                         .cols = call->n_cols,
                         .depth = call->n_rows,
                         .alpha = share,
                         .beta = beta,
                         .symmetric = true};
    lors_product rows = {.left = d,
                         .right = transposed(d),
                         .rows = call->n_rows,
                         .cols = call->n_rows,
                         .depth = call->n_cols,
                         .alpha = share * lors_call_number(call, WEIGHT, k),
                         .symmetric = true};
    lors_product right = {.left = {.x = l->of_rows, .wide = true, .ld = call->n_rows},
                          .right = d,
                          .rows = call->n_rows,
                          .cols = call->n_cols,
                          .depth = call->n_rows,
                          .alpha = 1,
                          .beta = 1};
    LORS_TRY(lors_spectral_multiply(s, s->gram, gram));
    LORS_TRY(lors_spectral_multiply(s, l->of_rows, rows));
    return lors_spectral_multiply(s, l->right, right);
}

/* right = rho D, to which the models add. */
static lors_status begin_right(layout *l, double rho)
{
    const lors_call *call = l->s.call;
    LORS_TRY(lors_spectral_sum(&l->s, WEIGHT, 0, call->n_models, l->right));
    int64_t n = (int64_t)call->n_elements;
    return call->ops->scale_rows(call->queue, l->right, 1, n, n, &rho);
}

/* acc = lambda * right * vectors' diag(1 / (values + rho)) vectors */
static lors_status finish(layout *l, double rho)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    int64_t n = call->n_cols;
    double *roots = s->values + n;
    LORS_TRY(call->ops->eigen(call->queue, s->gram, n, n, s->vectors, s->values, s->solver));
    if (isnan(s->values[0])) {
        return lors_spectral_fill(s, NAN);
    }
    double nothing = LORS_NULL * LORS_NULL * (s->values[n - 1] + rho);
    for (int64_t i = 0; i < n; i++) {
        double value = (s->values[i] > 0 ? s->values[i] : 0) + rho;
        roots[i] = value > nothing ? 1 / sqrt(value) : 0;
    }
    LORS_TRY(call->ops->scale_rows(call->queue, s->vectors, n, n, n, roots));
    lors_factor v = {.x = s->vectors, .wide = true, .ld = n};
    lors_product p = {.left = transposed(v),
                      .right = v,
                      .rows = n,
                      .cols = n,
                      .depth = n,
                      .alpha = 1,
                      .symmetric = true};
    LORS_TRY(lors_spectral_multiply(s, s->gram, p));
    p = (lors_product){.left = lors_spectral_wide(s, l->right),
                       .right = {.x = s->gram, .wide = true, .ld = n},
                       .rows = call->n_rows,
                       .cols = n,
                       .depth = n,
                       .alpha = lors_call_number(call, LAMBDA, 0)};
    return lors_spectral_multiply(s, call->acc, p);
}

static lors_status apply_whole(lors_call *call)
{
    layout l = lay_out(call);
    int32_t n = 0;
    for (int32_t k = 0; k < call->n_models; k++) {
        n += lors_spectral_counts(call, WEIGHT, k);
    }
    double rho = lors_call_number(call, RIDGE, 0) * n / (double)call->n_cols, beta = 0;
    LORS_TRY(begin_right(&l, rho));
    for (int32_t k = 0; k < call->n_models; k++) {
        if (lors_spectral_counts(call, WEIGHT, k)) {
            LORS_TRY(add_model(&l, k, beta));
            beta = 1;
        }
    }
    if (l.s.not_finite || n == 0) {
        return lors_spectral_fill(&l.s, n == 0 ? 0 : NAN);
    }
    return finish(&l, rho);
}

const lors_method_def lors_method_wudi = {
    .info = {.name = "wudi",
             .summary = "the update that least disturbs any model on its own inputs (WUDI)",
             .formula = "d_k = weight_k (W_k - W0), G_k = d_k' d_k / norm(d_k)^2\n"
                        "rho = ridge * N / cols\n"
                        "T = (sum_k d_k G_k + rho sum_k d_k) (sum_k G_k + rho)^-1\n"
                        "W = W0 + lambda * T\n"
                        "outside: W = W0 + lambda * sum_k weight_k (W_k - W0) / sum_k weight_k",
             .paper = "WUDI-Merging, arXiv 2503.08099, in closed form",
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
    .apply_whole = apply_whole,
    .scratch_bytes = scratch_bytes,
    .n_numbers = n_numbers,
};

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
 * d_k says much. It also makes the matrix positive definite, so that a Cholesky factor will do.
 * ridge 0 is the minimum itself, of the least norm, by eigenvalues.
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
    lors_view square; /* f64 [n][n], n the shorter side: d_k d_k' or d_k' d_k */
    lors_view right;  /* f64 [n_rows][n_cols]: sum of d_k G_k + rho D; acc, or spare */
    lors_view spare;
    lors_view solver; /* of solutions and dot products */
    double *dots;     /* [n_rows] */
} layout;

static layout lay_out(const lors_call *call)
{
    int64_t longest = call->n_rows > call->n_cols ? call->n_rows : call->n_cols;
    layout l = {.s = lors_spectral_of(call, call->n_cols, longest)};
    uint64_t solve = call->ops->solve_bytes(call->n_cols, call->n_rows);
    uint64_t dots = call->ops->dot_rows_bytes(call->n_rows);
    l.square = lors_spectral_take(&l.s, l.s.n_short * l.s.n_short);
    l.spare = lors_spectral_take(&l.s, (int64_t)call->n_elements);
    l.solver = lors_spectral_take_bytes(&l.s, solve > dots ? solve : dots);
    l.dots = lors_spectral_take_numbers(&l.s, call->n_rows);
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

/* *square = norm(a)^2 */
static lors_status square_of(layout *l, lors_factor a, double *square)
{
    const lors_call *call = l->s.call;
    LORS_TRY(call->ops->dot_rows(call->queue, &a, &a, call->n_rows, call->n_cols, l->dots,
                                 l->solver));
    *square = 0;
    for (int64_t i = 0; i < call->n_rows; i++) {
        *square += l->dots[i];
    }
    return LORS_OK;
}

/* out = alpha d d' or alpha d'd [n][n], + beta out. */
static lors_status square(const layout *l, lors_factor d, bool of_rows, double alpha, double beta,
                          lors_view out)
{
    const lors_call *call = l->s.call;
    int64_t n = of_rows ? call->n_rows : call->n_cols;
    lors_product p = {.left = of_rows ? d : transposed(d),
                      .right = of_rows ? transposed(d) : d,
                      .rows = n,
                      .cols = n,
                      .depth = of_rows ? call->n_cols : call->n_rows,
                      .alpha = alpha,
                      .beta = beta,
                      .symmetric = true};
    return lors_spectral_multiply(&l->s, out, p);
}

/* right += d d' d / norm(d)^2, of which the weight counts once, by the smaller of the squares. */
static lors_status add_right(const layout *l, lors_factor d, double share)
{
    const lors_call *call = l->s.call;
    bool of_rows = !l->s.tall;
    lors_factor squared = {.x = l->square, .wide = true, .ld = l->s.n_short};
    lors_product p = {.left = of_rows ? squared : d,
                      .right = of_rows ? d : squared,
                      .rows = call->n_rows,
                      .cols = call->n_cols,
                      .depth = l->s.n_short,
                      .alpha = 1,
                      .beta = 1};
    LORS_TRY(square(l, d, of_rows, share, 0, l->square));
    return lors_spectral_multiply(&l->s, l->right, p);
}

/* gram = sum of the G_k, right = sum of the d_k G_k + rho D. */
static lors_status add_models(layout *l, double rho)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    double beta = 0;
    int64_t n = (int64_t)call->n_elements;
    LORS_TRY(lors_spectral_sum(s, WEIGHT, 0, call->n_models, l->right));
    LORS_TRY(call->ops->scale_rows(call->queue, l->right, 1, n, n, &rho));
    for (int32_t k = 0; k < call->n_models && !s->not_finite; k++) {
        lors_factor d = lors_spectral_delta(s, k);
        double norm = 0, weight = lors_call_number(call, WEIGHT, k);
        if (!lors_spectral_counts(call, WEIGHT, k)) {
            continue;
        }
        LORS_TRY(square_of(l, d, &norm));
        s->not_finite = !isfinite(norm);
        double share = norm > 0 ? 1 / norm : 0;
        LORS_TRY(add_right(l, d, share * weight));
        LORS_TRY(square(l, d, false, share, beta, s->gram));
        beta = 1;
    }
    return LORS_OK;
}

/* gram = vectors' diag(1 / (values + rho)) vectors of what it was; what is null is left out. */
static lors_status invert(layout *l, double rho)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    int64_t n = call->n_cols;
    double *roots = s->values + n;
    LORS_TRY(call->ops->eigen(call->queue, s->gram, n, n, s->vectors, s->values, s->solver));
    s->not_finite = isnan(s->values[0]);
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
    return lors_spectral_multiply(s, s->gram, p);
}

/* acc = lambda * right (gram + rho)^-1 by all eigenvalues: slow, but where gram + rho is singular
 * but for rounding the only way. */
static lors_status by_eigenvalues(layout *l, double rho)
{
    lors_spectral *s = &l->s;
    const lors_call *call = s->call;
    l->right = l->spare;
    LORS_TRY(add_models(l, rho));
    LORS_TRY(s->not_finite ? LORS_OK : invert(l, rho));
    if (s->not_finite) {
        return lors_spectral_fill(s, NAN);
    }
    lors_product p = {.left = lors_spectral_wide(s, l->right),
                      .right = {.x = s->gram, .wide = true, .ld = call->n_cols},
                      .rows = call->n_rows,
                      .cols = call->n_cols,
                      .depth = call->n_cols,
                      .alpha = lors_call_number(call, LAMBDA, 0)};
    return lors_spectral_multiply(s, call->acc, p);
}

/* The same by a Cholesky factor, where there is one. */
static lors_status by_factor(layout *l, double rho, bool *solved)
{
    const lors_call *call = l->s.call;
    int64_t n = (int64_t)call->n_elements;
    double lambda = lors_call_number(call, LAMBDA, 0);
    l->right = call->acc;
    LORS_TRY(add_models(l, rho));
    if (l->s.not_finite) {
        return LORS_OK;
    }
    LORS_TRY(call->ops->solve(call->queue, l->s.gram, call->n_cols, rho, l->right, call->n_rows,
                              solved, l->solver));
    return *solved ? call->ops->scale_rows(call->queue, call->acc, 1, n, n, &lambda) : LORS_OK;
}

/* The eigenvalues of sum_k G_k sum up to N: none is null beside this rho. */
static bool is_definite(double rho, int32_t n_models)
{
    return rho > LORS_NULL * LORS_NULL * (n_models + rho);
}

static lors_status apply_whole(lors_call *call)
{
    layout l = lay_out(call);
    int32_t n = 0;
    bool solved = false;
    for (int32_t k = 0; k < call->n_models; k++) {
        n += lors_spectral_counts(call, WEIGHT, k);
    }
    double rho = lors_call_number(call, RIDGE, 0) * n / (double)call->n_cols;
    if (n == 0) {
        return lors_spectral_fill(&l.s, 0);
    }
    if (is_definite(rho, n)) {
        LORS_TRY(by_factor(&l, rho, &solved));
    }
    return solved ? LORS_OK : by_eigenvalues(&l, rho);
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

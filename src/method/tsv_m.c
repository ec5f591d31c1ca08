/* tsv_m.c - TSV-Merge: the leading singular vectors of all task vectors, made orthogonal.
 *
 *   weight_k (W_k - W0) = U_k S_k V_k', cut to rank r_k
 *   U = [U_1 ... U_N], V = [V_1 ... V_N], each replaced by its polar factor U (U'U)^-1/2
 *   W = W0 + lambda * U diag(S_1 ... S_N) V'
 *
 * Source: Gargiulo et al. 2025, Task Singular Vectors, arXiv 2412.00081. Directions that the models
 * share make U'U singular; there the paper's U is arbitrary, here it is the partial isometry: equal
 * models give what one of them gives.
 *
 * boost b < 1 is the boosting of Skorobogat et al. 2025, arXiv 2506.16506, as BoostedTSV-M has it:
 * of each S_k, as cut, the values behind the first ones that hold the share b of their sum are
 * raised to the last of these.
 */
#include <math.h>

#include "base/error.h"
#include "method/spectral.h"

enum { WEIGHT, LAMBDA, RANK, BOOST };

static const lors_param_info params[] = {
    LORS_PARAM_WEIGHT(false, "1", 1),
    LORS_PARAM_LAMBDA("1", 1),
    {"rank", LORS_PARAM_RANK, true, false, 0, 1e9, false, "min(rows, cols) / number of models", NAN,
     "of each task vector: a count, a share such as \"20%\", or {energy: 0.9}"},
    {"boost", LORS_PARAM_NUMBER, true, false, 0, 1, false, "1", 1,
     "singular values behind this share of their sum are raised to its last one; 1: none"},
};

typedef struct layout {
    lors_spectral s;
    lors_stack stack;
    lors_view spare;
} layout;

static const lors_cell *rank_of(const lors_call *call, int32_t k)
{
    return &call->cells[RANK * call->n_models + k];
}

/* Rows that model k may take: by energy any number. */
static int64_t most_rows(const lors_call *call, int32_t k)
{
    int64_t n_short = call->n_rows < call->n_cols ? call->n_rows : call->n_cols;
    const lors_cell *cell = rank_of(call, k);
    return cell->energy > 0 || cell->number > (double)n_short ? n_short : (int64_t)cell->number;
}

static layout lay_out(const lors_call *call)
{
    int64_t capacity = 0, n_long = call->n_rows > call->n_cols ? call->n_rows : call->n_cols;
    for (int32_t k = 0; k < call->n_models; k++) {
        capacity += most_rows(call, k);
    }
    layout l = {.s = lors_spectral_of(call, capacity < n_long ? capacity : n_long, capacity)};
    l.stack = lors_spectral_stack(&l.s, capacity);
    l.spare = lors_spectral_take(&l.s, capacity * l.s.n_long);
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

/* Values (ascending) that are not among the fewest leading ones with this share of the energy. */
static void cut_by_energy(double *sigma, int64_t n, double energy)
{
    double total = 0, kept = 0;
    for (int64_t i = 0; i < n; i++) {
        total += sigma[i] * sigma[i];
    }
    double target = energy * total - 4e-16 * (double)n * total; /* rounding is no missing energy */
    for (int64_t i = n - 1; i >= 0; i--) {
        double square = sigma[i] * sigma[i];
        sigma[i] = kept < target ? sigma[i] : 0;
        kept += square;
    }
}

static void boost_values(double *sigma, int64_t n, double share)
{
    double total = 0, sum = 0, least = 0;
    for (int64_t i = 0; i < n; i++) {
        total += sigma[i];
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        if (least == 0) {
            sum += sigma[i];
            least = sum >= share * total ? sigma[i] : 0;
        } else if (sigma[i] > 0) {
            sigma[i] = least;
        }
    }
}

/* What is cut has no direction. */
static lors_status clear_cut(lors_spectral *s, const lors_stack *stack, int64_t from)
{
    const lors_backend_ops *ops = s->call->ops;
    int64_t n = stack->n - from;
    uint64_t at = (uint64_t)from * sizeof(double);
    for (int64_t i = 0; i < n; i++) {
        s->values[i] = stack->sigma[from + i] > 0;
    }
    LORS_TRY(ops->scale_rows(s->call->queue,
                             lors_view_at(stack->long_rows, at * (uint64_t)s->n_long), n, s->n_long,
                             s->n_long, s->values));
    return ops->scale_rows(s->call->queue,
                           lors_view_at(stack->short_rows, at * (uint64_t)s->n_short), n,
                           s->n_short, s->n_short, s->values);
}

static lors_status push_model(lors_spectral *s, lors_stack *stack, int32_t k)
{
    const lors_call *call = s->call;
    int64_t from = stack->n, n = most_rows(call, k);
    LORS_TRY(lors_spectral_push(s, stack, lors_spectral_delta(s, k), n, 0));
    if (rank_of(call, k)->energy > 0) {
        cut_by_energy(stack->sigma + from, n, rank_of(call, k)->energy);
        LORS_TRY(clear_cut(s, stack, from));
    }
    if (lors_call_number(call, BOOST, k) < 1) {
        boost_values(stack->sigma + from, n, lors_call_number(call, BOOST, k));
    }
    for (int64_t i = from; i < stack->n; i++) {
        stack->sigma[i] *= lors_call_number(call, WEIGHT, k);
    }
    return LORS_OK;
}

static lors_status apply_whole(lors_call *call)
{
    layout l = lay_out(call);
    for (int32_t k = 0; k < call->n_models; k++) {
        if (lors_spectral_counts(call, WEIGHT, k)) {
            LORS_TRY(push_model(&l.s, &l.stack, k));
        }
    }
    return lors_spectral_merge(&l.s, &l.stack, lors_call_number(call, LAMBDA, 0), l.spare);
}

const lors_method_def lors_method_tsv_m = {
    .info = {.name = "tsv_m",
             .summary = "leading singular vectors of all task vectors, made orthogonal (TSV-M)",
             .formula = "U_k S_k V_k' = weight_k (W_k - W0), cut to rank r\n"
                        "U = [U_1 ... U_N], V = [V_1 ... V_N], each to its nearest orthogonal\n"
                        "W = W0 + lambda * U diag(S_1 ... S_N) V'\n"
                        "outside: W = W0 + lambda * sum_k weight_k (W_k - W0) / sum_k weight_k",
             .paper = "Task Singular Vectors, arXiv 2412.00081; boost: arXiv 2506.16506",
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

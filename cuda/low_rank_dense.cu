/* low_rank_dense.cu - all directions of one matrix: the eigenvectors of its Gram matrix in f64, or,
 * where `exact` asks for it, its singular value decomposition.
 *
 * cuSOLVER is asked first (Xsyevd, Xgesvd). Its answer is measured: info, the order and sum of the
 * values, norm(V'V - I) and norm(G V - V diag). Where it will not do, one-sided Jacobi solves the
 * same problem without any library. f64 keeps the squaring of the condition number harmless: what a
 * singular value below 1e-7 s_1 contributes lies under the f32 rounding of A itself.
 */
#include <math.h>
#include <stdlib.h>

#include "cuda/low_rank.h"

/* What a solver in f64 must keep: deviations of the vectors, and of the sum of the values. */
static constexpr double solver_slack = 1e-9;

typedef struct dense {
    lors_truncation *t;
    lors_matrices a;
    int64_t rank; /* of the result; before an energy is known, the most it may be */
    bool exact;
    double *device_values, *v, *gram, *parts;
    double *a_wide;   /* exact: A f64, [n_short][n_long] */
    double *vectors;  /* [n_short][n_short]: eigenvectors as columns; exact: V' */
    double *rotation; /* [n_short][n_short]: of Jacobi; lies where the library's work space does */
    int32_t *info, *order;
    unsigned char *projection, *solver;
    uint64_t solver_bytes;
    double *values;   /* [n_short], host: the solver's, squared, descending */
    double *measured; /* [n_short], host: those of the vectors it gave, as Rayleigh quotients */
    lors_projection p;
} dense;

/* What Xsyevd and Xgesvd may work in: they are given more where they ask for more. */
static int64_t solver_doubles(int64_t n_long, int64_t n_short, bool exact)
{
    return 2 * n_short * n_short + 64 * (n_short + (exact ? n_long : 0)) + (128 << 10);
}

static uint64_t lay_out(dense *d, unsigned char *base)
{
    int64_t n = d->a.n_short, ld = lors_round_up(d->rank, LORS_PANEL);
    uint64_t at = 0, of_projection = 0;
    d->device_values = lors_cuda_carve<double>(base, &at, n);
    d->info = lors_cuda_carve<int32_t>(base, &at, 1);
    d->order = lors_cuda_carve<int32_t>(base, &at, n);
    d->v = lors_cuda_carve<double>(base, &at, n * ld);
    d->gram = lors_cuda_carve<double>(base, &at, n * n);
    d->parts = lors_cuda_carve<double>(base, &at, lors_cuda_deviation_parts(n, ld));
    d->vectors = lors_cuda_carve<double>(base, &at, n * n);
    d->a_wide = lors_cuda_carve<double>(base, &at, d->exact ? n * d->a.n_long : 0);
    d->solver_bytes = (uint64_t)solver_doubles(d->a.n_long, n, d->exact) * sizeof(double);
    d->solver = lors_cuda_carve<unsigned char>(base, &at, (int64_t)d->solver_bytes);
    d->rotation = reinterpret_cast<double *>(d->solver);
    lors_cuda_projection_lay_out(&d->p, &d->a, d->rank, nullptr, &of_projection);
    d->projection = lors_cuda_carve<unsigned char>(base, &at, (int64_t)of_projection);
    return at;
}

uint64_t lors_cuda_dense_bytes(const lors_matrices *a, int64_t rank, bool exact)
{
    dense d = {};
    d.a = *a;
    d.a.n = 1; /* one after another */
    d.rank = rank;
    d.exact = exact;
    return rank > 0 ? lay_out(&d, nullptr) : 0;
}

/* --- The library ------------------------------------------------------------------------------ */

/* Room for a call of the library, if it takes the problem at all. */
static lors_status open_space(dense *d, size_t on_device, size_t on_host)
{
    d->t->space.reserved = d->solver;
    d->t->space.reserved_bytes = d->solver_bytes;
    return lors_cuda_grow_space(d->t->queue, &d->t->space, on_device, on_host);
}

static cusolverStatus_t ask_eigen(dense *d, bool sizes, size_t *on_device, size_t *on_host)
{
    lors_queue *queue = d->t->queue;
    lors_solver_space *space = &d->t->space;
    int64_t n = d->a.n_short;
    if (sizes) {
        return cusolverDnXsyevd_bufferSize(queue->solver, queue->params, CUSOLVER_EIG_MODE_VECTOR,
                                           CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, d->vectors, n,
                                           CUDA_R_64F, d->device_values, CUDA_R_64F, on_device,
                                           on_host);
    }
    return cusolverDnXsyevd(queue->solver, queue->params, CUSOLVER_EIG_MODE_VECTOR,
                            CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, d->vectors, n, CUDA_R_64F,
                            d->device_values, CUDA_R_64F, space->device, *on_device, space->host,
                            *on_host, d->info);
}

/* A = U S V' with m >= n; U is not wanted. */
static cusolverStatus_t ask_singular(dense *d, bool sizes, size_t *on_device, size_t *on_host)
{
    lors_queue *queue = d->t->queue;
    lors_solver_space *space = &d->t->space;
    int64_t m = d->a.n_long, n = d->a.n_short;
    if (sizes) {
        return cusolverDnXgesvd_bufferSize(queue->solver, queue->params, 'N', 'A', m, n, CUDA_R_64F,
                                           d->a_wide, m, CUDA_R_64F, d->device_values, CUDA_R_64F,
                                           nullptr, m, CUDA_R_64F, d->vectors, n, CUDA_R_64F,
                                           on_device, on_host);
    }
    return cusolverDnXgesvd(queue->solver, queue->params, 'N', 'A', m, n, CUDA_R_64F, d->a_wide, m,
                            CUDA_R_64F, d->device_values, CUDA_R_64F, nullptr, m, CUDA_R_64F,
                            d->vectors, n, CUDA_R_64F, space->device, *on_device, space->host,
                            *on_host, d->info);
}

/* What is solved: G in `vectors`, or A in `a_wide`. */
static lors_status load_problem(dense *d)
{
    size_t n_bytes = (size_t)(d->a.n_short * d->a.n_short) * sizeof(double);
    if (d->exact) {
        return lors_cuda_widen(d->t->queue, &d->a, d->a_wide);
    }
    LORS_CUDA_TRY(cudaMemcpyAsync(d->vectors, d->gram, n_bytes, cudaMemcpyDeviceToDevice,
                                  d->t->queue->stream));
    return LORS_OK;
}

/* The library's values, squared and descending, into d->values. */
static lors_status fetch_values(dense *d)
{
    int64_t n = d->a.n_short;
    LORS_TRY(
        lors_cuda_fetch(d->t->queue, d->values, d->device_values, (uint64_t)n * sizeof(double)));
    for (int64_t i = 0; i < n && d->exact; i++) {
        d->values[i] *= d->values[i];
    }
    for (int64_t i = 0; i < n / 2 && !d->exact; i++) {
        double value = d->values[i];
        d->values[i] = d->values[n - 1 - i];
        d->values[n - 1 - i] = value;
    }
    return LORS_OK;
}

static bool values_are_sound(const dense *d)
{
    double sum = 0, total = d->t->total[d->a.index[0]];
    bool sound = true;
    for (int64_t i = 0; i < d->a.n_short; i++) {
        sum += d->values[i];
        sound = sound && (i == 0 || d->values[i] <= d->values[i - 1]);
    }
    return sound && fabs(sum - total) <= solver_slack * total;
}

static lors_status solve_by_library(dense *d, bool *answered)
{
    size_t on_device = 0, on_host = 0;
    int32_t info = -1;
    *answered = false;
    cusolverStatus_t (*ask)(dense *, bool, size_t *, size_t *) =
        d->exact ? ask_singular : ask_eigen;
    cusolverStatus_t sizes = ask(d, true, &on_device, &on_host);
    if (lors_cuda_solver_refuses(sizes)) {
        return LORS_OK;
    }
    LORS_TRY(lors_cuda_check_solver(sizes, "a bufferSize of cusolverDn"));
    LORS_TRY(open_space(d, on_device, on_host));
    LORS_TRY(load_problem(d));
    cusolverStatus_t solved = ask(d, false, &on_device, &on_host);
    if (lors_cuda_solver_refuses(solved)) {
        return LORS_OK;
    }
    LORS_TRY(lors_cuda_check_solver(solved, "a solver of cusolverDn"));
    LORS_TRY(lors_cuda_fetch(d->t->queue, &info, d->info, sizeof info));
    if (info == 0) {
        LORS_TRY(fetch_values(d));
        *answered = values_are_sound(d);
    }
    return LORS_OK;
}

/* --- Jacobi ----------------------------------------------------------------------------------- */

typedef struct ranked {
    double value;
    int32_t column;
} ranked;

/* The largest first; equal ones in the order of their columns. */
static int compare_ranked(const void *left, const void *right)
{
    const ranked *a = static_cast<const ranked *>(left), *b = static_cast<const ranked *>(right);
    if (a->value != b->value) {
        return a->value > b->value ? -1 : 1;
    }
    return a->column < b->column ? -1 : a->column > b->column;
}

/* d->values from the columns' squared norms, and d->order. places: [n_short]. */
static lors_status rank_columns(dense *d, ranked *places, int32_t *order)
{
    int64_t n = d->a.n_short;
    LORS_TRY(
        lors_cuda_fetch(d->t->queue, d->values, d->device_values, (uint64_t)n * sizeof(double)));
    for (int64_t i = 0; i < n; i++) {
        places[i].value = d->exact ? d->values[i] : sqrt(d->values[i]);
        places[i].column = (int32_t)i;
    }
    qsort(places, (size_t)n, sizeof *places, compare_ranked);
    for (int64_t i = 0; i < n; i++) {
        d->values[i] = places[i].value;
        order[i] = places[i].column;
    }
    return lors_cuda_send(d->t->queue, d->order, order, (uint64_t)n * sizeof *order);
}

static lors_status out_of_memory(void)
{
    return lors_cuda_fail(LORS_ERR_LIMIT, "out of memory for the singular values of a matrix");
}

static lors_status solve_by_jacobi(dense *d, bool *answered)
{
    int64_t n = d->a.n_short;
    double total = d->t->total[d->a.index[0]];
    LORS_TRY(load_problem(d));
    LORS_TRY(lors_cuda_jacobi(d->t->queue, d->exact ? d->a_wide : d->vectors, d->rotation,
                              d->device_values, reinterpret_cast<uint32_t *>(d->info),
                              d->exact ? d->a.n_long : n, n, d->exact ? sqrt(total) : total,
                              answered));
    ranked *places = static_cast<ranked *>(malloc((size_t)n * sizeof *places));
    int32_t *order = static_cast<int32_t *>(malloc((size_t)n * sizeof *order));
    lors_status status = places && order ? rank_columns(d, places, order) : out_of_memory();
    free(places);
    free(order);
    *answered = *answered && status == LORS_OK && values_are_sound(d);
    return status;
}

/* --- The result ------------------------------------------------------------------------------- */

/* The least rank that holds `energy` of the total: one at least. */
static int64_t rank_for_energy(const dense *d, double energy, double total)
{
    double kept = 0, target = energy * total;
    target -= 4e-16 * (double)d->a.n_short * total; /* rounding is no missing energy */
    int64_t rank = 0;
    while (rank < d->a.n_short && (rank == 0 || kept < target)) {
        kept += d->values[rank] > 0 ? d->values[rank] : 0;
        rank++;
    }
    return rank;
}

/* V, the largest first: from columns of the library, from rows of V', or from columns of Jacobi. */
static lors_status gather(dense *d, bool by_library)
{
    int64_t n = d->a.n_short;
    lors_gathering g = {d->vectors, n, 1, n, d->rank, d->p.ld, nullptr, true};
    if (by_library && d->exact) {
        g.column_step = 1;
        g.row_step = n;
        g.reversed = false;
    } else if (!by_library) {
        g.from = d->rotation;
        g.order = d->order;
    }
    return lors_cuda_gather(d->t->queue, &g, d->v);
}

/* Are the vectors those of the leading values? */
static bool vectors_fit(const dense *d)
{
    bool fit = true;
    for (int64_t i = 0; i < d->rank; i++) {
        fit = fit && fabs(d->measured[i] - d->values[i]) <= solver_slack * d->values[0];
    }
    return fit;
}

/* low and its certificate from the values and vectors of a solver; *good: do they keep what they
 * promise? */
static lors_status conclude(dense *d, bool by_library, bool *good)
{
    int32_t member = d->a.index[0];
    double energy = d->t->ranks[member].energy, total = d->t->total[member];
    lors_certificate *c = &d->t->certificates[member];
    uint64_t at = 0;
    if (energy > 0) {
        d->rank = rank_for_energy(d, energy, total);
    }
    lors_cuda_projection_lay_out(&d->p, &d->a, d->rank, d->projection, &at);
    d->p.v = d->v;
    LORS_TRY(gather(d, by_library));
    LORS_TRY(lors_cuda_project(d->t->queue, &d->p));
    LORS_TRY(lors_cuda_deviations(d->t->queue, &d->p, d->gram, d->parts));
    double next = d->rank < d->a.n_short ? d->values[d->rank] : 0, head[LORS_RESULT_HEAD];
    LORS_TRY(lors_cuda_fetch(d->t->queue, head, d->p.results, sizeof head));
    LORS_TRY(lors_cuda_fetch(d->t->queue, d->measured, d->p.results + LORS_RESULT_HEAD,
                             (uint64_t)d->rank * sizeof(double)));
    lors_cuda_certify(c, total, d->measured, d->rank, next, head[0]);
    c->orthogonality = sqrt(head[1]);
    c->residual = sqrt(head[2]) / d->measured[0];
    c->path = d->exact ? "svd" : "gram";
    *good = c->orthogonality <= solver_slack && c->residual <= solver_slack && vectors_fit(d);
    return LORS_OK;
}

static lors_status solve(dense *d)
{
    bool answered = false, good = false;
    LORS_TRY(lors_cuda_gram(d->t->queue, &d->a, d->gram));
    LORS_TRY(solve_by_library(d, &answered));
    if (answered) {
        LORS_TRY(conclude(d, true, &good));
    }
    if (!good) {
        LORS_TRY(solve_by_jacobi(d, &answered));
        if (answered) {
            LORS_TRY(conclude(d, false, &good));
        }
    }
    return good ? LORS_OK
                : lors_cuda_fail(LORS_ERR_NUMERICS, "the %s solver did not converge",
                                 d->exact ? "singular value" : "eigenvalue");
}

lors_status lors_cuda_dense(lors_truncation *t, int32_t member)
{
    dense d = {};
    const lors_rank *rank = &t->ranks[member];
    d.t = t;
    d.a = t->all;
    d.a.n = 1;
    d.a.index[0] = member;
    d.exact = rank->exact;
    d.rank = rank->energy > 0 || rank->count > d.a.n_short ? d.a.n_short : rank->count;
    lay_out(&d, t->scratch);
    d.values = static_cast<double *>(malloc(2 * (size_t)d.a.n_short * sizeof *d.values));
    d.measured = d.values ? d.values + d.a.n_short : nullptr;
    lors_status status = d.values ? solve(&d) : out_of_memory();
    free(d.values);
    return status;
}

/* low_rank.c - nearest matrix of rank r: leading right singular vectors V, then the projection.
 *
 * For A (the matrix, or its transpose where it is wide): result = (A V) V' in f64, rounded once to
 * f32. V comes from block Lanczos (low_rank_krylov.c) where the rank is small, or from a Gram
 * matrix in f32 (low_rank_single.c) where it is not large, if their certificates are good;
 * otherwise from the Gram matrix A'A in f64, whose eigenvectors they are. f64 keeps the squaring of
 * the condition number harmless: what a singular value below 1e-7 s_1 contributes lies under the
 * f32 rounding of A itself. Optimality: Eckart and Young 1936; LAPACK dsyevr (dsyev where it
 * fails). `exact` asks for the singular value decomposition instead (low_rank_exact.c).
 */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cpu/low_rank.h"

enum {
    TILE = 128
}; /* rows (or columns) of x widened to f64 at a time: fixed, part of the result */

typedef struct problem {
    lors_matrix a;
    const lors_cpu_kernels *kernels;
    float *low;
    lapack_int rank;
    double *gram, *copy, *values, *vectors, *tile, *projected, *work;
    lapack_int *integers, *support;
    lapack_int n_work, n_integers;
    unsigned char *quick; /* scratch of solvers in f32; shares its place with gram and copy */
    unsigned char *exact, *few;
    bool is_exact;
} problem;

static lapack_int work_size(lapack_int n)
{
    return 40 * n > 1 ? 40 * n : 1;
}

/* Lay the scratch out; with base NULL only measure it. */
static uint64_t lay_out(problem *p, unsigned char *base)
{
    uint64_t n = (uint64_t)p->a.n_short, at = 0, rank = (uint64_t)p->rank;
    p->n_work = work_size(p->a.n_short);
    p->n_integers = 10 * p->a.n_short + 1;
    p->integers = lors_carve(base, &at, (uint64_t)p->n_integers * sizeof(lapack_int));
    p->support = lors_carve(base, &at, 2 * (n + 1) * sizeof(lapack_int));
    p->values = lors_carve(base, &at, 8 * n);
    p->vectors = lors_carve(base, &at, 8 * n * (rank + 1));
    p->tile = lors_carve(base, &at, 8 * TILE * n);
    p->projected = lors_carve(base, &at, 8 * TILE * (rank + 1));
    p->work = lors_carve(base, &at, 8 * (uint64_t)p->n_work);
    p->few = lors_carve(base, &at, lors_project_bytes(p->a.n_short, p->rank));
    p->quick = base ? base + at : NULL;
    uint64_t krylov_end = at + lors_krylov_bytes(p->a.n_long, p->a.n_short, p->rank);
    uint64_t single_end = at + lors_single_bytes(p->a.n_short, p->rank);
    p->gram = lors_carve(base, &at, 8 * n * n);
    p->copy = lors_carve(base, &at, 8 * n * n);
    p->exact = base ? base + at : NULL;
    at += p->is_exact ? lors_exact_bytes(p->a.n_long, p->a.n_short) : 0;
    at = krylov_end > at ? krylov_end : at;
    return single_end > at ? single_end : at;
}

static problem problem_of(int64_t n_rows, int64_t n_cols, lors_rank rank)
{
    problem p = {.a = {.n_rows = n_rows, .n_cols = n_cols, .wide = n_cols > n_rows}};
    p.a.n_short = (lapack_int)(p.a.wide ? n_rows : n_cols);
    p.a.n_long = (lapack_int)(p.a.wide ? n_cols : n_rows);
    int64_t count = rank.energy > 0 ? p.a.n_short : rank.count;
    p.is_exact = rank.exact;
    p.rank = (lapack_int)(count < p.a.n_short ? count : p.a.n_short);
    return p;
}

uint64_t lors_cpu_truncate_bytes(int32_t n_matrices, int64_t n_rows, int64_t n_cols, lors_rank rank)
{
    (void)n_matrices; /* one after another */
    problem p = problem_of(n_rows, n_cols, rank);
    return lay_out(&p, NULL);
}

/* Rows first .. first+count-1 of A in f64, as they lie in memory: tall [count][short], wide (where
 * they are columns of x) [short][count]. */
static void widen_tile(const problem *p, int64_t first, int64_t count)
{
    int64_t n = p->a.n_short;
    if (!p->a.wide) {
        p->kernels->widen_f64(p->tile, p->a.x + first * n, count * n);
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        p->kernels->widen_f64(p->tile + j * count, p->a.x + j * p->a.n_cols + first, count);
    }
}

static int64_t tile_count(const problem *p, int64_t first)
{
    return p->a.n_long - first < TILE ? p->a.n_long - first : TILE;
}

/* gram = A'A, both triangles; also its copy. The trace is the squared Frobenius norm. */
static double form_gram(problem *p)
{
    lapack_int n = p->a.n_short;
    memset(p->gram, 0, (size_t)n * (size_t)n * sizeof(double));
    for (int64_t first = 0; first < p->a.n_long; first += TILE) {
        int count = (int)tile_count(p, first);
        widen_tile(p, first, count);
        /* Column-major: a tall tile is short x count, a wide one count x short. */
        cblas_dsyrk(CblasColMajor, CblasLower, p->a.wide ? CblasTrans : CblasNoTrans, n, count, 1,
                    p->tile, p->a.wide ? count : n, 1, p->gram, n);
    }
    double trace = 0;
    for (int64_t j = 0; j < n; j++) {
        trace += p->gram[j * n + j];
        for (int64_t i = j + 1; i < n; i++) {
            p->gram[i * n + j] = p->gram[j * n + i];
        }
    }
    memcpy(p->copy, p->gram, (size_t)n * (size_t)n * sizeof(double));
    return trace;
}

/* All eigenvalues, ascending, into `values`; with a range only the largest `count`, and vectors. */
static lapack_int solve(problem *p, char job, lapack_int count)
{
    lapack_int n = p->a.n_short, found = 0;
    lapack_int info =
        LAPACKE_dsyevr_work(LAPACK_COL_MAJOR, job, job == 'V' ? 'I' : 'A', 'L', n, p->copy, n, 0, 0,
                            n - count + 1, n, 0, &found, p->values, p->vectors, n, p->support,
                            p->work, p->n_work, p->integers, p->n_integers);
    return info ? info : found - count;
}

/* The slow and sure way: QR iteration for everything, then the last `count` columns. */
static lapack_int solve_all(problem *p, lapack_int count)
{
    lapack_int n = p->a.n_short;
    size_t bytes = (size_t)n * (size_t)n * sizeof(double);
    memcpy(p->copy, p->gram, bytes);
    lapack_int info = LAPACKE_dsyev_work(LAPACK_COL_MAJOR, 'V', 'L', n, p->copy, n, p->values,
                                         p->work, p->n_work);
    memmove(p->values, p->values + (n - count), (size_t)count * sizeof(double));
    memcpy(p->vectors, p->copy + (int64_t)(n - count) * n,
           (size_t)count * (size_t)n * sizeof(double));
    return info;
}

/* The least rank that holds `energy` of the total; value(i) is the i-th largest, squared. */
static lapack_int rank_for_energy(const problem *p, double energy, double total,
                                  double (*value)(const problem *p, lapack_int i))
{
    double kept = 0, target = energy * total;
    target -= 4e-16 * p->a.n_short * total; /* rounding is no missing energy */
    lapack_int rank = 0;
    while (rank < p->a.n_short && kept < target) {
        double next = value(p, rank++);
        kept += next > 0 ? next : 0;
    }
    return rank;
}

static double eigenvalue(const problem *p, lapack_int i)
{
    return p->values[p->a.n_short - 1 - i];
}

/* tile <- (tile V) V', V column-major short x rank. */
static void project_tile(const problem *p, int count, const double *v)
{
    lapack_int n = p->a.n_short, r = p->rank;
    if (!p->a.wide) { /* column-major short x count: V (V' tile) */
        cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, r, count, n, 1, v, n, p->tile, n, 0,
                    p->projected, r);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, n, count, r, 1, v, n, p->projected,
                    r, 0, p->tile, n);
    } else { /* column-major count x short: (tile V) V' */
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, count, r, n, 1, p->tile, count, v, n,
                    0, p->projected, count);
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, count, n, r, 1, p->projected, count, v,
                    n, 0, p->tile, count);
    }
}

/* values += the squared lengths of the columns of A V in this tile. */
static void add_values(const problem *p, int count, double *values)
{
    for (lapack_int c = 0; c < p->rank; c++) {
        const double *column = p->projected + (p->a.wide ? (int64_t)c * count : c);
        int step = p->a.wide ? 1 : p->rank;
        values[c] += cblas_ddot(count, column, step, column, step);
    }
}

/* low = (A V) V' by tiles; see lors_project_few. */
static double project(const problem *p, const double *v, double *values)
{
    if (lors_project_fits(p->rank)) {
        return lors_project_few(&p->a, p->low, v, p->rank, values, p->few);
    }
    int64_t n = p->a.n_short;
    double residual = 0;
    memset(values, 0, (size_t)p->rank * sizeof *values);
    for (int64_t first = 0; first < p->a.n_long; first += TILE) {
        int count = (int)tile_count(p, first);
        widen_tile(p, first, count);
        project_tile(p, count, v);
        add_values(p, count, values);
        if (!p->a.wide) {
            residual += p->kernels->narrow_residual(p->low + first * n, p->tile, p->a.x + first * n,
                                                    count * n);
            continue;
        }
        for (int64_t j = 0; j < n; j++) {
            int64_t at = j * p->a.n_cols + first;
            residual +=
                p->kernels->narrow_residual(p->low + at, p->tile + j * count, p->a.x + at, count);
        }
    }
    return residual;
}

/* norm(V'V - I), Frobenius. `overlap` has room for rank x rank. */
static double orthogonality_of(const problem *p, const double *v, double *overlap)
{
    lapack_int n = p->a.n_short, r = p->rank;
    double sum = 0;
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, r, r, n, 1, v, n, v, n, 0, overlap, r);
    for (int64_t j = 0; j < r; j++) {
        for (int64_t i = 0; i < r; i++) {
            double rest = overlap[j * r + i] - (i == j);
            sum += rest * rest;
        }
    }
    return sqrt(sum);
}

/* norm(G V - V diag(values)) / largest value, Frobenius. Uses `copy` as scratch. */
static double residual_of(problem *p, const double *v, const double *values)
{
    lapack_int n = p->a.n_short, r = p->rank;
    double *image = p->copy, sum = 0;
    cblas_dsymm(CblasColMajor, CblasLeft, CblasLower, n, r, 1, p->gram, n, v, n, 0, image, n);
    for (int64_t j = 0; j < r; j++) {
        for (int64_t i = 0; i < n; i++) {
            double rest = image[j * n + i] - values[j] * v[j * n + i];
            sum += rest * rest;
        }
    }
    return sqrt(sum) / values[r - 1];
}

static double root(double value)
{
    return value > 0 ? sqrt(value) : 0;
}

/* Everything of the certificate that follows from the spectrum. `values`: ascending, the last r
 * belong to the result; `next`: the one below them. */
static void certify(const problem *p, const double *values, double next, double total,
                    double residual, lors_certificate *c)
{
    double kept = 0;
    for (lapack_int i = 0; i < p->rank; i++) {
        kept += values[i] > 0 ? values[i] : 0;
    }
    c->rank = p->rank;
    c->energy = kept < total ? kept / total : 1;
    c->sigma_first = root(values[p->rank - 1]);
    c->sigma_last = root(values[0]);
    c->sigma_next = root(next);
    bool is_rounding = c->sigma_last <= LORS_NO_VALUE * c->sigma_first;
    c->gap = is_rounding ? 0 : (c->sigma_last - c->sigma_next) / c->sigma_last;
    double optimum = root(total - kept);
    c->excess = optimum > 1e-6 * c->norm ? sqrt(residual) / optimum - 1 : 0;
}

/* A matrix of zeros, or one that is not all numbers. */
static bool answer_by_norm(const problem *p, double total, lors_certificate *c)
{
    c->energy = 1;
    c->gap = 1;
    if (total > 0 && isfinite(total)) {
        return false;
    }
    float fill = total == 0 ? 0 : NAN;
    for (int64_t i = 0; i < p->a.n_rows * p->a.n_cols; i++) {
        p->low[i] = fill;
    }
    c->path = total == 0 ? "zero" : "not finite";
    return true;
}

/* Nothing to keep, or everything. */
static bool answer_by_rank(const problem *p, lors_rank rank, lors_certificate *c)
{
    size_t n_bytes = (size_t)(p->a.n_rows * p->a.n_cols) * sizeof(float);
    if (rank.energy > 0 || (p->rank > 0 && p->rank < p->a.n_short)) {
        return false;
    }
    if (p->rank <= 0) {
        memset(p->low, 0, n_bytes);
        c->energy = 0;
        c->path = "zero";
        return true;
    }
    memcpy(p->low, p->a.x, n_bytes);
    c->rank = p->a.n_short;
    c->path = "full";
    return true;
}

/* Squared Frobenius norm, row by row. */
static double squared_norm(const problem *p)
{
    double total = 0;
    for (int64_t row = 0; row < p->a.n_rows; row++) {
        total += p->kernels->sum_of_squares(p->a.x + row * p->a.n_cols, p->a.n_cols);
    }
    return total;
}

/* What a solver in f32 has found, certified. */
static void finish_certified(problem *p, const lors_krylov *k, double total, lors_certificate *c)
{
    double residual = project(p, p->vectors, p->values);
    certify(p, p->values, k->next, total, residual, c);
    c->orthogonality = orthogonality_of(p, p->vectors, p->copy);
    c->residual = k->residual;
    c->excess = k->excess;
    c->n_passes = 2 * (int64_t)k->n_steps;
}

/* The quick ways, where they are worth a try and their certificate holds. */
static bool try_quick(problem *p, lors_rank rank, double total, lors_certificate *c)
{
    lors_krylov k = {.rank = p->rank, .vectors = p->vectors};
    if (rank.energy > 0 || rank.exact) {
        return false;
    }
    if (lors_krylov_fits(p->a.n_long, p->a.n_short, p->rank) &&
        lors_krylov_solve(&p->a, total, p->quick, &k)) {
        c->path = "krylov";
    } else if (lors_single_fits(p->a.n_short, p->rank) &&
               lors_single_solve(&p->a, total, p->quick, &k)) {
        k.n_steps = 0;
        c->path = "gram";
    } else {
        return false;
    }
    finish_certified(p, &k, total, c);
    return true;
}

/* The last steps of both direct solvers: v [rank][n_short], ascending; `next` the squared value
 * below. */
static void finish(problem *p, const double *v, double *values, double next, double total,
                   lors_certificate *c)
{
    double residual = project(p, v, values);
    certify(p, values, next, total, residual, c);
    c->residual = residual_of(p, v, values);
    c->orthogonality = orthogonality_of(p, v, p->copy);
}

static lors_status fail_to_converge(void)
{
    return lors_fail(LORS_ERR_NUMERICS, "the eigenvalue solver did not converge");
}

static lors_status solve_by_gram(problem *p, lors_rank rank, lors_certificate *c)
{
    double total = form_gram(p);
    if (rank.energy > 0) {
        if (solve(p, 'N', p->a.n_short) != 0) {
            return fail_to_converge();
        }
        p->rank = rank_for_energy(p, rank.energy, total, eigenvalue);
        memcpy(p->copy, p->gram, (size_t)p->a.n_short * (size_t)p->a.n_short * sizeof(double));
    }
    lapack_int wanted = p->rank < p->a.n_short ? p->rank + 1 : p->rank;
    if (solve(p, 'V', wanted) != 0 && solve_all(p, wanted) != 0) {
        return fail_to_converge();
    }
    lapack_int extra = wanted - p->rank;
    finish(p, p->vectors + (int64_t)extra * p->a.n_short, p->values + extra,
           extra ? p->values[0] : 0, total, c);
    c->path = "gram";
    return LORS_OK;
}

static double squared_value(const problem *p, lapack_int i)
{
    return p->values[i];
}

static lors_status solve_by_svd(problem *p, lors_rank rank, lors_certificate *c)
{
    lors_exact e;
    int64_t n = p->a.n_short;
    double total = form_gram(p);
    if (!lors_exact_solve(&p->a, p->kernels, p->exact, &e)) {
        return lors_fail(LORS_ERR_NUMERICS, "the singular value solver did not converge");
    }
    for (int64_t i = 0; i < n; i++) {
        p->values[i] = e.values[i] * e.values[i];
    }
    if (rank.energy > 0) {
        p->rank = rank_for_energy(p, rank.energy, total, squared_value);
    }
    double next = p->rank < n ? p->values[p->rank] : 0;
    for (int64_t j = 0; j < p->rank; j++) { /* ascending */
        const double *from = e.vectors + (p->rank - 1 - j) * e.vector_step;
        for (int64_t i = 0; i < n; i++) {
            p->vectors[j * n + i] = from[i * e.element_step];
        }
    }
    finish(p, p->vectors, p->values, next, total, c);
    c->path = "svd";
    return LORS_OK;
}

static lors_status truncate_one(lors_queue *queue, float *low, const float *x, int64_t n_rows,
                                int64_t n_cols, lors_rank rank, void *scratch,
                                lors_certificate *certificate)
{
    *certificate = (lors_certificate){.path = ""};
    problem p = problem_of(n_rows, n_cols, rank);
    p.kernels = p.a.kernels = queue->kernels;
    p.a.x = x;
    p.low = low;
    lay_out(&p, scratch);
    double total = squared_norm(&p);
    certificate->norm = root(total);
    if (answer_by_norm(&p, total, certificate) || answer_by_rank(&p, rank, certificate) ||
        try_quick(&p, rank, total, certificate)) {
        return LORS_OK;
    }
    return rank.exact ? solve_by_svd(&p, rank, certificate) : solve_by_gram(&p, rank, certificate);
}

lors_status lors_cpu_truncate_rank(lors_queue *queue, lors_view low, lors_view x, int64_t stride,
                                   int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                   const lors_rank *ranks, lors_view scratch,
                                   lors_certificate *certificates)
{
    if (n_rows > INT32_MAX / 2 || n_cols > INT32_MAX / 2) {
        return lors_fail(LORS_ERR_LIMIT,
                         "a side of more than 2^30 elements is too long for LAPACK");
    }
    float *to = lors_cpu_at(low);
    const float *from = lors_cpu_at(x);
    for (int32_t i = 0; i < n_matrices; i++) {
        LORS_TRY(truncate_one(queue, to + i * stride, from + i * stride, n_rows, n_cols, ranks[i],
                              lors_cpu_at(scratch), &certificates[i]));
    }
    return LORS_OK;
}

/* dense.c - products, eigenproblems and solutions of matrices in f64, on OpenBLAS and LAPACK.
 *
 * What is summed over is taken in panels of a fixed depth, so that factors in f32 are widened a
 * panel at a time. Row-major words are column-major ones of the transposed matrix, which is how all
 * calls below see them. LAPACK dsyevd for all vectors, dsyevr for some; dsyev where either fails;
 * dpotrf and dpotrs for solutions.
 */
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "cpu/low_rank.h"

enum { PANEL = 256 }; /* part of the result */

static bool too_long(int64_t n)
{
    return n > INT32_MAX / 2;
}

static lors_status fail_length(void)
{
    return lors_fail(LORS_ERR_LIMIT, "a side of more than 2^30 elements is too long for LAPACK");
}

/* --- products --------------------------------------------------------------------------------- */

/* A panel of a factor in f64: where, and how far its rows are apart. */
typedef struct panel {
    const double *x;
    int64_t ld;
} panel;

uint64_t lors_cpu_multiply_bytes(int64_t rows, int64_t cols, int64_t depth)
{
    (void)depth;
    uint64_t at = 0;
    lors_carve(NULL, &at, (uint64_t)rows * PANEL * sizeof(double));
    lors_carve(NULL, &at, (uint64_t)cols * PANEL * sizeof(double));
    return at;
}

/* Rows first .. + n_rows, columns first_col .. + n_cols of a factor as it lies. */
static panel panel_of(const lors_factor *f, const lors_cpu_kernels *kernels, double *wide,
                      int64_t first, int64_t n_rows, int64_t first_col, int64_t n_cols)
{
    int64_t at = first * f->ld + first_col;
    if (f->wide) {
        return (panel){(const double *)lors_cpu_at(f->x) + at, f->ld};
    }
    const float *x = (const float *)lors_cpu_at(f->x) + at;
    for (int64_t row = 0; row < n_rows; row++) {
        kernels->widen_f64(wide + row * n_cols, x + row * f->ld, n_cols);
    }
    return (panel){wide, n_cols};
}

/* The part of a factor with `n` of what is summed over from `k` on; `across` is its other side. */
static panel part_of(const lors_factor *f, const lors_cpu_kernels *kernels, double *wide, bool left,
                     int64_t across, int64_t k, int64_t n)
{
    bool k_is_row = f->transposed == left;
    return k_is_row ? panel_of(f, kernels, wide, k, n, 0, across)
                    : panel_of(f, kernels, wide, 0, across, k, n);
}

static void mirror(double *x, int64_t n, int64_t ld)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++) {
            x[j * ld + i] = x[i * ld + j];
        }
    }
}

/* Nothing is summed: out = beta * out. */
static void scale_out(double *x, const lors_product *p)
{
    for (int64_t row = 0; row < p->rows; row++) {
        for (int64_t col = 0; col < p->cols; col++) {
            double *at = x + row * p->ld + col;
            *at = p->beta == 0 ? 0 : p->beta * *at;
        }
    }
}

lors_status lors_cpu_multiply(lors_queue *queue, lors_view out, const lors_product *p)
{
    double *c = lors_cpu_at(out), beta = p->beta;
    unsigned char *scratch = lors_cpu_at(p->scratch);
    uint64_t at = 0;
    double *wide_left = lors_carve(scratch, &at, (uint64_t)p->rows * PANEL * sizeof(double));
    double *wide_right = lors_carve(scratch, &at, (uint64_t)p->cols * PANEL * sizeof(double));
    if (too_long(p->rows) || too_long(p->cols) || too_long(p->ld) || too_long(p->left.ld) ||
        too_long(p->right.ld)) {
        return fail_length();
    }
    if (p->depth == 0) {
        scale_out(c, p);
    }
    int m = (int)p->rows, n = (int)p->cols, ld = (int)p->ld;
    for (int64_t k = 0; k < p->depth && m > 0 && n > 0; k += PANEL, beta = 1) {
        int depth = (int)(p->depth - k < PANEL ? p->depth - k : PANEL);
        panel a = part_of(&p->left, queue->kernels, wide_left, true, p->rows, k, depth);
        if (p->symmetric) { /* the lower triangle of rows */
            cblas_dsyrk(CblasRowMajor, CblasLower, p->left.transposed ? CblasTrans : CblasNoTrans,
                        m, depth, p->alpha, a.x, (int)a.ld, beta, c, ld);
            continue;
        }
        panel b = part_of(&p->right, queue->kernels, wide_right, false, p->cols, k, depth);
        cblas_dgemm(CblasRowMajor, p->left.transposed ? CblasTrans : CblasNoTrans,
                    p->right.transposed ? CblasTrans : CblasNoTrans, m, n, depth, p->alpha, a.x,
                    (int)a.ld, b.x, (int)b.ld, beta, c, ld);
    }
    if (p->symmetric) {
        mirror(c, p->rows, p->ld);
    }
    return LORS_OK;
}

lors_status lors_cpu_scale_rows(lors_queue *queue, lors_view x, int64_t rows, int64_t cols,
                                int64_t ld, const double *factors)
{
    (void)queue;
    double *at = lors_cpu_at(x);
    for (int64_t row = 0; row < rows; row++, at += ld) {
        for (int64_t col = 0; col < cols; col++) {
            at[col] *= factors[row];
        }
    }
    return LORS_OK;
}

/* Four lanes, so that one addition need not wait for the last. */
#define DEFINE_DOT(name, A, B)                                    \
    static double name(const A *a, const B *b, int64_t n)         \
    {                                                             \
        double lanes[4] = {0};                                    \
        for (int64_t i = 0; i < n; i++) {                         \
            lanes[i % 4] += (double)a[i] * (double)b[i];          \
        }                                                         \
        return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);     \
    }
DEFINE_DOT(dot_slim, float, float)
DEFINE_DOT(dot_mixed, float, double)
DEFINE_DOT(dot_wide, double, double)

uint64_t lors_cpu_dot_rows_bytes(int64_t rows)
{
    (void)rows;
    return 0;
}

lors_status lors_cpu_dot_rows(lors_queue *queue, const lors_factor *a, const lors_factor *b,
                              int64_t rows, int64_t cols, double *dots, lors_view scratch)
{
    (void)queue;
    (void)scratch;
    const lors_factor *left = a->wide ? b : a, *right = a->wide ? a : b; /* the narrow one first */
    const void *x = lors_cpu_at(left->x), *y = lors_cpu_at(right->x);
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = i * left->ld, to = i * right->ld;
        dots[i] = left->wide    ? dot_wide((const double *)x + at, (const double *)y + to, cols)
                  : right->wide ? dot_mixed((const float *)x + at, (const double *)y + to, cols)
                                : dot_slim((const float *)x + at, (const float *)y + to, cols);
    }
    return LORS_OK;
}

/* --- eigenproblems ---------------------------------------------------------------------------- */

typedef struct eigenproblem {
    lapack_int n, count;
    double *matrix, *copy, *all, *work; /* all: [n] values */
    lapack_int *integers, *support;
    lapack_int n_work, n_integers;
} eigenproblem;

/* What dsyevd, the hungriest, wants, and blocked dsyev and dsyevr beside it. */
static uint64_t lay_out(eigenproblem *e, unsigned char *base)
{
    uint64_t at = 0, n = (uint64_t)e->n;
    e->n_work = 1 + 40 * e->n + 2 * e->n * e->n;
    e->n_integers = 10 * e->n + 4;
    e->copy = lors_carve(base, &at, 8 * n * n);
    e->all = lors_carve(base, &at, 8 * (n + 1));
    e->work = lors_carve(base, &at, 8 * (uint64_t)e->n_work);
    e->integers = lors_carve(base, &at, (uint64_t)e->n_integers * sizeof(lapack_int));
    e->support = lors_carve(base, &at, 2 * (n + 1) * sizeof(lapack_int));
    return at;
}

uint64_t lors_cpu_eigen_bytes(int64_t n, int64_t count)
{
    eigenproblem e = {.n = (lapack_int)n, .count = (lapack_int)count};
    return lay_out(&e, NULL);
}

/* Some of the values and vectors, or all of them; the matrix is lost. Returns LAPACK's info. */
static lapack_int solve(eigenproblem *e, double *vectors)
{
    lapack_int n = e->n, count = e->count, found = 0;
    size_t n_bytes = (size_t)n * (size_t)n * sizeof(double);
    if (count == n) {
        memcpy(vectors, e->matrix, n_bytes);
        return LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', n, vectors, n, e->all, e->work,
                                   e->n_work, e->integers, e->n_integers);
    }
    lapack_int info = LAPACKE_dsyevr_work(
        LAPACK_COL_MAJOR, 'V', 'I', 'L', n, e->matrix, n, 0, 0, n - count + 1, n, 0, &found, e->all,
        vectors, n, e->support, e->work, e->n_work, e->integers, e->n_integers);
    return info ? info : found - count;
}

/* The slow and sure way, from the copy: QR iteration for everything, then the last ones. */
static lapack_int solve_surely(eigenproblem *e, double *vectors)
{
    lapack_int n = e->n, skipped = n - e->count;
    lapack_int info =
        LAPACKE_dsyev_work(LAPACK_COL_MAJOR, 'V', 'L', n, e->copy, n, e->all, e->work, e->n_work);
    memcpy(vectors, e->copy + (int64_t)skipped * n, (size_t)e->count * (size_t)n * sizeof(double));
    memmove(e->all, e->all + skipped, (size_t)e->count * sizeof(double));
    return info;
}

static bool is_finite(const double *matrix, int64_t n)
{
    double trace = 0;
    for (int64_t i = 0; i < n; i++) {
        trace += matrix[i * n + i];
    }
    return isfinite(trace);
}

lors_status lors_cpu_eigen(lors_queue *queue, lors_view matrix, int64_t n, int64_t count,
                           lors_view vectors, double *values, lors_view scratch)
{
    (void)queue;
    eigenproblem e = {.n = (lapack_int)n, .count = (lapack_int)count};
    if (too_long(n) || n > 32000) { /* the work space must be counted by lapack_int, too */
        return lors_fail(LORS_ERR_LIMIT, "a short side of more than 32000 elements is too long "
                                         "for the eigenvalue solver");
    }
    lay_out(&e, lors_cpu_at(scratch));
    e.matrix = lors_cpu_at(matrix);
    for (int64_t i = 0; i < count; i++) {
        values[i] = NAN;
    }
    if (count == 0 || !is_finite(e.matrix, n)) {
        return LORS_OK;
    }
    memcpy(e.copy, e.matrix, (size_t)n * (size_t)n * sizeof(double));
    if (solve(&e, lors_cpu_at(vectors)) != 0 && solve_surely(&e, lors_cpu_at(vectors)) != 0) {
        return lors_fail(LORS_ERR_NUMERICS, "the eigenvalue solver did not converge");
    }
    memcpy(values, e.all, (size_t)count * sizeof *values);
    return LORS_OK;
}

/* --- solutions -------------------------------------------------------------------------------- */

uint64_t lors_cpu_solve_bytes(int64_t n, int64_t rows)
{
    (void)n;
    (void)rows;
    return 0;
}

/* In column-major words x A = b is A x' = b'. */
lors_status lors_cpu_solve(lors_queue *queue, lors_view matrix, int64_t n, double shift,
                           lors_view x, int64_t rows, bool *solved, lors_view scratch)
{
    (void)queue;
    (void)scratch;
    double *a = lors_cpu_at(matrix);
    lapack_int order = (lapack_int)n, ld = n > 0 ? order : 1;
    *solved = false;
    if (too_long(n) || too_long(rows)) {
        return fail_length();
    }
    for (int64_t i = 0; i < n; i++) {
        a[i * n + i] += shift;
    }
    if (!is_finite(a, n) || LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', order, a, ld) != 0) {
        return LORS_OK;
    }
    *solved = true;
    lapack_int info = LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'L', order, (lapack_int)rows, a, ld,
                                          lors_cpu_at(x), ld);
    return info == 0 ? LORS_OK
                     : lors_fail(LORS_ERR_INTERNAL, "dpotrs refuses its argument %d", (int)-info);
}

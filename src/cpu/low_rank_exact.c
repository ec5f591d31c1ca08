/* low_rank_exact.c - the singular value decomposition itself, in f64, for those who ask for it.
 *
 * A (n_long x n_short) is first reduced to a triangle by Householder reflections, whose singular
 * values and right singular vectors are those of A; the triangle goes to LAPACK's dgesdd (divide
 * and conquer). Nothing is squared, so that values below 1e-8 of the largest are right, too.
 * Source: Chan 1982; LAPACK dgeqrf, dgelqf, dgesdd.
 */
#include <lapacke.h>
#include <string.h>

#include "cpu/low_rank.h"

typedef struct exact {
    double *a; /* A in f64, as it lies in memory: n_short x n_long (tall), n_long x n_short */
    double *triangle, *left, *right, *values, *tau, *work;
    lapack_int *integers;
    lapack_int n_work;
} exact;

/* Enough for dgesdd with all vectors of an n x n matrix, and for blocked reflections. */
static lapack_int work_size(lapack_int n)
{
    return 4 * n * n + 80 * n + 64;
}

static uint64_t lay_out(exact *e, lapack_int n_long, lapack_int n_short, unsigned char *base)
{
    uint64_t n = (uint64_t)n_short, m = (uint64_t)n_long, at = 0;
    e->n_work = work_size(n_short);
    e->a = lors_carve(base, &at, 8 * m * n);
    e->triangle = lors_carve(base, &at, 8 * n * n);
    e->left = lors_carve(base, &at, 8 * n * n);
    e->right = lors_carve(base, &at, 8 * n * n);
    e->values = lors_carve(base, &at, 8 * n);
    e->tau = lors_carve(base, &at, 8 * n);
    e->work = lors_carve(base, &at, 8 * (uint64_t)e->n_work);
    e->integers = lors_carve(base, &at, 8 * n * sizeof(lapack_int));
    return at;
}

uint64_t lors_exact_bytes(lapack_int n_long, lapack_int n_short)
{
    exact e;
    return lay_out(&e, n_long, n_short, NULL);
}

/* The triangle of A = QR (wide: x is A in column-major words) or A' = LQ (tall: x is A'). */
static bool reduce(exact *e, const lors_matrix *a)
{
    lapack_int n = a->n_short, m = a->n_long;
    lapack_int info =
        a->wide ? LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, m, n, e->a, m, e->tau, e->work, e->n_work)
                : LAPACKE_dgelqf_work(LAPACK_COL_MAJOR, n, m, e->a, n, e->tau, e->work, e->n_work);
    memset(e->triangle, 0, (size_t)n * (size_t)n * sizeof(double));
    for (int64_t j = 0; j < n; j++) {
        int64_t from = a->wide ? 0 : j, to = a->wide ? j + 1 : n;
        const double *column = e->a + j * (a->wide ? m : n);
        memcpy(e->triangle + j * n + from, column + from, (size_t)(to - from) * sizeof(double));
    }
    return info == 0;
}

bool lors_exact_solve(const lors_matrix *a, const lors_cpu_kernels *kernels, unsigned char *scratch,
                      lors_exact *out)
{
    exact e;
    lapack_int n = a->n_short;
    lay_out(&e, a->n_long, a->n_short, scratch);
    kernels->widen_f64(e.a, a->x, a->n_rows * a->n_cols);
    if (!reduce(&e, a) ||
        LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'A', n, n, e.triangle, n, e.values, e.left, n,
                            e.right, n, e.work, e.n_work, e.integers) != 0) {
        return false;
    }
    out->values = e.values;
    /* Rows of `right` (wide: R = U S V'), or columns of `left` (tall: L = V S W'). */
    out->vectors = a->wide ? e.right : e.left;
    out->vector_step = a->wide ? 1 : n;
    out->element_step = a->wide ? n : 1;
    return true;
}

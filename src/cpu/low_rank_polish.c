/* low_rank_polish.c - directions found with f32 products, told apart in f64.
 *
 * What rounding mixes among the leading directions is undone by Rayleigh and Ritz: of the space V
 * that a few more of them span than are wanted, the eigenvectors of (A V)'(A V), formed in f64.
 */
#include <cblas.h>
#include <lapacke.h>
#include <string.h>

#include "cpu/low_rank.h"

enum { PANEL = 64 }; /* rows of a tall matrix, columns of a wide one, at a time */

typedef struct polish {
    double *v;     /* [n_short][b]: V interleaved, zeros behind its columns */
    double *image; /* [PANEL][b] */
    double *ritz;  /* [b][b]: (A V)'(A V), then its eigenvectors */
    double *values, *work;
    lapack_int n_work;
    int64_t b;
} polish;

static uint64_t lay_out(polish *p, lapack_int n_short, lapack_int count, unsigned char *base)
{
    uint64_t at = 0, b = ((uint64_t)count + 7) & ~(uint64_t)7;
    p->b = (int64_t)b;
    p->n_work = (lapack_int)(40 * b);
    p->v = lors_carve(base, &at, 8 * b * (uint64_t)n_short);
    p->image = lors_carve(base, &at, 8 * b * PANEL);
    p->ritz = lors_carve(base, &at, 8 * b * b);
    p->values = lors_carve(base, &at, 8 * b);
    p->work = lors_carve(base, &at, 8 * (uint64_t)p->n_work);
    return at;
}

uint64_t lors_polish_bytes(lapack_int n_short, lapack_int count)
{
    polish p;
    return lay_out(&p, n_short, count, NULL);
}

/* ritz = (A V)'(A V), panel by panel. */
static void form_ritz(polish *p, const lors_matrix *a)
{
    int b = (int)p->b;
    memset(p->ritz, 0, (size_t)(p->b * p->b) * sizeof *p->ritz);
    for (int64_t first = 0; first < a->n_long; first += PANEL) {
        int64_t count = a->n_long - first < PANEL ? a->n_long - first : PANEL;
        memset(p->image, 0, (size_t)(count * p->b) * sizeof *p->image);
        if (a->wide) {
            a->kernels->add_few_f64(p->image, a->x + first, a->n_cols, a->n_short, count, p->v, b);
        } else {
            a->kernels->times_few_f64(p->image, a->x + first * a->n_cols, a->n_cols, count,
                                      a->n_short, p->v, b);
        }
        cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, b, (int)count, 1, p->image, b, 1,
                    p->ritz, b);
    }
}

bool lors_polish(const lors_matrix *a, const double *v, lapack_int count, lapack_int rank,
                 double *vectors, double *values, unsigned char *scratch)
{
    polish p;
    lapack_int n = a->n_short;
    lay_out(&p, n, count, scratch);
    memset(p.v, 0, (size_t)(p.b * n) * sizeof *p.v);
    for (int64_t c = 0; c < count; c++) {
        for (int64_t i = 0; i < n; i++) {
            p.v[i * p.b + c] = v[c * n + i];
        }
    }
    form_ritz(&p, a);
    if (LAPACKE_dsyev_work(LAPACK_COL_MAJOR, 'V', 'L', count, p.ritz, (lapack_int)p.b, p.values,
                           p.work, p.n_work) != 0) {
        return false;
    }
    const double *leading = p.ritz + (count - rank) * p.b;
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, n, rank, count, 1, v, n, leading,
                (int)p.b, 0, vectors, n);
    memcpy(values, p.values, (size_t)count * sizeof *values);
    return true;
}

/* low_rank_krylov.c - block Lanczos with full re-orthogonalisation, for a few leading directions.
 *
 * The Krylov space of A'A from a random block of BLOCK columns; products with A in f32, everything
 * small in f64. With T = V'A'AV and Ritz pairs (theta, y), the residual of each is known exactly as
 * R y_last, R being the factor that the next block leaves: it gives the estimate by which the
 * iteration stops, and the certificate. Source: Golub and Underwood 1977; the estimate is
 * first-order perturbation theory of the projector.
 */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/low_rank.h"

enum { BLOCK = 16, MAX_RANK = 32 };

/* Estimated norm(L - L_exact) / norm(A) to stop at where the gap makes L well-posed; measured, the
 * estimate overstates the error 2 to 5 times. Elsewhere the energy lost decides. */
static const double stop_projection = 2e-5, stop_energy = 1e-7, stop_gap = 4e-3;

typedef struct lanczos {
    const lors_matrix *a;
    lapack_int n, m, l, max_l;
    float *basis;     /* [max_l][n]: columns */
    float *next;      /* [BLOCK][n] */
    float *image;     /* [BLOCK][m] */
    float *overlap;   /* [BLOCK][max_l] */
    double *wide;     /* [BLOCK][n]: the next block in f64 */
    double *t, *ritz; /* [max_l][max_l]: T; its eigenvectors */
    double *theta;    /* [max_l], ascending */
    double *work;
    lapack_int n_work;
    double r[BLOCK * BLOCK]; /* upper triangle: what the next block leaves, column-major */
} lanczos;

/* Steps after which the Gram matrix would have been cheaper: both costs in rough nanoseconds. */
static lapack_int step_budget(lapack_int n_long, lapack_int n_short)
{
    double m = n_long, n = n_short;
    double gram = m * n * n / 40 + n * n * n / 9, step = 4 * m * n * BLOCK / 38 + 1e5;
    lapack_int steps = (lapack_int)(0.8 * gram / step);
    lapack_int most = n_short / 2 / BLOCK;
    return steps < most ? steps : most;
}

bool lors_krylov_fits(lapack_int n_long, lapack_int n_short, lapack_int rank)
{
    return rank > 0 && rank <= MAX_RANK && 40 * rank <= n_short &&
           step_budget(n_long, n_short) * BLOCK >= 4 * rank;
}

static uint64_t lay_out(lanczos *s, unsigned char *base)
{
    uint64_t n = (uint64_t)s->n, m = (uint64_t)s->m, l = (uint64_t)s->max_l, at = 0;
    s->n_work = 40 * s->max_l;
    struct {
        void **place;
        uint64_t n_bytes;
    } blocks[] = {{(void **)&s->basis, 4 * (l + BLOCK) * n},
                  {(void **)&s->next, 4 * BLOCK * n},
                  {(void **)&s->image, 4 * BLOCK * m},
                  {(void **)&s->overlap, 4 * BLOCK * l},
                  {(void **)&s->wide, 8 * BLOCK * n},
                  {(void **)&s->t, 8 * l * l},
                  {(void **)&s->ritz, 8 * l * l},
                  {(void **)&s->theta, 8 * l},
                  {(void **)&s->work, 8 * (uint64_t)s->n_work}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (base) {
            *blocks[i].place = base + at;
        }
        at += (blocks[i].n_bytes + 63) & ~(uint64_t)63;
    }
    return at;
}

static lanczos lanczos_of(lapack_int n_long, lapack_int n_short)
{
    lapack_int steps = step_budget(n_long, n_short);
    return (lanczos){.n = n_short, .m = n_long, .max_l = steps * BLOCK};
}

uint64_t lors_krylov_bytes(lapack_int n_long, lapack_int n_short, lapack_int rank)
{
    if (!lors_krylov_fits(n_long, n_short, rank)) {
        return 0;
    }
    lanczos s = lanczos_of(n_long, n_short);
    return lay_out(&s, NULL);
}

/* next = A'(A v), v being BLOCK columns. */
static void multiply(lanczos *s, const float *v)
{
    const lors_matrix *a = s->a;
    CBLAS_TRANSPOSE forth = a->wide ? CblasNoTrans : CblasTrans;
    CBLAS_TRANSPOSE back = a->wide ? CblasTrans : CblasNoTrans;
    int lead = a->wide ? s->m : s->n;
    cblas_sgemm(CblasColMajor, forth, CblasNoTrans, s->m, BLOCK, s->n, 1, a->x, lead, v, s->n, 0,
                s->image, s->m);
    cblas_sgemm(CblasColMajor, back, CblasNoTrans, s->n, BLOCK, s->m, 1, a->x, lead, s->image, s->m,
                0, s->next, s->n);
}

/* Take the basis out of `next`, twice; what was taken is the next block column of T. */
static void orthogonalise(lanczos *s)
{
    lapack_int l = s->l, column = l - BLOCK;
    for (int sweep = 0; sweep < 2; sweep++) {
        cblas_sgemm(CblasColMajor, CblasTrans, CblasNoTrans, l, BLOCK, s->n, 1, s->basis, s->n,
                    s->next, s->n, 0, s->overlap, l);
        cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, s->n, BLOCK, l, -1, s->basis, s->n,
                    s->overlap, l, 1, s->next, s->n);
        for (lapack_int j = 0; j < BLOCK; j++) {
            for (lapack_int i = 0; i < l; i++) {
                double *t = &s->t[(int64_t)(column + j) * s->max_l + i];
                *t = (sweep ? *t : 0) + (double)s->overlap[j * l + i];
            }
        }
    }
}

/* r <- upper Cholesky factor of wide'wide, wide <- wide r^-1; false where it has no full rank. */
static bool cholesky_step(lanczos *s, double *r)
{
    cblas_dsyrk(CblasColMajor, CblasUpper, CblasTrans, BLOCK, s->n, 1, s->wide, s->n, 0, r, BLOCK);
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', BLOCK, r, BLOCK) != 0) {
        return false;
    }
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, s->n, BLOCK, 1,
                r, BLOCK, s->wide, s->n);
    return true;
}

/* Orthonormalise `next` into the basis behind its l columns (CholeskyQR twice, in f64). */
static bool append_block(lanczos *s)
{
    double second[BLOCK * BLOCK];
    for (int64_t i = 0; i < (int64_t)BLOCK * s->n; i++) {
        s->wide[i] = s->next[i];
    }
    memset(s->r, 0, sizeof s->r);
    memset(second, 0, sizeof second);
    if (!cholesky_step(s, s->r) || !cholesky_step(s, second)) {
        return false;
    }
    cblas_dtrmm(CblasColMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, BLOCK, BLOCK, 1,
                second, BLOCK, s->r, BLOCK);
    float *out = s->basis + (int64_t)s->l * s->n;
    for (int64_t i = 0; i < (int64_t)BLOCK * s->n; i++) {
        out[i] = (float)s->wide[i];
    }
    return true;
}

static void random_block(lanczos *s)
{
    for (int64_t i = 0; i < (int64_t)BLOCK * s->n; i += 4) {
        lors_philox bits = lors_philox_at(0x6c6f7273u, (uint64_t)i, 0);
        for (int64_t j = 0; j < 4 && i + j < (int64_t)BLOCK * s->n; j++) {
            s->next[i + j] = (float)((int32_t)bits.word[j]) * 0x1p-31f;
        }
    }
}

/* Ritz values and vectors of T. */
static bool solve_small(lanczos *s)
{
    lapack_int l = s->l;
    for (lapack_int j = 0; j < l; j++) {
        for (lapack_int i = 0; i <= j; i++) {
            double upper = s->t[(int64_t)j * s->max_l + i];
            s->ritz[(int64_t)j * l + i] = upper;
        }
    }
    return LAPACKE_dsyev_work(LAPACK_COL_MAJOR, 'V', 'U', l, s->ritz, l, s->theta, s->work,
                              s->n_work) == 0;
}

/* Squared residual of Ritz pair i: norm(R y_last)^2. */
static double residual_of(const lanczos *s, lapack_int i)
{
    const double *last = s->ritz + (int64_t)i * s->l + (s->l - BLOCK);
    double sum = 0;
    for (int row = 0; row < BLOCK; row++) {
        double entry = 0;
        for (int column = row; column < BLOCK; column++) {
            entry += s->r[column * BLOCK + row] * last[column];
        }
        sum += entry * entry;
    }
    return sum;
}

/* Is the space good enough? Sets the numbers of the certificate. */
static bool converged(const lanczos *s, double total, lors_krylov *k)
{
    lapack_int first = s->l - k->rank;
    double next = s->theta[first - 1] > 0 ? s->theta[first - 1] : 0, kept = 0;
    double squares = 0, projection = 0, energy = 0, last = s->theta[first];
    if (last <= 0) {
        return false;
    }
    for (lapack_int i = first; i < s->l; i++) {
        double square = residual_of(s, i), theta = s->theta[i];
        double gap = theta - next > 1e-7 * theta ? theta - next : 1e-7 * theta;
        squares += square;
        projection += 2 * square * theta / (gap * gap);
        energy += square / gap;
        kept += theta;
    }
    double tail = total - kept > 1e-12 * total ? total - kept : 1e-12 * total;
    double gap = 1 - sqrt(next / last);
    k->next = next;
    k->residual = sqrt(squares) / s->theta[s->l - 1];
    k->excess = 0.5 * energy / tail;
    bool close = sqrt(projection / total) <= stop_projection;
    return gap >= stop_gap ? close && k->excess <= 5e-7 : k->excess <= stop_energy;
}

/* vectors = basis * (leading Ritz vectors), then orthonormal to f64 precision (Gram-Schmidt twice
 * from the largest down). */
static void extract(lanczos *s, lors_krylov *k)
{
    lapack_int first = s->l - k->rank, n = s->n;
    for (lapack_int c = 0; c < k->rank; c++) {
        double *v = k->vectors + (int64_t)c * n;
        const double *y = s->ritz + (int64_t)(first + c) * s->l;
        memset(v, 0, (size_t)n * sizeof *v);
        for (lapack_int j = 0; j < s->l; j++) {
            const float *column = s->basis + (int64_t)j * n;
            for (lapack_int i = 0; i < n; i++) {
                v[i] += y[j] * (double)column[i];
            }
        }
        k->values[c] = s->theta[first + c];
    }
    for (lapack_int c = k->rank - 1; c >= 0; c--) {
        double *v = k->vectors + (int64_t)c * n;
        for (int sweep = 0; sweep < 2; sweep++) {
            for (lapack_int other = c + 1; other < k->rank; other++) {
                const double *u = k->vectors + (int64_t)other * n;
                cblas_daxpy(n, -cblas_ddot(n, u, 1, v, 1), u, 1, v, 1);
            }
        }
        cblas_dscal(n, 1 / cblas_dnrm2(n, v, 1), v, 1);
    }
}

bool lors_krylov_solve(const lors_matrix *a, double total, unsigned char *scratch, lors_krylov *k)
{
    lanczos s = lanczos_of(a->n_long, a->n_short);
    s.a = a;
    lay_out(&s, scratch);
    random_block(&s);
    if (!append_block(&s)) {
        return false;
    }
    while (s.l + BLOCK <= s.max_l) {
        const float *block = s.basis + (int64_t)s.l * s.n;
        s.l += BLOCK;
        multiply(&s, block);
        orthogonalise(&s);
        k->n_steps = s.l / BLOCK;
        if (!append_block(&s)) {
            return false; /* the space is exhausted: rank-deficient, left to the other solver */
        }
        if (s.l < 2 * k->rank || s.l <= k->rank) {
            continue;
        }
        if (!solve_small(&s)) {
            return false;
        }
        if (converged(&s, total, k)) {
            extract(&s, k);
            return true;
        }
    }
    return false;
}

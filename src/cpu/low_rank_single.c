/* low_rank_single.c - the leading directions from a Gram matrix in f32, told apart in f64.
 *
 * Forming A'A and reducing it to a tridiagonal are most of the work of the direct solver, and take
 * half the time in f32. No direction is missed, since all of the spectrum is seen; what rounding
 * (about 1e-7 of the largest value) mixes among the leading ones is undone by lors_polish, and what
 * it mixes in from further below is measured, by the residuals of A itself. Where that is too much,
 * as for values below 1e-2 of the first, the result is not certified and the solver in f64 has to
 * answer. Source: LAPACK ssytrd, dstemr (MRRR), sormtr.
 */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/low_rank.h"

enum {
    MORE = 17,          /* directions beside those wanted */
    LEAST_SIDE = 256,   /* below that there is no time to be saved */
    MOST_EXPONENT = 40, /* of the norm: squares stay in the range of f32 */
    PANEL_ROWS = 32,
    PANEL_COLS = 256
};

/* Values that f32 can still tell from rounding, as a share of the first; of squared values. */
static const double least_fall = 1e-5;

/* A gap at the cut from which L itself has to be right: T2 holds from 1e-2 on. */
static const double certain_gap = 8e-3;

typedef struct single {
    lapack_int n, count, n_work;
    int64_t b;                     /* columns of `rank`, in eights */
    float scale;                   /* a power of two that brings the norm of A near 1 */
    float *gram, *diagonal, *below, *tau, *work;
    float *narrow, *sketch;        /* [count][n]: directions; what became of random ones */
    float *block, *image, *square; /* [n][b], [PANEL][b], [n][b]: V, A V, A'A V, interleaved */
    double *wide_diagonal, *wide_below, *values, *directions, *small, *wide_work;
    lapack_int *integers, *support;
    unsigned char *polish;
} single;

static uint64_t lay_out(single *s, lapack_int n_short, lapack_int rank, unsigned char *base)
{
    s->n = n_short;
    s->count = rank + MORE;
    s->b = ((int64_t)rank + 7) & ~(int64_t)7;
    s->n_work = 64 * n_short + 8192;
    uint64_t at = 0, n = (uint64_t)n_short, count = (uint64_t)s->count, b = (uint64_t)s->b;
    s->gram = lors_carve(base, &at, 4 * n * n);
    s->diagonal = lors_carve(base, &at, 4 * n);
    s->below = lors_carve(base, &at, 4 * n);
    s->tau = lors_carve(base, &at, 4 * n);
    s->work = lors_carve(base, &at, 4 * (uint64_t)s->n_work);
    s->narrow = lors_carve(base, &at, 4 * n * count);
    s->sketch = lors_carve(base, &at, 4 * n * count);
    s->block = lors_carve(base, &at, 4 * n * b);
    s->image = lors_carve(base, &at, 4 * PANEL_COLS * b);
    s->square = lors_carve(base, &at, 4 * n * b);
    s->wide_diagonal = lors_carve(base, &at, 8 * n);
    s->wide_below = lors_carve(base, &at, 8 * n);
    s->values = lors_carve(base, &at, 8 * n);
    s->directions = lors_carve(base, &at, 8 * n * count);
    s->small = lors_carve(base, &at, 8 * count * count);
    s->wide_work = lors_carve(base, &at, 8 * 18 * n);
    s->integers = lors_carve(base, &at, 10 * n * sizeof(lapack_int));
    s->support = lors_carve(base, &at, 2 * count * sizeof(lapack_int));
    s->polish = lors_carve(base, &at, lors_polish_bytes(n_short, s->count));
    return at;
}

bool lors_single_fits(lapack_int n_short, lapack_int rank)
{
    return n_short >= LEAST_SIDE && rank > 0 && rank <= n_short / 8;
}

/* For this rank and any lower one. */
uint64_t lors_single_bytes(lapack_int n_short, lapack_int rank)
{
    single s;
    lapack_int most = rank < n_short / 8 ? rank : n_short / 8;
    return lors_single_fits(n_short, most) ? lay_out(&s, n_short, most, NULL) : 0;
}

/* gram = scale^2 A'A, of rows first .. end - 1 of the long side; those before are there. */
static void add_gram(single *s, const lors_matrix *a, lapack_int first, lapack_int end)
{
    if (first < end) {
        cblas_ssyrk(CblasColMajor, CblasLower, a->wide ? CblasTrans : CblasNoTrans, s->n,
                    end - first, s->scale * s->scale,
                    a->x + (int64_t)first * (a->wide ? 1 : a->n_cols), (int)a->n_cols, first > 0,
                    s->gram, s->n);
    }
}

/* Before most of the time is spent: a look at what the first rows make of random columns. Do their
 * values fall too far, from the first to the one of this rank? */
static bool falls_too_far(single *s, lapack_int rank)
{
    int64_t all = (int64_t)s->count * s->n;
    for (int64_t i = 0; i < all; i += 4) {
        lors_philox bits = lors_philox_at(0x736b6574u, (uint64_t)i, 0);
        for (int64_t j = 0; j < 4 && i + j < all; j++) {
            s->narrow[i + j] = (float)((int32_t)bits.word[j]) * 0x1p-31f;
        }
    }
    cblas_ssymm(CblasColMajor, CblasLeft, CblasLower, s->n, s->count, 1, s->gram, s->n, s->narrow,
                s->n, 0, s->sketch, s->n);
    for (int64_t i = 0; i < all; i++) {
        s->directions[i] = s->sketch[i];
    }
    cblas_dsyrk(CblasColMajor, CblasUpper, CblasTrans, s->count, s->n, 1, s->directions, s->n, 0,
                s->small, s->count);
    lapack_int info = LAPACKE_dsyev_work(LAPACK_COL_MAJOR, 'N', 'U', s->count, s->small, s->count,
                                         s->values, s->wide_work, 18 * s->n);
    return info != 0 || !(s->values[s->count - rank] > least_fall * least_fall *
                                                           s->values[s->count - 1]);
}

/* The leading eigenvectors of the Gram matrix, as far as f32 tells them apart. */
static bool solve_gram(single *s, const lors_matrix *a, lapack_int rank)
{
    lapack_int n = s->n, found = 0;
    lapack_logical try_accurate = 1;
    add_gram(s, a, 0, n);
    if (falls_too_far(s, rank)) {
        return false;
    }
    add_gram(s, a, n, a->n_long);
    if (LAPACKE_ssytrd_work(LAPACK_COL_MAJOR, 'L', n, s->gram, n, s->diagonal, s->below, s->tau,
                            s->work, s->n_work) != 0) {
        return false;
    }
    for (int64_t i = 0; i < n; i++) {
        s->wide_diagonal[i] = s->diagonal[i];
        s->wide_below[i] = i < n - 1 ? s->below[i] : 0;
    }
    if (LAPACKE_dstemr_work(LAPACK_COL_MAJOR, 'V', 'I', n, s->wide_diagonal, s->wide_below, 0, 0,
                            n - s->count + 1, n, &found, s->values, s->directions, n, s->count,
                            s->support, &try_accurate, s->wide_work, 18 * n, s->integers,
                            10 * n) != 0 ||
        found != s->count) {
        return false;
    }
    for (int64_t i = 0; i < (int64_t)s->count * n; i++) {
        s->narrow[i] = (float)s->directions[i];
    }
    lapack_int info =
        LAPACKE_sormtr_work(LAPACK_COL_MAJOR, 'L', 'L', 'N', n, s->count, s->gram, n, s->tau,
                            s->narrow, n, s->work, s->n_work);
    for (int64_t i = 0; i < (int64_t)s->count * n; i++) {
        s->directions[i] = s->narrow[i];
    }
    return info == 0;
}

/* Orthonormal to f64 precision: Cholesky QR, twice, of what is so to that of f32. */
static bool orthonormalise(single *s, double *v, lapack_int count)
{
    for (int sweep = 0; sweep < 2; sweep++) {
        cblas_dsyrk(CblasColMajor, CblasUpper, CblasTrans, count, s->n, 1, v, s->n, 0, s->small,
                    count);
        if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', count, s->small, count) != 0) {
            return false;
        }
        cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, s->n, count,
                    1, s->small, count, v, s->n);
    }
    return true;
}

/* square = scale^2 A'A V, for the directions v [rank][n]. */
static void apply(single *s, const lors_matrix *a, const double *v, lapack_int rank)
{
    int64_t n = s->n, b = s->b, step = a->wide ? PANEL_COLS : PANEL_ROWS;
    memset(s->block, 0, (size_t)(n * b) * sizeof *s->block);
    memset(s->square, 0, (size_t)(n * b) * sizeof *s->square);
    for (int64_t c = 0; c < rank; c++) {
        for (int64_t i = 0; i < n; i++) {
            s->block[i * b + c] = (float)v[c * n + i] * s->scale;
        }
    }
    for (int64_t first = 0; first < a->n_long; first += step) {
        int64_t count = a->n_long - first < step ? a->n_long - first : step;
        const float *x = a->x + first * (a->wide ? 1 : n);
        memset(s->image, 0, (size_t)(count * b) * sizeof *s->image);
        if (a->wide) {
            a->kernels->add_few(s->image, x, a->n_cols, n, count, s->block, b);
            a->kernels->times_few(s->square, x, a->n_cols, n, count, s->image, b);
        } else {
            a->kernels->times_few(s->image, x, n, count, n, s->block, b);
            a->kernels->add_few(s->square, x, n, count, n, s->image, b);
        }
    }
}

/* Squared residual of direction c, whose squared singular value is `value`, both scaled. */
static double residual_of(const single *s, const double *v, int64_t c, double value)
{
    double sum = 0;
    for (int64_t i = 0; i < s->n; i++) {
        double rest = (double)(s->square[i * s->b + c] * s->scale) - value * v[c * s->n + i];
        sum += rest * rest;
    }
    return sum;
}

/* As in low_rank_krylov.c: first-order errors by residual and gap. The residuals are orthogonal to
 * all directions looked at, so that the gap is that to the last of them. */
static bool certify(const single *s, const double *v, double total, lors_krylov *k)
{
    double unit = (double)s->scale * (double)s->scale, squares = 0, projection = 0, energy = 0;
    double kept = 0, floor = s->values[0] * unit, first = s->values[s->count - 1] * unit;
    const double *values = s->values + (s->count - k->rank);
    for (int64_t c = 0; c < k->rank; c++) {
        double value = values[c] * unit;
        double square = residual_of(s, v, c, value), range = value - floor;
        if (!(range > 1e-7 * value)) {
            return false;
        }
        squares += square;
        projection += 2 * square * value / (range * range);
        energy += square / range;
        kept += value;
    }
    double all = total * unit, tail = all - kept > 1e-12 * all ? all - kept : 1e-12 * all;
    double gap = 1 - sqrt(values[-1] > 0 ? values[-1] / values[0] : 0);
    k->next = values[-1];
    k->residual = sqrt(squares) / first;
    k->excess = 0.5 * energy / tail;
    bool close = gap < certain_gap || sqrt(projection / all) <= LORS_STOP_PROJECTION;
    return close && k->excess <= LORS_STOP_ENERGY;
}

/* Rounding alone would be too much: there is no need to measure it. By the values of f32. */
static bool is_lost_in_noise(const single *s)
{
    double last = s->values[MORE], next = s->values[MORE - 1], range = last - s->values[0];
    double noise = 1e-7 * s->values[s->count - 1];
    if (!(range > noise) || !(last > 0)) {
        return true;
    }
    bool has_gap = 1 - sqrt(next > 0 ? next / last : 0) > 1.2 * certain_gap;
    return has_gap && sqrt(2 * last) * noise > LORS_STOP_PROJECTION * range;
}

bool lors_single_solve(const lors_matrix *a, double total, unsigned char *scratch, lors_krylov *k)
{
    single s;
    int exponent = 0;
    lay_out(&s, a->n_short, k->rank, scratch);
    frexp(sqrt(total), &exponent);
    if (abs(exponent) > MOST_EXPONENT) {
        return false;
    }
    s.scale = ldexpf(1, -exponent);
    if (!solve_gram(&s, a, k->rank)) {
        return false;
    }
    if (is_lost_in_noise(&s)) {
        return false;
    }
    if (!orthonormalise(&s, s.directions, s.count) ||
        !lors_polish(a, s.directions, s.count, k->rank, k->vectors, s.values, s.polish) ||
        !orthonormalise(&s, k->vectors, k->rank)) {
        return false;
    }
    apply(&s, a, k->vectors, k->rank);
    return certify(&s, k->vectors, total, k);
}

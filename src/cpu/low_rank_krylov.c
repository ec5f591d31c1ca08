/* low_rank_krylov.c - block Lanczos with full re-orthogonalisation, for a few leading directions.
 *
 * The Krylov space of A'A from a random block of b > rank columns (so that no copy of a repeated
 * singular value can be missed); products with A in f32, everything small in f64. With
 * T = V'A'AV and Ritz pairs (theta, y), the residual of each is known exactly as
 * R y_last, R being the factor that the next block leaves: it gives the estimate by which the
 * iteration stops, and the certificate. Source: Golub and Underwood 1977; the estimate is
 * first-order perturbation theory of the projector.
 */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/low_rank.h"

enum {
    MAX_BLOCK = 32,
    MORE = 8,        /* directions that are told apart in f64 beside those wanted, if need be */
    MOST = MAX_BLOCK + 1 + MORE,
    PANEL_ROWS = 32, /* rows of a tall matrix, columns of a wide one, that a product goes forth */
    PANEL_COLS = 512 /* through and at once back, while they are in cache */
};

/* A block that holds less than this of the basis is clean after one more projection. */
static const float clean_enough = 1e-4f;

/* Products with A in f32 are uncertain by about this share of the largest value. */
static const double product_noise = 1e-7;

typedef struct lanczos {
    const lors_matrix *a;
    lapack_int n, m, b, l, max_l; /* b: columns of a block */
    float scale;       /* a power of two that brings the norm of A near 1: squares stay in range */
    float *basis;      /* [max_l + b][n]: columns */
    float *block;      /* [n][b]: the last block of the basis, its columns interleaved */
    float *next;       /* [n][b]: the next block, interleaved */
    float *image;      /* [PANEL_COLS][b] */
    float *overlap;    /* [max_l][b] */
    double *wide;      /* [b][n]: the next block in f64 */
    double *t, *small; /* [max_l][max_l]: T; a copy of its leading part */
    double *ritz;      /* [MOST][max_l]: leading eigenvectors of T */
    double *theta;     /* [max_l]: their values, ascending */
    double *leading;   /* [MOST][n]: the directions that they stand for */
    unsigned char *polish; /* scratch of lors_polish */
    lapack_int *integers; /* [12 max_l + 2] */
    double *work;
    lapack_int n_work;
    double r[MAX_BLOCK * MAX_BLOCK]; /* upper triangle: what the next block leaves, column-major */
} lanczos;

static lapack_int block_of(lapack_int rank)
{
    return rank < 8 ? 8 : rank < 16 ? 16 : MAX_BLOCK;
}

/* Steps after which the Gram matrix would have been cheaper: both costs in rough nanoseconds. */
static lapack_int step_budget(lapack_int n_long, lapack_int n_short, lapack_int block)
{
    double m = n_long, n = n_short;
    double gram = m * n * n / 40 + n * n * n / 9, step = 4 * m * n * block / 38 + 1e5;
    lapack_int steps = (lapack_int)(0.8 * gram / step);
    lapack_int most = n_short / 2 / block;
    return steps < most ? steps : most;
}

bool lors_krylov_fits(lapack_int n_long, lapack_int n_short, lapack_int rank)
{
    lapack_int block = block_of(rank);
    return rank > 0 && rank < MAX_BLOCK && 40 * rank <= n_short &&
           step_budget(n_long, n_short, block) * block >= 4 * rank;
}

static uint64_t lay_out(lanczos *s, unsigned char *base)
{
    uint64_t n = (uint64_t)s->n, b = (uint64_t)s->b, at = 0;
    uint64_t l = (uint64_t)s->max_l;
    s->n_work = 40 * s->max_l;
    s->basis = lors_carve(base, &at, 4 * (l + b) * n);
    s->block = lors_carve(base, &at, 4 * b * n);
    s->next = lors_carve(base, &at, 4 * b * n);
    s->image = lors_carve(base, &at, 4 * b * PANEL_COLS);
    s->overlap = lors_carve(base, &at, 4 * b * l);
    s->wide = lors_carve(base, &at, 8 * b * n);
    s->t = lors_carve(base, &at, 8 * l * l);
    s->small = lors_carve(base, &at, 8 * l * l);
    s->ritz = lors_carve(base, &at, 8 * MOST * l);
    s->theta = lors_carve(base, &at, 8 * l);
    s->leading = lors_carve(base, &at, 8 * MOST * n);
    s->polish = lors_carve(base, &at, lors_polish_bytes(s->n, MOST));
    s->integers = lors_carve(base, &at, sizeof(lapack_int) * (12 * l + 2));
    s->work = lors_carve(base, &at, 8 * (uint64_t)s->n_work);
    return at;
}

static lanczos lanczos_of(lapack_int n_long, lapack_int n_short, lapack_int rank)
{
    lapack_int block = block_of(rank), steps = step_budget(n_long, n_short, block);
    return (lanczos){.n = n_short, .m = n_long, .b = block, .max_l = steps * block};
}

/* Not monotone in the rank: a higher one may be left to the other solver. */
uint64_t lors_krylov_bytes(lapack_int n_long, lapack_int n_short, lapack_int rank)
{
    uint64_t most = 0;
    for (lapack_int r = 1; r <= rank && r < MAX_BLOCK; r++) {
        if (lors_krylov_fits(n_long, n_short, r)) {
            lanczos s = lanczos_of(n_long, n_short, r);
            uint64_t bytes = lay_out(&s, NULL);
            most = bytes > most ? bytes : most;
        }
    }
    return most;
}

/* next = A'(A block). The scale goes in before the first product and after the second: no sum on
 * the way is out of range. */
static void multiply(lanczos *s)
{
    const lors_matrix *a = s->a;
    int64_t b = s->b, all = (int64_t)s->n * b, step = a->wide ? PANEL_COLS : PANEL_ROWS;
    for (int64_t i = 0; i < all; i++) {
        s->block[i] *= s->scale;
    }
    memset(s->next, 0, (size_t)all * sizeof *s->next);
    for (int64_t first = 0; first < s->m; first += step) {
        int64_t count = s->m - first < step ? s->m - first : step;
        const float *x = a->x + first * (a->wide ? 1 : s->n);
        memset(s->image, 0, (size_t)(count * b) * sizeof *s->image);
        if (a->wide) {
            a->kernels->add_few(s->image, x, s->m, s->n, count, s->block, b);
            a->kernels->times_few(s->next, x, s->m, s->n, count, s->image, b);
        } else {
            a->kernels->times_few(s->image, x, s->n, count, s->n, s->block, b);
            a->kernels->add_few(s->next, x, s->n, count, s->n, s->image, b);
        }
    }
    for (int64_t i = 0; i < all; i++) {
        s->next[i] *= s->scale;
    }
}

/* Take the basis out of `next`; overlap[l][b] is what was taken. Returns its largest entry. */
static float project_out(lanczos *s)
{
    int64_t all = (int64_t)s->l * s->b;
    float largest = 0;
    memset(s->overlap, 0, (size_t)all * sizeof *s->overlap);
    s->a->kernels->times_few(s->overlap, s->basis, s->n, s->l, s->n, s->next, s->b);
    for (int64_t i = 0; i < all; i++) {
        largest = fabsf(s->overlap[i]) > largest ? fabsf(s->overlap[i]) : largest;
        s->overlap[i] = -s->overlap[i];
    }
    s->a->kernels->add_few(s->next, s->basis, s->n, s->l, s->n, s->overlap, s->b);
    return largest;
}

/* Twice; what was taken is the next block column of T. */
static void orthogonalise(lanczos *s)
{
    lapack_int l = s->l, column = l - s->b;
    for (int sweep = 0; sweep < 2; sweep++) {
        project_out(s);
        for (lapack_int j = 0; j < s->b; j++) {
            for (lapack_int i = 0; i < l; i++) {
                double *t = &s->t[(int64_t)(column + j) * s->max_l + i];
                *t = (sweep ? *t : 0) - (double)s->overlap[i * s->b + j];
            }
        }
    }
}

/* r <- upper Cholesky factor of wide'wide, wide <- wide r^-1; false where it has no full rank. */
static bool cholesky_step(lanczos *s, double *r)
{
    cblas_dsyrk(CblasColMajor, CblasUpper, CblasTrans, s->b, s->n, 1, s->wide, s->n, 0, r, s->b);
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', s->b, r, s->b) != 0) {
        return false;
    }
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, s->n, s->b, 1, r,
                s->b, s->wide, s->n);
    return true;
}

static void widen_block(lanczos *s)
{
    for (int64_t j = 0; j < s->b; j++) {
        for (int64_t i = 0; i < s->n; i++) {
            s->wide[j * s->n + i] = s->next[i * s->b + j];
        }
    }
}

static void narrow_block(lanczos *s)
{
    for (int64_t j = 0; j < s->b; j++) {
        for (int64_t i = 0; i < s->n; i++) {
            s->next[i * s->b + j] = (float)s->wide[j * s->n + i];
        }
    }
}

/* One more CholeskyQR of `wide`, whose factor joins r. */
static bool refine(lanczos *s)
{
    double second[MAX_BLOCK * MAX_BLOCK] = {0};
    if (!cholesky_step(s, second)) {
        return false;
    }
    cblas_dtrmm(CblasColMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, s->b, s->b, 1,
                second, s->b, s->r, s->b);
    return true;
}

/* `next` becomes the last block of the basis. */
static void join_basis(lanczos *s)
{
    float *columns = s->basis + (int64_t)s->l * s->n;
    for (int64_t i = 0; i < (int64_t)s->b * s->n; i++) {
        columns[i] = (float)s->wide[i];
    }
    narrow_block(s);
    float *swap = s->block;
    s->block = s->next;
    s->next = swap;
}

/* Orthonormalise `next` into the basis behind its l columns (CholeskyQR twice, in f64). Columns
 * that were mostly rounding have been scaled up by then, and with them what they still held of the
 * basis: it is taken out again, until there is little, or old directions would be counted as new
 * ones. */
static bool append_block(lanczos *s)
{
    widen_block(s);
    memset(s->r, 0, sizeof s->r);
    if (!cholesky_step(s, s->r) || !refine(s)) {
        return false;
    }
    for (int sweep = 0; sweep < 2 && s->l > 0; sweep++) {
        narrow_block(s);
        float taken = project_out(s);
        widen_block(s);
        if (!refine(s)) {
            return false;
        }
        if (taken < clean_enough) {
            break;
        }
    }
    join_basis(s);
    return true;
}

static void random_block(lanczos *s)
{
    for (int64_t i = 0; i < (int64_t)s->b * s->n; i += 4) {
        lors_philox bits = lors_philox_at(0x6c6f7273u, (uint64_t)i, 0);
        for (int64_t j = 0; j < 4 && i + j < (int64_t)s->b * s->n; j++) {
            s->next[i + j] = (float)((int32_t)bits.word[j]) * 0x1p-31f;
        }
    }
}

/* The leading `count` Ritz values and vectors of T. */
static bool solve_small(lanczos *s, lapack_int count)
{
    lapack_int l = s->l, found = 0;
    for (lapack_int j = 0; j < l; j++) {
        for (lapack_int i = 0; i <= j; i++) {
            s->small[(int64_t)j * l + i] = s->t[(int64_t)j * s->max_l + i];
        }
    }
    lapack_int info = LAPACKE_dsyevr_work(LAPACK_COL_MAJOR, 'V', 'I', 'U', l, s->small, l, 0, 0,
                                          l - count + 1, l, 0, &found, s->theta, s->ritz, l,
                                          s->integers, s->work, s->n_work,
                                          s->integers + 2 * count, 10 * l);
    return info == 0 && found == count;
}

/* Squared residual of Ritz pair i: norm(R y_last)^2. */
static double residual_of(const lanczos *s, lapack_int i)
{
    const double *last = s->ritz + (int64_t)i * s->l + (s->l - s->b);
    double sum = 0;
    for (int row = 0; row < s->b; row++) {
        double entry = 0;
        for (int column = row; column < s->b; column++) {
            entry += s->r[column * s->b + row] * last[column];
        }
        sum += entry * entry;
    }
    return sum;
}

/* How far the leading directions are off, first-order: by what the space does not hold yet, and by
 * the rounding of products. Rounding is harmless among directions that are told apart in f64: there
 * it counts against the distance to the last of the `count` looked at. */
typedef struct errors {
    double squares;              /* of all residuals */
    double projection, by_noise; /* squared norm of the error of L, and what rounding adds to it */
    double energy;               /* lost */
    double kept, next, last;     /* sum of the values, the one below them, the least of them */
} errors;

static errors errors_of(const lanczos *s, lapack_int rank, lapack_int count)
{
    const double *theta = s->theta + (count - rank);
    double first = theta[rank - 1], noise = product_noise * first * product_noise * first;
    errors e = {.next = theta[-1] > 0 ? theta[-1] : 0, .last = theta[0]};
    for (lapack_int i = 0; i < rank; i++) {
        double square = residual_of(s, count - rank + i), least = 1e-7 * theta[i];
        double gap = theta[i] - e.next > least ? theta[i] - e.next : least;
        double range = theta[i] - s->theta[0] > least ? theta[i] - s->theta[0] : least;
        e.squares += square + noise;
        e.projection += 2 * theta[i] * square / (gap * gap);
        e.by_noise += 2 * theta[i] * noise / (range * range);
        e.energy += square / gap + noise / range;
        e.kept += theta[i];
    }
    return e;
}

typedef enum verdict { GO_ON, GOOD, ROUNDED } verdict;

/* Is the space good enough? Sets the numbers of the certificate. ROUNDED: it would be, but for the
 * rounding of products: more steps will not help. */
static verdict judge(const lanczos *s, double total, lapack_int count, lors_krylov *k)
{
    errors e = errors_of(s, k->rank, count);
    if (e.last <= 0) {
        return GO_ON;
    }
    double tail = total - e.kept > 1e-12 * total ? total - e.kept : 1e-12 * total;
    double gap = 1 - sqrt(e.next / e.last);
    double most = LORS_STOP_PROJECTION * LORS_STOP_PROJECTION * total;
    k->next = e.next;
    k->residual = sqrt(e.squares) / s->theta[count - 1];
    k->excess = 0.5 * e.energy / tail;
    if (gap < LORS_STOP_GAP) {
        return k->excess <= LORS_STOP_ENERGY ? GOOD : GO_ON;
    }
    if (e.projection + e.by_noise <= most && k->excess <= 5e-7) {
        return GOOD;
    }
    return e.projection <= 0.25 * most && e.by_noise > 0.75 * most ? ROUNDED : GO_ON;
}

/* Orthonormal to f64 precision: Gram-Schmidt twice, from the largest down. */
static void orthonormalise(double *vectors, lapack_int n, lapack_int count)
{
    for (lapack_int c = count - 1; c >= 0; c--) {
        double *v = vectors + (int64_t)c * n;
        for (int sweep = 0; sweep < 2; sweep++) {
            for (lapack_int other = c + 1; other < count; other++) {
                const double *u = vectors + (int64_t)other * n;
                cblas_daxpy(n, -cblas_ddot(n, u, 1, v, 1), u, 1, v, 1);
            }
        }
        cblas_dscal(n, 1 / cblas_dnrm2(n, v, 1), v, 1);
    }
}

/* vectors = basis * (`count` Ritz vectors), orthonormal. */
static void extract(const lanczos *s, const double *ritz, lapack_int count, double *vectors)
{
    lapack_int n = s->n;
    for (lapack_int c = 0; c < count; c++) {
        double *v = vectors + (int64_t)c * n;
        const double *y = ritz + (int64_t)c * s->l;
        memset(v, 0, (size_t)n * sizeof *v);
        for (lapack_int j = 0; j < s->l; j++) {
            const float *column = s->basis + (int64_t)j * n;
            for (lapack_int i = 0; i < n; i++) {
                v[i] += y[j] * (double)column[i];
            }
        }
    }
    orthonormalise(vectors, n, count);
}

/* A look at the space: GOOD with the result in *k, GO_ON, or ROUNDED where it cannot be had. */
static verdict look(lanczos *s, double total, int exponent, lors_krylov *k)
{
    lapack_int count = k->rank + 1;
    if (!solve_small(s, count)) {
        return ROUNDED;
    }
    verdict found = judge(s, total, count, k);
    if (found == GOOD) {
        extract(s, s->ritz + s->l, k->rank, k->vectors);
        k->next = ldexp(k->next, 2 * exponent);
    }
    if (found != ROUNDED) {
        return found;
    }
    count = s->l < count + MORE ? s->l : count + MORE;
    if (!solve_small(s, count) || judge(s, total, count, k) != GOOD) {
        return ROUNDED;
    }
    extract(s, s->ritz, count, s->leading);
    bool done = lors_polish(s->a, s->leading, count, k->rank, k->vectors, s->theta, s->polish);
    k->next = s->theta[count - k->rank - 1];
    orthonormalise(k->vectors, s->n, k->rank);
    return done ? GOOD : ROUNDED;
}

bool lors_krylov_solve(const lors_matrix *a, double total, unsigned char *scratch, lors_krylov *k)
{
    lanczos s = lanczos_of(a->n_long, a->n_short, k->rank);
    int exponent = 0;
    frexp(sqrt(total), &exponent);
    if (abs(exponent) > 100) {
        return false; /* f32 sums would overflow or lose digits */
    }
    s.a = a;
    s.scale = ldexpf(1, -exponent);
    total = ldexp(total, -2 * exponent);
    lay_out(&s, scratch);
    random_block(&s);
    if (!append_block(&s)) {
        return false;
    }
    lapack_int next_look = 2 * k->rank; /* a look costs l^3: not after every block */
    while (s.l + s.b <= s.max_l) {
        s.l += s.b;
        multiply(&s);
        orthogonalise(&s);
        k->n_steps = s.l / s.b;
        if (!append_block(&s)) {
            return false; /* the space is exhausted: rank-deficient, left to the other solver */
        }
        if ((s.l < next_look && s.l + s.b <= s.max_l) || s.l <= k->rank) {
            continue;
        }
        next_look = s.l + s.l / 8;
        verdict found = look(&s, total, exponent, k);
        if (found != GO_ON) {
            return found == GOOD;
        }
    }
    return false;
}

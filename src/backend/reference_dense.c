/* reference_dense.c - products, eigenproblems and solutions of the device, each judged by the CPU.
 *
 * A product may be off by 1e-11 of the norms of its factors; of an eigenproblem the values by 1e-9
 * of the largest, as the vectors by their own residual and orthogonality; a solution by a residual
 * of 1e-11 of the norms of it and the matrix. What is off by more is an
 * error at once: it is no question of taste.
 */
#include <math.h>
#include <string.h>

#include "backend/reference_internal.h"
#include "base/error.h"

static const double product_slack = 1e-11, eigen_slack = 1e-9;

/* --- the way there and back ------------------------------------------------------------------- */

typedef struct piece {
    void *here;
    uint64_t n_bytes;
    bool goes, comes;
    lors_view staged, there;
} piece;

static uint64_t place(piece *pieces, int32_t n, const trip *t)
{
    uint64_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        pieces[i].staged = (lors_view){t->staging, at};
        pieces[i].there = (lors_view){t->there, at};
        at += lors_view_padded(pieces[i].n_bytes);
    }
    return at;
}

static lors_status send(const reference_queue *queue, const piece *pieces, int32_t n)
{
    const reference *r = queue->owner;
    for (int32_t i = 0; i < n; i++) {
        if (pieces[i].goes) {
            memcpy(r->ops->host_bytes(pieces[i].staged), pieces[i].here, pieces[i].n_bytes);
            LORS_TRY(r->ops->upload(queue->device, pieces[i].there, pieces[i].staged,
                                    pieces[i].n_bytes));
        }
    }
    return LORS_OK;
}

static lors_status fetch(const reference_queue *queue, const piece *pieces, int32_t n)
{
    const reference *r = queue->owner;
    for (int32_t i = 0; i < n; i++) {
        if (pieces[i].comes) {
            LORS_TRY(r->ops->download(queue->device, pieces[i].staged, pieces[i].there,
                                      pieces[i].n_bytes));
        }
    }
    LORS_TRY(r->ops->wait(queue->device));
    for (int32_t i = 0; i < n; i++) {
        if (pieces[i].comes) {
            memcpy(pieces[i].here, r->ops->host_bytes(pieces[i].staged), pieces[i].n_bytes);
        }
    }
    return LORS_OK;
}

/* The end of a trip: nothing may be on its way into memory that is given back. */
static lors_status end(const reference_queue *queue, trip *t, lors_status status)
{
    lors_status waited = status == LORS_OK ? LORS_OK : queue->owner->ops->wait(queue->device);
    lors_reference_end_trip(queue->owner, t);
    return status != LORS_OK ? status : waited;
}

/* --- products --------------------------------------------------------------------------------- */

uint64_t lors_reference_multiply_bytes(int64_t rows, int64_t cols, int64_t depth)
{
    uint64_t out = (uint64_t)(rows * cols) * sizeof(double);
    uint64_t all = out + (uint64_t)((rows + cols) * depth) * sizeof(double) + 3 * LORS_VIEW_ALIGN;
    return lors_cpu_multiply_bytes(rows, cols, depth) + lors_view_padded(out) + 2 * all;
}

/* A factor's words as they lie, without what is behind its last row. */
static piece piece_of(const lors_factor *f, int64_t rows, int64_t cols)
{
    int64_t n_rows = f->transposed ? cols : rows, n_cols = f->transposed ? rows : cols;
    uint64_t n = n_rows > 0 ? (uint64_t)((n_rows - 1) * f->ld + n_cols) : 0;
    return (piece){.here = lors_cpu_at(f->x),
                   .n_bytes = n * (f->wide ? sizeof(double) : sizeof(float)),
                   .goes = true};
}

static double norm_of_factor(const lors_factor *f, int64_t rows, int64_t cols)
{
    int64_t n_rows = f->transposed ? cols : rows, n_cols = f->transposed ? rows : cols;
    double sum = 0;
    for (int64_t i = 0; i < n_rows * n_cols; i++) {
        int64_t at = i / n_cols * f->ld + i % n_cols;
        double x = f->wide ? ((const double *)lors_cpu_at(f->x))[at]
                           : (double)((const float *)lors_cpu_at(f->x))[at];
        sum += x * x;
    }
    return sqrt(sum);
}

static double norm_of_rows(const double *a, int64_t lda, const double *b, int64_t rows,
                           int64_t cols)
{
    double sum = 0;
    for (int64_t i = 0; i < rows * cols; i++) {
        double x = a[i / cols * lda + i % cols] - (b ? b[i] : 0);
        sum += x * x;
    }
    return sqrt(sum);
}

static lors_status ask_product(reference_queue *queue, double *out, const lors_product *p)
{
    uint64_t n = p->rows > 0 ? (uint64_t)((p->rows - 1) * p->ld + p->cols) : 0;
    piece pieces[4] = {piece_of(&p->left, p->rows, p->depth),
                       piece_of(&p->right, p->depth, p->cols),
                       {.here = out, .n_bytes = n * sizeof *out, .goes = true, .comes = true},
                       {.n_bytes = queue->owner->ops->multiply_bytes(p->rows, p->cols, p->depth)}};
    lors_product there = *p;
    trip t = {NULL, NULL};
    uint64_t staged = place(pieces, 3, &t), bytes = place(pieces, 4, &t);
    LORS_TRY(lors_reference_begin_trip(queue->owner, staged, bytes, &t));
    place(pieces, 4, &t);
    there.left.x = pieces[0].there;
    there.right.x = pieces[1].there;
    there.scratch = pieces[3].there;
    lors_status status = send(queue, pieces, 3);
    if (status == LORS_OK) {
        status = queue->owner->ops->multiply(queue->device, pieces[2].there, &there);
    }
    if (status == LORS_OK) {
        status = fetch(queue, pieces, 3);
    }
    return end(queue, &t, status);
}

lors_status lors_reference_multiply(lors_queue *given, lors_view out, const lors_product *p)
{
    reference_queue *queue = (reference_queue *)(void *)given;
    double *x = lors_cpu_at(out), *own = lors_cpu_at(p->scratch), before = 0;
    uint64_t own_bytes = lors_view_padded((uint64_t)(p->rows * p->cols) * sizeof *own);
    lors_product mine = *p;
    if (p->beta != 0) {
        before = norm_of_rows(x, p->ld, NULL, p->rows, p->cols);
        for (int64_t row = 0; row < p->rows; row++) {
            memcpy(own + row * p->cols, x + row * p->ld, (size_t)p->cols * sizeof *own);
        }
    }
    mine.ld = p->cols;
    mine.scratch = lors_view_at(p->scratch, own_bytes);
    LORS_TRY(lors_cpu_multiply(&queue->cpu, p->scratch, &mine));
    LORS_TRY(ask_product(queue, x, p));
    double allowed = product_slack * (fabs(p->beta) * before +
                                      fabs(p->alpha) * norm_of_factor(&p->left, p->rows, p->depth) *
                                          norm_of_factor(&p->right, p->depth, p->cols));
    double rest = norm_of_rows(x, p->ld, own, p->rows, p->cols);
    return !(rest <= allowed) && isfinite(allowed)
               ? lors_fail(LORS_ERR_NUMERICS,
                           "a product of the device is off by %.3g, %.3g is allowed: the device or "
                           "its memory is failing",
                           rest, allowed)
               : LORS_OK;
}

/* --- eigenproblems ---------------------------------------------------------------------------- */

/* The matrix once more, the CPU's own vectors and values, and scratch for both its operations. */
typedef struct own_eigen {
    lors_view matrix, vectors, scratch;
    double *values;
} own_eigen;

static uint64_t lay_out(own_eigen *e, lors_view at, int64_t n, int64_t count)
{
    const uint64_t sizes[] = {(uint64_t)(n * n), (uint64_t)(n * count), (uint64_t)count};
    uint64_t filled[4] = {0};
    for (int i = 0; i < 3; i++) {
        filled[i + 1] = filled[i] + lors_view_padded(sizes[i] * sizeof(double));
    }
    uint64_t eigen = lors_cpu_eigen_bytes(n, count), product = lors_cpu_multiply_bytes(n, n, n);
    if (at.memory) {
        e->matrix = at;
        e->vectors = lors_view_at(at, filled[1]);
        e->values = lors_cpu_at(lors_view_at(at, filled[2]));
        e->scratch = lors_view_at(at, filled[3]);
    }
    return filled[3] + (eigen > product ? eigen : product);
}

uint64_t lors_reference_eigen_bytes(int64_t n, int64_t count)
{
    own_eigen e;
    uint64_t all = (uint64_t)(n * (n + count)) * sizeof(double) + 2 * LORS_VIEW_ALIGN;
    return lay_out(&e, LORS_NO_VIEW, n, count) + 2 * all + lors_cpu_eigen_bytes(n, count);
}

static lors_status ask_eigen(reference_queue *queue, double *matrix, int64_t n, int64_t count,
                             double *vectors, double *values)
{
    const lors_backend_ops *ops = queue->owner->ops;
    piece pieces[3] = {
        {.here = matrix, .n_bytes = (uint64_t)(n * n) * sizeof *matrix, .goes = true},
        {.here = vectors, .n_bytes = (uint64_t)(n * count) * sizeof *vectors, .comes = true},
        {.n_bytes = ops->eigen_bytes(n, count)}};
    trip t = {NULL, NULL};
    uint64_t staged = place(pieces, 2, &t), bytes = place(pieces, 3, &t);
    LORS_TRY(lors_reference_begin_trip(queue->owner, staged, bytes, &t));
    place(pieces, 3, &t);
    lors_status status = send(queue, pieces, 2);
    if (status == LORS_OK) {
        status = ops->eigen(queue->device, pieces[0].there, n, count, pieces[1].there, values,
                            pieces[2].there);
    }
    if (status == LORS_OK) {
        status = fetch(queue, pieces, 2);
    }
    return end(queue, &t, status);
}

/* out = vectors * matrix - diag(values) * vectors, or vectors * vectors' - 1; its norm. */
static lors_status deviation(reference_queue *queue, const own_eigen *e, lors_view vectors,
                             const double *values, int64_t n, int64_t count, double *norm)
{
    lors_factor v = {.x = vectors, .wide = true, .ld = n}, other = v;
    other.transposed = true;
    int64_t cols = values ? n : count;
    const lors_factor g = {.x = e->matrix, .wide = true, .ld = n};
    lors_product p = {.left = v,
                      .right = values ? g : other,
                      .rows = count,
                      .cols = cols,
                      .depth = n,
                      .ld = cols,
                      .alpha = 1,
                      .scratch = e->scratch};
    double *out = lors_cpu_at(e->vectors);
    const double *given = lors_cpu_at(vectors);
    LORS_TRY(lors_cpu_multiply(&queue->cpu, e->vectors, &p));
    for (int64_t i = 0; i < count * cols; i++) {
        out[i] -= values ? values[i / cols] * given[i] : i / cols == i % cols;
    }
    *norm = norm_of_rows(out, cols, NULL, count, cols);
    return LORS_OK;
}

static lors_status judge(reference_queue *queue, own_eigen *e, lors_view vectors,
                         const double *values, int64_t n, int64_t count)
{
    double largest = values[count - 1], worst = 0, residual = 0, angle = 0;
    for (int64_t i = 0; i < count; i++) {
        worst = fmax(worst, fabs(values[i] - e->values[i]));
    }
    LORS_TRY(deviation(queue, e, vectors, values, n, count, &residual));
    LORS_TRY(deviation(queue, e, vectors, NULL, n, count, &angle));
    double root = sqrt((double)count);
    return worst <= eigen_slack * largest && residual <= eigen_slack * root * largest &&
                   angle <= eigen_slack * root
               ? LORS_OK
               : lors_fail(LORS_ERR_NUMERICS,
                           "eigenvalues of the device are off by %.3g of %.3g, its vectors by %.3g "
                           "and %.3g: the device or its memory is failing",
                           worst, largest, residual, angle);
}

lors_status lors_reference_eigen(lors_queue *given, lors_view matrix, int64_t n, int64_t count,
                                 lors_view vectors, double *values, lors_view scratch)
{
    reference_queue *queue = (reference_queue *)(void *)given;
    own_eigen e;
    double *g = lors_cpu_at(matrix);
    size_t n_bytes = (size_t)(n * n) * sizeof *g;
    lay_out(&e, scratch, n, count);
    memcpy(lors_cpu_at(e.matrix), g, n_bytes);
    LORS_TRY(lors_cpu_eigen(&queue->cpu, e.matrix, n, count, e.vectors, e.values, e.scratch));
    memcpy(lors_cpu_at(e.matrix), g, n_bytes);
    LORS_TRY(ask_eigen(queue, g, n, count, lors_cpu_at(vectors), values));
    bool numbers = count > 0 && !(isnan(values[0]) && isnan(e.values[0]));
    return numbers ? judge(queue, &e, vectors, values, n, count) : LORS_OK;
}

/* --- solutions -------------------------------------------------------------------------------- */

uint64_t lors_reference_solve_bytes(int64_t n, int64_t rows)
{
    uint64_t own = lors_view_padded((uint64_t)(n * n) * sizeof(double)) +
                   lors_view_padded((uint64_t)(rows * n) * sizeof(double));
    return 3 * own + lors_cpu_multiply_bytes(rows, n, n) + lors_cpu_solve_bytes(n, rows);
}

static lors_status ask_solve(reference_queue *queue, double *matrix, int64_t n, double shift,
                             double *x, int64_t rows, bool *solved)
{
    const lors_backend_ops *ops = queue->owner->ops;
    piece pieces[3] = {
        {.here = matrix, .n_bytes = (uint64_t)(n * n) * sizeof *matrix, .goes = true},
        {.here = x, .n_bytes = (uint64_t)(rows * n) * sizeof *x, .goes = true, .comes = true},
        {.n_bytes = ops->solve_bytes(n, rows)}};
    trip t = {NULL, NULL};
    uint64_t staged = place(pieces, 2, &t), bytes = place(pieces, 3, &t);
    LORS_TRY(lors_reference_begin_trip(queue->owner, staged, bytes, &t));
    place(pieces, 3, &t);
    lors_status status = send(queue, pieces, 2);
    if (status == LORS_OK) {
        status = ops->solve(queue->device, pieces[0].there, n, shift, pieces[1].there, rows, solved,
                            pieces[2].there);
    }
    if (status == LORS_OK) {
        status = fetch(queue, pieces, 2);
    }
    return end(queue, &t, status);
}

/* x (A + shift) must be what was there before. */
lors_status lors_reference_solve(lors_queue *given, lors_view matrix, int64_t n, double shift,
                                 lors_view x, int64_t rows, bool *solved, lors_view scratch)
{
    reference_queue *queue = (reference_queue *)(void *)given;
    const lors_view multiply_scratch =
        lors_view_at(scratch, lors_view_padded((uint64_t)(rows * n) * sizeof(double)));
    double *rest = lors_cpu_at(scratch), *found = lors_cpu_at(x);
    memcpy(rest, found, (size_t)(rows * n) * sizeof *rest);
    LORS_TRY(ask_solve(queue, lors_cpu_at(matrix), n, shift, found, rows, solved));
    if (!*solved) { /* what is done instead is judged by itself */
        return LORS_OK;
    }
    lors_product p = {.left = {.x = x, .wide = true, .ld = n},
                      .right = {.x = matrix, .wide = true, .ld = n},
                      .rows = rows,
                      .cols = n,
                      .depth = n,
                      .ld = n,
                      .alpha = 1,
                      .beta = -1,
                      .scratch = multiply_scratch};
    LORS_TRY(lors_cpu_multiply(&queue->cpu, scratch, &p));
    for (int64_t i = 0; i < rows * n; i++) {
        rest[i] += shift * found[i];
    }
    double size = norm_of_factor(&p.right, n, n) + fabs(shift) * sqrt((double)n);
    double allowed = product_slack * size * norm_of_rows(found, n, NULL, rows, n);
    double off = norm_of_rows(rest, n, NULL, rows, n);
    return off > allowed || isnan(off)
               ? lors_fail(LORS_ERR_NUMERICS,
                           "a solution of the device leaves %.3g, %.3g is allowed: the device or "
                           "its memory is failing",
                           off, allowed)
               : LORS_OK;
}

/* --- products of rows ------------------------------------------------------------------------- */

static lors_status ask_dots(reference_queue *queue, const lors_factor *a, const lors_factor *b,
                            int64_t rows, int64_t cols, double *dots)
{
    const lors_backend_ops *ops = queue->owner->ops;
    lors_factor left = *a, right = *b;
    piece pieces[3] = {piece_of(a, rows, cols),
                       piece_of(b, rows, cols),
                       {.n_bytes = ops->dot_rows_bytes(rows)}};
    trip t = {NULL, NULL};
    uint64_t staged = place(pieces, 2, &t), bytes = place(pieces, 3, &t);
    LORS_TRY(lors_reference_begin_trip(queue->owner, staged, bytes, &t));
    place(pieces, 3, &t);
    left.x = pieces[0].there;
    right.x = pieces[1].there;
    lors_status status = send(queue, pieces, 2);
    if (status == LORS_OK) {
        status = ops->dot_rows(queue->device, &left, &right, rows, cols, dots, pieces[2].there);
    }
    return end(queue, &t, status);
}

lors_status lors_reference_dot_rows(lors_queue *given, const lors_factor *a, const lors_factor *b,
                                    int64_t rows, int64_t cols, double *dots, lors_view scratch)
{
    reference_queue *queue = (reference_queue *)(void *)given;
    LORS_TRY(ask_dots(queue, a, b, rows, cols, dots));
    for (int64_t row = 0; row < rows; row++) {
        lors_factor x = *a, y = *b;
        double own = 0;
        x.x = lors_view_at(x.x, (uint64_t)(row * x.ld) * (x.wide ? sizeof(double) : sizeof(float)));
        y.x = lors_view_at(y.x, (uint64_t)(row * y.ld) * (y.wide ? sizeof(double) : sizeof(float)));
        LORS_TRY(lors_cpu_dot_rows(&queue->cpu, &x, &y, 1, cols, &own, scratch));
        double allowed =
            product_slack * norm_of_factor(&x, 1, cols) * norm_of_factor(&y, 1, cols);
        if (!(fabs(dots[row] - own) <= allowed) && isfinite(allowed)) {
            return lors_fail(LORS_ERR_NUMERICS,
                             "a dot product of the device is off by %.3g, %.3g is allowed: the "
                             "device or its memory is failing",
                             fabs(dots[row] - own), allowed);
        }
    }
    return LORS_OK;
}

/* test_dense.c - products, scaled rows, eigenproblems and solutions in f64; and what the reference
 * makes of a device that is off. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_reference.h"
#include "base/error.h"
#include "synth.h"

/* --- products --------------------------------------------------------------------------------- */

/* Element (i, j) of a factor as it is after its transposition. */
static double element(const lors_factor *f, const void *x, int64_t i, int64_t j)
{
    int64_t at = f->transposed ? j * f->ld + i : i * f->ld + j;
    return f->wide ? ((const double *)x)[at] : (double)((const float *)x)[at];
}

/* Rows three elements further apart than they must be. */
static lors_factor factor_of(ops_bench *bench, int64_t rows, int64_t cols, bool wide,
                             bool transposed, uint64_t seed)
{
    int64_t n_rows = transposed ? cols : rows, n_cols = transposed ? rows : cols;
    lors_factor f = {.wide = wide, .transposed = transposed, .ld = n_cols + 3};
    int64_t n = n_rows > 0 ? (n_rows - 1) * f.ld + n_cols : 0;
    float *narrow = malloc((size_t)n * sizeof *narrow + 1);
    double *wider = malloc((size_t)n * sizeof *wider + 1);
    synth_values(narrow, n, 1, seed);
    for (int64_t i = 0; i < n; i++) {
        wider[i] = (double)narrow[i] * (1 + 1e-9 * (double)i);
    }
    f.x = ops_copy_of(bench, wide ? (void *)wider : (void *)narrow, n, wide ? 8 : 4);
    free(narrow);
    free(wider);
    return f;
}

static void check_product(ops_bench *bench, lors_product p, int64_t n_out, const double *before)
{
    lors_view out = ops_copy_of(bench, before, n_out, 8);
    p.scratch = ops_scratch(bench, bench->ops->multiply_bytes(p.rows, p.cols, p.depth));
    const void *left = ops_host(bench, p.left.x), *right = ops_host(bench, p.right.x);
    assert_ok(bench->ops->multiply(bench->queue, out, &p));
    const double *got = ops_host(bench, out);
    for (int64_t at = 0; at < n_out; at++) {
        int64_t i = at / p.ld, j = at % p.ld;
        double sum = 0, size = 0;
        for (int64_t k = 0; k < p.depth && j < p.cols; k++) {
            double term = element(&p.left, left, i, k) * element(&p.right, right, k, j);
            sum += term;
            size += fabs(term);
        }
        double wanted = p.alpha * sum + (p.beta == 0 ? 0 : p.beta * before[at]);
        size = fabs(p.alpha) * size + (p.beta == 0 ? 0 : fabs(p.beta * before[at]));
        wanted = j < p.cols ? wanted : before[at];
        expect(j < p.cols ? fabs(got[at] - wanted) <= 1e-13 * size : got[at] == wanted,
               "%lld x %lld x %lld at %lld: %.17g, not %.17g", (long long)p.rows, (long long)p.cols,
               (long long)p.depth, (long long)at, got[at], wanted);
    }
}

/* Every kind of factor, on sides around those of tiles and panels. */
static void products(ops_bench *bench)
{
    static const int64_t shapes[][3] = {{1, 1, 1},    {5, 3, 0},    {7, 66, 300}, {65, 64, 17},
                                        {64, 130, 1}, {33, 9, 257}, {0, 4, 2},    {70, 5, 63}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (unsigned kind = 0; kind < 16; kind++) {
            int64_t rows = shapes[s][0], cols = shapes[s][1], depth = shapes[s][2];
            double before[80 * 140];
            for (int64_t i = 0; i < 80 * 140; i++) {
                before[i] = kind % 3 == 0 ? NAN : 0.01 * (double)i; /* not read without beta */
            }
            lors_product p = {
                .left = factor_of(bench, rows, depth, kind & 1, (kind & 2) != 0, 1),
                .right = factor_of(bench, depth, cols, (kind & 4) != 0, (kind & 8) != 0, 2),
                .rows = rows,
                .cols = cols,
                .depth = depth,
                .ld = cols + 2,
                .alpha = kind % 2 ? -0.75 : 1,
                .beta = kind % 3 == 0 ? 0 : 1.5};
            for (int64_t i = 0; i < rows && kind % 3 == 0; i++) {
                before[i * p.ld + cols] = before[i * p.ld + cols + 1] = 7;
            }
            check_product(bench, p, rows > 0 ? (rows - 1) * p.ld + cols : 0, before);
            ops_clear(bench);
        }
    }
}

static void symmetric_products(ops_bench *bench)
{
    for (unsigned kind = 0; kind < 8; kind++) {
        int64_t n = kind & 4 ? 129 : 40, depth = 70;
        double *before = malloc((size_t)(n * n) * sizeof *before);
        for (int64_t i = 0; i < n * n; i++) {
            before[i] = 0.1 * (double)(i / n) * (double)(i % n);
        }
        lors_factor left = factor_of(bench, n, depth, kind & 1, (kind & 2) != 0, 3), right = left;
        right.transposed = !right.transposed;
        lors_product p = {left, right, n, n, depth, n, 0.5, kind & 1 ? 2 : 0, true, LORS_NO_VIEW};
        check_product(bench, p, n * n, before);
        free(before);
        ops_clear(bench);
    }
}

static void rows_are_scaled(ops_bench *bench)
{
    enum { ROWS = 300, COLS = 5, LD = 8 };
    double x[ROWS * LD], factors[ROWS];
    for (int i = 0; i < ROWS * LD; i++) {
        x[i] = sin(i);
        factors[i / LD] = i / LD == 7 ? 0 : cos(i / LD);
    }
    lors_view at = ops_copy_of(bench, x, ROWS * LD, 8);
    assert_ok(bench->ops->scale_rows(bench->queue, at, ROWS, COLS, LD, factors));
    const double *got = ops_host(bench, at);
    for (int i = 0; i < ROWS * LD; i++) {
        double wanted = i % LD < COLS ? x[i] * factors[i / LD] : x[i];
        expect(got[i] == wanted, "%d: %a, not %a", i, got[i], wanted);
    }
    ops_record(bench, got, sizeof x);
    ops_clear(bench);
}

/* --- eigenproblems ---------------------------------------------------------------------------- */

/* out = x x' of an n x n matrix of that kind. */
static void fill_gram(double *out, int64_t n, synth_kind kind)
{
    float *x = malloc((size_t)(n * n) * sizeof *x);
    synth_matrix(x, n, n, kind, 5);
    for (int64_t at = 0; at < n * n; at++) {
        out[at] = 0;
        for (int64_t k = 0; k < n; k++) {
            out[at] += (double)x[at / n * n + k] * (double)x[at % n * n + k];
        }
    }
    free(x);
}

static double square_of(const double *v, const double *g, int64_t n, double value)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double rest = -value * v[i];
        for (int64_t k = 0; k < n; k++) {
            rest += g[i * n + k] * v[k];
        }
        sum += rest * rest;
    }
    return sum;
}

static void check_eigen(ops_bench *bench, int64_t n, int64_t count, synth_kind kind)
{
    double *g = malloc((size_t)(n * n) * sizeof *g), *values = malloc((size_t)n * sizeof *values);
    fill_gram(g, n, kind);
    lors_view matrix = ops_copy_of(bench, g, n * n, 8),
              vectors = ops_buffer_of(bench, n * count, 8);
    lors_view scratch = ops_scratch(bench, bench->ops->eigen_bytes(n, count));
    assert_ok(bench->ops->eigen(bench->queue, matrix, n, count, vectors, values, scratch));
    const double *v = ops_host(bench, vectors);
    double largest = count > 0 ? values[count - 1] : 0, trace = 0, sum = 0;
    for (int64_t i = 0; i < count; i++) {
        expect(i == 0 || values[i] >= values[i - 1], "value %lld", (long long)i);
        expect(square_of(v + i * n, g, n, values[i]) <= pow(1e-12 * largest, 2),
               "vector %lld of %s", (long long)i, synth_kind_name(kind));
        for (int64_t j = 0; j <= i; j++) {
            double dot = 0;
            for (int64_t k = 0; k < n; k++) {
                dot += v[i * n + k] * v[j * n + k];
            }
            expect(fabs(dot - (i == j)) <= 1e-12, "vectors %lld and %lld", (long long)i,
                   (long long)j);
        }
        sum += values[i];
    }
    for (int64_t i = 0; i < n; i++) {
        trace += g[i * n + i];
    }
    expect(sum <= trace * (1 + 1e-12) && (count < n || fabs(sum - trace) <= 1e-12 * trace),
           "%g, of a trace of %g", sum, trace);
    free(g);
    free(values);
    ops_clear(bench);
}

static void eigenproblems(ops_bench *bench)
{
    for (int kind = 0; kind < SYNTH_KIND_COUNT; kind++) {
        for (int64_t n = 1; n <= 27; n += 13) {
            check_eigen(bench, n, n, (synth_kind)kind);
            check_eigen(bench, n, n / 3, (synth_kind)kind);
        }
    }
}

static void not_a_number_has_none(ops_bench *bench)
{
    double g[9] = {1, 0, NAN, 0, 1, 0, NAN, 0, NAN}, values[3] = {0};
    lors_view matrix = ops_copy_of(bench, g, 9, 8), vectors = ops_buffer_of(bench, 9, 8);
    lors_view scratch = ops_scratch(bench, bench->ops->eigen_bytes(3, 3));
    assert_ok(bench->ops->eigen(bench->queue, matrix, 3, 3, vectors, values, scratch));
    assert_true(isnan(values[0]) && isnan(values[2]));
    ops_clear(bench);
}

/* --- solutions and products of rows ----------------------------------------------------------- */

/* x (A + shift) must give b back, as far as the condition of the matrix lets it. */
static void check_solution(ops_bench *bench, int64_t n, int64_t rows, synth_kind kind)
{
    double *g = malloc((size_t)(n * n) * sizeof *g), *b = malloc((size_t)(rows * n) * sizeof *b);
    double shift = 0.01, size = 0;
    bool solved = false;
    fill_gram(g, n, kind);
    for (int64_t i = 0; i < rows * n; i++) {
        b[i] = sin((double)i + 1);
    }
    for (int64_t i = 0; i < n; i++) {
        size += g[i * n + i];
    }
    shift *= size > 0 ? size : 1;
    lors_view matrix = ops_copy_of(bench, g, n * n, 8), at = ops_copy_of(bench, b, rows * n, 8);
    lors_view scratch = ops_scratch(bench, bench->ops->solve_bytes(n, rows));
    assert_ok(bench->ops->solve(bench->queue, matrix, n, shift, at, rows, &solved, scratch));
    const double *x = ops_host(bench, at);
    assert_true(solved);
    for (int64_t i = 0; i < rows * n; i++) {
        double sum = shift * x[i];
        for (int64_t k = 0; k < n; k++) {
            sum += x[i / n * n + k] * g[k * n + i % n];
        }
        expect(fabs(sum - b[i]) <= 1e-11, "%s, %lld of %lld x %lld: %g", synth_kind_name(kind),
               (long long)i, (long long)rows, (long long)n, sum - b[i]);
    }
    free(g);
    free(b);
    ops_clear(bench);
}

static void solutions(ops_bench *bench)
{
    for (int kind = 0; kind < SYNTH_KIND_COUNT; kind++) {
        check_solution(bench, 1, 3, (synth_kind)kind);
        check_solution(bench, 27, 5, (synth_kind)kind);
        check_solution(bench, 14, 0, (synth_kind)kind);
    }
    check_solution(bench, bench->emulated ? 70 : 300, 33, SYNTH_GAUSS);
}

/* Neither indefinite nor made of what is no number: there x stays. */
static void what_is_not_definite_has_none(ops_bench *bench)
{
    static const double matrices[][4] = {{1, 2, 2, 1}, {-1, 0, 0, 1}, {0, 0, 0, 0},
                                         {NAN, 0, 0, 1}, {INFINITY, 1, 1, 2}};
    static const double b[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        bool solved = true;
        lors_view matrix = ops_copy_of(bench, matrices[i], 4, 8), x = ops_copy_of(bench, b, 4, 8);
        lors_view scratch = ops_scratch(bench, bench->ops->solve_bytes(2, 2));
        assert_ok(bench->ops->solve(bench->queue, matrix, 2, 0, x, 2, &solved, scratch));
        expect(!solved, "matrix %d", (int)i);
        assert_memory_equal(ops_host(bench, x), b, sizeof b);
        ops_clear(bench);
    }
}

static void rows_are_multiplied(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{1, 1}, {3, 0}, {0, 5}, {7, 300}, {300, 3}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (unsigned kind = 0; kind < 4; kind++) {
            int64_t rows = shapes[s][0], cols = shapes[s][1];
            lors_factor a = factor_of(bench, rows, cols, kind & 1, false, 6);
            lors_factor b = factor_of(bench, rows, cols, (kind & 2) != 0, false, 7);
            lors_view scratch = ops_scratch(bench, bench->ops->dot_rows_bytes(rows));
            const void *left = ops_host(bench, a.x), *right = ops_host(bench, b.x);
            double dots[300];
            assert_ok(bench->ops->dot_rows(bench->queue, &a, &b, rows, cols, dots, scratch));
            for (int64_t i = 0; i < rows; i++) {
                double sum = 0, size = 0;
                for (int64_t j = 0; j < cols; j++) {
                    double term = element(&a, left, i, j) * element(&b, right, i, j);
                    sum += term;
                    size += fabs(term);
                }
                expect(fabs(dots[i] - sum) <= 1e-13 * size, "row %lld: %g", (long long)i, dots[i]);
            }
            ops_clear(bench);
        }
    }
}

/* --- the reference ---------------------------------------------------------------------------- */

static const lors_backend_ops *honest;
static double planted; /* error of one element */

static lors_status wrong_multiply(lors_queue *queue, lors_view out, const lors_product *p)
{
    LORS_TRY(honest->multiply(queue, out, p));
    const double factor = 1 + planted;
    return honest->scale_rows(queue, out, 1, 1, 1, &factor);
}

static lors_status wrong_eigen(lors_queue *queue, lors_view matrix, int64_t n, int64_t count,
                               lors_view vectors, double *values, lors_view scratch)
{
    LORS_TRY(honest->eigen(queue, matrix, n, count, vectors, values, scratch));
    const double factor = 1 + planted;
    return honest->scale_rows(queue, vectors, 1, n, n, &factor);
}

static lors_status wrong_solve(lors_queue *queue, lors_view matrix, int64_t n, double shift,
                               lors_view x, int64_t rows, bool *solved, lors_view scratch)
{
    LORS_TRY(honest->solve(queue, matrix, n, shift, x, rows, solved, scratch));
    const double factor = 1 + planted;
    return honest->scale_rows(queue, x, 1, n, n, &factor);
}

static lors_status wrong_dot_rows(lors_queue *queue, const lors_factor *a, const lors_factor *b,
                                  int64_t rows, int64_t cols, double *dots, lors_view scratch)
{
    LORS_TRY(honest->dot_rows(queue, a, b, rows, cols, dots, scratch));
    dots[rows - 1] *= 1 + planted;
    return LORS_OK;
}

enum { ASK_PRODUCT, ASK_EIGEN, ASK_SOLUTION, ASK_DOTS, N_ASKED };

static lors_status ask(lors_queue *queue, lors_memory *memory, int what)
{
    const lors_backend_ops *reference = lors_reference_ops();
    double *x = reference->host_bytes((lors_view){memory, 0}), values[4];
    double *b = reference->host_bytes((lors_view){memory, 256});
    bool solved;
    for (int i = 0; i < 16; i++) {
        x[i] = i % 5 == 0 ? 4 : 1;
        b[i] = i;
    }
    lors_view at = {memory, 0}, out = {memory, 256}, scratch = {memory, 512};
    lors_factor factor = {.x = at, .wide = true, .ld = 4};
    lors_product p = {factor, factor, 4, 4, 4, 4, 1, 0, false, scratch};
    return what == ASK_EIGEN      ? reference->eigen(queue, at, 4, 4, out, values, scratch)
           : what == ASK_SOLUTION ? reference->solve(queue, at, 4, 1, out, 4, &solved, scratch)
           : what == ASK_DOTS ? reference->dot_rows(queue, &factor, &factor, 4, 4, values, scratch)
                              : reference->multiply(queue, out, &p);
}

static void the_reference_sees_errors(ops_bench *bench)
{
    const lors_backend_ops *reference = lors_reference_ops();
    lors_backend_ops wrong = *bench->ops;
    lors_backend *backend;
    lors_queue *queue;
    lors_memory *memory;
    honest = bench->ops;
    wrong.multiply = wrong_multiply;
    wrong.eigen = wrong_eigen;
    wrong.solve = wrong_solve;
    wrong.dot_rows = wrong_dot_rows;
    assert_ok(lors_reference_open(&wrong, bench->backend, &backend));
    assert_ok(reference->open_queue(backend, &queue));
    assert_ok(reference->allocate(
        backend, LORS_ON_DEVICE,
        512 + reference->eigen_bytes(4, 4) + reference->multiply_bytes(4, 4, 4) +
            reference->solve_bytes(4, 4),
        &memory));
    for (int what = 0; what < N_ASKED; what++) {
        planted = 0;
        assert_ok(ask(queue, memory, what));
        planted = what == ASK_EIGEN ? 1e-7 : 1e-8;
        assert_int_equal(ask(queue, memory, what), LORS_ERR_NUMERICS);
    }
    reference->release(backend, memory);
    reference->close_queue(queue);
    reference->close(backend);
}

/* What LAPACK and BLAS could not count is refused before anything is touched. */
static void what_is_too_long_is_refused(ops_bench *bench)
{
    const int64_t most = (int64_t)INT32_MAX + 1;
    double values[1];
    bool solved = true;
    if (strcmp(bench->ops->name, "cpu") != 0) {
        return;
    }
    for (int which = 0; which < 5; which++) {
        lors_product p = {.rows = 1, .cols = 1, .depth = 1, .ld = 1, .alpha = 1};
        int64_t *lengths[] = {&p.rows, &p.cols, &p.ld, &p.left.ld, &p.right.ld};
        p.left.ld = p.right.ld = 1;
        *lengths[which] = most;
        assert_int_equal(bench->ops->multiply(bench->queue, LORS_NO_VIEW, &p), LORS_ERR_LIMIT);
    }
    for (int which = 0; which < 2; which++) {
        int64_t n = which ? most : 32001;
        assert_int_equal(bench->ops->eigen(bench->queue, LORS_NO_VIEW, n, 1, LORS_NO_VIEW, values,
                                           LORS_NO_VIEW),
                         LORS_ERR_LIMIT);
        assert_int_equal(bench->ops->solve(bench->queue, LORS_NO_VIEW, which ? most : 1, 0,
                                           LORS_NO_VIEW, which ? 1 : most, &solved, LORS_NO_VIEW),
                         LORS_ERR_LIMIT);
        assert_false(solved);
        lors_rank rank = {1, 0, false};
        lors_certificate certificate;
        assert_int_equal(bench->ops->truncate_rank(bench->queue, LORS_NO_VIEW, LORS_NO_VIEW, 0, 1,
                                                   which ? most : 1, which ? 1 : most, &rank,
                                                   LORS_NO_VIEW, &certificate),
                         LORS_ERR_LIMIT);
    }
}

int main(void)
{
    static const ops_case cases[] = {
        {"products", products},
        {"symmetric_products", symmetric_products},
        {"rows_are_scaled", rows_are_scaled},
        {"eigenproblems", eigenproblems},
        {"not_a_number_has_none", not_a_number_has_none},
        {"solutions", solutions},
        {"what_is_not_definite_has_none", what_is_not_definite_has_none},
        {"rows_are_multiplied", rows_are_multiplied},
        {"the_reference_sees_errors", the_reference_sees_errors},
        {"what_is_too_long_is_refused", what_is_too_long_is_refused},
    };
    return ops_run("dense", cases, sizeof cases / sizeof *cases);
}

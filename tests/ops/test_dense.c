/* test_dense.c - products, scaled rows and eigenproblems in f64; and what the reference makes of a
 * device that is off. */
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

static lors_status ask(lors_queue *queue, lors_memory *memory, bool eigen)
{
    const lors_backend_ops *reference = lors_reference_ops();
    double *x = reference->host_bytes((lors_view){memory, 0}), values[4];
    for (int i = 0; i < 16; i++) {
        x[i] = i % 5 == 0 ? 4 : 1;
    }
    lors_view at = {memory, 0}, out = {memory, 256}, scratch = {memory, 512};
    lors_factor factor = {.x = at, .wide = true, .ld = 4};
    lors_product p = {factor, factor, 4, 4, 4, 4, 1, 0, false, scratch};
    return eigen ? reference->eigen(queue, at, 4, 4, out, values, scratch)
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
    assert_ok(lors_reference_open(&wrong, bench->backend, &backend));
    assert_ok(reference->open_queue(backend, &queue));
    assert_ok(reference->allocate(
        backend, LORS_ON_DEVICE,
        512 + reference->eigen_bytes(4, 4) + reference->multiply_bytes(4, 4, 4), &memory));
    for (int eigen = 0; eigen < 2; eigen++) {
        planted = 0;
        assert_ok(ask(queue, memory, eigen));
        planted = eigen ? 1e-7 : 1e-8;
        assert_int_equal(ask(queue, memory, eigen), LORS_ERR_NUMERICS);
    }
    reference->release(backend, memory);
    reference->close_queue(queue);
    reference->close(backend);
}

int main(void)
{
    static const ops_case cases[] = {
        {"products", products},
        {"symmetric_products", symmetric_products},
        {"rows_are_scaled", rows_are_scaled},
        {"eigenproblems", eigenproblems},
        {"not_a_number_has_none", not_a_number_has_none},
        {"the_reference_sees_errors", the_reference_sees_errors},
    };
    return ops_run("dense", cases, sizeof cases / sizeof *cases);
}

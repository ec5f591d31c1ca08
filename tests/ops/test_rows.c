/* test_rows.c - diverge and weigh_rows against long double; the k-th largest value, and masks by a
 * limit made of such. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops_oracle.h"
#include "synth.h"

/* --- diverge ---------------------------------------------------------------------------------- */

/* A row as long double probabilities. */
static void softmax(long double *out, const float *x, int64_t n)
{
    long double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        top = fmaxl(top, x[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        out[i] = expl(x[i] - top);
        sum += out[i];
    }
    for (int64_t i = 0; i < n; i++) {
        out[i] = out[i] / sum + (long double)LORS_SOFTMAX_FLOOR;
    }
}

/* Rounding of f64 is allowed on the terms that the divergence is what is left of. */
static void check_row(double got, const float *a, const float *b, int64_t n)
{
    long double *p = malloc((size_t)n * sizeof *p), *q = malloc((size_t)n * sizeof *q);
    long double wanted = 0, terms = 0;
    softmax(p, a, n);
    softmax(q, b, n);
    for (int64_t i = 0; i < n; i++) {
        wanted += p[i] * logl(p[i] / q[i]) - (p[i] - q[i]); /* their sums differ by rounding */
        terms += p[i] * fabsl(logl(p[i] / q[i]));
    }
    long double allowed = 4e-16L * terms + 1e-13L * wanted + 1e-18L; /* the last of the oracle's */
    expect(fabsl(got - wanted) <= allowed, "%lld columns: %a, not %La", (long long)n, got, wanted);
    free(p);
    free(q);
}

static void check_diverge(ops_bench *bench, int64_t n_rows, int64_t n_cols, double scale,
                          double change, uint64_t seed)
{
    int64_t n = n_rows * n_cols;
    float *a = malloc((size_t)n * sizeof *a + 1), *b = malloc((size_t)n * sizeof *b + 1);
    synth_values(b, n, scale, seed);
    synth_values(a, n, change, seed + 1000);
    for (int64_t i = 0; i < n; i++) {
        a[i] = i / n_cols % 3 == 2 ? b[i] : a[i] + b[i]; /* every third row has not changed */
    }
    lors_view out = ops_buffer_of(bench, n_rows, 8);
    assert_ok(bench->ops->diverge(bench->queue, out, ops_copy_of(bench, a, n, 4),
                                  ops_copy_of(bench, b, n, 4), n_rows, n_cols));
    const double *got = ops_host(bench, out);
    for (int64_t row = 0; row < n_rows; row++) {
        assert_true(row % 3 == 2 || n_cols == 1 ? got[row] == 0 : got[row] >= 0);
        check_row(got[row], a + row * n_cols, b + row * n_cols, n_cols);
    }
    ops_record(bench, got, (size_t)n_rows * 8);
    ops_clear(bench);
    free(a);
    free(b);
}

static void rows_of_weights(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{1, 1},   {7, 1},    {40, 3},  {5, 8},   {9, 17},
                                        {4, 511}, {3, 1025}, {1, 9001}, {0, 5}};
    static const double changes[] = {1e-2, 1e-4, 1e-6, 1};
    for (uint64_t i = 0; i < 36; i += bench->emulated ? 5 : 1) {
        check_diverge(bench, shapes[i % 9][0], shapes[i % 9][1], i % 2 ? 0.05 : 1,
                      changes[i / 9], i + 1);
    }
}

/* As logits they would overflow, and leave only the floor of all but one. */
static void large_values(ops_bench *bench)
{
    check_diverge(bench, 6, 40, 1e4, 1e3, 1);
    check_diverge(bench, 6, 40, 1e30, 1e30, 2);
    check_diverge(bench, 6, 40, 700, 1, 3);
}

static void what_is_no_number_shows(ops_bench *bench)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 6; i++) {
        float a[4 * 5] = {0}, b[4 * 5] = {0};
        (i < 3 ? a : b)[7] = bad[i % 3];
        lors_view out = ops_buffer_of(bench, 4, 8);
        assert_ok(bench->ops->diverge(bench->queue, out, ops_copy_of(bench, a, 20, 4),
                                      ops_copy_of(bench, b, 20, 4), 4, 5));
        const double *got = ops_host(bench, out);
        assert_true(i % 3 == 2 ? got[1] > 0 : isnan(got[1])); /* e^-inf is 0 */
        assert_true(got[0] == 0 && got[2] == 0 && got[3] == 0);
        ops_clear(bench);
    }
}

/* --- weigh_rows ------------------------------------------------------------------------------- */

static void weights_by_row(ops_bench *bench)
{
    enum { ROWS = 70, COLS = 13, N = ROWS * COLS };
    float a[N], b[N];
    double factors[ROWS];
    synth_values(a, N, 0.1, 5);
    synth_values(b, N, 0.1, 6);
    a[3] = INFINITY;
    a[COLS + 1] = NAN;
    for (int row = 0; row < ROWS; row++) {
        factors[row] = row == 5 ? NAN : row == 6 ? 1e60 : exp2(-row) * (row % 4);
    }
    lors_view out = ops_buffer_of(bench, N, 4);
    assert_ok(bench->ops->weigh_rows(bench->queue, out, ops_copy_of(bench, a, N, 4),
                                     ops_copy_of(bench, b, N, 4),
                                     ops_copy_of(bench, factors, ROWS, 8), ROWS, COLS));
    const float *got = ops_host(bench, out);
    for (int i = 0; i < N; i++) {
        double exact = factors[i / COLS] * fabs((double)a[i] - (double)b[i]);
        float wanted = isnan(exact) ? INFINITY : (float)exact;
        assert_true(got[i] == wanted && !signbit(got[i]));
    }
    assert_true(isinf(got[3]) && isinf(got[COLS + 1]) && isinf(got[5 * COLS]));
    ops_record(bench, got, sizeof a);
    ops_clear(bench);
}

/* --- values and limits ------------------------------------------------------------------------ */

enum { N_VALUES = 20011, N_SOUGHT = 5 };

static int by_magnitude(const void *left, const void *right)
{
    float a = fabsf(*(const float *)left), b = fabsf(*(const float *)right);
    return (a < b) - (a > b);
}

/* Several of the same values at once, the stride being 0. */
static void check_values(ops_bench *bench, const float *x, uint64_t total, const uint64_t *k)
{
    const lors_backend_ops *ops = bench->ops;
    uint64_t n_bytes = N_SOUGHT * ops->select_bytes(total), cut = total / 2 / LORS_BLOCK;
    lors_selection s = {ops_scratch(bench, n_bytes), total, N_SOUGHT};
    lors_view values = ops_copy_of(bench, x, (int64_t)total, 4);
    lors_view found = ops_buffer_of(bench, N_SOUGHT, 4);
    float *sorted = malloc((size_t)total * sizeof *sorted + 1);
    cut *= LORS_BLOCK;
    assert_ok(ops->select_begin(bench->queue, &s, k));
    for (int32_t pass = 0; pass < LORS_VALUE_PASSES; pass++) {
        assert_ok(ops->select_count(bench->queue, &s, pass, lors_view_at(values, cut * 4), 0, cut,
                                    (int64_t)(total - cut)));
        assert_ok(ops->select_count(bench->queue, &s, pass, values, 0, 0, (int64_t)cut));
        assert_ok(ops->select_settle(bench->queue, &s, pass));
    }
    assert_ok(ops->select_value(bench->queue, &s, found));
    const float *got = ops_host(bench, found);
    uint64_t n = 0;
    for (uint64_t i = 0; i < total; i++) {
        sorted[n] = x[i];
        n += isnan(x[i]) ? 0 : 1;
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_magnitude);
    for (int i = 0; i < N_SOUGHT; i++) {
        uint64_t rank = k[i] < n ? k[i] : n;
        float wanted = rank > 0 ? fabsf(sorted[rank - 1]) : 0;
        expect(got[i] == wanted && !signbit(got[i]), "the %llu-th of %llu: %a, not %a",
               (unsigned long long)k[i], (unsigned long long)total, got[i], wanted);
    }
    free(sorted);
    ops_clear(bench);
}

static void each_rank_has_its_value(ops_bench *bench)
{
    static const uint64_t many[] = {1, N_VALUES / 4, N_VALUES / 2, N_VALUES, 0};
    static const uint64_t few[] = {1, 2, 3, 4, 0};
    static const float three[] = {-2, 5, -1}, none[] = {NAN, NAN}, zeros[4] = {0, -0.0f, 0, 0};
    static const float infinite[] = {-INFINITY, 1, NAN, 3};
    float *x = malloc(N_VALUES * sizeof *x);
    synth_values(x, N_VALUES, 1, 7);
    check_values(bench, x, N_VALUES, many);
    synth_coarsen(x, N_VALUES, 2); /* ties */
    check_values(bench, x, N_VALUES, many);
    check_values(bench, three, 3, few);
    check_values(bench, none, 2, few);
    check_values(bench, zeros, 4, few);
    check_values(bench, infinite, 4, few);
    free(x);
}

static void masks_from_a_limit(ops_bench *bench)
{
    static const float found[][3] = {{1, 2, 4}, {0, 0, 0}, {INFINITY, INFINITY, INFINITY}};
    static const double factors[] = {-1.5, 1, 1.5}; /* 6.5, 0, no number */
    static const float x[] = {6, 6.5f, 7, 0, INFINITY, NAN, -1, 6.4999995f, 1e-40f};
    static const uint8_t wanted[][9] = {{0, 1, 1, 0, 1, 1, 0, 0, 0},
                                        {1, 1, 1, 1, 1, 1, 0, 1, 1},
                                        {1, 1, 1, 1, 1, 1, 1, 1, 1}};
    for (int i = 0; i < 3; i++) {
        lors_view mask = ops_buffer_of(bench, 9, 1);
        double given[3];
        memcpy(given, factors, sizeof given);
        assert_ok(bench->ops->keep_from(bench->queue, mask, ops_copy_of(bench, x, 9, 4),
                                        ops_copy_of(bench, found[i], 3, 4), given, 3, 9));
        memset(given, 0xff, sizeof given); /* taken over before the call returned */
        assert_memory_equal(ops_host(bench, mask), wanted[i], 9);
        ops_clear(bench);
    }
}

int main(void)
{
    static const ops_case cases[] = {
        {"diverge: rows of weights", rows_of_weights},
        {"diverge: large values", large_values},
        {"diverge: what is no number shows", what_is_no_number_shows},
        {"weigh_rows: by each row's factor", weights_by_row},
        {"select_value: each rank has its value", each_rank_has_its_value},
        {"keep_from: masks from a limit", masks_from_a_limit},
    };
    return ops_run("rows", cases, sizeof cases / sizeof *cases);
}

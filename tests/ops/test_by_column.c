/* test_by_column.c - each column by itself: gram_columns, accumulate_columns. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "synth.h"

static const int64_t shapes[][2] = {{1, 1}, {5, 0}, {0, 5}, {63, 7}, {64, 130}, {65, 8}, {200, 33}};

enum { N_SHAPES = sizeof shapes / sizeof *shapes, MAX_MODELS = 5 };

static float *made(int64_t n, uint64_t seed)
{
    float *x = malloc((size_t)n * sizeof *x + 1);
    synth_values(x, n, 0.02, seed);
    return x;
}

/* Row after row within a group: to the bit. */
static double wanted_dot(const float *a, const float *b, int64_t first, int64_t rows, int64_t cols)
{
    double sum = 0;
    for (int64_t row = first; row < rows && row < first + LORS_ROW_GROUP; row++) {
        sum += (double)a[row * cols] * (double)b[row * cols];
    }
    return sum;
}

static void products(ops_bench *bench)
{
    for (int i = 0; i < N_SHAPES * 3; i++) {
        int64_t rows = shapes[i % N_SHAPES][0], cols = shapes[i % N_SHAPES][1];
        int32_t n = i / N_SHAPES + 1;
        int64_t n_pairs = n * (n + 1) / 2, groups = (rows + LORS_ROW_GROUP - 1) / LORS_ROW_GROUP;
        int64_t stride = rows * cols + 3, all = (n - 1) * stride + rows * cols;
        float *x = made(all, (uint64_t)i + 1);
        lors_view at = ops_copy_of(bench, x, all, 4);
        lors_view dots = ops_buffer_of(bench, groups * n_pairs * cols, 8);
        assert_ok(bench->ops->gram_columns(bench->queue, dots, at, stride, n, rows, cols));
        const double *got = ops_host(bench, dots);
        ops_record(bench, got, (size_t)(groups * n_pairs * cols) * sizeof *got);
        for (int64_t group = 0; group < groups; group++) {
            for (int32_t a = 0; a < n; a++) {
                for (int32_t b = a; b < n; b++, got += cols) {
                    for (int64_t col = 0; col < cols; col++) {
                        double wanted = wanted_dot(x + a * stride + col, x + b * stride + col,
                                                   group * LORS_ROW_GROUP, rows, cols);
                        expect(got[col] == wanted, "%lld x %lld, group %lld, column %lld: %a",
                               (long long)rows, (long long)cols, (long long)group, (long long)col,
                               got[col]);
                    }
                }
            }
        }
        free(x);
        ops_clear(bench);
    }
}

/* The same bits as `accumulate` of one element with the weights of its column. */
static double wanted_sum(ops_bench *bench, const lors_column_sum *s, int64_t at)
{
    double weights[MAX_MODELS];
    for (int32_t k = 0; k < s->n_models; k++) {
        weights[k] = s->weights[k * s->n_cols + at % s->n_cols];
    }
    lors_sum one = {.stack = lors_view_at(s->stack, (uint64_t)at * sizeof(float)),
                    .base = s->base.memory ? lors_view_at(s->base, (uint64_t)at * sizeof(float))
                                           : LORS_NO_VIEW,
                    .stride = s->stride,
                    .n_models = s->n_models,
                    .weights = weights,
                    .scale = 1};
    lors_view out = ops_buffer_of(bench, 1, 8);
    assert_ok(bench->ops->accumulate(bench->queue, out, &one, 1));
    return *(const double *)ops_host(bench, out);
}

/* Some of the elements, all columns. */
static void check_sum(ops_bench *bench, int64_t rows, int64_t cols, int32_t n, bool based)
{
    int64_t stride = rows * cols + 5, all = (n - 1) * stride + rows * cols;
    float *x = made(all, (uint64_t)(rows + n)), *base = made(rows * cols, 3);
    double *weights = malloc((size_t)(n * cols) * sizeof *weights + 1);
    for (int64_t i = 0; i < n * cols; i++) {
        weights[i] = i % 4 == 1 ? 0 : sin((double)i);
    }
    if (rows * cols > 1) {
        x[1] = NAN; /* lost only where its weight is 0 */
    }
    lors_column_sum s = {.stack = ops_copy_of(bench, x, all, 4),
                         .base = based ? ops_copy_of(bench, base, rows * cols, 4) : LORS_NO_VIEW,
                         .stride = stride,
                         .n_models = n,
                         .weights = weights,
                         .n_rows = rows,
                         .n_cols = cols};
    lors_view acc = ops_buffer_of(bench, rows * cols, 8);
    assert_ok(bench->ops->accumulate_columns(bench->queue, acc, &s));
    double *got = malloc((size_t)(rows * cols) * sizeof *got + 1);
    memcpy(got, ops_host(bench, acc), (size_t)(rows * cols) * sizeof *got);
    ops_record(bench, got, (size_t)(rows * cols) * sizeof *got);
    for (int64_t i = 0; i < 12 && i < rows * cols; i++) {
        int64_t at = i < 4 ? i : i * 97 % (rows * cols);
        double wanted = wanted_sum(bench, &s, at);
        expect(got[at] == wanted || (isnan(got[at]) && isnan(wanted)), "%lld: %a, not %a",
               (long long)at, got[at], wanted);
    }
    free(x);
    free(base);
    free(weights);
    free(got);
    ops_clear(bench);
}

static void sums(ops_bench *bench)
{
    for (int i = 0; i < N_SHAPES * 3; i++) {
        static const int32_t counts[] = {1, 2, MAX_MODELS};
        check_sum(bench, shapes[i % N_SHAPES][0], shapes[i % N_SHAPES][1], counts[i / N_SHAPES],
                  i % 2);
    }
    check_sum(bench, 3, 300, 2, true); /* more columns than travel with a launch */
}

int main(void)
{
    static const ops_case cases[] = {
        {"gram_columns", products},
        {"accumulate_columns", sums},
    };
    return ops_run("by_column", cases, sizeof cases / sizeof *cases);
}

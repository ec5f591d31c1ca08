/* by_column.cu - products and sums of each column of a matrix by itself: a thread has a column. */
#include <math.h>

#include "backend/arithmetic.h"
#include "cuda/cuda_internal.h"

enum {
    THREADS = 128,
    WEIGHTS = 256 /* that travel with a launch */
};

/* --- Products --------------------------------------------------------------------------------- */

/* blockIdx.y: groups of rows, and in each the pairs of slices (i, j), i <= j. */
static __global__ void gram_kernel(double *dots, const float *x, int64_t stride, int32_t n_slices,
                                   int64_t n_rows, int64_t n_cols)
{
    int64_t n_pairs = (int64_t)n_slices * (n_slices + 1) / 2, step = (int64_t)gridDim.x * THREADS;
    int64_t n_items = n_pairs * ((n_rows + LORS_ROW_GROUP - 1) / LORS_ROW_GROUP);
    for (int64_t item = blockIdx.y; item < n_items; item += gridDim.y) {
        int64_t first = item / n_pairs * LORS_ROW_GROUP;
        int64_t end = first + LORS_ROW_GROUP < n_rows ? first + LORS_ROW_GROUP : n_rows;
        int32_t i = 0, j = (int32_t)(item % n_pairs);
        for (; j >= n_slices - i; i++) {
            j -= n_slices - i;
        }
        const float *a = x + i * stride, *b = x + (i + j) * stride;
        for (int64_t col = (int64_t)blockIdx.x * THREADS + threadIdx.x; col < n_cols; col += step) {
            double sum = 0;
            for (int64_t row = first; row < end; row++) {
                sum += (double)a[row * n_cols + col] * (double)b[row * n_cols + col];
            }
            dots[item * n_cols + col] = sum;
        }
    }
}

lors_status lors_cuda_gram_columns(lors_queue *queue, lors_view dots, lors_view x, int64_t stride,
                                   int32_t n_slices, int64_t n_rows, int64_t n_cols)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n_slices == 0 || n_rows == 0 || n_cols == 0) {
        return LORS_OK;
    }
    int64_t n_pairs = (int64_t)n_slices * (n_slices + 1) / 2;
    LORS_LAUNCH((gram_kernel),
                lors_grid(n_cols, THREADS, n_pairs * lors_ceil_div(n_rows, LORS_ROW_GROUP)),
                THREADS, queue->stream, lors_cuda_at<double>(dots), lors_cuda_at<const float>(x),
                stride, n_slices, n_rows, n_cols);
    return lors_cuda_launched("gram_columns");
}

/* --- Sums ------------------------------------------------------------------------------------- */

/* Columns first .. + n, whose weights are [n_models][n]. */
typedef struct column_args {
    double *acc;
    const float *stack, *base;
    int64_t stride, n_rows, n_cols, first, n;
    int32_t n_models;
    double weights[WEIGHTS];
} column_args;

static __global__ void accumulate_kernel(column_args s)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t row = blockIdx.y; row < s.n_rows; row += gridDim.y) {
        for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < s.n; i += step) {
            int64_t at = row * s.n_cols + s.first + i;
            double base = s.base ? (double)s.base[at] : 0, sum = -0.0, lost = 0;
            bool any = false;
            for (int32_t k = 0; k < s.n_models; k++) {
                double weight = s.weights[k * s.n + i];
                if (weight != 0) {
                    any = true;
                    lors_add_exactly(&sum, &lost,
                                     weight * ((double)s.stack[k * s.stride + at] - base));
                }
            }
            s.acc[at] = any ? lors_with_lost(sum, lost) : 0;
        }
    }
}

lors_status lors_cuda_accumulate_columns(lors_queue *queue, lors_view acc,
                                         const lors_column_sum *sum)
{
    LORS_TRY(lors_cuda_enter(queue));
    column_args s = {};
    s.acc = lors_cuda_at<double>(acc);
    s.stack = lors_cuda_at<const float>(sum->stack);
    s.base = lors_cuda_at<const float>(sum->base);
    s.stride = sum->stride;
    s.n_rows = sum->n_rows;
    s.n_cols = sum->n_cols;
    s.n_models = sum->n_models;
    int64_t most = sum->n_models > 0 ? WEIGHTS / sum->n_models : WEIGHTS;
    if (most == 0) {
        return lors_cuda_fail(LORS_ERR_LIMIT, "%d models are more than the %d that the cuda device "
                              "sums by columns: merge them with --device cpu",
                              sum->n_models, (int)WEIGHTS);
    }
    for (int64_t first = 0; first < sum->n_cols && sum->n_rows > 0; first += s.n) {
        s.first = first;
        s.n = sum->n_cols - first < most ? sum->n_cols - first : most;
        for (int64_t i = 0; i < s.n_models * s.n; i++) {
            s.weights[i] = sum->weights[i / s.n * sum->n_cols + first + i % s.n];
        }
        LORS_LAUNCH((accumulate_kernel), lors_grid(s.n, THREADS, s.n_rows), THREADS, queue->stream,
                    s);
        LORS_TRY(lors_cuda_launched("accumulate_columns"));
    }
    return LORS_OK;
}

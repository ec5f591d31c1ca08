/* rows.cu - `diverge`, `weigh_rows`: rows as distributions, by the formulas of backend/rows.h; and
 * `keep_from`, a mask by a limit that was found on the device. */
#include <math.h>

#include "backend/rows.h"
#include "cuda/cuda_internal.h"
#include "cuda/lane_sums.h"

enum { THREADS = LANE_THREADS };

/* --- How far rows lie apart ------------------------------------------------------------------- */

typedef struct row_space {
    lane_sums<1> sums;
    float largest[THREADS];
    double sum[1];
} row_space;

static __device__ float largest_of(row_space *space, const float *x, int64_t n)
{
    int thread = (int)threadIdx.x;
    float largest = -INFINITY;
    for (int64_t i = thread; i < n; i += THREADS) {
        largest = x[i] > largest ? x[i] : largest;
    }
    space->largest[thread] = largest;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (thread < half) {
            float other = space->largest[thread + half];
            space->largest[thread] = other > space->largest[thread] ? other
                                                                    : space->largest[thread];
        }
        __syncthreads();
    }
    largest = space->largest[0];
    __syncthreads();
    return largest;
}

static __device__ lors_softmax softmax_of(row_space *space, const float *x, int64_t n)
{
    double top = largest_of(space, x, n);
    sum_block<1>(
        &space->sums, 0, n,
        [=](double *term, int64_t i) { term[0] = lors_softmax_term(x[i], top); }, space->sum);
    lors_softmax softmax = {top, 1 / space->sum[0]};
    __syncthreads(); /* before the next sum */
    return softmax;
}

/* A thread block for each row. */
static __global__ void diverge_kernel(double *out, const float *a, const float *b, int64_t n_rows,
                                      int64_t n_cols)
{
    __shared__ row_space space;
    for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
        const float *left = a + row * n_cols, *right = b + row * n_cols;
        lors_softmax of_a = softmax_of(&space, left, n_cols);
        lors_softmax of_b = softmax_of(&space, right, n_cols);
        sum_block<1>(
            &space.sums, 0, n_cols,
            [=](double *term, int64_t i) {
                double p = lors_probability(lors_softmax_term(left[i], of_a.top), of_a);
                double q = lors_probability(lors_softmax_term(right[i], of_b.top), of_b);
                term[0] = lors_divergence_term(p, q);
            },
            space.sum);
        if (threadIdx.x == 0) {
            out[row] = lors_divergence_of(space.sum[0]);
        }
        __syncthreads();
    }
}

lors_status lors_cuda_diverge(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                              int64_t n_rows, int64_t n_cols)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n_rows == 0 || n_cols == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((diverge_kernel), lors_grid(n_rows, 1, 1), THREADS, queue->stream,
                lors_cuda_at<double>(out), lors_cuda_at<const float>(a),
                lors_cuda_at<const float>(b), n_rows, n_cols);
    return lors_cuda_launched("diverge");
}

/* --- Weights ---------------------------------------------------------------------------------- */

static __global__ void weigh_kernel(float *out, const float *a, const float *b,
                                    const double *factors, int64_t n_cols, int64_t n)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        out[i] = lors_weighed(a[i], b[i], factors[i / n_cols]);
    }
}

lors_status lors_cuda_weigh_rows(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                                 lors_view factors, int64_t n_rows, int64_t n_cols)
{
    LORS_TRY(lors_cuda_enter(queue));
    int64_t n = n_rows * n_cols;
    if (n == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((weigh_kernel), lors_grid(n, THREADS, 1), THREADS, queue->stream,
                lors_cuda_at<float>(out), lors_cuda_at<const float>(a),
                lors_cuda_at<const float>(b), lors_cuda_at<const double>(factors), n_cols, n);
    return lors_cuda_launched("weigh_rows");
}

/* --- Masks ------------------------------------------------------------------------------------ */

/* Passed by value: the launch takes the host's factors over. */
typedef struct limit_args {
    const float *values;
    double factors[LORS_MAX_FACTORS];
    int32_t n_values;
} limit_args;

static __global__ void keep_from_kernel(uint8_t *mask, const float *x, limit_args of, int64_t n)
{
    double limit = lors_limit_of(of.values, of.factors, of.n_values);
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        mask[i] = !((double)x[i] < limit);
    }
}

lors_status lors_cuda_keep_from(lors_queue *queue, lors_view mask, lors_view x, lors_view values,
                                const double *factors, int32_t n_values, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    limit_args of = {lors_cuda_at<const float>(values), {}, n_values};
    for (int32_t j = 0; j < n_values; j++) {
        of.factors[j] = factors[j];
    }
    LORS_LAUNCH((keep_from_kernel), lors_grid(n, THREADS, 1), THREADS, queue->stream,
                lors_cuda_at<uint8_t>(mask), lors_cuda_at<const float>(x), of, n);
    return lors_cuda_launched("keep_from");
}

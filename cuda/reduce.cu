/* reduce.cu - sums over blocks of LORS_BLOCK elements: products of slices, magnitudes, counts. */
#include <math.h>

#include "backend/arithmetic.h"
#include "cuda/cuda_internal.h"
#include "cuda/lane_sums.h"

enum {
    THREADS = LANE_THREADS,
    SUMS = 4            /* the most that are made of one element */
};

/* --- Dot products ----------------------------------------------------------------------------- */

/* blockIdx.y: pairs of slices (i, j), i <= j, as they lie in the result. */
static __global__ void gram_kernel(double *dots, const float *x, int64_t stride, int32_t n_slices,
                                   int64_t n)
{
    __shared__ lane_sums<1> sums;
    int32_t n_pairs = n_slices * (n_slices + 1) / 2;
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
    for (int32_t pair = (int32_t)blockIdx.y; pair < n_pairs; pair += (int32_t)gridDim.y) {
        int32_t i = 0, j = pair;
        for (; j >= n_slices - i; i++) {
            j -= n_slices - i;
        }
        const float *a = x + i * stride, *b = x + (i + j) * stride;
        for (int64_t block = blockIdx.x; block < n_blocks; block += gridDim.x) {
            int64_t first = block * LORS_BLOCK;
            int64_t end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
            sum_block<1>(
                &sums, first, end,
                [=](double *term, int64_t at) { term[0] = (double)a[at] * (double)b[at]; },
                dots + block * n_pairs + pair);
        }
    }
}

lors_status lors_cuda_gram(lors_queue *queue, lors_view dots, lors_view x, int64_t stride,
                           int32_t n_slices, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0 || n_slices == 0) {
        return LORS_OK;
    }
    int64_t n_pairs = (int64_t)n_slices * (n_slices + 1) / 2;
    LORS_LAUNCH((gram_kernel), lors_grid(n, LORS_BLOCK, n_pairs), THREADS, queue->stream,
                lors_cuda_at<double>(dots), lors_cuda_at<const float>(x), stride, n_slices, n);
    return lors_cuda_launched("gram");
}

/* --- Magnitudes ------------------------------------------------------------------------------- */

/* blockIdx.y: slices. */
static __global__ void measure_kernel(double *out, const float *x, const uint8_t *masks,
                                      int64_t stride, int32_t n_slices, int64_t n)
{
    __shared__ lane_sums<SUMS> sums;
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
    for (int32_t slice = (int32_t)blockIdx.y; slice < n_slices; slice += (int32_t)gridDim.y) {
        const float *values = x + slice * stride;
        const uint8_t *kept = masks ? masks + slice * stride : nullptr;
        for (int64_t block = blockIdx.x; block < n_blocks; block += gridDim.x) {
            int64_t first = block * LORS_BLOCK;
            int64_t end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
            sum_block<SUMS>(
                &sums, first, end,
                [=](double *terms, int64_t at) {
                    terms[0] = fabs((double)values[at]);
                    terms[1] = !kept || kept[at] ? terms[0] : 0;
                    terms[2] = terms[1] * terms[1];
                    terms[3] = terms[0] != 0;
                },
                out + (block * n_slices + slice) * SUMS);
        }
    }
}

lors_status lors_cuda_measure(lors_queue *queue, lors_view sums, lors_view x, lors_view masks,
                              int64_t stride, int32_t n_slices, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0 || n_slices == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((measure_kernel), lors_grid(n, LORS_BLOCK, n_slices), THREADS, queue->stream,
                lors_cuda_at<double>(sums), lors_cuda_at<const float>(x),
                lors_cuda_at<const uint8_t>(masks), stride, n_slices, n);
    return lors_cuda_launched("measure");
}

/* --- Counts ----------------------------------------------------------------------------------- */

static __device__ bool is_active(const float *x, const float *base, int64_t i, double limit)
{
    return !(fabs((double)x[i] - (base ? (double)base[i] : 0)) <= limit);
}

/* blockIdx.y: models. Whole numbers below 2^53: their sums are exact in any order. */
static __global__ void count_kernel(double *out, const float *stack, const float *base,
                                    int64_t stride, int32_t n_models, double limit, int64_t n)
{
    __shared__ lane_sums<2> sums;
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
    for (int32_t k = (int32_t)blockIdx.y; k < n_models; k += (int32_t)gridDim.y) {
        for (int64_t block = blockIdx.x; block < n_blocks; block += gridDim.x) {
            int64_t first = block * LORS_BLOCK;
            int64_t end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
            sum_block<2>(
                &sums, first, end,
                [=](double *terms, int64_t at) {
                    bool alone = is_active(stack + k * stride, base, at, limit);
                    terms[0] = alone;
                    for (int32_t j = 0; j < n_models && alone; j++) {
                        alone = j == k || !is_active(stack + j * stride, base, at, limit);
                    }
                    terms[1] = alone;
                },
                out + (block * n_models + k) * 2);
        }
    }
}

lors_status lors_cuda_count_active(lors_queue *queue, lors_view counts, const lors_columns *columns,
                                   int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0 || columns->n_models == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((count_kernel), lors_grid(n, LORS_BLOCK, columns->n_models), THREADS, queue->stream,
                lors_cuda_at<double>(counts), lors_cuda_at<const float>(columns->stack),
                lors_cuda_at<const float>(columns->base), columns->stride, columns->n_models,
                columns->limits[0], n);
    return lors_cuda_launched("count_active");
}

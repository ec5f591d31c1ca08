/* random.cu - random masks: mask_i = word(key, first + i) < probability * 2^32, a Philox word; the
 * probability is the same for all, or depends on the rank of a magnitude in its row. */
#include "backend/columns.h"
#include "cuda/cuda_internal.h"

enum {
    THREADS = 256,
    GROUP = 4        /* elements of a stream that share one counter: a thread's work */
};

typedef struct alignas(GROUP) mask_group {
    uint8_t at[GROUP];
} mask_group;

/* Group g of the stream holds its elements 4g .. 4g + 3; those from `first` to `end` are wanted. */
static __global__ void keep_random_kernel(uint8_t *mask, uint64_t key, uint64_t limit,
                                          uint64_t first, int64_t n)
{
    uint64_t end = first + (uint64_t)n, step = (uint64_t)gridDim.x * blockDim.x;
    uint64_t thread = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    bool aligned = (reinterpret_cast<uintptr_t>(mask) - first) % GROUP == 0;
    for (uint64_t group = first / GROUP + thread; group < (end + GROUP - 1) / GROUP;
         group += step) {
        uint64_t index = group * GROUP;
        mask_group kept;
        for (uint64_t j = 0; j < GROUP; j++) {
            kept.at[j] = lors_random_keep(key, index | j, limit);
        }
        if (aligned && index >= first && index + GROUP <= end) {
            *reinterpret_cast<mask_group *>(mask + (index - first)) = kept;
            continue;
        }
        for (uint64_t j = 0; j < GROUP; j++) {
            if (index + j >= first && index + j < end) {
                mask[index + j - first] = kept.at[j];
            }
        }
    }
}

lors_status lors_cuda_keep_random(lors_queue *queue, lors_view mask, uint64_t key, double density,
                                  uint64_t first, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    int64_t n_groups = lors_ceil_div((int64_t)(first % GROUP) + n, GROUP);
    dim3 grid = lors_grid(n_groups, THREADS, 1);
    LORS_LAUNCH((keep_random_kernel), grid, THREADS, queue->stream, lors_cuda_at<uint8_t>(mask),
                key, lors_random_limit(density), first, n);
    return lors_cuda_launched("keep_random");
}

/* --- by rank ---------------------------------------------------------------------------------- */

uint64_t lors_cuda_rank_bytes(int64_t n_rows, int64_t n_cols)
{
    return (uint64_t)n_rows * (uint64_t)n_cols * sizeof(uint32_t);
}

/* One thread block a row: its keys pass through shared memory, and every thread counts those below
 * its own elements. Rows are some thousands of elements: that is less than sorting would move. */
static __global__ void rank_kernel(uint32_t *ranks, const float *x, int64_t n_rows, int64_t n_cols)
{
    __shared__ uint32_t keys[THREADS];
    for (int64_t row = blockIdx.x; row < n_rows; row += gridDim.x) {
        const float *values = x + row * n_cols;
        for (int64_t begin = 0; begin < n_cols; begin += THREADS) {
            int64_t i = begin + threadIdx.x;
            uint32_t rank = 0, own = i < n_cols ? lors_key_of(values[i]) : 0;
            for (int64_t tile = 0; tile < n_cols; tile += THREADS) {
                int64_t at = tile + threadIdx.x;
                keys[threadIdx.x] = at < n_cols ? lors_key_of(values[at]) : UINT32_MAX;
                __syncthreads();
                for (int64_t j = 0; j < THREADS; j++) {
                    rank += keys[j] < own || (keys[j] == own && tile + j < i);
                }
                __syncthreads();
            }
            if (i < n_cols) {
                ranks[row * n_cols + i] = rank;
            }
        }
    }
}

static __global__ void keep_ranked_kernel(uint8_t *mask, float *x, const uint32_t *ranks,
                                          lors_ranking ranking, uint64_t first, int64_t n_cols,
                                          int64_t n)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        double p = lors_ranked_probability(&ranking, ranks[i], n_cols);
        bool kept = lors_random_keep(ranking.key, first + (uint64_t)i, lors_random_limit(p));
        mask[i] = kept;
        if (kept && ranking.divide) {
            x[i] = (float)((double)x[i] / p);
        }
    }
}

lors_status lors_cuda_keep_ranked(lors_queue *queue, lors_view mask, lors_view x,
                                  const lors_ranking *ranking, uint64_t first, int64_t n_rows,
                                  int64_t n_cols, lors_view scratch)
{
    LORS_TRY(lors_cuda_enter(queue));
    int64_t n = n_rows * n_cols;
    if (n == 0) {
        return LORS_OK;
    }
    uint32_t *ranks = lors_cuda_at<uint32_t>(scratch);
    LORS_LAUNCH((rank_kernel), lors_grid(n_rows, 1, 1), THREADS, queue->stream, ranks,
                lors_cuda_at<const float>(x), n_rows, n_cols);
    LORS_TRY(lors_cuda_launched("keep_ranked: ranks"));
    LORS_LAUNCH((keep_ranked_kernel), lors_grid(n, THREADS, 1), THREADS, queue->stream,
                lors_cuda_at<uint8_t>(mask), lors_cuda_at<float>(x), ranks, *ranking, first, n_cols,
                n);
    return lors_cuda_launched("keep_ranked");
}

/* random.cu - random masks: mask_i = word(key, first + i) < density * 2^32, a Philox word. */
#include "backend/arithmetic.h"
#include "cuda/cuda_internal.h"

enum {
    THREADS = 256,
    MAX_GRID = 4096, /* thread blocks of a launch: some waves of any card; the rest by strides */
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
    int64_t n_blocks = lors_ceil_div(n_groups, THREADS);
    dim3 grid((unsigned)(n_blocks < MAX_GRID ? n_blocks : (int64_t)MAX_GRID));
    LORS_LAUNCH((keep_random_kernel), grid, THREADS, queue->stream, lors_cuda_at<uint8_t>(mask),
                key, lors_random_limit(density), first, n);
    return lors_cuda_launched("keep_random");
}

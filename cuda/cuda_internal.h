/* cuda_internal.h - what the files of the CUDA backend share: memory, queues, and the check of
 * every call. */
#ifndef LORS_CUDA_CUDA_INTERNAL_H
#define LORS_CUDA_CUDA_INTERNAL_H

#include <cuda_runtime.h>
#include <cusolverDn.h>

#include "backend/backend_ops.h"
#include "cuda/launch.h"

struct lors_memory {
    unsigned char *bytes; /* in the device's address space, or the host's where it is staging */
    uint64_t n_bytes;
    lors_memory_kind place;
};

struct lors_backend {
    int32_t device;
};

struct lors_queue {
    lors_backend *backend;
    cudaStream_t stream;
    cusolverDnHandle_t solver;   /* on the stream, deterministic */
    cusolverDnParams_t params;
    unsigned char *pinned;       /* LORS_CUDA_PINNED bytes of host memory for small results */
};

enum { LORS_CUDA_PINNED = 64 << 10 };

/* Store a sentence where the program looks for it; returns `status`. */
extern const lors_backend_host *lors_cuda_host;
#define lors_cuda_fail(...) (lors_cuda_host->fail(__VA_ARGS__))

/* A call of the runtime or cuSOLVER that failed: ERR_DEVICE with `call`, the library's name
 * of the error and what may mend it. LORS_OK where it did not fail. */
lors_status lors_cuda_check(cudaError_t error, const char *call);
lors_status lors_cuda_check_solver(cusolverStatus_t status, const char *call);
/* A problem that the library will not take, rather than a device that does not work: that shows in
 * the next call, whatever is done here. */
static inline bool lors_cuda_solver_refuses(cusolverStatus_t status)
{
    return status == CUSOLVER_STATUS_INVALID_VALUE || status == CUSOLVER_STATUS_NOT_SUPPORTED;
}

#define LORS_TRY(call)                                \
    do {                                              \
        lors_status lors_try_status = (call);         \
        if (lors_try_status != LORS_OK) {             \
            return lors_try_status;                   \
        }                                             \
    } while (0)
#define LORS_CUDA_TRY(call) LORS_TRY(lors_cuda_check((call), #call))
#define LORS_SOLVER_TRY(call) LORS_TRY(lors_cuda_check_solver((call), #call))

/* Make the queue's device current in this thread. Every operation begins with it. */
lors_status lors_cuda_enter(const lors_queue *queue);
/* The error of a launch, if any; `kernel` for the sentence. */
lors_status lors_cuda_launched(const char *kernel);

/* The address of a view, as a pointer to T; NULL where it is absent. */
template <typename T> static inline T *lors_cuda_at(lors_view view)
{
    return view.memory ? reinterpret_cast<T *>(view.memory->bytes + view.offset) : nullptr;
}

static inline int64_t lors_ceil_div(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

enum {
    LORS_MAX_GRID = 4096, /* thread blocks along x: some waves of any card; the rest by strides */
    LORS_MAX_GRID_Y = 65535, /* along y: the most that a launch takes; more than models or slices */
};

/* The thread blocks of a launch over so many items, for each of `n_along_y`. */
static inline dim3 lors_grid(int64_t n_items, int64_t n_per_block, int64_t n_along_y)
{
    int64_t n = lors_ceil_div(n_items, n_per_block);
    return dim3((unsigned)(n < LORS_MAX_GRID ? n : (int64_t)LORS_MAX_GRID),
                (unsigned)(n_along_y < LORS_MAX_GRID_Y ? n_along_y : (int64_t)LORS_MAX_GRID_Y));
}

/* convert.cu */
lors_status lors_cuda_load(lors_queue *queue, lors_view out, lors_view in, lors_dtype dtype,
                           int64_t n, bool zero_nonfinite, uint64_t first, lors_view findings);
lors_status lors_cuda_store(lors_queue *queue, lors_view out, const lors_store *store, int64_t n);

/* sums.cu */
lors_status lors_cuda_subtract(lors_queue *queue, lors_view out, lors_view a, int64_t stride,
                               lors_view b, int64_t stride_b, int32_t n_slices, int64_t n);
lors_status lors_cuda_choose(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                             lors_view mask, int64_t n);
lors_status lors_cuda_compare(lors_queue *queue, lors_view differs, lors_view a, lors_view b,
                              int64_t n);
lors_status lors_cuda_accumulate(lors_queue *queue, lors_view acc, const lors_sum *sum, int64_t n);
lors_status lors_cuda_elect_sign(lors_queue *queue, lors_view signs, const lors_sum *sum,
                                 int64_t n);

/* reduce.cu */
lors_status lors_cuda_gram(lors_queue *queue, lors_view dots, lors_view x, int64_t stride,
                           int32_t n_slices, int64_t n);
lors_status lors_cuda_measure(lors_queue *queue, lors_view sums, lors_view x, lors_view masks,
                              int64_t stride, int32_t n_slices, int64_t n);
lors_status lors_cuda_count_active(lors_queue *queue, lors_view counts, const lors_columns *columns,
                                   int64_t n);

/* by_column.cu */
lors_status lors_cuda_gram_columns(lors_queue *queue, lors_view dots, lors_view x, int64_t stride,
                                   int32_t n_slices, int64_t n_rows, int64_t n_cols);
lors_status lors_cuda_accumulate_columns(lors_queue *queue, lors_view acc,
                                         const lors_column_sum *sum);

/* combine.cu */
lors_status lors_cuda_combine(lors_queue *queue, lors_view out, const lors_columns *columns,
                              int64_t n);

/* select.cu */
uint64_t lors_cuda_select_bytes(uint64_t total);
lors_status lors_cuda_select_begin(lors_queue *queue, const lors_selection *s, const uint64_t *k);
lors_status lors_cuda_select_count(lors_queue *queue, const lors_selection *s, int32_t pass,
                                   lors_view x, int64_t stride, uint64_t first, int64_t n);
lors_status lors_cuda_select_settle(lors_queue *queue, const lors_selection *s, int32_t pass);
lors_status lors_cuda_keep_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                               lors_view x, int64_t stride, uint64_t first, int64_t n);
lors_status lors_cuda_drop_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                               lors_view x, int64_t stride, uint64_t first, int64_t n);
lors_status lors_cuda_select_kept(lors_queue *queue, const lors_selection *s, lors_view kept);
lors_status lors_cuda_select_value(lors_queue *queue, const lors_selection *s, lors_view value);

/* rows.cu */
lors_status lors_cuda_keep_from(lors_queue *queue, lors_view mask, lors_view x, lors_view values,
                                const double *factors, int32_t n_values, int64_t n);
lors_status lors_cuda_diverge(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                              int64_t n_rows, int64_t n_cols);
lors_status lors_cuda_weigh_rows(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                                 lors_view factors, int64_t n_rows, int64_t n_cols);

/* contest.cu */
lors_status lors_cuda_score(lors_queue *queue, lors_view out, const lors_contest *contest,
                            int64_t n);
lors_status lors_cuda_balance(lors_queue *queue, lors_view acc, const lors_contest *contest,
                              int64_t n);

/* random.cu */
lors_status lors_cuda_keep_random(lors_queue *queue, lors_view mask, uint64_t key, double density,
                                  uint64_t first, int64_t n);
uint64_t lors_cuda_rank_bytes(int64_t n_rows, int64_t n_cols);
lors_status lors_cuda_keep_ranked(lors_queue *queue, lors_view mask, lors_view x,
                                  const lors_ranking *ranking, uint64_t first, int64_t n_rows,
                                  int64_t n_cols, lors_view scratch);

/* low_rank.cu */
uint64_t lors_cuda_truncate_bytes(int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                  lors_rank rank);
lors_status lors_cuda_truncate_rank(lors_queue *queue, lors_view low, lors_view x, int64_t stride,
                                    int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                    const lors_rank *ranks, lors_view scratch,
                                    lors_certificate *certificates);

/* dense.cu */
uint64_t lors_cuda_multiply_bytes(int64_t rows, int64_t cols, int64_t depth);
lors_status lors_cuda_multiply(lors_queue *queue, lors_view out, const lors_product *p);
lors_status lors_cuda_scale_rows(lors_queue *queue, lors_view x, int64_t rows, int64_t cols,
                                 int64_t ld, const double *factors);
uint64_t lors_cuda_dot_rows_bytes(int64_t rows);
lors_status lors_cuda_dot_rows(lors_queue *queue, const lors_factor *a, const lors_factor *b,
                               int64_t rows, int64_t cols, double *dots, lors_view scratch);

/* eigen.cu */
uint64_t lors_cuda_eigen_bytes(int64_t n, int64_t count);
lors_status lors_cuda_eigen(lors_queue *queue, lors_view matrix, int64_t n, int64_t count,
                            lors_view vectors, double *values, lors_view scratch);

/* solve.cu */
uint64_t lors_cuda_solve_bytes(int64_t n, int64_t rows);
lors_status lors_cuda_solve(lors_queue *queue, lors_view matrix, int64_t n, double shift,
                            lors_view x, int64_t rows, bool *solved, lors_view scratch);

#endif

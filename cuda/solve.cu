/* solve.cu - x (A + shift)^-1 of a symmetric positive definite matrix in f64, by a Cholesky factor.
 *
 * cuSOLVER makes the factor (Xpotrf), and solves by it (Xpotrs). Where it finds none, or will not
 * take the problem, there is no answer, which the caller has another way for.
 */
#include <math.h>

#include "cuda/low_rank_device.h"

typedef struct problem {
    lors_queue *queue;
    int64_t n, rows;
    double *matrix, *x, *trace;
    int32_t *info;
    unsigned char *reserved;
    uint64_t reserved_bytes;
    lors_solver_space space;
} problem;

static uint64_t lay_out(problem *p, unsigned char *base)
{
    uint64_t at = 0;
    p->trace = lors_cuda_carve<double>(base, &at, 1);
    p->info = lors_cuda_carve<int32_t>(base, &at, 1);
    p->reserved_bytes = (uint64_t)(128 * p->n + (1 << 20)) * sizeof(double);
    p->reserved = lors_cuda_carve<unsigned char>(base, &at, (int64_t)p->reserved_bytes);
    return at;
}

uint64_t lors_cuda_solve_bytes(int64_t n, int64_t rows)
{
    problem p = {};
    p.n = n;
    p.rows = rows;
    return lay_out(&p, nullptr);
}

static __global__ void __launch_bounds__(LORS_THREADS)
    shift_kernel(double *trace, double *matrix, int64_t n, double shift)
{
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += LORS_THREADS) {
        double value = matrix[i * n + i] + shift;
        matrix[i * n + i] = value;
        sum += value;
    }
    sum = lors_block_sum(sum);
    if (threadIdx.x == 0) {
        *trace = sum;
    }
}

static lors_status factorise(problem *p, bool *done)
{
    size_t on_device = 0, on_host = 0;
    int32_t info = -1;
    lors_queue *queue = p->queue;
    cusolverStatus_t status = cusolverDnXpotrf_bufferSize(
        queue->solver, queue->params, CUBLAS_FILL_MODE_LOWER, p->n, CUDA_R_64F, p->matrix, p->n,
        CUDA_R_64F, &on_device, &on_host);
    if (lors_cuda_solver_refuses(status)) {
        return LORS_OK;
    }
    LORS_TRY(lors_cuda_check_solver(status, "cusolverDnXpotrf_bufferSize"));
    p->space.reserved = p->reserved;
    p->space.reserved_bytes = p->reserved_bytes;
    LORS_TRY(lors_cuda_grow_space(queue, &p->space, on_device, on_host));
    status = cusolverDnXpotrf(queue->solver, queue->params, CUBLAS_FILL_MODE_LOWER, p->n,
                              CUDA_R_64F, p->matrix, p->n, CUDA_R_64F, p->space.device, on_device,
                              p->space.host, on_host, p->info);
    if (lors_cuda_solver_refuses(status)) {
        return LORS_OK;
    }
    LORS_TRY(lors_cuda_check_solver(status, "cusolverDnXpotrf"));
    LORS_TRY(lors_cuda_fetch(queue, &info, p->info, sizeof info));
    *done = info == 0;
    return LORS_OK;
}

/* In column-major words x A = b is A x' = b'. */
static lors_status solve(problem *p, double shift, bool *solved)
{
    double trace = 0;
    int32_t info = -1;
    lors_queue *queue = p->queue;
    LORS_LAUNCH((shift_kernel), 1, LORS_THREADS, queue->stream, p->trace, p->matrix, p->n, shift);
    LORS_TRY(lors_cuda_launched("solve, shift"));
    LORS_TRY(lors_cuda_fetch(queue, &trace, p->trace, sizeof trace));
    if (isfinite(trace)) {
        LORS_TRY(factorise(p, solved));
    }
    if (!*solved || p->rows == 0) {
        return LORS_OK;
    }
    cusolverStatus_t status = cusolverDnXpotrs(queue->solver, queue->params,
                                               CUBLAS_FILL_MODE_LOWER, p->n, p->rows, CUDA_R_64F,
                                               p->matrix, p->n, CUDA_R_64F, p->x, p->n, p->info);
    if (lors_cuda_solver_refuses(status)) {
        *solved = false;
        return LORS_OK;
    }
    LORS_TRY(lors_cuda_check_solver(status, "cusolverDnXpotrs"));
    LORS_TRY(lors_cuda_fetch(queue, &info, p->info, sizeof info));
    return info == 0 ? LORS_OK
                     : lors_cuda_fail(LORS_ERR_DEVICE, "cusolverDnXpotrs refuses its argument %d",
                                      (int)-info);
}

lors_status lors_cuda_solve(lors_queue *queue, lors_view matrix, int64_t n, double shift,
                            lors_view x, int64_t rows, bool *solved, lors_view scratch)
{
    LORS_TRY(lors_cuda_enter(queue));
    *solved = n == 0;
    if (n == 0) {
        return LORS_OK;
    }
    problem p = {};
    p.queue = queue;
    p.n = n;
    p.rows = rows;
    p.matrix = lors_cuda_at<double>(matrix);
    p.x = lors_cuda_at<double>(x);
    lay_out(&p, lors_cuda_at<unsigned char>(scratch));
    return lors_cuda_close_space(queue, &p.space, solve(&p, shift, solved));
}

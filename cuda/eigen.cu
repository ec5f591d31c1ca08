/* eigen.cu - eigenvalues and eigenvectors of a symmetric matrix in f64.
 *
 * cuSOLVER is asked first (Xsyevd); its values must be in order and sum up to the trace. Where they
 * do not, or it will not take the problem, one-sided Jacobi solves it without any library.
 */
#include <math.h>
#include <stdlib.h>

#include "cuda/low_rank_device.h"

static constexpr double slack = 1e-9; /* of the sum of the values, in shares of the trace */

typedef struct eigenproblem {
    lors_queue *queue;
    int64_t n, count;
    double *matrix, *vectors; /* given; in cuSOLVER's hands the matrix becomes its eigenvectors */
    double *copy;             /* of the matrix, for Jacobi */
    double *values;           /* [n] */
    double *trace;
    int32_t *info;
    unsigned char *reserved; /* the library's work space, or Jacobi's rotations */
    uint64_t reserved_bytes;
    lors_solver_space space;
    double *host; /* [n] */
} eigenproblem;

static uint64_t lay_out(eigenproblem *e, unsigned char *base)
{
    uint64_t at = 0;
    int64_t n = e->n;
    e->copy = lors_cuda_carve<double>(base, &at, n * n);
    e->values = lors_cuda_carve<double>(base, &at, n);
    e->trace = lors_cuda_carve<double>(base, &at, 1);
    e->info = lors_cuda_carve<int32_t>(base, &at, 1);
    e->reserved_bytes = (uint64_t)(2 * n * n + 64 * n + (128 << 10)) * sizeof(double);
    e->reserved = lors_cuda_carve<unsigned char>(base, &at, (int64_t)e->reserved_bytes);
    return at;
}

uint64_t lors_cuda_eigen_bytes(int64_t n, int64_t count)
{
    eigenproblem e = {};
    e.n = n;
    e.count = count;
    return lay_out(&e, nullptr);
}

static __global__ void __launch_bounds__(LORS_THREADS)
    trace_kernel(double *trace, const double *matrix, int64_t n)
{
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += LORS_THREADS) {
        sum += matrix[i * n + i];
    }
    sum = lors_block_sum(sum);
    if (threadIdx.x == 0) {
        *trace = sum;
    }
}

static lors_status copy_doubles(const eigenproblem *e, double *to, const double *from, int64_t n)
{
    LORS_CUDA_TRY(cudaMemcpyAsync(to, from, (size_t)n * sizeof *to, cudaMemcpyDeviceToDevice,
                                  e->queue->stream));
    return LORS_OK;
}

static lors_status fetch_values(eigenproblem *e)
{
    return lors_cuda_fetch(e->queue, e->host, e->values, (uint64_t)e->n * sizeof *e->host);
}

static bool values_are_sound(const eigenproblem *e, double trace)
{
    double sum = 0;
    bool sound = true;
    for (int64_t i = 0; i < e->n; i++) {
        sum += e->host[i];
        sound = sound && (i == 0 || e->host[i] >= e->host[i - 1]);
    }
    return sound && fabs(sum - trace) <= slack * fabs(trace);
}

static lors_status solve_by_library(eigenproblem *e, double trace, bool *answered)
{
    size_t on_device = 0, on_host = 0;
    int32_t info = -1;
    int64_t n = e->n;
    lors_queue *queue = e->queue;
    cusolverStatus_t status = cusolverDnXsyevd_bufferSize(
        queue->solver, queue->params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n,
        CUDA_R_64F, e->matrix, n, CUDA_R_64F, e->values, CUDA_R_64F, &on_device, &on_host);
    if (lors_cuda_solver_refuses(status)) {
        return LORS_OK;
    }
    LORS_TRY(lors_cuda_check_solver(status, "cusolverDnXsyevd_bufferSize"));
    e->space.reserved = e->reserved;
    e->space.reserved_bytes = e->reserved_bytes;
    LORS_TRY(lors_cuda_grow_space(queue, &e->space, on_device, on_host));
    status =
        cusolverDnXsyevd(queue->solver, queue->params, CUSOLVER_EIG_MODE_VECTOR,
                         CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, e->matrix, n, CUDA_R_64F, e->values,
                         CUDA_R_64F, e->space.device, on_device, e->space.host, on_host, e->info);
    if (lors_cuda_solver_refuses(status)) {
        return LORS_OK;
    }
    LORS_TRY(lors_cuda_check_solver(status, "cusolverDnXsyevd"));
    LORS_TRY(lors_cuda_fetch(queue, &info, e->info, sizeof info));
    if (info == 0) {
        LORS_TRY(fetch_values(e));
        *answered = values_are_sound(e, trace);
    }
    /* Column-major columns are rows. */
    return *answered ? copy_doubles(e, e->vectors, e->matrix + (n - e->count) * n, e->count * n)
                     : LORS_OK;
}

typedef struct ranked {
    double value;
    int64_t column;
} ranked;

/* Ascending; equal ones in the order of their columns. */
static int compare_ranked(const void *left, const void *right)
{
    const ranked *a = static_cast<const ranked *>(left), *b = static_cast<const ranked *>(right);
    if (a->value != b->value) {
        return a->value < b->value ? -1 : 1;
    }
    return a->column < b->column ? -1 : a->column > b->column;
}

/* The columns of the rotations, by their values, which are the roots of the columns' norms. */
static lors_status take_rotations(eigenproblem *e, const double *rotations, ranked *places)
{
    LORS_TRY(fetch_values(e));
    for (int64_t i = 0; i < e->n; i++) {
        places[i].value = sqrt(e->host[i]);
        places[i].column = i;
    }
    qsort(places, (size_t)e->n, sizeof *places, compare_ranked);
    for (int64_t i = 0; i < e->n; i++) {
        e->host[i] = places[i].value;
    }
    for (int64_t i = 0; i < e->count; i++) {
        LORS_TRY(copy_doubles(e, e->vectors + i * e->n,
                              rotations + places[e->n - e->count + i].column * e->n, e->n));
    }
    return LORS_OK;
}

static lors_status out_of_memory(void)
{
    return lors_cuda_fail(LORS_ERR_LIMIT, "out of memory for the eigenvalues of a matrix");
}

static lors_status solve_by_jacobi(eigenproblem *e, double trace, bool *answered)
{
    double *rotations = reinterpret_cast<double *>(e->reserved);
    LORS_TRY(lors_cuda_jacobi(e->queue, e->copy, rotations, e->values,
                              reinterpret_cast<uint32_t *>(e->info), e->n, e->n, trace, answered));
    ranked *places = static_cast<ranked *>(malloc((size_t)e->n * sizeof *places));
    lors_status status = places ? take_rotations(e, rotations, places) : out_of_memory();
    free(places);
    *answered = *answered && status == LORS_OK && values_are_sound(e, trace);
    return status;
}

static lors_status solve(eigenproblem *e, double *values)
{
    double trace = 0;
    bool answered = false;
    LORS_LAUNCH((trace_kernel), 1, LORS_THREADS, e->queue->stream, e->trace, e->matrix, e->n);
    LORS_TRY(lors_cuda_launched("eigen, trace"));
    LORS_TRY(copy_doubles(e, e->copy, e->matrix, e->n * e->n));
    LORS_TRY(lors_cuda_fetch(e->queue, &trace, e->trace, sizeof trace));
    if (!isfinite(trace)) {
        return LORS_OK;
    }
    LORS_TRY(solve_by_library(e, trace, &answered));
    if (!answered) {
        LORS_TRY(solve_by_jacobi(e, trace, &answered));
    }
    if (!answered) {
        return lors_cuda_fail(LORS_ERR_NUMERICS, "the eigenvalue solver did not converge");
    }
    for (int64_t i = 0; i < e->count; i++) {
        values[i] = e->host[e->n - e->count + i];
    }
    return LORS_OK;
}

lors_status lors_cuda_eigen(lors_queue *queue, lors_view matrix, int64_t n, int64_t count,
                            lors_view vectors, double *values, lors_view scratch)
{
    LORS_TRY(lors_cuda_enter(queue));
    for (int64_t i = 0; i < count; i++) {
        values[i] = NAN;
    }
    if (count == 0) {
        return LORS_OK;
    }
    eigenproblem e = {};
    e.queue = queue;
    e.n = n;
    e.count = count;
    e.matrix = lors_cuda_at<double>(matrix);
    e.vectors = lors_cuda_at<double>(vectors);
    lay_out(&e, lors_cuda_at<unsigned char>(scratch));
    e.host = static_cast<double *>(malloc((size_t)n * sizeof *e.host));
    lors_status status = e.host ? solve(&e, values) : out_of_memory();
    free(e.host);
    return lors_cuda_close_space(queue, &e.space, status);
}

/* low_rank.cu - nearest matrices of rank r: norms, the choice of the way for each matrix, and the
 * certificate.
 *
 * For A (the matrix, or its transpose where it is wide): result = (A V) V' in f64, rounded once to
 * f32. V comes from block Lanczos (low_rank_krylov.cu) where the rank is small and its certificate
 * is good, all such matrices of a rank together; otherwise from the Gram matrix or, where `exact`
 * asks for it, the singular value decomposition in f64 (low_rank_dense.cu), one after another.
 * Optimality: Eckart and Young 1936.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/low_rank_device.h"

/* --- Norms ------------------------------------------------------------------------------------ */

/* parts[slot][block] = the sum of squares of LORS_BLOCK elements: exact products, a fixed tree. */
static __global__ void __launch_bounds__(LORS_THREADS)
    squares_kernel(double *parts, lors_matrices a)
{
    int64_t n = a.n_rows * a.n_cols, first = (int64_t)blockIdx.x * LORS_BLOCK;
    int64_t end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
    const float *x = a.x + a.index[blockIdx.y] * a.stride;
    double sum = 0;
    for (int64_t i = first + threadIdx.x; i < end; i += LORS_THREADS) {
        sum = __fma_rn((double)x[i], (double)x[i], sum);
    }
    sum = lors_block_sum(sum);
    if (threadIdx.x == 0) {
        parts[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
    }
}

/* totals[slot] = the sum of its parts. */
static __global__ void __launch_bounds__(LORS_THREADS)
    totals_kernel(double *totals, const double *parts, int64_t n)
{
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += LORS_THREADS) {
        sum += parts[blockIdx.x * n + i];
    }
    sum = lors_block_sum(sum);
    if (threadIdx.x == 0) {
        totals[blockIdx.x] = sum;
    }
}

static __global__ void fill_kernel(float *to, int64_t n, float value)
{
    int64_t i = (int64_t)blockIdx.x * LORS_THREADS + threadIdx.x;
    if (i < n) {
        to[i] = value;
    }
}

/* --- Memory ----------------------------------------------------------------------------------- */

static constexpr uint64_t piece = LORS_CUDA_PINNED;

lors_status lors_cuda_fetch(lors_queue *queue, void *to, const void *from, uint64_t n_bytes)
{
    for (uint64_t done = 0; done < n_bytes; done += piece) {
        uint64_t n = n_bytes - done < piece ? n_bytes - done : piece;
        LORS_CUDA_TRY(cudaMemcpyAsync(queue->pinned, static_cast<const char *>(from) + done, n,
                                      cudaMemcpyDeviceToHost, queue->stream));
        LORS_CUDA_TRY(cudaStreamSynchronize(queue->stream));
        memcpy(static_cast<char *>(to) + done, queue->pinned, n);
    }
    return LORS_OK;
}

lors_status lors_cuda_send(lors_queue *queue, void *to, const void *from, uint64_t n_bytes)
{
    for (uint64_t done = 0; done < n_bytes; done += piece) {
        uint64_t n = n_bytes - done < piece ? n_bytes - done : piece;
        memcpy(queue->pinned, static_cast<const char *>(from) + done, n);
        LORS_CUDA_TRY(cudaMemcpyAsync(static_cast<char *>(to) + done, queue->pinned, n,
                                      cudaMemcpyHostToDevice, queue->stream));
        LORS_CUDA_TRY(cudaStreamSynchronize(queue->stream));
    }
    return LORS_OK;
}

static lors_status grow_device(lors_solver_space *space, uint64_t n_bytes)
{
    void *before = space->extra;
    space->extra = nullptr; /* whatever cudaFree reports, it is not to be freed again */
    space->extra_bytes = 0;
    LORS_CUDA_TRY(cudaFree(before)); /* nobody works in it: the library has been waited for */
    cudaError_t error = cudaMalloc(&space->extra, n_bytes);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* or it would be taken for that of the next launch */
        return lors_cuda_fail(LORS_ERR_DEVICE,
                              "cuSOLVER asks for %llu bytes to work in, the plan has %llu for it, "
                              "and the device has no more: close other programs that use the card, "
                              "or use --device cpu",
                              (unsigned long long)n_bytes,
                              (unsigned long long)space->reserved_bytes);
    }
    LORS_TRY(lors_cuda_check(error, "cudaMalloc"));
    space->extra_bytes = n_bytes;
    return LORS_OK;
}

lors_status lors_cuda_grow_space(lors_queue *queue, lors_solver_space *space, uint64_t device_bytes,
                                 uint64_t host_bytes)
{
    host_bytes = host_bytes > 0 ? host_bytes : 1; /* never NULL */
    if (host_bytes > space->host_bytes) {
        LORS_CUDA_TRY(cudaStreamSynchronize(queue->stream)); /* for those who still work in it */
        free(space->host);
        space->host = malloc(host_bytes);
        space->host_bytes = space->host ? host_bytes : 0;
        if (!space->host) {
            return lors_cuda_fail(LORS_ERR_LIMIT, "out of memory: cuSOLVER asks for %llu bytes",
                                  (unsigned long long)host_bytes);
        }
    }
    if (device_bytes > space->reserved_bytes && device_bytes > space->extra_bytes) {
        LORS_TRY(grow_device(space, device_bytes));
    }
    space->device = device_bytes > space->reserved_bytes ? space->extra : space->reserved;
    return LORS_OK;
}

/* Every call of the library has been waited for, unless something failed half-way: then the device
 * may still be at work in this memory. Returns `status`, or what goes wrong here. */
lors_status lors_cuda_close_space(lors_queue *queue, lors_solver_space *space, lors_status status)
{
    if (status != LORS_OK && cudaStreamSynchronize(queue->stream) != cudaSuccess) {
        (void)cudaGetLastError(); /* the sentence of the first error stays */
    }
    free(space->host);
    cudaError_t error = space->extra ? cudaFree(space->extra) : cudaSuccess;
    if (status == LORS_OK) {
        LORS_TRY(lors_cuda_check(error, "cudaFree"));
    } else if (error != cudaSuccess) {
        (void)cudaGetLastError();
    }
    return status;
}

/* --- Certificate ------------------------------------------------------------------------------ */

static double root(double value)
{
    return value > 0 ? sqrt(value) : 0;
}

void lors_cuda_certify(lors_certificate *c, double total, const double *values, int64_t rank,
                       double next, double residual)
{
    double kept = 0;
    for (int64_t i = rank - 1; i >= 0; i--) {
        kept += values[i] > 0 ? values[i] : 0;
    }
    c->rank = rank;
    c->energy = kept < total ? kept / total : 1;
    c->sigma_first = root(values[0]);
    c->sigma_last = root(values[rank - 1]);
    c->sigma_next = root(next);
    bool is_rounding = c->sigma_last <= LORS_NO_VALUE * c->sigma_first;
    c->gap = is_rounding ? 0 : (c->sigma_last - c->sigma_next) / c->sigma_last;
    double optimum = root(total - kept);
    c->excess = optimum > 1e-6 * c->norm ? sqrt(residual) / optimum - 1 : 0;
}

/* --- A call ----------------------------------------------------------------------------------- */

static lors_matrices describe(int64_t n_rows, int64_t n_cols, int32_t n)
{
    lors_matrices a = {};
    a.n_rows = n_rows;
    a.n_cols = n_cols;
    a.wide = n_cols > n_rows;
    a.n_short = a.wide ? n_rows : n_cols;
    a.n_long = a.wide ? n_cols : n_rows;
    a.n = n;
    for (int32_t i = 0; i < n && i < LORS_MAX_BATCH; i++) {
        a.index[i] = i;
    }
    return a;
}

static int64_t count_of(const lors_matrices *a, lors_rank rank)
{
    int64_t count = rank.count < a->n_short ? rank.count : a->n_short;
    return count > 0 ? count : 0;
}

/* The solvers use one place after another. */
static uint64_t lay_out(const lors_matrices *a, lors_rank rank, unsigned char *base, double **parts,
                        double **totals, unsigned char **solver)
{
    uint64_t at = 0;
    int64_t count = count_of(a, rank);
    *parts =
        lors_cuda_carve<double>(base, &at, a->n * lors_ceil_div(a->n_rows * a->n_cols, LORS_BLOCK));
    *totals = lors_cuda_carve<double>(base, &at, LORS_MAX_BATCH);
    *solver = base ? base + at : nullptr;
    uint64_t krylov = lors_cuda_krylov_bytes(a, count);
    uint64_t dense = lors_cuda_dense_bytes(a, rank.energy > 0 ? a->n_short : count, rank.exact);
    return at + (krylov > dense ? krylov : dense);
}

uint64_t lors_cuda_truncate_bytes(int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                  lors_rank rank)
{
    double *parts, *totals;
    unsigned char *solver;
    lors_matrices a = describe(n_rows, n_cols, n_matrices);
    return lay_out(&a, rank, nullptr, &parts, &totals, &solver);
}

static lors_status measure(lors_truncation *t, double *parts, double *totals)
{
    cudaStream_t stream = t->queue->stream;
    int64_t n_parts = lors_ceil_div(t->all.n_rows * t->all.n_cols, LORS_BLOCK);
    if (n_parts == 0) {
        return LORS_OK; /* of nothing: 0 */
    }
    LORS_LAUNCH((squares_kernel), dim3((unsigned)n_parts, (unsigned)t->all.n), LORS_THREADS, stream,
                parts, t->all);
    LORS_TRY(lors_cuda_launched("truncate_rank, squares"));
    LORS_LAUNCH((totals_kernel), (unsigned)t->all.n, LORS_THREADS, stream, totals, parts, n_parts);
    LORS_TRY(lors_cuda_launched("truncate_rank, totals"));
    return lors_cuda_fetch(t->queue, t->total, totals, (uint64_t)t->all.n * sizeof *t->total);
}

static lors_status fill_zeros(const lors_truncation *t, float *low)
{
    size_t n_bytes = (size_t)(t->all.n_rows * t->all.n_cols) * sizeof *low;
    if (n_bytes > 0) {
        LORS_CUDA_TRY(cudaMemsetAsync(low, 0, n_bytes, t->queue->stream));
    }
    return LORS_OK;
}

/* A matrix of zeros, or one that is not all numbers. */
static lors_status answer_by_norm(lors_truncation *t, int32_t i, bool *answered)
{
    lors_certificate *c = &t->certificates[i];
    float *low = t->all.low + i * t->all.stride;
    int64_t n = t->all.n_rows * t->all.n_cols;
    c->norm = root(t->total[i]);
    c->energy = 1;
    c->gap = 1;
    *answered = !(t->total[i] > 0 && isfinite(t->total[i]));
    if (!*answered) {
        return LORS_OK;
    }
    if (t->total[i] == 0) {
        c->path = "zero";
        return fill_zeros(t, low);
    }
    c->path = "not finite";
    LORS_LAUNCH((fill_kernel), (unsigned)lors_ceil_div(n, LORS_THREADS), LORS_THREADS,
                t->queue->stream, low, n, NAN);
    return lors_cuda_launched("truncate_rank, filling");
}

/* Nothing to keep, or everything. */
static lors_status answer_by_rank(lors_truncation *t, int32_t i, bool *answered)
{
    lors_certificate *c = &t->certificates[i];
    float *low = t->all.low + i * t->all.stride;
    int64_t count = count_of(&t->all, t->ranks[i]);
    *answered = !(t->ranks[i].energy > 0 || (count > 0 && count < t->all.n_short));
    if (!*answered) {
        return LORS_OK;
    }
    if (count == 0) {
        c->energy = 0;
        c->path = "zero";
        return fill_zeros(t, low);
    }
    c->rank = count;
    c->path = "full";
    LORS_CUDA_TRY(cudaMemcpyAsync(low, t->all.x + i * t->all.stride,
                                  (size_t)(t->all.n_rows * t->all.n_cols) * sizeof *low,
                                  cudaMemcpyDeviceToDevice, t->queue->stream));
    return LORS_OK;
}

/* The quick way, for all matrices of a rank at once where it is worth a try. */
static lors_status try_krylov(lors_truncation *t, bool *answered)
{
    bool tried[LORS_MAX_BATCH] = {};
    for (int32_t i = 0; i < t->all.n; i++) {
        int32_t members[LORS_MAX_BATCH], n = 0;
        int64_t count = count_of(&t->all, t->ranks[i]);
        if (!lors_cuda_krylov_fits(t->all.n_long, t->all.n_short, count)) {
            continue;
        }
        for (int32_t j = i; j < t->all.n; j++) {
            const lors_rank *rank = &t->ranks[j];
            if (!answered[j] && !tried[j] && !rank->exact && !(rank->energy > 0) &&
                count_of(&t->all, *rank) == count) {
                tried[j] = true;
                members[n++] = j;
            }
        }
        if (n > 0) {
            LORS_TRY(lors_cuda_krylov(t, members, n, count, answered));
        }
    }
    return LORS_OK;
}

static lors_status truncate_all(lors_truncation *t, double *parts, double *totals)
{
    bool answered[LORS_MAX_BATCH] = {};
    LORS_TRY(measure(t, parts, totals));
    for (int32_t i = 0; i < t->all.n; i++) {
        LORS_TRY(answer_by_norm(t, i, &answered[i]));
        if (!answered[i]) {
            LORS_TRY(answer_by_rank(t, i, &answered[i]));
        }
    }
    LORS_TRY(try_krylov(t, answered));
    for (int32_t i = 0; i < t->all.n; i++) {
        if (!answered[i]) {
            LORS_TRY(lors_cuda_dense(t, i));
        }
    }
    return LORS_OK;
}

/* The largest of the ranks, for the layout. */
static lors_rank largest_of(const lors_rank *ranks, int32_t n)
{
    lors_rank largest = {0, 0, false};
    for (int32_t i = 0; i < n; i++) {
        largest.count = ranks[i].count > largest.count ? ranks[i].count : largest.count;
        largest.energy = ranks[i].energy > largest.energy ? ranks[i].energy : largest.energy;
        largest.exact = largest.exact || ranks[i].exact;
    }
    return largest;
}

lors_status lors_cuda_truncate_rank(lors_queue *queue, lors_view low, lors_view x, int64_t stride,
                                    int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                    const lors_rank *ranks, lors_view scratch,
                                    lors_certificate *certificates)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n_rows > INT32_MAX / 2 || n_cols > INT32_MAX / 2) {
        return lors_cuda_fail(LORS_ERR_LIMIT,
                              "a side of more than 2^30 elements is too long for cuSOLVER");
    }
    lors_truncation t = {};
    double *parts, *totals;
    t.queue = queue;
    t.all = describe(n_rows, n_cols, n_matrices);
    t.all.x = lors_cuda_at<const float>(x);
    t.all.low = lors_cuda_at<float>(low);
    t.all.stride = stride;
    t.ranks = ranks;
    t.certificates = certificates;
    lay_out(&t.all, largest_of(ranks, n_matrices), lors_cuda_at<unsigned char>(scratch), &parts,
            &totals, &t.scratch);
    for (int32_t i = 0; i < n_matrices; i++) {
        certificates[i] = lors_certificate{};
        certificates[i].path = "";
    }
    lors_status status = n_matrices > 0 ? truncate_all(&t, parts, totals) : LORS_OK;
    return lors_cuda_close_space(queue, &t.space, status);
}

/* low_rank_jacobi.cu - one-sided Jacobi: the last resort, which needs nothing of any library.
 *
 * Pairs of columns p, q of W are rotated, and those of V with them, until each is orthogonal to all
 * others: w_p'w_q = 0. For a symmetric matrix of no negative eigenvalues V then holds its
 * eigenvectors, for any other its right singular vectors; the columns' norms are the values. A
 * round has n/2 pairs without a column in common, one launch; n - 1 rounds, by the schedule of a
 * round robin, are a sweep. Slow (thousands of launches) and sure. Source: Hestenes 1958; for the
 * accuracy Demmel and Veselic 1992.
 */
#include <math.h>

#include "cuda/low_rank_device.h"

enum { MAX_SWEEPS = 40 };

typedef struct sweep {
    double *w, *v;
    uint32_t *rotated; /* becomes 1 where a pair was not orthogonal */
    int64_t n_rows, n_columns;
    double limit; /* of a cosine that counts as 0 */
    double least; /* squared norm of a column that is all rounding: it has no direction */
} sweep;

static __device__ void rotate(double *a, double *b, int64_t n, double c, double s)
{
    for (int64_t i = threadIdx.x; i < n; i += LORS_THREADS) {
        double x = a[i], y = b[i];
        a[i] = c * x - s * y;
        b[i] = s * x + c * y;
    }
}

/* Pair blockIdx.x of a round. n_players: the columns, and one that is none where their number is
 * odd. */
static __global__ void __launch_bounds__(LORS_THREADS)
    rotate_kernel(sweep w, int64_t n_players, int64_t round)
{
    int64_t pair = blockIdx.x, n = n_players - 1;
    int64_t p = pair == 0 ? n : (round + pair) % n, q = (round + n - pair) % n;
    if (p >= w.n_columns || q >= w.n_columns) {
        return;
    }
    double *left = w.w + p * w.n_rows, *right = w.w + q * w.n_rows;
    double a = 0, b = 0, ab = 0;
    for (int64_t i = threadIdx.x; i < w.n_rows; i += LORS_THREADS) {
        a = __fma_rn(left[i], left[i], a);
        b = __fma_rn(right[i], right[i], b);
        ab = __fma_rn(left[i], right[i], ab);
    }
    a = lors_block_sum(a);
    b = lors_block_sum(b);
    ab = lors_block_sum(ab);
    if (a <= w.least || b <= w.least || !(fabs(ab) > w.limit * sqrt(a) * sqrt(b))) {
        return;
    }
    double cotangent = (b - a) / (2 * ab); /* of twice the angle */
    double tangent = copysign(1.0, cotangent) / (fabs(cotangent) + sqrt(1 + cotangent * cotangent));
    double c = 1 / sqrt(1 + tangent * tangent), s = c * tangent;
    rotate(left, right, w.n_rows, c, s);
    rotate(w.v + p * w.n_columns, w.v + q * w.n_columns, w.n_columns, c, s);
    if (threadIdx.x == 0) {
        atomicOr(w.rotated, 1u);
    }
}

static __global__ void identity_kernel(double *v, int64_t n)
{
    int64_t at = (int64_t)blockIdx.x * LORS_THREADS + threadIdx.x;
    if (at < n * n) {
        v[at] = at / n == at % n;
    }
}

/* A thread block for each column. */
static __global__ void __launch_bounds__(LORS_THREADS)
    norms_kernel(double *norms, const double *w, int64_t n_rows)
{
    const double *column = w + blockIdx.x * n_rows;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n_rows; i += LORS_THREADS) {
        sum = __fma_rn(column[i], column[i], sum);
    }
    sum = lors_block_sum(sum);
    if (threadIdx.x == 0) {
        norms[blockIdx.x] = sum;
    }
}

static lors_status run_sweep(lors_queue *queue, const sweep &w, uint32_t *rotated)
{
    int64_t n_players = w.n_columns + w.n_columns % 2;
    LORS_CUDA_TRY(cudaMemsetAsync(w.rotated, 0, sizeof *w.rotated, queue->stream));
    for (int64_t round = 0; round < n_players - 1; round++) {
        LORS_LAUNCH((rotate_kernel), (unsigned)(n_players / 2), LORS_THREADS, queue->stream, w,
                    n_players, round);
        LORS_TRY(lors_cuda_launched("truncate_rank, Jacobi"));
    }
    return lors_cuda_fetch(queue, rotated, w.rotated, sizeof *rotated);
}

lors_status lors_cuda_jacobi(lors_queue *queue, double *w, double *v, double *norms,
                             uint32_t *rotated, int64_t n_rows, int64_t n_columns, double scale,
                             bool *converged)
{
    int64_t n = n_columns, terms = n_rows < 16 ? 16 : n_rows;
    double least = 0x1p-48 * scale;
    sweep all = {w, v, rotated, n_rows, n, 0x1p-52 * (double)terms, least * least};
    uint32_t again = 1;
    LORS_LAUNCH((identity_kernel), (unsigned)lors_ceil_div(n * n, LORS_THREADS), LORS_THREADS,
                queue->stream, v, n);
    LORS_TRY(lors_cuda_launched("truncate_rank, identity"));
    for (int i = 0; i < MAX_SWEEPS && again && n > 1; i++) {
        LORS_TRY(run_sweep(queue, all, &again));
    }
    LORS_LAUNCH((norms_kernel), (unsigned)n, LORS_THREADS, queue->stream, norms, w, n_rows);
    *converged = n == 1 || !again;
    return lors_cuda_launched("truncate_rank, norms");
}

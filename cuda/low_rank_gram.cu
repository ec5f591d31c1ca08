/* low_rank_gram.cu - dense products in f64, by tiles: G = A'A straight from f32, the deviations
 * norm(V'V - I) and norm(G V - V diag(values)) of vectors that a solver found; and the copies
 * between the layouts of A, V and the solvers.
 *
 * Each number is one sum over the whole length, in order: the same bits on any card, which no
 * library promises. A tile of the Gram matrix is made once and written to both triangles.
 */
#include "cuda/low_rank_device.h"
#include "cuda/product_tiles.h"

enum { MOVE = 32 /* side of a tile that is transposed */ };

/* --- Gram ------------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(LORS_THREADS)
    gram_kernel(double *gram, operand a, int64_t n_long)
{
    __shared__ tile_memory m;
    if (blockIdx.y > blockIdx.x) {
        return;
    }
    int64_t row = (int64_t)blockIdx.y * TILE, column = (int64_t)blockIdx.x * TILE;
    double sums[SHARE][SHARE] = {};
    multiply(sums, &m, a, a, n_long, row, column);
    row += threadIdx.x / APART;
    column += threadIdx.x % APART;
#pragma unroll
    for (int at = 0; at < SHARE * SHARE; at++) {
        int64_t i = row + at / SHARE * APART, j = column + at % SHARE * APART;
        if (i < a.n && j < a.n) {
            gram[i * a.n + j] = sums[at / SHARE][at % SHARE];
            if (blockIdx.y < blockIdx.x) { /* a tile on the diagonal has both already */
                gram[j * a.n + i] = sums[at / SHARE][at % SHARE];
            }
        }
    }
}

static operand operand_of(const lors_matrices *a)
{
    operand of = {a->x + a->index[0] * a->stride, nullptr, a->wide ? 1 : a->n_cols,
                  a->wide ? a->n_cols : 1, a->n_short};
    return of;
}

lors_status lors_cuda_gram(lors_queue *queue, const lors_matrices *a, double *gram)
{
    unsigned n_tiles = (unsigned)lors_ceil_div(a->n_short, TILE);
    LORS_LAUNCH((gram_kernel), dim3(n_tiles, n_tiles), LORS_THREADS, queue->stream, gram,
                operand_of(a), a->n_long);
    return lors_cuda_launched("truncate_rank, Gram matrix");
}

/* --- Deviations ------------------------------------------------------------------------------- */

/* left'right - (left diag(values), or the identity where there are no values). */
typedef struct deviation_args {
    operand left, right;
    const double *v, *values;
    int64_t n_k, ld;
    double *parts;
} deviation_args;

static __global__ void __launch_bounds__(LORS_THREADS) deviation_kernel(deviation_args d)
{
    __shared__ tile_memory m;
    int64_t row = (int64_t)blockIdx.y * TILE, column = (int64_t)blockIdx.x * TILE;
    double sums[SHARE][SHARE] = {}, square = 0;
    multiply(sums, &m, d.left, d.right, d.n_k, row, column);
    row += threadIdx.x / APART;
    column += threadIdx.x % APART;
#pragma unroll
    for (int at = 0; at < SHARE * SHARE; at++) {
        int64_t i = row + at / SHARE * APART, j = column + at % SHARE * APART;
        if (i < d.left.n && j < d.right.n) {
            double wanted = d.values ? d.values[j] * d.v[i * d.ld + j] : i == j;
            double rest = sums[at / SHARE][at % SHARE] - wanted;
            square += rest * rest;
        }
    }
    square = lors_block_sum(square);
    if (threadIdx.x == 0) {
        d.parts[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = square;
    }
}

/* Block 0: to[0] = the sum of the first n numbers; block 1: to[1] = that of the others. */
static __global__ void __launch_bounds__(LORS_THREADS)
    add_deviations_kernel(double *to, const double *parts, int64_t n, int64_t n_others)
{
    int64_t begin = blockIdx.x == 0 ? 0 : n, end = blockIdx.x == 0 ? n : n + n_others;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += LORS_THREADS) {
        sum += parts[i];
    }
    sum = lors_block_sum(sum);
    if (threadIdx.x == 0) {
        to[blockIdx.x] = sum;
    }
}

int64_t lors_cuda_deviation_parts(int64_t n_short, int64_t ld)
{
    int64_t n_columns = lors_ceil_div(ld, TILE);
    return n_columns * (n_columns + lors_ceil_div(n_short, TILE));
}

lors_status lors_cuda_deviations(lors_queue *queue, const lors_projection *p, const double *gram,
                                 double *sums)
{
    int64_t n = p->a.n_short;
    unsigned n_columns = (unsigned)lors_ceil_div(p->rank, TILE);
    unsigned n_rows = (unsigned)lors_ceil_div(n, TILE);
    int64_t n_parts = (int64_t)n_columns * n_columns;
    operand v = {nullptr, p->v, p->ld, 1, p->rank}, g = {nullptr, gram, n, 1, n};
    deviation_args angles = {v, v, nullptr, nullptr, n, p->ld, sums};
    deviation_args pairs = {g, v, p->v, p->results + LORS_RESULT_HEAD, n, p->ld, sums + n_parts};
    LORS_LAUNCH((deviation_kernel), dim3(n_columns, n_columns), LORS_THREADS, queue->stream,
                angles);
    LORS_TRY(lors_cuda_launched("truncate_rank, V'V"));
    LORS_LAUNCH((deviation_kernel), dim3(n_columns, n_rows), LORS_THREADS, queue->stream, pairs);
    LORS_TRY(lors_cuda_launched("truncate_rank, G V"));
    LORS_LAUNCH((add_deviations_kernel), 2, LORS_THREADS, queue->stream, p->results + 1, sums,
                n_parts, (int64_t)n_columns * n_rows);
    return lors_cuda_launched("truncate_rank, deviations");
}

/* --- Copies ----------------------------------------------------------------------------------- */

/* Tall: x by tiles, transposed. */
static __global__ void __launch_bounds__(LORS_THREADS)
    transpose_kernel(double *out, const float *x, int64_t n_rows, int64_t n_cols)
{
    __shared__ float tile[MOVE][MOVE + 1];
    int64_t n_tiles = (n_cols + MOVE - 1) / MOVE;
    int64_t row = blockIdx.x / n_tiles * MOVE, column = blockIdx.x % n_tiles * MOVE;
    int lane = (int)threadIdx.x % MOVE;
    for (int i = (int)threadIdx.x / MOVE; i < MOVE; i += LORS_THREADS / MOVE) {
        bool inside = row + i < n_rows && column + lane < n_cols;
        tile[i][lane] = inside ? x[(row + i) * n_cols + column + lane] : 0;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x / MOVE; i < MOVE; i += LORS_THREADS / MOVE) {
        if (column + i < n_cols && row + lane < n_rows) {
            out[(column + i) * n_rows + row + lane] = (double)tile[lane][i];
        }
    }
}

static __global__ void widen_kernel(double *out, const float *x, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * LORS_THREADS + threadIdx.x;
    if (i < n) {
        out[i] = (double)x[i];
    }
}

lors_status lors_cuda_widen(lors_queue *queue, const lors_matrices *a, double *out)
{
    const float *x = a->x + a->index[0] * a->stride;
    if (a->wide) { /* row-major words of A' are column-major ones of A */
        int64_t n = a->n_rows * a->n_cols;
        LORS_LAUNCH((widen_kernel), (unsigned)lors_ceil_div(n, LORS_THREADS), LORS_THREADS,
                    queue->stream, out, x, n);
    } else {
        int64_t n_tiles = lors_ceil_div(a->n_rows, MOVE) * lors_ceil_div(a->n_cols, MOVE);
        LORS_LAUNCH((transpose_kernel), (unsigned)n_tiles, LORS_THREADS, queue->stream, out, x,
                    a->n_rows, a->n_cols);
    }
    return lors_cuda_launched("truncate_rank, widening");
}

static __global__ void gather_kernel(double *v, lors_gathering g)
{
    int64_t at = (int64_t)blockIdx.x * LORS_THREADS + threadIdx.x;
    int64_t row = at / g.ld, c = at % g.ld;
    if (row >= g.n) {
        return;
    }
    int64_t column = c < g.rank && g.order ? g.order[c] : g.reversed ? g.n - 1 - c : c;
    v[at] = c < g.rank ? g.from[column * g.column_step + row * g.row_step] : 0;
}

lors_status lors_cuda_gather(lors_queue *queue, const lors_gathering *g, double *v)
{
    LORS_LAUNCH((gather_kernel), (unsigned)lors_ceil_div(g->n * g->ld, LORS_THREADS), LORS_THREADS,
                queue->stream, v, *g);
    return lors_cuda_launched("truncate_rank, gathering");
}

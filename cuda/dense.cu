/* dense.cu - products of dense matrices in f64, by tiles, and the scaling and products of rows.
 *
 * Each number is one sum over the whole length, in order: the same bits on any card. Of a symmetric
 * product a tile is made once and written to both triangles.
 */
#include "cuda/low_rank_device.h"
#include "cuda/product_tiles.h"

typedef struct product_args {
    operand left, right;
    double *out;
    int64_t depth, ld;
    double alpha, beta;
    bool symmetric;
} product_args;

static __device__ void put(const product_args &p, int64_t i, int64_t j, double value)
{
    double *at = p.out + i * p.ld + j;
    *at = p.beta == 0 ? value : value + p.beta * *at;
}

static __global__ void __launch_bounds__(LORS_THREADS) product_kernel(product_args p)
{
    __shared__ tile_memory m;
    if (p.symmetric && blockIdx.y > blockIdx.x) {
        return;
    }
    int64_t row = (int64_t)blockIdx.y * TILE, column = (int64_t)blockIdx.x * TILE;
    double sums[SHARE][SHARE] = {};
    multiply(sums, &m, p.left, p.right, p.depth, row, column);
    row += threadIdx.x / APART;
    column += threadIdx.x % APART;
#pragma unroll
    for (int at = 0; at < SHARE * SHARE; at++) {
        int64_t i = row + at / SHARE * APART, j = column + at % SHARE * APART;
        double value = p.alpha * sums[at / SHARE][at % SHARE];
        if (i < p.left.n && j < p.right.n) {
            put(p, i, j, value);
            if (p.symmetric && blockIdx.y < blockIdx.x) { /* on the diagonal both are there */
                put(p, j, i, value);
            }
        }
    }
}

/* `along`: its first index, as it lies, is the one that is summed over. */
static operand operand_of(const lors_factor *f, bool along, int64_t n)
{
    operand of = {f->wide ? nullptr : lors_cuda_at<const float>(f->x),
                  f->wide ? lors_cuda_at<const double>(f->x) : nullptr, along ? f->ld : 1,
                  along ? 1 : f->ld, n};
    return of;
}

uint64_t lors_cuda_multiply_bytes(int64_t rows, int64_t cols, int64_t depth)
{
    (void)depth;
    (void)rows;
    (void)cols;
    return 0;
}

lors_status lors_cuda_multiply(lors_queue *queue, lors_view out, const lors_product *p)
{
    int64_t n_rows = lors_ceil_div(p->rows, TILE), n_cols = lors_ceil_div(p->cols, TILE);
    LORS_TRY(lors_cuda_enter(queue));
    if (n_rows > 65535) {
        return lors_cuda_fail(LORS_ERR_LIMIT, "a product of more than %d rows", 65535 * TILE);
    }
    if (n_rows == 0 || n_cols == 0) {
        return LORS_OK;
    }
    product_args args = {operand_of(&p->left, p->left.transposed, p->rows),
                         operand_of(&p->right, !p->right.transposed, p->cols),
                         lors_cuda_at<double>(out),
                         p->depth,
                         p->ld,
                         p->alpha,
                         p->beta,
                         p->symmetric};
    LORS_LAUNCH((product_kernel), dim3((unsigned)n_cols, (unsigned)n_rows), LORS_THREADS,
                queue->stream, args);
    return lors_cuda_launched("multiply");
}

/* --- Rows ------------------------------------------------------------------------------------- */

static constexpr int ROWS_AT_ONCE = 256; /* their factors travel with the launch */

typedef struct scale_args {
    double *x;
    int64_t cols, ld;
    double factors[ROWS_AT_ONCE];
} scale_args;

static __global__ void __launch_bounds__(LORS_THREADS) scale_kernel(scale_args s)
{
    double *row = s.x + blockIdx.y * s.ld, factor = s.factors[blockIdx.y];
    int64_t step = (int64_t)gridDim.x * LORS_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * LORS_THREADS + threadIdx.x; i < s.cols; i += step) {
        row[i] *= factor;
    }
}

lors_status lors_cuda_scale_rows(lors_queue *queue, lors_view x, int64_t rows, int64_t cols,
                                 int64_t ld, const double *factors)
{
    LORS_TRY(lors_cuda_enter(queue));
    int64_t n_blocks = lors_ceil_div(cols, LORS_THREADS);
    n_blocks = n_blocks < 1024 ? n_blocks : 1024;
    for (int64_t first = 0; first < rows && cols > 0; first += ROWS_AT_ONCE) {
        scale_args s = {lors_cuda_at<double>(x) + first * ld, cols, ld, {}};
        int64_t n = rows - first < ROWS_AT_ONCE ? rows - first : ROWS_AT_ONCE;
        for (int64_t i = 0; i < n; i++) {
            s.factors[i] = factors[first + i];
        }
        LORS_LAUNCH((scale_kernel), dim3((unsigned)n_blocks, (unsigned)n), LORS_THREADS,
                    queue->stream, s);
        LORS_TRY(lors_cuda_launched("scale_rows"));
    }
    return LORS_OK;
}

/* One thread block a row. */
static __global__ void __launch_bounds__(LORS_THREADS)
    dot_kernel(double *dots, operand a, operand b, int64_t rows, int64_t cols)
{
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        double sum = 0;
        for (int64_t i = threadIdx.x; i < cols; i += LORS_THREADS) {
            int64_t at = row * a.i_step + i, to = row * b.i_step + i;
            sum += (a.x ? (double)a.x[at] : a.v[at]) * (b.x ? (double)b.x[to] : b.v[to]);
        }
        sum = lors_block_sum(sum);
        if (threadIdx.x == 0) {
            dots[row] = sum;
        }
    }
}

uint64_t lors_cuda_dot_rows_bytes(int64_t rows)
{
    return (uint64_t)rows * sizeof(double);
}

lors_status lors_cuda_dot_rows(lors_queue *queue, const lors_factor *a, const lors_factor *b,
                               int64_t rows, int64_t cols, double *dots, lors_view scratch)
{
    double *on_device = lors_cuda_at<double>(scratch);
    LORS_TRY(lors_cuda_enter(queue));
    if (rows == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((dot_kernel), dim3((unsigned)(rows < 65535 ? rows : 65535)), LORS_THREADS,
                queue->stream, on_device, operand_of(a, false, rows), operand_of(b, false, rows),
                rows, cols);
    LORS_TRY(lors_cuda_launched("dot_rows"));
    return lors_cuda_fetch(queue, dots, on_device, (uint64_t)rows * sizeof *dots);
}

/* low_rank_products.cu - products of a batch of f32 matrices with blocks of 8, 16 or 32 columns:
 * image = A v, next = A'image.
 *
 * x is read once by each product, row after row, whichever way A lies in it. Along rows a warp has
 * 4 rows and a lane every 32nd column; down columns a thread has a column and a slice of the rows.
 * Either way f32 sums run over at most 256 terms before they are added up further in a tree or in
 * f64, which is less than a blocked sgemm has in one chain: no worse than sgemm.
 */
#include "cuda/low_rank_device.h"

enum {
    ROW_PART = 2048, /* columns of x that are summed up along rows: 64 for each lane */
    COLUMN_THREADS = 128
};

/* Rows of x that are summed up down its columns. */
static constexpr __host__ __device__ int column_part(int width)
{
    return width == 8 ? 128 : 256;
}

/* in f32 [slots][n_in_parts][length][width] is to be added up; out [slots][n_out_parts][..]. */
typedef struct product_args {
    lors_matrices a;
    const lors_slot *slots;
    const float *in;
    float *out;
    int64_t n_in_parts, n_out_parts;
    float scale[LORS_MAX_BATCH];
} product_args;

static __device__ const float *matrix_of(const lors_matrices &a, int32_t slot)
{
    return a.x + a.index[slot] * a.stride;
}

/* out[part][row] = scale * sum over the columns of a part of x[row][column] * in[column]. */
template <int width>
static __global__ void __launch_bounds__(LORS_THREADS) along_rows_kernel(product_args p)
{
    int32_t slot = (int32_t)blockIdx.y;
    if (!lors_slot_is(p.slots, slot, LORS_SLOT_RUNNING)) {
        return;
    }
    int64_t n_rows = p.a.n_rows, n_cols = p.a.n_cols;
    int64_t part = blockIdx.x % p.n_out_parts, first = blockIdx.x / p.n_out_parts * LORS_ROWS;
    first += threadIdx.x / LORS_WARP * LORS_WARP_ROWS;
    if (first >= n_rows) {
        return;
    }
    int64_t begin = part * ROW_PART, end = begin + ROW_PART < n_cols ? begin + ROW_PART : n_cols;
    float sums[LORS_WARP_ROWS * width];
    lors_multiply_rows<width>(sums, matrix_of(p.a, slot), n_rows, n_cols, first, begin, end,
                              p.in + slot * n_cols * width, width);
    constexpr int n_mine = LORS_WARP_ROWS * width / LORS_WARP;
    int mine = (int)(threadIdx.x % LORS_WARP) * n_mine;
    float *to = p.out + ((slot * p.n_out_parts + part) * n_rows + first) * width;
    for (int i = 0; i < n_mine; i++) {
        if (first + (mine + i) / width < n_rows) {
            to[mine + i] = sums[i] * p.scale[slot];
        }
    }
}

/* out[part][column] = scale * sum over the rows of a part of x[row][column] * in[row]. */
template <int width>
static __global__ void __launch_bounds__(COLUMN_THREADS) down_columns_kernel(product_args p)
{
    constexpr int n_part = column_part(width);
    __shared__ __align__(16) float in[n_part * width];
    int32_t slot = (int32_t)blockIdx.y;
    if (!lors_slot_is(p.slots, slot, LORS_SLOT_RUNNING)) {
        return;
    }
    int64_t n_rows = p.a.n_rows, n_cols = p.a.n_cols;
    int64_t part = blockIdx.x % p.n_out_parts, first = part * n_part;
    int64_t column = blockIdx.x / p.n_out_parts * COLUMN_THREADS + threadIdx.x;
    int n = (int)(first + n_part < n_rows ? n_part : n_rows - first);
    const float *from = p.in + (slot * p.n_in_parts * n_rows + first) * width;
    for (int i = (int)threadIdx.x; i < n * width; i += COLUMN_THREADS) {
        double sum = 0;
        for (int64_t j = 0; j < p.n_in_parts; j++) {
            sum += (double)from[j * n_rows * width + i];
        }
        in[i] = (float)sum;
    }
    __syncthreads();
    if (column >= n_cols) {
        return;
    }
    float sums[width] = {};
    lors_multiply_column<width>(sums, matrix_of(p.a, slot) + first * n_cols + column, n_cols, n,
                                in);
    for (int c = 0; c < width; c++) {
        sums[c] *= p.scale[slot];
    }
    lors_write<width>(p.out + ((slot * p.n_out_parts + part) * n_cols + column) * width, sums);
}

/* out[i] = the sum of in[part][i] over the parts. */
static __global__ void add_parts_kernel(float *out, const float *in, int64_t n_parts, int64_t n,
                                        const lors_slot *slots)
{
    int32_t slot = (int32_t)blockIdx.y;
    int64_t i = (int64_t)blockIdx.x * LORS_THREADS + threadIdx.x;
    if (!lors_slot_is(slots, slot, LORS_SLOT_RUNNING) || i >= n) {
        return;
    }
    double sum = 0;
    for (int64_t part = 0; part < n_parts; part++) {
        sum += (double)in[(slot * n_parts + part) * n + i];
    }
    out[slot * n + i] = (float)sum;
}

static lors_status along_rows(lors_queue *queue, const product_args &p, int32_t width)
{
    dim3 grid((unsigned)(lors_ceil_div(p.a.n_rows, LORS_ROWS) * p.n_out_parts), (unsigned)p.a.n);
    if (width == 8) {
        LORS_LAUNCH((along_rows_kernel<8>), grid, LORS_THREADS, queue->stream, p);
    } else if (width == 16) {
        LORS_LAUNCH((along_rows_kernel<16>), grid, LORS_THREADS, queue->stream, p);
    } else {
        LORS_LAUNCH((along_rows_kernel<32>), grid, LORS_THREADS, queue->stream, p);
    }
    return lors_cuda_launched("truncate_rank, along rows");
}

static lors_status down_columns(lors_queue *queue, const product_args &p, int32_t width)
{
    dim3 grid((unsigned)(lors_ceil_div(p.a.n_cols, COLUMN_THREADS) * p.n_out_parts),
              (unsigned)p.a.n);
    if (width == 8) {
        LORS_LAUNCH((down_columns_kernel<8>), grid, COLUMN_THREADS, queue->stream, p);
    } else if (width == 16) {
        LORS_LAUNCH((down_columns_kernel<16>), grid, COLUMN_THREADS, queue->stream, p);
    } else {
        LORS_LAUNCH((down_columns_kernel<32>), grid, COLUMN_THREADS, queue->stream, p);
    }
    return lors_cuda_launched("truncate_rank, down columns");
}

void lors_cuda_skinny_lay_out(lors_skinny *s, const lors_matrices *a, int32_t b,
                              unsigned char *base, uint64_t *at)
{
    int64_t n_row_parts = lors_ceil_div(a->n_cols, ROW_PART);
    int64_t n_column_parts = lors_ceil_div(a->n_rows, column_part(b));
    s->b = b;
    s->n_image_parts = a->wide ? n_column_parts : n_row_parts;
    s->n_next_parts = a->wide ? n_row_parts : n_column_parts;
    int64_t n_short = a->n * a->n_short * b, n_long = a->n * a->n_long * b;
    s->block = lors_cuda_carve<float>(base, at, n_short);
    s->image_parts = lors_cuda_carve<float>(base, at, s->n_image_parts * n_long);
    s->image = lors_cuda_carve<float>(base, at, a->wide ? n_long : 0);
    s->next_parts = lors_cuda_carve<float>(base, at, s->n_next_parts * n_short);
}

lors_status lors_cuda_skinny_multiply(lors_queue *queue, const lors_matrices *a,
                                      const lors_skinny *s, const lors_slot *slots,
                                      const float *scale)
{
    product_args image = {*a, slots, s->block, s->image_parts, 1, s->n_image_parts, {}};
    for (int32_t slot = 0; slot < a->n; slot++) {
        image.scale[slot] = scale[slot];
    }
    product_args next = image;
    next.in = a->wide ? s->image : s->image_parts;
    next.n_in_parts = a->wide ? 1 : s->n_image_parts;
    next.out = s->next_parts;
    next.n_out_parts = s->n_next_parts;
    if (!a->wide) {
        LORS_TRY(along_rows(queue, image, s->b));
        return down_columns(queue, next, s->b);
    }
    /* Every thread block along rows reads all of its factor: it is added up once, before. */
    LORS_TRY(down_columns(queue, image, s->b));
    int64_t n = a->n_long * s->b;
    LORS_LAUNCH((add_parts_kernel), dim3((unsigned)lors_ceil_div(n, LORS_THREADS), (unsigned)a->n),
                LORS_THREADS, queue->stream, s->image, s->image_parts, s->n_image_parts, n, slots);
    LORS_TRY(lors_cuda_launched("truncate_rank, parts"));
    return along_rows(queue, next, s->b);
}

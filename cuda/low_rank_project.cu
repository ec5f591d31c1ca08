/* low_rank_project.cu - the last step of every solver: low = (A V) V' in f64, rounded once to f32,
 * with the squared norms of the columns of A V and that of A - low as stored.
 *
 * A V is taken 8 columns (a panel) at a time, then low in tiles of 64 x 64. A is read once for each
 * panel (from the cache, where it fits) and once for low: few panels for the ranks that matter.
 */
#include "cuda/low_rank_device.h"

enum {
    COLUMN_THREADS = 128,   /* columns of x in a thread block, where A is wide */
    COLUMN_PART = 128,      /* rows of V in shared memory at a time */
    TILE = 64,              /* rows and columns of low in a thread block */
    TILE_ROWS = 8,          /* of a thread: neighbouring ones, ... */
    TILE_COLUMNS = 2,       /* ... and columns a warp apart */
    CHUNK_DOUBLES = 2 << 20 /* of A V at a time, unless that is too few rows */
};

/* One chunk of rows of A. */
typedef struct project_args {
    lors_projection p;
    int64_t first, count;
} project_args;

/* Sums of squares of what a thread block has made of the columns of A V. */
static __device__ double *value_part_of(const lors_projection &p, int32_t slot, int64_t part)
{
    return p.value_parts + (slot * p.n_value_parts + part) * p.ld + blockIdx.y * LORS_PANEL;
}

/* Tall: LORS_ROWS rows of x for a thread block. */
static __global__ void __launch_bounds__(LORS_THREADS) project_rows_kernel(project_args args)
{
    __shared__ double squares[LORS_WARPS][LORS_PANEL];
    const lors_projection &p = args.p;
    int32_t slot = (int32_t)blockIdx.z;
    if (!lors_slot_is(p.slots, slot, LORS_SLOT_READY)) {
        return;
    }
    int warp = (int)threadIdx.x / LORS_WARP, lane = (int)threadIdx.x % LORS_WARP;
    int64_t row = (int64_t)blockIdx.x * LORS_ROWS + warp * LORS_WARP_ROWS;
    int64_t column = (int64_t)blockIdx.y * LORS_PANEL, n = p.a.n_short;
    double sums[LORS_WARP_ROWS * LORS_PANEL];
    lors_multiply_rows<LORS_PANEL>(sums, p.a.x + p.a.index[slot] * p.a.stride, p.a.n_rows,
                                   p.a.n_cols, args.first + row, 0, n,
                                   p.v + slot * n * p.ld + column, p.ld);
    /* Every lane has one value: row lane / 8, column lane % 8. */
    bool inside = row + lane / LORS_PANEL < args.count;
    double square = inside ? sums[0] * sums[0] : 0;
    if (inside) {
        int64_t at = slot * p.chunk + row + lane / LORS_PANEL;
        p.y[at * p.ld + column + lane % LORS_PANEL] = sums[0];
    }
    square += __shfl_xor_sync(0xffffffffu, square, LORS_PANEL);
    square += __shfl_xor_sync(0xffffffffu, square, 2 * LORS_PANEL);
    if (lane < LORS_PANEL) {
        squares[warp][lane] = square;
    }
    __syncthreads();
    if (threadIdx.x < LORS_PANEL) {
        double sum = 0;
        for (int w = 0; w < LORS_WARPS; w++) {
            sum += squares[w][threadIdx.x];
        }
        value_part_of(p, slot, args.first / LORS_ROWS + blockIdx.x)[threadIdx.x] = sum;
    }
}

/* The squares of what the threads have, added up column by column: 16 groups of 8 threads, then
 * these. */
static __device__ void add_squares(double *to, const double *sums, bool inside)
{
    constexpr int n_groups = COLUMN_THREADS / LORS_PANEL;
    __shared__ double squares[COLUMN_THREADS][LORS_PANEL + 1], groups[n_groups][LORS_PANEL];
    int group = (int)threadIdx.x / LORS_PANEL, c = (int)threadIdx.x % LORS_PANEL;
    for (int i = 0; i < LORS_PANEL; i++) {
        squares[threadIdx.x][i] = inside ? sums[i] * sums[i] : 0;
    }
    __syncthreads();
    double sum = 0;
    for (int i = 0; i < LORS_PANEL; i++) {
        sum += squares[group * LORS_PANEL + i][c];
    }
    groups[group][c] = sum;
    __syncthreads();
    if (group == 0) {
        sum = 0;
        for (int i = 0; i < n_groups; i++) {
            sum += groups[i][c];
        }
        to[c] = sum;
    }
}

/* Wide: COLUMN_THREADS columns of x for a thread block, one for each thread. */
static __global__ void __launch_bounds__(COLUMN_THREADS) project_columns_kernel(project_args args)
{
    __shared__ __align__(16) double in[COLUMN_PART * LORS_PANEL];
    const lors_projection &p = args.p;
    int32_t slot = (int32_t)blockIdx.z;
    if (!lors_slot_is(p.slots, slot, LORS_SLOT_READY)) {
        return;
    }
    int64_t at = (int64_t)blockIdx.x * COLUMN_THREADS + threadIdx.x, n = p.a.n_short;
    int64_t column = (int64_t)blockIdx.y * LORS_PANEL;
    bool inside = at < args.count;
    const float *x = p.a.x + p.a.index[slot] * p.a.stride + args.first + (inside ? at : 0);
    const double *v = p.v + slot * n * p.ld + column;
    double sums[LORS_PANEL] = {};
    for (int64_t first = 0; first < n; first += COLUMN_PART) {
        int count = first + COLUMN_PART < n ? (int)COLUMN_PART : (int)(n - first);
        __syncthreads();
        for (int i = (int)threadIdx.x; i < count * LORS_PANEL; i += COLUMN_THREADS) {
            in[i] = v[(first + i / LORS_PANEL) * p.ld + i % LORS_PANEL];
        }
        __syncthreads();
        lors_multiply_column<LORS_PANEL>(sums, x + first * p.a.n_cols, p.a.n_cols, count, in);
    }
    if (inside) {
        lors_write<LORS_PANEL>(p.y + (slot * p.chunk + at) * p.ld + column, sums);
    }
    add_squares(value_part_of(p, slot, args.first / COLUMN_THREADS + blockIdx.x), sums, inside);
}

/* --- low -------------------------------------------------------------------------------------- */

/* A panel of the factors of a tile; the padding keeps lanes in different banks. */
typedef struct tile_factors {
    double left[TILE][LORS_PANEL + 1], right[TILE][LORS_PANEL + 1];
} tile_factors;

/* Rows first .. of a factor [n][ld], zeros past its end. */
static __device__ void fetch_factor(double (*to)[LORS_PANEL + 1], const double *from, int64_t first,
                                    int64_t n, int64_t ld)
{
    for (int i = (int)threadIdx.x; i < TILE * LORS_PANEL; i += LORS_THREADS) {
        int64_t row = first + i / LORS_PANEL;
        to[i / LORS_PANEL][i % LORS_PANEL] = row < n ? from[row * ld + i % LORS_PANEL] : 0;
    }
}

static __device__ void multiply_tile(double (*sums)[TILE_COLUMNS], const tile_factors *f)
{
    int row = (int)threadIdx.x / LORS_WARP * TILE_ROWS, column = (int)threadIdx.x % LORS_WARP;
#pragma unroll
    for (int c = 0; c < LORS_PANEL; c++) {
        double right[TILE_COLUMNS];
#pragma unroll
        for (int j = 0; j < TILE_COLUMNS; j++) {
            right[j] = f->right[column + j * LORS_WARP][c];
        }
#pragma unroll
        for (int i = 0; i < TILE_ROWS; i++) {
#pragma unroll
            for (int j = 0; j < TILE_COLUMNS; j++) {
                sums[i][j] = __fma_rn(f->left[row + i][c], right[j], sums[i][j]);
            }
        }
    }
}

/* Stores a tile; returns the sum of squares of x - low of this thread's elements. `row` and
 * `column`: the first of the tile in x. */
static __device__ double store_tile(const lors_matrices &a, int32_t slot,
                                    const double (*sums)[TILE_COLUMNS], int64_t row, int64_t column,
                                    int64_t end_row, int64_t end_column)
{
    const float *x = a.x + a.index[slot] * a.stride;
    float *low = a.low + a.index[slot] * a.stride;
    double square = 0;
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
#pragma unroll
        for (int j = 0; j < TILE_COLUMNS; j++) {
            int64_t r = row + threadIdx.x / LORS_WARP * TILE_ROWS + i;
            int64_t c = column + threadIdx.x % LORS_WARP + j * LORS_WARP;
            if (r < end_row && c < end_column) {
                float rounded = (float)sums[i][j];
                double rest = (double)x[r * a.n_cols + c] - (double)rounded;
                low[r * a.n_cols + c] = rounded;
                square += rest * rest;
            }
        }
    }
    return square;
}

/* Tall: rows of low go with those of A V, columns with those of V; wide: the other way round. */
static __global__ void __launch_bounds__(LORS_THREADS) rebuild_kernel(project_args args)
{
    __shared__ tile_factors factors;
    const lors_projection &p = args.p;
    int32_t slot = (int32_t)blockIdx.y;
    if (!lors_slot_is(p.slots, slot, LORS_SLOT_READY)) {
        return;
    }
    int64_t n = p.a.n_short, n_tiles = (n + TILE - 1) / TILE;
    int64_t at = blockIdx.x / n_tiles * TILE, beside = blockIdx.x % n_tiles * TILE;
    const double *y = p.y + slot * p.chunk * p.ld, *v = p.v + slot * n * p.ld;
    double sums[TILE_ROWS][TILE_COLUMNS] = {};
    for (int64_t c = 0; c < p.ld; c += LORS_PANEL) {
        __syncthreads();
        fetch_factor(p.a.wide ? factors.right : factors.left, y + c, at, args.count, p.ld);
        fetch_factor(p.a.wide ? factors.left : factors.right, v + c, beside, n, p.ld);
        __syncthreads();
        multiply_tile(sums, &factors);
    }
    int64_t along = args.first + at, end = args.first + args.count;
    double square = p.a.wide ? store_tile(p.a, slot, sums, beside, along, n, end)
                             : store_tile(p.a, slot, sums, along, beside, end, n);
    square = lors_block_sum(square);
    if (threadIdx.x == 0) {
        int64_t part = args.first / TILE * n_tiles + blockIdx.x;
        p.residual_parts[slot * p.n_residual_parts + part] = square;
    }
}

/* Block 0: the squared norm of A - low; block 1 + c: of column c of A V. */
static __global__ void __launch_bounds__(LORS_THREADS) finish_kernel(lors_projection p)
{
    int32_t slot = (int32_t)blockIdx.y;
    if (!lors_slot_is(p.slots, slot, LORS_SLOT_READY)) {
        return;
    }
    bool is_residual = blockIdx.x == 0;
    int64_t c = is_residual ? 0 : blockIdx.x - 1, step = is_residual ? 1 : p.ld;
    int64_t n = is_residual ? p.n_residual_parts : p.n_value_parts;
    const double *parts = (is_residual ? p.residual_parts : p.value_parts + c) + slot * n * step;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += LORS_THREADS) {
        sum += parts[i * step];
    }
    sum = lors_block_sum(sum);
    if (threadIdx.x == 0) {
        double *results = p.results + slot * (LORS_RESULT_HEAD + p.ld);
        results[is_residual ? 0 : LORS_RESULT_HEAD + c] = sum;
    }
}

void lors_cuda_projection_lay_out(lors_projection *p, const lors_matrices *a, int64_t rank,
                                  unsigned char *base, uint64_t *at)
{
    p->a = *a;
    p->slots = nullptr;
    p->rank = rank;
    p->ld = lors_round_up(rank, LORS_PANEL);
    int64_t least = COLUMN_THREADS, most = CHUNK_DOUBLES / (p->ld > 0 ? p->ld : 1) / least * least;
    most = most > least ? most : least;
    p->chunk = most < a->n_long ? most : a->n_long;
    /* Room that never shrinks as the rank grows, though the chunk does. */
    int64_t room = a->n_long * p->ld < CHUNK_DOUBLES ? a->n_long * p->ld : (int64_t)CHUNK_DOUBLES;
    room = room > least * p->ld ? room : least * p->ld;
    p->n_value_parts = lors_ceil_div(a->n_long, a->wide ? least : (int64_t)LORS_ROWS);
    p->n_residual_parts = lors_ceil_div(a->n_long, TILE) * lors_ceil_div(a->n_short, TILE);
    p->y = lors_cuda_carve<double>(base, at, a->n * room);
    p->value_parts = lors_cuda_carve<double>(base, at, a->n * p->n_value_parts * p->ld);
    p->residual_parts = lors_cuda_carve<double>(base, at, a->n * p->n_residual_parts);
    p->results = lors_cuda_carve<double>(base, at, a->n * (LORS_RESULT_HEAD + p->ld));
}

lors_status lors_cuda_project(lors_queue *queue, const lors_projection *p)
{
    unsigned n_panels = (unsigned)(p->ld / LORS_PANEL), n = (unsigned)p->a.n;
    int64_t n_tiles = lors_ceil_div(p->a.n_short, TILE);
    for (int64_t first = 0; first < p->a.n_long; first += p->chunk) {
        int64_t count = first + p->chunk < p->a.n_long ? p->chunk : p->a.n_long - first;
        project_args args = {*p, first, count};
        if (p->a.wide) {
            LORS_LAUNCH((project_columns_kernel),
                        dim3((unsigned)lors_ceil_div(count, COLUMN_THREADS), n_panels, n),
                        COLUMN_THREADS, queue->stream, args);
        } else {
            LORS_LAUNCH((project_rows_kernel),
                        dim3((unsigned)lors_ceil_div(count, LORS_ROWS), n_panels, n), LORS_THREADS,
                        queue->stream, args);
        }
        LORS_TRY(lors_cuda_launched("truncate_rank, A V"));
        LORS_LAUNCH((rebuild_kernel), dim3((unsigned)(lors_ceil_div(count, TILE) * n_tiles), n),
                    LORS_THREADS, queue->stream, args);
        LORS_TRY(lors_cuda_launched("truncate_rank, (A V) V'"));
    }
    LORS_LAUNCH((finish_kernel), dim3((unsigned)(1 + p->ld), n), LORS_THREADS, queue->stream, *p);
    return lors_cuda_launched("truncate_rank, norms");
}

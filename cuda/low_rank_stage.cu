/* low_rank_stage.cu - one pass over the next block of block Lanczos (or over V, at the end), by
 * slices of 32 rows: load it, take the basis out of it or multiply it by factor^-1, and sum up its
 * overlap with the basis or its Gram matrix, whose Cholesky factor R (wide'wide = R'R) follows.
 *
 * The block stays in f64 until it joins the basis, which is f32. Each thread block writes the sums
 * of its slice; the last one to come adds them up, slice after slice, and does what is small: so a
 * pass is one launch, and its sums have one order, whichever block comes last. CholeskyQR:
 * Stathopoulos and Wu 2002.
 */
#include <math.h>

#include "base/rng.h"
#include "cuda/low_rank_device.h"

enum { TILE = 32, GROUPS = LORS_THREADS / TILE /* of threads: one for each row of a slice */ };

/* The padding keeps lanes in different banks. */
template <int b> struct stage_memory {
    double slice[LORS_SLICE][b + 1];
    union {
        struct {
            float tile[TILE][LORS_SLICE + 1]; /* 32 columns of the basis */
            double factor[TILE][b + 1];       /* what they are multiplied by */
        } basis;
        struct {
            double gram[b][b + 1], product[b][b + 1];
        } square;
    };
};

/* Where the arrays of a slot begin. */
typedef struct stage_slot {
    int32_t slot;
    lors_slot *state;
    const float *next_parts;
    float *basis, *block;
    double *wide, *parts, *part, *overlap, *factor, *r, *t;
    const double *ritz;
    int64_t part_size, first; /* numbers that a slice sums up; the slice's first row */
} stage_slot;

static __device__ stage_slot slot_of(const lors_lanczos &s)
{
    stage_slot k;
    int64_t slot = blockIdx.y, b = s.b, n = s.n;
    k.slot = (int32_t)slot;
    k.state = s.slots + slot;
    k.next_parts = s.next_parts + slot * s.n_next_parts * n * b;
    k.basis = s.basis + slot * (s.max_l + b) * n;
    k.block = s.block + slot * n * b;
    k.wide = s.wide + slot * n * b;
    k.part_size = b * (s.max_l > b ? s.max_l : b);
    k.parts = s.parts + slot * s.n_slices * k.part_size;
    k.part = k.parts + blockIdx.x * k.part_size;
    k.overlap = s.overlap + slot * b * s.max_l;
    k.factor = s.factor + slot * b * b;
    k.r = s.r + slot * b * b;
    k.t = s.t + slot * s.max_l * s.max_l;
    k.ritz = s.small + slot * s.l * s.l;
    k.first = (int64_t)blockIdx.x * LORS_SLICE;
    return k;
}

/* --- Rows of the block ------------------------------------------------------------------------ */

/* Element `at` of the start block, as every backend has it: uniform in [-1, 1). */
static __device__ double random_at(int64_t at)
{
    lors_philox bits = lors_philox_at(0x6c6f7273u, (uint64_t)at & ~(uint64_t)3, 0);
    return (double)((float)((int32_t)bits.word[at % 4]) * 0x1p-31f);
}

static __device__ double element_of(const lors_lanczos &s, const stage_slot &k, lors_source from,
                                    int64_t row, int c)
{
    double sum = 0;
    switch (from) {
    case LORS_FROM_RANDOM: return random_at(c * s.n + row);
    case LORS_FROM_PRODUCT:
        for (int64_t part = 0; part < s.n_next_parts; part++) {
            sum += (double)k.next_parts[(part * s.n + row) * s.b + c];
        }
        return sum;
    case LORS_FROM_WIDE: return k.wide[row * s.b + c];
    default: return 0;
    }
}

/* Rows past the end are zeros: they change no sum. */
template <int b>
static __device__ void load_slice(stage_memory<b> *m, const lors_lanczos &s, const stage_slot &k,
                                  lors_source from)
{
    for (int at = (int)threadIdx.x; at < LORS_SLICE * b; at += LORS_THREADS) {
        int64_t row = k.first + at / b;
        m->slice[at / b][at % b] = row < s.n ? element_of(s, k, from, row, at % b) : 0;
    }
    __syncthreads();
}

template <int b>
static __device__ void store_slice(const stage_memory<b> *m, const lors_lanczos &s,
                                   const stage_slot &k)
{
    for (int at = (int)threadIdx.x; at < LORS_SLICE * b; at += LORS_THREADS) {
        if (k.first + at / b < s.n) {
            k.wide[k.first * b + at] = m->slice[at / b][at % b];
        }
    }
}

/* wide, rounded to f32, into the basis behind its l columns, and by rows for the products. */
template <int b>
static __device__ void append_slice(const stage_memory<b> *m, const lors_lanczos &s,
                                    const stage_slot &k)
{
    int row = (int)threadIdx.x % TILE;
    for (int c = (int)threadIdx.x / TILE; c < b && k.first + row < s.n; c += GROUPS) {
        k.basis[(s.l + c) * s.n + k.first + row] = (float)m->slice[row][c];
    }
    for (int at = (int)threadIdx.x; at < LORS_SLICE * b; at += LORS_THREADS) {
        if (k.first + at / b < s.n) {
            k.block[k.first * b + at] = (float)m->slice[at / b][at % b];
        }
    }
}

/* --- With the basis --------------------------------------------------------------------------- */

/* Columns `column` .. of the basis in the rows of the slice. */
template <int b>
static __device__ void load_tile(stage_memory<b> *m, const lors_lanczos &s, const stage_slot &k,
                                 int64_t column)
{
    int row = (int)threadIdx.x % TILE;
    for (int j = (int)threadIdx.x / TILE; j < TILE; j += GROUPS) {
        bool inside = column + j < s.l && k.first + row < s.n;
        m->basis.tile[j][row] = inside ? k.basis[(column + j) * s.n + k.first + row] : 0;
    }
}

/* slice -= basis * overlap, or = basis * Ritz vectors, the largest first. */
template <int b>
static __device__ void subtract_basis(stage_memory<b> *m, const lors_lanczos &s,
                                      const stage_slot &k, bool is_ritz)
{
    constexpr int n_mine = b / GROUPS;
    int row = (int)threadIdx.x % TILE, group = (int)threadIdx.x / TILE;
    double sums[n_mine];
    for (int i = 0; i < n_mine; i++) {
        sums[i] = m->slice[row][group + i * GROUPS];
    }
    for (int64_t column = 0; column < s.l; column += TILE) {
        load_tile(m, s, k, column);
        for (int at = (int)threadIdx.x; at < TILE * b; at += LORS_THREADS) {
            int j = at % TILE, c = at / TILE;
            bool inside = column + j < s.l && (!is_ritz || c < s.rank);
            const double *from = is_ritz ? k.ritz + (s.l - 1 - c) * s.l : k.overlap + c * s.max_l;
            double value = inside ? from[column + j] : 0;
            m->basis.factor[j][c] = is_ritz ? -value : value;
        }
        __syncthreads();
        for (int j = 0; j < TILE; j++) {
            double value = -(double)m->basis.tile[j][row];
            for (int i = 0; i < n_mine; i++) {
                sums[i] = __fma_rn(value, m->basis.factor[j][group + i * GROUPS], sums[i]);
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < n_mine; i++) {
        m->slice[row][group + i * GROUPS] = sums[i];
    }
    __syncthreads();
}

/* part[c][j] = the slice's share of basis'wide. */
template <int b>
static __device__ void sum_overlap(stage_memory<b> *m, const lors_lanczos &s, const stage_slot &k)
{
    int j = (int)threadIdx.x % TILE;
    for (int64_t column = 0; column < s.l; column += TILE) {
        load_tile(m, s, k, column);
        __syncthreads();
        for (int c = (int)threadIdx.x / TILE; c < b && column + j < s.l; c += GROUPS) {
            double sum = 0;
            for (int row = 0; row < LORS_SLICE; row++) {
                sum = __fma_rn((double)m->basis.tile[j][row], m->slice[row][c], sum);
            }
            k.part[c * s.max_l + column + j] = sum;
        }
        __syncthreads();
    }
}

/* --- With itself ------------------------------------------------------------------------------ */

/* slice <- slice * factor^-1: a thread has a row. */
template <int b> static __device__ void solve_slice(stage_memory<b> *m, const stage_slot &k)
{
    for (int at = (int)threadIdx.x; at < b * b; at += LORS_THREADS) {
        bool diagonal = at / b == at % b;
        m->square.gram[at / b][at % b] = diagonal ? 1 / k.factor[at] : k.factor[at];
    }
    __syncthreads();
    if (threadIdx.x < LORS_SLICE) {
        double row[b];
#pragma unroll
        for (int c = 0; c < b; c++) {
            row[c] = m->slice[threadIdx.x][c];
        }
#pragma unroll
        for (int i = 0; i < b; i++) {
            row[i] *= m->square.gram[i][i];
#pragma unroll
            for (int c = i + 1; c < b; c++) {
                row[c] = __fma_rn(-row[i], m->square.gram[i][c], row[c]);
            }
        }
#pragma unroll
        for (int c = 0; c < b; c++) {
            m->slice[threadIdx.x][c] = row[c];
        }
    }
    __syncthreads();
}

template <int b> static __device__ void sum_gram(const stage_memory<b> *m, const stage_slot &k)
{
    for (int at = (int)threadIdx.x; at < b * b; at += LORS_THREADS) {
        double sum = 0;
        for (int row = 0; row < LORS_SLICE; row++) {
            sum = __fma_rn(m->slice[row][at / b], m->slice[row][at % b], sum);
        }
        k.part[at] = sum;
    }
}

/* --- By the last thread block of a slot ------------------------------------------------------- */

/* Number `at` of all slices, added up in their order. Other blocks wrote them: they are not to be
 * taken from this processor's cache. */
static __device__ double add_slices(const lors_lanczos &s, const stage_slot &k, int64_t at)
{
    double sum = 0;
#pragma unroll 8
    for (int64_t slice = 0; slice < s.n_slices; slice++) {
        sum += *(volatile const double *)(k.parts + slice * k.part_size + at);
    }
    return sum;
}

static __device__ void finish_overlap(const lors_lanczos &s, const stage_slot &k, lors_sum_of what)
{
    for (int64_t at = threadIdx.x; at < s.b * s.l; at += LORS_THREADS) {
        int64_t c = at / s.l, j = at % s.l;
        double sum = add_slices(s, k, c * s.max_l + j);
        double *t = k.t + (s.l - s.b + c) * s.max_l + j;
        k.overlap[c * s.max_l + j] = sum;
        if (what == LORS_OVERLAP_SET_T) {
            *t = sum;
        } else if (what == LORS_OVERLAP_ADD_T) {
            *t += sum;
        }
    }
}

/* gram = wide'wide; the identity where V has no columns. */
template <int b>
static __device__ void finish_gram(stage_memory<b> *m, const lors_lanczos &s, const stage_slot &k,
                                   int width)
{
    for (int at = (int)threadIdx.x; at < b * b; at += LORS_THREADS) {
        bool inside = at / b < width && at % b < width;
        m->square.gram[at / b][at % b] = inside ? add_slices(s, k, at) : at / b == at % b;
    }
    __syncthreads();
}

/* gram <- its upper factor; false where it has no full rank. */
template <int b> static __device__ bool factorise(stage_memory<b> *m)
{
    double(*a)[b + 1] = m->square.gram;
    int thread = (int)threadIdx.x;
    for (int i = 0; i < b; i++) {
        double pivot = a[i][i];
        if (!(pivot > 0 && pivot < INFINITY)) {
            return false; /* all threads see the same */
        }
        __syncthreads();
        double root = sqrt(pivot);
        if (thread >= i && thread < b) {
            a[i][thread] = thread == i ? root : a[i][thread] / root;
        }
        __syncthreads();
        for (int at = thread; at < b * b; at += LORS_THREADS) {
            int row = at / b, column = at % b;
            if (row > i && column >= row) {
                a[row][column] = __fma_rn(-a[i][row], a[i][column], a[row][column]);
            }
        }
        __syncthreads();
    }
    return true;
}

/* factor <- gram, r <- gram, or gram * r: both are upper triangles. */
template <int b>
static __device__ void store_factor(stage_memory<b> *m, const stage_slot &k, bool into)
{
    for (int at = (int)threadIdx.x; at < b * b; at += LORS_THREADS) {
        int row = at / b, column = at % b;
        double sum = 0;
        for (int i = row; into && i <= column; i++) {
            sum = __fma_rn(m->square.gram[row][i], k.r[i * b + column], sum);
        }
        m->square.product[row][column] = into ? sum : m->square.gram[row][column];
    }
    __syncthreads();
    for (int at = (int)threadIdx.x; at < b * b; at += LORS_THREADS) {
        bool upper = at / b <= at % b;
        k.factor[at] = upper ? m->square.gram[at / b][at % b] : 0;
        k.r[at] = upper ? m->square.product[at / b][at % b] : 0;
    }
}

template <int b>
static __device__ void measure_deviation(const stage_memory<b> *m, const stage_slot &k, int width)
{
    double sum = 0;
    for (int at = (int)threadIdx.x; at < b * b; at += LORS_THREADS) {
        double rest = m->square.gram[at / b][at % b] - (at / b == at % b);
        sum += at / b < width && at % b < width ? rest * rest : 0;
    }
    sum = lors_block_sum(sum);
    if (threadIdx.x == 0) {
        k.state->orthogonality = sqrt(sum);
        k.state->status = LORS_SLOT_READY;
    }
}

/* Is this the last thread block of its slot? What all of them wrote before is there, then. */
static __device__ bool arrives_last(const stage_slot &k)
{
    __shared__ bool is_last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        is_last = atomicAdd(&k.state->arrived, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last) {
        __threadfence();
    }
    return is_last;
}

template <int b>
static __device__ void finish(stage_memory<b> *m, const lors_lanczos &s, const stage_slot &k,
                              const lors_stage &stage)
{
    if (stage.sum <= LORS_OVERLAP_ADD_T) {
        finish_overlap(s, k, stage.sum);
        return;
    }
    int width = stage.wanted == LORS_SLOT_FOUND ? s.rank : b;
    finish_gram(m, s, k, width);
    if (stage.sum == LORS_DEVIATION) {
        measure_deviation(m, k, width);
    } else if (factorise(m)) {
        store_factor(m, k, stage.sum == LORS_FACTOR_INTO_R);
    } else if (threadIdx.x == 0) {
        k.state->status = LORS_SLOT_FAILED;
    }
}

/* blockIdx.x: the slice, blockIdx.y: the slot. */
template <int b>
static __global__ void __launch_bounds__(LORS_THREADS)
    stage_kernel(lors_lanczos s, lors_stage stage)
{
    __shared__ stage_memory<b> m;
    if (!lors_slot_is(s.slots, (int32_t)blockIdx.y, stage.wanted)) {
        return;
    }
    stage_slot k = slot_of(s);
    load_slice(&m, s, k, stage.from);
    if (stage.from == LORS_FROM_RITZ || stage.change == LORS_SUBTRACT) {
        subtract_basis(&m, s, k, stage.from == LORS_FROM_RITZ);
    } else if (stage.change == LORS_SOLVE) {
        solve_slice(&m, k);
    }
    if (stage.sum == LORS_APPEND) {
        append_slice(&m, s, k);
        return;
    }
    store_slice(&m, s, k);
    if (stage.sum <= LORS_OVERLAP_ADD_T) {
        sum_overlap(&m, s, k);
    } else {
        sum_gram(&m, k);
    }
    if (arrives_last(k)) {
        if (threadIdx.x == 0) {
            atomicExch(&k.state->arrived, 0u); /* for the next pass */
        }
        finish(&m, s, k, stage);
    }
}

lors_status lors_cuda_stage(lors_queue *queue, const lors_lanczos *s, lors_stage stage)
{
    dim3 grid((unsigned)s->n_slices, (unsigned)s->n_slots);
    if (s->b == 8) {
        LORS_LAUNCH((stage_kernel<8>), grid, LORS_THREADS, queue->stream, *s, stage);
    } else if (s->b == 16) {
        LORS_LAUNCH((stage_kernel<16>), grid, LORS_THREADS, queue->stream, *s, stage);
    } else {
        LORS_LAUNCH((stage_kernel<32>), grid, LORS_THREADS, queue->stream, *s, stage);
    }
    return lors_cuda_launched("truncate_rank, stage");
}

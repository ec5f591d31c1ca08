/* low_rank_device.h - pieces of kernels of the low-rank operation: sums in a fixed order over
 * lanes, warps and blocks, and products of rows and columns of x with a skinny matrix.
 */
#ifndef LORS_CUDA_LOW_RANK_DEVICE_H
#define LORS_CUDA_LOW_RANK_DEVICE_H

#include "cuda/low_rank.h"

static __device__ inline float lors_fused(float a, float b, float c)
{
    return __fmaf_rn(a, b, c);
}

static __device__ inline double lors_fused(double a, double b, double c)
{
    return __fma_rn(a, b, c);
}

static __device__ inline bool lors_slot_is(const lors_slot *slots, int32_t slot,
                                           lors_slot_status wanted)
{
    return !slots || slots[slot].status == (int32_t)wanted;
}

/* Neighbouring values that one access of 16 bytes moves. */
template <typename T> struct alignas(16) lors_quad {
    T at[16 / sizeof(T)];
};

/* `width` values from an address aligned to 16 bytes. */
template <int width, typename T> static __device__ inline void lors_read(T *to, const T *from)
{
    constexpr int part = 16 / (int)sizeof(T);
#pragma unroll
    for (int i = 0; i < width; i += part) {
        lors_quad<T> values = *reinterpret_cast<const lors_quad<T> *>(from + i);
#pragma unroll
        for (int j = 0; j < part; j++) {
            to[i + j] = values.at[j];
        }
    }
}

template <int width, typename T> static __device__ inline void lors_write(T *to, const T *from)
{
    constexpr int part = 16 / (int)sizeof(T);
#pragma unroll
    for (int i = 0; i < width; i += part) {
        lors_quad<T> values;
#pragma unroll
        for (int j = 0; j < part; j++) {
            values.at[j] = from[i + j];
        }
        *reinterpret_cast<lors_quad<T> *>(to + i) = values;
    }
}

/* The sum of a value of each thread, by a fixed tree; the same for all of them. Every thread of
 * the block comes here; whole warps only. */
static __device__ inline double lors_block_sum(double value)
{
    __shared__ double warps[LORS_WARPS];
    for (int lanes = LORS_WARP / 2; lanes > 0; lanes /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, lanes);
    }
    __syncthreads(); /* the last sum may still be read */
    if (threadIdx.x % LORS_WARP == 0) {
        warps[threadIdx.x / LORS_WARP] = value;
    }
    __syncthreads();
    double sum = warps[0];
    for (unsigned warp = 1; warp < blockDim.x / LORS_WARP; warp++) {
        sum += warps[warp];
    }
    return sum;
}

/* The sums over the lanes of a warp of n values each (a multiple of 32): afterwards lane i has
 * those of values i * n/32 and following in v[0 .. n/32 - 1]. Each exchange halves what a lane is
 * in charge of, so that there are n - 1 of them and not 5 n. */
template <int lanes, int n, typename T> static __device__ inline void lors_sum_lanes(T *v)
{
    bool upper = (threadIdx.x & lanes) != 0;
#pragma unroll
    for (int i = 0; i < n / 2; i++) {
        T keep = upper ? v[i + n / 2] : v[i], give = upper ? v[i] : v[i + n / 2];
        v[i] = keep + __shfl_xor_sync(0xffffffffu, give, lanes);
    }
    if constexpr (lanes > 1) {
        lors_sum_lanes<lanes / 2, n / 2, T>(v);
    }
}

/* Sums over columns begin .. end - 1 of x[first + r][column] * in[column][c], by a warp: each lane
 * sums every 32nd column. Of the LORS_WARP_ROWS * width values r * width + c, lane i then has the
 * i-th of 32 equal shares in sums[0], ... Rows past the last are taken for the last. */
template <int width, typename T>
static __device__ inline void lors_multiply_rows(T *sums, const float *x, int64_t n_rows,
                                                 int64_t n_cols, int64_t first, int64_t begin,
                                                 int64_t end, const T *in, int64_t ld)
{
    const float *row[LORS_WARP_ROWS];
#pragma unroll
    for (int r = 0; r < LORS_WARP_ROWS; r++) {
        row[r] = x + (first + r < n_rows ? first + r : n_rows - 1) * n_cols;
    }
#pragma unroll
    for (int i = 0; i < LORS_WARP_ROWS * width; i++) {
        sums[i] = 0;
    }
#pragma unroll 2
    for (int64_t at = begin + threadIdx.x % LORS_WARP; at < end; at += LORS_WARP) {
        T value[LORS_WARP_ROWS];
#pragma unroll
        for (int r = 0; r < LORS_WARP_ROWS; r++) {
            value[r] = (T)row[r][at];
        }
#pragma unroll
        for (int group = 0; group < width; group += LORS_PANEL) {
            T factor[LORS_PANEL];
            lors_read<LORS_PANEL>(factor, in + at * ld + group);
#pragma unroll
            for (int i = 0; i < LORS_WARP_ROWS * LORS_PANEL; i++) {
                int to = i / LORS_PANEL * width + group + i % LORS_PANEL;
                sums[to] = lors_fused(value[i / LORS_PANEL], factor[i % LORS_PANEL], sums[to]);
            }
        }
    }
    lors_sum_lanes<LORS_WARP / 2, LORS_WARP_ROWS * width, T>(sums);
}

/* sums[c] += x[row][0] * in[row][c] over n rows of x, one after another; by one thread, whose
 * column x points to. `in` is in shared memory. */
template <int width, typename T>
static __device__ inline void lors_multiply_column(T *sums, const float *x, int64_t n_cols, int n,
                                                   const T *in)
{
#pragma unroll 8
    for (int row = 0; row < n; row++) {
        T value = (T)x[row * n_cols];
#pragma unroll
        for (int c = 0; c < width; c++) {
            sums[c] = lors_fused(value, in[row * width + c], sums[c]);
        }
    }
}

#endif

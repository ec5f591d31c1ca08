/* product_tiles.h - pieces of kernels that multiply dense matrices in f64, by tiles: each number is
 * one sum over the whole length, in order, whatever the grid.
 */
#ifndef LORS_CUDA_PRODUCT_TILES_H
#define LORS_CUDA_PRODUCT_TILES_H

#include "cuda/low_rank.h"

enum {
    TILE = 64,  /* rows and columns of a tile: those of a thread are 16 apart */
    DEPTH = 16, /* terms of its sums in shared memory at a time */
    SHARE = 4,  /* rows, and columns, of a thread */
    APART = TILE / SHARE
};

/* A factor of a product: element (k, i), k being what is summed over. */
typedef struct operand {
    const float *x; /* or, where it is NULL, v */
    const double *v;
    int64_t k_step, i_step, n;
} operand;

typedef struct tile_memory {
    double left[DEPTH][TILE + 1], right[DEPTH][TILE + 1];
} tile_memory;

/* Neighbouring threads read neighbouring elements, whichever way the factor lies. */
static __device__ void load_tile(double (*to)[TILE + 1], const operand &from, int64_t k,
                                 int64_t n_k, int64_t first)
{
    bool along_k = from.k_step == 1 && from.i_step != 1;
    for (int at = (int)threadIdx.x; at < DEPTH * TILE; at += LORS_THREADS) {
        int depth = along_k ? at % DEPTH : at / TILE, i = along_k ? at / DEPTH : at % TILE;
        bool inside = k + depth < n_k && first + i < from.n;
        int64_t place = (k + depth) * from.k_step + (first + i) * from.i_step;
        to[depth][i] = !inside ? 0 : from.x ? (double)from.x[place] : from.v[place];
    }
}

/* sums[i][j] = sum over k of left(k, row + 16 i) * right(k, column + 16 j). */
static __device__ void multiply(double (*sums)[SHARE], tile_memory *m, const operand &left,
                                const operand &right, int64_t n_k, int64_t row, int64_t column)
{
    int of_row = (int)threadIdx.x / APART, of_column = (int)threadIdx.x % APART;
    for (int64_t k = 0; k < n_k; k += DEPTH) {
        __syncthreads();
        load_tile(m->left, left, k, n_k, row);
        load_tile(m->right, right, k, n_k, column);
        __syncthreads();
#pragma unroll 4
        for (int depth = 0; depth < DEPTH; depth++) {
            double a[SHARE], b[SHARE];
#pragma unroll
            for (int i = 0; i < SHARE; i++) {
                a[i] = m->left[depth][of_row + i * APART];
                b[i] = m->right[depth][of_column + i * APART];
            }
#pragma unroll
            for (int i = 0; i < SHARE * SHARE; i++) {
                sums[i / SHARE][i % SHARE] =
                    __fma_rn(a[i / SHARE], b[i % SHARE], sums[i / SHARE][i % SHARE]);
            }
        }
    }
}

#endif

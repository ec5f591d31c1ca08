/* lane_sums.h - sums in eight f64 lanes by one thread block: as the CPU makes them. */
#ifndef LORS_CUDA_LANE_SUMS_H
#define LORS_CUDA_LANE_SUMS_H

#include "cuda/launch.h"

enum {
    LANE_THREADS = 256, /* of a thread block that sums */
    LANES = 8,          /* of a sum: part of the definition */
    LANE_TILE = 1024,   /* elements whose terms are in shared memory at a time */
    LANE_STEPS = LANE_TILE / LANE_THREADS
};

template <int n_sums> struct lane_sums {
    double terms[n_sums][LANE_TILE + LANES]; /* padded against bank clashes */
    double lanes[n_sums][LANES];
};

/* Sums over elements first .. end - 1 (a block of LORS_BLOCK, a row) by one thread block:
 * `term(t, i)` gives the terms of element i. Lane l of each sum takes elements l, l + 8, ... in
 * order, by one thread. `out` may be shared: it is there when the call returns. */
template <int n_sums, typename F>
static __device__ void sum_block(lane_sums<n_sums> *sums, int64_t first, int64_t end, const F &term,
                                 double *out)
{
    int which = (int)threadIdx.x / LANES, lane = (int)threadIdx.x % LANES;
    double sum = 0;
    for (int64_t tile = first; tile < end; tile += LANE_TILE) {
        for (int j = 0; j < LANE_STEPS; j++) {
            int at = j * LANE_THREADS + (int)threadIdx.x;
            double terms[n_sums] = {}; /* 0 past the end, which changes no sum */
            if (tile + at < end) {
                term(terms, tile + at);
            }
            for (int s = 0; s < n_sums; s++) {
                sums->terms[s][at] = terms[s];
            }
        }
        __syncthreads();
        for (int i = lane; i < LANE_TILE && which < n_sums; i += LANES) {
            sum += sums->terms[which][i];
        }
        __syncthreads();
    }
    if (which < n_sums) {
        sums->lanes[which][lane] = sum;
    }
    __syncthreads();
    if (threadIdx.x < n_sums) { /* folded as the CPU folds its lanes */
        const double *v = sums->lanes[threadIdx.x];
        out[threadIdx.x] = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
    }
    __syncthreads();
}

#endif

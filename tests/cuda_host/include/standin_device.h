/* standin_device.h - stand-in for CUDA's device language: qualifiers, indices, warps, atomics.
 *
 * CUDA threads of a block are fibers; one block runs at a time. Included by cuda_runtime.h.
 */
#ifndef LORS_STANDIN_DEVICE_H
#define LORS_STANDIN_DEVICE_H

#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <math.h> /* isnan() and the like without std:: */
#include <stdlib.h>

#define __global__
#define __device__
#define __host__
#define __constant__
/* The tag goes into the symbol's name: that is how the stand-in finds shared arrays, to fill them
 * with poison before every block. "used" keeps the compiler from knowing what is in them. */
#define __shared__ static __attribute__((abi_tag("standin_shared"), used))
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define STANDIN_DEVICE __attribute__((visibility("default")))

/* Of the CUDA thread that runs; every switch of fibers sets threadIdx. */
extern STANDIN_DEVICE uint3 threadIdx;
extern STANDIN_DEVICE uint3 blockIdx;
extern STANDIN_DEVICE dim3 blockDim;
extern STANDIN_DEVICE dim3 gridDim;
constexpr int warpSize = 32;

/* The block's barrier; threads must come from the same line. */
enum standin_barrier_kind { STANDIN_PLAIN, STANDIN_OR, STANDIN_AND, STANDIN_COUNT };
STANDIN_DEVICE int standin_barrier(int kind, int predicate, int line);

/* The warp's meetings. A shuffle returns the value of lane `source`, a ballot the lanes whose
 * value is not 0, a synchronisation nothing. */
enum standin_warp_kind { STANDIN_SYNC, STANDIN_SHUFFLE, STANDIN_BALLOT };
STANDIN_DEVICE uint64_t standin_warp(int kind, unsigned mask, uint64_t value, int source, int line);
STANDIN_DEVICE int standin_lane(void);

STANDIN_DEVICE void standin_fence(void);
STANDIN_DEVICE void standin_observe_fence(void);
extern STANDIN_DEVICE bool standin_fenced;

inline void __syncthreads(int line = __builtin_LINE())
{
    standin_barrier(STANDIN_PLAIN, 0, line);
}

inline int __syncthreads_or(int predicate, int line = __builtin_LINE())
{
    return standin_barrier(STANDIN_OR, predicate, line);
}

inline int __syncthreads_and(int predicate, int line = __builtin_LINE())
{
    return standin_barrier(STANDIN_AND, predicate, line);
}

inline int __syncthreads_count(int predicate, int line = __builtin_LINE())
{
    return standin_barrier(STANDIN_COUNT, predicate, line);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE())
{
    standin_warp(STANDIN_SYNC, mask, 0, 0, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return static_cast<unsigned>(standin_warp(STANDIN_BALLOT, mask, predicate != 0, 0, line));
}

inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return standin_warp(STANDIN_BALLOT, mask, predicate != 0, 0, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return standin_warp(STANDIN_BALLOT, mask, predicate == 0, 0, line) == 0;
}

/* Any set of lanes that holds the caller would be right: the smallest one shows wrong hopes. */
inline unsigned __activemask(void)
{
    return 1u << standin_lane();
}

template <class T> inline T standin_shuffle(unsigned mask, T value, int source, int line)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves 4 or 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = standin_warp(STANDIN_SHUFFLE, mask, bits, source, line);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
                     int line = __builtin_LINE())
{
    int lane = standin_lane();
    return standin_shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), line);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                        int line = __builtin_LINE())
{
    int lane = standin_lane(), first = lane & ~(width - 1);
    int source = lane - static_cast<int>(delta);
    return standin_shuffle(mask, value, source < first ? lane : source, line);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                          int line = __builtin_LINE())
{
    int lane = standin_lane(), last = lane | (width - 1);
    int source = lane + static_cast<int>(delta);
    return standin_shuffle(mask, value, source > last ? lane : source, line);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize,
                         int line = __builtin_LINE())
{
    int lane = standin_lane(), last = lane | (width - 1);
    int source = lane ^ lanes;
    return standin_shuffle(mask, value, source > last ? lane : source, line);
}

inline void __threadfence(void)
{
    standin_fence();
}

inline void __threadfence_block(void)
{
    standin_fence();
}

#include "standin_atomics.h"
#include "standin_math.h"
#include "standin_vectors.h"

#endif

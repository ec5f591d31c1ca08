/* rng.h - Philox 4x32-10 (Salmon et al., SC 2011): random numbers as a function of key and counter.
 *
 * The one header that every backend compiles, so that masks and start blocks are the same bits
 * everywhere, whatever the thread, tile or device. C11 and CUDA C++.
 */
#ifndef LORS_BASE_RNG_H
#define LORS_BASE_RNG_H

#include <stdint.h>

#ifdef __CUDACC__
#define LORS_RNG_FN static __host__ __device__ inline
#else
#define LORS_RNG_FN static inline
#endif

typedef struct lors_philox {
    uint32_t word[4];
} lors_philox;

/* The 128 random bits of `counter` under `key`. */
LORS_RNG_FN lors_philox lors_philox_at(uint64_t key, uint64_t counter_low, uint64_t counter_high)
{
    uint32_t c0 = (uint32_t)counter_low, c1 = (uint32_t)(counter_low >> 32);
    uint32_t c2 = (uint32_t)counter_high, c3 = (uint32_t)(counter_high >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t next0 = (uint32_t)(b >> 32) ^ c1 ^ k0, next2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = next0;
        c2 = next2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    lors_philox out = {{c0, c1, c2, c3}};
    return out;
}

#endif

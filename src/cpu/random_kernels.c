/* random_kernels.c - random masks and words, four counters of four words at a time. */
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"

enum { COUNTERS = 4, STEP = 4 * COUNTERS };

/* A 32-bit word in each; what is above it is anything. */
typedef uint64_t words __attribute__((vector_size(8 * COUNTERS)));

static inline void multiply(words *out, const words *a, const words *b)
{
#ifdef __AVX2__
    *out = (words)_mm256_mul_epu32((__m256i)*a, (__m256i)*b);
#else
    words low = (words){0} + 0xffffffffu;
    *out = (*a & low) * (*b & low);
#endif
}

/* lors_philox_at for counters `first` .. first + COUNTERS - 1. */
static inline void philox(words c[4], uint64_t key, uint64_t first)
{
    words zero = {0}, by_a = zero + 0xD2511F53u, by_b = zero + 0xCD9E8D57u;
    words counter = first + (words){0, 1, 2, 3};
    uint64_t k0 = key & 0xffffffffu, k1 = key >> 32;
    c[0] = counter;
    c[1] = counter >> 32;
    c[2] = c[3] = zero;
    for (int round = 0; round < 10; round++) {
        words a, b;
        multiply(&a, &c[0], &by_a);
        multiply(&b, &c[2], &by_b);
        c[0] = (b >> 32) ^ c[1] ^ k0;
        c[2] = (a >> 32) ^ c[3] ^ k1;
        c[1] = b;
        c[3] = a;
        k0 = (k0 + 0x9E3779B9u) & 0xffffffffu;
        k1 = (k1 + 0xBB67AE85u) & 0xffffffffu;
    }
}

/* The elements of counters group .. : a byte of each of the four words. */
static inline void mask_step(uint8_t mask[STEP], uint64_t key, uint64_t group, uint64_t limit)
{
    words c[4], low = (words){0} + 0xffffffffu, kept = {0};
    philox(c, key, group);
    for (int word = 0; word < 4; word++) {
        words below = (words)((c[word] & low) < limit);
        kept |= below & ((words){0} + ((uint64_t)1 << (8 * word)));
    }
    for (int counter = 0; counter < COUNTERS; counter++) {
        uint32_t four = (uint32_t)kept[counter];
        memcpy(mask + 4 * counter, &four, sizeof four);
    }
}

void LORS_KERNEL(random_mask)(uint8_t *mask, uint64_t key, uint64_t limit, uint64_t first,
                              int64_t n)
{
    uint8_t some[STEP];
    int64_t at = -(int64_t)(first % 4);
    for (uint64_t group = first / 4; at < n; group += COUNTERS, at += STEP) {
        if (at >= 0 && at + STEP <= n) {
            mask_step(mask + at, key, group, limit);
            continue;
        }
        mask_step(some, key, group, limit);
        for (int64_t i = 0; i < STEP; i++) {
            if (at + i >= 0 && at + i < n) {
                mask[at + i] = some[i];
            }
        }
    }
}

static inline void words_step(uint32_t out[STEP], uint64_t key, uint64_t group)
{
    words c[4];
    philox(c, key, group);
    for (int i = 0; i < STEP; i++) {
        out[i] = (uint32_t)c[i % 4][i / 4];
    }
}

void LORS_KERNEL(random_words)(uint32_t *out, uint64_t key, uint64_t first, int64_t n)
{
    uint32_t some[STEP];
    int64_t at = -(int64_t)(first % 4);
    for (uint64_t group = first / 4; at < n; group += COUNTERS, at += STEP) {
        if (at >= 0 && at + STEP <= n) {
            words_step(out + at, key, group);
            continue;
        }
        words_step(some, key, group);
        for (int64_t i = 0; i < STEP; i++) {
            if (at + i >= 0 && at + i < n) {
                out[at + i] = some[i];
            }
        }
    }
}

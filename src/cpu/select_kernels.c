/* select_kernels.c - loops over the magnitudes of a selection: counting bins, ties, and masks. */
#include <string.h>

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

enum {
    BINS = LORS_SELECT_BINS,
    LATER_BINS = 1 << 10,
    INFINITE_BIN = 2040, /* of the first pass: infinity and some NaN; above it there are only NaN */
    LINE = 16,           /* values of a cache line */
    AHEAD = 1024,        /* how far they are fetched ahead: to the next pages, too */
    SPAN = 1024          /* values whose matches are gathered before they are counted */
};

/* --- the first pass: everything --------------------------------------------------------------- */

/* Four tables: the same bin twice in a row would wait for its own store. */
static void count_all(uint32_t counts[BINS], const float *x, int64_t n)
{
    uint32_t tables[4][BINS];
    memset(tables, 0, sizeof tables);
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) {
        __builtin_prefetch(x + i + AHEAD);
        for (int64_t j = i; j < i + LINE; j += 4) {
            uint64_t pair[2];
            memcpy(pair, x + j, sizeof pair);
            tables[0][pair[0] >> 20 & (BINS - 1)]++;
            tables[1][pair[0] >> 52 & (BINS - 1)]++;
            tables[2][pair[1] >> 20 & (BINS - 1)]++;
            tables[3][pair[1] >> 52 & (BINS - 1)]++;
        }
    }
    for (; i < n; i++) {
        tables[0][lors_key_of(x[i]) >> 20]++;
    }
    for (int bin = 0; bin < BINS; bin++) {
        counts[bin] = (tables[0][bin] + tables[1][bin]) + (tables[2][bin] + tables[3][bin]);
    }
}

/* NaN does not count: rare, and looked for only where its bins are not empty. */
static void leave_out_nan(uint32_t counts[BINS], const float *x, int64_t n)
{
    uint32_t found = 0, n_infinite = 0;
    for (int bin = INFINITE_BIN; bin < BINS; bin++) {
        found += counts[bin];
    }
    for (int64_t i = 0; i < n && found > 0; i++) {
        n_infinite += lors_key_of(x[i]) == LORS_NAN_KEY - 1;
    }
    memset(counts + INFINITE_BIN, 0, (BINS - INFINITE_BIN) * sizeof *counts);
    counts[INFINITE_BIN] = n_infinite;
}

/* --- the passes over what is left ------------------------------------------------------------- */

#ifdef __AVX2__

/* Row m: the places of the ones of m, lowest first, a byte each. */
#define ONE(m, i) ((uint64_t)((m) >> (i)&1))
#define BELOW1(m) ONE(m, 0)
#define BELOW2(m) (BELOW1(m) + ONE(m, 1))
#define BELOW3(m) (BELOW2(m) + ONE(m, 2))
#define BELOW4(m) (BELOW3(m) + ONE(m, 3))
#define BELOW5(m) (BELOW4(m) + ONE(m, 4))
#define BELOW6(m) (BELOW5(m) + ONE(m, 5))
#define BELOW7(m) (BELOW6(m) + ONE(m, 6))
#define PLACE(m, i) (ONE(m, i) * (i) << 8 * BELOW##i(m))
#define ROW(m) \
    (PLACE(m, 1) | PLACE(m, 2) | PLACE(m, 3) | PLACE(m, 4) | PLACE(m, 5) | PLACE(m, 6) | \
     PLACE(m, 7))
#define ROWS4(m) ROW(m), ROW((m) + 1), ROW((m) + 2), ROW((m) + 3)
#define ROWS16(m) ROWS4(m), ROWS4((m) + 4), ROWS4((m) + 8), ROWS4((m) + 12)
#define ROWS64(m) ROWS16(m), ROWS16((m) + 16), ROWS16((m) + 32), ROWS16((m) + 48)
static const uint64_t places[256] = {ROWS64(0), ROWS64(64), ROWS64(128), ROWS64(192)};

static inline __m256i keys_at(const float *x)
{
    __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)x);
    return _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
}

/* Behind keys[count], those of 8 that match; 8 places are written. */
static inline int64_t append_matches(uint32_t *keys, int64_t count, __m256i key, __m256i match)
{
    int mask = _mm256_movemask_ps(_mm256_castsi256_ps(match));
    __m128i row = _mm_loadl_epi64((const __m128i *)(const void *)&places[mask]);
    __m256i order = _mm256_cvtepu8_epi32(row);
    __m256i packed = _mm256_permutevar8x32_epi32(key, order);
    _mm256_storeu_si256((__m256i *)(void *)(keys + count), packed);
    return count + __builtin_popcount((unsigned)mask);
}

/* The keys of x that begin with the known bits; room for n + 8. Most groups hold none in the last
 * passes. */
static int64_t matching_keys(uint32_t *keys, const float *x, int64_t n, int known_shift,
                             uint32_t known)
{
    __m256i wanted = _mm256_set1_epi32((int)known);
    __m128i shift = _mm_cvtsi32_si128(known_shift);
    int64_t count = 0, i = 0;
    for (; i + 32 <= n; i += 32) {
        __builtin_prefetch(x + i + AHEAD);
        __builtin_prefetch(x + i + AHEAD + LINE);
        __m256i key[4], match[4];
        for (int v = 0; v < 4; v++) {
            key[v] = keys_at(x + i + 8 * v);
            match[v] = _mm256_cmpeq_epi32(_mm256_srl_epi32(key[v], shift), wanted);
        }
        __m256i any = _mm256_or_si256(_mm256_or_si256(match[0], match[1]),
                                      _mm256_or_si256(match[2], match[3]));
        if (_mm256_testz_si256(any, any)) {
            continue;
        }
        for (int v = 0; v < 4; v++) {
            count = append_matches(keys, count, key[v], match[v]);
        }
    }
    for (; i < n; i++) {
        keys[count] = lors_key_of(x[i]);
        count += keys[count] >> known_shift == known;
    }
    return count;
}

#else

static int64_t matching_keys(uint32_t *keys, const float *x, int64_t n, int known_shift,
                             uint32_t known)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        keys[count] = lors_key_of(x[i]);
        count += keys[count] >> known_shift == known;
    }
    return count;
}

#endif

/* Bins of the next ten bits of those keys that begin with the known ones. */
static void count_known(uint32_t counts[BINS], const float *x, int64_t n, int32_t pass,
                        uint32_t known)
{
    uint32_t keys[SPAN + 8];
    int shift = lors_select_shift(pass);
    memset(counts, 0, LATER_BINS * sizeof *counts);
    for (int64_t i = 0; i < n; i += SPAN) {
        int64_t count = n - i < SPAN ? n - i : SPAN;
        int64_t n_keys = matching_keys(keys, x + i, count, shift + 10, known);
        for (int64_t k = 0; k < n_keys; k++) {
            counts[keys[k] >> shift & (LATER_BINS - 1)] += keys[k] < LORS_NAN_KEY;
        }
    }
}

void LORS_KERNEL(select_bins)(uint32_t counts[BINS], const float *x, int64_t n, int32_t pass,
                              uint32_t known)
{
    if (pass == 0) {
        count_all(counts, x, n);
        leave_out_nan(counts, x, n);
    } else {
        count_known(counts, x, n, pass, known);
    }
}

uint32_t LORS_KERNEL(select_ties)(const float *x, int64_t n, uint32_t key)
{
    uint32_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        count += lors_key_of(x[i]) == key;
    }
    return count;
}

void LORS_KERNEL(select_mask)(uint8_t *restrict mask, const float *restrict x, int64_t n,
                              uint32_t least)
{
    int32_t below = (int32_t)least - 1, above = LORS_NAN_KEY;
    for (int64_t i = 0; i < n; i++) {
        int32_t key = (int32_t)lors_key_of(x[i]);
        mask[i] = (key > below) & (key < above);
    }
}

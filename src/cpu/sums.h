/* sums.h - a weighted sum as plain arrays, a few elements at a time; only for files *_kernels.c. */
#ifndef LORS_CPU_SUMS_H
#define LORS_CPU_SUMS_H

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

/* A lors_sum without its models of weight 0, which leave no trace. */
typedef struct lors_cpu_sum {
    const float *stack, *base, *low; /* NULL: absent */
    const uint8_t *masks;
    const int8_t *signs;
    int32_t n_models;
    int64_t slices[LORS_MAX_MODELS]; /* where each model's slice begins */
    double weights[LORS_MAX_MODELS], shares[LORS_MAX_MODELS];
} lors_cpu_sum;

/* As wide as the processor's vectors: what is wider the compiler takes through memory. */
#ifdef __AVX__
enum { LORS_WIDE = 4 };
#else
enum { LORS_WIDE = 2 };
#endif
typedef double lors_wide __attribute__((vector_size(8 * LORS_WIDE)));
typedef float lors_slim __attribute__((vector_size(4 * LORS_WIDE)));
typedef int64_t lors_flags __attribute__((vector_size(8 * LORS_WIDE))); /* all ones, or zeros */
typedef int32_t lors_slim_flags __attribute__((vector_size(4 * LORS_WIDE)));
typedef uint8_t lors_bytes __attribute__((vector_size(LORS_WIDE)));
typedef int8_t lors_signs __attribute__((vector_size(LORS_WIDE)));

static inline void lors_widen(lors_wide *out, const lors_slim *x)
{
#ifdef __AVX__
    *out = (lors_wide)_mm256_cvtps_pd((__m128)*x);
#else
    *out = __builtin_convertvector(*x, lors_wide);
#endif
}

static inline void lors_wide_magnitude(lors_wide *out, const lors_wide *x)
{
    lors_flags sign = (lors_flags){0} + INT64_MIN;
    *out = (lors_wide)((lors_flags)*x & ~sign);
}

/* flags ? a : b */
static inline void lors_wide_choose(lors_wide *out, lors_flags flags, lors_wide a,
                                      lors_wide b)
{
    *out = (lors_wide)(((lors_flags)a & flags) | ((lors_flags)b & ~flags));
}

/* A vector of f32, or of zeros where there are none. */
static inline void lors_slim_load(lors_slim *out, const float *x)
{
    *out = (lors_slim){0};
    if (x) {
        memcpy(out, x, sizeof *out);
    }
}

/* Bytes, flags and numbers of one another: by the processor's conversions, where the compiler would
 * go element by element. */

/* Which bytes are not 0. */
static inline void lors_slim_flags_of(lors_slim_flags *flags, const uint8_t *bytes)
{
    lors_bytes some;
    memcpy(&some, bytes, sizeof some);
#ifdef __AVX__
    int32_t four;
    memcpy(&four, &some, sizeof four);
    __m128i wide = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
    *flags = (lors_slim_flags)_mm_cmpgt_epi32(wide, _mm_setzero_si128());
#else
    *flags = __builtin_convertvector(some, lors_slim_flags) != 0;
#endif
}

static inline void lors_wide_of_signs(lors_wide *out, const int8_t *signs)
{
    lors_signs some;
    memcpy(&some, signs, sizeof some);
#ifdef __AVX__
    int32_t four;
    memcpy(&four, &some, sizeof four);
    *out = (lors_wide)_mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
#else
    *out = __builtin_convertvector(some, lors_wide);
#endif
}

/* 1 where a flag is set, else -1. */
static inline void lors_signs_of_flags(int8_t *signs, const lors_flags *plus)
{
#ifdef __AVX__
    __m128i low = _mm256_castsi256_si128((__m256i)*plus);
    __m128i high = _mm256_extractf128_si256((__m256i)*plus, 1);
    __m128i four = _mm_packs_epi32(low, high);  /* 32 bits of each flag are left, */
    four = _mm_packs_epi32(four, four);         /* 16, */
    four = _mm_packs_epi16(four, four);         /* 8 */
    __m128i ones = _mm_set1_epi8(-1);
    int32_t bytes = _mm_cvtsi128_si32(_mm_or_si128(_mm_andnot_si128(four, ones),
                                                   _mm_set1_epi8(1)));
    memcpy(signs, &bytes, sizeof bytes);
#else
    for (int lane = 0; lane < LORS_WIDE; lane++) {
        signs[lane] = (*plus)[lane] ? 1 : -1;
    }
#endif
}

static inline void lors_wide_store(double *out, const lors_wide *x)
{
    memcpy(out, x, sizeof *x);
}

/* Elements are worked on in groups of two vectors: more do not fit registers with their sums. */
enum { LORS_VECTORS = 2, LORS_GROUP = LORS_WIDE * LORS_VECTORS };

static inline void lors_cpu_load_base(lors_slim base[LORS_VECTORS], const lors_cpu_sum *s,
                                      int64_t i)
{
    for (int v = 0; v < LORS_VECTORS; v++) {
        lors_slim_load(&base[v], s->base ? s->base + i + LORS_WIDE * v : NULL);
    }
}

/* Terms weight * (kept ? x - base : low) of a group. What is chosen among is f32: where nothing is
 * kept, low - 0 is low. `masked` is a constant: loops without masks do not ask for them. */
static inline __attribute__((always_inline)) void
lors_cpu_terms(lors_wide terms[LORS_VECTORS], const lors_cpu_sum *s, const bool masked,
               int32_t model, int64_t i, const lors_slim base[LORS_VECTORS])
{
    int64_t at = s->slices[model] + i;
    for (int v = 0; v < LORS_VECTORS; v++, at += LORS_WIDE) {
        lors_slim x, low, less = base[v];
        lors_wide wide;
        memcpy(&x, s->stack + at, sizeof x);
        if (masked) {
            lors_slim_flags kept;
            lors_slim_flags_of(&kept, s->masks + at);
            lors_slim_load(&low, s->low ? s->low + at : NULL);
            x = (lors_slim)(((lors_slim_flags)x & kept) | ((lors_slim_flags)low & ~kept));
            less = (lors_slim)((lors_slim_flags)less & kept);
        }
        lors_widen(&terms[v], &x);
        lors_widen(&wide, &less);
        terms[v] = s->weights[model] * (terms[v] - wide);
    }
}

/* lors_add_exactly, lors_with_lost of a vector of sums. */
static inline void lors_wide_add_exactly(lors_wide *sum, lors_wide *lost, lors_wide term)
{
    lors_wide total = *sum + term, part = total - *sum;
    *lost += (*sum - (total - part)) + (term - part);
    *sum = total;
}

static inline void lors_wide_with_lost(lors_wide *sum, const lors_wide *lost)
{
    lors_wide of_sum, of_lost, zero = {0}, infinity = zero + INFINITY;
    lors_flags is_finite, is_lost; /* NaN is lost only where the sum is not finite */
    lors_wide_magnitude(&of_sum, sum);
    lors_wide_magnitude(&of_lost, lost);
    is_finite = of_sum < infinity;
    is_lost = of_lost > zero;
    lors_wide_choose(sum, is_lost & is_finite, *sum + *lost, *sum);
}

#endif

/* lanes.h - sums in eight f64 lanes, in a fixed order; only for files *_kernels.c. */
#ifndef LORS_CPU_LANES_H
#define LORS_CPU_LANES_H

#include <stdint.h>
#include <string.h>

#ifdef __AVX__
#include <immintrin.h>
#endif

/* GCC and clang turn this into whatever vectors there are. */
typedef double lors_lanes4 __attribute__((vector_size(32)));
typedef float lors_narrow4 __attribute__((vector_size(16)));

/* Four at once; GCC 12 makes three instructions of what is one. */
static inline void lors_widen4(lors_lanes4 *out, const lors_narrow4 *x)
{
#ifdef __AVX__
    *out = (lors_lanes4)_mm256_cvtps_pd((__m128)*x);
#else
    *out = __builtin_convertvector(*x, lors_lanes4);
#endif
}

static inline void lors_narrow4_of(lors_narrow4 *out, const lors_lanes4 *x)
{
#ifdef __AVX__
    *out = (lors_narrow4)_mm256_cvtpd_ps((__m256d)*x);
#else
    *out = __builtin_convertvector(*x, lors_narrow4);
#endif
}

typedef struct lors_lanes8 {
    lors_lanes4 low, high;
} lors_lanes8;

static inline void lors_lanes8_load(lors_lanes8 *lanes, const double *x)
{
    memcpy(&lanes->low, x, sizeof lanes->low);
    memcpy(&lanes->high, x + 4, sizeof lanes->high);
}

/* 8 f32, widened. */
static inline void lors_lanes8_widen(lors_lanes8 *lanes, const float *x)
{
    lors_narrow4 low, high;
    memcpy(&low, x, sizeof low);
    memcpy(&high, x + 4, sizeof high);
    lors_widen4(&lanes->low, &low);
    lors_widen4(&lanes->high, &high);
}

/* n < 8 f32, widened; zeros for the others. */
static inline void lors_lanes8_widen_rest(lors_lanes8 *lanes, const float *x, int64_t n)
{
    float rest[8] = {0};
    memcpy(rest, x, (size_t)n * sizeof *x);
    lors_lanes8_widen(lanes, rest);
}

/* sum += a * b */
static inline void lors_lanes8_add(lors_lanes8 *sum, const lors_lanes8 *a, const lors_lanes8 *b)
{
    sum->low += a->low * b->low;
    sum->high += a->high * b->high;
}

static inline void lors_lanes8_subtract(lors_lanes8 *a, const lors_lanes8 *b)
{
    a->low -= b->low;
    a->high -= b->high;
}

/* Their sum, always in this order. */
static inline double lors_lanes8_fold(const lors_lanes8 *v)
{
    lors_lanes4 pairs = v->low + v->high;
    return (pairs[0] + pairs[2]) + (pairs[1] + pairs[3]);
}

#endif

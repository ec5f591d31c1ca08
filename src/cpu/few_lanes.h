/* few_lanes.h - vectors for products with a few columns; only for files *_kernels.c.
 *
 * The low-rank solvers promise bounds, not bits that are the same on every processor: here, and
 * only here, a product is fused with its sum where the processor can.
 */
#ifndef LORS_CPU_FEW_LANES_H
#define LORS_CPU_FEW_LANES_H

#include <stdint.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#define LORS_FUSED __attribute__((target("avx2,fma")))
#else
#define LORS_FUSED
#endif
/* All of them are inlined: no such vector is passed. */
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpsabi"
#endif
#define LORS_FUSED_INLINE static inline __attribute__((always_inline)) LORS_FUSED

typedef float lors_f32x8 __attribute__((vector_size(32)));
typedef double lors_f64x4 __attribute__((vector_size(32)));

LORS_FUSED_INLINE lors_f32x8 lors_f32x8_at(const float *x)
{
    lors_f32x8 v;
    memcpy(&v, x, sizeof v);
    return v;
}

LORS_FUSED_INLINE lors_f64x4 lors_f64x4_at(const double *x)
{
    lors_f64x4 v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* a * b + c */
LORS_FUSED_INLINE lors_f32x8 lors_f32x8_add(lors_f32x8 a, lors_f32x8 b, lors_f32x8 c)
{
#ifdef __AVX2__
    return (lors_f32x8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

LORS_FUSED_INLINE lors_f64x4 lors_f64x4_add(lors_f64x4 a, lors_f64x4 b, lors_f64x4 c)
{
#ifdef __AVX2__
    return (lors_f64x4)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

LORS_FUSED_INLINE lors_f32x8 lors_f32x8_all(float x)
{
    return (lors_f32x8){x, x, x, x, x, x, x, x};
}

LORS_FUSED_INLINE lors_f64x4 lors_f64x4_all(double x)
{
    return (lors_f64x4){x, x, x, x};
}

#endif

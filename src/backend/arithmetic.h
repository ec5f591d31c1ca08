/* arithmetic.h - the scalar formulas of the operations, which every backend compiles.
 *
 * What is promised to be the same bits everywhere is written once, here: widening, rounding,
 * two-sums, the order of magnitudes, random masks. C11 and CUDA C++; only + - * and comparisons on
 * f32 and f64, so that no compiler option but contraction and fast-math (never used) can change a
 * bit.
 */
#ifndef LORS_BACKEND_ARITHMETIC_H
#define LORS_BACKEND_ARITHMETIC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/rng.h"

#ifdef __CUDACC__
#define LORS_BOTH static __host__ __device__ inline
#else
#define LORS_BOTH static inline
#endif

LORS_BOTH uint32_t lors_bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

LORS_BOTH float lors_float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* --- Widening --------------------------------------------------------------------------------- */

/* f16 -> bits of the f32: exponent and fraction moved into place and rescaled by 2^112, which is
 * exact also for subnormals; the all-ones exponent (which lands at 2^16 or above) is put back to
 * all ones. A NaN keeps its payload. */
LORS_BOTH uint32_t lors_widen_f16(uint16_t in)
{
    uint32_t half = in;
    float scaled = lors_float_of((half & 0x7fffu) << 13) * 0x1p112f;
    uint32_t special = scaled >= 65536.0f ? 0x7f800000u : 0;
    return lors_bits_of(scaled) | special | (half & 0x8000u) << 16;
}

LORS_BOTH uint32_t lors_widen_bf16(uint16_t in)
{
    return (uint32_t)in << 16;
}

LORS_BOTH bool lors_is_finite_bits(uint32_t bits)
{
    return (bits & 0x7f800000u) != 0x7f800000u;
}

/* --- Rounding to a stored type ---------------------------------------------------------------- */

/* x rounded to nearest even at the precision of a type with `digits` significant bits and least
 * normal exponent `least`, as an f64 that this type holds exactly (or that lies beyond its range).
 * Adding and subtracting 1.5 * 2^52 units in the last place rounds in hardware, once. */
LORS_BOTH double lors_round_to(double x, int digits, double least)
{
    double magnitude = fabs(x);
    magnitude = magnitude > least ? magnitude : least;
    magnitude = magnitude < 0x1p200 ? magnitude : 0x1p200;
    uint64_t bits;
    memcpy(&bits, &magnitude, sizeof bits);
    bits &= 0x7ff0000000000000u;
    double power;
    memcpy(&power, &bits, sizeof power);
    double magic = power * (1.5 * (double)(1ull << (53 - digits)));
    double rounded = (x + magic) - magic;
    return copysign(rounded, x); /* -0 stays -0 */
}

LORS_BOTH double lors_round_f16(double x)
{
    return lors_round_to(x, 11, 0x1p-14);
}

LORS_BOTH double lors_round_bf16(double x)
{
    return lors_round_to(x, 8, 0x1p-126);
}

/* Bits of a value that f16 holds exactly, or infinity beyond its range; a NaN becomes the canonical
 * one. */
LORS_BOTH uint16_t lors_f16_bits(double rounded)
{
    float narrow = (float)rounded;
    uint32_t sign = lors_bits_of(narrow) >> 16 & 0x8000u;
    uint32_t magnitude = lors_bits_of(fabsf(narrow) * 0x1p-112f) >> 13;
    magnitude = fabsf(narrow) < 65536.0f ? magnitude : 0x7c00u;
    return (uint16_t)(narrow == narrow ? sign | magnitude : 0x7e00u);
}

LORS_BOTH uint16_t lors_bf16_bits(double rounded)
{
    float narrow = (float)rounded;
    return (uint16_t)(narrow == narrow ? lors_bits_of(narrow) >> 16 : 0x7fc0u);
}

LORS_BOTH uint32_t lors_f32_bits_canonical(float narrow)
{
    return narrow == narrow ? lors_bits_of(narrow) : 0x7fc00000u;
}

/* --- Sums ------------------------------------------------------------------------------------- */

/* A sum and what its roundings lost (Knuth's two-sum): together they do not depend on the order of
 * the terms, so that permuted models give the same bits. */
LORS_BOTH void lors_add_exactly(double *sum, double *lost, double term)
{
    double total = *sum + term, part = total - *sum;
    *lost += (*sum - (total - part)) + (term - part);
    *sum = total;
}

/* sum + lost, but infinite and NaN sums as they are (lost is NaN there), and -0 as it is. */
LORS_BOTH double lors_with_lost(double sum, double lost)
{
    double total = sum + lost;
    return lost == 0 || !(fabs(sum) < INFINITY) ? sum : total;
}

/* --- Selection -------------------------------------------------------------------------------- */

/* Magnitudes of floats order like their bits without the sign; NaN is LORS_NAN_KEY or above. */
#define LORS_NAN_KEY 0x7f800001u

LORS_BOTH uint32_t lors_key_of(float x)
{
    return lors_bits_of(x) & 0x7fffffffu;
}

/* How far a key is shifted in pass 0, 1, 2 of the selection: 11, 10 and 10 bits are looked at. */
LORS_BOTH int lors_select_shift(int pass)
{
    return pass == 0 ? 20 : pass == 1 ? 10 : 0;
}

/* --- Random masks ----------------------------------------------------------------------------- */

/* density in 32 bits: an element is kept where its random word is below. */
LORS_BOTH uint64_t lors_random_limit(double density)
{
    return density >= 1 ? 0x100000000ull : density <= 0 ? 0 : (uint64_t)(density * 0x1p32);
}

/* Is element `index` of the stream `key` kept? Four elements share one counter. */
LORS_BOTH bool lors_random_keep(uint64_t key, uint64_t index, uint64_t limit)
{
    return lors_philox_at(key, index / 4, 0).word[index % 4] < limit;
}

#endif

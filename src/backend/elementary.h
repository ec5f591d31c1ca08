/* elementary.h - exp, tanh, and the logarithm of a ratio in f64: the same bits of every compiler.
 *
 * libm's differ between libraries, and between a CPU and a GPU. These are fixed sequences of
 * + - * / and of bits, without branches, so that loops over them become vectors. Largest errors, in
 * units in the last place (tests/unit/test_elementary.c): exp 0.9, log_ratio 2.5, tanh 2.3. C11 and
 * CUDA C++.
 */
#ifndef LORS_BACKEND_ELEMENTARY_H
#define LORS_BACKEND_ELEMENTARY_H

#include "backend/arithmetic.h"

/* log(2) in two parts: products of the first with whole numbers below 2^11 are exact. */
#define LORS_LOG2_HIGH 0x1.62e42fefa38p-1
#define LORS_LOG2_LOW 0x1.ef35793c7673p-45

LORS_BOTH uint64_t lors_bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

LORS_BOTH double lors_double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* a + b x + c x^2 + d x^3: the two halves can be computed at once, and several of these. */
LORS_BOTH double lors_cubic(double a, double b, double c, double d, double x, double x2)
{
    return (a + b * x) + x2 * (c + d * x);
}

/* e^x = scale (1 + rest), scale a power of two, |rest| < 0.42; for x from -708 to 709. */
typedef struct lors_power {
    double scale, rest;
} lors_power;

/* x = k log(2) + r with whole k, |r| <= log(2) / 2; e^r - 1 = r + r^2 (1/2! + r/3! + ...), up to
 * r^11/13!, the next term being below 2^-57. The 12 lowest bits of k + 1.5 * 2^52 are k's. */
LORS_BOTH lors_power lors_power_of(double x)
{
    double shifted = x * 0x1.71547652b82fep+0 + 0x1.8p52, k = shifted - 0x1.8p52;
    double high = x - k * LORS_LOG2_HIGH, low = k * LORS_LOG2_LOW;
    double r = high - low, lost = (high - r) - low;
    double r2 = r * r, r4 = r2 * r2;
    double first = lors_cubic(1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, r, r2);
    double second = lors_cubic(1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, r, r2);
    double third = lors_cubic(1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800, r,
                              r2);
    double sum = first + r4 * (second + r4 * third);
    lors_power power = {lors_double_of((lors_bits_of_double(shifted) + 1023) << 52),
                        r + (lost + r2 * sum)};
    return power;
}

/* 0 below -708, infinity above 709: no subnormal results. */
LORS_BOTH double lors_exp(double x)
{
    lors_power power = lors_power_of(x);
    double value = power.scale + power.scale * power.rest;
    value = x < -708 ? 0 : value;
    return x > 709 ? (double)INFINITY : value;
}

/* (e^2x - 1) / (e^2x + 1), which from 22 on is 1. */
LORS_BOTH double lors_tanh(double x)
{
    double size = fabs(x);
    lors_power power = lors_power_of(2 * (size < 22 ? size : 22));
    double less = (power.scale - 1) + power.scale * power.rest;
    double value = copysign(less / (less + 2), x);
    return x == x ? value : x;
}

/* log(p / q) of positive numbers, the ratio neither subnormal nor infinite: p / q = 2^k (1 + f),
 * and log(1 + f) = 2 artanh(s), s = f / (2 + f), |s| < 0.172. Where k is 0, p - q is exact, so that
 * little is lost of ratios near 1. */
LORS_BOTH double lors_log_ratio(double p, double q)
{
    double ratio = p / q;
    uint64_t bits = lors_bits_of_double(ratio);
    uint64_t biased = (bits - 0x3fe6a09e667f3bcdu + ((uint64_t)1023 << 52)) >> 52; /* k + 1023 */
    double k = lors_double_of(biased | (uint64_t)0x433 << 52) - (0x1p52 + 1023);
    double m = lors_double_of(bits - ((biased - 1023) << 52));
    double f = biased == 1023 ? (p - q) / q : m - 1;
    double s = f / (2 + f), z = s * s;
    double z2 = z * z, z4 = z2 * z2;
    double first = lors_cubic(2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, z, z2);
    double second = lors_cubic(2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17, z, z2);
    double sum = first + z4 * (second + z4 * (2.0 / 19 + 2.0 / 21 * z));
    double value = k * LORS_LOG2_HIGH + (f - (s * (f - z * sum) - k * LORS_LOG2_LOW));
    return ratio == ratio ? value : ratio;
}

#endif

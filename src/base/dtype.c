/* dtype.c - the table of element types, and scalar conversions that round once, to nearest even. */
#include "base/dtype.h"

#include <strings.h>

typedef struct dtype_row {
    const char *name;
    int bits;
    bool floating;
} dtype_row;

static const dtype_row rows[LORS_DTYPE_COUNT] = {
#define DTYPE_ROW(name, text, bits, floating) [LORS_##name] = {text, bits, floating},
    LORS_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

static bool known(lors_dtype dtype)
{
    return (int)dtype >= 0 && (int)dtype < LORS_DTYPE_COUNT;
}

const char *lors_dtype_name(lors_dtype dtype)
{
    return known(dtype) ? rows[dtype].name : "unknown";
}

int lors_dtype_bits(lors_dtype dtype)
{
    return known(dtype) ? rows[dtype].bits : 0;
}

bool lors_dtype_is_float(lors_dtype dtype)
{
    return known(dtype) && rows[dtype].floating;
}

bool lors_dtype_merges(lors_dtype dtype)
{
    return dtype == LORS_F32 || dtype == LORS_F16 || dtype == LORS_BF16;
}

bool lors_dtype_find(const char *name, size_t n_bytes, lors_dtype *out)
{
    for (int i = 0; i < LORS_DTYPE_COUNT; i++) {
        if (strlen(rows[i].name) == n_bytes && memcmp(rows[i].name, name, n_bytes) == 0) {
            *out = (lors_dtype)i;
            return true;
        }
    }
    return false;
}

bool lors_dtype_parse_word(const char *word, lors_dtype *out)
{
    static const struct {
        const char *word;
        lors_dtype dtype;
    } words[] = {
        {"f32", LORS_F32},  {"float32", LORS_F32}, {"f16", LORS_F16},       {"float16", LORS_F16},
        {"half", LORS_F16}, {"bf16", LORS_BF16},   {"bfloat16", LORS_BF16},
    };
    word += strncasecmp(word, "torch.", 6) == 0 ? 6 : 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(word, words[i].word) == 0) {
            *out = words[i].dtype;
            return true;
        }
    }
    return false;
}

/* A subnormal f16 is fraction * 2^-24, a product that f32 holds exactly. */
float lors_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
    if (exponent == 0x1f) {
        return lors_f32_from_bits(fraction != 0 ? LORS_F32_NAN : sign | 0x7f800000u);
    }
    if (exponent == 0) {
        return lors_f32_from_bits(sign | lors_f32_bits((float)fraction * 0x1p-24f));
    }
    return lors_f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

float lors_bf16_to_f32(uint16_t half)
{
    bool nan = (half & 0x7fffu) > 0x7f80u;
    return lors_f32_from_bits(nan ? LORS_F32_NAN : (uint32_t)half << 16);
}

/* The bits of `value` in a format of 1 sign, n_exponent and n_fraction bits (IEEE layout), in
 * integers, so that neither the processor's rounding mode nor its flush-to-zero matters.
 * With the significand counted in the format's last places the exponent field follows by addition:
 * a carry out of the fraction moves it up, subnormal to normal and largest to infinity. */
static uint32_t narrow(double value, int n_exponent, int n_fraction)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = (uint32_t)(bits >> 63) << (n_exponent + n_fraction);
    uint32_t infinity = ((1u << n_exponent) - 1) << n_fraction;
    int exponent = (int)(bits >> 52 & 0x7ff);
    uint64_t significand = (bits & 0xfffffffffffffu) | 0x10000000000000u;
    if (exponent == 0x7ff) {
        bool nan = (bits & 0xfffffffffffffu) != 0;
        return nan ? infinity | 1u << (n_fraction - 1) : sign | infinity;
    }
    int field = exponent - 1023 + (1 << (n_exponent - 1)) - 1; /* exponent field of the result */
    int shift = 52 - n_fraction; /* from f64's last place to that of the result */
    if (field >= (1 << n_exponent) - 1) {
        return sign | infinity;
    }
    if (field < 1) { /* subnormal: last places stop shrinking */
        shift += 1 - field;
        field = 1;
    }
    if (exponent == 0 || shift > 53) { /* below half the least subnormal */
        return sign;
    }
    uint64_t kept = significand >> shift, half = (uint64_t)1 << (shift - 1);
    uint64_t rest = significand & (2 * half - 1);
    kept += rest > half || (rest == half && (kept & 1) != 0);
    return sign | (uint32_t)(((uint64_t)(field - 1) << n_fraction) + kept);
}

uint16_t lors_f64_to_f16(double value)
{
    return (uint16_t)narrow(value, 5, 10);
}

uint16_t lors_f64_to_bf16(double value)
{
    return (uint16_t)narrow(value, 8, 7);
}

uint32_t lors_f64_to_f32_bits(double value)
{
    return narrow(value, 8, 23);
}

/* ---- Numbers that are none ------------------------------------------------------------------- */

/* Of an element with its bits `flip` turned, all of `mask` are set: the exponent's, or those of the
 * only code for NaN. Most tensors hold none, so that the counting is all; with a known number of
 * elements at a time, and sums as wide as they, it is done in vectors at -O2. */
enum { AT_ONCE = 64 };
#define NONFINITE(name, type) \
    static uint64_t name(type *x, type flip, type mask, uint64_t n, bool zero, uint64_t *first) \
    { \
        uint64_t n_bad = 0, done = 0; \
        for (; done + AT_ONCE <= n; done += AT_ONCE) { \
            type n_here = 0; \
            for (int k = 0; k < AT_ONCE; k++) { \
                n_here = (type)(n_here + (((x[done + (uint64_t)k] ^ flip) & mask) == mask)); \
            } \
            n_bad += n_here; \
        } \
        for (; done < n; done++) { \
            n_bad += ((x[done] ^ flip) & mask) == mask; \
        } \
        for (uint64_t i = n, left = n_bad; i > 0 && left > 0; i--) { \
            if (((x[i - 1] ^ flip) & mask) == mask) { \
                *first = i - 1; \
                x[i - 1] = zero ? 0 : x[i - 1]; \
                left--; \
            } \
        } \
        return n_bad; \
    }
NONFINITE(nonfinite_8, uint8_t)
NONFINITE(nonfinite_16, uint16_t)
NONFINITE(nonfinite_32, uint32_t)
NONFINITE(nonfinite_64, uint64_t)

uint64_t lors_dtype_nonfinite(lors_dtype dtype, void *elements, uint64_t n, bool zero,
                              uint64_t *first)
{
    uint64_t n_bad;
    switch ((int)dtype) {
    case LORS_F8_E5M2: return nonfinite_8(elements, 0, 0x7c, n, zero, first);
    case LORS_F8_E4M3: return nonfinite_8(elements, 0, 0x7f, n, zero, first);
    case LORS_F8_E8M0: return nonfinite_8(elements, 0, 0xff, n, zero, first);
    case LORS_F8_E4M3FNUZ:
    case LORS_F8_E5M2FNUZ: return nonfinite_8(elements, 0x7f, 0xff, n, zero, first);
    case LORS_F16: return nonfinite_16(elements, 0, 0x7c00, n, zero, first);
    case LORS_BF16: return nonfinite_16(elements, 0, 0x7f80, n, zero, first);
    case LORS_F32: return nonfinite_32(elements, 0, 0x7f800000, n, zero, first);
    case LORS_F64: return nonfinite_64(elements, 0, 0x7ff0000000000000u, n, zero, first);
    case LORS_C64:
        n_bad = nonfinite_32(elements, 0, 0x7f800000, 2 * n, zero, first);
        *first /= n_bad > 0 ? 2 : 1;
        return n_bad;
    default: return 0; /* integers, and F4 and F6, which have no such codes */
    }
}

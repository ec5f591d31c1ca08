/* dtype.h - the element types of safetensors, and exact scalar conversions of those that merge. */
#ifndef LORS_BASE_DTYPE_H
#define LORS_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* X(enumerator, name in files, bits per element, is a floating type). Order: alignment order. */
#define LORS_DTYPE_LIST(X)               \
    X(BOOL, "BOOL", 8, false)            \
    X(F4, "F4", 4, true)                 \
    X(F6_E2M3, "F6_E2M3", 6, true)       \
    X(F6_E3M2, "F6_E3M2", 6, true)       \
    X(U8, "U8", 8, false)                \
    X(I8, "I8", 8, false)                \
    X(F8_E5M2, "F8_E5M2", 8, true)       \
    X(F8_E4M3, "F8_E4M3", 8, true)       \
    X(F8_E8M0, "F8_E8M0", 8, true)       \
    X(F8_E4M3FNUZ, "F8_E4M3FNUZ", 8, true) \
    X(F8_E5M2FNUZ, "F8_E5M2FNUZ", 8, true) \
    X(I16, "I16", 16, false)             \
    X(U16, "U16", 16, false)             \
    X(F16, "F16", 16, true)              \
    X(BF16, "BF16", 16, true)            \
    X(I32, "I32", 32, false)             \
    X(U32, "U32", 32, false)             \
    X(F32, "F32", 32, true)              \
    X(C64, "C64", 64, true)              \
    X(F64, "F64", 64, true)              \
    X(I64, "I64", 64, false)             \
    X(U64, "U64", 64, false)

typedef enum lors_dtype {
#define LORS_DTYPE_ENUM(name, text, bits, floating) LORS_##name,
    LORS_DTYPE_LIST(LORS_DTYPE_ENUM)
#undef LORS_DTYPE_ENUM
        LORS_DTYPE_COUNT
} lors_dtype;

const char *lors_dtype_name(lors_dtype dtype);
int lors_dtype_bits(lors_dtype dtype);
bool lors_dtype_is_float(lors_dtype dtype);
bool lors_dtype_merges(lors_dtype dtype); /* F32, F16, BF16 */
/* How many of n elements in memory are NaN or infinite, of C64 how many parts of them; F4 and F6
 * have neither. Codes as in the OCP formats (E8M0: 0xff) and, of FNUZ, 0x80. *first: the index of
 * the first of them. With `zero` all their bits become 0, which of E8M0 is 2^-127. */
uint64_t lors_dtype_nonfinite(lors_dtype dtype, void *elements, uint64_t n, bool zero,
                              uint64_t *first);
/* By the name in files ("BF16"); false if unknown. */
bool lors_dtype_find(const char *name, size_t n_bytes, lors_dtype *out);
/* By a user's word: f32 float32 torch.float32, f16 float16 half, bf16 bfloat16; any case. */
bool lors_dtype_parse_word(const char *word, lors_dtype *out);

/* Widening is exact; a NaN becomes the canonical quiet NaN. */
static inline float lors_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t lors_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float lors_f16_to_f32(uint16_t half);
float lors_bf16_to_f32(uint16_t half);
/* One rounding to nearest even, straight from double; overflow to infinity; canonical NaN. */
uint16_t lors_f64_to_f16(double value);
uint16_t lors_f64_to_bf16(double value);
uint32_t lors_f64_to_f32_bits(double value);

enum { LORS_F16_NAN = 0x7e00, LORS_BF16_NAN = 0x7fc0, LORS_F32_NAN = 0x7fc00000 };

#endif

/* convert_kernels.c - from storage types to f32, exactly, counting what is not finite. */
#include <string.h>

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

enum {
    LINE = 32,    /* values of 2 bytes in a cache line */
    BLOCK = 8192, /* values counted in one counter of 32 bits */
    AHEAD = 2048  /* values fetched ahead: the next tile of the same tensor, at the end of one */
};

static int64_t widen_f16_block(float *restrict out, const uint16_t *restrict in, int64_t n)
{
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = lors_widen_f16(in[i]);
        memcpy(&out[i], &bits, sizeof bits);
        count += !lors_is_finite_bits(bits);
    }
    return count;
}

#ifdef __AVX2__

/* By the processor's own conversion, which makes a signalling NaN quiet: where there is any, the
 * block is done again. */
static __attribute__((target("avx2,f16c"))) int64_t
widen_f16_quickly(float *restrict out, const uint16_t *restrict in, int64_t n)
{
    __m128i exponent = _mm_set1_epi16(0x7c00), found = _mm_setzero_si128();
    int64_t i = 0;
    for (; i + LINE <= n; i += LINE) {
        __builtin_prefetch(in + i + AHEAD);
        for (int64_t j = i; j < i + LINE; j += 8) {
            __m128i half = _mm_loadu_si128((const __m128i *)(const void *)(in + j));
            __m128i special = _mm_cmpeq_epi16(_mm_and_si128(half, exponent), exponent);
            found = _mm_or_si128(found, special);
            _mm256_storeu_ps(out + j, _mm256_cvtph_ps(half));
        }
    }
    if (!_mm_testz_si128(found, found)) {
        return widen_f16_block(out, in, n);
    }
    return widen_f16_block(out + i, in + i, n - i);
}

#else
#define widen_f16_quickly widen_f16_block
#endif

int64_t LORS_KERNEL(widen_f16)(float *out, const uint16_t *in, int64_t n)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        bad += widen_f16_quickly(out + i, in + i, n - i < BLOCK ? n - i : BLOCK);
    }
    return bad;
}

static int64_t widen_bf16_block(float *restrict out, const uint16_t *restrict in, int64_t n)
{
    int32_t count = 0;
    for (int64_t begin = 0; begin < n; begin += LINE) {
        int64_t end = begin + LINE < n ? begin + LINE : n;
        __builtin_prefetch(in + begin + AHEAD);
        for (int64_t i = begin; i < end; i++) {
            uint32_t bits = lors_widen_bf16(in[i]);
            memcpy(&out[i], &bits, sizeof bits);
            count += !lors_is_finite_bits(bits);
        }
    }
    return count;
}

int64_t LORS_KERNEL(widen_bf16)(float *out, const uint16_t *in, int64_t n)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        bad += widen_bf16_block(out + i, in + i, n - i < BLOCK ? n - i : BLOCK);
    }
    return bad;
}

static int64_t copy_block(float *restrict out, const float *restrict in, int64_t n)
{
    int32_t count = 0;
    for (int64_t begin = 0; begin < n; begin += LINE / 2) {
        int64_t end = begin + LINE / 2 < n ? begin + LINE / 2 : n;
        __builtin_prefetch(in + begin + AHEAD);
        for (int64_t i = begin; i < end; i++) {
            uint32_t bits = lors_bits_of(in[i]);
            memcpy(&out[i], &bits, sizeof bits);
            count += !lors_is_finite_bits(bits);
        }
    }
    return count;
}

int64_t LORS_KERNEL(copy_f32)(float *out, const float *in, int64_t n)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        bad += copy_block(out + i, in + i, n - i < BLOCK ? n - i : BLOCK);
    }
    return bad;
}

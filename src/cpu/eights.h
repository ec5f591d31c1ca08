/* eights.h - results rounded to their stored type by eights, with AVX2; only for files
 * *_kernels.c. */
#ifndef LORS_CPU_EIGHTS_H
#define LORS_CPU_EIGHTS_H

#ifdef __AVX2__

#include <immintrin.h>

typedef struct lors_eight {
    __m256d low, high;
} lors_eight;

static inline __m256d lors_zero4(__m256d x)
{
    return _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_EQ_OQ);
}

/* lors_round_to of four. */
static inline __m256d lors_round4(__m256d x, int digits, double least)
{
    __m256d sign = _mm256_set1_pd(-0.0), magnitude = _mm256_andnot_pd(sign, x);
    __m256d exponent = _mm256_castsi256_pd(_mm256_set1_epi64x(0x7ff0000000000000));
    magnitude = _mm256_max_pd(magnitude, _mm256_set1_pd(least));
    magnitude = _mm256_min_pd(magnitude, _mm256_set1_pd(0x1p200));
    __m256d power = _mm256_and_pd(magnitude, exponent);
    __m256d magic = _mm256_mul_pd(power, _mm256_set1_pd(1.5 * (double)(1ull << (53 - digits))));
    __m256d rounded = _mm256_sub_pd(_mm256_add_pd(x, magic), magic);
    return _mm256_or_pd(_mm256_andnot_pd(sign, rounded), _mm256_and_pd(sign, x));
}

static inline __m256 lors_narrow8(const lors_eight *x)
{
    return _mm256_set_m128(_mm256_cvtpd_ps(x->high), _mm256_cvtpd_ps(x->low));
}

static inline void lors_store8_f32(void *out, lors_eight *rounded, const lors_eight *exact)
{
    __m256 values = lors_narrow8(exact);
    _mm256_storeu_ps(out, values);
    rounded->low = _mm256_cvtps_pd(_mm256_castps256_ps128(values));
    rounded->high = _mm256_cvtps_pd(_mm256_extractf128_ps(values, 1));
}

/* What is rounded is exact in f16, so that the conversion has nothing left to decide. */
static inline __attribute__((target("avx2,f16c"))) void lors_store8_f16(void *out,
                                                                        lors_eight *rounded,
                                                                        const lors_eight *exact)
{
    rounded->low = lors_round4(exact->low, 11, 0x1p-14);
    rounded->high = lors_round4(exact->high, 11, 0x1p-14);
    _mm_storeu_si128(out, _mm256_cvtps_ph(lors_narrow8(rounded), _MM_FROUND_TO_NEAREST_INT));
}

static inline void lors_store8_bf16(void *out, lors_eight *rounded, const lors_eight *exact)
{
    rounded->low = lors_round4(exact->low, 8, 0x1p-126);
    rounded->high = lors_round4(exact->high, 8, 0x1p-126);
    __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(lors_narrow8(rounded)), 16);
    _mm_storeu_si128(
        out, _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1)));
}

#endif

#endif

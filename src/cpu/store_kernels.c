/* store_kernels.c - results rounded once to their stored type, and what that cost. */
#include <math.h>
#include <string.h>

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"
#include "cpu/eights.h"
#include "cpu/lanes.h"

enum { SPAN = 1024 }; /* elements of a block worked on at a time, in first-level cache */

static const double zeros[SPAN];

/* Exact results of a span: base + acc, but base itself where acc is 0. */
static void exact_of(double *restrict exact, const double *restrict acc, const float *restrict base,
                     int64_t n)
{
    if (!base) {
        memcpy(exact, acc, (size_t)n * sizeof *exact);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double b = base[i], sum = b + acc[i];
        exact[i] = acc[i] == 0 ? b : sum;
    }
}

/* Where all models hold the same bits, the result is what they hold. */
static void agree(double *restrict exact, const lors_cpu_store *models, int64_t first, int64_t n)
{
    uint32_t differing[SPAN];
    const float *x = models->stack + first;
    memset(differing, 0, (size_t)n * sizeof *differing);
    for (int32_t m = 1; m < models->n_models; m++) {
        const float *y = x + m * models->stride;
        for (int64_t i = 0; i < n; i++) {
            differing[i] |= lors_bits_of(x[i]) ^ lors_bits_of(y[i]);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        exact[i] = differing[i] ? exact[i] : (double)x[i];
    }
}

static void round_span(void *restrict out, double *restrict rounded, lors_dtype dtype,
                       const double *restrict exact, int64_t n)
{
    if (dtype == LORS_F32) {
        float *values = out;
        for (int64_t i = 0; i < n; i++) {
            float narrow = (float)exact[i];
            rounded[i] = narrow;
            uint32_t bits = lors_f32_bits_canonical(narrow);
            memcpy(&values[i], &bits, sizeof bits);
        }
    } else if (dtype == LORS_F16) {
        uint16_t *values = out;
        for (int64_t i = 0; i < n; i++) {
            rounded[i] = lors_round_f16(exact[i]);
            values[i] = lors_f16_bits(rounded[i]);
        }
    } else {
        uint16_t *values = out;
        for (int64_t i = 0; i < n; i++) {
            rounded[i] = lors_round_bf16(exact[i]);
            values[i] = lors_bf16_bits(rounded[i]);
        }
    }
}

/* Sums of squares of x - y in 8 lanes, folded in a fixed order: the same bits for any vector
 * width. */
static double sum_of_squares(const double *x, const double *y, int64_t n)
{
    lors_lanes8 sum = {0}, a, b;
    double rest[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        lors_lanes8_load(&a, x + i);
        lors_lanes8_load(&b, y + i);
        lors_lanes8_subtract(&a, &b);
        lors_lanes8_add(&sum, &a, &a);
    }
    for (int lane = 0; i < n; i++, lane++) {
        rest[lane] = x[i] - y[i];
    }
    lors_lanes8_load(&a, rest);
    lors_lanes8_add(&sum, &a, &a);
    return lors_lanes8_fold(&sum);
}

/* The rare span with a result that is not finite, or not after rounding: count them, and make them
 * zero, so that the sums leave them out. */
static void count_bad(lors_store_block *block, int64_t first, double *acc, double *exact,
                      double *rounded, int64_t n, double largest)
{
    for (int64_t i = 0; i < n; i++) {
        if (fabs(rounded[i]) <= largest) {
            continue;
        }
        if (block->n_nan + block->n_infinite + block->n_overflow == 0) {
            block->first_bad = (uint32_t)(first + i);
        }
        block->n_nan += isnan(exact[i]) != 0;
        block->n_infinite += isinf(exact[i]) != 0;
        block->n_overflow += isfinite(exact[i]) != 0;
        acc[i] = exact[i] = rounded[i] = 0;
    }
}

/* One span; its part is added to the block. `first` is its place in the block. */
static void store_span(void *out, lors_dtype dtype, const lors_cpu_store *from, int64_t first,
                       int64_t n, bool zero_nonfinite, lors_store_block *block)
{
    double exact[SPAN], rounded[SPAN];
    exact[0] = rounded[0] = 0; /* for compilers that cannot see that n > 0 */
    double largest = lors_cpu_largest(dtype);
    const double *acc = from->acc + first;
    const float *base = from->base ? from->base + first : NULL;
    exact_of(exact, acc, base, n);
    if (from->stack) {
        agree(exact, from, first, n);
    }
    round_span(out, rounded, dtype, exact, n);
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        bad += !(fabs(rounded[i]) <= largest);
    }
    if (bad == 0) {
        block->update += base ? sum_of_squares(acc, zeros, n) : 0;
        block->loss += sum_of_squares(rounded, exact, n);
        return;
    }
    double update[SPAN];
    memcpy(update, acc, (size_t)n * sizeof *update);
    count_bad(block, first, update, exact, rounded, n, largest);
    block->update += base ? sum_of_squares(update, zeros, n) : 0;
    block->loss += sum_of_squares(rounded, exact, n);
    if (zero_nonfinite) {
        round_span(out, rounded, dtype, exact, n); /* the bad ones are zero by now */
    }
}

#ifdef __AVX2__

/* --- the same by eights, where every result is finite ---------------------------------------- */

typedef struct tally {
    lors_eight update, loss;
    __m256d bad; /* not 0 where some result is not finite, or not after rounding */
} tally;

static inline __m256d exact4(__m256d acc, const float *base)
{
    __m256d b = _mm256_cvtps_pd(_mm_loadu_ps(base));
    return _mm256_blendv_pd(_mm256_add_pd(b, acc), b, lors_zero4(acc));
}

/* Where all models hold the same bits, the result is what they hold. */
static inline void agree8(lors_eight *exact, const lors_cpu_store *from, int64_t i)
{
    const float *x = from->stack + i;
    __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)x);
    __m256i differing = _mm256_setzero_si256();
    for (int32_t m = 1; m < from->n_models; m++) {
        const float *y = x + m * from->stride;
        __m256i other = _mm256_loadu_si256((const __m256i *)(const void *)y);
        differing = _mm256_or_si256(differing, _mm256_xor_si256(first, other));
    }
    __m256i same = _mm256_cmpeq_epi32(differing, _mm256_setzero_si256());
    __m256d low = _mm256_castsi256_pd(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(same)));
    __m256d high = _mm256_castsi256_pd(_mm256_cvtepi32_epi64(_mm256_extracti128_si256(same, 1)));
    exact->low = _mm256_blendv_pd(exact->low, _mm256_cvtps_pd(_mm_loadu_ps(x)), low);
    exact->high = _mm256_blendv_pd(exact->high, _mm256_cvtps_pd(_mm_loadu_ps(x + 4)), high);
}

static inline void add_square(__m256d *sum, __m256d x)
{
    *sum = _mm256_add_pd(*sum, _mm256_mul_pd(x, x));
}

static inline void tally4(__m256d *update, __m256d *loss, __m256d *bad, __m256d acc, __m256d exact,
                          __m256d rounded, __m256d largest)
{
    __m256d magnitude = _mm256_andnot_pd(_mm256_set1_pd(-0.0), rounded);
    *bad = _mm256_or_pd(*bad, _mm256_cmp_pd(magnitude, largest, _CMP_NLE_UQ));
    add_square(update, acc);
    add_square(loss, _mm256_sub_pd(rounded, exact));
}

/* Elements i .. i + 7, whose type is a constant. */
static inline __attribute__((always_inline, target("avx2,f16c"))) void store8(
    unsigned char *out, const lors_dtype dtype, const lors_cpu_store *from, int64_t i,
    __m256d largest, tally *t)
{
    __m256d low = _mm256_loadu_pd(from->acc + i), high = _mm256_loadu_pd(from->acc + i + 4);
    lors_eight exact = {low, high}, rounded;
    if (from->base) {
        exact.low = exact4(low, from->base + i);
        exact.high = exact4(high, from->base + i + 4);
    }
    if (from->stack) {
        agree8(&exact, from, i);
    }
    if (dtype == LORS_F32) {
        lors_store8_f32(out + 4 * i, &rounded, &exact);
    } else if (dtype == LORS_F16) {
        lors_store8_f16(out + 2 * i, &rounded, &exact);
    } else {
        lors_store8_bf16(out + 2 * i, &rounded, &exact);
    }
    tally4(&t->update.low, &t->loss.low, &t->bad, low, exact.low, rounded.low, largest);
    tally4(&t->update.high, &t->loss.high, &t->bad, high, exact.high, rounded.high, largest);
}

static inline double fold8(const lors_eight *x)
{
    lors_lanes8 lanes = {(lors_lanes4)x->low, (lors_lanes4)x->high};
    return lors_lanes8_fold(&lanes);
}

static inline __attribute__((always_inline, target("avx2,f16c"))) void store_eights(
    unsigned char *out, const lors_dtype dtype, const lors_cpu_store *from, int64_t n,
    double largest, tally *t)
{
    __m256d most = _mm256_set1_pd(largest);
    for (int64_t i = 0; i < n; i += 8) {
        store8(out, dtype, from, i, most, t);
    }
}

/* A span of eights, into which nothing but finite results go; false where there are others, and it
 * must be done by store_span. */
static __attribute__((target("avx2,f16c"))) bool store_quickly(void *out, lors_dtype dtype,
                                                               const lors_cpu_store *from,
                                                               int64_t n, lors_store_block *block)
{
    __m256d zero = _mm256_setzero_pd();
    tally t = {{zero, zero}, {zero, zero}, zero};
    if (n % 8 != 0) {
        return false;
    }
    if (dtype == LORS_F32) {
        store_eights(out, LORS_F32, from, n, lors_cpu_largest(LORS_F32), &t);
    } else if (dtype == LORS_F16) {
        store_eights(out, LORS_F16, from, n, lors_cpu_largest(LORS_F16), &t);
    } else {
        store_eights(out, LORS_BF16, from, n, lors_cpu_largest(LORS_BF16), &t);
    }
    if (_mm256_movemask_pd(t.bad) != 0) {
        return false;
    }
    block->update += from->base ? fold8(&t.update) : 0;
    block->loss += fold8(&t.loss);
    return true;
}

#else

static bool store_quickly(void *out, lors_dtype dtype, const lors_cpu_store *from, int64_t n,
                          lors_store_block *block)
{
    (void)out, (void)dtype, (void)from, (void)n, (void)block;
    return false;
}

#endif

void LORS_KERNEL(store_block)(void *out, lors_dtype dtype, const lors_cpu_store *from, int64_t n,
                              bool zero_nonfinite, lors_store_block *block)
{
    unsigned char *bytes = out;
    int64_t element_bytes = dtype == LORS_F32 ? 4 : 2;
    *block = (lors_store_block){0};
    for (int64_t first = 0; first < n; first += SPAN) {
        int64_t count = n - first < SPAN ? n - first : SPAN;
        void *at = bytes + first * element_bytes;
        lors_cpu_store here = {from->acc + first, from->base ? from->base + first : NULL,
                               from->stack ? from->stack + first : NULL, from->stride,
                               from->n_models};
        if (!store_quickly(at, dtype, &here, count, block)) {
            store_span(at, dtype, from, first, count, zero_nonfinite, block);
        }
    }
}

/* merge_kernels.c - load, accumulate and store in one pass over a block, where the result is sure.
 *
 * The sum of a few task vectors is computed in f32 (for results stored as f32: in f64) with a bound
 * of its error. Where everything within the bound rounds to one stored value, that value is what
 * the exact definition gives, too, whatever the order of the additions. The others, one in some
 * thousands, are computed by the definition.
 *
 * The bound, with u the rounding unit of the lanes, n models, W_k the coefficient of model k and
 * d_k = x_k - base: the difference, the coefficient and each of n fused additions are rounded, so
 * that the sum is off by at most about (n + 2) u sum |W_k d_k| <= (n + 2) u max|W| sum |d_k|. In
 * f32 the base is then added with one more rounding, of u |base| at most; in f64 the definition
 * adds it with the same rounding, which keeps the ends on their sides of the result.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"
#include "cpu/eights.h"

#ifdef __AVX2__

#include <immintrin.h>

#define MERGE_INLINE static inline __attribute__((always_inline, target("avx2,fma,f16c")))

enum {
    LANES = 8,
    STEP = 2 * LANES, /* elements at a time: blocks are multiples of it */
    FLUSH = 8 * STEP  /* elements whose squares are summed in f32 */
};

/* --- lanes ------------------------------------------------------------------------------------ */

/* Coefficients weight * scale / divisor; how far a result may be off: per sum |d_k|, and at the
 * least. */
typedef struct factors {
    const lors_cpu_merge *m;
    float narrow[LORS_MAX_MODELS], narrow_bound, narrow_least;
    double wide[LORS_MAX_MODELS], wide_bound, wide_least;
    bool opens_zeros; /* it is open which zero a sum of zeros is: it may be one of a model's */
} factors;

/* What is measured on the way; `largest` of the sums |d_k|. */
typedef struct measures {
    __m256 update, loss, largest;
    __m256d updates, losses;
} measures;

typedef struct pair {
    __m256 a, b;
} pair;

MERGE_INLINE __m256 load8(const lors_dtype dtype, const void *in, int64_t i)
{
    if (dtype == LORS_F32) {
        return _mm256_loadu_ps((const float *)in + i);
    }
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)in + i));
    if (dtype == LORS_F16) {
        return _mm256_cvtph_ps(half);
    }
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* To nearest even; what is not finite is looked for elsewhere. */
MERGE_INLINE __m128i round8(const lors_dtype dtype, __m256 x)
{
    if (dtype == LORS_F16) {
        return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
    }
    __m256i bits = _mm256_castps_si256(x), half = _mm256_set1_epi32(0x7fff);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    bits = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(half, odd)), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
}

MERGE_INLINE __m256 magnitude8(__m256 x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

MERGE_INLINE __m256d magnitude4(__m256d x)
{
    return _mm256_andnot_pd(_mm256_set1_pd(-0.0), x);
}

/* --- eight elements anywhere, by the definition ----------------------------------------------- */

/* The elements `at`, as they are stored, side by side. */
static void gather(void *out, lors_dtype dtype, const void *in, const int32_t at[LANES])
{
    for (int lane = 0; lane < LANES; lane++) {
        if (dtype == LORS_F32) {
            memcpy((uint32_t *)out + lane, (const uint32_t *)in + at[lane], sizeof(uint32_t));
        } else {
            ((uint16_t *)out)[lane] = ((const uint16_t *)in)[at[lane]];
        }
    }
}

static void scatter(void *out, lors_dtype dtype, const void *in, const int32_t at[LANES])
{
    for (int lane = 0; lane < LANES; lane++) {
        if (dtype == LORS_F32) {
            memcpy((uint32_t *)out + at[lane], (const uint32_t *)in + lane, sizeof(uint32_t));
        } else {
            ((uint16_t *)out)[at[lane]] = ((const uint16_t *)in)[lane];
        }
    }
}

MERGE_INLINE lors_eight gather8(lors_dtype dtype, const void *in, const int32_t at[LANES])
{
    uint32_t raw[LANES];
    gather(raw, dtype, in, at);
    __m256 x = dtype == LORS_F32   ? load8(LORS_F32, raw, 0)
               : dtype == LORS_F16 ? load8(LORS_F16, raw, 0)
                                   : load8(LORS_BF16, raw, 0);
    return (lors_eight){_mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                        _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}

/* lors_add_exactly of four. */
MERGE_INLINE void add_exactly4(__m256d *sum, __m256d *lost, __m256d term)
{
    __m256d total = _mm256_add_pd(*sum, term), part = _mm256_sub_pd(total, *sum);
    __m256d of_sum = _mm256_sub_pd(*sum, _mm256_sub_pd(total, part));
    *lost = _mm256_add_pd(*lost, _mm256_add_pd(of_sum, _mm256_sub_pd(term, part)));
    *sum = total;
}

/* The exact results of four, from the sums of their terms, which are finite. */
MERGE_INLINE __m256d exact4(const lors_cpu_merge *m, __m256d base, __m256d sum, __m256d lost)
{
    sum = _mm256_blendv_pd(_mm256_add_pd(sum, lost), sum, lors_zero4(lost));
    __m256d acc = _mm256_mul_pd(sum, _mm256_set1_pd(m->scale));
    acc = _mm256_div_pd(acc, _mm256_set1_pd(m->divisor));
    return m->base ? _mm256_blendv_pd(_mm256_add_pd(base, acc), base, lors_zero4(acc)) : acc;
}

/* All ones where x is as `first`, in bits (what is compared came from 4 bytes or fewer). */
MERGE_INLINE __m256d same4(__m256d x, __m256d first)
{
    return _mm256_castsi256_pd(
        _mm256_cmpeq_epi64(_mm256_castpd_si256(x), _mm256_castpd_si256(first)));
}

/* Are they numbers of at most this magnitude? */
MERGE_INLINE bool fit8(const lors_eight *x, double largest)
{
    __m256d most = _mm256_set1_pd(largest);
    __m256d low = _mm256_cmp_pd(magnitude4(x->low), most, _CMP_LE_OQ);
    __m256d high = _mm256_cmp_pd(magnitude4(x->high), most, _CMP_LE_OQ);
    return _mm256_movemask_pd(_mm256_and_pd(low, high)) == 0xf;
}

/* Round to elements of `out`, the squares of what that costs the first n go to *loss; false if one
 * is not finite then. */
MERGE_INLINE bool store_some(void *out, lors_dtype dtype, const lors_eight *exact,
                             const int32_t at[LANES], int32_t n, double *loss)
{
    uint32_t stored[LANES];
    double lost[LANES];
    lors_eight rounded;
    if (dtype == LORS_F32) {
        lors_store8_f32(stored, &rounded, exact);
    } else if (dtype == LORS_F16) {
        lors_store8_f16(stored, &rounded, exact);
    } else {
        lors_store8_bf16(stored, &rounded, exact);
    }
    scatter(out, dtype, stored, at);
    _mm256_storeu_pd(lost, _mm256_sub_pd(rounded.low, exact->low));
    _mm256_storeu_pd(lost + 4, _mm256_sub_pd(rounded.high, exact->high));
    for (int32_t lane = 0; lane < n; lane++) {
        *loss += lost[lane] * lost[lane];
    }
    return fit8(&rounded, lors_cpu_largest(dtype));
}

/* The first n of them count, the others repeat one. False if a result, or what it is made of, is
 * not finite. */
static __attribute__((target("avx2,fma,f16c"))) bool merge_some(void *out, const lors_cpu_merge *m,
                                                                const int32_t at[LANES], int32_t n,
                                                                double *loss)
{
    __m256d zero = _mm256_setzero_pd(), ones = same4(zero, zero);
    lors_eight base = {zero, zero}, sum = base, lost = base, first = base;
    lors_eight agree = {ones, ones};
    if (m->base) {
        base = gather8(m->in, m->base, at);
    }
    for (int32_t k = 0; k < m->n_models; k++) {
        lors_eight x = gather8(m->in, m->models[k], at);
        __m256d weight = _mm256_set1_pd(m->weights[k]);
        __m256d low = _mm256_mul_pd(weight, _mm256_sub_pd(x.low, base.low));
        __m256d high = _mm256_mul_pd(weight, _mm256_sub_pd(x.high, base.high));
        if (k == 0) {
            sum = (lors_eight){low, high}; /* not 0 + term: -0 stays -0 */
            first = x;
        } else {
            add_exactly4(&sum.low, &lost.low, low);
            add_exactly4(&sum.high, &lost.high, high);
        }
        agree.low = _mm256_and_pd(agree.low, same4(x.low, first.low));
        agree.high = _mm256_and_pd(agree.high, same4(x.high, first.high));
    }
    if (!fit8(&sum, DBL_MAX) || !fit8(&base, DBL_MAX)) {
        return false;
    }
    lors_eight exact = {exact4(m, base.low, sum.low, lost.low),
                        exact4(m, base.high, sum.high, lost.high)};
    if (m->keeps_equal && m->n_models > 0) {
        exact.low = _mm256_blendv_pd(exact.low, first.low, agree.low);
        exact.high = _mm256_blendv_pd(exact.high, first.high, agree.high);
    }
    return store_some(out, m->out, &exact, at, n, loss);
}

/* What is not sure, by steps: one bit an element. Put aside and done at the end, since nobody can
 * foretell where it will be. */
typedef struct leftover {
    int32_t count, at[LORS_BLOCK / LANES];
    unsigned unsure[LORS_BLOCK / LANES];
} leftover;

static inline void put_aside(leftover *left, int64_t i, unsigned unsure)
{
    left->at[left->count] = (int32_t)i;
    left->unsure[left->count] = unsure;
    left->count += unsure != 0;
}

static bool merge_leftover(void *out, const lors_cpu_merge *m, const leftover *left, double *loss)
{
    int32_t at[LANES], n = 0;
    for (int32_t j = 0; j < left->count; j++) {
        for (unsigned unsure = left->unsure[j]; unsure != 0; unsure &= unsure - 1) {
            at[n++] = left->at[j] + __builtin_ctz(unsure);
            if (n == LANES && !merge_some(out, m, at, n, loss)) {
                return false;
            }
            n = n % LANES;
        }
    }
    for (int32_t lane = n; n > 0 && lane < LANES; lane++) {
        at[lane] = at[0];
    }
    return n == 0 || merge_some(out, m, at, n, loss);
}

/* --- sixteen elements in lanes of f32, to results of two bytes -------------------------------- */

/* Sums in f32 of sixteen elements: of the terms, and of the magnitudes of the differences. */
MERGE_INLINE void add_models(const lors_dtype in, const factors *f, int64_t i, pair *base,
                             pair *sum, pair *spread)
{
    const void *const *models = f->m->models;
    int32_t n_models = f->m->n_models;
    sum->a = sum->b = spread->a = spread->b = _mm256_setzero_ps();
    for (int32_t k = 0; k < n_models; k++) {
        __m256 factor = _mm256_broadcast_ss(&f->narrow[k]);
        __m256 a = _mm256_sub_ps(load8(in, models[k], i), base->a);
        __m256 b = _mm256_sub_ps(load8(in, models[k], i + LANES), base->b);
        sum->a = _mm256_fmadd_ps(factor, a, sum->a);
        sum->b = _mm256_fmadd_ps(factor, b, sum->b);
        spread->a = _mm256_add_ps(spread->a, magnitude8(a));
        spread->b = _mm256_add_ps(spread->b, magnitude8(b));
    }
}

/* How far base + sum may be off; not at all where nothing differs from the base. */
MERGE_INLINE __m256 bound8(const lors_dtype in, const factors *f, __m256 base, __m256 spread)
{
    __m256 bound = _mm256_fmadd_ps(magnitude8(base), _mm256_set1_ps(0x1.04p-24f),
                                   _mm256_broadcast_ss(&f->narrow_least));
    bound = _mm256_fmadd_ps(spread, _mm256_broadcast_ss(&f->narrow_bound), bound);
    if (in == LORS_F16 || f->opens_zeros) {
        return bound;
    }
    return _mm256_andnot_ps(_mm256_cmp_ps(spread, _mm256_setzero_ps(), _CMP_EQ_OQ), bound);
}

/* Round base + sum to eight results; all ones where one is sure. The lower end is rounded with its
 * sign turned, so that the ends differ where the sum of a base of -0 and no difference is not -0.
 * What is not finite becomes a loss that is not. */
MERGE_INLINE __m128i finish8(unsigned char *out, const lors_dtype in, const lors_dtype dtype,
                             const factors *f, __m256 base, __m256 sum, __m256 spread,
                             measures *measured)
{
    __m256 bound = bound8(in, f, base, spread), one = _mm256_set1_ps(1);
    __m256 above = _mm256_add_ps(sum, bound), below = _mm256_sub_ps(sum, bound);
    __m128i high = round8(dtype, _mm256_add_ps(base, above));
    __m128i low = round8(dtype, _mm256_fnmsub_ps(one, base, below));
    low = _mm_xor_si128(low, _mm_set1_epi16((short)0x8000));
    _mm_storeu_si128((__m128i *)(void *)out, high);
    __m128i sure = _mm_cmpeq_epi16(high, low);
    __m256 loss = _mm256_sub_ps(_mm256_sub_ps(load8(dtype, &high, 0), base), sum);
    loss = _mm256_and_ps(loss, _mm256_castsi256_ps(_mm256_cvtepi16_epi32(sure)));
    measured->update = _mm256_fmadd_ps(sum, sum, measured->update);
    measured->loss = _mm256_fmadd_ps(loss, loss, measured->loss);
    if (in != LORS_F16) {
        measured->largest = _mm256_max_ps(measured->largest, spread);
    }
    return sure;
}

MERGE_INLINE void add_to_wide(__m256d *sums, __m256 x)
{
    *sums = _mm256_add_pd(*sums, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    *sums = _mm256_add_pd(*sums, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}

MERGE_INLINE void flush(measures *measured)
{
    add_to_wide(&measured->updates, measured->update);
    add_to_wide(&measured->losses, measured->loss);
    measured->update = measured->loss = _mm256_setzero_ps();
}

/* In lanes of f32, to results of two bytes. */
MERGE_INLINE void merge_narrow(unsigned char *out, const lors_dtype in, const lors_dtype dtype,
                               const factors *f, int64_t n, measures *out_measured, leftover *left)
{
    const void *base_in = f->m->base;
    measures own = *out_measured, *measured = &own; /* in registers */
    for (int64_t i = 0; i < n; i += STEP) {
        pair base = {_mm256_setzero_ps(), _mm256_setzero_ps()}, sum, spread;
        if (base_in) {
            base.a = load8(in, base_in, i);
            base.b = load8(in, base_in, i + LANES);
        }
        add_models(in, f, i, &base, &sum, &spread);
        __m128i a = finish8(out + 2 * i, in, dtype, f, base.a, sum.a, spread.a, measured);
        __m128i b = finish8(out + 2 * (i + LANES), in, dtype, f, base.b, sum.b, spread.b, measured);
        unsigned unsure = ~(unsigned)_mm_movemask_epi8(_mm_packs_epi16(a, b)) & 0xffff;
        put_aside(left, i, unsure);
        if (i % FLUSH == FLUSH - STEP) {
            flush(measured);
        }
    }
    *out_measured = own;
}

/* --- four elements in lanes of f64, to results in f32 ----------------------------------------- */

MERGE_INLINE __m256d load4(const lors_dtype in, const void *bytes, int64_t i)
{
    if (in == LORS_F32) {
        return _mm256_cvtps_pd(_mm_loadu_ps((const float *)bytes + i));
    }
    __m128i half = _mm_loadl_epi64((const __m128i *)(const void *)((const uint16_t *)bytes + i));
    if (in == LORS_F16) {
        return _mm256_cvtps_pd(_mm_cvtph_ps(half));
    }
    __m128i bits = _mm_slli_epi32(_mm_cvtepu16_epi32(half), 16);
    return _mm256_cvtps_pd(_mm_castsi128_ps(bits));
}

typedef struct wide_pair {
    __m256d a, b;
} wide_pair;

MERGE_INLINE void add_models_wide(const lors_dtype in, const factors *f, int64_t i,
                                  const wide_pair *base, wide_pair *sum, wide_pair *spread)
{
    const void *const *models = f->m->models;
    int32_t n_models = f->m->n_models;
    sum->a = sum->b = spread->a = spread->b = _mm256_setzero_pd();
    for (int32_t k = 0; k < n_models; k++) {
        __m256d factor = _mm256_broadcast_sd(&f->wide[k]);
        __m256d a = _mm256_sub_pd(load4(in, models[k], i), base->a);
        __m256d b = _mm256_sub_pd(load4(in, models[k], i + LANES / 2), base->b);
        sum->a = _mm256_fmadd_pd(factor, a, sum->a);
        sum->b = _mm256_fmadd_pd(factor, b, sum->b);
        spread->a = _mm256_add_pd(spread->a, magnitude4(a));
        spread->b = _mm256_add_pd(spread->b, magnitude4(b));
    }
}

/* As finish8. Coefficients and f32 are far from the ends of the range of f64. */
MERGE_INLINE __m128 finish4(float *out, const factors *f, __m256d base, __m256d sum, __m256d spread,
                            measures *measured)
{
    __m256d one = _mm256_set1_pd(1);
    __m256d bound = _mm256_fmadd_pd(spread, _mm256_broadcast_sd(&f->wide_bound),
                                    _mm256_broadcast_sd(&f->wide_least));
    __m256d above = _mm256_add_pd(sum, bound), below = _mm256_sub_pd(sum, bound);
    __m128 high = _mm256_cvtpd_ps(_mm256_add_pd(base, above));
    __m128 low = _mm256_cvtpd_ps(_mm256_fnmsub_pd(one, base, below));
    low = _mm_xor_ps(low, _mm_set1_ps(-0.0f));
    _mm_storeu_ps(out, high);
    __m128i sure = _mm_cmpeq_epi32(_mm_castps_si128(high), _mm_castps_si128(low));
    __m256d loss = _mm256_sub_pd(_mm256_sub_pd(_mm256_cvtps_pd(high), base), sum);
    loss = _mm256_and_pd(loss, _mm256_castsi256_pd(_mm256_cvtepi32_epi64(sure)));
    measured->updates = _mm256_fmadd_pd(sum, sum, measured->updates);
    measured->losses = _mm256_fmadd_pd(loss, loss, measured->losses);
    return _mm_castsi128_ps(sure);
}

MERGE_INLINE void merge_wide(float *out, const lors_dtype in, const factors *f, int64_t n,
                             measures *measured, leftover *left)
{
    const void *base_in = f->m->base;
    for (int64_t i = 0; i < n; i += LANES) {
        wide_pair base = {_mm256_setzero_pd(), _mm256_setzero_pd()}, sum, spread;
        if (base_in) {
            base.a = load4(in, base_in, i);
            base.b = load4(in, base_in, i + LANES / 2);
        }
        add_models_wide(in, f, i, &base, &sum, &spread);
        __m128 a = finish4(out + i, f, base.a, sum.a, spread.a, measured);
        __m128 b = finish4(out + i + LANES / 2, f, base.b, sum.b, spread.b, measured);
        unsigned unsure = ~(unsigned)_mm256_movemask_ps(_mm256_set_m128(b, a)) & 0xff;
        put_aside(left, i, unsure);
    }
}

/* --- a block ---------------------------------------------------------------------------------- */

MERGE_INLINE void merge_from(void *out, const lors_dtype in, const factors *f, int64_t n,
                             measures *measured, leftover *left)
{
    switch (f->m->out) {
    case LORS_F16: merge_narrow(out, in, LORS_F16, f, n, measured, left); break;
    case LORS_BF16: merge_narrow(out, in, LORS_BF16, f, n, measured, left); break;
    default: merge_wide(out, in, f, n, measured, left);
    }
}

static __attribute__((target("avx2,fma,f16c"))) void merge_all(void *out, const factors *f,
                                                               int64_t n, measures *measured,
                                                               leftover *left)
{
    switch (f->m->in) {
    case LORS_F16: merge_from(out, LORS_F16, f, n, measured, left); break;
    case LORS_BF16: merge_from(out, LORS_BF16, f, n, measured, left); break;
    default: merge_from(out, LORS_F32, f, n, measured, left);
    }
}

/* The definition multiplies, adds, scales and divides one after another. With such a scale and
 * divisor (and thus such weights, where the coefficients are in range) it stays far from the ends
 * of the range of f64, where its own roundings would have no bound. */
static bool is_moderate(double x)
{
    return fabs(x) >= 0x1p-200 && fabs(x) <= 0x1p200;
}

/* The coefficients, the largest magnitude and the sum of them. False if one is so large or small
 * that the lanes or the squares they measure could leave the range of f32. */
static bool set_factors(factors *f, const lors_cpu_merge *m, double *largest, double *total)
{
    *largest = *total = 0;
    for (int32_t k = 0; k < m->n_models; k++) {
        double factor = m->weights[k] * m->scale / m->divisor, size = fabs(factor);
        if (!(size >= 0x1p-20 && size <= 0x1p60)) {
            return false;
        }
        f->wide[k] = factor;
        f->narrow[k] = (float)factor;
        *largest = size > *largest ? size : *largest;
        *total += factor;
    }
    return true;
}

static bool prepare(factors *f, const lors_cpu_merge *m)
{
    double largest, total, n = m->n_models;
    f->m = m;
    if (!is_moderate(m->scale) || !is_moderate(m->divisor) ||
        !set_factors(f, m, &largest, &total)) {
        return false;
    }
    /* Models that agree are taken as they are. Where the coefficients sum to about 1, so is their
     * sum, and the loss that is measured is theirs, too; the sum of the coefficients was rounded n
     * times, and they themselves twice. */
    double agreeing = m->keeps_equal ? fabs(total - 1) + (n + 2) * 0x1p-53 * largest : 0;
    if (agreeing > 1e-9) {
        return false;
    }
    /* The ends are rounded, too, and so is the definition, but in f64. */
    f->narrow_bound = (float)(((n + 6) * 0x1p-24 * largest + agreeing) * 1.01);
    f->wide_bound = ((n + 12) * 0x1p-53 * largest + agreeing) * 1.01;
    /* Products of f16 do not leave the range of f32, those of the other types may. */
    f->opens_zeros = !m->base || m->keeps_equal;
    f->narrow_least = !f->opens_zeros && m->in == LORS_F16 ? 0 : 0x1p-130f;
    f->wide_least = f->opens_zeros ? 0x1p-1000 : 0;
    return true;
}

static double fold(__m256d x)
{
    double lanes[4];
    memcpy(lanes, &x, sizeof lanes);
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

static bool some_exceed(__m256 x, float least)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_set1_ps(least), _CMP_GT_OQ)) != 0;
}

/* Is everything finite, and were the squares in the range of f32? Where nothing differs from the
 * base they are 0. */
static bool is_measured(const lors_cpu_merge *m, const measures *measured, double update,
                        double loss)
{
    bool small = m->base ? update < 0x1p-100 : !some_exceed(measured->largest, 0x1p-40f);
    return update < INFINITY && loss < INFINITY && !(small && some_exceed(measured->largest, 0));
}

__attribute__((target("avx2,fma,f16c"))) bool LORS_KERNEL(merge_block)(void *out,
                                                                       const lors_cpu_merge *m,
                                                                       int64_t n,
                                                                       lors_store_block *block)
{
    factors f;
    measures measured;
    leftover left;
    memset(&measured, 0, sizeof measured);
    left.count = 0;
    if (n % STEP != 0 || !prepare(&f, m)) {
        return false;
    }
    double loss = 0;
    merge_all(out, &f, n, &measured, &left);
    if (!merge_leftover(out, m, &left, &loss)) {
        return false;
    }
    flush(&measured);
    double update = fold(measured.updates);
    loss += fold(measured.losses);
    *block = (lors_store_block){.update = m->base ? update : 0, .loss = loss};
    return is_measured(m, &measured, update, loss);
}

#else

bool LORS_KERNEL(merge_block)(void *out, const lors_cpu_merge *m, int64_t n,
                              lors_store_block *block)
{
    (void)out, (void)m, (void)n, (void)block;
    return false;
}

#endif

/* sum_kernels.c - weighted sums with masks and signs, elections. */
#include <fenv.h>
#include <math.h>
#include <string.h>

#include "cpu/sums.h"

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

enum { SPAN = 512 }; /* elements kept in first-level cache at a time */

/* --- has anything been rounded? -----------------------------------------------------------------
 *
 * The processor notes whether an operation had to round. Where none did, the roundings of the
 * additions sum to 0, and the plain sum is the result. */

static inline void forget_rounding(void)
{
#ifdef __SSE2__
    _mm_setcsr(_mm_getcsr() & ~0x20u);
#else
    feclearexcept(FE_INEXACT);
#endif
}

static inline bool has_rounded(void)
{
#ifdef __SSE2__
    return (_mm_getcsr() & 0x20u) != 0;
#else
    return fetestexcept(FE_INEXACT) != 0;
#endif
}

/* Not every processor does: one that is emulated may not. */
static bool notes_rounding(void)
{
    volatile double one = 1, little = 0x1p-60, sum;
    forget_rounding();
    bool before = has_rounded();
    sum = one + little;
    (void)sum;
    return !before && has_rounded();
}

/* --- sums of terms ---------------------------------------------------------------------------- */

/* What is summed beside the terms: of which models, by the elements they are counted in. */
typedef enum count_kind {
    COUNT_NOTHING,
    COUNT_MODELS, /* whose shares are the same */
    COUNT_SHARES
} count_kind;

/* Constants of a loop. `simply`: without what the additions lose. */
typedef struct way {
    bool masked, simply;
    count_kind counts;
} way;

/* Sums of a group with their losses. */
typedef struct group_sum {
    lors_wide sum[LORS_VECTORS], lost[LORS_VECTORS];
} group_sum;

static inline __attribute__((always_inline)) void add(group_sum *to, int v, lors_wide x,
                                                      const bool simply)
{
    if (simply) {
        to->sum[v] += x;
    } else {
        lors_wide_add_exactly(&to->sum[v], &to->lost[v], x);
    }
}

static inline __attribute__((always_inline)) void store_sum(double *out, group_sum *from,
                                                            const bool simply)
{
    for (int v = 0; v < LORS_VECTORS; v++) {
        if (!simply) {
            lors_wide_with_lost(&from->sum[v], &from->lost[v]);
        }
        lors_wide_store(out + LORS_WIDE * v, &from->sum[v]);
    }
}

/* Which terms are counted: with signs those of the elected sign (a zero term never), else those
 * that are kept. A term that is not counted becomes 0 where signs say so. */
static inline void elect_vector(lors_flags *counted, lors_wide *term, const lors_cpu_sum *s,
                                int32_t model, int64_t i)
{
    *counted = ~(lors_flags){0};
    if (s->signs) {
        lors_wide sign;
        lors_wide_of_signs(&sign, s->signs + i);
        *counted = *term * sign > 0;
        *term = (lors_wide)((lors_flags)*term & *counted);
    } else if (s->masks) {
        lors_slim_flags kept;
        lors_slim_flags_of(&kept, s->masks + s->slices[model] + i);
        *counted = __builtin_convertvector(kept, lors_flags);
    }
}

/* Whole numbers are summed without a loss. */
static inline __attribute__((always_inline)) void count(group_sum *to, int v, lors_flags counted,
                                                        double share, const way w)
{
    bool models = w.counts == COUNT_MODELS;
    lors_wide one = (lors_wide){0} + (models ? 1 : share);
    add(to, v, (lors_wide)((lors_flags)one & counted), models || w.simply);
}

static inline __attribute__((always_inline)) void add_models(double *restrict out,
                                                             double *restrict shares,
                                                             const lors_cpu_sum *s, const way w,
                                                             int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i += LORS_GROUP) {
        lors_slim base[LORS_VECTORS];
        lors_wide term[LORS_VECTORS];
        group_sum terms = {{{0}}, {{0}}}, counted = {{{0}}, {{0}}};
        lors_cpu_load_base(base, s, first + i);
        for (int32_t m = 0; m < s->n_models; m++) {
            lors_cpu_terms(term, s, w.masked, m, first + i, base);
            for (int v = 0; v < LORS_VECTORS; v++) {
                if (w.counts != COUNT_NOTHING) {
                    lors_flags flags;
                    elect_vector(&flags, &term[v], s, m, first + i + LORS_WIDE * v);
                    count(&counted, v, flags, s->shares[m], w);
                }
                if (m == 0) {
                    terms.sum[v] = term[v]; /* not 0 + term: -0 stays -0 */
                } else {
                    add(&terms, v, term[v], w.simply);
                }
            }
        }
        store_sum(out + i, &terms, w.simply);
        if (w.counts != COUNT_NOTHING) {
            store_sum(shares + i, &counted, w.counts == COUNT_MODELS || w.simply);
        }
    }
}

static inline __attribute__((always_inline)) void
add_masked(double *restrict out, double *restrict shares, const lors_cpu_sum *s,
           const count_kind counts, const bool simply, int64_t first, int64_t n)
{
    if (s->masks) {
        add_models(out, shares, s, (way){true, simply, counts}, first, n);
    } else {
        add_models(out, shares, s, (way){false, simply, counts}, first, n);
    }
}

static inline __attribute__((always_inline)) void
add_counted(double *terms, double *shares, const lors_cpu_sum *s, count_kind counts,
            const bool simply, int64_t first, int64_t n)
{
    switch (counts) {
    case COUNT_NOTHING: add_masked(terms, shares, s, COUNT_NOTHING, simply, first, n); break;
    case COUNT_MODELS: add_masked(terms, shares, s, COUNT_MODELS, simply, first, n); break;
    case COUNT_SHARES: add_masked(terms, shares, s, COUNT_SHARES, simply, first, n); break;
    }
}

/* Never inlined: the flag must be looked at before and after it. */
static __attribute__((noinline)) void add_simply(double *terms, double *shares,
                                                 const lors_cpu_sum *s, count_kind counts,
                                                 int64_t first, int64_t n)
{
    add_counted(terms, shares, s, counts, true, first, n);
}

static void add_exactly(double *terms, double *shares, const lors_cpu_sum *s, count_kind counts,
                        int64_t first, int64_t n)
{
    add_counted(terms, shares, s, counts, false, first, n);
}

/* Shares that are the same sum to their number times one, rounded once: just as with losses. */
static count_kind count_kind_of(const lors_cpu_sum *s, const lors_sum *sum)
{
    if (!s->signs && sum->divisor != LORS_DIVIDE_KEPT) {
        return COUNT_NOTHING;
    }
    for (int32_t m = 1; m < s->n_models; m++) {
        if (s->shares[m] != s->shares[0]) {
            return COUNT_SHARES;
        }
    }
    return COUNT_MODELS;
}

/* --- from the sum to the result --------------------------------------------------------------- */

/* Weights that sum to less than this share of their magnitudes cancel: the rest is rounding. */
static double least_divisor(const lors_sum *sum)
{
    double magnitudes = 0;
    for (int32_t model = 0; model < sum->n_models; model++) {
        magnitudes += fabs(sum->shares ? sum->shares[model] : sum->weights[model]);
    }
    return LORS_CANCELLED * magnitudes;
}

static void finish_span(double *restrict acc, double *restrict sum_of,
                        const double *restrict weight_of, const lors_sum *sum, int64_t n)
{
    double scale = sum->scale;
    if (sum->divisor == LORS_DIVIDE_CONSTANT) {
        double divisor = sum->divisor_value;
        for (int64_t i = 0; i < n; i++) {
            sum_of[i] = sum_of[i] * scale / divisor;
        }
    } else if (sum->divisor == LORS_DIVIDE_KEPT) {
        double least = least_divisor(sum);
        for (int64_t i = 0; i < n; i++) {
            sum_of[i] = sum_of[i] * scale / (fabs(weight_of[i]) <= least ? 1 : weight_of[i]);
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            sum_of[i] *= scale;
        }
    }
    if (sum->add) {
        for (int64_t i = 0; i < n; i++) {
            acc[i] += sum_of[i];
        }
    } else {
        memcpy(acc, sum_of, (size_t)n * sizeof *acc);
    }
}

/* Each model added to acc by itself, in order. */
static inline __attribute__((always_inline)) void
add_in_order(double *restrict acc, const lors_cpu_sum *s, const bool masked, double scale, bool add,
             int64_t n)
{
    for (int64_t i = 0; i < n; i += LORS_GROUP) {
        lors_slim base[LORS_VECTORS];
        lors_wide sum[LORS_VECTORS] = {{0}}, term[LORS_VECTORS];
        for (int v = 0; v < LORS_VECTORS && add; v++) {
            memcpy(&sum[v], acc + i + LORS_WIDE * v, sizeof sum[v]);
        }
        lors_cpu_load_base(base, s, i);
        for (int32_t m = 0; m < s->n_models; m++) {
            lors_cpu_terms(term, s, masked, m, i, base);
            for (int v = 0; v < LORS_VECTORS; v++) {
                term[v] *= scale;
                sum[v] = m == 0 && !add ? term[v] : sum[v] + term[v];
            }
        }
        for (int v = 0; v < LORS_VECTORS; v++) {
            lors_wide_store(acc + i + LORS_WIDE * v, &sum[v]);
        }
    }
}

static void add_each(double *acc, const lors_cpu_sum *s, const lors_sum *sum, int64_t n)
{
    if (s->masks) {
        add_in_order(acc, s, true, sum->scale, sum->add, n);
    } else {
        add_in_order(acc, s, false, sum->scale, sum->add, n);
    }
}

/* n is a multiple of LORS_GROUP. */
static void accumulate(double *acc, const lors_cpu_sum *s, const lors_sum *sum, int64_t n)
{
    double terms[SPAN] = {0}, shares[SPAN] = {0}; /* what no models sum to */
    count_kind counts = count_kind_of(s, sum);
    bool may_be_simple = s->n_models > 0 && notes_rounding();
    if (sum->in_order) {
        add_each(acc, s, sum, n);
        return;
    }
    for (int64_t first = 0; first < n; first += SPAN) {
        int64_t count = n - first < SPAN ? n - first : SPAN;
        if (may_be_simple) {
            forget_rounding();
            add_simply(terms, shares, s, counts, first, count);
            may_be_simple = !has_rounded(); /* where one span rounds others will */
        }
        if (!may_be_simple && s->n_models > 0) {
            add_exactly(terms, shares, s, counts, first, count);
        } else if (s->n_models == 0) {
            memset(terms, 0, sizeof terms);
        }
        for (int64_t i = 0; counts == COUNT_MODELS && s->n_models > 0 && i < count; i++) {
            shares[i] *= s->shares[0];
        }
        finish_span(acc + first, terms, shares, sum, count);
    }
}

/* --- tails ------------------------------------------------------------------------------------ */

/* The last elements, fewer than a group, with zeros behind them. */
typedef struct tail {
    float stack[LORS_MAX_MODELS][LORS_GROUP], low[LORS_MAX_MODELS][LORS_GROUP], base[LORS_GROUP];
    uint8_t masks[LORS_MAX_MODELS][LORS_GROUP];
    int8_t signs[LORS_GROUP];
} tail;

static void fill(void *to, const void *from, int64_t first, int64_t n, size_t element)
{
    memset(to, 0, LORS_GROUP * element);
    if (from) {
        memcpy(to, (const unsigned char *)from + first * (int64_t)element, (size_t)n * element);
    }
}

static void take_tail(tail *t, lors_cpu_sum *s, int64_t first, int64_t n)
{
    fill(t->base, s->base, first, n, sizeof(float));
    fill(t->signs, s->signs, first, n, 1);
    for (int32_t m = 0; m < s->n_models; m++) {
        int64_t at = s->slices[m] + first;
        fill(t->stack[m], s->stack, at, n, sizeof(float));
        fill(t->low[m], s->low, at, n, sizeof(float));
        fill(t->masks[m], s->masks, at, n, 1);
        s->slices[m] = LORS_GROUP * m;
    }
    s->stack = t->stack[0];
    s->base = s->base ? t->base : NULL;
    s->low = s->low ? t->low[0] : NULL;
    s->masks = s->masks ? t->masks[0] : NULL;
    s->signs = s->signs ? t->signs : NULL;
}

static lors_cpu_sum plain_arrays_of(const lors_sum *sum, bool all)
{
    lors_cpu_sum s;
    s.stack = lors_cpu_at(sum->stack);
    s.base = lors_cpu_at(sum->base);
    s.low = lors_cpu_at(sum->low);
    s.masks = lors_cpu_at(sum->masks);
    s.signs = lors_cpu_at(sum->signs);
    s.n_models = 0;
    for (int32_t m = 0; m < sum->n_models; m++) {
        if (all || sum->weights[m] != 0) {
            s.slices[s.n_models] = m * sum->stride;
            s.shares[s.n_models] = sum->shares ? sum->shares[m] : sum->weights[m];
            s.weights[s.n_models++] = sum->weights[m];
        }
    }
    return s;
}

void LORS_KERNEL(accumulate)(double *acc, const lors_sum *sum, int64_t n)
{
    lors_cpu_sum s = plain_arrays_of(sum, false);
    int64_t rest = n % LORS_GROUP, first = n - rest;
    if (sum->in_order) {
        s.signs = NULL;
    }
    accumulate(acc, &s, sum, first);
    if (rest > 0) {
        tail t;
        double last[LORS_GROUP] = {0};
        memcpy(last, acc + first, (size_t)rest * sizeof *last);
        take_tail(&t, &s, first, rest);
        accumulate(last, &s, sum, LORS_GROUP);
        memcpy(acc + first, last, (size_t)rest * sizeof *last);
    }
}

/* --- elections -------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void
elect(int8_t *restrict signs, const lors_cpu_sum *s, const bool masked, int64_t n)
{
    for (int64_t i = 0; i < n; i += LORS_GROUP) {
        lors_slim base[LORS_VECTORS];
        lors_wide total[LORS_VECTORS] = {{0}}, magnitude[LORS_VECTORS] = {{0}}, term[LORS_VECTORS];
        lors_cpu_load_base(base, s, i);
        for (int32_t m = 0; m < s->n_models; m++) {
            lors_cpu_terms(term, s, masked, m, i, base);
            for (int v = 0; v < LORS_VECTORS; v++) {
                lors_wide size;
                lors_wide_magnitude(&size, &term[v]);
                total[v] += term[v];
                magnitude[v] += size;
            }
        }
        for (int v = 0; v < LORS_VECTORS; v++) {
            lors_wide infinity = (lors_wide){0} + INFINITY;
            lors_flags tied = (total[v] >= -LORS_TIED * magnitude[v]) & (magnitude[v] < infinity);
            lors_flags plus = tied | (total[v] >= 0);
            lors_signs_of_flags(signs + i + LORS_WIDE * v, &plus);
        }
    }
}

static void elect_any(int8_t *signs, const lors_cpu_sum *s, int64_t n)
{
    if (s->masks) {
        elect(signs, s, true, n);
    } else {
        elect(signs, s, false, n);
    }
}

void LORS_KERNEL(elect_sign)(int8_t *signs, const lors_sum *sum, int64_t n)
{
    lors_cpu_sum s = plain_arrays_of(sum, true);
    int64_t rest = n % LORS_GROUP, first = n - rest;
    elect_any(signs, &s, first);
    if (rest > 0) {
        tail t;
        int8_t last[LORS_GROUP];
        take_tail(&t, &s, first, rest);
        elect_any(last, &s, LORS_GROUP);
        memcpy(signs + first, last, (size_t)rest);
    }
}

/* sum_kernels.c - differences, weighted sums with masks and signs, and dot products. */
#include <math.h>
#include <string.h>

#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

enum { SPAN = 512 }; /* elements kept in registers and first-level cache at a time */

static const float zeros[SPAN];

/* One span of a sum: pointers already at the span; absent ones are NULL (low, masks, signs) or the
 * array of zeros (base). */
typedef struct span {
    const float *x, *base, *low;
    const uint8_t *mask;
    const int8_t *signs;
    int64_t n;
} span;

void LORS_KERNEL(subtract)(float *out, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = a[i] - b[i];
    }
}

/* term[i] = weight * (kept ? x - base : low), in f64. */
static void terms_of(double *restrict term, double weight, const span *at)
{
    const float *restrict x = at->x, *restrict base = at->base, *restrict low = at->low;
    if (!at->mask) {
        for (int64_t i = 0; i < at->n; i++) {
            term[i] = weight * ((double)x[i] - (double)base[i]);
        }
        return;
    }
    const uint8_t *restrict mask = at->mask;
    low = low ? low : zeros;
    for (int64_t i = 0; i < at->n; i++) {
        double difference = (double)x[i] - (double)base[i];
        term[i] = weight * (mask[i] ? difference : (double)low[i]);
    }
}

/* Terms against the elected sign become 0; counted[i] tells which stayed. A zero term is never
 * counted in an election; without one every kept term is. */
static void elect_terms(double *restrict term, uint8_t *restrict counted, const span *at)
{
    if (at->signs) {
        for (int64_t i = 0; i < at->n; i++) {
            double sign = at->signs[i];
            counted[i] = term[i] * sign > 0;
            term[i] = counted[i] ? term[i] : 0;
        }
    } else if (at->mask) {
        memcpy(counted, at->mask, (size_t)at->n);
    } else {
        memset(counted, 1, (size_t)at->n);
    }
}

static span span_at(const lors_sum *sum, const float *stack, const uint8_t *masks, int32_t model,
                    int64_t first, int64_t n)
{
    const float *base = lors_cpu_at(sum->base), *low = lors_cpu_at(sum->low);
    const int8_t *signs = lors_cpu_at(sum->signs);
    int64_t slice = model * sum->stride + first;
    return (span){stack + slice,
                  base ? base + first : zeros,
                  low ? low + slice : NULL,
                  masks ? masks + slice : NULL,
                  signs ? signs + first : NULL,
                  n};
}

static void add_terms(double *restrict sum, double *restrict lost, const double *restrict term,
                      int64_t n, bool first)
{
    if (first) { /* not 0 + term: -0 stays -0 */
        memcpy(sum, term, (size_t)n * sizeof *term);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        lors_add_exactly(&sum[i], &lost[i], term[i]);
    }
}

static void add_lost(double *restrict sum, const double *restrict lost, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        sum[i] = lors_with_lost(sum[i], lost[i]);
    }
}

/* The sums of a span: of the terms of all models, and (only where the divisor asks for it) of the
 * weights of those counted. A model of weight 0 has no terms. */
typedef struct span_sums {
    double terms[SPAN], lost[SPAN], weights[SPAN], weights_lost[SPAN];
} span_sums;

static void sum_span(span_sums *s, const lors_sum *sum, int64_t first, int64_t n)
{
    const float *stack = lors_cpu_at(sum->stack);
    const uint8_t *masks = lors_cpu_at(sum->masks);
    double term[SPAN];
    uint8_t counted[SPAN];
    bool weigh = sum->divisor == LORS_DIVIDE_KEPT, empty = true;
    memset(s, 0, sizeof *s); /* what an empty stack sums to */
    for (int32_t model = 0; model < sum->n_models; model++) {
        double weight = sum->weights[model];
        if (weight == 0) {
            continue;
        }
        span at = span_at(sum, stack, masks, model, first, n);
        terms_of(term, weight, &at);
        if (weigh || at.signs) {
            elect_terms(term, counted, &at);
            for (int64_t i = 0; i < n; i++) {
                lors_add_exactly(&s->weights[i], &s->weights_lost[i], counted[i] ? weight : 0);
            }
        }
        add_terms(s->terms, s->lost, term, n, empty);
        empty = false;
    }
    add_lost(s->terms, s->lost, n);
    add_lost(s->weights, s->weights_lost, n);
}

/* Weights that sum to less than this share of their magnitudes cancel: the rest is rounding. */
static double least_divisor(const lors_sum *sum)
{
    double magnitudes = 0;
    for (int32_t model = 0; model < sum->n_models; model++) {
        magnitudes += fabs(sum->weights[model]);
    }
    return LORS_CANCELLED * magnitudes;
}

static void finish_span(double *restrict acc, double *restrict sum_of,
                        const double *restrict weight_of, const lors_sum *sum, int64_t n)
{
    double scale = sum->scale;
    for (int64_t i = 0; i < n; i++) {
        sum_of[i] *= scale;
    }
    if (sum->divisor == LORS_DIVIDE_CONSTANT) {
        double divisor = sum->divisor_value;
        for (int64_t i = 0; i < n; i++) {
            sum_of[i] /= divisor;
        }
    } else if (sum->divisor == LORS_DIVIDE_KEPT) {
        double least = least_divisor(sum);
        for (int64_t i = 0; i < n; i++) {
            sum_of[i] /= fabs(weight_of[i]) <= least ? 1 : weight_of[i];
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
static void add_in_order(double *restrict acc, const lors_sum *sum, int64_t first, int64_t n)
{
    const float *stack = lors_cpu_at(sum->stack);
    const uint8_t *masks = lors_cpu_at(sum->masks);
    double term[SPAN], scale = sum->scale;
    bool empty = !sum->add;
    for (int32_t model = 0; model < sum->n_models; model++) {
        if (sum->weights[model] == 0) {
            continue;
        }
        span at = span_at(sum, stack, masks, model, first, n);
        terms_of(term, sum->weights[model], &at);
        for (int64_t i = 0; i < n; i++) {
            term[i] *= scale;
        }
        for (int64_t i = 0; i < n && !empty; i++) {
            acc[i] += term[i];
        }
        if (empty) {
            memcpy(acc, term, (size_t)n * sizeof *acc);
        }
        empty = false;
    }
    if (empty) {
        memset(acc, 0, (size_t)n * sizeof *acc);
    }
}

void LORS_KERNEL(accumulate)(double *acc, const lors_sum *sum, int64_t n)
{
    span_sums s;
    for (int64_t first = 0; first < n; first += SPAN) {
        int64_t count = n - first < SPAN ? n - first : SPAN;
        if (sum->in_order) {
            add_in_order(acc + first, sum, first, count);
            continue;
        }
        sum_span(&s, sum, first, count);
        finish_span(acc + first, s.terms, s.weights, sum, count);
    }
}

void LORS_KERNEL(elect_sign)(int8_t *signs, const lors_sum *sum, int64_t n)
{
    const float *stack = lors_cpu_at(sum->stack);
    const uint8_t *masks = lors_cpu_at(sum->masks);
    for (int64_t first = 0; first < n; first += SPAN) {
        double term[SPAN], total[SPAN] = {0}, magnitude[SPAN] = {0};
        int64_t count = n - first < SPAN ? n - first : SPAN;
        for (int32_t model = 0; model < sum->n_models; model++) {
            span at = span_at(sum, stack, masks, model, first, count);
            terms_of(term, sum->weights[model], &at);
            for (int64_t i = 0; i < count; i++) {
                total[i] += term[i];
                magnitude[i] += fabs(term[i]);
            }
        }
        for (int64_t i = 0; i < count; i++) {
            signs[first + i] = total[i] >= -LORS_TIED * magnitude[i] ? 1 : -1;
        }
    }
}

static void add_dots(lors_lanes8 sums[3], const lors_lanes8 *x, const lors_lanes8 *y)
{
    lors_lanes8_add(&sums[0], x, x);
    lors_lanes8_add(&sums[1], x, y);
    lors_lanes8_add(&sums[2], y, y);
}

/* Eight lanes a sum, folded in a fixed order. */
void LORS_KERNEL(dots_block)(double dots[3], const float *a, const float *b, int64_t n)
{
    lors_lanes8 sums[3] = {{{0}, {0}}}, x, y;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        lors_lanes8_widen(&x, a + i);
        lors_lanes8_widen(&y, b + i);
        add_dots(sums, &x, &y);
    }
    if (i < n) {
        lors_lanes8_widen_rest(&x, a + i, n - i);
        lors_lanes8_widen_rest(&y, b + i, n - i);
        add_dots(sums, &x, &y);
    }
    for (int d = 0; d < 3; d++) {
        dots[d] = lors_lanes8_fold(&sums[d]);
    }
}

/* columns.h - what the models of one element give together: the formulas of `combine`, which every
 * backend compiles. See lors_columns in backend_ops.h. C11 and CUDA C++.
 *
 * They are written for LORS_REAL: a double, or, where the including file defines it (and the types
 * and functions below) before, several side by side.
 */
#ifndef LORS_BACKEND_COLUMNS_H
#define LORS_BACKEND_COLUMNS_H

#include "backend/arithmetic.h"
#include "backend/backend_ops.h"

#ifndef LORS_REAL
#define LORS_REAL double
#define LORS_TEST bool
#define LORS_REAL_ZERO 0.0

LORS_BOTH double lors_real_load(const float *x)
{
    return (double)*x;
}

LORS_BOTH double lors_real_choose(bool test, double a, double b)
{
    return test ? a : b;
}

LORS_BOTH double lors_real_magnitude(double x)
{
    return fabs(x);
}

LORS_BOTH double lors_real_root(double x)
{
    return sqrt(x);
}
#endif

/* The models of one element: x_k at stack[slices[k]]. Without models of weight 0 (but for a
 * deviation). */
typedef struct lors_column {
    const float *stack;
    const int64_t *slices;
    const double *weights;
    int32_t n_models;
    LORS_REAL base;
} lors_column;

#define LORS_REAL_OF(x) (LORS_REAL_ZERO + (x))

#define LORS_REAL_NO_SUM {LORS_REAL_ZERO, LORS_REAL_ZERO}

/* lors_add_exactly and lors_with_lost. */
typedef struct lors_real_sum {
    LORS_REAL sum, lost;
} lors_real_sum;

LORS_BOTH void lors_real_add(lors_real_sum *s, LORS_REAL term)
{
    LORS_REAL total = s->sum + term, part = total - s->sum;
    s->lost += (s->sum - (total - part)) + (term - part);
    s->sum = total;
}

LORS_BOTH LORS_REAL lors_real_total(const lors_real_sum *s)
{
    LORS_REAL some = lors_real_choose(lors_real_magnitude(s->sum) < (double)INFINITY,
                                      s->sum + s->lost, s->sum);
    return lors_real_choose(s->lost == 0, s->sum, some);
}

LORS_BOTH LORS_REAL lors_column_delta(const lors_column *c, int32_t k)
{
    return lors_real_load(c->stack + c->slices[k]) - c->base;
}

LORS_BOTH LORS_REAL lors_column_term(const lors_column *c, int32_t k)
{
    return c->weights[k] * lors_column_delta(c, k);
}

/* The root of sum_k (n d_k - sum_j d_j)^2 / n^3: without a division an element, and 0 where all d_k
 * are the same, whose sum is n d_k as it is rounded. */
LORS_BOTH LORS_REAL lors_column_deviation(const lors_column *c)
{
    lors_real_sum sum = LORS_REAL_NO_SUM, squares = LORS_REAL_NO_SUM;
    double n = c->n_models, shrink = 1 / (n * n * n);
    for (int32_t k = 0; k < c->n_models; k++) {
        lors_real_add(&sum, lors_column_delta(c, k));
    }
    LORS_REAL total = lors_real_total(&sum);
    for (int32_t k = 0; k < c->n_models; k++) {
        LORS_REAL off = n * lors_column_delta(c, k) - total;
        lors_real_add(&squares, off * off);
    }
    return lors_real_root(lors_real_total(&squares) * shrink);
}

LORS_BOTH LORS_REAL lors_column_clamp(const lors_column *c, double limit)
{
    lors_real_sum sum = LORS_REAL_NO_SUM;
    for (int32_t k = 0; k < c->n_models; k++) {
        LORS_REAL d = lors_column_delta(c, k);
        d = lors_real_choose(d > limit, LORS_REAL_OF(limit), d);
        d = lors_real_choose(d < -limit, LORS_REAL_OF(-limit), d);
        lors_real_add(&sum, c->weights[k] * d);
    }
    return lors_real_total(&sum);
}

LORS_BOTH LORS_REAL lors_column_active(const lors_column *c, double limit)
{
    lors_real_sum sum = LORS_REAL_NO_SUM;
    LORS_REAL n_active = LORS_REAL_ZERO, zero = LORS_REAL_ZERO;
    for (int32_t k = 0; k < c->n_models; k++) {
        LORS_REAL d = lors_column_delta(c, k);
        LORS_TEST is_still = lors_real_magnitude(d) <= limit; /* not a NaN, which is not lost */
        lors_real_add(&sum, lors_real_choose(is_still, zero, c->weights[k] * d));
        n_active += lors_real_choose(is_still, zero, LORS_REAL_OF(1.0));
    }
    LORS_REAL total = lors_real_total(&sum);
    return lors_real_choose(n_active > 1, total / n_active, total);
}

/* With one active model the other terms are zeros, so that the sum is exact. */
LORS_BOTH LORS_REAL lors_column_shared(const lors_column *c, double limit)
{
    lors_real_sum sum = LORS_REAL_NO_SUM;
    LORS_REAL n_active = LORS_REAL_ZERO, zero = LORS_REAL_ZERO, alone = LORS_REAL_ZERO;
    for (int32_t k = 0; k < c->n_models; k++) {
        LORS_REAL d = lors_column_delta(c, k);
        LORS_TEST is_still = lors_real_magnitude(d) <= limit; /* not a NaN, which is not lost */
        lors_real_add(&sum, lors_real_choose(is_still, zero, d));
        alone += lors_real_choose(is_still, zero, c->weights[k] * d);
        n_active += lors_real_choose(is_still, zero, LORS_REAL_OF(1.0));
    }
    return lors_real_choose(n_active > 1, lors_real_total(&sum) / n_active, alone);
}

/* Of equal magnitudes the positive one, so that the order of the models does not matter. */
LORS_BOTH LORS_REAL lors_column_largest(const lors_column *c)
{
    LORS_REAL largest = LORS_REAL_ZERO;
    for (int32_t k = 0; k < c->n_models; k++) {
        LORS_REAL term = lors_column_term(c, k);
        LORS_REAL size = lors_real_magnitude(term), best = lors_real_magnitude(largest);
        LORS_TEST more = (size > best) | (term != term) | ((size == best) & (term > largest));
        largest = lors_real_choose(more, term, largest);
    }
    return largest;
}

LORS_BOTH LORS_REAL lors_column_total(const lors_column *c)
{
    lors_real_sum sum = LORS_REAL_NO_SUM;
    for (int32_t k = 0; k < c->n_models; k++) {
        lors_real_add(&sum, lors_column_term(c, k));
    }
    return lors_real_total(&sum);
}

LORS_BOTH LORS_REAL lors_column_consensus(const lors_column *c, double share, double n_least)
{
    LORS_REAL total = lors_column_total(c), n = LORS_REAL_ZERO, zero = LORS_REAL_ZERO;
    for (int32_t k = 0; k < c->n_models; k++) {
        LORS_REAL term = lors_column_term(c, k), others = lors_real_magnitude(total - term);
        LORS_TEST needs = (term != 0) & (lors_real_magnitude(term) >= share * others);
        n += lors_real_choose(needs, LORS_REAL_OF(1.0), zero);
    }
    LORS_TEST lost = (total != total) | (lors_real_magnitude(total) == (double)INFINITY);
    return lors_real_choose((n >= n_least) | lost, total, zero);
}

/* A sum that is 0 but for rounding elects nobody. */
LORS_BOTH LORS_REAL lors_column_elected(const lors_column *c)
{
    LORS_REAL total = lors_column_total(c), largest = LORS_REAL_ZERO, sizes = LORS_REAL_ZERO;
    for (int32_t k = 0; k < c->n_models; k++) {
        sizes += lors_real_magnitude(lors_column_term(c, k));
    }
    LORS_TEST tied = (lors_real_magnitude(total) <= LORS_TIED * sizes) & (sizes < (double)INFINITY);
    total = lors_real_choose(tied, LORS_REAL_OF(0.0), total);
    for (int32_t k = 0; k < c->n_models; k++) {
        LORS_REAL term = lors_column_term(c, k);
        LORS_TEST agrees = ((total > 0) & (term > 0)) | ((total < 0) & (term < 0));
        LORS_TEST more = lors_real_magnitude(term) > lors_real_magnitude(largest);
        largest = lors_real_choose(agrees & more, term, largest);
    }
    return lors_real_choose(total != total, total, largest);
}

LORS_BOTH LORS_REAL lors_column_value(lors_column_kind kind, const lors_column *c,
                                      const double limits[2])
{
    switch (kind) {
    case LORS_COLUMN_DEVIATION:
        return lors_column_deviation(c);
    case LORS_COLUMN_CLAMP:
        return lors_column_clamp(c, limits[0]);
    case LORS_COLUMN_ACTIVE:
        return lors_column_active(c, limits[0]);
    case LORS_COLUMN_SHARED:
        return lors_column_shared(c, limits[0]);
    case LORS_COLUMN_LARGEST:
        return lors_column_largest(c);
    case LORS_COLUMN_CONSENSUS:
        return lors_column_consensus(c, limits[0], limits[1]);
    case LORS_COLUMN_ELECTED:
        return lors_column_elected(c);
    }
    return LORS_REAL_OF(0.0);
}

/* --- Random masks by rank --------------------------------------------------------------------- */

/* The probability of the element of rank `rank` (0: the smallest magnitude) of n. */
LORS_BOTH double lors_ranked_probability(const lors_ranking *r, int64_t rank, int64_t n)
{
    double p = n > 1 ? (r->density - r->epsilon) + 2 * r->epsilon * (double)rank / (double)(n - 1)
                     : r->density;
    return p < 0 ? 0 : p > 1 ? 1 : p;
}

#endif

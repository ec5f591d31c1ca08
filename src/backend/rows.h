/* rows.h - how far a row of weights lies from another: the formulas of `diverge` and `weigh_rows`,
 * which every backend compiles. C11 and CUDA C++.
 *
 *   p_i = e^(a_i - max a) * (1 / sum_j e^(a_j - max a)) + LORS_SOFTMAX_FLOOR;   q_i of b alike
 *   D   = sum_i p_i log(p_i / q_i) - (p_i - q_i)
 *
 * Both sum to the same, so that D is sum p log(p / q), but of terms that are not negative: of
 * changes c the terms are as small as c^2, where p log(p / q) are as large as c and cancel. A row
 * that has not changed gives exactly 0.
 */
#ifndef LORS_BACKEND_ROWS_H
#define LORS_BACKEND_ROWS_H

#include "backend/backend_ops.h"
#include "backend/elementary.h"

/* What turns a row into probabilities. */
typedef struct lors_softmax {
    double top, share; /* the largest value, 1 / the sum of exponentials */
} lors_softmax;

LORS_BOTH double lors_softmax_term(float x, double top)
{
    return lors_exp((double)x - top);
}

/* Of an element by its softmax_term. */
LORS_BOTH double lors_probability(double term, lors_softmax of)
{
    return term * of.share + LORS_SOFTMAX_FLOOR;
}

LORS_BOTH double lors_divergence_term(double p, double q)
{
    return p * lors_log_ratio(p, q) - (p - q);
}

/* A sum of terms that are 0 but for rounding is none. */
LORS_BOTH double lors_divergence_of(double sum)
{
    return sum < 0 ? 0 : sum;
}

LORS_BOTH float lors_weighed(float a, float b, double factor)
{
    float weight = (float)(factor * fabs((double)a - (double)b));
    return weight == weight ? weight : INFINITY;
}

/* The limit of `keep_from`. */
LORS_BOTH double lors_limit_of(const float *values, const double *factors, int32_t n_values)
{
    double limit = 0;
    for (int32_t j = 0; j < n_values; j++) {
        limit += factors[j] * (double)values[j];
    }
    return limit;
}

#endif

/* contest.h - models that compete for each element: the formulas of `score` and `balance`, which
 * every backend compiles. See lors_contest in backend_ops.h. C11 and CUDA C++.
 *
 *   d_k = x_k - base, t = sum_k d_k (two-sum); N models compete: those with high_k > 0
 *   c_k = |d_k| limited to low_k .. high_k
 *   s_k = (c_k - low_k) / (high_k - low_k), 0 where that is 0 / 0
 *   score_k = max(0, exp(N (s_k^2 - 1)) tanh(d_k t)), rounded to f32
 *   share_k = 1 from most_k on, 0 up to least_k, linear between; always 0 of a score of 0
 *   result  = scale * sum_k weight_k share_k sign(d_k) c_k / sum_k share_k, 0 without shares;
 *             t where that is not finite
 */
#ifndef LORS_BACKEND_CONTEST_H
#define LORS_BACKEND_CONTEST_H

#include "backend/backend_ops.h"
#include "backend/elementary.h"

/* What was found out about one model: bounds of its magnitudes, levels of its scores. */
typedef struct lors_contender {
    double low, high, least, most;
} lors_contender;

LORS_BOTH double lors_contest_size(double d, lors_contender of)
{
    double size = fabs(d);
    size = size < of.low ? of.low : size;
    return size > of.high ? of.high : size;
}

LORS_BOTH float lors_contest_score(double d, double total, lors_contender of, double n)
{
    double range = of.high - of.low;
    double s = (lors_contest_size(d, of) - of.low) / (range > 0 ? range : 1);
    double score = lors_exp(n * (s * s - 1)) * lors_tanh(d * total);
    return (float)(score < 0 ? 0 : score);
}

LORS_BOTH double lors_contest_share(float score, lors_contender of)
{
    double x = score, range = of.most - of.least;
    double share = (x - of.least) / (range > 0 ? range : 1);
    share = x > of.least ? share : 0;
    share = x >= of.most ? 1 : share;
    return x > 0 ? share : 0;
}

/* sign(d) c, weighted. */
LORS_BOTH double lors_contest_term(double d, lors_contender of, double weight, double share)
{
    double size = lors_contest_size(d, of) * weight * share;
    double term = d < 0 ? -size : size;
    return d == 0 ? 0 : term;
}

LORS_BOTH double lors_contest_result(double sum, double shares, double total, double scale)
{
    double result = scale * (sum / (shares > 0 ? shares : 1));
    return fabs(total) < (double)INFINITY ? result : total;
}

#endif

/* angles_coefficients.c - from the products of models to the coefficients of their sum. See
 * angles.c. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "method/angles.h"

/* Norm of sum_k a_k x_k. */
static double norm_of(const lors_products *p, const double *a)
{
    double sum = 0;
    for (int32_t i = 0; i < p->n; i++) {
        for (int32_t j = 0; j < p->n; j++) {
            sum += a[i] * a[j] * p->of[i][j];
        }
    }
    return sum > 0 ? sqrt(sum) : 0;
}

/* --- nuslerp ---------------------------------------------------------------------------------- */

static double limited(double cosine)
{
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

void lors_angles_nuslerp(const lors_call *call, const lors_products *p, double *c)
{
    double first = lors_call_number(call, 0, 0), second = lors_call_number(call, 0, 1);
    double t = fabs(first + second) < 1e-6 ? 0.5 : second / (first + second);
    double least = call->compat ? 1e-7 : DBL_MIN;
    double sizes = fmax(p->norm[0], least) * fmax(p->norm[1], least);
    double cosine = limited(p->of[0][1] / sizes);
    bool undefined = !call->compat && (p->norm[0] < DBL_MIN || p->norm[1] < DBL_MIN);
    c[0] = 1 - t;
    c[1] = t;
    if (!undefined && 1 - cosine * cosine > 1e-16) {
        double angle = acos(cosine), sine = sin(angle);
        c[0] = sin((1 - t) * angle) / sine;
        c[1] = sin(t * angle) / sine;
    }
}
/* --- multislerp ------------------------------------------------------------------------------- */

/* mergekit goes from the mean along the mean of the tangents there; but that mean is zero, since
 * the tangents are what the points have beside their mean. What is left is the mean's direction. */
void lors_angles_multislerp(const lors_call *call, const lors_products *p, double *c)
{
    bool normalize = lors_call_number(call, 1, 0) != 0;
    double eps = call->compat ? lors_call_number(call, 2, 0) : 0, weights = 0, size = 0;
    double unit[LORS_ANGLES_MOST] = {0};
    for (int32_t k = 0; k < p->n; k++) {
        weights += lors_call_number(call, 0, k);
    }
    for (int32_t k = 0; k < p->n; k++) {
        double weight = lors_call_number(call, 0, k) / (normalize ? weights : 1);
        c[k] = weight;
        unit[k] = p->norm[k] > 0 ? weight / (p->norm[k] + eps) : 0;
        size += weight * p->norm[k];
    }
    double norm = norm_of(p, unit);
    if (norm < lors_call_number(call, 2, 0)) {
        return; /* opposite points that cancel: their weighted mean, which is c */
    }
    for (int32_t k = 0; k < p->n; k++) {
        c[k] = unit[k] / norm * size;
    }
}
/* --- karcher ---------------------------------------------------------------------------------- */

/* The point sum_k a_k x_k / norm_k moves towards the points `unit`; how far it had to. */
static double step_karcher(const lors_products *p, const double *alpha, double tolerance, double *a)
{
    double tangent[LORS_ANGLES_MOST] = {0};
    for (int32_t k = 0; k < p->n; k++) {
        double cosine = 0;
        for (int32_t j = 0; j < p->n; j++) {
            cosine += alpha[k] > 0 ? a[j] * p->of[j][k] / p->norm[k] : 0;
        }
        double angle = acos(limited(cosine)), sine = sin(angle);
        if (alpha[k] > 0 && angle >= tolerance && sine > 0) {
            double pull = alpha[k] * angle / sine;
            for (int32_t j = 0; j < p->n; j++) {
                tangent[j] -= pull * cosine * a[j];
            }
            tangent[k] += pull / p->norm[k];
        }
    }
    double length = norm_of(p, tangent);
    if (length < tolerance) {
        return 0;
    }
    for (int32_t j = 0; j < p->n; j++) {
        a[j] = cos(length) * a[j] + sin(length) / length * tangent[j];
    }
    double norm = norm_of(p, a);
    for (int32_t j = 0; j < p->n && norm > tolerance; j++) {
        a[j] /= norm;
    }
    return length;
}

void lors_angles_karcher(const lors_call *call, const lors_products *p, double *c)
{
    double most = lors_call_number(call, 1, 0), tolerance = lors_call_number(call, 2, 0);
    double least = call->compat ? tolerance : 0, weights = 0, valid = 0, size = 0;
    double alpha[LORS_ANGLES_MOST], a[LORS_ANGLES_MOST] = {0};
    int32_t first = -1;
    for (int32_t k = 0; k < p->n; k++) {
        weights += lors_call_number(call, 0, k);
    }
    for (int32_t k = 0; k < p->n; k++) {
        double share = lors_call_number(call, 0, k) / weights;
        bool counts = p->norm[k] > least && share > 0;
        size += share * p->norm[k];
        alpha[k] = counts ? share : 0;
        valid += alpha[k];
        first = counts && first < 0 ? k : first;
    }
    memset(c, 0, (size_t)p->n * sizeof *c);
    if (first < 0) {
        return; /* all are zero */
    }
    for (int32_t k = 0; k < p->n; k++) {
        alpha[k] /= valid;
        a[k] = alpha[k] > 0 ? alpha[k] / p->norm[k] : 0;
    }
    double norm = norm_of(p, a);
    for (int32_t k = 0; k < p->n; k++) {
        a[k] = norm >= tolerance ? a[k] / norm : k == first ? 1 / p->norm[k] : 0;
    }
    for (double i = 0; i < most && step_karcher(p, alpha, tolerance, a) > 0; i++) {
    }
    for (int32_t k = 0; k < p->n; k++) {
        c[k] = a[k] * size;
    }
}
/* --- model_stock ------------------------------------------------------------------------------ */

void lors_angles_model_stock(const lors_call *call, const lors_products *p, double *c)
{
    double least = call->compat ? 1e-6 : DBL_MIN, sum = 0, n = p->n;
    for (int32_t i = 0; i < p->n; i++) {
        for (int32_t j = i + 1; j < p->n; j++) {
            sum += limited(p->of[i][j] / fmax(p->norm[i] * p->norm[j], least));
        }
    }
    double cosine = sum / (n * (n - 1) / 2), divisor = 1 + (n - 1) * cosine;
    double t = fabs(divisor) < 1e-6 ? 0 : n * cosine / divisor;
    if (!call->compat) {
        t = !(cosine > 0) ? 0 : t > 1 ? 1 : t;
    }
    for (int32_t k = 0; k < p->n; k++) {
        c[k] = t / n;
    }
}
/* --- metagpt ---------------------------------------------------------------------------------- */

void lors_angles_metagpt(const lors_call *call, const lors_products *p, double *c)
{
    double sum = 0, lambda = lors_call_number(call, 0, 0);
    for (int32_t k = 0; k < p->n; k++) {
        sum += p->of[k][k];
    }
    for (int32_t k = 0; k < p->n; k++) {
        c[k] = sum > 0 ? lambda * p->of[k][k] / sum : 0;
    }
}
/* --- geometric_median ------------------------------------------------------------------------- */

/* Distance of sum_j a_j x_j from x_k; the a_j sum to 1. */
static double distance(const lors_products *p, const double *a, int32_t k)
{
    double apart[LORS_ANGLES_MOST];
    for (int32_t j = 0; j < p->n; j++) {
        apart[j] = a[j] - (j == k);
    }
    return norm_of(p, apart);
}

/* Nearer to a model than this share of the largest norm is at it: what products can tell. */
#define AT_MODEL 1e-7

/* One step of Weiszfeld, as Vardi and Zhang (2000) have it, so that it leaves a model that it comes
 * to and that is not the median. Returns the largest change of a coefficient; 0 at the median. */
static double step_median(const lors_call *call, const lors_products *p, double size, double *c)
{
    double next[LORS_ANGLES_MOST], way[LORS_ANGLES_MOST] = {0}, here = 0, sum = 0, moved = 0;
    bool at[LORS_ANGLES_MOST];
    for (int32_t k = 0; k < p->n; k++) {
        double weight = lors_call_number(call, 0, k), apart = distance(p, c, k);
        at[k] = !(apart > AT_MODEL * size);
        here += at[k] ? weight : 0;
        next[k] = at[k] ? 0 : weight / apart;
        sum += next[k];
    }
    for (int32_t k = 0; k < p->n; k++) {
        way[k] = next[k] - sum * c[k];
    }
    double pull = norm_of(p, way); /* of the other models, against the weight of those here */
    bool arrived = here > 0 && here >= pull;
    double stays = here > 0 && !arrived ? here / pull : 0;
    for (int32_t k = 0; k < p->n; k++) {
        double own = at[k] ? lors_call_number(call, 0, k) / here : 0;
        double to = arrived ? own : (1 - stays) * next[k] / sum + stays * c[k];
        moved = fmax(moved, fabs(to - c[k]));
        c[k] = to;
    }
    return arrived ? 0 : moved;
}

void lors_angles_geometric_median(const lors_call *call, const lors_products *p, double *c)
{
    double most = lors_call_number(call, 1, 0), tolerance = lors_call_number(call, 2, 0);
    double weights = 0, size = 0, moved = 1;
    for (int32_t k = 0; k < p->n; k++) {
        weights += lors_call_number(call, 0, k);
        size = fmax(size, p->norm[k]);
    }
    for (int32_t k = 0; k < p->n; k++) {
        c[k] = lors_call_number(call, 0, k) / weights;
    }
    for (double i = 0; i < most && moved > tolerance && size > 0; i++) {
        moved = step_median(call, p, size, c);
    }
}

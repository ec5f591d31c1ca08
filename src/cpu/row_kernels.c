/* row_kernels.c - rows as distributions: see backend/rows.h. */
#include <string.h>

#include "backend/rows.h"
#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

enum {
    SPAN = 512, /* elements whose terms are made before they are summed */
    LANES = 8,
    KEPT = 5120 /* length of a row whose exponentials are kept: most layers' */
};

/* Room for LANES more. */
static inline void add_terms(lors_lanes8 *sum, double *terms, int64_t n)
{
    for (int64_t i = n; i % LANES != 0; i++) {
        terms[i] = 0;
    }
    for (int64_t i = 0; i < n; i += LANES) {
        lors_lanes8 eight;
        lors_lanes8_load(&eight, terms + i);
        sum->low += eight.low;
        sum->high += eight.high;
    }
}

static double largest_of(const float *x, int64_t n)
{
    float lanes[LANES];
    int64_t i = 0;
    for (int lane = 0; lane < LANES; lane++) {
        lanes[lane] = -INFINITY;
    }
    for (; i + LANES <= n; i += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
        }
    }
    for (; i < n; i++) {
        lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    }
    for (int lane = 1; lane < LANES; lane++) {
        lanes[0] = lanes[lane] > lanes[0] ? lanes[lane] : lanes[0];
    }
    return lanes[0];
}

/* Terms of a row: all of them where it is short, else of one span. */
typedef struct row_terms {
    double at[KEPT + LANES];
} row_terms;

static lors_softmax softmax_of(row_terms *kept, const float *restrict x, int64_t n)
{
    lors_lanes8 sum = {{0}, {0}};
    double top = largest_of(x, n);
    for (int64_t begin = 0; begin < n; begin += SPAN) {
        int64_t count = n - begin < SPAN ? n - begin : SPAN;
        double *restrict terms = kept->at + (n <= KEPT ? begin : 0);
        for (int64_t i = 0; i < count; i++) {
            terms[i] = lors_softmax_term(x[begin + i], top);
        }
        add_terms(&sum, terms, count);
    }
    return (lors_softmax){top, 1 / lors_lanes8_fold(&sum)};
}

/* The terms of a span once more. */
static const double *terms_of(row_terms *kept, const float *restrict x, lors_softmax of,
                              int64_t begin, int64_t count, int64_t n)
{
    double *restrict terms = kept->at;
    if (n <= KEPT) {
        return terms + begin;
    }
    for (int64_t i = 0; i < count; i++) {
        terms[i] = lors_softmax_term(x[begin + i], of.top);
    }
    return terms;
}

double LORS_KERNEL(diverge_row)(const float *restrict a, const float *restrict b, int64_t n)
{
    row_terms kept_a, kept_b;
    lors_softmax of_a = softmax_of(&kept_a, a, n), of_b = softmax_of(&kept_b, b, n);
    lors_lanes8 sum = {{0}, {0}};
    double terms[SPAN + LANES];
    for (int64_t begin = 0; begin < n; begin += SPAN) {
        int64_t count = n - begin < SPAN ? n - begin : SPAN;
        const double *restrict p = terms_of(&kept_a, a, of_a, begin, count, n);
        const double *restrict q = terms_of(&kept_b, b, of_b, begin, count, n);
        for (int64_t i = 0; i < count; i++) {
            terms[i] = lors_divergence_term(lors_probability(p[i], of_a),
                                            lors_probability(q[i], of_b));
        }
        add_terms(&sum, terms, count);
    }
    return lors_divergence_of(lors_lanes8_fold(&sum));
}

void LORS_KERNEL(weigh_row)(float *restrict out, const float *restrict a, const float *restrict b,
                            double factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = lors_weighed(a[i], b[i], factor);
    }
}

void LORS_KERNEL(keep_from)(uint8_t *restrict mask, const float *restrict x, double limit,
                            int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        mask[i] = (uint8_t)!((double)x[i] < limit);
    }
}

/* row_kernels.c - rows as distributions: see backend/rows.h. */
#include <string.h>

#include "backend/rows.h"
#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

enum { SPAN = 512, LANES = 8 }; /* elements whose terms are made before they are summed */

static inline void add_terms(lors_lanes8 *sum, double terms[SPAN], int64_t n)
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

static lors_softmax softmax_of(const float *restrict x, int64_t n)
{
    lors_lanes8 sum = {{0}, {0}};
    double terms[SPAN], top = largest_of(x, n);
    for (int64_t begin = 0; begin < n; begin += SPAN) {
        int64_t count = n - begin < SPAN ? n - begin : SPAN;
        for (int64_t i = 0; i < count; i++) {
            terms[i] = lors_softmax_term(x[begin + i], top);
        }
        add_terms(&sum, terms, count);
    }
    return (lors_softmax){top, 1 / lors_lanes8_fold(&sum)};
}

double LORS_KERNEL(diverge_row)(const float *restrict a, const float *restrict b, int64_t n)
{
    lors_softmax of_a = softmax_of(a, n), of_b = softmax_of(b, n);
    lors_lanes8 sum = {{0}, {0}};
    double terms[SPAN];
    for (int64_t begin = 0; begin < n; begin += SPAN) {
        int64_t count = n - begin < SPAN ? n - begin : SPAN;
        for (int64_t i = 0; i < count; i++) {
            terms[i] = lors_divergence_term(a[begin + i], of_a, b[begin + i], of_b);
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

/* low_rank_kernels.c - between f32 matrices and the f64 tiles of the low-rank solvers. */
#include "cpu/cpu_internal.h"
#include "cpu/lanes.h"

void LORS_KERNEL(widen_f64)(double *restrict out, const float *restrict in, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = in[i];
    }
}

double LORS_KERNEL(narrow_residual)(float *restrict out, const double *restrict in,
                                    const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)in[i];
    }
    lors_lanes8 sum = {0}, a, b;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        lors_lanes8_widen(&a, x + i);
        lors_lanes8_widen(&b, out + i);
        lors_lanes8_subtract(&a, &b);
        lors_lanes8_add(&sum, &a, &a);
    }
    lors_lanes8_widen_rest(&a, x + i, n - i);
    lors_lanes8_widen_rest(&b, out + i, n - i);
    lors_lanes8_subtract(&a, &b);
    lors_lanes8_add(&sum, &a, &a);
    return lors_lanes8_fold(&sum);
}

double LORS_KERNEL(sum_of_squares)(const float *x, int64_t n)
{
    lors_lanes8 sum = {0}, a;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        lors_lanes8_widen(&a, x + i);
        lors_lanes8_add(&sum, &a, &a);
    }
    lors_lanes8_widen_rest(&a, x + i, n - i);
    lors_lanes8_add(&sum, &a, &a);
    return lors_lanes8_fold(&sum);
}

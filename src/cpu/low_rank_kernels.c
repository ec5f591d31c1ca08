/* low_rank_kernels.c - between f32 matrices and the f64 tiles of the low-rank solvers. */
#include "cpu/cpu_internal.h"

void LORS_KERNEL(widen_f64)(double *restrict out, const float *restrict in, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = in[i];
    }
}

static double fold(const double lanes[8])
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

double LORS_KERNEL(narrow_residual)(float *restrict out, const double *restrict in,
                                    const float *restrict x, int64_t n)
{
    double lanes[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int lane = 0; lane < 8; lane++) {
            out[i + lane] = (float)in[i + lane];
            double rest = (double)x[i + lane] - (double)out[i + lane];
            lanes[lane] += rest * rest;
        }
    }
    for (int lane = 0; i < n; i++, lane++) {
        out[i] = (float)in[i];
        double rest = (double)x[i] - (double)out[i];
        lanes[lane] += rest * rest;
    }
    return fold(lanes);
}

double LORS_KERNEL(sum_of_squares)(const float *x, int64_t n)
{
    double lanes[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int lane = 0; lane < 8; lane++) {
            lanes[lane] += (double)x[i + lane] * (double)x[i + lane];
        }
    }
    for (int lane = 0; i < n; i++, lane++) {
        lanes[lane] += (double)x[i] * (double)x[i];
    }
    return fold(lanes);
}

/* method_models.c - made-up models for merges, and what merges are compared with. */
#include "method_harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "synth.h"

static void to_dtype(float *x, int64_t n, lors_dtype dtype)
{
    if (dtype == LORS_F32) {
        return;
    }
    synth_coarsen(x, n, dtype == LORS_F16 ? 11 : 8);
    for (int64_t i = 0; i < n && dtype == LORS_F16; i++) { /* no subnormals, which hold less */
        x[i] = fabsf(x[i]) < 0x1p-14f ? copysignf(0x1p-14f, x[i]) : x[i];
    }
}

float *made_base(int64_t n, lors_dtype dtype, uint64_t seed)
{
    float *base = malloc((size_t)n * sizeof *base + 1);
    synth_values(base, n, 0.05, seed);
    to_dtype(base, n, dtype);
    return base;
}

float *made_model(const float *base, int64_t n, lors_dtype dtype, uint64_t seed)
{
    float *model = malloc((size_t)n * sizeof *model + 1);
    synth_values(model, n, 0.002, seed);
    for (int64_t i = 0; i < n; i++) {
        model[i] += base[i];
    }
    to_dtype(model, n, dtype);
    return model;
}

void expect_values(const merge *m, const float *wanted)
{
    for (int64_t i = 0; i < m->n_rows * m->n_cols; i++) {
        if (memcmp(&m->values[i], &wanted[i], sizeof *wanted) != 0) {
            print_error("element %lld: %a, not %a\n", (long long)i, (double)m->values[i],
                        (double)wanted[i]);
            fail();
        }
    }
}

void expect_near(const merge *m, const double *wanted, double tolerance)
{
    for (int64_t i = 0; i < m->n_rows * m->n_cols; i++) {
        if (!(fabs(m->values[i] - wanted[i]) <= tolerance)) {
            print_error("element %lld: %.17g, not %.17g\n", (long long)i, (double)m->values[i],
                        wanted[i]);
            fail();
        }
    }
}

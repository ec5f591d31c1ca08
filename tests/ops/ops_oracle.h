/* ops_oracle.h - what each operation should give, written as plainly as it can be. */
#ifndef LORS_TESTS_OPS_ORACLE_H
#define LORS_TESTS_OPS_ORACLE_H

#include "backend/backend_ops.h"

/* The value of the bits of an f16, bf16 or f32. */
double oracle_widen(lors_dtype dtype, uint32_t bits);
/* The bits of the nearest value, ties to even; canonical NaN. */
uint32_t oracle_narrow(lors_dtype dtype, double value);

/* A lors_sum over host arrays, one element of it. `absent` members are NULL. */
typedef struct oracle_sum {
    const float *stack, *base, *low; /* low: a stack, too */
    const uint8_t *masks;
    const int8_t *signs;
    int64_t stride;
    int32_t n_models;
    const double *weights, *shares; /* shares: NULL for the weights */
    lors_divisor divisor;
    double divisor_value, scale;
    bool add, in_order;
} oracle_sum;

double oracle_accumulate(const oracle_sum *sum, double before, int64_t i);
int8_t oracle_sign(const oracle_sum *sum, int64_t i);

/* Results of a store of n elements: bits, and the finding of one block. */
typedef struct oracle_store {
    uint32_t *bits;
    double update, loss;
    uint32_t n_overflow, n_nan, n_infinite, first_bad;
} oracle_store;

/* Models whose common value is the result; `stack` NULL: not looked for. */
typedef struct oracle_agreement {
    const float *stack;
    int64_t stride;
    int32_t n_models;
} oracle_agreement;

void oracle_store_block(oracle_store *out, lors_dtype dtype, const double *acc, const float *base,
                        const oracle_agreement *models, int64_t n, bool zero_nonfinite);

/* mask [n]: 1 for the k largest magnitudes, ties by lowest index, no NaN. Returns how many. */
uint64_t oracle_select(uint8_t *mask, const float *x, int64_t n, uint64_t k);

/* Full singular value decomposition in f64, by LAPACK: x = u diag(s) vt, row-major, with u
 * [n_rows][k], s [k] descending, vt [k][n_cols], k the short side. */
typedef struct oracle_svd {
    int64_t n_rows, n_cols, k;
    double *u, *s, *vt, norm;
} oracle_svd;

oracle_svd oracle_svd_of(const float *x, int64_t n_rows, int64_t n_cols);
void oracle_svd_free(oracle_svd *svd);
/* Frobenius norm of what is left beyond this rank. */
double oracle_tail(const oracle_svd *svd, int64_t rank);
/* Entry of the best approximation of this rank. */
double oracle_low(const oracle_svd *svd, int64_t rank, int64_t row, int64_t col);

#endif

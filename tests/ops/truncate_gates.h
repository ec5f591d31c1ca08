/* truncate_gates.h - one truncation, and the gates that it must pass against an SVD in f64.
 *
 *   T1  norm(d - L) <= (1 + 1e-6) * optimum + 4 * 2^-24 * norm(d), always
 *   T2  norm(L - L_ref) <= 1e-5 * norm(d) where (s_r - s_{r+1}) / s_r >= 1e-2
 *   T3  |s - s_ref| <= 1e-5 * s_1
 *   T4  rank(L) <= r, norm(V'V - I) <= 1e-5
 */
#ifndef LORS_TESTS_OPS_TRUNCATE_GATES_H
#define LORS_TESTS_OPS_TRUNCATE_GATES_H

#include "ops_bench.h"
#include "ops_oracle.h"
#include "synth.h"

#define OF_COUNT(n) {(n), 0, false}
#define OF_ENERGY(share) {0, (share), false}

typedef struct truncation {
    const float *x;
    int64_t n_rows, n_cols;
    lors_rank rank;
    const oracle_svd *svd;
    float *low; /* result */
    lors_certificate certificate;
    char what[160];
} truncation;

/* Compute it alone, in buffers of its own. */
void truncate_alone(ops_bench *bench, truncation *t);
/* Compute several of one shape in one call, slices `gap` elements apart from each other. */
void truncate_batch(ops_bench *bench, truncation *batch, int32_t n_matrices, int64_t gap);
/* Say in `what` what it is, and check the result and its certificate. */
void check_gates(truncation *t, const char *matrix);
/* A matrix of this kind and scale, at each rank. */
void check_ranks(ops_bench *bench, int64_t n_rows, int64_t n_cols, synth_kind kind, double scale,
                 const lors_rank *ranks, int n_ranks);
/* The worst seen of each gate, as a share of what it allows. */
void print_worst_gates(void);

#endif

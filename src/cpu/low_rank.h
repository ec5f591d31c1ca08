/* low_rank.h - what the solvers of low_rank.c share: the matrix seen with its short side second. */
#ifndef LORS_CPU_LOW_RANK_H
#define LORS_CPU_LOW_RANK_H

#include <lapacke.h>

#include "cpu/cpu_internal.h"

/* A is n_long x n_short: element (i, j) is x[i * n_cols + j] (tall), or x[j * n_cols + i] (wide).
 * In column-major words x is A' with n_short rows (tall) or A with n_long rows (wide). */
typedef struct lors_matrix {
    const float *x;
    const lors_cpu_kernels *kernels;
    int64_t n_rows, n_cols;
    bool wide;
    lapack_int n_long, n_short;
} lors_matrix;

/* The leading right singular vectors of A found by a solver in f32, or not found. */
typedef struct lors_krylov {
    lapack_int rank;
    double *vectors; /* out: [rank][n_short], orthonormal, by ascending singular value */
    double next;     /* out: the largest squared singular value not used */
    double residual; /* out: Frobenius norm of A'A V - V diag(values), over the largest value */
    double excess;   /* out: bound on norm(A - A V V') / optimum - 1, by residual and gap */
    int32_t n_steps; /* out, of block Lanczos: blocks taken, two products with A each */
} lors_krylov;

/* The next n_bytes of a scratch block, 64-byte aligned; NULL where it is only measured. */
static inline void *lors_carve(unsigned char *base, uint64_t *at, uint64_t n_bytes)
{
    void *place = base ? base + *at : NULL;
    *at += (n_bytes + 63) & ~(uint64_t)63;
    return place;
}

/* Is this rank small enough for the iteration to be worth a try? A function of shape and rank. */
bool lors_krylov_fits(lapack_int n_long, lapack_int n_short, lapack_int rank);
/* Scratch bytes for lors_krylov_solve of this rank, or any lower one. */
uint64_t lors_krylov_bytes(lapack_int n_long, lapack_int n_short, lapack_int rank);
/* Returns whether the result is certified: good enough for the bounds that low_rank.c promises.
 * `total` is the squared Frobenius norm of A. Stops on counts and numbers, never on time. */
bool lors_krylov_solve(const lors_matrix *a, double total, unsigned char *scratch, lors_krylov *k);

/* Estimated norm(L - L_exact) / norm(A) to stop at where the gap makes L well-posed; measured, the
 * estimate overstates the error 2 to 5 times. Elsewhere the energy lost decides. */
#define LORS_STOP_PROJECTION 1e-5
#define LORS_STOP_ENERGY 1e-7
#define LORS_STOP_GAP 4e-3

/* The same from the Gram matrix in f32 and all of its spectrum. */
bool lors_single_fits(lapack_int n_short, lapack_int rank);
uint64_t lors_single_bytes(lapack_int n_short, lapack_int rank);
bool lors_single_solve(const lors_matrix *a, double total, unsigned char *scratch, lors_krylov *k);

/* Of the space of v [count][n_short], orthonormal, the `rank` leading directions of A as far as it
 * holds them: vectors [rank][n_short], ascending; values [count]: the squared singular values of
 * all, ascending. count > rank. false where LAPACK's iteration did not converge. */
uint64_t lors_polish_bytes(lapack_int n_short, lapack_int count);
bool lors_polish(const lors_matrix *a, const double *v, lapack_int count, lapack_int rank,
                 double *vectors, double *values, unsigned char *scratch);

/* low = (A V) V' for few directions: v [rank][n_short], orthonormal. Returns the squared norm of
 * A - low as stored; values: the squared singular values as Rayleigh quotients in f64, better than
 * any solver's own. */
bool lors_project_fits(lapack_int rank);
uint64_t lors_project_bytes(lapack_int n_short, lapack_int rank);
double lors_project_few(const lors_matrix *a, float *low, const double *v, lapack_int rank,
                        double *values, unsigned char *scratch);

/* The singular values of A and its right singular vectors, in `scratch`. */
typedef struct lors_exact {
    const double *values;  /* [n_short], descending */
    const double *vectors; /* element i of vector j: vectors[j * vector_step + i * element_step] */
    int64_t vector_step, element_step;
} lors_exact;

uint64_t lors_exact_bytes(lapack_int n_long, lapack_int n_short);
/* false where LAPACK's iteration did not converge. */
bool lors_exact_solve(const lors_matrix *a, const lors_cpu_kernels *kernels, unsigned char *scratch,
                      lors_exact *out);

#endif

/* spectral.h - what the methods on whole spectra share: Gram matrices, directions, polar factors.
 *
 * A task vector is seen as a matrix A [n_rows][n_cols] with a short and a long side. The
 * eigenvectors of its Gram matrix on the short side, in f64, are its singular vectors there, the
 * roots of the eigenvalues its singular values s, and A times them over s the vectors on the long
 * side. An eigenvalue is off by rounding of the largest one: s is good to 1e-16 s_1^2 / s, and
 * what is below LORS_NULL of s_1 is taken for 0 and its direction for none, both here and where
 * polar factors are made: U V' of the other directions is a partial isometry.
 */
#ifndef LORS_METHOD_SPECTRAL_H
#define LORS_METHOD_SPECTRAL_H

#include "method/method_table.h"

/* Its square stands well above what the eigenvalues of a few thousand rows are off by. */
#define LORS_NULL 1e-6

/* Directions of several matrices, one row each: f64 [capacity][short or long side]. */
typedef struct lors_stack {
    int64_t capacity, n;
    lors_view short_rows, long_rows;
    double *sigma; /* [capacity], host; 0: no direction, its rows are zeros */
} lors_stack;

typedef struct lors_spectral {
    const lors_call *call;
    bool tall, not_finite;
    int64_t n_short, n_long;
    uint64_t filled;         /* bytes taken of the call's scratch */
    int64_t numbers;         /* and f64 numbers taken of its numbers */
    int64_t size;            /* the largest eigenproblem */
    lors_view gram, vectors; /* f64 [size][size] */
    lors_view solver, product;
    double *values; /* [2 * size], host */
} lors_spectral;

/* Take the next piece of scratch (f64) and of the host's numbers. */
lors_view lors_spectral_take(lors_spectral *s, int64_t n_doubles);
lors_view lors_spectral_take_bytes(lors_spectral *s, uint64_t n_bytes);
double *lors_spectral_take_numbers(lors_spectral *s, int64_t n);
/* Sides, and what eigenproblems of this size and products with `stacked` rows need. Views are
 * absent where the call has no scratch yet. */
lors_spectral lors_spectral_of(const lors_call *call, int64_t size, int64_t stacked);
lors_stack lors_spectral_stack(lors_spectral *s, int64_t capacity);

/* Model k's task vector as a factor; one in f64 [n_rows][n_cols]. */
lors_factor lors_spectral_delta(const lors_spectral *s, int32_t k);
lors_factor lors_spectral_wide(const lors_spectral *s, lors_view x);

lors_status lors_spectral_multiply(const lors_spectral *s, lors_view out, lors_product p);
/* The eigenvalues (s->values, ascending) and eigenvectors (rows of s->vectors) of the Gram matrix
 * of A on its short side, all of them. */
lors_status lors_spectral_decompose(lors_spectral *s, lors_factor a);
/* out [count][n_long] = rows [count][n_short] times A along its short side. */
lors_status lors_spectral_long_rows(const lors_spectral *s, lors_factor a, lors_view rows,
                                    int64_t count, lors_view out);
/* out [n_rows][n_cols] = alpha * sum of the outer products of rows, + beta * out. */
lors_status lors_spectral_outer(const lors_spectral *s, lors_view long_rows, lors_view short_rows,
                                int64_t count, double alpha, double beta, lors_view out);
/* The `count` leading directions of A onto the stack. `least`: what is below LORS_NULL of it is
 * none. */
lors_status lors_spectral_push(lors_spectral *s, lors_stack *stack, lors_factor a, int64_t count,
                               double least);
/* (x x')^-1/2 or (x'x)^-1/2 of x f64 [rows][cols], whichever is smaller, into s->gram;
 * s->values: the squared singular values of x. */
lors_status lors_spectral_inverse_root(lors_spectral *s, lors_view x, int64_t rows, int64_t cols);
/* out [rows][cols] = alpha * x times that. */
lors_status lors_spectral_whiten(const lors_spectral *s, lors_view x, int64_t rows, int64_t cols,
                                 double alpha, lors_view out);
/* The rows of the stack become polar factors, on either side, and their outer products, times
 * alpha * sigma, acc. spare: f64 [capacity][n_long]. */
lors_status lors_spectral_merge(lors_spectral *s, lors_stack *stack, double alpha, lors_view spare);
/* acc = 0, or NaN. */
lors_status lors_spectral_fill(const lors_spectral *s, double with);
/* out f64 [n_rows][n_cols] = sum over models from .. from + n - 1 of weight * task vector. */
lors_status lors_spectral_sum(const lors_spectral *s, int32_t weight, int32_t from, int32_t n,
                              lors_view out);
/* Has model k a task vector that counts? */
bool lors_spectral_counts(const lors_call *call, int32_t weight, int32_t k);

#endif

/* backend_ops.h - the contract of a backend: memory, and about ten operations on f32 stacks.
 *
 * A backend sees numbers only: no recipe, plan, method, tensor name or file. Host code holds views
 * (memory + offset), never bare pointers, so that it cannot touch a device's memory by mistake.
 * No operation allocates or synchronises; every entry of every table is filled.
 *
 * Arithmetic is fixed here, so that elementwise results are the same bits on every backend:
 * differences and sums in f64, no fused multiply-add, one rounding to nearest even
 * straight from f64 to the stored type, selection on bit patterns with ties by lowest index,
 * reductions over fixed blocks of LORS_BLOCK elements.
 */
#ifndef LORS_BACKEND_BACKEND_OPS_H
#define LORS_BACKEND_BACKEND_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

#include "base/dtype.h"

enum {
    LORS_BLOCK = 8192,      /* elements of one partial sum: part of the result's definition */
    LORS_SELECT_PASSES = 4, /* passes of the selection over its values */
    LORS_BACKEND_ABI = 1
};

/* Where weights or votes cancel but for rounding: a sum of weights up to this share of their
 * magnitudes counts as 0, and so does a vote up to this share of the magnitudes of its terms. */
#define LORS_CANCELLED 1e-12
#define LORS_TIED 0x1p-50

typedef struct lors_backend lors_backend; /* an opened device */
typedef struct lors_memory lors_memory;   /* a block of its memory */

typedef struct lors_view {
    lors_memory *memory; /* NULL: absent, where an operation says that it may be */
    uint64_t offset;     /* bytes; a multiple of the element size */
} lors_view;

#define LORS_NO_VIEW ((lors_view){0, 0})

static inline lors_view lors_view_at(lors_view view, uint64_t n_bytes)
{
    view.offset += n_bytes;
    return view;
}

/* What `load` finds. Zero-initialise one per range; plain host memory. */
typedef struct lors_findings {
    uint64_t n_nonfinite, first_nonfinite; /* index within the range of the call; valid if n > 0 */
} lors_findings;

/* What `store` writes per block of LORS_BLOCK elements (of this call's range); host memory. */
typedef struct lors_store_block {
    double update, loss; /* sums of squares: exact result - base; stored - exact result */
    uint32_t n_overflow; /* finite results that the stored type turned into infinity */
    uint32_t n_nan;      /* results that are NaN */
    uint32_t n_infinite; /* results that were infinite before rounding */
    uint32_t first_bad;  /* index in the block of the first of these three kinds */
} lors_store_block;

/* A weighted sum over a stack. For element i, with x_m the m-th slice of `stack`:
 *   term_m = weights[m] * (kept ? x_m - base : low)   in f64, (x_m - base) exact f64 difference
 *   kept   = no masks, or masks[m][i] != 0
 *   low    = low[i] where a low view is given, else 0 (an element neither kept nor low adds
 * nothing)
 *   with signs: only terms whose sign equals signs[i] count; zero terms never do
 *   sum    = term_0 + term_1 + ... with the roundings of the additions summed beside it and added
 * at
 *            the end (two-sum), so that the order of the models does not matter; without models of
 *            weight 0 (they leave no trace, not even in the sign of a zero); 0 if there are none
 *   acc    = (add ? acc : 0) + scale * sum / divisor */
typedef enum lors_divisor {
    LORS_DIVIDE_NOT,
    LORS_DIVIDE_CONSTANT, /* by divisor_value */
    LORS_DIVIDE_KEPT      /* by the sum of the weights of the counted terms; 0 (LORS_CANCELLED)
                             counts as 1 */
} lors_divisor;

typedef struct lors_sum {
    lors_view stack;       /* f32 [n_models][stride] */
    lors_view base;        /* f32 [n]; absent: 0 */
    lors_view masks;       /* u8 [n_models][stride]; absent: everything is kept */
    lors_view low;         /* f32 [n]; absent: 0 */
    lors_view signs;       /* i8 [n]; absent: no election */
    int64_t stride;        /* elements from one slice to the next */
    int32_t n_models;
    const double *weights; /* [n_models], host */
    lors_divisor divisor;
    double divisor_value;
    double scale;
    bool add;
} lors_sum;

/* Rank asked for: a count, or (energy > 0) the least count that keeps this share of the energy. */
typedef struct lors_rank {
    int64_t count;
    double energy;
} lors_rank;

/* How good a truncation is, measured, not assumed. */
typedef struct lors_certificate {
    int64_t rank;          /* of the result */
    double norm;           /* Frobenius norm of the matrix */
    double energy;         /* share of its square that is kept, in [0, 1]; 1 for a zero matrix */
    double gap;            /* (s_r - s_{r+1}) / s_r; 1 at full rank, 0 if s_r is 0 */
    double sigma_first, sigma_last, sigma_next; /* s_1, s_r, s_{r+1} (0 where there is none) */
    double residual;       /* norm(G V - V diag(s^2)) / s_1^2 of the eigenvectors used */
    double orthogonality;  /* norm(V'V - I) */
    double excess;         /* norm(matrix - result) / optimum - 1, the optimum from the spectrum;
                              0 where the optimum is below 1e-6 of the norm */
    const char *path;      /* the solver that answered: "zero", "full", "krylov", "gram" */
} lors_certificate;

typedef struct lors_backend_ops {
    uint32_t abi; /* LORS_BACKEND_ABI */
    const char *name;
    int64_t tile_elements; /* elementwise work goes best in tiles of this many elements, a multiple
                              of LORS_BLOCK; 0: whole ranges */

    /* Memory. `open` takes the index of the device. host_bytes: the address of memory that the
     * host may read and write directly (all of it on the CPU). Errors: ERR_DEVICE, ERR_LIMIT. */
    lors_status (*open)(int32_t index, lors_backend **out);
    void (*close)(lors_backend *backend);
    lors_status (*allocate)(lors_backend *backend, uint64_t n_bytes, lors_memory **out);
    void (*release)(lors_backend *backend, lors_memory *memory);
    void *(*host_bytes)(lors_view view);

    /* out f32 [n] = in [n] of `dtype` (F32, F16, BF16), widened exactly. With `zero_nonfinite`, NaN
     * and infinity are read as 0 (and counted). */
    lors_status (*load)(lors_backend *backend, lors_view out, lors_view in, lors_dtype dtype,
                        int64_t n, bool zero_nonfinite, lors_findings *findings);
    /* out f32 [n] = a - b, rounded once to f32. `out` may be `a`. */
    lors_status (*subtract)(lors_backend *backend, lors_view out, lors_view a, lors_view b,
                            int64_t n);
    /* Are a and b (f32 [n]) the same bits? A task vector of zeros is found so. */
    lors_status (*compare)(lors_backend *backend, lors_view a, lors_view b, int64_t n, bool *same);
    /* acc f64 [n]: see lors_sum. */
    lors_status (*accumulate)(lors_backend *backend, lors_view acc, const lors_sum *sum, int64_t n);
    /* signs i8 [n] = +1 where the sum of the kept terms (as in lors_sum, unscaled) is >= 0 or a tie
     * (LORS_TIED), else -1. `sum->signs`, divisor and scale are ignored. */
    lors_status (*elect_sign)(lors_backend *backend, lors_view signs, const lors_sum *sum,
                              int64_t n);
    /* out [n] of `dtype` = round(base + acc), or round(base) exactly where acc is 0 (so that -0
     * survives); without base round(acc). blocks: one per started LORS_BLOCK of the call. With
     * `zero_nonfinite`, a result that is or becomes NaN or infinite is stored as 0 (and
     * counted). */
    lors_status (*store)(lors_backend *backend, lors_view out, lors_dtype dtype, lors_view acc,
                         lors_view base, int64_t n, bool zero_nonfinite, lors_store_block *blocks);

    /* dots f64 [started blocks of the call][3] = sums over each block of a*a, a*b, b*b in f64, in a
     * fixed order. a and b are f32 [n]. */
    lors_status (*reduce_dots)(lors_backend *backend, lors_view dots, lors_view a, lors_view b,
                               int64_t n);

    /* Exact selection of the `k` values of largest magnitude among `total`, ties by lowest index,
     * NaN never. The state lives in backend memory of select_bytes(total). Call select_begin, then
     * for each pass 0 .. LORS_SELECT_PASSES-1: select_count over all values in any order and any
     * split at multiples of LORS_BLOCK (`first` = index of the first value of the call; safe from
     * several threads at once), then select_settle once. Then keep_top: mask u8 [n] = 1 where kept.
     * select_kept: how many are kept in all (k, or fewer where there are fewer numbers). */
    uint64_t (*select_bytes)(uint64_t total);
    lors_status (*select_begin)(lors_backend *backend, lors_view state, uint64_t total, uint64_t k);
    lors_status (*select_count)(lors_backend *backend, lors_view state, int32_t pass, lors_view x,
                                uint64_t first, int64_t n);
    lors_status (*select_settle)(lors_backend *backend, lors_view state, int32_t pass);
    lors_status (*keep_top)(lors_backend *backend, lors_view state, lors_view mask, lors_view x,
                            uint64_t first, int64_t n);
    lors_status (*select_kept)(lors_backend *backend, lors_view state, uint64_t *n_kept);

    /* low f32 [rows][cols] = the nearest matrix to x (row-major f32) of the given rank. */
    uint64_t (*truncate_bytes)(int64_t n_rows, int64_t n_cols, lors_rank rank);
    lors_status (*truncate_rank)(lors_backend *backend, lors_view low, lors_view x, int64_t n_rows,
                                 int64_t n_cols, lors_rank rank, lors_view scratch,
                                 lors_certificate *certificate);
} lors_backend_ops;

#endif

/* backend_ops.h - the contract of a backend: memory, queues, a dozen operations on stacks.
 *
 * A backend sees numbers only: no recipe, plan, method, tensor name or file. Host code holds views
 * (memory + offset), never bare pointers, so that it cannot touch a device's memory by mistake.
 *
 * Work goes into a queue: one queue is used by one thread, and does what it is told in order, but
 * possibly later: what an operation finds out is written to a view, and is there after `wait`.
 * Arrays given as plain pointers (weights, counts) are taken over before the call returns. No
 * operation allocates, and none waits but `truncate_rank`, `eigen`, `solve` and `dot_rows`, whose
 * answers decide what is done next. Every entry of every table is filled: there is no silent
 * fallback.
 *
 * Arithmetic is fixed here, so that elementwise results are the same bits on every backend (the
 * formulas are in backend/arithmetic.h, which every backend compiles): differences and sums in f64,
 * no fused multiply-add, one rounding to nearest even straight from f64 to the stored type,
 * selection on bit patterns with ties by lowest index, reductions over fixed blocks of LORS_BLOCK
 * elements in fixed lanes.
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
    LORS_ROW_GROUP = 64,    /* rows of one partial sum of a column: part of it, too */
    LORS_SELECT_PASSES = 4, /* passes of the selection over its values */
    LORS_VALUE_PASSES = 3,  /* those after which the k-th largest value is known */
    LORS_MAX_BATCH = 8,     /* the most matrices of one truncate_rank */
    LORS_MAX_MODELS = 256,  /* the most slices of one sum, election or selection */
    LORS_MAX_FACTORS = 4,   /* the most values of one limit */
    LORS_VIEW_ALIGN = 256,  /* what a backend may ask of the start of scratch or state; operands
                               need no more than their elements do, but are faster with it */
    LORS_BACKEND_ABI = 6
};

/* Where weights or votes cancel but for rounding: a sum of weights up to this share of their
 * magnitudes counts as 0, and so does a vote up to this share of the magnitudes of its terms. */
#define LORS_CANCELLED 1e-12
#define LORS_TIED 0x1p-50

/* What is added to each probability of a softmax, so that none is 0. */
#define LORS_SOFTMAX_FLOOR 1e-8

typedef struct lors_backend lors_backend; /* an opened device; safe for any number of threads */
typedef struct lors_memory lors_memory;   /* a block of its memory */
typedef struct lors_queue lors_queue;     /* work on it, in order; for one thread at a time */

typedef enum lors_memory_kind {
    LORS_ON_DEVICE, /* what operations work on */
    LORS_STAGING    /* host memory that `upload` and `download` are fast with; never an operand */
} lors_memory_kind;

typedef struct lors_view {
    lors_memory *memory; /* NULL: absent, where an operation says that it may be */
    uint64_t offset;     /* bytes; a multiple of the element size */
} lors_view;

#ifdef __cplusplus
#define LORS_NO_VIEW (lors_view{nullptr, 0})
#else
#define LORS_NO_VIEW ((lors_view){0, 0})
#endif

static inline lors_view lors_view_at(lors_view view, uint64_t n_bytes)
{
    view.offset += n_bytes;
    return view;
}

/* What a piece of scratch or state takes where the next one is to begin at LORS_VIEW_ALIGN. */
static inline uint64_t lors_view_padded(uint64_t n_bytes)
{
    return (n_bytes + LORS_VIEW_ALIGN - 1) & ~(uint64_t)(LORS_VIEW_ALIGN - 1);
}

/* What `load` finds; `clear` it before the first load that counts into it. */
typedef struct lors_findings {
    uint64_t n_nonfinite;
    uint64_t first_mirrored; /* UINT64_MAX - index of the first of them: larger is earlier */
} lors_findings;

/* What `store` writes per block of LORS_BLOCK elements (of its call's range). */
typedef struct lors_store_block {
    double update, loss; /* sums of squares: exact result - base; stored - exact result */
    uint32_t n_overflow; /* finite results that the stored type turned into infinity */
    uint32_t n_nan;      /* results that are NaN */
    uint32_t n_infinite; /* results that were infinite before rounding */
    uint32_t first_bad;  /* index in the block of the first of these three kinds */
} lors_store_block;

/* A weighted sum over a stack. For element i, with x_m the m-th slice of `stack`:
 *   term_m = weights[m] * (kept ? x_m - base : low_m)   in f64, (x_m - base) exact f64 difference
 *   kept   = no masks, or masks[m][i] != 0
 *   low_m  = low[m][i] where a low view is given, else 0 (an element neither kept nor low adds
 *            nothing)
 *   with signs: only terms whose sign equals signs[i] count; zero terms never do
 *   sum    = term_0 + term_1 + ... with the roundings of the additions summed beside it and added
 *            at the end (two-sum), so that the order of the models does not matter; without models
 *            of weight 0 (they leave no trace, not even in the sign of a zero); 0 if there are none
 *   acc    = (add ? acc : 0) + scale * sum / divisor
 * With `in_order` (which takes neither signs nor a divisor) each model is added to acc by itself,
 * in order: acc += scale * term_m; without `add` the first one is set. Models of weight 0 are left
 * out; if no other is there, acc is unchanged (add) or 0. So the same bits come out whether the
 * models come in one call or in several. */
typedef enum lors_divisor {
    LORS_DIVIDE_NOT,
    LORS_DIVIDE_CONSTANT, /* by divisor_value */
    LORS_DIVIDE_KEPT      /* by the sum of the shares of the counted terms; 0 (LORS_CANCELLED)
                             counts as 1 */
} lors_divisor;

typedef struct lors_sum {
    lors_view stack;       /* f32 [n_models][stride] */
    lors_view base;        /* f32 [n]; absent: 0 */
    lors_view masks;       /* u8 [n_models][stride]; absent: everything is kept */
    lors_view low;         /* f32 [n_models][stride]; absent: 0 */
    lors_view signs;       /* i8 [n]; absent: no election */
    int64_t stride;        /* elements from one slice to the next, of all stacks */
    int32_t n_models;
    const double *weights; /* [n_models], host */
    const double *shares;  /* [n_models], host: of DIVIDE_KEPT; NULL: the weights */
    lors_divisor divisor;
    double divisor_value;
    double scale;
    bool add, in_order;
} lors_sum;

/* A sum with weights of its own in each column: acc f64 [n_rows][n_cols] = the sum of the weight of
 * model and column times (x_m - base), rounded as in lors_sum; a weight of 0 leaves no trace. */
typedef struct lors_column_sum {
    lors_view stack;       /* f32 [n_models][stride] */
    lors_view base;        /* f32 [n_rows][n_cols]; absent: 0 */
    int64_t stride;
    int32_t n_models;
    const double *weights; /* [n_models], n_cols each, host */
    int64_t n_rows, n_cols;
} lors_column_sum;

/* Results rounded to their stored type. For element i:
 *   result = x, where a stack is given and all its slices hold the same bits x there;
 *            else base + acc, or base itself where acc is 0 (so that -0 survives);
 *            without base acc
 *   update = acc (where there is a base), loss = stored - result */
typedef struct lors_store {
    lors_dtype dtype;    /* F32, F16, BF16 */
    lors_view acc;       /* f64 [n] */
    lors_view base;      /* f32 [n]; absent: acc is the result */
    lors_view stack;     /* f32 [n_models][stride]; absent: models that agree are not looked for */
    int64_t stride;
    int32_t n_models;
    bool zero_nonfinite; /* a result that is or becomes NaN or infinite is stored as 0 */
    lors_view blocks;    /* out: lors_store_block per started LORS_BLOCK of the call */
} lors_store;

/* A stored tensor that is merged. */
typedef struct lors_operand {
    lors_view in; /* [n] of dtype; apart from what the operation writes */
    lors_dtype dtype;
    lors_view findings; /* as in `load`; may be absent */
    lors_view differs;  /* as in `compare` with the base; absent: it is not asked */
} lors_operand;

/* A weighted sum of stored models, stored again: load, compare, accumulate and store at once. The
 * output, `findings`, `differs` and the counts are those of the operations one by one. With s the
 * sum of the squares of the sums of the magnitudes of the scaled terms, `update` of the blocks may
 * be off by 1e-4 s (where no terms cancel: of itself), `loss` by 1e-3 of itself, 1e-6 s and 1e-60:
 * a backend may measure them on values in f32. */
typedef struct lors_merge {
    const lors_operand *base;   /* NULL: none; else widened to `base_values` */
    const lors_operand *models; /* [sum.n_models], host */
    lors_view base_values;      /* f32 [n], scratch */
    lors_sum sum; /* no masks, low, signs, DIVIDE_KEPT, add, in_order. stack: scratch; base:
                     absent or base_values */
    lors_store store; /* acc: scratch; base and stack: absent or those of `sum` */
    uint64_t first;   /* index of the first element, for the findings */
} lors_merge;

/* What the models of one element give together: with d_k = x_k - base, in f64, one formula of
 * backend/arithmetic.h. Models of weight 0 are left out. */
typedef enum lors_column_kind {
    LORS_COLUMN_DEVIATION, /* out f32: sqrt of the mean of (d_k - mean)^2, without weights */
    LORS_COLUMN_CLAMP,     /* weight_k d_k limited to +- limits[0], summed */
    LORS_COLUMN_ACTIVE,    /* the mean of the weight_k d_k with |d_k| > limits[0], 0 if none is */
    LORS_COLUMN_SHARED,    /* the same, but where more than one is the mean of these d_k */
    LORS_COLUMN_LARGEST,   /* the weight_k d_k of largest magnitude; of equal ones the positive */
    LORS_COLUMN_CONSENSUS, /* sum of the weight_k d_k where at least limits[1] models have
                              |weight_k d_k| >= limits[0] |the sum of the others|, else 0 */
    LORS_COLUMN_ELECTED    /* the largest weight_k d_k of the sign of their sum, 0 where it is 0 or
                              a tie (LORS_TIED) */
} lors_column_kind;

typedef struct lors_columns {
    lors_column_kind kind;
    lors_view stack;       /* f32 [n_models][stride] */
    lors_view base;        /* f32 [n]; absent: 0 */
    int64_t stride;
    int32_t n_models;
    const double *weights; /* [n_models], host */
    double limits[2];
    double scale;          /* of the result; not of deviations */
} lors_columns;

/* Models that compete for each element, by the formulas of backend/contest.h. Models of weight 0
 * are left out. */
typedef struct lors_contest {
    lors_view stack;       /* f32 [n_models][stride] */
    lors_view base;        /* f32 [n]; absent: 0 */
    int64_t stride;
    int32_t n_models;
    const double *weights; /* [n_models], host */
    lors_view bounds;      /* f32 [2][n_models]: low and high of each model's magnitudes */
    lors_view levels, scores; /* of `balance`: f32 [2][n_models], least and most of each model's
                                 scores; f32 [n_models][stride], as `score` gave them */
    double scale;             /* of the result of `balance` */
} lors_contest;

/* Random masks that depend on ranks: in each row of n_cols elements the magnitudes are ranked from
 * the smallest, equal ones by index, and the one of rank r is kept with probability
 *   p = density - epsilon + 2 epsilon r / (n_cols - 1)     (n_cols = 1: density), within 0 .. 1 */
typedef struct lors_ranking {
    uint64_t key; /* of the stream, as in keep_random */
    double density, epsilon;
    bool divide;  /* the kept x are divided by p, rounded once */
} lors_ranking;

/* An exact selection of the k values of largest magnitude among the `total` of each slice, ties by
 * lowest index, NaN never. */
typedef struct lors_selection {
    lors_view state; /* n_slices times select_bytes(total), LORS_VIEW_ALIGN */
    uint64_t total;  /* values of a slice */
    int32_t n_slices;
    bool shared;     /* queues may count at once */
} lors_selection;

/* Rank asked for: a count, or (energy > 0) the least count that keeps this share of the energy. */
typedef struct lors_rank {
    int64_t count;
    double energy;
    bool exact; /* only by the singular value decomposition in f64 */
} lors_rank;

/* How good a truncation is, measured, not assumed. */
typedef struct lors_certificate {
    int64_t rank;          /* of the result */
    double norm;           /* Frobenius norm of the matrix */
    double energy;         /* share of its square that is kept, in [0, 1]; 1 for a zero matrix */
    double gap;            /* (s_r - s_{r+1}) / s_r; 1 at full rank, 0 if s_r is 0 but for rounding
                              (below LORS_NO_VALUE of s_1) */
    double sigma_first, sigma_last, sigma_next; /* s_1, s_r, s_{r+1} (0 where there is none) */
    double residual;       /* norm(G V - V diag(s^2)) / s_1^2 of the eigenvectors used */
    double orthogonality;  /* norm(V'V - I) */
    double excess;         /* norm(matrix - result) / optimum - 1, the optimum from the spectrum;
                              0 where the optimum is below 1e-6 of the norm */
    double bound_ratio;    /* of a check against a reference: the largest deviation over what is
                              allowed; 0 where it was not checked */
    int64_t n_passes;      /* products with the matrix or its transpose that an iteration took */
    const char *path;      /* the solver that answered: "zero", "full", "krylov", "gram", "svd" */
} lors_certificate;

#define LORS_NO_VALUE 1e-12

/* A matrix as a factor of a product: f32 or (wide) f64, row-major, rows `ld` elements apart. */
typedef struct lors_factor {
    lors_view x;
    bool wide, transposed;
    int64_t ld;
} lors_factor;

/* out f64 [rows][cols], rows `ld` apart, = alpha * left right + beta * out, with left [rows][depth]
 * and right [depth][cols] as they are after their transposition; sums in f64. Where beta is 0 out
 * is not read. out lies in neither factor. */
typedef struct lors_product {
    lors_factor left, right;
    int64_t rows, cols, depth, ld;
    double alpha, beta;
    bool symmetric;    /* right is left transposed: out is, and where beta is not 0 was, symmetric;
                          both triangles are written */
    lors_view scratch; /* multiply_bytes, LORS_VIEW_ALIGN */
} lors_product;

typedef struct lors_backend_ops {
    uint32_t abi; /* LORS_BACKEND_ABI */
    const char *name;
    int64_t tile_elements; /* elementwise work goes best in tiles of this many elements, a multiple
                              of LORS_BLOCK; 0: whole ranges */
    int32_t batch;         /* matrices that truncate_rank likes at once, <= LORS_MAX_BATCH */
    bool unified;          /* device and staging memory are one: a view may be both */

    /* `open` takes the index of the device. Errors: ERR_DEVICE, ERR_LIMIT. */
    lors_status (*open)(int32_t index, lors_backend **out);
    void (*close)(lors_backend *backend);
    /* Bytes of device memory: free now, and in all. */
    lors_status (*memory_info)(lors_backend *backend, uint64_t *n_free, uint64_t *n_total);

    /* A block aligned to LORS_VIEW_ALIGN. Errors: ERR_LIMIT (host memory), ERR_DEVICE (its). */
    lors_status (*allocate)(lors_backend *backend, lors_memory_kind place, uint64_t n_bytes,
                            lors_memory **out);
    void (*release)(lors_backend *backend, lors_memory *memory); /* NULL is allowed */
    /* The address of staging memory; NULL for device memory that the host cannot reach. */
    void *(*host_bytes)(lors_view view);

    lors_status (*open_queue)(lors_backend *backend, lors_queue **out);
    void (*close_queue)(lors_queue *queue); /* waits; NULL is allowed */
    /* Staging to device and back. Nothing is done where both are the same place. */
    lors_status (*upload)(lors_queue *queue, lors_view to, lors_view from, uint64_t n_bytes);
    lors_status (*download)(lors_queue *queue, lors_view to, lors_view from, uint64_t n_bytes);
    lors_status (*clear)(lors_queue *queue, lors_view view, uint64_t n_bytes); /* zeros */
    /* Until everything is done that was queued. Errors: ERR_DEVICE, of anything queued so far. */
    lors_status (*wait)(lors_queue *queue);

    /* out f32 [n] = in [n] of `dtype` (F32, F16, BF16), widened exactly. With `zero_nonfinite`, NaN
     * and infinity are read as 0. findings: one lors_findings to count them into, `first` being the
     * index of the first element; may be absent. */
    lors_status (*load)(lors_queue *queue, lors_view out, lors_view in, lors_dtype dtype, int64_t n,
                        bool zero_nonfinite, uint64_t first, lors_view findings);
    /* For each of n_slices: out f32 [n] = a - b, rounded once to f32. Slices of out and a are
     * `stride` elements apart, those of b `stride_b` (0: one for all). `out` may be `a`. */
    lors_status (*subtract)(lors_queue *queue, lors_view out, lors_view a, int64_t stride,
                            lors_view b, int64_t stride_b, int32_t n_slices, int64_t n);
    /* out f32 [n] = mask (u8 [n]) is not 0 ? a : b. `out` may be a or b. */
    lors_status (*choose)(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                          lors_view mask, int64_t n);
    /* differs u32 |= 1 where a and b (f32 [n]) are not the same bits. A task vector of zeros is
     * found so. */
    lors_status (*compare)(lors_queue *queue, lors_view differs, lors_view a, lors_view b,
                           int64_t n);
    /* acc f64 [n]: see lors_sum. */
    lors_status (*accumulate)(lors_queue *queue, lors_view acc, const lors_sum *sum, int64_t n);
    /* signs i8 [n] = +1 where the sum of the kept terms (as in lors_sum, unscaled) is >= 0 or a tie
     * (LORS_TIED), else -1. `sum->signs`, divisor and scale are ignored. */
    lors_status (*elect_sign)(lors_queue *queue, lors_view signs, const lors_sum *sum, int64_t n);
    /* out [n] of store->dtype: see lors_store. */
    lors_status (*store)(lors_queue *queue, lors_view out, const lors_store *store, int64_t n);
    /* out [n] of m->store.dtype: see lors_merge. */
    lors_status (*merge)(lors_queue *queue, lors_view out, const lors_merge *m, int64_t n);
    /* dots f64 [started blocks of the call][n_slices (n_slices + 1) / 2] = sums over each block of
     * x_i * x_j in f64, in a fixed order, for i <= j: (0,0), (0,1) .. (1,1), (1,2) .. x f32
     * [n_slices][stride]. */
    lors_status (*gram)(lors_queue *queue, lors_view dots, lors_view x, int64_t stride,
                        int32_t n_slices, int64_t n);
    /* dots f64 [started groups of LORS_ROW_GROUP rows of the call][pairs as in gram][n_cols] = sums
     * over the rows of a group, in order, of x_i * x_j in f64, column by column. x f32
     * [n_slices][stride], each [n_rows][n_cols]. */
    lors_status (*gram_columns)(lors_queue *queue, lors_view dots, lors_view x, int64_t stride,
                                int32_t n_slices, int64_t n_rows, int64_t n_cols);
    /* acc f64 [n_rows][n_cols]: see lors_column_sum. */
    lors_status (*accumulate_columns)(lors_queue *queue, lors_view acc, const lors_column_sum *sum);
    /* sums f64 [started blocks of the call][n_slices][4] = over each block the sum of |x|; where
     * masks are not 0 (u8 [n_slices][stride]; absent: everywhere) the sums of |x| and of x^2; the
     * number of x that are not 0; in a fixed order. x f32 [n_slices][stride]. */
    lors_status (*measure)(lors_queue *queue, lors_view sums, lors_view x, lors_view masks,
                           int64_t stride, int32_t n_slices, int64_t n);
    /* out f64 (f32 for deviations) [n]: see lors_columns. */
    lors_status (*combine)(lors_queue *queue, lors_view out, const lors_columns *columns,
                           int64_t n);
    /* counts f64 [started blocks of the call][n_models][2] = in each block the elements in which
     * |d_k| > limits[0] (or is a NaN), and those in which it is so of no other model. Of a
     * lors_columns only stack, base, stride, n_models and limits count. */
    lors_status (*count_active)(lors_queue *queue, lors_view counts, const lors_columns *columns,
                                int64_t n);

    /* Call select_begin (k: [n_slices], host), then for each pass 0 .. LORS_SELECT_PASSES-1:
     * select_count over all values in any order and any split at multiples of LORS_BLOCK (`first` =
     * index of the first value of the call; safe from several queues at once), then, when those are
     * waited for, select_settle once. Then keep_top: mask u8 [n_slices][stride] = 1 where kept.
     * select_kept: how many are kept in all, u64 [n_slices] (k, or fewer where there are fewer
     * numbers). x f32 [n_slices][stride]. */
    uint64_t (*select_bytes)(uint64_t total); /* a multiple of LORS_VIEW_ALIGN */
    lors_status (*select_begin)(lors_queue *queue, const lors_selection *s, const uint64_t *k);
    lors_status (*select_count)(lors_queue *queue, const lors_selection *s, int32_t pass,
                                lors_view x, int64_t stride, uint64_t first, int64_t n);
    lors_status (*select_settle)(lors_queue *queue, const lors_selection *s, int32_t pass);
    lors_status (*keep_top)(lors_queue *queue, const lors_selection *s, lors_view mask, lors_view x,
                            int64_t stride, uint64_t first, int64_t n);
    /* mask = 0 where keep_top would set it, elsewhere as it is. */
    lors_status (*drop_top)(lors_queue *queue, const lors_selection *s, lors_view mask, lors_view x,
                            int64_t stride, uint64_t first, int64_t n);
    lors_status (*select_kept)(lors_queue *queue, const lors_selection *s, lors_view kept);
    /* value f32 [n_slices] = the k-th largest magnitude of each slice, 0 where k is 0 or there is
     * no number; after the first LORS_VALUE_PASSES passes. With a stride of 0 all slices are the
     * same values, of which several are looked for. */
    lors_status (*select_value)(lors_queue *queue, const lors_selection *s, lors_view value);
    /* mask u8 [n] = x (f32 [n]) is not below limit = sum of factors[j] * values[j], in f64 in their
     * order: values f32 [n_values] that select_value found, factors on the host. Comparisons with
     * NaN keep. n_values <= LORS_MAX_FACTORS. */
    lors_status (*keep_from)(lors_queue *queue, lors_view mask, lors_view x, lors_view values,
                             const double *factors, int32_t n_values, int64_t n);

    /* out f64 [n_rows] = how far row by row a lies from b (f32 [n_rows][n_cols]) as distributions:
     * the Kullback-Leibler divergence of p = softmax(a) + LORS_SOFTMAX_FLOOR from q, the same of b,
     * by the formulas of backend/rows.h. Sums over a row in the lanes of `gram`, without blocks. */
    lors_status (*diverge)(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                           int64_t n_rows, int64_t n_cols);
    /* out f32 [n_rows][n_cols] = factors[row] |a - b|, in f64, rounded once; infinity where that is
     * no number. factors f64 [n_rows]. */
    lors_status (*weigh_rows)(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                              lors_view factors, int64_t n_rows, int64_t n_cols);
    /* out f32 [n_models][stride] = the scores of a lors_contest, 0 of models that are left out; acc
     * f64 [n] = its result. */
    lors_status (*score)(lors_queue *queue, lors_view out, const lors_contest *contest, int64_t n);
    lors_status (*balance)(lors_queue *queue, lors_view acc, const lors_contest *contest,
                           int64_t n);

    /* mask u8 [n] = 1 with probability `density`, for elements first .. first + n - 1 of the stream
     * that `key` names: lors_random_keep of backend/arithmetic.h. */
    lors_status (*keep_random)(lors_queue *queue, lors_view mask, uint64_t key, double density,
                               uint64_t first, int64_t n);
    /* mask u8 [n_rows][n_cols] and, where they are divided, x f32 [n_rows][n_cols]: see
     * lors_ranking; `first`: index of the first element. scratch: rank_bytes, LORS_VIEW_ALIGN. */
    uint64_t (*rank_bytes)(int64_t n_rows, int64_t n_cols);
    lors_status (*keep_ranked)(lors_queue *queue, lors_view mask, lors_view x,
                               const lors_ranking *ranking, uint64_t first, int64_t n_rows,
                               int64_t n_cols, lors_view scratch);

    /* low f32 [n_matrices][stride] = for each matrix of x f32 [n_matrices][stride], row-major
     * [n_rows][n_cols], the nearest one of its rank. ranks, certificates: [n_matrices], host; the
     * latter are filled when the call returns, though `low` may not be until `wait`. The result of
     * a matrix does not depend on the others of the call. n_matrices <= LORS_MAX_BATCH. scratch:
     * truncate_bytes for the largest of the ranks, LORS_VIEW_ALIGN. */
    uint64_t (*truncate_bytes)(int32_t n_matrices, int64_t n_rows, int64_t n_cols, lors_rank rank);
    lors_status (*truncate_rank)(lors_queue *queue, lors_view low, lors_view x, int64_t stride,
                                 int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                 const lors_rank *ranks, lors_view scratch,
                                 lors_certificate *certificates);

    /* Dense matrices in f64, row-major. What a product, an eigenproblem or a solution gives depends
     * on its operands alone, but may differ between backends as rounding does. */
    uint64_t (*multiply_bytes)(int64_t rows, int64_t cols, int64_t depth);
    lors_status (*multiply)(lors_queue *queue, lors_view out, const lors_product *p);
    /* x f64 [rows][cols], rows `ld` apart: row i is multiplied by factors[i] (host). */
    lors_status (*scale_rows)(lors_queue *queue, lors_view x, int64_t rows, int64_t cols,
                              int64_t ld, const double *factors);
    /* The `count` largest eigenvalues of a symmetric matrix [n][n] without negative ones but for
     * rounding, ascending, into values [count] (host), which are there when the call returns; and
     * their eigenvectors as rows of vectors [count][n]. The matrix is lost. Of one that is not all
     * numbers the values are NaN. Waits. scratch: eigen_bytes, LORS_VIEW_ALIGN. Errors:
     * ERR_NUMERICS. */
    uint64_t (*eigen_bytes)(int64_t n, int64_t count);
    lors_status (*eigen)(lors_queue *queue, lors_view matrix, int64_t n, int64_t count,
                         lors_view vectors, double *values, lors_view scratch);
    /* x f64 [rows][n] becomes x (A + shift)^-1, shift a multiple of the identity, for A [n][n]
     * symmetric and, so shifted, positive definite: by its Cholesky factor. A is lost. Where there
     * is no such factor (or A is not all numbers) *solved is false and x is as it was. Waits.
     * scratch: solve_bytes, LORS_VIEW_ALIGN. */
    uint64_t (*solve_bytes)(int64_t n, int64_t rows);
    lors_status (*solve)(lors_queue *queue, lors_view matrix, int64_t n, double shift, lors_view x,
                         int64_t rows, bool *solved, lors_view scratch);
    /* dots[row] (host) = the dot product of this row of a and of b, both [rows][cols] and not
     * transposed, in f64; they are there when the call returns. Waits. scratch: dot_rows_bytes,
     * LORS_VIEW_ALIGN. */
    uint64_t (*dot_rows_bytes)(int64_t rows);
    lors_status (*dot_rows)(lors_queue *queue, const lors_factor *a, const lors_factor *b,
                            int64_t rows, int64_t cols, double *dots, lors_view scratch);
} lors_backend_ops;

/* --- A backend that is a library of its own --------------------------------------------------- */

/* What the program gives it: a sentence is stored where the program looks for it. */
typedef struct lors_backend_host {
    uint32_t abi;
    lors_status (*fail)(lors_status status, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
} lors_backend_host;

typedef struct lors_backend_device {
    char name[32];        /* "cuda:0": what --device takes */
    char detail[224];     /* card, its compute capability, versions of driver and libraries */
    uint64_t memory_bytes;
} lors_backend_device;

typedef struct lors_backend_library {
    uint32_t abi;
    const lors_backend_ops *ops;
    int32_t n_devices;
    const lors_backend_device *devices;
    const char *reason; /* why there are none; "" where there are */
} lors_backend_library;

/* The one function that such a library exports. Never returns NULL; the library keeps `host`. */
#define LORS_BACKEND_ENTRY "lors_backend_library_get"
typedef const lors_backend_library *(*lors_backend_entry)(const lors_backend_host *host);

#endif

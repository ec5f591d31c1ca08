/* low_rank.h - what the files of the low-rank operation share: the matrices with their short side
 * second, the slots of a batch, block Lanczos, dense solvers, and the projection low = (A V) V'.
 *
 * What decides the bits of a result is one of the kernels behind this header: reductions run over
 * slices whose sizes follow from the shape alone, and are added up in a fixed order. So a matrix
 * gives the same bits in any batch, in any slot and on any card. Only eigenproblems and singular
 * value decompositions come from cuSOLVER; what it answers is checked.
 */
#ifndef LORS_CUDA_LOW_RANK_H
#define LORS_CUDA_LOW_RANK_H

#include "cuda/cuda_internal.h"

/* Numbers, not enumerators: they meet others in sums. */
static constexpr int LORS_PANEL = 8;       /* columns of V and A V that are projected at a time */
static constexpr int LORS_SLICE = 32;      /* rows of an iteration's block in a thread block */
static constexpr int LORS_MAX_WIDTH = 32;  /* the most columns of an iteration's block */
static constexpr int LORS_RESULT_HEAD = 3; /* numbers before the values in a projection's results */
static constexpr int LORS_THREADS = 256;
static constexpr int LORS_WARP = 32, LORS_WARPS = LORS_THREADS / LORS_WARP;
static constexpr int LORS_WARP_ROWS = 4; /* rows of x that a warp takes at a time ... */
static constexpr int LORS_ROWS = LORS_WARPS * LORS_WARP_ROWS; /* ... and a thread block */

/* A is n_long x n_short: element (i, j) is x[i * n_cols + j] (tall), or x[j * n_cols + i] (wide).
 * Slot s of a launch is matrix index[s] of the call. */
typedef struct lors_matrices {
    const float *x;
    float *low;
    int64_t stride, n_rows, n_cols, n_long, n_short;
    bool wide;
    int32_t n; /* slots */
    int32_t index[LORS_MAX_BATCH];
} lors_matrices;

typedef enum lors_slot_status {
    LORS_SLOT_RUNNING,
    LORS_SLOT_FOUND, /* its space is good enough; its vectors are still to be taken from it */
    LORS_SLOT_READY, /* V is there */
    LORS_SLOT_FAILED
} lors_slot_status;

/* What the device knows of a slot. Kernels leave slots alone that are not in the state they are
 * for: so a matrix's numbers do not depend on how long the others of its batch take. */
typedef struct lors_slot {
    int32_t status;
    uint32_t arrived; /* thread blocks that are done with their part of a reduction */
    int32_t n_steps;
    double next; /* the largest squared singular value not used, scaled */
    double residual, excess, orthogonality;
} lors_slot;

/* The next n_bytes of a scratch block; NULL where it is only measured. */
template <typename T> static inline T *lors_cuda_carve(unsigned char *base, uint64_t *at, int64_t n)
{
    unsigned char *place = base ? base + *at : nullptr;
    *at += lors_view_padded((uint64_t)n * sizeof(T));
    return reinterpret_cast<T *>(place);
}

static inline int64_t lors_round_up(int64_t n, int64_t to)
{
    return lors_ceil_div(n, to) * to;
}

/* --- Work space of cuSOLVER (low_rank.cu) ----------------------------------------------------- */

/* What a call of the library works in. How much it needs only the library knows, and only with a
 * device at hand; the plan reserves by a formula. Where that is too little the difference is
 * allocated, as the one exception to the rule that operations do not: a merge must not fail for a
 * formula. */
typedef struct lors_solver_space {
    void *reserved, *extra, *host;
    uint64_t reserved_bytes, extra_bytes, host_bytes;
    void *device; /* the one to use: of at least the size last asked for */
} lors_solver_space;

lors_status lors_cuda_grow_space(lors_queue *queue, lors_solver_space *space, uint64_t device_bytes,
                                 uint64_t host_bytes);
/* Afterwards nothing is left of it but what was reserved. Returns `status`, or what goes wrong. */
lors_status lors_cuda_close_space(lors_queue *queue, lors_solver_space *space, lors_status status);
/* Device memory -> host and back, by way of the queue's pinned memory. They wait. */
lors_status lors_cuda_fetch(lors_queue *queue, void *to, const void *from, uint64_t n_bytes);
lors_status lors_cuda_send(lors_queue *queue, void *to, const void *from, uint64_t n_bytes);

/* --- A call (low_rank.cu) --------------------------------------------------------------------- */

typedef struct lors_truncation {
    lors_queue *queue;
    lors_matrices all;
    const lors_rank *ranks;
    lors_certificate *certificates;
    double total[LORS_MAX_BATCH]; /* squared Frobenius norms */
    unsigned char *scratch;       /* of the solver that works */
    lors_solver_space space;
} lors_truncation;

/* Everything of the certificate that follows from the spectrum. values: squared, descending;
 * `next`: the one behind the last; residual: squared norm of A - low. */
void lors_cuda_certify(lors_certificate *c, double total, const double *values, int64_t rank,
                       double next, double residual);

/* --- Skinny products in f32 (low_rank_products.cu) -------------------------------------------- */

/* image = A v and next = A'image for blocks of b columns, both in parts that are still to be added
 * up (in f64, in order): a part is what one slice of the summed side gives. */
typedef struct lors_skinny {
    int32_t b;
    int64_t n_image_parts, n_next_parts;
    float *block;       /* [slots][n_short][b]: v */
    float *image_parts; /* [slots][n_image_parts][n_long][b] */
    float *image;       /* [slots][n_long][b]: where A is wide */
    float *next_parts;  /* [slots][n_next_parts][n_short][b] */
} lors_skinny;

void lors_cuda_skinny_lay_out(lors_skinny *s, const lors_matrices *a, int32_t b,
                              unsigned char *base, uint64_t *at);
/* Of the slots that are running. scale: [slots], powers of two that both products are taken
 * times. */
lors_status lors_cuda_skinny_multiply(lors_queue *queue, const lors_matrices *a,
                                      const lors_skinny *s, const lors_slot *slots,
                                      const float *scale);

/* --- Projection in f64 (low_rank_project.cu) -------------------------------------------------- */

/* low = (A V) V', rounded once; also the squared norms of the columns of A V, which are the squared
 * singular values as Rayleigh quotients, and that of A - low as stored. Rows of A V are made
 * `chunk` at a time. */
typedef struct lors_projection {
    lors_matrices a;
    const lors_slot *slots; /* only those that are ready; NULL: all */
    const double *v;        /* [slots][n_short][ld], columns from `rank` on are zeros */
    int64_t rank, ld, chunk;
    double *y;              /* [slots][chunk][ld] */
    double *value_parts;    /* [slots][n_value_parts][ld] */
    double *residual_parts; /* [slots][n_residual_parts] */
    double *results;        /* [slots][LORS_RESULT_HEAD + ld]: squared norm of A - low, two places
                               for others to use, the values */
    int64_t n_value_parts, n_residual_parts;
} lors_projection;

/* `v` is left to the caller. */
void lors_cuda_projection_lay_out(lors_projection *p, const lors_matrices *a, int64_t rank,
                                  unsigned char *base, uint64_t *at);
lors_status lors_cuda_project(lors_queue *queue, const lors_projection *p);

/* --- Block Lanczos (low_rank_krylov.cu, low_rank_stage.cu, low_rank_ritz.cu) ------------------ */

/* A group of matrices of one rank, in lock step. Sizes are those of one slot. */
typedef struct lors_lanczos {
    int64_t n, l, max_l; /* of the short side; columns of the basis now, and at most */
    int64_t n_slices, n_next_parts;
    int32_t b, rank, n_slots;
    float *basis;            /* [max_l + b][n]: columns */
    float *block;            /* [n][b]: the newest ones, by rows */
    const float *next_parts; /* [n_next_parts][n][b] */
    double *wide;            /* [n][b]: the next block while it is made; at the end V */
    double *parts;           /* [n_slices][b * max(max_l, b)]: sums of slices */
    double *overlap;         /* [b][max_l]: of `wide` with the basis */
    double *factor;          /* [b][b]: upper triangle of the last Cholesky factorisation */
    double *r;               /* [b][b]: what the next block leaves, the product of its factors */
    double *t;               /* [max_l][max_l]: V'A'AV, columns */
    double *small;           /* [LORS_MAX_BATCH][l][l]: T, then its eigenvectors, columns */
    double *theta;           /* [LORS_MAX_BATCH][l]: its eigenvalues, ascending */
    int32_t *info;           /* [LORS_MAX_BATCH] */
    lors_slot *slots;
} lors_lanczos;

/* One pass over `wide` by slices of rows: where its rows come from, what is done to them, and what
 * is then summed up of them. */
typedef enum lors_source {
    LORS_FROM_RANDOM,  /* the start */
    LORS_FROM_PRODUCT, /* next_parts, added up */
    LORS_FROM_WIDE,
    LORS_FROM_RITZ /* basis * leading Ritz vectors, largest first */
} lors_source;

typedef enum lors_change {
    LORS_KEEP,
    LORS_SUBTRACT, /* basis * overlap */
    LORS_SOLVE     /* times factor^-1 */
} lors_change;

typedef enum lors_sum_of {
    LORS_OVERLAP,       /* basis'wide -> overlap */
    LORS_OVERLAP_SET_T, /* the same; it is the next block column of T ... */
    LORS_OVERLAP_ADD_T, /* ... or is added to it */
    LORS_FACTOR_SET_R,  /* Cholesky factor of wide'wide -> factor, r */
    LORS_FACTOR_INTO_R, /* the same, r = factor * r */
    LORS_DEVIATION,     /* norm(wide'wide - I) -> orthogonality; the slot is ready */
    LORS_APPEND         /* nothing: wide, rounded to f32, joins the basis */
} lors_sum_of;

typedef struct lors_stage {
    lors_source from;
    lors_change change;
    lors_sum_of sum;
    lors_slot_status wanted; /* slots in other states are left alone */
} lors_stage;

lors_status lors_cuda_stage(lors_queue *queue, const lors_lanczos *s, lors_stage stage);
/* small = T of the running slots, the identity for all others. */
lors_status lors_cuda_pack_ritz(lors_queue *queue, const lors_lanczos *s);
/* Is the space good enough? total: [slots], the squared norms in the scale of T. */
lors_status lors_cuda_check_ritz(lors_queue *queue, const lors_lanczos *s, const double *total);

/* Is this rank small enough for the iteration to be worth a try? A function of shape and rank. */
bool lors_cuda_krylov_fits(int64_t n_long, int64_t n_short, int64_t rank);
/* Scratch for this many matrices of any rank up to this one. */
uint64_t lors_cuda_krylov_bytes(const lors_matrices *a, int64_t rank);
/* The matrices of the call that `members` names, all of one rank. solved[member] becomes true where
 * the result is certified; the others' results are not to be used. */
lors_status lors_cuda_krylov(lors_truncation *t, const int32_t *members, int32_t n_members,
                             int64_t rank, bool *solved);

/* --- Dense solvers (low_rank_dense.cu, low_rank_gram.cu, low_rank_jacobi.cu) ------------------ */

/* Scratch for ranks up to this one; `exact`: also by singular value decomposition. */
uint64_t lors_cuda_dense_bytes(const lors_matrices *a, int64_t rank, bool exact);
lors_status lors_cuda_dense(lors_truncation *t, int32_t member);

/* gram f64 [n_short][n_short] = A'A of slot 0. */
lors_status lors_cuda_gram(lors_queue *queue, const lors_matrices *a, double *gram);
/* results[1] = squared norm of V'V - I, results[2] = that of G V - V diag(values), of a projection
 * with its results; sums: lors_cuda_deviation_parts f64 numbers. */
int64_t lors_cuda_deviation_parts(int64_t n_short, int64_t ld);
lors_status lors_cuda_deviations(lors_queue *queue, const lors_projection *p, const double *gram,
                                 double *sums);
/* out f64 [n_short][n_long] = A in column-major words, of slot 0. */
lors_status lors_cuda_widen(lors_queue *queue, const lors_matrices *a, double *out);
/* v[i][c] = from[order[c] * column_step + i * row_step], zeros for c >= rank. order NULL: the last
 * column first (reversed) or the first (not). */
typedef struct lors_gathering {
    const double *from;
    int64_t column_step, row_step, n, rank, ld;
    const int32_t *order;
    bool reversed;
} lors_gathering;
lors_status lors_cuda_gather(lors_queue *queue, const lors_gathering *g, double *v);

/* One-sided Jacobi: columns of w f64 [n_columns][n_rows] are rotated until they are orthogonal;
 * v f64 [n_columns][n_columns] (columns) becomes the product of the rotations, norms f64
 * [n_columns] the columns' squared norms. rotated: a u32. scale: about the largest norm of a
 * column; what is 2^-48 of it is rounding. Needs nothing of any library. Waits. *converged: whether
 * it came to an end. */
lors_status lors_cuda_jacobi(lors_queue *queue, double *w, double *v, double *norms,
                             uint32_t *rotated, int64_t n_rows, int64_t n_columns, double scale,
                             bool *converged);

#endif

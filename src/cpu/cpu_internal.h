/* cpu_internal.h - what the files of the CPU backend share: the kernels and the view of memory. */
#ifndef LORS_CPU_CPU_INTERNAL_H
#define LORS_CPU_CPU_INTERNAL_H

#include "backend/backend_ops.h"
#include "backend/contest.h"

struct lors_memory {
    unsigned char *bytes;
    uint64_t n_bytes;
};

static inline void *lors_cpu_at(lors_view view)
{
    return view.memory ? view.memory->bytes + view.offset : NULL;
}

/* A lors_store as plain arrays, at the first element of a block. */
typedef struct lors_cpu_store {
    const double *acc;
    const float *base, *stack; /* NULL: absent */
    int64_t stride;
    int32_t n_models;
} lors_cpu_store;

/* The largest finite value of a stored type. */
static inline double lors_cpu_largest(lors_dtype dtype)
{
    return dtype == LORS_F16 ? 65504.0 : dtype == LORS_F32 ? 0x1.fffffep127 : 0x1.fep127;
}

/* A lors_merge as plain arrays, at the first element of a block. */
typedef struct lors_cpu_merge {
    lors_dtype in, out;
    const void *base; /* NULL: neither task vectors nor an update, but a sum of the models */
    const void *models[LORS_MAX_MODELS];
    const double *weights; /* [n_models] */
    int32_t n_models;
    double scale, divisor;
    bool keeps_equal;
} lors_cpu_merge;

/* A lors_contest as plain arrays, at its first element. */
typedef struct lors_cpu_contest {
    const float *stack, *base, *scores; /* base, scores: NULL where absent */
    int64_t stride;
    int32_t n_models;
    const double *weights;
    lors_contender of[LORS_MAX_MODELS];
    double n_competing, scale;
} lors_cpu_contest;

static inline bool lors_cpu_competes(const lors_cpu_contest *c, int32_t k)
{
    return c->weights[k] != 0 && c->of[k].high > 0;
}

/* --- ranks in a row --------------------------------------------------------------------------- */

/* A magnitude's key (lors_key_of) above, its index below. */
typedef uint64_t lors_cpu_ranked;

typedef struct lors_cpu_ranks {
    double *chances;  /* [n], by rank: the probability of being kept, 1 for 0 */
    uint64_t *limits; /* [n], by rank: what random words are then below */
    lors_cpu_ranked *order, *spare; /* [n], by rank */
    double *divisors; /* [n], by index */
    uint32_t *words;  /* [n], by index: random */
    uint32_t *counts; /* [lors_cpu_rank_counts(n)] */
} lors_cpu_ranks;

enum { LORS_RANK_COUNTS = 4 << 8, LORS_RANK_BUCKETS = 1 << 16 };

static inline int64_t lors_cpu_rank_counts(int64_t n)
{
    int64_t most = n < LORS_RANK_BUCKETS ? n : LORS_RANK_BUCKETS;
    return most > LORS_RANK_COUNTS ? most : LORS_RANK_COUNTS;
}

enum { LORS_SELECT_BINS = 1 << 11 }; /* of the first pass of a selection; later ones: 1 << 10 */

/* Loops over plain arrays. Each file *_kernels.c is compiled once for every x86-64 and once with
 * AVX2 (and never with fused multiply-add); both give the same bits, since lanes, order and
 * rounding are written out and the compiler may not reassociate. */
typedef struct lors_cpu_kernels {
    const char *name;
    /* These return how many values are not finite. */
    int64_t (*widen_f16)(float *out, const uint16_t *in, int64_t n);
    int64_t (*widen_bf16)(float *out, const uint16_t *in, int64_t n);
    int64_t (*copy_f32)(float *out, const float *in, int64_t n);
    void (*subtract)(float *out, const float *a, const float *b, int64_t n);
    void (*choose)(float *out, const float *a, const float *b, const uint8_t *mask, int64_t n);
    void (*accumulate)(double *acc, const lors_sum *sum, int64_t n);
    void (*elect_sign)(int8_t *signs, const lors_sum *sum, int64_t n);
    /* One block: at most LORS_BLOCK elements. */
    void (*store_block)(void *out, lors_dtype dtype, const lors_cpu_store *from, int64_t n,
                        bool zero_nonfinite, lors_store_block *block);
    /* One block of a lors_merge; false where this set cannot tell, or a value is not finite: it is
     * then to be done by parts. */
    bool (*merge_block)(void *out, const lors_cpu_merge *m, int64_t n, lors_store_block *block);
    void (*gram_block)(double *dots, const float *x, int64_t stride, int32_t n_slices, int64_t n);
    void (*gram_columns_group)(double *dots, const float *x, int64_t stride, int32_t n_slices,
                               int64_t n_rows, int64_t n_cols);
    void (*accumulate_columns_row)(double *acc, const float *stack, const float *base,
                                   const lors_column_sum *sum);
    void (*measure_block)(double sums[4], const float *x, const uint8_t *mask, int64_t n);
    void (*combine)(double *out, const lors_columns *columns, int64_t n);
    void (*count_active_block)(double *counts, const float *stack, const float *base,
                               const lors_columns *columns, int64_t n);
    /* mask = whether each element of the stream `key` is below the limit. */
    void (*random_mask)(uint8_t *mask, uint64_t key, uint64_t limit, uint64_t first, int64_t n);
    /* The random word of each element of the stream. */
    void (*random_words)(uint32_t *words, uint64_t key, uint64_t first, int64_t n);
    /* s->order, from the smallest magnitude to the largest; then (keep_row) what is kept. */
    void (*rank_row)(lors_cpu_ranks *s, const float *x, int64_t n);
    void (*keep_row)(uint8_t *mask, float *x, const lors_cpu_ranks *s, bool divide, int64_t n);
    /* A selection: how many numbers (of those whose keys begin with `known`, after the first pass)
     * are in each bin of this pass, n < 2^31; how many have this key; mask = keys >= least that are
     * numbers. */
    void (*select_bins)(uint32_t counts[LORS_SELECT_BINS], const float *x, int64_t n, int32_t pass,
                        uint32_t known);
    uint32_t (*select_ties)(const float *x, int64_t n, uint32_t key);
    void (*select_mask)(uint8_t *mask, const float *x, int64_t n, uint32_t least);
    /* One row: see backend/rows.h. */
    double (*diverge_row)(const float *a, const float *b, int64_t n);
    void (*weigh_row)(float *out, const float *a, const float *b, double factor, int64_t n);
    void (*keep_from)(uint8_t *mask, const float *x, double limit, int64_t n);
    void (*score)(float *out, const lors_cpu_contest *c, int64_t n);
    void (*balance)(double *acc, const lors_cpu_contest *c, int64_t n);
    /* For the low-rank solvers: widen; narrow (one rounding) and return the sum of squares of x -
     * out; sum of squares of x. Sums in 8 lanes. */
    void (*widen_f64)(double *out, const float *in, int64_t n);
    double (*narrow_residual)(float *out, const double *in, const float *x, int64_t n);
    double (*sum_of_squares)(const float *x, int64_t n);
    /* Products with b columns (a multiple of 8), which lie interleaved: y[n_rows][b] += x z,
     * w[n_cols][b] += x' y, for x [n_rows][n_cols] with rows `stride` apart. Here bits may differ
     * between sets: these serve solvers that promise bounds. */
    void (*times_few)(float *y, const float *x, int64_t stride, int64_t n_rows, int64_t n_cols,
                      const float *z, int64_t b);
    void (*add_few)(float *w, const float *x, int64_t stride, int64_t n_rows, int64_t n_cols,
                    const float *y, int64_t b);
    void (*times_few_f64)(double *y, const float *x, int64_t stride, int64_t n_rows, int64_t n_cols,
                          const double *z, int64_t b);
    void (*add_few_f64)(double *w, const float *x, int64_t stride, int64_t n_rows, int64_t n_cols,
                        const double *y, int64_t b);
    /* out = t v, rounded once (t [n_rows][b], of which `rank` columns count; v [rank][n_cols], rows
     * v_stride apart); returns the sum of squares of x - out, with rows of x and out `stride`
     * apart. */
    double (*narrow_few)(float *out, const float *x, int64_t stride, int64_t n_rows, int64_t n_cols,
                         const double *t, int64_t b, const double *v, int64_t v_stride,
                         int64_t rank);
} lors_cpu_kernels;

struct lors_backend {
    const lors_cpu_kernels *kernels;
};

/* What is queued is done at once, by the calling thread. */
struct lors_queue {
    const lors_cpu_kernels *kernels;
};

/* The best set for this processor; LORS_CPU=portable in the environment forces the plain one. */
const lors_cpu_kernels *lors_cpu_kernels_get(void);

#define LORS_KERNEL_PASTE(name, isa) lors_cpu_##name##_##isa
#define LORS_KERNEL_NAME(name, isa) LORS_KERNEL_PASTE(name, isa)
#define LORS_KERNEL(name) LORS_KERNEL_NAME(name, LORS_ISA)

#define LORS_DECLARE_KERNELS(isa)                                                                 \
    int64_t LORS_KERNEL_NAME(widen_f16, isa)(float *, const uint16_t *, int64_t);                 \
    int64_t LORS_KERNEL_NAME(widen_bf16, isa)(float *, const uint16_t *, int64_t);                \
    int64_t LORS_KERNEL_NAME(copy_f32, isa)(float *, const float *, int64_t);                     \
    void LORS_KERNEL_NAME(subtract, isa)(float *, const float *, const float *, int64_t);         \
    void LORS_KERNEL_NAME(choose, isa)(float *, const float *, const float *, const uint8_t *,    \
                                       int64_t);                                                  \
    void LORS_KERNEL_NAME(accumulate, isa)(double *, const lors_sum *, int64_t);                  \
    void LORS_KERNEL_NAME(elect_sign, isa)(int8_t *, const lors_sum *, int64_t);                  \
    void LORS_KERNEL_NAME(store_block, isa)(void *, lors_dtype, const lors_cpu_store *, int64_t,  \
                                            bool, lors_store_block *);                            \
    bool LORS_KERNEL_NAME(merge_block, isa)(void *, const lors_cpu_merge *, int64_t,              \
                                            lors_store_block *);                                  \
    void LORS_KERNEL_NAME(gram_block, isa)(double *, const float *, int64_t, int32_t, int64_t);   \
    void LORS_KERNEL_NAME(measure_block, isa)(double[4], const float *, const uint8_t *,          \
                                              int64_t);                                           \
    void LORS_KERNEL_NAME(gram_columns_group, isa)(double *, const float *, int64_t, int32_t,     \
                                                   int64_t, int64_t);                             \
    void LORS_KERNEL_NAME(accumulate_columns_row, isa)(double *, const float *, const float *,    \
                                                       const lors_column_sum *);                  \
    void LORS_KERNEL_NAME(combine, isa)(double *, const lors_columns *, int64_t);                 \
    void LORS_KERNEL_NAME(count_active_block, isa)(double *, const float *, const float *,        \
                                                   const lors_columns *, int64_t);                \
    void LORS_KERNEL_NAME(random_mask, isa)(uint8_t *, uint64_t, uint64_t, uint64_t, int64_t);    \
    void LORS_KERNEL_NAME(random_words, isa)(uint32_t *, uint64_t, uint64_t, int64_t);            \
    void LORS_KERNEL_NAME(rank_row, isa)(lors_cpu_ranks *, const float *, int64_t);               \
    void LORS_KERNEL_NAME(keep_row, isa)(uint8_t *, float *, const lors_cpu_ranks *, bool,        \
                                         int64_t);                                                \
    void LORS_KERNEL_NAME(select_bins, isa)(uint32_t[LORS_SELECT_BINS], const float *, int64_t,   \
                                            int32_t, uint32_t);                                   \
    uint32_t LORS_KERNEL_NAME(select_ties, isa)(const float *, int64_t, uint32_t);                \
    void LORS_KERNEL_NAME(select_mask, isa)(uint8_t *, const float *, int64_t, uint32_t);         \
    double LORS_KERNEL_NAME(diverge_row, isa)(const float *, const float *, int64_t);             \
    void LORS_KERNEL_NAME(weigh_row, isa)(float *, const float *, const float *, double,          \
                                          int64_t);                                               \
    void LORS_KERNEL_NAME(keep_from, isa)(uint8_t *, const float *, double, int64_t);             \
    void LORS_KERNEL_NAME(score, isa)(float *, const lors_cpu_contest *, int64_t);                \
    void LORS_KERNEL_NAME(balance, isa)(double *, const lors_cpu_contest *, int64_t);             \
    void LORS_KERNEL_NAME(widen_f64, isa)(double *, const float *, int64_t);                      \
    double LORS_KERNEL_NAME(narrow_residual, isa)(float *, const double *, const float *,         \
                                                  int64_t);                                       \
    double LORS_KERNEL_NAME(sum_of_squares, isa)(const float *, int64_t);                         \
    void LORS_KERNEL_NAME(times_few, isa)(float *, const float *, int64_t, int64_t, int64_t,      \
                                          const float *, int64_t);                                \
    void LORS_KERNEL_NAME(add_few, isa)(float *, const float *, int64_t, int64_t, int64_t,        \
                                        const float *, int64_t);                                  \
    void LORS_KERNEL_NAME(times_few_f64, isa)(double *, const float *, int64_t, int64_t, int64_t, \
                                              const double *, int64_t);                           \
    void LORS_KERNEL_NAME(add_few_f64, isa)(double *, const float *, int64_t, int64_t, int64_t,   \
                                            const double *, int64_t);                             \
    double LORS_KERNEL_NAME(narrow_few, isa)(float *, const float *, int64_t, int64_t, int64_t,   \
                                             const double *, int64_t, const double *, int64_t,    \
                                             int64_t);

LORS_DECLARE_KERNELS(portable)
LORS_DECLARE_KERNELS(avx2)

/* merge.c */
lors_status lors_cpu_merge_stack(lors_queue *queue, lors_view out, const lors_merge *m, int64_t n);

/* select.c */
uint64_t lors_cpu_select_bytes(uint64_t total);
lors_status lors_cpu_select_begin(lors_queue *queue, const lors_selection *s, const uint64_t *k);
lors_status lors_cpu_select_count(lors_queue *queue, const lors_selection *s, int32_t pass,
                                  lors_view x, int64_t stride, uint64_t first, int64_t n);
lors_status lors_cpu_select_settle(lors_queue *queue, const lors_selection *s, int32_t pass);
lors_status lors_cpu_keep_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                              lors_view x, int64_t stride, uint64_t first, int64_t n);
lors_status lors_cpu_drop_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                              lors_view x, int64_t stride, uint64_t first, int64_t n);
lors_status lors_cpu_select_kept(lors_queue *queue, const lors_selection *s, lors_view kept);
lors_status lors_cpu_select_value(lors_queue *queue, const lors_selection *s, lors_view value);
lors_status lors_cpu_keep_from(lors_queue *queue, lors_view mask, lors_view x, lors_view values,
                               const double *factors, int32_t n_values, int64_t n);

/* rows.c */
lors_status lors_cpu_diverge(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                             int64_t n_rows, int64_t n_cols);
lors_status lors_cpu_weigh_rows(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                                lors_view factors, int64_t n_rows, int64_t n_cols);

/* contest.c */
lors_status lors_cpu_score(lors_queue *queue, lors_view out, const lors_contest *contest,
                           int64_t n);
lors_status lors_cpu_balance(lors_queue *queue, lors_view acc, const lors_contest *contest,
                             int64_t n);

/* random.c */
lors_status lors_cpu_keep_random(lors_queue *queue, lors_view mask, uint64_t key, double density,
                                 uint64_t first, int64_t n);
uint64_t lors_cpu_rank_bytes(int64_t n_rows, int64_t n_cols);
lors_status lors_cpu_keep_ranked(lors_queue *queue, lors_view mask, lors_view x,
                                 const lors_ranking *ranking, uint64_t first, int64_t n_rows,
                                 int64_t n_cols, lors_view scratch);

/* low_rank.c */
uint64_t lors_cpu_truncate_bytes(int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                 lors_rank rank);
lors_status lors_cpu_truncate_rank(lors_queue *queue, lors_view low, lors_view x, int64_t stride,
                                   int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                   const lors_rank *ranks, lors_view scratch,
                                   lors_certificate *certificates);

/* dense.c */
uint64_t lors_cpu_multiply_bytes(int64_t rows, int64_t cols, int64_t depth);
lors_status lors_cpu_multiply(lors_queue *queue, lors_view out, const lors_product *p);
lors_status lors_cpu_scale_rows(lors_queue *queue, lors_view x, int64_t rows, int64_t cols,
                                int64_t ld, const double *factors);
uint64_t lors_cpu_eigen_bytes(int64_t n, int64_t count);
lors_status lors_cpu_eigen(lors_queue *queue, lors_view matrix, int64_t n, int64_t count,
                           lors_view vectors, double *values, lors_view scratch);
uint64_t lors_cpu_solve_bytes(int64_t n, int64_t rows);
lors_status lors_cpu_solve(lors_queue *queue, lors_view matrix, int64_t n, double shift,
                           lors_view x, int64_t rows, bool *solved, lors_view scratch);
uint64_t lors_cpu_dot_rows_bytes(int64_t rows);
lors_status lors_cpu_dot_rows(lors_queue *queue, const lors_factor *a, const lors_factor *b,
                              int64_t rows, int64_t cols, double *dots, lors_view scratch);

extern const lors_backend_ops lors_cpu_ops;

#endif

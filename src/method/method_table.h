/* method_table.h - the methods by symbol, and the parameters that several of them share. */
#ifndef LORS_METHOD_METHOD_TABLE_H
#define LORS_METHOD_METHOD_TABLE_H

#include "method/method_def.h"

extern const lors_method_def lors_method_lors, lors_method_slerp, lors_method_passthrough;
/* sparse.c */
extern const lors_method_def lors_method_ties, lors_method_dare_linear, lors_method_dare_ties,
    lors_method_della, lors_method_della_linear, lors_method_breadcrumbs,
    lors_method_breadcrumbs_ties;
/* angles.c */
extern const lors_method_def lors_method_nuslerp, lors_method_multislerp, lors_method_karcher,
    lors_method_model_stock, lors_method_metagpt, lors_method_geometric_median;
/* columns.c */
extern const lors_method_def lors_method_nearswap, lors_method_ram, lors_method_magmax,
    lors_method_ramplus_tl, lors_method_consensus, lors_method_emr;
extern const lors_method_def lors_method_sce, lors_method_chain, lors_method_arcee_fusion,
    lors_method_pcb;
extern const lors_method_def lors_method_tsv_m, lors_method_iso_c, lors_method_iso_cts,
    lors_method_star, lors_method_wudi, lors_method_knots, lors_method_svc;

/* What a tensor costs beside being read and written. */
#define LORS_COST_ONE_PASS "one pass over the elements"
#define LORS_COST_SELECTION                                                                    \
    "an exact selection: passes more, read again only where a tensor is more than a unit of work"
#define LORS_COST_RANKS "ranks of each row: a sort of it"
#define LORS_COST_DIVERGENCE                                                                   \
    "exponentials of each row and an exact selection: three passes more, as there"
#define LORS_COST_CONTEST                                                                      \
    "two exact selections and the scores of each model, four times: six passes more, as there"
#define LORS_COST_NORMS "dot products, then a sum: two passes"
#define LORS_COST_LOW_RANK "of matrices a low-rank part and a selection; else one pass"
#define LORS_COST_SPECTRUM "of matrices the spectra: eigenproblems of the short side; else one pass"

#define LORS_COUNT_OF(array) ((int32_t)(sizeof(array) / sizeof *(array)))

/* name, kind, per model, required, minimum, maximum, minimum open, default in words, as a number */
#define LORS_PARAM_WEIGHT(is_required, in_words, number)                                       \
    {"weight", LORS_PARAM_NUMBER, true, is_required, -1e30, 1e30, false, in_words, number,     \
     "how much of this model goes in; may be negative"}

#define LORS_PARAM_LAMBDA(in_words, number)                                                    \
    {"lambda", LORS_PARAM_NUMBER, false, false, -1e30, 1e30, false, in_words, number,          \
     "scale of the whole update"}

#define LORS_PARAM_DENSITY(summary)                                                            \
    {"density", LORS_PARAM_NUMBER, true, false, 0, 1, false, "1", 1, summary}

/* The task vectors in this tile, rounded to f32, into call->values: what magnitudes are compared
 * of. */
lors_status lors_method_take_values(lors_call *call);
/* Sum of every `step`-th of n * step numbers, by a fixed tree: over the blocks of a tensor. */
double lors_method_tree_sum(const double *values, uint64_t n, int64_t step);
/* Blocks of LORS_BLOCK of the tensor, and of the tensor before this tile. */
uint64_t lors_method_blocks(const lors_call *call);
/* The key of a model's random stream for this tensor. */
uint64_t lors_method_model_key(const lors_call *call, int32_t model);

/* Copy the weights of all models into call->weights; returns their sum. */
double lors_method_weights(const lors_call *call, int32_t param);
/* ERR_RECIPE where `normalize` is on and the weights cancel. */
lors_status lors_method_check_normalize(const lors_call *call, int32_t weight, int32_t normalize);
/* Is lambda 0, or every weight? `is_base` of the methods whose first two parameters are weight and
 * lambda, in this order. */
bool lors_method_adds_nothing(const lors_call *call);

/* A selection among each model's magnitudes, its state in call->state. */
uint64_t lors_method_selection_bytes(const lors_call *call);
lors_selection lors_method_selection(const lors_call *call);
/* floor(density * size), the product taken in f64. */
uint64_t lors_method_keep_count(double density, uint64_t size);

#endif

/* sparse.h - the family of sparse task vectors: what tells its rows apart, and the whole of it over
 * task vectors that lie in memory. */
#ifndef LORS_METHOD_SPARSE_H
#define LORS_METHOD_SPARSE_H

#include "method/method_table.h"

/* The order of the family's parameters: weight, lambda, normalize, density, rescale, and what `row`
 * says. */
typedef enum lors_keeping {
    LORS_KEEP_LARGEST,
    LORS_KEEP_WINDOW, /* the largest without the very largest */
    LORS_KEEP_RANDOM,
    LORS_KEEP_RANKED
} lors_keeping;

typedef struct lors_sparse_row {
    lors_keeping keeping;
    bool elects;
    int32_t spread; /* index of the parameter gamma, or epsilon, where it has one */
} lors_sparse_row;

lors_status lors_sparse_check(const lors_call *call);
/* The method of that row, driven by tiles. */
const lors_method_def *lors_sparse_method(const lors_sparse_row *row);

/* acc = the update that the family (call->row) makes of the task vectors in call->stack, all of the
 * tensor: call->base is absent, call->state is lors_sparse_state_bytes, call->tile a multiple of
 * the row where rows matter, call->staged of settle_bytes, call->scratch of scratch_bytes. */
lors_status lors_sparse_apply(lors_call *call);
uint64_t lors_sparse_settle_bytes(const lors_call *call);
uint64_t lors_sparse_state_bytes(const lors_call *call);
uint64_t lors_sparse_scratch_bytes(const lors_call *call);

#endif

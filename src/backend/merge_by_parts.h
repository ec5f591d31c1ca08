/* merge_by_parts.h - the operation `merge` as what it stands for: load, compare, accumulate, store.
 *
 * For backends that have nothing faster, for what a faster one cannot do, and for the reference.
 */
#ifndef LORS_BACKEND_MERGE_BY_PARTS_H
#define LORS_BACKEND_MERGE_BY_PARTS_H

#include "backend/backend_ops.h"

static inline uint64_t lors_merge_bytes(lors_dtype dtype, uint64_t n)
{
    return n * (dtype == LORS_F32 ? 4 : 2);
}

static inline lors_status lors_merge_load(const lors_backend_ops *ops, lors_queue *queue,
                                          const lors_merge *m, const lors_operand *operand,
                                          lors_view out, uint64_t begin, int64_t n)
{
    uint64_t n_bytes = lors_merge_bytes(operand->dtype, begin);
    return ops->load(queue, out, lors_view_at(operand->in, n_bytes), operand->dtype, n,
                     m->store.zero_nonfinite, m->first + begin, operand->findings);
}

/* Elements begin .. begin + n - 1, begin a multiple of LORS_BLOCK; scratch is used from its
 * start. */
static inline lors_status lors_merge_by_parts(const lors_backend_ops *ops, lors_queue *queue,
                                              lors_view out, const lors_merge *m, uint64_t begin,
                                              int64_t n)
{
    lors_status status = LORS_OK;
    lors_store store = m->store;
    if (m->base) {
        status = lors_merge_load(ops, queue, m, m->base, m->base_values, begin, n);
    }
    for (int32_t k = 0; status == LORS_OK && k < m->sum.n_models; k++) {
        const lors_operand *model = &m->models[k];
        uint64_t at = (uint64_t)k * (uint64_t)m->sum.stride * sizeof(float);
        lors_view values = lors_view_at(m->sum.stack, at);
        status = lors_merge_load(ops, queue, m, model, values, begin, n);
        if (status == LORS_OK && model->differs.memory) {
            status = ops->compare(queue, model->differs, m->base_values, values, n);
        }
    }
    if (status == LORS_OK) {
        status = ops->accumulate(queue, store.acc, &m->sum, n);
    }
    store.blocks = lors_view_at(store.blocks, begin / LORS_BLOCK * sizeof(lors_store_block));
    return status == LORS_OK
               ? ops->store(queue, lors_view_at(out, lors_merge_bytes(store.dtype, begin)), &store,
                            n)
               : status;
}

#endif

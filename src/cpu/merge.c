/* merge.c - a weighted sum of stored models, stored again, block by block: at once where the
 * kernels can, else by parts. */
#include <string.h>

#include "backend/merge_by_parts.h"
#include "cpu/cpu_internal.h"

/* Can the kernels take it? One type of operands, and no model that leaves no trace. */
static bool is_plain(const lors_merge *m)
{
    if (m->base ? !m->sum.base.memory || !m->store.base.memory : m->sum.n_models == 0) {
        return false;
    }
    lors_dtype in = m->base ? m->base->dtype : m->models[0].dtype;
    for (int32_t k = 0; k < m->sum.n_models; k++) {
        if (m->models[k].dtype != in || m->sum.weights[k] == 0) {
            return false;
        }
    }
    return true;
}

static const void *bytes_at(const lors_operand *operand, uint64_t begin)
{
    uint64_t element = (uint64_t)lors_dtype_bits(operand->dtype) / 8;
    return lors_cpu_at(lors_view_at(operand->in, begin * element));
}

static lors_cpu_merge arrays_of(const lors_merge *m, uint64_t begin)
{
    lors_cpu_merge arrays = {.in = m->base ? m->base->dtype : m->models[0].dtype,
                             .out = m->store.dtype,
                             .base = m->base ? bytes_at(m->base, begin) : NULL,
                             .weights = m->sum.weights,
                             .n_models = m->sum.n_models,
                             .scale = m->sum.scale,
                             .divisor =
                                 m->sum.divisor == LORS_DIVIDE_CONSTANT ? m->sum.divisor_value : 1,
                             .keeps_equal = m->store.stack.memory != NULL};
    for (int32_t k = 0; k < m->sum.n_models; k++) {
        arrays.models[k] = bytes_at(&m->models[k], begin);
    }
    return arrays;
}

/* Equal bits of one type are equal values. */
static void note_differing(const lors_merge *m, const lors_cpu_merge *arrays, int64_t n)
{
    size_t n_bytes = (size_t)n * (size_t)lors_dtype_bits(arrays->in) / 8;
    for (int32_t k = 0; k < m->sum.n_models; k++) {
        uint32_t *differs = lors_cpu_at(m->models[k].differs);
        if (differs && (*differs & 1) == 0) {
            *differs |= memcmp(arrays->base, arrays->models[k], n_bytes) != 0;
        }
    }
}

lors_status lors_cpu_merge_stack(lors_queue *queue, lors_view out, const lors_merge *m, int64_t n)
{
    bool plain = is_plain(m);
    unsigned char *bytes = lors_cpu_at(out);
    lors_store_block *block = lors_cpu_at(m->store.blocks);
    uint64_t element = (uint64_t)lors_dtype_bits(m->store.dtype) / 8;
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK, block++) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        if (plain) {
            lors_cpu_merge arrays = arrays_of(m, (uint64_t)begin);
            if (queue->kernels->merge_block(bytes + (uint64_t)begin * element, &arrays, count,
                                            block)) {
                note_differing(m, &arrays, count);
                continue;
            }
        }
        lors_status status =
            lors_merge_by_parts(&lors_cpu_ops, queue, out, m, (uint64_t)begin, count);
        if (status != LORS_OK) {
            return status;
        }
    }
    return LORS_OK;
}

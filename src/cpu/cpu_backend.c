/* cpu_backend.c - the CPU as a backend: its memory, its table, and the choice of kernels. */
#include <stdlib.h>
#include <string.h>

#include <cblas.h>
#ifndef LORS_NO_AVX2
#include <cpuid.h>
#endif

#include "backend/arithmetic.h"
#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu_internal.h"

#define LORS_KERNEL_TABLE(isa) \
    { \
        .name = #isa, .widen_f16 = LORS_KERNEL_NAME(widen_f16, isa), \
        .widen_bf16 = LORS_KERNEL_NAME(widen_bf16, isa), \
        .copy_f32 = LORS_KERNEL_NAME(copy_f32, isa), \
        .subtract = LORS_KERNEL_NAME(subtract, isa), \
        .choose = LORS_KERNEL_NAME(choose, isa), \
        .accumulate = LORS_KERNEL_NAME(accumulate, isa), \
        .elect_sign = LORS_KERNEL_NAME(elect_sign, isa), \
        .store_block = LORS_KERNEL_NAME(store_block, isa), \
        .merge_block = LORS_KERNEL_NAME(merge_block, isa), \
        .gram_block = LORS_KERNEL_NAME(gram_block, isa), \
        .measure_block = LORS_KERNEL_NAME(measure_block, isa), \
        .gram_columns_group = LORS_KERNEL_NAME(gram_columns_group, isa), \
        .accumulate_columns_row = LORS_KERNEL_NAME(accumulate_columns_row, isa), \
        .combine = LORS_KERNEL_NAME(combine, isa), \
        .count_active_block = LORS_KERNEL_NAME(count_active_block, isa), \
        .random_mask = LORS_KERNEL_NAME(random_mask, isa), \
        .random_words = LORS_KERNEL_NAME(random_words, isa), \
        .rank_row = LORS_KERNEL_NAME(rank_row, isa), \
        .keep_row = LORS_KERNEL_NAME(keep_row, isa), \
        .select_bins = LORS_KERNEL_NAME(select_bins, isa), \
        .select_ties = LORS_KERNEL_NAME(select_ties, isa), \
        .select_mask = LORS_KERNEL_NAME(select_mask, isa), \
        .diverge_row = LORS_KERNEL_NAME(diverge_row, isa), \
        .weigh_row = LORS_KERNEL_NAME(weigh_row, isa), \
        .keep_from = LORS_KERNEL_NAME(keep_from, isa), \
        .score = LORS_KERNEL_NAME(score, isa), .balance = LORS_KERNEL_NAME(balance, isa), \
        .widen_f64 = LORS_KERNEL_NAME(widen_f64, isa), \
        .narrow_residual = LORS_KERNEL_NAME(narrow_residual, isa), \
        .sum_of_squares = LORS_KERNEL_NAME(sum_of_squares, isa), \
        .times_few = LORS_KERNEL_NAME(times_few, isa), .add_few = LORS_KERNEL_NAME(add_few, isa), \
        .times_few_f64 = LORS_KERNEL_NAME(times_few_f64, isa), \
        .add_few_f64 = LORS_KERNEL_NAME(add_few_f64, isa), \
        .narrow_few = LORS_KERNEL_NAME(narrow_few, isa) \
    }

static const lors_cpu_kernels portable_kernels = LORS_KERNEL_TABLE(portable);
#ifndef LORS_NO_AVX2
static const lors_cpu_kernels avx2_kernels = LORS_KERNEL_TABLE(avx2);
#endif

#ifndef LORS_NO_AVX2
/* clang 14 does not know this feature by name. */
static bool has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

const lors_cpu_kernels *lors_cpu_kernels_get(void)
{
    const char *wish = getenv("LORS_CPU");
    if (wish && strcmp(wish, "portable") == 0) {
        return &portable_kernels;
    }
#ifndef LORS_NO_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
        return &avx2_kernels;
    }
#endif
    return &portable_kernels;
}

static lors_status cpu_open(int32_t index, lors_backend **out)
{
    if (index != 0) {
        return lors_fail(LORS_ERR_DEVICE, "there is one cpu device, number 0");
    }
    lors_backend *backend = lors_new(1, sizeof *backend);
    if (!backend) {
        return lors_fail_memory(sizeof *backend);
    }
    backend->kernels = lors_cpu_kernels_get();
    /* BLAS changes bits with its thread count: it runs single, we parallelise over matrices. */
    openblas_set_num_threads(1);
    *out = backend;
    return LORS_OK;
}

static void cpu_close(lors_backend *backend)
{
    lors_free(backend);
}

static lors_status cpu_memory_info(lors_backend *backend, uint64_t *n_free, uint64_t *n_total)
{
    (void)backend;
    lors_system_memory(n_free, n_total);
    return LORS_OK;
}

static lors_status cpu_allocate(lors_backend *backend, lors_memory_kind place, uint64_t n_bytes,
                                lors_memory **out)
{
    (void)backend;
    (void)place;
    lors_memory *memory = lors_new(1, sizeof *memory);
    if (!memory) {
        return lors_fail_memory(sizeof *memory);
    }
    memory->bytes = lors_alloc_aligned(n_bytes ? n_bytes : 1);
    memory->n_bytes = n_bytes;
    if (!memory->bytes) {
        lors_free(memory);
        return lors_fail_memory(n_bytes);
    }
    *out = memory;
    return LORS_OK;
}

static void cpu_release(lors_backend *backend, lors_memory *memory)
{
    (void)backend;
    if (memory) {
        lors_free(memory->bytes);
        lors_free(memory);
    }
}

static lors_status cpu_open_queue(lors_backend *backend, lors_queue **out)
{
    lors_queue *queue = lors_new(1, sizeof *queue);
    if (!queue) {
        return lors_fail_memory(sizeof *queue);
    }
    queue->kernels = backend->kernels;
    *out = queue;
    return LORS_OK;
}

static void cpu_close_queue(lors_queue *queue)
{
    lors_free(queue);
}

static lors_status cpu_copy(lors_queue *queue, lors_view to, lors_view from, uint64_t n_bytes)
{
    (void)queue;
    if (n_bytes > 0 && lors_cpu_at(to) != lors_cpu_at(from)) {
        memcpy(lors_cpu_at(to), lors_cpu_at(from), (size_t)n_bytes);
    }
    return LORS_OK;
}

static lors_status cpu_clear(lors_queue *queue, lors_view view, uint64_t n_bytes)
{
    (void)queue;
    if (n_bytes > 0) {
        memset(lors_cpu_at(view), 0, (size_t)n_bytes);
    }
    return LORS_OK;
}

static lors_status cpu_wait(lors_queue *queue)
{
    (void)queue;
    return LORS_OK;
}

/* Count what is not finite, and make zeros of it where that is asked for. */
static void find_nonfinite(float *values, int64_t n, bool zero_nonfinite, uint64_t first,
                           lors_findings *findings)
{
    for (int64_t i = 0; i < n; i++) {
        if (lors_is_finite_bits(lors_bits_of(values[i]))) {
            continue;
        }
        uint64_t mirrored = UINT64_MAX - (first + (uint64_t)i);
        if (findings && mirrored > findings->first_mirrored) {
            findings->first_mirrored = mirrored;
        }
        values[i] = zero_nonfinite ? 0 : values[i];
    }
}

static lors_status cpu_load(lors_queue *queue, lors_view out, lors_view in, lors_dtype dtype,
                            int64_t n, bool zero_nonfinite, uint64_t first, lors_view findings)
{
    float *values = lors_cpu_at(out);
    const void *bytes = lors_cpu_at(in);
    lors_findings *found = lors_cpu_at(findings);
    if (n == 0) {
        return LORS_OK;
    }
    int64_t bad = dtype == LORS_F32   ? queue->kernels->copy_f32(values, bytes, n)
                  : dtype == LORS_F16 ? queue->kernels->widen_f16(values, bytes, n)
                                      : queue->kernels->widen_bf16(values, bytes, n);
    if (bad > 0 && (found || zero_nonfinite)) {
        find_nonfinite(values, n, zero_nonfinite, first, found);
    }
    if (found) {
        found->n_nonfinite += (uint64_t)bad;
    }
    return LORS_OK;
}

static lors_status cpu_subtract(lors_queue *queue, lors_view out, lors_view a, int64_t stride,
                                lors_view b, int64_t stride_b, int32_t n_slices, int64_t n)
{
    float *to = lors_cpu_at(out);
    const float *from = lors_cpu_at(a), *less = lors_cpu_at(b);
    for (int32_t slice = 0; slice < n_slices; slice++) {
        queue->kernels->subtract(to + slice * stride, from + slice * stride,
                                 less + slice * stride_b, n);
    }
    return LORS_OK;
}

static lors_status cpu_choose(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                              lors_view mask, int64_t n)
{
    queue->kernels->choose(lors_cpu_at(out), lors_cpu_at(a), lors_cpu_at(b), lors_cpu_at(mask), n);
    return LORS_OK;
}

static lors_status cpu_compare(lors_queue *queue, lors_view differs, lors_view a, lors_view b,
                               int64_t n)
{
    (void)queue;
    uint32_t *flag = lors_cpu_at(differs);
    if ((*flag & 1) == 0 && n > 0) {
        *flag |= memcmp(lors_cpu_at(a), lors_cpu_at(b), (size_t)n * sizeof(float)) != 0;
    }
    return LORS_OK;
}

static lors_status cpu_accumulate(lors_queue *queue, lors_view acc, const lors_sum *sum, int64_t n)
{
    queue->kernels->accumulate(lors_cpu_at(acc), sum, n);
    return LORS_OK;
}

static lors_status cpu_elect_sign(lors_queue *queue, lors_view signs, const lors_sum *sum,
                                  int64_t n)
{
    queue->kernels->elect_sign(lors_cpu_at(signs), sum, n);
    return LORS_OK;
}

static lors_status cpu_store(lors_queue *queue, lors_view out, const lors_store *store, int64_t n)
{
    unsigned char *bytes = lors_cpu_at(out);
    lors_store_block *blocks = lors_cpu_at(store->blocks);
    lors_cpu_store from = {lors_cpu_at(store->acc), lors_cpu_at(store->base),
                           lors_cpu_at(store->stack), store->stride, store->n_models};
    int64_t element_bytes = lors_dtype_bits(store->dtype) / 8;
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        queue->kernels->store_block(bytes + begin * element_bytes, store->dtype, &from, count,
                                    store->zero_nonfinite, blocks++);
        from.acc += count;
        from.base = from.base ? from.base + count : NULL;
        from.stack = from.stack ? from.stack + count : NULL;
    }
    return LORS_OK;
}

static lors_status cpu_gram(lors_queue *queue, lors_view dots, lors_view x, int64_t stride,
                            int32_t n_slices, int64_t n)
{
    double *out = lors_cpu_at(dots);
    const float *values = lors_cpu_at(x);
    int64_t n_pairs = (int64_t)n_slices * (n_slices + 1) / 2;
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK, out += n_pairs) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        queue->kernels->gram_block(out, values + begin, stride, n_slices, count);
    }
    return LORS_OK;
}

static lors_status cpu_gram_columns(lors_queue *queue, lors_view dots, lors_view x, int64_t stride,
                                    int32_t n_slices, int64_t n_rows, int64_t n_cols)
{
    double *out = lors_cpu_at(dots);
    const float *values = lors_cpu_at(x);
    int64_t n_pairs = (int64_t)n_slices * (n_slices + 1) / 2;
    for (int64_t row = 0; row < n_rows; row += LORS_ROW_GROUP, out += n_pairs * n_cols) {
        int64_t count = n_rows - row < LORS_ROW_GROUP ? n_rows - row : LORS_ROW_GROUP;
        queue->kernels->gram_columns_group(out, values + row * n_cols, stride, n_slices, count,
                                           n_cols);
    }
    return LORS_OK;
}

static lors_status cpu_accumulate_columns(lors_queue *queue, lors_view acc,
                                          const lors_column_sum *sum)
{
    double *out = lors_cpu_at(acc);
    const float *stack = lors_cpu_at(sum->stack), *base = lors_cpu_at(sum->base);
    for (int64_t at = 0; at < sum->n_rows * sum->n_cols; at += sum->n_cols) {
        queue->kernels->accumulate_columns_row(out + at, stack + at, base ? base + at : NULL, sum);
    }
    return LORS_OK;
}

static lors_status cpu_measure(lors_queue *queue, lors_view sums, lors_view x, lors_view masks,
                               int64_t stride, int32_t n_slices, int64_t n)
{
    double *out = lors_cpu_at(sums);
    const float *values = lors_cpu_at(x);
    const uint8_t *kept = lors_cpu_at(masks);
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        for (int32_t slice = 0; slice < n_slices; slice++, out += 4) {
            int64_t at = slice * stride + begin;
            queue->kernels->measure_block(out, values + at, kept ? kept + at : NULL, count);
        }
    }
    return LORS_OK;
}

static lors_status cpu_combine(lors_queue *queue, lors_view out, const lors_columns *columns,
                               int64_t n)
{
    queue->kernels->combine(lors_cpu_at(out), columns, n);
    return LORS_OK;
}

static lors_status cpu_count_active(lors_queue *queue, lors_view counts,
                                    const lors_columns *columns, int64_t n)
{
    double *out = lors_cpu_at(counts);
    const float *stack = lors_cpu_at(columns->stack), *base = lors_cpu_at(columns->base);
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK, out += 2 * columns->n_models) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        queue->kernels->count_active_block(out, stack + begin, base ? base + begin : NULL, columns,
                                           count);
    }
    return LORS_OK;
}

const lors_backend_ops lors_cpu_ops = {
    .abi = LORS_BACKEND_ABI,
    .name = "cpu",
    .tile_elements = LORS_BLOCK,
    .batch = 1, /* one matrix after another: memory does not grow with the models */
    .unified = true,
    .open = cpu_open,
    .close = cpu_close,
    .memory_info = cpu_memory_info,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .host_bytes = lors_cpu_at,
    .open_queue = cpu_open_queue,
    .close_queue = cpu_close_queue,
    .upload = cpu_copy,
    .download = cpu_copy,
    .clear = cpu_clear,
    .wait = cpu_wait,
    .load = cpu_load,
    .subtract = cpu_subtract,
    .choose = cpu_choose,
    .compare = cpu_compare,
    .accumulate = cpu_accumulate,
    .elect_sign = cpu_elect_sign,
    .store = cpu_store,
    .merge = lors_cpu_merge_stack,
    .gram = cpu_gram,
    .gram_columns = cpu_gram_columns,
    .accumulate_columns = cpu_accumulate_columns,
    .measure = cpu_measure,
    .combine = cpu_combine,
    .count_active = cpu_count_active,
    .select_bytes = lors_cpu_select_bytes,
    .select_begin = lors_cpu_select_begin,
    .select_count = lors_cpu_select_count,
    .select_settle = lors_cpu_select_settle,
    .keep_top = lors_cpu_keep_top,
    .drop_top = lors_cpu_drop_top,
    .select_kept = lors_cpu_select_kept,
    .select_value = lors_cpu_select_value,
    .keep_from = lors_cpu_keep_from,
    .diverge = lors_cpu_diverge,
    .weigh_rows = lors_cpu_weigh_rows,
    .score = lors_cpu_score,
    .balance = lors_cpu_balance,
    .keep_random = lors_cpu_keep_random,
    .rank_bytes = lors_cpu_rank_bytes,
    .keep_ranked = lors_cpu_keep_ranked,
    .truncate_bytes = lors_cpu_truncate_bytes,
    .truncate_rank = lors_cpu_truncate_rank,
    .multiply_bytes = lors_cpu_multiply_bytes,
    .multiply = lors_cpu_multiply,
    .scale_rows = lors_cpu_scale_rows,
    .eigen_bytes = lors_cpu_eigen_bytes,
    .eigen = lors_cpu_eigen,
    .solve_bytes = lors_cpu_solve_bytes,
    .solve = lors_cpu_solve,
    .dot_rows_bytes = lors_cpu_dot_rows_bytes,
    .dot_rows = lors_cpu_dot_rows,
};

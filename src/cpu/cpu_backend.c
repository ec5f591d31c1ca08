/* cpu_backend.c - the CPU as a backend: its memory, its table, and the choice of kernels. */
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu_internal.h"

#define LORS_KERNEL_TABLE(isa) \
    { \
        .name = #isa, .widen_f16 = LORS_KERNEL_NAME(widen_f16, isa), \
        .widen_bf16 = LORS_KERNEL_NAME(widen_bf16, isa), \
        .count_nonfinite = LORS_KERNEL_NAME(count_nonfinite, isa), \
        .subtract = LORS_KERNEL_NAME(subtract, isa), \
        .accumulate = LORS_KERNEL_NAME(accumulate, isa), \
        .elect_sign = LORS_KERNEL_NAME(elect_sign, isa), \
        .store_block = LORS_KERNEL_NAME(store_block, isa), \
        .dots_block = LORS_KERNEL_NAME(dots_block, isa), \
        .widen_f64 = LORS_KERNEL_NAME(widen_f64, isa), \
        .narrow_residual = LORS_KERNEL_NAME(narrow_residual, isa), \
        .sum_of_squares = LORS_KERNEL_NAME(sum_of_squares, isa) \
    }

static const lors_cpu_kernels portable_kernels = LORS_KERNEL_TABLE(portable);
#ifndef LORS_NO_AVX2
static const lors_cpu_kernels avx2_kernels = LORS_KERNEL_TABLE(avx2);
#endif

const lors_cpu_kernels *lors_cpu_kernels_get(void)
{
    const char *wish = getenv("LORS_CPU");
    if (wish && strcmp(wish, "portable") == 0) {
        return &portable_kernels;
    }
#ifndef LORS_NO_AVX2
    if (__builtin_cpu_supports("avx2")) {
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

static lors_status cpu_allocate(lors_backend *backend, uint64_t n_bytes, lors_memory **out)
{
    (void)backend;
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

static lors_status cpu_load(lors_backend *backend, lors_view out, lors_view in, lors_dtype dtype,
                            int64_t n, bool zero_nonfinite, lors_findings *findings)
{
    float *values = lors_cpu_at(out);
    const void *bytes = lors_cpu_at(in);
    if (dtype == LORS_F32) {
        memcpy(values, bytes, (size_t)n * sizeof *values);
    } else if (dtype == LORS_F16) {
        backend->kernels->widen_f16(values, bytes, n);
    } else {
        backend->kernels->widen_bf16(values, bytes, n);
    }
    int64_t bad = backend->kernels->count_nonfinite(values, n);
    findings->n_nonfinite = (uint64_t)bad;
    bool found = false;
    for (int64_t i = 0; bad > 0 && i < n; i++) {
        if ((lors_f32_bits(values[i]) & 0x7f800000u) != 0x7f800000u) {
            continue;
        }
        findings->first_nonfinite = found ? findings->first_nonfinite : (uint64_t)i;
        found = true;
        values[i] = zero_nonfinite ? 0 : values[i];
    }
    return LORS_OK;
}

static lors_status cpu_subtract(lors_backend *backend, lors_view out, lors_view a, lors_view b,
                                int64_t n)
{
    backend->kernels->subtract(lors_cpu_at(out), lors_cpu_at(a), lors_cpu_at(b), n);
    return LORS_OK;
}

static lors_status cpu_compare(lors_backend *backend, lors_view a, lors_view b, int64_t n,
                               bool *same)
{
    (void)backend;
    *same = memcmp(lors_cpu_at(a), lors_cpu_at(b), (size_t)n * sizeof(float)) == 0;
    return LORS_OK;
}

static lors_status cpu_accumulate(lors_backend *backend, lors_view acc, const lors_sum *sum,
                                  int64_t n)
{
    backend->kernels->accumulate(lors_cpu_at(acc), sum, n);
    return LORS_OK;
}

static lors_status cpu_elect_sign(lors_backend *backend, lors_view signs, const lors_sum *sum,
                                  int64_t n)
{
    backend->kernels->elect_sign(lors_cpu_at(signs), sum, n);
    return LORS_OK;
}

static lors_status cpu_store(lors_backend *backend, lors_view out, lors_dtype dtype, lors_view acc,
                             lors_view base, int64_t n, bool zero_nonfinite,
                             lors_store_block *blocks)
{
    unsigned char *bytes = lors_cpu_at(out);
    const double *exact = lors_cpu_at(acc);
    const float *from = lors_cpu_at(base);
    int64_t element_bytes = lors_dtype_bits(dtype) / 8;
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        backend->kernels->store_block(bytes + begin * element_bytes, dtype, exact + begin,
                                      from ? from + begin : NULL, count, zero_nonfinite, blocks++);
    }
    return LORS_OK;
}

static lors_status cpu_reduce_dots(lors_backend *backend, lors_view dots, lors_view a, lors_view b,
                                   int64_t n)
{
    double *out = lors_cpu_at(dots);
    const float *x = lors_cpu_at(a), *y = lors_cpu_at(b);
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK, out += 3) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        backend->kernels->dots_block(out, x + begin, y + begin, count);
    }
    return LORS_OK;
}

const lors_backend_ops lors_cpu_ops = {
    .abi = LORS_BACKEND_ABI,
    .name = "cpu",
    .tile_elements = LORS_BLOCK,
    .open = cpu_open,
    .close = cpu_close,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .host_bytes = lors_cpu_at,
    .load = cpu_load,
    .subtract = cpu_subtract,
    .compare = cpu_compare,
    .accumulate = cpu_accumulate,
    .elect_sign = cpu_elect_sign,
    .store = cpu_store,
    .reduce_dots = cpu_reduce_dots,
    .select_bytes = lors_cpu_select_bytes,
    .select_begin = lors_cpu_select_begin,
    .select_count = lors_cpu_select_count,
    .select_settle = lors_cpu_select_settle,
    .keep_top = lors_cpu_keep_top,
    .select_kept = lors_cpu_select_kept,
    .truncate_bytes = lors_cpu_truncate_bytes,
    .truncate_rank = lors_cpu_truncate_rank,
};

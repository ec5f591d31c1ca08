/* ops_bench.c - the devices, the guarded buffers, and the run of a table of cases over them. */
#include "ops_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/device.h>

#include "backend/backend_registry.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#endif
#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#define FORBID(bytes, n) ASAN_POISON_MEMORY_REGION(bytes, n)
#define ALLOW(bytes, n) ASAN_UNPOISON_MEMORY_REGION(bytes, n)
#else
#define FORBID(bytes, n) ((void)0)
#define ALLOW(bytes, n) ((void)0)
#endif

enum { FILL = 0xa5, MAX_DEVICES = 16, MAX_CASES = 64 };

/* What one run needs; `digests` is shared by all devices of a case, 0 until the first has run. */
typedef struct ops_run_state {
    const ops_case *test;
    const char *device, *kernels;
    uint64_t *digest;
    ops_bench bench;
    char name[160];
} ops_run_state;

static unsigned char *bytes_of(const ops_bench *bench, lors_memory *memory)
{
    return bench->ops->host_bytes((lors_view){memory, 0});
}

static lors_view guarded(ops_bench *bench, uint64_t n_bytes, uint64_t at)
{
    assert_true(bench->n_buffers < OPS_MAX_BUFFERS);
    ops_buffer *buffer = &bench->buffers[bench->n_buffers++];
    *buffer = (ops_buffer){.at = at, .n_bytes = n_bytes};
    uint64_t total = at + n_bytes + OPS_GUARD;
    assert_ok(bench->ops->allocate(bench->backend, total, &buffer->memory));
    unsigned char *bytes = bytes_of(bench, buffer->memory);
    memset(bytes, FILL, total);
    FORBID(bytes, at);
    FORBID(bytes + at + n_bytes, OPS_GUARD);
    return (lors_view){buffer->memory, at};
}

lors_view ops_buffer_of(ops_bench *bench, int64_t n, size_t element_bytes)
{
    return guarded(bench, (uint64_t)n * element_bytes, OPS_GUARD + element_bytes);
}

lors_view ops_scratch(ops_bench *bench, uint64_t n_bytes)
{
    return guarded(bench, n_bytes, OPS_GUARD);
}

void *ops_host(const ops_bench *bench, lors_view view)
{
    return bench->ops->host_bytes(view);
}

lors_view ops_copy_of(ops_bench *bench, const void *elements, int64_t n, size_t element_bytes)
{
    lors_view view = ops_buffer_of(bench, n, element_bytes);
    memcpy(ops_host(bench, view), elements, (size_t)n * element_bytes);
    return view;
}

static bool intact(const unsigned char *bytes, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (bytes[i] != FILL) {
            return false;
        }
    }
    return true;
}

void ops_clear(ops_bench *bench)
{
    bool whole = true;
    for (int i = 0; i < bench->n_buffers; i++) {
        ops_buffer *buffer = &bench->buffers[i];
        unsigned char *bytes = bytes_of(bench, buffer->memory);
        ALLOW(bytes, buffer->at + buffer->n_bytes + OPS_GUARD);
        whole = whole && intact(bytes, buffer->at) &&
                intact(bytes + buffer->at + buffer->n_bytes, OPS_GUARD);
        bench->ops->release(bench->backend, buffer->memory);
    }
    bench->n_buffers = 0;
    assert_true(whole);
}

/* FNV-1a, 64 bits. */
void ops_record(ops_bench *bench, const void *bytes, size_t n_bytes)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < n_bytes; i++) {
        bench->digest = (bench->digest ^ at[i]) * 0x100000001b3u;
    }
}

static void run_case(void **state)
{
    ops_run_state *run = *state;
    int32_t index;
    if (run->kernels) {
        setenv("LORS_CPU", run->kernels, 1);
    } else {
        unsetenv("LORS_CPU");
    }
    run->bench = (ops_bench){.digest = 0xcbf29ce484222325u};
    assert_ok(lors_backend_find(run->device, &run->bench.ops, &index));
    assert_ok(run->bench.ops->open(index, &run->bench.backend));
    run->test->run(&run->bench);
    ops_clear(&run->bench);
    run->bench.ops->close(run->bench.backend);
    if (*run->digest == 0) {
        *run->digest = run->bench.digest;
    }
    assert_int_equal(run->bench.digest, *run->digest);
}

int ops_run(const char *group, const ops_case *cases, size_t n_cases)
{
    static ops_run_state states[MAX_CASES * MAX_DEVICES];
    static struct CMUnitTest tests[MAX_CASES * MAX_DEVICES];
    static uint64_t digests[MAX_CASES];
    size_t n = 0;
    for (size_t c = 0; c < n_cases && c < MAX_CASES; c++) {
        for (int32_t d = -1; d < lors_device_count() && d < MAX_DEVICES - 1; d++) {
            if (d >= 0 && !lors_device_at(d)->available) {
                continue; /* known, and missing here */
            }
            ops_run_state *run = &states[n];
            run->test = &cases[c];
            run->device = d < 0 ? "cpu" : lors_device_at(d)->name;
            run->kernels = d < 0 ? "portable" : NULL;
            run->digest = &digests[c];
            snprintf(run->name, sizeof run->name, "%s on %s%s", cases[c].name, run->device,
                     d < 0 ? " (portable)" : "");
            tests[n++] = (struct CMUnitTest){run->name, run_case, NULL, NULL, run};
        }
    }
    return _cmocka_run_group_tests(group, tests, n, NULL, NULL);
}

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

enum { FILL = 0xa5, MAX_DEVICES = 16, MAX_CASES = 64, STAGING_BYTES = 1 << 20 };

/* What one run needs; `digests` is shared by all devices of a case, 0 until the first has run. */
typedef struct ops_run_state {
    const ops_case *test;
    const char *device, *kernels;
    uint64_t *digest;
    ops_bench bench;
    char name[160];
} ops_run_state;

/* --- Between the device and the host ---------------------------------------------------------- */

/* Bytes at .. at + n - 1 of a buffer, between the mirror and the device, piece by piece. */
static void transfer(const ops_bench *bench, const ops_buffer *buffer, uint64_t at, uint64_t n,
                     bool to_device)
{
    lors_view staging = {bench->staging, 0};
    unsigned char *bytes = bench->ops->host_bytes(staging);
    for (uint64_t done = 0; done < n && !bench->ops->unified; done += STAGING_BYTES) {
        uint64_t part = n - done < STAGING_BYTES ? n - done : STAGING_BYTES;
        lors_view device = {buffer->memory, at + done};
        unsigned char *host = buffer->mirror + at + done;
        if (to_device) {
            memcpy(bytes, host, part);
            assert_ok(bench->ops->upload(bench->queue, device, staging, part));
        } else {
            assert_ok(bench->ops->download(bench->queue, staging, device, part));
        }
        assert_ok(bench->ops->wait(bench->queue));
        if (!to_device) {
            memcpy(host, bytes, part);
        }
    }
}

static uint64_t total_bytes(const ops_buffer *buffer)
{
    return buffer->at + buffer->n_bytes + OPS_GUARD;
}

static lors_view guarded(ops_bench *bench, uint64_t n_bytes, uint64_t at)
{
    assert_true(bench->n_buffers < OPS_MAX_BUFFERS);
    ops_buffer *buffer = &bench->buffers[bench->n_buffers++];
    *buffer = (ops_buffer){.at = at, .n_bytes = n_bytes};
    uint64_t total = total_bytes(buffer);
    assert_ok(bench->ops->allocate(bench->backend, LORS_ON_DEVICE, total, &buffer->memory));
    buffer->mirror = bench->ops->unified ? bench->ops->host_bytes((lors_view){buffer->memory, 0})
                                         : malloc(total);
    assert_non_null(buffer->mirror);
    memset(buffer->mirror, FILL, total);
    transfer(bench, buffer, 0, total, true);
    FORBID(buffer->mirror, at);
    FORBID(buffer->mirror + at + n_bytes, OPS_GUARD);
    return (lors_view){buffer->memory, at};
}

static const ops_buffer *find(const ops_bench *bench, lors_view view)
{
    for (int i = 0; i < bench->n_buffers; i++) {
        if (bench->buffers[i].memory == view.memory) {
            return &bench->buffers[i];
        }
    }
    fail_msg("the view is of no buffer of this bench");
    return NULL;
}

lors_view ops_buffer_of(ops_bench *bench, int64_t n, size_t element_bytes)
{
    size_t align = element_bytes < 8 ? element_bytes : 8; /* structures are of f64 */
    return guarded(bench, (uint64_t)n * element_bytes, OPS_GUARD + align);
}

lors_view ops_scratch(ops_bench *bench, uint64_t n_bytes)
{
    return guarded(bench, n_bytes, LORS_VIEW_ALIGN);
}

lors_view ops_copy_of(ops_bench *bench, const void *elements, int64_t n, size_t element_bytes)
{
    lors_view view = ops_buffer_of(bench, n, element_bytes);
    memcpy(find(bench, view)->mirror + view.offset, elements, (size_t)n * element_bytes);
    ops_push(bench, view);
    return view;
}

lors_view ops_zeros(ops_bench *bench, int64_t n, size_t element_bytes)
{
    lors_view view = ops_buffer_of(bench, n, element_bytes);
    assert_ok(bench->ops->clear(bench->queue, view, (uint64_t)n * element_bytes));
    return view;
}

/* The guards stay as they are: only what is read is fetched. */
void *ops_host(const ops_bench *bench, lors_view view)
{
    if (!view.memory) {
        return NULL;
    }
    const ops_buffer *buffer = find(bench, view);
    assert_ok(bench->ops->wait(bench->queue));
    transfer(bench, buffer, buffer->at, buffer->n_bytes, false);
    return buffer->mirror + view.offset;
}

void ops_push(const ops_bench *bench, lors_view view)
{
    const ops_buffer *buffer = find(bench, view);
    assert_ok(bench->ops->wait(bench->queue));
    transfer(bench, buffer, buffer->at, buffer->n_bytes, true);
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
    assert_ok(bench->ops->wait(bench->queue));
    for (int i = 0; i < bench->n_buffers; i++) {
        ops_buffer *buffer = &bench->buffers[i];
        uint64_t end = buffer->at + buffer->n_bytes;
        ALLOW(buffer->mirror, total_bytes(buffer));
        transfer(bench, buffer, 0, buffer->at, false);
        transfer(bench, buffer, end, OPS_GUARD, false);
        whole =
            whole && intact(buffer->mirror, buffer->at) && intact(buffer->mirror + end, OPS_GUARD);
        if (!bench->ops->unified) {
            free(buffer->mirror);
        }
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

/* --- Benches ---------------------------------------------------------------------------------- */

static void open_queue(ops_bench *bench)
{
    bench->emulated = getenv("LORS_EMULATED") != NULL;
    assert_ok(bench->ops->open_queue(bench->backend, &bench->queue));
    assert_ok(bench->ops->allocate(bench->backend, LORS_STAGING, STAGING_BYTES, &bench->staging));
}

static void close_queue(ops_bench *bench)
{
    ops_clear(bench);
    bench->ops->release(bench->backend, bench->staging);
    bench->ops->close_queue(bench->queue);
    bench->ops->close_queue(bench->second);
}

lors_queue *ops_second_queue(ops_bench *bench)
{
    if (!bench->second) {
        assert_ok(bench->ops->open_queue(bench->backend, &bench->second));
    }
    return bench->second;
}

void ops_open_second(ops_bench *second, const ops_bench *bench)
{
    *second = (ops_bench){.ops = bench->ops, .backend = bench->backend};
    open_queue(second);
}

void ops_close_second(ops_bench *second)
{
    close_queue(second);
}

static void run_case(void **state)
{
    ops_run_state *run = *state;
    lors_backend_choice choice;
    if (run->kernels) {
        setenv("LORS_CPU", run->kernels, 1);
    } else {
        unsetenv("LORS_CPU");
    }
    run->bench = (ops_bench){.digest = 0xcbf29ce484222325u};
    assert_ok(lors_backend_find(run->device, &choice));
    run->bench.ops = choice.ops;
    lors_status status = choice.ops->open(choice.index[0], &run->bench.backend);
    expect(status == LORS_OK, "%s", lors_last_error());
    open_queue(&run->bench);
    run->test->run(&run->bench);
    close_queue(&run->bench);
    run->bench.ops->close(run->bench.backend);
    if (*run->digest == 0) {
        *run->digest = run->bench.digest;
    }
    assert_int_equal(run->bench.digest, *run->digest);
}

/* The devices to test on, the reference first. Returns how many; 0 where the one asked for is
 * missing, -1 where no build knows it. */
static int devices_of(const char **names, const char **kernels)
{
    int n = 0;
    lors_backend_choice choice;
    const char *only = getenv("LORS_TEST_DEVICE");
    names[n] = "cpu";
    kernels[n++] = "portable";
    if (only) {
        lors_status status = lors_backend_find(only, &choice);
        if (status != LORS_OK) {
            fprintf(stderr, "%s\n", lors_last_error());
            return status == LORS_ERR_USAGE ? -1 : 0;
        }
        names[n] = only;
        kernels[n++] = NULL;
        return n;
    }
    for (int32_t d = 0; d < lors_device_count() && n < MAX_DEVICES; d++) {
        if (lors_device_at(d)->available) { /* else it is known, and missing here */
            names[n] = lors_device_at(d)->name;
            kernels[n++] = NULL;
        }
    }
    return n;
}

int ops_run(const char *group, const ops_case *cases, size_t n_cases)
{
    static ops_run_state states[MAX_CASES * MAX_DEVICES];
    static struct CMUnitTest tests[MAX_CASES * MAX_DEVICES];
    static uint64_t digests[MAX_CASES];
    const char *names[MAX_DEVICES], *kernels[MAX_DEVICES];
    int n_devices = devices_of(names, kernels);
    size_t n = 0;
    if (n_devices <= 0) {
        return n_devices == 0 ? OPS_SKIPPED : 1;
    }
    for (size_t c = 0; c < n_cases && c < MAX_CASES; c++) {
        for (int d = 0; d < n_devices; d++) {
            ops_run_state *run = &states[n];
            run->test = &cases[c];
            run->device = names[d];
            run->kernels = kernels[d];
            run->digest = &digests[c];
            snprintf(run->name, sizeof run->name, "%s on %s%s", cases[c].name, run->device,
                     run->kernels ? " (portable)" : "");
            tests[n++] = (struct CMUnitTest){run->name, run_case, NULL, NULL, run};
        }
    }
    return _cmocka_run_group_tests(group, tests, n, NULL, NULL);
}

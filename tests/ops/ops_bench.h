/* ops_bench.h - where the operations are tested: every case on every backend, guarded buffers.
 *
 * A test program is a table of cases. Each runs on each device of the registry, the CPU with each
 * of its kernel sets; what a case records must be the same bytes on all of them. With
 * LORS_TEST_DEVICE in the environment the devices are that one and the CPU as the reference; with
 * LORS_EMULATED it is slow, and fewer and smaller examples of each kind are tried.
 */
#ifndef LORS_TESTS_OPS_BENCH_H
#define LORS_TESTS_OPS_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/backend_ops.h"

enum { OPS_MAX_BUFFERS = 32, OPS_GUARD = 64, OPS_SKIPPED = 77 };

typedef struct ops_buffer {
    lors_memory *memory;   /* on the device */
    unsigned char *mirror; /* the same on the host; the memory itself where the host reaches it */
    uint64_t at, n_bytes;  /* payload; guards reach to both ends of the memory */
} ops_buffer;

typedef struct ops_bench {
    const lors_backend_ops *ops;
    lors_backend *backend;
    lors_queue *queue;
    lors_queue *second;   /* see ops_second_queue */
    lors_memory *staging; /* what ops_host and ops_push go through */
    bool emulated;        /* fewer and smaller examples will do, but some of each kind */
    ops_buffer buffers[OPS_MAX_BUFFERS];
    int n_buffers;
    uint64_t digest; /* of everything recorded */
} ops_bench;

typedef struct ops_case {
    const char *name;
    void (*run)(ops_bench *bench);
} ops_case;

/* Run the table; returns what main returns (OPS_SKIPPED where LORS_TEST_DEVICE is missing). */
int ops_run(const char *group, const ops_case *cases, size_t n_cases);

/* A buffer of n elements, no better aligned than its elements must be, filled with 0xa5. */
lors_view ops_buffer_of(ops_bench *bench, int64_t n, size_t element_bytes);
/* The same, aligned to LORS_VIEW_ALIGN: states and scratch. */
lors_view ops_scratch(ops_bench *bench, uint64_t n_bytes);
/* A buffer with these elements in it; with zeros in it. */
lors_view ops_copy_of(ops_bench *bench, const void *elements, int64_t n, size_t element_bytes);
lors_view ops_zeros(ops_bench *bench, int64_t n, size_t element_bytes);
/* Where the view lies on the host, as it is after everything that was queued. What the host then
 * writes there is lost, or seen, or not, until it is pushed. */
void *ops_host(const ops_bench *bench, lors_view view);
/* The host wrote into the buffer of this view: take its payload to the device. */
void ops_push(const ops_bench *bench, lors_view view);
/* Wait, check that all guards are intact, and free all buffers. */
void ops_clear(ops_bench *bench);
/* These bytes must be the same on every device. */
void ops_record(ops_bench *bench, const void *bytes, size_t n_bytes);

/* A second queue of the same backend, opened when first asked for. */
lors_queue *ops_second_queue(ops_bench *bench);
/* The same with buffers of its own. */
void ops_open_second(ops_bench *second, const ops_bench *bench);
void ops_close_second(ops_bench *second);

#define assert_ok(call) assert_int_equal((call), LORS_OK)
/* As assert_true, with numbers to look at. */
#define expect(condition, ...)                                        \
    do {                                                              \
        if (!(condition)) {                                           \
            print_error("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            print_error(__VA_ARGS__);                                 \
            print_error("\n");                                        \
            fail();                                                   \
        }                                                             \
    } while (0)

#endif

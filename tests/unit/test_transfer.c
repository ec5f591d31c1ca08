/* test_transfer.c - reading and writing by other threads: bytes, hashes, order, failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/transfer.h"
#include "io_files.h"

enum { N_BYTES = 20000003 }; /* more than two pieces, and no round number */

static lors_checkpoint *checkpoint;
static unsigned char *expected;

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    char json[256];
    snprintf(json, sizeof json, "{\"a\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}}",
             N_BYTES, N_BYTES);
    io_write_tensors(io_path("x"), json, N_BYTES);
    assert_int_equal(lors_checkpoint_open(io_path("x"), false, &checkpoint), LORS_OK);
    expected = malloc(N_BYTES);
    assert_non_null(expected);
    for (size_t i = 0; i < N_BYTES; i++) {
        expected[i] = (unsigned char)(i & 0xff);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lors_file_set_table(NULL);
    lors_checkpoint_close(checkpoint);
    free(expected);
    io_folder_remove();
    return 0;
}

static void read_hashed(lors_transfer *t, uint64_t offset, size_t n_bytes, uint64_t chunk)
{
    unsigned char *out = malloc(n_bytes + 1);
    size_t n_chunks = (size_t)((n_bytes + chunk - 1) / chunk);
    lors_xxh *digests = malloc((n_chunks + 1) * sizeof *digests);
    assert_true(out && digests);
    lors_transfer_req request = {.digest_chunk_bytes = chunk, .digests = digests};
    memset(&digests[n_chunks], 0x5a, sizeof *digests);
    out[n_bytes] = 0x5a;
    const lors_ckpt_tensor *tensor = &checkpoint->tensors[0];
    assert_int_equal(lors_transfer_read(t, &request, checkpoint, tensor, offset, out, n_bytes),
                     LORS_OK);
    assert_int_equal(lors_transfer_wait(t, &request), LORS_OK);
    assert_memory_equal(out, expected + offset, n_bytes);
    assert_int_equal(out[n_bytes], 0x5a);
    for (size_t i = 0; i < n_chunks; i++) {
        size_t at = (size_t)(i * chunk), rest = n_bytes - at;
        lors_xxh hash = lors_xxh_of(out + at, rest < chunk ? rest : (size_t)chunk);
        assert_memory_equal(&digests[i], &hash, sizeof hash);
    }
    assert_int_equal(digests[n_chunks].bytes[0], 0x5a);
    free(digests);
    free(out);
}

static void test_read(void **state)
{
    (void)state;
    lors_transfer *t = NULL;
    assert_int_equal(lors_transfer_create(2, &t), LORS_OK);
    read_hashed(t, 0, N_BYTES, 1 << 20);
    read_hashed(t, 0, N_BYTES, LORS_TRANSFER_PIECE);
    read_hashed(t, 5, N_BYTES - 5, 3000001); /* no divisor of a piece */
    read_hashed(t, 0, N_BYTES, 9 << 20);     /* larger than a piece */
    read_hashed(t, 0, N_BYTES, UINT64_C(1) << 40);
    read_hashed(t, 7, 100, 9);
    read_hashed(t, N_BYTES, 0, 8);
    lors_transfer_counters counters = lors_transfer_count(t);
    assert_int_equal(counters.read_bytes, (uint64_t)N_BYTES * 5 - 5 + 100);
    assert_true(counters.read_seconds > 0);
    assert_true(counters.written_bytes == 0 && counters.write_seconds == 0.0);
    lors_transfer_free(t);
    lors_transfer_free(NULL);
}

/* Many requests from several threads, read and written again at the same place. */
enum { N_REQUESTS = 40, PART = 100000 };

typedef struct copier {
    lors_transfer *transfer;
    int fd, first;
    bool failed;
} copier;

static void *copy_parts(void *argument)
{
    copier *c = argument;
    enum { N_SLOTS = 4 };
    static const char path[] = "copy";
    lors_transfer_req requests[N_SLOTS] = {0};
    unsigned char *buffers = malloc((size_t)N_SLOTS * PART);
    for (int i = 0; i < N_REQUESTS && buffers; i++) {
        lors_transfer_req *request = &requests[i % N_SLOTS];
        unsigned char *buffer = buffers + (size_t)(i % N_SLOTS) * PART;
        uint64_t offset = (uint64_t)(c->first + i) * PART;
        c->failed = c->failed || lors_transfer_wait(c->transfer, request) != LORS_OK;
        c->failed = c->failed || lors_transfer_read(c->transfer, request, checkpoint,
                                                    &checkpoint->tensors[0], offset, buffer, PART);
        c->failed = c->failed || lors_transfer_wait(c->transfer, request) != LORS_OK;
        c->failed = c->failed ||
                    lors_transfer_write(c->transfer, request, c->fd, path, offset, buffer, PART);
    }
    for (int i = 0; i < N_SLOTS; i++) {
        c->failed = c->failed || lors_transfer_wait(c->transfer, &requests[i]) != LORS_OK;
    }
    c->failed = c->failed || !buffers;
    free(buffers);
    return NULL;
}

static void test_copy(void **state)
{
    (void)state;
    enum { N_THREADS = 4 };
    lors_transfer *t = NULL;
    int fd = open(io_path("copy"), O_RDWR | O_CREAT | O_EXCL, 0666);
    assert_true(fd >= 0);
    assert_int_equal(lors_transfer_create(3, &t), LORS_OK);
    copier copiers[N_THREADS];
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        copiers[i] = (copier){t, fd, i * N_REQUESTS, false};
        assert_int_equal(pthread_create(&threads[i], NULL, copy_parts, &copiers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(copiers[i].failed);
    }
    size_t n_bytes = (size_t)N_THREADS * N_REQUESTS * PART;
    unsigned char *copy = malloc(n_bytes);
    assert_non_null(copy);
    assert_int_equal(pread(fd, copy, n_bytes, 0), (ssize_t)n_bytes);
    assert_memory_equal(copy, expected, n_bytes);
    lors_transfer_counters counters = lors_transfer_count(t);
    assert_true(counters.read_bytes == n_bytes && counters.written_bytes == n_bytes);
    free(copy);
    close(fd);
    lors_transfer_free(t);
}

/* A table that notes the order of writes, fails them, or holds them until it is told to go on. */
static const lors_file_ops *real;
static atomic_bool held, failing;
static atomic_int n_writes, n_begun;
static off_t order[64];

static ssize_t noting_pwrite(int fd, const void *buffer, size_t n_bytes, off_t offset)
{
    (void)fd;
    (void)buffer;
    atomic_fetch_add(&n_begun, 1);
    while (atomic_load(&held)) {
        usleep(1000);
    }
    if (atomic_load(&failing)) {
        errno = ENOSPC;
        return -1;
    }
    order[atomic_fetch_add(&n_writes, 1) % 64] = offset;
    return (ssize_t)n_bytes;
}

static void use_noting_table(lors_file_ops *table)
{
    real = lors_file_table();
    *table = *real;
    table->pwrite = noting_pwrite;
    atomic_store(&n_writes, 0);
    atomic_store(&n_begun, 0);
    atomic_store(&held, true);
    atomic_store(&failing, false);
    lors_file_set_table(table);
}

static void test_order(void **state)
{
    (void)state;
    lors_file_ops table;
    lors_transfer *t = NULL;
    lors_transfer_req requests[32] = {0};
    assert_int_equal(lors_transfer_create(0, &t), LORS_OK); /* becomes one thread */
    use_noting_table(&table);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(lors_transfer_write(t, &requests[i], 0, "x", (uint64_t)(100 - i), "b", 1),
                         LORS_OK);
    }
    assert_int_equal(lors_transfer_write(t, &requests[31], 0, "x", 0, "b", 1), LORS_ERR_INTERNAL);
    while (atomic_load(&n_begun) < 1) {
        usleep(1000);
    }
    unsigned char byte;
    assert_int_equal(lors_transfer_read(t, &requests[0], checkpoint, &checkpoint->tensors[0], 0,
                                        &byte, 1), LORS_ERR_INTERNAL); /* it has begun */
    atomic_store(&held, false);
    for (int i = 31; i >= 0; i--) {
        assert_int_equal(lors_transfer_wait(t, &requests[i]), LORS_OK);
        assert_int_equal(lors_transfer_wait(t, &requests[i]), LORS_OK); /* nothing to wait for */
    }
    for (int i = 0; i < 32; i++) {
        assert_int_equal(order[i], 100 - i);
    }
    lors_transfer_free(t);
}

static void test_failures(void **state)
{
    (void)state;
    lors_file_ops table;
    lors_transfer *t = NULL;
    unsigned char out[8];
    lors_transfer_req write = {0}, read = {0};
    assert_int_equal(lors_transfer_create(2, &t), LORS_OK);
    use_noting_table(&table);
    atomic_store(&held, false);
    atomic_store(&failing, true);
    assert_int_equal(lors_transfer_write(t, &write, 0, "full.bin", 40, "bytes", 5), LORS_OK);
    assert_int_equal(
        lors_transfer_read(t, &read, checkpoint, &checkpoint->tensors[0], N_BYTES - 4, out, 8),
        LORS_OK);
    assert_int_equal(lors_transfer_wait(t, &read), LORS_ERR_USAGE);
    assert_non_null(strstr(lors_last_error(), "tensor 'a'"));
    assert_int_equal(lors_transfer_wait(t, &write), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "full.bin: no room at byte 40"));
    write.digests = (lors_xxh *)(void *)out; /* of a read with it before: a write has none */
    write.digest_chunk_bytes = 1;
    atomic_store(&failing, false);
    memset(out, 7, sizeof out);
    assert_int_equal(lors_transfer_write(t, &write, 0, "x", 40, "bytes", 5), LORS_OK);
    assert_int_equal(lors_transfer_wait(t, &write), LORS_OK);
    assert_int_equal(out[0], 7);
    read.digests = (lors_xxh *)(void *)out;
    assert_int_equal(lors_transfer_read(t, &read, checkpoint, &checkpoint->tensors[0], 0, out, 8),
                     LORS_ERR_INTERNAL);
    lors_transfer_counters counters = lors_transfer_count(t);
    assert_true(counters.read_bytes == 0 && counters.written_bytes == 5);
    lors_transfer_free(t);
}

static void *let_go(void *argument)
{
    (void)argument;
    usleep(50000);
    atomic_store(&held, false);
    return NULL;
}

/* What has begun is finished (after its piece), what has not is dropped. */
static void test_free_early(void **state)
{
    (void)state;
    lors_file_ops table;
    lors_transfer *t = NULL;
    pthread_t thread;
    lors_transfer_req requests[32] = {0};
    assert_int_equal(lors_transfer_create(2, &t), LORS_OK);
    use_noting_table(&table);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(lors_transfer_write(t, &requests[i], 0, "x", 0, expected, N_BYTES),
                         LORS_OK);
    }
    while (atomic_load(&n_begun) < 2) {
        usleep(1000);
    }
    assert_int_equal(pthread_create(&thread, NULL, let_go, NULL), 0);
    lors_transfer_free(t);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&n_writes), 2);
    assert_int_equal(requests[0].status, LORS_ERR_CANCELLED);
    assert_int_equal(requests[31].status, LORS_ERR_CANCELLED);
}

static void test_limits(void **state)
{
    (void)state;
    lors_transfer *t = NULL;
    lors_alloc_fail_at(1, false);
    assert_int_equal(lors_transfer_create(2, &t), LORS_ERR_LIMIT);
    lors_alloc_fail_at(0, false);
    assert_null(t);
    assert_int_equal(lors_transfer_create(1000, &t), LORS_OK);
    lors_transfer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

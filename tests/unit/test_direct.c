/* test_direct.c - reading past the page cache: the same bytes, and how it falls back.
 *
 * The table opens O_DIRECT files the usual way and then asks of every read what the strictest disk
 * would, so that the tests need no file system that has O_DIRECT; one of them uses the real calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/handles.h"
#include "io/transfer.h"
#include "io_files.h"

enum {
    PAGE = LORS_DIRECT_ALIGN,
    N_BYTES = 3 * PAGE + 1234,
    MANY_BYTES = 20000003,
    GUARD = 0x5a,
    N_DESCRIPTORS = 1024
};

/* ---- A table that is strict, refuses, and says what is cached -------------------------------- */

static struct {
    int open_error, read_error; /* of direct files; 0: none */
    int n_good_reads;           /* before read_error */
    size_t most_bytes;          /* of a direct read at a time; 0: all */
    int cached;                 /* what is_cached says; 2: of every other page */
    int n_opened, n_direct_reads, n_other_reads, n_questions, n_misplaced;
    bool is_direct[N_DESCRIPTORS]; /* by descriptor */
} fake;

static int fake_open(const char *path, int flags, mode_t mode)
{
    bool direct = flags & O_DIRECT;
    if (direct && fake.open_error) {
        errno = fake.open_error;
        return -1;
    }
    int fd = open(path, flags & ~O_DIRECT, mode);
    if (fd >= 0) { /* no assertions here: the caller holds a mutex */
        fake.is_direct[fd % N_DESCRIPTORS] = direct;
        fake.n_opened++;
    }
    return fd;
}

static ssize_t fake_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    if (!fake.is_direct[fd % N_DESCRIPTORS]) {
        fake.n_other_reads++;
        return pread(fd, buffer, n_bytes, offset);
    }
    fake.n_misplaced += (uintptr_t)buffer % PAGE || n_bytes % PAGE || offset % PAGE;
    if (fake.n_direct_reads++ >= fake.n_good_reads && fake.read_error) {
        errno = fake.read_error;
        fake.read_error = fake.read_error == EINTR ? 0 : fake.read_error;
        return -1;
    }
    bool less = fake.most_bytes > 0 && n_bytes > fake.most_bytes;
    return pread(fd, buffer, less ? fake.most_bytes : n_bytes, offset);
}

static int fake_is_cached(int fd, off_t offset)
{
    (void)fd;
    (void)offset;
    fake.n_questions++;
    return fake.cached == 2 ? fake.n_questions % 2 : fake.cached;
}

static void use_fake(void)
{
    static lors_file_ops table;
    lors_file_set_table(NULL);
    table = *lors_file_table();
    table.open = fake_open;
    table.pread = fake_pread;
    table.is_cached = fake_is_cached;
    memset(&fake, 0, sizeof fake);
    lors_file_set_table(&table);
}

/* ---- A file with one tensor ------------------------------------------------------------------ */

static lors_checkpoint *checkpoint;
static unsigned char *block; /* a page of guards, pages to read into, a page of guards */

static void open_file(size_t n_bytes)
{
    char json[256];
    snprintf(json, sizeof json,
             "{\"t\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", n_bytes,
             n_bytes);
    io_write_tensors(io_path("x"), json, n_bytes);
    assert_int_equal(lors_checkpoint_open(io_path("x"), false, &checkpoint), LORS_OK);
    block = lors_alloc_aligned(n_bytes + 5 * (size_t)PAGE);
    assert_non_null(block);
}

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    open_file(N_BYTES);
    use_fake();
    return 0;
}

static int setup_many(void **state)
{
    (void)state;
    io_folder_create();
    open_file(MANY_BYTES);
    use_fake();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lors_checkpoint_close(checkpoint);
    assert_int_equal(lors_handles_count(), 0);
    assert_int_equal(fake.n_misplaced, 0); /* a disk would have refused */
    lors_file_set_table(NULL);
    lors_free(block);
    io_folder_remove();
    return 0;
}

/* Where bytes from `offset` of the tensor on are to be read to, `shift` beside the right place. */
static unsigned char *place_of(uint64_t offset, int shift)
{
    return block + PAGE + (checkpoint->tensors[0].offset + offset + (uint64_t)shift) % PAGE;
}

static lors_status read_into(unsigned char *out, uint64_t offset, size_t n_bytes, lors_io io,
                             size_t *n_direct)
{
    memset(block, GUARD, (size_t)checkpoint->tensors[0].n_bytes + 5 * (size_t)PAGE);
    lors_ckpt_choose_io(checkpoint, io);
    return lors_ckpt_read_pages(checkpoint, &checkpoint->tensors[0], offset, out, n_bytes,
                                n_direct);
}

/* The right bytes, and nothing overwritten but the pages they lie in (`direct`) or themselves. */
static void check_bytes(const unsigned char *out, uint64_t offset, size_t n_bytes, bool direct)
{
    const unsigned char *first = out, *end = out + n_bytes;
    if (direct) {
        first -= (uintptr_t)first % PAGE;
        end += (PAGE - (uintptr_t)end % PAGE) % PAGE;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        assert_int_equal(out[i], (unsigned char)(offset + i));
    }
    for (const unsigned char *at = block; at < first; at++) {
        assert_int_equal(*at, GUARD);
    }
    for (const unsigned char *at = end; at < end + PAGE; at++) {
        assert_int_equal(*at, GUARD);
    }
}

static size_t read_well(uint64_t offset, size_t n_bytes, lors_io io, int shift)
{
    size_t n_direct = SIZE_MAX;
    unsigned char *out = place_of(offset, shift);
    assert_int_equal(read_into(out, offset, n_bytes, io, &n_direct), LORS_OK);
    check_bytes(out, offset, n_bytes, checkpoint->files[0].direct && shift == 0);
    return n_direct;
}

/* ---- What is read ---------------------------------------------------------------------------- */

static const uint64_t offsets[] = {0, 1, 511, 1000, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 77};
static const size_t lengths[] = {1, 2, 511, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, N_BYTES};

/* Every offset and length, up to the very end of the file, which is no multiple of a page. */
static void odd_offsets_and_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
            size_t rest = N_BYTES - (size_t)offsets[i];
            size_t n_bytes = lengths[j] < rest ? lengths[j] : rest;
            assert_int_equal(read_well(offsets[i], n_bytes, LORS_IO_DIRECT, 0), n_bytes);
        }
    }
    assert_int_equal(read_well(N_BYTES, 0, LORS_IO_DIRECT, 0), 0);
    assert_int_equal(fake.n_other_reads, 0);
    assert_int_equal(fake.n_opened, 1);
}

static void a_place_that_does_not_fit_is_filled_through_the_cache(void **state)
{
    (void)state;
    for (int shift = 1; shift < 3000; shift += 511) {
        assert_int_equal(read_well(5, 2 * PAGE, LORS_IO_DIRECT, shift), 0);
    }
    assert_int_equal(read_well(5, 2 * PAGE, LORS_IO_BUFFERED, 0), 0);
    assert_int_equal(fake.n_direct_reads, 0);
}

static void the_real_calls(void **state)
{
    (void)state;
    size_t n_direct = 0;
    lors_file_set_table(NULL);
    for (int io = LORS_IO_BUFFERED; io <= LORS_IO_DIRECT; io++) {
        n_direct = read_well(7, N_BYTES - 7, (lors_io)io, 0);
        assert_true(n_direct == 0 || (n_direct == N_BYTES - 7 && io != LORS_IO_BUFFERED));
    }
    int fd = open(io_path("x"), O_RDONLY);
    assert_true(fd >= 0);
    assert_true(lors_file_is_cached(fd, N_BYTES)); /* just written, and read */
    close(fd);
    assert_true(lors_file_is_cached(fd, N_BYTES)); /* unknown counts as cached */
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void where_it_cannot_be_opened(void **state)
{
    (void)state;
    fake.open_error = EINVAL; /* what file systems without O_DIRECT say */
    assert_int_equal(read_well(9, 9000, LORS_IO_DIRECT, 0), 0);
    assert_int_equal(read_well(10, 9000, LORS_IO_DIRECT, 0), 0);
    assert_int_equal(fake.n_opened, 1);
    fake.open_error = EMFILE;
    assert_int_equal(read_well(9, 9000, LORS_IO_DIRECT, 0), 0);
    assert_int_equal(fake.n_opened, 1); /* nobody's idle handle was closed for it */
}

static void where_it_cannot_be_read(void **state)
{
    (void)state;
    fake.read_error = EINVAL; /* what disks of larger sectors say */
    assert_int_equal(read_well(9, 9000, LORS_IO_DIRECT, 0), 0);
    assert_int_equal(fake.n_other_reads, 1);
    fake.most_bytes = PAGE;
    fake.n_direct_reads = 0;
    fake.n_good_reads = 2; /* two pages of it, the rest through the cache */
    fake.read_error = EIO;
    size_t lead = (size_t)(checkpoint->tensors[0].offset + 9) % PAGE;
    assert_int_equal(read_well(9, 9000, LORS_IO_DIRECT, 0), 2 * PAGE - lead);
    fake.n_good_reads = 0;
    assert_int_equal(read_well(9, 9000, LORS_IO_DIRECT, 0), 0);
}

static void interrupted_and_short_reads_are_finished(void **state)
{
    (void)state;
    fake.read_error = EINTR;
    assert_int_equal(read_well(9, 9000, LORS_IO_DIRECT, 0), 9000);
    fake.most_bytes = PAGE + 700; /* what is beyond whole pages has to be read again */
    assert_int_equal(read_well(9, 9000, LORS_IO_DIRECT, 0), 9000);
    assert_int_equal(fake.n_other_reads, 0);
    fake.most_bytes = 700; /* no page at all */
    assert_int_equal(read_well(1000, 9000, LORS_IO_DIRECT, 0), 0);
}

static void assert_refused(lors_status status, const char *words)
{
    size_t n_direct = 0;
    assert_int_equal(read_into(place_of(9, 0), 9, 9000, LORS_IO_DIRECT, &n_direct), status);
    if (!strstr(lors_last_error(), words) || !strstr(lors_last_error(), "tensor 't'")) {
        fail_msg("\"%s\" does not say \"%s\"", lors_last_error(), words);
    }
}

/* Whatever happens to the file shows as it does through the cache. */
static void files_that_change(void **state)
{
    bool changed = false;
    (void)state;
    assert_int_equal(read_well(9, 9000, LORS_IO_BUFFERED, 0), 0); /* open in both ways */
    assert_int_equal(read_well(9, 9000, LORS_IO_DIRECT, 0), 9000);
    assert_int_equal(truncate(io_path("x"), 5000), 0);
    assert_refused(LORS_ERR_INPUT, "ends at byte 5000");
    lors_handles_forget(checkpoint->files, 1);
    assert_refused(LORS_ERR_IO, "was cut");
    assert_int_equal(lors_ckpt_check_unchanged(checkpoint, &changed), LORS_ERR_IO);
    assert_true(changed);
    assert_int_equal(unlink(io_path("x")), 0);
    assert_refused(LORS_ERR_IO, "No such file");
}

/* ---- What is cached -------------------------------------------------------------------------- */

static void only_what_is_not_cached_goes_past_the_cache(void **state)
{
    (void)state;
    const size_t n = 8 << 20;
    assert_int_equal(read_well(3, n, LORS_IO_AUTO, 0), n);
    assert_int_equal(fake.n_questions, MANY_BYTES / (1 << 20) + 1);
    fake.cached = 2; /* half of it */
    assert_int_equal(read_well(3, n, LORS_IO_AUTO, 0), 0);
    fake.cached = -1; /* it cannot be known */
    assert_int_equal(read_well(3, n, LORS_IO_AUTO, 0), 0);
    fake.cached = 1;
    assert_int_equal(read_well(3, n, LORS_IO_AUTO, 0), 0);
    int before = fake.n_questions;
    assert_int_equal(read_well(3, n, LORS_IO_DIRECT, 0), n);
    assert_int_equal(read_well(3, n, LORS_IO_BUFFERED, 0), 0);
    assert_int_equal(fake.n_questions, before);
    assert_true(lors_file_is_cached(0, UINT64_C(1) << 40));
    assert_int_equal(fake.n_questions, before + 256);
}

/* Pieces of a longer request each fit, and are hashed as they are. */
static void a_transfer_goes_past_the_cache(void **state)
{
    (void)state;
    enum { FIRST = 5, CHUNK = 1 << 19, N = MANY_BYTES - FIRST };
    lors_transfer *t = NULL;
    lors_xxh *digests = malloc((N / CHUNK + 1) * sizeof *digests);
    assert_non_null(digests);
    lors_transfer_req request = {
        .digest_chunk_bytes = CHUNK, .digests = digests, .whole_pages = true};
    unsigned char *out = place_of(FIRST, 0);
    memset(block, GUARD, MANY_BYTES + 5 * (size_t)PAGE);
    lors_ckpt_choose_io(checkpoint, LORS_IO_DIRECT);
    assert_int_equal(lors_transfer_create(2, &t), LORS_OK);
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(
            lors_transfer_read(t, &request, checkpoint, &checkpoint->tensors[0], FIRST, out, N),
            LORS_OK);
        assert_int_equal(lors_transfer_wait(t, &request), LORS_OK);
        assert_int_equal(lors_transfer_count(t).direct_bytes, (uint64_t)i * N);
    }
    check_bytes(out, FIRST, N, true);
    for (size_t at = 0; at < N; at += CHUNK) {
        lors_xxh hash = lors_xxh_of(out + at, N - at < CHUNK ? N - at : CHUNK);
        assert_memory_equal(&digests[at / CHUNK], &hash, sizeof hash);
    }
    assert_int_equal(fake.n_other_reads, 0);
    lors_transfer_free(t);
    free(digests);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(odd_offsets_and_ends),
        TEST(a_place_that_does_not_fit_is_filled_through_the_cache),
        TEST(the_real_calls),
        TEST(where_it_cannot_be_opened),
        TEST(where_it_cannot_be_read),
        TEST(interrupted_and_short_reads_are_finished),
        TEST(files_that_change),
        cmocka_unit_test_setup_teardown(only_what_is_not_cached_goes_past_the_cache, setup_many,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_transfer_goes_past_the_cache, setup_many, teardown),
    };
    return cmocka_run_group_tests_name("direct", tests, NULL, NULL);
}

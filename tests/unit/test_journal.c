/* test_journal.c - records come back as they were, up to the first that is not whole. */
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
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "io/journal.h"
#include "io_files.h"
#include "run/run_internal.h"

enum { N_RECORDS = 5, ROOM = 4096, MAX_FILE = 8192 };

/* Of different lengths, one of a single byte. */
static const char *const records[N_RECORDS] = {"the first", "x", "a third record, of some length",
                                               "fourth", "the last one"};

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lors_file_set_table(NULL);
    io_folder_remove();
    return 0;
}

static void add_and_sync(lors_journal *journal, const char *record)
{
    lors_journal_add(journal, record, strlen(record));
    assert_int_equal(lors_journal_sync(journal), LORS_OK);
}

/* A journal of the first n records in reserved room. */
static const char *make(int n)
{
    const char *path = io_path("journal");
    lors_journal *journal = NULL;
    unlink(path);
    assert_int_equal(lors_journal_create(path, ROOM, &journal), LORS_OK);
    for (int i = 0; i < n; i++) {
        add_and_sync(journal, records[i]);
    }
    lors_journal_close(journal);
    return path;
}

/* How many records come back; they must be the first ones. */
static int count(lors_journal *journal)
{
    const void *record = NULL;
    size_t n_bytes = 0;
    int n = 0;
    while (lors_journal_next(journal, &record, &n_bytes)) {
        assert_true(n < N_RECORDS);
        assert_int_equal(n_bytes, strlen(records[n]));
        assert_memory_equal(record, records[n], n_bytes);
        n++;
    }
    return n;
}

static int read_back(const char *path)
{
    lors_journal *journal = NULL;
    assert_int_equal(lors_journal_open(path, MAX_FILE, &journal), LORS_OK);
    int n = count(journal);
    lors_journal_close(journal);
    return n;
}

static int whole_records(size_t n_bytes) /* in so many bytes of the file */
{
    size_t at = 0;
    int n = 0;
    while (n < N_RECORDS && at + LORS_JOURNAL_HEAD + strlen(records[n]) <= n_bytes) {
        at += LORS_JOURNAL_HEAD + strlen(records[n++]);
    }
    return n;
}

static size_t used_bytes(int n)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        at += LORS_JOURNAL_HEAD + strlen(records[i]);
    }
    return at;
}

static void test_read_back(void **state)
{
    (void)state;
    for (int n = 0; n <= N_RECORDS; n++) {
        assert_int_equal(read_back(make(n)), n);
    }
    lors_journal *journal = NULL; /* several records in one sync */
    unlink(io_path("journal"));
    assert_int_equal(lors_journal_create(io_path("journal"), 0, &journal), LORS_OK);
    for (int i = 0; i < N_RECORDS; i++) {
        lors_journal_add(journal, records[i], strlen(records[i]));
    }
    assert_int_equal(read_back(io_path("journal")), 0); /* before it */
    assert_int_equal(lors_journal_sync(journal), LORS_OK);
    lors_journal_close(journal);
    assert_int_equal(read_back(io_path("journal")), N_RECORDS);
    lors_journal_close(NULL);
}

/* Cut at every byte; with the file at its full length, too, as reserved room leaves it. */
static void test_torn(void **state)
{
    (void)state;
    size_t used = used_bytes(N_RECORDS);
    for (size_t n = 0; n <= used; n++) {
        const char *path = make(N_RECORDS);
        assert_int_equal(truncate(path, (off_t)n), 0);
        assert_int_equal(read_back(path), whole_records(n));
        assert_int_equal(truncate(path, ROOM), 0);
        assert_int_equal(read_back(path), whole_records(n));
    }
}

static void flip(const char *path, size_t at, unsigned char mask)
{
    unsigned char byte = 0;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

/* Every bit of every byte: the record that it is in, and all after it, do not come back. */
static void test_flipped(void **state)
{
    (void)state;
    const char *path = make(N_RECORDS);
    size_t used = used_bytes(N_RECORDS);
    for (size_t at = 0; at < used; at++) {
        for (int bit = 0; bit < 8; bit++) {
            flip(path, at, (unsigned char)(1 << bit));
            assert_int_equal(read_back(path), whole_records(at));
            flip(path, at, (unsigned char)(1 << bit));
        }
    }
    assert_int_equal(read_back(path), N_RECORDS);
}

/* Records are not to be taken out, doubled or brought into another order. */
static void test_order(void **state)
{
    (void)state;
    char bytes[ROOM], other[ROOM] = {0};
    const char *path = make(N_RECORDS);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
    size_t first = used_bytes(1), second = used_bytes(2);
    memcpy(other, bytes + first, ROOM - first); /* the first one taken out */
    unlink(path);
    io_write(path, other, sizeof other);
    assert_int_equal(read_back(path), 0);
    memcpy(other, bytes, second); /* the second one doubled */
    memcpy(other + second, bytes + first, ROOM - second);
    unlink(path);
    io_write(path, other, sizeof other);
    assert_int_equal(read_back(path), 2);
}

/* A reader goes on writing behind the last good record, over whatever a crash left there; nothing
 * of an earlier end comes back, however short the new record is. */
static void test_going_on(void **state)
{
    (void)state;
    for (int n = 0; n < N_RECORDS; n++) {
        const char *path = make(N_RECORDS);
        flip(path, used_bytes(n) + LORS_JOURNAL_HEAD, 1);
        lors_journal *journal = NULL;
        assert_int_equal(lors_journal_open(path, MAX_FILE, &journal), LORS_OK);
        assert_int_equal(count(journal), n);
        add_and_sync(journal, records[n]);
        lors_journal_close(journal);
        int found = read_back(path);
        assert_true(found > n); /* the same bytes again: those after it are good again */
        assert_int_equal(lors_journal_open(path, MAX_FILE, &journal), LORS_OK);
        assert_int_equal(count(journal), found);
        lors_journal_close(journal);
    }
    const char *path = make(N_RECORDS);
    flip(path, used_bytes(2) + LORS_JOURNAL_HEAD, 1);
    lors_journal *journal = NULL;
    const void *record = NULL;
    size_t n_bytes = 0;
    assert_int_equal(lors_journal_open(path, MAX_FILE, &journal), LORS_OK);
    assert_int_equal(count(journal), 2);
    add_and_sync(journal, "another");
    lors_journal_close(journal);
    assert_int_equal(lors_journal_open(path, MAX_FILE, &journal), LORS_OK);
    for (int i = 0; i < 3; i++) {
        assert_true(lors_journal_next(journal, &record, &n_bytes));
    }
    assert_memory_equal(record, "another", 7);
    assert_false(lors_journal_next(journal, &record, &n_bytes));
    lors_journal_close(journal);
}

static void test_refusals(void **state)
{
    (void)state;
    lors_journal *journal = (void *)1;
    const char *path = make(N_RECORDS);
    assert_int_equal(lors_journal_create(path, 0, &journal), LORS_ERR_IO); /* exists */
    assert_null(journal);
    assert_int_equal(lors_journal_open(path, ROOM - 1, &journal), LORS_ERR_INPUT);
    assert_null(journal);
    assert_int_equal(lors_journal_open(io_path("none"), ROOM, &journal), LORS_ERR_IO);
    io_write_text(io_path("text"), "no journal at all, but text of more than one record's head");
    assert_int_equal(read_back(io_path("text")), 0);
    io_write_text(io_path("empty"), "");
    assert_int_equal(read_back(io_path("empty")), 0);
}

static int fails(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

/* A record that could not be brought to the disk is not in the way of those before it. */
static void test_sync_fails(void **state)
{
    (void)state;
    const char *path = make(2);
    lors_file_ops table = *lors_file_table();
    lors_journal *journal = NULL;
    assert_int_equal(lors_journal_open(path, MAX_FILE, &journal), LORS_OK);
    assert_int_equal(count(journal), 2);
    table.fsync = fails;
    lors_file_set_table(&table);
    lors_journal_add(journal, records[2], strlen(records[2]));
    assert_int_equal(lors_journal_sync(journal), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "journal"));
    lors_file_set_table(NULL);
    lors_journal_close(journal);
    assert_true(read_back(path) >= 2);
}

/* The second run that checks the first keeps none. */
static void test_no_journal(void **state)
{
    lors_run_state run = {0};
    (void)state;
    pthread_mutex_init(&run.lock, NULL);
    assert_int_equal(lors_run_journal_start(&run), LORS_OK);
    lors_run_journal_add(&run, 0);
    assert_int_equal(run.journal.n_pending, 0);
    assert_int_equal(lors_run_journal_stop(&run, true), LORS_OK);
    run.status = LORS_ERR_IO;
    assert_int_equal(lors_run_journal_stop(&run, true), LORS_ERR_IO);
    pthread_mutex_destroy(&run.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_going_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sync_fails, setup, teardown),
        cmocka_unit_test(test_no_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_file_odd.c - what a system rarely answers: descriptors that cannot be asked, folders that do
 * not tell what is in them, names that vanish meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "io_files.h"

static const lors_file_ops *real;
static lors_file_ops table;
static int odd_fd; /* what open gives */

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    io_write_text(io_path("file"), "text");
    real = lors_file_table();
    table = *real;
    lors_file_set_table(&table);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lors_file_set_table(NULL);
    io_folder_remove();
    return 0;
}

static int give_odd_fd(const char *path, int flags, mode_t mode)
{
    (void)path;
    (void)flags;
    (void)mode;
    return odd_fd;
}

static int keep_open(int fd)
{
    (void)fd;
    return 0;
}

static void a_descriptor_that_cannot_be_asked_is_refused(void **state)
{
    (void)state;
    int fd = -1;
    table.open = give_odd_fd;
    table.close = keep_open;
    odd_fd = dup(0);
    close(odd_fd); /* fstat does not know it */
    assert_int_equal(lors_file_open_read("name", &fd, NULL), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "name: cannot be examined"));
    odd_fd = open(io_path("file"), O_PATH); /* its flags cannot be set */
    assert_int_equal(lors_file_open_read("name", &fd, NULL), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "name: cannot be made to block"));
    assert_int_equal(fd, -1);
    close(odd_fd);
}

static void reads_block_again(void **state)
{
    (void)state;
    int fd = -1;
    assert_int_equal(lors_file_open_read(io_path("file"), &fd, NULL), LORS_OK);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    close(fd);
}

static ssize_t read_nothing(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    (void)fd;
    (void)buffer;
    (void)n_bytes;
    (void)offset;
    return 0;
}

static void an_end_is_told_although_the_size_is_unknown(void **state)
{
    (void)state;
    char byte;
    table.pread = read_nothing;
    assert_int_equal(lors_file_read_at(-1, "name", 7, &byte, 1), LORS_ERR_INPUT);
    assert_non_null(strstr(lors_last_error(), "name: ends at byte 7, 1 more were expected"));
}

static void nothing_is_written_behind_the_end_of_any_file(void **state)
{
    (void)state;
    assert_int_equal(lors_file_write_at(-1, "name", INT64_MAX, "xy", 2), LORS_ERR_LIMIT);
    assert_int_equal(lors_file_write_at(-1, "name", UINT64_MAX, "x", 1), LORS_ERR_LIMIT);
}

static int n_begun;

static int count_begin_sync(int fd, off_t offset, off_t n_bytes)
{
    (void)fd;
    (void)offset;
    n_begun += n_bytes > 0 ? 1 : 100; /* of no bytes: to the end of the file */
    return -1;
}

static void beginning_to_sync_is_a_hint(void **state)
{
    (void)state;
    table.begin_sync = NULL;
    lors_file_begin_sync(0, 0, 5);
    table.begin_sync = count_begin_sync;
    lors_file_begin_sync(0, 0, 5);
    lors_file_begin_sync(0, 0, 0);
    assert_int_equal(n_begun, 1);
}

static bool rename_entries;

/* A file system that does not say what an entry is; or it is gone by the time it is asked. */
static ssize_t list_without_types(int fd, void *entries, size_t n_bytes)
{
    ssize_t n = real->list(fd, entries, n_bytes);
    for (ssize_t at = 0; at < n;) {
        struct dirent64 *entry = (void *)((char *)entries + at);
        entry->d_type = DT_UNKNOWN;
        bool renamed = rename_entries && entry->d_name[0] != '.';
        entry->d_name[0] = renamed ? 'X' : entry->d_name[0];
        at += entry->d_reclen;
    }
    return n;
}

static lors_status count_folders(const char *name, bool is_folder, void *user)
{
    int *n = user;
    n[is_folder]++;
    assert_true(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
    return LORS_OK;
}

static void folders_are_known_where_the_listing_does_not_say(void **state)
{
    (void)state;
    int n[2] = {0, 0};
    io_mkdir(io_path("folder"));
    io_link("folder", io_path("link"));
    table.list = list_without_types;
    rename_entries = false;
    assert_int_equal(lors_file_list(io_path("."), count_folders, n), LORS_OK);
    assert_int_equal(n[true], 1);
    assert_int_equal(n[false], 2); /* the link is none */
    rename_entries = true;
    assert_int_equal(lors_file_list(io_path("."), count_folders, n), LORS_OK);
    assert_int_equal(n[true], 1);
    assert_int_equal(n[false], 5);
}

/* Somebody else was quicker: it is gone, and that is what was wanted. */
static int unlink_late(const char *path)
{
    real->unlink(path);
    errno = ENOENT;
    return -1;
}

static int rmdir_late(const char *path)
{
    real->rmdir(path);
    errno = ENOENT;
    return -1;
}

static void what_vanishes_is_removed(void **state)
{
    (void)state;
    io_mkdir(io_path("folder"));
    io_write_text(io_path("folder/file"), "x");
    table.unlink = unlink_late;
    table.rmdir = rmdir_late;
    assert_int_equal(lors_file_remove_tree(io_path("folder")), LORS_OK);
    assert_false(io_exists(io_path("folder")));
}

static void a_path_too_long_is_not_removed(void **state)
{
    (void)state;
    char path[PATH_MAX + 2];
    memset(path, 'x', sizeof path);
    path[PATH_MAX] = '\0';
    assert_int_equal(lors_file_remove_tree(path), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "cannot be removed"));
    io_mkdir(io_path("folder")); /* it can be named, what is in it cannot */
    io_write_text(io_path("folder/a name of so many characters"), "");
    strcpy(path, io_path("folder"));
    while (strlen(path) < PATH_MAX - 20) {
        strcat(path, "/.");
    }
    assert_int_equal(lors_file_remove_tree(path), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "a path in it cannot be removed"));
    assert_true(io_exists(io_path("folder/a name of so many characters")));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_descriptor_that_cannot_be_asked_is_refused),
        TEST(reads_block_again),
        TEST(an_end_is_told_although_the_size_is_unknown),
        TEST(nothing_is_written_behind_the_end_of_any_file),
        TEST(beginning_to_sync_is_a_hint),
        TEST(folders_are_known_where_the_listing_does_not_say),
        TEST(what_vanishes_is_removed),
        TEST(a_path_too_long_is_not_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

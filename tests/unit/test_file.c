/* test_file.c - files, real ones and ones whose system calls fail on demand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

/* ---- A folder of our own, and a table that fails -------------------------------------------- */

static char folder[256];

static const char *in_folder(const char *name)
{
    static char paths[4][PATH_MAX];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

/* Which error each call gives (0: none), how often, and the most bytes it moves at once. */
static struct faults {
    int open, close, pread, pwrite, allocate, fsync;
    int n_times;     /* calls that fail before the real ones run; -1: all */
    size_t max_move; /* 0: no limit */
    int n_calls, n_open;
} faults;

static bool faulty(int error)
{
    faults.n_calls++;
    if (error == 0 || faults.n_times == 0) {
        return false;
    }
    faults.n_times -= faults.n_times > 0;
    errno = error;
    return true;
}

static int fake_open(const char *path, int flags, mode_t mode)
{
    int fd = faulty(faults.open) ? -1 : open(path, flags, mode);
    faults.n_open += fd >= 0;
    return fd;
}

static int fake_close(int fd)
{
    faults.n_open--;
    close(fd);
    return faulty(faults.close) ? -1 : 0;
}

static size_t limited(size_t n_bytes)
{
    return faults.max_move > 0 && n_bytes > faults.max_move ? faults.max_move : n_bytes;
}

static ssize_t fake_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    return faulty(faults.pread) ? -1 : pread(fd, buffer, limited(n_bytes), offset);
}

static ssize_t fake_pwrite(int fd, const void *buffer, size_t n_bytes, off_t offset)
{
    if (faulty(faults.pwrite)) {
        return faults.pwrite == INT_MAX ? 0 : -1; /* INT_MAX: a write of nothing */
    }
    return pwrite(fd, buffer, limited(n_bytes), offset);
}

static int fake_allocate(int fd, off_t offset, off_t n_bytes)
{
    if (faulty(faults.allocate)) {
        return faults.allocate;
    }
    return posix_fallocate(fd, offset, n_bytes);
}

static int fake_fsync(int fd)
{
    return faulty(faults.fsync) ? -1 : fsync(fd);
}

static void use_faults(struct faults wanted)
{
    static lors_file_ops table;
    lors_file_set_table(NULL);
    table = *lors_file_table();
    table.open = fake_open;
    table.close = fake_close;
    table.pread = fake_pread;
    table.pwrite = fake_pwrite;
    table.allocate = fake_allocate;
    table.fsync = fake_fsync;
    faults = wanted;
    lors_file_set_table(&table);
}

static int make_folder(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/lors-test-XXXXXX", parent ? parent : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_all(void **state)
{
    (void)state;
    lors_file_set_table(NULL);
    lors_alloc_fail_at(0, false);
    return lors_file_remove_tree(folder) == LORS_OK ? 0 : -1;
}

static void assert_says(const char *words)
{
    if (!strstr(lors_last_error(), words)) {
        fail_msg("\"%s\" does not say \"%s\"", lors_last_error(), words);
    }
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* ---- Opening and creating ------------------------------------------------------------------- */

static void whole_files(void **state)
{
    (void)state;
    const char *path = in_folder("whole");
    char *bytes = NULL;
    size_t n_bytes = 99;
    assert_int_equal(lors_file_write_all(path, "ab\0cd", 5), LORS_OK);
    assert_int_equal(lors_file_read_all(path, 5, &bytes, &n_bytes), LORS_OK);
    assert_int_equal(n_bytes, 5);
    assert_memory_equal(bytes, "ab\0cd", 6);
    lors_free(bytes);
    assert_int_equal(lors_file_read_all(path, 4, &bytes, &n_bytes), LORS_ERR_LIMIT);
    assert_says("holds 5 bytes, at most 4");
    assert_null(bytes);
    lors_alloc_fail_at(1, false);
    assert_int_equal(lors_file_read_all(path, 5, &bytes, &n_bytes), LORS_ERR_LIMIT);
    assert_says("cannot allocate 6 bytes");
    lors_alloc_fail_at(0, false);
    assert_int_equal(lors_file_write_all(path, "x", 1), LORS_ERR_IO); /* never over another */
    assert_says("whole: cannot be created: File exists");
    const char *empty = in_folder("empty");
    assert_int_equal(lors_file_write_all(empty, NULL, 0), LORS_OK);
    assert_int_equal(lors_file_read_all(empty, 0, &bytes, &n_bytes), LORS_OK);
    assert_string_equal(bytes, "");
    lors_free(bytes);
    assert_int_equal(lors_file_sync_folder(folder), LORS_OK);
}

static void only_regular_files_open(void **state)
{
    (void)state;
    int fd = 5;
    struct stat info;
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    use_faults((struct faults){0});
    assert_int_equal(lors_file_open_read(in_folder("fifo"), &fd, &info), LORS_ERR_IO);
    assert_says("fifo: is a pipe, not a regular file");
    assert_int_equal(fd, -1);
    assert_int_equal(lors_file_open_read(folder, &fd, NULL), LORS_ERR_IO);
    assert_says("is a folder");
    assert_int_equal(lors_file_open_read("/dev/null", &fd, NULL), LORS_ERR_IO);
    assert_says("/dev/null: is a device");
    assert_int_equal(lors_file_open_read(in_folder("no\nsuch"), &fd, NULL), LORS_ERR_IO);
    assert_says("/no\\x0asuch: cannot be opened: No such file or directory: check the path");
    assert_int_equal(faults.n_open, 0);
    lors_file_set_table(NULL);
    assert_int_equal(lors_file_write_all(in_folder("plain"), "12345", 5), LORS_OK);
    assert_int_equal(lors_file_open_read(in_folder("plain"), &fd, &info), LORS_OK);
    assert_int_equal(info.st_size, 5);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(lors_file_close(fd, "plain"), LORS_OK);
    assert_int_equal(lors_file_close(-1, "never"), LORS_ERR_IO);
}

static void created_files_obey_the_umask_and_follow_no_link(void **state)
{
    (void)state;
    int fd = -1;
    struct stat info;
    mode_t before = umask(027);
    assert_int_equal(lors_file_create(in_folder("mode"), &fd), LORS_OK);
    umask(before);
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(lors_file_close(fd, "mode"), LORS_OK);
    assert_int_equal(symlink("elsewhere", in_folder("dangling")), 0);
    assert_int_equal(lors_file_create(in_folder("dangling"), &fd), LORS_ERR_IO);
    assert_false(exists(in_folder("elsewhere")));
}

static void long_paths_show_their_end(void **state)
{
    (void)state;
    int fd;
    char path[700] = "/tmp/";
    while (strlen(path) < 600) {
        strcat(path, "\xc3\xbc/");
    }
    strcat(path, "model.safetensors");
    assert_int_equal(lors_file_open_read(path, &fd, NULL), LORS_ERR_IO);
    assert_memory_equal(lors_last_error(), "...", 3);
    assert_says("\xc3\xbc/model.safetensors: cannot be opened");
    assert_null(strstr(lors_last_error(), "\\x"));
}

/* ---- Transfers that are short, interrupted, impossible -------------------------------------- */

static void short_and_interrupted_transfers_are_finished(void **state)
{
    (void)state;
    char in[1000], out[1000] = {0};
    int fd = -1;
    const char *path = in_folder("short");
    for (size_t i = 0; i < sizeof in; i++) {
        in[i] = (char)(i * 7);
    }
    use_faults((struct faults){.open = EINTR, .n_times = 3});
    assert_int_equal(lors_file_create(path, &fd), LORS_OK);
    use_faults((struct faults){.pwrite = EINTR, .n_times = 3, .max_move = 64});
    assert_int_equal(lors_file_write_at(fd, path, 10, in, sizeof in), LORS_OK);
    assert_int_equal(faults.n_calls, 3 + 16);
    assert_int_equal(lors_file_close(fd, path), LORS_OK);
    assert_int_equal(lors_file_open_read(path, &fd, NULL), LORS_OK);
    use_faults((struct faults){.pread = EINTR, .n_times = 2, .max_move = 1});
    assert_int_equal(lors_file_read_at(fd, path, 10, out, sizeof out), LORS_OK);
    assert_int_equal(faults.n_calls, 2 + 1000);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(lors_file_read_at(fd, path, 1010, out, 0), LORS_OK);
    assert_int_equal(lors_file_close(fd, path), LORS_OK);
}

static void a_short_file_is_truncated_input(void **state)
{
    (void)state;
    char out[100];
    int fd = -1;
    const char *path = in_folder("truncated");
    assert_int_equal(lors_file_write_all(path, "0123456789", 10), LORS_OK);
    assert_int_equal(lors_file_open_read(path, &fd, NULL), LORS_OK);
    assert_int_equal(lors_file_read_at(fd, path, 4, out, 10), LORS_ERR_INPUT);
    assert_says("truncated: ends at byte 10, 4 more were expected: the file is truncated");
    assert_int_equal(lors_file_read_at(fd, path, 40, out, 10), LORS_ERR_INPUT);
    assert_says("ends at byte 10, 40 more were expected");
    assert_int_equal(lors_file_read_at(fd, path, UINT64_MAX - 3, out, 10), LORS_ERR_LIMIT);
    assert_int_equal(lors_file_read_at(fd, path, INT64_MAX, out, 1), LORS_ERR_LIMIT);
    assert_int_equal(lors_file_close(fd, path), LORS_OK);
}

static void failing_transfers_say_where_and_why(void **state)
{
    (void)state;
    char bytes[2000] = {0};
    int fd = -1;
    const char *path = in_folder("failing");
    assert_int_equal(lors_file_write_all(path, bytes, sizeof bytes), LORS_OK);
    assert_int_equal(lors_file_open_read(path, &fd, NULL), LORS_OK);
    use_faults((struct faults){.pread = EIO, .n_times = -1});
    assert_int_equal(lors_file_read_at(fd, path, 77, bytes, 100), LORS_ERR_IO);
    assert_says("failing: cannot be read at byte 77: Input/output error: the disk");
    use_faults((struct faults){.pwrite = ENOSPC, .n_times = -1});
    assert_int_equal(lors_file_write_at(fd, path, 50, bytes, 1950), LORS_ERR_IO);
    assert_says("failing: no room at byte 50 for 1950 more bytes (1.95 kB): No space left");
    assert_says("free some space");
    use_faults((struct faults){.pwrite = EDQUOT, .n_times = -1});
    assert_int_equal(lors_file_write_at(fd, path, 0, bytes, 2), LORS_ERR_IO);
    assert_says("for 2 more bytes");
    use_faults((struct faults){.pwrite = EFBIG, .n_times = -1});
    assert_int_equal(lors_file_write_at(fd, path, 9, bytes, 2), LORS_ERR_IO);
    assert_says("cannot be written at byte 9: File too large");
    use_faults((struct faults){.pwrite = INT_MAX, .n_times = -1});
    assert_int_equal(lors_file_write_at(fd, path, 0, bytes, 2), LORS_ERR_IO); /* and no loop */
    lors_file_set_table(NULL);
    assert_int_equal(lors_file_write_at(fd, path, 0, bytes, 2), LORS_ERR_IO); /* read-only */
    assert_says("Bad file descriptor");
    assert_int_equal(lors_file_close(fd, path), LORS_OK);
}

/* ---- Reserving, syncing, closing ------------------------------------------------------------ */

static void reserving(void **state)
{
    (void)state;
    static const int harmless[] = {0, EOPNOTSUPP, EINVAL, ENOSYS};
    const char *path = in_folder("reserved");
    struct stat info;
    int fd = -1;
    assert_int_equal(lors_file_create(path, &fd), LORS_OK);
    assert_int_equal(lors_file_reserve(fd, path, 0), LORS_OK);
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        use_faults((struct faults){.allocate = harmless[i], .n_times = -1});
        assert_int_equal(lors_file_reserve(fd, path, 5000), LORS_OK);
    }
    use_faults((struct faults){.allocate = EINTR, .n_times = 4});
    assert_int_equal(lors_file_reserve(fd, path, 5000), LORS_OK);
    assert_int_equal(faults.n_calls, 5);
    use_faults((struct faults){.allocate = ENOSPC, .n_times = -1});
    assert_int_equal(lors_file_reserve(fd, path, 3000000000), LORS_ERR_IO);
    assert_says("reserved: no room at byte 0 for 3000000000 more bytes (3 GB): No space left");
    use_faults((struct faults){.allocate = EIO, .n_times = -1});
    assert_int_equal(lors_file_reserve(fd, path, 1), LORS_ERR_IO);
    assert_int_equal(lors_file_reserve(fd, path, UINT64_MAX), LORS_ERR_LIMIT);
    lors_file_set_table(NULL);
    assert_int_equal(lors_file_reserve(fd, path, 6000), LORS_OK);
    assert_int_equal(fstat(fd, &info), 0);
    assert_true(info.st_size == 6000 || info.st_size == 5000); /* 5000: it cannot reserve here */
    assert_int_equal(lors_file_close(fd, path), LORS_OK);
}

static void a_failed_sync_is_final(void **state)
{
    (void)state;
    const int errors[] = {EIO, EINTR, ENOSPC};
    const char *path = in_folder("sync");
    int fd = -1;
    assert_int_equal(lors_file_create(path, &fd), LORS_OK);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        use_faults((struct faults){.fsync = errors[i], .n_times = 1});
        assert_int_equal(lors_file_sync(fd, path), LORS_ERR_IO);
        assert_int_equal(faults.n_calls, 1);
        assert_says("sync: cannot be brought to the disk (fsync)");
        use_faults((struct faults){.fsync = errors[i], .n_times = 1});
        assert_int_equal(lors_file_sync_folder(folder), LORS_ERR_IO);
        assert_int_equal(faults.n_open, 0);
    }
    use_faults((struct faults){.fsync = EINVAL, .n_times = 1}); /* folders there need no sync */
    assert_int_equal(lors_file_sync_folder(folder), LORS_OK);
    assert_int_equal(lors_file_sync_folder(path), LORS_ERR_IO);
    assert_says("Not a directory");
    lors_file_set_table(NULL);
    assert_int_equal(lors_file_sync(fd, path), LORS_OK);
    assert_int_equal(lors_file_close(fd, path), LORS_OK);
}

static void a_late_write_error_shows_at_close(void **state)
{
    (void)state;
    const char *path = in_folder("late");
    int fd = -1;
    assert_int_equal(lors_file_create(path, &fd), LORS_OK);
    use_faults((struct faults){.close = ENOSPC, .n_times = 1});
    assert_int_equal(lors_file_close(fd, path), LORS_ERR_IO);
    assert_says("late: cannot be closed, its last bytes may be lost: No space left");
    lors_file_set_table(NULL);
    assert_int_equal(lors_file_open_read(path, &fd, NULL), LORS_OK);
    use_faults((struct faults){.close = EINTR, .n_times = 1});
    assert_int_equal(lors_file_close(fd, path), LORS_OK);
    assert_int_equal(faults.n_calls, 1); /* a second close might hit a file of another thread */
}

/* Whatever fails in write_all, the file is gone, nothing stays open, and the cause is told. */
static void a_failed_write_leaves_nothing(void **state)
{
    (void)state;
    const struct faults wanted[] = {
        {.open = EACCES, .n_times = -1},
        {.pwrite = EIO, .n_times = -1},
        {.fsync = EIO, .n_times = -1},
        {.close = EIO, .n_times = -1},
    };
    const char *path = in_folder("nothing");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        use_faults(wanted[i]);
        assert_int_equal(lors_file_write_all(path, "abc", 3), LORS_ERR_IO);
        assert_says(i == 0 ? "Permission denied" : "Input/output error");
        assert_int_equal(faults.n_open, 0);
        assert_false(exists(path));
    }
    lors_file_set_table(NULL);
    assert_int_equal(lors_file_write_all(path, "abc", 3), LORS_OK);
    char *bytes;
    size_t n_bytes;
    use_faults((struct faults){.pread = EIO, .n_times = -1});
    assert_int_equal(lors_file_read_all(path, 100, &bytes, &n_bytes), LORS_ERR_IO);
    assert_null(bytes);
    assert_int_equal(n_bytes, 0);
    assert_int_equal(faults.n_open, 0);
}

static void the_real_table_renames_and_exchanges(void **state)
{
    (void)state;
    const lors_file_ops *table = lors_file_table();
    char *bytes;
    size_t n_bytes;
    assert_int_equal(table->mkdir(in_folder("old"), 0777), 0);
    assert_int_equal(table->mkdir(in_folder("new"), 0777), 0);
    assert_int_equal(lors_file_write_all(in_folder("old/x"), "old", 3), LORS_OK);
    assert_int_equal(lors_file_write_all(in_folder("new/x"), "new", 3), LORS_OK);
    if (table->exchange(in_folder("new"), in_folder("old")) != 0) {
        assert_true(errno == EINVAL || errno == ENOSYS); /* this file system cannot */
        skip();
    }
    assert_int_equal(lors_file_read_all(in_folder("old/x"), 9, &bytes, &n_bytes), LORS_OK);
    assert_string_equal(bytes, "new");
    lors_free(bytes);
    assert_int_equal(table->rename(in_folder("new"), in_folder("renamed")), 0);
    assert_false(exists(in_folder("new")));
    assert_true(exists(in_folder("renamed/x")));
}

/* ---- Removing ------------------------------------------------------------------------------- */

static void a_tree_is_removed_and_no_link_followed(void **state)
{
    (void)state;
    const char *tree = in_folder("tree");
    char path[PATH_MAX];
    assert_int_equal(mkdir(in_folder("precious"), 0777), 0);
    assert_int_equal(lors_file_write_all(in_folder("precious/file"), "x", 1), LORS_OK);
    assert_int_equal(mkdir(tree, 0777), 0);
    for (int i = 0; i < 300; i++) {
        int fd = -1;
        snprintf(path, sizeof path, "%s/tree/%d", folder, i);
        if (i % 3 == 0) {
            assert_int_equal(mkdir(path, 0777), 0);
        } else {
            assert_int_equal(lors_file_create(path, &fd), LORS_OK);
            assert_int_equal(lors_file_close(fd, path), LORS_OK);
        }
    }
    assert_int_equal(symlink(in_folder("precious"), in_folder("tree/0/link")), 0);
    assert_int_equal(symlink(in_folder("precious/file"), in_folder("tree/link")), 0);
    assert_int_equal(mkfifo(in_folder("tree/3/fifo"), 0600), 0);
    lors_alloc_fail_at(1, true); /* cleaning up needs no memory */
    assert_int_equal(lors_file_remove_tree(in_folder("tree")), LORS_OK);
    lors_alloc_fail_at(0, false);
    assert_false(exists(in_folder("tree")));
    assert_true(exists(in_folder("precious/file")));
    assert_int_equal(lors_file_remove_tree(in_folder("tree")), LORS_OK); /* missing */
    assert_int_equal(symlink("precious", in_folder("link")), 0);
    assert_int_equal(lors_file_remove_tree(in_folder("link")), LORS_OK);
    assert_false(exists(in_folder("link")));
    assert_true(exists(in_folder("precious/file")));
}

static void removing_has_limits(void **state)
{
    (void)state;
    char path[PATH_MAX], *end = path;
    end += snprintf(path, sizeof path, "%s/deep", folder);
    char *levels[40];
    for (int i = 0; i < 40; i++) {
        assert_int_equal(mkdir(path, 0777), 0);
        levels[i] = end;
        end = stpcpy(end, "/d");
    }
    assert_int_equal(lors_file_remove_tree(in_folder("deep")), LORS_ERR_LIMIT);
    assert_says("more than 32 folders deep");
    for (int i = 39; i >= 0; i--) {
        *levels[i] = '\0';
        assert_int_equal(rmdir(path), 0);
    }
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(lors_file_remove_tree(path), LORS_ERR_IO);
    assert_says("File name too long");
}

static int busy_unlink(const char *path)
{
    (void)path;
    errno = EBUSY;
    return -1;
}

static void removing_tells_what_is_in_the_way(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_folder("busy"), 0777), 0);
    assert_int_equal(lors_file_write_all(in_folder("busy/file"), "x", 1), LORS_OK);
    lors_file_ops table = *lors_file_table();
    table.unlink = busy_unlink;
    table.rmdir = busy_unlink;
    lors_file_set_table(&table);
    assert_int_equal(lors_file_remove_tree(in_folder("busy")), LORS_ERR_IO);
    assert_says("busy/file: cannot be removed: Device or resource busy");
    lors_file_set_table(NULL);
    use_faults((struct faults){.open = EMFILE, .n_times = -1});
    assert_int_equal(lors_file_remove_tree(in_folder("busy")), LORS_ERR_IO);
    assert_says("busy: cannot be opened: Too many open files: raise the limit");
    lors_file_set_table(NULL);
    assert_int_equal(lors_file_remove_tree(in_folder("busy")), LORS_OK);
}

static int table_off(void **state)
{
    (void)state;
    lors_file_set_table(NULL);
    lors_alloc_fail_at(0, false);
    return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, table_off)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(whole_files),
        TEST(only_regular_files_open),
        TEST(created_files_obey_the_umask_and_follow_no_link),
        TEST(long_paths_show_their_end),
        TEST(short_and_interrupted_transfers_are_finished),
        TEST(a_short_file_is_truncated_input),
        TEST(failing_transfers_say_where_and_why),
        TEST(reserving),
        TEST(a_failed_sync_is_final),
        TEST(a_late_write_error_shows_at_close),
        TEST(a_failed_write_leaves_nothing),
        TEST(the_real_table_renames_and_exchanges),
        TEST(a_tree_is_removed_and_no_link_followed),
        TEST(removing_has_limits),
        TEST(removing_tells_what_is_in_the_way),
    };
    return cmocka_run_group_tests_name("file", tests, make_folder, remove_all);
}

/* test_staging.c - OUT is the old or the new folder, whole, whatever fails and whenever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/staging.h"
#include "io_files.h"

/* ---- A file table that fails the Nth call --------------------------------------------------- */

static struct {
    int fail_at; /* 1-based; 0: never */
    bool sticky; /* that call and all after it */
    int error;
    int n_calls;
    bool no_exchange; /* the file system cannot */
    bool kill;        /* instead of failing: end the process */
} faults;

static const lors_file_ops *real;

static bool faulty(void)
{
    faults.n_calls++;
    bool hit = faults.fail_at > 0 && (faults.n_calls == faults.fail_at ||
                                      (faults.sticky && faults.n_calls > faults.fail_at));
    if (hit && faults.kill) {
        _exit(77);
    }
    errno = faults.error;
    return hit;
}

static int fake_open(const char *path, int flags, mode_t mode)
{
    return faulty() ? -1 : real->open(path, flags, mode);
}

static int fake_close(int fd) /* even a close that fails has closed */
{
    bool fails = faulty();
    int result = real->close(fd);
    errno = faults.error;
    return fails ? -1 : result;
}

static ssize_t fake_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    return faulty() ? -1 : real->pread(fd, buffer, n_bytes, offset);
}

static ssize_t fake_pwrite(int fd, const void *buffer, size_t n_bytes, off_t offset)
{
    return faulty() ? -1 : real->pwrite(fd, buffer, n_bytes, offset);
}

static int fake_allocate(int fd, off_t offset, off_t n_bytes)
{
    return faulty() ? faults.error : real->allocate(fd, offset, n_bytes);
}

static int fake_fsync(int fd)
{
    return faulty() ? -1 : real->fsync(fd);
}

static int fake_mkdir(const char *path, mode_t mode)
{
    return faulty() ? -1 : real->mkdir(path, mode);
}

static int fake_rename(const char *from, const char *to)
{
    return faulty() ? -1 : real->rename(from, to);
}

static int fake_exchange(const char *a, const char *b)
{
    if (faults.no_exchange) {
        errno = EINVAL;
        return -1;
    }
    return faulty() ? -1 : real->exchange(a, b);
}

static int fake_unlink(const char *path)
{
    return faulty() ? -1 : real->unlink(path);
}

static int fake_rmdir(const char *path)
{
    return faulty() ? -1 : real->rmdir(path);
}

static ssize_t fake_list(int fd, void *entries, size_t n_bytes)
{
    return faulty() ? -1 : real->list(fd, entries, n_bytes);
}

static const lors_file_ops fake_table = {
    .open = fake_open,
    .close = fake_close,
    .pread = fake_pread,
    .pwrite = fake_pwrite,
    .allocate = fake_allocate,
    .fsync = fake_fsync,
    .mkdir = fake_mkdir,
    .rename = fake_rename,
    .exchange = fake_exchange,
    .unlink = fake_unlink,
    .rmdir = fake_rmdir,
    .list = fake_list,
};

/* ---- A run ---------------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    io_mkdir(io_path("base"));
    io_write_text(io_path("base/vocab.json"), "copied");
    memset(&faults, 0, sizeof faults);
    faults.error = EIO;
    real = lors_file_table();
    lors_file_set_table(&fake_table);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lors_file_set_table(NULL);
    io_folder_remove();
    return 0;
}

static void make_old(void)
{
    io_mkdir(io_path("out"));
    io_write_text(io_path("out/config.json"), "old");
    io_write_text(io_path("out/extra"), "old too");
}

static lors_status copy_of(const char *name, lors_staging *staging)
{
    char path[64];
    struct stat info = {0};
    snprintf(path, sizeof path, "base/%s", name);
    (void)!stat(io_path(path), &info);
    return lors_staging_copy(staging, io_path("base"), name, &info);
}

static lors_status fill(lors_staging *staging)
{
    int fd = -1;
    const char *path = io_path(".out.lors-staging/model.safetensors");
    lors_status status = lors_staging_create_file(staging, "model.safetensors", 3, &fd);
    if (status != LORS_OK) {
        return status;
    }
    status = lors_file_write_at(fd, path, 0, "new", 3);
    if (status != LORS_OK) {
        lors_file_table()->close(fd);
        return status;
    }
    status = lors_staging_close_file(staging, "model.safetensors", fd);
    if (status == LORS_OK) {
        status = lors_staging_write(staging, "config.json", "new config", 10);
    }
    if (status == LORS_OK) {
        status = copy_of("vocab.json", staging);
    }
    return status;
}

static lors_status run(bool force)
{
    lors_staging *staging = NULL;
    lors_status status = lors_staging_open(io_path("out"), force, &staging);
    if (status == LORS_OK) {
        status = fill(staging);
    }
    if (status == LORS_OK) {
        status = lors_staging_commit(staging);
    }
    lors_staging_close(staging);
    return status;
}

static bool out_is_new(void)
{
    return io_holds(io_path("out/model.safetensors"), "new") &&
           io_holds(io_path("out/config.json"), "new config") &&
           io_holds(io_path("out/vocab.json"), "copied") && io_count(io_path("out")) == 3;
}

static bool out_is_old(void)
{
    return io_holds(io_path("out/config.json"), "old") &&
           io_holds(io_path("out/extra"), "old too") && io_count(io_path("out")) == 2;
}

/* ---- What works ----------------------------------------------------------------------------- */

static void test_new(void **state)
{
    (void)state;
    lors_staging *staging = NULL;
    assert_int_equal(lors_staging_open(io_path("out//"), false, &staging), LORS_OK);
    assert_string_equal(lors_staging_path(staging), io_path(".out.lors-staging"));
    assert_int_equal(fill(staging), LORS_OK);
    assert_false(io_exists(io_path("out")));
    assert_int_equal(lors_staging_commit(staging), LORS_OK);
    lors_staging_close(staging);
    assert_true(out_is_new());
    assert_int_equal(io_count(io_path(".")), 2);
    lors_staging_close(NULL);
}

static void test_replace(void **state)
{
    (void)state;
    for (int no_exchange = 0; no_exchange < 2; no_exchange++) {
        make_old();
        faults.no_exchange = no_exchange;
        assert_int_equal(run(true), LORS_OK);
        assert_true(out_is_new());
        assert_int_equal(io_count(io_path(".")), 2);
        assert_int_equal(lors_file_remove_tree(io_path("out")), LORS_OK);
    }
    io_mkdir(io_path("out")); /* an empty one */
    assert_int_equal(run(true), LORS_OK);
    assert_true(out_is_new());
}

static void test_given_up(void **state)
{
    (void)state;
    lors_staging *staging = NULL;
    make_old();
    assert_int_equal(lors_staging_open(io_path("out"), true, &staging), LORS_OK);
    assert_int_equal(fill(staging), LORS_OK);
    lors_staging_close(staging);
    assert_true(out_is_old());
    assert_int_equal(io_count(io_path(".")), 2);
}

static void test_relative(void **state)
{
    (void)state;
    char here[PATH_MAX];
    lors_staging *staging = NULL;
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(io_path(".")), 0);
    assert_int_equal(lors_staging_open("out", false, &staging), LORS_OK);
    assert_int_equal(lors_staging_write(staging, "x", "", 0), LORS_OK);
    assert_int_equal(lors_staging_commit(staging), LORS_OK);
    lors_staging_close(staging);
    assert_int_equal(chdir(here), 0);
    assert_true(io_holds(io_path("out/x"), ""));
}

/* ---- What is refused ------------------------------------------------------------------------ */

static void refuse(const char *out, bool force, const char *sentence)
{
    lors_staging *staging = (void *)1;
    int n_before = io_count(io_path("."));
    lors_status status = lors_staging_open(out, force, &staging);
    if (status != LORS_ERR_IO || !strstr(lors_last_error(), sentence)) {
        print_message("%s: %s\n", lors_status_name(status), lors_last_error());
    }
    assert_int_equal(status, LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), sentence));
    assert_null(staging);
    assert_int_equal(io_count(io_path(".")), n_before);
}

static void test_refusals(void **state)
{
    (void)state;
    make_old();
    refuse(io_path("out"), false,
           "out: exists already: give --force to replace it or another name");
    refuse(io_path("out///"), false, "exists already: give --force");
    refuse(io_path("none/out"), true, "none: no such folder: create it first");
    refuse(io_path("base/vocab.json/out"), true, "is no folder");
    refuse(io_path("base"), true, "is no model folder");
    refuse(io_path("base/vocab.json"), true, "exists already and is no folder");
    io_link("out", io_path("link"));
    refuse(io_path("link"), true, "is a link");
    refuse(io_path("link/"), true, "is a link");
    refuse("", true, "names no new folder");
    refuse("/", true, "names no new folder");
    refuse(".", true, "names no new folder");
    refuse("..//", true, "names no new folder");
    char name[300];
    memset(name, 'x', sizeof name);
    name[250] = '\0';
    refuse(io_path("%s", name), true, "File name too long");
    assert_true(out_is_old());
}

static void test_second_run(void **state)
{
    (void)state;
    lors_staging *first = NULL;
    assert_int_equal(lors_staging_open(io_path("out"), false, &first), LORS_OK);
    refuse(io_path("out"), false, "another run is writing it now");
    refuse(io_path("out/"), true, "another run is writing it now");
    assert_int_equal(fill(first), LORS_OK);
    assert_int_equal(lors_staging_commit(first), LORS_OK);
    lors_staging_close(first);
    refuse(io_path("out"), false, "exists already");
}

static void test_taken_meanwhile(void **state)
{
    (void)state;
    lors_staging *staging = NULL;
    assert_int_equal(lors_staging_open(io_path("out"), false, &staging), LORS_OK);
    assert_int_equal(fill(staging), LORS_OK);
    make_old();
    assert_int_equal(lors_staging_commit(staging), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "exists already"));
    lors_staging_close(staging);
    assert_true(out_is_old());
    assert_int_equal(io_count(io_path(".")), 2);
}

static void test_misuse(void **state)
{
    (void)state;
    static const char *const names[] = {"", ".", "..", "a/b", "/a"};
    for (int i = 0; i < 5; i++) {
        int fd = -1;
        lors_staging *staging = NULL;
        assert_int_equal(lors_staging_open(io_path("out"), false, &staging), LORS_OK);
        assert_int_equal(lors_staging_write(staging, names[i], "x", 1), LORS_ERR_INTERNAL);
        assert_int_equal(lors_staging_create_file(staging, names[i], 1, &fd), LORS_ERR_INTERNAL);
        assert_int_equal(lors_staging_commit(staging), LORS_ERR_IO);
        assert_non_null(strstr(lors_last_error(), "is not complete"));
        lors_staging_close(staging);
        assert_false(io_exists(io_path("out")));
    }
    int fd = -1;
    lors_staging *staging = NULL;
    assert_int_equal(lors_staging_open(io_path("out"), false, &staging), LORS_OK);
    assert_int_equal(lors_staging_create_file(staging, "open", 10, &fd), LORS_OK);
    assert_int_equal(lors_staging_commit(staging), LORS_ERR_IO);
    close(fd);
    assert_int_equal(copy_of("none", staging), LORS_ERR_IO);
    struct stat other;
    assert_int_equal(stat("/dev/null", &other), 0);
    assert_int_equal(lors_staging_copy(staging, io_path("base"), "vocab.json", &other),
                     LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "was replaced by another file"));
    lors_staging_close(staging);
    assert_int_equal(io_count(io_path(".")), 1);
}

/* ---- What fails ----------------------------------------------------------------------------- */

static void reset_folder(void)
{
    faults.fail_at = 0;
    faults.kill = false;
    assert_int_equal(lors_file_remove_tree(io_path("out")), LORS_OK);
    assert_int_equal(lors_file_remove_tree(io_path(".out.lors-old")), LORS_OK);
    assert_int_equal(lors_file_remove_tree(io_path(".out.lors-staging")), LORS_OK);
    assert_int_equal(lors_file_remove_tree(io_path(".out.lors-lock")), LORS_OK);
}

/* Fail each call in turn, once: then all is as it was, or all is done, and nothing else is left. */
static void fail_each_once(bool replaces, bool no_exchange, int error)
{
    int n_failed = 0;
    for (int n = 1;; n++) {
        faults.no_exchange = no_exchange;
        faults.error = error;
        if (replaces) {
            make_old();
        }
        faults.n_calls = 0;
        faults.fail_at = n;
        lors_status status = run(true);
        bool reached = faults.n_calls >= n;
        faults.fail_at = 0;
        if (status != LORS_OK) {
            assert_int_equal(status, LORS_ERR_IO);
            assert_true(lors_last_error()[0] != '\0');
            assert_true(replaces ? out_is_old() : !io_exists(io_path("out")));
        } else {
            assert_true(out_is_new());
        }
        if (io_count(io_path(".")) != 1 + io_exists(io_path("out"))) {
            fail_msg("call %d: something is left", n);
        }
        n_failed += status != LORS_OK;
        reset_folder();
        if (!reached) {
            break;
        }
    }
    assert_true(n_failed > 15);
}

static void test_each_call_fails(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EACCES};
    for (int i = 0; i < 4; i++) {
        fail_each_once(false, false, errors[i]);
        fail_each_once(true, false, errors[i]);
        fail_each_once(true, true, errors[i]);
    }
}

/* From the Nth call on everything fails: OUT, or what was put aside, is still the old model, or the
 * new one is there; and the next run works. */
static void fail_from_each(bool no_exchange, bool kill)
{
    for (int n = 1;; n++) {
        make_old();
        faults.no_exchange = no_exchange;
        faults.n_calls = 0;
        faults.fail_at = n;
        faults.sticky = true;
        faults.kill = kill;
        bool reached = true;
        if (kill) {
            pid_t child = fork();
            if (child == 0) {
                _exit(run(true) == LORS_OK ? 0 : 1);
            }
            int result = 0;
            assert_int_equal(waitpid(child, &result, 0), child);
            reached = WEXITSTATUS(result) == 77;
        } else {
            lors_status status = run(true);
            reached = faults.n_calls >= n;
            faults.fail_at = 0;
            assert_true(status == LORS_ERR_IO || out_is_new());
        }
        faults.sticky = faults.kill = false;
        faults.fail_at = 0;
        lors_staging *staging = NULL;
        assert_int_equal(lors_staging_open(io_path("out"), true, &staging), LORS_OK);
        if (!out_is_old() && !out_is_new()) {
            fail_msg("call %d: neither old nor new", n);
        }
        lors_staging_close(staging);
        assert_int_equal(io_count(io_path(".")), 2);
        assert_int_equal(run(true), LORS_OK);
        assert_true(out_is_new());
        assert_int_equal(io_count(io_path(".")), 2);
        reset_folder();
        if (!reached) {
            assert_true(n > 15);
            break;
        }
    }
}

static void test_all_calls_fail(void **state)
{
    (void)state;
    fail_from_each(false, false);
    fail_from_each(true, false);
}

static void test_killed(void **state)
{
    (void)state;
    fail_from_each(false, true);
    fail_from_each(true, true);
}

static void test_stale(void **state)
{
    (void)state;
    io_mkdir(io_path(".out.lors-staging"));
    io_mkdir(io_path(".out.lors-staging/sub"));
    io_write_text(io_path(".out.lors-staging/sub/half"), "half");
    io_link("../base", io_path(".out.lors-staging/door"));
    io_write_text(io_path(".out.lors-lock"), "");
    assert_int_equal(run(false), LORS_OK);
    assert_true(out_is_new());
    assert_true(io_holds(io_path("base/vocab.json"), "copied"));
    assert_int_equal(io_count(io_path(".")), 2);
}

/* Killed between the two steps; then somebody made another OUT: nothing is to be guessed. */
static void test_ambiguous(void **state)
{
    (void)state;
    make_old();
    io_mkdir(io_path(".out.lors-old"));
    io_mkdir(io_path(".out.lors-staging"));
    refuse(io_path("out"), true, "an interrupted run put an older model aside here");
    assert_int_equal(rmdir(io_path(".out.lors-staging")), 0);
    assert_int_equal(run(true), LORS_OK);
    assert_true(out_is_new());
    assert_int_equal(io_count(io_path(".")), 2);
}

static void test_memory(void **state)
{
    (void)state;
    for (int sticky = 0; sticky < 2; sticky++) {
        uint64_t n = 1;
        for (;; n++) {
            make_old();
            lors_alloc_fail_at(n, sticky);
            lors_status status = run(true);
            bool reached = lors_alloc_count() >= n;
            lors_alloc_fail_at(0, false);
            assert_true(status == LORS_OK ? out_is_new() : out_is_old());
            assert_true(status == LORS_OK || status == LORS_ERR_LIMIT);
            assert_int_equal(io_count(io_path(".")), 2);
            reset_folder();
            if (!reached) {
                break;
            }
        }
        assert_true(n > 10);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_new),
        TEST(test_replace),
        TEST(test_given_up),
        TEST(test_relative),
        TEST(test_refusals),
        TEST(test_second_run),
        TEST(test_taken_meanwhile),
        TEST(test_misuse),
        TEST(test_each_call_fails),
        TEST(test_all_calls_fail),
        TEST(test_killed),
        TEST(test_stale),
        TEST(test_ambiguous),
        TEST(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_staging_odd.c - lock files that vanish, file systems that cannot, and what lies in the way
 * of clearing up after an earlier run. */
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
#include "io/staging.h"
#include "io_files.h"

static const lors_file_ops *real;
static lors_file_ops table;

static int setup(void **state)
{
    (void)state;
    io_folder_create();
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

static lors_status run(void)
{
    lors_staging *staging = NULL;
    lors_status status = lors_staging_open(io_path("out"), true, &staging);
    if (status == LORS_OK) {
        status = lors_staging_write(staging, "config.json", "new", 3);
    }
    if (status == LORS_OK) {
        status = lors_staging_commit(staging);
    }
    lors_staging_close(staging);
    return status;
}

static void refuse(const char *sentence)
{
    assert_int_equal(run(), LORS_ERR_IO);
    if (!strstr(lors_last_error(), sentence)) {
        fail_msg("expected '%s' in '%s'", sentence, lors_last_error());
    }
}

static void make_old(const char *name)
{
    io_mkdir(io_path("%s", name));
    io_write_text(io_path("%s/config.json", name), "old");
}

/* ---- The lock -------------------------------------------------------------------------------- */

static int n_meddled, times;
static void (*meddle)(const char *lock);

static int open_and_meddle(const char *path, int flags, mode_t mode)
{
    int fd = real->open(path, flags, mode);
    const char *name = strrchr(path, '/');
    if (name && strcmp(name, "/.out.lors-lock") == 0 && n_meddled < times) {
        n_meddled++;
        meddle(path);
    }
    return fd;
}

static void remove_lock(const char *lock)
{
    assert_int_equal(unlink(lock), 0);
}

static void another_lock(const char *lock) /* another run's */
{
    char kept[4096];
    snprintf(kept, sizeof kept, "%s-kept", lock); /* so that its number is not given again */
    assert_int_equal(rename(lock, kept), 0);
    io_write_text(lock, "");
}

/* On another file system, though the number may be the same. */
static void lock_elsewhere(const char *lock)
{
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(symlink("/proc/self/stat", lock), 0);
}

static void meddle_with_lock(void (*how)(const char *lock), int n_times)
{
    table.open = open_and_meddle;
    meddle = how;
    times = n_times;
    n_meddled = 0;
}

static void test_lock_vanishes(void **state)
{
    (void)state;
    static void (*const ways[])(const char *lock) = {remove_lock, another_lock};
    for (int i = 0; i < 2; i++) {
        meddle_with_lock(ways[i], 3);
        assert_int_equal(run(), LORS_OK); /* the fourth time it stays */
        assert_int_equal(n_meddled, 3);
        assert_true(io_holds(io_path("out/config.json"), "new"));
        assert_false(io_exists(io_path(".out.lors-lock")));
    }
    meddle_with_lock(remove_lock, 1 << 20);
    refuse("cannot be locked, it keeps vanishing");
    assert_int_equal(n_meddled, 1000);
    meddle_with_lock(lock_elsewhere, 1);
    refuse(".out.lors-lock: cannot be created"); /* it never follows a link */
    assert_int_equal(n_meddled, 1);
}

static int open_for_nothing(const char *path, int flags, mode_t mode)
{
    const char *name = strrchr(path, '/');
    bool lock = name && strcmp(name, "/.out.lors-lock") == 0;
    int fd = real->open(path, flags, mode);
    if (lock) {
        close(fd);
        fd = open(path, O_PATH);
    }
    return fd;
}

static void test_no_locks(void **state)
{
    (void)state;
    table.open = open_for_nothing;
    refuse(".out.lors-lock: cannot be locked");
}

static void test_no_such_parent(void **state)
{
    (void)state;
    lors_staging *staging = NULL;
    io_write_text(io_path("file"), "");
    assert_int_equal(lors_staging_open(io_path("file/below/out"), false, &staging), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "file/below: cannot be examined"));
}

/* ---- Exchanging ------------------------------------------------------------------------------ */

static int exchange_error;
static int syncs_until_failure;
static bool renames_back;

static int cannot_exchange(const char *a, const char *b)
{
    (void)a;
    (void)b;
    errno = exchange_error;
    return -1;
}

static void test_cannot_exchange(void **state)
{
    (void)state;
    static const int unable[] = {EINVAL, ENOSYS, EOPNOTSUPP};
    table.exchange = cannot_exchange;
    for (int i = 0; i < 3; i++) {
        make_old("out");
        exchange_error = unable[i];
        assert_int_equal(run(), LORS_OK);
        assert_true(io_holds(io_path("out/config.json"), "new"));
        assert_int_equal(io_count(io_path(".")), 1);
        assert_int_equal(lors_file_remove_tree(io_path("out")), LORS_OK);
    }
    make_old("out");
    exchange_error = EACCES;
    refuse("cannot be exchanged for the new folder");
    assert_true(io_holds(io_path("out/config.json"), "old"));
}

static int failing_sync(int fd)
{
    struct stat here, there;
    bool parent = fstat(fd, &here) == 0 && stat(io_path("."), &there) == 0 &&
                  here.st_ino == there.st_ino;
    if (parent && syncs_until_failure-- <= 0) {
        errno = EIO;
        return -1;
    }
    return real->fsync(fd);
}

static int rename_but_not_back(const char *from, const char *to)
{
    const char *name = strrchr(from, '/');
    if (!renames_back && name && strcmp(name, "/.out.lors-old") == 0) {
        errno = EIO;
        return -1;
    }
    return real->rename(from, to);
}

/* The disk does not keep the new names, and the older ones cannot all be given back: whatever is
 * there stays, and the next run brings the old folder back. */
static void test_cannot_go_back(void **state)
{
    (void)state;
    make_old("out");
    exchange_error = EINVAL;
    table.exchange = cannot_exchange;
    table.fsync = failing_sync;
    table.rename = rename_but_not_back;
    syncs_until_failure = 0;
    renames_back = false;
    refuse("cannot be brought to the disk");
    assert_false(io_exists(io_path("out")));
    assert_true(io_holds(io_path(".out.lors-old/config.json"), "old"));
    table.fsync = real->fsync;
    refuse(".out.lors-old: cannot be given its name back"); /* nor by this one */
    assert_true(io_holds(io_path(".out.lors-old/config.json"), "old"));
    renames_back = true;
    assert_int_equal(run(), LORS_OK);
    assert_true(io_holds(io_path("out/config.json"), "new"));
    assert_int_equal(io_count(io_path(".")), 1);
}

/* ---- Clearing up ----------------------------------------------------------------------------- */

static int cannot_unlink(const char *path)
{
    (void)path;
    errno = EPERM;
    return -1;
}

/* What an earlier run left cannot be removed: nothing is begun, and OUT is as it was. */
static void test_cannot_clear(void **state)
{
    (void)state;
    make_old("out");
    make_old(".out.lors-staging");
    table.unlink = cannot_unlink;
    refuse(".out.lors-staging/config.json: cannot be removed");
    table.unlink = real->unlink;
    assert_int_equal(run(), LORS_OK);
    make_old(".out.lors-old"); /* between the new name and the removal of the old folder */
    table.unlink = cannot_unlink;
    refuse(".out.lors-old/config.json: cannot be removed");
    table.unlink = real->unlink;
    table.fsync = failing_sync;
    syncs_until_failure = 0;
    refuse("cannot be brought to the disk");
    assert_true(io_holds(io_path("out/config.json"), "new"));
}

/* A model folder with a folder in it is more than a merge wrote. */
static void test_folders_in_the_way(void **state)
{
    (void)state;
    make_old("out");
    io_mkdir(io_path("out/.git"));
    refuse("exists and has folders in it");
    assert_true(io_holds(io_path("out/config.json"), "old"));
    assert_true(io_exists(io_path("out/.git")));
}

/* A file, or a link, where the folder of an earlier run would be is no such folder. */
static void test_left_is_no_folder(void **state)
{
    (void)state;
    bool found = true;
    lors_staging *staging = NULL;
    make_old("elsewhere");
    for (int link = 0; link < 2; link++) {
        if (link) {
            io_link("elsewhere", io_path(".out.lors-staging"));
        } else {
            io_write_text(io_path(".out.lors-staging"), "");
        }
        assert_int_equal(lors_staging_take_over(io_path("out"), false, &found, &staging), LORS_OK);
        assert_false(found);
        assert_int_equal(io_count(lors_staging_path(staging)), 0);
        lors_staging_close(staging);
    }
    assert_true(io_holds(io_path("elsewhere/config.json"), "old"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_lock_vanishes),   TEST(test_no_locks),       TEST(test_no_such_parent),
        TEST(test_cannot_exchange), TEST(test_cannot_go_back), TEST(test_cannot_clear),
        TEST(test_left_is_no_folder), TEST(test_folders_in_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_machine_fails.c - what was finished outlives a machine that fails in the middle: memory, a
 * disk that does not give back what an interrupted run had left, a user who asks for the end when
 * all tensors are done. */
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "run/run_internal.h"
#include "run_child.h"
#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"
#define TIES "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" TWO
#define STAGING ".out.lors-staging"

enum { SHARD_BYTES = 2048 };

static const lors_file_ops *real;
static lors_file_ops table;
static int refusal; /* errno of a kept file that does not open or cannot be read */

static int write_family(void **state)
{
    rm_options options = RM_OPTIONS_INIT;
    (void)state;
    rm_work_in("machine-fails");
    rm_write_small_family();
    options.plan.max_shard_bytes = SHARD_BYTES;
    rm_merge_ok(TIES, "meant", &options);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    real = lors_file_table();
    table = *real;
    lors_file_set_table(&table);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lors_alloc_fail_at(0, false);
    lors_file_set_table(NULL);
    rm_remove("out");
    rm_remove(STAGING);
    return 0;
}

static bool is_kept(const char *path)
{
    return strstr(path, STAGING "/model") != NULL;
}

static void interrupt(void)
{
    rc_merge merge = {.recipe = TIES, .out = "out", .max_shard = SHARD_BYTES};
    assert_int_equal(rc_interrupt(merge, 24).status, LORS_ERR_CANCELLED);
    assert_true(rm_exists(STAGING));
}

static rm_options to_resume(void)
{
    rm_options options = RM_OPTIONS_INIT;
    options.keep_out = options.run.resume = true;
    options.plan.max_shard_bytes = SHARD_BYTES;
    options.plan.n_threads = 1;
    return options;
}

/* Once the machine is mended the run goes on, to the same bytes. */
static void assert_goes_on(void)
{
    rm_options options = to_resume();
    lors_report_summary summary = {0};
    RM_OK(rm_merge(TIES, "out", &options, &summary));
    assert_true(summary.n_resumed > 0);
    assert_true(rc_same_outputs("meant", "out"));
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* When `user` tensors are done: then and from there on. */
static bool take_memory(const lors_progress *progress, void *user)
{
    int64_t *at = user;
    if (*at > 0 && progress->done_tensors >= *at) {
        *at = 0;
        lors_alloc_fail_at(1, true);
    }
    return false;
}

/* "...: 3 of 31 tensors are finished and kept in ...": 3; and 31 in *n_all. */
static int64_t read_kept(int64_t *n_all)
{
    long long n = 0, all = 0;
    const char *end = strstr(lors_last_error(), " tensors are finished and kept in ");
    assert_non_null(end);
    for (const char *at = end; at > lors_last_error(); at--) {
        if (at[-1] == ' ' && sscanf(at, "%lld of %lld", &n, &all) == 2) {
            break;
        }
    }
    *n_all = all;
    return n;
}

static void test_memory_ends(void **state)
{
    (void)state;
    int64_t at = 1, n_all = 0;
    rm_options options = to_resume();
    interrupt();
    options.run.progress = take_memory;
    options.run.user = &at;
    lors_status status = rm_merge(TIES, "out", &options, NULL);
    lors_alloc_fail_at(0, false);
    assert_int_equal(at, 0);
    assert_int_equal(status, LORS_ERR_LIMIT);
    assert_true(read_kept(&n_all) > 0);
    assert_non_null(strstr(lors_last_error(), "once that is mended run again with --resume"));
    assert_false(rm_exists("out"));
    assert_goes_on();
}

static ssize_t slow_pwrite(int fd, const void *bytes, size_t n_bytes, off_t offset)
{
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    return real->pwrite(fd, bytes, n_bytes, offset);
}

/* Also what this very run has finished. */
static void test_memory_ends_at_first(void **state)
{
    (void)state;
    int64_t n_all = 0;
    lors_status status = LORS_OK;
    table.pwrite = slow_pwrite;
    lors_run_journal_pace(1, 0);
    /* The journal may not have come to its first tensor. */
    for (int i = 0; i < 10 && !(status && strstr(lors_last_error(), "--resume")); i++) {
        rm_options options = RM_OPTIONS_INIT;
        int64_t at = 10;
        options.plan.n_threads = 1;
        options.plan.max_shard_bytes = SHARD_BYTES;
        options.run.progress = take_memory;
        options.run.user = &at;
        status = rm_merge(TIES, "out", &options, NULL);
        lors_alloc_fail_at(0, false);
        assert_int_equal(status, LORS_ERR_LIMIT);
    }
    lors_run_journal_pace(0, 0);
    table.pwrite = real->pwrite;
    assert_true(read_kept(&n_all) > 0);
    assert_goes_on();
}

static int slow_fsync(int fd)
{
    char path[4096];
    if (is_kept(rm_path_of(fd, path, sizeof path))) {
        nanosleep(&(struct timespec){1, 500000000}, NULL);
    }
    return real->fsync(fd);
}

static bool end_in_the_middle(const lors_progress *progress, void *user)
{
    (void)user;
    return 2 * progress->done_tensors >= progress->total_tensors;
}

/* What is finished while the first tensors are being noted is noted after them. */
static void test_stopped_within_the_first_note(void **state)
{
    (void)state;
    rm_options options = RM_OPTIONS_INIT;
    int64_t n_all = 0;
    options.plan.n_threads = 1; /* into one file, which takes long to sync */
    options.run.progress = end_in_the_middle;
    table.pwrite = slow_pwrite;
    table.fsync = slow_fsync;
    lors_run_journal_pace(1, 0);
    assert_int_equal(rm_merge(TIES, "out", &options, NULL), LORS_ERR_CANCELLED);
    lors_run_journal_pace(0, 0);
    table.pwrite = real->pwrite;
    table.fsync = real->fsync;
    int64_t n_kept = read_kept(&n_all);
    print_message("%lld of %lld are kept\n", (long long)n_kept, (long long)n_all);
    assert_true(3 * n_kept >= n_all);
}

/* ---- The last files cannot be brought to the disk -------------------------------------------- */

static const char *unsynced; /* the name of a file */

static int failing_fsync(int fd)
{
    char path[4096];
    if (strcmp(strrchr(rm_path_of(fd, path, sizeof path), '/') + 1, unsynced) == 0) {
        errno = ENOSPC;
        return -1;
    }
    return real->fsync(fd);
}

/* They are written anew by the next run: nothing is lost with them. */
static void test_last_files_not_synced(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "model.safetensors.index.json",
                                        "lors_recipe.yaml", "README.md", "lors.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rm_options options = to_resume();
        interrupt();
        unsynced = names[i];
        table.fsync = failing_fsync;
        rm_merge_fails(TIES, "out", &options, LORS_ERR_IO, names[i]);
        int64_t n_all = 0, n_kept = read_kept(&n_all);
        assert_true(n_kept > 0 && n_kept == n_all);
        table.fsync = real->fsync;
        assert_goes_on();
        rm_remove("out");
    }
}

/* ---- What was left cannot be read ------------------------------------------------------------ */

static int refusing_open(const char *path, int flags, mode_t mode)
{
    if (is_kept(path) && (flags & O_ACCMODE) == O_RDONLY) {
        errno = refusal;
        return -1;
    }
    return real->open(path, flags, mode);
}

static off_t refused_from;

static ssize_t refusing_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    char path[4096];
    if (is_kept(rm_path_of(fd, path, sizeof path)) && offset >= refused_from) {
        errno = refusal;
        return -1;
    }
    return real->pread(fd, buffer, n_bytes, offset);
}

/* Nothing of it is removed because of that: neither file by file nor as a whole. */
static void test_kept_does_not_open(void **state)
{
    (void)state;
    static const int errors[] = {EMFILE, EACCES, EIO};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        rm_options options = to_resume();
        interrupt();
        int n_left = rm_count_entries(STAGING);
        refusal = errors[i];
        table.open = refusing_open;
        rm_merge_fails(TIES, "out", &options, LORS_ERR_IO, "cannot be opened");
        table.open = real->open;
        assert_int_equal(rm_count_entries(STAGING), n_left);
        assert_goes_on();
        rm_remove("out");
    }
}

/* The header, and the tensors behind it. */
static void test_kept_cannot_be_read(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        rm_options options = to_resume();
        interrupt();
        int n_left = rm_count_entries(STAGING);
        refusal = EIO;
        refused_from = i;
        table.pread = refusing_pread;
        rm_merge_fails(TIES, "out", &options, LORS_ERR_IO, strerror(EIO));
        table.pread = real->pread;
        assert_int_equal(rm_count_entries(STAGING), n_left);
        assert_goes_on();
        rm_remove("out");
    }
}

/* No memory for it is no reason to say that it is not there, at any allocation on the way. */
static void test_no_memory_to_look(void **state)
{
    (void)state;
    interrupt();
    int n_left = rm_count_entries(STAGING);
    lors_status status = LORS_ERR_LIMIT;
    for (uint64_t n = 1; status == LORS_ERR_LIMIT; n += 7) {
        rm_options options = to_resume();
        lors_report_summary summary = {0};
        lors_alloc_fail_at(n, true);
        status = rm_merge(TIES, "out", &options, &summary);
        lors_alloc_fail_at(0, false);
        if (status != LORS_OK) {
            assert_int_equal(status, LORS_ERR_LIMIT);
            assert_true(rm_count_entries(STAGING) >= n_left);
        } else {
            assert_true(summary.n_resumed > 0);
        }
    }
    assert_true(rc_same_outputs("meant", "out"));
}

/* ---- A disk that lost what the system still holds -------------------------------------------- */

static int n_forgotten, n_read_before;

static int counting_forget(int fd)
{
    char path[4096];
    n_forgotten += is_kept(rm_path_of(fd, path, sizeof path)) || strstr(path, "/out/");
    return 0;
}

static ssize_t counting_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    char path[4096];
    n_read_before += strstr(rm_path_of(fd, path, sizeof path), "/out/model") && n_forgotten == 0;
    return real->pread(fd, buffer, n_bytes, offset);
}

/* To verify the system is asked to drop what it holds, before anything is read: every file of the
 * weights within a merge, all files that lors.json lists afterwards. */
static void test_verified_from_disk(void **state)
{
    (void)state;
    rm_options options = RM_OPTIONS_INIT;
    int64_t n_files = 0;
    table.forget = counting_forget;
    n_forgotten = n_read_before = 0;
    RM_OK(rm_merge(TIES, "out", &options, NULL));
    assert_int_equal(n_forgotten, 0);
    options.run.verify = true;
    RM_OK(rm_merge(TIES, "out", &options, NULL));
    assert_int_equal(n_forgotten, 1);
    n_forgotten = 0;
    table.pread = counting_pread;
    RM_OK(lors_verify("out", &n_files, NULL));
    assert_int_equal(n_forgotten, n_files);
    assert_int_equal(n_read_before, 0);
    table.forget = NULL; /* only a hint */
    RM_OK(lors_verify("out", &n_files, NULL));
}

/* ---- A change that times do not show --------------------------------------------------------- */

/* The file's bytes in memory that other processes see. */
static unsigned char *map(const char *path, size_t *n_bytes)
{
    struct stat info;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && fstat(fd, &info) == 0);
    *n_bytes = (size_t)info.st_size;
    unsigned char *bytes = mmap(NULL, *n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(bytes != MAP_FAILED);
    close(fd);
    return bytes;
}

/* Bit 20 of every element: in the mantissa, a change that is no rounding. */
static void change(unsigned char *bytes, size_t n_bytes)
{
    uint64_t n_header;
    memcpy(&n_header, bytes, sizeof n_header);
    for (size_t at = 8 + (size_t)n_header; at + 4 <= n_bytes; at += 4) {
        bytes[at + 2] ^= 0x10;
    }
}

/* While 'n' was another model the run was interrupted; when it is itself again the run goes on. */
static lors_status go_on_after_change(bool is_noted, lors_report_summary *summary)
{
    size_t n_bytes = 0;
    rm_options options = to_resume();
    options.run.verify = true;
    options.run.verify_tensors = -1;
    RM_OK(rm_merge(TIES, "meant-verified", &options, NULL)); /* lors.json says so */
    unsigned char *bytes = map("n/model.safetensors", &n_bytes);
    change(bytes, n_bytes);
    interrupt();
    change(bytes, n_bytes);
    if (is_noted) {
        assert_int_equal(utimensat(AT_FDCWD, "n/model.safetensors", NULL, 0), 0);
    }
    munmap(bytes, n_bytes);
    lors_status status = rm_merge(TIES, "out", &options, summary);
    print_message("%s\n", status == LORS_OK ? "merged anew" : lors_last_error());
    if (status == LORS_OK) {
        assert_true(rc_same_outputs("meant-verified", "out"));
    } else {
        assert_int_equal(status, LORS_ERR_NUMERICS);
        assert_non_null(strstr(lors_last_error(), "in a way that its times do not show"));
        assert_false(rm_exists("out"));
        assert_false(rm_exists(STAGING)); /* nothing of it is to be trusted */
    }
    rm_remove("meant-verified");
    return status;
}

/* A system notes the time of a store into a mapping once, until it has brought the page to the
 * disk. What was finished before another store looks current then, to all but --verify-all, which
 * reads the models again. Where the time is noted all is merged anew: never a wrong output. */
static void test_changed_in_a_mapping(void **state)
{
    (void)state;
    go_on_after_change(false, NULL);
}

static void test_changed_and_noted(void **state)
{
    (void)state;
    lors_report_summary summary = {0};
    RM_OK(go_on_after_change(true, &summary));
    assert_int_equal(summary.n_resumed, 0);
}

/* ---- The end is asked for when all is done --------------------------------------------------- */

static bool end_when_done(const lors_progress *progress, void *user)
{
    (void)user;
    return progress->done_tensors == progress->total_tensors;
}

/* Whoever asks before OUT has its name gets none. */
static void test_cancelled_at_the_end(void **state)
{
    (void)state;
    for (int verify = 0; verify < 2; verify++) {
        rm_options options = RM_OPTIONS_INIT;
        options.run.verify = verify;
        options.run.progress = end_when_done;
        rm_merge_fails(TIES, "out", &options, LORS_ERR_CANCELLED, "interrupted");
    }
}

static bool end_at_once(const lors_progress *progress, void *user)
{
    (void)progress;
    ++*(int *)user;
    return true;
}

/* Before the first tensor, while integers and sinusoids are compared. */
static void test_cancelled_before(void **state)
{
    (void)state;
    int n_calls = 0;
    rm_options options = RM_OPTIONS_INIT;
    options.run.progress = end_at_once;
    options.run.user = &n_calls;
    rm_merge_fails(TIES, "out", &options, LORS_ERR_CANCELLED, "interrupted: nothing was written");
    assert_int_equal(n_calls, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_memory_ends),
        TEST(test_memory_ends_at_first),
        TEST(test_stopped_within_the_first_note),
        TEST(test_last_files_not_synced),
        TEST(test_kept_does_not_open),
        TEST(test_kept_cannot_be_read),
        TEST(test_no_memory_to_look),
        TEST(test_verified_from_disk),
        TEST(test_changed_in_a_mapping),
        TEST(test_changed_and_noted),
        TEST(test_cancelled_at_the_end),
        TEST(test_cancelled_before),
    };
    return cmocka_run_group_tests(tests, write_family, NULL);
}

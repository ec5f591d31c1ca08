/* test_odd_runs.c - what a run meets rarely: a recipe made by calls, a disk that gives back other
 * bytes than it got, a caller that cancels while finished tensors are being read again, stages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "run_child.h"
#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"
#define TIES "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" TWO
#define STAGING ".out.lors-staging"

enum { SHARD_BYTES = 2048 };

static const lors_file_ops *real;
static lors_file_ops table;

static int write_family(void **state)
{
    (void)state;
    rm_work_in("odd-runs");
    rm_write_small_family();
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
    lors_file_set_table(NULL);
    return 0;
}

/* ---- Recipes made by calls, or whose text does not end its line ------------------------------ */

static lors_recipe *recipe_by_calls(void)
{
    lors_recipe *recipe = NULL;
    RM_OK(lors_recipe_create("ties", &recipe));
    RM_OK(lors_recipe_set_base(recipe, "b"));
    RM_OK(lors_recipe_add_model(recipe, "m"));
    RM_OK(lors_recipe_add_model(recipe, "n"));
    RM_OK(lors_recipe_set(recipe, "density", "0.3"));
    RM_OK(lors_recipe_set_for(recipe, 0, "weight", "1"));
    RM_OK(lors_recipe_set_for(recipe, 1, "weight", "0.5"));
    return recipe;
}

static void test_recipe_by_calls(void **state)
{
    (void)state;
    size_t n_bytes = 0;
    lors_plan_options plan_options = LORS_PLAN_OPTIONS_INIT;
    lors_run_options run_options = LORS_RUN_OPTIONS_INIT;
    lors_recipe *recipe = recipe_by_calls();
    lors_plan *plan = NULL;
    plan_options.device = "cpu";
    RM_OK(lors_plan_create(recipe, &plan_options, &plan));
    RM_OK(lors_run(plan, "called", &run_options, NULL));
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    RM_OK(lors_verify("called", NULL, NULL));
    assert_false(rm_exists("called/lors_recipe.yaml")); /* it has no text */
    rm_merge_ok(TIES, "read", NULL);
    assert_true(rm_exists("read/lors_recipe.yaml"));
    assert_true(rm_same_files("called/model.safetensors", "read/model.safetensors"));
    char *card = rm_read_bytes("called/README.md", &n_bytes);
    assert_null(strstr(card, "Recipe:"));
    free(card);
}

static void test_text_without_end(void **state)
{
    (void)state;
    size_t n_bytes = 0;
    char text[] = TIES;
    text[strlen(text) - 1] = '\0';
    rm_merge_ok(text, "out", NULL);
    char *card = rm_read_bytes("out/README.md", &n_bytes);
    assert_non_null(strstr(card, "{weight: 0.5}}]\n```\n"));
    free(card);
    rm_remove("out");
}

/* The caller's type, else out_dtype, else dtype, else the base's. */
static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *more, *wanted;
        lors_dtype found;
    } rows[] = {
        {"", NULL, LORS_F32},
        {"dtype: bfloat16\n", NULL, LORS_BF16},
        {"out_dtype: float16\n", NULL, LORS_F16},
        {"dtype: bfloat16\nout_dtype: float16\n", NULL, LORS_F16},
        {"dtype: bfloat16\nout_dtype: float16\n", "f32", LORS_F32},
        {"dtype: float16\n", "bf16", LORS_BF16},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rm_options options = RM_OPTIONS_INIT;
        char text[512];
        snprintf(text, sizeof text, "%s%s", TIES, rows[i].more);
        options.plan.out_dtype = rows[i].wanted;
        rm_merge_ok(text, "out", &options);
        rm_model *out = rm_read("out");
        assert_int_equal(rm_get(out, "model.decoder.embed_tokens.weight")->dtype, rows[i].found);
        rm_free(out);
    }
    rm_remove("out");
}

/* ---- A disk that gives back something else --------------------------------------------------- */

static off_t spoilt_from;
static unsigned char spoilt_mask;
static const char *spoilt_name; /* in the header: this becomes another; NULL: bytes from there on */

static bool is_output(int fd)
{
    char path[4096];
    return strstr(rm_path_of(fd, path, sizeof path), STAGING "/model") != NULL;
}

static ssize_t spoiling_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    ssize_t n = real->pread(fd, buffer, n_bytes, offset);
    if (n <= 0 || !is_output(fd)) {
        return n;
    }
    if (!spoilt_name && offset >= spoilt_from) {
        ((unsigned char *)buffer)[n - 1] ^= spoilt_mask;
    }
    char *name = spoilt_name ? memmem(buffer, (size_t)n, spoilt_name, strlen(spoilt_name)) : NULL;
    if (name) {
        *name ^= 1;
    }
    return n;
}

static void refuse_verified(const char *sentence)
{
    rm_options options = RM_OPTIONS_INIT;
    options.run.verify = true;
    table.pread = spoiling_pread;
    lors_status status = rm_merge(TIES, "out", &options, NULL);
    assert_int_equal(status, LORS_ERR_IO);
    if (!strstr(lors_last_error(), sentence)) {
        fail_msg("expected '%s' in '%s'", sentence, lors_last_error());
    }
    table.pread = real->pread;
    assert_false(rm_exists("out"));
    assert_false(rm_exists(STAGING)); /* nothing of it is to be trusted */
}

static void test_other_bytes(void **state)
{
    (void)state;
    rm_options options = RM_OPTIONS_INIT;
    spoilt_name = NULL;
    spoilt_mask = 0x10;
    spoilt_from = 8192; /* behind the header */
    refuse_verified("was read back differently from what was written, near byte");
    spoilt_name = "model.decoder.embed_tokens.weight";
    refuse_verified("is missing in the output");
    spoilt_mask = 0;
    spoilt_name = NULL;
    options.run.verify = true;
    table.pread = spoiling_pread;
    RM_OK(rm_merge(TIES, "out", &options, NULL));
    rm_remove("out");
}

/* ---- Resuming -------------------------------------------------------------------------------- */

static void interrupt(void)
{
    rc_merge merge = {.recipe = TIES, .out = "out", .max_shard = SHARD_BYTES};
    assert_int_equal(rc_interrupt(merge, 24).status, LORS_ERR_CANCELLED);
    assert_true(rm_exists(STAGING));
}

/* Cancelled at once, while what is there is being looked at: it stays for the next run. */
static void test_cancelled_while_resuming(void **state)
{
    (void)state;
    rc_merge merge = {.recipe = TIES, .out = "out", .n_threads = 1, .max_shard = SHARD_BYTES};
    interrupt();
    merge.resume = true;
    merge.cancel_at = 1;
    rc_outcome outcome = rc_run(&merge);
    assert_int_equal(outcome.status, LORS_ERR_CANCELLED);
    assert_true(outcome.done_bytes > 0); /* those of what is kept */
    assert_false(rm_exists("out"));
    assert_true(rm_exists(STAGING));
    merge.cancel_at = 0;
    outcome = rc_run(&merge);
    assert_int_equal(outcome.status, LORS_OK);
    assert_true(outcome.n_resumed > 0);
    rm_options options = RM_OPTIONS_INIT;
    options.plan.max_shard_bytes = SHARD_BYTES;
    rm_merge_ok(TIES, "meant", &options);
    assert_true(rc_same_outputs("meant", "out"));
    rm_remove("out");
}

/* What a resumed run adds to a file of which some was kept is on the disk before the output is
 * there, with no journal that would have seen to it. */
static void test_resumed_is_synced(void **state)
{
    (void)state;
    rc_merge merge = {.recipe = TIES, .out = "out", .n_threads = 1, .max_shard = 1 << 20};
    rc_outcome outcome = {0};
    for (int i = 0; i < 50 && !strstr(outcome.sentence, "--resume"); i++) {
        rm_remove("out");
        rm_remove(STAGING);
        merge.cancel_at = 12 - i % 12;
        outcome = rc_run(&merge);
    }
    merge.cancel_at = 0;
    merge.resume = merge.power_cut = merge.default_pace = true;
    outcome = rc_run(&merge);
    assert_int_equal(outcome.status, LORS_OK);
    assert_true(outcome.n_resumed > 0);
    assert_int_equal(outcome.n_unsynced, 0);
    rm_remove("out");
}

static int no_journal_opens(const char *path, int flags, mode_t mode)
{
    if (strstr(path, "/.lors-journal")) {
        errno = EIO;
        return -1;
    }
    return real->open(path, flags, mode);
}

/* A disk that fails to give the journal back may be better another time: what is there stays. */
static void test_journal_cannot_be_read(void **state)
{
    (void)state;
    rm_options options = RM_OPTIONS_INIT;
    lors_report_summary summary = {0};
    interrupt();
    options.keep_out = options.run.resume = true;
    options.plan.max_shard_bytes = SHARD_BYTES;
    table.open = no_journal_opens;
    rm_merge_fails(TIES, "out", &options, LORS_ERR_IO, ".lors-journal");
    table.open = real->open;
    RM_OK(rm_merge(TIES, "out", &options, &summary));
    assert_true(summary.n_resumed > 0);
    rm_remove("out");
}

/* Random numbers of another seed are another merge. */
static void test_other_seed(void **state)
{
    (void)state;
    rc_merge merge = {.recipe = TIES, .out = "out", .n_threads = 1, .max_shard = SHARD_BYTES};
    interrupt();
    merge.resume = true;
    merge.seed = 7;
    rc_outcome outcome = rc_run(&merge);
    assert_int_equal(outcome.status, LORS_OK);
    assert_int_equal(outcome.n_resumed, 0);
    assert_non_null(strstr(outcome.note, "starting from the beginning"));
    rm_remove("out");
}

/* A file of the interrupted run that is shorter than its header, larger than it may be, or gone. */
static void test_shards_damaged(void **state)
{
    (void)state;
    rc_merge merge = {.recipe = TIES, .out = "out", .n_threads = 1, .max_shard = SHARD_BYTES};
    static const off_t sizes[] = {3, 1000000, 0};
    for (int i = 0; i < 3; i++) {
        glob_t found;
        interrupt();
        assert_int_equal(glob(STAGING "/model-00001-of-*", 0, NULL, &found), 0);
        assert_int_equal(truncate(found.gl_pathv[0], sizes[i]), 0);
        if (sizes[i] == 0) {
            rm_remove(found.gl_pathv[0]);
        }
        globfree(&found);
        merge.resume = true;
        rc_outcome outcome = rc_run(&merge);
        assert_int_equal(outcome.status, LORS_OK);
        assert_non_null(strstr(outcome.note, "their bytes are not there"));
        assert_true(rc_same_outputs("meant", "out"));
        rm_remove("out");
    }
}

static int64_t n_damaged(const char *pattern)
{
    glob_t found;
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        assert_int_equal(truncate(found.gl_pathv[i], 3), 0);
    }
    int64_t n = (int64_t)found.gl_pathc;
    globfree(&found);
    return n;
}

/* Damaged, resumed and interrupted again: the next run goes on from all that is then said to be
 * kept, whether some of it was damaged or all; also from a tensor of the first run that the second
 * had written again, and not noted yet. */
static void test_interrupted_again(void **state)
{
    (void)state;
    static const char *const patterns[] = {STAGING "/model-00001-of-*", STAGING "/model-*"};
    for (int p = 0; p < 2; p++) {
        rc_merge merge = {.recipe = TIES, .out = "out", .n_threads = 1, .max_shard = SHARD_BYTES};
        rc_outcome outcome = {0};
        long long n_kept = 0;
        merge.resume = true;
        for (int i = 0; i < 50 && !strstr(outcome.sentence, "--resume"); i++) {
            interrupt(); /* the run after it may be through, or stopped at nothing */
            assert_true(n_damaged(patterns[p]) > 0);
            merge.cancel_at = p == 0 ? 12 + i % 6 : 1 + i % 4;
            outcome = rc_run(&merge);
        }
        assert_int_equal(sscanf(outcome.sentence, "interrupted: %lld of ", &n_kept), 1);
        merge.cancel_at = 0;
        outcome = rc_run(&merge);
        assert_int_equal(outcome.status, LORS_OK);
        assert_true(outcome.n_resumed >= n_kept);
        assert_true(rc_same_outputs("meant", "out"));
        rm_remove("out");
    }
}

static int failing_open(const char *path, int flags, mode_t mode)
{
    if (strstr(path, STAGING "/model") && flags & O_CREAT) {
        errno = ENOSPC;
        return -1;
    }
    return real->open(path, flags, mode);
}

static void test_weights_that_cannot_be_created(void **state)
{
    (void)state;
    table.open = failing_open;
    rm_merge_fails(TIES, "out", NULL, LORS_ERR_IO, "cannot be created");
}

/* ---- A disk of inputs that is gone ----------------------------------------------------------- */

static bool gone;

static ssize_t failing_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    if (!is_output(fd) && offset > 6000) {
        gone = true;
        errno = ESTALE;
        return -1;
    }
    return real->pread(fd, buffer, n_bytes, offset);
}

int stat(const char *path, struct stat *info) __attribute__((visibility("default")));

int stat(const char *path, struct stat *info)
{
    if (gone && strstr(path, ".safetensors")) {
        errno = ESTALE;
        return -1;
    }
    return fstatat(AT_FDCWD, path, info, 0);
}

/* Nobody can tell whether they have changed: what is finished stays, of this run and of the one
 * that it went on from. */
static void test_inputs_gone(void **state)
{
    (void)state;
    rm_options options = RM_OPTIONS_INIT;
    lors_report_summary summary = {0};
    options.plan.max_shard_bytes = SHARD_BYTES;
    rm_merge_ok(TIES, "meant", &options);
    interrupt();
    options.keep_out = options.run.resume = true;
    options.plan.n_threads = 1;
    table.pread = failing_pread;
    assert_int_equal(rm_merge(TIES, "out", &options, NULL), LORS_ERR_IO);
    assert_true(gone);
    gone = false;
    table.pread = real->pread;
    assert_null(strstr(lors_last_error(), "while it was read"));
    assert_non_null(strstr(lors_last_error(), "Stale file handle"));
    assert_true(rm_exists(STAGING));
    RM_OK(rm_merge(TIES, "out", &options, &summary));
    assert_true(summary.n_resumed > 0);
    assert_true(rm_same_folders("meant", "out"));
    rm_remove("out");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_recipe_by_calls),
        TEST(test_text_without_end),
        TEST(test_types),
        TEST(test_other_bytes),
        TEST(test_cancelled_while_resuming),
        TEST(test_resumed_is_synced),
        TEST(test_journal_cannot_be_read),
        TEST(test_other_seed),
        TEST(test_shards_damaged),
        TEST(test_interrupted_again),
        TEST(test_weights_that_cannot_be_created),
        TEST(test_inputs_gone),
    };
    return cmocka_run_group_tests(tests, write_family, NULL);
}

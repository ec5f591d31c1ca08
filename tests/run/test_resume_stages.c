/* test_resume_stages.c - recipes of several documents, interrupted anywhere and resumed: what
 * stages made is made again only where it is needed, and the report tells all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_child.h"
#include "run_models.h"

#define STAGING ".out.lors-staging"

/* x is used by y and by the last, y by the last alone. */
#define SHARED \
    "name: x\nmerge_method: ties\nbase_model: b\nmodels: [{model: m}, {model: n}]\n" \
    "parameters: {density: 0.4, weight: 1}\n---\n" \
    "name: y\nmerge_method: linear\nmodels: [{model: x}, {model: n}]\n" \
    "parameters: {weight: 1}\n---\n" \
    "merge_method: lors\nbase_model: x\nmodels: [{model: y}, {model: o}]\n" \
    "parameters: {rank: 2, density: 0.2}\n"

/* Each of the two before it: were everything gone through for each of its uses, 10^12 steps. */
enum { DEEP = 60, SHARD_BYTES = 4096 };

static int n_tensors;

static void write_family(void)
{
    static const char *const folders[] = {"b", "m", "n", "o"};
    rm_model *base = rm_whisper(LORS_F32, 1);
    n_tensors = base->n;
    rm_write_tuned(base, folders, 4, 0.02);
    rm_free(base);
}

static const char *deep_recipe(void)
{
    static char text[16384];
    size_t length = 0;
    for (int i = 0; i < DEEP; i++) {
        char name[32] = "", one[16], other[16];
        snprintf(name, i + 1 < DEEP ? sizeof name : 1, "name: d%d\n", i);
        snprintf(one, sizeof one, i < 1 ? "m" : "d%d", i - 1);
        snprintf(other, sizeof other, i < 2 ? "n" : "d%d", i - 2);
        length += (size_t)snprintf(text + length, sizeof text - length,
                                   "%s%smerge_method: linear\nparameters: {weight: 1}\n"
                                   "models: [{model: %s}, {model: %s}]\n",
                                   i ? "---\n" : "", name, one, other);
    }
    return text;
}

static rc_merge plain(const char *recipe, const char *out)
{
    return (rc_merge){.recipe = recipe, .out = out, .n_threads = 2, .max_shard = SHARD_BYTES};
}

static rc_outcome merge_ok(rc_merge merge)
{
    rc_outcome outcome = rc_run(&merge);
    if (outcome.status != LORS_OK) {
        fprintf(stderr, "%s\n", outcome.sentence);
    }
    assert_true(!outcome.killed && outcome.status == LORS_OK);
    return outcome;
}

static rc_outcome make_meant(const char *recipe)
{
    rm_remove("meant");
    return merge_ok(plain(recipe, "meant"));
}

static rc_outcome resume(const char *recipe)
{
    rc_merge merge = plain(recipe, "out");
    merge.resume = true;
    rc_outcome outcome = merge_ok(merge);
    assert_true(rc_same_outputs("meant", "out"));
    assert_false(rm_exists(STAGING));
    return outcome;
}

/* Cancelled with something noted. */
static void interrupt(const char *recipe)
{
    rc_outcome outcome = rc_interrupt(plain(recipe, "out"), n_tensors);
    assert_int_equal(outcome.status, LORS_ERR_CANCELLED);
    assert_non_null(strstr(outcome.sentence, "--resume"));
}

static void test_cancelled(void **unused)
{
    const char *const recipes[] = {SHARED, deep_recipe()};
    (void)unused;
    for (int r = 0; r < 2; r++) {
        make_meant(recipes[r]);
        interrupt(recipes[r]);
        rc_outcome outcome = resume(recipes[r]);
        assert_true(outcome.n_resumed > 0);
        assert_non_null(strstr(outcome.note, "going on from"));
        rm_remove("out");
    }
}

/* Every other time by a power cut. */
static void test_killed(void **unused)
{
    (void)unused;
    int n_points = getenv("LORS_EMULATED") ? 3 : 16, n_with_some = 0;
    int64_t n_operations = make_meant(SHARED).n_operations;
    for (int i = 0; i < n_points; i++) {
        rc_merge merge = plain(SHARED, "out");
        rm_remove("out");
        merge.n_threads = i % 2 ? 1 : 4;
        merge.kill_at = 1 + (2 * i + 1) * n_operations / (2 * n_points);
        merge.power_cut = i % 4 < 2;
        if (rc_run(&merge).killed && !rm_exists("out")) {
            rc_outcome outcome = resume(SHARED);
            assert_null(strstr(outcome.note, "their bytes are not there"));
            n_with_some += outcome.n_resumed > 0;
        }
    }
    assert_true(n_with_some >= n_points / 4);
}

/* What was in the damaged file is merged again, with the stages that it needs. */
static void test_damaged(void **unused)
{
    (void)unused;
    glob_t found;
    make_meant(SHARED);
    interrupt(SHARED);
    assert_int_equal(glob(STAGING "/model-00001-of-*", 0, NULL, &found), 0);
    assert_int_equal(truncate(found.gl_pathv[0], 3), 0);
    globfree(&found);
    assert_non_null(strstr(resume(SHARED).note, "their bytes are not there"));
}

/* A model that a stage alone reads, and a recipe of which the last document is the same. */
static void test_changed(void **unused)
{
    static const struct timespec times[2] = {{1000000000, 0}, {1000000000, 0}};
    (void)unused;
    make_meant(SHARED);
    interrupt(SHARED);
    assert_int_equal(utimensat(AT_FDCWD, "m/model.safetensors", times, 0), 0);
    rc_outcome outcome = resume(SHARED);
    assert_int_equal(outcome.n_resumed, 0);
    assert_string_equal(outcome.note,
                        "m changed since the interrupted run: starting from the beginning");
    char other[sizeof SHARED];
    memcpy(other, SHARED, sizeof other);
    *strchr(strstr(other, "density: 0."), '4') = '5';
    interrupt(SHARED);
    make_meant(other);
    outcome = resume(other);
    assert_int_equal(outcome.n_resumed, 0);
    assert_non_null(strstr(outcome.note, "the recipe changed since the interrupted run"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_changed),
    };
    rm_work_in("resume-stages-work");
    write_family();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

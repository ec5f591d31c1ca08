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

#include "io/journal.h"
#include "run_child.h"
#include "run_models.h"

#define STAGING ".out.lors-staging"
#define JOURNAL STAGING "/.lors-journal"

/* x is used by y and by the last, y by the last alone. */
#define SHARED \
    "name: x\nmerge_method: ties\nbase_model: b\nmodels: [{model: m}, {model: n}]\n" \
    "parameters: {density: 0.4, weight: 1}\n---\n" \
    "name: y\nmerge_method: linear\nmodels: [{model: x}, {model: n}]\n" \
    "parameters: {weight: 1}\n---\n" \
    "merge_method: lors\nbase_model: x\nmodels: [{model: y}, {model: o}]\n" \
    "parameters: {rank: 2, density: 0.2}\n"

/* Of the decoder's second layer that x makes nobody has need. */
#define SLICED \
    "name: x\nmerge_method: linear\nmodels: [{model: m}, {model: n}]\n" \
    "parameters: {weight: 1}\n---\n" \
    "merge_method: passthrough\nmodules:\n  encoder: {models: [{model: x}]}\n" \
    "  decoder: {slices: [{sources: [{model: x, layer_range: [0, 1]}]}]}\n"

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

/* ---- Another's journal ---------------------------------------------------------------------- */

typedef struct record {
    int64_t job; /* of the plan: the output's tensors, then those of stages; -1: the identity */
    size_t n_bytes;
    unsigned char bytes[4096];
} record;

static record records[256];
static int n_records;

static void read_journal(void)
{
    lors_journal *journal = NULL;
    const void *bytes = NULL;
    size_t n_bytes = 0;
    RM_OK(lors_journal_open(JOURNAL, 1 << 24, &journal));
    for (n_records = 0; lors_journal_next(journal, &bytes, &n_bytes); n_records++) {
        record *r = &records[n_records];
        assert_true(n_records < 255 && n_bytes <= sizeof r->bytes);
        memcpy(r->bytes, bytes, r->n_bytes = n_bytes);
        r->job = -1;
        if (n_records > 0) {
            memcpy(&r->job, bytes, sizeof r->job);
        }
    }
    lors_journal_close(journal);
}

static void write_journal(void)
{
    lors_journal *journal = NULL;
    assert_int_equal(unlink(JOURNAL), 0);
    RM_OK(lors_journal_create(JOURNAL, 0, &journal));
    for (int i = 0; i < n_records; i++) {
        lors_journal_add(journal, records[i].bytes, records[i].n_bytes);
    }
    RM_OK(lors_journal_sync(journal));
    lors_journal_close(journal);
}

static void drop_record(int index)
{
    n_records--;
    memmove(&records[index], &records[index + 1], (size_t)(n_records - index) * sizeof *records);
}

/* A tensor is not kept where nothing tells how one that it is made of came about. */
static void test_lost_records(void **unused)
{
    (void)unused;
    make_meant(SHARED);
    for (int most = 1; most < 256; most += 254) { /* one record of a stage, or all */
        int n_lost = 0;
        interrupt(SHARED);
        read_journal();
        for (int i = 1; i < n_records && n_lost < most;) {
            if (records[i].job >= n_tensors) {
                drop_record(i);
                n_lost++;
            } else {
                i++;
            }
        }
        assert_true(n_lost > 0);
        write_journal();
        rc_outcome outcome = resume(SHARED);
        assert_true(most == 1 ? outcome.n_resumed > 0 : outcome.n_resumed == 0);
        const char *said = most == 1 ? "their bytes are not there"
                                     : "what the interrupted run had finished is not there";
        assert_non_null(strstr(outcome.note, said));
        rm_remove("out");
    }
}

/* Records of what nobody has need of, and of tensors that there are not, change nothing. */
static void test_useless_records(void **unused)
{
    (void)unused;
    make_meant(SLICED);
    rm_model *meant = rm_read("meant");
    int n_outputs = meant->n;
    rm_free(meant);
    assert_true(n_outputs < n_tensors);
    interrupt(SLICED);
    read_journal();
    const record *model = &records[1]; /* of a tensor with two models, not of one that is copied */
    for (int i = 2; i < n_records; i++) {
        model = records[i].n_bytes > model->n_bytes && records[i].job >= n_outputs ? &records[i]
                                                                                   : model;
    }
    assert_true(model->job >= n_outputs); /* a stage's comes first */
    for (int64_t job = n_outputs; job < 3 * n_tensors; job++) {
        bool known = false;
        for (int i = 1; i < n_records; i++) {
            known = known || records[i].job == job;
        }
        if (!known) {
            record *r = &records[n_records++];
            assert_true(n_records < 256);
            *r = *model;
            r->job = job;
            memcpy(r->bytes, &job, sizeof job);
        }
    }
    write_journal();
    assert_true(resume(SLICED).n_resumed > 0);
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
        cmocka_unit_test(test_cancelled),       cmocka_unit_test(test_killed),
        cmocka_unit_test(test_damaged),         cmocka_unit_test(test_lost_records),
        cmocka_unit_test(test_useless_records), cmocka_unit_test(test_changed),
    };
    rm_work_in("resume-stages-work");
    write_family();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

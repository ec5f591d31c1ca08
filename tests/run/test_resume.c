/* test_resume.c - a merge that is interrupted anywhere and resumed writes the bytes of one that was
 * not; what does not agree any more is said, and all is merged anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/journal.h"
#include "run_child.h"
#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"
#define LORS "merge_method: lors\nbase_model: b\nparameters: {rank: 3, density: 0.2}\n" TWO
#define TIES "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" TWO
#define OTHER "merge_method: ties\nbase_model: b\nparameters: {density: 0.4}\n" TWO
#define STAGING ".out.lors-staging"
#define JOURNAL STAGING "/.lors-journal"

enum { LARGE_ROWS = 2304, LARGE_COLUMNS = 512 };
static uint64_t shard_bytes = 8192; /* three files */
static int n_tensors;

/* A stand-in for a device is slow. */
static bool is_thorough(void)
{
    return getenv("LORS_EMULATED") == NULL;
}

/* Small tensors, and one that is cut into units where memory is short; in several shards. */
static void write_family(void)
{
    static const char *const folders[] = {"b", "m", "n"};
    rm_model *base = rm_whisper(LORS_F32, 1);
    rm_tensor *large = rm_add(base, "model.decoder.layers.7.fc1.weight", LORS_F32, 2, LARGE_ROWS,
                              is_thorough() ? LARGE_COLUMNS : 64, 0);
    for (uint64_t i = 0; i < large->n; i++) {
        rm_set(large, i, (double)(i % 1009) / 1009);
    }
    n_tensors = base->n;
    rm_write_tuned(base, folders, 3, 0.02);
    rm_free(base);
}

static rc_merge plain(const char *recipe, const char *out)
{
    return (rc_merge){.recipe = recipe, .out = out, .n_threads = 2, .max_shard = shard_bytes};
}

static void merge_ok(rc_merge merge)
{
    rc_outcome outcome = rc_run(&merge);
    if (outcome.killed || outcome.status != LORS_OK) {
        fprintf(stderr, "%s\n", outcome.sentence);
    }
    assert_true(!outcome.killed && outcome.status == LORS_OK);
}

/* What an uninterrupted run writes, in the folder "meant". */
static int64_t make_meant(const char *recipe)
{
    rc_merge merge = plain(recipe, "meant");
    rm_remove("meant");
    rc_outcome outcome = rc_run(&merge);
    assert_int_equal(outcome.status, LORS_OK);
    return outcome.n_operations;
}

/* Resume; the result is as it should be and nothing else is left. */
static rc_outcome resume_with(rc_merge merge)
{
    merge.resume = true;
    merge.power_cut = false;
    merge.kill_at = merge.cancel_at = merge.full_at = merge.no_sync_at = 0;
    merge.kill_after = 0;
    merge.meddle = NULL;
    rc_outcome outcome = rc_run(&merge);
    if (outcome.status != LORS_OK) {
        fprintf(stderr, "%s\n", outcome.sentence);
    }
    assert_int_equal(outcome.status, LORS_OK);
    assert_true(rc_same_outputs("meant", "out"));
    assert_false(rm_exists(STAGING));
    assert_false(rm_exists(".out.lors-lock"));
    return outcome;
}

static void need_note(const rc_outcome *outcome, const char *text)
{
    if (!strstr(outcome->note, text)) {
        fprintf(stderr, "expected '%s' in '%s'\n", text, outcome->note);
        fail();
    }
}

/* Cancel when half of the tensors are done: they are kept, and it is said how many. */
static int64_t interrupt(const char *recipe)
{
    rc_outcome outcome = rc_interrupt(plain(recipe, "out"), n_tensors);
    assert_int_equal(outcome.status, LORS_ERR_CANCELLED);
    if (!strstr(outcome.sentence, "--resume")) {
        fprintf(stderr, "%s\n", outcome.sentence);
        fail();
    }
    assert_false(rm_exists("out"));
    assert_true(rm_exists(JOURNAL));
    assert_false(rm_exists(".out.lors-lock"));
    long long n_kept = 0;
    assert_int_equal(sscanf(outcome.sentence, "interrupted: %lld of ", &n_kept), 1);
    return n_kept;
}

/* ---- Killed --------------------------------------------------------------------------------- */

/* At operations spread over the whole run, resumed with other threads and memory. Every other kill
 * is a power cut: what was noted had been synced, so that all of it is there. */
static void test_killed_at_operations(void **unused)
{
    static const struct {
        int32_t n_threads;
        uint64_t memory;
    } ways[] = {{1, 0}, {8, 0}, {1, 150000000}, {3, 250000000}};
    static const char *const recipes[] = {LORS, TIES};
    (void)unused;
    const char *given = getenv("LORS_RESUME_POINTS");
    int64_t n_points = given ? atoi(given) : is_thorough() ? 10 : 3, n_with_some = 0;
    for (int r = 0; r < 2; r++) {
        int64_t n_operations = make_meant(recipes[r]);
        for (int64_t i = 0; i < n_points; i++) {
            rc_merge merge = plain(recipes[r], "out");
            rm_remove("out");
            merge.n_threads = i % 2 ? 1 : 4;
            merge.kill_at = 1 + (2 * i + 1) * n_operations / (2 * n_points);
            merge.power_cut = i % 4 < 2;
            bool killed = rc_run(&merge).killed; /* with other threads it may take fewer */
            if (killed && !rm_exists("out")) {
                merge.n_threads = ways[i % 4].n_threads;
                merge.max_memory = is_thorough() ? ways[i % 4].memory : 0;
                rc_outcome outcome = resume_with(merge);
                assert_null(strstr(outcome.note, "their bytes are not there"));
                n_with_some += outcome.n_resumed > 0;
            }
        }
    }
    printf("resumed from some tensors at %d points\n", (int)n_with_some);
    assert_true(n_with_some >= n_points / 2); /* of four times as many */
}

/* Again and again, at random times, until it is through. */
static void test_killed_at_random_times(void **unused)
{
    (void)unused;
    struct timespec from, to;
    uint64_t state = 12345;
    int n_kills = 0, n_merges = is_thorough() ? 3 : 1;
    make_meant(LORS);
    clock_gettime(CLOCK_MONOTONIC, &from);
    make_meant(LORS);
    clock_gettime(CLOCK_MONOTONIC, &to);
    double whole = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    for (int i = 0; i < n_merges; i++) {
        rc_merge merge = plain(LORS, "out");
        rm_remove("out");
        merge.resume = true;
        for (int k = 0; k < 8 && !rm_exists("out"); k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            merge.kill_after = 0.001 + whole * (double)(state >> 40) / (double)(1 << 24);
            n_kills += rc_run(&merge).killed;
        }
        if (rm_exists("out")) { /* a kill after the commit may leave what is cleared later */
            assert_true(rc_same_outputs("meant", "out"));
            merge.force = true;
        }
        resume_with(merge);
    }
    printf("killed %d times\n", n_kills);
    assert_true(n_kills >= n_merges);
}

/* Without --resume the next run clears what is there, and says so. */
static void test_killed_and_not_resumed(void **unused)
{
    (void)unused;
    make_meant(TIES);
    interrupt(TIES);
    rc_merge merge = plain(TIES, "out");
    rc_outcome outcome = rc_run(&merge);
    assert_int_equal(outcome.status, LORS_OK);
    assert_int_equal(outcome.n_resumed, 0);
    need_note(&outcome, "removed");
    assert_true(rc_same_outputs("meant", "out"));
    assert_false(rm_exists(STAGING));
}

/* ---- Ended early ---------------------------------------------------------------------------- */

static void test_cancelled(void **unused)
{
    (void)unused;
    make_meant(LORS);
    int64_t n_kept = interrupt(LORS);
    rc_outcome outcome = resume_with(plain(LORS, "out"));
    assert_int_equal(outcome.n_resumed, n_kept);
    need_note(&outcome, "going on from");
}

/* What was over before it was worth a note leaves nothing. */
static void test_cancelled_at_once(void **unused)
{
    (void)unused;
    rc_merge merge = plain(TIES, "out");
    rm_remove("out");
    merge.cancel_at = 1;
    merge.n_threads = 1;
    merge.default_pace = true;
    rc_outcome outcome = rc_run(&merge);
    if (outcome.status != LORS_OK) { /* else it was through before it was asked */
        assert_int_equal(outcome.status, LORS_ERR_CANCELLED);
        assert_string_equal(outcome.sentence, "interrupted: nothing was written");
        assert_false(rm_exists(STAGING));
    }
    merge.cancel_at = 0;
    merge.resume = merge.force = true;
    outcome = rc_run(&merge);
    assert_int_equal(outcome.status, LORS_OK);
    need_note(&outcome, "no interrupted run has left anything");
}

/* A disk that is full from some write on: what could be noted is kept and said, else nothing is. */
static void test_full_disk(void **unused)
{
    (void)unused;
    make_meant(TIES);
    rc_merge merge = plain(TIES, "out");
    rm_remove("out");
    merge.n_threads = 1;
    int64_t n_writes = rc_run(&merge).n_writes;
    int n_kept = 0, n_points = is_thorough() ? 8 : 3;
    for (int i = 0; i < n_points; i++) {
        rm_remove("out");
        merge.full_at = 1 + i * n_writes / n_points;
        rc_outcome outcome = rc_run(&merge);
        if (outcome.n_writes < merge.full_at) { /* more tensors were noted at once than before */
            assert_int_equal(outcome.status, LORS_OK);
            continue;
        }
        assert_int_equal(outcome.status, LORS_ERR_IO);
        assert_non_null(strstr(outcome.sentence, "No space left"));
        assert_int_equal(strstr(outcome.sentence, "--resume") != NULL, rm_exists(STAGING));
        assert_false(rm_exists("out"));
        if (rm_exists(STAGING)) {
            n_kept++;
            assert_true(resume_with(merge).n_resumed > 0);
        }
    }
    assert_true(n_kept >= n_points / 3);
}

/* After a sync of weights that failed nobody knows what the disk has: no later run may go on
 * from it. What the journal lost is merged again, and side files are written again anyway. */
static void test_failed_sync(void **unused)
{
    (void)unused;
    rc_merge merge = plain(TIES, "out");
    rm_remove("out");
    merge.n_threads = 1;
    int64_t n_syncs = rc_run(&merge).n_syncs;
    assert_true(n_syncs > 4);
    int n_weights = 0;
    make_meant(TIES);
    for (int64_t at = 1; at <= n_syncs; at += 1 + n_syncs / (is_thorough() ? 20 : 3)) {
        rm_remove("out");
        merge.no_sync_at = at;
        rc_outcome outcome = rc_run(&merge);
        bool weights = strstr(outcome.not_synced, ".safetensors") != NULL &&
                       !strstr(outcome.not_synced, ".json"); /* the index is a side file */
        if (!outcome.not_synced[0]) { /* there were not so many this time */
            continue;
        }
        assert_int_equal(outcome.status, LORS_ERR_IO);
        assert_int_equal(strstr(outcome.sentence, "--resume") != NULL, rm_exists(STAGING));
        assert_false(rm_exists("out"));
        assert_false(weights && rm_exists(STAGING));
        n_weights += weights;
        resume_with(merge);
    }
    assert_true(n_weights > 0);
}

/* ---- What does not agree -------------------------------------------------------------------- */

/* Resume what was interrupted: nothing is kept, and `why` is said. */
static void need_anew(rc_merge merge, const char *why)
{
    rc_outcome outcome = resume_with(merge);
    assert_int_equal(outcome.n_resumed, 0);
    need_note(&outcome, why);
    need_note(&outcome, "starting from the beginning");
}

static void test_other_recipe_or_options(void **unused)
{
    (void)unused;
    make_meant(OTHER);
    interrupt(TIES);
    need_anew(plain(OTHER, "out"), "the recipe changed since the interrupted run");
    rc_merge merge = plain(TIES, "meant");
    rm_remove("meant");
    merge.max_shard = shard_bytes / 2;
    merge_ok(merge);
    interrupt(TIES);
    merge.out = "out";
    need_anew(merge, "an option (dtype, seed, shards, exact, nonfinite) changed");
}

static void test_other_inputs(void **unused)
{
    static const struct timespec times[2] = {{1000000000, 0}, {1000000000, 0}};
    (void)unused;
    make_meant(TIES);
    interrupt(TIES);
    assert_int_equal(utimensat(AT_FDCWD, "m/model.safetensors", times, 0), 0);
    need_anew(plain(TIES, "out"), "m changed since the interrupted run");
    interrupt(TIES);
    rm_model *model = rm_read("n"); /* of the same size, with other values */
    rm_set(rm_get(model, "model.decoder.layers.0.fc1.weight"), 3, 0.125);
    rm_write(model, "n", 1);
    rm_free(model);
    rc_merge merge = plain(TIES, "meant");
    rm_remove("meant");
    merge_ok(merge);
    need_anew(plain(TIES, "out"), "n changed since the interrupted run");
    write_family();
}

/* The journal of another version: the first part behind the magic differs. */
static void test_other_version(void **unused)
{
    (void)unused;
    lors_journal *journal = NULL;
    const void *record = NULL;
    size_t n_bytes = 0;
    make_meant(TIES);
    for (size_t at = 0; at < 32; at += 16) {
        static const char *const why[] = {"the interrupted run was another merge",
                                          "the version of lors changed"};
        unsigned char identity[4096];
        interrupt(TIES);
        RM_OK(lors_journal_open(JOURNAL, 1 << 24, &journal));
        assert_true(lors_journal_next(journal, &record, &n_bytes));
        assert_true(n_bytes <= sizeof identity);
        memcpy(identity, record, n_bytes);
        identity[at] ^= 1;
        lors_journal_close(journal);
        assert_int_equal(unlink(JOURNAL), 0);
        RM_OK(lors_journal_create(JOURNAL, 0, &journal));
        lors_journal_add(journal, identity, n_bytes);
        RM_OK(lors_journal_sync(journal));
        lors_journal_close(journal);
        need_anew(plain(TIES, "out"), why[at / 16]);
    }
}

/* ---- Damage --------------------------------------------------------------------------------- */

static void flip(const char *path, off_t at)
{
    unsigned char byte = 0;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static off_t size_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

/* Of the weight files that are there, the one whose name is the nth; NULL: there are fewer. */
static const char *weight_file(int nth)
{
    static char path[512];
    struct dirent **entries = NULL;
    int n = scandir(STAGING, &entries, NULL, alphasort), found = 0;
    path[0] = '\0';
    for (int i = 0; i < n; i++) {
        if (strstr(entries[i]->d_name, ".safetensors") && found++ == nth) {
            snprintf(path, sizeof path, STAGING "/%s", entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    return path[0] ? path : NULL;
}

/* Where its data begin. */
static off_t data_of(const char *path)
{
    size_t n_bytes = 0;
    uint64_t header = 0;
    char *bytes = rm_read_bytes(path, &n_bytes);
    memcpy(&header, bytes, sizeof header);
    free(bytes);
    return (off_t)(8 + header);
}

static void damage(const char *path, int how)
{
    if (how == 0) { /* all tensors */
        for (off_t at = data_of(path), end = size_of(path); at < end; at += 16) {
            flip(path, at);
        }
    } else if (how == 1) { /* the header */
        flip(path, 20);
    } else if (how == 2) {
        assert_int_equal(truncate(path, data_of(path) + 1), 0);
    } else {
        assert_int_equal(unlink(path), 0);
    }
}

/* Every other weight file: what was finished in it is merged again, and that is said. */
static void test_damaged_weights(void **unused)
{
    (void)unused;
    shard_bytes = 3072; /* six */
    make_meant(TIES);
    for (int how = 0, n_others = 0; how < 4; how++) {
        int64_t n_kept = interrupt(TIES);
        for (int nth = 0; weight_file(nth); nth += how == 3 ? 1 : 2) {
            damage(weight_file(nth), how);
        }
        rc_outcome outcome = resume_with(plain(TIES, "out"));
        need_note(&outcome, outcome.n_resumed ? "their bytes are not there" : "starting from");
        n_others += outcome.n_resumed > 0; /* of the files between */
        assert_true(outcome.n_resumed < n_kept && (how < 3 || n_others > 0));
    }
}

/* A journal that is cut or flipped anywhere: fewer tensors are kept, or none. */
static void test_damaged_journal(void **unused)
{
    (void)unused;
    make_meant(TIES);
    int64_t n_fewer = 0;
    int n_points = is_thorough() ? 8 : 2;
    for (int i = 0; i < n_points; i++) {
        int64_t n_kept = interrupt(TIES);
        off_t at = size_of(JOURNAL) * i / (2 * n_points);
        if (i % 2 == 0) {
            flip(JOURNAL, at);
        } else {
            assert_int_equal(truncate(JOURNAL, at), 0);
        }
        n_fewer += resume_with(plain(TIES, "out")).n_resumed < n_kept;
    }
    assert_true(n_fewer > 0);
    interrupt(TIES);
    assert_int_equal(unlink(JOURNAL), 0);
    need_anew(plain(TIES, "out"), "no journal that can be read");
    interrupt(TIES); /* a link in its place is not followed */
    assert_int_equal(rename(JOURNAL, "elsewhere"), 0);
    assert_int_equal(symlink("../elsewhere", JOURNAL), 0);
    need_anew(plain(TIES, "out"), "no journal that can be read");
    assert_true(rm_exists("elsewhere"));
}

/* Weights that are a second name of somebody's file are not written into. */
static void test_linked_weights(void **unused)
{
    (void)unused;
    make_meant(TIES);
    interrupt(TIES);
    rm_remove("precious");
    assert_int_equal(link(weight_file(1), "precious"), 0);
    size_t n_bytes = 0, n_now = 0;
    char *before = rm_read_bytes("precious", &n_bytes);
    resume_with(plain(TIES, "out"));
    char *now = rm_read_bytes("precious", &n_now);
    assert_int_equal(n_now, n_bytes);
    assert_memory_equal(before, now, n_bytes);
    free(before);
    free(now);
}

/* ---- Inputs that change during the run ------------------------------------------------------ */

static void cut_input(void)
{
    assert_int_equal(truncate("n/model.safetensors", 5000), 0);
}

static void spoil_input(void)
{
    int fd = open("n/model.safetensors", O_WRONLY);
    static unsigned char garbage[1 << 16];
    memset(garbage, 0xff, sizeof garbage); /* NaN, which would be refused for itself */
    for (off_t at = 4096; at < size_of("n/model.safetensors") - (off_t)sizeof garbage;
         at += (off_t)sizeof garbage) {
        assert_int_equal(pwrite(fd, garbage, sizeof garbage, at), (ssize_t)sizeof garbage);
    }
    close(fd);
}

static void replace_input(void)
{
    rm_remove("p");
    rm_model *model = rm_read("m");
    rm_write(model, "p", 1);
    rm_free(model);
    assert_int_equal(rename("p/model.safetensors", "n/model.safetensors"), 0);
}

static void test_inputs_that_change(void **unused)
{
    static const struct {
        void (*meddle)(void);
        const char *what;
    } changes[] = {{cut_input, "n/model.safetensors: was cut from "},
                   {spoil_input, "n/model.safetensors: was written to"},
                   {replace_input, "n/model.safetensors: was replaced by another file"}};
    (void)unused;
    for (int i = 0; i < 3; i++) {
        rc_merge merge = plain(TIES, "out");
        rm_remove("out");
        merge.n_threads = 1;
        merge.meddle = changes[i].meddle;
        rc_outcome outcome = rc_run(&merge);
        if (!strstr(outcome.sentence, changes[i].what)) {
            fprintf(stderr, "%d: %s\n", i, outcome.sentence);
        }
        assert_int_equal(outcome.status, LORS_ERR_IO);
        assert_non_null(strstr(outcome.sentence, changes[i].what));
        assert_false(rm_exists(STAGING));
        assert_false(rm_exists("out"));
        write_family();
    }
}

static void touch_side_file(void)
{
    assert_int_equal(utimensat(AT_FDCWD, "b/config.json", NULL, 0), 0);
}

/* The weights are what they were, so that what is finished is kept. */
static void test_side_files_that_change(void **unused)
{
    (void)unused;
    rc_merge merge = plain(TIES, "out");
    make_meant(TIES);
    rm_remove("out");
    merge.n_threads = 1;
    merge.meddle = touch_side_file;
    rc_outcome outcome = rc_run(&merge);
    assert_int_equal(outcome.status, LORS_ERR_IO);
    assert_non_null(strstr(outcome.sentence, "b/config.json: was written to"));
    assert_non_null(strstr(outcome.sentence, "--resume"));
    assert_false(rm_exists("out"));
    assert_true(resume_with(merge).n_resumed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_operations),
        cmocka_unit_test(test_killed_at_random_times),
        cmocka_unit_test(test_killed_and_not_resumed),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_cancelled_at_once),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_failed_sync),
        cmocka_unit_test(test_other_recipe_or_options),
        cmocka_unit_test(test_other_inputs),
        cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_damaged_journal),
        cmocka_unit_test(test_linked_weights),
        cmocka_unit_test(test_inputs_that_change),
        cmocka_unit_test(test_side_files_that_change),
        cmocka_unit_test(test_damaged_weights), /* last: it changes shard_bytes */
    };
    rm_work_in("resume-work");
    write_family();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

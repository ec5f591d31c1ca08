/* scene.c - the merge that the fault loops repeat, and what may be left of it.
 *
 * A base and two models of eight tensors: a recipe of two documents, low-rank parts and selection,
 * a sinusoid and integers that are copied, an output in several shards with an index, side files,
 * --verify. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <lors/lors.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "faults.h"
#include "io/staging.h"
#include "run/run_internal.h"
#include "run_models.h"
#include "tree.h"

#define LORS(model) \
    "merge_method: lors\nbase_model: b\nmodels: [{model: m, parameters: {weight: 1}}, " \
    "{model: " model ", parameters: {weight: 0.5}}]\n"

static const char recipe_text[] =
    "name: x\nmerge_method: ties\nbase_model: b\nmodels: [{model: m}, {model: n}]\n"
    "parameters: {weight: 1, density: 0.4}\n---\n" LORS(
        "x") "parameters: {rank: 2, density: 0.3, lambda: 0.5}\n";
static const char old_recipe[] = LORS("n") "parameters: {rank: 1, density: 0.1, lambda: 0.25}\n";

enum { TENSORS_LEFT = 3 }; /* that the interrupted run had finished */
static int n_written;      /* tensors, by it */
static const char left_in[] = "place/.out.lors-staging";

static tree old_output, new_output, left_behind;
static scene_words words;

/* The merge at hand. */
static struct {
    const char *recipe, *device;
    uint64_t max_memory;
    bool exact;
} now = {recipe_text, "cpu", 0, false};

/* run_models.c asks for it. */
void rm_check_ok(lors_status status, const char *what, const char *file, int line)
{
    if (status != LORS_OK) {
        die(file, line, what, "%s: %s", lors_status_name(status), lors_last_error());
    }
}

/* --- models ---------------------------------------------------------------------------------- */

static void write_models(void)
{
    static const char *const names[] = {"b", "m", "n"};
    rm_model *base = rm_new();
    rm_fill(rm_add(base, "model.encoder.embed_positions.weight", LORS_F16, 2, 6, 8, 0), 0.05, 1);
    rm_fill(rm_add(base, "model.decoder.embed_tokens.weight", LORS_F16, 2, 40, 8, 0), 0.05, 2);
    rm_fill(rm_add(base, "model.decoder.layers.0.self_attn.q_proj.weight", LORS_F16, 2, 16, 12, 0),
            0.05, 3);
    rm_fill(rm_add(base, "model.decoder.layers.0.self_attn.q_proj.bias", LORS_F16, 1, 16, 0, 0),
            0.05, 4);
    rm_fill(rm_add(base, "model.decoder.layers.0.fc1.weight", LORS_F16, 2, 80, 70, 0), 0.05, 5);
    rm_fill(rm_add(base, "model.decoder.layers.0.fc2.weight", LORS_F16, 2, 8, 16, 0), 0.05, 6);
    rm_fill(rm_add(base, "model.decoder.layer_norm.weight", LORS_F16, 1, 16, 0, 0), 0.05, 7);
    memset(rm_add(base, "position_ids", LORS_I64, 1, 4, 0, 0)->bytes, 7, 32);
    for (uint64_t i = 0; i < 3; i++) {
        rm_model *model = rm_clone(base);
        if (i > 0) {
            rm_tune(model, i, 0.01);
        }
        rm_write(model, names[i], i == 1 ? 2 : 1);
        rm_free(model);
    }
    rm_free(base);
}

/* --- the merge ------------------------------------------------------------------------------- */

static void keep_note(const char *sentence, void *user)
{
    (void)user;
    words.damaged = words.damaged || strstr(sentence, "their bytes are not there");
}

/* "...: 3 of 8 tensors are finished and kept in ..." */
static int64_t read_promise(const char *sentence)
{
    long long n = 0, n_all = 0;
    const char *end = strstr(sentence, " tensors are finished and kept in ");
    for (const char *at = end; at && at > sentence; at--) {
        if (at[-1] == ' ' && sscanf(at, "%lld of %lld", &n, &n_all) == 2) {
            return n;
        }
    }
    return 0;
}

static lors_status merge(const char *text, uint64_t shard_bytes, const lors_run_options *how,
                         int n_threads)
{
    lors_plan_options plan_options = LORS_PLAN_OPTIONS_INIT;
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    lors_report *report = NULL;
    char *shown = NULL;
    plan_options.device = now.device;
    plan_options.max_memory_bytes = now.max_memory;
    plan_options.exact = now.exact;
    plan_options.n_threads = n_threads;
    plan_options.max_shard_bytes = shard_bytes;
    lors_status status = lors_recipe_parse("recipe", text, strlen(text), NULL, &recipe);
    if (status == LORS_OK) {
        status = lors_plan_create(recipe, &plan_options, &plan);
    }
    if (status == LORS_OK) {
        status = lors_plan_json(plan, &shown);
    }
    lors_text_free(shown);
    words = (scene_words){0};
    if (status == LORS_OK) {
        status = lors_run(plan, "place/out", how, &report);
        words.n_promised = status == LORS_OK ? 0 : read_promise(lors_last_error());
    }
    if (report) {
        lors_report_summary summary;
        lors_report_summarize(report, &summary);
        words.n_resumed = summary.n_resumed;
    }
    lors_report_free(report);
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    return status;
}

static lors_run_options run_options(variant v)
{
    lors_run_options how = LORS_RUN_OPTIONS_INIT;
    how.verify = true;
    how.force = v != VARIANT_NEW;
    how.resume = v == VARIANT_RESUME;
    how.note = keep_note;
    return how;
}

lors_status scene_merge(variant v, int n_threads)
{
    lors_run_options how = run_options(v);
    return merge(now.recipe, 3000, &how, n_threads);
}

scene_words scene_said(void)
{
    return words;
}

void scene_use(const char *recipe, const char *device, uint64_t max_memory, bool exact)
{
    now.recipe = recipe ? recipe : recipe_text;
    now.device = "cpu";
    now.max_memory = 0;
    now.exact = exact;
    begin_point("scene", VARIANT_REPLACE, "%s", now.recipe);
    scene_reset(VARIANT_REPLACE);
    tree_clear(&new_output);
    RM_OK(scene_merge(VARIANT_REPLACE, 1));
    NEED(tree_read("place/out", &new_output), "the new output");
    now.device = device;
    now.max_memory = max_memory;
}

lors_status scene_merge_again(int n_threads)
{
    lors_run_options how = run_options(VARIANT_REPLACE);
    return merge(old_recipe, 2000, &how, n_threads);
}

lors_status scene_look(void)
{
    lors_checkpoint *a = NULL, *b = NULL;
    int64_t n_different = 0;
    lors_status status = lors_verify("place/out", NULL, NULL);
    if (status == LORS_OK) {
        status = lors_checkpoint_open("place/out", false, &a);
    }
    if (status == LORS_OK) {
        status = lors_checkpoint_open("b", false, &b);
    }
    if (status == LORS_OK) {
        status = lors_compare(a, b, NULL, NULL, &n_different);
    }
    NEED(status != LORS_OK || n_different > 0, "nothing differs");
    lors_checkpoint_close(a);
    lors_checkpoint_close(b);
    return status;
}

const tree *scene_old(variant v)
{
    return v == VARIANT_NEW ? NULL : &old_output;
}

const tree *scene_left(variant v)
{
    return v == VARIANT_RESUME ? &left_behind : NULL;
}

/* Slow, for the journal to keep pace; of tensors only so many are written. */
static ssize_t write_few(int fd, const void *buffer, size_t n_bytes, off_t offset)
{
    char name[32], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, path, sizeof path - 1);
    NEED(n > 0, "%s", name);
    path[n] = '\0';
    if (strstr(path, ".safetensors") && offset > 0 && n_written++ >= TENSORS_LEFT) {
        errno = EIO;
        return -1;
    }
    nanosleep(&(struct timespec){0, 40000000}, NULL);
    return pwrite(fd, buffer, n_bytes, offset);
}

/* Always at the same place, so that a point means the same in every run of these loops. On a busy
 * machine the journal may be late even so, and have nothing to note the rest behind. */
static void interrupt(void)
{
    const lors_file_ops *usual = lors_file_table();
    lors_file_ops few = *usual;
    lors_run_options how = run_options(VARIANT_REPLACE);
    few.pwrite = write_few;
    lors_file_set_table(&few);
    lors_run_journal_pace(1, 0);
    for (int i = 0; i < 50 && words.n_promised != TENSORS_LEFT; i++) {
        n_written = 0;
        NEED(merge(recipe_text, 3000, &how, 1) == LORS_ERR_IO, "an interrupted merge");
    }
    lors_run_journal_pace(0, 0);
    lors_file_set_table(usual);
    NEED(words.n_promised == TENSORS_LEFT, "what it keeps");
    NEED(tree_read(left_in, &left_behind), "what it leaves");
}

void scene_init(void)
{
    lors_run_options how = run_options(VARIANT_REPLACE);
    write_models();
    rm_remove("place");
    NEED(mkdir("place", 0777) == 0, "place");
    RM_OK(merge(old_recipe, 0, &how, 1));
    RM_OK(lors_verify("place/out", NULL, NULL));
    NEED(tree_read("place/out", &old_output), "the old output");
    RM_OK(scene_merge(VARIANT_REPLACE, 1));
    RM_OK(lors_verify("place/out", NULL, NULL));
    NEED(tree_read("place/out", &new_output), "the new output");
    interrupt();
    NEED(!tree_same(&old_output, &new_output, NULL), "the outputs are the same");
}

void scene_reset(variant v)
{
    rm_remove("place");
    NEED(mkdir("place", 0777) == 0, "place");
    if (v != VARIANT_NEW) {
        tree_write("place/out", &old_output);
    }
    if (v == VARIANT_RESUME) {
        tree_write(left_in, &left_behind);
    }
}

/* --- what is left ---------------------------------------------------------------------------- */

const char *outcome_name(outcome out)
{
    static const char *const names[] = {"nothing", "the old output", "the new output",
                                        "the old output, put aside", "something broken"};
    return names[out];
}

/* What is told only of some runs: of those that resume, of those that read or write anything. */
static bool is_of_run(const char *line, size_t n_bytes)
{
    return memmem(line, n_bytes, "\"resumed_tensors\"", 17) ||
           memmem(line, n_bytes, "\"bytes\"", 7);
}

/* What lors.json tells of, but not what it tells: a hash of all its other keys in order. */
static uint64_t keys_of_report(const tree *t)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < t->n; i++) {
        const char *at = (const char *)t->files[i].bytes, *end = at + t->files[i].n_bytes;
        while (strcmp(t->files[i].name, "lors.json") == 0 && at < end) {
            const char *line = memchr(at, '\n', (size_t)(end - at));
            size_t n_bytes = (size_t)((line ? line : end) - at);
            const char *key = is_of_run(at, n_bytes) ? NULL : memmem(at, n_bytes, "\": ", 3);
            for (const char *c = at; key && c < key; c++) {
                hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
            }
            at += n_bytes + 1;
        }
    }
    return hash;
}

outcome scene_outcome(void)
{
    tree found, aside;
    bool is_old, is_new;
    if (!tree_read("place/out", &found)) {
        bool kept =
            tree_read("place/.out.lors-old", &aside) && tree_same(&aside, &old_output, NULL);
        tree_clear(&aside);
        return kept ? OUT_ASIDE : rm_exists("place/out") ? OUT_BROKEN : OUT_NONE;
    }
    is_old = tree_same(&found, &old_output, NULL);
    is_new = tree_same(&found, &new_output, "lors.json") && /* which holds times */
             keys_of_report(&found) == keys_of_report(&new_output) &&
             lors_verify("place/out", NULL, NULL) == LORS_OK;
    tree_clear(&found);
    return is_old ? OUT_OLD : is_new ? OUT_NEW : OUT_BROKEN;
}

bool scene_is_clean(void)
{
    return rm_count_entries("place") == rm_exists("place/out");
}

/* What is left by an interrupted run may stay, and the next one goes on from it. */
static void check_resumes(void)
{
    if (rm_exists(left_in) && rm_count_entries("place") != 1 + rm_exists("place/out")) {
        fail_point("something is left beside the output and the staging folder");
    }
    lors_status status = scene_merge(VARIANT_RESUME, 1);
    if (status != LORS_OK || scene_outcome() != OUT_NEW || !scene_is_clean()) {
        fail_point("the next run: %s, place/out is %s", status ? lors_last_error() : "it succeeds",
                   outcome_name(scene_outcome()));
    }
}

void scene_check_sentence(lors_status status)
{
    const char *sentence = lors_last_error();
    size_t n_bytes = strlen(sentence);
    bool plain = n_bytes > 10 && n_bytes < 4096 && lors_utf8_valid(sentence, n_bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        plain = plain && (unsigned char)sentence[i] >= 0x20 && sentence[i] != 0x7f;
    }
    if (!plain) {
        fail_point("%s without a fit sentence: \"%s\"", lors_status_name(status), sentence);
    }
}

void scene_check_descriptors(void)
{
    static int n_before;
    int n = rm_count_entries("/proc/self/fd");
    if (n_before != 0 && n != n_before) {
        fail_point("%d files are open, before it were %d", n, n_before);
    }
    n_before = n;
}

void scene_check(variant v, lors_status status)
{
    char sentence[512];
    snprintf(sentence, sizeof sentence, "%s", lors_last_error()); /* verifying may fail, too */
    if (status != LORS_OK) {
        scene_check_sentence(status);
    }
    outcome found = scene_outcome(), before = v == VARIANT_NEW ? OUT_NONE : OUT_OLD;
    if (found != (status == LORS_OK ? OUT_NEW : before)) {
        fail_point("%s (%s), but place/out is %s", lors_status_name(status),
                   status == LORS_OK ? "" : sentence, outcome_name(found));
    }
    if (v == VARIANT_RESUME && status != LORS_OK) {
        check_resumes();
    } else if (!scene_is_clean()) {
        fail_point("%s (%s): something is left beside the output", lors_status_name(status),
                   status == LORS_OK ? "" : sentence);
    }
    scene_check_descriptors();
}

void scene_check_recovery(variant v)
{
    lors_staging *staging = NULL;
    outcome before = scene_outcome();
    lors_status status = lors_staging_open("place/out", true, &staging);
    if (status != LORS_OK) {
        fail_point("the next run is refused: %s", lors_last_error());
        return;
    }
    lors_staging_close(staging);
    outcome after = scene_outcome();
    bool good = after == OUT_NEW || after == (v == VARIANT_NEW ? OUT_NONE : OUT_OLD);
    if (!good || (before != OUT_ASIDE && before != after) || !scene_is_clean()) {
        fail_point("place/out was %s; the next run makes of it %s%s", outcome_name(before),
                   outcome_name(after), scene_is_clean() ? "" : " and leaves something");
    }
}

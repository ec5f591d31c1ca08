/* target_whole_merge.c - whole merges of tiny models that the input describes.
 *
 * merge_models.c draws the models from the input's bytes, this file the recipe and the options. Of
 * every run: a status that is documented; after a failure nothing is left; after a success the
 * folder verifies, holds what the plan says, and another run with other threads and memory writes
 * the same bytes. A third run over it with a failing allocation leaves a folder that verifies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/lors.h>

#include "base/memory.h"
#include "fuzz.h"
#include "merge_models.h"

enum { MAX_MODELS = 3, RECIPE_BYTES = 1024 };

typedef struct wishes {
    char recipe[RECIPE_BYTES];
    lors_plan_options plan;
    lors_run_options run;
} wishes;

/* --- recipe and options --------------------------------------------------------------------- */

static const char *draw_text(draw_from *in, const char *const *texts, unsigned n)
{
    return texts[draw_below(in, n)];
}

#define DRAW_TEXT(in, ...) \
    draw_text(in, (const char *const[]){__VA_ARGS__}, \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static unsigned draw_recipe(draw_from *in, char out[RECIPE_BYTES])
{
    const char *method = DRAW_TEXT(in, "lors", "ties", "task_arithmetic", "linear", "slerp");
    unsigned n_models = strcmp(method, "slerp") == 0 ? 1 : 1 + draw_below(in, MAX_MODELS);
    int n = snprintf(out, RECIPE_BYTES, "merge_method: %s\n%smodels:\n", method,
                     *method == 'l' && method[1] == 'i' ? "" : "base_model: base\n");
    for (unsigned k = 0; k < n_models; k++) {
        n += snprintf(out + n, RECIPE_BYTES - (size_t)n, "- model: m%u\n", k);
        if (strcmp(method, "slerp") != 0) {
            n += snprintf(out + n, RECIPE_BYTES - (size_t)n, "  parameters: {weight: %s}\n",
                          DRAW_TEXT(in, "1", "0.5", "-0.25", "0", "[0, 1]", "1e30", "1e-30"));
        }
    }
    n += snprintf(out + n, RECIPE_BYTES - (size_t)n, "parameters:\n  outside: %s\n%s",
                  *method == 's' ? "base" : DRAW_TEXT(in, "base", "weighted"),
                  DRAW_TEXT(in, "", "  scope: \"regex:.*weight\"\n", "  scope: decoder\n",
                            "  merge_encoder_positions: true\n"));
    if (strcmp(method, "slerp") == 0) {
        n += snprintf(out + n, RECIPE_BYTES - (size_t)n, "  t: %s\n",
                      DRAW_TEXT(in, "0.5", "0", "1", "0.001"));
    }
    if (strcmp(method, "lors") == 0 || strcmp(method, "ties") == 0) {
        n += snprintf(out + n, RECIPE_BYTES - (size_t)n, "  density: %s\n",
                      DRAW_TEXT(in, "0.5", "0", "1", "0.01", "0.999"));
    }
    if (strcmp(method, "lors") == 0) {
        n += snprintf(
            out + n, RECIPE_BYTES - (size_t)n, "  rank: %s\n",
            DRAW_TEXT(in, "1", "0", "3", "100", "\"50%\"", "{energy: 0.9}", "{energy: 1}"));
    }
    FUZZ_NEED(n > 0 && n < RECIPE_BYTES, "a recipe of %d bytes", n);
    return n_models;
}

static void draw_options(draw_from *in, wishes *w)
{
    static const uint64_t shards[] = {0, 100, 1000, 1}, memory[] = {0, 0, 300000000, 120000000};
    static const char *const dtypes[] = {NULL, "f32", "f16", "bf16"};
    w->plan = (lors_plan_options)LORS_PLAN_OPTIONS_INIT;
    w->run = (lors_run_options)LORS_RUN_OPTIONS_INIT;
    w->plan.device = "cpu";
    w->plan.n_threads = 1 + (int32_t)draw_below(in, 3);
    w->plan.max_memory_bytes = memory[draw_below(in, 4)];
    w->plan.max_shard_bytes = shards[draw_below(in, 4)];
    w->plan.out_dtype = dtypes[draw_below(in, 4)];
    w->plan.exact = draw_byte(in) > 200;
    w->run.verify = draw_byte(in) % 2 == 0;
    w->run.nonfinite = (lors_nonfinite)draw_below(in, 3);
    w->run.verify_tensors = (int64_t)draw_below(in, 3) - 1;
}

/* --- runs ----------------------------------------------------------------------------------- */

static void check_output(const lors_plan *plan, const char *out)
{
    lors_checkpoint *written = NULL;
    int64_t n = lors_plan_job_count(plan), n_files = 0;
    FUZZ_NEED(lors_verify(out, &n_files, NULL) == LORS_OK && n_files > 0, "it does not verify");
    FUZZ_NEED(lors_checkpoint_open(out, false, &written) == LORS_OK, "it cannot be opened");
    FUZZ_NEED(lors_checkpoint_count(written) == n, "tensors");
    for (int64_t j = 0; j < n; j++) {
        lors_job_info job;
        lors_tensor_info tensor = {0};
        lors_plan_job(plan, j, &job);
        for (int64_t i = 0; i < n; i++) {
            lors_checkpoint_tensor(written, i, &tensor);
            if (strcmp(tensor.name, job.name) == 0) {
                break;
            }
        }
        FUZZ_NEED(strcmp(tensor.name, job.name) == 0, "'%s' is missing", job.name);
        FUZZ_NEED(strcmp(tensor.dtype, job.dtype) == 0, "type of '%s'", job.name);
        FUZZ_NEED(tensor.n_dims == job.n_dims && tensor.n_elements == job.n_elements &&
                      memcmp(tensor.shape, job.shape, (size_t)job.n_dims * sizeof(int64_t)) == 0,
                  "shape of '%s'", job.name);
    }
    lors_checkpoint_close(written);
}

/* Of the output itself, too, unless there was one before. */
static void check_nothing_left(int first)
{
    static const char *const paths[] = {"out", ".out.lors-lock", ".out.lors-staging",
                                        ".out.lors-old"};
    for (int i = first; i < 4; i++) {
        FUZZ_NEED(!fuzz_exists(paths[i]), "%s is left", paths[i]);
    }
}

static lors_status merge(const wishes *w, const char *out)
{
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    lors_status status = lors_recipe_parse("recipe", w->recipe, strlen(w->recipe), NULL, &recipe);
    if (status == LORS_OK) {
        status = lors_plan_create(recipe, &w->plan, &plan);
    }
    if (status == LORS_OK) {
        status = lors_run(plan, out, &w->run, NULL);
    }
    fuzz_allocations_work(); /* the run is over, what looks at it may not fail */
    if (status == LORS_OK) {
        check_output(plan, out);
    }
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    return status;
}

static void check_same_file(const char *name)
{
    char a[64], b[64];
    size_t n_a = 0, n_b = 0;
    snprintf(a, sizeof a, "out/%s", name);
    snprintf(b, sizeof b, "again/%s", name);
    char *bytes_a = fuzz_read(a, &n_a), *bytes_b = fuzz_read(b, &n_b);
    FUZZ_NEED(!bytes_a == !bytes_b, "%s is in one folder", name);
    FUZZ_NEED(!bytes_a || (n_a == n_b && memcmp(bytes_a, bytes_b, n_a) == 0), "%s differs", name);
    free(bytes_a);
    free(bytes_b);
}

static void check_same_model(void)
{
    lors_checkpoint *out = NULL, *again = NULL;
    FUZZ_NEED(lors_checkpoint_open("out", false, &out) == LORS_OK, "out");
    FUZZ_NEED(lors_checkpoint_open("again", false, &again) == LORS_OK, "again");
    for (int64_t i = 0; i < lors_checkpoint_count(out); i++) {
        lors_tensor_info tensor;
        lors_checkpoint_tensor(out, i, &tensor);
        check_same_file(tensor.file);
    }
    check_same_file("config.json");
    check_same_file("model.safetensors.index.json");
    lors_checkpoint_close(out);
    lors_checkpoint_close(again);
}

/* A run that replaces `out` and fails somewhere within: there is still a whole model. */
static void merge_over_with_failure(wishes *w, uint64_t hash)
{
    w->run.force = true;
    lors_alloc_fail_at(1 + (hash >> 1) % 2000, hash & 1);
    lors_status status = merge(w, "out");
    FUZZ_NEED(status == LORS_OK || status == LORS_ERR_LIMIT, "%s", lors_status_name(status));
    check_nothing_left(1);
    FUZZ_NEED(lors_verify("out", NULL, NULL) == LORS_OK, "what is left does not verify");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool prepared;
    draw_from in = {data, size, 0};
    wishes w;
    if (!prepared) {
        fuzz_files_init();
        prepared = true;
    }
    fuzz_remove("out");
    fuzz_remove("again");
    draw_options(&in, &w);
    merge_models_write(&in, draw_recipe(&in, w.recipe));

    lors_status status = merge(&w, "out");
    fuzz_check_status(status, FUZZ_STATUS(RECIPE) | FUZZ_STATUS(INPUT) | FUZZ_STATUS(MISMATCH) |
                                  FUZZ_STATUS(NUMERICS) | FUZZ_STATUS(LIMIT));
    /* What --verify finds is never the input's fault. */
    FUZZ_NEED(status == LORS_OK || !strstr(lors_last_error(), "--verify:"), "found by verify");
    if (status != LORS_OK) {
        check_nothing_left(0);
        return 0;
    }
    wishes other = w;
    other.plan.n_threads = w.plan.n_threads % 3 + 1;
    other.plan.max_memory_bytes = 0;
    other.run.verify = !w.run.verify;
    FUZZ_NEED(merge(&other, "again") == LORS_OK, "the second run failed");
    check_same_model();
    merge_over_with_failure(&w, fuzz_hash(data, size));
    return 0;
}

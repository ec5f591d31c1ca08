/* target_plan.c - a recipe and the headers of its models into a plan, all in one input.
 *
 * The input is text in sections, each behind a line "#### NAME": `recipe` (its models are the
 * folders base, a and b), `options` (memory, threads, shard size, exact, dtype), a header's JSON
 * for each of base, a, b, and their config.json as base.json, a.json, b.json. No weight is ever
 * read: the files behind the headers are holes of the size that their tensors ask for. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/lors.h>

#include "base/memory.h"
#include "fuzz.h"
#include "st_reference.h"

enum { N_FOLDERS = 3 };
#define LARGEST_FILE ((uint64_t)1 << 40)

static const char *const folders[N_FOLDERS] = {"base", "a", "b"};

typedef struct section {
    const char *bytes; /* NULL: not in the input */
    size_t n_bytes;
} section;

static section find_section(const char *text, const char *name)
{
    char mark[40];
    int n_mark = snprintf(mark, sizeof mark, "#### %s\n", name);
    const char *start = strstr(text, mark);
    if (!start) {
        return (section){NULL, 0};
    }
    start += n_mark;
    const char *end = strstr(start, "#### ");
    return (section){start, end ? (size_t)(end - start) : strlen(start)};
}

/* --- files ---------------------------------------------------------------------------------- */

static bool write_weights(const char *path, section json)
{
    st_ref ref;
    uint8_t *file = calloc(1, json.n_bytes + 8);
    FUZZ_NEED(file, "no memory");
    for (int i = 0; i < 8; i++) {
        file[i] = (uint8_t)((uint64_t)json.n_bytes >> 8 * i);
    }
    memcpy(file + 8, json.bytes, json.n_bytes);
    st_ref_read(file, json.n_bytes + 8, UINT64_MAX / 2, &ref);
    bool fits = ref.last_end < LARGEST_FILE &&
                fuzz_write_sparse(path, file, json.n_bytes + 8, json.n_bytes + 8 + ref.last_end);
    st_ref_free(&ref);
    free(file);
    return fits;
}

/* False: a file would be larger than what is tried here. */
static bool write_models(const char *text)
{
    for (int i = 0; i < N_FOLDERS; i++) {
        char path[40], name[16];
        snprintf(path, sizeof path, "%s/model.safetensors", folders[i]);
        section weights = find_section(text, folders[i]);
        if (weights.bytes && !write_weights(path, weights)) {
            return false;
        }
        if (!weights.bytes) {
            fuzz_remove(path);
        }
        snprintf(name, sizeof name, "%s.json", folders[i]);
        snprintf(path, sizeof path, "%s/config.json", folders[i]);
        section config = find_section(text, name);
        if (config.bytes) {
            fuzz_write(path, config.bytes, config.n_bytes);
        } else {
            fuzz_remove(path);
        }
    }
    return true;
}

/* --- the plan ------------------------------------------------------------------------------- */

static lors_plan_options read_options(const char *text, char dtype[16])
{
    lors_plan_options options = LORS_PLAN_OPTIONS_INIT;
    section found = find_section(text, "options");
    char line[128];
    unsigned exact = 0;
    unsigned long long memory = 0, shard = 0;
    *dtype = '\0';
    snprintf(line, sizeof line, "%.*s", (int)(found.n_bytes < 127 ? found.n_bytes : 127),
             found.bytes ? found.bytes : "");
    sscanf(line, "%llu %" SCNd32 " %llu %u %15s", &memory, &options.n_threads, &shard, &exact,
           dtype);
    options.max_memory_bytes = memory;
    options.max_shard_bytes = shard;
    options.n_threads = options.n_threads % 64;
    options.exact = exact % 2;
    options.out_dtype = *dtype ? dtype : NULL;
    options.device = "cpu";
    return options;
}

static void check_plan(const lors_plan *plan)
{
    lors_plan_summary sum;
    __uint128_t n_written = 0, n_elements = 0;
    int64_t n_of[3] = {0};
    lors_plan_summarize(plan, &sum);
    FUZZ_NEED(lors_plan_job_count(plan) == sum.n_tensors, "%" PRId64 " tensors", sum.n_tensors);
    for (int64_t j = 0; j < sum.n_tensors; j++) {
        lors_job_info job;
        lors_plan_job(plan, j, &job);
        n_of[job.treatment]++;
        n_written += job.write_bytes;
        n_elements += job.n_elements;
        FUZZ_NEED(*job.reason || job.treatment == LORS_TREAT_METHOD, "'%s': no reason", job.name);
    }
    FUZZ_NEED(n_of[LORS_TREAT_METHOD] == sum.n_method && n_of[LORS_TREAT_COPY] == sum.n_copied &&
                  n_of[LORS_TREAT_WEIGHTED] == sum.n_weighted,
              "counts of treatments");
    FUZZ_NEED(n_elements == sum.n_elements, "%" PRIu64 " elements", sum.n_elements);
    FUZZ_NEED(n_written <= sum.write_bytes, "%" PRIu64 " bytes to write", sum.write_bytes);
    FUZZ_NEED(sum.peak_bytes <= sum.max_memory_bytes, "peak of %" PRIu64, sum.peak_bytes);
    FUZZ_NEED(sum.n_workers > 0 && sum.n_shards > 0, "%d workers", (int)sum.n_workers);
}

/* Make a plan; its JSON, or NULL. */
static char *plan_text(const lors_recipe *recipe, const lors_plan_options *options,
                       lors_status *status)
{
    lors_plan *plan = NULL;
    char *json = NULL;
    *status = lors_plan_create(recipe, options, &plan);
    FUZZ_NEED((*status == LORS_OK) == (plan != NULL), "a plan");
    if (plan) {
        check_plan(plan);
        *status = lors_plan_json(plan, &json);
    }
    lors_plan_free(plan);
    return json;
}

static void try_plan(const lors_recipe *recipe, const lors_plan_options *options, uint64_t hash)
{
    lors_status good, status;
    fuzz_allocations_work();
    char *first = plan_text(recipe, options, &good);
    fuzz_check_status(good, FUZZ_STATUS(RECIPE) | FUZZ_STATUS(INPUT) | FUZZ_STATUS(MISMATCH) |
                                FUZZ_STATUS(IO) | FUZZ_STATUS(LIMIT) | FUZZ_STATUS(USAGE));
    FUZZ_NEED(good != LORS_ERR_USAGE || *options->out_dtype, "no wrong use");
    json_t *root = first ? json_loads(first, JSON_REJECT_DUPLICATES, NULL) : NULL;
    FUZZ_NEED(!first || json_is_object(root), "a plan that is no JSON");
    json_decref(root);

    fuzz_fail_one_allocation(hash);
    char *second = plan_text(recipe, options, &status);
    fuzz_allocations_work();
    FUZZ_NEED(status == good || status == LORS_ERR_LIMIT, "%s", lors_status_name(status));
    FUZZ_NEED(!first || !second || strcmp(first, second) == 0, "two plans:\n%s\n%s", first, second);
    lors_text_free(first);
    lors_text_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool prepared;
    lors_recipe *recipe = NULL;
    char dtype[16], *text = calloc(1, size + 1);
    FUZZ_NEED(text, "no memory");
    memcpy(text, data, size);
    for (int i = 0; i < N_FOLDERS && !prepared; i++) {
        fuzz_files_init();
        fuzz_mkdir(folders[i]);
    }
    prepared = true;
    section yaml = find_section(text, "recipe");
    lors_status status =
        lors_recipe_parse("recipe", yaml.bytes ? yaml.bytes : "", yaml.n_bytes, NULL, &recipe);
    /* Only its three folders: other paths are not part of the input. */
    bool inside = status == LORS_OK;
    for (int32_t i = 0; inside && i < lors_recipe_model_count(recipe); i++) {
        inside = lors_recipe_model_path(recipe, i)[0] != '/' &&
                 !strstr(lors_recipe_model_path(recipe, i), "..");
    }
    if (inside && write_models(text)) {
        lors_plan_options options = read_options(text, dtype);
        try_plan(recipe, &options, fuzz_hash(data, size));
    }
    lors_recipe_free(recipe);
    free(text);
    return 0;
}

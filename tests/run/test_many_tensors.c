/* test_many_tensors.c - what a merge of very many small tensors takes: the memory that its plan
 * says, and with --verify no more than is allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/threads.h"
#include "run/run_internal.h"
#include "run_models.h"

enum { MAX_NAME = 80 };

enum { FEW = 300, MANY = 15000, EMULATED = 2000 };

#define TIES \
    "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\nmodels:\n" \
    "- {model: m, parameters: {weight: 1}}\n- {model: n, parameters: {weight: 0.5}}\n" \
    "- {model: o, parameters: {weight: 0.5}}\n"

/* One element each. */
static void write_model(const char *folder, int n_tensors, float value)
{
    char path[64];
    size_t capacity = (size_t)n_tensors * (MAX_NAME + 80), n = 0;
    char *header = malloc(capacity);
    float *data = malloc((size_t)n_tensors * sizeof *data);
    assert_true(header && data);
    for (int i = 0; i < n_tensors; i++) {
        data[i] = value * (float)(i % 97);
        n += (size_t)snprintf(header + n, capacity - n,
                              "%c\"model.layers.%d.mlp.experts.%d.weight\":{\"dtype\":\"F32\","
                              "\"shape\":[1],\"data_offsets\":[%d,%d]}",
                              i == 0 ? '{' : ',', i / 100, i % 100, 4 * i, 4 * i + 4);
    }
    header[n++] = '}';
    while (n % 8 != 0) {
        header[n++] = ' ';
    }
    assert_int_equal(mkdir(folder, 0777), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *file = fopen(path, "wb");
    uint64_t length = n;
    assert_non_null(file);
    assert_int_equal(fwrite(&length, sizeof length, 1, file), 1);
    assert_int_equal(fwrite(header, n, 1, file), 1);
    assert_int_equal(fwrite(data, sizeof *data, (size_t)n_tensors, file), n_tensors);
    assert_int_equal(fclose(file), 0);
    snprintf(path, sizeof path, "%s/config.json", folder);
    rm_write_bytes(path, "{}", 2);
    free(header);
    free(data);
}

/* Is the peak what the library took, and not a sanitizer or an emulated device? */
static bool peak_is_ours(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    return !getenv("LORS_TEST_DEVICE");
#endif
}

static void write_family(const char *folder, int n_tensors)
{
    assert_int_equal(mkdir(folder, 0777), 0);
    assert_int_equal(chdir(folder), 0);
    write_model("b", n_tensors, 0.5F);
    write_model("m", n_tensors, 0.75F);
    write_model("n", n_tensors, 0.25F);
    write_model("o", n_tensors, 1.0F);
    assert_int_equal(chdir(".."), 0);
}

static int write_models(void **state)
{
    (void)state;
    rm_work_in("many-tensors");
    write_family("few", FEW);
    write_family("many", peak_is_ours() ? MANY : EMULATED);
    return 0;
}

typedef struct taken {
    uint64_t planned, peak, reported;
} taken;

/* In a process of its own, whose peak is that of this merge. */
static void merge(uint64_t max_shard_bytes, taken *out)
{
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    lors_report *report = NULL;
    lors_plan_summary planned;
    lors_report_summary summary;
    lors_plan_options options = LORS_PLAN_OPTIONS_INIT;
    options.n_threads = 2;
    options.max_shard_bytes = max_shard_bytes;
    RM_OK(lors_recipe_parse("recipe", TIES, strlen(TIES), NULL, &recipe));
    RM_OK(lors_plan_create(recipe, &options, &plan));
    lors_plan_summarize(plan, &planned);
    RM_OK(lors_run(plan, "out", NULL, &report));
    lors_report_summarize(report, &summary);
    *out = (taken){planned.peak_bytes, lors_peak_memory(), summary.peak_bytes};
    RM_OK(lors_verify("out", NULL, NULL));
    lors_report_free(report);
    lors_plan_free(plan);
    lors_recipe_free(recipe);
}

static taken apart(const char *family, uint64_t given, void (*act)(uint64_t given, taken *out))
{
    int ends[2], status = 0;
    taken out = {0};
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        assert_int_equal(chdir(family), 0);
        act(given, &out);
        _exit(write(ends[1], &out, sizeof out) == sizeof out ? 0 : 1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &out, sizeof out), sizeof out);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ends[0]);
    return out;
}

static taken merge_apart(const char *family, uint64_t max_shard_bytes)
{
    return apart(family, max_shard_bytes, merge);
}

/* What many tensors take more than few is planned, and not three times as much. */
static void check(uint64_t max_shard_bytes)
{
    taken few = merge_apart("few", max_shard_bytes), many = merge_apart("many", max_shard_bytes);
    uint64_t planned = many.planned - few.planned, grown = many.peak - few.peak;
    print_message("planned %llu, grown %llu\n", (unsigned long long)planned,
                  (unsigned long long)grown);
    assert_true(many.reported + (1 << 20) >= many.peak);
    if (peak_is_ours()) {
        assert_true(many.peak <= many.planned);
        assert_true(grown <= planned && planned <= 3 * grown);
    }
    rm_remove("few/out");
    rm_remove("many/out");
}

static void test_one_file(void **state)
{
    (void)state;
    check(0);
}

static void test_many_files(void **state)
{
    (void)state;
    check(16);
}

/* --verify has a second plan beside the first, and the output's headers: within the limit, or it is
 * refused before the work. */
static lors_status verify_within(uint64_t max_memory, uint64_t *peak)
{
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    lors_plan_options options = LORS_PLAN_OPTIONS_INIT;
    lors_run_options run_options = LORS_RUN_OPTIONS_INIT;
    options.n_threads = 1;
    options.max_memory_bytes = max_memory;
    run_options.verify = true;
    run_options.verify_tensors = -1;
    RM_OK(lors_recipe_parse("recipe", TIES, strlen(TIES), NULL, &recipe));
    lors_status status = lors_plan_create(recipe, &options, &plan);
    if (status == LORS_OK) {
        status = lors_run(plan, "out", &run_options, NULL);
    }
    *peak = lors_peak_memory();
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    return status;
}

/* The least, in steps, with which it is not refused. */
static void find_limit(uint64_t step, taken *out)
{
    lors_status status = LORS_ERR_LIMIT;
    for (uint64_t limit = 8 * step; status == LORS_ERR_LIMIT; limit += step) {
        status = verify_within(limit, &out->peak);
        out->planned = limit;
    }
    RM_OK(status);
}

static void test_verified(void **state)
{
    (void)state;
    taken few = apart("few", 8 << 20, find_limit), many = apart("many", 8 << 20, find_limit);
    uint64_t allowed = many.planned - few.planned, grown = many.peak - few.peak;
    rm_remove("few/out");
    rm_remove("many/out");
    print_message("allowed %llu, grown %llu\n", (unsigned long long)allowed,
                  (unsigned long long)grown);
    if (peak_is_ours()) {
        assert_true(many.peak <= many.planned);
        assert_true(grown <= allowed && allowed <= 3 * grown);
    }
}

/* Known before the work, not after it: lors.json and the index. */
static void test_too_many_for_the_report(void **state)
{
    (void)state;
    lors_ckpt_tensor source = {.n_dims = 2};
    lors_job job = {.name = "w", .origin = "", .reason = "", .source = &source, .n_models = 1000};
    lors_plan plan = {.jobs = &job, .n_jobs = 1, .n_all_jobs = 1};
    RM_OK(lors_report_check_size(&plan));
    job.n_models = 5000000;
    assert_int_equal(lors_report_check_size(&plan), LORS_ERR_LIMIT);
    assert_non_null(strstr(lors_last_error(), "merge fewer models at a time"));
    char *name = malloc(100000001);
    assert_non_null(name);
    memset(name, 'w', 100000000);
    name[100000000] = '\0';
    job.n_models = 2;
    job.name = name;
    RM_OK(lors_report_check_size(&plan)); /* of one file there is no index */
    plan.n_shards = 2;
    assert_int_equal(lors_report_check_size(&plan), LORS_ERR_LIMIT);
    assert_non_null(strstr(lors_last_error(), "raise --max-shard-size"));
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_file),
        cmocka_unit_test(test_many_files),
        cmocka_unit_test(test_verified),
        cmocka_unit_test(test_too_many_for_the_report),
    };
    return cmocka_run_group_tests(tests, write_models, NULL);
}

/* test_threads.c - the same bytes for any number of threads and any memory limit, however read.
 *
 * An embedding of 3 Mi elements is cut into units where memory is short, so that ties and slerp
 * survey it phase by phase; many small tensors beside it keep all workers busy. Nor does it matter
 * how the thread that asks for the merge rounds. The thread sanitizer and emulated devices run
 * this, too, on less and with fewer combinations.
 */
#include <fenv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run_models.h"

enum { ROWS = 6144, MANY_COLUMNS = 512, FEW_COLUMNS = 160 /* just under 1 Mi elements */ };

static bool is_thorough(void)
{
#if defined(__SANITIZE_THREAD__)
    return false;
#else
    return getenv("LORS_EMULATED") == NULL;
#endif
}

#define EMBEDDING "model.decoder.embed_tokens.weight"
#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"

static const char *const recipes[] = {
    "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" TWO,
    "merge_method: slerp\nbase_model: b\nmodels: [{model: m}]\nparameters: {t: 0.4}\n",
    "merge_method: task_arithmetic\nbase_model: b\nparameters: {lambda: 0.7}\n" TWO,
    "merge_method: linear\n" TWO,
    "merge_method: lors\nbase_model: b\nparameters: {rank: 5, density: 0.1}\n" TWO,
    "name: s\nmerge_method: slerp\nbase_model: b\nmodels: [{model: m}]\nparameters: {t: 0.4}\n"
    "---\nmerge_method: ties\nbase_model: s\nparameters: {density: 0.3}\n" TWO,
    "merge_method: tsv_m\nbase_model: b\n" TWO,
    "merge_method: knots\nbase_model: b\n" TWO,
};

/* Cheap noise in f16: the bits of 13 of its 16 bits of a counter, exponents around 2^-4. */
static void fill_fast(rm_tensor *tensor, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 1;
    for (uint64_t i = 0; i < tensor->n; i++) {
        state = state * 1664525u + 1013904223u;
        uint16_t half = (uint16_t)((state >> 16 & 0x87ff) | 0x2800 | (state >> 4 & 0x0400));
        memcpy(tensor->bytes + 2 * i, &half, 2);
    }
}

static void write_family(void)
{
    static const char *const folders[] = {"b", "m", "n"};
    for (uint32_t k = 0; k < 3; k++) {
        rm_model *model = rm_new();
        int64_t columns = is_thorough() ? MANY_COLUMNS : FEW_COLUMNS;
        fill_fast(rm_add(model, EMBEDDING, LORS_F16, 2, ROWS, columns, 0), k + 1);
        for (int i = 0; i < (is_thorough() ? 12 : 4); i++) {
            char name[64];
            snprintf(name, sizeof name, "model.decoder.layers.%d.fc1.weight", i);
            fill_fast(rm_add(model, name, LORS_F16, 2, 192, 96, 0), 100 * k + (uint32_t)i + 7);
            snprintf(name, sizeof name, "model.decoder.layers.%d.fc1.bias", i);
            fill_fast(rm_add(model, name, LORS_F16, 1, 20000 + i, 0, 0), 100 * k + (uint32_t)i);
        }
        rm_write(model, folders[k], 1);
        rm_free(model);
    }
}

/* Does it plan with so much memory, how many workers, is the embedding cut? */
static bool plans(const char *text, int32_t n_threads, uint64_t memory, int32_t *n_workers,
                  bool *cut)
{
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    lors_plan_options options = LORS_PLAN_OPTIONS_INIT;
    lors_plan_summary summary;
    options.n_threads = n_threads;
    options.max_memory_bytes = memory;
    RM_OK(lors_recipe_parse("recipe", text, strlen(text), NULL, &recipe));
    bool planned = lors_plan_create(recipe, &options, &plan) == LORS_OK;
    *cut = false;
    for (int64_t i = 0; planned && i < lors_plan_job_count(plan); i++) {
        lors_job_info job;
        lors_plan_job(plan, i, &job);
        *cut = *cut || (strcmp(job.name, EMBEDDING) == 0 && job.tiled);
    }
    if (planned) {
        lors_plan_summarize(plan, &summary);
        assert_true(summary.peak_bytes <= memory);
        *n_workers = summary.n_workers;
    }
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    return planned;
}

static uint64_t least_memory(const char *text)
{
    uint64_t low = 1 << 20, high = (uint64_t)1 << 30;
    int32_t n_workers;
    bool cut;
    while (high - low > 1 << 16) {
        uint64_t middle = low + (high - low) / 2;
        *(plans(text, 1, middle, &n_workers, &cut) ? &high : &low) = middle;
    }
    return high;
}

static void merge_with(const char *text, const char *out, int32_t n_threads, uint64_t memory)
{
    rm_options options = RM_OPTIONS_INIT;
    options.plan.n_threads = n_threads;
    options.plan.max_memory_bytes = memory;
    options.run.io = n_threads == 1 ? LORS_IO_BUFFERED : LORS_IO_DIRECT;
    rm_merge_ok(text, out, &options);
    if (strcmp(out, "first") != 0 &&
        !rm_same_files("out/model.safetensors", "first/model.safetensors")) {
        fprintf(stderr, "%d threads, %llu bytes: other bytes than with 1 thread\n%s", n_threads,
                (unsigned long long)memory, text);
        fail();
    }
}

static void check_recipe(const char *text, bool must_cut)
{
    static const int32_t threads[] = {2, 3, 8};
    int32_t n_workers = 0, most_workers_cut = 0;
    uint64_t least = least_memory(text);
    bool cut, any_cut = false;
    merge_with(text, "first", 1, (uint64_t)1 << 31);
    merge_with(text, "out", 1, least);
    for (uint64_t memory = least + (16 << 20); memory < (uint64_t)1 << 30;
         memory += memory / (is_thorough() ? 3 : 1)) {
        for (int i = is_thorough() ? 0 : 2; i < 3; i++) {
            assert_true(plans(text, threads[i], memory, &n_workers, &cut));
            any_cut = any_cut || cut;
            if (cut && n_workers > most_workers_cut) {
                most_workers_cut = n_workers;
            }
            merge_with(text, "out", threads[i], memory);
        }
    }
    assert_true(plans(text, 1, least, &n_workers, &cut));
    assert_true(!must_cut || any_cut || cut);
    /* Several workers on the units of one tensor: else the phases were never raced. */
    assert_true(!is_thorough() || !must_cut || most_workers_cut > 1);
}

static void test_ties(void **unused)
{
    (void)unused;
    check_recipe(recipes[0], true);
}

static void test_slerp(void **unused)
{
    (void)unused;
    check_recipe(recipes[1], true);
}

static void test_task_arithmetic(void **unused)
{
    (void)unused;
    check_recipe(recipes[2], true);
}

static void test_linear(void **unused)
{
    (void)unused;
    check_recipe(recipes[3], true);
}

static void test_lors(void **unused)
{
    (void)unused;
    check_recipe(recipes[4], false);
}

/* Groups of rows, whose sums no unit cuts; of few columns all groups are one unit. */
static void test_columns(void **unused)
{
    (void)unused;
    check_recipe("merge_method: nuslerp\n"
                 "parameters: {nuslerp_flatten: false, nuslerp_row_wise: true}\n" TWO,
                 is_thorough());
}

static void test_counts(void **unused)
{
    (void)unused;
    check_recipe("merge_method: ramplus_tl\nbase_model: b\nmodels: [{model: m}, {model: n}]\n",
                 true);
}

/* A host may round upwards, or make zeros of what is tiny: the threads that compute do not. */
static void test_arithmetic_of_the_host(void **unused)
{
    (void)unused;
    const char *text = "merge_method: task_arithmetic\nbase_model: b\n"
                       "parameters: {lambda: 0.75}\n" TWO;
    merge_with(text, "first", 1, (uint64_t)1 << 31);
    int rounding = fegetround();
    assert_int_equal(fesetround(FE_UPWARD), 0);
    merge_with(text, "out", 2, (uint64_t)1 << 31);
    fesetround(rounding);
}

/* A failure in one worker while others wait for its phase must not leave them waiting. */
static void test_failure_stops_all(void **unused)
{
    (void)unused;
    rm_model *model = rm_read("m");
    rm_tensor *tensor = rm_get(model, EMBEDDING);
    const uint16_t nan = 0x7e00;
    memcpy(tensor->bytes + tensor->n_bytes - 2, &nan, 2);
    rm_write(model, "m", 1);
    rm_free(model);
    for (int i = 0; i < 2; i++) {
        rm_options options = RM_OPTIONS_INIT;
        options.plan.n_threads = 8;
        options.plan.max_memory_bytes = least_memory(recipes[i]) + (64 << 20);
        rm_merge_fails(recipes[i], "out", &options, LORS_ERR_NUMERICS, EMBEDDING);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_slerp),
        cmocka_unit_test(test_task_arithmetic),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_lors),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_arithmetic_of_the_host),
        cmocka_unit_test(test_failure_stops_all),
    };
    rm_work_in("threads-work");
    write_family();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

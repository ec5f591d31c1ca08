/* test_devices.c - whole merges on the devices of the stand-in runtime: the same bytes as the CPU,
 * on one device or two, in any memory; and what is left when a device fails. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"
#define FIVE                                                                        \
    "models: [{model: m}, {model: n}, {model: b}, {model: o}, {model: p}]\nparameters: " \
    "{rank: 4, density: 0.2, lambda: 0.3}\n"

/* Methods that promise the same bits on every backend. */
static const char *const elementwise[] = {
    "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" TWO,
    "merge_method: slerp\nbase_model: b\nmodels: [{model: m}]\nparameters: {t: 0.4}\n",
    "merge_method: task_arithmetic\nbase_model: b\nparameters: {lambda: 0.7}\n" TWO,
    "merge_method: linear\n" TWO,
    "merge_method: ties\nbase_model: b\nparameters: {density: 1, weight: 1}\n"
    "models: [{model: m}, {model: p}]\n", /* which are equal */
};

static const char lors[] = "merge_method: lors\nbase_model: b\n" FIVE;

/* The controls of the stand-in: of the same library that the registry loaded. */
static struct {
    void (*fail_at)(long n);
    void (*fail_kind)(int fault);
    long (*calls)(void);
    size_t (*report)(void *counts);
    size_t (*complaints)(void);
    void (*seed)(unsigned long seed);
} standin;

static void find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    assert_non_null(symbol);
    memcpy(function, &symbol, sizeof symbol);
}

static void find_standin(void)
{
    assert_true(lors_device_count() > 1); /* loads it */
    void *library = dlopen(getenv("LORS_CUDA_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    find(library, "standin_fail_at", &standin.fail_at);
    find(library, "standin_fail_kind", &standin.fail_kind);
    find(library, "standin_calls", &standin.calls);
    find(library, "standin_report", &standin.report);
    find(library, "standin_complaints", &standin.complaints);
    find(library, "standin_seed", &standin.seed);
}

static rm_options on(const char *device)
{
    rm_options options = RM_OPTIONS_INIT;
    options.plan.device = device;
    options.plan.n_threads = 3;
    return options;
}

/* A Whisper, and two tensors larger than it: a matrix that block Lanczos takes, and an embedding of
 * several units. m and n are tuned, o has only its embedding changed, p is m once more. */
static void write_family(lors_dtype dtype)
{
    static const char *const names[] = {"b", "m", "n", "o", "p"};
    rm_model *base = rm_whisper(dtype, 1);
    rm_fill(rm_add(base, "model.decoder.layers.0.fc3.weight", dtype, 2, 200, 170, 0), 0.05, 9);
    rm_fill(rm_add(base, "model.decoder.embed_more.weight", dtype, 2, 700, 512, 0), 0.05, 10);
    for (uint64_t i = 0; i < 5; i++) {
        rm_model *model = rm_clone(base);
        if (i == 3) {
            rm_fill(rm_get(model, "model.decoder.embed_more.weight"), 0.05, 11);
        } else if (i > 0) {
            rm_tune(model, i == 4 ? 1 : i, 0.001);
        }
        rm_write(model, names[i], i == 2 ? 3 : 1);
        rm_free(model);
    }
    rm_free(base);
}

static void test_same_bytes_as_the_cpu(void **unused)
{
    static const lors_dtype dtypes[] = {LORS_F16, LORS_BF16, LORS_F32};
    (void)unused;
    for (int d = 0; d < 3; d++) {
        write_family(dtypes[d]);
        for (size_t i = 0; i < sizeof elementwise / sizeof *elementwise; i++) {
            rm_options cpu = on("cpu"), one = on("cuda:0"), all = on("cuda:all");
            one.plan.out_dtype = cpu.plan.out_dtype = all.plan.out_dtype = d == 1 ? "f32" : NULL;
            all.plan.max_shard_bytes = 500000;
            rm_merge_ok(elementwise[i], "on-cpu", &cpu);
            rm_merge_ok(elementwise[i], "on-one", &one);
            rm_merge_ok(elementwise[i], "on-all", &all);
            assert_true(rm_same_folders("on-cpu", "on-one"));
            assert_true(rm_same_folders("on-cpu", "on-all"));
        }
    }
}

/* Low-rank parts: the same bytes on one device or two, for any memory, batch, order of events. */
static void test_low_rank_is_the_same_anyhow(void **unused)
{
    rm_options one = on("cuda:0");
    lors_report_summary summary;
    (void)unused;
    write_family(LORS_F16);
    one.run.verify = true;
    one.run.verify_tensors = -1;
    RM_OK(rm_merge(lors, "on-one", &one, &summary));
    assert_true(summary.n_rechecked > 0 && summary.worst_ratio <= 1);
    for (unsigned long seed = 2; seed < 5; seed++) {
        rm_options all = on(seed % 2 ? "cuda:0,1" : "cuda:1,0");
        all.plan.n_threads = (int32_t)seed;
        all.plan.max_memory_bytes = seed == 2 ? 400000000 : 0;
        standin.seed(seed);
        rm_merge_ok(lors, "on-all", &all);
        assert_true(rm_same_folders("on-one", "on-all"));
    }
}

/* The least memory that a plan accepts gives the same bytes as plenty. */
static void test_least_memory(void **unused)
{
    uint64_t low = 1 << 20, high = (uint64_t)1 << 30;
    rm_options plenty = on("cuda:0"), least = on("cuda:0");
    (void)unused;
    least.plan.n_threads = 1;
    while (high - low > 1 << 18) {
        lors_recipe *recipe = NULL;
        lors_plan *plan = NULL;
        least.plan.max_memory_bytes = low + (high - low) / 2;
        RM_OK(lors_recipe_parse("recipe", lors, strlen(lors), NULL, &recipe));
        bool fits = lors_plan_create(recipe, &least.plan, &plan) == LORS_OK;
        *(fits ? &high : &low) = least.plan.max_memory_bytes;
        lors_plan_free(plan);
        lors_recipe_free(recipe);
    }
    least.plan.max_memory_bytes = high;
    rm_merge_ok(lors, "plenty", &plenty);
    rm_merge_ok(lors, "least", &least);
    assert_true(rm_same_folders("plenty", "least"));
}

/* A model that did not change leaves no trace, whatever the batch that it comes in; not even where
 * the base holds an infinity, of which changed models make NaN. */
static void test_unchanged_models_leave_no_trace(void **unused)
{
    static const char text[] =
        "merge_method: lors\nbase_model: b\nparameters: {rank: 4, density: 0.2, lambda: 1}\n"
        "models: [{model: m, parameters: {weight: 0}}, {model: n, parameters: {weight: 0}}, "
        "{model: o, parameters: {weight: 1}}]\n";
    static const char *const names[] = {"b", "m", "n", "o"};
    rm_options cpu = on("cpu"), gpu = on("cuda:0");
    (void)unused;
    write_family(LORS_F16);
    for (int i = 0; i < 4; i++) {
        rm_model *model = rm_read(names[i]);
        rm_set(rm_get(model, "model.decoder.layers.0.fc1.weight"), 5, INFINITY);
        rm_write(model, names[i], 1);
        rm_free(model);
    }
    cpu.run.nonfinite = gpu.run.nonfinite = LORS_NONFINITE_PROPAGATE;
    gpu.run.verify = true;
    gpu.run.verify_tensors = -1;
    rm_merge_ok(text, "on-cpu", &cpu);
    rm_merge_ok(text, "on-one", &gpu);
    rm_model *a = rm_read("on-cpu"), *b = rm_read("on-one");
    const char *name = "model.decoder.layers.0.fc1.weight"; /* others hold low-rank parts */
    assert_memory_equal(rm_get(a, name)->bytes, rm_get(b, name)->bytes, rm_get(a, name)->n_bytes);
    rm_free(a);
    rm_free(b);
}

/* Stops when what was done begins anew: then it is being computed once more. */
static bool stop_second(const lors_progress *progress, void *user)
{
    uint64_t *last = user;
    bool again = progress->done_bytes < *last;
    *last = progress->done_bytes;
    return again;
}

static void test_verify_can_be_stopped(void **unused)
{
    rm_options options = on("cuda:0");
    uint64_t last = 0;
    (void)unused;
    write_family(LORS_F16);
    options.run.verify = true;
    options.run.progress = stop_second;
    options.run.user = &last;
    rm_merge_fails(lors, "out", &options, LORS_ERR_CANCELLED, "interrupted");
}

/* --- failures --------------------------------------------------------------------------------- */

/* Merge with the n-th call of the device failing. True where it failed; then nothing is left. */
static bool fails_at(const char *text, long n, int kind)
{
    rm_options options = on("cuda:0");
    options.plan.n_threads = 2;
    rm_remove("out");
    int before = rm_count_entries(".");
    standin.fail_kind(kind);
    standin.fail_at(n);
    lors_status status = rm_merge(text, "out", &options, NULL);
    standin.fail_at(0);
    standin.fail_kind(0);
    size_t alive = standin.report(NULL);
    if (alive != 0) {
        fprintf(stderr, "call %ld failed (kind %d): %zu objects are left\n", n, kind, alive);
        fail();
    }
    if (status == LORS_OK) {
        assert_true(rm_exists("out"));
        return false;
    }
    if (status != LORS_ERR_DEVICE && status != LORS_ERR_LIMIT) {
        fprintf(stderr, "call %ld failed: %s: %s\n", n, lors_status_name(status),
                lors_last_error());
        fail();
    }
    assert_true(strlen(lors_last_error()) > 10);
    assert_false(rm_exists("out"));
    assert_int_equal(rm_count_entries("."), before);
    return true;
}

static long calls_of(const char *text)
{
    rm_options options = on("cuda:0");
    options.plan.n_threads = 2;
    standin.fail_at(0);
    rm_merge_ok(text, "out", &options);
    rm_remove("out");
    return standin.calls();
}

/* Every call in turn near the ends, every some in the middle; those that fail once, and those that
 * lose the device. A failed allocation may be survived: less memory does, too. */
static void fault_loop(const char *text, long step)
{
    long n_calls = calls_of(text), n_failed = 0, n_tried = 0;
    for (long n = 1; n <= n_calls; n += n < 60 || n > n_calls - 20 ? 1 : step) {
        for (int kind = 1; kind <= 2; kind++) {
            n_failed += fails_at(text, n, kind);
            n_tried++;
        }
    }
    print_message("%ld calls of the device, %ld faults, %ld merges refused\n", n_calls, n_tried,
                  n_failed);
    assert_true(n_failed > n_tried / 2);
    rm_options options = on("cuda:0");
    rm_merge_ok(text, "after", &options); /* all is well again */
    rm_remove("after");
}

static void write_small_family(void)
{
    static const char *const names[] = {"b", "m", "n", "o", "p"};
    rm_model *base = rm_new();
    rm_fill(rm_add(base, "model.decoder.layers.0.fc1.weight", LORS_F16, 2, 20, 12, 0), 0.05, 9);
    rm_fill(rm_add(base, "model.decoder.layers.0.fc1.bias", LORS_F16, 1, 30, 0, 0), 0.05, 10);
    rm_write_tuned(base, names, 5, 0.001);
    rm_free(base);
}

static void test_faults_of_elementwise_merges(void **unused)
{
    (void)unused;
    write_small_family();
    fault_loop(elementwise[0], 7);
    fault_loop(elementwise[1], 7);
}

static void test_faults_of_low_rank_merges(void **unused)
{
    (void)unused;
    write_small_family();
    fault_loop(lors, 23);
}

static void test_names_of_devices(void **unused)
{
    static const struct {
        const char *device, *sentence;
        lors_status status;
    } wrong[] = {
        {"cuda:7", "cuda:7", LORS_ERR_DEVICE},      {"cuda:0,0", "twice", LORS_ERR_USAGE},
        {"cuda:", "cuda:0,1", LORS_ERR_USAGE},      {"cuda:0,", "cuda:0,1", LORS_ERR_USAGE},
        {"cuda:x", "cuda:0,1", LORS_ERR_USAGE},     {"cudax", "unknown device", LORS_ERR_USAGE},
        {"gpu", "unknown device", LORS_ERR_USAGE},  {"cuda:99999", "cuda:0,1", LORS_ERR_USAGE},
        {"cuda:-1", "cuda:0,1", LORS_ERR_USAGE},
    };
    (void)unused;
    write_small_family();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        rm_options options = on(wrong[i].device);
        rm_merge_fails(lors, "out", &options, wrong[i].status, wrong[i].sentence);
    }
}

static void test_no_misuse(void **unused)
{
    (void)unused;
    assert_int_equal(standin.complaints(), 0);
    assert_int_equal(standin.report(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes_as_the_cpu),
        cmocka_unit_test(test_low_rank_is_the_same_anyhow),
        cmocka_unit_test(test_least_memory),
        cmocka_unit_test(test_unchanged_models_leave_no_trace),
        cmocka_unit_test(test_verify_can_be_stopped),
        cmocka_unit_test(test_faults_of_elementwise_merges),
        cmocka_unit_test(test_faults_of_low_rank_merges),
        cmocka_unit_test(test_names_of_devices),
        cmocka_unit_test(test_no_misuse),
    };
    find_standin();
    rm_work_in("devices-work");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_refusals.c - merges that must not happen: bad numbers, models that do not belong together,
 * bad places for the output, interrupts. Each ends in one sentence and leaves nothing behind. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"
#define TASK "merge_method: task_arithmetic\nbase_model: b\n" TWO
#define LINEAR "merge_method: linear\n" TWO
#define TIES "merge_method: ties\nbase_model: b\nparameters: {density: 0.5}\n" TWO
#define LORS "merge_method: lors\nbase_model: b\n" TWO
#define SLERP \
    "merge_method: slerp\nbase_model: b\nmodels: [{model: m}]\nparameters: {t: 0.5}\n"
#define WEIGHT "model.decoder.layers.0.fc1.weight"

static const char *const all_recipes[] = {TASK, LINEAR, TIES, LORS, SLERP};
enum { N_RECIPES = 5 };

static void write_family(lors_dtype dtype)
{
    rm_model *base = rm_whisper(dtype, 1), *model = rm_clone(base);
    rm_write(base, "b", 1);
    rm_tune(model, 2, 0.01);
    rm_write(model, "m", 1);
    rm_tune(model, 3, 0.01);
    rm_write(model, "n", 1);
    rm_free(base);
    rm_free(model);
}

static void set_value(const char *folder, const char *name, uint64_t at, double value)
{
    rm_model *model = rm_read(folder);
    rm_set(rm_get(model, name), at, value);
    rm_write(model, folder, 1);
    rm_free(model);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static void test_nonfinite_inputs_refused(void **unused)
{
    static const lors_dtype dtypes[] = {LORS_F32, LORS_F16, LORS_BF16};
    static const double values[] = {NAN, INFINITY, -INFINITY};
    (void)unused;
    for (int i = 0; i < 3; i++) {
        for (int v = 0; v < 3; v++) {
            write_family(dtypes[i]);
            set_value("m", WEIGHT, 77, values[v]);
            for (int r = 0; r < N_RECIPES; r++) {
                rm_merge_fails(all_recipes[r], "out", NULL, LORS_ERR_NUMERICS, WEIGHT);
                rm_merge_fails(all_recipes[r], "out", NULL, LORS_ERR_NUMERICS, "index 77");
            }
            write_family(dtypes[i]);
            set_value("b", WEIGHT, 5, values[v]);
            rm_merge_fails(LORS, "out", NULL, LORS_ERR_NUMERICS, "index 5");
            rm_merge_fails(SLERP, "out", NULL, LORS_ERR_NUMERICS, "index 5");
        }
    }
}

static int count_nonfinite(const char *folder)
{
    int count = 0;
    rm_model *model = rm_read(folder);
    for (int i = 0; i < model->n; i++) {
        const rm_tensor *tensor = &model->tensors[i];
        for (uint64_t at = 0; lors_dtype_merges(tensor->dtype) && at < tensor->n; at++) {
            count += !isfinite(rm_value(tensor, at));
        }
    }
    rm_free(model);
    return count;
}

static void test_nonfinite_inputs_allowed(void **unused)
{
    (void)unused;
    for (int r = 0; r < N_RECIPES; r++) {
        rm_options options = RM_OPTIONS_INIT;
        lors_report_summary summary;
        write_family(LORS_F16);
        set_value("m", WEIGHT, 77, NAN);
        set_value("m", WEIGHT, 3, INFINITY);
        options.run.nonfinite = LORS_NONFINITE_PROPAGATE;
        RM_OK(rm_merge(all_recipes[r], "out", &options, &summary));
        assert_int_equal(summary.n_input_nonfinite, 2);
        /* By elements: those alone; lors and slerp look at the whole tensor. */
        assert_true(r == 2 || count_nonfinite("out") >= 2);
        assert_true(r > 1 || count_nonfinite("out") == 2);
        options.run.nonfinite = LORS_NONFINITE_ZERO;
        RM_OK(rm_merge(all_recipes[r], "out", &options, &summary));
        assert_int_equal(count_nonfinite("out"), 0);
        assert_int_equal(summary.n_input_nonfinite, 2);
        RM_OK(lors_verify("out", NULL, NULL));
    }
}

/* What is written for a NaN is one pattern, wherever it comes from. */
static void test_one_kind_of_nan(void **unused)
{
    static const uint16_t patterns[] = {0x7e00, 0xfe01, 0x7d00, 0xffff};
    rm_options options = RM_OPTIONS_INIT;
    (void)unused;
    options.run.nonfinite = LORS_NONFINITE_PROPAGATE;
    write_family(LORS_F16);
    rm_model *model = rm_read("m");
    memcpy(rm_get(model, WEIGHT)->bytes, patterns, sizeof patterns);
    rm_write(model, "m", 1);
    rm_free(model);
    for (int r = 0; r < 2; r++) {
        rm_merge_ok(all_recipes[r], "out", &options);
        rm_model *out = rm_read("out");
        for (int i = 0; i < 4; i++) {
            uint16_t bits;
            memcpy(&bits, rm_get(out, WEIGHT)->bytes + 2 * i, 2);
            assert_int_equal(bits, LORS_F16_NAN);
        }
        rm_free(out);
    }
}

static void test_overflow(void **unused)
{
    rm_options options = RM_OPTIONS_INIT;
    lors_report_summary summary;
    (void)unused;
    write_family(LORS_F16);
    set_value("b", WEIGHT, 9, 60000);
    set_value("m", WEIGHT, 9, 65504);
    set_value("n", WEIGHT, 9, 65504);
    rm_merge_fails(TASK, "out", NULL, LORS_ERR_NUMERICS, "index 9"); /* 60000 + 1.5 * 5504 */
    options.run.nonfinite = LORS_NONFINITE_PROPAGATE;
    RM_OK(rm_merge(TASK, "out", &options, &summary));
    assert_int_equal(summary.n_overflow, 1);
    assert_int_equal(count_nonfinite("out"), 1);
    options.run.nonfinite = LORS_NONFINITE_ZERO;
    RM_OK(rm_merge(TASK, "out", &options, &summary));
    assert_int_equal(count_nonfinite("out"), 0);
    options = (rm_options)RM_OPTIONS_INIT;
    options.plan.out_dtype = "f32";
    rm_merge_ok(TASK, "out", &options);
    /* A copy that another type cannot hold is an overflow, too. */
    write_family(LORS_F32);
    set_value("b", "model.encoder.embed_positions.weight", 0, 1e5);
    options.plan.out_dtype = "f16";
    rm_merge_fails(TASK, "out", &options, LORS_ERR_NUMERICS, "embed_positions");
    set_value("b", "model.encoder.embed_positions.weight", 0, 3.4e38);
    options.plan.out_dtype = "bf16"; /* rounds up to infinity */
    rm_merge_fails(TASK, "out", &options, LORS_ERR_NUMERICS, "embed_positions");
}

/* --- models that do not belong together ------------------------------------------------------- */

static void test_mismatches(void **unused)
{
    (void)unused;
    for (int r = 0; r < N_RECIPES; r++) {
        write_family(LORS_F32);
        rm_model *model = rm_read("m"), *other = rm_clone(model);
        rm_drop(other, WEIGHT);
        rm_write(other, "m", 1);
        rm_merge_fails(all_recipes[r], "out", NULL, LORS_ERR_MISMATCH, WEIGHT);
        rm_add(other, WEIGHT, LORS_F32, 2, 8, 16, 0); /* transposed: as many elements */
        rm_write(other, "m", 1);
        rm_merge_fails(all_recipes[r], "out", NULL, LORS_ERR_MISMATCH, "8,16");
        rm_free(other);
        other = rm_clone(model);
        rm_add(other, "model.decoder.layers.7.fc1.weight", LORS_F32, 2, 16, 8, 0);
        rm_write(other, "m", 1);
        rm_merge_fails(all_recipes[r], "out", NULL, LORS_ERR_MISMATCH, "layers.7");
        rm_free(other);
        rm_free(model);
    }
}

static void test_types_that_do_not_merge(void **unused)
{
    static const lors_dtype dtypes[] = {LORS_I32, LORS_F64, LORS_F8_E4M3, LORS_I8};
    (void)unused;
    for (int i = 0; i < 4; i++) {
        for (int who = 0; who < 2; who++) {
            write_family(LORS_F32);
            rm_model *model = rm_read(who ? "m" : "b");
            rm_drop(model, WEIGHT);
            rm_add(model, WEIGHT, dtypes[i], 2, 16, 8, 0);
            rm_write(model, who ? "m" : "b", 1);
            rm_merge_fails(TASK, "out", NULL, LORS_ERR_MISMATCH, lors_dtype_name(dtypes[i]));
            rm_merge_fails(LORS, "out", NULL, LORS_ERR_MISMATCH, WEIGHT);
            rm_free(model);
        }
    }
}

static void test_many_mismatches_are_counted(void **unused)
{
    (void)unused;
    write_family(LORS_F32);
    rm_model *model = rm_read("m");
    while (model->n > 20) {
        rm_drop(model, model->tensors[model->n - 1].name);
    }
    rm_write(model, "m", 1);
    rm_merge_fails(TASK, "out", NULL, LORS_ERR_MISMATCH, " more");
    rm_free(model);
}

static void test_vocabulary_and_architecture(void **unused)
{
    static const char config[] = "{\"architectures\": [\"LlamaForCausalLM\"]}";
    (void)unused;
    write_family(LORS_F32);
    rm_model *model = rm_read("m");
    rm_drop(model, "model.decoder.embed_tokens.weight");
    rm_add(model, "model.decoder.embed_tokens.weight", LORS_F32, 2, 41, 8, 0);
    rm_write(model, "m", 1);
    rm_merge_fails(TASK, "out", NULL, LORS_ERR_MISMATCH, "vocabular");
    rm_free(model);
    write_family(LORS_F32);
    rm_write_bytes("n/config.json", config, sizeof config - 1);
    rm_merge_fails(TASK, "out", NULL, LORS_ERR_MISMATCH, "LlamaForCausalLM");
    rm_merge_fails(LINEAR, "out", NULL, LORS_ERR_MISMATCH, "LlamaForCausalLM");
}

static void test_two_names_of_one_weight(void **unused)
{
    (void)unused;
    write_family(LORS_F32);
    rm_model *model = rm_read("m");
    rm_add(model, "decoder.blocks.0.mlp.0.weight", LORS_F32, 2, 16, 8, 0);
    rm_write(model, "m", 1);
    rm_merge_fails(TASK, "out", NULL, LORS_ERR_MISMATCH, "mlp.0");
    write_family(LORS_F32);
    rm_write(model, "b", 1); /* in the base, where no model has it */
    rm_merge_fails(TASK, "out", NULL, LORS_ERR_MISMATCH, "mlp.0");
    rm_free(model);
}

static void test_weights_that_cancel(void **unused)
{
    (void)unused;
    write_family(LORS_F32);
    rm_merge_fails("merge_method: linear\nmodels: [{model: m, parameters: {weight: 1}}, {model: n, "
                   "parameters: {weight: -1}}]\n", "out", NULL, LORS_ERR_RECIPE,
                   ":2:79: tensor 'model.encoder.conv1.weight': the weights sum to 0");
    rm_merge_fails("merge_method: task_arithmetic\nbase_model: b\nparameters: {normalize: true}\n"
                   "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: "
                   "-1}}]\n", "out", NULL, LORS_ERR_RECIPE, "weights");
}

/* A selector that fits nothing is a slip, and the message says where it stands. */
static void test_selectors_of_nothing(void **unused)
{
    static const char *const selectors[] = {"'layers: 77'", "'regex:nothing'",
                                            "'embedding & norm'"};
    (void)unused;
    write_family(LORS_F32);
    for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++) {
        char recipe[512];
        snprintf(recipe, sizeof recipe, TASK "scope: [mlp, %s]\n", selectors[i]);
        rm_merge_fails(recipe, "out", NULL, LORS_ERR_RECIPE, ":4:14: the scope selects no tensor");
        snprintf(recipe, sizeof recipe,
                 TASK "parameters: {lambda: [{filter: %s, value: 1}, {value: 2}]}\n", selectors[i]);
        rm_merge_fails(recipe, "out", NULL, LORS_ERR_RECIPE, ":4:32: the filter selects no tensor");
    }
    rm_merge_fails("merge_method: task_arithmetic\nbase_model: b\nmodels: [{model: m, parameters: "
                   "{weight: [{filter: typo, value: 1}, {value: 2}]}}]\n", "out", NULL,
                   LORS_ERR_RECIPE, ":3:52: the filter selects no tensor");
}

/* slerp has no weights, so "the weighted sum of task vectors" outside its scope means nothing: to
 * copy the base there, which is the other choice, is not what was asked for. */
static void test_weighted_outside_without_weights(void **unused)
{
    (void)unused;
    write_family(LORS_F32);
    rm_merge_fails("merge_method: slerp\nbase_model: b\nmodels: [{model: m}]\n"
                   "parameters: {t: 0.5, scope: mlp, outside: weighted}\n", "out", NULL,
                   LORS_ERR_RECIPE, "outside");
}

static void test_too_little_memory(void **unused)
{
    rm_options options = RM_OPTIONS_INIT;
    (void)unused;
    write_family(LORS_F32);
    options.plan.max_memory_bytes = 1 << 20;
    for (int r = 0; r < N_RECIPES; r++) {
        rm_merge_fails(all_recipes[r], "out", &options, LORS_ERR_LIMIT, "max-memory");
    }
}

/* --- places ----------------------------------------------------------------------------------- */

static void test_places_that_are_refused(void **unused)
{
    static const char *const places[] = {"m", "b", "m/", "m/out", "b/out/", "m/../m", ".", "..",
                                         "./", "link/out", "link", "m/model.safetensors/out"};
    rm_options options = RM_OPTIONS_INIT;
    (void)unused;
    write_family(LORS_F32);
    rm_remove("link");
    assert_int_equal(symlink("m", "link"), 0);
    options.keep_out = true;
    for (int force = 0; force < 2; force++) {
        options.run.force = force;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            int inside = rm_count_entries("m"), beside = rm_count_entries(".");
            lors_status status = rm_merge(TASK, places[i], &options, NULL);
            if (status != LORS_ERR_RECIPE && status != LORS_ERR_IO) {
                fprintf(stderr, "%s: %s\n", places[i], lors_status_name(status));
                fail();
            }
            assert_int_equal(rm_count_entries("m"), inside);
            assert_int_equal(rm_count_entries("."), beside);
        }
    }
    rm_remove("link");
    rm_merge_fails(TASK, "no-such-folder/out", NULL, LORS_ERR_IO, "no-such-folder");
}

/* --force on a folder that holds an input would remove the input with it. */
static void test_output_around_an_input(void **unused)
{
    rm_options options = RM_OPTIONS_INIT;
    (void)unused;
    write_family(LORS_F32);
    rm_remove("nest");
    assert_int_equal(mkdir("nest", 0777), 0);
    rm_write_bytes("nest/config.json", "{}", 2); /* looks like a model that may be replaced */
    assert_int_equal(rename("m", "nest/m"), 0);
    options.keep_out = options.run.force = true;
    rm_merge_fails("merge_method: linear\nmodels: [{model: nest/m, parameters: {weight: 1}}, "
                   "{model: n, parameters: {weight: 1}}]\n", "nest", &options, LORS_ERR_RECIPE,
                   "nest");
    assert_true(rm_exists("nest/m/model.safetensors"));
    /* Nor on one that holds what an input links to. */
    assert_int_equal(rename("nest/m/model.safetensors", "nest/weights.safetensors"), 0);
    assert_int_equal(rename("nest/m", "m"), 0);
    assert_int_equal(symlink("../nest/weights.safetensors", "m/model.safetensors"), 0);
    options.plan.follow_symlinks = true;
    rm_merge_fails(TASK, "nest", &options, LORS_ERR_RECIPE, "m/model.safetensors");
    assert_true(rm_exists("nest/weights.safetensors"));
}

static void test_existing_output(void **unused)
{
    rm_options options = RM_OPTIONS_INIT;
    (void)unused;
    write_family(LORS_F32);
    rm_merge_ok(LINEAR, "out", NULL);
    rm_merge_ok(TASK, "other", NULL);
    options.keep_out = true;
    rm_merge_fails(TASK, "out", &options, LORS_ERR_IO, "--force");
    assert_false(rm_same_files("out/model.safetensors", "other/model.safetensors"));
    options.run.force = true;
    int beside = rm_count_entries(".");
    rm_merge_ok(TASK, "out", &options);
    assert_true(rm_same_files("out/model.safetensors", "other/model.safetensors"));
    RM_OK(lors_verify("out", NULL, NULL));
    assert_int_equal(rm_count_entries("."), beside); /* the older one is gone */
    /* A failure leaves the older one as it was. */
    set_value("n", WEIGHT, 0, NAN);
    rm_merge_fails(TASK, "out", &options, LORS_ERR_NUMERICS, WEIGHT);
    assert_true(rm_same_files("out/model.safetensors", "other/model.safetensors"));
    /* --force is for models, not for what else a mistyped name may be. */
    rm_remove("out");
    assert_int_equal(mkdir("out", 0777), 0);
    rm_write_bytes("out/thesis.txt", "x", 1);
    write_family(LORS_F32);
    rm_merge_fails(TASK, "out", &options, LORS_ERR_IO, "out");
    assert_true(rm_exists("out/thesis.txt"));
    rm_remove("out");
    rm_write_bytes("out", "x", 1);
    rm_merge_fails(TASK, "out", &options, LORS_ERR_IO, "out");
    rm_remove("out");
}

/* --- interrupts and changes ------------------------------------------------------------------- */

/* Models of some megabytes, so that a run is still at work when it is asked about its progress. */
static void write_large_family(void)
{
    static const char *const folders[] = {"b", "m", "n"};
    for (uint64_t i = 0; i < 3; i++) {
        rm_model *model = rm_whisper(LORS_F32, 1);
        for (int t = 0; t < 8; t++) {
            char name[64];
            snprintf(name, sizeof name, "model.decoder.layers.%d.fc2.weight", 10 + t);
            rm_tensor *tensor = rm_add(model, name, LORS_F32, 2, 256, 1024, 0);
            for (uint64_t at = 0; at < tensor->n; at++) {
                rm_set(tensor, at, (double)((at * (i + 3)) % 1009) / 1009);
            }
        }
        rm_write(model, folders[i], 1);
        rm_free(model);
    }
}

typedef struct watcher {
    int calls, cancel_at;
    bool touch;
    lors_progress last;
} watcher;

static bool watch(const lors_progress *progress, void *user)
{
    watcher *w = user;
    assert_true(progress->done_bytes >= w->last.done_bytes);
    assert_true(progress->done_tensors >= w->last.done_tensors);
    assert_true(progress->done_tensors <= progress->total_tensors);
    w->last = *progress;
    if (w->touch && w->calls == 0) {
        FILE *file = fopen("n/model.safetensors", "r+b");
        assert_non_null(file);
        fseek(file, -1, SEEK_END);
        fputc(0, file);
        fclose(file);
    }
    return ++w->calls == w->cancel_at;
}

static void test_progress_and_cancel(void **unused)
{
    (void)unused;
    write_large_family();
    for (int force = 0; force < 2; force++) {
        for (int r = 0; r < N_RECIPES; r++) {
            watcher w = {.cancel_at = 1};
            rm_options options = RM_OPTIONS_INIT;
            options.run.progress = watch;
            options.run.user = &w;
            options.plan.n_threads = 2;
            if (force) { /* with an older output, which stays */
                rm_remove("out");
                options.run.force = options.keep_out = true;
                rm_model *older = rm_new();
                rm_write(older, "out", 1);
                rm_free(older);
            }
            rm_merge_fails(all_recipes[r], "out", &options, LORS_ERR_CANCELLED, "interrupted");
            assert_int_equal(w.calls, 1);
            assert_true(!force || rm_exists("out/tokenizer.json"));
        }
    }
    watcher w = {0};
    rm_options options = RM_OPTIONS_INIT;
    options.run.progress = watch;
    options.run.user = &w;
    rm_merge_ok(TASK, "out", &options);
    assert_true(w.calls >= 1 && w.last.done_bytes <= w.last.total_bytes);
}

static void test_input_changed_while_read(void **unused)
{
    watcher w = {.touch = true};
    rm_options options = RM_OPTIONS_INIT;
    (void)unused;
    write_large_family();
    options.run.progress = watch;
    options.run.user = &w;
    rm_merge_fails(TASK, "out", &options, LORS_ERR_IO, "n/model.safetensors");
}

/* A sync of the output's weights once they are there: its last tensor is not all zero. */
static int touch_and_sync(int fd)
{
    static const struct timespec times[2] = {{1000000000, 0}, {1000000000, 0}};
    size_t n_bytes = 0;
    char *bytes = rm_read_bytes(".out.lors-staging/model.safetensors", &n_bytes);
    if (memcmp(bytes + n_bytes - 3, "\0\0\0", 3) != 0) {
        utimensat(AT_FDCWD, "b/model.safetensors", times, 0);
    }
    free(bytes);
    return fsync(fd);
}

/* The same after the last byte was read. */
static void test_input_changed_after_it_was_read(void **unused)
{
    (void)unused;
    write_family(LORS_F32);
    lors_file_ops table = *lors_file_table();
    table.fsync = touch_and_sync;
    lors_file_set_table(&table);
    rm_merge_fails(TASK, "out", NULL, LORS_ERR_IO, "b/model.safetensors");
    lors_file_set_table(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nonfinite_inputs_refused),
        cmocka_unit_test(test_nonfinite_inputs_allowed),
        cmocka_unit_test(test_one_kind_of_nan),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_mismatches),
        cmocka_unit_test(test_types_that_do_not_merge),
        cmocka_unit_test(test_many_mismatches_are_counted),
        cmocka_unit_test(test_vocabulary_and_architecture),
        cmocka_unit_test(test_two_names_of_one_weight),
        cmocka_unit_test(test_weights_that_cancel),
        cmocka_unit_test(test_selectors_of_nothing),
        cmocka_unit_test(test_weighted_outside_without_weights),
        cmocka_unit_test(test_too_little_memory),
        cmocka_unit_test(test_places_that_are_refused),
        cmocka_unit_test(test_output_around_an_input),
        cmocka_unit_test(test_existing_output),
        cmocka_unit_test(test_progress_and_cancel),
        cmocka_unit_test(test_input_changed_while_read),
        cmocka_unit_test(test_input_changed_after_it_was_read),
    };
    rm_work_in("refusals-work");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

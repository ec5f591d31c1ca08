/* test_limits.c - what a plan promises of sizes: shards below their limit and filled in order,
 * memory that counts every worker; shapes that differ in any dimension. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint.h"
#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"
#define LORS "merge_method: lors\nbase_model: b\nparameters: {rank: 3, density: 0.2}\n" TWO
#define TIES "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" TWO

static int write_family(void **state)
{
    (void)state;
    rm_work_in("limits");
    rm_write_small_family();
    return 0;
}

/* ---- Shards ---------------------------------------------------------------------------------- */

enum { MOST_SHARDS = RM_MAX_TENSORS };

typedef struct shard {
    uint64_t n_bytes, first_bytes; /* of all its tensors, and of that which lies first */
    uint64_t first_offset;
    int n_tensors;
} shard;

static int32_t measure(shard shards[MOST_SHARDS])
{
    lors_checkpoint *out = NULL;
    memset(shards, 0, MOST_SHARDS * sizeof *shards);
    RM_OK(lors_checkpoint_open("out", false, &out));
    int32_t n = out->n_files;
    assert_true(n <= MOST_SHARDS);
    for (int64_t i = 0; i < out->n_tensors; i++) {
        const lors_ckpt_tensor *tensor = &out->tensors[i];
        shard *s = &shards[tensor->file];
        s->n_bytes += tensor->n_bytes;
        if (s->n_tensors++ == 0 || tensor->offset < s->first_offset) {
            s->first_offset = tensor->offset;
            s->first_bytes = tensor->n_bytes;
        }
    }
    lors_checkpoint_close(out);
    return n;
}

static void test_shards(void **state)
{
    (void)state;
    static const uint64_t limits[] = {1, 256, 700, 2048, 5000, 100000000};
    shard shards[MOST_SHARDS];
    rm_options options = RM_OPTIONS_INIT;
    rm_merge_ok(TIES, "out", NULL);
    rm_model *whole = rm_read("out");
    int n_mixed = 0;
    for (int i = 0; i < 6; i++) {
        options.plan.max_shard_bytes = limits[i];
        rm_merge_ok(TIES, "out", &options);
        rm_model *parts = rm_read("out");
        assert_true(rm_same(whole, parts));
        rm_free(parts);
        int32_t n = measure(shards);
        for (int32_t k = 0; k < n; k++) {
            assert_true(shards[k].n_bytes <= limits[i] || shards[k].n_tensors == 1);
            /* the next one's first tensor had no place in it */
            assert_true(k + 1 == n || shards[k].n_bytes + shards[k + 1].first_bytes > limits[i]);
            n_mixed += shards[k].n_tensors > 1 && n > 1;
        }
    }
    assert_true(n_mixed > 5);
    rm_free(whole);
}

/* The index says how many bytes all tensors have. */
static void test_total_size(void **state)
{
    (void)state;
    rm_options options = RM_OPTIONS_INIT;
    shard shards[MOST_SHARDS];
    uint64_t n_bytes = 0;
    options.plan.max_shard_bytes = 2048;
    rm_merge_ok(TIES, "out", &options);
    int32_t n = measure(shards);
    for (int32_t k = 0; k < n; k++) {
        n_bytes += shards[k].n_bytes;
    }
    json_t *index = json_load_file("out/model.safetensors.index.json", 0, NULL);
    const json_t *total = json_object_get(json_object_get(index, "metadata"), "total_size");
    assert_int_equal(json_integer_value(total), n_bytes);
    json_decref(index);
}

/* ---- Layers ---------------------------------------------------------------------------------- */

#define ENCODER "merge_method: passthrough\nmodules:\n  encoder: {models: [{model: m}]}\n"

static void test_layers(void **state)
{
    (void)state;
    static const char both[] = ENCODER
        "  decoder: {slices: [{sources: [{model: n, layer_range: [0, 2]}]}]}\n";
    static const char three[] = ENCODER
        "  decoder: {slices: [{sources: [{model: n, layer_range: [0, 3]}]}]}\n";
    rm_merge_ok(both, "out", NULL);
    rm_merge_fails(three, "out", NULL, LORS_ERR_RECIPE, "ends behind the last layer");
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static lors_plan_summary plan_for(const char *text, int n_threads)
{
    lors_plan_options options = LORS_PLAN_OPTIONS_INIT;
    lors_plan_summary summary;
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    options.device = "cpu";
    options.n_threads = n_threads;
    RM_OK(lors_recipe_parse("r.yaml", text, strlen(text), NULL, &recipe));
    RM_OK(lors_plan_create(recipe, &options, &plan));
    lors_plan_summarize(plan, &summary);
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    return summary;
}

/* Every worker has two slots and scratch of its own, which hold a large matrix. */
static void test_workers(void **state)
{
    (void)state;
    enum { SIDE = 768, MATRIX_BYTES = SIDE * SIDE * 4 };
    rm_model *large = rm_new();
    rm_fill(rm_add(large, "model.decoder.layers.0.fc1.weight", LORS_F32, 2, SIDE, SIDE, 0), 0.1, 1);
    for (int i = 0; i < 3; i++) {
        rm_write(large, (const char *[]){"b", "m", "n"}[i], 1);
    }
    rm_free(large);
    static const char *const recipes[] = {LORS, TIES};
    for (int i = 0; i < 2; i++) {
        uint64_t before = plan_for(recipes[i], 1).peak_bytes, each = 0;
        for (int n = 2; n <= 4; n++) {
            lors_plan_summary summary = plan_for(recipes[i], n);
            assert_int_equal(summary.n_workers, n);
            assert_true(summary.peak_bytes > before + 2 * MATRIX_BYTES);
            assert_true(each == 0 || summary.peak_bytes - before == each);
            each = summary.peak_bytes - before;
            before = summary.peak_bytes;
        }
    }
}

/* ---- Shapes ---------------------------------------------------------------------------------- */

/* One more or fewer in one dimension, all others as in the base. */
static void test_shapes(void **state)
{
    (void)state;
    for (int d = 0; d < 3; d++) {
        rm_model *base = rm_new();
        int64_t shape[3] = {4, 3, 5};
        rm_fill(rm_add(base, "model.encoder.conv1.weight", LORS_F32, 3, 4, 3, 5), 0.05, 1);
        rm_write(base, "b", 1);
        rm_write(base, "m", 1);
        rm_model *other = rm_new();
        shape[d]++;
        rm_fill(rm_add(other, "model.encoder.conv1.weight", LORS_F32, 3, shape[0], shape[1],
                       shape[2]), 0.05, 1);
        rm_write(other, "n", 1);
        rm_merge_fails(TIES, "refused", NULL, LORS_ERR_MISMATCH, "another shape than in");
        rm_free(other);
        rm_free(base);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_total_size),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_shapes), /* writes other models */
    };
    return cmocka_run_group_tests(tests, write_family, NULL);
}

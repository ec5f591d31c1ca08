/* test_stages.c - recipes of several documents: the bytes of one merge after another through f32
 * files, without the files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run_models.h"

enum { MOST_STAGES = 3 };

/* Recipes of which each may use the results of those before it, by their names. */
typedef struct chain {
    const char *names[MOST_STAGES]; /* of all but the last */
    const char *texts[MOST_STAGES];
    bool typed[MOST_STAGES];        /* says its own dtype */
} chain;

#define M_N                                                                              \
    "models: [{model: m, parameters: {weight: 0.7}}, {model: n, parameters: {weight: -0.2}}]\n"

static const chain chains[] = {
    {{"x"},
     {"merge_method: linear\n" M_N "parameters: {normalize: false}\n",
      "merge_method: task_arithmetic\nbase_model: b\nmodels: [{model: x}, {model: o}]\n"
      "parameters: {weight: 0.5}\n"},
     {false}},
    {{"x"}, /* as a base */
     {"merge_method: ties\nbase_model: b\n" M_N "parameters: {density: 0.4}\n",
      "merge_method: slerp\nbase_model: x\nmodels: [{model: o}]\nparameters: {t: 0.3}\n"},
     {false}},
    {{"x", "y"}, /* one that two need, and one rounded to its own type */
     {"merge_method: slerp\nbase_model: b\nmodels: [{model: m}]\nparameters: {t: 0.4}\n",
      "merge_method: task_arithmetic\nbase_model: x\n" M_N "dtype: bfloat16\n",
      "merge_method: lors\nbase_model: x\nmodels: [{model: y}, {model: o}]\n"
      "parameters: {rank: 2, density: 0.2}\n"},
     {false, true}},
    {{"x", "y"}, /* layers that a stage lays out anew */
     {"merge_method: passthrough\nmodules:\n  encoder: {models: [{model: m}]}\n"
      "  decoder: {slices: [{sources: [{model: m, layer_range: [0, 2]}]}, {sources: [{model: n, "
      "layer_range: [1, 2], parameters: {scale: 0.5}}]}]}\n",
      "merge_method: passthrough\nmodules:\n  encoder: {models: [{model: n}]}\n"
      "  decoder: {slices: [{sources: [{model: o, layer_range: [0, 1]}]}, {sources: [{model: x, "
      "layer_range: [1, 3]}]}]}\n",
      "merge_method: linear\nmodels: [{model: x}, {model: y}]\nparameters: {weight: [1, 2]}\n"
      "out_dtype: float16\n"},
     {false}},
    {{"x", "y"}, /* expressions over expressions */
     {"expression: A - B\nmodels: [{name: A, model: m}, {name: B, model: b}]\n",
      "expression: X + B\nmodels: [{name: X, model: x}, {name: B, model: n}]\n",
      "expression: Y - X / 2\nmodels: [{name: X, model: x}, {name: Y, model: y}]\n"
      "base_model: b\n"},
     {false}},
    {{"x"}, /* rules of mergekit in one document alone: equal weights, as the changes are small */
     {"merge_method: sce\nbase_model: b\nmodels: [{model: m}, {model: n}]\ncompat: mergekit\n",
      "merge_method: sce\nbase_model: b\nmodels: [{model: x}, {model: o}]\n"},
     {false}},
};
enum { N_CHAINS = sizeof chains / sizeof *chains };

static void write_family(lors_dtype dtype)
{
    static const char *const folders[] = {"m", "n", "o"};
    rm_model *base = rm_whisper(dtype, 5);
    rm_write(base, "b", 1);
    for (uint64_t i = 0; i < 3; i++) {
        rm_model *model = rm_clone(base);
        rm_tune(model, 50 + i, 0.02);
        rm_write(model, folders[i], 1 + (int)i);
        rm_free(model);
    }
    rm_free(base);
}

static int count_of(const chain *c)
{
    int n = 0;
    while (n < MOST_STAGES && c->texts[n]) {
        n++;
    }
    return n;
}

/* The documents of the chain in one text. */
static const char *joined(const chain *c, char text[4096])
{
    size_t length = 0;
    for (int i = 0, n = count_of(c); i < n; i++) {
        const char *name = i + 1 < n ? c->names[i] : NULL;
        length += (size_t)snprintf(text + length, 4096 - length, "%s%s%s%s%s", i ? "---\n" : "",
                                   name ? "name: " : "", name ? name : "", name ? "\n" : "",
                                   c->texts[i]);
    }
    return text;
}

/* One after another; folders of the stages' names hold what they make. */
static void merge_by_files(const chain *c, const char *out)
{
    int n = count_of(c);
    for (int i = 0; i < n; i++) {
        rm_options options = RM_OPTIONS_INIT;
        options.plan.out_dtype = i + 1 < n && !c->typed[i] ? "f32" : NULL;
        rm_merge_ok(c->texts[i], i + 1 < n ? c->names[i] : out, &options);
    }
}

static void forget_files(const chain *c)
{
    for (int i = 0; i + 1 < count_of(c); i++) {
        rm_remove(c->names[i]);
    }
}

static void test_same_as_through_files(void **state)
{
    static const lors_dtype dtypes[] = {LORS_F32, LORS_F16, LORS_BF16};
    char text[4096];
    (void)state;
    for (int d = 0; d < 3; d++) {
        write_family(dtypes[d]);
        for (int i = 0; i < N_CHAINS; i++) {
            merge_by_files(&chains[i], "wanted");
            forget_files(&chains[i]);
            for (int32_t threads = 1; threads <= 3; threads++) {
                rm_options options = RM_OPTIONS_INIT;
                options.plan.n_threads = threads;
                options.plan.max_shard_bytes = threads == 3 ? 2000 : 0;
                options.run.verify = threads == 2;
                options.run.verify_tensors = threads == 2 ? -1 : 0;
                rm_merge_ok(joined(&chains[i], text), "out", &options);
                if (!rm_same_folders("out", "wanted")) {
                    fail_msg("chain %d with %d threads", i, (int)threads);
                }
            }
        }
    }
}

/* The configuration is that of the first stage's first model, with the layers of the output. */
static void test_configuration(void **state)
{
    static const char config[] = "{\"encoder_layers\": 2, \"decoder_layers\": 2, \"x\": 1.50}";
    char text[4096];
    size_t n_bytes = 0;
    (void)state;
    write_family(LORS_F32);
    rm_write_bytes("m/config.json", config, sizeof config - 1);
    rm_merge_ok(joined(&chains[3], text), "out", NULL);
    char *found = rm_read_bytes("out/config.json", &n_bytes);
    assert_string_equal(found, "{\"encoder_layers\": 2, \"decoder_layers\": 3, \"x\": 1.50}");
    free(found);
    assert_true(rm_exists("out/tokenizer.json"));
}

/* Only some of the tensors are computed once more, and what they need of the stages. */
static void test_verify_some(void **state)
{
    char text[4096];
    (void)state;
    write_family(LORS_F16);
    for (int32_t n = 1; n <= 40; n += 13) {
        lors_report_summary summary;
        rm_options options = RM_OPTIONS_INIT;
        options.run.verify = true;
        options.run.verify_tensors = n;
        RM_OK(rm_merge(joined(&chains[2], text), "out", &options, &summary));
        assert_int_equal(summary.n_rechecked, n);
    }
}

/* What two outputs of one tensor are tied to, and what is not needed at all. */
static void test_tied_and_unused(void **state)
{
    static const chain c = {
        {"x", "y"},
        {"merge_method: linear\n" M_N, "merge_method: linear\nmodels: [{model: x}, {model: o}]\n"
                                       "parameters: {weight: 1}\n",
         "merge_method: task_arithmetic\nbase_model: h\nmodels: [{model: y}]\nscope: [embedding]\n"
         "parameters: {weight: 0.5}\n"},
        {false}};
    char text[4096];
    (void)state;
    write_family(LORS_F16);
    rm_model *head = rm_read("b");
    rm_tensor *embedding = rm_get(head, "model.decoder.embed_tokens.weight");
    rm_tensor *copy = rm_add(head, "proj_out.weight", embedding->dtype, 2, embedding->shape[0],
                             embedding->shape[1], 0);
    memcpy(copy->bytes, embedding->bytes, (size_t)copy->n_bytes);
    rm_write(head, "h", 1);
    rm_free(head);
    merge_by_files(&c, "wanted");
    forget_files(&c);
    rm_merge_ok(joined(&c, text), "out", NULL);
    assert_true(rm_same_folders("out", "wanted"));
}

/* What a stage is told wrong names the stage. */
static void test_refusals(void **state)
{
    (void)state;
    write_family(LORS_F32);
    rm_model *model = rm_read("m");
    rm_set(rm_get(model, "model.decoder.layers.0.fc1.weight"), 3, 1e30);
    rm_write(model, "m", 1);
    rm_free(model);
    rm_merge_fails("name: x\nmerge_method: linear\nmodels: [{model: m}, {model: n}]\n"
                   "parameters: {weight: 1e20, normalize: false}\n---\n"
                   "merge_method: linear\nmodels: [{model: x}]\nparameters: {weight: 1}\n",
                   "out", NULL, LORS_ERR_NUMERICS, "overflows the output's type");
    rm_merge_fails("name: x\nmerge_method: linear\nmodels: [{model: m}, {model: none}]\n"
                   "parameters: {weight: 1}\n---\n"
                   "merge_method: linear\nmodels: [{model: x}]\nparameters: {weight: 1}\n",
                   "out", NULL, LORS_ERR_IO, "recipe:3:30: none");
    rm_merge_fails("name: x\nmerge_method: linear\nmodels: [{model: n}]\nparameters: {weight: 1}\n"
                   "---\nmerge_method: linear\nmodels: [{model: x}]\n"
                   "parameters: {weight: [{filter: 'layers: 7', value: 1}, {value: 2}]}\n",
                   "out", NULL, LORS_ERR_RECIPE, "selects no tensor of x");
}

/* The plan counts what is held: no less than one stage of the largest tensor. */
static void test_planned_memory(void **state)
{
    static const char *const texts[] = {
        "merge_method: linear\nmodels: [{model: m}]\nparameters: {weight: 0.5}\n",
        "name: x\nmerge_method: linear\nmodels: [{model: m}]\nparameters: {weight: 0.5}\n"
        "---\nmerge_method: linear\nmodels: [{model: x}]\nparameters: {weight: 0.5}\n"};
    uint64_t peaks[2], large = 6000 * 500 * 4;
    (void)state;
    rm_model *model = rm_new();
    rm_add(model, "model.decoder.embed_tokens.weight", LORS_F32, 2, 6000, 500, 0);
    rm_write(model, "m", 1);
    rm_free(model);
    for (int i = 0; i < 2; i++) {
        lors_recipe *recipe = NULL;
        lors_plan *plan = NULL;
        lors_plan_summary summary;
        lors_plan_options options = LORS_PLAN_OPTIONS_INIT;
        options.n_threads = 1;
        RM_OK(lors_recipe_parse("recipe", texts[i], strlen(texts[i]), NULL, &recipe));
        RM_OK(lors_plan_create(recipe, &options, &plan));
        lors_plan_summarize(plan, &summary);
        peaks[i] = summary.peak_bytes;
        assert_int_equal(lors_plan_stage_count(plan), i);
        lors_plan_free(plan);
        lors_recipe_free(recipe);
    }
    assert_true(peaks[1] >= peaks[0] + large && peaks[1] < peaks[0] + large + (1 << 20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_through_files),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_verify_some),
        cmocka_unit_test(test_tied_and_unused),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_planned_memory),
    };
    rm_work_in("test-stages-work");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* planning.c - every allocation fails while merges are planned: of stages and slices, with
 * warnings, and those that are refused. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <lors/lors.h>

#include "base/memory.h"
#include "faults.h"
#include "run_models.h"

#define PAIR "models: [{model: p/m}, {model: p/n}]\nparameters: {weight: 1}\n"
#define SLICE(model) "{sources: [{model: " model ", layer_range: [0, 2]}]}"
#define LAYERS(model) \
    "modules:\n  encoder: {models: [{model: " model "}]}\n  decoder: {slices: [" SLICE( \
        model) ", " \
               "{sources: [{model: p/n, layer_range: [1, 2], parameters: {scale: 0.5}}]}]}\n"
#define OVER_P "base_model: p/b\nparameters: {weight: 1}\nmodels: [{model: p/m}, "

/* `ends`: what a merge with enough memory is planned to. */
static const struct {
    const char *name, *text;
    lors_status ends;
} plans[] = {
    {"stages",
     "name: x\nmerge_method: linear\n" PAIR "---\nname: y\nmerge_method: task_arithmetic\n"
     "base_model: x\n" PAIR "---\nmerge_method: lors\nbase_model: x\n"
     "models: [{model: y}, {model: p/n}]\nparameters: {rank: 2, density: 0.2}\n"},
    {"slices", "merge_method: passthrough\n" LAYERS("p/m")},
    {"sliced-stage",
     "name: x\nmerge_method: passthrough\n" LAYERS(
         "p/m") "---\n"
                "merge_method: linear\nmodels: [{model: x}]\nparameters: {weight: 2}\n"},
    {"single-file", "merge_method: linear\nbase_model: p/b/model.safetensors\n" PAIR},
    {"tokenizer", "merge_method: linear\nbase_model: p/b\ntokenizer_source: p/m\n" PAIR},
    {"no-tokenizer",
     "merge_method: linear\ntokenizer_source: p/n/model.safetensors\n"
     "models: [{model: p/m}, {model: p/n/model.safetensors}]\nparameters: {weight: 1}\n",
     LORS_ERR_RECIPE},
    {"expression", "expression: A + 0.5 * (B - C)\nmodels: [{name: A, model: p/m}, "
                   "{name: B, model: p/n}, {name: C, model: p/b}]\n"},
    {"warnings", "merge_method: task_arithmetic\n" OVER_P "{model: p/more}]\n"},
    {"matches-nothing",
     "merge_method: ties\n" OVER_P "{model: p/n}]\nscope: [\"layers: 0 & norm & "
     "mlp\"]\n",
     LORS_ERR_RECIPE},
    {"others", "merge_method: ties\n" OVER_P "{model: p/others}]\n", LORS_ERR_MISMATCH},
    {"missing", "merge_method: ties\n" OVER_P "{model: p/missing}]\n", LORS_ERR_MISMATCH},
    {"shaped", "merge_method: ties\n" OVER_P "{model: p/shaped}]\n", LORS_ERR_MISMATCH},
    {"flat", "merge_method: ties\n" OVER_P "{model: p/flat}]\n", LORS_ERR_MISMATCH},
    {"two-merged",
     "merge_method: svc\nbase_model: p/b\nmodels: [{model: p/m, parameters: {merged: true}}, "
     "{model: p/n, parameters: {merged: true}}]\n",
     LORS_ERR_RECIPE},
};
enum { N_PLANS = sizeof plans / sizeof *plans };

#define EMBEDDING "model.decoder.embed_tokens.weight"

static void write_tune(const rm_model *base, const char *folder, int which)
{
    rm_model *model = rm_clone(base);
    rm_tune(model, 60 + (uint64_t)which, 0.01);
    switch (which) {
    case 3: rm_add(model, "more.weight", LORS_F16, 2, 3, 3, 0); break;
    case 4: rm_drop(model, "model.decoder.layers.1.fc1.weight"); break;
    case 5:
    case 6:
        rm_drop(model, EMBEDDING);
        rm_fill(rm_add(model, EMBEDDING, LORS_F32, which == 5 ? 2 : 1, 99, 8, 0), 0.05, 1);
        break;
    case 7:
        rm_cast(model, LORS_F16);
        memset(rm_add(model, "counts", LORS_I64, 1, 4, 0, 0)->bytes, 7, 32);
        break;
    default: break;
    }
    rm_write(model, folder, 1);
    rm_free(model);
}

static void write_models(void)
{
    static const char *const folders[] = {"p/m",      "p/n",    "p/others", "p/missing",
                                          "p/shaped", "p/flat", "p/more"};
    rm_model *base = rm_whisper(LORS_F32, 9);
    NEED(mkdir("p", 0777) == 0, "the folder p");
    rm_write(base, "p/b", 1);
    for (int i = 0; i < 7; i++) {
        write_tune(base, folders[i], i + 1);
    }
    rm_free(base);
}

/* The plan as text in *shown, for lors_text_free. */
static lors_status plan_one(const char *text, char **shown)
{
    lors_plan_options how = LORS_PLAN_OPTIONS_INIT;
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    *shown = NULL;
    how.device = "cpu";
    how.n_threads = 1;
    lors_status status = lors_recipe_parse("recipe", text, strlen(text), NULL, &recipe);
    if (status == LORS_OK) {
        status = lors_plan_create(recipe, &how, &plan);
    }
    if (status == LORS_OK) {
        status = lors_plan_json(plan, shown);
    }
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    return status;
}

static void fail_plan(int which, uint64_t n, bool sticky, const char *usual)
{
    char *shown;
    begin_point("memory", VARIANT_REPLACE, "planning %s %llu %s", plans[which].name,
                (unsigned long long)n, sticky ? "sticky" : "once");
    lors_alloc_fail_at(n, sticky);
    lors_status status = plan_one(plans[which].text, &shown);
    lors_alloc_fail_at(0, false);
    if (status != LORS_ERR_LIMIT && status != plans[which].ends) {
        fail_point("%s: %s", lors_status_name(status), lors_last_error());
    }
    if (status == LORS_OK && strcmp(shown, usual) != 0) {
        fail_point("the plan is another one");
    }
    if (status != LORS_OK) {
        scene_check_sentence(status);
    }
    scene_check_descriptors();
    lors_text_free(shown);
}

void run_planning(const options *o)
{
    uint64_t n_all = 0, n_tried = 0;
    write_models();
    for (int i = 0; i < N_PLANS; i++) {
        char *usual;
        begin_point("memory", VARIANT_REPLACE, "planning %s", plans[i].name);
        lors_text_free(plan_one(plans[i].text, &usual) == LORS_OK ? usual : NULL);
        lors_alloc_fail_at(UINT64_MAX, false);
        lors_status status = plan_one(plans[i].text, &usual);
        uint64_t n_allocations = lors_alloc_count();
        lors_alloc_fail_at(0, false);
        NEED(status == plans[i].ends, "%s: %s", plans[i].name, lors_status_name(status));
        n_all += n_allocations;
        for (uint64_t n = 1; n <= n_allocations; n++) {
            for (int sticky = 0; sticky < 2; sticky++) {
                if (wanted(o, 2 * n + (uint64_t)sticky, "planning %s %llu %s", plans[i].name,
                           (unsigned long long)n, sticky ? "sticky" : "once")) {
                    fail_plan(i, n, sticky, usual);
                    n_tried++;
                }
            }
        }
        lors_text_free(usual);
        check_leaks(n_tried);
    }
    printf("memory planning: allocations %llu, faults %llu, tried %llu\n",
           (unsigned long long)n_all, (unsigned long long)n_all * 2, (unsigned long long)n_tried);
}

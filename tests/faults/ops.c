/* ops.c - every operation of a device fails, in small merges by every method, computed once more
 * for --verify.
 *
 * Once, with all later ones, and late: it is not done, and only the next wait says so. On a device
 * whose memory is the host's, and on one whose is not. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <lors/lors.h>

#include "base/memory.h"
#include "device.h"
#include "faults.h"
#include "run/run_internal.h"
#include "run_models.h"

#define BASE "base_model: s/b\n"
#define ONE "models: [{model: s/m}]\n"
#define TWO \
    "models: [{model: s/m, parameters: {weight: 1}}, {model: s/n, parameters: {weight: 0.5}}]\n"
#define THREE "models: [{model: s/m}, {model: s/n}, {model: s/o}]\nparameters: {weight: 1}\n"
#define PLAIN "models: [{model: s/m}, {model: s/n}, {model: s/o}]\n"
#define OF_LARGE "base_model: s/B\nmodels: [{model: s/M}, {model: s/N}]\n"

/* Models of two matrices, a vector and integers; or of a tensor of two units, in little memory. */
static const struct {
    const char *name, *text;
    uint64_t max_memory;
    bool exact;
} recipes[] = {
    {"lors", "merge_method: lors\n" BASE PLAIN "parameters: {rank: 2, density: 0.3}\n"},
    {"lors-dense", "merge_method: lors\n" BASE PLAIN "parameters: {rank: 2, density: 1}\n"},
    {"lors-exact", "merge_method: lors\n" BASE TWO "parameters: {rank: 1, density: 0}\n", 0, true},
    {"lors-energy", "merge_method: lors\n" BASE TWO "parameters: {rank: {energy: 0.5}}\n"},
    {"chain", "merge_method: chain\n" BASE TWO
              "parameters: {decompose: lors, rank: 2, sparsify: largest, density: 0.4, "
              "combine: elect, normalize: true, rescale: true}\n"},
    {"chain-ranked", "merge_method: chain\n" BASE TWO
                     "parameters: {decompose: lors, residual: 1, rank: 1, sparsify: ranked, "
                     "density: 0.4, rescale: true}\n"},
    {"chain-window", "merge_method: chain\n" BASE TWO
                     "parameters: {decompose: lors, residual: 0, rank: 1, sparsify: window, "
                     "density: 0.4, gamma: 0.1}\n"},
    {"chain-random", "merge_method: chain\n" BASE TWO
                     "parameters: {decompose: lors, rank: 1, sparsify: random, density: 0.4, "
                     "rescale: true}\n"},
    {"chain-none", "merge_method: chain\n" BASE TWO "parameters: {decompose: lors, rank: 1}\n"},
    {"linear", "merge_method: linear\n" TWO},
    {"task_arithmetic", "merge_method: task_arithmetic\n" BASE TWO
                        "parameters: {normalize: true, lambda: [0.2, 0.6]}\n"},
    {"ties", "merge_method: ties\n" BASE TWO "parameters: {density: 0.3}\n"},
    {"ties-rescale", "merge_method: ties\n" BASE TWO
                     "parameters: {density: 0.3, rescale: true, normalize: false}\n"},
    {"dare_linear", "merge_method: dare_linear\n" BASE TWO "parameters: {density: 0.3}\n"},
    {"dare_ties",
     "merge_method: dare_ties\n" BASE TWO "parameters: {density: 0.3, normalize: true}\n"},
    {"della", "merge_method: della\n" BASE TWO "parameters: {density: 0.4, epsilon: 0.2}\n"},
    {"della_linear",
     "merge_method: della_linear\n" BASE TWO "parameters: {density: 0.4, epsilon: 0.2}\n"},
    {"breadcrumbs",
     "merge_method: breadcrumbs\n" BASE TWO "parameters: {density: 0.3, gamma: 0.1}\n"},
    {"breadcrumbs_ties",
     "merge_method: breadcrumbs_ties\n" BASE TWO "parameters: {density: 0.3, gamma: 0.1}\n"},
    {"sce", "merge_method: sce\n" BASE PLAIN "parameters: {select_topk: 0.5}\n"},
    {"sce-all", "merge_method: sce\n" BASE PLAIN},
    {"slerp", "merge_method: slerp\n" BASE ONE "parameters: {t: 0.4}\n"},
    {"nuslerp", "merge_method: nuslerp\n" BASE TWO},
    {"nuslerp-rows", "merge_method: nuslerp\n" TWO "parameters: {nuslerp_flatten: false, "
                     "nuslerp_row_wise: true}\n"},
    {"nuslerp-columns",
     "merge_method: nuslerp\n" BASE TWO "parameters: {nuslerp_flatten: false}\n"},
    {"multislerp", "merge_method: multislerp\n" BASE THREE},
    {"karcher", "merge_method: karcher\n" PLAIN},
    {"model_stock", "merge_method: model_stock\n" BASE PLAIN},
    {"model_stock-rows",
     "merge_method: model_stock\n" BASE PLAIN "parameters: {filter_wise: true}\n"},
    {"metagpt", "merge_method: metagpt\n" BASE PLAIN},
    {"geometric_median", "merge_method: geometric_median\n" BASE PLAIN},
    {"nearswap", "merge_method: nearswap\n" BASE ONE "parameters: {t: 0.01}\n"},
    {"arcee_fusion", "merge_method: arcee_fusion\n" BASE ONE},
    {"ram", "merge_method: ram\n" BASE PLAIN},
    {"ramplus_tl", "merge_method: ramplus_tl\n" BASE PLAIN},
    {"magmax", "merge_method: magmax\n" BASE PLAIN},
    {"consensus", "merge_method: consensus\n" BASE PLAIN},
    {"emr", "merge_method: emr\n" BASE PLAIN},
    {"pcb", "merge_method: pcb\n" BASE PLAIN "parameters: {density: 0.3, clip: 0.05}\n"},
    {"tsv_m", "merge_method: tsv_m\n" BASE PLAIN "parameters: {boost: 0.3}\n"},
    {"iso_c", "merge_method: iso_c\n" BASE PLAIN},
    {"iso_cts", "merge_method: iso_cts\n" BASE PLAIN "parameters: {common_fraction: 0.5}\n"},
    {"star", "merge_method: star\n" BASE PLAIN},
    {"wudi", "merge_method: wudi\n" BASE PLAIN},
    {"wudi-0", "merge_method: wudi\n" BASE PLAIN "parameters: {ridge: 0}\n"},
    {"knots", "merge_method: knots\n" BASE PLAIN},
    {"knots-all",
     "merge_method: knots\n" BASE PLAIN "parameters: {density: 1, normalize: false}\n"},
    {"svc", "name: x\nmerge_method: ties\n" BASE TWO "parameters: {density: 0.2}\n---\n"
            "merge_method: svc\n" BASE "models: [{model: x, parameters: {merged: true}}, "
            "{model: s/m}, {model: s/n}]\n"},
    {"svc-sum", "merge_method: svc\n" BASE PLAIN},
    {"passthrough", "merge_method: passthrough\n"
                    "models: [{model: s/m, parameters: {scale: 0.5}}]\n"},
    {"expression", "expression: A + 0.5 * (B - C)\nmodels: [{name: A, model: s/m}, "
                   "{name: B, model: s/n}, {name: C, model: s/b}]\n"},
    {"large-ties", "merge_method: ties\n" OF_LARGE "parameters: {weight: 1, density: 0.3}\n", 97},
    {"large-karcher", "merge_method: karcher\n" OF_LARGE, 97},
    {"large-pcb", "merge_method: pcb\n" OF_LARGE "parameters: {weight: 1, density: 0.3}\n", 97},
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes, LEAKS_EVERY = 64 };

static const char *const way_names[DEVICE_WAYS] = {"once", "gone", "late"};
static const char *const memory_names[] = {"shared", "apart"};

/* --- models ----------------------------------------------------------------------------------- */

static void write_family(rm_model *base, const char *const *folders, int n)
{
    for (int i = 0; i < n; i++) {
        char path[16];
        rm_model *model = rm_clone(base);
        if (i > 0) {
            rm_tune(model, 20 + (uint64_t)i, 0.01);
        }
        snprintf(path, sizeof path, "s/%s", folders[i]);
        rm_write(model, path, 1);
        rm_free(model);
    }
    rm_free(base);
}

static void write_models(void)
{
    static const char *const small[] = {"b", "m", "n", "o"}, *const large[] = {"B", "M", "N"};
    rm_model *base = rm_new();
    rm_fill(rm_add(base, "model.decoder.layers.0.fc1.weight", LORS_F16, 2, 14, 10, 0), 0.05, 11);
    rm_fill(rm_add(base, "model.decoder.layers.1.fc2.weight", LORS_F16, 2, 6, 9, 0), 0.05, 12);
    rm_fill(rm_add(base, "model.decoder.layers.0.fc1.bias", LORS_F16, 1, 14, 0, 0), 0.05, 13);
    memset(rm_add(base, "position_ids", LORS_I64, 1, 4, 0, 0)->bytes, 7, 32);
    NEED(mkdir("s", 0777) == 0, "the folder s");
    write_family(base, small, 4);
    base = rm_new();
    rm_fill(rm_add(base, "model.decoder.embed_tokens.weight", LORS_F16, 2, 700, 512, 0), 0.05, 14);
    write_family(base, large, 3);
}

/* A method without a recipe here is a failure. */
static void check_methods(void)
{
    for (int32_t m = 0; m < lors_method_count(); m++) {
        char line[64];
        bool found = false;
        snprintf(line, sizeof line, "merge_method: %s\n", lors_method_at(m)->name);
        for (int i = 0; i < N_RECIPES; i++) {
            found = found || strstr(recipes[i].text, line);
        }
        NEED(found, "no recipe of ops.c has %s", line);
    }
}

/* --- one point -------------------------------------------------------------------------------- */

static void check_status(lors_status status, bool fails)
{
    const char *operation = device_failed();
    if (fails && !operation) {
        fail_point("the merge does not come here");
    }
    if (status == LORS_OK && operation && device_matters()) {
        fail_point("%s failed, and the merge succeeds", operation);
    }
    bool known = status == LORS_ERR_DEVICE || status == LORS_ERR_LIMIT;
    if (status != LORS_OK && (!known || !operation || !strstr(lors_last_error(), DEVICE_SAYS))) {
        fail_point("%s: %s: %s", operation ? operation : "nothing", lors_status_name(status),
                   lors_last_error());
    }
    if (device_held() != 0) {
        fail_point("%d objects of the device are left", device_held());
    }
}

static uint64_t n_kept; /* merges that failed and left finished tensors to the next */

/* Returns how many operations there were. */
static uint64_t fail_operation(variant v, const char *name, bool apart, uint64_t n, device_way way)
{
    begin_point("ops", v, "%s %s %llu %s", name, memory_names[apart], (unsigned long long)n,
                way_names[way]);
    scene_reset(v);
    lors_run_journal_pace(v == VARIANT_RESUME, 0); /* there is something to resume */
    device_arm(apart, n, way);
    lors_status status = scene_merge(v, 1);
    uint64_t n_met = device_count();
    check_status(status, n > 0);
    n_kept += status == LORS_ERR_DEVICE && scene_said().n_promised > 0;
    device_arm(apart, 0, DEVICE_ONCE);
    lors_run_journal_pace(0, 0);
    scene_check(v, status);
    return n_met;
}

/* --- all points of a recipe ------------------------------------------------------------------- */

typedef struct counts {
    uint64_t operations, faults, tried, index, unchecked;
} counts;

static void run_recipe(const options *o, variant v, const char *name, bool apart, counts *c)
{
    uint64_t n_all = fail_operation(v, name, apart, 0, DEVICE_ONCE);
    c->operations += n_all;
    for (uint64_t n = 1; n <= n_all; n++) {
        for (int way = 0; way < DEVICE_WAYS; way++) {
            c->faults++;
            if (wanted(o, c->index++, "%s %s %llu %s", name, memory_names[apart],
                       (unsigned long long)n, way_names[way])) {
                fail_operation(v, name, apart, n, (device_way)way);
                c->tried++;
                c->unchecked++;
            }
        }
        if (c->unchecked >= LEAKS_EVERY || (o->only && c->unchecked > 0)) {
            check_leaks(c->unchecked);
            c->unchecked = 0;
        }
    }
}

static void print_counts(variant v, const counts *c)
{
    printf("ops %s: operations %llu, faults %llu, tried %llu\n", variant_name(v),
           (unsigned long long)c->operations, (unsigned long long)c->faults,
           (unsigned long long)c->tried);
}

void run_ops(const options *o)
{
    table_use();
    device_use();
    check_methods();
    scene_init();
    write_models();
    for (variant v = o->first; v <= o->last; v++) {
        counts c = {0};
        if (v == VARIANT_TWO_STEPS) { /* the device knows nothing of files */
            continue;
        }
        for (int apart = 0; apart < 2; apart++) {
            scene_use(NULL, "cuda", 0, false);
            run_recipe(o, v, "scene", apart, &c);
            for (int i = 0; i < N_RECIPES && v == VARIANT_REPLACE; i++) {
                scene_use(recipes[i].text, "cuda", recipes[i].max_memory << 20, recipes[i].exact);
                run_recipe(o, v, recipes[i].name, apart, &c);
            }
        }
        check_leaks(c.unchecked);
        print_counts(v, &c);
        NEED(v != VARIANT_RESUME || o->only || n_kept > 0, "no failing device leaves anything");
    }
}

/* match.c - which tensor of each model belongs to which tensor of the reference.
 *
 * Tensors are matched by canonical name, so that wrappers and Whisper's two naming schemes meet.
 * Nothing is dropped silently: every tensor of every model is matched, declared tied, or refused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "plan/plan_internal.h"

enum { NAMED_MAX = 10 }; /* names listed in one message */

/* Names of offending tensors, the first few, for one message. */
typedef struct offenders {
    lors_text names;
    int64_t count;
} offenders;

static void add_offender(offenders *list, const char *format, const char *name, const char *detail)
{
    if (list->count++ < NAMED_MAX) {
        char escaped[LORS_ESCAPED_MAX];
        lors_text_printf(&list->names, format, list->count > 1 ? ", " : "",
                         lors_escape_text(name, escaped), detail);
    }
}

static const char *and_more(const offenders *list, char out[64])
{
    out[0] = '\0';
    if (list->count > NAMED_MAX) {
        snprintf(out, 64, " and %lld more", (long long)(list->count - NAMED_MAX));
    }
    return out;
}

/* Names are matched by their canonical form, which has a limit: longer ones could be confused. */
static lors_status check_name(const lors_checkpoint *model, const lors_ckpt_tensor *tensor)
{
    if (tensor->name_bytes + sizeof "model." < LORS_NAME_MAX) {
        return LORS_OK;
    }
    char escaped[LORS_ESCAPED_MAX];
    return lors_fail(LORS_ERR_LIMIT,
                     "%s: tensor '%s': names of more than %d bytes cannot be merged", model->path,
                     lors_escape_text(tensor->name, escaped), LORS_NAME_MAX - 8);
}

/* Canonical name -> index; two tensors of one canonical name are refused. */
static lors_status index_names(lors_plan *plan, const lors_checkpoint *model, lors_map **out)
{
    lors_map *map = lors_map_create((size_t)model->n_tensors);
    *out = map;
    if (!map) {
        return lors_fail_memory((size_t)model->n_tensors * 32);
    }
    for (int64_t i = 0; i < model->n_tensors; i++) {
        lors_tensor_name described;
        LORS_TRY(check_name(model, &model->tensors[i]));
        lors_name_describe(model->tensors[i].name, &described);
        size_t length = strlen(described.canonical);
        char *key = lors_arena_copy(plan->arena, described.canonical, length);
        int64_t existing = -1;
        if (!key || !lors_map_put(map, key, length, i, &existing)) {
            return lors_fail_memory(length);
        }
        if (existing >= 0) {
            char a[LORS_ESCAPED_MAX], b[LORS_ESCAPED_MAX];
            return lors_fail(LORS_ERR_MISMATCH,
                             "%s: tensors '%s' and '%s' are two names of the same weight: remove "
                             "one of them",
                             model->path, lors_escape_text(model->tensors[existing].name, a),
                             lors_escape_text(model->tensors[i].name, b));
        }
    }
    return LORS_OK;
}

/* One model's tensors by canonical name, and which of them have found their place. */
typedef struct known {
    lors_checkpoint *model; /* NULL: there is no base */
    lors_map *by_canonical;
    bool *used;
    offenders missing, extra;
} known;

typedef struct matcher {
    lors_plan *plan;
    known *all;      /* [1 + n_models]: the base, then the models */
    lors_map *kinds; /* of a sliced recipe: tensors of the plan's source by their canonical names
                        with the layer 0, for the names of the output */
} matcher;

static known *known_of(const matcher *m, int32_t model)
{
    return &m->all[model + 1];
}

static lors_status index_models(matcher *m)
{
    const lors_plan *plan = m->plan;
    m->all = lors_new((size_t)plan->n_models + 1, sizeof *m->all);
    if (!m->all) {
        return lors_fail_memory(sizeof *m->all);
    }
    for (int32_t k = LORS_THE_BASE; k < plan->n_models; k++) {
        known *one = known_of(m, k);
        one->model = lors_plan_model(plan, k);
        if (!one->model) {
            continue;
        }
        one->used = lors_new((size_t)one->model->n_tensors + 1, sizeof *one->used);
        if (!one->used) {
            return lors_fail_memory((size_t)one->model->n_tensors);
        }
        LORS_TRY(index_names(m->plan, one->model, &one->by_canonical));
    }
    return LORS_OK;
}

static int64_t find_canonical(const known *one, const char *canonical)
{
    return lors_map_get(one->by_canonical, canonical, strlen(canonical));
}

/* The tensor of the model for `canonical`; a tied head that is left out is the other tensor. */
static const lors_ckpt_tensor *find_input(known *one, const char *canonical)
{
    int64_t at = find_canonical(one, canonical);
    const char *tied = lors_name_tied_to(canonical);
    if (at < 0 && tied) {
        at = find_canonical(one, tied);
        return at < 0 ? NULL : &one->model->tensors[at];
    }
    if (at < 0) {
        return NULL;
    }
    one->used[at] = true;
    return &one->model->tensors[at];
}

/* Is a tensor that the model lacks, or has beyond the reference, nothing to worry about? Buffers of
 * integers come and go between versions of a framework and are never merged. */
static bool harmless(const lors_ckpt_tensor *tensor)
{
    return !lors_dtype_is_float(tensor->dtype);
}

/* ---- jobs ---- */

/* A slice, where its layers come to lie. */
typedef struct placed {
    const lors_recipe_module *module;
    const lors_recipe_slice *slice;
    int32_t reference; /* the model whose tensors it has */
    int32_t from, end; /* layers of the reference */
    int32_t out;       /* where the first of them goes */
    int32_t n_layers[3];
    bool first, last, whole;
} placed;

/* The name of a job's tensor in one of its inputs, in canonical form. */
static void canonical_at(const lors_ckpt_tensor *tensor, const lors_tensor_name *described,
                         int32_t layer, lors_tensor_name *out)
{
    char name[LORS_NAME_MAX + 16];
    *out = *described;
    if (layer != described->layer) {
        lors_name_with_layer(tensor->name, described, layer, name);
        lors_name_describe(name, out);
    }
}

static lors_status match_inputs(matcher *m, lors_job *job, const placed *at,
                                const lors_tensor_name *described, int32_t *layers)
{
    for (int32_t k = 0; k < job->n_inputs; k++) {
        const lors_recipe_source *source = &at->slice->sources[k];
        known *one = known_of(m, source->model);
        lors_tensor_name wanted;
        layers[k] = described->layer < 0 ? -1 : described->layer - at->from + source->layers.first;
        canonical_at(job->source, described, layers[k], &wanted);
        job->input_models[k] = one->model;
        job->inputs[k] = find_input(one, wanted.canonical);
        if (!job->inputs[k] && !harmless(job->source) && described->role != LORS_ROLE_SINUSOID) {
            add_offender(&one->missing, "%s'%s'%s",
                         m->plan->recipe->sliced ? wanted.canonical : job->source->name, "");
        }
        if (one->missing.names.failed) {
            return lors_fail_memory(1024);
        }
    }
    return LORS_OK;
}

/* The output's name: as the plan's source calls such a tensor, with the number of the layer where
 * it comes to lie. */
static lors_status name_job(matcher *m, lors_job *job, const lors_tensor_name *described,
                            int32_t layer)
{
    const lors_plan *plan = m->plan;
    char name[LORS_NAME_MAX + 16], a[LORS_ESCAPED_MAX];
    lors_tensor_name kind, own;
    job->name = job->source->name;
    if (!plan->recipe->sliced) {
        return LORS_OK;
    }
    canonical_at(job->source, described, described->layer < 0 ? -1 : 0, &kind);
    int64_t found = lors_map_get(m->kinds, kind.canonical, strlen(kind.canonical));
    const lors_ckpt_tensor *like = found < 0 ? NULL : &plan->source->tensors[found];
    if (!like || (like->n_dims != job->source->n_dims) ||
        memcmp(like->shape, job->source->shape, (size_t)like->n_dims * sizeof *like->shape) != 0) {
        return lors_fail(LORS_ERR_MISMATCH,
                         "%s: tensor '%s' %s %s: layers of models of one "
                         "architecture and one width can be put together",
                         job->source_model->path, lors_escape_text(job->source->name, a),
                         like ? "has another shape than in" : "has no counterpart in",
                         plan->source->path);
    }
    lors_name_describe(like->name, &own);
    snprintf(name, sizeof name, "%s", like->name);
    if (layer >= 0) {
        lors_name_with_layer(like->name, &own, layer, name);
    }
    job->name = lors_arena_copy(plan->arena, name, strlen(name));
    return job->name ? LORS_OK : lors_fail_memory(strlen(name));
}

static lors_status add_job(matcher *m, const placed *at, const lors_ckpt_tensor *tensor,
                           const lors_tensor_name *described)
{
    lors_plan *plan = m->plan;
    lors_job *job = &plan->jobs[plan->n_jobs++];
    size_t n = (size_t)at->slice->n_sources + 1;
    int32_t layer = described->layer, inside = layer - at->from;
    job->source = tensor;
    job->source_model = known_of(m, at->reference)->model;
    job->module = at->module;
    job->slice = at->slice;
    job->n_inputs = at->slice->n_sources;
    job->compat = plan->recipe->compat;
    job->has_base = at->slice->base != LORS_NO_MODEL && lors_plan_model(plan, at->slice->base);
    job->role = lors_role_text(described->role);
    job->position = at->whole ? lors_layer_position(layer, at->n_layers[described->stack])
                              : lors_layer_position(layer < 0 ? -1 : inside, at->end - at->from);
    job->inputs = lors_arena_alloc(plan->arena, n * sizeof(void *));
    job->input_models = lors_arena_alloc(plan->arena, n * sizeof(void *));
    int32_t *layers = lors_arena_alloc(plan->arena, n * sizeof *layers);
    job->layers = layers;
    if (!job->inputs || !job->input_models || !layers) {
        return lors_fail_memory(n * sizeof(void *));
    }
    plan->most_inputs = job->n_inputs > plan->most_inputs ? job->n_inputs : plan->most_inputs;
    LORS_TRY(check_name(job->source_model, tensor));
    LORS_TRY(name_job(m, job, described, layer < 0 ? -1 : at->out + inside));
    return match_inputs(m, job, at, described, layers);
}

/* Is the tensor one of the slice? What lies before the layers goes with the first slice, what lies
 * behind them with the last. */
static bool in_slice(const placed *at, const lors_tensor_name *described)
{
    if (!lors_plan_in_module(at->module, described)) {
        return false;
    }
    if (described->layer < 0) {
        return lors_name_is_behind(described) ? at->last : at->first;
    }
    return described->layer >= at->from && described->layer < at->end;
}

static lors_status add_slice_jobs(matcher *m, const placed *at)
{
    known *reference = known_of(m, at->reference);
    for (int64_t i = 0; i < reference->model->n_tensors; i++) {
        lors_tensor_name described;
        lors_name_describe(reference->model->tensors[i].name, &described);
        if (in_slice(at, &described)) {
            reference->used[i] = true;
            LORS_TRY(add_job(m, at, &reference->model->tensors[i], &described));
        }
    }
    return LORS_OK;
}

/* Slice s of a module, behind `out` layers. */
static placed place_slice(const lors_plan *plan, const lors_recipe_module *module, int32_t s,
                          int32_t out)
{
    const lors_recipe_slice *slice = &module->slices[s];
    bool based = slice->base != LORS_NO_MODEL && lors_plan_model(plan, slice->base);
    const lors_layers *layers = based ? &slice->base_layers : &slice->sources[0].layers;
    placed at = {.module = module,
                 .slice = slice,
                 .reference = based ? slice->base : slice->sources[0].model,
                 .from = layers->first,
                 .end = layers->end < 0 ? INT32_MAX : layers->end,
                 .out = out,
                 .first = s == 0,
                 .last = s == module->n_slices - 1,
                 .whole = layers->end < 0};
    lors_plan_count_stacks(lors_plan_model(plan, at.reference), at.n_layers);
    return at;
}

static lors_status allocate_jobs(lors_plan *plan)
{
    size_t n = 0, n_ties = 0;
    for (int32_t m = 0; m < plan->recipe->n_modules; m++) {
        const lors_recipe_module *module = &plan->recipe->modules[m];
        for (int32_t s = 0; s < module->n_slices; s++) {
            placed at = place_slice(plan, module, s, 0);
            n += (size_t)lors_plan_model(plan, at.reference)->n_tensors;
        }
    }
    for (int32_t k = 0; k < plan->n_models; k++) {
        n_ties += (size_t)plan->models[k]->n_tensors;
    }
    plan->jobs = lors_new(n + 1, sizeof *plan->jobs);
    plan->ties = lors_new(n_ties + 1, sizeof *plan->ties);
    return plan->jobs && plan->ties ? LORS_OK : lors_fail_memory(n * sizeof *plan->jobs);
}

static lors_status index_kinds(matcher *m)
{
    const lors_checkpoint *source = m->plan->source;
    m->kinds = lors_map_create((size_t)source->n_tensors);
    if (!m->kinds) {
        return lors_fail_memory((size_t)source->n_tensors * 32);
    }
    for (int64_t i = 0; i < source->n_tensors; i++) {
        lors_tensor_name described, kind;
        lors_name_describe(source->tensors[i].name, &described);
        canonical_at(&source->tensors[i], &described, described.layer < 0 ? -1 : 0, &kind);
        size_t length = strlen(kind.canonical);
        char *key = lors_arena_copy(m->plan->arena, kind.canonical, length);
        int64_t existing = -1;
        if (!key || !lors_map_put(m->kinds, key, length, i, &existing)) {
            return lors_fail_memory(length);
        }
    }
    return LORS_OK;
}

static lors_status make_jobs(matcher *m)
{
    const lors_plan *plan = m->plan;
    LORS_TRY(allocate_jobs(m->plan));
    if (plan->recipe->sliced) {
        LORS_TRY(index_kinds(m));
    }
    for (int32_t i = 0; i < plan->recipe->n_modules; i++) {
        const lors_recipe_module *module = &plan->recipe->modules[i];
        int32_t out = 0;
        for (int32_t s = 0; s < module->n_slices; s++) {
            placed at = place_slice(plan, module, s, out);
            LORS_TRY(add_slice_jobs(m, &at));
            out += at.whole ? 0 : at.end - at.from;
        }
    }
    return LORS_OK;
}

/* ---- what is left over ---- */

/* Does some slice use this tensor of model k, or others of its layer? */
static bool is_wanted(const lors_plan *plan, int32_t k, const lors_tensor_name *described)
{
    for (int32_t i = 0; i < plan->recipe->n_modules; i++) {
        const lors_recipe_module *module = &plan->recipe->modules[i];
        for (int32_t s = 0; s < module->n_slices; s++) {
            const lors_recipe_slice *slice = &module->slices[s];
            placed at = {.module = module, .first = s == 0, .last = s == module->n_slices - 1};
            for (int32_t n = 0; n < slice->n_sources; n++) {
                const lors_layers *layers = &slice->sources[n].layers;
                at.from = layers->first;
                at.end = layers->end < 0 ? INT32_MAX : layers->end;
                if (slice->sources[n].model == k && in_slice(&at, described)) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* What the model has beyond the reference: an output head tied to a matched tensor is checked by
 * the run, integers are ignored, anything else is an offender. */
static lors_status match_extras(matcher *m, int32_t k)
{
    lors_plan *plan = m->plan;
    known *one = known_of(m, k);
    for (int64_t i = 0; i < one->model->n_tensors; i++) {
        const lors_ckpt_tensor *tensor = &one->model->tensors[i];
        lors_tensor_name described;
        if (one->used[i]) {
            continue;
        }
        lors_name_describe(tensor->name, &described);
        if (!is_wanted(plan, k, &described)) {
            continue; /* of a layer, or an end, that the recipe takes from another model */
        }
        const char *tied = lors_name_tied_to(described.canonical);
        int64_t other = tied ? find_canonical(one, tied) : -1;
        if (other >= 0 &&
            tensor->file >= 0) { /* a stage's cannot be compared */
            plan->ties[plan->n_ties++] = (lors_tie){k, tensor, &one->model->tensors[other]};
        } else if (harmless(tensor)) {
            char escaped[LORS_ESCAPED_MAX];
            LORS_TRY(lors_plan_warn(plan, "%s: '%s' (%s) is not in the base and not used",
                                    one->model->path, lors_escape_text(tensor->name, escaped),
                                    lors_dtype_name(tensor->dtype)));
        } else {
            add_offender(&one->extra, "%s'%s'%s", tensor->name, "");
        }
    }
    return one->extra.names.failed ? lors_fail_memory(1024) : LORS_OK;
}

static void print_shape(const lors_ckpt_tensor *tensor, lors_text *out)
{
    lors_text_printf(out, "[");
    for (int32_t d = 0; d < tensor->n_dims; d++) {
        lors_text_printf(out, "%s%lld", d ? "," : "", (long long)tensor->shape[d]);
    }
    lors_text_printf(out, "]");
}

static bool same_shape(const lors_ckpt_tensor *a, const lors_ckpt_tensor *b)
{
    return a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof *a->shape) == 0;
}

/* Whisper's vocabularies shift their special tokens: they can never be merged row by row. */
static const char *vocabulary_hint(const lors_job *job, const lors_ckpt_tensor *other)
{
    if (strcmp(job->role, "embedding") != 0 || job->source->n_dims != 2 || other->n_dims != 2 ||
        job->source->shape[1] != other->shape[1]) {
        return "";
    }
    return "; the vocabularies differ, so rows mean different tokens (Whisper: 51864 is English "
           "only, 51865 is v1 and v2, 51866 is v3)";
}

static void add_shape(offenders *wrong, const lors_job *job, const lors_ckpt_tensor *input)
{
    lors_text detail = {0};
    print_shape(input, &detail);
    lors_text_printf(&detail, " instead of ");
    print_shape(job->source, &detail);
    add_offender(wrong, "%s'%s' %s", job->name, detail.bytes ? detail.bytes : "");
    lors_text_clear(&detail);
}

static lors_status check_shapes(lors_plan *plan, int32_t k)
{
    offenders wrong = {0};
    const char *hint = "";
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        for (int32_t i = 0; i < job->n_inputs; i++) {
            const lors_ckpt_tensor *input = job->inputs[i];
            bool own = job->input_models[i] == plan->models[k];
            if (own && input && !harmless(job->source) && !same_shape(job->source, input)) {
                add_shape(&wrong, job, input);
                hint = *hint ? hint : vocabulary_hint(job, input);
            }
        }
    }
    lors_status status = LORS_OK;
    if (wrong.count > 0) {
        char more[64];
        status = lors_fail(
            LORS_ERR_MISMATCH,
            "%s: tensors have another shape than in %s: %s%s (%lld in all)%s; only fine-tunes of "
            "one base can be merged",
            plan->models[k]->path, plan->source->path, wrong.names.bytes ? wrong.names.bytes : "",
            and_more(&wrong, more), (long long)wrong.count, hint);
    }
    lors_text_clear(&wrong.names);
    return status;
}

static lors_status refuse(const matcher *m, const known *one, const offenders *list,
                          const char *what)
{
    char more[64];
    return lors_fail(
        LORS_ERR_MISMATCH,
        "%s: tensors %s %s: %s%s (%lld in all): give models that were fine-tuned from this base",
        one->model->path, what, m->plan->source->path, list->names.bytes ? list->names.bytes : "",
        and_more(list, more), (long long)list->count);
}

static lors_status check_model(matcher *m, int32_t k)
{
    const known *one = known_of(m, k);
    LORS_TRY(match_extras(m, k));
    if (one->missing.count > 0) {
        return refuse(m, one, &one->missing, "are missing that are in");
    }
    return one->extra.count > 0 ? refuse(m, one, &one->extra, "are not in")
                                : check_shapes(m->plan, k);
}

static void free_matcher(matcher *m)
{
    for (int32_t k = 0; m->all && k < m->plan->n_models + 1; k++) {
        lors_map_free(m->all[k].by_canonical);
        lors_free(m->all[k].used);
        lors_text_clear(&m->all[k].missing.names);
        lors_text_clear(&m->all[k].extra.names);
    }
    lors_map_free(m->kinds);
    lors_free(m->all);
}

lors_status lors_plan_match(lors_plan *plan)
{
    matcher m = {.plan = plan};
    lors_status status = LORS_OK;
    LORS_TRY_CLEAN(lors_plan_check_layers(plan));
    LORS_TRY_CLEAN(index_models(&m));
    LORS_TRY_CLEAN(make_jobs(&m));
    for (int32_t k = 0; k < plan->n_models; k++) {
        LORS_TRY_CLEAN(check_model(&m, k));
    }
cleanup:
    free_matcher(&m);
    return status;
}

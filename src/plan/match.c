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

/* One model's tensors by canonical name, and which of them have found their place. */
typedef struct matcher {
    lors_plan *plan;
    lors_checkpoint *model;
    lors_map *by_canonical;
    bool *used;
} matcher;

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

static lors_status index_model(matcher *m)
{
    m->used = lors_new((size_t)m->model->n_tensors + 1, sizeof *m->used);
    if (!m->used) {
        return lors_fail_memory((size_t)m->model->n_tensors);
    }
    return index_names(m->plan, m->model, &m->by_canonical);
}

static int64_t find_canonical(const matcher *m, const char *canonical)
{
    return lors_map_get(m->by_canonical, canonical, strlen(canonical));
}

/* The tensor of the model for `canonical`; a tied head that is left out is the other tensor. */
static const lors_ckpt_tensor *find_input(matcher *m, const char *canonical)
{
    int64_t at = find_canonical(m, canonical);
    const char *tied = lors_name_tied_to(canonical);
    if (at < 0 && tied) {
        at = find_canonical(m, tied);
        return at < 0 ? NULL : &m->model->tensors[at];
    }
    if (at < 0) {
        return NULL;
    }
    m->used[at] = true;
    return &m->model->tensors[at];
}

/* Is a tensor that the model lacks, or has beyond the reference, nothing to worry about? Buffers of
 * integers come and go between versions of a framework and are never merged. */
static bool harmless(const lors_ckpt_tensor *tensor)
{
    return !lors_dtype_is_float(tensor->dtype);
}

static lors_status match_source(matcher *m, int32_t k, offenders *missing)
{
    lors_plan *plan = m->plan;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        lors_job *job = &plan->jobs[j];
        lors_tensor_name described;
        lors_name_describe(job->name, &described);
        job->inputs[k] = find_input(m, described.canonical);
        if (!job->inputs[k] && !harmless(job->source) && described.role != LORS_ROLE_SINUSOID) {
            add_offender(missing, "%s'%s'%s", job->name, "");
        }
    }
    return missing->names.failed ? lors_fail_memory(1024) : LORS_OK;
}

/* What the model has beyond the reference: an output head tied to a matched tensor is checked by
 * the run, integers are ignored, anything else is an offender. */
static lors_status match_extras(matcher *m, int32_t k, offenders *extra)
{
    lors_plan *plan = m->plan;
    for (int64_t i = 0; i < m->model->n_tensors; i++) {
        const lors_ckpt_tensor *tensor = &m->model->tensors[i];
        if (m->used[i]) {
            continue;
        }
        lors_tensor_name described;
        lors_name_describe(tensor->name, &described);
        const char *tied = lors_name_tied_to(described.canonical);
        int64_t other = tied ? find_canonical(m, tied) : -1;
        if (other >= 0) {
            plan->ties[plan->n_ties++] = (lors_tie){k, tensor, &m->model->tensors[other]};
        } else if (harmless(tensor)) {
            char escaped[LORS_ESCAPED_MAX];
            LORS_TRY(lors_plan_warn(plan, "%s: '%s' (%s) is not in the base and not used",
                                    m->model->path, lors_escape_text(tensor->name, escaped),
                                    lors_dtype_name(tensor->dtype)));
        } else {
            add_offender(extra, "%s'%s'%s", tensor->name, "");
        }
    }
    return extra->names.failed ? lors_fail_memory(1024) : LORS_OK;
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

static lors_status check_shapes(lors_plan *plan, int32_t k)
{
    offenders wrong = {0};
    const char *hint = "";
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        const lors_ckpt_tensor *input = job->inputs[k];
        if (!input || harmless(job->source) || same_shape(job->source, input)) {
            continue;
        }
        lors_text detail = {0};
        print_shape(input, &detail);
        lors_text_printf(&detail, " instead of ");
        print_shape(job->source, &detail);
        add_offender(&wrong, "%s'%s' %s", job->name, detail.bytes ? detail.bytes : "");
        hint = *hint ? hint : vocabulary_hint(job, input);
        lors_text_clear(&detail);
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

static lors_status refuse(const matcher *m, const offenders *list, const char *what)
{
    char more[64];
    return lors_fail(
        LORS_ERR_MISMATCH,
        "%s: tensors %s %s: %s%s (%lld in all): give models that were fine-tuned from this base",
        m->model->path, what, m->plan->source->path, list->names.bytes ? list->names.bytes : "",
        and_more(list, more), (long long)list->count);
}

static lors_status match_model(lors_plan *plan, int32_t k)
{
    matcher m = {plan, plan->models[k], NULL, NULL};
    offenders missing = {0}, extra = {0};
    lors_status status = LORS_OK;
    LORS_TRY_CLEAN(index_model(&m));
    LORS_TRY_CLEAN(match_source(&m, k, &missing));
    LORS_TRY_CLEAN(match_extras(&m, k, &extra));
    if (missing.count > 0) {
        status = refuse(&m, &missing, "are missing that are in");
    } else if (extra.count > 0) {
        status = refuse(&m, &extra, "are not in");
    } else {
        status = check_shapes(plan, k);
    }
cleanup:
    lors_map_free(m.by_canonical);
    lors_free(m.used);
    lors_text_clear(&missing.names);
    lors_text_clear(&extra.names);
    return status;
}

static lors_status make_jobs(lors_plan *plan)
{
    int64_t n = plan->source->n_tensors;
    size_t n_inputs = (size_t)plan->n_models;
    plan->jobs = lors_new((size_t)n + 1, sizeof *plan->jobs);
    size_t n_ties = 0;
    for (int32_t k = 0; k < plan->n_models; k++) {
        n_ties += (size_t)plan->models[k]->n_tensors;
    }
    plan->ties = lors_new(n_ties + 1, sizeof *plan->ties);
    if (!plan->jobs || !plan->ties) {
        return lors_fail_memory((size_t)n * sizeof *plan->jobs);
    }
    for (int64_t i = 0; i < n; i++) {
        lors_job *job = &plan->jobs[plan->n_jobs++];
        lors_tensor_name described;
        job->source = &plan->source->tensors[i];
        job->name = job->source->name;
        LORS_TRY(check_name(plan->source, job->source));
        lors_name_describe(job->name, &described);
        job->role = lors_role_text(described.role);
        job->inputs = lors_arena_alloc(plan->arena, (n_inputs + 1) * sizeof(void *));
        if (!job->inputs) {
            return lors_fail_memory(n_inputs * sizeof(void *));
        }
    }
    return LORS_OK;
}

lors_status lors_plan_match(lors_plan *plan)
{
    lors_map *names = NULL; /* of the reference: only to refuse two names of one weight */
    lors_status status = index_names(plan, plan->source, &names);
    lors_map_free(names);
    LORS_TRY(status);
    LORS_TRY(make_jobs(plan));
    for (int32_t k = 0; k < plan->n_models; k++) {
        LORS_TRY(match_model(plan, k));
    }
    return LORS_OK;
}

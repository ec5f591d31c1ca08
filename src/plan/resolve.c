/* resolve.c - what happens to each tensor: treatment, parameters, type of the result. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "plan/plan_internal.h"

typedef struct resolver {
    lors_plan *plan;
    const lors_method_def *method;
    bool has_dtype;
    lors_dtype dtype;
    int32_t n_layers[3]; /* per lors_stack */
} resolver;

static lors_status refuse_dtype(const lors_checkpoint *model, const lors_ckpt_tensor *tensor,
                                const char *why)
{
    char escaped[LORS_ESCAPED_MAX];
    return lors_fail(
        LORS_ERR_MISMATCH, "%s: tensor '%s' is %s, %s: convert the model to F32, F16 or BF16 first",
        model->path, lors_escape_text(tensor->name, escaped), lors_dtype_name(tensor->dtype), why);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* Packed weights of GPTQ, AWQ and their kin: integers, but not to be passed through a merge. */
static bool looks_quantised(const lors_ckpt_tensor *tensor)
{
    static const char *const ends[] = {
        ".qweight", ".qzeros", ".weight_packed", ".absmax", ".quant_state.bitsandbytes__nf4", NULL};
    for (int i = 0; ends[i]; i++) {
        if (ends_with(tensor->name, ends[i])) {
            return true;
        }
    }
    return tensor->n_dims == 2 && ends_with(tensor->name, ".weight") &&
           !lors_dtype_is_float(tensor->dtype);
}

static bool is_layer_matrix(const lors_job *job, const lors_tensor_name *described)
{
    bool role = (described->role >= LORS_ROLE_ATTENTION_Q && described->role <= LORS_ROLE_MLP);
    return role && job->source->n_dims == 2 && described->is_weight;
}

static bool in_scope(const resolver *r, const lors_job *job, const lors_tensor_name *described)
{
    const lors_recipe *recipe = r->plan->recipe;
    lors_subject subject = {job->name, described};
    if (recipe->n_scope == 0) { /* for methods that treat matrices those of attention and MLP */
        return !r->method->info.uses_matrices || job->is_layer_matrix;
    }
    for (int32_t i = 0; i < recipe->n_scope; i++) {
        if (lors_selector_matches(recipe->scope[i].selector, &subject)) {
            return true;
        }
    }
    return false;
}

static void set(lors_job *job, lors_treatment treatment, const lors_method_def *def,
                const char *reason)
{
    job->treatment = treatment;
    job->def = def;
    job->reason = reason;
}

static void choose_treatment(const resolver *r, lors_job *job, const lors_tensor_name *described)
{
    const lors_recipe *recipe = r->plan->recipe;
    bool matrices = r->method->info.uses_matrices;
    if (described->role == LORS_ROLE_SINUSOID && !recipe->merge_sinusoid) {
        set(job, LORS_TREAT_COPY, NULL, "fixed sinusoid, never trained");
    } else if (!lors_dtype_is_float(job->source->dtype)) {
        set(job, LORS_TREAT_COPY, NULL, "not a floating-point tensor");
    } else if (job->source->n_elements == 0) {
        set(job, LORS_TREAT_COPY, NULL, "empty");
    } else if (in_scope(r, job, described)) {
        if (matrices && job->source->n_dims < 2) {
            set(job, LORS_TREAT_WEIGHTED, &lors_method_task_arithmetic, "not a matrix");
        } else {
            set(job, LORS_TREAT_METHOD, r->method, "");
        }
    } else if (recipe->outside == LORS_OUTSIDE_WEIGHTED ||
               (recipe->outside == LORS_OUTSIDE_DEFAULT && matrices)) {
        set(job, LORS_TREAT_WEIGHTED, &lors_method_task_arithmetic, "outside the scope");
    } else {
        set(job, LORS_TREAT_COPY, NULL, "outside the scope");
    }
    if (job->treatment == LORS_TREAT_WEIGHTED && !r->plan->base) {
        set(job, LORS_TREAT_METHOD, r->method, "");
    }
}

static lors_status check_dtypes(const resolver *r, const lors_job *job)
{
    if (looks_quantised(job->source)) {
        return refuse_dtype(r->plan->source, job->source,
                            "a quantised weight that cannot be merged");
    }
    if (job->treatment == LORS_TREAT_COPY) {
        return LORS_OK;
    }
    if (!lors_dtype_merges(job->source->dtype)) {
        return refuse_dtype(r->plan->source, job->source, "which cannot be merged");
    }
    for (int32_t k = 0; k < r->plan->n_models; k++) {
        if (!job->inputs[k]) {
            char escaped[LORS_ESCAPED_MAX];
            return lors_fail(LORS_ERR_MISMATCH, "%s: tensor '%s' is missing",
                             r->plan->models[k]->path, lors_escape_text(job->name, escaped));
        }
        if (!lors_dtype_merges(job->inputs[k]->dtype)) {
            return refuse_dtype(r->plan->models[k], job->inputs[k], "which cannot be merged");
        }
    }
    return LORS_OK;
}

/* A rank as written, as a count for this matrix: shares of the short side, rounded down, but at
 * least 1 where they are more than 0. */
static lors_cell rank_cell(lors_value value, const lors_job *job)
{
    double shortest = (double)(job->n_rows < job->n_cols ? job->n_rows : job->n_cols);
    if (value.kind == LORS_VALUE_ENERGY) {
        return (lors_cell){-1, value.number};
    }
    double count = value.number;
    if (value.kind == LORS_VALUE_SHARE) {
        count = floor(value.number * shortest);
        count = count < 1 && value.number > 0 ? 1 : count;
    }
    return (lors_cell){count < shortest ? count : shortest, 0};
}

/* Parameter `param` of `def` for model k: by name in the recipe's method, else def's own
 * default. */
static lors_cell resolve_cell(const resolver *r, const lors_job *job, const lors_param_info *info,
                              int32_t k, const lors_tensor_name *described)
{
    const lors_recipe *recipe = r->plan->recipe;
    lors_subject subject = {job->name, described};
    int32_t named = lors_method_param(&r->method->info, info->name);
    bool from_recipe = false;
    lors_value value = {LORS_VALUE_NUMBER, 0};
    if (named >= 0) {
        value = lors_recipe_value(recipe, named, info->per_model ? k : -1, &subject,
                                  r->n_layers[described->stack], &from_recipe);
        info = &r->method->info.params[named];
    }
    if (!from_recipe) {
        bool per_count = isnan(info->fallback_value);
        value.number = per_count ? 1.0 / r->plan->n_models : info->fallback_value;
        value.kind = info->kind == LORS_PARAM_RANK ? LORS_VALUE_SHARE : LORS_VALUE_NUMBER;
    }
    if (info->kind == LORS_PARAM_RANK) {
        return rank_cell(value, job);
    }
    return (lors_cell){value.number, 0};
}

static lors_status resolve_cells(const resolver *r, lors_job *job,
                                 const lors_tensor_name *described)
{
    const lors_method_info *info = &job->def->info;
    int32_t n = r->plan->n_models;
    size_t n_bytes = (size_t)(info->n_params * n + 1) * sizeof(lors_cell);
    lors_cell *cells = lors_arena_alloc(r->plan->arena, n_bytes);
    if (!cells) {
        return lors_fail_memory(n_bytes);
    }
    for (int32_t p = 0; p < info->n_params; p++) {
        for (int32_t k = 0; k < n; k++) {
            cells[p * n + k] = resolve_cell(r, job, &info->params[p], k, described);
        }
    }
    job->cells = cells;
    job->n_models = n;
    return LORS_OK;
}

/* Where the weights are that a method refuses: the last one written; else the method's name. */
static lors_place weights_place(const resolver *r)
{
    const lors_recipe *recipe = r->plan->recipe;
    int32_t weight = lors_method_param(&r->method->info, "weight");
    lors_place place = recipe->method_place;
    for (int32_t k = -1; k < recipe->n_models; k++) {
        const lors_settings *own = k < 0 ? &recipe->settings : &recipe->models[k].settings;
        for (int32_t i = 0; i < own->count; i++) {
            place = own->items[i].param == weight ? own->items[i].place : place;
        }
    }
    return place;
}

/* Parameters that leave the base as it is make a copy; others are checked by the method. */
static lors_status check_parameters(const resolver *r, lors_job *job)
{
    lors_call call = lors_plan_call(r->plan, job);
    if (job->def->is_base && job->def->is_base(&call)) {
        set(job, LORS_TREAT_COPY, NULL, "weights or lambda are 0");
        return LORS_OK;
    }
    lors_status status = job->def->check ? job->def->check(&call) : LORS_OK;
    if (status != LORS_OK) {
        char escaped[LORS_ESCAPED_MAX], where[512], prefix[LORS_ESCAPED_MAX + sizeof where];
        snprintf(prefix, sizeof prefix, "%s: tensor '%s'",
                 lors_recipe_locate(r->plan->recipe, weights_place(r), where),
                 lors_escape_text(job->name, escaped));
        return lors_fail_within(status, prefix);
    }
    return LORS_OK;
}

static lors_status simplify(const resolver *r, lors_job *job, const lors_tensor_name *described)
{
    lors_call call = lors_plan_call(r->plan, job);
    const lors_method_def *instead = job->treatment != LORS_TREAT_COPY && job->def->instead
                                         ? job->def->instead(&call)
                                         : NULL;
    if (!instead) {
        return LORS_OK;
    }
    bool plain = instead == &lors_method_task_arithmetic;
    set(job, job->treatment, instead, plain ? "all is kept: task arithmetic" : job->reason);
    return resolve_cells(r, job, described);
}

static void finish_job(const resolver *r, lors_job *job)
{
    lors_dtype source = job->source->dtype;
    job->out_dtype = lors_dtype_merges(source) && r->has_dtype ? r->dtype : source;
    if (job->treatment == LORS_TREAT_COPY) {
        job->n_models = 0;
        job->def = job->out_dtype != source ? &lors_method_convert : NULL;
    }
    job->reads_source = !job->def || job->def->info.needs_base ||
                        (job->def->info.takes_base && r->plan->base);
    job->by_matrix = job->def && (job->def->apply_matrix || job->def->apply_whole);
    job->out_bytes = job->def
                         ? job->source->n_elements * (uint64_t)lors_dtype_bits(job->out_dtype) / 8
                         : job->source->n_bytes;
}

static lors_status resolve_job(const resolver *r, lors_job *job)
{
    const lors_ckpt_tensor *source = job->source;
    lors_tensor_name described;
    lors_name_describe(job->name, &described);
    job->n_rows = source->n_dims > 1 ? source->shape[0] : 1; /* a vector is one row */
    job->n_cols = job->n_rows > 0 ? (int64_t)(source->n_elements / (uint64_t)job->n_rows) : 0;
    job->is_layer_matrix = is_layer_matrix(job, &described);
    choose_treatment(r, job, &described);
    job->key = lors_xxh64_of(described.canonical, strlen(described.canonical)) ^ r->plan->seed;
    LORS_TRY(check_dtypes(r, job));
    if (job->treatment != LORS_TREAT_COPY) {
        LORS_TRY(resolve_cells(r, job, &described));
        LORS_TRY(check_parameters(r, job));
        LORS_TRY(simplify(r, job, &described));
    }
    finish_job(r, job);
    return LORS_OK;
}

static void count_layers(resolver *r)
{
    for (int64_t j = 0; j < r->plan->n_jobs; j++) {
        lors_tensor_name described;
        lors_name_describe(r->plan->jobs[j].name, &described);
        if (described.layer >= r->n_layers[described.stack]) {
            r->n_layers[described.stack] = described.layer + 1;
        }
    }
}

/* A selector that selects nothing is a slip: layers beyond the last, a role that is not there. */
static lors_status check_selector(const lors_plan *plan, const lors_selector *selector,
                                  lors_place place, const char *what)
{
    char where[512], path[LORS_ESCAPED_MAX];
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        lors_tensor_name described;
        lors_name_describe(plan->jobs[j].name, &described);
        lors_subject subject = {plan->jobs[j].name, &described};
        if (lors_selector_matches(selector, &subject)) {
            return LORS_OK;
        }
    }
    return lors_fail(LORS_ERR_RECIPE,
                     "%s: %s selects no tensor of %s: `lors inspect` lists names, layers and roles",
                     lors_recipe_locate(plan->recipe, place, where), what,
                     lors_escape_text(plan->source->path, path));
}

static lors_status check_filters(const lors_plan *plan, const lors_settings *settings)
{
    for (int32_t i = 0; i < settings->count; i++) {
        const lors_setting *setting = &settings->items[i];
        for (int32_t k = 0; k < setting->n_cases; k++) {
            const lors_setting_case *item = &setting->cases[k];
            if (item->filter) {
                LORS_TRY(check_selector(plan, item->filter, item->filter_place, "the filter"));
            }
        }
    }
    return LORS_OK;
}

static lors_status check_selectors(const lors_plan *plan)
{
    const lors_recipe *recipe = plan->recipe;
    for (int32_t i = 0; i < recipe->n_scope; i++) {
        const lors_scope_entry *entry = &recipe->scope[i];
        LORS_TRY(check_selector(plan, entry->selector, entry->place, "the scope"));
    }
    LORS_TRY(check_filters(plan, &recipe->settings));
    for (int32_t k = 0; k < recipe->n_models; k++) {
        LORS_TRY(check_filters(plan, &recipe->models[k].settings));
    }
    return LORS_OK;
}

/* Say once per model in which types its tensors differ from the reference's. */
static lors_status warn_dtypes(lors_plan *plan)
{
    for (int32_t k = 0; k < plan->n_models; k++) {
        int64_t count = 0;
        const lors_job *first = NULL;
        for (int64_t j = 0; j < plan->n_jobs; j++) {
            const lors_job *job = &plan->jobs[j];
            if (job->inputs[k] && job->inputs[k]->dtype != job->source->dtype) {
                first = first ? first : job;
                count++;
            }
        }
        if (first) {
            LORS_TRY(lors_plan_warn(
                plan, "%s: %lld tensors are %s where the base has %s; both are widened exactly",
                plan->models[k]->path, (long long)count, lors_dtype_name(first->inputs[k]->dtype),
                lors_dtype_name(first->source->dtype)));
        }
    }
    return LORS_OK;
}

lors_status lors_plan_resolve(lors_plan *plan, bool has_out_dtype, lors_dtype out_dtype)
{
    const lors_recipe *recipe = plan->recipe;
    resolver r = {.plan = plan,
                  .method = lors_method_def_find(recipe->method->name),
                  .has_dtype = has_out_dtype || recipe->has_out_dtype || recipe->has_dtype};
    r.dtype = has_out_dtype ? out_dtype : recipe->has_out_dtype ? recipe->out_dtype : recipe->dtype;
    count_layers(&r);
    if (recipe->outside == LORS_OUTSIDE_WEIGHTED &&
        lors_method_param(&r.method->info, "weight") < 0) {
        return lors_fail(LORS_ERR_RECIPE,
                         "%s: outside: weighted needs a method with weights, which '%s' has not: "
                         "use outside: base",
                         recipe->label, r.method->info.name);
    }
    LORS_TRY(check_selectors(plan));
    int64_t n_merged = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        LORS_TRY(resolve_job(&r, &plan->jobs[j]));
        n_merged += plan->jobs[j].treatment == LORS_TREAT_METHOD;
    }
    if (n_merged == 0) {
        LORS_TRY(lors_plan_warn(plan,
                                "no tensor is treated by '%s': look at `scope`, the weights and "
                                "lambda (`lors plan` lists every tensor with its role)",
                                recipe->method->name));
    }
    return warn_dtypes(plan);
}

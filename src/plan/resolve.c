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
    if (job->treatment == LORS_TREAT_WEIGHTED && !job->has_base) {
        set(job, LORS_TREAT_WEIGHTED, &lors_method_linear, job->reason);
    }
}

static lors_status check_dtypes(const lors_job *job)
{
    if (looks_quantised(job->source)) {
        return refuse_dtype(job->source_model, job->source,
                            "a quantised weight that cannot be merged");
    }
    if (job->treatment == LORS_TREAT_COPY) {
        return LORS_OK;
    }
    if (!lors_dtype_merges(job->source->dtype)) {
        return refuse_dtype(job->source_model, job->source, "which cannot be merged");
    }
    for (int32_t k = 0; k < job->n_inputs; k++) {
        if (!job->inputs[k]) {
            char escaped[LORS_ESCAPED_MAX];
            return lors_fail(LORS_ERR_MISMATCH, "%s: tensor '%s' is missing",
                             job->input_models[k]->path, lors_escape_text(job->name, escaped));
        }
        if (!lors_dtype_merges(job->inputs[k]->dtype)) {
            return refuse_dtype(job->input_models[k], job->inputs[k], "which cannot be merged");
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

/* What filters under a source are asked about: the base's name of the tensor, in a sliced recipe
 * with the layer of that source. */
typedef struct asked {
    char name[LORS_NAME_MAX + 16];
    lors_tensor_name described;
    lors_subject subject;
} asked;

static void ask_about(const resolver *r, const lors_job *job, const lors_tensor_name *described,
                      int32_t k, asked *out)
{
    out->subject = (lors_subject){job->name, described};
    if (r->plan->recipe->sliced && described->layer >= 0) {
        lors_name_with_layer(job->name, described, job->layers[k], out->name);
        lors_name_describe(out->name, &out->described);
        out->subject = (lors_subject){out->name, &out->described};
    }
}

/* Parameter `param` of `def` for source k: by name in the recipe's method, else def's own
 * default. */
static lors_cell resolve_cell(const resolver *r, const lors_job *job, const lors_param_info *info,
                              int32_t k, const lors_subject *input, const lors_subject *output)
{
    int32_t named = lors_method_param(&r->method->info, info->name);
    bool from_recipe = false;
    lors_value value = {LORS_VALUE_NUMBER, 0};
    if (named >= 0) {
        lors_value_at at = {.module = job->module,
                            .slice = job->slice,
                            .source = info->per_model ? &job->slice->sources[k] : NULL,
                            .input = input,
                            .output = output,
                            .position = job->position};
        value = lors_recipe_value(r->plan->recipe, named, &at, &from_recipe);
        info = &r->method->info.params[named];
    }
    if (!from_recipe) {
        bool per_count = isnan(info->fallback_value);
        value.number = per_count ? 1.0 / job->n_inputs : info->fallback_value;
        value.kind = info->kind == LORS_PARAM_RANK ? LORS_VALUE_SHARE : LORS_VALUE_NUMBER;
    }
    if (info->kind == LORS_PARAM_RANK) {
        return rank_cell(value, job);
    }
    return (lors_cell){value.number, 0};
}

/* Weights of what is subtracted are negative; to divide by the sum of the weights means that of the
 * models, so that it is taken into lambda. */
static void subtract_bases(const lors_job *job, const lors_method_info *info, lors_cell *cells)
{
    int32_t n = job->n_inputs, n_subtracted = 0;
    int32_t weight = lors_method_param(info, "weight"), lambda = lors_method_param(info, "lambda");
    int32_t normalize = lors_method_param(info, "normalize");
    double sum = 0;
    for (int32_t k = 0; k < n; k++) {
        bool subtracted = job->slice->sources[k].subtracted;
        n_subtracted += subtracted;
        sum += subtracted ? 0 : cells[weight * n + k].number;
        cells[weight * n + k].number *= subtracted ? -1 : 1;
    }
    if (n_subtracted == 0 || cells[normalize * n].number == 0) {
        return;
    }
    for (int32_t k = 0; k < n && sum != 0; k++) {
        cells[normalize * n + k].number = 0;
        cells[lambda * n + k].number /= sum;
    }
}

/* Outside the scope: is it a mean of task vectors? So for methods that are one, which have no scale
 * of their own, and for those that say so. */
static bool outside_is_mean(const lors_method_def *def)
{
    bool scales = lors_method_param(&def->info, "lambda") >= 0 ||
                  lors_method_param(&def->info, "normalize") >= 0;
    return !scales || def->outside_is_mean;
}

/* Outside the scope a model that the others were merged into stands for them. */
static lors_status keep_merged(const resolver *r, const lors_job *job, const lors_subject *output,
                               const lors_tensor_name *described, lors_cell *weights)
{
    int32_t n = job->n_inputs, merged = lors_method_param(&r->method->info, "merged");
    int32_t n_merged = 0;
    bool is_merged[LORS_MAX_MODELS] = {false};
    asked input;
    for (int32_t k = 0; k < n && merged >= 0; k++) {
        const lors_param_info *info = &r->method->info.params[merged];
        ask_about(r, job, described, k, &input);
        is_merged[k] = resolve_cell(r, job, info, k, &input.subject, output).number != 0;
        n_merged += is_merged[k];
    }
    for (int32_t k = 0; k < n && n_merged > 0; k++) {
        weights[k].number = is_merged[k] ? weights[k].number : 0;
    }
    return n_merged <= 1 ? LORS_OK
                         : lors_fail(LORS_ERR_RECIPE,
                                     "%s: tensor '%s': %d models are marked `merged: true`: mark "
                                     "only the one that is to be calibrated",
                                     r->plan->recipe->label, job->name, n_merged);
}

static lors_status resolve_cells(const resolver *r, lors_job *job,
                                 const lors_tensor_name *described)
{
    const lors_method_info *info = &job->def->info;
    int32_t n = job->n_inputs;
    lors_subject output = {job->name, described};
    asked input;
    size_t n_bytes = (size_t)(info->n_params * n + 1) * sizeof(lors_cell);
    lors_cell *cells = lors_arena_alloc(r->plan->arena, n_bytes);
    if (!cells) {
        return lors_fail_memory(n_bytes);
    }
    for (int32_t k = 0; k < n; k++) {
        ask_about(r, job, described, k, &input);
        for (int32_t p = 0; p < info->n_params; p++) {
            cells[p * n + k] = resolve_cell(r, job, &info->params[p], k, &input.subject, &output);
        }
    }
    if (job->treatment == LORS_TREAT_WEIGHTED && outside_is_mean(r->method)) {
        for (int32_t k = 0; k < n; k++) {
            cells[lors_method_param(info, "normalize") * n + k].number = 1;
        }
        LORS_TRY(keep_merged(r, job, &output, described,
                             cells + lors_method_param(info, "weight") * n));
    }
    if (lors_method_param(info, "weight") >= 0) {
        subtract_bases(job, info, cells);
    }
    job->cells = cells;
    job->n_models = n;
    return LORS_OK;
}

static void last_weight(const lors_settings *settings, int32_t weight, lors_place *place)
{
    for (int32_t i = 0; i < settings->count; i++) {
        *place = settings->items[i].param == weight ? settings->items[i].place : *place;
    }
}

/* Where the weights are that a method refuses: the last one written; else the method's name. */
static lors_place weights_place(const resolver *r, const lors_job *job)
{
    const lors_recipe *recipe = r->plan->recipe;
    int32_t weight = lors_method_param(&r->method->info, "weight");
    lors_place place = recipe->method_place;
    last_weight(&recipe->settings, weight, &place);
    last_weight(&job->module->settings, weight, &place);
    last_weight(&job->slice->settings, weight, &place);
    for (int32_t k = 0; k < job->n_inputs; k++) {
        last_weight(&job->slice->sources[k].settings, weight, &place);
    }
    return place;
}

/* Parameters that leave the base as it is make a copy; others are checked by the method. */
static lors_status check_parameters(const resolver *r, lors_job *job)
{
    lors_call call = lors_plan_call(r->plan, job);
    if (job->def->is_base && job->def->is_base(&call)) {
        bool based = job->def->info.needs_base;
        set(job, based ? LORS_TREAT_COPY : job->treatment, NULL,
            based ? "weights or lambda are 0" : "as it is");
        return LORS_OK;
    }
    lors_status status = job->def->check ? job->def->check(&call) : LORS_OK;
    if (status != LORS_OK) {
        char escaped[LORS_ESCAPED_MAX], where[512], prefix[LORS_ESCAPED_MAX + sizeof where];
        snprintf(prefix, sizeof prefix, "%s: tensor '%s'",
                 lors_recipe_locate(r->plan->recipe, weights_place(r, job), where),
                 lors_escape_text(job->name, escaped));
        return lors_fail_within(status, prefix);
    }
    return LORS_OK;
}

static lors_status simplify(const resolver *r, lors_job *job, const lors_tensor_name *described)
{
    lors_call call = lors_plan_call(r->plan, job);
    const lors_method_def *instead =
        job->def && job->def->instead ? job->def->instead(&call) : NULL;
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
    if (!job->def) {
        job->n_models = 0;
        job->def = job->out_dtype != source ? &lors_method_convert : NULL;
    }
    job->reads_source = !job->def || job->def->info.needs_base ||
                        (job->def->info.takes_base && job->has_base);
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
    if (r->plan->whole) { /* a stage draws by itself, not what the next one draws */
        const char *document = r->plan->recipe->name;
        job->key ^= lors_xxh64_of(document, strlen(document));
    }
    if (job->n_inputs == 0 && job->treatment != LORS_TREAT_COPY) {
        set(job, LORS_TREAT_COPY, NULL, "only the base is in this slice");
    }
    LORS_TRY(check_dtypes(job));
    if (job->treatment != LORS_TREAT_COPY) {
        LORS_TRY(resolve_cells(r, job, &described));
        LORS_TRY(check_parameters(r, job));
        LORS_TRY(simplify(r, job, &described));
    }
    finish_job(r, job);
    return lors_plan_set_origin(r->plan, job);
}

/* A selector that selects nothing is a slip: layers beyond the last, a role that is not there.
 * Which tensors are in question: those of a module, a slice, one of its sources; NULL: all. */
typedef struct reach {
    const lors_recipe_module *module;
    const lors_recipe_slice *slice;
    const lors_recipe_source *source;
} reach;

static bool selects(const resolver *r, const lors_selector *selector, const reach *of,
                    const lors_job *job)
{
    lors_tensor_name described;
    asked input;
    lors_name_describe(job->name, &described);
    if ((of->module && of->module != job->module) || (of->slice && of->slice != job->slice)) {
        return false;
    }
    input.subject = (lors_subject){job->name, &described};
    if (of->source) {
        ask_about(r, job, &described, (int32_t)(of->source - job->slice->sources), &input);
    }
    return lors_selector_matches(selector, &input.subject);
}

static lors_status check_selector(const resolver *r, const lors_selector *selector,
                                  lors_place place, const reach *of, const char *what)
{
    const lors_plan *plan = r->plan;
    char where[512], path[LORS_ESCAPED_MAX];
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        if (selects(r, selector, of, &plan->jobs[j])) {
            return LORS_OK;
        }
    }
    return lors_fail(LORS_ERR_RECIPE,
                     "%s: %s selects no tensor of %s: `lors inspect` lists names, layers and roles",
                     lors_recipe_locate(plan->recipe, place, where), what,
                     lors_escape_text(plan->source->path, path));
}

static lors_status check_filters(const resolver *r, const lors_settings *settings, reach of)
{
    for (int32_t i = 0; i < settings->count; i++) {
        const lors_setting *setting = &settings->items[i];
        for (int32_t k = 0; k < setting->n_cases; k++) {
            const lors_setting_case *item = &setting->cases[k];
            if (item->filter) {
                LORS_TRY(check_selector(r, item->filter, item->filter_place, &of, "the filter"));
            }
        }
    }
    return LORS_OK;
}

static lors_status check_slice_filters(const resolver *r, const lors_recipe_module *module,
                                       const lors_recipe_slice *slice)
{
    LORS_TRY(check_filters(r, &slice->settings, (reach){module, slice, NULL}));
    for (int32_t k = 0; k < slice->n_sources; k++) {
        const lors_recipe_source *source = &slice->sources[k];
        LORS_TRY(check_filters(r, &source->settings, (reach){module, slice, source}));
    }
    return LORS_OK;
}

static lors_status check_selectors(const resolver *r)
{
    const lors_recipe *recipe = r->plan->recipe;
    const reach all = {NULL, NULL, NULL};
    for (int32_t i = 0; i < recipe->n_scope; i++) {
        const lors_scope_entry *entry = &recipe->scope[i];
        LORS_TRY(check_selector(r, entry->selector, entry->place, &all, "the scope"));
    }
    LORS_TRY(check_filters(r, &recipe->settings, all));
    for (int32_t m = 0; m < recipe->n_modules; m++) {
        const lors_recipe_module *module = &recipe->modules[m];
        LORS_TRY(check_filters(r, &module->settings, (reach){module, NULL, NULL}));
        for (int32_t s = 0; s < module->n_slices; s++) {
            LORS_TRY(check_slice_filters(r, module, &module->slices[s]));
        }
    }
    return LORS_OK;
}

/* An input of the job that is of model k and has another type than the source; NULL: none. */
static const lors_ckpt_tensor *other_type(const lors_plan *plan, const lors_job *job, int32_t k)
{
    for (int32_t i = 0; i < job->n_inputs; i++) {
        const lors_ckpt_tensor *input = job->inputs[i];
        if (input && job->input_models[i] == plan->models[k] &&
            input->dtype != job->source->dtype) {
            return input;
        }
    }
    return NULL;
}

/* Say once per model in which types its tensors differ from the reference's. */
static lors_status warn_dtypes(lors_plan *plan)
{
    for (int32_t k = 0; k < plan->n_models; k++) {
        int64_t count = 0;
        const lors_job *first = NULL;
        for (int64_t j = 0; j < plan->n_jobs; j++) {
            bool differs = other_type(plan, &plan->jobs[j], k) != NULL;
            first = differs && !first ? &plan->jobs[j] : first;
            count += differs;
        }
        if (first) {
            LORS_TRY(lors_plan_warn(
                plan, "%s: %lld tensors are %s where the base has %s; both are widened exactly",
                plan->models[k]->path, (long long)count,
                lors_dtype_name(other_type(plan, first, k)->dtype),
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
    if (recipe->outside == LORS_OUTSIDE_WEIGHTED &&
        lors_method_param(&r.method->info, "weight") < 0) {
        return lors_fail(LORS_ERR_RECIPE,
                         "%s: outside: weighted needs a method with weights, which '%s' has not: "
                         "use outside: base",
                         recipe->label, r.method->info.name);
    }
    LORS_TRY(check_selectors(&r));
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

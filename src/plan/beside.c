/* beside.c - what stands beside the merged weights: configuration and files of the reference. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "plan/plan_internal.h"

/* Does the recipe, or one of its stages, lay layers out anew? */
static bool is_sliced(const lors_plan *plan)
{
    bool sliced = plan->recipe->sliced;
    for (int32_t i = 0; i < plan->n_stages; i++) {
        sliced = sliced || plan->stages[i]->recipe->sliced;
    }
    return sliced;
}

/* Tensors of the same shapes under configurations of other sizes: one of the two is wrong, and the
 * base's is what the output gets. */
static lors_status warn_sizes(lors_plan *plan, const lors_model_config *base,
                              const lors_model_config *config, const char *path)
{
    const struct {
        const char *key;
        int64_t base, model;
    } sizes[] = {{"vocab_size", base->vocab_size, config->vocab_size},
                 {"d_model", base->d_model, config->d_model},
                 {"encoder_layers", base->encoder_layers, config->encoder_layers},
                 {"decoder_layers", base->decoder_layers, config->decoder_layers},
                 {"num_mel_bins", base->num_mel_bins, config->num_mel_bins}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        bool layers = strstr(sizes[i].key, "layers") != NULL;
        if (layers && is_sliced(plan)) {
            continue; /* the output's are counted */
        }
        if (sizes[i].base >= 0 && sizes[i].model >= 0 && sizes[i].base != sizes[i].model) {
            LORS_TRY(lors_plan_warn(
                plan,
                "%s/config.json: '%s' is %lld, but %lld in the configuration of %s, which is kept",
                path, sizes[i].key, (long long)sizes[i].model, (long long)sizes[i].base,
                plan->donor->path));
        }
    }
    return LORS_OK;
}

/* Two configurations that name different architectures are different models, whatever the
 * shapes. */
static lors_status check_config(lors_plan *plan, const lors_model_config *base,
                                const lors_checkpoint *model)
{
    lors_model_config config = {0};
    if (!model || !model->is_folder || model == plan->donor) {
        return LORS_OK;
    }
    LORS_TRY(lors_model_config_read(model->path, plan->follow_symlinks, &config));
    lors_status status = LORS_OK;
    if (base->architecture && config.architecture &&
        strcmp(base->architecture, config.architecture) != 0) {
        char a[LORS_ESCAPED_MAX], b[LORS_ESCAPED_MAX];
        status = lors_fail(LORS_ERR_MISMATCH,
                           "%s/config.json: the architecture is '%s', but that of %s is '%s': only "
                           "models of one architecture can be merged",
                           model->path, lors_escape_text(config.architecture, a), plan->donor->path,
                           lors_escape_text(base->architecture, b));
    } else {
        status = warn_sizes(plan, base, &config, model->path);
    }
    lors_model_config_clear(&config);
    return status;
}

/* The name that config.json gives to a storage type. */
static const char *config_dtype(lors_dtype dtype)
{
    return dtype == LORS_F16 ? "float16" : dtype == LORS_BF16 ? "bfloat16" : "float32";
}

/* The type of the output's floating-point tensors, taken from the largest one. */
static lors_dtype main_dtype(const lors_plan *plan)
{
    const lors_job *best = NULL;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        if (lors_dtype_merges(job->out_dtype) && (!best || job->out_bytes > best->out_bytes)) {
            best = job;
        }
    }
    return best ? best->out_dtype : LORS_F32;
}

lors_status lors_plan_config(lors_plan *plan)
{
    if (!plan->donor->is_folder) {
        return LORS_OK;
    }
    lors_model_config base = {0};
    lors_status status = lors_model_config_read(plan->donor->path, plan->follow_symlinks, &base);
    for (int32_t k = 0; k < plan->n_models && status == LORS_OK; k++) {
        status = check_config(plan, &base, plan->models[k]);
    }
    for (int32_t i = 0; i < plan->n_stages && status == LORS_OK; i++) {
        const lors_plan *stage = plan->stages[i];
        status = check_config(plan, &base, stage->base);
        for (int32_t k = 0; k < stage->n_models && status == LORS_OK; k++) {
            status = check_config(plan, &base, stage->models[k]);
        }
    }
    const char *dtype = config_dtype(main_dtype(plan));
    if (status == LORS_OK && base.dtype && strcmp(base.dtype, dtype) != 0) {
        status = lors_model_config_with_dtype(plan->donor->path, dtype, &plan->config_text,
                                              &plan->config_bytes);
    }
    if (status == LORS_OK && is_sliced(plan)) {
        status = lors_plan_config_layers(plan);
    }
    lors_model_config_clear(&base);
    return status;
}

/* The files beside a model's weights, and a warning for each that is left out. */
static lors_status list_files(lors_plan *plan, const lors_checkpoint *model, lors_side_file **files,
                              int32_t *n_files)
{
    lors_list skipped = {0};
    lors_status status =
        lors_side_files_list(model->path, plan->follow_symlinks, files, n_files, &skipped);
    for (size_t i = 0; i < skipped.count; i++) {
        char escaped[LORS_ESCAPED_MAX];
        if (status == LORS_OK && model == plan->donor) {
            status = lors_plan_warn(plan, "%s: '%s' is not copied", model->path,
                                    lors_escape_text(skipped.items[i], escaped));
        }
        lors_free(skipped.items[i]);
    }
    lors_free(skipped.items);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const lors_side_file *)a)->name, ((const lors_side_file *)b)->name);
}

/* Of `from` those that are part of a tokenizer (or are not) go to the end of `to`. */
static void move_files(lors_side_file *from, int32_t n_from, bool tokenizer, lors_side_file *to,
                       int32_t *n_to)
{
    for (int32_t i = 0; i < n_from; i++) {
        if (lors_side_file_is_tokenizer(from[i].name) == tokenizer) {
            to[(*n_to)++] = from[i];
            from[i].name = NULL;
        }
    }
}

/* The tokenizer's files come from another model than all others. */
static lors_status take_tokenizer(lors_plan *plan, const lors_checkpoint *model)
{
    lors_side_file *theirs = NULL;
    int32_t n_theirs = 0, n_kept = 0;
    if (!model->is_folder) {
        return lors_fail(LORS_ERR_RECIPE, "%s: a single file has no tokenizer beside it",
                         model->path);
    }
    LORS_TRY(list_files(plan, model, &theirs, &n_theirs));
    size_t n = (size_t)plan->n_side_files + (size_t)n_theirs + 1;
    lors_side_file *all = lors_new(n, sizeof *all);
    if (!all) {
        lors_side_files_free(theirs, n_theirs);
        return lors_fail_memory(n * sizeof *all);
    }
    move_files(plan->side_files, plan->n_side_files, false, all, &n_kept);
    int32_t n_others = n_kept;
    move_files(theirs, n_theirs, true, all, &n_kept);
    lors_side_files_free(theirs, n_theirs);
    lors_side_files_free(plan->side_files, plan->n_side_files);
    plan->side_files = all;
    plan->n_side_files = n_kept;
    qsort(all, (size_t)n_kept, sizeof *all, by_name);
    return n_kept > n_others ? LORS_OK
                             : lors_fail(LORS_ERR_RECIPE,
                                         "%s: no files of a tokenizer are there: take another "
                                         "tokenizer_source",
                                         model->path);
}

lors_status lors_plan_side_files(lors_plan *plan)
{
    int32_t tokenizer = plan->recipe->tokenizer;
    if (!plan->donor->is_folder) {
        LORS_TRY(lors_plan_warn(plan,
                                "%s is a single file: the output has no configuration or "
                                "tokenizer beside its weights",
                                plan->donor->path));
    } else {
        LORS_TRY(list_files(plan, plan->donor, &plan->side_files, &plan->n_side_files));
    }
    bool other = tokenizer >= 0 && plan->models[tokenizer] != plan->donor;
    return other ? take_tokenizer(plan, plan->models[tokenizer]) : LORS_OK;
}

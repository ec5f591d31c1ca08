/* run.c - carry a plan out: stage, check, merge, write, hash, commit; or end early. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <lors/lors.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "io/handles.h"
#include "io/label.h"
#include "run/run_internal.h"

/* --- before: is OUT a safe place? ------------------------------------------------------------- */

static bool is_within(const char *inner, const char *outer)
{
    size_t length = strlen(outer);
    return strncmp(inner, outer, length) == 0 && (inner[length] == '/' || inner[length] == '\0');
}

static lors_status check_input_place(const char *out, const char *model_path)
{
    char *model = lors_path_real(model_path);
    char place[LORS_ESCAPED_MAX], label[LORS_ESCAPED_MAX];
    lors_status status = LORS_OK;
    if (model && (is_within(out, model) || is_within(model, out))) {
        status = lors_fail(
            LORS_ERR_RECIPE,
            "%s: the output, and what stands there while it is written, must not be an input, in "
            "one, or around one (%s): choose another -o",
            lors_label(out, place), lors_label(model_path, label));
    }
    lors_free(model);
    return status;
}

/* A folder's weights may lie elsewhere, behind links that the user allowed. */
static lors_status check_input(const char *out, const lors_checkpoint *model)
{
    if (model->n_files == 0) {
        return LORS_OK; /* what a stage makes lies nowhere */
    }
    LORS_TRY(check_input_place(out, model->path));
    for (int32_t i = 0; i < model->n_files; i++) {
        LORS_TRY(check_input_place(out, model->files[i].path));
    }
    return LORS_OK;
}

static lors_status check_inputs(const lors_plan *plan, const char *out)
{
    for (int32_t k = 0; k < plan->n_models; k++) {
        LORS_TRY(check_input(out, plan->models[k]));
    }
    for (int32_t i = 0; i < plan->n_stages; i++) {
        LORS_TRY(check_inputs(plan->stages[i], out));
    }
    return plan->base ? check_input(out, plan->base) : LORS_OK;
}

static lors_status check_place(const char *place, bool beside, void *user)
{
    const lors_plan *plan = user;
    LORS_TRY(check_inputs(plan, place));
    char *recipe = beside ? lors_path_real(plan->recipe->label) : NULL; /* OUT may hold its own */
    char label[LORS_ESCAPED_MAX], shown[LORS_ESCAPED_MAX];
    lors_status status = LORS_OK;
    if (recipe && is_within(recipe, place)) {
        status = lors_fail(LORS_ERR_RECIPE,
                           "%s: must not be the recipe or hold it (%s), it is removed while the "
                           "output is written: choose another -o",
                           lors_label(place, label), lors_label(plan->recipe->label, shown));
    }
    lors_free(recipe);
    return status;
}

/* Neither OUT nor what may stand beside it while it is written is an input. */
static lors_status check_out_place(const lors_plan *plan, const char *out_path)
{
    char *out = lors_path_real(out_path); /* of a link: where it leads */
    lors_status status = LORS_OK;
    if (out) {
        status = strcmp(out, "/") == 0
                     ? lors_fail(LORS_ERR_RECIPE, "/: the output must be a folder of its own")
                     : check_inputs(plan, out);
    }
    lors_free(out);
    LORS_TRY(status);
    return lors_staging_places(out_path, check_place, (void *)plan);
}

/* --- during ----------------------------------------------------------------------------------- */

/* Could the same merge succeed another time? Wrong models and numbers stay wrong; disks, memory
 * and devices can be mended. */
static bool may_resume(lors_status status)
{
    return status == LORS_ERR_CANCELLED || status == LORS_ERR_IO || status == LORS_ERR_LIMIT ||
           status == LORS_ERR_DEVICE;
}

static lors_status check_unchanged(const lors_plan *plan, bool *changed)
{
    for (int32_t k = 0; k < plan->n_models; k++) {
        LORS_TRY(lors_ckpt_check_unchanged(plan->models[k], changed));
    }
    for (int32_t i = 0; i < plan->n_stages; i++) {
        LORS_TRY(check_unchanged(plan->stages[i], changed));
    }
    return plan->base ? lors_ckpt_check_unchanged(plan->base, changed) : LORS_OK;
}

/* All tensors. What is finished when the run is cancelled or the machine fails is noted then. */
static lors_status merge_tensors(lors_run_state *run)
{
    LORS_TRY(lors_run_journal_start(run));
    lors_status status = lors_workers_run(run);
    bool last = status == LORS_OK || may_resume(status);
    lors_status noted = lors_run_journal_stop(run, last);
    return status == LORS_OK ? noted : status;
}

/* The output stands, and what it replaced does so, too. */
static void tell_rest(const lors_run_state *run)
{
    char sentence[LORS_ESCAPED_MAX + 256], label[LORS_ESCAPED_MAX];
    const char *rest = lors_staging_rest(run->staging);
    if (rest && run->options->note) {
        snprintf(sentence, sizeof sentence,
                 "%s: is left of the older output and could not be removed: remove it before the "
                 "next merge into the same folder",
                 lors_label(rest, label));
        run->options->note(sentence, run->options->user);
    }
}

static lors_status merge(lors_run_state *run, lors_report **report)
{
    lors_plan_choose_io(run->plan, run->options->io);
    LORS_TRY(lors_run_check_ties(run, run->plan));
    LORS_TRY(lors_run_resume(run));
    LORS_TRY(lors_run_count_needs(run));
    LORS_TRY(merge_tensors(run));
    double computed = lors_seconds();
    bool changed = false; /* end_early looks once more */
    LORS_TRY(check_unchanged(run->plan, &changed));
    LORS_TRY(lors_run_write_side_files(run));
    LORS_TRY(lors_run_check_side_files(run->plan, &changed));
    if (run->options->verify) {
        LORS_TRY(lors_run_check_weights(run));
        LORS_TRY(lors_run_recheck(run));
    }
    LORS_TRY(lors_report_create(run, report));
    LORS_TRY(lors_report_write(*report, run));
    LORS_TRY(lors_run_poll_now(run)); /* who asked for the end before this gets no output */
    LORS_TRY(lors_staging_commit(run->staging));
    tell_rest(run);
    lors_report_finish(*report, run, lors_seconds() - computed);
    return LORS_OK;
}

/* --- the whole -------------------------------------------------------------------------------- */

static lors_status open_run(lors_run_state *run, const char *out_path)
{
    lors_plan *plan = run->plan;
    LORS_TRY(check_out_place(plan, out_path));
    LORS_TRY(lors_report_check_size(plan));
    run->jobs = lors_new((size_t)plan->n_all_jobs + 1, sizeof *run->jobs);
    if (!run->jobs) {
        return lors_fail_memory((size_t)plan->n_all_jobs * sizeof *run->jobs);
    }
    LORS_TRY(lors_run_plan_recheck(run));
    LORS_TRY(lors_transfer_create(LORS_TRANSFER_THREADS, &run->transfer));
    LORS_TRY(lors_workers_open(run));
    if (!run->options->resume) {
        return lors_staging_open(out_path, run->options->force, &run->staging);
    }
    return lors_staging_take_over(out_path, run->options->force, &run->untouched, &run->staging);
}

/* Nothing is finished any more: say so where the user has asked for the end. */
static lors_status fail_for_good(lors_status status)
{
    return status == LORS_ERR_CANCELLED ? lors_fail(status, "interrupted: nothing was written")
                                        : status;
}

/* A file that changed meanwhile is the reason, whatever its bytes then looked like. Of weights
 * nothing is kept then (*spoilt); files beside them are copied anew by a later run. What cannot be
 * examined may be as it was. */
static lors_status find_reason(const lors_run_state *run, lors_status status, bool *spoilt)
{
    char *sentence = lors_copy_text(lors_last_error());
    bool changed = false;
    *spoilt = false;
    if (check_unchanged(run->plan, spoilt) == LORS_OK) {
        lors_run_check_side_files(run->plan, &changed);
    }
    if (!changed && !*spoilt) {
        lors_fail(status, "%s", sentence ? sentence : "out of memory");
    }
    lors_free(sentence);
    return changed || *spoilt ? LORS_ERR_IO : status;
}

/* The run failed in the middle: what is finished may be left to a later one. */
static lors_status end_early(lors_run_state *run, lors_status status)
{
    bool spoilt = false;
    if (status != LORS_ERR_CANCELLED) {
        status = find_reason(run, status, &spoilt);
    }
    if (spoilt) {
        return status;
    }
    bool useful = may_resume(status) && run->journal.n_recorded > 0;
    if (!(useful || run->untouched) || !lors_staging_leave(run->staging)) {
        return fail_for_good(status);
    }
    char label[LORS_ESCAPED_MAX];
    if (!useful) {
        return lors_fail(status, "%s: what an interrupted run had left is still in %s",
                         lors_last_error(), lors_label(lors_staging_path(run->staging), label));
    }
    return lors_fail(status,
                     "%s: %lld of %lld tensors are finished and kept in %s: %srun again with "
                     "--resume to go on from them, or without to start anew",
                     lors_last_error(), (long long)run->journal.n_recorded,
                     (long long)run->plan->n_jobs,
                     lors_label(lors_staging_path(run->staging), label),
                     status == LORS_ERR_CANCELLED ? "" : "once that is mended ");
}

/* Nothing is read any more. */
static void close_inputs(const lors_plan *plan)
{
    for (int32_t k = 0; k < plan->n_models; k++) {
        lors_handles_forget(plan->models[k]->files, plan->models[k]->n_files);
    }
    if (plan->base) {
        lors_handles_forget(plan->base->files, plan->base->n_files);
    }
    for (int32_t i = 0; i < plan->n_stages; i++) {
        close_inputs(plan->stages[i]);
    }
}

static void close_run(lors_run_state *run)
{
    lors_workers_close(run);
    lors_transfer_free(run->transfer);
    lors_run_shards_free(run);
    close_inputs(run->plan); /* to list the staging folder takes a descriptor */
    lors_journal_close(run->journal.file);
    lors_staging_close(run->staging);
    for (int64_t j = 0; run->jobs && j < run->plan->n_all_jobs; j++) {
        lors_run_job_clear(run, j);
    }
    lors_free(run->jobs);
    lors_free(run->sentence);
    pthread_cond_destroy(&run->journal.wake);
    pthread_cond_destroy(&run->changed);
    pthread_mutex_destroy(&run->lock);
}

lors_status lors_run(lors_plan *plan, const char *out_path, const lors_run_options *options,
                     lors_report **report)
{
    lors_run_options given = LORS_RUN_OPTIONS_INIT;
    if (options) {
        size_t size = options->struct_size < sizeof given ? options->struct_size : sizeof given;
        memcpy(&given, options, size);
    }
    lors_run_state run = {.plan = plan, .options = &given, .start = lors_seconds()};
    lors_report *made = NULL;
    pthread_mutex_init(&run.lock, NULL);
    pthread_cond_init(&run.changed, NULL);
    pthread_cond_init(&run.journal.wake, NULL);
    lors_status status = open_run(&run, out_path);
    if (status == LORS_OK) {
        status = merge(&run, &made);
        status = status == LORS_OK ? status : end_early(&run, status);
    }
    close_run(&run);
    if (status == LORS_OK && report) {
        *report = made;
    } else {
        lors_report_free(made);
    }
    return status;
}

const char *lors_version(void)
{
    return LORS_VERSION;
}

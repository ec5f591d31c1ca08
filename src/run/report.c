/* report.c - lors.json: what was merged from what, how, how well, how fast, and hashes of it
 * all. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lors/device.h>
#include <lors/lors.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "io/json_stream.h"
#include "io/json_text.h"
#include "io/shard_index.h"
#include "run/run_internal.h"

struct lors_report {
    char *path; /* of lors.json, once the output has its name */
    lors_report_summary summary;
};

static json_t *hash_json(lors_xxh hash)
{
    char text[LORS_XXH_TEXT];
    lors_xxh_text(hash, text);
    return json_string(text);
}

/* JSON has no infinity or NaN: they become null. */
static json_t *real_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *count_json(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* --- inputs ----------------------------------------------------------------------------------- */

/* XXH3-128 over the hashes of all tensors read from a model, in output order: the same for any
 * sharding of it. NULL: no memory. */
static json_t *content_json(const lors_run_state *run, const lors_checkpoint *model)
{
    const lors_plan *plan = run->plan;
    lors_text all = {0};
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        if (!run->jobs[j].hashes) {
            continue;
        }
        if (job->reads_source && job->source_model == model) {
            lors_text_append(&all, &run->jobs[j].hashes[0], sizeof(lors_xxh));
        }
        for (int32_t k = 0; k < job->n_models; k++) {
            if (job->input_models[k] == model) {
                lors_text_append(&all, &run->jobs[j].hashes[k + 1], sizeof(lors_xxh));
            }
        }
    }
    json_t *out = all.failed ? NULL : hash_json(lors_xxh_of(all.bytes, all.length));
    lors_text_clear(&all);
    return out;
}

/* NULL: no memory. */
static json_t *input_json(const lors_run_state *run, const lors_checkpoint *model, const char *role)
{
    json_t *content = content_json(run, model);
    if (!content) {
        return NULL;
    }
    json_t *out = json_object(), *files = json_array();
    for (int32_t i = 0; i < model->n_files; i++) {
        json_t *file = json_object();
        json_object_set_new(file, "name", lors_json_string(model->files[i].name));
        json_object_set_new(file, "bytes", count_json(model->files[i].n_bytes));
        json_array_append_new(files, file);
    }
    json_object_set_new(out, "role", json_string(role));
    json_object_set_new(out, "path", lors_json_string(model->path));
    json_object_set_new(out, "files", files);
    json_object_set_new(out, "xxh3_of_tensors_read", content);
    return out;
}

/* Of the plan or one of its stages; what a stage makes is no input. */
static void add_inputs(lors_json_stream *to, const lors_run_state *run, const lors_plan *plan)
{
    if (plan->base && plan->base->n_files > 0) {
        lors_json_stream_put(to, NULL, input_json(run, plan->base, "base"));
    }
    for (int32_t k = 0; k < plan->n_models; k++) {
        if (plan->models[k]->n_files > 0) {
            lors_json_stream_put(to, NULL, input_json(run, plan->models[k], "model"));
        }
    }
}

static void write_inputs(lors_json_stream *to, const lors_run_state *run)
{
    lors_json_stream_open(to, "inputs", '[');
    add_inputs(to, run, run->plan);
    for (int32_t i = 0; i < run->plan->n_stages; i++) {
        add_inputs(to, run, run->plan->stages[i]);
    }
    lors_json_stream_shut(to);
}

/* --- tensors ---------------------------------------------------------------------------------- */

static void add_certificate(json_t *out, const lors_certificate *c)
{
    json_object_set_new(out, "rank", json_integer(c->rank));
    json_object_set_new(out, "energy", real_json(c->energy));
    json_object_set_new(out, "gap", real_json(c->gap));
    json_object_set_new(out, "norm", real_json(c->norm));
    json_object_set_new(out, "sigma_first", real_json(c->sigma_first));
    json_object_set_new(out, "sigma_last", real_json(c->sigma_last));
    json_object_set_new(out, "sigma_next", real_json(c->sigma_next));
    json_object_set_new(out, "excess", real_json(c->excess));
    json_object_set_new(out, "eigen_residual", real_json(c->residual));
    json_object_set_new(out, "orthogonality", real_json(c->orthogonality));
    json_object_set_new(out, "passes", json_integer(c->n_passes));
    json_object_set_new(out, "path", json_string(c->path ? c->path : ""));
}

static json_t *model_json(const lors_model_result *result, const lors_job *job, int32_t k)
{
    json_t *out = json_object();
    int32_t weight = lors_method_param(&job->def->info, "weight");
    if (weight >= 0) {
        json_object_set_new(out, "weight",
                            real_json(job->cells[weight * job->n_models + k].number));
    }
    if (result->zero) {
        json_object_set_new(out, "unchanged", json_true());
        return out;
    }
    if (result->has_rank) {
        add_certificate(out, &result->certificate);
    }
    if (result->has_kept) {
        json_object_set_new(out, "kept", count_json(result->n_kept));
    }
    return out;
}

static const char *treatment_text(const lors_job *job)
{
    return job->treatment == LORS_TREAT_METHOD     ? "method"
           : job->treatment == LORS_TREAT_WEIGHTED ? "weighted"
           : job->def                              ? "converted"
                                                   : "copied";
}

static void add_numbers(json_t *out, const lors_job *job, const lors_run_job *state)
{
    if (job->def && job->def->adds_to_base && job->n_models > 0) {
        json_object_set_new(out, "update_norm", real_json(state->update));
        json_object_set_new(out, "rounding_loss",
                            real_json(state->update > 0 ? state->loss / state->update : 0));
    }
    if (lors_dtype_is_float(job->source->dtype)) {
        json_object_set_new(out, "nonfinite_inputs", count_json(state->n_input_nonfinite));
        json_object_set_new(out, "overflows", count_json(state->n_overflow));
        json_object_set_new(out, "nan_or_infinite", count_json(state->n_nan));
    }
}

static json_t *tensor_json(const lors_run_state *run, int64_t index)
{
    const lors_job *job = &run->plan->jobs[index];
    const lors_run_job *state = &run->jobs[index];
    json_t *out = json_object(), *shape = json_array(), *models = json_array();
    for (int32_t d = 0; d < job->source->n_dims; d++) {
        json_array_append_new(shape, json_integer(job->source->shape[d]));
    }
    for (int32_t k = 0; k < job->n_models && state->results; k++) {
        json_array_append_new(models, model_json(&state->results[k], job, k));
    }
    json_object_set_new(out, "name", lors_json_string(job->name));
    json_object_set_new(out, "role", json_string(job->role));
    json_object_set_new(out, "treatment", json_string(treatment_text(job)));
    if (job->reason[0]) {
        json_object_set_new(out, "reason", json_string(job->reason));
    }
    if (job->origin[0]) {
        json_object_set_new(out, "from", lors_json_string(job->origin));
    }
    json_object_set_new(out, "dtype", json_string(lors_dtype_name(job->out_dtype)));
    json_object_set_new(out, "shape", shape);
    json_object_set_new(out, "device", json_string(run->plan->devices[job->device].name));
    json_object_set_new(out, "seconds", real_json(state->seconds));
    json_object_set_new(
        out, "xxh3",
        hash_json(state->hashes ? state->hashes[job->n_models + 1] : lors_xxh_of("", 0)));
    add_numbers(out, job, state);
    json_object_set_new(out, "models", models);
    return out;
}

/* What the stages made: computed and used, never written. */
static void write_stage(lors_json_stream *to, const lors_run_state *run, int32_t i)
{
    const lors_plan *plan = run->plan;
    const lors_recipe *recipe = plan->stages[i]->recipe;
    lors_json_stream_open(to, NULL, '{');
    lors_json_stream_put(to, "name", lors_json_string(recipe->name));
    lors_json_stream_put(to, "method", json_string(recipe->method->name));
    lors_json_stream_open(to, "tensors", '[');
    for (int64_t j = plan->n_jobs; j < plan->n_all_jobs; j++) {
        if (plan->jobs[j].stage == i + 1 && run->jobs[j].results) {
            lors_json_stream_put(to, NULL, tensor_json(run, j));
        }
    }
    lors_json_stream_shut(to);
    lors_json_stream_shut(to);
}

static void write_stages(lors_json_stream *to, const lors_run_state *run)
{
    if (run->plan->n_stages > 0) {
        lors_json_stream_open(to, "stages", '[');
        for (int32_t i = 0; i < run->plan->n_stages; i++) {
            write_stage(to, run, i);
        }
        lors_json_stream_shut(to);
    }
}

static lors_status write_tensors(lors_json_stream *to, lors_run_state *run)
{
    lors_json_stream_open(to, "tensors", '[');
    for (int64_t j = 0; j < run->plan->n_jobs && !lors_json_stream_failed(to); j++) {
        lors_json_stream_put(to, NULL, tensor_json(run, j));
        LORS_TRY(lors_run_poll(run));
    }
    lors_json_stream_shut(to);
    return LORS_OK;
}

/* --- totals ----------------------------------------------------------------------------------- */

static void count_model(lors_report_summary *s, const lors_model_result *result)
{
    s->n_zero_task_vectors += result->zero;
    s->n_low_rank += result->has_rank && !result->zero;
    if (result->has_rank && !result->zero && result->certificate.energy < s->least_energy) {
        s->least_energy = result->certificate.energy;
    }
}

static void count_results(const lors_run_state *run, lors_report_summary *s)
{
    double update = 0, loss = 0;
    s->least_energy = 1;
    for (int64_t j = 0; j < run->plan->n_jobs; j++) {
        const lors_job *job = &run->plan->jobs[j];
        const lors_run_job *state = &run->jobs[j];
        s->n_method += job->treatment == LORS_TREAT_METHOD;
        s->n_weighted += job->treatment == LORS_TREAT_WEIGHTED;
        s->n_copied += job->treatment == LORS_TREAT_COPY;
        s->n_input_nonfinite += state->n_input_nonfinite;
        s->n_overflow += state->n_overflow;
        s->n_nan += state->n_nan;
        if (job->def && job->def->adds_to_base && job->n_models > 0) {
            update += state->update * state->update;
            loss += state->loss * state->loss;
        }
        for (int32_t k = 0; k < job->n_models && state->results; k++) {
            count_model(s, &state->results[k]);
        }
    }
    s->n_tensors = run->plan->n_jobs;
    s->rounding_loss = update > 0 ? sqrt(loss / update) : 0;
}

static json_t *stage_json(double seconds, uint64_t n_bytes)
{
    json_t *out = json_object();
    json_object_set_new(out, "thread_seconds", real_json(seconds));
    if (n_bytes > 0) {
        json_object_set_new(out, "bytes", count_json(n_bytes));
    }
    return out;
}

static json_t *totals_json(const lors_report_summary *s)
{
    json_t *out = json_object(), *stages = json_object();
    json_object_set_new(out, "tensors", json_integer(s->n_tensors));
    json_object_set_new(out, "by_method", json_integer(s->n_method));
    json_object_set_new(out, "weighted", json_integer(s->n_weighted));
    json_object_set_new(out, "copied", json_integer(s->n_copied));
    json_object_set_new(out, "unchanged_task_vectors", json_integer(s->n_zero_task_vectors));
    json_object_set_new(out, "least_energy", real_json(s->least_energy));
    json_object_set_new(out, "rounding_loss", real_json(s->rounding_loss));
    json_object_set_new(out, "nonfinite_inputs", count_json(s->n_input_nonfinite));
    json_object_set_new(out, "overflows", count_json(s->n_overflow));
    json_object_set_new(out, "nan_or_infinite", count_json(s->n_nan));
    if (s->n_rechecked > 0) {
        json_object_set_new(out, "rechecked_tensors", json_integer(s->n_rechecked));
        json_object_set_new(out, "worst_bound_ratio", real_json(s->worst_ratio));
    }
    if (s->n_resumed > 0) {
        json_object_set_new(out, "resumed_tensors", json_integer(s->n_resumed));
    }
    json_object_set_new(out, "seconds", real_json(s->seconds));
    json_object_set_new(out, "peak_bytes", count_json(s->peak_bytes));
    json_t *read = stage_json(s->read_seconds, s->read_bytes);
    json_object_set_new(read, "direct_bytes", count_json(s->direct_bytes));
    json_object_set_new(stages, "read", read);
    json_object_set_new(stages, "compute", stage_json(s->compute_seconds, 0));
    json_object_set_new(stages, "write", stage_json(s->write_seconds, s->written_bytes));
    json_object_set_new(out, "stages", stages);
    return out;
}

const char *lors_run_device_detail(const lors_plan *plan, int32_t device)
{
    for (int32_t i = 0; i < lors_device_count(); i++) {
        if (strcmp(lors_device_at(i)->name, plan->devices[device].name) == 0) {
            return lors_device_at(i)->detail;
        }
    }
    return "";
}

static json_t *warnings_json(const lors_plan *plan)
{
    json_t *warnings = json_array();
    for (size_t i = 0; i < plan->warnings.count; i++) {
        json_array_append_new(warnings, lors_json_string(plan->warnings.items[i]));
    }
    return warnings;
}

static void write_header(lors_json_stream *to, const lors_plan *plan)
{
    lors_json_stream_put(to, "lors", json_string(LORS_VERSION));
    lors_json_stream_put(to, "method", json_string(plan->recipe->method->name));
    lors_json_stream_put(to, "device", json_string(plan->device));
    lors_json_stream_put(to, "device_detail", lors_json_string(lors_run_device_detail(plan, 0)));
    lors_json_stream_put(to, "exact", json_boolean(plan->exact));
    lors_json_stream_put(to, "workers", json_integer(plan->memory.n_workers));
    lors_json_stream_put(to, "seed", count_json(plan->seed));
    lors_json_stream_put(to, "warnings", warnings_json(plan));
}

/* --- files ------------------------------------------------------------------------------------ */

static void write_hashed(lors_json_stream *to, const char *name, uint64_t n_bytes, const char *hash)
{
    json_t *file = json_object();
    json_object_set_new(file, "name", lors_json_string(name));
    json_object_set_new(file, "bytes", count_json(n_bytes));
    json_object_set_new(file, "sha256", json_string(hash));
    lors_json_stream_put(to, NULL, file);
}

static lors_status write_file(lors_json_stream *to, lors_run_state *run, const char *name)
{
    char hash[LORS_SHA256_TEXT];
    uint64_t n_bytes = 0;
    LORS_TRY(lors_hash_file(lors_staging_path(run->staging), name, run, hash, &n_bytes));
    write_hashed(to, name, n_bytes, hash);
    return LORS_OK;
}

static lors_status write_files(lors_json_stream *to, lors_run_state *run)
{
    const lors_plan *plan = run->plan;
    lors_json_stream_open(to, "files", '[');
    for (int32_t i = 0; i < plan->n_shards; i++) {
        const lors_shard *shard = &plan->shards[i];
        if (run->shards[i].sha256[0]) {
            write_hashed(to, shard->name, shard->n_bytes, run->shards[i].sha256);
        } else { /* this run wrote nothing after its header */
            LORS_TRY(write_file(to, run, shard->name));
        }
    }
    if (plan->n_shards > 1) {
        LORS_TRY(write_file(to, run, LORS_INDEX_NAME));
    }
    for (int32_t i = 0; i < plan->n_side_files; i++) {
        LORS_TRY(write_file(to, run, plan->side_files[i].name));
    }
    if (plan->recipe->text) {
        LORS_TRY(write_file(to, run, "lors_recipe.yaml"));
    }
    LORS_TRY(write_file(to, run, "README.md"));
    lors_json_stream_shut(to);
    return LORS_OK;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* As JSON writes it: what is not printable in up to six characters. */
static uint64_t text_bytes(const char *text)
{
    uint64_t n = 0;
    for (; *text; text++) {
        bool plain = (unsigned char)*text >= ' ' && *text != '"' && *text != '\\';
        n += plain ? 1 : 6;
    }
    return n;
}

/* At most, from how their lines look. */
static uint64_t tensor_bytes(const lors_job *job)
{
    enum { LINES = 900, LINES_OF_MODEL = 120, CERTIFICATE = 550, LINE_OF_SIDE = 32 };
    uint64_t of_model = LINES_OF_MODEL + (job->by_matrix ? CERTIFICATE : 0);
    return LINES + text_bytes(job->name) + text_bytes(job->origin) + strlen(job->reason) +
           LINE_OF_SIDE * (uint64_t)job->source->n_dims + of_model * (uint64_t)job->n_models;
}

/* Beside the tensors: names and hashes of files, warnings, and what is there once. */
static uint64_t rest_bytes(const lors_plan *plan)
{
    enum { ONCE = 1 << 16, LINES_OF_FILE = 200 };
    uint64_t n_bytes = ONCE + LINES_OF_FILE * (uint64_t)plan->n_shards;
    for (size_t i = 0; i < plan->warnings.count; i++) {
        n_bytes += 8 + text_bytes(plan->warnings.items[i]);
    }
    for (int32_t i = 0; i < plan->n_side_files; i++) {
        n_bytes += LINES_OF_FILE + text_bytes(plan->side_files[i].name);
    }
    for (int32_t k = -1; k < plan->n_models; k++) {
        const lors_checkpoint *model = k < 0 ? plan->base : plan->models[k];
        for (int32_t i = 0; model && i < model->n_files; i++) {
            n_bytes += LINES_OF_FILE + text_bytes(model->files[i].name);
        }
    }
    for (int32_t i = 0; i < plan->n_stages; i++) {
        n_bytes += rest_bytes(plan->stages[i]);
    }
    return n_bytes;
}

static lors_status check_size(const lors_plan *plan, const char *name, uint64_t n_bytes,
                              uint64_t most, const char *advice)
{
    char needed[32], limit[32];
    return n_bytes <= most
               ? LORS_OK
               : lors_fail(LORS_ERR_LIMIT,
                           "%s could take %s for %lld tensors of %d models, and at most %s can be "
                           "read again: %s",
                           name, lors_format_bytes(n_bytes, needed), (long long)plan->n_all_jobs,
                           plan->n_models, lors_format_bytes(most, limit), advice);
}

lors_status lors_report_check_size(const lors_plan *plan)
{
    enum { LINE_OF_INDEX = 64 };
    uint64_t report = rest_bytes(plan), index = LINE_OF_INDEX;
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        report += tensor_bytes(&plan->jobs[j]);
    }
    for (int64_t j = 0; j < plan->n_jobs && plan->n_shards > 1; j++) {
        index += LINE_OF_INDEX + text_bytes(plan->jobs[j].name);
    }
    LORS_TRY(check_size(plan, LORS_INDEX_NAME, index, LORS_INDEX_MAX_BYTES,
                        "raise --max-shard-size, so that there is one file"));
    return check_size(plan, "lors.json", report, LORS_REPORT_MAX_BYTES,
                      "merge fewer models at a time");
}

/* Where lors.json will be, wherever the caller then is; where the system cannot say it (too long a
 * path, say), as long as the caller is where it is now. NULL: no memory. */
static char *report_path(const lors_staging *staging)
{
    char *real = lors_path_real(lors_staging_path(staging));
    char *parent = real ? lors_path_parent(real) : NULL;
    char *out = parent ? lors_path_join(parent, lors_path_base(lors_staging_out(staging))) : NULL;
    char *path = lors_path_join(out ? out : lors_staging_out(staging), "lors.json");
    lors_free(out);
    lors_free(parent);
    lors_free(real);
    return path;
}

lors_status lors_report_create(const lors_run_state *run, lors_report **out)
{
    lors_report *report = lors_new(1, sizeof *report);
    if (report) {
        report->path = report_path(run->staging);
    }
    if (!report || !report->path) {
        lors_report_free(report);
        return lors_fail_memory(sizeof *report);
    }
    lors_report_summary *s = &report->summary;
    lors_transfer_counters totals = lors_transfer_count(run->transfer);
    *s = (lors_report_summary){.seconds = lors_seconds() - run->start,
                               .read_seconds = totals.read_seconds,
                               .write_seconds = totals.write_seconds,
                               .compute_seconds = run->compute_seconds,
                               .read_bytes = totals.read_bytes,
                               .direct_bytes = totals.direct_bytes,
                               .written_bytes = totals.written_bytes,
                               .n_resumed = run->n_kept,
                               .peak_bytes = lors_peak_memory(),
                               .n_rechecked = run->n_rechecked,
                               .worst_ratio = run->worst_ratio};
    count_results(run, s);
    *out = report;
    return LORS_OK;
}

static lors_status write_all(lors_json_stream *to, const lors_report *report, lors_run_state *run)
{
    write_header(to, run->plan);
    write_inputs(to, run);
    lors_json_stream_put(to, "totals", totals_json(&report->summary));
    write_stages(to, run);
    LORS_TRY(write_tensors(to, run));
    return write_files(to, run);
}

lors_status lors_report_write(const lors_report *report, lors_run_state *run)
{
    lors_json_stream *to = NULL;
    LORS_TRY(lors_json_stream_create(run->staging, "lors.json", LORS_REPORT_INDENT,
                                     LORS_REPORT_MAX_BYTES, &to));
    lors_status status = write_all(to, report, run);
    if (status != LORS_OK) {
        lors_json_stream_drop(to);
        return status;
    }
    return lors_json_stream_end(to, LORS_SEAL_KEY);
}

void lors_report_finish(lors_report *report, const lors_run_state *run, double finish_seconds)
{
    report->summary.seconds = lors_seconds() - run->start;
    report->summary.finish_seconds = finish_seconds;
    report->summary.peak_bytes = lors_peak_memory();
}

void lors_report_summarize(const lors_report *report, lors_report_summary *out)
{
    *out = report->summary;
}

lors_status lors_report_json(const lors_report *report, char **out)
{
    size_t n_bytes = 0;
    return lors_file_read_all(report->path, LORS_REPORT_MAX_BYTES, out, &n_bytes);
}

void lors_report_free(lors_report *report)
{
    if (report) {
        lors_free(report->path);
        lors_free(report);
    }
}

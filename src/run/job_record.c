/* job_record.c - a finished tensor, of the output or of a stage, as a record of the journal:
 * everything that the report says about it. Numbers are little-endian. One function each goes both
 * ways, so that what is written and what is read cannot differ. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "run/run_internal.h"

enum { PATH_BYTES = 16, JOB_NUMBERS = 7, RESULT_NUMBERS = 15 };

/* The way out where `out` is there, else the way in. */
typedef struct codec {
    lors_text *out;
    const unsigned char *in; /* the length of a record is checked as a whole before */
} codec;

static void code_bytes(codec *c, void *bytes, size_t n_bytes)
{
    if (c->out) {
        lors_text_append(c->out, bytes, n_bytes);
    } else {
        memcpy(bytes, c->in, n_bytes);
        c->in += n_bytes;
    }
}

static void code_u64(codec *c, uint64_t *value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(*value >> (8 * i));
    }
    code_bytes(c, bytes, sizeof bytes);
    *value = 0;
    for (int i = 0; i < 8; i++) {
        *value |= (uint64_t)bytes[i] << (8 * i);
    }
}

static void code_i64(codec *c, int64_t *value)
{
    uint64_t bits = (uint64_t)*value;
    code_u64(c, &bits);
    *value = (int64_t)bits;
}

static void code_f64(codec *c, double *value)
{
    uint64_t bits;
    memcpy(&bits, value, sizeof bits);
    code_u64(c, &bits);
    memcpy(value, &bits, sizeof bits);
}

static void code_bool(codec *c, bool *value)
{
    uint64_t bits = *value;
    code_u64(c, &bits);
    *value = bits != 0;
}

/* `path`: PATH_BYTES to keep the certificate's in. */
static void code_result(codec *c, lors_model_result *result, char *path)
{
    lors_certificate *made = &result->certificate;
    code_bool(c, &result->zero);
    code_bool(c, &result->has_rank);
    code_bool(c, &result->has_kept);
    code_u64(c, &result->n_kept);
    code_i64(c, &made->rank);
    code_i64(c, &made->n_passes);
    code_f64(c, &made->norm);
    code_f64(c, &made->energy);
    code_f64(c, &made->gap);
    code_f64(c, &made->sigma_first);
    code_f64(c, &made->sigma_last);
    code_f64(c, &made->sigma_next);
    code_f64(c, &made->residual);
    code_f64(c, &made->orthogonality);
    code_f64(c, &made->excess);
    code_bytes(c, path, PATH_BYTES);
}

static void code_numbers(codec *c, lors_run_job *state, int32_t n_models)
{
    code_f64(c, &state->seconds);
    code_f64(c, &state->update);
    code_f64(c, &state->loss);
    code_u64(c, &state->n_input_nonfinite);
    code_u64(c, &state->n_overflow);
    code_u64(c, &state->n_nan);
    code_bytes(c, state->hashes, ((size_t)n_models + 2) * sizeof *state->hashes);
}

size_t lors_run_record_bytes(const lors_run_state *run, int64_t job)
{
    size_t n_models = (size_t)run->plan->jobs[job].n_models;
    return 8 * JOB_NUMBERS + (n_models + 2) * sizeof(lors_xxh) +
           n_models * (8 * RESULT_NUMBERS + PATH_BYTES);
}

_Static_assert(sizeof(lors_xxh) == 16, "no padding");

void lors_run_record_write(lors_run_state *run, int64_t job, lors_text *out)
{
    codec c = {.out = out};
    lors_run_job *state = &run->jobs[job];
    int32_t n_models = run->plan->jobs[job].n_models;
    code_i64(&c, &job);
    code_numbers(&c, state, n_models);
    for (int32_t k = 0; k < n_models; k++) {
        char path[PATH_BYTES] = "";
        const char *solver = state->results[k].certificate.path;
        strncpy(path, solver ? solver : "", sizeof path - 1);
        code_result(&c, &state->results[k], path);
    }
}

/* The arrays that a finished job has. */
static lors_status allocate_kept(lors_run_job *state, size_t n_models)
{
    state->results = lors_new(n_models + 1, sizeof *state->results);
    state->hashes = lors_new(n_models + 2, sizeof *state->hashes);
    state->digests = lors_new(n_models + 2, sizeof *state->digests);
    state->paths = lors_new(n_models + 1, PATH_BYTES);
    return state->results && state->hashes && state->digests && state->paths
               ? LORS_OK
               : lors_fail_memory(n_models * sizeof *state->results);
}

lors_status lors_run_record_read(lors_run_state *run, const void *bytes, size_t n_bytes)
{
    codec c = {.in = bytes};
    int64_t job = -1;
    if (n_bytes >= 8) {
        code_i64(&c, &job);
    }
    if (job < 0 || job >= run->plan->n_all_jobs || n_bytes != lors_run_record_bytes(run, job)) {
        return LORS_OK;
    }
    lors_run_job *state = &run->jobs[job];
    int32_t n_models = run->plan->jobs[job].n_models;
    lors_run_job_clear(run, job); /* a later record of a tensor replaces an earlier */
    LORS_TRY(allocate_kept(state, (size_t)n_models));
    code_numbers(&c, state, n_models);
    for (int32_t k = 0; k < n_models; k++) {
        char *path = state->paths + (size_t)k * PATH_BYTES;
        code_result(&c, &state->results[k], path);
        path[PATH_BYTES - 1] = '\0';
        state->results[k].certificate.path = lors_utf8_valid(path, strlen(path)) ? path : "";
    }
    return LORS_OK;
}

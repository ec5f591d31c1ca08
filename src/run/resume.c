/* resume.c - what an earlier run finished is taken over: the journal says which tensors of which
 * merge, their bytes in the staging folder are read again and must have the hashes it says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "run/run_internal.h"

static char *journal_path(const lors_run_state *run)
{
    return lors_path_join(lors_staging_path(run->staging), LORS_STAGING_NOTE);
}

/* Room for the identity and a record of every tensor. */
static uint64_t journal_bytes(const lors_run_state *run, const lors_text *identity)
{
    uint64_t n_bytes = LORS_JOURNAL_HEAD + identity->length;
    for (int64_t j = 0; j < run->plan->n_all_jobs; j++) {
        n_bytes += LORS_JOURNAL_HEAD + lors_run_record_bytes(run, j);
    }
    return n_bytes;
}

static void say(const lors_run_state *run, const char *sentence)
{
    if (run->options->note) {
        run->options->note(sentence, run->options->user);
    }
}

/* --- is it this merge? ------------------------------------------------------------------------ */

/* Open the journal that was left and read its first record. *why: why it cannot be used. Where that
 * cannot be said it is an error: disk and memory may be better another time. */
static lors_status open_journal(lors_run_state *run, const lors_text *identity,
                                char why[LORS_RESUME_WHY])
{
    const void *found = NULL;
    size_t n_found = 0;
    bool there = false;
    LORS_TRY(lors_staging_has(run->staging, LORS_STAGING_NOTE, &there));
    if (there) {
        char *path = journal_path(run);
        if (!path) {
            return lors_fail_memory(sizeof LORS_STAGING_NOTE);
        }
        /* A tensor of the output that was found damaged has more than one record. */
        lors_status status =
            lors_journal_open(path, 4 * journal_bytes(run, identity), &run->journal.file);
        lors_free(path);
        if (status != LORS_ERR_INPUT) { /* too large for this merge's */
            LORS_TRY(status);
        }
    }
    if (!run->journal.file || !lors_journal_next(run->journal.file, &found, &n_found)) {
        snprintf(why, LORS_RESUME_WHY, "the interrupted run left no journal that can be read");
        return LORS_OK;
    }
    lors_run_identity_differs(run, identity, found, n_found, why);
    return LORS_OK;
}

static void close_journal(lors_run_state *run)
{
    lors_journal_close(run->journal.file);
    run->journal.file = NULL;
}

/* --- are the bytes there? --------------------------------------------------------------------- */

/* Read a tensor that was finished, and hash it as it was when it was written. */
static lors_status hash_output(lors_run_state *run, int64_t index, int fd, unsigned char *piece)
{
    const lors_job *job = &run->plan->jobs[index];
    const char *path = run->shards[job->shard].path;
    size_t n_chunks = (size_t)lors_run_chunks(job->out_bytes);
    lors_xxh *digests = lors_new(n_chunks + 1, sizeof *digests);
    if (!digests) {
        return lors_fail_memory(n_chunks * sizeof *digests);
    }
    run->jobs[index].digests[job->n_models + 1] = digests;
    for (uint64_t at = 0; at < job->out_bytes; at += LORS_CHUNK_BYTES) {
        uint64_t left = job->out_bytes - at;
        size_t n = (size_t)(left < LORS_CHUNK_BYTES ? left : LORS_CHUNK_BYTES);
        LORS_TRY(lors_file_read_at(fd, path, job->out_offset + at, piece, n));
        digests[at / LORS_CHUNK_BYTES] = lors_xxh_of(piece, n);
    }
    return LORS_OK;
}

/* A tensor that is not there as it was is not kept. Only what cannot be read is an error. */
static lors_status check_whole(lors_run_state *run, int64_t index, unsigned char *piece,
                               bool *whole)
{
    const lors_job *job = &run->plan->jobs[index];
    const lors_run_job *state = &run->jobs[index];
    int fd = -1;
    *whole = false;
    if (!run->shards[job->shard].found) {
        return LORS_OK;
    }
    LORS_TRY(lors_file_open_read(run->shards[job->shard].path, &fd, NULL));
    lors_status status = hash_output(run, index, fd, piece);
    lors_file_table()->close(fd);
    if (status == LORS_OK) {
        lors_xxh hash = lors_run_fold_digests(state->digests[job->n_models + 1], job->out_bytes);
        *whole = memcmp(&hash, &state->hashes[job->n_models + 1], sizeof hash) == 0;
    }
    return status == LORS_ERR_INPUT ? LORS_OK : status; /* the file ends before it does */
}

static void keep_job(lors_run_state *run, int64_t index)
{
    const lors_job *job = &run->plan->jobs[index];
    bool output = job->stage == 0;
    lors_job_info info;
    lors_plan_job(run->plan, index, &info);
    run->jobs[index].resumed = true;
    if (output) {
        run->shards[job->shard].left -= job->out_bytes;
        run->n_kept++;
    }
    pthread_mutex_lock(&run->lock);
    run->done_bytes += info.read_bytes + (output ? info.write_bytes : 0);
    run->n_done_jobs += output;
    pthread_mutex_unlock(&run->lock);
}

/* A walk through what the tensors of the output are made of. */
typedef struct making {
    lors_run_state *run;
    bool *done; /* [n_all_jobs] */
    bool *told; /* [n_all_jobs]: there are records of it and of all that stages made for it, so that
                   the report can say what it is to say */
} making;

static void find_told(void *user, int64_t index)
{
    making *m = user;
    const lors_job *job = &m->run->plan->jobs[index];
    bool told = m->run->jobs[index].hashes != NULL;
    for (int32_t k = job->reads_source ? LORS_SOURCE : 0; k < job->n_models; k++) {
        int64_t producer = lors_job_producer(job, k);
        told = told && (producer < 0 || m->told[producer]);
    }
    m->told[index] = told;
}

static lors_status check_output(making *m, int64_t index, unsigned char *piece)
{
    bool whole = false;
    lors_plan_walk(m->run->plan, index, m->done, find_told, m);
    if (m->told[index]) {
        LORS_TRY(check_whole(m->run, index, piece, &whole));
    }
    if (whole) {
        keep_job(m->run, index);
    } else {
        lors_run_job_clear(m->run, index);
    }
    return lors_run_poll(m->run);
}

/* Check all tensors that have a record. The caller is told meanwhile, and may cancel. */
static lors_status check_outputs(lors_run_state *run, making *m)
{
    unsigned char *piece = lors_alloc(LORS_CHUNK_BYTES);
    lors_status status = piece ? LORS_OK : lors_fail_memory(LORS_CHUNK_BYTES);
    for (int64_t j = 0; j < run->plan->n_jobs && status == LORS_OK; j++) {
        status = run->jobs[j].hashes ? check_output(m, j, piece) : LORS_OK;
    }
    lors_free(piece);
    return status;
}

static void need(void *user, int64_t index)
{
    making *m = user;
    lors_run_job *state = &m->run->jobs[index];
    if (m->run->plan->jobs[index].stage > 0) {
        bool noted = state->hashes != NULL;
        lors_run_job_clear(m->run, index);
        state->noted = noted;
    }
}

/* What stages made is there no longer: what is needed for the rest is made again. */
static void keep_stages(lors_run_state *run, making *m)
{
    const lors_plan *plan = run->plan;
    memset(m->done, 0, (size_t)plan->n_all_jobs * sizeof *m->done);
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        if (!run->jobs[j].resumed) {
            lors_plan_walk(plan, j, m->done, need, m);
        }
    }
    for (int64_t j = plan->n_jobs; j < plan->n_all_jobs; j++) {
        if (run->jobs[j].hashes && m->told[j]) {
            keep_job(run, j);
        } else if (run->jobs[j].hashes) { /* of use to nothing: this program did not note it */
            lors_run_job_clear(run, j);
        }
    }
}

static lors_status check_jobs(lors_run_state *run)
{
    size_t n = (size_t)run->plan->n_all_jobs + 1;
    making m = {run, lors_new(n, sizeof *m.done), lors_new(n, sizeof *m.told)};
    lors_status status = m.done && m.told ? check_outputs(run, &m) : lors_fail_memory(2 * n);
    if (status == LORS_OK) {
        keep_stages(run, &m);
    }
    lors_free(m.done);
    lors_free(m.told);
    return status;
}

static lors_status read_records(lors_run_state *run)
{
    const void *record = NULL;
    size_t n_bytes = 0;
    while (lors_journal_next(run->journal.file, &record, &n_bytes)) {
        LORS_TRY(lors_run_record_read(run, record, n_bytes));
    }
    for (int64_t j = 0; j < run->plan->n_jobs; j++) {
        run->journal.n_recorded += run->jobs[j].hashes != NULL;
    }
    return LORS_OK;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int by_name(const void *name, const void *shard)
{
    return strcmp(name, ((const lors_shard *)shard)->name);
}

/* The names of shards are in order. */
static bool is_part(const char *name, const void *user)
{
    const lors_run_state *run = user;
    const lors_plan *plan = run->plan;
    const lors_shard *shard =
        bsearch(name, plan->shards, (size_t)plan->n_shards, sizeof *shard, by_name);
    return strcmp(name, LORS_STAGING_NOTE) == 0 ||
           (shard && run->shards[shard - plan->shards].found);
}

static bool is_any(const char *name, const void *user)
{
    (void)name;
    (void)user;
    return true;
}

static void say_kept(const lors_run_state *run, int64_t n_damaged)
{
    char sentence[256], damaged[128] = "";
    if (n_damaged > 0) {
        snprintf(damaged, sizeof damaged,
                 "; %lld more had been finished, but their bytes are not there",
                 (long long)n_damaged);
    }
    snprintf(sentence, sizeof sentence, "going on from %lld of %lld tensors%s",
             (long long)run->n_kept, (long long)run->plan->n_jobs, damaged);
    say(run, sentence);
}

/* Take over what can be; nothing is kept where `why` says so. */
static lors_status take_over(lors_run_state *run, const lors_text *identity,
                             char why[LORS_RESUME_WHY])
{
    LORS_TRY(open_journal(run, identity, why));
    if (why[0]) {
        return LORS_OK;
    }
    LORS_TRY(lors_run_shards_find(run));
    LORS_TRY(read_records(run));
    LORS_TRY(check_jobs(run));
    if (run->n_kept == 0) {
        snprintf(why, LORS_RESUME_WHY,
                 run->journal.n_recorded > 0 ? "what the interrupted run had finished is not there"
                                             : "the interrupted run finished no tensor");
        return LORS_OK;
    }
    say_kept(run, run->journal.n_recorded - run->n_kept);
    run->journal.n_recorded = run->n_kept;
    run->untouched = false;
    return lors_staging_clear(run->staging, is_part, run);
}

/* Nothing that was found can be used: as if nothing had been there. */
static lors_status start_anew(lors_run_state *run, const char *why)
{
    char sentence[LORS_RESUME_WHY + 64];
    snprintf(sentence, sizeof sentence, "%s: starting from the beginning", why);
    say(run, sentence);
    close_journal(run);
    lors_run_shards_free(run);
    for (int64_t j = 0; j < run->plan->n_all_jobs; j++) {
        lors_run_job_clear(run, j);
    }
    run->n_kept = 0;
    run->journal.n_recorded = 0;
    run->untouched = false;
    return lors_staging_clear(run->staging, NULL, NULL);
}

static lors_status create_journal(lors_run_state *run, const lors_text *identity)
{
    char *path = journal_path(run);
    if (!path) {
        return lors_fail_memory(sizeof LORS_STAGING_NOTE);
    }
    lors_status status =
        lors_journal_create(path, journal_bytes(run, identity), &run->journal.file);
    lors_free(path);
    LORS_TRY(status);
    lors_journal_add(run->journal.file, identity->bytes, identity->length);
    return LORS_OK; /* goes to the disk with the first tensor's record */
}

static lors_status resume(lors_run_state *run, const lors_text *identity)
{
    char why[LORS_RESUME_WHY] = "";
    if (run->untouched) {
        LORS_TRY(lors_staging_clear(run->staging, is_any, NULL)); /* links and the like go */
        LORS_TRY(take_over(run, identity, why));
    } else if (run->options->resume) {
        say(run, "no interrupted run has left anything: starting from the beginning");
    } else if (lors_staging_discarded(run->staging)) {
        say(run,
            "what an interrupted run had left is removed (--resume would have gone on from it)");
    }
    if (why[0]) {
        LORS_TRY(start_anew(run, why));
    }
    LORS_TRY(lors_run_shards_create(run));
    if (!run->journal.file) {
        LORS_TRY(create_journal(run, identity));
    }
    return lors_staging_sync(run->staging);
}

lors_status lors_run_resume(lors_run_state *run)
{
    lors_text identity = {0};
    lors_status status = lors_run_identity(run, &identity);
    if (status == LORS_OK) {
        status = resume(run, &identity);
    }
    lors_text_clear(&identity);
    return status;
}

/* journal_thread.c - finished tensors are brought to the disk now and then, and noted when there.
 *
 * A thread does it, beside the workers: it waits until so many bytes are finished, or for so long,
 * syncs the files they are in, and only then writes their records. A record so says that the disk
 * has the tensor, not only the system's memory: a sync that fails later takes nothing back.
 */
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"
#include "run/run_internal.h"

/* A disk takes about as long to sync what it was told to write as to write it: little at a time,
 * while the workers go on. */
enum { PACE_BYTES = 32 << 20, PACE_SECONDS = 5 };
static uint64_t pace_bytes = PACE_BYTES;
static double pace_seconds = PACE_SECONDS;

void lors_run_journal_pace(uint64_t n_bytes, double seconds)
{
    pace_bytes = n_bytes ? n_bytes : PACE_BYTES;
    pace_seconds = n_bytes ? seconds : PACE_SECONDS;
}

/* --- notes ------------------------------------------------------------------------------------ */

static lors_status note(lors_run_state *run, const int64_t *jobs, int64_t n_jobs)
{
    int32_t synced = -1;
    for (int64_t i = 0; i < n_jobs; i++) {
        const lors_job *job = &run->plan->jobs[jobs[i]];
        if (job->stage == 0 && job->shard != synced) {
            LORS_TRY(lors_run_shard_sync(run, job->shard));
            synced = job->shard;
        }
    }
    for (int64_t i = 0; i < n_jobs; i++) {
        lors_text record = {0};
        lors_run_record_write(run, jobs[i], &record);
        if (record.failed) {
            lors_text_clear(&record);
            return lors_fail_memory(lors_run_record_bytes(run, jobs[i]));
        }
        lors_journal_add(run->journal.file, record.bytes, record.length);
        lors_text_clear(&record);
    }
    return lors_journal_sync(run->journal.file);
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Wait for work; the lock is held. false: there will be none. */
static bool await_work(lors_run_state *run)
{
    lors_run_journal *journal = &run->journal;
    while (!journal->stop) {
        double left = journal->since + pace_seconds - lors_seconds();
        if (journal->n_pending == 0) {
            pthread_cond_wait(&journal->wake, &run->lock);
        } else if (journal->n_pending_bytes >= pace_bytes || left <= 0) {
            break;
        } else {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += (time_t)left + 1;
            pthread_cond_timedwait(&journal->wake, &run->lock, &until);
        }
    }
    return journal->n_pending > 0;
}

static int64_t count_outputs(const lors_plan *plan, const int64_t *jobs, int64_t n_jobs)
{
    int64_t n = 0;
    for (int64_t i = 0; i < n_jobs; i++) {
        n += plan->jobs[jobs[i]].stage == 0;
    }
    return n;
}

static void *keep_journal(void *argument)
{
    lors_run_state *run = argument;
    lors_run_journal *journal = &run->journal;
    int64_t *jobs = lors_new((size_t)run->plan->n_all_jobs + 1, sizeof *jobs);
    lors_status status = jobs ? LORS_OK : lors_fail_memory((size_t)run->plan->n_all_jobs);
    pthread_mutex_lock(&run->lock);
    while (status == LORS_OK && await_work(run)) {
        int64_t n = journal->n_pending;
        memcpy(jobs, journal->pending, (size_t)n * sizeof *jobs);
        journal->n_pending = 0;
        journal->n_pending_bytes = 0;
        journal->noting = true;
        pthread_mutex_unlock(&run->lock);
        status = note(run, jobs, n);
        pthread_mutex_lock(&run->lock);
        journal->noting = false;
        journal->n_recorded += status == LORS_OK ? count_outputs(run->plan, jobs, n) : 0;
    }
    pthread_mutex_unlock(&run->lock);
    if (status != LORS_OK) {
        lors_run_fail(run, status);
    }
    lors_free(jobs);
    return NULL;
}

lors_status lors_run_journal_start(lors_run_state *run)
{
    lors_run_journal *journal = &run->journal;
    sigset_t all, old;
    if (!journal->file) {
        return LORS_OK;
    }
    journal->pending = lors_new((size_t)run->plan->n_all_jobs + 1, sizeof *journal->pending);
    if (!journal->pending) {
        return lors_fail_memory((size_t)run->plan->n_all_jobs * sizeof *journal->pending);
    }
    sigfillset(&all); /* signals are for the threads of the program */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    journal->running = pthread_create(&journal->thread, NULL, keep_journal, run) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!journal->running) {
        lors_free(journal->pending);
        journal->pending = NULL;
        return lors_fail(LORS_ERR_LIMIT, "cannot start a thread that keeps the journal: raise the "
                                         "limit on processes (ulimit -u)");
    }
    return LORS_OK;
}

void lors_run_journal_add(lors_run_state *run, int64_t job)
{
    lors_run_journal *journal = &run->journal;
    if (!journal->running) {
        return;
    }
    journal->since = journal->n_pending == 0 ? lors_seconds() : journal->since;
    journal->pending[journal->n_pending++] = job;
    bool output = run->plan->jobs[job].stage == 0;
    journal->n_pending_bytes += output ? run->plan->jobs[job].out_bytes : 0;
    pthread_cond_signal(&journal->wake);
}

lors_status lors_run_journal_stop(lors_run_state *run, bool last)
{
    lors_run_journal *journal = &run->journal;
    if (journal->running) {
        pthread_mutex_lock(&run->lock);
        journal->stop = true;
        bool worth = journal->n_recorded > 0 || journal->noting;
        journal->n_pending = last && worth ? journal->n_pending : 0;
        pthread_cond_signal(&journal->wake);
        pthread_mutex_unlock(&run->lock);
        pthread_join(journal->thread, NULL);
        journal->running = false;
    }
    lors_free(journal->pending);
    journal->pending = NULL;
    return lors_run_outcome(run);
}

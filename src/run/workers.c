/* workers.c - all workers of a run: their memory, their threads, and who watches over them. */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "run/run_internal.h"

enum { TICK_NANOSECONDS = 100000000 };

void lors_run_fail(lors_run_state *run, lors_status status)
{
    pthread_mutex_lock(&run->lock);
    if (run->status == LORS_OK) {
        run->status = status;
        run->sentence = lors_copy_text(lors_last_error());
    }
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

lors_status lors_run_outcome(lors_run_state *run)
{
    pthread_mutex_lock(&run->lock);
    lors_status status = run->status;
    if (status != LORS_OK) {
        lors_fail(status, "%s", run->sentence ? run->sentence : "out of memory");
    }
    pthread_mutex_unlock(&run->lock);
    return status;
}

bool lors_run_stopped(lors_run_state *run)
{
    pthread_mutex_lock(&run->lock);
    bool stopped = run->status != LORS_OK;
    pthread_mutex_unlock(&run->lock);
    return stopped;
}

/* --- memory ----------------------------------------------------------------------------------- */

void lors_workers_close(lors_run_state *run)
{
    for (int32_t i = 0; run->workers && i < run->plan->memory.n_workers; i++) {
        lors_worker_close(run->workers[i]);
    }
    lors_free(run->workers);
    run->workers = NULL;
}

static lors_status open_all(lors_run_state *run)
{
    int32_t n = run->plan->memory.n_workers;
    run->workers = lors_new((size_t)n, sizeof *run->workers);
    if (!run->workers) {
        return lors_fail_memory((size_t)n * sizeof *run->workers);
    }
    for (int32_t i = 0; i < n; i++) {
        LORS_TRY(lors_worker_open(run, i, &run->workers[i]));
    }
    return LORS_OK;
}

/* Memory that the plan found free may be gone by now, or a device may have less in one piece: then
 * fewer workers, smaller batches, smaller units, which give the same bytes. */
lors_status lors_workers_open(lors_run_state *run)
{
    lors_status status = open_all(run);
    bool smaller = !run->plan->ops->unified;
    while (smaller && (status == LORS_ERR_DEVICE || status == LORS_ERR_LIMIT)) {
        char *sentence = lors_copy_text(lors_last_error());
        lors_workers_close(run);
        smaller = lors_plan_shrink(run->plan);
        status = smaller ? open_all(run)
                         : lors_fail(status, "%s", sentence ? sentence : "out of memory");
        lors_free(sentence);
    }
    return status;
}

/* --- threads ---------------------------------------------------------------------------------- */

/* Tell the caller how far the run is; cancel it when told so. */
static void tell(lors_run_state *run)
{
    const lors_plan *plan = run->plan;
    lors_progress progress = {.total_bytes = plan->read_bytes + plan->write_bytes,
                              .total_tensors = plan->n_jobs,
                              .seconds = lors_seconds() - run->start};
    if (!run->options->progress) {
        return;
    }
    run->due = lors_seconds() + 1e-9 * TICK_NANOSECONDS;
    pthread_mutex_lock(&run->lock);
    progress.done_bytes = run->done_bytes;
    progress.done_tensors = run->n_done_jobs;
    pthread_mutex_unlock(&run->lock);
    if (run->options->progress(&progress, run->options->user)) {
        lors_run_fail(run, lors_fail(LORS_ERR_CANCELLED, "interrupted"));
    }
}

lors_status lors_run_poll_now(lors_run_state *run)
{
    tell(run);
    return lors_run_outcome(run);
}

lors_status lors_run_poll(lors_run_state *run)
{
    return lors_seconds() >= run->due ? lors_run_poll_now(run) : lors_run_outcome(run);
}

/* Wait for the workers; tell the caller at once, and then about ten times a second until the run is
 * over or has failed. */
static void watch(lors_run_state *run)
{
    run->due = 0;
    pthread_mutex_lock(&run->lock);
    while (run->n_running > 0) {
        if (run->options->progress && run->status == LORS_OK && lors_seconds() >= run->due) {
            pthread_mutex_unlock(&run->lock);
            tell(run);
            pthread_mutex_lock(&run->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_NANOSECONDS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&run->changed, &run->lock, &until);
    }
    pthread_mutex_unlock(&run->lock);
}

lors_status lors_workers_run(lors_run_state *run)
{
    int32_t n = run->plan->memory.n_workers, started = 0;
    pthread_t *threads = lors_new((size_t)n, sizeof *threads);
    if (!threads) {
        return lors_fail_memory((size_t)n * sizeof *threads);
    }
    run->n_running = n;
    for (; started < n; started++) {
        if (pthread_create(&threads[started], NULL, lors_worker_run, run->workers[started]) != 0) {
            break;
        }
    }
    if (started < n) {
        pthread_mutex_lock(&run->lock);
        run->n_running -= n - started;
        pthread_mutex_unlock(&run->lock);
        lors_run_fail(run, lors_fail(LORS_ERR_LIMIT,
                                     "cannot start thread %d of %d: give fewer "
                                     "--threads",
                                     started + 1, n));
    }
    watch(run);
    for (int32_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    lors_free(threads);
    return lors_run_outcome(run);
}

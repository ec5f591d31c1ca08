/* shards.c - the output's weight files: created with their space and header before the work begins,
 * open only while they are being written, so that any number of them fits any limit on open files.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "run/run_internal.h"

/* --- which are there -------------------------------------------------------------------------- */

static lors_status has_header(const lors_shard *shard, const char *path, int fd, bool *same)
{
    char *header = lors_alloc(shard->header.length);
    if (!header) {
        return lors_fail_memory(shard->header.length);
    }
    lors_status status = lors_file_read_at(fd, path, 0, header, shard->header.length);
    *same = status == LORS_OK && memcmp(header, shard->header.bytes, shard->header.length) == 0;
    lors_free(header);
    return status;
}

/* Is a file of an earlier run found, with this header and no more bytes than it may have? Where it
 * was not reserved it may be shorter. What is there and cannot be read is an error. */
static lors_status find_shard(lors_run_state *run, int32_t index)
{
    const lors_shard *shard = &run->plan->shards[index];
    const char *path = run->shards[index].path;
    struct stat info;
    int fd = -1;
    bool there = false;
    LORS_TRY(lors_staging_has(run->staging, shard->name, &there));
    if (!there) {
        return LORS_OK;
    }
    LORS_TRY(lors_file_open_read(path, &fd, &info));
    lors_status status = LORS_OK;
    if ((uint64_t)info.st_size >= shard->header.length &&
        (uint64_t)info.st_size <= shard->n_bytes) {
        status = has_header(shard, path, fd, &run->shards[index].found);
    }
    lors_file_table()->close(fd);
    return status;
}

static lors_status prepare_shards(lors_run_state *run)
{
    size_t n = (size_t)run->plan->n_shards;
    run->shards = lors_new(n, sizeof *run->shards);
    if (!run->shards) {
        return lors_fail_memory(n * sizeof *run->shards);
    }
    for (size_t i = 0; i < n; i++) {
        run->shards[i].fd = -1;
    }
    int64_t job = 0;
    for (size_t i = 0; i < n; i++) {
        const lors_shard *shard = &run->plan->shards[i];
        while (job < run->plan->n_jobs && run->plan->jobs[job].shard < (int32_t)i) {
            job++;
        }
        run->shards[i].next_job = job;
        run->shards[i].left = shard->n_bytes - shard->header.length;
        run->shards[i].path = lors_path_join(lors_staging_path(run->staging), shard->name);
        if (!run->shards[i].path) {
            return lors_fail_memory(strlen(shard->name));
        }
    }
    return LORS_OK;
}

lors_status lors_run_shards_find(lors_run_state *run)
{
    LORS_TRY(prepare_shards(run));
    for (int32_t i = 0; i < run->plan->n_shards; i++) {
        LORS_TRY(find_shard(run, i));
    }
    return LORS_OK;
}

/* --- made ready ------------------------------------------------------------------------------- */

static lors_status create_shard(lors_run_state *run, int32_t index)
{
    lors_shard *shard = &run->plan->shards[index];
    const char *path = run->shards[index].path;
    int fd = -1;
    LORS_TRY(lors_staging_create_file(run->staging, shard->name, shard->n_bytes, &fd));
    lors_status status = lors_file_write_at(fd, path, 0, shard->header.bytes, shard->header.length);
    if (status != LORS_OK) {
        lors_file_table()->close(fd);
        return status;
    }
    status = lors_staging_close_file(run->staging, shard->name, fd);
    if (status != LORS_OK) { /* a later run could find the header, and the disk not have it */
        lors_staging_condemn(run->staging);
    }
    return status;
}

static lors_status open_to_write(const char *path, int *fd)
{
    *fd = lors_file_open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0);
    return *fd >= 0 ? LORS_OK : lors_file_fail(path, "cannot be opened", errno);
}

/* The earlier run may have ended before its space was reserved. */
static lors_status reserve_shard(lors_run_state *run, int32_t index)
{
    const char *path = run->shards[index].path;
    int fd = -1;
    LORS_TRY(open_to_write(path, &fd));
    lors_status status = lors_file_reserve(fd, path, run->plan->shards[index].n_bytes);
    lors_file_table()->close(fd);
    return status;
}

lors_status lors_run_shards_create(lors_run_state *run)
{
    if (!run->shards) {
        LORS_TRY(prepare_shards(run));
    }
    for (int32_t i = 0; i < run->plan->n_shards; i++) {
        const lors_run_shard *shard = &run->shards[i];
        if (!shard->found) {
            LORS_TRY(create_shard(run, i));
        } else if (shard->left > 0) {
            LORS_TRY(reserve_shard(run, i));
        }
    }
    return LORS_OK;
}

/* --- written ---------------------------------------------------------------------------------- */

lors_status lors_run_shard_open(lors_run_state *run, int32_t index, int *fd)
{
    lors_run_shard *shard = &run->shards[index];
    lors_status status = LORS_OK;
    pthread_mutex_lock(&run->lock);
    if (shard->fd < 0) {
        status = open_to_write(shard->path, &shard->fd);
    }
    *fd = shard->fd;
    pthread_mutex_unlock(&run->lock);
    return status;
}

/* --- hashed ----------------------------------------------------------------------------------- */

static bool is_written(const lors_run_state *run, int64_t index)
{
    const lors_run_job *job = &run->jobs[index];
    return job->resumed || (job->started && job->n_unwritten == 0) ||
           run->plan->jobs[index].out_bytes == 0;
}

/* Take the shard to hash its next job, up to the byte that is returned; 0: it is not written, or
 * another thread is at it and goes on. Only the end is waited for. */
static uint64_t begin_hash(lors_run_state *run, int32_t index, int *fd)
{
    lors_run_shard *shard = &run->shards[index];
    uint64_t end = 0;
    pthread_mutex_lock(&run->lock);
    while (shard->hashing && shard->left == 0) {
        pthread_cond_wait(&run->changed, &run->lock);
    }
    while (run->status == LORS_OK && !shard->hashing && end == 0 &&
           shard->next_job < run->plan->n_jobs &&
           run->plan->jobs[shard->next_job].shard == index && is_written(run, shard->next_job)) {
        const lors_job *job = &run->plan->jobs[shard->next_job++];
        end = job->out_bytes > 0 ? job->out_offset + job->out_bytes : 0;
    }
    shard->hashing = shard->hashing || end > 0;
    *fd = shard->fd;
    pthread_mutex_unlock(&run->lock);
    return end;
}

static void end_hash(lors_run_state *run, lors_run_shard *shard, uint64_t n_hashed)
{
    pthread_mutex_lock(&run->lock);
    shard->n_hashed = n_hashed;
    shard->hashing = false;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* What has been written, while it is in the system's memory and other workers go on. They may wait
 * for this one: at the end only it goes through all there is. */
static lors_status hash_written(lors_run_state *run, int32_t index, bool ends)
{
    enum { AT_A_TIME = 64 << 20 };
    lors_run_shard *shard = &run->shards[index];
    lors_status status = LORS_OK;
    uint64_t end = 0, n_done = 0;
    int fd = -1;
    while (status == LORS_OK && (ends || n_done < AT_A_TIME) &&
           (end = begin_hash(run, index, &fd)) > 0) {
        n_done += end - shard->n_hashed;
        status = shard->hash ? LORS_OK : lors_sha256_create(&shard->hash);
        if (status == LORS_OK) {
            status = lors_hash_range(shard->hash, fd, shard->path, shard->n_hashed, end, NULL);
        }
        if (status == LORS_OK && end == run->plan->shards[index].n_bytes) {
            status = lors_sha256_finish(shard->hash, shard->sha256);
        }
        end_hash(run, shard, end);
    }
    return status;
}

/* --- on the disk ------------------------------------------------------------------------------ */

/* Take the shard's descriptor to sync it; -1: there is nothing to do, or it is lost. *ends: no more
 * will be written, it is to be closed. */
static int begin_sync(lors_run_state *run, lors_run_shard *shard, bool *ends, bool *lost)
{
    pthread_mutex_lock(&run->lock);
    while (shard->syncing) {
        pthread_cond_wait(&run->changed, &run->lock);
    }
    int fd = shard->lost ? -1 : shard->fd;
    *ends = shard->left == 0;
    *lost = shard->lost;
    shard->syncing = fd >= 0;
    pthread_mutex_unlock(&run->lock);
    return fd;
}

static void end_sync(lors_run_state *run, lors_run_shard *shard, bool closed, bool lost)
{
    pthread_mutex_lock(&run->lock);
    shard->syncing = false;
    shard->lost = lost;
    shard->fd = closed ? -1 : shard->fd;
    if (lost) {
        lors_staging_condemn(run->staging);
    }
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* Through the descriptor that the bytes were written through, which then knows of every failure
 * since. A failure is final: the next sync could succeed for bytes that are lost. */
lors_status lors_run_shard_sync(lors_run_state *run, int32_t index)
{
    lors_run_shard *shard = &run->shards[index];
    bool ends = false, lost = false;
    int fd = begin_sync(run, shard, &ends, &lost);
    if (fd < 0) {
        return lost ? lors_fail(LORS_ERR_IO, "%s: could not be brought to the disk",
                                run->plan->shards[index].name)
                    : LORS_OK;
    }
    lors_status status = ends ? hash_written(run, index, true) : LORS_OK;
    if (status == LORS_OK) {
        status = lors_file_sync(fd, shard->path);
        lost = status != LORS_OK;
    }
    ends = ends && status == LORS_OK;
    if (ends) {
        status = lors_file_close(fd, shard->path);
    }
    end_sync(run, shard, ends, lost);
    return status;
}

lors_status lors_run_written(lors_run_state *run, int64_t job, uint64_t n_bytes)
{
    int32_t index = run->plan->jobs[job].shard;
    pthread_mutex_lock(&run->lock);
    run->shards[index].left -= n_bytes;
    run->jobs[job].n_unwritten -= n_bytes;
    bool shard_ends = run->shards[index].left == 0;
    bool job_ends = run->jobs[job].n_unwritten == 0;
    pthread_mutex_unlock(&run->lock);
    if (shard_ends) {
        LORS_TRY(lors_run_shard_sync(run, index));
    }
    if (job_ends) {
        pthread_mutex_lock(&run->lock);
        lors_run_journal_add(run, job);
        pthread_mutex_unlock(&run->lock);
    }
    return job_ends && !shard_ends ? hash_written(run, index, false) : LORS_OK;
}

void lors_run_shards_free(lors_run_state *run)
{
    for (int32_t i = 0; run->shards && i < run->plan->n_shards; i++) {
        if (run->shards[i].fd >= 0) {
            lors_file_table()->close(run->shards[i].fd);
        }
        lors_sha256_free(run->shards[i].hash);
        lors_free(run->shards[i].path);
    }
    lors_free(run->shards);
    run->shards = NULL;
}

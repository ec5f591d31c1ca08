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

/* A file of an earlier run with this header and no more bytes than it may have: where it was not
 * reserved it may be shorter. */
static bool is_there(const lors_shard *shard, const char *path)
{
    struct stat info;
    int fd = -1;
    char *header = lors_alloc(shard->header.length);
    bool same = false;
    if (header && lors_file_open_read(path, &fd, &info) == LORS_OK) {
        same = (uint64_t)info.st_size <= shard->n_bytes &&
               lors_file_read_at(fd, path, 0, header, shard->header.length) == LORS_OK &&
               memcmp(header, shard->header.bytes, shard->header.length) == 0;
        lors_file_table()->close(fd);
    }
    lors_free(header);
    return same;
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
    for (size_t i = 0; i < n; i++) {
        const lors_shard *shard = &run->plan->shards[i];
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
        run->shards[i].found = is_there(&run->plan->shards[i], run->shards[i].path);
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
    return lors_staging_close_file(run->staging, shard->name, fd);
}

static lors_status open_to_write(const char *path, int *fd)
{
    *fd = lors_file_open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0);
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

/* While the disk is still busy with what it was told to begin with. */
static lors_status hash_shard(lors_run_state *run, int32_t index)
{
    uint64_t n_hashed = 0;
    return lors_hash_file(lors_staging_path(run->staging), run->plan->shards[index].name,
                          run->shards[index].sha256, &n_hashed);
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
    lors_status status = ends ? hash_shard(run, index) : LORS_OK;
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
        lors_run_journal_add(run, job);
    }
    return LORS_OK;
}

void lors_run_shards_free(lors_run_state *run)
{
    for (int32_t i = 0; run->shards && i < run->plan->n_shards; i++) {
        if (run->shards[i].fd >= 0) {
            lors_file_table()->close(run->shards[i].fd);
        }
        lors_free(run->shards[i].path);
    }
    lors_free(run->shards);
    run->shards = NULL;
}

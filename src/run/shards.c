/* shards.c - the output's weight files: created with their space and header before the work begins,
 * open only while they are being written, so that any number of them fits any limit on open files.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "run/run_internal.h"

static lors_status create_shard(lors_run_state *run, int32_t index)
{
    lors_shard *shard = &run->plan->shards[index];
    lors_run_shard *state = &run->shards[index];
    int fd = -1;
    state->fd = -1;
    state->left = shard->n_bytes - shard->header.length;
    state->path = lors_path_join(lors_staging_path(run->staging), shard->name);
    if (!state->path) {
        return lors_fail_memory(strlen(shard->name));
    }
    LORS_TRY(lors_staging_create_file(run->staging, shard->name, shard->n_bytes, &fd));
    lors_status status =
        lors_file_write_at(fd, state->path, 0, shard->header.bytes, shard->header.length);
    if (status != LORS_OK) {
        lors_file_table()->close(fd);
        return status;
    }
    return lors_staging_close_file(run->staging, shard->name, fd);
}

lors_status lors_run_shards_create(lors_run_state *run)
{
    size_t n = (size_t)run->plan->n_shards;
    run->shards = lors_new(n, sizeof *run->shards);
    if (!run->shards) {
        return lors_fail_memory(n * sizeof *run->shards);
    }
    for (size_t i = 0; i < n; i++) {
        run->shards[i].fd = -1;
    }
    for (int32_t i = 0; i < run->plan->n_shards; i++) {
        LORS_TRY(create_shard(run, i));
    }
    return LORS_OK;
}

lors_status lors_run_shard_open(lors_run_state *run, int32_t index, int *fd)
{
    lors_run_shard *shard = &run->shards[index];
    lors_status status = LORS_OK;
    pthread_mutex_lock(&run->lock);
    if (shard->fd < 0) {
        shard->fd = lors_file_open(shard->path, O_WRONLY | O_CLOEXEC, 0);
        if (shard->fd < 0) {
            status = lors_file_fail(shard->path, "cannot be opened", errno);
        }
    }
    *fd = shard->fd;
    pthread_mutex_unlock(&run->lock);
    return status;
}

lors_status lors_run_shard_written(lors_run_state *run, int32_t index, uint64_t n_bytes)
{
    lors_run_shard *shard = &run->shards[index];
    int fd = -1;
    pthread_mutex_lock(&run->lock);
    shard->left -= n_bytes;
    if (shard->left == 0) {
        fd = shard->fd;
        shard->fd = -1;
    }
    pthread_mutex_unlock(&run->lock);
    if (fd < 0) {
        return LORS_OK;
    }
    /* Hashed now, while the disk is still busy with what it was told to begin with. */
    uint64_t n_hashed = 0;
    lors_status status = lors_hash_file(lors_staging_path(run->staging),
                                        run->plan->shards[index].name, shard->sha256, &n_hashed);
    if (status == LORS_OK) {
        status = lors_file_sync(fd, shard->path);
    }
    if (status != LORS_OK) {
        lors_file_table()->close(fd);
        return status;
    }
    return lors_file_close(fd, shard->path);
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
}

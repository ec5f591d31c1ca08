/* handles.c - the open files of all checkpoints: at most 16, the least recently used is closed.
 *
 * One pool for the process, since a merge opens many models of many shards and the limit on open
 * files is the process's. Everything is guarded by one mutex; reading happens outside of it.
 */
#include "io/handles.h"

#include <pthread.h>

#include "base/error.h"
#include "base/file.h"
#include "io/label.h"

typedef struct handle {
    const lors_ckpt_file *file; /* NULL: closed */
    bool direct;
    int fd;
    int n_users;
    uint64_t last_used;
} handle;

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t freed; /* some handle has no user any more */
    uint64_t clock;
    handle handles[LORS_MAX_HANDLES];
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .freed = PTHREAD_COND_INITIALIZER};

static void close_handle(handle *h)
{
    lors_file_table()->close(h->fd); /* read only: nothing can be lost */
    h->file = NULL;
}

/* The handle of the file, opened so; else a closed one; else the least recently used of those
 * without a user. */
static handle *choose_handle(const lors_ckpt_file *file, bool direct)
{
    handle *chosen = NULL;
    for (int i = 0; i < LORS_MAX_HANDLES; i++) {
        handle *h = &pool.handles[i];
        if (h->file == file && h->direct == direct) {
            return h;
        }
        bool better = !chosen || (chosen->file && (!h->file || h->last_used < chosen->last_used));
        if (h->n_users == 0 && better) {
            chosen = h;
        }
    }
    return chosen;
}

/* Returns whether there was any. */
static bool close_idle(void)
{
    bool any = false;
    for (int i = 0; i < LORS_MAX_HANDLES; i++) {
        handle *h = &pool.handles[i];
        if (h->file && h->n_users == 0) {
            close_handle(h);
            any = true;
        }
    }
    return any;
}

static lors_status open_handle(handle *h, const lors_ckpt_file *file, bool direct)
{
    struct stat info;
    lors_status status = direct ? lors_file_open_direct(file->path, &h->fd, &info)
                                : lors_file_open_read(file->path, &h->fd, &info);
    if (status != LORS_OK && !direct && close_idle()) { /* other code may have used them up */
        status = lors_file_open_read(file->path, &h->fd, &info);
    }
    LORS_TRY(status);
    if (lors_ckpt_file_is(file, &info)) {
        h->file = file;
        h->direct = direct;
        return LORS_OK;
    }
    lors_file_table()->close(h->fd);
    return lors_ckpt_fail_changed(file, &info);
}

lors_status lors_handles_take(const lors_ckpt_file *file, bool direct, int *fd, int *slot)
{
    lors_status status = LORS_OK;
    pthread_mutex_lock(&pool.mutex);
    handle *h = choose_handle(file, direct);
    while (!h) {
        pthread_cond_wait(&pool.freed, &pool.mutex);
        h = choose_handle(file, direct);
    }
    if (h->file != file || h->direct != direct) {
        if (h->file) {
            close_handle(h);
        }
        status = open_handle(h, file, direct);
    }
    if (status == LORS_OK) {
        h->n_users++;
        h->last_used = ++pool.clock;
        *fd = h->fd;
        *slot = (int)(h - pool.handles);
    }
    pthread_mutex_unlock(&pool.mutex);
    return status;
}

void lors_handles_give_back(int slot)
{
    pthread_mutex_lock(&pool.mutex);
    if (--pool.handles[slot].n_users == 0) {
        pthread_cond_broadcast(&pool.freed);
    }
    pthread_mutex_unlock(&pool.mutex);
}

void lors_handles_forget(const lors_ckpt_file *files, int32_t n_files)
{
    pthread_mutex_lock(&pool.mutex);
    for (int i = 0; i < LORS_MAX_HANDLES; i++) {
        const lors_ckpt_file *file = pool.handles[i].file;
        for (int32_t j = 0; file && j < n_files; j++) {
            if (file == &files[j]) {
                close_handle(&pool.handles[i]);
                break;
            }
        }
    }
    pthread_cond_broadcast(&pool.freed);
    pthread_mutex_unlock(&pool.mutex);
}

int lors_handles_count(void)
{
    int n = 0;
    pthread_mutex_lock(&pool.mutex);
    for (int i = 0; i < LORS_MAX_HANDLES; i++) {
        n += pool.handles[i].file != NULL;
    }
    pthread_mutex_unlock(&pool.mutex);
    return n;
}

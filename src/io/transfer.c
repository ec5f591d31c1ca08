/* transfer.c - reading and writing beside the computation: threads and a queue of requests. */
#include "io/transfer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/threads.h"

struct lors_transfer {
    pthread_mutex_t mutex; /* guards all below but `stopping`, and the state of every request */
    pthread_cond_t given;  /* there is work, or the end has come */
    pthread_cond_t done;   /* some request is done */
    lors_transfer_req *first, *last;
    lors_transfer_counters counters;
    atomic_bool stopping;
    int32_t n_threads;
    pthread_t threads[LORS_TRANSFER_MAX_THREADS];
};

/* ---- What a thread does -------------------------------------------------------------------- */

/* Bytes of one system call: with digests a multiple of their chunk, so that a piece is hashed while
 * the cache still holds it. A chunk larger than a piece is hashed at the end. */
static size_t piece_of(const lors_transfer_req *request)
{
    uint64_t chunk = request->digests && !request->is_write ? request->digest_chunk_bytes : 1;
    return chunk <= LORS_TRANSFER_PIECE ? (size_t)(LORS_TRANSFER_PIECE / chunk * chunk)
                                        : LORS_TRANSFER_PIECE;
}

/* Hash the chunks of [first, last) of what was read; `first` is at the start of a chunk. */
static void hash_chunks(const lors_transfer_req *request, size_t first, size_t last)
{
    uint64_t chunk = request->digest_chunk_bytes;
    for (size_t at = first; at < last;) {
        size_t n_bytes = last - at < chunk ? last - at : (size_t)chunk;
        request->digests[at / chunk] = lors_xxh_of((const char *)request->out + at, n_bytes);
        at += n_bytes;
    }
}

static lors_status carry_piece(lors_transfer_req *request, size_t at, size_t n_bytes)
{
    uint64_t offset = request->offset + at;
    if (request->is_write) {
        LORS_TRY(lors_file_write_at(request->fd, request->path, offset,
                                    (const char *)request->bytes + at, n_bytes));
        lors_file_begin_sync(request->fd, offset, n_bytes);
        return LORS_OK;
    }
    char *out = (char *)request->out + at;
    if (!request->whole_pages) {
        return lors_ckpt_read_at(request->checkpoint, request->tensor, offset, out, n_bytes);
    }
    size_t n_direct = 0;
    LORS_TRY(lors_ckpt_read_pages(request->checkpoint, request->tensor, offset, out, n_bytes,
                                  &n_direct));
    request->n_direct += n_direct;
    return LORS_OK;
}

static lors_status carry_out(lors_transfer *transfer, lors_transfer_req *request)
{
    size_t piece = piece_of(request);
    bool hash = request->digests && !request->is_write;
    bool hash_pieces = hash && request->digest_chunk_bytes <= LORS_TRANSFER_PIECE;
    for (size_t at = 0; at < request->n_bytes;) {
        size_t rest = request->n_bytes - at, n_bytes = rest < piece ? rest : piece;
        if (atomic_load(&transfer->stopping)) {
            return lors_fail(LORS_ERR_CANCELLED, "reading and writing were stopped");
        }
        LORS_TRY(carry_piece(request, at, n_bytes));
        if (hash_pieces) {
            hash_chunks(request, at, at + n_bytes);
        }
        at += n_bytes;
    }
    if (hash && !hash_pieces) {
        hash_chunks(request, 0, request->n_bytes);
    }
    return LORS_OK;
}

/* The mutex is held. */
static void finish(lors_transfer *transfer, lors_transfer_req *request, lors_status status,
                   double seconds)
{
    lors_transfer_counters *counters = &transfer->counters;
    uint64_t n_bytes = status == LORS_OK ? request->n_bytes : 0;
    *(request->is_write ? &counters->write_seconds : &counters->read_seconds) += seconds;
    *(request->is_write ? &counters->written_bytes : &counters->read_bytes) += n_bytes;
    counters->direct_bytes += status == LORS_OK ? request->n_direct : 0;
    request->status = status;
    request->state = LORS_TRANSFER_DONE;
    pthread_cond_broadcast(&transfer->done);
}

static void keep_message(lors_transfer_req *request, lors_status status)
{
    size_t n_bytes =
        status == LORS_OK ? 0 : strnlen(lors_last_error(), sizeof request->message - 1);
    memcpy(request->message, lors_last_error(), n_bytes);
    request->message[n_bytes] = '\0';
}

static void *work(void *argument)
{
    lors_transfer *transfer = argument;
    pthread_mutex_lock(&transfer->mutex);
    for (;;) {
        while (!transfer->first && !atomic_load(&transfer->stopping)) {
            pthread_cond_wait(&transfer->given, &transfer->mutex);
        }
        if (atomic_load(&transfer->stopping)) {
            break; /* lors_transfer_free drops what is queued */
        }
        lors_transfer_req *request = transfer->first;
        transfer->first = request->next;
        transfer->last = transfer->first ? transfer->last : NULL;
        request->state = LORS_TRANSFER_RUNNING;
        pthread_mutex_unlock(&transfer->mutex);
        double start = lors_seconds();
        lors_status status = carry_out(transfer, request);
        keep_message(request, status);
        pthread_mutex_lock(&transfer->mutex);
        finish(transfer, request, status, lors_seconds() - start);
    }
    pthread_mutex_unlock(&transfer->mutex);
    return NULL;
}

/* ---- Start and end ------------------------------------------------------------------------- */

/* Signals are for the threads of the program. */
static void start_threads(lors_transfer *transfer, int32_t n_threads)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (transfer->n_threads < n_threads &&
           pthread_create(&transfer->threads[transfer->n_threads], NULL, work, transfer) == 0) {
        transfer->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

lors_status lors_transfer_create(int32_t n_threads, lors_transfer **out)
{
    *out = NULL;
    lors_transfer *transfer = lors_new(1, sizeof *transfer);
    if (!transfer) {
        return lors_fail_memory(sizeof *transfer);
    }
    pthread_mutex_init(&transfer->mutex, NULL);
    pthread_cond_init(&transfer->given, NULL);
    pthread_cond_init(&transfer->done, NULL);
    n_threads = n_threads < 1 ? 1 : n_threads;
    n_threads = n_threads > LORS_TRANSFER_MAX_THREADS ? LORS_TRANSFER_MAX_THREADS : n_threads;
    start_threads(transfer, n_threads);
    if (transfer->n_threads == 0) { /* with fewer than asked for it still works */
        lors_transfer_free(transfer);
        return lors_fail(LORS_ERR_LIMIT, "cannot start a thread for reading and writing: raise the "
                                         "limit on processes (ulimit -u)");
    }
    *out = transfer;
    return LORS_OK;
}

void lors_transfer_free(lors_transfer *transfer)
{
    if (!transfer) {
        return;
    }
    pthread_mutex_lock(&transfer->mutex);
    atomic_store(&transfer->stopping, true);
    pthread_cond_broadcast(&transfer->given);
    pthread_mutex_unlock(&transfer->mutex);
    for (int32_t i = 0; i < transfer->n_threads; i++) {
        pthread_join(transfer->threads[i], NULL);
    }
    for (lors_transfer_req *request = transfer->first, *next; request; request = next) {
        next = request->next;
        request->status = LORS_ERR_CANCELLED;
        request->state = LORS_TRANSFER_IDLE;
    }
    pthread_cond_destroy(&transfer->done);
    pthread_cond_destroy(&transfer->given);
    pthread_mutex_destroy(&transfer->mutex);
    lors_free(transfer);
}

/* ---- Requests ------------------------------------------------------------------------------ */

/* Take the request for this caller: while it is under way its fields belong to the threads. */
static lors_status begin(lors_transfer *transfer, lors_transfer_req *request)
{
    pthread_mutex_lock(&transfer->mutex);
    bool busy = request->state == LORS_TRANSFER_QUEUED || request->state == LORS_TRANSFER_RUNNING;
    pthread_mutex_unlock(&transfer->mutex);
    if (busy) {
        return lors_fail(LORS_ERR_INTERNAL, "a transfer was given again while it is under way");
    }
    request->next = NULL;
    request->n_direct = 0;
    request->status = LORS_OK;
    return LORS_OK;
}

static void enqueue(lors_transfer *transfer, lors_transfer_req *request)
{
    pthread_mutex_lock(&transfer->mutex);
    request->state = LORS_TRANSFER_QUEUED;
    *(transfer->last ? &transfer->last->next : &transfer->first) = request;
    transfer->last = request;
    pthread_cond_signal(&transfer->given);
    pthread_mutex_unlock(&transfer->mutex);
}

lors_status lors_transfer_read(lors_transfer *transfer, lors_transfer_req *request,
                               lors_checkpoint *checkpoint, const lors_ckpt_tensor *tensor,
                               uint64_t offset, void *out, size_t n_bytes)
{
    LORS_TRY(begin(transfer, request));
    if (request->digests && request->digest_chunk_bytes == 0) {
        return lors_fail(LORS_ERR_INTERNAL, "digests of chunks of no bytes");
    }
    request->is_write = false;
    request->checkpoint = checkpoint;
    request->tensor = tensor;
    request->offset = offset;
    request->out = out;
    request->n_bytes = n_bytes;
    enqueue(transfer, request);
    return LORS_OK;
}

lors_status lors_transfer_write(lors_transfer *transfer, lors_transfer_req *request, int fd,
                                const char *path, uint64_t offset, const void *bytes,
                                size_t n_bytes)
{
    LORS_TRY(begin(transfer, request));
    request->is_write = true;
    request->fd = fd;
    request->path = path;
    request->offset = offset;
    request->bytes = bytes;
    request->n_bytes = n_bytes;
    enqueue(transfer, request);
    return LORS_OK;
}

lors_status lors_transfer_wait(lors_transfer *transfer, lors_transfer_req *request)
{
    pthread_mutex_lock(&transfer->mutex);
    while (request->state == LORS_TRANSFER_QUEUED || request->state == LORS_TRANSFER_RUNNING) {
        pthread_cond_wait(&transfer->done, &transfer->mutex);
    }
    bool done = request->state == LORS_TRANSFER_DONE;
    request->state = LORS_TRANSFER_IDLE;
    pthread_mutex_unlock(&transfer->mutex);
    if (!done || request->status == LORS_OK) {
        return LORS_OK;
    }
    return lors_fail(request->status, "%s", request->message);
}

lors_transfer_counters lors_transfer_count(lors_transfer *transfer)
{
    pthread_mutex_lock(&transfer->mutex);
    lors_transfer_counters counters = transfer->counters;
    pthread_mutex_unlock(&transfer->mutex);
    return counters;
}

/* transfer.h - reading and writing beside the computation: a few threads and a queue of requests.
 *
 * A request is a struct of the caller's, which holds everything about it: nothing is allocated for
 * it, so that a request once queued can only fail by the disk. Requests are begun in the order in
 * which they were given.
 */
#ifndef LORS_IO_TRANSFER_H
#define LORS_IO_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

#include "base/hash.h"
#include "io/checkpoint.h"

enum {
    LORS_TRANSFER_PIECE = 8 << 20, /* longer requests go as several system calls */
    LORS_TRANSFER_MAX_THREADS = 64,
    LORS_TRANSFER_MESSAGE = 1024
};

typedef struct lors_transfer lors_transfer;

typedef enum lors_transfer_state {
    LORS_TRANSFER_IDLE, /* never given, or waited for */
    LORS_TRANSFER_QUEUED,
    LORS_TRANSFER_RUNNING,
    LORS_TRANSFER_DONE
} lors_transfer_state;

/* Zero-initialise. It must stay where it is, with its buffer, from the call that gives it until
 * lors_transfer_wait or lors_transfer_free returns; then it may be used again. */
typedef struct lors_transfer_req {
    /* Set before lors_transfer_read: hash what was read in pieces of this size, the last one may be
     * shorter. `digests` has room for ceil(n_bytes / digest_chunk_bytes); NULL: none. */
    uint64_t digest_chunk_bytes;
    lors_xxh *digests;

    /* Set before lors_transfer_read: it may go past the page cache (lors_ckpt_read_pages); the
     * pages of memory that `out` begins and ends in are the request's alone. */
    bool whole_pages;

    /* Private. */
    struct lors_transfer_req *next;
    lors_transfer_state state;
    bool is_write;
    lors_checkpoint *checkpoint;
    const lors_ckpt_tensor *tensor;
    int fd;
    const char *path;
    uint64_t offset;
    void *out;
    const void *bytes;
    size_t n_bytes, n_direct;
    lors_status status;
    char message[LORS_TRANSFER_MESSAGE];
} lors_transfer_req;

typedef struct lors_transfer_counters {
    double read_seconds, write_seconds; /* busy, summed over the threads; hashing is reading */
    uint64_t read_bytes, written_bytes; /* of requests that succeeded */
    uint64_t direct_bytes;              /* of those read, past the page cache */
} lors_transfer_counters;

/* Start n_threads (at least 1, at most 64) threads. Errors: ERR_LIMIT. */
lors_status lors_transfer_create(int32_t n_threads, lors_transfer **out);

/* Queue the reading of n_bytes at `offset` of the tensor into `out`; or the writing of n_bytes at
 * `offset` of the open file (`path` is for messages, and stays until the request is done). Any
 * thread may give requests. Errors: ERR_INTERNAL if the request is still under way; all others come
 * from lors_transfer_wait. */
lors_status lors_transfer_read(lors_transfer *transfer, lors_transfer_req *request,
                               lors_checkpoint *checkpoint, const lors_ckpt_tensor *tensor,
                               uint64_t offset, void *out, size_t n_bytes);
lors_status lors_transfer_write(lors_transfer *transfer, lors_transfer_req *request, int fd,
                                const char *path, uint64_t offset, const void *bytes,
                                size_t n_bytes);

/* Wait until the request is done; its status, and its sentence becomes this thread's last error.
 * LORS_OK for a request that was never given. One thread may wait for one request. */
lors_status lors_transfer_wait(lors_transfer *transfer, lors_transfer_req *request);

lors_transfer_counters lors_transfer_count(lors_transfer *transfer);

/* Drop what has not begun (ERR_CANCELLED), wait for what has, end the threads. Afterwards no buffer
 * or request is touched any more. NULL is allowed. */
void lors_transfer_free(lors_transfer *transfer);

#endif

/* journal.c - a file of records that a crash can only cut short.
 *
 * A record is its length (u32, little-endian), its checksum, its bytes. A length of 0 ends them,
 * and so do the zeros of reserved room.
 */
#include "io/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

struct lors_journal {
    char *path;
    int fd;    /* for writing; -1 until the first sync of an older one */
    char *old; /* an older one's bytes */
    size_t n_old;
    uint64_t at;     /* behind the last good record of the file */
    lors_xxh chain;  /* its checksum */
    lors_text added; /* records as they go into the file */
};

_Static_assert(LORS_JOURNAL_HEAD == 4 + sizeof(lors_xxh), "length and checksum");

static lors_xxh checksum(const lors_xxh *before, const void *record, size_t n_bytes)
{
    lors_xxh both[2] = {*before, lors_xxh_of(record, n_bytes)};
    return lors_xxh_of(both, sizeof both);
}

static lors_status new_journal(const char *path, lors_journal **out)
{
    lors_journal *journal = lors_new(1, sizeof *journal);
    if (!journal) {
        return lors_fail_memory(sizeof *journal);
    }
    journal->fd = -1;
    journal->path = lors_copy_text(path);
    if (!journal->path) {
        lors_journal_close(journal);
        return lors_fail_memory(strlen(path));
    }
    *out = journal;
    return LORS_OK;
}

lors_status lors_journal_create(const char *path, uint64_t n_bytes, lors_journal **out)
{
    *out = NULL;
    LORS_TRY(new_journal(path, out));
    lors_status status = lors_file_create(path, &(*out)->fd);
    if (status == LORS_OK) {
        status = lors_file_reserve((*out)->fd, path, n_bytes);
    }
    if (status != LORS_OK) {
        lors_journal_close(*out);
        *out = NULL;
    }
    return status;
}

static lors_status read_old(lors_journal *journal, uint64_t max_bytes)
{
    struct stat info;
    size_t most = max_bytes < SIZE_MAX ? (size_t)max_bytes : SIZE_MAX;
    if (lstat(journal->path, &info) == 0 && (uint64_t)info.st_size > max_bytes) {
        return lors_fail(LORS_ERR_INPUT, "%s: is larger than any journal of this merge",
                         journal->path);
    }
    return lors_file_read_all(journal->path, most, &journal->old, &journal->n_old);
}

lors_status lors_journal_open(const char *path, uint64_t max_bytes, lors_journal **out)
{
    *out = NULL;
    LORS_TRY(new_journal(path, out));
    lors_status status = read_old(*out, max_bytes);
    if (status != LORS_OK) {
        lors_journal_close(*out);
        *out = NULL;
    }
    return status;
}

bool lors_journal_next(lors_journal *journal, const void **record, size_t *n_bytes)
{
    const unsigned char *head = (const unsigned char *)journal->old + journal->at;
    size_t left = journal->n_old - (size_t)journal->at, n = 0;
    if (left < LORS_JOURNAL_HEAD) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        n |= (size_t)head[i] << (8 * i);
    }
    if (n == 0 || n > left - LORS_JOURNAL_HEAD) {
        return false;
    }
    lors_xxh sum = checksum(&journal->chain, head + LORS_JOURNAL_HEAD, n);
    if (memcmp(&sum, head + 4, sizeof sum) != 0) {
        return false;
    }
    journal->chain = sum;
    journal->at += LORS_JOURNAL_HEAD + n;
    *record = head + LORS_JOURNAL_HEAD;
    *n_bytes = n;
    return true;
}

void lors_journal_add(lors_journal *journal, const void *record, size_t n_bytes)
{
    unsigned char length[4];
    lors_xxh sum = checksum(&journal->chain, record, n_bytes);
    lors_free(journal->old); /* read to its end */
    journal->old = NULL;
    journal->n_old = 0;
    for (int i = 0; i < 4; i++) {
        length[i] = (unsigned char)(n_bytes >> (8 * i));
    }
    lors_text_append(&journal->added, length, sizeof length);
    lors_text_append(&journal->added, &sum, sizeof sum);
    lors_text_append(&journal->added, record, n_bytes);
    journal->chain = sum;
}

lors_status lors_journal_sync(lors_journal *journal)
{
    if (journal->added.failed) {
        return lors_fail_memory(journal->added.length);
    }
    if (journal->fd < 0) {
        int fd = lors_file_open(journal->path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0);
        if (fd < 0) {
            return lors_file_fail(journal->path, "cannot be opened", errno);
        }
        journal->fd = fd;
    }
    LORS_TRY(lors_file_write_at(journal->fd, journal->path, journal->at, journal->added.bytes,
                                journal->added.length));
    LORS_TRY(lors_file_sync(journal->fd, journal->path));
    journal->at += journal->added.length;
    lors_text_clear(&journal->added);
    return LORS_OK;
}

void lors_journal_close(lors_journal *journal)
{
    if (journal) {
        if (journal->fd >= 0) {
            lors_file_table()->close(journal->fd); /* what counts was synced */
        }
        lors_text_clear(&journal->added);
        lors_free(journal->old);
        lors_free(journal->path);
        lors_free(journal);
    }
}

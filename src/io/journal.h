/* journal.h - a file of records that a crash can only cut short.
 *
 * Each record's checksum covers it and the checksum before it: what a crash tore, what somebody
 * changed, and what an earlier end of the file left behind the last record all end the reading, and
 * a record appended there follows on from the last good one.
 */
#ifndef LORS_IO_JOURNAL_H
#define LORS_IO_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

enum { LORS_JOURNAL_HEAD = 20 }; /* bytes of the file before each record */

typedef struct lors_journal lors_journal;

/* A new file, with room reserved for n_bytes. Errors: ERR_IO. */
lors_status lors_journal_create(const char *path, uint64_t n_bytes, lors_journal **out);
/* An older one of at most max_bytes, at its first record. Errors: ERR_INPUT where it is larger;
 * ERR_IO, ERR_LIMIT (of memory). */
lors_status lors_journal_open(const char *path, uint64_t max_bytes, lors_journal **out);
/* The next good record, valid until one is added or the journal is closed; false after the last.
 * Then records may be added, and no more are read. */
bool lors_journal_next(lors_journal *journal, const void **record, size_t *n_bytes);

/* Add a record (of at least one byte): kept in memory until lors_journal_sync, which writes all
 * that were added and brings them to the disk. After it failed nothing may be added. */
void lors_journal_add(lors_journal *journal, const void *record, size_t n_bytes);
lors_status lors_journal_sync(lors_journal *journal);

void lors_journal_close(lors_journal *journal); /* NULL is allowed; drops what was not synced */

#endif

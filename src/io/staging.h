/* staging.h - an output folder that appears whole or not at all.
 *
 * OUT is written as ".NAME.lors-staging" beside it, under a lock; commit syncs everything and gives
 * it its name by rename, or by exchange where an older OUT is to be replaced. A run that ends early
 * may leave that folder to a later one, with a note in it that says what is finished.
 */
#ifndef LORS_IO_STAGING_H
#define LORS_IO_STAGING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <lors/status.h>

typedef struct lors_staging lors_staging;

/* Take the lock, clear what a killed run left, create the staging folder. Refuses an existing OUT
 * unless `force`, and with force refuses to replace anything that does not look like a model folder
 * (neither empty nor holding a config.json or safetensors file). Errors: ERR_IO. */
lors_status lors_staging_open(const char *out_path, bool force, lors_staging **out);
/* The same, but a staging folder that an earlier run left becomes this run's as it is: *found. */
lors_status lors_staging_take_over(const char *out_path, bool force, bool *found,
                                   lors_staging **out);
/* Did lors_staging_open remove what could have been taken over? */
bool lors_staging_discarded(const lors_staging *staging);
const char *lors_staging_path(const lors_staging *staging); /* of the staging folder */
const char *lors_staging_out(const lors_staging *staging);  /* of OUT */

/* Of a folder taken over: remove everything in it but plain files whose names `keeps` wants (NULL:
 * everything). */
lors_status lors_staging_clear(lors_staging *staging,
                               bool (*keeps)(const char *name, const void *user), const void *user);

/* A file of known size in it, space reserved. Write with lors_file_write_at. */
lors_status lors_staging_create_file(lors_staging *staging, const char *name, uint64_t n_bytes,
                                     int *fd);
/* Sync and close such a file. */
lors_status lors_staging_close_file(lors_staging *staging, const char *name, int fd);
/* A whole small file. */
lors_status lors_staging_write(lors_staging *staging, const char *name, const void *bytes,
                               uint64_t n_bytes);
/* A byte-for-byte copy of FOLDER/NAME, which must be the file that `info` is of. */
lors_status lors_staging_copy(lors_staging *staging, const char *folder, const char *name,
                              const struct stat *info);

/* `take` is told of each place that a run into OUT may write to, replace or remove, be there
 * something or not: OUT itself and (`beside`) what stands beside it meanwhile, as absolute paths in
 * which only the last name may be a link's. None where the parent does not exist. */
typedef lors_status lors_staging_place_fn(const char *place, bool beside, void *user);
lors_status lors_staging_places(const char *out_path, lors_staging_place_fn *take, void *user);

/* The file of this name in the staging folder is a note to a later run, not part of the output. */
#define LORS_STAGING_NOTE ".lors-journal"

/* Is a plain file of this name in the staging folder? Errors: ERR_IO, where it cannot be said. */
lors_status lors_staging_has(const lors_staging *staging, const char *name, bool *there);

/* Sync the staging folder and its parent: what was created outlives a power failure. */
lors_status lors_staging_sync(lors_staging *staging);
/* Some file's sync failed: the system may show bytes that the disk does not have, so that what is
 * there must not be left to a later run. */
void lors_staging_condemn(lors_staging *staging);
/* Leave the staging folder to a later run; false where it is condemned or has no note for it. */
bool lors_staging_leave(lors_staging *staging);

/* Remove the note, sync the folder, give it its name, sync the parent, remove what it replaced.
 * After success the staging object is only to be closed. */
lors_status lors_staging_commit(lors_staging *staging);
/* After the commit: the folder in which there is something left of what it replaced, because it may
 * not be removed; NULL: there is none. */
const char *lors_staging_rest(const lors_staging *staging);
/* Remove what is left, unless it is left on purpose, and release the lock. NULL is allowed. */
void lors_staging_close(lors_staging *staging);

#endif

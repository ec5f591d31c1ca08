/* staging.h - an output folder that appears whole or not at all.
 *
 * OUT is written as ".NAME.lors-staging" beside it, under a lock; commit syncs everything and gives
 * it its name by rename, or by exchange where an older OUT is to be replaced.
 */
#ifndef LORS_IO_STAGING_H
#define LORS_IO_STAGING_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/status.h>

typedef struct lors_staging lors_staging;

/* Take the lock, clear what a killed run left, create the staging folder. Refuses an existing OUT
 * unless `force`, and with force refuses to replace anything that does not look like a model folder
 * (neither empty nor holding a config.json or safetensors file). Errors: ERR_IO. */
lors_status lors_staging_open(const char *out_path, bool force, lors_staging **out);
const char *lors_staging_path(const lors_staging *staging); /* of the staging folder */

/* A file of known size in it, space reserved. Write with lors_file_write_at. */
lors_status lors_staging_create_file(lors_staging *staging, const char *name, uint64_t n_bytes,
                                     int *fd);
/* Sync and close such a file. */
lors_status lors_staging_close_file(lors_staging *staging, const char *name, int fd);
/* A whole small file. */
lors_status lors_staging_write(lors_staging *staging, const char *name, const void *bytes,
                               uint64_t n_bytes);
/* A byte-for-byte copy of FOLDER/NAME. */
lors_status lors_staging_copy(lors_staging *staging, const char *folder, const char *name);

/* Sync the folder, give it its name, sync the parent, remove what it replaced. After success the
 * staging object is only to be closed. */
lors_status lors_staging_commit(lors_staging *staging);
/* Remove what is left and release the lock. NULL is allowed. */
void lors_staging_close(lors_staging *staging);

#endif

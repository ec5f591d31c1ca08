/* handles.h - the open files of all checkpoints: at most 16, the least recently used is closed. */
#ifndef LORS_IO_HANDLES_H
#define LORS_IO_HANDLES_H

#include <stdbool.h>
#include <stdint.h>

#include "io/checkpoint.h"

enum { LORS_MAX_HANDLES = 16 };

/* An open descriptor of `file`, for pread only and until it is given back with its *slot. Waits
 * while all handles are in use by other threads. `file` must stay where it is in memory until
 * lors_handles_forget. `direct`: a descriptor of its own that reads past the page cache; that
 * there can be none is an error like any other.
 * Errors: ERR_IO, ERR_INPUT (not the file it was when first opened). */
lors_status lors_handles_take(const lors_ckpt_file *file, bool direct, int *fd, int *slot);
void lors_handles_give_back(int slot);

/* Close those of n_files files, none of which is in use. */
void lors_handles_forget(const lors_ckpt_file *files, int32_t n_files);

/* How many are open now. */
int lors_handles_count(void);

#endif

/* file.h - whole reads and writes at an offset, over a table of system calls that tests replace. */
#ifndef LORS_BASE_FILE_H
#define LORS_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <lors/status.h>

/* What reading past the page cache asks of offsets, lengths and addresses: enough for the usual
 * disks; where a file system wants more it refuses, and the file is read through the cache. */
enum { LORS_DIRECT_ALIGN = 4096 };

/* The system calls the library makes on files. Semantics and errno as in POSIX. */
typedef struct lors_file_ops {
    int (*open)(const char *path, int flags, mode_t mode);
    int (*close)(int fd);
    ssize_t (*pread)(int fd, void *buffer, size_t n_bytes, off_t offset);
    ssize_t (*pwrite)(int fd, const void *buffer, size_t n_bytes, off_t offset);
    int (*allocate)(int fd, off_t offset, off_t n_bytes); /* fallocate; returns the errno or 0 */
    int (*fsync)(int fd);
    int (*is_cached)(int fd, off_t offset); /* is this byte in the page cache? -1: unknown */
    int (*mkdir)(const char *path, mode_t mode);
    int (*rename)(const char *from, const char *to);
    int (*exchange)(const char *a, const char *b); /* renameat2(RENAME_EXCHANGE) */
    int (*unlink)(const char *path);
    int (*rmdir)(const char *path);
    int (*begin_sync)(int fd, off_t offset, off_t n_bytes); /* may be NULL: a hint */
    int (*forget)(int fd);                                  /* may be NULL: a hint */
    ssize_t (*list)(int fd, void *entries, size_t n_bytes); /* getdents64 */
} lors_file_ops;

/* The table in use; the real one unless a test set another (NULL: back to the real one). */
const lors_file_ops *lors_file_table(void);
void lors_file_set_table(const lors_file_ops *table);

/* The sentence of a failed call of the table: "PATH: WHAT: reason: advice", PATH made printable;
 * e.g. lors_file_fail(path, "cannot be created", errno). Returns ERR_IO. */
lors_status lors_file_fail(const char *path, const char *what, int error);

/* The table's open, repeated where a signal interrupted it: -1 and errno. */
int lors_file_open(const char *path, int flags, mode_t mode);
/* Open a regular file for reading (never blocks on a FIFO; refuses anything not a regular file).
 * Errors: ERR_IO. `info` may be NULL. */
lors_status lors_file_open_read(const char *path, int *fd, struct stat *info);
/* The same past the page cache. Errors: ERR_IO, also where the file system has no such way. */
lors_status lors_file_open_direct(const char *path, int *fd, struct stat *info);
/* Create a new file (it must not exist), mode 0666 & ~umask. Errors: ERR_IO. */
lors_status lors_file_create(const char *path, int *fd);
/* Read or write exactly n_bytes, retrying short transfers and EINTR. A short file is ERR_INPUT, an
 * error ERR_IO with path, offset and reason. `path` is for messages. */
lors_status lors_file_read_at(int fd, const char *path, uint64_t offset, void *out, size_t n_bytes);
lors_status lors_file_write_at(int fd, const char *path, uint64_t offset, const void *bytes,
                               size_t n_bytes);
/* Read past the page cache, by a descriptor of lors_file_open_direct. `out` lies in its page of
 * memory as `offset` does in its page of the file: equal modulo LORS_DIRECT_ALIGN. What else is in
 * the pages of `out` is overwritten. Returns how many bytes, from `offset` on, were read: fewer
 * than n_bytes where the file ends, or the file system or the disk refuses. lors_file_read_at then
 * reads the rest, or says why not. */
size_t lors_file_read_direct(int fd, uint64_t offset, void *out, size_t n_bytes);
/* Is most of a file of n_bytes in the page cache, judged by a page of each MiB, at most 256? Yes
 * where it cannot be known: the system tells only those who may write to the file. */
bool lors_file_is_cached(int fd, uint64_t n_bytes);
/* Reserve space. ERR_IO when the disk is full; a file system that cannot reserve is no error. */
lors_status lors_file_reserve(int fd, const char *path, uint64_t n_bytes);
/* Let the system begin to write these bytes to the disk, so that a later sync has less to wait for.
 * A hint: what fails here the sync will say. */
void lors_file_begin_sync(int fd, uint64_t offset, size_t n_bytes);
/* Let the system drop what it holds of the file's bytes in memory, so that the disk is asked for
 * what is read next. A hint, too: what is not on the disk yet stays, and so does all of a file
 * system that lies in memory. Errors: ERR_IO where the file does not open. */
lors_status lors_file_forget(const char *path);
lors_status lors_file_sync(int fd, const char *path);
lors_status lors_file_close(int fd, const char *path);     /* reports a late write error */
lors_status lors_file_sync_folder(const char *path);
/* Tell `each` the names in a folder, "." and ".." left out, until one call of it is not LORS_OK,
 * whose status is returned. Allocates nothing. Errors: ERR_IO. */
typedef lors_status (*lors_file_name_fn)(const char *name, bool is_folder, void *user);
lors_status lors_file_list(const char *path, lors_file_name_fn each, void *user);
/* A whole small file, NUL added after it; lors_free it. ERR_LIMIT if larger than max_bytes. */
lors_status lors_file_read_all(const char *path, size_t max_bytes, char **out, size_t *n_bytes);
/* Create, write, sync, close; what a failure leaves of it is removed. */
lors_status lors_file_write_all(const char *path, const void *bytes, size_t n_bytes);
/* Remove a folder of plain files and folders, following no link. Missing is no error.
 * Allocates nothing. ERR_LIMIT if more than 32 folders deep. */
lors_status lors_file_remove_tree(const char *path);

#endif

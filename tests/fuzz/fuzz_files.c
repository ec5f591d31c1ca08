/* fuzz_files.c - checks that abort, and files below the current folder, for all fuzz targets. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "fuzz.h"

/* --- checks --------------------------------------------------------------------------------- */

void fuzz_die(const char *file, int line, const char *what, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s:%d: needed: %s\n  ", file, line, what);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n  last error: %s\n", lors_last_error());
    abort();
}

void fuzz_check_status(lors_status status, unsigned allowed)
{
    if (status == LORS_OK) {
        return;
    }
    const char *sentence = lors_last_error();
    size_t n_bytes = strlen(sentence);
    FUZZ_NEED(allowed >> status & 1, "the call ended in %s", lors_status_name(status));
    FUZZ_NEED(n_bytes > 0 && n_bytes < 16384, "a sentence of %zu bytes", n_bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char byte = (unsigned char)sentence[i];
        FUZZ_NEED(byte >= 0x20 && byte != 0x7f, "byte 0x%02x in the sentence", byte);
    }
    FUZZ_NEED(lors_utf8_valid(sentence, n_bytes), "the sentence is not UTF-8");
}

uint64_t fuzz_hash(const void *bytes, size_t n_bytes)
{
    const unsigned char *at = bytes;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n_bytes; i++) {
        hash = (hash ^ at[i]) * 0x100000001b3u;
    }
    return hash ^ hash >> 29;
}

void fuzz_fail_one_allocation(uint64_t hash)
{
    lors_alloc_fail_at(1 + (hash >> 1) % (lors_alloc_count() + 1), hash & 1);
}

void fuzz_allocations_work(void)
{
    lors_alloc_fail_at(0, false);
}

/* --- files ---------------------------------------------------------------------------------- */

static int no_sync(int fd)
{
    (void)fd;
    return 0;
}

void fuzz_files_init(void)
{
    static lors_file_ops table;
    table = *lors_file_table();
    table.fsync = no_sync;
    lors_file_set_table(&table);
}

static bool write_file(const char *path, const void *bytes, size_t n_bytes, uint64_t file_bytes)
{
    /* Cut behind the bytes, not before: ext4 flushes a file that was emptied and written anew. */
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    FUZZ_NEED(fd >= 0, "%s: %s", path, strerror(errno));
    FUZZ_NEED(write(fd, bytes, n_bytes) == (ssize_t)n_bytes, "%s: %s", path, strerror(errno));
    bool sized = ftruncate(fd, (off_t)n_bytes) == 0 && file_bytes <= INT64_MAX &&
                 ftruncate(fd, (off_t)file_bytes) == 0;
    close(fd);
    return sized;
}

void fuzz_write(const char *path, const void *bytes, size_t n_bytes)
{
    FUZZ_NEED(write_file(path, bytes, n_bytes, n_bytes), "%s cannot be written", path);
}

bool fuzz_write_sparse(const char *path, const void *bytes, size_t n_bytes, uint64_t file_bytes)
{
    return write_file(path, bytes, n_bytes, file_bytes);
}

void fuzz_mkdir(const char *path)
{
    FUZZ_NEED(mkdir(path, 0777) == 0 || errno == EEXIST, "%s: %s", path, strerror(errno));
}

void fuzz_remove(const char *path)
{
    FUZZ_NEED(lors_file_remove_tree(path) == LORS_OK, "%s cannot be removed", path);
}

bool fuzz_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

char *fuzz_read(const char *path, size_t *n_bytes)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        return NULL;
    }
    *n_bytes = (size_t)info.st_size;
    char *bytes = malloc(*n_bytes + 1);
    FUZZ_NEED(bytes && read(fd, bytes, *n_bytes) == (ssize_t)*n_bytes, "%s cannot be read", path);
    bytes[*n_bytes] = '\0';
    close(fd);
    return bytes;
}

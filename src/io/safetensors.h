/* safetensors.h - the header of one safetensors file: parsed strictly as the reference does, and
 * written. The format: u64 little-endian N, N bytes of JSON, then the data (offsets are relative to
 * its start). */
#ifndef LORS_IO_SAFETENSORS_H
#define LORS_IO_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

#include "base/dtype.h"
#include "base/memory.h"

enum {
    LORS_ST_MAX_HEADER = 100000000, /* bytes, as the reference */
    LORS_ST_MAX_DIMS = 64,
    LORS_ST_MAX_NAME = 4096,
    LORS_ST_MAX_TENSORS = 2000000
};

typedef struct lors_st_tensor {
    const char *name; /* NUL-terminated; may hold NUL inside: name_bytes counts */
    size_t name_bytes;
    lors_dtype dtype;
    int32_t n_dims;
    const int64_t *shape;
    uint64_t n_elements;
    uint64_t begin, end; /* in the data buffer */
} lors_st_tensor;

typedef struct lors_st_header {
    lors_arena *arena;
    lors_st_tensor *tensors; /* ascending by (begin, end) */
    int64_t n_tensors;
    uint64_t data_start; /* 8 + N */
    uint64_t file_bytes;
    char *format;        /* __metadata__.format, NULL if absent */
    bool unaligned;      /* some tensor is not at a multiple of its element size */
    bool loose;          /* accepted though our writer would never write it (unknown field, ...) */
} lors_st_header;

/* Where bytes come from: reads exactly n_bytes at offset. */
typedef lors_status (*lors_st_read_fn)(void *source, uint64_t offset, void *out, size_t n_bytes);

/* Parse the header of a file of `file_bytes` bytes through `read`, in small pieces. `label` is the
 * file's name for messages. Every rule of the reference reader is kept, but what it accepts by
 * accident is refused: tensors given as arrays, dtype as an object, one name twice.
 * Errors: ERR_INPUT "LABEL: byte B: rule (found, allowed)", ERR_IO, ERR_LIMIT. */
lors_status lors_st_parse(const char *label, lors_st_read_fn read, void *source,
                          uint64_t file_bytes, lors_st_header **out);
void lors_st_free(lors_st_header *header); /* NULL is allowed */

/* One tensor to be written; laid out by lors_st_layout. */
typedef struct lors_st_entry {
    const char *name;
    lors_dtype dtype;
    int32_t n_dims;
    const int64_t *shape;
    uint64_t n_bytes;
    uint64_t offset; /* out: absolute, in the file */
} lors_st_entry;

/* The header (length prefix included) for `entries` in the given order of bytes, metadata
 * {"format":"pt"}, padded with spaces so that data begin at a multiple of `alignment` (a power of
 * two >= 8); sets every offset and *file_bytes. For natural alignment of every tensor, give entries
 * in descending order of element size. Errors: ERR_LIMIT, ERR_USAGE (name not UTF-8). */
lors_status lors_st_layout(lors_st_entry *entries, int64_t n_entries, size_t alignment,
                           lors_text *header, uint64_t *file_bytes);

#endif

/* st_write.c - the header of a safetensors file to be written: layout first, then compact JSON. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "io/safetensors.h"

enum { MAX_ALIGNMENT = 1 << 20 };

static lors_status fail_entry(const lors_st_entry *entry, lors_status status, const char *why)
{
    char name[LORS_ESCAPED_MAX];
    return lors_fail(status, "tensor '%s' cannot be written: %s",
                     lors_escape_text(entry->name, name), why);
}

static lors_status check_name(const lors_st_entry *entry, int64_t index, lors_map *names)
{
    int64_t existing = -1;
    size_t n_bytes = strlen(entry->name);
    if (n_bytes > LORS_ST_MAX_NAME) {
        return fail_entry(entry, LORS_ERR_LIMIT, "its name is longer than 4096 bytes");
    }
    if (!lors_utf8_valid(entry->name, n_bytes)) {
        return fail_entry(entry, LORS_ERR_USAGE, "its name is not valid UTF-8");
    }
    if (strcmp(entry->name, "__metadata__") == 0) {
        return fail_entry(entry, LORS_ERR_USAGE, "its name is reserved by the format");
    }
    bool has_room = lors_map_put(names, entry->name, n_bytes, index, &existing);
    assert(has_room); /* for all entries, since it was created */
    (void)has_room;
    return existing >= 0 ? fail_entry(entry, LORS_ERR_USAGE, "its name is given twice") : LORS_OK;
}

/* The same rules as the reader's. */
static lors_status check_size(const lors_st_entry *entry)
{
    int64_t product = 1;
    bool empty = false, overflow = false;
    uint64_t n_bits = 0;
    if (entry->n_dims < 0 || entry->n_dims > LORS_ST_MAX_DIMS) {
        return fail_entry(entry, LORS_ERR_LIMIT, "more than 64 dimensions");
    }
    for (int32_t i = 0; i < entry->n_dims; i++) {
        int64_t dim = entry->shape[i];
        empty = empty || dim == 0;
        overflow =
            overflow || dim < 0 || (dim != 0 && __builtin_mul_overflow(product, dim, &product));
    }
    uint64_t n_elements = empty ? 0 : (uint64_t)product;
    if (overflow ||
        __builtin_mul_overflow(n_elements, (uint64_t)lors_dtype_bits(entry->dtype), &n_bits)) {
        return fail_entry(entry, LORS_ERR_LIMIT, "its shape overflows");
    }
    if (n_bits % 8 != 0 || n_bits / 8 != entry->n_bytes) {
        return fail_entry(entry, LORS_ERR_USAGE, "its bytes do not agree with dtype and shape");
    }
    return LORS_OK;
}

static lors_status check_entries(const lors_st_entry *entries, int64_t n_entries)
{
    lors_status status = LORS_OK;
    if (n_entries < 0 || n_entries > LORS_ST_MAX_TENSORS) {
        return lors_fail(LORS_ERR_LIMIT, "%" PRId64 " tensors in one file (allowed: up to %d)",
                         n_entries, LORS_ST_MAX_TENSORS);
    }
    lors_map *names = lors_map_create((size_t)n_entries);
    if (!names) {
        return lors_fail_memory((size_t)n_entries);
    }
    for (int64_t i = 0; i < n_entries; i++) {
        LORS_TRY_CLEAN(check_name(&entries[i], i, names));
        LORS_TRY_CLEAN(check_size(&entries[i]));
    }
cleanup:
    lors_map_free(names);
    return status;
}

static void append_name(lors_text *json, const char *name)
{
    lors_text_append(json, "\"", 1);
    for (const char *c = name; *c; c++) {
        if ((unsigned char)*c < 0x20) {
            lors_text_printf(json, "\\u%04x", (unsigned char)*c);
        } else {
            lors_text_append(json, "\\", *c == '"' || *c == '\\');
            lors_text_append(json, c, 1);
        }
    }
    lors_text_append(json, "\"", 1);
}

static void append_entry(lors_text *json, const lors_st_entry *entry, uint64_t begin)
{
    lors_text_append(json, ",", 1);
    append_name(json, entry->name);
    lors_text_printf(json, ":{\"dtype\":\"%s\",\"shape\":[", lors_dtype_name(entry->dtype));
    for (int32_t i = 0; i < entry->n_dims; i++) {
        lors_text_printf(json, "%s%" PRId64, i > 0 ? "," : "", entry->shape[i]);
    }
    lors_text_printf(json, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin,
                     begin + entry->n_bytes);
}

/* Everything up to the data; offsets are those within the data until the header's size is known. */
static lors_status append_all(lors_st_entry *entries, int64_t n_entries, lors_text *header,
                              uint64_t *n_data)
{
    static const char start[] = "\0\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"}";
    lors_text_append(header, start, sizeof start - 1);
    *n_data = 0;
    for (int64_t i = 0; i < n_entries; i++) {
        entries[i].offset = *n_data;
        *n_data += entries[i].n_bytes; /* of at most 2^61: check_size */
        if (*n_data > INT64_MAX) {
            return fail_entry(&entries[i], LORS_ERR_LIMIT, "the file would be beyond 2^63 bytes");
        }
        append_entry(header, &entries[i], entries[i].offset);
        if (header->failed || header->length > 8 + (size_t)LORS_ST_MAX_HEADER) {
            break;
        }
    }
    lors_text_append(header, "}", 1);
    return header->failed ? lors_fail_memory(header->length) : LORS_OK;
}

/* Pad with spaces to a multiple of `alignment`, and put the length in front. */
static lors_status finish_header(lors_text *header, size_t alignment)
{
    while (header->length % alignment != 0 && !header->failed) {
        lors_text_append(header, " ", 1);
    }
    if (header->failed) {
        return lors_fail_memory(header->length);
    }
    uint64_t n_json = header->length - 8;
    if (n_json > LORS_ST_MAX_HEADER) {
        return lors_fail(LORS_ERR_LIMIT,
                         "the header would have more than %d bytes: write several "
                         "files (--max-shard-size)",
                         LORS_ST_MAX_HEADER);
    }
    for (int i = 0; i < 8; i++) {
        header->bytes[i] = (char)(unsigned char)(n_json >> (8 * i) & 0xff);
    }
    return LORS_OK;
}

lors_status lors_st_layout(lors_st_entry *entries, int64_t n_entries, size_t alignment,
                           lors_text *header, uint64_t *file_bytes)
{
    uint64_t n_data = 0;
    lors_status status;
    lors_text_clear(header);
    *file_bytes = 0;
    if (alignment < 8 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0) {
        return lors_fail(LORS_ERR_USAGE, "alignment %zu (allowed: powers of two from 8 to %d)",
                         alignment, MAX_ALIGNMENT);
    }
    LORS_TRY_CLEAN(check_entries(entries, n_entries));
    LORS_TRY_CLEAN(append_all(entries, n_entries, header, &n_data));
    LORS_TRY_CLEAN(finish_header(header, alignment));
    if (n_data > INT64_MAX - header->length) {
        status = lors_fail(LORS_ERR_LIMIT, "the file would be beyond 2^63 bytes");
        goto cleanup;
    }
    for (int64_t i = 0; i < n_entries; i++) {
        entries[i].offset += header->length;
    }
    *file_bytes = header->length + n_data;
cleanup:
    if (status != LORS_OK) {
        lors_text_clear(header);
    }
    return status;
}

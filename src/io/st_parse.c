/* st_parse.c - the header of a safetensors file, checked as the reference reader checks it.
 *
 * One pass over the header fills the tensors; st_order.c then checks that they cover the data.
 * Nothing takes more than n log n steps, whatever the header says.
 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "io/st_internal.h"

typedef struct parser {
    lors_lexer lexer;
    lors_st_header *header;
    lors_map *names;   /* name -> index */
    uint32_t *name_at; /* byte of each tensor's name, for messages; headers are below 2^32 */
    int64_t capacity;  /* of header->tensors and name_at */
    bool has_metadata;
    char name[LORS_ST_MAX_NAME];
} parser;

/* One tensor object while its fields come in. */
typedef struct tensor_fields {
    bool has_dtype, has_shape, has_offsets;
    lors_dtype dtype;
    int32_t n_dims;
    int64_t shape[LORS_ST_MAX_DIMS];
    uint64_t begin, end;
    uint64_t at; /* byte of the object */
} tensor_fields;

/* ---- One tensor ---------------------------------------------------------------------------- */

static lors_status read_dtype(parser *p, tensor_fields *fields)
{
    char name[32], shown[LORS_ESCAPED_MAX];
    size_t n_bytes = 0;
    lors_lexer_peek_token(&p->lexer);
    uint64_t at = lors_lexer_at(&p->lexer);
    LORS_TRY(lors_lexer_string(&p->lexer, name, sizeof name, &n_bytes));
    if (n_bytes > sizeof name || !lors_dtype_find(name, n_bytes, &fields->dtype)) {
        size_t n_shown = n_bytes < sizeof name ? n_bytes : sizeof name;
        return lors_lexer_fail(&p->lexer, at,
                               "unknown dtype '%s' (allowed: F32, F16, BF16, I64 "
                               "and the others of safetensors, in capitals)",
                               lors_escape(name, n_shown, shown));
    }
    return LORS_OK;
}

static lors_status read_shape(parser *p, tensor_fields *fields)
{
    lors_lexer *lexer = &p->lexer;
    uint64_t n_seen = 0;
    bool more = false;
    LORS_TRY(lors_lexer_expect(lexer, '[', "a shape in square brackets"));
    LORS_TRY(lors_lexer_more(lexer, ']', &n_seen, &more));
    while (more) {
        uint64_t dim = 0, at = lors_lexer_at(lexer);
        LORS_TRY(lors_lexer_u64(lexer, &dim));
        if (dim > INT64_MAX) {
            return lors_lexer_fail(lexer, at, "dimension %" PRIu64 " (allowed: up to 2^63 - 1)",
                                   dim);
        }
        if (n_seen > LORS_ST_MAX_DIMS) {
            return lors_lexer_fail(lexer, at, "more than %d dimensions", LORS_ST_MAX_DIMS);
        }
        fields->shape[n_seen - 1] = (int64_t)dim;
        fields->n_dims = (int32_t)n_seen;
        LORS_TRY(lors_lexer_more(lexer, ']', &n_seen, &more));
    }
    return LORS_OK;
}

static lors_status read_offsets(parser *p, tensor_fields *fields)
{
    lors_lexer *lexer = &p->lexer;
    uint64_t at = 0;
    LORS_TRY(lors_lexer_expect(lexer, '[', "data_offsets in square brackets"));
    LORS_TRY(lors_lexer_u64(lexer, &fields->begin));
    LORS_TRY(lors_lexer_expect(lexer, ',', "',' (data_offsets are two numbers)"));
    lors_lexer_peek_token(lexer);
    at = lors_lexer_at(lexer);
    LORS_TRY(lors_lexer_u64(lexer, &fields->end));
    LORS_TRY(lors_lexer_expect(lexer, ']', "']' (data_offsets are two numbers)"));
    if (fields->end < fields->begin) {
        return lors_lexer_fail(lexer, at,
                               "data_offsets end at %" PRIu64 ", before they begin (%" PRIu64 ")",
                               fields->end, fields->begin);
    }
    return LORS_OK;
}

typedef lors_status (*read_field_fn)(parser *p, tensor_fields *fields);

/* Read the value of one known field, which may come once. */
static lors_status read_field(parser *p, tensor_fields *fields, uint64_t at, bool *seen,
                              const char *name, read_field_fn read)
{
    if (*seen) {
        return lors_lexer_fail(&p->lexer, at, "%s is given twice", name);
    }
    *seen = true;
    return read(p, fields);
}

/* The object of one tensor. An unknown field is checked and ignored, as the reference does. */
static lors_status read_fields(parser *p, tensor_fields *fields)
{
    lors_lexer *lexer = &p->lexer;
    uint64_t n_seen = 0;
    bool more = false;
    char key[16];
    LORS_TRY(lors_lexer_expect(lexer, '{', "an object with dtype, shape and data_offsets"));
    LORS_TRY(lors_lexer_more(lexer, '}', &n_seen, &more));
    while (more) {
        size_t n_key = 0;
        uint64_t at = lors_lexer_at(lexer);
        LORS_TRY(lors_lexer_string(lexer, key, sizeof key, &n_key));
        LORS_TRY(lors_lexer_expect(lexer, ':', "':'"));
        if (n_key == 5 && memcmp(key, "dtype", 5) == 0) {
            LORS_TRY(read_field(p, fields, at, &fields->has_dtype, "dtype", read_dtype));
        } else if (n_key == 5 && memcmp(key, "shape", 5) == 0) {
            LORS_TRY(read_field(p, fields, at, &fields->has_shape, "shape", read_shape));
        } else if (n_key == 12 && memcmp(key, "data_offsets", 12) == 0) {
            LORS_TRY(read_field(p, fields, at, &fields->has_offsets, "data_offsets", read_offsets));
        } else {
            p->header->loose = true;
            LORS_TRY(lors_lexer_ignore(lexer, 1));
        }
        LORS_TRY(lors_lexer_more(lexer, '}', &n_seen, &more));
    }
    const char *missing = !fields->has_dtype     ? "dtype"
                          : !fields->has_shape   ? "shape"
                          : !fields->has_offsets ? "data_offsets"
                                                 : NULL;
    return missing ? lors_lexer_fail(lexer, fields->at, "%s is missing", missing) : LORS_OK;
}

/* Elements and bytes from the shape. The product of the dimensions that are not zero must fit
 * int64 even where another one is zero, so that no code behind this one can overflow on it. */
static lors_status check_size(parser *p, const tensor_fields *fields, uint64_t *n_elements)
{
    int64_t product = 1;
    bool empty = false;
    uint64_t n_bits = 0, n_found = fields->end - fields->begin;
    for (int32_t i = 0; i < fields->n_dims; i++) {
        empty = empty || fields->shape[i] == 0;
        if (fields->shape[i] != 0 && __builtin_mul_overflow(product, fields->shape[i], &product)) {
            return lors_lexer_fail(&p->lexer, fields->at,
                                   "the shape overflows: its product is "
                                   "beyond 2^63 - 1 elements");
        }
    }
    *n_elements = empty ? 0 : (uint64_t)product;
    if (__builtin_mul_overflow(*n_elements, (uint64_t)lors_dtype_bits(fields->dtype), &n_bits)) {
        return lors_lexer_fail(&p->lexer, fields->at,
                               "the size overflows: %" PRIu64 " elements of "
                               "%s are beyond 2^64 bits",
                               *n_elements, lors_dtype_name(fields->dtype));
    }
    if (n_bits % 8 != 0) {
        return lors_lexer_fail(&p->lexer, fields->at,
                               "%" PRIu64 " elements of %s fill no whole "
                               "number of bytes",
                               *n_elements, lors_dtype_name(fields->dtype));
    }
    if (n_bits / 8 != n_found) {
        return lors_lexer_fail(&p->lexer, fields->at,
                               "dtype and shape ask for %" PRIu64 " bytes "
                               "(%" PRIu64 " elements of %s), data_offsets hold %" PRIu64,
                               n_bits / 8, *n_elements, lors_dtype_name(fields->dtype), n_found);
    }
    return LORS_OK;
}

/* ---- All tensors --------------------------------------------------------------------------- */

/* No header within its limit has room for more tensors than that, however short their names. */
#define SHORTEST "\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,0]},"
_Static_assert(LORS_ST_MAX_HEADER / (sizeof SHORTEST - 1) <= LORS_ST_MAX_TENSORS, "two limits");

/* Room for one more tensor. */
static lors_status grow(parser *p)
{
    lors_st_header *header = p->header;
    if (header->n_tensors < p->capacity) {
        return LORS_OK;
    }
    int64_t capacity = p->capacity == 0 ? 64 : 2 * p->capacity;
    capacity = capacity < LORS_ST_MAX_TENSORS ? capacity : LORS_ST_MAX_TENSORS;
    size_t n_bytes = (size_t)capacity * sizeof *header->tensors;
    lors_st_tensor *tensors = lors_resize(header->tensors, n_bytes);
    header->tensors = tensors ? tensors : header->tensors;
    uint32_t *name_at =
        tensors ? lors_resize(p->name_at, (size_t)capacity * sizeof *name_at) : NULL;
    p->name_at = name_at ? name_at : p->name_at;
    if (!name_at) {
        return lors_fail_memory(n_bytes);
    }
    p->capacity = capacity;
    return LORS_OK;
}

/* The name goes into the arena and the map of names; *kept is the copy. */
static lors_status add_name(parser *p, uint64_t at, size_t n_bytes, const char **kept)
{
    int64_t existing = -1;
    char shown[LORS_ESCAPED_MAX];
    *kept = lors_arena_copy(p->header->arena, p->name, n_bytes);
    if (!*kept || !lors_map_put(p->names, *kept, n_bytes, p->header->n_tensors, &existing)) {
        return lors_fail_memory(n_bytes + 1);
    }
    if (existing >= 0) {
        return lors_lexer_fail(&p->lexer, at,
                               "the name '%s' is given twice (first at byte %" PRIu32
                               "): readers would disagree on which one counts",
                               lors_escape(p->name, n_bytes, shown), p->name_at[existing]);
    }
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char byte = (unsigned char)p->name[i];
        p->header->loose = p->header->loose || byte < 0x20 || byte == 0x7f;
    }
    return LORS_OK;
}

static const int64_t *keep_shape(lors_arena *arena, const tensor_fields *fields)
{
    static const int64_t scalar[1] = {1}; /* never NULL, though it holds no dimension */
    size_t n_bytes = (size_t)fields->n_dims * sizeof fields->shape[0];
    if (n_bytes == 0) {
        return scalar;
    }
    int64_t *shape = lors_arena_alloc(arena, n_bytes);
    return shape ? memcpy(shape, fields->shape, n_bytes) : NULL;
}

/* "NAME": {...}, the name being read already. */
static lors_status read_tensor(parser *p, uint64_t at, size_t n_name)
{
    lors_st_header *header = p->header;
    tensor_fields fields; /* half a kilobyte that must not be cleared two million times */
    uint64_t n_elements = 0;
    const char *name = NULL;
    if (n_name > LORS_ST_MAX_NAME) {
        return lors_lexer_fail(&p->lexer, at, "a name of %zu bytes (allowed: up to %d)", n_name,
                               LORS_ST_MAX_NAME);
    }
    LORS_TRY(grow(p));
    LORS_TRY(add_name(p, at, n_name, &name));
    fields.has_dtype = fields.has_shape = fields.has_offsets = false;
    fields.dtype = LORS_BOOL;
    fields.n_dims = 0;
    fields.begin = fields.end = 0;
    p->lexer.tensor = name;
    p->lexer.tensor_bytes = n_name;
    lors_lexer_peek_token(&p->lexer);
    fields.at = lors_lexer_at(&p->lexer);
    LORS_TRY(read_fields(p, &fields));
    LORS_TRY(check_size(p, &fields, &n_elements));
    const int64_t *shape = keep_shape(header->arena, &fields);
    if (!shape) {
        return lors_fail_memory((size_t)fields.n_dims * sizeof *shape);
    }
    p->lexer.tensor = NULL;
    p->name_at[header->n_tensors] = (uint32_t)at;
    header->tensors[header->n_tensors++] = (lors_st_tensor){
        name, n_name, fields.dtype, fields.n_dims, shape, n_elements, fields.begin, fields.end};
    return LORS_OK;
}

/* The map of strings to strings, of which only "format" is kept; null stands for none. */
static lors_status read_metadata(parser *p, uint64_t at)
{
    lors_lexer *lexer = &p->lexer;
    uint64_t n_seen = 0;
    bool more = false;
    if (p->has_metadata) {
        return lors_lexer_fail(lexer, at, "__metadata__ is given twice");
    }
    p->has_metadata = true;
    if (lors_lexer_peek_token(lexer) == 'n') {
        return lors_lexer_word(lexer, "null");
    }
    LORS_TRY(lors_lexer_expect(lexer, '{', "__metadata__ as an object of strings"));
    LORS_TRY(lors_lexer_more(lexer, '}', &n_seen, &more));
    while (more) {
        size_t n_key = 0, n_value = 0;
        LORS_TRY(lors_lexer_string(lexer, p->name, sizeof p->name, &n_key));
        bool is_format = n_key == 6 && memcmp(p->name, "format", 6) == 0;
        LORS_TRY(lors_lexer_expect(lexer, ':', "':'"));
        LORS_TRY(lors_lexer_string(lexer, p->name, sizeof p->name, &n_value));
        if (is_format) {
            n_value = n_value < sizeof p->name ? n_value : sizeof p->name;
            p->header->format = lors_arena_copy(p->header->arena, p->name, n_value);
            LORS_TRY(p->header->format ? LORS_OK : lors_fail_memory(n_value + 1));
        }
        LORS_TRY(lors_lexer_more(lexer, '}', &n_seen, &more));
    }
    return LORS_OK;
}

static lors_status read_header(parser *p)
{
    lors_lexer *lexer = &p->lexer;
    uint64_t n_seen = 0;
    bool more = false;
    p->header->loose = lors_lexer_peek(lexer) != '{';
    LORS_TRY(lors_lexer_expect(lexer, '{', "'{', with which the header begins"));
    LORS_TRY(lors_lexer_more(lexer, '}', &n_seen, &more));
    while (more) {
        size_t n_name = 0;
        uint64_t at = lors_lexer_at(lexer);
        LORS_TRY(lors_lexer_string(lexer, p->name, sizeof p->name, &n_name));
        LORS_TRY(lors_lexer_expect(lexer, ':', "':'"));
        if (n_name == 12 && memcmp(p->name, "__metadata__", 12) == 0) {
            LORS_TRY(read_metadata(p, at));
        } else {
            LORS_TRY(read_tensor(p, at, n_name));
        }
        LORS_TRY(lors_lexer_more(lexer, '}', &n_seen, &more));
    }
    if (lors_lexer_peek_token(lexer) != LORS_LEXER_END) {
        return lors_lexer_unexpected(lexer, "only spaces behind the header's last '}'");
    }
    return LORS_OK;
}

/* ---- The whole ----------------------------------------------------------------------------- */

static lors_status open_parser(parser *p, const char *label, lors_st_read_fn read, void *source,
                               uint64_t n_header, uint64_t file_bytes)
{
    p->header = lors_new(1, sizeof *p->header);
    p->names = p->header ? lors_map_create(256) : NULL;
    lors_arena *arena = p->names ? lors_arena_create() : NULL;
    if (!arena) {
        return lors_fail_memory(sizeof *p->header);
    }
    p->header->arena = arena;
    p->header->data_start = 8 + n_header;
    p->header->file_bytes = file_bytes;
    return lors_lexer_open(&p->lexer, label, read, source, 8, 8 + n_header);
}

/* Give back what the array of tensors has too much; keeping it is no failure. */
static void fit_tensors(lors_st_header *header)
{
    size_t n_bytes = (size_t)header->n_tensors * sizeof *header->tensors;
    lors_st_tensor *fitted = n_bytes > 0 ? lors_resize(header->tensors, n_bytes) : NULL;
    header->tensors = fitted ? fitted : header->tensors;
}

lors_status lors_st_parse(const char *label, lors_st_read_fn read, void *source,
                          uint64_t file_bytes, lors_st_header **out)
{
    uint64_t n_header = 0;
    lors_status status;
    *out = NULL;
    LORS_TRY(lors_st_read_length(label, read, source, file_bytes, &n_header));
    parser *p = lors_new(1, sizeof *p);
    if (!p) {
        return lors_fail_memory(sizeof *p);
    }
    LORS_TRY_CLEAN(open_parser(p, label, read, source, n_header, file_bytes));
    LORS_TRY_CLEAN(read_header(p));
    LORS_TRY_CLEAN(lors_st_order(&p->lexer, p->header, &p->name_at));
    fit_tensors(p->header);
    *out = p->header;
    p->header = NULL;
cleanup:
    lors_lexer_close(&p->lexer);
    lors_map_free(p->names);
    lors_free(p->name_at);
    lors_st_free(p->header);
    lors_free(p);
    return status;
}

void lors_st_free(lors_st_header *header)
{
    if (header) {
        lors_arena_free(header->arena);
        lors_free(header->tensors);
        lors_free(header);
    }
}

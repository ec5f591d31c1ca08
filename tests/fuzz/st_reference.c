/* st_reference.c - what the reference reader says of a safetensors header, stated naively. */
#include "st_reference.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "st_json_tree.h"

enum { MAX_HEADER = 100000000, OUR_MAX_NAME = 4096, OUR_MAX_DEPTH = 8 };

static const struct {
    const char *name;
    uint64_t bits;
} dtypes[] = {
    {"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},     {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"I16", 16}, {"U16", 16},    {"F8_E5M2FNUZ", 8}, {"F16", 16},    {"BF16", 16},
    {"I32", 32}, {"U32", 32},    {"F32", 32},        {"C64", 64},    {"F64", 64},
    {"I64", 64}, {"U64", 64},
};

const char *st_verdict_name(st_verdict verdict)
{
    static const char *const names[] = {"accept", "stricter", "refuse", "unsure"};
    return names[verdict];
}

/* The worst verdict stays. */
static void say(st_ref *ref, st_verdict verdict, const char *why)
{
    if (verdict > ref->verdict) {
        ref->verdict = verdict;
        ref->why = why;
    }
}

#define REFUSE(why) say(ref, ST_REFUSE, why)
#define STRICTER(why) say(ref, ST_STRICTER, why)

/* --- the tree into tensors ------------------------------------------------------------------ */

static size_t find_dtype(const char *text, size_t n_bytes)
{
    size_t i = 0, n = sizeof dtypes / sizeof *dtypes;
    while (i < n && !st_text_is(text, n_bytes, dtypes[i].name)) {
        i++;
    }
    return i;
}

static void read_dtype(st_ref *ref, const st_node *value, st_ref_tensor *tensor)
{
    size_t n = sizeof dtypes / sizeof *dtypes, found = n;
    const st_node *inside = value->kind == ST_OBJECT ? value->first : NULL;
    if (value->kind == ST_STRING) {
        found = find_dtype(value->text, value->text_bytes);
    } else if (inside && !inside->next && inside->kind == ST_NULL) {
        found = find_dtype(inside->key, inside->key_bytes);
        STRICTER("dtype as an object");
    }
    if (found == n) {
        REFUSE("unknown dtype");
    } else {
        tensor->dtype = dtypes[found].name;
    }
}

static void read_shape(st_ref *ref, const st_node *value, st_ref_tensor *tensor)
{
    if (value->kind != ST_ARRAY) {
        REFUSE("shape is no array");
        return;
    }
    for (const st_node *dim = value->first; dim; dim = dim->next) {
        if (dim->kind != ST_NUMBER || !dim->is_u64) {
            REFUSE("a dimension is no whole number");
        } else if (dim->number > INT64_MAX) {
            STRICTER("a dimension beyond 2^63 - 1");
        }
        if (tensor->n_dims < ST_REF_DIMS) {
            tensor->shape[tensor->n_dims++] = dim->number;
        } else {
            STRICTER("more than 64 dimensions");
        }
    }
}

static void read_offsets(st_ref *ref, const st_node *value, st_ref_tensor *tensor)
{
    const st_node *begin = value->kind == ST_ARRAY ? value->first : NULL;
    const st_node *end = begin ? begin->next : NULL;
    if (!end || end->next || begin->kind != ST_NUMBER || end->kind != ST_NUMBER || !begin->is_u64 ||
        !end->is_u64) {
        REFUSE("data_offsets are not two whole numbers");
        return;
    }
    tensor->begin = begin->number;
    tensor->end = end->number;
    ref->last_end = tensor->end > ref->last_end ? tensor->end : ref->last_end;
}

static void read_fields(st_ref *ref, const st_node *object, st_ref_tensor *tensor)
{
    int n_dtype = 0, n_shape = 0, n_offsets = 0;
    for (const st_node *field = object->first; field; field = field->next) {
        if (st_text_is(field->key, field->key_bytes, "dtype")) {
            n_dtype++;
            read_dtype(ref, field, tensor);
        } else if (st_text_is(field->key, field->key_bytes, "shape")) {
            n_shape++;
            tensor->n_dims = 0;
            read_shape(ref, field, tensor);
        } else if (st_text_is(field->key, field->key_bytes, "data_offsets")) {
            n_offsets++;
            read_offsets(ref, field, tensor);
        } else {
            ref->loose = true;
            if (st_depth(field) > OUR_MAX_DEPTH) {
                STRICTER("an unknown field that is nested deeply");
            }
        }
    }
    if (n_dtype != 1 || n_shape != 1 || n_offsets != 1) {
        REFUSE("a field is missing or given twice");
    }
}

/* serde reads a struct from an array of its fields, too. */
static void read_array(st_ref *ref, const st_node *array, st_ref_tensor *tensor)
{
    const st_node *dtype = array->first, *shape = dtype ? dtype->next : NULL;
    const st_node *offsets = shape ? shape->next : NULL;
    STRICTER("a tensor as an array");
    if (!offsets || offsets->next) {
        REFUSE("an array of another length as a tensor");
        return;
    }
    read_dtype(ref, dtype, tensor);
    read_shape(ref, shape, tensor);
    read_offsets(ref, offsets, tensor);
}

static void read_tensor(st_ref *ref, const st_node *value)
{
    st_ref_tensor tensor = {.name = value->key, .name_bytes = value->key_bytes, .dtype = "U8"};
    if (value->kind == ST_OBJECT) {
        read_fields(ref, value, &tensor);
    } else if (value->kind == ST_ARRAY) {
        read_array(ref, value, &tensor);
    } else {
        REFUSE("a tensor is no object");
    }
    if (tensor.name_bytes > OUR_MAX_NAME) {
        STRICTER("a name beyond 4096 bytes");
    }
    for (size_t i = 0; i < tensor.name_bytes; i++) {
        unsigned char byte = (unsigned char)tensor.name[i];
        ref->loose = ref->loose || byte < 0x20 || byte == 0x7f;
    }
    for (size_t i = 0; i < ref->n_tensors; i++) {
        st_ref_tensor *other = &ref->tensors[i];
        if (other->name_bytes == tensor.name_bytes &&
            memcmp(other->name, tensor.name, tensor.name_bytes) == 0) {
            STRICTER("one name twice"); /* the last one wins */
            *other = tensor;
            return;
        }
    }
    ref->tensors[ref->n_tensors++] = tensor;
}

static void read_metadata(st_ref *ref, const st_node *value, bool *seen)
{
    if (*seen) {
        REFUSE("__metadata__ twice");
    }
    *seen = true;
    if (value->kind != ST_OBJECT && value->kind != ST_NULL) {
        REFUSE("__metadata__ is no object");
    }
    for (const st_node *entry = value->first; entry && value->kind == ST_OBJECT;
         entry = entry->next) {
        if (entry->kind != ST_STRING) {
            REFUSE("a value of __metadata__ is no string");
        } else if (st_text_is(entry->key, entry->key_bytes, "format")) {
            ref->format = entry->text;
            ref->format_bytes = entry->text_bytes;
        }
    }
}

static void read_root(st_ref *ref, const st_node *root)
{
    bool seen = false;
    size_t n = 0;
    if (root->kind != ST_OBJECT) {
        REFUSE("the header is no object");
        return;
    }
    for (const st_node *value = root->first; value; value = value->next) {
        n++;
    }
    ref->tensors = st_block(&ref->blocks, (n + 1) * sizeof *ref->tensors);
    for (const st_node *value = root->first; value; value = value->next) {
        if (st_text_is(value->key, value->key_bytes, "__metadata__")) {
            read_metadata(ref, value, &seen);
        } else {
            read_tensor(ref, value);
        }
    }
}

/* --- the tensors against the file ----------------------------------------------------------- */

static void sort_tensors(st_ref *ref)
{
    for (size_t i = 1; i < ref->n_tensors; i++) { /* those alike stay in order */
        st_ref_tensor one = ref->tensors[i];
        size_t j = i;
        for (; j > 0 &&
               (ref->tensors[j - 1].begin > one.begin ||
                (ref->tensors[j - 1].begin == one.begin && ref->tensors[j - 1].end > one.end));
             j--) {
            ref->tensors[j] = ref->tensors[j - 1];
        }
        ref->tensors[j] = one;
    }
}

static void check_size(st_ref *ref, const st_ref_tensor *tensor)
{
    uint64_t product = 1, nonzero = 1,
             bits = dtypes[find_dtype(tensor->dtype, strlen(tensor->dtype))].bits;
    for (uint64_t i = 0; i < tensor->n_dims; i++) {
        uint64_t dim = tensor->shape[i];
        if (__builtin_mul_overflow(product, dim, &product)) {
            REFUSE("the shape overflows");
            return;
        }
        if (dim != 0 && (__builtin_mul_overflow(nonzero, dim, &nonzero) || nonzero > INT64_MAX)) {
            STRICTER("the dimensions that are not zero have a product beyond 2^63 - 1");
            nonzero = 1;
        }
    }
    if (__builtin_mul_overflow(product, bits, &bits)) {
        REFUSE("the size overflows");
    } else if (bits % 8 != 0) {
        REFUSE("no whole number of bytes");
    } else if (bits / 8 != tensor->end - tensor->begin) {
        REFUSE("size and data_offsets disagree");
    }
}

static void check_file(st_ref *ref, uint64_t n_header, uint64_t file_bytes)
{
    uint64_t covered = 0, end = 0;
    sort_tensors(ref);
    for (size_t i = 0; i < ref->n_tensors; i++) {
        const st_ref_tensor *tensor = &ref->tensors[i];
        if (tensor->begin != covered || tensor->end < tensor->begin) {
            REFUSE("a hole, an overlap, or an end before its beginning");
        }
        covered = tensor->end;
        check_size(ref, tensor);
    }
    if (__builtin_add_overflow(covered, 8 + n_header, &end) || end != file_bytes) {
        REFUSE("the tensors do not end where the file does");
    }
}

void st_ref_read(const uint8_t *bytes, size_t n_bytes, uint64_t file_bytes, st_ref *ref)
{
    *ref = (st_ref){.verdict = ST_ACCEPT};
    uint64_t n_header = 0;
    for (size_t i = 0; i < 8 && i < n_bytes; i++) {
        n_header |= (uint64_t)bytes[i] << 8 * i;
    }
    if (file_bytes < 8 || n_header > MAX_HEADER || n_header > file_bytes - 8) {
        REFUSE("the header's length");
        return;
    }
    st_tree tree = {.bytes = bytes, .n_bytes = n_bytes, .at = 8, .end = 8 + n_header};
    st_tree_read(&tree);
    ref->blocks = tree.blocks;
    if (!tree.root) {
        REFUSE("no JSON");
    } else {
        ref->loose = n_bytes < 9 || bytes[8] != '{';
        read_root(ref, tree.root);
        check_file(ref, n_header, file_bytes);
    }
    if (tree.unsure) {
        say(ref, ST_UNSURE, "a number next to the largest double");
    }
}

void st_ref_free(st_ref *ref)
{
    st_blocks_free(ref->blocks);
    *ref = (st_ref){.verdict = ST_REFUSE};
}

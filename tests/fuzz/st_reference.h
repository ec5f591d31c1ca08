/* st_reference.h - what the reference reader says of a safetensors header, stated naively.
 *
 * The rules are those of the format's reference implementation: JSON into a tree, the tree into
 * tensors, the tensors against the file. Nothing is shared with src/io. Where our reader documents
 * that it refuses more (src/io/safetensors.h) the verdict is ST_STRICTER. */
#ifndef LORS_TESTS_ST_REFERENCE_H
#define LORS_TESTS_ST_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum st_verdict {
    ST_ACCEPT,
    ST_STRICTER, /* the reference accepts it (or may), ours documents that it refuses */
    ST_REFUSE,
    ST_UNSURE /* a number next to the largest double, where rounding decides */
} st_verdict;

enum { ST_REF_DIMS = 64 };

typedef struct st_ref_tensor {
    char *name;
    size_t name_bytes;
    const char *dtype;
    uint64_t n_dims, shape[ST_REF_DIMS];
    uint64_t begin, end;
} st_ref_tensor;

typedef struct st_ref {
    st_verdict verdict;
    const char *why;        /* of anything but ST_ACCEPT */
    st_ref_tensor *tensors; /* in the order of their bytes, if accepted */
    size_t n_tensors;
    uint64_t last_end; /* the largest end of any tensor, whatever the verdict */
    char *format;      /* __metadata__.format */
    size_t format_bytes;
    bool loose;   /* as lors_st_header.loose */
    void *blocks; /* all memory of this reading */
} st_ref;

/* A file of file_bytes bytes: the n_bytes given, then zeros. */
void st_ref_read(const uint8_t *bytes, size_t n_bytes, uint64_t file_bytes, st_ref *out);
void st_ref_free(st_ref *ref);

const char *st_verdict_name(st_verdict verdict);

#endif

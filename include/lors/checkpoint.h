/* checkpoint.h - look into checkpoints: list their tensors, read values, compare two of them. */
#ifndef LORS_CHECKPOINT_H
#define LORS_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lors_checkpoint lors_checkpoint;

/* How weights are read from files. It changes no byte of any result. */
typedef enum lors_io {
    LORS_IO_BUFFERED, /* through the system's page cache */
    LORS_IO_AUTO,     /* files that are in it already through it, others past it (O_DIRECT) */
    LORS_IO_DIRECT    /* past it wherever the file system can */
} lors_io;

typedef struct lors_tensor_info {
    const char *name;  /* NUL-terminated, not escaped; borrowed */
    const char *dtype; /* safetensors' name: "F32", "BF16", "I64", ... */
    const int64_t *shape;
    int32_t n_dims;    /* 0 for a scalar, which has one element */
    uint64_t n_elements, n_bytes;
    const char *file;  /* base name of the file that holds it */
    uint64_t offset;   /* of its first byte in that file */
    const char *role;  /* "attention.q", "mlp", ... (configs/README.md); "other" if unknown */
} lors_tensor_info;

/* Open a model: a folder in Hugging Face layout (model.safetensors, or shards with an index) or one
 * .safetensors file. Reads headers only. Tensors are in the order of their bytes on disk.
 *   follow_symlinks  allow links that leave the folder (hub-cache links are always allowed)
 * Errors: ERR_IO, ERR_INPUT (file, byte offset and rule), ERR_LIMIT. */
LORS_API lors_status lors_checkpoint_open(const char *path, bool follow_symlinks,
                                          lors_checkpoint **out);
LORS_API void lors_checkpoint_close(lors_checkpoint *checkpoint); /* NULL is allowed */

LORS_API int64_t lors_checkpoint_count(const lors_checkpoint *checkpoint);
LORS_API void lors_checkpoint_tensor(const lors_checkpoint *checkpoint, int64_t index,
                                     lors_tensor_info *out);
LORS_API int32_t lors_checkpoint_file_count(const lors_checkpoint *checkpoint);
LORS_API int32_t lors_checkpoint_warning_count(const lors_checkpoint *checkpoint);
LORS_API const char *lors_checkpoint_warning(const lors_checkpoint *checkpoint, int32_t index);

/* Read `count` elements from element `first` of an F32, F16 or BF16 tensor, widened exactly to
 * float. `out` has room for `count`. Errors: ERR_USAGE (other dtype, range), ERR_IO, ERR_INPUT. */
LORS_API lors_status lors_checkpoint_read(lors_checkpoint *checkpoint, int64_t index,
                                          uint64_t first, uint64_t count, float *out);

/* How one tensor differs between two checkpoints. */
typedef enum lors_difference {
    LORS_SAME_BYTES,  /* same dtype, shape and bytes */
    LORS_SAME_VALUES, /* same shape and values, another dtype (or -0 against +0) */
    LORS_DIFFERENT,   /* same shape, other values */
    LORS_OTHER_SHAPE, /* the shapes differ */
    LORS_ONLY_A,
    LORS_ONLY_B
} lors_difference;

typedef struct lors_comparison {
    const char *name; /* borrowed; valid during the callback */
    lors_difference difference;
    const char *dtype_a, *dtype_b; /* NULL where absent */
    uint64_t n_elements, n_different;
    double max_abs;  /* largest |a - b|; NaN if a NaN stands against a number */
    double relative; /* norm(a - b) / norm(a), Frobenius, of finite elements; infinity if norm(a) is
                        0 or max_abs is infinite, NaN if max_abs is */
} lors_comparison;

/* Called once per tensor name, in A's order, then those only in B. Return true to stop. */
typedef bool (*lors_compare_fn)(const lors_comparison *comparison, void *user);

/* Compare all tensors of two checkpoints, by name, in bounded memory.
 *   n_different  how many names are not LORS_SAME_BYTES; may be NULL
 * Errors: ERR_IO, ERR_INPUT, ERR_LIMIT, ERR_CANCELLED (the callback stopped it). */
LORS_API lors_status lors_compare(lors_checkpoint *a, lors_checkpoint *b, lors_compare_fn each,
                                  void *user, int64_t *n_different);

#ifdef __cplusplus
}
#endif
#endif

/* checkpoint.h (io) - a model on disk: one file, or a folder of shards seen as one index. */
#ifndef LORS_IO_CHECKPOINT_H
#define LORS_IO_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/checkpoint.h>

#include "base/dtype.h"
#include "io/safetensors.h"

typedef struct lors_ckpt_tensor {
    const char *name; /* as on disk, NUL-terminated (names holding NUL are refused) */
    size_t name_bytes;
    lors_dtype dtype;
    int32_t n_dims;
    const int64_t *shape;
    uint64_t n_elements, n_bytes;
    int32_t file;    /* index of its file; -1: it is computed, and cannot be read */
    uint64_t offset; /* absolute, of its first byte in that file */
} lors_ckpt_tensor;

/* Identity of a file when it was opened, to notice that it changed while it was read. */
typedef struct lors_ckpt_file {
    char *path, *name; /* as opened; base name */
    uint64_t n_bytes, device, inode;
    int64_t mtime_ns, ctime_ns;
    bool direct; /* lors_ckpt_read_pages reads past the page cache: lors_ckpt_choose_io */
    lors_st_header *header;
} lors_ckpt_file;

/* Tensors in order of (file, offset), files in order of their names. Fields are read-only for other
 * modules. Open files belong to a pool that all checkpoints share (handles.h). */
struct lors_checkpoint {
    char *path;
    bool is_folder;
    lors_ckpt_file *files;
    int32_t n_files;
    lors_ckpt_tensor *tensors;
    int64_t n_tensors;
    struct lors_map *by_name; /* name -> index */
    lors_list warnings;       /* char * */
};

/* Index of a tensor by name, -1 if absent. */
int64_t lors_ckpt_find(const lors_checkpoint *checkpoint, const char *name);

/* Read n_bytes at `offset` within the tensor; safe from several threads at once. */
lors_status lors_ckpt_read_at(lors_checkpoint *checkpoint, const lors_ckpt_tensor *tensor,
                              uint64_t offset, void *out, size_t n_bytes);
/* The same, past the page cache where that was chosen for the file; so came `n_direct` bytes.
 * All of the pages of memory that `out` begins and ends in may be overwritten. Needed is a file
 * system that has this way, and an `out` that lies in its page as the bytes do in theirs of the
 * file (equal modulo LORS_DIRECT_ALIGN); all else goes through the cache. */
lors_status lors_ckpt_read_pages(lors_checkpoint *checkpoint, const lors_ckpt_tensor *tensor,
                                 uint64_t offset, void *out, size_t n_bytes, size_t *n_direct);
/* Choose it for each file. LORS_IO_AUTO: past the cache, unless most of the file is in it. Not
 * while anything is read. */
void lors_ckpt_choose_io(lors_checkpoint *checkpoint, lors_io io);

/* Is this the file that was opened: same device, inode, size and times? If not, the sentence says
 * what happened to it; `info` NULL: it was removed. ERR_IO. */
struct stat;
bool lors_ckpt_file_is(const lors_ckpt_file *file, const struct stat *info);
lors_status lors_ckpt_fail_changed(const lors_ckpt_file *file, const struct stat *info);

/* Both of a file of which only what stat said of it is known. */
lors_status lors_ckpt_check_same(const char *path, const struct stat *before,
                                 const struct stat *now);
/* The same of what has this path now. *changed is set where the file did; it stays where nobody can
 * tell (ERR_IO, too). */
lors_status lors_ckpt_check_path(const char *path, const struct stat *before, bool *changed);

/* Has any file changed (size, inode, times) since it was opened? ERR_IO names it, or one of which
 * nobody can tell. */
lors_status lors_ckpt_check_unchanged(const lors_checkpoint *checkpoint, bool *changed);

/* May `path`, found inside `folder`, be read? Plain files and hub-cache links (snapshots/X ->
 * ../../blobs/Y, also of a folder given directly) may, other links out of the folder only with
 * follow_symlinks. Errors: ERR_INPUT. */
lors_status lors_ckpt_check_link(const char *folder, const char *name, bool follow_symlinks);

/* Refuse what is no regular file. That is a fault of the model, while a missing permission, which
 * is found out when the file is opened, is one of the disk. `what`: "file of weights", for the
 * message. Errors: ERR_INPUT. */
lors_status lors_ckpt_check_kind(const char *path, const char *what);

#endif

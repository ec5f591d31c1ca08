/* checkpoint.c - a model on disk: one file, or a folder of shards seen as one index. */
#include "io/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "io/handles.h"
#include "io/label.h"
#include "io/shard_index.h"

static const char single_name[] = "model.safetensors";

/* ---- Identity ------------------------------------------------------------------------------ */

/* May wrap for absurd times, always in the same way. */
static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)((uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec);
}

static void note_identity(lors_ckpt_file *file, const struct stat *info)
{
    file->n_bytes = (uint64_t)info->st_size;
    file->device = (uint64_t)info->st_dev;
    file->inode = (uint64_t)info->st_ino;
    file->mtime_ns = nanoseconds(info->st_mtim);
    file->ctime_ns = nanoseconds(info->st_ctim);
}

bool lors_ckpt_file_is(const lors_ckpt_file *file, const struct stat *info)
{
    lors_ckpt_file now = {0};
    note_identity(&now, info);
    return now.n_bytes == file->n_bytes && now.device == file->device && now.inode == file->inode &&
           now.mtime_ns == file->mtime_ns && now.ctime_ns == file->ctime_ns;
}

/* What happened to it, as far as its name and size tell. */
static void tell_change(const lors_ckpt_file *file, const lors_ckpt_file *now, char out[96])
{
    if (now->device != file->device || now->inode != file->inode) {
        snprintf(out, 96, "replaced by another file");
    } else if (now->n_bytes != file->n_bytes) {
        snprintf(out, 96, "%s from %" PRIu64 " to %" PRIu64 " bytes",
                 now->n_bytes < file->n_bytes ? "cut" : "extended", file->n_bytes, now->n_bytes);
    } else if (now->mtime_ns != file->mtime_ns) {
        snprintf(out, 96, "written to");
    } else {
        snprintf(out, 96, "changed: its names, owner or mode");
    }
}

lors_status lors_ckpt_fail_changed(const lors_ckpt_file *file, const struct stat *info)
{
    char label[LORS_ESCAPED_MAX], change[96] = "removed";
    lors_ckpt_file now = {0};
    if (info) {
        note_identity(&now, info);
        tell_change(file, &now, change);
    }
    return lors_fail(LORS_ERR_IO,
                     "%s: was %s while it was read: run again when nothing writes to it",
                     lors_label(file->path, label), change);
}

lors_status lors_ckpt_check_same(const char *path, const struct stat *before,
                                 const struct stat *now)
{
    lors_ckpt_file file = {.path = (char *)path};
    note_identity(&file, before);
    return lors_ckpt_file_is(&file, now) ? LORS_OK : lors_ckpt_fail_changed(&file, now);
}

static lors_status look_again(const lors_ckpt_file *file, bool *changed)
{
    struct stat now;
    bool there = stat(file->path, &now) == 0;
    if (!there && errno != ENOENT && errno != ENOTDIR) {
        return lors_file_fail(file->path, "cannot be examined", errno);
    }
    if (there && lors_ckpt_file_is(file, &now)) {
        return LORS_OK;
    }
    *changed = true;
    return lors_ckpt_fail_changed(file, there ? &now : NULL);
}

lors_status lors_ckpt_check_path(const char *path, const struct stat *before, bool *changed)
{
    lors_ckpt_file file = {.path = (char *)path};
    note_identity(&file, before);
    return look_again(&file, changed);
}

lors_status lors_ckpt_check_unchanged(const lors_checkpoint *checkpoint, bool *changed)
{
    for (int32_t i = 0; i < checkpoint->n_files; i++) {
        LORS_TRY(look_again(&checkpoint->files[i], changed));
    }
    return LORS_OK;
}

/* ---- One file ------------------------------------------------------------------------------ */

typedef struct open_source {
    int fd;
    const char *path;
} open_source;

static lors_status read_source(void *source, uint64_t offset, void *out, size_t n_bytes)
{
    const open_source *from = source;
    return lors_file_read_at(from->fd, from->path, offset, out, n_bytes);
}

/* Read the header of the file at `path`, which becomes the file's. */
static lors_status load_file(lors_ckpt_file *file, char *path)
{
    struct stat info;
    char label[LORS_ESCAPED_MAX];
    open_source source = {-1, path};
    file->path = path;
    file->name = lors_copy_text(lors_path_base(path));
    if (!file->name) {
        return lors_fail_memory(strlen(path));
    }
    LORS_TRY(lors_ckpt_check_kind(path, "file of weights"));
    LORS_TRY(lors_file_open_read(path, &source.fd, &info));
    note_identity(file, &info);
    lors_status status =
        lors_st_parse(lors_label(path, label), read_source, &source, file->n_bytes, &file->header);
    lors_file_table()->close(source.fd);
    return status;
}

/* ---- All tensors --------------------------------------------------------------------------- */

static lors_status add_warning(lors_checkpoint *checkpoint, lors_text *text)
{
    if (text->failed || !lors_list_push(&checkpoint->warnings, text->bytes)) {
        size_t n_bytes = text->length;
        lors_text_clear(text);
        return lors_fail_memory(n_bytes);
    }
    return LORS_OK;
}

static lors_status warn_of_file(lors_checkpoint *checkpoint, const lors_ckpt_file *file)
{
    char label[LORS_ESCAPED_MAX];
    const char *what[2] = {
        file->header->loose ? "the header holds unknown fields, leading spaces or names with "
                              "control characters, which other readers may refuse"
                            : NULL,
        file->header->unaligned ? "tensors are not aligned to the size of their elements, which "
                                  "other readers may refuse"
                                : NULL};
    for (int i = 0; i < 2; i++) {
        lors_text text = {0};
        if (what[i]) {
            lors_text_printf(&text, "%s: %s", lors_label(file->path, label), what[i]);
            LORS_TRY(add_warning(checkpoint, &text));
        }
    }
    return LORS_OK;
}

static lors_status fail_duplicate(const lors_checkpoint *checkpoint, const lors_ckpt_tensor *a,
                                  const lors_ckpt_tensor *b)
{
    char label[LORS_ESCAPED_MAX], name[LORS_ESCAPED_MAX], other[LORS_ESCAPED_MAX];
    return lors_fail(LORS_ERR_INPUT, "%s: tensor '%s': it is in %s as well: one of them is stale",
                     lors_label(checkpoint->files[b->file].path, label),
                     lors_escape_text(b->name, name),
                     lors_escape_text(checkpoint->files[a->file].name, other));
}

static lors_status add_tensor(lors_checkpoint *checkpoint, int32_t file, const lors_st_tensor *from)
{
    int64_t existing = -1, index = checkpoint->n_tensors;
    char label[LORS_ESCAPED_MAX], name[LORS_ESCAPED_MAX];
    const lors_ckpt_file *of = &checkpoint->files[file];
    lors_ckpt_tensor *tensor = &checkpoint->tensors[index];
    if (memchr(from->name, '\0', from->name_bytes)) {
        return lors_fail(LORS_ERR_INPUT,
                         "%s: tensor '%s': its name holds a NUL, which no model "
                         "has a use for",
                         lors_label(of->path, label),
                         lors_escape(from->name, from->name_bytes, name));
    }
    *tensor = (lors_ckpt_tensor){from->name,
                                 from->name_bytes,
                                 from->dtype,
                                 from->n_dims,
                                 from->shape,
                                 from->n_elements,
                                 from->end - from->begin,
                                 file,
                                 of->header->data_start + from->begin};
    if (!lors_map_put(checkpoint->by_name, tensor->name, tensor->name_bytes, index, &existing)) {
        return lors_fail_memory(tensor->name_bytes);
    }
    if (existing >= 0) {
        return fail_duplicate(checkpoint, &checkpoint->tensors[existing], tensor);
    }
    checkpoint->n_tensors++;
    return LORS_OK;
}

static lors_status collect_tensors(lors_checkpoint *checkpoint)
{
    int64_t n_tensors = 0;
    char label[LORS_ESCAPED_MAX];
    for (int32_t i = 0; i < checkpoint->n_files; i++) {
        n_tensors += checkpoint->files[i].header->n_tensors;
    }
    if (n_tensors > LORS_ST_MAX_TENSORS) {
        return lors_fail(LORS_ERR_LIMIT, "%s: %" PRId64 " tensors (allowed: up to %d)",
                         lors_label(checkpoint->path, label), n_tensors, LORS_ST_MAX_TENSORS);
    }
    checkpoint->tensors = lors_new((size_t)n_tensors, sizeof *checkpoint->tensors);
    checkpoint->by_name = lors_map_create((size_t)n_tensors);
    if (!checkpoint->tensors || !checkpoint->by_name) {
        return lors_fail_memory((size_t)n_tensors * sizeof *checkpoint->tensors);
    }
    for (int32_t i = 0; i < checkpoint->n_files; i++) {
        const lors_st_header *header = checkpoint->files[i].header;
        for (int64_t j = 0; j < header->n_tensors; j++) {
            LORS_TRY(add_tensor(checkpoint, i, &header->tensors[j]));
        }
        LORS_TRY(warn_of_file(checkpoint, &checkpoint->files[i]));
    }
    return LORS_OK;
}

/* ---- Where the weights are ----------------------------------------------------------------- */

static lors_status entry_exists(const char *folder, const char *name, bool *exists)
{
    struct stat info;
    char *path = lors_path_join(folder, name);
    if (!path) {
        return lors_fail_memory(strlen(folder) + strlen(name) + 2);
    }
    lors_status status = LORS_OK;
    *exists = lstat(path, &info) == 0;
    if (!*exists && errno != ENOENT) { /* a folder that may not be looked into */
        status = lors_file_fail(path, "cannot be examined", errno);
    }
    lors_free(path);
    return status;
}

static lors_status make_files(lors_checkpoint *checkpoint, int32_t n_files)
{
    checkpoint->files = lors_new((size_t)n_files, sizeof *checkpoint->files);
    return checkpoint->files ? LORS_OK
                             : lors_fail_memory((size_t)n_files * sizeof *checkpoint->files);
}

/* Add FOLDER/NAME as the next file. */
static lors_status add_folder_file(lors_checkpoint *checkpoint, const char *name,
                                   bool follow_symlinks)
{
    LORS_TRY(lors_ckpt_check_link(checkpoint->path, name, follow_symlinks));
    char *path = lors_path_join(checkpoint->path, name);
    if (!path) {
        return lors_fail_memory(strlen(checkpoint->path) + strlen(name) + 2);
    }
    return load_file(&checkpoint->files[checkpoint->n_files++], path);
}

static lors_status check_shard_exists(const lors_checkpoint *checkpoint, const char *name)
{
    bool exists = false;
    char label[LORS_ESCAPED_MAX], shard[LORS_ESCAPED_MAX];
    LORS_TRY(entry_exists(checkpoint->path, name, &exists));
    if (exists) {
        return LORS_OK;
    }
    return lors_fail(LORS_ERR_INPUT,
                     "%s/%s: it names '%s', which is missing: the download is incomplete, get it "
                     "again",
                     lors_label(checkpoint->path, label), LORS_INDEX_NAME,
                     lors_escape_text(name, shard));
}

static lors_status warn_of_index(lors_checkpoint *checkpoint, const lors_shard_index *index)
{
    lors_text text = {0};
    char label[LORS_ESCAPED_MAX];
    double total = 0;
    bool total_differs = false;
    LORS_TRY(lors_shard_index_check(index, checkpoint, &total_differs, &total));
    lors_label(checkpoint->path, label);
    if (total_differs) {
        lors_text_printf(&text, "%s/%s: total_size is %.0f, which is not the size of the tensors",
                         label, LORS_INDEX_NAME, total);
        LORS_TRY(add_warning(checkpoint, &text));
    }
    return LORS_OK;
}

static lors_status warn_of_both(lors_checkpoint *checkpoint)
{
    lors_text text = {0};
    char label[LORS_ESCAPED_MAX];
    lors_text_printf(&text, "%s: both %s and %s are here: the first is used, as transformers does",
                     lors_label(checkpoint->path, label), single_name, LORS_INDEX_NAME);
    return add_warning(checkpoint, &text);
}

static lors_status open_shards(lors_checkpoint *checkpoint, bool follow_symlinks)
{
    lors_shard_index *index = NULL;
    lors_status status;
    char *path = lors_path_join(checkpoint->path, LORS_INDEX_NAME);
    if (!path) {
        return lors_fail_memory(strlen(checkpoint->path) + sizeof LORS_INDEX_NAME + 1);
    }
    LORS_TRY_CLEAN(lors_ckpt_check_link(checkpoint->path, LORS_INDEX_NAME, follow_symlinks));
    LORS_TRY_CLEAN(lors_shard_index_read(path, &index));
    int32_t n_files = lors_shard_index_count(index);
    for (int32_t i = 0; i < n_files; i++) {
        LORS_TRY_CLEAN(check_shard_exists(checkpoint, lors_shard_index_name(index, i)));
    }
    LORS_TRY_CLEAN(make_files(checkpoint, n_files));
    for (int32_t i = 0; i < n_files; i++) {
        LORS_TRY_CLEAN(
            add_folder_file(checkpoint, lors_shard_index_name(index, i), follow_symlinks));
    }
    LORS_TRY_CLEAN(collect_tensors(checkpoint));
    LORS_TRY_CLEAN(warn_of_index(checkpoint, index));
cleanup:
    lors_shard_index_free(index);
    lors_free(path);
    return status;
}

static const struct {
    const char *suffix, *advice; /* NULL: of PyTorch */
} other_kinds[] = {
    {".safetensors", "only files of other names: give one of them as a file, or rename it to "
                     "model.safetensors"},
    {".gguf", "only GGUF files: get the model in Hugging Face format"},
    {".h5", "only TensorFlow weights: convert them to safetensors first"},
    {".msgpack", "only Flax weights: convert them to safetensors first"},
    {".pth", NULL},
    {".pt", NULL},
    {".bin", NULL},
};
enum { N_OTHER_KINDS = sizeof other_kinds / sizeof *other_kinds, ADAPTER = N_OTHER_KINDS };

static lors_status look_for_kinds(const char *name, bool is_folder, void *user)
{
    int *best = user;
    size_t n = strlen(name);
    (void)is_folder;
    if (strcmp(name, "adapter_model.safetensors") == 0) {
        *best = ADAPTER;
    }
    for (int i = *best + 1; i < N_OTHER_KINDS; i++) {
        size_t n_suffix = strlen(other_kinds[i].suffix);
        if (n > n_suffix && strcmp(name + n - n_suffix, other_kinds[i].suffix) == 0) {
            *best = i;
        }
    }
    return LORS_OK;
}

/* What a folder without the expected names holds instead, for advice; the last kind wins. */
static const char *what_instead(const char *folder)
{
    int best = -1;
    (void)lors_file_list(folder, look_for_kinds, &best);
    if (best < 0) {
        return "no file of weights: is it the right folder?";
    }
    if (best == ADAPTER) {
        return "only a PEFT adapter: merge it into its base model first (merge_and_unload, then "
               "save_pretrained)";
    }
    return other_kinds[best].advice
               ? other_kinds[best].advice
               : "only PyTorch weights: convert to safetensors first (in Python: load it with "
                 "transformers' from_pretrained, then save_pretrained to a new folder)";
}

static lors_status open_folder(lors_checkpoint *checkpoint, bool follow_symlinks)
{
    char label[LORS_ESCAPED_MAX];
    bool has_index = false, has_single = false;
    LORS_TRY(entry_exists(checkpoint->path, LORS_INDEX_NAME, &has_index));
    LORS_TRY(entry_exists(checkpoint->path, single_name, &has_single));
    if (!has_single && has_index) {
        return open_shards(checkpoint, follow_symlinks);
    }
    if (!has_single) {
        return lors_fail(LORS_ERR_INPUT, "%s: neither %s nor %s is here, %s",
                         lors_label(checkpoint->path, label), single_name, LORS_INDEX_NAME,
                         what_instead(checkpoint->path));
    }
    LORS_TRY(make_files(checkpoint, 1));
    LORS_TRY(add_folder_file(checkpoint, single_name, follow_symlinks));
    LORS_TRY(collect_tensors(checkpoint));
    return has_index ? warn_of_both(checkpoint) : LORS_OK;
}

static lors_status open_single(lors_checkpoint *checkpoint)
{
    char label[LORS_ESCAPED_MAX];
    static const char suffix[] = ".index.json";
    size_t n_bytes = strlen(checkpoint->path), n_suffix = sizeof suffix - 1;
    if (n_bytes > n_suffix && strcmp(checkpoint->path + n_bytes - n_suffix, suffix) == 0) {
        return lors_fail(LORS_ERR_INPUT, "%s: an index of shards: give its folder instead",
                         lors_label(checkpoint->path, label));
    }
    LORS_TRY(make_files(checkpoint, 1));
    char *path = lors_copy_text(checkpoint->path);
    if (!path) {
        return lors_fail_memory(n_bytes + 1);
    }
    LORS_TRY(load_file(&checkpoint->files[checkpoint->n_files++], path));
    return collect_tensors(checkpoint);
}

/* ---- Public -------------------------------------------------------------------------------- */

/* A copy without slashes at the end. */
static char *copy_path(const char *path)
{
    char *copy = lors_copy_text(path);
    for (size_t n = copy ? strlen(copy) : 0; n > 1 && copy[n - 1] == '/'; n--) {
        copy[n - 1] = '\0';
    }
    return copy;
}

lors_status lors_checkpoint_open(const char *path, bool follow_symlinks, lors_checkpoint **out)
{
    struct stat info;
    char label[LORS_ESCAPED_MAX];
    lors_status status;
    *out = NULL;
    if (stat(path, &info) != 0) {
        return errno == ENOENT
                   ? lors_fail(LORS_ERR_IO, "%s: no such file or folder: check the path",
                               lors_label(path, label))
                   : lors_file_fail(path, "cannot be examined", errno);
    }
    lors_checkpoint *checkpoint = lors_new(1, sizeof *checkpoint);
    if (!checkpoint || !(checkpoint->path = copy_path(path))) {
        lors_checkpoint_close(checkpoint);
        return lors_fail_memory(sizeof *checkpoint);
    }
    checkpoint->is_folder = S_ISDIR(info.st_mode);
    status =
        checkpoint->is_folder ? open_folder(checkpoint, follow_symlinks) : open_single(checkpoint);
    if (status != LORS_OK) {
        lors_checkpoint_close(checkpoint);
        return status;
    }
    *out = checkpoint;
    return LORS_OK;
}

void lors_checkpoint_close(lors_checkpoint *checkpoint)
{
    if (!checkpoint) {
        return;
    }
    lors_handles_forget(checkpoint->files, checkpoint->n_files);
    for (int32_t i = 0; i < checkpoint->n_files; i++) {
        lors_st_free(checkpoint->files[i].header);
        lors_free(checkpoint->files[i].name);
        lors_free(checkpoint->files[i].path);
    }
    for (size_t i = 0; i < checkpoint->warnings.count; i++) {
        lors_free(checkpoint->warnings.items[i]);
    }
    lors_free(checkpoint->warnings.items);
    lors_map_free(checkpoint->by_name);
    lors_free(checkpoint->files);
    lors_free(checkpoint->tensors);
    lors_free(checkpoint->path);
    lors_free(checkpoint);
}

int64_t lors_checkpoint_count(const lors_checkpoint *checkpoint)
{
    return checkpoint->n_tensors;
}

int32_t lors_checkpoint_file_count(const lors_checkpoint *checkpoint)
{
    return checkpoint->n_files;
}

int32_t lors_checkpoint_warning_count(const lors_checkpoint *checkpoint)
{
    return (int32_t)checkpoint->warnings.count;
}

const char *lors_checkpoint_warning(const lors_checkpoint *checkpoint, int32_t index)
{
    bool known = index >= 0 && (size_t)index < checkpoint->warnings.count;
    return known ? checkpoint->warnings.items[index] : NULL;
}

int64_t lors_ckpt_find(const lors_checkpoint *checkpoint, const char *name)
{
    return lors_map_get(checkpoint->by_name, name, strlen(name));
}

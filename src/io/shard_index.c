/* shard_index.c - model.safetensors.index.json: which shard holds which tensor. */
#include "io/shard_index.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "io/json_file.h"
#include "io/label.h"

enum { SHARDS_MAX = 1000000 };

struct lors_shard_index {
    char *path;
    json_t *root;
    json_t *weight_map; /* within root */
    lors_list names;    /* const char *, within root */
};

/* Why a name cannot be that of a shard: it must lie directly in the model's folder. */
static const char *unfit_name(const char *name)
{
    static const char suffix[] = ".safetensors";
    size_t n = strlen(name);
    if (n == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return "names no file";
    }
    if (strpbrk(name, "/\\") || (n > 1 && name[1] == ':')) {
        return "is a path, only the plain name of a file in the same folder is allowed";
    }
    if (n > 255) {
        return "is longer than 255 bytes";
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return "holds a control character";
        }
    }
    if (n < sizeof suffix || strcmp(name + n - (sizeof suffix - 1), suffix) != 0) {
        return "is no safetensors file: convert the model to safetensors first";
    }
    return NULL;
}

static lors_status fail_index(const lors_shard_index *index, const char *tensor, const char *shard,
                              const char *why)
{
    char label[LORS_ESCAPED_MAX], name[LORS_ESCAPED_MAX], file[LORS_ESCAPED_MAX];
    return lors_fail(LORS_ERR_INPUT, "%s: tensor '%s': its file '%s' %s",
                     lors_label(index->path, label), lors_escape_text(tensor, name),
                     lors_escape_text(shard, file), why);
}

/* Note the name of a shard once. The pointers are those of the JSON values, which stay. */
static lors_status add_shard(lors_shard_index *index, lors_map *seen, const char *shard)
{
    int64_t existing = -1;
    char label[LORS_ESCAPED_MAX];
    if (!lors_map_put(seen, shard, strlen(shard), (int64_t)index->names.count, &existing)) {
        return lors_fail_memory(strlen(shard));
    }
    if (existing >= 0) {
        return LORS_OK;
    }
    if (index->names.count >= SHARDS_MAX) {
        return lors_fail(LORS_ERR_LIMIT, "%s: more than %d shards", lors_label(index->path, label),
                         SHARDS_MAX);
    }
    char *kept = (char *)(uintptr_t)shard; /* the list holds non-const pointers */
    return lors_list_push(&index->names, kept) ? LORS_OK : lors_fail_memory(sizeof kept);
}

static lors_status read_weight_map(lors_shard_index *index, lors_map *seen)
{
    const char *why;
    char label[LORS_ESCAPED_MAX], name[LORS_ESCAPED_MAX];
    for (void *at = json_object_iter(index->weight_map); at;
         at = json_object_iter_next(index->weight_map, at)) {
        const char *tensor = json_object_iter_key(at);
        const char *shard = json_string_value(json_object_iter_value(at));
        if (!shard) {
            return lors_fail(LORS_ERR_INPUT,
                             "%s: tensor '%s': the name of its file must be a "
                             "string",
                             lors_label(index->path, label), lors_escape_text(tensor, name));
        }
        why = unfit_name(shard);
        if (why) {
            return fail_index(index, tensor, shard, why);
        }
        LORS_TRY(add_shard(index, seen, shard));
    }
    if (index->names.count == 0) {
        return lors_fail(LORS_ERR_INPUT, "%s: weight_map is empty", lors_label(index->path, label));
    }
    return LORS_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

lors_status lors_shard_index_read(const char *path, lors_shard_index **out)
{
    char label[LORS_ESCAPED_MAX];
    lors_map *seen = NULL;
    lors_status status;
    *out = NULL;
    lors_shard_index *index = lors_new(1, sizeof *index);
    if (!index || !(index->path = lors_copy_text(path)) || !(seen = lors_map_create(64))) {
        status = lors_fail_memory(sizeof *index);
        goto cleanup;
    }
    LORS_TRY_CLEAN(lors_json_read(path, LORS_INDEX_MAX_BYTES, &index->root, NULL, NULL));
    index->weight_map = json_object_get(index->root, "weight_map");
    if (!json_is_object(index->weight_map)) {
        status = lors_fail(LORS_ERR_INPUT,
                           "%s: weight_map is %s (expected an object of tensor "
                           "names and file names)",
                           lors_label(path, label), index->weight_map ? "no object" : "missing");
        goto cleanup;
    }
    LORS_TRY_CLEAN(read_weight_map(index, seen));
    qsort(index->names.items, index->names.count, sizeof index->names.items[0], compare_names);
    *out = index;
    index = NULL;
cleanup:
    lors_map_free(seen);
    lors_shard_index_free(index);
    return status;
}

void lors_shard_index_free(lors_shard_index *index)
{
    if (index) {
        json_decref(index->root);
        lors_free(index->names.items);
        lors_free(index->path);
        lors_free(index);
    }
}

int32_t lors_shard_index_count(const lors_shard_index *index)
{
    return (int32_t)index->names.count;
}

const char *lors_shard_index_name(const lors_shard_index *index, int32_t i)
{
    return index->names.items[i];
}

/* Every tensor of the index is in the shard that it names. */
static lors_status check_listed(const lors_shard_index *index, const lors_checkpoint *checkpoint)
{
    for (void *at = json_object_iter(index->weight_map); at;
         at = json_object_iter_next(index->weight_map, at)) {
        const char *tensor = json_object_iter_key(at);
        const char *shard = json_string_value(json_object_iter_value(at));
        int64_t found = lors_ckpt_find(checkpoint, tensor);
        if (found < 0 ||
            strcmp(checkpoint->files[checkpoint->tensors[found].file].name, shard) != 0) {
            return fail_index(index, tensor, shard,
                              found < 0 ? "does not hold it, nor does another"
                                        : "does not hold it, another does");
        }
    }
    return LORS_OK;
}

/* Every tensor of a shard is in the index. */
static lors_status check_unlisted(const lors_shard_index *index, const lors_checkpoint *checkpoint)
{
    char label[LORS_ESCAPED_MAX], name[LORS_ESCAPED_MAX];
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        const lors_ckpt_tensor *tensor = &checkpoint->tensors[i];
        if (!json_object_get(index->weight_map, tensor->name)) {
            return lors_fail(LORS_ERR_INPUT,
                             "%s: tensor '%s': it is in the file but not in the "
                             "index (%s): index and files do not belong together, get the model "
                             "again",
                             lors_label(checkpoint->files[tensor->file].path, label),
                             lors_escape_text(tensor->name, name), LORS_INDEX_NAME);
        }
    }
    return LORS_OK;
}

lors_status lors_shard_index_check(const lors_shard_index *index, const lors_checkpoint *checkpoint,
                                   bool *total_differs, double *total)
{
    uint64_t n_bytes = 0;
    const json_t *metadata = json_object_get(index->root, "metadata");
    const json_t *value = json_object_get(metadata, "total_size");
    LORS_TRY(check_listed(index, checkpoint));
    LORS_TRY(check_unlisted(index, checkpoint));
    for (int64_t i = 0; i < checkpoint->n_tensors; i++) {
        n_bytes += checkpoint->tensors[i].n_bytes;
    }
    *total = json_number_value(value); /* some writers give a float */
    *total_differs = value && *total != (double)n_bytes;
    return LORS_OK;
}

/* model_folder.c - what lies beside the weights of a model: configuration, tokenizer, licence. */
#include "io/model_folder.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "io/checkpoint.h"

/* ---- Which files ---------------------------------------------------------------------------- */

typedef enum side_kind {
    SIDE_KEPT,
    SIDE_SKIPPED, /* left out, and said so */
    SIDE_SILENT   /* weights and README.md: the merge makes its own */
} side_kind;

/* The first pattern that fits decides. */
static const struct {
    const char *pattern;
    side_kind kind;
} side_rules[] = {
    {".*", SIDE_SKIPPED},
    {"README.md", SIDE_SILENT},
    /* state of a training that the merged model has not had */
    {"training_args.*", SIDE_SKIPPED},
    {"trainer_state.json", SIDE_SKIPPED},
    {"optimizer*", SIDE_SKIPPED},
    {"scheduler*.pt", SIDE_SKIPPED},
    {"scheduler*.bin", SIDE_SKIPPED},
    {"scaler*.pt", SIDE_SKIPPED},
    {"rng_state*", SIDE_SKIPPED},
    {"random_states_*", SIDE_SKIPPED},
    {"events.out.tfevents*", SIDE_SKIPPED},
    {"*_results.json", SIDE_SKIPPED},
    {"zero_to_fp32.py", SIDE_SKIPPED},
    {"latest", SIDE_SKIPPED},
    /* a loader that finds it would put the adapter on top of the merged model */
    {"adapter_config.json", SIDE_SKIPPED},
    /* what a merge writes itself */
    {"lors.*", SIDE_SKIPPED},
    {"lors-*", SIDE_SKIPPED},
    {"lors_*", SIDE_SKIPPED},
    {"mergekit_config.y*ml", SIDE_SKIPPED},
    /* weights in any format, and their indexes */
    {"*.safetensors", SIDE_SILENT},
    {"*.index.json", SIDE_SILENT},
    {"*.index.*.json", SIDE_SILENT},
    {"*.bin", SIDE_SILENT},
    {"*.pt", SIDE_SILENT},
    {"*.pth", SIDE_SILENT},
    {"*.ckpt", SIDE_SILENT},
    {"*.ckpt.*", SIDE_SILENT},
    {"*.h5", SIDE_SILENT},
    {"*.msgpack", SIDE_SILENT},
    {"*.onnx", SIDE_SILENT},
    {"*.onnx_data*", SIDE_SILENT},
    {"*.gguf", SIDE_SILENT},
    {"*.ggml", SIDE_SILENT},
    {"*.tflite", SIDE_SILENT},
    {"*.mlmodel", SIDE_SILENT},
    {"*.nemo", SIDE_SILENT},
    {"*.npz", SIDE_SILENT},
    {"*.ot", SIDE_SILENT},
    {"*.pkl", SIDE_SILENT},
    {"*.pickle", SIDE_SILENT},
};

static side_kind kind_of(const char *name)
{
    for (size_t i = 0; i < sizeof side_rules / sizeof side_rules[0]; i++) {
        if (fnmatch(side_rules[i].pattern, name, 0) == 0) {
            return side_rules[i].kind;
        }
    }
    return lors_utf8_valid(name, strlen(name)) ? SIDE_KEPT : SIDE_SKIPPED;
}

bool lors_side_file_is_tokenizer(const char *name)
{
    static const char *const patterns[] = {"tokenizer*",
                                           "special_tokens_map*.json",
                                           "added_tokens*.json",
                                           "vocab.*",
                                           "vocab-*",
                                           "merges.txt",
                                           "merges-*",
                                           "normalizer.json",
                                           "chat_template*",
                                           "*.tiktoken",
                                           "spiece.model",
                                           "*.spm",
                                           "sentencepiece*",
                                           "source.spm",
                                           "bpe.codes",
                                           "dict.txt",
                                           NULL};
    int i = 0;
    while (patterns[i] && fnmatch(patterns[i], name, 0) != 0) {
        i++;
    }
    return patterns[i] != NULL;
}

/* ---- The list ------------------------------------------------------------------------------- */

typedef struct side_list {
    const char *folder;
    bool follow_symlinks;
    lors_side_file *files;
    int32_t n_files, capacity;
    lors_list *skipped;
} side_list;

/* `suffix` is "/" for a folder. */
static lors_status skip_entry(side_list *list, const char *name, const char *suffix)
{
    lors_text text = {0};
    lors_text_printf(&text, "%s%s", name, suffix);
    if (text.failed || !lors_list_push(list->skipped, text.bytes)) {
        lors_text_clear(&text);
        return lors_fail_memory(strlen(name) + 2);
    }
    return LORS_OK;
}

static lors_status keep_entry(side_list *list, const char *name, const struct stat *info)
{
    enum { SIDE_FILES_MAX = 100000 };
    if (list->n_files >= SIDE_FILES_MAX) {
        return lors_fail(LORS_ERR_LIMIT, "more than %d files beside the weights", SIDE_FILES_MAX);
    }
    if (list->n_files == list->capacity) {
        int32_t capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        size_t n_new = (size_t)capacity * sizeof *list->files;
        lors_side_file *files = lors_resize(list->files, n_new);
        if (!files) {
            return lors_fail_memory(n_new);
        }
        list->files = files;
        list->capacity = capacity;
    }
    char *copy = lors_copy_text(name);
    if (!copy) {
        return lors_fail_memory(strlen(name) + 1);
    }
    list->files[list->n_files++] = (lors_side_file){copy, NULL, *info};
    return LORS_OK;
}

static lors_status add_entry(const char *name, bool is_folder, void *user)
{
    side_list *list = user;
    const char *folder = list->folder;
    struct stat info;
    lors_status status = LORS_OK;
    side_kind kind = kind_of(name);
    (void)is_folder; /* of a link it is known only below */
    if (kind == SIDE_SILENT) {
        return LORS_OK;
    }
    char *path = lors_path_join(folder, name);
    if (!path) {
        return lors_fail_memory(strlen(folder) + strlen(name) + 2);
    }
    if (kind == SIDE_KEPT) {
        LORS_TRY_CLEAN(lors_ckpt_check_link(folder, name, list->follow_symlinks));
    }
    bool known = stat(path, &info) == 0;
    if (kind == SIDE_KEPT && !known) {
        status = lors_file_fail(path, "cannot be examined", errno);
    } else if (kind == SIDE_KEPT && S_ISREG(info.st_mode)) {
        status = keep_entry(list, name, &info);
    } else {
        status = skip_entry(list, name, known && S_ISDIR(info.st_mode) ? "/" : "");
    }
cleanup:
    lors_free(path);
    return status;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const lors_side_file *)a)->name, ((const lors_side_file *)b)->name);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

lors_status lors_side_files_list(const char *folder, bool follow_symlinks, lors_side_file **out,
                                 int32_t *n_files, lors_list *skipped)
{
    side_list list = {.folder = folder, .follow_symlinks = follow_symlinks, .skipped = skipped};
    *out = NULL;
    *n_files = 0;
    lors_status status = lors_file_list(folder, add_entry, &list);
    if (status != LORS_OK) {
        lors_side_files_free(list.files, list.n_files);
        return status;
    }
    if (list.n_files > 0) {
        qsort(list.files, (size_t)list.n_files, sizeof *list.files, compare_files);
    }
    if (skipped->count > 0) {
        qsort(skipped->items, skipped->count, sizeof skipped->items[0], compare_texts);
    }
    for (int32_t i = 0; i < list.n_files; i++) {
        list.files[i].folder = folder;
    }
    *out = list.files;
    *n_files = list.n_files;
    return LORS_OK;
}

void lors_side_files_free(lors_side_file *files, int32_t n_files)
{
    for (int32_t i = 0; files && i < n_files; i++) {
        lors_free(files[i].name);
    }
    lors_free(files);
}

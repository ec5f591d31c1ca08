/* model_folder.h - what lies beside the weights of a model: configuration, tokenizer, licence. */
#ifndef LORS_IO_MODEL_FOLDER_H
#define LORS_IO_MODEL_FOLDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <lors/status.h>

#include "base/memory.h"

typedef struct lors_side_file {
    char *name;         /* base name */
    const char *folder; /* where it lies: the caller's text */
    struct stat info;   /* as it was listed, behind a link */
} lors_side_file;

/* The files of a model folder that belong beside a merged model, sorted by name: everything at the
 * top of the folder but weights in any format and their indexes, training state, hidden files,
 * README.md, what a merge writes itself, and names that are not UTF-8, which the report in JSON
 * could not hold. `skipped` gets the names of files left out that are
 * neither weights nor README (char *, lors_free each). A single-file model has none. */
lors_status lors_side_files_list(const char *folder, bool follow_symlinks, lors_side_file **out,
                                 int32_t *n_files, lors_list *skipped);
/* Is it part of a tokenizer: vocabulary, merges, special tokens, templates? */
bool lors_side_file_is_tokenizer(const char *name);
void lors_side_files_free(lors_side_file *files, int32_t n_files);

/* What config.json says, as far as a merge cares. Absent: NULL or -1. */
typedef struct lors_model_config {
    char *architecture; /* architectures[0] */
    char *model_type;
    char *dtype; /* dtype, else torch_dtype */
    int64_t vocab_size, d_model, encoder_layers, decoder_layers, num_mel_bins;
} lors_model_config;

/* Read FOLDER/config.json; a missing file gives an empty config. Links out of the folder are
 * followed as those of weights are. Errors: ERR_INPUT with line and column, ERR_IO. */
lors_status lors_model_config_read(const char *folder, bool follow_symlinks,
                                   lors_model_config *out);
void lors_model_config_clear(lors_model_config *config);

/* The text of FOLDER/config.json with both `dtype` and `torch_dtype` set to e.g. "float16", keys in
 * their order. Free with lors_free. */
lors_status lors_model_config_with_dtype(const char *folder, const char *dtype, char **out,
                                         size_t *n_bytes);

/* Keys that hold the number of layers of a stack, which changes from `before` to `after`. */
typedef struct lors_config_layers {
    const char *const *keys; /* NULL-terminated */
    int32_t before, after;
} lors_config_layers;

/* *text (NULL: FOLDER/config.json) with these keys, where they say `before`, set to `after`;
 * without a file nothing happens. `odd` gets sentences (char *, lors_free each) about what is not
 * done: no such key, or a list with an entry for each layer. */
lors_status lors_model_config_with_layers(const char *folder, const lors_config_layers *edits,
                                          int32_t n_edits, char **text, size_t *n_bytes,
                                          lors_list *odd);

#endif

/* target_side_json.c - the JSON beside weights: config.json, and lors.json as verify reads it.
 *
 * The input is the text. As config.json it is read, and given another dtype: the result must be the
 * same object but for two keys. As lors.json it is sealed with its hash first, so that what is
 * behind the seal is reached, and then verified over a folder with one known file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/run.h>

#include "base/hash.h"
#include "base/memory.h"
#include "fuzz.h"
#include "fuzz_json.h"
#include "io/model_folder.h"
#include "run/run_internal.h"

static const char weights[] = "what is hashed\n";

/* --- config.json ---------------------------------------------------------------------------- */

/* The same but for these two keys? */
static bool same_but_dtype(const json_t *before, const char *text, size_t n_bytes)
{
    json_t *after = fuzz_json(text, n_bytes);
    json_t *expected = json_deep_copy(before);
    json_object_set_new(expected, "dtype", json_string("float16"));
    json_object_set_new(expected, "torch_dtype", json_string("float16"));
    bool same = after && json_equal(after, expected);
    json_decref(after);
    json_decref(expected);
    return same;
}

static void try_config(const uint8_t *data, size_t size)
{
    lors_model_config config;
    char *text = NULL;
    size_t n_text = 0;
    fuzz_write("model/config.json", data, size);
    json_t *root = fuzz_json(data, size);
    fuzz_allocations_work();
    lors_status status = lors_model_config_read("model", false, &config);
    fuzz_check_status(status, FUZZ_STATUS(INPUT));
    FUZZ_NEED(status != LORS_OK || json_is_object(root), "what is no object was read");
    FUZZ_NEED(config.vocab_size >= -1 && config.d_model >= -1, "a negative count");
    lors_model_config_clear(&config);

    lors_status edited = lors_model_config_with_dtype("model", "float16", &text, &n_text);
    fuzz_check_status(edited, FUZZ_STATUS(INPUT));
    FUZZ_NEED((edited == LORS_OK) == (text != NULL), "a text");
    FUZZ_NEED(edited != LORS_OK || same_but_dtype(root, text, n_text), "%s", text);
    /* Every object can be edited, unless it writes the key with escapes. */
    FUZZ_NEED(edited == LORS_OK || !json_is_object(root) || memchr(data, '\\', size), "refused");
    lors_free(text);
    json_decref(root);

    fuzz_fail_one_allocation(fuzz_hash(data, size));
    edited = lors_model_config_with_dtype("model", "float16", &text, &n_text);
    fuzz_allocations_work();
    fuzz_check_status(edited, FUZZ_STATUS(INPUT) | FUZZ_STATUS(LIMIT));
    lors_free(text);
}

/* --- lors.json ------------------------------------------------------------------------------ */

/* Does it list exactly the one file, as it is? */
static bool lists_weights(const char *text, size_t n_bytes)
{
    char hash[LORS_SHA256_TEXT];
    json_t *root = fuzz_json(text, n_bytes);
    const json_t *files = json_object_get(root, "files");
    bool right = json_array_size(files) > 0;
    FUZZ_NEED(lors_sha256_of(weights, sizeof weights - 1, hash) == LORS_OK, "no hash");
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        const char *name = json_string_value(json_object_get(file, "name"));
        const char *sha256 = json_string_value(json_object_get(file, "sha256"));
        const json_t *bytes = json_object_get(file, "bytes");
        right = right && name && strcmp(name, "weights") == 0 && sha256 &&
                strcmp(sha256, hash) == 0 && json_is_integer(bytes) &&
                json_integer_value(bytes) == sizeof weights - 1;
    }
    json_decref(root);
    return right;
}

static void try_report(const uint8_t *data, size_t size)
{
    char hash[LORS_SHA256_TEXT];
    char *text = calloc(1, size + sizeof LORS_SEAL_FORMAT + sizeof hash);
    FUZZ_NEED(text && lors_sha256_of(data, size, hash) == LORS_OK, "no room");
    memcpy(text, data, size);
    int n_seal =
        snprintf(text + size, sizeof LORS_SEAL_FORMAT + sizeof hash, LORS_SEAL_FORMAT, hash);
    fuzz_write("merged/lors.json", text, size + (size_t)n_seal);
    int64_t n_files = 0;
    uint64_t n_bytes = 0;
    lors_status status = lors_verify("merged", &n_files, &n_bytes);
    fuzz_check_status(status, FUZZ_STATUS(INPUT) | FUZZ_STATUS(IO));
    bool right = lists_weights(text, size + (size_t)n_seal);
    FUZZ_NEED(right == (status == LORS_OK), "the list is %s", right ? "right" : "wrong");
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool prepared;
    if (!prepared) {
        fuzz_files_init();
        fuzz_mkdir("model");
        fuzz_mkdir("merged");
        fuzz_write("merged/weights", weights, sizeof weights - 1);
        prepared = true;
    }
    try_config(data, size);
    try_report(data, size);
    return 0;
}

/* model_config.c - config.json: what a merge must know of it, and its copy with another dtype. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/text.h"
#include "io/checkpoint.h"
#include "io/json_file.h"
#include "io/label.h"
#include "io/model_folder.h"

enum { CONFIG_MAX_BYTES = 10000000 };

/* ---- Reading -------------------------------------------------------------------------------- */

static lors_status fail_key(const char *path, const char *key, const char *wanted)
{
    char label[LORS_ESCAPED_MAX];
    return lors_fail(LORS_ERR_INPUT, "%s: '%s' must be %s", lors_label(path, label), key, wanted);
}

static lors_status take_text(const char *path, const char *key, const json_t *value, char **out)
{
    if (!value || json_is_null(value)) {
        return LORS_OK;
    }
    if (!json_is_string(value)) {
        return fail_key(path, key, "a string");
    }
    *out = lors_copy_text(json_string_value(value));
    return *out ? LORS_OK : lors_fail_memory(json_string_length(value) + 1);
}

static lors_status take_count(const char *path, const json_t *root, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(root, key);
    if (!value || json_is_null(value)) {
        return LORS_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return fail_key(path, key, "a whole number that is not negative");
    }
    *out = json_integer_value(value);
    return LORS_OK;
}

static lors_status take_all(const char *path, const json_t *root, lors_model_config *out)
{
    const json_t *architectures = json_object_get(root, "architectures");
    const json_t *dtype = json_object_get(root, "dtype");
    if (architectures && !json_is_null(architectures) && !json_is_array(architectures)) {
        return fail_key(path, "architectures", "an array of strings");
    }
    LORS_TRY(
        take_text(path, "architectures", json_array_get(architectures, 0), &out->architecture));
    LORS_TRY(take_text(path, "model_type", json_object_get(root, "model_type"), &out->model_type));
    bool has_dtype = dtype && !json_is_null(dtype);
    LORS_TRY(take_text(path, has_dtype ? "dtype" : "torch_dtype",
                       has_dtype ? dtype : json_object_get(root, "torch_dtype"), &out->dtype));
    LORS_TRY(take_count(path, root, "vocab_size", &out->vocab_size));
    LORS_TRY(take_count(path, root, "d_model", &out->d_model));
    LORS_TRY(take_count(path, root, "encoder_layers", &out->encoder_layers));
    LORS_TRY(take_count(path, root, "decoder_layers", &out->decoder_layers));
    return take_count(path, root, "num_mel_bins", &out->num_mel_bins);
}

lors_status lors_model_config_read(const char *folder, bool follow_symlinks, lors_model_config *out)
{
    struct stat info;
    json_t *root = NULL;
    lors_status status = LORS_OK;
    *out = (lors_model_config){NULL, NULL, NULL, -1, -1, -1, -1, -1};
    char *path = lors_path_join(folder, "config.json");
    if (!path) {
        return lors_fail_memory(strlen(folder) + sizeof "/config.json");
    }
    if (lstat(path, &info) != 0 && errno == ENOENT) {
        goto cleanup;
    }
    LORS_TRY_CLEAN(lors_ckpt_check_link(folder, "config.json", follow_symlinks));
    LORS_TRY_CLEAN(lors_json_read(path, CONFIG_MAX_BYTES, &root, NULL, NULL));
    LORS_TRY_CLEAN(take_all(path, root, out));
cleanup:
    if (status != LORS_OK) {
        lors_model_config_clear(out);
    }
    json_decref(root);
    lors_free(path);
    return status;
}

void lors_model_config_clear(lors_model_config *config)
{
    lors_free(config->architecture);
    lors_free(config->model_type);
    lors_free(config->dtype);
    *config = (lors_model_config){NULL, NULL, NULL, -1, -1, -1, -1, -1};
}

/* ---- Another dtype -------------------------------------------------------------------------- */

/* The file is edited as text, not written anew from its values: so that all else stays as it is,
 * to the last digit of a number. The text is known to be valid JSON, an object, no key twice. */
typedef struct key_span {
    size_t gap;   /* where the white space before the key begins */
    size_t key;   /* at its quote */
    size_t value; /* the value is [value, end) */
    size_t end;
} key_span;

static size_t skip_space(const char *text, size_t at)
{
    return at + strspn(text + at, " \t\r\n");
}

/* `at` is at the opening quote. */
static size_t skip_string(const char *text, size_t at)
{
    for (at++; text[at] != '"'; at++) {
        at += text[at] == '\\';
    }
    return at + 1;
}

static size_t skip_value(const char *text, size_t at)
{
    size_t depth = 0;
    do {
        if (text[at] == '"') {
            at = skip_string(text, at);
        } else if (text[at] == '{' || text[at] == '[') {
            depth++;
            at++;
        } else if (text[at] == '}' || text[at] == ']') {
            depth--;
            at++;
        } else if (depth > 0) {
            at++;
        } else {
            at += strcspn(text + at, ",]} \t\r\n"); /* a number or a word */
        }
    } while (depth > 0);
    return at;
}

/* Where the next member at or behind `at` is; false after the last. */
static bool next_member(const char *text, size_t at, key_span *span)
{
    span->gap = at + (text[at] == ',' || text[at] == '{');
    span->key = skip_space(text, span->gap);
    if (text[span->key] != '"') {
        return false;
    }
    size_t colon = skip_space(text, skip_string(text, span->key));
    span->value = skip_space(text, colon + 1);
    span->end = skip_value(text, span->value);
    return true;
}

static bool is_key(const char *text, const key_span *span, const char *key)
{
    size_t n = strlen(key);
    return strncmp(text + span->key + 1, key, n) == 0 && text[span->key + 1 + n] == '"';
}

/* Copy the text, giving both keys the value. A missing one goes in front of the other, or of the
 * first member, after the same white space. */
static void edit_config(const char *text, size_t n_bytes, const char *const keys[2],
                        const bool present[2], const char *dtype, lors_text *out)
{
    size_t copied = 0, at = skip_space(text, 0);
    bool inserted = false;
    key_span span;
    for (; next_member(text, at, &span); at = skip_space(text, span.end)) {
        bool hit = is_key(text, &span, keys[0]) || is_key(text, &span, keys[1]);
        bool anchor = hit || (!present[0] && !present[1]);
        if (anchor && !inserted) {
            lors_text_append(out, text + copied, span.gap - copied);
            copied = span.gap;
            for (int i = 0; i < 2; i++) {
                if (!present[i]) {
                    lors_text_append(out, text + span.gap, span.key - span.gap);
                    lors_text_printf(out, "\"%s\": \"%s\",", keys[i], dtype);
                }
            }
            inserted = true;
        }
        if (hit) {
            lors_text_append(out, text + copied, span.value - copied);
            lors_text_printf(out, "\"%s\"", dtype);
            copied = span.end;
        }
    }
    if (!inserted) { /* an object without members */
        size_t inside = skip_space(text, 0) + 1;
        lors_text_append(out, text, inside);
        lors_text_printf(out, "\"%s\": \"%s\", \"%s\": \"%s\"", keys[0], dtype, keys[1], dtype);
        copied = inside;
    }
    lors_text_append(out, text + copied, n_bytes - copied);
}

/* Did the edit do what it should? A key written with escapes ("\u0064type") would escape it. */
static lors_status check_edit(const char *path, const lors_text *text, const char *const keys[2],
                              const char *dtype)
{
    char label[LORS_ESCAPED_MAX];
    json_t *root = NULL;
    bool right = true;
    lors_status status = lors_json_parse(path, text->bytes, text->length, &root);
    for (int i = 0; i < 2; i++) {
        const char *value = json_string_value(json_object_get(root, keys[i]));
        right = right && value && strcmp(value, dtype) == 0;
    }
    json_decref(root);
    return status == LORS_ERR_LIMIT || right
               ? status
               : lors_fail(LORS_ERR_INPUT, "%s: dtype cannot be set: write its key without escapes",
                           lors_label(path, label));
}

lors_status lors_model_config_with_dtype(const char *folder, const char *dtype, char **out,
                                         size_t *n_bytes)
{
    static const char *const keys[2] = {"dtype", "torch_dtype"};
    char *text = NULL;
    size_t n_text = 0;
    json_t *root = NULL;
    lors_text edited = {0};
    lors_status status;
    *out = NULL;
    char *path = lors_path_join(folder, "config.json");
    if (!path) {
        return lors_fail_memory(strlen(folder) + sizeof "/config.json");
    }
    LORS_TRY_CLEAN(lors_json_read(path, CONFIG_MAX_BYTES, &root, &text, &n_text));
    const bool present[2] = {json_object_get(root, keys[0]), json_object_get(root, keys[1])};
    edit_config(text, n_text, keys, present, dtype, &edited);
    status =
        edited.failed ? lors_fail_memory(edited.length) : check_edit(path, &edited, keys, dtype);
    if (status == LORS_OK) {
        *out = edited.bytes;
        *n_bytes = edited.length;
        edited = (lors_text){0};
    }
cleanup:
    lors_text_clear(&edited);
    json_decref(root);
    lors_free(text);
    lors_free(path);
    return status;
}

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

/* ---- Other numbers of layers ---------------------------------------------------------------- */

static lors_status add_odd(lors_list *odd, lors_text *sentence)
{
    if (sentence->failed || !lors_list_push(odd, sentence->bytes)) {
        lors_text_clear(sentence);
        return lors_fail_memory(256);
    }
    return LORS_OK;
}

/* Lists of one entry for each layer, which only their meaning could adapt. */
static lors_status find_lists(const json_t *root, const lors_config_layers *edit, lors_list *odd)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        if (json_is_array(value) && edit->before > 1 &&
            json_array_size(value) == (size_t)edit->before) {
            char shown[LORS_ESCAPED_MAX];
            lors_text text = {0};
            lors_text_printf(&text,
                             "'%s' has as many entries as there were layers and is kept: "
                             "adapt it if they mean layers",
                             lors_escape_text(key, shown));
            LORS_TRY(add_odd(odd, &text));
        }
    }
    return LORS_OK;
}

/* Does this member hold the number of layers that changes? */
static bool holds_layers(const json_t *root, const char *text, const key_span *span,
                         const lors_config_layers *edit)
{
    for (const char *const *key = edit->keys; *key; key++) {
        const json_t *value = json_object_get(root, *key);
        if (is_key(text, span, *key) && json_is_integer(value) &&
            json_integer_value(value) == edit->before) {
            return true;
        }
    }
    return false;
}

static int32_t edit_layers(const json_t *root, const char *text, size_t n_bytes,
                           const lors_config_layers *edit, lors_text *out)
{
    size_t copied = 0, at = skip_space(text, 0);
    int32_t n_hits = 0;
    key_span span;
    for (; next_member(text, at, &span); at = skip_space(text, span.end)) {
        if (holds_layers(root, text, &span, edit)) {
            lors_text_append(out, text + copied, span.value - copied);
            lors_text_printf(out, "%d", edit->after);
            copied = span.end;
            n_hits++;
        }
    }
    lors_text_append(out, text + copied, n_bytes - copied);
    return n_hits;
}

/* One edit of *text, which it replaces. */
static lors_status apply_layers(const lors_config_layers *edit, char **text, size_t *n_bytes,
                                lors_list *odd)
{
    lors_text edited = {0};
    json_t *root = json_loadb(*text, *n_bytes, JSON_REJECT_DUPLICATES, NULL);
    if (!root) {
        return lors_fail_memory(*n_bytes);
    }
    int32_t n_hits = edit_layers(root, *text, *n_bytes, edit, &edited);
    lors_status status = find_lists(root, edit, odd);
    json_decref(root);
    if (status == LORS_OK && n_hits == 0) {
        lors_text text_of = {0};
        lors_text_printf(&text_of,
                         "no key that is known says %d layers: set the one that counts "
                         "them to %d",
                         edit->before, edit->after);
        status = add_odd(odd, &text_of);
    }
    if (status != LORS_OK || edited.failed) {
        lors_text_clear(&edited);
        return status != LORS_OK ? status : lors_fail_memory(*n_bytes);
    }
    lors_free(*text);
    *text = edited.bytes;
    *n_bytes = edited.length;
    return LORS_OK;
}

lors_status lors_model_config_with_layers(const char *folder, const lors_config_layers *edits,
                                          int32_t n_edits, char **text, size_t *n_bytes,
                                          lors_list *odd)
{
    lors_status status = LORS_OK;
    for (int32_t i = 0; i < n_edits && status == LORS_OK; i++) {
        struct stat info;
        if (edits[i].before == edits[i].after) {
            continue;
        }
        char *path = *text ? NULL : lors_path_join(folder, "config.json");
        if (!*text && !path) {
            return lors_fail_memory(strlen(folder) + sizeof "/config.json");
        }
        if (path && lstat(path, &info) != 0) {
            lors_free(path);
            return LORS_OK;
        }
        if (path) {
            json_t *root = NULL;
            status = lors_json_read(path, CONFIG_MAX_BYTES, &root, text, n_bytes);
            json_decref(root);
            lors_free(path);
        }
        if (status == LORS_OK) {
            status = apply_layers(&edits[i], text, n_bytes, odd);
        }
    }
    return status;
}

/* json_file.c - a JSON file read strictly, with line and column in every error. */
#include "io/json_file.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/checkpoint.h"
#include "io/json_memory.h"
#include "io/label.h"

/* What jansson says, with the piece of the file that it quotes made printable, and advice for the
 * mistakes that are common. */
static lors_status fail_json(const char *path, const json_error_t *error)
{
    static const char near[] = " near '";
    char label[LORS_ESCAPED_MAX], shown[LORS_ESCAPED_MAX] = "";
    const char *quoted = strstr(error->text, near), *advice = "";
    size_t n_message = quoted ? (size_t)(quoted - error->text) : strlen(error->text);
    if (quoted) {
        quoted += sizeof near - 1;
        size_t n_quoted = strlen(quoted);
        n_quoted -= n_quoted > 0 && quoted[n_quoted - 1] == '\'';
        lors_escape(quoted, n_quoted, shown);
    }
    if (strstr(shown, "NaN") || strstr(shown, "Infinity")) {
        advice =
            ": NaN and Infinity are no JSON, though Python writes them: replace them by null or "
            "a number";
    } else if (strstr(error->text, "duplicate")) {
        advice = ": readers would disagree on which value counts, remove one";
    } else if (strstr(error->text, "decode")) {
        advice = ": the text is not valid UTF-8";
    }
    return lors_fail(LORS_ERR_INPUT, "%s:%d:%d: %.*s%s%s%s%s", lors_label(path, label), error->line,
                     error->column, (int)n_message, error->text, quoted ? near : "", shown,
                     quoted ? "'" : "", advice);
}

lors_status lors_json_parse(const char *path, const char *text, size_t n_bytes, json_t **out)
{
    json_error_t error = {0};
    char label[LORS_ESCAPED_MAX];
    const char *nul = memchr(text, '\0', n_bytes); /* jansson overlooks one behind a number */
    *out = NULL;
    if (nul) {
        return lors_fail(LORS_ERR_INPUT, "%s: byte %zu: a NUL, which no JSON holds: get it again",
                         lors_label(path, label), (size_t)(nul - text));
    }
    lors_status status = lors_json_load(text, n_bytes, out, &error);
    if (status == LORS_ERR_LIMIT) {
        return lors_fail(status, "%s: memory is short for this JSON file", lors_label(path, label));
    }
    return status == LORS_OK ? status : fail_json(path, &error);
}

lors_status lors_json_read(const char *path, size_t max_bytes, json_t **out, char **text,
                           size_t *n_bytes)
{
    char *bytes = NULL, label[LORS_ESCAPED_MAX];
    size_t n = 0;
    lors_status status;
    *out = NULL;
    LORS_TRY_CLEAN(lors_ckpt_check_kind(path, "JSON file"));
    LORS_TRY_CLEAN(lors_file_read_all(path, max_bytes, &bytes, &n));
    LORS_TRY_CLEAN(lors_json_parse(path, bytes, n, out));
    if (json_typeof(*out) != JSON_OBJECT) {
        json_decref(*out);
        *out = NULL;
        status =
            lors_fail(LORS_ERR_INPUT, "%s:1:1: expected a JSON object", lors_label(path, label));
    } else if (text) {
        *text = bytes;
        *n_bytes = n;
        bytes = NULL;
    }
cleanup:
    lors_free(bytes);
    return status;
}

/* json_text.c - JSON values to text. */
#include "io/json_text.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/json_memory.h"

static int append(const char *bytes, size_t n_bytes, void *text)
{
    lors_text_append(text, bytes, n_bytes);
    return ((lors_text *)text)->failed ? -1 : 0;
}

lors_status lors_json_text(json_t *root, int indent, char **out)
{
    lors_text text = {0};
    size_t flags = JSON_INDENT((size_t)indent) | LORS_JSON_NUMBERS;
    text.failed = !root || json_dump_callback(root, append, &text, flags) != 0;
    json_decref(root);
    lors_text_printf(&text, "\n");
    if (text.failed || lors_json_end() != LORS_OK) {
        lors_text_clear(&text);
        *out = NULL;
        return lors_fail_memory(4096);
    }
    *out = text.bytes;
    return LORS_OK;
}

json_t *lors_json_string(const char *text)
{
    char escaped[LORS_ESCAPED_MAX];
    json_t *out = json_string(text);
    return out ? out : json_string(lors_escape_text(text, escaped));
}

/* json_text.h - JSON values to text, through the library's own memory. */
#ifndef LORS_IO_JSON_TEXT_H
#define LORS_IO_JSON_TEXT_H

#include <jansson.h>

#include <lors/status.h>

/* How numbers are written, as flags of jansson. */
#define LORS_JSON_NUMBERS JSON_REAL_PRECISION(9)

/* `root` as indented text that ends with a newline; takes the reference away, also on failure. Free
 * with lors_free. The caller called lors_json_begin before it built `root`: where memory was short
 * since then this is ERR_LIMIT. */
lors_status lors_json_text(json_t *root, int indent, char **out);

/* A JSON string; bytes that are not UTF-8 (in a path, say) are escaped. */
json_t *lors_json_string(const char *text);

#endif

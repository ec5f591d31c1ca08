/* json_text.h - JSON values to text, through the library's own memory. */
#ifndef LORS_IO_JSON_TEXT_H
#define LORS_IO_JSON_TEXT_H

#include <jansson.h>

#include <lors/status.h>

/* `root` as indented text that ends with a newline; takes the reference away, also on failure. Free
 * with lors_free. A NULL root means that building it ran out of memory. */
lors_status lors_json_text(json_t *root, int indent, char **out);

/* A JSON string; bytes that are not UTF-8 (in a path, say) are escaped. */
json_t *lors_json_string(const char *text);

#endif

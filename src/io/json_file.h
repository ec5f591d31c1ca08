/* json_file.h - a JSON file read strictly, with line and column in every error. */
#ifndef LORS_IO_JSON_FILE_H
#define LORS_IO_JSON_FILE_H

#include <jansson.h>
#include <stddef.h>

#include <lors/status.h>

/* Read a file of at most max_bytes that holds one JSON object, no key twice. *text (may be NULL)
 * gets the file's bytes, NUL-terminated: lors_free. Give *out back with json_decref.
 * Errors: ERR_IO, ERR_LIMIT, ERR_INPUT "PATH:LINE:COLUMN: ...". */
lors_status lors_json_read(const char *path, size_t max_bytes, json_t **out, char **text,
                           size_t *n_bytes);

/* The same of text that is already here: any JSON, no key twice. Errors: ERR_LIMIT, ERR_INPUT. */
lors_status lors_json_parse(const char *path, const char *text, size_t n_bytes, json_t **out);

#endif

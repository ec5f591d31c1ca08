/* json_memory.h - jansson where memory is short, which it does not always say. */
#ifndef LORS_IO_JSON_MEMORY_H
#define LORS_IO_JSON_MEMORY_H

#include <jansson.h>
#include <stddef.h>

#include <lors/status.h>

/* A value that jansson could not allocate is left out of the object or array it was meant for,
 * often without a word. So every use of it that allocates stands between these two, in one thread:
 * the end is ERR_LIMIT if any allocation failed since the begin. */
void lors_json_begin(void);
lors_status lors_json_end(void);

/* json_loadb with JSON_REJECT_DUPLICATES. Errors: ERR_LIMIT; ERR_INPUT with *error filled in. */
lors_status lors_json_load(const char *text, size_t n_bytes, json_t **out, json_error_t *error);

#endif

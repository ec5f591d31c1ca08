/* json_stream.h - a JSON file of the staging folder, written value by value: of the tensors that it
 * tells of one is in memory at a time. */
#ifndef LORS_IO_JSON_STREAM_H
#define LORS_IO_JSON_STREAM_H

#include <jansson.h>
#include <stdint.h>

#include <lors/status.h>

#include "io/staging.h"

typedef struct lors_json_stream lors_json_stream;

/* A file of this name, indented by so many spaces a level; its root is an object. Begins what
 * lors_json_begin begins. Errors: ERR_IO, ERR_LIMIT; ERR_INTERNAL where it would be larger than
 * max_bytes, which the caller has seen to. */
lors_status lors_json_stream_create(lors_staging *staging, const char *name, int indent,
                                    uint64_t max_bytes, lors_json_stream **out);
/* Members of the object, or items of the array (`key` NULL), that is open. The first failure is
 * kept and returned by lors_json_stream_end; after it these do nothing but free `value`. */
void lors_json_stream_open(lors_json_stream *stream, const char *key, char bracket);
void lors_json_stream_shut(lors_json_stream *stream);
void lors_json_stream_put(lors_json_stream *stream, const char *key, json_t *value);
/* Has something failed? Then the rest need not be made. */
bool lors_json_stream_failed(const lors_json_stream *stream);
/* Close root and file, and bring it to the disk; frees the stream. `seal`: NULL, or the key of
 * a last member of the root: the sha256 of all that is before it, from its comma on. */
lors_status lors_json_stream_end(lors_json_stream *stream, const char *seal);
/* Free the stream; its file is not wanted any more. */
void lors_json_stream_drop(lors_json_stream *stream);

#endif

/* text.h - names from strangers made printable, names near to a mistyped one, sizes in words. */
#ifndef LORS_BASE_TEXT_H
#define LORS_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

enum { LORS_ESCAPED_MAX = 1024 };

/* `n_bytes` of `bytes` with control characters, quotes, backslashes and invalid UTF-8 written as
 * \xNN, cut after 200 input bytes with "..."; into `out` of LORS_ESCAPED_MAX bytes. Returns out. */
char *lors_escape(const char *bytes, size_t n_bytes, char out[LORS_ESCAPED_MAX]);
char *lors_escape_text(const char *text, char out[LORS_ESCAPED_MAX]);

/* The i-th of some names, NULL behind the last. */
typedef const char *lors_name_at(size_t i, const void *context);
/* The name nearest to `word` (edit distance, at most a third of its length and at least 1), or
 * NULL. */
const char *lors_nearest(const char *word, lors_name_at *at, const void *context);

/* "1.5 GB", "640 kB", "12 B": decimal units, three digits. Returns out. */
char *lors_format_bytes(uint64_t n_bytes, char out[32]);

/* "1500M", "1.5G", "2GiB", "4096": decimal k M G T (optionally followed by B), binary Ki Mi Gi Ti.
 * Errors: ERR_USAGE. */
lors_status lors_parse_bytes(const char *text, uint64_t *out);

/* Is it valid UTF-8 (no overlong form, no surrogate)? */
bool lors_utf8_valid(const char *bytes, size_t n_bytes);

/* Folder part and last part of a path, joined paths: new memory, NULL when short of it. Join always
 * puts `name` below `folder`, even a name that begins with a slash. */
char *lors_path_join(const char *folder, const char *name);
char *lors_path_parent(const char *path); /* "." where there is none; of "a/b/" it is "a" */
const char *lors_path_base(const char *path); /* within `path`; of "a/b/" it is "b/" */
char *lors_path_real(const char *path); /* every link resolved; NULL: no such file, no memory */

#endif

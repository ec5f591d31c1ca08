/* json_stream.c - JSON in pieces, to the letter as jansson writes it in one. */
#include "io/json_stream.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/json_memory.h"
#include "io/json_text.h"

enum { FLUSH_BYTES = 1 << 16, MOST_LEVELS = 8 };

struct lors_json_stream {
    lors_staging *staging;
    char *name, *path;
    int fd; /* -1: not open */
    int indent, depth;
    char ends[MOST_LEVELS];  /* the bracket that ends each open level */
    bool begun[MOST_LEVELS]; /* it has a value */
    lors_text text;          /* not written yet */
    uint64_t at, max_bytes;  /* written; of the file */
    lors_sha256 *hash;       /* of what is written */
    lors_status status;      /* of the first failure */
    char *sentence;
};

/* Keep the first failure with its sentence, which others may replace meanwhile. */
static void keep(lors_json_stream *s, lors_status status)
{
    if (status != LORS_OK && s->status == LORS_OK) {
        s->status = status;
        s->sentence = lors_copy_text(lors_last_error());
    }
}

static lors_status write_text(lors_json_stream *s)
{
    if (s->text.failed) {
        return lors_fail_memory(s->text.length);
    }
    if (s->at + s->text.length > s->max_bytes) {
        return lors_fail(LORS_ERR_INTERNAL,
                         "%s: would be larger than %llu bytes, the most that can be read again",
                         s->name, (unsigned long long)s->max_bytes);
    }
    LORS_TRY(lors_file_write_at(s->fd, s->path, s->at, s->text.bytes, s->text.length));
    s->at += s->text.length;
    s->text.length = 0;
    return LORS_OK;
}

static lors_status flush(lors_json_stream *s)
{
    LORS_TRY(lors_sha256_update(s->hash, s->text.bytes, s->text.length));
    return write_text(s);
}

static lors_status open_file(lors_json_stream *s, const char *name)
{
    s->name = lors_copy_text(name);
    s->path = lors_path_join(lors_staging_path(s->staging), name);
    if (!s->name || !s->path) {
        return lors_fail_memory(strlen(name));
    }
    LORS_TRY(lors_sha256_create(&s->hash));
    return lors_staging_create_file(s->staging, name, 0, &s->fd);
}

/* A file that is open is closed without a word. */
void lors_json_stream_drop(lors_json_stream *s)
{
    if (s->fd >= 0) {
        lors_file_table()->close(s->fd);
    }
    lors_sha256_free(s->hash);
    lors_text_clear(&s->text);
    lors_free(s->sentence);
    lors_free(s->name);
    lors_free(s->path);
    lors_free(s);
}

/* ---- Values --------------------------------------------------------------------------------- */

static void new_line(lors_json_stream *s)
{
    lors_text_printf(&s->text, "\n%*s", s->indent * s->depth, "");
}

/* A line break within a value is always one of its form: in strings they are escaped. */
static int append(const char *bytes, size_t n_bytes, void *stream)
{
    lors_json_stream *s = stream;
    const char *end = bytes + n_bytes;
    for (const char *at = bytes; at < end;) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        const char *stop = line ? line : end;
        lors_text_append(&s->text, at, (size_t)(stop - at));
        at = stop;
        if (line) {
            new_line(s);
            at++;
        }
    }
    return s->text.failed ? -1 : 0;
}

static void dump(lors_json_stream *s, const json_t *value)
{
    size_t flags = JSON_INDENT((size_t)s->indent) | LORS_JSON_NUMBERS | JSON_ENCODE_ANY;
    bool done = value && json_dump_callback(value, append, s, flags) == 0;
    keep(s, lors_json_end());
    keep(s, done ? LORS_OK : lors_fail_memory(FLUSH_BYTES));
}

/* What stands before a value of the level that is open. */
static void begin_value(lors_json_stream *s, const char *key)
{
    bool *begun = &s->begun[s->depth - 1];
    if (*begun) {
        lors_text_append(&s->text, ",", 1);
    }
    *begun = true;
    new_line(s);
    if (key) {
        json_t *text = json_string(key);
        dump(s, text);
        lors_text_append(&s->text, ": ", 2);
        json_decref(text);
    }
}

static void push(lors_json_stream *s, char bracket)
{
    lors_text_append(&s->text, &bracket, 1);
    s->ends[s->depth] = bracket == '{' ? '}' : ']';
    s->begun[s->depth++] = false;
}

lors_status lors_json_stream_create(lors_staging *staging, const char *name, int indent,
                                    uint64_t max_bytes, lors_json_stream **out)
{
    lors_json_stream *s = lors_new(1, sizeof *s);
    *out = NULL;
    if (!s) {
        return lors_fail_memory(sizeof *s);
    }
    *s = (lors_json_stream){.staging = staging, .fd = -1, .indent = indent, .max_bytes = max_bytes};
    lors_status status = open_file(s, name);
    if (status != LORS_OK) {
        lors_json_stream_drop(s);
        return status;
    }
    push(s, '{');
    lors_json_begin();
    *out = s;
    return LORS_OK;
}

void lors_json_stream_open(lors_json_stream *s, const char *key, char bracket)
{
    if (s->status == LORS_OK && s->depth == MOST_LEVELS) {
        keep(s, lors_fail(LORS_ERR_INTERNAL, "%s: more than %d levels", s->name, MOST_LEVELS));
    }
    if (s->status == LORS_OK) {
        begin_value(s, key);
        push(s, bracket);
    }
}

void lors_json_stream_shut(lors_json_stream *s)
{
    if (s->status == LORS_OK) {
        s->depth--;
        if (s->begun[s->depth]) {
            new_line(s);
        }
        lors_text_append(&s->text, &s->ends[s->depth], 1);
    }
}

void lors_json_stream_put(lors_json_stream *s, const char *key, json_t *value)
{
    if (s->status == LORS_OK) {
        begin_value(s, key);
        dump(s, value);
    }
    json_decref(value);
    if (s->status == LORS_OK && s->text.length >= FLUSH_BYTES) {
        keep(s, flush(s));
    }
}

bool lors_json_stream_failed(const lors_json_stream *s)
{
    return s->status != LORS_OK;
}

/* ---- The end -------------------------------------------------------------------------------- */

static lors_status write_end(lors_json_stream *s, const char *seal)
{
    char hash[LORS_SHA256_TEXT];
    if (s->status != LORS_OK) {
        return lors_fail(s->status, "%s", s->sentence ? s->sentence : "out of memory");
    }
    if (seal) {
        LORS_TRY(lors_sha256_update(s->hash, s->text.bytes, s->text.length));
        LORS_TRY(lors_sha256_finish(s->hash, hash));
        lors_text_printf(&s->text, ",\n%*s\"%s\": \"%s\"\n}\n", s->indent, "", seal, hash);
    } else {
        lors_json_stream_shut(s);
        lors_text_append(&s->text, "\n", 1);
    }
    LORS_TRY(write_text(s));
    int fd = s->fd;
    s->fd = -1;
    return lors_staging_close_file(s->staging, s->name, fd);
}

lors_status lors_json_stream_end(lors_json_stream *s, const char *seal)
{
    lors_status status = write_end(s, seal);
    lors_json_stream_drop(s);
    return status;
}

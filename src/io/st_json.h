/* st_json.h - a strict, streaming lexer for the JSON of a safetensors header.
 *
 * It reads through a callback with one 64 KiB window, keeps nothing, allocates only the window, and
 * knows the byte of the file at which it stands. Every function that fails names that byte.
 */
#ifndef LORS_IO_ST_JSON_H
#define LORS_IO_ST_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/safetensors.h"

enum {
    LORS_LEXER_WINDOW = 65536,
    LORS_LEXER_MAX_DEPTH = 8, /* of values that are skipped */
    LORS_LEXER_END = -1,      /* instead of a byte: the header has ended */
    LORS_LEXER_BROKEN = -2    /* instead of a byte: reading failed, see `status` */
};

typedef struct lors_lexer {
    const char *label; /* the file's name, for messages */
    lors_st_read_fn read;
    void *source;
    unsigned char *window;
    size_t position, filled; /* within the window */
    uint64_t window_start;   /* in the file */
    uint64_t end;            /* in the file: one past the header */
    lors_status status;      /* of a read that failed */
    const char *tensor;      /* the tensor being read, for messages; NULL: none */
    size_t tensor_bytes;
} lors_lexer;

/* Bytes [start, end) of the file. Errors: ERR_LIMIT. `label` is borrowed. */
lors_status lors_lexer_open(lors_lexer *lexer, const char *label, lors_st_read_fn read,
                            void *source, uint64_t start, uint64_t end);
void lors_lexer_close(lors_lexer *lexer);

/* "LABEL: byte AT: tensor 'x': ..." as ERR_INPUT. */
lors_status lors_lexer_fail(const lors_lexer *lexer, uint64_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for the byte it stands at: "found ..., expected WANTED"; or the failure of a read. */
lors_status lors_lexer_unexpected(lors_lexer *lexer, const char *wanted);

int lors_lexer_refill(lors_lexer *lexer);

/* Where it stands, in the file. */
static inline uint64_t lors_lexer_at(const lors_lexer *lexer)
{
    return lexer->window_start + lexer->position;
}

/* The next byte, which stays; or LORS_LEXER_END, LORS_LEXER_BROKEN. */
static inline int lors_lexer_peek(lors_lexer *lexer)
{
    return lexer->position < lexer->filled ? lexer->window[lexer->position]
                                           : lors_lexer_refill(lexer);
}

/* As peek, behind any white space. */
int lors_lexer_peek_token(lors_lexer *lexer);

/* White space, then exactly this byte; `wanted` describes it. */
lors_status lors_lexer_expect(lors_lexer *lexer, char byte, const char *wanted);

/* Within an object or array: is there another member? Eats the comma before it, or the `close`.
 * Start with *n_seen = 0, which it counts up. */
lors_status lors_lexer_more(lors_lexer *lexer, char close, uint64_t *n_seen, bool *more);

/* A string, decoded to UTF-8. The first `capacity` bytes are stored (no NUL is added), *n_bytes
 * counts all of them. */
lors_status lors_lexer_string(lors_lexer *lexer, char *out, size_t capacity, size_t *n_bytes);

/* An integer in [0, 2^64): digits only, no leading zero. */
lors_status lors_lexer_u64(lors_lexer *lexer, uint64_t *out);

/* The word "null", "true" or "false". */
lors_status lors_lexer_word(lors_lexer *lexer, const char *word);

/* Any value, checked and dropped; `depth` is that of the value, 1 for the outermost. */
lors_status lors_lexer_ignore(lors_lexer *lexer, int depth);

#endif

/* json_memory.c - jansson's allocations, of which one that fails is remembered.
 *
 * Its parser does not survive that the text of a token cannot grow: the token is cut short, or an
 * assertion ends the process. So while it parses, an allocation that fails is served from a
 * reserve, and the parser is told that the text ends here. It gets its text byte by byte, so that
 * the reserve need not hold more than the token at hand and the value it becomes. */
#include "io/json_memory.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

enum { RESERVE_BYTES = 16384 }; /* beside the token: objects of a few hundred bytes */

static _Thread_local bool failed;
static _Thread_local struct {
    char *bytes; /* NULL: none */
    size_t used, n_bytes;
} reserve;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static json_malloc_t host_alloc; /* NULL, or what the host program had set */
static json_free_t host_free;

/* ---- Allocations ---------------------------------------------------------------------------- */

static void *take_reserve(size_t n_bytes)
{
    if (!reserve.bytes || n_bytes > reserve.n_bytes - reserve.used) {
        return NULL;
    }
    char *block = reserve.bytes + reserve.used;
    size_t padded = (n_bytes + 15) / 16 * 16, left = reserve.n_bytes - reserve.used;
    reserve.used += padded < left ? padded : left;
    return block;
}

static void *alloc(size_t n_bytes)
{
    void *block = host_alloc ? host_alloc(n_bytes) : lors_alloc(n_bytes);
    failed = failed || !block;
    return block ? block : take_reserve(n_bytes);
}

static void release(void *block)
{
    uintptr_t at = (uintptr_t)block, first = (uintptr_t)reserve.bytes;
    if (!reserve.bytes || at < first || at >= first + reserve.n_bytes) {
        host_free(block);
    }
}

/* Blocks that jansson had before go back to where they came from: lors_alloc is malloc, too. Should
 * the host set functions of its own later, it has what it wants, and nothing is remembered. */
static void install(void)
{
    json_get_alloc_funcs(&host_alloc, &host_free);
    host_alloc = host_alloc == malloc ? NULL : host_alloc;
    json_set_alloc_funcs(alloc, release);
}

void lors_json_begin(void)
{
    pthread_once(&once, install);
    failed = false;
}

lors_status lors_json_end(void)
{
    return failed ? lors_fail(LORS_ERR_LIMIT, "memory is short for JSON") : LORS_OK;
}

/* ---- Parsing -------------------------------------------------------------------------------- */

typedef struct source {
    const char *at, *end;
} source;

static size_t feed(void *to, size_t n_bytes, void *from)
{
    source *s = from;
    (void)n_bytes; /* never 0 */
    if (failed || s->at == s->end) {
        return 0;
    }
    *(char *)to = *s->at++;
    return 1;
}

/* No token is longer: whatever lies between quotes that are not escaped, or outside of them. */
static size_t longest_token(const char *text, size_t n_bytes)
{
    size_t longest = 0, first = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        if (text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            longest = i - first > longest ? i - first : longest;
            first = i;
        }
    }
    return (n_bytes - first > longest ? n_bytes - first : longest) + 2;
}

lors_status lors_json_load(const char *text, size_t n_bytes, json_t **out, json_error_t *error)
{
    source from = {text, text + n_bytes};
    *out = NULL;
    lors_json_begin();
    /* A token's text grows to twice its size at most. */
    reserve.n_bytes = 2 * longest_token(text, n_bytes) + RESERVE_BYTES;
    reserve.used = 0;
    reserve.bytes = lors_alloc(reserve.n_bytes);
    if (!reserve.bytes) {
        return lors_fail_memory(reserve.n_bytes);
    }
    json_t *root = json_load_callback(feed, &from, JSON_REJECT_DUPLICATES, error);
    lors_status status = lors_json_end();
    if (status != LORS_OK) {
        json_decref(root); /* some of it may lie in the reserve */
        root = NULL;
    }
    lors_free(reserve.bytes);
    reserve.bytes = NULL;
    *out = root;
    return root || status != LORS_OK ? status : LORS_ERR_INPUT;
}

/* fuzz_json.h - what a JSON text means, for the targets that judge by its meaning. */
#ifndef LORS_TESTS_FUZZ_JSON_H
#define LORS_TESTS_FUZZ_JSON_H

#include <jansson.h>
#include <string.h>

/* NULL: it is no JSON, or a key stands twice. jansson overlooks a NUL behind a number. */
static inline json_t *fuzz_json(const void *text, size_t n_bytes)
{
    return memchr(text, '\0', n_bytes) ? NULL
                                       : json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, NULL);
}

#endif

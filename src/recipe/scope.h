/* scope.h - selectors: which tensors a scope or a filter means. */
#ifndef LORS_RECIPE_SCOPE_H
#define LORS_RECIPE_SCOPE_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/status.h>

#include "recipe/names.h"

/* One selector:
 *   attention | attention.q|k|v|out | cross_attention[.q|k|v|out] | mlp | embedding | norm | conv |
 *   encoder | decoder | layers: A-B (inclusive; also layers: A) | regex:PATTERN (POSIX extended,
 *   on the name as in the base and on the canonical name) | * (everything) | any other text: a
 *   case-sensitive substring of the name as in the base (mergekit's rule; `filter` only).
 * `attention` includes cross-attention; `self_attention` does not. `A & B` joins selectors: all of
 * them must hold ("encoder & attention"); a leading "!" negates one. */
typedef struct lors_selector lors_selector;

/* What a selector is asked about. */
typedef struct lors_subject {
    const char *name; /* as in the base */
    const lors_tensor_name *described;
} lors_subject;

/* Errors: ERR_RECIPE with a sentence naming the allowed words and the nearest (no position: the
 * caller adds file, line and column). allow_substring: for filters. */
lors_status lors_selector_parse(const char *text, bool allow_substring, lors_selector **out);
bool lors_selector_matches(const lors_selector *selector, const lors_subject *subject);
void lors_selector_free(lors_selector *selector);

/* The words a selector may begin with, for messages and --help; NULL after the last. */
const char *lors_selector_word(int32_t index);

#endif

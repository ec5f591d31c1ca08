/* error.h - set the sentence of a failure where it happens. */
#ifndef LORS_BASE_ERROR_H
#define LORS_BASE_ERROR_H

#include <stddef.h>

#include <lors/status.h>

/* Store a sentence for this thread and return `status`, so that one can write
 * `return lors_fail(LORS_ERR_INPUT, "%s: ...", path);`. No trailing period or newline. */
lors_status lors_fail(lors_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Put `prefix` and ": " in front of the stored sentence; returns `status`. */
lors_status lors_fail_within(lors_status status, const char *prefix);

/* "cannot allocate N bytes", as ERR_LIMIT. */
lors_status lors_fail_memory(size_t n_bytes);

#define LORS_TRY(call)                                \
    do {                                              \
        lors_status lors_try_status = (call);         \
        if (lors_try_status != LORS_OK) {             \
            return lors_try_status;                   \
        }                                             \
    } while (0)

/* The same in functions that clean up: needs `lors_status status` and a label `cleanup`. */
#define LORS_TRY_CLEAN(call)         \
    do {                             \
        status = (call);             \
        if (status != LORS_OK) {     \
            goto cleanup;            \
        }                            \
    } while (0)

#endif

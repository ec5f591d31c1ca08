/* status.h - what a call of the library can end in, and the sentence that says why.
 *
 * Every fallible function returns a lors_status. On anything but LORS_OK a sentence is stored for
 * the calling thread: what went wrong, where (file, line, tensor, byte), why, and how to mend it.
 * The library never prints, never exits and never aborts.
 */
#ifndef LORS_STATUS_H
#define LORS_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LORS_API __attribute__((visibility("default")))
#else
#define LORS_API
#endif

/* X(name, exit code of the program, meaning). The exit codes are stable: scripts rely on them. */
#define LORS_STATUS_LIST(X)                                            \
    X(OK, 0, "success")                                                \
    X(ERR_INTERNAL, 1, "internal error: please report it")             \
    X(ERR_USAGE, 2, "wrong use of a command or function")              \
    X(ERR_RECIPE, 3, "the recipe is wrong")                            \
    X(ERR_INPUT, 4, "an input file is damaged or not what it says")    \
    X(ERR_MISMATCH, 5, "the models do not belong together")            \
    X(ERR_IO, 6, "reading or writing failed")                          \
    X(ERR_LIMIT, 7, "out of memory, or a limit was reached")           \
    X(ERR_NUMERICS, 8, "NaN, infinity or overflow in the numbers")     \
    X(ERR_DEVICE, 9, "the device is missing or failed")                \
    X(ERR_CANCELLED, 130, "interrupted")

typedef enum lors_status {
#define LORS_STATUS_ENUM(name, exit_code, sentence) LORS_##name,
    LORS_STATUS_LIST(LORS_STATUS_ENUM)
#undef LORS_STATUS_ENUM
        LORS_STATUS_COUNT
} lors_status;

/* The name of a status ("ERR_INPUT"), its one-line meaning, and the exit code that `lors` uses for
 * it. Never NULL; an unknown value is treated as ERR_INTERNAL. */
LORS_API const char *lors_status_name(lors_status status);
LORS_API const char *lors_status_meaning(lors_status status);
LORS_API int lors_status_exit_code(lors_status status);

/* The sentence of the last failure in this thread, "" if there was none. Valid until the next
 * failing call in the same thread. Names taken from files are escaped (no control characters). */
LORS_API const char *lors_last_error(void);

#ifdef __cplusplus
}
#endif
#endif

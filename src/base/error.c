/* error.c - the sentence of the last failure, one per thread, in storage that cannot run out. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SENTENCE_MAX = 4096 };

static _Thread_local char sentence[SENTENCE_MAX];

/* End a sentence that did not fit with "...", and not within a UTF-8 sequence. */
static void mark_cut(char text[SENTENCE_MAX])
{
    size_t end = SENTENCE_MAX - sizeof "...";
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) {
        end--;
    }
    memcpy(text + end, "...", sizeof "...");
}

/* Formats beside the stored sentence first: the arguments may point into it. */
static void set_sentence(const char *format, va_list arguments)
{
    char text[SENTENCE_MAX] = "";
    int length = vsnprintf(text, sizeof text, format, arguments);
    if (length >= SENTENCE_MAX) {
        mark_cut(text);
    }
    memcpy(sentence, text, strlen(text) + 1);
}

lors_status lors_fail(lors_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set_sentence(format, arguments);
    va_end(arguments);
    return status;
}

lors_status lors_fail_within(lors_status status, const char *prefix)
{
    return lors_fail(status, "%s: %s", prefix, sentence);
}

lors_status lors_fail_memory(size_t n_bytes)
{
    return lors_fail(LORS_ERR_LIMIT, "cannot allocate %zu bytes: memory is short", n_bytes);
}

const char *lors_last_error(void)
{
    return sentence;
}

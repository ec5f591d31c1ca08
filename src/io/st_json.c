/* st_json.c - a strict, streaming lexer for the JSON of a safetensors header. */
#include "io/st_json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

lors_status lors_lexer_open(lors_lexer *lexer, const char *label, lors_st_read_fn read,
                            void *source, uint64_t start, uint64_t end)
{
    *lexer = (lors_lexer){
        .label = label, .read = read, .source = source, .window_start = start, .end = end};
    lexer->window = lors_alloc(LORS_LEXER_WINDOW);
    return lexer->window ? LORS_OK : lors_fail_memory(LORS_LEXER_WINDOW);
}

void lors_lexer_close(lors_lexer *lexer)
{
    lors_free(lexer->window);
    lexer->window = NULL;
}

/* ---- Failures ------------------------------------------------------------------------------ */

lors_status lors_lexer_fail(const lors_lexer *lexer, uint64_t at, const char *format, ...)
{
    char text[2048], name[LORS_ESCAPED_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!lexer->tensor) {
        return lors_fail(LORS_ERR_INPUT, "%s: byte %" PRIu64 ": %s", lexer->label, at, text);
    }
    return lors_fail(LORS_ERR_INPUT, "%s: byte %" PRIu64 ": tensor '%s': %s", lexer->label, at,
                     lors_escape(lexer->tensor, lexer->tensor_bytes, name), text);
}

lors_status lors_lexer_unexpected(lors_lexer *lexer, const char *wanted)
{
    int byte = lors_lexer_peek(lexer);
    uint64_t at = lors_lexer_at(lexer);
    if (byte == LORS_LEXER_BROKEN) {
        return lexer->status;
    }
    if (byte == LORS_LEXER_END) {
        return lors_lexer_fail(lexer, at, "the header ends here (expected %s)", wanted);
    }
    if (byte < 0x20 || byte >= 0x7f) {
        return lors_lexer_fail(lexer, at, "found byte 0x%02x, expected %s", (unsigned)byte, wanted);
    }
    return lors_lexer_fail(lexer, at, "found '%c', expected %s", byte, wanted);
}

/* ---- Bytes --------------------------------------------------------------------------------- */

int lors_lexer_refill(lors_lexer *lexer)
{
    uint64_t next = lexer->window_start + lexer->filled;
    if (lexer->status != LORS_OK) {
        return LORS_LEXER_BROKEN;
    }
    if (next >= lexer->end) {
        return LORS_LEXER_END;
    }
    uint64_t rest = lexer->end - next;
    size_t n_bytes = rest < LORS_LEXER_WINDOW ? (size_t)rest : LORS_LEXER_WINDOW;
    lexer->status = lexer->read(lexer->source, next, lexer->window, n_bytes);
    lexer->window_start = next;
    lexer->position = 0;
    lexer->filled = lexer->status == LORS_OK ? n_bytes : 0;
    return lexer->status == LORS_OK ? lexer->window[0] : LORS_LEXER_BROKEN;
}

int lors_lexer_peek_token(lors_lexer *lexer)
{
    int byte = lors_lexer_peek(lexer);
    while (byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t') {
        lexer->position++;
        byte = lors_lexer_peek(lexer);
    }
    return byte;
}

lors_status lors_lexer_expect(lors_lexer *lexer, char byte, const char *wanted)
{
    if (lors_lexer_peek_token(lexer) != byte) {
        return lors_lexer_unexpected(lexer, wanted);
    }
    lexer->position++;
    return LORS_OK;
}

lors_status lors_lexer_more(lors_lexer *lexer, char close, uint64_t *n_seen, bool *more)
{
    int byte = lors_lexer_peek_token(lexer);
    *more = false;
    if (byte == close) {
        lexer->position++;
        return LORS_OK;
    }
    if (*n_seen > 0) {
        LORS_TRY(lors_lexer_expect(lexer, ',', close == '}' ? "',' or '}'" : "',' or ']'"));
        byte = lors_lexer_peek_token(lexer);
    }
    if (byte < 0 || byte == close) { /* the end, or a comma with nothing behind it */
        return lors_lexer_unexpected(lexer, close == '}' ? "a key in quotes" : "a value");
    }
    *n_seen += 1;
    *more = true;
    return LORS_OK;
}

/* ---- Strings ------------------------------------------------------------------------------- */

/* Where decoded bytes go: the first `capacity` are kept, all are counted. */
typedef struct string_sink {
    char *out;
    size_t capacity, n_bytes;
} string_sink;

static inline void sink_put(string_sink *sink, unsigned byte)
{
    if (sink->n_bytes < sink->capacity) {
        sink->out[sink->n_bytes] = (char)byte;
    }
    sink->n_bytes++;
}

static void sink_put_code_point(string_sink *sink, unsigned c)
{
    if (c < 0x80) {
        sink_put(sink, c);
        return;
    }
    if (c < 0x800) {
        sink_put(sink, 0xc0 | c >> 6);
    } else if (c < 0x10000) {
        sink_put(sink, 0xe0 | c >> 12);
        sink_put(sink, 0x80 | (c >> 6 & 0x3f));
    } else {
        sink_put(sink, 0xf0 | c >> 18);
        sink_put(sink, 0x80 | (c >> 12 & 0x3f));
        sink_put(sink, 0x80 | (c >> 6 & 0x3f));
    }
    sink_put(sink, 0x80 | (c & 0x3f));
}

static lors_status take_hex4(lors_lexer *lexer, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        int byte = lors_lexer_peek(lexer);
        int digit = byte >= '0' && byte <= '9'   ? byte - '0'
                    : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                    : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                                 : -1;
        if (digit < 0) {
            return lors_lexer_unexpected(lexer, "four hexadecimal digits after \\u");
        }
        *out = *out << 4 | (unsigned)digit;
        lexer->position++;
    }
    return LORS_OK;
}

/* Behind "\u". A character beyond U+FFFF comes as two surrogates; one alone is no character. */
static lors_status take_unicode_escape(lors_lexer *lexer, uint64_t at, string_sink *sink)
{
    unsigned high = 0, low = 0;
    LORS_TRY(take_hex4(lexer, &high));
    if (high < 0xd800 || high > 0xdfff) {
        sink_put_code_point(sink, high);
        return LORS_OK;
    }
    bool paired = high < 0xdc00 && lors_lexer_peek(lexer) == '\\';
    lexer->position += paired;
    paired = paired && lors_lexer_peek(lexer) == 'u';
    lexer->position += paired;
    if (paired) {
        LORS_TRY(take_hex4(lexer, &low));
    }
    if (low < 0xdc00 || low > 0xdfff) {
        return lexer->status != LORS_OK
                   ? lexer->status
                   : lors_lexer_fail(lexer, at, "lone surrogate \\u%04x in a string", high);
    }
    sink_put_code_point(sink, 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
    return LORS_OK;
}

static lors_status take_escape(lors_lexer *lexer, string_sink *sink)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    uint64_t at = lors_lexer_at(lexer);
    lexer->position++; /* the backslash */
    int byte = lors_lexer_peek(lexer);
    if (byte == 'u') {
        lexer->position++;
        return take_unicode_escape(lexer, at, sink);
    }
    const char *found = byte > 0 ? strchr(names, byte) : NULL;
    if (!found) {
        return lors_lexer_unexpected(lexer, "one of \" \\ / b f n r t u after a backslash");
    }
    sink_put(sink, (unsigned char)values[found - names]);
    lexer->position++;
    return LORS_OK;
}

/* A sequence of two to four bytes: no overlong form, no surrogate, nothing above U+10FFFF. */
static lors_status take_utf8(lors_lexer *lexer, int lead, string_sink *sink)
{
    uint64_t at = lors_lexer_at(lexer);
    int least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    int most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    int n_more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4) {
        return lors_lexer_fail(lexer, at, "invalid UTF-8 (byte 0x%02x)", (unsigned)lead);
    }
    sink_put(sink, (unsigned)lead);
    lexer->position++;
    for (int i = 0; i < n_more; i++) {
        int byte = lors_lexer_peek(lexer);
        if (byte == LORS_LEXER_BROKEN) {
            return lexer->status;
        }
        if (byte < least || byte > most) {
            return lors_lexer_fail(lexer, at, "invalid UTF-8 (a sequence that begins with 0x%02x)",
                                   (unsigned)lead);
        }
        sink_put(sink, (unsigned)byte);
        lexer->position++;
        least = 0x80;
        most = 0xbf;
    }
    return LORS_OK;
}

lors_status lors_lexer_string(lors_lexer *lexer, char *out, size_t capacity, size_t *n_bytes)
{
    string_sink sink = {out, capacity, 0};
    LORS_TRY(lors_lexer_expect(lexer, '"', "a string in double quotes"));
    for (;;) {
        int byte = lors_lexer_peek(lexer);
        if (byte == '"') {
            break;
        }
        if (byte == '\\') {
            LORS_TRY(take_escape(lexer, &sink));
        } else if (byte >= 0x80) {
            LORS_TRY(take_utf8(lexer, byte, &sink));
        } else if (byte >= 0x20) {
            sink_put(&sink, (unsigned)byte);
            lexer->position++;
        } else {
            return lors_lexer_unexpected(lexer, "the rest of a string (control characters must be "
                                                "written as \\u00xx)");
        }
    }
    lexer->position++;
    *n_bytes = sink.n_bytes;
    return LORS_OK;
}

/* ---- Numbers and words --------------------------------------------------------------------- */

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

lors_status lors_lexer_u64(lors_lexer *lexer, uint64_t *out)
{
    static const char wanted[] = "a whole number that is not negative";
    int byte = lors_lexer_peek_token(lexer);
    uint64_t at = lors_lexer_at(lexer), value = 0;
    int n_digits = 0, first = byte;
    for (; is_digit(byte); byte = lors_lexer_peek(lexer)) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(byte - '0'), &value)) {
            return lors_lexer_fail(lexer, at, "the number is too large (allowed up to 2^64 - 1)");
        }
        n_digits++;
        lexer->position++;
    }
    if (n_digits == 0 || byte == '.' || byte == 'e' || byte == 'E') {
        return lors_lexer_unexpected(lexer, wanted);
    }
    if (n_digits > 1 && first == '0') {
        return lors_lexer_fail(lexer, at, "a number must not begin with 0");
    }
    *out = value;
    return LORS_OK;
}

lors_status lors_lexer_word(lors_lexer *lexer, const char *word)
{
    lors_lexer_peek_token(lexer);
    for (const char *c = word; *c; c++) {
        if (lors_lexer_peek(lexer) != *c) {
            return lors_lexer_unexpected(lexer, "null, true, false, a number, a string, an array "
                                                "or an object");
        }
        lexer->position++;
    }
    return LORS_OK;
}

/* A number of any length, without storing it: its decimal exponent and first digits decide whether
 * a double can hold it. */
typedef struct number_size {
    bool nonzero;
    int64_t exponent; /* the value is 0.d1d2... x 10^exponent, d1 not 0 */
    uint64_t leading; /* d1 to d17 */
    int n_leading;
} number_size;

static void take_digits(lors_lexer *lexer, bool fraction, number_size *size)
{
    for (int byte = lors_lexer_peek(lexer); is_digit(byte); byte = lors_lexer_peek(lexer)) {
        size->nonzero = size->nonzero || byte != '0';
        if (size->nonzero && size->n_leading < 17) {
            size->leading = size->leading * 10 + (uint64_t)(byte - '0');
            size->n_leading++;
        }
        size->exponent += fraction ? -(int64_t)!size->nonzero : (int64_t)size->nonzero;
        lexer->position++;
    }
}

static lors_status take_exponent(lors_lexer *lexer, number_size *size)
{
    int64_t value = 0;
    lexer->position++; /* the e */
    int sign = lors_lexer_peek(lexer);
    lexer->position += sign == '+' || sign == '-';
    if (!is_digit(lors_lexer_peek(lexer))) {
        return lors_lexer_unexpected(lexer, "the digits of an exponent");
    }
    for (int byte = lors_lexer_peek(lexer); is_digit(byte); byte = lors_lexer_peek(lexer)) {
        value = value < INT32_MAX ? value * 10 + (byte - '0') : value; /* already absurd */
        lexer->position++;
    }
    size->exponent += sign == '-' ? -value : value;
    return LORS_OK;
}

/* -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?, at most the largest double. */
static lors_status ignore_number(lors_lexer *lexer)
{
    static const uint64_t largest = 17976931348623157; /* x 10^292 */
    number_size size = {0};
    uint64_t at = lors_lexer_at(lexer);
    lexer->position += lors_lexer_peek(lexer) == '-';
    int first = lors_lexer_peek(lexer);
    if (!is_digit(first)) {
        return lors_lexer_unexpected(lexer, "a digit");
    }
    lexer->position += first == '0';
    if (first == '0' && is_digit(lors_lexer_peek(lexer))) {
        return lors_lexer_fail(lexer, at, "a number must not begin with 0");
    }
    take_digits(lexer, false, &size);
    if (lors_lexer_peek(lexer) == '.') {
        lexer->position++;
        if (!is_digit(lors_lexer_peek(lexer))) {
            return lors_lexer_unexpected(lexer, "a digit after the point");
        }
        take_digits(lexer, true, &size);
    }
    int byte = lors_lexer_peek(lexer);
    if (byte == 'e' || byte == 'E') {
        LORS_TRY(take_exponent(lexer, &size));
    }
    for (; size.n_leading < 17; size.n_leading++) {
        size.leading *= 10;
    }
    if (size.nonzero && (size.exponent > 309 || (size.exponent == 309 && size.leading > largest))) {
        return lors_lexer_fail(lexer, at, "the number is too large for a double");
    }
    return lexer->status;
}

static lors_status ignore_members(lors_lexer *lexer, char close, int depth)
{
    bool more = false;
    size_t unused = 0;
    uint64_t n_seen = 0, at = lors_lexer_at(lexer);
    if (depth > LORS_LEXER_MAX_DEPTH) {
        return lors_lexer_fail(lexer, at, "nested too deeply (allowed: %d levels)",
                               LORS_LEXER_MAX_DEPTH);
    }
    lexer->position++; /* the opening bracket */
    LORS_TRY(lors_lexer_more(lexer, close, &n_seen, &more));
    while (more) {
        if (close == '}') {
            LORS_TRY(lors_lexer_string(lexer, NULL, 0, &unused));
            LORS_TRY(lors_lexer_expect(lexer, ':', "':'"));
        }
        LORS_TRY(lors_lexer_ignore(lexer, depth + 1));
        LORS_TRY(lors_lexer_more(lexer, close, &n_seen, &more));
    }
    return LORS_OK;
}

lors_status lors_lexer_ignore(lors_lexer *lexer, int depth)
{
    size_t unused = 0;
    switch (lors_lexer_peek_token(lexer)) {
    case '{': return ignore_members(lexer, '}', depth);
    case '[': return ignore_members(lexer, ']', depth);
    case '"': return lors_lexer_string(lexer, NULL, 0, &unused);
    case 't': return lors_lexer_word(lexer, "true");
    case 'f': return lors_lexer_word(lexer, "false");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': return ignore_number(lexer);
    default: return lors_lexer_word(lexer, "null");
    }
}

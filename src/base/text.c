/* text.c - printable names, UTF-8, the nearest word, and sizes in words both ways. */
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* ---- UTF-8 --------------------------------------------------------------------------------- */

/* Length of the valid UTF-8 sequence at the start of n_bytes >= 1 bytes and its code point; 0 if
 * there is none: a stray or missing continuation, an overlong form, a surrogate, above 10FFFF. */
static size_t utf8_next(const unsigned char *bytes, size_t n_bytes, uint32_t *code_point)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = bytes[0];
    if (first < 0x80) {
        *code_point = first;
        return 1;
    }
    size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc0 || first > 0xf7 || length > n_bytes) {
        return 0;
    }
    uint32_t code = first & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (bytes[i] & 0x3fu);
    }
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    *code_point = code;
    return code < least[length] || surrogate || code > 0x10ffff ? 0 : length;
}

bool lors_utf8_valid(const char *bytes, size_t n_bytes)
{
    uint32_t code_point;
    for (size_t at = 0, length; at < n_bytes; at += length) {
        length = utf8_next((const unsigned char *)bytes + at, n_bytes - at, &code_point);
        if (length == 0) {
            return false;
        }
    }
    return true;
}

/* ---- Escaping ------------------------------------------------------------------------------ */

/* Control characters also include those that a terminal obeys beyond ASCII: C1 (U+0080..9F), line
 * and paragraph separators, and the marks that turn the direction of the text around. */
static bool printable(uint32_t c)
{
    bool control = c < 0x20 || (c >= 0x7f && c <= 0x9f);
    bool mark = c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
                (c >= 0x2066 && c <= 0x2069);
    return !control && !mark && c != '"' && c != '\'' && c != '\\';
}

char *lors_escape(const char *bytes, size_t n_bytes, char out[LORS_ESCAPED_MAX])
{
    enum { SHOWN_BYTES = 200 };
    static const char hex[] = "0123456789abcdef";
    const unsigned char *in = (const unsigned char *)bytes;
    size_t used = 0, at = 0;
    while (at < n_bytes) {
        uint32_t code_point = 0;
        size_t length = utf8_next(in + at, n_bytes - at, &code_point);
        bool plain = length > 0 && printable(code_point);
        length += length == 0;
        if (at + length > SHOWN_BYTES) {
            break;
        }
        for (size_t end = at + length; at < end; at++) {
            if (plain) {
                out[used++] = (char)in[at];
            } else {
                out[used++] = '\\';
                out[used++] = 'x';
                out[used++] = hex[in[at] >> 4];
                out[used++] = hex[in[at] & 15];
            }
        }
    }
    memcpy(out + used, at < n_bytes ? "..." : "", at < n_bytes ? 4 : 1);
    return out;
}

char *lors_escape_text(const char *text, char out[LORS_ESCAPED_MAX])
{
    return lors_escape(text, strlen(text), out);
}

/* ---- The nearest word ---------------------------------------------------------------------- */

enum { NEAREST_MAX = 256 }; /* longest word compared */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static size_t least_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, substitutions and swaps of neighbours that turn a into b; upper and lower
 * case are the same. Both have at most NEAREST_MAX bytes. Three rows of the usual table suffice. */
static size_t edit_distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t rows[3][NEAREST_MAX + 1] = {{0}};
    for (size_t j = 0; j <= n_b; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            char x = lower(a[i - 1]), y = lower(b[j - 1]);
            row[j] = least_of(least_of(row[j - 1], above[j]) + 1, above[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y) {
                row[j] = least_of(row[j], two_above[j - 2] + 1);
            }
        }
    }
    return rows[n_a % 3][n_b];
}

const char *lors_nearest(const char *word, lors_name_at *at, const void *context)
{
    size_t n_word = strlen(word);
    size_t limit = n_word / 3 > 1 ? n_word / 3 : 1, best_distance = limit + 1;
    const char *best = NULL, *name;
    if (n_word > NEAREST_MAX) {
        return NULL;
    }
    for (size_t i = 0; (name = at(i, context)) != NULL; i++) {
        size_t n_name = strlen(name);
        if (n_name > n_word + limit || n_name + limit < n_word || n_name > NEAREST_MAX) {
            continue;
        }
        size_t distance = edit_distance(word, n_word, name, n_name);
        bool alike = distance < n_word || distance < n_name; /* "x" is not near to "y" */
        if (alike && distance < best_distance) {
            best = name;
            best_distance = distance;
        }
    }
    return best;
}

/* ---- Sizes --------------------------------------------------------------------------------- */

/* In integers: no rounding surprise at 999.5, and no decimal comma of some locale. */
char *lors_format_bytes(uint64_t n_bytes, char out[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    uint64_t unit = 1;
    if (n_bytes < 1000) {
        snprintf(out, 32, "%u B", (unsigned)n_bytes);
        return out;
    }
    for (int i = 1; i < 7; i++) {
        unit *= 1000;
        for (uint64_t scale = 100; scale >= 1; scale /= 10) {
            uint64_t step = unit / scale, rest = n_bytes % step;
            uint64_t steps = n_bytes / step + (rest >= step - rest);
            if (steps >= 1000) {
                continue;
            }
            while (scale > 1 && steps % 10 == 0) {
                steps /= 10;
                scale /= 10;
            }
            int n_decimals = scale == 100 ? 2 : scale == 10 ? 1 : 0;
            snprintf(out, 32, "%u%s%.*u %s", (unsigned)(steps / scale), n_decimals > 0 ? "." : "",
                     n_decimals, (unsigned)(steps % scale), units[i]);
            return out;
        }
    }
    return out;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The bytes of one "", "B", "k", "kB", "Ki", "KiB", ... in any case; 0 if it is none of them. */
static uint64_t unit_bytes(const char *text)
{
    static const char prefixes[] = "kmgt";
    uint64_t bytes = 1;
    const char *prefix = *text ? strchr(prefixes, lower(*text)) : NULL;
    if (prefix) {
        text++;
        bool binary = lower(*text) == 'i';
        text += binary;
        for (const char *p = prefixes; p <= prefix; p++) {
            bytes *= binary ? 1024 : 1000;
        }
    }
    text += lower(*text) == 'b';
    return *text == '\0' ? bytes : 0;
}

static lors_status fail_size(const char *text, const char *why)
{
    char shown[LORS_ESCAPED_MAX];
    return lors_fail(LORS_ERR_USAGE,
                     "\"%s\" %s: give a number of bytes, or one with k, M, G, T (powers of 1000) "
                     "or Ki, Mi, Gi, Ti (powers of 1024), such as 4096, 1.5G or 2GiB",
                     lors_escape_text(text, shown), why);
}

lors_status lors_parse_bytes(const char *text, uint64_t *out)
{
    const char *at = text, *fraction = NULL;
    uint64_t whole = 0, part = 0;
    bool fits = true;
    for (; is_digit(*at); at++) {
        fits = fits && !__builtin_mul_overflow(whole, 10u, &whole) &&
               !__builtin_add_overflow(whole, (uint64_t)(*at - '0'), &whole);
    }
    if (at == text) {
        return fail_size(text, *at == '-' ? "is negative" : "is no size");
    }
    if (*at == '.' && is_digit(at[1])) {
        fraction = at + 1;
        at += strspn(at + 1, "0123456789") + 1;
    }
    const char *end = at;
    uint64_t unit = unit_bytes(at + (*at == ' '));
    if (unit == 0 || (*at == ' ' && at[1] == '\0')) {
        return fail_size(text, "is no size");
    }
    if (fraction && unit == 1) {
        return fail_size(text, "is a fraction of a byte");
    }
    while (fraction && end > fraction) { /* from the last digit: floors nest without error */
        part = (part + unit * (uint64_t)(*--end - '0')) / 10;
    }
    if (!fits || __builtin_mul_overflow(whole, unit, &whole) ||
        __builtin_add_overflow(whole, part, &whole)) {
        return fail_size(text, "is more than 2^64 - 1 bytes");
    }
    *out = whole;
    return LORS_OK;
}

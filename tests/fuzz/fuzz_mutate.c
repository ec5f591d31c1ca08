/* fuzz_mutate.c - changes to texts in the formats that are fuzzed, drawn from a seed. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

typedef struct draft {
    uint8_t *data;
    size_t size, max_size;
    uint64_t state;
} draft;

static const char *const words[] = {
    "\"F32\"",
    "\"F16\"",
    "\"BF16\"",
    "\"I64\"",
    "\"BOOL\"",
    "\"F4\"",
    "\"F6_E2M3\"",
    "\"U8\"",
    "\"dtype\":",
    "\"shape\":",
    "\"data_offsets\":",
    "\"__metadata__\":",
    "\"format\":\"pt\"",
    "\"weight_map\":",
    "\"metadata\":",
    "\"total_size\":",
    "\"torch_dtype\":",
    "\"architectures\":",
    "\\u0000",
    "\\ud83d\\ude00",
    "\\ud800",
    "\\u0061",
    "\xc3\xa4",
    "\xed\xa0\x80",
    "\xc0\x80",
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "\"\"",
    "{\"x\":",
    "[[",
    "]]",
    "}}",
    "\"a\":",
    "\"b\":",
    "merge_method: ",
    "base_model: ",
    "models:",
    "- model: ",
    "parameters: ",
    "weight: ",
    "density: ",
    "lambda: ",
    "rank: ",
    "normalize: ",
    "scope: ",
    "outside: ",
    "filter: ",
    "value: ",
    "energy: ",
    "lors",
    "ties",
    "slerp",
    "linear",
    "task_arithmetic",
    "attention",
    "mlp",
    "encoder",
    "&x ",
    "*x",
    "? ",
    "- ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "<<: ",
    "!!str ",
    "|\n",
    ">-\n",
    "'",
    "''",
    "# ",
    "\t",
    "\r\n",
    "\n  ",
    "\xef\xbb\xbf",
    ".nan",
    "1%",
    "~",
};

static const char *const numbers[] = {
    "0",
    "1",
    "-1",
    "2",
    "7",
    "8",
    "9",
    "16",
    "64",
    "65",
    "127",
    "255",
    "256",
    "4096",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "3037000500",
    "-0",
    "08",
    "1.5",
    "1e3",
    "1e999",
    "-1e-999",
    "0.0",
    "100000001",
    "1e308",
    "0.5",
    "1e-9",
};

static uint64_t draw(draft *d, uint64_t n)
{
    d->state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = d->state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return n > 0 ? (z ^ z >> 31) % n : 0;
}

/* Put `n` bytes in the place of [first, end), as far as there is room. */
static void replace(draft *d, size_t first, size_t end, const void *bytes, size_t n)
{
    uint8_t piece[256];
    n = n < sizeof piece ? n : sizeof piece;
    memcpy(piece, bytes, n); /* it may be of the same text */
    size_t rest = d->size - end;
    if (first + n + rest > d->max_size) {
        return;
    }
    memmove(d->data + first + n, d->data + end, rest);
    memcpy(d->data + first, piece, n);
    d->size = first + n + rest;
}

static void change_byte(draft *d)
{
    static const char odd[] = "{}[]:,\"\\09-.e \n\t'#&*\x01\x7f\x80\xff";
    if (d->size > 0) {
        size_t at = (size_t)draw(d, d->size);
        uint8_t flipped = (uint8_t)(d->data[at] ^ 1u << draw(d, 8));
        d->data[at] = draw(d, 2) ? flipped : (uint8_t)odd[draw(d, sizeof odd)]; /* its NUL, too */
    }
}

static void change_span(draft *d)
{
    size_t first = (size_t)draw(d, d->size + 1), room = d->size - first;
    size_t n = (size_t)draw(d, (room < 24 ? room : 24) + 1);
    if (draw(d, 2)) {
        replace(d, first, first + n, "", 0);
    } else {
        size_t to = (size_t)draw(d, d->size + 1);
        replace(d, to, to, d->data + first, n);
    }
}

/* The n-th piece of text between delimiters from a drawn place on. */
static bool is_delimiter(uint8_t byte)
{
    return byte != '\0' && strchr("{}[],\n", byte) != NULL;
}

static void change_member(draft *d)
{
    size_t first = (size_t)draw(d, d->size + 1), end;
    while (first > 0 && !is_delimiter(d->data[first - 1])) {
        first--;
    }
    end = first;
    for (uint64_t n = 1 + draw(d, 6); n > 0 && end < d->size; n--) {
        end++;
        while (end < d->size && !is_delimiter(d->data[end])) {
            end++;
        }
    }
    uint8_t piece[256];
    size_t n_piece = end - first < sizeof piece ? end - first : sizeof piece;
    memcpy(piece, d->data + first, n_piece);
    uint64_t how = draw(d, 3);
    if (how != 0) { /* remove, or move */
        replace(d, first, first + n_piece, "", 0);
    }
    if (how != 1) { /* double, or move */
        size_t to = (size_t)draw(d, d->size + 1);
        while (to > 0 && !is_delimiter(d->data[to - 1])) {
            to--;
        }
        replace(d, to, to, piece, n_piece);
    }
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static void change_number(draft *d)
{
    size_t first = (size_t)draw(d, d->size + 1), end;
    while (first < d->size && !is_digit(d->data[first])) {
        first++;
    }
    for (end = first; end < d->size && is_digit(d->data[end]);) {
        end++;
    }
    char text[32];
    uint64_t value = 0;
    for (size_t i = first; i < end; i++) {
        value = value * 10 + (uint64_t)(d->data[i] - '0');
    }
    const char *other = numbers[draw(d, sizeof numbers / sizeof *numbers)];
    if (draw(d, 2)) {
        uint64_t step = 1 + draw(d, 8);
        snprintf(text, sizeof text, "%llu",
                 (unsigned long long)(draw(d, 2) ? value + step : value - step));
        other = text;
    }
    replace(d, first, end, other, strlen(other));
}

static void put_word(draft *d)
{
    const char *word = words[draw(d, sizeof words / sizeof *words)];
    size_t at = (size_t)draw(d, d->size + 1);
    replace(d, at, at, word, strlen(word));
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max_size, uint64_t seed)
{
    static void (*const changes[])(draft *) = {change_byte,   change_span,   change_member,
                                               change_member, change_number, change_number,
                                               put_word};
    draft d = {data, size, max_size, seed};
    for (uint64_t n = 1 + draw(&d, 3); n > 0; n--) {
        changes[draw(&d, sizeof changes / sizeof *changes)](&d);
    }
    return d.size;
}

/* st_json_tree.c - JSON into a tree, as the reference's JSON library reads it; naive and whole. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "st_json_tree.h"

enum { MAX_DEPTH = 127 }; /* the 128th level is its "recursion limit exceeded" */

/* --- memory, bytes -------------------------------------------------------------------------- */

typedef struct block {
    struct block *next;
    max_align_t bytes[];
} block;

void *st_block(void **blocks, size_t n_bytes)
{
    block *made = calloc(1, sizeof *made + n_bytes);
    FUZZ_NEED(made, "no memory for %zu bytes", n_bytes);
    made->next = *blocks;
    *blocks = made;
    return made->bytes;
}

void st_blocks_free(void *blocks)
{
    for (block *one = blocks, *next; one; one = next) {
        next = one->next;
        free(one);
    }
}

/* The byte ahead, -1 at the end. */
static int ahead(const st_tree *t, uint64_t n)
{
    uint64_t at = t->at + n;
    return at >= t->end ? -1 : at < t->n_bytes ? t->bytes[at] : 0;
}

static bool take(st_tree *t, char wanted)
{
    bool there = ahead(t, 0) == wanted;
    t->at += there;
    return there;
}

static void skip_space(st_tree *t)
{
    for (int c = ahead(t, 0); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = ahead(t, 0)) {
        t->at++;
    }
}

static bool take_word(st_tree *t, const char *word)
{
    while (*word && take(t, *word)) {
        word++;
    }
    return !*word;
}

/* --- strings -------------------------------------------------------------------------------- */

static int hex4(const st_tree *t, uint64_t at)
{
    int value = 0;
    for (uint64_t i = 0; i < 4; i++) {
        int c = ahead(t, at + i);
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *found = c > 0 ? strchr(digits, c) : NULL;
        if (!found) {
            return -1;
        }
        value = value * 16 + (int)(found - digits) % 16;
    }
    return value;
}

static void put_utf8(char *out, size_t *n, long c)
{
    int n_more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const int lead[] = {0, 0xc0, 0xe0, 0xf0};
    out[(*n)++] = (char)(lead[n_more] | (int)(c >> 6 * n_more));
    for (int i = n_more - 1; i >= 0; i--) {
        out[(*n)++] = (char)(0x80 | (c >> 6 * i & 0x3f));
    }
}

static bool take_escape(st_tree *t, char *out, size_t *n)
{
    static const char letters[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    int c = ahead(t, 1);
    const char *found = c > 0 ? strchr(letters, c) : NULL;
    if (found) {
        out[(*n)++] = means[found - letters];
        t->at += 2;
        return true;
    }
    long code = c == 'u' ? hex4(t, 2) : -1;
    t->at += 6;
    if (code >= 0xd800 && code <= 0xdfff) {
        bool pair = code < 0xdc00 && ahead(t, 0) == '\\' && ahead(t, 1) == 'u';
        long low = pair ? hex4(t, 2) : -1;
        t->at += 6;
        code =
            low >= 0xdc00 && low <= 0xdfff ? 0x10000 + (code - 0xd800) * 0x400 + low - 0xdc00 : -1;
    }
    if (code >= 0) {
        put_utf8(out, n, code);
    }
    return code >= 0;
}

/* One character of UTF-8, decoded and looked at as a number. */
static bool take_character(st_tree *t, char *out, size_t *n)
{
    int c = ahead(t, 0), n_more = c < 0x80 ? 0 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    static const long least[] = {0x20, 0x80, 0x800, 0x10000};
    static const int mask[] = {0x7f, 0x1f, 0x0f, 0x07};
    long code = c & mask[n_more];
    for (int i = 1; i <= n_more; i++) {
        int more = ahead(t, (uint64_t)i);
        if (more < 0x80 || more > 0xbf) {
            return false;
        }
        code = code << 6 | (more & 0x3f);
    }
    if (c < 0 || (c >= 0x80 && c < 0xc0) || c > 0xf7 || code < least[n_more] || code > 0x10ffff ||
        (code >= 0xd800 && code <= 0xdfff)) {
        return false;
    }
    put_utf8(out, n, code);
    t->at += 1 + (uint64_t)n_more;
    return true;
}

/* At its quote. */
static bool take_string(st_tree *t, char **out, size_t *n)
{
    if (!take(t, '"')) {
        return false;
    }
    uint64_t room = t->n_bytes > t->at ? t->n_bytes - t->at : 0; /* no zero is in a string */
    *out = st_block(&t->blocks, (size_t)room + 8);
    *n = 0;
    while (ahead(t, 0) != '"') {
        if (!(ahead(t, 0) == '\\' ? take_escape(t, *out, n) : take_character(t, *out, n))) {
            return false;
        }
    }
    return take(t, '"');
}

/* --- numbers -------------------------------------------------------------------------------- */

static uint64_t take_digits(st_tree *t)
{
    uint64_t n = 0;
    while (ahead(t, 0) >= '0' && ahead(t, 0) <= '9') {
        t->at++;
        n++;
    }
    return n;
}

static bool take_number(st_tree *t, st_node *node)
{
    uint64_t start = t->at;
    bool minus = take(t, '-'), zero = ahead(t, 0) == '0';
    uint64_t n_digits = take_digits(t), whole_end = t->at;
    if (n_digits == 0 || (zero && n_digits > 1)) {
        return false;
    }
    if (take(t, '.') && take_digits(t) == 0) {
        return false;
    }
    if (take(t, 'e') || take(t, 'E')) {
        bool sign = take(t, '+') || take(t, '-');
        (void)sign;
        if (take_digits(t) == 0) {
            return false;
        }
    }
    node->is_u64 = !minus && t->at == whole_end;
    for (uint64_t i = start; node->is_u64 && i < whole_end; i++) {
        uint64_t digit = (uint64_t)(t->bytes[i] - '0');
        node->is_u64 = node->number <= (UINT64_MAX - digit) / 10;
        node->number = node->number * 10 + digit;
    }
    size_t n = (size_t)(t->at - start);
    char *copy = st_block(&t->blocks, n + 1);
    memcpy(copy, t->bytes + start, n);
    double value = fabs(strtod(copy, NULL));
    t->unsure = t->unsure || (value > DBL_MAX * (1 - 1e-12) && value <= DBL_MAX);
    return value <= DBL_MAX;
}

/* --- values --------------------------------------------------------------------------------- */

static st_node *take_value(st_tree *t, int depth);

static bool take_members(st_tree *t, st_node *node, int depth)
{
    bool object = node->kind == ST_OBJECT;
    st_node **last = &node->first;
    t->at++;
    skip_space(t);
    if (take(t, object ? '}' : ']')) {
        return true;
    }
    for (;;) {
        char *key = NULL;
        size_t key_bytes = 0;
        skip_space(t);
        if (object) {
            if (!take_string(t, &key, &key_bytes)) {
                return false;
            }
            skip_space(t);
            if (!take(t, ':')) {
                return false;
            }
        }
        st_node *member = take_value(t, depth + 1);
        if (!member) {
            return false;
        }
        member->key = key;
        member->key_bytes = key_bytes;
        *last = member;
        last = &member->next;
        skip_space(t);
        if (take(t, object ? '}' : ']')) {
            return true;
        }
        if (!take(t, ',')) {
            return false;
        }
    }
}

static st_node *take_value(st_tree *t, int depth)
{
    skip_space(t);
    int c = ahead(t, 0);
    st_node *node = st_block(&t->blocks, sizeof *node);
    bool good = false;
    if (c == '{' || c == '[') {
        node->kind = c == '{' ? ST_OBJECT : ST_ARRAY;
        good = depth <= MAX_DEPTH && take_members(t, node, depth);
    } else if (c == '"') {
        node->kind = ST_STRING;
        good = take_string(t, &node->text, &node->text_bytes);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        node->kind = ST_NUMBER;
        good = take_number(t, node);
    } else if (c == 't' || c == 'f') {
        node->kind = ST_BOOL;
        good = take_word(t, c == 't' ? "true" : "false");
    } else {
        node->kind = ST_NULL;
        good = take_word(t, "null");
    }
    return good ? node : NULL;
}

void st_tree_read(st_tree *t)
{
    t->root = take_value(t, 1);
    skip_space(t);
    if (ahead(t, 0) != -1) {
        t->root = NULL;
    }
}

int st_depth(const st_node *node)
{
    int deepest = 0;
    for (const st_node *inside = node->first; inside; inside = inside->next) {
        int depth = st_depth(inside);
        deepest = depth > deepest ? depth : deepest;
    }
    return node->kind == ST_ARRAY || node->kind == ST_OBJECT ? deepest + 1 : 0;
}

bool st_text_is(const char *text, size_t n_bytes, const char *word)
{
    return n_bytes == strlen(word) && memcmp(text, word, n_bytes) == 0;
}

/* names.c - reads the tables of names: wrappers off, Whisper's two schemes onto one, roles. */
#include "recipe/names.h"

#include <stdio.h>
#include <string.h>

#include "recipe/names_tables.h"

enum { MAX_LAYER_DIGITS = 6, MAX_COMPONENTS = 64 };

static const char *const ROLE_TEXTS[LORS_ROLE_COUNT] = {
    [LORS_ROLE_OTHER] = "other",
    [LORS_ROLE_ATTENTION_Q] = "attention.q",
    [LORS_ROLE_ATTENTION_K] = "attention.k",
    [LORS_ROLE_ATTENTION_V] = "attention.v",
    [LORS_ROLE_ATTENTION_OUT] = "attention.out",
    [LORS_ROLE_ATTENTION_QKV] = "attention.qkv",
    [LORS_ROLE_CROSS_Q] = "cross_attention.q",
    [LORS_ROLE_CROSS_K] = "cross_attention.k",
    [LORS_ROLE_CROSS_V] = "cross_attention.v",
    [LORS_ROLE_CROSS_OUT] = "cross_attention.out",
    [LORS_ROLE_MLP] = "mlp",
    [LORS_ROLE_EMBEDDING] = "embedding",
    [LORS_ROLE_POSITION] = "position",
    [LORS_ROLE_SINUSOID] = "sinusoid",
    [LORS_ROLE_NORM] = "norm",
    [LORS_ROLE_CONV] = "conv",
};

const char *lors_role_text(lors_role role)
{
    if ((unsigned)role >= (unsigned)LORS_ROLE_COUNT) {
        return ROLE_TEXTS[LORS_ROLE_OTHER];
    }
    return ROLE_TEXTS[role];
}

const char *lors_name_tied_to(const char *canonical)
{
    for (const lors_name_tie *tie = lors_name_ties; tie->name; tie++) {
        if (strcmp(tie->name, canonical) == 0) {
            return tie->tied_to;
        }
    }
    return NULL;
}

/* The number of a layer at the front of `text`: its digits (0: there is none) and its value. A
 * leading zero is none: "00" would otherwise become another tensor's name when it is rewritten. */
static size_t layer_number(const char *text, int32_t *layer)
{
    size_t n_digits = strspn(text, "0123456789");
    if (n_digits == 0 || n_digits > MAX_LAYER_DIGITS || (text[0] == '0' && n_digits > 1)) {
        return 0;
    }
    *layer = 0;
    for (size_t i = 0; i < n_digits; i++) {
        *layer = *layer * 10 + (text[i] - '0');
    }
    return n_digits;
}

/* Where the rest of a match lies, so that it can be written in the other scheme. */
typedef struct match {
    int32_t layer;
    const char *digits;
    size_t n_digits;
    const char *suffix;
} match;

static bool matches_pattern(const char *pattern, const char *name, match *found)
{
    *found = (match){.layer = -1};
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            found->digits = name;
            found->n_digits = layer_number(name, &found->layer);
            if (found->n_digits == 0) {
                return false;
            }
            name += found->n_digits;
        } else if (*pattern == '@') {
            found->suffix = name;
            return strcmp(name, "weight") == 0 || strcmp(name, "bias") == 0;
        } else if (*pattern == *name) {
            name++;
        } else {
            return false;
        }
    }
    return *name == '\0';
}

/* Either scheme, with or without "model." in front. */
static bool matches_row(const lors_whisper_name *row, const char *name, match *found)
{
    const char *bare = strncmp(name, "model.", 6) == 0 ? name + 6 : name;
    if (strncmp(row->canonical, "model.", 6) == 0) {
        return matches_pattern(row->canonical + 6, bare, found)
               || (row->openai && matches_pattern(row->openai, bare, found));
    }
    return matches_pattern(row->canonical, name, found);
}

typedef struct writer {
    char *out;
    size_t length;
} writer;

static void put(writer *to, const char *bytes, size_t n_bytes)
{
    size_t room = (size_t)LORS_NAME_MAX - 1 - to->length;
    if (n_bytes > room) {
        n_bytes = room;
    }
    memcpy(to->out + to->length, bytes, n_bytes);
    to->length += n_bytes;
    to->out[to->length] = '\0';
}

static bool describe_whisper(const char *name, lors_tensor_name *out)
{
    match found;
    const lors_whisper_name *row = lors_whisper_names;
    while (row->canonical && !matches_row(row, name, &found)) {
        row++;
    }
    if (!row->canonical) {
        return false;
    }
    writer to = {out->canonical, 0};
    for (const char *p = row->canonical; *p; p++) {
        if (*p == '#') {
            put(&to, found.digits, found.n_digits);
        } else if (*p == '@') {
            put(&to, found.suffix, strlen(found.suffix));
        } else {
            put(&to, p, 1);
        }
    }
    out->role = row->role;
    out->stack = row->stack;
    out->layer = found.layer;
    out->layer_at = found.digits ? (int32_t)(found.digits - name) : 0;
    out->layer_bytes = (int32_t)found.n_digits;
    return true;
}

/* One component of a name: bytes between dots. */
typedef struct part {
    const char *bytes;
    size_t n_bytes;
} part;

static bool part_is(part p, const char *word)
{
    return strlen(word) == p.n_bytes && memcmp(p.bytes, word, p.n_bytes) == 0;
}

static int split(const char *name, part parts[MAX_COMPONENTS])
{
    int n = 0;
    for (const char *start = name; n < MAX_COMPONENTS; n++) {
        const char *dot = strchr(start, '.');
        parts[n] = (part){start, dot ? (size_t)(dot - start) : strlen(start)};
        if (!dot) {
            return n + 1;
        }
        start = dot + 1;
    }
    return n; /* deeper than any model we know: the front is enough for stack and layer */
}

static bool part_matches(part p, part pattern)
{
    if (pattern.n_bytes == 1 && pattern.bytes[0] == '#') {
        int32_t number;
        return p.n_bytes > 0 && layer_number(p.bytes, &number) == p.n_bytes;
    }
    if (pattern.bytes[0] == '*') {
        size_t rest = pattern.n_bytes - 1;
        return p.n_bytes >= rest
               && memcmp(p.bytes + p.n_bytes - rest, pattern.bytes + 1, rest) == 0;
    }
    return p.n_bytes == pattern.n_bytes && memcmp(p.bytes, pattern.bytes, p.n_bytes) == 0;
}

static bool matches_tail(const part *parts, int n, const char *tail)
{
    part pattern[MAX_COMPONENTS];
    int m = split(tail, pattern);
    if (m > n) {
        return false;
    }
    for (int i = 0; i < m; i++) {
        if (!part_matches(parts[n - m + i], pattern[i])) {
            return false;
        }
    }
    return true;
}

static lors_role role_of_parts(const part *parts, int n)
{
    if (n > 1 && (part_is(parts[n - 1], "weight") || part_is(parts[n - 1], "bias"))) {
        n--;
    }
    for (const lors_name_tail *row = lors_name_tails; row->tail; row++) {
        if (matches_tail(parts, n, row->tail)) {
            return row->role;
        }
    }
    return LORS_ROLE_OTHER;
}

static bool is_layer_word(part p)
{
    for (const char *const *word = lors_layer_words; *word; word++) {
        if (part_is(p, *word)) {
            return true;
        }
    }
    return false;
}

static void describe_other(const char *name, lors_tensor_name *out)
{
    writer to = {out->canonical, 0};
    put(&to, name, strlen(name));
    part parts[MAX_COMPONENTS];
    int n = split(name, parts);
    out->role = role_of_parts(parts, n);
    for (int i = 0; i < n; i++) {
        if (out->stack == LORS_STACK_NONE && part_is(parts[i], "encoder")) {
            out->stack = LORS_STACK_ENCODER;
        } else if (out->stack == LORS_STACK_NONE && part_is(parts[i], "decoder")) {
            out->stack = LORS_STACK_DECODER;
        }
        int32_t layer;
        if (out->layer < 0 && i + 1 < n && is_layer_word(parts[i])
            && layer_number(parts[i + 1].bytes, &layer) == parts[i + 1].n_bytes
            && parts[i + 1].n_bytes > 0) {
            out->layer = layer;
            out->layer_at = (int32_t)(parts[i + 1].bytes - name);
            out->layer_bytes = (int32_t)parts[i + 1].n_bytes;
        }
    }
}

/* Data-parallel training and torch.compile put these in front of every name. */
static const char *without_wrappers(const char *name)
{
    for (;;) {
        if (strncmp(name, "module.", 7) == 0) {
            name += 7;
        } else if (strncmp(name, "_orig_mod.", 10) == 0) {
            name += 10;
        } else {
            return name;
        }
    }
}

static bool ends_in_bias(const char *name)
{
    size_t n = strlen(name);
    return n >= 4 && memcmp(name + n - 4, "bias", 4) == 0;
}

void lors_name_describe(const char *name, lors_tensor_name *out)
{
    *out = (lors_tensor_name){.role = LORS_ROLE_OTHER, .stack = LORS_STACK_NONE, .layer = -1};
    const char *bare = without_wrappers(name);
    out->is_weight = !ends_in_bias(bare);
    if (!describe_whisper(bare, out)) {
        describe_other(bare, out);
    }
    out->layer_at += (int32_t)(bare - name);
}

static bool ends_with_one_of(const char *name, const char *const *tails)
{
    part parts[MAX_COMPONENTS];
    int n = split(name, parts);
    if (n > 1 && (part_is(parts[n - 1], "weight") || part_is(parts[n - 1], "bias"))) {
        n--;
    }
    while (*tails && !matches_tail(parts, n, *tails)) {
        tails++;
    }
    return *tails != NULL;
}

bool lors_name_is_behind(const lors_tensor_name *described)
{
    bool norm = described->role == LORS_ROLE_NORM
                && !ends_with_one_of(described->canonical, lors_norms_before);
    return norm || ends_with_one_of(described->canonical, lors_tails_behind);
}

void lors_name_with_layer(const char *name, const lors_tensor_name *described, int32_t layer,
                          char out[LORS_NAME_MAX + 16])
{
    snprintf(out, LORS_NAME_MAX + 16, "%.*s%d%s", (int)described->layer_at, name, (int)layer,
             name + described->layer_at + described->layer_bytes);
}

/* selector.c - reads selectors ("encoder & attention", "layers: 0-3", "regex:fc[12]") and applies
 * them to tensors. */
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "recipe/scope.h"

enum {
    MAX_SELECTOR_BYTES = 512,
    MAX_PATTERN_BYTES = 256,
    MAX_PATTERN_NODES = 2048
};

#define BIT(role) (1u << LORS_ROLE_##role)
#define SELF_BITS                                                                     \
    (BIT(ATTENTION_Q) | BIT(ATTENTION_K) | BIT(ATTENTION_V) | BIT(ATTENTION_OUT)      \
     | BIT(ATTENTION_QKV))
#define CROSS_BITS (BIT(CROSS_Q) | BIT(CROSS_K) | BIT(CROSS_V) | BIT(CROSS_OUT))

/* A word selects roles, or a stack, or needs reading of its own (neither). */
typedef struct word_row {
    const char *word;
    uint32_t roles;
    lors_stack stack;
} word_row;

static const word_row WORDS[] = {
    {"attention", SELF_BITS | CROSS_BITS, LORS_STACK_NONE},
    {"attention.q", BIT(ATTENTION_Q) | BIT(CROSS_Q), LORS_STACK_NONE},
    {"attention.k", BIT(ATTENTION_K) | BIT(CROSS_K), LORS_STACK_NONE},
    {"attention.v", BIT(ATTENTION_V) | BIT(CROSS_V), LORS_STACK_NONE},
    {"attention.out", BIT(ATTENTION_OUT) | BIT(CROSS_OUT), LORS_STACK_NONE},
    {"attention.qkv", BIT(ATTENTION_QKV), LORS_STACK_NONE},
    {"self_attention", SELF_BITS, LORS_STACK_NONE},
    {"self_attention.q", BIT(ATTENTION_Q), LORS_STACK_NONE},
    {"self_attention.k", BIT(ATTENTION_K), LORS_STACK_NONE},
    {"self_attention.v", BIT(ATTENTION_V), LORS_STACK_NONE},
    {"self_attention.out", BIT(ATTENTION_OUT), LORS_STACK_NONE},
    {"self_attention.qkv", BIT(ATTENTION_QKV), LORS_STACK_NONE},
    {"cross_attention", CROSS_BITS, LORS_STACK_NONE},
    {"cross_attention.q", BIT(CROSS_Q), LORS_STACK_NONE},
    {"cross_attention.k", BIT(CROSS_K), LORS_STACK_NONE},
    {"cross_attention.v", BIT(CROSS_V), LORS_STACK_NONE},
    {"cross_attention.out", BIT(CROSS_OUT), LORS_STACK_NONE},
    {"mlp", BIT(MLP), LORS_STACK_NONE},
    {"embedding", BIT(EMBEDDING), LORS_STACK_NONE},
    {"position", BIT(POSITION) | BIT(SINUSOID), LORS_STACK_NONE},
    {"norm", BIT(NORM), LORS_STACK_NONE},
    {"conv", BIT(CONV), LORS_STACK_NONE},
    {"encoder", 0, LORS_STACK_ENCODER},
    {"decoder", 0, LORS_STACK_DECODER},
    {"layers:", 0, LORS_STACK_NONE},
    {"regex:", 0, LORS_STACK_NONE},
    {"*", 0, LORS_STACK_NONE},
};
enum { N_WORDS = sizeof WORDS / sizeof WORDS[0] };

typedef enum term_kind { TERM_ALL, TERM_ROLES, TERM_STACK, TERM_LAYERS, TERM_REGEX, TERM_SUBSTRING }
    term_kind;

typedef struct term {
    term_kind kind;
    bool negate;
    uint32_t roles;
    lors_stack stack;
    int32_t from, to;
    char *text;
    regex_t regex;
    bool has_regex;
} term;

struct lors_selector {
    int32_t n_terms;
    term terms[]; /* all must hold */
};

const char *lors_selector_word(int32_t index)
{
    return index >= 0 && index < N_WORDS ? WORDS[index].word : NULL;
}

static const char *word_at(size_t i, const void *context)
{
    (void)context;
    return i < N_WORDS ? WORDS[i].word : NULL;
}

static lors_status fail_unknown(const char *word)
{
    char shown[LORS_ESCAPED_MAX];
    lors_escape_text(word, shown);
    if (strchr(word, ',')) {
        return lors_fail(LORS_ERR_RECIPE, "unknown selector '%s': write several as a list, "
                         "[attention, mlp]", shown);
    }
    const char *near = lors_nearest(word, word_at, NULL);
    return lors_fail(LORS_ERR_RECIPE,
                     "unknown selector '%s'%s%s%s (allowed: attention, self_attention and "
                     "cross_attention, each also with .q .k .v .out; mlp, embedding, position, "
                     "norm, conv, encoder, decoder, layers: A-B, regex:PATTERN, *)",
                     shown, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* A layer's number at *text, which moves behind it; false: there is none. */
static bool read_layer(const char **text, int32_t *out)
{
    size_t n_digits = strspn(*text, "0123456789");
    if (n_digits == 0 || n_digits > 6) {
        return false;
    }
    *out = (int32_t)strtol(*text, NULL, 10);
    *text += n_digits;
    return true;
}

static lors_status parse_layers(const char *text, term *out)
{
    char shown[LORS_ESCAPED_MAX];
    const char *p = text + strspn(text, " ");
    out->kind = TERM_LAYERS;
    bool good = read_layer(&p, &out->from);
    out->to = out->from;
    p += strspn(p, " ");
    if (good && *p == '-') {
        p += 1 + strspn(p + 1, " ");
        good = read_layer(&p, &out->to);
        p += strspn(p, " ");
    }
    if (!good || *p) {
        return lors_fail(LORS_ERR_RECIPE, "'layers:%s' is not a range of layers (write layers: "
                         "0-3, both ends included, or layers: 3; the first layer is 0)",
                         lors_escape_text(text, shown));
    }
    if (out->to < out->from) {
        return lors_fail(LORS_ERR_RECIPE, "'layers: %d-%d' is reversed (write layers: %d-%d)",
                         out->from, out->to, out->to, out->from);
    }
    return LORS_OK;
}

/* Behind a bracket expression, whose first byte `p` points at: "[]a-z[:digit:]]". */
static const char *skip_bracket(const char *p)
{
    p++;
    p += *p == '^';
    p += *p == ']';
    while (*p && *p != ']') {
        if (*p == '[' && p[1] && strchr(":.=", p[1])) {
            const char close[3] = {p[1], ']', '\0'};
            const char *end = strstr(p + 2, close);
            p = end ? end + 2 : p + strlen(p);
        } else {
            p++;
        }
    }
    return *p ? p + 1 : p;
}

/* How often regcomp copies what stands before a "+" (2) or "{m,n}" (the largest bound and one). */
static double copies(const char *p)
{
    double most = 1;
    while (*p == '{' && *++p && *p != '}') {
        for (; *p && *p != '}'; p++) {
            double number = *p >= '0' && *p <= '9' ? (double)strtol(p, NULL, 10) : 0;
            most = number > most ? number : most;
        }
    }
    return most + 1;
}

/* An upper bound of the nodes that regcomp makes of a pattern: sums along it, and each repeat
 * multiplies the element before it. depth[i] is the sum so far in the i-th open group. */
static double pattern_nodes(const char *p)
{
    double depth[MAX_PATTERN_BYTES + 1] = {0}, last = 0;
    int level = 0;
    while (*p) {
        if (*p == '+' || *p == '{') {
            last *= copies(p++);
            continue;
        }
        if (*p == ')' && level > 0) {
            last += depth[level--] + 1;
            p++;
            continue;
        }
        depth[level] += last;
        last = 1;
        if (*p == '(') {
            depth[++level] = 0;
            last = 0;
            p++;
        } else if (*p == '[') {
            p = skip_bracket(p);
        } else {
            p += *p == '\\' && p[1] ? 2 : 1;
        }
    }
    for (; level >= 0; level--) {
        last += depth[level];
    }
    return last;
}

/* A shared recipe must not be able to use up memory or time: backreferences make the matcher
 * exponential, and regcomp writes repeats out, nested ones as their product: "((a+)+)+". */
static lors_status check_pattern(const char *pattern)
{
    if (strlen(pattern) > MAX_PATTERN_BYTES) {
        return lors_fail(LORS_ERR_RECIPE, "the pattern has %zu bytes (allowed: up to %d)",
                         strlen(pattern), MAX_PATTERN_BYTES);
    }
    for (const char *p = pattern; *p; p++) {
        p += *p == '\\' && p[1];
        if (p > pattern && p[-1] == '\\' && *p >= '1' && *p <= '9') {
            return lors_fail(LORS_ERR_RECIPE,
                             "the pattern holds the backreference '\\%c', which is not supported",
                             *p);
        }
    }
    if (pattern_nodes(pattern) > MAX_PATTERN_NODES) {
        return lors_fail(LORS_ERR_RECIPE, "the pattern nests or repeats too much: use fewer '+' "
                         "and {m,n} inside each other");
    }
    return LORS_OK;
}

static lors_status parse_regex(const char *pattern, term *out)
{
    char shown[LORS_ESCAPED_MAX];
    out->kind = TERM_REGEX;
    if (!*pattern) {
        return lors_fail(LORS_ERR_RECIPE, "'regex:' needs a pattern (such as regex:fc[12])");
    }
    LORS_TRY(check_pattern(pattern));
    int code = regcomp(&out->regex, pattern, REG_EXTENDED | REG_NOSUB);
    if (code == REG_ESPACE) {
        return lors_fail(LORS_ERR_LIMIT, "cannot allocate memory for a regular expression");
    }
    if (code != 0) {
        char reason[128];
        regerror(code, &out->regex, reason, sizeof reason);
        return lors_fail(LORS_ERR_RECIPE, "'%s' is not a POSIX extended regular expression: %s",
                         lors_escape_text(pattern, shown), reason);
    }
    out->has_regex = true;
    return LORS_OK;
}

static lors_status parse_substring(const char *text, term *out)
{
    out->kind = TERM_SUBSTRING;
    out->text = lors_copy_text(text);
    return out->text ? LORS_OK : lors_fail_memory(strlen(text) + 1);
}

/* `text` has no spaces around it and no leading "!". */
static lors_status parse_term(const char *text, bool allow_substring, term *out)
{
    if (!*text) {
        return lors_fail(LORS_ERR_RECIPE, "a selector is empty");
    }
    if (strncmp(text, "layers:", 7) == 0) {
        return parse_layers(text + 7, out);
    }
    if (strncmp(text, "regex:", 6) == 0) {
        const char *pattern = text + 6;
        return parse_regex(pattern + strspn(pattern, " "), out);
    }
    if (strcmp(text, "*") == 0) {
        out->kind = TERM_ALL;
        return LORS_OK;
    }
    for (int i = 0; i < N_WORDS; i++) {
        if (strcmp(WORDS[i].word, text) == 0) {
            out->kind = WORDS[i].roles ? TERM_ROLES : TERM_STACK;
            out->roles = WORDS[i].roles;
            out->stack = WORDS[i].stack;
            return LORS_OK;
        }
    }
    return allow_substring ? parse_substring(text, out) : fail_unknown(text);
}

/* The end of the term at `text`: the next "&", but a pattern runs to the end of the selector. */
static char *term_end(char *text)
{
    const char *start = text + strspn(text, " !");
    if (strncmp(start, "regex:", 6) == 0) {
        return text + strlen(text);
    }
    return text + strcspn(text, "&");
}

static lors_status parse_terms(char *text, bool allow_substring, lors_selector *out)
{
    for (char *p = text;;) {
        char *end = term_end(p);
        bool last = *end == '\0';
        *end = '\0';
        term *next = &out->terms[out->n_terms++];
        while (*p == ' ' || *p == '!') {
            next->negate ^= *p == '!';
            p++;
        }
        for (char *tail = end; tail > p && tail[-1] == ' '; tail--) {
            tail[-1] = '\0';
        }
        LORS_TRY(parse_term(p, allow_substring, next));
        if (last) {
            return LORS_OK;
        }
        p = end + 1;
    }
}

lors_status lors_selector_parse(const char *text, bool allow_substring, lors_selector **out)
{
    *out = NULL;
    size_t n_bytes = strlen(text), n_terms = 1;
    if (n_bytes > MAX_SELECTOR_BYTES) {
        return lors_fail(LORS_ERR_RECIPE, "a selector has %zu bytes (allowed: up to %d)", n_bytes,
                         MAX_SELECTOR_BYTES);
    }
    for (const char *p = text; *p; p++) {
        n_terms += *p == '&';
    }
    size_t total_bytes = sizeof(lors_selector) + n_terms * sizeof(term);
    lors_selector *selector = lors_new(1, total_bytes);
    char *copy = lors_copy_text(text);
    lors_status status = LORS_OK;
    if (!selector || !copy) {
        status = lors_fail_memory(selector ? n_bytes + 1 : total_bytes);
    } else {
        status = parse_terms(copy, allow_substring, selector);
    }
    lors_free(copy);
    if (status != LORS_OK) {
        lors_selector_free(selector);
        return status;
    }
    *out = selector;
    return LORS_OK;
}

static bool term_matches(const term *t, const lors_subject *subject)
{
    const lors_tensor_name *name = subject->described;
    switch (t->kind) {
    case TERM_ALL: return true;
    case TERM_ROLES: return (t->roles >> name->role) & 1u;
    case TERM_STACK: return name->stack == t->stack;
    case TERM_LAYERS: return name->layer >= t->from && name->layer <= t->to;
    case TERM_REGEX:
        return regexec(&t->regex, subject->name, 0, NULL, 0) == 0
               || regexec(&t->regex, name->canonical, 0, NULL, 0) == 0;
    default: return strstr(subject->name, t->text) != NULL; /* TERM_SUBSTRING */
    }
}

bool lors_selector_matches(const lors_selector *selector, const lors_subject *subject)
{
    for (int32_t i = 0; i < selector->n_terms; i++) {
        const term *t = &selector->terms[i];
        if (term_matches(t, subject) == t->negate) {
            return false;
        }
    }
    return true;
}

void lors_selector_free(lors_selector *selector)
{
    if (!selector) {
        return;
    }
    for (int32_t i = 0; i < selector->n_terms; i++) {
        if (selector->terms[i].has_regex) {
            regfree(&selector->terms[i].regex);
        }
        lors_free(selector->terms[i].text);
    }
    lors_free(selector);
}

/* recipe_yaml.c - builds the tree of recipe_yaml.h from libfyaml's events.
 *
 * Events and not libfyaml's documents: so that depth, size, aliases and duplicate keys are limited
 * while the text is read, and nothing is expanded, resolved or printed on our behalf.
 */
#include "recipe/recipe_yaml.h"

#include <assert.h>
#include <libfyaml.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

enum { MAX_DEPTH = 64, MAX_ALIASES = 64, MAX_NODES = 20000, MAX_DOCUMENTS = 100 };

/* A map or list that is being filled. */
typedef struct frame {
    lors_yaml *node;
    const char *key; /* read, its value still to come */
    lors_place key_place;
} frame;

typedef struct anchor {
    const char *name;
    lors_yaml *node;
    struct anchor *next; /* the latest first: a name may be used again */
} anchor;

typedef struct builder {
    const char *label;
    const char *text;
    size_t n_bytes;
    bool with_places;
    lors_arena *arena;
    lors_yaml *root, *last_root;
    frame frames[MAX_DEPTH];
    int depth;
    anchor *anchors;
    int32_t n_nodes, n_aliases, n_documents;
    lors_place start; /* of the document, where it is marked */
} builder;

static const lors_place NOWHERE = {0, 0};

static lors_place place_of(const builder *b, const struct fy_mark *mark)
{
    if (!mark || !b->with_places) {
        return NOWHERE;
    }
    return (lors_place){mark->line + 1, mark->column + 1};
}

#define FAIL(b, where, ...) lors_recipe_fail((b)->label, (where), NULL, __VA_ARGS__)

/* ---- text ---- */

/* Bytes of the character at `p`: 0 if it is not valid UTF-8. */
static size_t character_bytes(const char *p, size_t n_left)
{
    for (size_t n = 1; n <= 4 && n <= n_left; n++) {
        if (lors_utf8_valid(p, n)) {
            return n;
        }
    }
    return 0;
}

static lors_status check_text(const builder *b, const char *text, size_t n_bytes)
{
    lors_place at = {1, 1};
    if (n_bytes >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0)) {
        return FAIL(b, at, "the text is UTF-16: save it as UTF-8");
    }
    for (size_t i = 0, n; i < n_bytes; i += n) {
        unsigned char c = (unsigned char)text[i];
        n = c < 0x80 ? 1 : character_bytes(text + i, n_bytes - i);
        lors_place where = b->with_places ? at : NOWHERE;
        if (n == 0) {
            return FAIL(b, where, "the byte 0x%02x is not UTF-8: save the text as UTF-8", c);
        }
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
            return FAIL(b, where, "the control character 0x%02x is not allowed%s", c,
                        c == 0 ? " (is the text UTF-16? save it as UTF-8)" : "");
        }
        at.column++;
        if (c == '\n' || (c == '\r' && (i + 1 == n_bytes || text[i + 1] != '\n'))) {
            at = (lors_place){at.line + 1, 1};
        }
    }
    return LORS_OK;
}

/* A copy in which spaces stand for tabs: libfyaml 0.7 crashes on some tabs behind a colon. A tab
 * that indents is refused, as YAML does, but within JSON it means nothing. */
static lors_status without_tabs(builder *b)
{
    char *copy = lors_arena_copy(b->arena, b->text, b->n_bytes);
    if (!copy) {
        return lors_fail_memory(b->n_bytes + 1);
    }
    char root = copy[strspn(copy, " \t\r\n")];
    bool json = root == '{' || root == '[', indents = true;
    lors_place at = {1, 1};
    for (size_t i = 0; i < b->n_bytes; i++, at.column++) {
        if (copy[i] == '\n') {
            at = (lors_place){at.line + 1, 0};
            indents = true;
        } else if (copy[i] == '\t') {
            char next = copy[i + strspn(copy + i, " \t\r")];
            if (indents && !json && next != '\n' && next != '\0' && next != '#') {
                return FAIL(b, b->with_places ? at : NOWHERE,
                            "a tab indents this line: use spaces");
            }
            copy[i] = ' ';
        } else {
            indents = indents && copy[i] == ' ';
        }
    }
    b->text = copy;
    return LORS_OK;
}

/* ---- nodes ---- */

static lors_status new_node(builder *b, lors_yaml_kind kind, const struct fy_mark *mark,
                            lors_yaml **out)
{
    lors_place place = place_of(b, mark);
    if (++b->n_nodes > MAX_NODES) {
        return FAIL(b, place, "a recipe may have at most %d values, aliases written out",
                    MAX_NODES);
    }
    *out = lors_arena_alloc(b->arena, sizeof **out);
    if (!*out) {
        return lors_fail_memory(sizeof **out);
    }
    (*out)->kind = kind;
    (*out)->place = place;
    (*out)->n_nodes = 1;
    return LORS_OK;
}

/* An empty text where there is no token. libfyaml gives one of 0 bytes, too, where it has no memory
 * for the text. */
static lors_status read_token(struct fy_token *token, const char **bytes, size_t *n_bytes)
{
    *bytes = "";
    *n_bytes = 0;
    if (token) {
        *bytes = fy_token_get_text(token, n_bytes);
        if (*n_bytes != fy_token_get_text_length(token)) {
            return lors_fail(LORS_ERR_LIMIT, "cannot allocate memory to read YAML");
        }
    }
    return LORS_OK;
}

static lors_status copy_token(builder *b, struct fy_token *token, const char **out)
{
    size_t n_bytes;
    const char *bytes;
    LORS_TRY(read_token(token, &bytes, &n_bytes));
    *out = lors_arena_copy(b->arena, bytes, n_bytes);
    return *out ? LORS_OK : lors_fail_memory(n_bytes + 1);
}

static lors_status keep_anchor(builder *b, struct fy_token *token, lors_yaml *node)
{
    if (!token) {
        return LORS_OK;
    }
    anchor *next = lors_arena_alloc(b->arena, sizeof *next);
    if (!next) {
        return lors_fail_memory(sizeof *next);
    }
    LORS_TRY(copy_token(b, token, &next->name));
    next->node = node;
    next->next = b->anchors;
    b->anchors = next;
    return LORS_OK;
}

/* The next value of the innermost map is a key. */
static lors_status take_key(builder *b, frame *top, const lors_yaml *node)
{
    char shown[LORS_ESCAPED_MAX];
    if (node->kind != LORS_YAML_SCALAR) {
        return FAIL(b, node->place, "a key must be text, not a list or a map");
    }
    if (strcmp(node->text, "<<") == 0) {
        return FAIL(b, node->place, "merge keys ('<<') are not supported: write the keys out");
    }
    for (const lors_yaml_item *item = top->node->first; item; item = item->next) {
        if (strcmp(item->key, node->text) == 0) {
            lors_escape_text(node->text, shown);
            if (!b->with_places) {
                return FAIL(b, node->place, "duplicate key '%s'", shown);
            }
            return FAIL(b, node->place, "duplicate key '%s' (first in line %d): remove one", shown,
                        item->place.line);
        }
    }
    top->key = node->text;
    top->key_place = node->place;
    if (top->node->n_items == 0 && top->key_place.line == top->node->place.line
        && top->key_place.column < top->node->place.column) {
        top->node->place = top->key_place; /* libfyaml puts [a: b] at its colon */
    }
    return LORS_OK;
}

/* Hang a complete node into the innermost open one. */
static lors_status attach(builder *b, lors_yaml *node)
{
    if (b->depth == 0) {
        if (b->last_root) {
            b->last_root->next_document = node;
        }
        b->root = b->root ? b->root : node;
        b->last_root = node;
        return LORS_OK;
    }
    frame *top = &b->frames[b->depth - 1];
    if (top->node->kind == LORS_YAML_MAP && !top->key) {
        return take_key(b, top, node);
    }
    lors_yaml_item *item = lors_arena_alloc(b->arena, sizeof *item);
    if (!item) {
        return lors_fail_memory(sizeof *item);
    }
    item->key = top->key;
    item->place = top->key ? top->key_place : node->place;
    item->value = node;
    if (top->node->last) {
        top->node->last->next = item;
    } else {
        top->node->first = item;
    }
    top->node->last = item;
    top->node->n_items++;
    top->node->n_nodes += node->n_nodes;
    top->node->n_aliases += node->n_aliases;
    top->key = NULL;
    return LORS_OK;
}

/* ---- events ---- */

static lors_status refuse_tag(const builder *b, struct fy_token *tag, const struct fy_mark *mark)
{
    if (!tag) {
        return LORS_OK;
    }
    const struct fy_mark *at = fy_token_start_mark(tag);
    return FAIL(b, place_of(b, at ? at : mark),
                "tags ('!...') are not supported: remove it, or put text that begins with '!' in "
                "quotes");
}

/* A value that is not there stands where its key does. */
static lors_place place_of_nothing(const builder *b)
{
    if (b->depth == 0) {
        return b->start.line > 0 ? b->start : (lors_place){b->with_places, b->with_places};
    }
    const frame *top = &b->frames[b->depth - 1];
    return top->key ? top->key_place : top->node->place;
}

/* Refuse what spans lines, which no value of a recipe has to: libfyaml 0.7 leaks for some of it. */
static lors_status check_one_line(const builder *b, struct fy_token *value, lors_place place)
{
    const struct fy_mark *start = fy_token_start_mark(value), *end = fy_token_end_mark(value);
    enum fy_scalar_style style = fy_token_scalar_style(value);
    bool block = style == FYSS_LITERAL || style == FYSS_FOLDED;
    if (block || (start && end && start->line != end->line)) {
        return FAIL(b, place, "a value must be on one line");
    }
    return LORS_OK;
}

/* Text with doubled quotes in it is read here, because libfyaml 0.7 leaks for some of it, too.
 * *out stays NULL where libfyaml should read the scalar. */
static lors_status read_doubled_quotes(builder *b, struct fy_token *value, const char **out)
{
    const struct fy_mark *start = fy_token_start_mark(value), *end = fy_token_end_mark(value);
    *out = NULL;
    if (fy_token_scalar_style(value) != FYSS_SINGLE_QUOTED || !start || !end
        || end->input_pos > b->n_bytes || start->input_pos > end->input_pos) {
        return LORS_OK;
    }
    const char *raw = b->text + start->input_pos; /* without the quotes around it */
    size_t n_bytes = end->input_pos - start->input_pos, length = 0;
    char *text = lors_arena_copy(b->arena, raw, n_bytes);
    if (!text) {
        return lors_fail_memory(n_bytes + 1);
    }
    for (size_t i = 0; i < n_bytes; i++) {
        text[length++] = raw[i];
        i += raw[i] == '\''; /* its twin */
    }
    text[length] = '\0';
    *out = text;
    return LORS_OK;
}

/* The text of a scalar, whoever reads it. */
static lors_status read_scalar_text(builder *b, struct fy_token *value, lors_place place,
                                    const char **out)
{
    LORS_TRY(check_one_line(b, value, place));
    LORS_TRY(read_doubled_quotes(b, value, out));
    if (*out) {
        return LORS_OK;
    }
    size_t n_bytes;
    const char *bytes;
    LORS_TRY(read_token(value, &bytes, &n_bytes));
    if (memchr(bytes, '\0', n_bytes)) {
        return FAIL(b, place, "text may not hold a NUL");
    }
    return copy_token(b, value, out);
}

static lors_status on_scalar(builder *b, struct fy_event *event, const struct fy_mark *mark)
{
    lors_yaml *node;
    struct fy_token *value = event->scalar.value;
    enum fy_scalar_style style = fy_token_scalar_style(value);
    LORS_TRY(refuse_tag(b, event->scalar.tag, mark));
    LORS_TRY(new_node(b, LORS_YAML_SCALAR, mark, &node));
    if (!mark) {
        node->place = place_of_nothing(b);
    } else if (style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED) {
        node->place.column -= node->place.column > 1; /* libfyaml's mark is behind the quote */
    }
    LORS_TRY(read_scalar_text(b, value, node->place, &node->text));
    node->plain = style == FYSS_PLAIN;
    LORS_TRY(keep_anchor(b, event->scalar.anchor, node));
    return attach(b, node);
}

static lors_status on_open(builder *b, lors_yaml_kind kind, struct fy_token *tag,
                           struct fy_token *name, const struct fy_mark *mark)
{
    lors_yaml *node;
    LORS_TRY(refuse_tag(b, tag, mark));
    LORS_TRY(new_node(b, kind, mark, &node));
    if (b->depth == MAX_DEPTH) {
        return FAIL(b, node->place, "lists and maps are nested too deeply (allowed: %d levels)",
                    MAX_DEPTH);
    }
    LORS_TRY(keep_anchor(b, name, node));
    node->open = true;
    b->frames[b->depth++] = (frame){.node = node};
    return LORS_OK;
}

static lors_status on_close(builder *b)
{
    lors_yaml *node = b->frames[--b->depth].node;
    node->open = false;
    return attach(b, node);
}

static lors_status on_alias(builder *b, struct fy_event *event, const struct fy_mark *mark)
{
    const char *name;
    char shown[LORS_ESCAPED_MAX];
    lors_place place = place_of(b, mark);
    place.column -= place.column > 1; /* libfyaml's mark is behind the asterisk */
    LORS_TRY(copy_token(b, event->alias.anchor, &name));
    lors_escape_text(name, shown);
    anchor *found = b->anchors;
    while (found && strcmp(found->name, name) != 0) {
        found = found->next;
    }
    if (!found) {
        return FAIL(b, place, "the alias '*%s' has no anchor '&%s' before it (put a '*' that means "
                    "everything in quotes)", shown, shown);
    }
    if (found->node->open) {
        return FAIL(b, place, "the alias '*%s' lies inside what it stands for", shown);
    }
    b->n_aliases += 1 + found->node->n_aliases;
    b->n_nodes += found->node->n_nodes;
    if (b->n_aliases > MAX_ALIASES) {
        return FAIL(b, place, "too many aliases (allowed: %d, those within aliases counted)",
                    MAX_ALIASES);
    }
    if (b->n_nodes > MAX_NODES) {
        return FAIL(b, place, "a recipe may have at most %d values, aliases written out",
                    MAX_NODES);
    }
    LORS_TRY(attach(b, found->node));
    assert(b->depth > 0); /* a document that is an alias has no anchor before it */
    b->frames[b->depth - 1].node->n_aliases++;
    return LORS_OK;
}

static lors_status on_event(builder *b, struct fy_event *event)
{
    const struct fy_mark *mark = fy_event_start_mark(event);
    /* One without "---" has no mark of its own: its first value tells where it begins. */
    int32_t n_documents = b->n_documents + (event->type == FYET_DOCUMENT_START);
    bool marked = mark || event->type != FYET_DOCUMENT_START;
    if (marked && n_documents > (b->with_places ? MAX_DOCUMENTS : 1)) {
        return b->with_places ? FAIL(b, place_of(b, mark), "more than %d documents", MAX_DOCUMENTS)
                              : FAIL(b, place_of(b, mark), "a second document begins here: a value "
                                     "is one document");
    }
    switch (event->type) {
    case FYET_DOCUMENT_START:
        b->n_documents++;
        b->start = place_of(b, mark);
        b->anchors = NULL; /* those of a document are its own */
        return LORS_OK;
    case FYET_SCALAR: return on_scalar(b, event, mark);
    case FYET_ALIAS: return on_alias(b, event, mark);
    case FYET_SEQUENCE_START:
        return on_open(b, LORS_YAML_LIST, event->sequence_start.tag, event->sequence_start.anchor,
                       mark);
    case FYET_MAPPING_START:
        return on_open(b, LORS_YAML_MAP, event->mapping_start.tag, event->mapping_start.anchor,
                       mark);
    case FYET_SEQUENCE_END:
    case FYET_MAPPING_END: return on_close(b);
    default: return LORS_OK;
    }
}

/* libfyaml stops at a version that it does not know without collecting an error. */
static bool find_version(const builder *b, lors_place *place)
{
    *place = (lors_place){1, 1};
    for (const char *line = b->text; *line == '%' || *line == '#' || *line == '\n'; place->line++) {
        if (strncmp(line, "%YAML", 5) == 0) {
            return true;
        }
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return false;
}

/* The first error that libfyaml collected. */
static lors_status fail_syntax(const builder *b, struct fy_diag *diag)
{
    void *position = NULL;
    char shown[LORS_ESCAPED_MAX];
    const struct fy_diag_error *error;
    while ((error = fy_diag_errors_iterate(diag, &position)) != NULL) {
        if (error->type == FYET_ERROR && error->msg) {
            lors_place place = NOWHERE;
            if (b->with_places && error->line > 0) {
                place = (lors_place){error->line, error->column};
            }
            return FAIL(b, place, "not valid YAML: %s", lors_escape_text(error->msg, shown));
        }
    }
    lors_place version;
    if (b->n_documents == 0 && find_version(b, &version)) {
        return FAIL(b, b->with_places ? version : NOWHERE,
                    "not valid YAML: unknown version (known: 1.1 to 1.3): remove the line");
    }
    return lors_fail(LORS_ERR_LIMIT, "cannot allocate memory to read YAML");
}

static lors_status read_events(builder *b, struct fy_parser *parser, struct fy_diag *diag)
{
    for (;;) {
        struct fy_event *event = fy_parser_parse(parser);
        if (!event) {
            return fail_syntax(b, diag);
        }
        bool end = event->type == FYET_STREAM_END;
        lors_status status = on_event(b, event);
        fy_parser_event_free(parser, event);
        if (end || status != LORS_OK) {
            return status;
        }
    }
}

lors_status lors_yaml_parse(const char *label, bool with_places, const char *text, size_t n_bytes,
                            lors_arena *arena, lors_yaml **out)
{
    *out = NULL;
    builder b = {.label = label,
                 .text = text,
                 .n_bytes = n_bytes,
                 .with_places = with_places,
                 .arena = arena};
    LORS_TRY(check_text(&b, text, n_bytes));
    LORS_TRY(without_tabs(&b));
    struct fy_diag_cfg diag_config;
    fy_diag_cfg_default(&diag_config);
    diag_config.fp = NULL; /* the library never prints */
    diag_config.colorize = false;
    struct fy_diag *diag = fy_diag_create(&diag_config);
    if (!diag) {
        return lors_fail(LORS_ERR_LIMIT, "cannot allocate memory to read YAML");
    }
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg config = {
        .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_JSON_NONE | FYPCF_DEFAULT_VERSION_1_2,
        .diag = diag,
    };
    struct fy_parser *parser = fy_parser_create(&config);
    lors_status status = LORS_OK;
    if (!parser || fy_parser_set_string(parser, b.text, n_bytes) != 0) {
        status = lors_fail(LORS_ERR_LIMIT, "cannot allocate memory to read YAML");
    } else {
        status = read_events(&b, parser, diag);
    }
    fy_parser_destroy(parser);
    fy_diag_destroy(diag);
    if (status == LORS_OK) {
        *out = b.root;
    }
    return status;
}

const lors_yaml *lors_yaml_get(const lors_yaml *map, const char *key)
{
    for (const lors_yaml_item *item = map->first; item; item = item->next) {
        if (strcmp(item->key, key) == 0) {
            return item->value;
        }
    }
    return NULL;
}

bool lors_yaml_is_null(const lors_yaml *node)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (node->kind != LORS_YAML_SCALAR || !node->plain) {
        return false;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(node->text, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

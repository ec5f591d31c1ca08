/* recipe_yaml.h - YAML text as a small tree in which everything knows its line and column. */
#ifndef LORS_RECIPE_RECIPE_YAML_H
#define LORS_RECIPE_RECIPE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

#include "base/memory.h"
#include "recipe/recipe_internal.h"

typedef enum lors_yaml_kind { LORS_YAML_SCALAR, LORS_YAML_LIST, LORS_YAML_MAP } lors_yaml_kind;

typedef struct lors_yaml lors_yaml;

/* An entry of a list, or of a map (then with its key). */
typedef struct lors_yaml_item {
    const char *key; /* NULL in a list */
    lors_place place; /* of the key, or of the value in a list */
    lors_yaml *value;
    struct lors_yaml_item *next;
} lors_yaml_item;

struct lors_yaml {
    lors_yaml_kind kind;
    lors_place place;
    const char *text; /* scalar: NUL-terminated, without NUL inside */
    bool plain;       /* scalar without quotes: only these can be numbers, bools and null */
    lors_yaml_item *first, *last;
    int32_t n_items;
    int32_t n_nodes, n_aliases; /* of this node with all aliases written out */
    bool open;                  /* not complete yet */
    lors_yaml *next_document;   /* of a root: the one behind it */
};

/* Read documents.
 *   label        file name for messages
 *   with_places  false: the text is a value given by a call, whose lines mean nothing to the user,
 *                and which is one document
 *   arena        owns the trees
 *   out          the first root; NULL if the text holds no document
 * Refused, each with line and column: other encodings than UTF-8, control characters, bad syntax,
 * tabs that indent, values over several lines, more than 100 documents, depth > 64, more than 64
 * aliases or 20000 nodes (aliases written out), tags, merge keys, keys that are not text, duplicate
 * keys.
 * Errors: ERR_RECIPE, ERR_LIMIT. */
lors_status lors_yaml_parse(const char *label, bool with_places, const char *text, size_t n_bytes,
                            lors_arena *arena, lors_yaml **out);

/* The value behind `key` of a map; NULL if there is none. */
const lors_yaml *lors_yaml_get(const lors_yaml *map, const char *key);

/* Plain empty text, ~ or null. */
bool lors_yaml_is_null(const lors_yaml *node);

#endif

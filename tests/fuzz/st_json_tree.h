/* st_json_tree.h - JSON into a tree, as the reference's JSON library reads it; naive and whole. */
#ifndef LORS_TESTS_ST_JSON_TREE_H
#define LORS_TESTS_ST_JSON_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum st_kind { ST_NULL, ST_BOOL, ST_NUMBER, ST_STRING, ST_ARRAY, ST_OBJECT } st_kind;

typedef struct st_node {
    st_kind kind;
    char *text; /* a string, decoded */
    size_t text_bytes;
    bool is_u64; /* a number: digits alone, below 2^64 */
    uint64_t number;
    struct st_node *first, *next; /* what an array or object holds; the next beside this one */
    char *key;                    /* in an object */
    size_t key_bytes;
} st_node;

typedef struct st_tree {
    const uint8_t *bytes; /* then zeros up to `end` */
    size_t n_bytes;
    uint64_t at, end;
    bool unsure; /* some number is next to the largest double */
    void *blocks;
    st_node *root; /* NULL: this is no JSON */
} st_tree;

void st_tree_read(st_tree *tree);

/* Zeroed memory that st_blocks_free gives back with the rest of its list. */
void *st_block(void **blocks, size_t n_bytes);
void st_blocks_free(void *blocks);

/* How many arrays and objects lie within each other, this one counted. */
int st_depth(const st_node *node);
bool st_text_is(const char *text, size_t n_bytes, const char *word);

#endif

/* tree.h - a folder of plain files, in memory. */
#ifndef LORS_TESTS_TREE_H
#define LORS_TESTS_TREE_H

#include <stdbool.h>
#include <stddef.h>

enum { TREE_MAX_FILES = 40 };

typedef struct tree_file {
    char name[64];
    unsigned char *bytes; /* malloc */
    size_t n_bytes;
} tree_file;

typedef struct tree {
    int n;
    tree_file files[TREE_MAX_FILES]; /* sorted by name once read or built */
} tree;

/* False, and an empty tree, if there is no such folder or it holds more than plain files. */
bool tree_read(const char *folder, tree *out);
/* The folder must not exist. */
void tree_write(const char *folder, const tree *from);
void tree_add(tree *to, const char *name, const void *bytes, size_t n_bytes);
void tree_sort(tree *t);
/* The same names and bytes? Of the file `except` (NULL: none) only that both have it. */
bool tree_same(const tree *a, const tree *b, const char *except);
void tree_clear(tree *t);

#endif

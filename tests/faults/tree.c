/* tree.c - a folder of plain files, in memory. */
#include "tree.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "faults.h"

void tree_add(tree *to, const char *name, const void *bytes, size_t n_bytes)
{
    NEED(to->n < TREE_MAX_FILES, "more than %d files", TREE_MAX_FILES);
    tree_file *file = &to->files[to->n++];
    NEED(strlen(name) < sizeof file->name, "%s: the name is too long", name);
    snprintf(file->name, sizeof file->name, "%s", name);
    file->bytes = malloc(n_bytes + 1);
    NEED(file->bytes, "no memory");
    if (n_bytes > 0) {
        memcpy(file->bytes, bytes, n_bytes);
    }
    file->n_bytes = n_bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tree_file *)a)->name, ((const tree_file *)b)->name);
}

void tree_sort(tree *t)
{
    qsort(t->files, (size_t)t->n, sizeof *t->files, by_name);
}

static bool add_file(tree *to, const char *folder, const char *name)
{
    char path[512];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (lstat(path, &info) != 0 || !S_ISREG(info.st_mode)) {
        return false;
    }
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = malloc((size_t)info.st_size + 1);
    NEED(file && bytes, "%s cannot be read", path);
    size_t n = fread(bytes, 1, (size_t)info.st_size, file);
    NEED(n == (size_t)info.st_size, "%s: %zu bytes", path, n);
    tree_add(to, name, bytes, n);
    free(bytes);
    fclose(file);
    return true;
}

bool tree_read(const char *folder, tree *out)
{
    out->n = 0;
    DIR *entries = opendir(folder);
    bool plain = entries != NULL;
    for (const struct dirent *entry; plain && (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            plain = add_file(out, folder, entry->d_name);
        }
    }
    if (entries) {
        closedir(entries);
    }
    if (!plain) {
        tree_clear(out);
    }
    tree_sort(out);
    return plain;
}

void tree_write(const char *folder, const tree *from)
{
    NEED(mkdir(folder, 0777) == 0, "%s cannot be created", folder);
    for (int i = 0; i < from->n; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, from->files[i].name);
        FILE *file = fopen(path, "wb");
        NEED(file, "%s cannot be created", path);
        size_t n = fwrite(from->files[i].bytes, 1, from->files[i].n_bytes, file);
        NEED(n == from->files[i].n_bytes && fclose(file) == 0, "%s cannot be written", path);
    }
}

bool tree_same(const tree *a, const tree *b, const char *except)
{
    bool same = a->n == b->n;
    for (int i = 0; same && i < a->n; i++) {
        const tree_file *x = &a->files[i], *y = &b->files[i];
        same = strcmp(x->name, y->name) == 0;
        if (same && !(except && strcmp(x->name, except) == 0)) {
            same = x->n_bytes == y->n_bytes && memcmp(x->bytes, y->bytes, x->n_bytes) == 0;
        }
    }
    return same;
}

void tree_clear(tree *t)
{
    for (int i = 0; i < t->n; i++) {
        free(t->files[i].bytes);
    }
    t->n = 0;
}

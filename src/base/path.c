/* path.c - paths taken apart and put together, as text only. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

char *lors_path_join(const char *folder, const char *name)
{
    size_t n_folder = strlen(folder), n_name = strlen(name);
    size_t n_slash = n_folder > 0 && folder[n_folder - 1] != '/';
    char *joined = lors_alloc(n_folder + n_slash + n_name + 1);
    if (joined) {
        memcpy(joined, folder, n_folder);
        memset(joined + n_folder, '/', n_slash);
        memcpy(joined + n_folder + n_slash, name, n_name + 1);
    }
    return joined;
}

static size_t without_slashes(const char *path, size_t n_bytes)
{
    while (n_bytes > 0 && path[n_bytes - 1] == '/') {
        n_bytes--;
    }
    return n_bytes;
}

/* Where the last part begins; slashes after it do not count. */
static size_t base_at(const char *path)
{
    size_t at = without_slashes(path, strlen(path));
    while (at > 0 && path[at - 1] != '/') {
        at--;
    }
    return at;
}

char *lors_path_parent(const char *path)
{
    size_t at = base_at(path), n_bytes = without_slashes(path, at);
    if (n_bytes == 0) {
        return lors_copy_text(path[0] == '/' ? "/" : ".");
    }
    char *parent = lors_alloc(n_bytes + 1);
    if (parent) {
        memcpy(parent, path, n_bytes);
        parent[n_bytes] = '\0';
    }
    return parent;
}

const char *lors_path_base(const char *path)
{
    return path + base_at(path);
}

char *lors_path_real(const char *path)
{
    char resolved[PATH_MAX];
    return realpath(path, resolved) ? lors_copy_text(resolved) : NULL;
}

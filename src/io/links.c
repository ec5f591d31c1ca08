/* links.c - what in a model folder may be read: regular files, and which links to them. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "io/checkpoint.h"
#include "io/label.h"

lors_status lors_ckpt_check_kind(const char *path, const char *what)
{
    struct stat info;
    char label[LORS_ESCAPED_MAX];
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        return lors_fail(LORS_ERR_INPUT, "%s: %s, not a %s", lors_label(path, label),
                         S_ISDIR(info.st_mode) ? "a folder" : "a pipe, socket or device", what);
    }
    return LORS_OK;
}

/* Is `path` somewhere below the n_folder bytes of `folder`? Both are real paths. */
static bool is_below(const char *path, const char *folder, size_t n_folder)
{
    while (n_folder > 0 && folder[n_folder - 1] == '/') {
        n_folder--;
    }
    return strncmp(path, folder, n_folder) == 0 && path[n_folder] == '/';
}

/* The cache of a hub keeps REPO/blobs/HASH and links to it from REPO/snapshots/REVISION/...: such a
 * link leaves the folder, but not the model. Both arguments are real paths, so that a blob that is
 * itself a link to elsewhere does not pass. */
static bool is_hub_cache(const char *folder, const char *target)
{
    static const char snapshots[] = "/snapshots/", blobs[] = "/blobs/";
    for (const char *at = strstr(folder, snapshots); at; at = strstr(at + 1, snapshots)) {
        size_t n_repo = (size_t)(at - folder);
        const char *rest = target + n_repo;
        if (strncmp(target, folder, n_repo) == 0 && strncmp(rest, blobs, sizeof blobs - 1) == 0 &&
            !strchr(rest + sizeof blobs - 1, '/')) {
            return true;
        }
    }
    return false;
}

static lors_status fail_link(const char *path, int error)
{
    char label[LORS_ESCAPED_MAX];
    if (error == ENOENT || error == ENOTDIR) {
        return lors_fail(LORS_ERR_INPUT,
                         "%s: a link to a file that is missing: the download is "
                         "incomplete, get it again",
                         lors_label(path, label));
    }
    if (error == ELOOP) {
        return lors_fail(LORS_ERR_INPUT, "%s: a link that leads back to itself",
                         lors_label(path, label));
    }
    return lors_file_fail(path, "the link cannot be followed", error);
}

static lors_status check_target(const char *folder, const char *path)
{
    char real_folder[PATH_MAX], target[PATH_MAX], label[LORS_ESCAPED_MAX], shown[LORS_ESCAPED_MAX];
    if (!realpath(folder, real_folder)) {
        return lors_file_fail(folder, "cannot be resolved", errno);
    }
    if (!realpath(path, target)) {
        return fail_link(path, errno);
    }
    if (is_below(target, real_folder, strlen(real_folder)) || is_hub_cache(real_folder, target)) {
        return LORS_OK;
    }
    return lors_fail(LORS_ERR_INPUT,
                     "%s: a link that leaves the model's folder (to %s): copy the "
                     "file there, or give --follow-symlinks if you trust the model",
                     lors_label(path, label), lors_label(target, shown));
}

lors_status lors_ckpt_check_link(const char *folder, const char *name, bool follow_symlinks)
{
    struct stat info;
    lors_status status = LORS_OK;
    char *path = lors_path_join(folder, name);
    if (!path) {
        return lors_fail_memory(strlen(folder) + strlen(name) + 2);
    }
    if (lstat(path, &info) != 0) {
        status = lors_file_fail(path, "cannot be examined", errno);
    } else if (S_ISLNK(info.st_mode) && stat(path, &info) != 0) {
        status = fail_link(path, errno);
    } else if (!follow_symlinks && lstat(path, &info) == 0 && S_ISLNK(info.st_mode)) {
        status = check_target(folder, path);
    }
    lors_free(path);
    return status;
}

/* staging_left.c - what an earlier run left beside OUT, and what this one leaves to a later one. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/label.h"
#include "io/staging_internal.h"

/* ---- What is there -------------------------------------------------------------------------- */

/* The lock is free, so what lies beside OUT is of a run that was killed. Had it moved the older OUT
 * aside and not yet put the new one there, that one comes back. Where OUT is no folder, this run is
 * refused: what is there stays. */
lors_status lors_staging_recover(const lors_staging *staging)
{
    struct stat out, info;
    char label[LORS_ESCAPED_MAX];
    bool has_out, has_staging, has_old;
    LORS_TRY(lors_staging_look(staging->out, &out, &has_out));
    LORS_TRY(lors_staging_look(staging->staging, &info, &has_staging));
    LORS_TRY(lors_staging_look(staging->old, &info, &has_old));
    if (has_old && !(has_out && !S_ISDIR(out.st_mode))) {
        if (has_out && has_staging) {
            return lors_fail(LORS_ERR_IO,
                             "%s: an interrupted run put an older model aside here, and "
                             "another one has taken its name since: move it away or remove it",
                             lors_label(staging->old, label));
        }
        if (has_out) {
            LORS_TRY(lors_file_remove_tree(staging->old));
            LORS_TRY(lors_file_sync_folder(staging->parent)); /* see forget_old of staging.c */
        } else if (lors_file_table()->rename(staging->old, staging->out) != 0) {
            return lors_file_fail(staging->old, "cannot be given its name back", errno);
        }
    }
    return LORS_OK;
}

bool lors_staging_is_left(const lors_staging *staging)
{
    struct stat info;
    return lors_staging_exists(staging->staging, &info) && S_ISDIR(info.st_mode);
}

/* Nobody else's file: no link, and no second name for a file elsewhere. */
static bool is_plain_of(const struct stat *info)
{
    return S_ISREG(info->st_mode) && info->st_nlink == 1;
}

static bool is_plain(const char *path)
{
    struct stat info;
    return lors_staging_exists(path, &info) && is_plain_of(&info);
}

lors_status lors_staging_has(const lors_staging *staging, const char *name, bool *there)
{
    struct stat info;
    char *path = lors_path_join(staging->staging, name);
    *there = false;
    if (!path) {
        return lors_fail_memory(strlen(staging->staging) + strlen(name) + 2);
    }
    lors_status status = lors_staging_look(path, &info, there);
    *there = *there && is_plain_of(&info);
    lors_free(path);
    return status;
}

typedef struct clearing {
    const lors_staging *staging;
    bool (*keeps)(const char *name, const void *user);
    const void *user;
    bool removed; /* something was */
} clearing;

static lors_status clear_entry(const char *name, bool is_folder, void *user)
{
    clearing *now = user;
    char *path = lors_path_join(now->staging->staging, name);
    if (!path) {
        return lors_fail_memory(strlen(now->staging->staging) + strlen(name) + 2);
    }
    bool kept = !is_folder && now->keeps && now->keeps(name, now->user) && is_plain(path);
    now->removed = now->removed || !kept;
    lors_status status = kept ? LORS_OK : lors_file_remove_tree(path);
    lors_free(path);
    return status;
}

/* A listing may miss entries while others are removed: list again until none was. */
lors_status lors_staging_clear(lors_staging *staging,
                               bool (*keeps)(const char *name, const void *user), const void *user)
{
    clearing now = {staging, keeps, user, true};
    while (now.removed) {
        now.removed = false;
        LORS_TRY(lors_file_list(staging->staging, clear_entry, &now));
    }
    return LORS_OK;
}

/* ---- What is left --------------------------------------------------------------------------- */

lors_status lors_staging_sync(lors_staging *staging)
{
    lors_status status = lors_file_sync_folder(staging->staging);
    if (status == LORS_OK) {
        status = lors_file_sync_folder(staging->parent);
    }
    staging->condemned |= status != LORS_OK;
    return status;
}

void lors_staging_condemn(lors_staging *staging)
{
    staging->condemned = true;
}

bool lors_staging_has_note(const lors_staging *staging)
{
    return is_plain(staging->note);
}

bool lors_staging_discarded(const lors_staging *staging)
{
    return staging->discarded;
}

bool lors_staging_leave(lors_staging *staging)
{
    if (!staging->owns_staging || staging->condemned || !lors_staging_has_note(staging)) {
        return false;
    }
    staging->owns_staging = false;
    return true;
}

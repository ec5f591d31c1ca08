/* staging.c - an output folder that appears whole or not at all.
 *
 * Beside OUT = PARENT/NAME there may be, all of them gone after a run that succeeds:
 *   .NAME.lors-lock     held with flock while a run writes to OUT
 *   .NAME.lors-staging  the folder being written; after an exchange, what OUT was before
 *   .NAME.lors-old      what OUT was before, where the file system cannot exchange
 * At every moment one of OUT and .NAME.lors-old is a whole model, if OUT was one before.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/checkpoint.h"
#include "io/label.h"
#include "io/staging_internal.h"

/* ---- Paths ---------------------------------------------------------------------------------- */

bool lors_staging_exists(const char *path, struct stat *info)
{
    return lstat(path, info) == 0;
}

lors_status lors_staging_look(const char *path, struct stat *info, bool *there)
{
    *there = lors_staging_exists(path, info);
    return *there || errno == ENOENT ? LORS_OK : lors_file_fail(path, "cannot be examined", errno);
}

static char *beside(const lors_staging *staging, const char *suffix)
{
    lors_text name = {0};
    char *path = NULL;
    lors_text_printf(&name, ".%s%s", lors_path_base(staging->out), suffix);
    if (!name.failed) {
        path = lors_path_join(staging->parent, name.bytes);
    }
    lors_text_clear(&name);
    return path;
}

static lors_status set_paths(lors_staging *staging, const char *out_path)
{
    char label[LORS_ESCAPED_MAX];
    staging->out = lors_copy_text(out_path);
    for (size_t n = staging->out ? strlen(staging->out) : 0; n > 1 && staging->out[n - 1] == '/';) {
        staging->out[--n] = '\0';
    }
    const char *name = staging->out ? lors_path_base(staging->out) : "x";
    if (strcmp(name, "") == 0 || strcmp(name, "/") == 0 || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0) {
        return lors_fail(LORS_ERR_IO, "'%s' names no new folder: give the output a name of its own",
                         lors_label(out_path, label));
    }
    if (!staging->out || !(staging->parent = lors_path_parent(staging->out)) ||
        !(staging->lock = beside(staging, ".lors-lock")) ||
        !(staging->staging = beside(staging, ".lors-staging")) ||
        !(staging->note = lors_path_join(staging->staging, LORS_STAGING_NOTE)) ||
        !(staging->old = beside(staging, ".lors-old"))) {
        return lors_fail_memory(strlen(out_path));
    }
    return LORS_OK;
}

static void clear_paths(lors_staging *staging)
{
    lors_free(staging->out);
    lors_free(staging->parent);
    lors_free(staging->lock);
    lors_free(staging->staging);
    lors_free(staging->note);
    lors_free(staging->old);
}

lors_status lors_staging_places(const char *out_path, lors_staging_place_fn *take, void *user)
{
    lors_staging paths = {0};
    lors_status status = set_paths(&paths, out_path);
    const char *all[] = {paths.out, paths.lock, paths.staging, paths.old};
    char *parent = status == LORS_OK ? lors_path_real(paths.parent) : NULL;
    for (size_t i = 0; i < sizeof all / sizeof *all && parent && status == LORS_OK; i++) {
        char *place = lors_path_join(parent, lors_path_base(all[i]));
        status = place ? take(place, i > 0, user) : lors_fail_memory(strlen(parent));
        lors_free(place);
    }
    lors_free(parent);
    clear_paths(&paths);
    return status;
}

static lors_status check_parent(const lors_staging *staging)
{
    struct stat info;
    char label[LORS_ESCAPED_MAX];
    if (stat(staging->parent, &info) != 0) {
        return errno == ENOENT ? lors_fail(LORS_ERR_IO,
                                           "%s: no such folder: create it first (mkdir "
                                           "-p), the output goes into it",
                                           lors_label(staging->parent, label))
                               : lors_file_fail(staging->parent, "cannot be examined", errno);
    }
    if (!S_ISDIR(info.st_mode)) {
        return lors_fail(LORS_ERR_IO, "%s: is no folder, the output cannot go into it",
                         lors_label(staging->parent, label));
    }
    return LORS_OK;
}

/* ---- The lock ------------------------------------------------------------------------------- */

/* Open and lock the lock file. *gone: another run removed it between the two steps, as each does at
 * its end, so that the lock guards nothing and must be taken again. */
static lors_status try_lock(lors_staging *staging, bool *gone)
{
    struct stat held, named;
    char label[LORS_ESCAPED_MAX], lock[LORS_ESCAPED_MAX];
    *gone = false;
    int fd =
        lors_file_open(staging->lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd < 0) {
        return lors_file_fail(staging->lock, "cannot be created", errno);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int error = errno;
        lors_file_table()->close(fd);
        return error == EWOULDBLOCK
                   ? lors_fail(LORS_ERR_IO,
                               "%s: another run is writing it now (it holds %s): wait "
                               "for its end or give another name",
                               lors_label(staging->out, label), lors_label(staging->lock, lock))
                   : lors_file_fail(staging->lock, "cannot be locked", error);
    }
    if (fstat(fd, &held) != 0 || stat(staging->lock, &named) != 0 || held.st_dev != named.st_dev ||
        held.st_ino != named.st_ino) {
        lors_file_table()->close(fd);
        *gone = true;
        return LORS_OK;
    }
    if (!S_ISREG(held.st_mode) || held.st_size != 0 || held.st_nlink != 1) {
        lors_file_table()->close(fd);
        return lors_fail(LORS_ERR_IO,
                         "%s: is no lock, which would be an empty file, and locks are removed: "
                         "move it away or give the output another name",
                         lors_label(staging->lock, lock));
    }
    staging->lock_fd = fd;
    return LORS_OK;
}

static lors_status take_lock(lors_staging *staging)
{
    enum { LOCK_TRIES = 1000 };
    bool gone = true;
    for (int i = 0; i < LOCK_TRIES && gone; i++) {
        LORS_TRY(try_lock(staging, &gone));
    }
    return gone ? lors_fail(LORS_ERR_IO, "%s: cannot be locked, it keeps vanishing", staging->lock)
                : LORS_OK;
}

/* Unlinked while it is held: whoever opened it before that sees that it is gone. A lock file that
 * cannot be removed does no harm. */
static void release_lock(lors_staging *staging)
{
    if (staging->lock_fd >= 0) {
        if (lors_file_table()->unlink(staging->lock) != 0) {
            lors_file_table()->unlink(staging->lock);
        }
        lors_file_table()->close(staging->lock_fd);
        staging->lock_fd = -1;
    }
}

/* ---- What is there already ------------------------------------------------------------------ */

typedef struct findings {
    bool any, model, folders;
} findings;

static lors_status look_at(const char *name, bool is_folder, void *user)
{
    static const char suffix[] = ".safetensors";
    findings *found = user;
    size_t n = strlen(name);
    found->any = true;
    found->folders = found->folders || is_folder;
    found->model = found->model || strcmp(name, "config.json") == 0 ||
                   (n >= sizeof suffix && strcmp(name + n - (sizeof suffix - 1), suffix) == 0);
    return LORS_OK;
}

/* Is it empty, or does it hold a config.json or a safetensors file, and no folder? A merge writes
 * no folders: one with them is a project or a checkout, and not ours to remove. */
static lors_status check_model_folder(const char *path)
{
    char label[LORS_ESCAPED_MAX];
    findings found = {false, false, false};
    LORS_TRY(lors_file_list(path, look_at, &found));
    if (found.folders) {
        return lors_fail(LORS_ERR_IO,
                         "%s: exists and has folders in it, which no merge writes: it is not "
                         "replaced: give another name, or move them away",
                         lors_label(path, label));
    }
    return !found.any || found.model
               ? LORS_OK
               : lors_fail(LORS_ERR_IO,
                           "%s: exists and is no model folder (neither empty nor with a "
                           "config.json or safetensors file), it is not replaced: give another "
                           "name",
                           lors_label(path, label));
}

/* May OUT be written? *replaces: there is one. */
static lors_status check_out(const lors_staging *staging, bool *replaces)
{
    struct stat info;
    char label[LORS_ESCAPED_MAX];
    lors_label(staging->out, label);
    LORS_TRY(lors_staging_look(staging->out, &info, replaces));
    if (!*replaces) {
        return LORS_OK;
    }
    if (S_ISLNK(info.st_mode)) {
        return lors_fail(LORS_ERR_IO,
                         "%s: is a link: give the folder that it points to, or another "
                         "name",
                         label);
    }
    if (!S_ISDIR(info.st_mode)) {
        return lors_fail(LORS_ERR_IO, "%s: exists already and is no folder: give another name",
                         label);
    }
    if (!staging->force) {
        return lors_fail(LORS_ERR_IO,
                         "%s: exists already: give --force to replace it or another name", label);
    }
    return check_model_folder(staging->out);
}

/* The sentence of an outcome, which what is done after it must not replace. */
typedef struct kept_sentence {
    char text[4096];
} kept_sentence;

static void keep_sentence(kept_sentence *kept)
{
    size_t n_bytes = strnlen(lors_last_error(), sizeof kept->text - 1);
    memcpy(kept->text, lors_last_error(), n_bytes);
    kept->text[n_bytes] = '\0';
}

/* Remove a tree, twice if need be. It runs after the outcome is known. What it cannot remove, the
 * next run does; false then. */
static bool clear_away(const char *path)
{
    kept_sentence kept;
    keep_sentence(&kept);
    bool gone = lors_file_remove_tree(path) == LORS_OK;
    if (!gone) {
        gone = lors_file_remove_tree(path) == LORS_OK;
        lors_fail(LORS_ERR_IO, "%s", kept.text);
    }
    return gone;
}

/* ---- Opening -------------------------------------------------------------------------------- */

/* OUT is looked at before an older staging folder is touched: a forgotten --force must not cost
 * what an interrupted run has finished. */
static lors_status open_staging(lors_staging *staging, const char *out_path, bool *found)
{
    bool replaces = false;
    LORS_TRY(set_paths(staging, out_path));
    LORS_TRY(check_parent(staging));
    LORS_TRY(take_lock(staging));
    LORS_TRY(lors_staging_recover(staging));
    LORS_TRY(check_out(staging, &replaces));
    if (found) {
        *found = lors_staging_is_left(staging);
    }
    if (!found || !*found) {
        staging->discarded = lors_staging_has_note(staging);
        LORS_TRY(lors_file_remove_tree(staging->staging));
        if (lors_file_table()->mkdir(staging->staging, 0777) != 0) {
            return lors_file_fail(staging->staging, "cannot be created", errno);
        }
    }
    staging->owns_staging = true;
    return LORS_OK;
}

static lors_status open_new(const char *out_path, bool force, bool *found, lors_staging **out)
{
    *out = NULL;
    lors_staging *staging = lors_new(1, sizeof *staging);
    if (!staging) {
        return lors_fail_memory(sizeof *staging);
    }
    staging->lock_fd = -1;
    staging->force = force;
    lors_status status = open_staging(staging, out_path, found);
    if (status != LORS_OK) {
        lors_staging_close(staging);
        return status;
    }
    *out = staging;
    return LORS_OK;
}

lors_status lors_staging_open(const char *out_path, bool force, lors_staging **out)
{
    return open_new(out_path, force, NULL, out);
}

lors_status lors_staging_take_over(const char *out_path, bool force, bool *found,
                                   lors_staging **out)
{
    *found = false;
    return open_new(out_path, force, found, out);
}

void lors_staging_close(lors_staging *staging)
{
    if (!staging) {
        return;
    }
    if (staging->owns_staging) {
        clear_away(staging->staging);
    }
    if (staging->owns_old) {
        clear_away(staging->old);
    }
    release_lock(staging);
    clear_paths(staging);
    lors_free(staging);
}

const char *lors_staging_path(const lors_staging *staging)
{
    return staging->staging;
}

const char *lors_staging_out(const lors_staging *staging)
{
    return staging->out;
}

/* ---- Files ---------------------------------------------------------------------------------- */

/* The path of a file in the staging folder: lors_free. */
static lors_status path_within(lors_staging *staging, const char *name, char **path)
{
    char shown[LORS_ESCAPED_MAX];
    *path = NULL;
    if (strcmp(name, "") == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
        strchr(name, '/')) {
        return lors_fail(LORS_ERR_INTERNAL, "'%s' is no plain file name",
                         lors_escape_text(name, shown));
    }
    *path = lors_path_join(staging->staging, name);
    return *path ? LORS_OK : lors_fail_memory(strlen(staging->staging) + strlen(name) + 2);
}

/* After any failure the folder is not to be committed. */
static lors_status note(lors_staging *staging, lors_status status)
{
    staging->failed = staging->failed || status != LORS_OK;
    return status;
}

static lors_status create_file(lors_staging *staging, const char *name, uint64_t n_bytes, int *fd)
{
    char *path = NULL;
    *fd = -1;
    LORS_TRY(path_within(staging, name, &path));
    lors_status status = lors_file_create(path, fd);
    if (status == LORS_OK) {
        staging->open_files++;
        status = lors_file_reserve(*fd, path, n_bytes);
        if (status != LORS_OK) {
            lors_file_table()->close(*fd);
            *fd = -1;
        }
    }
    lors_free(path);
    return status;
}

lors_status lors_staging_create_file(lors_staging *staging, const char *name, uint64_t n_bytes,
                                     int *fd)
{
    return note(staging, create_file(staging, name, n_bytes, fd));
}

lors_status lors_staging_close_file(lors_staging *staging, const char *name, int fd)
{
    char *path = NULL;
    lors_status status = path_within(staging, name, &path);
    staging->open_files--;
    if (status == LORS_OK) {
        status = lors_file_sync(fd, path);
    }
    if (status == LORS_OK) {
        status = lors_file_close(fd, path);
    } else {
        lors_file_table()->close(fd); /* the first failure is the one to tell */
    }
    lors_free(path);
    return note(staging, status);
}

/* A sync that fails condemns nothing: a run that goes on writes these files anew. */
lors_status lors_staging_write(lors_staging *staging, const char *name, const void *bytes,
                               uint64_t n_bytes)
{
    char *path = NULL;
    lors_status status = path_within(staging, name, &path);
    if (status == LORS_OK) {
        status = lors_file_write_all(path, bytes, (size_t)n_bytes);
    }
    lors_free(path);
    return note(staging, status);
}

static lors_status copy_bytes(int from_fd, const char *from, int to_fd, const char *to,
                              uint64_t n_bytes)
{
    enum { COPY_BYTES = 1 << 20 };
    size_t piece = n_bytes < COPY_BYTES ? (size_t)n_bytes : COPY_BYTES;
    char *buffer = lors_alloc(piece);
    lors_status status = buffer ? LORS_OK : lors_fail_memory(piece);
    for (uint64_t at = 0; at < n_bytes && status == LORS_OK; at += piece) {
        piece = n_bytes - at < piece ? (size_t)(n_bytes - at) : piece;
        status = lors_file_read_at(from_fd, from, at, buffer, piece);
        if (status == LORS_OK) {
            status = lors_file_write_at(to_fd, to, at, buffer, piece);
        }
    }
    lors_free(buffer);
    if (status == LORS_ERR_INPUT) {
        return lors_fail_within(LORS_ERR_IO, "became shorter while it was copied");
    }
    return status;
}

lors_status lors_staging_copy(lors_staging *staging, const char *folder, const char *name,
                              const struct stat *info)
{
    struct stat now;
    int from_fd = -1, to_fd = -1;
    lors_status status = LORS_OK;
    char *from = lors_path_join(folder, name), *to = NULL;
    if (!from) {
        return note(staging, lors_fail_memory(strlen(folder) + strlen(name) + 2));
    }
    LORS_TRY_CLEAN(lors_file_open_read(from, &from_fd, &now));
    LORS_TRY_CLEAN(lors_ckpt_check_same(from, info, &now));
    LORS_TRY_CLEAN(path_within(staging, name, &to));
    LORS_TRY_CLEAN(lors_staging_create_file(staging, name, (uint64_t)now.st_size, &to_fd));
    status = copy_bytes(from_fd, from, to_fd, to, (uint64_t)now.st_size);
    if (status == LORS_OK) {
        status = lors_staging_close_file(staging, name, to_fd);
    } else {
        lors_file_table()->close(to_fd);
    }
cleanup:
    if (from_fd >= 0) {
        lors_file_table()->close(from_fd);
    }
    lors_free(to);
    lors_free(from);
    return note(staging, status);
}

/* ---- Commit --------------------------------------------------------------------------------- */

/* How the new folder got its name: what has to be undone should the disk refuse to keep it. */
typedef enum swap_kind { SWAP_RENAME, SWAP_EXCHANGE, SWAP_TWO_STEPS } swap_kind;

/* Where the file system cannot exchange two folders. Between the two steps OUT is missing; recover
 * brings it back should the run be killed there. */
static lors_status replace_in_two_steps(const lors_staging *staging)
{
    const lors_file_ops *table = lors_file_table();
    char out[LORS_ESCAPED_MAX], old[LORS_ESCAPED_MAX];
    if (table->rename(staging->out, staging->old) != 0) {
        return lors_file_fail(staging->out, "cannot be moved aside", errno);
    }
    if (table->rename(staging->staging, staging->out) == 0) {
        return LORS_OK;
    }
    int error = errno;
    if (table->rename(staging->old, staging->out) == 0) {
        return lors_file_fail(staging->staging, "cannot be given its name", error);
    }
    return lors_fail(LORS_ERR_IO,
                     "%s: cannot be replaced: what it was is now %s, rename it back (the "
                     "next run to the same output would do so)",
                     lors_label(staging->out, out), lors_label(staging->old, old));
}

static lors_status put_in_place(const lors_staging *staging, bool replaces, swap_kind *swap)
{
    *swap = replaces ? SWAP_EXCHANGE : SWAP_RENAME;
    if (!replaces) {
        return lors_file_table()->rename(staging->staging, staging->out) == 0
                   ? LORS_OK
                   : lors_file_fail(staging->staging, "cannot be given its name", errno);
    }
    if (lors_file_table()->exchange(staging->staging, staging->out) == 0) {
        return LORS_OK;
    }
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) {
        return lors_file_fail(staging->out, "cannot be exchanged for the new folder", errno);
    }
    *swap = SWAP_TWO_STEPS;
    return replace_in_two_steps(staging);
}

/* Go back to what was. Returns whether that is so. */
static bool swap_back(const lors_staging *staging, swap_kind swap)
{
    const lors_file_ops *table = lors_file_table();
    if (swap == SWAP_EXCHANGE) {
        return table->exchange(staging->staging, staging->out) == 0;
    }
    return table->rename(staging->out, staging->staging) == 0 &&
           (swap == SWAP_RENAME || table->rename(staging->old, staging->out) == 0);
}

/* The names are in place but not on the disk: go back to what was, and remove the new folder. Both
 * folders stay unless the disk is known to have the names as they were: else what is removed could
 * be OUT after a power cut. The next run clears away. */
static void take_back(lors_staging *staging, swap_kind swap)
{
    kept_sentence kept;
    keep_sentence(&kept);
    staging->owns_staging =
        swap_back(staging, swap) && lors_file_sync_folder(staging->parent) == LORS_OK;
    lors_fail(LORS_ERR_IO, "%s", kept.text);
}

/* OUT's older self, which was put aside. Its end is brought to the disk: should a power cut undo it
 * while a later run writes, this could not be told from one that the later run put aside. */
static void forget_old(lors_staging *staging)
{
    staging->owns_old = true;
    staging->rest = clear_away(staging->old) ? NULL : staging->old;
    (void)lors_file_sync_folder(staging->parent);
}

static lors_status remove_note(const lors_staging *staging)
{
    if (lors_file_table()->unlink(staging->note) != 0 && errno != ENOENT) {
        return lors_file_fail(staging->note, "cannot be removed", errno);
    }
    return LORS_OK;
}

lors_status lors_staging_commit(lors_staging *staging)
{
    bool replaces = false;
    swap_kind swap = SWAP_RENAME;
    char label[LORS_ESCAPED_MAX];
    if (staging->failed || staging->open_files != 0) {
        return lors_fail(LORS_ERR_IO, "%s: is not complete, a file of it could not be written",
                         lors_label(staging->out, label));
    }
    LORS_TRY(check_out(staging, &replaces)); /* again: hours may have passed */
    LORS_TRY(remove_note(staging));
    LORS_TRY(lors_file_sync_folder(staging->staging));
    LORS_TRY(put_in_place(staging, replaces, &swap));
    lors_status status = lors_file_sync_folder(staging->parent);
    if (status != LORS_OK) {
        take_back(staging, swap);
        return status;
    }
    if (swap == SWAP_EXCHANGE) {
        staging->rest = clear_away(staging->staging) ? NULL : staging->staging;
    } else if (swap == SWAP_TWO_STEPS) {
        forget_old(staging);
    }
    return LORS_OK;
}

const char *lors_staging_rest(const lors_staging *staging)
{
    return staging->rest;
}

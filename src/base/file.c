/* file.c - whole reads and writes over a table of system calls, and sentences for what fails. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

/* ---- The table ----------------------------------------------------------------------------- */

static int real_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

/* The system call itself: where a file system cannot reserve, posix_fallocate of glibc would write
 * into every block instead, which takes longer than the merge. */
static int real_allocate(int fd, off_t offset, off_t n_bytes)
{
    return fallocate(fd, 0, offset, n_bytes) == 0 ? 0 : errno;
}

/* mincore tells it of a mapping, which is never looked at here. Older kernels have nothing else.
 * Where it says nothing the page counts as cached. */
static int real_is_cached(int fd, off_t offset)
{
    unsigned char state = 1;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *there = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, offset / (off_t)page * (off_t)page);
    if (there == MAP_FAILED) {
        return -1;
    }
    (void)mincore(there, page, &state);
    munmap(there, page);
    return state & 1;
}

static int real_exchange(const char *a, const char *b)
{
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

static int real_begin_sync(int fd, off_t offset, off_t n_bytes)
{
    return sync_file_range(fd, offset, n_bytes, SYNC_FILE_RANGE_WRITE);
}

static int real_forget(int fd)
{
    return posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static const lors_file_ops real_table = {
    .open = real_open,
    .close = close,
    .pread = pread,
    .pwrite = pwrite,
    .allocate = real_allocate,
    .fsync = fsync,
    .is_cached = real_is_cached,
    .mkdir = mkdir,
    .rename = rename,
    .exchange = real_exchange,
    .unlink = unlink,
    .rmdir = rmdir,
    .begin_sync = real_begin_sync,
    .forget = real_forget,
    .list = getdents64,
};

static const lors_file_ops *_Atomic current_table = &real_table;

const lors_file_ops *lors_file_table(void)
{
    return atomic_load(&current_table);
}

void lors_file_set_table(const lors_file_ops *table)
{
    atomic_store(&current_table, table ? table : &real_table);
}

/* ---- Sentences ----------------------------------------------------------------------------- */

/* The path made printable. Of a long one the end is shown, which names the file. */
static const char *label_of(const char *path, char out[LORS_ESCAPED_MAX])
{
    enum { SHOWN_BYTES = 190 };
    size_t n_bytes = strlen(path);
    if (n_bytes <= SHOWN_BYTES) {
        return lors_escape(path, n_bytes, out);
    }
    path += n_bytes - SHOWN_BYTES;
    while (((unsigned char)*path & 0xc0) == 0x80) { /* not within a UTF-8 sequence */
        path++;
    }
    memcpy(out, "...", 3);
    char tail[LORS_ESCAPED_MAX];
    lors_escape_text(path, tail); /* at most 4 * SHOWN_BYTES + 1 bytes: fits behind "..." */
    memcpy(out + 3, tail, strlen(tail) + 1);
    return out;
}

static const char *advice_for(int error)
{
    switch (error) {
    case ENOENT: return ": check the path";
    case EACCES:
    case EPERM: return ": check its permissions";
    case EEXIST: return ": remove it or choose another name";
    case ENOSPC:
    case EDQUOT: return ": free some space or write elsewhere";
    case EROFS: return ": write elsewhere";
    case EMFILE:
    case ENFILE: return ": raise the limit on open files (ulimit -n)";
    case EFBIG: return ": the file system or a limit (ulimit -f) allows no file of this size";
    case EIO: return ": the disk or network reports damage, see the system log";
    default: return "";
    }
}

lors_status lors_file_fail(const char *path, const char *what, int error)
{
    char label[LORS_ESCAPED_MAX], buffer[128];
    return lors_fail(LORS_ERR_IO, "%s: %s: %s%s", label_of(path, label), what,
                     strerror_r(error, buffer, sizeof buffer), advice_for(error));
}

static lors_status fail_at(const char *path, const char *what, uint64_t offset, int error)
{
    char sentence[96];
    snprintf(sentence, sizeof sentence, "%s at byte %llu", what, (unsigned long long)offset);
    return lors_file_fail(path, sentence, error);
}

static lors_status fail_full(const char *path, uint64_t offset, uint64_t n_missing, int error)
{
    char sentence[160], size[32];
    snprintf(sentence, sizeof sentence, "no room at byte %llu for %llu more bytes (%s)",
             (unsigned long long)offset, (unsigned long long)n_missing,
             lors_format_bytes(n_missing, size));
    return lors_file_fail(path, sentence, error);
}

/* The file ended at `offset` with n_missing bytes still wanted; or before, if the read began behind
 * its end. */
static lors_status fail_truncated(int fd, const char *path, uint64_t offset, uint64_t n_missing)
{
    char label[LORS_ESCAPED_MAX];
    struct stat info;
    uint64_t end = offset;
    if (fstat(fd, &info) == 0 && (uint64_t)info.st_size < offset) {
        end = (uint64_t)info.st_size;
    }
    return lors_fail(LORS_ERR_INPUT,
                     "%s: ends at byte %llu, %llu more were expected: the file is truncated (an "
                     "interrupted download or copy?), get it again",
                     label_of(path, label), (unsigned long long)end,
                     (unsigned long long)(n_missing + (offset - end)));
}

/* Offsets of files are signed. */
static lors_status check_range(const char *path, uint64_t offset, uint64_t n_bytes)
{
    char label[LORS_ESCAPED_MAX];
    if (offset <= INT64_MAX && n_bytes <= INT64_MAX - offset) {
        return LORS_OK;
    }
    return lors_fail(LORS_ERR_LIMIT, "%s: %llu bytes at byte %llu are beyond the end of any file",
                     label_of(path, label), (unsigned long long)n_bytes,
                     (unsigned long long)offset);
}

/* ---- Open, close, sync --------------------------------------------------------------------- */

int lors_file_open(const char *path, int flags, mode_t mode)
{
    int fd;
    do {
        fd = lors_file_table()->open(path, flags, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* A socket cannot be opened. */
static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" : "a device";
}

/* Refuses what is no regular file, and makes reads block again. */
static lors_status check_regular(int fd, const char *path, struct stat *info)
{
    char label[LORS_ESCAPED_MAX];
    if (fstat(fd, info) != 0) {
        return lors_file_fail(path, "cannot be examined", errno);
    }
    if (!S_ISREG(info->st_mode)) {
        return lors_fail(LORS_ERR_IO, "%s: is %s, not a regular file", label_of(path, label),
                         kind_of(info->st_mode));
    }
    int flags = fcntl(fd, F_GETFL); /* where this fails, so does the next */
    if (fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
        return lors_file_fail(path, "cannot be made to block", errno);
    }
    return LORS_OK;
}

static lors_status open_regular(const char *path, int more_flags, int *fd, struct stat *info)
{
    struct stat unused;
    *fd = -1;
    int opened = lors_file_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | more_flags, 0);
    if (opened < 0) {
        return lors_file_fail(path, "cannot be opened", errno);
    }
    lors_status status = check_regular(opened, path, info ? info : &unused);
    if (status != LORS_OK) {
        lors_file_table()->close(opened);
        return status;
    }
    *fd = opened;
    return LORS_OK;
}

lors_status lors_file_open_read(const char *path, int *fd, struct stat *info)
{
    return open_regular(path, 0, fd, info);
}

lors_status lors_file_forget(const char *path)
{
    int fd = -1;
    LORS_TRY(lors_file_open_read(path, &fd, NULL));
    if (lors_file_table()->forget) {
        (void)lors_file_table()->forget(fd);
    }
    lors_file_table()->close(fd);
    return LORS_OK;
}

lors_status lors_file_open_direct(const char *path, int *fd, struct stat *info)
{
    return open_regular(path, O_DIRECT, fd, info);
}

lors_status lors_file_create(const char *path, int *fd)
{
    *fd = lors_file_open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return *fd >= 0 ? LORS_OK : lors_file_fail(path, "cannot be created", errno);
}

void lors_file_begin_sync(int fd, uint64_t offset, size_t n_bytes)
{
    const lors_file_ops *table = lors_file_table();
    if (table->begin_sync && n_bytes > 0) {
        (void)table->begin_sync(fd, (off_t)offset, (off_t)n_bytes);
    }
}

/* Never retried: after a failure the system may have dropped the unwritten pages, and a second call
 * would report success for data that are lost. */
lors_status lors_file_sync(int fd, const char *path)
{
    if (lors_file_table()->fsync(fd) != 0) {
        return lors_file_fail(path, "cannot be brought to the disk (fsync)", errno);
    }
    return LORS_OK;
}

/* Never retried either: after EINTR Linux has closed the descriptor. */
lors_status lors_file_close(int fd, const char *path)
{
    if (lors_file_table()->close(fd) != 0 && errno != EINTR) {
        return lors_file_fail(path, "cannot be closed, its last bytes may be lost", errno);
    }
    return LORS_OK;
}

lors_status lors_file_sync_folder(const char *path)
{
    int fd = lors_file_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) {
        return lors_file_fail(path, "cannot be opened", errno);
    }
    lors_status status = LORS_OK;
    if (lors_file_table()->fsync(fd) != 0 && errno != EINVAL) { /* EINVAL: folders need none here */
        status = lors_file_fail(path, "cannot be brought to the disk (fsync)", errno);
    }
    lors_file_table()->close(fd); /* nothing was written through it */
    return status;
}

/* ---- Read and write ------------------------------------------------------------------------ */

lors_status lors_file_read_at(int fd, const char *path, uint64_t offset, void *out, size_t n_bytes)
{
    LORS_TRY(check_range(path, offset, n_bytes));
    for (size_t done = 0; done < n_bytes;) {
        uint64_t at = offset + done;
        ssize_t n = lors_file_table()->pread(fd, (char *)out + done, n_bytes - done, (off_t)at);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            return fail_truncated(fd, path, at, n_bytes - done);
        } else if (errno != EINTR) {
            return fail_at(path, "cannot be read", at, errno);
        }
    }
    return LORS_OK;
}

lors_status lors_file_write_at(int fd, const char *path, uint64_t offset, const void *bytes,
                               size_t n_bytes)
{
    LORS_TRY(check_range(path, offset, n_bytes));
    for (size_t done = 0; done < n_bytes;) {
        uint64_t at = offset + done;
        errno = EIO; /* should a write of nothing come back */
        ssize_t n =
            lors_file_table()->pwrite(fd, (const char *)bytes + done, n_bytes - done, (off_t)at);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && (errno == ENOSPC || errno == EDQUOT)) {
            return fail_full(path, at, n_bytes - done, errno);
        } else if (n == 0 || errno != EINTR) {
            return fail_at(path, "cannot be written", at, errno);
        }
    }
    return LORS_OK;
}

/* ---- Past the page cache, and into it ------------------------------------------------------ */

size_t lors_file_read_direct(int fd, uint64_t offset, void *out, size_t n_bytes)
{
    const size_t page = LORS_DIRECT_ALIGN;
    size_t lead = (size_t)(offset % page), wanted = lead + n_bytes, done = 0;
    size_t whole = (wanted + page - 1) / page * page;
    char *first = (char *)out - lead;
    while (done < wanted) { /* `done` stays a multiple of a page until all is there */
        ssize_t n =
            lors_file_table()->pread(fd, first + done, whole - done, (off_t)(offset - lead + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        size_t reached = n > 0 ? done + (size_t)n : done;
        reached = reached < wanted ? reached / page * page : wanted;
        if (reached <= done) {
            break;
        }
        done = reached;
    }
    return done > lead ? done - lead : 0;
}

bool lors_file_is_cached(int fd, uint64_t n_bytes)
{
    enum { MOST_SAMPLES = 256 };
    uint64_t n_samples = n_bytes >> 20 < MOST_SAMPLES ? (n_bytes >> 20) + 1 : MOST_SAMPLES;
    uint64_t step = n_bytes / n_samples, n_cached = 0;
    for (uint64_t i = 0; i < n_samples; i++) {
        n_cached += lors_file_table()->is_cached(fd, (off_t)(i * step + step / 2)) != 0;
    }
    return 2 * n_cached >= n_samples;
}

lors_status lors_file_reserve(int fd, const char *path, uint64_t n_bytes)
{
    int error = 0;
    LORS_TRY(check_range(path, 0, n_bytes));
    do {
        error = n_bytes > 0 ? lors_file_table()->allocate(fd, 0, (off_t)n_bytes) : 0;
    } while (error == EINTR);
    switch (error) {
    case 0:
    case EOPNOTSUPP:
    case EINVAL:
    case ENOSYS: return LORS_OK;
    case ENOSPC:
    case EDQUOT: return fail_full(path, 0, n_bytes, error);
    default: return lors_file_fail(path, "cannot reserve its space", error);
    }
}

/* ---- Whole files --------------------------------------------------------------------------- */

static lors_status read_opened(int fd, const char *path, uint64_t n_bytes, char **out)
{
    char *bytes = lors_alloc((size_t)n_bytes + 1);
    if (!bytes) {
        return lors_fail_memory((size_t)n_bytes + 1);
    }
    lors_status status = lors_file_read_at(fd, path, 0, bytes, (size_t)n_bytes);
    if (status != LORS_OK) {
        lors_free(bytes);
        return status;
    }
    bytes[n_bytes] = '\0';
    *out = bytes;
    return LORS_OK;
}

lors_status lors_file_read_all(const char *path, size_t max_bytes, char **out, size_t *n_bytes)
{
    char label[LORS_ESCAPED_MAX];
    struct stat info;
    int fd = -1;
    *out = NULL;
    *n_bytes = 0;
    LORS_TRY(lors_file_open_read(path, &fd, &info));
    uint64_t size = (uint64_t)info.st_size;
    lors_status status;
    if (size > max_bytes) {
        status = lors_fail(LORS_ERR_LIMIT, "%s: holds %llu bytes, at most %zu are read here",
                           label_of(path, label), (unsigned long long)size, max_bytes);
    } else {
        status = read_opened(fd, path, size, out);
    }
    lors_file_table()->close(fd);
    *n_bytes = status == LORS_OK ? (size_t)size : 0;
    return status;
}

lors_status lors_file_write_all(const char *path, const void *bytes, size_t n_bytes)
{
    int fd = -1;
    LORS_TRY(lors_file_create(path, &fd));
    lors_status status = lors_file_write_at(fd, path, 0, bytes, n_bytes);
    if (status == LORS_OK) {
        status = lors_file_sync(fd, path);
    }
    if (status == LORS_OK) {
        status = lors_file_close(fd, path);
    } else {
        lors_file_table()->close(fd); /* the first failure is the one to tell */
    }
    if (status != LORS_OK) {
        lors_file_table()->unlink(path); /* it is ours, and incomplete */
    }
    return status;
}

/* ---- Listing a folder ---------------------------------------------------------------------- */

static bool is_folder(int fd, const struct dirent64 *entry)
{
    struct stat info;
    if (entry->d_type != DT_UNKNOWN) { /* which some file systems always say */
        return entry->d_type == DT_DIR;
    }
    return fstatat(fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

static lors_status list_opened(int fd, const char *path, lors_file_name_fn each, void *user)
{
    _Alignas(struct dirent64) char entries[2048];
    for (;;) {
        ssize_t n = lors_file_table()->list(fd, entries, sizeof entries);
        if (n == 0) {
            return LORS_OK;
        }
        if (n < 0 && errno != EINTR) {
            return lors_file_fail(path, "cannot be listed", errno);
        }
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *entry = (const void *)(entries + at);
            at += entry->d_reclen;
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
                LORS_TRY(each(entry->d_name, is_folder(fd, entry), user));
            }
        }
    }
}

static lors_status list_folder(const char *path, int more_flags, lors_file_name_fn each, void *user)
{
    int fd = lors_file_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | more_flags, 0);
    if (fd < 0) {
        return lors_file_fail(path, "cannot be opened", errno);
    }
    lors_status status = list_opened(fd, path, each, user);
    lors_file_table()->close(fd);
    return status;
}

lors_status lors_file_list(const char *path, lors_file_name_fn each, void *user)
{
    return list_folder(path, 0, each, user);
}

/* ---- Removing a folder --------------------------------------------------------------------- */

/* The path at hand, in one buffer for all levels: cleaning up works when memory is short. */
typedef struct tree_path {
    char text[PATH_MAX];
    size_t length;
} tree_path;

enum { TREE_MAX_DEPTH = 32 };

static lors_status remove_entry(tree_path *at, int depth);

typedef struct removal {
    tree_path *at;
    int depth;
    int64_t n_removed;
} removal;

static lors_status remove_name(const char *name, bool is_folder, void *user)
{
    removal *r = user;
    tree_path *at = r->at;
    size_t length = at->length;
    int n = snprintf(at->text + length, sizeof at->text - length, "/%s", name);
    (void)is_folder; /* it may be something else by now */
    if ((size_t)n >= sizeof at->text - length) {
        at->text[length] = '\0';
        return lors_file_fail(at->text, "a path in it cannot be removed", ENAMETOOLONG);
    }
    at->length = length + (size_t)n;
    lors_status status = remove_entry(at, r->depth + 1);
    at->length = length;
    at->text[length] = '\0';
    r->n_removed++;
    return status;
}

/* Remove what is in the folder now; *n_removed counts. */
static lors_status remove_inside(tree_path *at, int depth, int64_t *n_removed)
{
    removal r = {at, depth, 0};
    /* O_NOFOLLOW: a link put here since lstat is refused. */
    lors_status status = list_folder(at->text, O_NOFOLLOW, remove_name, &r);
    *n_removed = r.n_removed;
    return status;
}

/* A listing may miss entries while others are removed: list again until it is empty. */
static lors_status remove_folder(tree_path *at, int depth)
{
    char label[LORS_ESCAPED_MAX];
    int64_t n_removed;
    if (depth >= TREE_MAX_DEPTH) {
        return lors_fail(LORS_ERR_LIMIT, "%s: more than %d folders deep: remove it yourself",
                         label_of(at->text, label), TREE_MAX_DEPTH);
    }
    do {
        n_removed = 0;
        LORS_TRY(remove_inside(at, depth, &n_removed));
    } while (n_removed > 0);
    if (lors_file_table()->rmdir(at->text) != 0 && errno != ENOENT) {
        return lors_file_fail(at->text, "cannot be removed", errno);
    }
    return LORS_OK;
}

/* A link is removed itself; what it points to stays. */
static lors_status remove_entry(tree_path *at, int depth)
{
    struct stat info;
    if (lstat(at->text, &info) != 0) {
        return errno == ENOENT ? LORS_OK : lors_file_fail(at->text, "cannot be examined", errno);
    }
    if (S_ISDIR(info.st_mode)) {
        return remove_folder(at, depth);
    }
    if (lors_file_table()->unlink(at->text) != 0 && errno != ENOENT) {
        return lors_file_fail(at->text, "cannot be removed", errno);
    }
    return LORS_OK;
}

lors_status lors_file_remove_tree(const char *path)
{
    tree_path at;
    at.length = strlen(path);
    if (at.length >= sizeof at.text) {
        return lors_file_fail(path, "cannot be removed", ENAMETOOLONG);
    }
    memcpy(at.text, path, at.length + 1);
    return remove_entry(&at, 0);
}

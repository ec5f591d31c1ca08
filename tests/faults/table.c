/* table.c - a table of file operations that notes every call, and fails at one of them.
 *
 * A call is known by its kind, path, offset and number among its like, not by its place in the
 * order of all calls: threads may change that, but not which calls there are. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "faults.h"

enum { MAX_FILES = 1024, COUNTERS = 8192 };

static struct {
    pthread_mutex_t lock; /* guards all below */
    const lors_file_ops *real;
    char here[4096]; /* the current folder and "/" */
    bool armed, hit, can_exchange;
    size_t hit_at;
    uint64_t at; /* hash of the call that fails */
    int nth;
    fault_kind fault;
    int error;
    point_list *list;
    trace *trace;
    const char *without;
    char paths[MAX_FILES][200]; /* of open files */
    struct counter {
        uint64_t hash;
        int n;
    } counters[COUNTERS];
} table = {.lock = PTHREAD_MUTEX_INITIALIZER, .can_exchange = true};

static const char *const op_names[] = {"open",     "create", "close", "read",   "write",
                                       "allocate", "sync",   "mkdir", "rename", "exchange",
                                       "unlink",   "rmdir",  "list"};

const char *op_name(op_kind op)
{
    return op_names[op];
}

/* --- which call is it? ----------------------------------------------------------------------- */

static uint64_t hash_of(op_kind op, const char *path, off_t offset)
{
    uint64_t hash = 0xcbf29ce484222325u ^ (uint64_t)op;
    for (; *path; path++) {
        hash = (hash ^ (unsigned char)*path) * 0x100000001b3u;
    }
    hash = (hash ^ (uint64_t)offset) * 0x100000001b3u;
    hash ^= hash >> 29;
    return hash + (hash == 0);
}

static int count_call(uint64_t hash)
{
    for (size_t i = hash % COUNTERS;; i = (i + 1) % COUNTERS) {
        struct counter *c = &table.counters[i];
        if (c->hash == 0 || c->hash == hash) {
            c->hash = hash;
            return ++c->n;
        }
    }
}

static const char *shown(const char *path)
{
    size_t n = strlen(table.here);
    return strncmp(path, table.here, n) == 0 ? path + n : path;
}

static void note_call(op_kind op, const char *path, off_t offset, int nth)
{
    point_list *list = table.list;
    NEED(list->n < MAX_POINTS, "more than %d calls", MAX_POINTS);
    point *p = &list->points[list->n++];
    *p = (point){.op = op, .nth = nth, .offset = offset};
    NEED(strlen(path) < sizeof p->path, "%s: the path is too long", path);
    snprintf(p->path, sizeof p->path, "%s", path);
}

/* What takes room on the disk. */
static bool needs_room(op_kind op)
{
    return op == OP_CREATE || op == OP_WRITE || op == OP_ALLOCATE || op == OP_MKDIR ||
           op == OP_SYNC;
}

/* Count the call, and say what is to happen to it. The lock is held. */
static fault_kind meet(op_kind op, const char *path, off_t offset)
{
    if (!table.armed && !table.list) {
        return table.fault; /* none, or that of all transfers */
    }
    path = shown(path);
    uint64_t hash = hash_of(op, path, offset);
    int nth = count_call(hash);
    if (table.list) {
        note_call(op, path, offset, nth);
        return FAULT_NONE;
    }
    if (table.hit) {
        bool again = table.fault == FAULT_DEAD || (table.fault == FAULT_FULL && needs_room(op));
        return again ? FAULT_ERROR : FAULT_NONE;
    }
    if (hash != table.at || nth != table.nth) {
        return FAULT_NONE;
    }
    table.hit = true;
    table.hit_at = table.trace ? table.trace->n : 0;
    return table.fault == FAULT_FULL || table.fault == FAULT_DEAD ? FAULT_ERROR : table.fault;
}

static void die_if(bool now)
{
    if (now) {
        kill(getpid(), SIGKILL);
    }
}

/* --- the trace ------------------------------------------------------------------------------- */

static char *copy_of(const char *text)
{
    char *copy = text ? strdup(shown(text)) : NULL;
    NEED(!text || copy, "no memory");
    return copy;
}

static void record(op_kind op, int fd, const char *path, const char *to)
{
    trace *t = table.trace;
    if (!t) {
        return;
    }
    if (t->n == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 256;
        t->ops = realloc(t->ops, t->capacity * sizeof *t->ops);
        NEED(t->ops, "no memory");
    }
    t->ops[t->n++] = (trace_op){.op = op, .fd = fd, .path = copy_of(path), .to = copy_of(to)};
}

static void record_write(int fd, off_t offset, const void *bytes, size_t n_bytes)
{
    if (table.trace) {
        record(OP_WRITE, fd, NULL, NULL);
        trace_op *op = &table.trace->ops[table.trace->n - 1];
        op->offset = offset;
        op->n_bytes = n_bytes;
        op->bytes = malloc(n_bytes + 1);
        NEED(op->bytes, "no memory");
        memcpy(op->bytes, bytes, n_bytes);
    }
}

void trace_clear(trace *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->ops[i].path);
        free(t->ops[i].to);
        free(t->ops[i].bytes);
    }
    free(t->ops);
    *t = (trace){0};
}

/* --- the calls ------------------------------------------------------------------------------- */

/* Calls that change files are made under the lock, so that the trace has their order. */

static const char *path_of(int fd)
{
    return fd >= 0 && fd < MAX_FILES ? table.paths[fd] : "?";
}

static int fail(int error)
{
    errno = error;
    return -1;
}

/* A call by path, whose success is 0. `then` makes it. */
static int call_on_path(op_kind op, const char *path, const char *to, int (*one)(const char *),
                        int (*two)(const char *, const char *))
{
    char both[sizeof table.paths[0]];
    pthread_mutex_lock(&table.lock);
    const char *name = path;
    if (to) {
        snprintf(both, sizeof both, "%s > %s", shown(path), shown(to));
        name = both;
    }
    fault_kind fault = meet(op, name, 0);
    die_if(fault == FAULT_KILL_BEFORE);
    int result = fault == FAULT_ERROR ? fail(table.error) : to ? two(path, to) : one(path);
    int error = errno;
    if (result == 0) {
        record(op, -1, path, to);
    }
    die_if(fault == FAULT_KILL_AFTER);
    pthread_mutex_unlock(&table.lock);
    errno = error;
    return result;
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
    op_kind op = flags & O_CREAT ? OP_CREATE : OP_OPEN;
    pthread_mutex_lock(&table.lock);
    fault_kind fault = meet(op, path, 0);
    die_if(fault == FAULT_KILL_BEFORE);
    int fd = fault == FAULT_ERROR ? fail(table.error) : table.real->open(path, flags, mode);
    int error = errno;
    if (fd >= 0) {
        NEED(fd < MAX_FILES, "descriptor %d", fd);
        snprintf(table.paths[fd], sizeof table.paths[fd], "%s", shown(path));
        record(op, fd, path, NULL);
    }
    die_if(fault == FAULT_KILL_AFTER);
    pthread_mutex_unlock(&table.lock);
    errno = error;
    return fd;
}

static int faulty_close(int fd) /* even a close that fails has closed */
{
    pthread_mutex_lock(&table.lock);
    fault_kind fault = meet(OP_CLOSE, path_of(fd), 0);
    record(OP_CLOSE, fd, NULL, NULL);
    int result = table.real->close(fd);
    NEED(result == 0, "a close of %d, which is not open", fd);
    result = fault == FAULT_ERROR ? fail(table.error) : 0;
    pthread_mutex_unlock(&table.lock);
    return result;
}

static size_t shortened(fault_kind fault, size_t n_bytes)
{
    bool one = fault == FAULT_ONE || fault == FAULT_ALL_ONE;
    bool half = fault == FAULT_HALF || fault == FAULT_ALL_HALF || fault == FAULT_KILL_HALF;
    return n_bytes <= 1 ? n_bytes : one ? 1 : half ? n_bytes / 2 : n_bytes;
}

static ssize_t faulty_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    pthread_mutex_lock(&table.lock);
    fault_kind fault = meet(OP_READ, path_of(fd), offset);
    int error = table.error;
    pthread_mutex_unlock(&table.lock);
    if (fault == FAULT_ERROR) {
        return fail(error);
    }
    return fault == FAULT_ZERO ? 0
                               : table.real->pread(fd, buffer, shortened(fault, n_bytes), offset);
}

static ssize_t faulty_pwrite(int fd, const void *buffer, size_t n_bytes, off_t offset)
{
    pthread_mutex_lock(&table.lock);
    fault_kind fault = meet(OP_WRITE, path_of(fd), offset);
    die_if(fault == FAULT_KILL_BEFORE);
    ssize_t result;
    if (fault == FAULT_ERROR || fault == FAULT_ZERO) {
        result = fault == FAULT_ZERO ? 0 : fail(table.error);
    } else {
        result = table.real->pwrite(fd, buffer, shortened(fault, n_bytes), offset);
    }
    int error = errno;
    if (result > 0) {
        record_write(fd, offset, buffer, (size_t)result);
    }
    die_if(fault == FAULT_KILL_HALF || fault == FAULT_KILL_AFTER);
    pthread_mutex_unlock(&table.lock);
    errno = error;
    return result;
}

static int faulty_allocate(int fd, off_t offset, off_t n_bytes)
{
    pthread_mutex_lock(&table.lock);
    fault_kind fault = meet(OP_ALLOCATE, path_of(fd), 0);
    die_if(fault == FAULT_KILL_BEFORE);
    int error = fault == FAULT_ERROR ? table.error : table.real->allocate(fd, offset, n_bytes);
    if (error == 0 && table.trace) {
        record(OP_ALLOCATE, fd, NULL, NULL);
        table.trace->ops[table.trace->n - 1].offset = offset + n_bytes;
    }
    die_if(fault == FAULT_KILL_AFTER);
    pthread_mutex_unlock(&table.lock);
    return error;
}

/* What is synced here is never looked at after a power cut: the model of disk.c is. */
static int faulty_fsync(int fd)
{
    pthread_mutex_lock(&table.lock);
    fault_kind fault = meet(OP_SYNC, path_of(fd), 0);
    die_if(fault == FAULT_KILL_BEFORE);
    if (table.trace && !(table.without && strcmp(table.without, path_of(fd)) == 0)) {
        record(OP_SYNC, fd, NULL, NULL);
        table.trace->ops[table.trace->n - 1].failed = fault == FAULT_ERROR;
    }
    die_if(fault == FAULT_KILL_AFTER);
    int result = fault == FAULT_ERROR ? fail(table.error) : 0;
    pthread_mutex_unlock(&table.lock);
    return result;
}

static ssize_t faulty_list(int fd, void *entries, size_t n_bytes)
{
    pthread_mutex_lock(&table.lock);
    fault_kind fault = meet(OP_LIST, path_of(fd), 0);
    int error = table.error;
    pthread_mutex_unlock(&table.lock);
    return fault == FAULT_ERROR ? fail(error) : table.real->list(fd, entries, n_bytes);
}

static int make_folder(const char *path)
{
    return table.real->mkdir(path, 0777);
}

static int faulty_mkdir(const char *path, mode_t mode)
{
    NEED(mode == 0777, "mode %o", (unsigned)mode);
    return call_on_path(OP_MKDIR, path, NULL, make_folder, NULL);
}

static int faulty_rename(const char *from, const char *to)
{
    return call_on_path(OP_RENAME, from, to, NULL, table.real->rename);
}

static int faulty_exchange(const char *a, const char *b)
{
    if (!table.can_exchange) {
        return fail(EINVAL);
    }
    return call_on_path(OP_EXCHANGE, a, b, NULL, table.real->exchange);
}

static int faulty_unlink(const char *path)
{
    return call_on_path(OP_UNLINK, path, NULL, table.real->unlink, NULL);
}

static int faulty_rmdir(const char *path)
{
    return call_on_path(OP_RMDIR, path, NULL, table.real->rmdir, NULL);
}

/* --- for the parts --------------------------------------------------------------------------- */

void table_use(void)
{
    static lors_file_ops ops;
    lors_file_set_table(NULL);
    table.real = lors_file_table();
    ops = *table.real;
    ops.open = faulty_open;
    ops.close = faulty_close;
    ops.pread = faulty_pread;
    ops.pwrite = faulty_pwrite;
    ops.allocate = faulty_allocate;
    ops.fsync = faulty_fsync;
    ops.mkdir = faulty_mkdir;
    ops.rename = faulty_rename;
    ops.exchange = faulty_exchange;
    ops.unlink = faulty_unlink;
    ops.rmdir = faulty_rmdir;
    ops.list = faulty_list;
    ops.begin_sync = NULL;
    NEED(getcwd(table.here, sizeof table.here - 1), "no current folder");
    strcat(table.here, "/");
    lors_file_set_table(&ops);
}

void table_arm(const point *at, fault_kind fault, int error, bool can_exchange)
{
    table.armed = at != NULL;
    table.at = at ? hash_of(at->op, at->path, at->offset) : 0;
    table.nth = at ? at->nth : 0;
    table.fault = fault;
    table.error = error;
    table.can_exchange = can_exchange;
    table.hit = false;
    memset(table.counters, 0, sizeof table.counters);
}

bool table_was_hit(void)
{
    return table.hit;
}

void table_note(point_list *list)
{
    table.list = list;
}

void table_trace(trace *to, const char *without)
{
    table.trace = to;
    table.without = without;
}

size_t table_hit_at(void)
{
    return table.hit_at;
}

const char *point_text(const point *p, char out[POINT_TEXT])
{
    snprintf(out, POINT_TEXT, "%s %s @%lld #%d", op_names[p->op], p->path, (long long)p->offset,
             p->nth);
    return out;
}

static int by_name(const void *a, const void *b)
{
    const point *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    order = order ? order : (int)x->op - (int)y->op;
    order = order ? order : (x->offset > y->offset) - (x->offset < y->offset);
    return order ? order : x->nth - y->nth;
}

void point_list_sort(point_list *list)
{
    qsort(list->points, list->n, sizeof *list->points, by_name);
}

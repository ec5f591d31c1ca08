/* disk.c - a model of a POSIX file system and of what a power cut leaves of it. */
#include "disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/rng.h"

enum { MAX_INODES = 256, MAX_ENTRIES = 48, MAX_PENDING = 512, MAX_OPEN = 1024, SECTOR = 512 };
enum { ROOT = 0, NOTHING = -1 };
static const char root_path[] = "place";

typedef struct bytes {
    unsigned char *at; /* malloc */
    size_t n;
} bytes;

typedef struct write {
    size_t offset, end; /* bytes NULL: the size alone */
    unsigned char *bytes;
} write;

typedef struct entry {
    char name[64];
    int inode;
} entry;

typedef struct names {
    int n;
    entry entries[MAX_ENTRIES];
} names;

typedef struct inode {
    bool folder;
    bytes now, kept; /* of a file: in memory, on the disk */
    int n_writes;
    write *writes;               /* since the last sync: malloc */
    names names_now, names_kept; /* of a folder */
} inode;

/* A change of names in one folder that is not on the disk yet: one or two names, at once. */
typedef struct change {
    int folder, n;
    entry to[2]; /* NOTHING: the name is removed */
} change;

struct disk {
    int n_inodes, n_changes;
    inode *inodes[MAX_INODES];
    change changes[MAX_PENDING];
    int open[MAX_OPEN]; /* inodes, by descriptor; NOTHING: not of this disk */
};

/* --- bytes and names ------------------------------------------------------------------------- */

static void put_bytes(bytes *to, const write *w)
{
    if (w->end > to->n) {
        to->at = realloc(to->at, w->end);
        NEED(to->at, "no memory");
        memset(to->at + to->n, 0, w->end - to->n);
        to->n = w->end;
    }
    if (w->bytes) {
        memcpy(to->at + w->offset, w->bytes, w->end - w->offset);
    }
}

static entry *find_name(const names *in, const char *name, size_t n)
{
    for (int i = 0; i < in->n; i++) {
        if (strncmp(in->entries[i].name, name, n) == 0 && in->entries[i].name[n] == '\0') {
            return (entry *)&in->entries[i];
        }
    }
    return NULL;
}

static void set_name(names *in, const entry *to)
{
    entry *found = find_name(in, to->name, strlen(to->name));
    if (to->inode == NOTHING) {
        if (found) {
            *found = in->entries[--in->n];
        }
        return;
    }
    if (!found) {
        NEED(in->n < MAX_ENTRIES, "more than %d names", MAX_ENTRIES);
        found = &in->entries[in->n++];
    }
    *found = *to;
}

static int new_inode(disk *d, bool folder)
{
    NEED(d->n_inodes < MAX_INODES, "more than %d files", MAX_INODES);
    inode *made = calloc(1, sizeof *made);
    NEED(made, "no memory");
    made->folder = folder;
    d->inodes[d->n_inodes] = made;
    return d->n_inodes++;
}

/* --- paths ----------------------------------------------------------------------------------- */

/* The folder that the path lies in and its last part; NOTHING where that is not of this disk. */
static int parent_of(const disk *d, const char *path, const char **last)
{
    size_t n_root = sizeof root_path - 1;
    if (strncmp(path, root_path, n_root) != 0 || path[n_root] != '/') {
        return NOTHING;
    }
    const char *at = path + n_root + 1;
    int folder = ROOT;
    for (const char *slash; (slash = strchr(at, '/')); at = slash + 1) {
        const entry *e = find_name(&d->inodes[folder]->names_now, at, (size_t)(slash - at));
        NEED(e && d->inodes[e->inode]->folder, "%s: no such folder", path);
        folder = e->inode;
    }
    *last = at;
    return folder;
}

static int inode_of(const disk *d, const char *path)
{
    const char *last;
    if (strcmp(path, root_path) == 0) {
        return ROOT;
    }
    int folder = parent_of(d, path, &last);
    const entry *e =
        folder == NOTHING ? NULL : find_name(&d->inodes[folder]->names_now, last, strlen(last));
    return e ? e->inode : NOTHING;
}

static entry named(const char *name, int inode_number)
{
    entry e = {.inode = inode_number};
    NEED(strlen(name) < sizeof e.name, "%s: the name is too long", name);
    snprintf(e.name, sizeof e.name, "%s", name);
    return e;
}

/* --- what a program does ---------------------------------------------------------------------- */

static void change_names(disk *d, int folder, int n, entry a, entry b)
{
    NEED(d->n_changes < MAX_PENDING, "more than %d changes of names", MAX_PENDING);
    change *c = &d->changes[d->n_changes++];
    *c = (change){folder, n, {a, b}};
    for (int i = 0; i < n; i++) {
        set_name(&d->inodes[folder]->names_now, &c->to[i]);
    }
}

static void set_one(disk *d, const char *path, int to)
{
    const char *last;
    int folder = parent_of(d, path, &last);
    if (folder != NOTHING) {
        change_names(d, folder, 1, named(last, to), named("", NOTHING));
    }
}

/* Rename and exchange, within one folder. */
static void set_two(disk *d, const char *from, const char *to, bool exchange)
{
    const char *a, *b;
    int folder = parent_of(d, from, &a);
    NEED(folder != NOTHING && folder == parent_of(d, to, &b), "%s to %s", from, to);
    int moved = inode_of(d, from), there = inode_of(d, to);
    NEED(moved != NOTHING && (!exchange || there != NOTHING), "%s or %s is missing", from, to);
    change_names(d, folder, 2, named(a, exchange ? there : NOTHING), named(b, moved));
}

static void add_write(disk *d, const trace_op *op, bool size_only)
{
    inode *file = d->open[op->fd] == NOTHING ? NULL : d->inodes[d->open[op->fd]];
    if (!file) {
        return;
    }
    size_t offset = (size_t)op->offset;
    write w = {offset, offset + op->n_bytes, NULL};
    if (!size_only) {
        w.bytes = malloc(op->n_bytes + 1);
        NEED(w.bytes, "no memory");
        memcpy(w.bytes, op->bytes, op->n_bytes);
    }
    file->writes = realloc(file->writes, (size_t)(file->n_writes + 1) * sizeof w);
    NEED(file->writes, "no memory");
    file->writes[file->n_writes++] = w;
    put_bytes(&file->now, &w);
}

static void forget_writes(inode *file)
{
    for (int i = 0; i < file->n_writes; i++) {
        free(file->writes[i].bytes);
    }
    free(file->writes);
    file->writes = NULL;
    file->n_writes = 0;
}

static void sync_inode(disk *d, int number)
{
    inode *synced = d->inodes[number];
    int left = 0;
    for (int i = 0; i < synced->n_writes; i++) {
        put_bytes(&synced->kept, &synced->writes[i]);
    }
    forget_writes(synced);
    for (int i = 0; i < d->n_changes; i++) {
        if (d->changes[i].folder != number) {
            d->changes[left++] = d->changes[i];
            continue;
        }
        for (int k = 0; k < d->changes[i].n; k++) {
            set_name(&synced->names_kept, &d->changes[i].to[k]);
        }
    }
    d->n_changes = left;
}

static void open_path(disk *d, const trace_op *op)
{
    const char *last;
    NEED(op->fd < MAX_OPEN, "descriptor %d", op->fd);
    int number = inode_of(d, op->path);
    if (number == NOTHING && op->op == OP_CREATE && parent_of(d, op->path, &last) != NOTHING) {
        number = new_inode(d, false);
        set_one(d, op->path, number);
    }
    d->open[op->fd] = number;
}

void disk_apply(disk *d, const trace_op *op)
{
    switch (op->op) {
    case OP_OPEN:
    case OP_CREATE: open_path(d, op); break;
    case OP_CLOSE: d->open[op->fd] = NOTHING; break;
    case OP_WRITE: add_write(d, op, false); break;
    case OP_ALLOCATE: add_write(d, op, true); break;
    case OP_SYNC:
        if (!op->failed && d->open[op->fd] != NOTHING) {
            sync_inode(d, d->open[op->fd]);
        }
        break;
    case OP_MKDIR: set_one(d, op->path, new_inode(d, true)); break;
    case OP_UNLINK:
    case OP_RMDIR: set_one(d, op->path, NOTHING); break;
    case OP_RENAME: set_two(d, op->path, op->to, false); break;
    case OP_EXCHANGE: set_two(d, op->path, op->to, true); break;
    default: break;
    }
}

static void add_folder(disk *d, const char *name, const tree *from)
{
    int folder = new_inode(d, true);
    change_names(d, ROOT, 1, named(name, folder), named("", NOTHING));
    for (int i = 0; i < from->n; i++) {
        int file = new_inode(d, false);
        write all = {0, from->files[i].n_bytes, from->files[i].bytes};
        put_bytes(&d->inodes[file]->now, &all);
        put_bytes(&d->inodes[file]->kept, &all);
        change_names(d, folder, 1, named(from->files[i].name, file), named("", NOTHING));
    }
    sync_inode(d, folder);
    sync_inode(d, ROOT);
}

disk *disk_new(const tree *out, const tree *staging)
{
    disk *d = calloc(1, sizeof *d);
    NEED(d, "no memory");
    for (int i = 0; i < MAX_OPEN; i++) {
        d->open[i] = NOTHING;
    }
    new_inode(d, true);
    if (out) {
        add_folder(d, "out", out);
    }
    if (staging) {
        add_folder(d, ".out.lors-staging", staging);
    }
    return d;
}

void disk_free(disk *d)
{
    for (int i = 0; d && i < d->n_inodes; i++) {
        forget_writes(d->inodes[i]);
        free(d->inodes[i]->now.at);
        free(d->inodes[i]->kept.at);
        free(d->inodes[i]);
    }
    free(d);
}

bool disk_folder(const disk *d, const char *name, tree *out)
{
    const entry *e = find_name(&d->inodes[ROOT]->names_now, name, strlen(name));
    out->n = 0;
    if (!e || !d->inodes[e->inode]->folder) {
        return false;
    }
    const names *in = &d->inodes[e->inode]->names_now;
    for (int i = 0; i < in->n; i++) {
        const inode *file = d->inodes[in->entries[i].inode];
        tree_add(out, in->entries[i].name, file->now.at, file->now.n);
    }
    tree_sort(out);
    return true;
}

/* --- the power is cut ------------------------------------------------------------------------ */

/* Which changes of names that are not synced are lost. */
typedef enum loss {
    LOSE_NONE,
    LOSE_ALL,
    LOSE_END,    /* all from one on, as a journal loses them */
    LOSE_FOLDER, /* those of one folder from one on: the others came to the disk without them */
    LOSE_ONE,
    LOSE_ANY,
} loss;

/* How much of what is not synced comes to the disk. */
typedef struct cut {
    uint64_t seed, next;
    loss lost;
    double bytes, names; /* shares; of names for LOSE_ANY */
    bool sizes_only;
} cut;

static double draw(cut *c)
{
    lors_philox block = lors_philox_at(c->seed, c->next++, 0x706f776572u);
    return (double)block.word[0] / 4294967296.0;
}

static cut begin_cut(uint64_t seed)
{
    static const struct {
        loss lost;
        double bytes;
    } extremes[DISK_EXTREMES] = {{LOSE_ALL, 0}, {LOSE_NONE, 1}, {LOSE_NONE, 0},
                                 {LOSE_ALL, 1}, {LOSE_NONE, 0}, {LOSE_END, 1}};
    cut c = {.seed = seed, .sizes_only = seed == 4};
    if (seed < DISK_EXTREMES) {
        c.lost = extremes[seed].lost;
        c.bytes = extremes[seed].bytes;
    } else {
        c.lost = (loss)(LOSE_END + seed % 4);
        c.names = draw(&c);
        c.bytes = draw(&c) < 0.25 ? 1 : draw(&c);
    }
    return c;
}

/* Whole, torn or not at all. */
static void leave_write(cut *c, bytes *to, const write *w)
{
    bool all = c->bytes >= 1;
    if (c->sizes_only || !w->bytes) {
        if (c->sizes_only || all || draw(c) < c->bytes) {
            put_bytes(to, &(write){w->offset, w->end, NULL});
        }
        return;
    }
    bool torn = !all && draw(c) < 0.5, taken = all || draw(c) < c->bytes;
    for (size_t at = w->offset, end; at < w->end; at = end) {
        end = torn ? (at / SECTOR + 1) * SECTOR : w->end;
        end = end < w->end ? end : w->end;
        if (torn ? draw(c) < c->bytes : taken) {
            put_bytes(to, &(write){at, end, w->bytes + (at - w->offset)});
        }
    }
}

static void leave_file(cut *c, const inode *file, const char *name, tree *out)
{
    bytes left = {0};
    put_bytes(&left, &(write){0, file->kept.n, file->kept.at});
    for (int i = 0; i < file->n_writes; i++) {
        leave_write(c, &left, &file->writes[i]);
    }
    tree_add(out, name, left.at, left.n);
    free(left.at);
}

static bool share_a_name(const change *a, const change *b)
{
    bool shared = false;
    for (int i = 0; i < a->n && a->folder == b->folder; i++) {
        for (int k = 0; k < b->n; k++) {
            shared = shared || strcmp(a->to[i].name, b->to[k].name) == 0;
        }
    }
    return shared;
}

/* A change is lost where an earlier one of the same name is. */
static bool is_blocked(const disk *d, const bool *lost, int at)
{
    for (int i = 0; i < at; i++) {
        if (lost[i] && share_a_name(&d->changes[i], &d->changes[at])) {
            return true;
        }
    }
    return false;
}

static bool is_lost(cut *c, const disk *d, int at, int from)
{
    switch (c->lost) {
    case LOSE_NONE: return false;
    case LOSE_ALL: return true;
    case LOSE_END: return at >= from;
    case LOSE_FOLDER: return at >= from && d->changes[at].folder == d->changes[from].folder;
    case LOSE_ONE: return at == from;
    default: return draw(c) >= c->names;
    }
}

/* Where a loss begins: half the time at a name of the root, on which most depends. */
static int draw_change(cut *c, const disk *d)
{
    int of_root[MAX_PENDING], n = 0;
    for (int i = 0; i < d->n_changes; i++) {
        of_root[n] = i;
        n += d->changes[i].folder == ROOT;
    }
    bool root = draw(c) < 0.5 && n > 0;
    double where = draw(c);
    return root ? of_root[(int)(where * n)] : (int)(where * d->n_changes);
}

/* The names of all folders as they are on the disk afterwards. */
static void leave_names(cut *c, const disk *d, names *left)
{
    bool lost[MAX_PENDING];
    for (int i = 0; i < d->n_inodes; i++) {
        left[i] = d->inodes[i]->names_kept;
    }
    int from = draw_change(c, d);
    for (int i = 0; i < d->n_changes; i++) {
        const change *one = &d->changes[i];
        lost[i] = is_lost(c, d, i, from) || is_blocked(d, lost, i);
        for (int k = 0; !lost[i] && k < one->n; k++) {
            set_name(&left[one->folder], &one->to[k]);
        }
    }
}

void disk_cut(const disk *d, uint64_t seed, image *out)
{
    static names left[MAX_INODES];
    cut c = begin_cut(seed);
    leave_names(&c, d, left);
    out->n = 0;
    for (int i = 0; i < left[ROOT].n; i++) {
        NEED(out->n < 8, "more than 8 names");
        struct image_entry *e = &out->entries[out->n++];
        int number = left[ROOT].entries[i].inode;
        const inode *there = d->inodes[number];
        snprintf(e->name, sizeof e->name, "%s", left[ROOT].entries[i].name);
        e->folder = there->folder;
        e->files.n = 0;
        if (!there->folder) {
            leave_file(&c, there, "", &e->files);
        }
        for (int k = 0; k < left[number].n && there->folder; k++) {
            const entry *within = &left[number].entries[k];
            NEED(!d->inodes[within->inode]->folder, "a folder in a folder");
            leave_file(&c, d->inodes[within->inode], within->name, &e->files);
        }
        tree_sort(&e->files);
    }
}

/* --- images ---------------------------------------------------------------------------------- */

void image_clear(image *i)
{
    for (int k = 0; k < i->n; k++) {
        tree_clear(&i->entries[k].files);
    }
    i->n = 0;
}

static uint64_t hash_bytes(uint64_t hash, const void *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ ((const unsigned char *)at)[i]) * 0x100000001b3u;
    }
    return hash * 31 + n;
}

/* The order of the entries does not count. */
uint64_t image_hash(const image *i)
{
    uint64_t sum = 0;
    for (int k = 0; k < i->n; k++) {
        const struct image_entry *e = &i->entries[k];
        uint64_t hash = hash_bytes(e->folder, e->name, strlen(e->name));
        for (int f = 0; f < e->files.n; f++) {
            hash = hash_bytes(hash, e->files.files[f].name, strlen(e->files.files[f].name));
            hash = hash_bytes(hash, e->files.files[f].bytes, e->files.files[f].n_bytes);
        }
        sum += hash ^ hash >> 31;
    }
    return sum;
}

const tree *image_folder(const image *i, const char *name)
{
    for (int k = 0; k < i->n; k++) {
        if (strcmp(i->entries[k].name, name) == 0 && i->entries[k].folder) {
            return &i->entries[k].files;
        }
    }
    return NULL;
}

void image_write(const image *i, const char *folder)
{
    for (int k = 0; k < i->n; k++) {
        char path[512];
        const struct image_entry *e = &i->entries[k];
        snprintf(path, sizeof path, "%s/%s", folder, e->name);
        if (e->folder) {
            tree_write(path, &e->files);
            continue;
        }
        FILE *file = fopen(path, "wb");
        NEED(file, "%s cannot be created", path);
        fwrite(e->files.files[0].bytes, 1, e->files.files[0].n_bytes, file);
        NEED(fclose(file) == 0, "%s cannot be written", path);
    }
}

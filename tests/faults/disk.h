/* disk.h - a model of a POSIX file system: what is in memory, what is on the disk, and what a power
 * cut may leave.
 *
 * Writes and names are first only in memory. A sync of a file brings its bytes to the disk, that of
 * a folder its names, nothing else does. When the power is cut, of what was not synced any part may
 * have come to the disk, in any order: each write whole, torn or not at all, each change of a name
 * (which is atomic, a rename or exchange included) or none; only changes of the same name keep
 * their order. Nothing is promised of a file whose size came to the disk before its bytes: they
 * read as zeros. */
#ifndef LORS_TESTS_DISK_H
#define LORS_TESTS_DISK_H

#include <stdint.h>

#include "faults.h"
#include "tree.h"

typedef struct disk disk;

/* With two folders at the root, `out` and `.out.lors-staging`, on the disk; NULL: without. */
disk *disk_new(const tree *out, const tree *staging);
void disk_free(disk *d);

/* What a program did: calls on other paths than the root's are ignored. */
void disk_apply(disk *d, const trace_op *op);

/* The folder of this name in memory, as plain files. False if there is none. */
bool disk_folder(const disk *d, const char *name, tree *out);

/* What a power cut leaves now, by the seed; the first DISK_EXTREMES seeds are the extremes. */
enum { DISK_EXTREMES = 6 };
typedef struct image {
    int n;
    struct image_entry {
        char name[64];
        bool folder;
        tree files; /* of a folder; of a file: the one file, without a name */
    } entries[8];
} image;
void disk_cut(const disk *d, uint64_t seed, image *out);
void image_clear(image *i);
uint64_t image_hash(const image *i);
/* The folder of this name; NULL if there is none, or a plain file. */
const tree *image_folder(const image *i, const char *name);
/* Into the empty folder `folder`. */
void image_write(const image *i, const char *folder);

#endif

/* staging_internal.h - what the files of the staging folder share. */
#ifndef LORS_IO_STAGING_INTERNAL_H
#define LORS_IO_STAGING_INTERNAL_H

#include <sys/stat.h>

#include "io/staging.h"

struct lors_staging {
    char *out, *parent;
    char *lock, *staging, *old; /* paths: see staging.c */
    char *note;                 /* in the staging folder */
    int lock_fd;
    bool force;
    bool owns_staging; /* the staging folder is this run's, to be removed */
    bool owns_old;     /* after the commit: what OUT was, likewise */
    bool failed;       /* some file could not be written: never to be committed */
    bool condemned;    /* never to be left to a later run */
    bool discarded;    /* a folder with a note was there, and was removed */
    const char *rest;  /* what OUT was, of which something could not be removed; NULL: all was */
    int open_files;
};

/* Is there anything of this name? Follows no link. `exists` takes what cannot be examined for
 * nothing, `look` fails. */
bool lors_staging_exists(const char *path, struct stat *info);
lors_status lors_staging_look(const char *path, struct stat *info, bool *there);

/* staging_left.c: give an older OUT that a killed run had moved aside its name back; is there a
 * staging folder that could be taken over? */
lors_status lors_staging_recover(const lors_staging *staging);
bool lors_staging_is_left(const lors_staging *staging);
bool lors_staging_has_note(const lors_staging *staging);

#endif

/* run_child.h - a merge in a process of its own, which can be killed, and what it left. */
#ifndef LORS_TESTS_RUN_CHILD_H
#define LORS_TESTS_RUN_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/status.h>

typedef struct rc_merge {
    const char *recipe, *out;
    int32_t n_threads;
    uint64_t max_memory, max_shard, seed; /* 0: the default */
    bool resume, force;
    double kill_after;    /* seconds; 0: never */
    int64_t kill_at;      /* the file operation, 1-based, at which the process dies; 0: never */
    bool power_cut;       /* with it: all bytes that were not synced become zero; they are noted */
    int64_t cancel_at;    /* tensors done at which the caller cancels; 0: never */
    int64_t full_at;      /* the write, 1-based, from which on the disk is full; 0: never */
    int64_t no_sync_at;   /* the fsync, 1-based, that fails; 0: never */
    void (*meddle)(void); /* called once by the progress function; may be NULL */
    bool default_pace;    /* note finished tensors now and then, not a few at once */
} rc_merge;

typedef struct rc_outcome {
    bool killed;
    lors_status status;
    char sentence[1024], note[1024];
    char not_synced[256]; /* the path of the file whose fsync failed */
    int64_t n_operations, n_writes, n_syncs; /* of files */
    int64_t n_resumed;
    int64_t n_unsynced;  /* writes of weights that no sync had followed at the last rename */
    uint64_t done_bytes; /* when the progress function was last called */
} rc_outcome;

rc_outcome rc_run(const rc_merge *merge);

/* Remove what is there and cancel a merge with one worker in the middle of its n_tensors, until one
 * leaves something that --resume can go on from (it may be through, or at nothing, a few times). */
rc_outcome rc_interrupt(rc_merge merge, int n_tensors);

/* The same names and bytes, and the same lors.json but for times, memory, workers and what was
 * resumed? The first difference is printed. */
bool rc_same_outputs(const char *a, const char *b);

#endif

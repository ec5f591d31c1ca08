/* faults.h - what the fault loops share: one small merge, the table that fails, and what is said.
 *
 * A part (memory, ops, files, kill, power) repeats the merge of scene.c with one thing going wrong,
 * at every point where it can, and looks at what is left. A point has a name that is the same in
 * every run, so that each failure can be had again alone. */
#ifndef LORS_TESTS_FAULTS_H
#define LORS_TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <lors/status.h>

/* --- main.c ---------------------------------------------------------------------------------- */

/* What lies in the way of the output, and how it is replaced. */
typedef enum variant {
    VARIANT_NEW,       /* nothing */
    VARIANT_REPLACE,   /* an older output, exchanged for the new one */
    VARIANT_TWO_STEPS, /* the same where the file system cannot exchange */
    VARIANT_RESUME,    /* the same, and half of the new output that an interrupted run left */
    VARIANT_COUNT
} variant;
const char *variant_name(variant v);

typedef struct options {
    variant first, last;
    uint64_t stride;     /* every so many points; 1: all */
    const char *only;    /* NULL, or: the one point, as it was printed */
    uint64_t n_states;   /* power: states of the disk for each prefix */
    const char *without; /* power: NULL, or: calls of fsync on this path are lost */
} options;

/* Name what is about to be tried; should it crash or hang, the program ends with this name. */
void begin_point(const char *part, variant v, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Count a failure of the point at hand and say how to have it again. */
void fail_point(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t n_failed_points(void);
/* Is the point wanted, the index-th of its kind? Its name is as begin_point would have it. */
bool wanted(const options *o, uint64_t index, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What is leaked, here or in one of the last n points, fails the point; with a sanitizer only. */
void check_leaks(uint64_t n);

/* The parts; each prints its counts as one line. */
void run_memory(const options *o);
void run_planning(const options *o); /* of `memory`, too */
void run_ops(const options *o);
void run_files(const options *o);
void run_kill(const options *o);
void run_power(const options *o);

/* End the program: the test itself cannot go on. */
#define NEED(good, ...) ((good) ? (void)0 : die(__FILE__, __LINE__, #good, __VA_ARGS__))
void die(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* --- scene.c: the merge ----------------------------------------------------------------------- */

/* Write the models into the current folder, and learn what the old and the new output are. */
void scene_init(void);
/* From now on another merge of its own result: of this recipe (NULL: the scene's), on this device,
 * in so much memory (0: plenty). What VARIANT_RESUME finds is the scene's. */
void scene_use(const char *recipe, const char *device, uint64_t max_memory, bool exact);
/* The folder `place` as it is before a run of this variant. */
void scene_reset(variant v);
/* Recipe, plan and run, into place/out. VARIANT_RESUME: with `resume`. */
lors_status scene_merge(variant v, int n_threads);
/* What the last merge said of an interrupted run: its own, or one that it went on from. */
typedef struct scene_words {
    int64_t n_promised; /* so many tensors it keeps for the next run */
    int64_t n_resumed;  /* so many it took over */
    bool damaged;       /* more had been noted, but are not there */
} scene_words;
scene_words scene_said(void);
/* Verify place/out, and compare it with the base. */
lors_status scene_look(void);
/* Over what is there, with another result in other files. */
lors_status scene_merge_again(int n_threads);
/* What place/out, and the staging folder beside it, hold after scene_reset; NULL: there is none. */
const struct tree *scene_old(variant v);
const struct tree *scene_left(variant v);

typedef enum outcome {
    OUT_NONE,
    OUT_OLD,
    OUT_NEW,
    OUT_ASIDE, /* no place/out, but the old one whole in place/.out.lors-old */
    OUT_BROKEN
} outcome;
const char *outcome_name(outcome out);
/* What place/out is, by its bytes; a new one is also verified. */
outcome scene_outcome(void);
/* Nothing is beside place/out. */
bool scene_is_clean(void);
/* After a run that ended in `status`: the right outcome, a clean folder, a fit sentence, no open
 * file. Fails the point otherwise. What VARIANT_RESUME leaves may be there still, and the next run
 * resumes. */
void scene_check(variant v, lors_status status);
void scene_check_sentence(lors_status status);
void scene_check_descriptors(void);
/* The next run finds what this one left: it must bring back the old output, where that was put
 * aside, and clear away the rest. */
void scene_check_recovery(variant v);

/* --- table.c: a table of file operations that fails, or ends the process, at one of them ------ */

typedef enum op_kind {
    OP_OPEN,
    OP_CREATE,
    OP_CLOSE,
    OP_READ,
    OP_WRITE,
    OP_ALLOCATE,
    OP_SYNC,
    OP_MKDIR,
    OP_RENAME,
    OP_EXCHANGE,
    OP_UNLINK,
    OP_RMDIR,
    OP_LIST,
    OP_COUNT
} op_kind;
const char *op_name(op_kind op);

typedef enum fault_kind {
    FAULT_NONE,
    FAULT_ERROR,   /* the call fails */
    FAULT_FULL,    /* it fails, and all later ones that need room */
    FAULT_DEAD,    /* it fails, and all later ones */
    FAULT_ONE,     /* one byte is read or written */
    FAULT_HALF,    /* half */
    FAULT_ZERO,    /* nothing */
    FAULT_ALL_ONE, /* every transfer moves one byte */
    FAULT_ALL_HALF,
    FAULT_KILL_BEFORE,
    FAULT_KILL_HALF, /* half of the write is done */
    FAULT_KILL_AFTER
} fault_kind;

/* The nth call of its kind on this path, and at this offset. */
typedef struct point {
    op_kind op;
    int nth;
    off_t offset;
    char path[200]; /* of a rename both, with " > " between */
} point;

enum { POINT_TEXT = 300, MAX_POINTS = 4096 };
const char *point_text(const point *p, char out[POINT_TEXT]);

typedef struct point_list {
    size_t n;
    point points[MAX_POINTS];
} point_list;

/* Use the table from now on. It syncs nothing: what a power cut leaves is the part `power`'s. */
void table_use(void);
/* The next run has this fault at this point (NULL: none). `can_exchange`: or EINVAL. */
void table_arm(const point *at, fault_kind fault, int error, bool can_exchange);
bool table_was_hit(void);
/* Note every call from now on into the list, sorted by name at the end; NULL: no more. */
void table_note(point_list *list);
void point_list_sort(point_list *list);

/* What changes files, in the order in which it happened: for the part `power`. */
typedef struct trace_op {
    op_kind op;
    int fd;
    bool failed; /* a sync that failed */
    off_t offset;
    char *path, *to; /* malloc */
    unsigned char *bytes;
    size_t n_bytes;
} trace_op;

typedef struct trace {
    size_t n, capacity;
    trace_op *ops;
} trace;

/* Record from now on into the trace; NULL: no more. Calls of fsync on `without` are not recorded,
 * as though the program had not made them. */
void table_trace(trace *to, const char *without);
size_t table_hit_at(void); /* how many operations it held when the fault came */
void trace_clear(trace *t);

#endif

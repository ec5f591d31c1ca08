/* run.h - carry a plan out, and re-check what a run wrote. */
#ifndef LORS_RUN_H
#define LORS_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/checkpoint.h>
#include <lors/plan.h>
#include <lors/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lors_nonfinite {
    /* NaN or infinity in what is merged or copied, or overflow of the output: ERR_NUMERICS. */
    LORS_NONFINITE_REFUSE,
    /* Count them, and write what arithmetic makes of them (a low-rank part turns a NaN into a whole
     * matrix of them). */
    LORS_NONFINITE_PROPAGATE,
    /* Count them; they are read as zero, and what overflows in the output is written as zero. */
    LORS_NONFINITE_ZERO
} lors_nonfinite;

typedef struct lors_progress {
    uint64_t done_bytes, total_bytes; /* read and written */
    int64_t done_tensors, total_tensors;
    double seconds;                   /* since the start */
} lors_progress;

/* Called about ten times a second from the calling thread of lors_run. Return true to cancel: the
 * run then returns ERR_CANCELLED. */
typedef bool (*lors_progress_fn)(const lors_progress *progress, void *user);

/* Called from the same thread with a sentence for the user that is no error. */
typedef void (*lors_note_fn)(const char *sentence, void *user);

typedef struct lors_run_options {
    size_t struct_size; /* sizeof(lors_run_options) */
    bool force;         /* replace an existing output folder, when the new one is complete */
    bool verify;        /* re-read and check everything before the output gets its name */
    lors_nonfinite nonfinite;
    lors_progress_fn progress; /* may be NULL */
    void *user;
    /* With verify: how many tensors, drawn by the seed, are computed once more on the CPU (low-rank
     * parts are asked of the device again and judged against the singular value decomposition in
     * f64) and compared with what was written; -1: all, 0: none. */
    int64_t verify_tensors;
    lors_io io; /* how the models are read */
    /* Go on from the tensors that an interrupted run to the same folder has finished. They are
     * kept where version, recipe, options, devices and models (paths, sizes, times, headers) are
     * the same and their bytes still have the hashes that were noted; else all is merged anew.
     * The result has the same bytes either way. `note` is told what was found; may be NULL. */
    bool resume;
    lors_note_fn note;
} lors_run_options;

#define LORS_RUN_OPTIONS_INIT                                                          \
    {                                                                                  \
        sizeof(lors_run_options), false, false, LORS_NONFINITE_REFUSE, 0, 0, 32,       \
            LORS_IO_AUTO, false, 0                                                     \
    }

typedef struct lors_report lors_report;

typedef struct lors_report_summary {
    double seconds;                              /* wall time of the whole run */
    double read_seconds, compute_seconds, write_seconds; /* summed over threads: they overlap */
    uint64_t read_bytes, written_bytes;
    uint64_t direct_bytes;        /* of those read: past the system's page cache */
    uint64_t peak_bytes;          /* resident memory at its highest, as the kernel counts it */
    int64_t n_tensors, n_method, n_weighted, n_copied;
    int64_t n_zero_task_vectors;  /* (tensor, model) pairs in which nothing had changed */
    uint64_t n_input_nonfinite, n_overflow, n_nan; /* elements */
    double rounding_loss;         /* update lost to the output's rounding: 0 none, 1 all */
    int64_t n_low_rank;           /* low-rank parts, of all tensors and models */
    double least_energy;          /* of these: the least share of energy kept; 1 if none */
    int64_t n_rechecked;          /* tensors that verify computed once more */
    double worst_ratio;           /* of their low-rank parts: deviation over what is allowed */
    double finish_seconds;        /* of `seconds`: after the last tensor, hashing and committing */
    int64_t n_resumed;            /* tensors that an interrupted run had finished: times and bytes
                                     of the work are of this run alone */
} lors_report_summary;

/* Merge into the folder `out_path`. The folder appears only when it is complete and synced; until
 * then everything is in a staging folder beside it, which is removed on failure. Only where the run
 * was cancelled, or the machine failed it (disk, memory, device), after enough was finished to be
 * noted (seconds, or some 100 MB), that folder is left for a run with `resume` (the sentence says
 * so); a run without clears it, and so does one that cannot use it.
 *   plan     must have been made by lors_plan_create
 *   options  NULL: the defaults
 *   report   may be NULL; free with lors_report_free
 * Errors: ERR_IO (exists already, disk full, ...), ERR_NUMERICS, ERR_MISMATCH (an untied output
 * head), ERR_INPUT, ERR_LIMIT, ERR_DEVICE, ERR_CANCELLED. A model that changes while it is read is
 * ERR_IO, whatever its bytes then looked like. */
LORS_API lors_status lors_run(lors_plan *plan, const char *out_path,
                              const lors_run_options *options, lors_report **report);

LORS_API void lors_report_summarize(const lors_report *report, lors_report_summary *out);
/* The text of lors.json, with a last newline, read from the output. Free with lors_text_free.
 * Errors: ERR_IO, ERR_LIMIT. */
LORS_API lors_status lors_report_json(const lors_report *report, char **out);
LORS_API void lors_report_free(lors_report *report); /* NULL is allowed */

/* Recompute the hash of every file of a merged folder against its lors.json.
 *   n_files, n_bytes  what was checked; may be NULL
 * Errors: ERR_INPUT with the first file that differs, is missing or is unknown; ERR_IO. */
LORS_API lors_status lors_verify(const char *path, int64_t *n_files, uint64_t *n_bytes);

#ifdef __cplusplus
}
#endif
#endif

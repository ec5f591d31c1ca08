/* worker.h - what the files of a worker share: its memory, its steps, and what it is told. */
#ifndef LORS_RUN_WORKER_H
#define LORS_RUN_WORKER_H

#include "run/run_internal.h"

/* What is read and computed at once: all models of a unit, or of a matrix a batch of them (with the
 * first also the base). */
typedef struct lors_step {
    int64_t unit;           /* -1: none */
    int32_t from, n_models; /* models from .. from + n_models - 1 */
    int32_t n_requests;
    lors_transfer_req *requests; /* [n_models + 1] */
    uint64_t *at;                /* [n_models + 1]: place in the slot of source, then models */
    uint64_t n_bytes;            /* of the slot that are filled */
    lors_view slot;              /* staged */
} lors_step;

typedef struct lors_worker {
    lors_run_state *run;
    int32_t device; /* of the plan */
    lors_backend *backend;
    lors_queue *queue;
    lors_memory *staging, *memory; /* one block where the device's memory is the host's */
    lors_step steps[2];
    lors_view out, results, survey;          /* staged */
    lors_view raw, out_there, results_there; /* on the device */
    lors_view compute;
    lors_results found; /* of the unit at hand: views on the device */
    lors_transfer_req write;
    bool writing;
    int64_t write_job; /* whose bytes */
    double *weights, *numbers;
    unsigned char *check; /* LORS_CHUNK_BYTES, where outputs are compared, not written */
    int64_t cursor_unit;  /* what comes after the last step handed out */
    int32_t cursor_model;
} lors_worker;

static inline bool lors_step_begins(const lors_step *s)
{
    return s->from <= 0;
}

static inline bool lors_step_ends(const lors_job *job, const lors_step *s)
{
    return s->from + s->n_models >= job->n_models;
}

/* worker_compute.c: the step's numbers, from the staged slot to the staged output and results.
 * Returns when they are there. */
lors_status lors_worker_compute(lors_worker *w, const lors_step *s);
/* The same where the output is the source, byte for byte; numbers that are none are looked for. */
lors_status lors_worker_copy(lors_worker *w, const lors_step *s);
/* The host's view of results that lors_worker_compute brought back; `there` is one of w->found. */
void *lors_worker_result(const lors_worker *w, lors_view there);

#endif

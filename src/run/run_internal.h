/* run_internal.h - the state of a run, shared by its workers, and of each job in it. */
#ifndef LORS_RUN_RUN_INTERNAL_H
#define LORS_RUN_RUN_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <lors/run.h>

#include "base/hash.h"
#include "io/journal.h"
#include "io/staging.h"
#include "io/transfer.h"
#include "plan/plan_internal.h"

enum { LORS_TRANSFER_THREADS = 4 };
enum { LORS_SOURCE = -1 }; /* the operand that is no model */

/* A job while it is computed, and what is remembered of it for the report. */
typedef struct lors_run_job {
    lors_memory *state;          /* the method's, from the job's first unit to its last */
    double *constants;           /* [lors_method_constants] */
    lors_store_block *blocks;    /* one per LORS_BLOCK elements, from first unit to last */
    lors_model_result *results;  /* [n_models] */
    bool *changed;               /* [n_models]: some element differs from the base */
    lors_xxh **digests;          /* [1 + n_models + 1]: source, inputs, output, per chunk; of a
                                    finished job only the output's are left */
    unsigned char *kept;         /* of a stage: the result, until all that need it have ended */
    int32_t n_needed;            /* by so many jobs that have not ended */
    bool started;
    bool resumed;                /* finished by an earlier run: nothing is left to do */
    bool noted;                  /* by an earlier run, and yet to be made again: of a stage */
    int32_t phase, n_left;       /* phase in progress, and its units that are not done */
    uint64_t n_unwritten;        /* bytes of the output */

    double update, loss;         /* Frobenius norms: of the update, of what rounding took */
    uint64_t n_input_nonfinite, n_overflow, n_nan;
    double seconds;
    lors_xxh *hashes;            /* [1 + n_models + 1]: of all bytes of each, once it is finished */
    char *paths;                 /* of a resumed job: what its certificates' `path` point into */
} lors_run_job;

/* One weight file of the output. */
typedef struct lors_run_shard {
    char *path;    /* in the staging folder */
    bool found;    /* there already, with its header */
    int fd;        /* -1: not open */
    bool syncing;  /* somebody is at it: others wait */
    bool lost;     /* its sync failed: what is on the disk is not known any more */
    uint64_t left; /* data bytes that are not written yet */
    bool hashing;  /* as `syncing` */
    int64_t next_job;  /* the first that is not hashed: all before it are */
    uint64_t n_hashed; /* bytes */
    lors_sha256 *hash; /* NULL before there are any */
    char sha256[LORS_SHA256_TEXT]; /* "" until the last byte is written */
} lors_run_shard;

/* Finished tensors on their way into the journal. */
typedef struct lors_run_journal {
    lors_journal *file;   /* NULL: none is kept, as in the run of recheck.c */
    pthread_t thread;
    bool running;
    pthread_cond_t wake;
    /* Under the run's lock: */
    int64_t *pending;     /* [n_all_jobs]: of the output: written, perhaps not on the disk yet */
    int64_t n_pending;
    uint64_t n_pending_bytes;
    double since;         /* when the first of them was written */
    bool stop, noting;    /* the thread is to end; it has records in hand */
    int64_t n_recorded;   /* jobs of the output, those of earlier runs included */
} lors_run_journal;

typedef struct lors_worker lors_worker;

typedef struct lors_run_state {
    lors_plan *plan;
    const lors_run_options *options;
    double start, due; /* of the run; when the caller is to be told next */
    lors_transfer *transfer;
    lors_staging *staging;
    lors_run_shard *shards;
    lors_run_job *jobs;
    int64_t n_kept;              /* jobs that earlier runs finished */
    lors_run_journal journal;
    bool untouched;              /* what an earlier run left is still as that run left it */
    lors_worker **workers;       /* [plan->memory.n_workers] */
    lors_checkpoint *written;    /* NULL, or: compare with what was written instead of writing */

    pthread_mutex_t lock;        /* everything below, and started/phase/n_left of jobs */
    pthread_cond_t changed;
    int64_t next_unit[LORS_MAX_DEVICES];
    int64_t n_done_jobs;
    int32_t n_running;           /* workers */
    lors_status status;          /* of the first failure */
    char *sentence;
    uint64_t done_bytes;
    double compute_seconds;
    int64_t n_rechecked;         /* tensors */
    double worst_ratio;          /* of deviation to bound, over their low-rank parts */
} lors_run_state;

/* Keep the first failure (with the calling thread's sentence) and wake everybody. */
void lors_run_fail(lors_run_state *run, lors_status status);
/* That failure once more, for the calling thread. */
lors_status lors_run_outcome(lors_run_state *run);
bool lors_run_stopped(lors_run_state *run);

/* run_job.c: the life of a job. All but the first are called by workers. */
/* Count who needs what of the stages, once it is known which jobs are left out. */
lors_status lors_run_count_needs(lors_run_state *run);
lors_status lors_run_job_start(lors_run_state *run, int64_t index, lors_queue *queue);
/* Wait until the job is in `phase`; ERR_CANCELLED if the run stopped meanwhile. */
lors_status lors_run_job_await(lors_run_state *run, int64_t index, int32_t phase);
/* One unit of the job is done; the last of a phase settles it, the last of all ends the job. */
lors_status lors_run_job_unit_done(lors_run_state *run, const lors_unit *unit, lors_worker *w);
/* Of computing a step of it. */
void lors_run_job_add_seconds(lors_run_state *run, int64_t index, double seconds);
/* The method's settle, with a copy of its state on the host where it asks for it. */
lors_status lors_run_job_settle(lors_call *call, lors_worker *w, const lors_job *job,
                                int32_t phase);
lors_call lors_run_job_call(lors_run_state *run, int64_t index, lors_queue *queue);
void lors_run_job_clear(lors_run_state *run, int64_t index);

/* journal_thread.c: a thread that brings finished tensors to the disk now and then, and notes them
 * in the journal once they are there. Without a journal these do nothing. */
lors_status lors_run_journal_start(lors_run_state *run);
/* The job is finished, and written where it is of the output. Called under the lock. */
void lors_run_journal_add(lors_run_state *run, int64_t job);
/* End the thread. `last`: what is finished by now is noted first, unless the run is over before
 * anything was worth a note. Its failures are the run's. */
lors_status lors_run_journal_stop(lors_run_state *run, bool last);
/* For tests: how many bytes, and for how long, may be finished and not noted; 0: the defaults. */
void lors_run_journal_pace(uint64_t n_bytes, double seconds);

/* identity.c: everything that decides the output's bytes; the first record of the journal. */
enum { LORS_RESUME_WHY = 4096 };
lors_status lors_run_identity(const lors_run_state *run, lors_text *out);
/* Is what was found in a journal another one? Then `why` says what differs. */
bool lors_run_identity_differs(const lors_run_state *run, const lors_text *meant, const void *found,
                               size_t n_bytes, char why[LORS_RESUME_WHY]);

/* job_record.c: a record of a finished job. What is read and cannot be one of this merge is passed
 * over. Errors: ERR_LIMIT. */
size_t lors_run_record_bytes(const lors_run_state *run, int64_t job);
void lors_run_record_write(lors_run_state *run, int64_t job, lors_text *out);
lors_status lors_run_record_read(lors_run_state *run, const void *bytes, size_t n_bytes);

/* resume.c: take over what an earlier run finished, and have a journal open. */
lors_status lors_run_resume(lors_run_state *run);

/* workers.c: in the thread of lors_run while no worker is at work: tell the caller how far the run
 * is, ten times a second at most, or now; ERR_CANCELLED where the caller says so. */
lors_status lors_run_poll(lors_run_state *run);
lors_status lors_run_poll_now(lors_run_state *run);
/* Have all workers with their memory (with less of it where it cannot be had), let them work until
 * all units are done, and tell the caller meanwhile. */
lors_status lors_workers_open(lors_run_state *run);
lors_status lors_workers_run(lors_run_state *run);
void lors_workers_close(lors_run_state *run);

/* worker.c: one of them. After a failed open it is to be closed, too. */
lors_status lors_worker_open(lors_run_state *run, int32_t index, lors_worker **out);
void lors_worker_close(lors_worker *w); /* NULL is allowed */
void *lors_worker_run(void *worker);    /* takes units until there are none; one thread */

/* shards.c: look which are there; create all others; open one to write in it; tell how much of a
 * job was written: job by job, as far as there is no gap, it is hashed, with its last byte synced
 * and closed. All but the first two may be called from any thread. */
lors_status lors_run_shards_find(lors_run_state *run);
lors_status lors_run_shards_create(lors_run_state *run);
lors_status lors_run_shard_open(lors_run_state *run, int32_t index, int *fd);
lors_status lors_run_shard_sync(lors_run_state *run, int32_t index);
lors_status lors_run_written(lors_run_state *run, int64_t job, uint64_t n_bytes);
void lors_run_shards_free(lors_run_state *run);

/* ties.c: an output head that the base leaves out must equal what it is tied to; copied integers
 * and sinusoids that differ become warnings of the plan. */
lors_status lors_run_check_ties(lors_run_state *run, lors_plan *plan);

/* outputs.c: what stands beside the weights, and the hashes of everything. */
lors_status lors_run_write_side_files(lors_run_state *run);
/* Are those of the inputs what they were when the merge was planned? Errors: ERR_IO. */
lors_status lors_run_check_side_files(const lors_plan *plan, bool *changed);
lors_status lors_run_check_weights(lors_run_state *run); /* --verify: re-read what was written */

/* recheck.c: --verify: compute a sample of the tensors once more on the CPU, with the device's
 * low-rank parts judged against the reference, and compare with what was written. */
lors_status lors_run_plan_recheck(const lors_run_state *run);
lors_status lors_run_recheck(lors_run_state *run);
/* Part of a tensor of the output: the same bytes as in run->written? `piece`: LORS_CHUNK_BYTES. */
lors_status lors_run_compare_output(lors_run_state *run, int64_t job, uint64_t offset,
                                    const unsigned char *bytes, uint64_t n_bytes,
                                    unsigned char *piece);

/* report.c */
const char *lors_run_device_detail(const lors_plan *plan, int32_t device); /* what it is */
/* Before the work: ERR_LIMIT where lors.json or the index could be too large to be read again. */
lors_status lors_report_check_size(const lors_plan *plan);
lors_status lors_report_create(const lors_run_state *run, lors_report **out);
/* lors.json into the staging folder, tensor by tensor, with the hashes of all files there. */
lors_status lors_report_write(const lors_report *report, lors_run_state *run);
/* The numbers of the whole run, which lors.json cannot hold: it tells those until it is made. */
void lors_report_finish(lors_report *report, const lors_run_state *run, double finish_seconds);

/* XXH3-128 of the digests of a tensor's chunks; of one chunk its own digest. */
lors_xxh lors_run_fold_digests(const lors_xxh *digests, uint64_t n_bytes);
static inline uint64_t lors_run_chunks(uint64_t n_bytes)
{
    return (n_bytes + LORS_CHUNK_BYTES - 1) / LORS_CHUNK_BYTES;
}

/* How lors.json ends: the hash of all its bytes before this. It is read whole to be verified. */
#define LORS_SEAL_KEY "sha256_of_the_above"
#define LORS_SEAL_FORMAT ",\n \"" LORS_SEAL_KEY "\": \"%s\"\n}\n"
enum { LORS_REPORT_INDENT = 1, LORS_REPORT_MAX_BYTES = 512 << 20 };

/* Bytes begin .. end - 1 of a file into a hash. `run`: to be polled meanwhile, or NULL. */
lors_status lors_hash_range(lors_sha256 *state, int fd, const char *path, uint64_t begin,
                            uint64_t end, lors_run_state *run);
/* sha256 of a file of `folder`, in hex, and its size. */
lors_status lors_hash_file(const char *folder, const char *name, lors_run_state *run,
                           char out[LORS_SHA256_TEXT], uint64_t *n_bytes);

#endif

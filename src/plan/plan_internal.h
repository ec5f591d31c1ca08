/* plan_internal.h - the plan as the run sees it: jobs, units of work, files, memory. */
#ifndef LORS_PLAN_PLAN_INTERNAL_H
#define LORS_PLAN_PLAN_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/plan.h>

#include "io/checkpoint.h"
#include "io/model_folder.h"
#include "method/method_def.h"
#include "recipe/recipe_internal.h"

enum {
    LORS_CHUNK_BYTES = 1 << 19,  /* inputs and outputs are hashed in chunks of this size */
    LORS_UNIT_STEP = 1 << 18,    /* units hold a multiple of this many elements, or all of them:
                                    whole chunks, whatever the element type */
    LORS_COPY_BYTES = 8 << 20    /* a copied tensor is moved in pieces of this size */
};

/* One tensor of the output. */
typedef struct lors_job {
    const char *name;
    const char *role;
    const lors_ckpt_tensor *source;  /* in the reference model: name, shape, dtype, bytes to copy */
    const lors_ckpt_tensor **inputs; /* [n_models]; NULL where it is copied or converted */
    lors_treatment treatment;
    const char *reason;
    const lors_method_def *def;      /* NULL: bytes are copied */
    int32_t n_models;                /* of this job: 0 where it is copied or converted */
    const lors_cell *cells;          /* [n_params][n_models] */
    int64_t n_rows, n_cols;
    bool reads_source, by_matrix;
    lors_dtype out_dtype;
    int32_t shard;
    uint64_t out_offset, out_bytes;
    uint64_t unit_elements;          /* bytes for copies */
    int64_t first_unit;
    int32_t n_phases;                /* surveys + 1 when it takes several units, else 1 */
    int32_t n_ranges;                /* units per phase */
} lors_job;

/* What a worker takes at a time: elements first .. first + count - 1 of a job (bytes of a copy), in
 * one phase. A job in one unit goes through all its phases in it. */
typedef struct lors_unit {
    int64_t job;
    int32_t phase;
    uint64_t first, count;
} lors_unit;

typedef struct lors_shard {
    char *name;
    lors_text header; /* bytes before the data */
    uint64_t n_bytes; /* of the file */
} lors_shard;

/* An output head that the reference leaves out as tied: equal to `other` in this model, or
 * error. */
typedef struct lors_tie {
    int32_t model;
    const lors_ckpt_tensor *head, *other;
} lors_tie;

/* Memory of one worker, in bytes. */
typedef struct lors_memory_plan {
    uint64_t slot;    /* raw input of one step; there are two */
    uint64_t out;     /* raw output of one unit */
    uint64_t compute; /* f32 and f64 work space */
    uint64_t states;  /* of all jobs in flight, shared by the workers */
    uint64_t fixed;   /* program, libraries, headers, the plan itself */
    int32_t n_workers;
    uint64_t peak;
} lors_memory_plan;

struct lors_plan {
    const lors_recipe *recipe;
    const lors_backend_ops *ops;
    int32_t device_index;
    const char *device;
    lors_checkpoint *base;     /* NULL: none */
    lors_checkpoint **models;
    int32_t n_models;
    lors_checkpoint *source;   /* the base, or without one the first model: donor of all the rest */
    lors_job *jobs;            /* in the order of the output's bytes */
    int64_t n_jobs;
    lors_unit *units;
    int64_t n_units;
    lors_shard *shards;
    int32_t n_shards;
    lors_tie *ties;
    int32_t n_ties;
    lors_side_file *side_files;
    int32_t n_side_files;
    char *config_text;         /* config.json with the new dtype; NULL: copied as it is */
    size_t config_bytes;
    lors_memory_plan memory;
    uint64_t max_memory, seed;
    uint64_t read_bytes, write_bytes, n_elements;
    lors_list warnings;        /* char *, in the arena */
    lors_arena *arena;
};

/* Elements of a tile for a job of `n` elements on this plan's backend. */
int64_t lors_plan_tile(const lors_plan *plan, uint64_t n);
/* Bytes of work space that one worker needs for a job (without slots and output). */
uint64_t lors_plan_compute_bytes(const lors_plan *plan, const lors_job *job);
/* Bytes of the method's state for one job. */
uint64_t lors_plan_state_bytes(const lors_plan *plan, const lors_job *job);
/* The part of a call that is known before the run: tensor, models, parameters. */
lors_call lors_plan_call(const lors_plan *plan, const lors_job *job);

/* The steps of planning, one file each; all errors as lors_plan_create says. */
lors_status lors_plan_match(lors_plan *plan);              /* match.c: jobs and their inputs */
lors_status lors_plan_resolve(lors_plan *plan, bool has_out_dtype, lors_dtype out_dtype);
lors_status lors_plan_lay_out(lors_plan *plan, uint64_t max_shard_bytes, int32_t n_threads);
lors_status lors_plan_warn(lors_plan *plan, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif

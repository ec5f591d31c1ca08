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
    const lors_ckpt_tensor *source;   /* of the base, or without one of the first model: shape,
                                        dtype, bytes to copy */
    lors_checkpoint *source_model;    /* where it is read */
    const lors_ckpt_tensor **inputs;  /* [n_inputs]; NULL: the model lacks one that is copied */
    lors_checkpoint **input_models;   /* [n_inputs] */
    int32_t n_inputs;                 /* sources of its slice */
    const lors_recipe_module *module; /* where its parameters stand */
    const lors_recipe_slice *slice;
    const int32_t *layers; /* [n_inputs]: of the inputs; -1: outside the layers */
    double position;       /* in gradients */
    bool has_base;
    const char *origin; /* where its layer comes from; "" in a plain recipe */
    int32_t stage;      /* 0: a tensor of the output; else of this stage, kept for others */
    const int64_t *producers; /* [1 + n_inputs]: the job that computes source and inputs; -1: it is
                                 read from a file. NULL: all are */
    lors_treatment treatment;
    const char *reason;
    const lors_method_def *def;      /* NULL: bytes are copied */
    int32_t n_models;                /* of this job: 0 where it is copied or converted */
    const lors_cell *cells;          /* [n_params][n_models] */
    uint64_t key;                    /* of its random streams */
    int64_t n_rows, n_cols;
    bool reads_source, by_matrix;
    bool is_layer_matrix;            /* a 2-D weight of attention or MLP */
    bool compat;                     /* of its document */
    bool skip;                       /* a run over part of the plan leaves it out */
    int32_t n_batch;                 /* of a matrix: models at a time; else 0 */
    int32_t device;                  /* which of the plan's devices computes it */
    lors_dtype out_dtype;
    int32_t shard;
    uint64_t out_offset, out_bytes;
    uint64_t unit_elements;          /* bytes for copies */
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

/* Memory of one worker, in bytes. Raw input, raw output and results are there twice where the
 * device's memory is not the host's: staged, and on the device. */
typedef struct lors_memory_plan {
    uint64_t slot;    /* raw input of one step: no two operands share a page
                         (LORS_DIRECT_ALIGN); there are two staged, one on the device */
    uint64_t out;     /* raw output of one unit */
    uint64_t results; /* what operations find */
    uint64_t survey;  /* staged: a method's state, for its settle */
    uint64_t compute; /* f32 and f64 work space; on the device */
    uint64_t numbers; /* of a worker, on the host, beside its bytes: f64 */
    uint64_t state, constants; /* of one job in flight */
    uint64_t states;  /* of all jobs in flight, shared by the workers; on the device */
    uint64_t fixed;   /* program, libraries, headers, the plan itself, what stands beside it */
    uint64_t stages;  /* tensors of stages that are kept for others */
    int32_t n_workers; /* of all devices */
    int32_t n_batch;   /* the most matrices at a time */
    uint64_t peak;        /* of the host */
    uint64_t device_peak; /* of each device; 0 where it is the host */
} lors_memory_plan;

/* What the operations of a unit find: views into one block, which comes back to the host whole. */
typedef struct lors_results {
    lors_view findings; /* lors_findings [1 + n_models]: source, then models */
    lors_view differs;  /* u32 [n_models] */
    lors_view kept;     /* u64 [n_models] */
    lors_view blocks;   /* lors_store_block per LORS_BLOCK of the unit */
    uint64_t cleared_bytes; /* those before `blocks`: to be cleared before they are counted into */
    uint64_t n_bytes;
} lors_results;

enum { LORS_MAX_DEVICES = 16 };

typedef struct lors_plan_device {
    char name[32];
    int32_t index;
    lors_backend *backend;
    uint64_t free_bytes; /* when the plan was made */
} lors_plan_device;

struct lors_plan {
    const lors_recipe *recipe;
    const lors_backend_ops *ops; /* of all its devices */
    lors_plan_device devices[LORS_MAX_DEVICES];
    int32_t n_devices;
    char device[128];          /* "cpu", "cuda:0,1" */
    bool exact;
    lors_checkpoint *base;     /* NULL: none */
    lors_checkpoint **models;
    int32_t n_models;
    int32_t most_inputs;       /* of a job */
    lors_checkpoint *source;   /* the base, or without one the first model: donor of all the rest */
    lors_job *jobs;            /* in the order of the output's bytes, behind them the stages' */
    int64_t n_jobs;            /* of the output */
    int64_t n_all_jobs;
    lors_plan **stages;        /* of a recipe of several documents: matched and resolved; their jobs
                                  are copied to this plan's */
    int32_t n_stages;
    lors_plan *whole;          /* of a stage: the plan that it is part of */
    lors_checkpoint *output;   /* of a stage: its tensors as inputs of others, without files */
    lors_checkpoint *donor;    /* of configuration and side files: the source, or its stage's */
    uint64_t *held;            /* [n_jobs]: bytes of stages that go with a tensor of the output, the
                                  largest first */
    uint64_t held_longer;      /* of those that several tensors of the output need */
    lors_unit *units;
    int64_t n_units;
    lors_shard *shards;
    int32_t n_shards;
    lors_tie *ties;
    int32_t n_ties;
    lors_side_file *side_files;
    int32_t n_side_files;
    char *config_text;         /* config.json with new dtype or layers; NULL: copied as it is */
    size_t config_bytes;
    lors_memory_plan memory;
    uint64_t unit;             /* elements, at most, of a unit */
    int32_t n_threads;         /* workers, at most */
    uint64_t max_memory, max_shard_bytes, seed;
    uint64_t beside;   /* bytes of memory that are taken while it runs, by another plan */
    bool keeps_values; /* there is memory for methods to keep values from survey to survey */
    bool follow_symlinks, has_out_dtype;
    lors_dtype out_dtype;      /* asked for beside the recipe */
    int32_t threads_given;
    uint64_t read_bytes, write_bytes, n_elements;
    lors_list warnings;        /* char *, in the arena */
    lors_arena *arena;
};

/* How all models of the plan are read. */
void lors_plan_choose_io(const lors_plan *plan, lors_io io);
/* lay_out.c: bytes that the plan and its run take beside those of workers and the program. */
uint64_t lors_plan_kept_bytes(const lors_plan *plan);
/* Does one worker make all surveys of this job, and keep what they are made of? */
bool lors_plan_keeps_values(const lors_plan *plan, const lors_job *job);
/* Elements of a tile for a unit of `n` elements of the job on this plan's backend. */
int64_t lors_plan_tile(const lors_plan *plan, const lors_job *job, uint64_t n);
/* The least multiple of `step` elements that the job's rows, or groups of rows, fill; `step` itself
 * where tiles need none whole. */
uint64_t lors_plan_step(const lors_job *job, uint64_t step);
/* Bytes of the method's state that its settle reads on the host. */
uint64_t lors_plan_settle_bytes(const lors_plan *plan, const lors_job *job);
/* Rounded up to LORS_DIRECT_ALIGN. */
uint64_t lors_plan_paged(uint64_t n_bytes);
/* Bytes of the method's state for one job. */
uint64_t lors_plan_state_bytes(const lors_plan *plan, const lors_job *job);
/* The part of a call that is known before the run: tensor, models, parameters. */
lors_call lors_plan_call(const lors_plan *plan, const lors_job *job);
/* Lay the work space of a job out from `at` (without memory: only measure it) into the views of the
 * call; and the results. Both return the bytes. */
uint64_t lors_plan_carve(const lors_plan *plan, const lors_job *job, lors_view at, lors_call *call);
uint64_t lors_plan_carve_results(const lors_job *job, lors_view at, lors_results *results);
/* The same merge once more, for one device of the backend `ops`, which the new plan owns from here
 * on (also where it fails), in the memory that `plan` leaves while its workers have none. Its jobs
 * are those of `plan`, in the same order. */
lors_status lors_plan_again(const lors_plan *plan, const lors_backend_ops *ops,
                            lors_backend *backend, lors_plan **out);
/* After memory that was planned could not be had: the next smaller way to do the same work, which
 * gives the same bytes. false: there is none. */
bool lors_plan_shrink(lors_plan *plan);

/* layers.c: does a tensor belong to the module? What is in no stack lies before an encoder, or
 * behind a decoder. */
bool lors_plan_in_module(const lors_recipe_module *module, const lors_tensor_name *described);
/* How many layers a model has in a module, and in each stack by itself. */
int32_t lors_plan_layer_count(const lors_checkpoint *model, const lors_recipe_module *module);
void lors_plan_count_stacks(const lors_checkpoint *model, int32_t counts[3]);
/* The model of a recipe's index, LORS_THE_BASE the base (NULL: there is none). */
lors_checkpoint *lors_plan_model(const lors_plan *plan, int32_t model);
/* Do modules and ranges of layers fit the models? */
lors_status lors_plan_check_layers(const lors_plan *plan);
/* "a[3] + b[7] on c[3]", from which layers a tensor of a sliced recipe comes; "" of others. */
lors_status lors_plan_set_origin(lors_plan *plan, lors_job *job);
/* The text of config.json with the output's numbers of layers, in place of plan->config_text. */
lors_status lors_plan_config_layers(lors_plan *plan);

/* stages.c: the documents before the last, each a plan that is matched and resolved. */
lors_status lors_plan_stages(lors_plan *plan);
/* After all is resolved: the stages' jobs behind the plan's own, tied to those that need them. */
lors_status lors_plan_join_stages(lors_plan *plan);
/* Which bytes are held meanwhile. */
lors_status lors_plan_measure_stages(lors_plan *plan);
/* The job that computes an operand (-1: the source); -1: it is read. */
static inline int64_t lors_job_producer(const lors_job *job, int32_t operand)
{
    return job->producers ? job->producers[operand + 1] : -1;
}
/* Call `each` for a job and all jobs before it that it needs, those first, each once: `done` is
 * [n_all_jobs]. */
void lors_plan_walk(const lors_plan *plan, int64_t job, bool *done,
                    void (*each)(void *user, int64_t job), void *user);

/* plan.c: an empty plan; its models opened. */
lors_status lors_plan_new(const lors_recipe *recipe, lors_plan **out);
lors_status lors_plan_open_models(lors_plan *plan);

/* The steps of planning, one file each; all errors as lors_plan_create says. */
lors_status lors_plan_match(lors_plan *plan);              /* match.c: jobs and their inputs */
lors_status lors_plan_resolve(lors_plan *plan, bool has_out_dtype, lors_dtype out_dtype);
lors_status lors_plan_config(lors_plan *plan); /* beside.c: config.json */
lors_status lors_plan_side_files(lors_plan *plan);
lors_status lors_plan_lay_out(lors_plan *plan, uint64_t max_shard_bytes, int32_t n_threads);
lors_status lors_plan_make_units(lors_plan *plan);
lors_status lors_plan_warn(lors_plan *plan, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif

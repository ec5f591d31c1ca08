/* plan.h - exactly what a merge will do, decided from headers alone, before any weight is read. */
#ifndef LORS_PLAN_H
#define LORS_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/recipe.h>
#include <lors/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lors_plan lors_plan;

/* What may be given beside the recipe. Start from LORS_PLAN_OPTIONS_INIT. */
typedef struct lors_plan_options {
    size_t struct_size;          /* sizeof(lors_plan_options): room to grow */
    const char *device;          /* "auto", "cpu", "cuda", "cuda:0,1", "cuda:all"; NULL: auto, the
                                    first GPU, or the CPU where there is none */
    int32_t n_threads;           /* 0: one per processor */
    uint64_t max_memory_bytes;   /* resident memory of the whole process, and of each other
                                    device; 0: 1.5e9 */
    uint64_t max_shard_bytes;    /* 0: one file; else tensors are packed into shards of this size */
    const char *out_dtype;       /* "f32", "f16", "bf16"; NULL: the recipe's, else the base's */
    const uint64_t *seed;        /* NULL: the recipe's, else 0 */
    bool follow_symlinks;        /* allow links that leave a model's folder */
    bool exact;                  /* low-rank parts by the singular value decomposition in f64 alone:
                                    slow and sure */
} lors_plan_options;

#define LORS_PLAN_OPTIONS_INIT {sizeof(lors_plan_options), 0, 0, 0, 0, 0, 0, false, false}

typedef enum lors_treatment {
    LORS_TREAT_METHOD,   /* the merge method itself */
    LORS_TREAT_WEIGHTED, /* outside the method's scope: plain weighted sum of task vectors */
    LORS_TREAT_COPY      /* bytes copied from the base */
} lors_treatment;

/* One tensor of the output. Pointers are borrowed from the plan. */
typedef struct lors_job_info {
    const char *name;      /* as in the base, NUL-terminated, not escaped */
    const char *role;      /* "attention.q", "cross_attention.out", "mlp", "norm", "other", ... */
    lors_treatment treatment;
    const char *reason;    /* why it is copied or only weighted; "" for the method */
    const char *dtype;     /* of the output: "F32", "F16", "BF16", "I64", ... */
    const int64_t *shape;
    int32_t n_dims;
    uint64_t n_elements;
    uint64_t read_bytes;   /* over all inputs */
    uint64_t write_bytes;
    int64_t rank;          /* low-rank methods: the rank asked for; -1: by energy, or not used */
    bool tiled;            /* too large for the memory limit in one piece: merged in pieces */
    const char *device;    /* which computes it: "cpu", "cuda:1" */
    const char *origin;    /* the layers it comes from, "a[3] + b[7] on c[3]"; "": a plain merge */
} lors_job_info;

typedef struct lors_plan_summary {
    const char *method;
    const char *device;
    int32_t n_models;
    int64_t n_tensors, n_method, n_weighted, n_copied;
    uint64_t n_elements;
    uint64_t read_bytes, write_bytes;
    uint64_t peak_bytes;      /* the most resident memory the run will need */
    uint64_t max_memory_bytes; /* the limit it was planned for */
    uint64_t device_peak_bytes; /* the most memory of each other device; 0 on the CPU */
    int32_t n_workers;        /* threads that compute: fewer than asked for where memory is short */
    int32_t n_shards;
    int32_t n_side_files;     /* config, tokenizer, ... copied beside the weights */
} lors_plan_summary;

/* One of the documents before the last of a recipe, whose result is an input of later ones and is
 * never written. Pointers are borrowed. */
typedef struct lors_stage_info {
    const char *name, *method;
    int32_t n_models;
    int64_t n_tensors;
    uint64_t n_bytes; /* of its result */
} lors_stage_info;

/* Make a plan. Opens every model, checks names, shapes, dtypes and configurations against each
 * other, resolves every parameter for every tensor, and lays out memory and the output files.
 *   recipe   must outlive the plan
 *   options  NULL: the defaults
 * Errors: ERR_RECIPE, ERR_INPUT, ERR_MISMATCH, ERR_IO, ERR_LIMIT (the memory limit cannot hold the
 * largest step; the message says what would), ERR_DEVICE. */
LORS_API lors_status lors_plan_create(const lors_recipe *recipe, const lors_plan_options *options,
                                      lors_plan **out);
LORS_API void lors_plan_free(lors_plan *plan); /* NULL is allowed */

LORS_API void lors_plan_summarize(const lors_plan *plan, lors_plan_summary *out);
LORS_API int64_t lors_plan_job_count(const lors_plan *plan);
LORS_API void lors_plan_job(const lors_plan *plan, int64_t index, lors_job_info *out);

LORS_API int32_t lors_plan_stage_count(const lors_plan *plan);
LORS_API void lors_plan_stage(const lors_plan *plan, int32_t index, lors_stage_info *out);

/* Things the user should know though they are no errors; the i-th, 0-based. A run may add some that
 * only the weights tell: tensors that are copied from the base though a model's differ. */
LORS_API int32_t lors_plan_warning_count(const lors_plan *plan);
LORS_API const char *lors_plan_warning(const lors_plan *plan, int32_t index);

/* The whole plan as JSON text (UTF-8, two-space indent, a last newline). Free with
 * lors_text_free. */
LORS_API lors_status lors_plan_json(const lors_plan *plan, char **out);
LORS_API void lors_text_free(char *text); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif

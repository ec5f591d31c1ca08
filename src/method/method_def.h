/* method_def.h - what a merge method is made of: a description, and callbacks that compose backend
 * operations.
 *
 * A method opens no file, allocates nothing, and sees neither a tensor's name nor a device. Per
 * tensor it is driven by the run in one of three ways:
 *
 *   by tiles   survey(pass) over all tiles, settle(pass), ... for each of n_surveys passes, then
 *              apply over all tiles. All models of a tile are present at once. Tiles may come in
 *              any order and from several threads; a tensor may be larger than memory.
 *   by matrix  (apply_matrix set) the whole tensor is one matrix, models come one batch after
 *              another, each adding its part to acc.
 *   whole      (apply_whole set) as by matrix, but with the task vectors of all models at once.
 *
 * Operations are queued, and may be done later than the callback returns: what the host is to see
 * goes into the call's results.
 */
#ifndef LORS_METHOD_METHOD_DEF_H
#define LORS_METHOD_METHOD_DEF_H

#include <lors/method.h>

#include "backend/backend_ops.h"

/* A resolved parameter: a number, or for ranks a count / a share of min(rows, cols) / an energy. */
typedef struct lors_cell {
    double number;   /* bools 0 or 1; a rank's count */
    double energy;   /* > 0: rank by energy */
} lors_cell;

/* What a method did to one model's part of one tensor; fields it does not use stay zero. */
typedef struct lors_model_result {
    bool zero;         /* the task vector is zero */
    bool has_rank, has_kept;
    bool counts_kept;  /* n_kept is to be taken from call->kept when that is there */
    lors_certificate certificate;
    uint64_t n_kept;   /* entries selected */
} lors_model_result;

typedef struct lors_call {
    const lors_backend_ops *ops;
    lors_queue *queue;

    /* The tensor. */
    int32_t n_models;
    int64_t n_rows, n_cols; /* as a matrix: first dimension x product of the others */
    int64_t n_last;         /* length of the last dimension, which divides n_cols; 1 without any */
    uint64_t n_elements;
    bool has_base;
    bool is_layer_matrix;   /* a 2-D weight of attention or MLP: what low rank is for */
    bool compat;            /* mergekit's rules where they differ */
    uint64_t key;           /* of this tensor's random streams: seed and name */
    const void *row;        /* of the method's family */
    const lors_cell *cells; /* [n_params][n_models]; global parameters repeat */
    lors_view state;        /* state_bytes */
    bool shared;            /* other workers use it, too, each in other tiles */
    const void *state_on_host; /* a copy of its first settle_bytes */
    lors_view staged;       /* settle_bytes, where a matrix's method may have its own copy */
    double *constants;      /* [lors_method_constants], zeroed; for settle to leave to apply */

    /* A tile: elements first .. first + count - 1. Slices are `stride` elements apart. */
    uint64_t first;
    int64_t count, stride;
    lors_view base;    /* f32 [count]; absent without a base */
    lors_view stack;   /* f32 [n_models][stride], right behind the base: base is slice -1 */
    lors_view acc;     /* f64 [count]: what apply computes; added to the base if adds_to_base */
    lors_view values;  /* f32 [n_models][stride], scratch, where the method asks for it */
    bool has_values;   /* they are as the survey before left them (lors_kept) */
    lors_view masks;   /* u8 [n_models][stride], the same */
    lors_view signs;   /* i8 [count], the same */
    double *weights;   /* [n_models], host scratch */

    /* A batch of matrices: models from_model .. from_model + n_batch - 1 (in the plan: the largest
     * batch; whole: all of them, of which only `delta` is there, already the task vectors, and
     * results say which are zero). base and acc are over all elements, stacks [n_batch][stride];
     * masks reach to (n_batch - 1) * stride + tile, and work on `tile` elements of each matrix at a
     * time. */
    int32_t from_model, n_batch;
    int64_t tile;
    bool exact;        /* low-rank parts by the singular value decomposition alone */
    bool fresh;        /* acc is empty: apply_matrix sets instead of adding, and clears this */
    lors_view x;       /* f32 */
    lors_view delta;   /* f32, scratch */
    lors_view low;     /* f32, scratch */
    lors_view scratch; /* ops->truncate_bytes; of a tile, or whole: scratch_bytes */
    double *numbers;   /* whole: [n_numbers], host scratch */
    lors_view kept;    /* u64 [n_batch] */
    lors_model_result *results; /* [n_models] */
} lors_call;

enum { LORS_CALL_CONSTANTS = 4 }; /* besides one a model */

/* Work space of a tile that a method may ask for. */
enum { LORS_USES_VALUES = 1, LORS_USES_MASKS = 2, LORS_USES_SIGNS = 4 };

/* What is needed of the survey before. */
typedef enum lors_kept {
    LORS_KEPT_NONE,
    LORS_KEPT_VALUES, /* its values */
    LORS_KEPT_ALL     /* its values, and nothing else: base and stack are not loaded */
} lors_kept;

typedef struct lors_method_def {
    lors_method_info info;
    const void *row;   /* what tells it from others of its family; becomes call->row */
    bool outside_is_mean; /* outside its scope task vectors are averaged, not summed */
    bool adds_to_base; /* acc is an update of the base, where there is one; else the whole result */
    bool by_rows;      /* tiles hold whole rows of the matrix */
    bool by_columns;   /* tiles hold whole groups of LORS_ROW_GROUP rows, but for the last */
    int32_t uses;      /* LORS_USES_... */
    int32_t (*surveys)(const lors_call *call); /* passes before apply; NULL: none */
    /* Can these parameters be used? Called by the plan for every tensor: cells, shape, n_models are
     * set, views are not. Errors: ERR_RECIPE. NULL: always. */
    lors_status (*check)(const lors_call *call);
    /* Does the method leave the tensor at its base, whatever the weights of the models (without a
     * base: at its first model)? NULL: no. */
    bool (*is_base)(const lors_call *call);
    /* What does the same with these parameters, by its own parameters of the same names: a simpler
     * method (task arithmetic, where nothing is left out), or a variant that is driven otherwise;
     * NULL: itself. The plan takes that instead. */
    const struct lors_method_def *(*instead)(const lors_call *call);
    /* Where all models have the same value in an element, is that the result but for rounding,
     * wherever the base lies? Then it is so to the bit, also where base + (model - base) would
     * round. Asked when all is settled. NULL: no. */
    bool (*keeps_equal)(const lors_call *call);
    uint64_t (*state_bytes)(const lors_call *call); /* NULL: none */
    uint64_t (*settle_bytes)(const lors_call *call); /* of the state, from its beginning, that
                                                        settle reads on the host; NULL: none */
    uint64_t (*scratch_bytes)(const lors_call *call); /* for a tile of call->tile, or whole */
    lors_status (*begin)(lors_call *call);          /* before the first survey; NULL: nothing */
    lors_status (*survey)(lors_call *call, int32_t pass);
    /* What this survey (or the result: pass is their number) needs again of the survey before. Who
     * makes all surveys of a tensor then keeps it (call->has_values). For values that cost more
     * than loading the models once more. NULL: nothing. */
    lors_kept (*keeps)(const lors_call *call, int32_t pass);
    lors_status (*settle)(lors_call *call, int32_t pass);
    /* Exactly one of these. `sum`: the method is this plain weighted sum of call->stack (and
     * call->base), which is loaded, computed and stored at once; its weights may be
     * call->weights. */
    lors_sum (*sum)(const lors_call *call);
    lors_status (*apply)(lors_call *call);
    lors_status (*apply_matrix)(lors_call *call);   /* state: one for all batches */
    lors_status (*apply_whole)(lors_call *call);    /* sets acc; some task vector is not zero */
    int64_t (*n_numbers)(const lors_call *call);
} lors_method_def;

/* How many numbers settle may leave to apply: for each row, or column, where tiles hold those. */
static inline uint64_t lors_method_constants(const lors_method_def *def, const lors_call *call)
{
    int64_t n = def && def->by_rows ? call->n_rows : def && def->by_columns ? call->n_cols : 1;
    return (uint64_t)(n > 0 ? n : 1) * (uint64_t)call->n_models + LORS_CALL_CONSTANTS;
}

static inline int32_t lors_method_surveys(const lors_method_def *def, const lors_call *call)
{
    return def->surveys ? def->surveys(call) : 0;
}

static inline double lors_call_number(const lors_call *call, int32_t param, int32_t model)
{
    return call->cells[(int64_t)param * call->n_models + model].number;
}

const lors_method_def *lors_method_def_find(const char *name);
/* Index of the parameter so named, -1 if the method has none. */
int32_t lors_method_param(const lors_method_info *method, const char *name);
/* Plain weighted sum of task vectors: what tensors outside a method's scope get. */
extern const lors_method_def lors_method_task_arithmetic;
/* The same without a base: a weighted average of the models. */
extern const lors_method_def lors_method_linear;
/* The base itself, in another storage type; no models, no parameters. Not in the table. */
extern const lors_method_def lors_method_convert;

#endif

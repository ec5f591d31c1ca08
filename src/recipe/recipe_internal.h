/* recipe_internal.h - the typed recipe that the plan reads: strings mean something only before. */
#ifndef LORS_RECIPE_RECIPE_INTERNAL_H
#define LORS_RECIPE_RECIPE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/method.h>
#include <lors/recipe.h>

#include "base/dtype.h"
#include "base/memory.h"
#include "recipe/scope.h"

/* Where in the recipe something stands, for messages of the plan; line 0: set by a call. */
typedef struct lors_place {
    int32_t line, column;
} lors_place;

/* The value of a parameter for one tensor. */
typedef enum lors_value_kind {
    LORS_VALUE_NUMBER,
    LORS_VALUE_SHARE,
    LORS_VALUE_ENERGY
} lors_value_kind;
typedef struct lors_value {
    lors_value_kind kind; /* SHARE and ENERGY only for LORS_PARAM_RANK */
    double number;        /* bools are 0 and 1; a share of 1 % is 0.01 */
} lors_value;

/* `value:` as written: a scalar, or a gradient over the layers of a stack: layer l of n lies at
 * t = l / (n - 1) of the list (the only layer of one: t = 1), linear between neighbours; tensors
 * outside the layers take t = 0. */
typedef struct lors_setting_case {
    lors_selector *filter; /* NULL: everything */
    lors_place filter_place;
    lors_value *values;
    int32_t n_values; /* 1: scalar; else a gradient (numbers only) */
} lors_setting_case;

/* One parameter set in one place: the first case whose filter matches counts; none: not set. */
typedef struct lors_setting {
    int32_t param; /* index in the method's parameters */
    lors_setting_case *cases;
    int32_t n_cases;
    lors_place place;
} lors_setting;

typedef struct lors_settings {
    lors_setting *items;
    int32_t count;
} lors_settings;

/* What a path leads to, through links. */
typedef struct lors_identity {
    bool known; /* something is there */
    uint64_t device, inode;
    int32_t stage; /* 1 + the document of the recipe that is meant, 0: a folder */
} lors_identity;

/* One folder (or an earlier document's result) among the inputs, however often it is used. */
typedef struct lors_recipe_model {
    char *path;    /* resolved against the recipe's folder; the name of a document */
    char *written; /* as written */
    char *name;    /* in an expression; NULL: none */
    lors_place place;
    lors_identity identity;
} lors_recipe_model;

enum { LORS_THE_BASE = -1, LORS_NO_MODEL = -2 }; /* in place of an index of models */

/* Layers first .. end - 1 of a stack; end -1: all of them, whatever their number. */
typedef struct lors_layers {
    int32_t first, end;
    lors_place place;
} lors_layers;

/* An operand of a slice. */
typedef struct lors_recipe_source {
    int32_t model;
    bool subtracted; /* the model that the source before it was tuned from: it has the same
                        parameters, and its weight is that one's times -1 */
    lors_layers layers;
    lors_settings settings;
    lors_place place;
} lors_recipe_source;

/* A run of layers of the output, and what is merged into it. */
typedef struct lors_recipe_slice {
    lors_recipe_source *sources;
    int32_t n_sources;
    int32_t base; /* LORS_NO_MODEL: nothing here is relative to a base */
    bool lists_base; /* among its sources, of which it is then none */
    lors_layers base_layers;
    lors_settings settings;
    lors_place place;
} lors_recipe_slice;

/* A stack of layers of the output, with what lies before and behind it, from its slices. */
typedef struct lors_recipe_module {
    lors_stack stack; /* NONE: everything */
    lors_recipe_slice *slices;
    int32_t n_slices;
    lors_settings settings;
    lors_place place;
} lors_recipe_module;

typedef struct lors_scope_entry {
    lors_selector *selector;
    lors_place place;
} lors_scope_entry;

typedef enum lors_outside {
    LORS_OUTSIDE_DEFAULT,
    LORS_OUTSIDE_WEIGHTED,
    LORS_OUTSIDE_BASE
} lors_outside;

struct lors_recipe {
    char *label;  /* file name for messages */
    char *text;   /* the YAML as read (NULL when built by calls): copied into the output */
    size_t text_bytes;
    char *folder; /* relative paths are relative to it */
    char *name;   /* by which later documents call this one's result; NULL: none */
    struct lors_recipe **documents; /* of the file, in order; the last of them is the recipe, the
                                       others its stages; NULL when built by calls */
    int32_t n_documents, document;  /* this one's place */
    bool owns_documents, is_used;   /* by a later one */
    lors_place place;               /* of the document */
    const lors_method_info *method;
    lors_place method_place;
    char *base_path, *base_written; /* NULL: none */
    lors_place base_place;
    lors_identity base_identity;
    lors_recipe_model *models; /* without the base */
    int32_t n_models;
    lors_recipe_module *modules; /* a plain recipe: one, of one slice, of all models */
    int32_t n_modules;
    bool sliced;            /* `slices:` or `modules:`: the output's layers are laid out anew */
    int32_t tokenizer;      /* whose tokenizer: a model, or LORS_THE_BASE (without one the first) */
    lors_list notes;        /* char *: what the user should know though it is no error */
    lors_settings settings; /* global `parameters:` */
    lors_scope_entry *scope; /* any of them selects; n_scope 0: the method's default */
    int32_t n_scope;
    lors_outside outside;   /* what happens outside a scope: `outside: weighted | base` */
    bool merge_sinusoid;    /* parameter merge_encoder_positions: true */
    bool compat;            /* compat: mergekit: its rules where they differ */
    bool has_dtype, has_out_dtype, has_seed;
    lors_dtype dtype, out_dtype;
    uint64_t seed;
};

/* For which tensor a value is wanted. */
typedef struct lors_value_at {
    const lors_recipe_module *module;
    const lors_recipe_slice *slice;
    const lors_recipe_source *source; /* NULL: one value for all of them */
    const lors_subject *input;        /* what filters of the source are asked about */
    const lors_subject *output;       /* what all others are */
    double position;                  /* in gradients, 0 to 1 */
} lors_value_at;

/* The value of parameter `param` (index in the method). The first of these that has one: source,
 * slice, module, recipe, the method's fallback_value (*from_recipe = false). */
lors_value lors_recipe_value(const lors_recipe *recipe, int32_t param, const lors_value_at *at,
                             bool *from_recipe);

/* Where layer `layer` of n lies in a gradient: tensors before, behind and outside the layers
 * (layer -1) at the beginning, the only layer of one at the end, as in mergekit. */
double lors_layer_position(int32_t layer, int32_t n_layers);

/* The settings of the source, or of the one that it is subtracted from. */
const lors_settings *lors_source_settings(const lors_recipe_source *source);

/* Is the recipe as a whole right: number of models, base, required parameters? What is read from
 * YAML has passed; one built by calls is checked by the plan. Errors: ERR_RECIPE. */
lors_status lors_recipe_check(const lors_recipe *recipe);

/* "recipe.yaml:4:13" (or the label alone without a line) into `out`. */
const char *lors_recipe_locate(const lors_recipe *recipe, lors_place place, char out[512]);

#endif

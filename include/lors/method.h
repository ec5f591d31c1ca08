/* method.h - which merge methods there are and which parameters each takes. */
#ifndef LORS_METHOD_H
#define LORS_METHOD_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lors_param_kind {
    LORS_PARAM_NUMBER, /* a real number in [minimum, maximum] */
    LORS_PARAM_BOOL,   /* true or false */
    LORS_PARAM_RANK,   /* a count >= 0, a share such as "1%", or {energy: e} with 0 < e <= 1 */
    LORS_PARAM_CHOICE  /* one of `words` */
} lors_param_kind;

/* One parameter of a method, as written under `parameters:` in a recipe. */
typedef struct lors_param_info {
    const char *name;
    lors_param_kind kind;
    bool per_model; /* may also be set under a model, where it wins over the global value */
    bool required;  /* has no default */
    double minimum; /* NUMBER: the allowed range, inclusive unless minimum_open */
    double maximum;
    bool minimum_open;     /* the minimum itself is not allowed */
    const char *fallback;  /* the default in words, "1 / number of models"; NULL: required */
    double fallback_value; /* the default; RANK: as a share; NaN: 1 / number of models */
    const char *summary;   /* one line */
    const char *const *words; /* CHOICE: NULL-terminated; fallback_value is an index into them */
} lors_param_info;

typedef struct lors_method_info {
    const char *name;
    const char *summary; /* one line */
    const char *formula; /* one or more lines of plain text */
    const char *paper;   /* source of the method */
    bool needs_base;     /* base_model is required */
    bool takes_base;     /* base_model is not required, but makes task vectors of the models */
    int32_t min_models;  /* number of models besides the base */
    int32_t max_models;  /* 0: no limit */
    bool base_is_model;  /* an entry of `models` that is the base itself stays a merged model
                            (linear); otherwise such an entry is dropped, its task vector being 0 */
    bool compat_base_joins; /* with `compat: mergekit` the base is one of the models */
    bool uses_matrices;  /* treats whole matrices (low rank) within its scope */
    const char *cost;    /* what a tensor costs beside being read and written, in words */
    const char *scope;   /* the default scope in words ("attention, mlp"; "every tensor") */
    int32_t n_params;
    const lors_param_info *params;
} lors_method_info;

/* Number of methods; the info of the i-th (0-based, NULL if out of range) or of the one so named
 * (NULL if there is none). The pointers stay valid for the life of the program. */
LORS_API int32_t lors_method_count(void);
LORS_API const lors_method_info *lors_method_at(int32_t index);
LORS_API const lors_method_info *lors_method_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif

/* recipe_parts.h - what the files of the recipe share: messages, typed values, paths, keys. */
#ifndef LORS_RECIPE_RECIPE_PARTS_H
#define LORS_RECIPE_RECIPE_PARTS_H

#include "recipe/recipe_internal.h"
#include "recipe/recipe_yaml.h"

enum { LORS_RECIPE_MAX_BYTES = 1000000, LORS_KEY_MAX = 64 };

/* ---- recipe.c ---- */

/* "label:line:column: key: ..." as ERR_RECIPE; `key` may be NULL. */
lors_status lors_recipe_fail(const char *label, lors_place place, const char *key,
                             const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same in front of the stored sentence of another call (a selector's), unless it is a limit. */
lors_status lors_recipe_fail_within(lors_status status, const char *label, lors_place place,
                                    const char *key);

/* ", did you mean 'weight'?" into `out` if one of `names` (NULL-terminated) is near to `word`,
 * else "". Returns out. */
const char *lors_recipe_suggest(const char *word, const char *const *names, char out[128]);

void lors_setting_clear(lors_setting *setting);
void lors_settings_clear(lors_settings *settings);

/* ---- recipe_values.c: one node to one typed value ---- */

/* Where a value stands, for its messages. */
typedef struct lors_value_context {
    const char *label;
    const char *key; /* "parameters.density" */
} lors_value_context;

lors_status lors_read_text(const lors_value_context *at, const lors_yaml *node, const char **out);
lors_status lors_read_bool(const lors_value_context *at, const lors_yaml *node, bool *out);
lors_status lors_read_seed(const lors_value_context *at, const lors_yaml *node, uint64_t *out);
lors_status lors_read_dtype(const lors_value_context *at, const lors_yaml *node, lors_dtype *out);
lors_status lors_read_outside(const lors_value_context *at, const lors_yaml *node,
                              lors_outside *out);
/* `mergekit` or `none`. */
lors_status lors_read_compat(const lors_value_context *at, const lors_yaml *node, bool *out);
/* Text, or {layers: A-B}, which is how YAML reads an entry `layers: A-B`. */
lors_status lors_read_selector(const lors_value_context *at, const lors_yaml *node,
                               bool allow_substring, lors_selector **out);
/* The value of a method's parameter: a scalar, a gradient, or cases. On success *out is the
 * caller's, to clear. */
lors_status lors_read_setting(const lors_value_context *at, const lors_param_info *param,
                              const lors_yaml *node, lors_setting *out);

/* ---- recipe_paths.c ---- */

/* `written` resolved against `folder` (NULL: the current folder), "." and doubled slashes removed;
 * new memory. */
lors_status lors_recipe_resolve(const char *label, lors_place place, const char *key,
                                const char *folder, const char *written, char **out);
lors_status lors_recipe_set_base_at(lors_recipe *recipe, const char *written, lors_place place);
/* Are two paths the same folder, by their texts or through links? */
bool lors_recipe_same_place(const char *path_a, const lors_identity *a, const char *path_b,
                            const lors_identity *b);
/* Adds the model as the last one. */
lors_status lors_recipe_add_model_at(lors_recipe *recipe, const char *key, const char *written,
                                     lors_place place);

/* ---- recipe_parameters.c ---- */

/* One entry of the global parameters (model -1) or of those of one model. The same key again
 * replaces the value. `prefix`: "parameters" or "models[0].parameters". */
lors_status lors_recipe_put_parameter(lors_recipe *recipe, int32_t model, const char *prefix,
                                      const char *key, lors_place key_place,
                                      const lors_yaml *value);
lors_status lors_recipe_put_scope(lors_recipe *recipe, const char *key, const lors_yaml *value);
/* dtype, out_dtype, seed: false if `key` is none of them. */
bool lors_recipe_is_plain_key(const char *key);
lors_status lors_recipe_put_plain(lors_recipe *recipe, const char *key, const lors_yaml *value);
lors_status lors_recipe_put_method(lors_recipe *recipe, const char *name, lors_place place);
/* A top-level key that only has meaning under `parameters:`. */
bool lors_recipe_is_parameter(const char *key);

#endif

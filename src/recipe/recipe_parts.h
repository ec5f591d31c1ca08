/* recipe_parts.h - what the files of the recipe share: messages, typed values, paths, keys. */
#ifndef LORS_RECIPE_RECIPE_PARTS_H
#define LORS_RECIPE_RECIPE_PARTS_H

#include "base/text.h"
#include "recipe/recipe_internal.h"
#include "recipe/recipe_yaml.h"

enum { LORS_RECIPE_MAX_BYTES = 1000000, LORS_KEY_MAX = 96 };

/* What the name of a model in an expression is made of. */
#define LORS_NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

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
const char *lors_recipe_suggest_of(const char *word, lors_name_at *at, const void *context,
                                   char out[128]);
/* "a, b, c"; cut short where it is longer than the room for it. Returns out. */
const char *lors_recipe_join(const char *const *names, char *out, size_t n_bytes);
const char *lors_recipe_join_of(lors_name_at *at, const void *context, char *out, size_t n_bytes);

void lors_setting_clear(lors_setting *setting);
void lors_settings_clear(lors_settings *settings);
void lors_recipe_model_clear(lors_recipe_model *model);

/* A new one at the end; pointers to earlier ones are stale. */
lors_status lors_recipe_add_module(lors_recipe *recipe, lors_recipe_module **out);
lors_status lors_recipe_add_slice(lors_recipe_module *module, lors_recipe_slice **out);
lors_status lors_recipe_add_source(lors_recipe_slice *slice, int32_t model, lors_place place,
                                   lors_recipe_source **out);
/* A recipe's one module and slice until the text asks for others. */
lors_status lors_recipe_begin(lors_recipe *recipe);

/* Remember "label:line:column: key: sentence" for the user; the same sentence only once. */
lors_status lors_recipe_note(lors_recipe *recipe, lors_place place, const char *key,
                             const char *sentence);

/* ---- recipe_values.c: one node to one typed value ---- */

/* Where a value stands, for its messages. */
typedef struct lors_value_context {
    const char *label;
    const char *key; /* "parameters.density" */
} lors_value_context;

lors_status lors_read_text(const lors_value_context *at, const lors_yaml *node, const char **out);
lors_status lors_read_bool(const lors_value_context *at, const lors_yaml *node, bool *out);
/* A count from 0 to `most`. */
lors_status lors_read_count(const lors_value_context *at, const lors_yaml *node, int32_t most,
                            int32_t *out);
/* Is the text a decimal number as recipes have it, and finite? */
bool lors_decimal_parse(const char *text, double *out);
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
/* The model so written: *index is where it is among the models, LORS_THE_BASE if it is the base;
 * LORS_NO_MODEL if it is neither. */
lors_status lors_recipe_find_model(const lors_recipe *recipe, const char *key, const char *written,
                                   lors_place place, int32_t *index);
/* The model so written, added as the last one unless it is among them. The base is added, too. */
lors_status lors_recipe_use_model(lors_recipe *recipe, const char *key, const char *written,
                                  lors_place place, int32_t *index);
/* Adds the model as the last one, with a source of the recipe's one slice; ERR_RECIPE if it is
 * there already. */
lors_status lors_recipe_add_model_at(lors_recipe *recipe, const char *key, const char *written,
                                     lors_place place);
bool lors_recipe_is_base(const lors_recipe *recipe, int32_t model);

/* ---- recipe_models.c: `models`, `slices` and `modules` ---- */

bool lors_recipe_is_among(const char *word, const char *const *names);
/* A folder, or mergekit's {model: {path: FOLDER}}. */
lors_status lors_read_reference(const lors_value_context *at, const lors_yaml *node,
                                const char **out, lors_place *place);
lors_status lors_recipe_read_parameters(lors_recipe *recipe, lors_settings *settings,
                                        bool of_source, const char *prefix, const lors_yaml *node);
lors_status lors_recipe_read_models(lors_recipe *recipe, const lors_yaml *root);

/* ---- recipe_check.c ---- */

/* Entries that are the base itself go, unless the method merges it like any other. */
lors_status lors_recipe_drop_base(lors_recipe *recipe);
/* With `compat`: the base as one of the models, where the method's table says so. */
lors_status lors_recipe_join_base(lors_recipe *recipe);

/* ---- recipe_expression.c ---- */

/* "A + 0.5 * (B - C)" over the names of the models: their weights. */
lors_status lors_recipe_read_expression(lors_recipe *recipe, const lors_yaml *node);

/* ---- recipe_parameters.c ---- */

/* One entry of a map of parameters. The same key again replaces the value.
 *   settings   where it goes
 *   of_source  they belong to one model, so that values for the whole merge have no place there
 *   prefix     "parameters" or "models[0].parameters" */
lors_status lors_recipe_put_parameter(lors_recipe *recipe, lors_settings *settings, bool of_source,
                                      const char *prefix, const char *key, lors_place key_place,
                                      const lors_yaml *value);
/* Takes over what `setting` holds, also on failure. */
lors_status lors_recipe_put_setting(lors_settings *settings, lors_setting *setting);
lors_status lors_recipe_put_scope(lors_recipe *recipe, const char *key, const lors_yaml *value);
/* dtype, out_dtype, seed: false if `key` is none of them. */
bool lors_recipe_is_plain_key(const char *key);
lors_status lors_recipe_put_plain(lors_recipe *recipe, const char *key, const lors_yaml *value);
lors_status lors_recipe_put_method(lors_recipe *recipe, const char *name, lors_place place);
/* A top-level key that only has meaning under `parameters:`. */
bool lors_recipe_is_parameter(const char *key);

#endif

/* recipe.h - what to merge: read from YAML, or built call by call.
 *
 * configs/README.md describes the YAML, which is a superset of mergekit's.
 */
#ifndef LORS_RECIPE_H
#define LORS_RECIPE_H

#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lors_recipe lors_recipe;

/* Read a recipe.
 *   path / label   file to read, or the name to use in messages for `text`
 *   text, n_bytes  YAML (or JSON) in UTF-8, not necessarily NUL-terminated, at most 1 MB
 *   folder         what relative model paths in `text` are relative to; NULL: the current folder.
 *                  In a file they are relative to the file's folder.
 *   out            set on success; free with lors_recipe_free
 * Errors: ERR_IO (cannot read), ERR_RECIPE (every mistake, as `path:line:column: ...` with the
 * allowed range or the nearest right name), ERR_LIMIT. */
LORS_API lors_status lors_recipe_read(const char *path, lors_recipe **out);
LORS_API lors_status lors_recipe_parse(const char *label, const char *text, size_t n_bytes,
                                       const char *folder, lors_recipe **out);

/* Build a recipe without YAML: create, add, set, then plan. Paths are relative to the current
 * folder. Parameter values are given as the YAML text that would stand behind the key ("0.2",
 * "[0, 1]", "{energy: 0.9}", "[attention, mlp]").
 *   lors_recipe_set      a key of `parameters:`, or one of the top-level keys dtype and seed
 *   lors_recipe_set_for  a parameter of one model; `model` counts from 0 in order of adding
 * Errors: ERR_RECIPE, ERR_LIMIT. */
LORS_API lors_status lors_recipe_create(const char *method, lors_recipe **out);
LORS_API lors_status lors_recipe_set_base(lors_recipe *recipe, const char *path);
LORS_API lors_status lors_recipe_add_model(lors_recipe *recipe, const char *path);
LORS_API lors_status lors_recipe_set(lors_recipe *recipe, const char *key, const char *value);
LORS_API lors_status lors_recipe_set_for(lors_recipe *recipe, int32_t model, const char *key,
                                         const char *value);

/* Number of models (without the base), the i-th one's path and the base's (NULL if none): borrowed,
 * as resolved against the recipe's folder. */
LORS_API int32_t lors_recipe_model_count(const lors_recipe *recipe);
LORS_API const char *lors_recipe_model_path(const lors_recipe *recipe, int32_t model);
LORS_API const char *lors_recipe_base_path(const lors_recipe *recipe);
LORS_API const char *lors_recipe_method(const lors_recipe *recipe);

/* NULL is allowed. */
LORS_API void lors_recipe_free(lors_recipe *recipe);

#ifdef __cplusplus
}
#endif
#endif

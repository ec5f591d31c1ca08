/* lors.h - everything: merge fine-tuned checkpoints of one base model into one model.
 *
 *   lors_recipe_read -> lors_plan_create -> lors_run -> a folder that loads like the base's.
 *
 * All functions are safe to call from several threads on different objects. Paths are bytes as the
 * file system knows them. Sizes are in bytes and 64 bits wide everywhere.
 */
#ifndef LORS_LORS_H
#define LORS_LORS_H

#include <lors/checkpoint.h>
#include <lors/device.h>
#include <lors/method.h>
#include <lors/plan.h>
#include <lors/recipe.h>
#include <lors/run.h>
#include <lors/status.h>

#define LORS_VERSION_MAJOR 0
#define LORS_VERSION_MINOR 1
#define LORS_VERSION_PATCH 0
#define LORS_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library in use, "0.1.0". */
LORS_API const char *lors_version(void);

#ifdef __cplusplus
}
#endif
#endif

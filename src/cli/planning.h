/* planning.h - what `merge` and `plan` share: options, making a plan, showing it. */
#ifndef LORS_CLI_PLANNING_H
#define LORS_CLI_PLANNING_H

#include <lors/plan.h>
#include <lors/recipe.h>

#include "cli/options.h"

typedef struct cli_plan_settings {
    const char *device;
    const char *dtype;
    cli_number threads, max_memory, max_shard_size, seed;
    bool follow_symlinks, exact;
    bool json, quiet;
} cli_plan_settings;

/* The options that fill it, for the `shared` of a command whose settings begin with it. */
enum { CLI_N_PLAN_OPTIONS = 8, CLI_THREADS_MAX = 1024 };
extern const cli_option cli_plan_options[CLI_N_PLAN_OPTIONS];

typedef struct cli_planned {
    lors_recipe *recipe;
    lors_plan *plan;
} cli_planned;

/* Read the recipe and plan it, print the plan's warnings (unless quiet). Returns 0, or the exit
 * code after an error was printed. Release in both cases. */
int cli_plan_make(const char *recipe_path, const cli_plan_settings *settings, cli_planned *out);
void cli_plan_release(cli_planned *planned);

/* Print the plan's warnings from the one numbered `first` on; nothing if quiet. */
void cli_plan_warn(const lors_plan *plan, const cli_plan_settings *settings, int32_t first);

/* Print the plan on stdout, as a table or as JSON; nothing if quiet. Returns the exit code. */
int cli_plan_show(const lors_plan *plan, const cli_plan_settings *settings);

#endif

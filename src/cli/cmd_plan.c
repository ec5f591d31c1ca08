/* cmd_plan.c - `lors plan`: what merge would do, from headers alone. */
#include <stddef.h>

#include "cli/commands.h"
#include "cli/planning.h"

static const cli_option options[] = {
    {"json", 0, CLI_FLAG, offsetof(cli_plan_settings, json), NULL, NULL, 0, 0,
     "print the whole plan as JSON"},
    {"quiet", 'q', CLI_FLAG, offsetof(cli_plan_settings, quiet), NULL, NULL, 0, 0,
     "print only errors: the exit code says whether it would work"},
};

static int run(int argc, char **argv)
{
    cli_plan_settings settings = {0};
    cli_arguments arguments;
    cli_planned planned;
    int exit_code = cli_parse(&cli_plan, argc, argv, &settings, &arguments);
    if (exit_code >= 0)
        return exit_code;
    exit_code = cli_plan_make(arguments.items[0], &settings, &planned);
    if (exit_code == 0)
        exit_code = cli_plan_show(planned.plan, &settings);
    cli_plan_release(&planned);
    return exit_code;
}

const cli_command cli_plan = {
    .name = "plan",
    .arguments = "RECIPE [OPTIONS]",
    .summary = "what merge would do, from headers alone",
    .example = "lors plan recipe.yaml",
    .about = "Show what 'lors merge' would do with every tensor, how much it would read and\n"
             "write, and how much memory it needs. Reads no weights and writes nothing.\n"
             "Treatments:\n"
             "  merge     by the merge method itself\n"
             "  weighted  plain weighted sum: the tensor is outside the method's scope\n"
             "  copy      from the base model",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .shared = cli_plan_options,
    .n_shared = CLI_N_PLAN_OPTIONS,
    .min_arguments = 1,
    .max_arguments = 1,
    .missing = "name the recipe: lors plan RECIPE",
    .run = run,
};

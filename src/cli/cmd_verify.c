/* cmd_verify.c - `lors verify`: is a merged folder still what was written? */
#include <inttypes.h>
#include <stddef.h>

#include <lors/run.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/messages.h"

typedef struct verify_settings {
    bool json, quiet;
} verify_settings;

static const cli_option options[] = {
    {"json", 0, CLI_FLAG, offsetof(verify_settings, json), NULL, NULL, 0, 0,
     "print the result as JSON"},
    {"quiet", 'q', CLI_FLAG, offsetof(verify_settings, quiet), NULL, NULL, 0, 0,
     "print only errors: the exit code says whether all is well"},
};

static int show_json(const char *path, int64_t n_files, uint64_t n_bytes, const char *problem)
{
    json_t *root = json_object();
    bool failed = false;
    cli_json_put(root, "path", cli_json_text(path), &failed);
    cli_json_put(root, "ok", json_boolean(!problem), &failed);
    cli_json_put(root, "files", json_integer(n_files), &failed);
    cli_json_put(root, "bytes", cli_json_count(n_bytes), &failed);
    cli_json_put(root, "problem", cli_json_text(problem), &failed);
    return cli_json_print(root, failed);
}

static int run(int argc, char **argv)
{
    verify_settings settings = {0};
    cli_arguments arguments;
    int64_t n_files = 0;
    uint64_t n_bytes = 0;
    char size[32], shown[CLI_ESCAPED_MAX];
    lors_status status;
    int exit_code = cli_parse(&cli_verify, argc, argv, &settings, &arguments);
    if (exit_code >= 0)
        return exit_code;
    status = lors_verify(arguments.items[0], &n_files, &n_bytes);
    exit_code = 0;
    if (settings.json)
        exit_code = show_json(arguments.items[0], n_files, n_bytes,
                              status == LORS_OK ? NULL : lors_last_error());
    if (status != LORS_OK)
        return cli_fail(status);
    if (!settings.json && !settings.quiet)
        cli_out("%s: %" PRId64 " files, %s, as written\n", cli_escape(arguments.items[0], shown),
                n_files, cli_format_bytes(n_bytes, size)); /* weights, recipe and card at least */
    return exit_code;
}

const cli_command cli_verify = {
    .name = "verify",
    .arguments = "OUT [OPTIONS]",
    .summary = "check a merged folder against its lors.json",
    .example = "lors verify merged",
    .about = "Recompute the hash of every file of a merged folder and compare it with the\n"
             "one that merge wrote into OUT/lors.json. A file that is missing, changed or\n"
             "unknown is an error (exit code 4).",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .min_arguments = 1,
    .max_arguments = 1,
    .missing = "name a merged folder: lors verify OUT",
    .run = run,
};

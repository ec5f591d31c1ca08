/* main.c - `lors`: find the command and run it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <lors/lors.h>

#include "cli/commands.h"
#include "cli/messages.h"
#include "cli/signals.h"

static const cli_command *const commands[] = {
    &cli_merge, &cli_plan, &cli_inspect, &cli_compare, &cli_verify, &cli_methods, &cli_devices,
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; ++i) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

static const char *command_name_at(size_t index, const void *user)
{
    (void)user;
    return index < N_COMMANDS ? commands[index]->name : NULL;
}

static int fail_unknown(const char *name)
{
    char shown[CLI_ESCAPED_MAX];
    const char *nearest = cli_nearest(name, command_name_at, NULL);
    const char *what = name[0] == '-' ? "option" : "command";
    cli_escape(name, shown);
    if (nearest)
        return cli_fail_usage("", "there is no %s '%s'; did you mean '%s'?", what, shown, nearest);
    return cli_fail_usage("", "there is no %s '%s'", what, shown);
}

typedef void (*print_fn)(const char *format, ...);

static void print_help(print_fn print)
{
    print("Example:\n  lors merge recipe.yaml -o merged\n\n"
          "Usage: lors COMMAND [OPTIONS] ARGUMENTS\n\n"
          "Merge fine-tuned checkpoints of one base model into one model.\n\nCommands:\n");
    for (size_t i = 0; i < N_COMMANDS; ++i)
        print("  %-9s  %s\n", commands[i]->name, commands[i]->summary);
    print("\n'lors COMMAND --help' says more about one. 'lors --version' prints the version.\n\n"
          "Exit codes:\n");
#define PRINT_EXIT_CODE(name, code, meaning) print("  %3d  %s\n", code, meaning);
    LORS_STATUS_LIST(PRINT_EXIT_CODE)
#undef PRINT_EXIT_CODE
    print("'lors compare' exits with 1 if the models differ.\n");
}

static int dispatch(int argc, char **argv)
{
    const cli_command *command;
    const char *word = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        print_help(cli_plain); /* nothing was asked for: help, but not as a result */
        return lors_status_exit_code(LORS_ERR_USAGE);
    }
    if (strcmp(word, "--version") == 0) {
        cli_out("lors %s\n", lors_version());
        return 0;
    }
    if (strcmp(word, "help") == 0 && argc > 2) {
        static char help[] = "--help";
        char *arguments[] = {help};
        command = find_command(argv[2]);
        return command ? command->run(1, arguments) : fail_unknown(argv[2]);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help(cli_out);
        return 0;
    }
    command = find_command(word);
    return command ? command->run(argc - 2, argv + 2) : fail_unknown(word);
}

/* OpenBLAS starts a thread for each core before main; all of them would be idle, since the workers
 * are our own, and where memory is limited (ulimit -v) they never end. It is told so by this alone,
 * before it is loaded; where the program cannot begin again it goes on as it is. Begun by its path,
 * it keeps its name in lists of processes. A program that the loader was asked for by name (no
 * AT_BASE) is not what /proc/self/exe is: that is the loader. */
static void begin_with_one_blas_thread(char **argv)
{
    static const char variable[] = "OPENBLAS_NUM_THREADS";
    static char path[4096]; /* ends with NUL */
    const char *given = getenv(variable);
    if ((given && strcmp(given, "1") == 0) || getauxval(AT_BASE) == 0 ||
        setenv(variable, "1", 1) != 0) {
        return;
    }
    ssize_t n_bytes = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n_bytes > 0 && (size_t)n_bytes < sizeof path - 1) {
        execv(path, argv);
    }
}

int main(int argc, char **argv)
{
    begin_with_one_blas_thread(argv);
    cli_messages_start();
    cli_signals_start();
    return cli_messages_finish(dispatch(argc, argv));
}

/* options.h - one table-driven parser of options for all commands, which also writes their help. */
#ifndef LORS_CLI_OPTIONS_H
#define LORS_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How an option's value is read, and the type of the field it is stored in. */
typedef enum cli_option_kind {
    CLI_FLAG,   /* bool: no value */
    CLI_TEXT,   /* const char *: as given */
    CLI_CHOICE, /* const char *: one of the words in `choices` */
    CLI_NUMBER, /* cli_number: a whole number in [minimum, maximum] */
    CLI_SIZE    /* cli_number: bytes, "1500M", "1.5G", "2GiB", more than 0 */
} cli_option_kind;

typedef struct cli_number {
    bool given;
    uint64_t value;
} cli_number;

typedef struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* short form; 0: none */
    cli_option_kind kind;
    size_t offset;       /* of the field in the command's settings */
    const char *value;   /* what the help calls the value: "SIZE"; NULL for a flag */
    const char *choices; /* "f32|f16|bf16" */
    uint64_t minimum, maximum;
    const char *help; /* lines joined by \n */
} cli_option;

typedef struct cli_command {
    const char *name;
    const char *arguments; /* for the usage line: "RECIPE -o OUT" */
    const char *summary;   /* one line, for the list of commands */
    const char *example;   /* lines joined by \n: what the help starts with */
    const char *about;     /* paragraphs behind the usage line */
    const cli_option *options;
    size_t n_options;
    const cli_option *shared; /* more, for the first member of the settings; may be NULL */
    size_t n_shared;
    int32_t min_arguments, max_arguments;
    const char *missing;               /* what to say when arguments are missing */
    int (*run)(int argc, char **argv); /* argv behind the command's name; returns the exit code */
} cli_command;

enum { CLI_ARGUMENTS_MAX = 2 };

typedef struct cli_arguments {
    const char *items[CLI_ARGUMENTS_MAX];
    int32_t count;
} cli_arguments;

/* Read the options and arguments of a command, in any order; "--" ends the options.
 *   settings  the struct that the options' offsets point into; its content is the defaults
 * Returns -1 to go on, or the exit code to leave with (help was printed, or an error). */
int cli_parse(const cli_command *command, int argc, char **argv, void *settings,
              cli_arguments *arguments);

/* The candidate nearest to a mistyped word, NULL if none is near. */
typedef const char *(*cli_candidate_fn)(size_t index, const void *user); /* NULL after the last */
const char *cli_nearest(const char *word, cli_candidate_fn candidate, const void *user);

/* "1500M", "1.5G", "2GiB", "4096": decimal k M G T and binary Ki Mi Gi Ti, with or without a B. */
bool cli_parse_size(const char *text, uint64_t *out);

#endif

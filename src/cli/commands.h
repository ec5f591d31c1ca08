/* commands.h - the commands, one file each; main.c holds them in a table. */
#ifndef LORS_CLI_COMMANDS_H
#define LORS_CLI_COMMANDS_H

#include "cli/options.h"

extern const cli_command cli_merge;
extern const cli_command cli_plan;
extern const cli_command cli_inspect;
extern const cli_command cli_compare;
extern const cli_command cli_verify;
extern const cli_command cli_methods;
extern const cli_command cli_devices;

#endif

/* signals.h - the program ends with an exit code, never by a signal. */
#ifndef LORS_CLI_SIGNALS_H
#define LORS_CLI_SIGNALS_H

#include <stdbool.h>

/* Interrupt, terminate and hang-up end the program with the exit code of an interruption; a closed
 * pipe and the file-size limit become errors of the write that met them. */
void cli_signals_start(void);

/* From here on there are files to remove: the first signal is only noted, for cli_signals_stop to
 * tell. A second one ends the program at once and leaves them (the next run removes them). */
void cli_signals_defer(void);
bool cli_signals_stop(void);

#endif

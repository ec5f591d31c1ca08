/* progress.h - how far a merge is, on stderr, and what asks it to stop. */
#ifndef LORS_CLI_PROGRESS_H
#define LORS_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include <lors/run.h>

typedef struct cli_progress {
    bool quiet;
    double last_seconds;     /* when something was last printed */
    double rate_seconds;     /* when the rate was last measured */
    uint64_t rate_bytes;     /* and what had been done by then */
    double bytes_per_second; /* smoothed */
} cli_progress;

/* A lors_progress_fn; `user` is a cli_progress. Returns true once the user wants to stop. */
bool cli_progress_show(const lors_progress *progress, void *user);
/* Remove the line from the terminal. */
void cli_progress_end(void);

#endif

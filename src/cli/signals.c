/* signals.c - see signals.h. */
#include "cli/signals.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <lors/status.h>

static volatile sig_atomic_t deferred, stop, exit_code = 130;

static void on_signal(int number)
{
    (void)number;
    if (!deferred || stop)
        _exit((int)exit_code);
    stop = 1;
}

void cli_signals_start(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART; /* a noted signal must not look like a failed read */
    action.sa_handler = on_signal;
    exit_code = lors_status_exit_code(LORS_ERR_CANCELLED);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; ++i) {
        /* nohup ignores the hang-up on purpose. An interrupt that a shell ignores for its
         * background jobs is obeyed: whoever sends one to this process means it. */
        bool kept =
            ends[i] == SIGHUP && sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
        if (!kept)
            sigaction(ends[i], &action, NULL);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

void cli_signals_defer(void)
{
    deferred = 1;
}

bool cli_signals_stop(void)
{
    return stop != 0;
}

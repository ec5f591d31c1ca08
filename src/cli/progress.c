/* progress.c - one line redrawn on a terminal; elsewhere a plain line now and then. */
#include "cli/progress.h"

#include <math.h>
#include <stdio.h>

#include "cli/messages.h"
#include "cli/signals.h"

static const double plain_interval_seconds = 10.0;

/* The mean of the first seconds, and later the rate of the last five or so: what a cache or a slow
 * disk does changes on the way. */
static void measure_rate(cli_progress *self, const lors_progress *progress)
{
    static const double window_seconds = 5.0;
    double seconds = progress->seconds - self->rate_seconds;
    double share;
    if (seconds < 0.05 || progress->done_bytes < self->rate_bytes)
        return;
    share = fmax(seconds / progress->seconds, 1.0 - exp(-seconds / window_seconds));
    self->bytes_per_second += share * ((double)(progress->done_bytes - self->rate_bytes) / seconds -
                                       self->bytes_per_second);
    self->rate_seconds = progress->seconds;
    self->rate_bytes = progress->done_bytes;
}

/* "2:05", "1:02:05" */
static void format_duration(double seconds, char out[32])
{
    long long whole = seconds < 1e9 ? (long long)ceil(seconds) : 0;
    if (whole >= 3600)
        snprintf(out, 32, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(out, 32, "%lld:%02lld", whole / 60, whole % 60);
}

static void format_line(const cli_progress *self, const lors_progress *progress, char out[160])
{
    char done[32], total[32], rate[32], left[32] = "?";
    double share = progress->total_bytes > 0
                       ? (double)progress->done_bytes / (double)progress->total_bytes
                       : 0.0;
    if (self->bytes_per_second > 0.0 && progress->total_bytes >= progress->done_bytes)
        format_duration(
            (double)(progress->total_bytes - progress->done_bytes) / self->bytes_per_second, left);
    snprintf(out, 160, "%s of %s, %.0f %%, %s, %s left",
             cli_format_bytes(progress->done_bytes, done),
             cli_format_bytes(progress->total_bytes, total), 100.0 * share,
             cli_format_rate(self->bytes_per_second, rate), left);
}

bool cli_progress_show(const lors_progress *progress, void *user)
{
    cli_progress *self = user;
    char line[160];
    measure_rate(self, progress);
    if (!self->quiet && cli_can_redraw()) {
        format_line(self, progress, line);
        cli_redraw(line);
    } else if (!self->quiet && progress->seconds - self->last_seconds >= plain_interval_seconds) {
        self->last_seconds = progress->seconds;
        format_line(self, progress, line);
        cli_note("%s", line);
    }
    return cli_signals_stop();
}

void cli_progress_end(void)
{
    cli_redraw("");
}

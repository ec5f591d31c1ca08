/* main.c - the fault loops: options, what is being tried, and how to have it again.
 *
 *   fault_loops PART [--variant NAME] [--stride N] [--states N] [--without PATH]
 *   fault_loops --only 'POINT'     one point, as a failure named it
 *
 * PART is memory, ops, files, kill or power. All points are tried, or with --stride every so many.
 * Works in a folder of /dev/shm where there is one, since it makes and removes very many files,
 * else in the current one. Exit 1 if any point failed. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lors/status.h>

#include "faults.h"
#include "run_models.h"

enum { SECONDS_PER_POINT = 60, FAILURES_SHOWN = 20 };

static const struct {
    const char *name;
    void (*run)(const options *o);
} parts[] = {{"memory", run_memory},
             {"ops", run_ops},
             {"files", run_files},
             {"kill", run_kill},
             {"power", run_power}};
enum { N_PARTS = sizeof parts / sizeof *parts };

static const char *const variant_names[] = {"new", "replace", "two-steps", "resume"};
static char now[512];
static uint64_t n_failed;
static bool failed_now;

const char *variant_name(variant v)
{
    return variant_names[v];
}

/* --- what is being tried --------------------------------------------------------------------- */

void begin_point(const char *part, variant v, const char *format, ...)
{
    int n = snprintf(now, sizeof now, "%s %s ", part, variant_names[v]);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(now + n, sizeof now - (size_t)n, format, arguments);
    va_end(arguments);
    failed_now = false;
    alarm(SECONDS_PER_POINT);
}

void fail_point(const char *format, ...)
{
    va_list arguments;
    n_failed += !failed_now;
    if (!failed_now && n_failed <= FAILURES_SHOWN) {
        fprintf(stderr, "FAILED  fault_loops --only '%s'\n", now);
    }
    if (n_failed <= FAILURES_SHOWN) {
        va_start(arguments, format);
        fprintf(stderr, "    ");
        vfprintf(stderr, format, arguments);
        fprintf(stderr, "\n");
        va_end(arguments);
    }
    failed_now = true;
}

uint64_t n_failed_points(void)
{
    return n_failed;
}

bool wanted(const options *o, uint64_t index, const char *format, ...)
{
    char text[sizeof now];
    if (!o->only) {
        return index % o->stride == 0;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *rest = strchr(o->only, ' '); /* behind part and variant */
    rest = rest ? strchr(rest + 1, ' ') : NULL;
    return rest && strcmp(rest + 1, text) == 0;
}

void die(const char *file, int line, const char *what, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s:%d: needed: %s\n  ", file, line, what);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n  in '%s'; last error: %s\n", now, lors_last_error());
    exit(1);
}

/* Of a sanitizer; elsewhere leaks are not looked for. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

void check_leaks(uint64_t n)
{
    if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check()) {
        fail_point("a leak, here or in one of the last %llu points", (unsigned long long)n);
    }
}

/* --- crashes and hangs ----------------------------------------------------------------------- */

/* A sanitizer ends the program without a signal: it is asked to tell, where there is one. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void tell(void)
{
    char text[sizeof now + 64];
    int n = snprintf(text, sizeof text, "\ncrashed or hung in  fault_loops --only '%s'\n", now);
    ssize_t unused = write(2, text, (size_t)n);
    (void)unused;
}

static void on_signal(int signal_number)
{
    tell();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void watch_signals(void)
{
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(tell);
    } else {
        signal(SIGSEGV, on_signal);
    }
}

/* --- where to work --------------------------------------------------------------------------- */

static char work[64];

static void remove_work(void)
{
    if (chdir("/") == 0) {
        rm_remove(work);
    }
}

static void find_work(void)
{
    snprintf(work, sizeof work, "/dev/shm/lors-faults-XXXXXX");
    if (mkdtemp(work)) {
        NEED(chdir(work) == 0, "%s", work);
        atexit(remove_work);
    } else {
        rm_work_in("faults-work");
    }
}

/* --- options --------------------------------------------------------------------------------- */

static void usage(void)
{
    fprintf(stderr, "usage: fault_loops memory|ops|files|kill|power [--variant new|replace|"
                    "two-steps|resume] [--stride N] [--states N] [--without PATH] | --only "
                    "'POINT'\n");
    exit(2);
}

static variant find_variant(const char *name, size_t n)
{
    for (int v = 0; v < VARIANT_COUNT; v++) {
        if (strncmp(variant_names[v], name, n) == 0 && variant_names[v][n] == '\0') {
            return (variant)v;
        }
    }
    usage();
    return VARIANT_NEW;
}

static void take_option(options *o, const char *name, const char *value)
{
    if (strcmp(name, "--variant") == 0) {
        o->first = o->last = find_variant(value, strlen(value));
    } else if (strcmp(name, "--stride") == 0) {
        o->stride = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--states") == 0) {
        o->n_states = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--without") == 0) {
        o->without = value;
    } else {
        usage();
    }
}

/* The part of the point, and its variant. */
static const char *take_point(options *o, const char *text)
{
    const char *second = strchr(text, ' ');
    if (!second) {
        usage();
    }
    o->only = text;
    o->first = o->last = find_variant(second + 1, strcspn(second + 1, " "));
    return text;
}

int main(int argc, char **argv)
{
    options o = {VARIANT_NEW, VARIANT_RESUME, 1, NULL, 40, NULL};
    if (argc < 2) {
        usage();
    }
    const char *part = argv[1];
    int first = 2;
    if (strcmp(argv[1], "--only") == 0 && argc > 2) {
        part = take_point(&o, argv[2]);
        first = 3;
    }
    for (int i = first; i < argc; i += 2) {
        if (i + 1 == argc) {
            usage();
        }
        take_option(&o, argv[i], argv[i + 1]);
    }
    if (o.stride == 0 || o.n_states == 0) {
        usage();
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    watch_signals();
    find_work();
    for (int i = 0; i < N_PARTS; i++) {
        size_t n = strcspn(part, " ");
        if (strncmp(part, parts[i].name, n) == 0 && parts[i].name[n] == '\0') {
            parts[i].run(&o);
            alarm(0);
            if (n_failed > 0) {
                fprintf(stderr, "%llu points failed\n", (unsigned long long)n_failed);
            }
            return n_failed > 0;
        }
    }
    usage();
    return 2;
}

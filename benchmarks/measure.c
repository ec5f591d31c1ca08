/* measure.c - open devices, move bytes, take times, print rows. */
#include "measure.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lors/device.h>

#include "backend/backend_registry.h"

enum { RUNS = 5, MOST_COPIED = 64 << 20 };

_Noreturn void die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, lors_last_error());
    exit(1);
}

void check(lors_status status, const char *what)
{
    if (status != LORS_OK) {
        die(what);
    }
}

/* --- devices ---------------------------------------------------------------------------------- */

static void open_device(bench *b, const char *name)
{
    lors_backend_choice choice;
    device *d = &b->devices[b->n_devices++];
    check(lors_backend_find(name, &choice), name);
    d->ops = choice.ops;
    snprintf(d->name, sizeof d->name, "%s", choice.name[0]);
    check(d->ops->open(choice.index[0], &d->backend), name);
    check(d->ops->open_queue(d->backend, &d->queue), name);
}

void open_devices(bench *b, const char *only)
{
    for (int32_t i = 0; i < lors_device_count() && !only && b->n_devices < MAX_DEVICES; i++) {
        if (lors_device_at(i)->available) {
            open_device(b, lors_device_at(i)->name);
        }
    }
    if (only) {
        open_device(b, only);
    }
}

json_t *device_details(const bench *b)
{
    json_t *all = json_object();
    for (int32_t i = 0; i < lors_device_count(); i++) {
        for (int d = 0; d < b->n_devices; d++) {
            if (strcmp(lors_device_at(i)->name, b->devices[d].name) == 0) {
                json_object_set_new(all, b->devices[d].name,
                                    json_string(lors_device_at(i)->detail));
            }
        }
    }
    return all;
}

void close_devices(bench *b)
{
    for (int d = 0; d < b->n_devices; d++) {
        b->devices[d].ops->close_queue(b->devices[d].queue);
        b->devices[d].ops->close(b->devices[d].backend);
    }
}

/* --- memory ----------------------------------------------------------------------------------- */

area take(const device *d, uint64_t n_bytes)
{
    area a = {.d = d, .n_bytes = n_bytes};
    check(d->ops->allocate(d->backend, LORS_ON_DEVICE, n_bytes, &a.view.memory), "memory");
    a.staged = a.view;
    if (!d->ops->unified) {
        check(d->ops->allocate(d->backend, LORS_STAGING, n_bytes, &a.staged.memory), "memory");
    }
    a.host = d->ops->host_bytes(a.staged);
    memset(a.host, 0, n_bytes);
    check(d->ops->clear(d->queue, a.view, n_bytes), "clear");
    return a;
}

void give(area *a)
{
    if (!a->d->ops->unified) {
        a->d->ops->release(a->d->backend, a->staged.memory);
    }
    a->d->ops->release(a->d->backend, a->view.memory);
}

void push(const area *a)
{
    check(a->d->ops->upload(a->d->queue, a->view, a->staged, a->n_bytes), "upload");
    check(a->d->ops->wait(a->d->queue), "upload");
}

const void *pull(const area *a)
{
    check(a->d->ops->download(a->d->queue, a->staged, a->view, a->n_bytes), "download");
    check(a->d->ops->wait(a->d->queue), "download");
    return a->host;
}

void *host_array(size_t n_bytes)
{
    void *array = malloc(n_bytes);
    if (!array) {
        die("memory");
    }
    return array;
}

/* --- time ------------------------------------------------------------------------------------- */

static double now(bool by_clock)
{
    struct timespec t;
    clock_gettime(by_clock ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of `repeats` calls one behind the other. d NULL: work on the host. */
double time_once(const device *d, void (*work)(void *context), void *context, int repeats)
{
    bool by_clock = d && !d->ops->unified;
    double start = now(by_clock);
    for (int i = 0; i < repeats; i++) {
        work(context);
    }
    if (d) {
        check(d->ops->wait(d->queue), "wait");
    }
    return now(by_clock) - start;
}

/* Median seconds of one call; a device that is told and does gets so many that the telling of the
 * next hides behind the doing. */
double median(const device *d, void (*work)(void *context), void *context)
{
    double seconds[RUNS], first = time_once(d, work, context, 1); /* warm up */
    int repeats = 1;
    if (d && !d->ops->unified) {
        first = time_once(d, work, context, 1);
        repeats = first > 0.02 ? 1 : (int)(0.02 / (first + 1e-6)) + 1;
    }
    for (int i = 0; i < RUNS; i++) {
        seconds[i] = time_once(d, work, context, repeats) / repeats;
    }
    qsort(seconds, RUNS, sizeof *seconds, by_value);
    return seconds[RUNS / 2];
}

/* --- the floor -------------------------------------------------------------------------------- */

typedef struct copying {
    area from, to;
    int64_t n;
} copying;

static void run_copy(void *context)
{
    copying *c = context;
    const device *d = c->from.d;
    check(d->ops->load(d->queue, c->to.view, c->from.view, LORS_F32, c->n, false, 0, LORS_NO_VIEW),
          "load");
}

/* Of very many bytes, from fewer. */
double floor_of(const device *d, double n_bytes)
{
    double copied = fmin(n_bytes / 2, MOST_COPIED);
    copying c = {.n = (int64_t)(copied / 4) + 1};
    c.from = take(d, (uint64_t)c.n * 4);
    c.to = take(d, (uint64_t)c.n * 4);
    double seconds = median(d, run_copy, &c);
    give(&c.from);
    give(&c.to);
    return seconds * n_bytes / (8.0 * (double)c.n);
}

/* --- rows ------------------------------------------------------------------------------------- */

void report(bench *b, row r)
{
    const char *unit = r.is_flops ? "GFLOP/s" : "GB/s";
    r.beside_seconds = r.beside ? r.beside_seconds : r.floor_seconds;
    r.beside = r.beside ? r.beside : "copy of as many bytes";
    printf("%-7s %-27s %-22s %9.3f ms %8.3g %-7s  floor %9.3f ms %5.2f   %s %.3f ms %.2fx\n",
           r.d->name, r.operation, r.shape, 1e3 * r.seconds, 1e-9 * r.amount / r.seconds, unit,
           1e3 * r.floor_seconds, r.floor_seconds / r.seconds, r.beside, 1e3 * r.beside_seconds,
           r.beside_seconds / r.seconds);
    fflush(stdout);
    json_array_append_new(
        b->rows,
        json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:s, s:f, s:f}", "device", r.d->name,
                  "operation", r.operation, "shape", r.shape, "seconds", r.seconds,
                  r.is_flops ? "gflop_per_second" : "gb_per_second", 1e-9 * r.amount / r.seconds,
                  "floor_seconds", r.floor_seconds, "of_floor", r.floor_seconds / r.seconds,
                  "beside", r.beside, "beside_seconds", r.beside_seconds, "times_faster",
                  r.beside_seconds / r.seconds));
}

/* measure.h - devices, their memory, times and floors, and rows of results: what bench_ops measures
 * with. */
#ifndef LORS_BENCHMARKS_MEASURE_H
#define LORS_BENCHMARKS_MEASURE_H

#include <jansson.h>
#include <stdbool.h>

#include "backend/backend_ops.h"

enum { MAX_DEVICES = 8 };

typedef struct device {
    char name[32];
    const lors_backend_ops *ops;
    lors_backend *backend;
    lors_queue *queue;
} device;

typedef struct bench {
    device devices[MAX_DEVICES];
    int n_devices;
    json_t *rows;
    bool quick;
} bench;

_Noreturn void die(const char *what);
void check(lors_status status, const char *what);

/* All that are available, or only this one. */
void open_devices(bench *b, const char *only);
void close_devices(bench *b);
/* Name and detail of each. */
json_t *device_details(const bench *b);

/* Device memory, and its copy on the host (the same where the host reaches it). */
typedef struct area {
    const device *d;
    lors_view view, staged;
    void *host;
    uint64_t n_bytes;
} area;

area take(const device *d, uint64_t n_bytes); /* zeros */
void give(area *a);
void push(const area *a);
const void *pull(const area *a);
void *host_array(size_t n_bytes);

/* Seconds of one call: on the CPU (d NULL: on the host) of this thread's processor time, of other
 * devices by the clock. */
double time_once(const device *d, void (*work)(void *context), void *context, int repeats);
double median(const device *d, void (*work)(void *context), void *context);
/* Seconds of a copy on this device that reads and writes n_bytes in all. */
double floor_of(const device *d, double n_bytes);

typedef struct row {
    const device *d;
    const char *operation, *shape;
    double seconds, floor_seconds;
    double amount;      /* bytes, or floating-point operations */
    bool is_flops;
    const char *beside; /* NULL: the floor */
    double beside_seconds;
} row;

void report(bench *b, row r);

#endif

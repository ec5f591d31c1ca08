/* bench_io.c - reading and writing of weights by the threads that merges use, beside a plain loop
 * of system calls over the same file in the same run.
 *
 *   build/benchmarks/bench_io [--folder DIR] [--bytes N] [--request N] [--runs N] [--json FILE]
 *
 * A safetensors file of N bytes (default 1 GiB) is written to DIR (default: here), read back in
 * every way and compared with what was written, before anything is timed. Floors are one thread
 * with pread or pwrite of 8 MiB at a time: through the page cache, and past it (O_DIRECT). Ours is
 * lors_transfer with 16 requests under way, without the hashing that a merge adds. "cold": the file
 * was dropped from the page cache just before; "warm": all of it is there. Writing is in place,
 * into reserved space, and ends with fsync; "hinted": the system is told at once to begin to bring
 * to the disk what was written. Every row is timed once per round, each round beginning with
 * another row, since disks lend speed after a pause; printed are medians over the rounds, the ratio
 * being the median of those to the floor in the same round. Disks of virtual machines differ by the
 * minute: only ratios are to be quoted.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <lors/device.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/threads.h"
#include "io/transfer.h"
#include "measure.h"
#include "run/run_internal.h"

enum { PAGE = LORS_DIRECT_ALIGN, BLOCK = 8 << 20, SLOTS = 16, MOST_ROUNDS = 99, MOST_ROWS = 48 };

typedef struct sample {
    double seconds, cpu_seconds;
} sample;

typedef enum kind {
    FLOOR_READ,
    FLOOR_DIRECT,
    FLOOR_WRITE,
    OURS_READ,
    OURS_WRITE,
    OURS_HINTED /* written, too */
} kind;

typedef struct timed {
    kind kind;
    lors_io io;
    int threads;
    bool cold;
    sample samples[MOST_ROUNDS];
} timed;

typedef struct state {
    const char *folder;
    char path[4096], copy[4096];
    uint64_t n_bytes, request;
    int rounds, n_rows;
    bool can_be_cold;
    lors_checkpoint *model;
    unsigned char *buffers[SLOTS]; /* a page before and behind each */
    timed rows[MOST_ROWS];
} state;

static bool is_write(kind what)
{
    return what == FLOOR_WRITE || what == OURS_WRITE || what == OURS_HINTED;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* --- the file --------------------------------------------------------------------------------- */

/* What stands at bytes offset .. offset + n_bytes of the tensor; offset a multiple of 16. */
static void pattern(uint64_t offset, unsigned char *out, size_t n_bytes)
{
    for (size_t at = 0; at < n_bytes; at += 16) {
        lors_philox bits = lors_philox_at(7, (offset + at) / 16, 0);
        memcpy(out + at, bits.word, n_bytes - at < 16 ? n_bytes - at : 16);
    }
}

static void make_file(state *s)
{
    char json[256];
    int fd = -1,
        n = snprintf(json, sizeof json,
                     "{\"t\":{\"dtype\":\"U8\",\"shape\":[%llu],\"data_offsets\":[0,%llu]}}",
                     (unsigned long long)s->n_bytes, (unsigned long long)s->n_bytes);
    uint64_t length = (uint64_t)n + (8 - (uint64_t)n % 8) % 8;
    memset(json + n, ' ', (size_t)length - (size_t)n);
    unlink(s->path);
    check(lors_file_create(s->path, &fd), "create");
    check(lors_file_write_at(fd, s->path, 0, &length, 8), "write");
    check(lors_file_write_at(fd, s->path, 8, json, (size_t)length), "write");
    for (uint64_t at = 0; at < s->n_bytes; at += BLOCK) {
        size_t left = s->n_bytes - at < BLOCK ? (size_t)(s->n_bytes - at) : BLOCK;
        pattern(at, s->buffers[0], left);
        check(lors_file_write_at(fd, s->path, 8 + length + at, s->buffers[0], left), "write");
    }
    check(lors_file_sync(fd, s->path), "sync");
    check(lors_file_close(fd, s->path), "close");
    check(lors_checkpoint_open(s->path, false, &s->model), "open");
}

/* Out of the page cache with it; or all of it into the cache. Returns whether it is so. */
static bool prepare(const state *s, bool cold)
{
    int fd = -1;
    check(lors_file_open_read(s->path, &fd, NULL), "open");
    if (cold) {
        fsync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    } else {
        for (uint64_t at = 0; at < s->n_bytes; at += BLOCK) {
            size_t left = s->n_bytes - at < BLOCK ? (size_t)(s->n_bytes - at) : BLOCK;
            check(lors_file_read_at(fd, s->path, at, s->buffers[0], left), "read");
        }
    }
    bool is_cached = lors_file_is_cached(fd, s->n_bytes);
    close(fd);
    return is_cached != cold;
}

/* --- what is timed ---------------------------------------------------------------------------- */

static void floor_read(const state *s, bool direct)
{
    int fd = open(s->path, O_RDONLY | (direct ? O_DIRECT : 0));
    for (uint64_t at = 0; at < s->n_bytes; at += BLOCK) {
        if (fd < 0 || pread(fd, s->buffers[0], BLOCK, (off_t)at) <= 0) {
            die("the floor's pread failed");
        }
    }
    close(fd);
}

static void floor_write(const state *s)
{
    int fd = open(s->copy, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    (void)!fallocate(fd, 0, 0, (off_t)s->n_bytes);
    for (uint64_t at = 0; at < s->n_bytes; at += BLOCK) {
        size_t n = s->n_bytes - at < BLOCK ? (size_t)(s->n_bytes - at) : BLOCK;
        if (fd < 0 || pwrite(fd, s->buffers[0], n, (off_t)at) != (ssize_t)n) {
            die("the floor's pwrite failed");
        }
    }
    fsync(fd);
    close(fd);
}

static uint64_t request_bytes(const state *s, uint64_t at)
{
    return s->n_bytes - at < s->request ? s->n_bytes - at : s->request;
}

/* All of the tensor; where `compare`, against the pattern (which is made in the first buffer). */
static void ours_read(const state *s, const timed *r, bool compare)
{
    lors_transfer *transfer = NULL;
    lors_transfer_req requests[SLOTS] = {0};
    const lors_ckpt_tensor *tensor = &s->model->tensors[0];
    int first = compare ? 1 : 0, slots = SLOTS - first;
    lors_ckpt_choose_io(s->model, r->io);
    check(lors_transfer_create(r->threads, &transfer), "threads");
    for (uint64_t at = 0, i = 0; at < s->n_bytes + s->request * (uint64_t)slots; i++) {
        int slot = first + (int)(i % (uint64_t)slots);
        lors_transfer_req *request = &requests[slot];
        unsigned char *out = s->buffers[slot] + (tensor->offset + request->offset) % PAGE;
        check(lors_transfer_wait(transfer, request), "read");
        if (compare && request->n_bytes > 0) {
            pattern(request->offset, s->buffers[0], request->n_bytes);
            if (memcmp(out, s->buffers[0], request->n_bytes) != 0) {
                die("what was read is not what was written");
            }
        }
        request->n_bytes = 0;
        if (at < s->n_bytes) {
            out = s->buffers[slot] + (tensor->offset + at) % PAGE;
            request->whole_pages = true;
            check(lors_transfer_read(transfer, request, s->model, tensor, at, out,
                                     request_bytes(s, at)),
                  "read");
        }
        at += s->request;
    }
    lors_transfer_free(transfer);
}

/* Without the hint: by a table of system calls that lacks it. */
static void ours_write(const state *s, const timed *r)
{
    lors_file_ops unhinted = *lors_file_table();
    unhinted.begin_sync = NULL;
    lors_file_set_table(r->kind == OURS_HINTED ? NULL : &unhinted);
    int fd = open(s->copy, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    lors_transfer *transfer = NULL;
    lors_transfer_req requests[SLOTS] = {0};
    check(lors_file_reserve(fd, s->copy, s->n_bytes), "reserve");
    check(lors_transfer_create(r->threads, &transfer), "threads");
    for (uint64_t at = 0, i = 0; at < s->n_bytes; at += s->request, i++) {
        lors_transfer_req *request = &requests[i % SLOTS];
        check(lors_transfer_wait(transfer, request), "write");
        check(lors_transfer_write(transfer, request, fd, s->copy, at, s->buffers[i % SLOTS],
                                  request_bytes(s, at)),
              "write");
    }
    for (int i = 0; i < SLOTS; i++) {
        check(lors_transfer_wait(transfer, &requests[i]), "write");
    }
    check(lors_file_sync(fd, s->copy), "sync");
    close(fd);
    lors_transfer_free(transfer);
    lors_file_set_table(NULL);
}

static void time_row(const state *s, timed *r, int round)
{
    if (is_write(r->kind)) {
        unlink(s->copy);
        sync();
    } else if (!prepare(s, r->cold)) {
        fprintf(stderr, "bench_io: the page cache does not keep %s as asked\n", s->path);
    }
    double start = lors_seconds(), cpu = cpu_seconds();
    switch (r->kind) {
    case FLOOR_READ: floor_read(s, false); break;
    case FLOOR_DIRECT: floor_read(s, true); break;
    case FLOOR_WRITE: floor_write(s); break;
    case OURS_READ: ours_read(s, r, false); break;
    case OURS_WRITE:
    case OURS_HINTED: ours_write(s, r); break;
    }
    r->samples[round] = (sample){lors_seconds() - start, cpu_seconds() - cpu};
}

/* --- rows ------------------------------------------------------------------------------------- */

static void add_row(state *s, kind what, lors_io io, int threads, bool cold)
{
    if (s->n_rows < MOST_ROWS && (s->can_be_cold || !cold)) {
        s->rows[s->n_rows++] = (timed){.kind = what, .io = io, .threads = threads, .cold = cold};
    }
}

static void list_rows(state *s)
{
    for (int cold = 1; cold >= 0; cold--) {
        add_row(s, FLOOR_READ, LORS_IO_BUFFERED, 1, cold);
        int fd = open(s->path, O_RDONLY | O_DIRECT);
        if (fd >= 0) {
            add_row(s, FLOOR_DIRECT, LORS_IO_DIRECT, 1, cold);
            close(fd);
        }
        for (int threads = 1; threads <= 8; threads *= 2) {
            add_row(s, OURS_READ, LORS_IO_BUFFERED, threads, cold);
            add_row(s, OURS_READ, LORS_IO_DIRECT, threads, cold);
        }
        add_row(s, OURS_READ, LORS_IO_AUTO, LORS_TRANSFER_THREADS, cold);
    }
    add_row(s, FLOOR_WRITE, LORS_IO_BUFFERED, 1, false);
    for (int threads = 1; threads <= 8; threads *= 2) {
        add_row(s, OURS_WRITE, LORS_IO_BUFFERED, threads, false);
        add_row(s, OURS_HINTED, LORS_IO_BUFFERED, threads, false);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/* The plain loop through the page cache that does the same. */
static const timed *floor_for(const state *s, const timed *r)
{
    for (int i = 0; i < s->n_rows; i++) {
        const timed *f = &s->rows[i];
        if (f->kind == (is_write(r->kind) ? FLOOR_WRITE : FLOOR_READ) && f->cold == r->cold) {
            return f;
        }
    }
    return r;
}

static json_t *show_row(const state *s, const timed *r)
{
    static const char *const kinds[] = {"plain read", "plain read", "plain write",
                                        "read",       "write",      "write, hinted"};
    static const char *const ways[] = {"buffered", "auto", "direct"};
    double seconds[MOST_ROUNDS], cpu[MOST_ROUNDS], ratios[MOST_ROUNDS];
    const timed *f = floor_for(s, r);
    const char *cache = is_write(r->kind) ? "-" : r->cold ? "cold" : "warm";
    for (int i = 0; i < s->rounds; i++) {
        seconds[i] = r->samples[i].seconds;
        cpu[i] = r->samples[i].cpu_seconds;
        ratios[i] = f->samples[i].seconds / r->samples[i].seconds;
    }
    double gigabytes = 1e-9 * (double)s->n_bytes, middle = median_of(seconds, s->rounds);
    double cpu_per_gb = median_of(cpu, s->rounds) / gigabytes, ratio = median_of(ratios, s->rounds);
    double slowest = gigabytes / seconds[s->rounds - 1], fastest = gigabytes / seconds[0];
    printf(
        "%-13s %-8s %-4s threads %d  %6.2f GB/s (%.2f to %.2f)  %5.2f of the plain loop (%.2f to "
        "%.2f)  %.3f CPU-s/GB\n",
        kinds[r->kind], ways[r->io], cache, r->threads, gigabytes / middle, slowest, fastest, ratio,
        ratios[0], ratios[s->rounds - 1], cpu_per_gb);
    return json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "what",
                     kinds[r->kind], "way", ways[r->io], "cache", cache, "threads", r->threads,
                     "gb_per_second", gigabytes / middle, "slowest", slowest, "fastest", fastest,
                     "of_plain_loop", ratio, "of_plain_loop_least", ratios[0], "of_plain_loop_most",
                     ratios[s->rounds - 1], "cpu_seconds_per_gb", cpu_per_gb);
}

static json_t *show(const state *s)
{
    struct utsname name;
    json_t *rows = json_array();
    uname(&name);
    printf("%s %s, %s, %d processors, %llu bytes in %s, requests of %llu, %d rounds%s\n",
           name.sysname, name.release, lors_device_at(0)->detail, lors_processor_count(),
           (unsigned long long)s->n_bytes, s->folder, (unsigned long long)s->request, s->rounds,
           s->can_be_cold ? "" : "; this file system is memory, nothing is cold");
    for (int i = 0; i < s->n_rows; i++) {
        json_array_append_new(rows, show_row(s, &s->rows[i]));
    }
    return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:i, s:o}", "what",
                     "reading and writing of weights beside plain loops of system calls", "system",
                     name.release, "processor", lors_device_at(0)->detail, "processors",
                     lors_processor_count(), "bytes", (json_int_t)s->n_bytes, "request_bytes",
                     (json_int_t)s->request, "rounds", s->rounds, "rows", rows);
}

/* --- the program ------------------------------------------------------------------------------ */

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || value < least || value > most) {
        fprintf(stderr, "bench_io: '%s' is no number from %llu to %llu\n", text,
                (unsigned long long)least, (unsigned long long)most);
        exit(2);
    }
    return value;
}

static const char *read_options(state *s, int argc, char **argv)
{
    const char *json = NULL;
    *s = (state){.folder = ".", .n_bytes = 1u << 30, .request = BLOCK, .rounds = 5};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        s->folder = strcmp(argv[i], "--folder") == 0 ? value : s->folder;
        json = strcmp(argv[i], "--json") == 0 ? value : json;
        if (strcmp(argv[i], "--bytes") == 0) {
            s->n_bytes = number(value, 1, UINT64_C(1) << 40);
        } else if (strcmp(argv[i], "--request") == 0) {
            s->request = number(value, 16, BLOCK) / 16 * 16;
        } else if (strcmp(argv[i], "--runs") == 0) {
            s->rounds = (int)number(value, 1, MOST_ROUNDS);
        }
    }
    snprintf(s->path, sizeof s->path, "%s/bench_io.safetensors", s->folder);
    snprintf(s->copy, sizeof s->copy, "%s/bench_io.written", s->folder);
    return json;
}

static void verify_ways(const state *s)
{
    static const lors_io ways[] = {LORS_IO_BUFFERED, LORS_IO_DIRECT, LORS_IO_AUTO};
    for (int i = 0; i < 3; i++) {
        timed r = {.io = ways[i], .threads = 4};
        prepare(s, true);
        ours_read(s, &r, true);
    }
}

/* Every block of the copy must be what the buffer held that it was written from. */
static void verify_writes(const state *s, kind what)
{
    timed r = {.kind = what, .threads = 4};
    int fd = -1;
    unsigned char *back = host_array(BLOCK);
    unlink(s->copy);
    for (uint64_t i = 0; i < SLOTS; i++) {
        pattern(i * BLOCK, s->buffers[i], BLOCK);
    }
    ours_write(s, &r);
    check(lors_file_open_read(s->copy, &fd, NULL), "open");
    for (uint64_t at = 0, i = 0; at < s->n_bytes; at += s->request, i++) {
        size_t n = (size_t)request_bytes(s, at);
        check(lors_file_read_at(fd, s->copy, at, back, n), "read");
        if (memcmp(back, s->buffers[i % SLOTS], n) != 0) {
            die("what was written is not what was to be written");
        }
    }
    close(fd);
    free(back);
}

int main(int argc, char **argv)
{
    static state s;
    const char *json = read_options(&s, argc, argv);
    for (int i = 0; i < SLOTS; i++) {
        s.buffers[i] = lors_alloc_aligned(BLOCK + 2 * PAGE);
        if (!s.buffers[i]) {
            die("memory");
        }
        memset(s.buffers[i], i, BLOCK + 2 * PAGE);
    }
    make_file(&s);
    s.can_be_cold = prepare(&s, true);
    verify_ways(&s);
    verify_writes(&s, OURS_WRITE);
    verify_writes(&s, OURS_HINTED);
    list_rows(&s);
    for (int round = 0; round < s.rounds; round++) {
        for (int i = 0; i < s.n_rows; i++) {
            int turn = (i + round * s.n_rows / s.rounds) % s.n_rows;
            time_row(&s, &s.rows[turn], round);
        }
    }
    json_t *root = show(&s);
    lors_checkpoint_close(s.model);
    unlink(s.path);
    unlink(s.copy);
    if (json && json_dump_file(root, json, JSON_INDENT(1)) != 0) {
        fprintf(stderr, "bench_io: cannot write %s\n", json);
        return 1;
    }
    json_decref(root);
    for (int i = 0; i < SLOTS; i++) {
        lors_free(s.buffers[i]);
    }
    return 0;
}

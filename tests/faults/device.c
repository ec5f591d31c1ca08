/* device.c - the CPU's operations, counted, one of which goes wrong. */
#include "device.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <lors/device.h>

#include "cpu/cpu_internal.h"
#include "faults.h"

typedef struct device_memory {
    lors_memory cpu; /* first: the CPU's operations take it for their own */
    lors_memory_kind kind;
} device_memory;

typedef struct device_queue {
    lors_queue cpu;
    bool lost;         /* an operation was not done, and no wait has said so */
    uint64_t n_queued; /* since the last wait */
} device_queue;

typedef enum verdict { DO_IT, LOSE_IT, FAIL_IT } verdict;

static struct {
    pthread_mutex_t lock; /* guards all below */
    const lors_backend_host *host;
    bool apart;
    uint64_t n, fail_at;
    device_way way;
    const char *failed;
    bool matters;
    int held;
} device = {.lock = PTHREAD_MUTEX_INITIALIZER};

static lors_backend_ops table;

/* --- the fault -------------------------------------------------------------------------------- */

/* Count an operation. `waits`: what went wrong before is known when it returns. */
static verdict meet(device_queue *queue, const char *name, bool waits, bool matters)
{
    verdict v = DO_IT;
    pthread_mutex_lock(&device.lock);
    device.n++;
    if (device.n == device.fail_at || (device.failed && device.way == DEVICE_GONE)) {
        device.failed = device.failed ? device.failed : name;
        device.matters = device.matters || matters;
        v = device.way == DEVICE_LATE && queue && !waits ? LOSE_IT : FAIL_IT;
    } else if (queue && queue->lost) {
        v = waits ? FAIL_IT : LOSE_IT;
    }
    if (queue) {
        queue->lost = queue->lost || v == LOSE_IT;
        queue->n_queued++;
    }
    pthread_mutex_unlock(&device.lock);
    return v;
}

static lors_status fail_now(lors_status status, const char *name)
{
    return device.host->fail(status, DEVICE_SAYS " cannot %s", name);
}

void device_arm(bool apart, uint64_t n, device_way way)
{
    device.apart = apart;
    device.n = 0;
    device.fail_at = n;
    device.way = way;
    device.failed = NULL;
    device.matters = false;
    table.unified = !apart;
    table.batch = apart ? 2 : 1;
    table.tile_elements = apart ? 0 : LORS_BLOCK;
}

uint64_t device_count(void)
{
    return device.n;
}

const char *device_failed(void)
{
    return device.failed;
}

bool device_matters(void)
{
    return device.matters;
}

int device_held(void)
{
    return device.held;
}

static void hold(int change)
{
    pthread_mutex_lock(&device.lock);
    device.held += change;
    pthread_mutex_unlock(&device.lock);
}

/* --- memory and queues ------------------------------------------------------------------------ */

static lors_status device_open(int32_t index, lors_backend **out)
{
    if (meet(NULL, "open", true, true) != DO_IT) {
        return fail_now(LORS_ERR_DEVICE, "open");
    }
    lors_status status = lors_cpu_ops.open(index, out);
    hold(status == LORS_OK);
    return status;
}

static void device_close(lors_backend *backend)
{
    lors_cpu_ops.close(backend);
    hold(-1);
}

static lors_status device_memory_info(lors_backend *backend, uint64_t *n_free, uint64_t *n_total)
{
    (void)backend;
    *n_free = *n_total = 1 << 30;
    return meet(NULL, "memory_info", true, true) == DO_IT ? LORS_OK
                                                          : fail_now(LORS_ERR_DEVICE, "tell");
}

/* Bytes of new memory are NaN: what is not written may not be read. */
static lors_status device_allocate(lors_backend *backend, lors_memory_kind kind, uint64_t n_bytes,
                                   lors_memory **out)
{
    (void)backend;
    if (meet(NULL, "allocate", true, !device.apart) != DO_IT) {
        return fail_now(kind == LORS_STAGING ? LORS_ERR_LIMIT : LORS_ERR_DEVICE, "allocate");
    }
    device_memory *memory = malloc(sizeof *memory);
    void *bytes = aligned_alloc(4096, (n_bytes / 4096 + 1) * 4096);
    NEED(memory && bytes, "no memory");
    memset(bytes, 0xff, n_bytes);
    *memory = (device_memory){{bytes, n_bytes}, kind};
    *out = &memory->cpu;
    hold(1);
    return LORS_OK;
}

static void device_release(lors_backend *backend, lors_memory *memory)
{
    (void)backend;
    if (memory) {
        free(memory->bytes);
        free(memory);
        hold(-1);
    }
}

static void *device_host_bytes(lors_view view)
{
    const device_memory *memory = (const device_memory *)(const void *)view.memory;
    bool hidden = device.apart && memory && memory->kind == LORS_ON_DEVICE;
    return hidden ? NULL : lors_cpu_at(view);
}

static lors_status device_open_queue(lors_backend *backend, lors_queue **out)
{
    (void)backend;
    if (meet(NULL, "open_queue", true, !device.apart) != DO_IT) {
        return fail_now(LORS_ERR_DEVICE, "open a queue");
    }
    device_queue *queue = calloc(1, sizeof *queue);
    NEED(queue, "no memory");
    queue->cpu.kernels = lors_cpu_kernels_get();
    *out = &queue->cpu;
    hold(1);
    return LORS_OK;
}

static void device_close_queue(lors_queue *queue)
{
    free(queue);
    hold(queue ? -1 : 0);
}

static lors_status device_wait(lors_queue *given)
{
    device_queue *queue = (device_queue *)(void *)given;
    verdict v = meet(queue, "wait", true, queue->n_queued > 0);
    queue->n_queued = v == DO_IT ? 0 : queue->n_queued;
    return v == DO_IT ? LORS_OK : fail_now(LORS_ERR_DEVICE, "wait");
}

/* --- operations ------------------------------------------------------------------------------- */

#define OPERATION(name, waits, parameters, arguments) \
    static lors_status device_##name parameters \
    { \
        verdict v = meet((device_queue *)(void *)queue, #name, waits, true); \
        return v == DO_IT     ? lors_cpu_ops.name arguments \
               : v == LOSE_IT ? LORS_OK \
                              : fail_now(LORS_ERR_DEVICE, #name); \
    } \
    static lors_status device_##name parameters

#define QUEUED(name, parameters, arguments) OPERATION(name, false, parameters, arguments)
#define WAITING(name, parameters, arguments) OPERATION(name, true, parameters, arguments)

typedef lors_queue que;
typedef lors_view at;
typedef int64_t num;

QUEUED(upload, (que * queue, at to, at from, uint64_t n), (queue, to, from, n));
QUEUED(download, (que * queue, at to, at from, uint64_t n), (queue, to, from, n));
QUEUED(clear, (que * queue, at view, uint64_t n), (queue, view, n));
QUEUED(load,
       (que * queue, at out, at in, lors_dtype dtype, num n, bool zero, uint64_t first, at found),
       (queue, out, in, dtype, n, zero, first, found));
QUEUED(subtract,
       (que * queue, at out, at a, num stride, at b, num stride_b, int32_t n_slices, num n),
       (queue, out, a, stride, b, stride_b, n_slices, n));
QUEUED(choose, (que * queue, at out, at a, at b, at mask, num n), (queue, out, a, b, mask, n));
QUEUED(compare, (que * queue, at differs, at a, at b, num n), (queue, differs, a, b, n));
QUEUED(accumulate, (que * queue, at acc, const lors_sum *sum, num n), (queue, acc, sum, n));
QUEUED(elect_sign, (que * queue, at signs, const lors_sum *sum, num n), (queue, signs, sum, n));
QUEUED(store, (que * queue, at out, const lors_store *store, num n), (queue, out, store, n));
QUEUED(merge, (que * queue, at out, const lors_merge *m, num n), (queue, out, m, n));
QUEUED(gram, (que * queue, at dots, at x, num stride, int32_t n_slices, num n),
       (queue, dots, x, stride, n_slices, n));
QUEUED(gram_columns, (que * queue, at dots, at x, num stride, int32_t n_slices, num rows, num cols),
       (queue, dots, x, stride, n_slices, rows, cols));
QUEUED(accumulate_columns, (que * queue, at acc, const lors_column_sum *sum), (queue, acc, sum));
QUEUED(measure, (que * queue, at sums, at x, at masks, num stride, int32_t n_slices, num n),
       (queue, sums, x, masks, stride, n_slices, n));
QUEUED(combine, (que * queue, at out, const lors_columns *columns, num n),
       (queue, out, columns, n));
QUEUED(count_active, (que * queue, at counts, const lors_columns *columns, num n),
       (queue, counts, columns, n));
QUEUED(select_begin, (que * queue, const lors_selection *s, const uint64_t *k), (queue, s, k));
QUEUED(select_count,
       (que * queue, const lors_selection *s, int32_t pass, at x, num stride, uint64_t first,
        num n),
       (queue, s, pass, x, stride, first, n));
QUEUED(select_settle, (que * queue, const lors_selection *s, int32_t pass), (queue, s, pass));
QUEUED(keep_top,
       (que * queue, const lors_selection *s, at mask, at x, num stride, uint64_t first, num n),
       (queue, s, mask, x, stride, first, n));
QUEUED(drop_top,
       (que * queue, const lors_selection *s, at mask, at x, num stride, uint64_t first, num n),
       (queue, s, mask, x, stride, first, n));
QUEUED(select_kept, (que * queue, const lors_selection *s, at kept), (queue, s, kept));
QUEUED(select_value, (que * queue, const lors_selection *s, at value), (queue, s, value));
QUEUED(keep_from,
       (que * queue, at mask, at x, at values, const double *factors, int32_t n_values, num n),
       (queue, mask, x, values, factors, n_values, n));
QUEUED(diverge, (que * queue, at out, at a, at b, num rows, num cols),
       (queue, out, a, b, rows, cols));
QUEUED(weigh_rows, (que * queue, at out, at a, at b, at factors, num rows, num cols),
       (queue, out, a, b, factors, rows, cols));
QUEUED(score, (que * queue, at out, const lors_contest *contest, num n), (queue, out, contest, n));
QUEUED(balance, (que * queue, at acc, const lors_contest *contest, num n),
       (queue, acc, contest, n));
QUEUED(keep_random, (que * queue, at mask, uint64_t key, double density, uint64_t first, num n),
       (queue, mask, key, density, first, n));
QUEUED(keep_ranked,
       (que * queue, at mask, at x, const lors_ranking *ranking, uint64_t first, num rows, num cols,
        at scratch),
       (queue, mask, x, ranking, first, rows, cols, scratch));
WAITING(truncate_rank,
        (que * queue, at low, at x, num stride, int32_t n, num rows, num cols,
         const lors_rank *ranks, at scratch, lors_certificate *certificates),
        (queue, low, x, stride, n, rows, cols, ranks, scratch, certificates));
QUEUED(multiply, (que * queue, at out, const lors_product *p), (queue, out, p));
QUEUED(scale_rows, (que * queue, at x, num rows, num cols, num ld, const double *factors),
       (queue, x, rows, cols, ld, factors));
WAITING(eigen, (que * queue, at matrix, num n, num count, at vectors, double *values, at scratch),
        (queue, matrix, n, count, vectors, values, scratch));
WAITING(solve,
        (que * queue, at matrix, num n, double shift, at x, num rows, bool *solved, at scratch),
        (queue, matrix, n, shift, x, rows, solved, scratch));
WAITING(dot_rows,
        (que * queue, const lors_factor *a, const lors_factor *b, num rows, num cols, double *dots,
         at scratch),
        (queue, a, b, rows, cols, dots, scratch));

/* --- the table -------------------------------------------------------------------------------- */

/* What has no row here is the CPU's: the sizes of scratch and state. */
static void fill_table(void)
{
    table = lors_cpu_ops;
    table.name = "faulty";
#define ROW(name) table.name = device_##name
    ROW(open), ROW(close), ROW(memory_info), ROW(allocate), ROW(release), ROW(host_bytes);
    ROW(open_queue), ROW(close_queue), ROW(upload), ROW(download), ROW(clear), ROW(wait);
    ROW(load), ROW(subtract), ROW(choose), ROW(compare), ROW(accumulate), ROW(elect_sign);
    ROW(store), ROW(merge), ROW(gram), ROW(gram_columns), ROW(accumulate_columns), ROW(measure);
    ROW(combine), ROW(count_active), ROW(select_begin), ROW(select_count), ROW(select_settle);
    ROW(keep_top), ROW(drop_top), ROW(select_kept), ROW(select_value), ROW(keep_from);
    ROW(diverge), ROW(weigh_rows), ROW(score), ROW(balance), ROW(keep_random), ROW(keep_ranked);
    ROW(truncate_rank), ROW(multiply), ROW(scale_rows), ROW(eigen), ROW(solve), ROW(dot_rows);
}

__attribute__((visibility("default"))) const lors_backend_library *fault_device_library(
    const lors_backend_host *host);

const lors_backend_library *fault_device_library(const lors_backend_host *host)
{
    static const lors_backend_device one = {"cuda:0", "of the fault loops", 1 << 30};
    static const lors_backend_library library = {LORS_BACKEND_ABI, &table, 1, &one, ""};
    device.host = host;
    return &library;
}

void device_use(void)
{
    fill_table();
    NEED(setenv("LORS_CUDA_LIBRARY", FAULT_DEVICE, 1) == 0, "the environment");
    NEED(lors_device_count() == 2, "%s: %s", FAULT_DEVICE, lors_device_at(1)->reason);
}

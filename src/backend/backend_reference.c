/* backend_reference.c - the CPU's operations with the low-rank parts of another backend, judged.
 * reference_dense.c does the same for products and eigenproblems. */
#include "backend/reference_internal.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/error.h"
#include "backend/merge_by_parts.h"
#include "base/memory.h"

static reference *of_backend(lors_backend *backend)
{
    return (reference *)(void *)backend;
}

lors_status lors_reference_open(const lors_backend_ops *ops, lors_backend *device,
                                lors_backend **out)
{
    reference *made = lors_new(1, sizeof *made);
    if (!made) {
        return lors_fail_memory(sizeof *made);
    }
    made->cpu.kernels = lors_cpu_kernels_get();
    made->ops = ops;
    made->device = device;
    *out = &made->cpu;
    return LORS_OK;
}

static lors_status reference_open(int32_t index, lors_backend **out)
{
    *out = NULL;
    return lors_fail(LORS_ERR_DEVICE, "a reference is opened with the device it checks, not by %d",
                     index);
}

static void reference_close(lors_backend *backend)
{
    lors_free(backend);
}

static lors_status reference_open_queue(lors_backend *backend, lors_queue **out)
{
    reference_queue *queue = lors_new(1, sizeof *queue);
    if (!queue) {
        return lors_fail_memory(sizeof *queue);
    }
    queue->owner = of_backend(backend);
    queue->cpu.kernels = backend->kernels;
    lors_status status = queue->owner->ops->open_queue(queue->owner->device, &queue->device);
    if (status != LORS_OK) {
        lors_free(queue);
        return status;
    }
    *out = &queue->cpu;
    return LORS_OK;
}

static void reference_close_queue(lors_queue *given)
{
    reference_queue *queue = (reference_queue *)(void *)given;
    if (queue) {
        queue->owner->ops->close_queue(queue->device);
        lors_free(queue);
    }
}

/* --- low rank on the device ------------------------------------------------------------------- */

void lors_reference_end_trip(reference *r, trip *t)
{
    r->ops->release(r->device, t->staging);
    r->ops->release(r->device, t->there);
}

lors_status lors_reference_begin_trip(reference *r, uint64_t staged, uint64_t there, trip *t)
{
    *t = (trip){NULL, NULL};
    lors_status status = r->ops->allocate(r->device, LORS_STAGING, staged, &t->staging);
    if (status == LORS_OK) {
        status = r->ops->allocate(r->device, LORS_ON_DEVICE, there, &t->there);
    }
    if (status != LORS_OK) {
        lors_reference_end_trip(r, t);
    }
    return status;
}

/* low = the device's low-rank part of x. */
static lors_status ask_device(reference_queue *queue, float *low, const float *x, int64_t n_rows,
                              int64_t n_cols, lors_rank rank, lors_certificate *certificate)
{
    reference *r = queue->owner;
    uint64_t n_bytes = (uint64_t)(n_rows * n_cols) * sizeof(float);
    uint64_t padded = lors_view_padded(n_bytes);
    trip t;
    uint64_t scratch_bytes = r->ops->truncate_bytes(1, n_rows, n_cols, rank);
    LORS_TRY(lors_reference_begin_trip(r, n_bytes, 2 * padded + scratch_bytes, &t));
    lors_view staged = {t.staging, 0}, there = {t.there, 0};
    lors_view result = {t.there, padded}, scratch = {t.there, 2 * padded};
    memcpy(r->ops->host_bytes(staged), x, n_bytes);
    lors_status status = r->ops->upload(queue->device, there, staged, n_bytes);
    if (status == LORS_OK) {
        status = r->ops->truncate_rank(queue->device, result, there, n_rows * n_cols, 1, n_rows,
                                       n_cols, &rank, scratch, certificate);
    }
    if (status == LORS_OK) {
        status = r->ops->download(queue->device, staged, result, n_bytes);
    }
    lors_status waited = r->ops->wait(queue->device);
    status = status == LORS_OK ? waited : status;
    if (status == LORS_OK) {
        memcpy(low, r->ops->host_bytes(staged), n_bytes);
    }
    lors_reference_end_trip(r, &t);
    return status;
}

/* --- the judge -------------------------------------------------------------------------------- */

static double distance(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double rest = (double)a[i] - (double)b[i];
        sum += rest * rest;
    }
    return sqrt(sum);
}

static double norm_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sqrt(sum);
}

/* A deviation over what is allowed; a NaN is beyond every bound. */
static double ratio(double deviation, double allowed)
{
    if (isnan(deviation)) {
        return INFINITY;
    }
    return deviation <= 0 ? 0 : deviation / allowed;
}

static double judge(const float *x, const float *low, const float *best, int64_t n,
                    const lors_certificate *c, const lors_certificate *best_of)
{
    /* What f32 can hold of tiny entries: half a step of its subnormals, each. */
    double least = 0x1p-150 * sqrt((double)n), norm = norm_of(x, n);
    if (!isfinite(norm)) {
        return 0; /* nothing is promised of what is not a number */
    }
    double optimum = distance(x, best, n), first = best_of->sigma_first;
    double excess = ratio(distance(x, low, n) - optimum,
                          1e-6 * optimum + 4 * 0x1p-24 * norm + least);
    if (first == 0) {
        return excess; /* all or nothing is kept: there is no spectrum to compare */
    }
    double worst = fmax(excess, ratio(c->orthogonality, 1e-5));
    worst = fmax(worst, ratio(fabs(c->sigma_first - first), 1e-5 * first));
    worst = fmax(worst, ratio(fabs(c->sigma_last - best_of->sigma_last), 1e-5 * first));
    worst = fmax(worst, ratio(fabs(c->sigma_next - best_of->sigma_next), 1e-5 * first));
    if (best_of->gap >= 1e-2) {
        worst = fmax(worst, ratio(distance(low, best, n), 1e-5 * norm + least));
    }
    return worst;
}

static uint64_t reference_truncate_bytes(int32_t n_matrices, int64_t n_rows, int64_t n_cols,
                                         lors_rank rank)
{
    /* The reference's result and scratch; and for the trip to a device that is the host itself the
     * matrix, twice, its result, and the scratch of that. */
    uint64_t matrix = lors_view_padded((uint64_t)(n_rows * n_cols) * sizeof(float));
    uint64_t bytes = 4 * matrix + lors_cpu_truncate_bytes(n_matrices, n_rows, n_cols, rank);
    rank.exact = true;
    return bytes + lors_cpu_truncate_bytes(n_matrices, n_rows, n_cols, rank);
}

static lors_status truncate_one(reference_queue *queue, float *low, const float *x, int64_t n_rows,
                                int64_t n_cols, lors_rank rank, lors_view scratch,
                                lors_certificate *certificate)
{
    uint64_t n_bytes = lors_view_padded((uint64_t)(n_rows * n_cols) * sizeof(float));
    LORS_TRY(ask_device(queue, low, x, n_rows, n_cols, rank, certificate));
    /* The same rank, where the device chose it by energy. */
    lors_rank same = {certificate->rank, 0, true};
    lors_certificate best_of;
    lors_memory memory = {(unsigned char *)(uintptr_t)x, 0};
    LORS_TRY(lors_cpu_truncate_rank(&queue->cpu, scratch, (lors_view){&memory, 0}, 0, 1, n_rows,
                                    n_cols, &same, lors_view_at(scratch, n_bytes), &best_of));
    certificate->bound_ratio =
        judge(x, low, lors_cpu_at(scratch), n_rows * n_cols, certificate, &best_of);
    return LORS_OK;
}

static lors_status reference_truncate_rank(lors_queue *queue, lors_view low, lors_view x,
                                           int64_t stride, int32_t n_matrices, int64_t n_rows,
                                           int64_t n_cols, const lors_rank *ranks,
                                           lors_view scratch, lors_certificate *certificates)
{
    float *to = lors_cpu_at(low);
    const float *from = lors_cpu_at(x);
    for (int32_t i = 0; i < n_matrices; i++) {
        LORS_TRY(truncate_one((reference_queue *)(void *)queue, to + i * stride, from + i * stride,
                              n_rows, n_cols, ranks[i], scratch, &certificates[i]));
    }
    return LORS_OK;
}

/* Not the kernels that are to be checked, but what they stand for. */
static lors_status reference_merge(lors_queue *queue, lors_view out, const lors_merge *m, int64_t n)
{
    return lors_merge_by_parts(&lors_cpu_ops, queue, out, m, 0, n);
}

/* --- the table -------------------------------------------------------------------------------- */

static lors_backend_ops table;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    table = lors_cpu_ops;
    table.name = "reference";
    table.open = reference_open;
    table.close = reference_close;
    table.open_queue = reference_open_queue;
    table.close_queue = reference_close_queue;
    table.merge = reference_merge;
    table.truncate_bytes = reference_truncate_bytes;
    table.truncate_rank = reference_truncate_rank;
    table.multiply_bytes = lors_reference_multiply_bytes;
    table.multiply = lors_reference_multiply;
    table.eigen_bytes = lors_reference_eigen_bytes;
    table.eigen = lors_reference_eigen;
    table.solve_bytes = lors_reference_solve_bytes;
    table.solve = lors_reference_solve;
    table.dot_rows = lors_reference_dot_rows;
}

const lors_backend_ops *lors_reference_ops(void)
{
    pthread_once(&once, fill_table);
    return &table;
}

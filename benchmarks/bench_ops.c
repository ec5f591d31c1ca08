/* bench_ops.c - every operation at real layer shapes, beside a floor measured in the same run.
 *
 *   build/benchmarks/bench_ops [--quick] [--json FILE]
 *
 * Low rank stands beside LAPACK sgesdd with full matrices (what the method's authors call),
 * selection beside a quickselect of the copied magnitudes, elementwise work beside a plain copy of
 * as many bytes. Each result is verified before it is timed; times are medians of this thread's own
 * processor time, so that other load on the machine does not enter, and only ratios are to be
 * quoted.
 */
#include <cblas.h>
#include <jansson.h>
#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/backend_registry.h"
#include "base/rng.h"

enum { MODELS = 5, RUNS = 5 };

typedef struct bench {
    const lors_backend_ops *ops;
    lors_backend *backend;
    json_t *rows;
    bool quick;
} bench;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_ops: %s: %s\n", what, lors_last_error());
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct timing {
    void (*work)(void *context);
    void *context;
    double seconds[RUNS];
} timing;

static double median(timing *t)
{
    t->work(t->context); /* warm up */
    for (int i = 0; i < RUNS; i++) {
        double start = now();
        t->work(t->context);
        t->seconds[i] = now() - start;
    }
    qsort(t->seconds, RUNS, sizeof *t->seconds, by_value);
    return t->seconds[RUNS / 2];
}

static lors_view take(bench *b, uint64_t n_bytes)
{
    lors_memory *memory = NULL;
    if (b->ops->allocate(b->backend, n_bytes, &memory) != LORS_OK) {
        die("memory");
    }
    memset(b->ops->host_bytes((lors_view){memory, 0}), 0, n_bytes);
    return (lors_view){memory, 0};
}

static void give(bench *b, lors_view view)
{
    b->ops->release(b->backend, view.memory);
}

/* About N(0, 1), from four bytes of one draw. */
static float gauss(uint64_t key, uint64_t at)
{
    lors_philox bits = lors_philox_at(key, at, 0);
    int32_t sum = 0;
    for (int i = 0; i < 4; i++) {
        sum += (int32_t)(bits.word[i] & 0xffff) + (int32_t)(bits.word[i] >> 16);
    }
    return (float)(sum - 8 * 32768) * (1.2247449f / 65536.0f);
}

static void report(bench *b, const char *operation, const char *shape, double seconds,
                   const char *floor_name, double floor_seconds)
{
    printf("%-28s %-22s %10.3f ms   %-28s %10.3f ms   %7.2fx\n", operation, shape, 1e3 * seconds,
           floor_name, 1e3 * floor_seconds, floor_seconds / seconds);
    fflush(stdout);
    json_array_append_new(b->rows, json_pack("{s:s, s:s, s:f, s:s, s:f, s:f}", "operation",
                                             operation, "shape", shape, "seconds", seconds,
                                             "beside", floor_name, "beside_seconds", floor_seconds,
                                             "times_faster", floor_seconds / seconds));
}

/* --- low rank --------------------------------------------------------------------------------- */

typedef struct low_rank_case {
    bench *b;
    int64_t rows, cols;
    lors_rank rank;
    lors_view x, low, scratch;
    lors_certificate certificate;
    float *copy, *u, *vt, *s;
} low_rank_case;

static void run_low_rank(void *context)
{
    low_rank_case *c = context;
    if (c->b->ops->truncate_rank(c->b->backend, c->low, c->x, c->rows, c->cols, c->rank, c->scratch,
                                 &c->certificate) != LORS_OK) {
        die("truncate_rank");
    }
}

static double time_sgesdd(low_rank_case *c)
{
    lapack_int m = (lapack_int)c->cols, n = (lapack_int)c->rows; /* row-major is the transpose */
    memcpy(c->copy, c->b->ops->host_bytes(c->x), (size_t)(c->rows * c->cols) * sizeof(float));
    double start = now();
    LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'A', m, n, c->copy, m, c->s, c->u, m, c->vt, n);
    return now() - start;
}

/* Singular values 1/i with random vectors, and noise whose largest singular value is 0.05 (decay);
 * or noise alone (flat). */
static void fill_matrix(low_rank_case *c, bool decay)
{
    float *x = c->b->ops->host_bytes(c->x);
    int64_t rows = c->rows, cols = c->cols, k = rows < cols ? rows : cols;
    float noise = 0.05f / (sqrtf((float)rows) + sqrtf((float)cols));
    for (int64_t i = 0; i < rows * cols; i++) {
        x[i] = gauss(3, (uint64_t)i) * noise;
    }
    if (!decay) {
        return;
    }
    k = k < 256 ? k : 256;
    float *u = malloc((size_t)(rows * k) * sizeof *u), *v = malloc((size_t)(cols * k) * sizeof *v);
    if (!u || !v) {
        die("memory");
    }
    for (int64_t i = 0; i < rows * k; i++) {
        u[i] = gauss(1, (uint64_t)i) / sqrtf((float)rows) / (float)(i % k + 1);
    }
    for (int64_t i = 0; i < cols * k; i++) {
        v[i] = gauss(2, (uint64_t)i) / sqrtf((float)cols);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)cols, (int)k, 1, u, (int)k,
                v, (int)k, 1, x, (int)cols);
    free(u);
    free(v);
}

/* The energy kept, against the singular values that sgesdd found in f32. */
static void verify_low_rank(const low_rank_case *c)
{
    double kept = 0, total = c->certificate.norm * c->certificate.norm;
    for (int64_t i = 0; i < c->certificate.rank; i++) {
        kept += (double)c->s[i] * (double)c->s[i];
    }
    if (fabs(kept / total - c->certificate.energy) > 1e-4) {
        die("truncate_rank does not agree with sgesdd");
    }
}

static void bench_low_rank(bench *b, int64_t rows, int64_t cols, int64_t rank, bool decay)
{
    size_t n = (size_t)(rows * cols), r = (size_t)rows, w = (size_t)cols;
    low_rank_case c = {.b = b, .rows = rows, .cols = cols, .rank = {rank, 0}};
    c.x = take(b, n * 4);
    c.low = take(b, n * 4);
    c.scratch = take(b, b->ops->truncate_bytes(rows, cols, c.rank));
    c.copy = malloc(n * 4);
    c.u = malloc(w * w * 4);
    c.vt = malloc(r * r * 4);
    c.s = malloc((r < w ? r : w) * 4);
    if (!c.copy || !c.u || !c.vt || !c.s) {
        die("memory");
    }
    fill_matrix(&c, decay);
    double reference = time_sgesdd(&c);
    run_low_rank(&c);
    verify_low_rank(&c);
    timing t = {run_low_rank, &c, {0}};
    double seconds = median(&t), again = time_sgesdd(&c);
    char shape[64], name[64];
    snprintf(shape, sizeof shape, "%lldx%lld rank %lld", (long long)rows, (long long)cols,
             (long long)rank);
    snprintf(name, sizeof name, "low rank, %s (%s)", decay ? "decay" : "flat",
             c.certificate.path);
    report(b, name, shape, seconds, "sgesdd, full matrices", 0.5 * (reference + again));
    give(b, c.x);
    give(b, c.low);
    give(b, c.scratch);
    free(c.copy);
    free(c.u);
    free(c.vt);
    free(c.s);
}

/* --- selection -------------------------------------------------------------------------------- */

typedef struct select_case {
    bench *b;
    int64_t n;
    uint64_t k;
    lors_view x, state, mask;
    float *copy;
    float threshold;
} select_case;

static void run_select(void *context)
{
    select_case *c = context;
    const lors_backend_ops *ops = c->b->ops;
    lors_status status = ops->select_begin(c->b->backend, c->state, (uint64_t)c->n, c->k);
    for (int32_t pass = 0; pass < LORS_SELECT_PASSES && status == LORS_OK; pass++) {
        status = ops->select_count(c->b->backend, c->state, pass, c->x, 0, c->n);
        if (status == LORS_OK) {
            status = ops->select_settle(c->b->backend, c->state, pass);
        }
    }
    if (status != LORS_OK) {
        die("selection");
    }
}

/* Hoare's quickselect on a copy of the magnitudes, median of three: what nth_element does. */
static void run_quickselect(void *context)
{
    select_case *c = context;
    const float *x = c->b->ops->host_bytes(c->x);
    for (int64_t i = 0; i < c->n; i++) {
        c->copy[i] = fabsf(x[i]);
    }
    int64_t low = 0, high = c->n - 1, wanted = c->n - (int64_t)c->k;
    while (low < high) {
        float a = c->copy[low], m = c->copy[(low + high) / 2], z = c->copy[high];
        float pivot = fmaxf(fminf(a, m), fminf(fmaxf(a, m), z));
        int64_t i = low, j = high;
        while (i <= j) {
            while (c->copy[i] < pivot) {
                i++;
            }
            while (c->copy[j] > pivot) {
                j--;
            }
            if (i <= j) {
                float swap = c->copy[i];
                c->copy[i++] = c->copy[j];
                c->copy[j--] = swap;
            }
        }
        if (wanted <= j) {
            high = j;
        } else if (wanted >= i) {
            low = i;
        } else {
            break;
        }
    }
    c->threshold = c->copy[wanted];
}

static void verify_select(select_case *c)
{
    const float *x = c->b->ops->host_bytes(c->x);
    const uint8_t *mask = c->b->ops->host_bytes(c->mask);
    if (c->b->ops->keep_top(c->b->backend, c->state, c->mask, c->x, 0, c->n) != LORS_OK) {
        die("keep_top");
    }
    uint64_t kept = 0;
    for (int64_t i = 0; i < c->n; i++) {
        kept += mask[i];
        if (fabsf(x[i]) > c->threshold && !mask[i]) {
            die("keep_top leaves out a value above the threshold");
        }
    }
    if (kept != c->k) {
        die("keep_top keeps another number");
    }
}

static void bench_select(bench *b, int64_t n)
{
    select_case c = {.b = b, .n = n, .k = (uint64_t)n / 5};
    c.x = take(b, (uint64_t)n * 4);
    c.mask = take(b, (uint64_t)n);
    c.state = take(b, b->ops->select_bytes((uint64_t)n));
    c.copy = malloc((size_t)n * sizeof *c.copy);
    float *x = b->ops->host_bytes(c.x);
    for (int64_t i = 0; i < n && c.copy; i++) {
        x[i] = gauss(9, (uint64_t)i) * 1e-3f;
    }
    timing ours = {run_select, &c, {0}}, theirs = {run_quickselect, &c, {0}};
    double seconds = median(&ours), other = median(&theirs);
    verify_select(&c);
    char shape[64];
    snprintf(shape, sizeof shape, "%.1f M, k = 20 %%", 1e-6 * (double)n);
    report(b, "exact top-k", shape, seconds, "quickselect", other);
    give(b, c.x);
    give(b, c.mask);
    give(b, c.state);
    free(c.copy);
}

/* --- elementwise ------------------------------------------------------------------------------ */

typedef struct sum_case {
    bench *b;
    int64_t n;
    lors_view raw, out, stack, acc, target;
    lors_store_block *blocks;
    uint64_t n_bytes;
} sum_case;

/* W0 + sum (W_k - W0) / N from f16 to f16 by tiles, as the run does it. */
static void run_sum(void *context)
{
    sum_case *c = context;
    const lors_backend_ops *ops = c->b->ops;
    int64_t tile = ops->tile_elements;
    double weights[MODELS] = {1, 1, 1, 1, 1};
    for (int64_t first = 0; first < c->n; first += tile) {
        int64_t count = c->n - first < tile ? c->n - first : tile;
        lors_findings found;
        for (int64_t k = 0; k <= MODELS; k++) {
            lors_view raw = lors_view_at(c->raw, (uint64_t)(2 * (k * c->n + first)));
            lors_view slice = lors_view_at(c->stack, (uint64_t)(4 * k * tile));
            ops->load(c->b->backend, slice, raw, LORS_F16, count, false, &found);
        }
        lors_sum sum = {.stack = lors_view_at(c->stack, (uint64_t)(4 * tile)),
                        .base = c->stack,
                        .stride = tile,
                        .n_models = MODELS,
                        .weights = weights,
                        .scale = 1.0 / MODELS};
        ops->accumulate(c->b->backend, c->acc, &sum, count);
        ops->store(c->b->backend, lors_view_at(c->out, (uint64_t)(2 * first)), LORS_F16, c->acc,
                   c->stack, count, false, c->blocks);
    }
}

/* A copy that reads and writes as many bytes in all. */
static void run_copy(void *context)
{
    sum_case *c = context;
    memcpy(c->b->ops->host_bytes(c->target), c->b->ops->host_bytes(c->raw), c->n_bytes / 2);
}

static void verify_sum(sum_case *c)
{
    const uint16_t *raw = c->b->ops->host_bytes(c->raw), *out = c->b->ops->host_bytes(c->out);
    for (int64_t i = 0; i < c->n; i += 997) {
        double base = (double)lors_f16_to_f32(raw[i]), sum = 0;
        for (int64_t k = 1; k <= MODELS; k++) {
            sum += (double)lors_f16_to_f32(raw[k * c->n + i]) - base;
        }
        sum *= 1.0 / MODELS;
        if (lors_f64_to_f16(sum == 0 ? base : base + sum) != out[i]) {
            die("the weighted sum is wrong");
        }
    }
}

static void bench_sum(bench *b, int64_t n)
{
    uint64_t tile = (uint64_t)b->ops->tile_elements;
    sum_case c = {.b = b, .n = n, .n_bytes = (uint64_t)n * 2 * (MODELS + 2)};
    c.raw = take(b, (uint64_t)n * 2 * (MODELS + 1));
    c.out = take(b, (uint64_t)n * 2);
    c.target = take(b, c.n_bytes / 2 + 64);
    c.stack = take(b, tile * 4 * (MODELS + 1));
    c.acc = take(b, tile * 8);
    c.blocks = calloc(tile / LORS_BLOCK + 1, sizeof *c.blocks);
    uint16_t *raw = b->ops->host_bytes(c.raw);
    for (int64_t i = 0; i < n * (MODELS + 1) && c.blocks; i++) {
        raw[i] = lors_f64_to_f16((double)gauss(5, (uint64_t)i) * 0.02);
    }
    timing ours = {run_sum, &c, {0}}, copy = {run_copy, &c, {0}};
    double seconds = median(&ours), floor_seconds = median(&copy);
    verify_sum(&c);
    char shape[64];
    snprintf(shape, sizeof shape, "%.1f M, N = 5, f16", 1e-6 * (double)n);
    report(b, "task arithmetic", shape, seconds, "copy of as many bytes", floor_seconds);
    give(b, c.raw);
    give(b, c.out);
    give(b, c.target);
    give(b, c.stack);
    give(b, c.acc);
    free(c.blocks);
}

int main(int argc, char **argv)
{
    bench b = {.rows = json_array()};
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        b.quick = b.quick || strcmp(argv[i], "--quick") == 0;
        path = strcmp(argv[i], "--json") == 0 && i + 1 < argc ? argv[++i] : path;
    }
    int32_t index = 0;
    if (lors_backend_find("cpu", &b.ops, &index) != LORS_OK ||
        b.ops->open(index, &b.backend) != LORS_OK) {
        die("cpu");
    }
    static const int64_t shapes[][2] = {{768, 768}, {3072, 768}, {1280, 1280}, {5120, 1280}};
    for (size_t i = 0; i < (b.quick ? 1 : sizeof shapes / sizeof *shapes); i++) {
        bench_low_rank(&b, shapes[i][0], shapes[i][1], 7, true);
        bench_low_rank(&b, shapes[i][0], shapes[i][1], 7, false);
        bench_low_rank(&b, shapes[i][0], shapes[i][1], 64, true);
    }
    bench_select(&b, b.quick ? 1 << 18 : 6553600);
    bench_sum(&b, b.quick ? 1 << 18 : 6553600);
    json_t *root = json_pack("{s:s, s:s, s:o}", "what", "operations on one core of the CPU",
                             "blas", openblas_get_config(), "rows", b.rows);
    if (path && json_dump_file(root, path, JSON_INDENT(1)) != 0) {
        fprintf(stderr, "bench_ops: cannot write %s\n", path);
        return 1;
    }
    json_decref(root);
    b.ops->close(b.backend);
    return 0;
}

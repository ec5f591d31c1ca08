/* bench_ops.c - every operation of every device at real layer shapes, beside a floor measured in
 * the same run.
 *
 *   build/benchmarks/bench_ops [--device cpu|cuda:0] [--quick] [--json FILE]
 *
 * The floor of an operation is a copy on the same device that reads and writes as many bytes as the
 * operation must; low rank also stands beside LAPACK sgesdd with full matrices (what the method's
 * authors call), selection beside a quickselect of the copied magnitudes, both on the CPU. Each
 * result is verified before it is timed. Times are medians: on the CPU of this thread's own
 * processor time, so that other load does not enter; of other devices by the clock, from the first
 * operation queued to the end of a wait, uploads left out. Only ratios are to be quoted.
 */
#include <cblas.h>
#include <jansson.h>
#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/arithmetic.h"
#include "base/rng.h"
#include "measure.h"

enum { MODELS = 5, SAMPLE = 997 };

/* About N(0, 1), from four words of one draw. */
static float gauss(uint64_t key, uint64_t at)
{
    lors_philox bits = lors_philox_at(key, at, 0);
    int32_t sum = 0;
    for (int i = 0; i < 4; i++) {
        sum += (int32_t)(bits.word[i] & 0xffff) + (int32_t)(bits.word[i] >> 16);
    }
    return (float)(sum - 8 * 32768) * (1.2247449f / 65536.0f);
}

/* --- low rank --------------------------------------------------------------------------------- */

/* A matrix on the host, and what sgesdd makes of it. */
typedef struct matrix {
    int64_t rows, cols;
    float *x, *copy, *u, *vt, *s;
    double seconds; /* of sgesdd */
} matrix;

typedef struct low_rank {
    const device *d;
    const matrix *m;
    int32_t batch;
    lors_rank ranks[LORS_MAX_BATCH];
    area x, low, scratch;
    lors_certificate certificates[LORS_MAX_BATCH];
} low_rank;

static void run_low_rank(void *context)
{
    low_rank *c = context;
    check(c->d->ops->truncate_rank(c->d->queue, c->low.view, c->x.view, c->m->rows * c->m->cols,
                                   c->batch, c->m->rows, c->m->cols, c->ranks, c->scratch.view,
                                   c->certificates),
          "truncate_rank");
}

static void run_sgesdd(void *context)
{
    matrix *m = context;
    lapack_int w = (lapack_int)m->cols, n = (lapack_int)m->rows; /* row-major is the transpose */
    memcpy(m->copy, m->x, (size_t)(m->rows * m->cols) * sizeof(float));
    LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'A', w, n, m->copy, w, m->s, m->u, w, m->vt, n);
}

/* Singular values 1/i with random vectors, and noise whose largest singular value is 0.05 (decay);
 * or noise alone (flat). */
static void fill_matrix(matrix *m, bool decay)
{
    int64_t rows = m->rows, cols = m->cols, k = rows < cols ? rows : cols;
    float noise = 0.05f / (sqrtf((float)rows) + sqrtf((float)cols));
    for (int64_t i = 0; i < rows * cols; i++) {
        m->x[i] = gauss(3, (uint64_t)i) * noise;
    }
    if (!decay) {
        return;
    }
    k = k < 256 ? k : 256;
    float *u = host_array((size_t)(rows * k) * sizeof *u);
    float *v = host_array((size_t)(cols * k) * sizeof *v);
    for (int64_t i = 0; i < rows * k; i++) {
        u[i] = gauss(1, (uint64_t)i) / sqrtf((float)rows) / (float)(i % k + 1);
    }
    for (int64_t i = 0; i < cols * k; i++) {
        v[i] = gauss(2, (uint64_t)i) / sqrtf((float)cols);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)cols, (int)k, 1, u, (int)k,
                v, (int)k, 1, m->x, (int)cols);
    free(u);
    free(v);
}

static matrix matrix_of(int64_t rows, int64_t cols, bool decay)
{
    size_t n = (size_t)(rows * cols), r = (size_t)rows, w = (size_t)cols;
    matrix m = {.rows = rows, .cols = cols};
    m.x = host_array(n * 4);
    m.copy = host_array(n * 4);
    m.u = host_array(w * w * 4);
    m.vt = host_array(r * r * 4);
    m.s = host_array((r < w ? r : w) * 4);
    fill_matrix(&m, decay);
    m.seconds = 0.5 * (time_once(NULL, run_sgesdd, &m, 1) + time_once(NULL, run_sgesdd, &m, 1));
    return m;
}

static void free_matrix(matrix *m)
{
    free(m->x);
    free(m->copy);
    free(m->u);
    free(m->vt);
    free(m->s);
}

/* The energy kept, against the singular values that sgesdd found in f32. */
static void verify_low_rank(const low_rank *c)
{
    for (int32_t i = 0; i < c->batch; i++) {
        const lors_certificate *found = &c->certificates[i];
        double kept = 0, total = found->norm * found->norm;
        for (int64_t s = 0; s < found->rank; s++) {
            kept += (double)c->m->s[s] * (double)c->m->s[s];
        }
        if (found->rank != c->ranks[i].count || fabs(kept / total - found->energy) > 1e-4) {
            die("truncate_rank does not agree with sgesdd");
        }
    }
}

/* As many at once as the device likes; time and work of one. The floor: each pass and the
 * projection read the matrix, the result is written. Operations: those of the projection, which
 * every solver needs, so that devices and solvers compare. */
static void bench_low_rank(bench *b, const device *d, const matrix *m, lors_rank rank,
                           const char *kind)
{
    uint64_t n_bytes = (uint64_t)(m->rows * m->cols) * 4;
    low_rank c = {.d = d, .m = m, .batch = d->ops->batch};
    c.x = take(d, n_bytes * (uint64_t)c.batch);
    c.low = take(d, n_bytes * (uint64_t)c.batch);
    c.scratch = take(d, d->ops->truncate_bytes(c.batch, m->rows, m->cols, rank));
    for (int32_t i = 0; i < c.batch; i++) {
        c.ranks[i] = rank;
        memcpy((char *)c.x.host + (uint64_t)i * n_bytes, m->x, n_bytes);
    }
    push(&c.x);
    run_low_rank(&c);
    verify_low_rank(&c);
    char shape[64], name[64];
    snprintf(shape, sizeof shape, "%lldx%lld rank %lld", (long long)m->rows, (long long)m->cols,
             (long long)rank.count);
    snprintf(name, sizeof name, "low rank, %s (%s)", kind, c.certificates[0].path);
    report(b, (row){.d = d,
                    .operation = name,
                    .shape = shape,
                    .seconds = median(d, run_low_rank, &c) / c.batch,
                    .floor_seconds =
                        floor_of(d, (double)n_bytes * (double)(c.certificates[0].n_passes + 3)),
                    .amount = 4.0 * (double)m->rows * (double)m->cols * (double)rank.count,
                    .is_flops = true,
                    .beside = "sgesdd, full matrices",
                    .beside_seconds = m->seconds});
    give(&c.x);
    give(&c.low);
    give(&c.scratch);
}

static void bench_matrices(bench *b, int64_t rows, int64_t cols)
{
    matrix decay = matrix_of(rows, cols, true), flat = matrix_of(rows, cols, false);
    for (int i = 0; i < b->n_devices; i++) {
        const device *d = &b->devices[i];
        bench_low_rank(b, d, &decay, (lors_rank){7, 0, false}, "decay");
        bench_low_rank(b, d, &flat, (lors_rank){7, 0, false}, "flat");
        bench_low_rank(b, d, &decay, (lors_rank){64, 0, false}, "decay");
        bench_low_rank(b, d, &decay, (lors_rank){7, 0, true}, "decay");
    }
    free_matrix(&decay);
    free_matrix(&flat);
}

/* --- a layer of five models and their base ---------------------------------------------------- */

typedef struct layer {
    const device *d;
    int64_t n;
    uint64_t k; /* kept of each task vector */
    area raw, stack, delta, masks, signs, acc, out, dots, blocks, findings, state, kept;
    lors_selection selection;
    double weights[MODELS];
} layer;

static layer layer_of(const device *d, int64_t n)
{
    layer l = {.d = d, .n = n, .k = (uint64_t)n / 5, .weights = {1, 1, 1, 1, 1}};
    uint64_t size = (uint64_t)n, blocks = size / LORS_BLOCK + 1;
    l.raw = take(d, size * 2 * (MODELS + 1));
    l.stack = take(d, size * 4 * (MODELS + 1));
    l.delta = take(d, size * 4 * MODELS);
    l.masks = take(d, size * MODELS);
    l.signs = take(d, size);
    l.acc = take(d, size * 8);
    l.out = take(d, size * 2);
    l.dots = take(d, blocks * MODELS * (MODELS + 1) / 2 * sizeof(double));
    l.blocks = take(d, blocks * sizeof(lors_store_block));
    l.findings = take(d, sizeof(lors_findings));
    l.state = take(d, MODELS * d->ops->select_bytes(size));
    l.kept = take(d, MODELS * sizeof(uint64_t));
    l.selection = (lors_selection){l.state.view, size, MODELS};
    uint16_t *raw = l.raw.host; /* a base, and what was learned upon it */
    for (int64_t i = 0; i < n * (MODELS + 1); i++) {
        float base = gauss(5, (uint64_t)(i % n)) * 0.02f, update = gauss(6, (uint64_t)i) * 1e-3f;
        raw[i] = lors_f16_bits(lors_round_f16((double)(i < n ? base : base + update)));
    }
    push(&l.raw);
    return l;
}

static void free_layer(layer *l)
{
    area *areas[] = {&l->raw, &l->stack, &l->delta,  &l->masks, &l->signs,    &l->acc,
                     &l->out, &l->dots,  &l->blocks, &l->state, &l->findings, &l->kept};
    for (size_t i = 0; i < sizeof areas / sizeof *areas; i++) {
        give(areas[i]);
    }
}

static lors_view models_of(const layer *l)
{
    return lors_view_at(l->stack.view, (uint64_t)l->n * 4);
}

static lors_sum sum_of(const layer *l)
{
    return (lors_sum){.stack = models_of(l),
                      .base = l->stack.view,
                      .stride = l->n,
                      .n_models = MODELS,
                      .weights = l->weights,
                      .scale = 1.0 / MODELS};
}

static void run_load(void *context)
{
    layer *l = context;
    for (int64_t k = 0; k <= MODELS; k++) {
        check(l->d->ops->load(l->d->queue, lors_view_at(l->stack.view, (uint64_t)(4 * k * l->n)),
                              lors_view_at(l->raw.view, (uint64_t)(2 * k * l->n)), LORS_F16, l->n,
                              false, 0, l->findings.view),
              "load");
    }
}

static void run_subtract(void *context)
{
    layer *l = context;
    check(l->d->ops->subtract(l->d->queue, l->delta.view, models_of(l), l->n, l->stack.view, 0,
                              MODELS, l->n),
          "subtract");
}

static void run_select(void *context)
{
    layer *l = context;
    const lors_backend_ops *ops = l->d->ops;
    uint64_t k[MODELS] = {l->k, l->k, l->k, l->k, l->k};
    check(ops->select_begin(l->d->queue, &l->selection, k), "select_begin");
    for (int32_t pass = 0; pass < LORS_SELECT_PASSES; pass++) {
        check(ops->select_count(l->d->queue, &l->selection, pass, l->delta.view, l->n, 0, l->n),
              "select_count");
        check(ops->select_settle(l->d->queue, &l->selection, pass), "select_settle");
    }
}

static void run_keep_top(void *context)
{
    layer *l = context;
    check(l->d->ops->keep_top(l->d->queue, &l->selection, l->masks.view, l->delta.view, l->n, 0,
                              l->n),
          "keep_top");
}

static void run_elect(void *context)
{
    layer *l = context;
    lors_sum sum = sum_of(l);
    sum.masks = l->masks.view;
    check(l->d->ops->elect_sign(l->d->queue, l->signs.view, &sum, l->n), "elect_sign");
}

static void run_ties_sum(void *context)
{
    layer *l = context;
    lors_sum sum = sum_of(l);
    sum.masks = l->masks.view;
    sum.signs = l->signs.view;
    sum.divisor = LORS_DIVIDE_KEPT;
    check(l->d->ops->accumulate(l->d->queue, l->acc.view, &sum, l->n), "accumulate");
}

static void run_sum(void *context)
{
    layer *l = context;
    lors_sum sum = sum_of(l);
    check(l->d->ops->accumulate(l->d->queue, l->acc.view, &sum, l->n), "accumulate");
}

static void run_store(void *context)
{
    layer *l = context;
    lors_store store = {
        .dtype = LORS_F16, .acc = l->acc.view, .base = l->stack.view, .blocks = l->blocks.view};
    check(l->d->ops->store(l->d->queue, l->out.view, &store, l->n), "store");
}

static void run_dots(void *context)
{
    layer *l = context;
    check(l->d->ops->gram(l->d->queue, l->dots.view, l->delta.view, l->n, MODELS, l->n), "gram");
}

static void run_measure(void *context)
{
    layer *l = context;
    check(l->d->ops->measure(l->d->queue, l->dots.view, l->delta.view, l->masks.view, l->n, 1,
                             l->n),
          "measure");
}

/* The column formula that goes through the models most often. */
static void run_combine(void *context)
{
    layer *l = context;
    static const double weights[MODELS] = {1, 1, 1, 1, 1};
    lors_columns columns = {.kind = LORS_COLUMN_CONSENSUS,
                            .stack = models_of(l),
                            .base = l->stack.view,
                            .stride = l->n,
                            .n_models = MODELS,
                            .weights = weights,
                            .limits = {0.4, 2},
                            .scale = 1};
    check(l->d->ops->combine(l->d->queue, l->acc.view, &columns, l->n), "combine");
}

static void run_random(void *context)
{
    layer *l = context;
    check(l->d->ops->keep_random(l->d->queue, l->masks.view, 7, 0.2, 0, l->n), "keep_random");
}

/* W0 + sum (W_k - W0) / N from f16 to f16 by tiles, as the run does it. */
static void run_merge(void *context)
{
    layer *l = context;
    const lors_backend_ops *ops = l->d->ops;
    int64_t tile = ops->tile_elements > 0 ? ops->tile_elements : l->n;
    lors_operand operands[MODELS + 1];
    lors_merge merge = {.base = operands,
                        .models = operands + 1,
                        .base_values = l->stack.view,
                        .sum = sum_of(l),
                        .store = {.dtype = LORS_F16, .acc = l->acc.view, .base = l->stack.view}};
    merge.sum.stride = tile;
    merge.sum.stack = lors_view_at(l->stack.view, (uint64_t)(4 * tile));
    for (int64_t first = 0; first < l->n; first += tile) {
        int64_t count = l->n - first < tile ? l->n - first : tile;
        for (int64_t k = 0; k <= MODELS; k++) {
            operands[k] = (lors_operand){
                .in = lors_view_at(l->raw.view, (uint64_t)(2 * (k * l->n + first))),
                .dtype = LORS_F16,
                .findings = l->findings.view};
        }
        merge.first = (uint64_t)first;
        merge.store.blocks = lors_view_at(
            l->blocks.view, (uint64_t)(first / LORS_BLOCK) * sizeof(lors_store_block));
        lors_view out = lors_view_at(l->out.view, (uint64_t)(2 * first));
        check(ops->merge(l->d->queue, out, &merge, count), "merge");
    }
}

/* --- is it right? ----------------------------------------------------------------------------- */

static float widened(const layer *l, int64_t k, int64_t i)
{
    return lors_float_of(lors_widen_f16(((const uint16_t *)l->raw.host)[k * l->n + i]));
}

static void verify_loaded(const layer *l)
{
    const float *stack = pull(&l->stack);
    const float *delta = pull(&l->delta);
    for (int64_t i = 0; i < l->n; i += SAMPLE) {
        for (int64_t k = 1; k <= MODELS; k++) {
            float difference = widened(l, k, i) - widened(l, 0, i);
            if (stack[k * l->n + i] != widened(l, k, i) ||
                delta[(k - 1) * l->n + i] != difference) {
                die("load or subtract is wrong");
            }
        }
    }
}

/* Against the value that is the k-th largest by sorting. */
static void verify_masks(const layer *l, float threshold)
{
    const float *delta = pull(&l->delta);
    const uint8_t *masks = pull(&l->masks);
    uint64_t kept = 0;
    for (int64_t i = 0; i < l->n; i++) {
        kept += masks[i];
        if (fabsf(delta[i]) > threshold && !masks[i]) {
            die("keep_top leaves out a value above the threshold");
        }
    }
    if (kept != l->k) {
        die("keep_top keeps another number");
    }
}

static void verify_merged(const layer *l)
{
    const uint16_t *out = pull(&l->out);
    for (int64_t i = 0; i < l->n; i += SAMPLE) {
        double base = (double)widened(l, 0, i), sum = 0;
        for (int64_t k = 1; k <= MODELS; k++) {
            sum += (double)widened(l, k, i) - base;
        }
        sum *= 1.0 / MODELS;
        if (lors_f16_bits(lors_round_f16(sum == 0 ? base : base + sum)) != out[i]) {
            die("the weighted sum is wrong");
        }
    }
}

static void verify_random(const layer *l)
{
    const uint8_t *masks = pull(&l->masks);
    for (int64_t i = 0; i < l->n; i += SAMPLE) {
        if (masks[i] != lors_random_keep(7, (uint64_t)i, lors_random_limit(0.2))) {
            die("keep_random is wrong");
        }
    }
}

/* --- selection on the host -------------------------------------------------------------------- */

typedef struct quickselect {
    const float *x;
    float *copy, threshold;
    int64_t n;
    uint64_t k;
} quickselect;

/* Hoare's quickselect on a copy of the magnitudes, median of three: what nth_element does. */
static void run_quickselect(void *context)
{
    quickselect *q = context;
    float *copy = q->copy;
    for (int64_t i = 0; i < q->n; i++) {
        copy[i] = fabsf(q->x[i]);
    }
    int64_t low = 0, high = q->n - 1, wanted = q->n - (int64_t)q->k;
    while (low < high) {
        float a = copy[low], m = copy[(low + high) / 2], z = copy[high];
        float pivot = fmaxf(fminf(a, m), fminf(fmaxf(a, m), z));
        int64_t i = low, j = high;
        while (i <= j) {
            for (; copy[i] < pivot; i++) {
            }
            for (; copy[j] > pivot; j--) {
            }
            if (i <= j) {
                float swap = copy[i];
                copy[i++] = copy[j];
                copy[j--] = swap;
            }
        }
        if (wanted > j && wanted < i) {
            break;
        }
        high = wanted <= j ? j : high;
        low = wanted >= i ? i : low;
    }
    q->threshold = copy[wanted];
}

/* Of the first task vector. */
static double time_quickselect(const layer *l, float *threshold)
{
    quickselect q = {.x = pull(&l->delta), .n = l->n, .k = l->k};
    q.copy = host_array((size_t)l->n * sizeof(float));
    double seconds = median(NULL, run_quickselect, &q);
    *threshold = q.threshold;
    free(q.copy);
    return seconds;
}

/* --- all of it -------------------------------------------------------------------------------- */

static void bench_layer(bench *b, const device *d, const char *shape, int64_t n)
{
    static const struct {
        const char *name;
        void (*run)(void *layer);
        double bytes; /* that must be read or written, per element */
    } rows[] = {
        {"load f16, 6 tensors", run_load, (MODELS + 1) * 6},
        {"subtract, 5 from one", run_subtract, MODELS * 8 + 4},
        {"exact top-k of 5", run_select, MODELS * 4 * LORS_SELECT_PASSES},
        {"keep_top of 5", run_keep_top, MODELS * 5},
        {"elect_sign of 5", run_elect, MODELS * 5 + 5},
        {"accumulate 5, ties", run_ties_sum, MODELS * 5 + 13},
        {"accumulate 5", run_sum, MODELS * 4 + 12},
        {"store f16", run_store, 14},
        {"gram of 5", run_dots, MODELS * 4},
        {"measure", run_measure, 5},
        {"combine 5, consensus", run_combine, MODELS * 4 + 12},
        {"keep_random", run_random, 1},
        {"task arithmetic of 5, f16", run_merge, (MODELS + 2) * 2},
    };
    enum { N_ROWS = sizeof rows / sizeof *rows };
    layer l = layer_of(d, n);
    for (int i = 0; i < N_ROWS; i++) { /* each once, in this order, and then the checks */
        rows[i].run(&l);
        if (rows[i].run == run_keep_top) {
            float threshold;
            verify_loaded(&l);
            time_quickselect(&l, &threshold);
            verify_masks(&l, threshold);
        } else if (rows[i].run == run_store || rows[i].run == run_merge) {
            verify_merged(&l);
        } else if (rows[i].run == run_random) {
            verify_random(&l);
        }
    }
    for (int i = 0; i < N_ROWS; i++) {
        float threshold;
        row r = {.d = d, .operation = rows[i].name, .shape = shape};
        r.amount = rows[i].bytes * (double)n;
        r.seconds = median(d, rows[i].run, &l);
        r.floor_seconds = floor_of(d, r.amount);
        if (rows[i].run == run_select) {
            r.beside = "quickselect of each";
            r.beside_seconds = MODELS * time_quickselect(&l, &threshold);
        }
        report(b, r);
    }
    free_layer(&l);
}

int main(int argc, char **argv)
{
    bench b = {.rows = json_array()};
    const char *path = NULL, *only = NULL;
    for (int i = 1; i < argc; i++) {
        b.quick = b.quick || strcmp(argv[i], "--quick") == 0;
        path = strcmp(argv[i], "--json") == 0 && i + 1 < argc ? argv[++i] : path;
        only = strcmp(argv[i], "--device") == 0 && i + 1 < argc ? argv[++i] : only;
    }
    openblas_set_num_threads(1);
    open_devices(&b, only);
    static const int64_t shapes[][2] = {{768, 768}, {3072, 768}, {1280, 1280}, {5120, 1280}};
    for (size_t i = 0; i < (b.quick ? 1 : sizeof shapes / sizeof *shapes); i++) {
        char shape[32];
        snprintf(shape, sizeof shape, "%lldx%lld", (long long)shapes[i][0],
                 (long long)shapes[i][1]);
        for (int d = 0; d < b.n_devices; d++) {
            bench_layer(&b, &b.devices[d], shape, shapes[i][0] * shapes[i][1]);
        }
        bench_matrices(&b, shapes[i][0], shapes[i][1]);
    }
    json_t *root = json_pack("{s:s, s:s, s:o, s:o}", "what",
                             "operations of each device; of the CPU on one core", "blas",
                             openblas_get_config(), "devices", device_details(&b), "rows", b.rows);
    if (path && json_dump_file(root, path, JSON_INDENT(1)) != 0) {
        fprintf(stderr, "bench_ops: cannot write %s\n", path);
        return 1;
    }
    json_decref(root);
    close_devices(&b);
    return 0;
}

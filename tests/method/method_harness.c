/* method_harness.c - the memory of one tensor, and the order of the callbacks. */
#include "method_harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_registry.h"

enum { SKIPPED = 77 };

const lors_dtype merge_dtypes[3] = {LORS_F32, LORS_F16, LORS_BF16};

/* A device, opened when it is first needed and for all merges of the program. */
typedef struct device {
    const char *name;
    const lors_backend_ops *ops;
    lors_backend *backend;
    lors_queue *queue;
} device;

/* A run in progress: views on the device, and the same places of `staging` on the host. */
typedef struct drive {
    const device *on;
    const lors_backend_ops *ops;
    lors_backend_ops unsolving;
    lors_memory *memory, *staging; /* one and the same where the backend is unified */
    uint64_t n_bytes, filled;
    lors_view base, models, stored, findings, differs, blocks; /* base, models: [n] each */
    lors_call call;
    double weights[MERGE_MAX_MODELS], constants[MERGE_MAX_MODELS + LORS_CALL_CONSTANTS], *numbers;
} drive;

/* --- devices ---------------------------------------------------------------------------------- */

static const char *device_wanted(void)
{
    const char *name = getenv("LORS_TEST_DEVICE");
    return name ? name : "cpu";
}

bool merge_is_slow(void)
{
    return getenv("LORS_EMULATED") != NULL;
}

static device opened[2]; /* the reference, and what LORS_TEST_DEVICE names */

static void close_devices(void)
{
    for (int i = 0; i < 2; i++) {
        if (opened[i].ops) {
            opened[i].ops->close_queue(opened[i].queue);
            opened[i].ops->close(opened[i].backend);
        }
    }
}

static const device *device_of(const char *name)
{
    device *d = &opened[strcmp(name, "cpu") == 0 ? 0 : 1];
    lors_backend_choice choice;
    if (!d->ops) {
        assert_ok(lors_backend_find(name, &choice));
        assert_ok(choice.ops->open(choice.index[0], &d->backend));
        assert_ok(choice.ops->open_queue(d->backend, &d->queue));
        d->name = name;
        d->ops = choice.ops;
    }
    return d;
}

int merge_test_group(const char *name, const struct CMUnitTest *tests, size_t n_tests)
{
    lors_backend_choice choice;
    lors_status status = lors_backend_find(device_wanted(), &choice);
    if (status != LORS_OK) {
        fprintf(stderr, "%s\n", lors_last_error());
        return status == LORS_ERR_USAGE ? 1 : SKIPPED;
    }
    int failed = _cmocka_run_group_tests(name, tests, n_tests, NULL, NULL);
    close_devices();
    return failed;
}

/* --- merges ----------------------------------------------------------------------------------- */

merge merge_of(const lors_method_def *def, int64_t n_rows, int64_t n_cols, int32_t n_models)
{
    merge m = {.def = def, .n_rows = n_rows, .n_cols = n_cols, .n_models = n_models};
    for (int32_t p = 0; p < def->info.n_params; p++) {
        const lors_param_info *info = &def->info.params[p];
        double value = isnan(info->fallback_value) ? 1.0 / n_models : info->fallback_value;
        merge_set(&m, info->name, info->required ? 1 : value);
    }
    return m;
}

void merge_set_model(merge *m, const char *param, int32_t model, double value)
{
    int32_t index = lors_method_param(&m->def->info, param);
    assert_true(index >= 0);
    m->cells[index * m->n_models + model] = (lors_cell){value, 0};
}

void merge_set(merge *m, const char *param, double value)
{
    for (int32_t k = 0; k < m->n_models; k++) {
        merge_set_model(m, param, k, value);
    }
}

void merge_set_energy(merge *m, double energy)
{
    int32_t index = lors_method_param(&m->def->info, "rank");
    for (int32_t k = 0; k < m->n_models; k++) {
        m->cells[index * m->n_models + k] = (lors_cell){0, energy};
    }
}

static lors_call call_of(merge *m)
{
    return (lors_call){.n_models = m->n_models,
                       .n_rows = m->n_rows,
                       .n_cols = m->n_cols,
                       .n_last = m->n_last > 0 ? m->n_last : m->n_cols,
                       .n_elements = (uint64_t)(m->n_rows * m->n_cols),
                       .has_base = m->base != NULL,
                       .compat = m->compat,
                       .key = m->seed ^ 0x746573742eu,
                       .row = m->def->row,
                       .cells = m->cells,
                       .exact = m->exact,
                       .results = m->results};
}

lors_status merge_check(merge *m)
{
    lors_call call = call_of(m);
    return m->def->check ? m->def->check(&call) : LORS_OK;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* The next piece; where there is no memory yet it is only measured. */
static lors_view take(drive *d, uint64_t n_bytes)
{
    lors_view taken = {d->memory, d->filled};
    d->filled += lors_view_padded(n_bytes);
    return taken;
}

static unsigned char *host(const drive *d, lors_view view)
{
    return d->ops->host_bytes((lors_view){d->staging, view.offset});
}

static void put(drive *d, lors_view view, const void *bytes, uint64_t n_bytes)
{
    memcpy(host(d, view), bytes, n_bytes);
    lors_view staged = {d->staging, view.offset};
    assert_ok(d->ops->upload(d->on->queue, view, staged, n_bytes));
    assert_ok(d->ops->wait(d->on->queue));
}

static const void *get(drive *d, lors_view view, uint64_t n_bytes)
{
    lors_view staged = {d->staging, view.offset};
    assert_ok(d->ops->download(d->on->queue, staged, view, n_bytes));
    assert_ok(d->ops->wait(d->on->queue));
    return host(d, view);
}

/* The most that a model of the batch may need. */
static uint64_t scratch_bytes(const drive *d, const merge *m)
{
    lors_rank largest = {0, 0, m->exact};
    int32_t index = lors_method_param(&m->def->info, "rank");
    for (int32_t k = 0; k < m->n_models; k++) {
        const lors_cell *cell = &m->cells[index * m->n_models + k];
        largest.count =
            (int64_t)cell->number > largest.count ? (int64_t)cell->number : largest.count;
        largest.energy = cell->energy > largest.energy ? cell->energy : largest.energy;
    }
    return d->ops->truncate_bytes(d->call.n_batch, m->n_rows, m->n_cols, largest);
}

/* Slices that begin at a multiple of LORS_VIEW_ALIGN, as in a run. */
static int64_t stride_of(int64_t n)
{
    int64_t step = LORS_VIEW_ALIGN / sizeof(float);
    return (n + step - 1) / step * step;
}

static void carve_tiles(drive *d, const merge *m)
{
    lors_call *call = &d->call;
    uint64_t k = (uint64_t)m->n_models, stride = (uint64_t)stride_of(call->tile);
    call->stride = (int64_t)stride;
    call->base = take(d, stride * 4);
    call->stack = take(d, k * stride * 4);
    call->acc = take(d, call->n_elements * 8);
    int32_t uses = m->def->uses;
    call->values = take(d, uses & LORS_USES_VALUES ? k * stride * 4 : 0);
    call->masks = take(d, uses & LORS_USES_MASKS ? k * stride : 0);
    call->signs = take(d, uses & LORS_USES_SIGNS ? stride : 0);
    call->scratch = take(d, m->def->scratch_bytes ? m->def->scratch_bytes(call) : 0);
}

static void carve_matrices(drive *d, const merge *m)
{
    lors_call *call = &d->call;
    uint64_t stride = (uint64_t)stride_of((int64_t)call->n_elements);
    uint64_t batch = (uint64_t)call->n_batch, stack = batch * stride * 4;
    call->stride = (int64_t)stride;
    call->base = take(d, stride * 4);
    call->x = take(d, stack);
    call->delta = take(d, stack);
    call->low = take(d, stack);
    call->acc = take(d, call->n_elements * 8);
    call->masks = take(d, (batch - 1) * stride + (uint64_t)call->tile);
    call->kept = take(d, batch * sizeof(uint64_t));
    call->scratch = take(d, scratch_bytes(d, m));
}

static void carve_whole(drive *d, const merge *m)
{
    lors_call *call = &d->call;
    uint64_t stride = (uint64_t)stride_of((int64_t)call->n_elements);
    call->stride = (int64_t)stride;
    call->base = take(d, stride * 4);
    call->delta = call->x = take(d, (uint64_t)m->n_models * stride * 4);
    call->acc = take(d, call->n_elements * 8);
    call->scratch = take(d, m->def->scratch_bytes(call));
}

static void carve(drive *d, const merge *m)
{
    uint64_t n = d->call.n_elements, k = (uint64_t)m->n_models;
    d->filled = 0;
    d->base = take(d, n * 4);
    d->models = take(d, n * 4 * k);
    d->stored = take(d, n * 4);
    d->findings = take(d, sizeof(lors_findings));
    d->differs = take(d, k * sizeof(uint32_t));
    d->blocks = take(d, (n / LORS_BLOCK + 1) * sizeof(lors_store_block));
    d->call.state = take(d, m->def->state_bytes ? m->def->state_bytes(&d->call) : 0);
    m->def->apply_whole    ? carve_whole(d, m)
    : m->def->apply_matrix ? carve_matrices(d, m)
                           : carve_tiles(d, m);
}

static lors_status solve_nothing(lors_queue *queue, lors_view matrix, int64_t n, double shift,
                                 lors_view x, int64_t rows, bool *solved, lors_view scratch)
{
    (void)queue, (void)matrix, (void)n, (void)shift, (void)x, (void)rows, (void)scratch;
    *solved = false;
    return LORS_OK;
}

static void open_drive(drive *d, merge *m, const char *device_name)
{
    int64_t n = m->n_rows * m->n_cols;
    d->on = device_of(device_name);
    d->unsolving = *d->on->ops;
    d->unsolving.solve = solve_nothing;
    d->ops = m->unsolved ? &d->unsolving : d->on->ops;
    d->call = call_of(m);
    d->call.ops = d->ops;
    d->call.queue = d->on->queue;
    d->call.tile = m->tile > 0 ? m->tile : n / LORS_BLOCK * LORS_BLOCK + LORS_BLOCK;
    d->call.n_batch = m->batch > 0 ? m->batch : d->ops->batch;
    d->call.n_batch = d->call.n_batch < m->n_models ? d->call.n_batch : m->n_models;
    d->call.n_batch = m->def->apply_whole ? m->n_models : d->call.n_batch;
    d->numbers =
        m->def->n_numbers ? malloc((size_t)m->def->n_numbers(&d->call) * sizeof(double)) : NULL;
    d->call.weights = d->weights;
    d->call.constants = d->constants;
    carve(d, m);
    d->n_bytes = d->filled;
    assert_ok(d->ops->allocate(d->on->backend, LORS_ON_DEVICE, d->n_bytes, &d->memory));
    d->staging = d->memory;
    if (!d->ops->unified) {
        assert_ok(d->ops->allocate(d->on->backend, LORS_STAGING, d->n_bytes, &d->staging));
    }
    carve(d, m);
    lors_view all = {d->memory, 0};
    memset(host(d, all), 0xff, d->n_bytes); /* NaN, unless someone writes */
    assert_ok(d->ops->upload(d->on->queue, all, (lors_view){d->staging, 0}, d->n_bytes));
    assert_ok(d->ops->wait(d->on->queue));
    if (m->base) {
        put(d, d->base, m->base, (uint64_t)n * 4);
    }
    for (int32_t i = 0; i < m->n_models; i++) {
        put(d, lors_view_at(d->models, (uint64_t)(i * n) * 4), m->models[i], (uint64_t)n * 4);
    }
}

static void close_drive(drive *d)
{
    if (d->staging != d->memory) {
        d->ops->release(d->on->backend, d->staging);
    }
    d->ops->release(d->on->backend, d->memory);
    free(d->numbers);
}

/* --- by tiles --------------------------------------------------------------------------------- */

/* Elements of one array on the device to another, as a load of f32. */
static void copy(drive *d, lors_view to, lors_view from, int64_t n)
{
    assert_ok(d->ops->load(d->on->queue, to, from, LORS_F32, n, false, 0, LORS_NO_VIEW));
}

/* Elements first .. of all operands side by side, as the contract of a tile has it. */
static void set_tile(drive *d, const merge *m, const lors_call *whole, uint64_t first)
{
    lors_call *call = &d->call;
    uint64_t left = call->n_elements - first, t = (uint64_t)call->tile;
    call->first = first;
    call->count = (int64_t)(left < t ? left : t);
    call->base = m->base ? whole->base : LORS_NO_VIEW;
    call->acc = lors_view_at(whole->acc, first * 8);
    if (m->base) {
        copy(d, call->base, lors_view_at(d->base, first * 4), call->count);
    }
    for (uint64_t k = 0; k < (uint64_t)m->n_models; k++) {
        copy(d, lors_view_at(call->stack, k * (uint64_t)call->stride * 4),
             lors_view_at(d->models, (k * call->n_elements + first) * 4), call->count);
    }
}

static void settle(drive *d, const merge *m, int32_t phase)
{
    uint64_t n_bytes = m->def->settle_bytes ? m->def->settle_bytes(&d->call) : 0;
    assert_ok(d->ops->wait(d->on->queue));
    if (n_bytes > 0) {
        d->call.state_on_host = get(d, d->call.state, n_bytes);
    }
    assert_ok(m->def->settle(&d->call, phase));
    d->call.state_on_host = NULL;
}

/* What a method that is a plain sum would have done. */
static lors_status apply(drive *d, const merge *m)
{
    if (m->def->apply) {
        return m->def->apply(&d->call);
    }
    lors_sum sum = m->def->sum(&d->call);
    return d->ops->accumulate(d->on->queue, d->call.acc, &sum, d->call.count);
}

static void by_tiles(drive *d, merge *m)
{
    const lors_call whole = d->call;
    int64_t n = (int64_t)whole.n_elements, n_tiles = (n + whole.tile - 1) / whole.tile;
    int32_t n_surveys = lors_method_surveys(m->def, &whole);
    for (int32_t phase = 0; phase <= n_surveys; phase++) {
        bool survey = phase < n_surveys;
        for (int64_t i = 0; i < n_tiles; i++) {
            int64_t which = m->backwards ? n_tiles - 1 - i : i;
            set_tile(d, m, &whole, (uint64_t)(which * whole.tile));
            assert_ok(survey ? m->def->survey(&d->call, phase) : apply(d, m));
        }
        if (survey) {
            settle(d, m, phase);
        }
    }
    d->call.acc = whole.acc;
}

/* --- by matrix -------------------------------------------------------------------------------- */

/* The models of a batch, each at its place in the stack. Did any change? */
static bool load_batch(drive *d, merge *m)
{
    lors_call *call = &d->call;
    bool changed = false;
    assert_ok(d->ops->clear(d->on->queue, d->differs, (uint64_t)m->n_models * sizeof(uint32_t)));
    for (int32_t i = 0; i < call->n_batch; i++) {
        uint64_t k = (uint64_t)(call->from_model + i);
        lors_view x = lors_view_at(call->x, (uint64_t)(i * call->stride) * 4);
        copy(d, x, lors_view_at(d->models, k * call->n_elements * 4), (int64_t)call->n_elements);
        assert_ok(d->ops->compare(d->on->queue, lors_view_at(d->differs, k * sizeof(uint32_t)),
                                  call->base, x, (int64_t)call->n_elements));
    }
    const uint32_t *differs = get(d, d->differs, (uint64_t)m->n_models * sizeof(uint32_t));
    for (int32_t k = call->from_model; k < call->from_model + call->n_batch; k++) {
        m->results[k].zero = !differs[k];
        changed = changed || differs[k];
    }
    return changed;
}

static void note_kept(drive *d, merge *m)
{
    lors_call *call = &d->call;
    const uint64_t *kept = get(d, call->kept, (uint64_t)call->n_batch * sizeof *kept);
    for (int32_t i = 0; i < call->n_batch; i++) {
        lors_model_result *result = &m->results[call->from_model + i];
        result->n_kept = result->counts_kept ? kept[i] : result->n_kept;
    }
}

static void by_matrix(drive *d, merge *m)
{
    lors_call *call = &d->call;
    int32_t batch = call->n_batch;
    call->fresh = true;
    copy(d, call->base, d->base, (int64_t)call->n_elements);
    for (int32_t from = 0; from < m->n_models; from += batch) {
        call->from_model = from;
        call->n_batch = m->n_models - from < batch ? m->n_models - from : batch;
        if (load_batch(d, m) || m->no_skip) {
            assert_ok(m->def->apply_matrix(call));
            note_kept(d, m);
        }
    }
    if (call->fresh) {
        assert_ok(d->ops->clear(d->on->queue, call->acc, call->n_elements * 8));
    }
}

/* --- whole ------------------------------------------------------------------------------------ */

static void whole(drive *d, merge *m)
{
    lors_call *call = &d->call;
    call->numbers = d->numbers;
    copy(d, call->base, d->base, (int64_t)call->n_elements);
    if (!load_batch(d, m)) {
        assert_ok(d->ops->clear(d->on->queue, call->acc, call->n_elements * 8));
        return;
    }
    assert_ok(d->ops->subtract(d->on->queue, call->delta, call->x, call->stride, call->base, 0,
                               m->n_models, (int64_t)call->n_elements));
    assert_ok(m->def->apply_whole(call));
}

/* --- results ---------------------------------------------------------------------------------- */

size_t merge_stored_bytes(const merge *m, lors_dtype dtype)
{
    return (size_t)(m->n_rows * m->n_cols) * (dtype == LORS_F32 ? 4 : 2);
}

static void *keep(const void *bytes, size_t n_bytes)
{
    void *kept = malloc(n_bytes + 1);
    assert_non_null(kept);
    memcpy(kept, bytes, n_bytes);
    return kept;
}

static void keep_results(drive *d, merge *m, lors_dtype dtype)
{
    int64_t n = (int64_t)d->call.n_elements;
    lors_store store = {.dtype = dtype,
                        .acc = d->call.acc,
                        .base = m->def->adds_to_base && m->base ? d->base : LORS_NO_VIEW,
                        .blocks = d->blocks};
    assert_ok(d->ops->store(d->on->queue, d->stored, &store, n));
    m->acc = keep(get(d, d->call.acc, (uint64_t)n * 8), (size_t)n * 8);
    m->stored = keep(get(d, d->stored, merge_stored_bytes(m, dtype)), merge_stored_bytes(m, dtype));
    assert_ok(d->ops->clear(d->on->queue, d->findings, sizeof(lors_findings)));
    assert_ok(d->ops->load(d->on->queue, d->base, d->stored, dtype, n, false, 0, d->findings));
    m->values = keep(get(d, d->base, (uint64_t)n * 4), (size_t)n * 4);
}

static void run_on(merge *m, const char *device_name, lors_dtype dtype)
{
    drive d = {0};
    memset(m->results, 0, sizeof m->results);
    open_drive(&d, m, device_name);
    m->is_base = m->def->is_base && m->def->is_base(&d.call);
    if (m->def->begin) {
        assert_ok(m->def->begin(&d.call));
    }
    m->def->apply_whole ? whole(&d, m) : m->def->apply_matrix ? by_matrix(&d, m) : by_tiles(&d, m);
    m->keeps_equal = m->def->keeps_equal && m->def->keeps_equal(&d.call);
    keep_results(&d, m, dtype);
    close_drive(&d);
}

/* What is computed by tiles promises the same bits everywhere. */
static void compare_with_reference(const merge *m, lors_dtype dtype)
{
    merge reference = *m;
    run_on(&reference, "cpu", dtype);
    assert_memory_equal(m->stored, reference.stored, merge_stored_bytes(m, dtype));
    for (int64_t i = 0; i < m->n_rows * m->n_cols; i++) {
        bool nan = isnan(m->acc[i]) && isnan(reference.acc[i]);
        assert_true(nan || memcmp(&m->acc[i], &reference.acc[i], sizeof *m->acc) == 0);
    }
    merge_free(&reference);
}

void merge_run(merge *m, lors_dtype dtype)
{
    merge_free(m);
    run_on(m, device_wanted(), dtype);
    bool same_bits = !m->def->apply_matrix && !m->def->apply_whole;
    if (strcmp(device_wanted(), "cpu") != 0 && same_bits) {
        compare_with_reference(m, dtype);
    }
}

void merge_free(merge *m)
{
    free(m->acc);
    free(m->values);
    free(m->stored);
    m->acc = NULL;
    m->values = NULL;
    m->stored = NULL;
}

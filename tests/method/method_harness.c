/* method_harness.c - the memory of one tensor, the order of the callbacks, and made-up models. */
#include "method_harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_registry.h"
#include "synth.h"

const lors_dtype merge_dtypes[3] = {LORS_F32, LORS_F16, LORS_BF16};

/* A run in progress; views of the whole tensor, from which a tile takes its part. */
typedef struct drive {
    const lors_backend_ops *ops;
    lors_backend *backend;
    lors_memory *memory;
    lors_view base, models, acc, values, masks, signs, delta, low, scratch, stored, tile_stack;
    lors_call call;
    double weights[MERGE_MAX_MODELS], constants[LORS_CALL_CONSTANTS];
} drive;

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
                       .n_elements = (uint64_t)(m->n_rows * m->n_cols),
                       .has_base = m->base != NULL,
                       .cells = m->cells,
                       .results = m->results};
}

lors_status merge_check(merge *m)
{
    lors_call call = call_of(m);
    return m->def->check ? m->def->check(&call) : LORS_OK;
}

static lors_view take(lors_view *rest, uint64_t n_bytes)
{
    lors_view taken = *rest;
    *rest = lors_view_at(*rest, (n_bytes + 63) & ~(uint64_t)63);
    return taken;
}

/* The largest rank asked for, so that the scratch serves every model. */
static uint64_t scratch_bytes(const drive *d, const merge *m)
{
    uint64_t most = 0;
    int32_t index = lors_method_param(&m->def->info, "rank");
    for (int32_t k = 0; m->def->apply_matrix && k < m->n_models; k++) {
        const lors_cell *cell = &m->cells[index * m->n_models + k];
        uint64_t bytes = d->ops->truncate_bytes(m->n_rows, m->n_cols,
                                                (lors_rank){(int64_t)cell->number, cell->energy});
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void *host(const drive *d, lors_view view)
{
    return d->ops->host_bytes(view);
}

static void open_drive(drive *d, merge *m, int64_t tile)
{
    uint64_t n = (uint64_t)(m->n_rows * m->n_cols), k = (uint64_t)m->n_models, t = (uint64_t)tile;
    int32_t index;
    assert_ok(lors_backend_find("cpu", &d->ops, &index));
    assert_ok(d->ops->open(index, &d->backend));
    d->call = call_of(m);
    d->call.ops = d->ops;
    d->call.backend = d->backend;
    uint64_t state = m->def->state_bytes ? m->def->state_bytes(&d->call) : 0;
    uint64_t scratch = scratch_bytes(d, m);
    uint64_t total = 64 * 20 + n * 4 * (k + 4) + n * 8 + k * (t + n) + t * (5 + 4 * (k + 1)) +
                     state + scratch + n * 4;
    assert_ok(d->ops->allocate(d->backend, total, &d->memory));
    memset(host(d, (lors_view){d->memory, 0}), 0xff, total); /* NaN, unless someone writes */
    lors_view rest = {d->memory, 0};
    d->base = take(&rest, n * 4);
    d->models = take(&rest, n * 4 * k);
    d->delta = take(&rest, n * 4);
    d->low = take(&rest, n * 4);
    d->acc = take(&rest, n * 8);
    d->masks = take(&rest, k * t);
    d->signs = take(&rest, t);
    d->values = take(&rest, t * 4);
    d->tile_stack = take(&rest, t * 4 * (k + 1));
    d->stored = take(&rest, n * 4);
    d->scratch = take(&rest, scratch);
    d->call.state = take(&rest, state);
    memset(host(d, d->call.state), 0, state);
    assert_true(rest.offset <= total);
    d->call.weights = d->weights;
    d->call.constants = d->constants;
    memset(d->constants, 0, sizeof d->constants);
    if (m->base) {
        memcpy(host(d, d->base), m->base, n * 4);
    }
    for (uint64_t i = 0; i < k; i++) {
        memcpy(host(d, lors_view_at(d->models, i * n * 4)), m->models[i], n * 4);
    }
}

/* Elements first .. of all operands side by side, as the contract of a tile has it. */
static void set_tile(drive *d, const merge *m, uint64_t first, int64_t tile)
{
    lors_call *call = &d->call;
    uint64_t left = call->n_elements - first, t = (uint64_t)tile;
    call->first = first;
    call->count = (int64_t)(left < t ? left : t);
    call->stride = tile;
    call->base = m->base ? d->tile_stack : LORS_NO_VIEW;
    call->stack = lors_view_at(d->tile_stack, t * 4);
    call->acc = lors_view_at(d->acc, first * 8);
    call->masks = d->masks;
    call->signs = d->signs;
    call->values = d->values;
    size_t n_bytes = (size_t)call->count * 4;
    if (m->base) {
        memcpy(host(d, call->base), host(d, lors_view_at(d->base, first * 4)), n_bytes);
    }
    for (uint64_t k = 0; k < (uint64_t)m->n_models; k++) {
        lors_view from = lors_view_at(d->models, (k * call->n_elements + first) * 4);
        memcpy(host(d, lors_view_at(call->stack, k * t * 4)), host(d, from), n_bytes);
    }
}

static void tiles_of_phase(drive *d, merge *m, int64_t tile, int32_t phase)
{
    int64_t n = (int64_t)d->call.n_elements, n_tiles = (n + tile - 1) / tile;
    for (int64_t i = 0; i < n_tiles; i++) {
        int64_t which = m->backwards ? n_tiles - 1 - i : i;
        set_tile(d, m, (uint64_t)(which * tile), tile);
        bool survey = phase < m->def->n_surveys;
        assert_ok(survey ? m->def->survey(&d->call, phase) : m->def->apply(&d->call));
    }
    if (phase < m->def->n_surveys) {
        assert_ok(m->def->settle(&d->call, phase));
    }
}

static void by_matrix(drive *d, merge *m, int64_t tile)
{
    lors_call *call = &d->call;
    uint64_t n = call->n_elements;
    call->stride = tile;
    call->base = d->base;
    call->acc = d->acc;
    call->masks = d->masks;
    call->signs = d->signs;
    call->values = d->values;
    call->delta = d->delta;
    call->low = d->low;
    call->scratch = d->scratch;
    call->fresh = true;
    for (int32_t k = 0; k < m->n_models; k++) {
        call->model = k;
        call->x = lors_view_at(d->models, (uint64_t)k * n * 4);
        bool same = false;
        assert_ok(d->ops->compare(d->backend, call->base, call->x, (int64_t)n, &same));
        m->results[k].zero = same;
        if (!same || m->no_skip) {
            assert_ok(m->def->apply_matrix(call));
        }
    }
    if (call->fresh) {
        memset(host(d, d->acc), 0, n * 8);
    }
}

size_t merge_stored_bytes(const merge *m, lors_dtype dtype)
{
    return (size_t)(m->n_rows * m->n_cols) * (dtype == LORS_F32 ? 4 : 2);
}

static void keep_results(drive *d, merge *m, lors_dtype dtype)
{
    size_t n = (size_t)d->call.n_elements;
    lors_store_block *blocks = calloc(n / LORS_BLOCK + 1, sizeof *blocks);
    lors_view base = m->def->adds_to_base ? d->base : LORS_NO_VIEW;
    assert_ok(d->ops->store(d->backend, d->stored, dtype, d->acc, base, (int64_t)n, false, blocks));
    m->acc = malloc(n * 8 + 1);
    m->values = malloc(n * 4 + 1);
    m->stored = malloc(n * 4 + 1);
    memcpy(m->acc, host(d, d->acc), n * 8);
    memcpy(m->stored, host(d, d->stored), merge_stored_bytes(m, dtype));
    lors_findings found = {0, 0};
    assert_ok(d->ops->load(d->backend, d->low, d->stored, dtype, (int64_t)n, false,
                           &found));
    memcpy(m->values, host(d, d->low), n * 4);
    free(blocks);
}

void merge_run(merge *m, lors_dtype dtype)
{
    drive d = {0};
    int64_t n = m->n_rows * m->n_cols;
    int64_t tile = m->tile > 0 ? m->tile : n / LORS_BLOCK * LORS_BLOCK + LORS_BLOCK;
    merge_free(m);
    memset(m->results, 0, sizeof m->results);
    open_drive(&d, m, tile);
    m->is_base = m->def->is_base && m->def->is_base(&d.call);
    if (m->def->begin) {
        assert_ok(m->def->begin(&d.call));
    }
    if (m->def->apply_matrix) {
        by_matrix(&d, m, tile);
    } else {
        for (int32_t phase = 0; phase <= m->def->n_surveys; phase++) {
            tiles_of_phase(&d, m, tile, phase);
        }
    }
    keep_results(&d, m, dtype);
    d.ops->release(d.backend, d.memory);
    d.ops->close(d.backend);
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

static void to_dtype(float *x, int64_t n, lors_dtype dtype)
{
    if (dtype == LORS_F32) {
        return;
    }
    synth_coarsen(x, n, dtype == LORS_F16 ? 11 : 8);
    for (int64_t i = 0; i < n && dtype == LORS_F16; i++) { /* no subnormals, which hold less */
        x[i] = fabsf(x[i]) < 0x1p-14f ? copysignf(0x1p-14f, x[i]) : x[i];
    }
}

float *made_base(int64_t n, lors_dtype dtype, uint64_t seed)
{
    float *base = malloc((size_t)n * sizeof *base + 1);
    synth_values(base, n, 0.05, seed);
    to_dtype(base, n, dtype);
    return base;
}

float *made_model(const float *base, int64_t n, lors_dtype dtype, uint64_t seed)
{
    float *model = malloc((size_t)n * sizeof *model + 1);
    synth_values(model, n, 0.002, seed);
    for (int64_t i = 0; i < n; i++) {
        model[i] += base[i];
    }
    to_dtype(model, n, dtype);
    return model;
}

void expect_values(const merge *m, const float *wanted)
{
    for (int64_t i = 0; i < m->n_rows * m->n_cols; i++) {
        if (memcmp(&m->values[i], &wanted[i], sizeof *wanted) != 0) {
            print_error("element %lld: %a, not %a\n", (long long)i, (double)m->values[i],
                        (double)wanted[i]);
            fail();
        }
    }
}

void expect_near(const merge *m, const double *wanted, double tolerance)
{
    for (int64_t i = 0; i < m->n_rows * m->n_cols; i++) {
        if (!(fabs(m->values[i] - wanted[i]) <= tolerance)) {
            print_error("element %lld: %.17g, not %.17g\n", (long long)i, (double)m->values[i],
                        wanted[i]);
            fail();
        }
    }
}

/* method_properties.c - properties that need no oracle; each over seeds, shapes, storage types. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int64_t shapes[][2] = {{1, 1}, {1, 9}, {13, 7}, {40, 60}, {90, 100}};

enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static uint64_t seeds(void)
{
    return merge_is_slow() ? N_SHAPES : 12;
}

void give_models(merge *m, lors_dtype dtype, uint64_t seed)
{
    int64_t n = m->n_rows * m->n_cols;
    float *base = made_base(n, dtype, 100 * seed);
    for (int32_t k = 0; k < m->n_models; k++) {
        m->models[k] = made_model(base, n, dtype, 100 * seed + 1 + (uint64_t)k);
    }
    if (m->def->info.needs_base) {
        m->base = base;
    } else {
        free(base);
    }
}

void forget_models(merge *m)
{
    for (int32_t k = 0; k < m->n_models; k++) {
        free((void *)(uintptr_t)m->models[k]);
    }
    free((void *)(uintptr_t)m->base);
    merge_free(m);
}

void set_three_weights(merge *m)
{
    static const double weights[] = {0.2, 0.3, 0.5};
    bool has_weights = lors_method_param(&m->def->info, "weight") >= 0;
    for (int32_t k = 0; k < m->n_models && has_weights; k++) {
        merge_set_model(m, "weight", k, weights[k % 3]);
    }
}

void expect_same_bytes(merge *a, merge *b, lors_dtype dtype)
{
    merge_run(a, dtype);
    merge_run(b, dtype);
    expect_values(b, a->values);
    assert_memory_equal(a->stored, b->stored, merge_stored_bytes(a, dtype));
}

void property_equal_models(merge_maker make)
{
    for (uint64_t i = 0; i < seeds(); i++) {
        lors_dtype dtype = merge_dtypes[i % 3];
        merge m = make(shapes[i % N_SHAPES][0], shapes[i % N_SHAPES][1], 3);
        give_models(&m, dtype, i + 1);
        set_three_weights(&m);
        size_t n_bytes = (size_t)(m.n_rows * m.n_cols) * sizeof(float);
        memcpy((void *)(uintptr_t)m.models[1], m.models[0], n_bytes);
        memcpy((void *)(uintptr_t)m.models[2], m.models[0], n_bytes);
        merge_run(&m, dtype);
        expect_values(&m, m.models[0]);
        forget_models(&m);
    }
}

void property_one_weight(merge_maker make)
{
    for (uint64_t i = 0; i < seeds(); i++) {
        lors_dtype dtype = merge_dtypes[i % 3];
        merge m = make(shapes[i % N_SHAPES][0], shapes[i % N_SHAPES][1], 3);
        give_models(&m, dtype, i + 50);
        for (int32_t k = 0; k < 3; k++) {
            merge_set(&m, "weight", 0);
            merge_set_model(&m, "weight", k, 1);
            merge_run(&m, dtype);
            expect_values(&m, m.models[k]);
        }
        forget_models(&m);
    }
}

void property_permuted(merge_maker make)
{
    static const int orders[][3] = {{1, 0, 2}, {2, 1, 0}, {1, 2, 0}};
    int64_t n_different = 0, n_all = 0;
    for (uint64_t i = 0; i < seeds(); i++) {
        merge m = make(shapes[i % N_SHAPES][0], shapes[i % N_SHAPES][1], 3);
        give_models(&m, merge_dtypes[i % 3], i + 80);
        set_three_weights(&m);
        merge other = m;
        for (int32_t k = 0; k < 3; k++) {
            int from = orders[i % 3][k];
            other.models[k] = m.models[from];
            for (int32_t p = 0; p < m.def->info.n_params; p++) {
                other.cells[p * 3 + k] = m.cells[p * 3 + from];
            }
        }
        merge_run(&m, merge_dtypes[i % 3]);
        merge_run(&other, merge_dtypes[i % 3]);
        for (int64_t at = 0; at < m.n_rows * m.n_cols; at++, n_all++) {
            n_different += memcmp(&m.values[at], &other.values[at], sizeof(float)) != 0;
        }
        merge_free(&other);
        forget_models(&m);
    }
    if (n_different > 0) {
        print_error("%lld of %lld values differ\n", (long long)n_different, (long long)n_all);
        fail();
    }
}

static float *scaled(const float *x, int64_t n, int power)
{
    float *out = malloc((size_t)n * sizeof *out + 1);
    for (int64_t i = 0; x && i < n; i++) {
        out[i] = ldexpf(x[i], power);
    }
    return out;
}

void property_scaled(merge_maker make)
{
    static const int powers[] = {1, -3, 60, -60};
    for (uint64_t i = 0; i < seeds(); i++) {
        merge m = make(shapes[i % N_SHAPES][0], shapes[i % N_SHAPES][1], 3);
        int64_t n = m.n_rows * m.n_cols;
        int power = powers[i % 4];
        give_models(&m, LORS_F32, i + 120);
        if (m.n_models == 3) {
            set_three_weights(&m);
        }
        merge other = m;
        other.base = m.base ? scaled(m.base, n, power) : NULL;
        for (int32_t k = 0; k < m.n_models; k++) {
            other.models[k] = scaled(m.models[k], n, power);
        }
        merge_run(&m, LORS_F32);
        merge_run(&other, LORS_F32);
        float *wanted = scaled(m.values, n, power);
        expect_values(&other, wanted);
        free(wanted);
        forget_models(&other);
        forget_models(&m);
    }
}

void property_tiles(merge_maker make)
{
    for (uint64_t i = 0; i < 6; i++) {
        merge m = make(i % 2 ? 220 : 1, i % 2 ? 150 : 20000 + (int64_t)i, 3);
        give_models(&m, LORS_F32, i + 150);
        if (m.n_models == 3) {
            set_three_weights(&m);
        }
        merge other = m;
        other.tile = (int64_t)LORS_BLOCK * (i % 3 == 0 ? 1 : 2);
        other.backwards = i % 2;
        expect_same_bytes(&m, &other, LORS_F32);
        assert_memory_equal(m.acc, other.acc, (size_t)(m.n_rows * m.n_cols) * sizeof *m.acc);
        merge_free(&other);
        forget_models(&m);
    }
}

void property_base(merge *m, uint64_t seed)
{
    give_models(m, LORS_F32, seed);
    ((float *)(uintptr_t)m->base)[0] = -0.0f;
    merge_run(m, LORS_F32);
    assert_true(m->is_base);
    expect_values(m, m->base);
    forget_models(m);
}

bool property_common_element(merge *m, uint64_t seed)
{
    give_models(m, LORS_F32, seed);
    for (int32_t k = 1; k < m->n_models; k++) {
        ((float *)(uintptr_t)m->models[k])[0] = m->models[0][0];
    }
    merge_run(m, LORS_F32);
    double change = m->models[0][0] - (m->def->adds_to_base && m->base ? (double)m->base[0] : 0);
    bool says = m->keeps_equal, stays = fabs(m->acc[0] - change) <= 1e-12 * fabs(change);
    assert_true(stays || !says);
    forget_models(m);
    return says;
}

/* test_tsv_m.c - leading singular vectors of all task vectors, made orthogonal. */
#include "spectral_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void properties(void **state)
{
    (void)state;
    property_spectral(&lors_method_tsv_m, true);
}

/* Two tasks of rank 1 that share their left vector e1 and whose right vectors are e1 and
 * (e1 + e2) / sqrt 2, values 2 and 1. U = [e1 e1] has the partial isometry [e1 e1] / sqrt 2; of
 * V'V = [1 c; c 1], c = 1 / sqrt 2, the inverse root is [a b; b a] with
 * a = (1/sqrt(1+c) + 1/sqrt(1-c)) / 2 and b = (1/sqrt(1+c) - 1/sqrt(1-c)) / 2. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[4] = {0}, one[4] = {2, 0, 0, 0};
    const float half = (float)sqrt(0.5), other[4] = {half, half, 0, 0};
    double c = sqrt(0.5), plus = 1 / sqrt(1 + c), minus = 1 / sqrt(1 - c);
    double a = (plus + minus) / 2, b = (plus - minus) / 2;
    double v[2][2] = {{a + b * c, b * c}, {b + a * c, a * c}};
    double wanted[4] = {c * (2 * v[0][0] + v[1][0]), c * (2 * v[0][1] + v[1][1]), 0, 0};
    merge m = merge_of(&lors_method_tsv_m, 2, 2, 2);
    m.base = base;
    m.models[0] = one;
    m.models[1] = other;
    merge_set(&m, "rank", 1);
    merge_run(&m, LORS_F32);
    expect_update(&m, wanted, 1e-6);
    merge_free(&m);
}

/* One model is its truncation; at full rank it is the model. So are equal ones, of which the paper
 * leaves the vectors to chance. */
static void one_model_is_its_truncation(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{20, 20}, {33, 14}, {14, 33}};
    for (int s = 0; s < 3; s++) {
        for (int32_t n_models = 1; n_models <= 3; n_models++) {
            for (int rank = 0; rank <= 14; rank += 7) {
                merge m = spectral_merge(&lors_method_tsv_m, shapes[s][0], shapes[s][1], n_models,
                                         SYNTH_STEPS, 3);
                merge low = spectral_merge(&lors_method_lors, shapes[s][0], shapes[s][1], 1,
                                           SYNTH_STEPS, 3);
                for (int32_t k = 1; k < n_models; k++) {
                    memcpy((float *)(uintptr_t)m.models[k], m.models[0],
                           (size_t)(m.n_rows * m.n_cols) * sizeof(float));
                    merge_set_model(&m, "weight", k, 0.5);
                }
                merge_set(&m, "rank", rank);
                merge_set(&low, "rank", rank);
                merge_set(&low, "density", 0);
                /* Each of the n copies has 1 / sqrt n of each vector: their values' mean counts. */
                merge_set(&low, "weight", (1 + 0.5 * (n_models - 1)) / n_models);
                merge_run(&m, LORS_F32);
                merge_run(&low, LORS_F32);
                expect_update(&m, low.acc, 2e-6);
                forget_models(&m);
                forget_models(&low);
            }
        }
    }
}

/* Task vectors of orthogonal rows and columns do not touch each other: their sum comes back. */
static void apart_they_add_up(void **state)
{
    (void)state;
    merge m = spectral_merge(&lors_method_tsv_m, 16, 16, 2, SYNTH_STEPS, 5);
    double wanted[256] = {0};
    for (int i = 0; i < 256; i++) {
        bool low = i / 16 < 8 && i % 16 < 8, high = i / 16 >= 8 && i % 16 >= 8;
        float *one = (float *)(uintptr_t)m.models[0] + i,
              *two = (float *)(uintptr_t)m.models[1] + i;
        *one = low ? *one : 0;
        *two = high ? *two : 0;
        wanted[i] = (double)*one - 2 * (double)*two;
    }
    merge_set_model(&m, "weight", 1, -2);
    merge_set(&m, "rank", 8);
    merge_run(&m, LORS_F32);
    expect_update(&m, wanted, 1e-6);
    forget_models(&m);
}

/* diag(8, 4, 2, 1, 1): a share of 0.4 of the sum 16 is held by the first value, 0.7 by two. */
static void boost_raises_the_rest(void **state)
{
    (void)state;
    static const struct {
        double boost, diagonal[5];
    } rows[] = {{0, {8, 8, 8, 8, 8}},
                {0.4, {8, 8, 8, 8, 8}},
                {0.7, {8, 4, 4, 4, 4}},
                {0.8, {8, 4, 2, 2, 2}},
                {1, {8, 4, 2, 1, 1}}};
    static const float base[25] = {0};
    float model[25] = {0};
    for (int i = 0; i < 5; i++) {
        model[6 * i] = (float)rows[4].diagonal[i];
    }
    for (size_t row = 0; row < 5; row++) {
        double wanted[25] = {0};
        merge m = merge_of(&lors_method_tsv_m, 5, 5, 1);
        m.base = base;
        m.models[0] = model;
        merge_set(&m, "rank", 5);
        merge_set(&m, "boost", rows[row].boost);
        merge_run(&m, LORS_F32);
        for (int i = 0; i < 5; i++) {
            wanted[6 * i] = rows[row].diagonal[i];
        }
        expect_update(&m, wanted, 1e-12);
        merge_free(&m);
    }
}

static void nothing_asked_is_the_base(void **state)
{
    (void)state;
    merge m = spectral_merge(&lors_method_tsv_m, 6, 4, 2, SYNTH_GAUSS, 8);
    merge_set(&m, "rank", 0);
    merge_run(&m, LORS_F32);
    expect_values(&m, m.base);
    assert_false(m.is_base);
    merge_set(&m, "lambda", 0);
    merge_run(&m, LORS_F32);
    assert_true(m.is_base);
    forget_models(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties),
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(one_model_is_its_truncation),
        cmocka_unit_test(apart_they_add_up),
        cmocka_unit_test(boost_raises_the_rest),
        cmocka_unit_test(nothing_asked_is_the_base),
    };
    return merge_tests("tsv_m", tests);
}

/* test_sce.c - select what differs, weigh by the changes, erase minorities. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 31, COLS = 17, N = ROWS * COLS, MODELS = 4 };

static merge sce(double top, int32_t n_models)
{
    merge m = merge_of(&lors_method_sce, ROWS, COLS, n_models);
    merge_set(&m, "select_topk", top);
    return m;
}

/* d1 = 2 1 0 1, d2 = 1 -2 0 1: variances 1/4 9/4 0 0. All: mean squares 6/4 and 6/4, so halves;
 * signs + - + +: 1.5 -2 0 1. Half of the two that differ: the second alone, squares 1 and 4. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[4] = {0}, first[] = {2, 1, 0, 1}, second[] = {1, -2, 0, 1};
    static const float all[] = {1.5f, -2, 0, 1}, half[] = {0, -2, 0, 0};
    for (int i = 0; i < 3; i++) {
        merge m = merge_of(&lors_method_sce, 2, 2, 2);
        m.base = base;
        m.models[0] = first;
        m.models[1] = second;
        merge_set(&m, "select_topk", i == 0 ? 1 : i == 1 ? 0.5 : 0.49);
        merge_run(&m, LORS_F32);
        expect_values(&m, i == 0 ? all : i == 1 ? half : base);
        merge_free(&m);
    }
}

typedef struct plainly {
    double d[MODELS][N], variance[N], eta[MODELS];
} plainly;

static double delta(const merge *m, int32_t k, int64_t i)
{
    return (double)m->models[k][i] - (double)m->base[i];
}

static void variances_of(const merge *m, plainly *p)
{
    for (int64_t i = 0; i < N; i++) {
        double mean = 0;
        p->variance[i] = 0;
        for (int k = 0; k < MODELS; k++) {
            mean += delta(m, k, i) / MODELS;
        }
        for (int k = 0; k < MODELS; k++) {
            p->variance[i] += (delta(m, k, i) - mean) * (delta(m, k, i) - mean) / MODELS;
        }
    }
}

/* The floor(top * N) largest variances, all of which are apart in f32. */
static void by_the_formula(const merge *m, double top, plainly *p)
{
    double total = 0;
    variances_of(m, p);
    for (int k = 0; k < MODELS; k++) {
        p->eta[k] = 0;
        for (int64_t i = 0; i < N; i++) {
            int64_t rank = 0;
            for (int64_t j = 0; j < N; j++) {
                rank += p->variance[j] > p->variance[i];
            }
            p->d[k][i] = (double)rank < floor(top * N) ? delta(m, k, i) : 0;
            p->eta[k] += p->d[k][i] * p->d[k][i];
        }
        total += p->eta[k];
    }
    for (int k = 0; k < MODELS; k++) {
        p->eta[k] /= total;
    }
}

static void expect_sce(const merge *m, const plainly *p)
{
    for (int64_t i = 0; i < N; i++) {
        double vote = 0, sum = 0, weights = 0, size = 0;
        for (int k = 0; k < MODELS; k++) {
            vote += p->d[k][i];
            size += fabs(p->d[k][i]);
        }
        for (int k = 0; k < MODELS; k++) {
            bool agrees = vote >= 0 ? p->d[k][i] > 0 : p->d[k][i] < 0;
            sum += agrees ? p->eta[k] * p->d[k][i] : 0;
            weights += agrees ? p->eta[k] : 0;
        }
        assert_true(fabs(m->acc[i] - (weights > 0 ? sum / weights : 0)) <= 1e-6 * size);
    }
}

static void four_follow_the_formula(void **state)
{
    (void)state;
    static const double tops[] = {1, 0.5, 0.1, 0.999};
    static plainly p;
    for (uint64_t i = 0; i < 8; i++) {
        merge m = sce(tops[i % 4], MODELS);
        give_models(&m, LORS_F32, i + 1);
        merge_run(&m, LORS_F32);
        by_the_formula(&m, tops[i % 4], &p);
        expect_sce(&m, &p);
        forget_models(&m);
    }
}

/* Changes whose mean squares sum to less than 1e-6: compat weighs the models alike. */
static void compat_weighs_tiny_changes_alike(void **state)
{
    (void)state;
    static const float base[2] = {0}, first[] = {1e-4f, 1e-4f}, second[] = {3e-4f, 3e-4f};
    merge m = merge_of(&lors_method_sce, 1, 2, 2);
    m.base = base;
    m.models[0] = first;
    m.models[1] = second;
    merge_run(&m, LORS_F32);
    assert_true(fabs(m.acc[0] - 2.8e-4) < 1e-10); /* 0.1 * 1 + 0.9 * 3 */
    m.compat = true;
    merge_run(&m, LORS_F32);
    assert_true(fabs(m.acc[0] - 2e-4) < 1e-10);
    merge_free(&m);
}

static void tiles_and_edges(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        merge m = merge_of(&lors_method_sce, 3, LORS_BLOCK, 3);
        merge_set(&m, "select_topk", 0.5 * i);
        give_models(&m, LORS_F32, (uint64_t)i + 20);
        merge other = m;
        other.tile = LORS_BLOCK;
        other.backwards = true;
        expect_same_bytes(&m, &other, LORS_F32);
        assert_true(m.is_base == (i == 0));
        merge_free(&other);
        forget_models(&m);
    }
    merge m = sce(1, 2); /* models that are the base */
    give_models(&m, LORS_F32, 30);
    const float *models[] = {m.models[0], m.models[1]};
    m.models[0] = m.models[1] = m.base;
    for (int i = 0; i < 2; i++) {
        merge_set(&m, "select_topk", i ? 0.5 : 1);
        merge_run(&m, LORS_F32);
        expect_values(&m, m.base);
    }
    m.models[0] = m.models[1] = models[0]; /* one, twice: nothing differs, so a share takes none */
    for (int i = 0; i < 2; i++) {
        merge_set(&m, "select_topk", i ? 0.5 : 1);
        merge_run(&m, LORS_F32);
        expect_values(&m, i ? m.base : models[0]);
    }
    m.models[1] = models[1];
    forget_models(&m);
}

static void common_elements_stay(void **state)
{
    (void)state;
    merge m = sce(1, 3);
    assert_true(property_common_element(&m, 40));
    m = sce(0.5, 3);
    assert_false(property_common_element(&m, 41));
}

/* Two variances that are the same as f32, of which the second is above in f64 if its squares are
 * added in some orders and nothing is kept of what that rounds away: the first is taken always. */
static void any_order_of_models(void **state)
{
    (void)state;
    enum { FIVE = 5, ORDERS = 120 };
    static const float base[2] = {0}, wanted[] = {0x1.7ccff8p+3f, 0};
    static const float models[FIVE][2] = {{0x1.7ccff8p+3f, -0x1.8a3ddcp+0f},
                                          {0, -0x1.55dea6p+2f},
                                          {0, 0x1.e41c9ap+2f},
                                          {0, 0x1.91b222p+0f},
                                          {0, -0x1.3a59c6p+2f}};
    for (int order = 0; order < ORDERS; order++) {
        int left[FIVE] = {0, 1, 2, 3, 4}, code = order;
        merge m = merge_of(&lors_method_sce, 1, 2, FIVE);
        m.base = base;
        for (int n = FIVE; n > 0; code /= n, n--) {
            int at = code % n;
            m.models[FIVE - n] = models[left[at]];
            memmove(left + at, left + at + 1, (size_t)(n - 1 - at) * sizeof *left);
        }
        merge_set(&m, "select_topk", 0.5);
        merge_run(&m, LORS_F32);
        expect_values(&m, wanted);
        merge_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(four_follow_the_formula),
        cmocka_unit_test(compat_weighs_tiny_changes_alike),
        cmocka_unit_test(tiles_and_edges),
        cmocka_unit_test(common_elements_stay),
        cmocka_unit_test(any_order_of_models),
    };
    return merge_tests("sce", tests);
}

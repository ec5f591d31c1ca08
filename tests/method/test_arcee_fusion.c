/* test_arcee_fusion.c - what differs most, weighted by the divergence of its row. */
#include "method_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 31, COLS = 17, N = ROWS * COLS };

static merge fusion(int64_t n_rows, int64_t n_cols)
{
    return merge_of(&lors_method_arcee_fusion, n_rows, n_cols, 1);
}

static void expect_model(merge *m, const float *wanted)
{
    merge_run(m, LORS_F32);
    expect_values(m, wanted);
    merge_free(m);
}

static void expect_fusion(int64_t n_last, const float *base, const float *model,
                          const float *wanted)
{
    merge m = fusion(3, 3);
    m.n_last = n_last;
    m.base = base;
    m.models[0] = model;
    expect_model(&m, wanted);
}

/* Nine importances: Q1, Q2, Q3 are those of index 2, 4, 6. */
static void worked_by_hand(void **state)
{
    (void)state;
    static const float base[9] = {0};
    /* one row (a vector): 0 1 2 2 3 3 4 4 20 times its divergence: 3 + 1.5 (4 - 2) = 6 */
    static const float vector[] = {0, 1, 2, -2, 3, 3, 4, -4, 20};
    static const float tail[] = {0, 0, 0, 0, 0, 0, 0, 0, 20};
    merge m = fusion(1, 9);
    m.base = base;
    m.models[0] = vector;
    expect_model(&m, tail);
    /* of four those of index 0, 1, 2: 1 + 1.5 (2 - 0) = 4 */
    static const float four[] = {0, 1, 2, 20}, last[] = {0, 0, 0, 20};
    m = fusion(1, 4);
    m.base = base;
    m.models[0] = four;
    expect_model(&m, last);
    /* a row that only moves as a whole does not diverge: its importances are 0, as are those of the
     * one that stays. What is left is one row of three: Q1 = Q2 = 0, Q3 its smallest, D. I of it:
     * D 1, D 2, D 4, and the threshold is 1.5 D. */
    static const float rows[] = {5, 5, 5, 1, -2, 4, 0, 0, 0};
    static const float chosen[] = {0, 0, 0, 0, -2, 4, 0, 0, 0};
    expect_fusion(3, base, rows, chosen);
    /* all importances but one are 0, and so is the threshold: all is taken */
    static const float one[] = {7, 7, 7, 0, 0, 1, 2, 2, 2};
    expect_fusion(3, base, one, one);
    expect_fusion(1, base, vector, vector); /* rows of one element do not diverge either */
}

/* --- the formula ------------------------------------------------------------------------------ */

typedef struct plainly {
    double importance[N], threshold, slack;
} plainly;

static long double divergence(const float *a, const float *b, int64_t n)
{
    long double of_a = 0, of_b = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        of_a += expl(a[i]);
        of_b += expl(b[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        long double p = expl(a[i]) / of_a + 1e-8L, q = expl(b[i]) / of_b + 1e-8L;
        sum += p * logl(p / q);
    }
    return sum;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void by_the_formula(const merge *m, int64_t n_last, plainly *p)
{
    double sorted[N];
    for (int64_t row = 0; row < N / n_last; row++) {
        const float *a = m->models[0] + row * n_last, *b = m->base + row * n_last;
        double d = (double)divergence(a, b, n_last);
        for (int64_t i = 0; i < n_last; i++) {
            p->importance[row * n_last + i] = fabs((double)a[i] - (double)b[i]) * d;
        }
    }
    memcpy(sorted, p->importance, sizeof sorted);
    qsort(sorted, N, sizeof *sorted, ascending);
    double first = sorted[(N - 1) / 4], third = sorted[3 * (N - 1) / 4];
    p->threshold = sorted[(N - 1) / 2] + 1.5 * (third - first);
    p->slack = 1e-6 * (p->threshold + first);
}

static void one_follows_the_formula(void **state)
{
    (void)state;
    static plainly p;
    static const int64_t lasts[] = {COLS, 1, N, ROWS};
    for (uint64_t i = 0; i < 8; i++) {
        int64_t n_taken = 0, n_judged = 0, n_last = lasts[i % 4];
        merge m = n_last == N ? fusion(1, N) : fusion(n_last == ROWS ? COLS : ROWS,
                                                      n_last == ROWS ? ROWS : COLS);
        m.n_last = n_last;
        give_models(&m, merge_dtypes[i % 3], i + 1);
        merge_run(&m, LORS_F32);
        by_the_formula(&m, n_last, &p);
        for (int64_t at = 0; at < N; at++) {
            bool taken = m.values[at] == m.models[0][at];
            assert_true(taken || m.values[at] == m.base[at]);
            bool judged = fabs(p.importance[at] - p.threshold) > p.slack &&
                          m.models[0][at] != m.base[at];
            assert_true(!judged || taken == (p.importance[at] > p.threshold));
            n_taken += judged && taken;
            n_judged += judged;
        }
        assert_true(n_last == 1 || (n_taken > 0 && n_taken < N / 3 && n_judged > N / 2));
        forget_models(&m);
    }
}

/* --- edges ------------------------------------------------------------------------------------ */

static void tiles_of_whole_rows(void **state)
{
    (void)state;
    enum { WIDE = 3 * 4096, TALL = 10 };
    for (int i = 0; i < 2; i++) {
        merge m = fusion(TALL, WIDE);
        /* rows of a convolution are shorter than those of a matrix */
        m.n_last = i == 0 ? WIDE : merge_is_slow() ? 1024 : 3;
        give_models(&m, LORS_F32, (uint64_t)i + 20);
        merge other = m;
        other.tile = 2 * WIDE;
        other.backwards = true;
        expect_same_bytes(&m, &other, LORS_F32);
        merge_free(&other);
        forget_models(&m);
    }
}

static void elements_are_taken_as_they_are(void **state)
{
    (void)state;
    static const float base[] = {1e30f, -0.0f, 3}, model[] = {-1e-30f, -0.0f, 3};
    static const float one[] = {2}, other[] = {-0.0f};
    merge m = fusion(1, 3); /* base + (model - base) would be 0 */
    m.base = base;
    m.models[0] = model;
    merge_run(&m, LORS_F32);
    assert_memory_equal(m.values, model, sizeof model);
    merge_free(&m);
    m.models[0] = base;
    merge_run(&m, LORS_F32);
    assert_memory_equal(m.values, base, sizeof base);
    merge_free(&m);
    m = fusion(1, 1);
    m.base = one;
    m.models[0] = other;
    expect_model(&m, other);
}

/* What is no number in the model is taken; in the base its row is the model's. */
static void what_is_no_number_shows(void **state)
{
    (void)state;
    merge m = fusion(ROWS, COLS);
    give_models(&m, LORS_F32, 40);
    float *base = (float *)(uintptr_t)m.base, *model = (float *)(uintptr_t)m.models[0];
    model[3 * COLS + 2] = NAN;
    model[4 * COLS + 2] = INFINITY;
    base[5 * COLS + 2] = NAN;
    merge_run(&m, LORS_F32);
    assert_true(isnan(m.values[3 * COLS + 2]) && isinf(m.values[4 * COLS + 2]));
    for (int64_t i = 0; i < N; i++) {
        assert_true(isnan(m.values[i]) == (i == 3 * COLS + 2));
        assert_true(i / COLS < 3 || i / COLS > 5 || isnan(model[i]) || m.values[i] == model[i]);
    }
    forget_models(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_by_hand),
        cmocka_unit_test(one_follows_the_formula),
        cmocka_unit_test(tiles_of_whole_rows),
        cmocka_unit_test(elements_are_taken_as_they_are),
        cmocka_unit_test(what_is_no_number_shows),
    };
    return merge_tests("arcee_fusion", tests);
}

/* test_random.c - random masks: by density, and by rank, whatever the split and device. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/arithmetic.h"
#include "base/dtype.h"
#include "synth.h"

static const uint64_t keys[] = {0, 1, 0x9e3779b97f4a7c15u, UINT64_MAX};
static const double densities[] = {0.2, 0, 1, 0.5, 1e-3, 0x1p-32, 0x1p-33, 1 - 0x1p-33, 0.999};

enum { N_KEYS = 4, N_DENSITIES = sizeof densities / sizeof *densities };

/* 1 for each element that lors_random_keep keeps, 0 for the others. Returns how many. */
static int64_t check_mask(ops_bench *bench, uint64_t key, double density, uint64_t first, int64_t n)
{
    lors_view mask = ops_buffer_of(bench, n, 1);
    uint64_t limit = lors_random_limit(density);
    int64_t n_kept = 0;
    assert_ok(bench->ops->keep_random(bench->queue, mask, key, density, first, n));
    const uint8_t *got = ops_host(bench, mask);
    for (int64_t i = 0; i < n; i++) {
        bool kept = lors_random_keep(key, first + (uint64_t)i, limit);
        expect(got[i] == kept, "key %llx density %g element %llu: %d", (unsigned long long)key,
               density, (unsigned long long)(first + (uint64_t)i), got[i]);
        n_kept += kept;
    }
    ops_record(bench, got, (size_t)n);
    ops_clear(bench);
    return n_kept;
}

static void masks_are_those_of_the_stream(ops_bench *bench)
{
    static const int64_t sizes[] = {0, 1, 3, 7, 513, 8193};
    static const uint64_t firsts[] = {0, 1, 2, 3, 8192, UINT64_C(1) << 34, (UINT64_C(1) << 34) + 7};
    for (int i = 0; i < N_KEYS * N_DENSITIES; i++) {
        for (int s = 0; s < 6; s++) {
            check_mask(bench, keys[i % N_KEYS], densities[i / N_KEYS], firsts[(i + s) % 7],
                       sizes[s]);
        }
    }
}

/* Pieces of any size, in any order: no multiple of anything. */
static void masks_do_not_depend_on_the_split(ops_bench *bench)
{
    enum { N = 20000 };
    static const int64_t steps[] = {1021, 4, 8192, 19999, 333};
    lors_view whole = ops_buffer_of(bench, N, 1);
    assert_ok(bench->ops->keep_random(bench->queue, whole, 77, 0.3, 0, N));
    for (int s = 0; s < 5; s++) {
        lors_view parts = ops_buffer_of(bench, N, 1);
        int64_t step = steps[s] == 4 && bench->emulated ? 44 : steps[s];
        int64_t n_parts = (N + step - 1) / step;
        for (int64_t i = n_parts - 1; i >= 0; i--) {
            int64_t left = N - i * step;
            uint64_t first = (uint64_t)(i * step);
            assert_ok(bench->ops->keep_random(bench->queue, lors_view_at(parts, first), 77, 0.3,
                                              first, left < step ? left : step));
        }
        assert_memory_equal(ops_host(bench, parts), ops_host(bench, whole), N);
    }
}

/* Within five standard deviations of a fair coin of this density; all and nothing at the ends. */
static void shares_are_those_asked_for(ops_bench *bench)
{
    int64_t n = bench->emulated ? 20000 : 200000;
    for (int i = 0; i < N_KEYS * N_DENSITIES; i++) {
        double p = densities[i / N_KEYS];
        int64_t n_kept = check_mask(bench, keys[i % N_KEYS], p, 1000, n);
        double slack = p == 0 || p == 1 ? 0 : 5 * sqrt((double)n * p * (1 - p)) + 1;
        expect(fabs((double)n_kept - (double)n * p) <= slack, "density %g: %lld of %lld", p,
               (long long)n_kept, (long long)n);
    }
}

/* Two keys, or two places of one stream, agree as often as chance has it: half of the time. */
static void keys_name_streams_apart(ops_bench *bench)
{
    enum { N = 20000 };
    static const uint64_t seeds[] = {0, 1, 2, UINT64_C(1) << 32, UINT64_C(1) << 63, 0};
    uint8_t *masks[6];
    for (int i = 0; i < 6; i++) {
        lors_view mask = ops_buffer_of(bench, N, 1);
        uint64_t first = i == 5 ? N : 0;
        assert_ok(bench->ops->keep_random(bench->queue, mask, seeds[i], 0.5, first, N));
        masks[i] = ops_host(bench, mask);
    }
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < i; j++) {
            int64_t n_same = 0;
            for (int64_t at = 0; at < N; at++) {
                n_same += masks[i][at] == masks[j][at];
            }
            expect(fabs((double)n_same - N / 2.0) <= 5 * sqrt(N / 4.0), "%d and %d: %lld", i, j,
                   (long long)n_same);
        }
    }
}

/* --- by rank ---------------------------------------------------------------------------------- */

/* How many of the row are before element i: smaller, or of the same magnitude with a lower index.
 * A NaN has the magnitude of its bits, above all numbers. */
static int64_t rank_of(const float *row, int64_t n, int64_t i)
{
    int64_t rank = 0;
    for (int64_t j = 0; j < n; j++) {
        uint32_t a = lors_f32_bits(row[j]) << 1, b = lors_f32_bits(row[i]) << 1;
        rank += a < b || (a == b && j < i);
    }
    return rank;
}

static double probability(const lors_ranking *r, int64_t rank, int64_t n)
{
    double p = n == 1 ? r->density
                      : r->density - r->epsilon + 2 * r->epsilon * (double)rank / (double)(n - 1);
    return p < 0 ? 0 : p > 1 ? 1 : p;
}

static void fill_rows(float *x, int64_t n, int kind, uint64_t seed)
{
    synth_stream stream = {seed, 0};
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = synth_bits(&stream);
        x[i] = kind == 0   ? (float)synth_normal(&stream)
               : kind == 1 ? (float)(bits % 5) - 2 /* mostly ties */
               : kind == 2 ? 0.25f
               : kind == 3 ? lors_f32_from_bits((uint32_t)bits) /* NaN, infinity */
               : kind == 4 ? (float)synth_normal(&stream) * (i % 33 ? 1 : 1e6f) /* a few large */
                           : (i % 33 == 1 ? INFINITY : 1);
    }
}

/* Where chance is within rounding of its limit the mask is not asked for. Returns how many. */
static int64_t check_ranked(ops_bench *bench, const float *x, const lors_ranking *ranking,
                            uint64_t first, int64_t n_rows, int64_t n_cols)
{
    int64_t n = n_rows * n_cols, n_kept = 0;
    lors_view values = ops_copy_of(bench, x, n, 4), mask = ops_buffer_of(bench, n, 1);
    lors_view scratch = ops_scratch(bench, bench->ops->rank_bytes(n_rows, n_cols));
    assert_ok(bench->ops->keep_ranked(bench->queue, mask, values, ranking, first, n_rows, n_cols,
                                      scratch));
    const uint8_t *got = ops_host(bench, mask);
    const float *after = ops_host(bench, values);
    for (int64_t i = 0; i < n; i++) {
        double p =
            probability(ranking, rank_of(x + i / n_cols * n_cols, n_cols, i % n_cols), n_cols);
        uint64_t at = first + (uint64_t)i;
        bool low = lors_random_keep(ranking->key, at, lors_random_limit(p - 1e-9));
        bool high = lors_random_keep(ranking->key, at, lors_random_limit(p + 1e-9));
        expect(got[i] == low || got[i] == high, "element %lld: %d", (long long)i, got[i]);
        double wanted = ranking->divide && got[i] ? x[i] / p : x[i];
        expect(isnan(x[i]) ? isnan(after[i])
                           : fabs(after[i] - wanted) <= 0x1p-23 * fabs(wanted) + 0x1p-149 ||
                                 (double)after[i] == (double)(float)wanted,
               "%a, not %a", (double)after[i], wanted);
        n_kept += got[i];
    }
    ops_record(bench, got, (size_t)n);
    ops_record(bench, after, (size_t)n * 4);
    ops_clear(bench);
    return n_kept;
}

static void ranks_decide(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{0, 5}, {3, 1}, {5, 2}, {7, 33}, {2, 257}, {1, 1025}};
    static const double settings[][2] = {{0.5, 0.2}, {0.3, 0}, {0.5, 0.5}, {0.9, 0.4}, {0.1, 0.4}};
    for (int i = 0; i < 6 * 5 * 6; i += bench->emulated ? 7 : 1) {
        int64_t n_rows = shapes[i % 6][0], n_cols = shapes[i % 6][1];
        float *x = malloc((size_t)(n_rows * n_cols) * sizeof *x + 1);
        lors_ranking ranking = {keys[i % N_KEYS], settings[i % 5][0], settings[i % 5][1],
                                i / 30 % 2};
        fill_rows(x, n_rows * n_cols, i / 30, (uint64_t)i + 1);
        check_ranked(bench, x, &ranking, i % 2 ? 12345 : 0, n_rows, n_cols);
        free(x);
    }
}

/* Longer than there are buckets; magnitudes so that their ranks are known. */
static void ranks_of_long_rows(ops_bench *bench)
{
    enum { N = 70001, STEP = 7919 };
    float *x = malloc(N * sizeof *x);
    int64_t *rank = malloc(N * sizeof *rank);
    for (int64_t i = 0; i < N; i++) {
        int64_t at = i * STEP % N;
        rank[at] = i;
        x[at] = (float)(i % 2 ? i : -i) / N;
    }
    lors_ranking ranking = {5, 0.5, 0.4, false};
    lors_view values = ops_copy_of(bench, x, N, 4), mask = ops_buffer_of(bench, N, 1);
    lors_view scratch = ops_scratch(bench, bench->ops->rank_bytes(1, N));
    assert_ok(bench->ops->keep_ranked(bench->queue, mask, values, &ranking, 0, 1, N, scratch));
    const uint8_t *got = ops_host(bench, mask);
    for (int64_t i = 0; i < N; i++) {
        double p = probability(&ranking, rank[i], N);
        bool low = lors_random_keep(ranking.key, (uint64_t)i, lors_random_limit(p - 1e-9));
        bool high = lors_random_keep(ranking.key, (uint64_t)i, lors_random_limit(p + 1e-9));
        expect(got[i] == low || got[i] == high, "element %lld: %d", (long long)i, got[i]);
    }
    ops_record(bench, got, N);
    ops_clear(bench);
    free(rank);
    free(x);
}

/* Density 0 keeps nothing and 1 all; otherwise within five standard deviations of the density. */
static void ranked_shares(ops_bench *bench)
{
    enum { ROWS = 20, COLS = 400, N = ROWS * COLS };
    static const double chances[] = {0, 0.25, 0.5, 1};
    float *x = malloc(N * sizeof *x);
    fill_rows(x, N, 0, 3);
    for (int i = 0; i < 4; i++) {
        double p = chances[i], epsilon = p == 0 || p == 1 ? 0 : 0.2;
        lors_ranking ranking = {11, p, epsilon, false};
        int64_t n_kept = check_ranked(bench, x, &ranking, 0, ROWS, COLS);
        expect(fabs((double)n_kept - N * p) <= 5 * sqrt(N * p * (1 - p)), "%lld of density %g",
               (long long)n_kept, p);
    }
    free(x);
}

/* Rows in one call, or each in its own. */
static void ranked_rows_do_not_depend_on_the_call(ops_bench *bench)
{
    enum { ROWS = 9, COLS = 301, N = ROWS * COLS };
    float *x = malloc(N * sizeof *x);
    lors_ranking ranking = {77, 0.4, 0.3, true};
    fill_rows(x, N, 1, 4);
    lors_view one = ops_copy_of(bench, x, N, 4), many = ops_copy_of(bench, x, N, 4);
    lors_view mask = ops_buffer_of(bench, N, 1), masks = ops_buffer_of(bench, N, 1);
    lors_view scratch = ops_scratch(bench, bench->ops->rank_bytes(ROWS, COLS));
    assert_ok(bench->ops->keep_ranked(bench->queue, mask, one, &ranking, 0, ROWS, COLS, scratch));
    for (uint64_t row = ROWS; row-- > 0;) {
        uint64_t first = row * COLS;
        assert_ok(bench->ops->keep_ranked(bench->queue, lors_view_at(masks, first),
                                          lors_view_at(many, 4 * first), &ranking, first, 1, COLS,
                                          scratch));
    }
    assert_memory_equal(ops_host(bench, mask), ops_host(bench, masks), N);
    assert_memory_equal(ops_host(bench, one), ops_host(bench, many), N * 4);
    free(x);
}

int main(void)
{
    static const ops_case cases[] = {
        {"masks are those of the stream", masks_are_those_of_the_stream},
        {"masks do not depend on the split", masks_do_not_depend_on_the_split},
        {"shares are those asked for", shares_are_those_asked_for},
        {"keys name streams apart", keys_name_streams_apart},
        {"ranks decide", ranks_decide},
        {"ranked: long rows", ranks_of_long_rows},
        {"ranked: shares", ranked_shares},
        {"ranked: any call", ranked_rows_do_not_depend_on_the_call},
    };
    return ops_run("random", cases, sizeof cases / sizeof *cases);
}

/* test_random.c - keep_random: the stream of a key, whatever the split, device and density. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/arithmetic.h"
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

int main(void)
{
    static const ops_case cases[] = {
        {"masks are those of the stream", masks_are_those_of_the_stream},
        {"masks do not depend on the split", masks_do_not_depend_on_the_split},
        {"shares are those asked for", shares_are_those_asked_for},
        {"keys name streams apart", keys_name_streams_apart},
    };
    return ops_run("random", cases, sizeof cases / sizeof *cases);
}

/* test_vectors.c - operations on whole vectors: differences, comparison, dots by blocks. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "ops_oracle.h"
#include "synth.h"

static const int64_t sizes[] = {0, 1, 7, 8, 511, 512, 513, 8191, 8192, 8193, 20000};

enum { N_SIZES = sizeof sizes / sizeof *sizes };

/* --- subtract --------------------------------------------------------------------------------- */

static void compare_difference(float got, float a, float b)
{
    uint32_t wanted = oracle_narrow(LORS_F32, (double)a - (double)b);
    bool nan = isnan(a) || isnan(b) || (isinf(a) && a == b);
    expect(nan ? isnan(got) : lors_f32_bits(got) == wanted, "%a - %a: %a", (double)a, (double)b,
           (double)got);
}

static void check_subtract(ops_bench *bench, const float *a, const float *b, int64_t n)
{
    lors_view from = ops_copy_of(bench, a, n, 4), less = ops_copy_of(bench, b, n, 4);
    lors_view out = ops_buffer_of(bench, n, 4);
    assert_ok(bench->ops->subtract(bench->queue, out, from, n, less, n, 1, n));
    assert_ok(bench->ops->subtract(bench->queue, from, from, n, less, n, 1, n)); /* in place */
    const float *got = ops_host(bench, out), *in_place = ops_host(bench, from);
    for (int64_t i = 0; i < n; i++) {
        compare_difference(got[i], a[i], b[i]);
        compare_difference(in_place[i], a[i], b[i]);
    }
    ops_clear(bench);
}

static void fill_operands(float *a, float *b, int64_t n)
{
    synth_values(a, n, 0.02, 1);
    synth_values(b, n, 1e-4, 2);
    for (int64_t i = 0; i < n; i++) {
        b[i] = i % 3 ? a[i] + b[i] : b[i] * 1e-30f;
    }
}

static void subtract_rounds_once(ops_bench *bench)
{
    enum { N = 20000 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    fill_operands(a, b, N);
    for (int s = 0; s < N_SIZES; s++) {
        check_subtract(bench, a, b, sizes[s]);
    }
    for (int64_t i = 0; i < synth_special_n * synth_special_n; i++) {
        a[i] = lors_f32_from_bits(synth_special[i / synth_special_n]);
        b[i] = lors_f32_from_bits(synth_special[i % synth_special_n]);
    }
    check_subtract(bench, a, b, synth_special_n * synth_special_n);
    free(a);
    free(b);
}

/* Slices of n elements; what lies between them stays. broadcast: one b for all. */
static void check_slices(ops_bench *bench, int64_t n, int64_t stride, int32_t n_slices,
                         bool broadcast, bool in_place)
{
    int64_t stride_b = broadcast ? 0 : stride + 3, all = (n_slices - 1) * stride + n;
    int64_t all_b = (n_slices - 1) * stride_b + n;
    int64_t most = all > all_b ? all : all_b;
    float *a = malloc((size_t)(most + 1) * sizeof *a), *b = malloc((size_t)(most + 1) * sizeof *b);
    fill_operands(a, b, most);
    lors_view from = ops_copy_of(bench, a, all, 4), less = ops_copy_of(bench, b, all_b, 4);
    lors_view out = in_place ? from : ops_buffer_of(bench, all, 4);
    assert_ok(bench->ops->subtract(bench->queue, out, from, stride, less, stride_b, n_slices, n));
    const float *got = ops_host(bench, out);
    for (int64_t at = 0; at < all; at++) {
        int64_t slice = at / stride, i = at % stride;
        if (i < n) {
            compare_difference(got[at], a[at], b[slice * stride_b + i]);
        } else {
            uint32_t before = in_place ? lors_f32_bits(a[at]) : 0xa5a5a5a5u;
            expect(lors_f32_bits(got[at]) == before, "between slices: %a", (double)got[at]);
        }
    }
    ops_record(bench, got, (size_t)all * sizeof *got);
    ops_clear(bench);
    free(a);
    free(b);
}

static void subtract_takes_slices(ops_bench *bench)
{
    static const int64_t lengths[] = {1, 5, 513, 8193};
    for (int i = 0; i < 32; i++) {
        int64_t n = lengths[i / 8];
        int32_t n_slices = i % 8 < 4 ? 3 : 9;
        check_slices(bench, n, n, n_slices, i % 4 / 2, i % 2);
        check_slices(bench, n, n + 7, n_slices, i % 4 / 2, i % 2);
    }
    lors_view nothing = ops_buffer_of(bench, 8, 4);
    assert_ok(bench->ops->subtract(bench->queue, nothing, nothing, 8, nothing, 8, 0, 8));
    const uint32_t *left = ops_host(bench, nothing);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(left[i], 0xa5a5a5a5u);
    }
}

/* --- compare ---------------------------------------------------------------------------------- */

static uint32_t differs_from(ops_bench *bench, lors_view differs, uint32_t before, lors_view a,
                             lors_view b, int64_t n)
{
    *(uint32_t *)ops_host(bench, differs) = before;
    ops_push(bench, differs);
    assert_ok(bench->ops->compare(bench->queue, differs, a, b, n));
    return *(const uint32_t *)ops_host(bench, differs);
}

static void compare_looks_at_bits(ops_bench *bench)
{
    enum { N = 8193 };
    static const int64_t places[] = {0, 1, 7, 8191, 8192};
    uint32_t *bits = malloc(N * sizeof *bits);
    for (int64_t i = 0; i < N; i++) {
        bits[i] = synth_special[i % synth_special_n];
    }
    lors_view a = ops_copy_of(bench, bits, N, 4), b = ops_copy_of(bench, bits, N, 4);
    lors_view differs = ops_zeros(bench, 1, 4);
    uint32_t *other = ops_host(bench, b);
    assert_int_equal(differs_from(bench, differs, 0, a, b, N), 0);
    /* NaN too: the same bits are the same */
    for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
        for (uint32_t flip = 1; flip != 0; flip <<= 31) { /* last bit, sign bit (-0 is not 0) */
            other[places[p]] ^= flip;
            ops_push(bench, b);
            assert_int_equal(differs_from(bench, differs, 0, a, b, N), 1);
            /* n ends before the difference; 0 elements are the same */
            assert_int_equal(differs_from(bench, differs, 0, a, b, places[p]), 0);
            other[places[p]] ^= flip;
        }
    }
    ops_clear(bench);
    free(bits);
}

/* Several comparisons gather in one word, which none of them clears. */
static void compare_only_sets(ops_bench *bench)
{
    static const float x[] = {1, 2, 3}, y[] = {1, 2, 4};
    lors_view a = ops_copy_of(bench, x, 3, 4), b = ops_copy_of(bench, y, 3, 4);
    lors_view differs = ops_zeros(bench, 2, 4), second = lors_view_at(differs, 4);
    assert_int_equal(differs_from(bench, differs, 1, a, b, 2), 1);
    assert_int_equal(differs_from(bench, differs, 1, a, b, 3), 1);
    assert_int_equal(differs_from(bench, differs, 4, a, b, 3), 5);
    assert_int_equal(*(const uint32_t *)ops_host(bench, second), 0);
    assert_int_equal(differs_from(bench, second, 0, a, b, 3), 1);
    assert_int_equal(*(const uint32_t *)ops_host(bench, differs), 5);
}

/* --- dots ------------------------------------------------------------------------------------- */

static void check_dots(ops_bench *bench, const float *a, const float *b, int64_t n)
{
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
    lors_view left = ops_copy_of(bench, a, n, 4), right = ops_copy_of(bench, b, n, 4);
    lors_view out = ops_buffer_of(bench, 3 * n_blocks, 8);
    assert_ok(bench->ops->reduce_dots(bench->queue, out, left, right, n));
    const double *dots = ops_host(bench, out);
    for (int64_t block = 0; block < n_blocks; block++) {
        int64_t first = block * LORS_BLOCK, end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
        long double sums[3] = {0}, sizes_of[3] = {0};
        for (int64_t i = first; i < end; i++) {
            long double x = a[i], y = b[i], terms[3] = {x * x, x * y, y * y};
            for (int d = 0; d < 3; d++) {
                sums[d] += terms[d];
                sizes_of[d] += fabsl(terms[d]);
            }
        }
        for (int d = 0; d < 3; d++) { /* products of f32 are exact; n - 1 additions round */
            expect(fabsl(dots[3 * block + d] - sums[d]) <= LORS_BLOCK * 0x1p-53L * sizes_of[d],
                   "dot %d of block %lld: %a", d, (long long)block, dots[3 * block + d]);
        }
    }
    ops_record(bench, dots, (size_t)(3 * n_blocks) * sizeof *dots);
    ops_clear(bench);
}

static void dots_are_summed_by_blocks(ops_bench *bench)
{
    enum { N = 20000 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    static const double scales[] = {1, 1e-38, 1e37};
    for (int scale = 0; scale < 3; scale++) {
        synth_values(a, N, scales[scale], 6);
        synth_values(b, N, scales[scale] / 7, 7);
        for (int s = 0; s < N_SIZES; s++) {
            check_dots(bench, a, b, sizes[s]);
        }
    }
    lors_view left = ops_copy_of(bench, a, N, 4), right = ops_copy_of(bench, b, N, 4);
    lors_view one = ops_buffer_of(bench, 9, 8), many = ops_buffer_of(bench, 9, 8);
    assert_ok(bench->ops->reduce_dots(bench->queue, one, left, right, N));
    for (uint64_t first = 0; first < N; first += LORS_BLOCK) {
        int64_t n = N - (int64_t)first < LORS_BLOCK ? N - (int64_t)first : LORS_BLOCK;
        assert_ok(bench->ops->reduce_dots(
            bench->queue, lors_view_at(many, 24 * (first / LORS_BLOCK)),
            lors_view_at(left, 4 * first), lors_view_at(right, 4 * first), n));
    }
    assert_memory_equal(ops_host(bench, one), ops_host(bench, many), 72);
    free(a);
    free(b);
}

int main(void)
{
    static const ops_case cases[] = {
        {"subtract: one rounding, in place too", subtract_rounds_once},
        {"subtract: slices, each its own b or one for all", subtract_takes_slices},
        {"compare: bits", compare_looks_at_bits},
        {"compare: only sets", compare_only_sets},
        {"reduce_dots: by blocks", dots_are_summed_by_blocks},
    };
    return ops_run("vectors", cases, sizeof cases / sizeof *cases);
}

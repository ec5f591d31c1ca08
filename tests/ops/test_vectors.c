/* test_vectors.c - operations on whole vectors: differences, comparison, sums by blocks. */
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

/* --- gram ------------------------------------------------------------------------------------- */

static int64_t blocks_of(int64_t n)
{
    return (n + LORS_BLOCK - 1) / LORS_BLOCK;
}

/* Values whose slices are of different sizes, with gaps of NaN between them. */
static float *slices_of(int64_t n, int64_t stride, int32_t n_slices, double scale, uint64_t seed)
{
    float *x = malloc((size_t)(stride * n_slices + 1) * sizeof *x);
    for (int32_t slice = 0; slice < n_slices; slice++) {
        synth_values(x + slice * stride, stride, scale / (1 + slice), seed + (uint64_t)slice);
        for (int64_t i = n; i < stride; i++) {
            x[slice * stride + i] = NAN;
        }
    }
    return x;
}

/* One sum of at most LORS_BLOCK f64 terms, each of which is exact or rounded once. */
static void expect_sum(double got, long double wanted, long double size, const char *what)
{
    expect(fabsl(got - wanted) <= (LORS_BLOCK + 1) * 0x1p-53L * size, "%s: %a, not %La", what, got,
           wanted);
}

static void compare_dots(const double *dots, const float *x, int64_t stride, int32_t n_slices,
                         int64_t n)
{
    for (int64_t block = 0; block < blocks_of(n); block++) {
        int64_t first = block * LORS_BLOCK, end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
        for (int32_t i = 0; i < n_slices; i++) {
            for (int32_t j = i; j < n_slices; j++) {
                long double sum = 0, size = 0;
                for (int64_t at = first; at < end; at++) {
                    long double term = (long double)x[i * stride + at] * x[j * stride + at];
                    sum += term;
                    size += fabsl(term);
                }
                expect_sum(*dots++, sum, size, "dot");
            }
        }
    }
}

static void check_gram(ops_bench *bench, int64_t n, int64_t stride, int32_t n_slices, double scale)
{
    int64_t n_dots = blocks_of(n) * n_slices * (n_slices + 1) / 2;
    float *x = slices_of(n, stride, n_slices, scale, 6);
    lors_view from = ops_copy_of(bench, x, (n_slices - 1) * stride + n, 4);
    lors_view out = ops_buffer_of(bench, n_dots, 8);
    assert_ok(bench->ops->gram(bench->queue, out, from, stride, n_slices, n));
    const double *dots = ops_host(bench, out);
    compare_dots(dots, x, stride, n_slices, n);
    ops_record(bench, dots, (size_t)n_dots * sizeof *dots);
    ops_clear(bench);
    free(x);
}

static void gram_is_summed_by_blocks(ops_bench *bench)
{
    static const double scales[] = {1, 1e-38, 1e37};
    for (int32_t n_slices = 1; n_slices <= 6; n_slices++) {
        for (int s = 0; s < N_SIZES; s++) {
            check_gram(bench, sizes[s], sizes[s] + s % 2 * 5, n_slices, scales[(s + n_slices) % 3]);
        }
    }
    check_gram(bench, 700, 703, 20, 1);
}

/* A block by itself, and a dot beside other slices: the same bits. */
static void gram_does_not_depend_on_the_call(ops_bench *bench)
{
    enum { N = 20000, SLICES = 4, PAIRS = SLICES * (SLICES + 1) / 2 };
    float *x = slices_of(N, N, SLICES, 1, 9);
    lors_view from = ops_copy_of(bench, x, SLICES * N, 4);
    lors_view one = ops_buffer_of(bench, 3 * PAIRS, 8), many = ops_buffer_of(bench, 3 * PAIRS, 8);
    lors_view few = ops_buffer_of(bench, 9, 8);
    assert_ok(bench->ops->gram(bench->queue, one, from, N, SLICES, N));
    for (uint64_t first = 0; first < N; first += LORS_BLOCK) {
        int64_t n = N - (int64_t)first < LORS_BLOCK ? N - (int64_t)first : LORS_BLOCK;
        assert_ok(bench->ops->gram(bench->queue,
                                   lors_view_at(many, 8 * PAIRS * (first / LORS_BLOCK)),
                                   lors_view_at(from, 4 * first), N, SLICES, n));
    }
    assert_memory_equal(ops_host(bench, one), ops_host(bench, many), 3 * PAIRS * 8);
    /* slices 2 and 3 alone: pairs (2,2), (2,3), (3,3) */
    assert_ok(bench->ops->gram(bench->queue, few, lors_view_at(from, 2 * N * 4), N, 2, N));
    const double *all = ops_host(bench, one), *pair = ops_host(bench, few);
    for (int64_t block = 0; block < 3; block++) {
        assert_memory_equal(&all[block * PAIRS + 7], &pair[3 * block], 3 * sizeof *all);
    }
    free(x);
}

/* --- measure ---------------------------------------------------------------------------------- */

static void compare_measures(const double *sums, const float *x, const uint8_t *masks,
                             int64_t stride, int32_t n_slices, int64_t n)
{
    for (int64_t block = 0; block < blocks_of(n); block++) {
        int64_t first = block * LORS_BLOCK, end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
        for (int32_t slice = 0; slice < n_slices; slice++, sums += 4) {
            long double all = 0, kept = 0, squares = 0;
            int64_t n_set = 0;
            for (int64_t i = first; i < end; i++) {
                long double size = fabsl((long double)x[slice * stride + i]);
                bool is_kept = !masks || masks[slice * stride + i] != 0;
                all += size;
                kept += is_kept ? size : 0;
                squares += is_kept ? size * size : 0;
                n_set += size != 0;
            }
            expect_sum(sums[0], all, all, "all magnitudes");
            expect_sum(sums[1], kept, kept, "kept magnitudes");
            expect_sum(sums[2], squares, squares, "kept squares");
            assert_true(sums[3] == (double)n_set);
        }
    }
}

static uint8_t *masks_for(float *x, int64_t n, uint64_t seed)
{
    uint8_t *masks = malloc((size_t)n + 1);
    synth_stream stream = {seed, 0};
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = synth_bits(&stream);
        masks[i] = bits % 3 == 0 ? 0 : bits % 3 == 1 ? 1 : 255;
        x[i] = bits >> 8 & 3 ? x[i] : bits >> 10 & 1 ? 0.0f : -0.0f;
    }
    return masks;
}

static void check_measure(ops_bench *bench, int64_t n, int64_t stride, int32_t n_slices,
                          double scale, bool masked)
{
    int64_t n_sums = blocks_of(n) * n_slices * 4, all = (n_slices - 1) * stride + n;
    float *x = slices_of(n, stride, n_slices, scale, 16);
    uint8_t *masks = masks_for(x, all, (uint64_t)n);
    lors_view from = ops_copy_of(bench, x, all, 4), out = ops_buffer_of(bench, n_sums, 8);
    lors_view kept = masked ? ops_copy_of(bench, masks, all, 1) : LORS_NO_VIEW;
    assert_ok(bench->ops->measure(bench->queue, out, from, kept, stride, n_slices, n));
    const double *sums = ops_host(bench, out);
    compare_measures(sums, x, masked ? masks : NULL, stride, n_slices, n);
    ops_record(bench, sums, (size_t)n_sums * sizeof *sums);
    ops_clear(bench);
    free(x);
    free(masks);
}

static void measure_is_summed_by_blocks(ops_bench *bench)
{
    static const double scales[] = {1, 1e-38, 1e37};
    for (int i = 0; i < 6 * N_SIZES; i++) {
        int64_t n = sizes[i % N_SIZES];
        check_measure(bench, n, n + i % 2 * 3, i / N_SIZES + 1, scales[i % 3], i % 4 < 2);
    }
    check_measure(bench, 300, 300, 40, 1, true);
}

/* What is masked out counts as a magnitude and as a number that is not 0, and for nothing else. */
static void measure_of_what_is_not_finite(ops_bench *bench)
{
    static const float x[] = {NAN, 1, -INFINITY, 2, INFINITY, -3, 0, -0.0f};
    static const uint8_t masks[] = {0, 1, 0, 1, 0, 0, 1, 1};
    lors_view from = ops_copy_of(bench, x, 8, 4), kept = ops_copy_of(bench, masks, 8, 1);
    lors_view out = ops_buffer_of(bench, 4, 8);
    assert_ok(bench->ops->measure(bench->queue, out, from, kept, 8, 1, 8));
    const double *sums = ops_host(bench, out);
    assert_true(isnan(sums[0]) && sums[1] == 3 && sums[2] == 5 && sums[3] == 6);
    assert_ok(bench->ops->measure(bench->queue, out, lors_view_at(from, 4), LORS_NO_VIEW, 7, 1, 7));
    sums = ops_host(bench, out);
    assert_true(isinf(sums[0]) && isinf(sums[1]) && isinf(sums[2]) && sums[3] == 5);
}

static void measure_does_not_depend_on_the_call(ops_bench *bench)
{
    enum { N = 20000, SLICES = 3, SUMS = 4 * SLICES };
    float *x = slices_of(N, N, SLICES, 1, 29);
    uint8_t *masks = masks_for(x, SLICES * N, 30);
    lors_view from = ops_copy_of(bench, x, SLICES * N, 4);
    lors_view kept = ops_copy_of(bench, masks, SLICES * N, 1);
    lors_view one = ops_buffer_of(bench, 3 * SUMS, 8), many = ops_buffer_of(bench, 3 * SUMS, 8);
    assert_ok(bench->ops->measure(bench->queue, one, from, kept, N, SLICES, N));
    for (uint64_t first = 0; first < N; first += LORS_BLOCK) {
        int64_t n = N - (int64_t)first < LORS_BLOCK ? N - (int64_t)first : LORS_BLOCK;
        assert_ok(bench->ops->measure(
            bench->queue, lors_view_at(many, 8 * SUMS * (first / LORS_BLOCK)),
            lors_view_at(from, 4 * first), lors_view_at(kept, first), N, SLICES, n));
    }
    assert_memory_equal(ops_host(bench, one), ops_host(bench, many), 3 * SUMS * 8);
    free(x);
    free(masks);
}

/* --- choose ----------------------------------------------------------------------------------- */

static void choose_takes_bits(ops_bench *bench)
{
    static const float a[] = {1, -0.0f, 3, INFINITY, 5}, b[] = {-1, 2, NAN, 4, 0.0f};
    static const uint8_t mask[] = {1, 0, 255, 0, 2};
    static const float wanted[] = {1, 2, 3, 4, 5};
    lors_view x = ops_copy_of(bench, a, 5, 4), y = ops_copy_of(bench, b, 5, 4);
    lors_view kept = ops_copy_of(bench, mask, 5, 1), out = ops_buffer_of(bench, 5, 4);
    assert_ok(bench->ops->choose(bench->queue, out, x, y, kept, 5));
    assert_memory_equal(ops_host(bench, out), wanted, sizeof wanted);
    assert_ok(bench->ops->choose(bench->queue, x, x, y, kept, 5)); /* in place */
    assert_memory_equal(ops_host(bench, x), wanted, sizeof wanted);
}

int main(void)
{
    static const ops_case cases[] = {
        {"subtract: one rounding, in place too", subtract_rounds_once},
        {"subtract: slices, each its own b or one for all", subtract_takes_slices},
        {"compare: bits", compare_looks_at_bits},
        {"compare: only sets", compare_only_sets},
        {"gram: by blocks", gram_is_summed_by_blocks},
        {"gram: any call", gram_does_not_depend_on_the_call},
        {"measure: by blocks", measure_is_summed_by_blocks},
        {"measure: what is not finite", measure_of_what_is_not_finite},
        {"measure: any call", measure_does_not_depend_on_the_call},
        {"choose: bits", choose_takes_bits},
    };
    return ops_run("vectors", cases, sizeof cases / sizeof *cases);
}

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

/* Slices of `x`, n elements each and as many apart; every pair of them, block by block. */
static void check_gram(ops_bench *bench, const float *x, int32_t n_slices, int64_t n)
{
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK, n_pairs = n_slices * (n_slices + 1) / 2;
    lors_view in = ops_copy_of(bench, x, n_slices * n, 4);
    lors_view out = ops_buffer_of(bench, n_pairs * n_blocks, 8);
    assert_ok(bench->ops->gram(bench->queue, out, in, n, n_slices, n));
    const double *dots = ops_host(bench, out);
    for (int64_t block = 0; block < n_blocks; block++) {
        int64_t first = block * LORS_BLOCK, end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
        for (int32_t a = 0, pair = 0; a < n_slices; a++) {
            for (int32_t b = a; b < n_slices; b++, pair++) {
                long double sum = 0, size = 0;
                for (int64_t i = first; i < end; i++) {
                    long double term = (long double)x[a * n + i] * x[b * n + i];
                    sum += term;
                    size += fabsl(term);
                }
                double found = dots[block * n_pairs + pair];
                /* products of f32 are exact; n - 1 additions round */
                expect(fabsl(found - sum) <= LORS_BLOCK * 0x1p-53L * size,
                       "slices %d and %d of block %lld: %a", a, b, (long long)block, found);
            }
        }
    }
    ops_record(bench, dots, (size_t)(n_pairs * n_blocks) * sizeof *dots);
    ops_clear(bench);
}

static void gram_is_summed_by_blocks(ops_bench *bench)
{
    enum { N = 20000, MOST = 6 };
    float *x = malloc(MOST * N * sizeof *x);
    static const double scales[] = {1, 1e-38, 1e37};
    for (int scale = 0; scale < 3; scale++) {
        synth_values(x, MOST * N, scales[scale], 6);
        for (int s = 0; s < N_SIZES; s++) {
            check_gram(bench, x, 1 + (s + scale) % MOST, sizes[s]);
        }
    }
    check_gram(bench, x, MOST, N);
    lors_view in = ops_copy_of(bench, x, 2 * N, 4);
    lors_view one = ops_buffer_of(bench, 9, 8), many = ops_buffer_of(bench, 9, 8);
    assert_ok(bench->ops->gram(bench->queue, one, in, N, 2, N));
    for (uint64_t first = 0; first < N; first += LORS_BLOCK) {
        int64_t n = N - (int64_t)first < LORS_BLOCK ? N - (int64_t)first : LORS_BLOCK;
        assert_ok(bench->ops->gram(bench->queue, lors_view_at(many, 24 * (first / LORS_BLOCK)),
                                   lors_view_at(in, 4 * first), N, 2, n));
    }
    assert_memory_equal(ops_host(bench, one), ops_host(bench, many), 72);
    free(x);
}

/* --- measure ---------------------------------------------------------------------------------- */

static void check_measure(ops_bench *bench, const float *x, const uint8_t *masks, int64_t n)
{
    enum { SLICES = 2, SUMS = 4 };
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK, n_sums = SLICES * SUMS * n_blocks;
    lors_view in = ops_copy_of(bench, x, SLICES * n, 4), out = ops_buffer_of(bench, n_sums, 8);
    lors_view kept = masks ? ops_copy_of(bench, masks, SLICES * n, 1) : LORS_NO_VIEW;
    assert_ok(bench->ops->measure(bench->queue, out, in, kept, n, SLICES, n));
    const double *sums = ops_host(bench, out);
    for (int64_t block = 0; block < n_blocks; block++) {
        int64_t first = block * LORS_BLOCK, end = first + LORS_BLOCK < n ? first + LORS_BLOCK : n;
        for (int64_t slice = 0; slice < SLICES; slice++) {
            long double wanted[SUMS] = {0};
            for (int64_t i = slice * n + first; i < slice * n + end; i++) {
                long double size = fabsl((long double)x[i]);
                wanted[0] += size;
                wanted[1] += !masks || masks[i] ? size : 0;
                wanted[2] += !masks || masks[i] ? size * size : 0;
                wanted[3] += x[i] != 0;
            }
            for (int s = 0; s < SUMS; s++) {
                double found = sums[(block * SLICES + slice) * SUMS + s];
                expect(fabsl(found - wanted[s]) <= LORS_BLOCK * 0x1p-52L * wanted[s],
                       "sum %d of slice %lld: %a", s, (long long)slice, found);
            }
        }
    }
    ops_record(bench, sums, (size_t)n_sums * sizeof *sums);
    ops_clear(bench);
}

static void measure_sums_magnitudes(ops_bench *bench)
{
    enum { N = 20000 };
    float *x = malloc(2 * N * sizeof *x);
    uint8_t *masks = malloc(2 * N);
    synth_values(x, 2 * N, 1e-3, 11);
    for (int64_t i = 0; i < 2 * N; i++) {
        masks[i] = i % 3 == 0 ? (uint8_t)(i % 255 + 1) : 0; /* any byte but 0 keeps */
        x[i] = i % 7 == 0 ? (i % 2 ? 0.0f : -0.0f) : x[i];
    }
    for (int s = 0; s < N_SIZES; s++) {
        check_measure(bench, x, masks, sizes[s]);
        check_measure(bench, x, NULL, sizes[s]);
    }
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
        {"measure: magnitudes by blocks", measure_sums_magnitudes},
        {"choose: bits", choose_takes_bits},
    };
    return ops_run("vectors", cases, sizeof cases / sizeof *cases);
}

/* test_convert.c - load: exact widening, and what is found and counted. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops_oracle.h"
#include "synth.h"

static const lors_dtype dtypes[] = {LORS_F32, LORS_F16, LORS_BF16};
static const int64_t sizes[] = {0, 1, 7, 8, 511, 512, 513, 1023, 1025, 8191, 8192, 8193, 20000};

enum { N_DTYPES = 3, N_SIZES = sizeof sizes / sizeof *sizes, N_CODES = 1 << 16 };

static size_t element_bytes(lors_dtype dtype)
{
    return dtype == LORS_F32 ? 4 : 2;
}

static uint32_t read_bits(lors_dtype dtype, const void *values, int64_t i)
{
    return dtype == LORS_F32 ? ((const uint32_t *)values)[i] : ((const uint16_t *)values)[i];
}

static bool same_f64(double a, double b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

static void expect_findings(ops_bench *bench, lors_view view, uint64_t n_bad, uint64_t first)
{
    const lors_findings *found = ops_host(bench, view);
    assert_int_equal(found->n_nonfinite, n_bad);
    if (n_bad > 0) {
        assert_int_equal(UINT64_MAX - found->first_mirrored, first);
    } else {
        assert_int_equal(found->first_mirrored, 0);
    }
}

static void check_load_as(ops_bench *bench, lors_dtype dtype, const void *in, int64_t n, bool zero)
{
    lors_view from = ops_copy_of(bench, in, n, element_bytes(dtype));
    lors_view to = ops_buffer_of(bench, n, sizeof(float));
    lors_view found = ops_zeros(bench, 1, sizeof(lors_findings));
    assert_ok(bench->ops->load(bench->queue, to, from, dtype, n, zero, 0, found));
    const float *out = ops_host(bench, to);
    uint64_t n_bad = 0, first = 0;
    for (int64_t i = 0; i < n; i++) {
        double wanted = oracle_widen(dtype, read_bits(dtype, in, i));
        double read = zero && !isfinite(wanted) ? 0.0 : wanted;
        expect(same_f64(out[i], read), "%s %08x: %a, not %a", lors_dtype_name(dtype),
               (unsigned)read_bits(dtype, in, i), (double)out[i], read);
        if (!isfinite(wanted)) {
            first = n_bad++ == 0 ? (uint64_t)i : first;
        }
    }
    expect_findings(bench, found, n_bad, first);
    assert_memory_equal(ops_host(bench, from), in, (size_t)n * element_bytes(dtype));
    ops_record(bench, out, (size_t)n * sizeof *out);
    ops_clear(bench);
}

static void check_load(ops_bench *bench, lors_dtype dtype, const void *in, int64_t n)
{
    check_load_as(bench, dtype, in, n, false);
    check_load_as(bench, dtype, in, n, true);
}

static void load_widens_every_half(ops_bench *bench)
{
    uint16_t *codes = malloc(N_CODES * sizeof *codes);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < N_CODES; i++) {
            codes[i] = (uint16_t)(pass == 0 ? i : i * 40503); /* in order, and well mixed */
        }
        check_load(bench, LORS_F16, codes, N_CODES);
        check_load(bench, LORS_BF16, codes, N_CODES);
    }
    free(codes);
}

static void load_copies_special_f32(ops_bench *bench)
{
    check_load(bench, LORS_F32, synth_special, synth_special_n);
    check_load(bench, LORS_F32, synth_special, synth_special_n_finite);
}

static void load_takes_any_size(ops_bench *bench)
{
    synth_stream stream = {11, 0};
    uint32_t *bits = malloc(20000 * sizeof *bits);
    for (int s = 0; s < N_SIZES; s++) {
        for (int64_t i = 0; i < sizes[s]; i++) {
            bits[i] = (uint32_t)synth_bits(&stream); /* any bits, NaN among them */
        }
        for (int d = 0; d < N_DTYPES; d++) {
            check_load(bench, dtypes[d], bits, sizes[s]);
        }
    }
    free(bits);
}

/* Each place in turn, so that no tail or lane is overlooked. */
static void load_finds_a_single_nonfinite(ops_bench *bench)
{
    uint16_t values[67] = {0};
    for (int64_t at = 0; at < 67; at++) {
        values[at] = at % 2 ? 0x7c00 : 0xfc01;
        check_load(bench, LORS_F16, values, 67);
        values[at] = at % 2 ? 0xff80 : 0x7f81;
        check_load(bench, LORS_BF16, values, 67);
        values[at] = 0;
    }
}

/* Ranges that together are one tensor, in some order, count into the same findings. */
static void load_adds_to_its_findings(ops_bench *bench)
{
    enum { N = 20000, RANGE = 3000 };
    static const uint64_t starts[] = {0, 1, UINT64_C(1) << 33};
    uint16_t *codes = malloc(N * sizeof *codes);
    synth_stream stream = {31, 0};
    for (int round = 0; round < 6; round++) {
        uint64_t n_bad = 0, first = 0, start = starts[round % 3];
        for (uint64_t i = 0; i < N; i++) {
            bool bad = round < 5 && i > 900 && synth_below(&stream, 700) == 0;
            codes[i] = bad ? 0x7f80 : 0x3f80;
            first = bad && n_bad == 0 ? start + i : first;
            n_bad += bad;
        }
        lors_view from = ops_copy_of(bench, codes, N, 2), to = ops_buffer_of(bench, N, 4);
        lors_view found = ops_zeros(bench, 1, sizeof(lors_findings));
        int n_ranges = (N + RANGE - 1) / RANGE;
        for (int i = 0; i < n_ranges; i++) { /* 3 and 7 share no factor: each range once */
            uint64_t at = (uint64_t)(i * 3 % n_ranges) * RANGE;
            int64_t n = (int64_t)(N - at < RANGE ? N - at : RANGE);
            assert_ok(bench->ops->load(bench->queue, lors_view_at(to, 4 * at),
                                       lors_view_at(from, 2 * at), LORS_BF16, n, round % 2,
                                       start + at, found));
        }
        expect_findings(bench, found, n_bad, first);
        ops_clear(bench);
    }
    free(codes);
}

/* Nobody asks: the values are the same, and nothing else is written. */
static void load_needs_no_findings(ops_bench *bench)
{
    enum { N = 1000 };
    uint32_t bits[N];
    synth_stream stream = {17, 0};
    for (int i = 0; i < N; i++) {
        bits[i] = (uint32_t)synth_bits(&stream);
    }
    for (int d = 0; d < N_DTYPES; d++) {
        lors_view from = ops_copy_of(bench, bits, N, element_bytes(dtypes[d]));
        lors_view with = ops_buffer_of(bench, N, 4), without = ops_buffer_of(bench, N, 4);
        lors_view found = ops_zeros(bench, 1, sizeof(lors_findings));
        for (int zero = 0; zero < 2; zero++) {
            assert_ok(bench->ops->load(bench->queue, with, from, dtypes[d], N, zero, 0, found));
            assert_ok(bench->ops->load(bench->queue, without, from, dtypes[d], N, zero, 0,
                                       LORS_NO_VIEW));
            assert_memory_equal(ops_host(bench, with), ops_host(bench, without), N * 4);
        }
        ops_clear(bench);
    }
}

int main(void)
{
    static const ops_case cases[] = {
        {"load: every f16 and bf16", load_widens_every_half},
        {"load: special f32", load_copies_special_f32},
        {"load: any size, any bits", load_takes_any_size},
        {"load: a single value that is not finite", load_finds_a_single_nonfinite},
        {"load: several calls count into one", load_adds_to_its_findings},
        {"load: without findings", load_needs_no_findings},
    };
    return ops_run("convert", cases, sizeof cases / sizeof *cases);
}

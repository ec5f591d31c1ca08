/* test_convert.c - load and store: exact widening, one rounding, what is found and counted. */
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

/* --- load ------------------------------------------------------------------------------------- */

static void check_load_as(ops_bench *bench, lors_dtype dtype, const void *in, int64_t n, bool zero)
{
    lors_view from = ops_copy_of(bench, in, n, element_bytes(dtype));
    lors_view to = ops_buffer_of(bench, n, sizeof(float));
    lors_findings found = {0, 0};
    assert_ok(bench->ops->load(bench->backend, to, from, dtype, n, zero, &found));
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
    assert_int_equal(found.n_nonfinite, n_bad);
    if (n_bad > 0) {
        assert_int_equal(found.first_nonfinite, first);
    }
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

/* --- store ------------------------------------------------------------------------------------ */

static bool close_to(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fabs(b);
}

static void compare_block(const lors_store_block *got, const oracle_store *wanted)
{
    assert_int_equal(got->n_overflow, wanted->n_overflow);
    assert_int_equal(got->n_nan, wanted->n_nan);
    assert_int_equal(got->n_infinite, wanted->n_infinite);
    if (wanted->n_overflow + wanted->n_nan + wanted->n_infinite > 0) {
        assert_int_equal(got->first_bad, wanted->first_bad);
    }
    expect(close_to(got->update, wanted->update), "%a, not %a", got->update, wanted->update);
    expect(close_to(got->loss, wanted->loss), "%a, not %a", got->loss, wanted->loss);
}

static void check_store(ops_bench *bench, lors_dtype dtype, const double *acc, const float *base,
                        int64_t n, bool zero)
{
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
    lors_store_block *blocks = malloc((size_t)(n_blocks + 1) * sizeof *blocks);
    uint32_t *bits = malloc(LORS_BLOCK * sizeof *bits);
    memset(blocks, 0xee, (size_t)(n_blocks + 1) * sizeof *blocks);
    lors_store_block untouched = blocks[n_blocks];
    lors_view out = ops_buffer_of(bench, n, element_bytes(dtype));
    lors_view from = ops_copy_of(bench, acc, n, sizeof *acc);
    lors_view on = base ? ops_copy_of(bench, base, n, sizeof *base) : LORS_NO_VIEW;
    assert_ok(bench->ops->store(bench->backend, out, dtype, from, on, n, zero, blocks));
    for (int64_t b = 0; b < n_blocks; b++) {
        int64_t first = b * LORS_BLOCK, count = n - first < LORS_BLOCK ? n - first : LORS_BLOCK;
        oracle_store wanted = {.bits = bits};
        oracle_store_block(&wanted, dtype, acc + first, base ? base + first : NULL, count, zero);
        for (int64_t i = 0; i < count; i++) {
            uint32_t got = read_bits(dtype, ops_host(bench, out), first + i);
            expect(got == bits[i], "%s of %a + %a: %08x, not %08x", lors_dtype_name(dtype),
                   base ? (double)base[first + i] : 0.0, acc[first + i], (unsigned)got,
                   (unsigned)bits[i]);
        }
        compare_block(&blocks[b], &wanted);
    }
    assert_memory_equal(&blocks[n_blocks], &untouched, sizeof untouched);
    ops_record(bench, ops_host(bench, out), (size_t)n * element_bytes(dtype));
    for (int64_t b = 0; b < n_blocks; b++) {
        ops_record(bench, &blocks[b].update, sizeof(double));
        ops_record(bench, &blocks[b].loss, sizeof(double));
    }
    ops_clear(bench);
    free(blocks);
    free(bits);
}

static void store_all_ways(ops_bench *bench, lors_dtype dtype, const double *acc, int64_t n)
{
    check_store(bench, dtype, acc, NULL, n, false);
    check_store(bench, dtype, acc, NULL, n, true);
}

/* Each value, the midpoint to the next, and the f64 numbers right beside both. */
static void store_rounds_every_half(ops_bench *bench)
{
    double *values = malloc(6 * N_CODES * sizeof *values);
    for (int d = 1; d < N_DTYPES; d++) {
        int64_t n = 0;
        for (uint32_t code = 0; code < N_CODES; code++) {
            double value = oracle_widen(dtypes[d], code), next = oracle_widen(dtypes[d], code + 1);
            if (!isfinite(value)) {
                continue;
            }
            if (!isfinite(next)) { /* beyond the largest, what would come next */
                next = value + (value - oracle_widen(dtypes[d], code - 1));
            }
            double middle = value / 2 + next / 2;
            double group[] = {value,  nextafter(value, -INFINITY),  nextafter(value, INFINITY),
                              middle, nextafter(middle, -INFINITY), nextafter(middle, INFINITY)};
            memcpy(values + n, group, sizeof group);
            n += 6;
        }
        store_all_ways(bench, dtypes[d], values, n);
    }
    free(values);
}

/* What comes back from every half is that half; NaN comes back canonical. */
static void store_undoes_load(ops_bench *bench)
{
    double *values = malloc(N_CODES * sizeof *values);
    for (int d = 1; d < N_DTYPES; d++) {
        for (uint32_t code = 0; code < N_CODES; code++) {
            values[code] = oracle_widen(dtypes[d], code);
        }
        store_all_ways(bench, dtypes[d], values, N_CODES);
    }
    free(values);
}

/* Around random f32: ties, their neighbours, and values that rounding twice would get wrong. */
static void store_rounds_f32_once(ops_bench *bench)
{
    enum { N = 30000 };
    synth_stream stream = {5, 0};
    double *values = malloc((N + 3) * sizeof *values);
    for (int64_t i = 0; i < N; i += 3) {
        uint32_t bits = (uint32_t)synth_bits(&stream) & 0x7fffffff;
        bits = bits >= 0x7f800000 ? bits - 0x7f800000 : bits;
        double value = oracle_widen(LORS_F32, bits), next = oracle_widen(LORS_F32, bits + 1);
        double middle = isfinite(next) ? value / 2 + next / 2 : 0x1.ffffffp127;
        middle = i % 2 ? -middle : middle;
        values[i] = middle;
        values[i + 1] = nextafter(middle, -INFINITY);
        values[i + 2] = nextafter(middle, INFINITY);
    }
    for (int d = 0; d < N_DTYPES; d++) {
        store_all_ways(bench, dtypes[d], values, N);
    }
    free(values);
}

/* Just above a midpoint of f16 or bf16 by less than f32 can tell: f64 -> f32 -> half is wrong. */
static void store_does_not_round_twice(ops_bench *bench)
{
    static const double values[] = {
        1 + 0x1p-11 + 0x1p-40,  -1 - 0x1p-11 - 0x1p-50, 1 + 0x3p-11 - 0x1p-40,
        1 + 0x1p-8 + 0x1p-40,   1 + 0x3p-8 - 0x1p-45,   65520 - 0x1p-30,
        -65520,                 65519.996,              65504,
        0x1p-25,                0x1p-25 + 0x1p-70,      0x3p-25,
        0x3p-25 - 0x1p-60,      0x1p-134,               0x1p-134 + 0x1p-180,
        0x3p-134 - 0x1p-180,    0x1p-150,               0x1.000001p-150,
        0x1.fffffefp127,        0x1.ffffffp127,         0x1.fefffffp127,
        0x1.ffp127,             0x1p-1074,              -0x1p-1074,
        0x1p-1022,              1e300,                  -0x1.fffffffffffffp1023,
        0x1p128,                0x1p199,                0x1p200,
        0x1p201,                0.0,                    -0.0,
        INFINITY,               -INFINITY,              NAN,
    };
    for (int d = 0; d < N_DTYPES; d++) {
        store_all_ways(bench, dtypes[d], values, sizeof values / sizeof *values);
    }
}

static void store_adds_to_the_base(ops_bench *bench)
{
    enum { N = 20000 };
    double *acc = malloc(N * sizeof *acc);
    float *base = malloc(N * sizeof *base), *update = malloc(N * sizeof *update);
    synth_values(base, N, 0.02, 3);
    synth_values(update, N, 1e-3, 4);
    for (int64_t i = 0; i < N; i++) {
        acc[i] = i % 5 == 0 ? 0.0 : i % 5 == 1 ? -0.0 : (double)update[i] / 3;
        base[i] = i % 7 == 0 ? -0.0f : base[i];
    }
    for (int d = 0; d < N_DTYPES; d++) {
        for (int s = 0; s < N_SIZES; s++) {
            check_store(bench, dtypes[d], acc, base, sizes[s], false);
            check_store(bench, dtypes[d], acc, NULL, sizes[s], false);
        }
    }
    free(acc);
    free(base);
    free(update);
}

/* Every special base with every special update. */
static void store_meets_special_values(ops_bench *bench)
{
    int64_t n = synth_special_n * synth_special_n;
    double *acc = malloc((size_t)n * sizeof *acc);
    uint32_t *base = malloc((size_t)n * sizeof *base);
    for (int64_t i = 0; i < n; i++) {
        base[i] = synth_special[i / synth_special_n];
        acc[i] = oracle_widen(LORS_F32, synth_special[i % synth_special_n]);
    }
    for (int d = 0; d < N_DTYPES; d++) {
        check_store(bench, dtypes[d], acc, (const float *)base, n, false);
        check_store(bench, dtypes[d], acc, (const float *)base, n, true);
    }
    free(acc);
    free(base);
}

/* One bad result in three blocks; each place near an edge in turn, each of the three kinds. */
static void store_finds_a_single_bad_result(ops_bench *bench)
{
    enum { N = 2 * LORS_BLOCK + 100 };
    static const int64_t places[] = {0, 1, 1023, 1024, LORS_BLOCK - 1, LORS_BLOCK,
                                     LORS_BLOCK + 1025, 2 * LORS_BLOCK, N - 1};
    static const double kinds[] = {NAN, INFINITY, -1e39};
    double *acc = calloc(N, sizeof *acc);
    float *base = malloc(N * sizeof *base);
    synth_values(base, N, 1, 9);
    for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
        acc[places[p]] = kinds[p % 3];
        for (int d = 0; d < N_DTYPES; d++) {
            check_store(bench, dtypes[d], acc, base, N, p % 2 == 0);
        }
        acc[places[p]] = 0;
    }
    free(acc);
    free(base);
}

/* Pieces of LORS_BLOCK give the same bytes and blocks as one call. */
static void store_does_not_depend_on_the_split(ops_bench *bench)
{
    enum { N = 20000, BLOCKS = 3 };
    lors_store_block whole[BLOCKS], split[BLOCKS];
    float *base = malloc(N * sizeof *base);
    double *update = malloc(N * sizeof *update);
    synth_values(base, N, 1, 21);
    synth_stream stream = {22, 0};
    for (int64_t i = 0; i < N; i++) {
        update[i] = synth_normal(&stream);
    }
    for (int d = 0; d < N_DTYPES; d++) {
        size_t size = element_bytes(dtypes[d]);
        lors_view a = ops_copy_of(bench, update, N, 8), b = ops_copy_of(bench, base, N, 4);
        lors_view one = ops_buffer_of(bench, N, size), many = ops_buffer_of(bench, N, size);
        assert_ok(bench->ops->store(bench->backend, one, dtypes[d], a, b, N, false, whole));
        for (int64_t first = 0, i = 0; first < N; first += LORS_BLOCK, i++) {
            int64_t n = N - first < LORS_BLOCK ? N - first : LORS_BLOCK;
            uint64_t at = (uint64_t)first;
            assert_ok(bench->ops->store(bench->backend, lors_view_at(many, at * size), dtypes[d],
                                        lors_view_at(a, at * 8), lors_view_at(b, at * 4), n, false,
                                        &split[i]));
        }
        assert_memory_equal(ops_host(bench, one), ops_host(bench, many), N * size);
        assert_memory_equal(whole, split, sizeof whole);
        ops_clear(bench);
    }
    free(base);
    free(update);
}

int main(void)
{
    static const ops_case cases[] = {
        {"load: every f16 and bf16", load_widens_every_half},
        {"load: special f32", load_copies_special_f32},
        {"load: any size, any bits", load_takes_any_size},
        {"load: a single value that is not finite", load_finds_a_single_nonfinite},
        {"store: every f16 and bf16, and what lies between", store_rounds_every_half},
        {"store: undoes load", store_undoes_load},
        {"store: f32, ties and neighbours", store_rounds_f32_once},
        {"store: one rounding, not two", store_does_not_round_twice},
        {"store: base + acc, any size", store_adds_to_the_base},
        {"store: special base and update", store_meets_special_values},
        {"store: a single bad result", store_finds_a_single_bad_result},
        {"store: any split at blocks", store_does_not_depend_on_the_split},
    };
    return ops_run("convert", cases, sizeof cases / sizeof *cases);
}

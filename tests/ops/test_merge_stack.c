/* test_merge_stack.c - merge: what load, compare, accumulate and store give, to the bit. */
#include "ops_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/arithmetic.h"
#include "backend/merge_by_parts.h"

enum { MAX_MODELS = 12, N_KINDS = 9, N_WEIGHTS = 10 };

static const lors_dtype dtypes[] = {LORS_F16, LORS_BF16, LORS_F32};

/* What the operands are. */
typedef enum sample_kind {
    FINE_TUNES, /* a base of 0.02, task vectors of 1e-3 to 1e-6 */
    COARSE,     /* task vectors of a few units in the last place: sums that lie on midpoints */
    EQUAL,      /* all models equal, in part equal to the base */
    ZEROS,      /* zeros of both signs, here and there something else */
    ANY_BITS,   /* any finite bits: all magnitudes, subnormals too */
    LARGE,      /* near the end of the range */
    TINY,       /* near its beginning */
    NOT_FINITE, /* a few values that are not */
    ALMOST_BASE /* one element of one model differs */
} sample_kind;

typedef struct sample {
    sample_kind kind;
    lors_dtype in, out;
    int64_t n;
    int32_t n_models;
    bool has_base, keeps_equal, normalizes, zero;
    double weights[MAX_MODELS], scale;
    uint64_t seed;
} sample;

typedef struct result {
    lors_view out, findings, differs, blocks;
} result;

static uint32_t word(const sample *s, int32_t k, int64_t i)
{
    return lors_philox_at(s->seed + 77u * (uint64_t)(k + 2), (uint64_t)i / 4, 0).word[i % 4];
}

static double unit(const sample *s, int32_t k, int64_t i)
{
    return (double)word(s, k, i) * 0x1p-31 - 1;
}

static uint32_t bits_of(lors_dtype dtype, double x)
{
    return dtype == LORS_F32   ? lors_bits_of((float)x)
           : dtype == LORS_F16 ? lors_f16_bits(lors_round_f16(x))
                               : lors_bf16_bits(lors_round_bf16(x));
}

static uint32_t special_bits(lors_dtype dtype, uint32_t which)
{
    static const double values[] = {NAN, INFINITY, -INFINITY};
    return bits_of(dtype, values[which % 3]);
}

/* Any bits but those of an infinity or NaN. */
static uint32_t any_bits(lors_dtype dtype, uint32_t bits)
{
    uint32_t width = dtype == LORS_F32 ? 0xffffffffu : 0xffffu;
    uint32_t exponent = dtype == LORS_F32 ? 0x7f800000u : dtype == LORS_F16 ? 0x7c00u : 0x7f80u;
    bits &= width;
    return (bits & exponent) == exponent ? bits & ~(exponent & (exponent >> 1)) : bits;
}

/* Bits of element i of model k; k = -1: the base. */
static uint32_t value_of(const sample *s, int32_t k, int64_t i)
{
    double base = unit(s, -1, i) * 0.05, step = s->in == LORS_BF16 ? 0x1p-12 : 0x1p-15;
    switch (s->kind) {
    case COARSE:
        return bits_of(s->in, base + (k < 0 ? 0 : step * (double)(word(s, k, i) % 5) - 2 * step));
    case EQUAL: return bits_of(s->in, k < 0 || i % 3 == 0 ? base : base + unit(s, 0, i) * 1e-2);
    case ZEROS:
        return bits_of(s->in, word(s, k, i) % 7 == 0 ? base : word(s, k, i) & 8 ? -0.0 : 0.0);
    case ANY_BITS: return any_bits(s->in, word(s, k, i));
    case LARGE: return bits_of(s->in, unit(s, -1, i) * (s->in == LORS_F16 ? 65504 : 3e38));
    case TINY: return any_bits(s->in, word(s, k, i) & (s->in == LORS_F32 ? 0x80ffffffu : 0x81ffu));
    case NOT_FINITE:
        return word(s, k, i) % 3000 == 1 ? special_bits(s->in, word(s, k, i) / 3000)
                                         : bits_of(s->in, base);
    case ALMOST_BASE: return bits_of(s->in, k == 0 && i == s->n - 1 ? base + 1 : base);
    default:
        return bits_of(s->in, base + (k < 0 ? 0 : unit(s, k, i) * pow(10, -3 - (double)(i % 4))));
    }
}

static size_t bytes_of(lors_dtype dtype)
{
    return dtype == LORS_F32 ? 4 : 2;
}

static lors_view operand_of(ops_bench *bench, const sample *s, int32_t k)
{
    size_t each = bytes_of(s->in);
    unsigned char *bytes = malloc((size_t)s->n * each + 1);
    for (int64_t i = 0; i < s->n; i++) {
        uint32_t bits = value_of(s, k, i);
        uint16_t half = (uint16_t)bits;
        memcpy(bytes + (size_t)i * each, each == 4 ? (void *)&bits : (void *)&half, each);
    }
    lors_view view = ops_copy_of(bench, bytes, s->n, each);
    free(bytes);
    return view;
}

static lors_merge merge_of(ops_bench *bench, const sample *s, lors_operand *operands)
{
    double total = 0;
    for (int32_t k = -1; k < s->n_models; k++) {
        operands[k + 1] = (lors_operand){.in = operand_of(bench, s, k), .dtype = s->in};
        total += k < 0 ? 0 : s->weights[k];
    }
    int64_t stride = s->n + 3;
    lors_view stack = ops_buffer_of(bench, s->n_models * stride + 1, sizeof(float));
    lors_view base = ops_buffer_of(bench, s->n, sizeof(float));
    return (lors_merge){.base = s->has_base ? operands : NULL,
                        .models = operands + 1,
                        .base_values = base,
                        .sum = {.stack = stack,
                                .base = s->has_base ? base : LORS_NO_VIEW,
                                .stride = stride,
                                .n_models = s->n_models,
                                .weights = s->weights,
                                .divisor = s->normalizes ? LORS_DIVIDE_CONSTANT : LORS_DIVIDE_NOT,
                                .divisor_value = total,
                                .scale = s->scale},
                        .store = {.dtype = s->out,
                                  .acc = ops_buffer_of(bench, s->n, sizeof(double)),
                                  .base = s->has_base ? base : LORS_NO_VIEW,
                                  .stack = s->keeps_equal ? stack : LORS_NO_VIEW,
                                  .stride = stride,
                                  .n_models = s->n_models,
                                  .zero_nonfinite = s->zero},
                        .first = 8192};
}

/* Views of its own for what the operation finds. */
static result result_of(ops_bench *bench, const sample *s, lors_merge *m, lors_operand *operands)
{
    int64_t n_blocks = (s->n + LORS_BLOCK - 1) / LORS_BLOCK;
    result r = {ops_buffer_of(bench, s->n, bytes_of(s->out)),
                ops_zeros(bench, s->n_models + 1, sizeof(lors_findings)),
                ops_zeros(bench, s->n_models + 1, sizeof(uint32_t)),
                ops_buffer_of(bench, n_blocks, sizeof(lors_store_block))};
    for (int32_t k = 0; k <= s->n_models; k++) {
        operands[k].findings = lors_view_at(r.findings, (uint64_t)k * sizeof(lors_findings));
        operands[k].differs = k > 0 && s->has_base
                                  ? lors_view_at(r.differs, (uint64_t)k * sizeof(uint32_t))
                                  : LORS_NO_VIEW;
    }
    m->store.blocks = r.blocks;
    return r;
}

static bool near(double got, double wanted, double allowed)
{
    return got == wanted || (isnan(got) && isnan(wanted)) || fabs(got - wanted) <= allowed;
}

/* `size`: sum of squares of the results where there is no base, else 0. */
static void compare_blocks(const lors_store_block *got, const lors_store_block *wanted, double size)
{
    assert_int_equal(got->n_overflow, wanted->n_overflow);
    assert_int_equal(got->n_nan, wanted->n_nan);
    assert_int_equal(got->n_infinite, wanted->n_infinite);
    if (wanted->n_overflow + wanted->n_nan + wanted->n_infinite > 0) {
        assert_int_equal(got->first_bad, wanted->first_bad);
    }
    expect(near(got->update, wanted->update, 1e-5 * wanted->update), "update %a, not %a",
           got->update, wanted->update);
    expect(near(got->loss, wanted->loss,
                1e-3 * wanted->loss + 1e-6 * wanted->update + 1e-9 * size + 1e-60),
           "loss %a, not %a", got->loss, wanted->loss);
}

static double size_of_block(const sample *s, const void *out, int64_t block)
{
    double sum = 0;
    int64_t end = (block + 1) * LORS_BLOCK;
    for (int64_t i = block * LORS_BLOCK; i < (end < s->n ? end : s->n); i++) {
        uint32_t bits =
            s->out == LORS_F32 ? ((const uint32_t *)out)[i] : ((const uint16_t *)out)[i];
        bits = s->out == LORS_F32   ? bits
               : s->out == LORS_F16 ? lors_widen_f16((uint16_t)bits)
                                    : lors_widen_bf16((uint16_t)bits);
        double x = lors_float_of(bits);
        sum += isfinite(x) ? x * x : 0;
    }
    return sum;
}

static void check_sample(ops_bench *bench, const sample *s)
{
    lors_operand operands[MAX_MODELS + 1];
    lors_merge m = merge_of(bench, s, operands);
    result wanted = result_of(bench, s, &m, operands);
    assert_ok(lors_merge_by_parts(bench->ops, bench->queue, wanted.out, &m, 0, s->n));
    result got = result_of(bench, s, &m, operands);
    assert_ok(bench->ops->merge(bench->queue, got.out, &m, s->n));
    size_t each = bytes_of(s->out);
    const unsigned char *out = ops_host(bench, got.out), *right = ops_host(bench, wanted.out);
    for (int64_t i = 0; i < s->n; i++) {
        expect(memcmp(out + (size_t)i * each, right + (size_t)i * each, each) == 0,
               "kind %d %s to %s, %d models, base %d, element %lld", (int)s->kind,
               lors_dtype_name(s->in), lors_dtype_name(s->out), s->n_models, s->has_base,
               (long long)i);
    }
    size_t n = (size_t)s->n_models + 1;
    assert_memory_equal(ops_host(bench, got.findings), ops_host(bench, wanted.findings),
                        n * sizeof(lors_findings));
    assert_memory_equal(ops_host(bench, got.differs), ops_host(bench, wanted.differs),
                        n * sizeof(uint32_t));
    for (int64_t b = 0; b * LORS_BLOCK < s->n; b++) {
        compare_blocks((const lors_store_block *)ops_host(bench, got.blocks) + b,
                       (const lors_store_block *)ops_host(bench, wanted.blocks) + b,
                       s->has_base ? 0 : size_of_block(s, right, b));
    }
    ops_record(bench, out, (size_t)s->n * each);
    ops_clear(bench);
}

/* Weights that sum to 1, decimal ones, negative ones, one that is 0, some far apart, and such that
 * products leave the range where f64 is precise, or squares that of f32. */
static void set_weights(sample *s, int which)
{
    s->scale = which % 2 == 0 ? 1 : 0.3;
    s->normalizes = (which == 3 || which == 7) && s->n_models > 0;
    s->keeps_equal = which == 0 || which == 2;
    for (int32_t k = 0; k < s->n_models; k++) {
        double decimal = 0.1 * (k + 1);
        s->weights[k] = which == 0   ? 1.0 / s->n_models
                        : which == 1 ? decimal
                        : which == 2 ? 1
                        : which == 3 ? decimal
                        : which == 4 ? (k % 2 ? -decimal : decimal)
                        : which == 5 ? (k == 1 ? 0 : 1)
                        : which == 6 ? pow(2, 20 * (k % 3) - 20)
                        : which == 7 ? 1e-319 * (k + 1)
                        : which == 8 ? 0x1p-55
                                     : ldexp(k + 1, -1040);
    }
    if (which == 9) {
        s->scale = 0x1p1023;
    }
    if (which == 2) {
        s->scale = 1.0 / (s->n_models > 0 ? s->n_models : 1);
    }
}

static void check_kind(ops_bench *bench, sample_kind kind)
{
    static const int64_t sizes[] = {16, 8192, 8192 + 48, 1, 37};
    static const int32_t models[] = {5, 1, 2, 12, 0};
    int tried = 0;
    for (int in = 0; in < 3; in++) {
        for (int out = 0; out < 3; out++) {
            for (int which = 0; which < N_WEIGHTS; which++, tried++) {
                sample s = {.kind = kind,
                            .in = dtypes[in],
                            .out = dtypes[out],
                            .n = sizes[(2 * in + out + which + (int)kind) % 5],
                            .n_models = models[(in + 2 * out + 3 * which + (int)kind) % 5],
                            .zero = tried % 4 == 1,
                            .seed = 1000u * (uint64_t)kind + (uint64_t)tried};
                set_weights(&s, which);
                /* Models that agree are what they are, whatever the weights. */
                s.keeps_equal = s.keeps_equal || (tried + (int)kind) % 3 == 1;
                for (int base = 0; base < 2; base++) {
                    s.has_base = base == 1;
                    s.keeps_equal = s.keeps_equal && s.n_models > 0;
                    check_sample(bench, &s);
                }
            }
        }
    }
}

static void merge_gives_what_its_parts_give(ops_bench *bench)
{
    for (int kind = 0; kind < N_KINDS; kind++) {
        check_kind(bench, (sample_kind)kind);
    }
}

/* Halves of each sign in the middle between two stored values, and right beside. */
static void merge_decides_at_midpoints(ops_bench *bench)
{
    for (uint64_t seed = 0; seed < (bench->emulated ? 2u : 40u); seed++) {
        for (int d = 0; d < 3; d++) {
            sample s = {.kind = COARSE,
                        .in = dtypes[d],
                        .out = dtypes[d],
                        .n = 8192,
                        .n_models = 2 + (int32_t)(seed % 9),
                        .has_base = seed % 3 != 0,
                        .seed = 90000 + seed};
            set_weights(&s, (int)(seed % 2));
            check_sample(bench, &s);
        }
    }
}

/* Operands of two types are merged, too, and models of no weight are looked at. */
static void merge_takes_mixed_types(ops_bench *bench)
{
    sample s = {.kind = FINE_TUNES,
                .in = LORS_F32,
                .out = LORS_F16,
                .n = 8192 + 16,
                .n_models = 3,
                .has_base = true,
                .seed = 5};
    lors_operand operands[MAX_MODELS + 1];
    set_weights(&s, 1);
    lors_merge m = merge_of(bench, &s, operands);
    sample half = s;
    half.in = LORS_F16;
    operands[2] = (lors_operand){.in = operand_of(bench, &half, 1), .dtype = LORS_F16};
    result wanted = result_of(bench, &s, &m, operands);
    assert_ok(lors_merge_by_parts(bench->ops, bench->queue, wanted.out, &m, 0, s.n));
    result got = result_of(bench, &s, &m, operands);
    assert_ok(bench->ops->merge(bench->queue, got.out, &m, s.n));
    assert_memory_equal(ops_host(bench, got.out), ops_host(bench, wanted.out), (size_t)s.n * 2);
    ops_clear(bench);
}

int main(void)
{
    static const ops_case cases[] = {
        {"merge gives what its parts give", merge_gives_what_its_parts_give},
        {"merge decides at midpoints", merge_decides_at_midpoints},
        {"merge takes mixed types", merge_takes_mixed_types},
    };
    return ops_run("merge", cases, sizeof cases / sizeof *cases);
}

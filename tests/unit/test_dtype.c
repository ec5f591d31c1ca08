/* test_dtype.c - element types by name; conversions against exact arithmetic and the processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "base/rng.h"

static void types_are_found_by_name(void **state)
{
    (void)state;
    lors_dtype dtype;
    for (int i = 0; i < LORS_DTYPE_COUNT; i++) {
        const char *name = lors_dtype_name((lors_dtype)i);
        dtype = LORS_DTYPE_COUNT;
        assert_true(lors_dtype_find(name, strlen(name), &dtype));
        assert_int_equal(dtype, i);
        assert_false(lors_dtype_find(name, strlen(name) - 1, &dtype) && (int)dtype == i);
    }
    assert_false(lors_dtype_find("bf16", 4, &dtype));
    assert_false(lors_dtype_find("", 0, &dtype));
    assert_false(lors_dtype_find("F32\0", 4, &dtype));
    assert_int_equal(lors_dtype_bits(LORS_F4), 4);
    assert_int_equal(lors_dtype_bits(LORS_BF16), 16);
    assert_int_equal(lors_dtype_bits(LORS_U64), 64);
    assert_true(lors_dtype_is_float(LORS_F64));
    assert_false(lors_dtype_is_float(LORS_I64));
    assert_true(lors_dtype_merges(LORS_F16) && lors_dtype_merges(LORS_F32));
    assert_true(lors_dtype_merges(LORS_BF16));
    assert_false(lors_dtype_merges(LORS_F64));
    static const int none[] = {-1, LORS_DTYPE_COUNT, 1000}; /* of no type */
    for (int i = 0; i < 3; i++) {
        assert_string_equal(lors_dtype_name((lors_dtype)none[i]), "unknown");
        assert_int_equal(lors_dtype_bits((lors_dtype)none[i]), 0);
        assert_false(lors_dtype_is_float((lors_dtype)none[i]));
    }
}

static void types_are_found_by_word(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        lors_dtype dtype;
    } cases[] = {
        {"f32", LORS_F32},   {"Float32", LORS_F32},   {"torch.float32", LORS_F32},
        {"F16", LORS_F16},   {"float16", LORS_F16},   {"half", LORS_F16},
        {"BF16", LORS_BF16}, {"bfloat16", LORS_BF16}, {"torch.bfloat16", LORS_BF16},
    };
    lors_dtype dtype = LORS_U8;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(lors_dtype_parse_word(cases[i].word, &dtype));
        assert_int_equal(dtype, cases[i].dtype);
    }
    dtype = LORS_U8;
    assert_false(lors_dtype_parse_word("", &dtype));
    assert_false(lors_dtype_parse_word("torch.", &dtype));
    assert_false(lors_dtype_parse_word("f64", &dtype));
    assert_false(lors_dtype_parse_word("f32 ", &dtype));
    assert_int_equal(dtype, LORS_U8);
}

/* ---- A slow reference: the formats as lists of their values, in exact f64 ------------------- */

typedef struct format {
    int n_fraction, least_exponent; /* 2^least_exponent is the least subnormal */
    uint16_t infinity, nan;
    uint16_t (*narrow)(double);
    float (*widen)(uint16_t);
} format;

static const format f16 = {10, -24, 0x7c00, LORS_F16_NAN, lors_f64_to_f16, lors_f16_to_f32};
static const format bf16 = {7, -133, 0x7f80, LORS_BF16_NAN, lors_f64_to_bf16, lors_bf16_to_f32};

/* The value of a code from 0 to infinity; infinity counts as the next power of two. */
static double value_of(const format *f, uint16_t code)
{
    int exponent = code >> f->n_fraction, fraction = code & ((1 << f->n_fraction) - 1);
    if (exponent == 0) {
        return ldexp(fraction, f->least_exponent);
    }
    return ldexp((1 << f->n_fraction) + fraction, f->least_exponent + exponent - 1);
}

/* Nearest code by search among the values; midpoints are exact in f64; ties to the even code. */
static uint16_t nearest_code(const format *f, double x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double magnitude = fabs(x);
    uint16_t low = 0, high = f->infinity;
    if (magnitude >= value_of(f, high)) {
        return sign | high;
    }
    while (high - low > 1) { /* value(low) <= magnitude < value(high) */
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (value_of(f, middle) <= magnitude) {
            low = middle;
        } else {
            high = middle;
        }
    }
    double middle = (value_of(f, low) + value_of(f, high)) / 2;
    bool up = magnitude > middle || (magnitude == middle && low % 2 == 1);
    return sign | (up ? high : low);
}

static void expect_code(const format *f, double x, uint16_t code)
{
    if (f->narrow(x) != code) {
        fail_msg("%a became %04x instead of %04x", x, f->narrow(x), code);
    }
}

static void all_codes_round_trip(void **state)
{
    const format *f = *state;
    for (uint32_t i = 0; i <= 0xffff; i++) {
        uint16_t code = (uint16_t)i, magnitude = code & 0x7fff;
        float wide = f->widen(code);
        if (magnitude > f->infinity) {
            assert_int_equal(lors_f32_bits(wide), LORS_F32_NAN);
            assert_int_equal(f->narrow(wide), f->nan);
            continue;
        }
        double value = magnitude == f->infinity ? HUGE_VAL : value_of(f, magnitude);
        assert_true(wide == (code & 0x8000 ? -value : value));
        assert_int_equal(signbit(wide) != 0, code >> 15);
        expect_code(f, wide, code);
    }
}

static void all_midpoints_round_to_even(void **state)
{
    const format *f = *state;
    for (uint16_t low = 0; low < f->infinity; low++) {
        uint16_t high = (uint16_t)(low + 1), even = low % 2 == 0 ? low : high;
        double middle = (value_of(f, low) + value_of(f, high)) / 2;
        double x[] = {middle, nextafter(middle, 0), nextafter(middle, HUGE_VAL)};
        uint16_t expected[] = {even, low, high};
        for (int i = 0; i < 3; i++) {
            assert_int_equal(nearest_code(f, x[i]), expected[i]); /* the reference itself */
            expect_code(f, x[i], expected[i]);
            expect_code(f, -x[i], 0x8000 | expected[i]);
        }
        double v = value_of(f, low);
        expect_code(f, nextafter(v, HUGE_VAL), low);
        expect_code(f, nextafter(v, 0), low);
    }
}

/* Random f64 of any exponent that matters, and of any bits at all. */
static double random_double(uint64_t i, int least, int range)
{
    lors_philox r = lors_philox_at(2024, i, 0);
    uint64_t bits = (uint64_t)r.word[0] << 32 | r.word[1];
    double x;
    if (i % 4 != 0) {
        uint64_t exponent = (uint64_t)(1023 + least + (int)(r.word[2] % (uint32_t)range));
        bits = (bits & 0x800fffffffffffffu) | exponent << 52;
        bits &= i % 4 == 1 ? ~(uint64_t)0 << (r.word[3] % 52) : ~(uint64_t)0; /* many ties */
    }
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void random_values_round_like_the_reference(void **state)
{
    const format *f = *state;
    for (uint64_t i = 0; i < 1000000; i++) {
        double x = random_double(i, f->least_exponent - 3, f == &f16 ? 45 : 270);
        expect_code(f, x, isnan(x) ? f->nan : nearest_code(f, x));
    }
}

static void known_values(void **state)
{
    (void)state;
    double least = nextafter(0, 1), largest = 0x1.fffffffffffffp1023;
    assert_int_equal(lors_f64_to_f16(65504), 0x7bff);
    assert_int_equal(lors_f64_to_f16(65519.996), 0x7bff);
    assert_int_equal(lors_f64_to_f16(65520), 0x7c00);
    assert_int_equal(lors_f64_to_f16(-65520), 0xfc00);
    assert_int_equal(lors_f64_to_f16(1 + 0x1p-11 + 0x1p-40), 0x3c01); /* by way of f32: 3c00 */
    assert_int_equal(lors_f64_to_f16(0x1p-25), 0);
    assert_int_equal(lors_f64_to_f16(0x1.0000000000001p-25), 1);
    assert_int_equal(lors_f64_to_f16(-0x1p-25), 0x8000);
    assert_int_equal(lors_f64_to_bf16(lors_f32_from_bits(0x7f7fffff)), 0x7f80);
    assert_int_equal(lors_f64_to_bf16(0x1.fep127), 0x7f7f);
    assert_int_equal(lors_f64_to_f32_bits(0x1.fffffefffffffp127), 0x7f7fffff);
    assert_int_equal(lors_f64_to_f32_bits(0x1.ffffffp127), 0x7f800000);
    const double extremes[] = {0, least, 0x1p-1022, largest, HUGE_VAL};
    const uint16_t f16_codes[] = {0, 0, 0, 0x7c00, 0x7c00};
    const uint16_t bf16_codes[] = {0, 0, 0, 0x7f80, 0x7f80};
    for (int i = 0; i < 5; i++) {
        expect_code(&f16, extremes[i], f16_codes[i]);
        expect_code(&f16, -extremes[i], 0x8000 | f16_codes[i]);
        expect_code(&bf16, extremes[i], bf16_codes[i]);
        expect_code(&bf16, -extremes[i], 0x8000 | bf16_codes[i]);
    }
    const uint64_t nans[] = {0x7ff0000000000001, 0x7ff8000000000000, 0xffffffffffffffff};
    for (int i = 0; i < 3; i++) { /* signalling, quiet, negative with payload */
        double nan;
        memcpy(&nan, &nans[i], sizeof nan);
        assert_int_equal(lors_f64_to_f16(nan), LORS_F16_NAN);
        assert_int_equal(lors_f64_to_bf16(nan), LORS_BF16_NAN);
        assert_int_equal(lors_f64_to_f32_bits(nan), LORS_F32_NAN);
    }
}

/* The cast of the processor, in its default mode, is the reference for f32. */
static void f32_rounds_like_the_processor(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 4000000; i++) {
        double x = random_double(i, -153, 285);
        bool overflow = fabs(x) >= 0x1.ffffffp127; /* a cast there is undefined in C */
        uint32_t infinity = 0x7f800000u | (signbit(x) ? 0x80000000u : 0);
        uint32_t expected = overflow ? infinity : lors_f32_bits((float)x);
        expected = isnan(x) ? LORS_F32_NAN : expected;
        if (lors_f64_to_f32_bits(x) != expected) {
            fail_msg("%a became %08x instead of %08x", x, lors_f64_to_f32_bits(x), expected);
        }
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("f16c"))) static uint16_t f16c_narrow(float x)
{
    return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), 0), 0);
}

__attribute__((target("f16c"))) static float f16c_widen(uint16_t code)
{
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(code)));
}

static void f16_is_what_the_processor_says(void **state)
{
    (void)state;
    if (!__builtin_cpu_supports("avx2")) { /* every such processor has f16c; clang cannot ask */
        skip();
    }
    for (uint32_t code = 0; code <= 0xffff; code++) {
        float wide = f16c_widen((uint16_t)code);
        uint32_t expected = isnan(wide) ? LORS_F32_NAN : lors_f32_bits(wide);
        assert_int_equal(lors_f32_bits(lors_f16_to_f32((uint16_t)code)), expected);
    }
    for (uint64_t bits = 0; bits <= 0xffffffff; bits += 251) {
        float x = lors_f32_from_bits((uint32_t)bits);
        uint16_t expected = isnan(x) ? LORS_F16_NAN : f16c_narrow(x);
        if (lors_f64_to_f16(x) != expected) {
            fail_msg("%a became %04x instead of %04x", (double)x, lors_f64_to_f16(x), expected);
        }
    }
}
#else
static void f16_is_what_the_processor_says(void **state)
{
    (void)state;
    skip();
}
#endif

/* _Float16 of the compiler, a third opinion that also rounds straight from f64. */
static void f16_is_what_the_compiler_says(void **state)
{
    (void)state;
#if defined(__FLT16_MANT_DIG__) && defined(__x86_64__) && !defined(__clang__)
    for (uint64_t i = 0; i < 2000000; i++) {
        double x = random_double(i, -28, 46);
        __extension__ _Float16 half = (_Float16)x;
        uint16_t expected;
        memcpy(&expected, &half, sizeof expected);
        expect_code(&f16, x, isnan(x) ? LORS_F16_NAN : expected);
    }
#else
    skip();
#endif
}

typedef struct spoilt {
    lors_dtype dtype;
    uint64_t good, infinite, nan; /* the largest number, and what lies above it */
} spoilt;

/* Of n elements the ones at `inf` and `nan` (n: none) are not finite. */
static void expect_nonfinite(const spoilt *row, bool zero, uint64_t n, uint64_t inf, uint64_t nan)
{
    enum { MOST = 200 };
    static _Alignas(8) unsigned char values[8 * MOST], meant[8 * MOST];
    size_t n_bytes = (size_t)lors_dtype_bits(row->dtype) / 8;
    bool floating = lors_dtype_is_float(row->dtype);
    uint64_t first = n, n_expected = 0;
    assert_true(n <= MOST);
    for (size_t i = 0; i < n; i++) { /* little-endian */
        bool bad = floating && (i == inf || i == nan);
        uint64_t bits = i == inf ? row->infinite : i == nan ? row->nan : row->good;
        memcpy(values + i * n_bytes, &bits, n_bytes);
        bits = zero && bad ? 0 : bits;
        memcpy(meant + i * n_bytes, &bits, n_bytes);
        n_expected += bad;
    }
    assert_int_equal(lors_dtype_nonfinite(row->dtype, values, n, zero, &first), n_expected);
    assert_int_equal(first, n_expected == 0 ? n : inf < nan ? inf : nan);
    assert_memory_equal(values, meant, n * n_bytes);
}

static void test_nonfinite(void **state)
{
    static const spoilt rows[] = {
        {LORS_F16, 0x7bff, 0xfc00, 0x7c01},
        {LORS_BF16, 0x7f7f, 0xff80, 0x7f81},
        {LORS_F32, 0x7f7fffff, 0xff800000, 0x7f800001},
        {LORS_F64, 0x7fefffffffffffff, 0xfff0000000000000, 0x7ff0000000000001},
        {LORS_F8_E5M2, 0x7b, 0xfc, 0x7d},
        {LORS_F8_E4M3, 0x7e, 0xff, 0x7f}, /* which has no infinity */
        {LORS_F8_E8M0, 0xfe, 0xff, 0xff},
        {LORS_F8_E4M3FNUZ, 0xff, 0x80, 0x80},
        {LORS_F8_E5M2FNUZ, 0x7f, 0x80, 0x80},
        {LORS_C64, 0, 0xff80000000000000, 0x7f800001}, /* one part of two, the other 0 */
        {LORS_I16, 0x7fff, 0x7fff, 0x7fff},
        {LORS_U8, 0xff, 0xff, 0xff}};
    static const uint64_t sizes[] = {0, 1, 10, 63, 64, 65, 128, 200};
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (uint64_t at = 0; at <= sizes[s]; at++) {
                expect_nonfinite(&rows[r], false, sizes[s], at, sizes[s]);
                expect_nonfinite(&rows[r], true, sizes[s], at, sizes[s] / 2);
                expect_nonfinite(&rows[r], true, sizes[s], sizes[s], at);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(types_are_found_by_name),
        cmocka_unit_test(types_are_found_by_word),
        cmocka_unit_test(known_values),
        {"f16: all codes", all_codes_round_trip, NULL, NULL, (void *)&f16},
        {"bf16: all codes", all_codes_round_trip, NULL, NULL, (void *)&bf16},
        {"f16: all midpoints", all_midpoints_round_to_even, NULL, NULL, (void *)&f16},
        {"bf16: all midpoints", all_midpoints_round_to_even, NULL, NULL, (void *)&bf16},
        {"f16: random", random_values_round_like_the_reference, NULL, NULL, (void *)&f16},
        {"bf16: random", random_values_round_like_the_reference, NULL, NULL, (void *)&bf16},
        cmocka_unit_test(f32_rounds_like_the_processor),
        cmocka_unit_test(f16_is_what_the_processor_says),
        cmocka_unit_test(f16_is_what_the_compiler_says),
    };
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}

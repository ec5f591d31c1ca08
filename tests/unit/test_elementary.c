/* test_elementary.c - exp, tanh and log of a ratio against libm in long double; what they do at the
 * ends of their range. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/elementary.h"
#include "synth.h"

enum { TRIES = 400000 };

/* In units in the last place of f64. */
static double error_of(double got, long double wanted)
{
    return (double)(fabsl(got - wanted) / ldexpl(1, ilogbl(wanted) - 52));
}

/* Of either sign, every magnitude from `most` down to 2^-60 of it alike. */
static double drawn(synth_stream *stream, double most)
{
    double size = most * exp2(-60 * synth_uniform(stream) * (double)synth_below(stream, 2)) *
                  synth_uniform(stream);
    return synth_below(stream, 2) ? size : -size;
}

static void expect_within(const char *what, double worst, double allowed)
{
    print_message("%s: %.2f units in the last place\n", what, worst);
    assert_true(worst <= allowed);
}

static void errors_are_small(void **state)
{
    (void)state;
    double of_exp = 0, of_tanh = 0;
    synth_stream stream = {1, 0};
    for (int i = 0; i < TRIES; i++) {
        double x = drawn(&stream, i % 4 ? 708 : 1), y = drawn(&stream, i % 2 ? 23 : 0.5);
        of_exp = fmax(of_exp, error_of(lors_exp(x), expl(x)));
        of_tanh = y != 0 ? fmax(of_tanh, error_of(lors_tanh(y), tanhl(y))) : of_tanh;
    }
    expect_within("exp", of_exp, 0.9);
    expect_within("tanh", of_tanh, 2.3);
}

/* Ratios near 1, whose logarithm is as small as p - q, and any. */
static void little_is_lost_of_a_ratio(void **state)
{
    (void)state;
    double near = 0, far = 0;
    synth_stream stream = {2, 0};
    for (int i = 0; i < TRIES; i++) {
        double q = exp(drawn(&stream, 18)), p = q * (1 + drawn(&stream, 0.45));
        if (p != q) {
            long double wanted = log1pl(((long double)p - q) / q);
            near = fmax(near, error_of(lors_log_ratio(p, q), wanted));
        }
        p = exp(drawn(&stream, 18));
        if (p > 1.4 * q || q > 1.4 * p) {
            far = fmax(far, error_of(lors_log_ratio(p, q), logl((long double)p / q)));
        }
        assert_true(lors_log_ratio(q, q) == 0);
    }
    expect_within("log of a ratio near 1", near, 2.5);
    expect_within("log of any other", far, 2.5);
}

static void ends_of_the_range(void **state)
{
    (void)state;
    assert_true(lors_exp(0) == 1 && lors_exp(-0.0) == 1);
    assert_true(lors_exp(-708.1) == 0 && lors_exp(-INFINITY) == 0);
    assert_true(lors_exp(709.1) == INFINITY && lors_exp(INFINITY) == INFINITY);
    assert_true(lors_exp(709) < INFINITY && lors_exp(-708) > 0);
    assert_true(isnan(lors_exp(NAN)) && isnan(lors_tanh(NAN)));
    assert_true(lors_tanh(INFINITY) == 1 && lors_tanh(-23) == -1);
    assert_true(lors_tanh(0) == 0 && signbit(lors_tanh(-0.0)));
    assert_true(lors_tanh(0x1p-1060) == 0x1p-1060 && lors_tanh(-0x1p-20) > -0x1p-20);
    assert_true(isnan(lors_log_ratio(NAN, 1)) && isnan(lors_log_ratio(1, NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_small),
        cmocka_unit_test(little_is_lost_of_a_ratio),
        cmocka_unit_test(ends_of_the_range),
    };
    return cmocka_run_group_tests_name("elementary", tests, NULL, NULL);
}

/* test_rng.c - Philox 4x32-10 against the known answers published with Random123 (kat_vectors). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

static void known_answers(void **state)
{
    (void)state;
    static const struct {
        uint64_t key, low, high;
        uint32_t out[4];
    } cases[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        /* counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0: digits of pi */
        {0x299f31d0a4093822,
         0x85a308d3243f6a88,
         0x0370734413198a2e,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lors_philox r = lors_philox_at(cases[i].key, cases[i].low, cases[i].high);
        for (int j = 0; j < 4; j++) {
            assert_int_equal(r.word[j], cases[i].out[j]);
        }
    }
}

/* Over many counters every bit is set half of the time, within five standard deviations. */
static void bits_are_balanced(void **state)
{
    (void)state;
    enum { N = 100000 };
    static int counts[128];
    for (uint64_t i = 0; i < N; i++) {
        lors_philox r = lors_philox_at(7, i, 0);
        for (int bit = 0; bit < 128; bit++) {
            counts[bit] += (int)(r.word[bit / 32] >> (bit % 32) & 1);
        }
    }
    for (int bit = 0; bit < 128; bit++) {
        assert_in_range(counts[bit], N / 2 - 791, N / 2 + 791);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(bits_are_balanced),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}

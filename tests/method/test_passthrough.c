/* test_passthrough.c - a model as it is, or scaled. */
#include "method_properties.h"

#include <math.h>

static merge passthrough(int64_t n_rows, int64_t n_cols)
{
    return merge_of(&lors_method_passthrough, n_rows, n_cols, 1);
}

static void scaled_by_hand(void **state)
{
    (void)state;
    static const float a[] = {0, -0.0f, 8, 1, 0.5f, -3};
    static const float half[] = {0, -0.0f, 4, 0.5f, 0.25f, -1.5f};
    static const float zero[] = {0, 0, 0, 0, 0, 0};
    merge m = passthrough(2, 3);
    m.models[0] = a;
    for (int d = 0; d < 3; d++) {
        merge_set(&m, "scale", 0.5);
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, half);
        merge_set(&m, "scale", 0);
        merge_run(&m, merge_dtypes[d]);
        expect_values(&m, zero);
    }
    merge_free(&m);
}

/* Only a scale of exactly 1 is a copy of the bytes. */
static void one_is_a_copy(void **state)
{
    (void)state;
    static const double scales[] = {1, 0, -1, 2};
    static const float value = 3;
    merge m = passthrough(1, 1);
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        m.models[0] = &value;
        merge_set(&m, "scale", scales[i]);
        merge_run(&m, LORS_F32);
        assert_int_equal(m.is_base, i == 0);
    }
    merge_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scaled_by_hand),
        cmocka_unit_test(one_is_a_copy),
    };
    return merge_tests("passthrough", tests);
}

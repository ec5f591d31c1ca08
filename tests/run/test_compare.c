/* test_compare.c - what a comparison says of two checkpoints: numbers that are none, other types
 * and shapes, tensors that one alone has; and a caller who has seen enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "run_models.h"

enum { MOST = 16 };

static lors_comparison found[MOST];
static char names[MOST][64];
static int n_found, stop_at; /* -1: never */

static bool keep(const lors_comparison *one, void *user)
{
    (void)user;
    assert_true(n_found < MOST);
    found[n_found] = *one;
    snprintf(names[n_found], sizeof names[n_found], "%s", one->name);
    return n_found++ == stop_at;
}

static lors_status compare(int64_t *n_different)
{
    lors_checkpoint *a = NULL, *b = NULL;
    n_found = 0;
    RM_OK(lors_checkpoint_open("a", false, &a));
    RM_OK(lors_checkpoint_open("b", false, &b));
    lors_status status = lors_compare(a, b, keep, NULL, n_different);
    lors_checkpoint_close(a);
    lors_checkpoint_close(b);
    return status;
}

static const lors_comparison *of(const char *name)
{
    for (int i = 0; i < n_found; i++) {
        if (strcmp(names[i], name) == 0) {
            return &found[i];
        }
    }
    fail_msg("nothing is said of %s", name);
    return NULL;
}

static void put(rm_model *model, const char *name, lors_dtype dtype, double x, double y)
{
    rm_tensor *tensor = rm_add(model, name, dtype, 1, 2, 0, 0);
    rm_set(tensor, 0, x);
    rm_set(tensor, 1, y);
}

static int write_two(void **state)
{
    (void)state;
    rm_work_in("compare");
    rm_model *a = rm_new(), *b = rm_new();
    put(a, "same", LORS_F32, 1, NAN);
    put(b, "same", LORS_F32, 1, NAN);
    put(a, "wider", LORS_F16, 1, NAN); /* the same values in another type */
    put(b, "wider", LORS_F32, 1, NAN);
    put(a, "nan", LORS_F32, 1, 2);
    put(b, "nan", LORS_F32, 1, NAN);
    put(a, "infinite", LORS_F32, INFINITY, 2);
    put(b, "infinite", LORS_F32, 1, 2);
    put(a, "from zero", LORS_F32, 0, 0);
    put(b, "from zero", LORS_F32, 0, 3);
    put(a, "plain", LORS_F32, 3, 4);
    put(b, "plain", LORS_F32, 3, 3);
    memset(rm_add(a, "integers", LORS_I64, 1, 2, 0, 0)->bytes, 1, 16);
    memset(rm_add(b, "integers", LORS_I64, 1, 2, 0, 0)->bytes, 2, 16);
    memset(rm_add(a, "half integers", LORS_I64, 1, 2, 0, 0)->bytes, 0, 16);
    put(b, "half integers", LORS_F32, 1, 2);
    put(a, "only a", LORS_F32, 1, 2);
    put(b, "only b", LORS_F32, 1, 2);
    rm_add(a, "dims", LORS_F32, 2, 1, 2, 0);
    rm_add(b, "dims", LORS_F32, 1, 2, 0, 0);
    rm_add(a, "shape", LORS_F32, 2, 1, 2, 0);
    rm_add(b, "shape", LORS_F32, 2, 2, 1, 0);
    rm_write(a, "a", 1);
    rm_write(b, "b", 2);
    rm_free(a);
    rm_free(b);
    return 0;
}

static void check(const char *name, lors_difference difference, uint64_t n, double max_abs,
                  double relative)
{
    const lors_comparison *one = of(name);
    assert_int_equal(one->difference, difference);
    assert_int_equal(one->n_different, n);
    assert_true(isnan(max_abs) ? isnan(one->max_abs) : one->max_abs == max_abs);
    assert_true(isnan(relative) ? isnan(one->relative) : one->relative == relative);
}

static void test_findings(void **state)
{
    (void)state;
    int64_t n_different = 0;
    stop_at = -1;
    RM_OK(compare(&n_different));
    assert_int_equal(n_found, 12);
    assert_int_equal(n_different, 11); /* all but one have not the same bytes */
    assert_int_equal(of("same")->difference, LORS_SAME_BYTES);
    check("wider", LORS_SAME_VALUES, 0, 0, 0);
    check("nan", LORS_DIFFERENT, 1, NAN, NAN);
    check("infinite", LORS_DIFFERENT, 1, INFINITY, INFINITY);
    check("from zero", LORS_DIFFERENT, 1, 3, INFINITY);
    check("plain", LORS_DIFFERENT, 1, 1, 0.2);
    check("integers", LORS_DIFFERENT, 2, NAN, NAN);
    check("half integers", LORS_DIFFERENT, 2, NAN, NAN);
    assert_int_equal(of("dims")->difference, LORS_OTHER_SHAPE);
    assert_int_equal(of("shape")->difference, LORS_OTHER_SHAPE);
    assert_int_equal(of("only a")->difference, LORS_ONLY_A);
    assert_int_equal(of("only b")->difference, LORS_ONLY_B);
}

/* Wherever it is stopped, nothing is said of what comes behind. */
static void test_stopped(void **state)
{
    (void)state;
    for (stop_at = 0; stop_at < 12; stop_at++) {
        int64_t n_different = 0;
        assert_int_equal(compare(&n_different), LORS_ERR_CANCELLED);
        assert_int_equal(n_found, stop_at + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_stopped),
    };
    return cmocka_run_group_tests(tests, write_two, NULL);
}

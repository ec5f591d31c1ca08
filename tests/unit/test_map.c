/* test_map.c - names to numbers: first value stays, growth, odd keys, no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

enum { N_KEYS = 20000, KEY_BYTES = 32 };
static char keys[N_KEYS][KEY_BYTES];

static int make_keys(void **state)
{
    (void)state;
    for (int i = 0; i < N_KEYS; i++) {
        snprintf(keys[i], KEY_BYTES, "model.layers.%d.weight", i);
    }
    return 0;
}

static void fill_and_check(lors_map *map)
{
    int64_t existing;
    for (int i = 0; i < N_KEYS; i++) {
        existing = 5;
        assert_true(lors_map_put(map, keys[i], strlen(keys[i]), i, &existing));
        assert_int_equal(existing, -1);
    }
    for (int i = 0; i < N_KEYS; i++) {
        char copy[KEY_BYTES]; /* found by its bytes, not by its address */
        memcpy(copy, keys[i], KEY_BYTES);
        assert_int_equal(lors_map_get(map, copy, strlen(copy)), i);
        assert_int_equal(lors_map_get(map, copy, strlen(copy) - 1), -1);
    }
}

static void values_are_found_whatever_was_expected(void **state)
{
    (void)state;
    const size_t expected[] = {0, 1, 12, 13, N_KEYS, 3 * N_KEYS};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        lors_map *map = lors_map_create(expected[i]);
        assert_non_null(map);
        fill_and_check(map);
        lors_map_free(map);
    }
    lors_map_free(NULL);
}

static void the_first_value_stays(void **state)
{
    (void)state;
    lors_map *map = lors_map_create(4);
    int64_t existing = 0;
    assert_int_equal(lors_map_get(map, "a", 1), -1);
    assert_true(lors_map_put(map, "a", 1, 3, NULL));
    assert_true(lors_map_put(map, "a", 1, 4, &existing));
    assert_int_equal(existing, 3);
    assert_true(lors_map_put(map, "a", 1, 4, NULL));
    assert_int_equal(lors_map_get(map, "a", 1), 3);
    lors_map_free(map);
}

static void keys_may_hold_nul_or_nothing(void **state)
{
    (void)state;
    lors_map *map = lors_map_create(4);
    assert_true(lors_map_put(map, "a\0b", 3, 1, NULL));
    assert_true(lors_map_put(map, "a\0c", 3, 2, NULL));
    assert_true(lors_map_put(map, "a", 1, 3, NULL));
    assert_true(lors_map_put(map, NULL, 0, 4, NULL));
    assert_int_equal(lors_map_get(map, "a\0b", 3), 1);
    assert_int_equal(lors_map_get(map, "a\0c", 3), 2);
    assert_int_equal(lors_map_get(map, "a", 1), 3);
    assert_int_equal(lors_map_get(map, "", 0), 4);
    assert_int_equal(lors_map_get(map, NULL, 0), lors_map_get(map, "", 0));
    lors_map_free(map);
}

static void without_memory_nothing_is_lost(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 2; n++) {
        lors_alloc_fail_at(n, false);
        assert_null(lors_map_create(4));
    }
    lors_alloc_fail_at(0, false);
    assert_null(lors_map_create(SIZE_MAX));
    lors_map *map = lors_map_create(4);
    lors_alloc_fail_at(1, true);
    int n_stored = 0;
    while (n_stored < N_KEYS &&
           lors_map_put(map, keys[n_stored], strlen(keys[n_stored]), n_stored, NULL)) {
        n_stored++;
    }
    assert_in_range(n_stored, 4, 100);
    lors_alloc_fail_at(0, false);
    for (int i = 0; i < n_stored; i++) {
        assert_int_equal(lors_map_get(map, keys[i], strlen(keys[i])), i);
    }
    assert_int_equal(lors_map_get(map, keys[n_stored], strlen(keys[n_stored])), -1);
    assert_true(lors_map_put(map, keys[n_stored], strlen(keys[n_stored]), 9, NULL));
    assert_int_equal(lors_map_get(map, keys[n_stored], strlen(keys[n_stored])), 9);
    lors_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_found_whatever_was_expected),
        cmocka_unit_test(the_first_value_stays),
        cmocka_unit_test(keys_may_hold_nul_or_nothing),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests_name("map", tests, make_keys, NULL);
}

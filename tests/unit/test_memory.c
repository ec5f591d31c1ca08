/* test_memory.c - allocations that fail on demand, and the growing text, list and arena. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static int hook_off(void **state)
{
    (void)state;
    lors_alloc_fail_at(0, false);
    return 0;
}

static void blocks_are_as_promised(void **state)
{
    (void)state;
    void *nothing = lors_alloc(0);
    assert_non_null(nothing);
    unsigned char *zeroed = lors_new(1000, 3);
    for (size_t i = 0; i < 3000; i++) {
        assert_int_equal(zeroed[i], 0);
    }
    zeroed = lors_resize(zeroed, 5000);
    assert_non_null(zeroed);
    zeroed[4999] = 1;
    char *copy = lors_copy_text("whisper");
    assert_string_equal(copy, "whisper");
    unsigned char *aligned = lors_alloc_aligned(4097), *large = lors_alloc_aligned(5 << 20);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    aligned[4096] = 1;
    assert_non_null(large);
    assert_int_equal((uintptr_t)large % (2 << 20), 0); /* where huge pages begin */
    large[0] = large[(5 << 20) - 1] = 1;
    lors_free(nothing);
    lors_free(zeroed);
    lors_free(copy);
    lors_free(aligned);
    lors_free(large);
    lors_free(NULL);
}

static void absurd_sizes_fail_softly(void **state)
{
    (void)state;
    volatile size_t huge = SIZE_MAX, half = SIZE_MAX / 2 + 1;
    void *block = lors_alloc(10);
    assert_null(lors_alloc(huge));
    assert_null(lors_alloc_aligned(huge));
    assert_null(lors_new(half, 2)); /* the product wraps to 0 */
    assert_null(lors_new(half, 3));
    assert_null(lors_resize(block, huge));
    lors_free(block); /* still ours */
}

static void one_allocation_fails_on_demand(void **state)
{
    (void)state;
    lors_alloc_fail_at(2, false);
    void *first = lors_alloc(1), *second = lors_new(1, 1), *third = lors_alloc_aligned(1);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_int_equal(lors_alloc_count(), 3);
    lors_alloc_fail_at(1, true);
    assert_int_equal(lors_alloc_count(), 0);
    assert_null(lors_alloc(1));
    assert_null(lors_copy_text("x"));
    assert_null(lors_resize(first, 9));
    assert_null(lors_alloc_aligned(1));
    assert_int_equal(lors_alloc_count(), 4);
    lors_alloc_fail_at(0, true);
    lors_free(first);
    lors_free(third);
}

static void text_grows(void **state)
{
    (void)state;
    lors_text text = {0};
    lors_text_append(&text, "", 0);
    assert_string_equal(text.bytes, "");
    for (int i = 0; i < 1000; i++) {
        lors_text_append(&text, "ab\0", 3);
        lors_text_printf(&text, "%03d", i);
        assert_int_equal(text.bytes[text.length], '\0');
    }
    assert_int_equal(text.length, 6000);
    assert_memory_equal(text.bytes + 5994,
                        "ab\0"
                        "999",
                        7);
    lors_text_printf(&text, "%*s", 100000, "x");
    assert_int_equal(text.length, 106000);
    assert_false(text.failed);
    lors_text_clear(&text);
    assert_null(text.bytes);
    lors_text_clear(&text);
}

static void a_failed_append_changes_nothing(void **state)
{
    (void)state;
    lors_text text = {0};
    lors_text_printf(&text, "kept");
    lors_alloc_fail_at(1, false);
    lors_text_printf(&text, "%*s", 500, "x");
    assert_true(text.failed);
    lors_text_append(&text, "y", 1); /* there is room, but the text would have a hole */
    assert_string_equal(text.bytes, "kept");
    assert_int_equal(text.length, 4);
    lors_text_clear(&text);
    assert_false(text.failed);
    volatile size_t huge = SIZE_MAX;
    lors_text_append(&text, "z", huge);
    assert_true(text.failed);
    assert_null(text.bytes);
    lors_text_clear(&text);
}

static void arena_objects_are_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    enum { N = 3000 };
    static unsigned char *blocks[N];
    lors_arena *arena = lors_arena_create();
    for (size_t i = 0; i < N; i++) {
        size_t n_bytes = i % 100 == 99 ? 70000 : i % 37;
        blocks[i] = lors_arena_alloc(arena, n_bytes);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t j = 0; j < n_bytes; j++) {
            assert_int_equal(blocks[i][j], 0);
        }
        memset(blocks[i], (int)(i % 251), n_bytes);
    }
    for (size_t i = 0; i < N; i++) {
        size_t n_bytes = i % 100 == 99 ? 70000 : i % 37;
        for (size_t j = 0; j < n_bytes; j++) {
            assert_int_equal(blocks[i][j], i % 251);
        }
    }
    assert_string_equal(lors_arena_copy(arena, "conv1.weight", 5), "conv1");
    assert_string_equal(lors_arena_copy(arena, NULL, 0), "");
    lors_arena_free(arena);
    lors_arena_free(NULL);
}

static void every_arena_object_can_fail(void **state)
{
    (void)state;
    volatile size_t huge = SIZE_MAX;
    lors_alloc_fail_at(1, false);
    assert_null(lors_arena_create());
    lors_arena *arena = lors_arena_create();
    assert_non_null(arena);
    lors_alloc_fail_at(2, false);
    assert_non_null(lors_arena_alloc(arena, 8));
    assert_null(lors_arena_copy(arena, "ab", 2));
    assert_non_null(lors_arena_alloc(arena, 8));
    assert_null(lors_arena_alloc(arena, huge));
    assert_null(lors_arena_alloc(arena, huge / 2 - 16));
    assert_null(lors_arena_copy(arena, "ab", huge));
    lors_arena_free(arena);
}

static void list_grows(void **state)
{
    (void)state;
    lors_list list = {0};
    int items[100];
    for (size_t i = 0; i < 100; i++) {
        assert_true(lors_list_push(&list, &items[i]));
    }
    assert_int_equal(list.count, 100);
    for (size_t i = 0; i < 100; i++) {
        assert_ptr_equal(list.items[i], &items[i]);
    }
    while (list.count < list.capacity) {
        assert_true(lors_list_push(&list, NULL));
    }
    size_t count = list.count;
    lors_alloc_fail_at(1, false);
    assert_false(lors_list_push(&list, NULL));
    assert_int_equal(list.count, count);
    assert_true(lors_list_push(&list, NULL));
    lors_free(list.items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_as_promised),
        cmocka_unit_test(absurd_sizes_fail_softly),
        cmocka_unit_test_teardown(one_allocation_fails_on_demand, hook_off),
        cmocka_unit_test(text_grows),
        cmocka_unit_test_teardown(a_failed_append_changes_nothing, hook_off),
        cmocka_unit_test(arena_objects_are_aligned_zeroed_and_apart),
        cmocka_unit_test_teardown(every_arena_object_can_fail, hook_off),
        cmocka_unit_test_teardown(list_grows, hook_off),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}

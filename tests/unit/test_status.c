/* test_status.c - the table of statuses, and the sentence of the last failure in each thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/error.h"

static void every_status_has_name_meaning_and_code(void **state)
{
    (void)state;
    for (int i = 0; i < LORS_STATUS_COUNT; i++) {
        assert_true(strlen(lors_status_name((lors_status)i)) > 0);
        assert_true(strlen(lors_status_meaning((lors_status)i)) > 0);
    }
    assert_string_equal(lors_status_name(LORS_OK), "OK");
    assert_string_equal(lors_status_name(LORS_ERR_INPUT), "ERR_INPUT");
    assert_int_equal(lors_status_exit_code(LORS_OK), 0);
    assert_int_equal(lors_status_exit_code(LORS_ERR_USAGE), 2);
    assert_int_equal(lors_status_exit_code(LORS_ERR_DEVICE), 9);
    assert_int_equal(lors_status_exit_code(LORS_ERR_CANCELLED), 130);
}

static void an_unknown_status_is_an_internal_error(void **state)
{
    (void)state;
    const int unknown[] = {-1, LORS_STATUS_COUNT, 1 << 20};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        lors_status status;
        memcpy(&status, &unknown[i], sizeof status);
        assert_string_equal(lors_status_name(status), "ERR_INTERNAL");
        assert_int_equal(lors_status_exit_code(status), 1);
        assert_non_null(lors_status_meaning(status));
    }
}

static void a_failure_stores_its_sentence(void **state)
{
    (void)state;
    assert_int_equal(lors_fail(LORS_ERR_INPUT, "%s: byte %d", "a.safetensors", 7), LORS_ERR_INPUT);
    assert_string_equal(lors_last_error(), "a.safetensors: byte 7");
    assert_int_equal(lors_fail_within(LORS_ERR_IO, "model 2"), LORS_ERR_IO);
    assert_string_equal(lors_last_error(), "model 2: a.safetensors: byte 7");
    assert_int_equal(lors_fail(LORS_ERR_IO, "%s (again)", lors_last_error()), LORS_ERR_IO);
    assert_string_equal(lors_last_error(), "model 2: a.safetensors: byte 7 (again)");
    assert_int_equal(lors_fail_memory(12345), LORS_ERR_LIMIT);
    assert_non_null(strstr(lors_last_error(), "cannot allocate 12345 bytes"));
}

static void a_long_sentence_is_cut_between_characters(void **state)
{
    (void)state;
    static char text[3 * 4000 + 1];
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'a', sizeof text);
        for (size_t i = shift; i + 3 < sizeof text; i += 3) {
            memcpy(text + i, "\xe2\x82\xac", 3);
        }
        text[sizeof text - 1] = '\0';
        lors_fail(LORS_ERR_INPUT, "%s", text);
        size_t length = strlen(lors_last_error());
        assert_in_range(length, 4000, 4095);
        assert_string_equal(lors_last_error() + length - 3, "...");
        assert_int_equal((length - 3 - shift) % 3, 0);
    }
}

static lors_status try_it(lors_status inner)
{
    LORS_TRY(inner);
    return lors_fail(LORS_ERR_LIMIT, "behind");
}

static lors_status try_clean(lors_status inner, int *cleaned)
{
    lors_status status = LORS_OK;
    LORS_TRY_CLEAN(inner);
    *cleaned = 10;
cleanup:
    *cleaned += 1;
    return status;
}

static void try_returns_at_the_first_failure(void **state)
{
    (void)state;
    int cleaned = 0;
    assert_int_equal(try_it(LORS_ERR_IO), LORS_ERR_IO);
    assert_int_equal(try_it(LORS_OK), LORS_ERR_LIMIT);
    assert_int_equal(try_clean(LORS_ERR_IO, &cleaned), LORS_ERR_IO);
    assert_int_equal(cleaned, 1);
    assert_int_equal(try_clean(LORS_OK, &cleaned), LORS_OK);
    assert_int_equal(cleaned, 11);
}

static void *fail_elsewhere(void *fresh)
{
    *(int *)fresh = lors_last_error()[0] == '\0';
    lors_fail(LORS_ERR_DEVICE, "elsewhere");
    return NULL;
}

static void each_thread_has_its_own(void **state)
{
    (void)state;
    pthread_t thread;
    int fresh = 0;
    lors_fail(LORS_ERR_IO, "here");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &fresh), 0);
    pthread_join(thread, NULL);
    assert_true(fresh);
    assert_string_equal(lors_last_error(), "here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_name_meaning_and_code),
        cmocka_unit_test(an_unknown_status_is_an_internal_error),
        cmocka_unit_test(a_failure_stores_its_sentence),
        cmocka_unit_test(a_long_sentence_is_cut_between_characters),
        cmocka_unit_test(try_returns_at_the_first_failure),
        cmocka_unit_test(each_thread_has_its_own),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}

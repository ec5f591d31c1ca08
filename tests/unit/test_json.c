/* test_json.c - JSON through jansson: the advice of its errors, and every allocation failing, those
 * of a host program that has set functions of its own, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/json_file.h"
#include "io/json_memory.h"
#include "io/json_text.h"

/* ---- The host's functions, set before the library is used ----------------------------------- */

static uint64_t n_host_allocs, host_fails_at;
static bool host_fails_on;

static void *host_alloc(size_t n_bytes)
{
    n_host_allocs++;
    bool fails = host_fails_at && (n_host_allocs == host_fails_at ||
                                   (host_fails_on && n_host_allocs > host_fails_at));
    return fails ? NULL : malloc(n_bytes);
}

static void host_free(void *block)
{
    free(block);
}

/* An object of n keys: its table grows several times. */
static char *make_object(int n)
{
    lors_text text = {0};
    for (int i = 0; i < n; i++) {
        lors_text_printf(&text, "%s\"key %d\":[%d,\"%d\"]", i ? "," : "{", i, i, i);
    }
    lors_text_append(&text, "}", 1);
    return text.bytes;
}

/* The allocations from `first` on fail, one at a time, until none does any more. */
static void fail_each(const char *text, uint64_t first, uint64_t most, bool on)
{
    lors_status status = LORS_ERR_LIMIT;
    for (uint64_t n = first; n < first + most && status != LORS_OK; n++) {
        json_t *root = NULL;
        n_host_allocs = 0;
        host_fails_at = n;
        host_fails_on = on;
        status = lors_json_parse("x.json", text, strlen(text), &root);
        host_fails_at = 0;
        assert_int_equal(status == LORS_OK, root != NULL);
        if (status != LORS_OK) {
            assert_int_equal(status, LORS_ERR_LIMIT);
            assert_string_equal(lors_last_error(), "x.json: memory is short for this JSON file");
        }
        json_decref(root);
    }
}

static void test_host_functions(void **state)
{
    (void)state;
    json_t *root = NULL;
    char *text = make_object(20);
    assert_int_equal(lors_json_parse("x.json", text, strlen(text), &root), LORS_OK);
    assert_true(n_host_allocs > 20); /* it is the host that gives */
    json_decref(root);
    fail_each(text, 1, UINT64_MAX / 2, false);
    fail_each(text, 1, UINT64_MAX / 2, true);
    lors_free(text);
}

/* A table that grows to more than the reserve holds is refused, too. */
static void test_large_tables(void **state)
{
    (void)state;
    enum { N_KEYS = 3000, STEP = 600 };
    json_t *root = NULL;
    char *text = make_object(N_KEYS);
    n_host_allocs = 0;
    assert_int_equal(lors_json_parse("x.json", text, strlen(text), &root), LORS_OK);
    json_decref(root);
    uint64_t n_all = n_host_allocs;
    for (uint64_t first = n_all / 2; first < n_all; first += n_all / 40) {
        fail_each(text, first, 2, true);
    }
    /* The 2049th key: from the allocations around it one is that of the table. */
    fail_each(text, n_all * 2049 / N_KEYS - 40, 80, false);
    lors_free(text);
}

static void refuse(const char *text, const char *sentence)
{
    json_t *root = NULL;
    assert_int_equal(lors_json_parse("x.json", text, strlen(text), &root), LORS_ERR_INPUT);
    assert_null(root);
    if (!strstr(lors_last_error(), sentence)) {
        fail_msg("expected '%s' in '%s'", sentence, lors_last_error());
    }
}

static void test_advice(void **state)
{
    (void)state;
    refuse("{\"a\": NaN}", "near 'NaN': NaN and Infinity are no JSON");
    refuse("{\"a\": Infinity}", "near 'Infinity': NaN and Infinity are no JSON");
    refuse("{\"a\": nothing}", "x.json:1:");
    refuse("{\"a\": 1, \"a\": 2}", "readers would disagree");
    refuse("{\"a\": \"\xff\"}", "the text is not valid UTF-8");
    refuse("", "x.json:");
}

static void test_text(void **state)
{
    (void)state;
    lors_status status = LORS_ERR_LIMIT;
    for (uint64_t n = 1; status != LORS_OK; n++) {
        char *text = NULL;
        json_t *root = json_pack("{s:i, s:[s,s]}", "a", 1, "b", "c", "d");
        assert_non_null(root);
        lors_json_begin();
        lors_alloc_fail_at(n, false);
        status = lors_json_text(root, 2, &text); /* frees root */
        lors_alloc_fail_at(0, false);
        assert_int_equal(status == LORS_OK, text != NULL);
        if (text) {
            assert_string_equal(text, "{\n  \"a\": 1,\n"
                                      "  \"b\": [\n    \"c\",\n    \"d\"\n  ]\n}\n");
        }
        lors_free(text);
        assert_true(n > 1 || status != LORS_OK);
    }
    char *text = NULL;
    lors_json_begin();
    host_fails_at = n_host_allocs + 1; /* an earlier value is missing */
    json_t *lost = json_integer(1);
    host_fails_at = 0;
    assert_null(lost);
    assert_int_equal(lors_json_text(json_integer(2), 0, &text), LORS_ERR_LIMIT);
    assert_null(text);
    lors_json_begin();
    assert_int_equal(lors_json_text(NULL, 0, &text), LORS_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_functions),
        cmocka_unit_test(test_large_tables),
        cmocka_unit_test(test_advice),
        cmocka_unit_test(test_text),
    };
    json_set_alloc_funcs(host_alloc, host_free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

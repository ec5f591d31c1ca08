/* test_label.c - paths in sentences: printable, and where they are long their end is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "io/label.h"

static void test_short(void **state)
{
    (void)state;
    char out[LORS_ESCAPED_MAX];
    assert_string_equal(lors_label("folder/model\n", out), "folder/model\\x0a");
}

static void test_long(void **state)
{
    (void)state;
    char path[400], out[LORS_ESCAPED_MAX];
    memset(path, 'x', sizeof path);
    strcpy(path + sizeof path - 5, "/end");
    lors_label(path, out);
    assert_int_equal(strncmp(out, "...x", 4), 0);
    assert_string_equal(out + strlen(out) - 4, "/end");
    assert_int_equal(strlen(out), 3 + 190);
    path[190] = '\0'; /* the longest that is shown whole */
    assert_string_equal(lors_label(path, out), path);
}

/* The cut never falls within a character, wherever it lies. */
static void test_cut_between_characters(void **state)
{
    (void)state;
    for (int lead = 0; lead < 4; lead++) {
        char path[400] = "", out[LORS_ESCAPED_MAX];
        memset(path, 'x', (size_t)lead);
        for (int i = 0; i < 60; i++) {
            strcat(path, "\xf0\x9f\x98\x80");
        }
        lors_label(path, out);
        assert_int_equal(strncmp(out, "...\xf0\x9f\x98\x80", 7), 0);
        strcat(path, "abc" + 3 - lead); /* and now somewhere else in it */
        lors_label(path, out);
        assert_int_equal(strncmp(out, "...\xf0\x9f\x98\x80", 7), 0);
        assert_null(strstr(out, "\\x"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

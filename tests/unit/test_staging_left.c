/* test_staging_left.c - a staging folder that is left to a later run, and taken over by it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "io/staging.h"
#include "io_files.h"

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    io_mkdir(io_path("base"));
    io_write_text(io_path("base/vocab.json"), "copied");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    io_folder_remove();
    return 0;
}

static bool keeps_weights(const char *name, const void *user)
{
    (void)user;
    return strcmp(name, "model.safetensors") == 0;
}

/* Only with a note, and not after a sync that failed. */
static void test_left(void **state)
{
    (void)state;
    lors_staging *staging = NULL;
    bool found = true;
    for (int note = 0; note < 2; note++) {
        for (int condemned = 0; condemned < 2; condemned++) {
            assert_int_equal(lors_staging_open(io_path("out"), false, &staging), LORS_OK);
            assert_int_equal(lors_staging_write(staging, "config.json", "new", 3), LORS_OK);
            if (note) {
                io_write_text(io_path(".out.lors-staging/" LORS_STAGING_NOTE), "x");
            }
            if (condemned) {
                lors_staging_condemn(staging);
            }
            assert_int_equal(lors_staging_leave(staging), note && !condemned);
            lors_staging_close(staging);
            assert_int_equal(io_exists(io_path(".out.lors-staging")), note && !condemned);
            lors_staging_take_over(io_path("out"), false, &found, &staging);
            assert_int_equal(found, note && !condemned);
            lors_staging_close(staging);
        }
    }
}

static bool has_note(const lors_staging *staging)
{
    bool there = false;
    assert_int_equal(lors_staging_has(staging, LORS_STAGING_NOTE, &there), LORS_OK);
    return there;
}

/* A folder taken over keeps what is wanted and is a plain file; the note is no part of OUT. */
static void test_taken_over(void **state)
{
    (void)state;
    lors_staging *staging = NULL;
    bool found = false;
    io_mkdir(io_path(".out.lors-staging"));
    io_mkdir(io_path(".out.lors-staging/folder"));
    io_write_text(io_path(".out.lors-staging/model.safetensors"), "new");
    io_write_text(io_path(".out.lors-staging/" LORS_STAGING_NOTE), "x");
    io_link("../base/vocab.json", io_path(".out.lors-staging/link"));
    assert_int_equal(lors_staging_take_over(io_path("out"), false, &found, &staging), LORS_OK);
    assert_true(found && has_note(staging));
    assert_int_equal(lors_staging_clear(staging, keeps_weights, NULL), LORS_OK);
    assert_int_equal(io_count(io_path(".out.lors-staging")), 1);
    assert_false(has_note(staging));
    io_write_text(io_path(".out.lors-staging/" LORS_STAGING_NOTE), "x");
    assert_int_equal(lors_staging_commit(staging), LORS_OK);
    lors_staging_close(staging);
    assert_true(io_holds(io_path("out/model.safetensors"), "new"));
    assert_int_equal(io_count(io_path("out")), 1);
    assert_true(io_holds(io_path("base/vocab.json"), "copied"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_left, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_over, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

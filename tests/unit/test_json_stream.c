/* test_json_stream.c - JSON written in pieces is to the letter what jansson writes in one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <lors/lors.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "io/json_memory.h"
#include "io/json_stream.h"
#include "io/json_text.h"
#include "io_files.h"

static lors_staging *staging;

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    assert_int_equal(lors_staging_open(io_path("out"), false, &staging), LORS_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lors_alloc_fail_at(0, false);
    lors_file_set_table(NULL);
    lors_staging_close(staging);
    io_folder_remove();
    return 0;
}

static char *written(size_t *n_bytes)
{
    char *text = NULL;
    assert_int_equal(
        lors_file_read_all(io_path(".out.lors-staging/a.json"), 1 << 26, &text, n_bytes), LORS_OK);
    return text;
}

static void put_many(lors_json_stream *to, int n)
{
    lors_json_stream_put(to, "key with \"quotes\"\n", json_pack("{s:[i,i], s:{}}", "a", 1, 2, "b"));
    lors_json_stream_put(to, "text\twith a tab", json_string("line\nbreak \\ \x01 \xc3\xa4"));
    lors_json_stream_put(to, "real", json_real(1.0 / 3));
    lors_json_stream_open(to, "empty", '[');
    lors_json_stream_shut(to);
    lors_json_stream_open(to, "none", '{');
    lors_json_stream_shut(to);
    lors_json_stream_open(to, "items", '[');
    for (int i = 0; i < n; i++) {
        lors_json_stream_open(to, NULL, '{');
        lors_json_stream_put(to, "i", json_integer(i));
        lors_json_stream_open(to, "more", '[');
        lors_json_stream_put(to, NULL, json_pack("{s:[s], s:[]}", "name", "x", "none"));
        lors_json_stream_put(to, NULL, json_null());
        lors_json_stream_shut(to);
        lors_json_stream_shut(to);
    }
    lors_json_stream_shut(to);
}

static lors_status write_many(int indent, int n, uint64_t most, const char *seal)
{
    lors_json_stream *to = NULL;
    lors_status status = lors_json_stream_create(staging, "a.json", indent, most, &to);
    if (status == LORS_OK) {
        put_many(to, n);
        status = lors_json_stream_end(to, seal);
    }
    return status;
}

/* What was written, read and written by jansson in one piece. */
static void assert_as_in_one(const char *text, size_t n_bytes, int indent)
{
    json_t *root = NULL;
    char *again = NULL;
    assert_int_equal(lors_json_load(text, n_bytes, &root, &(json_error_t){0}), LORS_OK);
    lors_json_begin();
    assert_int_equal(lors_json_text(root, indent, &again), LORS_OK);
    assert_string_equal(text, again);
    lors_free(again);
}

static void test_same_text(void **state)
{
    (void)state;
    static const int counts[] = {0, 1, 3, 5000};
    for (int indent = 1; indent <= 2; indent++) {
        for (int i = 0; i < 4; i++) {
            size_t n_bytes = 0;
            assert_int_equal(write_many(indent, counts[i], UINT64_MAX, NULL), LORS_OK);
            char *text = written(&n_bytes);
            assert_as_in_one(text, n_bytes, indent);
            lors_free(text);
            assert_int_equal(lors_staging_clear(staging, NULL, NULL), LORS_OK);
        }
    }
}

static void test_seal(void **state)
{
    (void)state;
    size_t n_bytes = 0;
    char hash[LORS_SHA256_TEXT], end[128];
    assert_int_equal(write_many(1, 2000, UINT64_MAX, "seal"), LORS_OK);
    char *text = written(&n_bytes);
    size_t n_end = strlen(",\n \"seal\": \"\"\n}\n") + sizeof hash - 1;
    assert_int_equal(lors_sha256_of(text, n_bytes - n_end, hash), LORS_OK);
    snprintf(end, sizeof end, ",\n \"seal\": \"%s\"\n}\n", hash);
    assert_string_equal(text + n_bytes - n_end, end);
    assert_as_in_one(text, n_bytes, 1);
    lors_free(text);
}

/* A file of just so many bytes is written, one of a byte less is not. */
static void test_most_bytes(void **state)
{
    (void)state;
    size_t n_bytes = 0;
    assert_int_equal(write_many(1, 10, UINT64_MAX, NULL), LORS_OK);
    lors_free(written(&n_bytes));
    assert_int_equal(lors_staging_clear(staging, NULL, NULL), LORS_OK);
    assert_int_equal(write_many(1, 10, n_bytes, NULL), LORS_OK);
    assert_int_equal(lors_staging_clear(staging, NULL, NULL), LORS_OK);
    assert_int_equal(write_many(1, 10, n_bytes - 1, NULL), LORS_ERR_INTERNAL);
    assert_non_null(strstr(lors_last_error(), "a.json: would be larger than"));
}

static void test_too_deep(void **state)
{
    (void)state;
    lors_json_stream *to = NULL;
    assert_int_equal(lors_json_stream_create(staging, "a.json", 1, UINT64_MAX, &to), LORS_OK);
    for (int i = 0; i < 20; i++) {
        lors_json_stream_open(to, "deeper", '{');
    }
    assert_true(lors_json_stream_failed(to));
    assert_int_equal(lors_json_stream_end(to, NULL), LORS_ERR_INTERNAL);
}

/* Whichever allocation fails: memory is short, or the file is whole. Nothing leaks. */
static void test_no_memory(void **state)
{
    (void)state;
    lors_status status = LORS_ERR_LIMIT;
    uint64_t n = 1;
    for (; status != LORS_OK; n++) {
        lors_alloc_fail_at(n, false);
        status = write_many(1, 3, UINT64_MAX, "seal");
        lors_alloc_fail_at(0, false);
        if (status != LORS_OK) {
            assert_int_equal(status, LORS_ERR_LIMIT);
            assert_int_equal(lors_staging_clear(staging, NULL, NULL), LORS_OK);
        }
    }
    assert_true(n > 20);
    size_t n_bytes = 0;
    char *text = written(&n_bytes);
    assert_as_in_one(text, n_bytes, 1);
    lors_free(text);
}

static int writes_left;
static const lors_file_ops *real;

static ssize_t failing_pwrite(int fd, const void *bytes, size_t n_bytes, off_t offset)
{
    if (writes_left-- == 0) {
        errno = ENOSPC;
        return -1;
    }
    return real->pwrite(fd, bytes, n_bytes, offset);
}

/* The first failure is what the end tells, also where others follow. */
static void test_full_disk(void **state)
{
    (void)state;
    real = lors_file_table();
    lors_file_ops table = *real;
    table.pwrite = failing_pwrite;
    for (int i = 0; i < 3; i++) {
        writes_left = i;
        lors_file_set_table(&table);
        assert_int_equal(write_many(1, 5000, UINT64_MAX, NULL), LORS_ERR_IO);
        assert_non_null(strstr(lors_last_error(), "a.json"));
        lors_file_set_table(NULL);
        assert_int_equal(lors_staging_clear(staging, NULL, NULL), LORS_OK);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_same_text), TEST(test_seal),      TEST(test_most_bytes),
        TEST(test_too_deep),  TEST(test_no_memory), TEST(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

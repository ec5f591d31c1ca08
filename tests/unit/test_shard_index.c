/* test_shard_index.c - the names of an index: which are fit, how many there may be, and every
 * allocation failing. What it says of the shards' tensors: test_checkpoint.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/shard_index.h"
#include "io_files.h"

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    io_folder_remove();
    return 0;
}

static lors_status read_one(const char *name)
{
    lors_text text = {0};
    lors_shard_index *index = NULL;
    lors_text_printf(&text, "{\"weight_map\": {\"t\": \"%s\"}}", name);
    io_write(io_path("index.json"), text.bytes, text.length);
    lors_text_clear(&text);
    lors_status status = lors_shard_index_read(io_path("index.json"), &index);
    assert_int_equal(status == LORS_OK, index != NULL);
    lors_shard_index_free(index);
    return status;
}

static void test_names(void **state)
{
    (void)state;
    static const char *const fit[] = {"a.safetensors", "a:b.safetensors", "..a.safetensors"};
    static const struct {
        const char *name, *why;
    } unfit[] = {
        {"", "names no file"},
        {".", "names no file"},
        {"..", "names no file"},
        {"a/b.safetensors", "is a path"},
        {"a\\\\b.safetensors", "is a path"},
        {"C:b.safetensors", "is a path"},
        {":", "is no safetensors file"},
        {"a\\u0001.safetensors", "control character"},
        {"a\\u007f.safetensors", "control character"},
        {".safetensors", "is no safetensors file"},
        {"model.bin", "is no safetensors file"},
    };
    for (size_t i = 0; i < sizeof fit / sizeof *fit; i++) {
        /* a colon in second place is that of a drive */
        assert_int_equal(read_one(fit[i]), fit[i][1] == ':' ? LORS_ERR_INPUT : LORS_OK);
    }
    for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++) {
        assert_int_equal(read_one(unfit[i].name), LORS_ERR_INPUT);
        if (!strstr(lors_last_error(), unfit[i].why)) {
            fail_msg("'%s': %s", unfit[i].name, lors_last_error());
        }
    }
}

static void write_index(int n_shards)
{
    lors_text text = {0};
    lors_text_printf(&text, "{\"weight_map\": ");
    for (int i = 0; i < n_shards; i++) {
        lors_text_printf(&text, "%s\"%d\":\"%d.safetensors\"", i ? "," : "{", i, i);
    }
    lors_text_printf(&text, "}}");
    io_write(io_path("index.json"), text.bytes, text.length);
    lors_text_clear(&text);
}

/* Enough names for the list and the map to grow. */
static void test_memory(void **state)
{
    (void)state;
    enum { N_SHARDS = 120 };
    lors_status status = LORS_ERR_LIMIT;
    write_index(N_SHARDS);
    for (uint64_t n = 1; status != LORS_OK; n++) {
        lors_shard_index *index = NULL;
        lors_alloc_fail_at(n, false);
        status = lors_shard_index_read(io_path("index.json"), &index);
        lors_alloc_fail_at(0, false);
        assert_true(status == LORS_OK || status == LORS_ERR_LIMIT);
        assert_int_equal(status == LORS_OK, index != NULL);
        assert_true(!index || lors_shard_index_count(index) == N_SHARDS);
        lors_shard_index_free(index);
    }
}

static void test_most(void **state)
{
    (void)state;
    if (getenv("LORS_EMULATED")) {
        skip(); /* minutes */
    }
    lors_shard_index *index = NULL;
    write_index(1000001);
    assert_int_equal(lors_shard_index_read(io_path("index.json"), &index), LORS_ERR_LIMIT);
    assert_non_null(strstr(lors_last_error(), "index.json: more than 1000000 shards"));
    assert_null(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_most, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_st_layout.c - headers that are written are what was asked for, and the parser reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "io/safetensors.h"

/* The header in memory, and zeros behind it. */
static lors_status read_header(void *source, uint64_t offset, void *out, size_t n_bytes)
{
    const lors_text *header = source;
    memset(out, 0, n_bytes);
    if (offset < header->length) {
        size_t rest = header->length - (size_t)offset;
        memcpy(out, header->bytes + offset, n_bytes < rest ? n_bytes : rest);
    }
    return LORS_OK;
}

static void test_round_trip(void **state)
{
    (void)state;
    static const int64_t shape_a[] = {2, 3}, shape_b[] = {5}, shape_e[] = {0, 7};
    lors_st_entry entries[] = {
        {"z\"\\\n\x01/\xc3\xa9", LORS_F32, 2, shape_a, 24, 0},
        {"scalar", LORS_F16, 0, NULL, 2, 0},
        {"empty", LORS_F16, 2, shape_e, 0, 0},
        {"", LORS_U8, 1, shape_b, 5, 0},
    };
    static const size_t alignments[] = {8, 64, 4096};
    for (int k = 0; k < 3; k++) {
        lors_text text = {0};
        uint64_t file_bytes = 0;
        lors_st_header *header = NULL;
        assert_int_equal(lors_st_layout(entries, 4, alignments[k], &text, &file_bytes), LORS_OK);
        assert_int_equal(text.length % alignments[k], 0);
        assert_int_equal(file_bytes, text.length + 31);
        assert_int_equal(lors_st_parse("m", read_header, &text, file_bytes, &header), LORS_OK);
        assert_int_equal(header->data_start, text.length);
        assert_string_equal(header->format, "pt");
        assert_int_equal(header->n_tensors, 4);
        assert_int_equal(
            strncmp(text.bytes + 8, "{\"__metadata__\":{\"format\":\"pt\"},\"z\\\"", 36), 0);
        for (int i = 0; i < 4; i++) {
            const lors_st_tensor *t = &header->tensors[i];
            assert_string_equal(t->name, entries[i].name);
            assert_int_equal(header->data_start + t->begin, entries[i].offset);
            assert_int_equal(t->end - t->begin, entries[i].n_bytes);
            assert_true(t->dtype == entries[i].dtype && t->n_dims == entries[i].n_dims);
        }
        assert_false(header->unaligned);
        lors_st_free(header);
        lors_text_clear(&text);
    }
}

static void test_empty_layout(void **state)
{
    (void)state;
    lors_text text = {0};
    uint64_t file_bytes = 0;
    lors_st_header *header = NULL;
    assert_int_equal(lors_st_layout(NULL, 0, 8, &text, &file_bytes), LORS_OK);
    assert_int_equal(text.length, file_bytes);
    assert_int_equal(lors_st_parse("m", read_header, &text, file_bytes, &header), LORS_OK);
    assert_int_equal(header->n_tensors, 0);
    lors_st_free(header);
    lors_text_clear(&text);
}

static void refuse_entry(lors_st_entry entry, lors_status expected, const char *sentence)
{
    static const int64_t one[] = {1};
    lors_st_entry entries[] = {{"first", LORS_U8, 1, one, 1, 0}, entry};
    lors_text text = {0};
    uint64_t file_bytes = 0;
    assert_int_equal(lors_st_layout(entries, 2, 8, &text, &file_bytes), expected);
    assert_non_null(strstr(lors_last_error(), sentence));
    assert_null(text.bytes);
}

static void test_layout_refusals(void **state)
{
    (void)state;
    static const int64_t one[64] = {1}, negative[] = {-1}, huge[] = {INT64_MAX, 2};
    static const int64_t most[] = {INT64_MAX / 8};
    char name[LORS_ST_MAX_NAME + 2];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    refuse_entry((lors_st_entry){"first", LORS_U8, 1, one, 1, 0}, LORS_ERR_USAGE, "given twice");
    refuse_entry((lors_st_entry){"\xff", LORS_U8, 1, one, 1, 0}, LORS_ERR_USAGE, "UTF-8");
    refuse_entry((lors_st_entry){"__metadata__", LORS_U8, 1, one, 1, 0}, LORS_ERR_USAGE,
                 "reserved");
    refuse_entry((lors_st_entry){name, LORS_U8, 1, one, 1, 0}, LORS_ERR_LIMIT, "longer than 4096");
    refuse_entry((lors_st_entry){"a", LORS_U8, 65, one, 1, 0}, LORS_ERR_LIMIT, "64 dimensions");
    refuse_entry((lors_st_entry){"a", LORS_U8, 1, negative, 1, 0}, LORS_ERR_LIMIT, "overflows");
    refuse_entry((lors_st_entry){"a", LORS_U8, 2, huge, 1, 0}, LORS_ERR_LIMIT, "overflows");
    refuse_entry((lors_st_entry){"a", LORS_F32, 1, one, 1, 0}, LORS_ERR_USAGE, "do not agree");
    refuse_entry((lors_st_entry){"a", LORS_F4, 1, one, 1, 0}, LORS_ERR_USAGE, "do not agree");
    uint64_t file_bytes = 0;
    lors_text text = {0};
    lors_st_entry large[9];
    for (int i = 0; i < 9; i++) {
        static const char *const names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8"};
        large[i] = (lors_st_entry){names[i], LORS_U8, 1, most, INT64_MAX / 8, 0};
    }
    assert_int_equal(lors_st_layout(large, 9, 8, &text, &file_bytes), LORS_ERR_LIMIT);
    assert_int_equal(lors_st_layout(large, 8, 8, &text, &file_bytes), LORS_ERR_LIMIT);
    assert_int_equal(lors_st_layout(large, 7, 8, &text, &file_bytes), LORS_OK);
    lors_text_clear(&text);
    static const size_t alignments[] = {0, 1, 4, 12, (size_t)1 << 40};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(lors_st_layout(large, 1, alignments[i], &text, &file_bytes),
                         LORS_ERR_USAGE);
    }
    assert_int_equal(lors_st_layout(large, LORS_ST_MAX_TENSORS + 1, 8, &text, &file_bytes),
                     LORS_ERR_LIMIT);
}

static void test_layout_memory(void **state)
{
    (void)state;
    static const int64_t shape[] = {1};
    lors_st_entry entries[] = {{"a", LORS_U8, 1, shape, 1, 0}, {"b", LORS_U8, 1, shape, 1, 0}};
    for (uint64_t n = 1;; n++) {
        lors_text text = {0};
        uint64_t file_bytes = 0;
        lors_alloc_fail_at(n, true);
        lors_status status = lors_st_layout(entries, 2, 4096, &text, &file_bytes);
        lors_alloc_fail_at(0, false);
        lors_text_clear(&text);
        if (status == LORS_OK) {
            assert_true(n > 3);
            break;
        }
        assert_int_equal(status, LORS_ERR_LIMIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_empty_layout),
        cmocka_unit_test(test_layout_refusals),
        cmocka_unit_test(test_layout_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

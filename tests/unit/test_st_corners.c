/* test_st_corners.c - headers at the edges: sizes that overflow together, reads that fail in the
 * midst of a character, many tensors and little memory, layouts that no file can hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "io/safetensors.h"
#include "io/st_json.h"

typedef struct source {
    const lors_text *text;
    uint64_t broken_from; /* reads from here on fail; 0: none */
} source;

static lors_status read_text(void *user, uint64_t offset, void *out, size_t n_bytes)
{
    const source *s = user;
    if (s->broken_from && offset + n_bytes > s->broken_from) {
        return lors_fail(LORS_ERR_IO, "the disk is broken");
    }
    assert_true(offset + n_bytes <= s->text->length);
    memcpy(out, s->text->bytes + offset, n_bytes);
    return LORS_OK;
}

/* The header's JSON in front of data that are there only by their number. */
static lors_status parse(const char *json, size_t n_json, uint64_t broken_from, uint64_t n_data,
                         lors_st_header **header)
{
    lors_text text = {0};
    unsigned char length[8];
    for (int i = 0; i < 8; i++) {
        length[i] = (unsigned char)(n_json >> (8 * i));
    }
    lors_text_append(&text, length, 8);
    lors_text_append(&text, json, n_json);
    source s = {&text, broken_from};
    lors_status status = lors_st_parse("m", read_text, &s, 8 + n_json + n_data, header);
    lors_text_clear(&text);
    return status;
}

static void refuse(const char *json, const char *sentence)
{
    lors_st_header *header = NULL;
    assert_int_equal(parse(json, strlen(json), 0, 0, &header), LORS_ERR_INPUT);
    assert_null(header);
    if (!strstr(lors_last_error(), sentence)) {
        fail_msg("expected '%s' in '%s'", sentence, lors_last_error());
    }
}

static void test_surrogates(void **state)
{
    (void)state;
    refuse("{\"\\ud800\\ue000\":{}}", "lone surrogate \\ud800"); /* the second is none */
    refuse("{\"\\udbff\\uffff\":{}}", "lone surrogate \\udbff");
    refuse("{\"\\ud800\\u00zz\":{}}", "expected");
}

/* Each tensor is possible, and they follow each other; only their end is behind 2^64. */
static void test_ends_overflow(void **state)
{
    (void)state;
    lors_text json = {0};
    const uint64_t each = (UINT64_C(1) << 61) - 1;
    for (uint64_t i = 0; i < 8; i++) {
        lors_text_printf(&json,
                         "%s\"%d\":{\"dtype\":\"U8\",\"shape\":[%llu],"
                         "\"data_offsets\":[%llu,%llu]}",
                         i ? "," : "{", (int)i, (unsigned long long)each,
                         (unsigned long long)(i * each), (unsigned long long)((i + 1) * each));
    }
    lors_text_append(&json, "}", 1);
    refuse(json.bytes, "the file ends here, 18446744073709551608 bytes are missing");
    lors_text_clear(&json);
}

/* `piece` so that its first n bytes are the last that can be read: the lexer's first window. */
static void break_within(const char *piece, size_t n)
{
    static char json[2 * LORS_LEXER_WINDOW];
    lors_st_header *header = NULL;
    memset(json, 'x', sizeof json);
    memcpy(json, "{\"", 2);
    memcpy(json + LORS_LEXER_WINDOW - n, piece, strlen(piece));
    assert_int_equal(parse(json, sizeof json, 8 + LORS_LEXER_WINDOW + 1, 0, &header), LORS_ERR_IO);
    assert_string_equal(lors_last_error(), "the disk is broken");
}

static void test_reads_fail_within(void **state)
{
    (void)state;
    break_within("\xf0\x9f\x98\x80", 1);
    break_within("\xf0\x9f\x98\x80", 3);
    for (size_t n = 1; n < 12; n++) {
        break_within("\\ud83d\\ude00", n);
    }
    break_within("plain", 3);
}

static void append_tensors(lors_text *json, int n)
{
    for (int i = 0; i < n; i++) {
        lors_text_printf(json,
                         "%s\"tensor %d\":{\"dtype\":\"U8\",\"shape\":[1],"
                         "\"data_offsets\":[%d,%d]}",
                         i ? "," : "{", i, i, i + 1);
    }
    lors_text_append(json, "}", 1);
}

/* Enough for lists and maps to grow several times: each of these allocations fails. */
static void test_memory(void **state)
{
    (void)state;
    enum { N_TENSORS = 500 };
    lors_text json = {0};
    lors_status status = LORS_ERR_LIMIT;
    append_tensors(&json, N_TENSORS);
    source s = {&json, 0};
    lors_text whole = {0};
    for (int i = 0; i < 8; i++) {
        unsigned char byte = (unsigned char)(json.length >> (8 * i));
        lors_text_append(&whole, &byte, 1);
    }
    lors_text_append(&whole, json.bytes, json.length);
    s.text = &whole;
    for (uint64_t n = 1; status != LORS_OK; n++) {
        lors_st_header *header = NULL;
        lors_alloc_fail_at(n, false);
        status = lors_st_parse("m", read_text, &s, whole.length + N_TENSORS, &header);
        assert_true(status == LORS_OK || status == LORS_ERR_LIMIT);
        assert_true(lors_alloc_count() >= n || status == LORS_OK);
        lors_alloc_fail_at(0, false);
        assert_int_equal(status == LORS_OK, header != NULL);
        assert_true(!header || header->n_tensors == N_TENSORS);
        lors_st_free(header);
    }
    lors_text_clear(&whole);
    lors_text_clear(&json);
}

/* ---- Layouts --------------------------------------------------------------------------------- */

static void refuse_layout(lors_st_entry *entries, int64_t n, const char *sentence)
{
    lors_text header = {0};
    uint64_t file_bytes = 1;
    assert_int_equal(lors_st_layout(entries, n, 8, &header, &file_bytes), LORS_ERR_LIMIT);
    if (!strstr(lors_last_error(), sentence)) {
        fail_msg("expected '%s' in '%s'", sentence, lors_last_error());
    }
    assert_null(header.bytes);
    assert_int_equal(file_bytes, 0);
}

static void test_layout_numbers(void **state)
{
    (void)state;
    static const int64_t wide[] = {INT64_MAX / 4}, empty[] = {0, INT64_MAX, INT64_MAX, 7};
    lors_st_entry below = {"a", LORS_U8, -1, wide, 1, 0}, bits = {"a", LORS_F32, 1, wide, 1, 0};
    lors_st_entry none = {"a", LORS_F32, 4, empty, 0, 0};
    refuse_layout(&below, 1, "dimensions");
    refuse_layout(&bits, 1, "its shape overflows");
    refuse_layout(&none, 1, "its shape overflows"); /* as the reader has it */
    refuse_layout(&below, -1, "-1 tensors in one file");
    refuse_layout(&below, LORS_ST_MAX_TENSORS + 1, "2000001 tensors in one file");
}

/* Names that JSON makes six times as long. */
static void test_layout_of_many(void **state)
{
    (void)state;
    if (getenv("LORS_EMULATED")) {
        skip(); /* minutes */
    }
    enum { N = 4200, LENGTH = 4000 }; /* the last ones are behind the limit */
    static const int64_t one[] = {1};
    char(*names)[LENGTH + 1] = calloc(N, sizeof *names);
    lors_st_entry *entries = calloc(N, sizeof *entries);
    assert_true(names && entries);
    for (int i = 0; i < N; i++) {
        memset(names[i], 1, LENGTH);
        snprintf(names[i] + LENGTH - 5, 6, "%05d", i);
        entries[i] = (lors_st_entry){names[i], LORS_U8, 1, one, 1, 0};
    }
    refuse_layout(entries, N, "would have more than 100000000 bytes: write several files");
    free(entries);
    free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_surrogates),     cmocka_unit_test(test_ends_overflow),
        cmocka_unit_test(test_reads_fail_within), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_layout_numbers), cmocka_unit_test(test_layout_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

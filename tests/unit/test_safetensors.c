/* test_safetensors.c - what the header parser accepts, what it refuses, and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "io/safetensors.h"

/* ---- Files in memory ------------------------------------------------------------------------ */

typedef struct memory_file {
    const char *bytes; /* those that exist; the rest of the file is zeros */
    size_t n_bytes;
    uint64_t largest_read;
    int64_t fail_after; /* reads that succeed before one fails; -1: all succeed */
} memory_file;

static lors_status read_memory(void *source, uint64_t offset, void *out, size_t n_bytes)
{
    memory_file *file = source;
    if (file->fail_after == 0) {
        return LORS_ERR_IO;
    }
    file->fail_after -= file->fail_after > 0;
    file->largest_read = n_bytes > file->largest_read ? n_bytes : file->largest_read;
    memset(out, 0, n_bytes);
    if (offset < file->n_bytes) {
        size_t rest = file->n_bytes - (size_t)offset;
        memcpy(out, file->bytes + offset, n_bytes < rest ? n_bytes : rest);
    }
    return LORS_OK;
}

static lors_status parse_bytes(const void *bytes, size_t n_bytes, uint64_t file_bytes,
                               lors_st_header **out)
{
    memory_file file = {bytes, n_bytes, 0, -1};
    lors_status status = lors_st_parse("m.safetensors", read_memory, &file, file_bytes, out);
    assert_true(file.largest_read <= 65536);
    assert_true((status == LORS_OK) == (*out != NULL));
    return status;
}

/* A file with this header and n_data bytes behind it. */
static lors_status parse_json(const char *json, size_t n_json, uint64_t n_data,
                              lors_st_header **out)
{
    char *bytes = malloc(8 + n_json);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) {
        bytes[i] = (char)(unsigned char)((uint64_t)n_json >> (8 * i) & 0xff);
    }
    memcpy(bytes + 8, json, n_json);
    lors_status status = parse_bytes(bytes, 8 + n_json, 8 + n_json + n_data, out);
    free(bytes);
    return status;
}

static void expect_refusal(lors_status status, const char *json, const char *sentence)
{
    if (status != LORS_ERR_INPUT || !strstr(lors_last_error(), sentence) ||
        strncmp(lors_last_error(), "m.safetensors: byte ", 20) != 0) {
        print_message("%.200s\n  gave %s: %s\n  expected: %s\n", json, lors_status_name(status),
                      lors_last_error(), sentence);
    }
    assert_int_equal(status, LORS_ERR_INPUT);
    assert_non_null(strstr(lors_last_error(), sentence));
    assert_int_equal(strncmp(lors_last_error(), "m.safetensors: byte ", 20), 0);
}

/* ---- The table ------------------------------------------------------------------------------ */

typedef struct header_case {
    const char *json;
    uint64_t n_data;
    const char *sentence; /* part of the refusal; NULL: accepted */
} header_case;

#define T8(name) "\"" name "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define FIELDS(text) "{\"a\":{" text "}}"
#define SHAPED(dtype, shape, offsets) \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const header_case header_cases[] = {
    /* bytes of the header */
    {"{}", 0, NULL},
    {"", 0, "byte 8: the header ends here (expected '{'"},
    {"   ", 0, "byte 11: the header ends here"},
    {"{} \t\r\n  ", 0, NULL},
    {" \t\r\n{}", 0, NULL},
    {"{" T8("a") "}   ", 8, NULL},
    {"{" T8("a") "}", 8, NULL},
    {"\xef\xbb\xbf{}", 0, "byte 8: found byte 0xef, expected '{'"},
    {"[]", 0, "byte 8: found '[', expected '{'"},
    {"null", 0, "found 'n', expected '{'"},
    {"{} x", 0, "found 'x', expected only spaces"},
    {"{}{}", 0, "found '{', expected only spaces"},
    {"{/**/}", 0, "found '/'"},
    {"{" T8("a") ",}", 8, "found '}', expected a key in quotes"},
    {"{,}", 0, "found ','"},
    {"{" T8("a"), 8, "the header ends here (expected ',' or '}')"},
    {"{\"a", 0, "the header ends here (expected the rest of a string"},
    {"{\"a\"", 0, "the header ends here (expected ':')"},
    {"{a:1}", 0, "found 'a', expected a string in double quotes"},
    {"{'a':1}", 0, "expected a string in double quotes"},
    {"{\"a\":NaN}", 0, "tensor 'a': found 'N', expected an object"},
    {"{\"a\nb\":{}}", 0, "found byte 0x0a, expected the rest of a string"},
    {"{\"a\tb\":{}}", 0, "found byte 0x09"},
    {"{\"\\q\":{}}", 0, "found 'q', expected one of"},
    /* UTF-8 and escapes */
    {"{" T8("\xc3\xa4") "}", 8, NULL},
    {"{" T8("\xe2\x82\xac\xed\x9f\xbf\xee\x80\x80") "}", 8, NULL},
    {"{" T8("\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf") "}", 8, NULL},
    {"{\"\xc0\x80\":{}}", 0, "byte 10: invalid UTF-8"},
    {"{\"\xc1\xbf\":{}}", 0, "invalid UTF-8"},
    {"{\"\xe0\x9f\xbf\":{}}", 0, "invalid UTF-8"},
    {"{\"\xed\xa0\x80\":{}}", 0, "invalid UTF-8"},
    {"{\"\xf0\x8f\xbf\xbf\":{}}", 0, "invalid UTF-8"},
    {"{\"\xf4\x90\x80\x80\":{}}", 0, "invalid UTF-8"},
    {"{\"\xf5\x80\x80\x80\":{}}", 0, "invalid UTF-8"},
    {"{\"\x80\":{}}", 0, "invalid UTF-8"},
    {"{\"\xff\":{}}", 0, "invalid UTF-8"},
    {"{\"\xc3\":{}}", 0, "invalid UTF-8"},
    {"{\"\xe2\x82", 0, "invalid UTF-8"},
    {"{\"a\":{\"x\":\"\xff\"}}", 0, "invalid UTF-8"},
    {"{\"__metadata__\":{\"x\":\"\xff\"}}", 0, "invalid UTF-8"},
    {"{" T8("\\ud83d\\ude00 \\u00e9\\u20ac\\u007f\\\"\\\\\\/\\b\\f\\n\\r\\t") "}", 8, NULL},
    {"{" T8("\\u0000") "}", 8, NULL},
    {"{" T8("") "}", 8, NULL},
    {"{\"\\ud800\":{}}", 0, "byte 10: lone surrogate \\ud800"},
    {"{\"\\ud800x\":{}}", 0, "lone surrogate"},
    {"{\"\\ud800\\n\":{}}", 0, "lone surrogate"},
    {"{\"\\ud800\\u0041\":{}}", 0, "lone surrogate"},
    {"{\"\\udc00\":{}}", 0, "lone surrogate \\udc00"},
    {"{\"\\u12g4\":{}}", 0, "four hexadecimal digits"},
    {"{\"\\u12", 0, "the header ends here"},
    /* metadata */
    {"{\"__metadata__\":null}", 0, NULL},
    {"{\"__metadata__\":{}}", 0, NULL},
    {"{\"__metadata__\":{\"format\":\"pt\",\"x\":\"\\u00e9\"}}", 0, NULL},
    {"{" T8("a") ",\"__metadata__\":{\"format\":\"pt\"}}", 8, NULL},
    {"{\"\\u005f_metadata__\":{\"format\":\"pt\"}}", 0, NULL},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, NULL},
    {"{\"__metadata__\":{\"a\":1}}", 0, "found '1', expected a string"},
    {"{\"__metadata__\":{\"a\":null}}", 0, "found 'n', expected a string"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "found '{', expected a string"},
    {"{\"__metadata__\":[]}", 0, "found '[', expected __metadata__"},
    {"{\"__metadata__\":nul}", 0, "found '}', expected null"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "byte 27: __metadata__ is given twice"},
    {"{\"__metadata__\":null,\"__metadata__\":null}", 0, "__metadata__ is given twice"},
    {"{" T8("__metadata__") "}", 8, "found '[', expected a string"},
    /* one name twice: refused here, in every form */
    {"{" T8("a") "," T8("a") "}", 8, "the name 'a' is given twice (first at byte 9)"},
    {"{" T8("a") "," T8("\\u0061") "}", 8, "the name 'a' is given twice"},
    {"{" T8("a") ",\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "twice"},
    {"{" T8("a") ",\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[8,16]}}", 16, "twice"},
    /* fields of a tensor */
    {FIELDS("\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"), 8,
     "tensor 'a': dtype is given twice"},
    {FIELDS("\"dtype\":\"F32\",\"shape\":[2],\"shape\":[2],\"data_offsets\":[0,8]"), 8,
     "shape is given twice"},
    {FIELDS("\"data_offsets\":[0,8],\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"), 8,
     "data_offsets is given twice"},
    {FIELDS("\"d\\u0074ype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"), 8, NULL},
    {FIELDS(" \"shape\" : [ 2 ] , \"data_offsets\" : [ 0 , 8 ] , \"dtype\" : \"F32\" "), 8, NULL},
    {FIELDS("\"shape\":[2],\"data_offsets\":[0,8]"), 8, "byte 13: tensor 'a': dtype is missing"},
    {FIELDS("\"dtype\":\"F32\",\"data_offsets\":[0,8]"), 8, "shape is missing"},
    {FIELDS("\"dtype\":\"F32\",\"shape\":[2]"), 8, "data_offsets is missing"},
    {FIELDS(""), 0, "dtype is missing"},
    {"{\"a\":null}", 0, "found 'n', expected an object"},
    {"{\"a\":[\"F32\",[2],[0,8]]}", 8, "found '[', expected an object"},
    {FIELDS("\"dtype\":{\"F32\":null},\"shape\":[2],\"data_offsets\":[0,8]"), 8,
     "found '{', expected a string"},
    {SHAPED("f32", "[2]", "[0,8]"), 8, "unknown dtype 'f32'"},
    {SHAPED("F31", "[2]", "[0,8]"), 8, "byte 22: tensor 'a': unknown dtype 'F31'"},
    {SHAPED("", "[2]", "[0,8]"), 8, "unknown dtype ''"},
    {SHAPED("F32F32F32F32F32F32F32F32F32F32F32F32", "[2]", "[0,8]"), 8, "unknown dtype"},
    /* unknown fields are checked and ignored */
    {FIELDS("\"x\":[1,{\"y\":[true,false,null,\"z\",-0,-1.5e+3,0.25E-7]}],\"dtype\":\"F32\","
            "\"shape\":[2],\"data_offsets\":[0,8]"), 8, NULL},
    {FIELDS("\"x\":[[[[[[[[]]]]]]]],\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"), 8,
     NULL},
    {FIELDS("\"x\":[[[[[[[[[]]]]]]]]]"), 8, "nested too deeply"},
    {FIELDS("\"x\":{\"a\":[{\"a\":[{\"a\":[{\"a\":[{}]}]}]}]}"), 8, "nested too deeply"},
    {FIELDS("\"x\":1e999"), 8, "too large for a double"},
    {FIELDS("\"x\":1.7976931348623158e308"), 8, "too large for a double"},
    {FIELDS("\"x\":17976931348623157e292"), 0, "dtype is missing"},
    {FIELDS("\"x\":0e999,\"y\":0.0e99999999999999999999,\"z\":1e-99999"), 0, "dtype is missing"},
    {FIELDS("\"x\":0.0000000001e318"), 0, "dtype is missing"},
    {FIELDS("\"x\":0.0000000001e319"), 0, "too large for a double"},
    {FIELDS("\"x\":01"), 0, "must not begin with 0"},
    {FIELDS("\"x\":1."), 0, "expected a digit after the point"},
    {FIELDS("\"x\":.5"), 0, "found '.'"},
    {FIELDS("\"x\":+1"), 0, "found '+'"},
    {FIELDS("\"x\":-"), 0, "expected a digit"},
    {FIELDS("\"x\":1e"), 0, "expected the digits of an exponent"},
    {FIELDS("\"x\":truE"), 0, "found 'E'"},
    {FIELDS("\"x\":[1,]"), 0, "found ']', expected a value"},
    {FIELDS("\"x\":[1 2]"), 0, "found '2', expected ',' or ']'"},
    {FIELDS("\"x\":{\"a\" 1}"), 0, "found '1', expected ':'"},
    {FIELDS("\"x\":{1:1}"), 0, "found '1', expected a string"},
    {FIELDS("\"x\":\"\\ud800\""), 0, "lone surrogate"},
    {FIELDS("\"x\":Infinity"), 0, "found 'I'"},
    /* numbers */
    {SHAPED("F32", "[2.0]", "[0,8]"), 8, "found '.', expected a whole number"},
    {SHAPED("F32", "[2e0]", "[0,8]"), 8, "found 'e', expected a whole number"},
    {SHAPED("F32", "[-0]", "[0,0]"), 0, "found '-', expected a whole number"},
    {SHAPED("F32", "[2]", "[-8,0]"), 0, "found '-', expected a whole number"},
    {SHAPED("F32", "[2]", "[0,08]"), 8, "must not begin with 0"},
    {SHAPED("F32", "[00]", "[0,0]"), 0, "must not begin with 0"},
    {SHAPED("F32", "[\"2\"]", "[0,8]"), 8, "found '\"', expected a whole number"},
    {SHAPED("F32", "null", "[0,8]"), 8, "found 'n', expected a shape"},
    {SHAPED("F32", "2", "[0,8]"), 8, "found '2', expected a shape"},
    {SHAPED("F32", "[2}", "[0,8]"), 8, "found '}', expected ',' or ']'"},
    {SHAPED("F32", "[2,]", "[0,8]"), 8, "found ']', expected a value"},
    {SHAPED("F32", "[2]", "[0]"), 8, "found ']', expected ',' (data_offsets are two numbers)"},
    {SHAPED("F32", "[2]", "[0,8,8]"), 8, "found ',', expected ']' (data_offsets are two numbers)"},
    {SHAPED("F32", "[2]", "[]"), 8, "found ']', expected a whole number"},
    {SHAPED("F32", "[2]", "[0,18446744073709551616]"), 8, "the number is too large"},
    {SHAPED("F32", "[2]", "[0,99999999999999999999999999]"), 8, "the number is too large"},
    {SHAPED("F32", "[2]", "[0,18446744073709551615]"), 8, "data_offsets hold 18446744073709551615"},
    {SHAPED("F32", "[18446744073709551616]", "[0,8]"), 8, "the number is too large"},
    /* sizes */
    {SHAPED("F32", "[]", "[0,4]"), 4, NULL},
    {SHAPED("F32", "[2,0]", "[0,0]"), 0, NULL},
    {SHAPED("F32", "[0]", "[999,999]"), 0, "begin at 999, but the tensors before it end at 0"},
    {SHAPED("U8", "[0,9223372036854775807]", "[0,0]"), 0, NULL},
    {SHAPED("U8", "[0,9223372036854775808,2]", "[0,0]"), 0, "dimension 9223372036854775808"},
    {SHAPED("U8", "[0,9223372036854775807,2]", "[0,0]"), 0, "the shape overflows"},
    {SHAPED("U8", "[9223372036854775807,2,0]", "[0,0]"), 0, "the shape overflows"},
    {SHAPED("U8", "[0,9223372036854775808,9223372036854775808]", "[0,0]"), 0, "dimension"},
    {SHAPED("U8", "[4194305,4194305,211106198978564]", "[0,4]"), 4, "the shape overflows"},
    {SHAPED("U8", "[4294967296,4294967296]", "[0,0]"), 0, "the shape overflows"},
    {SHAPED("F32", "[4611686018427387904]", "[0,0]"), 0, "the size overflows"},
    {SHAPED("U8", "[2305843009213693952]", "[0,0]"), 0, "the size overflows"},
    {SHAPED("F32", "[0,4611686018427387904]", "[0,0]"), 0, NULL},
    {SHAPED("F4", "[2]", "[0,1]"), 1, NULL},
    {SHAPED("F4", "[3]", "[0,1]"), 1, "3 elements of F4 fill no whole number of bytes"},
    {SHAPED("F6_E2M3", "[4]", "[0,3]"), 3, NULL},
    {SHAPED("F6_E3M2", "[2]", "[0,1]"), 1, "fill no whole number of bytes"},
    {SHAPED("C64", "[1]", "[0,8]"), 8, NULL},
    {SHAPED("F8_E8M0", "[3]", "[0,3]"), 3, NULL},
    {SHAPED("F32", "[2]", "[0,4]"), 4, "ask for 8 bytes (2 elements of F32), data_offsets hold 4"},
    {SHAPED("F32", "[2]", "[8,0]"), 8, "data_offsets end at 0, before they begin (8)"},
    /* coverage */
    {"{" T8("a") ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8,
     "tensor 'b': data_offsets begin at 4, within tensor 'a', which ends at 8"},
    {"{" T8("a") ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
     "tensor 'b': data_offsets begin at 0, within tensor 'a'"},
    {"{" T8("a") ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[9,13]}}", 13,
     "tensor 'b': data_offsets begin at 9, but the tensors before it end at 8: the 1 bytes"},
    {SHAPED("U8", "[4]", "[1,5]"), 5, "begin at 1, but the tensors before it end at 0"},
    {"{" T8("b") ",\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}", 8,
     "tensor 'a': data_offsets begin at 4, within tensor 'b'"},
    {"{" T8("b") ",\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}}", 8, NULL},
    {"{" T8("b") ",\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 8, NULL},
    {"{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[8,12]}," T8("a") "}", 12, NULL},
    {"{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"F32\","
     "\"shape\":[1],\"data_offsets\":[1,5]}}", 5, NULL},
    {"{" T8("a") "}", 7, "the file ends here, 1 bytes are missing: the download is incomplete"},
    {"{" T8("a") "}", 0, "8 bytes are missing"},
    {"{" T8("a") "}", 11, "3 extra bytes after the last tensor"},
    {"{}", 5, "5 extra bytes after the last tensor"},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof header_cases / sizeof header_cases[0]; i++) {
        const header_case *c = &header_cases[i];
        lors_st_header *header = NULL;
        lors_status status = parse_json(c->json, strlen(c->json), c->n_data, &header);
        if (c->sentence) {
            expect_refusal(status, c->json, c->sentence);
        } else if (status != LORS_OK) {
            fail_msg("%s\n  gave %s", c->json, lors_last_error());
        }
        lors_st_free(header);
    }
}

/* Every header of the table cut at every byte: refused, whatever it was, and never more. */
static void test_prefixes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof header_cases / sizeof header_cases[0]; i++) {
        const header_case *c = &header_cases[i];
        for (size_t n = 0; n < strlen(c->json); n++) {
            lors_st_header *header = NULL;
            parse_json(c->json, n, c->n_data, &header);
            lors_st_free(header);
        }
    }
}

/* ---- What the table cannot hold ------------------------------------------------------------- */

static void refuse_bytes(const void *bytes, size_t n_bytes, uint64_t file_bytes,
                         const char *sentence)
{
    lors_st_header *header = NULL;
    expect_refusal(parse_bytes(bytes, n_bytes, file_bytes, &header), "(bytes)", sentence);
}

static void test_length(void **state)
{
    (void)state;
    refuse_bytes("", 0, 0, "byte 0: the file ends before its header (found 0 bytes");
    refuse_bytes("\2\0\0\0\0\0\0", 7, 7, "byte 7: the file ends before its header");
    refuse_bytes("\0\0\0\0\0\0\0\0", 8, 8, "byte 8: the header ends here");
    refuse_bytes("\2\0\0\0\0\0\0\0", 8, 8, "2 bytes of it are missing: the download is incomplete");
    refuse_bytes("\2\0\0\0\0\0\0\0{", 9, 9, "byte 9: the file ends within its header: 1 bytes");
    refuse_bytes("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, 10, "header of 18446744073709551615");
    refuse_bytes("\1\xe1\xf5\5\0\0\0\0", 8, 200000000, "header of 100000001 bytes (allowed: up");
    refuse_bytes("\0\0\0\0\1\0\0\0{}", 10, 10, "header of 4294967296 bytes");
    refuse_bytes("\0\xe1\xf5\5\0\0\0\0", 8, 200000000, "byte 8: found byte 0x00, expected '{'");
    refuse_bytes("\3\0\0\0\0\0\0\0\0{}", 11, 11, "byte 8: found byte 0x00, expected '{'");
    refuse_bytes("\3\0\0\0\0\0\0\0{}\0", 11, 11, "byte 10: found byte 0x00, expected only spaces");
}

static void test_foreign(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22ea"
         "dbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n", "run `git lfs pull`"},
        {"<!DOCTYPE html><html>", "a web page saved as a model: download it again"},
        {"\n  <html>\n<head>", "a web page"},
        {"<html>", "a web page"},
        {"Entry not found", "download it again"},
        {"PK\x03\x04\x14\x08\x08\x08....", "a PyTorch zip file: convert it to safetensors first"},
        {"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P", "a Python pickle"},
        {"GGUF\3....", "a GGUF file"},
        {"lmgg....", "a whisper.cpp file"},
        {"what is this?", "this is no safetensors file"},
        {"        ", "this is no safetensors file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n_bytes = strlen(cases[i].text);
        refuse_bytes(cases[i].text, n_bytes, n_bytes, cases[i].sentence);
    }
}

/* A header whose one name is n_bytes of 'x'. */
static lors_status parse_name(size_t n_bytes, lors_st_header **out)
{
    static const char tail[] = "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    char *json = malloc(n_bytes + sizeof tail + 2);
    assert_non_null(json);
    memcpy(json, "{\"", 2);
    memset(json + 2, 'x', n_bytes);
    memcpy(json + 2 + n_bytes, tail, sizeof tail);
    lors_status status = parse_json(json, 2 + n_bytes + sizeof tail - 1, 1, out);
    free(json);
    return status;
}

static void test_name_limit(void **state)
{
    (void)state;
    lors_st_header *header = NULL;
    assert_int_equal(parse_name(LORS_ST_MAX_NAME, &header), LORS_OK);
    assert_int_equal(header->tensors[0].name_bytes, LORS_ST_MAX_NAME);
    assert_int_equal(strlen(header->tensors[0].name), LORS_ST_MAX_NAME);
    lors_st_free(header);
    expect_refusal(parse_name(LORS_ST_MAX_NAME + 1, &header), "4097", "a name of 4097 bytes");
    expect_refusal(parse_name(1000000, &header), "1 MB", "a name of 1000000 bytes");
}

static lors_status parse_rank(int rank, lors_st_header **out)
{
    char json[4096] = "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1],\"shape\":[1";
    size_t n = strlen(json);
    for (int i = 1; i < rank; i++) {
        n += (size_t)snprintf(json + n, sizeof json - n, ",1");
    }
    n += (size_t)snprintf(json + n, sizeof json - n, "]}}");
    return parse_json(json, n, 1, out);
}

static void test_rank_limit(void **state)
{
    (void)state;
    lors_st_header *header = NULL;
    assert_int_equal(parse_rank(64, &header), LORS_OK);
    assert_int_equal(header->tensors[0].n_dims, 64);
    lors_st_free(header);
    expect_refusal(parse_rank(65, &header), "rank 65", "more than 64 dimensions");
}

/* A hundred thousand brackets must not reach the stack: the limit stops them at the ninth. */
static void test_deep(void **state)
{
    (void)state;
    size_t n = 100000;
    lors_st_header *header = NULL;
    char *json = malloc(n);
    assert_non_null(json);
    memset(json, '[', n);
    expect_refusal(parse_json(json, n, 0, &header), "[[[", "found '[', expected '{'");
    memcpy(json, "{\"a\":{\"x\":", 10);
    expect_refusal(parse_json(json, n, 0, &header), "deep", "byte 26: tensor 'a': nested too deep");
    free(json);
}

static void test_fields(void **state)
{
    (void)state;
    static const char json[] =
        "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
        "\"__metadata__\":{\"format\":\"pt\"},"
        "\"z\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"e2\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]},"
        "\"e1\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[8,8]}}";
    lors_st_header *header = NULL;
    assert_int_equal(parse_json(json, sizeof json - 1, 20, &header), LORS_OK);
    assert_int_equal(header->n_tensors, 4);
    assert_int_equal(header->data_start, 8 + sizeof json - 1);
    assert_int_equal(header->file_bytes, 8 + sizeof json - 1 + 20);
    assert_string_equal(header->format, "pt");
    static const char *const order[] = {"z", "e2", "e1", "b"}; /* alike: as in the header */
    for (int i = 0; i < 4; i++) {
        assert_string_equal(header->tensors[i].name, order[i]);
        assert_non_null(header->tensors[i].shape);
    }
    const lors_st_tensor *b = &header->tensors[3], *e1 = &header->tensors[2];
    assert_true(b->dtype == LORS_BF16 && b->n_dims == 2 && b->shape[0] == 2 && b->shape[1] == 3);
    assert_true(b->n_elements == 6 && b->begin == 8 && b->end == 20);
    assert_true(e1->n_elements == 0 && e1->shape[0] == 3 && e1->shape[1] == 0);
    assert_true(header->tensors[0].n_dims == 0 && header->tensors[0].n_elements == 1);
    assert_false(header->loose);
    lors_st_free(header);
    lors_st_free(NULL);
}

/* The header is padded, as writers do it. */
static void check_flags(const char *json, uint64_t n_data, bool loose, bool unaligned)
{
    lors_st_header *header = NULL;
    char padded[256];
    snprintf(padded, sizeof padded, "%-248s", json);
    assert_int_equal(parse_json(padded, strlen(padded), n_data, &header), LORS_OK);
    assert_int_equal(header->loose, loose);
    assert_int_equal(header->unaligned, unaligned);
    lors_st_free(header);
}

static void test_flags(void **state)
{
    (void)state;
    check_flags("{" T8("a") "}", 8, false, false);
    check_flags(" {}", 0, true, false);
    check_flags("{\"a\":{\"x\":1,\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
                true, false);
    check_flags("{" T8("a\\n") "}", 8, true, false);
    check_flags("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                "\"b\":{\"dtype\":\"U16\",\"shape\":[1],\"data_offsets\":[1,3]}}", 3, false, true);
    lors_st_header *header = NULL;
    static const char twice[] = "{\"__metadata__\":{\"format\":\"a\",\"format\":\"np\"}}";
    assert_int_equal(parse_json(twice, sizeof twice - 1, 0, &header), LORS_OK);
    assert_string_equal(header->format, "np");
    lors_st_free(header);
    static const char with_nul[] = "{" T8("a\\u0000b") "}";
    assert_int_equal(parse_json(with_nul, sizeof with_nul - 1, 8, &header), LORS_OK);
    assert_int_equal(header->tensors[0].name_bytes, 3);
    assert_memory_equal(header->tensors[0].name, "a\0b", 4);
    assert_null(header->format);
    lors_st_free(header);
}

/* A read that fails: its status comes through, at every read. */
static void test_read_failure(void **state)
{
    (void)state;
    size_t n_json = 200000;
    char *bytes = malloc(8 + n_json);
    assert_non_null(bytes);
    memcpy(bytes, "\x40\x0d\x03\0\0\0\0\0{", 9); /* 200000 */
    memset(bytes + 9, ' ', n_json - 2);
    bytes[8 + n_json - 1] = '}';
    for (int64_t n = 0; n < 6; n++) {
        lors_st_header *header = NULL;
        memory_file file = {bytes, 8 + n_json, 0, n};
        lors_status status = lors_st_parse("m", read_memory, &file, 8 + n_json, &header);
        assert_int_equal(status, n < 5 ? LORS_ERR_IO : LORS_OK);
        lors_st_free(header);
    }
    free(bytes);
}

/* Every single-byte change of a good file: accepted or refused, never worse. */
static void test_mutations(void **state)
{
    (void)state;
    static const char json[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\\u00e9\":{"
                               "\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8],"
                               "\"x\":[1.5e3,null]}}";
    char changed[sizeof json];
    for (size_t at = 0; at + 1 < sizeof json; at++) {
        for (int byte = 0; byte < 256; byte++) {
            lors_st_header *header = NULL;
            memcpy(changed, json, sizeof json);
            changed[at] = (char)(unsigned char)byte;
            parse_json(changed, sizeof json - 1, 8, &header);
            lors_st_free(header);
        }
    }
}

/* ---- Size ----------------------------------------------------------------------------------- */

/* As many tensors as a header of 100 MB holds, last bytes first so that they must be sorted. */
static void test_many_tensors(void **state)
{
    (void)state;
    int64_t n_tensors = getenv("LORS_TEST_LARGE") ? 1450000 : 100000;
    size_t capacity = (size_t)n_tensors * 80, n = 8;
    char *bytes = malloc(capacity);
    assert_non_null(bytes);
    bytes[n++] = '{';
    for (int64_t i = 0; i < n_tensors; i++) {
        long long at = (long long)(n_tensors - 1 - i);
        n += (size_t)snprintf(bytes + n, capacity - n,
                              "%s\"%llx\":{\"dtype\":\"U8\",\"shape\":[],"
                              "\"data_offsets\":[%lld,%lld]}",
                              i ? "," : "", (unsigned long long)i, at, at + 1);
    }
    bytes[n++] = '}';
    for (int i = 0; i < 8; i++) {
        bytes[i] = (char)(unsigned char)((uint64_t)(n - 8) >> (8 * i) & 0xff);
    }
    lors_st_header *header = NULL;
    double start = lors_seconds();
    lors_status status = parse_bytes(bytes, n, n + (uint64_t)n_tensors, &header);
    assert_int_equal(status, LORS_OK);
    assert_int_equal(header->n_tensors, n_tensors);
    assert_string_equal(header->tensors[n_tensors - 1].name, "0");
    print_message("%lld tensors, %zu bytes of header: %.2f s\n", (long long)n_tensors, n - 8,
                  lors_seconds() - start);
    lors_st_free(header);
    free(bytes);
}

/* ---- Memory --------------------------------------------------------------------------------- */

static void test_memory_failures(void **state)
{
    (void)state;
    static const char json[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[4,8]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    for (int sticky = 0; sticky < 2; sticky++) {
        uint64_t n = 1;
        for (;; n++) {
            lors_st_header *header = NULL;
            lors_alloc_fail_at(n, sticky);
            lors_status status = parse_json(json, sizeof json - 1, 8, &header);
            bool reached = lors_alloc_count() >= n;
            lors_alloc_fail_at(0, false);
            lors_st_free(header);
            if (status == LORS_OK && !reached) {
                break;
            }
            assert_true(status == LORS_ERR_LIMIT || status == LORS_OK);
        }
        assert_true(n > 10 && n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_name_limit),
        cmocka_unit_test(test_rank_limit),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_read_failure),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_many_tensors),
        cmocka_unit_test(test_memory_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

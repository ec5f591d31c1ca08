/* test_text.c - escaping, UTF-8, nearest words, sizes in words, paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/memory.h"
#include "base/text.h"

#define BYTES(literal) literal, sizeof(literal) - 1

static void hostile_bytes_are_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t n_bytes;
        const char *out;
    } cases[] = {
        {BYTES("model.layers.0"), "model.layers.0"},
        {BYTES(""), ""},
        {BYTES("a\nb\tc\x1b[31m"), "a\\x0ab\\x09c\\x1b[31m"},
        {BYTES("nul\0in"), "nul\\x00in"},
        {BYTES("\"q\" 'r' \\ \x7f"), "\\x22q\\x22 \\x27r\\x27 \\x5c \\x7f"},
        {BYTES("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"),
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"},
        {BYTES("\xff\xfe"), "\\xff\\xfe"},
        {BYTES("\xc3"), "\\xc3"},
        {BYTES("\xc0\x80"), "\\xc0\\x80"},          /* overlong NUL */
        {BYTES("\xed\xa0\x80"), "\\xed\\xa0\\x80"}, /* surrogate */
        {BYTES("\xe2\x82z"), "\\xe2\\x82z"},        /* broken off */
        {BYTES("\xc2\x9b"
               "31m"),
         "\\xc2\\x9b31m"}, /* C1 control: CSI */
        {BYTES("a\xe2\x80\xae"
               "b"),
         "a\\xe2\\x80\\xae"
         "b"}, /* right-to-left override */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[LORS_ESCAPED_MAX];
        assert_ptr_equal(lors_escape(cases[i].in, cases[i].n_bytes, out), out);
        assert_string_equal(out, cases[i].out);
    }
}

static void long_names_are_cut(void **state)
{
    (void)state;
    char in[1000], out[LORS_ESCAPED_MAX];
    memset(in, 0x01, sizeof in);
    lors_escape(in, 200, out);
    assert_int_equal(strlen(out), 800);
    lors_escape(in, 201, out);
    assert_int_equal(strlen(out), 803);
    assert_string_equal(out + 796, "\\x01...");
    memset(in, 'a', sizeof in);
    memcpy(in + 199, "\xc3\xbc", 3); /* a character across the limit stays out */
    lors_escape_text(in, out);
    assert_int_equal(strlen(out), 202);
    assert_string_equal(out + 198, "a...");
}

static void utf8_is_strict(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "abc",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xf8\x88\x80\x80",
                                      "\xff",
                                      "a\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98",
                                      "\xc3("};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(lors_utf8_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(lors_utf8_valid(bad[i], strlen(bad[i])));
    }
    assert_true(lors_utf8_valid("a\0b", 3));
    assert_true(lors_utf8_valid(NULL, 0));
}

/* Every code point encodes to something valid, the surrogates do not. */
static void utf8_all_code_points(void **state)
{
    (void)state;
    for (uint32_t c = 0x800; c < 0x110000; c++) {
        char bytes[4];
        size_t n = c < 0x10000 ? 3 : 4;
        uint32_t rest = c;
        for (size_t i = n; i-- > 1; rest >>= 6) {
            bytes[i] = (char)(0x80u | (rest & 0x3fu));
        }
        bytes[0] = (char)((n == 3 ? 0xe0u : 0xf0u) | rest);
        if (lors_utf8_valid(bytes, n) != (c < 0xd800 || c > 0xdfff)) {
            fail_msg("U+%04x", c);
        }
    }
}

static const char *method_name(size_t i, const void *context)
{
    (void)context;
    static const char *const names[] = {
        "linear", "task_arithmetic", "ties", "dare", "lors", "svd", "r", NULL};
    return names[i];
}

static void typos_find_their_word(void **state)
{
    (void)state;
    static const struct {
        const char *word, *nearest;
    } cases[] = {
        {"liner", "linear"},
        {"lienar", "linear"},
        {"task-arithmetic", "task_arithmetic"},
        {"TIES", "ties"},
        {"task_aritmetc", "task_arithmetic"},
        {"tise", "ties"},
        {"lor", "lors"},
        {"dares", "dare"},
        {"bread", NULL},
        {"zzzzzzzz", NULL},
        {"", NULL},
        {"x", NULL},
        {"sdv", "svd"},
        {"ddd", NULL},
        {"linearlinear", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *found = lors_nearest(cases[i].word, method_name, NULL);
        if (cases[i].nearest) {
            assert_non_null(found);
            assert_string_equal(found, cases[i].nearest);
        } else {
            assert_null(found);
        }
    }
    static char word[5000];
    memset(word, 'l', sizeof word - 1);
    assert_null(lors_nearest(word, method_name, NULL));
    word[256] = '\0';
    assert_null(lors_nearest(word, method_name, NULL));
}

static void sizes_are_written(void **state)
{
    (void)state;
    static const struct {
        uint64_t n_bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {12, "12 B"},
        {999, "999 B"},
        {1000, "1 kB"},
        {1004, "1 kB"},
        {1005, "1.01 kB"},
        {1050, "1.05 kB"},
        {9994, "9.99 kB"},
        {9995, "10 kB"},
        {99949, "99.9 kB"},
        {99950, "100 kB"},
        {640000, "640 kB"},
        {999499, "999 kB"},
        {999500, "1 MB"},
        {1500000000, "1.5 GB"},
        {3087130976, "3.09 GB"},
        {999999999999, "1 TB"},
        {10000000000000, "10 TB"},
        {UINT64_MAX, "18.4 EB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[32];
        assert_string_equal(lors_format_bytes(cases[i].n_bytes, out), cases[i].text);
    }
}

static void sizes_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t n_bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"4096B", 4096},
        {"1500M", 1500000000},
        {"1.5G", 1500000000},
        {"1.5 GB", 1500000000},
        {"2GiB", 2147483648},
        {"2Gi", 2147483648},
        {"1k", 1000},
        {"1K", 1000},
        {"1kib", 1024},
        {"0.1Ki", 102},
        {"3TB", 3000000000000},
        {"1.000000000001T", 1000000000001},
        {"0.9999999999999999999999999k", 999},
        {"16Ti", 17592186044416},
        {"18446744073709551615", UINT64_MAX},
        {"18446744.073709551615T", UINT64_MAX},
        {"16777215.999Ti", 18446744072610039988u},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t n_bytes = 77;
        assert_int_equal(lors_parse_bytes(cases[i].text, &n_bytes), LORS_OK);
        assert_int_equal(n_bytes, cases[i].n_bytes);
    }
}

static void wrong_sizes_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "no size"},
        {"-1", "negative"},
        {"-1.5G", "negative"},
        {"G", "no size"},
        {"1.5", "fraction of a byte"},
        {"1.5B", "fraction of a byte"},
        {"1.G", "no size"},
        {".5G", "no size"},
        {"1,5G", "no size"},
        {"1e9", "no size"},
        {"0x10", "no size"},
        {"1Gx", "no size"},
        {"1GBB", "no size"},
        {"1i", "no size"},
        {"1  G", "no size"},
        {"1 ", "no size"},
        {" 1", "no size"},
        {"+1", "no size"},
        {"1P", "no size"},
        {"nan", "no size"},
        {"1\nG", "\"1\\x0aG\" is no size"},
        {"18446744073709551616", "2^64"},
        {"99999999999999999999999999", "2^64"},
        {"18446744.073709551616T", "2^64"},
        {"16777216Ti", "2^64"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t n_bytes = 77;
        assert_int_equal(lors_parse_bytes(cases[i].text, &n_bytes), LORS_ERR_USAGE);
        assert_int_equal(n_bytes, 77);
        assert_non_null(strstr(lors_last_error(), cases[i].why));
        assert_non_null(strstr(lors_last_error(), "such as"));
    }
}

static void paths_come_apart_and_together(void **state)
{
    (void)state;
    static const struct {
        const char *path, *parent, *base;
    } parts[] = {
        {"a/b", "a", "b"},   {"a", ".", "a"},     {"/a", "/", "a"},
        {"a/b/", "a", "b/"}, {"/", "/", "/"},     {"", ".", ""},
        {"a//b", "a", "b"},  {"//a", "/", "a"},   {"/a/b/c.x", "/a/b", "c.x"},
        {"a/", ".", "a/"},   {"../x", "..", "x"},
    };
    static const struct {
        const char *folder, *name, *joined;
    } joins[] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"},
        {"/", "b", "/b"},  {"a", "", "a/"},    {"a", "/b", "a//b"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *parent = lors_path_parent(parts[i].path);
        assert_string_equal(parent, parts[i].parent);
        lors_free(parent);
        assert_string_equal(lors_path_base(parts[i].path), parts[i].base);
    }
    for (size_t i = 0; i < sizeof joins / sizeof *joins; i++) {
        char *joined = lors_path_join(joins[i].folder, joins[i].name);
        assert_string_equal(joined, joins[i].joined);
        lors_free(joined);
    }
    lors_alloc_fail_at(1, true);
    assert_null(lors_path_join("a", "b"));
    assert_null(lors_path_parent("a/b"));
    assert_null(lors_path_parent("a"));
    lors_alloc_fail_at(0, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_bytes_are_escaped),
        cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(utf8_all_code_points),
        cmocka_unit_test(typos_find_their_word),
        cmocka_unit_test(sizes_are_written),
        cmocka_unit_test(sizes_are_read),
        cmocka_unit_test(wrong_sizes_are_explained),
        cmocka_unit_test(paths_come_apart_and_together),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}

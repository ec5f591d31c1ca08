/* test_hash.c - SHA-256 and XXH3 against published values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

static void sha256_known_answers(void **state)
{
    (void)state;
    static const struct {
        const char *message, *hex;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    lors_sha256 *sha = NULL;
    char hex[LORS_SHA256_TEXT];
    assert_int_equal(lors_sha256_create(&sha), LORS_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) { /* the state serves again */
        assert_int_equal(lors_sha256_update(sha, cases[i].message, strlen(cases[i].message)),
                         LORS_OK);
        assert_int_equal(lors_sha256_finish(sha, hex), LORS_OK);
        assert_string_equal(hex, cases[i].hex);
    }
    lors_sha256_free(sha);
}

static void sha256_in_pieces(void **state)
{
    (void)state;
    lors_sha256 *sha = NULL;
    char hex[LORS_SHA256_TEXT], piece[997];
    memset(piece, 'a', sizeof piece);
    assert_int_equal(lors_sha256_create(&sha), LORS_OK);
    assert_int_equal(lors_sha256_update(sha, NULL, 0), LORS_OK);
    for (size_t left = 1000000; left > 0;) {
        size_t n = left < sizeof piece ? left : sizeof piece;
        assert_int_equal(lors_sha256_update(sha, piece, n), LORS_OK);
        left -= n;
    }
    assert_int_equal(lors_sha256_finish(sha, hex), LORS_OK);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    lors_sha256_free(sha);
}

static void sha256_without_memory(void **state)
{
    (void)state;
    lors_sha256 *sha = (lors_sha256 *)1;
    lors_alloc_fail_at(1, true);
    assert_int_equal(lors_sha256_create(&sha), LORS_ERR_LIMIT);
    assert_null(sha);
    lors_alloc_fail_at(0, false);
    lors_sha256_free(NULL);
}

/* Values as xxhsum -H2 and -H3 print them. */
static void xxh_known_answers(void **state)
{
    (void)state;
    char text[LORS_XXH_TEXT];
    lors_xxh_text(lors_xxh_of("", 0), text);
    assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
    lors_xxh_text(lors_xxh_of(NULL, 0), text);
    assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
    lors_xxh_text(lors_xxh_of("abc", 3), text);
    assert_string_equal(text, "06b05ab6733a618578af5f94892f3950");
    assert_true(lors_xxh64_of("", 0) == 0x2d06800538d394c2u);
    assert_true(lors_xxh64_of("abc", 3) == 0x78af5f94892f3950u);
}

static void xxh_notices_one_bit(void **state)
{
    (void)state;
    unsigned char bytes[600] = {0};
    lors_xxh zero = lors_xxh_of(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        lors_xxh changed = lors_xxh_of(bytes, sizeof bytes);
        assert_memory_not_equal(changed.bytes, zero.bytes, sizeof zero.bytes);
        bytes[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_known_answers),  cmocka_unit_test(sha256_in_pieces),
        cmocka_unit_test(sha256_without_memory), cmocka_unit_test(xxh_known_answers),
        cmocka_unit_test(xxh_notices_one_bit),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}

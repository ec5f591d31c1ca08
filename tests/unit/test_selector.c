/* test_selector.c - which tensors a selector means, and what is wrong with a bad one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <lors/status.h>

#include "base/memory.h"
#include "recipe/scope.h"

/* Letters stand for tensors; a selector must take exactly the letters given. */
static const char *const NAMES[] = {
    "a model.encoder.layers.0.self_attn.q_proj.weight",
    "b model.encoder.layers.1.self_attn.out_proj.bias",
    "c model.encoder.layers.2.fc1.weight",
    "d model.encoder.layers.10.fc2.weight",
    "e model.decoder.layers.0.self_attn.v_proj.weight",
    "f model.decoder.layers.1.encoder_attn.q_proj.weight",
    "g model.decoder.layers.1.encoder_attn.out_proj.weight",
    "h model.decoder.layers.3.fc1.bias",
    "i model.decoder.embed_tokens.weight",
    "j model.encoder.embed_positions.weight",
    "k model.decoder.embed_positions.weight",
    "l model.encoder.conv1.weight",
    "m model.decoder.layer_norm.weight",
    "n decoder.blocks.2.cross_attn.key.weight",
    "o transformer.h.5.attn.c_attn.weight",
    "p classifier.weight",
    NULL,
};

static const struct {
    const char *text, *letters;
} CASES[] = {
    {"attention", "abefgno"},
    {"attention.q", "af"},
    {"attention.k", "n"},
    {"attention.v", "e"},
    {"attention.out", "bg"},
    {"attention.qkv", "o"},
    {"self_attention", "abeo"},
    {"self_attention.q", "a"},
    {"cross_attention", "fgn"},
    {"cross_attention.k", "n"},
    {"cross_attention.out", "g"},
    {"mlp", "cdh"},
    {"embedding", "i"},
    {"position", "jk"},
    {"norm", "m"},
    {"conv", "l"},
    {"encoder", "abcdjl"},
    {"decoder", "efghikmn"},
    {"layers: 0-1", "abefg"},
    {"layers:0-1", "abefg"},
    {"layers: 1 - 3", "bcfghn"},
    {"layers: 10", "d"},
    {"layers: 0", "ae"},
    {"layers: 0-999999", "abcdefghno"},
    {"*", "abcdefghijklmnop"},
    {"regex:fc[12]", "cdh"},
    {"regex: ^decoder", "n"},
    {"regex:encoder_attn\\.k_proj", "n"}, /* the canonical name counts too */
    {"regex:a&b|fc2", "d"},
    {"encoder & attention", "ab"},
    {"decoder&attention.q", "f"},
    {"!attention", "cdhijklmp"},
    {"! attention & !mlp", "ijklmp"},
    {"!!encoder & ! !attention", "ab"},
    {"decoder & !cross_attention & layers: 0-5", "eh"},
    {"encoder & !regex:fc[12]", "abjl"},
    {"fc1", "ch"},
    {"self_attn", "abe"},
    {"encoder_attn", "fg"}, /* a substring of the name as in the base only */
    {"Encoder", ""},
    {"layers.1", "bdfg"},
    {"encoder & fc", "cd"},
};

static void test_matches(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        lors_selector *selector;
        char letters[32] = "";
        size_t n = 0;
        if (lors_selector_parse(CASES[i].text, true, &selector) != LORS_OK) {
            fail_msg("%s: %s", CASES[i].text, lors_last_error());
        }
        for (const char *const *name = NAMES; *name; name++) {
            lors_tensor_name described;
            lors_name_describe(*name + 2, &described);
            lors_subject subject = {*name + 2, &described};
            if (lors_selector_matches(selector, &subject)) {
                letters[n++] = **name;
            }
        }
        letters[n] = '\0';
        lors_selector_free(selector);
        if (strcmp(letters, CASES[i].letters) != 0) {
            fail_msg("%s: %s, not %s", CASES[i].text, letters, CASES[i].letters);
        }
    }
}

#define ALLOWED                                                                                  \
    " (allowed: attention, self_attention and cross_attention, each also with .q .k .v .out; "   \
    "mlp, embedding, position, norm, conv, encoder, decoder, layers: A-B, regex:PATTERN, *)"
#define NO_RANGE                                                                                 \
    " is not a range of layers (write layers: 0-3, both ends included, or layers: 3; the first " \
    "layer is 0)"
#define TOO_MUCH "the pattern nests or repeats too much: use fewer '+' and {m,n} inside each other"

static const struct {
    const char *text, *message;
} BAD[] = {
    {"atention", "unknown selector 'atention', did you mean 'attention'?" ALLOWED},
    {"fc1", "unknown selector 'fc1'" ALLOWED},
    {"attention, mlp",
     "unknown selector 'attention, mlp': write several as a list, [attention, mlp]"},
    {"Decoder", "unknown selector 'Decoder', did you mean 'decoder'?" ALLOWED},
    {"", "a selector is empty"},
    {"encoder &", "a selector is empty"},
    {"& mlp", "a selector is empty"},
    {"!", "a selector is empty"},
    {"layers: 5-2", "'layers: 5-2' is reversed (write layers: 2-5)"},
    {"layers: a-b", "'layers: a-b'" NO_RANGE},
    {"layers:", "'layers:'" NO_RANGE},
    {"layers: -1", "'layers: -1'" NO_RANGE},
    {"layers: 1-", "'layers: 1-'" NO_RANGE},
    {"layers: 1-2-3", "'layers: 1-2-3'" NO_RANGE},
    {"layers: 99999999999", "'layers: 99999999999'" NO_RANGE},
    {"regex:", "'regex:' needs a pattern (such as regex:fc[12])"},
    {"regex:(a", "'(a' is not a POSIX extended regular expression: Unmatched ( or \\("},
    {"regex:(a)\\1", "the pattern holds the backreference '\\1', which is not supported"},
    {"regex:(((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+", TOO_MUCH},
    {"regex:((a{1,60}){1,60}){1,60}", TOO_MUCH},
    {"regex:([[:alpha:](]+x{99}){99}", TOO_MUCH},
    {"regex:a{99999}", TOO_MUCH},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        lors_selector *selector = (lors_selector *)&BAD;
        assert_int_equal(lors_selector_parse(BAD[i].text, false, &selector), LORS_ERR_RECIPE);
        assert_null(selector);
        assert_string_equal(lors_last_error(), BAD[i].message);
    }
}

static void test_limits(void **state)
{
    lors_selector *selector;
    char text[1024] = "regex:";
    (void)state;
    memset(text + 6, 'a', 257);
    assert_int_equal(lors_selector_parse(text, true, &selector), LORS_ERR_RECIPE);
    assert_string_equal(lors_last_error(), "the pattern has 257 bytes (allowed: up to 256)");
    text[6 + 256] = '\0';
    assert_int_equal(lors_selector_parse(text, true, &selector), LORS_OK);
    lors_selector_free(selector);
    memset(text, 'a', 513);
    assert_int_equal(lors_selector_parse(text, true, &selector), LORS_ERR_RECIPE);
    assert_string_equal(lors_last_error(), "a selector has 513 bytes (allowed: up to 512)");
}

static void test_words(void **state)
{
    int32_t n = 0;
    (void)state;
    while (lors_selector_word(n)) {
        n++;
    }
    assert_true(n > 20);
    assert_null(lors_selector_word(-1));
    lors_selector_free(NULL);
}

/* Whichever allocation fails: an error, nothing leaked, nothing left behind. */
static void test_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        lors_selector *selector;
        lors_alloc_fail_at(n, true);
        lors_status status
            = lors_selector_parse("encoder & fc & !regex:q & layers: 1-2", true, &selector);
        lors_alloc_fail_at(0, false);
        if (status == LORS_OK) {
            assert_true(n > 2);
            lors_selector_free(selector);
            return;
        }
        assert_int_equal(status, LORS_ERR_LIMIT);
        assert_null(selector);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches), cmocka_unit_test(test_bad),
        cmocka_unit_test(test_limits),  cmocka_unit_test(test_words),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_names.c - tensor names to roles, stacks, layers and canonical names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "recipe/names.h"

enum { N_LAYERS = 4, N_TINY = 167, NAME_BYTES = 128 };

/* What one tensor must be called and be. */
typedef struct expected {
    char hf[NAME_BYTES], openai[NAME_BYTES]; /* hf without "model." */
    lors_role role;
    lors_stack stack;
    int32_t layer;
    bool is_weight;
} expected;

/* One projection or norm of a layer: Hugging Face's word, OpenAI's word. */
static const struct {
    const char *hf, *openai;
    lors_role role;
    bool cross, bias;
} PARTS[] = {
    {"self_attn.q_proj", "attn.query", LORS_ROLE_ATTENTION_Q, false, true},
    {"self_attn.k_proj", "attn.key", LORS_ROLE_ATTENTION_K, false, false},
    {"self_attn.v_proj", "attn.value", LORS_ROLE_ATTENTION_V, false, true},
    {"self_attn.out_proj", "attn.out", LORS_ROLE_ATTENTION_OUT, false, true},
    {"self_attn_layer_norm", "attn_ln", LORS_ROLE_NORM, false, true},
    {"encoder_attn.q_proj", "cross_attn.query", LORS_ROLE_CROSS_Q, true, true},
    {"encoder_attn.k_proj", "cross_attn.key", LORS_ROLE_CROSS_K, true, false},
    {"encoder_attn.v_proj", "cross_attn.value", LORS_ROLE_CROSS_V, true, true},
    {"encoder_attn.out_proj", "cross_attn.out", LORS_ROLE_CROSS_OUT, true, true},
    {"encoder_attn_layer_norm", "cross_attn_ln", LORS_ROLE_NORM, true, true},
    {"fc1", "mlp.0", LORS_ROLE_MLP, false, true},
    {"fc2", "mlp.2", LORS_ROLE_MLP, false, true},
    {"final_layer_norm", "mlp_ln", LORS_ROLE_NORM, false, true},
};
static const expected OUTSIDE[] = {
    {"encoder.conv1.weight", "encoder.conv1.weight", LORS_ROLE_CONV, LORS_STACK_ENCODER, -1, true},
    {"encoder.conv1.bias", "encoder.conv1.bias", LORS_ROLE_CONV, LORS_STACK_ENCODER, -1, false},
    {"encoder.conv2.weight", "encoder.conv2.weight", LORS_ROLE_CONV, LORS_STACK_ENCODER, -1, true},
    {"encoder.conv2.bias", "encoder.conv2.bias", LORS_ROLE_CONV, LORS_STACK_ENCODER, -1, false},
    {"encoder.embed_positions.weight", "encoder.positional_embedding", LORS_ROLE_SINUSOID,
     LORS_STACK_ENCODER, -1, true},
    {"encoder.layer_norm.weight", "encoder.ln_post.weight", LORS_ROLE_NORM, LORS_STACK_ENCODER, -1,
     true},
    {"encoder.layer_norm.bias", "encoder.ln_post.bias", LORS_ROLE_NORM, LORS_STACK_ENCODER, -1,
     false},
    {"decoder.embed_tokens.weight", "decoder.token_embedding.weight", LORS_ROLE_EMBEDDING,
     LORS_STACK_DECODER, -1, true},
    {"decoder.embed_positions.weight", "decoder.positional_embedding", LORS_ROLE_POSITION,
     LORS_STACK_DECODER, -1, true},
    {"decoder.layer_norm.weight", "decoder.ln.weight", LORS_ROLE_NORM, LORS_STACK_DECODER, -1,
     true},
    {"decoder.layer_norm.bias", "decoder.ln.bias", LORS_ROLE_NORM, LORS_STACK_DECODER, -1, false},
};

/* Every tensor of Whisper tiny. */
static int tiny(expected out[N_TINY])
{
    int n = 0;
    for (size_t i = 0; i < sizeof OUTSIDE / sizeof OUTSIDE[0]; i++) {
        out[n++] = OUTSIDE[i];
    }
    for (int stack = LORS_STACK_ENCODER; stack <= LORS_STACK_DECODER; stack++) {
        const char *front = stack == LORS_STACK_ENCODER ? "encoder" : "decoder";
        for (int layer = 0; layer < N_LAYERS; layer++) {
            for (size_t p = 0; p < sizeof PARTS / sizeof PARTS[0]; p++) {
                if (PARTS[p].cross && stack == LORS_STACK_ENCODER) {
                    continue;
                }
                for (int bias = 0; bias <= (int)PARTS[p].bias; bias++) {
                    const char *end = bias ? "bias" : "weight";
                    expected *e = &out[n++];
                    snprintf(e->hf, NAME_BYTES, "%s.layers.%d.%s.%s", front, layer, PARTS[p].hf,
                             end);
                    snprintf(e->openai, NAME_BYTES, "%s.blocks.%d.%s.%s", front, layer,
                             PARTS[p].openai, end);
                    e->role = PARTS[p].role;
                    e->stack = (lors_stack)stack;
                    e->layer = layer;
                    e->is_weight = !bias;
                }
            }
        }
    }
    return n;
}

static void check(const char *name, const expected *e)
{
    lors_tensor_name got;
    char canonical[NAME_BYTES + 8];
    snprintf(canonical, sizeof canonical, "model.%s", e->hf);
    lors_name_describe(name, &got);
    assert_string_equal(got.canonical, canonical);
    assert_string_equal(lors_role_text(got.role), lors_role_text(e->role));
    assert_int_equal(got.stack, e->stack);
    assert_int_equal(got.layer, e->layer);
    assert_int_equal(got.is_weight, e->is_weight);
}

/* Both schemes, bare and wrapped, lead to the same name, and each to its own. */
static void test_whisper_tiny(void **state)
{
    static expected list[N_TINY];
    static const char *const fronts[] = {"", "model.", "module.", "module.model.",
                                         "_orig_mod.model.", "module._orig_mod.model."};
    (void)state;
    assert_int_equal(tiny(list), N_TINY);
    for (int i = 0; i < N_TINY; i++) {
        for (size_t f = 0; f < sizeof fronts / sizeof fronts[0]; f++) {
            char name[NAME_BYTES + 32];
            snprintf(name, sizeof name, "%s%.127s", fronts[f], list[i].hf);
            check(name, &list[i]);
            snprintf(name, sizeof name, "%s%.127s", fronts[f], list[i].openai);
            check(name, &list[i]);
        }
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(list[i].hf, list[k].hf);
            assert_string_not_equal(list[i].openai, list[k].openai);
        }
    }
}

static void test_output_head(void **state)
{
    lors_tensor_name got;
    (void)state;
    lors_name_describe("module.proj_out.weight", &got);
    assert_string_equal(got.canonical, "proj_out.weight");
    assert_int_equal(got.role, LORS_ROLE_EMBEDDING);
    assert_string_equal(lors_name_tied_to(got.canonical), "model.decoder.embed_tokens.weight");
    assert_string_equal(lors_name_tied_to("lm_head.weight"), "model.embed_tokens.weight");
    assert_null(lors_name_tied_to("model.decoder.embed_tokens.weight"));
}

static const struct {
    const char *name;
    lors_role role;
    lors_stack stack;
    int32_t layer;
} OTHERS[] = {
    {"model.layers.31.self_attn.q_proj.weight", LORS_ROLE_ATTENTION_Q, LORS_STACK_NONE, 31},
    {"model.layers.0.self_attn.k_proj.bias", LORS_ROLE_ATTENTION_K, LORS_STACK_NONE, 0},
    {"model.layers.0.self_attn.v_proj.weight", LORS_ROLE_ATTENTION_V, LORS_STACK_NONE, 0},
    {"model.layers.0.self_attn.o_proj.weight", LORS_ROLE_ATTENTION_OUT, LORS_STACK_NONE, 0},
    {"model.layers.0.self_attn.q_norm.weight", LORS_ROLE_NORM, LORS_STACK_NONE, 0},
    {"model.layers.7.mlp.gate_proj.weight", LORS_ROLE_MLP, LORS_STACK_NONE, 7},
    {"model.layers.7.mlp.up_proj.weight", LORS_ROLE_MLP, LORS_STACK_NONE, 7},
    {"model.layers.7.mlp.down_proj.weight", LORS_ROLE_MLP, LORS_STACK_NONE, 7},
    {"model.layers.7.mlp.experts.12.gate_proj.weight", LORS_ROLE_MLP, LORS_STACK_NONE, 7},
    {"model.layers.7.input_layernorm.weight", LORS_ROLE_NORM, LORS_STACK_NONE, 7},
    {"model.layers.7.post_attention_layernorm.weight", LORS_ROLE_NORM, LORS_STACK_NONE, 7},
    {"model.norm.weight", LORS_ROLE_NORM, LORS_STACK_NONE, -1},
    {"model.embed_tokens.weight", LORS_ROLE_EMBEDDING, LORS_STACK_NONE, -1},
    {"lm_head.weight", LORS_ROLE_EMBEDDING, LORS_STACK_NONE, -1},
    {"language_model.model.layers.3.mlp.up_proj.weight", LORS_ROLE_MLP, LORS_STACK_NONE, 3},
    {"transformer.h.11.attn.c_attn.weight", LORS_ROLE_ATTENTION_QKV, LORS_STACK_NONE, 11},
    {"h.11.attn.c_proj.weight", LORS_ROLE_ATTENTION_OUT, LORS_STACK_NONE, 11},
    {"transformer.h.11.mlp.c_fc.bias", LORS_ROLE_MLP, LORS_STACK_NONE, 11},
    {"transformer.h.11.mlp.c_proj.weight", LORS_ROLE_MLP, LORS_STACK_NONE, 11},
    {"transformer.h.11.ln_1.weight", LORS_ROLE_NORM, LORS_STACK_NONE, 11},
    {"transformer.wte.weight", LORS_ROLE_EMBEDDING, LORS_STACK_NONE, -1},
    {"transformer.wpe.weight", LORS_ROLE_POSITION, LORS_STACK_NONE, -1},
    {"transformer.ln_f.bias", LORS_ROLE_NORM, LORS_STACK_NONE, -1},
    {"bert.encoder.layer.2.attention.self.query.weight", LORS_ROLE_ATTENTION_Q, LORS_STACK_ENCODER,
     2},
    {"bert.encoder.layer.2.attention.self.key.bias", LORS_ROLE_ATTENTION_K, LORS_STACK_ENCODER, 2},
    {"bert.encoder.layer.2.attention.self.value.bias", LORS_ROLE_ATTENTION_V, LORS_STACK_ENCODER,
     2},
    {"bert.encoder.layer.2.attention.output.dense.weight", LORS_ROLE_ATTENTION_OUT,
     LORS_STACK_ENCODER, 2},
    {"bert.encoder.layer.2.attention.output.LayerNorm.weight", LORS_ROLE_NORM, LORS_STACK_ENCODER,
     2},
    {"bert.encoder.layer.2.crossattention.self.query.weight", LORS_ROLE_CROSS_Q,
     LORS_STACK_ENCODER, 2},
    {"bert.encoder.layer.2.intermediate.dense.weight", LORS_ROLE_MLP, LORS_STACK_ENCODER, 2},
    {"bert.encoder.layer.2.output.dense.weight", LORS_ROLE_MLP, LORS_STACK_ENCODER, 2},
    {"roberta.embeddings.word_embeddings.weight", LORS_ROLE_EMBEDDING, LORS_STACK_NONE, -1},
    {"roberta.embeddings.position_embeddings.weight", LORS_ROLE_POSITION, LORS_STACK_NONE, -1},
    {"roberta.embeddings.LayerNorm.bias", LORS_ROLE_NORM, LORS_STACK_NONE, -1},
    {"encoder.block.5.layer.0.SelfAttention.q.weight", LORS_ROLE_ATTENTION_Q, LORS_STACK_ENCODER,
     5},
    {"decoder.block.5.layer.1.EncDecAttention.o.weight", LORS_ROLE_CROSS_OUT, LORS_STACK_DECODER,
     5},
    {"decoder.block.5.layer.2.DenseReluDense.wi_0.weight", LORS_ROLE_MLP, LORS_STACK_DECODER, 5},
    {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", LORS_ROLE_POSITION,
     LORS_STACK_ENCODER, 0},
    {"encoder.block.5.layer.0.layer_norm.weight", LORS_ROLE_NORM, LORS_STACK_ENCODER, 5},
    {"shared.weight", LORS_ROLE_EMBEDDING, LORS_STACK_NONE, -1},
    {"wav2vec2.encoder.layers.4.attention.k_proj.weight", LORS_ROLE_ATTENTION_K,
     LORS_STACK_ENCODER, 4},
    {"hubert.encoder.layers.4.feed_forward.intermediate_dense.weight", LORS_ROLE_MLP,
     LORS_STACK_ENCODER, 4},
    {"hubert.encoder.layers.4.feed_forward.output_dense.weight", LORS_ROLE_MLP, LORS_STACK_ENCODER,
     4},
    {"wav2vec2.feature_extractor.conv_layers.0.conv.weight", LORS_ROLE_CONV, LORS_STACK_NONE, -1},
    {"wav2vec2.feature_extractor.conv_layers.0.layer_norm.weight", LORS_ROLE_NORM, LORS_STACK_NONE,
     -1},
    {"wav2vec2.encoder.pos_conv_embed.conv.weight_g", LORS_ROLE_CONV, LORS_STACK_ENCODER, -1},
    {"model.decoder.final_layer_norm.weight", LORS_ROLE_NORM, LORS_STACK_DECODER, -1},
    {"model.layers.00.self_attn.q_proj.weight", LORS_ROLE_ATTENTION_Q, LORS_STACK_NONE, -1},
    {"model.layers.99999999999.mlp.up_proj.weight", LORS_ROLE_MLP, LORS_STACK_NONE, -1},
    {"model.encoder.layers.0.fc1.lora_A.weight", LORS_ROLE_OTHER, LORS_STACK_ENCODER, 0},
    {"encoder.layers.0.fc1", LORS_ROLE_MLP, LORS_STACK_ENCODER, 0},
    {"classifier.weight", LORS_ROLE_OTHER, LORS_STACK_NONE, -1},
    {"weight", LORS_ROLE_OTHER, LORS_STACK_NONE, -1},
    {"", LORS_ROLE_OTHER, LORS_STACK_NONE, -1},
    {"....", LORS_ROLE_OTHER, LORS_STACK_NONE, -1},
    {"layers.", LORS_ROLE_OTHER, LORS_STACK_NONE, -1},
};

static void test_other_families(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        lors_tensor_name got;
        lors_name_describe(OTHERS[i].name, &got);
        assert_string_equal(got.canonical, OTHERS[i].name);
        if (got.role != OTHERS[i].role) {
            fail_msg("%s: %s", OTHERS[i].name, lors_role_text(got.role));
        }
        assert_int_equal(got.stack, OTHERS[i].stack);
        assert_int_equal(got.layer, OTHERS[i].layer);
    }
}

static void test_weight_or_bias(void **state)
{
    static const struct {
        const char *name;
        bool is_weight;
    } cases[] = {
        {"a.weight", true},       {"a.bias", false},       {"a.in_proj_bias", false},
        {"a.bias.weight", true},  {"a.gamma", true},       {"bias", false},
        {"rel_bias.table", true}, {"model.shared", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lors_tensor_name got;
        lors_name_describe(cases[i].name, &got);
        assert_int_equal(got.is_weight, cases[i].is_weight);
    }
}

/* Names come from files: any length and depth must do. */
static void test_long_names(void **state)
{
    static char name[100001];
    lors_tensor_name got;
    (void)state;
    memset(name, '.', 100000);
    lors_name_describe(name, &got);
    assert_int_equal(strlen(got.canonical), LORS_NAME_MAX - 1);
    memset(name, 'x', 100000);
    lors_name_describe(name, &got);
    assert_int_equal(strlen(got.canonical), LORS_NAME_MAX - 1);
    assert_memory_equal(got.canonical, name, LORS_NAME_MAX - 1);
    assert_int_equal(got.role, LORS_ROLE_OTHER);
    for (size_t i = 0; i + 7 <= 100000; i += 7) {
        memcpy(name + i, "module.", 7);
    }
    lors_name_describe(name, &got);
    assert_int_equal(got.layer, -1);
}

static void test_role_texts(void **state)
{
    (void)state;
    for (int i = 0; i < LORS_ROLE_COUNT; i++) {
        assert_non_null(lors_role_text((lors_role)i));
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(lors_role_text((lors_role)i), lors_role_text((lors_role)k));
        }
    }
    assert_string_equal(lors_role_text(LORS_ROLE_CROSS_OUT), "cross_attention.out");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whisper_tiny),   cmocka_unit_test(test_output_head),
        cmocka_unit_test(test_other_families), cmocka_unit_test(test_weight_or_bias),
        cmocka_unit_test(test_long_names),     cmocka_unit_test(test_role_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* names_other.c - roles of other families: LLaMA and its kin, GPT-2, BERT, T5, wav2vec2. */
#include "recipe/names_tables.h"

#define Q LORS_ROLE_ATTENTION_Q
#define K LORS_ROLE_ATTENTION_K
#define V LORS_ROLE_ATTENTION_V
#define OUT LORS_ROLE_ATTENTION_OUT
#define QKV LORS_ROLE_ATTENTION_QKV
#define MLP LORS_ROLE_MLP
#define EMBEDDING LORS_ROLE_EMBEDDING
#define POSITION LORS_ROLE_POSITION
#define NORM LORS_ROLE_NORM
#define CONV LORS_ROLE_CONV

const lors_name_tail lors_name_tails[] = {
    /* Cross-attention before self-attention: its tails are the longer ones. */
    {"encoder_attn.q_proj", LORS_ROLE_CROSS_Q}, /* BART, Speech2Text */
    {"encoder_attn.k_proj", LORS_ROLE_CROSS_K},
    {"encoder_attn.v_proj", LORS_ROLE_CROSS_V},
    {"encoder_attn.out_proj", LORS_ROLE_CROSS_OUT},
    {"crossattention.self.query", LORS_ROLE_CROSS_Q}, /* BERT as a decoder */
    {"crossattention.self.key", LORS_ROLE_CROSS_K},
    {"crossattention.self.value", LORS_ROLE_CROSS_V},
    {"crossattention.output.dense", LORS_ROLE_CROSS_OUT},
    {"crossattention.q_attn", LORS_ROLE_CROSS_Q}, /* GPT-2 as a decoder: K and V are one */
    {"crossattention.c_proj", LORS_ROLE_CROSS_OUT},
    {"EncDecAttention.q", LORS_ROLE_CROSS_Q}, /* T5 */
    {"EncDecAttention.k", LORS_ROLE_CROSS_K},
    {"EncDecAttention.v", LORS_ROLE_CROSS_V},
    {"EncDecAttention.o", LORS_ROLE_CROSS_OUT},

    {"self_attn.q_proj", Q}, /* LLaMA, Mistral, Qwen, BART, OPT */
    {"self_attn.k_proj", K},
    {"self_attn.v_proj", V},
    {"self_attn.o_proj", OUT},
    {"self_attn.out_proj", OUT},
    {"self_attn.dense", OUT}, /* Phi */
    {"self_attn.qkv_proj", QKV},
    {"self_attn.in_proj_weight", QKV}, /* torch.nn.MultiheadAttention */
    {"self_attn.in_proj_bias", QKV},
    {"attn.in_proj_weight", QKV},
    {"attn.in_proj_bias", QKV},
    {"attention.q_proj", Q}, /* wav2vec2, HuBERT */
    {"attention.k_proj", K},
    {"attention.v_proj", V},
    {"attention.out_proj", OUT},
    {"attention.self.query", Q}, /* BERT, RoBERTa */
    {"attention.self.key", K},
    {"attention.self.value", V},
    {"attention.attention.query", Q}, /* ViT */
    {"attention.attention.key", K},
    {"attention.attention.value", V},
    {"attention.output.dense", OUT},
    {"SelfAttention.q", Q}, /* T5 */
    {"SelfAttention.k", K},
    {"SelfAttention.v", V},
    {"SelfAttention.o", OUT},
    {"SelfAttention.relative_attention_bias", POSITION},
    {"attn.c_attn", QKV}, /* GPT-2 */
    {"attn.c_proj", OUT},
    {"attn.q_proj", Q}, /* GPT-J, CodeGen */
    {"attn.k_proj", K},
    {"attn.v_proj", V},
    {"attn.out_proj", OUT},
    {"attn.qkv_proj", QKV},
    {"query_key_value", QKV}, /* GPT-NeoX, BLOOM, Falcon */
    {"attention.dense", OUT},
    {"self_attention.dense", OUT},

    {"mlp.gate_proj", MLP}, /* LLaMA, Mistral, Qwen */
    {"mlp.up_proj", MLP},
    {"mlp.down_proj", MLP},
    {"mlp.gate_up_proj", MLP},
    {"experts.#.w1", MLP}, /* mixtures of experts */
    {"experts.#.w2", MLP},
    {"experts.#.w3", MLP},
    {"experts.#.gate_proj", MLP},
    {"experts.#.up_proj", MLP},
    {"experts.#.down_proj", MLP},
    {"shared_expert.gate_proj", MLP},
    {"shared_expert.up_proj", MLP},
    {"shared_expert.down_proj", MLP},
    {"mlp.c_fc", MLP}, /* GPT-2 */
    {"mlp.c_proj", MLP},
    {"mlp.fc_in", MLP},
    {"mlp.fc_out", MLP},
    {"mlp.dense_h_to_4h", MLP},
    {"mlp.dense_4h_to_h", MLP},
    {"fc1", MLP},
    {"fc2", MLP},
    {"intermediate.dense", MLP}, /* BERT; its attention.output.dense is above */
    {"output.dense", MLP},
    {"DenseReluDense.wi", MLP}, /* T5 */
    {"DenseReluDense.wi_0", MLP},
    {"DenseReluDense.wi_1", MLP},
    {"DenseReluDense.wo", MLP},
    {"feed_forward.intermediate_dense", MLP}, /* wav2vec2, HuBERT */
    {"feed_forward.output_dense", MLP},

    {"position_embeddings", POSITION}, /* BERT, ViT */
    {"embed_positions", POSITION},
    {"wpe", POSITION},
    {"embed_tokens", EMBEDDING},
    {"lm_head", EMBEDDING},
    {"proj_out", EMBEDDING},
    {"wte", EMBEDDING},
    {"embed_in", EMBEDDING},
    {"embed_out", EMBEDDING},
    {"shared", EMBEDDING}, /* T5, BART */
    {"embeddings.word_embeddings", EMBEDDING},
    {"embeddings.token_type_embeddings", EMBEDDING},
    {"word_embeddings", EMBEDDING},
    {"predictions.decoder", EMBEDDING},

    {"conv_layers.#.conv", CONV}, /* wav2vec2, HuBERT */
    {"pos_conv_embed.conv", CONV},
    {"pos_conv_embed.conv.weight_g", CONV}, /* weight norm, old and new spelling */
    {"pos_conv_embed.conv.weight_v", CONV},
    {"pos_conv_embed.conv.parametrizations.weight.original0", CONV},
    {"pos_conv_embed.conv.parametrizations.weight.original1", CONV},
    {"patch_embeddings.projection", CONV},
    {"conv1", CONV},
    {"conv2", CONV},

    {"*norm", NORM}, /* input_layernorm, final_layer_norm, q_norm, norm */
    {"*Norm", NORM},
    {"layernorm_embedding", NORM},
    {"ln_1", NORM}, /* GPT-2 */
    {"ln_2", NORM},
    {"ln_f", NORM},
    {"ln_cross_attn", NORM},
    {NULL, LORS_ROLE_OTHER},
};

const char *const lors_layer_words[] = {"layers", "layer",  "h", "block",
                                        "blocks", "resblocks", NULL};

const char *const lors_tails_behind[] = {
    "lm_head",      "proj_out",   "embed_out",           "score",           "classifier",
    "classifier.dense", "classifier.out_proj", "pooler.dense", "predictions.transform.dense",
    "predictions.decoder", "predictions.bias", "lm_head.dense", "lm_head.decoder", "qa_outputs",
    "output_projection", "project_out", NULL};

const char *const lors_norms_before[] = {
    "embeddings.LayerNorm", "embeddings.layer_norm",         "layernorm_embedding",
    "embed_layer_norm",     "word_embeddings_layernorm",     "feature_projection.layer_norm",
    "encoder.layer_norm_embedding", NULL};

const lors_name_tie lors_name_ties[] = {
    {"proj_out.weight", "model.decoder.embed_tokens.weight"},
    {"lm_head.weight", "model.embed_tokens.weight"},
    {"cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"},
    {NULL, NULL},
};

/* names.h - what a tensor is, from its name: role, stack, layer; in every naming scheme we know.
 *
 * Families of names are tables (names_whisper.c, names_other.c), never code.
 */
#ifndef LORS_RECIPE_NAMES_H
#define LORS_RECIPE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum lors_role {
    LORS_ROLE_OTHER,
    LORS_ROLE_ATTENTION_Q,
    LORS_ROLE_ATTENTION_K,
    LORS_ROLE_ATTENTION_V,
    LORS_ROLE_ATTENTION_OUT,
    LORS_ROLE_ATTENTION_QKV, /* fused projections of some families */
    LORS_ROLE_CROSS_Q,
    LORS_ROLE_CROSS_K,
    LORS_ROLE_CROSS_V,
    LORS_ROLE_CROSS_OUT,
    LORS_ROLE_MLP,
    LORS_ROLE_EMBEDDING, /* token tables and the output head */
    LORS_ROLE_POSITION,  /* learned positions */
    LORS_ROLE_SINUSOID,  /* stored, never trained: Whisper's encoder positions */
    LORS_ROLE_NORM,
    LORS_ROLE_CONV,
    LORS_ROLE_COUNT
} lors_role;

typedef enum lors_stack { LORS_STACK_NONE, LORS_STACK_ENCODER, LORS_STACK_DECODER } lors_stack;

enum { LORS_NAME_MAX = 512 };

typedef struct lors_tensor_name {
    char canonical[LORS_NAME_MAX]; /* the name by which tensors of different models are matched:
                                      wrappers (module., _orig_mod.) stripped; Whisper's OpenAI
                                      names and bare names rewritten to Hugging Face's with
                                      "model." in front; anything else as it is */
    lors_role role;
    lors_stack stack;
    int32_t layer;  /* index in its stack; -1: before, after or outside the layers */
    int32_t layer_at, layer_bytes; /* where its digits stand in the name that was described */
    bool is_weight; /* ends in "weight" (not a bias); true where a scheme has no such suffix */
} lors_tensor_name;

/* Never fails: an unknown name has role OTHER and itself (cut to fit) as canonical name. */
void lors_name_describe(const char *name, lors_tensor_name *out);

/* Does a tensor outside the layers lie behind them (the last norm, the output head)? */
bool lors_name_is_behind(const lors_tensor_name *described);

/* The name with the number of another layer; `described` is its description. */
void lors_name_with_layer(const char *name, const lors_tensor_name *described, int32_t layer,
                          char out[LORS_NAME_MAX + 16]);

/* "attention.q", "cross_attention.out", "mlp", "embedding", ..., "other". */
const char *lors_role_text(lors_role role);

/* For a canonical name that a checkpoint may leave out because it is tied to another tensor
 * (proj_out.weight, lm_head.weight): the canonical name of that other tensor; else NULL. */
const char *lors_name_tied_to(const char *canonical);

#endif

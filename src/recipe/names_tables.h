/* names_tables.h - the tables behind names.h: a family of models is rows, never code. */
#ifndef LORS_RECIPE_NAMES_TABLES_H
#define LORS_RECIPE_NAMES_TABLES_H

#include "recipe/names.h"

/* One Whisper tensor in both schemes. In a pattern '#' stands for the number of a layer and a final
 * '@' for "weight" or "bias"; a pattern ends its table with canonical == NULL. */
typedef struct lors_whisper_name {
    const char *canonical; /* Hugging Face's name; a leading "model." may be missing in a file */
    const char *openai;    /* OpenAI's (and ggml's) name, NULL: the same or none */
    lors_role role;
    lors_stack stack;
} lors_whisper_name;
extern const lors_whisper_name lors_whisper_names[];

/* The last components of a name, without ".weight" or ".bias"; first match wins. '#' stands for a
 * number, a component that begins with '*' for any component that ends in the rest of it. */
typedef struct lors_name_tail {
    const char *tail; /* NULL ends the table */
    lors_role role;
} lors_name_tail;
extern const lors_name_tail lors_name_tails[];

/* Components behind which the number of a layer stands; NULL ends the table. */
extern const char *const lors_layer_words[];

/* Tensors outside the layers that lie behind them, as tails; norms do unless they are listed as
 * lying before. NULL ends either. */
extern const char *const lors_tails_behind[];
extern const char *const lors_norms_before[];

/* Names that a checkpoint may leave out, and the tensors they are tied to. */
typedef struct lors_name_tie {
    const char *name; /* NULL ends the table */
    const char *tied_to;
} lors_name_tie;
extern const lors_name_tie lors_name_ties[];

#endif

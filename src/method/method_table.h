/* method_table.h - the methods by symbol, and the parameters that several of them share. */
#ifndef LORS_METHOD_METHOD_TABLE_H
#define LORS_METHOD_METHOD_TABLE_H

#include "method/method_def.h"

extern const lors_method_def lors_method_lors, lors_method_linear, lors_method_ties,
    lors_method_slerp;

#define LORS_COUNT_OF(array) ((int32_t)(sizeof(array) / sizeof *(array)))

/* name, kind, per model, required, minimum, maximum, minimum open, default in words, as a number */
#define LORS_PARAM_WEIGHT(is_required, in_words, number)                                       \
    {"weight", LORS_PARAM_NUMBER, true, is_required, -1e30, 1e30, false, in_words, number,     \
     "how much of this model goes in; may be negative"}

/* Copy the weights of all models into call->weights; returns their sum. */
double lors_method_weights(const lors_call *call, int32_t param);
/* ERR_RECIPE where `normalize` is on and the weights cancel. */
lors_status lors_method_check_normalize(const lors_call *call, int32_t weight, int32_t normalize);
/* Is some weight not zero? */
bool lors_method_any_weight(const lors_call *call, int32_t param);

/* A selection among each model's magnitudes, its state in call->state. */
uint64_t lors_method_selection_bytes(const lors_call *call);
lors_selection lors_method_selection(const lors_call *call);
/* floor(density * size), the product taken in f64. */
uint64_t lors_method_keep_count(double density, uint64_t size);

#endif

/* method_properties.h - what must hold of a method whatever the numbers, tried over many seeds. */
#ifndef LORS_TESTS_METHOD_PROPERTIES_H
#define LORS_TESTS_METHOD_PROPERTIES_H

#include "method_harness.h"

/* A merge of that shape with the parameters under test, weights apart. */
typedef merge (*merge_maker)(int64_t n_rows, int64_t n_cols, int32_t n_models);

/* Equal models give that model, in each storage type. Weights: 0.2, 0.3, 0.5. */
void property_equal_models(merge_maker make);
/* Weight 1 on one model and 0 on the others gives that model. */
void property_one_weight(merge_maker make);
/* Models in another order, with their weights, give the same bytes. `models` and `base` may be
 * NULL: random ones. */
void property_permuted(merge_maker make);
/* All inputs times 2^k: the result times 2^k. */
void property_scaled(merge_maker make);
/* Tiles of any size in any order give the same bytes. */
void property_tiles(merge_maker make);
/* Where the method says that an element which all models have in common stays, it does. Returns
 * whether it says so. Parameters are those of `m`, which is given models and freed. */
bool property_common_element(merge *m, uint64_t seed);
/* With these parameters the method says that the base stays, and computes it, -0.0 included. */
void property_base(merge *m, uint64_t seed);

/* Fill a merge with random base and models; forget them. */
void give_models(merge *m, lors_dtype dtype, uint64_t seed);
void forget_models(merge *m);
void set_three_weights(merge *m);
/* Run both and compare bytes. */
void expect_same_bytes(merge *a, merge *b, lors_dtype dtype);

#endif

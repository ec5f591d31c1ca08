/* merge_models.h - tiny models on disk, drawn from the bytes of a fuzzer's input. */
#ifndef LORS_TESTS_MERGE_MODELS_H
#define LORS_TESTS_MERGE_MODELS_H

#include <stddef.h>
#include <stdint.h>

/* The input, byte after byte; zeros after its end. */
typedef struct draw_from {
    const uint8_t *bytes;
    size_t n_bytes, at;
} draw_from;

unsigned draw_byte(draw_from *in);
unsigned draw_below(draw_from *in, unsigned n); /* 0 .. n-1 */

/* Write the folders base, m0, m1 ... of so many models: tensors of a few names, types and shapes,
 * shards with an index, config.json. The models are made of the base, but some lack a tensor, have
 * another shape or type, or odd numbers; and a file may be damaged, with and without its lengths
 * being made right again. */
void merge_models_write(draw_from *in, unsigned n_models);

#endif

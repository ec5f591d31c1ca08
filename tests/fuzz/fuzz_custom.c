/* fuzz_custom.c - libFuzzer's mutations and ours by turns. */
#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return seed % 2 ? fuzz_mutate(data, size, max_size, seed)
                    : LLVMFuzzerMutate(data, size, max_size);
}

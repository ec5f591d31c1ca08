/* shard_index.h - model.safetensors.index.json: which shard holds which tensor. */
#ifndef LORS_IO_SHARD_INDEX_H
#define LORS_IO_SHARD_INDEX_H

#include "io/checkpoint.h"

#define LORS_INDEX_NAME "model.safetensors.index.json"
enum { LORS_INDEX_MAX_BYTES = 100000000 };

typedef struct lors_shard_index lors_shard_index;

/* Read and check it: weight_map is an object of plain file names that end in .safetensors.
 * Errors: ERR_IO, ERR_LIMIT, ERR_INPUT. */
lors_status lors_shard_index_read(const char *path, lors_shard_index **out);
void lors_shard_index_free(lors_shard_index *index); /* NULL is allowed */

/* The shards, each once, in order of their names; borrowed. */
int32_t lors_shard_index_count(const lors_shard_index *index);
const char *lors_shard_index_name(const lors_shard_index *index, int32_t i);

/* Does it say of every tensor what the shards say? ERR_INPUT. *total_differs: its total_size is not
 * the sum of the tensors (which is no error); *total is what it says. */
lors_status lors_shard_index_check(const lors_shard_index *index, const lors_checkpoint *checkpoint,
                                   bool *total_differs, double *total);

#endif

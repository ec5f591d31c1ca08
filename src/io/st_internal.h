/* st_internal.h - the steps of lors_st_parse that have a file of their own. */
#ifndef LORS_IO_ST_INTERNAL_H
#define LORS_IO_ST_INTERNAL_H

#include "io/st_json.h"

/* Read the length of the header, checked against the file; names what is no safetensors file. */
lors_status lors_st_read_length(const char *label, lors_st_read_fn read, void *source,
                                uint64_t file_bytes, uint64_t *n_header);

/* Sort the tensors by (begin, end), those alike staying in order; check that they cover the data
 * from its first to its last byte; set `unaligned`. *name_at holds the byte of the file at which
 * each tensor's name stands, and is sorted with them (it may be replaced). */
lors_status lors_st_order(lors_lexer *lexer, lors_st_header *header, uint32_t **name_at);

#endif

/* hash.h - SHA-256 (what hubs publish) and XXH3-128 (fast) as lower-case hex. */
#ifndef LORS_BASE_HASH_H
#define LORS_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

enum { LORS_SHA256_TEXT = 65, LORS_XXH_TEXT = 33 };

typedef struct lors_sha256 lors_sha256;
lors_status lors_sha256_create(lors_sha256 **out);
lors_status lors_sha256_update(lors_sha256 *state, const void *bytes, size_t n_bytes);
/* Hex into `out`; the state may then be reused for another message. */
lors_status lors_sha256_finish(lors_sha256 *state, char out[LORS_SHA256_TEXT]);
void lors_sha256_free(lors_sha256 *state);
lors_status lors_sha256_of(const void *bytes, size_t n_bytes, char out[LORS_SHA256_TEXT]);

/* XXH3-128 with seed 0, canonical (big-endian) byte order. */
typedef struct lors_xxh {
    uint8_t bytes[16];
} lors_xxh;
lors_xxh lors_xxh_of(const void *bytes, size_t n_bytes);
void lors_xxh_text(lors_xxh hash, char out[LORS_XXH_TEXT]);
uint64_t lors_xxh64_of(const void *bytes, size_t n_bytes); /* for hash tables and seeds */

/* A set of byte strings with an int64 value each: names of tensors. */
typedef struct lors_map lors_map;
lors_map *lors_map_create(size_t expected);
/* Keeps the pointer `key`. Returns false when out of memory; *existing (may be NULL) is the value
 * already there, or -1 if the key is new (then `value` is stored). */
int lors_map_put(lors_map *map, const char *key, size_t n_bytes, int64_t value, int64_t *existing);
int64_t lors_map_get(const lors_map *map, const char *key, size_t n_bytes); /* -1: absent */
void lors_map_free(lors_map *map);

#endif

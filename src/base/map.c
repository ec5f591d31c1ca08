/* map.c - names to numbers: open addressing with linear probing, at most three quarters full. */
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/hash.h"
#include "base/memory.h"

typedef struct map_slot {
    const char *key; /* NULL: free */
    size_t n_bytes;
    uint64_t hash;
    int64_t value;
} map_slot;

struct lors_map {
    map_slot *slots;
    size_t capacity; /* a power of two */
    size_t count;
    uint64_t seed; /* unknown to whoever wrote the names, who might choose them to collide */
};

lors_map *lors_map_create(size_t expected)
{
    size_t capacity = 16;
    while (capacity / 4 * 3 < expected && capacity <= SIZE_MAX / 4) {
        capacity *= 2;
    }
    lors_map *map = lors_new(1, sizeof *map);
    map_slot *slots = map ? lors_new(capacity, sizeof *slots) : NULL;
    if (!slots) {
        lors_free(map);
        return NULL;
    }
    *map = (lors_map){.slots = slots, .capacity = capacity};
    if (getrandom(&map->seed, sizeof map->seed, GRND_NONBLOCK) != sizeof map->seed) {
        map->seed = (uintptr_t)map; /* the order of slots shows nowhere: any seed is right */
    }
    return map;
}

/* The slot that holds the key, or the free one where it belongs. */
static map_slot *slot_of(const lors_map *map, const char *key, size_t n_bytes, uint64_t hash)
{
    for (size_t i = (size_t)hash;; i++) {
        map_slot *slot = &map->slots[i & (map->capacity - 1)];
        bool same = slot->key && slot->hash == hash && slot->n_bytes == n_bytes &&
                    memcmp(slot->key, key, n_bytes) == 0;
        if (!slot->key || same) {
            return slot;
        }
    }
}

static bool grow(lors_map *map)
{
    lors_map larger = *map;
    larger.capacity = 2 * map->capacity;
    larger.slots = lors_new(larger.capacity, sizeof *larger.slots);
    if (!larger.slots) {
        return false;
    }
    for (size_t i = 0; i < map->capacity; i++) {
        const map_slot *slot = &map->slots[i];
        if (slot->key) {
            *slot_of(&larger, slot->key, slot->n_bytes, slot->hash) = *slot;
        }
    }
    lors_free(map->slots);
    *map = larger;
    return true;
}

int lors_map_put(lors_map *map, const char *key, size_t n_bytes, int64_t value, int64_t *existing)
{
    key = key ? key : "";
    uint64_t hash = XXH3_64bits_withSeed(key, n_bytes, map->seed);
    map_slot *slot = slot_of(map, key, n_bytes, hash);
    if (existing) {
        *existing = slot->key ? slot->value : -1;
    }
    if (slot->key) {
        return true;
    }
    if (map->count >= map->capacity / 4 * 3) {
        if (!grow(map)) {
            return false;
        }
        slot = slot_of(map, key, n_bytes, hash);
    }
    *slot = (map_slot){.key = key, .n_bytes = n_bytes, .hash = hash, .value = value};
    map->count++;
    return true;
}

int64_t lors_map_get(const lors_map *map, const char *key, size_t n_bytes)
{
    key = key ? key : "";
    const map_slot *slot =
        slot_of(map, key, n_bytes, XXH3_64bits_withSeed(key, n_bytes, map->seed));
    return slot->key ? slot->value : -1;
}

void lors_map_free(lors_map *map)
{
    if (map) {
        lors_free(map->slots);
        lors_free(map);
    }
}

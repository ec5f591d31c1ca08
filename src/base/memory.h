/* memory.h - every allocation of the library goes through here, so that a test can fail the Nth. */
#ifndef LORS_BASE_MEMORY_H
#define LORS_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As malloc and its kin; NULL when memory is short. `lors_new` zeroes and checks the product. */
void *lors_alloc(size_t n_bytes);
void *lors_new(size_t count, size_t n_bytes_each);
void *lors_resize(void *block, size_t n_bytes);
char *lors_copy_text(const char *text);
/* 4096-byte aligned, not zeroed; in huge pages where it is large and the system has them: a disk
 * reads several times faster into memory that lies in large pieces. lors_free. */
void *lors_alloc_aligned(size_t n_bytes);
void lors_free(void *block);              /* NULL is allowed */

/* Bytes of the machine's memory, and how many of them nothing uses; 0 where it does not tell. */
void lors_system_memory(uint64_t *n_free, uint64_t *n_total);

/* For tests: fail the Nth allocation from now (1-based), once or every one from there on; 0 = off.
 * lors_alloc_count is the number of allocations since the last call of lors_alloc_fail_at. */
void lors_alloc_fail_at(uint64_t n, bool sticky);
uint64_t lors_alloc_count(void);

/* A growing array of bytes or text. Zero-initialise; always NUL-terminated when not empty. A failed
 * append sets `failed` and leaves the rest as it is, so that one check at the end is enough. */
typedef struct lors_text {
    char *bytes;
    size_t length, capacity;
    bool failed;
} lors_text;

void lors_text_append(lors_text *text, const void *bytes, size_t n_bytes);
void lors_text_printf(lors_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void lors_text_clear(lors_text *text);

/* A region that only grows and is freed at once: for the many small strings of a plan. */
typedef struct lors_arena lors_arena;
lors_arena *lors_arena_create(void);
void *lors_arena_alloc(lors_arena *arena, size_t n_bytes); /* 16-byte aligned, zeroed; NULL */
char *lors_arena_copy(lors_arena *arena, const char *bytes, size_t n_bytes); /* NUL added */
void lors_arena_free(lors_arena *arena);

/* A growing list of pointers. Zero-initialise. */
typedef struct lors_list {
    void **items;
    size_t count, capacity;
} lors_list;
bool lors_list_push(lors_list *list, void *item); /* false: out of memory */

#endif

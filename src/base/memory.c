/* memory.c - allocation with a counter and injected failures; growing text, lists, arenas. */
#include "base/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- The hook ------------------------------------------------------------------------------ */

static atomic_uint_fast64_t n_allocations, fail_at;
static atomic_bool fail_sticky;

/* Counts one allocation; true if a test wants it to fail. */
static bool refused(void)
{
    uint64_t n = atomic_fetch_add(&n_allocations, 1) + 1;
    uint64_t at = atomic_load(&fail_at);
    return at != 0 && (n == at || (n > at && atomic_load(&fail_sticky)));
}

/* No object may be larger than PTRDIFF_MAX; sanitizers abort on such a request, so refuse it here.
 * Zero bytes become one, since NULL must only ever mean that memory is short. */
static bool sensible(size_t *n_bytes)
{
    *n_bytes += *n_bytes == 0;
    return *n_bytes <= PTRDIFF_MAX;
}

void *lors_alloc(size_t n_bytes)
{
    return !refused() && sensible(&n_bytes) ? malloc(n_bytes) : NULL;
}

void *lors_new(size_t count, size_t n_bytes_each)
{
    size_t n_bytes = 0;
    bool too_large = __builtin_mul_overflow(count, n_bytes_each, &n_bytes);
    return !refused() && !too_large && sensible(&n_bytes) ? calloc(1, n_bytes) : NULL;
}

void *lors_resize(void *block, size_t n_bytes)
{
    return !refused() && sensible(&n_bytes) ? realloc(block, n_bytes) : NULL;
}

char *lors_copy_text(const char *text)
{
    size_t n_bytes = strlen(text) + 1;
    char *copy = lors_alloc(n_bytes);
    return copy ? memcpy(copy, text, n_bytes) : NULL;
}

/* Only whole huge pages: none reaches beyond the block, which costs no more than was asked for.
 * That the system has none is no error. */
void *lors_alloc_aligned(size_t n_bytes)
{
    const size_t huge = (size_t)2 << 20;
    void *block = NULL;
    if (refused() || !sensible(&n_bytes) ||
        posix_memalign(&block, n_bytes < huge ? 4096 : huge, n_bytes) != 0) {
        return NULL;
    }
    if (n_bytes >= huge) {
        (void)madvise(block, n_bytes / huge * huge, MADV_HUGEPAGE);
    }
    return block;
}

void lors_free(void *block)
{
    free(block);
}

void lors_alloc_fail_at(uint64_t n, bool sticky)
{
    atomic_store(&fail_at, n);
    atomic_store(&fail_sticky, sticky);
    atomic_store(&n_allocations, 0);
}

uint64_t lors_alloc_count(void)
{
    return atomic_load(&n_allocations);
}

static uint64_t page_bytes(int name)
{
    long pages = sysconf(name), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

void lors_system_memory(uint64_t *n_free, uint64_t *n_total)
{
    *n_free = page_bytes(_SC_AVPHYS_PAGES);
    *n_total = page_bytes(_SC_PHYS_PAGES);
}

/* ---- Text ---------------------------------------------------------------------------------- */

/* Room for n_bytes more and a NUL, or `failed`. Invariant: capacity > length once bytes exist. */
static bool text_reserve(lors_text *text, size_t n_bytes)
{
    if (text->failed) {
        return false;
    }
    if (text->capacity - text->length > n_bytes) {
        return true;
    }
    size_t capacity = text->length + n_bytes + 1;
    char *bytes = NULL;
    if (n_bytes < PTRDIFF_MAX - text->length) {
        capacity = capacity > 2 * text->capacity ? capacity : 2 * text->capacity;
        capacity = capacity > 64 ? capacity : 64;
        bytes = lors_resize(text->bytes, capacity);
    }
    if (!bytes) {
        text->failed = true;
        return false;
    }
    bytes[text->length] = '\0';
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

void lors_text_append(lors_text *text, const void *bytes, size_t n_bytes)
{
    if (!text_reserve(text, n_bytes) || n_bytes == 0) {
        return;
    }
    memcpy(text->bytes + text->length, bytes, n_bytes);
    text->length += n_bytes;
    text->bytes[text->length] = '\0';
}

void lors_text_printf(lors_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        text->failed = true;
    }
    if (length < 0 || !text_reserve(text, (size_t)length)) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(text->bytes + text->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
}

void lors_text_clear(lors_text *text)
{
    lors_free(text->bytes);
    *text = (lors_text){0};
}

/* ---- Arena --------------------------------------------------------------------------------- */

enum { ARENA_FIRST_BYTES = 4096, ARENA_MAX_BYTES = 1 << 20 };

typedef struct arena_chunk {
    struct arena_chunk *next;
    size_t used, capacity;
    _Alignas(16) unsigned char bytes[];
} arena_chunk;

struct lors_arena {
    arena_chunk *current; /* and behind it, the full ones */
    size_t next_bytes;    /* of the next chunk */
};

lors_arena *lors_arena_create(void)
{
    lors_arena *arena = lors_new(1, sizeof *arena);
    if (arena) {
        arena->next_bytes = ARENA_FIRST_BYTES;
    }
    return arena;
}

/* A chunk with room for n_bytes. One made for a single large object goes behind the current chunk,
 * whose free rest stays in use. Not counted: lors_arena_alloc has counted already. */
static arena_chunk *arena_grow(lors_arena *arena, size_t n_bytes)
{
    bool single = n_bytes > arena->next_bytes / 2;
    size_t capacity = single ? n_bytes : arena->next_bytes;
    if (capacity > PTRDIFF_MAX - sizeof(arena_chunk)) {
        return NULL;
    }
    arena_chunk *chunk = calloc(1, sizeof *chunk + capacity);
    if (!chunk) {
        return NULL;
    }
    chunk->capacity = capacity;
    if (single && arena->current) {
        chunk->next = arena->current->next;
        arena->current->next = chunk;
    } else {
        chunk->next = arena->current;
        arena->current = chunk;
    }
    if (!single && arena->next_bytes < ARENA_MAX_BYTES) {
        arena->next_bytes *= 2;
    }
    return chunk;
}

/* Every call counts as an allocation, so that a test can fail each of them. */
void *lors_arena_alloc(lors_arena *arena, size_t n_bytes)
{
    if (refused() || n_bytes > PTRDIFF_MAX - 16) {
        return NULL;
    }
    n_bytes = n_bytes == 0 ? 16 : (n_bytes + 15) / 16 * 16;
    arena_chunk *chunk = arena->current;
    if (!chunk || chunk->capacity - chunk->used < n_bytes) {
        chunk = arena_grow(arena, n_bytes);
    }
    if (!chunk) {
        return NULL;
    }
    void *block = chunk->bytes + chunk->used;
    chunk->used += n_bytes;
    return block;
}

char *lors_arena_copy(lors_arena *arena, const char *bytes, size_t n_bytes)
{
    char *copy = n_bytes < SIZE_MAX ? lors_arena_alloc(arena, n_bytes + 1) : NULL;
    if (copy && n_bytes > 0) {
        memcpy(copy, bytes, n_bytes);
    }
    return copy;
}

void lors_arena_free(lors_arena *arena)
{
    if (!arena) {
        return;
    }
    for (arena_chunk *chunk = arena->current, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    lors_free(arena);
}

/* ---- List ---------------------------------------------------------------------------------- */

bool lors_list_push(lors_list *list, void *item)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 8 : 2 * list->capacity;
        void **items = NULL;
        if (capacity <= PTRDIFF_MAX / sizeof *items) {
            items = lors_resize(list->items, capacity * sizeof *items);
        }
        if (!items) {
            return false;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return true;
}

/* memory.c - every allocation of a merge fails, once, and with all later ones.
 *
 * Those of the library, of jansson, which takes them from it, and of OpenSSL, which is told to. */
#include <openssl/crypto.h>
#include <stdio.h>

#include "base/memory.h"
#include "faults.h"

enum { LEAKS_EVERY = 64 };
#define NEVER UINT64_MAX

static void *ssl_alloc(size_t n_bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    return lors_alloc(n_bytes);
}

static void *ssl_resize(void *block, size_t n_bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    if (n_bytes == 0) {
        lors_free(block);
        return NULL;
    }
    return lors_resize(block, n_bytes);
}

static void ssl_free(void *block, const char *file, int line)
{
    (void)file;
    (void)line;
    lors_free(block);
}

/* Returns how many allocations there were. */
static uint64_t fail_allocation(variant v, uint64_t n, bool sticky)
{
    begin_point("memory", v, "%llu %s", (unsigned long long)n, sticky ? "sticky" : "once");
    scene_reset(v);
    table_arm(NULL, FAULT_NONE, 0, v != VARIANT_TWO_STEPS);
    lors_alloc_fail_at(n, sticky);
    lors_status status = scene_merge(v, 1);
    uint64_t n_made = lors_alloc_count();
    lors_alloc_fail_at(0, false);
    if (status != LORS_OK && status != LORS_ERR_LIMIT) {
        fail_point("%s: %s", lors_status_name(status), lors_last_error());
    }
    if (n != NEVER && (n_made < n || (status == LORS_OK && sticky))) {
        fail_point(n_made < n ? "the merge does not come here" : "it succeeds without memory");
    }
    scene_check(v, status);
    return n_made;
}

/* The same of looking at an output: verify and compare. */
static uint64_t fail_looking(variant v, uint64_t n, bool sticky)
{
    begin_point("memory", v, "looking %llu %s", (unsigned long long)n, sticky ? "sticky" : "once");
    lors_alloc_fail_at(n, sticky);
    lors_status status = scene_look();
    uint64_t n_made = lors_alloc_count();
    lors_alloc_fail_at(0, false);
    if (status != LORS_ERR_LIMIT && (status != LORS_OK || (n != NEVER && sticky))) {
        fail_point("%s: %s", lors_status_name(status), lors_last_error());
    }
    if (status != LORS_OK) {
        scene_check_sentence(status);
    }
    scene_check_descriptors();
    return n_made;
}

static void run_looking(const options *o)
{
    uint64_t n_tried = 0;
    scene_reset(VARIANT_REPLACE);
    fail_looking(VARIANT_REPLACE, NEVER, false);
    uint64_t n_allocations = fail_looking(VARIANT_REPLACE, NEVER, false);
    for (uint64_t n = 1; n <= n_allocations; n++) {
        for (int sticky = 0; sticky < 2; sticky++) {
            if (wanted(o, 2 * n + (uint64_t)sticky, "looking %llu %s", (unsigned long long)n,
                       sticky ? "sticky" : "once")) {
                fail_looking(VARIANT_REPLACE, n, sticky);
                n_tried++;
            }
        }
    }
    check_leaks(n_tried);
    printf("memory looking: allocations %llu, faults %llu, tried %llu\n",
           (unsigned long long)n_allocations, (unsigned long long)n_allocations * 2,
           (unsigned long long)n_tried);
}

static void run_variant(const options *o, variant v)
{
    uint64_t n_tried = 0, unchecked = 0;
    uint64_t n_allocations = 0, n_before;
    do { /* what is allocated once and for all, is now */
        n_before = n_allocations;
        n_allocations = fail_allocation(v, NEVER, false);
    } while (n_allocations != n_before);
    for (uint64_t n = 1; n <= n_allocations; n++) {
        for (int sticky = 0; sticky < 2; sticky++) {
            if (wanted(o, 2 * n + (uint64_t)sticky, "%llu %s", (unsigned long long)n,
                       sticky ? "sticky" : "once")) {
                fail_allocation(v, n, sticky);
                n_tried++;
                unchecked++;
            }
        }
        if (unchecked >= LEAKS_EVERY || (o->only && unchecked > 0)) {
            check_leaks(unchecked);
            unchecked = 0;
        }
    }
    check_leaks(unchecked);
    printf("memory %s: allocations %llu, faults %llu, tried %llu\n", variant_name(v),
           (unsigned long long)n_allocations, (unsigned long long)n_allocations * 2,
           (unsigned long long)n_tried);
}

void run_memory(const options *o)
{
    NEED(CRYPTO_set_mem_functions(ssl_alloc, ssl_resize, ssl_free), "OpenSSL has begun already");
    table_use();
    scene_init();
    for (variant v = o->first; v <= o->last; v++) {
        run_variant(o, v);
    }
    run_looking(o);
    run_planning(o);
}

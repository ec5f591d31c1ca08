/* random.c - random masks: by density, and by the rank of each magnitude in its row. */
#include <string.h>

#include "backend/columns.h"
#include "cpu/cpu_internal.h"

lors_status lors_cpu_keep_random(lors_queue *queue, lors_view mask, uint64_t key, double density,
                                 uint64_t first, int64_t n)
{
    queue->kernels->random_mask(lors_cpu_at(mask), key, lors_random_limit(density), first, n);
    return LORS_OK;
}

/* --- by rank ---------------------------------------------------------------------------------- */

/* A magnitude's key above, its index below: sorted by the key alone, stably. */
typedef uint64_t ranked;

enum { DIGIT = 11, BINS = 1 << DIGIT, PASSES = 3 }; /* 31 bits of a key */

uint64_t lors_cpu_rank_bytes(int64_t n_rows, int64_t n_cols)
{
    (void)n_rows;
    return 2 * (uint64_t)n_cols * sizeof(ranked) + BINS * PASSES * sizeof(uint32_t);
}

/* One stable pass of a radix sort. `counts`: of this digit, in all; becomes where each begins. */
static void sort_pass(ranked *to, const ranked *from, int64_t n, int shift, uint32_t counts[BINS])
{
    uint32_t begin = 0;
    for (int bin = 0; bin < BINS; bin++) {
        uint32_t count = counts[bin];
        counts[bin] = begin;
        begin += count;
    }
    for (int64_t i = 0; i < n; i++) {
        to[counts[from[i] >> (32 + shift) & (BINS - 1)]++] = from[i];
    }
}

/* The elements of a row from the smallest magnitude to the largest, into `space` or behind it. */
static const ranked *sort_row(ranked *space, const float *x, int64_t n)
{
    ranked *a = space, *b = space + n;
    uint32_t(*counts)[BINS] = (void *)(space + 2 * n);
    memset(counts, 0, PASSES * sizeof *counts);
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = lors_key_of(x[i]);
        a[i] = (ranked)key << 32 | (uint64_t)i;
        for (int pass = 0; pass < PASSES; pass++) {
            counts[pass][key >> (DIGIT * pass) & (BINS - 1)]++;
        }
    }
    for (int pass = 0; pass < PASSES; pass++) {
        sort_pass(b, a, n, DIGIT * pass, counts[pass]);
        ranked *sorted = b;
        b = a;
        a = sorted;
    }
    return a;
}

static void keep_row(uint8_t *mask, float *x, const lors_ranking *ranking, uint64_t first,
                     const ranked *order, int64_t n)
{
    for (int64_t rank = 0; rank < n; rank++) {
        uint32_t i = (uint32_t)order[rank];
        double p = lors_ranked_probability(ranking, rank, n);
        mask[i] = lors_random_keep(ranking->key, first + i, lors_random_limit(p));
        if (ranking->divide && mask[i]) {
            x[i] = (float)((double)x[i] / p);
        }
    }
}

lors_status lors_cpu_keep_ranked(lors_queue *queue, lors_view mask, lors_view x,
                                 const lors_ranking *ranking, uint64_t first, int64_t n_rows,
                                 int64_t n_cols, lors_view scratch)
{
    (void)queue;
    uint8_t *kept = lors_cpu_at(mask);
    float *values = lors_cpu_at(x);
    for (int64_t row = 0; row < n_rows; row++, kept += n_cols, values += n_cols) {
        const ranked *order = sort_row(lors_cpu_at(scratch), values, n_cols);
        keep_row(kept, values, ranking, first + (uint64_t)(row * n_cols), order, n_cols);
    }
    return LORS_OK;
}

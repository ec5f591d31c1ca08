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

enum { DIGIT = 8, BINS = 1 << DIGIT, PASSES = 4 }; /* 31 bits of a key; rows are often short */

typedef struct scratch {
    double *chances;  /* [n_cols], by rank: the probability of being kept, 1 for 0 */
    uint64_t *limits; /* [n_cols], by rank: what random words are then below */
    ranked *order, *spare;
    double *divisors; /* [n_cols], by index */
    uint32_t *words;  /* [n_cols], by index */
    uint32_t (*counts)[BINS];
} scratch;

uint64_t lors_cpu_rank_bytes(int64_t n_rows, int64_t n_cols)
{
    (void)n_rows;
    uint64_t of_element =
        2 * sizeof(double) + sizeof(uint64_t) + 2 * sizeof(ranked) + sizeof(uint32_t);
    return (uint64_t)n_cols * of_element + PASSES * BINS * sizeof(uint32_t);
}

static scratch scratch_at(void *bytes, int64_t n)
{
    scratch s = {.chances = bytes};
    s.limits = (void *)(s.chances + n);
    s.order = (void *)(s.limits + n);
    s.spare = s.order + n;
    s.divisors = (void *)(s.spare + n);
    s.words = (void *)(s.divisors + n);
    s.counts = (void *)(s.words + n);
    return s;
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

/* s->order: the elements of a row from the smallest magnitude to the largest. */
static void sort_row(scratch *s, const float *x, int64_t n)
{
    memset(s->counts, 0, PASSES * sizeof *s->counts);
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = lors_key_of(x[i]);
        s->order[i] = (ranked)key << 32 | (uint64_t)i;
        for (int pass = 0; pass < PASSES; pass++) {
            s->counts[pass][key >> (DIGIT * pass) & (BINS - 1)]++;
        }
    }
    for (int pass = 0; pass < PASSES; pass++) {
        if (s->counts[pass][lors_key_of(x[0]) >> (DIGIT * pass) & (BINS - 1)] == n) {
            continue; /* all the same, as low bits of differences of narrow types are */
        }
        sort_pass(s->spare, s->order, n, DIGIT * pass, s->counts[pass]);
        ranked *sorted = s->spare;
        s->spare = s->order;
        s->order = sorted;
    }
}

static void take_chances(scratch *s, const lors_ranking *ranking, int64_t n)
{
    for (int64_t rank = 0; rank < n; rank++) {
        double p = lors_ranked_probability(ranking, rank, n);
        s->limits[rank] = lors_random_limit(p);
        s->chances[rank] = p > 0 ? p : 1;
    }
}

/* Without branches, which could not be predicted; what can go in the order of memory does. */
static void keep_row(uint8_t *restrict mask, float *restrict x, const scratch *s, bool divide,
                     int64_t n)
{
    double *restrict divisors = s->divisors;
    for (int64_t rank = 0; rank < n; rank++) {
        uint32_t i = (uint32_t)s->order[rank];
        mask[i] = s->words[i] < s->limits[rank];
        divisors[i] = s->chances[rank];
    }
    for (int64_t i = 0; divide && i < n; i++) {
        float divided = (float)((double)x[i] / (mask[i] ? divisors[i] : 1));
        x[i] = mask[i] ? divided : x[i]; /* a NaN that is not kept stays as it is */
    }
}

lors_status lors_cpu_keep_ranked(lors_queue *queue, lors_view mask, lors_view x,
                                 const lors_ranking *ranking, uint64_t first, int64_t n_rows,
                                 int64_t n_cols, lors_view space)
{
    uint8_t *kept = lors_cpu_at(mask);
    float *values = lors_cpu_at(x);
    if (n_cols == 0) {
        return LORS_OK;
    }
    scratch s = scratch_at(lors_cpu_at(space), n_cols);
    take_chances(&s, ranking, n_cols);
    for (int64_t row = 0; row < n_rows; row++, kept += n_cols, values += n_cols) {
        queue->kernels->random_words(s.words, ranking->key, first + (uint64_t)(row * n_cols),
                                     n_cols);
        sort_row(&s, values, n_cols);
        keep_row(kept, values, &s, ranking->divide, n_cols);
    }
    return LORS_OK;
}

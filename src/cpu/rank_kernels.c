/* rank_kernels.c - the elements of a row in the order of their magnitudes, and which of them are
 * kept by their ranks.
 *
 * Magnitudes are spread over about as many buckets as there are elements, in proportion to the
 * largest, and put in order by insertion: a few steps an element unless most magnitudes are tiny
 * beside the largest. Such rows, and those with infinities and NaN, are sorted by the bits.
 */
#include <string.h>

#include "cpu/cpu_internal.h"

enum {
    DIGIT = 8,
    BINS = 1 << DIGIT,
    PASSES = 4,          /* 31 bits of a key */
    STEPS = 8,           /* of an insertion, an element: from where on sorting by bits is faster */
    FINITE = 0x7f800000, /* keys below */
    SMALL = 0x0d800000   /* 2^-100: buckets over the largest magnitude are finite from there on */
};

static inline lors_cpu_ranked ranked_of(uint32_t key, int64_t i)
{
    return (lors_cpu_ranked)key << 32 | (uint64_t)i;
}

/* --- by buckets ------------------------------------------------------------------------------- */

static uint32_t largest_key(const float *x, int64_t n)
{
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = lors_key_of(x[i]);
        largest = key > largest ? key : largest;
    }
    return largest;
}

/* Each count becomes where its elements begin. */
static void counts_to_begins(uint32_t *counts, int64_t n)
{
    uint32_t begin = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t count = counts[i];
        counts[i] = begin;
        begin += count;
    }
}

static void spread(const lors_cpu_ranks *s, const float *restrict x, float top, int64_t n)
{
    int64_t n_buckets = lors_cpu_rank_counts(n);
    float scale = (float)(n_buckets - 1) / top;
    int32_t *restrict buckets = (int32_t *)(void *)s->divisors; /* not needed yet */
    for (int64_t i = 0; i < n; i++) {
        buckets[i] = (int32_t)(lors_float_of(lors_key_of(x[i])) * scale);
    }
    memset(s->counts, 0, (size_t)n_buckets * sizeof *s->counts);
    for (int64_t i = 0; i < n; i++) {
        s->counts[buckets[i]]++;
    }
    counts_to_begins(s->counts, n_buckets);
    for (int64_t i = 0; i < n; i++) {
        s->order[s->counts[buckets[i]]++] = ranked_of(lors_key_of(x[i]), i);
    }
}

/* false: it would take too many steps, and the order is none. */
static bool insert(lors_cpu_ranked *order, int64_t n)
{
    int64_t left = STEPS * n;
    for (int64_t i = 1; i < n && left >= 0; i++) {
        lors_cpu_ranked one = order[i];
        int64_t at = i;
        for (; at > 0 && order[at - 1] > one; at--) {
            order[at] = order[at - 1];
        }
        order[at] = one;
        left -= i - at;
    }
    return left >= 0;
}

/* --- by bits ---------------------------------------------------------------------------------- */

/* One stable pass of a radix sort. `counts`: of this digit, in all. */
static void sort_pass(lors_cpu_ranked *to, const lors_cpu_ranked *from, int64_t n, int shift,
                      uint32_t counts[BINS])
{
    counts_to_begins(counts, BINS);
    for (int64_t i = 0; i < n; i++) {
        to[counts[from[i] >> (32 + shift) & (BINS - 1)]++] = from[i];
    }
}

static inline uint32_t *digit_counts(const lors_cpu_ranks *s, int pass)
{
    return s->counts + (ptrdiff_t)BINS * pass;
}

static void sort_by_bits(lors_cpu_ranks *s, const float *x, int64_t n)
{
    memset(s->counts, 0, LORS_RANK_COUNTS * sizeof *s->counts);
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = lors_key_of(x[i]);
        s->order[i] = ranked_of(key, i);
        for (int pass = 0; pass < PASSES; pass++) {
            digit_counts(s, pass)[key >> (DIGIT * pass) & (BINS - 1)]++;
        }
    }
    for (int pass = 0; pass < PASSES; pass++) {
        uint32_t *counts = digit_counts(s, pass);
        if (counts[lors_key_of(x[0]) >> (DIGIT * pass) & (BINS - 1)] == n) {
            continue; /* all the same */
        }
        sort_pass(s->spare, s->order, n, DIGIT * pass, counts);
        lors_cpu_ranked *sorted = s->spare;
        s->spare = s->order;
        s->order = sorted;
    }
}

/* --- a row ------------------------------------------------------------------------------------ */

void LORS_KERNEL(rank_row)(lors_cpu_ranks *s, const float *x, int64_t n)
{
    uint32_t top = largest_key(x, n);
    if (top >= SMALL && top < FINITE) {
        spread(s, x, lors_float_of(top), n);
        if (insert(s->order, n)) {
            return;
        }
    }
    sort_by_bits(s, x, n);
}

/* Without branches, which could not be predicted; what can go in the order of memory does. */
void LORS_KERNEL(keep_row)(uint8_t *restrict mask, float *restrict x, const lors_cpu_ranks *s,
                           bool divide, int64_t n)
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

/* random.c - random masks: by density, and by the rank of each magnitude in its row. */
#include "backend/columns.h"
#include "cpu/cpu_internal.h"

lors_status lors_cpu_keep_random(lors_queue *queue, lors_view mask, uint64_t key, double density,
                                 uint64_t first, int64_t n)
{
    queue->kernels->random_mask(lors_cpu_at(mask), key, lors_random_limit(density), first, n);
    return LORS_OK;
}

/* --- by rank ---------------------------------------------------------------------------------- */

uint64_t lors_cpu_rank_bytes(int64_t n_rows, int64_t n_cols)
{
    (void)n_rows;
    uint64_t of_element =
        2 * sizeof(double) + sizeof(uint64_t) + 2 * sizeof(lors_cpu_ranked) + sizeof(uint32_t);
    return (uint64_t)n_cols * of_element +
           (uint64_t)lors_cpu_rank_counts(n_cols) * sizeof(uint32_t);
}

static lors_cpu_ranks ranks_at(void *bytes, int64_t n)
{
    lors_cpu_ranks s = {.chances = bytes};
    s.limits = (void *)(s.chances + n);
    s.order = (void *)(s.limits + n);
    s.spare = s.order + n;
    s.divisors = (void *)(s.spare + n);
    s.words = (void *)(s.divisors + n);
    s.counts = s.words + n;
    return s;
}

static void take_chances(lors_cpu_ranks *s, const lors_ranking *ranking, int64_t n)
{
    for (int64_t rank = 0; rank < n; rank++) {
        double p = lors_ranked_probability(ranking, rank, n);
        s->limits[rank] = lors_random_limit(p);
        s->chances[rank] = p > 0 ? p : 1;
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
    lors_cpu_ranks s = ranks_at(lors_cpu_at(space), n_cols);
    take_chances(&s, ranking, n_cols);
    for (int64_t row = 0; row < n_rows; row++, kept += n_cols, values += n_cols) {
        queue->kernels->random_words(s.words, ranking->key, first + (uint64_t)(row * n_cols),
                                     n_cols);
        queue->kernels->rank_row(&s, values, n_cols);
        queue->kernels->keep_row(kept, values, &s, ranking->divide, n_cols);
    }
    return LORS_OK;
}

/* select.c - exact top-k by magnitude (a radix search on the bits, ties by lowest index), and
 * random masks.
 *
 * The magnitude of a float orders like its bits without the sign (31 bits): three passes count 11,
 * 10 and 10 bits of those values that can still hold the k-th largest; a fourth finds, where only
 * some of the values equal to the k-th are kept, the block in which the last kept one lies.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/rows.h"
#include "base/error.h"
#include "cpu/cpu_internal.h"

enum { BINS = LORS_SELECT_BINS, LATER_BINS = 1 << 10 };

typedef struct selection {
    uint64_t total, k;
    uint64_t need;      /* how many of the values equal to `key` (so far known bits) are kept */
    uint64_t ties;      /* how many there are */
    uint64_t n_numbers; /* values that are not NaN */
    uint32_t key;       /* the known top bits of the k-th largest key, lowest bits unknown */
    uint32_t cut_rank;  /* in block cut_block the first cut_rank ties are kept ... */
    uint64_t cut_block; /* ... in earlier blocks all, in later ones none */
    uint64_t counts[BINS];
    uint32_t tie_blocks[]; /* per LORS_BLOCK */
} selection;

static uint64_t blocks_of(uint64_t n)
{
    return (n + LORS_BLOCK - 1) / LORS_BLOCK;
}

uint64_t lors_cpu_select_bytes(uint64_t total)
{
    return lors_view_padded(sizeof(selection) + blocks_of(total) * sizeof(uint32_t));
}

static selection *slice_of(const lors_selection *s, int32_t slice)
{
    uint64_t at = (uint64_t)slice * lors_cpu_select_bytes(s->total);
    return lors_cpu_at(lors_view_at(s->state, at));
}

lors_status lors_cpu_select_begin(lors_queue *queue, const lors_selection *s, const uint64_t *k)
{
    (void)queue;
    for (int32_t slice = 0; slice < s->n_slices; slice++) {
        selection *one = slice_of(s, slice);
        memset(one, 0, lors_cpu_select_bytes(s->total));
        one->total = s->total;
        one->k = k[slice] < s->total ? k[slice] : s->total;
        one->cut_block = UINT64_MAX;
    }
    return LORS_OK;
}

static void add_counts(uint64_t *total, const uint32_t *counts, int n_bins, bool shared)
{
    for (int bin = 0; bin < n_bins; bin++) {
        if (!shared) {
            total[bin] += counts[bin];
        } else if (counts[bin]) {
            __atomic_fetch_add(&total[bin], counts[bin], __ATOMIC_RELAXED);
        }
    }
}

static void count_bins(const lors_cpu_kernels *kernels, selection *s, bool shared, int32_t pass,
                       const float *x, int64_t n)
{
    enum { MOST = 1 << 30 }; /* what 32 bits can count */
    uint32_t counts[BINS];
    int n_bins = pass == 0 ? BINS : LATER_BINS;
    for (int64_t first = 0; first < n; first += MOST) {
        kernels->select_bins(counts, x + first, n - first < MOST ? n - first : MOST, pass, s->key);
        add_counts(s->counts, counts, n_bins, shared);
    }
}

static void count_ties(const lors_cpu_kernels *kernels, selection *s, const float *x,
                       uint64_t first, int64_t n)
{
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        s->tie_blocks[(first + (uint64_t)begin) / LORS_BLOCK] =
            kernels->select_ties(x + begin, count, s->key);
    }
}

lors_status lors_cpu_select_count(lors_queue *queue, const lors_selection *s, int32_t pass,
                                  lors_view x, int64_t stride, uint64_t first, int64_t n)
{
    const float *values = lors_cpu_at(x);
    for (int32_t slice = 0; slice < s->n_slices; slice++, values += stride) {
        selection *one = slice_of(s, slice);
        if (one->k > 0 && pass < 3) {
            count_bins(queue->kernels, one, s->shared, pass, values, n);
        } else if (one->k > 0 && one->need < one->ties) {
            count_ties(queue->kernels, one, values, first, n);
        }
    }
    return LORS_OK;
}

/* After pass 0, 1, 2: the bin that holds the k-th largest gives the next bits of its key. */
static void settle_bins(selection *s, int32_t pass)
{
    if (pass == 0) {
        for (int bin = 0; bin < BINS; bin++) {
            s->n_numbers += s->counts[bin];
        }
        s->k = s->k < s->n_numbers ? s->k : s->n_numbers;
        s->need = s->k;
    }
    uint32_t bin = (pass == 0 ? BINS : LATER_BINS) - 1;
    while (bin > 0 && s->counts[bin] < s->need) {
        s->need -= s->counts[bin];
        bin--;
    }
    s->key = pass == 0 ? bin : s->key << 10 | bin;
    s->ties = s->counts[bin];
    memset(s->counts, 0, sizeof s->counts);
}

/* After pass 3: the block in which the last kept tie lies. */
static void settle_ties(selection *s)
{
    uint64_t left = s->need;
    for (uint64_t block = 0; s->need < s->ties && block < blocks_of(s->total); block++) {
        if (s->tie_blocks[block] >= left) {
            s->cut_block = block;
            s->cut_rank = (uint32_t)left;
            break;
        }
        left -= s->tie_blocks[block];
    }
}

lors_status lors_cpu_select_settle(lors_queue *queue, const lors_selection *s, int32_t pass)
{
    (void)queue;
    for (int32_t slice = 0; slice < s->n_slices; slice++) {
        selection *one = slice_of(s, slice);
        if (one->k == 0) {
            continue;
        }
        if (pass < 3) {
            settle_bins(one, pass);
        } else {
            settle_ties(one);
        }
    }
    return LORS_OK;
}

/* mask for the values of the one block in which some ties are kept and some are not. */
static void keep_some_ties(uint8_t *mask, const float *x, int64_t n, uint32_t key, uint32_t left)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t k = lors_key_of(x[i]);
        bool tie = k == key && left > 0;
        left -= tie;
        mask[i] = (k > key && k < LORS_NAN_KEY) || tie;
    }
}

static void keep_slice(const lors_cpu_kernels *kernels, const selection *s, uint8_t *mask,
                       const float *x, uint64_t first, int64_t n)
{
    if (s->k == 0) {
        memset(mask, 0, (size_t)n);
        return;
    }
    for (int64_t begin = 0; begin < n; begin += LORS_BLOCK) {
        int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
        uint64_t block = (first + (uint64_t)begin) / LORS_BLOCK;
        if (block == s->cut_block) {
            keep_some_ties(mask + begin, x + begin, count, s->key, s->cut_rank);
        } else { /* ties: all, or none */
            kernels->select_mask(mask + begin, x + begin, count, s->key + (block > s->cut_block));
        }
    }
}

lors_status lors_cpu_keep_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                              lors_view x, int64_t stride, uint64_t first, int64_t n)
{
    const float *values = lors_cpu_at(x);
    uint8_t *out = lors_cpu_at(mask);
    for (int32_t slice = 0; slice < s->n_slices; slice++) {
        keep_slice(queue->kernels, slice_of(s, slice), out + slice * stride,
                   values + slice * stride, first, n);
    }
    return LORS_OK;
}

lors_status lors_cpu_drop_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                              lors_view x, int64_t stride, uint64_t first, int64_t n)
{
    const float *values = lors_cpu_at(x);
    uint8_t *out = lors_cpu_at(mask), kept[LORS_BLOCK];
    for (int32_t slice = 0; slice < s->n_slices; slice++) {
        for (int64_t begin = 0; begin < n; begin += LORS_BLOCK) {
            int64_t count = n - begin < LORS_BLOCK ? n - begin : LORS_BLOCK;
            uint8_t *piece = out + slice * stride + begin;
            keep_slice(queue->kernels, slice_of(s, slice), kept, values + slice * stride + begin,
                       first + (uint64_t)begin, count);
            for (int64_t i = 0; i < count; i++) {
                piece[i] = kept[i] ? 0 : piece[i];
            }
        }
    }
    return LORS_OK;
}

lors_status lors_cpu_select_kept(lors_queue *queue, const lors_selection *s, lors_view kept)
{
    (void)queue;
    uint64_t *out = lors_cpu_at(kept);
    for (int32_t slice = 0; slice < s->n_slices; slice++) {
        out[slice] = slice_of(s, slice)->k;
    }
    return LORS_OK;
}

lors_status lors_cpu_select_value(lors_queue *queue, const lors_selection *s, lors_view value)
{
    (void)queue;
    float *out = lors_cpu_at(value);
    for (int32_t slice = 0; slice < s->n_slices; slice++) {
        const selection *one = slice_of(s, slice);
        out[slice] = one->k > 0 ? lors_float_of(one->key) : 0;
    }
    return LORS_OK;
}

lors_status lors_cpu_keep_from(lors_queue *queue, lors_view mask, lors_view x, lors_view values,
                               const double *factors, int32_t n_values, int64_t n)
{
    double limit = lors_limit_of(lors_cpu_at(values), factors, n_values);
    queue->kernels->keep_from(lors_cpu_at(mask), lors_cpu_at(x), limit, n);
    return LORS_OK;
}

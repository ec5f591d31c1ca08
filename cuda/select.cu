/* select.cu - exact top-k by magnitude: a radix search on the bits, key = |x| as 31 bits, ties by
 * lowest index; mask_i = key_i > K or (key_i = K and one of the first ties).
 *
 * Three passes count 11, 10 and 10 bits of those values that can still hold the k-th largest; a
 * fourth counts, where only some of the values equal to the k-th are kept, the ties of each block,
 * to find the one in which the last kept one lies. All counts are integers, so that the order of
 * the atomics does not matter, and all stay on the device: the host never looks.
 */
#include "backend/arithmetic.h"
#include "cuda/cuda_internal.h"

enum {
    THREADS = 256,
    BINS = 2048,
    BINS_PER_THREAD = BINS / THREADS,
    WIDE = 4,                    /* values a thread reads at once, where they are aligned */
    SHARE = LORS_BLOCK / THREADS /* of the block that keeps some of its ties, one thread's */
};

/* Of one slice; the counts of ties, u32 per LORS_BLOCK, follow it. */
typedef struct selection {
    uint64_t k;         /* how many are kept */
    uint64_t need;      /* how many of the values equal to `key` (so far known bits) are kept */
    uint64_t ties;      /* how many there are */
    uint64_t cut_block; /* in this block the first cut_rank ties are kept ... */
    uint32_t cut_rank;  /* ... in earlier blocks all, in later ones none */
    uint32_t key;       /* the known top bits of the k-th largest key, lowest bits unknown */
    unsigned long long counts[BINS];
} selection;

/* The state of a call, by value. */
typedef struct selections {
    unsigned char *states; /* [n_slices] */
    uint64_t state_bytes;
    uint64_t n_blocks; /* of a slice */
} selections;

typedef struct alignas(WIDE * sizeof(float)) values {
    float at[WIDE];
} values;

typedef struct alignas(WIDE) flags {
    uint8_t at[WIDE];
} flags;

static __device__ selection *slice_of(const selections &s, unsigned slice)
{
    return reinterpret_cast<selection *>(s.states + slice * s.state_bytes);
}

static __device__ uint32_t *tie_counts_of(selection *one)
{
    return reinterpret_cast<uint32_t *>(one + 1);
}

static __device__ bool is_aligned(const void *address, size_t n_bytes)
{
    return reinterpret_cast<uintptr_t>(address) % n_bytes == 0;
}

/* The sum of the values of the threads before this one, and through `total` that of all. Every
 * thread of the block comes here. */
static __device__ uint64_t sum_before(uint64_t value, uint64_t *total)
{
    __shared__ uint64_t sums[2][THREADS];
    int thread = (int)threadIdx.x, from = 0;
    sums[0][thread] = value;
    __syncthreads();
    for (int distance = 1; distance < THREADS; distance *= 2, from = 1 - from) {
        uint64_t sum = sums[from][thread];
        sums[1 - from][thread] = thread < distance ? sum : sum + sums[from][thread - distance];
        __syncthreads();
    }
    uint64_t through = sums[from][thread];
    *total = sums[from][THREADS - 1];
    __syncthreads();
    return through - value;
}

/* --- Begin ------------------------------------------------------------------------------------ */

static uint64_t blocks_of(uint64_t n)
{
    return n / LORS_BLOCK + (n % LORS_BLOCK != 0);
}

uint64_t lors_cuda_select_bytes(uint64_t total)
{
    return lors_view_padded(sizeof(selection) + blocks_of(total) * sizeof(uint32_t));
}

static selections describe(const lors_selection *s)
{
    selections all = {lors_cuda_at<unsigned char>(s->state), lors_cuda_select_bytes(s->total),
                      blocks_of(s->total)};
    return all;
}

static lors_status check_slices(int32_t n_slices)
{
    if (n_slices > LORS_MAX_MODELS) {
        return lors_cuda_fail(LORS_ERR_LIMIT,
                              "%d models are more than the %d that the cuda device selects from at "
                              "once: merge them with --device cpu",
                              (int)n_slices, (int)LORS_MAX_MODELS);
    }
    return LORS_OK;
}

typedef struct wanted {
    uint64_t k[LORS_MAX_MODELS];
} wanted;

/* A thread block for each slice. */
static __global__ void begin_kernel(selections s, wanted w)
{
    selection *one = slice_of(s, blockIdx.x);
    if (threadIdx.x == 0) {
        one->k = w.k[blockIdx.x];
        one->need = one->ties = 0;
        one->cut_block = UINT64_MAX;
        one->cut_rank = one->key = 0;
    }
    for (int bin = (int)threadIdx.x; bin < BINS; bin += THREADS) {
        one->counts[bin] = 0;
    }
}

lors_status lors_cuda_select_begin(lors_queue *queue, const lors_selection *s, const uint64_t *k)
{
    LORS_TRY(lors_cuda_enter(queue));
    LORS_TRY(check_slices(s->n_slices));
    if (s->n_slices == 0) {
        return LORS_OK;
    }
    wanted w = {};
    for (int32_t slice = 0; slice < s->n_slices; slice++) {
        w.k[slice] = k[slice] < s->total ? k[slice] : s->total;
    }
    LORS_LAUNCH((begin_kernel), (unsigned)s->n_slices, THREADS, queue->stream, describe(s), w);
    return lors_cuda_launched("select_begin");
}

/* --- Count ------------------------------------------------------------------------------------ */

/* A histogram in shared memory, and the last bin that a thread met: equal neighbours (whole rows of
 * zeros) cost one atomic together. */
typedef struct tally {
    unsigned int *bins;
    uint32_t bin, n;
} tally;

static __device__ void flush(tally *t)
{
    if (t->n > 0) {
        atomicAdd(&t->bins[t->bin], t->n);
    }
}

static __device__ void count(tally *t, float x, uint32_t known, int32_t pass)
{
    uint32_t key = lors_key_of(x);
    int shift = lors_select_shift(pass), known_shift = pass == 0 ? 31 : shift + 10;
    if (key >= LORS_NAN_KEY || key >> known_shift != known) {
        return;
    }
    uint32_t bin = key >> shift & (pass == 0 ? BINS - 1 : BINS / 2 - 1);
    if (bin != t->bin) {
        flush(t);
        t->bin = bin;
        t->n = 0;
    }
    t->n++;
}

static __device__ void count_all(tally *t, const float *x, int64_t n, uint32_t known, int32_t pass)
{
    int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t step = (int64_t)gridDim.x * THREADS;
    int64_t n_wide = is_aligned(x, sizeof(values)) ? n / WIDE : 0;
    for (int64_t i = thread; i < n_wide; i += step) {
        values four = reinterpret_cast<const values *>(x)[i];
        for (int j = 0; j < WIDE; j++) {
            count(t, four.at[j], known, pass);
        }
    }
    for (int64_t i = n_wide * WIDE + thread; i < n; i += step) {
        count(t, x[i], known, pass);
    }
    flush(t);
}

/* blockIdx.y: the slice. A thread block counts into shared memory and adds what it found to the
 * state: u32 is enough for 2^32 values of one bin in one of LORS_MAX_GRID blocks. */
static __global__ void count_kernel(selections s, int32_t pass, const float *x, int64_t stride,
                                    int64_t n)
{
    __shared__ unsigned int bins[BINS];
    selection *one = slice_of(s, blockIdx.y);
    if (one->k == 0) {
        return;
    }
    for (int bin = (int)threadIdx.x; bin < BINS; bin += THREADS) {
        bins[bin] = 0;
    }
    __syncthreads();
    tally t = {bins, 0, 0};
    count_all(&t, x + blockIdx.y * stride, n, pass == 0 ? 0 : one->key, pass);
    __syncthreads();
    for (int bin = (int)threadIdx.x; bin < BINS; bin += THREADS) {
        if (bins[bin] > 0) {
            atomicAdd(&one->counts[bin], (unsigned long long)bins[bin]);
        }
    }
}

/* out = how many of the values of a block equal the key. */
static __device__ void count_ties(uint32_t *out, const float *x, int64_t n, uint32_t key)
{
    __shared__ unsigned int n_ties;
    if (threadIdx.x == 0) {
        n_ties = 0;
    }
    __syncthreads();
    unsigned int mine = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        mine += lors_key_of(x[i]) == key;
    }
    if (mine > 0) {
        atomicAdd(&n_ties, mine);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        *out = n_ties;
    }
}

/* blockIdx.y: the slice. Nothing to do where all ties are kept, as nearly always. */
static __global__ void count_ties_kernel(selections s, const float *x, int64_t stride,
                                         uint64_t first, int64_t n)
{
    selection *one = slice_of(s, blockIdx.y);
    if (one->k == 0 || one->need == one->ties) {
        return;
    }
    x += blockIdx.y * stride;
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
    for (int64_t block = blockIdx.x; block < n_blocks; block += gridDim.x) {
        int64_t begin = block * LORS_BLOCK;
        int64_t end = begin + LORS_BLOCK < n ? begin + LORS_BLOCK : n;
        uint32_t *out = tie_counts_of(one) + first / LORS_BLOCK + (uint64_t)block;
        count_ties(out, x + begin, end - begin, one->key);
    }
}

lors_status lors_cuda_select_count(lors_queue *queue, const lors_selection *s, int32_t pass,
                                   lors_view x, int64_t stride, uint64_t first, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    LORS_TRY(check_slices(s->n_slices));
    if (n == 0 || s->n_slices == 0) {
        return LORS_OK;
    }
    const float *from = lors_cuda_at<const float>(x);
    if (pass < 3) {
        LORS_LAUNCH((count_kernel), lors_grid(n, LORS_BLOCK, s->n_slices), THREADS, queue->stream,
                    describe(s), pass, from, stride, n);
    } else {
        LORS_LAUNCH((count_ties_kernel), lors_grid(n, LORS_BLOCK, s->n_slices), THREADS,
                    queue->stream, describe(s), from, stride, first, n);
    }
    return lors_cuda_launched("select_count");
}

/* --- Settle ----------------------------------------------------------------------------------- */

/* The bin that holds the need-th value, from bin `top` on downwards. */
static __device__ void take_bin(selection *one, int32_t pass, int top, uint64_t need)
{
    int bin = top;
    for (; one->counts[bin] < need; bin--) {
        need -= one->counts[bin];
    }
    one->need = need;
    one->ties = one->counts[bin];
    one->key = pass == 0 ? (uint32_t)bin : one->key << 10 | (uint32_t)bin;
}

/* After pass 0, 1, 2: the bin that holds the k-th largest gives the next bits of its key. Thread 0
 * has the topmost bins, and so on; one thread finds that it has the bin. */
static __device__ void settle_bins(selection *one, int32_t pass)
{
    int top = BINS - 1 - (int)threadIdx.x * BINS_PER_THREAD;
    uint64_t sum = 0, n_numbers, need = one->need, k = one->k;
    for (int j = 0; j < BINS_PER_THREAD; j++) {
        sum += one->counts[top - j];
    }
    uint64_t before = sum_before(sum, &n_numbers);
    if (pass == 0) {
        need = k < n_numbers ? k : n_numbers;
        if (threadIdx.x == 0) {
            one->k = need;
        }
    }
    if (before < need && need <= before + sum) {
        take_bin(one, pass, top, need - before);
    }
    for (int j = 0; j < BINS_PER_THREAD; j++) {
        one->counts[top - j] = 0;
    }
}

/* After pass 3: the block in which the last kept tie lies. Each thread has a run of blocks. */
static __device__ void settle_ties(selection *one, uint64_t n_blocks)
{
    uint64_t share = (n_blocks + THREADS - 1) / THREADS, begin = threadIdx.x * share;
    uint64_t end = begin + share < n_blocks ? begin + share : n_blocks;
    const uint32_t *n_ties = tie_counts_of(one);
    uint64_t sum = 0, total;
    for (uint64_t block = begin; block < end; block++) {
        sum += n_ties[block];
    }
    uint64_t before = sum_before(sum, &total);
    if (before < one->need && one->need <= before + sum) {
        uint64_t left = one->need - before, block = begin;
        for (; n_ties[block] < left; block++) {
            left -= n_ties[block];
        }
        one->cut_block = block;
        one->cut_rank = (uint32_t)left;
    }
}

/* A thread block for each slice. */
static __global__ void settle_kernel(selections s, int32_t pass)
{
    selection *one = slice_of(s, blockIdx.x);
    if (one->k == 0) {
        return;
    }
    if (pass < 3) {
        settle_bins(one, pass);
    } else if (one->need < one->ties) {
        settle_ties(one, s.n_blocks);
    }
}

lors_status lors_cuda_select_settle(lors_queue *queue, const lors_selection *s, int32_t pass)
{
    LORS_TRY(lors_cuda_enter(queue));
    LORS_TRY(check_slices(s->n_slices));
    if (s->n_slices == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((settle_kernel), (unsigned)s->n_slices, THREADS, queue->stream, describe(s), pass);
    return lors_cuda_launched("select_settle");
}

/* --- Keep ------------------------------------------------------------------------------------- */

/* What becomes of the mask where `kept` are to be kept, or dropped. */
template <bool drop> static __device__ uint8_t masked(uint8_t mask, bool kept)
{
    return !drop ? kept : kept ? 0 : mask;
}

/* Values of one block whose ties are all kept, or none of them: keys from `least` on. */
template <bool drop>
static __device__ void keep_from(uint8_t *mask, const float *x, int64_t n, uint32_t least)
{
    bool aligned = is_aligned(x, sizeof(values)) && is_aligned(mask, sizeof(flags));
    int64_t n_wide = aligned ? n / WIDE : 0;
    for (int64_t i = threadIdx.x; i < n_wide; i += THREADS) {
        values four = reinterpret_cast<const values *>(x)[i];
        flags kept = reinterpret_cast<flags *>(mask)[i];
        for (int j = 0; j < WIDE; j++) {
            uint32_t key = lors_key_of(four.at[j]);
            kept.at[j] = masked<drop>(kept.at[j], key >= least && key < LORS_NAN_KEY);
        }
        reinterpret_cast<flags *>(mask)[i] = kept;
    }
    for (int64_t i = n_wide * WIDE + threadIdx.x; i < n; i += THREADS) {
        uint32_t key = lors_key_of(x[i]);
        mask[i] = masked<drop>(mask[i], key >= least && key < LORS_NAN_KEY);
    }
}

/* The one block of a slice that keeps only the first of its ties: each thread has a run of values,
 * and counts the ties before it. */
template <bool drop>
static __device__ void keep_first_ties(uint8_t *mask, const float *x, int64_t n, uint32_t key,
                                       uint64_t n_kept)
{
    int64_t begin = (int64_t)threadIdx.x * SHARE, end = begin + SHARE < n ? begin + SHARE : n;
    uint64_t mine = 0, total;
    for (int64_t i = begin; i < end; i++) {
        mine += lors_key_of(x[i]) == key;
    }
    uint64_t rank = sum_before(mine, &total);
    for (int64_t i = begin; i < end; i++) {
        uint32_t own = lors_key_of(x[i]);
        bool tie = own == key;
        mask[i] = masked<drop>(mask[i],
                               (own > key && own < LORS_NAN_KEY) || (tie && rank < n_kept));
        rank += tie;
    }
}

/* blockIdx.y: the slice; a thread block takes a LORS_BLOCK at a time. Where nothing is kept, not
 * even the keys of NaN are large enough. */
template <bool drop>
static __global__ void keep_top_kernel(selections s, uint8_t *mask, const float *x, int64_t stride,
                                       uint64_t first, int64_t n)
{
    const selection *one = slice_of(s, blockIdx.y);
    int64_t n_blocks = (n + LORS_BLOCK - 1) / LORS_BLOCK;
    mask += blockIdx.y * stride;
    x += blockIdx.y * stride;
    for (int64_t i = blockIdx.x; i < n_blocks; i += gridDim.x) {
        int64_t begin = i * LORS_BLOCK;
        int64_t end = begin + LORS_BLOCK < n ? begin + LORS_BLOCK : n;
        uint64_t block = first / LORS_BLOCK + (uint64_t)i;
        if (one->k > 0 && block == one->cut_block) {
            keep_first_ties<drop>(mask + begin, x + begin, end - begin, one->key, one->cut_rank);
        } else {
            uint32_t least = one->key + (block > one->cut_block);
            keep_from<drop>(mask + begin, x + begin, end - begin,
                            one->k > 0 ? least : LORS_NAN_KEY);
        }
    }
}

template <bool drop>
static lors_status launch_keep_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                                   lors_view x, int64_t stride, uint64_t first, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    LORS_TRY(check_slices(s->n_slices));
    if (n == 0 || s->n_slices == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((keep_top_kernel<drop>), lors_grid(n, LORS_BLOCK, s->n_slices), THREADS,
                queue->stream, describe(s), lors_cuda_at<uint8_t>(mask),
                lors_cuda_at<const float>(x), stride, first, n);
    return lors_cuda_launched(drop ? "drop_top" : "keep_top");
}

lors_status lors_cuda_keep_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                               lors_view x, int64_t stride, uint64_t first, int64_t n)
{
    return launch_keep_top<false>(queue, s, mask, x, stride, first, n);
}

lors_status lors_cuda_drop_top(lors_queue *queue, const lors_selection *s, lors_view mask,
                               lors_view x, int64_t stride, uint64_t first, int64_t n)
{
    return launch_keep_top<true>(queue, s, mask, x, stride, first, n);
}

static __global__ void kept_kernel(selections s, uint64_t *kept)
{
    kept[threadIdx.x] = slice_of(s, threadIdx.x)->k;
}

lors_status lors_cuda_select_kept(lors_queue *queue, const lors_selection *s, lors_view kept)
{
    LORS_TRY(lors_cuda_enter(queue));
    LORS_TRY(check_slices(s->n_slices));
    if (s->n_slices == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((kept_kernel), 1, (unsigned)s->n_slices, queue->stream, describe(s),
                lors_cuda_at<uint64_t>(kept));
    return lors_cuda_launched("select_kept");
}

static __global__ void value_kernel(selections s, float *value)
{
    const selection *one = slice_of(s, threadIdx.x);
    value[threadIdx.x] = one->k > 0 ? lors_float_of(one->key) : 0;
}

lors_status lors_cuda_select_value(lors_queue *queue, const lors_selection *s, lors_view value)
{
    LORS_TRY(lors_cuda_enter(queue));
    LORS_TRY(check_slices(s->n_slices));
    if (s->n_slices == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((value_kernel), 1, (unsigned)s->n_slices, queue->stream, describe(s),
                lors_cuda_at<float>(value));
    return lors_cuda_launched("select_value");
}

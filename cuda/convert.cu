/* convert.cu - between stored types and f32/f64: load: f32 = stored, widened exactly; store: stored
 * = round(base + acc), once, straight from f64, with sum(update^2) and sum(loss^2) per block.
 */
#include <math.h>

#include "backend/arithmetic.h"
#include "cuda/cuda_internal.h"

enum {
    THREADS = 256,
    SPAN = 1024,     /* elements whose squares are summed together: part of the definition */
    SPANS = LORS_BLOCK / SPAN,
    LANES = 8,
    STEPS = SPAN / THREADS /* elements of a span that one thread stores */
};

/* Neighbouring values that one access moves. */
template <typename T, int width> struct alignas(sizeof(T) * width) pack {
    T at[width];
};

template <lors_dtype dtype> struct stored {
    typedef uint16_t type;
    static constexpr double largest = dtype == LORS_F16 ? 65504.0 : 0x1.fep127;
};

template <> struct stored<LORS_F32> {
    typedef uint32_t type;
    static constexpr double largest = 0x1.fffffep127;
};

/* --- Load ------------------------------------------------------------------------------------- */

template <lors_dtype dtype> static __device__ uint32_t widen(typename stored<dtype>::type in)
{
    if constexpr (dtype == LORS_F16) {
        return lors_widen_f16(in);
    } else if constexpr (dtype == LORS_BF16) {
        return lors_widen_bf16(in);
    } else {
        return in;
    }
}

/* The value of these bits, or 0; what is not finite is noted. */
static __device__ float admit(uint32_t bits, bool zero_nonfinite, uint64_t index,
                              lors_findings *mine)
{
    if (lors_is_finite_bits(bits)) {
        return lors_float_of(bits);
    }
    uint64_t mirrored = UINT64_MAX - index;
    mine->n_nonfinite++;
    mine->first_mirrored = mirrored > mine->first_mirrored ? mirrored : mine->first_mirrored;
    return zero_nonfinite ? 0.0f : lors_float_of(bits);
}

/* What the threads of a block found goes out in one pair of atomics. All of them come here. */
static __device__ void tell(const lors_findings *mine, lors_findings *findings)
{
    __shared__ unsigned long long n_nonfinite, first_mirrored;
    if (threadIdx.x == 0) {
        n_nonfinite = first_mirrored = 0;
    }
    __syncthreads();
    if (mine->n_nonfinite > 0) {
        atomicAdd(&n_nonfinite, (unsigned long long)mine->n_nonfinite);
        atomicMax(&first_mirrored, (unsigned long long)mine->first_mirrored);
    }
    __syncthreads();
    if (threadIdx.x == 0 && n_nonfinite > 0) {
        atomicAdd(reinterpret_cast<unsigned long long *>(&findings->n_nonfinite), n_nonfinite);
        atomicMax(reinterpret_cast<unsigned long long *>(&findings->first_mirrored),
                  first_mirrored);
    }
}

typedef struct load_args {
    float *out;
    const void *in;
    int64_t n;
    uint64_t first;
    lors_findings *findings; /* NULL: not asked for */
    int64_t zero_nonfinite;  /* a bool, as wide as the others: no padding */
} load_args;

/* 16 stored bytes, from an aligned place, become `width` values. */
template <lors_dtype dtype, int width>
static __device__ void load_wide(const load_args &args, int64_t at, lors_findings *mine)
{
    typedef typename stored<dtype>::type T;
    pack<T, width> in =
        *reinterpret_cast<const pack<T, width> *>(static_cast<const T *>(args.in) + at);
    pack<float, 4> *out = reinterpret_cast<pack<float, 4> *>(args.out + at);
    for (int part = 0; part < width / 4; part++) {
        pack<float, 4> values;
        for (int j = 0; j < 4; j++) {
            int i = part * 4 + j;
            values.at[j] = admit(widen<dtype>(in.at[i]), args.zero_nonfinite,
                                 args.first + (uint64_t)(at + i), mine);
        }
        out[part] = values;
    }
}

/* From the first element of which `in` is aligned to 16 bytes, if `out` is so there, too, all goes
 * in wide accesses but for less than one of them at the end; otherwise one by one. */
template <lors_dtype dtype> static __global__ void load_kernel(load_args args)
{
    typedef typename stored<dtype>::type T;
    constexpr int width = 16 / sizeof(T);
    const T *in = static_cast<const T *>(args.in);
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    int64_t head = (int64_t)((16 - reinterpret_cast<uintptr_t>(in) % 16) % 16 / sizeof(T));
    bool wide = head < args.n && reinterpret_cast<uintptr_t>(args.out + head) % 16 == 0;
    int64_t n_wide = wide ? (args.n - head) / width : 0;
    lors_findings mine = {0, 0};
    for (int64_t i = thread; i < n_wide; i += step) {
        load_wide<dtype, width>(args, head + i * width, &mine);
    }
    for (int64_t rest = thread; rest < args.n - n_wide * width; rest += step) {
        int64_t i = rest < head ? rest : rest + n_wide * width;
        args.out[i] =
            admit(widen<dtype>(in[i]), args.zero_nonfinite, args.first + (uint64_t)i, &mine);
    }
    if (args.findings) {
        tell(&mine, args.findings);
    }
}

lors_status lors_cuda_load(lors_queue *queue, lors_view out, lors_view in, lors_dtype dtype,
                           int64_t n, bool zero_nonfinite, uint64_t first, lors_view findings)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    load_args args = {lors_cuda_at<float>(out),
                      lors_cuda_at<const void>(in),
                      n,
                      first,
                      lors_cuda_at<lors_findings>(findings),
                      zero_nonfinite};
    dim3 grid = lors_grid(n, dtype == LORS_F32 ? THREADS * 4 : THREADS * 8, 1);
    if (dtype == LORS_F32) {
        LORS_LAUNCH((load_kernel<LORS_F32>), grid, THREADS, queue->stream, args);
    } else if (dtype == LORS_F16) {
        LORS_LAUNCH((load_kernel<LORS_F16>), grid, THREADS, queue->stream, args);
    } else {
        LORS_LAUNCH((load_kernel<LORS_BF16>), grid, THREADS, queue->stream, args);
    }
    return lors_cuda_launched("load");
}

/* --- Store ------------------------------------------------------------------------------------ */

typedef struct store_args {
    void *out;
    const double *acc;
    const float *base, *stack; /* NULL: absent */
    lors_store_block *blocks;
    int64_t stride, n;
    int32_t n_models;
    bool zero_nonfinite;
} store_args;

/* What one thread block knows of its LORS_BLOCK. */
typedef struct block_sums {
    double squares[2][SPAN + LANES]; /* of update and loss, one span; padded against bank clashes */
    double lanes[SPANS][2][LANES];
    double folded[SPANS][2];
    unsigned int n_overflow, n_nan, n_infinite, first_bad;
} block_sums;

/* What one thread stores of a span; element j is THREADS * j after its first. */
typedef struct elements {
    int64_t first; /* of the call */
    int n;         /* how many there are: fewer than STEPS at the end */
    double acc[STEPS];
    float base[STEPS];
} elements;

/* Read early, so that the reads run while a warp adds the squares of the span before. */
static __device__ void fetch(const store_args &args, int64_t span_first, int64_t end, elements *e)
{
    e->first = span_first + threadIdx.x;
    int64_t n = (end - e->first + THREADS - 1) / THREADS;
    e->n = (int)(n < 0 ? 0 : n < STEPS ? n : (int64_t)STEPS);
    for (int j = 0; j < STEPS; j++) {
        int64_t at = e->first + j * THREADS;
        e->acc[j] = j < e->n ? args.acc[at] : 0;
        e->base[j] = j < e->n && args.base ? args.base[at] : 0;
    }
}

/* exact[j] = x where all models hold the same bits x; where they differ, mostly the second of them
 * already does. */
static __device__ void agree(const store_args &args, const elements *e, double *exact)
{
    float x[STEPS];
    uint32_t differing[STEPS];
    for (int j = 0; j < STEPS; j++) {
        x[j] = j < e->n ? args.stack[e->first + j * THREADS] : 0;
        differing[j] = j >= e->n;
    }
    bool open = true;
    for (int32_t m = 1; m < args.n_models && open; m++) {
        const float *slice = args.stack + m * args.stride + e->first;
        open = false;
        for (int j = 0; j < STEPS; j++) {
            differing[j] |= j < e->n ? lors_bits_of(slice[j * THREADS]) ^ lors_bits_of(x[j]) : 0;
            open = open || differing[j] == 0;
        }
    }
    for (int j = 0; j < STEPS; j++) {
        exact[j] = differing[j] ? exact[j] : (double)x[j];
    }
}

static __device__ void results_of(const store_args &args, const elements *e, double *exact)
{
    for (int j = 0; j < STEPS; j++) {
        double base = e->base[j], sum = base + e->acc[j];
        exact[j] = !args.base ? e->acc[j] : e->acc[j] == 0 ? base : sum;
    }
    if (args.stack) {
        agree(args, e, exact);
    }
}

/* The stored bits, and through `rounded` the value that they stand for. */
template <lors_dtype dtype>
static __device__ typename stored<dtype>::type round_once(double exact, double *rounded)
{
    if constexpr (dtype == LORS_F16) {
        *rounded = lors_round_f16(exact);
        return lors_f16_bits(*rounded);
    } else if constexpr (dtype == LORS_BF16) {
        *rounded = lors_round_bf16(exact);
        return lors_bf16_bits(*rounded);
    } else {
        float narrow = (float)exact;
        *rounded = narrow;
        return lors_f32_bits_canonical(narrow);
    }
}

/* The rare result that is not finite, or not after rounding. */
static __device__ void note_bad(block_sums *sums, double exact, uint32_t place)
{
    unsigned int *kind = exact != exact              ? &sums->n_nan
                         : !(fabs(exact) < INFINITY) ? &sums->n_infinite
                                                     : &sums->n_overflow;
    atomicAdd(kind, 1u);
    atomicMin(&sums->first_bad, (unsigned int)place);
}

/* One element, the place'th of its block; its squares go to shared memory. A bad one leaves nothing
 * in the sums. */
template <lors_dtype dtype>
static __device__ void store_element(const store_args &args, int64_t at, double acc, double exact,
                                     block_sums *sums)
{
    typedef typename stored<dtype>::type T;
    int place = (int)(at % LORS_BLOCK);
    double rounded;
    T bits = round_once<dtype>(exact, &rounded);
    bool bad = !(fabs(rounded) <= stored<dtype>::largest);
    double update = args.base && !bad ? acc : 0, loss = bad ? 0 : rounded - exact;
    if (bad) {
        note_bad(sums, exact, (uint32_t)place);
        bits = args.zero_nonfinite ? 0 : bits;
    }
    static_cast<T *>(args.out)[at] = bits;
    sums->squares[0][place % SPAN] = update * update;
    sums->squares[1][place % SPAN] = loss * loss;
}

/* What a thread has of a span. Past the end the squares are 0, which changes no sum. */
template <lors_dtype dtype>
static __device__ void store_elements(const store_args &args, const elements *e, block_sums *sums)
{
    double exact[STEPS];
    results_of(args, e, exact);
    for (int j = 0; j < STEPS; j++) {
        if (j < e->n) {
            store_element<dtype>(args, e->first + j * THREADS, e->acc[j], exact[j], sums);
        } else {
            int place = (int)threadIdx.x + j * THREADS;
            sums->squares[0][place] = sums->squares[1][place] = 0;
        }
    }
}

/* (8 lanes x 2 sums) threads add the squares of a span, each lane in order. */
static __device__ void add_lanes(block_sums *sums, int span)
{
    if (threadIdx.x < 2 * LANES) {
        int which = (int)threadIdx.x / LANES, lane = (int)threadIdx.x % LANES;
        double sum = 0;
        for (int i = lane; i < SPAN; i += LANES) {
            sum += sums->squares[which][i];
        }
        sums->lanes[span][which][lane] = sum;
    }
}

/* The order in which the CPU folds its lanes. */
static __device__ double fold(const double *v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* Each span is folded by itself, the spans are added in order. */
static __device__ void finish_block(block_sums *sums, int n_spans, lors_store_block *out)
{
    int span = (int)threadIdx.x / 2, which = (int)threadIdx.x % 2;
    if (span < n_spans) {
        sums->folded[span][which] = fold(sums->lanes[span][which]);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        lors_store_block block = {0, 0, sums->n_overflow, sums->n_nan, sums->n_infinite, 0};
        for (int i = 0; i < n_spans; i++) {
            block.update += sums->folded[i][0];
            block.loss += sums->folded[i][1];
        }
        block.first_bad = sums->first_bad < LORS_BLOCK ? sums->first_bad : 0;
        *out = block;
    }
}

template <lors_dtype dtype>
static __device__ void store_block(const store_args &args, int64_t first, int64_t end,
                                   block_sums *sums, lors_store_block *out)
{
    int n_spans = (int)((end - first + SPAN - 1) / SPAN);
    elements e;
    if (threadIdx.x == 0) {
        sums->n_overflow = sums->n_nan = sums->n_infinite = 0;
        sums->first_bad = LORS_BLOCK;
    }
    __syncthreads();
    fetch(args, first, end, &e);
    for (int span = 0; span < n_spans; span++) {
        store_elements<dtype>(args, &e, sums);
        fetch(args, first + (span + 1) * SPAN, end, &e);
        __syncthreads();
        add_lanes(sums, span);
        __syncthreads();
    }
    finish_block(sums, n_spans, out);
}

/* A thread block takes a LORS_BLOCK at a time. */
template <lors_dtype dtype> static __global__ void store_kernel(store_args args)
{
    __shared__ block_sums sums;
    int64_t n_blocks = (args.n + LORS_BLOCK - 1) / LORS_BLOCK;
    for (int64_t block = blockIdx.x; block < n_blocks; block += gridDim.x) {
        int64_t first = block * LORS_BLOCK;
        int64_t end = first + LORS_BLOCK < args.n ? first + LORS_BLOCK : args.n;
        store_block<dtype>(args, first, end, &sums, &args.blocks[block]);
    }
}

lors_status lors_cuda_store(lors_queue *queue, lors_view out, const lors_store *store, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    store_args args = {lors_cuda_at<void>(out),
                       lors_cuda_at<const double>(store->acc),
                       lors_cuda_at<const float>(store->base),
                       lors_cuda_at<const float>(store->stack),
                       lors_cuda_at<lors_store_block>(store->blocks),
                       store->stride,
                       n,
                       store->n_models,
                       store->zero_nonfinite};
    dim3 grid = lors_grid(n, LORS_BLOCK, 1);
    if (store->dtype == LORS_F32) {
        LORS_LAUNCH((store_kernel<LORS_F32>), grid, THREADS, queue->stream, args);
    } else if (store->dtype == LORS_F16) {
        LORS_LAUNCH((store_kernel<LORS_F16>), grid, THREADS, queue->stream, args);
    } else {
        LORS_LAUNCH((store_kernel<LORS_BF16>), grid, THREADS, queue->stream, args);
    }
    return lors_cuda_launched("store");
}

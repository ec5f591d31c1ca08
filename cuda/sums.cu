/* sums.cu - differences, weighted sums with masks and signs, elections:
 * acc = (add ? acc : 0) + scale * sum_m weight_m * (kept ? x_m - base : low_m) / divisor, in f64.
 *
 * A thread holds a few neighbouring elements and goes through the models; sums, and what their
 * roundings lost, stay in registers. Each stack is read once.
 */
#include <math.h>

#include "backend/arithmetic.h"
#include "cuda/cuda_internal.h"

enum {
    THREADS = 256,
    WIDE = 4            /* elements a thread has at a time, where everything is aligned */
};

/* Neighbouring values that one access moves. */
template <typename T, int width> struct alignas(sizeof(T) * width) pack {
    T at[width];
};

/* width values from an address aligned to 16 bytes or to all of them, whichever is less; zeros
 * where there is no array. */
template <typename T, int width> static __device__ void read(T *to, const T *from, int64_t at)
{
    constexpr int part = sizeof(T) * width > 16 ? 16 / (int)sizeof(T) : width;
    for (int i = 0; i < width; i += part) {
        pack<T, part> values = {};
        if (from) {
            values = *reinterpret_cast<const pack<T, part> *>(from + at + i);
        }
        for (int j = 0; j < part; j++) {
            to[i + j] = values.at[j];
        }
    }
}

template <typename T, int width> static __device__ void write(T *to, int64_t at, const T *from)
{
    constexpr int part = sizeof(T) * width > 16 ? 16 / (int)sizeof(T) : width;
    for (int i = 0; i < width; i += part) {
        pack<T, part> values;
        for (int j = 0; j < part; j++) {
            values.at[j] = from[i + j];
        }
        *reinterpret_cast<pack<T, part> *>(to + at + i) = values;
    }
}

/* May a thread read WIDE elements at once? Absent arrays may. */
static bool is_wide(const void *array, size_t element_bytes)
{
    size_t n_bytes = element_bytes * WIDE < 16 ? element_bytes * WIDE : 16;
    return reinterpret_cast<uintptr_t>(array) % n_bytes == 0;
}

/* at<width>(i) for all i of a thread that are multiples of `width`, at<1>(i) for what is left. */
template <int width, typename F> static __device__ void each(int64_t n, const F &at)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t step = (int64_t)gridDim.x * blockDim.x, n_wide = n / width * width;
    for (int64_t i = thread * width; i < n_wide; i += step * width) {
        at.template operator()<width>(i);
    }
    for (int64_t i = n_wide + thread; i < n; i += step) {
        at.template operator()<1>(i);
    }
}

/* --- Differences ------------------------------------------------------------------------------ */

typedef struct subtract_args {
    float *out;
    const float *a, *b;
    int64_t stride, stride_b, n;
    int32_t n_slices;
} subtract_args;

template <int width>
static __device__ void subtract_at(const subtract_args &args, int32_t slice, int64_t i)
{
    float a[width], b[width];
    read<float, width>(a, args.a + slice * args.stride, i);
    read<float, width>(b, args.b + slice * args.stride_b, i);
    for (int j = 0; j < width; j++) {
        a[j] -= b[j];
    }
    write<float, width>(args.out + slice * args.stride, i, a);
}

/* blockIdx.y: slices. */
template <int width> static __global__ void subtract_kernel(subtract_args args)
{
    for (int32_t slice = (int32_t)blockIdx.y; slice < args.n_slices; slice += (int32_t)gridDim.y) {
        each<width>(args.n, [&]<int w>(int64_t i) { subtract_at<w>(args, slice, i); });
    }
}

lors_status lors_cuda_subtract(lors_queue *queue, lors_view out, lors_view a, int64_t stride,
                               lors_view b, int64_t stride_b, int32_t n_slices, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0 || n_slices == 0) {
        return LORS_OK;
    }
    subtract_args args = {lors_cuda_at<float>(out),
                          lors_cuda_at<const float>(a),
                          lors_cuda_at<const float>(b),
                          stride,
                          stride_b,
                          n,
                          n_slices};
    bool aligned = is_wide(args.out, 4) && is_wide(args.a, 4) && is_wide(args.b, 4);
    if (aligned && (n_slices == 1 || (stride % WIDE == 0 && stride_b % WIDE == 0))) {
        LORS_LAUNCH((subtract_kernel<WIDE>), lors_grid(n, THREADS * WIDE, n_slices), THREADS,
                    queue->stream, args);
    } else {
        LORS_LAUNCH((subtract_kernel<1>), lors_grid(n, THREADS, n_slices), THREADS, queue->stream,
                    args);
    }
    return lors_cuda_launched("subtract");
}

/* Bits, not values: -0 differs from 0, a NaN does not differ from itself. */
template <int width> static __device__ bool differ_at(const float *a, const float *b, int64_t i)
{
    float x[width], y[width];
    read<float, width>(x, a, i);
    read<float, width>(y, b, i);
    uint32_t differing = 0;
    for (int j = 0; j < width; j++) {
        differing |= lors_bits_of(x[j]) ^ lors_bits_of(y[j]);
    }
    return differing != 0;
}

/* A thread reads no further than its first difference. */
template <int width>
static __global__ void compare_kernel(uint32_t *differs, const float *a, const float *b, int64_t n)
{
    bool differ = false;
    each<width>(n, [&]<int w>(int64_t i) { differ = differ || differ_at<w>(a, b, i); });
    if (__syncthreads_or(differ) && threadIdx.x == 0) {
        atomicOr(differs, 1u);
    }
}

lors_status lors_cuda_compare(lors_queue *queue, lors_view differs, lors_view a, lors_view b,
                              int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    uint32_t *flag = lors_cuda_at<uint32_t>(differs);
    const float *x = lors_cuda_at<const float>(a), *y = lors_cuda_at<const float>(b);
    if (is_wide(x, 4) && is_wide(y, 4)) {
        LORS_LAUNCH((compare_kernel<WIDE>), lors_grid(n, THREADS * WIDE, 1), THREADS, queue->stream,
                    flag, x, y, n);
    } else {
        LORS_LAUNCH((compare_kernel<1>), lors_grid(n, THREADS, 1), THREADS, queue->stream, flag, x,
                    y, n);
    }
    return lors_cuda_launched("compare");
}

/* --- Choices ---------------------------------------------------------------------------------- */

static __global__ void choose_kernel(float *out, const float *a, const float *b,
                                     const uint8_t *mask, int64_t n)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        out[i] = mask[i] ? a[i] : b[i];
    }
}

lors_status lors_cuda_choose(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                             lors_view mask, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((choose_kernel), lors_grid(n, THREADS, 1), THREADS, queue->stream,
                lors_cuda_at<float>(out), lors_cuda_at<const float>(a),
                lors_cuda_at<const float>(b), lors_cuda_at<const uint8_t>(mask), n);
    return lors_cuda_launched("choose");
}

/* --- Weighted sums ---------------------------------------------------------------------------- */

/* A lors_sum as plain arrays, passed by value: the host's weights are taken over by the launch. */
typedef struct sum_args {
    const float *stack, *base, *low; /* base, low, masks, signs: NULL where absent */
    const uint8_t *masks;
    const int8_t *signs;
    int64_t stride, n;
    double scale, divisor_value;
    double least_divisor; /* sums of weights up to this cancel: the rest is rounding */
    lors_divisor divisor;
    bool add;
    int32_t n_models;
    int32_t slice[LORS_MAX_MODELS]; /* of the stack */
    double weight[LORS_MAX_MODELS], share[LORS_MAX_MODELS];
} sum_args;

/* What a thread has of the m-th model, read one model ahead. */
template <int width> struct model_part {
    float x[width], low[width];
    uint8_t mask[width];
};

template <int width, bool masked>
static __device__ void fetch(model_part<width> *part, const sum_args &s, int32_t m, int64_t i)
{
    if (m < s.n_models) {
        int64_t at = s.slice[m] * s.stride + i;
        read<float, width>(part->x, s.stack, at);
        if (masked) {
            read<uint8_t, width>(part->mask, s.masks, at);
            read<float, width>(part->low, s.low, at);
        }
    }
}

/* term[j] = weight * (kept[j] ? x - base : low); `part` goes on to the next model. */
template <int width, bool masked>
static __device__ void terms_of(double *term, bool *kept, model_part<width> *part,
                                const sum_args &s, int32_t m, const double *base, int64_t i)
{
    model_part<width> now = *part;
    fetch<width, masked>(part, s, m + 1, i);
    for (int j = 0; j < width; j++) {
        double difference = (double)now.x[j] - base[j];
        kept[j] = !masked || now.mask[j] != 0;
        term[j] = s.weight[m] * (kept[j] ? difference : (double)now.low[j]);
    }
}

template <int width> static __device__ void base_of(double *base, const sum_args &s, int64_t i)
{
    float values[width];
    read<float, width>(values, s.base, i);
    for (int j = 0; j < width; j++) {
        base[j] = values[j];
    }
}

/* Terms against the elected sign become 0; counted[j] tells which stayed. Without an election every
 * kept term is counted. */
template <int width>
static __device__ void elect_terms(double *term, bool *counted, const int8_t *sign)
{
    for (int j = 0; j < width; j++) {
        counted[j] = term[j] * (double)sign[j] > 0;
        term[j] = counted[j] ? term[j] : 0;
    }
}

/* How the terms of an element come together. */
enum way {
    EXACTLY,  /* two-sum */
    COUNTING, /* two-sum, also of the weights of the terms that count in an election or divisor */
    IN_ORDER  /* each added to acc by itself */
};

/* acc from the sum of the terms and that of the counted weights. */
template <int width>
static __device__ void finish(double *acc, const sum_args &s, int64_t i, double *sum,
                              const double *weights)
{
    double before[width] = {};
    if (s.add) {
        read<double, width>(before, acc, i);
    }
    for (int j = 0; j < width; j++) {
        sum[j] *= s.scale;
        if (s.divisor == LORS_DIVIDE_CONSTANT) {
            sum[j] /= s.divisor_value;
        } else if (s.divisor == LORS_DIVIDE_KEPT) {
            sum[j] /= fabs(weights[j]) <= s.least_divisor ? 1 : weights[j];
        }
        sum[j] = s.add ? before[j] + sum[j] : sum[j];
    }
    write<double, width>(acc, i, sum);
}

/* Sums start from -0, to which every term is added without a trace: not even a -0 becomes 0. Where
 * there are no terms at all the sum is 0. */
template <int width, bool masked, way how>
static __device__ void accumulate_at(double *acc, const sum_args &s, int64_t i)
{
    double base[width], sum[width], lost[width] = {}, weights[width] = {}, missed[width] = {};
    int8_t sign[width];
    model_part<width> part = {};
    fetch<width, masked>(&part, s, 0, i);
    base_of<width>(base, s, i);
    read<int8_t, width>(sign, how == COUNTING ? s.signs : nullptr, i);
    for (int j = 0; j < width; j++) {
        sum[j] = s.n_models > 0 ? -0.0 : 0.0;
    }
    if (how == IN_ORDER && s.add) {
        read<double, width>(sum, acc, i);
    }
    for (int32_t m = 0; m < s.n_models; m++) {
        double term[width];
        bool counted[width];
        terms_of<width, masked>(term, counted, &part, s, m, base, i);
        if (how == COUNTING && s.signs) {
            elect_terms<width>(term, counted, sign);
        }
        for (int j = 0; j < width; j++) {
            if (how == IN_ORDER) {
                sum[j] += term[j] * s.scale;
            } else {
                lors_add_exactly(&sum[j], &lost[j], term[j]);
            }
            if (how == COUNTING) {
                lors_add_exactly(&weights[j], &missed[j], counted[j] ? s.share[m] : 0);
            }
        }
    }
    if constexpr (how == IN_ORDER) {
        write<double, width>(acc, i, sum);
    } else {
        for (int j = 0; j < width; j++) {
            sum[j] = lors_with_lost(sum[j], lost[j]);
            weights[j] = lors_with_lost(weights[j], missed[j]);
        }
        finish<width>(acc, s, i, sum, weights);
    }
}

template <int width, bool masked, way how>
static __global__ void accumulate_kernel(double *acc, sum_args s)
{
    each<width>(s.n, [&]<int w>(int64_t i) { accumulate_at<w, masked, how>(acc, s, i); });
}

template <int width, bool masked>
static __device__ void elect_at(int8_t *signs, const sum_args &s, int64_t i)
{
    double base[width], total[width] = {}, magnitude[width] = {};
    int8_t sign[width];
    model_part<width> part = {};
    fetch<width, masked>(&part, s, 0, i);
    base_of<width>(base, s, i);
    for (int32_t m = 0; m < s.n_models; m++) {
        double term[width];
        bool kept[width];
        terms_of<width, masked>(term, kept, &part, s, m, base, i);
        for (int j = 0; j < width; j++) {
            total[j] += term[j];
            magnitude[j] += fabs(term[j]);
        }
    }
    for (int j = 0; j < width; j++) {
        bool tied = total[j] >= -LORS_TIED * magnitude[j] && magnitude[j] < INFINITY;
        sign[j] = tied || total[j] >= 0 ? 1 : -1;
    }
    write<int8_t, width>(signs, i, sign);
}

template <int width, bool masked> static __global__ void elect_kernel(int8_t *signs, sum_args s)
{
    each<width>(s.n, [&]<int w>(int64_t i) { elect_at<w, masked>(signs, s, i); });
}

/* How many models from `first` on leave a trace: have a weight that is not 0. */
static int32_t count_models(const lors_sum *sum, int32_t first)
{
    int32_t n = 0;
    for (int32_t m = first; m < sum->n_models; m++) {
        n += sum->weights[m] != 0;
    }
    return n;
}

/* Fill in those from `first` on, or also the others, as many as there is room for; returns the
 * next one. */
static int32_t take_models(sum_args *s, const lors_sum *sum, int32_t first, bool with_zeros)
{
    int32_t m = first;
    s->n_models = 0;
    for (; m < sum->n_models && s->n_models < LORS_MAX_MODELS; m++) {
        if (with_zeros || sum->weights[m] != 0) {
            s->slice[s->n_models] = m;
            s->share[s->n_models] = sum->shares ? sum->shares[m] : sum->weights[m];
            s->weight[s->n_models++] = sum->weights[m];
        }
    }
    return m;
}

static double least_divisor(const lors_sum *sum)
{
    double magnitudes = 0;
    for (int32_t m = 0; m < sum->n_models; m++) {
        magnitudes += fabs(sum->shares ? sum->shares[m] : sum->weights[m]);
    }
    return LORS_CANCELLED * magnitudes;
}

static void describe_sum(sum_args *s, const lors_sum *sum, int64_t n)
{
    s->stack = lors_cuda_at<const float>(sum->stack);
    s->base = lors_cuda_at<const float>(sum->base);
    s->masks = lors_cuda_at<const uint8_t>(sum->masks);
    s->low = lors_cuda_at<const float>(sum->low);
    s->signs = lors_cuda_at<const int8_t>(sum->signs);
    s->stride = sum->stride;
    s->n = n;
    s->scale = sum->scale;
    s->divisor = sum->divisor;
    s->divisor_value = sum->divisor_value;
    s->least_divisor = least_divisor(sum);
    s->add = sum->add;
}

static bool sum_is_wide(const sum_args *s, int32_t n_models)
{
    bool slices = n_models <= 1 || s->stride % WIDE == 0;
    return slices && is_wide(s->stack, 4) && is_wide(s->base, 4) && is_wide(s->low, 4) &&
           is_wide(s->masks, 1) && is_wide(s->signs, 1);
}

static lors_status too_many_models(int32_t n)
{
    return lors_cuda_fail(LORS_ERR_LIMIT,
                          "%d models of a weight other than 0 are more than the %d that the cuda "
                          "device adds up at once: merge them with --device cpu",
                          n, (int)LORS_MAX_MODELS);
}

template <way how>
static lors_status launch_sum(lors_queue *queue, double *acc, const sum_args &s, bool wide)
{
    constexpr int width = how == COUNTING ? WIDE / 2 : WIDE; /* the registers it takes */
    dim3 grid = lors_grid(s.n, wide ? THREADS * width : THREADS, 1);
    if (wide && s.masks) {
        LORS_LAUNCH((accumulate_kernel<width, true, how>), grid, THREADS, queue->stream, acc, s);
    } else if (wide) {
        LORS_LAUNCH((accumulate_kernel<width, false, how>), grid, THREADS, queue->stream, acc, s);
    } else if (s.masks) {
        LORS_LAUNCH((accumulate_kernel<1, true, how>), grid, THREADS, queue->stream, acc, s);
    } else {
        LORS_LAUNCH((accumulate_kernel<1, false, how>), grid, THREADS, queue->stream, acc, s);
    }
    return lors_cuda_launched("accumulate");
}

/* Any number of models: launch after launch goes on where the last one ended. */
static lors_status add_in_order(lors_queue *queue, double *acc, sum_args *s, const lors_sum *sum,
                                bool wide)
{
    int32_t next = 0;
    do {
        next = take_models(s, sum, next, false);
        LORS_TRY(launch_sum<IN_ORDER>(queue, acc, *s, wide));
        s->add = true;
    } while (count_models(sum, next) > 0);
    return LORS_OK;
}

lors_status lors_cuda_accumulate(lors_queue *queue, lors_view acc, const lors_sum *sum, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    sum_args s = {};
    describe_sum(&s, sum, n);
    double *to = lors_cuda_at<double>(acc);
    bool wide = sum_is_wide(&s, sum->n_models) && is_wide(to, 8);
    if (sum->in_order) {
        return add_in_order(queue, to, &s, sum, wide);
    }
    int32_t n_models = count_models(sum, 0);
    if (n_models > LORS_MAX_MODELS) {
        return too_many_models(n_models);
    }
    take_models(&s, sum, 0, false);
    bool counting = s.signs || s.divisor == LORS_DIVIDE_KEPT;
    return counting ? launch_sum<COUNTING>(queue, to, s, wide)
                    : launch_sum<EXACTLY>(queue, to, s, wide);
}

static lors_status launch_elect(lors_queue *queue, int8_t *signs, const sum_args &s, bool wide)
{
    dim3 grid = lors_grid(s.n, wide ? THREADS * WIDE : THREADS, 1);
    if (wide && s.masks) {
        LORS_LAUNCH((elect_kernel<WIDE, true>), grid, THREADS, queue->stream, signs, s);
    } else if (wide) {
        LORS_LAUNCH((elect_kernel<WIDE, false>), grid, THREADS, queue->stream, signs, s);
    } else if (s.masks) {
        LORS_LAUNCH((elect_kernel<1, true>), grid, THREADS, queue->stream, signs, s);
    } else {
        LORS_LAUNCH((elect_kernel<1, false>), grid, THREADS, queue->stream, signs, s);
    }
    return lors_cuda_launched("elect_sign");
}

/* Models of weight 0 vote 0, as on the CPU: they matter only where they are not finite. */
lors_status lors_cuda_elect_sign(lors_queue *queue, lors_view signs, const lors_sum *sum, int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    if (sum->n_models > LORS_MAX_MODELS) {
        return too_many_models(sum->n_models);
    }
    sum_args s = {};
    describe_sum(&s, sum, n);
    s.signs = nullptr;
    take_models(&s, sum, 0, true);
    int8_t *to = lors_cuda_at<int8_t>(signs);
    return launch_elect(queue, to, s, sum_is_wide(&s, sum->n_models) && is_wide(to, 1));
}

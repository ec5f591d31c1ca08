/* contest.cu - `score`, `balance`: models that compete for each element, by the formulas of
 * backend/contest.h; a thread an element. */
#include <math.h>

#include "backend/contest.h"
#include "cuda/cuda_internal.h"

enum { THREADS = 256 };

/* lors_contest as plain arrays, without its models of weight 0 in `at`; passed by value. */
typedef struct contest_args {
    const float *stack, *base, *bounds, *levels, *scores; /* NULL where absent */
    int64_t stride, n;
    double scale;
    int32_t n_models, n_counted;
    int32_t at[LORS_MAX_MODELS];
    double weights[LORS_MAX_MODELS]; /* of model at[j] */
} contest_args;

static __device__ lors_contender contender(const contest_args &c, int32_t k)
{
    lors_contender of = {c.bounds[k], c.bounds[c.n_models + k], c.levels ? c.levels[k] : 0,
                         c.levels ? c.levels[c.n_models + k] : 0};
    return of;
}

static __device__ double change(const contest_args &c, int32_t k, int64_t i)
{
    return (double)c.stack[k * c.stride + i] - (c.base ? (double)c.base[i] : 0);
}

/* How many models compete. */
static __device__ double count_competing(const contest_args &c)
{
    double n = 0;
    for (int32_t j = 0; j < c.n_counted; j++) {
        n += c.bounds[c.n_models + c.at[j]] > 0;
    }
    return n;
}

/* The sum of all changes of an element. */
static __device__ double total_of(const contest_args &c, int64_t i)
{
    double sum = 0, lost = 0;
    for (int32_t j = 0; j < c.n_counted; j++) {
        lors_add_exactly(&sum, &lost, change(c, c.at[j], i));
    }
    return lors_with_lost(sum, lost);
}

/* Scores of models of weight 0, and of those that do not compete, are 0. */
static __global__ void score_kernel(float *out, contest_args c)
{
    double n_competing = count_competing(c);
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < c.n; i += step) {
        double total = total_of(c, i);
        for (int32_t k = 0, j = 0; k < c.n_models; k++) {
            bool counts = j < c.n_counted && c.at[j] == k;
            lors_contender of = contender(c, k);
            j += counts;
            out[k * c.stride + i] =
                counts && of.high > 0
                    ? lors_contest_score(change(c, k, i), total, of, n_competing)
                    : 0;
        }
    }
}

static __global__ void balance_kernel(double *acc, contest_args c)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < c.n; i += step) {
        double total = total_of(c, i);
        double sum = 0, sum_lost = 0, shares = 0, shares_lost = 0;
        for (int32_t j = 0; j < c.n_counted; j++) {
            lors_contender of = contender(c, c.at[j]);
            if (!(of.high > 0)) {
                continue;
            }
            double d = change(c, c.at[j], i);
            double share = lors_contest_share(c.scores[c.at[j] * c.stride + i], of);
            lors_add_exactly(&sum, &sum_lost, lors_contest_term(d, of, c.weights[j], share));
            lors_add_exactly(&shares, &shares_lost, share);
        }
        acc[i] = lors_contest_result(lors_with_lost(sum, sum_lost),
                                     lors_with_lost(shares, shares_lost), total, c.scale);
    }
}

static lors_status take_args(contest_args *args, const lors_contest *contest, int64_t n)
{
    if (contest->n_models > LORS_MAX_MODELS) {
        return lors_cuda_fail(LORS_ERR_LIMIT, "%d models are more than the %d that the cuda device "
                              "balances at once: merge them with --device cpu",
                              (int)contest->n_models, (int)LORS_MAX_MODELS);
    }
    args->stack = lors_cuda_at<const float>(contest->stack);
    args->base = lors_cuda_at<const float>(contest->base);
    args->bounds = lors_cuda_at<const float>(contest->bounds);
    args->levels = lors_cuda_at<const float>(contest->levels);
    args->scores = lors_cuda_at<const float>(contest->scores);
    args->stride = contest->stride;
    args->n = n;
    args->scale = contest->scale;
    args->n_models = contest->n_models;
    for (int32_t k = 0; k < contest->n_models; k++) {
        if (contest->weights[k] != 0) {
            args->weights[args->n_counted] = contest->weights[k];
            args->at[args->n_counted++] = k;
        }
    }
    return LORS_OK;
}

lors_status lors_cuda_score(lors_queue *queue, lors_view out, const lors_contest *contest,
                            int64_t n)
{
    contest_args args = {};
    LORS_TRY(lors_cuda_enter(queue));
    LORS_TRY(take_args(&args, contest, n));
    if (n == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((score_kernel), lors_grid(n, THREADS, 1), THREADS, queue->stream,
                lors_cuda_at<float>(out), args);
    return lors_cuda_launched("score");
}

lors_status lors_cuda_balance(lors_queue *queue, lors_view acc, const lors_contest *contest,
                              int64_t n)
{
    contest_args args = {};
    LORS_TRY(lors_cuda_enter(queue));
    LORS_TRY(take_args(&args, contest, n));
    if (n == 0) {
        return LORS_OK;
    }
    LORS_LAUNCH((balance_kernel), lors_grid(n, THREADS, 1), THREADS, queue->stream,
                lors_cuda_at<double>(acc), args);
    return lors_cuda_launched("balance");
}

/* combine.cu - what the models of one element give together: a thread an element. */
#include "backend/columns.h"
#include "cuda/cuda_internal.h"

enum { THREADS = 256 };

/* lors_columns as plain arrays, passed by value: the launch takes the host's weights over. */
typedef struct column_args {
    const float *stack, *base; /* base: NULL where absent */
    int64_t n;
    double limits[2], scale;
    int32_t n_models;
    int64_t slices[LORS_MAX_MODELS];
    double weights[LORS_MAX_MODELS];
} column_args;

template <lors_column_kind kind>
static __global__ void combine_kernel(double *out, column_args args)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < args.n; i += step) {
        lors_column c = {args.stack + i, args.slices, args.weights, args.n_models,
                         args.base ? (double)args.base[i] : 0};
        double value = lors_column_value(kind, &c, args.limits);
        if (kind == LORS_COLUMN_DEVIATION) {
            reinterpret_cast<float *>(out)[i] = (float)value;
        } else {
            out[i] = args.scale * value;
        }
    }
}

template <lors_column_kind kind>
static lors_status launch(lors_queue *queue, double *out, const column_args &args)
{
    dim3 grid = lors_grid(args.n, THREADS, 1);
    LORS_LAUNCH((combine_kernel<kind>), grid, THREADS, queue->stream, out, args);
    return lors_cuda_launched("combine");
}

static void take_models(column_args *args, const lors_columns *columns)
{
    bool all = columns->kind == LORS_COLUMN_DEVIATION;
    for (int32_t k = 0; k < columns->n_models; k++) {
        if (all || columns->weights[k] != 0) {
            args->slices[args->n_models] = k * columns->stride;
            args->weights[args->n_models++] = all ? 1 : columns->weights[k];
        }
    }
}

lors_status lors_cuda_combine(lors_queue *queue, lors_view out, const lors_columns *columns,
                              int64_t n)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n == 0) {
        return LORS_OK;
    }
    if (columns->n_models > LORS_MAX_MODELS) {
        return lors_cuda_fail(LORS_ERR_LIMIT, "%d models are more than the %d that the cuda device "
                              "combines at once: merge them with --device cpu",
                              columns->n_models, (int)LORS_MAX_MODELS);
    }
    column_args args = {};
    args.stack = lors_cuda_at<const float>(columns->stack);
    args.base = lors_cuda_at<const float>(columns->base);
    args.n = n;
    args.limits[0] = columns->limits[0];
    args.limits[1] = columns->limits[1];
    args.scale = columns->scale;
    take_models(&args, columns);
    double *to = lors_cuda_at<double>(out);
    switch (columns->kind) {
    case LORS_COLUMN_DEVIATION:
        return launch<LORS_COLUMN_DEVIATION>(queue, to, args);
    case LORS_COLUMN_CLAMP:
        return launch<LORS_COLUMN_CLAMP>(queue, to, args);
    case LORS_COLUMN_ACTIVE:
        return launch<LORS_COLUMN_ACTIVE>(queue, to, args);
    case LORS_COLUMN_SHARED:
        return launch<LORS_COLUMN_SHARED>(queue, to, args);
    case LORS_COLUMN_LARGEST:
        return launch<LORS_COLUMN_LARGEST>(queue, to, args);
    case LORS_COLUMN_CONSENSUS:
        return launch<LORS_COLUMN_CONSENSUS>(queue, to, args);
    case LORS_COLUMN_ELECTED:
        return launch<LORS_COLUMN_ELECTED>(queue, to, args);
    }
    return LORS_OK;
}

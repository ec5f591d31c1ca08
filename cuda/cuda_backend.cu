/* cuda_backend.cu - CUDA as a backend: its devices, memory and queues, the check of every call, and
 * the table: operation -> kernel.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/merge_by_parts.h"
#include "cuda/cuda_internal.h"

const lors_backend_host *lors_cuda_host;

/* --- Errors ----------------------------------------------------------------------------------- */

static const char *advice_of(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "close other programs that use the card, or use --device cpu";
    case cudaErrorInsufficientDriver: return "install a newer NVIDIA driver, or use --device cpu";
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
        return "see `lors devices` and `nvidia-smi`: the card may be hidden, gone or taken by "
               "another program";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
        return "this build has no code for this card: build it with the card's number in "
               "CMAKE_CUDA_ARCHITECTURES";
    case cudaErrorECCUncorrectable:
        return "the card's memory is faulty: look at `nvidia-smi -q -d ECC`";
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
        return "this is an error of lors, or a fault of the card: please report it if it comes "
               "again; --device cpu goes around it";
    default: return "look at `nvidia-smi` and the system's log, or use --device cpu";
    }
}

/* `call` may have its arguments behind it. */
static lors_status fail_call(const char *call, const char *name, const char *text,
                             const char *advice)
{
    return lors_cuda_fail(LORS_ERR_DEVICE, "%.*s failed: %s (%s); %s", (int)strcspn(call, "("),
                          call, name, text, advice);
}

/* The runtime remembers its last error until it is asked for: it would be taken for that of the
 * next launch. */
static void forget_error(void)
{
    (void)cudaGetLastError();
}

lors_status lors_cuda_check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) {
        return LORS_OK;
    }
    forget_error();
    return fail_call(call, cudaGetErrorName(error), cudaGetErrorString(error), advice_of(error));
}

static const char *solver_status_name(cusolverStatus_t status)
{
    switch (status) {
    case CUSOLVER_STATUS_NOT_INITIALIZED: return "CUSOLVER_STATUS_NOT_INITIALIZED";
    case CUSOLVER_STATUS_ALLOC_FAILED: return "CUSOLVER_STATUS_ALLOC_FAILED";
    case CUSOLVER_STATUS_INVALID_VALUE: return "CUSOLVER_STATUS_INVALID_VALUE";
    case CUSOLVER_STATUS_ARCH_MISMATCH: return "CUSOLVER_STATUS_ARCH_MISMATCH";
    case CUSOLVER_STATUS_EXECUTION_FAILED: return "CUSOLVER_STATUS_EXECUTION_FAILED";
    case CUSOLVER_STATUS_INTERNAL_ERROR: return "CUSOLVER_STATUS_INTERNAL_ERROR";
    case CUSOLVER_STATUS_NOT_SUPPORTED: return "CUSOLVER_STATUS_NOT_SUPPORTED";
    default: return "CUSOLVER_STATUS";
    }
}

lors_status lors_cuda_check_solver(cusolverStatus_t status, const char *call)
{
    if (status == CUSOLVER_STATUS_SUCCESS) {
        return LORS_OK;
    }
    forget_error();
    char number[32];
    snprintf(number, sizeof number, "cuSOLVER status %d", (int)status);
    cudaError_t like = status == CUSOLVER_STATUS_ALLOC_FAILED    ? cudaErrorMemoryAllocation
                       : status == CUSOLVER_STATUS_ARCH_MISMATCH ? cudaErrorNoKernelImageForDevice
                       : status == CUSOLVER_STATUS_INVALID_VALUE ? cudaErrorInvalidValue
                                                                 : cudaErrorUnknown;
    return fail_call(call, solver_status_name(status), number, advice_of(like));
}

lors_status lors_cuda_enter(const lors_queue *queue)
{
    LORS_CUDA_TRY(cudaSetDevice(queue->backend->device));
    return LORS_OK;
}

lors_status lors_cuda_launched(const char *kernel)
{
    cudaError_t error = cudaGetLastError();
    char call[64];
    snprintf(call, sizeof call, "the launch of kernel %s", kernel);
    return lors_cuda_check(error, call);
}

static lors_status fail_host_memory(uint64_t n_bytes)
{
    return lors_cuda_fail(LORS_ERR_LIMIT,
                          "out of memory: the host could not give %llu bytes (for transfers to the "
                          "device they must stay in place); close other programs, or use "
                          "--device cpu",
                          (unsigned long long)n_bytes);
}

/* --- Device and memory ------------------------------------------------------------------------ */

static lors_status cuda_open(int32_t index, lors_backend **out)
{
    int n_devices = 0;
    LORS_CUDA_TRY(cudaGetDeviceCount(&n_devices));
    if (index < 0 || index >= n_devices) {
        return lors_cuda_fail(LORS_ERR_DEVICE,
                              "there is no device cuda:%d (there are %d); see `lors devices`",
                              (int)index, n_devices);
    }
    LORS_CUDA_TRY(cudaSetDevice(index)); /* makes the context: what is wrong shows here */
    lors_backend *backend = static_cast<lors_backend *>(calloc(1, sizeof *backend));
    if (!backend) {
        return fail_host_memory(sizeof *backend);
    }
    backend->device = index;
    *out = backend;
    return LORS_OK;
}

static void cuda_close(lors_backend *backend)
{
    free(backend);
}

static lors_status cuda_memory_info(lors_backend *backend, uint64_t *n_free, uint64_t *n_total)
{
    size_t available = 0, all = 0;
    LORS_CUDA_TRY(cudaSetDevice(backend->device));
    LORS_CUDA_TRY(cudaMemGetInfo(&available, &all));
    *n_free = available;
    *n_total = all;
    return LORS_OK;
}

/* More than any machine has, and more than sums of sizes may come near to. */
static bool is_absurd(uint64_t n_bytes)
{
    return n_bytes > INT64_MAX;
}

static lors_status fail_device_memory(uint64_t n_bytes)
{
    size_t n_free = 0, n_total = 0;
    forget_error();
    if (cudaMemGetInfo(&n_free, &n_total) != cudaSuccess) {
        forget_error();
    }
    return lors_cuda_fail(LORS_ERR_DEVICE,
                          "device memory is short: %llu bytes were asked for, %llu of %llu are "
                          "free; close other programs that use the card, or use --device cpu",
                          (unsigned long long)n_bytes, (unsigned long long)n_free,
                          (unsigned long long)n_total);
}

static lors_status allocate_device(void **bytes, uint64_t n_bytes)
{
    cudaError_t error =
        is_absurd(n_bytes) ? cudaErrorMemoryAllocation : cudaMalloc(bytes, n_bytes ? n_bytes : 1);
    return error == cudaErrorMemoryAllocation ? fail_device_memory(n_bytes)
                                              : lors_cuda_check(error, "cudaMalloc");
}

/* Portable: any thread and device may copy from and to it. */
static lors_status allocate_host(void **bytes, uint64_t n_bytes)
{
    cudaError_t error = is_absurd(n_bytes)
                            ? cudaErrorMemoryAllocation
                            : cudaHostAlloc(bytes, n_bytes ? n_bytes : 1, cudaHostAllocPortable);
    if (error == cudaErrorMemoryAllocation) {
        forget_error();
        return fail_host_memory(n_bytes);
    }
    return lors_cuda_check(error, "cudaHostAlloc");
}

static lors_status cuda_allocate(lors_backend *backend, lors_memory_kind place, uint64_t n_bytes,
                                 lors_memory **out)
{
    LORS_CUDA_TRY(cudaSetDevice(backend->device));
    lors_memory *memory = static_cast<lors_memory *>(calloc(1, sizeof *memory));
    if (!memory) {
        return fail_host_memory(sizeof *memory);
    }
    void *bytes = nullptr;
    lors_status status =
        place == LORS_STAGING ? allocate_host(&bytes, n_bytes) : allocate_device(&bytes, n_bytes);
    if (status != LORS_OK) {
        free(memory);
        return status;
    }
    memory->bytes = static_cast<unsigned char *>(bytes);
    memory->n_bytes = n_bytes;
    memory->place = place;
    *out = memory;
    return LORS_OK;
}

static void forget_if(cudaError_t error)
{
    if (error != cudaSuccess) {
        forget_error();
    }
}

static void cuda_release(lors_backend *backend, lors_memory *memory)
{
    if (memory) {
        forget_if(cudaSetDevice(backend->device));
        forget_if(memory->place == LORS_STAGING ? cudaFreeHost(memory->bytes)
                                                : cudaFree(memory->bytes));
        free(memory);
    }
}

static void *cuda_host_bytes(lors_view view)
{
    bool reachable = view.memory && view.memory->place == LORS_STAGING;
    return reachable ? view.memory->bytes + view.offset : nullptr;
}

/* --- Queues ----------------------------------------------------------------------------------- */

static void cuda_close_queue(lors_queue *queue)
{
    if (!queue) {
        return;
    }
    forget_if(cudaSetDevice(queue->backend->device));
    if (queue->stream) {
        forget_if(cudaStreamSynchronize(queue->stream));
    }
    if (queue->params) {
        (void)cusolverDnDestroyParams(queue->params);
    }
    if (queue->solver) {
        (void)cusolverDnDestroy(queue->solver);
    }
    forget_if(cudaFreeHost(queue->pinned));
    if (queue->stream) {
        forget_if(cudaStreamDestroy(queue->stream));
    }
    free(queue);
}

static lors_status open_solver(lors_queue *queue)
{
    LORS_SOLVER_TRY(cusolverDnCreate(&queue->solver));
    LORS_SOLVER_TRY(cusolverDnSetStream(queue->solver, queue->stream));
    LORS_SOLVER_TRY(cusolverDnSetDeterministicMode(queue->solver, CUSOLVER_DETERMINISTIC_RESULTS));
    LORS_SOLVER_TRY(cusolverDnCreateParams(&queue->params));
    return LORS_OK;
}

static lors_status fill_queue(lors_queue *queue)
{
    void *pinned = nullptr;
    LORS_TRY(lors_cuda_enter(queue));
    LORS_CUDA_TRY(cudaStreamCreateWithFlags(&queue->stream, cudaStreamNonBlocking));
    LORS_TRY(open_solver(queue));
    LORS_TRY(allocate_host(&pinned, LORS_CUDA_PINNED));
    queue->pinned = static_cast<unsigned char *>(pinned);
    return LORS_OK;
}

static lors_status cuda_open_queue(lors_backend *backend, lors_queue **out)
{
    lors_queue *queue = static_cast<lors_queue *>(calloc(1, sizeof *queue));
    if (!queue) {
        return fail_host_memory(sizeof *queue);
    }
    queue->backend = backend;
    lors_status status = fill_queue(queue);
    if (status != LORS_OK) {
        cuda_close_queue(queue);
        return status;
    }
    *out = queue;
    return LORS_OK;
}

static lors_status copy(lors_queue *queue, lors_view to, lors_view from, uint64_t n_bytes,
                        enum cudaMemcpyKind kind)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n_bytes > 0) {
        LORS_CUDA_TRY(cudaMemcpyAsync(lors_cuda_at<void>(to), lors_cuda_at<const void>(from),
                                      n_bytes, kind, queue->stream));
    }
    return LORS_OK;
}

static lors_status cuda_upload(lors_queue *queue, lors_view to, lors_view from, uint64_t n_bytes)
{
    return copy(queue, to, from, n_bytes, cudaMemcpyHostToDevice);
}

static lors_status cuda_download(lors_queue *queue, lors_view to, lors_view from, uint64_t n_bytes)
{
    return copy(queue, to, from, n_bytes, cudaMemcpyDeviceToHost);
}

static lors_status cuda_clear(lors_queue *queue, lors_view view, uint64_t n_bytes)
{
    LORS_TRY(lors_cuda_enter(queue));
    if (n_bytes > 0) {
        LORS_CUDA_TRY(cudaMemsetAsync(lors_cuda_at<void>(view), 0, n_bytes, queue->stream));
    }
    return LORS_OK;
}

static lors_status cuda_wait(lors_queue *queue)
{
    LORS_TRY(lors_cuda_enter(queue));
    LORS_CUDA_TRY(cudaStreamSynchronize(queue->stream));
    return LORS_OK;
}

static lors_status cuda_merge(lors_queue *queue, lors_view out, const lors_merge *m, int64_t n);

static const lors_backend_ops cuda_ops = {
    .abi = LORS_BACKEND_ABI,
    .name = "cuda",
    .tile_elements = 0,
    .batch = LORS_MAX_BATCH,
    .unified = false,
    .open = cuda_open,
    .close = cuda_close,
    .memory_info = cuda_memory_info,
    .allocate = cuda_allocate,
    .release = cuda_release,
    .host_bytes = cuda_host_bytes,
    .open_queue = cuda_open_queue,
    .close_queue = cuda_close_queue,
    .upload = cuda_upload,
    .download = cuda_download,
    .clear = cuda_clear,
    .wait = cuda_wait,
    .load = lors_cuda_load,
    .subtract = lors_cuda_subtract,
    .choose = lors_cuda_choose,
    .compare = lors_cuda_compare,
    .accumulate = lors_cuda_accumulate,
    .elect_sign = lors_cuda_elect_sign,
    .store = lors_cuda_store,
    .merge = cuda_merge,
    .gram = lors_cuda_gram,
    .gram_columns = lors_cuda_gram_columns,
    .accumulate_columns = lors_cuda_accumulate_columns,
    .measure = lors_cuda_measure,
    .combine = lors_cuda_combine,
    .count_active = lors_cuda_count_active,
    .select_bytes = lors_cuda_select_bytes,
    .select_begin = lors_cuda_select_begin,
    .select_count = lors_cuda_select_count,
    .select_settle = lors_cuda_select_settle,
    .keep_top = lors_cuda_keep_top,
    .drop_top = lors_cuda_drop_top,
    .select_kept = lors_cuda_select_kept,
    .select_value = lors_cuda_select_value,
    .keep_from = lors_cuda_keep_from,
    .diverge = lors_cuda_diverge,
    .weigh_rows = lors_cuda_weigh_rows,
    .score = lors_cuda_score,
    .balance = lors_cuda_balance,
    .keep_random = lors_cuda_keep_random,
    .rank_bytes = lors_cuda_rank_bytes,
    .keep_ranked = lors_cuda_keep_ranked,
    .truncate_bytes = lors_cuda_truncate_bytes,
    .truncate_rank = lors_cuda_truncate_rank,
    .multiply_bytes = lors_cuda_multiply_bytes,
    .multiply = lors_cuda_multiply,
    .scale_rows = lors_cuda_scale_rows,
    .eigen_bytes = lors_cuda_eigen_bytes,
    .eigen = lors_cuda_eigen,
    .solve_bytes = lors_cuda_solve_bytes,
    .solve = lors_cuda_solve,
    .dot_rows_bytes = lors_cuda_dot_rows_bytes,
    .dot_rows = lors_cuda_dot_rows,
};

static lors_status cuda_merge(lors_queue *queue, lors_view out, const lors_merge *m, int64_t n)
{
    return lors_merge_by_parts(&cuda_ops, queue, out, m, 0, n);
}

/* --- The library ------------------------------------------------------------------------------ */

enum { MAX_DEVICES = 64 };

static lors_backend_device devices[MAX_DEVICES];
static char reason[256];
static lors_backend_library library = {LORS_BACKEND_ABI, &cuda_ops, 0, devices, reason};

/* Variables that make cuBLAS answer with fewer digits. What cuSOLVER asks of it here is in f64,
 * which they do not touch; but a reader of the report should know. */
static void add_environment(char *detail, size_t n_bytes)
{
    static const char *const names[] = {"NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION",
                                        "CUBLAS_EMULATION_STRATEGY"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t length = strlen(detail);
        if (getenv(names[i])) {
            snprintf(detail + length, n_bytes - length, ", %s is set", names[i]);
        }
    }
}

static cudaError_t describe_device(int index, lors_backend_device *device)
{
    struct cudaDeviceProp card;
    int driver = 0, runtime = 0;
    cudaError_t error = cudaGetDeviceProperties(&card, index);
    if (error == cudaSuccess) {
        error = cudaDriverGetVersion(&driver);
    }
    if (error == cudaSuccess) {
        error = cudaRuntimeGetVersion(&runtime);
    }
    if (error != cudaSuccess) {
        return error;
    }
    snprintf(device->name, sizeof device->name, "cuda:%d", index);
    snprintf(device->detail, sizeof device->detail, "%.64s, sm_%d%d, driver %d.%d, runtime %d.%d",
             card.name, card.major, card.minor, driver / 1000, driver % 1000 / 10, runtime / 1000,
             runtime % 1000 / 10);
    add_environment(device->detail, sizeof device->detail);
    device->memory_bytes = card.totalGlobalMem;
    return cudaSuccess;
}

static void explain(cudaError_t error)
{
    if (error == cudaErrorInsufficientDriver) {
        snprintf(reason, sizeof reason,
                 "the NVIDIA driver is missing or older than this build's CUDA runtime (%d.%d)",
                 CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    } else if (error == cudaErrorNoDevice) {
        snprintf(reason, sizeof reason, "no NVIDIA GPU was found");
    } else {
        snprintf(reason, sizeof reason, "%s: %s", cudaGetErrorName(error),
                 cudaGetErrorString(error));
    }
}

/* Devices up to the first that cannot be asked; why there are none. Makes no context. */
static void find_devices(void)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    error = error == cudaSuccess && n == 0 ? cudaErrorNoDevice : error;
    library.n_devices = 0;
    reason[0] = '\0';
    while (error == cudaSuccess && library.n_devices < n && library.n_devices < MAX_DEVICES) {
        error = describe_device(library.n_devices, &devices[library.n_devices]);
        library.n_devices += error == cudaSuccess;
    }
    if (error != cudaSuccess) {
        forget_error();
    }
    if (library.n_devices == 0) {
        explain(error);
    }
}

/* Called once, by one thread, before anything else. A program of another contract gets the number
 * of this one and no devices. */
extern "C" LORS_API const lors_backend_library *lors_backend_library_get(
    const lors_backend_host *host);

extern "C" LORS_API const lors_backend_library *lors_backend_library_get(
    const lors_backend_host *host)
{
    lors_cuda_host = host;
    if (host->abi != LORS_BACKEND_ABI) {
        library.n_devices = 0;
        snprintf(reason, sizeof reason,
                 "the CUDA backend has version %d of the contract, the program %u: install both "
                 "from one build",
                 (int)LORS_BACKEND_ABI, (unsigned)host->abi);
        return &library;
    }
    find_devices();
    return &library;
}

/* blas.cpp - cuBLAS over the host's BLAS: operations of a stream. */
#include "operand.h"
#include "stream.h"

#include <cblas.h>
#include <cublas_v2.h>

#include <algorithm>

using namespace standin;

extern "C" void openblas_set_num_threads(int count);

struct cublasContext {
    int device = 0;
    cudaStream_t stream = nullptr;
    void *workspace = nullptr;
    size_t workspace_size = 0;
    cublasMath_t mode = CUBLAS_DEFAULT_MATH;
};

namespace
{

constexpr size_t spoiled_bytes = 4096; /* of a workspace, which may be large */

std::set<cublasHandle_t> &handles()
{
    static auto *const all = new std::set<cublasHandle_t>;
    return *all;
}

cublasStatus_t status_of(cudaError_t error)
{
    return error == cudaSuccess                 ? CUBLAS_STATUS_SUCCESS
           : error == cudaErrorMemoryAllocation ? CUBLAS_STATUS_ALLOC_FAILED
           : error == cudaErrorInvalidValue     ? CUBLAS_STATUS_INVALID_VALUE
                                                : CUBLAS_STATUS_EXECUTION_FAILED;
}

/* A call with a handle: locked, counted, and the stream it works on. */
class blas_call
{
  public:
    explicit blas_call(cublasHandle_t handle, call_kind kind = call_kind::plain)
        : call_(kind), handle_(handle)
    {
        if (!handles().count(handle)) {
            complain("cuBLAS handle %p does not exist", static_cast<void *>(handle));
            status_ = CUBLAS_STATUS_NOT_INITIALIZED;
        } else if (handle->device != current_device()) {
            complain("cuBLAS handle of device %d used with device %d", handle->device,
                     current_device());
            status_ = CUBLAS_STATUS_NOT_INITIALIZED;
        } else if (call_.refused()) {
            status_ = CUBLAS_STATUS_EXECUTION_FAILED;
        }
    }

    cublasStatus_t status() const
    {
        return status_;
    }

    CUstream_st *stream()
    {
        return find_stream(handle_->stream);
    }

    /* Enqueues `run` unless the call is refused or the arguments are wrong. */
    cublasStatus_t enqueue_if(bool valid, const char *name, std::function<cudaError_t()> run)
    {
        if (status_ != CUBLAS_STATUS_SUCCESS || !valid) {
            return status_ != CUBLAS_STATUS_SUCCESS ? status_ : CUBLAS_STATUS_INVALID_VALUE;
        }
        CUstream_st *found = stream();
        if (!found || found->device != handle_->device) {
            return CUBLAS_STATUS_EXECUTION_FAILED;
        }
        void *workspace = handle_->workspace;
        size_t size = std::min(handle_->workspace_size, spoiled_bytes);
        int device = handle_->device;
        enqueue(*found, name, [=] {
            cudaError_t error =
                size ? check_device_range(workspace, size, device, "workspace") : cudaSuccess;
            if (error == cudaSuccess) {
                spoil_workspace(workspace, size);
                error = run();
            }
            return error;
        });
        return CUBLAS_STATUS_SUCCESS;
    }

    /* Waits for what was enqueued, as calls with results on the host do. */
    cublasStatus_t wait()
    {
        run_until_empty(*stream());
        return call_.lost() ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
    }

  private:
    api_call call_;
    cublasHandle_t handle_;
    cublasStatus_t status_ = CUBLAS_STATUS_SUCCESS;
};

CBLAS_TRANSPOSE transpose(cublasOperation_t op)
{
    return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}

CBLAS_UPLO triangle(cublasFillMode_t uplo)
{
    return uplo == CUBLAS_FILL_MODE_UPPER ? CblasUpper : CblasLower;
}

bool fits(int64_t size)
{
    return size >= 0 && size <= INT32_MAX;
}

bool leads(int64_t leading, int64_t rows)
{
    return fits(leading) && leading >= std::max<int64_t>(rows, 1);
}

/* The host's functions, by type. */
#define STANDIN_HOST_BLAS(L, T) \
    void host_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, T alpha, \
                   const T *a, int lda, const T *b, int ldb, T beta, T *c, int ldc) \
    { \
        cblas_##L##gemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc); \
    } \
    void host_syrk(CBLAS_UPLO uplo, CBLAS_TRANSPOSE trans, int n, int k, T alpha, const T *a, \
                   int lda, T beta, T *c, int ldc) \
    { \
        cblas_##L##syrk(CblasColMajor, uplo, trans, n, k, alpha, a, lda, beta, c, ldc); \
    } \
    void host_trsm(CBLAS_SIDE side, CBLAS_UPLO uplo, CBLAS_TRANSPOSE trans, CBLAS_DIAG diag, \
                   int m, int n, T alpha, const T *a, int lda, T *b, int ldb) \
    { \
        cblas_##L##trsm(CblasColMajor, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb); \
    } \
    T host_nrm2(int n, const T *x, int incx) \
    { \
        return cblas_##L##nrm2(n, x, incx); \
    } \
    T host_dot(int n, const T *x, int incx, const T *y, int incy) \
    { \
        return cblas_##L##dot(n, x, incx, y, incy); \
    }

STANDIN_HOST_BLAS(s, float)
STANDIN_HOST_BLAS(d, double)

template <class T> struct gemm_arguments {
    cublasOperation_t ta, tb;
    int64_t m, n, k;
    T alpha, beta;
    const T *a, *b;
    T *c;
    int64_t lda, ldb, ldc, stride_a, stride_b, stride_c, count;

    bool valid() const
    {
        return fits(m) && fits(n) && fits(k) && count >= 0 &&
               leads(lda, ta == CUBLAS_OP_N ? m : k) && leads(ldb, tb == CUBLAS_OP_N ? k : n) &&
               leads(ldc, m);
    }

    /* A matrix times 0 is not read. */
    cudaError_t run(int device) const
    {
        bool plain_a = ta == CUBLAS_OP_N, plain_b = tb == CUBLAS_OP_N;
        int64_t used = alpha != T{0} ? count : 0;
        cudaError_t error = use_operands(
            {{a, sizeof(T), plain_a ? m : k, plain_a ? k : m, lda, used, stride_a, false},
             {b, sizeof(T), plain_b ? k : n, plain_b ? n : k, ldb, used, stride_b, false},
             {c, sizeof(T), m, n, ldc, count, stride_c, true}},
            device, "gemm");
        for (int64_t i = 0; error == cudaSuccess && m && n && i < count; i++) {
            host_gemm(transpose(ta), transpose(tb), static_cast<int>(m), static_cast<int>(n),
                      static_cast<int>(k), alpha, a + i * stride_a, static_cast<int>(lda),
                      b + i * stride_b, static_cast<int>(ldb), beta, c + i * stride_c,
                      static_cast<int>(ldc));
        }
        return error;
    }
};

template <class T>
cublasStatus_t gemm(cublasHandle_t handle, gemm_arguments<T> what, const T *alpha, const T *beta)
{
    blas_call call(handle);
    bool valid = alpha && beta && what.valid();
    what.alpha = valid ? *alpha : T{0};
    what.beta = valid ? *beta : T{0};
    int device = current_device();
    return call.enqueue_if(valid, "gemm", [=] { return what.run(device); });
}

template <class T>
cublasStatus_t syrk(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans,
                    int64_t n, int64_t k, const T *alpha, const T *a, int64_t lda, const T *beta,
                    T *c, int64_t ldc)
{
    blas_call call(handle);
    bool plain = trans == CUBLAS_OP_N;
    bool valid = alpha && beta && fits(n) && fits(k) && leads(lda, plain ? n : k) && leads(ldc, n);
    T factor = valid ? *alpha : T{0}, kept = valid ? *beta : T{0};
    int device = current_device();
    return call.enqueue_if(valid, "syrk", [=] {
        cudaError_t error = use_operands({{a, sizeof(T), plain ? n : k, plain ? k : n, lda},
                                          {c, sizeof(T), n, n, ldc, 1, 0, true}},
                                         device, "syrk");
        if (error == cudaSuccess && n > 0) {
            host_syrk(triangle(uplo), transpose(trans), static_cast<int>(n), static_cast<int>(k),
                      factor, a, static_cast<int>(lda), kept, c, static_cast<int>(ldc));
        }
        return error;
    });
}

template <class T>
cublasStatus_t trsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,
                    cublasOperation_t trans, cublasDiagType_t diag, int64_t m, int64_t n,
                    const T *alpha, const T *a, int64_t lda, T *b, int64_t ldb)
{
    blas_call call(handle);
    bool left = side == CUBLAS_SIDE_LEFT;
    int64_t order = left ? m : n;
    bool valid = alpha && fits(m) && fits(n) && leads(lda, order) && leads(ldb, m);
    T factor = valid ? *alpha : T{0};
    int device = current_device();
    return call.enqueue_if(valid, "trsm", [=] {
        cudaError_t error =
            use_operands({{a, sizeof(T), order, order, lda}, {b, sizeof(T), m, n, ldb, 1, 0, true}},
                         device, "trsm");
        if (error == cudaSuccess && m && n) {
            host_trsm(left ? CblasLeft : CblasRight, triangle(uplo), transpose(trans),
                      diag == CUBLAS_DIAG_UNIT ? CblasUnit : CblasNonUnit, static_cast<int>(m),
                      static_cast<int>(n), factor, a, static_cast<int>(lda), b,
                      static_cast<int>(ldb));
        }
        return error;
    });
}

/* A vector as a matrix of one row. */
template <class T> operand vector_operand(const T *x, int64_t n, int64_t step)
{
    return {x, sizeof(T), 1, n, step};
}

template <class T>
cublasStatus_t reduce(cublasHandle_t handle, int64_t n, const T *x, int64_t incx, const T *y,
                      int64_t incy, T *result)
{
    blas_call call(handle, call_kind::wait);
    bool valid = fits(n) && result && fits(incx) && incx > 0 && fits(incy) && incy > 0;
    int device = current_device();
    auto run = [=] {
        cudaError_t error = use_operands(
            {vector_operand(x, n, incx), vector_operand(y ? y : x, n, y ? incy : incx)}, device,
            "reduction");
        if (error == cudaSuccess) {
            int length = static_cast<int>(n), step = static_cast<int>(incx);
            *result = y ? host_dot(length, x, step, y, static_cast<int>(incy))
                        : host_nrm2(length, x, step);
        }
        return error;
    };
    cublasStatus_t status = call.enqueue_if(valid, y ? "dot" : "nrm2", run);
    return status == CUBLAS_STATUS_SUCCESS ? call.wait() : status;
}

} /* namespace */

const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR: return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR: return "CUBLAS_STATUS_LICENSE_ERROR";
    }
    return "unknown status";
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    return cublasGetStatusName(status);
}

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    api_call call(call_kind::allocation);
    if (call.refused() || !handle) {
        return handle ? status_of(call.answer()) : CUBLAS_STATUS_INVALID_VALUE;
    }
    openblas_set_num_threads(1);
    *handle = new cublasContext;
    (*handle)->device = current_device();
    handles().insert(*handle);
    the_machine().handles++;
    return CUBLAS_STATUS_SUCCESS;
}

/* Waits for the device, as the real one does. */
cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    api_call call(call_kind::release);
    if (!handles().erase(handle)) {
        complain("cuBLAS handle %p does not exist", static_cast<void *>(handle));
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (!call.lost()) {
        run_until_empty(call.target());
    }
    delete handle;
    the_machine().handles--;
    return status_of(call.answer());
}

cublasStatus_t cublasGetVersion(cublasHandle_t handle, int *version)
{
    blas_call call(handle);
    if (call.status() == CUBLAS_STATUS_SUCCESS) {
        *version = 130000;
    }
    return call.status();
}

/* Takes the workspace back too, as the real one does. */
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    blas_call call(handle);
    if (call.status() == CUBLAS_STATUS_SUCCESS) {
        handle->stream = stream;
        handle->workspace = nullptr;
        handle->workspace_size = 0;
    }
    return call.status();
}

cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t *stream)
{
    blas_call call(handle);
    if (call.status() == CUBLAS_STATUS_SUCCESS) {
        *stream = handle->stream;
    }
    return call.status();
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t size)
{
    blas_call call(handle);
    if (call.status() != CUBLAS_STATUS_SUCCESS) {
        return call.status();
    }
    if (reinterpret_cast<uintptr_t>(workspace) % 256 ||
        (size && !is_device_range(workspace, size, handle->device))) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    handle->workspace = workspace;
    handle->workspace_size = size;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    blas_call call(handle);
    if (call.status() == CUBLAS_STATUS_SUCCESS) {
        handle->mode = mode;
    }
    return call.status();
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode)
{
    blas_call call(handle);
    if (call.status() == CUBLAS_STATUS_SUCCESS) {
        *mode = handle->mode;
    }
    return call.status();
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t)
{
    return blas_call(handle).status();
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode)
{
    blas_call call(handle);
    return call.status() != CUBLAS_STATUS_SUCCESS ? call.status()
           : mode == CUBLAS_POINTER_MODE_HOST     ? CUBLAS_STATUS_SUCCESS
                                                  : CUBLAS_STATUS_NOT_SUPPORTED;
}

#define STANDIN_BLAS(L, T, N, suffix) \
    cublasStatus_t cublas##L##gemm##suffix( \
        cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, N m, N n, N k, \
        const T *alpha, const T *a, N lda, const T *b, N ldb, const T *beta, T *c, N ldc) \
    { \
        return gemm<T>(handle, \
                       {transa, transb, m, n, k, 0, 0, a, b, c, lda, ldb, ldc, 0, 0, 0, 1}, alpha, \
                       beta); \
    } \
    cublasStatus_t cublas##L##gemmStridedBatched##suffix( \
        cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, N m, N n, N k, \
        const T *alpha, const T *a, N lda, long long stride_a, const T *b, N ldb, \
        long long stride_b, const T *beta, T *c, N ldc, long long stride_c, N count) \
    { \
        return gemm<T>(handle, \
                       {transa, transb, m, n, k, 0, 0, a, b, c, lda, ldb, ldc, stride_a, stride_b, \
                        stride_c, count}, \
                       alpha, beta); \
    } \
    cublasStatus_t cublas##L##syrk##suffix(cublasHandle_t handle, cublasFillMode_t uplo, \
                                           cublasOperation_t trans, N n, N k, const T *alpha, \
                                           const T *a, N lda, const T *beta, T *c, N ldc) \
    { \
        return syrk<T>(handle, uplo, trans, n, k, alpha, a, lda, beta, c, ldc); \
    } \
    cublasStatus_t cublas##L##trsm##suffix(cublasHandle_t handle, cublasSideMode_t side, \
                                           cublasFillMode_t uplo, cublasOperation_t trans, \
                                           cublasDiagType_t diag, N m, N n, const T *alpha, \
                                           const T *a, N lda, T *b, N ldb) \
    { \
        return trsm<T>(handle, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb); \
    } \
    cublasStatus_t cublas##L##nrm2##suffix(cublasHandle_t handle, N n, const T *x, N incx, \
                                           T *result) \
    { \
        return reduce<T>(handle, n, x, incx, nullptr, 1, result); \
    } \
    cublasStatus_t cublas##L##dot##suffix(cublasHandle_t handle, N n, const T *x, N incx, \
                                          const T *y, N incy, T *result) \
    { \
        return reduce<T>(handle, n, x, incx, y, incy, result); \
    }

STANDIN_BLAS(S, float, int, )
STANDIN_BLAS(D, double, int, )
STANDIN_BLAS(S, float, int64_t, _64)
STANDIN_BLAS(D, double, int64_t, _64)

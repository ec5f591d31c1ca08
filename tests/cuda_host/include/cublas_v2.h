/* cublas_v2.h - stand-in for cuBLAS: the calls that the project makes, over the host's BLAS. */
#ifndef LORS_STANDIN_CUBLAS_V2_H
#define LORS_STANDIN_CUBLAS_V2_H

#include "cuda_runtime.h"
#include "library_types.h"

typedef enum {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_ALLOC_FAILED = 3,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_ARCH_MISMATCH = 8,
    CUBLAS_STATUS_MAPPING_ERROR = 11,
    CUBLAS_STATUS_EXECUTION_FAILED = 13,
    CUBLAS_STATUS_INTERNAL_ERROR = 14,
    CUBLAS_STATUS_NOT_SUPPORTED = 15,
    CUBLAS_STATUS_LICENSE_ERROR = 16
} cublasStatus_t;

typedef enum { CUBLAS_FILL_MODE_LOWER = 0, CUBLAS_FILL_MODE_UPPER = 1 } cublasFillMode_t;
typedef enum { CUBLAS_DIAG_NON_UNIT = 0, CUBLAS_DIAG_UNIT = 1 } cublasDiagType_t;
typedef enum { CUBLAS_SIDE_LEFT = 0, CUBLAS_SIDE_RIGHT = 1 } cublasSideMode_t;
typedef enum { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 } cublasOperation_t;
typedef enum { CUBLAS_POINTER_MODE_HOST = 0, CUBLAS_POINTER_MODE_DEVICE = 1 } cublasPointerMode_t;
typedef enum { CUBLAS_ATOMICS_NOT_ALLOWED = 0, CUBLAS_ATOMICS_ALLOWED = 1 } cublasAtomicsMode_t;

typedef enum {
    CUBLAS_DEFAULT_MATH = 0,
    CUBLAS_TENSOR_OP_MATH = 1,
    CUBLAS_PEDANTIC_MATH = 2,
    CUBLAS_TF32_TENSOR_OP_MATH = 3,
    CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16
} cublasMath_t;

typedef struct cublasContext *cublasHandle_t;

STANDIN_CUDA const char *cublasGetStatusName(cublasStatus_t status);
STANDIN_CUDA const char *cublasGetStatusString(cublasStatus_t status);
STANDIN_CUDA cublasStatus_t cublasCreate(cublasHandle_t *handle);
STANDIN_CUDA cublasStatus_t cublasDestroy(cublasHandle_t handle);
STANDIN_CUDA cublasStatus_t cublasGetVersion(cublasHandle_t handle, int *version);
STANDIN_CUDA cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
STANDIN_CUDA cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t *stream);
STANDIN_CUDA cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t size);
STANDIN_CUDA cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
STANDIN_CUDA cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode);
STANDIN_CUDA cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode);
STANDIN_CUDA cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode);

/* Every function in the four ways: float and double, int and int64_t. */
#define STANDIN_BLAS(L, T, N, suffix) \
    STANDIN_CUDA cublasStatus_t cublas##L##gemm##suffix( \
        cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, N m, N n, N k, \
        const T *alpha, const T *a, N lda, const T *b, N ldb, const T *beta, T *c, N ldc); \
    STANDIN_CUDA cublasStatus_t cublas##L##gemmStridedBatched##suffix( \
        cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, N m, N n, N k, \
        const T *alpha, const T *a, N lda, long long stride_a, const T *b, N ldb, \
        long long stride_b, const T *beta, T *c, N ldc, long long stride_c, N count); \
    STANDIN_CUDA cublasStatus_t cublas##L##syrk##suffix( \
        cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, N n, N k, \
        const T *alpha, const T *a, N lda, const T *beta, T *c, N ldc); \
    STANDIN_CUDA cublasStatus_t cublas##L##trsm##suffix( \
        cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo, \
        cublasOperation_t trans, cublasDiagType_t diag, N m, N n, const T *alpha, const T *a, \
        N lda, T *b, N ldb); \
    STANDIN_CUDA cublasStatus_t cublas##L##nrm2##suffix(cublasHandle_t handle, N n, const T *x, \
                                                        N incx, T *result); \
    STANDIN_CUDA cublasStatus_t cublas##L##dot##suffix(cublasHandle_t handle, N n, const T *x, \
                                                       N incx, const T *y, N incy, T *result);

STANDIN_BLAS(S, float, int, )
STANDIN_BLAS(D, double, int, )
STANDIN_BLAS(S, float, int64_t, _64)
STANDIN_BLAS(D, double, int64_t, _64)

#undef STANDIN_BLAS

#endif

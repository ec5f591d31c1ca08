/* cusolverDn.h - stand-in for cuSOLVER: the calls that the project makes, over LAPACK. */
#ifndef LORS_STANDIN_CUSOLVERDN_H
#define LORS_STANDIN_CUSOLVERDN_H

#include "cublas_v2.h"
#include "cuda_runtime.h"
#include "library_types.h"

typedef enum {
    CUSOLVER_STATUS_SUCCESS = 0,
    CUSOLVER_STATUS_NOT_INITIALIZED = 1,
    CUSOLVER_STATUS_ALLOC_FAILED = 2,
    CUSOLVER_STATUS_INVALID_VALUE = 3,
    CUSOLVER_STATUS_ARCH_MISMATCH = 4,
    CUSOLVER_STATUS_MAPPING_ERROR = 5,
    CUSOLVER_STATUS_EXECUTION_FAILED = 6,
    CUSOLVER_STATUS_INTERNAL_ERROR = 7,
    CUSOLVER_STATUS_MATRIX_TYPE_NOT_SUPPORTED = 8,
    CUSOLVER_STATUS_NOT_SUPPORTED = 9,
    CUSOLVER_STATUS_INVALID_WORKSPACE = 31
} cusolverStatus_t;

typedef enum { CUSOLVER_EIG_MODE_NOVECTOR = 0, CUSOLVER_EIG_MODE_VECTOR = 1 } cusolverEigMode_t;

typedef enum {
    CUSOLVER_EIG_RANGE_ALL = 1001,
    CUSOLVER_EIG_RANGE_I = 1002,
    CUSOLVER_EIG_RANGE_V = 1003
} cusolverEigRange_t;

typedef enum {
    CUSOLVER_DETERMINISTIC_RESULTS = 1,
    CUSOLVER_ALLOW_NON_DETERMINISTIC_RESULTS = 2
} cusolverDeterministicMode_t;

typedef struct cusolverDnContext *cusolverDnHandle_t;
typedef struct cusolverDnParams *cusolverDnParams_t;

STANDIN_CUDA cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle);
STANDIN_CUDA cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle);
STANDIN_CUDA cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream);
STANDIN_CUDA cusolverStatus_t cusolverDnGetStream(cusolverDnHandle_t handle, cudaStream_t *stream);
STANDIN_CUDA cusolverStatus_t cusolverDnSetDeterministicMode(cusolverDnHandle_t handle,
                                                             cusolverDeterministicMode_t mode);
STANDIN_CUDA cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t *parameters);
STANDIN_CUDA cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t parameters);

STANDIN_CUDA cusolverStatus_t cusolverDnXsyevd_bufferSize(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, cusolverEigMode_t jobz,
    cublasFillMode_t uplo, int64_t n, cudaDataType type_a, const void *a, int64_t lda,
    cudaDataType type_w, const void *w, cudaDataType compute_type, size_t *device_bytes,
    size_t *host_bytes);
STANDIN_CUDA cusolverStatus_t
cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t parameters, cusolverEigMode_t jobz,
                 cublasFillMode_t uplo, int64_t n, cudaDataType type_a, void *a, int64_t lda,
                 cudaDataType type_w, void *w, cudaDataType compute_type, void *device_buffer,
                 size_t device_bytes, void *host_buffer, size_t host_bytes, int *info);

STANDIN_CUDA cusolverStatus_t cusolverDnXsyevBatched_bufferSize(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, cusolverEigMode_t jobz,
    cublasFillMode_t uplo, int64_t n, cudaDataType type_a, const void *a, int64_t lda,
    cudaDataType type_w, const void *w, cudaDataType compute_type, size_t *device_bytes,
    size_t *host_bytes, int64_t count);
STANDIN_CUDA cusolverStatus_t cusolverDnXsyevBatched(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, cusolverEigMode_t jobz,
    cublasFillMode_t uplo, int64_t n, cudaDataType type_a, void *a, int64_t lda,
    cudaDataType type_w, void *w, cudaDataType compute_type, void *device_buffer,
    size_t device_bytes, void *host_buffer, size_t host_bytes, int *info, int64_t count);

STANDIN_CUDA cusolverStatus_t cusolverDnXsyevdx_bufferSize(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, cusolverEigMode_t jobz,
    cusolverEigRange_t range, cublasFillMode_t uplo, int64_t n, cudaDataType type_a, const void *a,
    int64_t lda, void *lower, void *upper, int64_t first, int64_t last, int64_t *found,
    cudaDataType type_w, const void *w, cudaDataType compute_type, size_t *device_bytes,
    size_t *host_bytes);
STANDIN_CUDA cusolverStatus_t cusolverDnXsyevdx(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, cusolverEigMode_t jobz,
    cusolverEigRange_t range, cublasFillMode_t uplo, int64_t n, cudaDataType type_a, void *a,
    int64_t lda, void *lower, void *upper, int64_t first, int64_t last, int64_t *found,
    cudaDataType type_w, void *w, cudaDataType compute_type, void *device_buffer,
    size_t device_bytes, void *host_buffer, size_t host_bytes, int *info);

STANDIN_CUDA cusolverStatus_t cusolverDnXpotrf_bufferSize(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, cublasFillMode_t uplo, int64_t n,
    cudaDataType type_a, const void *a, int64_t lda, cudaDataType compute_type,
    size_t *device_bytes, size_t *host_bytes);
STANDIN_CUDA cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle,
                                               cusolverDnParams_t parameters,
                                               cublasFillMode_t uplo, int64_t n,
                                               cudaDataType type_a, void *a, int64_t lda,
                                               cudaDataType compute_type, void *device_buffer,
                                               size_t device_bytes, void *host_buffer,
                                               size_t host_bytes, int *info);
STANDIN_CUDA cusolverStatus_t cusolverDnXpotrs(cusolverDnHandle_t handle,
                                               cusolverDnParams_t parameters,
                                               cublasFillMode_t uplo, int64_t n, int64_t n_right,
                                               cudaDataType type_a, const void *a, int64_t lda,
                                               cudaDataType type_b, void *b, int64_t ldb,
                                               int *info);

STANDIN_CUDA cusolverStatus_t cusolverDnXgesvd_bufferSize(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, signed char jobu, signed char jobvt,
    int64_t m, int64_t n, cudaDataType type_a, const void *a, int64_t lda, cudaDataType type_s,
    const void *s, cudaDataType type_u, const void *u, int64_t ldu, cudaDataType type_vt,
    const void *vt, int64_t ldvt, cudaDataType compute_type, size_t *device_bytes,
    size_t *host_bytes);
STANDIN_CUDA cusolverStatus_t cusolverDnXgesvd(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, signed char jobu, signed char jobvt,
    int64_t m, int64_t n, cudaDataType type_a, void *a, int64_t lda, cudaDataType type_s, void *s,
    cudaDataType type_u, void *u, int64_t ldu, cudaDataType type_vt, void *vt, int64_t ldvt,
    cudaDataType compute_type, void *device_buffer, size_t device_bytes, void *host_buffer,
    size_t host_bytes, int *info);

#endif

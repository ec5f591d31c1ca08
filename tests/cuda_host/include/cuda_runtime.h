/* cuda_runtime.h - stand-in for the CUDA runtime on host memory: types, calls, launches.
 *
 * Names, values and signatures are those of CUDA 13; only what the project needs is here. Device
 * code is in standin_device.h, control of the stand-in in standin.h.
 */
#ifndef LORS_STANDIN_CUDA_RUNTIME_H
#define LORS_STANDIN_CUDA_RUNTIME_H

#include <cstddef>
#include <cstdint>

#define CUDART_VERSION 13000

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInitializationError = 3,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidMemcpyDirection = 21,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorInvalidDeviceFunction = 98,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorECCUncorrectable = 214,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchOutOfResources = 701,
    cudaErrorLaunchTimeout = 702,
    cudaErrorAssert = 710,
    cudaErrorMisalignedAddress = 716,
    cudaErrorLaunchFailure = 719,
    cudaErrorNotSupported = 801,
    cudaErrorUnknown = 999
} cudaError_t;

enum cudaMemcpyKind {
    cudaMemcpyHostToHost = 0,
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
};

enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrWarpSize = 10,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrL2CacheSize = 38,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76
};

#define cudaHostAllocDefault 0x00
#define cudaHostAllocPortable 0x01
#define cudaHostAllocMapped 0x02
#define cudaHostAllocWriteCombined 0x04
#define cudaStreamDefault 0x00
#define cudaStreamNonBlocking 0x01
#define cudaEventDefault 0x00
#define cudaEventBlockingSync 0x01
#define cudaEventDisableTiming 0x02
#define cudaEventRecordDefault 0x00
#define cudaEventWaitDefault 0x00

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;

#define cudaStreamLegacy ((cudaStream_t)0x1)

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
};

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    size_t sharedMemPerBlock;
    int regsPerBlock;
    int warpSize;
    int maxThreadsPerBlock;
    int maxThreadsDim[3];
    int maxGridSize[3];
    int major;
    int minor;
    int multiProcessorCount;
    int maxThreadsPerMultiProcessor;
    int l2CacheSize;
    int integrated;
    int pciDomainID;
    int pciBusID;
    int pciDeviceID;
};

#define STANDIN_CUDA extern "C" __attribute__((visibility("default")))

STANDIN_CUDA const char *cudaGetErrorString(cudaError_t error);
STANDIN_CUDA const char *cudaGetErrorName(cudaError_t error);
STANDIN_CUDA cudaError_t cudaGetLastError(void);
STANDIN_CUDA cudaError_t cudaPeekAtLastError(void);

STANDIN_CUDA cudaError_t cudaDriverGetVersion(int *version);
STANDIN_CUDA cudaError_t cudaRuntimeGetVersion(int *version);
STANDIN_CUDA cudaError_t cudaGetDeviceCount(int *count);
STANDIN_CUDA cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);
STANDIN_CUDA cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute,
                                                int device);
STANDIN_CUDA cudaError_t cudaSetDevice(int device);
STANDIN_CUDA cudaError_t cudaGetDevice(int *device);
STANDIN_CUDA cudaError_t cudaDeviceSynchronize(void);

STANDIN_CUDA cudaError_t cudaMalloc(void **pointer, size_t size);
STANDIN_CUDA cudaError_t cudaFree(void *pointer);
STANDIN_CUDA cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned flags);
STANDIN_CUDA cudaError_t cudaMallocHost(void **pointer, size_t size);
STANDIN_CUDA cudaError_t cudaFreeHost(void *pointer);
STANDIN_CUDA cudaError_t cudaMemGetInfo(size_t *available, size_t *total);

STANDIN_CUDA cudaError_t cudaMemcpy(void *target, const void *source, size_t size,
                                    enum cudaMemcpyKind kind);
STANDIN_CUDA cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t size,
                                         enum cudaMemcpyKind kind, cudaStream_t stream = nullptr);
STANDIN_CUDA cudaError_t cudaMemset(void *target, int value, size_t size);
STANDIN_CUDA cudaError_t cudaMemsetAsync(void *target, int value, size_t size,
                                         cudaStream_t stream = nullptr);

STANDIN_CUDA cudaError_t cudaStreamCreate(cudaStream_t *stream);
STANDIN_CUDA cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
STANDIN_CUDA cudaError_t cudaStreamDestroy(cudaStream_t stream);
STANDIN_CUDA cudaError_t cudaStreamSynchronize(cudaStream_t stream);
STANDIN_CUDA cudaError_t cudaStreamQuery(cudaStream_t stream);
STANDIN_CUDA cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
                                             unsigned flags = 0);

STANDIN_CUDA cudaError_t cudaEventCreate(cudaEvent_t *event);
STANDIN_CUDA cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
STANDIN_CUDA cudaError_t cudaEventDestroy(cudaEvent_t event);
STANDIN_CUDA cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
STANDIN_CUDA cudaError_t cudaEventSynchronize(cudaEvent_t event);
STANDIN_CUDA cudaError_t cudaEventQuery(cudaEvent_t event);
STANDIN_CUDA cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start,
                                              cudaEvent_t end);

template <class T> inline cudaError_t cudaMalloc(T **pointer, size_t size)
{
    return cudaMalloc(reinterpret_cast<void **>(pointer), size);
}

template <class T> inline cudaError_t cudaHostAlloc(T **pointer, size_t size, unsigned flags)
{
    return cudaHostAlloc(reinterpret_cast<void **>(pointer), size, flags);
}

template <class T> inline cudaError_t cudaMallocHost(T **pointer, size_t size, unsigned flags = 0)
{
    return cudaHostAlloc(reinterpret_cast<void **>(pointer), size, flags);
}

#include "standin_device.h"
#include "standin_launch.h"

#endif

/* runtime.cpp - errors and devices of the API. */
#include "machine.h"
#include "stream.h"

#include <cstdio>
#include <cstring>

using namespace standin;

namespace
{

struct error_text {
    cudaError_t error;
    const char *name, *text;
};

constexpr error_text texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorAssert, "cudaErrorAssert", "device-side assert triggered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const error_text *find_text(cudaError_t error)
{
    for (const error_text &each : texts) {
        if (each.error == error) {
            return &each;
        }
    }
    return nullptr;
}

bool is_device(int index)
{
    return index >= 0 && static_cast<size_t>(index) < the_machine().devices.size();
}

} /* namespace */

const char *cudaGetErrorString(cudaError_t error)
{
    const error_text *found = find_text(error);
    return found ? found->text : "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error)
{
    const error_text *found = find_text(error);
    return found ? found->name : "unrecognized error code";
}

cudaError_t cudaPeekAtLastError(void)
{
    visit here;
    cudaError_t lost = the_machine().devices[static_cast<size_t>(current_device())]->lost;
    return lost != cudaSuccess ? lost : last_error();
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = cudaPeekAtLastError();
    set_last_error(cudaSuccess);
    return error;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    if (!version) {
        return cudaErrorInvalidValue;
    }
    *version = driver_error() == cudaErrorInsufficientDriver ? 0 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    if (!version) {
        return cudaErrorInvalidValue;
    }
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    api_call call(call_kind::plain);
    if (count) {
        *count = 0;
    }
    if (call.refused()) {
        return call.answer();
    }
    if (!count) {
        return call.answer(cudaErrorInvalidValue);
    }
    *count = static_cast<int>(the_machine().devices.size());
    return call.answer();
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    if (!properties || !is_device(device)) {
        return call.answer(properties ? cudaErrorInvalidDevice : cudaErrorInvalidValue);
    }
    cudaDeviceProp filled = {};
    std::snprintf(filled.name, sizeof(filled.name), "Stand-in %d (host memory)", device);
    filled.totalGlobalMem = the_machine().devices[static_cast<size_t>(device)]->limit;
    filled.sharedMemPerBlock = 48 << 10;
    filled.regsPerBlock = 65536;
    filled.warpSize = 32;
    filled.maxThreadsPerBlock = 1024;
    filled.maxThreadsDim[0] = filled.maxThreadsDim[1] = 1024;
    filled.maxThreadsDim[2] = 64;
    filled.maxGridSize[0] = 0x7fffffff;
    filled.maxGridSize[1] = filled.maxGridSize[2] = 65535;
    filled.major = 9;
    filled.multiProcessorCount = 4; /* few: launches sized by it stay small */
    filled.maxThreadsPerMultiProcessor = 2048;
    filled.l2CacheSize = 4 << 20;
    filled.pciBusID = device + 1;
    *properties = filled;
    return call.answer();
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp properties;
    cudaError_t error =
        value ? cudaGetDeviceProperties(&properties, device) : cudaErrorInvalidValue;
    if (error != cudaSuccess) {
        return error;
    }
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = properties.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = static_cast<int>(properties.sharedMemPerBlock);
        break;
    case cudaDevAttrWarpSize: *value = properties.warpSize; break;
    case cudaDevAttrMultiProcessorCount: *value = properties.multiProcessorCount; break;
    case cudaDevAttrL2CacheSize: *value = properties.l2CacheSize; break;
    case cudaDevAttrComputeCapabilityMajor: *value = properties.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = properties.minor; break;
    default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    bool exists;
    {
        visit here;
        exists = is_device(device);
    }
    api_call call(call_kind::plain, exists ? device : current_device());
    if (call.refused() && !call.lost()) {
        return call.answer();
    }
    if (!exists) {
        return call.answer(cudaErrorInvalidDevice);
    }
    set_current_device(device); /* a lost one too: there is something to clean up on it */
    return call.answer();
}

cudaError_t cudaGetDevice(int *device)
{
    if (!device) {
        return cudaErrorInvalidValue;
    }
    *device = current_device();
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    api_call call(call_kind::wait);
    if (!call.lost() && driver_error() == cudaSuccess) {
        run_until_empty(call.target());
    }
    return call.answer();
}

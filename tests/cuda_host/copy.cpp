/* copy.cpp - copies and memsets: checked when they are enqueued, done when they run. */
#include "memory.h"
#include "sanitizer.h"
#include "stream.h"

#include <cstring>

using namespace standin;

namespace
{

bool is_device_memory(const void *address)
{
    const allocation *found = find_allocation(address);
    return found && found->device != on_host;
}

bool from_device(cudaMemcpyKind kind)
{
    return kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
}

bool to_device(cudaMemcpyKind kind)
{
    return kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
}

/* One side of a copy: in one allocation of the stream's device, or not on a device at all. */
cudaError_t check_side(const void *address, size_t size, bool on_device, int device)
{
    if (on_device) {
        return check_device_range(address, size, device, "copy");
    }
    const allocation *found = find_allocation(address);
    if (!address || (found && (found->device != on_host || !found->alive))) {
        complain("copy: %p is not memory of the host: %s", address, describe(address).c_str());
        return cudaErrorIllegalAddress;
    }
    return cudaSuccess;
}

cudaError_t check_copy(const void *target, const void *source, size_t size, cudaMemcpyKind kind,
                       int device)
{
    cudaError_t error = check_side(target, size, to_device(kind), device);
    return error ? error : check_side(source, size, from_device(kind), device);
}

cudaError_t enqueue_copy(void *target, const void *source, size_t size, cudaMemcpyKind kind,
                         CUstream_st &stream)
{
    if (kind == cudaMemcpyDefault) {
        bool from = is_device_memory(source), to = is_device_memory(target);
        kind = from ? (to ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                    : (to ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
    }
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) {
        return cudaErrorInvalidMemcpyDirection;
    }
    if (size == 0) {
        return cudaSuccess;
    }
    int device = stream.device;
    if (check_copy(target, source, size, kind, device) != cudaSuccess) {
        return cudaErrorInvalidValue;
    }
    enqueue(stream, "copy of " + std::to_string(size) + " bytes", [=] {
        cudaError_t error = check_copy(target, source, size, kind, device);
        if (error == cudaSuccess) {
            sanitizer::client_scope scope;
            std::memcpy(target, source, size);
        }
        return error;
    });
    return cudaSuccess;
}

cudaError_t enqueue_memset(void *target, int value, size_t size, CUstream_st &stream)
{
    if (size == 0) {
        return cudaSuccess;
    }
    int device = stream.device;
    if (check_device_range(target, size, device, "memset") != cudaSuccess) {
        return cudaErrorInvalidValue;
    }
    enqueue(stream, "memset of " + std::to_string(size) + " bytes", [=] {
        cudaError_t error = check_device_range(target, size, device, "memset");
        if (error == cudaSuccess) {
            sanitizer::client_scope scope;
            std::memset(target, value, size);
        }
        return error;
    });
    return cudaSuccess;
}

} /* namespace */

cudaError_t cudaMemcpy(void *target, const void *source, size_t size, enum cudaMemcpyKind kind)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUstream_st &stream = call.target().null_stream;
    cudaError_t error = enqueue_copy(target, source, size, kind, stream);
    if (error == cudaSuccess) {
        run_until_empty(stream);
    }
    return call.answer(error);
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t size, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUstream_st *found = find_stream(stream);
    return call.answer(found ? enqueue_copy(target, source, size, kind, *found)
                             : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaMemset(void *target, int value, size_t size)
{
    return cudaMemsetAsync(target, value, size, nullptr);
}

cudaError_t cudaMemsetAsync(void *target, int value, size_t size, cudaStream_t stream)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUstream_st *found = find_stream(stream);
    return call.answer(found ? enqueue_memset(target, value, size, *found)
                             : cudaErrorInvalidResourceHandle);
}

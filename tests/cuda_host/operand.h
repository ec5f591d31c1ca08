/* operand.h - matrices that library calls read and write: checked when the call runs.
 *
 * Private to the stand-in. The libraries of the host are not instrumented: the sanitizers are told
 * here what they access.
 */
#ifndef LORS_STANDIN_OPERAND_H
#define LORS_STANDIN_OPERAND_H

#include "memory.h"
#include "sanitizer.h"

#include <cstring>

namespace standin
{

/* A column-major matrix of the device, as often as `count` says. */
struct operand {
    const void *address;
    size_t element; /* bytes */
    int64_t rows, columns, leading;
    int64_t count = 1, stride = 0; /* elements from one matrix to the next */
    bool written = false;
};

inline cudaError_t check_operand(const operand &one, int device, const char *what)
{
    if (one.rows <= 0 || one.columns <= 0 || one.count <= 0) {
        return cudaSuccess;
    }
    int64_t elements = (one.count - 1) * one.stride + (one.columns - 1) * one.leading + one.rows;
    cudaError_t error =
        check_device_range(one.address, static_cast<size_t>(elements) * one.element, device, what);
    if (error == cudaSuccess && reinterpret_cast<uintptr_t>(one.address) % one.element != 0) {
        complain("%s: %p is not aligned", what, one.address);
        error = cudaErrorMisalignedAddress;
    }
    return error;
}

/* Tells the thread sanitizer of the accesses, by a copy of its own: the stack is the host's, and
 * what the stream reads there would count as a race. */
inline void touch_operand(operand one)
{
    sanitizer::client_scope scope;
    const char *base = static_cast<const char *>(one.address);
    size_t bytes = static_cast<size_t>(one.rows) * one.element;
    for (int64_t i = 0; sanitizer::threads && i < one.count * one.columns && bytes; i++) {
        int64_t at = i / one.columns * one.stride + i % one.columns * one.leading;
        const char *column = base + static_cast<size_t>(at) * one.element;
        one.written ? sanitizer::writes(column, bytes) : sanitizer::reads(column, bytes);
    }
}

inline cudaError_t use_operands(std::initializer_list<operand> all, int device, const char *what)
{
    for (const operand &one : all) {
        cudaError_t error = check_operand(one, device, what);
        if (error != cudaSuccess) {
            return error;
        }
    }
    for (const operand &one : all) {
        touch_operand(one);
    }
    return cudaSuccess;
}

/* A workspace belongs to the call while it runs: what was in it is gone. */
inline void spoil_workspace(void *address, size_t size)
{
    if (address && size) {
        sanitizer::client_scope scope;
        std::memset(address, the_machine().poison, size);
    }
}

} /* namespace standin */

#endif

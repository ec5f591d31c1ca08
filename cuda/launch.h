/* launch.h - how a kernel is launched: one macro, so that nvcc and a host compiler with a stand-in
 * runtime take the same file.
 *
 * LORS_LAUNCH((kernel<template arguments>), grid, block, stream, arguments ...): never waits.
 * Kernels use static shared memory, barriers, shuffles and integer atomics only. Errors of a launch
 * are fetched by LORS_CUDA_TRY(cudaGetLastError()), which lors_cuda_launched does.
 */
#ifndef LORS_CUDA_LAUNCH_H
#define LORS_CUDA_LAUNCH_H

#include <cuda_runtime.h>

#define LORS_UNWRAP(...) __VA_ARGS__

#ifdef __CUDACC__
#define LORS_LAUNCH(kernel, grid, block, stream, ...) \
    LORS_UNWRAP kernel<<<(grid), (block), 0, (stream)>>>(__VA_ARGS__)
#else
#include <standin.h>
#define LORS_LAUNCH(kernel, grid, block, stream, ...) \
    standin_launch(#kernel, LORS_UNWRAP kernel, dim3(grid), dim3(block), (stream), __VA_ARGS__)
#endif

#endif

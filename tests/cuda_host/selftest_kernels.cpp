/* selftest_kernels.cpp - kernels as the project's files hold them: right ones, and wrong ones that
 * the stand-in must show. */
#include "selftest.h"

#include <chrono>
#include <cstring>

namespace
{

__global__ void add(const float *x, const float *y, float *sum, int n)
{
    int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) {
        sum[i] = x[i] + y[i];
    }
}

template <typename T, int SIZE>
__global__ void __launch_bounds__(SIZE) sum_by_block(const T *__restrict__ x, T *sums, int n)
{
    __shared__ T partial[SIZE];
    int i = static_cast<int>(blockIdx.x) * SIZE + static_cast<int>(threadIdx.x);
    partial[threadIdx.x] = i < n ? x[i] : T{0};
    __syncthreads();
    for (unsigned step = SIZE / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) {
            partial[threadIdx.x] += partial[threadIdx.x + step];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = partial[0];
    }
}

template <typename T> __device__ __forceinline__ T warp_sum(T value)
{
    for (unsigned step = 16; step > 0; step /= 2) {
        value += __shfl_down_sync(0xffffffffu, value, step);
    }
    return __shfl_sync(0xffffffffu, value, 0);
}

template <typename T> __global__ void sum_by_warp(const T *x, T *sums)
{
    T sum = warp_sum(x[blockIdx.x * blockDim.x + threadIdx.x]);
    if (threadIdx.x % 32 == 0) {
        sums[(blockIdx.x * blockDim.x + threadIdx.x) / 32] = sum;
    }
}

__global__ void histogram(const unsigned *x, unsigned *bins, int n)
{
    __shared__ unsigned local[16];
    if (threadIdx.x < 16) {
        local[threadIdx.x] = 0;
    }
    __syncthreads();
    for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n;
         i += static_cast<int>(gridDim.x * blockDim.x)) {
        atomicAdd(&local[x[i] % 16], 1u);
    }
    __syncthreads();
    if (threadIdx.x < 16) {
        atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
    }
}

__global__ void votes(int *out)
{
    int me = static_cast<int>(threadIdx.x);
    unsigned odd = __ballot_sync(0xffffffffu, me % 2);
    int lanes = __popc(odd) + 100 * __any_sync(0xffffffffu, me == 40);
    int all = __all_sync(0xffffffffu, me >= 0);
    int count = __syncthreads_count(me < 10);
    int any = __syncthreads_or(me == 63), every = __syncthreads_and(me < 63);
    int other = __shfl_xor_sync(0xffffffffu, me, 1) + __shfl_up_sync(0xffffffffu, me, 2);
    out[me] =
        lanes + all * 1000 + count * 10000 + any * 1000000 + every * 2000000 + other * 4000000;
}

/* The last block to come sums what the others wrote. */
__global__ void sum_in_last_block(const double *x, double *sums, unsigned *ticket, double *sum)
{
    __shared__ bool is_last;
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = 2 * x[blockIdx.x];
        __threadfence();
        is_last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last && threadIdx.x == 0) {
        double total = 0;
        for (unsigned i = 0; i < gridDim.x; i++) {
            total += sums[i];
        }
        *sum = total;
    }
}

__global__ void atomics(double *sum, float *small, int *low, int *high, unsigned long long *bits)
{
    int me = static_cast<int>(threadIdx.x);
    atomicAdd(sum, 0.5);
    atomicAdd(small, 1.0f);
    atomicMin(low, -me);
    atomicMax(high, me);
    atomicOr(bits, 1ull << (me % 64));
}

/* Wrong: the neighbour's number may not be there yet. */
__global__ void shift_without_barrier(int *out)
{
    __shared__ int numbers[64];
    numbers[threadIdx.x] = static_cast<int>(threadIdx.x);
    out[threadIdx.x] = numbers[(threadIdx.x + 1) % 64];
}

/* Right, to show that the report is about the barrier. */
__global__ void shift_with_barrier(int *out)
{
    __shared__ int numbers[64];
    numbers[threadIdx.x] = static_cast<int>(threadIdx.x);
    __syncthreads();
    out[blockIdx.x * 64 + threadIdx.x] = numbers[(threadIdx.x + 1) % 64];
}

/* Wrong: two threads write one place. */
__global__ void write_one_place(int *out)
{
    if (threadIdx.x < 2) {
        *out = static_cast<int>(threadIdx.x);
    }
}

/* Wrong: the blocks write one place. */
__global__ void write_by_block(int *out)
{
    if (threadIdx.x == 0) {
        out[0] = static_cast<int>(blockIdx.x);
    }
}

/* Wrong: a shuffle orders no memory. */
__global__ void pass_by_shuffle(int *out)
{
    __shared__ int number[32];
    number[threadIdx.x] = 1;
    int zero = __shfl_sync(0xffffffffu, 0, 0);
    out[threadIdx.x] = number[(threadIdx.x + 1) % 32] + zero;
}

__global__ void pass_by_syncwarp(int *out)
{
    __shared__ int number[32];
    number[threadIdx.x] = 1;
    __syncwarp();
    out[blockIdx.x * 32 + threadIdx.x] = number[(threadIdx.x + 1) % 32];
}

__global__ void hang_at_barrier(int *out)
{
    if (threadIdx.x < 10) {
        return;
    }
    __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void hang_at_two_barriers(int *out)
{
    if (threadIdx.x < 10) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

__global__ void hang_at_shuffle(int *out)
{
    if (threadIdx.x % 2) {
        out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
    }
}

__global__ void shared_is_poison(int *out)
{
    __shared__ int unset[8];
    out[blockIdx.x] = unset[3];
    unset[3] = 5;
}

__global__ void ten_barriers(float *out)
{
    __shared__ float number;
    for (int i = 0; i < 5; i++) {
        if (threadIdx.x == 0) {
            number = static_cast<float>(i);
        }
        __syncthreads();
        out[blockIdx.x * blockDim.x + threadIdx.x] += number;
        __syncthreads();
    }
}

void test_add(void)
{
    int n = 1000;
    std::vector<float> x(1000), y(1000);
    for (int i = 0; i < n; i++) {
        x[static_cast<size_t>(i)] = static_cast<float>(i);
        y[static_cast<size_t>(i)] = 2;
    }
    device_array<float> a(x), b(y), c(1000);
    CHECK_CUDA(LAUNCH(add, (n + 127) / 128, 128, nullptr, a.get(), b.get(), c.get(), n));
    std::vector<float> sum = c.read();
    CHECK(sum[0] == 2 && sum[999] == 1001);
}

void test_sums(void)
{
    std::vector<double> x(512, 0.5);
    x[100] = 100;
    device_array<double> in(x), blocks(2), warps(16);
    CHECK_CUDA(LAUNCH((sum_by_block<double, 256>), 2, 256, nullptr, in.get(), blocks.get(), 512));
    CHECK_CUDA(LAUNCH(sum_by_warp<double>, 2, 256, nullptr, in.get(), warps.get()));
    CHECK(blocks.read()[0] == 127.5 + 100 && blocks.read()[1] == 128);
    CHECK(warps.read()[3] == 15.5 + 100 && warps.read()[15] == 16);
}

void test_histogram(void)
{
    std::vector<unsigned> x(1000);
    for (size_t i = 0; i < x.size(); i++) {
        x[i] = static_cast<unsigned>(i * i);
    }
    std::vector<unsigned> expected(16);
    for (unsigned each : x) {
        expected[each % 16]++;
    }
    device_array<unsigned> in(x), bins(std::vector<unsigned>(16, 0u));
    CHECK_CUDA(LAUNCH(histogram, 3, 64, nullptr, in.get(), bins.get(), 1000));
    CHECK(bins.read() == expected);
}

void test_votes(void)
{
    device_array<int> out(64);
    CHECK_CUDA(LAUNCH(votes, 1, 64, nullptr, out.get()));
    std::vector<int> got = out.read();
    int base = 16 + 1000 + 100000 + 1000000;
    CHECK(got[5] == base + (4 + 3) * 4000000);
    CHECK(got[33] == base + 100 + (32 + 33) * 4000000);
}

void test_atomics(void)
{
    device_array<double> sum(std::vector<double>(1, 0.0));
    device_array<float> small(std::vector<float>(1, 0.0f));
    device_array<int> low(std::vector<int>(1, 0)), high(std::vector<int>(1, 0));
    device_array<unsigned long long> bits(std::vector<unsigned long long>(1, 0));
    CHECK_CUDA(LAUNCH(atomics, 2, 100, nullptr, sum.get(), small.get(), low.get(), high.get(),
                      bits.get()));
    CHECK(sum.read()[0] == 100 && small.read()[0] == 200);
    CHECK(low.read()[0] == -99 && high.read()[0] == 99 && bits.read()[0] == ~0ull);
}

void test_last_block(void)
{
    device_array<double> x(std::vector<double>(20, 1.0)), sums(20), sum(1);
    device_array<unsigned> ticket(std::vector<unsigned>(1, 0u));
    CHECK_CUDA(
        LAUNCH(sum_in_last_block, 20, 64, nullptr, x.get(), sums.get(), ticket.get(), sum.get()));
    CHECK(sum.read()[0] == 40);
}

void test_shared_poison(void)
{
    device_array<int> out(4);
    CHECK_CUDA(LAUNCH(shared_is_poison, 4, 1, nullptr, out.get()));
    for (int each : out.read()) {
        CHECK(each == static_cast<int>(0xFBFBFBFB) || each == -1);
    }
}

void expect_launch_failure(cudaError_t launched)
{
    CHECK(launched == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
    CHECK(cudaGetLastError() == cudaErrorLaunchFailure);
    CHECK(cudaGetLastError() == cudaErrorLaunchFailure);
    standin_revive();
    CHECK(cudaGetLastError() == cudaSuccess);
}

double milliseconds_of(unsigned grid, unsigned block, device_array<float> &out)
{
    CHECK_CUDA(LAUNCH(ten_barriers, grid, block, nullptr, out.get())); /* makes the fibers */
    CHECK_CUDA(cudaDeviceSynchronize());
    auto start = std::chrono::steady_clock::now();
    CHECK_CUDA(LAUNCH(ten_barriers, grid, block, nullptr, out.get()));
    CHECK_CUDA(cudaDeviceSynchronize());
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

} /* namespace */

void test_kernels(void)
{
    test_add();
    test_sums();
    test_histogram();
    test_votes();
    test_atomics();
    test_last_block();
    test_shared_poison();
    device_array<int> out(64);
    CHECK_CUDA(LAUNCH(shift_with_barrier, 1, 64, nullptr, out.get()));
    CHECK(out.read()[63] == 0 && out.read()[10] == 11);
    CHECK_CUDA(LAUNCH(pass_by_syncwarp, 1, 32, nullptr, out.get()));
    CHECK(out.read()[31] == 1);
}

/* Seeds differ in what the kernel without a barrier gives. */
void test_missing_barrier(void)
{
    device_array<int> out(64);
    std::vector<std::vector<int>> results;
    for (unsigned long seed = 1; seed <= 3; seed++) {
        standin_seed(seed);
        CHECK_CUDA(LAUNCH(shift_without_barrier, 1, 64, nullptr, out.get()));
        results.push_back(out.read());
    }
    CHECK(results[0] != results[1] && results[1] != results[2]);
    standin_seed(1);
}

void test_hangs(void)
{
    size_t before = standin_complaints();
    device_array<int> out(64);
    expect_launch_failure(LAUNCH(hang_at_barrier, 2, 64, nullptr, out.get()));
    expect_launch_failure(LAUNCH(hang_at_two_barriers, 2, 64, nullptr, out.get()));
    expect_launch_failure(LAUNCH(hang_at_shuffle, 2, 64, nullptr, out.get()));
    CHECK(standin_complaints() == before + 3);
    CHECK_CUDA(LAUNCH(shift_with_barrier, 1, 64, nullptr, out.get()));
    CHECK(out.read()[63] == 0);
}

void test_timing(bool briefly)
{
    device_array<float> out(size_t{256} * 256);
    std::printf("a launch with 10 barriers, 4 x 128 threads: %.3f ms\n",
                milliseconds_of(4, 128, out));
    if (briefly) {
        return;
    }
    std::printf("256 x 256 threads: %.3f ms\n", milliseconds_of(256, 256, out));
    auto start = std::chrono::steady_clock::now();
    device_array<float> x(size_t{1} << 20), y(size_t{1} << 20);
    CHECK_CUDA(cudaMemset(x.get(), 0, sizeof(float) << 20));
    CHECK_CUDA(LAUNCH(add, 4096, 256, nullptr, x.get(), x.get(), y.get(), 1 << 20));
    CHECK_CUDA(cudaDeviceSynchronize());
    std::printf("2^20 numbers added by as many threads: %.3f ms\n",
                std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                    .count());
}

/* One kernel by its name, under the thread sanitizer: the wrong ones must be reported, the right
 * ones must not. */
int run_race(const char *which)
{
    device_array<int> out(256);
    struct {
        const char *name;
        void (*kernel)(int *);
        unsigned grid, block;
    } kernels[] = {
        {"barrier", shift_without_barrier, 1, 64}, {"place", write_one_place, 1, 64},
        {"blocks", write_by_block, 2, 64},         {"shuffle", pass_by_shuffle, 1, 32},
        {"right", shift_with_barrier, 4, 64},      {"syncwarp", pass_by_syncwarp, 4, 32},
    };
    for (auto &each : kernels) {
        if (!std::strcmp(each.name, which)) {
            standin_launch(each.name, each.kernel, each.grid, each.block, nullptr, out.get());
            return cudaDeviceSynchronize() != cudaSuccess;
        }
    }
    return -1;
}

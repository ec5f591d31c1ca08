/* selftest.cpp - the stand-in's own test: streams, memory, faults. Exits with 1 if it fails.
 *
 *   selftest                everything that must work
 *   selftest race NAME      a kernel or a stream that races (NAME), for the thread sanitizer
 *   selftest uaf            a kernel that reads freed memory: the program must die
 *   selftest bounds         a kernel that writes behind its memory: the program must die
 *   selftest host           the host reads memory of the device: the program must die
 */
#include "selftest.h"

#include <cstring>
#include <string>
#include <thread>

int checks_failed;

namespace
{

#if defined(__SANITIZE_THREAD__)
constexpr bool under_thread_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool under_thread_sanitizer = true;
#else
constexpr bool under_thread_sanitizer = false;
#endif
#else
constexpr bool under_thread_sanitizer = false;
#endif

__global__ void scale(int *x, int n, int factor)
{
    int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) {
        x[i] *= factor;
    }
}

__global__ void follow(int *const *table, int *out)
{
    *out = *table[0];
}

struct holder {
    int *inside;
    int n;
};

__global__ void use_holder(holder what)
{
    what.inside[0] = what.n;
}

cudaStream_t new_stream(void)
{
    cudaStream_t stream = nullptr;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

cudaEvent_t new_event(void)
{
    cudaEvent_t event = nullptr;
    CHECK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}

/* What the host writes between the copy's call and its end gets in, on some seed. */
void test_late_copy(void)
{
    int late = 0;
    cudaStream_t stream = new_stream();
    device_array<int> x(1);
    for (unsigned long seed = 1; seed <= 20; seed++) {
        standin_seed(seed);
        int source = 1, target = 0;
        CHECK_CUDA(cudaMemcpyAsync(x.get(), &source, sizeof(int), cudaMemcpyHostToDevice, stream));
        source = 2;
        CHECK_CUDA(cudaMemcpyAsync(&target, x.get(), sizeof(int), cudaMemcpyDeviceToHost, stream));
        CHECK_CUDA(cudaStreamSynchronize(stream));
        late += target == 2;
    }
    CHECK(late > 10);
    CHECK_CUDA(cudaStreamDestroy(stream));
    standin_seed(1);
}

/* x * 3 in one stream, then a read in another: right with the event, sometimes wrong without. */
int scale_in_two_streams(bool with_event)
{
    cudaStream_t one = new_stream(), two = new_stream();
    cudaEvent_t event = new_event();
    device_array<int> x(std::vector<int>(1, 1));
    int result = 0;
    LAUNCH(scale, 1, 1, one, x.get(), 1, 3);
    CHECK_CUDA(cudaEventRecord(event, one));
    if (with_event) {
        CHECK_CUDA(cudaStreamWaitEvent(two, event));
    }
    CHECK_CUDA(cudaMemcpyAsync(&result, x.get(), sizeof(int), cudaMemcpyDeviceToHost, two));
    CHECK_CUDA(cudaStreamSynchronize(two));
    CHECK_CUDA(cudaEventDestroy(event));
    CHECK_CUDA(cudaStreamDestroy(one));
    CHECK_CUDA(cudaStreamDestroy(two));
    CHECK_CUDA(cudaDeviceSynchronize());
    return result;
}

void test_events(void)
{
    int early = 0;
    for (unsigned long seed = 1; seed <= 20; seed++) {
        standin_seed(seed);
        CHECK(scale_in_two_streams(true) == 3);
        early += !under_thread_sanitizer && scale_in_two_streams(false) == 1;
    }
    CHECK(under_thread_sanitizer || early > 2);
    standin_seed(1);
}

void test_queries(void)
{
    cudaStream_t stream = new_stream();
    cudaEvent_t start = nullptr, end = nullptr;
    CHECK_CUDA(cudaEventCreate(&start));
    CHECK_CUDA(cudaEventCreate(&end));
    device_array<int> x(std::vector<int>(8, 2));
    CHECK_CUDA(cudaEventRecord(start, stream));
    for (int i = 0; i < 5; i++) {
        CHECK_CUDA(LAUNCH(scale, 1, 8, stream, x.get(), 8, 2));
    }
    CHECK_CUDA(cudaEventRecord(end, stream));
    int polls = 0;
    cudaError_t error;
    while ((error = cudaEventQuery(end)) == cudaErrorNotReady) {
        polls++;
    }
    CHECK(error == cudaSuccess && polls > 0 && cudaStreamQuery(stream) == cudaSuccess);
    float milliseconds = -1;
    CHECK_CUDA(cudaEventElapsedTime(&milliseconds, start, end));
    CHECK(milliseconds >= 0 && x.read()[7] == 64);
    CHECK_CUDA(cudaEventDestroy(start));
    CHECK_CUDA(cudaEventDestroy(end));
    CHECK_CUDA(cudaStreamDestroy(stream));
}

void test_memory(void)
{
    size_t available = 0, total = 0, after = 0;
    CHECK_CUDA(cudaMemGetInfo(&available, &total));
    void *large = nullptr, *small = nullptr;
    CHECK(cudaMalloc(&large, available + 1) == cudaErrorMemoryAllocation);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
    CHECK_CUDA(cudaMalloc(&small, 1000));
    CHECK(reinterpret_cast<uintptr_t>(small) % 256 == 0);
    CHECK_CUDA(cudaMemGetInfo(&after, &total));
    CHECK(available - after == 1000);
    std::vector<unsigned char> host(1000);
    CHECK_CUDA(cudaMemcpy(host.data(), small, 1000, cudaMemcpyDeviceToHost));
    CHECK(host[0] == 0xFB && host[999] == 0xFB);
    size_t complaints = standin_complaints();
    CHECK(cudaMemcpy(small, host.data(), 1001, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemset(host.data(), 0, 10) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(host.data(), small, 10, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK_CUDA(cudaFree(small));
    CHECK(cudaFree(small) == cudaErrorInvalidValue);
    CHECK_CUDA(cudaFree(nullptr));
    CHECK(standin_complaints() == complaints + 4);
    int *pinned = nullptr;
    CHECK_CUDA(cudaHostAlloc(&pinned, 40, cudaHostAllocDefault));
    pinned[9] = 1;
    CHECK_CUDA(cudaFreeHost(pinned));
    (void)cudaGetLastError();
}

/* A pointer that the device cannot follow makes the launch fail when it runs. */
void expect_illegal_address(cudaError_t launched)
{
    CHECK(launched == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
    standin_revive();
    (void)cudaGetLastError();
}

void test_arguments(void)
{
    int on_stack = 1;
    int *freed = nullptr;
    CHECK_CUDA(cudaMalloc(&freed, 256));
    CHECK_CUDA(cudaFree(freed));
    device_array<int> x(std::vector<int>(8, 2));
    holder stale = {freed, 1}, good = {x.get(), 7};
    expect_illegal_address(LAUNCH(scale, 1, 8, nullptr, &on_stack, 1, 2));
    expect_illegal_address(LAUNCH(scale, 1, 8, nullptr, freed, 1, 2));
    expect_illegal_address(LAUNCH(use_holder, 1, 1, nullptr, stale));
    CHECK_CUDA(LAUNCH(use_holder, 1, 1, nullptr, good));
    CHECK(x.read()[0] == 7);
    CHECK_CUDA(LAUNCH(scale, 1, 8, nullptr, x.get() + 8, 0, 2));
    CHECK_CUDA(LAUNCH(scale, 1, 8, nullptr, nullptr, 0, 2));
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK(LAUNCH(scale, 0, 8, nullptr, x.get(), 8, 2) == cudaErrorInvalidConfiguration);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    CHECK(LAUNCH(scale, 1, 1025, nullptr, x.get(), 8, 2) == cudaErrorInvalidConfiguration);
    CHECK(LAUNCH(scale, dim3(1, 65536), 8, nullptr, x.get(), 8, 2) ==
          cudaErrorInvalidConfiguration);
    CHECK(cudaGetLastError() != cudaSuccess && cudaGetLastError() == cudaSuccess);
}

/* A small job as a client writes it: every call checked, everything cleaned up at the first error.
 * 0 where all went well. */
int careful_job(std::vector<int> &data)
{
    size_t bytes = data.size() * sizeof(int);
    int *on_device = nullptr, *pinned = nullptr;
    cudaStream_t stream = nullptr;
    cudaEvent_t event = nullptr;
    int n = static_cast<int>(data.size());
    bool failed = cudaMalloc(&on_device, bytes) || cudaHostAlloc(&pinned, bytes, 0) ||
                  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) ||
                  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    if (!failed) {
        std::memcpy(pinned, data.data(), bytes);
        failed = cudaMemcpyAsync(on_device, pinned, bytes, cudaMemcpyHostToDevice, stream);
    }
    if (!failed) {
        LAUNCH(scale, 1, 32, stream, on_device, n, 2);
        failed = cudaGetLastError() ||
                 cudaMemcpyAsync(pinned, on_device, bytes, cudaMemcpyDeviceToHost, stream) ||
                 cudaEventRecord(event, stream) || cudaEventSynchronize(event);
    }
    if (!failed) {
        std::memcpy(data.data(), pinned, bytes);
    }
    failed |= on_device && cudaFree(on_device);
    failed |= pinned && cudaFreeHost(pinned);
    failed |= event && cudaEventDestroy(event);
    failed |= stream && cudaStreamDestroy(stream);
    return failed;
}

void test_faults(void)
{
    struct standin_counts before, after;
    standin_report(&before);
    for (int kind = STANDIN_FAULT_ALTERNATE; kind <= STANDIN_FAULT_STICKY; kind++) {
        standin_fail_kind(kind);
        standin_fail_at(0);
        std::vector<int> data(32, 21);
        CHECK(careful_job(data) == 0 && data[31] == 42);
        long calls = standin_calls();
        CHECK(calls == 13);
        for (long n = 1; n <= calls; n++) {
            standin_fail_at(n);
            CHECK(careful_job(data) != 0);
        }
        standin_fail_at(0);
        (void)cudaGetLastError();
    }
    standin_fail_kind(STANDIN_FAULT_ALTERNATE);
    standin_report(&after);
    CHECK(after.device_allocations == before.device_allocations &&
          after.host_allocations == before.host_allocations && after.streams == before.streams &&
          after.events == before.events && after.pending == 0);
}

void test_threads(void)
{
    std::vector<std::thread> threads;
    std::vector<std::vector<int>> data(4, std::vector<int>(32, 1));
    for (auto &each : data) {
        threads.emplace_back([&each] {
            for (int i = 0; i < 5; i++) {
                CHECK(careful_job(each) == 0);
            }
        });
    }
    for (auto &each : threads) {
        each.join();
    }
    for (auto &each : data) {
        CHECK(each[0] == 32 && each[31] == 32);
    }
}

/* With LORS_STANDIN_DEVICES=2: memory of one device in a stream of the other. */
void test_two_devices(void)
{
    int count = 0;
    CHECK_CUDA(cudaGetDeviceCount(&count));
    if (count < 2) {
        return;
    }
    device_array<int> first(8);
    CHECK_CUDA(cudaSetDevice(1));
    CHECK(cudaMemset(first.get(), 0, 32) == cudaErrorInvalidValue);
    expect_illegal_address(LAUNCH(scale, 1, 8, nullptr, first.get(), 8, 2));
    CHECK_CUDA(cudaSetDevice(0));
    CHECK_CUDA(cudaMemset(first.get(), 0, 32));
    CHECK_CUDA(cudaDeviceSynchronize());
}

/* Two streams without an event between them, and a host that does not wait. */
int run_stream_race(const std::string &which)
{
    cudaStream_t one = new_stream(), two = new_stream();
    device_array<int> x(std::vector<int>(8, 1));
    int result = 0;
    if (which == "streams") {
        LAUNCH(scale, 1, 8, one, x.get(), 8, 2);
        LAUNCH(scale, 1, 8, two, x.get(), 8, 2);
    } else {
        cudaMemcpyAsync(&result, x.get(), sizeof(int), cudaMemcpyDeviceToHost, one);
        LAUNCH(scale, 1, 8, two, x.get() + 1, 7, 2);
        cudaStreamSynchronize(which == "waits" ? one : two);
        std::printf("%d\n", result);
    }
    cudaDeviceSynchronize();
    return cudaStreamDestroy(one) || cudaStreamDestroy(two);
}

/* Hides a freed pointer where the checks of the arguments do not see it. */
int run_use_after_free(void)
{
    device_array<int *> table(1);
    device_array<int> out(1);
    int *freed = nullptr;
    cudaMalloc(&freed, 256);
    cudaMemcpy(table.get(), &freed, sizeof(freed), cudaMemcpyHostToDevice);
    cudaFree(freed);
    LAUNCH(follow, 1, 1, nullptr, table.get(), out.get());
    return cudaDeviceSynchronize();
}

int run_out_of_bounds(void)
{
    device_array<int> x(64); /* 256 bytes: a guard page follows at once */
    LAUNCH(scale, 1, 65, nullptr, x.get(), 65, 2);
    return cudaDeviceSynchronize();
}

int run_host_access(void)
{
    device_array<int> x(std::vector<int>(8, 1));
    volatile int *address = x.get();
    return *address;
}

int run_one_of_the_wrong(const std::string &what, const std::string &which)
{
    if (what == "race") {
        int result = run_race(which.c_str());
        return result >= 0 ? result : run_stream_race(which);
    }
    return what == "uaf"      ? run_use_after_free()
           : what == "bounds" ? run_out_of_bounds()
           : what == "host"   ? run_host_access()
                              : 2;
}

} /* namespace */

int main(int count, char **arguments)
{
    if (count > 1) {
        return run_one_of_the_wrong(arguments[1], count > 2 ? arguments[2] : "barrier");
    }
    test_kernels();
    if (!under_thread_sanitizer) { /* which would say that they race */
        test_missing_barrier();
        test_late_copy();
    }
    test_events();
    test_queries();
    test_memory();
    test_hangs();
    test_arguments();
    test_faults();
    test_threads();
    test_two_devices();
    test_libraries();
    test_timing(under_thread_sanitizer);
    struct standin_counts counts;
    CHECK(standin_report(&counts) == 0 && counts.pending == 0);
    std::printf("%s\n", checks_failed ? "failed" : "all checks passed");
    return checks_failed != 0;
}

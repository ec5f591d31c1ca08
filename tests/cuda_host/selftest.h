/* selftest.h - checks of the stand-in's own test, and the launch as the project writes it. */
#ifndef LORS_STANDIN_SELFTEST_H
#define LORS_STANDIN_SELFTEST_H

#include <cuda_runtime.h>
#include <standin.h>

#include <cstdio>
#include <vector>

#define LAUNCH(kernel, grid, block, stream, ...) \
    standin_launch(#kernel, kernel, grid, block, stream, __VA_ARGS__)

extern int checks_failed;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            checks_failed++; \
        } \
    } while (0)

#define CHECK_CUDA(call) CHECK((call) == cudaSuccess)

/* Memory of the device for the length of a test. */
template <class T> class device_array
{
  public:
    explicit device_array(size_t count) : count_(count)
    {
        CHECK_CUDA(cudaMalloc(&data_, count * sizeof(T)));
    }
    explicit device_array(const std::vector<T> &from) : device_array(from.size())
    {
        CHECK_CUDA(cudaMemcpy(data_, from.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
    }
    ~device_array()
    {
        CHECK_CUDA(cudaFree(data_));
    }
    device_array(const device_array &) = delete;
    device_array &operator=(const device_array &) = delete;

    T *get() const
    {
        return data_;
    }

    /* After all that the device has to do. */
    std::vector<T> read() const
    {
        std::vector<T> host(count_);
        CHECK_CUDA(cudaDeviceSynchronize());
        CHECK_CUDA(cudaMemcpy(host.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
        return host;
    }

  private:
    T *data_ = nullptr;
    size_t count_;
};

/* selftest_kernels.cpp */
void test_kernels(void);
void test_missing_barrier(void);
void test_hangs(void);
void test_timing(bool briefly);
int run_race(const char *which);

/* selftest_libraries.cpp */
void test_libraries(void);

#endif

/* selftest_libraries.cpp - cuBLAS and cuSOLVER of the stand-in against plain loops. */
#include "selftest.h"

#include <cublas_v2.h>
#include <cusolverDn.h>

#include <cmath>

#define CHECK_BLAS(call) CHECK((call) == CUBLAS_STATUS_SUCCESS)
#define CHECK_SOLVER(call) CHECK((call) == CUSOLVER_STATUS_SUCCESS)

namespace
{

/* Numbers between -1 and 1 that look like nothing. */
std::vector<double> numbers(size_t count)
{
    std::vector<double> made(count);
    unsigned state = 12345;
    for (double &each : made) {
        state = state * 1664525u + 1013904223u;
        each = static_cast<double>(state >> 8) / (1 << 23) - 1;
    }
    return made;
}

/* Column-major a (m x k) times b (k x n). */
std::vector<double> product(const std::vector<double> &a, const std::vector<double> &b, size_t m,
                            size_t n, size_t k)
{
    std::vector<double> c(m * n, 0.0);
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < m; i++) {
            for (size_t l = 0; l < k; l++) {
                c[i + j * m] += a[i + l * m] * b[l + j * k];
            }
        }
    }
    return c;
}

std::vector<double> transposed(const std::vector<double> &a, size_t rows, size_t columns)
{
    std::vector<double> made(a.size());
    for (size_t j = 0; j < columns; j++) {
        for (size_t i = 0; i < rows; i++) {
            made[j + i * columns] = a[i + j * rows];
        }
    }
    return made;
}

double distance(const std::vector<double> &a, const std::vector<double> &b)
{
    double largest = 0;
    for (size_t i = 0; i < a.size(); i++) {
        double one = std::fabs(a[i] - b[i]);
        largest = one <= largest ? largest : one; /* NaN gets in */
    }
    return largest;
}

void test_gemm(cublasHandle_t handle)
{
    std::vector<double> a = numbers(7 * 5), b = numbers(5 * 6);
    device_array<double> da(a), db(b), dc(7 * 6);
    double one = 1, zero = 0;
    CHECK_BLAS(cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 7, 6, 5, &one, da.get(), 7, db.get(),
                           5, &zero, dc.get(), 7));
    one = 100; /* was taken at the call */
    CHECK(distance(dc.read(), product(a, b, 7, 6, 5)) < 1e-14);
    one = 1;
    CHECK(cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 7, 6, 5, &one, da.get(), 6, db.get(), 5,
                      &zero, dc.get(), 7) == CUBLAS_STATUS_INVALID_VALUE);
    /* Two 3 x 3 products out of the same numbers. */
    CHECK_BLAS(cublasDgemmStridedBatched_64(handle, CUBLAS_OP_N, CUBLAS_OP_N, 3, 3, 3, &one,
                                            da.get(), 3, 9, db.get(), 3, 0, &zero, dc.get(), 3, 9,
                                            2));
    std::vector<double> second(a.begin() + 9, a.begin() + 18), left(b.begin(), b.begin() + 9);
    std::vector<double> got = dc.read();
    CHECK(distance(product(second, left, 3, 3, 3), {got.begin() + 9, got.begin() + 18}) < 1e-14);
}

void test_syrk_and_others(cublasHandle_t handle)
{
    std::vector<double> a = numbers(4 * 6);
    device_array<double> da(a), dc(std::vector<double>(16, 0.0));
    double one = 1, zero = 0, norm = 0;
    CHECK_BLAS(cublasDsyrk(handle, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, 4, 6, &one, da.get(), 4,
                           &zero, dc.get(), 4));
    std::vector<double> got = dc.read(), expected = product(a, transposed(a, 4, 6), 4, 4, 6);
    for (size_t j = 0; j < 4; j++) {
        for (size_t i = 0; i < 4; i++) {
            double wanted = i >= j ? expected[i + 4 * j] : 0;
            CHECK(std::fabs(got[i + 4 * j] - wanted) < 1e-14);
        }
    }
    CHECK_BLAS(cublasDnrm2(handle, 4, dc.get(), 5, &norm)); /* of the diagonal */
    CHECK(std::fabs(norm - std::sqrt(got[0] * got[0] + got[5] * got[5] + got[10] * got[10] +
                                     got[15] * got[15])) < 1e-13);
    std::vector<double> triangle = {2, 1, 0, 4}, right = {2, 5};
    device_array<double> dt(triangle), dr(right);
    CHECK_BLAS(cublasDtrsm(handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N,
                           CUBLAS_DIAG_NON_UNIT, 2, 1, &one, dt.get(), 2, dr.get(), 2));
    CHECK(distance(dr.read(), {1, 1}) < 1e-15);
}

/* A matrix that reaches behind its memory is an illegal address when the call runs. */
void test_operand_check(cublasHandle_t handle)
{
    device_array<float> small(15), good(16);
    float one = 1;
    CHECK_BLAS(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_T, 4, 4, 4, &one, small.get(), 4,
                           good.get(), 4, &one, good.get(), 4));
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    standin_revive();
    (void)cudaGetLastError();
}

/* Workspaces of the sizes that a call asks for. */
struct workspaces {
    size_t device_bytes = 0, host_bytes = 0;
};

void test_eigen(cusolverDnHandle_t handle, cusolverDnParams_t parameters)
{
    size_t n = 6;
    std::vector<double> a = numbers(n * n), transpose = transposed(a, n, n);
    for (size_t i = 0; i < n * n; i++) {
        a[i] += transpose[i];
    }
    device_array<double> da(a), dw(n);
    device_array<int> info(1);
    workspaces need;
    CHECK_SOLVER(cusolverDnXsyevd_bufferSize(
        handle, parameters, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, 6, CUDA_R_64F,
        da.get(), 6, CUDA_R_64F, dw.get(), CUDA_R_64F, &need.device_bytes, &need.host_bytes));
    device_array<char> work(need.device_bytes);
    std::vector<char> host(need.host_bytes);
    CHECK(cusolverDnXsyevd(handle, parameters, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, 6,
                           CUDA_R_64F, da.get(), 6, CUDA_R_64F, dw.get(), CUDA_R_64F, work.get(),
                           need.device_bytes - 1, host.data(), host.size(),
                           info.get()) == CUSOLVER_STATUS_INVALID_VALUE);
    CHECK_SOLVER(cusolverDnXsyevd(handle, parameters, CUSOLVER_EIG_MODE_VECTOR,
                                  CUBLAS_FILL_MODE_LOWER, 6, CUDA_R_64F, da.get(), 6, CUDA_R_64F,
                                  dw.get(), CUDA_R_64F, work.get(), need.device_bytes, host.data(),
                                  host.size(), info.get()));
    std::vector<double> v = da.read(), w = dw.read(), scaled = v;
    CHECK(info.read()[0] == 0);
    for (size_t i = 0; i < n * n; i++) {
        scaled[i] *= w[i / n];
    }
    CHECK(distance(product(scaled, transposed(v, n, n), n, n, n), a) < 1e-13);
    device_array<double> again(a), dw2(n);
    int64_t found = 0;
    CHECK_SOLVER(cusolverDnXsyevdx(
        handle, parameters, CUSOLVER_EIG_MODE_VECTOR, CUSOLVER_EIG_RANGE_I, CUBLAS_FILL_MODE_UPPER,
        6, CUDA_R_64F, again.get(), 6, nullptr, nullptr, 5, 6, &found, CUDA_R_64F, dw2.get(),
        CUDA_R_64F, work.get(), need.device_bytes, host.data(), host.size(), info.get()));
    std::vector<double> largest = dw2.read();
    CHECK(found == 2 && std::fabs(largest[0] - w[4]) < 1e-13 && std::isnan(largest[2]));
}

void test_batched_eigen(cusolverDnHandle_t handle, cusolverDnParams_t parameters)
{
    device_array<float> da(std::vector<float>{2, 1, 1, 2, 5, 0, 0, 4}), dw(4);
    device_array<int> info(2);
    workspaces need;
    CHECK_SOLVER(cusolverDnXsyevBatched_bufferSize(
        handle, parameters, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, 2, CUDA_R_32F,
        da.get(), 2, CUDA_R_32F, dw.get(), CUDA_R_32F, &need.device_bytes, &need.host_bytes, 2));
    device_array<char> work(need.device_bytes);
    std::vector<char> host(need.host_bytes);
    CHECK_SOLVER(cusolverDnXsyevBatched(
        handle, parameters, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, 2, CUDA_R_32F,
        da.get(), 2, CUDA_R_32F, dw.get(), CUDA_R_32F, work.get(), need.device_bytes, host.data(),
        host.size(), info.get(), 2));
    std::vector<float> w = dw.read();
    CHECK(std::fabs(w[0] - 1) < 1e-6f && std::fabs(w[1] - 3) < 1e-6f && w[2] == 4 && w[3] == 5);
    CHECK(info.read()[0] == 0 && info.read()[1] == 0);
}

void test_singular_values(cusolverDnHandle_t handle, cusolverDnParams_t parameters)
{
    size_t m = 7, n = 4;
    std::vector<double> a = numbers(m * n);
    device_array<double> da(a), ds(n), du(m * n), dvt(n * n);
    device_array<int> info(1);
    workspaces need;
    CHECK(cusolverDnXgesvd_bufferSize(handle, parameters, 'S', 'S', 4, 7, CUDA_R_64F, da.get(), 4,
                                      CUDA_R_64F, ds.get(), CUDA_R_64F, du.get(), 4, CUDA_R_64F,
                                      dvt.get(), 7, CUDA_R_64F, &need.device_bytes,
                                      &need.host_bytes) == CUSOLVER_STATUS_INVALID_VALUE);
    CHECK_SOLVER(cusolverDnXgesvd_bufferSize(handle, parameters, 'S', 'S', 7, 4, CUDA_R_64F,
                                             da.get(), 7, CUDA_R_64F, ds.get(), CUDA_R_64F,
                                             du.get(), 7, CUDA_R_64F, dvt.get(), 4, CUDA_R_64F,
                                             &need.device_bytes, &need.host_bytes));
    device_array<char> work(need.device_bytes);
    std::vector<char> host(need.host_bytes);
    CHECK_SOLVER(cusolverDnXgesvd(handle, parameters, 'S', 'S', 7, 4, CUDA_R_64F, da.get(), 7,
                                  CUDA_R_64F, ds.get(), CUDA_R_64F, du.get(), 7, CUDA_R_64F,
                                  dvt.get(), 4, CUDA_R_64F, work.get(), need.device_bytes,
                                  host.data(), host.size(), info.get()));
    std::vector<double> u = du.read(), s = ds.read();
    for (size_t i = 0; i < m * n; i++) {
        u[i] *= s[i / m];
    }
    CHECK(distance(product(u, dvt.read(), m, n, n), a) < 1e-14 * 10 && info.read()[0] == 0);
}

void test_cholesky(cusolverDnHandle_t handle, cusolverDnParams_t parameters)
{
    device_array<double> da(std::vector<double>{4, 2, 0, 5}), db(std::vector<double>{8, 9}),
        worse(std::vector<double>{1, 2, 0, 1});
    device_array<int> info(1);
    workspaces need;
    CHECK_SOLVER(cusolverDnXpotrf_bufferSize(handle, parameters, CUBLAS_FILL_MODE_LOWER, 2,
                                             CUDA_R_64F, da.get(), 2, CUDA_R_64F,
                                             &need.device_bytes, &need.host_bytes));
    device_array<char> work(need.device_bytes);
    std::vector<char> host(need.host_bytes);
    CHECK_SOLVER(cusolverDnXpotrf(handle, parameters, CUBLAS_FILL_MODE_LOWER, 2, CUDA_R_64F,
                                  da.get(), 2, CUDA_R_64F, work.get(), need.device_bytes,
                                  host.data(), host.size(), info.get()));
    CHECK(info.read()[0] == 0);
    CHECK_SOLVER(cusolverDnXpotrs(handle, parameters, CUBLAS_FILL_MODE_LOWER, 2, 1, CUDA_R_64F,
                                  da.get(), 2, CUDA_R_64F, db.get(), 2, info.get()));
    CHECK(distance(db.read(), {1.375, 1.25}) < 1e-15 && info.read()[0] == 0);
    CHECK_SOLVER(cusolverDnXpotrf(handle, parameters, CUBLAS_FILL_MODE_LOWER, 2, CUDA_R_64F,
                                  worse.get(), 2, CUDA_R_64F, work.get(), need.device_bytes,
                                  host.data(), host.size(), info.get()));
    CHECK(info.read()[0] == 2);
}

void test_cublas(void)
{
    cudaStream_t stream = nullptr, set = nullptr;
    cublasHandle_t handle = nullptr;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK_BLAS(cublasCreate(&handle));
    CHECK_BLAS(cublasSetStream(handle, stream));
    CHECK_BLAS(cublasGetStream(handle, &set));
    CHECK(set == stream);
    CHECK_BLAS(cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH));
    {
        device_array<char> work(1 << 16);
        CHECK_BLAS(cublasSetWorkspace(handle, work.get(), 1 << 16));
        test_gemm(handle);
        test_syrk_and_others(handle);
        CHECK_BLAS(cublasSetStream(handle, stream)); /* the workspace is not needed any more */
    }
    test_operand_check(handle);
    CHECK_BLAS(cublasDestroy(handle));
    CHECK_CUDA(cudaStreamDestroy(stream));
}

void test_cusolver(void)
{
    cudaStream_t stream = nullptr;
    cusolverDnHandle_t handle = nullptr;
    cusolverDnParams_t parameters = nullptr;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK_SOLVER(cusolverDnCreate(&handle));
    CHECK_SOLVER(cusolverDnCreateParams(&parameters));
    CHECK_SOLVER(cusolverDnSetStream(handle, stream));
    CHECK_SOLVER(cusolverDnSetDeterministicMode(handle, CUSOLVER_DETERMINISTIC_RESULTS));
    test_eigen(handle, parameters);
    test_batched_eigen(handle, parameters);
    test_singular_values(handle, parameters);
    test_cholesky(handle, parameters);
    CHECK_SOLVER(cusolverDnDestroyParams(parameters));
    CHECK_SOLVER(cusolverDnDestroy(handle));
    CHECK_CUDA(cudaStreamDestroy(stream));
}

} /* namespace */

void test_libraries(void)
{
    test_cublas();
    test_cusolver();
}

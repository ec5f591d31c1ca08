/* solver.cpp - cuSOLVER over the host's LAPACK: operations of a stream. */
#include "operand.h"
#include "solver_host.h"
#include "stream.h"

#include <cusolverDn.h>

#include <algorithm>

using namespace standin;

struct cusolverDnContext {
    int device = 0;
    cudaStream_t stream = nullptr;
};

struct cusolverDnParams {
    int device = 0;
};

namespace
{

/* Both kinds of objects, for the checks. */
std::set<const void *> &objects()
{
    static auto *const all = new std::set<const void *>;
    return *all;
}

cusolverStatus_t status_of(cudaError_t error)
{
    return error == cudaSuccess                 ? CUSOLVER_STATUS_SUCCESS
           : error == cudaErrorMemoryAllocation ? CUSOLVER_STATUS_ALLOC_FAILED
                                                : CUSOLVER_STATUS_EXECUTION_FAILED;
}

template <class T> cusolverStatus_t create(T **object)
{
    api_call call(call_kind::allocation);
    if (call.refused() || !object) {
        return object ? status_of(call.answer()) : CUSOLVER_STATUS_INVALID_VALUE;
    }
    host::use_one_thread();
    *object = new T;
    (*object)->device = current_device();
    objects().insert(*object);
    the_machine().handles++;
    return CUSOLVER_STATUS_SUCCESS;
}

template <class T> cusolverStatus_t destroy(T *object)
{
    api_call call(call_kind::release);
    if (!objects().erase(object)) {
        complain("cuSOLVER object %p does not exist", static_cast<void *>(object));
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    }
    if (!call.lost()) {
        run_until_empty(call.target());
    }
    delete object;
    the_machine().handles--;
    return status_of(call.answer());
}

/* A call with a handle: locked, counted, checked. */
class solver_call
{
  public:
    explicit solver_call(cusolverDnHandle_t handle) : call_(call_kind::plain), handle_(handle)
    {
        if (!objects().count(handle) || handle->device != current_device()) {
            complain("cuSOLVER handle %p is not one of device %d", static_cast<void *>(handle),
                     current_device());
            status_ = CUSOLVER_STATUS_NOT_INITIALIZED;
        } else if (call_.refused()) {
            status_ = status_of(call_.answer());
        }
    }

    cusolverStatus_t status() const
    {
        return status_;
    }

    cusolverStatus_t enqueue_if(bool valid, const char *name, std::function<cudaError_t()> run)
    {
        if (status_ != CUSOLVER_STATUS_SUCCESS || !valid) {
            return status_ != CUSOLVER_STATUS_SUCCESS ? status_ : CUSOLVER_STATUS_INVALID_VALUE;
        }
        CUstream_st *found = find_stream(handle_->stream);
        if (!found || found->device != handle_->device) {
            return CUSOLVER_STATUS_EXECUTION_FAILED;
        }
        enqueue(*found, name, std::move(run));
        return CUSOLVER_STATUS_SUCCESS;
    }

  private:
    api_call call_;
    cusolverDnHandle_t handle_;
    cusolverStatus_t status_ = CUSOLVER_STATUS_SUCCESS;
};

bool is_type(cudaDataType type)
{
    return type == CUDA_R_32F || type == CUDA_R_64F;
}

size_t size_of(cudaDataType type)
{
    return type == CUDA_R_64F ? sizeof(double) : sizeof(float);
}

/* What a call has to work in. On the device always something, on the host too, so that nobody
 * gets by with passing none. */
struct workspace {
    void *on_device;
    size_t device_bytes;
    void *on_host;
    size_t host_bytes;

    bool holds(size_t device_needed, size_t host_needed) const
    {
        return device_bytes >= device_needed && on_device && host_bytes >= host_needed && on_host;
    }

    cudaError_t use(int device) const
    {
        cudaError_t error = check_device_range(on_device, device_bytes, device, "workspace");
        if (error == cudaSuccess) {
            spoil_workspace(on_device, device_bytes);
            spoil_workspace(on_host, host_bytes);
        }
        return error;
    }
};

size_t device_need(int64_t rows, int64_t columns, cudaDataType type)
{
    return static_cast<size_t>(rows * columns + 32 * (rows + columns) + 64) * size_of(type);
}

size_t host_need(int64_t n)
{
    return static_cast<size_t>(8 * n + 64);
}

/* The symmetric eigenproblem in all its forms. */
struct symmetric {
    bool vectors, upper;
    int64_t n;
    cudaDataType type;
    void *a;
    int64_t lda;
    void *w;
    int *info;
    int64_t count = 1;
    bool valid_types;
    workspace work = {};
    host::eigen_range range = {};
    int64_t *found = nullptr;

    bool valid() const
    {
        return valid_types && n >= 0 && n <= INT32_MAX && lda >= std::max<int64_t>(n, 1) &&
               lda <= INT32_MAX && count >= 0;
    }

    cudaError_t run(int device) const
    {
        size_t element = size_of(type);
        cudaError_t error = work.use(device);
        error = error ? error
                      : use_operands({{a, element, n, n, lda, count, lda * n, true},
                                      {w, element, n, 1, n, count, n, true},
                                      {info, sizeof(int), count, 1, count, 1, 0, true}},
                                     device, "syev");
        for (int64_t i = 0; error == cudaSuccess && i < count; i++) {
            char *matrix = static_cast<char *>(a) + static_cast<size_t>(i * lda * n) * element;
            char *values = static_cast<char *>(w) + static_cast<size_t>(i * n) * element;
            if (found) {
                sanitizer::client_scope scope;
                sanitizer::writes(found, sizeof(*found));
            }
            info[i] = host::symmetric_eigen(type == CUDA_R_64F, vectors, upper, n, matrix, lda,
                                            values, range, found);
        }
        return error;
    }
};

symmetric make_symmetric(cusolverEigMode_t jobz, cublasFillMode_t uplo, int64_t n,
                         cudaDataType type_a, void *a, int64_t lda, cudaDataType type_w, void *w,
                         cudaDataType compute_type, int *info, int64_t count = 1)
{
    symmetric made = {};
    made.vectors = jobz == CUSOLVER_EIG_MODE_VECTOR;
    made.upper = uplo == CUBLAS_FILL_MODE_UPPER;
    made.n = n;
    made.type = type_a;
    made.a = a;
    made.lda = lda;
    made.w = w;
    made.info = info;
    made.count = count;
    made.valid_types = is_type(type_a) && type_w == type_a && compute_type == type_a;
    return made;
}

/* Writes what a call of the shape needs. */
cusolverStatus_t answer_sizes(cusolverDnHandle_t handle, bool valid, size_t device_needed,
                              size_t host_needed, size_t *device_bytes, size_t *host_bytes)
{
    solver_call call(handle);
    if (call.status() != CUSOLVER_STATUS_SUCCESS) {
        return call.status();
    }
    if (!valid || !device_bytes || !host_bytes) {
        return CUSOLVER_STATUS_INVALID_VALUE;
    }
    *device_bytes = device_needed;
    *host_bytes = host_needed;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t answer_sizes(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                              const symmetric &what, size_t *device_bytes, size_t *host_bytes)
{
    bool valid = parameters && what.valid();
    return answer_sizes(handle, valid, valid ? device_need(what.n, what.n, what.type) : 0,
                        valid ? host_need(what.n) : 0, device_bytes, host_bytes);
}

cusolverStatus_t solve(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                       const symmetric &what, const char *name)
{
    solver_call call(handle);
    bool valid = parameters && what.valid() && what.info && objects().count(parameters) &&
                 what.work.holds(device_need(what.n, what.n, what.type), host_need(what.n));
    int device = current_device();
    return call.enqueue_if(valid, name, [=] { return what.run(device); });
}

/* The bounds of a range, checked; false where they make no sense. */
bool set_range(symmetric &what, cusolverEigRange_t range, const void *lower, const void *upper,
               int64_t first, int64_t last, int64_t *found)
{
    what.found = found;
    what.range.kind = range == CUSOLVER_EIG_RANGE_I   ? 'I'
                      : range == CUSOLVER_EIG_RANGE_V ? 'V'
                                                      : 'A';
    what.range.first = first;
    what.range.last = last;
    if (what.range.kind == 'V' && lower && upper && what.valid_types) {
        bool wide = what.type == CUDA_R_64F;
        what.range.lower = wide ? *static_cast<const double *>(lower)
                                : static_cast<double>(*static_cast<const float *>(lower));
        what.range.upper = wide ? *static_cast<const double *>(upper)
                                : static_cast<double>(*static_cast<const float *>(upper));
    }
    return found && (what.range.kind != 'I' || (first >= 1 && first <= last && last <= what.n)) &&
           (what.range.kind != 'V' || (lower && upper && what.range.lower < what.range.upper));
}

struct singular {
    char jobu, jobvt;
    int64_t m, n;
    cudaDataType type;
    void *a, *s, *u, *vt;
    int64_t lda, ldu, ldvt;
    int *info;
    bool valid_types;
    workspace work;

    bool valid() const
    {
        auto is_job = [](char job) { return job == 'A' || job == 'S' || job == 'O' || job == 'N'; };
        auto stores = [](char job) { return job == 'A' || job == 'S'; };
        return valid_types && m >= n && n >= 0 && m <= INT32_MAX &&
               lda >= std::max<int64_t>(m, 1) && lda <= INT32_MAX && is_job(jobu) &&
               is_job(jobvt) && (jobu != 'O' || jobvt != 'O') && ldu >= 1 && ldvt >= 1 &&
               (!stores(jobu) || ldu >= m) && (!stores(jobvt) || ldvt >= n);
    }

    cudaError_t run(int device) const
    {
        size_t element = size_of(type);
        int64_t columns_u = jobu == 'A' ? m : jobu == 'S' ? n : 0;
        int64_t rows_vt = jobvt == 'A' || jobvt == 'S' ? n : 0;
        cudaError_t error = work.use(device);
        error = error ? error
                      : use_operands({{a, element, m, n, lda, 1, 0, true},
                                      {s, element, n, 1, n, 1, 0, true},
                                      {u, element, m, columns_u, ldu, 1, 0, true},
                                      {vt, element, rows_vt, n, ldvt, 1, 0, true},
                                      {info, sizeof(int), 1, 1, 1, 1, 0, true}},
                                     device, "gesvd");
        if (error == cudaSuccess) {
            *info = host::singular_values(type == CUDA_R_64F, jobu, jobvt, m, n, a, lda, s, u, ldu,
                                          vt, ldvt);
        }
        return error;
    }
};

/* A Cholesky factor, or what is solved by it (b is there). */
struct definite {
    bool upper;
    int64_t n;
    cudaDataType type;
    void *a;
    int64_t lda;
    int *info;
    bool valid_types;
    workspace work = {};
    void *b = nullptr;
    int64_t n_right = 0, ldb = 1;

    bool valid() const
    {
        return valid_types && n >= 0 && n <= INT32_MAX && lda >= std::max<int64_t>(n, 1) &&
               lda <= INT32_MAX && n_right >= 0 && n_right <= INT32_MAX &&
               (!b || ldb >= std::max<int64_t>(n, 1));
    }

    cudaError_t run(int device) const
    {
        size_t element = size_of(type);
        bool wide = type == CUDA_R_64F;
        cudaError_t error = b ? cudaSuccess : work.use(device);
        error = error ? error
                      : use_operands({{a, element, n, n, lda, 1, 0, !b},
                                      {b, element, n, n_right, ldb, 1, 0, true},
                                      {info, sizeof(int), 1, 1, 1, 1, 0, true}},
                                     device, b ? "potrs" : "potrf");
        if (error == cudaSuccess) {
            *info = b ? host::cholesky_solve(wide, upper, n, n_right, a, lda, b, ldb)
                      : host::cholesky(wide, upper, n, a, lda);
        }
        return error;
    }
};

} /* namespace */

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle)
{
    return create(handle);
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle)
{
    return destroy(handle);
}

cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t *parameters)
{
    return create(parameters);
}

cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t parameters)
{
    return destroy(parameters);
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream)
{
    solver_call call(handle);
    if (call.status() == CUSOLVER_STATUS_SUCCESS) {
        handle->stream = stream;
    }
    return call.status();
}

cusolverStatus_t cusolverDnGetStream(cusolverDnHandle_t handle, cudaStream_t *stream)
{
    solver_call call(handle);
    if (call.status() == CUSOLVER_STATUS_SUCCESS) {
        *stream = handle->stream;
    }
    return call.status();
}

cusolverStatus_t cusolverDnSetDeterministicMode(cusolverDnHandle_t handle,
                                                cusolverDeterministicMode_t mode)
{
    solver_call call(handle);
    bool known =
        mode == CUSOLVER_DETERMINISTIC_RESULTS || mode == CUSOLVER_ALLOW_NON_DETERMINISTIC_RESULTS;
    return call.status() != CUSOLVER_STATUS_SUCCESS || known ? call.status()
                                                             : CUSOLVER_STATUS_INVALID_VALUE;
}

cusolverStatus_t cusolverDnXsyevd_bufferSize(cusolverDnHandle_t handle,
                                             cusolverDnParams_t parameters, cusolverEigMode_t jobz,
                                             cublasFillMode_t uplo, int64_t n, cudaDataType type_a,
                                             const void *, int64_t lda, cudaDataType type_w,
                                             const void *, cudaDataType compute_type,
                                             size_t *device_bytes, size_t *host_bytes)
{
    symmetric what =
        make_symmetric(jobz, uplo, n, type_a, nullptr, lda, type_w, nullptr, compute_type, nullptr);
    return answer_sizes(handle, parameters, what, device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                  cusolverEigMode_t jobz, cublasFillMode_t uplo, int64_t n,
                                  cudaDataType type_a, void *a, int64_t lda, cudaDataType type_w,
                                  void *w, cudaDataType compute_type, void *device_buffer,
                                  size_t device_bytes, void *host_buffer, size_t host_bytes,
                                  int *info)
{
    symmetric what = make_symmetric(jobz, uplo, n, type_a, a, lda, type_w, w, compute_type, info);
    what.work = {device_buffer, device_bytes, host_buffer, host_bytes};
    return solve(handle, parameters, what, "syevd");
}

cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t handle,
                                                   cusolverDnParams_t parameters,
                                                   cusolverEigMode_t jobz, cublasFillMode_t uplo,
                                                   int64_t n, cudaDataType type_a, const void *,
                                                   int64_t lda, cudaDataType type_w, const void *,
                                                   cudaDataType compute_type, size_t *device_bytes,
                                                   size_t *host_bytes, int64_t count)
{
    symmetric what = make_symmetric(jobz, uplo, n, type_a, nullptr, lda, type_w, nullptr,
                                    compute_type, nullptr, count);
    return answer_sizes(handle, parameters, what, device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                        cusolverEigMode_t jobz, cublasFillMode_t uplo, int64_t n,
                                        cudaDataType type_a, void *a, int64_t lda,
                                        cudaDataType type_w, void *w, cudaDataType compute_type,
                                        void *device_buffer, size_t device_bytes, void *host_buffer,
                                        size_t host_bytes, int *info, int64_t count)
{
    symmetric what =
        make_symmetric(jobz, uplo, n, type_a, a, lda, type_w, w, compute_type, info, count);
    what.work = {device_buffer, device_bytes, host_buffer, host_bytes};
    return solve(handle, parameters, what, "syevBatched");
}

cusolverStatus_t cusolverDnXsyevdx_bufferSize(cusolverDnHandle_t handle,
                                              cusolverDnParams_t parameters, cusolverEigMode_t jobz,
                                              cusolverEigRange_t range, cublasFillMode_t uplo,
                                              int64_t n, cudaDataType type_a, const void *,
                                              int64_t lda, void *lower, void *upper, int64_t first,
                                              int64_t last, int64_t *found, cudaDataType type_w,
                                              const void *, cudaDataType compute_type,
                                              size_t *device_bytes, size_t *host_bytes)
{
    symmetric what =
        make_symmetric(jobz, uplo, n, type_a, nullptr, lda, type_w, nullptr, compute_type, nullptr);
    what.valid_types &= set_range(what, range, lower, upper, first, last, found);
    return answer_sizes(handle, parameters, what, device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXsyevdx(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                   cusolverEigMode_t jobz, cusolverEigRange_t range,
                                   cublasFillMode_t uplo, int64_t n, cudaDataType type_a, void *a,
                                   int64_t lda, void *lower, void *upper, int64_t first,
                                   int64_t last, int64_t *found, cudaDataType type_w, void *w,
                                   cudaDataType compute_type, void *device_buffer,
                                   size_t device_bytes, void *host_buffer, size_t host_bytes,
                                   int *info)
{
    symmetric what = make_symmetric(jobz, uplo, n, type_a, a, lda, type_w, w, compute_type, info);
    what.work = {device_buffer, device_bytes, host_buffer, host_bytes};
    what.valid_types &= set_range(what, range, lower, upper, first, last, found);
    return solve(handle, parameters, what, "syevdx");
}

cusolverStatus_t cusolverDnXgesvd_bufferSize(
    cusolverDnHandle_t handle, cusolverDnParams_t parameters, signed char jobu, signed char jobvt,
    int64_t m, int64_t n, cudaDataType type_a, const void *, int64_t lda, cudaDataType type_s,
    const void *, cudaDataType type_u, const void *, int64_t ldu, cudaDataType type_vt,
    const void *, int64_t ldvt, cudaDataType compute_type, size_t *device_bytes, size_t *host_bytes)
{
    singular what = {};
    what.jobu = static_cast<char>(jobu);
    what.jobvt = static_cast<char>(jobvt);
    what.m = m;
    what.n = n;
    what.lda = lda;
    what.ldu = ldu;
    what.ldvt = ldvt;
    what.valid_types = is_type(type_a) && type_s == type_a && type_u == type_a &&
                       type_vt == type_a && compute_type == type_a;
    bool valid = parameters && what.valid();
    return answer_sizes(handle, valid, valid ? device_need(m, n, type_a) : 0,
                        valid ? host_need(n) : 0, device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXgesvd(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                  signed char jobu, signed char jobvt, int64_t m, int64_t n,
                                  cudaDataType type_a, void *a, int64_t lda, cudaDataType type_s,
                                  void *s, cudaDataType type_u, void *u, int64_t ldu,
                                  cudaDataType type_vt, void *vt, int64_t ldvt,
                                  cudaDataType compute_type, void *device_buffer,
                                  size_t device_bytes, void *host_buffer, size_t host_bytes,
                                  int *info)
{
    solver_call call(handle);
    singular what = {static_cast<char>(jobu),
                     static_cast<char>(jobvt),
                     m,
                     n,
                     type_a,
                     a,
                     s,
                     u,
                     vt,
                     lda,
                     ldu,
                     ldvt,
                     info,
                     is_type(type_a) && type_s == type_a && type_u == type_a && type_vt == type_a &&
                         compute_type == type_a,
                     {device_buffer, device_bytes, host_buffer, host_bytes}};
    bool valid = objects().count(parameters) && what.valid() && info &&
                 what.work.holds(device_need(m, n, type_a), host_need(n));
    int device = current_device();
    return call.enqueue_if(valid, "gesvd", [=] { return what.run(device); });
}

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t handle,
                                             cusolverDnParams_t parameters, cublasFillMode_t uplo,
                                             int64_t n, cudaDataType type_a, const void *,
                                             int64_t lda, cudaDataType compute_type,
                                             size_t *device_bytes, size_t *host_bytes)
{
    definite what = {uplo == CUBLAS_FILL_MODE_UPPER, n, type_a, nullptr, lda, nullptr,
                     is_type(type_a) && compute_type == type_a};
    bool valid = parameters && what.valid();
    return answer_sizes(handle, valid, valid ? device_need(n, 1, type_a) : 0,
                        valid ? host_need(n) : 0, device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                  cublasFillMode_t uplo, int64_t n, cudaDataType type_a, void *a,
                                  int64_t lda, cudaDataType compute_type, void *device_buffer,
                                  size_t device_bytes, void *host_buffer, size_t host_bytes,
                                  int *info)
{
    solver_call call(handle);
    definite what = {uplo == CUBLAS_FILL_MODE_UPPER, n, type_a, a, lda, info,
                     is_type(type_a) && compute_type == type_a};
    what.work = {device_buffer, device_bytes, host_buffer, host_bytes};
    bool valid = objects().count(parameters) && what.valid() && info &&
                 what.work.holds(device_need(n, 1, type_a), host_need(n));
    int device = current_device();
    return call.enqueue_if(valid, "potrf", [=] { return what.run(device); });
}

cusolverStatus_t cusolverDnXpotrs(cusolverDnHandle_t handle, cusolverDnParams_t parameters,
                                  cublasFillMode_t uplo, int64_t n, int64_t n_right,
                                  cudaDataType type_a, const void *a, int64_t lda,
                                  cudaDataType type_b, void *b, int64_t ldb, int *info)
{
    solver_call call(handle);
    definite what = {uplo == CUBLAS_FILL_MODE_UPPER, n, type_a, const_cast<void *>(a), lda, info,
                     is_type(type_a) && type_b == type_a};
    what.b = b;
    what.n_right = n_right;
    what.ldb = ldb;
    bool valid = objects().count(parameters) && what.valid() && info && b;
    int device = current_device();
    return call.enqueue_if(valid, "potrs", [=] { return what.run(device); });
}

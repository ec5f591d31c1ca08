/* solver_host.cpp - the host's LAPACK, one element type or the other. */
#include "solver_host.h"

#include <lapacke.h>

#include <algorithm>
#include <limits>
#include <vector>

extern "C" void openblas_set_num_threads(int count);

namespace standin::host
{

namespace
{

/* The functions of LAPACK with workspaces of the caller, which test nothing for NaN. */
template <class T> struct lapack;

#define STANDIN_LAPACK(L, T) \
    template <> struct lapack<T> { \
        static constexpr auto syevd = LAPACKE_##L##syevd_work; \
        static constexpr auto syevr = LAPACKE_##L##syevr_work; \
        static constexpr auto gesvd = LAPACKE_##L##gesvd_work; \
        static constexpr auto potrf = LAPACKE_##L##potrf_work; \
        static constexpr auto potrs = LAPACKE_##L##potrs_work; \
    };

STANDIN_LAPACK(s, float)
STANDIN_LAPACK(d, double)

lapack_int as_int(int64_t value)
{
    return static_cast<lapack_int>(value);
}

/* A second call, with the room that the first one asked for. */
template <class T, class Call> int with_room(Call call)
{
    T needed = 0;
    lapack_int needed_integers = 0;
    int info = call(&needed, -1, &needed_integers, -1);
    if (info != 0) {
        return info;
    }
    std::vector<T> work(static_cast<size_t>(needed) + 1);
    std::vector<lapack_int> integers(static_cast<size_t>(needed_integers) + 1);
    return call(work.data(), as_int(static_cast<int64_t>(needed)), integers.data(),
                needed_integers);
}

template <class T> int all_values(char job, char uplo, int64_t n, T *a, int64_t lda, T *w)
{
    return with_room<T>([=](T *work, lapack_int size, lapack_int *integers, lapack_int count) {
        return lapack<T>::syevd(LAPACK_COL_MAJOR, job, uplo, as_int(n), a, as_int(lda), w, work,
                                size, integers, count);
    });
}

template <class T>
int some_values(char job, char uplo, int64_t n, T *a, int64_t lda, T *w, const eigen_range &range,
                int64_t *found)
{
    size_t order = static_cast<size_t>(n);
    std::vector<T> vectors(job == 'V' ? order * order : 1), values(order);
    std::vector<lapack_int> support(2 * order + 2);
    lapack_int count = 0;
    int info = with_room<T>([&](T *work, lapack_int size, lapack_int *integers, lapack_int length) {
        return lapack<T>::syevr(LAPACK_COL_MAJOR, job, range.kind, uplo, as_int(n), a, as_int(lda),
                                static_cast<T>(range.lower), static_cast<T>(range.upper),
                                as_int(range.first), as_int(range.last), T{0}, &count,
                                values.data(), vectors.data(), as_int(n), support.data(), work,
                                size, integers, length);
    });
    *found = count;
    std::fill(w, w + n, std::numeric_limits<T>::quiet_NaN());
    std::copy_n(values.data(), count, w);
    for (int64_t j = 0; j < n; j++) {
        bool kept = job == 'V' && j < count;
        for (int64_t i = 0; i < n; i++) {
            a[i + j * lda] = kept ? vectors[static_cast<size_t>(i + j * n)]
                                  : std::numeric_limits<T>::quiet_NaN();
        }
    }
    return info;
}

template <class T>
int eigen(bool vectors, bool upper, int64_t n, T *a, int64_t lda, T *w, const eigen_range &range,
          int64_t *found)
{
    char job = vectors ? 'V' : 'N', uplo = upper ? 'U' : 'L';
    if (n == 0) {
        return 0;
    }
    return range.kind ? some_values(job, uplo, n, a, lda, w, range, found)
                      : all_values(job, uplo, n, a, lda, w);
}

template <class T>
int singular(char jobu, char jobvt, int64_t m, int64_t n, T *a, int64_t lda, T *s, T *u,
             int64_t ldu, T *vt, int64_t ldvt)
{
    if (n == 0) {
        return 0;
    }
    return with_room<T>([=](T *work, lapack_int size, lapack_int *, lapack_int) {
        return lapack<T>::gesvd(LAPACK_COL_MAJOR, jobu, jobvt, as_int(m), as_int(n), a, as_int(lda),
                                s, u, as_int(ldu), vt, as_int(ldvt), work, size);
    });
}

} /* namespace */

void use_one_thread()
{
    openblas_set_num_threads(1);
}

int symmetric_eigen(bool wide, bool vectors, bool upper, int64_t n, void *a, int64_t lda, void *w,
                    const eigen_range &range, int64_t *found)
{
    if (wide) {
        return eigen(vectors, upper, n, static_cast<double *>(a), lda, static_cast<double *>(w),
                     range, found);
    }
    return eigen(vectors, upper, n, static_cast<float *>(a), lda, static_cast<float *>(w), range,
                 found);
}

int singular_values(bool wide, char jobu, char jobvt, int64_t m, int64_t n, void *a, int64_t lda,
                    void *s, void *u, int64_t ldu, void *vt, int64_t ldvt)
{
    if (wide) {
        return singular(jobu, jobvt, m, n, static_cast<double *>(a), lda, static_cast<double *>(s),
                        static_cast<double *>(u), ldu, static_cast<double *>(vt), ldvt);
    }
    return singular(jobu, jobvt, m, n, static_cast<float *>(a), lda, static_cast<float *>(s),
                    static_cast<float *>(u), ldu, static_cast<float *>(vt), ldvt);
}

template <class T> static int factor(bool upper, int64_t n, void *a, int64_t lda)
{
    return lapack<T>::potrf(LAPACK_COL_MAJOR, upper ? 'U' : 'L', as_int(n), static_cast<T *>(a),
                            as_int(lda));
}

template <class T>
static int solve(bool upper, int64_t n, int64_t n_right, const void *a, int64_t lda, void *b,
                 int64_t ldb)
{
    return lapack<T>::potrs(LAPACK_COL_MAJOR, upper ? 'U' : 'L', as_int(n), as_int(n_right),
                            static_cast<const T *>(a), as_int(lda), static_cast<T *>(b),
                            as_int(ldb));
}

int cholesky(bool wide, bool upper, int64_t n, void *a, int64_t lda)
{
    return wide ? factor<double>(upper, n, a, lda) : factor<float>(upper, n, a, lda);
}

int cholesky_solve(bool wide, bool upper, int64_t n, int64_t n_right, const void *a, int64_t lda,
                   void *b, int64_t ldb)
{
    return wide ? solve<double>(upper, n, n_right, a, lda, b, ldb)
                : solve<float>(upper, n, n_right, a, lda, b, ldb);
}

} /* namespace standin::host */

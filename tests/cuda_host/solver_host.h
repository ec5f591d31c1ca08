/* solver_host.h - the host's LAPACK, one element type or the other.
 *
 * Private to the stand-in. Matrices are column-major; results are LAPACK's info.
 */
#ifndef LORS_STANDIN_SOLVER_HOST_H
#define LORS_STANDIN_SOLVER_HOST_H

#include <cstdint>

namespace standin::host
{

/* Which eigenvalues: 0 or 'A' all, 'I' those from first to last, counted from 1 in ascending
 * order, 'V' those above lower and up to upper. */
struct eigen_range {
    char kind;
    int64_t first, last;
    double lower, upper;
};

void use_one_thread();

/* Values go to w, ascending, vectors over the first columns of a; with kind not 0 the number of
 * values goes to *found. What is left of w and a then holds nothing of use. */
int symmetric_eigen(bool wide, bool vectors, bool upper, int64_t n, void *a, int64_t lda, void *w,
                    const eigen_range &range, int64_t *found);

int singular_values(bool wide, char jobu, char jobvt, int64_t m, int64_t n, void *a, int64_t lda,
                    void *s, void *u, int64_t ldu, void *vt, int64_t ldvt);

/* The factor of a symmetric positive definite matrix over its triangle; what it solves, over b. */
int cholesky(bool wide, bool upper, int64_t n, void *a, int64_t lda);
int cholesky_solve(bool wide, bool upper, int64_t n, int64_t n_right, const void *a, int64_t lda,
                   void *b, int64_t ldb);

} /* namespace standin::host */

#endif

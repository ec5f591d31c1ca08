/* rows.c - operations row by row: how far a row lies from another, and weights by that. */
#include "backend/rows.h"
#include "cpu/cpu_internal.h"

lors_status lors_cpu_diverge(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                             int64_t n_rows, int64_t n_cols)
{
    double *to = lors_cpu_at(out);
    const float *left = lors_cpu_at(a), *right = lors_cpu_at(b);
    for (int64_t row = 0; row < n_rows; row++) {
        to[row] = queue->kernels->diverge_row(left + row * n_cols, right + row * n_cols, n_cols);
    }
    return LORS_OK;
}

lors_status lors_cpu_weigh_rows(lors_queue *queue, lors_view out, lors_view a, lors_view b,
                                lors_view factors, int64_t n_rows, int64_t n_cols)
{
    float *to = lors_cpu_at(out);
    const float *left = lors_cpu_at(a), *right = lors_cpu_at(b);
    const double *by = lors_cpu_at(factors);
    for (int64_t row = 0; row < n_rows; row++) {
        int64_t at = row * n_cols;
        queue->kernels->weigh_row(to + at, left + at, right + at, by[row], n_cols);
    }
    return LORS_OK;
}

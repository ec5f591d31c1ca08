/* by_column_kernels.c - products and sums of each column of a matrix by itself. */
#include "backend/arithmetic.h"
#include "cpu/cpu_internal.h"

/* One group of rows: neighbouring columns side by side, one row after another. */
void LORS_KERNEL(gram_columns_group)(double *dots, const float *x, int64_t stride,
                                     int32_t n_slices, int64_t n_rows, int64_t n_cols)
{
    for (int32_t i = 0; i < n_slices; i++) {
        for (int32_t j = i; j < n_slices; j++, dots += n_cols) {
            const float *a = x + i * stride, *b = x + j * stride;
            memset(dots, 0, (size_t)n_cols * sizeof *dots);
            for (int64_t row = 0; row < n_rows; row++, a += n_cols, b += n_cols) {
                for (int64_t col = 0; col < n_cols; col++) {
                    dots[col] += (double)a[col] * (double)b[col];
                }
            }
        }
    }
}

/* One row. */
void LORS_KERNEL(accumulate_columns_row)(double *acc, const float *stack, const float *base,
                                         const lors_column_sum *s)
{
    for (int64_t col = 0; col < s->n_cols; col++) {
        double sum = -0.0, lost = 0; /* what the first term is added to leaves its sign */
        bool any = false;
        for (int32_t k = 0; k < s->n_models; k++) {
            double weight = s->weights[k * s->n_cols + col];
            double x = (double)stack[k * s->stride + col];
            if (weight != 0) {
                any = true;
                lors_add_exactly(&sum, &lost, weight * (x - (base ? (double)base[col] : 0)));
            }
        }
        acc[col] = any ? lors_with_lost(sum, lost) : 0;
    }
}

/* few_kernels.c - products of a matrix with a few columns, each reading the matrix once.
 *
 * A library's matrix product copies the matrix into its own order first, which costs more than the
 * product itself where the other factor has 8 columns. Here the few columns lie interleaved (all
 * columns of a row side by side), the matrix is read as it is. Columns come in eights. Where there
 * are no fused vectors to write that for, the library does it.
 */
#include "cpu/cpu_internal.h"

#ifdef __AVX2__

#include "cpu/few_lanes.h"

enum {
    CHUNK = 256, /* columns of the matrix at a time: their part of the few stays in cache */
    ROWS = 8,    /* rows (times eights of columns) held in registers */
    LINE = 16    /* columns of a cache line */
};

/* Element j of a row, rows counted from two places: fewer registers for addresses. */
LORS_FUSED_INLINE lors_f32x8 factor_at(const float *const x[2], int64_t stride, int row)
{
    return lors_f32x8_all(x[row / 4][row % 4 * stride]);
}

/* The rows that come next are fetched while these are worked on. */
LORS_FUSED_INLINE void fetch_ahead(const float *x, int64_t stride, const int rows)
{
    for (int row = 0; row < rows; row++) {
        __builtin_prefetch(x + (row + rows) * stride);
    }
}

/* y[rows][b] += x[rows][n] z[n][b], `eights` of its columns. */
LORS_FUSED_INLINE void times_tile(float *y, const float *x, int64_t stride, int64_t n,
                                  const float *z, int64_t b, const int rows, const int eights)
{
    lors_f32x8 sum[ROWS] = {{0}};
    for (int64_t begin = 0; begin < n; begin += LINE) {
        int64_t end = begin + LINE < n ? begin + LINE : n;
        fetch_ahead(x + begin, stride, rows);
        const float *at[2] = {x + begin, x + 4 * stride + begin};
        for (int64_t j = begin; j < end; j++, at[0]++, at[1]++) {
            for (int row = 0; row < rows; row++) {
                lors_f32x8 factor = factor_at(at, stride, row);
                for (int e = 0; e < eights; e++) {
                    lors_f32x8 column = lors_f32x8_at(z + j * b + 8 * e);
                    sum[row * eights + e] = lors_f32x8_add(factor, column, sum[row * eights + e]);
                }
            }
        }
    }
    for (int row = 0; row < rows; row++) {
        for (int e = 0; e < eights; e++) {
            lors_f32x8 total = lors_f32x8_at(y + row * b + 8 * e) + sum[row * eights + e];
            memcpy(y + row * b + 8 * e, &total, sizeof total);
        }
    }
}

LORS_FUSED_INLINE void times_rows(float *y, const float *x, int64_t stride, int64_t n_rows,
                                  int64_t n, const float *z, int64_t b, const int eights)
{
    int64_t row = 0;
    for (; row + ROWS / eights <= n_rows; row += ROWS / eights) {
        times_tile(y + row * b, x + row * stride, stride, n, z, b, ROWS / eights, eights);
    }
    for (; row < n_rows; row++) {
        times_tile(y + row * b, x + row * stride, stride, n, z, b, 1, eights);
    }
}

LORS_FUSED void LORS_KERNEL(times_few)(float *y, const float *x, int64_t stride, int64_t n_rows,
                                       int64_t n_cols, const float *z, int64_t b)
{
    for (int64_t first = 0; first < n_cols; first += CHUNK) {
        int64_t n = n_cols - first < CHUNK ? n_cols - first : CHUNK, c = 0;
        for (; c + 16 <= b; c += 16) {
            times_rows(y + c, x + first, stride, n_rows, n, z + first * b + c, b, 2);
        }
        if (c < b) {
            times_rows(y + c, x + first, stride, n_rows, n, z + first * b + c, b, 1);
        }
    }
}

/* w[n][b] += x[rows][n]' y[rows][b], `eights` of its columns: the sums of even and of odd rows
 * apart. */
LORS_FUSED_INLINE void add_tile(float *w, const float *x, int64_t stride, int64_t n, const float *y,
                                int64_t b, const int rows, const int eights)
{
    lors_f32x8 factor[ROWS];
    for (int row = 0; row < rows; row++) {
        for (int e = 0; e < eights; e++) {
            factor[row * eights + e] = lors_f32x8_at(y + row * b + 8 * e);
        }
    }
    for (int64_t begin = 0; begin < n; begin += LINE) {
        int64_t end = begin + LINE < n ? begin + LINE : n;
        fetch_ahead(x + begin, stride, rows);
        const float *at[2] = {x + begin, x + 4 * stride + begin};
        for (int64_t j = begin; j < end; j++, at[0]++, at[1]++) {
            for (int e = 0; e < eights; e++) {
                lors_f32x8 sums[2] = {{0}};
                for (int row = 0; row < rows; row++) {
                    sums[row & 1] = lors_f32x8_add(factor_at(at, stride, row),
                                                   factor[row * eights + e], sums[row & 1]);
                }
                lors_f32x8 total = lors_f32x8_at(w + j * b + 8 * e) + (sums[0] + sums[1]);
                memcpy(w + j * b + 8 * e, &total, sizeof total);
            }
        }
    }
}

LORS_FUSED_INLINE void add_rows(float *w, const float *x, int64_t stride, int64_t n_rows, int64_t n,
                                const float *y, int64_t b, const int eights)
{
    int64_t row = 0;
    for (; row + ROWS / eights <= n_rows; row += ROWS / eights) {
        add_tile(w, x + row * stride, stride, n, y + row * b, b, ROWS / eights, eights);
    }
    for (; row < n_rows; row++) {
        add_tile(w, x + row * stride, stride, n, y + row * b, b, 1, eights);
    }
}

LORS_FUSED void LORS_KERNEL(add_few)(float *w, const float *x, int64_t stride, int64_t n_rows,
                                     int64_t n_cols, const float *y, int64_t b)
{
    for (int64_t first = 0; first < n_cols; first += CHUNK) {
        int64_t n = n_cols - first < CHUNK ? n_cols - first : CHUNK, c = 0;
        for (; c + 16 <= b; c += 16) {
            add_rows(w + first * b + c, x + first, stride, n_rows, n, y + c, b, 2);
        }
        if (c < b) {
            add_rows(w + first * b + c, x + first, stride, n_rows, n, y + c, b, 1);
        }
    }
}

#else

#include <cblas.h>

void LORS_KERNEL(times_few)(float *y, const float *x, int64_t stride, int64_t n_rows,
                            int64_t n_cols, const float *z, int64_t b)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n_rows, (int)b, (int)n_cols, 1, x,
                (int)stride, z, (int)b, 1, y, (int)b);
}

void LORS_KERNEL(add_few)(float *w, const float *x, int64_t stride, int64_t n_rows, int64_t n_cols,
                          const float *y, int64_t b)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)n_cols, (int)b, (int)n_rows, 1, x,
                (int)stride, y, (int)b, 1, w, (int)b);
}

#endif

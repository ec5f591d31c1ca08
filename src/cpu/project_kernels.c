/* project_kernels.c - products of f32 matrices with a few f64 columns, for the projection. As in
 * few_kernels.c the matrix is read as it lies; columns come in eights. */
#include "cpu/cpu_internal.h"
#include "cpu/few_lanes.h"
#include "cpu/lanes.h"

enum {
    CHUNK = 256, /* columns of the matrix at a time */
    ROWS = 4     /* rows at a time: with 8 columns, 8 sums in registers */
};

/* A piece of x in f64. */
LORS_FUSED_INLINE void widen_rows(double wide[ROWS][CHUNK], const float *x, int64_t stride,
                                  int64_t rows, int64_t n)
{
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t j = 0; j < n; j++) {
            wide[row][j] = x[row * stride + j];
        }
    }
}

/* y[rows][8 of b] += wide[rows][n] z[n][8 of b] */
LORS_FUSED_INLINE void times_tile(double *y, double wide[ROWS][CHUNK], int64_t n, const double *z,
                                  int64_t b, const int rows)
{
    lors_f64x4 sum[2 * ROWS] = {{0}};
    for (int64_t j = 0; j < n; j++) {
        lors_f64x4 low = lors_f64x4_at(z + j * b), high = lors_f64x4_at(z + j * b + 4);
        for (int row = 0; row < rows; row++) {
            lors_f64x4 factor = lors_f64x4_all(wide[row][j]);
            sum[2 * row] = lors_f64x4_add(factor, low, sum[2 * row]);
            sum[2 * row + 1] = lors_f64x4_add(factor, high, sum[2 * row + 1]);
        }
    }
    for (int i = 0; i < 2 * rows; i++) {
        double *at = y + i / 2 * b + i % 2 * 4;
        lors_f64x4 total = lors_f64x4_at(at) + sum[i];
        memcpy(at, &total, sizeof total);
    }
}

LORS_FUSED void LORS_KERNEL(times_few_f64)(double *y, const float *x, int64_t stride,
                                           int64_t n_rows, int64_t n_cols, const double *z,
                                           int64_t b)
{
    double wide[ROWS][CHUNK];
    for (int64_t first = 0; first < n_cols; first += CHUNK) {
        int64_t n = n_cols - first < CHUNK ? n_cols - first : CHUNK;
        for (int64_t row = 0; row < n_rows; row += ROWS) {
            int64_t rows = n_rows - row < ROWS ? n_rows - row : ROWS;
            widen_rows(wide, x + row * stride + first, stride, rows, n);
            for (int64_t c = 0; c < b; c += 8) {
                const double *factor = z + first * b + c;
                if (rows == ROWS) {
                    times_tile(y + row * b + c, wide, n, factor, b, ROWS);
                    continue;
                }
                for (int64_t i = 0; i < rows; i++) {
                    times_tile(y + (row + i) * b + c, wide + i, n, factor, b, 1);
                }
            }
        }
    }
}

/* w[n][8 of b] += wide[rows][n]' y[rows][8 of b] */
LORS_FUSED_INLINE void add_tile(double *w, double wide[ROWS][CHUNK], int64_t n, const double *y,
                                int64_t b, const int rows)
{
    lors_f64x4 factor[2 * ROWS];
    for (int i = 0; i < 2 * rows; i++) {
        factor[i] = lors_f64x4_at(y + i / 2 * b + i % 2 * 4);
    }
    for (int64_t j = 0; j < n; j++) {
        lors_f64x4 low = lors_f64x4_at(w + j * b), high = lors_f64x4_at(w + j * b + 4);
        for (int row = 0; row < rows; row++) {
            lors_f64x4 x = lors_f64x4_all(wide[row][j]);
            low = lors_f64x4_add(x, factor[2 * row], low);
            high = lors_f64x4_add(x, factor[2 * row + 1], high);
        }
        memcpy(w + j * b, &low, sizeof low);
        memcpy(w + j * b + 4, &high, sizeof high);
    }
}

LORS_FUSED void LORS_KERNEL(add_few_f64)(double *w, const float *x, int64_t stride, int64_t n_rows,
                                         int64_t n_cols, const double *y, int64_t b)
{
    double wide[ROWS][CHUNK];
    for (int64_t first = 0; first < n_cols; first += CHUNK) {
        int64_t n = n_cols - first < CHUNK ? n_cols - first : CHUNK;
        for (int64_t row = 0; row < n_rows; row += ROWS) {
            int64_t rows = n_rows - row < ROWS ? n_rows - row : ROWS;
            widen_rows(wide, x + row * stride + first, stride, rows, n);
            for (int64_t c = 0; c < b; c += 8) {
                if (rows == ROWS) {
                    add_tile(w + first * b + c, wide, n, y + row * b + c, b, ROWS);
                    continue;
                }
                for (int64_t i = 0; i < rows; i++) {
                    add_tile(w + first * b + c, wide + i, n, y + (row + i) * b + c, b, 1);
                }
            }
        }
    }
}

/* out[rows][8] = t[rows][rank] v[rank][8], rounded; the squares of x - out are added to lanes. */
LORS_FUSED_INLINE void narrow_tile(float *out, const float *x, int64_t stride, const double *t,
                                   int64_t b, const double *v, int64_t v_stride, int64_t rank,
                                   lors_f64x4 *squares, const int rows)
{
    lors_f64x4 sum[2 * ROWS] = {{0}};
    for (int64_t r = 0; r < rank; r++) {
        lors_f64x4 low = lors_f64x4_at(v + r * v_stride);
        lors_f64x4 high = lors_f64x4_at(v + r * v_stride + 4);
        for (int row = 0; row < rows; row++) {
            lors_f64x4 factor = lors_f64x4_all(t[row * b + r]);
            sum[2 * row] = lors_f64x4_add(factor, low, sum[2 * row]);
            sum[2 * row + 1] = lors_f64x4_add(factor, high, sum[2 * row + 1]);
        }
    }
    for (int i = 0; i < 2 * rows; i++) {
        int64_t at = i / 2 * stride + i % 2 * 4;
        lors_narrow4 narrow, given;
        lors_lanes4 stored, rest;
        lors_narrow4_of(&narrow, &sum[i]);
        memcpy(out + at, &narrow, sizeof narrow);
        memcpy(&given, x + at, sizeof given);
        lors_widen4(&stored, &narrow);
        lors_widen4(&rest, &given);
        rest -= stored;
        *squares = lors_f64x4_add(rest, rest, *squares);
    }
}

/* The last columns, fewer than 8. */
static double narrow_rest(float *out, const float *x, const double *t, const double *v,
                          int64_t v_stride, int64_t rank, int64_t n)
{
    double squares = 0;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t r = 0; r < rank; r++) {
            sum += t[r] * v[r * v_stride + j];
        }
        out[j] = (float)sum;
        double rest = (double)x[j] - (double)out[j];
        squares += rest * rest;
    }
    return squares;
}

LORS_FUSED double LORS_KERNEL(narrow_few)(float *out, const float *x, int64_t stride,
                                          int64_t n_rows, int64_t n_cols, const double *t,
                                          int64_t b, const double *v, int64_t v_stride,
                                          int64_t rank)
{
    double total = 0;
    for (int64_t first = 0; first < n_cols; first += CHUNK) {
        int64_t n = n_cols - first < CHUNK ? n_cols - first : CHUNK;
        for (int64_t row = 0; row < n_rows; row += ROWS) {
            int64_t rows = n_rows - row < ROWS ? n_rows - row : ROWS, j = 0;
            lors_f64x4 squares = {0};
            for (; j + 8 <= n; j += 8) {
                int64_t at = row * stride + first + j;
                const double *columns = v + first + j;
                if (rows == ROWS) {
                    narrow_tile(out + at, x + at, stride, t + row * b, b, columns, v_stride, rank,
                                &squares, ROWS);
                    continue;
                }
                for (int64_t i = 0; i < rows; i++) {
                    narrow_tile(out + at + i * stride, x + at + i * stride, stride,
                                t + (row + i) * b, b, columns, v_stride, rank, &squares, 1);
                }
            }
            total += (squares[0] + squares[2]) + (squares[1] + squares[3]);
            for (int64_t i = 0; i < rows && j < n; i++) {
                int64_t at = (row + i) * stride + first + j;
                total += narrow_rest(out + at, x + at, t + (row + i) * b, v + first + j, v_stride,
                                     rank, n - j);
            }
        }
    }
    return total;
}

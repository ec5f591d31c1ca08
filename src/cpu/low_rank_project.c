/* low_rank_project.c - the projection on a few directions: low = (A V) V', in panels that stay in
 * cache between the two products. In f64, rounded once. */
#include <string.h>

#include "cpu/low_rank.h"

enum {
    MAX_FEW = 32,
    PANEL_ROWS = 32, /* rows of a tall matrix */
    PANEL_COLS = 256 /* columns of a wide one */
};

typedef struct few {
    double *v;         /* [n_short][b]: V interleaved, zeros behind its columns */
    double *image;     /* [PANEL_COLS][b]: A V of a panel */
    double *transpose; /* [b][PANEL_COLS] */
    int64_t b;
} few;

static uint64_t lay_out(few *f, lapack_int n_short, lapack_int rank, unsigned char *base)
{
    uint64_t at = 0, b = ((uint64_t)rank + 7) & ~(uint64_t)7;
    f->b = (int64_t)b;
    f->v = lors_carve(base, &at, 8 * b * (uint64_t)n_short);
    f->image = lors_carve(base, &at, 8 * b * PANEL_COLS);
    f->transpose = lors_carve(base, &at, 8 * b * PANEL_COLS);
    return at;
}

bool lors_project_fits(lapack_int rank)
{
    return rank <= MAX_FEW;
}

uint64_t lors_project_bytes(lapack_int n_short, lapack_int rank)
{
    few f;
    return lay_out(&f, n_short, rank < MAX_FEW ? rank : MAX_FEW, NULL);
}

static void interleave(few *f, const double *v, lapack_int n_short, lapack_int rank)
{
    memset(f->v, 0, (size_t)(f->b * n_short) * sizeof *f->v);
    for (int64_t c = 0; c < rank; c++) {
        for (int64_t i = 0; i < n_short; i++) {
            f->v[i * f->b + c] = v[c * n_short + i];
        }
    }
}

static void add_squares(const few *f, int64_t count, lapack_int rank, double *values)
{
    for (int64_t i = 0; i < count; i++) {
        for (int64_t c = 0; c < rank; c++) {
            values[c] += f->image[i * f->b + c] * f->image[i * f->b + c];
        }
    }
}

/* Rows first .. of a tall matrix. */
static double project_rows(const few *f, const lors_matrix *a, float *low, const double *v,
                           lapack_int rank, int64_t first, int64_t count)
{
    int64_t n = a->n_short;
    const float *x = a->x + first * n;
    a->kernels->times_few_f64(f->image, x, n, count, n, f->v, f->b);
    return a->kernels->narrow_few(low + first * n, x, n, count, n, f->image, f->b, v, n, rank);
}

/* Columns first .. of a wide matrix. */
static double project_columns(const few *f, const lors_matrix *a, float *low, lapack_int rank,
                              int64_t first, int64_t count)
{
    const float *x = a->x + first;
    a->kernels->add_few_f64(f->image, x, a->n_cols, a->n_short, count, f->v, f->b);
    for (int64_t c = 0; c < rank; c++) {
        for (int64_t j = 0; j < count; j++) {
            f->transpose[c * PANEL_COLS + j] = f->image[j * f->b + c];
        }
    }
    return a->kernels->narrow_few(low + first, x, a->n_cols, a->n_short, count, f->v, f->b,
                                  f->transpose, PANEL_COLS, rank);
}

double lors_project_few(const lors_matrix *a, float *low, const double *v, lapack_int rank,
                        double *values, unsigned char *scratch)
{
    few f;
    lay_out(&f, a->n_short, rank, scratch);
    interleave(&f, v, a->n_short, rank);
    memset(values, 0, (size_t)rank * sizeof *values);
    double residual = 0;
    int64_t step = a->wide ? PANEL_COLS : PANEL_ROWS;
    for (int64_t first = 0; first < a->n_long; first += step) {
        int64_t count = a->n_long - first < step ? a->n_long - first : step;
        memset(f.image, 0, (size_t)(count * f.b) * sizeof *f.image);
        residual += a->wide ? project_columns(&f, a, low, rank, first, count)
                            : project_rows(&f, a, low, v, rank, first, count);
        add_squares(&f, count, rank, values);
    }
    return residual;
}

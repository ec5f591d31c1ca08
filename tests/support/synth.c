/* synth.c - a Philox stream, matrices U diag(s) V' with random orthonormal U and V, odd floats. */
#include "synth.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

uint64_t synth_bits(synth_stream *stream)
{
    lors_philox block = lors_philox_at(stream->seed, stream->next++, 0x74657374);
    return (uint64_t)block.word[0] << 32 | block.word[1];
}

double synth_uniform(synth_stream *stream)
{
    return (double)(synth_bits(stream) >> 11) * 0x1p-53;
}

/* Box and Muller 1958; 1 - u is never 0. */
double synth_normal(synth_stream *stream)
{
    double u = synth_uniform(stream), v = synth_uniform(stream);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

int64_t synth_below(synth_stream *stream, int64_t n)
{
    return (int64_t)(synth_bits(stream) % (uint64_t)n);
}

const char *synth_kind_name(synth_kind kind)
{
    static const char *const names[] = {
#define SYNTH_KIND_NAME(name, text) #name,
        SYNTH_KIND_LIST(SYNTH_KIND_NAME)
#undef SYNTH_KIND_NAME
    };
    return names[kind];
}

/* columns [k][n]: k orthonormal vectors of n numbers, the Q of a random matrix. */
static void orthonormal(double *columns, int64_t n, int64_t k, synth_stream *stream)
{
    double *tau = calloc((size_t)k + 1, sizeof *tau);
    lapack_int rows = (lapack_int)n, count = (lapack_int)k;
    for (int64_t i = 0; i < n * k; i++) {
        columns[i] = synth_normal(stream);
    }
    if (!tau || LAPACKE_dgeqrf(LAPACK_COL_MAJOR, rows, count, columns, rows, tau) != 0 ||
        LAPACKE_dorgqr(LAPACK_COL_MAJOR, rows, count, count, columns, rows, tau) != 0) {
        abort();
    }
    free(tau);
}

/* The i-th singular value (from 0) of the kinds that are made of one. */
static double sigma(synth_kind kind, int64_t i, int64_t n)
{
    double place = (double)(i + 1);
    switch (kind) {
    case SYNTH_FAST: return pow(10, -(double)i / 2);
    case SYNTH_FLAT: return 1;
    case SYNTH_NOISE_FLOOR: return i < (n + 4) / 5 ? 1 : 1e-6;
    case SYNTH_REPEATED: return 4 / (double)((int64_t)1 << (i / 3 < 40 ? i / 3 : 40));
    case SYNTH_CLUSTER: return i < 24 ? 1 : 0.1 / (place - 24);
    case SYNTH_STEPS: return pow(0.7, (double)i);
    case SYNTH_SMALL: return 1e-30 / place;
    case SYNTH_LARGE: return 1e30 / place;
    default: return 1 / place;
    }
}

static void from_spectrum(float *out, int64_t n_rows, int64_t n_cols, synth_kind kind,
                          synth_stream *stream)
{
    int64_t k = n_rows < n_cols ? n_rows : n_cols;
    double *u = calloc((size_t)(n_rows * k + 1), sizeof *u);
    double *v = calloc((size_t)(n_cols * k + 1), sizeof *v);
    double *product = calloc((size_t)(n_rows * n_cols) + 1, sizeof *product);
    if (!u || !v || !product) {
        abort();
    }
    orthonormal(u, n_rows, k, stream);
    orthonormal(v, n_cols, k, stream);
    for (int64_t at = 0; at < k * n_rows; at++) {
        u[at] *= sigma(kind, at / n_rows, k);
    }
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)n_rows, (int)n_cols, (int)k, 1, u,
                (int)n_rows, v, (int)n_cols, 0, product, (int)n_cols);
    for (int64_t i = 0; i < n_rows * n_cols; i++) {
        out[i] = (float)product[i];
    }
    free(u);
    free(v);
    free(product);
}

/* A sum of three outer products of integers in -4 .. 4: exact in any float type but f8. */
static void exact_rank(float *out, int64_t n_rows, int64_t n_cols, synth_stream *stream)
{
    memset(out, 0, (size_t)(n_rows * n_cols) * sizeof *out);
    for (int part = 0; part < 3; part++) {
        uint64_t rows = synth_bits(stream), columns = synth_bits(stream);
        synth_stream of_columns = {columns, 0}, of_rows = {rows, 0};
        for (int64_t i = 0; i < n_rows; i++) {
            int64_t left = synth_below(&of_rows, 9) - 4;
            of_columns.next = 0;
            for (int64_t j = 0; j < n_cols; j++) {
                out[i * n_cols + j] += (float)(left * (synth_below(&of_columns, 9) - 4));
            }
        }
    }
}

void synth_matrix(float *out, int64_t n_rows, int64_t n_cols, synth_kind kind, uint64_t seed)
{
    synth_stream stream = {seed, 0};
    int64_t n = n_rows * n_cols;
    for (int64_t i = 0; i < n; i++) {
        out[i] = kind == SYNTH_ONES ? 1 : 0;
    }
    switch (kind) {
    case SYNTH_ZERO:
    case SYNTH_ONES: return;
    case SYNTH_ONE_ENTRY:
        if (n > 0) {
            out[synth_below(&stream, n)] = -2.5f;
        }
        return;
    case SYNTH_EXACT_RANK: exact_rank(out, n_rows, n_cols, &stream); return;
    case SYNTH_GAUSS: synth_values(out, n, 1, seed); return;
    case SYNTH_SUBNORMAL: synth_values(out, n, 1e-41, seed); return;
    case SYNTH_LARGEST:
        for (int64_t i = 0; i < n; i++) {
            out[i] = (float)(1e38 * (2 * synth_uniform(&stream) - 1));
        }
        return;
    default: from_spectrum(out, n_rows, n_cols, kind, &stream);
    }
}

void synth_values(float *out, int64_t n, double scale, uint64_t seed)
{
    synth_stream stream = {seed, 0};
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)(scale * synth_normal(&stream));
    }
}

void synth_coarsen(float *x, int64_t n, int significant_bits)
{
    for (int64_t i = 0; i < n; i++) {
        int exponent;
        double fraction = frexp(x[i], &exponent);
        x[i] = (float)ldexp(rint(ldexp(fraction, significant_bits)), exponent - significant_bits);
    }
}

const uint32_t synth_special[] = {
    0x00000000, 0x80000000,                         /* zeros */
    0x00000001, 0x80000001, 0x007fffff, 0x807fffff, /* subnormals of f32 */
    0x00008000, 0x00008001, 0x00018000,             /* ties among bf16's subnormals */
    0x00800000, 0x80800000,                         /* least normal */
    0x33000000, 0x33000001, 0x33800000, 0xb3c00000, /* 2^-25, next, 2^-24, 1.5 * 2^-24: f16 ties */
    0x387fc000, 0x387fe000, 0x38800000,             /* around the least normal of f16 */
    0x3f800000, 0xbf800000, 0x3f801000, 0x3f803000, /* one; ties of f16 */
    0x3f808000, 0x3f818000, 0x3f808001,             /* ties of bf16, and above one */
    0x477fe000, 0x477fefff, 0x477ff000, 0xc77ff000, /* 65504, below 65520, 65520 */
    0x47800000, 0x7f7f0000, 0x7f7f7fff, 0x7f7f8000, /* 65536; limits of bf16 */
    0x7f7fffff, 0xff7fffff,                         /* limits of f32 */
    0x7f800000, 0xff800000,                         /* infinities */
    0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001, /* quiet and signalling NaN */
    0x7fffffff, 0xffffffff, 0x7fa55555,
};
const int64_t synth_special_n = sizeof synth_special / sizeof *synth_special;
const int64_t synth_special_n_finite = sizeof synth_special / sizeof *synth_special - 9;

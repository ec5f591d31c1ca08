/* ops_oracle.c - the definitions of the operations, element by element, in double precision. */
#include "ops_oracle.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct format {
    int fraction_bits, bias, all_ones; /* all_ones: the exponent field of infinity */
} format;

static format format_of(lors_dtype dtype)
{
    return dtype == LORS_F16    ? (format){10, 15, 31}
           : dtype == LORS_BF16 ? (format){7, 127, 255}
                                : (format){23, 127, 255};
}

double oracle_widen(lors_dtype dtype, uint32_t bits)
{
    format f = format_of(dtype);
    int exponent = (int)(bits >> f.fraction_bits) & f.all_ones;
    double fraction = bits & ((1u << f.fraction_bits) - 1);
    bool negative = (bits >> f.fraction_bits) > (uint32_t)f.all_ones;
    double value;
    if (exponent == f.all_ones) {
        value = fraction != 0 ? NAN : INFINITY;
    } else if (exponent == 0) {
        value = ldexp(fraction, 1 - f.bias - f.fraction_bits);
    } else {
        value = ldexp(ldexp(1, f.fraction_bits) + fraction, exponent - f.bias - f.fraction_bits);
    }
    return negative ? -value : value;
}

uint32_t oracle_narrow(lors_dtype dtype, double value)
{
    format f = format_of(dtype);
    uint32_t infinity = (uint32_t)f.all_ones << f.fraction_bits;
    uint32_t sign = signbit(value) ? infinity + (1u << f.fraction_bits) : 0;
    if (isnan(value)) {
        return infinity | 1u << (f.fraction_bits - 1);
    }
    if (isinf(value)) {
        return sign | infinity;
    }
    /* In units of the last place, which for subnormals stops at that of the least normal. */
    int exponent = value == 0 ? 1 - f.bias : ilogb(value);
    exponent = exponent < 1 - f.bias ? 1 - f.bias : exponent;
    double units = rint(ldexp(fabs(value), f.fraction_bits - exponent));
    if (units >= ldexp(1, f.fraction_bits + 1)) {
        units /= 2;
        exponent++;
    }
    if (exponent + f.bias >= f.all_ones) {
        return sign | infinity;
    }
    if (units < ldexp(1, f.fraction_bits)) {
        return sign | (uint32_t)units;
    }
    uint32_t field = (uint32_t)(exponent + f.bias) << f.fraction_bits;
    return sign | field | ((uint32_t)units - (1u << f.fraction_bits));
}

static bool is_kept(const oracle_sum *sum, int32_t model, int64_t i)
{
    return !sum->masks || sum->masks[model * sum->stride + i] != 0;
}

static double term_of(const oracle_sum *sum, int32_t model, int64_t i)
{
    int64_t at = model * sum->stride + i;
    double base = sum->base ? sum->base[i] : 0, low = sum->low ? sum->low[at] : 0;
    double x = sum->stack[at];
    return sum->weights[model] * (is_kept(sum, model, i) ? x - base : low);
}

/* The sum of n numbers as the contract defines it: left to right, what each addition rounds away
 * (Moller and Knuth) summed beside it and added at the end. */
static double compensated(const double *x, int n)
{
    double sum = n > 0 ? x[0] : 0, lost = 0;
    for (int i = 1; i < n; i++) {
        double next = sum + x[i];
        double of_x = next - sum, of_sum = next - of_x;
        lost += (sum - of_sum) + (x[i] - of_x);
        sum = next;
    }
    return isfinite(sum) && lost != 0 ? sum + lost : sum;
}

enum { ORACLE_MAX_MODELS = LORS_MAX_MODELS };

/* Each model onto what is there; without `add` the first is all that is there. */
static double accumulate_in_order(const oracle_sum *sum, double before, int64_t i)
{
    double acc = sum->add ? before : 0;
    bool fresh = !sum->add;
    for (int32_t m = 0; m < sum->n_models; m++) {
        if (sum->weights[m] != 0) {
            double part = sum->scale * term_of(sum, m, i);
            acc = fresh ? part : acc + part;
            fresh = false;
        }
    }
    return acc;
}

double oracle_accumulate(const oracle_sum *sum, double before, int64_t i)
{
    double terms[ORACLE_MAX_MODELS], weights[ORACLE_MAX_MODELS], magnitudes = 0;
    int n_terms = 0, n_weights = 0;
    if (sum->in_order) {
        return accumulate_in_order(sum, before, i);
    }
    for (int32_t m = 0; m < sum->n_models; m++) {
        if (sum->weights[m] == 0) {
            continue; /* leaves no trace */
        }
        double term = term_of(sum, m, i);
        bool counts = is_kept(sum, m, i);
        double share = sum->shares ? sum->shares[m] : sum->weights[m];
        magnitudes += fabs(share);
        if (sum->signs) {
            counts = sum->signs[i] > 0 ? term > 0 : term < 0; /* NaN has no sign */
            term = counts ? term : 0;
        }
        terms[n_terms++] = term;
        if (counts) {
            weights[n_weights++] = share;
        }
    }
    double total = compensated(terms, n_terms) * sum->scale;
    double weight = compensated(weights, n_weights);
    if (sum->divisor == LORS_DIVIDE_CONSTANT) {
        total /= sum->divisor_value;
    } else if (sum->divisor == LORS_DIVIDE_KEPT && fabs(weight) > LORS_CANCELLED * magnitudes) {
        total /= weight;
    }
    return sum->add ? before + total : total;
}

int8_t oracle_sign(const oracle_sum *sum, int64_t i)
{
    double total = 0;
    for (int32_t m = 0; m < sum->n_models; m++) {
        total += term_of(sum, m, i);
    }
    return total >= 0 ? 1 : -1;
}

static bool agree(const oracle_agreement *models, int64_t i)
{
    bool all = models->stack && models->n_models > 0;
    for (int32_t m = 1; all && m < models->n_models; m++) {
        all =
            lors_f32_bits(models->stack[m * models->stride + i]) == lors_f32_bits(models->stack[i]);
    }
    return all;
}

void oracle_store_block(oracle_store *out, lors_dtype dtype, const double *acc, const float *base,
                        const oracle_agreement *models, int64_t n, bool zero_nonfinite)
{
    for (int64_t i = 0; i < n; i++) {
        double exact = base ? base[i] : acc[i];
        if (agree(models, i)) {
            exact = models->stack[i];
        } else if (base && acc[i] != 0) {
            exact = base[i] + acc[i];
        }
        out->bits[i] = oracle_narrow(dtype, exact);
        double stored = oracle_widen(dtype, out->bits[i]);
        if (isfinite(stored)) {
            out->update += base ? acc[i] * acc[i] : 0;
            out->loss += (stored - exact) * (stored - exact);
            continue;
        }
        if (out->n_overflow + out->n_nan + out->n_infinite == 0) {
            out->first_bad = (uint32_t)i;
        }
        out->n_nan += isnan(exact) ? 1 : 0;
        out->n_infinite += isinf(exact) ? 1 : 0;
        out->n_overflow += isfinite(exact) ? 1 : 0;
        out->bits[i] = zero_nonfinite ? 0 : out->bits[i];
    }
}

typedef struct ranked {
    double magnitude;
    int64_t index;
} ranked;

static int by_magnitude(const void *left, const void *right)
{
    const ranked *a = left, *b = right;
    if (a->magnitude != b->magnitude) {
        return a->magnitude > b->magnitude ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

uint64_t oracle_select(uint8_t *mask, const float *x, int64_t n, uint64_t k)
{
    ranked *order = calloc((size_t)n + 1, sizeof *order);
    size_t count = 0;
    for (int64_t i = 0; order && i < n; i++) {
        mask[i] = 0;
        if (!isnan(x[i])) {
            order[count++] = (ranked){fabs((double)x[i]), i};
        }
    }
    qsort(order, count, sizeof *order, by_magnitude);
    uint64_t kept = k < count ? k : count;
    for (uint64_t i = 0; i < kept; i++) {
        mask[order[i].index] = 1;
    }
    free(order);
    return kept;
}

/* LAPACK wants the matrix; it is scaled to norm about 1 so that the reference itself is sound. */
oracle_svd oracle_svd_of(const float *x, int64_t n_rows, int64_t n_cols)
{
    oracle_svd svd = {.n_rows = n_rows, .n_cols = n_cols};
    svd.k = n_rows < n_cols ? n_rows : n_cols;
    size_t n = (size_t)(n_rows * n_cols), k = (size_t)svd.k;
    double *copy = calloc(n + 1, sizeof *copy);
    svd.u = calloc((size_t)n_rows * k + 1, sizeof *svd.u);
    svd.s = calloc(k + 1, sizeof *svd.s);
    svd.vt = calloc(k * (size_t)n_cols + 1, sizeof *svd.vt);
    double largest = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)x[i]));
    }
    double unit = largest > 0 ? ldexp(1, ilogb(largest)) : 1;
    for (size_t i = 0; i < n; i++) {
        copy[i] = x[i] / unit;
        square += copy[i] * copy[i];
    }
    if (LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', (lapack_int)n_rows, (lapack_int)n_cols, copy,
                       (lapack_int)n_cols, svd.s, svd.u, (lapack_int)k, svd.vt,
                       (lapack_int)n_cols) != 0) {
        abort();
    }
    for (size_t i = 0; i < k; i++) {
        svd.s[i] *= unit;
    }
    svd.norm = sqrt(square) * unit;
    free(copy);
    return svd;
}

void oracle_svd_free(oracle_svd *svd)
{
    free(svd->u);
    free(svd->s);
    free(svd->vt);
}

double oracle_tail(const oracle_svd *svd, int64_t rank)
{
    double square = 0;
    for (int64_t i = svd->k - 1; i >= rank; i--) {
        square += svd->s[i] * svd->s[i];
    }
    return sqrt(square);
}

double oracle_low(const oracle_svd *svd, int64_t rank, int64_t row, int64_t col)
{
    double sum = 0;
    for (int64_t i = 0; i < rank; i++) {
        sum += svd->u[row * svd->k + i] * svd->s[i] * svd->vt[i * svd->n_cols + col];
    }
    return sum;
}

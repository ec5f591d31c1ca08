/* spectral_properties.c - properties of the methods on whole spectra, without an oracle. */
#include "spectral_properties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int64_t shapes[][2] = {{24, 24}, {40, 17}, {17, 40}};
enum { N_SHAPES = 3 };

merge spectral_merge(const lors_method_def *def, int64_t n_rows, int64_t n_cols, int32_t n_models,
                     synth_kind kind, uint64_t seed)
{
    merge m = merge_of(def, n_rows, n_cols, n_models);
    int64_t n = n_rows * n_cols, n_short = n_rows < n_cols ? n_rows : n_cols;
    if (lors_method_param(&def->info, "rank") >= 0) { /* a count here: what a plan makes of 1 / N */
        merge_set(&m, "rank", n_short >= n_models ? (double)(n_short / n_models) : 1);
    }
    m.base = calloc((size_t)n, sizeof *m.base);
    for (int32_t k = 0; k < n_models; k++) {
        float *model = malloc((size_t)n * sizeof *model);
        synth_matrix(model, n_rows, n_cols, kind, seed + (uint64_t)k);
        m.models[k] = model;
    }
    return m;
}

void expect_update(const merge *m, const double *wanted, double bound)
{
    double square = 0, rest = 0;
    for (int64_t i = 0; i < m->n_rows * m->n_cols; i++) {
        square += wanted[i] * wanted[i];
        rest += (m->acc[i] - wanted[i]) * (m->acc[i] - wanted[i]);
    }
    if (!(sqrt(rest) <= bound * sqrt(square))) {
        print_error("%s, %lld x %lld: off by %g of %g\n", m->def->info.name, (long long)m->n_rows,
                    (long long)m->n_cols, sqrt(rest), sqrt(square));
        fail();
    }
}

/* With G = acc'acc (or acc acc') that is norm(G - mean(G_ii) I) <= bound * norm(G). */
void expect_flat(const merge *m, double bound)
{
    bool tall = m->n_rows >= m->n_cols;
    int64_t n = tall ? m->n_cols : m->n_rows, depth = tall ? m->n_rows : m->n_cols;
    int64_t step = tall ? 1 : m->n_cols, along = tall ? m->n_cols : 1;
    double mean = 0, rest = 0;
    for (int64_t pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < depth; k++) {
                    sum += m->acc[i * step + k * along] * m->acc[j * step + k * along];
                }
                mean += pass == 0 && i == j ? sum / (double)n : 0;
                rest += pass == 1 ? pow(sum - (i == j ? mean : 0), 2) : 0;
            }
        }
    }
    assert_true(mean > 0 && sqrt(rest) <= bound * mean * sqrt((double)n));
}

/* --- one merge and another -------------------------------------------------------------------- */

/* out[r(i)][c(j)] = in[i][j], with rows and columns turned about, or transposed. */
static void move(void *out, const void *in, size_t size, int64_t rows, int64_t cols, bool transpose)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            int64_t to = transpose ? j * rows + i : (i * 7 + 2) % rows * cols + (j * 11 + 1) % cols;
            memcpy((char *)out + (size_t)to * size,
                   (const char *)in + (size_t)(i * cols + j) * size, size);
        }
    }
}

static void moved_gives_moved(const lors_method_def *def, int64_t rows, int64_t cols,
                              bool transpose)
{
    merge a = spectral_merge(def, rows, cols, 3, SYNTH_STEPS, 7);
    merge b =
        spectral_merge(def, transpose ? cols : rows, transpose ? rows : cols, 3, SYNTH_STEPS, 7);
    for (int32_t k = 0; k < 3; k++) {
        move((float *)(uintptr_t)b.models[k], a.models[k], sizeof(float), rows, cols, transpose);
    }
    merge_run(&a, LORS_F32);
    merge_run(&b, LORS_F32);
    double *wanted = malloc((size_t)(rows * cols) * sizeof *wanted);
    move(wanted, a.acc, sizeof *wanted, rows, cols, transpose);
    expect_update(&b, wanted, 1e-7);
    free(wanted);
    forget_models(&a);
    forget_models(&b);
}

static void scaled_gives_scaled(const lors_method_def *def, int64_t rows, int64_t cols, int power)
{
    merge a = spectral_merge(def, rows, cols, 2, SYNTH_STEPS, 11);
    merge b = spectral_merge(def, rows, cols, 2, SYNTH_STEPS, 11);
    for (int64_t i = 0; i < 2 * rows * cols; i++) {
        float *at = (float *)(uintptr_t)b.models[i % 2] + i / 2;
        *at = ldexpf(*at, power);
    }
    merge_run(&a, LORS_F32);
    merge_run(&b, LORS_F32);
    double *wanted = malloc((size_t)(rows * cols) * sizeof *wanted);
    for (int64_t i = 0; i < rows * cols; i++) {
        wanted[i] = ldexp(a.acc[i], power);
    }
    expect_update(&b, wanted, 1e-8);
    free(wanted);
    forget_models(&a);
    forget_models(&b);
}

static void order_is_no_matter(const lors_method_def *def, int64_t rows, int64_t cols)
{
    merge a = spectral_merge(def, rows, cols, 3, SYNTH_STEPS, 21);
    merge b = spectral_merge(def, rows, cols, 3, SYNTH_STEPS, 21);
    const float *first = b.models[0];
    for (int32_t k = 0; k < 3; k++) {
        b.models[k] = k < 2 ? b.models[k + 1] : first;
        merge_set_model(&a, "weight", k, 1 + 0.25 * k);
        merge_set_model(&b, "weight", k, k < 2 ? 1.25 + 0.25 * k : 1);
    }
    merge_run(&a, LORS_F32);
    merge_run(&b, LORS_F32);
    expect_update(&b, a.acc, 1e-9);
    merge_run(&b, LORS_F32);
    merge c = b;
    c.acc = NULL;
    c.values = NULL;
    c.stored = NULL;
    merge_run(&c, LORS_F32);
    assert_memory_equal(b.acc, c.acc, (size_t)(rows * cols) * sizeof *c.acc);
    merge_free(&c);
    forget_models(&a);
    forget_models(&b);
}

static void unchanged_leaves_no_trace(const lors_method_def *def, int64_t rows, int64_t cols)
{
    merge a = spectral_merge(def, rows, cols, 3, SYNTH_STEPS, 31);
    merge b = spectral_merge(def, rows, cols, 3, SYNTH_STEPS, 31);
    memset((float *)(uintptr_t)a.models[1], 0, (size_t)(rows * cols) * sizeof(float));
    merge_set_model(&b, "weight", 1, 0);
    merge_run(&a, LORS_F32);
    merge_run(&b, LORS_F32);
    assert_true(a.results[1].zero && !a.results[0].zero);
    assert_memory_equal(a.acc, b.acc, (size_t)(rows * cols) * sizeof *a.acc);
    for (int32_t k = 0; k < 3; k++) {
        memset((float *)(uintptr_t)a.models[k], 0, (size_t)(rows * cols) * sizeof(float));
    }
    merge_run(&a, LORS_F32);
    expect_values(&a, a.base);
    forget_models(&a);
    forget_models(&b);
}

/* Nothing that is not a number, and nothing where nothing was; a matrix of one row or column. */
static void odd_matrices_are_survived(const lors_method_def *def)
{
    static const int64_t sides[][2] = {{1, 1}, {1, 9}, {9, 1}, {2, 3}, {12, 12}};
    for (int kind = 0; kind < SYNTH_KIND_COUNT; kind++) {
        for (size_t s = 0; s < sizeof sides / sizeof *sides; s++) {
            merge m = spectral_merge(def, sides[s][0], sides[s][1], 2, (synth_kind)kind, 41);
            merge_run(&m, LORS_F32);
            for (int64_t i = 0; i < m.n_rows * m.n_cols; i++) {
                assert_true(isfinite(m.acc[i]));
            }
            forget_models(&m);
        }
    }
}

static void not_a_number_spreads(const lors_method_def *def)
{
    merge m = spectral_merge(def, 9, 6, 2, SYNTH_GAUSS, 51);
    ((float *)(uintptr_t)m.models[1])[7] = NAN;
    merge_run(&m, LORS_F32);
    for (int64_t i = 0; i < 9 * 6; i++) {
        assert_true(isnan(m.acc[i]));
    }
    forget_models(&m);
}

void property_spectral(const lors_method_def *def, bool transposes)
{
    for (int s = 0; s < N_SHAPES; s++) {
        int64_t rows = shapes[s][0], cols = shapes[s][1];
        moved_gives_moved(def, rows, cols, false);
        if (transposes) {
            moved_gives_moved(def, rows, cols, true);
        }
        scaled_gives_scaled(def, rows, cols, 9);
        scaled_gives_scaled(def, rows, cols, -13);
        order_is_no_matter(def, rows, cols);
        unchanged_leaves_no_trace(def, rows, cols);
    }
    odd_matrices_are_survived(def);
    not_a_number_spreads(def);
}

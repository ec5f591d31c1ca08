/* contest_kernels.c - models that compete for each element: see backend/contest.h. */
#include <string.h>

#include "backend/contest.h"
#include "cpu/cpu_internal.h"

enum { SPAN = 256 }; /* elements that all models are gone through for at a time */

/* Sums over the models, in two parts (lors_add_exactly). */
typedef struct sums {
    double sum[SPAN], lost[SPAN];
} sums;

static inline void add(sums *s, const double *restrict terms, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        lors_add_exactly(&s->sum[i], &s->lost[i], terms[i]);
    }
}

static inline void finish(sums *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        s->sum[i] = lors_with_lost(s->sum[i], s->lost[i]);
    }
}

static void take_changes(double *restrict d, const lors_cpu_contest *c, int32_t k, int64_t first,
                         int64_t n)
{
    const float *x = c->stack + k * c->stride + first, *base = c->base ? c->base + first : NULL;
    for (int64_t i = 0; i < n; i++) {
        d[i] = (double)x[i] - (base ? (double)base[i] : 0);
    }
}

static void take_total(sums *total, const lors_cpu_contest *c, int64_t first, int64_t n)
{
    double d[SPAN];
    memset(total, 0, sizeof *total);
    for (int32_t k = 0; k < c->n_models; k++) {
        if (c->weights[k] != 0) {
            take_changes(d, c, k, first, n);
            add(total, d, n);
        }
    }
    finish(total, n);
}

static void take_scores(float *restrict scores, const double *restrict d,
                        const double *restrict total, lors_contender of, double n_competing,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        scores[i] = lors_contest_score(d[i], total[i], of, n_competing);
    }
}

void LORS_KERNEL(score)(float *out, const lors_cpu_contest *c, int64_t n)
{
    sums total;
    double d[SPAN];
    for (int64_t first = 0; first < n; first += SPAN) {
        int64_t count = n - first < SPAN ? n - first : SPAN;
        take_total(&total, c, first, count);
        for (int32_t k = 0; k < c->n_models; k++) {
            float *scores = out + k * c->stride + first;
            if (lors_cpu_competes(c, k)) {
                take_changes(d, c, k, first, count);
                take_scores(scores, d, total.sum, c->of[k], c->n_competing, count);
            } else {
                memset(scores, 0, (size_t)count * sizeof *scores);
            }
        }
    }
}

/* The terms and shares of one model, added to the sums. */
static void add_model(sums *result, sums *shares, const lors_cpu_contest *c, int32_t k,
                      int64_t first, int64_t n)
{
    double d[SPAN], share[SPAN], terms[SPAN];
    const float *scores = c->scores + k * c->stride + first;
    take_changes(d, c, k, first, n);
    for (int64_t i = 0; i < n; i++) {
        share[i] = lors_contest_share(scores[i], c->of[k]);
        terms[i] = lors_contest_term(d[i], c->of[k], c->weights[k], share[i]);
    }
    add(result, terms, n);
    add(shares, share, n);
}

void LORS_KERNEL(balance)(double *acc, const lors_cpu_contest *c, int64_t n)
{
    sums total, result, shares;
    for (int64_t first = 0; first < n; first += SPAN) {
        int64_t count = n - first < SPAN ? n - first : SPAN;
        take_total(&total, c, first, count);
        memset(&result, 0, sizeof result);
        memset(&shares, 0, sizeof shares);
        for (int32_t k = 0; k < c->n_models; k++) {
            if (lors_cpu_competes(c, k)) {
                add_model(&result, &shares, c, k, first, count);
            }
        }
        finish(&result, count);
        finish(&shares, count);
        for (int64_t i = 0; i < count; i++) {
            acc[first + i] =
                lors_contest_result(result.sum[i], shares.sum[i], total.sum[i], c->scale);
        }
    }
}

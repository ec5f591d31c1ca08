/* truncate_gates.c - run a truncation, and judge its result and certificate. */
#include "truncate_gates.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The worst seen of each gate, as a share of what it allows. */
static struct {
    double t1, t2, t3, t4;
} worst;

void print_worst_gates(void)
{
    printf("worst shares of the gates: T1 %.3g, T2 %.3g, T3 %.3g, T4 %.3g\n", worst.t1, worst.t2,
           worst.t3, worst.t4);
}

/* Scratch for the largest of the ranks, as the contract has it. */
static uint64_t scratch_bytes(const ops_bench *bench, const truncation *batch, int32_t n_matrices)
{
    lors_rank largest = {0, 0, false};
    for (int32_t i = 0; i < n_matrices; i++) {
        lors_rank rank = batch[i].rank;
        largest.count = rank.count > largest.count ? rank.count : largest.count;
        largest.energy = rank.energy > largest.energy ? rank.energy : largest.energy;
        largest.exact = largest.exact || rank.exact;
    }
    return bench->ops->truncate_bytes(n_matrices, batch->n_rows, batch->n_cols, largest);
}

void truncate_batch(ops_bench *bench, truncation *batch, int32_t n_matrices, int64_t gap)
{
    int64_t n = batch->n_rows * batch->n_cols, stride = n + gap, all = n_matrices * stride;
    lors_rank ranks[LORS_MAX_BATCH];
    lors_certificate certificates[LORS_MAX_BATCH];
    float *stack = malloc((size_t)(all + 1) * sizeof *stack);
    memset(stack, 0x77, (size_t)(all + 1) * sizeof *stack);
    for (int32_t i = 0; i < n_matrices; i++) {
        memcpy(stack + i * stride, batch[i].x, (size_t)n * sizeof *stack);
        ranks[i] = batch[i].rank;
    }
    lors_view x = ops_copy_of(bench, stack, all - gap, 4), low = ops_buffer_of(bench, all - gap, 4);
    lors_view scratch = ops_scratch(bench, scratch_bytes(bench, batch, n_matrices));
    memset(certificates, 0xee, sizeof certificates);
    lors_status status =
        bench->ops->truncate_rank(bench->queue, low, x, stride, n_matrices, batch->n_rows,
                                  batch->n_cols, ranks, scratch, certificates);
    expect(status == LORS_OK, "%s: %s", batch->what, lors_last_error());
    for (int32_t i = 0; i < n_matrices; i++) { /* before any wait */
        batch[i].certificate = certificates[i];
    }
    const float *result = ops_host(bench, low);
    for (int32_t i = 0; i < n_matrices; i++) {
        memcpy(batch[i].low, result + i * stride, (size_t)n * sizeof(float));
        for (int64_t at = n; at < stride && i < n_matrices - 1; at++) {
            assert_int_equal(lors_f32_bits(result[i * stride + at]), 0xa5a5a5a5u);
        }
    }
    assert_memory_equal(ops_host(bench, x), stack, (size_t)(all - gap) * sizeof(float));
    ops_clear(bench);
    free(stack);
}

void truncate_alone(ops_bench *bench, truncation *t)
{
    truncate_batch(bench, t, 1, 0);
}

/* value <= limit, and a note of how near it came. A limit of 0 stands for a zero matrix. */
static void gate(double value, double limit, double *share, const char *name, const truncation *t)
{
    expect(value <= limit, "%s: %s: %g > %g", t->what, name, value, limit);
    if (limit > 0) {
        *share = fmax(*share, value / limit);
    }
}

/* What f32 can hold of a matrix of tiny entries: half a step of its subnormals, each. */
static double floor_of(const truncation *t)
{
    return 0x1p-150 * sqrt((double)(t->n_rows * t->n_cols));
}

static double distance(const truncation *t)
{
    double square = 0;
    for (int64_t i = 0; i < t->n_rows * t->n_cols; i++) {
        double rest = (double)t->x[i] - (double)t->low[i];
        square += rest * rest;
    }
    return sqrt(square);
}

static double gap_of(const oracle_svd *svd, int64_t rank)
{
    double last = rank > 0 ? svd->s[rank - 1] : 0, next = rank < svd->k ? svd->s[rank] : 0;
    return last > 0 ? (last - next) / last : 0;
}

/* The gap as a certificate has it: there is none where s_r is 0 but for rounding. Near that
 * threshold a solver may come out on either side. */
static void check_gap(const truncation *t)
{
    const oracle_svd *svd = t->svd;
    double first = svd->s[0], last = svd->s[t->certificate.rank - 1];
    double threshold = LORS_NO_VALUE * first, gap = t->certificate.gap;
    if (last > threshold / 100 && last < threshold * 100) {
        return;
    }
    double wanted = last <= threshold ? 0 : gap_of(svd, t->certificate.rank);
    double slack = last <= threshold ? 0 : 4e-5 * first / last; /* two singular values within T3 */
    expect(fabs(gap - wanted) <= slack, "%s: gap %g, not %g (s_r %g)", t->what, gap, wanted, last);
}

static void check_low(const truncation *t)
{
    const oracle_svd *svd = t->svd;
    int64_t rank = t->certificate.rank;
    double rounding = 4 * 0x1p-24 * svd->norm + floor_of(t);
    double optimum = oracle_tail(svd, rank);
    gate(distance(t) - optimum, 1e-6 * optimum + rounding, &worst.t1, "T1", t);
    if (rank > 0 && gap_of(svd, rank) >= 1e-2) {
        double square = 0;
        for (int64_t i = 0; i < t->n_rows; i++) {
            for (int64_t j = 0; j < t->n_cols; j++) {
                double rest = t->low[i * t->n_cols + j] - oracle_low(svd, rank, i, j);
                square += rest * rest;
            }
        }
        gate(sqrt(square), 1e-5 * svd->norm + floor_of(t), &worst.t2, "T2", t);
    }
    /* L has rank r before it is rounded to f32; rounding moves it by at most 2^-24 of its norm. */
    if (rank < svd->k) {
        oracle_svd of_low = oracle_svd_of(t->low, t->n_rows, t->n_cols);
        gate(of_low.s[rank], 0x1.01p-24 * of_low.norm + floor_of(t), &worst.t4, "T4 rank", t);
        oracle_svd_free(&of_low);
    }
}

static void check_certificate(const truncation *t)
{
    const lors_certificate *c = &t->certificate;
    const oracle_svd *svd = t->svd;
    double first = svd->k > 0 ? svd->s[0] : 0;
    assert_non_null(c->path);
    expect(c->rank >= 0 && c->rank <= svd->k, "%s: rank %lld", t->what, (long long)c->rank);
    assert_true(c->n_passes >= 0);
    assert_true(c->bound_ratio == 0); /* nobody checked it against a reference */
    if (strcmp(c->path, "full") == 0) {
        assert_int_equal(c->rank, svd->k);
        assert_int_equal(c->n_passes, 0);
        return;
    }
    if (strcmp(c->path, "zero") == 0) {
        assert_int_equal(c->rank, 0);
        assert_int_equal(c->n_passes, 0);
        for (int64_t i = 0; i < t->n_rows * t->n_cols; i++) {
            assert_true(t->low[i] == 0);
        }
        return;
    }
    expect(fabs(c->norm - svd->norm) <= 1e-12 * svd->norm, "%s: norm %g", t->what, c->norm);
    double last = svd->s[c->rank - 1], next = c->rank < svd->k ? svd->s[c->rank] : 0;
    gate(fabs(c->sigma_first - first), 1e-5 * first, &worst.t3, "T3 first", t);
    gate(fabs(c->sigma_last - last), 1e-5 * first, &worst.t3, "T3 last", t);
    gate(fabs(c->sigma_next - next), 1e-5 * first, &worst.t3, "T3 next", t);
    gate(c->orthogonality, 1e-5, &worst.t4, "T4 basis", t);
    /* Where the spectrum is flat, directions may mix as long as no energy is lost (T1): an
     * iteration then stops with a residual that a direct solver would not leave. */
    bool iterated = strcmp(c->path, "krylov") == 0;
    double most = iterated ? 1e-2 : 1e-5;
    expect(c->n_passes > 0 || !iterated, "%s: %lld passes", t->what, (long long)c->n_passes);
    bool exact = strcmp(c->path, "svd") == 0;
    expect(exact == t->rank.exact, "%s: exact %d", t->what, t->rank.exact);
    expect(c->residual >= 0 && c->residual <= most, "%s: residual %g", t->what, c->residual);
    double kept = 1 - pow(oracle_tail(svd, c->rank) / svd->norm, 2);
    expect(fabs(c->energy - kept) <= 1e-6, "%s: energy %.17g not %.17g", t->what, c->energy, kept);
    expect(c->energy >= 0 && c->energy <= 1, "%s: energy %.17g", t->what, c->energy);
    check_gap(t);
    double optimum = oracle_tail(svd, c->rank), excess = distance(t) / optimum - 1;
    if (optimum > 1.001e-6 * svd->norm) { /* judged in the units of T1 */
        double allowed = 1e-6 * optimum + 4 * 0x1p-24 * svd->norm;
        expect(fabs(c->excess - excess) * optimum <= allowed, "%s: excess %g, not %g", t->what,
               c->excess, excess);
    } else if (optimum < 0.999e-6 * svd->norm) {
        expect(c->excess == 0, "%s: excess %g", t->what, c->excess);
    }
}

/* The least rank that keeps this share, give or take the last digits of the share. */
static void check_energy(const truncation *t)
{
    const oracle_svd *svd = t->svd;
    int64_t rank = t->certificate.rank;
    double total = svd->norm * svd->norm, slack = 1e-12 * total;
    double kept = total - pow(oracle_tail(svd, rank), 2);
    expect(kept >= t->rank.energy * total - slack, "%s: rank %lld keeps too little", t->what,
           (long long)rank);
    if (rank > 0) {
        double less = total - pow(oracle_tail(svd, rank - 1), 2);
        expect(less <= t->rank.energy * total + slack, "%s: rank %lld keeps too much", t->what,
               (long long)rank);
    }
}

static void check_count(const truncation *t)
{
    int64_t rank = t->certificate.rank, asked = t->rank.count, k = t->svd->k;
    expect(rank <= (asked < k ? asked : k), "%s: rank %lld", t->what, (long long)rank);
    if (t->svd->norm > 0) {
        expect(rank == (asked < k ? asked : k), "%s: rank %lld", t->what, (long long)rank);
    }
    if (asked >= k && t->svd->norm > 0) { /* everything: the matrix itself, to the last bit */
        assert_memory_equal(t->low, t->x, (size_t)(t->n_rows * t->n_cols) * sizeof(float));
    }
}

void check_gates(truncation *t, const char *matrix)
{
    snprintf(t->what, sizeof t->what, "%s, %lld x %lld, rank %lld, energy %g%s (%s)", matrix,
             (long long)t->n_rows, (long long)t->n_cols, (long long)t->rank.count, t->rank.energy,
             t->rank.exact ? ", exact" : "", t->certificate.path);
    check_low(t);
    check_certificate(t);
    t->rank.energy > 0 ? check_energy(t) : check_count(t);
}

void check_ranks(ops_bench *bench, int64_t n_rows, int64_t n_cols, synth_kind kind, double scale,
                 const lors_rank *ranks, int n_ranks)
{
    int64_t n = n_rows * n_cols;
    float *x = malloc((size_t)(n + 1) * sizeof *x), *low = malloc((size_t)(n + 1) * sizeof *low);
    char matrix[80];
    synth_matrix(x, n_rows, n_cols, kind, (uint64_t)(1000 * n_rows + n_cols));
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(x[i] * scale);
    }
    snprintf(matrix, sizeof matrix, "%s * %g", synth_kind_name(kind), scale);
    oracle_svd svd = oracle_svd_of(x, n_rows, n_cols);
    for (int i = 0; i < n_ranks; i++) {
        truncation t = {.x = x, .n_rows = n_rows, .n_cols = n_cols, .svd = &svd, .low = low};
        t.rank = ranks[i];
        snprintf(t.what, sizeof t.what, "%s", matrix);
        truncate_alone(bench, &t);
        check_gates(&t, matrix);
    }
    oracle_svd_free(&svd);
    free(x);
    free(low);
}

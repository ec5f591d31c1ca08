/* test_truncate.c - the nearest matrix of a rank, judged by gates against an SVD in f64.
 *
 *   T1  norm(d - L) <= (1 + 1e-6) * optimum + 4 * 2^-24 * norm(d), always
 *   T2  norm(L - L_ref) <= 1e-5 * norm(d) where (s_r - s_{r+1}) / s_r >= 1e-2
 *   T3  |s - s_ref| <= 1e-5 * s_1
 *   T4  rank(L) <= r, norm(V'V - I) <= 1e-5
 */
#include "ops_bench.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops_oracle.h"
#include "synth.h"

/* The worst seen of each gate, as a share of what it allows. */
static struct {
    double t1, t2, t3, t4;
} worst;

typedef struct truncation {
    const float *x;
    int64_t n_rows, n_cols;
    lors_rank rank;
    const oracle_svd *svd;
    float *low; /* result */
    lors_certificate certificate;
    char what[160];
} truncation;

static void truncate(ops_bench *bench, truncation *t)
{
    int64_t n = t->n_rows * t->n_cols;
    lors_view x = ops_copy_of(bench, t->x, n, 4), low = ops_buffer_of(bench, n, 4);
    lors_view scratch =
        ops_scratch(bench, bench->ops->truncate_bytes(t->n_rows, t->n_cols, t->rank));
    memset(&t->certificate, 0xee, sizeof t->certificate);
    lors_status status = bench->ops->truncate_rank(bench->backend, low, x, t->n_rows, t->n_cols,
                                                   t->rank, scratch, &t->certificate);
    expect(status == LORS_OK, "%s: %s", t->what, lors_last_error());
    memcpy(t->low, ops_host(bench, low), (size_t)n * sizeof(float));
    assert_memory_equal(ops_host(bench, x), t->x, (size_t)n * sizeof(float));
    ops_clear(bench);
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
    if (strcmp(c->path, "full") == 0) {
        assert_int_equal(c->rank, svd->k);
        return;
    }
    if (strcmp(c->path, "zero") == 0) {
        assert_int_equal(c->rank, 0);
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
    double most = strcmp(c->path, "krylov") == 0 ? 1e-2 : 1e-5;
    expect(c->residual >= 0 && c->residual <= most, "%s: residual %g", t->what, c->residual);
    double kept = 1 - pow(oracle_tail(svd, c->rank) / svd->norm, 2);
    expect(fabs(c->energy - kept) <= 1e-6, "%s: energy %.17g not %.17g", t->what, c->energy, kept);
    expect(c->energy >= 0 && c->energy <= 1, "%s: energy %.17g", t->what, c->energy);
    double slack = 4e-5 * first / (last > 0 ? last : 1); /* of two singular values within T3 */
    expect(fabs(c->gap - gap_of(svd, c->rank)) <= slack, "%s: gap %g, not %g", t->what, c->gap,
           gap_of(svd, c->rank));
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

static void check_ranks(ops_bench *bench, int64_t n_rows, int64_t n_cols, synth_kind kind,
                        double scale, const lors_rank *ranks, int n_ranks)
{
    int64_t n = n_rows * n_cols;
    float *x = malloc((size_t)(n + 1) * sizeof *x), *low = malloc((size_t)(n + 1) * sizeof *low);
    synth_matrix(x, n_rows, n_cols, kind, (uint64_t)(1000 * n_rows + n_cols));
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(x[i] * scale);
    }
    oracle_svd svd = oracle_svd_of(x, n_rows, n_cols);
    for (int i = 0; i < n_ranks; i++) {
        truncation t = {.x = x, .n_rows = n_rows, .n_cols = n_cols, .svd = &svd, .low = low};
        t.rank = ranks[i];
        truncate(bench, &t);
        snprintf(t.what, sizeof t.what, "%s * %g, %lld x %lld, rank %lld, energy %g (%s)",
                 synth_kind_name(kind), scale, (long long)n_rows, (long long)n_cols,
                 (long long)t.rank.count, t.rank.energy, t.certificate.path);
        check_low(&t);
        check_certificate(&t);
        t.rank.energy > 0 ? check_energy(&t) : check_count(&t);
    }
    oracle_svd_free(&svd);
    free(x);
    free(low);
}

static void check_matrix(ops_bench *bench, int64_t n_rows, int64_t n_cols, synth_kind kind)
{
    int64_t k = n_rows < n_cols ? n_rows : n_cols;
    lors_rank ranks[] = {{0, 0},       {1, 0},     {2, 0},          {7, 0},    {k / 2, 0},
                         {k - 1, 0},   {k, 0},     {k + 5, 0},      {1000000000, 0}, {0, 0.01},
                         {0, 0.5},     {0, 0.9},   {0, 0.999},      {0, 1}};
    check_ranks(bench, n_rows, n_cols, kind, 1, ranks, sizeof ranks / sizeof *ranks);
}

static void gates_hold_for_all_kinds(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{40, 40}, {60, 24}, {24, 60}, {1, 50}, {50, 1}, {1, 1}};
    for (int kind = 0; kind < SYNTH_KIND_COUNT; kind++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            check_matrix(bench, shapes[s][0], shapes[s][1], (synth_kind)kind);
        }
    }
}

/* Around the tile of 128 rows, and long in either direction. */
static void gates_hold_for_all_shapes(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{2, 2},    {3, 2},   {2, 3},   {5, 700},  {700, 5},
                                        {127, 9},  {128, 9}, {129, 9}, {9, 127},  {9, 128},
                                        {9, 129},  {257, 3}, {3, 257}, {130, 65}, {65, 130},
                                        {100, 100}};
    static const synth_kind kinds[] = {SYNTH_DECAY, SYNTH_STEPS, SYNTH_FAST};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        check_matrix(bench, shapes[s][0], shapes[s][1], kinds[s % 3]);
    }
}

/* Matrices so large that quicker solvers for a few directions are tried. */
static void gates_hold_for_few_of_many(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{400, 400}, {900, 420}, {410, 1300}};
    static const synth_kind kinds[] = {SYNTH_DECAY, SYNTH_STEPS,   SYNTH_FAST,
                                       SYNTH_GAUSS, SYNTH_CLUSTER, SYNTH_REPEATED,
                                       SYNTH_FLAT,  SYNTH_NOISE_FLOOR, SYNTH_EXACT_RANK};
    static const lors_rank ranks[] = {{1, 0}, {4, 0}, {7, 0}, {10, 0}};
    for (int s = 0; s < 3; s++) {
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            if ((k + (size_t)s) % 3 == 0 || s == 0) {
                check_ranks(bench, shapes[s][0], shapes[s][1], kinds[k], 1, ranks, 4);
            }
        }
    }
}

/* Singular values that repeat more often than a block of an iteration is wide: their directions
 * must all be found ... */
static void gates_hold_within_wide_clusters(ops_bench *bench)
{
    static const lors_rank ranks[] = {{20, 0}, {18, 0}};
    check_ranks(bench, 840, 810, SYNTH_CLUSTER, 1, ranks, 2);
    check_ranks(bench, 820, 805, SYNTH_NOISE_FLOOR, 1, ranks, 2);
}

/* ... and none of what follows them taken for the next. */
static void gates_hold_at_the_edge_of_a_block(ops_bench *bench)
{
    static const lors_rank ranks[] = {{16, 0}, {17, 0}};
    check_ranks(bench, 840, 810, SYNTH_CLUSTER, 1, ranks, 2);
}

/* From scales whose squares f32 cannot hold to those where they lose digits. */
static void gates_hold_at_any_scale(ops_bench *bench)
{
    static const int powers[] = {-120, -80, -75, -70, -68, -66, -64, -62,
                                 -60,  -55, 50,  62,  64,  70,  100};
    static const lors_rank ranks[] = {{7, 0}};
    for (size_t p = 0; p < sizeof powers / sizeof *powers; p++) {
        check_ranks(bench, 400, 410, SYNTH_DECAY, ldexp(1, powers[p]), ranks, 1);
    }
}

/* Spectra that fall so fast that an iteration soon has nothing but rounding left to go on: what it
 * then takes for new directions are old ones, and its estimates look perfect. */
static void gates_hold_where_an_iteration_runs_dry(ops_bench *bench)
{
    static const lors_rank ranks[] = {{3, 0}, {8, 0}, {10, 0}};
    static const synth_kind kinds[] = {SYNTH_STEPS, SYNTH_FAST, SYNTH_NOISE_FLOOR};
    for (int64_t more = 0; more < 12; more++) {
        check_ranks(bench, 400 + more, 404, kinds[more % 3 == 2 ? more / 3 % 3 : 0], 1, ranks, 3);
    }
}

static void certificate_has_the_norm(ops_bench *bench)
{
    float x[6] = {3, 0, 0, 0, 4, 0}, low[6];
    oracle_svd svd = oracle_svd_of(x, 2, 3);
    for (int64_t rank = 0; rank <= 2; rank++) { /* on each way to an answer */
        truncation t = {x, 2, 3, {rank, 0}, &svd, low, {0}, "3, 4"};
        truncate(bench, &t);
        expect(fabs(t.certificate.norm - 5) < 1e-12, "rank %lld (%s): norm %g", (long long)rank,
               t.certificate.path, t.certificate.norm);
    }
    oracle_svd_free(&svd);
}

static void a_zero_matrix_keeps_all_energy(ops_bench *bench)
{
    float x[6] = {0}, low[6];
    oracle_svd svd = oracle_svd_of(x, 2, 3);
    for (int64_t rank = 0; rank <= 2; rank++) {
        truncation t = {x, 2, 3, {rank, 0}, &svd, low, {0}, "zero"};
        truncate(bench, &t);
        expect(t.certificate.energy == 1, "rank %lld: energy %g", (long long)rank,
               t.certificate.energy);
        assert_memory_equal(low, x, sizeof x);
    }
    oracle_svd_free(&svd);
}

static void energy_one_of_a_low_rank_is_low(ops_bench *bench)
{
    enum { ROWS = 30, COLS = 20 };
    float x[ROWS * COLS], low[ROWS * COLS];
    static const synth_kind kinds[] = {SYNTH_ONES, SYNTH_EXACT_RANK, SYNTH_ONE_ENTRY};
    static const int64_t ranks[] = {1, 3, 1};
    for (int i = 0; i < 3; i++) {
        synth_matrix(x, ROWS, COLS, kinds[i], 77);
        oracle_svd svd = oracle_svd_of(x, ROWS, COLS);
        truncation t = {x, ROWS, COLS, {0, 1}, &svd, low, {0}, "energy 1"};
        truncate(bench, &t);
        expect(t.certificate.rank == ranks[i], "%s: rank %lld", synth_kind_name(kinds[i]),
               (long long)t.certificate.rank);
        oracle_svd_free(&svd);
    }
}

static void empty_matrices_are_nothing(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{0, 0}, {0, 7}, {7, 0}};
    for (int s = 0; s < 3; s++) {
        for (int64_t rank = 0; rank < 3; rank++) {
            float none = 0;
            truncation t = {&none, shapes[s][0], shapes[s][1], {rank, rank == 2 ? 0.5 : 0}, NULL,
                            &none, {0}, "empty"};
            truncate(bench, &t);
            assert_int_equal(t.certificate.rank, 0);
        }
    }
}

/* NaN or infinity anywhere: no crash, no endless loop, and nothing that looks like an answer. */
static void nonfinite_matrices_survive(ops_bench *bench)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 12; i++) {
        float x[130 * 7], low[130 * 7];
        synth_matrix(x, 130, 7, SYNTH_DECAY, (uint64_t)i);
        x[i % 4 == 0 ? 0 : i % 4 == 1 ? 909 : 300 + i] = bad[i % 3];
        lors_rank rank = {3, i >= 6 ? 0.9 : 0};
        truncation t = {x, 130, 7, rank, NULL, low, {0}, "not finite"};
        truncate(bench, &t);
        bool finite = true;
        for (int e = 0; e < 130 * 7; e++) {
            finite = finite && isfinite(low[e]);
        }
        assert_false(finite);
    }
}

/* A power of two moves no bit of a normal number: neither in the result. */
static void scaling_is_exact(ops_bench *bench)
{
    enum { ROWS = 70, COLS = 33, N = ROWS * COLS };
    static const int powers[] = {1, -7, 40, -40};
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    float *low = malloc(N * sizeof *low), *scaled = malloc(N * sizeof *scaled);
    synth_matrix(x, ROWS, COLS, SYNTH_DECAY, 8);
    truncation t = {x, ROWS, COLS, {5, 0}, NULL, low, {0}, "unscaled"};
    truncate(bench, &t);
    for (size_t p = 0; p < sizeof powers / sizeof *powers; p++) {
        for (int i = 0; i < N; i++) {
            y[i] = ldexpf(x[i], powers[p]);
        }
        truncation s = {y, ROWS, COLS, {5, 0}, NULL, scaled, {0}, "scaled"};
        truncate(bench, &s);
        double square = 0, norm = 0;
        for (int i = 0; i < N; i++) { /* solvers compare with fixed thresholds: bits may differ */
            double rest = ldexp(scaled[i], -powers[p]) - low[i];
            square += rest * rest;
            norm += (double)low[i] * low[i];
        }
        expect(sqrt(square) <= 2 * 0x1p-24 * sqrt(norm), "2^%d: %g", powers[p],
               sqrt(square / norm));
    }
    free(x);
    free(y);
    free(low);
    free(scaled);
}

typedef struct repeated {
    ops_bench bench;
    truncation t;
} repeated;

static void *repeat(void *argument)
{
    repeated *r = argument;
    for (int i = 0; i < 5; i++) {
        truncate(&r->bench, &r->t);
    }
    return NULL;
}

/* Same machine, same build: same bits, also while another thread computes. */
static void results_repeat_with_two_threads(ops_bench *bench)
{
    enum { ROWS = 150, COLS = 90, N = ROWS * COLS };
    float *x = malloc(N * sizeof *x), *low[3];
    synth_matrix(x, ROWS, COLS, SYNTH_GAUSS, 4);
    repeated runs[3];
    for (int i = 0; i < 3; i++) {
        low[i] = malloc(N * sizeof *low[i]);
        runs[i] = (repeated){*bench, {x, ROWS, COLS, {9, 0}, NULL, low[i], {0}, "repeated"}};
    }
    repeat(&runs[0]);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, repeat, &runs[1]), 0);
    repeat(&runs[2]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_memory_equal(low[0], low[1], N * sizeof *x);
    assert_memory_equal(low[0], low[2], N * sizeof *x);
    for (int i = 0; i < 3; i++) {
        free(low[i]);
    }
    free(x);
}

int main(void)
{
    static const ops_case cases[] = {
        {"gates: all kinds of matrices", gates_hold_for_all_kinds},
        {"gates: all shapes", gates_hold_for_all_shapes},
        {"gates: a few directions of many", gates_hold_for_few_of_many},
        {"gates: within clusters wider than a block", gates_hold_within_wide_clusters},
        {"gates: at the edge of a block", gates_hold_at_the_edge_of_a_block},
        {"gates: where an iteration runs dry", gates_hold_where_an_iteration_runs_dry},
        {"gates: any scale", gates_hold_at_any_scale},
        {"certificate: the norm, on every path", certificate_has_the_norm},
        {"certificate: all energy of a zero matrix", a_zero_matrix_keeps_all_energy},
        {"energy 1 of an exact low rank", energy_one_of_a_low_rank_is_low},
        {"empty matrices", empty_matrices_are_nothing},
        {"NaN and infinity", nonfinite_matrices_survive},
        {"powers of two", scaling_is_exact},
        {"same bits again, with two threads", results_repeat_with_two_threads},
    };
    int failed = ops_run("truncate", cases, sizeof cases / sizeof *cases);
    printf("worst shares of the gates: T1 %.3g, T2 %.3g, T3 %.3g, T4 %.3g\n", worst.t1, worst.t2,
           worst.t3, worst.t4);
    return failed;
}

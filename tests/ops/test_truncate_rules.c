/* test_truncate_rules.c - what holds of truncations beside the gates. */
#include "truncate_gates.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect_same_number(double a, double b, const char *name, const truncation *t)
{
    expect(a == b || (isnan(a) && isnan(b)), "%s: %s: %.17g, not %.17g", t->what, name, a, b);
}

static void expect_same_certificate(const truncation *left, const truncation *right)
{
    const lors_certificate *a = &left->certificate, *b = &right->certificate;
    expect(strcmp(a->path, b->path) == 0, "%s: %s, not %s", left->what, a->path, b->path);
    assert_int_equal(a->rank, b->rank);
    assert_int_equal(a->n_passes, b->n_passes);
    expect_same_number(a->norm, b->norm, "norm", left);
    expect_same_number(a->energy, b->energy, "energy", left);
    expect_same_number(a->gap, b->gap, "gap", left);
    expect_same_number(a->sigma_first, b->sigma_first, "sigma_first", left);
    expect_same_number(a->sigma_last, b->sigma_last, "sigma_last", left);
    expect_same_number(a->sigma_next, b->sigma_next, "sigma_next", left);
    expect_same_number(a->residual, b->residual, "residual", left);
    expect_same_number(a->orthogonality, b->orthogonality, "orthogonality", left);
    expect_same_number(a->excess, b->excess, "excess", left);
}

static void certificate_has_the_norm(ops_bench *bench)
{
    float x[6] = {3, 0, 0, 0, 4, 0}, low[6];
    oracle_svd svd = oracle_svd_of(x, 2, 3);
    for (int64_t rank = 0; rank <= 2; rank++) { /* on each way to an answer */
        truncation t = {x, 2, 3, OF_COUNT(rank), &svd, low, {0}, "3, 4"};
        truncate_alone(bench, &t);
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
        truncation t = {x, 2, 3, OF_COUNT(rank), &svd, low, {0}, "zero"};
        truncate_alone(bench, &t);
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
        truncation t = {x, ROWS, COLS, OF_ENERGY(1), &svd, low, {0}, "energy 1"};
        truncate_alone(bench, &t);
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
            lors_rank asked = {rank, rank == 2 ? 0.5 : 0, rank == 1};
            truncation t = {&none, shapes[s][0], shapes[s][1], asked, NULL, &none, {0}, "empty"};
            truncate_alone(bench, &t);
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
        lors_rank rank = {3, i >= 6 ? 0.9 : 0, i % 3 == 2};
        truncation t = {x, 130, 7, rank, NULL, low, {0}, "not finite"};
        truncate_alone(bench, &t);
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
    truncation t = {x, ROWS, COLS, OF_COUNT(5), NULL, low, {0}, "unscaled"};
    truncate_alone(bench, &t);
    for (size_t p = 0; p < sizeof powers / sizeof *powers; p++) {
        for (int i = 0; i < N; i++) {
            y[i] = ldexpf(x[i], powers[p]);
        }
        truncation s = {y, ROWS, COLS, OF_COUNT(5), NULL, scaled, {0}, "scaled"};
        truncate_alone(bench, &s);
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
    ops_bench *bench;
    truncation t;
} repeated;

static void *repeat(void *argument)
{
    repeated *r = argument;
    for (int i = 0; i < 5; i++) {
        truncate_alone(r->bench, &r->t);
    }
    return NULL;
}

/* Same machine, same build: same bits, also while another thread computes in another queue. */
static void check_repeats(ops_bench *bench, int64_t n_rows, int64_t n_cols, lors_rank rank)
{
    size_t n = (size_t)(n_rows * n_cols);
    float *x = malloc(n * sizeof *x), *low[3];
    synth_matrix(x, n_rows, n_cols, SYNTH_GAUSS, 4);
    ops_bench second;
    ops_open_second(&second, bench);
    repeated runs[3];
    for (int i = 0; i < 3; i++) {
        low[i] = malloc(n * sizeof *low[i]);
        runs[i] = (repeated){i == 1 ? &second : bench,
                             {x, n_rows, n_cols, rank, NULL, low[i], {0}, "repeated"}};
    }
    repeat(&runs[0]);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, repeat, &runs[1]), 0);
    repeat(&runs[2]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    ops_close_second(&second);
    for (int i = 1; i < 3; i++) {
        assert_memory_equal(low[0], low[i], n * sizeof *x);
        expect_same_certificate(&runs[0].t, &runs[i].t);
    }
    for (int i = 0; i < 3; i++) {
        free(low[i]);
    }
    free(x);
}

static void results_repeat_with_two_threads(ops_bench *bench)
{
    check_repeats(bench, 150, 90, (lors_rank)OF_COUNT(9));
    check_repeats(bench, 400, 404, (lors_rank)OF_COUNT(7));
    check_repeats(bench, 60, 80, (lors_rank){9, 0, true});
}

/* --- batches ---------------------------------------------------------------------------------- */

/* A batch of one shape: each matrix of another kind, at another rank. */
typedef struct batch {
    truncation each[LORS_MAX_BATCH], alone[LORS_MAX_BATCH];
    int32_t n;
} batch;

static batch batch_of(int64_t n_rows, int64_t n_cols, int32_t n, const synth_kind *kinds,
                      const lors_rank *ranks)
{
    batch b = {.n = n};
    size_t size = (size_t)(n_rows * n_cols);
    for (int32_t i = 0; i < n; i++) {
        float *x = malloc(size * sizeof *x);
        synth_matrix(x, n_rows, n_cols, kinds[i], (uint64_t)(n_rows + 100 * i));
        b.alone[i] = (truncation){.x = x,
                                  .n_rows = n_rows,
                                  .n_cols = n_cols,
                                  .rank = ranks[i],
                                  .low = malloc(size * sizeof *x)};
        snprintf(b.alone[i].what, sizeof b.alone[i].what, "%s, %d of %d, %lld x %lld",
                 synth_kind_name(kinds[i]), i, n, (long long)n_rows, (long long)n_cols);
        b.each[i] = b.alone[i];
        b.each[i].low = malloc(size * sizeof *x);
    }
    return b;
}

static void free_batch(batch *b)
{
    for (int32_t i = 0; i < b->n; i++) {
        free((void *)(uintptr_t)b->alone[i].x);
        free(b->alone[i].low);
        free(b->each[i].low);
    }
}

/* Each result of the batch is the same bits as alone, its certificate too. */
static void check_batch(ops_bench *bench, batch *b, int64_t gap)
{
    size_t n_bytes = (size_t)(b->each[0].n_rows * b->each[0].n_cols) * sizeof(float);
    truncate_batch(bench, b->each, b->n, gap);
    for (int32_t i = 0; i < b->n; i++) {
        truncate_alone(bench, &b->alone[i]);
        expect(memcmp(b->each[i].low, b->alone[i].low, n_bytes) == 0,
               "%s: not what it is alone (%s, %s)", b->each[i].what, b->each[i].certificate.path,
               b->alone[i].certificate.path);
        expect_same_certificate(&b->each[i], &b->alone[i]);
    }
}

static void check_batch_gates(batch *b)
{
    for (int32_t i = 0; i < b->n; i++) {
        truncation *t = &b->each[i];
        char what[sizeof t->what];
        oracle_svd svd = oracle_svd_of(t->x, t->n_rows, t->n_cols);
        memcpy(what, t->what, sizeof what);
        t->svd = &svd;
        check_gates(t, what);
        oracle_svd_free(&svd);
    }
}

/* Counts, energies, exact ones, nothing and everything, of all kinds, side by side. */
static void a_batch_gives_what_each_gives_alone(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{60, 24}, {24, 60}, {130, 65}, {40, 40}, {1, 9}, {257, 3}};
    static const lors_rank choices[] = {OF_COUNT(2), OF_ENERGY(0.9), {3, 0, true},
                                        OF_COUNT(0), OF_COUNT(1000), {0, 0.5, true},
                                        OF_COUNT(1), OF_ENERGY(1),   OF_COUNT(7)};
    for (int32_t i = 0; i < (bench->emulated ? 6 : 24); i++) {
        synth_kind kinds[LORS_MAX_BATCH];
        lors_rank ranks[LORS_MAX_BATCH];
        for (int32_t m = 0; m < LORS_MAX_BATCH; m++) {
            kinds[m] = (synth_kind)((i * 5 + m) % SYNTH_KIND_COUNT); /* zero matrices among them */
            ranks[m] = choices[(i + m * (1 + i % 4)) % 9];
        }
        int32_t n = i % 6 < 3 ? LORS_MAX_BATCH : 2 + i % 5;
        batch b = batch_of(shapes[i % 6][0], shapes[i % 6][1], n, kinds, ranks);
        check_batch(bench, &b, i % 3 == 0 ? 0 : 5 + i);
        check_batch_gates(&b);
        free_batch(&b);
    }
}

/* Large enough for an iteration, which takes longer for some than for others. */
static void a_batch_of_iterations_gives_what_each_gives_alone(ops_bench *bench)
{
    static const synth_kind kinds[2][LORS_MAX_BATCH] = {
        {SYNTH_DECAY, SYNTH_FLAT, SYNTH_STEPS, SYNTH_ZERO, SYNTH_GAUSS, SYNTH_CLUSTER, SYNTH_DECAY,
         SYNTH_FAST},
        {SYNTH_FAST, SYNTH_FAST, SYNTH_DECAY, SYNTH_EXACT_RANK, SYNTH_ONES, SYNTH_STEPS,
         SYNTH_REPEATED, SYNTH_LARGE}};
    static const lors_rank ranks[2][LORS_MAX_BATCH] = {{OF_COUNT(7), OF_COUNT(7), OF_COUNT(7),
                                                        OF_COUNT(7), OF_COUNT(7), OF_COUNT(7),
                                                        OF_COUNT(7), OF_COUNT(7)},
                                                       {OF_COUNT(1),
                                                        OF_COUNT(10),
                                                        OF_ENERGY(0.9),
                                                        OF_COUNT(7),
                                                        OF_COUNT(2),
                                                        {4, 0, true},
                                                        OF_COUNT(0),
                                                        OF_COUNT(200)}};
    for (int i = 0; i < 2; i++) {
        int32_t n = bench->emulated ? 4 : LORS_MAX_BATCH;
        batch b = batch_of(i ? 400 : 520, i ? 540 : 410, n, kinds[i], ranks[i]);
        check_batch(bench, &b, 3 * i);
        check_batch_gates(&b);
        free_batch(&b);
    }
}

/* Scratch for the largest rank serves every smaller one, beside it in a batch or later. */
static void scratch_grows_with_the_rank(ops_bench *bench)
{
    static const int64_t shapes[][2] = {{384, 384},   {1536, 384},  {51865, 384},  {384, 51865},
                                        {1280, 1280}, {5120, 1280}, {51865, 1280}, {3, 2000},
                                        {80, 1152},   {1, 1}};
    static const lors_rank more[] = {OF_COUNT(0),     OF_COUNT(1),  OF_COUNT(9),   OF_COUNT(1000),
                                     {0, 0.9, false}, {0, 0, true}, {0, 0.5, true}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int64_t count = 0; count <= 700; count += 1 + count / 40) {
            for (int m = 0; m < 7 * 3; m++) {
                int32_t n = m / 7 == 0 ? 1 : 3 * (m / 7) + 1;
                lors_rank rank = {count, 0, false}, larger = more[m % 7];
                larger.count += count;
                uint64_t bytes = bench->ops->truncate_bytes(n, shapes[s][0], shapes[s][1], rank);
                uint64_t enough =
                    bench->ops->truncate_bytes(n + m % 2, shapes[s][0], shapes[s][1], larger);
                expect(enough >= bytes,
                       "%lld x %lld: rank %lld takes %llu bytes, more than %llu "
                       "for %lld, energy %g, exact %d",
                       (long long)shapes[s][0], (long long)shapes[s][1], (long long)count,
                       (unsigned long long)bytes, (unsigned long long)enough,
                       (long long)larger.count, larger.energy, larger.exact);
            }
        }
    }
}

/* What is not finite spoils itself only. */
static void a_bad_matrix_spoils_no_other(ops_bench *bench)
{
    static const synth_kind kinds[] = {SYNTH_DECAY, SYNTH_GAUSS, SYNTH_STEPS};
    for (int i = 0; i < 6; i++) {
        lors_rank rank = {3, i % 3 == 1 ? 0.9 : 0, i % 3 == 2};
        lors_rank ranks[] = {rank, rank, rank};
        batch b = batch_of(i < 3 ? 130 : 405, i < 3 ? 7 : 401, 3, kinds, ranks);
        ((float *)(uintptr_t)b.each[1].x)[5 * i] = i % 2 ? NAN : INFINITY;
        truncate_batch(bench, b.each, 3, 0);
        for (int m = 0; m < 3; m += 2) {
            size_t n_bytes = (size_t)(b.each[m].n_rows * b.each[m].n_cols) * sizeof(float);
            truncate_alone(bench, &b.alone[m]);
            assert_memory_equal(b.each[m].low, b.alone[m].low, n_bytes);
            expect_same_certificate(&b.each[m], &b.alone[m]);
        }
        bool finite = true;
        for (int64_t at = 0; at < b.each[1].n_rows * b.each[1].n_cols; at++) {
            finite = finite && isfinite(b.each[1].low[at]);
        }
        assert_false(finite);
        free_batch(&b);
    }
}

int main(void)
{
    static const ops_case cases[] = {
        {"certificate: the norm, on every path", certificate_has_the_norm},
        {"certificate: all energy of a zero matrix", a_zero_matrix_keeps_all_energy},
        {"energy 1 of an exact low rank", energy_one_of_a_low_rank_is_low},
        {"empty matrices", empty_matrices_are_nothing},
        {"NaN and infinity", nonfinite_matrices_survive},
        {"powers of two", scaling_is_exact},
        {"same bits again, with two threads", results_repeat_with_two_threads},
        {"scratch grows with the rank", scratch_grows_with_the_rank},
        {"batches: each as alone", a_batch_gives_what_each_gives_alone},
        {"batches: iterations", a_batch_of_iterations_gives_what_each_gives_alone},
        {"batches: a bad matrix spoils no other", a_bad_matrix_spoils_no_other},
    };
    return ops_run("truncate_rules", cases, sizeof cases / sizeof *cases);
}

/* test_select.c - the exact choice of the largest magnitudes, against sorting. */
#include "ops_bench.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "ops_oracle.h"
#include "synth.h"

enum { MAX_PIECES = 16 };

/* One call of select_count or keep_top; pieces cover the values, cut at multiples of LORS_BLOCK. */
typedef struct piece {
    uint64_t first;
    int64_t n;
} piece;

static int pieces_of(piece *pieces, int64_t n, synth_stream *stream)
{
    int count = 0;
    for (int64_t first = 0; first < n;) {
        int64_t blocks = 1 + (stream ? synth_below(stream, 3) : INT32_MAX);
        int64_t size = blocks * LORS_BLOCK < n - first ? blocks * LORS_BLOCK : n - first;
        assert_true(count < MAX_PIECES);
        pieces[count++] = (piece){(uint64_t)first, size};
        first += size;
    }
    for (int i = count - 1; stream && i > 0; i--) {
        int other = (int)synth_below(stream, i + 1);
        piece swapped = pieces[i];
        pieces[i] = pieces[other];
        pieces[other] = swapped;
    }
    return count;
}

/* Half of the pieces, so that two threads count at once. */
typedef struct counter {
    ops_bench *bench;
    lors_view state, x;
    int32_t pass;
    const piece *pieces;
    int n_pieces, start, step;
    lors_status status;
} counter;

static void *count_pieces(void *argument)
{
    counter *c = argument;
    for (int i = c->start; i < c->n_pieces; i += c->step) {
        lors_status status = c->bench->ops->select_count(
            c->bench->backend, c->state, c->pass, lors_view_at(c->x, 4 * c->pieces[i].first),
            c->pieces[i].first, c->pieces[i].n);
        c->status = status == LORS_OK ? c->status : status;
    }
    return NULL;
}

static void count_pass(counter c, bool threaded)
{
    counter halves[2] = {c, c};
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        halves[i].start = i;
        halves[i].step = 2;
    }
    if (threaded) {
        assert_int_equal(pthread_create(&thread, NULL, count_pieces, &halves[1]), 0);
        count_pieces(&halves[0]);
        assert_int_equal(pthread_join(thread, NULL), 0);
    } else {
        count_pieces(&halves[0]);
        count_pieces(&halves[1]);
    }
    assert_ok(halves[0].status);
    assert_ok(halves[1].status);
}

/* shuffle: 0 in one call, else the seed of a random split and order. */
static void check_select(ops_bench *bench, const float *x, int64_t n, uint64_t k, uint64_t shuffle,
                         bool threaded)
{
    const lors_backend_ops *ops = bench->ops;
    piece pieces[MAX_PIECES];
    synth_stream stream = {shuffle, 0};
    lors_view state = ops_scratch(bench, ops->select_bytes((uint64_t)n));
    lors_view values = ops_copy_of(bench, x, n, 4), mask = ops_buffer_of(bench, n, 1);
    assert_ok(ops->select_begin(bench->backend, state, (uint64_t)n, k));
    for (int32_t pass = 0; pass < LORS_SELECT_PASSES; pass++) {
        int n_pieces = pieces_of(pieces, n, shuffle ? &stream : NULL);
        counter c = {bench, state, values, pass, pieces, n_pieces, 0, 1, LORS_OK};
        count_pass(c, threaded);
        assert_ok(ops->select_settle(bench->backend, state, pass));
    }
    int n_pieces = pieces_of(pieces, n, shuffle ? &stream : NULL);
    for (int i = 0; i < n_pieces; i++) {
        assert_ok(ops->keep_top(bench->backend, state, lors_view_at(mask, pieces[i].first),
                                lors_view_at(values, 4 * pieces[i].first), pieces[i].first,
                                pieces[i].n));
    }
    uint8_t *wanted = malloc((size_t)n + 1);
    uint64_t n_wanted = oracle_select(wanted, x, n, k), n_kept = UINT64_MAX;
    assert_ok(ops->select_kept(bench->backend, state, &n_kept));
    assert_int_equal(n_kept, n_wanted);
    const uint8_t *got = ops_host(bench, mask);
    for (int64_t i = 0; i < n; i++) {
        expect(got[i] == wanted[i], "n %lld k %llu element %lld (%a): %d", (long long)n,
               (unsigned long long)k, (long long)i, (double)x[i], got[i]);
    }
    ops_record(bench, got, (size_t)n);
    ops_clear(bench);
    free(wanted);
}

static void check_all_k(ops_bench *bench, const float *x, int64_t n, uint64_t seed)
{
    uint64_t all = (uint64_t)n;
    uint64_t ks[] = {0, 1, all / 5, all / 2, all > 0 ? all - 1 : 0, all, all + 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        check_select(bench, x, n, ks[i], 0, false);
        check_select(bench, x, n, ks[i], seed + i + 1, false);
        check_select(bench, x, n, ks[i], seed + i + 100, true);
    }
}

static void fill_any_bits(float *x, int64_t n, synth_stream *stream)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = lors_f32_from_bits((uint32_t)synth_bits(stream)); /* NaN and Inf among them */
    }
}

/* Each value twice or more, with either sign. */
static void fill_pairs(float *x, int64_t n, synth_stream *stream)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = i % 2 ? -x[i - 1] : (float)synth_normal(stream);
        x[i] = i > 2 && i % 7 == 0 ? x[synth_below(stream, i)] : x[i];
    }
}

static void fill_few(float *x, int64_t n, synth_stream *stream)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(synth_below(stream, 5) - 2) * 0.25f;
    }
}

static void fill_special(float *x, int64_t n, synth_stream *stream)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = lors_f32_from_bits(synth_special[synth_below(stream, synth_special_n)]);
    }
}

/* Values that differ in the last bit only: every pass of the search decides. */
static void fill_neighbours(float *x, int64_t n, synth_stream *stream)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = lors_f32_from_bits(0x3f7ffff0u + (uint32_t)synth_below(stream, 32));
    }
}

static void fill_zeros(float *x, int64_t n, synth_stream *stream)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = synth_bits(stream) & 1 ? 0.0f : -0.0f;
    }
}

static void fill_nan(float *x, int64_t n, synth_stream *stream)
{
    for (int64_t i = 0; i < n; i++) {
        x[i] = synth_below(stream, 1000) == 0 ? (float)i : NAN;
    }
}

static void with_each_size(ops_bench *bench, void (*fill)(float *, int64_t, synth_stream *))
{
    static const int64_t sizes[] = {0, 1, 2, 7, 8191, 8192, 8193, 30000};
    float *x = malloc(30000 * sizeof *x);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        synth_stream stream = {(uint64_t)sizes[s] + 1, 0};
        fill(x, sizes[s], &stream);
        check_all_k(bench, x, sizes[s], 1000 * s);
    }
    free(x);
}

static void any_bits(ops_bench *bench)
{
    with_each_size(bench, fill_any_bits);
}

static void pairs(ops_bench *bench)
{
    with_each_size(bench, fill_pairs);
}

static void massive_ties(ops_bench *bench)
{
    with_each_size(bench, fill_few);
}

static void special_values(ops_bench *bench)
{
    with_each_size(bench, fill_special);
}

static void neighbours(ops_bench *bench)
{
    with_each_size(bench, fill_neighbours);
}

static void zeros(ops_bench *bench)
{
    with_each_size(bench, fill_zeros);
}

static void hardly_any_number(ops_bench *bench)
{
    with_each_size(bench, fill_nan);
}

/* The k-th value lies exactly at the end of a block, or the ties end there. */
static void ties_end_at_a_block(ops_bench *bench)
{
    enum { N = 3 * LORS_BLOCK };
    float *x = malloc(N * sizeof *x);
    for (int64_t i = 0; i < N; i++) {
        x[i] = i % 2 ? 1.0f : -1.0f;
    }
    for (int64_t k = LORS_BLOCK - 1; k <= 2 * LORS_BLOCK + 1; k += k % LORS_BLOCK == 1 ? 8190 : 1) {
        check_select(bench, x, N, (uint64_t)k, (uint64_t)k, false);
    }
    for (int64_t i = LORS_BLOCK; i < 2 * LORS_BLOCK; i++) {
        x[i] = 0.5f; /* a block without ties in the middle */
    }
    for (int64_t k = LORS_BLOCK - 1; k <= LORS_BLOCK + 1; k++) {
        check_select(bench, x, N, (uint64_t)k, (uint64_t)k, false);
    }
    free(x);
}

/* A state serves again, for another k and other values, without a trace of the first. */
static void a_state_serves_twice(ops_bench *bench)
{
    enum { N = 20000 };
    const lors_backend_ops *ops = bench->ops;
    float *x = malloc(N * sizeof *x);
    uint8_t *wanted = malloc(N);
    lors_view state = ops_scratch(bench, ops->select_bytes(N)), mask = ops_buffer_of(bench, N, 1);
    for (uint64_t round = 0; round < 4; round++) {
        synth_stream stream = {round, 0};
        (round % 2 ? fill_few : fill_pairs)(x, N, &stream);
        uint64_t k = 100 + 6000 * round, n_kept;
        lors_view values = ops_copy_of(bench, x, N, 4);
        assert_ok(ops->select_begin(bench->backend, state, N, k));
        for (int32_t pass = 0; pass < LORS_SELECT_PASSES; pass++) {
            assert_ok(ops->select_count(bench->backend, state, pass, values, 0, N));
            assert_ok(ops->select_settle(bench->backend, state, pass));
        }
        assert_ok(ops->keep_top(bench->backend, state, mask, values, 0, N));
        assert_ok(ops->select_kept(bench->backend, state, &n_kept));
        assert_int_equal(n_kept, oracle_select(wanted, x, N, k));
        assert_memory_equal(ops_host(bench, mask), wanted, N);
    }
    free(x);
    free(wanted);
}

int main(void)
{
    static const ops_case cases[] = {
        {"any bits, NaN and infinity among them", any_bits},
        {"pairs of either sign", pairs},
        {"massive ties", massive_ties},
        {"special values", special_values},
        {"neighbours that differ in the last bits", neighbours},
        {"zeros", zeros},
        {"hardly any number", hardly_any_number},
        {"ties that end at a block", ties_end_at_a_block},
        {"a state serves twice", a_state_serves_twice},
    };
    return ops_run("select", cases, sizeof cases / sizeof *cases);
}

/* test_select.c - the exact choice of the largest magnitudes, against sorting; slices at once. */
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

/* Half of the pieces, so that two queues count at once, each in a thread of its own. */
typedef struct counter {
    const lors_backend_ops *ops;
    lors_queue *queue;
    lors_selection selection;
    lors_view x;
    int64_t stride;
    int32_t pass;
    const piece *pieces;
    int n_pieces, start, step;
    lors_status status;
} counter;

static void *count_pieces(void *argument)
{
    counter *c = argument;
    for (int i = c->start; i < c->n_pieces && c->status == LORS_OK; i += c->step) {
        lors_selection selection = c->selection;
        c->status = c->ops->select_count(c->queue, &selection, c->pass,
                                         lors_view_at(c->x, 4 * c->pieces[i].first), c->stride,
                                         c->pieces[i].first, c->pieces[i].n);
        memset(&selection, 0xff, sizeof selection); /* taken over before the call returned */
    }
    if (c->status == LORS_OK && c->step > 1) {
        c->status = c->ops->wait(c->queue);
    }
    return NULL;
}

/* second: a queue for the other half, or NULL. */
static void count_pass(counter c, lors_queue *second)
{
    counter halves[2] = {c, c};
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        halves[i].start = i;
        halves[i].step = second ? 2 : 1;
        halves[i].queue = i ? second : c.queue;
        halves[i].selection.shared = second != NULL;
    }
    if (second) {
        assert_int_equal(pthread_create(&thread, NULL, count_pieces, &halves[1]), 0);
        count_pieces(&halves[0]);
        assert_int_equal(pthread_join(thread, NULL), 0);
    } else {
        count_pieces(&halves[0]);
    }
    assert_ok(halves[0].status);
    assert_ok(halves[1].status);
}

/* What is to be selected: of each slice of x its own k. shuffle: 0 in one call, else the seed of a
 * random split and order. */
typedef struct choice {
    const float *x;
    int64_t n, stride;
    int32_t n_slices;
    const uint64_t *k;
    uint64_t shuffle;
    bool two_queues;
} choice;

static uint64_t state_bytes(const ops_bench *bench, const choice *c)
{
    return (uint64_t)c->n_slices * bench->ops->select_bytes((uint64_t)c->n);
}

static int64_t all_of(const choice *c)
{
    return (c->n_slices - 1) * c->stride + c->n;
}

/* Begin, count, settle: the state is ready for keep_top. */
static void select_slices(ops_bench *bench, const choice *c, const lors_selection *selection,
                          lors_view values, synth_stream *stream)
{
    const lors_backend_ops *ops = bench->ops;
    piece pieces[MAX_PIECES];
    uint64_t k[LORS_MAX_MODELS];
    lors_queue *second = c->two_queues ? ops_second_queue(bench) : NULL;
    memcpy(k, c->k, (size_t)c->n_slices * sizeof *k);
    assert_ok(ops->select_begin(bench->queue, selection, k));
    memset(k, 0xff, sizeof k); /* taken over before the call returned */
    if (second) {
        assert_ok(ops->wait(bench->queue));
    }
    for (int32_t pass = 0; pass < LORS_SELECT_PASSES; pass++) {
        int n_pieces = pieces_of(pieces, c->n, c->shuffle ? stream : NULL);
        counter count = {.ops = ops,
                         .queue = bench->queue,
                         .selection = *selection,
                         .x = values,
                         .stride = c->stride,
                         .pass = pass,
                         .pieces = pieces,
                         .n_pieces = n_pieces};
        count_pass(count, second);
        assert_ok(ops->select_settle(bench->queue, selection, pass));
        if (second) {
            assert_ok(ops->wait(bench->queue));
        }
    }
}

/* The mask and the counts, against sorting; what lies between slices of the mask stays. */
static void check_masks(ops_bench *bench, const choice *c, lors_view mask, lors_view kept)
{
    uint8_t *wanted = malloc((size_t)c->n + 1);
    const uint8_t *got = ops_host(bench, mask);
    const uint64_t *n_kept = ops_host(bench, kept);
    for (int32_t slice = 0; slice < c->n_slices; slice++) {
        const float *x = c->x + slice * c->stride;
        assert_int_equal(n_kept[slice], oracle_select(wanted, x, c->n, c->k[slice]));
        for (int64_t i = 0; i < c->n; i++) {
            expect(got[slice * c->stride + i] == wanted[i],
                   "n %lld slice %d k %llu element %lld (%a): %d", (long long)c->n, slice,
                   (unsigned long long)c->k[slice], (long long)i, (double)x[i],
                   got[slice * c->stride + i]);
        }
        for (int64_t i = c->n; i < c->stride && slice < c->n_slices - 1; i++) {
            assert_int_equal(got[slice * c->stride + i], 0xa5);
        }
    }
    ops_record(bench, got, (size_t)all_of(c));
    free(wanted);
}

static void check_choice(ops_bench *bench, const choice *c)
{
    const lors_backend_ops *ops = bench->ops;
    piece pieces[MAX_PIECES];
    synth_stream stream = {c->shuffle, 0};
    lors_selection selection = {ops_scratch(bench, state_bytes(bench, c)), (uint64_t)c->n,
                                c->n_slices};
    lors_view values = ops_copy_of(bench, c->x, all_of(c), 4);
    lors_view mask = ops_buffer_of(bench, all_of(c), 1);
    lors_view kept = ops_buffer_of(bench, c->n_slices, 8);
    select_slices(bench, c, &selection, values, &stream);
    int n_pieces = pieces_of(pieces, c->n, c->shuffle ? &stream : NULL);
    for (int i = 0; i < n_pieces; i++) {
        uint64_t first = pieces[i].first;
        assert_ok(ops->keep_top(bench->queue, &selection, lors_view_at(mask, first),
                                lors_view_at(values, 4 * first), c->stride, first, pieces[i].n));
    }
    assert_ok(ops->select_kept(bench->queue, &selection, kept));
    check_masks(bench, c, mask, kept);
    ops_clear(bench);
}

static void check_select(ops_bench *bench, const float *x, int64_t n, uint64_t k, uint64_t shuffle,
                         bool two_queues)
{
    check_choice(bench, &(choice){x, n, n, 1, &k, shuffle, two_queues});
}

static void check_all_k(ops_bench *bench, const float *x, int64_t n, uint64_t seed)
{
    uint64_t all = (uint64_t)n;
    uint64_t ks[] = {0, 1, all / 5, all / 2, all > 0 ? all - 1 : 0, all, all + 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i += bench->emulated ? 2 : 1) {
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
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s += bench->emulated ? 3 : 1) {
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
    float *x = malloc(N * sizeof *x);
    choice c = {.x = x, .n = N, .stride = N, .n_slices = 1};
    lors_selection selection = {ops_scratch(bench, state_bytes(bench, &c)), N, 1};
    for (uint64_t round = 0; round < 4; round++) {
        synth_stream stream = {round, 0};
        (round % 2 ? fill_few : fill_pairs)(x, N, &stream);
        uint64_t k = 100 + 6000 * round;
        c.k = &k;
        lors_view values = ops_copy_of(bench, x, N, 4);
        lors_view mask = ops_buffer_of(bench, N, 1), kept = ops_buffer_of(bench, 1, 8);
        select_slices(bench, &c, &selection, values, &stream);
        assert_ok(bench->ops->keep_top(bench->queue, &selection, mask, values, N, 0, N));
        assert_ok(bench->ops->select_kept(bench->queue, &selection, kept));
        check_masks(bench, &c, mask, kept);
    }
    free(x);
}

/* --- slices ----------------------------------------------------------------------------------- */

/* drop_top clears what keep_top would set, and nothing else. */
static void dropped_is_what_would_be_kept(ops_bench *bench)
{
    enum { N = 20000, SLICES = 3, STRIDE = N + 1, ALL = 2 * STRIDE + N };
    static const uint64_t k[SLICES] = {4000, 0, N};
    float *x = malloc(ALL * sizeof *x);
    uint8_t *before = malloc(ALL);
    synth_stream stream = {5, 0};
    fill_few(x, ALL, &stream);
    for (int64_t i = 0; i < ALL; i++) {
        before[i] = (uint8_t)synth_below(&stream, 3);
        x[i] = i % 97 == 0 ? NAN : x[i];
    }
    choice c = {x, N, STRIDE, SLICES, k, 0, false};
    lors_selection selection = {ops_scratch(bench, state_bytes(bench, &c)), N, SLICES};
    lors_view values = ops_copy_of(bench, x, ALL, 4), mask = ops_copy_of(bench, before, ALL, 1);
    lors_view kept = ops_buffer_of(bench, ALL, 1);
    select_slices(bench, &c, &selection, values, &stream);
    assert_ok(bench->ops->keep_top(bench->queue, &selection, kept, values, STRIDE, 0, N));
    for (uint64_t first = 0; first < N; first += 2 * LORS_BLOCK) { /* in two calls */
        int64_t n = N - (int64_t)first < 2 * LORS_BLOCK ? N - (int64_t)first : 2 * LORS_BLOCK;
        assert_ok(bench->ops->drop_top(bench->queue, &selection, lors_view_at(mask, first),
                                       lors_view_at(values, 4 * first), STRIDE, first, n));
    }
    const uint8_t *top = ops_host(bench, kept), *got = ops_host(bench, mask);
    int64_t n_dropped = 0;
    for (int64_t i = 0; i < ALL; i++) {
        bool inside = i % STRIDE < N, drop = inside && top[i];
        assert_int_equal(got[i], drop ? 0 : before[i]);
        n_dropped += drop && before[i];
    }
    assert_true(n_dropped > N / 2);
    ops_record(bench, got, ALL);
    ops_clear(bench);
    free(before);
    free(x);
}

/* Slices of all kinds side by side, with a k each; NaN in some, nothing but NaN in one. */
static void check_slices(ops_bench *bench, int64_t n, int64_t stride, int32_t n_slices,
                         uint64_t seed)
{
    static void (*const fills[])(float *, int64_t, synth_stream *) = {
        fill_any_bits, fill_few, fill_pairs, fill_zeros, fill_nan, fill_neighbours, fill_special,
    };
    float *x = malloc((size_t)(n_slices * stride + 1) * sizeof *x);
    uint64_t k[LORS_MAX_MODELS], all = (uint64_t)n;
    synth_stream stream = {seed, 0};
    for (int32_t slice = 0; slice < n_slices; slice++) {
        const uint64_t ks[] = {all / 5, 0, all, UINT64_MAX, all / 2, 1, all / 3, all + 1};
        k[slice] = ks[((uint64_t)slice + seed) % 8];
        fills[slice % 7](x + slice * stride, stride, &stream);
        for (int64_t i = 0; i < stride && slice == 3; i++) {
            x[slice * stride + i] = NAN;
        }
    }
    for (int i = 0; i < 3; i++) {
        choice c = {x, n, stride, n_slices, k, i ? seed + (uint64_t)i : 0, i == 2};
        check_choice(bench, &c);
    }
    free(x);
}

static void slices_are_chosen_apart(ops_bench *bench)
{
    static const int64_t lengths[] = {1, 513, 8192, 8193, 30000};
    for (uint64_t i = 0; i < (bench->emulated ? 4 : 5); i++) {
        check_slices(bench, lengths[i], lengths[i], 5, 10 * i);
        check_slices(bench, lengths[i], lengths[i] + 3, 7, 10 * i + 5);
    }
}

/* More slices than matrices in a batch, up to the most models of a sum. */
static void many_slices(ops_bench *bench)
{
    check_slices(bench, 9000, 9001, 9, 1);
    check_slices(bench, 8300, 8300, 20, 2);
    check_slices(bench, 70, 77, LORS_MAX_MODELS, 3);
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
        {"what is dropped is what would be kept", dropped_is_what_would_be_kept},
        {"slices are chosen apart", slices_are_chosen_apart},
        {"many slices", many_slices},
    };
    return ops_run("select", cases, sizeof cases / sizeof *cases);
}

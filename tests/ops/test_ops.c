/* test_ops.c - the contract as a whole: every entry is there, memory and queues behave, nothing is
 * too small. */
#include "ops_bench.h"

#include <stdlib.h>
#include <string.h>

#include "backend/backend_registry.h"
#include "synth.h"

static void every_entry_is_filled(ops_bench *bench)
{
    const lors_backend_ops *ops = bench->ops;
    assert_int_equal(ops->abi, LORS_BACKEND_ABI);
    assert_non_null(ops->name);
    assert_true(ops->tile_elements >= 0 && ops->tile_elements % LORS_BLOCK == 0);
    assert_in_range(ops->batch, 1, LORS_MAX_BATCH);
    /* From `open` on there are only function pointers: none may be null, also none added later. */
    const unsigned char *bytes = (const unsigned char *)ops;
    for (size_t at = offsetof(lors_backend_ops, open); at < sizeof *ops; at += sizeof(void *)) {
        void *entry;
        memcpy(&entry, bytes + at, sizeof entry);
        expect(entry != NULL, "entry at byte %zu", at);
    }
    for (uint64_t total = 0; total < 100000; total += 1 + total / 2) {
        expect(ops->select_bytes(total) % LORS_VIEW_ALIGN == 0, "of %llu",
               (unsigned long long)total);
    }
}

/* --- Memory ----------------------------------------------------------------------------------- */

static void memory_can_be_had_in_any_size(ops_bench *bench)
{
    static const lors_memory_kind places[] = {LORS_ON_DEVICE, LORS_STAGING};
    for (uint64_t n_bytes = 0; n_bytes < 5000; n_bytes += 1 + n_bytes / 3) {
        for (int p = 0; p < 2; p++) {
            lors_memory *memory = NULL;
            assert_ok(bench->ops->allocate(bench->backend, places[p], n_bytes, &memory));
            assert_non_null(memory);
            void *bytes = bench->ops->host_bytes((lors_view){memory, 0});
            if (n_bytes > 0) { /* the host reaches staging, and the device's where they are one */
                assert_true((bytes != NULL) == (places[p] == LORS_STAGING || bench->ops->unified));
                assert_int_equal((uintptr_t)bytes % LORS_VIEW_ALIGN, 0);
            }
            if (n_bytes > 0 && bytes) {
                memset(bytes, 1, n_bytes);
            }
            bench->ops->release(bench->backend, memory);
        }
    }
    bench->ops->release(bench->backend, NULL);
}

static void too_much_memory_is_an_error(ops_bench *bench)
{
    static const uint64_t sizes[] = {UINT64_MAX / 4, UINT64_MAX - 100, UINT64_MAX};
    for (int i = 0; i < 6; i++) {
        lors_memory *memory = NULL;
        lors_memory_kind place = i % 2 ? LORS_STAGING : LORS_ON_DEVICE;
        lors_status status = bench->ops->allocate(bench->backend, place, sizes[i / 2], &memory);
        assert_true(status == LORS_ERR_LIMIT || status == LORS_ERR_DEVICE);
        assert_true(strlen(lors_last_error()) > 0);
    }
    lors_memory *memory = NULL; /* and after it there is memory as before */
    assert_ok(bench->ops->allocate(bench->backend, LORS_ON_DEVICE, 4096, &memory));
    bench->ops->release(bench->backend, memory);
}

static void memory_info_is_sane(ops_bench *bench)
{
    uint64_t n_free = 0, n_total = 0;
    assert_ok(bench->ops->memory_info(bench->backend, &n_free, &n_total));
    assert_true(n_total > 0);
    assert_true(n_free <= n_total);
}

static void views_point_where_they_say(ops_bench *bench)
{
    lors_view view = {NULL, 0};
    assert_ok(bench->ops->allocate(bench->backend, LORS_STAGING, 100, &view.memory));
    unsigned char *bytes = bench->ops->host_bytes(view);
    assert_non_null(bytes);
    assert_ptr_equal(bench->ops->host_bytes(lors_view_at(view, 17)), bytes + 17);
    assert_null(bench->ops->host_bytes(LORS_NO_VIEW));
    bench->ops->release(bench->backend, view.memory);
}

/* --- Transfers -------------------------------------------------------------------------------- */

/* To the device and back, with what lies beside it left alone on either side. */
static void check_transfer(ops_bench *bench, uint64_t n_bytes, uint64_t at, uint64_t from)
{
    enum { BESIDE = 40 };
    const lors_backend_ops *ops = bench->ops;
    uint64_t total = n_bytes + 2 * BESIDE;
    lors_view there = {NULL, 0}, back = {NULL, 0};
    lors_view device = ops_zeros(bench, (int64_t)total, 1);
    assert_ok(ops->allocate(bench->backend, LORS_STAGING, total, &there.memory));
    assert_ok(ops->allocate(bench->backend, LORS_STAGING, total, &back.memory));
    unsigned char *sent = ops->host_bytes(there), *got = ops->host_bytes(back);
    synth_stream stream = {n_bytes + at + from, 0};
    for (uint64_t i = 0; i < total; i++) {
        sent[i] = (unsigned char)(1 + synth_below(&stream, 255));
        got[i] = 0;
    }
    assert_ok(
        ops->upload(bench->queue, lors_view_at(device, at), lors_view_at(there, from), n_bytes));
    assert_ok(
        ops->download(bench->queue, lors_view_at(back, from), lors_view_at(device, at), n_bytes));
    assert_ok(ops->wait(bench->queue));
    const unsigned char *held = ops_host(bench, device);
    for (uint64_t i = 0; i < total; i++) {
        bool inside = i >= from && i < from + n_bytes, in_device = i >= at && i < at + n_bytes;
        expect(got[i] == (inside ? sent[i] : 0), "%llu bytes: byte %llu",
               (unsigned long long)n_bytes, (unsigned long long)i);
        expect(held[i] == (in_device ? sent[i - at + from] : 0), "%llu bytes: byte %llu there",
               (unsigned long long)n_bytes, (unsigned long long)i);
    }
    ops_clear(bench);
    ops->release(bench->backend, there.memory);
    ops->release(bench->backend, back.memory);
}

static void transfers_take_any_size_and_place(ops_bench *bench)
{
    static const uint64_t sizes[] = {0, 1, 2, 3, 5, 7, 255, 256, 257, 4095, 4097, 100003};
    static const uint64_t places[] = {0, 1, 3, 6, 17};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (size_t p = 0; p < 25; p++) {
            check_transfer(bench, sizes[s], places[p / 5], places[p % 5]);
        }
    }
}

/* Where device and staging memory are one, a view may be both: nothing is to be done. */
static void a_transfer_in_place_changes_nothing(ops_bench *bench)
{
    if (!bench->ops->unified) {
        return;
    }
    static const char text[] = "the same place";
    lors_view view = ops_copy_of(bench, text, sizeof text, 1);
    assert_ok(bench->ops->upload(bench->queue, view, view, sizeof text));
    assert_ok(bench->ops->download(bench->queue, view, view, sizeof text));
    assert_memory_equal(ops_host(bench, view), text, sizeof text);
}

/* A queue is in order: upload, operation, download, and only then a wait. */
static void a_download_has_what_an_operation_wrote(ops_bench *bench)
{
    enum { N = 20001 };
    const lors_backend_ops *ops = bench->ops;
    lors_view in = {NULL, 0}, out = {NULL, 0};
    lors_view raw = ops_buffer_of(bench, N, 2), wide = ops_buffer_of(bench, N, 4);
    assert_ok(ops->allocate(bench->backend, LORS_STAGING, N * 2, &in.memory));
    assert_ok(ops->allocate(bench->backend, LORS_STAGING, N * 4, &out.memory));
    uint16_t *sent = ops->host_bytes(in);
    float *got = ops->host_bytes(out);
    for (uint16_t round = 0; round < 5; round++) {
        for (int i = 0; i < N; i++) {
            sent[i] = (uint16_t)((i * 7 + round) % 0x7f80);
            got[i] = -1;
        }
        assert_ok(ops->upload(bench->queue, raw, in, N * 2));
        assert_ok(ops->load(bench->queue, wide, raw, LORS_BF16, N, false, 0, LORS_NO_VIEW));
        assert_ok(ops->download(bench->queue, out, wide, N * 4));
        assert_ok(ops->wait(bench->queue));
        for (int i = 0; i < N; i++) {
            expect(lors_f32_bits(got[i]) == (uint32_t)sent[i] << 16, "round %d element %d", round,
                   i);
        }
    }
    ops_clear(bench);
    ops->release(bench->backend, in.memory);
    ops->release(bench->backend, out.memory);
}

static void clear_takes_any_size_and_place(ops_bench *bench)
{
    static const uint64_t sizes[] = {0, 1, 3, 8, 63, 257, 5000};
    static const uint64_t places[] = {0, 1, 5, 8, 100};
    for (size_t i = 0; i < 35; i++) {
        uint64_t n_bytes = sizes[i / 5], at = places[i % 5];
        lors_view view = ops_buffer_of(bench, 6000, 1);
        assert_ok(bench->ops->clear(bench->queue, lors_view_at(view, at), n_bytes));
        const unsigned char *bytes = ops_host(bench, view);
        for (uint64_t b = 0; b < 6000; b++) {
            assert_int_equal(bytes[b], b >= at && b < at + n_bytes ? 0 : 0xa5);
        }
        ops_clear(bench);
    }
}

/* --- Queues, devices -------------------------------------------------------------------------- */

static void waiting_for_nothing_is_nothing(ops_bench *bench)
{
    lors_queue *queue = NULL;
    assert_ok(bench->ops->wait(bench->queue));
    assert_ok(bench->ops->wait(bench->queue));
    assert_ok(bench->ops->open_queue(bench->backend, &queue));
    assert_non_null(queue);
    assert_ok(bench->ops->wait(queue));
    bench->ops->close_queue(queue);
    assert_ok(bench->ops->open_queue(bench->backend, &queue));
    bench->ops->close_queue(queue); /* never used */
    bench->ops->close_queue(NULL);
}

/* Closing waits for what is queued. */
static void closing_a_queue_waits(ops_bench *bench)
{
    enum { N = 100000 };
    lors_queue *queue = NULL;
    lors_view view = ops_buffer_of(bench, N, 1);
    assert_ok(bench->ops->open_queue(bench->backend, &queue));
    assert_ok(bench->ops->clear(queue, view, N));
    bench->ops->close_queue(queue);
    const unsigned char *bytes = ops_host(bench, view);
    for (int i = 0; i < N; i++) {
        assert_int_equal(bytes[i], 0);
    }
}

/* Two queues, one after the other told what to do with buffers of their own. */
static void two_queues_do_not_mix(ops_bench *bench)
{
    enum { N = 30000, ROUNDS = 4 };
    ops_bench second;
    ops_open_second(&second, bench);
    ops_bench *benches[] = {bench, &second};
    float *x = malloc(N * sizeof *x);
    lors_view out[2], a[2], b[2];
    for (int q = 0; q < 2; q++) {
        for (int i = 0; i < N; i++) {
            x[i] = (float)(i + q);
        }
        a[q] = ops_copy_of(benches[q], x, N, 4);
        b[q] = ops_copy_of(benches[q], x + 1, N - 1, 4);
        out[q] = ops_copy_of(benches[q], x, N, 4);
    }
    for (int round = 0; round < ROUNDS; round++) { /* out = a - b, then out = out - a, ... */
        for (int q = 0; q < 2; q++) {
            assert_ok(bench->ops->subtract(benches[q]->queue, out[q], round ? out[q] : a[q], N,
                                           round ? a[q] : b[q], N, 1, N - 1));
        }
    }
    for (int q = 0; q < 2; q++) {
        const float *got = ops_host(benches[q], out[q]);
        for (int i = 0; i < N - 1; i++) {
            float wanted = -1 - (float)(ROUNDS - 1) * (float)(i + q);
            expect(got[i] == wanted, "queue %d element %d: %g, not %g", q, i, (double)got[i],
                   (double)wanted);
        }
    }
    ops_close_second(&second);
    free(x);
}

static void a_missing_device_is_an_error(ops_bench *bench)
{
    lors_backend *backend = NULL;
    assert_int_equal(bench->ops->open(99, &backend), LORS_ERR_DEVICE);
    assert_int_equal(bench->ops->open(-1, &backend), LORS_ERR_DEVICE);
    lors_backend_choice choice;
    assert_int_equal(lors_backend_find("abacus", &choice), LORS_ERR_USAGE);
}

static void two_backends_do_not_know_each_other(ops_bench *bench)
{
    lors_backend *other = NULL;
    lors_memory *mine, *theirs;
    lors_queue *queue;
    assert_ok(bench->ops->open(0, &other));
    assert_ok(bench->ops->open_queue(other, &queue));
    assert_ok(bench->ops->allocate(bench->backend, LORS_STAGING, 64, &mine));
    assert_ok(bench->ops->allocate(other, LORS_STAGING, 64, &theirs));
    unsigned char *here = bench->ops->host_bytes((lors_view){mine, 0});
    assert_ptr_not_equal(here, bench->ops->host_bytes((lors_view){theirs, 0}));
    lors_view view = ops_zeros(bench, 64, 1);
    assert_ok(bench->ops->wait(bench->queue));
    bench->ops->release(other, theirs);
    bench->ops->close_queue(queue);
    bench->ops->close(other);
    memset(here, 1, 64);
    assert_ok(bench->ops->download(bench->queue, (lors_view){mine, 0}, view, 64));
    assert_ok(bench->ops->wait(bench->queue));
    for (int i = 0; i < 64; i++) {
        assert_int_equal(here[i], 0);
    }
    bench->ops->release(bench->backend, mine);
}

int main(void)
{
    static const ops_case cases[] = {
        {"every entry of the table is filled", every_entry_is_filled},
        {"memory can be had in any size", memory_can_be_had_in_any_size},
        {"too much memory is an error", too_much_memory_is_an_error},
        {"memory_info is sane", memory_info_is_sane},
        {"views point where they say", views_point_where_they_say},
        {"transfers take any size and place", transfers_take_any_size_and_place},
        {"a transfer in place changes nothing", a_transfer_in_place_changes_nothing},
        {"a download has what an operation wrote", a_download_has_what_an_operation_wrote},
        {"clear takes any size and place", clear_takes_any_size_and_place},
        {"waiting for nothing is nothing", waiting_for_nothing_is_nothing},
        {"closing a queue waits", closing_a_queue_waits},
        {"two queues do not mix", two_queues_do_not_mix},
        {"a missing device is an error", a_missing_device_is_an_error},
        {"two backends do not know each other", two_backends_do_not_know_each_other},
    };
    return ops_run("ops", cases, sizeof cases / sizeof *cases);
}

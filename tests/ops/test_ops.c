/* test_ops.c - the contract as a whole: every entry is there, memory behaves, nothing is too
 * small. */
#include "ops_bench.h"

#include <string.h>

#include "backend/backend_registry.h"

static void every_entry_is_filled(ops_bench *bench)
{
    const lors_backend_ops *ops = bench->ops;
    assert_int_equal(ops->abi, LORS_BACKEND_ABI);
    assert_non_null(ops->name);
    assert_true(ops->tile_elements >= 0 && ops->tile_elements % LORS_BLOCK == 0);
    /* From `open` on there are only function pointers: none may be null, also none added later. */
    const unsigned char *bytes = (const unsigned char *)ops;
    for (size_t at = offsetof(lors_backend_ops, open); at < sizeof *ops; at += sizeof(void *)) {
        void *entry;
        memcpy(&entry, bytes + at, sizeof entry);
        expect(entry != NULL, "entry at byte %zu", at);
    }
}

static void memory_can_be_had_in_any_size(ops_bench *bench)
{
    for (uint64_t n_bytes = 0; n_bytes < 5000; n_bytes += 1 + n_bytes / 3) {
        lors_memory *memory = NULL;
        assert_ok(bench->ops->allocate(bench->backend, n_bytes, &memory));
        assert_non_null(memory);
        if (n_bytes > 0) {
            memset(bench->ops->host_bytes((lors_view){memory, 0}), 1, n_bytes);
        }
        bench->ops->release(bench->backend, memory);
    }
    bench->ops->release(bench->backend, NULL);
}

static void too_much_memory_is_an_error(ops_bench *bench)
{
    lors_memory *memory = NULL;
    assert_int_not_equal(bench->ops->allocate(bench->backend, UINT64_MAX / 4, &memory), LORS_OK);
    assert_non_null(lors_last_error());
    assert_int_not_equal(bench->ops->allocate(bench->backend, UINT64_MAX, &memory), LORS_OK);
}

static void views_point_where_they_say(ops_bench *bench)
{
    lors_view view = ops_scratch(bench, 100);
    unsigned char *bytes = ops_host(bench, view);
    assert_ptr_equal(ops_host(bench, lors_view_at(view, 17)), bytes + 17);
    assert_null(ops_host(bench, LORS_NO_VIEW));
}

static void a_missing_device_is_an_error(ops_bench *bench)
{
    lors_backend *backend = NULL;
    assert_int_equal(bench->ops->open(99, &backend), LORS_ERR_DEVICE);
    assert_int_equal(bench->ops->open(-1, &backend), LORS_ERR_DEVICE);
    const lors_backend_ops *ops;
    int32_t index;
    assert_int_equal(lors_backend_find("abacus", &ops, &index), LORS_ERR_USAGE);
}

static void two_backends_do_not_know_each_other(ops_bench *bench)
{
    lors_backend *other = NULL;
    lors_memory *mine, *theirs;
    assert_ok(bench->ops->open(0, &other));
    assert_ok(bench->ops->allocate(bench->backend, 64, &mine));
    assert_ok(bench->ops->allocate(other, 64, &theirs));
    assert_ptr_not_equal(bench->ops->host_bytes((lors_view){mine, 0}),
                         bench->ops->host_bytes((lors_view){theirs, 0}));
    bench->ops->release(other, theirs);
    bench->ops->close(other);
    memset(bench->ops->host_bytes((lors_view){mine, 0}), 0, 64);
    bench->ops->release(bench->backend, mine);
}

int main(void)
{
    static const ops_case cases[] = {
        {"every entry of the table is filled", every_entry_is_filled},
        {"memory can be had in any size", memory_can_be_had_in_any_size},
        {"too much memory is an error", too_much_memory_is_an_error},
        {"views point where they say", views_point_where_they_say},
        {"a missing device is an error", a_missing_device_is_an_error},
        {"two backends do not know each other", two_backends_do_not_know_each_other},
    };
    return ops_run("ops", cases, sizeof cases / sizeof *cases);
}

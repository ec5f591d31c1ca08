/* test_io.c - however the models are read, the same bytes; and what lors.json says of it.
 *
 * O_DIRECT is left out when a file is opened, so that these tests need no file system that has it,
 * and every such read is held to what a disk would ask.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"

static const char *const recipes[] = {
    "merge_method: lors\nbase_model: b\nparameters: {rank: 3, density: 0.2}\n" TWO,
    "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" TWO,
    "merge_method: task_arithmetic\nbase_model: b\nparameters: {lambda: 0.7}\n" TWO,
    "merge_method: linear\n" TWO,
    "merge_method: slerp\nbase_model: b\nmodels: [{model: m}]\nparameters: {t: 0.4}\n",
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes };

/* ---- A table --------------------------------------------------------------------------------- */

static atomic_bool is_direct[1024]; /* by descriptor */
static atomic_bool refuses, cached;
static atomic_int n_misplaced;
static atomic_int harm; /* what the next read does to a file of m first: HARM_... */

enum { HARM_NONE, HARM_CUT, HARM_CHANGE };

static void do_harm(void)
{
    int what = atomic_exchange(&harm, HARM_NONE), fd = -1;
    if (what == HARM_CUT) {
        assert_int_equal(truncate("m/model.safetensors", 6000), 0);
    } else if (what == HARM_CHANGE) {
        fd = open("m/model.safetensors", O_WRONLY);
        assert_int_equal(pwrite(fd, "x", 1, 6000), 1);
        close(fd);
    }
}

static int fake_open(const char *path, int flags, mode_t mode)
{
    if ((flags & O_DIRECT) && refuses) {
        errno = EINVAL;
        return -1;
    }
    int fd = open(path, flags & ~O_DIRECT, mode);
    if (fd >= 0 && fd < 1024) {
        is_direct[fd] = flags & O_DIRECT;
    }
    return fd;
}

static ssize_t fake_pread(int fd, void *buffer, size_t n_bytes, off_t offset)
{
    const size_t page = LORS_DIRECT_ALIGN;
    bool fits = (uintptr_t)buffer % page == 0 && n_bytes % page == 0 && (size_t)offset % page == 0;
    n_misplaced += is_direct[fd] && !fits;
    do_harm();
    return pread(fd, buffer, n_bytes, offset);
}

static int fake_is_cached(int fd, off_t offset)
{
    (void)fd;
    (void)offset;
    return cached;
}

static void use_table(void)
{
    static lors_file_ops table;
    table = *lors_file_table();
    table.open = fake_open;
    table.pread = fake_pread;
    table.is_cached = fake_is_cached;
    lors_file_set_table(&table);
}

/* ---- Models ---------------------------------------------------------------------------------- */

/* One more space in the header: what follows lies at odd bytes of the file. */
static void make_odd(const char *path)
{
    size_t n_bytes;
    uint64_t length;
    char *bytes = rm_read_bytes(path, &n_bytes), *odd = malloc(n_bytes + 1);
    assert_non_null(odd);
    memcpy(&length, bytes, 8);
    size_t head = 8 + (size_t)length;
    memcpy(odd, bytes, head);
    odd[head] = ' ';
    memcpy(odd + head + 1, bytes + head, n_bytes - head);
    length++;
    memcpy(odd, &length, 8);
    rm_write_bytes(path, odd, n_bytes + 1);
    free(bytes);
    free(odd);
}

static void write_family(bool odd)
{
    rm_model *base = rm_whisper(LORS_F16, 1), *model = rm_clone(base);
    rm_write(base, "b", 3);
    rm_tune(model, 2, 0.01);
    rm_write(model, "m", 1);
    rm_tune(model, 3, 0.01);
    rm_write(model, "n", 2);
    if (odd) {
        make_odd("m/model.safetensors");
    }
    rm_free(base);
    rm_free(model);
}

/* Of the run: bytes read, and those of them past the cache. */
typedef struct bytes_read {
    uint64_t all, direct;
} bytes_read;

static bytes_read merge(const char *recipe, const char *out, lors_io io)
{
    rm_options options = RM_OPTIONS_INIT;
    lors_report_summary summary;
    json_error_t error;
    char path[64];
    options.run.io = io;
    RM_OK(rm_merge(recipe, out, &options, &summary));
    snprintf(path, sizeof path, "%s/lors.json", out);
    json_t *root = json_load_file(path, 0, &error), *totals = json_object_get(root, "totals");
    json_t *read = json_object_get(json_object_get(totals, "stages"), "read");
    bytes_read b = {(uint64_t)json_integer_value(json_object_get(read, "bytes")),
                    (uint64_t)json_integer_value(json_object_get(read, "direct_bytes"))};
    assert_true(json_is_integer(json_object_get(read, "direct_bytes")));
    assert_true(b.all == summary.read_bytes && b.direct == summary.direct_bytes);
    assert_true(b.all > 0 && b.direct <= b.all);
    json_decref(root);
    return b;
}

/* Merge as `io` says, and find what reading through the cache gave; the bytes past it. */
static bytes_read merge_same(const char *recipe, lors_io io)
{
    bytes_read b = merge(recipe, "out", io);
    if (!rm_same_files("out/model.safetensors", "through/model.safetensors")) {
        fail_msg("way %d gives other bytes\n%s", io, recipe);
    }
    assert_int_equal(n_misplaced, 0);
    return b;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void test_same_bytes(void **unused)
{
    (void)unused;
    for (int i = 0; i < N_RECIPES; i++) {
        assert_int_equal(merge(recipes[i], "through", LORS_IO_BUFFERED).direct, 0);
        bytes_read direct = merge_same(recipes[i], LORS_IO_DIRECT);
        assert_int_equal(direct.direct, direct.all);
        cached = false;
        assert_int_equal(merge_same(recipes[i], LORS_IO_AUTO).direct, direct.all);
        cached = true;
        assert_int_equal(merge_same(recipes[i], LORS_IO_AUTO).direct, 0);
        refuses = true;
        assert_int_equal(merge_same(recipes[i], LORS_IO_DIRECT).direct, 0);
        refuses = false;
    }
}

/* Elements that lie across their own size in the file cannot be used where they are read to. */
static void test_odd_headers(void **unused)
{
    (void)unused;
    write_family(true);
    for (int i = 0; i < N_RECIPES; i++) {
        merge(recipes[i], "through", LORS_IO_BUFFERED);
        bytes_read direct = merge_same(recipes[i], LORS_IO_DIRECT);
        assert_true(direct.direct > 0 && direct.direct < direct.all);
    }
    write_family(false);
}

/* The run ends with a sentence about the file, and without output. */
static void harm_while_reading(lors_io io, int what)
{
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    lors_run_options options = LORS_RUN_OPTIONS_INIT;
    options.io = io;
    rm_remove("out");
    RM_OK(lors_recipe_parse("recipe", recipes[2], strlen(recipes[2]), NULL, &recipe));
    RM_OK(lors_plan_create(recipe, NULL, &plan));
    harm = what;
    assert_int_equal(lors_run(plan, "out", &options, NULL), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "m/model.safetensors: "));
    assert_int_equal(harm, HARM_NONE);
    assert_false(rm_exists("out"));
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    write_family(false);
}

static void test_changes_while_reading(void **unused)
{
    (void)unused;
    cached = false;
    for (int io = LORS_IO_BUFFERED; io <= LORS_IO_DIRECT; io++) {
        harm_while_reading((lors_io)io, HARM_CUT);
        harm_while_reading((lors_io)io, HARM_CHANGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_odd_headers),
        cmocka_unit_test(test_changes_while_reading),
    };
    rm_work_in("io-work");
    write_family(false);
    use_table();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

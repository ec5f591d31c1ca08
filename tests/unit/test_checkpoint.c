/* test_checkpoint.c - a file or a folder of shards opened as one model, and everything amiss. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "io/checkpoint.h"
#include "io/handles.h"
#include "io_files.h"

#define U8(name, begin, end, size) \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" size "],\"data_offsets\":[" begin "," end "]}"
#define INDEX "model.safetensors.index.json"

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    io_folder_remove();
    assert_int_equal(lors_handles_count(), 0);
    return 0;
}

static lors_checkpoint *open_good(const char *path)
{
    lors_checkpoint *checkpoint = NULL;
    if (lors_checkpoint_open(path, false, &checkpoint) != LORS_OK) {
        fail_msg("%s", lors_last_error());
    }
    assert_non_null(checkpoint);
    return checkpoint;
}

static void refuse(const char *path, lors_status expected, const char *sentence)
{
    lors_checkpoint *checkpoint = (void *)1;
    lors_status status = lors_checkpoint_open(path, false, &checkpoint);
    if (status != expected || !strstr(lors_last_error(), sentence)) {
        print_message("%s: %s\n  expected: %s\n", lors_status_name(status), lors_last_error(),
                      sentence);
    }
    assert_int_equal(status, expected);
    assert_non_null(strstr(lors_last_error(), sentence));
    assert_null(checkpoint);
}

/* Two shards with one tensor each, and an index as given. */
static const char *make_shards(const char *index)
{
    const char *folder = io_path("m");
    io_mkdir(folder);
    io_write_tensors(io_path("m/model-00001-of-00002.safetensors"), "{" U8("a", "0", "4", "4") "}",
                     4);
    io_write_tensors(io_path("m/model-00002-of-00002.safetensors"), "{" U8("b", "0", "2", "2") "}",
                     2);
    if (index) {
        io_write_text(io_path("m/" INDEX), index);
    }
    return folder;
}

#define S1 "model-00001-of-00002.safetensors"
#define S2 "model-00002-of-00002.safetensors"
#define GOOD_INDEX \
    "{\"metadata\":{\"total_size\":6},\"weight_map\":{\"b\":\"" S2 "\",\"a\":\"" S1 "\"}}"

/* ---- What opens ----------------------------------------------------------------------------- */

static void test_single_file(void **state)
{
    (void)state;
    uint8_t bytes[3] = {0};
    const char *path = io_path("x.safetensors");
    io_write_tensors(path, "{" U8("b", "4", "7", "3") "," U8("a", "0", "4", "2,2") "}", 7);
    lors_checkpoint *c = open_good(path);
    assert_false(c->is_folder);
    assert_int_equal(lors_checkpoint_count(c), 2);
    assert_int_equal(lors_checkpoint_file_count(c), 1);
    assert_string_equal(c->files[0].name, "x.safetensors");
    assert_string_equal(c->tensors[0].name, "a");
    assert_int_equal(c->tensors[0].shape[1], 2);
    assert_int_equal(lors_ckpt_find(c, "b"), 1);
    assert_int_equal(lors_ckpt_find(c, "c"), -1);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[1], 1, bytes, 2), LORS_OK);
    assert_true(bytes[0] == 5 && bytes[1] == 6);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[1], 3, bytes, 0), LORS_OK);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[1], 1, bytes, 3), LORS_ERR_USAGE);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[1], UINT64_MAX, bytes, 2), LORS_ERR_USAGE);
    assert_int_equal(lors_ckpt_check_unchanged(c, &(bool){false}), LORS_OK);
    lors_checkpoint_close(c);
    lors_checkpoint_close(NULL);
}

static void test_folder(void **state)
{
    (void)state;
    io_mkdir(io_path("m"));
    io_write_tensors(io_path("m/model.safetensors"), "{" U8("a", "0", "4", "4") "}", 4);
    io_write_text(io_path("m/model.fp16.safetensors"), "a variant that nobody asked for");
    lors_checkpoint *c = open_good(io_path("m///"));
    assert_true(c->is_folder);
    assert_string_equal(c->path, io_path("m"));
    assert_int_equal(lors_checkpoint_warning_count(c), 0);
    lors_checkpoint_close(c);
}

static void test_shards(void **state)
{
    (void)state;
    uint8_t bytes[4] = {9, 9, 9, 9};
    lors_checkpoint *c = open_good(make_shards(GOOD_INDEX));
    assert_int_equal(lors_checkpoint_file_count(c), 2);
    assert_int_equal(lors_checkpoint_count(c), 2);
    assert_string_equal(c->tensors[0].name, "a");
    assert_string_equal(c->files[c->tensors[1].file].name, S2);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[1], 0, bytes, 2), LORS_OK);
    assert_true(bytes[0] == 0 && bytes[1] == 1);
    assert_int_equal(lors_checkpoint_warning_count(c), 0);
    assert_null(lors_checkpoint_warning(c, 0));
    assert_null(lors_checkpoint_warning(c, -1));
    lors_checkpoint_close(c);
}

static void expect_warning(const char *index, const char *sentence)
{
    lors_checkpoint *c = open_good(make_shards(index));
    assert_int_equal(lors_checkpoint_warning_count(c), sentence ? 1 : 0);
    if (sentence) {
        assert_non_null(strstr(lors_checkpoint_warning(c, 0), sentence));
    }
    lors_checkpoint_close(c);
    io_folder_remove();
    io_folder_create();
}

static void test_total_size(void **state)
{
    (void)state;
    static const char map[] = "\"weight_map\":{\"b\":\"" S2 "\",\"a\":\"" S1 "\"}}";
    char text[512];
    snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":7},%s", map);
    expect_warning(text, "total_size is 7, which is not");
    snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":6.0},%s", map);
    expect_warning(text, NULL);
    snprintf(text, sizeof text, "{\"metadata\":{},%s", map);
    expect_warning(text, NULL);
    snprintf(text, sizeof text, "{%s", map);
    expect_warning(text, NULL);
    snprintf(text, sizeof text, "{\"metadata\":[],%s", map);
    expect_warning(text, NULL);
}

static void test_both(void **state)
{
    (void)state;
    make_shards(GOOD_INDEX);
    io_write_tensors(io_path("m/model.safetensors"),
                     "{\"only\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8);
    unlink(io_path("m/" S2));
    lors_checkpoint *c = open_good(io_path("m"));
    assert_int_equal(lors_checkpoint_count(c), 1);
    assert_int_equal(lors_checkpoint_warning_count(c), 1);
    assert_non_null(strstr(lors_checkpoint_warning(c, 0), "the first is used"));
    lors_checkpoint_close(c);
}

static void test_header_warnings(void **state)
{
    (void)state;
    io_write_tensors(io_path("x.safetensors"),
                     " {\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{"
                     "\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[1,17]}}",
                     17);
    lors_checkpoint *c = open_good(io_path("x.safetensors"));
    assert_int_equal(lors_checkpoint_warning_count(c), 2);
    assert_non_null(strstr(lors_checkpoint_warning(c, 0), "leading spaces"));
    assert_non_null(strstr(lors_checkpoint_warning(c, 1), "not aligned"));
    lors_checkpoint_close(c);
}

/* ---- Indexes that lie ----------------------------------------------------------------------- */

static void test_bad_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *index, *sentence;
    } cases[] = {
        {"", ":1:0: "},
        {"{", "index.json:1:1: string or '}' expected near end of file"},
        {"[]", ":1:1: expected a JSON object"},
        {"{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", "duplicate object key"},
        {"{}", "weight_map is missing"},
        {"{\"weight_map\":[]}", "weight_map is no object"},
        {"{\"weight_map\":{}}", "weight_map is empty"},
        {"{\"weight_map\":{\"a\":1}}", "tensor 'a': the name of its file must be a string"},
        {"{\"weight_map\":{\"a\":null}}", "must be a string"},
        {"{\"weight_map\":{\"a\":\"\"}}", "names no file"},
        {"{\"weight_map\":{\"a\":\".\"}}", "names no file"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "names no file"},
        {"{\"weight_map\":{\"a\":\"../../x.safetensors\"}}",
         "its file '../../x.safetensors' is a p"},
        {"{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}", "is a path"},
        {"{\"weight_map\":{\"a\":\"a/../x.safetensors\"}}", "is a path"},
        {"{\"weight_map\":{\"a\":\"sub\\\\x.safetensors\"}}", "is a path"},
        {"{\"weight_map\":{\"a\":\"c:x.safetensors\"}}", "is a path"},
        {"{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}", "index.json:1:"},
        {"{\"weight_map\":{\"a\":\"x\\u001b[2J.safetensors\"}}",
         "x\\x1b[2J.safetensors' holds a c"},
        {"{\"weight_map\":{\"a\":\"model.bin\"}}", "is no safetensors file"},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", "is no safetensors file"},
        {"{\"weight_map\":{\"a\":\"x.safetensors\"}}",
         "it names 'x.safetensors', which is missing"},
        {"{\"weight_map\":{\"a\":\"" S1 "\",\"b\":\"" S1 "\"}}",
         "tensor 'b': its file '" S1 "' does not hold it, nor does another"},
        {"{\"weight_map\":{\"a\":\"" S2 "\",\"b\":\"" S1 "\"}}", "does not hold it, another does"},
        {"{\"weight_map\":{\"a\":\"" S1 "\",\"b\":\"" S2 "\",\"c\":\"" S2 "\"}}",
         "tensor 'c': its file '" S2 "' does not hold it, nor"},
        {"{\"weight_map\":{\"b\":\"" S2 "\",\"x\":NaN}}", "NaN and Infinity are no JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refuse(make_shards(cases[i].index), LORS_ERR_INPUT, cases[i].sentence);
        io_folder_remove();
        io_folder_create();
    }
}

static void test_long_name(void **state)
{
    (void)state;
    char index[512];
    snprintf(index, sizeof index, "{\"weight_map\":{\"a\":\"%0300d.safetensors\"}}", 0);
    refuse(make_shards(index), LORS_ERR_INPUT, "longer than 255 bytes");
}

static void test_stale_tensors(void **state)
{
    (void)state;
    make_shards(GOOD_INDEX);
    io_write_tensors(io_path("m/" S2), "{" U8("b", "0", "2", "2") "," U8("c", "2", "3", "1") "}",
                     3);
    refuse(io_path("m"), LORS_ERR_INPUT, "tensor 'c': it is in the file but not in the index");
    io_write_tensors(io_path("m/" S2), "{" U8("b", "0", "2", "2") "," U8("a", "2", "3", "1") "}",
                     3);
    refuse(io_path("m"), LORS_ERR_INPUT, "tensor 'a': it is in " S1 " as well");
}

static void test_odd_shards(void **state)
{
    (void)state;
    make_shards(GOOD_INDEX);
    unlink(io_path("m/" S1));
    io_mkdir(io_path("m/" S1));
    refuse(io_path("m"), LORS_ERR_INPUT, S1 ": a folder, not a file of weights");
    rmdir(io_path("m/" S1));
    assert_int_equal(mkfifo(io_path("m/" S1), 0666), 0);
    refuse(io_path("m"), LORS_ERR_INPUT, "a pipe, socket or device");
    unlink(io_path("m/" S1));
    io_write_text(io_path("m/" S1), "PK\x03\x04 and so on");
    refuse(io_path("m"), LORS_ERR_INPUT, "a PyTorch zip file");
}

/* ---- What is no model ----------------------------------------------------------------------- */

static void test_missing(void **state)
{
    (void)state;
    refuse(io_path("nowhere"), LORS_ERR_IO, "nowhere: no such file or folder");
    refuse("", LORS_ERR_IO, "no such file or folder");
    io_write_text(io_path("file"), "");
    refuse(io_path("file/x"), LORS_ERR_IO, "cannot be examined");
    refuse(io_path("file"), LORS_ERR_INPUT, "the file ends before its header");
    refuse("/dev/null", LORS_ERR_INPUT, "a pipe, socket or device");
    io_write_text(io_path(INDEX), GOOD_INDEX);
    refuse(io_path(INDEX), LORS_ERR_INPUT, "an index of shards: give its folder instead");
    io_write_tensors(io_path("nul"), "{" U8("a\\u0000b", "0", "4", "4") "}", 4);
    refuse(io_path("nul"), LORS_ERR_INPUT, "tensor 'a\\x00b': its name holds a NUL");
}

static void test_other_formats(void **state)
{
    (void)state;
    static const struct {
        const char *file, *sentence;
    } cases[] = {
        {"x.txt", "no file of weights: is it the right folder?"},
        {"model.fp32.safetensors", "only files of other names"},
        {"model.gguf", "only GGUF files"},
        {"tf_model.h5", "only TensorFlow weights"},
        {"flax_model.msgpack", "only Flax weights"},
        {"large.pt", "convert to safetensors first"},
        {"pytorch_model.bin", "only PyTorch weights: convert to safetensors first"},
        {"adapter_model.safetensors", "only a PEFT adapter"},
    };
    io_mkdir(io_path("m"));
    refuse(io_path("m"), LORS_ERR_INPUT,
           "neither model.safetensors nor " INDEX " is here, no file");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) { /* they add up: the last wins */
        io_write_text(io_path("m/%s", cases[i].file), "x");
        refuse(io_path("m"), LORS_ERR_INPUT, cases[i].sentence);
    }
}

/* ---- Links ---------------------------------------------------------------------------------- */

static void test_hub_cache(void **state)
{
    (void)state;
    lors_checkpoint *c = NULL;
    io_mkdir(io_path("repo"));
    io_mkdir(io_path("repo/blobs"));
    io_mkdir(io_path("repo/snapshots"));
    io_mkdir(io_path("repo/snapshots/rev"));
    io_write_tensors(io_path("repo/blobs/abc"), "{" U8("a", "0", "4", "4") "}", 4);
    io_link("../../blobs/abc", io_path("repo/snapshots/rev/model.safetensors"));
    lors_checkpoint_close(open_good(io_path("repo/snapshots/rev")));
    io_link("repo/snapshots/rev", io_path("named")); /* a link to the folder is the user's own */
    lors_checkpoint_close(open_good(io_path("named")));
    lors_checkpoint_close(open_good(io_path("repo/snapshots/rev/model.safetensors")));
    io_write_tensors(io_path("secret"), "{" U8("a", "0", "4", "4") "}", 4);
    unlink(io_path("repo/blobs/abc"));
    io_link("../../secret", io_path("repo/blobs/abc")); /* a blob that leads on */
    refuse(io_path("named"), LORS_ERR_INPUT, "a link that leaves the model's folder");
    assert_int_equal(lors_checkpoint_open(io_path("named"), true, &c), LORS_OK);
    lors_checkpoint_close(c);
    unlink(io_path("repo/blobs/abc"));
    refuse(io_path("named"), LORS_ERR_INPUT, "a link to a file that is missing");
}

static void check_link(const char *target, bool follow, lors_status expected, const char *sentence)
{
    const char *path = io_path("m/link");
    unlink(path);
    io_link(target, path);
    assert_int_equal(lors_ckpt_check_link(io_path("m"), "link", follow), expected);
    if (sentence) {
        assert_non_null(strstr(lors_last_error(), sentence));
    }
}

static void test_links(void **state)
{
    (void)state;
    io_mkdir(io_path("m"));
    io_mkdir(io_path("m2"));
    io_mkdir(io_path("blobs"));
    io_mkdir(io_path("m/sub"));
    io_write_text(io_path("m/plain"), "x");
    io_write_text(io_path("m/sub/inner"), "x");
    io_write_text(io_path("m2/outer"), "x");
    io_write_text(io_path("blobs/b"), "x");
    io_link("../m2", io_path("m/door"));
    assert_int_equal(lors_ckpt_check_link(io_path("m"), "plain", false), LORS_OK);
    assert_int_equal(lors_ckpt_check_link(io_path("m"), "none", false), LORS_ERR_IO);
    check_link("plain", false, LORS_OK, NULL);
    check_link("sub/inner", false, LORS_OK, NULL);
    check_link("sub/../plain", false, LORS_OK, NULL);
    check_link(io_path("m/plain"), false, LORS_OK, NULL);
    check_link("../m2/outer", false, LORS_ERR_INPUT, "leaves the model's folder");
    check_link("../m2/outer", true, LORS_OK, NULL);
    check_link("door/outer", false, LORS_ERR_INPUT, "leaves the model's folder");
    check_link("../blobs/b", false, LORS_ERR_INPUT, "leaves the model's folder");
    check_link("/etc/passwd", false, LORS_ERR_INPUT, "(to /etc/passwd)");
    check_link("/nowhere/at/all", false, LORS_ERR_INPUT, "missing");
    check_link("/nowhere/at/all", true, LORS_ERR_INPUT, "missing");
    check_link("link", false, LORS_ERR_INPUT, "leads back to itself");
}

static void test_index_link(void **state)
{
    (void)state;
    make_shards(NULL);
    io_write_text(io_path("index"), GOOD_INDEX);
    io_link("../index", io_path("m/" INDEX));
    refuse(io_path("m"), LORS_ERR_INPUT, INDEX ": a link that leaves the model's folder");
}

/* ---- Changes, handles, values --------------------------------------------------------------- */

static void test_changes(void **state)
{
    (void)state;
    uint8_t byte;
    const char *path = io_path("x.safetensors");
    io_write_tensors(path, "{" U8("a", "0", "4", "4") "}", 4);
    lors_checkpoint *c = open_good(path);
    assert_int_equal(lors_ckpt_check_unchanged(c, &(bool){false}), LORS_OK);
    io_write_tensors(path, "{" U8("a", "0", "4", "4") " }", 4);
    assert_int_equal(lors_ckpt_check_unchanged(c, &(bool){false}), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "x.safetensors: was "));
    assert_non_null(strstr(lors_last_error(), " while it was read"));
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[0], 0, &byte, 1), LORS_ERR_IO);
    assert_non_null(strstr(lors_last_error(), "tensor 'a': "));
    unlink(path);
    assert_int_equal(lors_ckpt_check_unchanged(c, &(bool){false}), LORS_ERR_IO);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[0], 0, &byte, 1), LORS_ERR_IO);
    lors_checkpoint_close(c);
}

static void test_shrinking(void **state)
{
    (void)state;
    uint8_t bytes[4];
    const char *path = io_path("x.safetensors");
    io_write_tensors(path, "{" U8("a", "0", "4", "4") "}", 4);
    lors_checkpoint *c = open_good(path);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[0], 0, bytes, 4), LORS_OK);
    assert_int_equal(truncate(path, 20), 0);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[0], 0, bytes, 4), LORS_ERR_INPUT);
    assert_non_null(strstr(lors_last_error(), "truncated"));
    lors_checkpoint_close(c);
}

enum { N_SHARDS = 60 };

static lors_checkpoint *open_many(void)
{
    lors_text index = {0};
    io_mkdir(io_path("m"));
    lors_text_printf(&index, "{\"weight_map\":{");
    for (int i = 0; i < N_SHARDS; i++) {
        char json[256];
        snprintf(json, sizeof json,
                 "{\"t%d\":{\"dtype\":\"U8\",\"shape\":[9],"
                 "\"data_offsets\":[0,9]}}",
                 i);
        io_write_tensors(io_path("m/s%02d.safetensors", i), json, 9);
        lors_text_printf(&index, "%s\"t%d\":\"s%02d.safetensors\"", i ? "," : "", i, i);
    }
    lors_text_printf(&index, "}}");
    io_write_text(io_path("m/" INDEX), index.bytes);
    lors_text_clear(&index);
    return open_good(io_path("m"));
}

static void *read_all(void *argument)
{
    lors_checkpoint *c = argument;
    for (int round = 0; round < 200; round++) {
        uint8_t bytes[9] = {0};
        int64_t i =
            (int64_t)(((uintptr_t)&bytes >> 12) % N_SHARDS + 7 * (uintptr_t)round) % N_SHARDS;
        if (lors_ckpt_read_at(c, &c->tensors[i], 0, bytes, 9) != LORS_OK || bytes[8] != 8) {
            return argument;
        }
    }
    return NULL;
}

/* Sixty shards and twenty threads with room for 32 descriptors. */
static void test_few_handles(void **state)
{
    (void)state;
    enum { N_THREADS = 20 };
    struct rlimit limit, old;
    pthread_t threads[N_THREADS];
    getrlimit(RLIMIT_NOFILE, &old);
    limit = old;
    limit.rlim_cur = 32;
    setrlimit(RLIMIT_NOFILE, &limit);
    lors_checkpoint *c = open_many();
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, c), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_in_range(lors_handles_count(), 1, LORS_MAX_HANDLES);
    setrlimit(RLIMIT_NOFILE, &old);
    lors_checkpoint_close(c);
    assert_int_equal(lors_handles_count(), 0);
}

/* When something else has used up the descriptors, idle handles are given up. */
static void test_no_descriptors(void **state)
{
    (void)state;
    uint8_t byte;
    int taken[1024], n_taken = 0;
    struct rlimit limit, old;
    lors_checkpoint *c = open_many();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(lors_ckpt_read_at(c, &c->tensors[i], 0, &byte, 1), LORS_OK);
    }
    getrlimit(RLIMIT_NOFILE, &old);
    limit = old;
    limit.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int fd; n_taken < 1024 && (fd = dup(1)) >= 0;) {
        taken[n_taken++] = fd;
    }
    assert_int_equal(lors_handles_count(), 4);
    assert_int_equal(lors_ckpt_read_at(c, &c->tensors[9], 0, &byte, 1), LORS_OK);
    assert_int_equal(lors_handles_count(), 1);
    while (n_taken > 0) {
        close(taken[--n_taken]);
    }
    setrlimit(RLIMIT_NOFILE, &old);
    lors_checkpoint_close(c);
}

static void test_values(void **state)
{
    (void)state;
    static const char json[] = "{\"f\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                               "\"h\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[12,20]},"
                               "\"b\":{\"dtype\":\"BF16\",\"shape\":[5],\"data_offsets\":[20,30]},"
                               "\"i\":{\"dtype\":\"I16\",\"shape\":[1],\"data_offsets\":[30,32]}}";
    static const float f[3] = {1.5f, -2.25f, 1e-40f};
    static const uint16_t h[4] = {0x3c00, 0xc000, 0x0001, 0x7c00};
    static const uint16_t b[5] = {0x3f80, 0xc000, 0x0001, 0x7f80, 0x7fff};
    char bytes[8 + sizeof json - 1 + 32] = {(char)(sizeof json - 1), (sizeof json - 1) >> 8};
    memcpy(bytes + 8, json, sizeof json - 1);
    char *data = bytes + 8 + sizeof json - 1;
    memcpy(data, f, 12);
    memcpy(data + 12, h, 8);
    memcpy(data + 20, b, 10);
    io_write(io_path("x"), bytes, sizeof bytes);
    lors_checkpoint *c = open_good(io_path("x"));
    float out[5] = {0};
    assert_int_equal(lors_checkpoint_read(c, 0, 1, 2, out), LORS_OK);
    assert_true(out[0] == -2.25f && out[1] == 1e-40f);
    assert_int_equal(lors_checkpoint_read(c, 1, 0, 4, out), LORS_OK);
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-24f && isinf(out[3]));
    assert_int_equal(lors_checkpoint_read(c, 2, 0, 5, out), LORS_OK);
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-133f && isinf(out[3]));
    assert_true(isnan(out[4]));
    assert_int_equal(lors_checkpoint_read(c, 2, 4, 1, out), LORS_OK);
    assert_true(isnan(out[0]) && out[1] == -2);
    assert_int_equal(lors_checkpoint_read(c, 2, 5, 0, out), LORS_OK);
    assert_int_equal(lors_checkpoint_read(c, 2, 5, 1, out), LORS_ERR_USAGE);
    assert_int_equal(lors_checkpoint_read(c, 2, UINT64_MAX, 2, out), LORS_ERR_USAGE);
    assert_int_equal(lors_checkpoint_read(c, 3, 0, 1, out), LORS_ERR_USAGE);
    assert_non_null(strstr(lors_last_error(), "tensor 'i': its dtype is I16"));
    assert_int_equal(lors_checkpoint_read(c, 4, 0, 1, out), LORS_ERR_USAGE);
    assert_int_equal(lors_checkpoint_read(c, -1, 0, 1, out), LORS_ERR_USAGE);
    lors_checkpoint_close(c);
}

/* ---- Memory --------------------------------------------------------------------------------- */

static void test_memory_failures(void **state)
{
    (void)state;
    const char *folder = make_shards("{\"metadata\":{\"total_size\":7},\"weight_map\":{\"b\":\"" S2
                                     "\",\"a\":\"" S1 "\"}}"); /* one warning */
    for (int sticky = 0; sticky < 2; sticky++) {
        uint64_t n = 1;
        for (;; n++) {
            lors_checkpoint *c = NULL;
            lors_alloc_fail_at(n, sticky);
            lors_status status = lors_checkpoint_open(folder, false, &c);
            bool reached = lors_alloc_count() >= n;
            lors_alloc_fail_at(0, false);
            lors_checkpoint_close(c);
            if (status == LORS_OK && !reached) {
                break;
            }
            if (status != LORS_OK && status != LORS_ERR_LIMIT) {
                fail_msg("allocation %d: %s", (int)n, lors_last_error());
            }
        }
        assert_true(n > 30);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_single_file),    TEST(test_folder),    TEST(test_shards),
        TEST(test_total_size),     TEST(test_both),      TEST(test_header_warnings),
        TEST(test_bad_indexes),    TEST(test_long_name), TEST(test_stale_tensors),
        TEST(test_odd_shards),     TEST(test_missing),   TEST(test_other_formats),
        TEST(test_hub_cache),      TEST(test_links),     TEST(test_index_link),
        TEST(test_changes),        TEST(test_shrinking), TEST(test_few_handles),
        TEST(test_no_descriptors), TEST(test_values),    TEST(test_memory_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

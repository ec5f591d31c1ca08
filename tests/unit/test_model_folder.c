/* test_model_folder.c - the files beside the weights, and what config.json says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/model_folder.h"
#include "io_files.h"

static int setup(void **state)
{
    (void)state;
    io_folder_create();
    io_mkdir(io_path("m"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    io_folder_remove();
    return 0;
}

static void clear_list(lors_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        lors_free(list->items[i]);
    }
    lors_free(list->items);
    *list = (lors_list){0};
}

/* ---- Side files ----------------------------------------------------------------------------- */

static const char *const names[] = {"tokenizer.json",
                                    "config.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "LICENSE",
                                    "spiece.model",
                                    "generation_config.json",
                                    "preprocessor_config.json",
                                    "normalizer.json",
                                    "model.safetensors",
                                    "model-00001-of-00002.safetensors",
                                    "model.safetensors.index.json",
                                    "model.safetensors.index.fp32.json",
                                    "pytorch_model.bin",
                                    "pytorch_model.bin.index.json",
                                    "flax_model.msgpack",
                                    "tf_model.h5",
                                    "model.onnx",
                                    "whisper.pt",
                                    "ggml-model.bin",
                                    "README.md",
                                    ".gitattributes",
                                    "training_args.bin",
                                    "optimizer.pt",
                                    "scheduler.pt",
                                    "trainer_state.json",
                                    "rng_state_0.pth",
                                    "events.out.tfevents.1",
                                    "eval_results.json",
                                    "lors.json",
                                    "adapter_config.json",
                                    "caf\xe9.txt"};

static void test_side_files(void **state)
{
    (void)state;
    static const char *const kept[] = {
        "LICENSE",      "config.json",     "generation_config.json",
        "merges.txt",   "normalizer.json", "preprocessor_config.json",
        "spiece.model", "tokenizer.json",  "vocab.json"};
    static const char *const left_out[] = {".gitattributes",        "adapter_config.json",
                                           "caf\xe9.txt",           "eval_results.json",
                                           "events.out.tfevents.1", "lors.json",
                                           "optimizer.pt",          "pipe",
                                           "rng_state_0.pth",       "runs/",
                                           "scheduler.pt",          "trainer_state.json",
                                           "training_args.bin"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        io_write_text(io_path("m/%s", names[i]), names[i]);
    }
    io_mkdir(io_path("m/runs"));
    assert_int_equal(mkfifo(io_path("m/pipe"), 0666), 0);
    lors_side_file *files = NULL;
    int32_t n_files = 0;
    lors_list skipped = {0};
    assert_int_equal(lors_side_files_list(io_path("m"), false, &files, &n_files, &skipped),
                     LORS_OK);
    assert_int_equal(n_files, sizeof kept / sizeof kept[0]);
    for (int32_t i = 0; i < n_files; i++) {
        assert_string_equal(files[i].name, kept[i]);
        assert_int_equal(files[i].info.st_size, strlen(kept[i]));
    }
    assert_int_equal(skipped.count, sizeof left_out / sizeof left_out[0]);
    for (size_t i = 0; i < skipped.count; i++) {
        assert_string_equal(skipped.items[i], left_out[i]);
    }
    lors_side_files_free(files, n_files);
    clear_list(&skipped);
}

static void test_side_links(void **state)
{
    (void)state;
    lors_side_file *files = NULL;
    int32_t n_files = 0;
    lors_list skipped = {0};
    io_write_text(io_path("secret"), "12345");
    io_link("../secret", io_path("m/vocab.json"));
    assert_int_equal(lors_side_files_list(io_path("m"), false, &files, &n_files, &skipped),
                     LORS_ERR_INPUT);
    assert_non_null(strstr(lors_last_error(), "vocab.json: a link that leaves the model's folder"));
    assert_null(files);
    assert_int_equal(lors_side_files_list(io_path("m"), true, &files, &n_files, &skipped), LORS_OK);
    assert_int_equal(n_files, 1);
    assert_int_equal(files[0].info.st_size, 5);
    lors_side_files_free(files, n_files);
    clear_list(&skipped);
    assert_int_equal(lors_side_files_list(io_path("x"), true, &files, &n_files, &skipped),
                     LORS_ERR_IO);
    lors_side_files_free(NULL, 0);
}

static void test_side_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        io_write_text(io_path("m/file%d", i), "x");
        io_write_text(io_path("m/.hidden%d", i), "x");
    }
    for (uint64_t n = 1;; n++) {
        lors_side_file *files = NULL;
        int32_t n_files = 0;
        lors_list skipped = {0};
        lors_alloc_fail_at(n, true);
        lors_status status = lors_side_files_list(io_path("m"), false, &files, &n_files, &skipped);
        lors_alloc_fail_at(0, false);
        lors_side_files_free(files, n_files);
        clear_list(&skipped);
        if (status == LORS_OK) {
            assert_int_equal(n_files, 20);
            break;
        }
        assert_int_equal(status, LORS_ERR_LIMIT);
    }
}

/* ---- Reading config.json -------------------------------------------------------------------- */

static void test_config(void **state)
{
    (void)state;
    lors_model_config config;
    assert_int_equal(lors_model_config_read(io_path("m"), false, &config), LORS_OK);
    assert_true(!config.architecture && !config.dtype && config.d_model == -1);
    lors_model_config_clear(&config);
    io_write_text(io_path("m/config.json"),
                  "{\"architectures\":[\"WhisperForConditionalGeneration\"],\"model_type\":"
                  "\"whisper\",\"torch_dtype\":\"float16\",\"vocab_size\":51865,\"d_model\":384,"
                  "\"encoder_layers\":4,\"decoder_layers\":5,\"num_mel_bins\":80,\"x\":[0.1]}");
    assert_int_equal(lors_model_config_read(io_path("m"), false, &config), LORS_OK);
    assert_string_equal(config.architecture, "WhisperForConditionalGeneration");
    assert_string_equal(config.model_type, "whisper");
    assert_string_equal(config.dtype, "float16");
    assert_true(config.vocab_size == 51865 && config.d_model == 384 && config.encoder_layers == 4);
    assert_true(config.decoder_layers == 5 && config.num_mel_bins == 80);
    lors_model_config_clear(&config);
    io_write_text(io_path("m/config.json"), "{\"architectures\":null,\"dtype\":\"bfloat16\","
                                            "\"torch_dtype\":\"float32\",\"d_model\":null}");
    assert_int_equal(lors_model_config_read(io_path("m"), false, &config), LORS_OK);
    assert_string_equal(config.dtype, "bfloat16");
    assert_true(!config.architecture && config.d_model == -1);
    lors_model_config_clear(&config);
}

static void test_bad_configs(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"", "config.json:1:0: '[' or '{' expected near end of file"},
        {"{\n \"d_model\": NaN\n}", "config.json:2:"},
        {"{\n \"d_model\": NaN\n}", "NaN and Infinity are no JSON"},
        {"{\"x\": -Infinity}", "config.json:1:"},
        {"{\"x\": 1,}", "config.json:1:9"},
        {"{\"x\": 1, \"x\": 2}", "duplicate object key"},
        {"[1]", "expected a JSON object"},
        {"{\"x\": \"\xff\"}", "UTF-8"},
        {"{\"x\":99999999999999999999}", "too big integer"},
        {"{\"d_model\":\"384\"}", "'d_model' must be a whole number"},
        {"{\"d_model\":384.0}", "'d_model' must be a whole number"},
        {"{\"vocab_size\":-1}", "'vocab_size' must be a whole number"},
        {"{\"architectures\":\"x\"}", "'architectures' must be an array"},
        {"{\"architectures\":[1]}", "'architectures' must be a string"},
        {"{\"model_type\":1}", "'model_type' must be a string"},
        {"{\"torch_dtype\":1}", "'torch_dtype' must be a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lors_model_config config;
        io_write_text(io_path("m/config.json"), cases[i].text);
        lors_status status = lors_model_config_read(io_path("m"), false, &config);
        if (status != LORS_ERR_INPUT || !strstr(lors_last_error(), cases[i].sentence)) {
            fail_msg("%s\n gave %s\n expected %s", cases[i].text, lors_last_error(),
                     cases[i].sentence);
        }
        assert_null(config.model_type);
    }
    io_mkdir(io_path("m2"));
    io_mkdir(io_path("m2/config.json"));
    lors_model_config config;
    assert_int_equal(lors_model_config_read(io_path("m2"), false, &config), LORS_ERR_INPUT);
}

/* A folder of strangers must not make the program read files elsewhere, and quote them. */
static void test_config_links(void **state)
{
    (void)state;
    lors_model_config config;
    io_mkdir(io_path("m3"));
    io_write_text(io_path("elsewhere"), "{\"model_type\":\"secret\"}");
    assert_int_equal(symlink("../elsewhere", io_path("m3/config.json")), 0);
    assert_int_equal(lors_model_config_read(io_path("m3"), false, &config), LORS_ERR_INPUT);
    assert_non_null(strstr(lors_last_error(), "leaves the model's folder"));
    assert_int_equal(lors_model_config_read(io_path("m3"), true, &config), LORS_OK);
    assert_string_equal(config.model_type, "secret");
    lors_model_config_clear(&config);
    unlink(io_path("elsewhere"));
    assert_int_equal(lors_model_config_read(io_path("m3"), true, &config), LORS_ERR_INPUT);
    assert_non_null(strstr(lors_last_error(), "a link to a file that is missing"));
}

/* Of a hub's cache the blobs lie side by side: what is deeper is none of them. */
static void test_config_of_hub_cache(void **state)
{
    (void)state;
    static const char *const folders[] = {"hub", "hub/blobs", "hub/blobs/deep", "hub/snapshots",
                                          "hub/snapshots/1"};
    lors_model_config config;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        io_mkdir(io_path(folders[i]));
    }
    const char *link = "hub/snapshots/1/config.json";
    io_write_text(io_path("hub/blobs/a"), "{}");
    io_write_text(io_path("hub/blobs/deep/a"), "{}");
    assert_int_equal(symlink("../../blobs/a", io_path(link)), 0);
    assert_int_equal(lors_model_config_read(io_path("hub/snapshots/1"), false, &config), LORS_OK);
    lors_model_config_clear(&config);
    unlink(io_path(link));
    assert_int_equal(symlink("../../blobs/deep/a", io_path(link)), 0);
    assert_int_equal(lors_model_config_read(io_path("hub/snapshots/1"), false, &config),
                     LORS_ERR_INPUT);
    assert_non_null(strstr(lors_last_error(), "leaves the model's folder"));
}

/* ---- Another dtype -------------------------------------------------------------------------- */

static void test_with_dtype(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"{}", "{\"dtype\": \"float16\", \"torch_dtype\": \"float16\"}"},
        {" { } ", " {\"dtype\": \"float16\", \"torch_dtype\": \"float16\" } "},
        {"{\n  \"a\": 0.10,\n  \"torch_dtype\": \"float32\",\n  \"z\": [1e-5, {\"dtype\": 1}]\n}\n",
         "{\n  \"a\": 0.10,\n  \"dtype\": \"float16\",\n  \"torch_dtype\": \"float16\",\n  \"z\": "
         "[1e-5, {\"dtype\": 1}]\n}\n"},
        {"{\"dtype\":null}", "{\"torch_dtype\": \"float16\",\"dtype\":\"float16\"}"},
        {"{\n  \"x\": \"} \\\\\",\n  \"y\": -1\n}",
         "{\n  \"dtype\": \"float16\",\n  \"torch_dtype\": \"float16\",\n  \"x\": \"} \\\\\",\n"
         "  \"y\": -1\n}"},
        {"{\"torch_dtype\" : {\"a\":[\"]\\\"\"]} , \"b\":true,\"dtype\":\"bfloat16\"}",
         "{\"torch_dtype\" : \"float16\" , \"b\":true,\"dtype\":\"float16\"}"},
        {"{\"dtypes\":\"dtype\",\"xdtype\":1,\"dtype\":\"x\"}",
         "{\"dtypes\":\"dtype\",\"xdtype\":1,\"torch_dtype\": \"float16\",\"dtype\":\"float16\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = NULL;
        size_t n_bytes = 0;
        io_write_text(io_path("m/config.json"), cases[i].before);
        assert_int_equal(lors_model_config_with_dtype(io_path("m"), "float16", &text, &n_bytes),
                         LORS_OK);
        assert_string_equal(text, cases[i].after);
        assert_int_equal(n_bytes, strlen(cases[i].after));
        lors_free(text);
    }
    char *text = NULL;
    size_t n_bytes = 0;
    io_write_text(io_path("m/config.json"), "{\"\\u0064type\":\"float32\"}");
    assert_int_equal(lors_model_config_with_dtype(io_path("m"), "float16", &text, &n_bytes),
                     LORS_ERR_INPUT);
    assert_null(text);
    unlink(io_path("m/config.json"));
    assert_int_equal(lors_model_config_with_dtype(io_path("m"), "float16", &text, &n_bytes),
                     LORS_ERR_IO);
}

static void test_config_memory(void **state)
{
    (void)state;
    io_write_text(io_path("m/config.json"), "{\"architectures\":[\"A\"],\"model_type\":\"m\","
                                            "\"dtype\":\"float16\"}");
    for (uint64_t n = 1;; n++) {
        lors_model_config config;
        char *text = NULL;
        size_t n_bytes = 0;
        lors_alloc_fail_at(n, true);
        lors_status status = lors_model_config_read(io_path("m"), false, &config);
        if (status == LORS_OK) {
            status = lors_model_config_with_dtype(io_path("m"), "float32", &text, &n_bytes);
        }
        lors_alloc_fail_at(0, false);
        lors_model_config_clear(&config);
        lors_free(text);
        if (status == LORS_OK) {
            assert_true(n > 5);
            break;
        }
        assert_int_equal(status, LORS_ERR_LIMIT);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_side_files),    TEST(test_side_links),   TEST(test_side_memory),
        TEST(test_config),        TEST(test_bad_configs),  TEST(test_with_dtype),
        TEST(test_config_memory), TEST(test_config_links), TEST(test_config_of_hub_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

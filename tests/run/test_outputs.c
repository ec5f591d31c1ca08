/* test_outputs.c - what stands in a merged folder beside right numbers: copies, side files,
 * config.json, lors.json; and that lors_verify misses nothing. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/hash.h"
#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"
#define TASK "merge_method: task_arithmetic\nbase_model: b\n" TWO
#define HEAD "proj_out.weight"
#define EMBEDDING "model.decoder.embed_tokens.weight"

static void write_family(lors_dtype dtype)
{
    rm_model *base = rm_whisper(dtype, 1), *model = rm_clone(base);
    rm_write(base, "b", 1);
    rm_tune(model, 2, 0.01);
    rm_write(model, "m", 1);
    rm_tune(model, 3, 0.01);
    rm_write(model, "n", 1);
    rm_free(base);
    rm_free(model);
}

/* --- copies ----------------------------------------------------------------------------------- */

static void assert_same_tensor(const char *folder_a, const char *folder_b, const char *name)
{
    rm_model *a = rm_read(folder_a), *b = rm_read(folder_b);
    rm_tensor *x = rm_get(a, name), *y = rm_get(b, name);
    assert_int_equal(x->dtype, y->dtype);
    assert_int_equal(x->n_bytes, y->n_bytes);
    assert_memory_equal(x->bytes, y->bytes, (size_t)x->n_bytes);
    rm_free(a);
    rm_free(b);
}

static void test_never_merged(void **unused)
{
    static const char *const names[] = {"position_ids", "flags",
                                        "model.encoder.embed_positions.weight"};
    (void)unused;
    write_family(LORS_F16);
    rm_model *model = rm_read("m");
    for (int i = 0; i < 3; i++) {
        memset(rm_get(model, names[i])->bytes, 1, 3);
    }
    rm_write(model, "m", 1);
    rm_merge_ok(TASK, "out", NULL);
    for (int i = 0; i < 3; i++) {
        assert_same_tensor("out", "b", names[i]);
    }
    rm_options options = RM_OPTIONS_INIT; /* its bytes whatever they are, if allowed: odd NaNs */
    memset(rm_get(model, names[2])->bytes, 0xff, 4);
    rm_write(model, "m", 1);
    assert_int_equal(rm_merge("merge_method: linear\n" TWO, "out", NULL, NULL), LORS_ERR_NUMERICS);
    options.run.nonfinite = LORS_NONFINITE_PROPAGATE;
    rm_merge_ok("merge_method: linear\n" TWO, "out", &options);
    for (int i = 0; i < 3; i++) { /* without a base the first model is the donor */
        assert_same_tensor("out", "m", names[i]);
    }
    rm_free(model);
}

static void store_head(const char *folder, bool equal)
{
    rm_model *model = rm_read(folder);
    rm_tensor *tokens = rm_get(model, EMBEDDING);
    rm_tensor *head = rm_add(model, HEAD, tokens->dtype, 2, tokens->shape[0], tokens->shape[1], 0);
    memcpy(head->bytes, rm_get(model, EMBEDDING)->bytes, (size_t)head->n_bytes);
    head->bytes[head->n_bytes - 1] ^= !equal;
    rm_write(model, folder, 1);
    rm_free(model);
}

static void test_tied_head(void **unused)
{
    (void)unused;
    write_family(LORS_BF16);
    rm_merge_ok(TASK, "plain", NULL);
    store_head("m", true); /* one model stores it, equal: nothing to lose */
    rm_merge_ok(TASK, "out", NULL);
    assert_true(rm_same_folders("out", "plain"));
    store_head("b", true); /* the base stores it, n does not: it stays equal to the embedding */
    rm_merge_ok(TASK, "out", NULL);
    rm_model *out = rm_read("out");
    assert_memory_equal(rm_get(out, HEAD)->bytes, rm_get(out, EMBEDDING)->bytes,
                        (size_t)rm_get(out, HEAD)->n_bytes);
    rm_free(out);
    write_family(LORS_BF16);
    store_head("n", false);
    rm_merge_fails(TASK, "out", NULL, LORS_ERR_MISMATCH, HEAD);
    rm_merge_fails("merge_method: linear\n" TWO, "out", NULL, LORS_ERR_MISMATCH, HEAD);
    store_head("b", true); /* now there is a place for it */
    rm_merge_ok(TASK, "out", NULL);
}

/* --- types and side files --------------------------------------------------------------------- */

static void assert_config_dtype(const char *folder, const char *key, const char *dtype)
{
    char path[128];
    json_error_t error;
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(config);
    assert_string_equal(json_string_value(json_object_get(config, key)), dtype);
    assert_int_equal(json_integer_value(json_object_get(config, "d_model")), 8);
    json_decref(config);
}

static void test_output_types(void **unused)
{
    static const struct {
        const char *option, *name;
        lors_dtype dtype;
    } rows[] = {{"f32", "float32", LORS_F32}, {"f16", "float16", LORS_F16},
                {"bf16", "bfloat16", LORS_BF16}};
    (void)unused;
    for (int from = 0; from < 3; from++) {
        for (int to = 0; to < 3; to++) {
            rm_options options = RM_OPTIONS_INIT;
            options.plan.out_dtype = rows[to].option;
            write_family(rows[from].dtype);
            rm_merge_ok(TASK, "out", &options);
            rm_model *out = rm_read("out");
            for (int i = 0; i < out->n; i++) {
                assert_true(!lors_dtype_merges(out->tensors[i].dtype) ||
                            out->tensors[i].dtype == rows[to].dtype);
            }
            rm_free(out);
            assert_config_dtype("out", "torch_dtype", rows[to].name);
            if (from == to) {
                assert_true(rm_same_files("out/config.json", "b/config.json"));
            } else { /* transformers 5 reads another key than 4 */
                assert_config_dtype("out", "dtype", rows[to].name);
            }
        }
    }
}

static void test_side_files(void **unused)
{
    static const char *const kept[] = {"generation_config.json", "preprocessor_config.json",
                                       "tokenizer.json", "merges.txt", "config.json"};
    static const char *const left[] = {"b/optimizer.pt", "b/pytorch_model.bin", "b/.hidden",
                                       "b/model.safetensors.index.fp32.json"};
    (void)unused;
    write_family(LORS_F16);
    rm_merge_ok(TASK, "out", NULL);
    for (int i = 0; i < 5; i++) {
        char a[64], b[64];
        snprintf(a, sizeof a, "out/%s", kept[i]);
        snprintf(b, sizeof b, "b/%s", kept[i]);
        assert_true(rm_same_files(a, b));
    }
    /* A merge of merges: what the first one wrote about itself is not the second one's. */
    rm_remove("b");
    assert_int_equal(rename("out", "b"), 0);
    for (int i = 0; i < 4; i++) {
        rm_write_bytes(left[i], "x", 1);
    }
    rm_write_bytes("b/README.md", "of the base\n", 12);
    rm_merge_ok(TASK, "out", NULL);
    assert_false(rm_same_files("out/README.md", "b/README.md"));
    assert_false(rm_same_files("out/lors.json", "b/lors.json"));
    assert_int_equal(rm_count_entries("out"), 5 + 4); /* weights, lors.json, recipe, card */
    RM_OK(lors_verify("out", NULL, NULL));
}

/* A stale index beside a single file would make loaders look for shards that are not there. */
static void test_no_stale_index(void **unused)
{
    (void)unused;
    write_family(LORS_F16);
    rm_model *base = rm_read("b");
    rm_write(base, "b", 3);
    rm_merge_ok(TASK, "out", NULL);
    assert_false(rm_exists("out/model.safetensors.index.json"));
    assert_true(rm_exists("out/model.safetensors"));
    rm_free(base);
}

static void test_single_files_as_models(void **unused)
{
    (void)unused;
    write_family(LORS_F16);
    rm_merge_ok(TASK, "plain", NULL);
    rm_merge_ok("merge_method: task_arithmetic\nbase_model: b/model.safetensors\n"
                "models: [{model: m/model.safetensors, parameters: {weight: 1}}, "
                "{model: n, parameters: {weight: 0.5}}]\n", "out", NULL);
    assert_true(rm_same_folders("out", "plain"));
    RM_OK(lors_verify("out", NULL, NULL));
}

/* A name that YAML would read as something else is quoted in the model card's front matter. */
static void test_card_of_an_odd_base(void **unused)
{
    (void)unused;
    write_family(LORS_F16);
    rm_remove("x: y #1");
    assert_int_equal(rename("b", "x: y #1"), 0);
    rm_merge_ok("merge_method: task_arithmetic\nbase_model: 'x: y #1'\n" TWO, "out", NULL);
    size_t n_bytes = 0;
    char *card = rm_read_bytes("out/README.md", &n_bytes);
    bool quoted = strstr(card, "\n- \"x: y #1\"\n") || strstr(card, "\n- 'x: y #1'\n");
    free(card);
    assert_true(quoted);
}

/* --- odd tensors ------------------------------------------------------------------------------ */

static void add_odd_tensors(const char *folder, uint64_t seed)
{
    rm_model *model = rm_read(folder);
    rm_add(model, "empty", LORS_F32, 2, 0, 7, 0);
    rm_fill(rm_add(model, "scalar", LORS_F32, 0, 0, 0, 0), 1, seed);
    rm_fill(rm_add(model, "row", LORS_BF16, 2, 1, 5, 0), 1, seed);
    rm_fill(rm_add(model, "a/b \"quoted\" \xc3\xa9\n", LORS_F16, 1, 3, 0, 0), 1, seed);
    rm_write(model, folder, 1);
    rm_free(model);
}

static void test_odd_tensors(void **unused)
{
    static const char *const methods[] = {
        TASK, "merge_method: linear\n" TWO, "merge_method: ties\nbase_model: b\n" TWO,
        "merge_method: lors\nbase_model: b\nscope: '*'\n" TWO,
        "merge_method: slerp\nbase_model: b\nmodels: [{model: m}]\nparameters: {t: 0.5}\n"};
    (void)unused;
    write_family(LORS_F16);
    add_odd_tensors("b", 1);
    add_odd_tensors("m", 2);
    add_odd_tensors("n", 3);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        for (int pass = 0; pass < 3; pass++) {
            rm_options options = RM_OPTIONS_INIT;
            options.plan.out_dtype = pass > 0 ? "bf16" : NULL;
            options.plan.max_shard_bytes = pass > 1 ? 1 : 0;
            options.run.verify = true;
            rm_merge_ok(methods[i], "out", &options);
            rm_model *out = rm_read("out");
            assert_int_equal(rm_get(out, "empty")->dtype, pass ? LORS_BF16 : LORS_F32);
            assert_int_equal(rm_get(out, "scalar")->n_dims, 0);
            rm_free(out);
            RM_OK(lors_verify("out", NULL, NULL));
        }
    }
}

static void test_models_without_tensors(void **unused)
{
    (void)unused;
    rm_model *nothing = rm_new();
    rm_write(nothing, "b", 1);
    rm_write(nothing, "m", 1);
    rm_write(nothing, "n", 1);
    rm_merge_ok(TASK, "out", NULL);
    RM_OK(lors_verify("out", NULL, NULL));
    rm_free(nothing);
}

static void test_too_little_memory_for_nothing(void **unused)
{
    (void)unused;
    rm_model *nothing = rm_new();
    rm_write(nothing, "b", 1);
    rm_write(nothing, "m", 1);
    rm_write(nothing, "n", 1);
    rm_free(nothing);
    rm_options options = RM_OPTIONS_INIT;
    options.plan.max_memory_bytes = 1000; /* less than the program itself */
    rm_merge_fails(TASK, "out", &options, LORS_ERR_LIMIT, "memory");
}

/* Every tensor in a file of its own must not take an open file each. */
static void test_more_shards_than_open_files(void **unused)
{
    struct rlimit before, low;
    (void)unused;
    write_family(LORS_F16);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = 32;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    rm_options options = RM_OPTIONS_INIT;
    options.plan.max_shard_bytes = 1;
    lors_status status = rm_merge(TASK, "out", &options, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    RM_OK(status);
}

/* --- lors.json -------------------------------------------------------------------------------- */

static json_t *member(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    if (!value) {
        fprintf(stderr, "lors.json: '%s' is missing\n", key);
        fail();
    }
    return value;
}

static void check_file_hashes(json_t *root, const char *folder)
{
    size_t index;
    json_t *entry;
    json_array_foreach(member(root, "files"), index, entry) {
        char path[256], hash[LORS_SHA256_TEXT];
        size_t n_bytes = 0;
        lors_sha256 *state = NULL;
        snprintf(path, sizeof path, "%s/%s", folder, json_string_value(member(entry, "name")));
        char *bytes = rm_read_bytes(path, &n_bytes);
        RM_OK(lors_sha256_create(&state));
        RM_OK(lors_sha256_update(state, bytes, n_bytes));
        RM_OK(lors_sha256_finish(state, hash));
        assert_string_equal(hash, json_string_value(member(entry, "sha256")));
        assert_int_equal(json_integer_value(member(entry, "bytes")), n_bytes);
        lors_sha256_free(state);
        free(bytes);
    }
    assert_int_equal(index, rm_count_entries(folder) - 1); /* all but lors.json itself */
}

static void check_tensor_hashes(json_t *root, const char *folder)
{
    size_t index;
    json_t *entry;
    rm_model *out = rm_read(folder);
    json_array_foreach(member(root, "tensors"), index, entry) {
        char hash[LORS_XXH_TEXT];
        const char *name = json_string_value(member(entry, "name"));
        rm_tensor *tensor = rm_get(out, name);
        lors_xxh_text(lors_xxh_of(tensor->bytes, (size_t)tensor->n_bytes), hash);
        if (strcmp(hash, json_string_value(member(entry, "xxh3"))) != 0) {
            fprintf(stderr, "lors.json: the hash of '%s' is wrong\n", name);
            fail();
        }
        assert_string_equal(lors_dtype_name(tensor->dtype),
                            json_string_value(member(entry, "dtype")));
        assert_int_equal(json_array_size(member(entry, "shape")), tensor->n_dims);
        member(entry, "role");
        member(entry, "treatment");
        member(entry, "models");
    }
    assert_int_equal(index, out->n);
    rm_free(out);
}

static void test_report(void **unused)
{
    static const char *const keys[] = {"lors", "method", "device", "seed", "warnings", "inputs",
                                       "totals"};
    json_error_t error;
    lors_report_summary summary;
    (void)unused;
    write_family(LORS_F16);
    add_odd_tensors("b", 1);
    add_odd_tensors("m", 2);
    add_odd_tensors("n", 3);
    for (int pass = 0; pass < 2; pass++) {
        rm_options options = RM_OPTIONS_INIT;
        options.plan.out_dtype = pass ? "bf16" : NULL;
        options.plan.max_shard_bytes = pass ? 500 : 0;
        RM_OK(rm_merge("merge_method: lors\nbase_model: b\n" TWO, "out", &options, &summary));
        json_t *root = json_load_file("out/lors.json", JSON_REJECT_DUPLICATES, &error);
        assert_non_null(root);
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            member(root, keys[i]);
        }
        check_file_hashes(root, "out");
        check_tensor_hashes(root, "out");
        assert_int_equal(json_array_size(member(root, "inputs")), 3);
        json_t *totals = member(root, "totals");
        assert_int_equal(json_integer_value(member(totals, "tensors")), summary.n_tensors);
        assert_int_equal(summary.n_tensors,
                         summary.n_method + summary.n_weighted + summary.n_copied);
        assert_true(summary.read_bytes > 0 && summary.written_bytes > 0 && summary.seconds > 0);
        assert_true(summary.least_energy > 0 && summary.least_energy <= 1);
        json_decref(root);
    }
}

/* The hash of what was read does not depend on how the model is cut into files. */
static void test_hash_of_inputs(void **unused)
{
    char first[64] = "";
    json_error_t error;
    (void)unused;
    write_family(LORS_F16);
    for (int pass = 0; pass < 3; pass++) {
        rm_model *model = rm_read("m");
        if (pass == 2) {
            rm_get(model, EMBEDDING)->bytes[0] ^= 1;
        }
        rm_write(model, "m", pass + 1);
        rm_free(model);
        rm_merge_ok(TASK, "out", NULL);
        json_t *root = json_load_file("out/lors.json", 0, &error);
        json_t *input = json_array_get(member(root, "inputs"), 1);
        const char *hash = json_string_value(member(input, "xxh3_of_tensors_read"));
        if (pass == 0) {
            snprintf(first, sizeof first, "%s", hash);
        }
        assert_int_equal(strcmp(first, hash) == 0, pass < 2);
        json_decref(root);
    }
}

/* --- verify ----------------------------------------------------------------------------------- */

/* Flip a bit of every `step`-th byte, one after another: each must be found. */
static void check_flips(const char *path, size_t step)
{
    size_t n_bytes = 0;
    char *bytes = rm_read_bytes(path, &n_bytes);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    for (size_t at = 0; at < n_bytes; at += step) {
        for (int pass = 0; pass < 2; pass++) {
            int byte = (unsigned char)bytes[at] ^ (pass ? 0 : 1 << at % 8);
            fseek(file, (long)at, SEEK_SET);
            fputc(byte, file);
            fflush(file);
            if (pass == 0 && lors_verify("out", NULL, NULL) != LORS_ERR_INPUT) {
                fprintf(stderr, "%s: a change of byte %zu is not found\n", path, at);
                fail();
            }
        }
    }
    fclose(file);
    free(bytes);
}

static void make_small_output(void)
{
    static const char *const folders[] = {"b", "m", "n"};
    for (uint64_t i = 0; i < 3; i++) {
        rm_model *model = rm_new();
        rm_fill(rm_add(model, "model.decoder.layers.0.fc1.weight", LORS_F32, 2, 8, 8, 0), 1, i);
        rm_write(model, folders[i], 1);
        rm_free(model);
    }
    rm_merge_ok(TASK, "out", NULL);
    RM_OK(lors_verify("out", NULL, NULL));
}

static void test_verify_finds_every_byte(void **unused)
{
    static const char *const small[] = {"config.json", "generation_config.json", "merges.txt",
                                        "tokenizer.json", "preprocessor_config.json",
                                        "lors_recipe.yaml", "README.md"};
    (void)unused;
    make_small_output();
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        char path[64];
        snprintf(path, sizeof path, "out/%s", small[i]);
        check_flips(path, 1);
    }
    check_flips("out/model.safetensors", 7);
    RM_OK(lors_verify("out", NULL, NULL));
}

/* The list itself: whatever changes a name, a size or a hash in it. */
static void test_verify_finds_a_changed_list(void **unused)
{
    (void)unused;
    make_small_output();
    size_t n_bytes = 0;
    char *text = rm_read_bytes("out/lors.json", &n_bytes), *at = text;
    int found = 0;
    for (; (at = strstr(at, "\"sha256\": \"")); found++) {
        at += 11;
        char old = *at;
        *at = old == '0' ? '1' : '0';
        rm_write_bytes("out/lors.json", text, n_bytes);
        assert_int_equal(lors_verify("out", NULL, NULL), LORS_ERR_INPUT);
        *at = old;
    }
    assert_int_equal(found, rm_count_entries("out") - 1);
    rm_write_bytes("out/lors.json", text, n_bytes / 2);
    assert_int_equal(lors_verify("out", NULL, NULL), LORS_ERR_INPUT);
    rm_write_bytes("out/lors.json", "{\"files\": []}", 13);
    assert_int_equal(lors_verify("out", NULL, NULL), LORS_ERR_INPUT);
    free(text);
}

/* What was merged from what is worth protecting, too: a seed, a weight, a hash of an input. */
static void test_verify_finds_a_changed_report(void **unused)
{
    static const char *const places[] = {"\"seed\": ", "\"xxh3\": \"", "\"weight\": ",
                                         "\"xxh3_of_tensors_read\": \"", "\"method\": \""};
    (void)unused;
    make_small_output();
    size_t n_bytes = 0;
    char *text = rm_read_bytes("out/lors.json", &n_bytes);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *at = strstr(text, places[i]);
        assert_non_null(at);
        at += strlen(places[i]);
        char old = *at;
        *at = old == '7' ? '8' : '7';
        rm_write_bytes("out/lors.json", text, n_bytes);
        *at = old;
        if (lors_verify("out", NULL, NULL) != LORS_ERR_INPUT) {
            fprintf(stderr, "lors.json: a change of %s is not found\n", places[i]);
            free(text);
            fail();
        }
    }
    free(text);
}

static void test_verify_finds_other_files(void **unused)
{
    static const char *const added[] = {"out/pytorch_model.bin", "out/.hidden", "out/x.safetensors",
                                        "out/LORS.JSON"};
    (void)unused;
    make_small_output();
    for (size_t i = 0; i < sizeof added / sizeof *added; i++) {
        rm_write_bytes(added[i], "", 0);
        assert_int_equal(lors_verify("out", NULL, NULL), LORS_ERR_INPUT);
        rm_remove(added[i]);
    }
    assert_int_equal(mkdir("out/folder", 0777), 0);
    assert_int_equal(lors_verify("out", NULL, NULL), LORS_ERR_INPUT);
    rm_remove("out/folder");
    assert_int_equal(rename("out/merges.txt", "merges.txt"), 0);
    assert_int_equal(lors_verify("out", NULL, NULL), LORS_ERR_INPUT);
    assert_int_equal(rename("merges.txt", "out/merges.txt"), 0);
    int64_t n_files = 0;
    uint64_t n_bytes = 0;
    RM_OK(lors_verify("out", &n_files, &n_bytes));
    assert_int_equal(n_files, rm_count_entries("out") - 1);
    assert_true(n_bytes > 0);
    assert_int_not_equal(lors_verify("b", NULL, NULL), LORS_OK);
    assert_int_not_equal(lors_verify("missing", NULL, NULL), LORS_OK);
}

/* Files can be read, the folder cannot be listed: then nobody knows what else is there. */
static void test_verify_needs_the_list_of_files(void **unused)
{
    (void)unused;
    make_small_output();
    rm_write_bytes("out/pytorch_model.bin", "", 0);
    assert_int_equal(chmod("out", 0311), 0);
    bool root = geteuid() == 0;
    if (root && seteuid(65534) != 0) {
        skip();
    }
    bool reachable = faccessat(AT_FDCWD, "out/lors.json", R_OK, AT_EACCESS) == 0;
    lors_status status = lors_verify("out", NULL, NULL);
    if (root) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_int_equal(chmod("out", 0755), 0);
    if (!reachable) {
        skip(); /* a folder above is closed to that user */
    }
    assert_int_not_equal(status, LORS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_merged),
        cmocka_unit_test(test_tied_head),
        cmocka_unit_test(test_output_types),
        cmocka_unit_test(test_side_files),
        cmocka_unit_test(test_no_stale_index),
        cmocka_unit_test(test_single_files_as_models),
        cmocka_unit_test(test_card_of_an_odd_base),
        cmocka_unit_test(test_odd_tensors),
        cmocka_unit_test(test_models_without_tensors),
        cmocka_unit_test(test_more_shards_than_open_files),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_hash_of_inputs),
        cmocka_unit_test(test_verify_finds_every_byte),
        cmocka_unit_test(test_verify_finds_a_changed_list),
        cmocka_unit_test(test_verify_finds_a_changed_report),
        cmocka_unit_test(test_verify_finds_other_files),
        cmocka_unit_test(test_verify_needs_the_list_of_files),
        cmocka_unit_test(test_too_little_memory_for_nothing),
    };
    rm_work_in("outputs-work");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* target_index.c - model.safetensors.index.json over a folder of known shards, against plain rules.
 *
 * The input is the index. Which one is right is decided here from the JSON by the rule itself: the
 * weight_map says of exactly the tensors of the shards that it names what those shards hold. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lors/checkpoint.h>

#include "base/memory.h"
#include "fuzz.h"
#include "fuzz_json.h"

/* What lies in the folder. d is a folder, e a link that leaves it, f a link to a. */
static const struct {
    const char *name, *header;
    const char *tensors[2];
} shards[] = {
    {"a.safetensors",
     "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
     "\"y\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[8,9]}}",
     {"x", "y"}},
    {"b.safetensors", "{\"z\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]}}", {"z"}},
    {"c.safetensors", "{}", {NULL}},
    {"f.safetensors", NULL, {"x", "y"}},
};
enum { N_SHARDS = sizeof shards / sizeof *shards };

static void prepare(void)
{
    char path[64];
    fuzz_files_init();
    fuzz_remove("model");
    fuzz_mkdir("model");
    fuzz_mkdir("model/d.safetensors");
    for (int i = 0; i < N_SHARDS - 1; i++) {
        size_t n_header = strlen(shards[i].header);
        unsigned char file[256] = {(unsigned char)((n_header + 7) / 8 * 8)}; /* aligned data */
        memset(file + 8, ' ', file[0]);
        memcpy(file + 8, shards[i].header, n_header);
        size_t n_data = i == 0 ? 9 : i == 1 ? 6 : 0;
        snprintf(path, sizeof path, "model/%s", shards[i].name);
        fuzz_write(path, file, (size_t)8 + file[0] + n_data);
    }
    size_t n_bytes = 0;
    char *b = fuzz_read("model/b.safetensors", &n_bytes); /* only its place makes it wrong */
    fuzz_write("outside.safetensors", b, n_bytes);
    free(b);
    FUZZ_NEED(symlink("../outside.safetensors", "model/e.safetensors") == 0, "no links");
    FUZZ_NEED(symlink("a.safetensors", "model/f.safetensors") == 0, "no links");
}

static int find_shard(const json_t *value)
{
    const char *name = json_string_value(value);
    int i = name ? 0 : N_SHARDS;
    while (i < N_SHARDS && strcmp(shards[i].name, name) != 0) {
        i++;
    }
    return i < N_SHARDS ? i : -1;
}

static uint64_t size_of(const char *tensor)
{
    return *tensor == 'x' ? 8 : *tensor == 'y' ? 1 : 6;
}

/* Is this index right? *total: the bytes of its tensors. */
static bool is_right(const json_t *root, uint64_t *total)
{
    const json_t *map = json_object_get(root, "weight_map");
    bool named[N_SHARDS] = {false}, right = json_is_object(map) && json_object_size(map) > 0;
    const char *tensor;
    json_t *value;
    size_t n_held = 0;
    *total = 0;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value)
    {
        int shard = find_shard(value);
        bool held = false;
        for (int i = 0; shard >= 0 && i < 2; i++) {
            held =
                held || (shards[shard].tensors[i] && strcmp(shards[shard].tensors[i], tensor) == 0);
        }
        right = right && held;
        if (shard >= 0) {
            named[shard] = true;
        }
    }
    for (int i = 0; i < N_SHARDS; i++) {
        for (int t = 0; named[i] && t < 2 && shards[i].tensors[t]; t++) {
            n_held++;
            *total += size_of(shards[i].tensors[t]);
        }
    }
    return right && n_held == json_object_size(map);
}

static lors_status open_model(lors_checkpoint **out)
{
    lors_status status = lors_checkpoint_open("model", false, out);
    FUZZ_NEED((status == LORS_OK) == (*out != NULL), "a checkpoint");
    return status;
}

static void check_opened(lors_checkpoint *checkpoint, const json_t *root, uint64_t total)
{
    const json_t *says = json_object_get(json_object_get(root, "metadata"), "total_size");
    int32_t n_warnings = says && json_number_value(says) != (double)total;
    int64_t n = lors_checkpoint_count(checkpoint);
    FUZZ_NEED(n == (int64_t)json_object_size(json_object_get(root, "weight_map")), "tensors");
    FUZZ_NEED(lors_checkpoint_warning_count(checkpoint) == n_warnings, "warnings");
    for (int64_t i = 0; i < n; i++) {
        lors_tensor_info info;
        lors_checkpoint_tensor(checkpoint, i, &info);
        FUZZ_NEED(info.n_bytes == size_of(info.name), "size of %s", info.name);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool prepared;
    lors_checkpoint *checkpoint = NULL;
    uint64_t total = 0;
    if (!prepared) {
        prepare();
        prepared = true;
    }
    fuzz_write("model/model.safetensors.index.json", data, size);
    json_t *root = fuzz_json(data, size);
    bool right = is_right(root, &total);

    fuzz_allocations_work();
    lors_status good = open_model(&checkpoint);
    fuzz_check_status(good, FUZZ_STATUS(INPUT));
    FUZZ_NEED(right == (good == LORS_OK), "the index is %s", right ? "right" : "wrong");
    if (checkpoint) {
        check_opened(checkpoint, root, total);
    }
    lors_checkpoint_close(checkpoint);
    json_decref(root);

    fuzz_fail_one_allocation(fuzz_hash(data, size));
    lors_status status = open_model(&checkpoint);
    fuzz_allocations_work();
    FUZZ_NEED(status == good || status == LORS_ERR_LIMIT, "%s", lors_status_name(status));
    lors_checkpoint_close(checkpoint);
    return 0;
}

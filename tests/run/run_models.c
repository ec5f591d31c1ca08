/* run_models.c - tiny models for the tests of whole merges: made, written, read back. */
#include "run_models.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "io/safetensors.h"
#include "synth.h"

static void need(bool good, const char *what, const char *detail)
{
    if (!good) {
        fprintf(stderr, "cannot %s %s: %s\n", what, detail, strerror(errno));
        abort();
    }
}

/* --- files ------------------------------------------------------------------------------------ */

void rm_remove(const char *path)
{
    need(lors_file_remove_tree(path) == LORS_OK, "remove", path);
}

void rm_work_in(const char *name)
{
    rm_remove(name);
    need(mkdir(name, 0777) == 0 && chdir(name) == 0, "begin in", name);
}

bool rm_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

char *rm_path_of(int fd, char *out, size_t n_bytes)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, n_bytes - 1);
    out[n > 0 ? n : 0] = '\0';
    return out;
}

int rm_count_entries(const char *folder)
{
    int n = 0;
    DIR *entries = opendir(folder);
    need(entries != NULL, "list", folder);
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(entries);
    return n;
}

void rm_write_bytes(const char *path, const void *bytes, size_t n_bytes)
{
    FILE *file = fopen(path, "wb");
    need(file != NULL, "create", path);
    need(n_bytes == 0 || fwrite(bytes, 1, n_bytes, file) == n_bytes, "write", path);
    need(fclose(file) == 0, "close", path);
}

char *rm_read_bytes(const char *path, size_t *n_bytes)
{
    FILE *file = fopen(path, "rb");
    need(file != NULL && fseek(file, 0, SEEK_END) == 0, "open", path);
    long end = ftell(file);
    rewind(file);
    char *bytes = malloc((size_t)end + 1);
    need(bytes != NULL && fread(bytes, 1, (size_t)end, file) == (size_t)end, "read", path);
    bytes[end] = '\0';
    fclose(file);
    *n_bytes = (size_t)end;
    return bytes;
}

bool rm_same_files(const char *a, const char *b)
{
    size_t n_a = 0, n_b = 0;
    char *bytes_a = rm_read_bytes(a, &n_a), *bytes_b = rm_read_bytes(b, &n_b);
    bool same = n_a == n_b && memcmp(bytes_a, bytes_b, n_a) == 0;
    free(bytes_a);
    free(bytes_b);
    return same;
}

/* --- models in memory ------------------------------------------------------------------------- */

rm_model *rm_new(void)
{
    rm_model *model = calloc(1, sizeof *model);
    need(model != NULL, "hold", "a model");
    return model;
}

void rm_free(rm_model *model)
{
    for (int i = 0; model && i < model->n; i++) {
        free(model->tensors[i].bytes);
    }
    free(model);
}

rm_model *rm_clone(const rm_model *model)
{
    rm_model *copy = rm_new();
    *copy = *model;
    for (int i = 0; i < copy->n; i++) {
        copy->tensors[i].bytes = malloc((size_t)copy->tensors[i].n_bytes + 1);
        need(copy->tensors[i].bytes != NULL, "hold", copy->tensors[i].name);
        memcpy(copy->tensors[i].bytes, model->tensors[i].bytes, (size_t)copy->tensors[i].n_bytes);
    }
    return copy;
}

rm_tensor *rm_add(rm_model *model, const char *name, lors_dtype dtype, int32_t n_dims, int64_t a,
                  int64_t b, int64_t c)
{
    need(model->n < RM_MAX_TENSORS, "add", name);
    rm_tensor *tensor = &model->tensors[model->n++];
    *tensor = (rm_tensor){.dtype = dtype, .n_dims = n_dims, .shape = {a, b, c, 0}, .n = 1};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    for (int32_t d = 0; d < n_dims; d++) {
        tensor->n *= (uint64_t)tensor->shape[d];
    }
    tensor->n_bytes = tensor->n * (uint64_t)lors_dtype_bits(dtype) / 8;
    tensor->bytes = calloc((size_t)tensor->n_bytes + 1, 1);
    need(tensor->bytes != NULL, "hold", name);
    return tensor;
}

static rm_tensor *find(const rm_model *model, const char *name)
{
    for (int i = 0; i < model->n; i++) {
        if (strcmp(model->tensors[i].name, name) == 0) {
            return (rm_tensor *)&model->tensors[i];
        }
    }
    return NULL;
}

rm_tensor *rm_get(rm_model *model, const char *name)
{
    rm_tensor *tensor = find(model, name);
    need(tensor != NULL, "find", name);
    return tensor;
}

void rm_drop(rm_model *model, const char *name)
{
    rm_tensor *tensor = rm_get(model, name);
    free(tensor->bytes);
    *tensor = model->tensors[--model->n];
}

double rm_value(const rm_tensor *tensor, uint64_t at)
{
    uint32_t word = 0;
    uint16_t half = 0;
    if (tensor->dtype == LORS_F32) {
        float value;
        memcpy(&word, tensor->bytes + 4 * at, 4);
        memcpy(&value, &word, 4);
        return value;
    }
    memcpy(&half, tensor->bytes + 2 * at, 2);
    return tensor->dtype == LORS_F16 ? lors_f16_to_f32(half) : lors_bf16_to_f32(half);
}

void rm_set(rm_tensor *tensor, uint64_t at, double value)
{
    if (tensor->dtype == LORS_F32) {
        uint32_t word = lors_f64_to_f32_bits(value);
        memcpy(tensor->bytes + 4 * at, &word, 4);
        return;
    }
    uint16_t half = tensor->dtype == LORS_F16 ? lors_f64_to_f16(value) : lors_f64_to_bf16(value);
    memcpy(tensor->bytes + 2 * at, &half, 2);
}

void rm_fill(rm_tensor *tensor, double scale, uint64_t seed)
{
    synth_stream stream = {seed, 0};
    for (uint64_t i = 0; i < tensor->n; i++) {
        rm_set(tensor, i, scale * synth_normal(&stream));
    }
}

/* --- Whisper ---------------------------------------------------------------------------------- */

enum { SIDE = 8, INNER = 16, LAYERS = 2 };

static void add_filled(rm_model *m, lors_dtype dtype, uint64_t seed, const char *prefix,
                       const char *name, int64_t a, int64_t b, int64_t c)
{
    char whole[128];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    rm_tensor *tensor = rm_add(m, whole, dtype, c ? 3 : b ? 2 : 1, a, b, c);
    rm_fill(tensor, 0.05, seed * 1000 + (uint64_t)m->n);
}

static void add_attention(rm_model *m, lors_dtype dtype, uint64_t seed, const char *layer,
                          const char *kind)
{
    static const char *const parts[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    for (int i = 0; i < 4; i++) {
        char prefix[96];
        snprintf(prefix, sizeof prefix, "%s%s.%s", layer, kind, parts[i]);
        add_filled(m, dtype, seed, prefix, ".weight", SIDE, SIDE, 0);
        if (i != 1) {
            add_filled(m, dtype, seed, prefix, ".bias", SIDE, 0, 0);
        }
    }
}

static void add_layer(rm_model *m, lors_dtype dtype, uint64_t seed, const char *stack, int index)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "model.%s.layers.%d.", stack, index);
    add_attention(m, dtype, seed, prefix, "self_attn");
    if (strcmp(stack, "decoder") == 0) {
        add_attention(m, dtype, seed, prefix, "encoder_attn");
    }
    add_filled(m, dtype, seed, prefix, "fc1.weight", INNER, SIDE, 0);
    add_filled(m, dtype, seed, prefix, "fc1.bias", INNER, 0, 0);
    add_filled(m, dtype, seed, prefix, "fc2.weight", SIDE, INNER, 0);
    add_filled(m, dtype, seed, prefix, "final_layer_norm.weight", SIDE, 0, 0);
}

rm_model *rm_whisper(lors_dtype dtype, uint64_t seed)
{
    rm_model *m = rm_new();
    add_filled(m, dtype, seed, "model.encoder.", "conv1.weight", SIDE, 4, 3);
    add_filled(m, dtype, seed, "model.encoder.", "embed_positions.weight", 6, SIDE, 0);
    add_filled(m, dtype, seed, "model.decoder.", "embed_tokens.weight", 40, SIDE, 0);
    add_filled(m, dtype, seed, "model.decoder.", "embed_positions.weight", 5, SIDE, 0);
    for (int i = 0; i < LAYERS; i++) {
        add_layer(m, dtype, seed, "encoder", i);
        add_layer(m, dtype, seed, "decoder", i);
    }
    rm_tensor *ids = rm_add(m, "position_ids", LORS_I64, 1, 4, 0, 0);
    rm_tensor *flags = rm_add(m, "flags", LORS_BOOL, 1, 3, 0, 0);
    memset(ids->bytes, (int)seed, (size_t)ids->n_bytes);
    flags->bytes[seed % 3] = 1;
    return m;
}

void rm_tune(rm_model *model, uint64_t seed, double scale)
{
    for (int i = 0; i < model->n; i++) {
        rm_tensor *tensor = &model->tensors[i];
        synth_stream stream = {seed * 1000 + (uint64_t)i, 0};
        if (!lors_dtype_merges(tensor->dtype) ||
            strcmp(tensor->name, "model.encoder.embed_positions.weight") == 0) {
            continue;
        }
        for (uint64_t at = 0; at < tensor->n; at++) {
            rm_set(tensor, at, rm_value(tensor, at) + scale * synth_normal(&stream));
        }
    }
}

void rm_write_tuned(const rm_model *base, const char *const *folders, int n, double scale)
{
    for (int k = 0; k < n; k++) {
        rm_model *model = rm_clone(base);
        if (k > 0) {
            rm_tune(model, (uint64_t)k, scale);
        }
        rm_write(model, folders[k], 1);
        rm_free(model);
    }
}

void rm_write_small_family(void)
{
    static const char *const folders[] = {"b", "m", "n"};
    rm_model *base = rm_whisper(LORS_F32, 1);
    rm_write_tuned(base, folders, 3, 0.02);
    rm_free(base);
}

void rm_make_coarse(rm_model *model)
{
    for (int i = 0; i < model->n; i++) {
        rm_tensor *tensor = &model->tensors[i];
        for (uint64_t at = 0; lors_dtype_merges(tensor->dtype) && at < tensor->n; at++) {
            double steps = rm_value(tensor, at) * 256;
            rm_set(tensor, at, (double)(int64_t)steps / 256);
        }
    }
}

void rm_cast(rm_model *model, lors_dtype dtype)
{
    for (int i = 0; i < model->n; i++) {
        rm_tensor *tensor = &model->tensors[i], old = *tensor;
        if (!lors_dtype_merges(tensor->dtype)) {
            continue;
        }
        tensor->dtype = dtype;
        tensor->n_bytes = tensor->n * (uint64_t)lors_dtype_bits(dtype) / 8;
        tensor->bytes = calloc((size_t)tensor->n_bytes + 1, 1);
        need(tensor->bytes != NULL, "hold", tensor->name);
        for (uint64_t at = 0; at < tensor->n; at++) {
            rm_set(tensor, at, rm_value(&old, at));
        }
        free(old.bytes);
    }
}

/* --- models on disk --------------------------------------------------------------------------- */

static void write_shard(const rm_model *m, int first, int end, const char *path)
{
    lors_st_entry entries[RM_MAX_TENSORS];
    for (int i = first; i < end; i++) {
        const rm_tensor *t = &m->tensors[i];
        entries[i - first] = (lors_st_entry){t->name, t->dtype, t->n_dims, t->shape, t->n_bytes, 0};
    }
    lors_text header = {0};
    uint64_t file_bytes = 0;
    RM_OK(lors_st_layout(entries, end - first, 8, &header, &file_bytes));
    FILE *file = fopen(path, "wb");
    need(file != NULL, "create", path);
    need(fwrite(header.bytes, 1, header.length, file) == header.length, "write", path);
    for (int i = first; i < end; i++) {
        size_t n_bytes = (size_t)m->tensors[i].n_bytes;
        need(fwrite(m->tensors[i].bytes, 1, n_bytes, file) == n_bytes, "write", path);
    }
    need(fclose(file) == 0, "close", path);
    lors_text_clear(&header);
}

static void write_weights(const rm_model *m, const char *folder, int n_shards)
{
    char path[256];
    if (n_shards == 1) {
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        write_shard(m, 0, m->n, path);
        return;
    }
    lors_text index = {0};
    lors_text_printf(&index, "{\"metadata\": {}, \"weight_map\": {");
    for (int s = 0; s < n_shards; s++) {
        int first = s * m->n / n_shards, end = (s + 1) * m->n / n_shards;
        snprintf(path, sizeof path, "%s/model-%05d-of-%05d.safetensors", folder, s + 1, n_shards);
        write_shard(m, first, end, path);
        for (int i = first; i < end; i++) {
            lors_text_printf(&index, "%s\"%s\": \"%s\"", i ? ", " : "", m->tensors[i].name,
                             strrchr(path, '/') + 1);
        }
    }
    lors_text_printf(&index, "}}\n");
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    rm_write_bytes(path, index.bytes, index.length);
    lors_text_clear(&index);
}

void rm_write(const rm_model *m, const char *folder, int n_shards)
{
    static const char *const side_files[][2] = {
        {"generation_config.json", "{\"max_length\": 448}\n"},
        {"preprocessor_config.json", "{ \"feature_size\":80 }"},
        {"tokenizer.json", "{\"model\": {\"vocab\": {\"a\\u00e9\": 0}}}"},
        {"merges.txt", "#version: 0.2\na b\n"},
    };
    char path[256], config[256];
    rm_remove(folder);
    need(mkdir(folder, 0777) == 0, "create", folder);
    write_weights(m, folder, n_shards);
    for (size_t i = 0; i < sizeof side_files / sizeof *side_files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, side_files[i][0]);
        rm_write_bytes(path, side_files[i][1], strlen(side_files[i][1]));
    }
    lors_dtype dtype = m->n ? m->tensors[0].dtype : LORS_F32;
    snprintf(path, sizeof path, "%s/config.json", folder);
    snprintf(config, sizeof config,
             "{\n  \"architectures\": [\"WhisperForConditionalGeneration\"],\n"
             "  \"d_model\": 8,\n  \"torch_dtype\": \"%s\",\n  \"vocab_size\": 40\n}\n",
             dtype == LORS_F16    ? "float16"
             : dtype == LORS_BF16 ? "bfloat16"
                                  : "float32");
    rm_write_bytes(path, config, strlen(config));
}

rm_model *rm_read(const char *folder)
{
    lors_checkpoint *checkpoint = NULL;
    rm_model *model = rm_new();
    RM_OK(lors_checkpoint_open(folder, false, &checkpoint));
    for (int64_t i = 0; i < lors_checkpoint_count(checkpoint); i++) {
        lors_tensor_info info;
        lors_dtype dtype;
        char path[256];
        lors_checkpoint_tensor(checkpoint, i, &info);
        need(lors_dtype_find(info.dtype, strlen(info.dtype), &dtype), "know", info.dtype);
        rm_tensor *tensor = rm_add(model, info.name, dtype, info.n_dims,
                                   info.n_dims > 0 ? info.shape[0] : 0,
                                   info.n_dims > 1 ? info.shape[1] : 0,
                                   info.n_dims > 2 ? info.shape[2] : 0);
        snprintf(path, sizeof path, "%s/%s", folder, info.file);
        FILE *file = fopen(path, "rb");
        need(file && fseek(file, (long)info.offset, SEEK_SET) == 0, "open", path);
        need(fread(tensor->bytes, 1, (size_t)tensor->n_bytes, file) == tensor->n_bytes,
             "read", path);
        fclose(file);
    }
    lors_checkpoint_close(checkpoint);
    return model;
}

bool rm_same(const rm_model *a, const rm_model *b)
{
    if (a->n != b->n) {
        fprintf(stderr, "%d tensors against %d\n", a->n, b->n);
        return false;
    }
    for (int i = 0; i < a->n; i++) {
        const rm_tensor *x = &a->tensors[i], *y = find(b, x->name);
        if (!y || x->dtype != y->dtype || x->n_dims != y->n_dims || x->n_bytes != y->n_bytes ||
            memcmp(x->shape, y->shape, (size_t)x->n_dims * sizeof *x->shape) != 0) {
            fprintf(stderr, "%s: missing, or of another type or shape\n", x->name);
            return false;
        }
        for (uint64_t at = 0; at < x->n_bytes; at++) {
            if (x->bytes[at] != y->bytes[at]) {
                uint64_t element = at * 8 / (uint64_t)lors_dtype_bits(x->dtype);
                bool number = lors_dtype_merges(x->dtype);
                fprintf(stderr, "%s: element %llu differs: %.17g against %.17g\n", x->name,
                        (unsigned long long)element, number ? rm_value(x, element) : x->bytes[at],
                        number ? rm_value(y, element) : y->bytes[at]);
                return false;
            }
        }
    }
    return true;
}

bool rm_same_folders(const char *a, const char *b)
{
    rm_model *left = rm_read(a), *right = rm_read(b);
    bool same = rm_same(left, right);
    rm_free(left);
    rm_free(right);
    return same;
}

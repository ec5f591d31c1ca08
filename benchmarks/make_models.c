/* make_models.c - synthetic Whisper-shaped models: a base and N fine-tunes of it.
 *
 *   make-models OUT --size demo|tiny|base|small|medium|large-v3 --models N --dtype f16 [--seed S]
 *               [--family whisper|llama]
 *
 * writes OUT/base, OUT/model-1 ... OUT/model-N in Hugging Face layout. Weights are random: base
 * about N(0, 0.02^2); a fine-tune adds to every matrix a rank-8 update with singular values like
 * 1/i, plus noise, about 1e-3 in all. Numbers depend on the seed, the tensor's name and the index
 * alone. The family llama has that family's tensors, as many values as the Whisper of that size:
 * for programs that cannot read a Whisper.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dtype.h"
#include "base/hash.h"
#include "base/rng.h"
#include "io/safetensors.h"

enum { MAX_TENSORS = 1300, PIECE = 1 << 16, RANK = 8 };

typedef struct size {
    const char *name;
    int d, f, mels, vocab, encoder, decoder, positions, text_positions;
} size;

static const size sizes[] = {
    {"demo", 64, 256, 80, 512, 2, 2, 128, 64},
    {"tiny", 384, 1536, 80, 51865, 4, 4, 1500, 448},
    {"base", 512, 2048, 80, 51865, 6, 6, 1500, 448},
    {"small", 768, 3072, 80, 51865, 12, 12, 1500, 448},
    {"medium", 1024, 4096, 80, 51865, 24, 24, 1500, 448},
    {"large-v3", 1280, 5120, 128, 51866, 32, 32, 1500, 448},
};

typedef struct tensor {
    char name[256];
    int64_t shape[3];
    int n_dims;
} tensor;

typedef struct model {
    const size *size;
    bool llama;
    tensor *tensors;
    int n_tensors;
    lors_dtype dtype;
    uint64_t seed;
    int index; /* 0: the base */
} model;

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "make-models: %s: %s\n", what, detail);
    exit(2);
}

/* --- which tensors ---------------------------------------------------------------------------- */

static void add(model *m, const char *prefix, const char *name, int64_t a, int64_t b, int64_t c)
{
    tensor *t = &m->tensors[m->n_tensors++];
    snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
    t->shape[0] = a;
    t->shape[1] = b;
    t->shape[2] = c;
    t->n_dims = c ? 3 : b ? 2 : 1;
}

static void add_attention(model *m, const char *layer, const char *kind)
{
    int d = m->size->d;
    char prefix[160];
    static const char *const parts[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    for (int i = 0; i < 4; i++) {
        snprintf(prefix, sizeof prefix, "%s%s.%s", layer, kind, parts[i]);
        add(m, prefix, ".weight", d, d, 0);
        if (i != 1) {
            add(m, prefix, ".bias", d, 0, 0);
        }
    }
    snprintf(prefix, sizeof prefix, "%s%s_layer_norm", layer, kind);
    add(m, prefix, ".weight", d, 0, 0);
    add(m, prefix, ".bias", d, 0, 0);
}

static void add_layer(model *m, const char *stack, int index, bool cross)
{
    int d = m->size->d, f = m->size->f;
    char prefix[80];
    snprintf(prefix, sizeof prefix, "model.%s.layers.%d.", stack, index);
    add_attention(m, prefix, "self_attn");
    if (cross) {
        add_attention(m, prefix, "encoder_attn");
    }
    add(m, prefix, "fc1.weight", f, d, 0);
    add(m, prefix, "fc1.bias", f, 0, 0);
    add(m, prefix, "fc2.weight", d, f, 0);
    add(m, prefix, "fc2.bias", d, 0, 0);
    add(m, prefix, "final_layer_norm.weight", d, 0, 0);
    add(m, prefix, "final_layer_norm.bias", d, 0, 0);
}

/* Layers of 16 d^2 values (f = 4 d), where Whisper has 12 d^2 in the encoder, 16 d^2 beside. */
static int llama_layers(const size *s)
{
    return (12 * s->encoder + 16 * s->decoder) / 16;
}

static void add_llama(model *m)
{
    int d = m->size->d, f = m->size->f;
    add(m, "model.", "embed_tokens.weight", m->size->vocab, d, 0);
    for (int i = 0; i < llama_layers(m->size); i++) {
        char prefix[80];
        snprintf(prefix, sizeof prefix, "model.layers.%d.", i);
        add(m, prefix, "self_attn.q_proj.weight", d, d, 0);
        add(m, prefix, "self_attn.k_proj.weight", d, d, 0);
        add(m, prefix, "self_attn.v_proj.weight", d, d, 0);
        add(m, prefix, "self_attn.o_proj.weight", d, d, 0);
        add(m, prefix, "mlp.gate_proj.weight", f, d, 0);
        add(m, prefix, "mlp.up_proj.weight", f, d, 0);
        add(m, prefix, "mlp.down_proj.weight", d, f, 0);
        add(m, prefix, "input_layernorm.weight", d, 0, 0);
        add(m, prefix, "post_attention_layernorm.weight", d, 0, 0);
    }
    add(m, "model.", "norm.weight", d, 0, 0);
}

static void add_tensors(model *m)
{
    if (m->llama) {
        add_llama(m);
        return;
    }
    const size *s = m->size;
    add(m, "model.encoder.", "conv1.weight", s->d, s->mels, 3);
    add(m, "model.encoder.", "conv1.bias", s->d, 0, 0);
    add(m, "model.encoder.", "conv2.weight", s->d, s->d, 3);
    add(m, "model.encoder.", "conv2.bias", s->d, 0, 0);
    add(m, "model.encoder.", "embed_positions.weight", s->positions, s->d, 0);
    add(m, "model.decoder.", "embed_positions.weight", s->text_positions, s->d, 0);
    add(m, "model.decoder.", "embed_tokens.weight", s->vocab, s->d, 0);
    for (int i = 0; i < s->encoder; i++) {
        add_layer(m, "encoder", i, false);
    }
    for (int i = 0; i < s->decoder; i++) {
        add_layer(m, "decoder", i, true);
    }
    static const char *const stacks[] = {"model.encoder.", "model.decoder."};
    for (int i = 0; i < 2; i++) {
        add(m, stacks[i], "layer_norm.weight", s->d, 0, 0);
        add(m, stacks[i], "layer_norm.bias", s->d, 0, 0);
    }
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* About N(0, 1): eight 16-bit uniforms, of variance 1/12 each, summed. */
static float gauss(uint64_t key, uint64_t at)
{
    lors_philox bits = lors_philox_at(key, at, 0);
    int32_t sum = 0;
    for (int i = 0; i < 4; i++) {
        sum += (int32_t)(bits.word[i] & 0xffff) + (int32_t)(bits.word[i] >> 16);
    }
    return (float)(sum - 8 * 32768) * (1.2247449f / 65536.0f);
}

static uint64_t key_of(const model *m, const tensor *t, int part)
{
    char text[200];
    int n = snprintf(text, sizeof text, "%llu/%d/%s", (unsigned long long)m->seed, part, t->name);
    return lors_xxh64_of(text, (size_t)n);
}

typedef struct factors {
    float *u, *v; /* [rows][RANK], [cols][RANK] */
    int64_t cols;
} factors;

static float *random_factor(uint64_t key, int64_t n, bool scaled)
{
    float *out = malloc((size_t)n * RANK * sizeof *out);
    if (!out) {
        die("memory", "a factor");
    }
    for (int64_t i = 0; i < n * RANK; i++) {
        float scale = scaled ? 1.0f / (float)(i % RANK + 1) : 1.0f;
        out[i] = scale * gauss(key, (uint64_t)i);
    }
    return out;
}

static factors factors_of(const model *m, const tensor *t)
{
    factors f = {0};
    bool sinusoid = strcmp(t->name, "model.encoder.embed_positions.weight") == 0;
    if (m->index == 0 || t->n_dims < 2 || sinusoid) {
        return f;
    }
    f.cols = t->shape[1] * (t->n_dims > 2 ? t->shape[2] : 1);
    f.u = random_factor(key_of(m, t, 1000 + m->index), t->shape[0], true);
    f.v = random_factor(key_of(m, t, 2000 + m->index), f.cols, false);
    return f;
}

static float value_at(const tensor *t, uint64_t base_key, uint64_t noise_key, const factors *f,
                      uint64_t i, bool changed)
{
    bool gain = strstr(t->name, "norm.weight") != NULL;
    float value = 0.02f * gauss(base_key, i) + (gain ? 1.0f : 0.0f);
    if (!changed) {
        return value;
    }
    float update = 0.2f * gauss(noise_key, i);
    if (f->u) {
        const float *u = f->u + i / (uint64_t)f->cols * RANK,
                    *v = f->v + i % (uint64_t)f->cols * RANK;
        for (int r = 0; r < RANK; r++) {
            update += u[r] * v[r];
        }
    }
    return value + 1e-3f * update;
}

static void write_or_die(FILE *file, const void *bytes, size_t n, const char *path)
{
    if (fwrite(bytes, 1, n, file) != n) {
        die(path, strerror(errno));
    }
}

static void write_tensor(const model *m, const tensor *t, uint64_t n, FILE *file, const char *path)
{
    uint64_t base_key = key_of(m, t, 0), noise_key = key_of(m, t, m->index);
    factors f = factors_of(m, t);
    bool changed = m->index > 0 && strcmp(t->name, "model.encoder.embed_positions.weight") != 0;
    uint32_t piece[PIECE];
    uint16_t *halves = (uint16_t *)piece;
    for (uint64_t at = 0; at < n; at += PIECE) {
        uint64_t count = n - at < PIECE ? n - at : PIECE;
        for (uint64_t i = 0; i < count; i++) {
            double value = value_at(t, base_key, noise_key, &f, at + i, changed);
            if (m->dtype == LORS_F32) {
                piece[i] = lors_f64_to_f32_bits(value);
            } else {
                halves[i] = m->dtype == LORS_F16 ? lors_f64_to_f16(value) : lors_f64_to_bf16(value);
            }
        }
        write_or_die(file, piece, count * (size_t)lors_dtype_bits(m->dtype) / 8, path);
    }
    free(f.u);
    free(f.v);
}

/* --- files ------------------------------------------------------------------------------------ */

static void print_config(const model *m, const char *dtype, FILE *file)
{
    const size *s = m->size;
    int heads = s->d / 64 ? s->d / 64 : 1;
    if (m->llama) {
        fprintf(file,
                "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n"
                "  \"model_type\": \"llama\",\n  \"hidden_size\": %d,\n"
                "  \"intermediate_size\": %d,\n  \"num_hidden_layers\": %d,\n"
                "  \"num_attention_heads\": %d,\n  \"vocab_size\": %d,\n"
                "  \"tie_word_embeddings\": true,\n  \"torch_dtype\": \"%s\"\n}\n",
                s->d, s->f, llama_layers(s), heads, s->vocab, dtype);
        return;
    }
    fprintf(file,
            "{\n  \"architectures\": [\"WhisperForConditionalGeneration\"],\n"
            "  \"model_type\": \"whisper\",\n  \"d_model\": %d,\n  \"encoder_layers\": %d,\n"
            "  \"decoder_layers\": %d,\n  \"encoder_attention_heads\": %d,\n"
            "  \"decoder_attention_heads\": %d,\n  \"encoder_ffn_dim\": %d,\n"
            "  \"decoder_ffn_dim\": %d,\n  \"vocab_size\": %d,\n  \"num_mel_bins\": %d,\n"
            "  \"max_source_positions\": %d,\n  \"max_target_positions\": %d,\n"
            "  \"torch_dtype\": \"%s\"\n}\n",
            s->d, s->encoder, s->decoder, heads, heads, s->f, s->f, s->vocab, s->mels, s->positions,
            s->text_positions, dtype);
}

static void write_config(const model *m, const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *file = fopen(path, "w");
    if (!file) {
        die(path, strerror(errno));
    }
    print_config(m,
                 m->dtype == LORS_F16    ? "float16"
                 : m->dtype == LORS_BF16 ? "bfloat16"
                                         : "float32",
                 file);
    if (fclose(file) != 0) {
        die(path, strerror(errno));
    }
}

static void write_model(const model *m, const char *folder)
{
    char path[4096];
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
        die(folder, strerror(errno));
    }
    lors_st_entry *entries = calloc((size_t)m->n_tensors, sizeof *entries);
    if (!entries) {
        die("memory", "the header");
    }
    for (int i = 0; i < m->n_tensors; i++) {
        const tensor *t = &m->tensors[i];
        uint64_t n = 1;
        for (int d = 0; d < t->n_dims; d++) {
            n *= (uint64_t)t->shape[d];
        }
        entries[i] = (lors_st_entry){
            t->name, m->dtype, t->n_dims, t->shape, n * (uint64_t)lors_dtype_bits(m->dtype) / 8, 0};
    }
    lors_text header = {0};
    uint64_t file_bytes = 0;
    if (lors_st_layout(entries, m->n_tensors, 8, &header, &file_bytes) != LORS_OK) {
        die("header", lors_last_error());
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE *file = fopen(path, "wb");
    if (!file) {
        die(path, strerror(errno));
    }
    write_or_die(file, header.bytes, header.length, path);
    for (int i = 0; i < m->n_tensors; i++) {
        uint64_t n = entries[i].n_bytes * 8 / (uint64_t)lors_dtype_bits(m->dtype);
        write_tensor(m, &m->tensors[i], n, file, path);
    }
    if (fclose(file) != 0) {
        die(path, strerror(errno));
    }
    lors_text_clear(&header);
    free(entries);
    write_config(m, folder);
}

static const size *find_size(const char *name)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (strcmp(sizes[i].name, name) == 0) {
            return &sizes[i];
        }
    }
    die("unknown --size (demo, tiny, base, small, medium, large-v3)", name);
}

int main(int argc, char **argv)
{
    model m = {.size = &sizes[0], .dtype = LORS_F16, .seed = 1};
    int n_models = 3;
    const char *out = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (argv[i][0] != '-') {
            out = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--size") == 0) {
            m.size = find_size(value);
        } else if (strcmp(argv[i], "--models") == 0) {
            n_models = atoi(value);
        } else if (strcmp(argv[i], "--seed") == 0) {
            m.seed = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--family") == 0 &&
                   (strcmp(value, "llama") == 0 || strcmp(value, "whisper") == 0)) {
            m.llama = value[0] == 'l';
        } else if (strcmp(argv[i], "--dtype") != 0 || !lors_dtype_parse_word(value, &m.dtype)) {
            die("unknown option or value", argv[i]);
        }
        i++;
    }
    if (!out || n_models < 1 || n_models > 999 || !lors_dtype_merges(m.dtype)) {
        die("usage", "make-models OUT [--size S] [--models N] [--dtype f32|f16|bf16] [--seed S] "
                     "[--family whisper|llama]");
    }
    m.tensors = calloc(MAX_TENSORS, sizeof *m.tensors);
    if (!m.tensors || (mkdir(out, 0777) != 0 && errno != EEXIST)) {
        die(out, strerror(errno));
    }
    add_tensors(&m);
    for (m.index = 0; m.index <= n_models; m.index++) {
        char folder[4000];
        snprintf(folder, sizeof folder, m.index ? "%s/model-%d" : "%s/base", out, m.index);
        write_model(&m, folder);
    }
    free(m.tensors);
    return 0;
}

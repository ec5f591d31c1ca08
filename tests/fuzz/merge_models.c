/* merge_models.c - tiny models on disk, drawn from the bytes of a fuzzer's input. */
#include "merge_models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/memory.h"
#include "fuzz.h"
#include "synth.h"

/* A file: ten tensors of 33^3 elements of eight bytes, a header, and what damage adds. */
enum { MAX_TENSORS = 10, MAX_DIMS = 3, MAX_SHARDS = 3, FILE_MAX = 3 << 20 };

static const char *const names[] = {
    "model.decoder.layers.0.self_attn.q_proj.weight",
    "model.decoder.layers.0.fc1.weight",
    "model.encoder.layers.0.fc2.weight",
    "model.decoder.embed_tokens.weight",
    "proj_out.weight",
    "model.encoder.embed_positions.weight",
    "model.decoder.layers.1.final_layer_norm.weight",
    "model.encoder.conv1.weight",
    "model.decoder.layers.1.encoder_attn.out_proj.bias",
    "decoder.blocks.0.attn.value.weight",
    "position_ids",
    "odd \xc3\xa4 name",
};

typedef enum style { NOISE, ZEROS, ANY_BITS, LARGE, SMALL, ONES, N_STYLES } style;

typedef struct tensor {
    unsigned name;
    lors_dtype dtype;
    unsigned n_dims;
    int64_t shape[MAX_DIMS];
    style style;
    uint64_t seed, other_seed; /* other_seed: of the noise upon it; 0: none */
    unsigned shard;
} tensor;

typedef struct model {
    tensor tensors[MAX_TENSORS];
    unsigned n, n_shards;
} model;

unsigned draw_byte(draw_from *in)
{
    return in->at < in->n_bytes ? in->bytes[in->at++] : 0;
}

unsigned draw_below(draw_from *in, unsigned n)
{
    return draw_byte(in) % n;
}

/* --- shapes and types ----------------------------------------------------------------------- */

static void draw_shape(draw_from *in, tensor *t)
{
    static const int64_t sides[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 0};
    t->n_dims = draw_below(in, MAX_DIMS + 1);
    t->n_dims = t->n_dims == 0 ? 2 : t->n_dims; /* matrices twice as often */
    for (unsigned d = 0; d < t->n_dims; d++) {
        t->shape[d] = sides[draw_below(in, sizeof sides / sizeof *sides)];
    }
    t->n_dims = draw_byte(in) > 250 ? 0 : t->n_dims;
}

static lors_dtype draw_dtype(draw_from *in)
{
    static const lors_dtype common[] = {LORS_F32, LORS_F16, LORS_BF16};
    static const lors_dtype rare[] = {LORS_I64, LORS_BOOL, LORS_F64, LORS_F8_E4M3, LORS_F4};
    unsigned byte = draw_byte(in);
    return byte < 230 ? common[byte % 3] : rare[byte % 5];
}

static model draw_base(draw_from *in)
{
    model m = {.n_shards = 1 + draw_below(in, MAX_SHARDS)};
    unsigned n = 1 + draw_below(in, MAX_TENSORS), first = draw_below(in, 12);
    lors_dtype main_dtype = draw_dtype(in);
    for (; m.n < n; m.n++) {
        tensor *t = &m.tensors[m.n];
        t->name = (first + m.n) % (sizeof names / sizeof *names);
        t->dtype = draw_byte(in) < 200 ? main_dtype : draw_dtype(in);
        draw_shape(in, t);
        t->style = draw_byte(in) < 220 ? NOISE : (style)draw_below(in, N_STYLES);
        t->seed = draw_byte(in);
        t->shard = draw_below(in, m.n_shards);
    }
    return m;
}

static model draw_model(draw_from *in, const model *base)
{
    model m = {.n_shards = 1 + draw_below(in, MAX_SHARDS)};
    for (unsigned i = 0; i < base->n; i++) {
        tensor t = base->tensors[i];
        unsigned how = draw_byte(in);
        t.shard = draw_below(in, m.n_shards);
        t.other_seed = how % 8 == 0 ? 0 : 1 + draw_byte(in);
        if (how >= 250) {
            continue; /* missing */
        }
        if (how >= 246) {
            draw_shape(in, &t);
        } else if (how >= 242) {
            t.name = draw_below(in, sizeof names / sizeof *names);
        } else if (how >= 230) {
            t.style = (style)draw_below(in, N_STYLES);
        } else if (how >= 215) {
            t.dtype = draw_dtype(in);
        }
        m.tensors[m.n++] = t;
    }
    return m;
}

/* --- bytes ---------------------------------------------------------------------------------- */

static void put_value(lors_dtype dtype, double value, unsigned char *out)
{
    uint32_t word = lors_f64_to_f32_bits(value);
    uint16_t half = dtype == LORS_F16 ? lors_f64_to_f16(value) : lors_f64_to_bf16(value);
    memcpy(out, dtype == LORS_F32 ? (const void *)&word : (const void *)&half,
           dtype == LORS_F32 ? 4 : 2);
}

static double style_value(style how, double normal)
{
    switch (how) {
    case ZEROS: return 0;
    case ONES: return 1;
    case LARGE: return 60000 * normal;
    case SMALL: return 1e-7 * normal;
    default: return 0.05 * normal;
    }
}

static size_t tensor_bytes(const tensor *t)
{
    uint64_t bits = (uint64_t)lors_dtype_bits(t->dtype);
    for (unsigned d = 0; d < t->n_dims; d++) {
        bits *= (uint64_t)t->shape[d];
    }
    return (size_t)((bits + 7) / 8); /* half a byte: the header will be refused */
}

static void fill_tensor(const tensor *t, unsigned char *out)
{
    size_t n_bytes = tensor_bytes(t), item = (size_t)lors_dtype_bits(t->dtype) / 8;
    synth_stream stream = {t->seed, 0}, other = {1000 + t->other_seed, 0};
    for (size_t i = 0; t->style != ANY_BITS && lors_dtype_merges(t->dtype) && i < n_bytes;
         i += item) {
        double value = style_value(t->style, synth_normal(&stream));
        value += t->other_seed > 0 && t->style != ZEROS ? 0.01 * synth_normal(&other) : 0;
        put_value(t->dtype, value, out + i);
    }
    for (size_t i = 0; (t->style == ANY_BITS || !lors_dtype_merges(t->dtype)) && i < n_bytes; i++) {
        out[i] = (unsigned char)synth_bits(&stream);
    }
}

/* --- files ---------------------------------------------------------------------------------- */

typedef struct file {
    unsigned char bytes[FILE_MAX];
    size_t n_header, n_bytes; /* of the JSON; of all */
} file;

static void set_length(file *f)
{
    for (int i = 0; i < 8; i++) {
        f->bytes[i] = (unsigned char)((uint64_t)f->n_header >> 8 * i);
    }
}

static void build_file(const model *m, unsigned shard, file *f)
{
    lors_text json = {0};
    size_t at = 0;
    lors_text_printf(&json, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (unsigned i = 0; i < m->n; i++) {
        const tensor *t = &m->tensors[i];
        size_t n_bytes = tensor_bytes(t);
        if (t->shard == shard) {
            lors_text_printf(&json, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", names[t->name],
                             lors_dtype_name(t->dtype));
            for (unsigned d = 0; d < t->n_dims; d++) {
                lors_text_printf(&json, "%s%lld", d ? "," : "", (long long)t->shape[d]);
            }
            lors_text_printf(&json, "],\"data_offsets\":[%zu,%zu]}", at, at + n_bytes);
            at += n_bytes;
        }
    }
    lors_text_printf(&json, "}");
    f->n_header = json.length;
    f->n_bytes = 8 + json.length + at;
    FUZZ_NEED(!json.failed && f->n_bytes <= sizeof f->bytes, "a file of %zu bytes", f->n_bytes);
    set_length(f);
    memcpy(f->bytes + 8, json.bytes, json.length);
    unsigned char *data = f->bytes + 8 + json.length;
    for (unsigned i = 0; i < m->n; i++) {
        if (m->tensors[i].shard == shard) {
            fill_tensor(&m->tensors[i], data);
            data += tensor_bytes(&m->tensors[i]);
        }
    }
    lors_text_clear(&json);
}

/* Change the header's text; most often the length in front of it is made right again, and the data
 * stay what they are. Or cut the file, or add to it. */
static void damage_file(draw_from *in, file *f)
{
    static unsigned char data[FILE_MAX];
    unsigned how = draw_below(in, 8);
    size_t n_data = f->n_bytes - 8 - f->n_header;
    if (how == 0) {
        f->n_bytes -= draw_byte(in) % (f->n_bytes + 1);
    } else if (how == 1) {
        f->bytes[f->n_bytes++] = 0;
    } else if (how == 2) {
        f->bytes[draw_below(in, 8)] ^= (unsigned char)draw_byte(in);
    } else {
        memcpy(data, f->bytes + 8 + f->n_header, n_data);
        f->n_header = fuzz_mutate(f->bytes + 8, f->n_header, f->n_header + 256, draw_byte(in));
        memcpy(f->bytes + 8 + f->n_header, data, n_data);
        f->n_bytes = 8 + f->n_header + n_data;
        if (how > 3) {
            set_length(f);
        }
    }
}

static void write_index(const model *m, const char *folder)
{
    char path[64];
    lors_text json = {0};
    lors_text_printf(&json, "{\"metadata\":{},\"weight_map\":{");
    for (unsigned i = 0; i < m->n; i++) {
        lors_text_printf(&json, "%s\"%s\":\"model-%u.safetensors\"", i ? "," : "",
                         names[m->tensors[i].name], m->tensors[i].shard);
    }
    lors_text_printf(&json, "}}");
    FUZZ_NEED(!json.failed, "no memory");
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    fuzz_write(path, json.bytes, json.length);
    lors_text_clear(&json);
}

static void write_model(draw_from *in, const model *m, const char *folder)
{
    static file f;
    char path[64];
    static const char config[] = "{\"architectures\": [\"W\"], \"torch_dtype\": \"float32\"}";
    unsigned damaged = draw_byte(in); /* which shard, if any; most often none */
    fuzz_remove(folder);
    fuzz_mkdir(folder);
    for (unsigned s = 0; s < m->n_shards; s++) {
        build_file(m, s, &f);
        if (damaged == 200 + s) {
            damage_file(in, &f);
        }
        snprintf(path, sizeof path,
                 m->n_shards > 1 ? "%s/model-%u.safetensors" : "%s/model.safetensors", folder, s);
        fuzz_write(path, f.bytes, f.n_bytes);
    }
    if (m->n_shards > 1) {
        write_index(m, folder);
    }
    snprintf(path, sizeof path, "%s/config.json", folder);
    fuzz_write(path, config, sizeof config - 1);
}

void merge_models_write(draw_from *in, unsigned n_models)
{
    model base = draw_base(in);
    write_model(in, &base, "base");
    for (unsigned k = 0; k < n_models; k++) {
        char folder[16];
        model m = draw_model(in, &base);
        snprintf(folder, sizeof folder, "m%u", k);
        write_model(in, &m, folder);
    }
}

#!/usr/bin/env python3
"""tiny_models.py - write a tiny model folder shaped like Whisper, for tests.

    tiny_models.py models --name base --seed 1
    tiny_models.py models --name fr --delta-of base --seed 2 --scale 1e-2
    tiny_models.py models --name broken --delta-of base --fault nan=model.encoder.conv1.weight

The first writes models/base: weights, config.json and small side files. The second writes
models/fr, which is models/base plus seeded noise. The same options always give the same bytes.
Python's standard library only. As a module: write_model(folder, ...) and read_model(folder).
"""
import argparse
import fnmatch
import json
import math
import os
import random
import struct
import sys

DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
TORCH_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
FAULTS = {
    "nan": "one element of the tensor is NaN",
    "inf": "one element of the tensor is infinite",
    "shape": "the tensor has one row too many",
    "missing": "the tensor is left out",
    "extra": "there is a tensor 'extra.weight' that no other model has",
    "untied": "proj_out.weight is stored and differs from the token embedding",
    "integer": "the tensor is stored as I64",
    "truncate": "the last weight file ends 10 bytes early",
    "trailing": "the last weight file has 16 bytes too many",
    "header": "the header of the last weight file is not JSON",
    "lfs": "the weight file is a git-lfs pointer",
    "no-config": "config.json is missing",
    "config": "config.json names another d_model",
}


# --- Numbers ------------------------------------------------------------------------------------

def encode(values, dtype):
    """Floats to bytes, rounded to nearest even."""
    n = len(values)
    if dtype == "F32":
        return struct.pack(f"<{n}f", *values)
    if dtype == "F16":
        return struct.pack(f"<{n}e", *values)
    if dtype == "BF16":
        words = struct.unpack(f"<{n}I", struct.pack(f"<{n}f", *values))
        return struct.pack(f"<{n}H", *(bf16_bits(word) for word in words))
    letter = {"I64": "q", "I32": "i", "U8": "B", "BOOL": "?"}[dtype]
    return struct.pack(f"<{n}{letter}", *(int(value) for value in values))


def bf16_bits(word):
    if word & 0x7FFFFFFF > 0x7F800000:
        return 0x7FC0
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16 & 0xFFFF


def decode(raw, dtype):
    n = len(raw) // ITEM_BYTES[dtype]
    if dtype == "BF16":
        halves = struct.unpack(f"<{n}H", raw)
        return list(struct.unpack(f"<{n}f", struct.pack(f"<{n}I", *(h << 16 for h in halves))))
    letter = {"F32": "f", "F16": "e", "I64": "q", "I32": "i", "U8": "B", "BOOL": "?"}[dtype]
    return list(struct.unpack(f"<{n}{letter}", raw))


def noise(count, *key):
    """`count` nearly normal numbers of deviation 1, the same for the same key everywhere: only
    random() of a text seed is promised to stay as it is between versions of Python."""
    draw = random.Random("/".join(str(part) for part in key)).random
    return [(draw() + draw() + draw() + draw() - 2.0) * math.sqrt(3.0) for _ in range(count)]


def count_of(shape):
    return math.prod(shape)


# --- Names and shapes ---------------------------------------------------------------------------

def linear(name, rows, cols, bias=True):
    yield f"{name}.weight", [rows, cols]
    if bias:
        yield f"{name}.bias", [rows]


def norm(name, d):
    yield f"{name}.weight", [d]
    yield f"{name}.bias", [d]


def attention(name, d):
    for part in ("k", "v", "q", "out"):
        yield from linear(f"{name}.{part}_proj", d, d, bias=part != "k")


def layer(name, d, cross):
    yield from attention(f"{name}.self_attn", d)
    yield from norm(f"{name}.self_attn_layer_norm", d)
    if cross:
        yield from attention(f"{name}.encoder_attn", d)
        yield from norm(f"{name}.encoder_attn_layer_norm", d)
    yield from linear(f"{name}.fc1", 4 * d, d)
    yield from linear(f"{name}.fc2", d, 4 * d)
    yield from norm(f"{name}.final_layer_norm", d)


def shapes(size):
    """Name and shape of every tensor, Hugging Face's names, without the tied proj_out."""
    d = size["d_model"]
    yield "model.encoder.conv1.weight", [d, size["mels"], 3]
    yield "model.encoder.conv1.bias", [d]
    yield "model.encoder.conv2.weight", [d, d, 3]
    yield "model.encoder.conv2.bias", [d]
    yield "model.encoder.embed_positions.weight", [size["source_positions"], d]
    for i in range(size["layers"]):
        yield from layer(f"model.encoder.layers.{i}", d, cross=False)
    yield from norm("model.encoder.layer_norm", d)
    yield "model.decoder.embed_tokens.weight", [size["vocab"], d]
    yield "model.decoder.embed_positions.weight", [size["target_positions"], d]
    for i in range(size["layers"]):
        yield from layer(f"model.decoder.layers.{i}", d, cross=True)
    yield from norm("model.decoder.layer_norm", d)


OPENAI = [  # longest first: the order matters
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("self_attn_layer_norm", "attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder_attn", "cross_attn"),
    ("self_attn", "attn"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    (".layers.", ".blocks."),
    (".fc1.", ".mlp.0."),
    (".fc2.", ".mlp.2."),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("embed_positions.weight", "positional_embedding"),
    ("embed_tokens", "token_embedding"),
]


def rename(name, naming):
    if naming == "hf":
        return name
    if naming == "ddp":
        return "module." + name
    name = name.removeprefix("model.")
    if naming == "openai":
        for ours, theirs in OPENAI:
            name = name.replace(ours, theirs)
    return name


# --- Values -------------------------------------------------------------------------------------

def sinusoids(length, channels):
    """Whisper's fixed positions of the encoder."""
    half = channels // 2
    step = math.log(10000.0) / max(half - 1, 1)
    rows = []
    for position in range(length):
        angles = [position * math.exp(-step * i) for i in range(half)]
        rows += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return rows


def base_values(name, shape, seed):
    if name.endswith("encoder.embed_positions.weight"):
        return sinusoids(*shape)
    values = noise(count_of(shape), "base", seed, name)
    if "layer_norm.weight" in name:
        return [1.0 + 0.05 * v for v in values]
    return [0.05 * v for v in values]


def delta_values(name, shape, options):
    """Noise of deviation `scale`; with `rank`, matrices get a product of two thin ones."""
    seed, scale, rank = options["seed"], options["scale"], options["rank"]
    if name.endswith("encoder.embed_positions.weight"):
        return [0.0] * count_of(shape)
    if any(fnmatch.fnmatch(name, pattern) for pattern in options["unchanged"]):
        return [0.0] * count_of(shape)
    if rank == 0 or len(shape) < 2:
        return [scale * v for v in noise(count_of(shape), "delta", seed, name)]
    rows, cols = shape[0], count_of(shape[1:])
    left = noise(rows * rank, "left", seed, name)
    right = noise(rank * cols, "right", seed, name)
    scale /= math.sqrt(rank)
    return [scale * sum(left[i * rank + k] * right[k * cols + j] for k in range(rank))
            for i in range(rows) for j in range(cols)]


# --- Files --------------------------------------------------------------------------------------

def write_safetensors(path, tensors):
    """tensors: list of (name, dtype, shape, bytes), in the order they are to lie on disk."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, raw in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            file.write(tensor[3])


def read_safetensors(path):
    """name -> (dtype, shape, bytes)"""
    with open(path, "rb") as file:
        raw = file.read()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    return {name: (entry["dtype"], entry["shape"],
                   raw[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]])
            for name, entry in header.items() if name != "__metadata__"}


def read_model(folder):
    """All tensors of a folder or of one file: name -> (dtype, shape, bytes)."""
    if os.path.isfile(folder):
        return read_safetensors(folder)
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_safetensors(os.path.join(folder, "model.safetensors"))
    with open(index, encoding="utf-8") as file:
        names = sorted(set(json.load(file)["weight_map"].values()))
    tensors = {}
    for name in names:
        tensors.update(read_safetensors(os.path.join(folder, name)))
    return tensors


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def write_weights(folder, tensors, n_shards):
    """Returns the path of the last weight file."""
    if n_shards == 1:
        path = os.path.join(folder, "model.safetensors")
        write_safetensors(path, tensors)
        return path
    weight_map = {}
    for i in range(n_shards):
        name = f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors"
        part = tensors[i * len(tensors) // n_shards:(i + 1) * len(tensors) // n_shards]
        path = os.path.join(folder, name)
        write_safetensors(path, part)
        weight_map.update((tensor[0], name) for tensor in part)
    total = sum(len(tensor[3]) for tensor in tensors)
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": weight_map})
    return path


def write_side_files(folder, size, dtype):
    d = size["d_model"]
    write_json(os.path.join(folder, "config.json"), {
        "architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper",
        "d_model": d, "encoder_layers": size["layers"], "decoder_layers": size["layers"],
        "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 4 * d, "decoder_ffn_dim": 4 * d, "vocab_size": size["vocab"],
        "num_mel_bins": size["mels"], "max_source_positions": size["source_positions"],
        "max_target_positions": size["target_positions"], "torch_dtype": TORCH_NAMES[dtype]})
    write_json(os.path.join(folder, "generation_config.json"), {"max_length": 16})
    write_json(os.path.join(folder, "preprocessor_config.json"),
               {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": size["mels"]})
    write_json(os.path.join(folder, "tokenizer.json"), {"version": "1.0", "model": {"vocab": {}}})
    write_json(os.path.join(folder, "vocab.json"), {"a": 0, "b": 1})
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as file:
        file.write("#version: 0.2\na b\n")


# --- Faults -------------------------------------------------------------------------------------

def plant_in_tensors(tensors, kind, target, naming):
    """Faults in the list of (name, dtype, shape, bytes)."""
    if kind == "extra":
        tensors.append(("extra.weight", "F32", [2], bytes(8)))
        return
    if kind == "untied":
        embedding = next(t for t in tensors if t[0].endswith(rename("embed_tokens.weight", naming)))
        raw = bytes([embedding[3][0] ^ 1]) + embedding[3][1:]
        tensors.append(("proj_out.weight", embedding[1], embedding[2], raw))
        return
    found = [i for i, tensor in enumerate(tensors) if tensor[0] == target]
    if not found:
        sys.exit(f"tiny_models.py: there is no tensor {target}")
    name, dtype, shape, raw = tensors[found[0]]
    if kind == "missing":
        del tensors[found[0]]
    elif kind == "shape":
        row = raw[:len(raw) // shape[0]]
        tensors[found[0]] = (name, dtype, [shape[0] + 1] + shape[1:], raw + row)
    elif kind == "integer":
        tensors[found[0]] = (name, "I64", shape, encode([0] * count_of(shape), "I64"))
    else:
        bad = encode([math.nan if kind == "nan" else math.inf], dtype)
        tensors[found[0]] = (name, dtype, shape, raw[:-len(bad)] + bad)


def plant_in_files(folder, weights, kind):
    if kind == "no-config":
        os.remove(os.path.join(folder, "config.json"))
        return
    if kind == "config":
        path = os.path.join(folder, "config.json")
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        write_json(path, config | {"d_model": config["d_model"] * 2})
        return
    with open(weights, "rb") as file:
        raw = file.read()
    if kind == "truncate":
        raw = raw[:-10]
    elif kind == "trailing":
        raw += bytes(16)
    elif kind == "header":
        raw = raw[:8] + b"[" + raw[9:]
    elif kind == "lfs":
        raw = (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 +
               b"\nsize 12345\n")
    with open(weights, "wb") as file:
        file.write(raw)


# --- Models -------------------------------------------------------------------------------------

def model_tensors(size, options, base):
    """List of (name, dtype, shape, bytes); `base`: read_model of the base, or None."""
    dtype, tensors = DTYPES[options["dtype"]], []
    for name, shape in shapes(size):
        if base is None:
            values = base_values(name, shape, options["seed"])
        else:
            # The base may be named otherwise than this model.
            stored = next(base[alias] for alias in
                          (rename(name, naming) for naming in ("hf", "openai", "bare", "ddp"))
                          if alias in base)
            values = [a + b for a, b in
                      zip(decode(stored[2], stored[0]), delta_values(name, shape, options))]
        tensors.append((rename(name, options["naming"]), dtype, shape, encode(values, dtype)))
    if options["proj_out"]:
        embedding = rename("model.decoder.embed_tokens.weight", options["naming"])
        tensors.append(next(("proj_out.weight",) + t[1:] for t in tensors if t[0] == embedding))
    return sorted(tensors)


def write_model(folder, base_folder=None, faults=(), d_model=8, layers=2, vocab=64, mels=4,
                source_positions=12, target_positions=10, shards=1, **given):
    """Write a model folder. Other keywords: dtype, naming, seed, scale, rank, unchanged (a list),
    proj_out."""
    options = {"dtype": "f32", "naming": "hf", "seed": 0, "scale": 1e-2, "rank": 0,
               "unchanged": [], "proj_out": False} | given
    size = {"d_model": d_model, "layers": layers, "vocab": vocab, "mels": mels,
            "source_positions": source_positions, "target_positions": target_positions}
    tensors = model_tensors(size, options, read_model(base_folder) if base_folder else None)
    planted = [fault.partition("=")[::2] for fault in faults]
    for kind, target in planted:
        if kind in ("nan", "inf", "shape", "missing", "extra", "untied", "integer"):
            default = rename("model.encoder.layers.0.fc1.weight", options["naming"])
            plant_in_tensors(tensors, kind, target or default, options["naming"])
    os.makedirs(folder, exist_ok=True)
    weights = write_weights(folder, tensors, shards)
    write_side_files(folder, size, options["dtype"])
    for kind, _ in planted:
        if kind in ("truncate", "trailing", "header", "lfs", "no-config", "config"):
            plant_in_files(folder, weights, kind)


def parse_arguments():
    faults = "\n".join(f"  {kind:<10}{text}" for kind, text in FAULTS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"faults (nan, inf, shape, missing and integer take =TENSOR):\n{faults}")
    add = parser.add_argument
    add("out", help="folder in which the model's folder is made")
    add("--name", default="base", help="name of the model's folder (default: base)")
    add("--dtype", choices=DTYPES, default="f32")
    add("--naming", choices=("hf", "openai", "bare", "ddp"), default="hf",
        help="names of the tensors; bare: hf without 'model.', ddp: with 'module.' in front")
    add("--seed", type=int, default=0)
    add("--delta-of", metavar="NAME", help="be a fine-tune of this model (a name in OUT or a path)")
    add("--scale", type=float, default=1e-2, help="deviation of the fine-tune's change")
    add("--rank", type=int, default=0, help="rank of the change of matrices; 0: full")
    add("--unchanged", action="append", default=[], metavar="PATTERN",
        help="tensors (hf name, * and ?) that the fine-tune leaves as they are; repeatable")
    add("--shards", type=int, default=1)
    add("--proj-out", action="store_true", help="store the tied proj_out.weight as well")
    add("--fault", action="append", default=[], dest="faults", metavar="KIND[=TENSOR]")
    for name, value in (("d-model", 8), ("layers", 2), ("vocab", 64), ("mels", 4),
                        ("source-positions", 12), ("target-positions", 10)):
        add(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    for fault in arguments.faults:
        if fault.partition("=")[0] not in FAULTS:
            parser.error(f"there is no fault '{fault}'")
    return arguments


def main():
    arguments = vars(parse_arguments())
    out, name, base = arguments.pop("out"), arguments.pop("name"), arguments.pop("delta_of")
    if base is not None and os.path.exists(os.path.join(out, base)):
        base = os.path.join(out, base)
    write_model(os.path.join(out, name), base_folder=base, **arguments)


if __name__ == "__main__":
    main()

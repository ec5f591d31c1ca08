"""inputs.py - writes the files of a case: safetensors byte by byte, models, recipes, old output.

Standard library only: values are exact in every float type, so that results can be compared.
"""
import json
import os
import struct

ITEM_BYTES = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2,
              "BF16": 2, "I16": 2, "U16": 2, "U8": 1, "I8": 1, "BOOL": 1}
WEIGHT = "model.encoder.layers.0.fc1.weight"
QUERY = "model.decoder.layers.0.self_attn.q_proj.weight"
BIAS = "model.decoder.layers.0.fc1.bias"
TOKENS = "model.decoder.embed_tokens.weight"
SHAPES = {WEIGHT: [6, 4], QUERY: [4, 4], BIAS: [6], TOKENS: [8, 4]}
CONFIG = {"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper",
          "d_model": 4, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 8,
          "num_mel_bins": 4, "torch_dtype": "float32"}
RECIPE = """\
merge_method: task_arithmetic
base_model: base
models:
  - model: a
    parameters: {weight: 0.5}
"""


def count(shape):
    total = 1
    for dim in shape:
        total *= dim
    return total


def encode(values, dtype="F32"):
    """Numbers to bytes; BF16 cuts, which is exact for the values of this file."""
    values = list(values)
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    letter = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "U64": "Q", "I32": "i", "U32": "I",
              "I16": "h", "U16": "H", "U8": "B", "I8": "b", "BOOL": "?"}[dtype]
    return struct.pack(f"<{len(values)}{letter}", *values)


def decode(raw, dtype="F32"):
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw), 2)]
    letter = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i", "U8": "B"}[dtype]
    return list(struct.unpack(f"<{len(raw) // ITEM_BYTES[dtype]}{letter}", raw))


def numbers(n, seed=0):
    """n numbers k / 64 with |k| <= 50: exact in F32, F16 and BF16."""
    return [((37 * i + 11 * seed) % 101 - 50) / 64 for i in range(n)]


def tensor(name, shape=None, dtype="F32", values=None, seed=0):
    """(name, dtype, shape, bytes)"""
    shape = SHAPES[name] if shape is None else shape
    values = numbers(count(shape), seed) if values is None else values
    return (name, dtype, shape, encode(values, dtype))


def tensors(seed=0, dtype="F32", **changed):
    """The standard model; a keyword WEIGHT="..." etc. replaces the values of one tensor."""
    given = {"WEIGHT": WEIGHT, "QUERY": QUERY, "BIAS": BIAS, "TOKENS": TOKENS}
    values = {given[key]: value for key, value in changed.items()}
    return [tensor(name, dtype=dtype, seed=seed + i, values=values.get(name))
            for i, name in enumerate(SHAPES)]


def raw_file(header, data=b"", length=None):
    """A safetensors file of this header text, whatever it says."""
    header = header.encode() if isinstance(header, str) else header
    length = len(header) if length is None else length
    return struct.pack("<Q", length) + header + data


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def header_of(listed, metadata=None):
    header, at = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, dtype, shape, raw in listed:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    return header


def safetensors(listed, pad=True, metadata=None):
    text = json.dumps(header_of(listed, {"format": "pt"} if metadata is None else metadata),
                      separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8) if pad else b""
    return raw_file(text, b"".join(item[3] for item in listed))


def read_safetensors(path):
    """name -> (dtype, shape, bytes)"""
    with open(path, "rb") as file:
        raw = file.read()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    return {name: (item["dtype"], item["shape"],
                   raw[start + item["data_offsets"][0]:start + item["data_offsets"][1]])
            for name, item in json.loads(raw[8:start]).items() if name != "__metadata__"}


class Scene:
    """The folder of one case."""

    def __init__(self, root):
        self.root = os.fsencode(root)

    def path(self, name):
        return os.path.join(self.root, os.fsencode(name))

    def write(self, name, content):
        """Text, bytes, or a value to be written as JSON."""
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        content = content.encode() if isinstance(content, str) else content
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def folder(self, name):
        os.makedirs(self.path(name), exist_ok=True)

    def link(self, name, target):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.remove(path)
        os.symlink(target, path)

    def remove(self, name):
        os.remove(self.path(name))

    def model(self, name, listed=None, config=None, **more):
        """A folder with weights (tensors, or bytes as they are) and configuration."""
        listed = tensors(**more) if listed is None else listed
        self.write(f"{name}/model.safetensors",
                   listed if isinstance(listed, bytes) else safetensors(listed))
        self.write(f"{name}/config.json", CONFIG if config is None else config)

    def shards(self, name, parts, index=None, config=None):
        """parts: file name -> tensors. index: what to write instead of the right one."""
        weight_map = {}
        for file, listed in parts.items():
            self.write(f"{name}/{file}", safetensors(listed))
            weight_map.update({item[0]: file for item in listed})
        total = sum(len(item[3]) for listed in parts.values() for item in listed)
        right = {"metadata": {"total_size": total}, "weight_map": weight_map}
        self.write(f"{name}/model.safetensors.index.json", right if index is None else index)
        self.write(f"{name}/config.json", CONFIG if config is None else config)

    def standard(self):
        """Two models that merge, a recipe, and the output of an earlier merge."""
        self.model("base")
        self.model("a", seed=7)
        self.write("recipe.yaml", RECIPE)
        self.write("out/config.json", '{"old": true}\n')
        self.write("out/model.safetensors", b"old weights\n")
        self.write("out/lors.json", '{"old": true}\n')

    def result(self, name="out"):
        return read_safetensors(self.path(f"{name}/model.safetensors"))

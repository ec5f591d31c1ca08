"""Read a CTranslate2 `model.bin` of Whisper, as data, and rename its tensors to the HF names.

Layout (little endian): u32 binary version 6; spec name; u32 revision; u32 count; per variable:
name, u8 rank, u32 dims[rank], u8 dtype, u32 bytes, data; then u32 count of (alias, target) pairs.
A string is a u16 length that includes the final NUL, then the bytes.
"""
import struct

import numpy as np

DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}  # 5 is bf16: not needed here


def parse(blob):
    """(spec name, revision, {name: array}, {alias: target}) of a whole model.bin."""
    pos = 0

    def take(fmt):
        nonlocal pos
        values = struct.unpack_from("<" + fmt, blob, pos)
        pos += struct.calcsize("<" + fmt)
        return values[0] if len(values) == 1 else values

    def text():
        nonlocal pos
        size = take("H")
        raw = bytes(blob[pos:pos + size])
        pos += size
        if not raw.endswith(b"\0"):
            raise ValueError("string without its NUL")
        return raw[:-1].decode()

    version = take("I")
    if version != 6:
        raise ValueError(f"binary version {version}, expected 6")
    spec, revision, count = text(), take("I"), take("I")
    tensors = {}
    for _ in range(count):
        name, rank = text(), take("B")
        dims = [take("I") for _ in range(rank)]
        dtype, size = np.dtype(DTYPES[take("B")]), take("I")
        if size != int(np.prod(dims, dtype=np.int64)) * dtype.itemsize:
            raise ValueError(f"{name}: {size} bytes for {dims} of {dtype}")
        if pos + size > len(blob):
            raise ValueError(f"{name}: runs past the end of the file")
        tensors[name] = np.frombuffer(blob, dtype, size // dtype.itemsize, pos).reshape(dims)
        pos += size
    aliases = dict((text(), text()) for _ in range(take("I")))
    if pos != len(blob):
        raise ValueError(f"{len(blob) - pos} bytes after the last alias")
    return spec, revision, tensors, aliases


def _norm(out, hf, ct2, tensors):
    out[hf + ".weight"] = tensors.pop(ct2 + "/gamma")
    out[hf + ".bias"] = tensors.pop(ct2 + "/beta")


def _linear(out, hf, ct2, tensors, parts=("",)):
    """One fused linear of `parts` row blocks. The bias of a k projection is zero: not kept."""
    weight, bias = tensors.pop(ct2 + "/weight"), tensors.pop(ct2 + "/bias")
    if ct2 + "/weight_scale" in tensors:  # int8: one scale for each row, 127 / max |w|
        scale = tensors.pop(ct2 + "/weight_scale").astype(np.float32)
        weight = weight.astype(np.float32) / scale[:, None]
    for part, w, b in zip(parts, np.split(weight, len(parts)), np.split(bias, len(parts))):
        out[hf.format(part) + ".weight"] = w
        if part == "k":
            if b.any():
                raise ValueError(f"{ct2}: the key bias is not zero")
        else:
            out[hf.format(part) + ".bias"] = b


def to_hf(tensors):
    """(HF state dict, left-over scalars) of the tensors of a WhisperSpec."""
    tensors, out = dict(tensors), {}
    for side in ("encoder", "decoder"):
        out[f"model.{side}.embed_positions.weight"] = tensors.pop(
            f"{side}/position_encodings/encodings")
        _norm(out, f"model.{side}.layer_norm", f"{side}/layer_norm", tensors)
        i = 0
        while f"{side}/layer_{i}/ffn/linear_0/weight" in tensors:
            hf, ct2 = f"model.{side}.layers.{i}.", f"{side}/layer_{i}/"
            _linear(out, hf + "self_attn.{}_proj", ct2 + "self_attention/linear_0", tensors,
                    ("q", "k", "v"))
            _linear(out, hf + "self_attn.out_proj", ct2 + "self_attention/linear_1", tensors)
            _norm(out, hf + "self_attn_layer_norm", ct2 + "self_attention/layer_norm", tensors)
            if side == "decoder":
                _linear(out, hf + "encoder_attn.{}_proj", ct2 + "attention/linear_0", tensors,
                        ("q",))
                _linear(out, hf + "encoder_attn.{}_proj", ct2 + "attention/linear_1", tensors,
                        ("k", "v"))
                _linear(out, hf + "encoder_attn.out_proj", ct2 + "attention/linear_2", tensors)
                _norm(out, hf + "encoder_attn_layer_norm", ct2 + "attention/layer_norm", tensors)
            _linear(out, hf + "fc1", ct2 + "ffn/linear_0", tensors)
            _linear(out, hf + "fc2", ct2 + "ffn/linear_1", tensors)
            _norm(out, hf + "final_layer_norm", ct2 + "ffn/layer_norm", tensors)
            i += 1
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            out[f"model.encoder.{conv}.{kind}"] = tensors.pop(f"encoder/{conv}/{kind}")
    out["model.decoder.embed_tokens.weight"] = tensors.pop("decoder/embeddings/weight")
    left = {k: v.tolist() for k, v in tensors.items()}
    big = [k for k, v in tensors.items() if v.size > 64]
    if big:
        raise ValueError(f"variables without a place: {big}")
    return out, left


def whisper_shapes(d, layers, vocab, mels):
    """{HF name: shape} of a Whisper model, tied projection left out: 11 + 15 E + 24 D tensors."""
    f, shapes = 4 * d, {}

    def put(name, rows, cols=None, bias=True):
        shapes[name + ".weight"] = (rows,) if cols is None else (rows, cols)
        if bias:
            shapes[name + ".bias"] = (rows,)

    for side in ("encoder", "decoder"):
        for i in range(layers):
            p = f"model.{side}.layers.{i}."
            for block in ("self_attn",) + (("encoder_attn",) if side == "decoder" else ()):
                for x in "qkv":
                    put(f"{p}{block}.{x}_proj", d, d, bias=x != "k")
                put(f"{p}{block}.out_proj", d, d)
                put(f"{p}{block}_layer_norm", d)
            put(p + "fc1", f, d)
            put(p + "fc2", d, f)
            put(p + "final_layer_norm", d)
        put(f"model.{side}.layer_norm", d)
    shapes["model.encoder.conv1.weight"], shapes["model.encoder.conv1.bias"] = (d, mels, 3), (d,)
    shapes["model.encoder.conv2.weight"], shapes["model.encoder.conv2.bias"] = (d, d, 3), (d,)
    shapes["model.encoder.embed_positions.weight"] = (1500, d)
    shapes["model.decoder.embed_positions.weight"] = (448, d)
    shapes["model.decoder.embed_tokens.weight"] = (vocab, d)
    return shapes

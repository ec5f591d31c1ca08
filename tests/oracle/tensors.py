"""tensors.py - storage types in exact arithmetic, and safetensors files, on NumPy alone.

Every value is held as f64, which holds every F32, F16 and BF16 exactly. Rounding goes once from f64
to the stored type, to nearest even; no conversion of NumPy's own is used for F16 or BF16.
"""
import json
import pathlib
import struct

import numpy as np

# Bits of the significand (the leading one included), least exponent of a normal number, largest.
TYPES = {"F32": (24, -126, 127), "F16": (11, -14, 15), "BF16": (8, -126, 127)}
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


def exponents(values, least):
    """Of the leading bit; of zeros and subnormals that of the least normal number."""
    values = np.where(np.isfinite(values), values, 1.0)
    return np.where(values == 0, least, np.maximum(np.frexp(values)[1] - 1, least))


def half_step(values, dtype):
    """Half the distance between neighbours of the type, around each value."""
    digits, least, _ = TYPES[dtype]
    return np.ldexp(0.5, exponents(values, least) - (digits - 1))


def round_to(values, dtype):
    """The nearest values of the type, as f64; infinity beyond the largest."""
    digits, least, most = TYPES[dtype]
    values = np.asarray(values, np.float64)
    finite = np.where(np.isfinite(values), values, 0.0)
    step = 2 * half_step(finite, dtype)
    rounded = np.rint(finite / step) * step  # both exact: powers of two; rint: ties to even
    largest = np.ldexp(2.0 - 2.0 ** (1 - digits), most)
    rounded = np.where(np.abs(rounded) > largest, np.copysign(np.inf, finite), rounded)
    return np.where(np.isfinite(values), np.copysign(rounded, values), values)


def bits_of(rounded, dtype):
    """Bit patterns of values that the type holds exactly (or infinite, or NaN)."""
    digits, least, most = TYPES[dtype]
    width = digits - 1
    magnitude = np.abs(rounded)
    exponent = exponents(rounded, least)
    steps = np.where(np.isfinite(rounded), magnitude, 0.0) / np.ldexp(1.0, exponent - width)
    steps = steps.astype(np.int64)
    # A normal number's leading one adds 1 to the exponent field; a subnormal has none.
    bits = ((exponent - least).astype(np.int64) << width) + steps
    infinity = (most - least + 2) << width
    bits = np.where(np.isinf(rounded), infinity, bits)
    sign = np.where(np.signbit(rounded), 1, 0).astype(np.int64) << (31 if dtype == "F32" else 15)
    quiet = infinity + (1 << (width - 1))
    return np.where(np.isnan(rounded), quiet, bits | sign)


def encode(values, dtype):
    """f64 to bytes, rounded once."""
    bits = bits_of(round_to(values, dtype), dtype)
    return bits.astype("<u4" if dtype == "F32" else "<u2").tobytes()


def decode(raw, dtype):
    """Bytes to f64, exactly."""
    digits, least, most = TYPES[dtype]
    width = digits - 1
    bits = np.frombuffer(raw, "<u4" if dtype == "F32" else "<u2").astype(np.int64)
    sign = np.where(bits >> (31 if dtype == "F32" else 15), -1.0, 1.0)
    field = (bits >> width) & ((1 << (8 if dtype != "F16" else 5)) - 1)
    steps = (bits & ((1 << width) - 1)) + np.where(field > 0, 1 << width, 0)
    values = np.ldexp(steps.astype(np.float64), (np.maximum(field, 1) - 1 + least - width))
    top = most - least + 2
    special = np.where(bits & ((1 << width) - 1), np.nan, np.inf)
    return sign * np.where(field == top, special, values)


class Tensor:
    """A stored tensor: type, shape, bytes."""

    def __init__(self, dtype, shape, raw):
        self.dtype, self.shape, self.raw = dtype, list(shape), bytes(raw)

    @property
    def merges(self):
        return self.dtype in TYPES

    @property
    def size(self):
        return int(np.prod(self.shape, dtype=np.int64)) if self.shape else 1

    def values(self):
        """f64, flat."""
        return decode(self.raw, self.dtype)

    def as_type(self, dtype):
        return Tensor(dtype, self.shape, encode(self.values(), dtype))


def tensor_of(values, dtype, shape=None):
    values = np.asarray(values, np.float64)
    return Tensor(dtype, values.shape if shape is None else shape, encode(values.ravel(), dtype))


def read_file(path):
    raw = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + length])
    data = raw[8 + length:]
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = Tensor(entry["dtype"], entry["shape"], data[begin:end])
    return tensors


def read_model(folder):
    """name -> Tensor, of a folder in one file or in shards with an index."""
    folder = pathlib.Path(folder)
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return read_file(folder / "model.safetensors")
    places = json.loads(index.read_text())["weight_map"]
    tensors = {}
    for shard in sorted(set(places.values())):
        for name, tensor in read_file(folder / shard).items():
            if places[name] != shard:
                raise ValueError(f"{name} lies in {shard}, the index says {places[name]}")
            tensors[name] = tensor
    if set(tensors) != set(places):
        raise ValueError("the index and the shards disagree")
    return tensors


def write_file(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape,
                        "data_offsets": [offset, offset + len(tensor.raw)]}
        offset += len(tensor.raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(b"".join(tensor.raw for tensor in tensors.values()))

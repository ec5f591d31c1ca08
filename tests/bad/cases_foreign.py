"""cases_foreign.py - weights in other formats and adapters: classes 46 to 71.

Neither pickles nor zip archives are read, whatever is in them: they are refused by name. The files
are nevertheless what the class says, so that a reader to come finds them, and so that one that
begins to look into them is caught (a pickle of these that is executed leaves a file behind).
"""
import io
import json
import pickle
import struct
import zipfile

import inputs
from harness import Case
from making import accepted, expect, merge, run

CONVERT = "only PyTorch weights: convert to safetensors first"


class Executed:
    """Unpickled, it leaves a file beside the models."""

    def __reduce__(self):
        import os
        return os.system, ("touch executed",)


def torch_zip(data, storage=bytes(16), compression=zipfile.ZIP_STORED, more=(), order="little"):
    """A file as torch.save writes it, with this pickle."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/byteorder", order)
        file.writestr("archive/data/0", storage)
        file.writestr("archive/version", "3\n")
        for name, content in more:
            file.writestr(name, content)
    return raw.getvalue()


GOOD = pickle.dumps({"weight": [1.0, 2.0]}, protocol=2)
EVIL = pickle.dumps(Executed(), protocol=2)


def patched(raw, old, new, count=1):
    assert old in raw
    return raw.replace(old, new, count)


def pickles():
    """(class, name, content of pytorch_model.bin)"""
    yield 46, "reduce", torch_zip(EVIL)
    yield 46, "newobj", torch_zip(b"\x80\2cbuiltins\nobject\n)\x81.")
    yield 46, "build", torch_zip(b"\x80\2}}b.")
    yield 46, "inst", torch_zip(b"(S'touch executed'\nios\nsystem\n.")
    yield 46, "obj", torch_zip(b"(cos\nsystem\nS'touch executed'\no.")
    yield 47, "os-system", torch_zip(b"cos\nsystem\n(S'touch executed'\ntR.")
    yield 47, "eval", torch_zip(b"cbuiltins\neval\n(S'1'\ntR.")
    yield 47, "stack-global", torch_zip(pickle.dumps(Executed(), protocol=4))
    yield 48, "cut", torch_zip(EVIL[:-5])
    yield 48, "underflow", torch_zip(b"\x80\2R.")
    yield 48, "memo-2-32", torch_zip(b"\x80\2j\xff\xff\xff\xff.")
    yield 48, "marks", torch_zip(b"\x80\2" + b"(" * 500_000)
    yield 48, "frame", torch_zip(b"\x80\4\x95" + b"\xff" * 8)
    yield 48, "long4", torch_zip(b"\x80\2\x8b\xff\xff\xff\x7f")
    yield 48, "binbytes8", torch_zip(b"\x80\4\x8e" + b"\xff" * 7 + b"\x7f")
    yield 49, "payload-then-broken", torch_zip(EVIL[:-1] + b"0\xff\xff")
    yield 50, "deflated", torch_zip(GOOD, bytes(100_000), zipfile.ZIP_DEFLATED)
    yield 51, "overlapping", torch_zip(GOOD) + torch_zip(GOOD)[100:]
    yield 52, "member-twice", torch_zip(GOOD, more=[("archive/data.bin", EVIL)]).replace(
        b"archive/data.bin", b"archive/data.pkl")
    yield 53, "headers-disagree", patched(torch_zip(GOOD), b"archive/version", b"archive/versioN")
    yield 54, "zip64-without-extra", patched(torch_zip(GOOD), struct.pack("<II", 16, 16),
                                             b"\xff" * 8)
    raw = bytearray(torch_zip(GOOD))
    raw[6] |= 1
    yield 55, "encrypted", bytes(raw)
    yield 55, "split", b"PK\7\x08" + torch_zip(GOOD)
    yield 56, "bytes-before", b"#!/bin/sh\ntouch executed\n" + torch_zip(GOOD)
    yield 56, "bytes-behind", torch_zip(GOOD) + EVIL
    yield 57, "crc", patched(torch_zip(GOOD, b"\1" * 16), b"\1" * 16, b"\2" * 16)
    yield 58, "member-parent", torch_zip(GOOD, more=[("../executed", b"x")])
    yield 58, "member-absolute", torch_zip(GOOD, more=[("/tmp/lors-executed", b"x")])
    yield 59, "storage-small", torch_zip(GOOD, b"")
    yield 60, "shared-storage", torch_zip(GOOD)
    yield 61, "big-endian", torch_zip(GOOD, order="big")
    yield 62, "legacy", pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + EVIL
    yield 62, "tar", b"tensors" + bytes(93) + b"0000644\0" + bytes(405)
    yield 62, "torchscript", torch_zip(GOOD, more=[("archive/code/x.py", "x = 1")])
    yield 62, "optimizer", pickle.dumps({"state": {}, "param_groups": []}, protocol=2)
    yield 62, "empty", b""


def pickle_cases():
    for number, name, content in pickles():
        def build(scene, content=content):
            scene.remove("a/model.safetensors")
            scene.write("a/pytorch_model.bin", content)
        yield Case("foreign", number, name, build,
                   (merge(4, "^lors: error: a: ", CONVERT), run("inspect", "a", says=(CONVERT,))))

        def as_file(scene, content=content):
            scene.write("a/pytorch_model.bin", content)
            scene.write("recipe.yaml",
                        inputs.RECIPE.replace("model: a", "model: a/pytorch_model.bin"))
        said = r"a/pytorch_model\.bin: byte \d+: "
        yield Case("foreign", number, name + "-as-file", as_file,
                   (merge(4, said), run("inspect", "a/pytorch_model.bin", says=(said,))))


def other_formats():
    rows = (("pt", "model.pt", CONVERT), ("pth", "whisper.pth", CONVERT),
            ("bin-shards", "pytorch_model-00001-of-00002.bin", CONVERT),
            ("bin-index", "pytorch_model.bin.index.json", "no file of weights"),
            ("h5", "tf_model.h5", "TensorFlow"), ("msgpack", "flax_model.msgpack", "Flax"),
            ("gguf", "model.gguf", "GGUF"), ("ggml", "ggml-base.bin", "convert|PyTorch"),
            ("other-name", "weights.safetensors", "give one of them as a file, or rename it"),
            ("variant", "model.fp16.safetensors", "rename it to"),
            ("text", "notes.txt", "no file of"),
            ("hidden", ".model.safetensors", "only files of other names|no file of weights"),
            ("onnx", "model.onnx", "no file of weights"))
    for name, file, said in rows:
        def build(scene, file=file):
            scene.remove("a/model.safetensors")
            scene.write(f"a/{file}", bytes(64))
        yield Case("foreign", 62, f"only-{name}", build,
                   (merge(4, "^lors: error: a: ", said), run("inspect", "a", says=(said,))))

    def empty(scene):
        scene.remove("a/model.safetensors")
        scene.remove("a/config.json")
    yield Case("foreign", 62, "empty-folder", empty, (merge(4, "a: .*no file of weights"),))


# --- Adapters -------------------------------------------------------------------------------------

PREFIX = "base_model.model.model.encoder.layers.0.fc1."
ADAPTER = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["fc1"],
           "base_model_name_or_path": "base"}


def pair(rows=6, columns=4, rank=2):
    return [inputs.tensor(PREFIX + "lora_A.weight", [rank, columns]),
            inputs.tensor(PREFIX + "lora_B.weight", [rows, rank])]


def adapters():
    """(class, name, keys of adapter_config.json, tensors)"""
    yield 63, "rank-0", {"r": 0}, pair(rank=0)
    yield 63, "rank-negative", {"r": -1}, pair()
    yield 63, "rank-large", {"r": 9}, pair(rank=9)
    yield 63, "rank-differs", {"r": 3}, pair()
    yield 64, "alpha-nan", {"lora_alpha": float("nan")}, pair()
    yield 64, "alpha-huge", {"lora_alpha": 1e308}, pair()
    yield 64, "alpha-missing", {"lora_alpha": None}, pair()
    yield 65, "a-without-b", {}, pair()[:1]
    yield 65, "b-without-a", {}, pair()[1:]
    yield 66, "unknown-module", {"target_modules": ["nothing"]}, pair()
    yield 67, "other-shape", {}, pair(rows=5)
    yield 67, "fan-in-fan-out", {"fan_in_fan_out": True}, pair()
    yield 68, "pattern", {"rank_pattern": {"(a+)+$": 2}}, pair()
    yield 69, "dora", {"use_dora": True}, pair()
    yield 69, "modules-to-save", {"modules_to_save": ["embed_tokens"]}, pair()
    yield 70, "other-base", {"base_model_name_or_path": "elsewhere"}, pair()


def adapter_cases():
    said = "only a PEFT adapter: merge it into its base model first"
    for number, name, keys, listed in adapters():
        def build(scene, keys=keys, listed=listed):
            scene.remove("a/model.safetensors")
            scene.write("a/adapter_config.json", json.dumps({**ADAPTER, **keys}))
            scene.write("a/adapter_model.safetensors", inputs.safetensors(listed))
        yield Case("adapter", number, name, build,
                   (merge(4, "^lors: error: a: ", said), run("inspect", "a", says=(said,))))

        def as_file(scene, build=build):
            build(scene)
            scene.write("recipe.yaml",
                        inputs.RECIPE.replace("model: a", "model: a/adapter_model.safetensors"))
        yield Case("adapter", number, name + "-as-file", as_file,
                   (merge(5, "adapter_model.safetensors", "missing that are in base", "fc1"),))


def unmerged(scene):
    """A model saved whole with its adapter still apart."""
    listed = inputs.tensors(7)
    renamed = [("base_model.model." + listed[0][0].replace(".weight", ".base_layer.weight"),
                *listed[0][1:])] + listed[1:]
    scene.model("a", renamed + pair())


def low_rank(scene):
    """Task vectors of rank 0 and 1, of which rank 3 is asked for."""
    base = inputs.tensors(0)
    tuned = [(name, dtype, shape, inputs.encode(
        [v + (i // 4 % 2) * 0.5 for i, v in enumerate(inputs.decode(raw))]))
        for name, dtype, shape, raw in base]
    scene.model("a", tuned)
    scene.model("b", base)
    scene.write("recipe.yaml", "merge_method: lors\nbase_model: base\nmodels: [{model: a}, "
                               "{model: b}]\nparameters: {rank: 3, density: 0, lambda: 1}\n")


def check_low_rank(scene):
    found = scene.result()
    for i, (name, shape) in enumerate(inputs.SHAPES.items()):
        wanted = [v + (k // 4 % 2) * 0.5 for k, v in
                  enumerate(inputs.numbers(inputs.count(shape), i))]
        got = inputs.decode(found[name][2])
        worst = max(abs(a - b) for a, b in zip(got, wanted))
        expect(worst < 1e-6, True, f"{name}: off by {worst}")


def cases():
    for table in (pickle_cases, other_formats, adapter_cases):
        yield from table()
    yield Case("adapter", 69, "saved-unmerged", unmerged,
               (merge(5, "fc1", "missing that are in base"),))
    yield Case("adapter", 66, "in-the-name", lambda scene: scene.write(
        "recipe.yaml", inputs.RECIPE.replace("model: a", "model: base+a")),
        (merge(3, r"recipe\.yaml:4:\d+: ", "adapter"),))
    yield accepted("adapter", 71, "rank-beyond", low_rank, check=check_low_rank)

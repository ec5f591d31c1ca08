"""cases_long.py - inputs that take minutes or gigabytes of sparse files: not part of CI.

    tests/bad/run.py LORS --long

They need some 20 GB of free disk for what the merges write: holes cost nothing, their sums do.
"""
import json
import os
import shutil
import tempfile

import inputs
from harness import Case
from making import expect, merge, run

GIGABYTE = 10**9


def has_room(n_bytes):
    def needs():
        free = shutil.disk_usage(tempfile.gettempdir()).free
        return "" if free > n_bytes else f"{n_bytes // GIGABYTE} GB of disk are not free"
    return needs


# --- A header of 99 MB ----------------------------------------------------------------------------

def most_entries(scene):
    """As many as fit into 99 MB with names as short as they come."""
    front = '":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"'
    names = (f"{i:x}" for i in range(1_700_000))
    text = '{"' + front.join(names) + front[:-2] + "}"
    scene.write("a/model.safetensors", inputs.raw_file(text[:-1] + " " * (99_000_000 - len(text))
                                                       + "}"))


def beyond_the_limit(scene):
    """Unknown fields make entries no shorter: the limit of 2 million is met by shards."""
    n = 1_100_000
    scene.remove("a/model.safetensors")
    weight_map = {}
    for shard in range(2):
        file = f"model-{shard}.safetensors"
        names = [f"{shard}{i:x}" for i in range(n)]
        entries = ",".join(f'"{name}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
                           for name in names)
        scene.write(f"a/{file}", inputs.raw_file("{" + entries + "}"))
        weight_map[names[0]] = file
    scene.write("a/model.safetensors.index.json", {"weight_map": weight_map})


def reversed_offsets(scene):
    """A million tensors of a byte in the reverse order of their offsets: no quadratic sort."""
    n = 1_000_000
    entries = ",".join(f'"{i:x}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{i + 1}]}}'
                       for i in reversed(range(n)))
    scene.write("a/model.safetensors", inputs.raw_file("{" + entries + "}", bytes(n)))


# --- Large files that are one hole ----------------------------------------------------------------

def sparse_model(scene, folder, shapes, dtype="F32"):
    """Zeros that cost no disk, but for the first and the last element of each tensor."""
    item = inputs.ITEM_BYTES[dtype]
    header, at = {}, 0
    for name, shape in shapes.items():
        n_bytes = inputs.count(shape) * item
        header[name] = inputs.entry(dtype, shape, at, at + n_bytes)
        at += n_bytes
    text = json.dumps(header)
    path = scene.write(f"{folder}/model.safetensors",
                       inputs.raw_file(text + " " * (-len(text) % 8)))
    start = os.path.getsize(path)
    os.truncate(path, start + at)
    with open(path, "r+b") as file:
        for entry in header.values():
            for place in (entry["data_offsets"][0], entry["data_offsets"][1] - item):
                file.seek(start + place)
                file.write(inputs.encode([1.5], dtype))
    return path


def beyond_32_bits(scene):
    for folder in ("base", "a"):
        sparse_model(scene, folder, {"w": [2**32 + 1]}, "F16")


def check_ends(scene):
    path = scene.path("out/model.safetensors")
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(size - 4)
        expect(inputs.decode(file.read(4), "F16"), [0.0, 1.5], "the last elements")


def hundred_gigabytes(scene):
    """A base and three models of 25 GB, merged into 12.5 GB."""
    shapes = {f"model.encoder.layers.{i}.fc1.weight": [25_000, 10_000] for i in range(25)}
    for folder in ("base", "a", "b", "c"):
        sparse_model(scene, folder, shapes)
    models = ", ".join(f"{{model: {name}, parameters: {{weight: 0.25}}}}" for name in "abc")
    scene.write("recipe.yaml", "merge_method: task_arithmetic\nbase_model: base\n"
                               f"models: [{models}]\n")


def many_shards(scene):
    """100,000 of them, with 32 descriptors."""
    n = 100_000
    scene.remove("a/model.safetensors")
    scene.shards("a", {f"m-{i:06}.safetensors": [(f"t.{i}", "F32", [0], b"")] for i in range(n)})


def cases():
    def case(number, name, build, *commands, check=None, needs=None):
        return Case("long", number, name, build, commands, check, needs)
    yield case(24, "1.7-million-entries", most_entries,
               merge(5, "missing that are in base", seconds=10, memory=1 << 30),
               run("inspect", "a", code=0, prints=("1700000 tensors",), seconds=60,
                   memory=1 << 30))
    yield case(24, "2.2-million-in-shards", beyond_the_limit,
               merge(7, "2200000 tensors", seconds=10, memory=1 << 30))
    yield case(24, "a-million-reversed", reversed_offsets,
               merge(5, "missing that are in base", seconds=10, memory=1 << 30))
    yield case(42, "100000-shards", many_shards,
               run("inspect", "a", code=0, seconds=30, memory=1 << 30))
    yield case(14, "2-32-and-1-elements", beyond_32_bits,
               merge(0, seconds=600, memory=2 * GIGABYTE), check=check_ends,
               needs=has_room(12 * GIGABYTE))
    yield case(91, "100-gb-of-models", hundred_gigabytes,
               run("plan", "recipe.yaml", "--max-memory", "2G", code=0, seconds=10),
               merge(0, options=("--max-memory", "2G", "--dtype", "f16"), seconds=1800,
                     memory=2 * GIGABYTE), check=check_ends, needs=has_room(20 * GIGABYTE))

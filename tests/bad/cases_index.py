"""cases_index.py - model.safetensors.index.json and its shards: classes 35 to 45."""
import json
import os
import socket

import inputs
from harness import Case
from inputs import BIAS, QUERY, TOKENS, WEIGHT
from making import accepted, check_standard, expect, merge, run, shell

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = r"a/model\.safetensors\.index\.json"


def parts(seed=7):
    listed = inputs.tensors(seed)
    return {FIRST: listed[:2], SECOND: listed[2:]}


def whole_map():
    return {WEIGHT: FIRST, QUERY: FIRST, BIAS: SECOND, TOKENS: SECOND}


def sharded(scene, index=None, shards=None):
    scene.remove("a/model.safetensors")
    scene.shards("a", parts() if shards is None else shards, index)


def bad(number, name, index, *says, shards=None, change=None):
    """Shards with this index, and what `change` does to the folder."""
    def build(scene):
        sharded(scene, index, shards)
        if change:
            change(scene)
    return Case("index", number, name, build, (merge(4, *says), run("inspect", "a", says=says)))


def with_map(**changed):
    """The right index with one tensor's file changed (None: left out)."""
    given = {"WEIGHT": WEIGHT, "QUERY": QUERY, "BIAS": BIAS, "TOKENS": TOKENS}
    weight_map = whole_map()
    for key, value in changed.items():
        if value is None:
            del weight_map[given[key]]
        else:
            weight_map[given[key]] = value
    return {"metadata": {"total_size": 296}, "weight_map": weight_map}


def shard_names():
    path, control = "is a path, only the plain name", "holds a control character"
    rows = (("parent", "../../x.safetensors", path), ("absolute", "/etc/passwd.safetensors", path),
            ("inner-parent", "a/../../b.safetensors", path), ("folder", "x/y.safetensors", path),
            ("here", "./x.safetensors", path), ("backslash", "..\\x.safetensors", path),
            ("drive", "C:x.safetensors", path), ("unc", "\\\\host\\x.safetensors", path),
            ("url", "https://host/x.safetensors", path),
            ("slash-end", FIRST + "/", path), ("two-slashes", "//x.safetensors", path),
            ("dot", ".", "names no file"), ("dots", "..", "names no file"),
            ("empty", "", "names no file"),
            ("256-bytes", "x" * 244 + ".safetensors", "longer than"),
            ("100000-bytes", "x" * 100_000 + ".safetensors", "longer than"),
            ("newline", "x\n.safetensors", control), ("ansi", "\x1b[2J.safetensors", control),
            ("delete", "\x7f.safetensors", control),
            ("bin", "pytorch_model.bin", "is no safetens"),
            ("pickle", "model.pkl", "is no safetensors"),
            ("only-suffix", ".safetensors", "is no|missing"),
            ("config", "config.json", "is no safetensors"),
            ("space", FIRST + " ", "is no safetens"),
            ("case", "X.SAFETENSORS", "is no safetensors"))
    for name, shard, said in rows:
        yield bad(35, f"name-{name}", with_map(BIAS=shard), said, INDEX)
    nul = json.dumps(with_map(BIAS="xNULy.safetensors")).replace("NUL", "\\u0000")
    yield bad(35, "name-nul", nul, INDEX, r"\\u0000|NUL|null")


def missing():
    yield bad(36, "missing", with_map(BIAS="model-00003-of-00003.safetensors"),
              "which is missing", "incomplete", INDEX)
    yield bad(36, "first-missing", None, "which is missing", FIRST,
              change=lambda scene: scene.remove("a/" + FIRST))
    yield bad(36, "both-missing", None, "which is missing",
              change=lambda scene: (scene.remove("a/" + FIRST), scene.remove("a/" + SECOND)))
    yield bad(36, "empty-shard", None, "ends before its header", SECOND,
              change=lambda scene: scene.write("a/" + SECOND, b""))
    yield bad(36, "shard-is-pointer", None, "git lfs pull", SECOND,
              change=lambda scene: scene.write("a/" + SECOND,
                                               "version https://git-lfs.github.com/spec/v1\n"))
    cut = inputs.safetensors(parts()[SECOND])[:-5]
    yield bad(36, "shard-cut", None, "5 bytes are missing", SECOND,
              change=lambda scene: scene.write("a/" + SECOND, cut))


def disagreeing():
    yield bad(37, "wrong-shard", with_map(BIAS=FIRST), "does not hold it, another does", BIAS)
    yield bad(37, "nowhere", {"weight_map": {**whole_map(), "ghost": FIRST}}, "'ghost'",
              "does not hold it, nor")
    yield bad(37, "nowhere-odd-name", {"weight_map": {**whole_map(), "gh\x1bost\n": FIRST}},
              r"gh\\x1bost\\x0a", "does not hold it")
    yield bad(38, "unlisted", with_map(BIAS=None), BIAS, "not in the index", SECOND)
    yield bad(38, "only-one-listed", {"weight_map": {WEIGHT: FIRST}}, QUERY, "not in the index")
    both = parts()
    both[SECOND] = both[SECOND] + both[FIRST][:1]
    yield bad(39, "in-two-shards", with_map(), "is in .* as well", WEIGHT, shards=both)
    same = dict(parts())
    same[SECOND] = same[FIRST]
    yield bad(39, "same-shard-twice", with_map(), "as well", shards=same)


def malformed():
    rows = {"value-number": {"weight_map": {WEIGHT: 1}},
            "value-null": {"weight_map": {WEIGHT: None}},
            "value-list": {"weight_map": {WEIGHT: [FIRST]}},
            "value-map": {"weight_map": {WEIGHT: {"file": FIRST}}},
            "value-true": {"weight_map": {WEIGHT: True}}}
    for name, index in rows.items():
        yield bad(40, name, index, "must be a string", WEIGHT, INDEX)
    for name, index, said in (("map-list", {"weight_map": []}, "no object"),
                              ("map-text", {"weight_map": "x"}, "no object"),
                              ("map-null", {"weight_map": None}, "no object"),
                              ("map-missing", {"metadata": {}}, "missing"),
                              ("map-empty", {"weight_map": {}}, "weight_map is empty"),
                              ("root-list", [], "expected a JSON object"),
                              ("root-empty", {}, "weight_map is missing")):
        yield bad(40, name, index, said, INDEX)
    text = json.dumps(with_map())
    for name, index in (("empty-file", b""), ("cut", text[:50]), ("not-json", "weights"),
                        ("html", "<html>"), ("trailing", text + "x"), ("nul", text + "\0"),
                        ("bad-utf8", text.replace("fc1", "\xff").encode("latin-1")),
                        ("key-twice", text[:-1] + ', "weight_map": {}}'),
                        ("tensor-twice", text.replace(f'"{QUERY}"', f'"{WEIGHT}"')),
                        ("nan", text.replace("296", "NaN")), ("deep", "[" * 100_000),
                        ("deep-map", '{"weight_map":' + '{"a":' * 5000),
                        ("huge-number", text.replace("296", "9" * 400))):
        yield bad(40, name, index, INDEX + r":(\d+:\d+:| byte \d+: a NUL)")
    nul_key = json.dumps({"weight_map": {**whole_map(), "gNULh": FIRST}}).replace("NUL", "\\u0000")
    yield bad(40, "nul-in-key", nul_key, INDEX)


def special_files():
    def replaced(make):
        def change(scene):
            scene.remove("a/" + SECOND)
            make(scene, scene.path("a/" + SECOND))
        return change

    def make_socket(scene, path):
        end = socket.socket(socket.AF_UNIX)
        here = os.open(".", os.O_RDONLY)
        try:  # names of sockets are short: bind within the folder
            os.chdir(os.path.dirname(path))
            end.bind(os.path.basename(path))
        finally:
            os.fchdir(here)
            os.close(here)
            end.close()
    for name, make, said in (
            ("folder", lambda scene, path: os.mkdir(path), "a folder, not a file"),
            ("fifo", lambda scene, path: os.mkfifo(path), "a pipe, socket or device"),
            ("to-zero", lambda scene, path: os.symlink("/dev/zero", path), "link that leaves"),
            ("to-null", lambda scene, path: os.symlink("/dev/null", path), "link that leaves"),
            ("to-proc", lambda scene, path: os.symlink("/proc/self/mem", path), "link that leaves"),
            ("to-stdin", lambda scene, path: os.symlink("/dev/stdin", path), "link"),
            ("dangling", lambda scene, path: os.symlink("nothing", path), "a file that is missing"),
            ("loop", lambda scene, path: os.symlink(SECOND, path), "leads back to itself"),
            ("socket", make_socket, "a pipe, socket or device")):
        yield bad(44, name, None, said, SECOND, change=replaced(make))
    for name, target in (("zero", "/dev/zero"), ("full", "/dev/full"), ("tty", "/dev/ptmx"),
                         ("urandom", "/dev/urandom")):
        def build(scene, target=target):
            sharded(scene)
            scene.link("a/" + SECOND, target)
        yield Case("index", 44, f"followed-{name}", build,
                   (merge(4, SECOND, "a pipe, socket or device", options=("--follow-symlinks",)),
                    run("inspect", "a", "--follow-symlinks", says=("socket or device",))))
    yield bad(44, "index-is-folder", None, INDEX,
              change=lambda scene: (scene.remove("a/model.safetensors.index.json"),
                                    scene.folder("a/model.safetensors.index.json")))
    yield bad(44, "index-is-fifo", None, INDEX,
              change=lambda scene: (scene.remove("a/model.safetensors.index.json"),
                                    os.mkfifo(scene.path("a/model.safetensors.index.json"))))
    yield bad(45, "bin-beside", with_map(BIAS="pytorch_model-00002-of-00002.bin"),
              "convert the model")
    yield bad(45, "zip-as-shard", None, "PyTorch zip", SECOND,
              change=lambda scene: scene.write("a/" + SECOND, b"PK\3\4\x14" + bytes(200)))
    yield bad(45, "gguf-as-shard", None, "GGUF", SECOND,
              change=lambda scene: scene.write("a/" + SECOND, b"GGUF\3" + bytes(200)))


# --- Legal though odd -----------------------------------------------------------------------------

def many_shards(n):
    """One tensor a shard."""
    def build(scene):
        for folder, seed in (("base", 0), ("a", 7)):
            scene.remove(f"{folder}/model.safetensors")
            scene.shards(folder, {f"model-{i + 1:05}-of-{n:05}.safetensors":
                                  [inputs.tensor(f"t.{i}", [2], seed=seed + i)] for i in range(n)})
    return build


def odd_total(value):
    def build(scene):
        index = with_map()
        index["metadata"]["total_size"] = value
        sharded(scene, index)
    return build


def both_files(scene):
    """A stale index beside the single file, which is used."""
    scene.shards("a", parts(seed=3))


def odd_cases():
    def odd(number, name, build, *says, **more):
        return accepted("index", number, name, build, *says, **more)
    size = "total_size is .*, which is not"
    for name, value, said in (("small", 1, size), ("large", 10**15, size), ("zero", 0, size),
                              ("negative", -5, size), ("fraction", 296.5, size)):
        yield odd(41, f"total-{name}", odd_total(value), said)
    yield odd(41, "total-text", odd_total("296"), size)
    yield odd(41, "total-null", odd_total(None))
    yield odd(41, "no-metadata", lambda scene: sharded(scene, {"weight_map": whole_map()}))
    yield odd(41, "metadata-list", lambda scene: sharded(
        scene, {"metadata": [], "weight_map": whole_map()}))
    yield odd(43, "both", both_files, "both model.safetensors and .* are here")
    yield odd(35, "odd-shard-name", lambda scene: sharded(
        scene, None, {"ünï %s.safetensors": parts()[FIRST], "-rf.safetensors": parts()[SECOND]}))
    check = (lambda scene: expect(len(scene.result()), 300, "tensors"))
    yield Case("index", 42, "300-shards-32-files", many_shards(300), (shell(
        'ulimit -n 32; "$LORS" merge recipe.yaml -o out --force', 0, writes="out"),), check)


def cases():
    for table in (shard_names, missing, disagreeing, malformed, special_files, odd_cases):
        yield from table()

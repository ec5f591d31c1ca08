"""cases_mismatch.py - models that do not belong together: classes 83 to 90."""
import json

import inputs
from harness import Case
from inputs import BIAS, CONFIG, QUERY, SHAPES, TOKENS, WEIGHT
from making import VERIFY, accepted, check_standard, expect, merge, run, values_of


def bad(number, name, build, *says, code=5):
    return Case("mismatch", number, name, build,
                (merge(code, *says), run("plan", "recipe.yaml", code=code, says=says)))


def with_shape(**shapes):
    """The second model with other shapes."""
    given = {"WEIGHT": WEIGHT, "QUERY": QUERY, "BIAS": BIAS, "TOKENS": TOKENS}
    changed = {given[key]: shape for key, shape in shapes.items()}
    return lambda scene: scene.model(
        "a", [inputs.tensor(name, changed.get(name, shape)) for name, shape in SHAPES.items()])


def shapes():
    other = "another shape than in base"
    for name, shape in (("row-more", [7, 4]), ("column-less", [6, 3]), ("transposed", [4, 6]),
                        ("flat", [24]), ("axis-more", [6, 4, 1]), ("axis-first", [1, 6, 4]),
                        ("empty", [6, 0]), ("scalar", [])):
        yield bad(83, name, with_shape(WEIGHT=shape), other, "fc1",
                  r"instead of \[6,4\]", r"\(1 in all\)")
    yield bad(83, "two", with_shape(WEIGHT=[1], QUERY=[1]), other, r"\(2 in all\)")

    def many(scene):
        scene.model("base", [inputs.tensor(f"t.{i:03}", [2]) for i in range(100)])
        scene.model("a", [inputs.tensor(f"t.{i:03}", [3]) for i in range(100)])
    yield bad(83, "hundred", many, "and 90 more", r"\(100 in all\)", "t.009")
    for rows in (7, 9, 51866):
        yield bad(84, f"vocabulary-{rows}", with_shape(TOKENS=[rows, 4]), other,
                  "vocabularies differ", rf"\[{rows},4\] instead of \[8,4\]")
    yield bad(84, "mels", lambda scene: (
        scene.model("base", [inputs.tensor("model.encoder.conv1.weight", [4, 80, 3])]),
        scene.model("a", [inputs.tensor("model.encoder.conv1.weight", [4, 128, 3])])),
        r"\[4,128,3\] instead of \[4,80,3\]")


def tensors_missing():
    for name, lost in (("weight", WEIGHT), ("bias", BIAS), ("tokens", TOKENS)):
        yield bad(85, f"missing-{name}", lambda scene, lost=lost: scene.model(
            "a", [item for item in inputs.tensors(7) if item[0] != lost]),
            "^lors: error: a: tensors are missing that are in base", lost, r"\(1 in all\)")
        yield bad(85, f"extra-{name}", lambda scene, lost=lost: scene.model(
            "base", [item for item in inputs.tensors() if item[0] != lost]),
            "^lors: error: a: tensors are not in base", lost)
    yield bad(85, "no-tensors", lambda scene: scene.model("a", []), "missing", r"\(4 in all\)")
    yield bad(85, "renamed", lambda scene: scene.model("a", [
        (item[0].replace("fc1", "\x1b[2Jfc1"), *item[1:]) for item in inputs.tensors(7)]),
        "missing", "fc1")
    yield bad(85, "prefix", lambda scene: scene.model("a", [
        ("teacher." + item[0], *item[1:]) for item in inputs.tensors(7)]), "missing")
    yield bad(85, "two-names-of-one", lambda scene: scene.model(
        "a", inputs.tensors(7) + [("module." + WEIGHT, *inputs.tensors(7)[0][1:])]),
        "two names of the same weight", "module")
    yield bad(85, "openai-and-hf", lambda scene: scene.model(
        "a", inputs.tensors(7) + [inputs.tensor("encoder.blocks.0.mlp.0.weight", [6, 4])]),
        "two names of the same weight", "blocks")


def configurations():
    def config(**keys):
        return lambda scene: scene.write("a/config.json", {**CONFIG, **keys})
    yield bad(87, "architecture", config(architectures=["LlamaForCausalLM"]),
              "architecture is 'LlamaForCausalLM'", "'WhisperForConditionalGeneration'")
    yield bad(87, "architecture-ansi", config(architectures=["\x1b[2J"]), r"\\x1b\[2J")
    yield bad(87, "architecture-long", config(architectures=["x" * 100_000]), r"x{200}\.\.\.")
    for name, keys in (("text", {"architectures": "Whisper"}), ("numbers", {"architectures": [1]}),
                       ("type", {"model_type": 3}), ("size-text", {"d_model": "4"}),
                       ("size-fraction", {"vocab_size": 8.5}), ("size-negative", {"d_model": -4}),
                       ("dtype-number", {"torch_dtype": 32}), ("dtype-list", {"dtype": ["f32"]})):
        yield bad(87, f"config-{name}", config(**keys), r"a/config\.json: '\w+' must be", code=4)
    text = json.dumps(CONFIG)
    for name, content in (("empty", ""), ("cut", text[:30]), ("not-json", "x"), ("html", "<html>"),
                          ("nan", text.replace("8", "NaN")), ("list", "[]"), ("null", "null"),
                          ("twice", text[:-1] + ', "d_model": 4}'), ("nul", text + "\0"),
                          ("bad-utf8", b"\xff" + text.encode()), ("deep", "[" * 100_000),
                          ("infinity", text.replace("8", "-Infinity"))):
        yield bad(87, f"config-{name}", lambda scene, content=content: scene.write(
            "a/config.json", content), r"a/config\.json:(\d+:\d+:| byte \d+: a NUL)", code=4)
    yield bad(87, "config-of-base", lambda scene: scene.write("base/config.json", "{"),
              r"base/config\.json:1:\d+: ", code=4)
    yield bad(87, "config-folder", lambda scene: (scene.remove("a/config.json"),
                                                  scene.folder("a/config.json")),
              r"a/config\.json: .*a folder", code=4)
    yield bad(87, "config-dangling", lambda scene: scene.link("a/config.json", "nothing"),
              r"a/config\.json", code=4)


def quantised():
    for ending in ("qweight", "qzeros", "weight_packed", "absmax"):
        name = WEIGHT.replace("weight", ending)
        yield bad(90, ending, lambda scene, name=name: [scene.model(
            folder, inputs.tensors() + [inputs.tensor(name, [4, 4], "I32", range(16))])
            for folder in ("base", "a")], ending, "quantised")
    for dtype in ("I8", "U8", "I32", "F8_E4M3", "F8_E5M2"):
        def build(scene, dtype=dtype):
            raw = bytes(24 * inputs.ITEM_BYTES.get(dtype, 1))
            for folder in ("base", "a"):
                scene.model(folder, [(WEIGHT, dtype, [6, 4], raw)] + inputs.tensors()[1:])
        yield bad(90, f"weight-{dtype.lower()}", build, "fc1", dtype + r"\b", "cannot be merged")
    yield bad(90, "only-one", lambda scene: scene.model(
        "a", [(WEIGHT, "I8", [6, 4], bytes(24))] + inputs.tensors(7)[1:]), "fc1", "I8", "^.*a: ")
    yield bad(90, "only-base", lambda scene: scene.model(
        "base", [(WEIGHT, "I8", [6, 4], bytes(24))] + inputs.tensors()[1:]), "fc1", "I8", "base: ")


def untied(scene):
    """An output head that is not what it is tied to."""
    scene.model("a", inputs.tensors(7) + [inputs.tensor("proj_out.weight", [8, 4], seed=40)])


# --- Legal though odd -----------------------------------------------------------------------------

def with_type(base, tuned):
    def build(scene):
        scene.model("base", inputs.tensors(0, base))
        scene.model("a", inputs.tensors(7, tuned))
    return build


def check_types(dtype):
    """Halves of the values are exact in the base's type as well."""
    def check(scene):
        for i, (name, shape) in enumerate(SHAPES.items()):
            n = inputs.count(shape)
            expect(scene.result()[name][0], dtype)
            wanted = [b + 0.5 * (t - b) for b, t in zip(
                inputs.numbers(n, i), inputs.numbers(n, 7 + i))]
            expect(inputs.decode(scene.result()[name][2], dtype), wanted, name)
    return check


def identical(scene):
    scene.model("a")


def check_identical(scene):
    for name, item in inputs.read_safetensors(scene.path("base/model.safetensors")).items():
        expect(scene.result()[name], item, name)


def tied(in_base, in_tuned):
    def build(scene):
        for folder, seed, stored in (("base", 0, in_base), ("a", 7, in_tuned)):
            listed = inputs.tensors(seed)
            if stored:
                listed = listed + [("proj_out.weight", *listed[3][1:])]
            scene.model(folder, listed)
    return build


def integers(base, tuned):
    """A buffer of integers beside the weights."""
    def build(scene):
        for folder, seed, values in (("base", 0, base), ("a", 7, tuned)):
            more = [] if values is None else [inputs.tensor("ids", [4], "I64", values)]
            scene.model(folder, inputs.tensors(seed) + more)
    return build


SINUSOID = "model.encoder.embed_positions.weight"


def sinusoids(scene):
    for folder, seed in (("base", 0), ("a", 7)):
        scene.model(folder, inputs.tensors(seed) + [inputs.tensor(SINUSOID, [3, 4], seed=seed)])


def check_integers(values):
    def check(scene):
        check_standard(scene)
        if values is None:
            expect("ids" in scene.result(), False, "a buffer that the base has not")
        else:
            expect(values_of_ids(scene), values, "the base's buffer")
    return check


def values_of_ids(scene):
    return inputs.decode(scene.result()["ids"][2], "I64")


def odd_cases():
    def odd(number, name, build, *says, **more):
        return accepted("mismatch", number, name, build, *says, **more)
    for base, tuned in (("F32", "F16"), ("F32", "BF16"), ("F16", "F32"), ("BF16", "F16")):
        yield odd(86, f"{base}-{tuned}".lower(), with_type(base, tuned),
                  f"4 tensors are {tuned} where the base has {base}", check=check_types(base))
    for size in ("d_model", "vocab_size", "encoder_layers", "num_mel_bins"):
        yield odd(87, f"config-{size}", lambda scene, size=size: scene.write(
            "a/config.json", {**CONFIG, size: 77}),
            rf"a/config\.json: '{size}' is 77.* {CONFIG[size]}")
    yield odd(87, "no-config", lambda scene: scene.remove("a/config.json"))
    yield odd(88, "tied-in-base", tied(True, False), check=lambda scene: expect(
        values_of(scene, "proj_out.weight"), values_of(scene, TOKENS)))
    yield odd(88, "tied-in-tuned", tied(False, True))
    yield odd(88, "tied-in-both", tied(True, True), check=lambda scene: expect(
        values_of(scene, "proj_out.weight"), values_of(scene, TOKENS)))
    yield Case("mismatch", 89, "identical", identical,
               (merge(0, prints=(r"zero task vectors +[1-9]",)), VERIFY), check_identical)
    yield odd(90, "integers-differ", integers([1, 2, 3, 4], [1, 2, 3, 5]),
              "a: 1 tensor that is not merged differs from the base's, which is kept: 'ids'",
              check=check_integers([1, 2, 3, 4]))
    yield odd(90, "sinusoid-differs", sinusoids, "a: 1 tensor that is not merged differs",
              "embed_positions", check=lambda scene: (check_standard(scene), expect(
                  values_of(scene, SINUSOID), inputs.numbers(12))))
    yield odd(90, "integers-equal", integers([1, 2, 3, 4], [1, 2, 3, 4]),
              check=check_integers([1, 2, 3, 4]))
    yield odd(90, "integers-missing", integers([1, 2, 3, 4], None),
              check=check_integers([1, 2, 3, 4]))
    yield odd(90, "integers-extra", integers(None, [1, 2, 3, 4]), "'ids'.* not in the base",
              check=check_integers(None))


def cases():
    for table in (shapes, tensors_missing, configurations, quantised, odd_cases):
        yield from table()
    yield Case("mismatch", 88, "untied", untied, (merge(5, "proj_out.weight", "embed_tokens"),))

"""cases_layers.py - recipes that lay layers out anew, and expressions: classes 109 and 110."""
import json

import inputs
from harness import Case
from making import accepted, expect, halfway, merge, recipe_case, values_of

SLICES = "merge_method: %s\nslices:\n  - sources: [%s]\n"
MODULES = "merge_method: passthrough\nmodules:\n%s"
WHOLE = "{model: base, layer_range: [0, 1]}"
DECODER = "  decoder: {slices: [{sources: [{model: base, layer_range: [0, 1]}]}]}\n"
EXPRESSION = "expression: %s\nmodels: [{model: base, name: A}, {model: a, name: B}]\n"
# A model of one stack of one layer.
FLAT = {"model.layers.0.mlp.up_proj.weight": [6, 4],
        "model.layers.0.self_attn.q_proj.weight": [4, 4], "model.norm.weight": [4],
        "model.embed_tokens.weight": [8, 4]}
CONFIG = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "vocab_size": 8}
SAME_WORDS = ("sources: 1", "sources: []", "sources: [1]", "sources:", "source: []")


def at(line, column=r"\d+"):
    return rf"recipe\.yaml:{line}:{column}: "


def sources():
    """(name, source, words)"""
    yield "no-range", "{model: base}", "layer_range"
    yield "range-text", "{model: base, layer_range: x}", "a range is"
    yield "range-one", "{model: base, layer_range: [1]}", "a range is"
    yield "range-three", "{model: base, layer_range: [0, 1, 2]}", "a range is"
    yield "range-empty", "{model: base, layer_range: [1, 1]}", "holds no layer"
    yield "range-back", "{model: base, layer_range: [2, 1]}", "holds no layer"
    yield "range-negative", "{model: base, layer_range: [-1, 1]}", "whole number"
    yield "range-fraction", "{model: base, layer_range: [0, 0.5]}", "whole number"
    yield "range-huge", "{model: base, layer_range: [0, 99999999999]}", "whole number"
    yield "range-map", "{model: base, layer_range: [0, {a: 1}]}", "a map stands"
    yield "range-behind", "{model: base, layer_range: [0, 2]}", "ends behind the last layer"
    yield "no-model", "{layer_range: [0, 1]}", "a source is"
    yield "unknown", "{model: base, layer_range: [0, 1], layer: 1}", "unknown key 'layer'"
    yield "two", WHOLE + ", {model: a, layer_range: [0, 1]}", "at most 1 model"
    yield "none", "", "a list is expected"
    yield "global", "{model: base, layer_range: [0, 1], parameters: {scope: mlp}}", "whole merge"
    yield "revision", "{model: base@main, layer_range: [0, 1]}", "revisions"
    yield "lora", "{model: {model: {path: base}, lora: x}, layer_range: [0, 1]}", "'lora' is not"
    yield "reference", "{model: {}, layer_range: [0, 1]}", "a model is a folder"


def slices():
    for name, source, words in sources():
        yield name, SLICES % ("passthrough", source), words, at(3)
    for i, text in enumerate(SAME_WORDS):
        yield f"sources-{i}", "merge_method: passthrough\nslices:\n  - " + text + "\n", "", at(3)
    for i, text in enumerate(("x", "{}", "[]", "[1]", "[[]]", "")):
        yield f"type-{i}", f"merge_method: passthrough\nslices: {text}\n", "", at(2)
    yield "twice", SLICES % ("linear", WHOLE + ", " + WHOLE), "listed twice", at(3)
    yield "lengths", SLICES % ("linear", WHOLE + ", {model: a, layer_range: [0, 2]}"), (
        "one of each"), at(3)
    yield "no-base", SLICES % ("ties", WHOLE), "'base_model' is missing", at(1)
    yield "base-twice", "base_model: base\n" + SLICES % ("ties", WHOLE + ", " + WHOLE), (
        "base is listed twice"), at(4)
    yield "weight", SLICES % ("linear", WHOLE), "has no 'weight'", at(3)
    yield "filter", SLICES % ("passthrough", WHOLE) + (
        "    parameters: {scale: [{filter: encoder, value: 2}]}\n"), "selects no tensor", at(4)


def modules():
    for i, text in enumerate(("1", "{}", "[]", "")):
        yield f"module-type-{i}", f"merge_method: passthrough\nmodules: {text}\n", "modules", at(2)
    yield "module-unknown", MODULES % "  encodr: {}\n", "did you mean 'encoder'", at(3)
    yield "module-empty", MODULES % "  encoder: {}\n", "either 'models' or 'slices'", at(3)
    yield "module-missing", MODULES % "  encoder: {models: [{model: base}]}\n", (
        "no module holds"), at(3)
    yield "module-default", MODULES % (DECODER + "  default: {models: [{model: a}]}\n"), (
        "stands alone"), at(3)
    yield "module-range", MODULES % (
        "  decoder: {models: [{model: base, layer_range: [0, 1]}]}\n"), "unknown key", at(3)


def expressions():
    for name, text, words in (
            ("empty", '""', "empty"), ("operator", "A +", "ends where"), ("two", "A B", "operator"),
            ("open", "(A + B", "never closed"), ("close", "A + B)", "closes nothing"),
            ("product", "A * B", "cannot be multiplied"), ("divide", "1 / A", "divided by a model"),
            ("zero", "A / 0 + B", "division by 0"), ("number", "A + B + 1", "number cannot be"),
            ("name", "A + C", "no model has the name 'C'"), ("unused", "A", "does not use"),
            ("huge", "1e30 * 10 * A + B", "beyond 1e30"), ("hex", "0x1 * A + B", "operator"),
            ("points", "1.2.3 * A + B", "not a decimal"), ("infinite", "1e999 * A + B", "decimal"),
            ("sign", "A % B", "operator"), ("deep", "(" * 40 + "A", "parentheses"),
            ("long", "A" + " + B" * 2000, "4096 bytes"), ("list", "[A]", "a list stands"),
            ("utf-8", "A + \u00e9", "expected here"), ("dot", "A + .", "not a decimal")):
        yield f"expression-{name}", EXPRESSION % text, words, at("[12]")
    yield "expression-and-method", "merge_method: linear\n" + EXPRESSION % "A + B", (
        "in place of 'merge_method'"), at(2)
    yield "expression-slices", "expression: A\n" + SLICES.split("\n", 1)[1] % WHOLE, (
        "over whole models"), at(2)
    yield "expression-weight", (EXPRESSION % "A + B").replace(
        "name: B", "name: B, parameters: {weight: 1}"), "says all weights", at(2)
    yield "expression-name-twice", (EXPRESSION % "A + B").replace("name: B", "name: A"), (
        "two models have"), at(2)
    yield "expression-bad-name", (EXPRESSION % "A + B").replace("name: B", "name: 1B"), (
        "is not a name"), at(2)


def own_bases():
    recipe = ("merge_method: %s\nbase_model: base\n"
              "models: [{model: a, base_model: %s, parameters: {weight: 1}}]\n")
    yield "own-base-method", recipe % ("ties", "b"), "for task_arithmetic only", at(3)
    yield "own-base-itself", recipe % ("task_arithmetic", "a"), "the model itself", at(3)
    yield "own-base-of-base", (recipe % ("task_arithmetic", "b")).replace(
        "model: a", "model: base"), "cannot have a base", at(3)


def stages():
    first = "name: x\nmerge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1}\n"
    last = "merge_method: linear\nmodels: [{model: %s}]\nparameters: {weight: 1}\n"
    yield "stage-unused", first + "---\n" + last % "a", "no later document uses 'x'", at(1)
    yield "stage-twice", first + "---\n" + first + "---\n" + last % "x", "the name 'x'", at(6)
    yield "stage-itself", first.replace("a}", "x}") + "---\n" + last % "x", "itself", at(3)
    yield "stage-cycle", first.replace("a}", "y}") + "---\n" + first.replace("x\n", "y\n").replace(
        "a}", "x}") + "---\n" + last % "y", "a later document", at(3)
    yield "stage-seed", "seed: 1\n" + first + "---\n" + last % "x", "last document", at(1)
    yield "stage-tokenizer", first + "---\ntokenizer_source: x\n" + last % "x", "no files", at(6)
    yield "stage-missing", first.replace("a}", "none}") + "---\n" + last % "x", "none: no such", (
        at(3))
    yield "stage-listed-twice", first + "---\n" + last % "x}, {model: x", "listed twice", at(7)


# --- Legal though odd -----------------------------------------------------------------------------

STACKED = """\
merge_method: passthrough
slices:
  - sources: [{layer_range: [0, 1], model: {model: {path: base, revision: null}, lora: null}}]
  - sources: [{model: a, layer_range: [0, 1], parameters: {scale: 2.0}, residual_weight: 1}]
    parameters: {int8_mask: 1.0}
"""


def flat(scene):
    """base, a and b as models of one stack."""
    for name, seed, factor in (("base", 0, 1), ("a", 7, 1), ("b", 3, 1), ("wide", 0, 2)):
        listed = [inputs.tensor(key, [factor * side for side in shape], seed=seed + i)
                  for i, (key, shape) in enumerate(FLAT.items())]
        scene.model(name, listed, CONFIG)


def check_stacked(scene):
    for i, (name, shape) in enumerate(FLAT.items()):
        n = inputs.count(shape)
        tuned = [2 * v for v in inputs.numbers(n, 7 + i)]
        behind = name == "model.norm.weight"
        expect(values_of(scene, name), tuned if behind else inputs.numbers(n, i), name)
        if ".layers.0." in name:
            expect(values_of(scene, name.replace(".layers.0.", ".layers.1.")), tuned, name)
    expect(json.loads(scene.read("out/config.json")), CONFIG | {"num_hidden_layers": 2}, "config")


def check_halfway(scene):
    for i, (name, shape) in enumerate(FLAT.items()):
        n = inputs.count(shape)
        expect(values_of(scene, name), halfway(inputs.numbers(n, i), inputs.numbers(n, 7 + i)),
               name)


def check_stages(scene):
    """The only layer of one is at the end of gradients, what lies outside at the beginning."""
    for i, (name, shape) in enumerate(FLAT.items()):
        n = inputs.count(shape)
        scale, weight = (3, 7) if ".layers." in name else (1, 0.5)
        expect(values_of(scene, name), halfway(inputs.numbers(n, i), [
            scale * v for v in inputs.numbers(n, 7 + i)], weight), name)


def odd_cases():
    def odd(number, name, text, *says, check=check_halfway):
        def build(scene):
            flat(scene)
            scene.write("recipe.yaml", text)
        return accepted("layers", number, name, build, *says, check=check)
    yield odd(109, "stacked", STACKED, "int8_mask: ignored", "residual_weight", check=check_stacked)
    yield odd(109, "as-mergekit-writes-it", """\
base_model:
  model:
    path: base
dtype: float32
merge_method: task_arithmetic
parameters:
  int8_mask: 1.0
  normalize: 0.0
slices:
- sources:
  - layer_range: [0, 1]
    model:
      model:
        path: a
    parameters:
      density: 0.5
      weight: 0.5
  - layer_range: [0, 1]
    model:
      model:
        path: base
tokenizer_source: base
""", "density: ignored", "int8_mask: ignored")
    yield odd(111, "stages", """\
name: a+b@c
merge_method: linear
models: [{model: a}]
parameters: {weight: [1, 3], normalize: false}
tokenizer_source: base
---
merge_method: task_arithmetic
base_model: base
models: [{model: a+b@c, parameters: {weight: [0.5, 7]}}]
""", "tokenizer is that of the last", check=check_stages)
    yield odd(110, "expression", EXPRESSION % "'-(A - 3*B)/(2+4) + A*2/3 + 0e0*B'")


def bad_case(name, text, words, place):
    """Modules are for the standard models, which have an encoder and a decoder."""
    number = 111 if name.startswith("stage") else 110 if name.startswith("expression") else 109
    case = recipe_case(number, name, text, words, place, section="layers",
                       code=6 if name == "stage-missing" else 3)
    write = case.build

    def build(scene):
        if not name.startswith("module"):
            flat(scene)
        write(scene)
    case.build = build
    return case


def cases():
    for table in (slices, modules, expressions, own_bases, stages):
        for row in table():
            yield bad_case(*row)
    yield bad_case("module-for-two", SLICES % ("passthrough", WHOLE), "an encoder and a decoder",
                   at(3))
    yield from odd_cases()

    def wide(scene):
        flat(scene)
        scene.write("recipe.yaml", STACKED.replace("model: a,", "model: wide,"))
    yield Case("layers", 109, "other-width", wide, (merge(5, "has another shape than in"),))

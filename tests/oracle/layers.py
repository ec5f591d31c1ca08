"""layers.py - recipes that lay layers out anew, and expressions, against sums in f64.

A case is a recipe and, for each stack of the output, a list of slices: how many layers, and what
one of their tensors is, as weighted terms (weight, model, layer). What lies before the layers
comes from the first slice, what lies behind them from the last, at the beginning of gradients.
Written from configs/README.md, not from the program.
"""
import json
import re

import numpy as np

from lors_oracle import EPS, Copy, Values
from names import SINUSOID

MODELS = ("base", "ca", "de", "es")  # of the set "plain": 3 layers a stack
BEHIND = re.compile(r"^model\.(encoder|decoder)\.layer_norm\.")


class Slice:
    """`terms(t, j, name)`: a list of (weight, model, layer) of layer j of the slice, which lies at
    t of its gradients; j None: outside the layers."""

    def __init__(self, n, terms, reference="base"):
        self.n, self.terms, self.reference = n, terms, reference


def whole(terms, reference="base"):
    return Slice(3, terms, reference)


def one(model, first, weight=1.0):
    """Layers from `first` on of one model."""
    return lambda t, j, name: [(weight, model, None if j is None else first + j)]


def at_layer(name, layer):
    return re.sub(r"\.layers\.\d+\.", f".layers.{layer}.", name)


def add_up(models, name, terms):
    result, size = 0.0, 0.0
    for weight, model, layer in terms:
        values = models[model][name if layer is None else at_layer(name, layer)].values()
        result = result + weight * values
        size = size + np.abs(weight * values)
    return result, EPS * (2 * len(terms) + 6) * size


def expect_tensor(models, name, piece, t, j):
    like = models["base"][at_layer(name, 0) if j is not None else name]
    return Values(like.dtype, like.shape, [add_up(models, name, piece.terms(t, j, name))])


def expect(models, stacks):
    """Name -> what it must be."""
    expected = {}
    for name, tensor in models["base"].items():
        found = re.match(r"model\.(encoder|decoder)\.", name)
        if not found:
            continue
        slices = stacks[found.group(1)]
        if ".layers." in name:
            continue
        piece = slices[-1] if BEHIND.match(name) else slices[0]
        if name == SINUSOID:
            expected[name] = Copy(models[piece.reference][name])
        else:
            expected[name] = expect_tensor(models, name, piece, 0.0, None)
    for stack, slices in stacks.items():
        out = 0
        for piece in slices:
            for j in range(piece.n):
                t = j / (piece.n - 1) if piece.n > 1 else 1.0
                for name in models["base"]:
                    if name.startswith(f"model.{stack}.layers.0."):
                        expected[at_layer(name, out)] = expect_tensor(models, name, piece, t, j)
                out += 1
    return expected


# --- recipes ------------------------------------------------------------------------------------

def source(model, first=None, end=None, **parameters):
    entry = {"model": model} | ({"layer_range": [first, end]} if end is not None else {})
    return entry | ({"parameters": parameters} if parameters else {})


def modules(method, encoder, decoder, **more):
    return {"merge_method": method, "modules": {"encoder": encoder, "decoder": decoder}} | more


KEPT = {"models": [source("base")]}


def passthrough_cases():
    slices = [[source("base", 0, 2)], [source("ca", 1, 3, scale=[
        {"filter": "layers: 1 & mlp", "value": 0.5}, {"filter": "v_proj", "value": -2},
        {"value": 1}])], [source("base", 2, 3)], [source("base", 2, 3, scale=[3, 5])]]

    def scaled(t, j, name):
        weight = -2.0 if "v_proj" in name else 1.0
        weight = 0.5 if j == 0 and re.search(r"\.fc[12]\.", name) else weight
        return [(weight, "ca", None if j is None else 1 + j)]
    yield ("stacked, repeated, scaled", modules("passthrough", KEPT, {
        "slices": [{"sources": s} for s in slices]}), {
            "encoder": [whole(one("base", 0))],
            "decoder": [Slice(2, one("base", 0)), Slice(2, scaled), Slice(1, one("base", 2)),
                        Slice(1, lambda t, j, name: [(3.0 + 2.0 * t, "base",
                                                      None if j is None else 2)])]})
    interleaved = [{"sources": [source(model, layer, layer + 1)]}
                   for layer in range(3) for model in ("ca", "de")]
    yield ("interleaved, both stacks", modules("passthrough", {"slices": interleaved},
                                               {"slices": interleaved[::-1]}), {
        "encoder": [Slice(1, one(m, k), "ca") for k in range(3) for m in ("ca", "de")],
        "decoder": [Slice(1, one(m, k)) for k in (2, 1, 0) for m in ("de", "ca")]})
    yield ("fewer layers, the other model's ends", modules("passthrough", {
        "slices": [{"sources": [source("es", 1, 2)]}]}, KEPT), {
            "encoder": [Slice(1, one("es", 1), "es")], "decoder": [whole(one("base", 0))]})


def linear_cases():
    pieces = [{"sources": [source("ca", 0, 2, weight=[0, 1]), source("de", 1, 3, weight=0.5)]},
              {"sources": [source("es", 0, 1), source("es", 2, 3)], "parameters": {"weight": 0.25}}]
    yield ("several sources, gradients by slice", modules(
        "linear", {"models": [source("ca"), source("de", weight=3)],
                   "parameters": {"normalize": True}}, {"slices": pieces},
        parameters={"weight": 1, "normalize": False}), {
            "encoder": [whole(lambda t, j, name: [(0.25, "ca", j), (0.75, "de", j)], "ca")],
            "decoder": [
                Slice(2, lambda t, j, name: [(t, "ca", j),
                                             (0.5, "de", None if j is None else 1 + j)]),
                Slice(1, lambda t, j, name: [(0.25, "es", j),
                                             (0.25, "es", None if j is None else 2)])]})


def task_cases():
    def behind(t, j, name):
        """lambda is a gradient of each slice; the base's layers are its own."""
        scale = 0.2 + 0.6 * t
        return [(scale, "ca", None if j is None else 1 + j),
                (1 - 0.5 * scale, "base", j), (-0.5 * scale, "de", j)]
    pieces = [{"sources": [source("ca", 1, 3, weight=1), source("base", 0, 2),
                           source("de", 0, 2)], "parameters": {"weight": -0.5}},
              {"sources": [source("base", 1, 3)]}]
    yield ("task vectors of other layers", modules(
        "task_arithmetic", {"models": [source("ca"), source("base")]}, {"slices": pieces},
        base_model="base", parameters={"weight": 1, "lambda": [0.2, 0.8]}), {
            "encoder": [whole(lambda t, j, name: [(0.2 + 0.6 * t, "ca", j),
                                                  (0.8 - 0.6 * t, "base", j)])],
            "decoder": [Slice(2, behind), Slice(2, one("base", 1))]})
    own = [{"sources": [source("de", 0, 3), source("es", 0, 3, weight=0.5)], "base_model": "ca"}]
    yield ("a slice with a base of its own", modules(
        "task_arithmetic", {"models": [source("ca", weight=0)]}, {"slices": own},
        base_model="base", parameters={"weight": 1}), {
            "encoder": [whole(one("base", 0))],
            "decoder": [whole(lambda t, j, name: [(1.0, "de", j), (0.5, "es", j), (-0.5, "ca", j)],
                              "ca")]})


def plain_cases():
    def same(terms, reference="base"):
        return {"encoder": [whole(terms, reference)], "decoder": [whole(terms, reference)]}
    named = [{"model": m, "name": m.upper()} for m in MODELS]
    yield ("expression", {"expression": "BASE + 0.5 * (CA - DE) / 2 - -(3*ES - ES) * .25",
                          "models": named}, same(lambda t, j, name: [
                              (1.0, "base", j), (0.25, "ca", j), (-0.25, "de", j),
                              (0.5, "es", j)]))
    yield ("expression with another donor", {
        "expression": "2 * DE - 1e0 * CA", "base_model": "base", "models": named[1:3][::-1]},
        same(lambda t, j, name: [(2.0, "de", j), (-1.0, "ca", j)]))
    bases = [source("ca", weight=[0, 1]) | {"base_model": "de"}, source("es", weight=3)]
    yield ("a model with a base of its own", {
        "merge_method": "task_arithmetic", "base_model": "base", "models": bases},
        same(lambda t, j, name: [(t, "ca", j), (-t, "de", j), (3.0, "es", j), (-2.0, "base", j)]))
    yield ("the same, normalized", {
        "merge_method": "task_arithmetic", "base_model": "base", "models": bases,
        "parameters": {"normalize": True, "lambda": 0.5}},
        same(lambda t, j, name: [(0.5 * t / (3 + t), "ca", j), (-0.5 * t / (3 + t), "de", j),
                                 (1.5 / (3 + t), "es", j), (1 - 1.5 / (3 + t), "base", j)]))


def all_cases():
    for cases in (passthrough_cases, linear_cases, task_cases, plain_cases):
        yield from cases()


def layer_counts(stacks):
    return {f"{stack}_layers": sum(piece.n for piece in slices)
            for stack, slices in stacks.items()}


def judge_config(out, stacks):
    config = json.loads((out / "config.json").read_text())
    return [f"config.json says {config[key]} {key}, not {count}"
            for key, count in layer_counts(stacks).items() if config[key] != count]

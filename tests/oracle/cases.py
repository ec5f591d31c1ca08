"""cases.py - the models and the recipes that the oracle is asked about."""
import pathlib
import sys

import numpy as np

from tensors import Tensor, read_model, tensor_of, write_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_models  # noqa: E402


def stack(*models, **parameters):
    """The models of a recipe: (folder, parameters) or folder."""
    entries = []
    for model in models:
        folder, own = model if isinstance(model, tuple) else (model, None)
        entries.append({"model": folder} | ({"parameters": own} if own else {}))
    return {"models": entries, "parameters": parameters}


def case(label, models_of, method, models, base="base", options=(), dtype=None, **parameters):
    recipe = {"merge_method": method} | stack(*models, **parameters)
    if base:
        recipe["base_model"] = base
    if dtype:
        recipe["dtype"] = dtype
    return {"label": label, "set": models_of, "recipe": recipe, "options": list(options)}


# --- sets of models -----------------------------------------------------------------------------

def edit(folder, change):
    """Rewrite a model of one file after change(name -> Tensor)."""
    tensors = read_model(folder)
    change(tensors)
    write_file(folder / "model.safetensors", tensors)


def add_oddities(seed):
    """A scalar, a vector, a conv, integers, an empty tensor, odd shapes: as other models have."""
    draw = np.random.RandomState(seed)

    def change(tensors):
        tensors["log_scale"] = tensor_of([0.5 + 0.01 * seed], "F32", [])
        tensors["extra.conv.weight"] = tensor_of(draw.randn(3, 5, 7), "F16")
        tensors["extra.row"] = tensor_of(draw.randn(1, 37), "BF16")
        tensors["extra.four"] = tensor_of(draw.randn(2, 3, 2, 5), "F32")
        tensors["empty"] = Tensor("F32", [4, 0], b"")
        tensors["position_ids"] = Tensor("I64", [3], bytes([seed] + 23 * [0]))
        tensors["flags"] = Tensor("BOOL", [2], bytes([1, seed % 2]))
    return change


def plain_set(root):
    """HF names, F32, full-rank changes of the usual size; one model with a frozen encoder."""
    make = {"layers": 3, "d_model": 8}
    tiny_models.write_model(root / "base", seed=1, **make)
    for i, name in enumerate(("ca", "de", "es")):
        frozen = ["model.encoder.*"] if name == "es" else []
        tiny_models.write_model(root / name, base_folder=root / "base", seed=2 + i,
                                unchanged=frozen, **make)
    for i, name in enumerate(("base", "ca", "de", "es")):
        edit(root / name, add_oddities(i))


def half_set(root):
    """F16 and shards; low-rank changes; proj_out stored by the base and one model of two."""
    make = {"layers": 2, "d_model": 16, "dtype": "f16"}
    tiny_models.write_model(root / "base", seed=1, proj_out=True, shards=3, **make)
    for i, name in enumerate(("ca", "de")):
        tiny_models.write_model(root / name, base_folder=root / "base", seed=2 + i, rank=3,
                                scale=3e-2, shards=1 + i, proj_out=name == "ca", **make)


def mixed_set(root):
    """Every model in other types, tensor by tensor, and in another naming scheme."""
    make = {"layers": 2, "d_model": 8}
    tiny_models.write_model(root / "base", seed=1, naming="openai", **make)
    tiny_models.write_model(root / "ca", base_folder=root / "base", seed=2, **make)
    tiny_models.write_model(root / "de", base_folder=root / "base", seed=3, naming="ddp", **make)
    tiny_models.write_model(root / "es", base_folder=root / "base", seed=4, naming="bare", **make)
    kinds = ("F32", "F16", "BF16")
    for shift, name in enumerate(("base", "ca", "de", "es")):
        def change(tensors, shift=shift):
            for i, key in enumerate(sorted(tensors)):
                # Other steps for each model, so that every pair of types meets.
                tensors[key] = tensors[key].as_type(kinds[(i * (shift + 1) + shift) % 3])
        edit(root / name, change)


def zero_set(root):
    """A base of zeros: what is added is seen without the rounding of what it is added to."""
    make = {"layers": 1, "d_model": 24, "vocab": 40}
    tiny_models.write_model(root / "base", seed=1, **make)
    for i, name in enumerate(("ca", "de")):
        tiny_models.write_model(root / name, base_folder=root / "base", seed=5 + i, rank=i and 5,
                                **make)

    def clear(tensors):
        for name, tensor in tensors.items():
            if "encoder.embed_positions" not in name:
                tensors[name] = Tensor(tensor.dtype, tensor.shape, bytes(len(tensor.raw)))
    edit(root / "base", clear)


def coarse_set(root):
    """Values in steps of 2^-6: equal magnitudes by the dozen, changes that cancel exactly, -0."""
    make = {"layers": 1, "d_model": 8}
    tiny_models.write_model(root / "base", seed=1, **make)
    for i, name in enumerate(("ca", "de", "es")):
        tiny_models.write_model(root / name, base_folder=root / "base", seed=8 + i, scale=4e-2,
                                **make)

    def coarsen(tensors):
        for name, tensor in tensors.items():
            values = np.rint(tensor.values() * 64) / 64 # rint keeps -0
            if "encoder.embed_positions" not in name:
                tensors[name] = tensor_of(values, tensor.dtype, tensor.shape)
    for name in ("base", "ca", "de", "es"):
        edit(root / name, coarsen)


SETS = {"plain": plain_set, "half": half_set, "mixed": mixed_set, "zero": zero_set,
        "coarse": coarse_set}


# --- recipes ------------------------------------------------------------------------------------

THREE = ("ca", "de", "es")
GRADED = [{"filter": "cross_attention", "value": 0.5},
          {"filter": "layers: 0-1 & encoder", "value": [0.1, 0.25, 0.9]},
          {"filter": "fc1", "value": -0.3}, {"value": [0.2, 0.75]}]


def weighted(*weights):
    return [(name, {"weight": weight}) for name, weight in zip(THREE, weights)]


def linear_cases():
    yield case("equal weights", "plain", "linear", weighted(1, 1, 1), base=None)
    yield case("with a base, sum 3.3", "plain", "linear", weighted(0.3, 1.7, 1.3))
    yield case("not normalized", "plain", "linear", weighted(0.2, 0.3, -0.1), normalize=False)
    yield case("graded, to bf16", "plain", "linear", [("ca", {"weight": GRADED}), *weighted(1)[1:],
               ("de", {"weight": 0.4})], dtype="bfloat16")
    yield case("mixed types", "mixed", "linear", weighted(2, 1, 0.5))
    yield case("mixed types, no base, to f16", "mixed", "linear", weighted(2, 1, 0.5), base=None,
               dtype="float16")
    yield case("scope and a filter", "half", "linear", weighted(1, 3), scope=["decoder & mlp",
               "regex:k_proj"])
    yield case("a single model", "half", "linear", weighted(0.3))


def task_cases():
    yield case("plain", "plain", "task_arithmetic", weighted(1, 0.5, -0.25))
    yield case("lambda, normalize", "plain", "task_arithmetic", weighted(1, 0.7, 0.6),
               **{"lambda": 0.8, "normalize": True})
    yield case("graded", "plain", "task_arithmetic", [("ca", {"weight": GRADED}),
               ("de", {"weight": 0.4})])
    yield case("positions as well", "plain", "task_arithmetic", weighted(1, 0.5, 2),
               merge_encoder_positions=True)
    yield case("scope norm and conv", "plain", "task_arithmetic", weighted(1, 0.5, 2),
               scope=["norm", "conv", "embedding"])
    yield case("scope, the rest weighted", "plain", "task_arithmetic", weighted(1, 0.5, 2),
               scope="!encoder", outside="weighted")
    yield case("f16", "half", "task_arithmetic", weighted(0.9, 0.4), options=["--threads", "3"])
    yield case("f16 to f32 in shards", "half", "task_arithmetic", weighted(0.9, 0.4),
               options=["--dtype", "f32", "--max-shard-size", "5000"])
    yield case("mixed types", "mixed", "task_arithmetic", weighted(0.9, 0.4, 0.1))
    yield case("mixed types to bf16", "mixed", "task_arithmetic", weighted(0.9, 0.4, 0.1),
               options=["--dtype", "bf16"])
    yield case("coarse", "coarse", "task_arithmetic", weighted(1, 1, 1))


def ties_cases():
    yield case("dense", "plain", "ties", weighted(1, 0.5, 0.25))
    yield case("density 0.2", "plain", "ties", weighted(1, 0.5, -0.25), density=0.2)
    yield case("density by model", "plain", "ties",
               [("ca", {"weight": 1, "density": 0.3}), ("de", {"weight": 0.5}),
                ("es", {"weight": 0.25, "density": [0.1, 0.9]})], density=0.55, **{"lambda": 0.7})
    yield case("not normalized", "plain", "ties", weighted(1, 0.5, 0.25), density=0.4,
               normalize=False)
    yield case("density 0", "plain", "ties", weighted(1, 0.5), density=0)
    yield case("equal magnitudes", "coarse", "ties", weighted(1, 1, 1), density=0.3)
    yield case("equal magnitudes, dense", "coarse", "ties", weighted(1, 1, -2))
    yield case("mixed types", "mixed", "ties", weighted(1, 2, 3), density=0.5)
    yield case("one model", "half", "ties", weighted(0.5), density=0.1)
    yield case("scope", "half", "ties", weighted(1, 1), density=0.25, scope=["attention", "mlp"],
               outside="weighted")


def slerp_cases():
    yield case("half way", "plain", "slerp", ["ca"], t=0.5)
    yield case("with the base among the models", "plain", "slerp", ["base", "de"], t=0.25)
    yield case("graded, to bf16", "plain", "slerp", ["ca"], dtype="bfloat16",
               t=[{"filter": "self_attention", "value": [0, 0.5, 0.3, 0.7, 1]}, {"value": 0.6}])
    yield case("f16", "half", "slerp", ["de"], t=0.9)
    yield case("mixed types", "mixed", "slerp", ["es"], t=0.4)
    yield case("from zero", "zero", "slerp", ["ca"], t=0.4)
    yield case("scope", "plain", "slerp", ["ca"], t=0.7, scope="encoder")


def lors_cases():
    yield case("defaults", "plain", "lors", THREE)
    yield case("low rank alone", "plain", "lors", ["ca"], rank=3, density=0, **{"lambda": 1})
    yield case("low rank alone, two models", "zero", "lors", ["ca", "de"], rank=4, density=0)
    yield case("pruning alone", "plain", "lors", weighted(1, 0.5, 0.25), rank=0, density=0.3)
    yield case("pruning alone, equal magnitudes", "coarse", "lors", ["ca", "de"], rank=0,
               density=0.37)
    yield case("full rank", "plain", "lors", weighted(1, 0.5), rank=8, density=0.1)
    yield case("density 1", "plain", "lors", weighted(1, -0.5), rank=2, density=1)
    yield case("one model, both parts", "plain", "lors", ["ca"], rank=2, density=0.2,
               **{"lambda": 1.5})
    yield case("zero base, sharp", "zero", "lors", ["ca"], rank=6, density=0, **{"lambda": 1})
    yield case("zero base, both parts", "zero", "lors", ["de"], rank=2, density=0.11,
               **{"lambda": 0.3})
    yield case("rank of the change", "half", "lors", ["ca", "de"], rank=3, density=0.05,
               options=["--dtype", "f32"])
    yield case("rank above the change's", "zero", "lors", ["de"], rank=5, density=0,
               **{"lambda": 1})
    yield case("share", "half", "lors", ["ca", ("de", {"rank": "40%"})], rank="20%", density=0.1)
    yield case("energy", "zero", "lors", ["ca", "de"], rank={"energy": 0.6}, density=0)
    yield case("energy by model", "plain", "lors", [("ca", {"rank": {"energy": 0.9}}), "de"],
               rank=1, density=0.15)
    yield case("graded", "plain", "lors",
               [("ca", {"weight": [0.5, 1], "density": 0.1}), ("de", {"weight": GRADED})],
               rank=2, density=[0.1, 0.3])
    yield case("by filter", "plain", "lors", ["ca", "de"], density=0.2,
               rank=[{"filter": "mlp", "value": 4}, {"filter": "cross_attention", "value": 0},
                     {"value": 1}])
    yield case("scope of convs and the embedding", "plain", "lors", ["ca"], rank=2, density=0.1,
               scope=["conv", "embedding", "mlp & decoder"])
    yield case("scope everything", "plain", "lors", ["ca", "es"], rank=1, density=0.1, scope="*")
    yield case("outside: base", "half", "lors", ["ca", "de"], rank=3, density=0.1, outside="base")
    yield case("mixed types and names", "mixed", "lors", THREE, rank=2, density=0.2)
    yield case("mixed types to f16", "mixed", "lors", THREE, rank=2, density=0.2, dtype="float16")


def spectral_cases():
    for method in ("tsv_m", "iso_c", "iso_cts", "star", "wudi", "knots", "svc"):
        yield case("defaults", "zero", method, ["ca", "de"])
        yield case("three models", "plain", method, THREE)
        yield case("weights, lambda", "zero", method, weighted(1, -0.5), **{"lambda": 1.5})
        yield case("one model", "zero", method, ["ca"])
        yield case("mixed types to f16", "mixed", method, THREE, dtype="float16")
        yield case("f16, low-rank changes", "half", method, ["ca", "de"])
        yield case("scope everything", "plain", method, ["ca", "es"], scope="*")
        yield case("coarse", "coarse", method, THREE)
    yield case("ranks", "zero", "tsv_m", [("ca", {"rank": "25%"}), ("de", {"rank": 3})])
    yield case("more directions than there are", "zero", "tsv_m", ["ca", "de"], rank="100%")
    yield case("energy", "zero", "tsv_m", ["ca", "de"], rank={"energy": 0.6})
    yield case("boost", "zero", "tsv_m", ["ca", "de"], boost=0.3)
    yield case("boost to nothing", "zero", "tsv_m", ["ca", ("de", {"boost": 0})], boost=1)
    yield case("eta", "zero", "star", [("ca", {"eta": 75}), ("de", {"eta": 10})])
    yield case("dense", "zero", "knots", ["ca", "de"], density=1, normalize=False)
    yield case("densities", "zero", "knots", [("ca", {"density": 0.5}), "de"], density=0.3)
    yield case("the minimum itself", "zero", "wudi", ["ca", "de"], ridge=0)
    yield case("more ridge", "zero", "wudi", weighted(1, 0.3), ridge=0.5)
    for alpha in (0, 0.6):
        yield case(f"alpha {alpha}", "zero", "svc", ["ca", "de"], alpha=alpha)
    yield case("one of two is the merged", "zero", "svc", ["ca", ("de", {"merged": True})])
    yield case("one of three is the merged", "plain", "svc",
               ["ca", ("es", {"merged": True, "weight": 0.7}), ("de", {"weight": 2})])
    for fraction in (0, 0.35, 1):
        yield case(f"common {fraction}", "zero", "iso_cts", ["ca", "de"], common_fraction=fraction)


def all_cases():
    for cases in (linear_cases, task_cases, ties_cases, slerp_cases, lors_cases, spectral_cases):
        yield from cases()

#!/usr/bin/env python3
"""mergekit_parity.py - every deterministic method of mergekit, computed by both.

    mergekit_parity.py LORS_BINARY [--work FOLDER] [--only TEXT]

Tiny models with the tensors of a Whisper and of a Llama: matrices, vectors, a convolution, a
tensor of one element, one that no model changed and one that only some did. Files in f32 and in
bf16. Each case is merged

  - by mergekit's own functions in float64: what `compat: mergekit` gives must be that, rounded to
    f32, up to one unit in the last place and 1e-12 of the terms; where coefficients are measured
    on task vectors, which lors rounds to f32 for that, up to 2^-24 of the changes;
  - by its functions in float32, as its users run them: within float32's rounding of that;
  - by lors without `compat`: equal, too, but for the methods and tensors that RULES lists, which
    configs/README.md explains; there the results must differ, so that the list stays true.

Methods that draw at random are judged by what they keep. Ends with 1 if anything is off.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys

import numpy
import torch
from safetensors.torch import load_file, save_file

from mergekit import merge_methods

WHISPER = {
    "model.encoder.conv1.weight": (16, 8, 3),
    "model.encoder.conv1.bias": (16,),
    "model.encoder.layers.0.self_attn.q_proj.weight": (16, 16),
    "model.encoder.layers.0.self_attn.q_proj.bias": (16,),
    "model.encoder.layers.0.fc1.weight": (48, 16),
    "model.encoder.layers.0.fc2.weight": (16, 48),
    "model.decoder.embed_tokens.weight": (101, 16),
    "model.decoder.layers.0.encoder_attn.k_proj.weight": (16, 16),
    "model.decoder.layer_norm.weight": (16,),
}
LLAMA = {
    "model.embed_tokens.weight": (96, 24),
    "model.layers.0.self_attn.q_proj.weight": (24, 24),
    "model.layers.0.self_attn.k_proj.weight": (8, 24),
    "model.layers.0.mlp.down_proj.weight": (24, 64),
    "model.layers.0.input_layernorm.weight": (24,),
    "model.layers.1.mlp.up_proj.weight": (64, 24),
    "model.norm.weight": (24,),
    "lm_head.weight": (96, 24),
}
CONFIGS = {
    "whisper": {"model_type": "whisper", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1},
    "llama": {"model_type": "llama", "hidden_size": 24, "num_hidden_layers": 2},
}
ODD = {"odd.single": (1,), "odd.column": (9, 1), "odd.frozen": (12, 10), "odd.some": (11, 13)}

# Where lors differs on purpose without `compat`: method -> the kinds of tensors, None: all.
RULES = {
    "sce of tiny changes": None,        # its weights are uniform below 1e-6: all of ours are real
    "model_stock": None,                # the floor of 1e-6 under the product of two norms
    "karcher with a base": None,        # the base as one more model
    "multislerp": None,                 # eps is added to the norms
    "ties density 0.3": {"single"},     # at least one entry is kept
    "ties rescaled, density 0.3": {"single"},
    "nuslerp of task vectors": {"single", "some"},  # an angle with a task vector of zero
}


def make_models(family, dtype, folder, n_models, scale):
    """Folders base, m0, m1 ... with f32 or bf16 weights; returns their state dicts in order."""
    generator = torch.Generator().manual_seed(17)
    shapes = {**(WHISPER if family == "whisper" else LLAMA), **ODD}
    base = {name: torch.randn(shape, generator=generator) * 0.05
            for name, shape in shapes.items()}
    models = []
    for k in range(n_models):
        model = {}
        for name, tensor in base.items():
            change = torch.randn(tensor.shape, generator=generator) * scale * (1 + k)
            frozen = name == "odd.frozen" or (name in ("odd.some", "odd.single") and k == 0)
            model[name] = tensor.clone() if frozen else tensor + change
        models.append(model)
    out = []
    for name, model in [("base", base)] + [(f"m{k}", model) for k, model in enumerate(models)]:
        kept = {key: value.to(dtype).contiguous() for key, value in model.items()}
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file(kept, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps(CONFIGS[family]))
        out.append(kept)
    return out[0], out[1:]


class Case:
    """One recipe. `shared`: parameters of the whole merge; `own`: name -> a value per model."""

    def __init__(self, method, n_models, base=True, shared=None, own=None, label=None, scale=0.01,
                 measured=False, without=()):
        self.method, self.n_models, self.base = method, n_models, base
        self.measured, self.without = measured, without
        self.shared, self.own = shared or {}, own or {}
        self.label, self.scale = label or method, scale

    def recipe(self, compat):
        lines = [f"merge_method: {self.method}", "models:"]
        for k in range(self.n_models):
            own = ", ".join(f"{name}: {values[k]}" for name, values in self.own.items())
            lines.append(f"  - {{model: m{k}, parameters: {{{own}}}}}")
        if self.base:
            lines.append("base_model: base")
        shared = ", ".join(f"{name}: {json.dumps(value)}" for name, value in self.shared.items())
        lines.append(f"parameters: {{{shared}}}")
        lines.append(f"compat: {'mergekit' if compat else 'none'}")
        return "\n".join(lines) + "\n"

    def by_mergekit(self, base, models, dtype):
        named = {f"m{k}": model for k, model in enumerate(models)}
        if self.base:
            named["base"] = base
        named = {label: {name: tensor for name, tensor in model.items()
                         if name not in self.without} for label, model in named.items()}
        parameters = dict(self.shared)
        for name, values in self.own.items():
            parameters[name] = {f"m{k}": value for k, value in enumerate(values)}
        with torch.no_grad():
            return merge_methods.merge_state_dicts(
                named, self.method, parameters=parameters,
                base="base" if self.base else None, dtype=dtype)


def cases():
    three = {"weight": [0.5, 0.3, 0.4]}
    signed = {"weight": [1.0, -0.4, 0.7]}
    yield Case("linear", 3, base=False, own=three)
    yield Case("linear", 3, base=False, own=signed, shared={"normalize": False},
               label="linear not normalized")
    yield Case("task_arithmetic", 3, own=signed, shared={"lambda": 0.7})
    yield Case("task_arithmetic", 3, own=three, shared={"normalize": True},
               label="task_arithmetic normalized")
    for density in (1.0, 0.3):
        yield Case("ties", 3, own={**three, "density": [density] * 3},
                   label=f"ties density {density}")
        yield Case("ties", 3, own={**signed, "density": [density] * 3},
                   shared={"normalize": False, "lambda": 1.3, "rescale": True},
                   label=f"ties rescaled, density {density}", measured=True)
        yield Case("breadcrumbs", 3, own={**three, "density": [density] * 3, "gamma": [0.05] * 3},
                   label=f"breadcrumbs density {density}")
        yield Case("breadcrumbs_ties", 3,
                   own={**three, "density": [density] * 3, "gamma": [0.02] * 3},
                   label=f"breadcrumbs_ties density {density}")
    yield Case("breadcrumbs", 2, own={"weight": [1, 1], "density": [0.97, 0.9],
                                      "gamma": [0.05, 0.3]}, label="breadcrumbs nearly dense")
    yield Case("sce", 3, measured=True)
    yield Case("sce", 3, shared={"select_topk": 0.3}, label="sce select_topk 0.3", scale=0.2,
               measured=True)
    yield Case("sce", 3, label="sce of large changes", scale=0.2, measured=True)
    yield Case("sce", 3, label="sce of tiny changes", scale=3e-4, measured=True)
    yield Case("slerp", 1, shared={"t": 0.3}, scale=0.1)
    yield Case("slerp", 1, shared={"t": 0.3}, label="slerp of neighbours", scale=1e-4)
    yield Case("nuslerp", 2, base=False, own={"weight": [0.5, 0.7]}, scale=0.1)
    yield Case("nuslerp", 2, own={"weight": [0.5, 0.7]}, label="nuslerp of task vectors",
               measured=True)
    yield Case("nuslerp", 2, base=False, own={"weight": [0.5, 0.7]}, scale=0.1,
               shared={"nuslerp_flatten": False}, label="nuslerp by rows",
               without=("model.encoder.conv1.weight",))  # its rows are others: configs/README.md
    yield Case("nuslerp", 2, base=False, own={"weight": [0.5, 0.7]}, scale=0.1,
               shared={"nuslerp_flatten": False, "nuslerp_row_wise": True},
               label="nuslerp by columns")
    yield Case("model_stock", 3, shared={"filter_wise": True}, label="model_stock filter_wise",
               measured=True, without=("model.encoder.conv1.weight",))
    yield Case("multislerp", 3, base=False, own=three)
    yield Case("multislerp", 3, own=three, label="multislerp of task vectors",
               shared={"normalize_weights": False}, measured=True,
               without=("odd.frozen", "odd.single"))  # where mergekit raises an error
    # Of one element: opposite numbers have no mean direction.
    yield Case("karcher", 3, base=False, scale=0.1, without=("odd.single",))
    yield Case("karcher", 3, label="karcher with a base", scale=0.1, without=("odd.single",))
    yield Case("model_stock", 3, measured=True)
    yield Case("model_stock", 3, label="model_stock of tiny changes", scale=1e-6,
               measured=True)
    yield Case("nearswap", 1, shared={"t": 0.004})
    yield Case("arcee_fusion", 1)
    yield Case("arcee_fusion", 1, label="arcee_fusion of large changes", scale=0.2)
    yield Case("ram", 3)
    yield Case("ram", 3, shared={"epsilon": 0.01}, label="ram epsilon 0.01")
    # mergekit's shares and scales are in f32, whatever the type of the tensors: two roundings.
    yield Case("ramplus_tl", 3, shared={"epsilon": 0.01}, measured=2)
    yield Case("ramplus_tl", 3, shared={"epsilon": 0.015, "r": 0.15, "alpha": 2.0}, measured=2,
               label="ramplus_tl alpha 2")


def by_lors(binary, folder, case, compat):
    name = f"{case.label}-{'compat' if compat else 'own'}".replace(" ", "_")
    recipe = folder / f"{name}.yaml"
    recipe.write_text(case.recipe(compat))
    out = folder / f"out-{name}"
    done = subprocess.run([binary, "merge", recipe, "-o", out, "-q", "--force", "--dtype", "f32"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{case.label}: lors ended with {done.returncode}: {done.stderr}")
    return load_file(out / "model.safetensors")


def size_of_terms(case, base, models, name):
    """What the rounding of one result is measured against: the terms it is the sum of."""
    terms = [models[k][name].double().abs() for k in range(case.n_models)]
    terms.append(base[name].double().abs())
    weights = case.own.get("weight", [1.0] * case.n_models)
    factor = max(1.0, sum(abs(weight) for weight in weights)) * case.shared.get("lambda", 1.0)
    return torch.stack(terms).amax(0) * factor * case.n_models


def tied(case, base, models, name):
    """Elements whose result mergekit leaves to chance: of equal magnitudes at the threshold it
    keeps any, and a vote that is 0 but for rounding elects either sign. (lors: the lowest index;
    plus.)"""
    chance = torch.zeros_like(base[name], dtype=torch.bool)
    if case.method not in ("ties", "breadcrumbs", "breadcrumbs_ties"):
        return chance
    vote, sizes = torch.zeros_like(base[name].double()), torch.zeros_like(base[name].double())
    for k in range(case.n_models):
        delta = models[k][name].double() - base[name].double()
        magnitudes, n = delta.abs(), delta.numel()
        order = magnitudes.flatten().sort(descending=True).values
        kept = int(case.own["density"][k] * n)
        top = min(int(case.own.get("gamma", [0] * 3)[k] * n), n - kept)
        for edge in (top, top + kept):
            if 0 < edge < n and order[edge - 1] == order[edge] > 0:
                chance |= magnitudes == order[edge]
        inside = (magnitudes >= order[min(top + kept, n) - 1]) if top + kept else magnitudes < 0
        if top:
            inside &= magnitudes < order[top - 1]
        term = torch.where(inside, case.own["weight"][k] * delta, 0.0)
        vote += term
        sizes += term.abs()
    if case.method != "breadcrumbs":
        chance |= (vote.abs() <= 2**-49 * sizes) & (sizes > 0)
    return chance


def deviations(case, found, wanted, base, models, name):
    """The largest deviation in units of what is allowed."""
    found, wanted = found.double(), wanted.double()
    step = torch.from_numpy(numpy.spacing(wanted.abs().float().numpy())).double()
    allowed = step + 1e-12 * size_of_terms(case, base, models, name)
    if case.measured:
        changes = [(models[k][name].double() - base[name].double()).abs()
                   for k in range(case.n_models)]
        scale = case.measured * max(1.0, case.shared.get("lambda", 1.0))
        allowed += 2**-24 * torch.stack(changes).sum(0) * scale
    deviation = (found - wanted).abs() / allowed
    judged = deviation[~tied(case, base, models, name)]
    return judged.max().item() if judged.numel() else 0.0


def kind_of(name):
    return name.split(".")[1] if name.startswith("odd.") else "plain"


def judge_compat(case, ours, exact, single, base, models, problems):
    worst = worst_single = 0.0
    for name, wanted in exact.items():
        sizes = size_of_terms(case, base, models, name)
        deviation = deviations(case, ours[name], wanted, base, models, name)
        worst = max(worst, deviation)
        if not deviation <= 1.0:
            problems.append(f"{case.label}: {name}: {deviation:.3g} of what is allowed")
        off = ((single[name].double() - wanted.double()).abs() / (2**-24 * sizes + 1e-300)).max()
        worst_single = max(worst_single, off.item())
    return worst, worst_single


def judge_own(case, own, exact, base, models, problems):
    """Without compat: the same, or a rule says why not."""
    differing = set()
    for name, wanted in exact.items():
        if not deviations(case, own[name], wanted, base, models, name) <= 1.0:
            differing.add(kind_of(name))
    rule = next((text for text in RULES if case.label.startswith(text)), None)
    allowed = RULES.get(rule, set()) if rule else set()
    if allowed is not None and not differing <= allowed:
        problems.append(f"{case.label}: differs without compat in {sorted(differing - allowed)}, "
                        "and no rule says so")
    return differing


def judge_random(binary, folder, base, models, problems):
    """dare_linear and della_linear of one model: how much is kept, and what becomes of it."""
    name = next(name for name in base if "embed_tokens" in name)
    density, epsilon = 0.4, 0.2
    delta = models[0][name].double() - base[name].double()
    for method in ("dare_linear", "della_linear"):
        own = {"weight": [1.0], "density": [density]}
        if method == "della_linear":
            own["epsilon"] = [epsilon]
        for compat in (False, True):
            case = Case(method, 1, own=own)
            update = by_lors(binary, folder, case, compat)[name].double() - base[name].double()
            kept = update != 0
            share, n = kept.double().mean().item(), kept.numel()
            if abs(share - density) > 5 * math.sqrt(density / n):
                problems.append(f"{method}: {share:.3f} of the entries are kept, not {density}")
            rank = delta.abs().argsort(dim=1, stable=True).argsort(dim=1).double()
            p = density - epsilon + 2 * epsilon * rank / (delta.shape[1] - 1)
            p = torch.full_like(p, density) if method == "dare_linear" else p
            scale = delta.abs().sum() / delta[kept].abs().sum() if compat else 1 / p
            off = (update - torch.where(kept, delta * scale, 0.0)).abs()
            if (off > 2**-22 * (base[name].double().abs() + (delta * scale).abs())).any():
                problems.append(f"{method}: what is kept is not scaled as promised")
            if method == "della_linear":
                low, high = kept[p < density].double().mean(), kept[p > density].double().mean()
                if not low < density < high:
                    problems.append("della_linear: small entries are not dropped more often")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("parity"))
    parser.add_argument("--only", default="", help="cases that hold this text")
    options = parser.parse_args()
    problems, n_cases, rules_used = [], 0, set()
    for family in ("whisper", "llama"):
        for dtype, word in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
            for case in cases():
                if options.only not in case.label:
                    continue
                folder = options.work / f"{family}-{word}-{case.scale}"
                base, models = make_models(family, dtype, folder, 3, case.scale)
                models = models[:case.n_models]
                exact = case.by_mergekit(base, models, torch.float64)
                single = case.by_mergekit(base, models, torch.float32)
                ours = by_lors(options.binary, folder, case, True)
                worst, worst_single = judge_compat(case, ours, exact, single, base, models,
                                                   problems)
                own = by_lors(options.binary, folder, case, False)
                differing = judge_own(case, own, exact, base, models, problems)
                rules_used |= {text for text in RULES
                               if differing and case.label.startswith(text)}
                n_cases += 1
                print(f"{family:8}{word:5} {case.label:36} {worst:8.3f} of one step; its f32: "
                      f"{worst_single:8.1f} units; own rules in: "
                      f"{', '.join(sorted(differing)) or '-'}")
            if not options.only:
                judge_random(options.binary, folder, base, models, problems)
    if not options.only:
        problems += [f"the rule for '{text}' explains nothing: remove it"
                     for text in RULES if text not in rules_used]
    for problem in problems:
        print("FAILED:", problem)
    print(f"{n_cases} cases, {len(problems)} problems, mergekit "
          f"{__import__('importlib.metadata', fromlist=['x']).version('mergekit')}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""run.py - methods by their formulas, restated in NumPy in f64 and compared element by element.

    run.py LORS_BINARY SOURCE_DIR [--only TEXT]

Tiny models with the tensors of a Whisper: matrices, vectors, a convolution, one element, one that
no model changed and one that only some did; each case with models in f32 and in bf16, the result in
f32. A result may be half a step of f32 from the exact one, and 1e-13 of the terms; where
coefficients are measured on task vectors, which are rounded to f32 for that, also 2^-24 of the
changes. Methods that draw at random are judged by what they keep. lors, linear, task_arithmetic,
ties and slerp have their own oracle in ../oracle.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    # python3 may be a user's own; the system's may have it.
    if os.path.exists("/usr/bin/python3") and not os.environ.get("LORS_ORACLE_AGAIN"):
        os.environ["LORS_ORACLE_AGAIN"] = "1"
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    sys.exit("run.py: NumPy is missing: apt-get install python3-numpy")

import formulas

SHAPES = {
    "model.encoder.conv1.weight": (24, 10, 3),
    "model.encoder.layers.0.self_attn.q_proj.weight": (24, 24),
    "model.encoder.layers.0.self_attn.q_proj.bias": (24,),
    "model.encoder.layers.0.fc1.weight": (96, 24),
    "model.encoder.layers.0.fc2.weight": (24, 96),
    "model.decoder.embed_tokens.weight": (211, 24),
    "model.decoder.layers.0.encoder_attn.k_proj.weight": (24, 24),
    "model.decoder.layer_norm.weight": (24,),
    "odd.single": (1,),
    "odd.column": (9, 1),
    "odd.frozen": (12, 10),
    "odd.some": (11, 13),
    "odd.blocks": (90, 200),  # several blocks of partial sums
    "odd.groups": (200, 64),  # two tiles of groups of rows
}


def write_model(folder, tensors, dtype):
    """tensors: f64 arrays that the type holds exactly."""
    folder.mkdir(parents=True)
    header, body = {}, b""
    for name, values in tensors.items():
        words = values.astype("<f4").view("<u4")
        raw = words.tobytes() if dtype == "F32" else (words >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape),
                        "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
    (folder / "config.json").write_text(json.dumps(
        {"model_type": "whisper", "d_model": 24, "encoder_layers": 1, "decoder_layers": 1}))


def read_model(folder):
    """A result in f32, as f64."""
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", entry
            begin, end = entry["data_offsets"]
            out[name] = np.frombuffer(body[begin:end], "<f4").astype(np.float64).reshape(
                entry["shape"])
    return out


def make_models(scale, dtype):
    """base and three models; in bf16 many changes are equal, zero, or lie at a threshold."""
    draw = np.random.default_rng(5)
    keep = 0xFFFFFFFF if dtype == "F32" else 0xFFFF0000

    def stored(values):
        words = np.asarray(values, np.float32).view(np.uint32) & np.uint32(keep)
        return words.view(np.float32).astype(np.float64)

    base = {name: stored(draw.normal(0, 0.05, shape)) for name, shape in SHAPES.items()}
    models = []
    for k in range(3):
        model = {}
        for name, values in base.items():
            change = draw.normal(0, scale * (k + 1), values.shape)
            frozen = name == "odd.frozen" or (k == 0 and name in ("odd.some", "odd.single"))
            model[name] = values if frozen else stored(values + change)
        models.append(model)
    return base, models


def recipe_of(case, dtype):
    entries = []
    for k in range(case.n_models):
        own = ", ".join(f"{key}: {values[k]}" for key, values in case.own.items())
        entries.append(f"  - {{model: models-{case.scale}-{dtype}/m{k}, parameters: {{{own}}}}}")
    shared = ", ".join(f"{key}: {json.dumps(value)}" for key, value in case.shared.items())
    base = [f"base_model: models-{case.scale}-{dtype}/base"] if case.base else []
    compat = ["compat: mergekit"] if case.compat else []
    return "\n".join([f"merge_method: {case.method}", *base, *compat, "models:", *entries,
                      f"parameters: {{{shared}}}", ""])


def merge(binary, folder, case, dtype, threads="2"):
    (folder / "recipe.yaml").write_text(recipe_of(case, dtype))
    done = subprocess.run([binary, "merge", folder / "recipe.yaml", "-o", folder / "out", "--force",
                           "-q", "--dtype", "f32", "--threads", threads],
                          capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        return f"lors ended with {done.returncode}: {done.stderr.strip()}"
    return read_model(folder / "out")


def judge(case, name, found, base, models):
    """How far off, in units of what is allowed; what is left to chance is left out."""
    models = models[:case.n_models]
    wanted, terms = case.formula(case, name, base[name] if case.base else None,
                                 [model[name] for model in models])
    step = np.spacing(np.abs(wanted).astype(np.float32)).astype(np.float64)
    allowed = 0.5 * step + 1e-13 * (terms + np.abs(wanted))
    if case.measured:
        allowed = allowed + 2.0**-24 * terms
    return float(np.max(np.abs(found - wanted) / allowed))


def main():
    binary, only = sys.argv[1], sys.argv[4] if "--only" in sys.argv else ""
    folder = pathlib.Path("formulas-work")
    shutil.rmtree(folder, ignore_errors=True)
    made, problems, n = {}, [], 0
    for case in formulas.cases():
        for dtype in ("F32", "BF16"):
            if only not in case.label:
                continue
            if (case.scale, dtype) not in made:
                base, models = make_models(case.scale, dtype)
                made[case.scale, dtype] = base, models
                at = folder / f"models-{case.scale}-{dtype}"
                for name, model in [("base", base)] + [(f"m{k}", m) for k, m in enumerate(models)]:
                    write_model(at / name, model, dtype)
            base, models = made[case.scale, dtype]
            found = merge(binary, folder, case, dtype)
            n += 1
            if isinstance(found, str):
                problems.append(f"{case.label} {dtype}: {found}")
                continue
            if case.statistics:
                problems += [f"{case.label} {dtype}: {text}"
                             for text in case.statistics(case, found, base, models)]
                again = merge(binary, folder, case, dtype, threads="1")
                if any((again[name] != found[name]).any() for name in found):
                    problems.append(f"{case.label} {dtype}: another result with one thread")
                continue
            for name in SHAPES:
                if name in case.without:
                    continue
                off = judge(case, name, found[name], base, models)
                if not off <= 1:
                    problems.append(f"{case.label} {dtype}: {name} is {off:.3g} of what is allowed")
    for problem in problems:
        print("FAILED:", problem)
    print(f"{n} merges, {len(problems)} problems")
    return 1 if problems or n == 0 else 0


if __name__ == "__main__":
    sys.exit(main())

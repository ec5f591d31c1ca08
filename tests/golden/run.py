#!/usr/bin/env python3
"""run.py - every recipe of configs/, merged, against results kept in golden.json.

    run.py LORS_BINARY SOURCE_DIR [--update]

Elementwise results must be the same bytes on every machine (the hash of each tensor is kept); what
went through the low-rank solver is held to its numbers: rank, entries kept, and to 1e-5 the norm of
the update and the energy; what is made of whole spectra to the norm of the update. A recipe without
golden results is a failure. --update writes the file anew: a change of it is a change of results
and must be said in the commit. Models come from make-models, which lies beside the binary.
"""
import json
import pathlib
import shutil
import subprocess
import sys

MODELS = ("ca", "de", "es", "fr", "it")
SPECTRAL = ("tsv_m", "iso_c", "iso_cts", "star", "wudi", "knots", "svc") # bounds, not bytes


def make_models(binary, folder):
    """models/base and models/{ca, ...}: small Whisper-shaped models in f16, always the same."""
    subprocess.run([binary.parent / "make-models", folder, "--size", "demo", "--models",
                    str(len(MODELS)), "--dtype", "f16", "--seed", "7"], check=True)
    for number, name in enumerate(MODELS, 1):
        (folder / f"model-{number}").rename(folder / name)


def numbers_of(model):
    return [model.get("rank"), model.get("kept"), model.get("energy")]


def facts_of(tensor, method):
    """What must not change about a tensor: its bytes, or the numbers of its low-rank parts."""
    if any("rank" in model for model in tensor["models"]):
        return {"update_norm": tensor["update_norm"],
                "models": [numbers_of(model) for model in tensor["models"]]}
    if method in SPECTRAL and tensor["treatment"] == "method":
        return {"update_norm": tensor["update_norm"]}
    return tensor["xxh3"]


def close(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-5 * max(abs(a), abs(b))
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return all(close(x, y) for x, y in zip(a, b))
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return all(close(a[key], b[key]) for key in a)
    return a == b


def merge(binary, recipe, folder):
    out = folder / recipe.stem
    shutil.copy(recipe, folder / recipe.name)
    subprocess.run([binary, "merge", folder / recipe.name, "-o", out, "-q"], check=True)
    report = json.loads((out / "lors.json").read_text())
    return {tensor["name"]: facts_of(tensor, recipe.stem) for tensor in report["tensors"]}


def judge(name, found, golden):
    if golden is None:
        return [f"{name}: no golden result: look at the output, then run with --update"]
    if found.keys() != golden.keys():
        return [f"{name}: other tensors than in golden.json"]
    return [f"{name}: {tensor}: {found[tensor]}, not {golden[tensor]}"
            for tensor in found if not close(found[tensor], golden[tensor])]


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--update"]
    binary, source = (pathlib.Path(argument).resolve() for argument in arguments)
    store = source / "tests/golden/golden.json"
    golden = json.loads(store.read_text()) if store.exists() else {}
    folder = pathlib.Path("golden-work").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    make_models(binary, folder / "models")
    found, complaints, passed = {}, [], 0
    for recipe in sorted((source / "configs").glob("*.yaml")):
        found[recipe.stem] = merge(binary, recipe, folder)
        wrong = judge(recipe.stem, found[recipe.stem], golden.get(recipe.stem))
        passed += not wrong
        complaints += wrong[:5]
    if "--update" in sys.argv:
        store.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
        return 0
    shutil.rmtree(folder)
    print("\n".join(complaints))
    print(f"{passed} passed, {len(found) - passed} failed")
    return 1 if complaints or not found else 0


if __name__ == "__main__":
    sys.exit(main())

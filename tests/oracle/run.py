#!/usr/bin/env python3
"""run.py - `lors merge` against an independent implementation in f64.

    run.py LORS_BINARY SOURCE_DIR [--only TEXT] [-v]

Makes tiny models and recipes in oracle-work/ of the working folder, merges them, and judges every
tensor (judge.py says how) and what lors.json says of it. Needs NumPy.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

try:
    import numpy  # noqa: F401
except ImportError:
    # python3 may be a user's own; the system's may have it.
    if os.path.exists("/usr/bin/python3") and not os.environ.get("LORS_ORACLE_AGAIN"):
        os.environ["LORS_ORACLE_AGAIN"] = "1"
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    sys.exit("run.py: NumPy is missing: apt-get install python3-numpy")

import cases
import judge
import layers
import lors_oracle
import self_test
from tensors import read_model

WORDS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


def run_lors(binary, arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, check=False)
    return done.returncode, done.stderr.strip()


def merge_of(case, folder):
    """The oracle's view of a case."""
    recipe = case["recipe"]
    base = read_model(folder / recipe["base_model"]) if "base_model" in recipe else None
    if recipe["merge_method"] != "linear": # an entry that is the base is left out
        recipe = recipe | {"models": [m for m in recipe["models"]
                                      if m["model"] != recipe["base_model"]]}
    models = [read_model(folder / entry["model"]) for entry in recipe["models"]]
    options = case["options"]
    dtype = WORDS[options[options.index("--dtype") + 1]] if "--dtype" in options else None
    return lors_oracle.Merge(recipe, base, models, dtype)


def judge_report(name, expected, entry):
    """What lors.json says of a tensor."""
    if isinstance(expected, lors_oracle.Copy):
        right = entry["treatment"] in ("copied", "converted")
        return [] if right else [f"{name}: lors.json says {entry['treatment']}, not copied"]
    if not isinstance(expected, lors_oracle.LowRank):
        return []
    complaints = []
    if entry.get("reason") == "all is kept: task arithmetic":
        whole = all(part.kept == part.exact.size or part.rank == len(part.singular)
                    for part in expected.parts)
        return [] if whole else [f"{name}: lors.json says all is kept, which it is not"]
    for part, said in zip(expected.parts, entry["models"]):
        if part.exact.any() == said.get("unchanged", False):
            complaints.append(f"{name}: lors.json is wrong about an unchanged model")
        if said.get("unchanged"):
            continue
        if said["rank"] != part.rank and part.singular[said["rank"] - 1] > 1e-6 * part.norm:
            complaints.append(f"{name}: lors.json says rank {said['rank']}, not {part.rank}")
        if said["kept"] != part.kept:
            complaints.append(f"{name}: lors.json says {said['kept']} kept, not {part.kept}")
        kept = part.singular[:part.rank]
        share = float((kept ** 2).sum()) / part.norm ** 2
        if abs(said["energy"] - share) > 1e-6:
            complaints.append(f"{name}: lors.json says energy {said['energy']}, not {share}")
    return complaints


def judge_case(case, folder, out, counts):
    expected = merge_of(case, folder).expect()
    found = read_model(out)
    report = json.loads((out / "lors.json").read_text())
    said = {entry["name"]: entry for entry in report["tensors"]}
    if set(found) != set(expected) or set(said) != set(expected):
        return ["the output, lors.json and the base do not list the same tensors"]
    complaints = []
    for name, meant in expected.items():
        complaints += judge.judge(name, meant, found[name], counts)
        complaints += judge_report(name, meant, said[name])
    return complaints


def run_case(binary, case, folder, number, counts):
    """Complaints about one merge."""
    recipe = folder / f"recipe-{number}.yaml"
    recipe.write_text(json.dumps(case["recipe"], indent=1)) # JSON is YAML
    out = folder / f"out-{number}"
    code, errors = run_lors(binary, ["merge", recipe, "-o", out, "-q", *case["options"]])
    if code != 0:
        return [f"exit {code}: {errors}"]
    complaints = judge_case(case, folder, out, counts)
    code, errors = run_lors(binary, ["verify", out])
    if code != 0:
        complaints.append(f"verify: exit {code}: {errors}")
    if not complaints:
        shutil.rmtree(out)
    return complaints


def run_layers(binary, recipe, stacks, folder, counts):
    """Complaints about one recipe of layers.py."""
    path, out = folder / "layers.yaml", folder / "out-layers"
    path.write_text(json.dumps(recipe, indent=1))
    shutil.rmtree(out, ignore_errors=True)
    code, errors = run_lors(binary, ["merge", path, "-o", out, "-q", "--verify-all"])
    if code != 0:
        return [f"exit {code}: {errors}"]
    models = {name: read_model(folder / name) for name in layers.MODELS}
    expected, found = layers.expect(models, stacks), read_model(out)
    complaints = layers.judge_config(out, stacks)
    extras = {"log_scale", "extra.conv.weight", "extra.row", "extra.four", "empty", "position_ids",
              "flags"}
    if set(found) - extras != set(expected):
        return complaints + ["the output has other tensors: " +
                             ", ".join(sorted(set(found) - extras ^ set(expected))[:5])]
    for name, meant in expected.items():
        complaints += judge.judge(name, meant, found[name], counts)
    return complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("lors")
    parser.add_argument("source")
    parser.add_argument("--only", default="", help="cases whose label matches this pattern")
    parser.add_argument("-v", action="store_true", help="name the cases that pass, too")
    options = parser.parse_args()
    work = pathlib.Path("oracle-work").resolve()
    shutil.rmtree(work, ignore_errors=True)
    failures = self_test.run()
    passed, failed = len(self_test.TESTS) - len(failures), len(failures)
    for text in failures:
        print(f"FAILED self-test: {text}")
    counts = judge.Counts()
    made = {}
    for number, case in enumerate(cases.all_cases()):
        label = f"{case['recipe']['merge_method']}, {case['label']} ({case['set']})"
        if not re.search(options.only, label):
            continue
        if case["set"] not in made:
            made[case["set"]] = work / case["set"]
            made[case["set"]].mkdir(parents=True)
            cases.SETS[case["set"]](made[case["set"]])
        complaints = run_case(os.path.abspath(options.lors), case, made[case["set"]], number,
                              counts)
        passed, failed = passed + (not complaints), failed + bool(complaints)
        if complaints:
            print(f"FAILED {label}")
            print("".join(f"    {text}\n" for text in complaints[:8]), end="")
        elif options.v:
            print(f"ok     {label}")
    for label, recipe, stacks in layers.all_cases():
        if not re.search(options.only, "layers, " + label):
            continue
        folder = work / "plain"
        if not folder.exists():
            folder.mkdir(parents=True)
            cases.SETS["plain"](folder)
        complaints = run_layers(os.path.abspath(options.lors), recipe, stacks, folder, counts)
        passed, failed = passed + (not complaints), failed + bool(complaints)
        if complaints:
            print(f"FAILED layers, {label}")
            print("".join(f"    {text}\n" for text in complaints[:8]), end="")
        elif options.v:
            print(f"ok     layers, {label}")
    print(f"{counts.exact} elements exact, {counts.interval} within the error of f64, "
          f"{counts.bounded} matrices rebuilt, {counts.near} near, "
          f"{counts.either} elements at a threshold, {counts.ill_posed} matrices without a gap")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

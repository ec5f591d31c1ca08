#!/usr/bin/env python3
"""bench_methods.py - what each method's merge takes, beside the floor of its bytes.

    python3 benchmarks/bench_methods.py --size base --json benchmarks/results/methods-base.json

Every recipe of configs/ is merged over synthetic models of the size, warm. Its floor is what plain
loops need, in the same turn, to read as often as it does what it reads, with one thread into one
buffer, and to write and sync what it writes. `ns/value` is the time of all threads in computing
over the elements of all models.

The first run of each is no timed one: it is made with --verify, which computes all tensors once
more by the reference backend and compares the bytes, and `lors verify` then hashes what it wrote.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

import disk
import merges
import processes
import sources

NAMES = ("ca", "de", "es", "fr", "it")  # the models of the recipes, in this order


class Recipe:
    def __init__(self, path, folder, threads, costs):
        text = path.read_text()
        self.name = path.stem
        self.method = re.search(r"^merge_method: *(\S+)", text, re.M).group(1)
        self.cost = costs[self.method]
        self.folder, self.out = folder, folder / "method"
        mine = folder / f"method-{path.name}"
        mine.write_text(re.sub(r"\bmodels/(\w+)", lambda found: folder_of(found.group(1)), text))
        used = sorted(set(re.findall(r"\bmodels/(\w+)", text)))
        self.files = [folder / folder_of(name) / "model.safetensors" for name in used]
        self.n_models = sum(name != "base" for name in used)
        self.command = merges.lors_command(mine, self.out, threads, "--device", "cpu")
        self.runs, self.floors, self.compute = [], [], []

    def check(self):
        processes.run(self.command + ["--verify"])
        subprocess.run([merges.LORS, "verify", self.out], check=True, stdout=subprocess.DEVNULL)

    def turn(self):
        disk.read(self.files)  # into the page cache, from where the merge takes it, too
        self.read_seconds = disk.read(self.files)
        self.runs.append(processes.run(self.command, new=self.out))
        report = json.loads((self.out / "lors.json").read_text())
        stages = report["totals"]["stages"]
        self.compute.append(stages["compute"]["thread_seconds"])
        self.read, self.written = stages["read"]["bytes"], stages["write"]["bytes"]
        self.floors.append(self.floor())

    def floor(self):
        times = self.read / sum(path.stat().st_size for path in self.files)
        return times * self.read_seconds + disk.write(self.folder / "floor", self.written)

    def row(self, n_elements):
        seconds = processes.summary([run["seconds"] for run in self.runs])
        floor = processes.summary(self.floors)["median"]
        return {"recipe": self.name, "method": self.method, "cost": self.cost,
                "models": self.n_models, "bytes_read": self.read, "bytes_written": self.written,
                "seconds": seconds, "floor_seconds": floor,
                "of_floor": seconds["median"] / floor,
                "ns_per_value": processes.summary(self.compute)["median"] * 1e9 /
                                (n_elements * max(self.n_models, 1)),
                "peak_bytes": max(run["peak_bytes"] for run in self.runs)}


def folder_of(name):
    return name if name == "base" else f"model-{NAMES.index(name) + 1}"


def say(text):
    print(f"bench_methods: {text}", file=sys.stderr, flush=True)


def costs_of():
    listed = subprocess.run([merges.LORS, "methods", "--json"], check=True, capture_output=True)
    return {method["name"]: method["cost"] for method in json.loads(listed.stdout)}


def measure(args):
    folder = merges.make_models(args.work, args.size, len(NAMES), args.dtype)
    n_elements = merges.model_bytes(folder) / {"f16": 2, "bf16": 2, "f32": 4}[args.dtype]
    costs = costs_of()
    recipes = [Recipe(path, folder, args.threads, costs)
               for path in sorted((sources.ROOT / "configs").glob("*.yaml"))
               if args.only in path.stem]
    for recipe in recipes:
        say(f"checking {recipe.name}")
        recipe.check()
    for number in range(args.runs):
        say(f"turn {number + 1} of {args.runs}")
        for recipe in recipes:
            if not recipe.runs or recipe.runs[0]["seconds"] < args.long:
                recipe.turn()
    order = list(dict.fromkeys(costs.values()))
    rows = [recipe.row(n_elements) for recipe in recipes]
    return sorted(rows, key=lambda row: (order.index(row["cost"]), row["recipe"]))


def table(rows):
    lines = [f"{'recipe':<20}{'models':>7}{'read MB':>9}{'median s':>10}{'least':>7}{'most':>7}"
             f"{'floor s':>9}{'x floor':>9}{'ns/value':>10}{'peak MB':>9}"]
    cost = None
    for row in rows:
        if row["cost"] != cost:
            cost = row["cost"]
            lines += ["", cost]
        s = row["seconds"]
        lines.append(
            f"{row['recipe']:<20}{row['models']:>7}{row['bytes_read'] / 1e6:>9.0f}"
            f"{s['median']:>10.2f}{s['least']:>7.2f}{s['most']:>7.2f}{row['floor_seconds']:>9.2f}"
            f"{row['of_floor']:>9.1f}{row['ns_per_value']:>10.2f}{row['peak_bytes'] / 1e6:>9.0f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base")
    parser.add_argument("--dtype", default="f16", choices=("f16", "bf16", "f32"))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--long", type=float, default=20, help="seconds: longer runs are not "
                        "repeated")
    parser.add_argument("--only", default="", help="recipes that hold this text")
    parser.add_argument("--work", default="build/bench", help="folder for models and outputs")
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()

    rows = measure(args)
    result = {"what": f"merges by every recipe of configs/ of synthetic {args.size} models, "
                      f"{args.dtype}, warm",
              "command": "benchmarks/bench_methods.py " + " ".join(sys.argv[1:]),
              "date": time.strftime("%Y-%m-%d"), "machine": processes.machine(),
              "source_sha256": sources.of_program(), "rows": rows}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['machine']['processor']}, {result['what']}\n{table(rows)}")


if __name__ == "__main__":
    main()

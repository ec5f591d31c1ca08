#!/usr/bin/env python3
"""bench_growth.py - how time and memory of `lors merge` grow: one factor at a time.

    python3 benchmarks/bench_growth.py --json benchmarks/results/growth.json \\
        --svg benchmarks/results/growth.svg

Around a centre (Whisper base, 5 models, rank 7, density 0.2, all threads; --size and --models move
it) the size of the models, their number, rank, density and threads change, for `lors` and, where it
has the factor, `task_arithmetic`. Beside each time stands its floor: what one thread needs to read
the same files from the page cache into one buffer, and to write and sync as many bytes as the
output has, measured in the same run.

All points are run in turns, --runs times. Every point is checked before it is timed: `lors
verify`; in lors.json the rank, the entries kept and the certificate of every low-rank part;
density 1 writes the bytes of task arithmetic; every number of threads writes the same bytes.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time

import disk
import merges
import plot
import processes
import sources

METHODS = ("lors", "task_arithmetic")
FACTORS = {
    "size": ["tiny", "base", "small", "medium"],
    "models": [1, 2, 3, 4, 5, 6, 8],
    "rank": [1, 7, 16, 64, 256],
    "density": [0, 0.1, 0.2, 0.5, 0.8, 1],
    "threads": [1, 2],
}
ONLY_LORS = ("rank", "density")
EXCESS = 1e-6          # of a low-rank part over the optimum: what its certificate may say at most


class Growth:
    def __init__(self, args):
        self.args = args
        self.center = {"size": args.size, "models": args.models, "rank": 7, "density": 0.2,
                       "threads": args.threads}
        self.most = max(FACTORS["models"] + [args.models])
        self.points = {}

    def models_of(self, size):
        count = self.most if size == self.args.size else self.args.models
        return merges.make_models(self.args.work, size, count, self.args.dtype)

    # --- one point ---

    def command(self, method, point):
        folder = self.models_of(point["size"])
        whole = {"lambda": 1 / point["models"]}
        if method == "lors":
            whole |= {"rank": point["rank"], "density": point["density"]}
        path = folder / "growth.yaml"
        path.write_text(merges.recipe(method, "base", merges.numbered(point["models"]), whole,
                                      {"weight": 1}))
        out = folder / "growth"
        return merges.lors_command(path, out, point["threads"], "--device", "cpu"), out

    def add(self, method, point):
        """A point whose first run has been checked; that run is not counted."""
        key = (method, *point.values())
        if key not in self.points:
            say(f"checking {method} {point}")
            command, out = self.command(method, point)
            processes.run(command)
            report = check(method, point, out)
            stages = report["totals"]["stages"]
            self.points[key] = {
                "method": method, **point, "bytes_read": stages["read"]["bytes"],
                "bytes_written": stages["write"]["bytes"],
                "model_bytes": merges.model_bytes(self.models_of(point["size"])),
                "sha256": hash_of(report),
            }
        return self.points[key]

    def time(self):
        """Turns over all points, so that a slow minute does not fall on one of them alone."""
        runs, floors = {}, {}
        for turn in range(self.args.runs):
            say(f"turn {turn + 1} of {self.args.runs}")
            for key, point in self.points.items():
                point = {name: point[name] for name in self.center}
                command, out = self.command(key[0], point)
                runs.setdefault(key, []).append(processes.run(command, new=out))
                floors.setdefault(key, []).append(
                    self.floor(point, self.points[key]["bytes_written"]))
        for key, point in self.points.items():
            point |= {
                "seconds": processes.summary([run["seconds"] for run in runs[key]]),
                "cpu_seconds": processes.summary([run["cpu_seconds"] for run in runs[key]])
                ["median"],
                "peak_bytes": max(run["peak_bytes"] for run in runs[key]),
                "floor_seconds": processes.summary(floors[key])["median"],
            }

    def floor(self, point, written):
        folder = self.models_of(point["size"])
        files = [folder / name / "model.safetensors"
                 for name in ["base"] + merges.numbered(point["models"])]
        os.sync()
        return disk.read(files) + disk.write(folder / "floor", written)

    # --- all points ---

    def values(self, factor):
        values = FACTORS[factor]
        if factor == "threads":
            values = [value for value in values if value <= os.cpu_count()]
        if factor == "size" and self.args.largest:
            values = values[:values.index(self.args.largest) + 1]
        return values

    def run(self):
        factors = {}
        for factor in FACTORS:
            factors[factor] = [
                self.add(method, self.center | {factor: value})
                for value in self.values(factor)
                for method in (METHODS[:1] if factor in ONLY_LORS else METHODS)]
        self.compare(factors)
        self.time()
        return factors

    def compare(self, factors):
        """The checks that take two points."""
        for method in METHODS:
            hashes = {row["sha256"] for row in factors["threads"] if row["method"] == method}
            if len(hashes) != 1:
                sys.exit(f"bench_growth: {method}: other threads, other bytes")
        dense = self.add("lors", self.center | {"density": 1})
        plain = self.add("task_arithmetic", self.center)
        if dense["sha256"] != plain["sha256"]:
            sys.exit("bench_growth: density 1 is not task arithmetic")


def say(text):
    print(f"bench_growth: {text}", file=sys.stderr, flush=True)


def hash_of(report):
    return next(file["sha256"] for file in report["files"] if file["name"] == "model.safetensors")


def check(method, point, out):
    """The report of a merge that is as it should be."""
    subprocess.run([merges.LORS, "verify", out], check=True, stdout=subprocess.DEVNULL)
    report = json.loads((out / "lors.json").read_text())
    parts = 0
    for tensor in report["tensors"]:
        if method != "lors" or tensor["treatment"] != "method":
            continue
        size = math.prod(tensor["shape"])
        for model in tensor["models"]:
            wanted = (min(point["rank"], *tensor["shape"]), math.floor(point["density"] * size))
            if point["density"] < 1 and (model["rank"], model["kept"]) != wanted:
                sys.exit(f"bench_growth: {tensor['name']}: {model}, not rank and count {wanted}")
            if model.get("excess", 0) > EXCESS:
                sys.exit(f"bench_growth: {tensor['name']}: excess {model['excess']}")
            parts += 1
    if method == "lors" and not parts:
        sys.exit("bench_growth: nothing was decomposed")
    return report


# --- what comes out ---

def table(result):
    lines = [f"{result['machine']['processor']}, centre {result['center']}, {result['dtype']}", "",
             f"{'factor':<9}{'value':>8}  {'method':<17}{'read MB':>9}{'wrote MB':>9}"
             f"{'median s':>10}{'least':>8}{'most':>8}{'floor s':>9}{'x floor':>8}{'peak MB':>9}"]
    for factor, rows in result["factors"].items():
        for row in rows:
            s = row["seconds"]
            lines.append(
                f"{factor:<9}{row[factor]:>8}  {row['method']:<17}{row['bytes_read'] / 1e6:>9.0f}"
                f"{row['bytes_written'] / 1e6:>9.0f}{s['median']:>10.2f}{s['least']:>8.2f}"
                f"{s['most']:>8.2f}{row['floor_seconds']:>9.2f}"
                f"{s['median'] / row['floor_seconds']:>8.1f}{row['peak_bytes'] / 1e6:>9.0f}")
    return "\n".join(lines)


def curves(rows, place, field):
    found = []
    for method, colour in zip(METHODS, plot.COLOURS):
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        if field == "seconds":
            points = [(place(row), row["seconds"]["median"]) for row in mine]
            spread = [(row["seconds"]["least"], row["seconds"]["most"]) for row in mine]
        else:
            points = [(place(row), row["peak_bytes"] / 1e6) for row in mine]
            spread = [(point[1], point[1]) for point in points]
        found.append({"points": points, "spread": spread, "colour": colour})
    if field == "seconds":
        mine = [row for row in rows if row["method"] == METHODS[0]]
        found.append({"points": [(place(row), row["floor_seconds"]) for row in mine],
                      "colour": plot.GREY, "dashed": True})
    return found


def draw(result):
    """Time above, memory below, a column for each factor."""
    words = {"size": "MB of one model", "models": "models", "rank": "rank", "density": "density",
             "threads": "threads"}
    rows = []
    for field, unit in (("seconds", "seconds"), ("peak_bytes", "peak MB")):
        row = []
        for factor, points in result["factors"].items():
            def place(point, factor=factor):
                return point["model_bytes"] / 1e6 if factor == "size" else point[factor]
            marks = None
            if factor in ("rank", "threads", "models"):
                marks = [(value, value) for value in sorted({point[factor] for point in points})]
            if factor == "size":
                marks = [(place(point), f"{place(point):.0f}") for point in points]
            row.append({"title": f"{unit} by {factor}", "x": words[factor],
                        "log_x": factor in ("size", "rank"), "ticks": marks,
                        "log_y": factor in ("size", "rank") and field == "seconds",
                        "lines": curves(points, place, field)})
        rows.append(row)
    legend = [(METHODS[0], plot.COLOURS[0], False), (METHODS[1], plot.COLOURS[1], False),
              ("floor: one thread reads and writes the same bytes", plot.GREY, True)]
    center = result["center"]
    title = (f"lors merge around Whisper {center['size']}, {center['models']} models, rank "
             f"{center['rank']}, density {center['density']}, {center['threads']} threads, "
             f"{result['dtype']}")
    return plot.page(title, legend, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base")
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--dtype", default="f16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--largest", choices=FACTORS["size"], help="leave out larger sizes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", default="build/growth", help="folder for models and outputs")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--svg", help="write the charts here")
    args = parser.parse_args()

    growth = Growth(args)
    factors = growth.run()
    result = {
        "what": "time and memory of lors merge, one factor at a time",
        "command": "benchmarks/bench_growth.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"), "machine": processes.machine(),
        "source_sha256": sources.of_program(), "center": growth.center, "dtype": args.dtype,
        "factors": factors,
    }
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    if args.svg:
        pathlib.Path(args.svg).write_text(draw(result))
    print(table(result))


if __name__ == "__main__":
    main()

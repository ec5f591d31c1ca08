#!/usr/bin/env python3
"""bench_run.py - whole merges, measured: time per stage, peak memory, share hidden by overlap.

    benchmarks/bench_run.py --size small --models 5 --method lors --rank 7 -o results/small.json

Makes synthetic models with build/make-models (kept in --work for the next run), merges them with
build/lors several times, verifies the output before any figure counts, and writes one JSON with
the machine, the commands, the median and the spread. Python's standard library only.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import disk
import merges
import processes
import sources


def write_recipe(args, folder):
    whole = {"lors": {"rank": args.rank, "density": args.density},
             "ties": {"density": args.density}}.get(args.method, {"normalize": "true"})
    path = folder / f"{args.method}.yaml"
    path.write_text(merges.recipe(args.method, "base", merges.numbered(args.models), whole,
                                  {"weight": 1}))
    return path


def merge(args, recipe, out):
    options = (["--device", args.device] if args.device else []) + ["--io", args.io]
    run = processes.run(merges.lors_command(recipe, out, args.threads, *options), new=out)
    report = json.loads((out / "lors.json").read_text())
    totals = report["totals"]
    stages = totals["stages"]
    busy = sum(stage["thread_seconds"] for stage in stages.values())
    return {"device": report["device"], "device_detail": report["device_detail"],
            "seconds": run["seconds"], "cpu_seconds": run["cpu_seconds"],
            "peak_bytes": run["peak_bytes"], "stages": stages,
            "busy_over_wall": busy / run["seconds"],
            # Of the stages' time, what passed while another stage was at work.
            "hidden_share": max(0.0, 1 - run["seconds"] / busy) if busy else 0.0,
            "least_energy": totals["least_energy"]}


def cold_turn(args, folder, recipe, out):
    """A merge of models that are not in the page cache, and plain loops over the same bytes."""
    files = [folder / name / "model.safetensors"
             for name in ["base"] + merges.numbered(args.models)]
    processes.remove(out)  # before the cache is emptied
    disk.drop(files)
    run = merge(args, recipe, out)
    written = (out / "model.safetensors").stat().st_size
    disk.drop(files)
    plain = disk.read(files)
    disk.drop(files)
    run["plain"] = {"read": plain, "direct_read": disk.read(files, direct=True),
                    "write": disk.write(folder / "plain", written)}
    fastest = min(plain, run["plain"]["direct_read"]) + run["plain"]["write"]
    run["of_plain"] = (plain + run["plain"]["write"]) / run["seconds"]
    run["of_fastest_plain"] = fastest / run["seconds"]
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small")
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--dtype", default="f16")
    parser.add_argument("--method", default="lors")
    parser.add_argument("--rank", default="7")
    parser.add_argument("--density", default="0.2")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", help="as for `lors merge` (default: auto)")
    parser.add_argument("--io", default="auto", help="as for `lors merge`")
    parser.add_argument("--cold", action="store_true",
                        help="drop the models from the page cache before each run, and time plain "
                        "loops that read and write as many bytes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", default="build/bench", help="folder for models and outputs")
    parser.add_argument("-o", "--output", help="write the JSON here")
    args = parser.parse_args()

    folder = merges.make_models(args.work, args.size, args.models, args.dtype)
    recipe, out = write_recipe(args, folder), folder / "merged"
    runs = []
    for number in range(args.runs):
        runs.append(cold_turn(args, folder, recipe, out) if args.cold else
                    merge(args, recipe, out))
        if number == 0:
            subprocess.run([merges.LORS, "verify", out], check=True, stdout=sys.stderr)
    times = [run["seconds"] for run in runs]
    read = runs[0]["stages"]["read"]["bytes"]
    result = {
        "what": f"{args.method} merge of {args.models} synthetic {args.size} models, {args.dtype}",
        "command": "benchmarks/bench_run.py " + " ".join(sys.argv[1:]),
        "recipe": recipe.read_text(), "date": time.strftime("%Y-%m-%d"),
        "machine": processes.machine(),
        "device": runs[0]["device"], "device_detail": runs[0]["device_detail"],
        "source_sha256": sources.of_program(), "bytes_read": read,
        "seconds": {"median": statistics.median(times), "least": min(times), "most": max(times)},
        "peak_bytes": max(run["peak_bytes"] for run in runs), "runs": runs,
    }
    if args.cold:
        for key in ("of_plain", "of_fastest_plain"):
            result[key] = processes.summary([run[key] for run in runs])
    if result["device"].startswith("cuda"):
        result["kernels_sha256"] = sources.of_kernels()
    text = json.dumps(result, indent=1) + "\n"
    if args.output:
        pathlib.Path(args.output).write_text(text)
    print(text if not args.output else json.dumps(
        {key: result[key] for key in ("what", "seconds", "peak_bytes", "of_plain",
                                      "of_fastest_plain") if key in result}, indent=1))


if __name__ == "__main__":
    main()

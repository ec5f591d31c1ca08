#!/usr/bin/env python3
"""evidence.py - are the committed measurements of GPUs those of the kernels as they are now?

    evidence.py SOURCE

Says "stale" and which, and exits with 77 (skipped): a change of the kernels is no failure, but its
figures must be measured anew. A result that names a CUDA device and no hash is a failure.
"""
import json
import pathlib
import sys


def main():
    root = pathlib.Path(sys.argv[1])
    sys.path.insert(0, str(root / "benchmarks"))
    import sources # of the tree under test

    now, stale, checked = sources.of_kernels(), [], 0
    for path in sorted((root / "benchmarks/results").glob("*.json")):
        result = json.loads(path.read_text())
        if not str(result.get("device", "")).startswith("cuda"):
            continue
        checked += 1
        if "kernels_sha256" not in result:
            sys.exit(f"{path.name}: names a CUDA device, but not the kernels it ran")
        if result["kernels_sha256"] != now:
            stale.append(path.name)
    if stale:
        print(f"stale: the kernels have changed since {', '.join(stale)} were measured; "
              "run benchmarks/measure_gpu.sh again")
        return 77
    if checked == 0:
        print("skipped: no measurement of a GPU has been committed")
        return 77
    print(f"{checked} measurements of GPUs, all of these kernels")
    return 0


if __name__ == "__main__":
    sys.exit(main())

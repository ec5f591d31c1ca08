#!/usr/bin/env python3
"""run.py - what the benchmarks stand on, without other programs and without timing anything.

    run.py LORS_BINARY SOURCE_DIR

Recipes that bench_peers writes are merged and judged, and its judge must reject an output in which
one number is off; what is said of a process must hold; a chart must be where its numbers say.
"""
import argparse
import pathlib
import shutil
import sys
import xml.etree.ElementTree as xml

METHODS = ("task_arithmetic", "linear", "slerp", "ties", "magnitude_prune")


def judged(group, folder, out):
    job = {"method": group.method, "folder": str(folder), "models": group.count,
           "weight": group.weight, "density": 0.2, "t": 0.5,
           "outputs": [{"label": "lors", "path": str(out), "unit": 2.0 ** -53}]}
    return judge.judge_by_formula(job)[0]


def spoil(path, by):
    """Change one number in the middle of the data, which is of the order of 0.02."""
    raw = bytearray(path.read_bytes())
    at = len(raw) // 4 * 2
    number = np.frombuffer(bytes(raw[at:at + 2]), "<f2") + np.float16(by)
    raw[at:at + 2] = number.astype("<f2").tobytes()
    path.write_bytes(raw)


def test_judge(folder):
    args = argparse.Namespace(size="demo", models=3, dtype="f16", threads=1, work=folder)
    for method in METHODS:
        group = bench_peers.Group(args, None, method)
        job = group.jobs[0]
        processes.run(job.command)
        good = judged(group, group.folder, job.out)
        if not good["right"] or good["nearest"] + good["either"] < good["elements"]:
            yield f"{method}: a right output is judged {good}"
        for by in (2.0 ** -12, -(2.0 ** -11)):  # too large, then too small
            spoil(job.out, by)
            bad = judged(group, group.folder, job.out)
            if bad["right"] or bad["wrong"] != 1:
                yield f"{method}: an output with one wrong number is judged {bad}"


def test_growth(folder):
    args = argparse.Namespace(size="demo", models=2, dtype="f16", threads=1, work=folder)
    growth = bench_growth.Growth(args)
    command, out = growth.command("lors", growth.center)
    processes.run(command)
    report = bench_growth.check("lors", growth.center, out)
    if bench_growth.hash_of(report) is None:
        yield "growth: no hash"
    try:
        bench_growth.check("lors", growth.center | {"rank": 5}, out)
        yield "growth: another rank than asked for is not seen"
    except SystemExit:
        pass


def test_methods(folder):
    args = argparse.Namespace(size="demo", dtype="f16", threads=1, runs=2, long=20, only="slerp",
                              work=folder)
    rows = {row["recipe"]: row for row in bench_methods.measure(args)}
    if set(rows) != {"slerp", "nuslerp", "multislerp"}:
        yield f"methods: slerp was asked for, {sorted(rows)} measured"
        return
    counts = {name: row["models"] for name, row in rows.items()}
    if counts != {"slerp": 1, "nuslerp": 2, "multislerp": 3}:
        yield f"methods: the recipes are said to have {counts} models"
    for name, row in rows.items():
        size = rows["slerp"]["bytes_written"]
        if row["bytes_written"] != size or row["bytes_read"] < (row["models"] + 1) * size * 0.9:
            yield f"methods: {name}: {row}"
        if row["seconds"]["n"] != 2 or not row["of_floor"] > 0 or not row["ns_per_value"] > 0:
            yield f"methods: {name}: {row}"


def test_process():
    code = "import time; x = bytearray(b'x') * (64 << 20); time.sleep(0.2)"
    found = processes.run([sys.executable, "-c", code])
    if not 64 << 20 <= found["private_bytes"] <= found["peak_bytes"] <= 256 << 20:
        yield f"process: 64 MB and the interpreter are said to be {found}"
    if found["seconds"] < 0.2:
        yield f"process: took {found['seconds']} s"
    failed = processes.run([sys.executable, "-c", "raise SystemExit('no')"], quiet=True)
    if failed["status"] != 1 or failed["output"].strip() != "no":
        yield f"process: a failure is said to be {failed}"
    try:
        processes.run(["false"])
        yield "process: a failure passes"
    except SystemExit:
        pass


def test_plot():
    scale = plot.Scale([1, 100], True, 0, 100)
    middle = scale.at(10)
    if abs(middle - 50) > 1e-9 or scale.ticks() != [1, 2, 5, 10, 20, 50, 100]:
        yield f"plot: 10 of 1 to 100 is at {middle}, ticks {scale.ticks()}"
    panel = {"title": "a & b", "x": "x", "log_x": False, "log_y": False,
             "lines": [{"points": [(0, 1), (1, 2)], "spread": [(1, 1), (1, 3)],
                        "colour": plot.COLOURS[0]}]}
    root = xml.fromstring(plot.page("<title>", [("curve", plot.COLOURS[0], False)], [[panel] * 2]))
    circles = [node for node in root.iter() if node.tag.endswith("circle")]
    if len(circles) != 4 or float(circles[0].get("cy")) <= float(circles[1].get("cy")):
        yield "plot: the points are not where their numbers say"


def main():
    folder = pathlib.Path("benchmarks-work").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    merges.LORS, merges.MAKE_MODELS = binary, binary.parent / "make-models"
    tests = [test_judge(folder), test_growth(folder), test_methods(folder), test_process(),
             test_plot()]
    complaints = [list(test) for test in tests]
    for complaint in sum(complaints, []):
        print(complaint)
    failed = sum(bool(found) for found in complaints)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    binary, source = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    sys.path[:0] = [str(source / "benchmarks"), str(source / "benchmarks/peers")]
    import numpy as np

    import bench_growth
    import bench_methods
    import bench_peers
    import judge
    import merges
    import plot
    import processes
    sys.exit(main())

#!/usr/bin/env python3
"""heap.py - allocations of the whole process fail in turn: also those of libfyaml, OpenBLAS, libc.

    heap.py LORS LIBRARY [--stride N] [--looks] [--at N [--on]]

Runs `lors merge --force` of tiny models over an older output, with LIBRARY (heap.c) preloaded. Each
run must end with exit code 0 or 7, leave the old output or a new one that verifies, and nothing
beside it. Then the commands that only look: each ends with exit code 7 and a sentence, or as ever,
having printed all that it ever does. Standard library only.

Two points fail with libfyaml 0.7.12, --at 17 and --at 18, which fy_input_create allocates:
fy_parse_input_append uses its result without looking at it. Every function that gives a parser its
text goes that way, so there is no way around it.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_models  # noqa: E402

RECIPE = """merge_method: lors
base_model: models/base
models: [{model: models/a}, {model: models/b}]
parameters: {rank: 2, density: 0.2}
"""

LOOKS = ("compare models/base models/a", "compare models/base models/a --json",
         "inspect models/a", "inspect models/a --json", "verify out", "verify out --json",
         "methods --json", "methods lors", "plan recipe.yaml --device cpu --threads 1",
         "plan recipe.yaml --device cpu --threads 1 --json", "devices --json", "methods no-such")


def make_models():
    script = tiny_models.__file__
    for name, more in (("base", []), ("a", ["--delta-of", "base", "--scale", "1e-2"]),
                       ("b", ["--delta-of", "base", "--scale", "1e-2"])):
        subprocess.run([sys.executable, script, "models", "--name", name, "--seed",
                        str(ord(name[0])), *more], check=True)
    pathlib.Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")


def lors(options, command, **environment):
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1", LD_PRELOAD=options.library,
                       **environment)
    return subprocess.run([options.lors, *command.split()], env=environment, capture_output=True,
                          timeout=120, check=False)


def merge(options, **environment):
    return lors(options, "merge recipe.yaml -o out --force --threads 1", **environment)


def snapshot():
    return {path.name: path.read_bytes() for path in pathlib.Path("out").iterdir()}


def what_is_wrong(options, before, run):
    """None, or what is wrong after the run."""
    if run.returncode not in (0, 7):
        return f"exit code {run.returncode}: {run.stderr[-300:].decode(errors='replace')}"
    if run.returncode == 7 and b"error:" not in run.stderr:
        return "exit code 7 without a sentence"
    left = [name for name in os.listdir(".") if name.startswith(".out")]
    if left:
        return f"left: {', '.join(left)}"
    if run.returncode == 7:
        return None if snapshot() == before else "the old output has changed"
    verified = subprocess.run([options.lors, "verify", "out"], capture_output=True, check=False)
    return None if verified.returncode == 0 else "the new output does not verify"


def n_allocations_of(run):
    counted = re.search(rb"allocations (\d+)\n", run.stderr)
    return int(counted.group(1)) if counted else None


def what_is_wrong_with_look(usual, run):
    """None, or what is wrong after a command that changes nothing."""
    if run.returncode == 7:
        return None if b"error:" in run.stderr else "exit code 7 without a sentence"
    if run.returncode != usual.returncode:
        return f"exit code {run.returncode}: {run.stderr[-300:].decode(errors='replace')}"
    return None if run.stdout == usual.stdout else "it does not print all"


def run_looks(options):
    n_all = n_tried = n_failed = n_refused = 0
    for command in LOOKS:
        usual = lors(options, command, FAIL_COUNT="1")
        n_allocations = n_allocations_of(usual)
        n_all += n_allocations
        for n, on in points(options, n_allocations):
            run = lors(options, command, FAIL_AT=str(n), **({"FAIL_ON": "1"} if on else {}))
            n_tried, n_refused = n_tried + 1, n_refused + (run.returncode == 7)
            wrong = what_is_wrong_with_look(usual, run)
            if wrong:
                n_failed += 1
                print(f"FAILED  lors {command}, --at {n}{' --on' if on else ''}: {wrong}")
    print(f"heap looking: allocations {n_all}, faults {2 * n_all}, tried {n_tried}, "
          f"refused {n_refused}")
    return n_failed == 0 and n_refused > 0


def points(options, n_allocations):
    if options.at:
        return [(options.at, options.on)]
    return [(n, on) for n in range(1, n_allocations + 1, options.stride) for on in (False, True)]


def run_all(options):
    make_models()
    n_allocations, n_failed, n_refused = n_allocations_of(merge(options, FAIL_COUNT="1")), 0, 0
    if n_allocations is None:
        print("skipped: the library cannot be preloaded here")
        return 77
    tried = [] if options.looks else points(options, n_allocations)
    for n, on in tried:
        before = snapshot()
        run = merge(options, FAIL_AT=str(n), **({"FAIL_ON": "1"} if on else {}))
        n_refused += run.returncode == 7
        wrong = what_is_wrong(options, before, run)
        if wrong:
            n_failed += 1
            print(f"FAILED  --at {n}{' --on' if on else ''}: {wrong}")
    print(f"heap replace: allocations {n_allocations}, faults {2 * n_allocations}, "
          f"tried {len(tried)}, refused {n_refused}")
    if not options.looks and (n_failed or not (n_refused or options.at)):
        return 1
    return 0 if options.at or run_looks(options) else 1


def main():
    parser = argparse.ArgumentParser(description="Let allocations of the whole process fail.")
    parser.add_argument("lors", type=os.path.abspath)
    parser.add_argument("library", type=os.path.abspath)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--looks", action="store_true", help="only the commands that look")
    parser.add_argument("--at", type=int, help="only this one, of the merge")
    parser.add_argument("--on", action="store_true", help="all later ones fail, too")
    options = parser.parse_args()
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a sync there takes no time
    with tempfile.TemporaryDirectory(prefix="lors-heap-", dir=shm) as work:
        os.chdir(work)
        try:
            return run_all(options)
        finally:
            os.chdir("/")


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""run.py - do the tests notice faults? One mutant after another is built and must fail a test.

    run.py ROOT [--scratch FOLDER] [--trees N] [--only NAME]... [--json FILE]

The sources are copied into FOLDER (the working tree, without what git ignores) once for each of N
trees, which are built side by side and kept: a second run builds little. A test that fails without
a mutant does not count, and a mutant that does not compile is no success. Results go to FILE as
they come. Exit code 1 if a mutant survives or cannot be judged.
"""
import argparse
import collections
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import mutants

LEAST_SECONDS = 20  # that tests may take, and ten times of what they take without a mutant
OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DLORS_CUDA=OFF", "-DLORS_BUILD_BENCHMARKS=ON",
           f"-DPython3_EXECUTABLE={sys.executable}"]


def targets_of(tests):
    """What is built for tests."""
    targets = {test for test in tests if test.startswith(("test_", "fuzz_"))}
    if any(test.startswith("faults_") for test in tests):
        targets.add("fault_loops")
    return sorted(targets) + (["make-models"] if "golden" in tests else []) + (
        ["lors"] if {"golden", "oracle", "cli", "formulas", "bad"} & set(tests) else [])


HUNG = -1000  # what call returns for a command that was ended


def call(command, seconds=None):
    """Run it to its end, or end it with all that it has started."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True)
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return subprocess.CompletedProcess(command, HUNG, said)
    return subprocess.CompletedProcess(command, process.returncode, said)


class Tree:
    """A copy of the sources with a build of its own."""

    def __init__(self, root, folder, jobs):
        self.root, self.source, self.build = root, folder / "source", folder / "build"
        self.jobs, self.costs = jobs, collections.Counter()

    def copy_sources(self):
        listed = call(["git", "-C", self.root, "ls-files", "-co", "--exclude-standard"]).stdout
        for name in listed.splitlines():
            here, there = self.root / name, self.source / name
            if here.is_file() and not (there.is_file()
                                       and there.read_bytes() == here.read_bytes()):
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(here, there)

    def prepare(self, tests):
        self.copy_sources()
        done = call(["cmake", "-S", self.source, "-B", self.build, "-G", "Ninja", *OPTIONS])
        return done if done.returncode else self.compile(tests)

    def compile(self, tests):
        return call(["cmake", "--build", self.build, "--parallel", self.jobs, "--target",
                     *targets_of(tests)])

    def patience(self, tests):
        """What hangs has failed, too. Before anything is known there is no limit."""
        return LEAST_SECONDS + 10 * sum(self.costs[test] for test in tests) if self.costs else None

    def failing(self, tests, *options):
        """Names of tests that fail; None: they could not be run."""
        work = self.build / "tests" / "work"
        for test in tests:  # a test that fails may leave things behind
            call(["chmod", "-R", "u+rwX", work / test])
            shutil.rmtree(work / test, ignore_errors=True)
            (work / test).mkdir(parents=True)
        done = call(["ctest", "--test-dir", self.build, "-R", f"^({'|'.join(tests)})$",
                     "--no-tests=error", *options], self.patience(tests))
        if done.returncode == HUNG:
            return ["one hangs"]
        failed = re.findall(r"Test +#\d+: (\w+) \.+[^*\n]*\*\*\*(\w+)", done.stdout)
        if any(how == "Not" for _, how in failed) or (done.returncode != 0 and not failed):
            return None
        return [name for name, _ in failed]

    def judge(self, mutant, useless):
        """killed, SURVIVED or BROKEN, and by what."""
        path = self.source / mutant.file
        tests = [test for test in mutant.tests.split("|") if test not in useless]
        if not tests:
            return "BROKEN", "its tests fail without it"
        text = path.read_text(encoding="utf-8")
        path.write_text(mutant.applied(text), encoding="utf-8")
        try:
            if self.compile(tests).returncode:
                return "BROKEN", "does not compile"
            failed = self.failing(tests, "--stop-on-failure")
        finally:
            path.write_text(text, encoding="utf-8")
        if failed is None:
            return "BROKEN", "tests cannot be run"
        return ("killed", failed[0]) if failed else ("SURVIVED", mutant.tests)


class Results:
    """What has been found, from several threads."""

    def __init__(self, path, total, about):
        self.path, self.total, self.about = path, total, about
        self.lock, self.start, self.rows = threading.Lock(), time.monotonic(), []

    def add(self, mutant, verdict, by, seconds):
        with self.lock:
            self.rows.append((mutant, verdict, by))
            print(f"{mutant.name:24} {mutant.kind:12} {verdict:9} {seconds:5.1f} s  {by}",
                  flush=True)
            self.write()

    def names(self, verdict):
        return sorted(mutant.name for mutant, found, _ in self.rows if found == verdict)

    def write(self):
        if self.path:
            figures = {"killed": len(self.names("killed")), "total": len(self.rows),
                       "listed": self.total, "survived": self.names("SURVIVED"),
                       "broken": self.names("BROKEN"),
                       "seconds": round(time.monotonic() - self.start), **self.about}
            self.path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def read_costs(build):
    """Seconds that each test took."""
    costs = collections.Counter()
    for line in (build / "Testing/Temporary/CTestCostData.txt").read_text().splitlines():
        words = line.split()
        if len(words) == 3:
            costs[words[0]] = float(words[2])
    return costs


def by_file(chosen, costs):
    """Mutants in groups of one file, those with quick tests first: soon much is known."""
    groups = collections.defaultdict(list)
    for one in chosen:
        groups[one.file].append(one)

    def cost(group):
        return sum(costs[test] for one in group for test in one.tests.split("|")) / len(group)

    return sorted(groups.values(), key=cost)


def work(tree, groups, useless, results):
    """Take files one after another: of two mutants of one file the second builds less."""
    while True:
        try:
            group = groups.get_nowait()
        except queue.Empty:
            return
        for mutant in group:
            start = time.monotonic()
            verdict, by = tree.judge(mutant, useless)
            results.add(mutant, verdict, by, time.monotonic() - start)


def in_threads(function, arguments):
    threads = [threading.Thread(target=function, args=one, daemon=True) for one in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def prepare(trees, tests):
    """Build all trees. Returns the tests that fail as things are: they tell nothing."""
    built = {}
    in_threads(lambda tree: built.update({tree: tree.prepare(tests)}), [(tree,) for tree in trees])
    for tree in trees:
        if built[tree].returncode:
            sys.exit(f"{tree.source}: cannot be built\n{built[tree].stdout}")
    failed = trees[0].failing(tests, "--parallel", 2)
    if failed is None:
        sys.exit("the tests cannot be run")
    for tree in trees:
        tree.costs = read_costs(trees[0].build)
    for test in failed:
        print(f"{test} fails without a mutant, and cannot judge one", flush=True)
    return failed


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--scratch", type=pathlib.Path)
    parser.add_argument("--trees", type=int, default=1)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--json", type=pathlib.Path)
    return parser.parse_args()


def main():
    given = parse()
    chosen = [one for one in mutants.ALL if not given.only or one.name in given.only]
    unfit = mutants.problems(given.root)
    if unfit or not chosen:
        sys.exit("\n".join(unfit) or "no mutant has such a name")
    tests = sorted({test for one in chosen for test in one.tests.split("|")})
    scratch = given.scratch or pathlib.Path(tempfile.mkdtemp(prefix="lors-mutants-"))
    trees = [Tree(given.root.resolve(), scratch.resolve() / str(i), max(1, 2 // given.trees))
             for i in range(given.trees)]
    commit = call(["git", "-C", given.root, "rev-parse", "HEAD"]).stdout.strip()
    about = {"command": f"tests/mutants/run.py . --trees {given.trees}", "commit": commit}
    print(f"{len(chosen)} mutants, {len(tests)} tests, in {scratch}", flush=True)
    useless = prepare(trees, tests)
    groups = queue.Queue()
    for group in by_file(chosen, trees[0].costs):
        groups.put(group)
    results = Results(given.json, len(chosen), about)
    in_threads(work, [(tree, groups, useless, results) for tree in trees])
    left = len(chosen) - len(results.names("killed"))
    print(f"{len(results.names('killed'))} of {len(results.rows)} mutants killed")
    for name in results.names("SURVIVED") + results.names("BROKEN"):
        print(f"  not killed: {name}")
    if not given.scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""run.py - give the program bad inputs, and see that it refuses each of them rightly.

    run.py LORS [--long] [--no-memory] [--slowness N] [--jobs N] [--list] [-v] [PATTERN ...]

The inputs are written by the modules cases_*.py, each into a folder of its own; harness.py has the
rules that hold for all of them. PATTERN: parts of names, such as "header/" or "035". --no-memory
and --slowness are for programs built with sanitizers. --long takes the inputs that need minutes and
gigabytes of (sparse) files instead of the others. Exit code: 1 if a rule was broken.
"""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import sys

import cases_files
import cases_foreign
import cases_header
import cases_index
import cases_layers
import cases_long
import cases_mismatch
import cases_numerics
import cases_recipe
import harness

MODULES = (cases_header, cases_index, cases_foreign, cases_recipe, cases_layers,
           cases_mismatch, cases_files, cases_numerics)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lors", type=pathlib.Path)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--no-memory", action="store_true", help="do not judge memory")
    parser.add_argument("--slowness", type=float, default=1.0, help="factor on bounds of time")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the names only")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what commands say")
    parser.add_argument("patterns", nargs="*")
    return parser.parse_intermixed_args()


def collect(long, patterns):
    modules = (cases_long,) if long else MODULES
    cases = [case for module in modules for case in module.cases()]
    names = collections.Counter(case.title for case in cases)
    twice = [name for name, n in names.items() if n > 1]
    if twice:
        sys.exit(f"run.py: two cases of one name: {' '.join(twice)}")
    chosen = [case for case in cases
              if not patterns or any(pattern in case.title for pattern in patterns)]
    if not chosen:
        sys.exit("run.py: no case has such a name")
    return chosen


def baseline(lors):
    """Resident bytes of a command that does nothing, measured as the others are."""
    scene = harness.inputs.Scene(".")
    ended = harness.run_command(lors, harness.Command(("--version",), 0), scene)
    if ended.code != 0:
        sys.exit(f"run.py: {lors} --version ends with {ended.code}")
    return ended.memory


def summarise(outcomes):
    """The table of classes, and the line that sums up. Returns the number of failed cases."""
    table = collections.defaultdict(lambda: [0, 0])
    failed = [outcome for outcome in outcomes if outcome.faults]
    skipped = [outcome for outcome in outcomes if outcome.skipped]
    good = [outcome for outcome in outcomes if not outcome.faults and not outcome.skipped]
    for outcome in good:
        table[outcome.case.number][0 if outcome.case.is_bad else 1] += 1
    print("inputs per class, refused + accepted:")
    cells = [f"{number}: {bad}" + (f"+{odd}" if odd else "")
             for number, (bad, odd) in sorted(table.items())]
    for i in range(0, len(cells), 12):
        print("  " + "  ".join(f"{cell:<9}" for cell in cells[i:i + 12]).rstrip())
    for outcome in skipped:
        print(f"skipped: {outcome.case.title}: {outcome.skipped}")
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    largest = max(outcomes, key=lambda outcome: outcome.memory)
    print(f"slowest: {slowest.seconds:.2f} s ({slowest.case.title}); most memory: "
          f"{largest.memory / 1e6:.0f} MB above a command that does nothing "
          f"({largest.case.title})")
    n_bad = sum(bad for bad, _ in table.values())
    n_odd = sum(odd for _, odd in table.values())
    verdict = "all refused rightly" if not failed else f"{len(failed)} cases failed"
    print(f"{n_bad} bad inputs and {n_odd} odd but legal ones of {len(table)} classes: {verdict}")
    return len(failed)


def main():
    arguments = parse_arguments()
    cases = collect(arguments.long, arguments.patterns)
    if arguments.list:
        print("\n".join(case.title for case in cases))
        return 0
    lors = os.fsdecode(arguments.lors.resolve(strict=True))
    limits = harness.Limits(baseline(lors), not arguments.no_memory, arguments.slowness)
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for outcome in pool.map(
                lambda case: harness.run_case(case, lors, limits, arguments.verbose), cases):
            outcomes.append(outcome)
            if outcome.faults:
                print("\n".join([f"FAIL  {outcome.case.title}"] +
                                [f"  {fault}" for fault in outcome.faults]), flush=True)
    return 1 if summarise(outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())

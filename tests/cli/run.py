#!/usr/bin/env python3
"""run.py - run the program's cases and compare what they print, exactly.

    run.py LORS SOURCE [--update] [NAME ...]

LORS is the program, SOURCE the source folder. A case is cases/NAME.sh, a bash script that runs in a
temporary folder of its own, after cases/prelude.bash. Beside it lies what it must print and end
with: NAME.stdout, NAME.stderr (missing: nothing) and NAME.exit (missing: 0). --update writes these
files anew from what is printed: read the difference before you keep it.

What differs from run to run or between machines is normalised on both sides by FILTERS below, and
by nothing else: durations, rates, amounts of memory, hashes, and the names of folders. Programs run
with LC_ALL=C, TERM=dumb, without NO_COLOR, and with stdin empty.
"""
import argparse
import concurrent.futures
import difflib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

FILTERS = [
    (r"\b\d+\.\d\d s\b", "SECONDS s"),                              # merge: time
    (r"\b\d+(\.\d+)? [kMGT]?B/s", "RATE"),                          # merge, progress: speed
    (r"(?m)^( *peak memory +)\d\S* \w+$", r"\1BYTES"),              # merge
    (r"(?m)^(memory +)\d\S* \w+ at most", r"\1BYTES at most"),      # plan
    (r'("(?:peak|max)_[a-z_]*bytes": )\d+', r"\1BYTES"),            # plan --json, merge --json
    (r"\bsha256 [0-9a-f]{64}\b", "sha256 HASH"),                   # verify: of computed numbers
    (r'("\w*seconds": )[0-9.e+-]+', r"\1SECONDS"),                  # merge --json
]
TIMEOUT_SECONDS = 120


def normalise(text, folders):
    for folder, name in folders:
        text = text.replace(str(folder), name)
    for pattern, replacement in FILTERS:
        text = re.sub(pattern, replacement, text)
    return text


def run_case(script, lors, source):
    """Returns stdout, stderr and exit code of a case."""
    with tempfile.TemporaryDirectory(prefix="lors-cli-") as temp:
        temp = pathlib.Path(temp).resolve()
        work, bin_folder = temp / "work", temp / "bin"
        work.mkdir()
        bin_folder.mkdir()
        (bin_folder / "lors").symlink_to(lors)
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        environment |= {"LC_ALL": "C", "TERM": "dumb", "SOURCE": str(source),
                        "PATH": f"{bin_folder}:{environment['PATH']}"}
        command = ["bash", "--noprofile", "--norc", "-u", "-c", 'source "$0"; source "$1"',
                   str(script.parent / "prelude.bash"), str(script)]
        try:
            done = subprocess.run(command, cwd=work, env=environment, stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return "", f"no end after {TIMEOUT_SECONDS} s\n", "timeout\n"
        folders = [(work, "WORK"), (temp, "TEMP"), (source, "SOURCE")]
        return (normalise(done.stdout.decode("utf-8", "backslashreplace"), folders),
                normalise(done.stderr.decode("utf-8", "backslashreplace"), folders),
                f"{done.returncode}\n")


def expected_of(script):
    defaults = {".stdout": "", ".stderr": "", ".exit": "0\n"}
    for suffix, default in defaults.items():
        path = script.with_suffix(suffix)
        yield path, path.read_text(encoding="utf-8") if path.exists() else default, default


def update(script, results):
    for (path, expected, default), result in zip(expected_of(script), results):
        if result == default:
            path.unlink(missing_ok=True)
        elif result != expected:
            path.write_text(result, encoding="utf-8")


def differences(script, results):
    lines = []
    for (path, expected, _), result in zip(expected_of(script), results):
        if result != expected:
            lines += difflib.unified_diff(expected.splitlines(), result.splitlines(),
                                          f"expected {path.name}", f"printed {path.name}",
                                          lineterm="", n=2)
    return lines


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lors", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("names", nargs="*")
    return parser.parse_intermixed_args()


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the programs would ignore it, too
    cases = pathlib.Path(__file__).resolve().parent / "cases"
    scripts = sorted(path for path in cases.glob("*.sh")
                     if not arguments.names or path.stem in arguments.names)
    unknown = set(arguments.names) - {path.stem for path in scripts}
    if unknown or not scripts:
        sys.exit(f"run.py: there is no case {' '.join(sorted(unknown))}")
    lors, source = arguments.lors.resolve(strict=True), arguments.source.resolve(strict=True)
    n_failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for script, results in zip(scripts, pool.map(lambda one: run_case(one, lors, source),
                                                     scripts)):
            if arguments.update:
                update(script, results)
            lines = differences(script, results)
            n_failed += bool(lines)
            print("\n".join([f"{'FAIL' if lines else 'ok  '}  {script.stem}"] + lines))
    print(f"{len(scripts) - n_failed} passed, {n_failed} failed")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())

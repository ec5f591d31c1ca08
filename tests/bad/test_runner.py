#!/usr/bin/env python3
"""test_runner.py - does the runner of bad inputs notice a program that breaks its rules?

    test_runner.py LORS

A stand-in for the program does one bad deed after another, and each must be found; then the real
program meets expectations that are wrong, which must be found as well.
"""
import contextlib
import dataclasses
import io
import os
import pathlib
import stat
import sys
import tempfile

import cases_header
import cases_numerics
import harness
import making
import run

STANDIN = """\
#!/usr/bin/env bash
refuse() { echo "lors: error: a/model.safetensors: ${1:-bad}" >&2; exit "${2:-4}"; }
case $DEED in
good) refuse ;;
code) refuse bad 5 ;;
killed) kill -SEGV $$ ;;
killed-within) refuse bad 139 ;;
silent) exit 4 ;;
succeeds) exit 0 ;;
other-words) echo "lors: error: bad" >&2; exit 4 ;;
sanitizer) echo "lors: ==1==ERROR: AddressSanitizer: heap-use-after-free" >&2; refuse ;;
undefined) echo "lors: x.c:1:1: runtime error: signed overflow" >&2; refuse ;;
escape) refuse $'\\e[31m' ;;
csi) refuse $'\\xc2\\x9b' ;;
bytes) refuse $'\\xff' ;;
own-line) echo "Segmentation fault" >&2; refuse ;;
long-line) refuse "$(printf 'x%.0s' {1..9000})" ;;
stdout) echo "merged 1 model"; refuse ;;
slow) sleep 0.7; refuse ;;
hang) sleep 100; refuse ;;
memory) python3 -c 'bytearray(100 << 20)'; refuse ;;
output-changed) echo x >>out/model.safetensors; refuse ;;
output-replaced) cp out/config.json x; mv x out/config.json; refuse ;;
output-gone) rm -r out; refuse ;;
input-changed) echo x >>base/config.json; refuse ;;
left-behind) mkdir .out.lors-staging; refuse ;;
file-left-behind) echo x >.out.lors-lock; refuse ;;
esac
"""

# deed -> what must be found
DEEDS = {
    "good": None, "code": "exit code 5, expected 4", "killed": "ended by signal",
    "killed-within": "ended by signal", "silent": "stderr has no error",
    "succeeds": "exit code 0, expected 4", "other-words": "stderr does not say",
    "sanitizer": "a sanitizer spoke", "undefined": "a sanitizer spoke",
    "escape": "control character", "csi": "control character", "bytes": "not UTF-8",
    "own-line": "a line of its own", "long-line": "stderr is too long",
    "stdout": "printed to stdout", "slow": "it took", "hang": "did not end by itself",
    "memory": "MiB", "output-changed": "'out/model.safetensors' was changed",
    "output-replaced": "'out/config.json' was changed", "output-gone": "'out' vanished",
    "input-changed": "'base/config.json' was changed",
    "left-behind": "'.out.lors-staging' was left behind",
    "file-left-behind": "'.out.lors-lock' was left behind"}


def check(name, faults, wanted):
    """Prints and counts what went unnoticed."""
    good = any(wanted in fault for fault in faults) if wanted else not faults
    print(f"{'ok  ' if good else 'FAIL'}  {name}: {faults[:1]}")
    return not good


def run_deeds(folder):
    program = pathlib.Path(folder) / "lors"
    program.write_text(STANDIN, encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    n_missed = 0
    for deed, wanted in DEEDS.items():
        command = making.merge(4, "a/model", environment={"DEED": deed}, memory=50 << 20,
                               seconds={"slow": 0.5, "hang": 0.1}.get(deed, 60.0))
        case = harness.Case("self", 1, deed, lambda scene: None, (command,))
        limits = harness.Limits(run.baseline(os.fsdecode(program)))
        n_missed += check(deed, harness.run_case(case, os.fsdecode(program), limits).faults, wanted)
    return n_missed


def run_wrong_expectations(lors):
    """The real program, of which something else than the truth is expected."""
    limits = harness.Limits(memory=False, slowness=20)
    refused = next(case for case in cases_header.cases() if case.number == 1)
    merged = next(case for case in cases_numerics.cases() if not case.is_bad)

    def with_command(case, **changes):
        first = dataclasses.replace(case.commands[0], **changes)
        return dataclasses.replace(case, commands=(first,))

    def wrong_result(scene):
        making.expect(len(scene.result()), 0, "tensors")
    rows = (("as it is", refused, None), ("merged as it is", merged, None),
            ("other code", with_command(refused, exit_code=5), "exit code 4, expected 5"),
            ("other words", with_command(refused, says=("no such words",)), "stderr does not say"),
            ("to succeed", with_command(refused, exit_code=0), "exit code 4, expected 0"),
            ("to fail", with_command(merged, exit_code=8), "exit code 0, expected 8"),
            ("other result", dataclasses.replace(merged, check=wrong_result), "wrong result"))
    n_missed, outcomes = 0, []
    for name, case, wanted in rows:
        outcomes.append(harness.run_case(case, lors, limits))
        n_missed += check(name, outcomes[-1].faults, wanted)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        n_failed = run.summarise(outcomes)
    n_missed += check("the summary", printed.getvalue().splitlines()[-1:], "5 cases failed")
    return n_missed + (n_failed != 5)


def main():
    lors = os.fsdecode(pathlib.Path(sys.argv[1]).resolve(strict=True))
    with tempfile.TemporaryDirectory(prefix="lors-bad-self-") as folder:
        n_missed = run_deeds(folder)
    n_missed += run_wrong_expectations(lors)
    print(f"{n_missed} went unnoticed")
    return 1 if n_missed else 0


if __name__ == "__main__":
    sys.exit(main())

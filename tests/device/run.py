#!/usr/bin/env python3
"""run.py - the program and its devices: which it lists and why not, exit codes, what is left.

    run.py LORS LIBRARY SOURCE

LIBRARY is liblors_cuda_host.so: the CUDA backend over the stand-in runtime, whose environment
variables make a driver or a GPU missing, memory short, a call fail. Standard library only.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

RECIPE = """merge_method: lors
base_model: base
models: [{model: model-1}, {model: model-2}]
parameters: {rank: 4, density: 0.2, lambda: 0.5}
"""


class Program:
    """lors with a library and the environment of the stand-in."""

    def __init__(self, binary, library):
        self.binary, self.library = binary, library

    def run(self, *arguments, **environment):
        variables = {"LORS_CUDA_LIBRARY": self.library} | environment
        return subprocess.run([self.binary, *arguments], capture_output=True, text=True,
                              timeout=300, check=False, env=os.environ | variables)


def expect(good, done, what):
    if not good:
        raise AssertionError(f"{what}: exit {done.returncode}\n{done.stdout}{done.stderr}")


def nothing_left(done, code, *texts):
    """It failed with this exit code and a sentence that holds the texts, and wrote nothing."""
    expect(done.returncode == code, done, f"exit {code} wanted")
    expect(all(text in done.stderr for text in texts), done, f"{texts} wanted")
    left = [path.name for path in pathlib.Path(".").iterdir() if "out" in path.name]
    expect(not left, done, f"{left} is left")


def cuda_lines(done):
    return [line for line in done.stdout.splitlines() if line.startswith("cuda")]


def test_devices_are_listed(lors):
    done = lors.run("devices", LORS_STANDIN_DEVICES="2")
    lines = cuda_lines(done)
    expect(len(lines) == 2 and all(" ready " in line for line in lines), done, "two devices")
    expect(lines[1].startswith("cuda:1"), done, "cuda:1")
    devices = json.loads(lors.run("devices", "--json").stdout)
    assert [device["name"] for device in devices] == ["cpu", "cuda:0"], devices


def test_reasons_of_missing_devices(lors):
    reasons = [({"LORS_STANDIN_DRIVER": "none"}, "driver"),
               ({"LORS_STANDIN_DRIVER": "nodevice"}, "no NVIDIA GPU"),
               ({"LORS_CUDA_LIBRARY": "no/such.so"}, "cannot be loaded"),
               ({"LORS_CUDA_LIBRARY": sys.argv[0]}, "cannot be loaded"),
               ({"LORS_CUDA_LIBRARY": "libc.so.6"}, "another version"),
               ({"LORS_CUDA_LIBRARY": ""}, "LORS_CUDA_LIBRARY is empty")]
    for environment, reason in reasons:
        done = lors.run("devices", **environment)
        lines = cuda_lines(done)
        expect(done.returncode == 0 and len(lines) == 1 and " missing " in lines[0]
               and reason in lines[0], done, f"a line with '{reason}'")
        nothing_left(lors.run("merge", "recipe.yaml", "-o", "out", "--device", "cuda",
                              **environment), 9, reason, "--device cpu")


def test_auto_takes_the_gpu_or_else_the_cpu(lors):
    for environment, device in ({}, "cuda:0"), ({"LORS_STANDIN_DRIVER": "none"}, "cpu"):
        plan = json.loads(lors.run("plan", "recipe.yaml", "--json", **environment).stdout)
        assert plan["summary"]["device"] == device, plan["summary"]
        assert (plan["summary"]["device_peak_bytes"] > 0) == (device != "cpu")
        assert all(tensor["device"] == device for tensor in plan["tensors"])


def test_report_names_the_device_of_each_tensor(lors):
    done = lors.run("merge", "recipe.yaml", "-o", "out", "--device", "cuda:all", "--verify-all",
                    LORS_STANDIN_DEVICES="2")
    expect(done.returncode == 0, done, "a merge")
    report = json.loads(pathlib.Path("out/lors.json").read_text())
    assert report["device"] == "cuda:0,1", report["device"]
    assert {tensor["device"] for tensor in report["tensors"]} == {"cuda:0", "cuda:1"}
    assert "Stand-in" in report["device_detail"]
    totals = report["totals"]
    assert totals["rechecked_tensors"] > 50 and 0 < totals["worst_bound_ratio"] <= 1, totals
    expect("computed twice" in done.stdout, done, "what was checked")
    shutil.rmtree("out")


def test_memory_is_planned_and_short_memory_refused(lors):
    free = {"LORS_STANDIN_MEMORY": str(300 << 20)}
    done = lors.run("merge", "recipe.yaml", "-o", "fits", "-q", **free)
    expect(done.returncode == 0, done, "a merge in little memory")
    done = lors.run("merge", "recipe.yaml", "-o", "plenty", "-q")
    expect(done.returncode == 0, done, "a merge in plenty of memory")
    # More than there is in one piece: what the plan asks for fails, and less is asked for.
    done = lors.run("merge", "recipe.yaml", "-o", "much", "-q", "--max-memory", "8G", **free)
    expect(done.returncode == 0, done, "a merge allowed more than there is")
    shutil.rmtree("much")
    name = "model.safetensors"
    same = pathlib.Path("fits", name).read_bytes() == pathlib.Path("plenty", name).read_bytes()
    expect(same, done, "the same bytes in little memory")
    shutil.rmtree("fits")
    shutil.rmtree("plenty")
    nothing_left(lors.run("merge", "recipe.yaml", "-o", "out", LORS_STANDIN_MEMORY="4000000"), 9,
                 "4 MB free", "--device")


def test_a_lost_device_leaves_nothing(lors):
    refused = 0
    for call in (1, 40, 101, 302, 603, 904):
        done = lors.run("merge", "recipe.yaml", "-o", "out", "--device", "cuda",
                        LORS_STANDIN_FAIL_AT=str(call), LORS_STANDIN_FAIL_KIND="2")
        if done.returncode == 0: # a failed allocation, and less memory was enough
            shutil.rmtree("out")
            continue
        nothing_left(done, 9)
        refused += 1
    assert refused >= 4, f"{refused} merges were refused"


def main():
    binary, library, _ = (str(pathlib.Path(argument).resolve()) for argument in sys.argv[1:4])
    folder = pathlib.Path("device-work").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    subprocess.run([pathlib.Path(binary).parent / "make-models", ".", "--size", "demo", "--models",
                    "2", "--dtype", "f16", "--seed", "3"], check=True)
    pathlib.Path("recipe.yaml").write_text(RECIPE)
    lors, failed = Program(binary, library), 0
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    for test in tests:
        try:
            test(lors)
            print(f"ok      {test.__name__}")
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAILED  {test.__name__}: {error}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

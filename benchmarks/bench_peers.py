#!/usr/bin/env python3
"""bench_peers.py - lors beside the programs that do the same in Python: one command, one run.

    python3 benchmarks/bench_peers.py --size small --models 5 --json benchmarks/results/peers.json

Makes an environment of its own in --work (peers/requirements.txt from PyPI; torch's wheel brings
CUDA libraries, 6 GB in all) and synthetic models, then merges the same files by every program:

  authors            LoRS-Merging as its authors compute it, stated anew in torch (peers/authors.py)
  mergekit-pytorch   mergekit on files of tensors, which is how it can merge a Whisper
  mergekit-yaml      its main program: tried on the Whisper (its own word is recorded), measured on
                     a model of Llama's tensors with as many values
  peft               peft.utils.merge_utils on task vectors (peers/peft_merge.py)

Every output is judged before its time counts (peers/judge.py). Every run is a process of its own
on files in the page cache, after a sync of the disk; programs of one method take turns. A first run
is not counted unless it took --long seconds: then it is the only one. In each turn Python's start
and imports are timed as well; ratios are given with and without. lors syncs, hashes and reports
what it writes within its time; the others do not.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import venv

import merges
import processes
import sources

HERE = pathlib.Path(__file__).resolve().parent / "peers"
RANK, DENSITY = 7, 0.2
TIMES_AUTHORS, TIMES_MERGEKIT, MEMORY_MERGEKIT = 40, 8, 1 / 4
EXACT, F32 = 2.0 ** -53, 2.0 ** -24
UNITS = {"f16": 2.0 ** -11, "bf16": 2.0 ** -8, "f32": F32}
WORDS = {"f16": "float16", "bf16": "bfloat16", "f32": "float32"}
STARTS = {  # what each imports before it does anything
    "authors": "import torch, safetensors.torch",
    "mergekit-pytorch": "import mergekit.scripts.merge_raw_pytorch",
    "mergekit-yaml": "import mergekit.scripts.run_yaml",
    "peft": "import torch, safetensors.torch, peft.utils.merge_utils",
}


class Peers:
    """The environment that holds the other programs."""

    def __init__(self, work, threads):
        self.folder = pathlib.Path(work).resolve() / "venv"
        self.python = self.folder / "bin/python"
        self.threads = threads
        wanted = (HERE / "requirements.txt").read_text()
        stamp = self.folder / "installed.txt"
        if not stamp.exists() or stamp.read_text() != wanted:
            venv.create(self.folder, with_pip=True, clear=True)
            subprocess.run([self.python, "-m", "pip", "install", "--quiet", "--no-cache-dir",
                            "--disable-pip-version-check", "-r", HERE / "requirements.txt"],
                           check=True, stdout=sys.stderr)
            stamp.write_text(wanted)

    def environment(self):
        count = str(self.threads)
        return os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count,
                             "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    def versions(self):
        names = [line.split("==")[0] for line in (HERE / "requirements.txt").read_text().split()
                 if "==" in line]
        code = ("import importlib.metadata as m, json, platform, torch;"
                f"v = {{n: m.version(n) for n in {names}}};"
                "v['python'] = platform.python_version();"
                "v['torch_threads'] = torch.get_num_threads();"
                "v['torch_vectors'] = torch.backends.cpu.get_cpu_capability();"
                "v['torch_lapack_mkl'] = torch.backends.mkl.is_available();"
                "print(json.dumps(v))")
        return json.loads(subprocess.run([self.python, "-c", code], check=True, text=True,
                                         env=self.environment(), stdout=subprocess.PIPE).stdout)

    def judge(self, job):
        done = subprocess.run([self.python, HERE / "judge.py", json.dumps(job)], text=True,
                              stdout=subprocess.PIPE)
        if done.returncode:
            sys.exit("bench_peers: the judge failed")
        return {answer["label"]: answer for answer in json.loads(done.stdout)}


class Job:
    """One program's way to one merge."""

    def __init__(self, program, label, command, out, unit, environment=None):
        self.program, self.label, self.command, self.out = program, label, command, out
        self.unit, self.environment = unit, environment
        self.runs, self.verdict, self.detail = [], None, None

    def run(self):
        result = processes.run(self.command, self.environment, new=self.out)
        if self.program == "authors":
            self.detail = json.loads(result["output"].strip().splitlines()[-1])
            result["measured_seconds"] = result["seconds"]
            result["seconds"] += self.detail["added_seconds"]
        return result


class Group:
    """One method on one set of models: lors and the others, judged together, run in turns."""

    def __init__(self, args, peers, method, family="whisper"):
        self.args, self.peers, self.method, self.family = args, peers, method, family
        self.count = 1 if method == "slerp" else args.models
        self.weight = 1 / args.models
        self.folder = merges.make_models(args.work, args.size, args.models, args.dtype, family)
        self.out = self.folder / "out"
        self.out.mkdir(exist_ok=True)
        self.jobs = [self.of_lors()]
        self.starts = {}

    # --- who takes part ---

    def parts(self):
        """Base, parameters and each model's parameters, in words that both programs know."""
        weight, density = self.weight, DENSITY
        return {
            "lors": ("base", {"rank": RANK, "density": density, "lambda": weight}, {"weight": 1}),
            "magnitude_prune": ("base", {"rank": 0, "density": density, "lambda": weight,
                                         "scope": '"*"'}, {"weight": 1}),
            "task_arithmetic": ("base", {}, {"weight": weight}),
            "ties": ("base", {}, {"weight": 1, "density": density}),
            "linear": (None, {}, {"weight": 1}),
            "slerp": ("base", {"t": 0.5}, {}),
        }[self.method]

    def write_recipe(self, name, file="", **top):
        """Whole paths: mergekit's are relative to where it runs. `file`: within each folder."""
        base, whole, each = self.parts()
        method = "lors" if self.method == "magnitude_prune" else self.method
        path = self.folder / f"{self.method}-{name}.yaml"
        path.write_text(merges.recipe(
            method, base and self.folder / base / file,
            [self.folder / model / file for model in merges.numbered(self.count)],
            whole, each, **top))
        return path

    def of_lors(self):
        out = self.out / f"{self.method}-lors"
        return Job("lors", "lors", merges.lors_command(
            self.write_recipe("lors"), out, self.args.threads, "--device", "cpu"),
            out / "model.safetensors", EXACT)

    def add_mergekit(self, program):
        """As it comes; and in f32, where it would otherwise sum in the files' type."""
        kinds = [("", {}, F32 if self.method in ("linear", "slerp") else UNITS[self.args.dtype])]
        if kinds[0][2] > F32:
            kinds.append((" in f32", {"dtype": "float32", "out_dtype": WORDS[self.args.dtype]},
                          F32))
        for kind, top, unit in kinds:
            label = program + kind
            name = label.replace(" ", "-")
            file = "model.safetensors" if program == "mergekit-pytorch" else ""
            recipe = self.write_recipe(name, file, **top)
            out = self.out / f"{self.method}-{name}"
            command = [self.peers.folder / "bin" / program, recipe, out, "-j", self.args.threads]
            if program == "mergekit-yaml":
                command.append("--no-copy-tokenizer")
            self.jobs.append(Job(program, label, command, out / "model.safetensors", unit,
                                 self.peers.environment()))

    def add_script(self, program, label, script, *options):
        out = self.out / f"{self.method}-{label.replace(' ', '-')}.safetensors"
        command = [self.peers.python, HERE / script, self.folder, out, "--models", self.count,
                   "--density", DENSITY, *options]
        self.jobs.append(Job(program, label, command, out, F32, self.peers.environment()))

    # --- measuring ---

    def judge(self):
        outputs = [{"label": job.label, "path": str(job.out), "unit": job.unit,
                    "skip": job.detail["left_out"] if job.detail else []} for job in self.jobs]
        verdicts = self.peers.judge({
            "method": self.method, "folder": str(self.folder), "models": self.count,
            "weight": self.weight, "density": DENSITY, "t": 0.5, "outputs": outputs})
        for job in self.jobs:
            job.verdict = verdicts.get(job.label)
            if job.verdict and not job.verdict["right"]:
                print(f"bench_peers: {self.method}: {job.label}: wrong output: {job.verdict}; "
                      "its time does not count", file=sys.stderr)
        ours = self.jobs[0]
        if self.method == "lors":  # no expected values: by the program's own f64 check as well
            subprocess.run([*map(str, ours.command), "--verify"], check=True)
            ours.verdict = {"right": all(job.verdict["right"] for job in self.jobs[1:]),
                            "by": "merge --verify, and agreement with the others"}
        if not ours.verdict["right"]:
            sys.exit("bench_peers: lors's output is wrong: nothing is measured")

    def measure(self):
        for job in self.jobs:
            progress(f"{self.family} {self.method}: {job.label}")
            job.runs = [job.run()]
        progress(f"{self.family} {self.method}: judging")
        self.judge()
        first = {job: job.runs.pop() for job in self.jobs}
        for job, run in first.items():
            if run.get("measured_seconds", run["seconds"]) >= self.args.long:
                job.runs = [run]
        self.jobs = [job for job in self.jobs if job.verdict["right"]]
        turns = [job for job in self.jobs if not job.runs]
        for _ in range(self.args.runs):
            for program in dict.fromkeys(job.program for job in self.jobs):
                self.starts.setdefault(program, []).append(self.start(program))
            for job in turns:
                job.runs.append(job.run())

    def start(self, program):
        command = [self.peers.python, "-c", STARTS[program]] if program in STARTS else \
            [merges.LORS, "--version"]
        return processes.run(command, self.peers.environment())["seconds"]

    def rows(self):
        ours = None
        for job in self.jobs:
            seconds = processes.summary([run["seconds"] for run in job.runs])
            row = {
                "family": self.family, "method": self.method, "program": job.label,
                "seconds": seconds, "start_seconds": statistics.median(self.starts[job.program]),
                "peak_bytes": max(run["peak_bytes"] for run in job.runs),
                "private_bytes": max(run["private_bytes"] for run in job.runs),
                "command": shown(job.command), "check": job.verdict,
                "runs": [{key: run[key] for key in run if key != "output"} for run in job.runs],
            }
            if job.detail:
                row["sampled"] = {key: job.detail[key] for key in ("shapes", "added_seconds")}
            ours = ours or row
            row["times_lors"] = seconds["median"] / ours["seconds"]["median"]
            work = seconds["median"] - row["start_seconds"]
            row["times_lors_without_start"] = None if work <= 0 else (  # lost in the start's noise
                work / (ours["seconds"]["median"] - ours["start_seconds"]))
            row["memory_lors"] = row["peak_bytes"] / ours["peak_bytes"]
            row["private_memory_lors"] = row["private_bytes"] / ours["private_bytes"]
            yield row


def shown(words):
    """As typed in the repository's folder."""
    return " ".join(map(str, words)).replace(f"{sources.ROOT}/", "")


def progress(text):
    print(f"bench_peers: {text}", file=sys.stderr, flush=True)


def probe(args, peers):
    """What mergekit's main program says to a Whisper."""
    group = Group(args, peers, "task_arithmetic")
    recipe = group.write_recipe("probe")
    command = [peers.folder / "bin/mergekit-yaml", recipe, group.out / "probe",
               "--no-copy-tokenizer"]
    result = processes.run(command, peers.environment(), quiet=True)
    lines = [line for line in result["output"].splitlines() if line.strip()]
    return {"command": shown(command), "exit_status": result["status"],
            "last_line": shown(lines[-1:])}


def groups(args, peers):
    lors = Group(args, peers, "lors")
    sample = [] if args.full else ["--sample", args.sample]
    settings = ["--rank", RANK, "--scale", lors.weight, *sample]
    lors.add_script("authors", "authors", "authors.py", *settings)
    lors.add_script("authors", "authors, thin SVD", "authors.py", *settings, "--thin")
    yield lors
    for method in ("task_arithmetic", "linear", "slerp", "ties"):
        group = Group(args, peers, method)
        group.add_mergekit("mergekit-pytorch")
        if method in ("task_arithmetic", "ties"):
            weight = group.weight if method == "task_arithmetic" else 1
            group.add_script("peft", "peft", "peft_merge.py", "--method", method, "--weight",
                             weight)
        yield group
    prune = Group(args, peers, "magnitude_prune")
    prune.add_script("peft", "peft", "peft_merge.py", "--method", "magnitude_prune", "--weight",
                     prune.weight)
    yield prune
    for method in ("task_arithmetic", "linear", "slerp"):
        group = Group(args, peers, method, "llama")
        group.add_mergekit("mergekit-yaml")
        yield group


def targets(rows):
    """Was it reached? Of several ways through one program the fastest counts."""
    found = []
    for row in rows:
        if row["program"] == "authors":
            found.append({"what": "lors: times the authors' procedure", "wanted": TIMES_AUTHORS,
                          "reached": row["times_lors"],
                          "without_start": row["times_lors_without_start"],
                          "met": row["times_lors"] >= TIMES_AUTHORS})
    kits = [row for row in rows if row["program"].startswith("mergekit")]
    for key in dict.fromkeys((row["family"], row["method"]) for row in kits):
        row = min((row for row in kits if (row["family"], row["method"]) == key),
                  key=lambda row: row["seconds"]["median"])
        name = f"{key[0]} {key[1]}: "
        found.append({"what": f"{name}times {row['program']}", "wanted": TIMES_MERGEKIT,
                      "reached": row["times_lors"],
                      "without_start": row["times_lors_without_start"],
                      "met": row["times_lors"] >= TIMES_MERGEKIT})
        found.append({"what": f"{name}share of its peak memory, at most",
                      "wanted": MEMORY_MERGEKIT, "reached": 1 / row["memory_lors"],
                      "without_mapped_files": 1 / row["private_memory_lors"],
                      "met": 1 / row["memory_lors"] <= MEMORY_MERGEKIT})
    return found


def ratio(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def table(result):
    lines = [f"{result['what']}; {result['machine']['processor']}, "
             f"{result['threads']} threads, {result['base_bytes'] / 1e6:.0f} MB a model",
             "times and memory of the others as multiples of lors's; ~ sampled and scaled", "",
             f"{'method':<24}{'program':<25}{'runs':>4}{'median s':>10}{'least':>9}{'most':>9}"
             f"{'start':>7}{'peak MB':>9}{'own MB':>8}{'time x':>8}{'-start':>8}{'memory x':>9}"]
    for row in result["rows"]:
        s = row["seconds"]
        mark = "~" if row.get("sampled", {}).get("added_seconds") else " "
        lines.append(
            f"{row['family'] + ' ' + row['method']:<24}{row['program']:<25}{s['n']:>4}"
            f"{mark}{s['median']:>9.2f}{s['least']:>9.2f}{s['most']:>9.2f}"
            f"{row['start_seconds']:>7.2f}{row['peak_bytes'] / 1e6:>9.0f}"
            f"{row['private_bytes'] / 1e6:>8.0f}{row['times_lors']:>8.1f}"
            f"{ratio(row['times_lors_without_start'], 1):>8}{row['memory_lors']:>9.1f}")
    for row in result["rows"]:
        for shape in row.get("sampled", {}).get("shapes", []):
            lines.append(f"  {row['program']}: {shape['shape'][0]} x {shape['shape'][1]}: "
                         f"measured on {shape['measured']} of {shape['matrices']} matrices, "
                         f"{shape['mean_seconds']:.3f} s each ({shape['least_seconds']:.3f} to "
                         f"{shape['most_seconds']:.3f}), all {shape['all_seconds']:.0f} s")
    lines.append(f"mergekit-yaml on the Whisper: exit status {result['probe']['exit_status']}: "
                 f"{result['probe']['last_line']}")
    for target in result["targets"]:
        other = [f"{key.replace('_', ' ')} {ratio(target[key], 2)}" for key in
                 ("without_start", "without_mapped_files") if key in target]
        lines.append(f"{'met' if target['met'] else 'NOT MET':<8}{target['what']}: "
                     f"{target['reached']:.2f}, wanted {target['wanted']} ({other[0]})")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small")
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--dtype", default="f16", choices=WORDS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--long", type=float, default=30, help="seconds: longer runs are not "
                        "repeated")
    parser.add_argument("--sample", type=int, default=2, help="the authors' procedure: tensors of "
                        "each shape that are decomposed, in all models")
    parser.add_argument("--full", action="store_true", help="decompose all of them")
    parser.add_argument("--only", help="methods that hold this text")
    parser.add_argument("--work", default="build/peers", help="folder for environment and models")
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()

    progress("environment")
    peers = Peers(args.work, args.threads)
    rows = []
    for group in groups(args, peers):
        if not args.only or args.only in group.method:
            group.measure()
            rows += group.rows()
    lors_version = subprocess.run([merges.LORS, "--version"], check=True, text=True,
                                  stdout=subprocess.PIPE).stdout.split("\n")[0]
    whisper = merges.make_models(args.work, args.size, args.models, args.dtype)
    result = {
        "what": f"merges of {args.models} synthetic {args.size} models, {args.dtype}, warm",
        "command": "benchmarks/bench_peers.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"), "machine": processes.machine(),
        "threads": args.threads, "versions": {"lors": lors_version} | peers.versions(),
        "source_sha256": sources.of_program(), "base_bytes": merges.model_bytes(whisper),
        "probe": probe(args, peers), "rows": rows, "targets": targets(rows),
    }
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()

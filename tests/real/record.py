#!/usr/bin/env python3
"""record.py - what run.sh found, as one JSON of numbers that may be published (no transcripts).

    record.py -o benchmarks/results/whisper-base-real.json

Merges the two fine-tunes five more times with the program under test for time and peak memory.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
DIR = pathlib.Path(os.environ.get("LORS_REAL_DIR", pathlib.Path.home() / ".cache/lors-real"))
LORS = os.environ.get("LORS", str(HERE / "../../build/lors"))


def load(name):
    return json.loads((DIR / "results" / name).read_text())


def error_rates(name):
    languages = load(name)["languages"]
    return {key: {field: value for field, value in row.items() if isinstance(value, (int, float))}
            for key, row in languages.items()}


def time_merge(out):
    start = time.monotonic()
    process = subprocess.Popen([LORS, "merge", str(DIR / "recipe.yaml"), "-o", str(out), "--force",
                                "-q"])
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit("record.py: the merge failed")
    totals = json.loads((out / "lors.json").read_text())["totals"]
    return {"seconds": time.monotonic() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * 1024, "stages": totals["stages"]}, totals


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    runs, totals = [], {}
    for _ in range(5):
        run, totals = time_merge(DIR / "models" / "timed")
        runs.append(run)
    oracle, base = load("oracle.json"), load("base.json")
    keep = ("steps", "batch", "lr", "optimiser", "master", "saved", "train_clips", "test_clips",
            "test_loss_before", "test_loss_after", "delta_norm", "f16_rounding_norm", "versions")
    result = {
        "what": "LoRS merge of two real fine-tunes (Russian, French) of Whisper base, f16",
        "command": "tests/real/run.sh && tests/real/record.py -o " + args.output,
        "recipe": "\n".join(line for line in (DIR / "recipe.yaml").read_text().splitlines()
                            if "model" not in line or line == "models:"),
        "base": {key: base[key] for key in ("tensors", "parameters", "dtypes",
                                            "tensors_differing_between_sources",
                                            "model_safetensors_sha256", "versions")},
        "fine_tunes": {language: {key: load(f"finetune-{language}.json")[key] for key in keep}
                       for language in ("ru", "fr")},
        "against_numpy_oracle": oracle["summary"],
        "word_and_character_error_rates": {
            "base": error_rates("transcribe-base.json"), "ru": error_rates("transcribe-ru.json"),
            "fr": error_rates("transcribe-fr.json"),
            "merged, transformers v5": error_rates("transcribe-merged.json"),
            "merged, transformers v4": error_rates("transcribe-merged-v4.json"),
            "NumPy merge": error_rates("transcribe-oracle.json")},
        "totals": totals,
        "seconds_median": statistics.median(run["seconds"] for run in runs),
        "peak_bytes": max(run["peak_bytes"] for run in runs), "runs": runs,
    }
    pathlib.Path(args.output).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

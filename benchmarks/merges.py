"""merges.py - synthetic models and recipes, and the commands that merge them."""
import os
import pathlib
import subprocess

import sources

LORS = sources.ROOT / "build/lors"
MAKE_MODELS = sources.ROOT / "build/make-models"


def make_models(work, size, count, dtype, family="whisper"):
    """The folder with base and model-1 .. model-COUNT; made once."""
    folder = pathlib.Path(work).resolve() / (
        f"{size}-{count}-{dtype}" if family == "whisper" else f"{family}-{size}-{count}-{dtype}")
    if not (folder / f"model-{count}" / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([MAKE_MODELS, folder, "--size", size, "--models", str(count), "--dtype",
                        dtype, "--family", family], check=True)
    return folder


def model_bytes(folder):
    return os.path.getsize(folder / "base" / "model.safetensors")


def flow(values):
    return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def recipe(method, base, models, whole, each, **top):
    """The text of a recipe: parameters of the whole and of each model, further keys at the top."""
    lines = [f"merge_method: {method}"] + ([f"base_model: {base}"] if base else [])
    lines.append("models:")
    for model in models:
        lines.append(f"  - model: {model}")
        lines += [f"    parameters: {flow(each)}"] if each else []
    lines += [f"parameters: {flow(whole)}"] if whole else []
    return "\n".join(lines + [f"{key}: {value}" for key, value in top.items()]) + "\n"


def numbered(count):
    return [f"model-{k}" for k in range(1, count + 1)]


def lors_command(recipe_path, out, threads=0, *options):
    command = [LORS, "merge", recipe_path, "-o", out, "--force", "-q", *options]
    return command + (["--threads", str(threads)] if threads else [])

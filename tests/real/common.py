"""Helpers shared by the real-data scripts. Everything they produce goes to $LORS_REAL_DIR."""
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

DIR = Path(os.environ.get("LORS_REAL_DIR") or Path.home() / ".cache" / "lors-real")
WHEELS = DIR / "wheels"
APT = DIR / "apt"
MODELS = DIR / "models"
SPEECH = DIR / "speech"
RESULTS = DIR / "results"
RATE = 16000
LANGUAGES = ("ru", "fr")
START = time.monotonic()


def log(*words):
    """Progress goes to stderr with the seconds since start; results go to stdout or to files."""
    print(f"[{time.monotonic() - START:7.1f} s]", *words, file=sys.stderr, flush=True)


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def pretty(value):
    """Indented JSON with every list of plain numbers on one line."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return re.sub(r'\[\s+([^][{}"]+?)\s+\]', lambda m: f"[{' '.join(m[1].split())}]", text)


def write_json(path, value, compact=False):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False) if compact else pretty(value)
    path.write_text(text + "\n", encoding="utf-8")


def write_rows(path, head, rows):
    """JSON for people and diff tools: the fields of `head`, then "rows" with one row a line."""
    lines = [pretty(head)[:-2] + ',\n "rows": [']
    lines += [",\n".join("  " + json.dumps(r, ensure_ascii=False) for r in rows)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(lines) + "\n ]\n}\n", encoding="utf-8")


def sha256(path_or_bytes):
    data = path_or_bytes if isinstance(path_or_bytes, bytes) else Path(path_or_bytes).read_bytes()
    return hashlib.sha256(data).hexdigest()


def stable_fraction(text):
    """A number in [0, 1) that depends on the text alone: splits never move between runs."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def read_safetensors(path):
    """{name: NumPy array} and the metadata, of one .safetensors file (f16 and f32 only)."""
    from safetensors import safe_open
    with safe_open(str(path), framework="np") as f:
        return {name: f.get_tensor(name) for name in sorted(f.keys())}, dict(f.metadata() or {})


def model_file(folder):
    """The one weights file of a model folder (these scripts do not need shards)."""
    path = Path(folder)
    return path if path.is_file() else path / "model.safetensors"


def read_clip(path):
    import soundfile
    audio, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE and audio.ndim == 1, path
    return audio


def manifest(language, split):
    rows = read_json(SPEECH / f"{language}.json")["rows"]
    return [r for r in rows if r["split"] == split]


def versions(*modules):
    import platform
    found = {"python": platform.python_version()}
    for name in modules:
        found[name] = __import__(name).__version__
    return found

"""Real recordings of two languages, cut to short clips, with a fixed train/test split.

ru: festvox-ru, read novels, one speaker, 16 kHz (permissive licence).
fr: tuxpaint-stamps-default, spoken picture captions, volunteers (GPL-2: stays out of the repo).

A clip is kept when it has at least three words, 5 to 20 characters a second, and is not longer than
its language's limit (festvox-ru has only 51 clips of 6 s or less, so its limit is 8 s). The split
follows a hash of the text, so equal texts never fall on both sides. Writes 16 kHz mono WAV files
and speech/LANG.json with the counts of what was dropped.
"""
import collections
import math
import re

import numpy as np
import soundfile
from scipy.signal import resample_poly

from common import APT, RATE, SPEECH, log, stable_fraction, write_json

FESTVOX = APT / "usr/share/festival/voices/russian/msu_ru_nsh_clunits"
STAMPS = APT / "usr/share/tuxpaint/stamps"
MAX_SECONDS = {"ru": 8.0, "fr": 6.0}
MIN_WORDS, MIN_CPS, MAX_CPS = 3, 5.0, 20.0
TEST_CLIPS = {"ru": 40, "fr": 60}
SOURCE = {"ru": ("festvox-ru", "BSD-like (N. V. Shmyrev, 2005)"),
          "fr": ("tuxpaint-stamps-default", "GPL-2 (Tux Paint; never commit)")}


def russian():
    """(id, text, path). `+` marks stress; the commas mark pauses, not syntax: both go."""
    for line in (FESTVOX / "etc/txt.done.data").read_text("utf-8").splitlines():
        match = re.match(r'\(\s*(\S+)\s+"(.*)"\s*\)', line)
        if match:
            text = " ".join(match[2].replace("+", "").replace(",", "").split())
            yield match[1], text, FESTVOX / "wav" / (match[1] + ".wav")


def stamps(language):
    """(id, text, path) of every stamp that has a recorded caption in this language."""
    for path in sorted(STAMPS.rglob(f"*_desc_{language}.ogg")):
        stem = path.name[:-len(f"_desc_{language}.ogg")]
        caption = path.with_name(stem + ".txt")
        if not caption.exists():
            continue
        lines = caption.read_text("utf-8", errors="replace").splitlines()
        text = next((s.split("=", 1)[1] for s in lines if s.startswith(language + ".utf8=")), "")
        folders = path.relative_to(STAMPS).parent.parts
        yield "_".join(folders + (stem,)), " ".join(text.split()), path


def load(path):
    audio, rate = soundfile.read(path, dtype="float64", always_2d=True)
    audio = audio.mean(axis=1)
    if rate != RATE:
        step = math.gcd(rate, RATE)
        audio = resample_poly(audio, RATE // step, rate // step)
    return audio


def split_key(text):
    return " ".join(re.findall(r"\w+", text.lower()))


def prepare(language):
    out = SPEECH / language
    out.mkdir(parents=True, exist_ok=True)
    dropped, rows, seen = collections.Counter(), [], set()
    for name, text, path in russian() if language == "ru" else stamps(language):
        words = text.split()
        if len(words) < MIN_WORDS:
            dropped["fewer than three words"] += 1
            continue
        info = soundfile.info(path)
        seconds = info.frames / info.samplerate
        if seconds > MAX_SECONDS[language]:
            dropped["too long"] += 1
            continue
        if not MIN_CPS <= len(text) / seconds <= MAX_CPS:
            dropped["characters per second"] += 1
            continue
        audio = load(path)
        key = audio.tobytes()
        if key in seen:  # several stamps share one recording
            dropped["same recording"] += 1
            continue
        seen.add(key)
        peak = float(np.abs(audio).max())
        soundfile.write(out / (name + ".wav"), audio / max(1.0, peak), RATE, subtype="PCM_16")
        rows.append({"id": name, "text": text, "file": f"{language}/{name}.wav",
                     "seconds": round(seconds, 3), "hash": stable_fraction(split_key(text))})
    # The texts with the smallest hashes form the test set; all clips of one text go together.
    rows.sort(key=lambda r: (r["hash"], r["id"]))
    limit = rows[TEST_CLIPS[language] - 1]["hash"]
    for row in rows:
        row["split"] = "test" if row.pop("hash") <= limit else "train"
    package, licence = SOURCE[language]
    total = {s: [r["seconds"] for r in rows if r["split"] == s] for s in ("train", "test")}
    facts = {"language": language, "package": package, "licence": licence,
             "max_seconds": MAX_SECONDS[language], "dropped": dict(dropped),
             "clips": {s: len(v) for s, v in total.items()},
             "minutes": {s: round(sum(v) / 60, 2) for s, v in total.items()}}
    write_json(SPEECH / f"{language}.json", facts | {"rows": rows})
    log(facts)


if __name__ == "__main__":
    for code in MAX_SECONDS:
        prepare(code)

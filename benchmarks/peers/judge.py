"""judge.py - are merged files right? Expected values in f64, from the formulas, on NumPy alone.

    judge.py JSON

JSON: {"method", "folder", "models", "weight", "density", "t", "outputs": [{"label", "path", "unit",
"skip"}]}. `unit` is the rounding unit of the program's own arithmetic (2^-53 where it computes in
f64 or so and rounds once): an output may differ from the expected value by half a step of its type,
and by a few units of the terms it was summed from. Where a magnitude is at the threshold of its
tensor within that unit, keeping it and not keeping it are both right: such places are counted as
"either". One element that is none of this makes an output wrong.

Method "lors" has no cheap expected value: its outputs are compared with each other, the first with
each of the others, where the others (by SVD in f32) are not left out ("skip").
"""
import json
import mmap
import struct
import sys

import numpy as np

PIECE = 1 << 20
# Two ways to a truncated SVD in f32 and to its threshold part in few places and by little: share of
# elements more than one step of the type apart, distance over the norm of the whole update.
LORS_SHARE_APART, LORS_DISTANCE = 1e-3, 1e-3


class File:
    """A safetensors file, read as f32 (exact for f16 and bf16) or f64."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack_from("<Q", self.bytes)
        header = json.loads(self.bytes[8:8 + length])
        header.pop("__metadata__", None)
        self.start, self.entries = 8 + length, header

    def read(self, name):
        """One tensor, flat, in f32."""
        begin, end = self.entries[name]["data_offsets"]
        kind = self.entries[name]["dtype"]
        raw = np.frombuffer(self.bytes, {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[kind],
                            (end - begin) // (4 if kind == "F32" else 2), self.start + begin)
        if kind == "BF16":
            return (raw.astype("<u4") << 16).view("<f4")
        return raw.astype(np.float32)


def half_step(values, kind):
    """Half the distance between neighbours of the stored type."""
    digits, least = {"F32": (24, -126), "F16": (11, -14), "BF16": (8, -126)}[kind]
    exponent = np.frexp(values)[1] - 1
    return np.ldexp(0.5, np.where(values == 0, least, np.maximum(exponent, least)) - (digits - 1))


class Task:
    """Base, models, and what a method makes of one tensor."""

    def __init__(self, job):
        self.job = job
        self.base = File(f"{job['folder']}/base/model.safetensors")
        self.models = [File(f"{job['folder']}/model-{k}/model.safetensors")
                       for k in range(1, job["models"] + 1)]

    def of_tensor(self, name):
        """A function (slice, unit) -> (least, most, slack), in f64: where the result may lie."""
        base = self.base.read(name)
        models = [model.read(name) for model in self.models]
        method = self.job["method"]
        matrix = len(self.base.entries[name]["shape"]) > 1
        thresholds = [0.0] * len(models)
        if method == "ties" or (method == "magnitude_prune" and matrix):
            kept = int(self.job["density"] * base.size)
            thresholds = [np.partition(np.abs(x - base), base.size - kept)[base.size - kept]
                          for x in models]
        if method == "slerp":
            coefficients = self.of_slerp(base, models[0])

        def values(piece, unit):
            b = base[piece].astype(np.float64)
            x = [model[piece].astype(np.float64) for model in models]
            if method == "slerp":
                return of_sum(coefficients[0] * b, [coefficients[1] * x[0]], 64 * unit)
            if method == "linear":
                return of_sum(0.0, [v / len(x) for v in x], (len(x) + 4) * unit)
            slack = (len(x) + 4) * unit
            terms = [v - b for v in x]
            near = [(t > 0) & (np.abs(np.abs(d) - t) <= t * 4 * max(unit, 2.0 ** -24))
                    for d, t in zip(terms, thresholds)]
            sure = [np.where((np.abs(d) >= t) & ~n, d, 0.0)
                    for d, t, n in zip(terms, thresholds, near)]
            loose = [np.where(n, d, 0.0) for d, n in zip(terms, near)]
            if method == "ties":
                return of_ties(b, sure, loose, slack)
            weight = self.job["weight"]
            least, most, width = of_sum(b, [weight * s for s in sure], slack)
            for term in loose:
                least, most = (least + weight * np.minimum(term, 0),
                               most + weight * np.maximum(term, 0))
                width = width + slack * np.abs(weight * term)
            return least, most, width
        return values

    def of_slerp(self, base, model):
        a, b = base.astype(np.float64), model.astype(np.float64)
        t, norms = self.job["t"], np.sqrt(a @ a) * np.sqrt(b @ b)
        cosine = (a @ b) / norms if norms > 0 else 1.0
        if abs(abs(cosine) - 0.9995) < 1e-6:
            raise SystemExit("judge: an angle lies on the edge; other models are needed")
        if abs(cosine) > 0.9995:
            return 1 - t, t
        omega = np.arccos(cosine)
        return np.sin((1 - t) * omega) / np.sin(omega), np.sin(t * omega) / np.sin(omega)


def of_sum(base, terms, slack):
    value = base + sum(terms)
    size = sum(np.abs(term) for term in terms) + np.abs(value)
    return value, value, slack * size


def of_ties(base, sure, loose, slack):
    """The elected sign's mean; the hull of all that may be chosen where that is not certain."""
    total, size = sum(sure), sum(np.abs(s) for s in sure)
    sign = np.where(total >= 0, 1.0, -1.0)
    agree = [(s != 0) & (np.sign(s) == sign) for s in sure]
    mean = sum(np.where(a, s, 0.0) for a, s in zip(agree, sure)) / np.maximum(sum(agree), 1)
    open_ = (np.abs(total) <= slack * size) & (size > 0)
    for term in loose:
        open_ |= term != 0
    every = [s + t for s, t in zip(sure, loose)]
    low, high = np.minimum(0, np.min(every, axis=0)), np.maximum(0, np.max(every, axis=0))
    largest = np.max(np.abs(every), axis=0)
    width = slack * (largest + np.abs(base + mean))
    return base + np.where(open_, low, mean), base + np.where(open_, high, mean), width


def check_piece(got, expected, kind, unit, found):
    least, most, width, step = expected
    if kind == "F16" and unit > 2.0 ** -24:
        width = width + 2.0 ** -21  # sums in f16 lose what is smaller than its subnormals
    good = (least - width - got <= step) & (got - most - width <= step)  # NaN is not good
    sure = most == least
    found["elements"] += got.size
    found["either"] += int((~sure).sum())
    found["wrong"] += int((~good).sum())
    found["nearest"] += int((sure & (np.abs(got - least) <= step)).sum())


def check_tensor(values, outputs, size, kind):
    """outputs: (stored values, unit, what was found so far) of each."""
    for begin in range(0, size, PIECE):
        piece, known = slice(begin, begin + PIECE), {}
        for stored, unit, found in outputs:
            if unit not in known:
                least, most, width = values(piece, unit)
                step = np.maximum(half_step(least, kind), half_step(most, kind)) * (1 + 1e-9)
                known[unit] = least, most, width, step
            check_piece(stored[piece].astype(np.float64), known[unit], kind, unit, found)


def judge_by_formula(job):
    task, answers = Task(job), []
    files = [File(output["path"]) for output in job["outputs"]]
    for output, file in zip(job["outputs"], files):
        if set(file.entries) != set(task.base.entries):
            raise SystemExit(f"judge: {output['label']}: other tensors than the base's")
        answers.append({"label": output["label"], "elements": 0, "nearest": 0, "either": 0,
                        "wrong": 0})
    for name, entry in task.base.entries.items():
        for output, file in zip(job["outputs"], files):
            if file.entries[name]["shape"] != entry["shape"] or \
                    file.entries[name]["dtype"] != entry["dtype"]:
                raise SystemExit(f"judge: {output['label']}: {name} has another shape or type")
        stored = [(file.read(name), output["unit"], found)
                  for output, file, found in zip(job["outputs"], files, answers)]
        check_tensor(task.of_tensor(name), stored, stored[0][0].size, entry["dtype"])
    for found in answers:
        found["right"] = found["wrong"] == 0
    return answers


def judge_by_agreement(job):
    base = File(f"{job['folder']}/base/model.safetensors")
    first, *others = [File(output["path"]) for output in job["outputs"]]
    answers = []
    for output, other in zip(job["outputs"][1:], others):
        skip, apart, elements, equal = set(output["skip"]), 0, 0, 0
        distance = update = 0.0
        for name in sorted(set(base.entries) - skip):
            kind = base.entries[name]["dtype"]
            a, b, before = (f.read(name).astype(np.float64) for f in (first, other, base))
            gap = np.abs(a - b)
            elements, equal = elements + gap.size, equal + int((gap == 0).sum())
            apart += int((gap > 2 * half_step(a, kind) * (1 + 1e-9)).sum())
            distance, update = distance + (gap * gap).sum(), update + ((b - before) ** 2).sum()
        relative = float(np.sqrt(distance / update))
        answers.append({"label": output["label"], "elements": elements, "equal": equal,
                        "beyond_one_step": apart, "relative_distance": relative,
                        "right": bool(relative <= LORS_DISTANCE and
                                      apart <= LORS_SHARE_APART * elements)})
    return answers


def main():
    job = json.loads(sys.argv[1])
    judge = judge_by_agreement if job["method"] == "lors" else judge_by_formula
    print(json.dumps(judge(job)))


if __name__ == "__main__":
    main()

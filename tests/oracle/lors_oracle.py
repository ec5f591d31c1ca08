"""lors_oracle.py - the merge methods once more, in f64 on NumPy, from their formulas alone.

For every tensor of the output `expect` gives what it must be:
  Copy    these bytes
  Values  f64 values with the error that f64 sums in any order can have; several candidates where a
          sign election is decided by less than that error
  Near    f64 values, and how far in all the output may be from them; of spectral_oracle.py
  LowRank the parts of LoRS: judged in judge.py, since a truncated SVD is not unique to the bit
"""
import math
import re

import numpy as np

import spectral_oracle
from names import SINUSOID, TIED, Subject, canonical, value_for
from tensors import TYPES, Tensor, encode

EPS = 2.0 ** -53
DEFAULTS = {
    "lors": {"weight": 1.0, "lambda": None, "rank": "1%", "density": 0.2},
    "linear": {"normalize": True},
    "task_arithmetic": {"lambda": 1.0, "normalize": False},
    "ties": {"lambda": 1.0, "normalize": True, "density": 1.0},
    "slerp": {},
    "tsv_m": {"weight": 1.0, "lambda": 1.0, "normalize": True, "boost": 1.0},
    "iso_c": {"weight": 1.0, "lambda": 1.0, "normalize": True},
    "iso_cts": {"weight": 1.0, "lambda": 1.0, "normalize": True, "common_fraction": 0.8},
    "star": {"weight": 1.0, "lambda": None, "eta": 40.0},
    "knots": {"weight": 1.0, "lambda": 1.0, "density": 0.2, "normalize": True},
    "wudi": {"weight": 1.0, "lambda": 1.0, "normalize": True, "ridge": 0.01},
    "svc": {"weight": 1.0, "lambda": 1.0, "normalize": True, "alpha": 0.1, "merged": False},
}
MATRICES = ("lors", "tsv_m", "iso_c", "iso_cts", "star", "wudi", "knots", "svc")


class Copy:
    def __init__(self, tensor):
        self.tensor = tensor


class Values:
    """candidates: list of (value, error), f64 arrays."""

    def __init__(self, dtype, shape, candidates):
        self.dtype, self.shape, self.candidates = dtype, shape, candidates


class Near:
    """bound: of the Frobenius norm of the deviation; NaN where the result is ill-posed."""

    def __init__(self, dtype, shape, value, bound):
        self.dtype, self.shape, self.value, self.bound = dtype, shape, value, bound


class LowRank:
    def __init__(self, dtype, shape, base, parts, scale):
        self.dtype, self.shape, self.base, self.parts, self.scale = dtype, shape, base, parts, scale


class Part:
    """One model's share of a matrix."""

    def __init__(self, base, model, weight, rank, density, shape):
        self.weight = weight
        self.exact = model - base                          # exact in f64 for ordinary numbers
        self.delta = self.exact.astype(np.float32).astype(np.float64)  # what is decomposed
        rows = shape[0]
        u, s, v = np.linalg.svd(self.delta.reshape(rows, -1), full_matrices=False)
        self.singular = s
        self.rank = count_rank(rank, s, len(s))
        self.low = ((u[:, :self.rank] * s[:self.rank]) @ v[:self.rank]).ravel()
        self.kept = math.floor(density * base.size)
        self.norm = float(np.sqrt((s * s).sum()))
        self.full = self.rank >= len(s) or self.kept == base.size
        following = s[self.rank] if self.rank < len(s) else 0.0
        last = s[self.rank - 1] if self.rank else 0.0
        # Without a gap L is ill-posed; rank 0 and full rank are always exact.
        trivial = self.rank == 0 or self.full or not self.exact.any()
        self.has_gap = trivial or (last > 0 and (last - following) / last >= 1e-2)
        self.low_error = 0.0 if trivial else 1e-5 * self.norm


def count_rank(written, s, shortest):
    if isinstance(written, dict):
        energy = s * s
        if not energy.any():
            return 0
        share = np.cumsum(energy) / energy.sum()
        if np.abs(share - written["energy"]).min() < 1e-9:
            raise ValueError("the energy lies on the edge: choose another seed")
        return int(np.searchsorted(share, written["energy"]) + 1)
    if isinstance(written, str):
        count = math.floor(float(written.rstrip("%")) / 100 * shortest)
        return min(max(count, 1), shortest)
    return min(int(written), shortest)


class Merge:
    """A recipe (as the dictionary that is written as YAML) over models already read."""

    def __init__(self, recipe, base, models, dtype=None):
        self.recipe, self.base, self.models = recipe, base, models
        self.method = recipe["merge_method"]
        self.parameters = recipe.get("parameters", {})
        self.source = base if base is not None else models[0]
        words = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
        self.dtype = dtype or words.get(recipe.get("dtype"))
        self.by_canonical = [{canonical(n): t for n, t in m.items()} for m in models]
        self.n_layers = {"encoder": 0, "decoder": 0}
        for name in self.source:
            place = re.match(r"model\.(encoder|decoder)\.layers\.(\d+)\.", canonical(name))
            if place:
                stack, layer = place.groups()
                self.n_layers[stack] = max(self.n_layers[stack], int(layer) + 1)

    # --- parameters ---

    def number(self, key, subject, model=None):
        """A parameter: the model's own, the top-level one, the default."""
        own = self.recipe["models"][model].get("parameters", {}) if model is not None else {}
        for level in (own, self.parameters):
            if key in level:
                value = value_for(level[key], subject, self.n_layers)
                if value is not None:
                    return value
        default = DEFAULTS[self.method].get(key)
        return 1.0 / len(self.models) if key == "lambda" and default is None else default

    def weights(self, subject):
        return [float(self.number("weight", subject, k)) for k in range(len(self.models))]

    def in_scope(self, subject):
        scope = self.parameters.get("scope")
        if scope is not None:
            scope = [scope] if isinstance(scope, str) else scope
            return any(subject.matches(entry) for entry in scope)
        if self.method not in MATRICES:
            return True
        matrix = len(subject.shape) == 2 and subject.canonical.endswith(".weight")
        return matrix and (subject.has_role("attention") or subject.has_role("mlp"))

    # --- tensors ---

    def inputs(self, name):
        found = []
        for model in self.by_canonical:
            key = canonical(name)
            found.append(model[key] if key in model or key not in TIED else model[TIED[key]])
        return found

    def expect(self):
        return {name: self.expect_one(name, tensor) for name, tensor in self.source.items()}

    def stored(self, tensor):
        """The tensor as it is, or in the output's type."""
        if self.dtype and tensor.merges and tensor.dtype != self.dtype:
            return Copy(Tensor(self.dtype, tensor.shape, encode(tensor.values(), self.dtype)))
        return Copy(tensor)

    def expect_one(self, name, tensor):
        subject = Subject(name, tensor.shape)
        sinusoid = subject.canonical == SINUSOID and \
            not self.parameters.get("merge_encoder_positions", False)
        if sinusoid or tensor.dtype not in TYPES or tensor.size == 0:
            return self.stored(tensor)
        outside = self.parameters.get("outside", "weighted" if self.method in MATRICES else "base")
        inside = self.in_scope(subject)
        if not inside and outside == "base":
            return self.stored(tensor)
        dtype = self.dtype or tensor.dtype
        base = self.base[name].values() if self.base is not None else None
        values = [model.values() for model in self.inputs(name)]
        method = self.method
        if not inside or (method in MATRICES and len(tensor.shape) < 2):
            method = "task_arithmetic"
        elif method in MATRICES and method != "lors":
            return self.spectral(subject, dtype, tensor.shape, base, values)
        made = getattr(self, method)(subject, tensor.shape, base, values)
        if isinstance(made, tuple):
            return LowRank(dtype, tensor.shape, *made)
        return Values(dtype, tensor.shape, made)

    def linear(self, subject, shape, base, values):
        weights = self.weights(subject)
        total = sum(weights) if self.number("normalize", subject) else 1.0
        result = sum(w * x for w, x in zip(weights, values)) / total
        size = sum(abs(w) * np.abs(x) for w, x in zip(weights, values)) / abs(total)
        slack = 1 + sum(map(abs, weights)) / abs(total)
        return [(result, EPS * (len(values) + 4) * slack * size)]

    def task_arithmetic(self, subject, shape, base, values):
        weights = self.weights(subject)
        marked = self.method == "svc" and self.merged(subject, len(weights))
        if marked: # it stands for those that went into it
            weights = [w if k in marked else 0.0 for k, w in enumerate(weights)]
        scale = float(self.number("lambda", subject))
        if self.number("normalize", subject):
            scale /= sum(weights)
        terms = [w * (x - base) for w, x in zip(weights, values)]
        return [added(base, scale, terms)]

    def ties(self, subject, shape, base, values):
        weights, scale = self.weights(subject), float(self.number("lambda", subject))
        terms = []
        for k, x in enumerate(values):
            kept = math.floor(self.number("density", subject, k) * base.size)
            mask = top(x - base, kept)
            terms.append(weights[k] * np.where(mask, x - base, 0.0))
        total, size = sum(terms), sum(np.abs(t) for t in terms)
        candidates = []
        for sign in (1.0, -1.0):
            agree = [t * sign > 0 for t in terms]
            chosen = [np.where(a, t, 0.0) for a, t in zip(agree, terms)]
            divisor = sum(np.where(a, w, 0.0) for a, w in zip(agree, weights))
            divisor = np.where(divisor == 0, 1.0, divisor)
            if not self.number("normalize", subject):
                divisor = np.ones_like(divisor)
            value, error = added(base, scale / divisor, chosen)
            # Elected for sure, or too near to zero to tell (never where all terms are zero).
            elected = total >= 0 if sign > 0 else total < 0
            near = (np.abs(total) <= EPS * len(terms) * size) & (total != 0)
            possible = elected | near
            candidates.append((np.where(possible, value, np.nan), error))
        return candidates

    def slerp(self, subject, shape, base, values):
        t, x = float(self.number("t", subject)), values[0]
        aa, bb = math.fsum(base * base), math.fsum(x * x)
        ab = math.fsum(base * x)
        cosine = ab / (math.sqrt(aa) * math.sqrt(bb)) if aa > 0 and bb > 0 else 1.0
        first, second, error = 1 - t, t, EPS * 4
        if abs(cosine) <= 0.9995:
            omega = math.acos(cosine)
            sine = math.sin(omega)
            first, second = math.sin((1 - t) * omega) / sine, math.sin(t * omega) / sine
            # A dot product in four lanes loses up to size/4 roundings; the angle magnifies that.
            error = EPS * (8 + base.size / 4) * (4 + 4 / sine ** 2)
        size = np.abs(first * base) + np.abs(second * x)
        if abs(abs(cosine) - 0.9995) < 1e-9:
            raise ValueError("the angle lies on the edge: choose another seed")
        return [(first * base + second * x, error * size)]

    def spectral(self, subject, dtype, shape, base, values):
        n = len(values)
        rank = min(shape[0], base.size // shape[0])
        weights = self.weights(subject)
        plain = [(x - base).astype(np.float32).astype(np.float64).reshape(shape[0], -1)
                 for x in values]
        scaled = spectral_oracle.Spectral([w * d for w, d in zip(weights, plain)])
        changed = [k for k, d in enumerate(plain) if weights[k] and d.any()]
        if self.method == "tsv_m":
            ranks = [count_rank(self.number("rank", subject, k) or f"{100 / n}%",
                                np.linalg.svd(plain[k], compute_uv=False), rank) for k in changed]
            update = scaled.tsv_m(ranks, [self.number("boost", subject, k) for k in changed])
        elif self.method == "star":
            alone = spectral_oracle.Spectral([plain[k] for k in changed] or [0 * plain[0]])
            update = alone.star([weights[k] for k in changed],
                                [self.number("eta", subject, k) for k in changed])
            scaled = alone
        elif self.method == "iso_c":
            update = scaled.iso_c()
        elif self.method == "knots":
            scaled = spectral_oracle.Spectral([plain[k] for k in changed] or [0 * plain[0]])
            update = scaled.knots([weights[k] for k in changed],
                                  [self.number("density", subject, k) for k in changed],
                                  self.number("normalize", subject))
        elif self.method == "svc":
            return self.svc(subject, dtype, shape, base, [w * d for w, d in zip(weights, plain)])
        elif self.method == "wudi":
            update = scaled.wudi(float(self.number("ridge", subject)))
        else:
            update = scaled.iso_cts(self.number("common_fraction", subject))
        update = float(self.number("lambda", subject)) * update.ravel()
        bound = 1e-6 * float(np.linalg.norm(update)) if scaled.sharp else math.nan
        return Near(dtype, shape, base + update, bound)

    def merged(self, subject, n):
        return [k for k in range(n) if self.number("merged", subject, k)]

    def svc(self, subject, dtype, shape, base, deltas):
        marked = self.merged(subject, len(deltas)) or range(len(deltas))
        scale = float(self.number("lambda", subject))
        parts = [d for k, d in enumerate(deltas) if len(marked) == len(deltas) or k not in marked]
        calibrated = spectral_oracle.Spectral(parts)
        update = calibrated.svc(scale * sum(deltas[k] for k in marked),
                                float(self.number("alpha", subject))).ravel()
        bound = 1e-6 * float(np.linalg.norm(update)) if calibrated.sharp else math.nan
        return Near(dtype, shape, base + update, bound)

    def lors(self, subject, shape, base, values):
        scale = float(self.number("lambda", subject))
        parts = [Part(base, x, weight, self.number("rank", subject, k),
                      float(self.number("density", subject, k)), shape)
                 for k, (x, weight) in enumerate(zip(values, self.weights(subject)))]
        return base, parts, scale


def added(base, scale, terms):
    """base + scale * sum(terms) and its error; the base itself, with its sign, where that is 0."""
    update = scale * sum(terms)
    size = np.abs(scale) * sum(np.abs(t) for t in terms)
    error = EPS * ((len(terms) + 6) * size + np.abs(base))
    return np.where(update == 0, base, base + update), np.where(size == 0, 0.0, error)


def top(difference, count):
    """The `count` largest magnitudes of the differences in f32, the first of equals."""
    magnitude = np.abs(difference.astype(np.float32))
    mask = np.zeros(difference.size, bool)
    mask[np.argsort(-magnitude, kind="stable")[:count]] = True
    return mask

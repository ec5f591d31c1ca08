"""An independent LoRS merge in f64 with NumPy, and a check of a folder that `lors` produced.

  oracle.py BASE MODEL... --rank 7 --density 0.2 --lambda 0.5 [--weights 1 1] [--dtype float16]
            [--merged FOLDER] [--write FOLDER] [-o report.json]

The formula, per tensor with task vectors d_k = W_k - W0:
  2-D weights of attention, cross-attention and MLP:  W0 + lambda * sum_k w_k (L_k + S_k), where
  L_k is the best rank-r part of d_k and S_k the floor(density * size) entries of d_k - L_k largest
  in magnitude (equal ones: lowest row-major index first);
  the encoder's positions: the base's;  all others:  W0 + lambda * sum_k w_k d_k.
Sums run in f64 in model order and are rounded once, straight from f64 to the output type.

With --merged every tensor is checked. An elementwise value may differ from the oracle's only where
the error interval of the f64 sum holds a rounding boundary. In a low-rank tensor
|L - L_k| <= 1e-5 |d_k| must hold in the norm (times 1e-2 / gap where the gap at the rank is smaller
than 1e-2), and no entry may be off by more than tau_k, 20 times the mean share of that; an entry
may be kept or pruned differently only where its residual lies within tau_k of the threshold, and
about as many must enter as leave. Anything else is "unexplained" or fails a gate: exit status 1.
"""
import argparse
import itertools
import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from common import log, model_file, read_safetensors, versions, write_rows

ROLE = re.compile(r"(?:model\.)?(encoder|decoder)\.layers\.\d+\."
                  r"(?:(self_attn|encoder_attn)\.(q|k|v|out)_proj|(fc1|fc2))\.weight$")
POSITIONS = re.compile(r"(?:model\.)?encoder\.embed_positions\.weight$")
GATES = ("norm_within_bound", "flips_balanced", "singular_values_within_bound")
T2, GAP, PEAK = 1e-5, 1e-2, 20.0


def role_of(name):
    """e.g. "decoder.encoder_attn" or "encoder.mlp" for a tensor in scope, else None."""
    match = ROLE.match(name)
    return match and f"{match[1]}.{match[2] or 'mlp'}"


def kept_count(density, size):
    return int(Fraction(str(density)) * size)


def low_rank(delta, rank):
    """(L, s): the best rank-r approximation by an f64 SVD, and all singular values."""
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank], s


def largest(residual, count):
    """Mask of the `count` largest magnitudes (stable: ties by lowest index), and the smallest."""
    size = np.abs(residual).ravel()
    order = np.argsort(-size, kind="stable")[:count]
    mask = np.zeros(size.size, bool)
    mask[order] = True
    threshold = float(size[order[-1]]) if count else np.inf
    return mask.reshape(residual.shape), threshold


class Part:
    """What one model adds to one matrix: its delta, L, mask and the bounds for another L."""

    def __init__(self, delta, recipe):
        self.delta = delta
        self.low, self.s = low_rank(delta, recipe.rank)
        residual = delta - self.low
        self.mask, threshold = largest(residual, kept_count(recipe.density, delta.size))
        self.value = np.where(self.mask, delta, self.low)
        self.norm = float(np.linalg.norm(delta))
        r, s = recipe.rank, self.s
        self.gap = float((s[r - 1] - s[r]) / s[r - 1]) if 0 < r < s.size and s[r - 1] > 0 else 1.0
        self.error = T2 * self.norm * max(1.0, GAP / max(self.gap, 1e-12))
        self.tau = PEAK * self.error / delta.size ** 0.5
        self.unsure = np.abs(np.abs(residual) - threshold) <= self.tau
        if not 0 < kept_count(recipe.density, delta.size) < delta.size:
            self.unsure[:] = False


def exact(base, values, recipe):
    """base + lambda * sum of weight * value in f64, and the size of its terms."""
    total, terms = np.zeros(base.shape), np.abs(base)
    for weight, value in zip(recipe.weights, values):
        total += weight * value
        terms = terms + abs(recipe.scale * weight) * np.abs(value)
    return base + recipe.scale * total, terms


def rounding_interval(got, low, high, dtype):
    """True where `got` is the rounding of some number in [low, high]."""
    with np.errstate(over="ignore"):
        return (got >= low.astype(dtype)) & (got <= high.astype(dtype))


def same(a, b):
    return (a == b) | (np.isnan(a) & np.isnan(b))


def check_plain(got, value, terms):
    want = value.astype(got.dtype)
    wrong = ~same(got, want)
    error = 2.0**-48 * terms
    bad = wrong & ~rounding_interval(got, value - error, value + error, got.dtype)
    return {"differ": int(wrong.sum()), "unexplained": int(bad.sum())}


def check_low_rank(got, base, parts, value, terms, recipe):
    """Every element must be explained by small errors in L and by flips near the thresholds."""
    want, flat = value.astype(got.dtype), 2.0**-48 * terms
    wrong = ~same(got, want)
    where = np.nonzero(wrong)
    explained, flipped = np.zeros(where[0].size, bool), np.zeros(where[0].size, bool)
    net = 0  # entries that only the program kept, less those that only the oracle kept
    rows = [(p.delta[where], p.low[where], p.mask[where], p.unsure[where], p.tau) for p in parts]
    for flips in sorted(itertools.product((False, True), repeat=len(parts)), key=sum):
        centre, error, allowed = np.zeros(where[0].size), flat[where].copy(), True
        for flip, weight, (delta, low, mask, unsure, tau) in zip(flips, recipe.weights, rows):
            keep = mask ^ flip
            centre += weight * np.where(keep, delta, low)
            error += np.where(keep, 0.0, abs(recipe.scale * weight) * tau)
            allowed = allowed & (unsure | (not flip))
        centre = base[where] + recipe.scale * centre
        fits = rounding_interval(got[where], centre - error, centre + error, got.dtype) & allowed
        fresh = fits & ~explained & any(flips)
        net += sum(int((fresh & ~r[2]).sum()) - int((fresh & r[2]).sum())
                   for flip, r in zip(flips, rows) if flip)
        flipped |= fresh
        explained |= fits
    off = np.where(wrong, got.astype(np.float64) - want, 0.0)
    update = float(np.linalg.norm(value - base))
    kept = sum(int(p.mask.sum()) for p in parts)
    # The same bound in the norm, entries that flipped left out: |L error| + half a unit each.
    steady = np.ones(got.shape, bool)
    steady[tuple(w[flipped] for w in where)] = False
    half_unit = np.abs(np.spacing(want)).astype(np.float64) / 2
    bound = (sum(abs(recipe.scale * w) * p.error for w, p in zip(recipe.weights, parts))
             + float(np.linalg.norm(half_unit[steady])))
    distance = float(np.linalg.norm((got.astype(np.float64) - value)[steady]))
    return {"differ": int(wrong.sum()), "unexplained": int((~explained).sum()),
            "flips": int(flipped.sum()), "net_flips": net,
            "flips_balanced": abs(net) <= 4 + 4 * int(flipped.sum()) ** 0.5,
            "mask_overlap": 1 - int(flipped.sum()) / kept if kept else 1.0,
            "max_difference": float(np.abs(off).max()),
            "relative_difference": float(np.linalg.norm(off)) / update if update else 0.0,
            "norm_within_bound": distance <= bound, "gap": min(p.gap for p in parts)}


def check_singular_values(got, base, parts, recipe):
    """Density 0 and one model: the folder holds L itself, up to the output's rounding."""
    found = np.linalg.svd((got.astype(np.float64) - base) / (recipe.scale * recipe.weights[0]),
                          compute_uv=False)
    s = parts[0].s
    want = np.where(np.arange(s.size) < recipe.rank, s, 0.0)
    noise = np.linalg.norm(np.spacing(got).astype(np.float64)) / 2
    bound = 1e-5 * s[0] + noise / abs(recipe.scale * recipe.weights[0])
    return {"singular_values_off": float(np.abs(found - want).max() / s[0]) if s[0] else 0.0,
            "singular_values_within_bound": bool(np.abs(found - want).max() <= bound)}


def merge_and_check(base, models, merged, recipe):
    """Yields (name, oracle's tensor, report row) for every tensor of the base."""
    for name in sorted(base):
        b = base[name].astype(np.float64)
        row, role = {"tensor": name, "role": role_of(name) or "plain"}, role_of(name)
        deltas = [m[name].astype(np.float64) - b for m in models]
        got = merged.get(name) if merged else None
        if POSITIONS.match(name):
            row["role"], out = "copied", base[name].astype(recipe.dtype)
            if got is not None:
                differ = int((got.view(np.uint8) != out.view(np.uint8)).sum())
                row |= {"differ": differ, "unexplained": differ}
        elif role and b.ndim == 2:
            parts = [Part(d, recipe) for d in deltas]
            value, terms = exact(b, [p.value for p in parts], recipe)
            out = value.astype(recipe.dtype)
            if got is not None:
                row |= check_low_rank(got, b, parts, value, terms, recipe)
                if recipe.density == 0 and len(parts) == 1 and recipe.scale * recipe.weights[0]:
                    row |= check_singular_values(got, b, parts, recipe)
        else:
            value, terms = exact(b, deltas, recipe)
            out = value.astype(recipe.dtype)
            if got is not None:
                row |= check_plain(got, value, terms)
        yield name, out, row


def summary(rows):
    out = {}
    for group in ("copied", "plain", "low rank"):
        own = [r for r in rows if (r["role"] if r["role"] in ("copied", "plain") else
                                   "low rank") == group]
        out[group] = {"tensors": len(own)} | {
            k: sum(r.get(k, 0) for r in own) for k in ("differ", "unexplained", "flips")}
        if group == "low rank" and own and "flips" in own[0]:
            out[group] |= {"lowest_mask_overlap": min(r["mask_overlap"] for r in own),
                           "largest_relative_difference": max(r["relative_difference"]
                                                              for r in own),
                           "gap_below_1e-2": sum(r["gap"] < GAP for r in own),
                           "failed_gates": {g: sum(not r.get(g, True) for r in own) for g in GATES}}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--density", type=float, required=True)
    parser.add_argument("--lambda", dest="scale", type=float, required=True)
    parser.add_argument("--weights", type=float, nargs="+")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--merged", help="folder to check")
    parser.add_argument("--write", help="folder for the oracle's own merge")
    parser.add_argument("-o", "--output", help="report, JSON")
    recipe = parser.parse_args()
    recipe.weights = recipe.weights or [1.0] * len(recipe.models)
    if len(recipe.weights) != len(recipe.models):
        parser.error("one weight for each model")
    base, _ = read_safetensors(model_file(recipe.base))
    models = [read_safetensors(model_file(m))[0] for m in recipe.models]
    merged, failures = {}, []
    if recipe.merged:
        merged, metadata = read_safetensors(model_file(recipe.merged))
        wrong = [k for k in sorted(base.keys() | merged.keys()) if k not in base or k not in merged
                 or merged[k].shape != base[k].shape or merged[k].dtype != recipe.dtype]
        if wrong or metadata.get("format") != "pt":
            raise SystemExit(f"names, shapes, types or format differ from the base's: {wrong[:8]}")
    result, rows = {}, []
    for name, out, row in merge_and_check(base, models, merged, recipe):
        result[name] = out
        rows.append(row)
        if row.get("unexplained") or not all(row.get(gate, True) for gate in GATES):
            failures.append(name)
    log(f"{len(rows)} tensors done")
    if recipe.write:
        from safetensors.numpy import save_file
        folder = Path(recipe.write)
        folder.mkdir(parents=True, exist_ok=True)
        for path in Path(recipe.base).iterdir():
            if path.suffix != ".safetensors":
                text = path.read_text("utf-8")
                if path.name == "config.json":
                    text = re.sub(r'("(?:torch_)?dtype": )"\w+"', rf'\1"{recipe.dtype}"', text)
                (folder / path.name).write_text(text, "utf-8")
        save_file(result, folder / "model.safetensors", metadata={"format": "pt"})
    if recipe.merged:
        facts = {"merged": Path(recipe.merged).name, "base": Path(recipe.base).name,
                 "models": [Path(m).name for m in recipe.models], "weights": recipe.weights,
                 "rank": recipe.rank, "density": recipe.density, "lambda": recipe.scale,
                 "dtype": recipe.dtype, "summary": summary(rows), "failed": failures,
                 "versions": versions("numpy", "safetensors")}
        for group, numbers in facts["summary"].items():
            print(f"{group}: {numbers}")
        print("FAILED: " + ", ".join(failures[:8]) if failures else "every tensor is explained")
        if recipe.output:
            write_rows(recipe.output, facts, rows)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

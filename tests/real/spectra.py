"""Singular-value facts of every task-vector matrix: is low rank plus sparse a fair picture?

  spectra.py [MODEL ...] [-o results/spectra.json]     (default: the fine-tunes, f16 and f32)

One row a matrix and a summary (median, least, greatest) a role. All norms and SVDs in f64.
  energy      share of the squared norm in the first 1, 4, 7, 16, 64 singular values
  gap7        (s_7 - s_8) / s_7: where it is small, the rank-7 part is ill-defined
  noise       for a model stored in f16: the largest singular value that rounding alone would
              give (its rms error times sqrt(m) + sqrt(n)), relative to s_1; 0 for f32
  above       how many singular values exceed that noise; for f32 how many exceed s_1 * 2^-24 * n
  zeros       share of entries that are exactly zero: f16 rounding erased the update
"""
import argparse
from pathlib import Path

import numpy as np

from common import (LANGUAGES, MODELS, RESULTS, log, model_file, read_safetensors, versions,
                    write_rows)
from oracle import role_of

POSITIONS = "model.encoder.embed_positions.weight"
RANKS = (1, 4, 7, 16, 64)
FIELDS = ("norm", "s1", "gap7", "s7_s1", "s64_s1", "last_s1", "energy1", "energy4", "energy7",
          "energy16", "energy64", "noise", "above", "zeros")


def facts(base, tuned):
    delta = tuned.astype(np.float64) - base.astype(np.float64)
    s = np.linalg.svd(delta, compute_uv=False)
    m, n = delta.shape
    total = float((s ** 2).sum())
    noise = 0.0
    if tuned.dtype == np.float16:
        step = np.abs(np.spacing(tuned)).astype(np.float64)
        noise = float(np.sqrt((step ** 2).mean() / 12)) * (m ** 0.5 + n ** 0.5)
    row = {"norm": total ** 0.5, "s1": s[0], "gap7": (s[6] - s[7]) / s[6], "s7_s1": s[6] / s[0],
           "s64_s1": s[63] / s[0], "last_s1": s[-1] / s[0]}
    row |= {f"energy{r}": float((s[:r] ** 2).sum()) / total for r in RANKS}
    floor = noise or s[0] * 2.0 ** -24 * max(m, n)
    row |= {"noise": noise / s[0], "above": int((s > floor).sum()),
            "zeros": float((delta == 0).mean())}
    return {k: v if isinstance(v, int) else float(f"{v:.5g}") for k, v in row.items()}


def summarise(rows):
    out = {}
    for model in dict.fromkeys(r["model"] for r in rows):
        mine = [r for r in rows if r["model"] == model]
        for role in ["all"] + sorted({r["role"] for r in mine}):
            own = [r for r in mine if role in ("all", r["role"])]
            out.setdefault(model, {})[role] = {"matrices": len(own)} | {
                k: [float(f"{f([r[k] for r in own]):.4g}") for f in (np.median, np.min, np.max)]
                for k in FIELDS}
        out[model]["gap7_below_1e-2"] = sum(r["gap7"] < 1e-2 for r in mine)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help="folders below models/")
    parser.add_argument("-o", "--output", default=RESULTS / "spectra.json", type=Path)
    args = parser.parse_args()
    names = args.models or [x for la in LANGUAGES for x in (la, la + "-f32")
                            if model_file(MODELS / x).exists()]
    base, _ = read_safetensors(model_file(MODELS / "base"))
    rows, positions = [], {}
    for name in names:
        tuned, _ = read_safetensors(model_file(MODELS / name))
        moved = tuned[POSITIONS].astype(np.float64) - base[POSITIONS]
        positions[name] = float(f"{np.abs(moved).max():.4g}")
        for tensor in (t for t in base if role_of(t)):
            shape = list(base[tensor].shape)
            rows.append({"model": name, "tensor": tensor, "role": role_of(tensor), "shape": shape}
                        | facts(base[tensor], tuned[tensor]))
        log(name, "done")
    result = summarise(rows)
    write_rows(args.output, {"what": "singular values of task vectors of Whisper base",
                             "summary_is": "[median, least, greatest]",
                             "encoder_positions_largest_change": positions,
                             "versions": versions("numpy"), "summary": result}, rows)
    for name, roles in result.items():
        for role, facts_ in roles.items():
            if isinstance(facts_, dict):
                print(name, role, {k: facts_[k][0] for k in ("energy7", "gap7", "s7_s1", "noise",
                                                             "above", "zeros")})


if __name__ == "__main__":
    main()

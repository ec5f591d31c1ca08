"""judge.py - is an output what the oracle expects?

Values: every element must be the rounding of the expected f64 value; another one is accepted only
if the interval of f64's own error around the expectation holds a rounding boundary between the two.

Near: the whole matrix lies within the bound, 1e-6 of the norm of the update, beside half a step of
rounding for each element.

LowRank (W = base + scale * sum weight * Z, Z = kept ? delta : low). A truncated SVD is bounded, not
bit-exact, so with L the low-rank part, d the task vector and L_ref that of an f64 SVD:
  - where the spectrum has a gap behind the rank, norm(L - L_ref) <= 1e-5 norm(d) (gate T2). At
    density 0 the output must therefore lie within that of base + scale * sum weight * L_ref, in the
    Frobenius norm of the whole matrix, beside half a step of rounding for each element.
  - one model at density 0: L = (output - base) / (scale * weight) is rebuilt and must be nearly as
    near to d as the optimum (T1), have singular values like d's (T3) and no more than r (T4).
  - density above 0: each element must be the 'kept' value (exactly rounded, as Values) or the 'low'
    value (T2). Which one is decided by the reference selection on |d - L_ref|, except where that is
    within T2's bound of the threshold: there both are accepted. With one model the number kept must
    be floor(density * size).
  - no gap: L itself is ill-posed, only T1, T3 and T4 apply.
"""
import itertools

import numpy as np

from lors_oracle import EPS, Copy, Near, Values
from tensors import decode, half_step, round_to


class Counts:
    """What was compared, over the whole run."""

    def __init__(self):
        self.exact = self.interval = self.bounded = self.either = self.ill_posed = 0
        self.near = 0


def judge(name, expected, tensor, counts):
    """A list of complaints about one tensor of the output."""
    if isinstance(expected, Copy):
        meant = expected.tensor
        same = (meant.dtype, meant.shape, meant.raw) == (tensor.dtype, tensor.shape, tensor.raw)
        return [] if same else [f"{name}: is not the base's, in {meant.dtype}"]
    if (expected.dtype, list(expected.shape)) != (tensor.dtype, tensor.shape):
        return [f"{name}: is {tensor.dtype} {tensor.shape}, not {expected.dtype} {expected.shape}"]
    stored = decode(tensor.raw, tensor.dtype)
    if isinstance(expected, Values):
        return judge_values(name, expected, stored, counts)
    if isinstance(expected, Near):
        return judge_near(name, expected, stored, counts)
    return judge_low_rank(name, expected, stored, counts)


def within(stored, value, error, dtype):
    """Is the stored value a rounding of something within the error? NaN in value: impossible."""
    low, high = round_to(value - error, dtype), round_to(value + error, dtype)
    return (low <= stored) & (stored <= high)


def judge_values(name, expected, stored, counts):
    good = np.zeros(stored.size, bool)
    exact = np.zeros(stored.size, bool)
    for value, error in expected.candidates:
        rounded = round_to(value, expected.dtype)
        # Where nothing was added there is no error, and -0 is not 0.
        same = (rounded == stored) & ((error > 0) | (np.signbit(rounded) == np.signbit(stored)))
        exact |= same
        good |= same | (within(stored, value, error, expected.dtype) & (error > 0))
    counts.exact += int(exact.sum())
    counts.interval += int((good & ~exact).sum())
    return first_bad(name, good, stored, expected.candidates[0][0])


def judge_near(name, expected, stored, counts):
    if np.isnan(expected.bound):
        counts.ill_posed += 1
        return []
    counts.near += 1
    distance = float(np.linalg.norm(stored - expected.value))
    allowed = rounding_norm(stored, expected.dtype) + expected.bound
    allowed += EPS * float(np.linalg.norm(expected.value))
    return [] if distance <= allowed else \
        [f"{name}: {distance:.3g} from the reference, {allowed:.3g} allowed"]


def first_bad(name, good, stored, meant):
    if good.all():
        return []
    at = int(np.argmin(good))
    return [f"{name}: {int((~good).sum())} of {good.size} elements are wrong, the first at {at}: "
            f"{stored[at]!r}, expected {meant[at]!r}"]


def judge_low_rank(name, expected, stored, counts):
    parts = [p for p in expected.parts if p.exact.any() and p.weight != 0 and expected.scale != 0]
    complaints = []
    alone = len(parts) == 1 and not parts[0].full and parts[0].kept == 0 and parts[0].rank > 0
    if alone:
        complaints += judge_alone(name, expected, parts[0], stored, counts)
    if not all(p.has_gap for p in parts):
        counts.ill_posed += 1
        return complaints
    complaints += judge_elements(name, expected, parts, stored, counts)
    if all(p.kept == 0 for p in parts):
        complaints += judge_norm(name, expected, parts, stored)
    return complaints


def rounding_norm(stored, dtype):
    return float(np.sqrt((half_step(stored, dtype) ** 2).sum())) * (1 + 1e-9)


def judge_norm(name, expected, parts, stored):
    """Density 0: the distance of the whole matrix from base + scale * sum weight * L_ref."""
    meant = expected.base + expected.scale * sum(
        p.weight * (p.exact if p.full else p.low) for p in parts) if parts else expected.base
    distance = float(np.linalg.norm(stored - meant))
    allowed = rounding_norm(stored, expected.dtype) + abs(expected.scale) * sum(
        abs(p.weight) * p.low_error for p in parts)
    return [] if distance <= allowed else \
        [f"{name}: {distance:.3g} from the reference, {allowed:.3g} allowed (T2)"]


def judge_alone(name, expected, part, stored, counts):
    """One model at density 0: L rebuilt from the output."""
    factor = expected.scale * part.weight
    low = ((stored - expected.base) / factor).reshape(expected.shape[0], -1)
    delta = part.delta.reshape(low.shape)
    noise = (rounding_norm(stored, expected.dtype) + EPS * np.linalg.norm(expected.base)) / \
        abs(factor)
    optimum = float(np.sqrt((part.singular[part.rank:] ** 2).sum()))
    distance = float(np.linalg.norm(delta - low))
    complaints = []
    if distance > (1 + 1e-6) * optimum + 4 * 2.0 ** -24 * part.norm + noise:
        complaints.append(f"{name}: {distance:.9g} from the task vector, "
                          f"optimum {optimum:.9g} (T1)")
    found = np.linalg.svd(low, compute_uv=False)
    wrong = np.abs(found[:part.rank] - part.singular[:part.rank]).max()
    if wrong > 1e-5 * part.singular[0] + noise:
        complaints.append(f"{name}: singular values differ by {wrong:.3g} (T3)")
    # Rounding each entry of L to f32 is a perturbation of norm 2^-24 norm(L) at most.
    if part.rank < len(found) and found[part.rank] > 2.0 ** -24 * part.norm + noise:
        complaints.append(f"{name}: rank above {part.rank}: {found[part.rank]:.3g} (T4)")
    counts.bounded += 1
    return complaints


def selections(part):
    """For each element: may it be kept, may it be not?"""
    size = part.exact.size
    if part.full:
        return np.ones(size, bool), np.zeros(size, bool)
    if part.kept == 0:
        return np.zeros(size, bool), np.ones(size, bool)
    residual = np.abs((part.delta - part.low).astype(np.float32).astype(np.float64))
    order = np.argsort(-residual, kind="stable")
    kept = np.zeros(size, bool)
    kept[order[:part.kept]] = True
    # L and its own rounding to f32 may move each residual by this much, and the threshold, too.
    slack = 2 * (part.low_error + 2.0 ** -23 * np.abs(part.low) + 2.0 ** -23 * residual)
    if part.rank == 0:
        slack = np.zeros(size)
    near = np.abs(residual - residual[order[part.kept - 1]]) <= slack
    near |= np.abs(residual - residual[order[part.kept]]) <= slack
    if part.rank == 0:
        near[:] = False  # no SVD: the selection is exact
    return kept | near, ~kept | near


def judge_elements(name, expected, parts, stored, counts):
    """Every element is the sum of kept or low values that the selections allow."""
    may = [selections(p) for p in parts]
    good = np.zeros(stored.size, bool)
    first = None
    for choice in itertools.product((0, 1), repeat=len(parts)): # 0: kept
        possible = np.ones(stored.size, bool)
        update, size, slack = (np.zeros(stored.size) for _ in range(3))
        for part, picked, allowed in zip(parts, choice, may):
            possible &= allowed[picked]
            term = part.weight * (part.low if picked else part.exact)
            update, size = update + term, size + np.abs(term)
            slack = slack + (abs(part.weight) * (part.low_error + 2.0 ** -24 * np.abs(part.low))
                             if picked else 0)
        error = EPS * (np.abs(expected.base) + (len(parts) + 6) * abs(expected.scale) * size)
        error = error + abs(expected.scale) * slack
        value = expected.base + expected.scale * update
        first = value if first is None else np.where(possible, value, first)
        good |= possible & within(stored, value, error, expected.dtype)
    counts.exact += int(good.sum())
    counts.either += int(sum((a & b).sum() for a, b in may))
    complaints = first_bad(name, good, stored, first)
    if len(parts) == 1 and not complaints and not parts[0].full:
        complaints = judge_count(name, expected, parts[0], stored)
    return complaints


def judge_count(name, expected, part, stored):
    """One model: how many elements are the kept value, told apart from the low value?"""
    factor = expected.scale * part.weight
    error = EPS * (np.abs(expected.base) + 8 * np.abs(factor * part.exact))
    kept = within(stored, expected.base + factor * part.exact, error, expected.dtype)
    slack = abs(factor) * (part.low_error + 2.0 ** -24 * np.abs(part.low)) + error
    low = within(stored, expected.base + factor * part.low, slack, expected.dtype)
    least, most = int((kept & ~low).sum()), int(kept.sum())
    return [] if least <= part.kept <= most else \
        [f"{name}: {least} to {most} entries are kept instead of {part.kept}"]

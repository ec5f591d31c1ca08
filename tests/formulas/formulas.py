"""formulas.py - the methods in NumPy, each as its paper (or mergekit) has it, and the cases."""
import math

import numpy as np


class Case:
    """One recipe. `shared`: parameters of the whole merge; `own`: name -> a value per model."""

    def __init__(self, method, formula, n_models=3, base=True, shared=None, own=None, scale=0.01,
                 measured=False, compat=False, statistics=None, without=()):
        self.method, self.formula, self.n_models, self.base = method, formula, n_models, base
        self.shared, self.own, self.scale = shared or {}, own or {}, scale
        self.measured, self.compat, self.statistics = measured, compat, statistics
        self.without = without
        words = [f"{key}={value}" for key, value in {**self.shared, **self.own}.items()]
        self.label = " ".join([method, *(["compat"] if compat else []), *words])

    def weights(self, default=1.0):
        return self.own.get("weight", [default] * self.n_models)

    def get(self, name, default):
        return self.shared.get(name, default)


def per_model(values, shape):
    return np.array(values, np.float64).reshape((-1,) + (1,) * len(shape))


def changes(base, models):
    return np.stack(models) - (0 if base is None else base)


# --- sparse task vectors ------------------------------------------------------------------------

def largest(delta, count):
    """Mask of the largest magnitudes of the task vector in f32, ties by lowest index."""
    order = np.argsort(-np.abs(delta.astype(np.float32)), axis=None, kind="stable")
    mask = np.zeros(delta.size, bool)
    mask[order[:count]] = True
    return mask.reshape(delta.shape)


def window(case, k, delta):
    count = math.floor(case.own["density"][k] * delta.size)
    if case.compat and case.method == "ties" and case.own["density"][k] > 0:
        count = max(count, 1)
    gamma = case.own.get("gamma", [0.01] * case.n_models)[k] if "breadcrumbs" in case.method \
        or case.get("sparsify", "") == "window" else 0
    dropped = min(math.floor(gamma * delta.size), delta.size - count) if count else 0
    return largest(delta, count + dropped) & ~largest(delta, dropped)


def combine(case, base, kept, elects):
    """kept: task vectors after sparsifying and scaling."""
    weights = per_model(case.weights(), base.shape)
    terms = weights * kept
    lam = case.get("lambda", 1.0)
    agree = np.ones(terms.shape, bool)
    if elects:
        vote, size = terms.sum(0), np.abs(terms).sum(0)
        sign = np.where(vote >= -2.0**-50 * size, 1.0, -1.0)
        agree = terms * sign > 0
    total = np.where(agree, terms, 0).sum(0)
    divisor = np.broadcast_to(np.where(agree, weights, 0).sum(0), base.shape)
    divisor = np.where(np.abs(divisor) <= 1e-12 * np.abs(weights).sum(), 1, divisor)
    normalize = case.get("normalize", case.method in ("ties", "della"))
    update = lam * total / (divisor if normalize else 1)
    return base + update, np.abs(lam * terms).sum(0) / (np.abs(divisor) if normalize else 1)


def sparse(case, name, base, models):
    del name
    elects = case.get("combine", "") == "elect" or case.method in ("ties", "breadcrumbs_ties")
    kept = []
    for k, delta in enumerate(changes(base, models)):
        part = np.where(window(case, k, delta), delta, 0)
        if case.get("rescale", False) and np.abs(part).sum() > 0:
            part = part * np.abs(delta).sum() / np.abs(part).sum()
        kept.append(part)
    return combine(case, base, np.stack(kept), elects)


def low_rank_and_sparse(delta, rank, residual):
    u, s, v = np.linalg.svd(delta, full_matrices=False)
    low = (u[:, :rank] * s[:rank]) @ v[:rank]
    rest = delta - low
    return np.where(largest(rest, math.floor(residual * delta.size)), delta, low)


def is_layer_matrix(name, tensor):
    return tensor.ndim == 2 and any(part in name for part in ("_proj.weight", "fc1.w", "fc2.w"))


def chain(case, name, base, models):
    """decompose: lors first, then the sparse family over what it leaves."""
    norms = 0.0
    if is_layer_matrix(name, base):
        norms = sum(norm(model - base) for model in models)
        models = [base + low_rank_and_sparse(model - base, case.shared["rank"],
                                             case.shared["residual"])
                  if (model != base).any() else model for model in models]
    wanted, terms = sparse(case, name, base, models)
    return wanted, terms + 2.0**24 * 1e-6 * norms  # of a low-rank part 1e-5 of its norm is allowed


def random_statistics(case, found, base, models):
    """One model: how many entries are kept, and what becomes of them."""
    density = case.own["density"][0]
    for name in ("odd.blocks", "model.encoder.layers.0.fc1.weight"):
        delta, update = models[0][name] - base[name], found[name] - base[name]
        kept = update != 0
        n = np.count_nonzero(delta)
        if abs(kept.sum() / n - density) > 5 * math.sqrt(density / n):
            yield f"{name}: {kept.sum() / n:.3f} of the entries are kept, not {density}"
        rank = np.argsort(np.argsort(np.abs(delta).astype(np.float32), axis=1, kind="stable"),
                          axis=1, kind="stable")
        p = density * np.ones(delta.shape)
        if "della" in case.method:
            epsilon = case.own["epsilon"][0]
            p = np.clip(density - epsilon + 2 * epsilon * rank / (delta.shape[1] - 1), 0, 1)
            low, high = kept[p < density].mean(), kept[p > density].mean()
            if not low < density < high:
                yield f"{name}: small entries are not dropped more often: {low:.3f} {high:.3f}"
        scale = np.abs(delta).sum() / np.abs(delta[kept]).sum() if case.compat else 1 / p
        scale = scale if case.get("rescale", True) else np.ones(delta.shape)
        wanted = np.where(kept, delta * scale, 0)
        if (np.abs(update - wanted) > 2.0**-22 * (np.abs(base[name]) + np.abs(wanted))).any():
            yield f"{name}: what is kept is not scaled as promised"
    if (found["odd.frozen"] != base["odd.frozen"]).any():
        yield "a frozen tensor has moved"


# --- combinations by norms and angles -----------------------------------------------------------

def combined(base, xs, coefficients):
    parts = per_model(coefficients, xs[0].shape) * np.stack(xs)
    return (0 if base is None else base) + parts.sum(0), np.abs(parts).sum(0)


def norm(x):
    return math.sqrt(float((x * x).sum()))


def angle(x, y):
    return math.acos(max(-1.0, min(1.0, float((x * y).sum()) / (norm(x) * norm(y)))))


def nuslerp_vector(case, x, y):
    weights = case.weights()
    total = weights[0] + weights[1]
    t = 0.5 if abs(total) < 1e-6 else weights[1] / total
    if norm(x) == 0 or norm(y) == 0 or math.sin(angle(x, y)) < 1e-8:
        return 1 - t, t
    omega = angle(x, y)
    return math.sin((1 - t) * omega) / math.sin(omega), math.sin(t * omega) / math.sin(omega)


def nuslerp(case, name, base, models):
    del name
    xs = changes(base, models)
    if case.get("nuslerp_flatten", True):
        return combined(base, xs, nuslerp_vector(case, *xs))
    rows = [row.reshape(1 if row.ndim == 1 else row.shape[0], -1) for row in xs]
    if case.get("nuslerp_row_wise", False) and rows[0].shape[0] > 1:
        c = np.array([nuslerp_vector(case, x, y) for x, y in zip(rows[0].T, rows[1].T)])
        parts = c.T[:, None, :] * np.stack(rows)
    else:
        c = np.array([nuslerp_vector(case, x, y) for x, y in zip(*rows)]).T[:, :, None]
        parts = c * np.stack(rows)
    total = parts.sum(0).reshape(xs[0].shape) + (0 if base is None else base)
    return total, np.abs(parts).sum(0).reshape(xs[0].shape)


def multislerp(case, name, base, models):
    """As mergekit has it, with the step in the tangent space, in the limit eps -> 0."""
    del name
    xs, weights = changes(base, models), np.array(case.weights())
    weights = weights / weights.sum() if case.get("normalize_weights", True) else weights
    norms = np.array([norm(x) for x in xs])
    units = [x / size if size else x for x, size in zip(xs, norms)]
    mean = sum(w * u for w, u in zip(weights, units))
    if norm(mean) < 1e-8:
        return combined(base, xs, weights)
    mean = mean / norm(mean)
    tangent = sum(w * (u - (u * mean).sum() * mean) for w, u in zip(weights, units))
    step = norm(tangent)
    point = mean * math.cos(step) + (tangent * math.sin(step) / step if step > 1e-12 else 0)
    return (0 if base is None else base) + point * (weights * norms).sum(), \
        np.abs(xs).sum(0) * max(1, np.abs(weights).max())


def karcher(case, name, base, models):
    """The minimum of the sum of squared angles, by gradient steps on the vectors themselves."""
    del name, base
    weights = np.array(case.weights()) / sum(case.weights())
    norms = np.array([norm(x) for x in models])
    units = [x / size for x, size in zip(models, norms)]
    u = sum(w * x for w, x in zip(weights, units))
    u = u / norm(u)
    for _ in range(60):
        step = np.zeros_like(u)
        for w, x in zip(weights, units):
            cosine = min(1.0, max(-1.0, float((u * x).sum())))
            if math.acos(cosine) > 1e-9:
                step = step + w * math.acos(cosine) / math.sin(math.acos(cosine)) * (x - cosine * u)
        size = norm(step)
        if size < 1e-13:
            break
        u = math.cos(size) * u + math.sin(size) * step / size
        u = u / norm(u)
    return u * (weights * norms).sum(), np.abs(models).sum(0)


def stock_weight(case, deltas):
    n, cosines = len(deltas), []
    for i in range(n):
        for j in range(i):
            size = norm(deltas[i]) * norm(deltas[j])
            size = max(size, 1e-6) if case.compat else size
            cosines.append((deltas[i] * deltas[j]).sum() / size if size else 0.0)
    c = sum(cosines) / len(cosines)
    t = n * c / (1 + (n - 1) * c)
    return t if case.compat else min(1.0, max(0.0, t)) if c > 0 else 0.0


def model_stock(case, name, base, models):
    del name
    deltas = changes(base, models)
    n = len(models)
    if not case.get("filter_wise", False):
        wanted, _ = combined(base, deltas, [stock_weight(case, deltas) / n] * n)
        return wanted, np.abs(deltas).sum(0)
    rows = np.stack([d.reshape(1 if d.ndim == 1 else d.shape[0], -1) for d in deltas])
    t = np.array([stock_weight(case, rows[:, i]) for i in range(rows.shape[1])])[:, None]
    return base + (t * rows.mean(0)).reshape(base.shape), np.abs(deltas).sum(0)


def metagpt(case, name, base, models):
    del name
    deltas = changes(base, models)
    squares = np.array([norm(d) ** 2 for d in deltas])
    shares = squares / squares.sum() if squares.sum() > 0 else squares
    return combined(base, deltas, case.get("lambda", 1.0) * shares)


def median_is_least(case, found, base, models):
    """No formula: a small step in any direction must not make the sum of distances less."""
    draw = np.random.default_rng(3)
    for name in ("odd.blocks", "model.encoder.layers.0.fc1.weight", "odd.some"):
        def total(point):
            return sum(w * norm(point - model[name])
                       for w, model in zip(case.weights(), models))
        here = total(found[name])
        for model in models:
            toward = model[name] - found[name]
            if total(found[name] + 1e-3 * toward) < here * (1 - 1e-9):
                yield f"{name}: nearer to a model the sum of distances is less"
        aside = draw.normal(0, 1e-5, found[name].shape)
        if total(found[name] + aside) < here * (1 - 1e-9):
            yield f"{name}: aside the sum of distances is less"
    if (found["odd.frozen"] != base["odd.frozen"]).any():
        yield "models that agree have another median"


# --- element by element -------------------------------------------------------------------------

def nearswap(case, name, base, models):
    del name
    distance = np.abs(base - models[0])
    share = np.clip(np.divide(case.shared["t"], distance, out=np.ones_like(base),
                              where=distance > 0), 0, 1)
    return share * models[0] + (1 - share) * base, distance + np.abs(base)


def ram(case, name, base, models):
    del name
    deltas = changes(base, models)
    active = np.abs(deltas) > case.get("epsilon", 1e-5)
    count = active.sum(0)
    return base + np.where(active, deltas, 0).sum(0) / np.maximum(count, 1), np.abs(deltas).sum(0)


def ramplus_tl(case, name, base, models):
    del name
    deltas = changes(base, models)
    active = np.abs(deltas) > case.get("epsilon", 1e-5)
    count = active.sum(0)
    update = np.where(active, deltas, 0).sum(0) / np.maximum(count, 1)
    for delta, own in zip(deltas, active):
        alone = own & (count == 1)
        share = (own.sum() - alone.sum()) / max(alone.sum(), 1)
        scale = 1 + case.get("r", 0.1) * min(share, case.get("alpha", 0.2))
        update = np.where(alone, scale * delta, update)
    return base + update, (1 + case.get("r", 0.1)) * np.abs(deltas).sum(0)


def terms_of(case, base, models):
    return per_model(case.weights(), base.shape) * changes(base, models)


def magmax(case, name, base, models):
    del name
    terms = terms_of(case, base, models)
    best = np.abs(terms).max(0)
    chosen = np.where((terms == best).any(0), best, -best)
    return base + case.get("lambda", 1.0) * chosen, best


def consensus(case, name, base, models):
    del name
    terms = terms_of(case, base, models)
    others = terms.sum(0) - terms
    edge = np.abs(terms) - case.get("threshold", 0.4) * np.abs(others)
    needs = (terms != 0) & (edge >= 0)
    # Where a term is at the threshold but for rounding, exact arithmetic would be needed here.
    assert not ((np.abs(edge) < 1e-15 * np.abs(terms).sum(0)) & (edge != 0) & (terms != 0)).any()
    taken = needs.sum(0) >= case.get("agreeing", 2)
    return base + case.get("lambda", 1.0) * np.where(taken, terms.sum(0), 0), np.abs(terms).sum(0)


def emr(case, name, base, models):
    del name
    terms = terms_of(case, base, models)
    total = terms.sum(0)
    sign = np.where(np.abs(total) <= 2.0**-50 * np.abs(terms).sum(0), 0, np.sign(total))
    return base + case.get("lambda", 1.0) * sign * np.where(terms * sign > 0, np.abs(terms),
                                                            0).max(0), np.abs(terms).max(0)


def sce(case, name, base, models):
    del name
    deltas = changes(base, models)
    top = case.get("select_topk", 1.0)
    if top < 1:
        spread = deltas.std(0)
        deltas = deltas * largest(spread, math.floor(top * np.count_nonzero(spread)))
    shares = np.array([(d * d).mean() for d in deltas])
    if shares.sum() == 0 or (case.compat and shares.sum() < 1e-6):
        shares = np.ones(len(shares))
    shares = per_model(shares / shares.sum(), base.shape)
    vote, size = deltas.sum(0), np.abs(deltas).sum(0)
    agree = deltas * np.where(vote >= -2.0**-50 * size, 1.0, -1.0) > 0
    total = np.where(agree, shares * deltas, 0).sum(0)
    divisor = np.where(agree, shares, 0).sum(0)
    return base + total / np.where(divisor > 0, divisor, 1), size


def softmax(x):
    shares = np.exp(x - x.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def arcee_fusion(case, name, base, models):
    del case, name
    p, q = softmax(models[0]) + 1e-8, softmax(base) + 1e-8
    importance = np.abs(models[0] - base) * (p * np.log(p / q)).sum(-1, keepdims=True)
    first, middle, third = (np.sort(importance, None)[int(q * (base.size - 1))]
                            for q in (0.25, 0.5, 0.75))
    threshold = middle + 1.5 * (third - first)
    at_the_edge = np.abs(importance - threshold) <= 1e-9 * threshold  # either, for rounding
    return np.where(importance >= threshold, models[0], base), \
        np.where(at_the_edge & (threshold > 0), 1e30, 0)


def pcb(case, name, base, models):
    """As the authors' program has it, tensor by tensor, what is 0 / 0 there being 1 or none."""
    del name
    deltas = changes(base, models).reshape(case.n_models, -1)
    n, clip = base.size, math.floor(case.get("clip", 1e-4) * base.size)
    total, changed = deltas.sum(0), int((deltas != 0).any(1).sum())
    top, bottom = np.zeros(n), np.zeros(n)
    edge = np.zeros(n, bool)
    for k, delta in enumerate(deltas):
        sizes = np.sort(np.abs(delta).astype(np.float32)).astype(np.float64)
        low, high = sizes[clip], sizes[n - 1 - clip]
        size = np.clip(np.abs(delta), low, high)
        own = ((size - low) / (high - low)) ** 2 if high > low else np.zeros(n)
        # Scores are of f32 and ranked as such.
        beta = np.maximum(np.exp(changed * (own - 1)) * np.tanh(delta * total), 0)
        score = beta.astype(np.float32).astype(np.float64)
        ranked = np.sort(score)
        least = ranked[min(n - 1, math.floor(n * (1 - case.own["density"][k])))]
        share = (score - least) / (ranked[-1] - least) if ranked[-1] > least else score > least
        share = np.where(score >= ranked[-1], score > 0, np.maximum(share, 0))
        edge |= (np.abs(beta - least) <= 2.0**-22 * least) & (least > 0)
        top += case.weights()[k] * share * np.sign(delta) * size
        bottom += share
    update = case.get("lambda", 1.2) * np.divide(top, bottom, out=np.zeros(n), where=bottom > 0)
    terms = np.abs(deltas).max(0) * 8 * (1 + 1e30 * (edge & (bottom < 1e-3)))
    return base + update.reshape(base.shape), terms.reshape(base.shape)


# --- the cases ----------------------------------------------------------------------------------

def cases():
    three, signed = {"weight": [0.5, 0.3, 0.4]}, {"weight": [1.0, -0.4, 0.7]}
    half = {"density": [0.5, 0.3, 0.8]}
    for compat in (False, True):
        yield Case("ties", sparse, own={**three, "density": [0.3, 0.004, 1.0]}, compat=compat)
        yield Case("ties", sparse, own={**signed, **half}, measured=True, compat=compat,
                   shared={"rescale": True, "normalize": False, "lambda": 1.3})
        yield Case("breadcrumbs", sparse, own={**three, **half, "gamma": [0.05, 0.3, 0.25]},
                   shared={"normalize": True}, compat=compat)
        yield Case("breadcrumbs_ties", sparse, own={**signed, **half}, compat=compat)
        for method in ("dare_linear", "dare_ties", "della", "della_linear"):
            own = {"weight": [1.0], "density": [0.4]}
            own.update({"epsilon": [0.2]} if "della" in method else {})
            yield Case(method, None, 1, own=own, compat=compat, statistics=random_statistics)
            yield Case(method, None, 1, own=own, compat=compat, statistics=random_statistics,
                       shared={"normalize": False, "rescale": compat})
        yield Case("model_stock", model_stock, measured=True, compat=compat)
        yield Case("model_stock", model_stock, measured=True, compat=compat, scale=1e-5)
        yield Case("sce", sce, measured=True, compat=compat, scale=3e-4)
    yield Case("model_stock", model_stock, measured=True, shared={"filter_wise": True})
    steps = {"decompose": "lors", "rank": 3, "residual": 0.2, "sparsify": "largest"}
    for more in ({}, {"combine": "elect", "normalize": True}, {"rescale": True, "lambda": 0.7},
                 {"sparsify": "window", "combine": "elect"}):
        yield Case("chain", chain, own={**signed, "density": [0.4, 0.6, 1.0]},
                   shared={**steps, **more}, measured=True)
    yield Case("chain", sparse, own={**three, **half}, shared={"sparsify": "largest"})
    yield Case("chain", sparse, own={**three, "density": [1.0] * 3}, shared={"combine": "elect"})
    yield Case("nuslerp", nuslerp, 2, base=False, own={"weight": [0.5, 0.7]}, scale=0.1)
    yield Case("nuslerp", nuslerp, 2, own={"weight": [0.5, 0.7]}, measured=True)
    yield Case("nuslerp", nuslerp, 2, base=False, own={"weight": [2, 1]}, scale=0.1,
               shared={"nuslerp_flatten": False})
    for based in (False, True):
        yield Case("nuslerp", nuslerp, 2, base=based, own={"weight": [0.3, 0.7]}, scale=0.1,
                   shared={"nuslerp_flatten": False, "nuslerp_row_wise": True}, measured=based)
    yield Case("multislerp", multislerp, base=False, own=three)
    yield Case("multislerp", multislerp, own=three, measured=True,
               shared={"normalize_weights": False})
    # Of one element: opposite numbers have no mean direction.
    yield Case("karcher", karcher, base=False, scale=0.02, without=("odd.single",),
               shared={"max_iter": 60, "tol": 1e-15})
    yield Case("karcher", karcher, base=False, scale=0.02, own=three, without=("odd.single",),
               shared={"max_iter": 60, "tol": 1e-15})
    yield Case("metagpt", metagpt, measured=True, shared={"lambda": 0.8})
    yield Case("geometric_median", None, base=False, statistics=median_is_least)
    yield Case("geometric_median", None, own=three, statistics=median_is_least)
    yield Case("nearswap", nearswap, 1, shared={"t": 0.004})
    yield Case("arcee_fusion", arcee_fusion, 1)
    yield Case("arcee_fusion", arcee_fusion, 1, scale=0.2)
    yield Case("ram", ram, shared={"epsilon": 0.01})
    yield Case("ram", ram, 1)
    yield Case("ramplus_tl", ramplus_tl, shared={"epsilon": 0.01})
    yield Case("ramplus_tl", ramplus_tl, shared={"epsilon": 0.015, "r": 0.7, "alpha": 3})
    yield Case("ramplus_tl", ramplus_tl, 1)
    yield Case("magmax", magmax, own=signed, shared={"lambda": 0.6})
    yield Case("consensus", consensus, own=three, shared={"threshold": 0.4123, "agreeing": 2})
    yield Case("consensus", consensus, own=signed, shared={"threshold": 0.6137, "agreeing": 3})
    yield Case("emr", emr, own=three)
    yield Case("pcb", pcb, own={"weight": [1.0, 0.8, 1.1], "density": [0.1, 0.2, 0.3]},
               measured=True)
    yield Case("pcb", pcb, own={"density": [0.3, 0.3, 0.02]}, measured=True, scale=0.2,
               shared={"lambda": 0.9, "clip": 0.02})
    yield Case("sce", sce, measured=True)
    yield Case("sce", sce, measured=True, shared={"select_topk": 0.3}, scale=0.2)

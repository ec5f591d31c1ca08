"""spectral_oracle.py - the methods on singular values once more, by numpy.linalg.svd in f64 alone.

Written from the papers: TSV-M (arXiv 2412.00081), its boost (2506.16506), Iso-C and Iso-CTS
(2502.04959), STAR (2502.10339), KnOTS (2410.19735), WUDI (2503.08099: its least squares, by
numpy.linalg.lstsq), SVC (2602.05536).
What a paper leaves to chance is zero here as in the program: directions whose singular value is 0,
of a task vector or of the stacked vectors. A result is well-posed where no cut falls between close
singular values, and none of those that count is close to 0: elsewhere the SVD itself has no digits
to compare.
"""
import math

import numpy as np

NULL, EDGE = 1e-6, 1e-4


class Spectral:
    """Task vectors [rows][cols], weighted; `sharp` becomes False where the result is ill-posed."""

    def __init__(self, deltas):
        self.deltas = [d for d in deltas if d.any()]
        self.count = len(deltas)
        self.shape = deltas[0].shape
        self.shortest = min(self.shape)
        self.sharp = True

    def directions(self, x, count, largest=0.0):
        """The leading `count` singular triplets that are not null."""
        u, s, v = np.linalg.svd(x, full_matrices=False)
        scale = max(s[0], largest)
        if 0 < count < len(s) and s[count - 1] > NULL * scale:
            self.sharp &= bool(s[count - 1] - s[count] > EDGE * scale)
        u, s, v = u[:, :count], s[:count], v[:count]
        kept = s > NULL * scale
        self.sharp &= not ((s > NULL * 1e-2 * scale) & (s < EDGE * scale)).any()
        return u[:, kept], s[kept], v[kept]

    def polar(self, x):
        """P Q' of x = P S Q', without what is null."""
        p, s, q = np.linalg.svd(x, full_matrices=False)
        if not s.size or s[0] == 0:
            return np.zeros_like(x)
        kept = s > NULL * s[0]
        self.sharp &= not ((s > NULL * 1e-2 * s[0]) & (s < EDGE * s[0])).any()
        return p[:, kept] @ q[kept]

    def join(self, parts, values):
        if not parts:
            return np.zeros(self.shape)
        u = self.polar(np.concatenate([p[0] for p in parts], axis=1))
        v = self.polar(np.concatenate([p[2] for p in parts], axis=0))
        return (u * np.concatenate(values)) @ v

    def tsv_m(self, ranks, boosts):
        parts, values = [], []
        for delta, rank, boost in zip(self.deltas, ranks, boosts):
            u, s, v = self.directions(delta, rank)
            if boost < 1 and s.size:
                share = np.cumsum(s) / s.sum()
                self.sharp &= bool(np.abs(share - boost).min() > 1e-9)
                s = np.maximum(s, s[min(int((share < boost).sum()), len(s) - 1)])
            parts.append((u, s, v))
            values.append(s)
        return self.join(parts, values)

    def iso_c(self):
        total = sum(self.deltas) if self.deltas else np.zeros(self.shape)
        values = np.linalg.svd(total, compute_uv=False)
        return values.mean() * self.polar(total)

    def iso_cts(self, fraction):
        r = self.shortest
        own = round((r - math.floor(fraction * r)) / self.count)
        own = r // self.count if own * self.count > r else own
        common = r - own * self.count
        total = sum(self.deltas) if self.deltas else np.zeros(self.shape)
        parts = [self.directions(total, common)]
        basis = parts[0][0]
        largest = np.linalg.svd(total, compute_uv=False)[0] if common else 0.0
        for delta in self.deltas:
            parts.append(self.directions(delta - basis @ (basis.T @ delta), own, largest))
        mean = sum(p[1].sum() for p in parts) / r
        return self.join(parts, [np.full(len(p[1]), mean) for p in parts])

    def star(self, weights, etas):
        update = np.zeros(self.shape)
        for delta, weight, eta in zip(self.deltas, weights, etas):
            u, s, v = np.linalg.svd(delta, full_matrices=False)
            share = np.cumsum(s) / s.sum()
            self.sharp &= bool(np.abs(share - eta / 100).min() > 1e-9) or eta == 100
            r = min(int((share < eta / 100).sum()) + 1, len(s)) if eta > 0 else 0
            if 0 < r < len(s):
                self.sharp &= bool(s[r - 1] - s[r] > EDGE * s[0]) or s[r - 1] <= NULL * s[0]
            if r:
                update += weight * s.sum() / s[:r].sum() * (u[:, :r] * s[:r]) @ v[:r]
        return update

    def wudi(self, ridge):
        """min over T of the stacked residuals (T - d) d' / norm(d) and sqrt(rho) (T - sum d)."""
        total = sum(self.deltas) if self.deltas else np.zeros(self.shape)
        if not self.deltas:
            return total
        cols = self.shape[1]
        shares = [d.T / np.linalg.norm(d) for d in self.deltas]
        wanted = [d @ x for d, x in zip(self.deltas, shares)]
        root = math.sqrt(ridge * len(self.deltas) / cols)
        left = np.concatenate([*shares, root * np.eye(cols)], axis=1)
        s = np.linalg.svd(left, compute_uv=False)
        kept = s > NULL * s[0]
        self.sharp &= not ((s > NULL * 1e-2 * s[0]) & (s < EDGE * s[0])).any()
        right = np.concatenate([*wanted, root * total], axis=1)
        return np.linalg.lstsq(left.T, right.T, rcond=float(NULL))[0].T if kept.any() else total

    def svc(self, merged, alpha):
        """merged: what is calibrated by the task vectors. Ill-posed where directions are not told
        apart, or a response is all but none."""
        u, s, v = self.directions(merged, self.shortest)
        if not s.size:
            return merged
        self.sharp &= bool((s[:-1] - s[1:] > EDGE * s[0]).all())
        responses = [u.T @ d for d in self.deltas]
        sizes = np.array([np.linalg.norm(a, axis=1) for a in responses]) / s[0]
        self.sharp &= not ((sizes > NULL * 1e-6) & (sizes < EDGE)).any()
        counts = np.zeros(len(s))
        for a, size in zip(responses, sizes):
            dots = np.sum(a * (s[:, None] * v), axis=1)
            squares = np.where(size > NULL, np.sum(a * a, axis=1), np.inf)
            counts += np.maximum(alpha, dots / squares)
        gamma = np.where(counts > 0, len(responses) / np.where(counts > 0, counts, 1), 1)
        return merged + (u * ((gamma - 1) * s)) @ v

    def knots(self, weights, densities, normalize):
        """TIES on the right vectors, as they are in f32; no cut and no sign may be a near thing."""
        if not self.deltas:
            return np.zeros(self.shape)
        cols = self.shape[1]
        u, s, v = self.directions(np.concatenate(self.deltas, axis=1), self.shape[0])
        self.sharp &= bool((s[:-1] - s[1:] > EDGE * s[0]).all())
        terms = []
        for k, (weight, density) in enumerate(zip(weights, densities)):
            block = v[:, k * cols:(k + 1) * cols].astype(np.float32).astype(np.float64)
            order = np.sort(np.abs(block), axis=None)[::-1]
            kept = math.floor(density * block.size)
            if 0 < kept < block.size:
                self.sharp &= bool(order[kept - 1] - order[kept] > 1e-6 * order[0])
            least = order[kept - 1] if kept else np.inf
            terms.append(weight * np.where(np.abs(block) >= least, block, 0.0))
        total, size = sum(terms), sum(np.abs(t) for t in terms)
        self.sharp &= not ((np.abs(total) < 1e-6 * size.max()) & (size > 0)).any()
        agree = [t * np.where(total >= 0, 1.0, -1.0) > 0 for t in terms]
        merged = sum(np.where(a, t, 0.0) for a, t in zip(agree, terms))
        if normalize:
            shares = sum(np.where(a, w, 0.0) for a, w in zip(agree, weights))
            merged = merged / np.where(shares == 0, 1.0, shares)
        return (u * s) @ merged

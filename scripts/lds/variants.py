"""Variants of the default estimator: which q, clipping, ridge and shrinkage, and the kernel of each under one checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from kernels import ROUNDING, Kernels

Array = np.ndarray[Any, Any]

#: λ in units of the mean ‖x‖², a factor of 2 apart.
GRID = tuple(float(value) for value in np.geomspace(0.005, 40.96, 14))
FITS, CAPS, SHRINKAGES = (0.3, 0.4, 0.45, 0.5, 0.6), (0.0, 0.3, 1.0), (0.0, 0.1, 0.2)
#: Over all classes, a rule explains this share of what it says, and its bound is this much of what it says.
#: w, the mean of q ‖x‖², is halved first, because it includes the rows of the other classes.
CLASSES_EXPLAIN, CLASSES_BOUND = 2 / 3, 3 / 4


class Weighting(NamedTuple):
    """The part of the simulated training over which q is averaged, and the median lengths at which features are clipped."""

    window: float
    clip: float


class Rule(NamedTuple):
    """One variant. ``ridge`` is a rule by name, as for two classes and regression, or λ itself in units of the mean ‖x‖²."""

    weighting: Weighting
    ridge: str
    shrinkage: float


def fit(share: float, cap: float) -> str:
    return f"R² {share:g}, at most max(2w, {cap:g}n)"


BASE = Weighting(0.15, 1.5)
DEFAULT = Rule(BASE, fit(0.45, 0.3), 0.1)
OLD = ("max(2w, 0.3n)", "2w", "1w", "0.3n", "1n")
#: v / (v + λ/2)² instead of 1 / (v + λ) for an eigenvalue v: directions whose noise exceeds their signal count less.
WIENER = tuple(f"Wiener filter, {fit(share, 0.3)}" for share in (0.4, 0.45))
#: The default with another :data:`CLASSES_BOUND`.
BOUNDS = {f"{DEFAULT.ridge}, over classes times {part:g}": part for part in (0.5, 1.0)}
WEIGHTINGS = [BASE, *(Weighting(window, 1.5) for window in (0.05, 0.3, 1.0)), Weighting(0.15, 0.0)]


def rules() -> Iterator[Rule]:
    for share, cap, shrinkage in product(FITS, CAPS, SHRINKAGES):
        yield Rule(BASE, fit(share, cap), shrinkage)
    for ridge in (*OLD, *(f"{value:g}" for value in GRID)):
        yield Rule(BASE, ridge, 0.1)
    for ridge in (*WIENER, *BOUNDS):
        yield Rule(BASE, ridge, 0.1)
    for weighting in WEIGHTINGS[1:]:
        yield Rule(weighting, DEFAULT.ridge, 0.1)


class Problem:
    """The weighted Gram matrix of one checkpoint, in its eigenbasis: √w K √w = U diag(values) Uᵀ."""

    def __init__(self, of: Kernels, weighting: Weighting) -> None:
        n, flow = of.n, of.flows.get(weighting.clip)
        w = np.ones(n) if flow is None else flow.mean_q(weighting.window)
        self.classes = len(of.residuals) > 0
        w = np.sqrt(w * of.residuals) if self.classes else w
        self.sample, root = of.q if flow is None else w, np.sqrt(w)
        factors, roots = of.clip_factors(weighting.clip), np.tile(root, len(of.K) // n)
        K, C = of.K * factors[:, None] * factors, of.C * factors
        values, U = np.linalg.eigh((K * roots[:, None] * roots).astype(np.float32))
        above = values > ROUNDING * values[-1]
        self.values, self.U = values[above].astype(np.float64), U[:, above].astype(np.float64)
        self.mean_square = float(np.trace(K)) / n
        self.weighted = float(roots**2 @ np.diag(K)) / n
        self.energy = (self.U[:n].T @ (root * (of.f - float(w @ of.f) / float(w.sum())))) ** 2
        self.left, self.tt = (C * roots) @ self.U, of.tt
        self.right = (self.U[:n].T / root).astype(np.float32)

    def explained(self, ridge: float) -> float:
        """R² of the ridge regression of the outputs, relative to ridge 0."""
        return 1 - float((ridge / (self.values + ridge)) ** 2 @ self.energy) / float(self.energy.sum())

    def ridge(self, rule: str) -> float:
        n, w = self.mean_square, self.weighted / (2 if self.classes else 1)
        of_bound = BOUNDS.get(rule, CLASSES_BOUND) if self.classes else 1.0
        named = {"max(2w, 0.3n)": of_bound * max(2 * w, 0.3 * n), "2w": 2 * w, "1w": w, "0.3n": 0.3 * n, "1n": n}
        if rule in named:
            return named[rule]
        rule = DEFAULT.ridge if rule in BOUNDS else rule.removeprefix("Wiener filter, ")
        if not rule.startswith("R²"):
            return float(rule) * n
        share, cap = (float(part.split()[-1].rstrip("n)")) for part in (rule.split(", ")[0], rule))
        share *= CLASSES_EXPLAIN if self.classes else 1.0
        low, high = 1e-8 * float(self.values[-1]), of_bound * max(2 * w, cap * n)
        if self.explained(high) >= share:
            return high
        for _ in range(60):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self.explained(middle) >= share else (low, middle)
        return low

    def kernel(self, rule: str) -> Array:
        """(t, n) float32, with targets of unit length in the metric of the scores."""
        ridge = self.ridge(rule)
        if rule in WIENER:
            inverse = self.values / (self.values + ridge / 2) ** 2
            squares = self.left**2 @ (inverse / self.values)
        else:
            inverse = 1 / (self.values + ridge)
            squares = (self.tt - self.left**2 @ inverse) / ridge
        lengths = np.sqrt(squares.clip(min=0))
        scaled = self.left * inverse / np.where(lengths > 0, lengths, 1)[:, None]
        return np.asarray(scaled.astype(np.float32) @ self.right)

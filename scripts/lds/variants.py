"""Variants of the default estimator: which q, clipping, ridge and shrinkage, and the kernel of each under one checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from kernels import Kernels

Array = np.ndarray[Any, Any]

#: λ in units of the mean ‖x‖², a factor of 2 apart.
GRID = tuple(float(value) for value in np.geomspace(0.005, 40.96, 14))
FITS, CAPS, SHRINKAGES = (0.3, 0.4, 0.5, 0.6), (0.0, 0.3, 0.5, 1.0, np.inf), (0.0, 0.1, 0.2)


class Weighting(NamedTuple):
    """The part of the simulated training over which q is averaged, and the median lengths at which features are clipped."""

    window: float
    clip: float


class Rule(NamedTuple):
    """One variant. ``ridge`` is a function of the weighted problem, by name (:data:`RIDGES`), or λ itself as text."""

    weighting: Weighting
    ridge: str
    shrinkage: float


def fit(share: float, cap: float) -> str:
    return f"R² {share:g}, at most max(2w, {cap:g}n)"


BASE = Weighting(0.15, 1.5)
DEFAULT = Rule(BASE, fit(0.5, 0.3), 0.1)
OLD = ("max(2w, 0.3n)", "2w", "1w", "0.3n", "1n")
WEIGHTINGS = [BASE, *(Weighting(window, 1.5) for window in (0.05, 0.3, 1.0)), Weighting(0.15, 0.0)]


def rules() -> Iterator[Rule]:
    for share, cap, shrinkage in product(FITS, CAPS, SHRINKAGES):
        yield Rule(BASE, fit(share, cap), shrinkage)
    for ridge in (*OLD, *(f"{value:g}" for value in GRID)):
        yield Rule(BASE, ridge, 0.1)
    for weighting in WEIGHTINGS[1:]:
        yield Rule(weighting, DEFAULT.ridge, 0.1)


class Problem:
    """The weighted Gram matrix of one checkpoint, in its eigenbasis: √w K √w = U diag(values) Uᵀ."""

    def __init__(self, of: Kernels, weighting: Weighting) -> None:
        factors = of.clip_factors(weighting.clip)
        K, C = of.K * factors[:, None] * factors, of.C * factors
        flow = of.flows.get(weighting.clip)
        w = np.ones(len(K)) if flow is None else flow.mean_q(weighting.window)
        self.sample = of.q if flow is None else w
        self.root = np.sqrt(w)
        values, U = np.linalg.eigh((K * self.root[:, None] * self.root).astype(np.float32))
        self.values, self.U = values.astype(np.float64).clip(min=0), U.astype(np.float64)
        self.mean_square = float(np.trace(K)) / len(K)
        self.weighted = float(self.root**2 @ np.diag(K)) / len(K)
        centred = self.U.T @ (self.root * (of.f - float(self.root**2 @ of.f) / float(self.root @ self.root)))
        self.energy = centred**2
        self.left, self.tt = (C * self.root) @ self.U, of.tt
        self.right = (self.U.T / self.root).astype(np.float32)

    def explained(self, ridge: float) -> float:
        """R² of the ridge regression of the outputs."""
        return 1 - float((ridge / (self.values + ridge)) ** 2 @ self.energy) / float(self.energy.sum())

    def ridge(self, rule: str) -> float:
        n, w = self.mean_square, self.weighted
        named = {"max(2w, 0.3n)": max(2 * w, 0.3 * n), "2w": 2 * w, "1w": w, "0.3n": 0.3 * n, "1n": n}
        if rule in named:
            return named[rule]
        if not rule.startswith("R²"):
            return float(rule) * n
        share, cap = (float(part.split()[-1].rstrip("n)")) for part in (rule.split(", ")[0], rule))
        low, high = 1e-8 * float(self.values[-1]), max(2 * w, min(cap, 1e4) * n)
        if self.explained(high) >= share:
            return high
        for _ in range(60):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self.explained(middle) >= share else (low, middle)
        return low

    def kernel(self, ridge: float) -> Array:
        """(t, n) float32, with targets of unit length in the metric of the scores."""
        lengths = np.sqrt(((self.tt - (self.left**2 / (self.values + ridge)).sum(axis=1)) / ridge).clip(min=0))
        scaled = self.left / (self.values + ridge) / np.where(lengths > 0, lengths, 1)[:, None]
        return np.asarray(scaled.astype(np.float32) @ self.right)

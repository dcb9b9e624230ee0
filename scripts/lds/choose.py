"""How the default estimator was chosen: each of its constants varied, ridges, and other members of the family, on every setting.

python scripts/lds/choose.py [SETTING ...]      after scripts/bench_lds.py has prepared the settings

Prints for every variant its LDS relative to the best ridge of the setting, the mean and the worst over settings; the default
against the best member of the family; and, for rules chosen with one setting left out, their relative LDS on that setting.
Writes docs/results/default_rules.csv, default_members.csv and default_left_out.csv.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kernels import CACHE, Kernels, kernels, truth
from reference import reference_settings
from setting import UNTUNED, names

from trak_cli.attribution.estimator.shrinkage import shrinkage_factor
from trak_cli.attribution.lds.lds import lds_of_predictions, subset_predictions

Array = np.ndarray[Any, Any]

COUNTS = (1, 5, 10)
RESULTS = Path("docs/results")
#: λ in units of the mean ‖x‖², a factor of 2 apart.
GRID = tuple(float(value) for value in np.geomspace(0.005, 40.96, 14))
FITS, CAPS, SHRINKAGES = (0.3, 0.4, 0.5, 0.6, 0.7), (0.5, 1.0, 2.0, np.inf), (0.0, 0.05, 0.1, 0.2)


class Weighting(NamedTuple):
    """Which q, over which part of the simulated training, and clipping. Windows above 1 stand for q of the checkpoint."""

    window: float
    clip: float


class Rule(NamedTuple):
    """One variant. ``ridge`` is a function of the weighted problem, by name (:data:`RIDGES`), or λ itself as text."""

    weighting: Weighting
    ridge: str
    shrinkage: float


def fit(share: float, cap: float) -> str:
    return f"R² {share:g}, at most {cap:g}n"


BASE = Weighting(0.15, 1.5)
DEFAULT = Rule(BASE, fit(0.5, 1.0), 0.1)
OLD = ("max(2w, 0.3n)", "2w", "1w", "0.3n", "1n")
WEIGHTINGS = [BASE, *(Weighting(window, 1.5) for window in (0.05, 0.3, 1.0)), Weighting(0.15, 0.0)]


def rules() -> Iterator[Rule]:
    for share, cap, shrinkage in product(FITS, CAPS, SHRINKAGES):
        yield Rule(BASE, fit(share, cap), shrinkage)
    for ridge in (*OLD, *(f"{value:g}" for value in GRID)):
        yield Rule(BASE, ridge, 0.1)
    for weighting in WEIGHTINGS[1:]:
        for ridge in (DEFAULT.ridge, *(f"{value:g}" for value in GRID)):
            yield Rule(weighting, ridge, 0.1)


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
        share, cap = (float(part.split()[-1].rstrip("n")) for part in rule.split(", "))
        low, high = 1e-8 * float(self.values[-1]), min(cap, 1e4) * n
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


def measure(name: str) -> dict[str, dict[str, float]]:
    """{count: {variant: LDS}}"""
    masks, outputs = truth(name)
    sums: dict[tuple[Weighting, str], Array] = {}
    samples: dict[Weighting, Array] = {}
    members: dict[str, tuple[Array, Array]] = {}
    cosines: Array = np.zeros(())
    found: dict[str, dict[str, float]] = {}
    by_pair = sorted({(rule.weighting, rule.ridge) for rule in rules()})
    for count, one in enumerate(kernels(name), start=1):
        cosines = cosines + one.cosines
        for weighting in WEIGHTINGS:
            if weighting != BASE and count > 5:
                continue
            problem = Problem(one, weighting)
            samples[weighting] = samples.get(weighting, 0.0) + problem.sample
            by_ridge: dict[float, Array] = {}
            for pair in by_pair:
                if pair[0] == weighting:
                    ridge = problem.ridge(pair[1])
                    by_ridge[ridge] = by_ridge[ridge] if ridge in by_ridge else problem.kernel(ridge)
                    sums[pair] = sums.get(pair, 0.0) + by_ridge[ridge]
        for label, (kernel, q) in _members(one).items():
            before = members.get(label, (0.0, 0.0))
            members[label] = (before[0] + kernel, before[1] + q)
        if count in COUNTS:
            row = found.setdefault(str(count), {})
            factors = {κ: shrinkage_factor(cosines / count, κ, count) if κ else 1.0 for κ in SHRINKAGES}
            for rule in rules():
                if rule.weighting == BASE or count <= 5:
                    scores = sums[rule.weighting, rule.ridge] * samples[rule.weighting] / count * factors[rule.shrinkage]
                    row[label_of(rule)] = lds_of_predictions(subset_predictions(scores, masks), outputs).mean
            for label, (kernel, q) in members.items():
                mean = q / count
                weight = np.sign(mean) * np.abs(mean) ** {"balanced": 0.5, "cosine": 0.0}.get(label, 1.0)
                row[label] = lds_of_predictions(subset_predictions(kernel * weight, masks), outputs).mean
    return found


def _members(one: Kernels) -> dict[str, tuple[Array, Array]]:
    """(kernel, q) of the members of the family with q of the checkpoint."""
    found = {"dot": (one.C, one.q), "cosine": (one.cosines, np.sign(one.q))}
    for label, w in (("balanced", np.abs(one.q)), ("trak", np.ones(len(one.q)))):
        root = np.sqrt(np.maximum(w, 1e-9))
        values, U = np.linalg.eigh(one.K * root[:, None] * root)
        ridge = float(w @ np.diag(one.K)) / len(w)
        found[label] = (((one.C * root) @ U / (values.clip(min=0) + ridge)) @ (U.T / root), one.q)
    return found


def label_of(rule: Rule) -> str:
    return f"{rule.weighting.window:g} {rule.weighting.clip:g} | {rule.ridge} | {rule.shrinkage:g}"


def measured(name: str) -> dict[str, dict[str, float]]:
    path = CACHE.parent / f"{name}.json"
    if not path.exists():
        print(f"{name}: every variant", file=sys.stderr, flush=True)
        path.write_text(json.dumps(measure(name)))
    return dict(json.loads(path.read_text()))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        measured(name)

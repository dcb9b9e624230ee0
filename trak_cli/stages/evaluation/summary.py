"""The result of an LDS evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Change:
    """Difference of two LDS on the same resamples: mean, 95% interval, two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class ScoreSet:
    """One set of scores: its LDS, 95% interval (NaN without resamples), difference from the first set (None for that one)."""

    name: str
    lds: float
    low: float
    high: float
    difference: Change | None
    per_target: list[float]


@dataclass(frozen=True)
class EvalSummary:
    """Every set of scores, against one ground truth; ``left_out`` targets have constant outputs or predictions.

    ``models``: how many for each subset, None where only their mean is known. ``ceiling``: the LDS that a perfect predictor
    would reach (:func:`trak_cli.attribution.lds.ceiling.noise_ceiling`), NaN where it takes more models to tell.
    ``baselines`` names those that were fitted to the ground truth, each subset being left out of its own fit.
    """

    store: Path
    split: str
    ground_truth: Path
    targets: int
    subsets: int
    models: int | None
    ceiling: float
    left_out: int
    method: str
    score_sets: list[ScoreSet]
    baselines: list[str]
    files: list[Path]

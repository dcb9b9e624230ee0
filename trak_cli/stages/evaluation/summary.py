"""The result of an LDS evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trak_cli.attribution.lds.bootstrap import Difference, Interval
from trak_cli.stages.evaluation.removals import RemovalResult


@dataclass(frozen=True)
class ScoreSet:
    """One set of scores against the ground truth.

    Attributes:
        name: of the estimator, the file or the baseline.
        checkpoints: how many checkpoints the scores average; None for a baseline or the scores of another tool.
        lds: mean over targets, with its 95% interval (NaN without resamples).
        difference: its LDS minus that of the first set, on the same resamples; None for the first set.
        per_target: LDS of every target, NaN where the target is left out.
    """

    name: str
    checkpoints: int | None
    lds: Interval
    difference: Difference | None
    per_target: list[float]


@dataclass(frozen=True)
class EvalSummary:
    """Every set of scores against one ground truth.

    Attributes:
        store: folder of the run.
        split: target split.
        ground_truth: where masks and outputs come from.
        targets: how many.
        group: whether the mean output over the targets was evaluated.
        subsets: how many.
        models: how many per subset; None where only their mean is known.
        same_seed: whether all models are the same run but for the weights.
        ceiling: noise ceiling, the LDS of a perfect predictor
            (:func:`trak_cli.attribution.lds.ceiling.noise_ceiling`); NaN where there are too few models to estimate it; 1
            with the same seed.
        no_ceiling: why there is no noise ceiling, and how to get one; empty if there is one.
        left_out: how many targets have constant outputs or predictions.
        method: of the bootstrap, "reranked" or "linear".
        score_sets: the configured estimator first.
        baselines: those sets that are fitted to the ground truth, each subset predicted by a fit without it.
        removal: the effect of removing the highest scores; None without such models.
        files: written by the evaluation.
    """

    store: Path
    split: str
    ground_truth: Path
    targets: int
    group: bool
    subsets: int
    models: int | None
    same_seed: bool
    ceiling: float
    no_ceiling: str
    left_out: int
    method: str
    score_sets: list[ScoreSet]
    baselines: list[str]
    removal: RemovalResult | None
    files: list[Path]

"""Whether derivatives predict what training without some samples does to f."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.lds.ranks import spearman
from trak_cli.plurals import counted
from trak_cli.types import Float64

#: Least rank correlation of predicted and actual changes, and largest error relative to the changes where there are too few
#: trainings for a rank correlation, with which derivatives are trusted.
LEAST_CORRELATION, LARGEST_ERROR = 0.8, 0.6

#: Fewer trainings say nothing about ranks.
_RANKED = 4

#: Scores are not trusted if they predict changes that are typically this many times as large as those of the trainings.
LARGEST_SPREAD = 3.0


@dataclass(frozen=True)
class Smoothness:
    """Predicted and actual changes of f.

    Attributes:
        trainings: how many.
        rank_correlation: Spearman's over the trainings, the mean over targets; NaN for fewer than four trainings, or where
            nothing changes.
        relative_error: ‖predicted − actual‖ / ‖actual‖ over all trainings and targets; NaN where nothing changes.
        trusted: whether the predictions are good enough to use the derivatives.
        verdict: the same in words.
    """

    trainings: int
    rank_correlation: float
    relative_error: float
    trusted: bool
    verdict: str


def judge(predicted: Float64, actual: Float64, spread: Float64 | None = None) -> Smoothness:
    """Compare the changes of f that derivatives predict with the actual ones: (targets, trainings) each.

    Args:
        spread: (targets,) the standard deviation, over all possible choices of the samples left out, of the predicted change.
            It shows a few enormous scores of samples that no training left out.
    """
    trainings = actual.shape[1]
    size = float(np.linalg.norm(actual))
    if not size:
        text = f"do not trust these scores: f of no target changes in {counted(trainings, 'training')} without random samples"
        return Smoothness(trainings, float("nan"), float("nan"), False, text)
    error = float(np.linalg.norm(predicted - actual)) / size
    correlation = _mean(spearman(predicted, actual)) if trainings >= _RANKED else float("nan")
    excess = 0.0 if spread is None else _excess(spread, actual)
    if excess > LARGEST_SPREAD:
        text = (
            f"do not trust these scores: they predict changes of f that are typically {excess:.0f} times as large as those in"
            f" {counted(trainings, 'training')} without random samples, because of a few samples that no training left out;"
            " docs/unrolling.md says what helps"
        )
        return Smoothness(trainings, correlation, error, False, text)
    trusted = error <= LARGEST_ERROR if np.isnan(correlation) else correlation >= LEAST_CORRELATION
    ranked = not np.isnan(correlation)
    limit = "" if trusted else f", below {LEAST_CORRELATION:g}" if ranked else f", above {LARGEST_ERROR:.0%}"
    ranks = f"rank correlation {correlation:.3g}{limit}; " if ranked else ""
    figures = (
        f"{ranks}error {error:.0%} of the changes{'' if ranked else limit}, in"
        f" {counted(trainings, 'training')} without random samples"
    )
    if trusted:
        return Smoothness(trainings, correlation, error, True, f"f follows its derivative: {figures}")
    text = f"do not trust these scores: f does not follow its derivative, because training is not smooth ({figures})"
    return Smoothness(trainings, correlation, error, False, f"{text}; docs/unrolling.md says what helps")


def _excess(spread: Float64, actual: Float64) -> float:
    """The median over targets of the predicted spread, relative to the root mean square of the actual changes."""
    sizes = np.sqrt(np.mean(actual**2, axis=1))
    return float(np.median(spread[sizes > 0] / sizes[sizes > 0]))


def _mean(values: Float64) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")

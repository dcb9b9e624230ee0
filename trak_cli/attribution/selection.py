"""One score of every training sample for a group of targets, and the choice of the samples with the highest or lowest ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trak_cli.attribution.topk import Extremes
from trak_cli.types import Float32, Float64, IntArray

#: Names of :class:`GroupScores`.
GROUPS = ("mean", "sum", "max")


class GroupScores:
    """The mean, the sum or the maximum over targets, from blocks in any order.

    Memory: one number for each training sample.

    Attributes:
        lowest: the minimum takes the place of the maximum, for the most harmful samples.
    """

    def __init__(self, group: str, rows: int, lowest: bool = False) -> None:
        self._group, self._targets = group, 0
        self._sign = -1.0 if lowest else 1.0
        self._total = np.full(rows, -np.inf) if group == "max" else np.zeros(rows)

    def add(self, scores: Float32, start_row: int) -> None:
        """Add the scores (t, r) of some targets on the training rows from ``start_row`` on."""
        if not len(scores):
            return
        place = slice(start_row, start_row + scores.shape[1])
        if self._group == "max":
            self._total[place] = np.maximum(self._total[place], (self._sign * scores).max(axis=0))
        else:
            self._total[place] += scores.sum(axis=0, dtype=np.float64)

    def result(self, targets: int) -> Float64:
        """(n,) float64, for this number of targets."""
        if self._group == "max":
            return self._sign * self._total
        return self._total / targets if self._group == "mean" else self._total


def extreme_scores(kept: Extremes, rows: int, lowest: bool) -> Float64:
    """The maximum over targets from their k highest scores, or the minimum from their k lowest ones: (n,) float64.

    The k samples with the highest maxima are among the k highest scores of some target, so that they have their exact value.
    Others have at most their maximum, or minus infinity (plus infinity for the minimum) if no target has them.
    """
    found = np.full(rows, np.inf if lowest else -np.inf)
    (np.minimum if lowest else np.maximum).at(found, kept.indices, kept.values.astype(np.float64))
    return found


def choose(scores: Float64, count: int, lowest: bool = False) -> IntArray:
    """The rows with the highest (or lowest) scores, best first; of equal ones, the lower row first: (count,) int64."""
    return np.argsort(scores if lowest else -scores, kind="stable")[:count]


def choose_balanced(scores: Float64, labels: Sequence[object], count: int, lowest: bool = False) -> IntArray:
    """Like :func:`choose`, with as equal numbers of each label as there are samples: (count,) int64, best first.

    The samples are taken in rounds: in each, the best one left of every label, the best of these first.
    """
    names = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    classes = np.array([names[label] for label in labels], np.int64)
    order = choose(scores, len(scores), lowest)
    by_class = np.argsort(classes[order], kind="stable")  # places in the order, class by class
    sizes = np.bincount(classes, minlength=len(names))
    rounds = np.empty(len(scores), np.int64)
    rounds[by_class] = np.arange(len(scores)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = np.zeros(len(scores), bool)
    taken[np.argsort(rounds, kind="stable")[:count]] = True
    return order[taken]

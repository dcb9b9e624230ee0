"""Where the relevant training samples of a target stand among its scores: planted sources, shortcuts, known facts.

For a target with scores s_1…s_n and the set R of its m relevant samples, rank(i) is 1 for the highest score; of equal scores,
the lower row comes first.

- recall@k = |{i ∈ R: rank(i) ≤ k}| / m (DATE-LM, "Recall@k"; bergson, "strict recall")
- hit@k = 1 if some i ∈ R has rank(i) ≤ k (quanda and bergson, "Recall@k"; Chang et al. 2024)
- reciprocal rank = 1 / min_{i ∈ R} rank(i), whose mean over targets is the MRR (quanda, DATE-LM, bergson)
- average precision = (1/m) Σ_{i ∈ R} |{j ∈ R: s_j ≥ s_i}| / |{j: s_j ≥ s_i}|, the area under the precision-recall curve as a
  sum of rectangles (quanda, ``ShortcutDetectionMetric``; Koh and Liang 2017)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trak_cli.types import Float32, IntArray, Rows

#: Yields (targets by their place among the scores, training rows, scores of that shape).
Blocks = Iterable[tuple[Rows, Rows, Float32]]


@dataclass(frozen=True)
class Ranked:
    """The relevant samples of one target.

    Attributes:
        ranks: (m,) int64, from 1.
        at_least: (m,) int64, how many training samples have at least the score of each.
        scores: (m,) their scores.
    """

    ranks: IntArray
    at_least: IntArray
    scores: Float32

    def recall(self, k: int) -> float:
        """recall@k."""
        return float((self.ranks <= k).mean())

    def hit(self, k: int) -> float:
        """hit@k, 0 or 1."""
        return float((self.ranks <= k).any())

    def reciprocal_rank(self) -> float:
        """The reciprocal of the best rank."""
        return float(1 / self.ranks.min())

    def average_precision(self) -> float:
        """The average precision."""
        ascending = np.sort(self.scores)
        relevant = len(ascending) - np.searchsorted(ascending, self.scores, side="left")
        return float((relevant / self.at_least).mean())


def rank_relevant(blocks: Callable[[], Blocks], relevant: Sequence[IntArray]) -> list[Ranked]:
    """The ranks of the relevant samples of every target, in two passes over the scores.

    Memory: a few numbers for each relevant sample, and one block.

    Args:
        blocks: reads the scores, in blocks that cover all targets and training rows once, in any order.
        relevant: for every target its relevant training rows, each once and at least one.
    """
    rows = [np.sort(one) for one in relevant]
    scores = [np.empty(len(one), np.float32) for one in rows]
    for targets, training, block in blocks():
        for place, values in zip(targets, block, strict=True):
            inside = _inside(rows[place], training)
            scores[place][inside] = values[rows[place][inside] - training.start]
    above = [np.zeros(len(one), np.int64) for one in rows]
    equal = [np.zeros(len(one), np.int64) for one in rows]
    earlier = [np.zeros(len(one), np.int64) for one in rows]
    for targets, training, block in blocks():
        for place, values in zip(targets, block, strict=True):
            ascending = np.sort(values)
            through = np.searchsorted(ascending, scores[place], side="right")
            same = through - np.searchsorted(ascending, scores[place], side="left")
            above[place] += len(values) - through
            equal[place] += same
            earlier[place] += np.where(rows[place] >= training.stop, same, 0)
            inside = _inside(rows[place], training)
            for index in range(inside.start, inside.stop):
                if same[index] > 1:
                    before = values[: rows[place][index] - training.start]
                    earlier[place][index] += int((before == scores[place][index]).sum())
    return [Ranked(1 + a + e, a + q, s) for a, q, e, s in zip(above, equal, earlier, scores, strict=True)]


def _inside(rows: IntArray, training: Rows) -> slice:
    """The place of those of ``rows``, which ascend, that lie among the training rows of a block."""
    first, last = np.searchsorted(rows, (training.start, training.stop))
    return slice(int(first), int(last))

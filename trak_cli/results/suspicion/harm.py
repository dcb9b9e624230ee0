"""Criteria from stored scores: how much a training sample lowers f on the targets of a held-out split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.topk import TopK
from trak_cli.results.scored import Scored
from trak_cli.types import Float32, Float64, IntArray, Rows

#: The most harmful training samples of a target that are counted.
MOST_HARMFUL = 20


@dataclass(frozen=True)
class Harm:
    """(n,) float64 each.

    Attributes:
        harm: minus the sum of the negative scores of each sample, over the number of targets. Of scores that are not dense,
            those that are stored.
        harm_count: for how many targets the sample is among the MOST_HARMFUL (or as many as are stored) most harmful ones.
    """

    harm: Float64
    harm_count: Float64


def harm_on(scored: Scored) -> Harm:
    """Read the scores of a split once.

    Raises:
        StoreError: a file is damaged.
    """
    total, count = np.zeros(scored.rows), np.zeros(scored.rows)
    if not scored.dense:
        kept = scored.kept().bottom
        np.add.at(total, kept.indices, -np.minimum(kept.values, 0).astype(np.float64))
        _count(count, kept.indices[:, :MOST_HARMFUL], kept.values[:, :MOST_HARMFUL])
        return Harm(total / len(kept.values), count)
    best: TopK | None = None
    before = Rows(0, 0)
    for positions, rows, block in scored.pieces():
        if positions != before:
            _count_lowest(count, best)
            best, before = TopK(len(block), MOST_HARMFUL), positions
        if best is not None:
            best.update(block, rows.start)
        total[rows.start : rows.stop] -= np.minimum(block, 0).sum(axis=0, dtype=np.float64)
    _count_lowest(count, best)
    return Harm(total / scored.count, count)


def _count_lowest(count: Float64, best: TopK | None) -> None:
    if best is not None:
        lowest = best.result().bottom
        _count(count, lowest.indices, lowest.values)


def _count(count: Float64, rows: IntArray, scores: Float32) -> None:
    """Add one for each negative score to the row that it belongs to."""
    count += np.bincount(rows[scores < 0], minlength=len(count))

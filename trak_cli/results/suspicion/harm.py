"""Criteria from stored scores: how much a training sample lowers f on the targets of a held-out split."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np

from trak_cli.attribution.topk import TopK
from trak_cli.results.scored import Scored
from trak_cli.types import Float32, Float64, IntArray

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
    for positions, pieces in groupby(scored.pieces(), itemgetter(0)):
        best = TopK(len(positions), MOST_HARMFUL)
        for _, rows, block in pieces:
            best.update(block, rows.start)
            total[rows.start : rows.stop] -= np.minimum(block, 0).sum(axis=0, dtype=np.float64)
        lowest = best.result().bottom
        _count(count, lowest.indices, lowest.values)
    return Harm(total / scored.count, count)


def _count(count: Float64, rows: IntArray, scores: Float32) -> None:
    """Add one for each negative score to the row that it belongs to."""
    count += np.bincount(rows[scores < 0], minlength=len(count))

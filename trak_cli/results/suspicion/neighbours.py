"""The training samples that the estimator finds most related to some training samples, and the labels that these suggest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.topk import TopBottom, TopK
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.scoring.block_scorer import prepare_targets
from trak_cli.types import TRAIN, Float32, Reporter, Rows

#: A label as a data set gives it.
Label = str | int | float | None

#: Samples whose neighbours are searched in one pass over the features.
BLOCK = 256


@dataclass(frozen=True)
class Neighbours:
    """The samples with the largest scores, in magnitude, on one training sample; itself left out.

    Attributes:
        rows, scores: largest magnitude first. A negative score means that training on the neighbour contradicts the sample.
    """

    rows: list[int]
    scores: list[float]

    @property
    def disagreement(self) -> float:
        """The share of the magnitude of the scores that is negative."""
        scores = np.array(self.scores)
        total = np.abs(scores).sum()
        return float(-scores.clip(max=0).sum() / total) if total > 0 else 0.0

    def opposing_label(self, own: Label, label: Callable[[int], Label]) -> Label:
        """The label, other than its own, whose samples contradict the sample the most; None if none does."""
        votes: dict[Label, float] = {}
        for row, score in zip(self.rows, self.scores, strict=True):
            if (name := label(row)) != own:
                votes[name] = votes.get(name, 0.0) + score
        other = min(votes, key=lambda name: votes[name], default=None)
        return other if other is not None and votes[other] < 0 else None


def find_neighbours(
    inventory: Inventory, estimator: EstimatorSpec, rows: Sequence[int], k: int, reporter: Reporter
) -> list[Neighbours]:
    """The k neighbours of each of these training rows.

    The features of the training set are read once for every BLOCK rows. Memory: their features under all checkpoints, and
    BLOCK scores for each row of a shard. Time: BLOCK · n · k for each pass and checkpoint.
    """
    found: list[Neighbours] = []
    blocks = [list(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
    with reporter.meter("neighbours", len(blocks) * inventory.rows, "rows") as meter:
        for block in blocks:
            targets = prepare_targets(inventory, estimator, partial(_features, inventory, block))
            best = TopK(len(block), min(k + 1, inventory.rows))
            for shard, scores in targets.stream(Rows(0, inventory.rows)):
                best.update(scores, shard.start)
                meter.advance(len(shard))
            ends = best.result()
            found += [_strongest(ends, place, row, k) for place, row in enumerate(block)]
    return found


def _features(inventory: Inventory, rows: Sequence[int], checkpoint: str) -> Float32:
    """(rows, k) features of some training rows, in this order."""
    wanted = np.array(rows, np.int64)
    features = np.zeros((len(rows), inventory.dim), np.float32)
    for index, shard in enumerate(inventory.shards(TRAIN)):
        inside = (wanted >= shard.start) & (wanted < shard.stop)
        if inside.any():
            features[inside] = inventory.read(checkpoint, TRAIN, index).features[wanted[inside] - shard.start]
    return features


def _strongest(ends: TopBottom, place: int, own: int, k: int) -> Neighbours:
    """The k largest scores in magnitude of one target, its own row left out; the lower row first where they are equal."""
    scores: dict[int, float] = {}
    for end in (ends.top, ends.bottom):
        scores |= zip(end.indices[place].tolist(), end.values[place].tolist(), strict=True)
    scores.pop(own, None)
    strongest = sorted(scores.items(), key=lambda item: (-abs(item[1]), item[0]))[:k]
    return Neighbours([row for row, _ in strongest], [score for _, score in strongest])

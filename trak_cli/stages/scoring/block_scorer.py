"""One block of scores: some targets of a split against the training rows of one shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import reference_rows, soften, thresholds
from trak_cli.attribution.scores import TargetFactor, normalize_targets, sample_weight, score_block, target_factor
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.scoring.gram_store import require_gram
from trak_cli.stages.scoring.score_store import ScoreUnit
from trak_cli.types import TRAIN, Float32, Float64, FloatArray, IntArray, Rows


@dataclass(frozen=True)
class PreparedTargets:
    """Some targets, ready to be scored on any shard of training rows.

    Attributes:
        factors: of every checkpoint.
        sample_weights: of every checkpoint: (n,) the q of all training samples; None for the q of the shards.
    """

    inventory: Inventory
    estimator: EstimatorSpec
    factors: Sequence[TargetFactor]
    sample_weights: Sequence[FloatArray | None]

    def scores(self, index: int, some: IntArray | None = None) -> Float32:
        """(targets, rows of that shard) float32, before any threshold; ``some``: of these rows of the shard only."""
        shards = [self.inventory.read(name, TRAIN, index) for name in self.inventory.checkpoints]
        at = self.inventory.shards(TRAIN)[index]
        chosen = np.arange(len(at)) if some is None else some
        q = [
            (shard.out_to_loss if whole is None else whole[at.start : at.stop])[chosen]
            for shard, whole in zip(shards, self.sample_weights, strict=True)
        ]
        features = (shard.features if some is None else shard.features[some] for shard in shards)
        return score_block(self.estimator, self.factors, features, sample_weight(self.estimator, q))

    def reference_scores(self) -> Float32:
        """Scores on the training rows from which thresholds are taken: (targets, m) float32."""
        wanted = reference_rows(self.inventory.rows)
        parts = []
        for index, rows in enumerate(self.inventory.shards(TRAIN)):
            some = wanted[(wanted >= rows.start) & (wanted < rows.stop)] - rows.start
            if len(some):
                parts.append(self.scores(index, some))
        return np.concatenate(parts, axis=1)


class BlockScorer:
    """Scores the units of one split; keeps the prepared targets of one block: checkpoints × targets × k
    float32, twice where scores are shrunk.

    Spectra are read one at a time while a block is prepared, so that only one k × k factorisation is in memory.
    """

    def __init__(self, inventory: Inventory, estimator: EstimatorSpec, split: str) -> None:
        self._inventory = inventory
        self._estimator = estimator
        self._split = split
        self._block: int | None = None
        self._targets: PreparedTargets | None = None
        self._thresholds: Float64 | None = None

    def scores(self, unit: ScoreUnit) -> Float32:
        """(targets of the unit, rows of the unit) float32."""
        if unit.block != self._block or self._targets is None:
            self._targets = self._prepare(unit.targets)
            self._block = unit.block
            if self._estimator.soft_threshold:
                self._thresholds = thresholds(self._targets.reference_scores(), self._estimator.soft_threshold)
        found = self._targets.scores(unit.shard)
        return found if self._thresholds is None else soften(found, self._thresholds)

    def _prepare(self, targets: Rows) -> PreparedTargets:
        factors, weights = zip(*(self._factor(name, targets) for name in self._inventory.checkpoints), strict=True)
        return PreparedTargets(self._inventory, self._estimator, normalize_targets(self._estimator, factors), weights)

    def _factor(self, checkpoint: str, targets: Rows) -> tuple[TargetFactor, Float32 | None]:
        """The targets of a block, and the sample weights of all training rows if finalize stored them."""
        features = np.concatenate(list(self._features(checkpoint, targets)))
        if not self._estimator.needs_gram:
            return target_factor(self._estimator, features, None, 0.0), None
        found = require_gram(self._inventory, self._estimator, checkpoint)
        ridge = self._estimator.ridge_in(found.spectrum)
        return target_factor(self._estimator, features, found.spectrum, ridge, found.clip_threshold), found.sample_weight

    def _features(self, checkpoint: str, targets: Rows) -> Iterator[Float32]:
        for index, rows in enumerate(self._inventory.shards(self._split)):
            inside = Rows(max(rows.start, targets.start), min(rows.stop, targets.stop))
            if inside.start < inside.stop:
                shard = self._inventory.read(checkpoint, self._split, index)
                yield shard.features[inside.start - rows.start : inside.stop - rows.start]

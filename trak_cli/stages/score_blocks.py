"""One block of scores: some targets of a split against the training rows of one shard."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trak_cli.attribution import (
    EstimatorSpec,
    TargetFactor,
    front,
    score_block,
    target_factor,
)
from trak_cli.stages.grams import require_gram
from trak_cli.stages.inventory import Inventory
from trak_cli.stages.parts import TRAIN
from trak_cli.stages.score_files import ScoreUnit
from trak_cli.types import Float32, Rows


class BlockScorer:
    """Scores the units of one split; keeps the prepared targets of one block: checkpoints × targets × k float32.

    Spectra are read one at a time while a block is prepared, so that only one k × k factorisation is in memory.
    """

    def __init__(self, inventory: Inventory, estimator: EstimatorSpec, split: str) -> None:
        self._inventory = inventory
        self._estimator = estimator
        self._split = split
        self._block: int | None = None
        self._factors: list[TargetFactor] = []
        self._fronts: list[Float32 | None] = []

    def scores(self, unit: ScoreUnit) -> Float32:
        """(targets of the unit, rows of the unit) float32."""
        if unit.block != self._block:
            prepared = [self._prepare(name, unit.targets) for name in self._inventory.checkpoints]
            self._factors, self._fronts = [list(one) for one in zip(*prepared, strict=True)]
            self._block = unit.block
        shards = [self._inventory.read(name, TRAIN, unit.shard) for name in self._inventory.checkpoints]
        ratios = [
            shard.out_to_loss if whole is None else whole[unit.rows.start : unit.rows.stop]
            for shard, whole in zip(shards, self._fronts, strict=True)
        ]
        weights = front(self._estimator, ratios)
        return score_block(self._estimator, self._factors, (shard.features for shard in shards), weights)

    def _prepare(self, checkpoint: str, targets: Rows) -> tuple[TargetFactor, Float32 | None]:
        """The targets of a block, and the ratios of all training rows where finalize has filed them."""
        features = np.concatenate(list(self._features(checkpoint, targets)))
        if not self._estimator.needs_gram:
            return target_factor(self._estimator, features, None, 0.0), None
        found = require_gram(self._inventory, self._estimator, checkpoint)
        ridge = self._estimator.ridge_in(found.spectrum)
        return target_factor(self._estimator, features, found.spectrum, ridge), found.front

    def _features(self, checkpoint: str, targets: Rows) -> Iterator[Float32]:
        for index, rows in enumerate(self._inventory.shards(self._split)):
            inside = Rows(max(rows.start, targets.start), min(rows.stop, targets.stop))
            if inside.start < inside.stop:
                shard = self._inventory.read(checkpoint, self._split, index)
                yield shard.features[inside.start - rows.start : inside.stop - rows.start]

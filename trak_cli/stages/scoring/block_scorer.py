"""Blocks of scores: some targets of a split against the training rows of a shard, or of many in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import reference_rows, soften, thresholds
from trak_cli.attribution.scores import TargetFactor, normalize_targets, sample_weight, score_block, target_factor
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.inputs.reading_ahead import ahead
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
        return self.scores_of(self._read(self.inventory.shards(TRAIN)[index], some))

    def _read(self, at: Rows, some: IntArray | None = None) -> list[tuple[Float32, FloatArray]]:
        """Features and q of a shard, under each checkpoint."""
        index = at.start // self.inventory.plan.shard_rows
        chosen = slice(None) if some is None else some
        parts = []
        for name, whole in zip(self.inventory.checkpoints, self.sample_weights, strict=True):
            shard = self.inventory.read(name, TRAIN, index)
            q = shard.out_to_loss if whole is None else whole[at.start : at.stop]
            parts.append((shard.features[chosen], q[chosen]))
        return parts

    def scores_of(self, read: Sequence[tuple[Float32, FloatArray]]) -> Float32:
        """(targets, r) float32 of r training rows, before any threshold, from their features and q under each checkpoint."""
        weights = sample_weight(self.estimator, [q for _, q in read])
        return score_block(self.estimator, self.factors, (features for features, _ in read), weights)

    def reference_scores(self) -> Float32:
        """Scores on the training rows from which thresholds are taken: (targets, m) float32."""
        wanted = reference_rows(self.inventory.rows)
        parts = []
        for index, rows in enumerate(self.inventory.shards(TRAIN)):
            some = wanted[(wanted >= rows.start) & (wanted < rows.stop)] - rows.start
            if len(some):
                parts.append(self.scores(index, some))
        return np.concatenate(parts, axis=1)

    @cached_property
    def thresholds(self) -> Float64 | None:
        """The soft threshold of every target, (targets,); None without one."""
        share = self.estimator.soft_threshold
        return thresholds(self.reference_scores(), share) if share else None

    def final_scores(self, index: int) -> Float32:
        """(targets, rows of that shard) float32, as they are stored."""
        return self._final(self.scores(index))

    def stream(self, rows: Rows) -> Iterator[tuple[Rows, Float32]]:
        """The final scores of the shards with some training rows: (rows of a shard, (targets, rows) float32), read ahead."""
        _ = self.thresholds  # needs a pass of its own
        for at, read in ahead((at, self._read(at)) for at in self.inventory.shards_in(TRAIN, rows)):
            yield at, self._final(self.scores_of(read))

    def _final(self, scores: Float32) -> Float32:
        return scores if self.thresholds is None else soften(scores, self.thresholds)


class CheckpointTargets:
    """Prepares targets of one checkpoint; keeps its k × k factorisation in memory, if the estimator needs one.

    Attributes:
        sample_weight: (n,) the q of all training samples if finalize stored them; None for the q of the shards.

    Raises:
        StoreError: the Gram matrix is missing or out of date.
    """

    def __init__(self, inventory: Inventory, estimator: EstimatorSpec, checkpoint: str) -> None:
        self._estimator = estimator
        self._found = require_gram(inventory, estimator, checkpoint) if estimator.needs_gram else None
        self._ridge = 0.0 if self._found is None else estimator.ridge_in(self._found.spectrum)
        self.sample_weight = None if self._found is None else self._found.sample_weight

    def factor(self, features: Float32) -> TargetFactor:
        """The targets with these features, (t, k).

        Raises:
            ConfigError: the Gram matrix is singular.
        """
        if self._found is None:
            return target_factor(self._estimator, features, None, self._ridge)
        return target_factor(self._estimator, features, self._found.spectrum, self._ridge, self._found.clip_threshold)


def prepare_targets(inventory: Inventory, estimator: EstimatorSpec, features: Callable[[str], Float32]) -> PreparedTargets:
    """Prepare some targets. Spectra are read one at a time, so that only one k × k factorisation is in memory.

    Args:
        features: checkpoint -> (targets, k) features.

    Raises:
        StoreError: a Gram matrix is missing or out of date.
        ConfigError: one of them is singular.
    """

    def factor(checkpoint: str) -> tuple[TargetFactor, Float32 | None]:
        """The targets under a checkpoint, and the sample weights of all training rows if finalize stored them."""
        rows = features(checkpoint)
        opened = CheckpointTargets(inventory, estimator, checkpoint)
        return opened.factor(rows), opened.sample_weight

    factors, weights = zip(*map(factor, inventory.checkpoints), strict=True)
    return PreparedTargets(inventory, estimator, normalize_targets(estimator, factors), weights)


class BlockScorer:
    """Scores the units of one split; keeps the prepared targets of one block: checkpoints × targets × k
    float32, twice where scores are shrunk.
    """

    def __init__(self, inventory: Inventory, estimator: EstimatorSpec, split: str) -> None:
        self._inventory = inventory
        self._estimator = estimator
        self._split = split
        self._block: int | None = None
        self._targets: PreparedTargets | None = None

    def scores(self, unit: ScoreUnit) -> Iterator[tuple[Rows, Float32]]:
        """The scores of a unit, shard by shard: (training rows, (targets of the unit, rows) float32)."""
        if unit.block != self._block or self._targets is None:
            self._targets = prepare_targets(self._inventory, self._estimator, partial(self._features, unit.targets))
            self._block = unit.block
        return self._targets.stream(unit.rows)

    def _features(self, targets: Rows, checkpoint: str) -> Float32:
        return np.concatenate(list(self._parts(targets, checkpoint)))

    def _parts(self, targets: Rows, checkpoint: str) -> Iterator[Float32]:
        for index, rows in enumerate(self._inventory.shards(self._split)):
            inside = Rows(max(rows.start, targets.start), min(rows.stop, targets.stop))
            if inside.start < inside.stop:
                shard = self._inventory.read(checkpoint, self._split, index)
                yield shard.features[inside.start - rows.start : inside.stop - rows.start]

"""Scores from the solutions of all checkpoints, and the files of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trak_cli.attribution.estimator.rows import unit_rows
from trak_cli.attribution.estimator.shrinkage import cosines, shrinkage_factor
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.estimator.threshold import reference_rows, soften, thresholds
from trak_cli.attribution.topk import Extremes, TopBottom
from trak_cli.stages.index.inventory import Inventory
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.refining.settings import Settings
from trak_cli.stages.refining.systems import Refined
from trak_cli.store.container import read_image
from trak_cli.store.fingerprint import require_same
from trak_cli.store.publish import is_stored, write_image
from trak_cli.types import TRAIN, Float32, Float64, FloatArray, Json, Rows

#: Fields of :class:`Refined`, which are the datasets of its file.
_FIELDS = ("products", "lengths", "ridge", "residuals", "iterations")


@dataclass(frozen=True)
class RefinedUnit:
    """One block of systems under one checkpoint: the unit of work."""

    checkpoint: str
    block: int
    systems: Rows
    path: Path
    fingerprint: Json

    def stored(self) -> bool:
        """Whether its file is there, intact and of the same run.

        Raises:
            DamagedError, ForeignError: it is damaged, or of another run.
        """
        return is_stored(self.path, self.fingerprint)

    def write(self, refined: Refined) -> None:
        """Store the result; a file that another worker has written is kept."""
        write_image(self.path, {name: getattr(refined, name) for name in _FIELDS}, self.fingerprint, provenance())

    def read(self) -> Refined:
        """The stored result.

        Raises:
            StoreError: it is missing, damaged or of another run.
        """
        image = read_image(self.path)
        require_same(self.path, image.fingerprint, self.fingerprint)
        return Refined(*(image.arrays[name] for name in _FIELDS))


def combined(settings: Settings, estimator: EstimatorSpec, inventory: Inventory, units: Sequence[RefinedUnit]) -> Float32:
    """The scores of one block of systems, (R, n) float32, from its units under all checkpoints.

    The mean over checkpoints of the products, with the estimator's normalised targets, shrinkage and soft threshold.
    """
    lengths = np.stack([unit.read().lengths for unit in units])
    ratios = np.ones_like(lengths)
    if estimator.normalize_targets:
        np.divide(lengths.mean(axis=0), lengths, out=ratios, where=lengths > 0)
    total: Float64 = np.zeros((lengths.shape[1], inventory.rows))
    for unit, ratio in zip(units, ratios, strict=True):
        total += unit.read().products * (ratio[:, None] / len(units))
    if estimator.shrinkage:
        for rows, cosine in _mean_cosines(settings, inventory, units):
            total[:, rows.start : rows.stop] *= shrinkage_factor(cosine, estimator.shrinkage, len(units))
    scores = total.astype(np.float32)
    if estimator.soft_threshold:
        some = scores[:, reference_rows(inventory.rows)]
        scores = soften(scores, thresholds(some, estimator.soft_threshold))
    return scores


def _mean_cosines(settings: Settings, inventory: Inventory, units: Sequence[RefinedUnit]) -> Iterator[tuple[Rows, FloatArray]]:
    """For every shard of training rows, its rows, and the mean cosines (R, r) of their features with those of the targets."""
    targets = {unit.checkpoint: unit_rows(_target_features(settings, inventory, unit)) for unit in units}
    for index, rows in enumerate(inventory.shards(TRAIN)):
        total: FloatArray = np.zeros((len(units[0].systems), len(rows)), np.float32)
        for checkpoint, unit in targets.items():
            total += cosines(unit, inventory.read(checkpoint, TRAIN, index).features)
        yield rows, total / len(units)


def _target_features(settings: Settings, inventory: Inventory, unit: RefinedUnit) -> Float32:
    """The features of the targets of a block, (R, k) float32, or the mean of those of a group."""
    group = settings.refine.group
    wanted = settings.targets if group else settings.targets[unit.systems.start : unit.systems.stop]
    rows = np.array(wanted)
    features = np.zeros((len(rows), inventory.dim), np.float32)
    for index, shard in enumerate(inventory.shards(settings.split)):
        inside = (rows >= shard.start) & (rows < shard.stop)
        if inside.any():
            features[inside] = inventory.read(unit.checkpoint, settings.split, index).features[rows[inside] - shard.start]
    return features.mean(axis=0, keepdims=True) if group else features


def extremes_of(scores: Float32, candidates: Sequence[Sequence[int]], k: int) -> TopBottom:
    """The k highest and lowest scores of every target among its candidates.

    Args:
        scores: (R, n).
        candidates: for each target, the training rows that compete, as many for every target.
    """
    rows = np.array([sorted(chosen) for chosen in candidates], np.int64)
    values = np.take_along_axis(scores, rows, axis=1)
    ends = []
    for sign in (-1, 1):
        order = np.argsort(sign * values, axis=1, kind="stable")[:, :k]
        ends.append(Extremes(np.take_along_axis(rows, order, axis=1), np.take_along_axis(values, order, axis=1)))
    return TopBottom(*ends)

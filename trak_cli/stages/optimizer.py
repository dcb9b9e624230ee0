"""The optimiser that trained the model, and the scales that it gives gradients (:mod:`trak_cli.gradients.adam`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trak_cli.gradients import Scale, Scales, SecondMoments
from trak_cli.stages.kept import kept
from trak_cli.stages.microbatches import Split
from trak_cli.stages.parts import Checkpoint
from trak_cli.stages.recipe import Recipe
from trak_cli.store import Layout
from trak_cli.types import Json

#: Training samples whose gradients are looked at, spread over the training set: as good as all of them.
SAMPLES = 256


@dataclass(frozen=True)
class OptimizerScales:
    """What scales are made of and where they are kept.

    Attributes:
        fingerprints: checkpoint name -> the fingerprint of its features.
    """

    layout: Layout
    recipe: Recipe
    train: Split
    fingerprints: Mapping[str, Json]

    def of(self, checkpoint: Checkpoint) -> Scales | None:
        """The scales under a checkpoint whose weights are in the model: stored ones, or made now and stored; None for sgd.

        Raises:
            StoreError: another run's scales are stored there, or damaged ones.
            InputError: the training set no longer gives the samples that they were made of.
        """
        if not self.recipe.scaled:
            return None
        rows = spread(self.train.rows)
        fingerprint = {**self.fingerprints[checkpoint.name], "kind": "scales"}
        path = self.layout.scales(checkpoint.name)
        found = kept(path, fingerprint, self.train, rows, "scale", lambda: _tensors(self._made(rows)))
        return _scales(found, self.train.device)

    def _made(self, rows: Sequence[int]) -> Scales:
        return make_scales(self.recipe, (self.train.batch([self.train.dataset[row]]) for row in rows))


def make_scales(recipe: Recipe, batches: Iterable[Any]) -> Scales:
    """The scales under the weights in the model, from batches of training samples; gradients by the loop, one at a time."""
    oracle = recipe.engine("loop", {})
    moments = SecondMoments(recipe.selected)
    for batch in batches:
        moments.add(oracle.per_sample(batch))
    return {name: scale.to(recipe.device) for name, scale in moments.scales().items()}


def spread(rows: int) -> list[int]:
    """At most SAMPLES row numbers, from the first to the last."""
    count = min(rows, SAMPLES)
    return [round(i * (rows - 1) / max(count - 1, 1)) for i in range(count)]


def _tensors(scales: Scales) -> dict[str, Tensor]:
    rows = {f"{name}.rows": one.rows for name, one in scales.items()}
    return rows | {f"{name}.columns": one.columns for name, one in scales.items()}


def _scales(found: Mapping[str, Any], device: torch.device) -> Scales:
    names = [name.removesuffix(".rows") for name in found if name.endswith(".rows")]
    part = {name: torch.from_numpy(array).to(device) for name, array in found.items()}
    return {name: Scale(part[f"{name}.rows"], part[f"{name}.columns"]) for name in names}

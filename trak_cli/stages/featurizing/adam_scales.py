"""The optimiser that trained the model, and the scales that it gives gradients (:mod:`trak_cli.gradients.transforms.adam`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trak_cli.gradients.contract import Engine
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.transforms.adam import OverlappingBlocksError, Scale, Scales, SecondMoments, matrix_shape
from trak_cli.stages.featurizing.checkpoint_cache import Array, kept
from trak_cli.stages.featurizing.featurizer import Featurizer
from trak_cli.stages.featurizing.setup import Recipe
from trak_cli.stages.inputs.plugins import Checkpoint
from trak_cli.stages.inputs.split import Microbatch, Split, spread
from trak_cli.store.layout import Layout
from trak_cli.types import Json, Reporter

#: Training samples whose gradients are looked at, at most, spread over the training set. For images 256 are as good as all of
#: them; for texts it takes many, because most words are in few of them.
SAMPLES = 4096


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
    reporter: Reporter

    def of(self, checkpoint: Checkpoint, made: Featurizer) -> Scales:
        """The scales under a checkpoint whose weights are in the model: stored ones, or made now (by ``made``) and stored.

        Raises:
            StoreError: another run's scales are stored there, or damaged ones.
            InputError: the training set no longer gives the samples that they were made of.
        """
        rows = spread(self.train.rows, SAMPLES)
        fingerprint = {**self.fingerprints[checkpoint.name], "kind": "scales"}
        path = self.layout.scales(checkpoint.name)

        def make() -> dict[str, Tensor]:
            self.reporter.log(f"{checkpoint.name}: second moments of the gradients of {len(rows):,} samples")
            return joined(make_scales(self.recipe, made, self.train, rows))

        found = kept(path, fingerprint, self.train, rows, "scale", make)
        return parted(found, self.recipe.selected, self.train.device)


def make_scales(recipe: Recipe, made: Featurizer, train: Split, rows: Sequence[int]) -> Scales:
    """The scales under the weights in the model, from the gradients of ``rows``, by engine and microbatch of ``made``.

    An engine that gives a parameter's gradient as several blocks that add up makes place for the loop.
    """
    try:
        return _scales(recipe, made.engine, train, train.by_size(rows, made.microbatch))
    except OverlappingBlocksError:
        return _scales(recipe, recipe.engine("loop", {}), train, train.by_size(rows, 1))


def _scales(recipe: Recipe, engine: Engine, train: Split, microbatches: Iterable[Microbatch]) -> Scales:
    moments = SecondMoments(recipe.selected)
    for microbatch in microbatches:
        with exact():  # once, and not again for every block
            moments.add(engine.per_sample(train.batch(microbatch.samples)))
    return {name: scale.to(recipe.device) for name, scale in moments.scales().items()}


def joined(scales: Scales) -> dict[str, Tensor]:
    """The rows of all parameters one after another, and the columns, in the order of the model: two arrays for the file."""
    return {
        "rows": torch.cat([one.rows for one in scales.values()]),
        "columns": torch.cat([one.columns for one in scales.values()]),
    }


def parted(found: Mapping[str, Array], parameters: Mapping[str, Tensor], device: torch.device) -> Scales:
    """What :func:`joined` joined, for these parameters."""
    shapes = [matrix_shape(parameter) for parameter in parameters.values()]
    rows = torch.split(torch.from_numpy(found["rows"]).to(device), [m for m, _ in shapes])
    columns = torch.split(torch.from_numpy(found["columns"]).to(device), [n for _, n in shapes])
    return {name: Scale(*pair) for name, *pair in zip(parameters, rows, columns, strict=True)}

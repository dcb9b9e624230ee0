"""Features of any range of rows, computed on a grid of microbatches that no shard boundary can move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trak_cli.batches import leaves, to_device
from trak_cli.gradients import Engine, PerSample, check_finite
from trak_cli.plugins import sample_id
from trak_cli.projection import Projector
from trak_cli.stages.parts import TRAIN
from trak_cli.stages.validation import validate
from trak_cli.store import FeatureRows
from trak_cli.tasks import Task
from trak_cli.types import Rows

#: Samples among which the largest is sought, to see how many fit into memory.
SIZE_SAMPLES = 64


@dataclass(frozen=True)
class Split:
    """A dataset with what turns its samples into batches."""

    name: str
    dataset: Any
    rows: int
    collate: Callable[[list[Any]], Any]
    device: torch.device

    def samples(self, rows: Rows) -> list[Any]:
        return [self.dataset[row] for row in range(rows.start, rows.stop)]

    def batch(self, samples: list[Any]) -> Any:
        return to_device(self.collate(samples), self.device)

    def largest(self) -> Any:
        """A batch of one: the sample with the most numbers among a few evenly spread ones, as lengths may differ."""
        rows = range(0, self.rows, -(-self.rows // SIZE_SAMPLES))
        batches = (self.batch(self.samples(Rows(row, row + 1))) for row in rows)
        return max(batches, key=_numbers)


def _numbers(batch: Any) -> int:
    return sum(leaf.numel() for _, leaf in leaves(batch) if isinstance(leaf, torch.Tensor))


@dataclass(frozen=True)
class Featurizer:
    """Everything that turns rows of a split into features under one checkpoint.

    Attributes:
        parameters: p, the number of selected parameters.
        microbatch: samples per gradient computation.
        signed: for training samples, the engine of their terms with random signs.
    """

    model: torch.nn.Module
    task: Task
    engine: Engine
    projector: Projector
    parameters: int
    microbatch: int
    signed: Engine | None = None

    def rows(self, split: Split, rows: Rows, progress: Callable[[int], None]) -> FeatureRows:
        """Features of ``rows``.

        A microbatch starts at a multiple of its size; one that reaches past the end of the split is filled up with
        the last sample, so every computation has the same shape whatever the shards are.

        Raises:
            InputError: a sample that the task refuses, or one whose output or gradient is not finite.
        """
        parts = []
        for grid in self._grid(rows):
            part = self._microbatch(split, grid)
            inside = slice(max(rows.start, grid.start) - grid.start, min(rows.stop, grid.stop) - grid.start)
            parts.append({name: array[inside] for name, array in part.items()})
            progress(inside.stop - inside.start)
        return FeatureRows(rows, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def _grid(self, rows: Rows) -> Iterator[Rows]:
        size = self.microbatch
        for start in range(rows.start // size * size, rows.stop, size):
            yield Rows(start, start + size)

    def _microbatch(self, split: Split, grid: Rows) -> dict[str, np.ndarray[Any, Any]]:
        """The columns of a shard, by name."""
        real = Rows(grid.start, min(grid.stop, split.rows))
        samples = split.samples(real)
        batch = split.batch(samples + samples[-1:] * (len(grid) - len(real)))
        validate(self.task, self.model, batch, split.name, real)
        names = [f"sample {row} of {split.name}" for row in range(real.start, real.stop)]
        features, found = self._projected(self.engine, batch, names, "per-sample gradient")
        columns = {
            "features": features,
            "out_to_loss": _checked(found.out_to_loss, names, "out-to-loss gradient"),
            "outputs": _checked(found.outputs, names, "model output"),
            "sample_ids": np.array([sample_id(sample) for sample in samples], dtype=np.uint64),
        }
        if self.signed is not None and split.name == TRAIN:
            rows = torch.arange(grid.start, grid.stop, device=split.device)
            what = "per-sample gradient of the terms"
            columns["term_features"], found = self._projected(self.signed, (batch, rows), names, what)
            columns["terms"] = _checked(found.out_to_loss, names, "number of terms")
        return columns

    def _projected(self, engine: Engine, batch: Any, names: list[str], what: str) -> tuple[np.ndarray[Any, Any], PerSample]:
        found = engine.per_sample(batch)
        return _checked(self.projector.project(found.blocks) / self.parameters**0.5, names, what), found


def _checked(tensor: torch.Tensor, names: list[str], what: str) -> np.ndarray[Any, Any]:
    """The first rows, one for each name, as float32 on the CPU; all of them finite."""
    values = tensor[: len(names)].detach().to("cpu", torch.float32)
    check_finite(values, names, what)
    return values.numpy()

"""Features of any range of rows, computed on a grid of microbatches that no shard boundary can move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trak_cli.batches import leaves, to_device
from trak_cli.gradients import Engine, check_finite
from trak_cli.plugins import sample_id
from trak_cli.projection import Projector
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
    """

    model: torch.nn.Module
    task: Task
    engine: Engine
    projector: Projector
    parameters: int
    microbatch: int

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
            parts.append(tuple(array[inside] for array in part))
            progress(inside.stop - inside.start)
        return FeatureRows(rows, *(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _grid(self, rows: Rows) -> Iterator[Rows]:
        size = self.microbatch
        for start in range(rows.start // size * size, rows.stop, size):
            yield Rows(start, start + size)

    def _microbatch(self, split: Split, grid: Rows) -> tuple[np.ndarray[Any, Any], ...]:
        real = Rows(grid.start, min(grid.stop, split.rows))
        samples = split.samples(real)
        ids = np.array([sample_id(sample) for sample in samples], dtype=np.uint64)
        batch = split.batch(samples + samples[-1:] * (len(grid) - len(real)))
        validate(self.task, self.model, batch, split.name, real)
        result = self.engine.per_sample(batch)
        features = self.projector.project(result.blocks) / self.parameters**0.5
        names = [f"sample {row} of {split.name}" for row in range(real.start, real.stop)]
        arrays = []
        for what, tensor in (
            ("model output", result.outputs),
            ("out-to-loss gradient", result.out_to_loss),
            ("per-sample gradient", features),
        ):
            values = tensor[: len(real)].detach().to("cpu", torch.float32)
            check_finite(values, names, what)
            arrays.append(values.numpy())
        outputs, out_to_loss, projected = arrays
        return projected, out_to_loss, outputs, ids

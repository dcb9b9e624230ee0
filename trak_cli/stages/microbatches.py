"""Features of any range of rows, computed on a grid of microbatches that no shard boundary can move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trak_cli.errors import InputError, Problem
from trak_cli.gradients import BadSample, Engine
from trak_cli.plugins import sample_id
from trak_cli.projection import Projector
from trak_cli.tasks import Task
from trak_cli.types import Float32, Rows


@dataclass(frozen=True)
class FeatureRows:
    """Rows of one split under one checkpoint.

    Attributes:
        features: (rows, k) float32, φ(z) = Pᵀ ∇f(z) / √p.
        out_to_loss: (rows,) float32, q(z) = −∂ℓ/∂f.
        outputs: (rows,) float32, f(z).
        sample_ids: (rows,) uint64 digests of the samples themselves.
    """

    features: Float32
    out_to_loss: Float32
    outputs: Float32
    sample_ids: np.ndarray[Any, np.dtype[np.uint64]]


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


def to_device(batch: Any, device: torch.device) -> Any:
    """A nested batch with every tensor on the device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


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
        return FeatureRows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _grid(self, rows: Rows) -> Iterator[Rows]:
        size = self.microbatch
        for start in range(rows.start // size * size, rows.stop, size):
            yield Rows(start, start + size)

    def _microbatch(self, split: Split, grid: Rows) -> tuple[np.ndarray[Any, Any], ...]:
        real = Rows(grid.start, min(grid.stop, split.rows))
        samples = split.samples(real)
        ids = np.array([sample_id(sample) for sample in samples], dtype=np.uint64)
        batch = split.batch(samples + samples[-1:] * (len(grid) - len(real)))
        self._validate(split, grid, batch)
        result = self.engine.per_sample(batch)
        features = self.projector.project(result.blocks)[: len(real)] / self.parameters**0.5
        arrays = [
            tensor[: len(real)].detach().to("cpu", torch.float32).numpy()
            for tensor in (features, result.out_to_loss, result.outputs)
        ]
        _require_finite(split, grid.start, outputs=arrays[2], out_to_loss=arrays[1], gradients=arrays[0])
        return (*arrays, ids)

    def _validate(self, split: Split, grid: Rows, batch: Any) -> None:
        try:
            self.task.validate(self.model, batch)
        except BadSample as bad:
            row = min(grid.start + bad.position, split.rows - 1)
            raise InputError(
                Problem(f"sample {row} of {split.name}", bad.found, bad.expected, "mend or leave out this sample")
            ) from None


def _require_finite(split: Split, start: int, **arrays: Float32) -> None:
    names = {"outputs": "model output", "out_to_loss": "out-to-loss gradient", "gradients": "per-sample gradient"}
    for key, array in arrays.items():
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        if len(bad):
            raise InputError(
                Problem(
                    f"sample {start + bad[0]} of {split.name}",
                    f"a {names[key]} that is NaN or infinite",
                    "finite numbers",
                    "look at this sample and at the checkpoint (a diverged model, log of zero, half precision overflow?)",
                )
            )

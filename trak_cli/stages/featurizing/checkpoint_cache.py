"""What is made once of some training samples under a checkpoint, stored, and read by every worker and every restart alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.gradients.numerics import exact
from trak_cli.plugins.samples import sample_id
from trak_cli.stages.index.provenance import provenance
from trak_cli.stages.inputs.plugins import Checkpoint, Parts
from trak_cli.stages.inputs.split import Split
from trak_cli.store.container import Image, read_image
from trak_cli.store.fingerprint import require_same
from trak_cli.store.layout import Layout
from trak_cli.store.publish import write_image
from trak_cli.tasks import Task
from trak_cli.types import Json

#: Arrays of the file that say which samples it was made of; all others are named PREFIX.NAME.
_ROWS, _IDS = "rows", "sample_ids"


Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def kept(
    path: Path, fingerprint: Json, train: Split, rows: Sequence[int], prefix: str, make: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Array]:
    """The arrays in the file ``path``, by name; where there is none, ``make`` makes them of ``rows`` and they are written.

    Whoever was first: what is returned has been read from the file.

    Raises:
        StoreError: another run's file lies there, or a damaged one.
        InputError: the training set no longer gives the samples that it was made of.
    """
    if not path.exists():
        arrays = {f"{prefix}.{name}": tensor.cpu().numpy() for name, tensor in make().items()}
        arrays[_ROWS] = np.array(rows, dtype=np.int64)
        arrays[_IDS] = np.array([sample_id(train.dataset[row]) for row in rows], dtype=np.uint64)
        write_image(path, arrays, fingerprint, provenance(train.device))
    image = read_image(path)
    require_same(path, image.fingerprint, fingerprint)
    _check_samples(image, train)
    own = f"{prefix}."
    return {name.removeprefix(own): array for name, array in image.arrays.items() if name.startswith(own)}


def _check_samples(image: Image, train: Split) -> None:
    """The first and the last sample are those that it was made of (all of them would cost a pass)."""
    for place in (0, -1):
        row = int(image.arrays[_ROWS][place])
        if row >= train.rows or sample_id(train.dataset[row]) != int(image.arrays[_IDS][place]):
            raise InputError(
                Problem(
                    f"sample {row} of {train.name}",
                    f"other content than when {image.path} was made",
                    "the same samples in the same order (new ones only at the end)",
                    "give back the old data set, or use another store",
                )
            )


#: Samples of one forward pass.
BATCH = 64


@dataclass(frozen=True)
class Contexts:
    """What contexts are made of and where they are kept.

    Attributes:
        fingerprints: checkpoint name -> the fingerprint of its features.
    """

    layout: Layout
    parts: Parts
    train: Split
    fingerprints: Mapping[str, Json]

    def bind(self, checkpoint: Checkpoint, *, keep: bool) -> None:
        """Give the task the context of a checkpoint whose weights are in the model.

        Args:
            keep: store it where it is not yet; the stored one is bound, whoever was first.

        Raises:
            StoreError: another run's context is stored there, or a damaged one.
            InputError: the training set no longer gives the samples that it was made of.
        """
        task = self.parts.task
        if not task.context_rows(self.train.rows):
            return
        rows = list(task.context_rows(self.train.rows))

        def make() -> dict[str, Tensor]:
            return make_context(task, self.parts.model, self.train, rows)

        path = self.layout.context(checkpoint.name)
        if not keep and not path.exists():
            task.bind(make())
            return
        fingerprint = {**self.fingerprints[checkpoint.name], "kind": "context"}
        found = kept(path, fingerprint, self.train, rows, "context", make)
        task.bind({name: torch.from_numpy(array).to(self.train.device) for name, array in found.items()})


def make_context(task: Task, model: nn.Module, train: Split, rows: Sequence[int]) -> dict[str, Tensor]:
    """The task's context under the model as it is, float32 or integers, on the device."""

    def batches() -> Iterator[object]:
        for start in range(0, len(rows), BATCH):
            yield train.batch([train.dataset[row] for row in rows[start : start + BATCH]])

    with exact(), torch.no_grad():
        context = task.context(model, batches())
    return {name: value.detach().float() if value.is_floating_point() else value for name, value in context.items()}

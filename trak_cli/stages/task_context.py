"""The context of a task under a checkpoint: computed once, stored, and given to every worker and every restart alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trak_cli.errors import InputError, Problem
from trak_cli.gradients import exact
from trak_cli.plugins import sample_id
from trak_cli.stages.machine import provenance
from trak_cli.stages.microbatches import Split
from trak_cli.stages.parts import Checkpoint, Parts
from trak_cli.store import Image, Layout, read_image, require_same, write_image
from trak_cli.tasks import Task
from trak_cli.types import Json

#: Samples of one forward pass.
BATCH = 64

#: Arrays of the file that say which samples the context was made of; the task's own are called CONTEXT.NAME.
_ROWS, _IDS, _OWN = "rows", "sample_ids", "context."


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
        path = self.layout.context(checkpoint.name)
        fingerprint = {**self.fingerprints[checkpoint.name], "kind": "context"}
        if not path.exists():
            rows = list(task.context_rows(self.train.rows))
            context = make_context(task, self.parts.model, self.train, rows)
            if not keep:
                task.bind(context)
                return
            arrays = {f"{_OWN}{name}": tensor.cpu().numpy() for name, tensor in context.items()}
            arrays[_ROWS] = np.array(rows, dtype=np.int64)
            arrays[_IDS] = np.array([sample_id(self.train.dataset[row]) for row in rows], dtype=np.uint64)
            write_image(path, arrays, fingerprint, provenance(self.train.device))
        image = read_image(path)
        require_same(path, image.fingerprint, fingerprint)
        self._check_samples(image)
        task.bind(
            {
                name.removeprefix(_OWN): torch.from_numpy(array).to(self.train.device)
                for name, array in image.arrays.items()
                if name.startswith(_OWN)
            }
        )

    def _check_samples(self, image: Image) -> None:
        """The first and the last sample are those that the context was made of (all of them would cost a pass)."""
        for place in (0, -1):
            row = int(image.arrays[_ROWS][place])
            if row >= self.train.rows or sample_id(self.train.dataset[row]) != int(image.arrays[_IDS][place]):
                raise InputError(
                    Problem(
                        f"sample {row} of {self.train.name}",
                        f"other content than when {image.path} was made",
                        "the same samples in the same order (new ones only at the end)",
                        "give back the old data set, or use another store",
                    )
                )


def make_context(task: Task, model: nn.Module, train: Split, rows: Sequence[int]) -> dict[str, Tensor]:
    """The task's context under the model as it is, float32 or integers, on the device."""

    def batches() -> Iterator[object]:
        for start in range(0, len(rows), BATCH):
            yield train.batch([train.dataset[row] for row in rows[start : start + BATCH]])

    with exact(), torch.no_grad():
        context = task.context(model, batches())
    return {name: value.detach().float() if value.is_floating_point() else value for name, value in context.items()}

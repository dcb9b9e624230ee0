"""The context of a task under a checkpoint: computed once, stored, and given to every worker and every restart alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trak_cli.gradients import exact
from trak_cli.stages.kept import kept
from trak_cli.stages.microbatches import Split
from trak_cli.stages.parts import Checkpoint, Parts
from trak_cli.store import Layout
from trak_cli.tasks import Task
from trak_cli.types import Json

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

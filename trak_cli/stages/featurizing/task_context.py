"""The context of a task under a checkpoint: what its outputs compare a sample with, such as embeddings of other samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from trak_cli.gradients.numerics import exact
from trak_cli.stages.featurizing.statistics_cache import StatisticsCache
from trak_cli.stages.inputs.checkpoints import Checkpoint
from trak_cli.stages.inputs.plugins import Components
from trak_cli.stages.inputs.split import Split
from trak_cli.tasks import Task
from trak_cli.user_errors import report_user_errors

#: Samples of one forward pass.
BATCH = 64


def bind_context(cache: StatisticsCache, components: Components, checkpoint: Checkpoint, *, store: bool) -> None:
    """Give the task its context under a checkpoint, whose weights are in the model.

    Args:
        store: store the context unless it is stored already. A stored context is used in any case.

    Raises:
        StoreError: the stored context is damaged, or belongs to another run.
        InputError: the training set no longer has the samples from which the context was computed.
    """
    task, train = components.task, cache.train
    rows = list(task.context_rows(train.rows))
    if not rows:
        return
    compute, path = partial(make_context, task, components.model, train, rows), cache.layout.context(checkpoint.name)
    if not store and not path.exists():
        task.bind(compute())
        return
    arrays = cache.load_or_compute(path, checkpoint.name, rows, compute)
    task.bind({name: torch.from_numpy(array.copy()).to(train.device) for name, array in arrays.items()})


def make_context(task: Task, model: nn.Module, train: Split, rows: Sequence[int]) -> dict[str, Tensor]:
    """The context of the task from the training samples ``rows``, on the device; floating tensors are float32."""

    def batches() -> Iterator[object]:
        for start in range(0, len(rows), BATCH):
            yield train.take(rows[start : start + BATCH])

    with report_user_errors("task.context", library=True), exact(), torch.no_grad():
        context = task.context(model, batches())
    return {name: value.detach().float() if value.is_floating_point() else value for name, value in context.items()}

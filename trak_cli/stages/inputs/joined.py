"""Batches whose tensors do not have one entry per sample, such as graphs joined to one: each sample is also collated alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from trak_cli.batches import JoinedBatch, batch_size, map_leaves
from trak_cli.errors import InputError
from trak_cli.tasks import Task

Collate = Callable[[list[Any]], Any]


def joins(collate: Collate, dataset: Any) -> bool:
    """Whether ``collate`` returns batches without one entry per sample in every tensor, for the first two samples."""
    try:
        samples = [dataset[row] for row in range(min(2, len(dataset)))]
        return any(_is_joined(collate(chosen)) for chosen in (samples, samples[:1]))
    except Exception:  # raised again when a batch is used, and reported with the name of the sample
        return False


def _is_joined(batch: Any) -> bool:
    try:
        batch_size(batch)
    except InputError:
        return True
    return False


@dataclass(frozen=True)
class JoinedCollate:
    """A collate function that also collates each sample alone."""

    collate: Collate

    def __call__(self, samples: list[Any]) -> JoinedBatch:
        """The batch of these samples, and the batches of one."""
        singles = tuple(self.collate([sample]) for sample in samples)
        return JoinedBatch(self.collate(samples) if len(samples) > 1 else singles[0], singles)


class JoinedTask:
    """Calls a task with the batches that collate returned instead of the :class:`JoinedBatch` around each."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._task, name)
        return lambda *arguments: method(*map(_given, arguments))


def joined_task(task: Task) -> Task:
    """The task for batches of :class:`JoinedBatch`."""
    return cast("Task", JoinedTask(task))


def _given(argument: Any) -> Any:
    """A batch, or an iterator over batches, as the task expects it; other arguments of its methods are unchanged."""
    if isinstance(argument, Iterator):
        return map(_given, argument)
    return map_leaves(lambda leaf: leaf.together if isinstance(leaf, JoinedBatch) else leaf, argument)

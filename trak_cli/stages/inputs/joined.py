"""Batches whose tensors do not have one entry per sample, such as graphs joined to one: each sample is also collated alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trak_cli.batches import JoinedBatch, batch_size, map_leaves
from trak_cli.errors import InputError
from trak_cli.tasks import Task
from trak_cli.tasks.quality import Quality

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


class JoinedTask(Task):
    """A task whose methods get the batch that collate returned instead of the :class:`JoinedBatch` around it."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """See :class:`~trak_cli.tasks.Task`."""
        return self._task.output(model, _given(batch))

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        return self._task.out_to_loss_grad(model, _given(batch), output)

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        return self._task.losses(model, _given(batch))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return self._task.loss(model, _given(batch))

    def weighted_loss(self, model: nn.Module, batch: Any, weights: Tensor) -> Tensor:
        return self._task.weighted_loss(model, _given(batch), weights)

    def terms(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return self._task.terms(model, _given(batch))

    def has_terms(self) -> bool:
        return self._task.has_terms()

    def validate(self, model: nn.Module, batch: Any) -> None:
        self._task.validate(model, _given(batch))

    def quality(self, model: nn.Module, batches: Iterable[Any]) -> Quality:
        return self._task.quality(model, map(_given, batches))

    def context_rows(self, rows: int) -> Sequence[int]:
        return self._task.context_rows(rows)

    def context(self, model: nn.Module, batches: Iterable[Any]) -> Mapping[str, Tensor]:
        return self._task.context(model, map(_given, batches))

    def bind(self, context: Mapping[str, Tensor]) -> None:
        self._task.bind(context)


def _given(batch: Any) -> Any:
    return map_leaves(lambda leaf: leaf.together if isinstance(leaf, JoinedBatch) else leaf, batch)

"""Batches: nested tuples, lists and mappings of tensors that share their leading dimension.

A list or tuple of plain values only (strings, numbers, None) holds one value per sample, as PyTorch's default collate returns
for strings. It counts as one leaf, and so does a :class:`JoinedBatch`, whose samples do not share a leading dimension.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trak_cli.errors import InputError, Problem
from trak_cli.plurals import counted

#: Label of a position without a prediction: padding, a prompt, a token that is not masked.
IGNORED = -100

_PLAIN = (str, bytes, bool, int, float, complex, type(None))


@dataclass(frozen=True)
class JoinedBatch:
    """Samples in a batch without one entry per sample in every tensor, such as several graphs joined to one.

    Attributes:
        together: the batch of all samples, as the model takes it.
        singles: each sample as a batch of one.
    """

    together: Any
    singles: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.singles)

    def only(self, position: int) -> JoinedBatch:
        """The sample at ``position`` alone."""
        return JoinedBatch(self.singles[position], (self.singles[position],))

    def map(self, function: Callable[[Any], Any]) -> JoinedBatch:
        """The same batch with ``function`` applied to every leaf."""
        return JoinedBatch(map_leaves(function, self.together), tuple(map_leaves(function, single) for single in self.singles))


def batch_size(batch: Any) -> int:
    """B, the leading dimension of all leaves of ``batch``, or the number of samples of a joined batch.

    Raises:
        InputError: no tensor, a tensor without dimensions, or leaves of different lengths.
    """
    sizes: dict[int, str] = {}
    for name, leaf in leaves(batch):
        if isinstance(leaf, Tensor) and leaf.dim() == 0:
            raise _unusable(f"a tensor without dimensions at {name}", "B as the first dimension of every tensor of a batch")
        if isinstance(leaf, Tensor | list | tuple | JoinedBatch):
            sizes.setdefault(len(leaf), name)
    if len(sizes) > 1:
        found = ", ".join(f"{size} at {name}" for size, name in sizes.items())
        raise _unusable(f"leading dimensions {found}", "the same number of samples in every part of a batch")
    if not sizes:
        raise _unusable(f"no tensor ({type(batch).__name__})", "tensors, or tuples, lists or mappings of tensors")
    return next(iter(sizes))


def one_sample(batch: Any, position: int) -> Any:
    """The batch with only the sample at ``position`` (B = 1). Values that are not per sample are kept."""

    def cut(leaf: Any) -> Any:
        if isinstance(leaf, JoinedBatch):
            return leaf.only(position)
        return leaf[position : position + 1] if isinstance(leaf, Tensor | list | tuple) else leaf

    return map_leaves(cut, batch)


def first_repeated(batch: Any, size: int) -> Any:
    """A batch of ``size`` copies of the first sample. Values that are not per sample are kept."""

    def repeat(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf[:1].expand(size, *leaf.shape[1:]).clone()
        return type(leaf)([leaf[0]] * size) if isinstance(leaf, list | tuple) else leaf

    return map_leaves(repeat, batch)


def count_numbers(batch: Any) -> int:
    """How many numbers the tensors of a batch hold."""
    parts = [part for _, leaf in leaves(batch) for _, part in leaves(leaf.together if isinstance(leaf, JoinedBatch) else leaf)]
    return sum(part.numel() for part in parts if isinstance(part, Tensor))


def refuse_joined(batch: Any, engine: str) -> None:
    """Refuse a batch without one entry per sample in every tensor, in an engine that computes several samples at once.

    Raises:
        InputError: names the tensor, and the loop as the remedy.
    """
    for _, leaf in leaves(batch):
        if isinstance(leaf, JoinedBatch):
            found = (
                f"a batch of {counted(len(leaf), 'sample')} whose tensors do not all have"
                f" {counted(len(leaf), 'entry', 'entries')}: {_sizes(leaf.together)}"
            )
            expected = f"one entry per sample in every tensor, which gradients={engine} needs"
            raise InputError(Problem("dataset.collate", found, expected, "run again with gradients=loop"))


def to_device(batch: Any, device: torch.device | str) -> Any:
    """The batch with every tensor on ``device``. Copies from pinned memory to a GPU are asynchronous.

    A joined batch may consist of objects with a method ``to``.
    """

    def moved(leaf: Any) -> Any:
        if isinstance(leaf, JoinedBatch):
            return leaf.map(lambda part: part.to(device) if hasattr(part, "to") else part)
        return leaf.to(device, non_blocking=leaf.is_pinned()) if isinstance(leaf, Tensor) else leaf

    return map_leaves(moved, batch)


def leaves(batch: Any, name: str = "batch") -> Iterator[tuple[str, Any]]:
    """Pairs (name, leaf) in order. Names look like ``batch[0]['mask']``."""
    if isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from leaves(value, f"{name}[{key!r}]")
    elif isinstance(batch, list | tuple) and not _is_per_sample(batch):
        for position, value in enumerate(batch):
            yield from leaves(value, f"{name}[{position}]")
    else:
        yield name, batch


def map_leaves(function: Callable[[Any], Any], batch: Any) -> Any:
    """The same structure with ``function`` applied to every leaf. Mappings other than OrderedDict become plain dicts."""
    if isinstance(batch, Mapping):
        items = [(key, map_leaves(function, value)) for key, value in batch.items()]
        return OrderedDict(items) if isinstance(batch, OrderedDict) else dict(items)
    if isinstance(batch, list | tuple) and not _is_per_sample(batch):
        values = [map_leaves(function, value) for value in batch]
        if hasattr(batch, "_fields"):
            return type(batch)(*values)
        return values if isinstance(batch, list) else tuple(values)
    return function(batch)


def _sizes(batch: Any) -> str:
    """The shapes of the tensors of a batch, and the types of other leaves."""
    shown = [
        f"{tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__} at {name}" for name, leaf in leaves(batch)
    ]
    return ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")


def _is_per_sample(values: list[Any] | tuple[Any, ...]) -> bool:
    return len(values) > 0 and all(isinstance(value, _PLAIN) for value in values)


def _unusable(found: str, expected: str) -> InputError:
    return InputError(Problem("batch", found, expected, "return such batches from dataset.collate"))

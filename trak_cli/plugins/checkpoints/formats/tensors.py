"""The tensors in the content of a checkpoint file, at any depth of nested mappings and lists, under dotted names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is read when it is needed, because it may belong to an optimizer.

    Attributes:
        shape: its shape.
        read: returns it, on the CPU.
    """

    shape: torch.Size
    read: Callable[[], Tensor]


#: A tensor of a checkpoint file, or one that is still on disk.
Entry = Tensor | StoredTensor


class NamedTensors(dict[str, Entry]):
    """Dotted name -> tensor: ``state.model.0.weight`` for the tensor ``0.weight`` in the mapping ``model`` of ``state``.

    Attributes:
        holders: dotted name -> the mapping or list that holds the tensor (``state.model``; empty for the outermost one).
    """

    def __init__(self) -> None:
        super().__init__()
        self.holders: dict[str, str] = {}

    def add(self, name: str, tensor: Entry, holder: str) -> None:
        """Add a tensor. If its dotted name is taken, it gets another name."""
        while name in self:
            name += "'"
        self[name] = tensor
        self.holders[name] = holder


def named_tensors(content: object) -> NamedTensors:
    """All tensors in the content, NumPy arrays of numbers included. Everything else is left out."""
    tensors = NamedTensors()
    _collect(content, "", tensors, set())
    return tensors


def as_tensor(entry: Entry) -> Tensor:
    """The tensor of an entry, read from disk if need be."""
    return entry.read() if isinstance(entry, StoredTensor) else entry


def _collect(value: object, name: str, tensors: NamedTensors, above: set[int]) -> None:
    if isinstance(value, nn.Module):  # of a class that the user allowed
        value = value.state_dict()
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return
    if id(value) in above:  # a mapping that contains itself
        return
    for key, item in items:
        full = f"{name}.{key}" if name else key
        if isinstance(item, np.ndarray) and item.dtype.kind in "biufc" and item.size:
            item = torch.from_numpy(np.ascontiguousarray(item).reshape(item.shape))
        if isinstance(item, Tensor | StoredTensor):
            tensors.add(full, item, name)
        else:
            _collect(item, full, tensors, above | {id(value)})

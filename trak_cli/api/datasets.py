"""Data sets in memory: what a caller may give, and what is refused with the way to give it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from trak_cli.errors import Problem
from trak_cli.plugins.samples import Indexed
from trak_cli.types import TRAIN, listed

#: Name of the split of targets that are given without one.
TARGETS = "targets"

_EXPECTED = "a map-style data set: len(data) samples, data[0], data[1], …"


@dataclass(frozen=True)
class Columns:
    """The data set of arrays with one entry per sample: sample i is (first[i], second[i], …), or a mapping of them."""

    columns: tuple[Any, ...] | Mapping[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self._values())))

    def __getitem__(self, row: int) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(row)
        if isinstance(self.columns, Mapping):
            return {name: values[row] for name, values in self.columns.items()}
        return tuple(values[row] for values in self.columns)

    def _values(self) -> Sequence[Any]:
        return list(self.columns.values()) if isinstance(self.columns, Mapping) else self.columns

    def wide(self) -> list[str]:
        """The columns of inputs in float64, NumPy's default."""
        named = self.columns.items() if isinstance(self.columns, Mapping) else enumerate(self.columns)
        return [str(name) for name, values in named if values.ndim > 1 and str(values.dtype).endswith("float64")]


def as_dataset(data: Any, key: str, problems: list[Problem]) -> Indexed:
    """The data set that ``data`` is or means; a problem is added if it means none.

    Args:
        data: a map-style data set, a list of samples, or a tuple or mapping of tensors or arrays with one entry per sample.
        key: the argument, for messages.
    """
    if _is_columns(data):
        lengths = [len(values) for values in (data.values() if isinstance(data, Mapping) else data)]
        if len(set(lengths)) > 1:
            found = f"columns of {', '.join(map(str, lengths))} entries"
            remedy = "give columns of equal length, or [SAMPLE] if this is one sample"
            problems.append(Problem(key, found, "one entry per sample in each column", remedy))
        return Columns(data)
    problem = _refusal(data, key)
    if problem is not None:
        problems.append(problem)
    return data  # type: ignore[no-any-return]


def as_splits(targets: Any, problems: list[Problem]) -> dict[str, Indexed]:
    """Split name -> data set; targets without names are the split :data:`TARGETS`."""
    if isinstance(targets, Mapping) and not _is_columns(targets) and not _is_sample(targets):
        if not targets or TRAIN in targets:
            found = f"a split named {TRAIN!r}" if targets else "an empty mapping"
            expected = f"data sets by the names of their splits, other than {TRAIN!r}"
            problems.append(Problem("targets", found, expected, "give targets=DATA, or targets={'test': DATA}"))
        return {str(name): as_dataset(data, f"targets[{name!r}]", problems) for name, data in targets.items()}
    return {TARGETS: as_dataset(targets, "targets", problems)}


def dtype_problems(splits: Mapping[str, Indexed], model: nn.Module) -> Iterator[Problem]:
    """Columns in float64 for a model that has no such weights."""
    if any(parameter.dtype == torch.float64 for parameter in model.parameters()):
        return
    for split, data in splits.items():
        for name in data.wide() if isinstance(data, Columns) else []:
            remedy = "convert it: array.astype('float32') or tensor.float()"
            yield Problem(split, f"column {name} in float64", "the dtype of the model's weights", remedy)


def _is_columns(data: Any) -> bool:
    if not isinstance(data, tuple | Mapping) or not data:
        return False
    values = data.values() if isinstance(data, Mapping) else data
    return all(isinstance(value, Tensor | np.ndarray) and value.ndim > 0 for value in values)


def _is_sample(data: Any) -> bool:
    """Whether a tuple or mapping holds a number or a text beside its arrays, as a sample does and a data set does not."""
    if not isinstance(data, tuple | Mapping):
        return False
    values = list(data.values() if isinstance(data, Mapping) else data)
    plain = [isinstance(value, str | int | float | np.generic) or getattr(value, "ndim", None) == 0 for value in values]
    return any(plain) and all(one or hasattr(value, "shape") for one, value in zip(plain, values, strict=True))


def _refusal(data: Any, key: str) -> Problem | None:
    kind = type(data).__name__
    if _is_sample(data):
        values = data.values() if isinstance(data, Mapping) else data
        found = f"a {kind} of {listed([type(value).__name__ for value in values])}, which is one sample"
        return Problem(key, found, _EXPECTED, "give a list: [SAMPLE] for one sample")
    if isinstance(data, DataLoader):
        found = f"a {kind}, whose order and batches may differ from those of its data set"
        return Problem(key, found, _EXPECTED, "give LOADER.dataset, and collate=LOADER.collate_fn")
    if isinstance(data, IterableDataset):
        return Problem(key, f"{kind}, an IterableDataset, without row numbers", _EXPECTED, "give list(DATA), if it fits memory")
    parts = [data, *(data.values() if isinstance(data, Mapping) else data if isinstance(data, tuple) else ())]
    if any(hasattr(part, "iloc") for part in parts):
        kind = next(type(part).__name__ for part in parts if hasattr(part, "iloc"))
        remedy = "give arrays, one per column: (frame[inputs].to_numpy('float32'), frame['label'].to_numpy())"
        return Problem(key, f"a {kind} of pandas, whose [] selects columns", _EXPECTED, remedy)
    if isinstance(data, Mapping | str) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        listable = hasattr(data, "__iter__") and not isinstance(data, Mapping | str)
        remedy = "give list(DATA), if it fits memory" if listable else "give an object with __len__ and __getitem__"
        found = f"an object of type {kind}"
        if isinstance(data, Mapping):
            found = f"a {kind} with the keys {', '.join(map(repr, data)) or '(none)'}"
        return Problem(key, found, f"{_EXPECTED} (or a tuple or mapping of arrays with one entry per sample)", remedy)
    return None


def as_collate(collate: Any, problems: list[Problem]) -> Callable[[list[Any]], Any] | None:
    """The collate function, or None for PyTorch's default."""
    if collate is not None and not callable(collate):
        found, remedy = f"an object of type {type(collate).__name__}", "give a function, or leave collate out"
        problems.append(Problem("collate", found, "a function from a list of samples to a batch", remedy))
    return collate  # type: ignore[no-any-return]

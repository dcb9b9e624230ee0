"""Small types and helpers that every layer shares."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # importing PyTorch takes longer than everything that needs only these types
    import torch

AnyArray = npt.NDArray[Any]

FloatArray = npt.NDArray[np.floating[Any]]


Float32 = npt.NDArray[np.float32]


Float64 = npt.NDArray[np.float64]


BoolArray = npt.NDArray[np.bool_]


IntArray = npt.NDArray[np.int64]


#: What models were trained on, (subsets, n): True where a subset has the training sample, or float32 weights of its loss.
SubsetWeights = BoolArray | Float32


#: A JSON object. Stores keep metadata of this kind only.
Json = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """The half-open range of rows [start, stop) of a split; row i is sample i of its dataset."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __str__(self) -> str:
        return f"[{self.start}, {self.stop})"


@dataclass(frozen=True)
class _Shards(Sequence[Rows]):
    """Consecutive ranges; none is stored, because the numbers may come from a file of somebody else."""

    rows: int
    shard_rows: int

    def __len__(self) -> int:
        return -(-self.rows // self.shard_rows)

    @overload
    def __getitem__(self, index: int) -> Rows: ...
    @overload
    def __getitem__(self, index: slice) -> list[Rows]: ...
    def __getitem__(self, index: int | slice) -> Rows | list[Rows]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        start = range(0, self.rows, self.shard_rows)[index]
        return Rows(start, min(start + self.shard_rows, self.rows))


def shards_of(rows: int, shard_rows: int) -> Sequence[Rows]:
    """The shards of a split of ``rows`` rows. Each has ``shard_rows`` rows, the last one possibly fewer."""
    return _Shards(rows, shard_rows)


@dataclass(frozen=True)
class Block:
    """Per-sample gradients of one parameter tensor, or of a range of its coordinates.

    Attributes:
        name: canonical parameter name (the first under which ``model.named_parameters()`` lists it).
        gradient: (B, d), any floating dtype: row b is the gradient of sample b, flattened in C order.
        offset: coordinate, inside the flattened parameter tensor, of the first column.
    """

    name: str
    gradient: torch.Tensor
    offset: int = 0

    @property
    def batch(self) -> int:
        """B."""
        return len(self.gradient)


@dataclass(frozen=True)
class RowBlock:
    """Per-sample gradients of a parameter with few nonzero rows per sample (an embedding): these rows only.

    Attributes:
        name: canonical parameter name; the parameter is treated as a matrix with ``values.shape[1]`` columns.
        batch: B.
        sample: (m,) int64, ascending: the sample that each row of ``values`` belongs to.
        row: (m,) int64: the row of the parameter; distinct and ascending within a sample.
        values: (m, width), any floating dtype. All other rows are zero.
    """

    name: str
    batch: int
    sample: torch.Tensor
    row: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class FactorBlock:
    """Per-sample gradients of a weight matrix in factored form: G_b = Σ_t left_bt right_btᵀ.

    Attributes:
        name: canonical parameter name; the parameter is treated as an (m, n) matrix, its first dimension × all others.
        left: (B, t, m), any floating dtype: for a linear layer the gradients at its outputs, position by position.
        right: (B, t, n), the same dtype: for a linear layer its inputs.
    """

    name: str
    left: torch.Tensor
    right: torch.Tensor

    @property
    def batch(self) -> int:
        """B."""
        return len(self.left)

    def dense(self) -> Block:
        """The same gradients as a dense block, (B, m · n)."""
        return Block(self.name, self.left.transpose(1, 2).bmm(self.right).flatten(1))


#: The kinds of blocks that an engine may yield and a projector accepts.
AnyBlock = Block | RowBlock | FactorBlock


class Meter(Protocol):
    """Counts finished units of work."""

    def advance(self, amount: int = 1) -> None: ...


class Reporter(Protocol):
    """Receives messages and progress of a running stage. The command line prints them; :class:`Silent` drops them."""

    def log(self, message: str) -> None:
        """Report one message."""

    def meter(self, label: str, total: int, unit: str) -> AbstractContextManager[Meter]:
        """A counter for ``total`` units of work, reported with rate and time left."""


class Silent:
    """A reporter that drops everything."""

    def log(self, message: str) -> None:
        del message

    def meter(self, label: str, total: int, unit: str) -> Silent:
        del label, total, unit
        return self

    def advance(self, amount: int = 1) -> None:
        del amount

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *exception: object) -> None:
        del exception


def plain(value: Any) -> Any:
    """A summary as JSON values: dataclasses become objects, paths become text, and NaN becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more there are: "a, b, c and 2 more"."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def repeated(numbers: Sequence[int]) -> list[int]:
    """The numbers that occur more than once, ascending."""
    return sorted(number for number, count in Counter(numbers).items() if count > 1)


def by_numbers(name: str) -> list[str | int]:
    """Sort key of a name that compares the numbers in it as numbers: epoch_9 before epoch_10."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", name))]


#: Name of the split that is the training set; no target split may have this name.
TRAIN = "train"


def evenly_spaced(rows: int, count: int) -> IntArray:
    """At most ``count`` of ``rows`` row numbers, evenly spaced, the first and the last included: (m,) int64, ascending."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).round().astype(np.int64))

"""Small types and helpers that every layer shares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # importing PyTorch takes longer than everything that needs only these types
    import torch

FloatArray = npt.NDArray[np.floating[Any]]


Float32 = npt.NDArray[np.float32]


Float64 = npt.NDArray[np.float64]


BoolArray = npt.NDArray[np.bool_]


IntArray = npt.NDArray[np.int64]


#: Anything that JSON can hold: the only kind of metadata that a store keeps.
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


def shards_of(rows: int, shard_rows: int) -> Iterator[Rows]:
    """The shards of a split of ``rows`` rows: every one ``shard_rows`` long but the last."""
    for start in range(0, rows, shard_rows):
        yield Rows(start, min(start + shard_rows, rows))


@dataclass(frozen=True)
class Block:
    """Per-sample gradients of one parameter tensor (or of a run of its coordinates), on their way to the projection.

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
    """Per-sample gradients of a parameter of which a sample reaches few rows (an embedding): those rows alone.

    Attributes:
        name: canonical parameter name; the parameter is seen as a matrix of ``values.shape[1]`` columns.
        batch: B.
        sample: (m,) int64, ascending: the sample that a row of ``values`` belongs to.
        row: (m,) int64: which row of the parameter it is; distinct and ascending within a sample.
        values: (m, width), any floating dtype. Rows that are not named are zero.
    """

    name: str
    batch: int
    sample: torch.Tensor
    row: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class FactorBlock:
    """Per-sample gradients of a weight matrix, as the factors they are made of: G_b = Σ_t left_bt right_btᵀ.

    Attributes:
        name: canonical parameter name; the parameter is seen as an (m, n) matrix, its first dimension × all others.
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
        """The same gradients multiplied out: (B, m · n)."""
        return Block(self.name, self.left.transpose(1, 2).bmm(self.right).flatten(1))


#: What an engine may yield and a projector must take.
AnyBlock = Block | RowBlock | FactorBlock


class Meter(Protocol):
    """Counts finished units of one long piece of work."""

    def advance(self, amount: int = 1) -> None: ...


class Reporter(Protocol):
    """What a stage tells while it runs. The command line draws it; a library user may pass :class:`Silent`."""

    def log(self, message: str) -> None:
        """Say one sentence (stderr)."""

    def meter(self, label: str, total: int, unit: str) -> AbstractContextManager[Meter]:
        """Begin a piece of work of ``total`` ``unit`` s, shown with rate and time left."""


class Silent:
    """A reporter that says nothing."""

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
    """A summary as JSON values: dataclasses become objects, paths text, and NaN null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


#: Key of the training set among the splits; target splits may not be called so.
TRAIN = "train"


def evenly_spaced(rows: int, count: int) -> IntArray:
    """At most ``count`` of ``rows`` row numbers, evenly spaced, the first and the last included: (m,) int64, ascending."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).round().astype(np.int64))

"""Scores as a labelled array that is read on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trak_cli.api.html import card
from trak_cli.errors import ConfigError, Problem
from trak_cli.plugins.optional import needed
from trak_cli.plurals import counted
from trak_cli.types import AnyArray, Float32, IntArray

if TYPE_CHECKING:
    import xarray

#: Reads scores: (positions of targets, training rows) -> (targets, training rows) float32.
Pick = Callable[[IntArray, IntArray], Float32]

#: Rows of scores that :meth:`Scores.__iter__` reads at a time.
_BLOCK = 64


class Scores:
    """Scores (targets, n): ``scores[i, j]`` is by how much training sample j raises f of the target at position i.

    Positive: training on the sample helps the target; negative: it harms it. ``scores[targets, train]`` returns an array; each
    axis takes a number, a slice, or an array of numbers or booleans, and only the files with the chosen scores are read.
    ``np.asarray(scores)`` reads all of them.

    Attributes:
        estimator, split: what was scored.
        shape: (targets, n).
        target_rows: (targets,) the row of the split at each position. For scores of a group: its rows; there is one position.
        train_rows: (n,) the training row at each position: all rows in their order, unless candidates were chosen.
        group: whether the scores have one row, of the mean of f over ``target_rows``.
        warnings: about the scores, by the command that wrote them.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, names: tuple[str, str], target_rows: Sequence[int], rows: int, pick: Pick, **about: Any) -> None:
        self.estimator, self.split = names
        self.target_rows: IntArray = np.asarray(target_rows, dtype=np.int64)
        self.group: bool = about.get("group", False)
        self.warnings: list[str] = list(about.get("warnings", ()))
        self.shape = (1 if self.group else len(self.target_rows), rows)
        self._train_rows: IntArray | None = about.get("train_rows")
        self._candidates: str | None = about.get("candidates")
        self._pick, self._owner = pick, about.get("owner")  # a temporary store lives as long as its object

    @property
    def train_rows(self) -> IntArray:
        return np.arange(self.shape[1]) if self._train_rows is None else self._train_rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        targets, train = self._positions(*index) if isinstance(index, tuple) else self._positions(index)
        picked = self._pick(targets.ravel(), train.ravel()).reshape(targets.shape + train.shape)
        return picked if picked.ndim else picked[()]

    def __iter__(self) -> Iterator[Float32]:
        for start in range(0, len(self), _BLOCK):
            yield from self[start : start + _BLOCK]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        del copy
        return np.asarray(self[:], dtype=dtype)

    def of(self, row: int) -> Float32:
        """The scores (n,) of the target in this row of the split.

        Raises:
            ConfigError: the row was not scored, or not alone.
        """
        places = np.flatnonzero(self.target_rows == row)
        if self.group or not len(places):
            expected = f"one of the {counted(len(self), 'row')} of {self.split} that were scored alone"
            raise ConfigError(Problem("row", str(row), expected, "choose one of target_rows"))
        scores: Float32 = self[int(places[0])]
        return scores

    def to_xarray(self, targets: Any = slice(None), train: Any = slice(None)) -> xarray.DataArray:
        """A part of the scores as an xarray, read into memory, with the dimensions ``target`` and ``train`` (extra ``tables``).

        Args:
            targets, train: which positions, as in ``scores[targets, train]``; everything by default.
        """
        module = needed("xarray", "tables", "to_xarray")
        positions, rows = (np.atleast_1d(places) for places in self._positions(targets, train))
        train_rows = rows if self._train_rows is None else self._train_rows[rows]
        coordinates = {"train": train_rows} if self.group else {"target": self.target_rows[positions], "train": train_rows}
        attributes = {"estimator": self.estimator, "split": self.split, "warnings": self.warnings}
        return module.DataArray(self[positions, rows], coordinates, ("target", "train"), self.estimator, attributes)

    def _positions(self, targets: Any = slice(None), train: Any = slice(None), *more: Any) -> tuple[IntArray, IntArray]:
        if more:
            raise IndexError(f"scores have two axes, not {2 + len(more)}")
        parts = zip(self.shape, (targets, train), strict=True)
        first, second = (np.asarray(np.arange(size)[list(part) if isinstance(part, range) else part]) for size, part in parts)
        return first, second

    def __repr__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self._described().items()]
        return "\n  ".join([f"<trak scores {self.shape[0]} × {self.shape[1]}>", *lines])

    def _repr_html_(self) -> str:
        return card(f"Scores, {counted(self.shape[0], 'target')} × {self.shape[1]:,} training samples", self._described())

    def _described(self) -> dict[str, str]:
        described = {"estimator": self.estimator, "split": self.split, "sign": "positive helps the target, negative harms it"}
        if self.group:
            described["scores of"] = f"the mean over {counted(len(self.target_rows), 'target')}"
        if self._candidates is not None:
            described["training samples"] = f"those of train_rows: {self._candidates}"
        return described | {f"warning {number}": text for number, text in enumerate(self.warnings, 1)}

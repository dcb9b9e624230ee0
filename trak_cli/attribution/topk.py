"""The highest and lowest scores of every target, from blocks of scores in any order.

Each score and its row are packed into a 64-bit key: the bits of the float, transformed so that they sort like an integer, above
the complement of the row. All keys are different, so the k largest do not depend on the order of the blocks, and of equal
scores the one with the lower row comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trak_cli.types import Float32, IntArray

_Keys = npt.NDArray[np.uint64]
_ROW_BITS = np.uint64(32)
_ROW_MASK = np.uint64(0xFFFFFFFF)
_SIGN = np.uint32(0x80000000)


@dataclass(frozen=True)
class Extremes:
    """The k highest, or the k lowest, scores of every target.

    Attributes:
        indices: (t, k) int64 training rows, the most extreme score first; rows with equal scores are in ascending order. There
            are fewer than k columns if there were fewer rows.
        values: (t, k) float32 scores of these rows.
    """

    indices: IntArray
    values: Float32


@dataclass(frozen=True)
class TopBottom:
    """The highest scores (training on these rows raises f on the target) and the lowest (it lowers f)."""

    top: Extremes
    bottom: Extremes

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The datasets of a file: row numbers and scores of both ends, (t, k) each."""
        top, bottom = self.top, self.bottom
        rows = {"top_rows": top.indices, "bottom_rows": bottom.indices}
        return {**rows, "top_scores": top.values, "bottom_scores": bottom.values}

    def each(self) -> list[TopBottom]:
        """The ends of every target by itself, (1, k) each."""
        ends = (self.top, self.bottom)
        return [
            TopBottom(*(Extremes(end.indices[[row]], end.values[[row]]) for end in ends)) for row in range(len(self.top.values))
        ]

    @staticmethod
    def of(arrays: dict[str, npt.NDArray[Any]]) -> TopBottom:
        """From the datasets of a file."""
        return TopBottom(*(Extremes(arrays[f"{name}_rows"], arrays[f"{name}_scores"]) for name in ("top", "bottom")))


class TopK:
    """Collects the k highest and lowest scores of every target.

    Blocks of rows may come in any order, and collectors of different rows may be merged in any grouping, with the same result.
    """

    def __init__(self, targets: int, k: int) -> None:
        self._k = k
        self._top: _Keys = np.empty((targets, 0), np.uint64)
        self._bottom: _Keys = np.empty((targets, 0), np.uint64)

    @classmethod
    def restore(cls, result: TopBottom, k: int) -> TopK:
        """A collector that has this ``result``."""
        restored = cls(len(result.top.values), k)
        restored._top = _keys(result.top.values, result.top.indices.astype(np.uint64))
        restored._bottom = _keys(-result.bottom.values, result.bottom.indices.astype(np.uint64))
        return restored

    def update(self, scores: Float32, start_row: int) -> None:
        """Add a block of scores.

        Args:
            scores: (t, r); column c is training row ``start_row`` + c. No row may be added twice.
            start_row: the first training row of the block.

        Raises:
            ValueError: a score is NaN, or a row number does not fit 32 bits.
        """
        if np.isnan(scores).any():
            raise ValueError("NaN among the scores")
        if start_row + scores.shape[1] > int(_ROW_MASK):
            raise ValueError("more than 2^32 - 1 training rows")
        self._keep(_candidates(scores, start_row, self._top, self._k), _candidates(-scores, start_row, self._bottom, self._k))

    def merge(self, other: TopK) -> None:
        """Add the scores of another collector, of the same targets and k but of other rows.

        Raises:
            ValueError: it has another k.
        """
        if other._k != self._k:
            raise ValueError(f"k = {other._k} cannot be merged into k = {self._k}")
        self._keep(other._top, other._bottom)

    def result(self) -> TopBottom:
        """The highest and lowest scores so far."""
        top, bottom = _extremes(self._top), _extremes(self._bottom)
        return TopBottom(top, Extremes(bottom.indices, -bottom.values))

    def _keep(self, top: _Keys, bottom: _Keys) -> None:
        self._top = _joined(self._top, top, self._k)
        self._bottom = _joined(self._bottom, bottom, self._k)


def _candidates(scores: Float32, start_row: int, kept: _Keys, k: int) -> _Keys:
    """The keys of a block that may be among the k largest: those of scores not below the least of k that are kept.

    Rows of fewer candidates are padded with 0, which is no score's key.
    """
    if kept.shape[1] < k:
        return _keys(scores, np.arange(start_row, start_row + scores.shape[1], dtype=np.uint64))
    least = _scores(kept.min(axis=1))
    target, column = np.nonzero(scores >= least[:, None])
    if not len(target):
        return kept[:, :0]
    counts = np.bincount(target, minlength=len(scores))
    found = np.zeros((len(scores), counts.max(initial=0)), np.uint64)
    place = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)
    found[target, place] = _keys(scores[target, column], (start_row + column).astype(np.uint64))
    return found


def _keys(scores: npt.NDArray[np.floating[Any]], rows: npt.NDArray[np.uint64]) -> _Keys:
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0 makes −0 equal to 0
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered.astype(np.uint64) << _ROW_BITS) | (_ROW_MASK - rows)


def _joined(kept: _Keys, new: _Keys, k: int) -> _Keys:
    return _largest(np.concatenate([kept, _largest(new, k)], axis=1), k) if new.shape[1] else kept


def _largest(keys: _Keys, k: int) -> _Keys:
    if keys.shape[1] <= k:
        return keys
    return np.partition(keys, keys.shape[1] - k, axis=1)[:, keys.shape[1] - k :]


def _extremes(keys: _Keys) -> Extremes:
    descending = np.sort(keys, axis=1)[:, ::-1]
    return Extremes((_ROW_MASK - (descending & _ROW_MASK)).astype(np.int64), _scores(descending))


def _scores(keys: _Keys) -> Float32:
    """The scores in keys of any shape."""
    ordered = (keys >> _ROW_BITS).astype(np.uint32)
    return np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered).view(np.float32)

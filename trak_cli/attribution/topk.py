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
        self._top = _LargestKeys(targets, k)
        self._bottom = _LargestKeys(targets, k)

    @classmethod
    def restore(cls, result: TopBottom, k: int) -> TopK:
        """A collector that has this ``result``."""
        restored = cls(len(result.top.values), k)
        restored._top.add(_keys(result.top.values, result.top.indices.astype(np.uint64)))
        restored._bottom.add(_keys(-result.bottom.values, result.bottom.indices.astype(np.uint64)))
        return restored

    def update(self, scores: Float32, rows: int | IntArray) -> None:
        """Add a block of scores.

        Args:
            scores: (t, r). No training row may be added twice.
            rows: the training row of every column, or of the first one if the others follow it.

        Raises:
            ValueError: a score is NaN, or a row number does not fit 32 bits.
        """
        if np.isnan(scores).any():
            raise ValueError("NaN among the scores")
        numbers = np.arange(rows, rows + scores.shape[1]) if isinstance(rows, int) else rows
        if numbers.max(initial=0) >= int(_ROW_MASK):
            raise ValueError("more than 2^32 - 1 training rows")
        columns = numbers.astype(np.uint64)
        for largest, lowest in ((self._top, False), (self._bottom, True)):
            largest.add(_candidates(scores, columns, largest.least, self._k, lowest))

    def merge(self, other: TopK) -> None:
        """Add the scores of another collector, of the same targets and k but of other rows.

        Raises:
            ValueError: it has another k.
        """
        if other._k != self._k:
            raise ValueError(f"k = {other._k} cannot be merged into k = {self._k}")
        self._top.add(other._top.keys())
        self._bottom.add(other._bottom.keys())

    def result(self) -> TopBottom:
        """The highest and lowest scores so far."""
        top, bottom = _extremes(self._top.keys()), _extremes(self._bottom.keys())
        return TopBottom(top, Extremes(bottom.indices, -bottom.values))


class _LargestKeys:
    """The k largest keys of every target. Up to 2 k are kept before the largest of them are chosen, which takes longer than
    finding the candidates of a block.

    Attributes:
        least: (t, 1) a lower bound of the scores that may still be among the k largest; None while there are fewer.
    """

    def __init__(self, targets: int, k: int) -> None:
        self._k = k
        self._parts: list[_Keys] = [np.empty((targets, 0), np.uint64)]
        self.least: Float32 | None = None

    def add(self, keys: _Keys) -> None:
        """Add keys (t, m) of other rows; 0 stands for none."""
        if not keys.shape[1]:
            return
        self._parts.append(keys)
        columns = sum(part.shape[1] for part in self._parts)
        if columns > 2 * self._k or (self.least is None and columns >= self._k):
            self.least = _scores(self.keys().min(axis=1, keepdims=True))

    def keys(self) -> _Keys:
        """The k largest keys, or all if there are fewer: (t, at most k), in no order."""
        keys = np.concatenate(self._parts, axis=1)
        if keys.shape[1] > self._k:
            keys = np.partition(keys, keys.shape[1] - self._k, axis=1)[:, keys.shape[1] - self._k :]
        self._parts = [keys]
        return keys


def _candidates(scores: Float32, rows: npt.NDArray[np.uint64], least: Float32 | None, k: int, lowest: bool) -> _Keys:
    """The keys of a block that may be among the k largest: those of scores not below ``least`` (t, 1), or of all for None.

    Rows of fewer candidates are padded with 0, which is no score's key. ``lowest``: of the scores times -1.
    """
    targets, width = scores.shape
    if least is None and width > k:
        place = k - 1 if lowest else width - k
        bound = np.partition(scores, place, axis=1)[:, place, None]
        least = -bound if lowest else bound
    if least is None:
        return _keys(-scores if lowest else scores, rows)
    target, column = np.divmod(np.flatnonzero(scores <= -least if lowest else scores >= least), width)
    counts = np.bincount(target, minlength=targets)
    found = np.zeros((targets, counts.max(initial=0)), np.uint64)
    place_of = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = scores[target, column]
    found[target, place_of] = _keys(-values if lowest else values, rows[column])
    return found


def _keys(scores: npt.NDArray[np.floating[Any]], rows: npt.NDArray[np.uint64]) -> _Keys:
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0 makes −0 equal to 0
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered.astype(np.uint64) << _ROW_BITS) | (_ROW_MASK - rows)


def _extremes(keys: _Keys) -> Extremes:
    descending = np.sort(keys, axis=1)[:, ::-1]
    return Extremes((_ROW_MASK - (descending & _ROW_MASK)).astype(np.int64), _scores(descending))


def _scores(keys: _Keys) -> Float32:
    """The scores in keys of any shape."""
    ordered = (keys >> _ROW_BITS).astype(np.uint32)
    return np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered).view(np.float32)

"""The highest and lowest scores of every target, kept while scores stream by.

Each score and its row become one 64-bit key: the float's bits made to order like an integer above, the row below.
Keys are all different, so the k largest are a set that depends on nothing but the scores, and ties go to the lower row.
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
    """The training rows at one end: ``indices`` (t, k) int64 and their scores ``values`` (t, k) float32, best first.

    "Best" is highest at the top end and lowest at the bottom end; equal scores stand in the order of their rows.
    There are fewer than k columns when fewer rows were seen.
    """

    indices: IntArray
    values: Float32


@dataclass(frozen=True)
class TopBottom:
    """Both ends: ``top`` raises f on the target most, ``bottom`` lowers it most."""

    top: Extremes
    bottom: Extremes


class TopK:
    """Streams scores in any order of rows; several may be merged in any grouping, with the same result."""

    def __init__(self, targets: int, k: int) -> None:
        self._k = k
        self._top: _Keys = np.empty((targets, 0), np.uint64)
        self._bottom: _Keys = np.empty((targets, 0), np.uint64)

    @classmethod
    def restore(cls, ends: TopBottom, k: int) -> TopK:
        """What gave these ``ends``, ready to be merged into another."""
        restored = cls(len(ends.top.values), k)
        restored._top = _keys(ends.top.values, ends.top.indices.astype(np.uint64))
        restored._bottom = _keys(-ends.bottom.values, ends.bottom.indices.astype(np.uint64))
        return restored

    def update(self, scores: Float32, start_row: int) -> None:
        """Take ``scores`` (t, r), whose column c is training row ``start_row`` + c; no row may be given twice."""
        if np.isnan(scores).any():
            raise ValueError("NaN among the scores")
        rows = np.arange(start_row, start_row + scores.shape[1], dtype=np.uint64)
        if start_row + scores.shape[1] > int(_ROW_MASK):
            raise ValueError("more than 2^32 - 1 training rows")
        self._keep(_keys(scores, rows), _keys(-scores, rows))

    def merge(self, other: TopK) -> None:
        """Take what another one, of the same targets and k but of other rows, has kept."""
        if other._k != self._k:
            raise ValueError(f"k = {other._k} cannot be merged into k = {self._k}")
        self._keep(other._top, other._bottom)

    def result(self) -> TopBottom:
        """Both ends of what was seen so far."""
        top, bottom = _extremes(self._top), _extremes(self._bottom)
        return TopBottom(top, Extremes(bottom.indices, -bottom.values))

    def _keep(self, top: _Keys, bottom: _Keys) -> None:
        self._top = _largest(np.concatenate([self._top, _largest(top, self._k)], axis=1), self._k)
        self._bottom = _largest(np.concatenate([self._bottom, _largest(bottom, self._k)], axis=1), self._k)


def _keys(scores: npt.NDArray[np.floating[Any]], rows: npt.NDArray[np.uint64]) -> _Keys:
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0 makes −0 equal to 0
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered.astype(np.uint64) << _ROW_BITS) | (_ROW_MASK - rows)


def _largest(keys: _Keys, k: int) -> _Keys:
    if keys.shape[1] <= k:
        return keys
    return np.partition(keys, keys.shape[1] - k, axis=1)[:, keys.shape[1] - k :]


def _extremes(keys: _Keys) -> Extremes:
    descending = np.sort(keys, axis=1)[:, ::-1]
    ordered = (descending >> _ROW_BITS).astype(np.uint32)
    bits = np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered)
    return Extremes((_ROW_MASK - (descending & _ROW_MASK)).astype(np.int64), bits.view(np.float32))

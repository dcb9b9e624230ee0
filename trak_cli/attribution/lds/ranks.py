"""Ranks within rows, with ties averaged and columns weighted (a weight is the number of times that a column occurs).

A rank here is centred: half of (the number of values below − the number of values above). It differs from the textbook rank 1…s
by a constant, which does not affect correlations, and its weighted mean is exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trak_cli.types import Float64, FloatArray, IntArray

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class RankedRows:
    """The sorted order of each row of a (t, s) array, from which ranks are computed for any weights without sorting again.

    Attributes:
        order: (t, s) int64, the column at each sorted position.
        below: (t, s) int64, for each column the first sorted position with an equal value.
        through: (t, s) int64, for each column the sorted position after the last equal value.
    """

    order: IntArray
    below: IntArray
    through: IntArray

    def balance(self, weights: Float64) -> Float64:
        """Half of (total weight of the columns below − total weight of those above), for each column: (t, s).

        ``weights`` is (s,) or (t, s). When (s,) says how often each column occurs, this is the centred rank.
        """
        cumulated = np.zeros((len(self.order), self.order.shape[1] + 1))
        ascending = np.take_along_axis(np.broadcast_to(weights, self.order.shape), self.order, 1)
        np.cumsum(ascending, axis=1, out=cumulated[:, 1:])
        below = np.take_along_axis(cumulated, self.below, 1)
        through = np.take_along_axis(cumulated, self.through, 1)
        balance: Float64 = 0.5 * (below + through - cumulated[:, -1:])
        return balance


def rank_rows(values: FloatArray) -> RankedRows:
    """Sort each row of (t, s)."""
    order = np.argsort(values, axis=1, kind="stable")
    ascending = np.take_along_axis(values, order, 1)
    positions = np.arange(values.shape[1])
    new = np.ones(values.shape, bool)
    new[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    last = np.ones(values.shape, bool)
    last[:, :-1] = new[:, 1:]
    below = np.maximum.accumulate(np.where(new, positions, 0), axis=1)
    through = np.minimum.accumulate(np.where(last, positions + 1, values.shape[1])[:, ::-1], axis=1)[:, ::-1]
    return RankedRows(order, _unsorted(below, order), _unsorted(through, order))


def rank_correlation(first: Float64, second: Float64, counts: Float64) -> Float64:
    """Correlation of two (t, s) arrays of centred ranks or values, row by row, columns weighted with ``counts`` (s,) → (t,).

    On ranks it is Spearman's correlation. NaN where a row is constant.
    """
    scale = ((first * first) @ counts) * ((second * second) @ counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = ((first * second) @ counts) / np.sqrt(scale)
    return np.where(scale > 0, np.clip(correlation, -1.0, 1.0), np.nan)


def spearman(first: FloatArray, second: FloatArray) -> Float64:
    """Spearman's correlation of the rows of two (t, s) arrays, ties averaged → (t,); NaN where a row is constant."""
    once = np.ones(first.shape[1])
    result = np.empty(len(first))
    for rows in row_blocks(len(first)):
        ranks = rank_rows(first[rows]).balance(once), rank_rows(second[rows]).balance(once)
        result[rows] = rank_correlation(*ranks, once)
    return result


def unit_ranks(values: FloatArray) -> Float64:
    """Centred ranks of each row of (t, s), ties averaged, scaled to unit length; zeros where a row is constant."""
    ranks = rank_rows(values).balance(np.ones(values.shape[1]))
    length = np.linalg.norm(ranks, axis=1, keepdims=True)
    scaled: Float64 = np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)
    return scaled


def row_blocks(rows: int) -> Iterator[slice]:
    """Slices that cover ``rows`` rows, each small enough that temporary arrays of (block, s) need little memory."""
    for start in range(0, rows, _ROWS_AT_ONCE):
        yield slice(start, min(start + _ROWS_AT_ONCE, rows))


def _unsorted(values: IntArray, order: IntArray) -> IntArray:
    result = np.empty_like(values)
    np.put_along_axis(result, order, values, 1)
    return result

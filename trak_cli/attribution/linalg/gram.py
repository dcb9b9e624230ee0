"""The weighted Gram matrix Σ_i w_i x_i x_iᵀ, summed in float64 over a stream of features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trak_cli.types import Float64, FloatArray

#: Rows that are cast to float64 and multiplied at a time. They lie on a grid of absolute row numbers, so that the sum
#: has the same bits however the rows arrive.
CHUNK_ROWS = 1024


class Gram(NamedTuple):
    """A finished sum over ``n`` samples, or terms of samples, without any ridge.

    Attributes:
        matrix: (k, k) float64, symmetric; None where ``rows`` stand for it.
        n: how many samples, or terms.
        mean_square: Σ ‖x‖² / n, without weights.
        rows: (r, k) float64, the rows √w x themselves where they are few: r ≤ k / 2.
        of_terms: whether it is over single terms, and not over samples.
    """

    matrix: Float64 | None
    n: int
    mean_square: float = float("nan")
    rows: Float64 | None = None
    of_terms: bool = False


class GramSum:
    """Sums w_i x_i x_iᵀ over rows given in order, any number at a time.

    Holds the (k, k) sum, or up to k / 2 rows in its place, and one chunk of rows, all float64, whatever the size of the
    training set.
    """

    def __init__(self, dim: int) -> None:
        """``dim`` is k."""
        self._few = dim // 2
        self._kept: list[Float64] = []
        self._sum: Float64 | None = None
        self._chunk = np.empty((CHUNK_ROWS, dim))
        self._squares = np.zeros(CHUNK_ROWS)
        self._square_sum = 0.0
        self._n = 0  # rows
        self._terms = 0.0
        self._of_terms = False

    def add(self, features: FloatArray, weights: FloatArray, terms: FloatArray | None = None) -> None:
        """Add the next rows: ``features`` (r, k) and ``weights`` (r,), none negative.

        ``terms`` (r,): how many terms each row stands for (:class:`Terms`); None: it is one
        sample.
        """
        self._of_terms |= terms is not None
        self._terms += len(features) if terms is None else float(terms.sum(dtype=np.float64))
        if features.shape != (len(weights), self._chunk.shape[1]):
            raise ValueError(f"features {features.shape} for {len(weights)} weights and k = {self._chunk.shape[1]}")
        start = 0
        while start < len(features):
            filled = self._n % CHUNK_ROWS
            count = min(CHUNK_ROWS - filled, len(features) - start)
            part = features[start : start + count].astype(np.float64)
            self._squares[filled : filled + count] = np.einsum("rk,rk->r", part, part)
            # √w on both sides keeps the product symmetric to the last bit.
            part *= np.sqrt(weights[start : start + count].astype(np.float64))[:, None]
            self._chunk[filled : filled + count] = part
            self._n += count
            start += count
            if self._n % CHUNK_ROWS == 0:
                self._kept.append(self._chunk.copy())
                self._square_sum += float(self._squares.sum())
                if self._n > self._few:
                    self._summed()

    def result(self) -> Gram:
        """The sum so far; more rows may be added afterwards."""
        count = self._n % CHUNK_ROWS
        rest = self._chunk[:count]
        n = round(self._terms)
        mean_square = (self._square_sum + float(self._squares[:count].sum())) / max(n, 1)
        if self._n <= self._few:
            return Gram(None, n, mean_square, np.concatenate([*self._kept, rest]), self._of_terms)
        return Gram(self._summed() + rest.T @ rest, n, mean_square, of_terms=self._of_terms)

    def _summed(self) -> Float64:
        """The sum over all full chunks, which need not be kept any longer."""
        dim = self._chunk.shape[1]
        total = np.zeros((dim, dim)) if self._sum is None else self._sum
        for chunk in self._kept:
            total += chunk.T @ chunk
        self._kept.clear()
        self._sum = total
        return total

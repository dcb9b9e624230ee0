"""The weighted Gram matrix Σ_i w_i x_i x_iᵀ, summed in float64 over a stream of features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trak_cli.types import Float64, FloatArray

#: Rows that are cast to float64 and multiplied at a time. They lie on a grid of absolute row numbers, so that the sum
#: has the same bits however the rows arrive.
CHUNK_ROWS = 1024


class Gram(NamedTuple):
    """A finished sum: ``matrix`` (k, k) float64, symmetric, without any ridge, over ``n`` samples.

    ``mean_square`` is their mean ‖x‖², without weights.
    """

    matrix: Float64
    n: int
    mean_square: float = float("nan")


class GramSum:
    """Sums w_i x_i x_iᵀ over rows given in order, any number at a time.

    Holds the (k, k) sum and one chunk of rows, both float64, whatever the size of the training set.
    """

    def __init__(self, dim: int) -> None:
        """``dim`` is k."""
        self._sum = np.zeros((dim, dim))
        self._chunk = np.empty((CHUNK_ROWS, dim))
        self._squares = np.zeros(CHUNK_ROWS)
        self._square_sum = 0.0
        self._n = 0

    def add(self, features: FloatArray, weights: FloatArray) -> None:
        """Add the next rows: ``features`` (r, k) and ``weights`` (r,), none negative."""
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
                self._sum += self._chunk.T @ self._chunk
                self._square_sum += float(self._squares.sum())

    def result(self) -> Gram:
        """The sum so far; more rows may be added afterwards."""
        count = self._n % CHUNK_ROWS
        rest = self._chunk[:count]
        squares = self._square_sum + float(self._squares[:count].sum())
        return Gram(self._sum + rest.T @ rest, self._n, squares / max(self._n, 1))

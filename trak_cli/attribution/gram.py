"""The weighted Gram matrix Σ_i |q_i|^b x_i x_iᵀ, summed in float64 over a stream of features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trak_cli.attribution.rows import unit_rows
from trak_cli.types import Float64, FloatArray

#: Rows that are cast to float64 and multiplied at a time. They lie on a grid of absolute row numbers, so that the sum
#: has the same bits however the rows arrive.
CHUNK_ROWS = 1024


class Gram(NamedTuple):
    """A finished sum: ``matrix`` (k, k) float64, symmetric, without any ridge, over ``n`` samples."""

    matrix: Float64
    n: int


class GramSum:
    """Sums |q_i|^b x_i x_iᵀ over rows given in order, any number at a time.

    Holds the (k, k) sum and one chunk of rows, both float64, whatever the size of the training set.
    """

    def __init__(self, dim: int, exponent: float = 0.0, unit_norm: bool = False) -> None:
        """``dim`` is k; ``exponent`` is b; ``unit_norm`` brings each row to unit length first (zeros stay zeros)."""
        self._exponent = exponent
        self._unit_norm = unit_norm
        self._sum = np.zeros((dim, dim))
        self._chunk = np.empty((CHUNK_ROWS, dim))
        self._n = 0

    def add(self, features: FloatArray, out_to_loss: FloatArray) -> None:
        """Add the next rows: ``features`` (r, k), ``out_to_loss`` (r,) of the same checkpoint."""
        if features.shape != (len(out_to_loss), self._chunk.shape[1]):
            raise ValueError(f"features {features.shape} for {len(out_to_loss)} samples and k = {self._chunk.shape[1]}")
        start = 0
        while start < len(features):
            filled = self._n % CHUNK_ROWS
            count = min(CHUNK_ROWS - filled, len(features) - start)
            rows = slice(start, start + count)
            self._chunk[filled : filled + count] = self._weighted(features[rows], out_to_loss[rows])
            self._n += count
            start += count
            if self._n % CHUNK_ROWS == 0:
                self._sum += self._chunk.T @ self._chunk

    def result(self) -> Gram:
        """The sum so far; more rows may be added afterwards."""
        rest = self._chunk[: self._n % CHUNK_ROWS]
        return Gram(self._sum + rest.T @ rest, self._n)

    def _weighted(self, features: FloatArray, out_to_loss: FloatArray) -> Float64:
        rows = features.astype(np.float64)
        if self._unit_norm:
            rows = unit_rows(rows)
        if self._exponent != 0:
            # √w on both sides keeps the product symmetric to the last bit.
            rows *= np.abs(out_to_loss.astype(np.float64))[:, None] ** (self._exponent / 2)
        return rows

"""The weighted Gram matrix Σ_i w_i x_i x_iᵀ, summed in float64 over a stream of features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trak_cli.types import Float64, FloatArray

#: Number of rows that are cast to float64 and multiplied at a time. Chunks begin at multiples of it, so that the sum has the
#: same bits for any division of the rows into blocks.
CHUNK_ROWS = 1024


class Gram(NamedTuple):
    """A Gram matrix Σ w x xᵀ without ridge.

    Attributes:
        matrix: (k, k) float64, symmetric; None if ``rows`` represent it.
        n: number of samples, or of terms of samples, in the sum.
        mean_square: Σ ‖x‖² / n, without weights.
        rows: (r, k) float64, the rows √w x, if there are at most k / 2.
        of_terms: whether the sum is over single terms instead of samples.
    """

    matrix: Float64 | None
    n: int
    mean_square: float = float("nan")
    rows: Float64 | None = None
    of_terms: bool = False


class GramSum:
    """Sums w_i x_i x_iᵀ over rows that are added in order, in blocks of any size.

    Memory: the (k, k) sum, or up to k / 2 rows instead of it, and one chunk of rows, all float64, for a training set of any
    size.
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
        """Add the next rows.

        Args:
            features: (r, k), any floating dtype.
            weights: (r,), none negative.
            terms: (r,) number of terms that each row sums (:class:`~trak_cli.attribution.estimator.weights.Terms`); None if
                each row is one sample.

        Raises:
            ValueError: the shapes do not fit.
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
        """The Gram matrix of the rows so far; more rows may be added afterwards."""
        count = self._n % CHUNK_ROWS
        rest = self._chunk[:count]
        n = round(self._terms)
        mean_square = (self._square_sum + float(self._squares[:count].sum())) / max(n, 1)
        if self._n <= self._few:
            return Gram(None, n, mean_square, np.concatenate([*self._kept, rest]), self._of_terms)
        return Gram(self._summed() + rest.T @ rest, n, mean_square, of_terms=self._of_terms)

    def _summed(self) -> Float64:
        """The sum over all full chunks, which are then freed."""
        dim = self._chunk.shape[1]
        total = np.zeros((dim, dim)) if self._sum is None else self._sum
        for chunk in self._kept:
            total += chunk.T @ chunk
        self._kept.clear()
        self._sum = total
        return total

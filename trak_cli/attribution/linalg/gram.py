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
        rows: (r, k) float64, the rows √w x, if there are at most 3 k / 4.
        over: what the sum is over: "samples", their "terms", or samples and their other "classes".
        response: (k,) float64, Σ w x (f − f̄), with f̄ the weighted mean of the outputs; None without outputs.
    """

    matrix: Float64 | None
    n: int
    mean_square: float = float("nan")
    rows: Float64 | None = None
    over: str = "samples"
    response: Float64 | None = None


class GramSum:
    """Sums w_i x_i x_iᵀ over rows that are added in order, in blocks of any size.

    Memory: the (k, k) sum, or up to 3 k / 4 rows instead of it, and one chunk of rows, all float64, for a training set of any
    size.
    """

    def __init__(self, dim: int) -> None:
        """``dim`` is k."""
        self._few = 3 * dim // 4
        self._kept: list[Float64] = []
        self._sum: Float64 | None = None
        self._chunk = np.empty((CHUNK_ROWS, dim))
        self._squares = np.zeros(CHUNK_ROWS)
        self._square_sum = 0.0
        self._columns = np.zeros((CHUNK_ROWS, 2))  # √w and √w f of the chunk
        self._products = np.zeros((dim, 2))  # Σ w x and Σ w x f
        self._totals = np.zeros(2)  # Σ w and Σ w f
        self._has_outputs = True
        self._n = 0  # rows
        self._terms = 0.0
        self._over = "samples"

    def add(
        self,
        features: FloatArray,
        weights: FloatArray,
        terms: FloatArray | None = None,
        outputs: FloatArray | None = None,
        others: FloatArray | None = None,
    ) -> None:
        """Add the next rows.

        Args:
            features: (r, k), any floating dtype.
            weights: (r,), none negative.
            terms: (r,) number of terms that each row sums (:class:`~trak_cli.attribution.estimator.weights.Terms`); None if
                each row is one sample.
            outputs: (r,) f. If any rows come without, the result has no response.
            others: (r, k) second rows of the same samples, with the same weights; they have no outputs.

        Raises:
            ValueError: the shapes do not fit.
        """
        if terms is not None or others is not None:
            self._over = "classes" if terms is None else "terms"
        self._has_outputs &= outputs is not None
        self._terms += len(features) if terms is None else float(terms.sum(dtype=np.float64))
        if features.shape != (len(weights), self._chunk.shape[1]):
            raise ValueError(f"features {features.shape} for {len(weights)} weights and k = {self._chunk.shape[1]}")
        responses = None if outputs is None else np.asarray(outputs, np.float64)
        first = np.ones(len(features))
        if others is not None:  # each after its sample, so that the order of rows does not depend on the blocks
            features = np.stack([features, others], 1).reshape(-1, features.shape[1])
            weights, first = np.repeat(weights, 2), np.tile([1.0, 0.0], len(others))
            responses = None if responses is None else np.repeat(responses, 2)
        start = 0
        while start < len(features):
            filled = self._n % CHUNK_ROWS
            count = min(CHUNK_ROWS - filled, len(features) - start)
            part = features[start : start + count].astype(np.float64)
            self._squares[filled : filled + count] = np.einsum("rk,rk->r", part, part)
            # √w on both sides keeps the product symmetric to the last bit.
            roots = np.sqrt(weights[start : start + count].astype(np.float64))
            part *= roots[:, None]
            self._chunk[filled : filled + count] = part
            roots *= first[start : start + count]
            self._columns[filled : filled + count, 0] = roots
            if responses is not None:
                self._columns[filled : filled + count, 1] = roots * responses[start : start + count]
            self._n += count
            start += count
            if self._n % CHUNK_ROWS == 0:
                self._kept.append(self._chunk.copy())
                self._square_sum += float(self._squares.sum())
                self._products += self._chunk.T @ self._columns
                self._totals += self._columns[:, 0] @ self._columns
                if self._n > self._few:
                    self._summed()

    def result(self) -> Gram:
        """The Gram matrix of the rows so far; more rows may be added afterwards."""
        count = self._n % CHUNK_ROWS
        rest = self._chunk[:count]
        n = round(self._terms)
        mean_square = (self._square_sum + float(self._squares[:count].sum())) / max(n, 1)
        response = self._response(count) if self._has_outputs else None
        if self._n <= self._few:
            return Gram(None, n, mean_square, np.concatenate([*self._kept, rest]), self._over, response)
        return Gram(self._summed() + rest.T @ rest, n, mean_square, None, self._over, response)

    def _response(self, count: int) -> Float64:
        """Σ w x (f − f̄), with the ``count`` rows of the chunk."""
        columns = self._columns[:count]
        products = self._products + self._chunk[:count].T @ columns
        weight, weighted = self._totals + columns[:, 0] @ columns
        response: Float64 = products[:, 1] - products[:, 0] * (weighted / weight if weight else 0.0)
        return response

    def _summed(self) -> Float64:
        """The sum over all full chunks, which are then freed."""
        dim = self._chunk.shape[1]
        total = np.zeros((dim, dim)) if self._sum is None else self._sum
        for chunk in self._kept:
            total += chunk.T @ chunk
        self._kept.clear()
        self._sum = total
        return total

"""The weighted Gram matrix Σ_i w_i x_i x_iᵀ, summed in float64 over a stream of features.

Products are float64, too: the matrix is stored without a ridge, and a later ridge may be far below the float32 rounding of its
largest eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterable
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


class PartialGram(NamedTuple):
    """The sum over a range of rows, to be merged with those of other ranges (:func:`merged`).

    Attributes:
        matrix: (k, k) float64; None if ``rows`` represent it.
        rows: (r, k) float64, the rows √w x, if there are at most 3 k / 4.
        size: number of rows.
        terms: number of samples, or of terms of samples.
        square_sum: Σ ‖x‖², without weights.
        products: (k, 2) float64, Σ w x and Σ w x f.
        totals: (2,) float64, Σ w and Σ w f.
        over, has_outputs: as for :class:`Gram`.
    """

    matrix: Float64 | None
    rows: Float64 | None
    size: int
    terms: float
    square_sum: float
    products: Float64
    totals: Float64
    over: str
    has_outputs: bool


def merged(parts: Iterable[PartialGram]) -> Gram:
    """The Gram matrix of ranges of rows. The order of ``parts`` determines the last bits.

    Memory: one part, and the sum, which takes the place of the first matrix.
    """
    kept: list[Float64] = []
    matrix: Float64 | None = None
    size, terms, square_sum, has_outputs, over = 0, 0.0, 0.0, True, "samples"
    products, totals = np.zeros(1), np.zeros(2)
    for part in parts:
        size += part.size
        if part.rows is not None:
            kept.append(part.rows)
        if part.matrix is not None or size > _few(part.products):
            for product in [*(rows.T @ rows for rows in kept), *([] if part.matrix is None else [part.matrix])]:
                matrix = product if matrix is None else np.add(matrix, product, out=matrix)
            kept.clear()
        terms, square_sum = terms + part.terms, square_sum + part.square_sum
        products, totals = products + part.products, totals + part.totals
        has_outputs, over = has_outputs and part.has_outputs, part.over
    n = round(terms)
    response = products[:, 1] - products[:, 0] * (totals[1] / totals[0] if totals[0] else 0.0) if has_outputs else None
    rows = np.concatenate(kept) if matrix is None else None
    return Gram(matrix, n, square_sum / max(n, 1), rows, over, response)


def _few(columns: Float64) -> int:
    """The number of rows up to which rows (·, k) represent the matrix, from an array (k, ·)."""
    return 3 * len(columns) // 4


class GramSum:
    """Sums w_i x_i x_iᵀ over rows that are added in order, in blocks of any size.

    Memory: the (k, k) sum, or up to 3 k / 4 rows instead of it, and one chunk of rows, all float64, for a training set of any
    size.
    """

    def __init__(self, dim: int) -> None:
        """``dim`` is k."""
        self._kept: list[Float64] = []
        self._sum: Float64 | None = None
        self._chunk = np.empty((CHUNK_ROWS, dim))
        self._product: Float64 | None = None
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
            part = self._chunk[filled : filled + count]
            part[:] = features[start : start + count]
            np.einsum("rk,rk->r", part, part, out=self._squares[filled : filled + count])
            # √w on both sides keeps the product symmetric to the last bit.
            roots = np.sqrt(weights[start : start + count].astype(np.float64))
            part *= roots[:, None]
            roots *= first[start : start + count]
            self._columns[filled : filled + count, 0] = roots
            if responses is not None:
                self._columns[filled : filled + count, 1] = roots * responses[start : start + count]
            self._n += count
            start += count
            if self._n % CHUNK_ROWS == 0:
                self._square_sum += float(self._squares.sum())
                self._products += self._chunk.T @ self._columns
                self._totals += self._columns[:, 0] @ self._columns
                if self._n > _few(self._products):
                    self._summed(self._chunk)
                else:
                    self._kept.append(self._chunk.copy())

    def partial(self) -> PartialGram:
        """The sum so far; more rows may be added afterwards."""
        count = self._n % CHUNK_ROWS
        rest, columns = self._chunk[:count], self._columns[:count]
        few = self._n <= _few(self._products)
        return PartialGram(
            None if few else self._summed() + rest.T @ rest,
            np.concatenate([*self._kept, rest]) if few else None,
            self._n,
            self._terms,
            self._square_sum + float(self._squares[:count].sum()),
            self._products + rest.T @ columns,
            self._totals + columns[:, 0] @ columns,
            self._over,
            self._has_outputs,
        )

    def result(self) -> Gram:
        """The Gram matrix of the rows so far; more rows may be added afterwards."""
        return merged([self.partial()])

    def _summed(self, chunk: Float64 | None = None) -> Float64:
        """The sum over all full chunks, ``chunk`` being the last of them; those that were kept are freed."""
        dim = self._chunk.shape[1]
        total = np.zeros((dim, dim)) if self._sum is None else self._sum
        self._product = np.empty((dim, dim)) if self._product is None else self._product
        for one in [*self._kept, *([] if chunk is None else [chunk])]:
            total += np.matmul(one.T, one, out=self._product)
        self._kept.clear()
        self._sum = total
        return total

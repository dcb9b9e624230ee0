"""What the other training samples say about a sample: its residual in a ridge regression that leaves it out.

Under one checkpoint, the regression is on the features at unit length, and starts from nothing: it predicts the output that
every training sample should have, from the gradients alone. A model that has memorised a wrong label has a large f and a small
loss on the sample; the regression without the sample still contradicts the label, because samples with a similar input and
another label have opposite gradients. With A = Σ u uᵀ + λI over all training samples and responses y,

    v = A⁻¹ Σ_j y_j u_j,     r_i = y_i − u_iᵀ v_{−i} = y_i − (u_iᵀ v − h_i y_i) / (1 − h_i),     h_i = u_iᵀ A⁻¹ u_i,

where v_{−i} is the result without sample i. If every q is in [0, 1], as for log-odds, f should be large for every sample, and
every response is 1. Else the response is the label f + q minus the mean label, and the magnitude of the residual counts.
"""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.estimator.rows import unit_rows
from trak_cli.attribution.linalg.gram import GramSum
from trak_cli.attribution.linalg.spectrum import Spectrum, decompose, precondition
from trak_cli.types import Float64, FloatArray

#: λ, in units of the mean ‖u‖², which is 1; chosen by experiment (docs/suspects.md).
RIDGE = 1.0


class LeftOut:
    """The regression of one checkpoint: add all rows in order, solve, and compute the residuals of the same rows.

    Memory: O(k²), for any number of rows. Time: O(n k² + k³).
    """

    def __init__(self, dim: int) -> None:
        self._gram = GramSum(dim)
        self._ones, self._labels = np.zeros(dim), np.zeros(dim)  # Σ u and Σ y u
        self._count, self._label_sum = 0, 0.0
        self._spectrum: Spectrum | None = None
        self._solution = np.zeros(dim)
        #: Whether every q is in [0, 1], so that all responses are 1.
        self.probabilities = True

    def add(self, features: FloatArray, out_to_loss: FloatArray, outputs: FloatArray) -> None:
        """Add the next rows: features (r, k), q (r,) and f (r,)."""
        rows, labels = unit_rows(features.astype(np.float64)), outputs.astype(np.float64) + out_to_loss
        self._gram.add(rows, np.ones(len(rows)))
        self._ones += rows.sum(axis=0)
        self._labels += labels @ rows
        self._count += len(rows)
        self._label_sum += float(labels.sum())
        self.probabilities &= bool(((out_to_loss >= 0) & (out_to_loss <= 1)).all())

    def solve(self) -> None:
        """Compute v, once every row was added."""
        self._spectrum = decompose(self._gram.result())
        right = self._ones if self.probabilities else self._labels - self._label_sum / self._count * self._ones
        self._solution = precondition(self._spectrum, RIDGE, right[None])[0]

    def residuals(self, features: FloatArray, out_to_loss: FloatArray, outputs: FloatArray) -> Float64:
        """r_i of some rows (r,), in the order of suspicion: large ones are suspicious.

        Raises:
            ValueError: before :meth:`solve`.
        """
        if self._spectrum is None:
            raise ValueError("residuals before solve()")
        rows = unit_rows(features.astype(np.float64))
        leverage = np.einsum("rk,rk->r", rows, precondition(self._spectrum, RIDGE, rows))  # at most 1 / (1 + λ)
        responses: Float64 = np.ones(len(rows))
        if not self.probabilities:
            responses = outputs.astype(np.float64) + out_to_loss - self._label_sum / self._count
        found: Float64 = responses - (rows @ self._solution - leverage * responses) / (1 - leverage)
        return found if self.probabilities else np.abs(found)

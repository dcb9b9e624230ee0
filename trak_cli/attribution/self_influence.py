"""Self-influence: the score of every training sample on itself, without the other scores.

It is the diagonal of the scores that :mod:`trak_cli.attribution.scores` gives for the training set as targets, before any soft
threshold: a threshold needs the other scores of a target.
"""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.estimator.rows import lengths_of_rows, training_rows
from trak_cli.attribution.estimator.shrinkage import shrinkage_factor
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.attribution.scores import TargetFactor, sample_weight
from trak_cli.types import Float32, Float64, FloatArray, Rows


def own_kernel(spec: EstimatorSpec, features: Float32, factor: TargetFactor) -> Float64:
    """x̃ᵀ B x of every sample: (r,) float64, with x̃ the sample as a training row and x as a target.

    Args:
        spec: the estimator.
        features: (r, k) of one checkpoint.
        factor: of the same rows, as targets of that checkpoint.
    """
    rows = training_rows(spec, features, factor.clip_threshold)
    kernel: Float64 = np.einsum("rk,rk->r", factor.rows, rows, dtype=np.float64) * factor.scale[:, 0]
    return kernel


class SelfInfluence:
    """Sums the self-influence of n training samples over checkpoints, in blocks of rows in any order.

    Memory: a few numbers for each sample, for any number of checkpoints.
    """

    def __init__(self, spec: EstimatorSpec, rows: int, checkpoints: int) -> None:
        self._spec, self._count = spec, checkpoints
        self._kernel, self._length, self._q, self._nonzero = (np.zeros(rows) for _ in range(4))

    def add(self, rows: Rows, features: Float32, factor: TargetFactor, q: FloatArray) -> Float64:
        """Add some rows of one checkpoint; their :func:`own_kernel`.

        Args:
            rows: which rows; each once for every checkpoint.
            features: (r, k).
            factor: of the same rows, as targets.
            q: (r,) the q of :attr:`~trak_cli.attribution.estimator.weights.Weights.sample`.
        """
        place = slice(rows.start, rows.stop)
        kernel = own_kernel(self._spec, features, factor)
        value = kernel
        if self._spec.normalize_targets:
            length = factor.length[:, 0]
            value = np.divide(kernel, length, out=np.zeros_like(kernel), where=length > 0)
            self._length[place] += length
        if self._spec.averaging == "scores":
            value = value * sample_weight(self._spec, [q])[0]
        self._kernel[place] += value
        self._q[place] += q
        self._nonzero[place] += lengths_of_rows(features) > 0
        return kernel

    def result(self) -> Float64:
        """(n,) float64, once every row of every checkpoint was added."""
        found = self._kernel / self._count
        if self._spec.normalize_targets:
            found *= self._length / self._count
        if self._spec.averaging != "scores":
            found *= sample_weight(self._spec, [self._q / self._count])
        if self._spec.shrinkage:
            found *= shrinkage_factor(self._nonzero / self._count, self._spec.shrinkage, self._count)
        return found

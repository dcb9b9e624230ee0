"""Soft thresholding: small scores are treated as noise (Park et al. 2023, section 3.2, step 5; Donoho 1995).

    S(τ; λ) = sign(τ) max(|τ| − λ, 0)

The paper applies it to the scores of one target on all training samples, and chooses λ by cross-validation. Here λ is given by
the share of the scores that it sets to zero, because scores have no unit of their own: λ_j is that quantile of |score(·, j)|.
The quantile is taken over all training samples, or over ``REFERENCE_ROWS`` evenly spaced ones if there are more, so that it
depends neither on how scores are split into blocks nor on which worker computes them.
"""

from __future__ import annotations

import numpy as np

from trak_cli.types import Float32, Float64, FloatArray, IntArray, evenly_spaced

#: Number of training samples from which a threshold is computed.
REFERENCE_ROWS = 4096


def reference_rows(rows: int) -> IntArray:
    """Which of ``rows`` training samples thresholds are computed from: (m,) int64, ascending."""
    return evenly_spaced(rows, REFERENCE_ROWS)


def thresholds(scores: FloatArray, share: float) -> Float64:
    """λ of every target, (t,) float64: the ``share`` quantile of |scores|, from scores (t, m) on the reference rows."""
    limits: Float64 = np.quantile(np.abs(scores.astype(np.float64)), share, axis=1)
    return limits


def soften(scores: FloatArray, thresholds: Float64) -> Float32:
    """S(scores; λ) for scores (t, r) and λ (t,): (t, r) float32."""
    shrunk = np.maximum(np.abs(scores.astype(np.float64)) - thresholds[:, None], 0.0)
    return np.copysign(shrunk, scores).astype(np.float32)

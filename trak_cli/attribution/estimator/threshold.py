"""Soft-thresholding of scores: small ones are taken for noise (Park et al. 2023, section 3.2, step 5; Donoho 1995).

    S(τ; λ) = sign(τ) max(|τ| − λ, 0)

The paper applies it to the scores of one target on all training samples, and chooses λ by cross-validation. Here λ is told by
the share of the scores that it sets to zero, as scores have no unit of their own: λ_j is that quantile of |score(·, j)|. It
is taken over all training samples, or over ``REFERENCE_ROWS`` of them that are spread evenly where there are more, so that it
depends neither on how scores are cut into blocks nor on who computes them.
"""

from __future__ import annotations

import numpy as np

from trak_cli.types import Float32, Float64, FloatArray, IntArray

#: Training samples that a threshold is taken from.
REFERENCE_ROWS = 4096


def reference_rows(rows: int) -> IntArray:
    """Which of ``rows`` training samples: all, or ``REFERENCE_ROWS`` evenly spread; (m,) int64, ascending."""
    return np.unique(np.linspace(0, rows - 1, min(rows, REFERENCE_ROWS)).round().astype(np.int64))


def thresholds(scores: FloatArray, share: float) -> Float64:
    """λ of every target, (t,), from its scores (t, m) on the reference rows."""
    found: Float64 = np.quantile(np.abs(scores.astype(np.float64)), share, axis=1)
    return found


def soften(scores: FloatArray, thresholds: Float64) -> Float32:
    """S(scores; λ) for scores (t, r) and λ (t,) → (t, r) float32."""
    shrunk = np.maximum(np.abs(scores.astype(np.float64)) - thresholds[:, None], 0.0)
    return np.copysign(shrunk, scores).astype(np.float32)

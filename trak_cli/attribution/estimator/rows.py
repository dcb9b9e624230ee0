"""Single rows of a feature matrix: their lengths, and how an estimator normalises or clips them."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trak_cli.attribution.estimator.simulated_training import flow_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.types import Float32, Float64

Real = TypeVar("Real", bound=np.floating[Any])


def unit_rows(features: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Scale every row of (r, k) to unit length; a row of zeros stays as it is.

    Lengths are computed in float64. Returns a new array of the same dtype.
    """
    lengths = lengths_of_rows(features)
    return (features / np.where(lengths == 0, 1.0, lengths)[:, None]).astype(features.dtype)


def median_length(features: npt.NDArray[np.floating[Any]]) -> float:
    """The median length of the rows of (r, k)."""
    return float(np.median(lengths_of_rows(features)))


def clip_rows(features: npt.NDArray[Real], clip_threshold: float) -> npt.NDArray[Real]:
    """Scale rows of (r, k) that are longer than ``clip_threshold`` down to that length.

    Shorter rows keep every bit. Returns a new array of the same dtype.
    """
    factors = clip_factors(lengths_of_rows(features), clip_threshold)
    clipped = np.empty_like(features)
    np.multiply(features, factors[:, None], out=clipped, dtype=np.float64, casting="same_kind")
    return clipped


def clip_factors(lengths: Float64, clip_threshold: float) -> Float64:
    """The factors (r,) that scale rows of these lengths down to ``clip_threshold``: 1 for shorter rows."""
    return np.divide(clip_threshold, lengths, out=np.ones_like(lengths), where=lengths > clip_threshold)


def clip_threshold(spec: EstimatorSpec, features: npt.NDArray[np.floating[Any]]) -> float:
    """The length to which an estimator clips training features (n, k).

    It is computed from the rows that :func:`flow_rows` names; passing only those rows gives the same value. Infinite if the
    estimator does not clip, or if more than half of these rows are zero.
    """
    if not spec.clip_norm:
        return math.inf
    return spec.clip_norm * median_length(features[flow_rows(len(features))]) or math.inf


def training_rows(spec: EstimatorSpec, features: npt.NDArray[Real], clip_threshold: float) -> npt.NDArray[Real]:
    """Training features (r, k) as an estimator uses them: of unit length, clipped, or unchanged.

    ``clip_threshold`` is the result of :func:`clip_threshold`.
    """
    if spec.unit_norm:
        return unit_rows(features)
    return features if math.isinf(clip_threshold) else clip_rows(features, clip_threshold)


def lengths_of_rows(features: npt.NDArray[np.floating[Any]]) -> Float64:
    """The lengths of the rows of (r, k): (r,) float64."""
    lengths: Float64 = np.sqrt(np.einsum("rk,rk->r", features, features, dtype=np.float64))
    return lengths


def float32_lengths(features: Float32) -> Float64:
    """The lengths of the rows of (r, k) to float32 precision, four times as fast: (r,) float64.

    A row whose square is near the ends of float32 is computed in float64.
    """
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("rk,rk->r", features, features).astype(np.float64)
    outside = ~((squares > 1e-30) & (squares < 1e30))
    if outside.any():
        squares[outside] = np.square(lengths_of_rows(features[outside]))
    lengths: Float64 = np.sqrt(squares)
    return lengths

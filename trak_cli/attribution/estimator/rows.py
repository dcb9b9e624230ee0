"""Single rows of a feature matrix, and how an estimator takes them."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trak_cli.attribution.estimator.simulated_training import flow_rows
from trak_cli.attribution.estimator.spec import EstimatorSpec
from trak_cli.types import Float64

Real = TypeVar("Real", bound=np.floating[Any])


def unit_rows(features: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Every row of (r, k) at unit length, lengths taken in float64; a row of zeros stays. Keeps the dtype."""
    lengths = lengths_of_rows(features)
    return (features / np.where(lengths == 0, 1.0, lengths)[:, None]).astype(features.dtype)


def median_length(features: npt.NDArray[np.floating[Any]]) -> float:
    """The median length of the rows of (r, k)."""
    return float(np.median(lengths_of_rows(features)))


def clip_rows(features: npt.NDArray[Real], limit: float) -> npt.NDArray[Real]:
    """Rows of (r, k) that are longer than ``limit``, brought to that length; the others stay to the bit. Keeps the dtype."""
    lengths = lengths_of_rows(features)
    long = lengths > limit
    clipped = features.copy()
    clipped[long] = features[long] * (limit / lengths[long])[:, None]
    return clipped


def norm_limit(spec: EstimatorSpec, features: npt.NDArray[np.floating[Any]]) -> float:
    """The length to which this estimator clips training features (n, k); infinite where it does not, or where most are zero.

    Told from the rows that :func:`flow_rows` names; these alone give the same.
    """
    if not spec.clip_norm:
        return math.inf
    return spec.clip_norm * median_length(features[flow_rows(len(features))]) or math.inf


def training_rows(spec: EstimatorSpec, features: npt.NDArray[Real], limit: float) -> npt.NDArray[Real]:
    """Training features (r, k) as this estimator takes them; ``limit`` is what :func:`norm_limit` gave."""
    if spec.unit_norm:
        return unit_rows(features)
    return features if math.isinf(limit) else clip_rows(features, limit)


def lengths_of_rows(features: npt.NDArray[np.floating[Any]]) -> Float64:
    """(r,) the lengths of the rows of (r, k)."""
    lengths: Float64 = np.sqrt(np.einsum("rk,rk->r", features, features, dtype=np.float64))
    return lengths

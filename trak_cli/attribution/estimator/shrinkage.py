"""Shrinking the scores of pairs that have little to do with each other.

The kernel of one model is that of all models trained alike, plus what is peculiar to this one. The first is larger where two
samples are alike; the second is spread over all training samples, most of which have nothing to do with the target, and a sum
over a subset collects it. So every score is multiplied by

    |c| / (|c| + κ / √M),      c_ij = mean_m cos(x_{m,i}, t_{m,j}),

the share of it that is believed: nearly all where the gradients are alike, half where |c| = κ / √M, ever less below. The mean
over M checkpoints has less of what is peculiar to each, by √M.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trak_cli.attribution.estimator.rows import lengths_of_rows

Real = TypeVar("Real", bound=np.floating[Any])


def cosines(unit_targets: npt.NDArray[Real], features: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Of targets of unit length (t, k) with training features (r, k) of any: (t, r); 0 for rows of zeros. Keeps the dtype."""
    lengths = lengths_of_rows(features)
    products = unit_targets @ features.T
    products /= np.where(lengths == 0, 1.0, lengths).astype(features.dtype)
    return products


def believed(cosine: npt.NDArray[Real], shrinkage: float, checkpoints: int = 1) -> npt.NDArray[Real]:
    """The factor of a score, in [0, 1], by the mean cosine of its pair over so many checkpoints; ``shrinkage`` (κ) above 0.

    Keeps the dtype.
    """
    size = np.abs(cosine)
    half = cosine.dtype.type(shrinkage / math.sqrt(checkpoints))
    factor: npt.NDArray[Real] = size / (size + half)
    return factor

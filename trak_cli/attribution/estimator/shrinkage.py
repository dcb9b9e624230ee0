"""Shrinkage: scores of pairs with little similarity are reduced.

The kernel of one model is a kernel that all models trained in the same way share, plus a part specific to this model. The
shared part is larger for pairs of similar samples. The specific part is spread over all training samples, most of which are
unrelated to the target, and a sum over a subset accumulates it. So every score is multiplied by

    |c| / (|c| + κ / √M),      c_ij = mean_m cos(x_{m,i}, t_{m,j}).

The factor is close to 1 where the gradients are similar and ½ where |c| = κ / √M. Averaging over M checkpoints reduces the
specific part by √M. The estimator's field ``shrinkage`` is κ; docs/default.md has the measurements.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trak_cli.attribution.estimator.rows import lengths_of_rows

Real = TypeVar("Real", bound=np.floating[Any])


def cosines(unit_targets: npt.NDArray[Real], features: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Cosines of targets (t, k) of unit length with training features (r, k) of any length: (t, r), in the same dtype.

    A row of zeros has cosine 0 with everything.
    """
    lengths = lengths_of_rows(features)
    products = unit_targets @ features.T
    products /= np.where(lengths == 0, 1.0, lengths).astype(features.dtype)
    return products


def shrinkage_factor(cosine: npt.NDArray[Real], shrinkage: float, checkpoints: int = 1) -> npt.NDArray[Real]:
    """The factor |c| / (|c| + κ / √M) of every score, in [0, 1].

    Args:
        cosine: c, of any shape: the mean cosine of each pair over the checkpoints.
        shrinkage: κ, above 0.
        checkpoints: M.

    Returns:
        An array of the shape and dtype of ``cosine``.
    """
    factor: npt.NDArray[Real] = np.abs(cosine)
    half = cosine.dtype.type(shrinkage / math.sqrt(checkpoints))
    factor /= factor + half
    return factor

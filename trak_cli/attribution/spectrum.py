"""The eigendecomposition of a Gram matrix: everything that is needed to apply (Gram + λI)⁻¹ for any λ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.gram import Gram
from trak_cli.errors import InputError, Problem
from trak_cli.types import Float64


@dataclass(frozen=True)
class Spectrum:
    """A Gram matrix, V diag(values) Vᵀ.

    Attributes:
        values: (k,) eigenvalues, ascending, none below 0.
        vectors: (k, k) V; column i belongs to ``values[i]``.
        n: how many samples the Gram is a sum over.
        mean_diag: mean of the Gram's diagonal, which is the mean eigenvalue.
        mean_square: mean ‖x‖² of the samples, whatever their weights in the Gram.
    """

    values: Float64
    vectors: Float64
    n: int
    mean_diag: float
    mean_square: float = float("nan")


def decompose(gram: Gram) -> Spectrum:
    """Eigendecomposition of a Gram matrix, in float64; time O(k³), memory O(k²).

    Raises:
        InputError: when the matrix holds NaN or infinity.
    """
    if not np.isfinite(gram.matrix).all():
        raise InputError(
            Problem(
                "Gram matrix",
                "NaN or infinite entries",
                "finite features of the training set",
                "featurize the training set again",
            )
        )
    values, vectors = np.linalg.eigh(gram.matrix)
    # A sum of squares has no negative eigenvalue; what eigh returns below 0 is rounding.
    mean_diag = float(np.mean(np.diagonal(gram.matrix)))
    return Spectrum(np.maximum(values, 0.0), vectors, gram.n, mean_diag, gram.mean_square)

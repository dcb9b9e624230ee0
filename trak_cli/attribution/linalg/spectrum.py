"""The eigendecomposition of a Gram matrix: everything that is needed to apply (Gram + λI)⁻¹ for any λ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.linalg.gram import Gram
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.types import Float64, FloatArray


@dataclass(frozen=True)
class Spectrum:
    """A Gram matrix, V diag(values) Vᵀ.

    Attributes:
        values: (r,) eigenvalues, ascending, none below 0; r = k, or r ≤ k / 2 where there are so few samples. What is left
            out is zero, to rounding.
        vectors: (k, r) V; column i belongs to ``values[i]``.
        n: how many samples, or terms of samples, the Gram is a sum over.
        mean_diag: mean of the Gram's diagonal, which is the mean eigenvalue.
        mean_square: mean ‖x‖² of the samples or terms, whatever their weights in the Gram.
        of_terms: whether it is over single terms, and not over samples.
    """

    values: Float64
    vectors: Float64
    n: int
    mean_diag: float
    mean_square: float = float("nan")
    of_terms: bool = False

    @property
    def dim(self) -> int:
        """k."""
        return int(self.vectors.shape[0])

    @property
    def complete(self) -> bool:
        """Whether V spans the whole space."""
        return len(self.values) == self.dim

    @property
    def smallest(self) -> float:
        """The smallest of all k eigenvalues."""
        return float(self.values[0]) if self.complete else 0.0


def decompose(gram: Gram) -> Spectrum:
    """Eigendecomposition of a Gram matrix, in float64; time O(k³) and memory O(k²), O(n² k) and O(n k) from few rows.

    Raises:
        InputError: when the matrix holds NaN or infinity.
    """
    given = gram.matrix if gram.rows is None else gram.rows
    if given is None or not np.isfinite(given).all():
        raise InputError(
            Problem(
                "Gram matrix",
                "NaN or infinite entries",
                "finite features of the training set",
                "featurize the training set again",
            )
        )
    if gram.rows is not None:
        values, vectors = of_rows(gram.rows)
        mean_diag = float(np.einsum("rk,rk->", gram.rows, gram.rows)) / given.shape[1]
        return Spectrum(values, vectors, gram.n, mean_diag, gram.mean_square, gram.of_terms)
    values, vectors = np.linalg.eigh(given)
    # A sum of squares has no negative eigenvalue; what eigh returns below 0 is rounding.
    mean_diag = float(np.mean(np.diagonal(given)))
    return Spectrum(np.maximum(values, 0.0), vectors, gram.n, mean_diag, gram.mean_square, gram.of_terms)


def of_rows(rows: Float64) -> tuple[Float64, Float64]:
    """Eigenvalues above rounding and eigenvectors of ZᵀZ by those of Z Zᵀ, for few rows Z (r, k): v = Zᵀ u / √σ.

    The error of v is that of u times √(σ_max / σ), so that it is small for all that is kept.
    """
    values, left = np.linalg.eigh(rows @ rows.T)
    largest = values[-1:].max(initial=0.0)
    kept = values > rows.shape[1] * np.finfo(np.float64).eps * largest
    kept[-1:] = True  # of a matrix of zeros, one
    values = np.maximum(values[kept], 0.0)
    vectors: Float64 = rows.T @ left[:, kept] / np.sqrt(np.where(values > 0, values, 1.0))
    return values, vectors


def precondition(spectrum: Spectrum, ridge: float, targets: FloatArray) -> Float64:
    """Targets times A⁻¹: (t, k), any floating dtype → (t, k) float64.

    It is the few targets that are multiplied, never the training set.

    Raises:
        ConfigError: when A is singular to float64 precision.
    """
    problems = singular_problems(spectrum, ridge)
    if problems:
        raise ConfigError(problems)
    rows = targets.astype(np.float64)
    rotated = rows @ spectrum.vectors
    if spectrum.complete:
        return (rotated / (spectrum.values + ridge)) @ spectrum.vectors.T
    return (rows - (rotated * (spectrum.values / (spectrum.values + ridge))) @ spectrum.vectors.T) / ridge


def singular_problems(spectrum: Spectrum, ridge: float) -> list[Problem]:
    """Whether Gram + λI is too near singular to invert: smallest eigenvalue ≤ k · 2.2e-16 · largest."""
    smallest, largest = spectrum.smallest, float(spectrum.values[-1])
    tolerance = spectrum.dim * np.finfo(np.float64).eps
    if smallest + ridge > tolerance * (largest + ridge):
        return []
    found = f"{ridge:g} with a singular Gram (eigenvalues from {smallest:.3g} to {largest:.3g}, {spectrum.n} samples)"
    expected = "a ridge that makes it invertible"
    return [Problem("estimator.ridge", found, expected, "set e.g. estimator.ridge=1w")]

"""The eigendecomposition of a Gram matrix: everything that is needed to apply (Gram + λI)⁻¹ for any λ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trak_cli.attribution.linalg.gram import Gram
from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.plurals import counted
from trak_cli.types import Float64, FloatArray


@dataclass(frozen=True)
class Spectrum:
    """A Gram matrix, V diag(values) Vᵀ.

    Attributes:
        values: (r,) float64 eigenvalues, ascending, none below 0; r = k, or r ≤ 3 k / 4 if there are that few samples. The
            eigenvalues that are left out are zero up to rounding.
        vectors: (k, r) float64, V; column i belongs to ``values[i]``.
        n: number of samples, or of terms of samples, that the Gram matrix is a sum over.
        mean_diag: mean of the diagonal of the Gram matrix, which is the mean eigenvalue.
        mean_square: mean ‖x‖² of the samples or terms, without their weights in the Gram matrix.
        over: what the Gram matrix is over; see :class:`~trak_cli.attribution.linalg.gram.Gram`.
        response: (r,) float64, Vᵀ Σ w x (f − f̄): the outputs in the eigenbasis; None if the outputs were not summed.
    """

    values: Float64
    vectors: Float64
    n: int
    mean_diag: float
    mean_square: float = float("nan")
    over: str = "samples"
    response: Float64 | None = None

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

    def matrix(self) -> Float64:
        """The Gram matrix itself, (k, k) float64."""
        product: Float64 = (self.vectors * self.values) @ self.vectors.T
        return product

    def explained(self, ridge: float) -> float:
        """How much of the variance of the outputs a ridge regression on the features explains, between 0 and 1.

        It is relative to the regression with ridge 0; samples count with their weights in the Gram matrix. 1 if that explains
        nothing.

        Args:
            ridge: λ, above 0.

        Raises:
            ValueError: there is no response.
        """
        if self.response is None:
            raise ValueError("the Gram matrix was summed without outputs")
        above = self.values > self.dim * np.finfo(np.float64).eps * self.values[-1:].max(initial=0.0)
        values, squares = self.values[above], np.square(self.response[above])
        most = float((squares / values).sum())
        return float((squares * (values + 2 * ridge) / (values + ridge) ** 2).sum()) / most if most > 0 else 1.0

    def diagonal(self) -> Float64:
        """The diagonal of the Gram matrix, (k,) float64."""
        diagonal: Float64 = np.square(self.vectors) @ self.values
        return diagonal


def decompose(gram: Gram) -> Spectrum:
    """The eigendecomposition of a Gram matrix, in float64.

    Time O(k³) and memory O(k²); for a Gram matrix of n ≤ 3 k / 4 rows, time O(n² k) and memory O(n k).

    Raises:
        InputError: the matrix holds NaN or infinity.
    """
    entries = gram.matrix if gram.rows is None else gram.rows
    if entries is None or not np.isfinite(entries).all():
        expected = "finite features of the training set"
        raise InputError(Problem("Gram matrix", "NaN or infinite entries", expected, "featurize the training set again"))
    if gram.rows is not None:
        values, vectors = of_rows(gram.rows)
        mean_diag = float(np.einsum("rk,rk->", gram.rows, gram.rows)) / entries.shape[1]
    else:
        values, vectors = np.linalg.eigh(entries)
        values = np.maximum(values, 0.0)  # a sum of squares has no negative eigenvalue; what eigh returns below 0 is rounding
        mean_diag = float(np.mean(np.diagonal(entries)))
    response = None if gram.response is None else vectors.T @ gram.response
    return Spectrum(values, vectors, gram.n, mean_diag, gram.mean_square, gram.over, response)


def of_rows(rows: Float64) -> tuple[Float64, Float64]:
    """Eigenvalues above rounding and eigenvectors of ZᵀZ, for few rows Z (r, k), from those of Z Zᵀ: v = Zᵀ u / √σ.

    The error of v is that of u times √(σ_max / σ), so it is small for every eigenvector that is kept.

    Returns:
        (m,) eigenvalues, ascending, and (k, m) eigenvectors, float64.
    """
    values, left = np.linalg.eigh(rows @ rows.T)
    largest = values[-1:].max(initial=0.0)
    kept = values > rows.shape[1] * np.finfo(np.float64).eps * largest
    kept[-1:] = True  # keep one of a matrix of zeros
    values = np.maximum(values[kept], 0.0)
    vectors: Float64 = rows.T @ left[:, kept] / np.sqrt(np.where(values > 0, values, 1.0))
    return values, vectors


def precondition(spectrum: Spectrum, ridge: float, targets: FloatArray) -> Float64:
    """Targets times A⁻¹ = (Gram + λI)⁻¹: (t, k), any floating dtype → (t, k) float64.

    A⁻¹ is applied to the few targets, never to the training set.

    Raises:
        ConfigError: A is singular to float64 precision.
    """
    require_invertible(spectrum, ridge)
    rows = targets.astype(np.float64)
    rotated = rows @ spectrum.vectors
    if spectrum.complete:
        return (rotated / (spectrum.values + ridge)) @ spectrum.vectors.T
    return (rows - (rotated * (spectrum.values / (spectrum.values + ridge))) @ spectrum.vectors.T) / ridge


def require_invertible(spectrum: Spectrum, ridge: float) -> None:
    """Check that Gram + λI can be inverted.

    Raises:
        ConfigError: it cannot (:func:`singular_problems`).
    """
    if problems := singular_problems(spectrum, ridge):
        raise ConfigError(problems)


def singular_problems(spectrum: Spectrum, ridge: float) -> list[Problem]:
    """A problem if Gram + λI is too close to singular to be inverted: smallest eigenvalue ≤ k · 2.2e-16 · largest."""
    smallest, largest = spectrum.smallest, float(spectrum.values[-1])
    tolerance = spectrum.dim * np.finfo(np.float64).eps
    if smallest + ridge > tolerance * (largest + ridge):
        return []
    found = (
        f"λ = {ridge:g} with a singular Gram matrix (eigenvalues from {smallest:.3g}"
        f" to {largest:.3g}, {counted(spectrum.n, 'sample')})"
    )
    return [Problem("estimator.ridge", found, "a ridge that makes it invertible", "set e.g. estimator.ridge=1")]

"""Applying A⁻¹ = (Gram + λI)⁻¹ to targets through the eigendecomposition: a new λ needs no pass over any data."""

from __future__ import annotations

import numpy as np

from trak_cli.attribution.spectrum import Spectrum
from trak_cli.errors import ConfigError, Problem
from trak_cli.types import Float64, FloatArray


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

"""The two metrics of the program: ``gram`` (TRAK) and ``identity`` (dot products and cosines)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from trak_cli.attribution.estimator.registry import Metric, register_metric
from trak_cli.attribution.linalg.spectrum import Spectrum, precondition, require_invertible
from trak_cli.types import Float64


@register_metric("gram")
class GramMetric(Metric):
    """B = (Σ_i |q_i|^b x_i x_iᵀ + λI)⁻¹: TRAK (Park et al. 2023, section 3.2, step 3)."""

    def apply(self, targets: Float64, spectrum: Spectrum | None, ridge: float) -> Float64:
        """A⁻¹ t_j for every target; see :meth:`Metric.apply`.

        Raises:
            ConfigError: A is singular.
        """
        return precondition(_required(spectrum), ridge, targets)

    def subset_sums(
        self, targets: Float64, sums: Float64, spectrum: Spectrum | None, ridges: Sequence[float]
    ) -> Iterator[tuple[Float64, Float64]]:
        """In the eigenbasis of the Gram matrix, B is diagonal: one rotation serves every ridge."""
        gram = _required(spectrum)
        left, right = targets @ gram.vectors, gram.vectors.T @ sums
        squares = left * left
        # What lies outside the span of V, where the Gram matrix is zero and B is 1/λ.
        outside = 0.0 if gram.complete else targets @ sums - left @ right
        rest = 0.0 if gram.complete else (np.einsum("tk,tk->t", targets, targets) - squares.sum(axis=1)).clip(min=0)
        for ridge in ridges:
            require_invertible(gram, ridge)
            inside: Float64 = (left / (gram.values + ridge)) @ right
            lengths = squares @ (1 / (gram.values + ridge))
            if not gram.complete:
                inside, lengths = inside + outside / ridge, lengths + rest / ridge
            yield inside, np.sqrt(lengths)[:, None]


@register_metric("identity")
class IdentityMetric(Metric):
    """B = I: dot products of features (TracIn, Pruthi et al. 2020), or cosines if rows are brought to unit length."""

    needs_gram = False

    def apply(self, targets: Float64, spectrum: Spectrum | None, ridge: float) -> Float64:
        """The targets themselves."""
        del spectrum, ridge
        return targets


def _required(spectrum: Spectrum | None) -> Spectrum:
    if spectrum is None:
        raise ValueError("metric 'gram' needs the spectrum of a Gram matrix")
    return spectrum

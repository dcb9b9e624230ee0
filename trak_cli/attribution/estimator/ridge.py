"""The ridge λ of A = Σ_i |q_i|^b x_i x_iᵀ + λI: a number and its unit, or a rule."""

from __future__ import annotations

from dataclasses import dataclass

from trak_cli.attribution.linalg.spectrum import Spectrum

#: Units of λ, by name: what they are, for people.
RIDGE_UNITS = {
    "absolute": "",
    "mean_diagonal": "mean diagonal of the Gram matrix",
    "mean_norm": "mean ‖x‖²",
    "mean_weighted_norm": "mean weighted ‖x‖²",
}

#: Bisections in search of λ: 2^−50 of 36 decades.
_BISECTIONS = 50


@dataclass(frozen=True)
class Ridge:
    """A rule for λ.

    Attributes:
        value: λ in units of ``unit``.
        unit: "absolute" (λ itself), "mean_diagonal" (the mean of the diagonal of the Gram matrix), "mean_norm" (the mean of
            ‖x‖² over the samples, which grows neither with their number nor with k) or "mean_weighted_norm" (the mean of
            |q|^b ‖x‖²: what a sample adds to the trace of the Gram matrix on average).
        floor: lower bound of λ in units of the mean ‖x‖²; 0 for none.
        explained: λ is made smaller, if necessary, until a ridge regression of the outputs explains this share of their
            variance (:meth:`Spectrum.explained`); 0 for no such bound.
    """

    value: float
    unit: str = "mean_weighted_norm"
    floor: float = 0.0
    explained: float = 0.0

    def resolve(self, spectrum: Spectrum) -> float:
        """λ itself, in the units of the Gram matrix that has this spectrum.

        Raises:
            KeyError: the unit is not one of :data:`RIDGE_UNITS`.
            ValueError: outputs must be explained, but were not summed.
        """
        units = {
            "absolute": 1.0,
            "mean_diagonal": spectrum.mean_diag,
            "mean_norm": spectrum.mean_square,
            "mean_weighted_norm": spectrum.mean_diag * spectrum.dim / spectrum.n,
        }
        size = self.value * units[self.unit]
        size = max(size, self.floor * spectrum.mean_square) if self.floor else size
        if not self.explained or size == 0 or spectrum.explained(size) >= self.explained:
            return size
        low, high = 1e-36 * size, size
        for _ in range(_BISECTIONS):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if spectrum.explained(middle) >= self.explained else (low, middle)
        return low

    def __str__(self) -> str:
        """The rule as a formula: ``max(2 × mean weighted ‖x‖², 1 × mean ‖x‖²)``, and what it must explain."""
        size = _times(self.value, self.unit)
        size = f"max({size}, {_times(self.floor, 'mean_norm')})" if self.floor else size
        return f"{size}, or less, to explain {self.explained:.0%} of the variance of the outputs" if self.explained else size


def _times(value: float, unit: str) -> str:
    return f"{value:g}" + (f" × {RIDGE_UNITS[unit]}" if unit != "absolute" else "")

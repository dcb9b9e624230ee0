"""Empirical metasmoothness of a training: whether its weights keep moving in the same direction when a change is continued.

For a training A that maps the weights z of its samples to the parameters θ of the model, a direction v and a length h, let
Δ(z) = (A(z + h v) − A(z)) / h. The metasmoothness at z is

    S = Σ_k |Δ(z)_k| · sign(Δ(z)_k) · sign(Δ(z + h v)_k) / Σ_k |Δ(z)_k|,

the agreement of signs of two successive finite differences, weighted by the size of the first: 1 for a training that is linear
in z, about 0 for one whose changes are unrelated.

Source: Engstrom et al., Optimizing ML Training with Metagradient Descent, 2025 (empirical metasmoothness).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Below this, a change of half the size does not tell the signs of the rest of the change.
LEAST_METASMOOTHNESS = 0.5


def metasmoothness(start: Sequence[Tensor], middle: Sequence[Tensor], end: Sequence[Tensor]) -> float:
    """S from the parameters of three trainings, A(z), A(z + h v) and A(z + 2 h v); NaN if the first change moves nothing."""
    agreement = size = 0.0
    with torch.no_grad():
        for before, between, after in zip(start, middle, end, strict=True):
            first = between.double() - before.double()
            agreement += float((first * (after.double() - between.double()).sign()).sum())
            size += float(first.abs().sum())
    return agreement / size if size else float("nan")

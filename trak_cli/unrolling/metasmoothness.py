"""Empirical metasmoothness of a training: whether its weights keep moving in the same direction when a change is continued.

For a training A that maps the weights z of its samples to the parameters θ of the model, a direction v and a length h, let
Δ(z) = (A(z + h v) − A(z)) / h and d = |A(z + 2 h v) − A(z)|. The metasmoothness at z is

    S = Σ_k d_k · sign(Δ(z)_k) · sign(Δ(z + h v)_k) / Σ_k d_k,

the agreement of signs of two successive finite differences, weighted by how far each parameter moves in all: 1 for a training
that is linear in z, 0 in the mean for one whose results are unrelated.

Source: Engstrom et al., Optimizing ML Training with Metagradient Descent, 2025 (definition 2, empirical metasmoothness).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Below this, a change of half the size does not tell the signs of the rest of the change.
LEAST_METASMOOTHNESS = 0.5


def metasmoothness(start: Sequence[Tensor], middle: Sequence[Tensor], end: Sequence[Tensor]) -> float:
    """S from the parameters of three trainings, A(z), A(z + h v) and A(z + 2 h v); NaN if the last are those of the first."""
    agreement = size = 0.0
    with torch.no_grad():
        for before, between, after in zip(start, middle, end, strict=True):
            first, between, last = before.double(), between.double(), after.double()
            moved = (last - first).abs()
            agreement += float((moved * (between - first).sign() * (last - between).sign()).sum())
            size += float(moved.sum())
    return agreement / size if size else float("nan")

"""A low-rank preconditioner of G + λI: its largest eigenvalues are approximated within a few directions.

Nyström approximation and preconditioner of Frangella, Tropp and Udell (2021, arXiv 2110.02820, sections 2 and 5), with
directions that are given instead of random ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trak_cli.gradients.curvature.conjugate_gradients import Operator


class LowRank:
    """P⁻¹ = (ℓ + λ) U (Λ + λ)⁻¹ Uᵀ + (I − U Uᵀ), with U Λ Uᵀ ≈ G and ℓ the smallest of Λ.

    Memory: (r, p), for r directions; twice that while it is built.
    """

    def __init__(self, product: Operator, directions: Tensor, ridge: float) -> None:
        """``product`` is G x, which is called once; ``directions`` (r, p) are any vectors, λ is ``ridge``."""
        basis = orthonormal(directions)
        image = product(basis)
        shift = float(image.double().norm()) * torch.finfo(image.dtype).eps  # keeps the small matrix positive definite
        image = image + shift * basis
        small = (image.double() @ basis.double().T) if image.dtype == torch.float64 else (image @ basis.T).double()
        values, vectors = torch.linalg.eigh((small + small.T) / 2)
        kept = values > values[-1:].clamp(min=0) * torch.finfo(image.dtype).eps * len(values)
        half = (vectors[:, kept] / values[kept].sqrt()).T.to(image.dtype) @ image  # Bᵀ B = G's approximation
        squares, left = torch.linalg.eigh((half @ half.T).double())
        kept = squares > 0
        squares, left = squares[kept], left[:, kept]
        self._vectors = (left / squares.sqrt()).T.to(image.dtype) @ half
        self._gains = ((squares[0] + ridge) / (squares + ridge) - 1).to(image.dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        """P⁻¹ of every row of (R, p)."""
        result: Tensor = rows + ((rows @ self._vectors.T) * self._gains) @ self._vectors
        return result


def orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis of the span of the rows of (r, p), without directions that are zero up to rounding."""
    basis = rows
    for _ in range(2):  # once more: in float32 the first basis is orthonormal only roughly
        squares, vectors = torch.linalg.eigh((basis @ basis.T).double())
        kept = squares > squares[-1:] * torch.finfo(rows.dtype).eps * len(rows)
        basis = (vectors[:, kept] / squares[kept].sqrt()).T.to(rows.dtype) @ basis
    return basis

"""(G + λI) x = t by preconditioned conjugate gradients, for several right-hand sides that share the passes over the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: A symmetric linear map of each row of (R, p): (R, p).
Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Solution:
    """Attributes:
    x: (R, p).
    residuals: (R,) ‖t − (G + λI) x‖ / ‖t‖; 0 for t = 0.
    iterations: (R,) products with G.
    """

    x: Tensor
    residuals: list[float]
    iterations: list[int]


@dataclass(frozen=True)
class Stopping:
    """Attributes:
    tolerance: a system is solved when its residual, relative to ‖t‖, is at most this.
    iterations: at most this many.
    """

    tolerance: float
    iterations: int


def solve(product: Operator, ridge: float, t: Tensor, stopping: Stopping, precondition: Operator) -> Solution:
    """Solve the systems of all rows t of (R, p), from x = 0. A solved system leaves the block, which makes products cheaper.

    Args:
        product: G x.
        ridge: λ > 0.
        precondition: an approximation of (G + λI)⁻¹, symmetric and positive definite.
    """
    x = torch.zeros_like(t)
    lengths = _lengths(t).clamp(min=torch.finfo(torch.float64).tiny)
    relative = _lengths(t) / lengths
    iterations = torch.zeros(len(t), dtype=torch.long, device=t.device)
    active = (relative > stopping.tolerance).nonzero()[:, 0]
    r = t[active]
    z = precondition(r) if len(active) else r
    direction, rz = z.clone(), _dots(r, z)
    while len(active) and int(iterations[active].max()) < stopping.iterations:
        image = product(direction) + ridge * direction
        step = (rz / _dots(direction, image)).to(t.dtype)[:, None]
        x[active] += step * direction
        r = r - step * image
        iterations[active] += 1
        relative[active] = _lengths(r) / lengths[active]
        left = relative[active] > stopping.tolerance
        active, r, direction, rz = active[left], r[left], direction[left], rz[left]
        if len(active):
            z = precondition(r)
            following = _dots(r, z)
            direction = z + (following / rz).to(t.dtype)[:, None] * direction
            rz = following
    return Solution(x, relative.tolist(), iterations.tolist())


def _dots(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(1, dtype=torch.float64)


def _lengths(rows: Tensor) -> Tensor:
    return _dots(rows, rows).sqrt()

"""Learning rates, and clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Name -> the factor of the learning rate at the progress 0 ≤ t < 1 of the training.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1 - progress,
    "constant": lambda _: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}

#: Added to a norm that gradients are divided by.
SMALL_NORM = 1e-6


def factor(schedule: str, index: int, steps: int, warmup_steps: int) -> float:
    """The factor of the learning rate in step ``index`` of ``steps``.

    It rises linearly to 1 during the first ``warmup_steps``, (index + 1) / warmup_steps, and follows the schedule afterwards.
    """
    if index < warmup_steps:
        return (index + 1) / warmup_steps
    return SCHEDULES[schedule]((index - warmup_steps) / (steps - warmup_steps))


def clipped(grads: Sequence[Tensor], limit: float) -> list[Tensor]:
    """The gradients times min(1, limit / (‖g‖ + 10⁻⁶)), where ‖g‖ is the norm of all of them (``clip_grad_norm_``)."""
    norms = torch.stack([torch.linalg.vector_norm(grad) for grad in grads])
    scale = torch.clamp(limit / (torch.linalg.vector_norm(norms) + SMALL_NORM), max=1.0)
    return [grad * scale.to(grad.dtype) for grad in grads]

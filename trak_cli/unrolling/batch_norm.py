"""Batch normalisation: its running statistics as differentiable functions of the inputs of a step, and of f."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass
class Statistics:
    """The running statistics that batch normalisation updates in a step.

    Attributes:
        updated: id of a running mean or variance -> its differentiable value after the updates so far.
    """

    updated: dict[int, Tensor] = field(default_factory=dict)
    _alive: list[Tensor] = field(default_factory=list)  # an id is unique as long as its tensor exists

    def start(self, buffer: Tensor, leaf: Tensor) -> None:
        """Use ``leaf`` as the value of a running statistic before the step."""
        self._alive.append(buffer)
        self.updated[id(buffer)] = leaf

    def update(self, buffer: Tensor, value: Tensor, momentum: float) -> None:
        """Move a running statistic towards the value of a batch, by the fraction ``momentum``."""
        before = self.updated.get(id(buffer))
        if before is not None:
            self.updated[id(buffer)] = before + momentum * (value - before)


@contextmanager
def differentiable_statistics(statistics: Statistics) -> Iterator[None]:
    """Inside, batch normalisation records updates of running statistics, and is differentiable in them in evaluation mode."""
    original: Any = functional.batch_norm

    def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, *rest: Any, **named: Any) -> Tensor:
        options = dict(zip(("weight", "bias", "training", "momentum", "eps"), rest, strict=False)) | named
        if running_mean is not None and running_var is not None:
            if options.get("training", False):
                wide, momentum = input.to(running_mean.dtype), options.get("momentum", 0.1)
                dims = [dim for dim in range(input.dim()) if dim != 1]
                statistics.update(running_mean, wide.mean(dims), momentum)
                statistics.update(running_var, wide.var(dims), momentum)
            elif running_mean.requires_grad or running_var.requires_grad:
                affine = options.get("weight"), options.get("bias")
                return _normalised(input, (running_mean, running_var), affine, options.get("eps", 1e-5))
        found: Tensor = original(input, running_mean, running_var, *rest, **named)
        return found

    functional.batch_norm = batch_norm
    try:
        yield
    finally:
        functional.batch_norm = original


def _normalised(
    input: Tensor, statistics: tuple[Tensor, Tensor], affine: tuple[Tensor | None, Tensor | None], eps: float
) -> Tensor:
    """Batch normalisation by given statistics, differentiable in them."""
    weight, bias = affine
    shape = [1, -1] + [1] * (input.dim() - 2)
    mean, variance = (value.view(shape) for value in statistics)
    found = (input.to(mean.dtype) - mean) * torch.rsqrt(variance + eps)
    if weight is not None:
        found = found * weight.view(shape)
    if bias is not None:
        found = found + bias.view(shape)
    return found.to(input.dtype)

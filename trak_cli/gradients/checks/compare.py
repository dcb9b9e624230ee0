"""The whole gradient of one sample, for comparisons: from an engine's blocks, or by autograd from inside a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.parameters import only
from trak_cli.types import AnyBlock, Block, FactorBlock


def gradient_of(parameters: Mapping[str, Tensor], blocks: Iterable[AnyBlock], position: int) -> dict[str, Tensor]:
    """The gradient of one sample of a batch, put together from its blocks: canonical name -> (d,) float32 or float64."""
    whole = _zeros(parameters)
    for part in blocks:
        block = part.dense() if isinstance(part, FactorBlock) else part
        target = whole[block.name]
        if isinstance(block, Block):
            target[block.offset : block.offset + block.gradient.shape[1]] += block.gradient[position]
        else:
            of_sample = block.sample == position
            target.view(-1, block.values.shape[1]).index_add_(0, block.row[of_sample], block.values[of_sample].to(target.dtype))
    return whole


def gradient_inside(
    model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any, position: int
) -> dict[str, Tensor]:
    """∂f(sample)/∂θ by plain autograd from one pass over the whole batch: canonical name -> (d,) float32 or float64.

    It differs from the gradient of the sample alone where the samples of a batch are mixed.
    """
    whole = _zeros(parameters)
    with exact(), only(model, parameters), torch.enable_grad():
        output = task.output(model, batch)[position]
        if not output.requires_grad:
            return whole
        found = torch.autograd.grad(output, list(parameters.values()), allow_unused=True)
    for target, gradient in zip(whole.values(), found, strict=True):
        if gradient is not None:
            target += (gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1)
    return whole


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """‖found − expected‖ / ‖expected‖ over all parameters together; 0 where both are zero."""
    apart = sum(float((found[name] - one).double().square().sum()) for name, one in expected.items())
    size = sum(float(one.double().square().sum()) for one in expected.values())
    return (apart / size) ** 0.5 if size else (0.0 if apart == 0 else float("inf"))


def cosine(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Cosine of the angle between two gradients over all parameters together; 1 where both are zero."""
    product = sum(float((one.double() * second[name].double()).sum()) for name, one in first.items())
    sizes = [sum(float(one.double().square().sum()) for one in each.values()) for each in (first, second)]
    if sizes[0] == sizes[1] == 0:
        return 1.0
    return product / (sizes[0] * sizes[1]) ** 0.5 if 0 not in sizes else 0.0


def _zeros(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: torch.zeros(one.numel(), device=one.device, dtype=torch.promote_types(one.dtype, torch.float32))
        for name, one in parameters.items()
    }

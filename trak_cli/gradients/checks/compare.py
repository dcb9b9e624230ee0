"""The complete gradient of one sample, for comparisons: from an engine's blocks, or by autograd from inside a batch."""

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
    """The gradient of one sample of a batch, assembled from blocks: canonical name -> (d,) float32 or float64."""
    gradients = _zeros(parameters)
    for block in blocks:
        if isinstance(block, FactorBlock):
            block = block.dense()
        target = gradients[block.name]
        if isinstance(block, Block):
            target[block.offset : block.offset + block.gradient.shape[1]] += block.gradient[position]
        else:
            of_sample = block.sample == position
            target.view(-1, block.values.shape[1]).index_add_(0, block.row[of_sample], block.values[of_sample].to(target.dtype))
    return gradients


def gradient_inside(
    model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any, position: int
) -> dict[str, Tensor]:
    """∂f(sample)/∂θ by plain autograd from one pass over the batch: canonical name -> (d,) float32 or float64.

    It differs from the gradient of the sample alone if the model mixes the samples of a batch.
    """
    gradients = _zeros(parameters)
    with exact(), only(model, parameters), torch.enable_grad():
        output = task.output(model, batch)[position]
        if not output.requires_grad:
            return gradients
        computed = torch.autograd.grad(output, list(parameters.values()), allow_unused=True)
    for target, gradient in zip(gradients.values(), computed, strict=True):
        if gradient is not None:
            target += (gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1)
    return gradients


def difference(gradients: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """‖gradients − expected‖ / ‖expected‖ over all parameters together; 0 if both are zero."""
    distance = sum(_square(gradients[name] - reference) for name, reference in expected.items())
    size = sum(_square(reference) for reference in expected.values())
    return (distance / size) ** 0.5 if size else (0.0 if distance == 0 else float("inf"))


def cosine(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Cosine of the angle between two gradients over all parameters together; 1 if both are zero."""
    product = sum(float((gradient.double() * second[name].double()).sum()) for name, gradient in first.items())
    sizes = [sum(_square(gradient) for gradient in gradients.values()) for gradients in (first, second)]
    if sizes[0] == sizes[1] == 0:
        return 1.0
    return product / (sizes[0] * sizes[1]) ** 0.5 if 0 not in sizes else 0.0


def _square(values: Tensor) -> float:
    return float(values.double().square().sum())


def _zeros(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: torch.zeros(value.numel(), device=value.device, dtype=torch.promote_types(value.dtype, torch.float32))
        for name, value in parameters.items()
    }

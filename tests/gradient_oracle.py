"""The gradient of one sample by plain autograd from inside a batch. Engines and models are tested against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.gradients.checks.compare import gradient_of
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.parameters import only


def gradient_inside(
    model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any, position: int
) -> dict[str, Tensor]:
    """∂f(sample)/∂θ by plain autograd from one pass over the batch: canonical name -> (d,) float32 or float64.

    It differs from the gradient of the sample alone if the model mixes the samples of a batch.
    """
    gradients = gradient_of(parameters, (), position)
    with exact(), only(model, parameters), torch.enable_grad():
        output = task.output(model, batch)[position]
        if not output.requires_grad:
            return gradients
        computed = torch.autograd.grad(output, list(parameters.values()), allow_unused=True)
    for target, gradient in zip(gradients.values(), computed, strict=True):
        if gradient is not None:
            target += (gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1)
    return gradients


def cosine(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Cosine of the angle between two gradients over all parameters together; 1 if both are zero."""
    product = sum(float((gradient.double() * second[name].double()).sum()) for name, gradient in first.items())
    sizes = [sum(float(gradient.double().square().sum()) for gradient in gradients.values()) for gradients in (first, second)]
    if sizes[0] == sizes[1] == 0:
        return 1.0
    return product / (sizes[0] * sizes[1]) ** 0.5 if 0 not in sizes else 0.0

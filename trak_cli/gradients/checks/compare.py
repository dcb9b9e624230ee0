"""Comparisons of outputs, and of the complete gradient of one sample, assembled from an engine's blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from trak_cli.gradients.contract import as_real
from trak_cli.types import AnyBlock, Block, FactorBlock


def gradient_of(parameters: Mapping[str, Tensor], blocks: Iterable[AnyBlock], position: int) -> dict[str, Tensor]:
    """The gradient of one sample of a batch, assembled from blocks: canonical name -> (d,) float32 or float64."""
    real = {name: as_real(parameter) for name, parameter in parameters.items()}
    gradients = {
        name: torch.zeros(value.numel(), device=value.device, dtype=torch.promote_types(value.dtype, torch.float32))
        for name, value in real.items()
    }
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


def difference(gradients: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """‖gradients − expected‖ / ‖expected‖ over all parameters together; 0 if both are zero."""
    distance = sum(_square(gradients[name] - reference) for name, reference in expected.items())
    size = sum(_square(reference) for reference in expected.values())
    return (distance / size) ** 0.5 if size else (0.0 if distance == 0 else float("inf"))


def _square(values: Tensor) -> float:
    return float(values.double().square().sum())


def largest_difference(first: Tensor, second: Tensor) -> tuple[int, float]:
    """Position and size of the largest difference; NaN and infinity count as equal, ``check_finite`` reports them."""
    difference = (first - second).abs().nan_to_num(0.0, 0.0, 0.0)
    position = int(difference.argmax())
    return position, float(difference[position])


def worst_output(outputs: Tensor, expected: Tensor) -> tuple[int, float]:
    """Position of the largest difference of outputs, and its size relative to max(1, largest expected output).

    NaN and infinity are ignored, as in :func:`largest_difference`.
    """
    position, difference = largest_difference(outputs.double(), expected.double())
    size = expected.double().abs().nan_to_num(0.0, 0.0, 0.0)
    return position, difference / max(1.0, float(size.max()))

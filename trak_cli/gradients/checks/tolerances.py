"""Allowed differences between two computations of the same output or gradient, by the coarsest dtype involved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.transforms.autocast import coarsest


@dataclass(frozen=True)
class Tolerance:
    """Allowed differences for one dtype.

    Attributes:
        output: of an output, relative to max(1, largest |f| of the batch).
        parameter: of the gradient of one parameter, relative to the norm of that gradient.
        total: added to it, relative to the norm of the gradient over all parameters.
        sample: of the gradient of a sample over all parameters, relative to its norm (`trak doctor`).
    """

    output: float
    parameter: float
    total: float
    sample: float


TOLERANCES = {
    torch.float64: Tolerance(output=1e-9, parameter=1e-6, total=1e-9, sample=1e-8),
    torch.float32: Tolerance(output=1e-4, parameter=1e-3, total=1e-5, sample=1e-3),
    torch.float16: Tolerance(output=2e-2, parameter=1e-2, total=1e-4, sample=2e-2),
    torch.bfloat16: Tolerance(output=1e-1, parameter=1e-1, total=1e-3, sample=1e-1),
}

#: Gradients that differ by more than this, relative to their norm, are wrong; below, rounding may be the reason, and they are
#: compared again in float64.
ROUNDING_LIMIT = 0.3


def gradient_tolerance(task: ModelOutput, dtype: torch.dtype) -> Tolerance:
    """The tolerance for the gradient of a parameter of this dtype under ``task``; float32's for a dtype not in the table."""
    return TOLERANCES.get(coarsest(task, dtype), TOLERANCES[torch.float32])


def output_tolerance(model: nn.Module, task: ModelOutput) -> float:
    """The allowed difference of an output: that of the coarsest dtype in which the model computes."""
    dtypes = {coarsest(task, parameter.dtype) for parameter in model.parameters()} & set(TOLERANCES) or {torch.float32}
    return max(TOLERANCES[dtype].output for dtype in dtypes)

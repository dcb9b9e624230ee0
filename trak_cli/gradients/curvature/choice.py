"""Whether a model allows products with several vectors at once, found by comparing them with plain autograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.checks.compare import gradient_of
from trak_cli.gradients.checks.tolerances import TOLERANCES
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.curvature.linearised import Jacobian
from trak_cli.gradients.loop import LoopEngine
from trak_cli.user_errors import is_out_of_memory


def choose_jacobian(
    model: nn.Module, task: Any, parameters: Mapping[str, Tensor], scales: Tensor | None, batch: Any
) -> Jacobian:
    """The Jacobian of the model, vectorised if that is correct on ``batch``.

    Raises:
        InputError: the model cannot be differentiated in the way that products with the Jacobian need.
    """
    expected = _gradients(model, task, parameters, batch)
    reasons = []
    for vectorised in (True, False):
        jacobian = Jacobian(model, parameters, scales, vectorised)
        try:
            difference = _difference(jacobian, task, batch, expected if scales is None else expected * scales)
        except (RuntimeError, NotImplementedError) as error:
            if is_out_of_memory(error):
                raise
            reasons.append(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            continue
        if difference <= TOLERANCES.get(expected.dtype, TOLERANCES[torch.float32]).sample:
            return jacobian
        reasons.append(f"products that differ from the gradients by {difference:.1e}")
    remedy = "choose other parameters with parameters.exclude, or use operations that PyTorch can differentiate twice"
    raise InputError(Problem("model", "; ".join(dict.fromkeys(reasons)), "a model with second derivatives", remedy))


def _gradients(model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any) -> Tensor:
    """∇f of every sample by plain autograd, one sample at a time, (B, p)."""
    blocks = list(LoopEngine(model, task, parameters).per_sample(batch).blocks)
    of_samples = (gradient_of(parameters, blocks, position) for position in range(batch_size(batch)))
    return torch.stack([torch.cat(list(gradients.values())) for gradients in of_samples])


def _difference(jacobian: Jacobian, task: Any, batch: Any, expected: Tensor) -> float:
    """The largest relative difference of products for f from the gradients, and of ‖J x‖² of predictions from ⟨Jᵀ J x, x⟩."""

    def output(model: nn.Module, batch: Any) -> Tensor:
        result: Tensor = task.output(model, batch)
        return result

    def predictions(model: nn.Module, batch: Any) -> Tensor:
        result: Tensor = task.predictions(model, batch)[0]
        return result

    found = jacobian.transposed(output, batch, lambda values: torch.eye(len(values)).to(values))
    _, products = jacobian.times(output, batch, expected)
    both = [(found, expected), (products, expected @ expected.T)]
    _, pushed = jacobian.times(predictions, batch, expected)
    pulled = jacobian.transposed(predictions, batch, lambda _: pushed)
    both.append(((pulled * expected).sum(1), pushed.flatten(1).square().sum(1)))
    return max(float((one - other).norm() / other.norm().clamp(min=1e-30)) for one, other in both)

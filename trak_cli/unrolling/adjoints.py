"""The derivative of f of the targets after the last step with respect to the state of the training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trak_cli.autograd_settings import as_in_evaluation
from trak_cli.errors import InputError, Problem
from trak_cli.unrolling.batch_norm import Statistics, differentiable_statistics
from trak_cli.unrolling.contract import Output, Target
from trak_cli.unrolling.model_state import ModelState, State, differentiable_names


def final_adjoints(model: nn.Module, places: ModelState, state: State, output: Output, targets: Sequence[Target]) -> State:
    """∂f/∂state of every target, in evaluation mode: (T, …) for each floating tensor.

    Raises:
        InputError: f of a target is not finite.
    """
    leaves = places.install(state)
    for name in places.buffers:
        value = state[f"buffer/{name}"].clone()
        if value.is_floating_point():
            leaves[f"buffer/{name}"] = value.requires_grad_()
        places.put_buffer(name, value)
    names = differentiable_names(state)
    adjoint = {name: state[name].new_zeros((len(targets), *state[name].shape)) for name in names}
    values = torch.zeros(len(targets), dtype=torch.float64)
    with as_in_evaluation(model), differentiable_statistics(Statistics()):
        for number, target in enumerate(targets):
            rows = 0
            for batch in target():
                found = output(model, batch)
                rows += len(found)
                values[number] += found.detach().double().sum().cpu()
                if not found.requires_grad:
                    continue
                slopes = torch.autograd.grad(found.sum(), list(leaves.values()), allow_unused=True)
                for name, slope in zip(leaves, slopes, strict=True):
                    if slope is not None:
                        adjoint[name][number] += slope
            values[number] /= rows
            for tensor in adjoint.values():
                tensor[number] /= rows
    if not torch.isfinite(values).all():
        remedy = "check the settings of the trainer: has the model diverged?"
        raise InputError(Problem("trainer", "f of a target that is NaN or infinite", "finite outputs", remedy))
    return adjoint

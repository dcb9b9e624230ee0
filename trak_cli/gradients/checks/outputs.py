"""Checks of outputs: they depend on the parameters, are the sum of their terms, and do not depend on other checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.checks.compare import largest_difference, worst_output
from trak_cli.gradients.checks.tolerances import output_tolerance
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.loop import backward
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.parameters import only
from trak_cli.gradients.refusals import checked_vector
from trak_cli.gradients.transforms.token_signs import TokenTerms, checked_terms
from trak_cli.types import listed


class TokenTermsOutput(ModelOutput, TokenTerms, Protocol):
    """A task whose output is a sum of per-token terms."""


def reached_parameters(model: nn.Module, task: ModelOutput, batch: Any, parameters: Mapping[str, Tensor]) -> set[str]:
    """The parameters that a path of the autograd graph connects with f of a sample of the batch."""
    with only(model, parameters), torch.enable_grad():
        outputs = checked_vector(task.output(model, batch), batch_size(batch), "output")
        if not outputs.requires_grad:
            return set()
        gradients = backward(outputs.sum(), parameters)
    return {name for name, gradient in gradients.items() if gradient is not None}


def unreached(in_training: Sequence[str]) -> InputError:
    """The error for an output that depends on none of the selected parameters: all gradients would be zero.

    Args:
        in_training: the parameters that it depends on in training mode.
    """
    expected = "an output connected to them in the autograd graph"
    if in_training:
        found = f"an output that depends on {listed(in_training)} in training mode, but on no selected parameter after eval()"
        remedy = "keep eval() from merging them into other weights; layers of loralib take merge_weights=False"
        return InputError(Problem("model", found, expected, remedy))
    found = "an output that depends on none of the selected parameters"
    remedy = "look for detach, no_grad, item or NumPy in the task and the model, and check parameters.include"
    return InputError(Problem("task.output", found, expected, remedy))


def check_terms(model: nn.Module, task: TokenTermsOutput, batch: Any) -> None:
    """Refuse a task whose per-token terms do not add up to its output.

    Raises:
        InputError: names the sample that differs most, and by how much.
    """
    with exact(), torch.no_grad():
        outputs = checked_vector(task.output(model, batch), batch_size(batch), "output").double()
        terms, exist = checked_terms(task.terms(model, batch))
    terms = terms.where(exist, 0.0).double()
    position, difference = largest_difference(outputs, terms.sum(1))
    # Large terms of both signs may have a small sum, so the tolerance is relative to the sum of absolute values.
    if difference > output_tolerance(model, task) * max(1.0, float(terms.abs().sum(1).nan_to_num(0.0, 0.0).max())):
        sums = f"terms with the sum {float(terms[position].sum()):.6g}, but f = {float(outputs[position]):.6g}"
        found = f"{sums}, for sample {position} of a batch of {len(outputs)}"
        remedy = "make terms and output consistent, or set gradients.terms=false"
        raise InputError(Problem("task.terms", found, "terms whose sum is the output", remedy))


def check_across_checkpoints(used: Tensor, alone: Tensor, limit: float, where: Sequence[str]) -> None:
    """Compare the outputs of a checkpoint in use after another one with its outputs alone.

    Args:
        limit: the allowed relative difference.
        where: the names of the samples, then the name of the checkpoint.

    Raises:
        InputError: an output differs by more than rounding.
    """
    *names, checkpoint = where
    worst, difference = worst_output(used, alone)
    if difference > limit:
        found = (
            f"f = {float(used[worst]):.6g} for {names[worst]} under {checkpoint} after another checkpoint, but"
            f" {float(alone[worst]):.6g} under this checkpoint alone; a class or a module of your code keeps a value"
        )
        remedy = "keep no value that depends on weights or samples in a class attribute, a global variable or a cached function"
        raise InputError(Problem("model", found, "an output that depends on the sample and the weights alone", remedy))

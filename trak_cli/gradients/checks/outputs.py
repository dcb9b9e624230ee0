"""Checks of a task's output before a run: it depends on one sample alone and on the parameters, and is the sum of its terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.checks.tolerances import output_tolerance
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.parameters import only
from trak_cli.gradients.refusals import checked_vector, random_output
from trak_cli.gradients.transforms.token_signs import TokenTerms, checked_terms
from trak_cli.user_errors import first_line

_LOOK_FOR = "look for BatchNorm that uses batch statistics, other statistics over the batch, or padding without a mask"


class TokenTermsOutput(ModelOutput, TokenTerms, Protocol):
    """A task whose output is a sum of per-token terms."""


def check_independence(model: nn.Module, task: ModelOutput, batch: Any, singles: Sequence[Any]) -> None:
    """Refuse a model whose output for a sample is random, or depends on the other samples of its batch.

    Args:
        batch: several samples, two at least, collated together.
        singles: the same samples in the same order, each collated alone, which reveals padding without a mask.

    Raises:
        InputError: names the sample that differs most, and by how much.
    """
    size = batch_size(batch)
    if size != len(singles) or size < 2:
        raise ValueError(f"at least two samples, and one single for each, are required; got {size} and {len(singles)} singles")
    with exact():
        together = _outputs(model, task, batch, size)
        again = _outputs(model, task, batch, size)
        alone = torch.cat([_alone(model, task, single) for single in singles])
    limit = output_tolerance(model, task) * max(1.0, float(together.abs().nan_to_num(0.0, 0.0).max()))
    position, repeated = _worst(together, again)
    if repeated > limit:
        raise random_output(f"f = {float(together[position]):.6g}, then {float(again[position]):.6g} for the same sample")
    position, difference = _worst(together, alone)
    if difference > limit:
        raise InputError(
            Problem(
                "model",
                f"f = {float(alone[position]):.6g} for a sample alone but {float(together[position]):.6g} for it "
                f"at position {position} of a batch of {size}",
                "an output that does not depend on the rest of the batch",
                _LOOK_FOR,
            )
        )


def check_reach(model: nn.Module, task: ModelOutput, single: Any, parameters: Mapping[str, Tensor]) -> None:
    """Refuse a task whose output depends on none of the selected parameters: all gradients would be zero.

    Raises:
        InputError: no path in the autograd graph leads from f to a parameter.
    """
    with only(model, parameters), torch.enable_grad():
        reached = checked_vector(task.output(model, single), 1, "output").requires_grad
    if not reached:
        raise InputError(
            Problem(
                "task.output",
                "an output that depends on none of the selected parameters",
                "an output connected to them in the autograd graph",
                "look for detach, no_grad, item or NumPy in the task and the model, and check parameters.include",
            )
        )


def check_terms(model: nn.Module, task: TokenTermsOutput, batch: Any) -> None:
    """Refuse a task whose per-token terms do not add up to its output.

    Raises:
        InputError: names the sample that differs most, and by how much.
    """
    with exact(), torch.no_grad():
        outputs = checked_vector(task.output(model, batch), batch_size(batch), "output").double()
        terms, exist = checked_terms(task.terms(model, batch))
    terms = terms.where(exist, 0.0).double()
    position, difference = _worst(outputs, terms.sum(1))
    # Large terms of both signs may have a small sum, so the tolerance is relative to the sum of absolute values.
    if difference > output_tolerance(model, task) * max(1.0, float(terms.abs().sum(1).nan_to_num(0.0, 0.0).max())):
        raise InputError(
            Problem(
                "task.terms",
                f"terms with the sum {float(terms[position].sum()):.6g}, but f = {float(outputs[position]):.6g}, for sample"
                f" {position} of a batch of {len(outputs)}",
                "terms whose sum is the output",
                "make terms and output consistent, or set gradients.terms=false",
            )
        )


def _outputs(model: nn.Module, task: ModelOutput, batch: Any, size: int) -> Tensor:
    """f of a batch, float64; with gradients enabled, so that the model computes it as it does in an engine."""
    with torch.enable_grad():
        return checked_vector(task.output(model, batch), size, "output").detach().double()


def _alone(model: nn.Module, task: ModelOutput, single: Any) -> Tensor:
    """f of a batch of one; a normalisation layer may raise for one sample where it accepts several."""
    try:
        return _outputs(model, task, single, 1)
    except ValueError as error:
        raise InputError(
            Problem(
                "model",
                f"a failure on a sample alone, but not on several ({first_line(error, type(error).__name__)})",
                "an output that does not depend on the rest of the batch",
                _LOOK_FOR,
            )
        ) from error


def _worst(first: Tensor, second: Tensor) -> tuple[int, float]:
    """Position and size of the largest difference; NaN and infinity count as equal, ``check_finite`` reports them."""
    difference = (first - second).abs().nan_to_num(0.0, 0.0, 0.0)
    position = int(difference.argmax())
    return position, float(difference[position])

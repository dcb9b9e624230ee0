"""Checks made before and during a run: is the output a function of one sample alone, and is everything finite?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.numerics import exact
from trak_cli.gradients.parameters import only
from trak_cli.gradients.refusals import checked_vector, first_line, random_output
from trak_cli.gradients.transforms.autocast import coarsest
from trak_cli.gradients.transforms.token_signs import Terms, checked_terms

_LOOK_FOR = "look for BatchNorm that uses batch statistics, other statistics over the batch, or padding without a mask"

#: Allowed difference between two computations of the same output, relative to max(1, largest |f| of the batch).
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class TermsOutput(ModelOutput, Terms, Protocol):
    """A task with terms."""


def check_independence(model: nn.Module, task: ModelOutput, batch: Any, singles: Sequence[Any]) -> None:
    """Refuse a model whose output for a sample is random, or depends on the other samples of its batch.

    Args:
        batch: several samples, two at least, collated together.
        singles: the same samples in the same order, each collated alone (so that a padding without a mask shows).

    Raises:
        InputError: names the sample that differs most, and by how much.
    """
    size = batch_size(batch)
    if size != len(singles) or size < 2:
        raise ValueError(f"need one single for each of two samples or more, got {len(singles)} for {size}")
    with exact():
        together = _outputs(model, task, batch, size)
        again = _outputs(model, task, batch, size)
        alone = torch.cat([_alone(model, task, single) for single in singles])
    limit = tolerance(model, task) * max(1.0, float(together.abs().nan_to_num(0.0, 0.0).max()))
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
    """Refuse a task whose output is cut off from every selected parameter: all its gradients would be zero.

    Raises:
        InputError: autograd finds no way from f to a parameter.
    """
    with only(model, parameters), torch.enable_grad():
        reached = checked_vector(task.output(model, single), 1, "output").requires_grad
    if not reached:
        raise InputError(
            Problem(
                "task.output",
                "an output that depends on none of the selected parameters",
                "an output that autograd can follow back to them",
                "look for detach, no_grad, item or NumPy on the way, and at parameters.include",
            )
        )


def check_terms(model: nn.Module, task: TermsOutput, batch: Any) -> None:
    """Refuse a task whose terms do not add up to its output.

    Raises:
        InputError: names the sample that differs most, and by how much.
    """
    with exact(), torch.no_grad():
        whole = checked_vector(task.output(model, batch), batch_size(batch), "output").double()
        terms, exist = checked_terms(task.terms(model, batch))
    # A sum of large terms of both signs may be small: it is as exact as they are.
    sizes = terms.where(exist, 0.0).double()
    position, difference = _worst(whole, sizes.sum(1))
    if difference > tolerance(model, task) * max(1.0, float(sizes.abs().sum(1).nan_to_num(0.0, 0.0).max())):
        raise InputError(
            Problem(
                "task.terms",
                f"terms with the sum {float(sizes[position].sum()):.6g} where f = {float(whole[position]):.6g}, for sample"
                f" {position} of a batch of {len(whole)}",
                "the terms whose sum is the output",
                "let terms follow output, or set gradients.terms=false",
            )
        )


def first_not_finite(values: Tensor) -> int | None:
    """The first row of ``values``, (B,) or (B, d), that holds a NaN or an infinity; None when all are finite."""
    if values.numel() == 0:
        return None
    rows = values.reshape(len(values), -1)
    # The extremes of a row carry its NaNs and infinities, and need B numbers where isfinite needs B × d.
    finite = rows.amin(dim=1).isfinite() & rows.amax(dim=1).isfinite()
    bad = (~finite).nonzero()
    return int(bad[0, 0]) if len(bad) else None


def check_finite(values: Tensor, names: Sequence[str], what: str) -> None:
    """Refuse rows that are not finite.

    Args:
        values: (B,) or (B, d).
        names: what to call each row, for example "train sample 17".
        what: what the values are, for example "gradient of c1.weight".

    Raises:
        InputError: names the first sample that has a NaN or an infinity.
    """
    position = first_not_finite(values)
    if position is not None:
        row = values[position].reshape(-1)
        kind = "NaN" if bool(row.isnan().any()) else "an infinity"
        raise InputError(
            Problem(
                names[position],
                f"{kind} in the {what}",
                "finite numbers",
                "look at this sample and at the checkpoint; float16 models overflow where bfloat16 or float32 do not",
            )
        )


def _outputs(model: nn.Module, task: ModelOutput, batch: Any, size: int) -> Tensor:
    """f of a batch, float64; with gradients enabled, so that it takes the same path as in an engine."""
    with torch.enable_grad():
        return checked_vector(task.output(model, batch), size, "output").detach().double()


def _alone(model: nn.Module, task: ModelOutput, single: Any) -> Tensor:
    """f of a batch of one, for a model that took a batch of several: normalisation layers refuse to see one sample."""
    try:
        return _outputs(model, task, single, 1)
    except ValueError as error:
        raise InputError(
            Problem(
                "model",
                f"a failure on a sample alone, but not on several ({first_line(error)})",
                "an output that does not depend on the rest of the batch",
                _LOOK_FOR,
            )
        ) from error


def _worst(first: Tensor, second: Tensor) -> tuple[int, float]:
    """Position and size of the largest difference; values that are not finite are another check's business."""
    difference = (first - second).abs().nan_to_num(0.0, 0.0, 0.0)
    position = int(difference.argmax())
    return position, float(difference[position])


def tolerance(model: nn.Module, task: ModelOutput) -> float:
    """The tolerance of the coarsest dtype that the model computes in."""
    dtypes = {coarsest(task, parameter.dtype) for parameter in model.parameters()} & set(_TOLERANCE) or {torch.float32}
    return max(_TOLERANCE[dtype] for dtype in dtypes)

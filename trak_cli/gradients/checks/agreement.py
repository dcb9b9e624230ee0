"""Whether an engine gives, for a few samples, the outputs and gradients of the loop, up to rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.autograd_settings import as_float64, in_float64
from trak_cli.batches import batch_size, map_leaves, one_sample
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.checks.compare import gradient_of, worst_output
from trak_cli.gradients.checks.tolerances import ROUNDING_LIMIT, gradient_tolerance, output_tolerance
from trak_cli.gradients.contract import Engine, ModelOutput, PerSample
from trak_cli.gradients.loop import LoopEngine
from trak_cli.gradients.transforms.autocast import Autocast

#: Stands for f and q among the names of parameters.
OUTPUT = ":output"


def check_agreement(engine: Engine, model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any) -> None:
    """Refuse an engine whose outputs or gradients differ from the loop's for a sample of ``batch``.

    Raises:
        InputError: they differ, or the engine does not accept the batch.
    """

    def compare(batch: Any) -> dict[str, float]:
        return differences_from_loop(engine.per_sample, model, task, parameters, batch)

    wrong = confirmed_differences(compare, model, task, parameters, batch)
    if wrong:
        what = "outputs" if wrong == [OUTPUT] else f"gradients of {next(name for name in wrong if name != OUTPUT)}"
        raise disagreement(f"gradients={engine.name}", what)


def disagreement(where: str, what: str) -> InputError:
    """The error for outputs or gradients that differ from the loop's, with the loop as the remedy."""
    found = f"other {what} in a batch than for a sample alone"
    return InputError(Problem(where, found, "the same values however they are computed", "run again with gradients=loop"))


def confirmed_differences(
    compare: Callable[[Any], dict[str, float]],
    model: nn.Module,
    task: ModelOutput,
    parameters: Mapping[str, Tensor],
    batch: Any,
) -> list[str]:
    """The names that ``compare`` returns; where rounding may explain the differences, those that float64 confirms.

    Two correct computations can differ by more than any bound on rounding: an input of a ReLU near zero may be rounded to
    either side, and a GPU may use fast convolutions.
    """
    wrong = compare(batch)
    if not wrong or max(wrong.values()) > ROUNDING_LIMIT or isinstance(task, Autocast):
        return list(wrong)
    if any(parameter.dtype != torch.float32 for parameter in parameters.values()):
        return list(wrong)
    try:
        with in_float64(model):
            return list(compare(map_leaves(as_float64, batch)))
    except (RuntimeError, TypeError, InputError):  # the model cannot compute in float64
        return list(wrong)


def differences_from_loop(
    attempt: Callable[[Any], PerSample],
    model: nn.Module,
    task: ModelOutput,
    parameters: Mapping[str, Tensor],
    batch: Any,
    refused: Sequence[object] = (),
) -> dict[str, float]:
    """The parameters whose gradients by ``attempt`` differ from the loop's for any sample of ``batch``; OUTPUT for f or q.

    Args:
        refused: where ``attempt`` records what it leaves out; if it leaves out anything, only the first sample is compared.

    Returns:
        name -> the largest difference: of a gradient, relative to its norm or to a thousandth of the norm over all
        parameters, whichever is larger; of outputs, relative to max(1, largest output).
    """
    loop = LoopEngine(model, task, parameters)
    wrong: dict[str, float] = {}

    def note(name: str, difference: float) -> None:
        wrong[name] = max(wrong.get(name, 0.0), difference if math.isfinite(difference) else math.inf)

    for position in range(batch_size(batch)):
        attempted, alone = attempt(batch), loop.per_sample(one_sample(batch, position))
        for values, expected in ((attempted.outputs, alone.outputs), (attempted.out_to_loss, alone.out_to_loss)):
            _, difference = worst_output(values[position : position + 1], expected)
            if difference > output_tolerance(model, task):
                note(OUTPUT, difference)
        gradients = gradient_of(parameters, attempted.blocks, position)
        references = gradient_of(parameters, alone.blocks, 0)
        total = torch.stack([reference.norm() for reference in references.values()]).norm()
        for name, reference in references.items():
            allowed = gradient_tolerance(task, parameters[name].dtype)
            distance, size = (gradients[name] - reference).norm(), reference.norm()
            if not distance <= allowed.parameter * size + allowed.total * total:
                note(name, float(distance / torch.maximum(size, 1e-3 * total)))
        if refused:
            break
    return {name: wrong[name] for name in (*parameters, OUTPUT) if name in wrong}

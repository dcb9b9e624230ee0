"""Whether a way of computing gradients gives, for a few samples, what the loop gives; and not by rounding alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size, map_leaves, one_sample
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.checks.checks import tolerance
from trak_cli.gradients.checks.compare import gradient_of
from trak_cli.gradients.contract import Engine, ModelOutput, PerSample
from trak_cli.gradients.loop import LoopEngine
from trak_cli.gradients.transforms.autocast import Autocast, coarsest

#: What stands for f and q among the names of parameters.
OUTPUT = ":output"

#: Allowed difference: relative to the gradient of the parameter itself, and to the whole gradient.
_TOLERANCE = {
    torch.float64: (1e-6, 1e-9),
    torch.float32: (1e-3, 1e-5),
    torch.bfloat16: (1e-1, 1e-3),
    torch.float16: (1e-2, 1e-4),
}

#: Relative difference up to which rounding is suspected, and gradients are compared in float64.
_NEARLY = 0.3


def check_agreement(engine: Engine, model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any) -> None:
    """Refuse an engine that gives other outputs or gradients than the loop for a sample of ``batch``.

    Raises:
        InputError: it does, or it does not take the batch.
    """

    def compare(batch: Any) -> dict[str, float]:
        return differing(engine.per_sample, model, task, parameters, batch)

    wrong = beyond_rounding(compare, model, task, parameters, batch)
    if wrong:
        what = "outputs" if wrong == [OUTPUT] else f"gradients of {next(name for name in wrong if name != OUTPUT)}"
        raise other_than_alone(f"gradients={engine.name}", what)


def other_than_alone(where: str, what: str) -> InputError:
    """No way but the loop gives what a sample alone gives."""
    return InputError(
        Problem(
            where,
            f"other {what} in a batch than for a sample alone",
            "the same however they are computed",
            "run again with gradients=loop",
        )
    )


def beyond_rounding(
    compare: Callable[[Any], dict[str, float]],
    model: nn.Module,
    task: ModelOutput,
    parameters: Mapping[str, Tensor],
    batch: Any,
) -> list[str]:
    """What differs by ``compare``, and in float64 too where float32 differs by as little as rounding may.

    A ReLU's input near zero, rounded to the other side, or a GPU's fast convolutions make two right ways differ by more than
    any bound on rounding.
    """
    wrong = compare(batch)
    if not wrong or max(wrong.values()) > _NEARLY or isinstance(task, Autocast):
        return list(wrong)
    if any(one.dtype != torch.float32 for one in parameters.values()):
        return list(wrong)
    try:
        with doubled(model):
            return list(compare(map_leaves(_double, batch)))
    except (RuntimeError, TypeError, InputError):  # something in the model insists on float32
        return list(wrong)


def differing(
    attempt: Callable[[Any], PerSample],
    model: nn.Module,
    task: ModelOutput,
    parameters: Mapping[str, Tensor],
    batch: Any,
    refused: Sequence[object] = (),
) -> dict[str, float]:
    """The parameters whose gradients by ``attempt`` are not those of the loop for any sample of ``batch``; OUTPUT for f or q.

    Each with the largest difference, relative to the gradient of the parameter or, where this is larger, to a thousandth of
    the whole gradient; that of outputs relative to the largest, or to one.

    Args:
        refused: where ``attempt`` notes what it left out; the first sample then tells enough.
    """
    loop = LoopEngine(model, task, parameters)
    wrong: dict[str, float] = {}

    def note(name: str, share: float) -> None:
        wrong[name] = max(wrong.get(name, 0.0), share if math.isfinite(share) else math.inf)

    for position in range(batch_size(batch)):
        tried, alone = attempt(batch), loop.per_sample(one_sample(batch, position))
        for found, expected in ((tried.outputs, alone.outputs), (tried.out_to_loss, alone.out_to_loss)):
            share = apart(found[position : position + 1], expected)
            if share > tolerance(model, task):
                note(OUTPUT, share)
        gradients = gradient_of(parameters, tried.blocks, position)
        references = gradient_of(parameters, alone.blocks, 0)
        whole = torch.stack([one.norm() for one in references.values()]).norm()
        for name, one in references.items():
            relative, absolute = _TOLERANCE.get(coarsest(task, parameters[name].dtype), (1e-3, 1e-5))
            difference = (gradients[name] - one).norm()
            if not difference <= relative * one.norm() + absolute * whole:
                note(name, float(difference / torch.maximum(one.norm(), 1e-3 * whole)))
        if refused:
            break
    return {name: wrong[name] for name in (*parameters, OUTPUT) if name in wrong}


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference of outputs, relative to the largest of them or to one; what is not finite is not judged."""
    if found.shape != expected.shape:
        return math.inf
    difference = (found.double() - expected.double()).abs().nan_to_num(0.0, 0.0, 0.0)
    size = expected.double().abs().nan_to_num(0.0, 0.0, 0.0)
    return float(difference.max()) / max(1.0, float(size.max()))


@contextmanager
def doubled(model: nn.Module) -> Iterator[None]:
    """Inside: float32 parameters and buffers in float64; then they are what they were."""
    parameters = [(one, one.data) for one in model.parameters() if one.dtype == torch.float32]
    buffers = [
        (module, name, one)
        for module in model.modules()
        for name, one in module._buffers.items()
        if one is not None and one.dtype == torch.float32
    ]
    try:
        for parameter, data in parameters:
            parameter.data = data.double()
        for module, name, one in buffers:
            module._buffers[name] = one.double()
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for module, name, one in buffers:
            module._buffers[name] = one


def _double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.dtype == torch.float32 else leaf

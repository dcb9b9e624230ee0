"""The search for a right way: every parameter's gradients are compared with the loop's, and what differs goes another way."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size, map_leaves, one_sample
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.autocast import Autocast, coarsest
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.hooks.engine import HooksEngine
from trak_cli.gradients.hooks.recorder import NotSeparableError
from trak_cli.gradients.hooks.routes import Routes, first_routes, next_route
from trak_cli.gradients.loop import LoopEngine
from trak_cli.gradients.parameters import only
from trak_cli.gradients.whole import gradient_of

#: Samples of the batch that are compared.
SAMPLES = 3

#: Allowed difference: relative to the gradient of the parameter itself, and to the whole gradient.
_TOLERANCE = {
    torch.float64: (1e-6, 1e-9),
    torch.float32: (1e-3, 1e-5),
    torch.bfloat16: (1e-1, 1e-3),
    torch.float16: (1e-2, 1e-4),
}

#: Relative difference up to which rounding is suspected, and gradients are compared in float64.
_NEARLY = 0.3


def find_routes(
    model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any, factored: Collection[str] = ()
) -> Routes:
    """A way for every parameter by which the first samples of ``batch`` get the gradients that the loop gives them.

    Where float32 gradients differ they are compared again in float64: a ReLU's input near zero, rounded to the other side, or
    a GPU's fast convolutions make two right ways differ by more than any bound on rounding.

    Args:
        factored: the parameters whose gradients the engine is to give as factors; these are then what is compared.

    Raises:
        InputError: the model does not keep the contract, or the loop itself contradicts the outputs of a batch.
    """
    some = _first(batch, min(batch_size(batch), SAMPLES))
    routes = first_routes(model, parameters, _unused(model, task, parameters, some))
    while wrong := _wrong(model, task, parameters, routes, some, factored):
        for name in wrong:
            route = next_route(model, name, parameters[name], routes.get(name))
            if route is None:
                raise InputError(
                    Problem(
                        f"parameter {name}",
                        "other gradients in a batch than for a sample alone",
                        "the same gradients however they are computed",
                        "run again with gradients=loop",
                    )
                )
            routes[name] = route
    return routes


def _unused(model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any) -> set[str]:
    """The parameters from which autograd finds no way to the outputs."""
    with only(model, parameters), torch.enable_grad():
        outputs = task.output(model, batch)
        if not outputs.requires_grad:
            return set(parameters)
        found: Sequence[Tensor | None] = torch.autograd.grad(outputs.sum(), list(parameters.values()), allow_unused=True)
    return {name for name, gradient in zip(parameters, found, strict=True) if gradient is None}


def _wrong(
    model: nn.Module,
    task: ModelOutput,
    parameters: Mapping[str, Tensor],
    routes: Routes,
    batch: Any,
    factored: Collection[str],
) -> list[str]:
    """The parameters whose routes give other gradients than the loop, and not by rounding alone."""
    wrong = differing(model, task, parameters, routes, batch, factored)
    if not wrong or max(wrong.values()) > _NEARLY or isinstance(task, Autocast):
        return list(wrong)
    if any(one.dtype != torch.float32 for one in parameters.values()):
        return list(wrong)
    try:
        with doubled(model):
            return list(differing(model, task, parameters, routes, map_leaves(_double, batch), factored))
    except (RuntimeError, TypeError, InputError):  # something in the model insists on float32
        return list(wrong)


def differing(
    model: nn.Module,
    task: ModelOutput,
    parameters: Mapping[str, Tensor],
    routes: Routes,
    batch: Any,
    factored: Collection[str] = (),
) -> dict[str, float]:
    """The parameters whose gradients, for any sample of ``batch``, are not those of the loop, or could not be had.

    Each with the largest difference, relative to the gradient of the parameter or, where this is larger, to a thousandth of
    the whole gradient; infinite for what could not be had.
    """
    engine, loop = HooksEngine(model, task, parameters, routes, factored), LoopEngine(model, task, parameters)
    refused: list[NotSeparableError] = []
    wrong: dict[str, float] = {}
    for position in range(batch_size(batch)):
        found = gradient_of(parameters, engine.attempt(batch, refused.append).blocks, position)
        expected = gradient_of(parameters, loop.per_sample(one_sample(batch, position)).blocks, 0)
        whole = torch.stack([one.norm() for one in expected.values()]).norm()
        for name, one in expected.items():
            relative, absolute = _TOLERANCE.get(coarsest(task, parameters[name].dtype), (1e-3, 1e-5))
            difference = (found[name] - one).norm()
            if not difference <= relative * one.norm() + absolute * whole:
                share = float(difference / torch.maximum(one.norm(), 1e-3 * whole))
                wrong[name] = max(wrong.get(name, 0.0), share if math.isfinite(share) else math.inf)
        if refused:
            break
    for error in refused:
        wrong |= {name: math.inf for name in parameters if engine.passes(name, error.site[0])}
    return {name: wrong[name] for name in parameters if name in wrong}


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


def _first(batch: Any, count: int) -> Any:
    """The first samples of a batch; of a single one a copy, so that there are two to be told apart."""

    def cut(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf[:count] if count > 1 else torch.cat([leaf[:1], leaf[:1]])
        return (leaf[:count] if count > 1 else leaf * 2) if isinstance(leaf, list | tuple) else leaf

    return map_leaves(cut, batch)

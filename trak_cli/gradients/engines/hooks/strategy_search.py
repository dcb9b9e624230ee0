"""The search for a right way: every parameter's gradients are compared with the loop's, and what differs goes another way."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size, map_leaves
from trak_cli.gradients.checks.agreement import OUTPUT, beyond_rounding, differing, other_than_alone
from trak_cli.gradients.contract import ModelOutput
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.recorder import NotSeparableError
from trak_cli.gradients.engines.hooks.strategies import Routes, first_routes, next_route
from trak_cli.gradients.parameters import only

#: Samples of the batch that are compared.
SAMPLES = 3


def find_routes(
    model: nn.Module, task: ModelOutput, parameters: Mapping[str, Tensor], batch: Any, factored: Collection[str] = ()
) -> Routes:
    """A way for every parameter by which the first samples of ``batch`` get the gradients that the loop gives them.

    Args:
        factored: the parameters whose gradients the engine is to give as factors; these are then what is compared.

    Raises:
        InputError: the model does not keep the contract, or the loop itself contradicts what a batch gives.
    """
    some = _first(batch, min(batch_size(batch), SAMPLES))
    routes = first_routes(model, parameters, _unused(model, task, parameters, some))
    while wrong := _wrong(model, task, parameters, routes, some, factored):
        if wrong == [OUTPUT]:
            raise other_than_alone("gradients=hooks", "outputs")
        for name in wrong:
            if name == OUTPUT:  # a way of some parameter may be what changes them
                continue
            route = next_route(model, name, parameters[name], routes.get(name))
            if route is None:
                raise other_than_alone(f"parameter {name}", "gradients")
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
    """The parameters whose routes miss a use of them, or give other gradients than the loop, and not by rounding alone."""
    engine = HooksEngine(model, task, parameters, routes, factored)
    escaping = engine.escaping(batch)
    if escaping:
        return [name for name in parameters if name in escaping]

    def compare(batch: Any) -> dict[str, float]:
        refused: list[NotSeparableError] = []
        wrong = differing(lambda some: engine.attempt(some, refused.append), model, task, parameters, batch, refused)
        for error in refused:
            wrong |= {name: math.inf for name in parameters if engine.passes(name, error.site[0])}
        return wrong

    return beyond_rounding(compare, model, task, parameters, batch)


def _first(batch: Any, count: int) -> Any:
    """The first samples of a batch; of a single one a copy, so that there are two to be told apart."""

    def cut(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf[:count] if count > 1 else torch.cat([leaf[:1], leaf[:1]])
        return (leaf[:count] if count > 1 else leaf * 2) if isinstance(leaf, list | tuple) else leaf

    return map_leaves(cut, batch)

"""One training step as a differentiable function of the state before it and of the weights of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trak_cli.errors import InputError, Problem
from trak_cli.types import listed
from trak_cli.unrolling.batch_norm import Statistics, differentiable_statistics
from trak_cli.unrolling.contract import StepRun
from trak_cli.unrolling.model_state import ModelState, State


@dataclass(frozen=True)
class StepGraph:
    """The graph of one step.

    Attributes:
        index: the number of the step.
        positions: (B,) int64, the samples of its batch.
        weights: (B,) their weights, all 1: a leaf.
        before: the state before the step: leaves.
        after: the state after the step, differentiable.
        values: the state after the step, without its graph.
    """

    index: int
    positions: Tensor
    weights: Tensor
    before: State
    after: State
    values: State

    def pull(self, adjoint: State, derivative: Tensor, keep: bool) -> None:
        """Take the adjoints of T targets from after the step to before it, in place.

        Args:
            adjoint: (T, …) for each differentiable tensor of the state: ∂f/∂(state after); becomes ∂f/∂(state before).
            derivative: (T, n) float64; ∂f/∂w of the samples of this step is added.
            keep: whether the graph is used again.
        """
        outputs = {name: value for name, value in self.after.items() if name in adjoint and value.requires_grad}
        leaves = [self.before[name] for name in adjoint]
        count = len(derivative)
        for target in range(count):
            found: tuple[Any, ...] = torch.autograd.grad(
                list(outputs.values()),
                [*leaves, self.weights],
                [adjoint[name][target] for name in outputs],
                retain_graph=keep or target + 1 < count,
                allow_unused=True,
            )
            *slopes, weights = found
            for values, slope in zip(adjoint.values(), slopes, strict=True):
                if slope is None:
                    values[target].zero_()
                else:
                    values[target].copy_(slope)
            if weights is not None:
                derivative[target].index_add_(0, self.positions, weights.to("cpu", torch.float64))


def make_step(run: StepRun, model: ModelState, index: int, before: Mapping[str, Tensor]) -> StepGraph:
    """Make step ``index`` from a state, with its graph.

    Raises:
        InputError: the forward pass changed a parameter, or a buffer that the first step did not change.
    """
    leaves = model.install(before)
    parameters = list(leaves.values())
    positions, batch = run.batch(index)
    weights = unit_weights(positions, parameters).requires_grad_()
    statistics = Statistics()
    for name in model.buffers:
        buffer = model.buffer(name)
        leaves[f"buffer/{name}"] = leaf = _leaf(before[f"buffer/{name}"])
        if leaf.requires_grad:
            statistics.start(buffer, leaf)
    started = {name: id(model.buffer(name)) for name in model.buffers}
    marks = model.marks()
    with differentiable_statistics(statistics):
        loss = run.loss(batch, weights)
    _check_marks(marks, model.marks(), index)
    grads = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    leaves |= {name: _leaf(value) for name, value in before.items() if name.startswith("state/")}
    new, changed = run.advance(parameters, grads, unpacked(leaves), index)
    after = {f"parameter/{name}": value for name, value in zip(model.names, new, strict=True)} | packed(changed)
    values = {name: value.detach() for name, value in after.items()}
    for name, identity in started.items():
        values[f"buffer/{name}"] = model.buffer(name).detach()
        after[f"buffer/{name}"] = statistics.updated.get(identity, values[f"buffer/{name}"])
    return StepGraph(index, torch.tensor(positions, dtype=torch.int64), weights, leaves, after, values)


def _check_marks(before: Mapping[str, object], after: Mapping[str, object], index: int) -> None:
    if changed := [name for name, mark in before.items() if after.get(name) != mark]:
        found = f"a forward pass that changes {listed(changed)} in step {index + 1}"
        expected = "parameters that only the optimizer changes, and buffers that change in every step or in none"
        remedy = "compute the changed value without storing it (for an embedding, leave out max_norm)"
        raise InputError(Problem("model", found, expected, remedy))


def packed(state: Mapping[str, Sequence[Tensor]]) -> State:
    """The state of an optimizer under the names that :data:`State` has for it."""
    return {f"state/{name}/{number}": value for name, values in state.items() for number, value in enumerate(values)}


def unpacked(state: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The inverse of :func:`packed`."""
    found: dict[str, list[Tensor]] = {}
    for name, value in state.items():
        kind, _, rest = name.partition("/")
        if kind == "state":
            found.setdefault(rest.rpartition("/")[0], []).append(value)
    return found


def _leaf(value: Tensor) -> Tensor:
    """A tensor that shares the value's memory; a leaf of the graph if it can be differentiated."""
    return value.detach().requires_grad_(value.is_floating_point() or value.is_complex())


def unit_weights(positions: Sequence[int], parameters: Sequence[Tensor]) -> Tensor:
    """Weights 1 of the samples of a batch, (B,), in float64 if a parameter is."""
    wide = any(parameter.dtype == torch.float64 for parameter in parameters)
    return torch.ones(len(positions), dtype=torch.float64 if wide else torch.float32, device=parameters[0].device)

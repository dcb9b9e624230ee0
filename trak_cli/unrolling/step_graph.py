"""One training step as a differentiable function of the state before it and of the weights of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trak_cli.errors import InputError, Problem
from trak_cli.types import listed
from trak_cli.unrolling.batch_norm import Statistics, differentiable_statistics
from trak_cli.unrolling.contract import StepRun
from trak_cli.unrolling.model_state import ModelState, State, is_differentiable, packed, unpacked
from trak_cli.unrolling.update_derivative import ClosedForm, UpdateGraph


@dataclass(frozen=True)
class StepGraph:
    """The graph of the gradient of one step. That of the update is made when it is needed: it takes more memory than time.

    Attributes:
        run: the training.
        index: the number of the step.
        positions: (B,) int64, the samples of its batch.
        weights: (B,) their weights, all 1: a leaf.
        before: parameters and buffers before the step: leaves.
        state: that of the optimizer before the step.
        grads: of the loss, differentiable; None for a parameter that it does not reach.
        buffers: after the step, differentiable.
        values: the state after the step.
    """

    run: StepRun
    index: int
    positions: Tensor
    weights: Tensor
    before: State
    state: State
    grads: Sequence[Tensor | None]
    buffers: State
    values: State

    def pull(self, adjoint: State, derivative: Tensor, keep: bool) -> None:
        """Take the adjoints of T targets from after the step to before it, in place.

        Args:
            adjoint: (T, …) for each differentiable tensor of the state: ∂f/∂(state after); becomes ∂f/∂(state before).
            derivative: (T, n) float64; ∂f/∂w of the samples of this step is added.
            keep: whether the graph is used again.
        """
        update, count = self.update_derivative(), len(derivative)
        for target in range(count):
            last = target + 1 == count
            of_target = {name: value[target] for name, value in adjoint.items()}
            to_grads = update.pull(of_target, retain=not last)
            weights = self._pull(of_target, to_grads, retain=keep or not last)
            if weights is not None:
                derivative[target].index_add_(0, self.positions, weights.to("cpu", torch.float64))

    def update_derivative(self) -> UpdateGraph | ClosedForm:
        """The derivative of the update of this step: in closed form if the trainer has one, else by its graph."""
        pullback = self.run.pullback(self.grads, unpacked(self.values), self.index)
        return self.update() if pullback is None else ClosedForm(pullback)

    def update(self) -> UpdateGraph:
        """The update of this step, with its graph."""
        parameters = {name: _leaf(value) for name, value in self.before.items() if name.startswith("parameter/")}
        state = {name: _leaf(value) for name, value in self.state.items()}
        grads = [None if grad is None else grad.detach().requires_grad_() for grad in self.grads]
        with torch.enable_grad():
            new, changed = self.run.advance(list(parameters.values()), grads, unpacked(state), self.index)
        return UpdateGraph(parameters | state, grads, dict(zip(parameters, new, strict=True)) | packed(changed))

    def outputs(self) -> list[Tensor]:
        """What the graph ends in: the gradients and the buffers."""
        return [value for value in (*self.grads, *self.buffers.values()) if value is not None and value.requires_grad]

    def _pull(self, adjoint: State, to_grads: Sequence[Tensor | None], retain: bool) -> Tensor | None:
        """Add to the adjoint what goes through the gradients and the buffers; returns the slope of the weights."""
        to_buffers = {name: adjoint[name].clone() for name in self.buffers if name in adjoint}
        for name in to_buffers:
            adjoint[name].zero_()
        pairs = [*zip(self.grads, to_grads, strict=True), *((self.buffers[name], to) for name, to in to_buffers.items())]
        known = [(value, to) for value, to in pairs if value is not None and to is not None and value.requires_grad]
        leaves = {name: leaf for name, leaf in self.before.items() if leaf.requires_grad}
        if not known:
            return None
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            [value for value, _ in known],
            [*leaves.values(), self.weights],
            [to for _, to in known],
            retain_graph=retain,
            allow_unused=True,
        )
        for name, slope in zip(leaves, found[:-1], strict=True):
            if slope is not None:
                adjoint[name].add_(slope)
        return found[-1]


def make_step(run: StepRun, model: ModelState, index: int, before: Mapping[str, Tensor]) -> StepGraph:
    """Make step ``index`` from a state, with the graph of its gradient.

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
    slopes: Sequence[Tensor | None] = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    grads = [dense(grad) for grad in slopes]
    values = _updated(run, model, index, before, parameters, grads)
    state = {name: value for name, value in before.items() if name.startswith("state/")}
    buffers = {f"buffer/{name}": statistics.updated.get(started[name], values[f"buffer/{name}"]) for name in model.buffers}
    return StepGraph(run, index, torch.tensor(positions, dtype=torch.int64), weights, leaves, state, grads, buffers, values)


def make_values(run: StepRun, model: ModelState, index: int, before: Mapping[str, Tensor]) -> State:
    """The state after step ``index``, without any graph.

    Raises:
        InputError: see :func:`make_step`.
    """
    parameters = list(model.install(before).values())
    positions, batch = run.batch(index)
    marks = model.marks()
    loss = run.loss(batch, unit_weights(positions, parameters))
    _check_marks(marks, model.marks(), index)
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return _updated(run, model, index, before, parameters, grads)


def _updated(
    run: StepRun,
    model: ModelState,
    index: int,
    before: Mapping[str, Tensor],
    parameters: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> State:
    """The state after an update; the buffers are those that the forward pass has left in the model."""
    with torch.no_grad():
        plain = [None if grad is None else grad.detach() for grad in grads]
        new, changed = run.advance([value.detach() for value in parameters], plain, unpacked(before), index)
    after = {f"parameter/{name}": value for name, value in zip(model.names, new, strict=True)} | packed(changed)
    after |= {f"buffer/{name}": model.buffer(name) for name in model.buffers}
    return {name: value.detach() for name, value in after.items()}


def dense(grad: Tensor | None) -> Tensor | None:
    """A gradient, which embeddings may give as a sparse tensor."""
    return grad.to_dense() if grad is not None and grad.is_sparse else grad


def _check_marks(before: Mapping[str, object], after: Mapping[str, object], index: int) -> None:
    if changed := [name for name, mark in before.items() if after.get(name) != mark]:
        found = f"a forward pass that changes {listed(changed)} in step {index + 1}"
        expected = "parameters that only the optimizer changes, and buffers that change in every step or in none"
        remedy = "compute the changed value without storing it (for an embedding, leave out max_norm)"
        raise InputError(Problem("model", found, expected, remedy))


def _leaf(value: Tensor) -> Tensor:
    """A tensor that shares the value's memory; a leaf of the graph if it can be differentiated."""
    return value.detach().requires_grad_(is_differentiable(value))


def unit_weights(positions: Sequence[int], parameters: Sequence[Tensor]) -> Tensor:
    """Weights 1 of the samples of a batch, (B,), in float64 if a parameter is."""
    wide = any(parameter.dtype == torch.float64 for parameter in parameters)
    return torch.ones(len(positions), dtype=torch.float64 if wide else torch.float32, device=parameters[0].device)

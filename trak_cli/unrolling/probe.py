"""Checks of a step of a training before it is differentiated, and how much memory it takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trak_cli.autograd_settings import as_in_evaluation
from trak_cli.batches import count_numbers
from trak_cli.errors import InputError, Problem
from trak_cli.types import evenly_spaced, listed
from trak_cli.unrolling.contract import Output, StepRun
from trak_cli.unrolling.live_memory import LiveMemory
from trak_cli.unrolling.memory_plan import Needs
from trak_cli.unrolling.model_state import ModelState, State, differentiable_names
from trak_cli.unrolling.step_graph import StepGraph, make_step, make_values, unit_weights

#: Relative difference that rounding may cause between running statistics and their recomputation.
_TOLERANCE = 1e-3

#: How much larger the memory of a graph is than its tensors, because of gaps between them; and that of a computation, because
#: of what operations allocate without a tensor.
_ALLOCATED, _WORKING = 1.1, 1.5

#: Batches among which the largest one is looked for.
_SIZED = 32


@dataclass(frozen=True)
class Probe:
    """What a step shows: the memory it takes, and whether it gives the same bytes without a graph."""

    needs: Needs
    plain: bool


def probe(run: StepRun, model: ModelState, start: State, output: Output) -> Probe:
    """Make the largest of some steps, and differentiate it. Sets ``model.buffers``; ``start`` gets their values.

    Raises:
        InputError: the step is not repeatable, changes something that cannot be differentiated, or has an operation without a
            second derivative.
    """
    index = _largest(run)
    names = list(model.all_buffers())
    before = {name: value.clone() for name, value in model.all_buffers().items()}
    model.buffers = names
    everything = start | {f"buffer/{name}": value for name, value in before.items()}
    first = make_values(run, model, index, everything)
    model.buffers = [name for name in names if not _same(before[name], first[f"buffer/{name}"])]
    model.restore()
    start |= {f"buffer/{name}": before[name] for name in model.buffers}
    step = make_step(run, model, index, start)
    plain = not _differing(first, step.values)
    if not plain:  # another result because of the graph, or for another reason?
        _check_repeated(step.values, make_step(run, model, index, start).values)
        _check_repeated(first, make_values(run, model, index, start))
        first = step.values
    if unknown := _unknown_buffers(step, model):
        _check_independent(run, model, start, output, unknown)
    _check_derivative(step)  # which frees the graph
    model.restore()
    _check_references(run, model, index, first, before)
    del step
    return Probe(_measured(run, model, index, start), plain)


def _measured(run: StepRun, model: ModelState, index: int, start: State) -> Needs:
    """The memory of a step, measured while it is made and differentiated for one target."""
    state = sum(value.nbytes for value in start.values())
    adjoint = {name: torch.zeros_like(start[name])[None] for name in differentiable_names(start)}
    derivative = torch.zeros(1, run.rows, dtype=torch.float64)
    memory = LiveMemory()
    with memory:
        step = make_step(run, model, index, start)
        graph, made = memory.live, memory.peak
        memory.restart()
        step.pull(adjoint, derivative, keep=True)
    model.restore()
    return Needs(state, int(graph * _ALLOCATED), int((max(made, memory.peak) - graph) * _WORKING))


def _largest(run: StepRun) -> int:
    """The step with the largest of some batches."""
    sizes = {int(index): count_numbers(run.batch(int(index))[1]) for index in evenly_spaced(run.steps, _SIZED)}
    return max(sizes, key=lambda index: sizes[index])


def _differing(first: State, second: State) -> list[str]:
    return [name for name, value in second.items() if not _equal(value, first[name])]


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other))


def _check_repeated(first: State, second: State) -> None:
    if differing := _differing(first, second):
        found = f"another result when a step was made again: {listed(differing)}"
        expected = "steps that give the same bytes every time"
        remedy = "draw random numbers from the global state of torch, numpy or random, and use deterministic operations"
        raise InputError(Problem("trainer", found, expected, remedy))


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(torch.equal(one.nan_to_num(), other.nan_to_num())) if one.is_floating_point() else bool(torch.equal(one, other))


def _check_references(run: StepRun, model: ModelState, index: int, values: State, buffers: State) -> None:
    """Refuse parameters that the model does not read from its modules: the step made in place would give other values."""
    positions, batch = run.batch(index)
    params = run.parameters
    grads = torch.autograd.grad(run.loss(batch, unit_weights(positions, params)), params, create_graph=True, allow_unused=True)
    with torch.no_grad():
        new, _ = run.advance(params, grads, run.initial_state(params), index)
        for name, value in buffers.items():
            model.buffer(name).copy_(value)
    found = zip(model.names, new, strict=True)
    differing = [name for name, value in found if not _equal(value, values[f"parameter/{name}"])]
    if differing:
        use = f"a use of {listed(differing)} that does not read it from its module, or a hook on it"
        expected = "a model that reads each parameter from the module that holds it"
        remedy = "keep no parameter in a list, dictionary or closure (use nn.ParameterList), and register no hook on one"
        raise InputError(Problem("model", use, expected, remedy))


def _unknown_buffers(step: StepGraph, model: ModelState) -> list[str]:
    """The floating buffers that the step changes, but not as running statistics of batch normalisation."""
    unknown = []
    for name in model.buffers:
        key = f"buffer/{name}"
        value, graph = step.values[key], step.buffers[key]
        untracked = graph is step.before[key]  # changed, however little, but not by batch normalisation
        if value.is_floating_point() and (untracked or not _close(value, graph.detach())):
            unknown.append(name)
    return unknown


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=_TOLERANCE, atol=1e-6, equal_nan=True)


def _check_independent(run: StepRun, model: ModelState, start: State, output: Output, names: list[str]) -> None:
    """Refuse buffers on which the loss or f depends: other values of them change the first loss, or f of its batch."""

    def results(state: State) -> tuple[Tensor, Tensor]:
        model.install(state)
        _, batch = run.batch(0)
        loss = run.loss(batch, None).detach()
        with as_in_evaluation(run.model), torch.no_grad():
            return loss, output(run.model, batch)

    expected = results(start)
    needed = []
    for name in names:
        other = start | {f"buffer/{name}": start[f"buffer/{name}"] * 1.5 + 1}
        if not all(_equal(one, two) for one, two in zip(expected, results(other), strict=True)):
            needed.append(name)
    if needed:
        found = f"a training that changes the buffer {listed(needed)}, on which the loss or f depends"
        expectation = "changes of parameters and of the running statistics of batch normalisation only"
        remedy = "keep the buffer fixed during training, or leave the layer out"
        raise InputError(Problem("model", found, expectation, remedy))


def _check_derivative(step: StepGraph) -> None:
    """Differentiate the step.

    By ``backward`` with regard to all leaves: ``autograd.grad`` leaves out, silently, the functions that only have a first
    derivative, because no input lies behind them.
    """
    try:
        for outputs in (list(step.update().outputs(step.values).values()), step.outputs()):
            if outputs:
                torch.autograd.backward(outputs, [torch.ones_like(value) for value in outputs])
    except RuntimeError as error:
        text = str(error).splitlines()[0] if str(error) else ""
        if "derivative" in text or "differentia" in text:
            raise InputError(_no_second_derivative(text)) from error
        raise


def _no_second_derivative(text: str) -> Problem:
    expected = "operations that PyTorch differentiates twice"
    remedy = (
        "replace the operation by one made of differentiable operations (for Hugging Face models: attn_implementation=eager)"
    )
    return Problem("model", f"an operation without a second derivative: {text[:160]}", expected, remedy)

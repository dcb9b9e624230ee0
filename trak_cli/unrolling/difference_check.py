"""Whether derivatives by automatic differentiation are those of a training step: they are compared with finite differences.

Autograd does not see what the forward pass or the update does outside its graph: ``detach()``, ``.item()``, ``no_grad``, or a
function of the user with a wrong backward pass. The gradient that a training uses is then still well defined, but its
derivative is not the one that autograd computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from trak_cli.autograd_settings import as_float64, as_in_evaluation, in_float64
from trak_cli.batches import map_leaves
from trak_cli.errors import InputError, Problem
from trak_cli.unrolling.contract import Output, StepRun
from trak_cli.unrolling.model_state import ModelState, State, is_differentiable, packed, unpacked
from trak_cli.unrolling.step_graph import dense

#: Relative length of a step of finite differences, and by how much the initial weights are moved first: away from zeros.
_STEP, _MOVE = 1e-6, 0.05

#: Least relative difference that counts, and how many times larger than the error of finite differences it must be.
_LEAST, _TIMES = 1e-3, 10.0

#: Numbers in each dimension of a parameter on which an update is checked.
_CORNER = 64

#: Samples of the first batch that are looked at.
_SAMPLES = 8

#: Random directions, all of which must disagree.
_DIRECTIONS = 2

#: Values -> a number, and the leaves of its graph that have these values.
_Function = Callable[[Sequence[Tensor]], tuple[Tensor, Sequence[Tensor]]]


def check_derivatives(run: StepRun, model: ModelState, start: State, output: Output) -> None:
    """Check the derivatives of the gradient of the first loss, of f and of an update, in float64.

    Models that cannot compute in float64 are not checked.

    Raises:
        InputError: a derivative is wrong.
    """
    problem = None
    with in_float64(run.model):
        try:
            problem = next(_problems(run, model, start, output), None)
        except (RuntimeError, TypeError, ValueError):  # the model, the task or the trainer cannot compute in float64
            pass
        finally:
            model.restore()
            run.initial_state(run.parameters)  # for a trainer that remembers for which parameters it was called last
    if problem is not None:
        raise InputError(problem)


def _problems(run: StepRun, model: ModelState, start: State, output: Output) -> Iterator[Problem]:
    moved = _Moved(run, model, start)
    if moved.is_rounded():
        return
    reached = moved.reached()
    if values := _disagreement(moved.gradient, [*moved.parameters, moved.weights], [*reached, None]):
        yield _problem("model", "the gradient of the loss", values, "the forward pass and in the losses of the task")
    if values := _disagreement(lambda inputs: moved.outputs(output, inputs), moved.parameters, reached):
        yield _problem("task.output", "f", values, "the forward pass and in the method output of the task")
    inputs, names = moved.before_update()
    for name in names:
        if values := _disagreement(lambda inputs, name=name: moved.update(name, inputs), inputs, [None] * len(inputs)):  # type: ignore[misc]
            yield _problem("trainer", f"{name} after an update", values, "the method update of the trainer")


class _Moved:
    """Functions of a state beside the first one; each sums its results with random factors.

    Attributes:
        parameters: the trained ones.
        weights: of the samples of the first batch.
    """

    def __init__(self, run: StepRun, model: ModelState, start: State) -> None:
        self._run, self._model = run, model
        self._generator = torch.Generator().manual_seed(0)
        self._start = {name: as_float64(value) for name, value in start.items() if not name.startswith("state/")}
        self.parameters = [self._move(self._start[f"parameter/{name}"]) for name in model.names]
        self.weights = torch.ones(len(run.batch(0, _SAMPLES)[0]), dtype=torch.float64, device=self.parameters[0].device)
        self._factors = [_random(value, self._generator) for value in self.parameters]
        self._corners: list[Tensor] = []
        self._before: dict[str, list[Tensor]] = {}
        self._reached: list[bool] = []

    def is_rounded(self) -> bool:
        """Whether parts of the first loss are computed in half precision, which hides small changes."""
        found: set[torch.dtype] = set()

        def pack(tensor: Tensor) -> Tensor:
            found.add(tensor.dtype)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self._gradients(self._install(self.parameters), self.weights)
        return not found.isdisjoint((torch.float16, torch.bfloat16))

    def reached(self) -> list[Tensor | None]:
        """Where the gradient of the first loss is not zero, in each parameter: padding rows of embeddings never change."""
        grads = self._gradients(self._install(self.parameters), self.weights)
        return [None if grad is None else grad.detach() != 0 for grad in grads]

    def gradient(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """The gradient of the first loss."""
        leaves, weights = self._install(inputs[:-1]), inputs[-1].detach().requires_grad_()
        grads = self._gradients(leaves, weights)
        return _sum(self._factors, grads), [*leaves, weights]

    def outputs(self, output: Output, inputs: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """f of the samples of the first batch."""
        leaves = self._install(inputs)
        batch = map_leaves(as_float64, self._run.batch(0, _SAMPLES)[1])
        with as_in_evaluation(self._run.model):
            return output(self._run.model, batch).sum(), leaves

    def before_update(self) -> tuple[list[Tensor], list[str]]:
        """Corners of parameters, their gradients, and the optimizer's state after a step; names of what an update changes."""
        grads = self._gradients(self._install(self.parameters), self.weights)
        self._corners = [_corner(value) for value in self.parameters]
        corners = [None if grad is None else _corner(grad.detach()) for grad in grads]
        _, changed = self._run.advance(self._corners, corners, self._run.initial_state(self._corners), 0)
        self._before = {name: [value.detach() for value in values] for name, values in changed.items()}
        self._reached = [grad is not None for grad in corners]
        known = [grad for grad in corners if grad is not None]
        return [*self._corners, *known, *self._floating()], ["parameters", *self._before]

    def update(self, name: str, inputs: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """The change of the parameters by a step, or a part of the state after it."""
        leaves = [value.detach().requires_grad_() for value in inputs]
        parameters, rest = leaves[: len(self._corners)], iter(leaves[len(self._corners) :])
        grads = [next(rest) if reached else None for reached in self._reached]
        floating = {key: next(rest) for key, value in packed(self._before).items() if is_differentiable(value)}
        state = unpacked(packed(self._before) | floating)
        new, changed = self._run.advance(parameters, grads, state, min(1, self._run.steps - 1))
        if name == "parameters":
            results = [after - before for after, before in zip(new, parameters, strict=True)]
        else:
            results = changed[name]
        generator = torch.Generator().manual_seed(1)
        return _sum([_random(value, generator) for value in results], results), leaves

    def _floating(self) -> list[Tensor]:
        return [value for value in packed(self._before).values() if is_differentiable(value)]

    def _gradients(self, leaves: Sequence[Tensor], weights: Tensor) -> Sequence[Tensor | None]:
        loss = self._run.loss(map_leaves(as_float64, self._run.batch(0, _SAMPLES)[1]), weights)
        grads: Sequence[Tensor | None] = torch.autograd.grad(loss, list(leaves), create_graph=True, allow_unused=True)
        return [dense(grad) for grad in grads]

    def _install(self, values: Sequence[Tensor]) -> list[Tensor]:
        named = {f"parameter/{name}": value for name, value in zip(self._model.names, values, strict=True)}
        return list(self._model.install(self._start | named).values())

    def _move(self, value: Tensor) -> Tensor:
        noise = _random(value, self._generator)
        return torch.where(value == 0, _MOVE * noise, value * (1 + _MOVE * noise))


def _disagreement(function: _Function, inputs: Sequence[Tensor], masks: Sequence[Tensor | None]) -> tuple[float, float] | None:
    """A directional derivative by autograd and by finite differences, if these differ in every direction; else None.

    Args:
        masks: which numbers of each input are moved; None: all.
    """
    generator = torch.Generator().manual_seed(2)
    value, leaves = function(inputs)
    slopes = torch.autograd.grad(value, list(leaves), allow_unused=True) if value.requires_grad else [None] * len(leaves)
    found = None
    for _ in range(_DIRECTIONS):
        moves = [_random(x, generator) * x for x in inputs]  # relative: tiny numbers change little, zeros not at all
        moves = [move if mask is None else move * mask for move, mask in zip(moves, masks, strict=True)]
        expected = float(_sum(moves, [None if slope is None else slope.conj() for slope in slopes]).detach())
        shifted = (_shifted(inputs, moves, number * _STEP) for number in (-2, -1, 0, 1, 2))  # one at a time
        differences = np.diff([float(function(values)[0].detach()) for values in shifted]) / _STEP
        error, least = np.ptp(differences), _LEAST * max(abs(expected), abs(differences.mean()))
        if not abs(differences.mean() - expected) > max(_TIMES * error, least):
            return None
        found = (expected, float(differences.mean()))
    return found


def _corner(value: Tensor) -> Tensor:
    """The first numbers in every dimension: enough of a parameter to check an update, in little memory."""
    return value[tuple(slice(_CORNER) for _ in value.shape)].clone()


def _shifted(inputs: Sequence[Tensor], moves: Sequence[Tensor], step: float) -> list[Tensor]:
    return [value + step * move for value, move in zip(inputs, moves, strict=True)]


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers, the same on every device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def _sum(factors: Sequence[Tensor], values: Sequence[Tensor | None]) -> Tensor:
    """The sum of the real parts of all products."""
    products = [(factor * value).sum() for factor, value in zip(factors, values, strict=True) if value is not None]
    return torch.stack([product.real for product in products]).sum() if products else torch.zeros(())


def _problem(where: str, what: str, values: tuple[float, float], place: str) -> Problem:
    found = f"{what}: the derivative by automatic differentiation is {values[0]:.4g}, by finite differences {values[1]:.4g}"
    expected = "operations that autograd sees, and that have correct derivatives"
    remedy = f"in {place}, do without detach(), .data, .item(), no_grad() and autograd functions with a wrong backward pass"
    return Problem(where, found, expected, remedy)

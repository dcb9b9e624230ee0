"""One training as a sequence of steps, for `trak train` and for `trak unroll`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.batches import to_device
from trak_cli.errors import InputError, Problem
from trak_cli.plugins.samples import Indexed
from trak_cli.plugins.trainers.contract import Augment, Collate, Loss
from trak_cli.plugins.trainers.plan import step_seed
from trak_cli.plugins.trainers.pullbacks import pull_clipped, pullback_maker
from trak_cli.plugins.trainers.reading import reader
from trak_cli.plugins.trainers.schedules import clipped
from trak_cli.random_states import random_states_kept, set_random_states

_State = Mapping[str, list[Tensor]]
_Pullback = Callable[[Sequence[Tensor], _State], list[Tensor | None]]


class _Steps(Protocol):
    """The part of a step trainer that a run needs."""

    clip_grad: float | None
    augment: Augment | None

    def initial_state(self, params: Sequence[Tensor]) -> _State: ...

    def update(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], state: _State, step: Any
    ) -> tuple[Sequence[Tensor], _State]: ...

    def plan(self, rows: int, seed: int) -> Sequence[Sequence[int]]: ...

    def step(self, index: int, steps: int) -> Any: ...


@dataclass(frozen=True)
class TrainingData:
    """The samples of a training: ``indices`` of a data set, how to collate them, and the MiB for keeping them in memory."""

    dataset: Indexed
    indices: Sequence[int]
    collate: Collate
    cache_mb: int


class StepRun:
    """A training as a sequence of steps.

    Attributes:
        model: the model, which is in training mode inside :meth:`session`.
        parameters: those that are trained.
        rows: the number of samples.
        steps: the number of steps.
    """

    def __init__(
        self, trainer: _Steps, model: nn.Module, task: Loss, data: TrainingData, seed: int, device: torch.device
    ) -> None:
        self._trainer, self._task, self._data, self._seed, self._device = trainer, task, data, seed, device
        self.model = model
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.parameters:
            remedy = "let some parameters require gradients"
            raise InputError(Problem("model", "no parameter that requires a gradient", "one at least", remedy))
        self.rows = len(data.indices)
        self._plan = trainer.plan(self.rows, seed)
        self.steps = len(self._plan)
        with random_states_kept([device]):
            self._read = reader(data.dataset, data.indices, data.cache_mb)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Inside, steps can be made: the model is in training mode, and the random states of the caller are kept."""
        self.model.train()
        with random_states_kept([self._device]), torch.enable_grad():
            yield

    def batch(self, index: int, most: int | None = None) -> tuple[Sequence[int], Any]:
        """The positions of the samples of a step and their batch, on the device; sets the random states of this step.

        Args:
            most: of the samples, the first ones; None: all.
        """
        set_random_states(step_seed(self._seed, index), [self._device])
        positions = self._plan[index][:most]
        batch = to_device(self._data.collate([self._read(position) for position in positions]), self._device)
        return positions, batch if self._trainer.augment is None else self._trainer.augment(batch)

    def loss(self, batch: Any, weights: Tensor | None) -> Tensor:
        """The loss of a batch, a scalar; ``weights`` (B,) of its samples, or None: all 1."""
        return self._task.loss(self.model, batch) if weights is None else self._task.weighted_loss(self.model, batch, weights)

    def initial_state(self, params: Sequence[Tensor]) -> _State:
        """The state of the optimizer before the first step."""
        return self._trainer.initial_state(params)

    def advance(
        self, params: Sequence[Tensor], grads: Sequence[Tensor | None], state: _State, index: int
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Parameters and state after a step with these gradients of its loss; None for a parameter that it does not reach."""
        reached = [grad.to_dense() if grad.is_sparse else grad for grad in grads if grad is not None]
        if self._trainer.clip_grad is not None and reached:
            reached = clipped(reached, self._trainer.clip_grad)
        rest = iter(reached)
        full = [torch.zeros_like(param) if grad is None else next(rest) for param, grad in zip(params, grads, strict=True)]
        new, changed = self._trainer.update(params, full, state, self._trainer.step(index, self.steps))
        _check_update(params, new, state, changed)
        if len(reached) == len(params):
            return list(new), dict(changed)
        aligned = {name: state[name] if len(values) == len(params) else values for name, values in changed.items()}
        return _kept(grads, new, params), {name: _kept(grads, changed[name], before) for name, before in aligned.items()}

    def pullback(self, grads: Sequence[Tensor | None], after: _State, index: int) -> _Pullback | None:
        """The derivative of :meth:`advance` in closed form; None if there is none, as for a trainer with its own ``update``.

        Args:
            after: the state of the optimizer after the step.

        Returns:
            A function that takes ∂f/∂(parameters) and ∂f/∂(state) from after the step to before it, in place, with its
            gradients held fixed, and returns ∂f/∂(gradients).
        """
        reached = [number for number, grad in enumerate(grads) if grad is not None]
        raw = [grad.detach() for grad in grads if grad is not None]
        make, limit = pullback_maker(self._trainer), self._trainer.clip_grad
        if make is None or any(grad.is_sparse or grad.is_complex() for grad in raw):
            return None
        used = clipped(raw, limit) if limit is not None and raw else raw
        of_reached = {name: [values[number] for number in reached] for name, values in after.items()}
        pull = make(self._trainer, used, of_reached, self._trainer.step(index, self.steps))

        def pulled(params: Sequence[Tensor], state: _State) -> list[Tensor | None]:
            states = {name: [values[number] for number in reached] for name, values in state.items()}
            found = pull([params[number] for number in reached], states)
            if limit is not None and raw:
                found = pull_clipped(raw, found, limit)
            rest = iter(found)
            return [None if grad is None else next(rest) for grad in grads]

        return pulled

    def train_step(self, index: int, state: _State, weights: Tensor | None) -> _State:
        """Make step ``index`` in place, and return the state of the optimizer; ``weights`` (rows,) or None: all 1."""
        positions, batch = self.batch(index)
        chosen = None if weights is None else weights[list(positions)].to(self._device)
        for parameter in self.parameters:
            parameter.grad = None
        self.loss(batch, chosen).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            grads = [parameter.grad for parameter in self.parameters]
            new, state = self.advance(self.parameters, grads, state, index)
            for parameter, value in zip(self.parameters, new, strict=True):
                parameter.copy_(value)
        return state


def _check_update(params: Sequence[Tensor], new: Sequence[Tensor], state: _State, changed: _State) -> None:
    """Refuse an update whose parameters or state do not have the shapes of those before it."""
    before, after = {"parameters": params, **state}, {"parameters": new, **changed}
    for name in before | after:
        shapes = [[tuple(value.shape) for value in values.get(name, ())] for values in (before, after)]
        if shapes[0] != shapes[1]:
            found = f"an update after which {name} has the shapes {shapes[1]}"
            remedy = "let update return as many tensors of the same shapes as it gets, and the names of initial_state"
            raise InputError(Problem("trainer", found, f"the shapes before it, {shapes[0]}", remedy))


def _kept(grads: Sequence[Tensor | None], new: Sequence[Tensor], old: Sequence[Tensor]) -> list[Tensor]:
    """The new tensors, but the old ones where there is no gradient; new ones where ``new`` has no entry per parameter."""
    if len(new) != len(grads):
        return list(new)
    return [before if grad is None else after for grad, after, before in zip(grads, new, old, strict=True)]

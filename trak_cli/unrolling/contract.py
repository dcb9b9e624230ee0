"""What unrolling needs from a training, and what it computes derivatives of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn


class StepRun(Protocol):
    """A training as a sequence of pure steps, such as :class:`trak_cli.plugins.trainers.step_run.StepRun`.

    Attributes:
        model: with the weights before the first step.
        parameters: those of the model that are trained.
        rows: the number of samples.
        steps: the number of steps.
    """

    model: nn.Module
    parameters: list[nn.Parameter]
    rows: int
    steps: int

    def session(self) -> AbstractContextManager[None]:
        """A context in which the model is in training mode, and after which the random states are as before."""

    def batch(self, index: int, most: int | None = None) -> tuple[Sequence[int], Any]:
        """The positions of the samples (the first ``most``) of a step, and their batch; sets the random states of this step."""

    def loss(self, batch: Any, weights: Tensor | None) -> Tensor:
        """Σ_i w_i ℓ_i / B for weights (B,), a scalar; None: all 1."""

    def initial_state(self, params: Sequence[Tensor]) -> Mapping[str, list[Tensor]]:
        """The state of the optimizer before the first step."""

    def advance(
        self, params: Sequence[Tensor], grads: Sequence[Tensor | None], state: Mapping[str, list[Tensor]], index: int
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Parameters and state after a step, differentiable; the gradient is None where the loss does not reach a parameter."""

    def pullback(
        self, grads: Sequence[Tensor | None], after: Mapping[str, list[Tensor]], index: int
    ) -> Callable[[Sequence[Tensor], Mapping[str, list[Tensor]]], Sequence[Tensor | None]] | None:
        """The derivative of :meth:`advance` in closed form, for the state after the step; None if only autograd knows it.

        It takes ∂f/∂(parameters) and ∂f/∂(state) from after the step to before it, in place, with the gradients held fixed,
        and returns ∂f/∂(gradients).
        """


class StoredStates(Protocol):
    """States of a training that are stored outside the process, by the number of steps that lead to them."""

    def steps(self) -> Collection[int]:
        """The stored ones."""

    def load(self, step: int, like: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """A stored state, with the dtypes and on the device of the state ``like``; None if it cannot be read."""

    def offer(self, step: int, state: Mapping[str, Tensor], kept: bool) -> None:
        """Store a state if it is time to; ``kept``: a sweep starts from it."""


class NoStates:
    """Stores nothing."""

    def steps(self) -> Collection[int]:
        """None."""
        return ()

    def load(self, step: int, like: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """None."""
        del step, like
        return None

    def offer(self, step: int, state: Mapping[str, Tensor], kept: bool) -> None:
        """Store nothing."""
        del step, state, kept


#: f of every sample of a batch, (B,).
Output = Callable[[nn.Module, Any], Tensor]

#: Returns the batches of the rows of one target: a single row, or a group, whose f is the mean over its rows.
Target = Callable[[], Iterable[Any]]

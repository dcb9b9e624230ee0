"""What unrolling needs from a training, and what it computes derivatives of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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

    def batch(self, index: int) -> tuple[Sequence[int], Any]:
        """The positions of the samples of a step and their batch; sets the random states of this step."""

    def loss(self, batch: Any, weights: Tensor | None) -> Tensor:
        """Σ_i w_i ℓ_i / B for weights (B,), a scalar; None: all 1."""

    def initial_state(self, params: Sequence[Tensor]) -> Mapping[str, list[Tensor]]:
        """The state of the optimizer before the first step."""

    def advance(
        self, params: Sequence[Tensor], grads: Sequence[Tensor | None], state: Mapping[str, list[Tensor]], index: int
    ) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
        """Parameters and state after a step, differentiable; the gradient is None where the loss does not reach a parameter."""


#: f of every sample of a batch, (B,).
Output = Callable[[nn.Module, Any], Tensor]

#: Returns the batches of the rows of one target: a single row, or a group, whose f is the mean over its rows.
Target = Callable[[], Iterable[Any]]

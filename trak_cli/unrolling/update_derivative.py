"""The derivative of an update, the optimizer's part of a step: in closed form, or by its graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trak_cli.unrolling.model_state import State, unpacked


@dataclass(frozen=True)
class ClosedForm:
    """Attributes:
    pullback: see :meth:`trak_cli.unrolling.contract.StepRun.pullback`.
    """

    pullback: Callable[[Sequence[Tensor], Mapping[str, list[Tensor]]], Sequence[Tensor | None]]

    def pull(self, adjoint: State, retain: bool) -> Sequence[Tensor | None]:
        """Take the adjoint of a target to before the update, in place, with the gradients held fixed; returns theirs."""
        del retain
        parameters = [value for name, value in adjoint.items() if name.startswith("parameter/")]
        return self.pullback(parameters, unpacked(adjoint))


@dataclass(frozen=True)
class UpdateGraph:
    """The graph of an update, for trainers without a closed form; the oracle of those that have one.

    Attributes:
        before: leaves: parameters and the optimizer's state before the step.
        grads: leaves.
        after: parameters and the optimizer's state after the step, differentiable.
    """

    before: State
    grads: Sequence[Tensor | None]
    after: State

    def outputs(self, among: Collection[str]) -> dict[str, Tensor]:
        """The differentiable results with these names."""
        return {name: value for name, value in self.after.items() if name in among and value.requires_grad}

    def pull(self, adjoint: State, retain: bool) -> Sequence[Tensor | None]:
        """As :meth:`ClosedForm.pull`."""
        outputs = self.outputs(adjoint)
        inputs = {name: leaf for name, leaf in self.before.items() if name in adjoint}
        grads = [grad for grad in self.grads if grad is not None]
        slopes: Sequence[Tensor | None] = [None] * (len(inputs) + len(grads))
        if outputs:
            slopes = torch.autograd.grad(
                list(outputs.values()),
                [*inputs.values(), *grads],
                [adjoint[name].clone() for name in outputs],  # a slope can be the tensor that it is computed from
                retain_graph=retain,
                allow_unused=True,
            )
        for name, slope in zip(inputs, slopes, strict=False):
            if slope is None:
                adjoint[name].zero_()
            else:
                adjoint[name].copy_(slope)
        rest = iter(slopes[len(inputs) :])
        return [None if grad is None else next(rest) for grad in self.grads]

"""Derivatives of updates in closed form: as by autograd through the ``update`` of a trainer, in fewer passes over memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trak_cli.plugins.trainers.schedules import SMALL_NORM

#: Takes ∂f/∂(parameters) and ∂f/∂(state of the optimizer) from after an update to before it, in place, with its gradients held
#: fixed; returns ∂f/∂(gradients). All lists have an entry for each parameter.
Pullback = Callable[[Sequence[Tensor], Mapping[str, Sequence[Tensor]]], list[Tensor]]

#: (trainer, gradients, state after the update, step) -> the pullback of the update.
Make = Callable[[Any, Sequence[Tensor], Mapping[str, list[Tensor]], Any], Pullback]

_MAKERS: dict[Callable[..., Any], Make] = {}


def pullback_of(update: Callable[..., Any]) -> Callable[[Make], Make]:
    """A decorator of the method that makes the pullbacks of ``update``. Another ``update``, in a subclass, has none."""

    def register(make: Make) -> Make:
        _MAKERS[update] = make
        return make

    return register


def pullback_maker(trainer: Any) -> Make | None:
    """What makes the pullbacks of the updates of a trainer; None if only autograd knows them."""
    return None if "update" in vars(trainer) else _MAKERS.get(type(trainer).update)


def pull_clipped(grads: Sequence[Tensor], adjoint: Sequence[Tensor], limit: float) -> list[Tensor]:
    """∂f/∂(gradients) for ∂f/∂(clipped gradients), of :func:`~trak_cli.plugins.trainers.schedules.clipped`.

    With n = ‖g‖ and s = limit / (n + 10⁻⁶) < 1, that is s a − s² / (limit n) ⟨g, a⟩ g for the adjoint a.
    """
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad).double() for grad in grads])))
    scale = limit / (norm + SMALL_NORM)
    if scale > 1:
        return list(adjoint)
    product = sum(float((grad * value).sum(dtype=torch.float64)) for grad, value in zip(grads, adjoint, strict=True))
    factor = -(scale**2) * product / (limit * norm) if norm else 0.0
    return [(value * scale).add_(grad, alpha=factor) for grad, value in zip(grads, adjoint, strict=True)]

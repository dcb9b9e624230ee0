"""Representations instead of gradients: the activation of one module for each sample, from a forward pass.

The engine keeps the contract of gradient engines: it gives one block of d coordinates, named after its place in the model. So
projection, shards and estimators work as for gradients; ``estimator=cosine`` gives the usual similarity of representations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError, Problem
from trak_cli.gradients.contract import ModelOutput, PerSample
from trak_cli.gradients.loop import one_microbatch
from trak_cli.gradients.options import REPRESENTATION
from trak_cli.gradients.refusals import checked_vector
from trak_cli.types import Block

_KEY = "gradients.module"


@dataclass(frozen=True)
class Place:
    """Where in a model a representation is read: at the ``output`` of a module, or at its first ``input``."""

    module: str
    side: str = "output"

    def __str__(self) -> str:
        return f"{self.side} of {self.module or 'the model'}"


class RepresentationEngine:
    """Reads a representation while the task computes f. Memory: activations of one forward pass, none kept for gradients."""

    name = REPRESENTATION

    def __init__(self, model: nn.Module, task: ModelOutput, place: Place) -> None:
        self._model = model
        self._task = task
        self._place = place

    def per_sample(self, batch: Any) -> PerSample:
        """See :class:`~trak_cli.gradients.contract.Engine`; the one block is (B, d), in the dtype of the activation.

        Raises:
            ConfigError: the model has no such module.
            InputError: the module is not called exactly once, or its activation does not have one row per sample.
            MachineError: out of memory.
        """
        with one_microbatch(self._model, batch) as size, torch.no_grad(), _listening(self._model, self._place) as seen:
            outputs = checked_vector(self._task.output(self._model, batch), size, "output")
            ratios = checked_vector(self._task.out_to_loss_grad(self._model, batch, outputs), size, "out_to_loss_grad")
            captured = _only(seen, self._place)
        return PerSample(outputs, ratios, iter([Block(str(self._place), pooled(captured, size, self._place))]))


def represented(model: nn.Module, task: ModelOutput, single: Any, place: Place) -> dict[str, Tensor]:
    """The counterpart of the selected parameters: the name of the block -> a tensor of its d coordinates.

    Raises:
        ConfigError, InputError: see :meth:`RepresentationEngine.per_sample`.
    """
    (block,) = RepresentationEngine(model, task, place).per_sample(single).blocks
    assert isinstance(block, Block)
    return {block.name: block.gradient[0]}


def pooled(activation: Tensor, size: int, place: Place) -> Tensor:
    """(B, d) from (B, d); from (B, T, d) by the mean over the sequence; from (B, C, …) by the mean over space.

    The mean over a sequence includes its padding; choose a module after the model's own pooling if there is one.

    Raises:
        InputError: anything else.
    """
    if activation.dim() < 2 or len(activation) != size or not activation.is_floating_point():
        found = f"{activation.dtype} of shape {tuple(activation.shape)} for a batch of {size}"
        raise _refused(place, found, "floating numbers (B, d), (B, T, d) or (B, C, …)")
    if activation.dim() == 3:
        return activation.mean(dim=1)
    return activation.flatten(2).mean(dim=2) if activation.dim() > 3 else activation


@contextmanager
def _listening(model: nn.Module, place: Place) -> Iterator[list[Any]]:
    """Inside, the activations at the place are collected, one per call."""
    modules = dict(model.named_modules())
    if place.module not in modules:
        known = ", ".join(name for name in modules if name) or "none"
        raise ConfigError(Problem(_KEY, repr(place.module), f"a module of the model: {known}", "correct the name"))
    seen: list[Any] = []

    def keep(value: Any) -> None:  # a copy, because later layers may overwrite it in place
        seen.append(value.clone() if isinstance(value, Tensor) else value)

    def first(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(next(iter((*args, *kwargs.values())), None))

    module = modules[place.module]
    if place.side == "input":
        handle = module.register_forward_pre_hook(first, with_kwargs=True)
    else:
        handle = module.register_forward_hook(lambda _module, _args, output: keep(output))
    try:
        yield seen
    finally:
        handle.remove()


def _only(seen: list[Any], place: Place) -> Tensor:
    if len(seen) != 1:
        raise _refused(place, f"{len(seen)} calls of the module for one output", "exactly one")
    if not isinstance(seen[0], Tensor):
        raise _refused(place, type(seen[0]).__name__, "a tensor")
    return seen[0]


def _refused(place: Place, found: str, expected: str) -> InputError:
    return InputError(Problem(f"{_KEY}: {place}", found, expected, "choose another module, or its other gradients.side"))

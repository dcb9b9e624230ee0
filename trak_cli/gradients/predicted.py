"""The most probable class of each sample, from the forward pass of an engine where that pass has its logits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.batches import batch_size, one_sample
from trak_cli.errors import InputError, Problem
from trak_cli.gradients.contract import Engine, PerSample
from trak_cli.gradients.numerics import exact

Call = tuple[tuple[Any, ...], dict[str, Any], Any]


class Classes(Protocol):
    """The part of a task that predicted classes need; see :class:`trak_cli.tasks.Task`."""

    def predicts_classes(self) -> bool:
        """Whether the task has classes."""

    def class_logits(self, model: nn.Module, batch: Any) -> Tensor:
        """The logits of all classes, (B, C)."""


@dataclass
class _Calls:
    """Calls of a model in order: arguments and result. Inside vmap, only the same objects are known to be equal."""

    inside_vmap: bool = False
    made: list[Call] = field(default_factory=list)

    def result_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The first call with equal arguments; the calls before it are dropped, because later requests have the same order."""
        while self.made:
            call = self.made[0]
            if _equal((call[0], call[1]), (args, kwargs), values=not self.inside_vmap):
                return call
            self.made.pop(0)
        return None


@dataclass(frozen=True)
class ClassPredictor:
    """Predicts classes.

    Attributes:
        model, task: with the weights of a checkpoint.
        context: the numerics of a forward pass, such as autocast.
    """

    model: nn.Module
    task: Classes
    context: Callable[[], AbstractContextManager[None]] = nullcontext

    def with_predictions(self, engine: Engine, batch: Any) -> tuple[PerSample, tuple[Tensor, Tensor] | None]:
        """The result of the engine, and the predicted classes (B,) int32 with their probabilities (B,) float32.

        None if the task has no classes. The model runs again, without gradients, only where the calls of the engine do not
        have what the task asks for.
        """
        if not self.task.predicts_classes():
            return engine.per_sample(batch), None
        calls = _Calls()
        # What is computed inside vmap cannot be used afterwards: that engine returns the logits itself.
        with nullcontext() if engine.name == "vmap" else _replaced_forward(self.model, _recording(calls)):
            gradients = engine.per_sample(batch)
        logits = gradients.logits
        if logits is None:
            with exact(), torch.no_grad(), self.context(), _replaced_forward(self.model, _repeating(calls)):
                parts = [one_sample(batch, i) for i in range(batch_size(batch))] if engine.name == "loop" else [batch]
                logits = torch.cat([_class_logits(self.task, self.model, part) for part in parts])
        probabilities, classes = torch.softmax(logits.float(), dim=-1).max(dim=-1)
        return gradients, (classes.to(torch.int32), probabilities)


def output_with_logits(task: Any, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor | None]:
    """f of a batch inside vmap, and detached logits (B, C) if the task predicts classes: from the same calls of the model."""
    if not hasattr(task, "class_logits") or not task.predicts_classes():
        return task.output(model, batch), None
    calls = _Calls(inside_vmap=True)
    with _replaced_forward(model, _recording(calls)):
        output = task.output(model, batch)
    with torch.no_grad(), _replaced_forward(model, _repeating(calls)):
        return output, _class_logits(task, model, batch)


def _recording(calls: _Calls) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def around(forward: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            result = forward(*args, **kwargs)
            calls.made.append((args, kwargs, result))
            return result

        return recorded

    return around


def _repeating(calls: _Calls) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def around(forward: Callable[..., Any]) -> Callable[..., Any]:
        def repeated(*args: Any, **kwargs: Any) -> Any:
            call = calls.result_for(args, kwargs)
            return forward(*args, **kwargs) if call is None else call[2]

        return repeated

    return around


@contextmanager
def _replaced_forward(model: nn.Module, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Inside, the model computes with ``around(model.forward)``, which has the same signature. Not for compiled modules."""
    if isinstance(model, torch.jit.ScriptModule):
        yield
        return
    before, own = model.forward, "forward" in vars(model)
    model.forward = functools.wraps(before)(around(before))
    try:
        yield
    finally:
        if own:
            model.forward = before
        else:
            del model.forward


def _equal(first: Any, second: Any, values: bool) -> bool:
    """Whether two structures of arguments have the same tensors: the same objects or, for ``values``, equal values."""
    if first is second:
        return True
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        kinds = [(one.shape, one.dtype, one.device, one.layout) for one in (first, second)]
        return values and kinds[0] == kinds[1] and first.layout == torch.strided and torch.equal(first, second)
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[key], second[key], values) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(_equal(*pair, values) for pair in zip(first, second, strict=True))
    return isinstance(first, str | int | float) and bool(first == second)


def _class_logits(task: Classes, model: nn.Module, batch: Any) -> Tensor:
    """The logits of a batch, detached.

    Raises:
        InputError: they have another shape than (B, C).
    """
    logits: Any = task.class_logits(model, batch)  # of any type until it is checked
    size = batch_size(batch)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != size or logits.shape[1] < 2:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        remedy = "return one row of logits for each sample from class_logits"
        raise InputError(Problem("task.class_logits", found, f"logits ({size}, C), C of 2 or more", remedy))
    return logits.detach()

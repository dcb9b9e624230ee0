"""Changes to a model while its gradients are computed: the same outputs, in a form that every engine can differentiate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Inside, nothing keeps autograd from differentiating ``model`` in evaluation mode.

    Activation checkpointing with ``use_reentrant=True`` calls its function directly: it works with ``backward()`` on all leaves
    only, and gives no gradients if no input of the function requires one. Recurrent layers do not use cuDNN, which
    differentiates them in training mode only.
    """
    checkpointing: Any = torch.utils.checkpoint
    before = checkpointing.CheckpointFunction
    try:
        checkpointing.CheckpointFunction = _Direct
        with ExitStack() as hooks:
            if torch.cuda.is_available():
                for layer in model.modules():
                    if isinstance(layer, nn.RNNBase):
                        hooks.callback(layer.register_forward_pre_hook(_cudnn_off).remove)
                        hooks.callback(layer.register_forward_hook(_cudnn_on, always_call=True).remove)
            yield
    finally:
        checkpointing.CheckpointFunction = before


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Inside, some operations are replaced by others with correct second derivatives.

    Activation checkpointing calls its function directly, because what it recomputes is not part of the graph. Compiled models
    run as they were written. The second derivatives of ``torch._weight_norm`` leave out those of the norm.
    """
    checkpointing: Any = torch.utils.checkpoint
    classic = sys.modules["torch.nn.utils.weight_norm"]  # the name in torch.nn.utils may be the function
    changes = [
        (checkpointing, "_checkpoint_without_reentrant_generator", _nothing_kept),
        (torch, "_weight_norm", _weight_norm),
        (classic, "_weight_norm", _weight_norm),
    ]
    before = [getattr(place, name) for place, name, _ in changes]
    try:
        for place, name, function in changes:
            setattr(place, name, function)
        with as_written():
            yield
    finally:
        for (place, name, _), function in zip(changes, before, strict=True):
            setattr(place, name, function)


def as_written() -> AbstractContextManager[Any]:
    """Inside, compiled models run as they were written."""
    compiler = sys.modules.get("torch._dynamo")  # slow to import, and there if something is compiled
    return nullcontext() if compiler is None else torch.compiler.set_stance("force_eager")


def _nothing_kept(*_: Any, **__: Any) -> Iterator[None]:
    """Stands in for the part of ``torch.utils.checkpoint.checkpoint`` around the call of its function."""
    yield


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """g · v / ‖v‖, with the norm over all dimensions but ``dim`` (-1: over all)."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


class _Direct:
    """Stands in for ``torch.utils.checkpoint.CheckpointFunction``."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        del preserve_rng_state
        return function(*args)


def _cudnn_off(*_: Any) -> None:
    torch.backends.cudnn.enabled = False


def _cudnn_on(*_: Any) -> None:
    torch.backends.cudnn.enabled = True


@contextmanager
def as_in_evaluation(model: nn.Module) -> Iterator[None]:
    """Inside, modules compute as in evaluation mode; neither ``train()`` nor ``eval()``, which may do more, is called."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def in_float64(model: nn.Module) -> Iterator[None]:
    """Inside, float32 parameters and buffers are float64; afterwards they are restored."""
    parameters = [(parameter, parameter.data) for parameter in model.parameters() if parameter.dtype == torch.float32]
    buffers = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.dtype == torch.float32
    ]
    try:
        for parameter, data in parameters:
            parameter.data = data.double()
        for module, name, buffer in buffers:
            module._buffers[name] = buffer.double()
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for module, name, buffer in buffers:
            module._buffers[name] = buffer


def as_float64(leaf: Any) -> Any:
    """A float32 tensor in float64; everything else as it is."""
    return leaf.double() if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float32 else leaf

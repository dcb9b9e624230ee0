"""Changes to a model while its gradients are computed: the same outputs, in a form that every engine can differentiate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
def without_recomputation() -> Iterator[None]:
    """Inside, activation checkpointing with ``use_reentrant=False`` keeps its activations.

    It would recompute them in the backward pass, when the model may have other weights than in the forward pass.
    """
    checkpointing: Any = torch.utils.checkpoint
    before = checkpointing._checkpoint_without_reentrant_generator
    try:
        checkpointing._checkpoint_without_reentrant_generator = _call_once
        yield
    finally:
        checkpointing._checkpoint_without_reentrant_generator = before


def _call_once(*_: Any, **__: Any) -> Iterator[None]:
    """A generator that ``torch.utils.checkpoint.checkpoint`` advances before and after the call of its function."""
    yield


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

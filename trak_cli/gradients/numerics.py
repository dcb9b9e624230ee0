"""The floating-point settings for all gradients: full precision and repeatable results."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
import torch.utils.deterministic
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Item = TypeVar("Item")

#: Whether :func:`exact` is active; its settings hold for the process.
_inside = False


@contextmanager
def exact() -> Iterator[None]:
    """Inside, no TensorFloat-32 products, and deterministic cuDNN and CUDA kernels; afterwards the settings are restored.

    A CUDA operation without a deterministic kernel warns and runs. On a CPU nothing changes. A nested call does nothing,
    because changing all settings takes as long as a dozen small kernels.
    """
    global _inside
    if _inside or not torch.cuda.is_available():
        yield
        return
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings, before = _settings(), []
    for owner, attribute, _ in settings:
        with suppress(RuntimeError):  # allow_tf32 cannot express every fp32_precision, which is restored after it
            before.append((owner, attribute, getattr(owner, attribute)))
    _inside = True
    try:
        for owner, attribute, value in settings:
            setattr(owner, attribute, value)
        torch.use_deterministic_algorithms(True, warn_only=not deterministic or warn_only)
        yield
    finally:
        _inside = False
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        for owner, attribute, value in before:
            setattr(owner, attribute, value)


@contextmanager
def batchable(model: nn.Module) -> Iterator[None]:
    """Inside, scaled dot-product attention uses its formula, which vmap can batch, unlike the fused kernels.

    PyTorch's warning of operations that vmap computes one sample at a time is not shown: the engines are timed. Afterwards
    ``model`` has its buffers back, because one that was assigned inside vmap cannot be used outside it.
    """
    # Compiled modules (torch.jit) hold their buffers elsewhere, and vmap refuses them.
    plain = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    before = [(module, dict(module._buffers)) for module in plain]
    try:
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            warnings.filterwarnings("ignore", message="There is a performance drop")
            yield
    finally:
        for module, buffers in before:
            module._buffers.clear()
            module._buffers.update(buffers)


def computing(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each computed under :func:`exact` and without gradients; between items the settings are unchanged."""
    while True:
        with exact(), torch.no_grad():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _settings() -> list[tuple[Any, str, object]]:
    """(owner, attribute, value) of every setting that :func:`exact` makes, in the order in which to make and restore them."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    kinds = (matmul, getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None))
    return [
        *((owner, "allow_tf32", False) for owner in (matmul, cudnn)),
        *((kind, "fp32_precision", "ieee") for kind in kinds if hasattr(kind, "fp32_precision")),  # since PyTorch 2.9
        (torch.utils.deterministic, "fill_uninitialized_memory", False),  # a debugging aid that costs a pass over memory
        (cudnn, "benchmark", False),
        (cudnn, "deterministic", True),
    ]

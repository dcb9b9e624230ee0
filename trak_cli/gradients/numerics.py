"""The floating-point setting that all gradients are computed under: full precision, repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.utils.deterministic
from torch.nn.attention import SDPBackend, sdpa_kernel

Item = TypeVar("Item")

#: Whether this process is inside of :func:`exact` (its settings are the process's).
_inside = False


@contextmanager
def exact() -> Iterator[None]:
    """Inside: no TensorFloat-32 products, and cuDNN and CUDA kernels that give the same bits twice; then as before.

    A CUDA operation that has no deterministic kernel warns and runs. On a CPU nothing changes. Inside another one nothing
    is done: setting all of it takes as long as a dozen small kernels.
    """
    global _inside
    if _inside or not torch.cuda.is_available():
        yield
        return
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    before = _read()
    fill: Any = torch.utils.deterministic
    _inside = True
    try:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        for owner in _with_precision():
            owner.fp32_precision = "ieee"
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        fill.fill_uninitialized_memory = False  # a debugging aid that costs a pass over memory
        torch.use_deterministic_algorithms(True, warn_only=not deterministic or warn_only)
        yield
    finally:
        _inside = False
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        for owner, attribute, value in before:
            setattr(owner, attribute, value)


@contextmanager
def batchable() -> Iterator[None]:
    """Inside: scaled dot-product attention by its formula, which vmap can batch, as it cannot the fused kernels."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def computing(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each computed under :func:`exact` and without recording gradients; in between nothing is set."""
    while True:
        with exact(), torch.no_grad():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _read() -> list[tuple[Any, str, Any]]:
    """(owner, attribute, value) of every setting that :func:`exact` changes, in the order to restore them."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before: list[tuple[Any, str, Any]] = []
    for owner in (matmul, cudnn):
        try:
            before.append((owner, "allow_tf32", owner.allow_tf32))
        except RuntimeError:
            continue  # set through fp32_precision in a way that the older switch cannot express; restored below
    before += [(owner, "fp32_precision", owner.fp32_precision) for owner in _with_precision()]
    fill: Any = torch.utils.deterministic
    before.append((fill, "fill_uninitialized_memory", fill.fill_uninitialized_memory))
    return [*before, (cudnn, "benchmark", cudnn.benchmark), (cudnn, "deterministic", cudnn.deterministic)]


def _with_precision() -> list[Any]:
    """The kinds of operation whose ``fp32_precision`` can be set; none before PyTorch 2.9."""
    cudnn: Any = torch.backends.cudnn
    kinds = [torch.backends.cuda.matmul, getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None)]
    return [kind for kind in kinds if hasattr(kind, "fp32_precision")]

"""The contracts of gradient engines: what an engine receives and what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trak_cli.types import AnyBlock, Block


class ModelOutput(Protocol):
    """The part of a task that gradients need: f and q of every sample of a batch."""

    def output(self, model: nn.Module, batch: Any) -> Tensor:
        """f, shape (B,), floating, differentiable in the parameters."""

    def out_to_loss_grad(self, model: nn.Module, batch: Any, output: Tensor) -> Tensor:
        """q = −∂ℓ/∂f, shape (B,), given f detached."""


@dataclass(frozen=True)
class PerSample:
    """What featurizing needs of the B samples of one microbatch.

    Attributes:
        outputs: (B,) f(z; θ), detached, floating.
        out_to_loss: (B,) q = −∂ℓ/∂f, detached, floating.
        blocks: gradients g = ∇_θ f of the *output* (not of the loss), in the dtype of the parameter, in any order; a
            complex parameter counts as pairs of real ones. A parameter tensor may come in several blocks; overlapping blocks
            are added up (a weight used in several places), and coordinates without a block are zero. The iterator can be
            read once. Each block is freed when the next one is requested, so memory falls while blocks are consumed.
        logits: (B, C) of all classes, from an engine whose pass cannot be reused afterwards; None otherwise.
    """

    outputs: Tensor
    out_to_loss: Tensor
    blocks: Iterator[AnyBlock]
    logits: Tensor | None = None


class Engine(Protocol):
    """One way of computing per-sample gradients of one model under one task."""

    name: str

    def per_sample(self, batch: Any) -> PerSample:
        """Outputs, out-to-loss gradients and gradients of every sample of a batch that lies on the model's device.

        Raises:
            InputError: the engine does not support the model or the batch; the message gives the reason and a remedy.
            MachineError: out of memory.
        """


def as_real(tensor: Tensor) -> Tensor:
    """The tensor, or a complex one as pairs of real and imaginary parts, (…, 2).

    PyTorch's gradient of a real number by a complex parameter is the pair of the gradients by both parts, so this is also the
    gradient by the parameter as pairs.
    """
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def coordinates(parameter: Tensor) -> int:
    """The number of real coordinates of a parameter."""
    return parameter.numel() * (1 + parameter.is_complex())


def draining(gradients: dict[str, Tensor]) -> Iterator[Block]:
    """Blocks of (B, …) gradients, flattened in C order.

    A gradient is removed from ``gradients`` when it is taken, so that it is freed after its use.
    """
    for name in list(gradients):
        gradient = gradients.pop(name)
        yield Block(name, as_real(gradient).reshape(gradient.shape[0], -1))
        del gradient

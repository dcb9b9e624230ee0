"""Activation checkpointing, which recomputes activations in the backward pass: every engine differentiates through it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.unit.gradients.gathering import Net, Sum, gradients
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import only, select

WIDTH = 4


def layers() -> dict[str, nn.Module]:
    return {
        "first": nn.Linear(WIDTH, WIDTH),
        "block": nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()),
        "last": nn.Linear(WIDTH, 2),
    }


def plain(self: Any, x: Tensor) -> Tensor:
    return self.last(self.block(torch.tanh(self.first(x))))


def reentrant(self: Any, x: Tensor) -> Tensor:
    return self.last(checkpoint(self.block, torch.tanh(self.first(x)), use_reentrant=True))


def recomputed(self: Any, x: Tensor) -> Tensor:
    return self.last(checkpoint(self.block, torch.tanh(self.first(x)), use_reentrant=False))


def nested(self: Any, x: Tensor) -> Tensor:
    def outer(x: Tensor) -> Tensor:
        return checkpoint(self.block, torch.tanh(self.first(x)), use_reentrant=True)

    return self.last(checkpoint(outer, x, use_reentrant=True))


def in_segments(self: Any, x: Tensor) -> Tensor:
    return self.last(checkpoint_sequential(self.block, 2, torch.tanh(self.first(x)), use_reentrant=True))


def with_keywords(self: Any, x: Tensor) -> Tensor:
    """A function of a tensor and of plain values, which returns several tensors."""

    def pair(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        half = self.block(x)
        return half * factor, half * (1 - factor)

    first, second = checkpoint(pair, torch.tanh(self.first(x)), 0.3, use_reentrant=True)
    return self.last(first + second)


@pytest.mark.parametrize("function", [reentrant, nested, in_segments, with_keywords])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("include", [("*",), ("block*", "last*"), ("block.0.weight",)])
def test_the_gradients_are_those_without_checkpoints(function: Any, engine: str, include: tuple[str, ...]) -> None:
    """Also if nothing before the checkpoint is selected, where PyTorch itself would give no gradients."""
    torch.manual_seed(1)
    shared, x = layers(), torch.randn(5, WIDTH)
    found = gradients(engine, Net(function, **shared), Sum(), x, include)
    expected = gradients("loop", Net(plain, **shared), Sum(), x, include)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_checkpoints_that_are_not_reentrant(engine: str) -> None:
    torch.manual_seed(2)
    shared, x = layers(), torch.randn(5, WIDTH)
    found = gradients(engine, Net(recomputed, **shared), Sum(), x)
    for name, gradient in gradients("loop", Net(plain, **shared), Sum(), x).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


class Refusing(torch.autograd.Function):
    """The identity, by a library whose checkpointing needs ``backward()`` on all leaves."""

    @staticmethod
    def forward(_: FunctionCtx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if not torch.autograd._is_checkpoint_valid():
            raise RuntimeError("checkpointing is not compatible with .grad(), please use .backward()")
        return gradient


def test_the_loop_works_with_what_needs_backward_on_all_leaves() -> None:
    torch.manual_seed(3)
    shared, x = layers(), torch.randn(3, WIDTH)
    model = Net(lambda self, x: self.last(Refusing.apply(self.block(torch.tanh(self.first(x))))), **shared)
    found = gradients("loop", model, Sum(), x)
    for name, gradient in gradients("loop", Net(plain, **shared), Sum(), x).items():
        torch.testing.assert_close(found[name], gradient)


def test_the_loop_leaves_no_gradients_in_the_model_and_keeps_those_that_were_there() -> None:
    model, x = Net(plain, **layers()), torch.randn(3, WIDTH)
    model.last.bias.grad = torch.ones(2)
    gradients("loop", model, Sum(), x)
    assert torch.equal(model.last.bias.grad, torch.ones(2))
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "last.bias")


def test_pytorch_has_its_checkpoints_back_afterwards() -> None:
    before = torch.utils.checkpoint.CheckpointFunction
    gradients("hooks", Net(reentrant, **layers()), Sum(), torch.randn(3, WIDTH))
    assert torch.utils.checkpoint.CheckpointFunction is before


def test_recurrent_layers_do_without_cudnn_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN gives no gradients of them in evaluation mode; convolutions keep it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen: list[tuple[str, bool]] = []

    class Told(nn.GRU):
        def forward(self, *inputs: Any) -> Any:
            seen.append(("recurrent", torch.backends.cudnn.enabled))
            return super().forward(*inputs)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Told(2, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layer(x)[0]
            seen.append(("other", torch.backends.cudnn.enabled))
            return found

    model = Model()
    with only(model, select(model, ["*"])):
        model(torch.randn(1, 3, 2))
        with pytest.raises(RuntimeError):
            model(torch.randn(1, 3, 9))
    assert torch.backends.cudnn.enabled
    assert seen == [("recurrent", False), ("other", True), ("recurrent", False)]

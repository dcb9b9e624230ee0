"""Weights that are copied for each call of a module: the same outputs and gradients, and no copy outlives its use.

There is one device here, so each copy is a clone.
"""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.gradients.gathering import Sum, gathered
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.weight_copies import compute_on, copied_weights

CPU = torch.device("cpu")


class Copies:
    """Clones weights, and keeps track of the clones."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[Tensor]] = []

    def __call__(self, tensor: Tensor, device: torch.device) -> Tensor:
        clone = tensor.to(device, copy=True)
        self.made.append(weakref.ref(clone))
        return clone

    @property
    def alive(self) -> int:
        return sum(copy() is not None for copy in self.made)


class Tied(nn.Module):
    """Two uses of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.token.weight

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.token(ids))).tanh()
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.gru(x)[0])
        return out


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2))


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


MODELS = {
    "convolutions": (convolutions, lambda: torch.randn(4, 2, 6, 6), ["0", "1", "4"]),
    "one part": (convolutions, lambda: torch.randn(4, 2, 6, 6), [""]),
    "attention": (attention, lambda: torch.randn(4, 5, 8), [""]),
    "recurrent": (Recurrent, lambda: torch.randn(4, 5, 3), ["gru", "head"]),
    "tied": (Tied, lambda: torch.randint(7, (4, 5)), ["token", "head"]),
}


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_model_without_copies(name: str, engine: str) -> None:
    make, inputs, parts = MODELS[name]
    torch.manual_seed(0)
    model, batch = make().eval(), inputs()
    parameters = select(model, ["*"])
    expected = gathered(make_engine("loop", model, Sum(), parameters).per_sample(batch), model)
    copies = Copies()
    for part in parts:
        compute_on(model.get_submodule(part), CPU, copies)
    strategies = find_strategies(model, Sum(), parameters, batch)
    result = make_engine(engine, model, Sum(), parameters, strategies).per_sample(batch)
    found = gathered(result, model)
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, atol=1e-5, rtol=1e-4)
    assert copies.made
    assert not copies.alive


def test_the_graph_holds_no_copy_and_leads_to_the_parameters_themselves() -> None:
    model, copies = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), Copies()
    before = dict(model.named_parameters())
    for part in model:
        compute_on(part, CPU, copies)
    x = torch.randn(4, 3, requires_grad=True)
    output = model(x)
    assert dict(model.named_parameters()) == before
    assert not copies.alive
    made = len(copies.made)
    output.sum().backward()
    assert len(copies.made) > made  # autograd needed a weight once more
    assert all(parameter.grad is not None for parameter in before.values())


def test_weights_are_back_after_an_exception() -> None:
    class Broken(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("broken")

    layer = Broken(2, 2)
    weight = layer.weight
    compute_on(layer, CPU, Copies())
    with pytest.raises(ValueError, match="broken"):
        layer(torch.zeros(1, 2))
    assert layer.weight is weight


def test_buffers_that_a_call_replaces_stay_replaced() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Any) -> Any:
            self.count = self.count + 1
            return x

    model = Counts()
    compute_on(model, CPU, Copies())
    model(model(torch.zeros(1)))
    assert float(model.count) == 2


def test_modules_already_in_place_are_not_copied() -> None:
    layer = nn.Linear(2, 2)
    with copied_weights(layer, CPU) as copies:
        assert copies == {}

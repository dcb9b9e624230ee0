"""What all samples share is repeated for each only where f and q stay what they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gathering import Sum, gathered
from torch import Tensor, nn

from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select


def without_gradient(net: Shared, x: Tensor) -> Tensor:
    with torch.no_grad():
        factor = net.common(net.z).sum().sigmoid()
    return net.head(x).mean(1) + factor


def cut_off(net: Shared, x: Tensor) -> Tensor:
    return net.head(x).mean(1) + net.common(net.z).detach().sum().sigmoid()


def added_up(net: Shared, x: Tensor) -> Tensor:
    return net.head(x).tanh().mean(1) + net.common(net.z).sum().sigmoid()


def one_number(net: Shared, x: Tensor) -> Tensor:
    rows = net.head(x).mean(1)
    return torch.stack([rows[:, 0] * net.single(net.z), rows[:, 1]], 1)


def one_number_for_rows(net: Shared, x: Tensor) -> Tensor:
    return net.head(x).mean(1) * net.single(net.z)


def vector(net: Shared, x: Tensor) -> Tensor:
    return net.head(x.mean(1) * net.common(net.z))


class Shared(nn.Module):
    """Something that is computed of parameters alone, and then used by every sample."""

    def __init__(self, use: Callable[[Shared, Tensor], Tensor]) -> None:
        super().__init__()
        self.z, self.use = nn.Parameter(torch.randn(4)), use
        self.common, self.single, self.head = nn.Linear(4, 8), nn.Linear(4, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


def agree(use: Callable[[Shared, Tensor], Tensor]) -> dict[str, str]:
    torch.manual_seed(0)
    model, x = Shared(use).eval(), torch.randn(7, 5, 8)
    parameters = select(model, ["*"])
    strategies = dict(find_strategies(model, Sum(), parameters, x[:3]))
    hooked, looped = (make_engine(name, model, Sum(), parameters, strategies).per_sample(x) for name in ("hooks", "loop"))
    torch.testing.assert_close(hooked.outputs, looped.outputs)
    torch.testing.assert_close(hooked.out_to_loss, looped.out_to_loss)
    found, expected = (gathered(one, model) for one in (hooked, looped))
    for name, one in expected.items():
        torch.testing.assert_close(found[name], one, atol=1e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
    return strategies


@pytest.mark.parametrize("use", [without_gradient, cut_off, added_up])
def test_outputs_are_those_of_the_loop(use: Callable[[Shared, Tensor], Tensor]) -> None:
    assert not {"head.weight", "head.bias"} & agree(use).keys()


@pytest.mark.parametrize("use", [one_number, one_number_for_rows, vector])
def test_a_layer_on_a_vector_that_all_samples_share(use: Callable[[Shared, Tensor], Tensor]) -> None:
    strategies = agree(use)
    assert not {"head.weight", "head.bias"} & strategies.keys()
    if use is not one_number:  # whose number is no longer one where it is repeated
        assert not {"single.weight", "single.bias", "common.weight", "common.bias"} & strategies.keys()

"""Strategies are judged by what gradients are, not by how float32 rounds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trak_cli.autograd_settings import in_float64
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.parameters import select
from trak_cli.tasks import Classification


class Noisy(nn.Module):
    """A layer whose gradients are less exact in batches, as those of fast convolutions are: in ``dtypes`` only."""

    def __init__(self, *dtypes: torch.dtype) -> None:
        super().__init__()
        self.dtypes = dtypes
        self.linear = nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) * self.scale
        return y + 0.02 * (len(x) > 1 and y.dtype in self.dtypes) * (y - y.detach())


def strategies(model: nn.Module) -> dict[str, str]:
    batch = (torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2]))
    return dict(find_strategies(model.eval(), Classification(), select(model, ["*"]), batch))


def test_differences_in_float32_only_keep_the_closed_form() -> None:
    assert strategies(Noisy()) == {}
    assert strategies(Noisy(torch.float32)) == {}


def test_differences_that_remain_in_float64_change_the_strategy() -> None:
    assert set(strategies(Noisy(torch.float32, torch.float64))) == {"linear.weight", "linear.bias"}


def test_a_model_that_requires_float32_is_checked_in_float32() -> None:
    class Stubborn(Noisy):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.zeros(4, 3, dtype=torch.float32).T.matmul(torch.ones(4)) @ x.new_zeros(3, 3)

    assert set(strategies(Stubborn(torch.float32))) == {"linear.weight", "linear.bias"}


def test_a_model_is_restored_after_float64() -> None:
    model = Noisy()
    before = {name: (id(one), one.detach().clone()) for name, one in model.named_parameters()}
    scale = model.scale
    with in_float64(model):
        assert {one.dtype for one in (*model.parameters(), *model.buffers())} == {torch.float64}
    assert model.scale is scale
    for name, one in model.named_parameters():
        assert id(one) == before[name][0]
        assert one.dtype == torch.float32
        assert torch.equal(one, before[name][1])

"""Ways that are found while gradients are zero, behind a gate that is closed, are right when it opens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gathering import Net, Sum, gathered
from torch import Tensor, nn
from torch.nn import functional

from trak_cli.errors import InputError
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select


class Gated(nn.Module):
    """Attention whose part is scaled by ``gate``, a parameter, or is switched off by the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, open_: Tensor) -> Tensor:
        x = self.embed(x)
        attended = self.attention(x, x, x, need_weights=False)[0]
        return self.head((x + (self.gate + open_[:, None, None]) * attended).mean(1))


def agree(model: nn.Module, strategies: dict[str, str], batch: Any) -> None:
    """The same gradients as the loop's, by strategies that were found before; none of the loop's is zero throughout."""
    parameters = select(model, ["*"])
    hooked, looped = (
        gathered(make_engine(name, model, Sum(), parameters, strategies).per_sample(batch), model) for name in ("hooks", "loop")
    )
    for name, one in looped.items():
        assert one.any(), name
        torch.testing.assert_close(hooked[name], one, atol=1e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


def test_a_gate_that_opens_in_a_later_checkpoint() -> None:
    torch.manual_seed(0)
    model, batch = Gated().eval(), (torch.randn(5, 4, 8), torch.zeros(5))
    strategies = dict(find_strategies(model, Sum(), select(model, ["*"]), batch))
    assert strategies["attention.out_proj.weight"] == "attention"
    nn.init.constant_(model.gate, 0.7)
    agree(model, strategies, batch)


def test_a_gate_opened_by_later_samples_is_noticed() -> None:
    torch.manual_seed(1)
    model, x = Gated().eval(), torch.randn(5, 4, 8)
    strategies = dict(find_strategies(model, Sum(), select(model, ["*"]), (x[:3], torch.zeros(3))))
    agree(model, strategies, (x, torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])))


def test_a_weight_that_is_used_behind_the_gate_without_its_layer() -> None:
    torch.manual_seed(2)

    def forward(net: nn.Module, x: Tensor, gate: Tensor) -> Tensor:
        hidden = net.first(x).relu()
        return net.second(hidden) + gate[:, None] * functional.linear(hidden, net.second.weight).sin()

    model, x = Net(forward, first=nn.Linear(8, 6), second=nn.Linear(6, 3)).eval(), torch.randn(5, 8)
    strategies = dict(find_strategies(model, Sum(), select(model, ["*"]), (x[:3], torch.zeros(3))))
    assert strategies == {"second.weight": ":vmap"}
    agree(model, strategies, (x, torch.ones(5)))


def test_attention_that_the_first_samples_go_around_is_refused_when_it_is_used() -> None:
    torch.manual_seed(3)

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        return net.attention(x, x, x)[0] + net.body(x) if bool((x > 100).any()) else net.body(x)

    model = Net(forward, attention=nn.MultiheadAttention(8, 2, batch_first=True), body=nn.Linear(8, 8)).eval()
    usual = torch.randn(3, 4, 8)
    parameters = select(model, ["*"])
    strategies = find_strategies(model, Sum(), parameters, usual)
    assert strategies["attention.out_proj.weight"] == ":unused"
    with pytest.raises(InputError, match=r"is used, which the first samples did not use"):
        make_engine("hooks", model, Sum(), parameters, strategies).per_sample(usual + 200)


def test_strategies_that_miss_a_use_under_another_checkpoint_are_refused() -> None:
    torch.manual_seed(4)

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        out = net.body(x)
        return out + functional.linear(out, net.body.weight) if net.gate else out

    model, x = Net(forward, body=nn.Linear(8, 8)), torch.randn(3, 8)
    model.gate = nn.Parameter(torch.zeros(()), requires_grad=False)
    parameters = select(model.eval(), ["*"])
    strategies = find_strategies(model, Sum(), parameters, x)
    assert strategies == {}
    nn.init.constant_(model.gate, 1.0)
    with pytest.raises(InputError, match=r"module body.*a use of body\.weight outside it.*gradients=loop"):
        make_engine("hooks", model, Sum(), parameters, strategies).per_sample(x)

"""An engine is compared with the loop before it is trusted: its gradients, its outputs and its q."""

from __future__ import annotations

import pytest
import torch
from gathering import Net, Sum
from torch import Tensor, nn
from torch.nn import functional

from trak_cli.errors import InputError
from trak_cli.gradients.checks.agreement import check_agreement
from trak_cli.gradients.contract import Engine, PerSample
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


class Held(nn.Module):
    """A parameter that is also in a list, out of the reach of what replaces parameters by name."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.Linear(8, 6), nn.Linear(8, 2)
        self.tied = [self.encode.weight]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(functional.linear(self.encode(x).relu(), self.tied[0].T).relu())
        return out


class Off:
    """The loop, but for outputs or q."""

    name = "off"

    def __init__(self, loop: Engine, outputs: float = 0.0, out_to_loss: float = 0.0) -> None:
        self.loop, self.by = loop, (outputs, out_to_loss)

    def per_sample(self, batch: Tensor) -> PerSample:
        found = self.loop.per_sample(batch)
        return PerSample(found.outputs + self.by[0], found.out_to_loss + self.by[1], found.blocks)


def test_vmap_is_refused_where_a_parameter_is_used_behind_its_back() -> None:
    torch.manual_seed(0)
    model = Held().eval()
    parameters = select(model, ["*"])
    check_agreement(make_engine("loop", model, Sum(), parameters), model, Sum(), parameters, X)
    with pytest.raises(InputError, match=r"gradients=vmap.*encode\.weight.*gradients=loop"):
        check_agreement(make_engine("vmap", model, Sum(), parameters), model, Sum(), parameters, X)


def test_vmap_is_trusted_where_it_is_right() -> None:
    torch.manual_seed(1)
    model = Net(lambda net, x: net.b(net.a(x).relu()), a=nn.Linear(8, 5), b=nn.Linear(5, 2)).eval()
    parameters = select(model, ["*"])
    check_agreement(make_engine("vmap", model, Sum(), parameters), model, Sum(), parameters, X)


@pytest.mark.parametrize("off", ["outputs", "out_to_loss"])
def test_different_outputs_or_q_are_refused_too(off: str) -> None:
    model = nn.Linear(8, 2).eval()
    parameters = select(model, ["*"])
    loop = make_engine("loop", model, Sum(), parameters)
    with pytest.raises(InputError, match="other outputs"):
        check_agreement(Off(loop, **{off: 0.01}), model, Sum(), parameters, X)

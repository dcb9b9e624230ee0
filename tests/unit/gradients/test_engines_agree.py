"""The engines give what autograd gives when written out (see test_hooks.py for the many layers of the hooks engine)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gathering
import pytest
import torch
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError
from trak_cli.gradients.checks.independence import check_independence
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.gradients.tuning.memory import GradientWork, choose_microbatch
from trak_cli.tasks import Classification


class Tied(nn.Module):
    """Embedding and output share one matrix; a buffer scales, and one parameter is used by nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.embed.weight
        self.idle = nn.Parameter(torch.ones(3))
        self.register_buffer("scale", torch.tensor(1.5))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.attend(x, x, x, need_weights=False)[0]
        return self.out(x.mean(dim=1)) * self.scale


def normed() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model


def images(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 8, 8), torch.randint(0, 5, (n,))


def tokens(n: int) -> tuple[Tensor, Tensor]:
    return torch.randint(0, 11, (n, 7)), torch.randint(0, 11, (n,))


def vectors(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 9), torch.randint(0, 2, (n,))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any]]] = {
    "mlp with two classes": (lambda: nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 2)), vectors),
    "convolution and BatchNorm in eval mode": (normed, images),
    "tied weights, attention, buffer, unused parameter": (Tied, tokens),
}
cases = pytest.mark.parametrize(("make", "data"), CASES.values(), ids=CASES.keys())


def gradients(name: str, model: nn.Module, batch: Any, include: tuple[str, ...] = ("*",)) -> dict[str, Tensor]:
    return gathering.gradients(name, model, Classification(), batch, include)


def written_out(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """f = logit of the right class - logsumexp of the others, one backward pass for each sample."""
    named = dict(model.named_parameters())
    rows: dict[str, list[Tensor]] = {name: [] for name in named}
    for x, y in zip(*batch, strict=True):
        logits = model(x[None])[0]
        others = torch.cat([logits[:y], logits[y + 1 :]])
        found = torch.autograd.grad(logits[y] - others.logsumexp(0), list(named.values()), allow_unused=True)
        for (name, parameter), one in zip(named.items(), found, strict=True):
            rows[name].append((torch.zeros_like(parameter) if one is None else one).flatten())
    return {name: torch.stack(one) for name, one in rows.items()}


@cases
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_agrees_with_autograd(make: Callable[[], nn.Module], data: Callable[[int], Any], engine: str) -> None:
    torch.manual_seed(0)
    model, batch = make().eval(), data(5)
    found, expected = gradients(engine, model, batch), written_out(model, batch)
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.bfloat16, 0.1)])
def test_other_dtypes_agree_too(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype).eval()
    batch = (torch.randn(6, 9, dtype=dtype), torch.randint(0, 3, (6,)))
    vmapped, looped = gradients("vmap", model, batch), gradients("loop", model, batch)
    for name, one in vmapped.items():
        assert one.dtype == dtype
        torch.testing.assert_close(one, looped[name], atol=tolerance, rtol=tolerance)


def test_outputs_and_out_to_loss_belong_together() -> None:
    torch.manual_seed(2)
    model, batch = nn.Linear(9, 4).eval(), (torch.randn(3, 9), torch.tensor([0, 3, 1]))
    result = make_engine("vmap", model, Classification(), select(model, ["*"])).per_sample(batch)
    p = model(batch[0]).softmax(-1).gather(1, batch[1][:, None])[:, 0].detach()
    torch.testing.assert_close(result.outputs, torch.log(p / (1 - p)))
    torch.testing.assert_close(result.out_to_loss, 1 - p)


def test_patterns_and_frozen_parameters_decide_what_is_computed() -> None:
    model = nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 2))
    model[0].bias.requires_grad_(False)
    assert list(select(model, ["*"])) == ["0.weight", "1.weight", "1.bias"]
    assert list(gradients("vmap", model, vectors(2), ("1.*",))) == ["1.weight", "1.bias"]
    assert model[0].weight.grad is None
    with pytest.raises(ConfigError, match=r"parameters\.include"):
        select(model, ["2.*"])


def test_a_pattern_for_an_alias_of_a_tied_weight_selects_it() -> None:
    assert list(select(Tied(), ["out.weight"])) == ["embed.weight"]


def test_an_output_that_depends_on_the_batch_is_refused() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(9, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x - x.mean(0))
            return out

    x, y = torch.randn(4, 9), torch.tensor([0, 1, 2, 0])
    singles = [(x[i : i + 1], y[i : i + 1]) for i in range(4)]
    with pytest.raises(InputError, match="rest of the batch"):
        check_independence(Centred(), Classification(), gathering.trial((x, y), singles))
    check_independence(nn.Linear(9, 3), Classification(), gathering.trial((x, y), singles))


def test_models_that_vmap_cannot_batch_are_refused_with_a_remedy() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(9, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            return out if float(x.sum()) > 0 else -out

    model, batch = Branching(), vectors(3)
    with pytest.raises(InputError, match="gradients=loop"):
        gradients("vmap", model, batch)
    assert set(gradients("loop", model, batch)) == {"layer.weight", "layer.bias"}


def test_the_microbatch_fits_into_the_memory_that_is_given() -> None:
    model, sample = nn.Linear(1000, 250), (torch.randn(1, 1000), torch.tensor([3]))
    work = GradientWork(model, Classification(), sample, select(model, ["*"]))
    sizes = [choose_microbatch("vmap", work, mb) for mb in (3, 30, 3000)]
    assert 1 <= sizes[0] < sizes[1] < sizes[2] == 256
    with pytest.raises(ConfigError, match=r"gradients\.memory_mb"):
        choose_microbatch("vmap", work, 1)


def test_hooks_take_the_microbatch_that_vmap_cannot_hold() -> None:
    """Gradients come in pieces, so that their number does not weigh on the microbatch."""
    model, sample = nn.Linear(4000, 2500), (torch.randn(1, 4000), torch.tensor([3]))
    work = GradientWork(model, Classification(), sample, select(model, ["*"]))
    sizes = {name: choose_microbatch(name, work, 400) for name in ("hooks", "vmap")}
    assert sizes["vmap"] < 8 < sizes["hooks"]

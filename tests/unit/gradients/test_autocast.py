"""Under autocast the passes are narrow; f, q and the gradients are float32, and engines agree up to the narrow rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gathering import gathered, trial
from torch import Tensor, nn

from trak_cli.errors import ConfigError, InputError, MachineError
from trak_cli.gradients.checks.independence import check_independence
from trak_cli.gradients.engines.hooks.strategies import outer_products
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.factoring import Factoring
from trak_cli.gradients.parameters import select
from trak_cli.gradients.transforms.autocast import Autocast, with_autocast
from trak_cli.gradients.tuning.memory import GradientWork, activation_bytes, choose_microbatch
from trak_cli.tasks import Classification
from trak_cli.types import AnyBlock, FactorBlock

CPU = torch.device("cpu")
DTYPES = {"bfloat16": 2.0**-7, "float16": 2.0**-9}


class Attentive(nn.Module):
    """Embeddings, an attention layer that goes by vmap over itself, and a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.scale = nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(self.embed(tokens)).mean(1) * self.scale)
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "mlp": (mlp, lambda n: torch.randn(n, 9)),
    "convolution": (convolutional, lambda n: torch.randn(n, 1, 8, 8)),
    "attention": (Attentive, lambda n: torch.randint(0, 11, (n, 6))),
}


def made(name: str, seed: int = 0, count: int = 6) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(seed)
    make, data = MODELS[name]
    return make().eval(), (data(count), torch.randint(0, 3, (count,)))


def whole(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat(list(gradients.values()), dim=1).double()


def of(engine: str, model: nn.Module, task: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """f (B,) and the whole gradients (B, p)."""
    parameters = select(model, ["*"])
    strategies = find_strategies(model, task, parameters, batch) if engine == "hooks" else None
    result = make_engine(engine, model, task, parameters, strategies).per_sample(batch)
    assert result.outputs.dtype == result.out_to_loss.dtype == torch.float32
    return result.outputs, whole(gathered(result, model))  # gathered() checks that gradients are as wide as parameters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_engines_agree_to_the_rounding_of_the_dtype_and_differ_from_float32_by_it(name: str, dtype: str) -> None:
    model, batch = made(name)
    plain, task = Classification(), with_autocast(Classification(), model, CPU, dtype)
    hooked, looped, exact = of("hooks", model, task, batch), of("loop", model, task, batch), of("loop", model, plain, batch)
    for found, expected in (looped, exact), (hooked, exact), (hooked, looped):
        for one, other in zip(found, expected, strict=True):
            assert float((one - other).norm() / other.norm()) < 4 * DTYPES[dtype]
    assert float((looped[1] - exact[1]).norm() / exact[1].norm()) > DTYPES[dtype] / 64


def test_the_loop_agrees_with_plain_autograd() -> None:
    model, (x, y) = made("mlp", 1)
    found = of("loop", model, with_autocast(Classification(), model, CPU, "bfloat16"), (x, y))[1]
    for row, one, label in zip(found, x, y, strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(one[None])[0]
        assert logits.dtype == torch.bfloat16
        wide = logits.float()
        f = wide[label] - torch.cat([wide[:label], wide[label + 1 :]]).logsumexp(0)
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(f, list(model.parameters()))])
        assert torch.equal(row.float(), expected)


def test_closed_forms_and_smaller_modules_are_trusted_under_autocast_too() -> None:
    """What vmap cannot do under autocast is done on widened inputs; nothing falls back on the loop but what has to."""
    for name in ("mlp", "convolution"):
        model, batch = made(name)
        task = with_autocast(Classification(), model, CPU, "bfloat16")
        assert find_strategies(model, task, select(model, ["*"]), batch) == {}
    model, batch = made("attention")
    task = with_autocast(Classification(), model, CPU, "bfloat16")
    strategies = find_strategies(model, task, select(model, ["*"]), batch)
    assert strategies.pop("scale") == ":loop"
    assert set(strategies.values()) == {"layer.self_attn"}


def test_factors_are_float32() -> None:
    model, batch = made("mlp")
    task = with_autocast(Classification(), model, CPU, "bfloat16")
    parameters = select(model, ["*"])
    matrices = outer_products(model, parameters)
    blocks: list[AnyBlock] = list(
        make_engine("hooks", model, task, parameters, None, Factoring(matrices)).per_sample(batch).blocks
    )
    factors = [block for block in blocks if isinstance(block, FactorBlock)]
    assert len(factors) == 2
    assert {block.left.dtype for block in factors} | {block.right.dtype for block in factors} == {torch.float32}


def test_vmap_is_refused() -> None:
    model, batch = made("mlp")
    task = with_autocast(Classification(), model, CPU, "bfloat16")
    with pytest.raises(InputError, match=r"gradients\.autocast: found autocast, which vmap"):
        of("vmap", model, task, batch)


def test_null_leaves_the_task_alone() -> None:
    task = Classification()
    assert with_autocast(task, mlp(), CPU, None) is task


def test_a_device_that_cannot_run_the_kernel_is_refused() -> None:
    with pytest.raises(MachineError, match=r"gradients\.autocast: found bfloat16 on meta"):
        with_autocast(Classification(), mlp(), torch.device("meta"), "bfloat16")


def test_a_model_that_autocast_would_leave_as_it_is_is_refused() -> None:
    with pytest.raises(ConfigError, match="without float32 parameters"):
        with_autocast(Classification(), mlp().double(), CPU, "bfloat16")


def test_independence_of_the_batch_is_judged_by_the_narrow_dtype() -> None:
    """Rounding may depend on the batch; a mean over the batch is found out all the same."""
    model, (x, y) = made("mlp")
    task = with_autocast(Classification(), model, CPU, "bfloat16")
    singles = [(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    check_independence(model, task, trial((x, y), singles))

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x - x.mean(0))
            return out

    with pytest.raises(InputError, match="rest of the batch"):
        check_independence(Centred(), task, trial((x, y), singles))


def test_narrow_copies_of_weights_do_not_count_for_every_sample() -> None:
    model, sample = nn.Sequential(nn.Linear(1000, 2000), nn.Linear(2000, 3)), (torch.randn(1, 1000), torch.tensor([1]))
    task = with_autocast(Classification(), model, CPU, "bfloat16")
    assert isinstance(task, Autocast)
    saved = activation_bytes(GradientWork(model, task, sample, select(model, ["*"])))
    assert 2 * (1000 + 2000) <= saved < 20 * (1000 + 2000)
    assert choose_microbatch("hooks", GradientWork(model, task, sample, select(model, ["*"])), 512) == 256

"""A model of which some parameters are bfloat16 and others float32: every engine, every projection, and autocast."""

from __future__ import annotations

import pytest
import torch
from gathering import engine_of, gathered
from torch import Tensor, nn

from trak_cli.gradients.engines.hooks.strategies import outer_products
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.factoring import Factoring
from trak_cli.gradients.options import ENGINES
from trak_cli.gradients.parameters import select
from trak_cli.projection.contract import ProjectionJob
from trak_cli.projection.registry import make_projector
from trak_cli.projection.spec import ProjectionSpec
from trak_cli.tasks import Classification

SPECS = {
    kind: ProjectionSpec(kind, 64, 1, factors=(4, 4) if kind == "factored" else None)
    for kind in ("rademacher", "gaussian", "sjlt", "factored", "none")
}


class Mixed(nn.Module):
    """A bfloat16 body between a float32 embedding and a float32 head, as many checkpoints are."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8)).to(torch.bfloat16)
        self.scale = nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self.embed(tokens).bfloat16()).float().mean(1) * self.scale)
        return out


def case() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return Mixed().eval(), (torch.randint(0, 11, (5, 4)), torch.randint(0, 3, (5,)))


@pytest.mark.parametrize("engine", ["hooks", "vmap"])
def test_gradients_have_the_dtype_of_their_parameter_and_are_those_of_the_loop(engine: str) -> None:
    model, batch = case()
    found, expected = (
        gathered(engine_of(name, model, Classification(), batch).per_sample(batch), model) for name in (engine, "loop")
    )
    scale = max(float(one.abs().max()) for one in expected.values())
    for name, one in expected.items():
        assert found[name].dtype == model.get_parameter(name).dtype
        torch.testing.assert_close(found[name], one, atol=0.02 * scale, rtol=0.02)


@pytest.mark.parametrize("kind", SPECS)
def test_features_of_every_kind_agree_between_engines(kind: str) -> None:
    model, batch = case()
    task, spec, parameters = Classification(), SPECS[kind], select(model, ["*"])
    matrices = outer_products(model, parameters) if kind == "factored" else {}
    sizes = {name: one.numel() for name, one in parameters.items()}
    projector = make_projector(ProjectionJob(spec, "00" * 32, sizes, threads=1, matrices=matrices))
    found = {}
    for engine in ENGINES:
        strategies = find_strategies(model, task, parameters, batch, Factoring(matrices)) if engine == "hooks" else None
        made = make_engine(engine, model, task, parameters, strategies, Factoring(matrices))
        found[engine] = projector.project(made.per_sample(batch).blocks)
        assert found[engine].dtype == torch.float32
    for engine in ("hooks", "vmap"):
        error = (found[engine] - found["loop"]).norm() / found["loop"].norm()
        assert float(error) < 0.01

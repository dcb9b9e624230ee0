"""The choice among the forms of a gradient rule, with a clock that the forms themselves move on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.gradients.gathering import Sum, gathered
from trak_cli.errors import InputError
from trak_cli.gradients.engines.hooks.engine import HooksEngine
from trak_cli.gradients.engines.hooks.strategies import FORM, materialized_parameters
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.factoring import Factoring
from trak_cli.gradients.parameters import select
from trak_cli.gradients.rules import register_gradient_rule
from trak_cli.gradients.tuning.forms import fastest_forms
from trak_cli.types import Block

Form = Callable[[nn.Module, Tensor, Tensor, Mapping[str, str]], Iterator[Block]]


class Machine:
    """A clock, and rules that take as long as the test wants."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def clock(self) -> tuple[float, float]:
        return self.now, self.now

    def form(self, name: str, seconds: float, factor: float = 1.0) -> Form:
        """A form for the weight of y = x · weight that takes ``seconds`` and gives ``factor`` times the gradient."""

        def compute(layer: nn.Module, x: Tensor, g: Tensor, names: Mapping[str, str]) -> Iterator[Block]:
            del layer
            self.now += seconds
            self.calls.append(name)
            yield Block(names["weight"], factor * (g * x).flatten(1, -2).sum(1))

        return compute


def scale(machine: Machine, rule: float, **forms: Any) -> type[nn.Module]:
    """A layer whose rule takes ``rule`` seconds, with these forms: name -> seconds, or (seconds, factor)."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    made = {name: machine.form(name, *(taken if isinstance(taken, tuple) else (taken,))) for name, taken in forms.items()}
    register_gradient_rule(Scale, parameters=("weight",), forms=made)(machine.form("rule", rule))
    return Scale


def chosen(machine: Machine, model: nn.Module) -> dict[str, str]:
    model.eval()
    engine = HooksEngine(model, Sum(), select(model, ["*"]))
    return fastest_forms(engine, torch.rand(5, 4) + 1, machine.clock)


@pytest.mark.parametrize(
    ("forms", "expected"),
    [
        ({"slow": 9.0, "fast": 1.0, "middle": 3.0}, "fast"),
        ({"wrong": (0.1, 1.1), "fast": 1.0}, "fast"),
        ({"similar": 4.6}, None),  # within noise of the rule
        ({}, None),
    ],
)
def test_the_fastest_form_with_the_same_gradients_is_chosen(forms: dict[str, Any], expected: str | None) -> None:
    machine = Machine()
    model = nn.Sequential(scale(machine, 5.0, **forms)())
    assert chosen(machine, model) == ({} if expected is None else {"0.weight": FORM + expected})


def test_layers_of_one_shape_are_measured_once_and_get_the_same_form() -> None:
    machine = Machine()
    kind = scale(machine, 5.0, fast=1.0)
    once = nn.Sequential(kind())
    chosen(machine, once)
    calls = len(machine.calls)
    machine.calls.clear()
    assert chosen(machine, nn.Sequential(kind(), kind(), kind())) == {f"{i}.weight": FORM + "fast" for i in range(3)}
    assert len(machine.calls) == calls


def test_the_engine_uses_the_form_of_its_strategies() -> None:
    machine = Machine()
    model, batch = nn.Sequential(scale(machine, 5.0, fast=1.0)()).eval(), torch.rand(5, 4)
    parameters = select(model, ["*"])
    strategies = {**find_strategies(model, Sum(), parameters, batch), "0.weight": FORM + "fast"}
    machine.calls.clear()
    engine = make_engine("hooks", model, Sum(), parameters, strategies)
    looped = make_engine("loop", model, Sum(), parameters)
    found, expected = (gathered(one.per_sample(batch), model)["0.weight"] for one in (engine, looped))
    torch.testing.assert_close(found, expected)
    assert machine.calls == ["fast"]
    assert materialized_parameters(parameters, strategies) == []


def test_a_form_that_the_rule_does_not_have_is_refused_by_name() -> None:
    model, batch = nn.Sequential(scale(Machine(), 5.0, fast=1.0)()).eval(), torch.rand(5, 4)
    engine = make_engine("hooks", model, Sum(), select(model, ["*"]), {"0.weight": FORM + "gone"})
    with pytest.raises(InputError, match="no form 'gone', which the run plan names; expected one of fast"):
        list(engine.per_sample(batch).blocks)


def ever_faster() -> Callable[[], tuple[float, float]]:
    """A clock by which each form is faster than the previous one."""
    readings = accumulate(1 / (i + 1) for i in range(10**6))
    return lambda: (now := next(readings), now)


def test_every_form_of_a_convolution_passes_the_comparison() -> None:
    """With a clock that stands still nothing is faster, and with one that prefers the last form this one is chosen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 1, stride=2)).eval()
    engine, batch = HooksEngine(model, Sum(), select(model, ["*"])), torch.rand(4, 3, 6, 7)
    assert fastest_forms(engine, batch, lambda: (0.0, 0.0)) == {}
    assert set(fastest_forms(engine, batch, ever_faster()).values()) == {FORM + "library"}


@pytest.mark.parametrize("factoring", [Factoring(("weight",)), Factoring((), 24)])
def test_a_weight_that_is_given_as_factors_needs_no_form(factoring: Factoring) -> None:
    model, batch = nn.Conv2d(3, 5, 3, bias=False).eval(), torch.rand(4, 3, 6, 8)
    parameters = select(model, ["*"])
    assert fastest_forms(HooksEngine(model, Sum(), parameters), batch, ever_faster()) == {"weight": FORM + "library"}
    assert fastest_forms(HooksEngine(model, Sum(), parameters, factoring=factoring), batch, ever_faster()) == {}

"""Registered gradient rules: which layers a rule applies to, and what happens if it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.gradients.gathering import Sum
from trak_cli.errors import InputError
from trak_cli.gradients.checks.agreement import check_agreement
from trak_cli.gradients.engines.hooks.strategy_search import find_strategies
from trak_cli.gradients.engines.registry import make_engine
from trak_cli.gradients.parameters import select
from trak_cli.gradients.rules import register_gradient_rule
from trak_cli.gradients.rules.registry import rule_of
from trak_cli.types import Block


class Scale(nn.Module):
    """y = x · factor; no rule of the package applies to it."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def strategies(layer: nn.Module) -> dict[str, str]:
    """The strategies for a model with this layer, whose gradients are then compared with the loop's."""
    torch.manual_seed(0)
    model, batch = nn.Sequential(nn.Linear(5, 4), layer).eval(), torch.randn(3, 5)
    parameters = select(model, ["*"])
    found = find_strategies(model, Sum(), parameters, batch)
    check_agreement(make_engine("hooks", model, Sum(), parameters, found), model, Sum(), parameters, batch)
    return dict(found)


def right(layer: nn.Module, x: Tensor, g: Tensor, names: Any) -> Iterator[Block]:
    del layer
    yield Block(names["factor"], (g * x).reshape(len(g), -1, g.shape[-1]).sum(1))


def test_a_layer_without_a_rule_takes_vmap_and_one_with_a_rule_does_not() -> None:
    class Ruled(Scale):
        pass

    register_gradient_rule(Ruled, parameters=("factor",))(right)
    assert strategies(Scale()) == {"1.factor": "1"}
    assert strategies(Ruled()) == {}


def test_a_rule_for_the_full_name_of_a_class() -> None:
    class Named(Scale):
        pass

    register_gradient_rule(f"{Named.__module__}.{Named.__name__}", parameters=("factor",))(right)
    assert strategies(Named()) == {}


def test_a_rule_does_not_apply_to_a_subclass_with_another_forward() -> None:
    class Base(Scale):
        pass

    class Same(Base):
        pass

    class Other(Base):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.factor

    register_gradient_rule(Base, parameters=("factor",))(right)
    assert rule_of(Same()) is not None
    assert rule_of(Other()) is None


def test_a_rule_for_other_parameters_leaves_the_rest_to_vmap() -> None:
    class Shifted(Scale):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor + self.shift

    register_gradient_rule(Shifted, parameters=("factor",))(right)
    assert strategies(Shifted()) == {"1.shift": "1"}


def test_the_last_rule_whose_condition_holds_is_used() -> None:
    class Switched(Scale):
        on = True

    register_gradient_rule(Switched, parameters=("factor",))(right)
    register_gradient_rule(Switched, where=lambda layer: not layer.on)(right)
    on, off = Switched(), Switched()
    off.on = False
    assert [rule_of(layer).parameters for layer in (on, off)] == [("factor",), ("weight", "bias")]


def wrong(layer: nn.Module, x: Tensor, g: Tensor, names: Any) -> Iterator[Block]:
    yield from (Block(block.name, 1.01 * block.gradient) for block in right(layer, x, g, names))


def failing(*_: Any) -> Iterator[Block]:
    raise RuntimeError("shapes do not fit")
    yield


@pytest.mark.parametrize("compute", [wrong, failing])
def test_a_wrong_rule_is_replaced_by_vmap(compute: Any) -> None:
    class Wrong(Scale):
        pass

    register_gradient_rule(Wrong, parameters=("factor",))(compute)
    assert strategies(Wrong()) == {"1.factor": "1"}


@pytest.mark.parametrize("change", [{"name": "elsewhere"}, {"offset": 2}, {"gradient": torch.zeros(3)}])
def test_a_block_of_the_wrong_shape_names_the_rule(change: dict[str, Any]) -> None:
    class Broken(Scale):
        pass

    def compute(layer: nn.Module, x: Tensor, g: Tensor, names: Any) -> Iterator[Block]:
        for block in right(layer, x, g, names):
            yield Block(**{"name": block.name, "gradient": block.gradient, "offset": block.offset, **change})

    register_gradient_rule(Broken, parameters=("factor",))(compute)
    with pytest.raises(InputError, match=r"gradient rule .*compute") as raised:
        strategies(Broken())
    assert "1.factor (4 coordinates)" in str(raised.value)


def test_a_registration_needs_layers() -> None:
    with pytest.raises(ValueError, match="layer classes"):
        register_gradient_rule()
    with pytest.raises(ValueError, match="condition"):
        register_gradient_rule(nn.Module)
